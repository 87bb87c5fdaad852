//! What lanes hear, with lanes whose hosts are the tests themselves: every sample of every input is known.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ipc::input::{InputReader, InputWriter};
use ipc::lane::{Block, LaneReader, SILENCE};
use ipc::limits::{BLOCK_FRAMES, INPUT_BLOCKS, INPUT_KEPT_BLOCKS};
use ipc::segment::Session;

use super::capture;
use super::counters::Counters;
use super::mixer::{Command, Frame, Mixer, MixerControl, MixerSettings, Notice, ahead_blocks};
use super::patchbay::Wire;
use super::strip::Strip;
use super::test_lane::{TestLane, block, ramp};

const LEAD_BLOCKS: u32 = 4;

struct Rig {
    session: Session,
    mixer: Mixer,
    control: MixerControl,
    counters: Arc<Counters>,
}

/// A lane with the end of its input that its host has.
struct Host {
    lane: TestLane,
    input: InputReader,
}

impl Host {
    /// What tick `tick` hears; `None` while that is not decided.
    fn hears(&self, tick: u64) -> Option<Block> {
        let mut heard = SILENCE;
        (self.input.wait_rt(tick, Duration::ZERO) && self.input.read_rt(tick, &mut heard)).then_some(heard)
    }

    /// Runs every tick that is wanted and whose input is there, as a host does.
    fn run(&mut self, program: impl Fn(u64, &Block) -> Block) -> Vec<Block> {
        let mut heard = Vec::new();
        while self.lane.writer.is_wanted_rt() {
            let tick = self.lane.writer.next_block();
            let Some(input) = self.hears(tick) else { break };
            self.lane.writer.write_rt(&program(tick, &input));
            heard.push(input);
        }
        heard
    }
}

/// A program that plays a ramp and listens to nothing.
fn plays(tick: u64, _: &Block) -> Block {
    block(tick, ramp)
}

/// A program that adds what it hears to a tone of its own.
fn passes(_: u64, heard: &Block) -> Block {
    heard.map(|samples| samples.map(|sample| sample * 0.5 + 0.25))
}

fn hearing(sources: &[usize]) -> Wire {
    Wire { sources: sources.iter().map(|slot| 1 << slot).sum(), ..Wire::default() }
}

impl Rig {
    fn new(starts_together: bool, is_unpaced: bool) -> Self {
        let counters = Arc::new(Counters::default());
        let settings = MixerSettings {
            sample_rate_hz: 48_000,
            lead_blocks: LEAD_BLOCKS,
            first_frame: 0,
            counters: Arc::clone(&counters),
            reel: None,
            starts_together,
            is_unpaced,
        };
        let (mixer, control) = Mixer::new(settings);
        Self { session: Session::open().unwrap(), mixer, control, counters }
    }

    fn add(&mut self, slot: usize, wire: Wire) -> Host {
        let lane = TestLane::new(&self.session);
        let input = InputReader::open(lane.reference()).unwrap();
        self.attach(slot, wire, &lane, Strip::new);
        Host { lane, input }
    }

    fn attach(&mut self, slot: usize, wire: Wire, lane: &TestLane, make: impl Fn(LaneReader, u64) -> Strip) {
        let writer = InputWriter::open(lane.reference()).unwrap();
        let mut strip = make(lane.reader(), ahead_blocks(u64::from(LEAD_BLOCKS), 1)).feeding(writer);
        strip.connect_rt(wire, true, 0);
        assert!(self.control.send(Command::Add { slot, strip, track: None }));
    }

    fn wire(&mut self, slot: usize, wire: Wire, is_direct: bool) {
        assert!(self.control.send(Command::Wire { slot, wire, is_direct }));
    }

    fn render(&mut self, frames: usize) -> Vec<Frame> {
        let mut out = vec![[9.0; 2]; frames];
        self.mixer.fill_rt(frames.div_ceil(BLOCK_FRAMES) as u64, frames, |at, frame| out[at] = [frame[0], frame[1]]);
        out
    }

    fn missing(&self, slot: usize) -> u64 {
        self.counters.lanes[slot].input_underruns.load(Relaxed)
    }
}

/// What a listener hears of a ramp that comes `latency` blocks late.
fn late_ramp(tick: u64, latency: u64) -> Block {
    tick.checked_sub(latency).map_or(SILENCE, |tick| block(tick, ramp))
}

#[test]
fn a_listener_hears_every_block_of_its_source_one_block_later_from_the_first_on() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    assert!(rig.control.send(Command::Begin));
    let mut heard = Vec::new();
    for _ in 0..400 {
        drums.run(plays);
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    assert!(heard.len() > 390);
    for (tick, found) in heard.iter().enumerate() {
        assert!(*found == late_ramp(tick as u64, 1), "tick {tick}");
    }
    assert_eq!((rig.missing(0), rig.missing(1)), (0, 0));
}

#[test]
fn a_device_that_takes_more_at_once_is_waited_for_longer_and_no_block_is_lost() {
    for period in [256, 512, 1_024, 4_096] {
        let mut rig = Rig::new(true, false);
        let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
        rig.mixer.prepare_rt(period as u64 / 128);
        assert!(rig.control.send(Command::Begin));
        let (mut heard, latency) = (Vec::new(), period as u64 / 128);
        let mut out = Vec::new();
        for _ in 0..40 {
            // Both hosts have all the time between two callbacks, in whichever order.
            heard.extend(reverb.run(passes));
            drums.run(plays);
            heard.extend(reverb.run(passes));
            out.extend(rig.render(period));
        }
        for (tick, found) in heard.iter().enumerate() {
            assert!(*found == late_ramp(tick as u64, latency), "tick {tick} at {period} frames");
        }
        assert_eq!((rig.missing(1), rig.counters.bus_latency_blocks.load(Relaxed)), (0, latency));
        let underruns: u64 = (0..2).map(|slot| rig.counters.lanes[slot].underruns.load(Relaxed)).sum();
        assert_eq!(underruns, 0, "at {period} frames");
        assert!(out.iter().any(|frame| frame[0] != 0.0));
    }
}

#[test]
fn a_listener_waits_for_a_source_that_is_still_to_come_while_the_session_is_set_up() {
    let mut rig = Rig::new(true, false);
    let mut reverb = rig.add(1, Wire { awaits_source: true, ..Wire::default() });
    for _ in 0..10 {
        rig.render(128);
        assert!(reverb.run(passes).is_empty(), "its first blocks would be silence for nothing");
    }
    let mut drums = rig.add(0, Wire::default());
    rig.wire(1, hearing(&[0]), true);
    assert!(rig.control.send(Command::Begin));
    let mut heard = Vec::new();
    for _ in 0..20 {
        drums.run(plays);
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    assert!(heard.len() > 10 && heard.iter().enumerate().all(|(tick, found)| *found == late_ramp(tick as u64, 1)));
}

#[test]
fn a_source_that_dies_is_silence_and_counted_and_delays_nobody() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    assert!(rig.control.send(Command::Begin));
    for _ in 0..50 {
        drums.run(plays);
        reverb.run(passes);
        rig.render(128);
    }
    let last = drums.lane.writer.next_block();
    let mut heard = Vec::new();
    for _ in 0..100 {
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    assert_eq!(rig.counters.lanes[1].underruns.load(Relaxed), 0, "the listener is heard without a gap");
    assert!(rig.missing(1) > 90 && rig.missing(0) == 0);
    assert_eq!(heard.last(), Some(&SILENCE));
    // It comes back, and is heard again from its next block in time on.
    for _ in 0..200 {
        drums.run(plays);
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    let tick = reverb.lane.writer.next_block() - 1;
    assert!(heard.last() == Some(&late_ramp(tick, 1)), "in its place");
    assert!(last < tick);
}

#[test]
fn a_source_that_is_late_by_less_than_half_of_the_lead_is_heard_whole() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    assert!(rig.control.send(Command::Begin));
    let mut heard = Vec::new();
    for cycle in 0..300 {
        // A host that is taken over: two periods without a block, again and again.
        if cycle % 20 > 1 || cycle < 20 {
            drums.run(plays);
        }
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    assert!(heard.iter().enumerate().all(|(tick, found)| *found == late_ramp(tick as u64, 1)));
    assert_eq!(rig.missing(1), 0);
    assert_eq!(rig.counters.lanes[1].underruns.load(Relaxed), 0);
}

#[test]
fn runtimes_that_listen_to_each_other_or_to_themselves_do_not_wait_for_each_other() {
    for is_unpaced in [false, true] {
        let mut rig = Rig::new(!is_unpaced, is_unpaced);
        let (mut a, mut b) = (rig.add(0, hearing(&[1])), rig.add(1, hearing(&[0, 1])));
        if !is_unpaced {
            assert!(rig.control.send(Command::Begin));
        }
        for _ in 0..100 {
            for _ in 0..8 {
                a.run(passes);
                b.run(passes);
                if is_unpaced && rig.mixer.wait_until_ready(1, 128, Duration::ZERO) {
                    break;
                }
            }
            rig.render(128);
        }
        let (ticks_a, ticks_b) = (a.lane.writer.next_block(), b.lane.writer.next_block());
        assert!(ticks_a > 90 && ticks_b > 90, "{ticks_a} and {ticks_b} ticks");
        assert_eq!((rig.missing(0), rig.missing(1)), (0, 0));
        // By the model: each hears the sum of what its sources delivered one tick before.
        let (mut out_a, mut out_b) = (0.0f32, 0.0f32);
        let mut blocks = Vec::new();
        for _ in 0..60 {
            let (heard_a, heard_b) = (out_b, out_a + out_b);
            blocks.push((heard_a, heard_b));
            (out_a, out_b) = (heard_a * 0.5 + 0.25, heard_b * 0.5 + 0.25);
        }
        let tick = 50u64;
        assert_eq!(a.hears(tick).unwrap()[0][0], blocks[tick as usize].0);
        assert_eq!(b.hears(tick).unwrap()[1][127], blocks[tick as usize].1);
    }
}

#[test]
fn without_a_clock_a_source_is_waited_for_however_slow_it_is() {
    let mut rig = Rig::new(false, true);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    let (mut heard, mut rendered) = (Vec::new(), 0);
    for round in 0..2_000 {
        if round % 3 == 0 {
            drums.run(plays);
        }
        heard.extend(reverb.run(passes));
        if rig.mixer.wait_until_ready(2, 256, Duration::ZERO) {
            rig.render(256);
            rendered += 1;
        }
    }
    assert!(rendered > 100);
    assert!(heard.iter().enumerate().all(|(tick, found)| *found == late_ramp(tick as u64, 1)));
    assert_eq!(rig.missing(1), 0);
}

#[test]
fn what_is_only_heard_through_others_is_not_heard_directly() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    rig.wire(0, Wire::default(), false);
    assert!(rig.control.send(Command::Begin));
    let mut out = Vec::new();
    for _ in 0..40 {
        drums.run(plays);
        reverb.run(passes);
        out.extend(rig.render(128));
    }
    let start = out.iter().position(|frame| frame[0] != 0.0).unwrap();
    // Half of the ramp, one block late, and a quarter: nothing of the ramp itself.
    let expected = |frame: usize| frame.checked_sub(128).map_or(0.25, |late| ramp(late as u64)[0] * 0.5 + 0.25);
    for frame in 0..out.len() - start {
        assert_eq!(out[start + frame][0], expected(frame), "frame {frame}");
    }
    assert!(rig.counters.lanes[0].peak.take()[0] > 0.0, "its level shows");
    rig.wire(0, Wire::default(), true);
    for _ in 0..20 {
        drums.run(plays);
        reverb.run(passes);
        out = rig.render(128);
    }
    let late = ramp(drums.lane.writer.next_block() * 128)[0];
    assert!(out[127][0] > 0.25 + late, "it is heard again");
}

#[test]
fn a_listener_that_comes_later_hears_what_is_played_at_that_time() {
    let mut rig = Rig::new(false, false);
    let mut drums = rig.add(0, Wire::default());
    for _ in 0..50 {
        drums.run(plays);
        rig.render(128);
    }
    let mut reverb = rig.add(1, hearing(&[0]));
    let mut started = None;
    for _ in 0..50 {
        drums.run(plays);
        reverb.run(passes);
        rig.render(128);
        while let Some(notice) = rig.control.notice() {
            if let Notice::Started { slot, block } = notice {
                started = if slot == 1 { Some(block) } else { started };
            }
        }
    }
    let drums_began = LEAD_BLOCKS as u64 + 1 - 5;
    let started = started.unwrap();
    let tick = reverb.lane.writer.next_block() - 1;
    // Tick n of the listener is heard in block `started + n`, and hears what was heard one block before.
    let heard = reverb.hears(tick).unwrap();
    assert!((0..=5).any(|began| heard == block(started + tick - 1 - drums_began - began, ramp)));
    assert_eq!(rig.missing(1), 0);
}

#[test]
fn after_the_death_of_a_device_host_a_bus_goes_on_without_a_gap() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    assert!(rig.control.send(Command::Begin));
    let mut heard = Vec::new();
    for _ in 0..30 {
        drums.run(plays);
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    drums.run(plays);
    heard.extend(reverb.run(passes));
    let frames = rig.counters.frames.load(Relaxed);
    let Rig { session, mixer, .. } = rig;
    drop(mixer);
    let counters = Arc::new(Counters::default());
    let settings = MixerSettings {
        sample_rate_hz: 48_000,
        lead_blocks: LEAD_BLOCKS,
        first_frame: frames,
        counters: Arc::clone(&counters),
        reel: None,
        starts_together: true,
        is_unpaced: false,
    };
    let (mixer, control) = Mixer::new(settings);
    let mut rig = Rig { session, mixer, control, counters };
    rig.attach(0, Wire::default(), &drums.lane, Strip::resume);
    rig.attach(1, hearing(&[0]), &reverb.lane, Strip::resume);
    assert!(rig.control.send(Command::Begin));
    for _ in 0..30 {
        drums.run(plays);
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    assert!(heard.len() > 55 && heard.iter().enumerate().all(|(tick, found)| *found == late_ramp(tick as u64, 1)));
    assert_eq!(rig.missing(1), 0);
}

#[test]
fn what_the_device_takes_in_is_heard_at_a_constant_distance() {
    let mut rig = Rig::new(true, false);
    let mut echo = rig.add(0, Wire { hears_device: true, ..Wire::default() });
    let (mut inlet, tap) = capture::queue();
    assert!(rig.control.send(Command::Capture(Some(tap))));
    assert!(rig.control.send(Command::Begin));
    let (mut sent, mut heard) = (0u64, Vec::new());
    for _ in 0..100 {
        inlet.push_rt(128, |index| ramp(sent + index as u64));
        sent += 128;
        heard.extend(echo.run(passes).into_iter().flat_map(|block| block[0]));
        rig.render(128);
    }
    let start = heard.iter().position(|sample| *sample != 0.0).unwrap();
    // Its first frames may have passed before the program had begun; what is heard has no gap.
    let first = (heard[start] * (1 << 22) as f32) as u64 - 1;
    for (index, sample) in heard[start..].iter().enumerate() {
        assert_eq!(*sample, ramp(first + index as u64)[0], "sample {index}");
    }
    assert!(heard.len() - start > 80 * 128);
    assert_eq!(rig.missing(0), 0);
    assert_eq!(rig.counters.capture_latency_blocks.load(Relaxed), u64::from(LEAD_BLOCKS) + 1);
    // Unplugged: silence, and time goes on.
    assert!(rig.control.send(Command::Capture(None)));
    for _ in 0..20 {
        heard = echo.run(passes).into_iter().flat_map(|block| block[0]).collect();
        rig.render(128);
    }
    assert!(matches!(rig.control.notice(), Some(Notice::Started { .. })) && matches!(rig.control.notice(), Some(Notice::CaptureLeft(_))));
    assert_eq!(heard, [0.0; 128]);
}

#[test]
fn a_listener_that_stands_still_keeps_what_it_has_to_hear_again() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    assert!(rig.control.send(Command::Begin));
    for _ in 0..300 {
        drums.run(plays);
        reverb.run(passes);
        rig.render(128);
    }
    let stopped = reverb.lane.writer.next_block();
    for _ in 0..1_000 {
        drums.run(plays);
        rig.render(128);
    }
    for tick in stopped - INPUT_KEPT_BLOCKS as u64..stopped + 5 {
        assert!(reverb.hears(tick) == Some(late_ramp(tick, 1)), "tick {tick}");
    }
    assert!(reverb.hears(stopped + (INPUT_BLOCKS - INPUT_KEPT_BLOCKS) as u64).is_none(), "nothing is overwritten for it");
    // It goes on, hears silence for what it has missed, and catches up.
    let mut heard = Vec::new();
    for _ in 0..200 {
        drums.run(plays);
        heard.extend(reverb.run(passes));
        rig.render(128);
    }
    let tick = reverb.lane.writer.next_block() - 1;
    assert!(tick > stopped + 1_000 && heard.last() == Some(&late_ramp(tick, 1)));
}

#[test]
fn a_source_whose_numbers_are_not_finite_does_not_spoil_who_listens() {
    let mut rig = Rig::new(true, false);
    let (mut drums, mut reverb) = (rig.add(0, Wire::default()), rig.add(1, hearing(&[0])));
    assert!(rig.control.send(Command::Begin));
    for _ in 0..20 {
        drums.run(|_, _| [[f32::NAN; BLOCK_FRAMES], [f32::INFINITY; BLOCK_FRAMES]]);
        assert!(reverb.run(passes).iter().all(|heard| *heard == SILENCE));
        rig.render(128);
    }
}
