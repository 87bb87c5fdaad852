//! Puts a report into words, for people: the class and why, what is lost, what follows, most important first.

use ipc::plan::{Change, ChangeClass, ChangeReport, Difference, Fate, ItemChange, ItemEdit, Rename, ResetCause};

/// Things named in one sentence; the rest are counted. The report has them all.
const NAMED: usize = 8;

/// The report as sentences, without full stops.
pub fn sentences(report: &ChangeReport) -> Vec<String> {
    let lost = [reset(report), cut(report), discarded(report), at_risk(report)];
    let rest = [defaults(report), init_only(report), balance(report)];
    let renames = report.renames.iter().map(|rename| Some(renamed(rename)));
    std::iter::once(Some(headline(report))).chain(lost).chain(renames).chain(rest).flatten().collect()
}

fn headline(report: &ChangeReport) -> String {
    let class = report.class;
    let title = match class {
        ChangeClass::None => return "nothing that runs changes".to_owned(),
        ChangeClass::C => format!("class C ({}) waits for an acknowledgement", class.name()),
        _ => format!("class {class} ({})", class.name()),
    };
    // Defaults have a sentence of their own, and the layout is a consequence.
    let is_cause = |difference: &&Difference| !matches!(difference.what, Change::Layout { .. } | Change::Default { .. });
    let causes: Vec<String> = report.differences.iter().filter(is_cause).map(|difference| change(&difference.what)).collect();
    if causes.is_empty() { title } else { format!("{title}: {}", listed(&causes)) }
}

// ------------------------------------------------------------------------------------------------- what is lost

fn reset(report: &ChangeReport) -> Option<String> {
    let reset = told(report, |item| match item.fate {
        Fate::Reset(ResetCause::Retyped { from, to } | ResetCause::Reshaped { from, to }) => Some(format!("{} was {from}, is {to}", item.key)),
        _ => None,
    });
    (!reset.is_empty()).then(|| format!("some state will reinitialise ({}): {}", counted(reset.len(), "item"), listed(&reset)))
}

fn cut(report: &ChangeReport) -> Option<String> {
    let cut = told(report, |item| match item.fate {
        Fate::Shrunk { from_count, to_count } => Some(format!("{} keeps the first {to_count} of {from_count}", item.key)),
        _ => None,
    });
    (!cut.is_empty()).then(|| format!("{} at the end: {}", counted(cut.len(), "array loses its elements|arrays lose their elements"), listed(&cut)))
}

fn discarded(report: &ChangeReport) -> Option<String> {
    let discarded = told(report, |item| (item.fate == Fate::Discarded).then(|| item.key.to_string()));
    (!discarded.is_empty()).then(|| format!("{} gone with its state|gone with their state", counted(discarded.len(), "item")) + &listed(&discarded))
}
