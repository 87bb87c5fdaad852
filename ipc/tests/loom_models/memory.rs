//! Shared memory made of loom's words, and processes that die in it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc::words::Words;
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};

/// Words by their offset, and a queue of sleepers for those that are slept on.
pub struct Memory {
    words: BTreeMap<usize, AtomicU64>,
    sleepers: BTreeMap<usize, Sleepers>,
}

/// What the kernel keeps for a futex: it compares the word and queues the sleeper under one lock.
struct Sleepers {
    lock: Mutex<()>,
    woken: Condvar,
}

impl Memory {
    /// Zeroed words at `offsets`; those at `slept_on` are also slept on.
    pub fn new(offsets: &[usize], slept_on: &[usize]) -> Arc<Self> {
        let words = offsets.iter().chain(slept_on).map(|&offset| (offset, AtomicU64::new(0))).collect();
        let sleepers = |&offset: &usize| (offset, Sleepers { lock: Mutex::new(()), woken: Condvar::new() });
        Arc::new(Self { words, sleepers: slept_on.iter().map(sleepers).collect() })
    }
}

/// One process's view of the memory. It may be told to die after some number of stores and wake-ups.
pub struct Process {
    memory: Arc<Memory>,
    /// Stores and wake-ups left to it.
    left: Cell<u32>,
}

impl Process {
    /// A process that lives on.
    pub fn living(memory: &Arc<Memory>) -> Self {
        Self::dying_after(memory, u32::MAX)
    }

    /// A process whose stores and wake-ups have no effect after the first `steps`.
    pub fn dying_after(memory: &Arc<Memory>, steps: u32) -> Self {
        Self { memory: Arc::clone(memory), left: Cell::new(steps) }
    }

    /// Takes one step; false when the process is dead.
    fn step(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.memory.words[&offset]
    }
}

impl Words for Process {
    fn load_u32_rt(&self, offset: usize, order: Ordering) -> u32 {
        self.word(offset).load(order) as u32
    }

    fn store_u32_rt(&self, offset: usize, value: u32, order: Ordering) {
        self.store_u64_rt(offset, u64::from(value), order);
    }

    fn load_u64_rt(&self, offset: usize, order: Ordering) -> u64 {
        self.word(offset).load(order)
    }

    fn store_u64_rt(&self, offset: usize, value: u64, order: Ordering) {
        if self.step() {
            self.word(offset).store(value, order);
        }
    }

    fn fence_rt(&self, order: Ordering) {
        fence(order);
    }

    /// Sleeps without a limit of time: whoever is not woken sleeps for ever, and loom reports that nobody runs any more.
    fn wait_rt(&self, offset: usize, seen: u32, _timeout: Duration) {
        let sleepers = &self.memory.sleepers[&offset];
        let queue = sleepers.lock.lock().unwrap();
        if self.load_u32_rt(offset, Ordering::Relaxed) == seen {
            drop(sleepers.woken.wait(queue).unwrap());
        }
    }

    fn wake_all_rt(&self, offset: usize) {
        if self.step() {
            let sleepers = &self.memory.sleepers[&offset];
            let _queue = sleepers.lock.lock().unwrap();
            sleepers.woken.notify_all();
        }
    }
}
