//! Lists what differs between two revisions, each with the class it has by itself (DESIGN §9's table).

use std::collections::{BTreeMap, BTreeSet};

use ipc::manifest::{ExportInfo, Manifest, ModuleInfo, ValueType};
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
    differences.extend(defaults.map(|pair| difference(default_class(pair), Change::Default { key: pair.new.key() })));
    differences
}

/// Code reads a pointer's target from the memory that the pointer's default is of (LANGUAGE §13), so a default of another
/// memory is more than a value.
fn default_class(pair: &Pair) -> ChangeClass {
    let (from, to) = pair.pointees();
    if from == to { ChangeClass::A } else { ChangeClass::B }
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

/// Whether modules that both revisions have run in another order, in any entry or as init-only modules.
fn is_reordered(old: &Manifest, new: &Manifest) -> bool {
    let steps = by_entry(old);
    let is_other_order = |entry: (&str, Vec<&str>)| steps.get(entry.0).is_some_and(|previous| !is_same_order(previous, &entry.1));
    !is_same_order(&init_only(old), &init_only(new)) || by_entry(new).into_iter().any(is_other_order)
}

fn is_same_order(before: &[&str], after: &[&str]) -> bool {
    let (is_before, is_after): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    before.iter().filter(|id| is_after.contains(id)).eq(after.iter().filter(|id| is_before.contains(id)))
}

fn init_only(manifest: &Manifest) -> Vec<&str> {
    manifest.modules.iter().filter(|module| module.init_only).map(|module| module.id.as_str()).collect()
}

fn by_entry(manifest: &Manifest) -> BTreeMap<&str, Vec<&str>> {
    let id = |index: &u32| manifest.modules.get(*index as usize).map(|module| module.id.as_str());
    manifest.entries.iter().map(|entry| (entry.name.as_str(), entry.steps.iter().filter_map(id).collect())).collect()
}

// ------------------------------------------------------------------------------------------- entries and the rest

fn entries(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let (before, after) = (by_entry(old), by_entry(new));
    let added = after.keys().filter(|entry| !before.contains_key(*entry)).map(|entry| Change::EntryAdded { entry: (*entry).to_owned() });
    let removed =
        before.keys().filter(|entry| !after.contains_key(*entry)).map(|entry| Change::EntryRemoved { entry: (*entry).to_owned() });
    added.chain(removed).map(|what| difference(ChangeClass::B, what)).collect()
}

/// Exported functions. Entries are compared by their steps instead.
fn functions(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let (before, after) = (functions_of(old), functions_of(new));
    let added =
        after.keys().filter(|export| !before.contains_key(*export)).map(|export| Change::FunctionAdded { export: (*export).to_owned() });
    let removed =
        before.keys().filter(|export| !after.contains_key(*export)).map(|export| Change::FunctionRemoved { export: (*export).to_owned() });
    let changed = after.iter().filter(|(export, now)| before.get(*export).is_some_and(|previous| previous != *now));
    let changed = changed.map(|(export, _)| Change::FunctionChanged { export: (*export).to_owned() });
    added.chain(removed).chain(changed).map(|what| difference(ChangeClass::B, what)).collect()
}

fn functions_of(manifest: &Manifest) -> BTreeMap<&str, &ExportInfo> {
    let entries: BTreeSet<&str> = manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
    let is_function = |export: &&ExportInfo| !entries.contains(export.name.as_str()) && !INITIALISERS.contains(&export.name.as_str());
    manifest.exports.iter().filter(is_function).map(|export| (export.name.as_str(), export)).collect()
}

fn rest(matching: &Matching) -> Vec<Difference> {
    let (old, new) = (matching.old, matching.new);
    let mut differences = Vec::new();
    if old.language != new.language {
        let what = Change::Language { from: old.language.clone(), to: new.language.clone() };
        differences.push(difference(ChangeClass::B, what));
    }
    if !imports(old).eq(imports(new)) {
        differences.push(difference(ChangeClass::B, Change::Imports));
    }
    if !memories(old).eq(memories(new)) {
        differences.push(difference(ChangeClass::B, Change::Memories));
    }
    let moved = matching.pairs.iter().filter(|pair| pair.is_moved()).count();
    if moved > 0 {
        differences.push(difference(ChangeClass::B, Change::Layout { moved }));
    }
    differences
}

/// Imports without the lines that declare them.
fn imports(manifest: &Manifest) -> impl Iterator<Item = (&str, &str, &[ValueType], &[ValueType])> {
    manifest.imports.iter().map(|import| (import.module.as_str(), import.field.as_str(), &import.params[..], &import.results[..]))
}

fn memories(manifest: &Manifest) -> impl Iterator<Item = (&str, u64)> {
    manifest.memories.iter().map(|memory| (memory.name.as_str(), memory.pages))
}
