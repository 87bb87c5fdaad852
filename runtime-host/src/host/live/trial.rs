//! Trials, on the tick thread: a change is kept undoable for a while, and undone in the very tick in which it fails.
//!
//! A new revision that fails never costs a block: the old program gets the state of the tick's start, moved back by the
//! plan of the swap, and computes the same tick with the same inputs. What the plan does not carry is as it was at the swap
//! (with a crossfade: as it is now, because the old program has gone on meanwhile). A patch has no old program; undoing it
//! means the memory of the tick's start with the old values in it.

use super::handover::{Outcome, PatchWork, SwapWork, Trial};
use super::stage::Stage;
use crate::host::failure::Failure;
use crate::host::migration::{Memories, Migration};

impl Stage {
    /// Whether a failure of the running program would be undone.
    pub(super) fn is_on_trial_rt(&self) -> bool {
        match &self.trial {
            Some(Trial::Swap(swap)) => swap.trial_ticks > 0,
            Some(Trial::Patch(patch)) => patch.trial_ticks > 0,
            None => false,
        }
    }

    pub(super) fn begin_trial_rt(&mut self) {
        if self.is_on_trial_rt()
            && let Some(deadline) = &mut self.deadline
        {
            deadline.begin_rt();
        }
    }

    /// Keeps the memory of the tick's start, as long as there is something to go back to.
    pub(super) fn keep_start_rt(&mut self) {
        if !self.is_on_trial_rt() {
            return;
        }
        let snapshot = match &mut self.trial {
            Some(Trial::Swap(swap)) => swap.snapshot.as_mut(),
            // The one of before the patch is worth more.
            Some(Trial::Patch(patch)) if patch.is_untouched => None,
            Some(Trial::Patch(patch)) => patch.snapshot.as_mut(),
            None => None,
        };
        if let Some(snapshot) = snapshot {
            snapshot.take_rt(self.program.engine());
        }
    }

    /// The running program has completed a tick.
    pub(super) fn pass_rt(&mut self, tick: u64) {
        self.failed_in_a_row = 0;
        let (request, ticks) = match &mut self.trial {
            Some(Trial::Swap(swap)) => (swap.request, &mut swap.trial_ticks),
            Some(Trial::Patch(patch)) => {
                patch.is_untouched = false;
                (patch.request, &mut patch.trial_ticks)
            }
            None => return,
        };
        if *ticks > 0 {
            *ticks -= 1;
            if *ticks == 0 {
                self.tell_rt(Outcome::TrialPassed { request, tick });
            }
        }
    }

    /// Gives back what nothing goes back to any more.
    pub(super) fn let_go_rt(&mut self) {
        let is_over = match &self.trial {
            Some(Trial::Swap(swap)) => swap.trial_ticks == 0 && swap.fade.is_over(),
            Some(Trial::Patch(patch)) => patch.trial_ticks == 0,
            None => false,
        };
        if is_over && let Some(trial) = self.trial.take() {
            self.tell_rt(Outcome::Retired(trial));
        }
    }

    /// Another change is committed: the running revision is what the next trial goes back to.
    pub(super) fn cut_trial_short_rt(&mut self, tick: u64) {
        let is_on_trial = self.is_on_trial_rt();
        let Some(trial) = self.trial.take() else { return };
        if is_on_trial {
            self.tell_rt(Outcome::TrialCutShort { request: trial.request(), tick });
        }
        self.tell_rt(Outcome::Retired(trial));
    }

    /// Undoes the change on trial, because the running program failed in `tick`. What runs afterwards computes the tick.
    pub(super) fn roll_back_rt(&mut self, tick: u64, failure: Failure) {
        let failed = self.identity_rt();
        let Some(mut trial) = self.trial.take() else { return };
        match &mut trial {
            Trial::Swap(swap) => self.return_to_old_rt(swap),
            Trial::Patch(patch) => self.undo_patch_rt(patch, false),
        }
        self.checkpoints.force_rt();
        self.show_held_rt();
        self.tell_rt(Outcome::RolledBack { tick, failure, failed, now: self.identity_rt(), trial });
    }

    fn return_to_old_rt(&mut self, swap: &mut SwapWork) {
        if let Some(back) = &mut swap.back {
            let there = swap.there.as_deref();
            // Plan and memories were checked against each other when the swap was prepared; memories never change size.
            match &swap.snapshot {
                Some(start) => carry_back_rt(back, there, start, &mut swap.program),
                None => carry_back_rt(back, there, self.program.engine(), &mut swap.program),
            }
        }
        std::mem::swap(&mut self.program, &mut swap.program);
        self.failed_in_a_row = swap.failed_in_a_row;
        self.ramps.follow_rt(swap.back.as_ref().map(Migration::plan));
    }

    /// Puts the old values back. `is_before_first_tick`: nothing but the patch itself has happened since the snapshot.
    pub(super) fn undo_patch_rt(&mut self, patch: &mut PatchWork, is_before_first_tick: bool) {
        if let Some(start) = &patch.snapshot {
            start.restore_rt(self.program.engine_mut());
        }
        let is_undone = patch.snapshot.is_some() && (is_before_first_tick || patch.is_untouched);
        if !is_undone {
            let _ = patch.migration.exchange_patches_rt(self.program.engine_mut());
            if patch.migration.plan().reruns_init_only && !is_before_first_tick {
                // They ran for the new values. Should they fail now, the program runs on with what they left.
                let _ = self.program.run_init_only_rt();
            }
        }
        self.ramps.give_way_rt(&patch.migration.plan().patches);
        self.program.set_revision(patch.previous);
        if !is_before_first_tick {
            self.failed_in_a_row = patch.failed_in_a_row;
        }
    }
}

fn carry_back_rt(back: &mut Migration, there: Option<&Migration>, from: &impl Memories, old: &mut crate::host::program::Program) {
    let _ = match there {
        Some(there) => back.roll_back_rt(there, from, old.engine_mut()),
        None => back.apply_rt(from, old.engine_mut()),
    };
}
