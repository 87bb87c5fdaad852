//! What hosts say about changes, and what a new host's progress means for the runtime it is for. Part of the state machine:
//! see the parent module.

use std::sync::Arc;

use ipc::live::{Carried, LiveReply, RequestId, SwapProgress};
use ipc::message::{ElementValues, Refusal};

use super::edits::{answer_error, crossfade_frames, runtime_name, swap_trial_ticks, trial_ticks};
use super::log::{LogEntry, Logged, RevisionText};
use super::program::{Phase, Program};
use super::runtime::{Asker, EditStage, FreezeAsker, HistoryEntry, Question, Recall, Revision, Way};
use super::trials::{Tried, Undone};
use super::{Action, Failure, Policy, Report, RuntimeIndex, looking};
use crate::control::protocol::{
    Answer, Boundary, Cancelled, ChangeClass, ControlEvent, ErrorCode, ErrorReply, ItemKind, ItemName, ItemValue, ItemValues, Number,
    Progress, RuntimeName, RuntimeNow, SetAt, SetValue,
};

impl Policy {
    pub(super) fn live_said(&mut self, now_ms: u64, slot: RuntimeIndex, reply: LiveReply, actions: &mut Vec<Action>) {
        self.keep_up(slot, &reply, actions);
        if self.note_unasked(slot, &reply, actions) {
            return;
        }
        let Some(runtime) = self.programs[slot.0].runtime else { return };
        if let LiveReply::Swap { request, progress } = &reply
            && self.trial_said(runtime, slot, *request, progress, actions)
        {
            return;
        }
        if self.runtimes[runtime].slot != Some(slot) {
            return;
        }
        match reply {
            LiveReply::Swap { request, progress } => self.swap_said(now_ms, runtime, request, progress, actions),
            LiveReply::Applied { request, tick, carried } => {
                if self.is_flight(runtime, request) {
                    let patch_ns = carried.as_ref().map(|carried| carried.patch_ns);
                    self.flight_committed(now_ms, runtime, request, tick, patch_ns, carried.as_ref(), actions);
                } else {
                    self.question_applied(runtime, request, tick, actions);
                }
            }
            LiveReply::Values { request, tick, values } => {
                if let Some((Question::Get, ticket, _)) = self.runtimes[runtime].questions.remove(&request) {
                    let answer = Answer::Get(ItemValues { tick, values: values.into_iter().map(item_value).collect() });
                    actions.push(Action::Answer { ticket, outcome: Box::new(Ok(answer)) });
                }
            }
            LiveReply::Refused { request, reason } => self.request_refused(runtime, request, reason, actions),
        }
    }

    /// Follows what may have to be recovered, and lets go of what need not be any more.
    pub(super) fn keep_up(&mut self, slot: RuntimeIndex, reply: &LiveReply, actions: &mut Vec<Action>) {
        let keep = &mut self.programs[slot.0].keep;
        let request = reply.request();
        let released = match reply {
            LiveReply::Swap { progress: SwapProgress::Pending { .. }, .. } => return,
            LiveReply::Swap { progress: SwapProgress::TrialCutShort { .. }, .. } => return keep.cut_short(request),
            LiveReply::Swap { progress: SwapProgress::TrialPassed { .. }, .. } => keep.stays(request),
            LiveReply::Swap { progress: SwapProgress::RolledBack { to, .. }, .. } => keep.rolled_back(*to),
            LiveReply::Swap { progress: SwapProgress::Committed { .. }, .. } | LiveReply::Applied { .. } => {
                keep.answered(request);
                keep.committed(request)
            }
            LiveReply::Swap { progress: SwapProgress::Superseded | SwapProgress::Cancelled, .. }
            | LiveReply::Refused { .. }
            | LiveReply::Values { .. } => {
                keep.answered(request);
                keep.dropped(request)
            }
        };
        actions.extend(released.into_iter().map(|segment| Action::Release { segment }));
    }

    /// What nobody waits for is logged all the same. Returns whether the reply was about such a request.
    fn note_unasked(&mut self, slot: RuntimeIndex, reply: &LiveReply, actions: &mut Vec<Action>) -> bool {
        let Some(runtime) = self.programs[slot.0].runtime else { return false };
        let Some((slot, what)) = self.runtimes[runtime].unasked.remove(&reply.request()) else { return false };
        let tick = if let LiveReply::Applied { tick, .. } = reply { Some(*tick) } else { None };
        self.midi_answered(runtime, tick, &what, actions);
        if let LiveReply::Applied { tick, .. } = reply {
            if let (Logged::Set { .. }, Some(event)) = (&what, control_event(runtime_name(&self.runtimes[runtime].name), *tick, &what)) {
                actions.push(Action::Tell(Report::Control(Box::new(event))));
            }
            actions.push(Action::Log(LogEntry { life: slot.0, tick: *tick, what }));
        }
        self.catch_up_keys(runtime, actions);
        true
    }

    pub(super) fn is_flight(&self, runtime: usize, request: RequestId) -> bool {
        self.runtimes[runtime].flight.as_ref().is_some_and(|flight| flight.way == Way::Host { request })
    }

    fn swap_said(&mut self, now_ms: u64, runtime: usize, request: RequestId, progress: SwapProgress, actions: &mut Vec<Action>) {
        match progress {
            SwapProgress::Pending { build_us } => {
                if let Some(flight) = self.runtimes[runtime].flight.as_mut().filter(|flight| flight.way == Way::Host { request }) {
                    flight.what.edit.timings.transfer_us += build_us;
                }
            }
            SwapProgress::Committed { tick, commit_ns, carried } => {
                if self.is_flight(runtime, request) {
                    self.flight_committed(now_ms, runtime, request, tick, Some(commit_ns), Some(&carried), actions);
                }
            }
            SwapProgress::Superseded | SwapProgress::Cancelled => {
                if self.is_flight(runtime, request) {
                    self.flight_recalled(runtime, actions);
                }
            }
            // Heard before, from whichever of a runtime's hosts.
            SwapProgress::TrialPassed { .. } | SwapProgress::RolledBack { .. } | SwapProgress::TrialCutShort { .. } => {}
        }
    }

    /// What comes of a trial counts also in a host that is only kept: it may have to go on. Returns whether this is about one.
    fn trial_said(
        &mut self,
        runtime: usize,
        slot: RuntimeIndex,
        request: RequestId,
        progress: &SwapProgress,
        actions: &mut Vec<Action>,
    ) -> bool {
        match progress {
            SwapProgress::TrialPassed { .. } => self.trial_passed(runtime, slot, request, actions),
            SwapProgress::RolledBack { tick, fault, to, is_late, .. } => {
                let undone = Undone { tick: *tick, fault: fault.clone(), to: *to, is_late: *is_late };
                self.rolled_back(runtime, slot, request, undone, actions);
            }
            SwapProgress::TrialCutShort { .. } => self.trial_cut_short(runtime, slot, request),
            SwapProgress::Pending { .. } | SwapProgress::Committed { .. } | SwapProgress::Superseded | SwapProgress::Cancelled => {
                return false;
            }
        }
        true
    }

    #[allow(clippy::too_many_arguments, reason = "what is known of a commit")]
    fn flight_committed(
        &mut self,
        now_ms: u64,
        runtime: usize,
        request: RequestId,
        tick: u64,
        commit_ns: Option<u64>,
        carried: Option<&Carried>,
        actions: &mut Vec<Action>,
    ) {
        let Some(flight) = self.runtimes[runtime].flight.take() else { return };
        if let Some(Recall::Cancelled { ticket: Some(ticket) }) = flight.recalled {
            let change = flight.what.edit.change.0;
            let error =
                ErrorReply::new(ErrorCode::UnknownChange, format!("change {change} took effect in tick {tick}")).in_field("params.change");
            answer_error(Asker::of_error(ticket), error, actions);
        }
        let (change, revision) = (flight.what.edit.change, Arc::clone(&flight.what.revision));
        let (base, good, class) = (flight.what.base.clone(), flight.good.clone(), flight.what.class());
        let wishes = flight.what.edit.wishes;
        // Not by its class: what is to take the place of a revision that kills is always another program.
        let is_patch = self.runtimes[runtime].slot.is_some_and(|slot| self.programs[slot.0].keep.is_patch(request));
        let logged = Logged::Change {
            revision: RevisionText::of(&revision),
            is_patch,
            trial_ticks: match class {
                ChangeClass::None if is_patch => 0,
                _ if is_patch => trial_ticks(&revision),
                _ => swap_trial_ticks(&revision, wishes),
            },
            crossfade_frames: crossfade_frames(&revision, wishes),
            good: good.as_ref().filter(|_| !is_patch).map(|good| good.hash().to_string()),
        };
        self.log(runtime, tick, logged, actions);
        self.committed(now_ms, runtime, flight.what, tick, commit_ns, carried, actions);
        let is_remedy = self.runtimes[runtime].slot.is_some_and(|slot| self.is_remedy(slot, request));
        let hash = revision.hash();
        if let Some(base) = base {
            self.begin_trial(runtime, Tried { change, request, revision, class, is_patch, base, good });
        }
        if let Some(slot) = self.runtimes[runtime].slot {
            if self.programs[slot.0].phase == Phase::Held {
                self.programs[slot.0].phase = Phase::Running;
            }
            if is_remedy {
                self.remedied(slot, hash, actions);
            }
        }
    }

    /// A pending change has come back without effect.
    pub(super) fn flight_recalled(&mut self, runtime: usize, actions: &mut Vec<Action>) {
        let Some(flight) = self.runtimes[runtime].flight.take() else { return };
        self.release(flight.what.artifact.name.clone(), actions);
        let mut edit = flight.what.edit;
        let change = edit.change;
        edit.stage = EditStage::Queued;
        match flight.recalled {
            Some(Recall::Superseded { by }) => {
                let error = ErrorReply::new(ErrorCode::Superseded, format!("change {} took the place of change {}", by.0, change.0));
                self.end_edit(edit, error, Progress::Superseded { by }, actions);
            }
            Some(Recall::Cancelled { .. }) | None => {
                let error = ErrorReply::new(ErrorCode::NotApplied, format!("change {} was cancelled", change.0));
                self.end_edit(edit, error, Progress::Cancelled {}, actions);
            }
        }
        if let Some(Recall::Cancelled { ticket: Some(ticket) }) = flight.recalled {
            actions.push(Action::Answer { ticket, outcome: Box::new(Ok(Answer::Cancel(Cancelled { change }))) });
        }
    }

    /// A pending change does not come back: it still waits for its boundary.
    fn recall_refused(&mut self, runtime: usize, reason: Refusal, actions: &mut Vec<Action>) {
        let recall = self.runtimes[runtime].flight.as_mut().and_then(|flight| flight.recalled.take());
        if let Some(Recall::Cancelled { ticket: Some(ticket) }) = recall {
            answer_error(Asker::of_error(ticket), ErrorReply::new(ErrorCode::WrongState, reason.message), actions);
        }
    }

    fn request_refused(&mut self, runtime: usize, request: RequestId, reason: Refusal, actions: &mut Vec<Action>) {
        if let Some((_, ticket, _)) = self.runtimes[runtime].questions.remove(&request) {
            let error = ErrorReply::new(ErrorCode::WrongState, reason.message);
            return answer_error(Asker::of_error(ticket), error, actions);
        }
        if !self.is_flight(runtime, request) {
            return self.recall_refused(runtime, reason, actions);
        }
        let Some(flight) = &self.runtimes[runtime].flight else { return };
        let current = self.runtimes[runtime].current.as_ref().map(|current| current.hash());
        let is_stale = flight.what.base.as_ref().map(|base| base.hash()) != current;
        if is_stale && flight.recalled.is_none() && self.runtimes[runtime].incoming.is_empty() {
            // What it was planned from has been rolled back meanwhile: it is compiled and planned once more.
            let Some(flight) = self.runtimes[runtime].flight.take() else { return };
            actions.push(Action::Release { segment: flight.what.artifact.name.clone() });
            let mut edit = flight.what.edit;
            edit.stage = EditStage::Queued;
            edit.wishes.is_acknowledged = false;
            return self.take_in_edit(runtime, edit, actions);
        }
        self.flight_failed(runtime, Failure::Refused(reason), actions);
    }

    fn question_applied(&mut self, runtime: usize, request: RequestId, tick: u64, actions: &mut Vec<Action>) {
        let Some((question, ticket, logged)) = self.runtimes[runtime].questions.remove(&request) else { return };
        if let Some(event) = control_event(runtime_name(&self.runtimes[runtime].name), tick, &logged) {
            actions.push(Action::Tell(Report::Control(Box::new(event))));
        }
        self.log(runtime, tick, logged, actions);
        let state = &mut self.runtimes[runtime];
        state.status.ticks = state.status.ticks.max(tick);
        let answer = match question {
            Question::Set => Answer::Set(SetAt { tick }),
            Question::Midi => Answer::Midi(SetAt { tick }),
            Question::Freeze => {
                state.is_frozen = true;
                self.freeze_probation(runtime, tick, true);
                if let Some(change) = self.freeze_boundary_change(runtime) {
                    // Whether it takes effect, the host says next.
                    return self.runtimes[runtime].freeze_askers.push(FreezeAsker { ticket, change, tick });
                }
                Answer::Freeze(RuntimeNow { tick, ..self.now(runtime, None) })
            }
            Question::Run => {
                state.is_frozen = false;
                self.freeze_probation(runtime, tick, false);
                Answer::Run(RuntimeNow { tick, ..self.now(runtime, None) })
            }
            Question::Reset => {
                state.cause = None;
                if let Some(slot) = state.slot
                    && self.programs[slot.0].phase == Phase::Held
                {
                    self.programs[slot.0].phase = Phase::Running;
                }
                self.tempo_forgotten(runtime);
                Answer::Restart(RuntimeNow { tick, ..self.now(runtime, None) })
            }
            // Answered by its values.
            Question::Get => Answer::Get(ItemValues { tick, values: Vec::new() }),
        };
        actions.push(Action::Answer { ticket, outcome: Box::new(Ok(answer)) });
    }

    /// Notes an input for the journal.
    pub(super) fn log(&self, runtime: usize, tick: u64, what: Logged, actions: &mut Vec<Action>) {
        if let Some(slot) = self.runtimes[runtime].slot.filter(|_| what != Logged::Seen {}) {
            actions.push(Action::Log(LogEntry { life: slot.0, tick, what }));
        }
    }

    pub(super) fn log_start(&self, slot: RuntimeIndex, revision: &Revision, actions: &mut Vec<Action>) {
        let plan = &revision.plan;
        let what = Logged::Start {
            runtime: self.programs[slot.0].name.clone(),
            runtime_type: plan.runtime_type.clone(),
            sample_rate: plan.sample_rate,
            revision: RevisionText::of(revision),
        };
        actions.push(Action::Log(LogEntry { life: slot.0, tick: 0, what }));
    }

    // ---------------------------------------------------------------------------------------------------- new hosts

    /// A host has begun to run its program.
    pub(super) fn slot_started(&mut self, now_ms: u64, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let Some(runtime) = self.programs[slot.0].runtime else { return };
        if self.runtimes[runtime].slot == Some(slot) {
            // The device host may have told before that it is heard: then it has taken over, and has been logged.
            if self.runtimes[runtime].current.is_none() {
                self.first_started(now_ms, runtime, slot, actions);
            }
            return;
        }
        let replaces = self.live_slot(runtime).is_some();
        // The old host is heard until the new one is.
        if !replaces || !self.programs[slot.0].has_lane() {
            self.take_over(now_ms, slot, actions);
        }
    }

    /// A program of the command line runs.
    fn first_started(&mut self, now_ms: u64, runtime: usize, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let Some(revision) = self.programs[slot.0].revision.clone() else { return };
        let change = self.next_change();
        self.log_start(slot, &revision, actions);
        let state = &mut self.runtimes[runtime];
        state.current = Some(Arc::clone(&revision));
        state.last = Some(revision.text.clone());
        let event = crate::control::protocol::ChangeEvent {
            change,
            runtime: runtime_name(&state.name),
            revision: Some(revision.hash().into()),
            progress: Progress::Committed {
                tick: 0,
                copied: Default::default(),
                remapped: Default::default(),
                reset: Vec::new(),
                discarded: Vec::new(),
                carried: None,
                commit_us: None,
                by_recovery: false,
            },
        };
        let boundary = Boundary::Frame;
        state.remember(HistoryEntry {
            hash: revision.hash(),
            text: revision.text.clone(),
            change,
            origin: change,
            class: ChangeClass::Load,
            boundary,
            committed_ms: now_ms,
            tick: 0,
            is_good: false,
            refused: None,
        });
        actions.push(Action::Tell(Report::Change(Box::new(event))));
        self.begin_probation(runtime, change, &revision, 0);
    }

    /// Fades a host out and ends it.
    pub(super) fn retire(&mut self, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &mut self.programs[slot.0];
        if program.phase.is_over() || program.is_stop_sent || program.is_retiring {
            return;
        }
        if matches!(program.phase, Phase::Recovering { .. } | Phase::Quarantined) {
            // Nothing of it is heard: there is nothing to fade out.
            program.phase = Phase::Done;
            self.let_go_of_lane(slot, actions);
            actions.push(Action::Tell(Report::RuntimeStopped { runtime: slot }));
            return self.slot_over(slot, None, actions);
        }
        program.is_retiring = true;
        if matches!(program.phase, Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. }) {
            return self.abandon(slot, actions);
        }
        if program.is_lane_added {
            // The host delivers until the lane has been faded out.
            return actions.push(Action::RemoveLane(slot));
        }
        self.stop_retiring(slot, actions);
    }

    /// Gives a program up that no host has been told of.
    fn abandon(&mut self, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &mut self.programs[slot.0];
        if let Phase::Inspecting { artifact } | Phase::Ready { artifact, .. } = &program.phase {
            actions.push(Action::Release { segment: artifact.name.clone() });
        }
        program.phase = Phase::Done;
        self.let_go_of_lane(slot, actions);
        actions.push(Action::Tell(Report::RuntimeStopped { runtime: slot }));
        self.slot_over(slot, None, actions);
    }

    /// The lane is gone: nothing that the host does is heard any more.
    pub(super) fn stop_retiring(&mut self, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        let program: &mut Program = &mut self.programs[slot.0];
        if program.is_retiring && !program.is_stop_sent && !program.phase.is_over() {
            program.is_stop_sent = true;
            if let Some(host) = program.host {
                actions.push(Action::StopRuntime(host));
            }
        }
    }

    /// A host has come to its end, as it should or not: what that means for its runtime.
    pub(super) fn slot_over(&mut self, slot: RuntimeIndex, failure: Option<&Failure>, actions: &mut Vec<Action>) {
        let Some(runtime) = self.programs[slot.0].runtime else { return };
        let flight = self.runtimes[runtime].flight.as_ref().filter(|flight| flight.way == Way::NewHost { slot });
        if flight.is_some_and(|flight| flight.recalled.is_some()) {
            return self.flight_recalled(runtime, actions);
        }
        if flight.is_some() {
            let failure = failure.cloned().unwrap_or(Failure::NoHost);
            return self.flight_failed(runtime, failure, actions);
        }
        if self.runtimes[runtime].slot != Some(slot) {
            // Nothing can be handed back to one that is over.
            self.runtimes[runtime].standby.take_if(|standby| standby.slot == slot);
            return;
        }
        let tick = self.programs[slot.0].ticks;
        let fault = ipc::fault::Fault { kind: ipc::fault::FaultKind::Trap, tick, block: None, line: None, repeats: 0 };
        if failure.is_some() && self.hand_back(slot, &fault, actions) {
            return;
        }
        let is_for_host = self.runtimes[runtime].flight.as_ref().is_some_and(|flight| matches!(flight.way, Way::Host { .. }));
        if is_for_host {
            self.flight_failed(runtime, Failure::NoHost, actions);
        }
        self.release_questions(runtime, "the runtime does not run any more", actions);
        let state = &mut self.runtimes[runtime];
        state.current = None;
        state.trial = None;
        state.probation = None;
        state.is_frozen = false;
        state.cause = failure.map(|failure| looking::cause(crate::render::sentences::failure_text(failure), None, None));
        for ticket in std::mem::take(&mut self.runtimes[runtime].stop_askers) {
            let now = Answer::Stop(self.now(runtime, None));
            actions.push(Action::Answer { ticket, outcome: Box::new(Ok(now)) });
        }
    }

    /// Ends everything that waits, because the session ends.
    pub(super) fn release_everything(&mut self, actions: &mut Vec<Action>) {
        let ending = || ErrorReply::new(ErrorCode::ShuttingDown, "the session is ending");
        for edit in std::mem::take(&mut self.plans) {
            self.end_edit(edit, ending(), Progress::Cancelled {}, actions);
        }
        for runtime in 0..self.runtimes.len() {
            let state = &mut self.runtimes[runtime];
            let flight = state.flight.take();
            let recall = flight.as_ref().and_then(|flight| flight.recalled);
            let (incoming, waiting) = (std::mem::take(&mut state.incoming), std::mem::take(&mut state.waiting));
            let edits = waiting.into_iter().map(|waiting| waiting.edit).chain(flight.map(|flight| flight.what.edit));
            let stops = std::mem::take(&mut state.stop_askers);
            for edit in incoming.into_iter().chain(edits) {
                self.end_edit(edit, ending(), Progress::Cancelled {}, actions);
            }
            let cancel = match recall {
                Some(Recall::Cancelled { ticket }) => ticket,
                Some(Recall::Superseded { .. }) | None => None,
            };
            for ticket in stops.into_iter().chain(cancel) {
                answer_error(Asker::of_error(ticket), ending(), actions);
            }
            self.release_questions(runtime, "the session is ending", actions);
        }
    }
}

/// What subscribers are told of an input that took effect; changes have events of their own.
fn control_event(runtime: RuntimeName, tick: u64, what: &Logged) -> Option<ControlEvent> {
    match what {
        Logged::Set { values, ramp_ticks } => {
            let value = |bits: u64| Number::Float(f64::from_bits(bits));
            let values =
                values.iter().filter_map(|(item, bits)| Some(SetValue { item: ItemName::new(item.clone()).ok()?, value: value(*bits) }));
            Some(ControlEvent::Set { runtime, tick, values: values.collect(), ramp_ticks: *ramp_ticks })
        }
        Logged::Freeze {} => Some(ControlEvent::Frozen { runtime, tick }),
        Logged::Run {} => Some(ControlEvent::Running { runtime, tick }),
        Logged::Reset {} => Some(ControlEvent::Reset { runtime, tick }),
        Logged::Midi { .. } | Logged::Wired { .. } => None,
        Logged::Start { .. } | Logged::Change { .. } | Logged::RolledBack { .. } | Logged::Asset { .. } | Logged::Seen {} => None,
    }
}

fn item_value(found: ipc::message::ItemValue) -> ItemValue {
    let (kind, values) = match found.values {
        ElementValues::Int(values) => (ItemKind::Int, values.into_iter().map(Number::Int).collect()),
        ElementValues::Float(values) => (ItemKind::Float, values.into_iter().map(Number::from).collect()),
        ElementValues::Float64(values) => (ItemKind::Float64, values.into_iter().map(Number::Float).collect()),
    };
    ItemValue { item: found.item, kind, values }
}
