//! Something that is passed from one thread to the next: it is used by the one whose turn it is, and nobody waits for anybody.
//!
//! A turn is known by the number it was issued under. Whoever passes it on stores a number and never locks; whoever uses the
//! thing only ever *tries* to lock. The number is looked at under the lock: a thread that is interrupted just before it takes the
//! lock, and goes on after the turn has been passed on, does nothing.
//!
//! `super::sync` is what it is made of: the standard library's, or in `tests/loom_models.rs` loom's, which tries every order.

use super::sync::{AtomicU64, Mutex, Ordering};

/// The number of nobody's turn.
const NOBODY: u64 = 0;

/// What is passed on, and whose turn it is.
#[derive(Debug)]
pub struct Passing<T> {
    thing: Mutex<T>,
    turn: AtomicU64,
    issued: AtomicU64,
}

impl<T> Passing<T> {
    pub fn new(thing: T) -> Self {
        Self { thing: Mutex::new(thing), turn: AtomicU64::new(NOBODY), issued: AtomicU64::new(NOBODY) }
    }

    /// A number that nobody has had.
    pub fn issue(&self) -> u64 {
        self.issued.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// From now on it is this number's turn. A use that has begun is not interrupted.
    pub fn pass_to(&self, number: u64) {
        self.turn.store(number, Ordering::Release);
    }

    /// From now on it is nobody's turn.
    pub fn withdraw(&self) {
        self.pass_to(NOBODY);
    }

    /// Whether it is this number's turn.
    pub fn is_turn_of_rt(&self, number: u64) -> bool {
        self.turn.load(Ordering::Acquire) == number
    }

    /// Uses the thing if it is this number's turn and nobody is using it. Contention and poison are not waited for.
    pub fn use_rt<R>(&self, number: u64, job: impl FnOnce(&mut T) -> R) -> Option<R> {
        // Looked at before as well, so that one whose turn is over does not keep the lock from the one whose turn it is.
        if !self.is_turn_of_rt(number) {
            return None;
        }
        let mut thing = self.thing.try_lock().ok()?;
        self.is_turn_of_rt(number).then(|| job(&mut thing))
    }

    /// Uses the thing, whoever's turn it is; `None` while somebody is using it.
    pub fn use_idle<R>(&self, job: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.thing.try_lock().ok().map(|mut thing| job(&mut thing))
    }
}
