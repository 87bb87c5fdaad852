//! The patchbay: what the runtimes hear. For every block of every runtime's input it decides once what is in it, from what other
//! runtimes deliver (buses) and from what the device's input takes in.
//!
//! Part of the mixer, and run by whichever thread renders it. It never waits: a source that has nothing in time is silence, and
//! counted, so that no source can delay who listens to it. What was decided stays decided (`ipc::input`).
//!
//! Block n of a runtime's input is heard in its tick n, at the same moment of the session as what that tick delivers. A bus
//! hands on what its source delivers so many blocks earlier: one, or as many as the device takes at once, because hosts
//! are woken once for all of these. That also lets runtimes listen to each other in a circle. What the device's input takes in
//! is heard as many blocks later as hosts compute ahead of the device.

use std::sync::atomic::Ordering::Relaxed;

use ipc::lane::{Block, SILENCE};
use ipc::limits::MAX_LANES;

use super::capture::{Capture, Taken, Tap};
use super::counters::Counters;
use super::strip::Strip;

/// Blocks of one runtime that are decided at a time. One that is far behind is caught up with bit by bit, so that no callback
/// has to do all of it.
const DECIDED_AT_ONCE: usize = 64;

/// What one lane's input is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// The slots of the lanes that it hears, one bit each.
    pub sources: u64,
    /// It hears the device's input.
    pub hears_device: bool,
    /// It is to hear a lane that has not come yet.
    pub awaits_source: bool,
}

/// When lanes that have not begun may go on without what they are to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// They wait even for a lane that has not come: the session is being set up.
    ForAll,
    /// They wait for the lanes that are there: those are to begin together.
    ForThose,
    /// They do not wait.
    None,
}

/// What the patchbay has to know of the mixer.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Number of the session block that is rendered next.
    pub clock_blocks: u64,
    /// Blocks that hosts may be ahead of it.
    pub ahead_blocks: u64,
    pub lead_blocks: u64,
    /// Blocks that the device takes at once.
    pub period_blocks: u64,
    /// The device takes parts of blocks.
    pub is_unaligned: bool,
    pub patience: Patience,
}

/// See the module.
pub struct Patchbay {
    /// Without a clock nothing is ever late: what is missing is waited for.
    is_unpaced: bool,
    bus_latency_blocks: u64,
    capture_latency_blocks: u64,
    capture: Capture,
    /// What is being decided, and one source of it.
    block: Block,
    scratch: Block,
}

impl Patchbay {
    pub fn new(is_unpaced: bool) -> Self {
        Self { is_unpaced, bus_latency_blocks: 1, capture_latency_blocks: 1, capture: Capture::default(), block: SILENCE, scratch: SILENCE }
    }

    /// Another device input takes the place of the one there is. Returns that, to be dropped elsewhere.
    pub fn capture_rt(&mut self, tap: Option<Tap>) -> Option<Tap> {
        self.capture.tap_rt(tap)
    }

    /// The device has been given the frames from this one on, so many: as much is taken in.
    pub fn advance_rt(&mut self, from_frame: u64, frames: usize) {
        self.capture.advance_rt(from_frame, frames);
    }

    /// Decides everything that can be decided, and must be.
    pub fn feed_rt(&mut self, strips: &mut [Option<Strip>; MAX_LANES], moment: &Moment, counters: &Counters) {
        self.keep_latency_rt(moment, counters);
        for slot in 0..MAX_LANES {
            let mut was_fed = false;
            for _ in 0..DECIDED_AT_ONCE {
                let Some(number) = strips[slot].as_ref().and_then(|strip| strip.wanted_input_rt(moment.ahead_blocks)) else { break };
                let Some(is_missing) = self.decide_rt(strips, slot, number, moment) else { break };
                if is_missing {
                    counters.lanes[slot].input_underruns.fetch_add(1, Relaxed);
                }
                if let Some(strip) = &mut strips[slot] {
                    strip.feed_rt(&self.block);
                }
                was_fed = true;
            }
            if let (true, Some(strip)) = (was_fed, &strips[slot]) {
                strip.wake_input_rt();
            }
        }
    }

    /// Latencies only grow: a device with a long period makes itself heard once, and not every time it comes and goes.
    fn keep_latency_rt(&mut self, moment: &Moment, counters: &Counters) {
        if !self.is_unpaced {
            self.bus_latency_blocks = self.bus_latency_blocks.max(moment.period_blocks);
            // A block is whole only when the device has been given all of it.
            let latency_blocks = moment.ahead_blocks + u64::from(moment.is_unaligned);
            self.capture_latency_blocks = self.capture_latency_blocks.max(latency_blocks);
        }
        counters.bus_latency_blocks.store(self.bus_latency_blocks, Relaxed);
        counters.capture_latency_blocks.store(self.capture_latency_blocks, Relaxed);
        counters.capture_waiting_frames.store(self.capture.waiting_frames_rt(), Relaxed);
        counters.capture_gaps.store(self.capture.gaps_rt(), Relaxed);
    }

    /// Puts together what the lane in `slot` hears in its block `number`; returns whether something is missing in it. `None`:
    /// there is still time.
    fn decide_rt(&mut self, strips: &[Option<Strip>; MAX_LANES], slot: usize, number: u64, moment: &Moment) -> Option<bool> {
        let listener = strips[slot].as_ref()?;
        let wire = listener.wire_rt();
        self.block = SILENCE;
        if wire.awaits_source && moment.patience == Patience::ForAll && !listener.has_begun_rt() {
            return None;
        }
        // Blocks from the session's next one to the one in which this is heard.
        let distance = signed(number) - signed(listener.position_rt());
        let may_wait = self.may_wait_rt(listener, distance, moment);
        let mut is_missing = false;
        // Without a clock nobody listens to a device.
        if wire.hears_device && listener.has_begun_rt() && !self.is_unpaced {
            let heard_block = signed(moment.clock_blocks) + distance - signed(self.capture_latency_blocks);
            match self.capture.read_rt(heard_block, &mut self.scratch) {
                Taken::There => add_rt(&mut self.block, &self.scratch),
                Taken::NotYet if may_wait => return None,
                Taken::NotYet | Taken::Gone => is_missing = true,
            }
        }
        let mut sources = wire.sources;
        while sources != 0 {
            let source = sources.trailing_zeros() as usize;
            sources &= sources - 1;
            let Some(strip) = strips.get(source).and_then(Option::as_ref) else { continue };
            // Lanes that have not begun are taken to begin together; those that have share the session's time.
            if strip.has_begun_rt() != listener.has_begun_rt() {
                continue;
            }
            let Ok(wanted) = u64::try_from(signed(strip.position_rt()) + distance - signed(self.bus_latency_blocks)) else { continue };
            if strip.look_rt(wanted, &mut self.scratch) {
                add_rt(&mut self.block, &self.scratch);
            } else if may_wait && strip.may_still_write_rt(wanted) {
                return None;
            } else {
                is_missing |= !strip.is_leaving_rt();
            }
        }
        Some(is_missing)
    }

    /// Whether a block may be decided later: until then the listener's host has nothing to do that would come too late.
    fn may_wait_rt(&self, listener: &Strip, distance: i64, moment: &Moment) -> bool {
        if self.is_unpaced {
            return true;
        }
        if listener.has_begun_rt() {
            // What the next callback takes is to be computed now; half of the lead is the listener's own.
            return distance >= signed(moment.period_blocks + moment.lead_blocks / 2);
        }
        moment.patience != Patience::None
    }
}

/// Block numbers are believed up to 2^52 only (`ipc::lane`): there is room for their differences.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX / 4)
}

/// Adds a source. One that is not finite is left out: what is heard must not be spoilt for good by one sample.
fn add_rt(sum: &mut Block, source: &Block) {
    for (sum, sample) in sum.iter_mut().flatten().zip(source.iter().flatten()) {
        if sample.is_finite() {
            *sum += sample;
        }
    }
}
