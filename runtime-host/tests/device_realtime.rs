//! What runs on the device host's real-time threads neither allocates nor frees.
//!
//! The renderer marks its real-time section; this binary's allocator ends the process when memory is asked for or given
//! back inside one.

mod device_rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use device_rig::{TestFile, ramp_block, tape};
use ipc::input::InputWriter;
use ipc::lane::{self, LaneReader, LaneWriter};
use ipc::message::Tape;
use ipc::segment::{Segment, Session};
use runtime_host::device::baton::Baton;
use runtime_host::device::capture;
use runtime_host::device::counters::Counters;
use runtime_host::device::mixer::{Command, Mixer, MixerSettings, Notice, ahead_blocks};
use runtime_host::device::patchbay::Wire;
use runtime_host::device::strip::Strip;
use runtime_host::device::tape::writer::Recorder;
use runtime_host::realtime::{RealtimeSection, is_in_section};

struct Watchful;

/// Counts instead of ending the process, for the test of the watch itself.
static COUNTED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
static IS_COUNTING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn watch() {
    if is_in_section() {
        COUNTED.fetch_add(1, Relaxed);
        if !IS_COUNTING.load(Relaxed) {
            std::process::abort();
        }
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; `watch` allocates nothing.
unsafe impl GlobalAlloc for Watchful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        watch();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watchful = Watchful;

struct Lane {
    segment: Segment,
    writer: LaneWriter,
}

fn add_lane(session: &Session, slot: usize) -> (Lane, Command) {
    let segment = lane::create(session.id(), 1).unwrap();
    let writer = LaneWriter::open(segment.reference()).unwrap();
    let input = InputWriter::open(segment.reference()).unwrap();
    let mut strip = Strip::new(LaneReader::open(segment.reference()).unwrap(), ahead_blocks(4, 8)).feeding(input);
    // It hears all the others, itself, and the device's input.
    strip.connect_rt(Wire { sources: 0b1111, hears_device: true, awaits_source: false }, true, 0);
    (Lane { segment, writer }, Command::Add { slot, strip, track: Some(slot) })
}

/// A lane that another device host has played for 20 blocks.
fn resume_lane(session: &Session, slot: usize) -> (Lane, Command) {
    let segment = lane::create(session.id(), 1).unwrap();
    let mut writer = LaneWriter::open(segment.reference()).unwrap();
    (0..24).for_each(|number| writer.write_rt(&ramp_block(number)));
    let reader = LaneReader::open(segment.reference()).unwrap();
    reader.take_rt(20);
    let strip = Strip::resume(reader, ahead_blocks(4, 8));
    (Lane { segment, writer }, Command::Add { slot, strip, track: Some(slot) })
}

fn write_wanted(lane: &mut Lane) {
    while lane.writer.is_wanted_rt() {
        let mut block = ramp_block(lane.writer.next_block());
        block[0][5] = f32::NAN;
        lane.writer.write_rt(&block);
    }
}

#[test]
fn the_device_hosts_renderer_never_allocates_or_frees_whatever_happens() {
    IS_COUNTING.store(true, Relaxed);
    let section = RealtimeSection::enter_rt();
    drop(std::hint::black_box(Box::new(1)));
    drop(section);
    assert_eq!(COUNTED.load(Relaxed), 2, "the watch works");
    IS_COUNTING.store(false, Relaxed);

    let session = Session::open().unwrap();
    let file = TestFile::new("realtime");
    let counters = Arc::new(Counters::default());
    let folder = std::env::temp_dir().join(format!("continuo-realtime-stems-{}", std::process::id()));
    let begin_tape = |number| {
        let first = tape(&file.0);
        let master = first.master.clone().filter(|_| number == 1);
        let tape = Tape { number, master, stems: Some(folder.join(number.to_string())), ..first };
        Recorder::start(&tape, 48_000, &counters, |_| {}).unwrap()
    };
    let (recorder, mut reel) = begin_tape(1);
    reel.insert_rt(0, recorder.add_stem("steady", &counters));
    let settings = MixerSettings {
        sample_rate_hz: 48_000,
        lead_blocks: 4,
        first_frame: 0,
        counters: Arc::clone(&counters),
        reel: Some(reel),
        starts_together: true,
        is_unpaced: false,
    };
    let (mixer, mut control) = Mixer::new(settings);
    let baton = Baton::new(mixer);
    let (mut first, mut second) = (baton.issue(128), baton.issue(1_024));
    baton.pass_to(first.generation());

    let (mut steady, add) = add_lane(&session, 0);
    assert!(control.send(add));
    let (mut failing, add) = add_lane(&session, 1);
    assert!(control.send(add));
    let (mut resumed, add) = resume_lane(&session, 2);
    assert!(control.send(add));
    // A lane whose host is gone: it is concealed from the moment on at which the others begin.
    let (_orphan, add) = resume_lane(&session, 3);
    assert!(control.send(add));
    assert!(control.send(Command::Begin));
    let (mut started, mut removed, mut begun, mut ended, mut inputs_left) = (0, 0, 0, 0, 0);
    let (mut inlet, tap) = capture::queue();
    assert!(control.send(Command::Capture(Some(tap))));
    let mut second_recorder = None;
    for round in 0..400 {
        write_wanted(&mut steady);
        if round % 50 < 40 {
            write_wanted(&mut resumed);
            resumed.writer = LaneWriter::open(resumed.segment.reference()).unwrap();
        }
        if round % 3 != 0 {
            write_wanted(&mut failing);
        }
        match round {
            100 => assert!(control.send(Command::Wire { slot: 0, wire: Wire { sources: 0b110, ..Wire::default() }, is_direct: false })),
            150 => {
                let (next, tap) = capture::queue();
                inlet = next;
                assert!(control.send(Command::Capture(Some(tap))));
            }
            200 => baton.pass_to(second.generation()),
            120 => assert!(control.send(Command::AddStem { track: 2, tap: recorder.add_stem("resumed", &counters) })),
            220 => assert!(control.send(Command::EndTape { block: 0 })),
            250 => assert!(control.send(Command::Remove { slot: 1 })),
            300 => {
                let (recorder, reel) = begin_tape(2);
                assert!(control.send(Command::BeginTape(reel)));
                second_recorder = Some(recorder);
            }
            350 => assert!(control.send(Command::End)),
            _ => {}
        }
        let section = RealtimeSection::enter_rt();
        inlet.push_rt(128, |index| [index as f32, 0.5]);
        drop(section);
        let mut sum = 0.0;
        first.render_rt(128, |_, frame| sum += frame[0]);
        second.render_rt(1_000 + round, |_, frame| sum += frame[1]);
        std::hint::black_box(sum);
        for notice in std::iter::from_fn(|| control.notice()) {
            match notice {
                Notice::Started { .. } => started += 1,
                Notice::Removed { .. } => removed += 1,
                Notice::TapeBegun { .. } => begun += 1,
                Notice::TapeEnded { .. } => ended += 1,
                Notice::CaptureLeft(_) => inputs_left += 1,
            }
        }
    }
    assert_eq!((removed, inputs_left), (1, 1));
    assert!(counters.lanes[0].input_underruns.load(Relaxed) > 0, "inputs have been decided without what was late");
    assert!(counters.lanes[1].underruns.load(Relaxed) > 0, "concealment has been rendered");
    assert!(counters.lanes[2].underruns.load(Relaxed) > 0, "so has that of a lane that was resumed");
    assert!(counters.lanes[3].underruns.load(Relaxed) > 0, "so has that of a lane that was resumed without its host");
    assert_eq!(started, 4, "every lane has been heard, those that were resumed with a fade-in");
    assert!(counters.non_finite.load(Relaxed) > 0, "replacement has been rendered");
    assert!(counters.has_ended.load(Relaxed));
    assert_eq!((begun, ended), (2, 1), "a tape has been begun, handed back, and followed by another one");
    assert!(recorder.finish().unwrap() > 0);
    second_recorder.unwrap().finish().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(COUNTED.load(Relaxed), 2);
}
