//! Puts a report into words, for people: the class and why, what is lost, what follows, most important first.

use ipc::plan::{Change, ChangeClass, ChangeReport, Fate, ItemChange, ItemEdit, Rename, ResetCause};

/// Things named in one sentence; the rest are counted. The report has them all.
const NAMED: usize = 8;

/// The report as sentences, without full stops.
pub fn sentences(report: &ChangeReport) -> Vec<String> {
    if report.class == ChangeClass::T {
        return [Some(headline(report)), starts_afresh(report)].into_iter().flatten().collect();
    }
    let lost = [reset(report), cut_off(report), discarded(report), at_risk(report), rewritten(report), loaded(report)];
    let renames = report.renames.iter().map(|rename| Some(renamed(rename)));
    let rest = [defaults(report), balance(report)];
    std::iter::once(Some(headline(report))).chain(lost).chain(renames).chain(rest).flatten().collect()
}

/// What an edit would cost, before it is done: those of the sentences that name a loss or a risk.
pub fn losses(report: &ChangeReport) -> Vec<String> {
    if report.class == ChangeClass::T {
        return starts_afresh(report).into_iter().collect();
    }
    [reset(report), cut_off(report), discarded(report), at_risk(report), rewritten(report), loaded(report)].into_iter().flatten().collect()
}

fn headline(report: &ChangeReport) -> String {
    let class = report.class;
    let title = match class {
        ChangeClass::None => return "nothing that runs changes".to_owned(),
        ChangeClass::A | ChangeClass::B | ChangeClass::C | ChangeClass::T => format!("class {class} ({})", class.name()),
    };
    // Defaults have a sentence of their own; the layout is only a consequence.
    let causes = report.differences.iter().filter(|difference| !matches!(difference.what, Change::Layout { .. } | Change::Default { .. }));
    let causes: Vec<String> = causes.map(|difference| cause(&difference.what)).collect();
    if causes.is_empty() { title } else { format!("{title}: {}", listed(&causes)) }
}

// ------------------------------------------------------------------------------------------------- what is lost

fn reset(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| match item.fate {
        Fate::Reset(ResetCause::Retyped { from, to } | ResetCause::Reshaped { from, to }) => {
            Some(format!("{} was {from}, is {to}", item.key))
        }
        _ => None,
    });
    (!items.is_empty()).then(|| format!("some state will reinitialise ({}): {}", counted(items.len(), "item", "items"), listed(&items)))
}

fn cut_off(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| match item.fate {
        Fate::Shrunk { from_count, to_count } => Some(format!("{} keeps the first {to_count} of {from_count}", item.key)),
        _ => None,
    });
    (!items.is_empty()).then(|| format!("{} cut off: {}", counted(items.len(), "array is", "arrays are"), listed(&items)))
}

fn discarded(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| (item.fate == Fate::Discarded).then(|| item.key.to_string()));
    let subject = counted(items.len(), "item goes with its state", "items go with their state");
    (!items.is_empty()).then(|| format!("{subject}: {}", listed(&items)))
}

fn at_risk(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| item.may_lose_target.then(|| item.key.to_string()));
    let subject = counted(items.len(), "item goes back to its default if it points", "items go back to their defaults if they point");
    (!items.is_empty()).then(|| format!("{subject} at something that is gone: {}", listed(&items)))
}

fn rewritten(report: &ChangeReport) -> Option<String> {
    if !report.reruns_init_only {
        return None;
    }
    let items = told(report, |item| item.may_be_rewritten.then(|| item.key.to_string()));
    if items.is_empty() {
        return Some("the init-only modules run once".to_owned());
    }
    let subject = counted(items.len(), "item", "items");
    Some(format!("the init-only modules run once and may write {subject} again: {}", listed(&items)))
}

/// Whoever has drawn into a sample hears the file again.
fn loaded(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| item.may_be_loaded.then(|| item.key.to_string()));
    let subject = counted(items.len(), "item gets", "items get");
    (!items.is_empty()).then(|| format!("{subject} the bytes of a file that is another one, or has changed: {}", listed(&items)))
}

/// A new host has nothing of the old one's state.
fn starts_afresh(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| (item.fate != Fate::New && item.fate != Fate::Discarded).then(|| item.key.to_string()));
    let subject = counted(items.len(), "item starts", "items start");
    (!items.is_empty()).then(|| format!("a new host takes over: {subject} from the default: {}", listed(&items)))
}

// -------------------------------------------------------------------------------------------------- what follows

fn renamed(rename: &Rename) -> String {
    let kind = rename.module.as_ref().map_or_else(|| "module".to_owned(), |module| format!("item of `{module}`"));
    format!("{kind} renamed? `{}` → `{}`: state goes by name, so the new one starts afresh", rename.from, rename.to)
}

fn defaults(report: &ChangeReport) -> Option<String> {
    let items = told(report, |item| item.default_changed.then(|| item.key.to_string()));
    let subject = counted(items.len(), "item gets its new default", "items get their new defaults");
    (!items.is_empty()).then(|| format!("{subject}: {}", listed(&items)))
}

fn balance(report: &ChangeReport) -> Option<String> {
    if report.class == ChangeClass::None {
        return None;
    }
    let counts = report.counts();
    let parts = [(counts.kept, "kept"), (counts.moved, "moved"), (counts.grown, "grown"), (counts.new, "new")];
    let parts: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, fate)| format!("{count} {fate}")).collect();
    (!parts.is_empty()).then(|| format!("items: {}", parts.join(", ")))
}

// -------------------------------------------------------------------------------------------------------- causes

/// One difference in words.
pub fn cause(change: &Change) -> String {
    match change {
        Change::RuntimeType { from, to } => format!("runtime type was `{from}`, is `{to}`"),
        Change::SampleRate { from_hz, to_hz } => format!("rate was {from_hz} Hz, is {to_hz} Hz"),
        Change::TimeBase { constant, from, to } => format!("time base: {constant} was {from}, is {to}"),
        Change::LoopCreated { modules } => format!("new feedback loop of {}", quoted(modules)),
        Change::LoopBroken { modules } => format!("feedback loop of {} is broken", quoted(modules)),
        Change::LoopChanged { from, to } => format!("feedback loop of {} is now {}", loops(from), loops(to)),
        Change::ItemInLoop { key, edit } => format!("{key} in a feedback loop {}", edited(edit)),
        Change::ArrayIdentity { key, from, to } => format!("array {key} lost its identity ({from} became {to})"),
        Change::Item { key, edit } => format!("{key} {}", edited(edit)),
        Change::Language { from, to } => format!("language was {from}, is {to}"),
        Change::ModuleAdded { module } => format!("module `{module}` added"),
        Change::ModuleRemoved { module } => format!("module `{module}` removed"),
        Change::ModuleCode { module } => format!("code of `{module}` changed"),
        Change::ModuleRole { module } => format!("`{module}` runs at another time"),
        Change::ModuleOrder => "modules run in another order".to_owned(),
        Change::EntryAdded { entry } => format!("entry `{entry}` added"),
        Change::EntryRemoved { entry } => format!("entry `{entry}` removed"),
        Change::FunctionAdded { export } => format!("exported function `{export}` added"),
        Change::FunctionRemoved { export } => format!("exported function `{export}` removed"),
        Change::FunctionChanged { export } => format!("exported function `{export}` changed"),
        Change::Imports => "imported functions changed".to_owned(),
        Change::Memories => "memories changed".to_owned(),
        Change::Layout { moved } => format!("{} moved", counted(*moved, "item", "items")),
        Change::Setting { path } => format!("setting `{path}` changed"),
        Change::Default { key } => format!("default of {key} changed"),
    }
}

fn edited(edit: &ItemEdit) -> String {
    match edit {
        ItemEdit::Added => "added".to_owned(),
        ItemEdit::Removed => "removed".to_owned(),
        ItemEdit::Retyped { from, to } => format!("was {from}, is {to}"),
        ItemEdit::Resized { from_count, to_count } => format!("had {from_count} elements, has {to_count}"),
    }
}

// ------------------------------------------------------------------------------------------------------- wording

fn told(report: &ChangeReport, tell: impl Fn(&ItemChange) -> Option<String>) -> Vec<String> {
    report.items.iter().filter_map(tell).collect()
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first few, and how many more there are.
fn listed(things: &[String]) -> String {
    let named = things.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match things.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

fn quoted(modules: &[String]) -> String {
    let names: Vec<String> = modules.iter().take(NAMED).map(|module| format!("`{module}`")).collect();
    match modules.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn loops(loops: &[Vec<String>]) -> String {
    if loops.is_empty() { "none".to_owned() } else { loops.iter().map(|modules| quoted(modules)).collect::<Vec<_>>().join(" and of ") }
}
