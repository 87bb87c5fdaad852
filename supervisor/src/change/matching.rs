//! Pairs the memory items of two revisions by state key.
//!
//! Keys are (module id, item name). Of several declarations of one name in one module the last is the item (LANGUAGE §6);
//! the earlier ones are paired in their order. Anonymous items are named after their source line, which a comment above
//! them changes, so they are paired in their order as well.

use std::collections::BTreeMap;
use std::ops::Range;

use ipc::manifest::{ElementType, Item, Manifest, ModuleInfo};
use ipc::plan::{Place, Shape, StateKey};

use super::Revision;
use super::defaults::{self, Defaults};

/// How names of anonymous items begin; the rest is a line number (LANGUAGE §6).
const ANONYMOUS: &str = "__anonymous__";

/// One item of one revision, with where it is.
#[derive(Clone, Debug)]
pub struct Slot<'a> {
    pub module: &'a ModuleInfo,
    pub item: &'a Item,
    pub shadowed: Option<u32>,
    /// What it is paired by, within its module.
    pub name: MatchName<'a>,
    /// How many items its revision declares before it.
    pub position: usize,
}

impl Slot<'_> {
    pub fn key(&self) -> StateKey {
        StateKey { module: self.module.id.clone(), item: self.item.name.clone(), shadowed: self.shadowed }
    }

    pub fn place(&self) -> Place {
        Place { memory: self.module.memory, address: self.item.byte_address }
    }

    pub fn shape(&self) -> Shape {
        Shape { element: self.item.element, is_array: self.item.is_array }
    }

    /// Bytes that belong to the item: whole words, since programs may use the rest of an array's last word (LANGUAGE §7), but
    /// not the word that aligns it.
    pub fn bytes(&self) -> u32 {
        let words = u64::from(self.item.words) * 4;
        let bytes = match self.item.element {
            // Their words may include one for alignment before the item.
            ElementType::Float64 => words.min(self.item.element_bytes()),
            _ => words,
        };
        // A manifest whose items reach beyond 4 GiB is wrong; cut off, it stays harmless until the host refuses the plan.
        bytes.min(u64::from(u32::MAX - self.item.byte_address)) as u32
    }
}

/// An item that both revisions have.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    pub old: Slot<'a>,
    pub new: Slot<'a>,
    /// Bytes from its start that keep their state; 0 when it is reset.
    pub common_bytes: u32,
    /// Parts of the common bytes, whole elements, that get a new default instead: ascending, not adjacent.
    pub patched: Vec<Range<u32>>,
}

impl Pair<'_> {
    pub fn is_reset(&self) -> bool {
        self.old.shape() != self.new.shape()
    }

    pub fn is_resized(&self) -> bool {
        !self.is_reset() && self.old.item.count != self.new.item.count
    }

    pub fn is_moved(&self) -> bool {
        self.old.place() != self.new.place()
    }

    /// Whether its kept words hold addresses that have to follow their targets: pointers, and integers whose default is an
    /// address.
    pub fn holds_addresses(&self) -> bool {
        if self.is_reset() {
            return false;
        }
        match self.old.item.element {
            ElementType::Pointer { .. } => true,
            ElementType::Int32 => !self.old.item.is_array && self.old.item.points_at.is_some() && self.new.item.points_at.is_some(),
            _ => false,
        }
    }

    /// Memories its addresses are of, in either revision. Without a default that says otherwise, memory 0 (LANGUAGE §13).
    pub fn pointees(&self) -> (u32, u32) {
        let memory = |slot: &Slot| slot.item.points_at.as_ref().map_or(0, |target| target.memory);
        (memory(&self.old), memory(&self.new))
    }
}

/// The items of two revisions side by side.
#[derive(Debug)]
pub struct Matching<'a> {
    pub old: &'a Manifest,
    pub new: &'a Manifest,
    /// In the order of declaration of the new revision.
    pub pairs: Vec<Pair<'a>>,
    pub added: Vec<Slot<'a>>,
    pub removed: Vec<Slot<'a>>,
}

impl<'a> Matching<'a> {
    pub fn of(old: Revision<'a>, new: Revision<'a>) -> Self {
        let (old_slots, new_slots) = (slots(old.manifest), slots(new.manifest));
        let old_defaults = Defaults::of(old, old_slots.iter().map(|(_, slot)| slot));
        let new_defaults = Defaults::of(new, new_slots.iter().map(|(_, slot)| slot));
        let mut before: BTreeMap<MatchKey<'a>, Slot<'a>> = old_slots.into_iter().collect();
        let mut matching = Self { old: old.manifest, new: new.manifest, pairs: Vec::new(), added: Vec::new(), removed: Vec::new() };
        for (key, slot) in new_slots {
            match before.remove(&key) {
                Some(previous) => matching.pairs.push(pair(previous, slot, &old_defaults, &new_defaults)),
                None => matching.added.push(slot),
            }
        }
        matching.removed = before.into_values().collect();
        matching.removed.sort_by_key(|slot| slot.position);
        matching
    }
}

/// Identity of an item while two revisions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MatchKey<'a> {
    module: &'a str,
    name: MatchName<'a>,
}

/// What an item of a module is paired by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchName<'a> {
    /// The last declaration of a name.
    Last(&'a str),
    /// An earlier one, counted from 0.
    Shadowed(&'a str, u32),
    /// So many anonymous items precede it in its module.
    Anonymous(u32),
}

/// All items of a revision in order of declaration. Of modules with the same id only the first counts.
fn slots(manifest: &Manifest) -> Vec<(MatchKey<'_>, Slot<'_>)> {
    let mut seen = std::collections::BTreeSet::new();
    let modules = manifest.modules.iter().filter(|module| seen.insert(module.id.as_str()));
    let mut slots: Vec<_> = modules.flat_map(module_slots).collect();
    slots.iter_mut().enumerate().for_each(|(position, (_, slot))| slot.position = position);
    slots
}

fn module_slots(module: &ModuleInfo) -> Vec<(MatchKey<'_>, Slot<'_>)> {
    let mut declared: BTreeMap<&str, u32> = BTreeMap::new();
    for item in &module.items {
        *declared.entry(&item.name).or_default() += 1;
    }
    let mut anonymous = 0;
    let mut left = declared.clone();
    let mut slots = Vec::with_capacity(module.items.len());
    for item in &module.items {
        let left = left.entry(&item.name).or_default();
        *left = left.saturating_sub(1);
        let occurrence = declared.get(item.name.as_str()).copied().unwrap_or_default().saturating_sub(*left + 1);
        let shadowed = (*left > 0).then_some(occurrence);
        let name = if item.name.starts_with(ANONYMOUS) {
            anonymous += 1;
            MatchName::Anonymous(anonymous - 1)
        } else {
            shadowed.map_or(MatchName::Last(&item.name), |occurrence| MatchName::Shadowed(&item.name, occurrence))
        };
        slots.push((MatchKey { module: &module.id, name }, Slot { module, item, shadowed, name, position: 0 }));
    }
    slots
}

fn pair<'a>(old: Slot<'a>, new: Slot<'a>, before: &Defaults, after: &Defaults) -> Pair<'a> {
    let mut pair = Pair { common_bytes: 0, patched: Vec::new(), old, new };
    if pair.is_reset() {
        return pair;
    }
    let whole = pair.old.bytes().min(pair.new.bytes());
    pair.common_bytes = if pair.is_resized() {
        let prefix = pair.old.item.element_bytes().min(pair.new.item.element_bytes());
        prefix.min(u64::from(whole)) as u32
    } else {
        whole
    };
    pair.patched = defaults::changed(&pair, before, after);
    pair
}
