//! When a checkpoint is written, and what it says (DESIGN §10). On the tick thread.
//!
//! At the start of a tick, after everything that is to take effect in it has: every few ticks, and in every tick in which
//! anything but a write of values or MIDI took effect, because the log knows nothing else. And before anybody is told what has come
//! of a tick (a failure, a trial that has passed): whoever executes ticks again begins after it, and tells it no second time.
//! How often does not influence what the program computes. Programs without a state segment are not checkpointed.

use ipc::live::RequestId;
use ipc::midi::Received;
use ipc::state::{Applied, Clock, Head, OpenTrial, Role, Write};
use ipc::wires::WireId;

use super::handover::{SwapWork, Trial};
use super::stage::Stage;
use crate::host::program::Program;
use crate::realtime::monotonic_ns_rt;

/// Longest time that executing the ticks since a checkpoint again may take, in nanoseconds: a fraction of the usual lead of
/// 10.7 ms, most of which is gone when the death has been noticed.
const MAX_REPLAY_NS: u64 = 1_000_000;
/// What copying may take of a tick's time in the mean: one part in this many.
const COPY_PARTS: u64 = 50;
/// Most ticks between two checkpoints, however cheap they are to execute again.
pub const MAX_INTERVAL_TICKS: u64 = 64;

/// How far apart checkpoints are, from what they cost and what executing ticks again would cost.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    tick_ns: u64,
    /// Of the last checkpoints, in the mean.
    copy_ns: u64,
    /// Of the last ticks: the highest, slowly forgotten.
    run_ns: u64,
}

impl Pace {
    /// For ticks that last `tick_ns`.
    pub fn new(tick_ns: u64) -> Self {
        Self { tick_ns: tick_ns.max(1), copy_ns: 0, run_ns: 0 }
    }

    pub fn note_run_rt(&mut self, spent_ns: u64) {
        self.run_ns = spent_ns.max(self.run_ns - self.run_ns / 64);
    }

    pub fn note_copy_rt(&mut self, spent_ns: u64) {
        let before = if self.copy_ns == 0 { spent_ns } else { self.copy_ns };
        self.copy_ns = (3 * (before / 4)).saturating_add(spent_ns / 4);
    }

    /// Ticks from one checkpoint to the next.
    pub fn interval_ticks_rt(&self) -> u64 {
        let most = MAX_REPLAY_NS / self.run_ns.max(1);
        let least = self.copy_ns.saturating_mul(COPY_PARTS).div_ceil(self.tick_ns);
        most.max(least).clamp(1, MAX_INTERVAL_TICKS)
    }
}

/// What a stage knows of its checkpoints.
pub struct Checkpoints {
    /// Number of the newest.
    pub(super) sequence: u64,
    /// Number of the one that the old program of the trial or crossfade has; `None` when it has none.
    pub(super) kept: Option<u64>,
    /// The old program is not as that one has it any more.
    kept_changes: bool,
    is_forced: bool,
    due_tick: u64,
    pace: Pace,
    clock: Option<Clock>,
    pub(super) applied: Applied,
}

impl Checkpoints {
    pub fn new(tick_ns: u64) -> Self {
        let pace = Pace::new(tick_ns);
        Self { sequence: 0, kept: None, kept_changes: false, is_forced: false, due_tick: 0, pace, clock: None, applied: Applied::default() }
    }

    /// Something has happened that no log knows.
    pub fn force_rt(&mut self) {
        self.is_forced = true;
    }

    /// A request has taken effect that no log knows.
    pub fn applied_rt(&mut self, request: RequestId, tick: u64) {
        self.force_rt();
        self.applied.push_rt(request, tick);
    }

    /// A swap has been committed.
    pub fn swapped_rt(&mut self, request: RequestId, tick: u64) {
        self.applied_rt(request, tick);
        self.kept = None;
        self.kept_changes = true;
    }

    /// The old program of a crossfade runs.
    pub fn kept_changes_rt(&mut self) {
        self.kept_changes = true;
    }

    /// A request has written values. Where a checkpoint comes in this tick anyway, whatever follows belongs to it, so that
    /// nothing is known of later requests without the earlier ones.
    pub fn log_set_rt(&mut self, program: &mut Program, request: RequestId, tick: u64, steps: u32, writes: &[Write]) {
        self.is_forced = self.is_forced || !program.log_set_rt(request, tick, steps, writes);
        self.applied.push_rt(request, tick);
    }

    /// Messages have come in. As [`Checkpoints::log_set_rt`].
    pub fn log_midi_rt(&mut self, program: &mut Program, request: RequestId, tick: u64, messages: &[Received]) {
        self.is_forced = self.is_forced || !program.log_midi_rt(request, tick, messages);
        self.applied.push_rt(request, tick);
    }

    /// A control wire has brought a value. As [`Checkpoints::log_set_rt`], but that nobody has asked for it.
    pub fn log_wire_rt(&mut self, program: &mut Program, wire: WireId, tick: u64, write: &Write) {
        self.is_forced = self.is_forced || !program.log_wire_rt(wire, tick, write);
    }

    pub fn note_run_rt(&mut self, spent_ns: u64) {
        self.pace.note_run_rt(spent_ns);
    }
}

impl Stage {
    /// Before the first tick: what there is to go on from if it is also the last.
    pub fn open(&mut self, tick: u64, clock: Option<Clock>) {
        self.tick = tick;
        self.checkpoints.clock = clock;
        self.program.complete_rt(tick, clock);
        self.checkpoint_rt(tick, false);
    }

    /// Says where the clock is when a tick begins, for the case that its checkpoint is the first of a program.
    pub fn put_clock_rt(&mut self, clock: Option<Clock>) {
        self.checkpoints.clock = clock;
    }

    /// The output of all ticks below `ticks` has been delivered.
    pub fn complete_rt(&mut self, ticks: u64, clock: Option<Clock>) {
        self.checkpoints.clock = clock;
        self.program.complete_rt(ticks, clock);
    }

    /// Writes a checkpoint of `tick` if it is time for one or something has happened that only a checkpoint keeps.
    pub(super) fn checkpoint_if_due_rt(&mut self, tick: u64) {
        let is_due = self.checkpoints.is_forced || tick >= self.checkpoints.due_tick;
        if is_due && !self.is_replaying && self.program.keeps_state_rt() {
            self.checkpoint_rt(tick, true);
        }
    }

    pub(super) fn checkpoint_rt(&mut self, tick: u64, has_begun: bool) {
        let begin_ns = monotonic_ns_rt();
        let Self { program, trial, ramps, checkpoints, .. } = self;
        checkpoints.keep_old_rt(trial.as_mut(), tick, has_begun);
        let head = Head {
            tick,
            has_begun,
            role: Role::Running { kept: checkpoints.kept },
            revision: program.revision(),
            is_frozen: self.is_frozen,
            has_break: self.has_break,
            failed_in_a_row: self.failed_in_a_row,
            trial: trial.as_ref().map(open_trial_rt),
        };
        checkpoints.sequence += 1;
        program.put_clock_rt(checkpoints.clock);
        program.checkpoint_rt(checkpoints.sequence, &head, ramps.as_slice_rt(), &checkpoints.applied);
        checkpoints.pace.note_copy_rt(monotonic_ns_rt().saturating_sub(begin_ns));
        self.is_unkept = false;
        checkpoints.is_forced = false;
        checkpoints.due_tick = tick + checkpoints.pace.interval_ticks_rt();
    }
}

impl Checkpoints {
    /// Writes a checkpoint of the program that may come back or is being blended out, unless it is as the last one has it.
    fn keep_old_rt(&mut self, trial: Option<&mut Trial>, tick: u64, has_begun: bool) {
        let Some(Trial::Swap(swap)) = trial else {
            self.kept = None;
            return;
        };
        if !std::mem::take(&mut self.kept_changes) {
            return;
        }
        let head = kept_head_rt(swap, tick, has_begun);
        self.sequence += 1;
        self.kept = swap.program.checkpoint_rt(self.sequence, &head, &[], &self.applied).then_some(self.sequence);
    }
}

fn kept_head_rt(swap: &SwapWork, tick: u64, has_begun: bool) -> Head {
    Head {
        tick,
        has_begun,
        role: Role::Kept,
        revision: swap.program.revision(),
        is_frozen: false,
        has_break: false,
        failed_in_a_row: swap.failed_in_a_row,
        trial: None,
    }
}

fn open_trial_rt(trial: &Trial) -> OpenTrial {
    match trial {
        Trial::Swap(swap) => OpenTrial {
            request: swap.request,
            is_patch: false,
            ticks_left: swap.trial_ticks,
            fade_done_frames: swap.fade.done_frames,
            fade_total_frames: swap.fade.total_frames,
        },
        Trial::Patch(patch) => {
            OpenTrial { request: patch.request, is_patch: true, ticks_left: patch.trial_ticks, fade_done_frames: 0, fade_total_frames: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 2_666_667;

    fn interval(copy_ns: u64, run_ns: u64) -> u64 {
        let mut pace = Pace::new(TICK_NS);
        (0..8).for_each(|_| pace.note_copy_rt(copy_ns));
        pace.note_run_rt(run_ns);
        pace.interval_ticks_rt()
    }

    #[test]
    fn cheap_ticks_are_executed_again_rather_than_copied_and_dear_ones_are_not() {
        assert_eq!(interval(1_300, 2_000), MAX_INTERVAL_TICKS);
        assert_eq!(interval(1_300, 50_000), 20);
        assert_eq!(interval(1_300, 1_500_000), 1);
    }

    #[test]
    fn copying_takes_two_hundredths_of_the_time_at_most() {
        let copy_ns = 700_000;
        let ticks = interval(copy_ns, 1_500_000);
        assert!(copy_ns * 50 <= ticks * TICK_NS + TICK_NS && ticks < MAX_INTERVAL_TICKS, "{ticks}");
    }

    #[test]
    fn one_dear_tick_is_forgotten_and_a_checkpoint_that_took_long_is_evened_out() {
        let mut pace = Pace::new(TICK_NS);
        pace.note_run_rt(900_000);
        assert_eq!(pace.interval_ticks_rt(), 1);
        (0..500).for_each(|_| pace.note_run_rt(10_000));
        assert_eq!(pace.interval_ticks_rt(), MAX_INTERVAL_TICKS);
        (0..20).for_each(|_| pace.note_copy_rt(1_000));
        pace.note_copy_rt(400_000);
        (0..20).for_each(|_| pace.note_copy_rt(1_000));
        assert!(pace.copy_ns < 4_000, "{}", pace.copy_ns);
    }
}
