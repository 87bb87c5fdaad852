//! Changes taking effect, on the tick thread at the start of a tick: swaps, patches, resets, writes, reads.

use std::sync::Arc;

use ipc::live::RequestId;
use ipc::midi::Received;
use ipc::state::Write;

use super::handover::{Action, Command, GetWork, Outcome, PatchWork, Reason, ResetWork, SetWork, SwapWork, Trial};
use super::ramps::Ramps;
use super::stage::{HOLD_AFTER_TICKS, Pending, Stage};
use crate::host::engine::Engine;
use crate::host::failure::Failure;
use crate::host::items::Place;
use crate::host::migration::{Carried, Migration};
use crate::host::program::Program;
use crate::realtime::monotonic_ns_rt;

impl Stage {
    /// Commits a swap: state moves, the programs change places.
    pub(super) fn commit_rt(&mut self, pending: Pending, tick: u64) {
        let begin_ns = monotonic_ns_rt();
        let Pending { mut swap, at_tick, .. } = pending;
        let carried = match carry_rt(&self.program, &mut swap) {
            Ok(carried) => carried,
            Err(reason) => return self.refuse_rt(Command { request: swap.request, at_tick, action: Action::Swap(swap) }, reason),
        };
        self.report_rest_rt();
        if let Err(failure) = initialise_rt(&mut swap) {
            return self.reject_rt(swap, at_tick, tick, carried, failure);
        }
        swap.program.write_rt(&swap.assets);
        std::mem::swap(&mut self.program, &mut swap.program);
        swap.failed_in_a_row = std::mem::take(&mut self.failed_in_a_row);
        self.has_break |= self.is_fading_rt();
        let is_old_heard = self.tick_frames > 0 && swap.failed_in_a_row < HOLD_AFTER_TICKS;
        self.succeed_rt(&mut swap, tick);
        self.checkpoints.swapped_rt(swap.request, tick);
        self.show_held_rt();
        self.ramps.follow_rt(swap.there.as_deref().map(Migration::plan));
        if !is_old_heard || swap.leads_past {
            // There is nothing to hear of the old program, or it is kept no longer.
            self.has_break |= is_old_heard && !std::mem::take(&mut swap.fade).is_over();
        }
        let (request, there, now) = (swap.request, swap.there.clone(), self.identity_rt());
        self.trial = Some(Trial::Swap(swap));
        self.begin_trial_rt();
        let commit_ns = monotonic_ns_rt().saturating_sub(begin_ns);
        self.tell_rt(Outcome::Committed { request, tick, commit_ns, carried, there, now });
        self.let_go_rt();
    }

    /// The new revision failed before its first tick; nothing of the running one was touched.
    fn reject_rt(&mut self, swap: Box<SwapWork>, at_tick: Option<u64>, tick: u64, carried: Carried, failure: Failure) {
        if swap.trial_ticks == 0 {
            let command = Command { request: swap.request, at_tick, action: Action::Swap(swap) };
            return self.refuse_rt(command, Reason::InitialisationFailed(failure));
        }
        let (failed, now) = (swap.program.identity(), self.identity_rt());
        let (request, there) = (swap.request, swap.there.clone());
        self.tell_rt(Outcome::Committed { request, tick, commit_ns: 0, carried, there, now: failed });
        self.tell_rt(Outcome::RolledBack { tick, failure, failed, now, is_partial: false, is_late: false, trial: Trial::Swap(swap) });
    }

    /// Lets anything but a swap take effect.
    pub(super) fn apply_rt(&mut self, command: Command, tick: u64) {
        let Command { request, at_tick, action } = command;
        match action {
            Action::Patch(patch) => self.patch_rt(patch, at_tick, tick),
            Action::Reset(reset) => self.reset_rt(request, at_tick, reset, tick),
            Action::Set(set) => self.set_rt(request, at_tick, set, tick),
            Action::Get(get) => self.get_rt(request, at_tick, get, tick),
            Action::Midi(messages) => {
                self.receive_rt(&messages);
                self.checkpoints.log_midi_rt(&mut self.program, request, tick, &messages);
                self.tell_rt(Outcome::Applied { tick, command: Command { request, at_tick, action: Action::Midi(messages) } });
            }
            Action::Wire(mut wiring) => {
                std::mem::swap(&mut self.wiring, &mut wiring);
                self.tell_rt(Outcome::Applied { tick, command: Command { request, at_tick, action: Action::Wire(wiring) } });
            }
            Action::Freeze => {
                self.has_break |= !std::mem::replace(&mut self.is_frozen, true);
                self.applied_rt(request, at_tick, Action::Freeze, tick);
            }
            Action::Run => {
                self.has_break |= std::mem::replace(&mut self.is_frozen, false);
                self.applied_rt(request, at_tick, Action::Run, tick);
            }
            Action::CancelSwap => match self.pending.take() {
                Some(pending) => {
                    self.tell_rt(Outcome::Cancelled(pending.swap));
                    self.applied_rt(request, at_tick, Action::CancelSwap, tick);
                }
                None => self.refuse_rt(Command { request, at_tick, action: Action::CancelSwap }, Reason::NoPendingSwap),
            },
            Action::RollBack => {
                if self.is_on_trial_rt() {
                    self.keep_start_rt();
                    self.applied_rt(request, at_tick, Action::RollBack, tick);
                    self.roll_back_rt(tick, Failure::DEADLINE_EXCEEDED, false);
                } else {
                    self.refuse_rt(Command { request, at_tick, action: Action::RollBack }, Reason::NoTrial);
                }
            }
            Action::Swap(swap) => self.refuse_rt(Command { request, at_tick, action: Action::Swap(swap) }, Reason::NotInThisProgram),
        }
    }

    fn applied_rt(&mut self, request: RequestId, at_tick: Option<u64>, action: Action, tick: u64) {
        self.checkpoints.applied_rt(request, tick);
        self.tell_rt(Outcome::Applied { tick, command: Command { request, at_tick, action } });
    }

    fn patch_rt(&mut self, mut patch: Box<PatchWork>, at_tick: Option<u64>, tick: u64) {
        let begin_ns = monotonic_ns_rt();
        let refused = |patch: Box<PatchWork>| Command { request: patch.request, at_tick, action: Action::Patch(patch) };
        if patch.migration.plan().from != self.program.revision() {
            return self.refuse_rt(refused(patch), Reason::OtherRevision);
        }
        if patch.migration.plan().patches.is_empty() && !patch.migration.plan().reruns_init_only && patch.assets.is_empty() {
            return self.rename_rt(patch, tick);
        }
        self.report_rest_rt();
        // What it does is done to the memory, even if it is undone again at once.
        self.checkpoints.force_rt();
        if let Some(snapshot) = &mut patch.snapshot {
            snapshot.take_rt(self.program.engine());
        }
        let Ok(carried) = patch.migration.exchange_patches_rt(self.program.engine_mut()) else {
            return self.refuse_rt(refused(patch), Reason::OtherMemories);
        };
        let mut now = self.identity_rt();
        patch.previous = now.revision;
        now.revision = patch.revision;
        if patch.migration.plan().reruns_init_only
            && let Err(failure) = self.program.run_init_only_rt()
        {
            self.retract_rt(&mut patch);
            if patch.trial_ticks == 0 {
                return self.refuse_rt(refused(patch), Reason::InitialisationFailed(failure));
            }
            let request = patch.request;
            self.tell_rt(Outcome::Patched { request, tick, patch_ns: 0, carried, now });
            let trial = Trial::Patch(patch);
            return self.tell_rt(Outcome::RolledBack {
                tick,
                failure,
                failed: now,
                now: self.identity_rt(),
                is_partial: false,
                is_late: false,
                trial,
            });
        }
        self.program.write_rt(&patch.assets);
        self.program.set_revision(patch.revision);
        self.checkpoints.applied_rt(patch.request, tick);
        patch.failed_in_a_row = std::mem::take(&mut self.failed_in_a_row);
        self.show_held_rt();
        self.ramps.give_way_rt(&patch.migration.plan().patches);
        patch.is_untouched = patch.snapshot.is_some() && self.ramps.is_empty_rt();
        let patch_ns = monotonic_ns_rt().saturating_sub(begin_ns);
        self.tell_rt(Outcome::Patched { request: patch.request, tick, patch_ns, carried, now });
        self.join_trial_rt(patch, tick);
    }

    /// A patch that changes nothing that runs gives the program another name.
    fn rename_rt(&mut self, patch: Box<PatchWork>, tick: u64) {
        self.report_rest_rt();
        self.program.set_revision(patch.revision);
        self.checkpoints.applied_rt(patch.request, tick);
        // Whoever saves a held program's text wants it to try again.
        self.failed_in_a_row = 0;
        self.show_held_rt();
        let (carried, now) = (Carried::default(), self.identity_rt());
        self.tell_rt(Outcome::Patched { request: patch.request, tick, patch_ns: 0, carried, now });
        if patch.trial_ticks > 0 {
            self.tell_rt(Outcome::TrialPassed { request: patch.request, tick });
        }
        self.tell_rt(Outcome::Retired(Trial::Patch(patch)));
    }

    fn reset_rt(&mut self, request: RequestId, at_tick: Option<u64>, mut reset: Box<ResetWork>, tick: u64) {
        let now = self.identity_rt();
        let found = reset.variants.iter_mut().find(|variant| variant.layout == now.layout && variant.revision == now.revision);
        let Some(variant) = found else {
            return self.tell_rt(Outcome::Stale(Command { request, at_tick, action: Action::Reset(reset) }));
        };
        if let Some(snapshot) = &mut variant.snapshot {
            snapshot.take_rt(self.program.engine());
        }
        self.checkpoints.force_rt();
        self.program.engine_mut().clear_rt();
        self.program.write_rt(&variant.image);
        if let Err(failure) = self.program.run_init_only_rt() {
            if let Some(snapshot) = &variant.snapshot {
                snapshot.restore_rt(self.program.engine_mut());
            }
            let command = Command { request, at_tick, action: Action::Reset(reset) };
            return self.refuse_rt(command, Reason::InitialisationFailed(failure));
        }
        self.program.write_rt(&variant.assets);
        self.touch_rt();
        self.ramps.clear_rt();
        self.failed_in_a_row = 0;
        self.show_held_rt();
        self.applied_rt(request, at_tick, Action::Reset(reset), tick);
    }

    fn set_rt(&mut self, request: RequestId, at_tick: Option<u64>, set: Box<SetWork>, tick: u64) {
        let writes = match set.writes.get_rt(self.program.layout()) {
            Some(Ok(writes)) => writes,
            Some(Err(_)) => return self.refuse_rt(Command { request, at_tick, action: Action::Set(set) }, Reason::NotInThisProgram),
            None => return self.tell_rt(Outcome::Stale(Command { request, at_tick, action: Action::Set(set) })),
        };
        if set.steps > 1 && writes.len() > self.ramps.room_rt() {
            return self.refuse_rt(Command { request, at_tick, action: Action::Set(set) }, Reason::TooManyRamps);
        }
        write_all_rt(&mut self.ramps, self.program.engine_mut(), writes, set.steps);
        self.checkpoints.log_set_rt(&mut self.program, request, tick, set.steps, writes);
        self.touch_rt();
        self.tell_rt(Outcome::Applied { tick, command: Command { request, at_tick, action: Action::Set(set) } });
    }

    /// Hands messages to the program, in whatever state it is but held: an end that is left out is a note that hangs.
    pub(super) fn receive_rt(&mut self, messages: &[Received]) {
        if self.failed_in_a_row >= HOLD_AFTER_TICKS {
            return;
        }
        self.touch_rt();
        for message in messages {
            if let Err(failure) = self.program.receive_rt(*message) {
                self.is_unkept = true;
                self.log.note_rt(failure, self.tick, monotonic_ns_rt());
            }
        }
    }

    fn get_rt(&mut self, request: RequestId, at_tick: Option<u64>, mut get: Box<GetWork>, tick: u64) {
        let layout = self.program.layout();
        match get.places.get_rt(layout) {
            Some(Ok(places)) => read_all_rt(self.program.engine(), places, &mut get.buffer),
            Some(Err(_)) => return self.refuse_rt(Command { request, at_tick, action: Action::Get(get) }, Reason::NotInThisProgram),
            None => return self.tell_rt(Outcome::Stale(Command { request, at_tick, action: Action::Get(get) })),
        }
        get.layout = layout;
        self.tell_rt(Outcome::Read { request, tick, work: get });
    }
}

/// Carries the state of the running program into the new one.
fn carry_rt(running: &Program, swap: &mut SwapWork) -> Result<Carried, Reason> {
    let Some(there) = &mut swap.there else { return Ok(Carried::default()) };
    if there.plan().from != running.revision() {
        return Err(Reason::OtherRevision);
    }
    // Nobody else has it before the commit.
    let there = Arc::get_mut(there).ok_or(Reason::OtherMemories)?;
    there.apply_rt(running.engine(), swap.program.engine_mut()).map_err(|_| Reason::OtherMemories)
}

/// Runs the init-only modules of a new revision if its plan says so. One without a plan has been initialised in full.
fn initialise_rt(swap: &mut SwapWork) -> Result<(), Failure> {
    match &swap.there {
        Some(there) if there.plan().reruns_init_only => swap.program.run_init_only_rt(),
        Some(_) | None => Ok(()),
    }
}

/// Writes values at once, or sets out for them.
pub(super) fn write_all_rt(ramps: &mut Ramps, engine: &mut Engine, writes: &[Write], steps: u32) {
    for write in writes {
        if steps > 1 {
            ramps.begin_rt(engine, write, steps);
        } else {
            ramps.write_rt(engine, write);
        }
    }
}

/// Copies the items into `buffer`, one after the other. The buffer is as long as they are.
fn read_all_rt(engine: &Engine, places: &[Place], buffer: &mut [u8]) {
    let mut rest = buffer;
    for place in places {
        let length = place.count as usize * place.element.bytes() as usize;
        let Some((now, later)) = rest.split_at_mut_checked(length) else { return };
        if let Some(bytes) = engine.bytes_rt(place.memory, place.byte_address, length) {
            now.copy_from_slice(bytes);
        }
        rest = later;
    }
}
