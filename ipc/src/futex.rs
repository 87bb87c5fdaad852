//! Wake-ups on the audio path: a futex on a word of a lane. The only system call a real-time thread makes.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex::{self, Flags, Timespec};

/// Sleeps while `word` still holds `seen`, at most `timeout`. Returns early on any wake-up; callers look again.
pub fn wait_rt(word: &AtomicU32, seen: u32, timeout: Duration) {
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    // Every outcome (woken, word changed, interrupted, timed out) means the same to the caller: look at the word again.
    let _ = futex::wait(word, Flags::empty(), seen, Some(&timeout));
}

/// Wakes every thread of every process that sleeps on `word`.
pub fn wake_all_rt(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}
