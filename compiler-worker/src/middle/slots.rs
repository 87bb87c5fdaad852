//! What a walk over a function knows about variables and memory at one point: which value a local or a word of memory holds.
//!
//! Facts are entered as operations are passed. Every change is logged, so that a walk can go into a branch, come back, and
//! try the other one. Only words at constant, aligned addresses are tracked. Pure computation.

use rustc_hash::FxHashMap;

use super::function::{Local, Value};
use super::operators::Load;

/// A place that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    Local(Local),
    Word(Word),
}

/// A word of memory by number (byte address / 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word {
    pub memory: u32,
    pub word: u32,
}

/// What a place holds, and how a load has to read it to get that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub value: Value,
    /// `Load::I32` for locals.
    pub load: Load,
}

/// The facts, with their history.
#[derive(Debug, Default)]
pub struct Slots {
    locals: Vec<Option<Held>>,
    words: FxHashMap<Word, Held>,
    log: Vec<(Place, Option<Held>)>,
}

/// A point in the history.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Slots {
    pub fn get(&self, place: Place) -> Option<Held> {
        match place {
            Place::Local(local) => self.locals.get(local.0 as usize).copied().flatten(),
            Place::Word(word) => self.words.get(&word).copied(),
        }
    }

    /// From here on the place holds this, or nothing known.
    pub fn set(&mut self, place: Place, held: Option<Held>) {
        let before = self.put(place, held);
        if before != held {
            self.log.push((place, before));
        }
    }

    fn put(&mut self, place: Place, held: Option<Held>) -> Option<Held> {
        match (place, held) {
            (Place::Local(local), held) => {
                let index = local.0 as usize;
                if self.locals.len() <= index {
                    self.locals.resize(index + 1, None);
                }
                std::mem::replace(&mut self.locals[index], held)
            }
            (Place::Word(word), Some(held)) => self.words.insert(word, held),
            (Place::Word(word), None) => self.words.remove(&word),
        }
    }

    /// The value a load from a constant address gives, if it is known.
    pub fn loaded(&self, load: Load, memory: u32, address: u32) -> Option<Value> {
        let held = self.get(word_of(load.bytes(), memory, address)?)?;
        (held.load == load).then_some(held.value)
    }

    /// A load from a constant address has given this value.
    pub fn note_load(&mut self, load: Load, memory: u32, address: u32, value: Value) {
        if let Some(place) = word_of(load.bytes(), memory, address) {
            self.set(place, Some(Held { value, load }));
        }
    }

    /// A store to a constant address: forgets what it overlaps, and knows what is there now if a load could give it back whole.
    pub fn note_store(&mut self, bytes: u32, memory: u32, address: u32, stored: Option<Held>) {
        let first = address >> 2;
        let last = (u64::from(address) + u64::from(bytes) - 1) >> 2;
        let before = Place::Word(Word { memory, word: first.wrapping_sub(1) });
        if self.get(before).is_some_and(|held| held.load == Load::F64) {
            self.set(before, None);
        }
        for word in first..=last.min(u64::from(u32::MAX)) as u32 {
            self.set(Place::Word(Word { memory, word }), None);
        }
        if let (Some(stored), Some(place)) = (stored, word_of(bytes, memory, address)) {
            self.set(place, Some(stored));
        }
    }

    /// Something unknown has been written to a memory.
    pub fn forget_memory(&mut self, forgotten: Option<u32>) {
        let is_gone = |word: &Word| forgotten.is_none_or(|memory| memory == word.memory);
        let mut gone: Vec<Word> = Vec::with_capacity(self.words.len());
        gone.extend(self.words.keys().copied().filter(is_gone));
        // The log is read back when branches meet, and what is made there must not depend on the order of a hash table.
        gone.sort_unstable();
        gone.into_iter().for_each(|word| self.set(Place::Word(word), None));
    }

    pub fn mark(&self) -> Mark {
        Mark(self.log.len())
    }

    /// Places that have changed since the mark, each once, in order.
    pub fn changed_since(&self, mark: Mark) -> Vec<Place> {
        let mut places: Vec<Place> = self.log[mark.0..].iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Goes back to what was known at the mark.
    pub fn roll_back(&mut self, mark: Mark) {
        while self.log.len() > mark.0 {
            if let Some((place, before)) = self.log.pop() {
                self.put(place, before);
            }
        }
    }
}

/// The word an access is tracked under: aligned ones of four bytes, and of eight (which own the word behind, too).
fn word_of(bytes: u32, memory: u32, address: u32) -> Option<Place> {
    (bytes >= 4 && address.is_multiple_of(4)).then_some(Place::Word(Word { memory, word: address >> 2 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(value: u32, load: Load) -> Option<Held> {
        Some(Held { value: Value(value), load })
    }

    #[test]
    fn a_store_is_given_back_to_a_load_of_the_same_kind() {
        let mut slots = Slots::default();
        slots.note_store(4, 0, 8, held(1, Load::F32));
        assert_eq!(slots.loaded(Load::F32, 0, 8), Some(Value(1)));
        assert_eq!(slots.loaded(Load::I32, 0, 8), None);
        assert_eq!(slots.loaded(Load::F32, 1, 8), None);
    }

    #[test]
    fn overlapping_stores_forget() {
        let mut slots = Slots::default();
        slots.note_store(8, 0, 8, held(1, Load::F64));
        slots.note_store(4, 0, 12, held(2, Load::I32));
        assert_eq!(slots.loaded(Load::F64, 0, 8), None);
        slots.note_store(1, 0, 13, None);
        assert_eq!(slots.loaded(Load::I32, 0, 12), None);
        slots.note_store(4, 0, 16, held(3, Load::I32));
        slots.note_store(4, 0, 18, None);
        assert_eq!(slots.loaded(Load::I32, 0, 16), None);
    }

    #[test]
    fn facts_can_be_taken_back() {
        let mut slots = Slots::default();
        slots.note_store(4, 0, 8, held(1, Load::I32));
        let mark = slots.mark();
        slots.note_store(4, 0, 8, held(2, Load::I32));
        slots.forget_memory(Some(0));
        assert_eq!(slots.changed_since(mark), vec![Place::Word(Word { memory: 0, word: 2 })]);
        slots.roll_back(mark);
        assert_eq!(slots.loaded(Load::I32, 0, 8), Some(Value(1)));
    }
}
