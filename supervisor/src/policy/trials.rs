//! Trials: what a revision that fails goes back to, and when one is known to be good. Part of the state machine: see the parent
//! module.
//!
//! Whatever is edited within a second, a failure leads to the last revision that passed its trial. A revision is good when its
//! host says so, or, where nothing could be gone back to, when it has played for as long as a trial takes.

use std::sync::Arc;

use ipc::fault::{Fault, FaultKind};
use ipc::hash::ContentHash;
use ipc::live::RequestId;

use super::edits::{runtime_name, trial_ticks};
use super::log::{LogEntry, Logged};
use super::runtime::{Later, Probation, Revision, Trial};
use super::{Action, EditNews, Policy, Report, RuntimeIndex, looking};
use crate::control::protocol::{Cause, ChangeClass, ChangeEvent, ChangeId, Progress, RevisionName};

/// A change that did not pass its trial, and what it had made run.
pub(super) type Failed = (ChangeId, Arc<Revision>);

/// A change that a host has committed.
pub(super) struct Tried {
    pub change: ChangeId,
    pub request: RequestId,
    pub revision: Arc<Revision>,
    pub class: ChangeClass,
    pub is_patch: bool,
    /// What ran before.
    pub base: Arc<Revision>,
    /// The last good revision, where that was another one when the host was told.
    pub good: Option<Arc<Revision>>,
}

/// Why changes did not pass their trial.
pub(super) struct Fall {
    pub fault: Fault,
    /// In words.
    pub why: String,
    /// The first tick of what plays again.
    pub tick: u64,
    /// It may have been heard.
    pub is_late: bool,
}

/// What a host has taken back.
pub(super) struct Undone {
    pub tick: u64,
    pub fault: Fault,
    /// The revision that plays again.
    pub to: ContentHash,
    /// It may have been heard that the tick failed.
    pub is_late: bool,
}

impl Policy {
    /// The last revision that passed its trial, where a swap after it is still on trial.
    pub(super) fn good_revision(&self, runtime: usize) -> Option<Arc<Revision>> {
        self.runtimes[runtime].trial.as_ref().filter(|trial| !trial.is_patch).map(|trial| Arc::clone(&trial.base))
    }

    /// A change has been committed: what it goes back to if it fails.
    pub(super) fn begin_trial(&mut self, runtime: usize, tried: Tried) {
        let Tried { change, request, revision, class, is_patch, base, good } = tried;
        let is_nothing = class == ChangeClass::None && is_patch;
        let is_base_good = self.is_good(runtime, base.hash());
        let state = &mut self.runtimes[runtime];
        match &mut state.trial {
            // A patch ends no trial.
            Some(trial) if is_patch => trial.later.push(Later { change, request: (!is_nothing).then_some(request), revision }),
            // Nothing that runs has changed: it is as good as what it took the place of.
            None if is_nothing && is_base_good => self.mark_good(runtime, change),
            None if is_nothing => {}
            Some(_) | None => {
                if !is_patch {
                    state.probation = None;
                }
                let (base, other_base) = match good {
                    Some(good) if !is_base_good => (good, Some(base)),
                    // The host has said that its trial was over before it said that this one began.
                    Some(_) | None => (base, None),
                };
                state.trial = Some(Trial { change, request, revision, base, other_base, is_patch, later: Vec::new() });
            }
        }
    }

    /// The trial in a life of a runtime, whether that is the present one or the one before it that is kept.
    pub(super) fn trial_in(&mut self, runtime: usize, slot: RuntimeIndex) -> Option<&mut Option<Trial>> {
        let state = &mut self.runtimes[runtime];
        if state.slot == Some(slot) {
            return Some(&mut state.trial);
        }
        state.standby.as_mut().filter(|standby| standby.slot == slot).map(|standby| &mut standby.trial)
    }

    pub(super) fn trial_passed(&mut self, runtime: usize, slot: RuntimeIndex, request: RequestId, actions: &mut Vec<Action>) {
        let Some((change, is_oldest)) = self.trial_in(runtime, slot).and_then(|trial| pass(trial, request)) else { return };
        self.mark_good(runtime, change);
        let state = &mut self.runtimes[runtime];
        if state.slot != Some(slot) {
            return;
        }
        // A change that still waits for its boundary does not lead back past this one any more.
        if let Some(flight) = state.flight.as_mut().filter(|_| is_oldest) {
            flight.good = None;
        }
        self.let_go_of_standby(runtime, actions);
    }

    /// Another swap has been committed within the trial.
    pub(super) fn trial_cut_short(&mut self, runtime: usize, slot: RuntimeIndex, request: RequestId) {
        let Some(trial) = self.trial_in(runtime, slot) else { return };
        if trial.take_if(|trial| trial.request == request).is_some() {
            return;
        }
        let later = trial.iter_mut().flat_map(|trial| &mut trial.later).find(|later| later.request == Some(request));
        if let Some(later) = later {
            later.request = None;
        }
    }

    /// A revision is good, and with it those after it that change nothing that runs.
    pub(super) fn mark_good(&mut self, runtime: usize, change: ChangeId) {
        let history = &mut self.runtimes[runtime].history;
        let Some(position) = history.iter().rposition(|entry| entry.change == change) else { return };
        history[position].is_good = true;
        let after = history.iter_mut().skip(position + 1);
        after.take_while(|entry| entry.class == ChangeClass::None && entry.refused.is_none()).for_each(|entry| entry.is_good = true);
    }

    fn is_good(&self, runtime: usize, revision: ContentHash) -> bool {
        self.runtimes[runtime].history.iter().rev().find(|entry| entry.hash == revision).is_some_and(|entry| entry.is_good)
    }

    /// Has the running revision prove itself by playing from this tick on.
    pub(super) fn begin_probation(&mut self, runtime: usize, change: ChangeId, revision: &Revision, from_tick: u64) {
        let until_tick = from_tick + u64::from(trial_ticks(revision));
        self.runtimes[runtime].probation = Some(Probation { change, until_tick, frozen_at: None });
    }

    /// The runtime has been frozen or goes on in this tick.
    pub(super) fn freeze_probation(&mut self, runtime: usize, tick: u64, is_frozen: bool) {
        let Some(probation) = &mut self.runtimes[runtime].probation else { return };
        if is_frozen {
            probation.frozen_at.get_or_insert(tick);
        } else if let Some(since) = probation.frozen_at.take() {
            probation.until_tick += tick.saturating_sub(since);
        }
    }

    /// The host has told how far it is.
    pub(super) fn look_at_first_trial(&mut self, runtime: usize, ticks: u64, is_held: bool, actions: &mut Vec<Action>) {
        let is_over = |probation: &mut Probation| !is_held && probation.frozen_at.is_none() && ticks >= probation.until_tick;
        if let Some(probation) = self.runtimes[runtime].probation.take_if(is_over) {
            self.mark_good(runtime, probation.change);
            self.let_go_of_standby(runtime, actions);
        }
    }

    /// The revision failed while it ran, and with it whatever has been patched into it; an earlier one plays again.
    pub(super) fn rolled_back(
        &mut self,
        runtime: usize,
        slot: RuntimeIndex,
        request: RequestId,
        undone: Undone,
        actions: &mut Vec<Action>,
    ) {
        let Undone { tick, fault, to, is_late } = undone;
        let Some((failed, to)) = self.trial_in(runtime, slot).and_then(|trial| fail(trial, request, to)) else { return };
        let is_forced = fault.kind == FaultKind::DeadlineExceeded;
        let what = Logged::RolledBack { is_forced, to: Some(to.hash().to_string()) };
        actions.push(Action::Log(LogEntry { life: slot.0, tick, what }));
        let is_present = self.runtimes[runtime].slot == Some(slot);
        match &mut self.runtimes[runtime].standby {
            Some(standby) if !is_present => standby.revision = Arc::clone(&to),
            Some(_) | None => self.run_again(runtime, &to, tick),
        }
        let remedy = self.programs[slot.0].remedy.as_ref().map(|remedy| remedy.cause.clone());
        let is_blamed = remedy.is_some();
        let why = remedy.unwrap_or_else(|| fault.kind.explanation().to_owned());
        let fall = Fall { fault, why, tick, is_late };
        self.tell_rolled_back(runtime, &failed, &to, fall, actions);
        if is_blamed {
            self.remedied(slot, to.hash(), actions);
        }
    }

    /// An earlier revision runs again from this tick on.
    pub(super) fn run_again(&mut self, runtime: usize, revision: &Arc<Revision>, tick: u64) {
        let state = &mut self.runtimes[runtime];
        state.current = Some(Arc::clone(revision));
        state.last = Some(revision.text.clone());
        if let Some(slot) = state.slot {
            self.texts[slot.0] = revision.text.clone();
            self.programs[slot.0].revision = Some(Arc::clone(revision));
        }
        let entry = self.runtimes[runtime].history.iter().rev().find(|entry| entry.hash == revision.hash());
        if let Some(change) = entry.filter(|entry| !entry.is_good).map(|entry| entry.change) {
            self.begin_probation(runtime, change, revision, tick);
        }
    }

    /// Refuses the texts that failed, and tells of each. The newest is the one that ran: its line is the one to blame.
    pub(super) fn tell_rolled_back(&mut self, runtime: usize, failed: &[Failed], to: &Revision, fall: Fall, actions: &mut Vec<Action>) {
        let Fall { fault, why, tick, is_late } = fall;
        for (change, revision) in failed {
            let name = RevisionName::from(revision.hash());
            self.refuse(runtime, *change, revision, looking::cause(why.clone(), Some(name.clone()), Some(&fault)));
            let progress = Progress::RolledBack { to: to.hash().into(), tick, why: why.clone(), line: fault.line };
            let runtime = runtime_name(&self.runtimes[runtime].name);
            let event = ChangeEvent { change: *change, runtime, revision: Some(name), progress };
            actions.push(Action::Tell(Report::Change(Box::new(event))));
        }
        if let Some((_, revision)) = failed.last() {
            let news = EditNews::RolledBack { fault, why, is_late };
            actions.push(Action::Tell(Report::Edit { text: revision.text.clone(), news }));
        }
    }

    fn refuse(&mut self, runtime: usize, change: ChangeId, revision: &Revision, cause: Cause) {
        let state = &mut self.runtimes[runtime];
        state.refuse(revision.text.hash(), cause.clone());
        if let Some(entry) = state.history.iter_mut().rev().find(|entry| entry.change == change) {
            entry.refused = Some(cause);
        }
    }
}

/// The trial of this request is over, and nothing was wrong. Returns its change, and whether it was the oldest that was open.
fn pass(open: &mut Option<Trial>, request: RequestId) -> Option<(ChangeId, bool)> {
    let trial = open.as_mut()?;
    if trial.request == request {
        let (change, below, later) = (trial.change, Arc::clone(&trial.revision), std::mem::take(&mut trial.later));
        *open = trial_of(below, later);
        return Some((change, true));
    }
    let later = trial.later.iter_mut().find(|later| later.request == Some(request))?;
    later.request = None;
    Some((later.change, false))
}

/// Takes out what failed, newest last, and finds what runs instead. A host takes back all that is on trial at once, and says so of
/// one change after the other: what it says first ends all of it.
fn fail(open: &mut Option<Trial>, request: RequestId, to: ContentHash) -> Option<(Vec<Failed>, Arc<Revision>)> {
    let is_of = |trial: &mut Trial| trial.request == request || trial.later.iter().any(|later| later.request == Some(request));
    let trial = open.take_if(is_of)?;
    let below = [Some(&trial.base), trial.other_base.as_ref(), Some(&trial.revision)].into_iter().flatten();
    let candidates = below.chain(trial.later.iter().map(|later| &later.revision));
    let to = candidates.into_iter().find(|revision| revision.hash() == to).unwrap_or(&trial.base).clone();
    let later = trial.later.into_iter().map(|later| (later.change, later.revision));
    Some((std::iter::once((trial.change, trial.revision)).chain(later).collect(), to))
}

/// What is on trial once a trial is passed: the next patch that is, above what ran below it.
fn trial_of(below: Arc<Revision>, later: Vec<Later>) -> Option<Trial> {
    let mut base = below;
    let mut later = later.into_iter();
    while let Some(next) = later.next() {
        let Some(request) = next.request else {
            base = next.revision;
            continue;
        };
        let (change, revision, later) = (next.change, next.revision, later.collect());
        return Some(Trial { change, request, revision, base, other_base: None, is_patch: true, later });
    }
    None
}
