//! Where things lie in a state segment. Offsets are in bytes of the payload.
//!
//! Everything but the memories lies at the same place in every segment, so that the supervisor can look at it without knowing
//! the program. What is written every tick, and what is written with every checkpoint, lie in cache lines of their own.

use crate::limits::{MAX_LIVE_REQUESTS, MAX_RAMPS};
use crate::manifest::Manifest;
use crate::segment::HEADER_BYTES;

/// Bytes of a word.
pub const WORD: usize = 8;
/// Bytes in a page of linear memory.
const WASM_PAGE_BYTES: u64 = 65_536;
/// Bytes in a page of shared memory; each copy begins with one of its own.
const PAGE_BYTES: usize = 4_096;

/// Number of ticks that are complete: the next one is the first that nobody has seen the output of.
pub const COMPLETED_TICKS: usize = 0;
/// [`super::Clock::next`].
pub const CLOCK_NEXT: usize = 8;
/// [`super::Clock::start_ns`]; 0 for runtimes that no clock drives.
pub const CLOCK_START: usize = 16;
/// Words that have ever been written to the log.
pub const LOG_END: usize = 64;

const HEADS: usize = 128;
/// Words of a head, with room for more.
pub const HEAD_WORDS: usize = 16;
/// Words of a ramp.
pub const RAMP_WORDS: usize = 6;
const HEAD_BYTES: usize = (HEAD_WORDS + MAX_RAMPS * RAMP_WORDS) * WORD;

/// Requests in the ring of those that have taken effect: as many as are remembered, and as many again that a checkpoint
/// which never became complete may have added.
pub const APPLIED_ENTRIES: u64 = 2 * MAX_LIVE_REQUESTS as u64;
const APPLIED: usize = HEADS + 2 * HEAD_BYTES;

/// Words in the ring of the log: some two thousand values between two checkpoints. More force a checkpoint.
pub const LOG_WORDS: u64 = 8_192;
const LOG: usize = APPLIED + APPLIED_ENTRIES as usize * 2 * WORD;

/// Bytes of everything but the memories.
pub const FIXED_BYTES: usize = LOG + LOG_WORDS as usize * WORD;

/// Offset of a slot's head.
pub fn head(slot: usize) -> usize {
    HEADS + (slot & 1) * HEAD_BYTES
}

/// Offset of a slot's ramp.
pub fn ramp(slot: usize, index: usize) -> usize {
    head(slot) + (HEAD_WORDS + index * RAMP_WORDS) * WORD
}

/// Offset of an entry in the ring of requests that have taken effect.
pub fn applied(number: u64) -> usize {
    APPLIED + (number % APPLIED_ENTRIES) as usize * 2 * WORD
}

/// Offset of a word of the log.
pub fn log(position: u64) -> usize {
    LOG + (position % LOG_WORDS) as usize * WORD
}

/// Where the copies of a program's memories lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset within a slot's copies, and length, of each memory.
    pub memories: Vec<(usize, usize)>,
    copies_bytes: usize,
}

impl Layout {
    /// For the program that `manifest` describes. Whole memories are copied, not only the bytes of items: a program may store
    /// anything anywhere in its pages.
    pub fn of(manifest: &Manifest) -> Self {
        let mut at = 0;
        let mut memories = Vec::with_capacity(manifest.memories.len());
        for memory in &manifest.memories {
            // A manifest that announces more than there is address space is refused when it is loaded; here it only must not wrap.
            let bytes = usize::try_from(memory.pages.saturating_mul(WASM_PAGE_BYTES)).unwrap_or(usize::MAX).min(usize::MAX / 1_024);
            memories.push((at, bytes));
            at = bytes.saturating_add(at);
        }
        Self { memories, copies_bytes: at }
    }

    /// Offset of a slot's copies.
    pub fn copies(&self, slot: usize) -> usize {
        first_copy() + (slot & 1) * self.copies_bytes
    }

    /// Length of the segment's payload.
    pub fn payload_bytes(&self) -> usize {
        first_copy().saturating_add(self.copies_bytes.saturating_mul(2))
    }
}

/// Where the copies begin: at a page of the segment, of which the header is part.
fn first_copy() -> usize {
    (HEADER_BYTES + FIXED_BYTES).next_multiple_of(PAGE_BYTES) - HEADER_BYTES
}
