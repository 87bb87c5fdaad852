//! Lists what differs between two revisions, each with the class it has by itself (DESIGN §9's table).

use std::collections::{BTreeMap, BTreeSet};

use ipc::manifest::{ExportInfo, Manifest, ModuleInfo};
use ipc::plan::{Change, ChangeClass, Difference, ItemEdit};

use super::Context;
use super::loops::{self, Loops};
use super::matching::{Matching, Pair, Slot};
use super::settings;

/// Exports that every revision has or that follow from its modules: they are no part of what runs.
const INITIALISERS: [&str; 2] = ["initDefaults", "initOnly"];

/// All differences, the deepest class first.
pub fn list(matching: &Matching, context: &Context) -> Vec<Difference> {
    let (old, new) = (matching.old, matching.new);
    let mut differences = runtime(context);
    let (before, after) = (Loops::of(old), Loops::of(new));
    differences.extend(loops::differences(&before, &after));
    differences.extend(items(matching, &before, &after));
    differences.extend(modules(old, new));
    differences.extend(entries(old, new));
    differences.extend(functions(old, new));
    differences.extend(settings::differences(old, new));
    differences.extend(rest(matching));
    let changes_what_runs = !differences.is_empty();
    let is_same_rate = context.old.sample_rate_hz == context.new.sample_rate_hz;
    if changes_what_runs && is_same_rate {
        differences.extend(settings::time_base(old, new));
    }
    differences.sort_by_key(|difference| std::cmp::Reverse(difference.class));
    differences
}

fn difference(class: ChangeClass, what: Change) -> Difference {
    Difference { class, what }
}

fn runtime(context: &Context) -> Vec<Difference> {
    let (old, new) = (&context.old, &context.new);
    let mut differences = Vec::new();
    if old.runtime_type != new.runtime_type {
        let what = Change::RuntimeType { from: old.runtime_type.to_owned(), to: new.runtime_type.to_owned() };
        differences.push(difference(ChangeClass::T, what));
    }
    if old.sample_rate_hz != new.sample_rate_hz {
        let what = Change::SampleRate { from_hz: old.sample_rate_hz, to_hz: new.sample_rate_hz };
        differences.push(difference(ChangeClass::T, what));
    }
    differences
}

// ------------------------------------------------------------------------------------------------------- items

fn items(matching: &Matching, before: &Loops, after: &Loops) -> Vec<Difference> {
    let mut differences = Vec::new();
    let is_in_loop = |slot: &Slot| before.contains(&slot.module.id) || after.contains(&slot.module.id);
    let mut edited = |slot: &Slot, edit: ItemEdit| differences.push(item_edit(slot, edit, is_in_loop(slot)));
    // Items of modules that are new or gone as a whole are no edits of their own.
    let (old_ids, new_ids) = (ids(matching.old), ids(matching.new));
    matching.added.iter().filter(|slot| old_ids.contains(slot.module.id.as_str())).for_each(|slot| edited(slot, ItemEdit::Added));
    matching.removed.iter().filter(|slot| new_ids.contains(slot.module.id.as_str())).for_each(|slot| edited(slot, ItemEdit::Removed));
    for pair in &matching.pairs {
        if let Some(edit) = declaration_edit(pair) {
            edited(&pair.new, edit);
        }
    }
    differences.extend(matching.pairs.iter().filter_map(lost_identity));
    let defaults = matching.pairs.iter().filter(|pair| !pair.patched.is_empty());
    differences.extend(defaults.map(|pair| difference(ChangeClass::A, Change::Default { key: pair.new.key() })));
    differences
}

fn item_edit(slot: &Slot, edit: ItemEdit, is_in_loop: bool) -> Difference {
    let key = slot.key();
    match is_in_loop {
        true => difference(ChangeClass::C, Change::ItemInLoop { key, edit }),
        false => difference(ChangeClass::B, Change::Item { key, edit }),
    }
}

fn declaration_edit(pair: &Pair) -> Option<ItemEdit> {
    if pair.is_reset() {
        return Some(ItemEdit::Retyped { from: pair.old.shape(), to: pair.new.shape() });
    }
    pair.is_resized().then_some(ItemEdit::Resized { from_count: pair.old.item.count, to_count: pair.new.item.count })
}

/// An array keeps its identity while its elements stay what they are, however many there are.
fn lost_identity(pair: &Pair) -> Option<Difference> {
    let (from, to) = (pair.old.shape(), pair.new.shape());
    let what = Change::ArrayIdentity { key: pair.new.key(), from, to };
    (from.is_array && from != to).then(|| difference(ChangeClass::C, what))
}

// ----------------------------------------------------------------------------------------------------- modules

fn ids(manifest: &Manifest) -> BTreeSet<&str> {
    manifest.modules.iter().map(|module| module.id.as_str()).collect()
}

fn by_id(manifest: &Manifest) -> BTreeMap<&str, &ModuleInfo> {
    manifest.modules.iter().rev().map(|module| (module.id.as_str(), module)).collect()
}

fn modules(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let (before, after) = (by_id(old), by_id(new));
    let mut differences = Vec::new();
    for module in new.modules.iter().map(|module| module.id.as_str()).filter(|id| !before.contains_key(id)) {
        differences.push(difference(ChangeClass::B, Change::ModuleAdded { module: module.to_owned() }));
    }
    for module in old.modules.iter().map(|module| module.id.as_str()).filter(|id| !after.contains_key(id)) {
        differences.push(difference(ChangeClass::B, Change::ModuleRemoved { module: module.to_owned() }));
    }
    for (id, module) in &after {
        let Some(previous) = before.get(id) else { continue };
        if role(previous) != role(module) {
            differences.push(difference(ChangeClass::B, Change::ModuleRole { module: (*id).to_owned() }));
        }
        if previous.code_hash != module.code_hash {
            differences.push(difference(ChangeClass::B, Change::ModuleCode { module: (*id).to_owned() }));
        }
    }
    if is_reordered(old, new) {
        differences.push(difference(ChangeClass::B, Change::ModuleOrder));
    }
    differences
}

/// Whether, when and in which entry a module runs.
fn role(module: &ModuleInfo) -> (&str, bool, bool) {
    (&module.entry, module.skip_execution, module.init_only)
}

/// Whether modules that both have run in another order, in any entry or as init-only modules.
fn is_reordered(old: &Manifest, new: &Manifest) -> bool {
    let (before, after) = (ids(old), ids(new));
    let shared = |id: &&str| before.contains(id) && after.contains(id);
    let is_init_only = |module: &&ModuleInfo| module.init_only;
    let initialising = |manifest| modules_of(manifest).filter(is_init_only).map(|module| module.id.as_str());
    if !initialising(old).filter(shared).eq(initialising(new).filter(shared)) {
        return true;
    }
    let steps = by_entry(old);
    by_entry(new).iter().any(|(entry, ids)| {
        let previous: Vec<&str> = steps.get(entry).map(|steps| steps.iter().copied().filter(shared).collect()).unwrap_or_default();
        let kept = |id: &&&str| previous.contains(id);
        let now: Vec<&str> = ids.iter().filter(kept).copied().collect();
        let both: BTreeSet<&str> = now.iter().copied().collect();
        previous.iter().filter(|id| both.contains(**id)).ne(now.iter())
    })
}

fn modules_of(manifest: &Manifest) -> impl Iterator<Item = &ModuleInfo> {
    manifest.modules.iter()
}

fn by_entry(manifest: &Manifest) -> BTreeMap<&str, Vec<&str>> {
    let id = |index: &u32| manifest.modules.get(*index as usize).map(|module| module.id.as_str());
    manifest.entries.iter().map(|entry| (entry.name.as_str(), entry.steps.iter().filter_map(id).collect())).collect()
}
