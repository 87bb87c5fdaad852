//! The default diff: initial bytes of the items that both revisions have and that start from something else now (DESIGN §4).
//!
//! What the previous revision started from is known by its manifest alone, so that a worker that was restarted gives the same
//! answer. Addresses are compared by what they name: moving a target is no edit. Pure computation; its size is bounded by what
//! the two texts initialise, not by what they declare.

use ipc::artifact::DefaultBytes;
use ipc::manifest::{Item, Manifest, ModuleInfo, PointsAt};
use rustc_hash::FxHashMap;

/// How names of anonymous items begin; the rest is a line number (LANGUAGE §6), which says nothing about identity.
const ANONYMOUS: &str = "__anonymous__";

/// What an item is recognised by within its module: its name and how many declarations of that name follow. Anonymous items
/// are recognised by their order.
type Key<'a> = (&'a str, usize);

/// Compares `manifest`, whose memories start with `image`, to the manifest of the revision before it. Ascending by place.
pub fn between(previous: &Manifest, manifest: &Manifest, image: &[DefaultBytes]) -> Vec<DefaultBytes> {
    let (before, after) = (Names::of(previous), Names::of(manifest));
    let mut sorted: Vec<&DefaultBytes> = image.iter().collect();
    sorted.sort_by_key(|part| (part.memory, part.address));
    let mut diff = Vec::new();
    for module in &manifest.modules {
        let Some(old_module) = before.modules.get(module.id.as_str()) else { continue };
        let old_items: FxHashMap<Key<'_>, &Item> = keyed(old_module).collect();
        for (key, item) in keyed(module) {
            let Some(old) = old_items.get(&key).filter(|old| is_of_same_shape(old, item)) else { continue };
            if is_changed(old, &before, item, &after) {
                diff.push(initial(&sorted, module.memory, item.byte_address, affected_bytes(old, item)));
            }
        }
    }
    diff.sort_by_key(|part| (part.memory, part.address));
    diff
}

fn keyed(module: &ModuleInfo) -> impl Iterator<Item = (Key<'_>, &Item)> {
    let mut later: FxHashMap<&str, usize> = FxHashMap::default();
    module.items.iter().rev().map(move |item| {
        let name = if item.name.starts_with(ANONYMOUS) { ANONYMOUS } else { item.name.as_str() };
        let count = later.entry(name).or_default();
        *count += 1;
        ((name, *count), item)
    })
}

fn is_of_same_shape(old: &Item, new: &Item) -> bool {
    (old.element, old.is_array, old.count) == (new.element, new.is_array, new.count)
}

fn is_changed(old: &Item, before: &Names<'_>, new: &Item, after: &Names<'_>) -> bool {
    match (&old.points_at, &new.points_at) {
        (Some(from), Some(to)) => before.meaning(from) != after.meaning(to),
        (None, None) => old.default_fingerprint != new.default_fingerprint,
        (Some(_), None) | (None, Some(_)) => true,
    }
}

/// Bytes in which the two may differ, whole elements. The previous manifest may be wrong, so that the new one is the limit.
fn affected_bytes(old: &Item, new: &Item) -> u32 {
    let bytes = u64::from(old.initial_bytes.max(new.initial_bytes)).next_multiple_of(u64::from(new.element.bytes()));
    bytes.min(new.element_bytes()) as u32
}

/// Modules and items of a manifest by name.
struct Names<'a> {
    modules: FxHashMap<&'a str, &'a ModuleInfo>,
}

impl<'a> Names<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        Self { modules: manifest.modules.iter().rev().map(|module| (module.id.as_str(), module)).collect() }
    }

    /// What an address names, and its distance from there.
    fn meaning(&self, target: &'a PointsAt) -> (Option<&'a str>, Option<&'a str>, i64) {
        let module = target.module.as_deref().and_then(|id| self.modules.get(id));
        let item = module.and_then(|module| module.items.iter().rev().find(|item| Some(&item.name) == target.item.as_ref()));
        let start = item.map(|item| item.byte_address).or(module.map(|module| module.byte_address)).unwrap_or(0);
        (target.module.as_deref(), target.item.as_deref(), i64::from(target.address) - i64::from(start))
    }
}

/// What memory holds at first in a stretch.
fn initial(image: &[&DefaultBytes], memory: u32, address: u32, length: u32) -> DefaultBytes {
    let (start, end) = (u64::from(address), u64::from(address) + u64::from(length));
    let end_of = |part: &DefaultBytes| u64::from(part.address) + part.bytes.len() as u64;
    let mut bytes = vec![0; length as usize];
    let first = image.partition_point(|part| (part.memory, end_of(part)) <= (memory, start));
    for part in image[first..].iter().take_while(|part| part.memory == memory && u64::from(part.address) < end) {
        let (from, to, base) = (start.max(u64::from(part.address)), end.min(end_of(part)), u64::from(part.address));
        bytes[(from - start) as usize..(to - start) as usize].copy_from_slice(&part.bytes[(from - base) as usize..(to - base) as usize]);
    }
    DefaultBytes { memory, address, bytes }
}
