//! How loud which runtime is. Part of the state machine: see the parent module.

use super::edits::runtime_name;
use super::program::Phase;
use super::{Action, Policy, Report, RuntimeIndex};
use crate::control::protocol::{ControlEvent, Mix, Silenced};

/// How long a change of level takes when nobody says otherwise, in milliseconds: no click, and felt as immediate.
const RAMP_MS: u32 = 10;

/// The same for `panic`: as short as it can be without a click, whatever plays.
const PANIC_RAMP_MS: u32 = 3;

impl Policy {
    pub(super) fn mix_of(&self, runtime: usize) -> Mix {
        let level = self.runtimes[runtime].level;
        let is_audible = !level.is_muted && (level.is_soloed || !self.is_solo_heard);
        Mix { gain: level.gain, is_muted: level.is_muted, is_soloed: level.is_soloed, is_audible }
    }

    /// Whether a runtime plays that is soloed. One that does not run any more silences nobody.
    fn has_solo(&self) -> bool {
        let plays = |slot: RuntimeIndex| {
            let program = &self.programs[slot.0];
            matches!(program.phase, Phase::Running | Phase::Held | Phase::Recovering { .. }) && !program.is_retiring
        };
        self.runtimes.iter().any(|runtime| runtime.level.is_soloed && runtime.slot.is_some_and(plays))
    }

    /// A runtime that is soloed has begun to play, or plays no more: everybody is mixed anew.
    pub(super) fn advance_mix(&mut self, actions: &mut Vec<Action>) {
        if self.is_solo_heard != self.has_solo() {
            self.change_levels(None, actions, |_| {});
        }
    }

    /// Linear gain of a runtime's lanes as the device host is to have it.
    fn gain_of(&self, runtime: usize) -> f32 {
        let mix = self.mix_of(runtime);
        if mix.is_audible { mix.gain as f32 } else { 0.0 }
    }

    /// Changes levels. Of every runtime that is mixed otherwise by that, everybody is told: a solo concerns them all.
    pub(super) fn change_levels(&mut self, ramp_ms: Option<u32>, actions: &mut Vec<Action>, change: impl FnOnce(&mut Self)) {
        let before: Vec<Mix> = (0..self.runtimes.len()).map(|runtime| self.mix_of(runtime)).collect();
        change(self);
        self.mix(ramp_ms, actions);
        for (runtime, before) in before.into_iter().enumerate() {
            let mix = self.mix_of(runtime);
            if mix != before && !self.runtimes[runtime].is_vacant() {
                let runtime = runtime_name(&self.runtimes[runtime].name);
                actions.push(Action::Tell(Report::Control(Box::new(ControlEvent::Mixed { runtime, mix }))));
            }
        }
    }

    /// Tells the device host of every lane whose level has changed.
    pub(super) fn mix(&mut self, ramp_ms: Option<u32>, actions: &mut Vec<Action>) {
        self.is_solo_heard = self.has_solo();
        let rate = self.sample_rate.as_ref().map_or(ipc::limits::DEFAULT_SAMPLE_RATE_HZ, |(rate, _)| *rate);
        let ramp_frames = u64::from(ramp_ms.unwrap_or(RAMP_MS)) * u64::from(rate) / 1_000;
        let ramp_frames = u32::try_from(ramp_frames).unwrap_or(u32::MAX);
        for slot in 0..self.programs.len() {
            self.set_gain(RuntimeIndex(slot), ramp_frames, actions);
        }
    }

    /// Brings one lane to its runtime's level.
    pub(super) fn set_gain(&mut self, slot: RuntimeIndex, ramp_frames: u32, actions: &mut Vec<Action>) {
        let Some(runtime) = self.programs[slot.0].runtime else { return };
        let gain = if self.is_heard(slot) { self.gain_of(runtime) } else { 0.0 };
        let program = &mut self.programs[slot.0];
        if program.is_lane_added && program.gain != gain {
            program.gain = gain;
            actions.push(Action::SetGain { runtime: slot, gain, ramp_frames });
        }
    }

    /// Silence now: every runtime is muted and plays on.
    pub(super) fn panic_now(&mut self, actions: &mut Vec<Action>) -> Silenced {
        let mut runtimes = Vec::new();
        self.change_levels(Some(PANIC_RAMP_MS), actions, |policy| {
            for runtime in &mut policy.runtimes {
                if !std::mem::replace(&mut runtime.level.is_muted, true) {
                    runtimes.push(runtime_name(&runtime.name));
                }
            }
        });
        Silenced { runtimes }
    }
}
