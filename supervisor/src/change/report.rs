//! Makes the report of a change: its class, every difference, the fate of every item.

use std::collections::BTreeSet;

use ipc::manifest::ModuleInfo;
use ipc::plan::{ChangeClass, ChangeReport, Fate, ItemChange, Rename, ResetCause, Shape};

use super::Context;
use super::matching::{Matching, Pair, Slot};
use super::{differences, moving};

pub fn make(matching: &Matching, context: &Context) -> ChangeReport {
    let differences = differences::list(matching, context);
    let routes = moving::routes(&moving::targets(matching));
    let rewritten = moving::rewritten(matching);
    let paired = matching.pairs.iter().map(|pair| (pair.new.position, of_pair(pair, &routes, &rewritten)));
    let added = matching.added.iter().map(|slot| (slot.position, of_slot(slot, Fate::New)));
    let mut items: Vec<_> = paired.chain(added).collect();
    items.sort_by_key(|(position, _)| *position);
    let discarded = matching.removed.iter().map(|slot| of_slot(slot, Fate::Discarded));
    ChangeReport {
        class: differences.iter().map(|difference| difference.class).max().unwrap_or(ChangeClass::None),
        differences,
        items: items.into_iter().map(|(_, item)| item).chain(discarded).collect(),
        renames: renames(matching),
        reruns_init_only: moving::reruns_init_only(matching),
    }
}

fn of_pair(pair: &Pair, routes: &moving::Routes, rewritten: &BTreeSet<&str>) -> ItemChange {
    ItemChange {
        key: pair.new.key(),
        fate: fate(pair),
        from: Some(pair.old.place()),
        to: Some(pair.new.place()),
        default_changed: !pair.patched.is_empty(),
        may_lose_target: moving::may_lose_target(pair, routes),
        may_be_rewritten: !pair.is_reset() && rewritten.contains(pair.new.module.id.as_str()),
        may_be_loaded: false, // Files are not in manifests.
        line: pair.new.item.line,
    }
}

fn of_slot(slot: &Slot, fate: Fate) -> ItemChange {
    let place = Some(slot.place());
    let (from, to) = if fate == Fate::New { (None, place) } else { (place, None) };
    ItemChange {
        key: slot.key(),
        fate,
        from,
        to,
        default_changed: false,
        may_lose_target: false,
        may_be_rewritten: false,
        may_be_loaded: false,
        line: slot.item.line,
    }
}

fn fate(pair: &Pair) -> Fate {
    let (from, to) = (pair.old.shape(), pair.new.shape());
    let (from_count, to_count) = (pair.old.item.count, pair.new.item.count);
    if from.element != to.element {
        Fate::Reset(ResetCause::Retyped { from, to })
    } else if from.is_array != to.is_array {
        Fate::Reset(ResetCause::Reshaped { from, to })
    } else if from_count < to_count {
        Fate::Grown { from_count, to_count }
    } else if from_count > to_count {
        Fate::Shrunk { from_count, to_count }
    } else if pair.is_moved() {
        Fate::Moved
    } else {
        Fate::Kept
    }
}

// ----------------------------------------------------------------------------------------------------- renames

/// A module, or an item of a module, that is the only one gone beside the only one new, and looks the same.
fn renames(matching: &Matching) -> Vec<Rename> {
    let (before, after) = (ids(&matching.old.modules), ids(&matching.new.modules));
    let gone: Vec<_> = matching.old.modules.iter().filter(|module| !after.contains(module.id.as_str())).collect();
    let found: Vec<_> = matching.new.modules.iter().filter(|module| !before.contains(module.id.as_str())).collect();
    let mut renames = Vec::new();
    if let ([from], [to]) = (gone.as_slice(), found.as_slice())
        && look_alike(from, to)
    {
        renames.push(Rename { module: None, from: from.id.clone(), to: to.id.clone() });
    }
    renames.extend(item_renames(matching, &before, &after));
    renames
}

fn ids(modules: &[ModuleInfo]) -> BTreeSet<&str> {
    modules.iter().map(|module| module.id.as_str()).collect()
}

/// Modules look alike when they do the same or declare the same.
fn look_alike(one: &ModuleInfo, other: &ModuleInfo) -> bool {
    let declared = |module: &ModuleInfo| -> Vec<(String, Shape, u32)> {
        let of_item =
            |item: &ipc::manifest::Item| (item.name.clone(), Shape { element: item.element, is_array: item.is_array }, item.count);
        module.items.iter().map(of_item).collect()
    };
    one.code_hash == other.code_hash || (!one.items.is_empty() && declared(one) == declared(other))
}

fn item_renames(matching: &Matching, before: &BTreeSet<&str>, after: &BTreeSet<&str>) -> Vec<Rename> {
    let mut gone = matching.removed.iter().filter(|slot| after.contains(slot.module.id.as_str())).peekable();
    let mut found: Vec<&Slot> = matching.added.iter().filter(|slot| before.contains(slot.module.id.as_str())).collect();
    found.sort_by_key(|slot| slot.module.id.as_str());
    let mut renames = Vec::new();
    while let Some(from) = gone.next() {
        let module = from.module.id.as_str();
        let mut is_only = true;
        while gone.next_if(|slot| slot.module.id == module).is_some() {
            is_only = false;
        }
        let start = found.partition_point(|slot| slot.module.id.as_str() < module);
        let end = found.partition_point(|slot| slot.module.id.as_str() <= module);
        if let (true, [to]) = (is_only, &found[start..end])
            && from.shape() == to.shape()
            && from.item.count == to.item.count
        {
            renames.push(Rename { module: Some(module.to_owned()), from: from.item.name.clone(), to: to.item.name.clone() });
        }
    }
    renames
}
