//! Trials, on the tick thread: a change is kept undoable for a while, and undone in the very tick in which it fails.
//!
//! A new revision that fails never costs a block: the old program gets the state of the tick's start, moved back by the
//! plan of the swap, and computes the same tick with the same inputs. What the plan does not carry is as it was at the swap
//! (with a crossfade: as it is now, because the old program has gone on meanwhile). A patch has no old program; undoing it
//! means the memory of the tick's start with the old values in it.
//!
//! Whatever is committed within a trial, a failure goes back to the last revision that has passed its own. Patches join the
//! trials that are open: each ends after its own ticks, and all that are still open are taken back together. A swap ends the
//! trials before it, and takes over what they would have gone back to, if it knows the way there.

use super::handover::{Identity, Outcome, PatchWork, SwapWork, Trial};
use super::stage::Stage;
use crate::host::failure::Failure;
use crate::host::migration::{Memories, Migration};
use crate::host::program::Program;

/// Patches that may be on trial at a time, besides the first of them: as many as anybody sends within a second. The oldest
/// trial ends early where there would be more.
pub(super) const MAX_LATER_PATCHES: usize = 64;

impl Stage {
    /// Whether a failure of the running program would be undone.
    pub(super) fn is_on_trial_rt(&self) -> bool {
        !self.later.is_empty() || self.trial.as_ref().is_some_and(|trial| trial.ticks_left() > 0)
    }

    /// The swap that is on trial.
    fn swap_on_trial_rt(&self) -> Option<&SwapWork> {
        match &self.trial {
            Some(Trial::Swap(swap)) if swap.trial_ticks > 0 => Some(swap),
            Some(Trial::Swap(_) | Trial::Patch(_)) | None => None,
        }
    }

    /// Whether a crossfade is under way.
    pub(super) fn is_fading_rt(&self) -> bool {
        matches!(&self.trial, Some(Trial::Swap(swap)) if !swap.fade.is_over())
    }

    pub(super) fn begin_trial_rt(&mut self) {
        if self.is_on_trial_rt()
            && let Some(deadline) = &mut self.deadline
        {
            deadline.begin_rt();
        }
    }

    /// A patch has been carried out: what may follow from it is undone as long as its trial lasts.
    pub(super) fn join_trial_rt(&mut self, patch: Box<PatchWork>, tick: u64) {
        if patch.trial_ticks == 0 {
            return self.tell_rt(Outcome::Retired(Trial::Patch(patch)));
        }
        if self.trial.is_none() {
            self.trial = Some(Trial::Patch(patch));
        } else {
            if self.later.len() >= MAX_LATER_PATCHES {
                let oldest = self.later.remove(0);
                self.tell_rt(Outcome::TrialCutShort { request: oldest.request, tick });
                self.tell_rt(Outcome::Retired(Trial::Patch(oldest)));
            }
            self.spare_snapshot_rt();
            self.later.push(patch);
        }
        self.begin_trial_rt();
    }

    /// Only the newest patch keeps the memory of the tick's start.
    fn spare_snapshot_rt(&mut self) {
        let Self { trial, later, .. } = self;
        let Some(patch) = newest_patch_rt(trial, later).filter(|patch| !patch.is_untouched) else { return };
        if let Some(snapshot) = patch.snapshot.take() {
            self.tell_rt(Outcome::Unused(snapshot));
        }
    }

    /// Keeps the memory of the tick's start, as long as there is something to go back to.
    pub(super) fn keep_start_rt(&mut self) {
        if !self.is_on_trial_rt() {
            return;
        }
        let Self { trial, later, program, .. } = self;
        let snapshot = match trial {
            // Whatever was patched since: it is the old program that comes back.
            Some(Trial::Swap(swap)) if swap.trial_ticks > 0 => swap.snapshot.as_mut(),
            // The one of before the patch is worth more.
            _ => newest_patch_rt(trial, later).filter(|patch| !patch.is_untouched).and_then(|patch| patch.snapshot.as_mut()),
        };
        if let Some(snapshot) = snapshot {
            snapshot.take_rt(program.engine());
        }
    }

    /// Something but a tick or a patch has written to the program's memory.
    pub(super) fn touch_rt(&mut self) {
        let Self { trial, later, .. } = self;
        if let Some(Trial::Patch(patch)) = trial {
            patch.is_untouched = false;
        }
        later.iter_mut().for_each(|patch| patch.is_untouched = false);
    }

    /// The running program has completed a tick.
    pub(super) fn pass_rt(&mut self, tick: u64) {
        self.failed_in_a_row = 0;
        self.touch_rt();
        let passed = self.trial.as_mut().and_then(|trial| match trial {
            Trial::Swap(swap) => complete_rt(&mut swap.trial_ticks).then_some(swap.request),
            Trial::Patch(patch) => complete_rt(&mut patch.trial_ticks).then_some(patch.request),
        });
        if let Some(request) = passed {
            self.is_unkept = true;
            self.tell_rt(Outcome::TrialPassed { request, tick });
        }
        for index in 0..self.later.len() {
            let patch = &mut self.later[index];
            if complete_rt(&mut patch.trial_ticks) {
                let request = patch.request;
                self.is_unkept = true;
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
        while let Some(index) = self.later.iter().position(|patch| patch.trial_ticks == 0) {
            let patch = self.later.remove(index);
            self.tell_rt(Outcome::Retired(Trial::Patch(patch)));
        }
        if self.trial.is_none() && !self.later.is_empty() {
            self.trial = Some(Trial::Patch(self.later.remove(0)));
        }
    }

    // ------------------------------------------------------------------------------------------------ another swap

    /// `swap` has been committed, and holds the program that ran before it. Ends the trials of that program; what they would
    /// have gone back to is what a failure of the new one goes back to, if the swap has a plan for that.
    pub(super) fn succeed_rt(&mut self, swap: &mut SwapWork, tick: u64) {
        let good = swap.back_to_good.as_ref().map(|back| back.plan().to);
        if good.is_some() && good == self.good_revision_rt() {
            undo_values_rt(&mut self.trial, &mut self.later, &mut swap.program);
            if let Some(Trial::Swap(earlier)) = self.trial.as_mut().filter(|trial| trial.ticks_left() > 0) {
                go_past_rt(earlier, swap);
            }
            std::mem::swap(&mut swap.back, &mut swap.back_to_good);
        }
        self.cut_trials_short_rt(tick);
    }

    /// The last revision that has passed its trial, where another one runs.
    fn good_revision_rt(&self) -> Option<ipc::hash::ContentHash> {
        match &self.trial {
            Some(Trial::Swap(swap)) if swap.trial_ticks > 0 => Some(swap.program.revision()),
            Some(Trial::Patch(patch)) => Some(patch.previous),
            Some(Trial::Swap(_)) | None => self.later.first().map(|patch| patch.previous),
        }
    }

    fn cut_trials_short_rt(&mut self, tick: u64) {
        if let Some(trial) = self.trial.take() {
            self.cut_short_rt(trial, tick);
        }
        while !self.later.is_empty() {
            let patch = self.later.remove(0);
            self.cut_short_rt(Trial::Patch(patch), tick);
        }
    }

    fn cut_short_rt(&mut self, trial: Trial, tick: u64) {
        if trial.ticks_left() > 0 {
            self.tell_rt(Outcome::TrialCutShort { request: trial.request(), tick });
        }
        self.tell_rt(Outcome::Retired(trial));
    }

    // ---------------------------------------------------------------------------------------------------- going back

    /// Undoes everything that is on trial, because the running program failed in `tick`. What runs afterwards computes the
    /// tick; `is_late` when the failed one has left too little time for that.
    pub(super) fn roll_back_rt(&mut self, tick: u64, failure: Failure, is_late: bool) {
        self.is_unkept = true;
        let failed = self.identity_rt();
        self.has_break |= self.swap_on_trial_rt().is_some() && self.is_fading_rt();
        let has_start = self.restore_patched_rt();
        if self.swap_on_trial_rt().is_some()
            && let Some(Trial::Swap(mut swap)) = self.trial.take()
        {
            let is_partial = swap.snapshot.is_none() && swap.back.is_some();
            self.return_to_old_rt(&mut swap);
            self.end_rolled_back_rt();
            self.tell_rolled_back_rt(tick, failure, failed, is_partial, is_late);
            let now = self.identity_rt();
            return self.tell_rt(Outcome::RolledBack { tick, failure, failed, now, is_partial, is_late, trial: Trial::Swap(swap) });
        }
        self.end_rolled_back_rt();
        if matches!(self.trial, Some(Trial::Patch(_)))
            && let Some(trial) = self.trial.take()
        {
            let now = self.identity_rt();
            self.tell_rt(Outcome::RolledBack { tick, failure, failed, now, is_partial: !has_start, is_late, trial });
        }
        self.tell_rolled_back_rt(tick, failure, failed, !has_start, is_late);
    }

    fn end_rolled_back_rt(&mut self) {
        self.checkpoints.force_rt();
        self.show_held_rt();
    }

    /// Says of the later patches, oldest first, that they have been undone.
    fn tell_rolled_back_rt(&mut self, tick: u64, failure: Failure, failed: Identity, is_partial: bool, is_late: bool) {
        let now = self.identity_rt();
        while !self.later.is_empty() {
            let trial = Trial::Patch(self.later.remove(0));
            self.tell_rt(Outcome::RolledBack { tick, failure, failed, now, is_partial, is_late, trial });
        }
    }

    /// Puts the memory of the tick's start back, with the old values of everything that was patched, newest first. Returns
    /// whether there was a copy of it.
    fn restore_patched_rt(&mut self) -> bool {
        let Self { trial, later, program, ramps, failed_in_a_row, .. } = self;
        let has_patch = !later.is_empty() || matches!(trial, Some(Trial::Patch(_)));
        if !has_patch {
            return true;
        }
        let start = match trial {
            Some(Trial::Swap(swap)) if swap.trial_ticks > 0 => swap.snapshot.as_ref(),
            _ => newest_patch_rt(trial, later).and_then(|patch| patch.snapshot.as_ref()),
        };
        let has_start = start.is_some();
        if let Some(start) = start {
            start.restore_rt(program.engine_mut());
        }
        let mut reruns_init_only = false;
        for patch in patches_rt(trial, later) {
            match patch.snapshot.as_ref().filter(|_| patch.is_untouched) {
                Some(before) => before.restore_rt(program.engine_mut()),
                None => {
                    let _ = patch.migration.exchange_patches_rt(program.engine_mut());
                    reruns_init_only |= patch.migration.plan().reruns_init_only;
                }
            }
            ramps.give_way_rt(&patch.migration.plan().patches);
            program.set_revision(patch.previous);
            *failed_in_a_row = patch.failed_in_a_row;
        }
        if reruns_init_only {
            // They ran for the new values. Should they fail now, the program runs on with what they left.
            let _ = program.run_init_only_rt();
        }
        has_start
    }

    fn return_to_old_rt(&mut self, swap: &mut SwapWork) {
        if !self.later.is_empty()
            && let Some(start) = &mut swap.snapshot
        {
            // The start of the tick, without what was patched.
            start.take_rt(self.program.engine());
        }
        if let Some(back) = &mut swap.back {
            // Where it leads past the program that the swap started from, the way there is none from what comes back.
            let there = swap.there.as_deref().filter(|_| !swap.leads_past);
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

    /// Takes a patch back whose init-only modules failed: nothing but the patch has happened since its snapshot.
    pub(super) fn retract_rt(&mut self, patch: &mut PatchWork) {
        match &patch.snapshot {
            Some(before) => before.restore_rt(self.program.engine_mut()),
            None => drop(patch.migration.exchange_patches_rt(self.program.engine_mut())),
        }
    }
}

/// Counts a completed tick; returns whether it was the last one of the trial.
fn complete_rt(ticks_left: &mut u32) -> bool {
    let was_open = *ticks_left > 0;
    *ticks_left = ticks_left.saturating_sub(1);
    was_open && *ticks_left == 0
}

/// The patches on trial, newest first.
fn patches_rt<'a>(trial: &'a mut Option<Trial>, later: &'a mut [Box<PatchWork>]) -> impl Iterator<Item = &'a mut PatchWork> {
    let first = trial.as_mut().and_then(|trial| match trial {
        Trial::Patch(patch) => Some(&mut **patch),
        Trial::Swap(_) => None,
    });
    later.iter_mut().rev().map(|patch| &mut **patch).chain(first)
}

fn newest_patch_rt<'a>(trial: &'a mut Option<Trial>, later: &'a mut [Box<PatchWork>]) -> Option<&'a mut PatchWork> {
    patches_rt(trial, later).next()
}

/// Puts the old values of everything that is on trial into the program that it was done to, which does not run any more.
fn undo_values_rt(trial: &mut Option<Trial>, later: &mut [Box<PatchWork>], program: &mut Program) {
    let mut reruns_init_only = false;
    for patch in patches_rt(trial, later) {
        let _ = patch.migration.exchange_patches_rt(program.engine_mut());
        reruns_init_only |= patch.migration.plan().reruns_init_only;
        program.set_revision(patch.previous);
    }
    if reruns_init_only {
        let _ = program.run_init_only_rt();
    }
}

/// `swap` is to go back past the program that it replaced, to the one that `earlier` would have gone back to. That one gets
/// the state of now first, so that what the new revision lacks comes back as it is now.
fn go_past_rt(earlier: &mut SwapWork, swap: &mut SwapWork) {
    if let Some(back) = &mut earlier.back {
        let there = earlier.there.as_deref().filter(|_| !earlier.leads_past);
        match &mut earlier.snapshot {
            Some(now) => {
                now.take_rt(swap.program.engine());
                carry_back_rt(back, there, now, &mut earlier.program);
            }
            None => carry_back_rt(back, there, swap.program.engine(), &mut earlier.program),
        }
    }
    std::mem::swap(&mut earlier.program, &mut swap.program);
    swap.failed_in_a_row = earlier.failed_in_a_row;
    swap.leads_past = true;
}

fn carry_back_rt(back: &mut Migration, there: Option<&Migration>, from: &impl Memories, old: &mut Program) {
    let _ = match there {
        Some(there) => back.roll_back_rt(there, from, old.engine_mut()),
        None => back.apply_rt(from, old.engine_mut()),
    };
}
