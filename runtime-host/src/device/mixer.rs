//! The mixer: sums the lanes, block after block, and is the session clock while doing so.
//!
//! There is one [`Mixer`]. It is rendered by one real-time thread at a time (see [`super::baton`]) and belongs to the
//! session, not to a device: when sound moves to another device the mixer moves with it, and session time goes on where it
//! was. The control thread talks to it through two wait-free queues: [`Command`]s in, [`Notice`]s out. Strips come in
//! complete and go out again to be dropped, so that this code never maps, unmaps, allocates, frees or locks; its only system
//! call is the futex wake-up of the lanes.
//!
//! Each lane is added to the channels that it is routed to ([`super::routing`]). A sample that is not finite is replaced by 0
//! in the strip of its lane. Lanes are summed as they are. At the very end the sum is limited to ±1; the master of a tape gets
//! exactly this on channels 1 and 2, and its stems what was summed.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use ipc::lane::{Block, SILENCE};
use ipc::limits::{BLOCK_FRAMES, LANE_BLOCKS, LANE_CHANNELS, MAX_LANES};
use ipc::message::OutputMap;
use rtrb::{Consumer, Producer, RingBuffer};

use super::capture;
use super::counters::Counters;
use super::fade::FadeOut;
use super::patchbay::{Moment, Patchbay, Patience, Wire};
use super::routing::{Bus, DeviceFrame, Routing};
use super::strip::{Strip, Turn};
use super::tape::reel::{Reel, Tap};

/// One frame: left, right.
pub type Frame = [f32; LANE_CHANNELS];

/// Blocks of a lane's ring that are never asked for, so that a writer never comes near the block that is being read.
const RING_MARGIN_BLOCKS: u64 = 8;

/// Commands in flight that a session depends on: three for each lane, the one that begins it, the one that ends it and that
/// of its stem; beginning and end of a tape, which may be told twice, and of the session; one for the device's input.
const VITAL_COMMANDS: usize = 3 * MAX_LANES + 6;

/// Frames by which a lane comes into direct hearing, or goes out of it: 10 ms at 48 kHz.
const DIRECT_RAMP_FRAMES: u32 = 480;

/// From the control thread to the mixer. Obeyed before the next frames are rendered. Strips travel by value: a box would
/// have to be freed on the real-time thread.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Read this lane from now on. The slot is free. Its sound goes into the stem on this track of a tape.
    Add { slot: usize, strip: Strip, track: Option<usize> },
    /// Fade the slot's lane out and hand its strip back.
    Remove { slot: usize },
    /// Bring the slot's lane to this gain.
    Gain { slot: usize, gain: f32, ramp_frames: u32 },
    /// Record from the tape's first block on.
    BeginTape(Box<Reel>),
    /// Record this track of the tape as well.
    AddStem { track: usize, tap: Box<Tap> },
    /// Record no block from this one on, and hand the tape back.
    EndTape { block: u64 },
    /// Bring the slot's lane to these channels of the device.
    Output { slot: usize, route: OutputMap },
    /// Connect the input of the slot's lane, and say whether the lane is heard directly.
    Wire { slot: usize, wire: Wire, is_direct: bool },
    /// Take the device's input in by this queue; the one before comes back.
    Capture(Option<capture::Tap>),
    /// Start the lanes that have been held back, all on one block.
    Begin,
    /// Fade everything out; from its last frame on the session gives silence and time stands still.
    End,
}

/// When a lane that has its first blocks may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Not before [`Command::Begin`].
    HeldBack,
    /// When all that are to start have their first blocks, so that what was begun together is heard together; at this
    /// block of the session at the latest, whoever is missing.
    Together { latest_block: u64 },
    /// At once.
    ByItself,
}

/// How long lanes that are to start together wait for the slowest, in milliseconds. A host that needs longer for its first
/// blocks cannot play in time anyway.
const START_PATIENCE_MS: u64 = 1_000;

/// The same for lanes that another device host has played: their hosts wait at their lead, and at most have to catch up with
/// a longer period.
const RESUME_PATIENCE_MS: u64 = 100;

/// From the mixer to the control thread.
#[allow(clippy::large_enum_variant)] // As above: a box would have to be allocated on the real-time thread.
pub enum Notice {
    /// The first block of the slot's lane is about to be given to the device as this block of the session.
    Started { slot: usize, block: u64 },
    /// The slot is free; the strip is to be dropped.
    Removed { slot: usize, strip: Strip },
    /// This is the first block of the session that is on the tape.
    TapeBegun { block: u64 },
    /// This is the first block that is not on the tape any more; the reel is to be dropped.
    TapeEnded { block: u64, reel: Box<Reel> },
    /// This queue is not read any more, and to be dropped.
    CaptureLeft(capture::Tap),
}

/// The control thread's end of the two queues.
pub struct MixerControl {
    commands: Producer<Command>,
    notices: Consumer<Notice>,
}

impl MixerControl {
    /// Hands a command over; false when the queue is full, which means that nothing is being rendered.
    #[must_use]
    pub fn send(&mut self, command: Command) -> bool {
        self.commands.push(command).is_ok()
    }

    /// As [`MixerControl::send`], for a command that may be sent later: leaves room for those that may not.
    #[must_use]
    pub fn send_if_quiet(&mut self, command: Command) -> bool {
        self.commands.slots() > VITAL_COMMANDS && self.send(command)
    }

    /// The next notice, if there is one.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop().ok()
    }
}

/// What a mixer is made with.
pub struct MixerSettings {
    pub sample_rate_hz: u32,
    pub lead_blocks: u32,
    /// Frames that an earlier device host has played. The clock goes on with the block that follows.
    pub first_frame: u64,
    pub counters: Arc<Counters>,
    /// A tape that begins with the first block.
    pub reel: Option<Box<Reel>>,
    /// Hold lanes back until [`Command::Begin`].
    pub starts_together: bool,
    /// There is no clock: nothing is ever late.
    pub is_unpaced: bool,
}

/// The mixer; see the module.
pub struct Mixer {
    strips: [Option<Strip>; MAX_LANES],
    /// Which channels each slot's lane goes to.
    routings: [Routing; MAX_LANES],
    /// Which track of a tape each slot's lane is on.
    tracks: [Option<usize>; MAX_LANES],
    commands: Consumer<Command>,
    notices: Producer<Notice>,
    counters: Arc<Counters>,
    reel: Option<Box<Reel>>,
    sample_rate_hz: u32,
    lead_blocks: u64,
    /// How far hosts may be ahead of the mixer: the lead, and what the device takes at once.
    ahead_blocks: u64,
    /// Blocks that the device takes at once.
    period_blocks: u64,
    /// The device has taken parts of blocks.
    is_unaligned: bool,
    patchbay: Patchbay,
    /// Number of the session block that is rendered next.
    clock_blocks: u64,
    /// The block being given out, and how much of it has been.
    bus: Bus,
    given_frames: usize,
    scratch: Block,
    start: Start,
    ending: Option<FadeOut>,
    has_ended: bool,
}

impl Mixer {
    pub fn new(settings: MixerSettings) -> (Self, MixerControl) {
        // A slot is used again only after its `Removed` has been taken, so each has at most three commands and two notices in
        // flight. There is one tape at a time, with three commands and two notices; one more command begins the session and one
        // ends it, and one brings the device's input, of which there is one at a time. Gains, channels and buses use what is
        // beside that.
        let (commands_in, commands) = RingBuffer::new(VITAL_COMMANDS + 2 * MAX_LANES);
        let (notices, notices_out) = RingBuffer::new(2 * MAX_LANES + 6);
        let lead_blocks = u64::from(settings.lead_blocks);
        let clock_blocks = settings.first_frame.div_ceil(BLOCK_FRAMES as u64);
        settings.counters.frames.store(clock_blocks * BLOCK_FRAMES as u64, Relaxed);
        let mixer = Self {
            strips: std::array::from_fn(|_| None),
            routings: [Routing::STRAIGHT; MAX_LANES],
            tracks: [None; MAX_LANES],
            commands,
            notices,
            counters: settings.counters,
            reel: settings.reel,
            sample_rate_hz: settings.sample_rate_hz,
            lead_blocks,
            ahead_blocks: ahead_blocks(lead_blocks, 1),
            period_blocks: 1,
            is_unaligned: false,
            patchbay: Patchbay::new(settings.is_unpaced),
            clock_blocks,
            bus: Bus::SILENT,
            given_frames: BLOCK_FRAMES,
            scratch: SILENCE,
            start: if settings.starts_together { Start::HeldBack } else { Start::ByItself },
            ending: None,
            has_ended: false,
        };
        (mixer, MixerControl { commands: commands_in, notices: notices_out })
    }

    /// Gives the next `frames` frames of the session to `give`, with their position. `period_blocks` is how many blocks the
    /// device takes at once; hosts may work that much further ahead.
    pub fn fill_rt(&mut self, period_blocks: u64, frames: usize, mut give: impl FnMut(usize, DeviceFrame)) {
        self.take_period_rt(period_blocks);
        self.is_unaligned |= !frames.is_multiple_of(BLOCK_FRAMES);
        self.obey_rt();
        let from_frame = self.clock_blocks * BLOCK_FRAMES as u64 - (BLOCK_FRAMES - self.given_frames) as u64;
        self.patchbay.advance_rt(from_frame, frames);
        let mut done = 0;
        while done < frames {
            if self.given_frames == BLOCK_FRAMES {
                self.begin_block_rt();
            }
            let count = (BLOCK_FRAMES - self.given_frames).min(frames - done);
            for offset in 0..count {
                give(done + offset, self.bus.frame_rt(self.given_frames + offset));
            }
            self.given_frames += count;
            done += count;
            if let (Some(reel), BLOCK_FRAMES) = (&mut self.reel, self.given_frames) {
                reel.push_rt(BLOCK_FRAMES);
            }
            if !self.has_ended {
                self.counters.frames.fetch_add(count as u64, Relaxed);
            }
        }
        self.end_if_faded_rt();
        // All of them before the first system call: whoever goes on after a kill finds the lanes at one block.
        self.strips.iter().flatten().for_each(Strip::take_rt);
        self.demand_rt();
    }

    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }

    /// Asks the hosts for what a device with this period needs; returns whether every lane that plays has it. A driver that
    /// takes over from one with a shorter period gives silence until then, so that the lanes lose nothing but time.
    pub fn prepare_rt(&mut self, period_blocks: u64) -> bool {
        self.take_period_rt(period_blocks);
        self.demand_rt();
        self.strips.iter().flatten().all(|strip| strip.can_go_on_rt(period_blocks))
    }

    /// Waits until the next `frames` frames can be rendered without concealment and recorded without loss, at most
    /// `timeout`; returns whether they can. For rendering without a clock; never on a real-time thread.
    pub fn wait_until_ready(&mut self, period_blocks: u64, frames: usize, timeout: Duration) -> bool {
        self.take_period_rt(period_blocks);
        self.obey_rt();
        self.demand_rt();
        if self.reel.as_ref().is_some_and(|reel| !reel.has_room(frames)) {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
            return false;
        }
        let (blocks, ahead_blocks) = (frames.div_ceil(BLOCK_FRAMES) as u64, self.ahead_blocks);
        if self.strips.iter().flatten().all(|strip| strip.has_ready(blocks, ahead_blocks)) {
            return true;
        }
        // Whoever listens to another one can only go on when that one has been heard: after each wait, inputs are fed.
        let waited = self.strips.iter().flatten().any(|strip| strip.wait_for_more(blocks, ahead_blocks, timeout));
        if !waited {
            std::thread::yield_now();
        }
        false
    }

    fn take_period_rt(&mut self, period_blocks: u64) {
        self.period_blocks = period_blocks.max(1);
        self.ahead_blocks = ahead_blocks(self.lead_blocks, period_blocks);
    }

    /// Gives what is left of the tape to its writer. Called when nothing more will be rendered.
    pub fn finish_tape(&mut self) {
        if let Some(reel) = &mut self.reel {
            reel.push_rt(self.given_frames);
        }
    }

    fn obey_rt(&mut self) {
        while let Ok(command) = self.commands.pop() {
            match command {
                Command::Add { slot, strip, track } => match &mut self.strips[slot] {
                    free @ None => {
                        *free = Some(strip);
                        self.routings[slot] = Routing::STRAIGHT;
                        self.tracks[slot] = track;
                    }
                    // The control thread keeps the table of free slots; if it erred, the newcomer goes back unheard.
                    Some(_) => drop_elsewhere_rt(&mut self.notices, slot, strip),
                },
                Command::Remove { slot } => {
                    if let Some(strip) = &mut self.strips[slot] {
                        strip.leave_rt(FadeOut::new(self.sample_rate_hz));
                    }
                }
                Command::Gain { slot, gain, ramp_frames } => {
                    if let Some(strip) = &mut self.strips[slot] {
                        strip.set_gain_rt(gain, ramp_frames);
                    }
                }
                Command::Output { slot, route } => {
                    let is_heard = self.strips[slot].as_ref().is_some_and(Strip::is_heard_rt);
                    self.routings[slot].go_to_rt(route, is_heard);
                }
                Command::BeginTape(reel) => match &mut self.reel {
                    free @ None => *free = Some(reel),
                    // The control thread has one tape at a time; if it erred, the newcomer goes back unturned.
                    Some(_) => end_tape_rt(&mut self.notices, self.clock_blocks, reel),
                },
                Command::AddStem { track, tap } => match &mut self.reel {
                    Some(reel) => reel.insert_rt(track, tap),
                    // Freeing it here would be worse than leaking it; the control thread adds none to a tape it has ended.
                    None => std::mem::forget(tap),
                },
                Command::EndTape { block } => {
                    if let Some(reel) = &mut self.reel {
                        reel.end_rt(block);
                    }
                }
                Command::Wire { slot, wire, is_direct } => {
                    if let Some(strip) = &mut self.strips[slot] {
                        strip.connect_rt(wire, is_direct, DIRECT_RAMP_FRAMES);
                    }
                }
                Command::Capture(tap) => {
                    if let Some(before) = self.patchbay.capture_rt(tap)
                        && let Err(rtrb::PushError::Full(notice)) = self.notices.push(Notice::CaptureLeft(before))
                    {
                        // As with strips: leaking is better than freeing here.
                        std::mem::forget(notice);
                    }
                }
                Command::Begin => {
                    let is_resumed = self.strips.iter().flatten().any(Strip::is_resumed_rt);
                    let patience_ms = if is_resumed { RESUME_PATIENCE_MS } else { START_PATIENCE_MS };
                    let patience_blocks = patience_ms * u64::from(self.sample_rate_hz) / (1_000 * BLOCK_FRAMES as u64);
                    self.start = Start::Together { latest_block: self.clock_blocks + patience_blocks };
                }
                Command::End => {
                    self.ending.get_or_insert(FadeOut::new(self.sample_rate_hz));
                }
            }
        }
    }

    /// Renders the next block of the session; silence once the session has ended.
    fn begin_block_rt(&mut self) {
        self.end_if_faded_rt();
        self.bus.clear_rt();
        self.given_frames = 0;
        if self.reel.as_ref().is_some_and(|reel| reel.is_over_rt(self.clock_blocks))
            && let Some(reel) = self.reel.take()
        {
            end_tape_rt(&mut self.notices, self.clock_blocks, reel);
        }
        if self.has_ended {
            return;
        }
        if let Some(reel) = &mut self.reel
            && reel.begin_block_rt(self.clock_blocks)
        {
            // There is room: see `new`.
            let _ = self.notices.push(Notice::TapeBegun { block: self.clock_blocks });
        }
        let may_start = self.may_start_rt();
        for slot in 0..MAX_LANES {
            self.add_strip_rt(slot, may_start);
        }
        if let Some(fade) = &mut self.ending {
            if let Some(reel) = &mut self.reel {
                reel.fade_rt(*fade);
            }
            // The same for every channel.
            let begun = *fade;
            for samples in self.bus.channels_rt() {
                *fade = begun;
                fade.apply_to_rt(samples);
            }
        }
        self.limit_rt();
        if let Some(reel) = &mut self.reel {
            reel.master_rt(&self.bus.main_rt());
        }
        self.clock_blocks += 1;
    }

    /// Whether lanes that have their first blocks start in this block.
    fn may_start_rt(&mut self) -> bool {
        match self.start {
            Start::HeldBack => return false,
            Start::Together { latest_block } => {
                let are_ready = self.strips.iter().flatten().all(|strip| strip.is_ready_rt(self.ahead_blocks));
                if !are_ready && self.clock_blocks < latest_block {
                    return false;
                }
                self.start = Start::ByItself;
                self.strips.iter_mut().flatten().for_each(Strip::resume_in_place_rt);
            }
            Start::ByItself => {}
        }
        true
    }

    fn add_strip_rt(&mut self, slot: usize, may_start: bool) {
        let Some(strip) = &mut self.strips[slot] else { return };
        let (turn, non_finite) = strip.render_rt(self.ahead_blocks, may_start, &mut self.scratch);
        match turn {
            Turn::Waiting => return,
            Turn::Started => {
                // There is room: see `new`.
                let _ = self.notices.push(Notice::Started { slot, block: self.clock_blocks });
            }
            Turn::Concealed => {
                self.counters.lanes[slot].underruns.fetch_add(1, Relaxed);
                self.counters.lanes[slot].last_underrun_block.store(self.clock_blocks, Relaxed);
            }
            Turn::Played | Turn::Left => {}
        }
        if non_finite > 0 {
            self.counters.non_finite.fetch_add(non_finite, Relaxed);
        }
        for (channel, samples) in self.scratch.iter().enumerate() {
            let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            self.counters.lanes[slot].peak.raise_rt(channel, peak);
        }
        // What only others listen to shows its level as well.
        strip.apply_direct_rt(&mut self.scratch);
        let stem = self.routings[slot].add_rt(&self.scratch, &mut self.bus);
        if let (Some(reel), Some(track)) = (&mut self.reel, self.tracks[slot]) {
            reel.add_rt(track, &stem);
        }
        if turn == Turn::Left
            && let Some(strip) = self.strips[slot].take()
        {
            drop_elsewhere_rt(&mut self.notices, slot, strip);
        }
    }

    /// The hard limit at the device's boundary. A sum of finite samples may be infinite, never NaN: `clamp` is enough.
    fn limit_rt(&mut self) {
        for (channel, samples) in self.bus.channels_rt().enumerate() {
            let mut peak = 0.0f32;
            for sample in samples {
                *sample = sample.clamp(-1.0, 1.0);
                peak = peak.max(sample.abs());
            }
            // The level of the session is that of its main pair.
            if channel < LANE_CHANNELS {
                self.counters.peak.raise_rt(channel, peak);
            }
        }
    }

    /// The session ends when the block in which the fade-out reached zero has been given out whole.
    fn end_if_faded_rt(&mut self) {
        let is_faded = self.ending.is_some_and(|fade| fade.is_over_rt());
        if is_faded && self.given_frames == BLOCK_FRAMES && !self.has_ended {
            self.has_ended = true;
            self.counters.has_ended.store(true, Release);
        }
    }

    /// Lets hosts compute: what they are to hear is decided before they are woken.
    fn demand_rt(&mut self) {
        let patience = match self.start {
            Start::HeldBack => Patience::ForAll,
            Start::Together { .. } => Patience::ForThose,
            Start::ByItself => Patience::None,
        };
        let moment = Moment {
            clock_blocks: self.clock_blocks,
            ahead_blocks: self.ahead_blocks,
            lead_blocks: self.lead_blocks,
            period_blocks: self.period_blocks,
            is_unaligned: self.is_unaligned,
            patience,
        };
        self.patchbay.feed_rt(&mut self.strips, &moment, &self.counters);
        for strip in self.strips.iter().flatten() {
            strip.demand_rt(self.ahead_blocks);
        }
    }
}

/// Hands a strip to the control thread, which may unmap it. The queue has room for it: see [`Mixer::new`]; were it full all
/// the same, leaking a mapping is better than unmapping it here.
fn drop_elsewhere_rt(notices: &mut Producer<Notice>, slot: usize, strip: Strip) {
    if let Err(rtrb::PushError::Full(notice)) = notices.push(Notice::Removed { slot, strip }) {
        std::mem::forget(notice);
    }
}

/// Hands a tape to the control thread, which may free it; see [`drop_elsewhere_rt`].
fn end_tape_rt(notices: &mut Producer<Notice>, block: u64, reel: Box<Reel>) {
    if let Err(rtrb::PushError::Full(notice)) = notices.push(Notice::TapeEnded { block, reel }) {
        std::mem::forget(notice);
    }
}

/// How far a host may be ahead of the mixer, within what the lane's ring can hold.
pub fn ahead_blocks(lead_blocks: u64, period_blocks: u64) -> u64 {
    (lead_blocks + period_blocks.max(1)).clamp(1, LANE_BLOCKS as u64 - RING_MARGIN_BLOCKS)
}
