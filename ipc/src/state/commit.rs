//! How a slot says whether it is complete: one word that is 0 while the slot is written, and else the sequence number of what
//! it holds.
//!
//! One writer at a time; readers copy the slot's content and believe the copy only if the word was the same before and after.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::words::Words;

/// The commit word at an offset of the shared words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub offset: usize,
}

impl Commit {
    /// Invalidates the slot; its content may be written afterwards.
    pub fn begin_rt(self, words: &impl Words) {
        words.store_u64_rt(self.offset, 0, Relaxed);
        words.fence_rt(Release);
    }

    /// The content is complete: makes the slot valid. `sequence` is not 0.
    pub fn complete_rt(self, words: &impl Words, sequence: u64) {
        words.store_u64_rt(self.offset, sequence, Release);
    }

    /// The sequence number of what the slot holds, if it is complete. The content may be copied afterwards.
    pub fn read(self, words: &impl Words) -> Option<u64> {
        Some(words.load_u64_rt(self.offset, Acquire)).filter(|sequence| *sequence != 0)
    }

    /// Whether what has been copied since [`Commit::read`] is whole.
    pub fn is_still(self, words: &impl Words, sequence: u64) -> bool {
        words.fence_rt(Acquire);
        words.load_u64_rt(self.offset, Relaxed) == sequence
    }
}
