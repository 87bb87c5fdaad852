//! What the worker remembers from one request to the next: parts of texts that have been read already (DESIGN §4).
//!
//! Owner: the worker's loop. It never changes an answer, only the time it takes. It holds so much and no more: when it is full,
//! the loop drops it and starts with an empty one. What is remembered borrows from [`Texts`], so that both live side by side.

use std::cell::{Cell, OnceCell};

use super::lang_8f4e::block_cache::BlockCache;

/// Texts that are remembered at most: blocks of a program of many thousand lines, in several versions.
const MAX_TEXTS: usize = 4_096;

/// Bytes of text that are remembered at most. What is read from a text takes up to thirty times its space.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Sources larger than this leave no trace: they would fill the cache by themselves.
const MAX_SOURCE_BYTES: usize = MAX_TEXT_BYTES / 4;

/// Texts that stay where they are for as long as all of them are kept.
#[derive(Debug)]
pub struct Texts {
    places: Box<[OnceCell<Box<str>>]>,
    taken: Cell<usize>,
    bytes: Cell<usize>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { places: (0..MAX_TEXTS).map(|_| OnceCell::new()).collect(), taken: Cell::new(0), bytes: Cell::new(0) }
    }
}

impl Texts {
    /// Keeps a text. `None` when there is no room.
    pub fn keep(&self, text: String) -> Option<&str> {
        let bytes = self.bytes.get() + text.len();
        let place = self.places.get(self.taken.get()).filter(|_| bytes <= MAX_TEXT_BYTES)?;
        self.taken.set(self.taken.get() + 1);
        self.bytes.set(bytes);
        Some(place.get_or_init(|| text.into_boxed_str()))
    }
}

/// The caches of all languages.
#[derive(Debug)]
pub struct Caches<'t> {
    texts: &'t Texts,
    pub lang_8f4e: BlockCache<'t>,
}

impl<'t> Caches<'t> {
    pub fn new(texts: &'t Texts) -> Self {
        Self { texts, lang_8f4e: BlockCache::new(texts) }
    }

    /// Whether it is worth remembering anything of this source.
    pub fn takes(&self, source: &[u8]) -> bool {
        source.len() <= MAX_SOURCE_BYTES
    }

    /// Whether it is time to start with empty ones: the next source may find no room.
    pub fn are_full(&self) -> bool {
        self.texts.taken.get() > MAX_TEXTS / 4 * 3 || self.texts.bytes.get() > MAX_TEXT_BYTES - MAX_SOURCE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_the_limits_allow() {
        let texts = Texts::default();
        let caches = Caches::new(&texts);
        for _ in 0..MAX_TEXTS {
            assert!(texts.keep("a".to_owned()).is_some());
        }
        assert!(texts.keep("a".to_owned()).is_none() && caches.are_full());
        let texts = Texts::default();
        let caches = Caches::new(&texts);
        let half = "a".repeat(MAX_TEXT_BYTES / 2 + 1);
        assert!(!caches.are_full() && texts.keep(half.clone()).is_some());
        assert!(texts.keep(half).is_none() && texts.keep("b".to_owned()) == Some("b"));
    }
}
