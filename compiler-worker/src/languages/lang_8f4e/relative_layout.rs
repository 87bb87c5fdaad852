//! Layout relative to a previous revision (DESIGN §4): what did not change stays where it was, so that most edits move nothing.
//!
//! A module whose items are the same keeps its place, and so do the places of its items. A module that changed keeps its place
//! if it fits there; it may grow into what is free behind it. Every other module goes to the first gap that is large enough,
//! or to the end. Within a module items lie as LANGUAGE §7 says: alignment counts absolute words, so that it depends on where
//! the module starts. When this would leave too much memory unused, everything goes back to where LANGUAGE §7 puts it.
//!
//! A pure function of both revisions. The previous manifest comes from another process and may be wrong: nothing in it is
//! believed beyond what is checked here.

use std::collections::BTreeMap;

use ipc::manifest::{Manifest, ModuleInfo};
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::layout::{Layout, MAX_WORDS, ModuleLayout, end_address, padding, required_bytes};
use super::manifest::{element_count, element_type};

/// How many times the memory of a fresh layout a relative one may take …
const MAX_GROWTH: u64 = 2;

/// … and how many bytes in addition, so that small programs are not packed after every other edit.
const MAX_GROWTH_BYTES: u64 = 64 << 10;

/// Moves the modules of a fresh layout to where `previous` has them, as far as that is possible.
pub fn apply(layout: &mut Layout<'_, '_>, previous: &Manifest) {
    let starts = starts(layout, previous);
    let placed: Vec<Vec<Place>> = layout.modules.iter().zip(&starts).map(|(module, &start)| places(module, start)).collect();
    let ends = layout.modules.iter().zip(&starts).zip(&placed).map(|((module, &start), places)| (module.memory, end_of(places, start)));
    if !is_compact(layout, ends) {
        return;
    }
    let is_moved = layout.modules.iter().zip(&starts).any(|(module, &start)| start != first_word(module));
    for ((module, start), places) in layout.modules.iter_mut().zip(starts).zip(placed) {
        rewrite(module, start, &places);
    }
    for (index, memory) in layout.memories.iter_mut().enumerate() {
        memory.required_bytes = required_bytes(&layout.modules, index as u32);
    }
    layout.is_relative = is_moved;
}

/// Whether modules that end at these words of their memories leave no more unused than is allowed.
fn is_compact(layout: &Layout<'_, '_>, ends: impl Iterator<Item = (u32, u64)>) -> bool {
    let mut words = vec![0; layout.memories.len()];
    for (memory, end) in ends {
        let highest = &mut words[memory as usize];
        *highest = end.max(*highest);
    }
    let bytes = words.iter().sum::<u64>() * 4;
    let fresh: u64 = layout.memories.iter().map(|memory| memory.required_bytes).sum();
    bytes <= fresh * MAX_GROWTH + MAX_GROWTH_BYTES && bytes <= MAX_WORDS * 4
}

/// Where an item lies: its first word without padding, and its words with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    word: u64,
    words: u64,
}

/// Places of a module's items if it starts at this word.
fn places(module: &ModuleLayout<'_, '_>, start: u64) -> Vec<Place> {
    let (mut fresh, mut cursor) = (first_word(module), start);
    let places = module.slots.iter().map(|slot| {
        let content = u64::from(slot.words) - padding(slot.declared, fresh);
        fresh += u64::from(slot.words);
        let pad = padding(slot.declared, cursor);
        let place = Place { word: cursor + pad, words: pad + content };
        cursor += place.words;
        place
    });
    places.collect()
}

fn end_of(places: &[Place], start: u64) -> u64 {
    start + places.iter().map(|place| place.words).sum::<u64>()
}

fn first_word(module: &ModuleLayout<'_, '_>) -> u64 {
    u64::from(module.byte_address / 4)
}

fn rewrite(module: &mut ModuleLayout<'_, '_>, start: u64, places: &[Place]) {
    module.byte_address = (start * 4) as u32;
    module.words = (end_of(places, start) - start) as u32;
    module.end_byte_address = end_address(module.byte_address, module.words);
    for (slot, place) in module.slots.iter_mut().zip(places) {
        slot.byte_address = (place.word * 4) as u32;
        slot.words = place.words as u32;
        slot.end_byte_address = end_address(slot.byte_address, slot.words);
    }
}

/// First words of all modules.
fn starts(layout: &Layout<'_, '_>, previous: &Manifest) -> Vec<u64> {
    let mut by_id: FxHashMap<&str, &ModuleInfo> = FxHashMap::with_capacity_and_hasher(previous.modules.len(), FxBuildHasher);
    for module in &previous.modules {
        by_id.entry(&module.id).or_insert(module);
    }
    let before = |module: &ModuleLayout<'_, '_>| {
        let before = *by_id.get(module.id)?;
        let name = &previous.memories.get(before.memory as usize)?.name;
        (*name == layout.memories[module.memory as usize].name).then_some(before)
    };
    let mut planner = Planner { taken: vec![Taken::default(); layout.memories.len()], starts: vec![None; layout.modules.len()] };
    // Those who need least come first: who did not change, who fits into its own old place, who grows into a gap behind it.
    planner.keep(layout, |module| before(module).filter(|before| is_unchanged(module, before)));
    planner.keep(layout, |module| before(module).filter(|before| fits(module, before)));
    planner.keep(layout, before);
    planner.fill_gaps(layout)
}

/// Whether the module's items are what they were, and would lie where they lay.
fn is_unchanged(module: &ModuleLayout<'_, '_>, before: &ModuleInfo) -> bool {
    if module.slots.len() != before.items.len() || !before.byte_address.is_multiple_of(4) {
        return false;
    }
    let items = module.slots.iter().zip(&before.items).zip(places(module, u64::from(before.byte_address / 4)));
    let mut same = items.map(|((slot, item), place)| {
        slot.name == item.name
            && slot.declared.is_array == item.is_array
            && element_type(slot.declared) == item.element
            && element_count(slot.count) == item.count
            && (place.word * 4, place.words) == (u64::from(item.byte_address), u64::from(item.words))
    });
    same.all(|is_same| is_same)
}

fn fits(module: &ModuleLayout<'_, '_>, before: &ModuleInfo) -> bool {
    let start = u64::from(before.byte_address / 4);
    end_of(&places(module, start), start) <= start + u64::from(before.words)
}

struct Planner {
    /// By memory.
    taken: Vec<Taken>,
    /// First word of each module that has a place.
    starts: Vec<Option<u64>>,
}

impl Planner {
    /// Leaves modules where they were, in layout order, where `before` says so and nothing else is there yet.
    fn keep<'m>(&mut self, layout: &Layout<'_, '_>, before: impl Fn(&ModuleLayout<'_, '_>) -> Option<&'m ModuleInfo>) {
        for &index in &layout.order {
            let module = &layout.modules[index];
            let Some(before) = before(module).filter(|_| self.starts[index].is_none()) else { continue };
            let start = u64::from(before.byte_address / 4);
            if start > 0 && self.taken[module.memory as usize].take(start, end_of(&places(module, start), start)) {
                self.starts[index] = Some(start);
            }
        }
    }

    /// Gives all others the first place that is large enough, and says where everything is.
    fn fill_gaps(mut self, layout: &Layout<'_, '_>) -> Vec<u64> {
        for &index in &layout.order {
            let module = &layout.modules[index];
            if self.starts[index].is_none() {
                let is_aligned = module.slots.iter().any(|slot| slot.declared.element_bytes() == 8);
                let (words, start) = (u64::from(module.words), first_word(module));
                // With the alignment it would have in a fresh layout, its items lie to each other as they would there.
                let parity = is_aligned.then_some(start % 2);
                self.starts[index] = Some(self.taken[module.memory as usize].take_first(words, parity));
            }
        }
        self.starts.into_iter().zip(&layout.modules).map(|(start, module)| start.unwrap_or(first_word(module))).collect()
    }
}

/// Words of a memory that are in use: starts and ends of stretches that do not touch.
#[derive(Clone, Debug, Default)]
struct Taken {
    stretches: BTreeMap<u64, u64>,
}

impl Taken {
    /// Takes the words from `start` up to `end`, if none of them is taken and the memory can have them.
    fn take(&mut self, start: u64, end: u64) -> bool {
        let before = self.stretches.range(..=start).next_back().map(|(&start, &end)| (start, end));
        let after = self.stretches.range(start + 1..).next().map(|(&start, &end)| (start, end));
        if start == end {
            return end <= MAX_WORDS;
        }
        if end > MAX_WORDS || before.is_some_and(|before| before.1 > start) || after.is_some_and(|after| after.0 < end) {
            return false;
        }
        let (mut from, mut to) = (start, end);
        if let Some(before) = before.filter(|before| before.1 == start) {
            from = before.0;
        }
        if let Some(after) = after.filter(|after| after.0 == end) {
            self.stretches.remove(&after.0);
            to = after.1;
        }
        self.stretches.insert(from, to);
        true
    }

    /// Takes the first free stretch of so many words and says where it starts: at an even or odd word, if that matters. Word 0
    /// is never used: it is the null address (LANGUAGE §7).
    fn take_first(&mut self, words: u64, parity: Option<u64>) -> u64 {
        let aligned = |word: u64| parity.map_or(word, |parity| word + (word + parity) % 2);
        let mut start = aligned(1);
        for (&taken, &end) in &self.stretches {
            if start + words <= taken {
                break;
            }
            start = aligned(end);
        }
        // A program whose memory this exceeds is laid out afresh, so that it does not matter if there is no room.
        self.take(start, start + words);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_taken_once() {
        let mut taken = Taken::default();
        assert!(taken.take(4, 8) && taken.take(12, 16) && taken.take(8, 12));
        assert_eq!(taken.stretches, BTreeMap::from([(4, 16)]));
        for (start, end) in [(4, 5), (3, 5), (15, 17), (1, 20), (6, 7)] {
            assert!(!taken.take(start, end), "{start}..{end}");
        }
        assert!(taken.take(1, 4) && taken.take(16, 17));
        assert_eq!(taken.stretches, BTreeMap::from([(1, 17)]));
        assert!(!taken.take(MAX_WORDS - 1, MAX_WORDS + 1));
    }

    #[test]
    fn the_first_gap_that_is_large_enough_is_filled() {
        let mut taken = Taken::default();
        assert!(taken.take(3, 5) && taken.take(8, 9));
        assert_eq!(taken.take_first(3, None), 5);
        assert_eq!(taken.take_first(2, None), 1);
        assert_eq!(taken.take_first(3, Some(0)), 10);
        assert_eq!(taken.take_first(2, Some(1)), 13);
        assert_eq!(taken.take_first(1, None), 9);
    }
}
