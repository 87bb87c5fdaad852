//! The same tick kills twice: then the revision is to blame, and another one takes its place with its state (DESIGN §10). Part
//! of the state machine: see the parent module.
//!
//! While the revision is on trial the host itself still has what ran before, and is told to go back to it. Later the last
//! good text is compiled once more, and the host that takes over swaps to it before it publishes anything. Where there is no
//! good revision the runtime is held. Whatever a user pushes meanwhile is taken instead.

use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::live::{LiveChange, LiveRequest, RequestId};
use serde::{Deserialize, Serialize};

use super::edits::{Order, swap_of};
use super::program::Phase;
use super::runtime::{EditStage, Flight, Way, Wishes};
use super::{Action, Content, Policy, Report, RuntimeIndex, Verdict, looking};
use crate::control::protocol::{Boundary, ChangeClass};

/// What a revision did, and what is to take its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remedy {
    pub revision: ContentHash,
    pub cause: String,
    /// Whether the trial is to be ended; else another revision is being compiled.
    pub is_rollback: bool,
    /// The swap that hosts have been told to begin with.
    request: Option<RequestId>,
}

impl Remedy {
    /// Whether the next supervisor has to know of it: hosts have been told. What was only being compiled died with its worker,
    /// and is found once more when the revision kills again.
    pub fn is_noted(&self) -> bool {
        self.request.is_some()
    }
}

/// How a takeover is to begin.
pub(super) enum Opening {
    /// As things were.
    Plain,
    /// With this request; a swap's program gets a state segment.
    With { request: LiveRequest, content: Option<Arc<Content>> },
    /// With this request, which an earlier host has been given already.
    Again { request: LiveRequest },
    /// What is to come first is not ready yet.
    NotYet,
    /// There is nothing to begin with: the runtime is held.
    Never,
}

impl Policy {
    /// Whether this death, in this tick of this revision, is the second of its kind; if so, finds the remedy. Returns whether
    /// the program can go on.
    pub(super) fn find_blame(&mut self, runtime: RuntimeIndex, tick: Option<(ContentHash, u64)>, actions: &mut Vec<Action>) -> bool {
        let program = &mut self.programs[runtime.0];
        let is_again = tick.is_some() && program.last_death == tick;
        program.last_death = tick.or(program.last_death);
        let (true, Some((revision, number))) = (is_again, tick) else { return true };
        let Some(named) = program.runtime.filter(|named| self.runtimes[*named].slot == Some(runtime)) else { return true };
        let cause = format!("it killed its host twice in tick {number}");
        let state = &mut self.runtimes[named];
        let on_trial = state.trial.as_ref().map(|trial| Arc::clone(&trial.revision));
        // It may have taken effect without a word.
        let in_flight = state.flight.as_ref().filter(|flight| matches!(flight.way, Way::Host { .. }));
        let open = on_trial.into_iter().chain(in_flight.map(|flight| Arc::clone(&flight.what.revision)));
        let blamed = open.into_iter().find(|open| open.hash() == revision);
        let is_rollback = blamed.is_some();
        let Some(blamed) = blamed.or_else(|| state.current.clone()) else { return true };
        state.refuse(blamed.text.hash(), looking::cause(cause.clone(), Some(revision.into()), None));
        if let Some(entry) = state.history.iter_mut().rev().find(|entry| entry.hash == blamed.hash()) {
            entry.refused = Some(looking::cause(cause.clone(), Some(revision.into()), None));
            entry.is_good = false;
        }
        self.programs[runtime.0].remedy = Some(Remedy { revision, cause, is_rollback, request: None });
        if is_rollback || !self.runtimes[named].incoming.is_empty() {
            return true;
        }
        let Some(good) = looking::last_good(&self.runtimes[named]) else { return false };
        let wishes = Wishes { is_acknowledged: true, ..Wishes::default() };
        let order = Order { is_forced: true, ..Order::of(good, wishes, None) };
        self.order(named, order, actions);
        true
    }

    /// How the next takeover of a program begins.
    pub(super) fn opening(&mut self, runtime: RuntimeIndex, actions: &mut Vec<Action>) -> Opening {
        let Some(remedy) = self.programs[runtime.0].remedy.clone() else { return Opening::Plain };
        if remedy.is_rollback {
            self.last_live_request += 1;
            let request = LiveRequest { request: self.last_live_request, at_tick: None, what: LiveChange::RollBack };
            return Opening::With { request, content: None };
        }
        let Some(named) = self.programs[runtime.0].runtime else { return Opening::Plain };
        // One that a host has died of before it took effect is sent once more.
        if let Some(request) = remedy.request.and_then(|request| self.programs[runtime.0].keep.answered(request)) {
            return Opening::Again { request };
        }
        let Some(edit) = self.runtimes[named].incoming.last() else { return Opening::Never };
        match edit.stage {
            EditStage::Queued | EditStage::Compiling | EditStage::Inspecting { .. } => Opening::NotYet,
            EditStage::Ready { .. } => {
                match self.runtimes[named].flight.as_ref().map(|flight| flight.way) {
                    // What else was on its way has died with the host.
                    Some(Way::Host { request }) => self.change_lost(runtime, request, actions),
                    // Another life is about to begin.
                    Some(Way::NewHost { .. }) => return Opening::NotYet,
                    None => {}
                }
                self.swap_first(runtime, named)
            }
        }
    }

    fn swap_first(&mut self, runtime: RuntimeIndex, named: usize) -> Opening {
        let Some(mut edit) = self.runtimes[named].incoming.pop() else { return Opening::Never };
        edit.wishes = Wishes { boundary: Boundary::Frame, crossfade_ms: 0, ..edit.wishes };
        let Some(what) = self.classify(named, edit) else { return Opening::Never };
        let is_unasked = self.needs_acknowledgement(&what) && !what.edit.wishes.is_acknowledged;
        if what.class() == ChangeClass::T || is_unasked {
            // Another life of the runtime can run it, which begins once this one is over.
            self.runtimes[named].incoming.push(what.edit);
            return Opening::Never;
        }
        let content = Some(Arc::clone(&what.revision.plan.content));
        let swap = swap_of(&what);
        self.last_live_request += 1;
        let request = LiveRequest { request: self.last_live_request, at_tick: None, what: LiveChange::Swap(Box::new(swap)) };
        if let Some(remedy) = &mut self.programs[runtime.0].remedy {
            remedy.request = Some(request.request);
        }
        let way = Way::Host { request: request.request };
        self.runtimes[named].flight = Some(Flight { what, way, good: None, recalled: None });
        Opening::With { request, content }
    }

    /// Whether this is what a host was told to begin with, because of the revision that ran.
    pub(super) fn is_remedy(&self, runtime: RuntimeIndex, request: RequestId) -> bool {
        self.programs[runtime.0].remedy.as_ref().is_some_and(|remedy| remedy.request == Some(request))
    }

    /// The program has gone on without the revision that was to blame.
    pub(super) fn remedied(&mut self, runtime: RuntimeIndex, to: ContentHash, actions: &mut Vec<Action>) {
        let Some(remedy) = self.programs[runtime.0].remedy.take() else { return };
        if to == remedy.revision {
            // What the host has been told to begin with it has not done yet, and says so when it has.
            let named = self.programs[runtime.0].runtime.filter(|named| self.runtimes[*named].slot == Some(runtime));
            let is_on_trial = remedy.is_rollback && named.is_some_and(|named| self.runtimes[named].trial.is_some());
            let is_open = remedy.request.is_some_and(|request| self.programs[runtime.0].keep.is_unanswered(request));
            if is_on_trial || is_open {
                self.programs[runtime.0].remedy = Some(remedy);
            }
            return;
        }
        self.programs[runtime.0].last_death = None;
        let (from, cause) = (remedy.revision, remedy.cause);
        actions.push(Action::Tell(Report::RolledBack { runtime, from, to, cause, line: None }));
    }

    /// There is no revision to go back to.
    pub(super) fn hold_blamed(&mut self, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let cause = self.programs[runtime.0].remedy.take().map(|remedy| remedy.cause).unwrap_or_default();
        let cause = format!("{cause}, and there is no good revision to go back to; push another text, or `restart` it");
        if !matches!(self.programs[runtime.0].phase, Phase::Quarantined) {
            self.hold_back(runtime, cause, Verdict::Program, actions);
        }
    }
}
