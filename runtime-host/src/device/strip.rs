//! One lane's place in the mixer: when it begins to play, which of its blocks is due, and what is heard when that block is
//! not there.
//!
//! Made on the control thread, which maps the lane; used by whichever real-time thread renders; handed back to the control
//! thread to be dropped, because dropping it unmaps memory. It never waits for its lane and never plays a block late.

use std::time::Duration;

use ipc::lane::{Block, LaneReader, SILENCE};
use ipc::limits::{BLOCK_FRAMES, LANE_BLOCKS, LANE_CHANNELS};

use super::fade::FadeOut;
use super::gain::Gain;

/// Frames of the decay to zero when a block is missing, and of the fade-in when blocks come again: 1.3 ms at 48 kHz, long
/// enough not to click, short enough to lie inside one block.
pub const CONCEAL_FRAMES: usize = 64;

/// What a strip contributed to a block of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The lane has not yet enough blocks to begin; it is silent.
    Waiting,
    /// The first block of the lane was played.
    Started,
    Played,
    /// The block that was due was not there and has been concealed.
    Concealed,
    /// The last frame of the fade-out was played: the strip has nothing more to give.
    Left,
}

/// How the block before this one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not yet begun.
    Joining,
    /// Begun, and nothing of it heard yet: a lane that goes on in its place although its blocks are not there.
    Resuming,
    /// With samples of the lane, the last of which is kept in case the next block is missing.
    Playing,
    /// With concealment, which has reached zero: the next block that is there is faded in.
    Missing,
}

/// Blocks of a lane's ring that are still there for certain while its host writes the next one.
const KEPT_BLOCKS: u64 = LANE_BLOCKS as u64 - 1;

/// Blocks that the host of a lane that is resumed may be behind: ten minutes at 48 kHz. A lane that claims more has been
/// damaged by its host; it would have that host compute, and never be heard.
const MAX_BEHIND_BLOCKS: u64 = 225_000;

/// A lane in the mixer.
pub struct Strip {
    reader: LaneReader,
    /// The lane's block that belongs to the next block of the session. While joining: the lane's first block to be played.
    next: u64,
    state: State,
    /// Another device host has played the lane: its first block is faded in.
    is_resumed: bool,
    last: [f32; LANE_CHANNELS],
    leaving: Option<FadeOut>,
    gain: Gain,
}

impl Strip {
    /// Begins with the oldest block that a host `ahead_blocks` ahead of the mixer can have ready. For a fresh lane that is
    /// tick 0; for one that another host has written before, what is left of it.
    pub fn new(reader: LaneReader, ahead_blocks: u64) -> Self {
        let next = reader.written_rt().saturating_sub(ahead_blocks);
        reader.take_rt(next);
        Self::begin(reader, next, ahead_blocks, false)
    }

    /// Goes on for a device host that has died, with the first block that it had not given to a device.
    pub fn resume(reader: LaneReader, ahead_blocks: u64) -> Self {
        let (taken, written) = (reader.taken(), reader.written_rt());
        let next = if taken.saturating_sub(written) > MAX_BEHIND_BLOCKS { written } else { taken };
        Self::begin(reader, next.max(written.saturating_sub(KEPT_BLOCKS)), ahead_blocks, true)
    }

    fn begin(reader: LaneReader, next: u64, ahead_blocks: u64, is_resumed: bool) -> Self {
        let (state, last) = (State::Joining, [0.0; LANE_CHANNELS]);
        let strip = Self { reader, next, state, is_resumed, last, leaving: None, gain: Gain::UNCHANGED };
        // The host can begin to compute while the device is still being opened.
        strip.demand_rt(ahead_blocks);
        strip
    }

    /// Whether another device host has played the lane.
    pub fn is_resumed_rt(&self) -> bool {
        self.is_resumed
    }

    /// Puts a lane that another device host has played in its place from the next block on, ready or not: a lane that is
    /// late then stays in step with those that are not, and is concealed.
    pub fn resume_in_place_rt(&mut self) {
        if self.is_resumed && self.state == State::Joining && self.leaving.is_none() {
            self.state = State::Resuming;
        }
    }

    /// Notes in the lane how far it has been given to a device, for the device host that may have to go on.
    pub fn take_rt(&self) {
        if self.state != State::Joining {
            self.reader.take_rt(self.next);
        }
    }

    /// Lets the host compute `ahead_blocks` blocks from the next one on.
    pub fn demand_rt(&self, ahead_blocks: u64) {
        self.reader.demand_rt(self.next + ahead_blocks);
    }

    /// Fades the lane out from the next block on. A lane that has not begun leaves without a sound.
    pub fn leave_rt(&mut self, fade: FadeOut) {
        self.leaving.get_or_insert(fade);
    }

    /// Goes to another gain from the next block on. A lane that has not begun has it from its first sample on.
    pub fn set_gain_rt(&mut self, gain: f32, ramp_frames: u32) {
        self.gain.go_to_rt(gain, if self.is_heard_rt() { ramp_frames } else { 0 });
    }

    /// Whether something of the lane has been heard.
    pub fn is_heard_rt(&self) -> bool {
        matches!(self.state, State::Playing | State::Missing)
    }

    /// Whether the lane, if it has begun, has its next `blocks` blocks ready.
    pub fn can_go_on_rt(&self, blocks: u64) -> bool {
        self.state == State::Joining || self.leaving.is_some() || self.reader.written_rt() >= self.next + blocks
    }

    /// Waits until the lane has begun and has its next `blocks` blocks ready, at most `timeout`; returns whether it has. A
    /// lane that leaves is not waited for. For rendering without a clock; never on a real-time thread.
    pub fn wait_until_ready(&self, blocks: u64, ahead_blocks: u64, timeout: Duration) -> bool {
        self.leaving.is_some() || self.reader.wait_until_written(self.needed(blocks, ahead_blocks) - 1, timeout)
    }

    /// Number of blocks the host must have written before the next `blocks` can be played. At least 1.
    fn needed(&self, blocks: u64, ahead_blocks: u64) -> u64 {
        match self.state {
            State::Joining => self.next + ahead_blocks.max(1),
            State::Resuming | State::Playing | State::Missing => self.next + blocks.max(1),
        }
    }

    /// Whether the lane has begun, has what it needs to begin, or leaves without having begun.
    pub fn is_ready_rt(&self, ahead_blocks: u64) -> bool {
        self.state != State::Joining || self.leaving.is_some() || self.reader.written_rt() >= self.needed(1, ahead_blocks)
    }

    /// Renders the strip's part of one session block into `block`, which is left alone while the lane waits: for its first
    /// blocks, or for `may_start`. Returns with it how many samples were not finite.
    pub fn render_rt(&mut self, ahead_blocks: u64, may_start: bool, block: &mut Block) -> (Turn, u64) {
        if self.state == State::Joining {
            if self.leaving.is_some() {
                *block = SILENCE;
                return (Turn::Left, 0);
            }
            if !may_start || !self.is_ready_rt(ahead_blocks) {
                return (Turn::Waiting, 0);
            }
        }
        let (turn, non_finite) = self.read_rt(block);
        self.next += 1;
        for (last, samples) in self.last.iter_mut().zip(block.iter()) {
            *last = samples[BLOCK_FRAMES - 1];
        }
        // After the last samples have been noted: concealment goes through the gain as well.
        self.gain.apply_rt(block);
        if let Some(fade) = &mut self.leaving {
            fade.apply_rt(block);
            if fade.is_over_rt() {
                return (Turn::Left, non_finite);
            }
        }
        (turn, non_finite)
    }

    fn read_rt(&mut self, block: &mut Block) -> (Turn, u64) {
        if !self.reader.read_rt(self.next, block) {
            self.conceal_rt(block);
            self.state = match self.state {
                State::Joining | State::Resuming => State::Resuming,
                State::Playing | State::Missing => State::Missing,
            };
            return (Turn::Concealed, 0);
        }
        let non_finite = remove_non_finite_rt(block);
        let turn = match self.state {
            State::Joining | State::Resuming => {
                if self.is_resumed {
                    fade_in_rt(block);
                }
                Turn::Started
            }
            State::Playing => Turn::Played,
            State::Missing => {
                fade_in_rt(block);
                Turn::Played
            }
        };
        self.state = State::Playing;
        (turn, non_finite)
    }

    /// Lets the last sample decay to zero: a straight line over [`CONCEAL_FRAMES`].
    fn conceal_rt(&self, block: &mut Block) {
        for (samples, last) in block.iter_mut().zip(self.last) {
            for (frame, sample) in samples.iter_mut().enumerate() {
                *sample = last * (CONCEAL_FRAMES.saturating_sub(frame + 1) as f32 / CONCEAL_FRAMES as f32);
            }
        }
    }
}

fn fade_in_rt(block: &mut Block) {
    for samples in block.iter_mut() {
        for (frame, sample) in samples[..CONCEAL_FRAMES].iter_mut().enumerate() {
            *sample *= (frame + 1) as f32 / CONCEAL_FRAMES as f32;
        }
    }
}

/// Replaces what is not a number, or infinite, by zero, so that it harms neither the other lanes nor the device.
fn remove_non_finite_rt(block: &mut Block) -> u64 {
    let mut removed = 0;
    for sample in block.iter_mut().flatten() {
        if !sample.is_finite() {
            *sample = 0.0;
            removed += 1;
        }
    }
    removed
}
