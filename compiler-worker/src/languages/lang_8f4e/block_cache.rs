//! Blocks that have been read already, by their text: an edit changes one or two of them.
//!
//! Reading is a fifth of the way from text to wasm; a copy takes a sixth of that. The text itself is compared, not a hash of it. Blocks
//! that are wrong are not remembered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};

use super::error::LanguageError;
use super::parsed::{BlockKind, ParsedBlock};
use super::syntax::{self, SourceLines};
use crate::languages::caches::Texts;

/// A cache of read blocks.
#[derive(Debug)]
pub struct BlockCache<'t> {
    texts: &'t Texts,
    hashing: RandomState,
    /// By hash of kind and text.
    entries: RefCell<HashMap<u64, Vec<Entry<'t>>>>,
}

#[derive(Debug)]
struct Entry<'t> {
    text: &'t str,
    parsed: ParsedBlock<'t>,
}

impl<'t> BlockCache<'t> {
    pub fn new(texts: &'t Texts) -> Self {
        Self { texts, hashing: RandomState::new(), entries: RefCell::default() }
    }

    /// Reads a block, or remembers it.
    pub fn parse<'a>(&self, source: SourceLines<'_, 'a>) -> Result<ParsedBlock<'a>, LanguageError>
    where
        't: 'a,
    {
        let hash = self.hash(source);
        if let Some(known) = self.find(hash, source) {
            return Ok(known);
        }
        let Some(text) = self.texts.keep(source.lines.join("\n")) else { return syntax::parse(source) };
        let lines: Vec<&'t str> = text.split('\n').collect();
        let parsed = syntax::parse(SourceLines { kind: source.kind, block: source.block, lines: &lines })?;
        self.entries.borrow_mut().entry(hash).or_default().push(Entry { text, parsed: parsed.clone() });
        Ok(parsed)
    }

    /// How many blocks are remembered.
    pub fn len(&self) -> usize {
        self.entries.borrow().values().map(Vec::len).sum()
    }

    /// Whether no block is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, source: SourceLines<'_, '_>) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        source.kind.word().hash(&mut hasher);
        source.lines.hash(&mut hasher);
        hasher.finish()
    }

    fn find(&self, hash: u64, source: SourceLines<'_, '_>) -> Option<ParsedBlock<'t>> {
        let entries = self.entries.borrow();
        let is_same = |entry: &&Entry<'t>| is_of_kind(entry, source.kind) && entry.text.split('\n').eq(source.lines.iter().copied());
        let entry = entries.get(&hash)?.iter().find(is_same)?;
        Some(ParsedBlock { block: source.block, ..entry.parsed.clone() })
    }
}

fn is_of_kind(entry: &Entry<'_>, kind: BlockKind) -> bool {
    entry.parsed.kind == kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source<'s, 'a>(block: usize, lines: &'s [&'a str]) -> SourceLines<'s, 'a> {
        SourceLines { kind: BlockKind::Module, block, lines }
    }

    #[test]
    fn a_known_block_is_the_same_as_a_read_one() {
        let texts = Texts::default();
        let cache = BlockCache::new(&texts);
        let lines = ["module a", "int x 1 ; note", "push \"b\\n\"", "moduleEnd"];
        let read = format!("{:?}", syntax::parse(source(3, &lines)));
        for _ in 0..2 {
            assert_eq!(format!("{:?}", cache.parse(source(3, &lines))), read);
        }
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.parse(source(9, &lines)).unwrap().block, 9);
    }

    #[test]
    fn lines_are_told_apart() {
        let texts = Texts::default();
        let cache = BlockCache::new(&texts);
        cache.parse(source(0, &["module a", "moduleEnd"])).unwrap();
        cache.parse(source(0, &["module a", "", "moduleEnd"])).unwrap();
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn a_wrong_block_is_wrong_each_time_and_not_remembered() {
        let texts = Texts::default();
        let cache = BlockCache::new(&texts);
        for block in 0..3 {
            assert_eq!(cache.parse(source(block, &["module a", "nonsense", "moduleEnd"])).unwrap_err().block, Some(block));
        }
        assert!(cache.is_empty());
    }
}
