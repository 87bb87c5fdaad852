//! What an edit from one patchwork to another must do, by DESIGN §9 and nothing else: its class, what it must name as lost.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, Kind, Module, Program};

/// What an edit must do.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// As the protocol writes it: `none`, `A`, `B` or `C`.
    pub class: &'static str,
    /// Items that do not keep all of their state, as `MODULE:ITEM`.
    pub reset: BTreeSet<String>,
    /// Items that are no longer declared.
    pub discarded: BTreeSet<String>,
    /// Items that keep their state and take their new default.
    pub patched: BTreeSet<String>,
    /// Whether the init-only modules run.
    pub reruns_boot: bool,
}

type Items = BTreeMap<(String, String), Item>;

/// What the edit must do.
pub fn between(old: &Program, new: &Program) -> Expected {
    let (before, after) = (items(old), items(new));
    let name = |(module, item): &(String, String)| format!("{module}:{item}");
    let pairs = || after.iter().filter_map(|(key, to)| before.get(key).map(|from| (key, from, to)));
    let is_lossy = |from: &Item, to: &Item| !from.shape.is_same_element(to.shape) || from.shape.words() > to.shape.words();
    let reset = pairs().filter(|(_, from, to)| is_lossy(from, to)).map(|(key, ..)| name(key)).collect();
    let is_patched = |from: &Item, to: &Item| from.shape.is_same_element(to.shape) && from.default != to.default;
    let patched: BTreeSet<String> = pairs().filter(|(_, from, to)| is_patched(from, to)).map(|(key, ..)| name(key)).collect();
    let discarded = before.keys().filter(|key| !after.contains_key(*key)).map(name).collect();
    let reruns_boot = !patched.is_empty();
    Expected { class: class(old, new, &before, &after, &patched), reset, discarded, patched, reruns_boot }
}

fn items(program: &Program) -> Items {
    let of_module = |module: &Module| {
        let id = module.id.clone();
        module.items().into_iter().map(move |item| ((id.clone(), item.name.clone()), item))
    };
    program.modules.iter().flat_map(of_module).collect()
}

fn class(old: &Program, new: &Program, before: &Items, after: &Items, patched: &BTreeSet<String>) -> &'static str {
    if old.loops() != new.loops() || changes_loop_item(old, new, before, after) || loses_array(before, after) {
        "C"
    } else if changes_structure(old, new) {
        "B"
    } else if !patched.is_empty() {
        "A"
    } else {
        "none"
    }
}

/// Whether an item of a module within a feedback loop was added, removed, retyped or resized.
fn changes_loop_item(old: &Program, new: &Program, before: &Items, after: &Items) -> bool {
    let loops = [old.loops(), new.loops()];
    let is_in_loop = |id: &str| loops.iter().flatten().any(|members| members.contains(id));
    let is_in_both = |id: &str| old.module(id).is_some() && new.module(id).is_some();
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differs = |key: &&(String, String)| before.get(*key).map(|item| item.shape) != after.get(*key).map(|item| item.shape);
    keys.into_iter().filter(|(id, _)| is_in_loop(id) && is_in_both(id)).any(|key| differs(&key))
}

fn loses_array(before: &Items, after: &Items) -> bool {
    let is_lost =
        |(key, from): (_, &Item)| from.shape.is_array() && after.get(key).is_some_and(|to: &Item| !from.shape.is_same_element(to.shape));
    before.iter().any(is_lost)
}

/// Whether anything but defaults differs.
fn changes_structure(old: &Program, new: &Program) -> bool {
    // Where an init-only module stands among the others is all the same: it does not run with them.
    let runs = |module: &&Module| !matches!(module.kind, Kind::Boot { .. });
    let ids = |program: &Program| program.modules.iter().filter(runs).map(|module| module.id.clone()).collect::<Vec<_>>();
    let is_edited = |module: &Module| old.module(&module.id).is_some_and(|previous| code(previous) != code(module));
    let shapes = |program: &Program| items(program).into_iter().map(|(key, item)| (key, item.shape)).collect::<Vec<_>>();
    ids(old) != ids(new) || new.modules.iter().any(is_edited) || shapes(old) != shapes(new)
}

/// A module without its defaults.
fn code(module: &Module) -> Kind {
    let mut kind = module.kind.clone();
    let nowhere = String::new;
    match &mut kind {
        Kind::Oscillator { step, level, .. } => (*step, *level) = (0.0, 0.0),
        Kind::Counter { level, .. } => *level = 0.0,
        Kind::Delay { input, gain, .. } => (*input, *gain) = (nowhere(), 0.0),
        Kind::Tape { input, .. } => *input = nowhere(),
        Kind::Echo { other, drive, keep } => (*other, *drive, *keep) = (nowhere(), nowhere(), 0.0),
        Kind::Boot { base } => *base = 0,
        Kind::Bomb { fuse, .. } => *fuse = 0,
        Kind::Clip { .. } | Kind::Mix => {}
    }
    kind
}
