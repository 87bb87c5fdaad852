//! The mixer against lanes whose hosts are the tests themselves: every sample is known.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ipc::limits::{BLOCK_FRAMES, MAX_LANES};
use ipc::segment::Session;

use super::baton::Baton;
use super::counters::Counters;
use super::mixer::{Command, Frame, Mixer, MixerControl, MixerSettings, Notice, ahead_blocks};
use super::strip::{CONCEAL_FRAMES, Strip};
use super::tape::reel::{RecordedBlock, Reel, Tap};
use super::test_lane::{TestLane, ramp};

const LEAD_BLOCKS: u32 = 4;
const FADE_FRAMES: usize = 960;

struct Rig {
    session: Session,
    mixer: Mixer,
    control: MixerControl,
    counters: Arc<Counters>,
}

impl Rig {
    fn new() -> Self {
        Self::with_start(false)
    }

    fn with_start(starts_together: bool) -> Self {
        Self::open(Session::open().unwrap(), starts_together, 0)
    }

    fn open(session: Session, starts_together: bool, first_frame: u64) -> Self {
        let counters = Arc::new(Counters::default());
        let settings = MixerSettings {
            sample_rate_hz: 48_000,
            lead_blocks: LEAD_BLOCKS,
            first_frame,
            counters: Arc::clone(&counters),
            reel: None,
            starts_together,
            is_unpaced: false,
        };
        let (mixer, control) = Mixer::new(settings);
        Self { session, mixer, control, counters }
    }

    /// Dies between two callbacks, as far as anybody else can see, and another device host goes on.
    fn die_and_return(self) -> Self {
        let Self { session, mixer, counters, .. } = self;
        drop(mixer);
        Self::open(session, true, counters.frames.load(Relaxed))
    }

    fn resume(&mut self, slot: usize, lane: &TestLane) {
        let strip = Strip::resume(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1));
        assert!(self.control.send(Command::Add { slot, strip, track: Some(slot) }));
    }

    fn add(&mut self, slot: usize) -> TestLane {
        let lane = TestLane::new(&self.session);
        let strip = Strip::new(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1));
        assert!(self.control.send(Command::Add { slot, strip, track: Some(slot) }));
        lane
    }

    fn render(&mut self, frames: usize) -> Vec<Frame> {
        let mut out = vec![[9.0; 2]; frames];
        self.mixer.fill_rt(frames.div_ceil(BLOCK_FRAMES) as u64, frames, |at, frame| out[at] = [frame[0], frame[1]]);
        out
    }

    fn underruns(&self, slot: usize) -> u64 {
        self.counters.lanes[slot].underruns.load(Relaxed)
    }
}

fn signal(range: std::ops::Range<u64>, signal: impl Fn(u64) -> Frame) -> Vec<Frame> {
    range.map(signal).collect()
}

fn constant(level: f32) -> impl Fn(u64) -> Frame {
    move |_| [level, level]
}

const SILENT: Frame = [0.0, 0.0];

#[test]
fn a_lane_joins_when_it_is_ahead_and_its_first_sample_comes_out_exactly() {
    let mut rig = Rig::new();
    let mut lane = rig.add(3);
    for _ in 0..LEAD_BLOCKS {
        assert_eq!(rig.render(128), vec![SILENT; 128]);
        lane.write(ramp);
    }
    assert_eq!(rig.render(128), vec![SILENT; 128], "one block short of lead and period");
    assert!(rig.control.notice().is_none());
    lane.write(ramp);
    assert_eq!(rig.render(128), signal(0..128, ramp));
    assert!(matches!(rig.control.notice(), Some(Notice::Started { slot: 3, block: 5 })));
    lane.write_wanted(ramp);
    assert_eq!(rig.render(128), signal(128..256, ramp));
    assert_eq!(rig.underruns(3), 0);
}

#[test]
fn a_host_may_be_ahead_by_the_lead_and_the_period() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    lane.write_wanted(ramp);
    assert_eq!(lane.writer.next_block(), 5);
    rig.render(1_024);
    lane.write_wanted(ramp);
    assert_eq!(lane.writer.next_block(), 12, "8 blocks a period and 4 of lead");
    assert_eq!(rig.render(1_024), signal(0..1_024, ramp));
    lane.write_wanted(ramp);
    assert_eq!(lane.writer.next_block(), 20);
}

#[test]
fn any_sequence_of_callback_sizes_gives_the_same_samples() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    let mut out = Vec::new();
    for frames in [1usize, 7, 127, 128, 129, 1_000, 3, 4_096, 480, 1_039, 64, 16].repeat(3) {
        lane.write_wanted(ramp);
        // As a driver with a new period does: it waits until the lane is ahead far enough.
        rig.mixer.prepare_rt(frames.div_ceil(BLOCK_FRAMES) as u64);
        lane.write_wanted(ramp);
        out.extend(rig.render(frames));
    }
    let start = out.iter().position(|frame| *frame != SILENT).unwrap();
    assert_eq!(out[start..], signal(0..(out.len() - start) as u64, ramp));
    assert_eq!(rig.counters.frames.load(Relaxed), out.len() as u64);
    assert_eq!(rig.underruns(0), 0);
}

#[test]
fn a_missing_block_decays_to_zero_and_the_next_one_fades_in() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    lane.write_wanted(constant(0.5));
    let mut out = rig.render(128);
    for _ in 0..4 {
        out.extend(rig.render(128));
    }
    assert_eq!(rig.underruns(0), 0);
    let gap = rig.render(256);
    assert_eq!(rig.underruns(0), 2);
    assert_eq!(rig.counters.lanes[0].last_underrun_block.load(Relaxed), 6);
    assert_eq!(gap[CONCEAL_FRAMES..], vec![SILENT; 256 - CONCEAL_FRAMES]);
    lane.write_wanted(constant(0.5));
    let back = rig.render(128);
    assert_eq!(back[CONCEAL_FRAMES..], vec![[0.5; 2]; 128 - CONCEAL_FRAMES]);
    out.extend(gap);
    out.extend(back);
    let step = out.windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs()).fold(0.0, f32::max);
    assert!(step <= 0.5 / CONCEAL_FRAMES as f32 + 1e-6, "the largest step is {step}");
}

#[test]
fn a_late_block_is_skipped_and_never_played_late() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    lane.write_wanted(ramp);
    (0..8).for_each(|_| drop(rig.render(128)));
    assert_eq!(rig.underruns(0), 3);
    lane.write(ramp); // Block 5, three blocks late, and still written in order.
    rig.render(128);
    assert_eq!(rig.underruns(0), 4);
    lane.write_wanted(ramp);
    rig.render(128);
    assert_eq!(rig.render(128), signal(10 * 128..11 * 128, ramp), "the tenth block plays at the tenth place");
    assert_eq!(rig.underruns(0), 4);
}

#[test]
fn lanes_are_summed_and_a_missing_one_does_not_touch_the_others() {
    let mut rig = Rig::new();
    let mut steady = rig.add(0);
    let mut failing = rig.add(1);
    steady.write_wanted(ramp);
    failing.write_wanted(constant(0.25));
    for block in 0..40u64 {
        let out = rig.render(128);
        for (offset, frame) in out.iter().enumerate() {
            let [left, right] = ramp(block * 128 + offset as u64);
            let others = [frame[0] - left, frame[1] - right];
            let expected = match block {
                0..5 => 0.25,
                5 => 0.25 * 63usize.saturating_sub(offset) as f32 / 64.0,
                6..20 => 0.0,
                20 => 0.25 * (offset + 1).min(64) as f32 / 64.0,
                _ => 0.25,
            };
            assert_eq!(others, [expected; 2], "block {block}, frame {offset}");
        }
        steady.write_wanted(ramp);
        if block >= 19 {
            failing.write_wanted(constant(0.25));
        }
    }
    assert_eq!((rig.underruns(0), rig.underruns(1)), (0, 15));
}

#[test]
fn lanes_that_are_begun_together_start_on_one_block() {
    let mut rig = Rig::with_start(true);
    let (mut fast, mut slow) = (rig.add(0), rig.add(1));
    fast.write_wanted(ramp);
    assert_eq!(rig.render(256), vec![SILENT; 256], "not before they are begun");
    assert!(rig.control.send(Command::Begin));
    assert_eq!(rig.render(256), vec![SILENT; 256], "not before the slow one has its first blocks");
    slow.write_wanted(ramp);
    assert_eq!(rig.render(128), signal(0..128, |n| ramp(n).map(|sample| sample + sample)));
    let started: Vec<_> = std::iter::from_fn(|| rig.control.notice()).collect();
    assert!(matches!(started[..], [Notice::Started { slot: 0, block: 4 }, Notice::Started { slot: 1, block: 4 }]));
}

#[test]
fn a_lane_that_never_gets_ready_holds_the_others_up_for_a_second_and_no_longer() {
    let mut rig = Rig::with_start(true);
    let mut ready = rig.add(0);
    let _never = rig.add(1);
    ready.write_wanted(ramp);
    assert!(rig.control.send(Command::Begin));
    assert_eq!(rig.render(48_000 / 128 * 128), vec![SILENT; 48_000 / 128 * 128]);
    assert_eq!(rig.render(128), signal(0..128, ramp));
}

#[test]
fn a_removed_lane_fades_out_and_its_slot_can_be_used_again() {
    let mut rig = Rig::new();
    let mut stays = rig.add(0);
    let mut leaves = rig.add(1);
    stays.write_wanted(ramp);
    leaves.write_wanted(constant(0.5));
    rig.render(128);
    assert!(rig.control.send(Command::Remove { slot: 1 }));
    let mut levels = vec![0.5f32];
    for block in 1..=8u64 {
        stays.write_wanted(ramp);
        leaves.write_wanted(constant(0.5));
        for (offset, frame) in rig.render(128).iter().enumerate() {
            levels.push(frame[0] - ramp(block * 128 + offset as u64)[0]);
        }
    }
    let tolerance = 1e-6;
    assert!(levels.windows(2).all(|pair| (-tolerance..0.5 / FADE_FRAMES as f32 + tolerance).contains(&(pair[0] - pair[1]))));
    assert!(levels[FADE_FRAMES - 1] > 0.0);
    assert!(levels[FADE_FRAMES..].iter().all(|level| *level == 0.0));
    let removed = std::iter::from_fn(|| rig.control.notice()).any(|n| matches!(n, Notice::Removed { slot: 1, .. }));
    assert!(removed);
    stays.write_wanted(ramp);
    let mut again = rig.add(1);
    again.write_wanted(constant(0.125));
    let frame = rig.render(128)[0];
    assert_eq!(frame[0] - ramp(9 * 128)[0], 0.125);
}

#[test]
fn a_lane_that_is_removed_before_it_begins_leaves_without_a_sound() {
    let mut rig = Rig::new();
    let mut plays = rig.add(0);
    plays.write_wanted(ramp);
    let _never_begins = rig.add(1);
    rig.render(128);
    assert!(rig.control.send(Command::Remove { slot: 1 }));
    plays.write_wanted(ramp);
    assert_eq!(rig.render(128), signal(128..256, ramp));
    let removed = std::iter::from_fn(|| rig.control.notice()).any(|n| matches!(n, Notice::Removed { slot: 1, .. }));
    assert!(removed);
}

#[test]
fn what_is_not_finite_becomes_zero_and_harms_no_other_lane() {
    let mut rig = Rig::new();
    let mut sane = rig.add(0);
    let mut mad = rig.add(1);
    sane.write_wanted(ramp);
    mad.write_wanted(|frame| [[f32::NAN, f32::INFINITY], [f32::NEG_INFINITY, 0.25]][frame as usize % 2]);
    let out = rig.render(128);
    for (offset, frame) in out.iter().enumerate() {
        let [left, right] = ramp(offset as u64);
        assert_eq!(*frame, [left, right + if offset % 2 == 1 { 0.25 } else { 0.0 }]);
    }
    assert_eq!(rig.counters.non_finite.load(Relaxed), 64 * 3);
}

#[test]
fn the_sum_is_limited_at_the_devices_boundary() {
    let mut rig = Rig::new();
    for (slot, level) in [0.9, 0.9, f32::MAX, f32::MAX].into_iter().enumerate() {
        rig.add(slot).write_wanted(move |_| [level, -level]);
    }
    assert_eq!(rig.render(128), vec![[1.0, -1.0]; 128]);
    assert_eq!(rig.counters.peak.take(), [1.0, 1.0]);
    assert_eq!(rig.counters.lanes[0].peak.take(), [0.9, 0.9]);
    assert_eq!(rig.counters.lanes[0].peak.take(), [0.0, 0.0], "a peak is taken once");
}

#[test]
fn the_end_fades_everything_out_and_then_time_stands_still() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    lane.write_wanted(constant(0.5));
    rig.render(128);
    assert!(rig.control.send(Command::End));
    let mut out = Vec::new();
    for _ in 0..12 {
        lane.write_wanted(constant(0.5));
        out.extend(rig.render(100));
    }
    // What was left of the block before the command: nothing, the callbacks were whole blocks until then.
    let fading = &out[..FADE_FRAMES];
    assert!(fading.windows(2).all(|pair| pair[1][0] < pair[0][0]));
    assert_eq!(out[FADE_FRAMES - 1], SILENT);
    assert!(out[FADE_FRAMES..].iter().all(|frame| *frame == SILENT));
    assert!(rig.counters.has_ended.load(Relaxed));
    assert_eq!(rig.counters.frames.load(Relaxed), 128 + 8 * 128, "the block in which the fade ends is the last one");
}

#[test]
fn all_slots_at_once_and_none() {
    let mut rig = Rig::new();
    assert_eq!(rig.render(300), vec![SILENT; 300]);
    let mut lanes: Vec<_> = (0..MAX_LANES).map(|slot| rig.add(slot)).collect();
    lanes.iter_mut().for_each(|lane| lane.write_wanted(constant(1.0 / 256.0)));
    rig.render(84);
    assert_eq!(rig.render(128), vec![[0.25; 2]; 128]);
    assert_eq!(std::iter::from_fn(|| rig.control.notice()).count(), MAX_LANES);
}

#[test]
fn a_lane_that_was_written_before_it_is_read_goes_on_with_what_is_left_of_it() {
    let mut rig = Rig::new();
    let mut lane = TestLane::new(&rig.session);
    (0..100).for_each(|_| lane.write(ramp));
    let strip = Strip::new(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1));
    assert!(rig.control.send(Command::Add { slot: 0, strip, track: None }));
    assert_eq!(rig.render(128), signal(95 * 128..96 * 128, ramp));
}

#[test]
fn only_the_newest_driver_renders_and_time_goes_on_where_it_was() {
    let rig = Rig::new();
    let mut lane = TestLane::new(&rig.session);
    let Rig { mixer, mut control, .. } = rig;
    let strip = Strip::new(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1));
    assert!(control.send(Command::Add { slot: 0, strip, track: None }));
    lane.write_wanted(ramp);
    let baton = Baton::new(mixer);
    let (mut old, mut new) = (baton.issue(100), baton.issue(100));
    let mut out = Vec::new();
    assert!(!old.render_rt(100, |_, _| panic!("it was not given the baton")));
    baton.pass_to(old.generation());
    assert!(old.render_rt(100, |_, frame| out.push([frame[0], frame[1]])));
    baton.pass_to(new.generation());
    assert!(!old.render_rt(100, |_, _| panic!("it has no longer the baton")));
    assert!(new.render_rt(100, |_, frame| out.push([frame[0], frame[1]])));
    baton.withdraw();
    assert!(!new.render_rt(100, |_, _| panic!("nobody has the baton")));
    assert_eq!(out[..100], signal(0..100, ramp));
    assert_eq!(out[100..], signal(100..200, |frame| ramp(frame).map(|sample| sample * ((frame - 99) as f32 / FADE_FRAMES as f32))));
    assert_eq!((old.pulse().callbacks(), old.pulse().frames()), (3, 300));
}

#[test]
fn a_device_that_takes_over_fades_in_and_then_every_sample_is_exact() {
    let rig = Rig::new();
    let mut lane = TestLane::new(&rig.session);
    let Rig { mixer, mut control, counters, .. } = rig;
    let strip = Strip::new(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1));
    assert!(control.send(Command::Add { slot: 0, strip, track: None }));
    let baton = Baton::new(mixer);
    let mut out = Vec::new();
    for driver in 0..3u64 {
        let mut renderer = baton.issue(128);
        baton.pass_to(renderer.generation());
        for _ in 0..20 {
            lane.write_wanted(constant(0.5));
            assert!(renderer.render_rt(128, |_, frame| out.push([frame[0], frame[1]])), "driver {driver}");
        }
    }
    let (first, others) = out.split_at(20 * 128);
    assert_eq!(first, [[0.5; 2]; 20 * 128], "the first driver of a session has nothing to fade in from");
    for driver in others.chunks(20 * 128) {
        assert!(driver[..FADE_FRAMES].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(driver[FADE_FRAMES - 1..].iter().all(|frame| *frame == [0.5; 2]));
    }
    assert_eq!(counters.lanes[0].underruns.load(Relaxed), 0);
}

#[test]
fn a_driver_with_a_longer_period_waits_until_the_lanes_are_ahead_far_enough() {
    let rig = Rig::new();
    let mut lane = TestLane::new(&rig.session);
    let Rig { mixer, mut control, counters, .. } = rig;
    let strip = Strip::new(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1));
    assert!(control.send(Command::Add { slot: 0, strip, track: None }));
    lane.write_wanted(ramp);
    let baton = Baton::new(mixer);
    let (mut short, mut long) = (baton.issue(128), baton.issue(2_048));
    baton.pass_to(short.generation());
    let mut out = Vec::new();
    assert!(short.render_rt(128, |_, frame| out.push([frame[0], frame[1]])));
    baton.pass_to(long.generation());
    assert!(!long.render_rt(2_048, |_, _| panic!("the lane has 4 of 16 blocks")));
    lane.write_wanted(ramp);
    assert!(long.render_rt(2_048, |_, frame| out.push([frame[0], frame[1]])));
    assert_eq!(out[..128], signal(0..128, ramp));
    let faded = 128 + FADE_FRAMES;
    assert_eq!(out[faded..], signal(faded as u64..128 + 2_048, ramp), "after the fade-in of the device");
    assert_eq!(counters.lanes[0].underruns.load(Relaxed), 0);
    // A lane that never gets ahead is not waited for for ever.
    for _ in 0..8 {
        long.render_rt(2_048, |_, _| {});
    }
    assert!(counters.frames.load(Relaxed) > 128 + 2_048);
}

/// Starts what has been added, renders one block, and takes the notices of the lanes that started.
fn begin(rig: &mut Rig) -> (Vec<Frame>, Vec<(usize, u64)>) {
    assert!(rig.control.send(Command::Begin));
    let out = rig.render(BLOCK_FRAMES);
    (out, started(rig))
}

fn started(rig: &mut Rig) -> Vec<(usize, u64)> {
    let started = |notice| match notice {
        Notice::Started { slot, block } => (slot, block),
        Notice::Removed { .. } | Notice::TapeBegun { .. } | Notice::TapeEnded { .. } | Notice::CaptureLeft(_) => {
            panic!("nothing was removed or recorded")
        }
    };
    std::iter::from_fn(|| rig.control.notice()).map(started).collect()
}

/// A signal as it is heard from the first frame of a block on that comes after silence.
fn faded_in(first_block: u64, signal: impl Fn(u64) -> Frame) -> impl Fn(u64) -> Frame {
    move |frame| {
        let gain = (frame - first_block * 128 + 1).min(CONCEAL_FRAMES as u64) as f32 / CONCEAL_FRAMES as f32;
        signal(frame).map(|sample| sample * gain)
    }
}

/// Two lanes with known signals that begin at different times, and what they sum up to.
struct Pair {
    lanes: [TestLane; 2],
}

impl Pair {
    fn write(&mut self) {
        self.lanes[0].write_wanted(ramp);
        self.lanes[1].write_wanted(constant(0.25));
    }

    fn play(&mut self, rig: &mut Rig, blocks: usize) -> Vec<Frame> {
        let mut out = Vec::new();
        for _ in 0..blocks {
            self.write();
            out.extend(rig.render(BLOCK_FRAMES));
        }
        self.write();
        out
    }

    fn sum(fade_from: u64) -> impl Fn(u64) -> Frame {
        move |frame| {
            let parts = [faded_in(fade_from, ramp)(frame), faded_in(fade_from, constant(0.25))(frame)];
            [parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]]
        }
    }
}

#[test]
fn after_the_death_of_a_device_host_no_block_is_lost_or_played_twice_and_the_clock_goes_on() {
    let mut rig = Rig::new();
    let mut pair = Pair { lanes: [rig.add(0), rig.add(1)] };
    let mut heard = 20;
    let mut clock = 20;
    pair.play(&mut rig, 20);
    for life in 0..5 {
        rig = rig.die_and_return();
        assert_eq!(rig.render(256), vec![SILENT; 256], "not before it is begun");
        rig.resume(2, &pair.lanes[0]);
        rig.resume(1, &pair.lanes[1]);
        clock += 2;
        let (out, started) = begin(&mut rig);
        assert_eq!(started, [(1, clock), (2, clock)], "the session's clock goes on");
        let sum = Pair::sum(heard);
        assert_eq!(out, signal(heard * 128..(heard + 1) * 128, &sum), "life {life}: what no device was given, faded in");
        let blocks = 1 + 7 * life;
        assert_eq!(pair.play(&mut rig, blocks as usize), signal((heard + 1) * 128..(heard + 1 + blocks) * 128, &sum), "life {life}");
        assert_eq!((rig.underruns(2), rig.underruns(1)), (0, 0));
        heard += 1 + blocks;
        clock += 1 + blocks;
        assert_eq!(rig.counters.frames.load(Relaxed), clock * 128);
    }
    assert!(pair.lanes.iter().all(|lane| lane.writer.next_block() == heard + 5), "the hosts have lost nothing but time");
}

#[test]
fn a_device_host_that_dies_before_its_lanes_have_begun_leaves_them_whole() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    lane.write(ramp);
    rig.render(128);
    for _ in 0..2 {
        rig = rig.die_and_return();
        rig.resume(0, &lane);
        assert_eq!(begin(&mut rig), (vec![SILENT; 128], vec![]));
    }
    lane.write_wanted(ramp);
    assert_eq!(rig.render(128), signal(0..128, faded_in(0, ramp)));
}

#[test]
fn a_resumed_lane_whose_host_is_late_holds_the_others_up_for_a_moment_and_then_stays_in_step() {
    let mut rig = Rig::new();
    let mut pair = Pair { lanes: [rig.add(0), rig.add(1)] };
    pair.play(&mut rig, 10);
    // The host of lane 1 misses three blocks more than its lead when the device host dies, too.
    for _ in 0..8 {
        pair.lanes[0].write_wanted(ramp);
        rig.render(128);
    }
    pair.lanes[0].write_wanted(ramp);
    assert_eq!((rig.underruns(0), rig.underruns(1)), (0, 3));
    rig = rig.die_and_return();
    rig.resume(0, &pair.lanes[0]);
    rig.resume(1, &pair.lanes[1]);
    let patience_blocks = 48_000 / 10 / 128;
    assert_eq!(begin(&mut rig), (vec![SILENT; 128], vec![]));
    assert_eq!(rig.render((patience_blocks - 1) * 128), vec![SILENT; (patience_blocks - 1) * 128]);
    assert_eq!(rig.render(128), signal(18 * 128..19 * 128, faded_in(18, ramp)));
    assert_eq!(started(&mut rig), [(0, 18 + patience_blocks as u64)]);
    pair.lanes[0].write_wanted(ramp);
    assert_eq!(rig.render(128), signal(19 * 128..20 * 128, ramp));
    assert_eq!((rig.underruns(0), rig.underruns(1)), (0, 2), "concealed and counted");
    // Its blocks 15 to 19 are late, and dropped; block 20 is not.
    pair.write();
    let both = |frame| [ramp(frame), faded_in(20, constant(0.25))(frame)];
    let sum = |frame| [both(frame)[0][0] + both(frame)[1][0], both(frame)[0][1] + both(frame)[1][1]];
    assert_eq!(pair.play(&mut rig, 3), signal(20 * 128..23 * 128, sum));
    assert_eq!(started(&mut rig), [(1, 20 + patience_blocks as u64)]);
    assert_eq!((rig.underruns(0), rig.underruns(1)), (0, 2));
}

#[test]
fn a_lane_whose_note_for_the_next_device_host_is_damaged_harms_nobody_else() {
    for damage in [u64::MAX, u64::MAX / 2, 1 << 40, 0] {
        let mut rig = Rig::new();
        let mut pair = Pair { lanes: [rig.add(0), rig.add(1)] };
        pair.play(&mut rig, 100);
        pair.lanes[1].reader().take_rt(damage);
        rig = rig.die_and_return();
        rig.resume(0, &pair.lanes[0]);
        rig.resume(1, &pair.lanes[1]);
        let mut out = begin(&mut rig).0;
        while out.ends_with(&[SILENT]) {
            pair.write();
            out = rig.render(128);
        }
        let second = |frame: &Frame, number: u64| frame[0] - faded_in(100, ramp)(number)[0];
        assert!(out.iter().zip(12_800..).all(|(frame, number)| (0.0..=0.25).contains(&second(frame, number))), "{damage}");
        assert_eq!(pair.play(&mut rig, 10), signal(101 * 128..111 * 128, |frame| ramp(frame).map(|sample| sample + 0.25)), "{damage}");
        assert_eq!(rig.underruns(0), 0, "{damage}");
    }
}

/// What of a lane with the constant 0.25 is heard in each block when the blocks in `is_there` are, and it is not touched else.
fn concealed(is_there: &[bool]) -> Vec<f32> {
    let mut out: Vec<f32> = Vec::new();
    let mut was_there = true;
    for is_there in is_there {
        let last = out.last().copied().unwrap_or(0.0);
        out.extend((0..BLOCK_FRAMES).map(|offset| match (is_there, was_there) {
            (true, true) => 0.25,
            (true, false) => 0.25 * (offset + 1).min(CONCEAL_FRAMES) as f32 / CONCEAL_FRAMES as f32,
            (false, _) => last * (CONCEAL_FRAMES.saturating_sub(offset + 1) as f32 / CONCEAL_FRAMES as f32),
        }));
        was_there = *is_there;
    }
    out
}

/// Plays a steady lane and one whose host is not there in the blocks in which `is_alive` says so; whenever one comes back it
/// is another one. Checks every sample and every counter against what must be heard.
fn play_with_takeovers(is_alive: &[bool]) -> u64 {
    let mut rig = Rig::new();
    let (mut steady, mut mortal) = (rig.add(0), rig.add(1));
    steady.write_wanted(ramp);
    mortal.write_wanted(constant(0.25));
    let mut written = u64::from(LEAD_BLOCKS) + 1;
    let mut is_there = Vec::new();
    let mut out = Vec::new();
    for (block, is_alive) in is_alive.iter().enumerate() {
        is_there.push(written > block as u64);
        out.extend(rig.render(128));
        steady.write_wanted(ramp);
        if *is_alive {
            mortal.take_over();
            mortal.write_wanted(constant(0.25));
            written = block as u64 + 2 + u64::from(LEAD_BLOCKS);
            assert_eq!(mortal.writer.next_block(), written, "late blocks are computed, in order");
        }
    }
    for (number, (frame, expected)) in out.iter().zip(concealed(&is_there)).enumerate() {
        let [left, right] = ramp(number as u64);
        assert_eq!([frame[0] - left, frame[1] - right], [expected; 2], "block {}, frame {}", number / 128, number % 128);
    }
    let missing = is_there.iter().filter(|is_there| !**is_there).count() as u64;
    let last = is_there.iter().rposition(|is_there| !is_there).unwrap_or(0) as u64;
    assert_eq!((rig.underruns(0), rig.underruns(1)), (0, missing));
    assert_eq!(rig.counters.lanes[1].last_underrun_block.load(Relaxed), last);
    missing
}

#[test]
fn a_takeover_within_the_lead_is_not_heard() {
    for pause in 1..=LEAD_BLOCKS as usize {
        let is_alive: Vec<bool> = (0..40).map(|block| !(10..10 + pause).contains(&block)).collect();
        assert_eq!(play_with_takeovers(&is_alive), 0, "{pause} blocks without a host");
    }
}

#[test]
fn a_takeover_beyond_the_lead_is_concealed_and_counted_to_the_block() {
    for pause in 5..30 {
        let is_alive: Vec<bool> = (0..60).map(|block| !(10..10 + pause).contains(&block)).collect();
        assert_eq!(play_with_takeovers(&is_alive), pause as u64 - u64::from(LEAD_BLOCKS), "{pause} blocks without a host");
    }
}

#[test]
fn any_sequence_of_deaths_of_a_host_is_concealed_and_touches_no_other_lane() {
    let given = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()) + 1);
    println!("CONTINUO_SEED={seed}");
    let mut state = seed.max(1);
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut is_alive = Vec::new();
    while is_alive.len() < 4_000 {
        is_alive.extend(std::iter::repeat_n(true, random(12) as usize));
        is_alive.extend(std::iter::repeat_n(false, random(10) as usize));
    }
    assert!(play_with_takeovers(&is_alive) > 0);
}

/// Every frame that a tap has been given.
fn recorded(queue: &mut rtrb::Consumer<RecordedBlock>) -> Vec<Frame> {
    let blocks = std::iter::from_fn(|| queue.pop().ok());
    let frames = |block: RecordedBlock| {
        let silence = vec![SILENT; block.gap_frames as usize];
        let played = (0..block.frames).map(move |frame| [block.samples[0][frame], block.samples[1][frame]]);
        silence.into_iter().chain(played)
    };
    blocks.flat_map(frames).collect()
}

#[test]
fn a_tape_begins_and_ends_with_a_whole_block_and_its_stems_add_up_to_its_master() {
    let mut rig = Rig::new();
    let (mut quiet, mut loud) = (rig.add(0), rig.add(1));
    for lane in [&mut quiet, &mut loud] {
        lane.write_wanted(ramp);
    }
    let turn = |rig: &mut Rig, quiet: &mut TestLane, loud: &mut TestLane, frames| {
        // Multiples of small powers of two: every sum of them is exact.
        quiet.write_wanted(ramp);
        loud.write_wanted(|frame| ramp(2 * frame + 1));
        rig.render(frames)
    };
    assert!(rig.control.send(Command::Gain { slot: 0, gain: 0.5, ramp_frames: 0 }));
    let before = turn(&mut rig, &mut quiet, &mut loud, 200);
    let (master, mut on_master) = Tap::new(Arc::default());
    let mut reel = Box::new(Reel::new(Some(master), 0));
    let (tap, mut on_quiet) = Tap::new(Arc::default());
    reel.insert_rt(0, Box::new(tap));
    assert!(rig.control.send(Command::BeginTape(reel)));
    let mut heard = turn(&mut rig, &mut quiet, &mut loud, 100);
    let (tap, mut on_loud) = Tap::new(Arc::default());
    assert!(rig.control.send(Command::AddStem { track: 1, tap: Box::new(tap) }));
    for frames in [37, 512, 300] {
        heard.extend(turn(&mut rig, &mut quiet, &mut loud, frames));
    }
    assert!(rig.control.send(Command::EndTape { block: 0 }));
    heard.extend(turn(&mut rig, &mut quiet, &mut loud, 128));
    let (mut begun, mut ended) = (None, None);
    for notice in std::iter::from_fn(|| rig.control.notice()) {
        match notice {
            Notice::TapeBegun { block } => begun = Some(block),
            Notice::TapeEnded { block, reel } => {
                drop(reel);
                ended = Some(block);
            }
            Notice::Started { .. } | Notice::Removed { .. } | Notice::CaptureLeft(_) => {}
        }
    }
    assert_eq!((begun, ended), (Some(2), Some(9)), "from the block after frame 200, up to that after frame 1,149");
    let first = 2 * BLOCK_FRAMES - before.len();
    let (master, quiet, loud) = (recorded(&mut on_master), recorded(&mut on_quiet), recorded(&mut on_loud));
    assert_eq!(master, heard[first..first + 7 * BLOCK_FRAMES]);
    assert_eq!((quiet.len(), loud.len()), (master.len(), master.len()));
    assert_eq!(loud[..BLOCK_FRAMES], [SILENT; BLOCK_FRAMES], "it came a block later");
    for (frame, master) in master.iter().enumerate().skip(BLOCK_FRAMES) {
        assert_eq!([quiet[frame][0] + loud[frame][0], quiet[frame][1] + loud[frame][1]], *master, "frame {frame}");
    }
    assert!(quiet.iter().all(|frame| frame[0] > 0.0), "the lane is on its stem, with its gain");
}

#[test]
fn the_fade_out_at_the_end_is_on_the_stems_as_well() {
    let mut rig = Rig::new();
    let mut lane = rig.add(0);
    let (master, mut on_master) = Tap::new(Arc::default());
    let mut reel = Box::new(Reel::new(Some(master), 0));
    let (tap, mut on_stem) = Tap::new(Arc::default());
    reel.insert_rt(0, Box::new(tap));
    assert!(rig.control.send(Command::BeginTape(reel)));
    let mut heard = Vec::new();
    for round in 0..20 {
        lane.write_wanted(constant(0.5));
        if round == 8 {
            assert!(rig.control.send(Command::End));
        }
        heard.extend(rig.render(128));
    }
    let (master, stem) = (recorded(&mut on_master), recorded(&mut on_stem));
    assert_eq!(master, stem);
    assert_eq!(master, heard[..master.len()]);
    assert_eq!(master.len(), 8 * BLOCK_FRAMES + FADE_FRAMES.next_multiple_of(BLOCK_FRAMES), "nothing is recorded after the end");
}
