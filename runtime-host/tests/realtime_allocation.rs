//! The tick thread under an allocator that notices: in its real-time part it neither allocates nor frees (P9).

#[path = "host/fixture.rs"]
#[allow(dead_code)] // Shared with the other tests, which use all of it.
mod fixture;
#[path = "host/harness.rs"]
#[allow(dead_code)]
mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fixture::{Assist, Mode};
use harness::{Host, block, expected};
use ipc::limits::LANE_CHANNELS;
use runtime_host::realtime::{RealtimeSection, is_in_section};

static NOTICED: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting what happens in real-time sections.
struct Noticing;

fn notice() {
    if is_in_section() {
        NOTICED.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged, and counting allocates nothing.
unsafe impl GlobalAlloc for Noticing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        notice();
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is the system allocator's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        notice();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        notice();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Noticing = Noticing;

/// One test, because the count is the whole process's.
#[test]
fn a_tick_thread_does_not_allocate() {
    {
        let _section = RealtimeSection::enter_rt();
        drop(std::hint::black_box(Box::new(7)));
    }
    assert_eq!(NOTICED.swap(0, Relaxed), 2, "the allocator notices an allocation and its end");

    let mut host = Host::start();
    let reader = host.start_runtime(&Assist::sounding().artifact(), "audio", 48_000);
    host.wait_until_started();
    for number in 0..4_000 {
        assert_eq!(block(&reader, number), expected(number + 1));
    }
    host.stop();
    assert_eq!(NOTICED.load(Relaxed), 0, "audio, {LANE_CHANNELS} channels, 4,000 ticks");

    // A program that makes bad numbers is reported and counted by the tick thread, still without allocating.
    let reader = host.start_runtime(&Assist::failing(Mode::NotANumber, 0, 0).artifact(), "audio", 48_000);
    host.wait_until_started();
    block(&reader, 500);
    host.stop();
    assert_eq!(NOTICED.load(Relaxed), 0, "bad numbers");

    host.start_runtime(&Assist::default().artifact(), "worker", 5_000);
    host.wait_until_started();
    host.wait_for_status(|status| status.ticks > 500);
    host.stop();
    assert_eq!(NOTICED.load(Relaxed), 0, "worker");
}
