//! Reports of changes as the control protocol has them. Pure functions.

use ipc::live::Carried;
use ipc::plan::{Change, ChangeReport as Report, Difference, Fate, ItemChange, ResetCause};

use runtime_host::registry;

use super::runtime::{Classified, Revision};
use crate::control::protocol::{
    Amount, Boundary, CarriedBytes, ChangeClass, ChangeReport, ChangeState, ItemLoss, ItemMove, Progress, Reason, Renamed, RuntimeName,
};

/// Why state does not survive a change of the runtime type.
const NEW_HOST: &str = "a new host starts from the defaults";

/// The report of a classified edit.
pub fn report(runtime: &RuntimeName, what: &Classified, state: ChangeState) -> ChangeReport {
    let none = Report {
        class: ipc::plan::ChangeClass::None,
        differences: Vec::new(),
        items: Vec::new(),
        renames: Vec::new(),
        reruns_init_only: false,
    };
    let found = what.report.as_ref().unwrap_or(&none);
    let class = what.class();
    let old = what.base.as_deref();
    let new = Some(&*what.revision);
    let is_new_host = class == ChangeClass::T;
    let moved = found.items.iter().filter(|_| !is_new_host).filter_map(|item| moved(item, new, old)).collect();
    let kept = if is_new_host { Amount::default() } else { kept(found, new) };
    let losses = found.items.iter().filter_map(|item| loss(item, is_new_host).map(|why| (item, why)));
    let reset = losses.map(|(item, why)| ItemLoss { item: item.key.to_string(), bytes: bytes(item, new), why }).collect();
    let gone = found.items.iter().filter(|item| item.fate == Fate::Discarded);
    let discarded =
        gone.map(|item| ItemLoss { item: item.key.to_string(), bytes: bytes(item, old), why: "it is no longer declared".to_owned() });
    let at_risk = found.items.iter().filter(|item| (item.may_lose_target || item.may_be_rewritten || item.may_be_loaded) && !is_new_host);
    ChangeReport {
        change: what.edit.change,
        runtime: runtime.clone(),
        revision: what.revision.hash().into(),
        base: what.base.as_ref().map(|base| base.hash().into()),
        class,
        state,
        reasons: silence(what).map(silenced).into_iter().chain(found.differences.iter().map(reason)).collect(),
        kept,
        moved,
        reset,
        discarded: discarded.collect(),
        at_risk: at_risk.map(|item| item.key.to_string()).collect(),
        added: found.items.iter().filter(|item| item.fate == Fate::New).map(|item| item.key.to_string()).collect(),
        reruns_init_only: found.reruns_init_only,
        renames: found.renames.iter().map(renamed).collect(),
        boundaries: boundaries(what),
        boundary: what.edit.wishes.boundary,
        runtime_type: what.revision.plan.runtime_type.clone(),
        fallback_from: what.revision.plan.fallback_from.clone(),
        refused: None,
        timings: Some(what.edit.timings),
    }
}

/// Marks the kept items that the host writes a file over: those whose file, or whose part of it, is not the one that was
/// loaded into them before.
pub fn mark_loaded(report: &mut Report, old: &Revision, new: &Revision) {
    if report.class == ipc::plan::ChangeClass::None {
        return; // No host is told of it.
    }
    for item in &mut report.items {
        let is_kept = matches!(item.fate, Fate::Kept | Fate::Moved | Fate::Grown { .. } | Fate::Shrunk { .. });
        let Some(wanted) = new.plan.assets.iter().find(|wanted| is_kept && item.to == Some(wanted.place)) else { continue };
        let before = old.plan.assets.iter().find(|before| item.from == Some(before.place));
        item.may_be_loaded = before.is_none_or(|before| {
            (&before.path, before.stamp, before.offset, before.bytes) != (&wanted.path, wanted.stamp, wanted.offset, wanted.bytes)
        });
    }
}

/// What to say where an edit leaves nothing to call of a program that runs, as half a file does. Such an edit asks first.
pub fn silence(what: &Classified) -> Option<String> {
    let called = |revision: &Revision| {
        let export = registry::find(&revision.plan.runtime_type)?.tick_export;
        Some((export, revision.plan.content.manifest.has_export(export)))
    };
    let (Some((_, true)), (export, false)) = (called(what.base.as_deref()?), called(&what.revision)?) else { return None };
    Some(format!("the runtime falls silent: the program has no `{export}` any more, so there is nothing to call"))
}

fn silenced(text: String) -> Reason {
    Reason { rule: "falls_silent".to_owned(), text, concerns: Vec::new() }
}

/// What a commit reports: the same as the report before it, which addresses lost their target, and what the host counted
/// while it carried the state over.
pub fn committed(what: &Classified, tick: u64, commit_ns: Option<u64>, carried: Option<&Carried>, by_recovery: bool) -> Progress {
    let Ok(name) = RuntimeName::new(what.edit.text.name.clone()) else { return Progress::Cancelled {} };
    let report = report(&name, what, ChangeState::Committed);
    let lost = carried.map(|carried| carried.lost.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or_default();
    let mut reset: Vec<String> = report.reset.into_iter().map(|loss| loss.item).collect();
    reset.extend(lost.into_iter().filter(|item| !reset.contains(item)).collect::<Vec<_>>());
    Progress::Committed {
        tick,
        copied: report.kept,
        remapped: Amount { items: report.moved.len() as u64, bytes: report.moved.iter().map(|item| item.bytes).sum() },
        reset,
        discarded: report.discarded.into_iter().map(|loss| loss.item).collect(),
        carried: carried.filter(|_| !by_recovery).map(carried_bytes),
        commit_us: commit_ns.filter(|_| !by_recovery).map(|ns| ns / 1_000),
        by_recovery,
    }
}

fn carried_bytes(carried: &Carried) -> CarriedBytes {
    CarriedBytes { kept: carried.kept_bytes, moved: carried.moved_bytes, patched: carried.patched_bytes }
}

/// Everything that does not survive, to tell whether one report names more than another.
pub fn losses(report: &ChangeReport) -> Vec<String> {
    report.reset.iter().chain(&report.discarded).map(|loss| loss.item.clone()).collect()
}

fn renamed(rename: &ipc::plan::Rename) -> Renamed {
    Renamed { module: rename.module.clone(), from: rename.from.clone(), to: rename.to.clone() }
}

fn boundaries(what: &Classified) -> Vec<Boundary> {
    // The pulse is an item of the program that runs.
    let pulse = what.base.as_ref().is_some_and(|base| base.plan.pulse.is_some());
    match what.class() {
        ChangeClass::Load | ChangeClass::T => vec![Boundary::Frame],
        ChangeClass::None | ChangeClass::A | ChangeClass::B | ChangeClass::C => {
            [Some(Boundary::Frame), pulse.then_some(Boundary::Pulse), Some(Boundary::Freeze)].into_iter().flatten().collect()
        }
    }
}

/// Bytes of an item in a revision.
fn bytes(change: &ItemChange, revision: Option<&Revision>) -> u64 {
    let item = revision.and_then(|revision| revision.plan.content.manifest.item(&change.key.module, &change.key.item));
    item.map_or(0, |(_, item)| item.element_bytes())
}

fn kept(report: &Report, new: Option<&Revision>) -> Amount {
    let kept = report.items.iter().filter(|item| item.fate == Fate::Kept);
    kept.fold(Amount::default(), |sum, item| Amount { items: sum.items + 1, bytes: sum.bytes + bytes(item, new) })
}

fn moved(change: &ItemChange, new: Option<&Revision>, old: Option<&Revision>) -> Option<ItemMove> {
    let carried = match change.fate {
        Fate::Moved => bytes(change, new),
        Fate::Grown { .. } => bytes(change, old),
        Fate::Shrunk { .. } => bytes(change, new),
        Fate::Kept | Fate::Reset(_) | Fate::New | Fate::Discarded => return None,
    };
    let address = |place: Option<ipc::plan::Place>| place.map_or(0, |place| u64::from(place.address));
    Some(ItemMove { item: change.key.to_string(), from_address: address(change.from), to_address: address(change.to), bytes: carried })
}

/// Why an item does not keep (all of) its state; `None` where it does.
fn loss(change: &ItemChange, is_new_host: bool) -> Option<String> {
    match change.fate {
        Fate::Reset(ResetCause::Retyped { from, to } | ResetCause::Reshaped { from, to }) => Some(format!("was {from}, is {to}")),
        Fate::New | Fate::Discarded => None,
        _ if is_new_host => Some(NEW_HOST.to_owned()),
        Fate::Shrunk { from_count, to_count } => Some(format!("keeps the first {to_count} of {from_count} elements")),
        Fate::Kept | Fate::Moved | Fate::Grown { .. } => None,
    }
}

/// A difference as a reason: the rule's name for scripts, the sentence for people.
fn reason(difference: &Difference) -> Reason {
    let (rule, concerns) = rule(&difference.what);
    Reason { rule: rule.to_owned(), text: crate::change::sentences::cause(&difference.what), concerns }
}

fn rule(change: &Change) -> (&'static str, Vec<String>) {
    let module = |module: &String| vec![module.clone()];
    match change {
        Change::RuntimeType { .. } => ("runtime_type_changed", Vec::new()),
        Change::SampleRate { .. } => ("sample_rate_changed", Vec::new()),
        Change::TimeBase { constant, .. } => ("time_base_changed", module(constant)),
        Change::LoopCreated { modules } => ("feedback_created", modules.clone()),
        Change::LoopBroken { modules } => ("feedback_broken", modules.clone()),
        Change::LoopChanged { from, to } => ("feedback_changed", from.iter().chain(to).flatten().cloned().collect()),
        Change::ItemInLoop { key, edit } => (in_loop(edit), vec![key.to_string()]),
        Change::ArrayIdentity { key, .. } => ("array_identity_lost", vec![key.to_string()]),
        Change::Item { key, edit } => (item(edit), vec![key.to_string()]),
        Change::Language { .. } => ("language_changed", Vec::new()),
        Change::ModuleAdded { module: name } => ("module_added", module(name)),
        Change::ModuleRemoved { module: name } => ("module_removed", module(name)),
        Change::ModuleCode { module: name } => ("code_changed", module(name)),
        Change::ModuleRole { module: name } => ("module_role_changed", module(name)),
        Change::ModuleOrder => ("order_changed", Vec::new()),
        Change::EntryAdded { entry } => ("entry_added", module(entry)),
        Change::EntryRemoved { entry } => ("entry_removed", module(entry)),
        Change::FunctionAdded { export } => ("function_added", module(export)),
        Change::FunctionRemoved { export } => ("function_removed", module(export)),
        Change::FunctionChanged { export } => ("function_changed", module(export)),
        Change::Imports => ("imports_changed", Vec::new()),
        Change::Memories => ("memories_changed", Vec::new()),
        Change::Layout { .. } => ("layout_changed", Vec::new()),
        Change::Setting { path } => ("setting_changed", module(path)),
        Change::Default { key } => ("default_changed", vec![key.to_string()]),
    }
}

fn in_loop(edit: &ipc::plan::ItemEdit) -> &'static str {
    match edit {
        ipc::plan::ItemEdit::Added => "feedback_item_added",
        ipc::plan::ItemEdit::Removed => "feedback_item_removed",
        ipc::plan::ItemEdit::Retyped { .. } => "feedback_item_retyped",
        ipc::plan::ItemEdit::Resized { .. } => "feedback_item_resized",
    }
}

fn item(edit: &ipc::plan::ItemEdit) -> &'static str {
    match edit {
        ipc::plan::ItemEdit::Added => "item_added",
        ipc::plan::ItemEdit::Removed => "item_removed",
        ipc::plan::ItemEdit::Retyped { .. } => "item_retyped",
        ipc::plan::ItemEdit::Resized { .. } => "item_resized",
    }
}
