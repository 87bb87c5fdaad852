//! Counts what a thread has allocated, so that a decoder that reserves what a damaged length says is found out.
//!
//! A test binary that fuzzes sets [`Tally`] as its allocator. Without it everything counts as nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has allocated and not freed. Negative when it freed what others had allocated.
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
    /// The most there have been since the last [`peak_bytes`] began.
    static PEAK_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, with a tally for each thread.
pub struct Tally;

fn count(bytes: i64) {
    LIVE_BYTES.with(|live| {
        live.set(live.get() + bytes);
        PEAK_BYTES.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged, and counting allocates nothing: the counters are
// constant-initialised thread-locals without destructors. The test `what_a_job_holds_at_once_is_counted` uses all of it.
unsafe impl GlobalAlloc for Tally {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is the system allocator's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Does a job; also says how many bytes this thread held at most because of it.
pub fn peak_bytes<R>(job: impl FnOnce() -> R) -> (R, u64) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let result = job();
    (result, PEAK_BYTES.get().saturating_sub(before).max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Tally = Tally;

    #[test]
    fn what_a_job_holds_at_once_is_counted() {
        let (length, peak) = peak_bytes(|| {
            drop(std::hint::black_box(vec![1u8; 5_000]));
            let mut kept = std::hint::black_box(vec![0u8; 2_000]);
            kept.reserve_exact(1_000);
            kept.len()
        });
        assert_eq!(length, 2_000);
        assert!((5_000..5_200).contains(&peak), "{peak}");
    }
}
