//! Fingerprints of defaults: whether an item starts from something else than in another revision (DESIGN §9).
//!
//! Numbers count as the bytes that memory holds, the addresses in an array of pointers as what they point at: an address changes
//! whenever its target moves, and that is no edit. Pure computation.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::LazyLock;

use ipc::hash::ContentHash;

use super::layout::anonymous_name;
use super::program::{Item, Module, Program};

/// What the items of a program start from.
pub struct Fingerprints<'a> {
    program: &'a Program,
    /// Items of memory 0 by address, with the modules they are in. Only arrays of pointers ask for it.
    placed: OnceCell<Vec<(&'a Module, usize)>>,
}

impl<'a> Fingerprints<'a> {
    pub fn new(program: &'a Program) -> Self {
        Self { program, placed: OnceCell::new() }
    }

    /// The initial bytes of a stretch of memory, zeros at its end left out.
    pub fn initial(&self, memory: u32, start: u32, bytes: u64) -> Cow<'a, [u8]> {
        let data = &self.program.data;
        let (start, end) = (u64::from(start), u64::from(start) + bytes);
        let mut initial: Cow<'a, [u8]> = Cow::default();
        let first = data.partition_point(|data| (data.memory, u64::from(data.address) + data.bytes.len() as u64) <= (memory, start));
        for data in &data[first..] {
            let address = u64::from(data.address);
            if data.memory != memory || address >= end {
                break;
            }
            let skipped = start.saturating_sub(address).min(data.bytes.len() as u64);
            let kept = (end - address).min(data.bytes.len() as u64);
            let (before, here) = ((address + skipped - start) as usize, &data.bytes[skipped as usize..kept as usize]);
            if before == 0 && initial.is_empty() {
                // Most items have their bytes in one piece.
                initial = Cow::Borrowed(here);
            } else {
                let initial = initial.to_mut();
                initial.resize(before, 0);
                initial.extend(here);
            }
        }
        let length = initial.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        match initial {
            Cow::Borrowed(whole) => Cow::Borrowed(&whole[..length]),
            Cow::Owned(mut whole) => {
                whole.truncate(length);
                Cow::Owned(whole)
            }
        }
    }

    /// Fingerprint of initial bytes that are addresses, in memory 0: so far only scalars know of another (LANGUAGE §13).
    pub fn of_addresses(&self, initial: &[u8]) -> u64 {
        let mut meaning = Vec::with_capacity(initial.len() * 4);
        for word in initial.chunks(4) {
            let address = word.iter().rev().fold(0, |address, &byte| address << 8 | u32::from(byte));
            match self.item_at(address) {
                Some((module, index)) => name(&mut meaning, module, index, address),
                None => meaning.extend(address.to_le_bytes()),
            }
        }
        of_bytes(&meaning)
    }

    /// The item that has this byte, as its module and its index there.
    fn item_at(&self, address: u32) -> Option<(&'a Module, usize)> {
        let placed = self.placed.get_or_init(|| placed(self.program));
        let after = placed.partition_point(|(module, index)| module.items[*index].byte_address <= address);
        let (module, index) = placed[..after].last()?;
        let item = &module.items[*index];
        (f64::from(address - item.byte_address) < bytes(item)).then_some((*module, *index))
    }
}

/// The first eight bytes of the hash.
pub fn of_bytes(initial: &[u8]) -> u64 {
    // Most items start from zero.
    static OF_NOTHING: LazyLock<u64> = LazyLock::new(|| first_bytes(ContentHash::of(&[])));
    if initial.is_empty() { *OF_NOTHING } else { first_bytes(ContentHash::of(&[initial])) }
}

fn first_bytes(hash: ContentHash) -> u64 {
    hash.0.iter().take(8).rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn placed(program: &Program) -> Vec<(&Module, usize)> {
    let modules = program.modules.iter().filter(|module| module.memory == 0);
    let items = modules.flat_map(|module| (0..module.items.len()).map(move |index| (module, index)));
    let mut placed: Vec<_> = items.filter(|(module, index)| bytes(&module.items[*index]) > 0.0).collect();
    placed.sort_by_key(|(module, index)| module.items[*index].byte_address);
    placed
}

fn bytes(item: &Item) -> f64 {
    item.count * f64::from(item.declared.element_bytes())
}

/// An address as module, item and distance from its start. Anonymous items are known by their position: a comment above them
/// changes their names.
fn name(meaning: &mut Vec<u8>, module: &Module, index: usize, address: u32) {
    let item = &module.items[index];
    let is_anonymous = item.name == anonymous_name(item.line);
    let position = index.to_string();
    for text in [&*module.id, if is_anonymous { &*position } else { &*item.name }] {
        meaning.extend((text.len() as u32).to_le_bytes());
        meaning.extend(text.as_bytes());
    }
    meaning.extend((address - item.byte_address).to_le_bytes());
}
