//! The words of shared memory, as the lock-free protocols see them.
//!
//! A protocol such as a [lane](crate::lane) is written over this trait and not over a segment, so that the very same code that
//! runs in the hosts also runs over words that try every order of events the memory model allows (`tests/loom.rs`).
//! Offsets are in bytes of the payload. Every function may run on a real-time thread.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::futex;
use crate::segment::Segment;

/// Words that several threads or processes read and write without a lock.
pub trait Words {
    /// Reads the 32-bit word at `offset`.
    fn load_u32_rt(&self, offset: usize, order: Ordering) -> u32;
    /// Writes the 32-bit word at `offset`.
    fn store_u32_rt(&self, offset: usize, value: u32, order: Ordering);
    /// Reads the 64-bit word at `offset`.
    fn load_u64_rt(&self, offset: usize, order: Ordering) -> u64;
    /// Writes the 64-bit word at `offset`.
    fn store_u64_rt(&self, offset: usize, value: u64, order: Ordering);
    /// Orders what comes before against what comes after, as [`fence`] does.
    fn fence_rt(&self, order: Ordering);
    /// Sleeps while the word at `offset` holds `seen`, at most `timeout`, until it is woken.
    fn wait_rt(&self, offset: usize, seen: u32, timeout: Duration);
    /// Wakes all who sleep on the word at `offset`.
    fn wake_all_rt(&self, offset: usize);
}

/// Words that begin so many bytes further on: a second protocol in the same memory.
pub struct Shifted<W> {
    words: W,
    by: usize,
}

impl<W: Words> Shifted<W> {
    pub fn new(words: W, by: usize) -> Self {
        Self { words, by }
    }
}

impl<W: Words> Words for Shifted<W> {
    fn load_u32_rt(&self, offset: usize, order: Ordering) -> u32 {
        self.words.load_u32_rt(self.by + offset, order)
    }

    fn store_u32_rt(&self, offset: usize, value: u32, order: Ordering) {
        self.words.store_u32_rt(self.by + offset, value, order);
    }

    fn load_u64_rt(&self, offset: usize, order: Ordering) -> u64 {
        self.words.load_u64_rt(self.by + offset, order)
    }

    fn store_u64_rt(&self, offset: usize, value: u64, order: Ordering) {
        self.words.store_u64_rt(self.by + offset, value, order);
    }

    fn fence_rt(&self, order: Ordering) {
        self.words.fence_rt(order);
    }

    fn wait_rt(&self, offset: usize, seen: u32, timeout: Duration) {
        self.words.wait_rt(self.by + offset, seen, timeout);
    }

    fn wake_all_rt(&self, offset: usize) {
        self.words.wake_all_rt(self.by + offset);
    }
}

impl Words for Segment {
    fn load_u32_rt(&self, offset: usize, order: Ordering) -> u32 {
        self.word_u32(offset).load(order)
    }

    fn store_u32_rt(&self, offset: usize, value: u32, order: Ordering) {
        self.word_u32(offset).store(value, order);
    }

    fn load_u64_rt(&self, offset: usize, order: Ordering) -> u64 {
        self.word_u64(offset).load(order)
    }

    fn store_u64_rt(&self, offset: usize, value: u64, order: Ordering) {
        self.word_u64(offset).store(value, order);
    }

    fn fence_rt(&self, order: Ordering) {
        fence(order);
    }

    fn wait_rt(&self, offset: usize, seen: u32, timeout: Duration) {
        futex::wait_rt(self.word_u32(offset), seen, timeout);
    }

    fn wake_all_rt(&self, offset: usize) {
        futex::wake_all_rt(self.word_u32(offset));
    }
}
