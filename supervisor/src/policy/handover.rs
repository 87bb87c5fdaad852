//! Changes that need a new host (class T): the new one is made ready, takes over, and proves itself while the old one is kept
//! frozen beside it. Part of the state machine: see the parent module.
//!
//! If the new host's program fails in its first second, the old host goes on where it was when it was relieved.

use std::sync::Arc;

use ipc::fault::{Fault, FaultKind};
use ipc::limits::BLOCK_FRAMES;
use ipc::live::LiveChange;
use nix::sys::signal::Signal;

use super::log::Logged;
use super::program::Phase;
use super::runtime::{Revision, Trial, Way};
use super::trials::Fall;
use super::{Action, Failure, Loss, Policy, ProcessEnd, RuntimeIndex, Stage, looking};
use crate::control::protocol::ChangeId;

/// How long the two hosts are mixed into each other when nobody says otherwise, in milliseconds.
const CROSSFADE_MS: u32 = 10;

/// What the old host has computed ahead is still heard: time after its fade until it is frozen, in milliseconds.
const AHEAD_MS: u64 = 40;

/// Signals that a process brings upon itself.
const OF_ITSELF: [Signal; 7] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP, Signal::SIGSYS];

/// The host that a new one has relieved, until that one is known to be good.
#[derive(Debug)]
pub(super) struct Standby {
    pub slot: RuntimeIndex,
    /// What it runs.
    pub revision: Arc<Revision>,
    /// The change that relieved it.
    pub change: ChangeId,
    /// When it has faded out and can be frozen; `None` once it has been.
    pub freeze_at_ms: Option<u64>,
    /// What was on trial in it.
    pub trial: Option<Trial>,
}

impl Policy {
    /// A new host is heard, or runs where there is nothing to hear: it is the runtime's host from here on.
    pub(super) fn take_over(&mut self, now_ms: u64, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let Some(runtime) = self.programs[slot.0].runtime else { return };
        let old_slot = self.live_slot(runtime);
        let state = &mut self.runtimes[runtime];
        let Some(flight) = state.flight.take_if(|flight| flight.way == Way::NewHost { slot }) else { return };
        let old = state.current.clone();
        state.slot = Some(slot);
        state.generation = self.programs[slot.0].generation;
        let revision = Arc::clone(&flight.what.revision);
        let change = flight.what.edit.change;
        let trial = state.trial.take();
        let crossfade_ms = flight.what.edit.wishes.crossfade_ms.max(CROSSFADE_MS);
        self.forget_host(runtime, actions);
        self.log_start(slot, &revision, actions);
        self.committed(now_ms, runtime, flight.what, 0, None, None, actions);
        self.begin_probation(runtime, change, &revision, 0);
        // Also where the old host has come to its end meanwhile: the new lane was added silent while that one still played.
        self.crossfade(old_slot, slot, crossfade_ms, actions);
        if let (Some(old_slot), Some(old)) = (old_slot, old) {
            let freeze_at_ms = Some(now_ms + u64::from(crossfade_ms) + AHEAD_MS);
            let standby = Standby { slot: old_slot, revision: old, change, freeze_at_ms, trial };
            match self.runtimes[runtime].standby {
                // The one in between never was known to be good.
                Some(_) => self.retire(old_slot, actions),
                None => self.runtimes[runtime].standby = Some(standby),
            }
        }
    }

    /// What was known of the host before, or asked of it, is over.
    fn forget_host(&mut self, runtime: usize, actions: &mut Vec<Action>) {
        let state = &mut self.runtimes[runtime];
        state.trial = None;
        state.probation = None;
        state.is_frozen = false;
        state.status = Default::default();
        state.lane = Default::default();
        self.release_questions(runtime, "the runtime has got a new host meanwhile; ask again", actions);
    }

    /// Brings a lane in, while the one before it, if there still is one, fades out.
    fn crossfade(&mut self, from: Option<RuntimeIndex>, to: RuntimeIndex, time_ms: u32, actions: &mut Vec<Action>) {
        let rate = self.sample_rate.as_ref().map_or(ipc::limits::DEFAULT_SAMPLE_RATE_HZ, |(rate, _)| *rate);
        let ramp_frames = u64::from(time_ms) * u64::from(rate) / 1_000;
        let ramp_frames = u32::try_from(ramp_frames).unwrap_or(u32::MAX).max(BLOCK_FRAMES as u32);
        self.set_gain(to, ramp_frames, actions);
        if let Some(from) = from {
            self.set_gain(from, ramp_frames, actions);
        }
    }

    /// Freezes the hosts that have faded out.
    pub(super) fn freeze_standbys(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        for runtime in 0..self.runtimes.len() {
            let Some(standby) = &mut self.runtimes[runtime].standby else { continue };
            if standby.freeze_at_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
                let slot = standby.slot;
                self.tell_unasked(runtime, slot, LiveChange::Freeze, Logged::Freeze {}, actions);
            }
        }
    }

    /// When the next host is to be frozen.
    pub(super) fn standby_deadline_ms(&self) -> Option<u64> {
        let deadlines = self.runtimes.iter().filter_map(|runtime| runtime.standby.as_ref()?.freeze_at_ms);
        // A session that ends freezes nobody.
        deadlines.min().filter(|_| self.stage == Stage::Working)
    }

    /// Asks a host for something that nobody waits for, but that a replay has to know of.
    pub(super) fn tell_unasked(&mut self, runtime: usize, slot: RuntimeIndex, what: LiveChange, logged: Logged, actions: &mut Vec<Action>) {
        self.tell_unasked_at(runtime, slot, what, None, logged, actions);
    }

    /// The same, for a tick that is to come. False: its host takes nothing now.
    pub(super) fn tell_unasked_at(
        &mut self,
        runtime: usize,
        slot: RuntimeIndex,
        what: LiveChange,
        at_tick: Option<u64>,
        logged: Logged,
        actions: &mut Vec<Action>,
    ) -> bool {
        let is_there = matches!(self.programs[slot.0].phase, Phase::Running | Phase::Recovering { .. });
        if is_there {
            let request = self.send_live_at(slot, what, at_tick, actions);
            self.runtimes[runtime].unasked.insert(request, (slot, logged));
        }
        is_there
    }

    /// The new host is known to be good: the old one is over.
    pub(super) fn let_go_of_standby(&mut self, runtime: usize, actions: &mut Vec<Action>) {
        if let Some(standby) = self.runtimes[runtime].standby.take() {
            self.retire(standby.slot, actions);
        }
    }

    /// A program has failed. Returns whether the host before it has taken its place.
    pub(super) fn hand_back(&mut self, slot: RuntimeIndex, fault: &Fault, actions: &mut Vec<Action>) -> bool {
        let is_harmless = matches!(fault.kind, FaultKind::NonFinite | FaultKind::DeadlineExceeded);
        !is_harmless && self.hand_back_because(slot, fault, fault.kind.explanation().to_owned(), actions)
    }

    /// A new host has died of what its program does before that was known to be good: nothing is tried twice. One that was
    /// killed from outside is gone on with in another host, like any other.
    pub(super) fn hand_back_from_the_dead(&mut self, slot: RuntimeIndex, loss: &Loss, actions: &mut Vec<Action>) -> bool {
        let Some(end @ ProcessEnd::Killed(signal)) = loss.end else { return false };
        let program = &mut self.programs[slot.0];
        let Some(runtime) = program.runtime.filter(|_| OF_ITSELF.map(|signal| signal as i32).contains(&signal)) else { return false };
        let had_begun = matches!(program.phase, Phase::Starting { .. } | Phase::Running | Phase::Held | Phase::Recovering { .. });
        let (ticks, before) = (program.ticks, program.phase.clone());
        if had_begun {
            program.phase = Phase::Recovering { deadline_ms: None };
        }
        let is_on_trial = self.runtimes[runtime].slot == Some(slot) && self.runtimes[runtime].standby.is_some();
        if !had_begun || !(is_on_trial || self.is_coming(runtime, slot)) {
            self.programs[slot.0].phase = before;
            return false;
        }
        let tick = loss.tick.map_or(ticks, |(_, tick)| tick);
        let fault = Fault { kind: FaultKind::Trap, tick, block: None, line: None, repeats: 0 };
        let is_handed_back = self.hand_back_because(slot, &fault, format!("its new host {end} in tick {tick}"), actions);
        if !is_handed_back {
            self.programs[slot.0].phase = before;
        }
        is_handed_back
    }

    fn hand_back_because(&mut self, slot: RuntimeIndex, fault: &Fault, why: String, actions: &mut Vec<Action>) -> bool {
        let Some(runtime) = self.programs[slot.0].runtime else { return false };
        if self.live_slot(runtime).is_some() && self.is_coming(runtime, slot) {
            return self.fail_before_it_is_heard(runtime, slot, (fault, why), actions);
        }
        if self.runtimes[runtime].slot != Some(slot) {
            return false;
        }
        let Some(standby) = self.runtimes[runtime].standby.take() else { return false };
        self.end_flight(runtime, actions);
        let state = &mut self.runtimes[runtime];
        let is_since = |change: ChangeId| change >= standby.change;
        let failed: Vec<ChangeId> = state.history.iter().map(|entry| entry.change).filter(|change| is_since(*change)).collect();
        let last = state.current.clone();
        state.slot = Some(standby.slot);
        state.generation = self.programs[standby.slot.0].generation;
        state.cause = None;
        self.forget_host(runtime, actions);
        let tick = self.programs[standby.slot.0].ticks;
        self.run_again(runtime, &standby.revision, tick);
        self.runtimes[runtime].probation.take_if(|_| standby.trial.as_ref().is_some_and(|trial| !trial.is_patch));
        self.runtimes[runtime].trial = standby.trial;
        if standby.freeze_at_ms.is_none() {
            self.tell_unasked(runtime, standby.slot, LiveChange::Run, Logged::Run {}, actions);
        }
        self.crossfade(Some(slot), standby.slot, CROSSFADE_MS, actions);
        if let Some(last) = last {
            let failed: Vec<_> = failed.into_iter().map(|change| (change, Arc::clone(&last))).collect();
            // The new host was heard, and then it was not.
            let fall = Fall { fault: fault.clone(), why, tick: fault.tick, is_late: true };
            self.tell_rolled_back(runtime, &failed, &standby.revision, fall, actions);
        }
        self.retire(slot, actions);
        true
    }

    /// A change that the failed host had is over with it.
    fn end_flight(&mut self, runtime: usize, actions: &mut Vec<Action>) {
        let Some(flight) = self.runtimes[runtime].flight.as_ref().filter(|flight| matches!(flight.way, Way::Host { .. })) else { return };
        if flight.recalled.is_some() {
            self.flight_recalled(runtime, actions)
        } else {
            self.flight_failed(runtime, Failure::NoHost, actions)
        }
    }

    fn is_coming(&self, runtime: usize, slot: RuntimeIndex) -> bool {
        self.runtimes[runtime].flight.as_ref().is_some_and(|flight| flight.way == Way::NewHost { slot })
    }

    /// The old host still plays: the new one is not waited for.
    fn fail_before_it_is_heard(
        &mut self,
        runtime: usize,
        slot: RuntimeIndex,
        (fault, why): (&Fault, String),
        actions: &mut Vec<Action>,
    ) -> bool {
        let text = self.texts[slot.0].hash();
        let revision = self.programs[slot.0].revision.as_ref().map(|revision| revision.hash().into());
        let is_fault = why == fault.kind.explanation();
        let failure = if is_fault { Failure::Fault(fault.clone()) } else { Failure::Quarantined { cause: why.clone() } };
        self.runtimes[runtime].refuse(text, looking::cause(why, revision, Some(fault)));
        self.flight_failed(runtime, failure, actions);
        self.retire(slot, actions);
        true
    }

    /// Whether this life of its runtime is to be heard.
    pub(super) fn is_heard(&self, slot: RuntimeIndex) -> bool {
        let Some(runtime) = self.programs[slot.0].runtime else { return true };
        self.runtimes[runtime].slot == Some(slot) || self.live_slot(runtime).is_none()
    }
}
