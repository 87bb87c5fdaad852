//! The session's musical time: what programs are told of it, and what follows it (LANGUAGE §20.8). Part of the state machine:
//! see the parent module.
//!
//! Whether somebody sets it or the MIDI clock that comes in does, it changes at a block of the session which is a moment
//! ahead, so that every program with sound knows of it in the same block, and the MIDI clock that goes out changes with its
//! first frame. Programs are told by values of their items, like keys: each change takes effect at a tick, stands in the log
//! with it, and is asked of the next host when one dies.

use std::collections::BTreeMap;

use ipc::limits::{BLOCK_FRAMES, DEFAULT_LEAD_BLOCKS, DEFAULT_SAMPLE_RATE_HZ};
use ipc::live::{LiveChange, LiveRequest, SetItem};
use ipc::tempo::{CLOCKS_PER_BEAT, CLOCKS_PER_SIXTEENTH, DEFAULT_TEMPO_BPM, Tempo};
use serde::{Deserialize, Serialize};

use super::keys::MAX_UNASKED;
use super::log::Logged;
use super::program::Phase;
use super::{Action, Device, Goal, Policy, Report, RuntimeIndex, Stage, TempoItems};
use crate::control::protocol::{ControlEvent, ErrorCode, ErrorReply, Tempo as TempoParams, TempoNow, Transport};

/// From a request to the block in which it takes effect, in milliseconds, beside the blocks that hosts are ahead of the device:
/// the way to every host, and how old what is known of the session clock may be.
const AHEAD_MS: u64 = 60;

/// The same where files are made first: disks may take their time.
const BEAT_AHEAD_MS: u64 = 200;

/// What a session's musical time is set up with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TempoSetup {
    /// Beats a minute; of a session that follows a clock, until there is one.
    pub bpm: f64,
    /// Whether it is that of the MIDI clock that comes in.
    pub follows_clock: bool,
    /// Whether MIDI clock goes out.
    pub sends_clock: bool,
    /// How far hosts compute ahead of the device.
    pub lead_blocks: u32,
}

impl Default for TempoSetup {
    fn default() -> Self {
        Self { bpm: DEFAULT_TEMPO_BPM, follows_clock: false, sends_clock: false, lead_blocks: DEFAULT_LEAD_BLOCKS }
    }
}

/// What is known of musical time.
#[derive(Debug, Default)]
pub(super) struct MusicalTime {
    setup: TempoSetup,
    now: Tempo,
    /// The items in which programs have been told of it, by runtime.
    told: BTreeMap<usize, (RuntimeIndex, TempoItems)>,
    /// Which device host has been told, by its generation.
    told_device: u64,
    /// The clock that is followed comes in. While it does not, anybody may set the tempo.
    has_clock: bool,
    /// Programs of a bounce that have been told, and by which request.
    begun: BTreeMap<RuntimeIndex, Option<u64>>,
}

impl TempoItems {
    /// The values to set, of a musical time that is at `clocks`.
    fn values(&self, now: &Tempo, clocks: f64) -> Vec<(String, f64)> {
        let running = f64::from(u8::from(now.is_running));
        let pairs = [(&self.tempo, now.bpm), (&self.running, running), (&self.beat, clocks / CLOCKS_PER_BEAT)];
        pairs.into_iter().filter_map(|(item, value)| Some((item.clone()?, value))).collect()
    }
}

impl Policy {
    /// Sets how fast a session goes before it begins, and who follows whom.
    pub fn set_up_tempo(&mut self, setup: TempoSetup) {
        self.musical.setup = setup;
        self.musical.now = Tempo { bpm: setup.bpm, ..Tempo::default() };
    }

    /// Sets how a session without a clock goes from its first block on.
    pub fn begin_tempo(&mut self, tempo: Tempo) {
        self.musical.now = tempo;
    }

    /// Tells the programs of a bounce before their first tick, every time, and lets them run unless something else does.
    pub(super) fn advance_bounce(&mut self, actions: &mut Vec<Action>) {
        if self.goal != Goal::Bounce || self.is_logged() {
            return;
        }
        for runtime in (0..self.programs.len()).map(RuntimeIndex) {
            let program = &self.programs[runtime.0];
            let Some(host) = program.host.filter(|_| program.phase == Phase::Running && !self.musical.begun.contains_key(&runtime)) else {
                continue;
            };
            let items = program.revision.as_ref().and_then(|revision| revision.plan.tempo.as_ref());
            let values = items.map(|items| items.values(&self.musical.now, self.musical.now.clocks)).unwrap_or_default();
            let values: Vec<SetItem> = values.into_iter().map(|(item, value)| SetItem { item, value }).collect();
            let told = (!values.is_empty()).then_some((Some(0), LiveChange::Set { values, ramp_ticks: 0 }));
            self.musical.begun.insert(runtime, told.as_ref().map(|_| self.last_live_request + 1));
            let runs = self.script.is_none().then_some((None, LiveChange::Proceed { to_tick: u64::MAX }));
            for (at_tick, what) in told.into_iter().chain(runs) {
                self.last_live_request += 1;
                let request = LiveRequest { request: self.last_live_request, at_tick, what };
                actions.push(Action::Live { runtime, host, request, content: None });
            }
        }
    }

    /// Whether this request told a program of a bounce. One that cannot hold it plays all the same.
    pub(super) fn was_told_first(&self, request: u64) -> bool {
        self.musical.begun.values().any(|told| *told == Some(request))
    }

    /// Whether there is a MIDI clock, going out or coming in.
    pub(super) fn plays_clock(&self) -> bool {
        self.musical.setup.follows_clock || self.musical.setup.sends_clock
    }

    /// What is noted for the next supervisor.
    pub(super) fn noted_tempo(&self) -> (TempoSetup, Tempo) {
        (self.musical.setup, self.musical.now)
    }

    /// Goes on with what the last supervisor has noted. It may have died before it told anybody, so everybody is told once more:
    /// who knows it already is told nothing else.
    pub(super) fn take_back_tempo(&mut self, (setup, now): (TempoSetup, Tempo)) {
        (self.musical.setup, self.musical.now) = (setup, now);
    }

    /// Carries out what a client asks for.
    pub(super) fn tempo_call(&mut self, now_ms: u64, asked: &TempoParams, actions: &mut Vec<Action>) -> Result<TempoNow, ErrorReply> {
        let is_question = asked.bpm.is_none() && asked.transport.is_none() && asked.beat.is_none();
        if is_question {
            return Ok(self.tempo_now(now_ms));
        }
        if self.musical.has_clock {
            let message = "this session follows the MIDI clock that comes in; set the tempo where that comes from";
            return Err(ErrorReply::new(ErrorCode::WrongState, message));
        }
        let was = self.musical.now;
        let block = self.block_that_all_can_know(now_ms);
        let here = was.clocks_at(block.saturating_mul(BLOCK_FRAMES as u64), self.session_rate_hz());
        let sixteenth = |clocks: f64| (clocks / CLOCKS_PER_SIXTEENTH).floor() * CLOCKS_PER_SIXTEENTH;
        let (is_running, clocks) = match asked.transport {
            None => (was.is_running, here),
            Some(Transport::Start) => (true, 0.0),
            // MIDI knows positions to the sixteenth note.
            Some(Transport::Continue) if !was.is_running => (true, sixteenth(here)),
            Some(Transport::Continue) => (true, here),
            Some(Transport::Stop) => (false, here),
        };
        let clocks = asked.beat.map_or(clocks, |beat| sixteenth(beat * CLOCKS_PER_BEAT));
        let tempo = Tempo { block, bpm: asked.bpm.unwrap_or(was.bpm), is_running, clocks };
        self.adopt_tempo(tempo, actions);
        Ok(self.describe_tempo(clocks))
    }

    /// The clock that comes in has said something.
    pub(super) fn clock_said(&mut self, tempo: Tempo, actions: &mut Vec<Action>) {
        if self.musical.setup.follows_clock && tempo.is_sound() && self.stage == Stage::Working {
            if !std::mem::replace(&mut self.musical.has_clock, true) {
                actions.push(Action::Tell(Report::MidiClock { is_there: true, bpm: tempo.bpm }));
            }
            self.adopt_tempo(tempo, actions);
        }
    }

    /// The clock that comes in has been silent for a while, or there is nobody who could hear it. The session goes on as it went.
    pub(super) fn clock_lost(&mut self, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.musical.has_clock) {
            actions.push(Action::Tell(Report::MidiClock { is_there: false, bpm: self.musical.now.bpm }));
        }
    }

    fn adopt_tempo(&mut self, tempo: Tempo, actions: &mut Vec<Action>) {
        let was = std::mem::replace(&mut self.musical.now, tempo);
        // Who cannot be told now is told when that can be.
        self.musical.told.clear();
        if self.musical.setup.sends_clock {
            actions.push(Action::SetTempo(tempo));
        }
        for runtime in 0..self.runtimes.len() {
            self.tell_tempo(runtime, tempo.block, tempo.clocks, actions);
        }
        // A clock that is followed tells where it is once a beat; that is no news to people.
        if !self.musical.has_clock || (was.bpm, was.is_running) != (tempo.bpm, tempo.is_running) {
            let TempoNow { bpm, is_running, beat, .. } = self.describe_tempo(tempo.clocks);
            actions.push(Action::Tell(Report::Control(Box::new(ControlEvent::Tempo { bpm, is_running, beat }))));
        }
    }

    /// Tells programs that have not been told, and a device host.
    pub(super) fn advance_tempo(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.stage != Stage::Working || !self.is_live() {
            return;
        }
        if self.musical.setup.sends_clock && self.device == Device::Open && self.musical.told_device != self.device_generation {
            self.musical.told_device = self.device_generation;
            actions.push(Action::SetTempo(self.musical.now));
        }
        for runtime in 0..self.runtimes.len() {
            let Some(slot) = self.live_slot(runtime) else { continue };
            let items = self.tempo_items(runtime);
            let is_told = self.musical.told.get(&runtime).is_some_and(|(told_slot, told)| (*told_slot, Some(told)) == (slot, items));
            if items.is_some() && !is_told && self.runtimes[runtime].unasked.len() < MAX_UNASKED / 2 {
                let block = self.block_that_all_can_know(now_ms);
                let clocks = self.musical.now.clocks_at(block.saturating_mul(BLOCK_FRAMES as u64), self.session_rate_hz());
                self.tell_tempo(runtime, block, clocks, actions);
            }
        }
    }

    /// The items of a runtime have their defaults again.
    pub(super) fn tempo_forgotten(&mut self, runtime: usize) {
        self.musical.told.remove(&runtime);
    }

    fn tell_tempo(&mut self, runtime: usize, block: u64, clocks: f64, actions: &mut Vec<Action>) {
        let Some(items) = self.tempo_items(runtime).cloned() else { return };
        let Some(slot) = self.live_slot(runtime) else { return };
        // What was asked of hosts that are over is not answered any more.
        let programs = &self.programs;
        self.runtimes[runtime].unasked.retain(|_, (slot, _)| programs.get(slot.0).is_some_and(|program| !program.phase.is_over()));
        if self.runtimes[runtime].unasked.len() >= MAX_UNASKED {
            return self.tempo_forgotten(runtime);
        }
        let values = items.values(&self.musical.now, clocks);
        let set = values.iter().map(|(item, value)| SetItem { item: item.clone(), value: *value }).collect();
        let logged = values.into_iter().map(|(item, value)| (item, value.to_bits())).collect();
        let what = LiveChange::Set { values: set, ramp_ticks: 0 };
        let at_tick = self.tick_of(slot, block);
        if self.tell_unasked_at(runtime, slot, what, at_tick, Logged::Set { values: logged, ramp_ticks: 0 }, actions) {
            self.musical.told.insert(runtime, (slot, items));
        }
    }

    fn tempo_items(&self, runtime: usize) -> Option<&TempoItems> {
        let current = self.runtimes.get(runtime)?.current.as_ref()?;
        current.plan.tempo.as_deref()
    }

    fn session_rate_hz(&self) -> u32 {
        self.sample_rate.as_ref().map_or(DEFAULT_SAMPLE_RATE_HZ, |(rate, _)| *rate)
    }

    /// The block that the next beat lies in, from this one on, of the tempo that holds now: far enough ahead for whoever is told,
    /// and for the files of a tape to be made. `None`: the transport stands still.
    pub(super) fn block_of_next_beat(&self, now_ms: u64, not_before: u64) -> Option<u64> {
        let (tempo, rate_hz) = (&self.musical.now, self.session_rate_hz());
        // Where the device has not said yet how far it is, it has not come far.
        let unheard = if self.frames == 0 { 2 * BEAT_AHEAD_MS * u64::from(rate_hz) / 1_000 / BLOCK_FRAMES as u64 } else { 0 };
        let first = self.block_at(now_ms.saturating_add(BEAT_AHEAD_MS)).max(not_before).max(tempo.block).max(unheard);
        let clocks = tempo.clocks_at(first.saturating_mul(BLOCK_FRAMES as u64), rate_hz);
        let beat_clocks = (clocks / CLOCKS_PER_BEAT).ceil() * CLOCKS_PER_BEAT;
        let frame = tempo.first_frame() as f64 + (beat_clocks - tempo.clocks) / tempo.clocks_per_frame(rate_hz);
        tempo.is_running.then(|| (frame.round() as u64 / BLOCK_FRAMES as u64).max(first))
    }

    /// The first block that no host can have computed when it is told.
    fn block_that_all_can_know(&self, now_ms: u64) -> u64 {
        self.block_at(now_ms.saturating_add(AHEAD_MS)).saturating_add(self.musical.setup.lead_blocks.into())
    }

    /// The block of the session that is played then.
    fn block_at(&self, at_ms: u64) -> u64 {
        let passed_ms = if self.frames == 0 { 0 } else { at_ms.saturating_sub(self.frames_at_ms) };
        let passed = u128::from(passed_ms) * u128::from(self.session_rate_hz()) / 1_000;
        self.frames.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)) / BLOCK_FRAMES as u64
    }

    pub(super) fn tempo_now(&self, now_ms: u64) -> TempoNow {
        let frame = self.block_at(now_ms).saturating_mul(BLOCK_FRAMES as u64);
        self.describe_tempo(self.musical.now.clocks_at(frame, self.session_rate_hz()))
    }

    fn describe_tempo(&self, clocks: f64) -> TempoNow {
        let TempoSetup { follows_clock, sends_clock, .. } = self.musical.setup;
        let Tempo { bpm, is_running, .. } = self.musical.now;
        TempoNow { bpm, is_running, beat: clocks / CLOCKS_PER_BEAT, follows_clock, has_clock: self.musical.has_clock, sends_clock }
    }
}

#[cfg(test)]
#[path = "tempo_tests.rs"]
mod tests;
