//! How loud which runtime is, and on which channels of the device. Part of the state machine: see the parent module.

use ipc::message::OutputMap;

use super::edits::runtime_name;
use super::program::Phase;
use super::runtime::Level;
use super::{Action, Policy, Report, RuntimeIndex};
use crate::control::protocol::{Channels, ControlEvent, ErrorCode, ErrorReply, Mix, Silenced};

/// How long a change of level takes when nobody says otherwise, in milliseconds: no click, and felt as immediate.
const RAMP_MS: u32 = 10;

/// The same for `panic`: as short as it can be without a click, whatever plays.
const PANIC_RAMP_MS: u32 = 3;

impl Policy {
    pub(super) fn mix_of(&self, runtime: usize) -> Mix {
        let level = self.runtimes[runtime].level;
        let is_audible = !level.is_muted && (level.is_soloed || !self.is_solo_heard);
        let Level { gain, is_muted, is_soloed, output } = level;
        Mix { gain, is_muted, is_soloed, is_audible, output }
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

    /// Brings a runtime to other channels.
    pub(super) fn set_output(&mut self, runtime: usize, channels: Channels, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        if let Some(reason) = self.unheard(channels) {
            return Err(ErrorReply::new(ErrorCode::InvalidParams, reason).in_field("params.channels"));
        }
        self.change_levels(None, actions, |policy| policy.runtimes[runtime].level.output = channels);
        Ok(())
    }

    /// Why these channels are not heard, if they are not.
    fn unheard(&self, channels: Channels) -> Option<String> {
        let (name, ..) = self.device_name.as_ref()?;
        let count = self.device_channels.filter(|count| u32::from(channels.highest()) > *count && channels != Channels::MAIN)?;
        let plural = if count == 1 { "" } else { "s" };
        Some(format!("the output {name} has {count} channel{plural}; there is no {}", channels.highest()))
    }

    /// Of runtimes that go where the output has nothing, everybody is told.
    pub(super) fn tell_unheard(&self, actions: &mut Vec<Action>) {
        for runtime in self.runtimes.iter().filter(|runtime| !runtime.is_vacant()) {
            if let (Some(reason), Some(slot)) = (self.unheard(runtime.level.output), runtime.slot) {
                let line = format!("on channels {}, it is not heard: {reason}", runtime.level.output);
                actions.push(Action::Tell(Report::Log { runtime: slot, line }));
            }
        }
    }

    /// Channels that the device is to be opened with.
    pub(super) fn wanted_channels(&self) -> u32 {
        self.runtimes.iter().map(|runtime| runtime.level.output.highest()).max().unwrap_or(0).max(Channels::MAIN.highest()).into()
    }

    /// Brings one lane to its runtime's channels.
    pub(super) fn map_output(&mut self, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let Some(runtime) = self.programs[slot.0].runtime else { return };
        let program = &self.programs[slot.0];
        let current = self.runtimes[runtime].current.as_ref().filter(|_| self.runtimes[runtime].slot == Some(slot));
        let Some(revision) = current.or(program.revision.as_ref()).filter(|revision| revision.plan.has_sound()) else { return };
        let route = route(self.runtimes[runtime].level.output, revision.plan.sides);
        let program = &mut self.programs[slot.0];
        if program.is_lane_added && program.route != route {
            program.route = route;
            actions.push(Action::SetOutput { runtime: slot, route });
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

/// The way of a program's two channels. An output that a program has not is silent (LANGUAGE §20.4); one that goes to a single
/// channel is heard there whole: with half the level of each side, if it has two.
fn route(channels: Channels, sides: [bool; 2]) -> OutputMap {
    let bit = |channel: u8| 1 << (channel.max(1) - 1);
    let (left, right) = (bit(channels.left), bit(channels.right));
    let is_halved = left == right && sides == [true, true];
    OutputMap { left, right, gain: if is_halved { 0.5 } else { 1.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_channel_has_both_sides_of_a_program() {
        let way = |text: &str, sides| {
            let OutputMap { left, right, gain } = route(Channels::new(text).unwrap(), sides);
            (left, right, gain)
        };
        assert_eq!(way("1-2", [true, true]), (0b01, 0b10, 1.0));
        assert_eq!(way("1-2", [true, false]), (0b01, 0b10, 1.0));
        assert_eq!(way("3-4", [false, true]), (0b0100, 0b1000, 1.0));
        assert_eq!(way("4-3", [true, true]), (0b1000, 0b0100, 1.0));
        assert_eq!(way("3", [true, true]), (0b0100, 0b0100, 0.5));
        assert_eq!(way("3", [true, false]), (0b0100, 0b0100, 1.0));
        assert_eq!(way("16", [false, false]), (1 << 15, 1 << 15, 1.0));
    }

    #[test]
    fn channels_are_two_or_one_and_count_from_1_to_16() {
        for (text, shown) in [("1-2", "1-2"), ("16", "16"), ("4-3", "4-3"), ("01", "1")] {
            assert_eq!(Channels::new(text).unwrap().to_string(), shown);
        }
        for text in ["", "0", "17", "1-17", "3-3", "-1", "1-", "1-2-3", "a", "1 - 2", "99999999999"] {
            assert!(Channels::new(text).is_err(), "{text}");
        }
    }
}
