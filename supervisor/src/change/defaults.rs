//! Compares the defaults of two revisions: which elements of an item that both have start from something else.
//!
//! Addresses are compared by what they mean, not by their number: an address changes whenever its target moves, and that is
//! no edit. Only what the images mention is looked at, so that a program cannot make this slow by declaring large arrays.

use std::collections::BTreeMap;
use std::ops::Range;

use ipc::artifact::DefaultBytes;
use ipc::manifest::{ElementType, Manifest, ModuleInfo, PointsAt};
use ipc::plan::Place;

use super::Revision;
use super::matching::{MatchName, Pair, Slot};

/// Initial bytes of all memories of a revision. What it does not mention is zero.
#[derive(Debug)]
pub struct Image<'a> {
    /// Ascending by memory and address.
    parts: Vec<&'a DefaultBytes>,
}

impl<'a> Image<'a> {
    pub fn of(image: &'a [DefaultBytes]) -> Self {
        let mut parts: Vec<_> = image.iter().collect();
        parts.sort_by_key(|part| (part.memory, part.address));
        Self { parts }
    }

    /// The parts that have bytes of `length` bytes from `place` on.
    fn parts_of(&self, place: Place, length: u32) -> impl Iterator<Item = &'a DefaultBytes> {
        let (start, end) = (u64::from(place.address), u64::from(place.address) + u64::from(length));
        let first = self.parts.partition_point(|part| (part.memory, end_of(part)) <= (place.memory, start));
        self.parts[first..].iter().take_while(move |part| part.memory == place.memory && u64::from(part.address) < end).copied()
    }

    /// The bytes that memory holds at first, `length` of them from `place` on.
    pub fn bytes(&self, place: Place, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        let (start, end) = (u64::from(place.address), u64::from(place.address) + u64::from(length));
        for part in self.parts_of(place, length) {
            let part_start = u64::from(part.address);
            let (from, to) = (part_start.max(start), end_of(part).min(end));
            if from < to {
                let source = &part.bytes[(from - part_start) as usize..(to - part_start) as usize];
                bytes[(from - start) as usize..(to - start) as usize].copy_from_slice(source);
            }
        }
        bytes
    }

    /// Where the image mentions any of `length` bytes from `place` on, as ranges from there.
    fn mentioned(&self, place: Place, length: u32) -> impl Iterator<Item = Range<u32>> {
        let (start, end) = (u64::from(place.address), u64::from(place.address) + u64::from(length));
        let inside = move |address: u64| (address.clamp(start, end) - start) as u32;
        self.parts_of(place, length).map(move |part| inside(u64::from(part.address))..inside(end_of(part)))
    }
}

fn end_of(part: &DefaultBytes) -> u64 {
    u64::from(part.address) + part.bytes.len() as u64
}

/// What the items of one revision start from, and what its addresses mean.
#[derive(Debug)]
pub struct Defaults<'a> {
    manifest: &'a Manifest,
    image: Image<'a>,
    modules: BTreeMap<&'a str, &'a ModuleInfo>,
    /// The declarations that names mean.
    named: BTreeMap<(&'a str, &'a str), Slot<'a>>,
    /// All declarations that have bytes, ascending by place.
    placed: Vec<Slot<'a>>,
}

impl<'a> Defaults<'a> {
    pub fn of<'s>(revision: Revision<'a>, slots: impl Iterator<Item = &'s Slot<'a>> + Clone) -> Self
    where
        'a: 's,
    {
        let named = slots.clone().filter(|slot| slot.shadowed.is_none());
        let mut placed: Vec<_> = slots.filter(|slot| slot.bytes() > 0).cloned().collect();
        placed.sort_by_key(Slot::place);
        Self {
            manifest: revision.manifest,
            image: Image::of(revision.image),
            modules: revision.manifest.modules.iter().rev().map(|module| (module.id.as_str(), module)).collect(),
            named: named.map(|slot| ((slot.module.id.as_str(), slot.item.name.as_str()), slot.clone())).collect(),
            placed,
        }
    }

    /// What a default means that says what it names.
    fn meaning_of(&self, target: &'a PointsAt) -> Meaning<'a> {
        let Some(module) = target.module.as_deref().and_then(|id| self.modules.get(id)) else {
            return self.meaning_at(Place { memory: target.memory, address: target.address });
        };
        let named = target.item.as_deref().and_then(|item| self.named.get(&(module.id.as_str(), item)));
        let Some(named) = named else {
            return Meaning::Module { module: &module.id, offset: offset(module.byte_address, target.address) };
        };
        // It may be a shadowed declaration of that name. An address that is outside of all of them is that of the last one:
        // the end of an item that is preceded by a word for alignment lies behind it (LANGUAGE §7).
        let place = Place { memory: target.memory, address: target.address };
        let is_of_name = |slot: &&Slot<'a>| slot.module.id == named.module.id && slot.item.name == named.item.name;
        self.slot_at(place).filter(is_of_name).unwrap_or(named).meaning(target.address)
    }

    /// What a bare address means.
    fn meaning_at(&self, place: Place) -> Meaning<'a> {
        match self.slot_at(place) {
            Some(slot) => slot.meaning(place.address),
            None => Meaning::Nothing {
                memory: self.manifest.memories.get(place.memory as usize).map(|memory| memory.name.as_str()),
                address: place.address,
            },
        }
    }

    fn slot_at(&self, place: Place) -> Option<&Slot<'a>> {
        let after = self.placed.partition_point(|slot| slot.place() <= place);
        let slot = self.placed[..after].last()?;
        let is_inside = slot.place().memory == place.memory && place.address - slot.place().address < slot.bytes();
        is_inside.then_some(slot)
    }
}

/// What an address means, whatever its number.
#[derive(Debug, PartialEq, Eq)]
enum Meaning<'a> {
    /// So many bytes from the start of an item.
    Item { module: &'a str, name: MatchName<'a>, offset: i64 },
    /// So many bytes from the start of a module.
    Module { module: &'a str, offset: i64 },
    /// Nothing that has a name.
    Nothing { memory: Option<&'a str>, address: u32 },
}

impl<'a> Slot<'a> {
    fn meaning(&self, address: u32) -> Meaning<'a> {
        Meaning::Item { module: &self.module.id, name: self.name, offset: offset(self.item.byte_address, address) }
    }
}

fn offset(base: u32, address: u32) -> i64 {
    i64::from(address) - i64::from(base)
}

/// Ranges of bytes from the start of the item, within what both revisions have of it, whose default differs. Whole elements,
/// ascending, not adjacent.
pub fn changed(pair: &Pair, old: &Defaults, new: &Defaults) -> Vec<Range<u32>> {
    let (before, after) = (pair.old.item, pair.new.item);
    if after.is_array {
        return by_element(pair, old, new);
    }
    let is_changed = match (&before.points_at, &after.points_at) {
        (Some(from), Some(to)) => {
            // A default that is an address of a kind that state does not follow (a float, a byte) has to be written anew.
            let is_stale = !pair.holds_addresses() && from.address != to.address;
            is_stale || old.meaning_of(from) != new.meaning_of(to)
        }
        (None, None) => return by_element(pair, old, new),
        (Some(_), None) | (None, Some(_)) => true,
    };
    let element = after.element.bytes();
    if is_changed && element <= pair.common_bytes { std::iter::once(0..element).collect() } else { Vec::new() }
}

fn by_element(pair: &Pair, old: &Defaults, new: &Defaults) -> Vec<Range<u32>> {
    if !pair.is_resized() && pair.old.item.default_fingerprint == pair.new.item.default_fingerprint {
        return Vec::new();
    }
    let mentioned =
        old.image.mentioned(pair.old.place(), pair.common_bytes).chain(new.image.mentioned(pair.new.place(), pair.common_bytes));
    let mut differing = Vec::new();
    for range in whole_elements(mentioned.collect(), pair) {
        compare(pair, range, old, new, &mut differing);
    }
    merge(differing)
}

/// The ranges, widened to whole elements of the item, ascending and apart from each other.
fn whole_elements(ranges: Vec<Range<u32>>, pair: &Pair) -> Vec<Range<u32>> {
    let size = pair.new.item.element.bytes();
    let last = pair.common_bytes - pair.common_bytes % size;
    let widened = ranges.into_iter().map(|range| range.start - range.start % size..range.end.min(last).next_multiple_of(size));
    merge(widened.filter(|range| range.start < range.end).collect())
}

fn merge(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Appends the elements within `range` whose defaults differ.
fn compare(pair: &Pair, range: Range<u32>, old: &Defaults, new: &Defaults, differing: &mut Vec<Range<u32>>) {
    let size = pair.new.item.element.bytes();
    let shifted = |place: Place| Place { address: place.address + range.start, ..place };
    let length = range.end - range.start;
    let before = old.image.bytes(shifted(pair.old.place()), length);
    let after = new.image.bytes(shifted(pair.new.place()), length);
    let starts = range.step_by(size as usize);
    for ((start, from), to) in starts.zip(before.chunks_exact(size as usize)).zip(after.chunks_exact(size as usize)) {
        if !is_same(pair, from, to, old, new) {
            differing.push(start..start + size);
        }
    }
}

fn is_same(pair: &Pair, from: &[u8], to: &[u8], old: &Defaults, new: &Defaults) -> bool {
    match (pair.new.item.element, <[u8; 4]>::try_from(from), <[u8; 4]>::try_from(to)) {
        (ElementType::Pointer { .. }, Ok(from), Ok(to)) => {
            let (from_memory, to_memory) = pair.pointees();
            let from = Place { memory: from_memory, address: u32::from_le_bytes(from) };
            let to = Place { memory: to_memory, address: u32::from_le_bytes(to) };
            old.meaning_at(from) == new.meaning_at(to)
        }
        _ => from == to,
    }
}
