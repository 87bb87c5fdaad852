//! Which branches an input has taken, in builds that count them.
//!
//! `./dev fuzz` compiles the workspace's crates with LLVM's inline 8-bit counters (`instrument`, beside this crate): every branch
//! has a byte that is incremented when it is taken, and the binary tells where these bytes lie before `main` begins. In every other
//! build there are none, and nothing is ever new. One target at a time: the counters are the process's.

use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

static START: AtomicPtr<AtomicU8> = AtomicPtr::new(std::ptr::null_mut());
static END: AtomicPtr<AtomicU8> = AtomicPtr::new(std::ptr::null_mut());

/// Called by every instrumented part of the binary, each time with the bounds of the one array that the linker makes of
/// all their counters.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut AtomicU8, end: *mut AtomicU8) {
    START.store(start, Ordering::Relaxed);
    END.store(end, Ordering::Relaxed);
}

fn counters() -> &'static [AtomicU8] {
    let (start, end) = (START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
    if start.is_null() {
        return &[];
    }
    // SAFETY: the linker's bounds of an array of bytes in the binary's data, which is never unmapped. They are read and zeroed
    // as atomics; the increments of instrumented code are plain, so that a count may be lost, but there are no threads
    // beside the one that fuzzes. `./dev fuzz` would not find anything new if the bounds were wrong.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// What has been seen so far, and how often, roughly.
#[derive(Debug, Default)]
pub struct Coverage {
    /// For each counter one bit for each magnitude it has had.
    seen: Vec<u8>,
}

impl Coverage {
    /// Whether anything is counted at all.
    pub fn is_counted() -> bool {
        !counters().is_empty()
    }

    /// Takes the counts since the last call. Whether one of them is new.
    pub fn take(&mut self) -> bool {
        let counters = counters();
        self.seen.resize(counters.len(), 0);
        let mut is_new = false;
        for (counter, seen) in counters.iter().zip(&mut self.seen) {
            let count = counter.load(Ordering::Relaxed);
            if count > 0 {
                counter.store(0, Ordering::Relaxed);
                is_new |= note(seen, count);
            }
        }
        is_new
    }

    /// How many branches have been taken so far.
    pub fn branches(&self) -> usize {
        self.seen.iter().filter(|seen| **seen != 0).count()
    }
}

/// Notes the magnitude of a count; whether it is new.
fn note(seen: &mut u8, count: u8) -> bool {
    let magnitude = match count {
        0..=3 => count.saturating_sub(1),
        4..=7 => 3,
        8..=15 => 4,
        16..=31 => 5,
        32..=127 => 6,
        128.. => 7,
    };
    let is_new = *seen & (1 << magnitude) == 0;
    *seen |= 1 << magnitude;
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magnitude_is_new_once() {
        let mut seen = 0;
        let news: Vec<bool> = [1, 1, 2, 3, 4, 7, 8, 200, 255, 1].map(|count| note(&mut seen, count)).to_vec();
        assert_eq!(news, [true, false, true, true, true, false, true, true, false, false]);
    }
}
