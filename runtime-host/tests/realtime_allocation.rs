//! The tick thread under an allocator that notices: in its real-time part it neither allocates nor frees (P9).

#[path = "host/fixture.rs"]
#[allow(dead_code)] // Shared with the other tests, which use all of it.
mod fixture;
#[path = "host/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "host/live"]
#[allow(dead_code)]
mod live {
    pub mod band;
    pub mod plans;
    pub mod rig;
}

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fixture::{Assist, Mode};
use harness::{Host, block, expected};
use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS};
use ipc::live::{Boundary, LiveChange, SetItem, SwapProgress};
use ipc::midi::Received;
use ipc::state::StateView;
use live::band::{Band, player};
use live::rig::{Rig, get, ramp};
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

    let (reader, mut input) = host.start_listening(&Assist::sounding().artifact(), 48_000);
    host.wait_until_started();
    for number in 0..2_000 {
        input.write_rt(&[[number as f32; BLOCK_FRAMES]; LANE_CHANNELS]);
        input.wake_rt();
        assert_eq!(block(&reader, number), expected(number + 1));
    }
    host.stop();
    assert_eq!(NOTICED.load(Relaxed), 0, "audio that hears what it is fed, 2,000 ticks");

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

    change_everything(false);
    assert_eq!(NOTICED.load(Relaxed), 0, "changes while it runs");

    change_everything(true);
    assert_eq!(NOTICED.load(Relaxed), 0, "the same with checkpoints: due ones, forced ones, inputs in the log");
}

/// Every kind of change there is, some of them rolled back. A program that traps is left out: wasmtime collects the trap's
/// backtrace on the heap.
fn change_everything(keeps_state: bool) {
    let band = Band::of([player("low", 3, 1), player("high", 4, 100)]).with(|band| {
        band.counts_initialisations = true;
        band.config = vec!["midi.inputs.a.port 0".to_owned(), "midi.inputs.a.callback told".to_owned()];
    });
    let mut rig = Rig::start_keeping(&band, keeps_state);
    for round in 0..20u64 {
        let tick = round * 20;
        let trial_ticks = 5 + round as u32;
        let moved = band.clone().with(|band| band.players.insert(0, player("first", 9, round as i32)));
        let swap = rig.swap(&moved, |swap| {
            swap.trial_ticks = trial_ticks;
            swap.crossfade_frames = 500;
        });
        rig.play_to(tick + 4);
        assert_eq!(rig.committed(swap).0, tick);
        let superseded = rig.swap(&band.clone().with(|band| band.players[0].extra = 3), |swap| swap.boundary = Boundary::Freeze);
        rig.current = moved.artifact();
        rig.send(ramp("high:step", 50.0, 6));
        rig.send(get(&["out:left", "low:phase"]));
        rig.play_to(tick + 6);
        let patch = rig.patch_to(&moved.clone().with(|band| band.players[0].step = 77), 30);
        rig.send(patch);
        rig.play_to(tick + 8);
        rig.send(LiveChange::RollBack);
        // The patch is taken back, and with it the swap if that is on trial still.
        let left = if trial_ticks > 8 { band.artifact() } else { moved.artifact() };
        rig.current = left.clone();
        rig.send(LiveChange::Reset);
        let newer = rig.swap(&band, |swap| swap.boundary = Boundary::Pulse { item: "setup:runs".to_owned() });
        rig.play_to(tick + 10);
        assert_eq!(rig.progress(superseded), SwapProgress::Superseded);
        rig.send(LiveChange::CancelSwap);
        rig.send(LiveChange::Freeze);
        rig.play_to(tick + 12);
        assert_eq!(rig.progress(newer), SwapProgress::Cancelled);
        rig.send(LiveChange::Run);
        let received = |note| Received { port: 1, message: [0x90, note, 100] };
        rig.send(LiveChange::Midi { messages: (0..100).map(received).collect() });
        rig.send(LiveChange::Set { values: vec![SetItem { item: "nobody".to_owned(), value: 1.0 }], ramp_ticks: 0 });
        rig.current = left;
        let back = rig.swap(&band, |swap| swap.there = None);
        rig.play_to(tick + 20);
        assert_eq!(rig.committed(back).0, tick + 12);
    }
    // Long enough for checkpoints that nothing forces.
    rig.play_to(700);
    let checkpoints: Vec<_> = rig.state.iter().map(|state| StateView::open(state).unwrap().newest().unwrap()).collect();
    assert!(checkpoints.iter().all(|newest| newest.is_some_and(|newest| newest.head.tick > 600)), "{checkpoints:?}");
    rig.host.stop();
}
