//! Going on where another host stopped: a stage takes over what a checkpoint says, and executes the ticks since once more.
//!
//! On the control thread, before the tick thread begins. Nothing is published, nothing is written down and no clock decides:
//! the ticks come out as they did before, failing ones included. What comes of them (a trial that passes or is rolled back,
//! failures to report) is reported afterwards: it has not been reported before, or a checkpoint would have been written first.

use ipc::crash;
use ipc::hash::ContentHash;
use ipc::live::RequestId;
use ipc::state::{Applied, Head, Logged, LoggedMidi, LoggedSet, LoggedWire, Ramp, Role};

use super::commit::write_all_rt;
use super::handover::Trial;
use super::stage::{HOLD_AFTER_TICKS, Stage};
use super::wires::WiringWork;
use crate::registry::runtime::Runtime;

/// What a stage goes on from, besides its program.
pub struct Recalled {
    pub head: Head,
    /// The highest sequence number that any checkpoint of the runtime has.
    pub sequence: u64,
    pub ramps: Vec<Ramp>,
    pub applied: Applied,
    /// Inputs since the checkpoint, oldest first.
    pub inputs: Vec<Logged>,
    /// The change that is on trial, and what it goes back to.
    pub trial: Option<Trial>,
    /// Its control wires; what belongs to the ticks that are executed again has been taken off their tape.
    pub wiring: Box<WiringWork>,
}

impl Stage {
    /// Takes over what was, and executes the ticks from the checkpoint's to the one before `end` once more. What takes effect
    /// in tick `end` has taken effect then, and the program has not run in it.
    pub fn recall(&mut self, recalled: Recalled, end: u64, runtime: &mut dyn Runtime) {
        let Recalled { head, sequence, ramps, applied, inputs, trial, wiring } = recalled;
        self.wiring = wiring;
        self.failed_in_a_row = head.failed_in_a_row;
        self.is_frozen = head.is_frozen;
        self.has_break = head.has_break;
        self.has_begun = head.has_begun;
        self.ramps.recall(&ramps);
        self.checkpoints.sequence = sequence;
        self.checkpoints.applied = applied;
        self.checkpoints.kept = match head.role {
            Role::Running { kept } => kept.filter(|_| trial.is_some()),
            Role::Kept => None,
        };
        self.trial = trial;
        self.show_held_rt();
        self.replay(&inputs, head.tick, end, runtime);
        // The next host that takes over is not to execute all this again.
        self.checkpoints.force_rt();
    }

    fn replay(&mut self, inputs: &[Logged], first: u64, end: u64, runtime: &mut dyn Runtime) {
        self.is_replaying = true;
        let mut inputs = inputs.iter().peekable();
        for tick in first..=end {
            self.tick = tick;
            self.begin_again_rt(tick, std::iter::from_fn(|| inputs.next_if(|input| input.tick() <= tick)));
            if tick < end {
                crash::begin_tick_rt(tick, &self.program.revision());
                let has_run = self.run_rt(tick, runtime);
                self.end_rt(has_run);
            }
        }
        crash::end_tick_rt();
        self.is_replaying = false;
        self.has_begun = true;
    }

    /// The start of a tick that has begun before.
    fn begin_again_rt<'a>(&mut self, tick: u64, inputs: impl Iterator<Item = &'a Logged>) {
        self.has_fading_run = false;
        if !std::mem::take(&mut self.has_begun) {
            self.ramps.step_rt(self.program.engine_mut());
        }
        for input in inputs {
            let request = match input {
                Logged::Set(LoggedSet { request, writes, steps, .. }) => {
                    write_all_rt(&mut self.ramps, self.program.engine_mut(), writes, *steps);
                    self.touch_rt();
                    request
                }
                Logged::Midi(LoggedMidi { request, messages, .. }) => {
                    self.receive_rt(messages);
                    request
                }
                Logged::Wire(LoggedWire { wire, write, .. }) => {
                    self.ramps.write_rt(self.program.engine_mut(), write);
                    self.touch_rt();
                    self.wiring.note_rt(*wire, tick, write);
                    continue;
                }
            };
            self.checkpoints.applied.push_rt(*request, tick);
        }
    }

    /// What is on trial, and how many ticks it still has to complete.
    pub fn open_trial(&self) -> Option<(RequestId, u32)> {
        match &self.trial {
            Some(Trial::Swap(swap)) => Some((swap.request, swap.trial_ticks)),
            Some(Trial::Patch(patch)) => Some((patch.request, patch.trial_ticks)),
            None => None,
        }
        .filter(|(_, ticks)| *ticks > 0)
    }

    /// The revision that runs.
    pub fn revision(&self) -> ContentHash {
        self.program.revision()
    }

    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    pub fn is_held(&self) -> bool {
        self.failed_in_a_row >= HOLD_AFTER_TICKS
    }

    /// Requests that have taken effect, oldest first.
    pub fn applied_requests(&self) -> Vec<(RequestId, u64)> {
        self.checkpoints.applied.iter().collect()
    }
}
