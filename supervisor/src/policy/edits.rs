//! The way of an edit: from its text through the worker to a host, and how it ends there. Part of the state machine: see the
//! parent module.
//!
//! Every edit ends exactly once: committed, rejected, superseded or cancelled; whoever waits for it is answered then at the
//! latest. Of a runtime's edits the newest wins. What cannot be compiled, or classified, never reaches a host.

use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::live::{Boundary as HostBoundary, LiveChange, LiveRequest, Patch, Swap};
use ipc::message::{CompileOutcome, CompileTimings};

use super::hosts::Duty;
use super::program::{COMPILE_ATTEMPTS, Phase, Program};
use super::runtime::{
    Asker, Classified, Edit, EditStage, Flight, HistoryEntry, MAX_INCOMING, MAX_WAITING, Recall, Revision, Runtime, Way, Wishes,
};
use super::{
    Action, Compiling, EditNews, Failure, Goal, Inspection, Policy, ProgramText, Report, RuntimeIndex, Target, deadlines, describe,
};
use crate::change;
use crate::control::protocol::{
    Answer, AnswerWhen, Boundary, ChangeEvent, ChangeId, ChangeReport, ChangeState, ErrorCode, ErrorReply, Progress, RevisionName,
    RuntimeName, Timings,
};

/// Plans that may wait for the worker at a time, over all runtimes.
const MAX_PLANS: usize = 64;

/// How long a new revision is on trial, in seconds of its own ticks (DESIGN §9).
const TRIAL_SECONDS: u32 = 1;

/// A request for an edit, from wherever it comes.
pub(super) struct Order {
    pub text: ProgramText,
    pub wishes: Wishes,
    /// The revision it is an edit of; if another one runs, it is stale.
    pub base: Option<RevisionName>,
    /// The change whose text a rollback goes back to.
    pub origin: Option<ChangeId>,
    pub asker: Option<Asker>,
    pub is_plan: bool,
    pub is_forced: bool,
    pub detect_us: u64,
}

impl Order {
    /// An ordinary edit.
    pub fn of(text: ProgramText, wishes: Wishes, asker: Option<Asker>) -> Self {
        Self { text, wishes, base: None, origin: None, asker, is_plan: false, is_forced: false, detect_us: 0 }
    }
}

impl Policy {
    pub(super) fn next_change(&mut self) -> ChangeId {
        self.last_change += 1;
        ChangeId(self.last_change)
    }

    /// Takes an edit of a runtime in. The older ones stay until it is known to be good.
    pub(super) fn order(&mut self, runtime: usize, order: Order, actions: &mut Vec<Action>) {
        let Order { text, wishes, base, origin, asker, is_plan, is_forced, detect_us } = order;
        let hash = text.hash();
        if !is_forced
            && !is_plan
            && let Some(cause) = self.runtimes[runtime].refused.get(&hash)
        {
            let line = cause.line.map(|line| format!(" in line {line}")).unwrap_or_default();
            let why = format!("this text failed before{line}: {}; change it, or push it with force", cause.message);
            if let Some(asker) = asker {
                answer_error(asker, ErrorReply::new(ErrorCode::Refused, why.clone()), actions);
            }
            return actions.push(Action::Tell(Report::Edit { text, news: EditNews::Refused { why } }));
        }
        if is_plan && self.plans.len() >= MAX_PLANS {
            if let Some(asker) = asker {
                answer_error(asker, ErrorReply::new(ErrorCode::Busy, "too many plans wait for the compiler; try again"), actions);
            }
            return;
        }
        let change = self.next_change();
        let settings = self.runtimes[runtime].current.as_ref().and_then(|current| current.settings.clone());
        let timings = Timings { detect_us, ..Timings::default() };
        let stage = EditStage::Queued;
        let edit = Edit {
            change,
            runtime,
            text,
            wishes,
            base,
            origin: origin.unwrap_or(change),
            asker,
            is_plan,
            stage,
            settings,
            is_settled: false,
            attempts: 1,
            previous: None,
            timings,
            worker_deaths: 0,
        };
        if is_plan {
            return self.plans.push(edit);
        }
        self.take_in_edit(runtime, edit, actions);
    }

    /// Puts an edit among those on their way.
    pub(super) fn take_in_edit(&mut self, runtime: usize, edit: Edit, actions: &mut Vec<Action>) {
        let incoming = &mut self.runtimes[runtime].incoming;
        let position = incoming.partition_point(|other| other.change < edit.change);
        incoming.insert(position, edit);
        if incoming.len() > MAX_INCOMING {
            let (oldest, by) = (incoming.remove(0), incoming[0].change);
            self.supersede(oldest, by, actions);
        }
    }

    /// A change is about to take effect: the older ones that have not are over.
    fn supersede_older(&mut self, runtime: usize, by: ChangeId, actions: &mut Vec<Action>) {
        let state = &mut self.runtimes[runtime];
        let incoming: Vec<Edit> = state.incoming.extract_if(.., |edit| edit.change < by).collect();
        let waiting: Vec<Classified> = state.waiting.extract_if(.., |waiting| waiting.edit.change < by).collect();
        for edit in incoming.into_iter().chain(waiting.into_iter().map(|waiting| waiting.edit)) {
            self.supersede(edit, by, actions);
        }
    }

    fn supersede(&mut self, edit: Edit, by: ChangeId, actions: &mut Vec<Action>) {
        let message = format!("change {} took the place of change {} before it took effect", by.0, edit.change.0);
        self.end_edit(edit, ErrorReply::new(ErrorCode::Superseded, message), Progress::Superseded { by }, actions);
    }

    /// Ends an edit without effect: answers, tells subscribers, lets go of the artifact.
    pub(super) fn end_edit(&mut self, mut edit: Edit, error: ErrorReply, progress: Progress, actions: &mut Vec<Action>) {
        if let Some(artifact) = edit.artifact() {
            self.release(artifact.name.clone(), actions);
        }
        if let Some(asker) = edit.asker.take() {
            answer_error(asker, error, actions);
        }
        if !edit.is_plan {
            publish(&edit, None, progress, actions);
        }
    }

    /// Lets go of an artifact, unless a host has it: then it goes with that.
    pub(super) fn release(&self, segment: String, actions: &mut Vec<Action>) {
        if !self.programs.iter().any(|program| program.keep.holds(&segment)) {
            actions.push(Action::Release { segment });
        }
    }

    fn reject(&mut self, edit: Edit, code: ErrorCode, failure: Failure, actions: &mut Vec<Action>) {
        let (error, diagnostics) = match &failure {
            Failure::Rejected(found) => {
                let reply = ErrorReply::compile_failed(found);
                let diagnostics = reply.data.diagnostics.clone();
                (reply, diagnostics)
            }
            other => (ErrorReply::new(code, crate::render::sentences::failure_text(other)), Vec::new()),
        };
        if !edit.is_plan {
            actions.push(Action::Tell(Report::Edit { text: edit.text.clone(), news: EditNews::Rejected(failure) }));
        }
        let progress = Progress::Rejected { why: error.message.clone(), diagnostics };
        self.end_edit(edit, error, progress, actions);
    }

    // ---------------------------------------------------------------------------------------------------- compiling

    /// Gives the worker the next edit: of each runtime the newest one, of those and the plans the oldest.
    pub(super) fn compile_next_edit(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let is_queued = |edit: &&Edit| matches!(edit.stage, EditStage::Queued);
        let newest = self.runtimes.iter().filter_map(|runtime| runtime.incoming.iter().rfind(is_queued));
        let Some(change) = newest.chain(self.plans.iter().filter(is_queued)).map(|edit| edit.change).min() else { return };
        // A worker that is gone is followed by another one.
        if self.compiling.is_some() || !self.process(self.worker()).is_joined() {
            return;
        }
        self.last_request += 1;
        let request = self.last_request;
        self.compiling = Some(Compiling { target: Target::Edit(change), request, deadline_ms: now_ms + deadlines::COMPILE_MS });
        let Some(runtime) = self.edit_mut(change).map(|edit| edit.runtime) else { return };
        let previous = self.base_of(runtime);
        let Some(edit) = self.edit_mut(change) else { return };
        edit.stage = EditStage::Compiling;
        edit.previous = previous.as_ref().map(|base| base.hash());
        let (text, settings) = (edit.text.clone(), edit.settings.clone());
        let previous = previous.map(|base| Arc::clone(&base.plan.content));
        actions.push(Action::CompileEdit { request, text, settings, previous });
    }

    /// What an edit is laid out against: what will run when it gets to the host, as far as that is known.
    fn base_of(&self, runtime: usize) -> Option<Arc<Revision>> {
        let runtime = &self.runtimes[runtime];
        let underway =
            runtime.flight.as_ref().filter(|flight| flight.recalled.is_none() && flight.what.edit.wishes.boundary == Boundary::Frame);
        underway.map(|flight| Arc::clone(&flight.what.revision)).or_else(|| runtime.current.clone())
    }

    pub(super) fn edit_mut(&mut self, change: ChangeId) -> Option<&mut Edit> {
        let incoming = self.runtimes.iter_mut().flat_map(|runtime| &mut runtime.incoming);
        incoming.chain(self.plans.iter_mut()).find(|edit| edit.change == change)
    }

    /// Takes an edit out that has not been classified.
    pub(super) fn take_edit(&mut self, change: ChangeId) -> Option<Edit> {
        if let Some(position) = self.plans.iter().position(|edit| edit.change == change) {
            return Some(self.plans.remove(position));
        }
        self.runtimes.iter_mut().find_map(|runtime| {
            let position = runtime.incoming.iter().position(|edit| edit.change == change)?;
            Some(runtime.incoming.remove(position))
        })
    }

    pub(super) fn edit_compiled(&mut self, change: ChangeId, outcome: CompileOutcome, timings: CompileTimings, actions: &mut Vec<Action>) {
        let Some(edit) = self.edit_mut(change) else {
            if let CompileOutcome::Artifact(artifact) = outcome {
                actions.push(Action::Release { segment: artifact.name });
            }
            return;
        };
        match outcome {
            CompileOutcome::Artifact(artifact) => {
                edit.timings.compile_us += timings.wasm_us;
                edit.timings.native_us += timings.native_us;
                edit.timings.transfer_us += timings.publish_us;
                edit.stage = EditStage::Inspecting { artifact: artifact.clone() };
                let (settings, is_settled) = (edit.settings.clone(), edit.is_settled);
                let base_directory = edit.text.base_directory.clone();
                actions.push(Action::InspectEdit { change, artifact, base_directory, settings, is_settled });
            }
            CompileOutcome::Rejected(diagnostics) => {
                self.reject_change(change, ErrorCode::CompileFailed, Failure::Rejected(diagnostics), actions)
            }
            CompileOutcome::Failed(reason) => self.reject_change(change, ErrorCode::Exhausted, Failure::NotCompiled(reason), actions),
            // Not asked for: edits are compiled to be run.
            CompileOutcome::Checked => {
                self.reject_change(change, ErrorCode::Internal, Failure::NotCompiled("the worker made no artifact".to_owned()), actions);
            }
        }
    }

    pub(super) fn reject_change(&mut self, change: ChangeId, code: ErrorCode, failure: Failure, actions: &mut Vec<Action>) {
        if let Some(edit) = self.take_edit(change) {
            self.reject(edit, code, failure, actions);
        }
    }

    pub(super) fn edit_inspected(&mut self, change: ChangeId, inspection: Inspection, actions: &mut Vec<Action>) {
        let Some(edit) = self.edit_mut(change) else { return };
        let EditStage::Inspecting { artifact } = edit.stage.clone() else { return };
        match inspection {
            Inspection::Playable(plan) => {
                let (text, settings, previous) = (edit.text.clone(), edit.settings.clone(), edit.previous);
                let revision = Arc::new(Revision { text, settings, plan, previous });
                edit.stage = EditStage::Ready { revision, artifact };
            }
            Inspection::NeedsSettings(settings) if !edit.is_settled => {
                edit.settings = Some(settings);
                edit.is_settled = true;
                edit.stage = EditStage::Queued;
                actions.push(Action::Release { segment: artifact.name });
            }
            Inspection::Damaged { .. } if edit.attempts < COMPILE_ATTEMPTS => {
                edit.attempts += 1;
                edit.stage = EditStage::Queued;
                actions.push(Action::Release { segment: artifact.name });
            }
            Inspection::Unplayable { message, line } => {
                self.reject_change(change, ErrorCode::CompileFailed, Failure::Unplayable { message, line }, actions);
            }
            Inspection::Damaged { reason } | Inspection::NotDelivered { reason } => {
                self.reject_change(change, ErrorCode::Exhausted, Failure::NotCompiled(reason), actions);
            }
            Inspection::NeedsSettings(_) | Inspection::Runnable | Inspection::Delivered => {
                let reason = "what it is to be compiled with does not settle".to_owned();
                self.reject_change(change, ErrorCode::Internal, Failure::NotCompiled(reason), actions);
            }
        }
    }

    // -------------------------------------------------------------------------------------------------- classifying

    /// Lets every compiled edit go on that can. Looks at the state only.
    pub(super) fn advance_edits(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.freeze_standbys(now_ms, actions);
        let is_ready = |edit: &Edit| matches!(edit.stage, EditStage::Ready { .. });
        while let Some(position) = self.plans.iter().position(is_ready) {
            let edit = self.plans.remove(position);
            self.answer_plan(edit, actions);
        }
        for runtime in 0..self.runtimes.len() {
            while self.advance_incoming(now_ms, runtime, actions) {}
        }
        self.answer_freezes(actions);
    }

    /// Lets the newest compiled edit of a runtime go on. Returns whether that is over with it, so that an older one may try.
    fn advance_incoming(&mut self, now_ms: u64, runtime: usize, actions: &mut Vec<Action>) -> bool {
        let is_ready = |edit: &Edit| matches!(edit.stage, EditStage::Ready { .. });
        let Some(position) = self.runtimes[runtime].incoming.iter().rposition(is_ready).filter(|_| self.is_free(runtime)) else {
            return false;
        };
        let edit = self.runtimes[runtime].incoming.remove(position);
        let Some(what) = self.classify(runtime, edit) else { return true };
        if let Some(misfit) = self.misfit(runtime, &what) {
            self.turn_down(what, misfit, actions);
            return true;
        }
        if self.needs_acknowledgement(&what) && !what.edit.wishes.is_acknowledged {
            self.ask(runtime, what, actions);
            return true;
        }
        if self.runtimes[runtime].flight.is_some() {
            // It is good: the one that waits for its boundary is called back for it.
            let by = what.edit.change;
            self.runtimes[runtime].incoming.insert(position, what.edit);
            self.recall(runtime, by, actions);
            return false;
        }
        self.supersede_older(runtime, what.edit.change, actions);
        self.set_out(now_ms, runtime, what, actions);
        true
    }

    fn answer_plan(&mut self, mut edit: Edit, actions: &mut Vec<Action>) {
        let asker = edit.asker.take();
        let runtime = edit.runtime;
        let Some(what) = self.classify(runtime, edit) else { return };
        actions.push(Action::Release { segment: what.artifact.name.clone() });
        if let Some(asker) = asker {
            let mut report = self.report(&what, ChangeState::Planned);
            report.refused = self.runtimes[runtime].refused.get(&what.edit.text.hash()).cloned();
            answer(asker, asker.verb.answer(report), actions);
        }
    }

    /// Whether an edit of the runtime can be classified: what it is compared with is settled. A change that waits for its
    /// boundary is in nobody's way.
    fn is_free(&self, runtime: usize) -> bool {
        let state = &self.runtimes[runtime];
        let is_settled = |flight: &Flight| {
            matches!(flight.way, Way::Host { .. }) && flight.what.edit.wishes.boundary != Boundary::Frame && flight.recalled.is_none()
        };
        if !state.flight.as_ref().is_none_or(is_settled) {
            return false;
        }
        let slot = state.slot;
        let Some(slot) = slot else { return true };
        match self.programs[slot.0].phase {
            Phase::Running | Phase::Held | Phase::Quarantined | Phase::Done | Phase::Failed => true,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Starting { .. } => false,
            Phase::Recovering { .. } => false,
        }
    }

    /// Calls a change back that waits for its boundary.
    fn recall(&mut self, runtime: usize, by: ChangeId, actions: &mut Vec<Action>) {
        let slot = self.runtimes[runtime].slot;
        if let (Some(flight), Some(slot)) = (&mut self.runtimes[runtime].flight, slot) {
            flight.recalled = Some(Recall::Superseded { by });
            self.send_live(slot, LiveChange::CancelSwap, actions);
        }
    }

    /// Compares a compiled edit with what runs.
    pub(super) fn classify(&self, runtime: usize, mut edit: Edit) -> Option<Classified> {
        let EditStage::Ready { revision, artifact } = edit.stage.clone() else { return None };
        let base = self.runtimes[runtime].current.clone();
        let mut report = base.as_ref().map(|base| change::classify(of(base), of(&revision), &context(base, &revision)));
        if let (Some(report), Some(base)) = (&mut report, &base) {
            describe::mark_loaded(report, base, &revision);
        }
        // Where there is nothing to wait for, nothing is waited for, and the report says so.
        match report.as_ref().map(|report| report.class) {
            None | Some(ipc::plan::ChangeClass::None) => edit.wishes.boundary = Boundary::Frame,
            Some(ipc::plan::ChangeClass::T) if edit.asker.is_none() => edit.wishes.boundary = Boundary::Frame,
            Some(_) => {}
        }
        Some(Classified { edit, revision, artifact, report, base })
    }

    /// Why an edit cannot take effect, if it cannot.
    fn misfit(&self, runtime: usize, what: &Classified) -> Option<Misfit> {
        let state = &self.runtimes[runtime];
        let current = what.base.as_ref().map(|base| base.hash());
        if let Some(error) = what.edit.base.as_ref().and_then(|base| stale(&state.name, base, current)) {
            return Some(Misfit::Request(error));
        }
        if let Some(message) = self.other_rate(what) {
            return Some(Misfit::Program(message));
        }
        let is_new_host = what.report.as_ref().is_some_and(|report| report.class == ipc::plan::ChangeClass::T);
        let wishes = what.edit.wishes;
        if is_new_host && state.is_frozen {
            let message =
                format!("`{}` is frozen, and the new host that this change needs would play at once; let it run first", state.name);
            return Some(Misfit::Request(ErrorReply::new(ErrorCode::WrongState, message)));
        }
        boundary_error(what.base.as_deref(), wishes.boundary, is_new_host).map(Misfit::Request)
    }

    fn turn_down(&mut self, what: Classified, misfit: Misfit, actions: &mut Vec<Action>) {
        match misfit {
            Misfit::Program(message) => {
                self.reject(what.edit, ErrorCode::CompileFailed, Failure::Unplayable { message, line: None }, actions);
            }
            Misfit::Request(error) => {
                let why = error.message.clone();
                let news = EditNews::Refused { why: why.clone() };
                actions.push(Action::Tell(Report::Edit { text: what.edit.text.clone(), news }));
                self.end_edit(what.edit, error, Progress::Rejected { why, diagnostics: Vec::new() }, actions);
            }
        }
    }

    /// Why this session cannot play the revision, whatever the program says.
    fn other_rate(&self, what: &Classified) -> Option<String> {
        let plan = &what.revision.plan;
        let (rate, settled_by) = self.sample_rate.as_ref()?;
        (plan.has_sound() && plan.sample_rate != *rate).then(|| super::starting::other_rate(plan.sample_rate, *rate, settled_by.as_deref()))
    }

    pub(super) fn needs_acknowledgement(&self, what: &Classified) -> bool {
        let Some(report) = &what.report else { return false };
        let loses = report.loses_state() || report.class == ipc::plan::ChangeClass::T;
        report.class.needs_acknowledgement() || describe::silence(what).is_some() || (self.asks_for_any_loss && loses)
    }

    /// Keeps a change until somebody confirms or cancels it.
    fn ask(&mut self, runtime: usize, mut what: Classified, actions: &mut Vec<Action>) {
        let report = self.report(&what, ChangeState::NeedsAck);
        if let Some(asker) = what.edit.asker.take() {
            answer_error(asker, ErrorReply::needs_ack(report.clone()), actions);
        }
        let sentences = sentences(&what);
        let news = EditNews::NeedsAck { change: what.edit.change, sentences };
        actions.push(Action::Tell(Report::Edit { text: what.edit.text.clone(), news }));
        publish(&what.edit, Some(&what.revision), Progress::NeedsAck { report: Box::new(report) }, actions);
        let change = what.edit.change;
        let waiting = &mut self.runtimes[runtime].waiting;
        waiting.push(what);
        waiting.sort_by_key(|waiting| waiting.edit.change);
        if waiting.len() > MAX_WAITING {
            let oldest = waiting.remove(0);
            self.supersede(oldest.edit, change, actions);
        }
    }

    pub(super) fn report(&self, what: &Classified, state: ChangeState) -> ChangeReport {
        let name = runtime_name(&what.edit.text.name);
        describe::report(&name, what, state)
    }

    /// Somebody takes the loss on. What runs may have changed since: then what is lost is looked at once more.
    pub(super) fn confirm(
        &mut self,
        now_ms: u64,
        runtime: usize,
        change: ChangeId,
        wishes: Wishes,
        asker: Asker,
        actions: &mut Vec<Action>,
    ) -> Result<(), ErrorReply> {
        let state = &mut self.runtimes[runtime];
        let Some(position) = state.waiting.iter().position(|waiting| waiting.edit.change == change) else { return Ok(()) };
        let is_new_host = state.waiting[position].report.as_ref().is_some_and(|report| report.class == ipc::plan::ChangeClass::T);
        // A slip of the finger is no reason to give the change up.
        if let Some(error) = boundary_error(state.current.as_deref(), wishes.boundary, is_new_host) {
            return Err(error);
        }
        let before = state.waiting.remove(position);
        let named = describe::losses(&self.report(&before, ChangeState::NeedsAck));
        let mut edit = before.edit;
        edit.stage = EditStage::Ready { revision: before.revision, artifact: before.artifact };
        edit.wishes = wishes;
        edit.asker = Some(asker);
        let Some(what) = self.classify(runtime, edit) else { return Ok(()) };
        let loses_more = describe::losses(&self.report(&what, ChangeState::NeedsAck)).iter().any(|item| !named.contains(item));
        if loses_more {
            self.ask(runtime, what, actions);
            return Ok(());
        }
        // Goes its way like any other, in case the host has something else to do first.
        let mut edit = what.edit;
        edit.wishes.is_acknowledged = true;
        self.take_in_edit(runtime, edit, actions);
        self.advance_edits(now_ms, actions);
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------- taking effect

    fn set_out(&mut self, now_ms: u64, runtime: usize, mut what: Classified, actions: &mut Vec<Action>) {
        let is_same = what.base.as_ref().is_some_and(|base| base.hash() == what.revision.hash());
        if is_same {
            return self.unchanged(what, actions);
        }
        let asker = what.edit.asker.filter(|asker| asker.when == AnswerWhen::Planned);
        if let Some(asker) = asker {
            what.edit.asker = None;
            let report = self.report(&what, ChangeState::Pending);
            answer(asker, asker.verb.answer(report), actions);
        }
        self.announce(&what, actions);
        let live_slot = self.live_slot(runtime);
        let way = match (what.report.as_ref().map(|report| report.class), live_slot) {
            (Some(ipc::plan::ChangeClass::T) | None, _) | (_, None) => {
                Way::NewHost { slot: self.new_slot(now_ms, runtime, &what, actions) }
            }
            (Some(_), Some(slot)) => Way::Host { request: self.send_change(slot, &what, actions) },
        };
        let good = self.good_revision(runtime);
        self.runtimes[runtime].flight = Some(Flight { what, way, good, recalled: None });
    }

    /// The text plays already: nothing is sent to any host.
    fn unchanged(&self, mut what: Classified, actions: &mut Vec<Action>) {
        actions.push(Action::Release { segment: what.artifact.name.clone() });
        if let Some(asker) = what.edit.asker.take() {
            answer(asker, asker.verb.answer(self.report(&what, ChangeState::Committed)), actions);
        }
        publish(&what.edit, Some(&what.revision), Progress::Unchanged {}, actions);
        actions.push(Action::Tell(Report::Edit { text: what.edit.text, news: EditNews::Unchanged }));
    }

    /// Says what a change will cost before any host hears of it.
    fn announce(&self, what: &Classified, actions: &mut Vec<Action>) {
        let (boundary, report) = (what.edit.wishes.boundary, Box::new(self.report(what, ChangeState::Pending)));
        publish(&what.edit, Some(&what.revision), Progress::Pending { boundary, report }, actions);
        let sentences = what.report.as_ref().map(change::sentences::losses).unwrap_or_default();
        if !sentences.is_empty() && !what.edit.wishes.is_acknowledged {
            let news = EditNews::Pending { change: what.edit.change, sentences };
            actions.push(Action::Tell(Report::Edit { text: what.edit.text.clone(), news }));
        }
    }

    /// The life of the runtime that runs now, or goes on as soon as another host has taken it over.
    pub(super) fn live_slot(&self, runtime: usize) -> Option<RuntimeIndex> {
        let slot = self.runtimes.get(runtime)?.slot?;
        match self.programs[slot.0].phase {
            Phase::Running | Phase::Held | Phase::Recovering { .. } => Some(slot),
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => None,
            Phase::Starting { .. } | Phase::Quarantined | Phase::Done | Phase::Failed => None,
        }
    }

    fn send_change(&mut self, slot: RuntimeIndex, what: &Classified, actions: &mut Vec<Action>) -> u64 {
        let mut request = change_of(what);
        if let LiveChange::Swap(swap) = &mut request {
            let good = self.good_revision(what.edit.runtime);
            swap.back_to_good = good.map(|good| change::plan_back(of(&what.revision), of(&good)));
        }
        let is_swap = matches!(request, LiveChange::Swap(_));
        let content = is_swap.then(|| Arc::clone(&what.revision.plan.content));
        self.send(slot, request, None, content, actions)
    }

    pub(super) fn send_live(&mut self, slot: RuntimeIndex, what: LiveChange, actions: &mut Vec<Action>) -> u64 {
        self.send(slot, what, None, None, actions)
    }

    /// The same, for a tick that is to come.
    pub(super) fn send_live_at(&mut self, slot: RuntimeIndex, what: LiveChange, at_tick: Option<u64>, actions: &mut Vec<Action>) -> u64 {
        self.send(slot, what, at_tick, None, actions)
    }

    /// Asks the host of a program. While it has none, the next one will be asked.
    fn send(
        &mut self,
        slot: RuntimeIndex,
        what: LiveChange,
        at_tick: Option<u64>,
        content: Option<Arc<super::Content>>,
        actions: &mut Vec<Action>,
    ) -> u64 {
        self.last_live_request += 1;
        let request = LiveRequest { request: self.last_live_request, at_tick, what };
        let program = &mut self.programs[slot.0];
        program.keep.sent(&request);
        let is_running = matches!(program.phase, Phase::Running | Phase::Held);
        if let Some(host) = program.host.filter(|_| is_running) {
            actions.push(Action::Live { runtime: slot, host, request, content });
        }
        self.last_live_request
    }

    /// A new host for a compiled program.
    fn new_slot(&mut self, now_ms: u64, runtime: usize, what: &Classified, actions: &mut Vec<Action>) -> RuntimeIndex {
        let slot = RuntimeIndex(self.programs.len());
        let is_running = self.live_slot(runtime).is_some();
        let state = &mut self.runtimes[runtime];
        let generation = state.generation.max(state.last_generation) + 1;
        state.last_generation = generation;
        if !is_running {
            state.generation = generation;
        }
        let lane_name = if generation == 1 { state.name.clone() } else { format!("{}/{generation}", state.name) };
        let mut program = Program::new(state.name.clone());
        program.runtime = Some(runtime);
        program.lane_name = lane_name;
        program.generation = generation;
        program.revision = Some(Arc::clone(&what.revision));
        program.phase = Phase::Ready { artifact: what.artifact.clone(), plan: Some(what.revision.plan.clone()) };
        self.programs.push(program);
        self.texts.push(what.edit.text.clone());
        let lines = what.revision.plan.log.iter().cloned();
        actions.extend(lines.map(|line| Action::Tell(Report::Log { runtime: slot, line })));
        self.spawn_host(now_ms, Duty::Program(slot), actions);
        slot
    }

    /// A change is in effect.
    #[allow(clippy::too_many_arguments, reason = "what is known of a commit")]
    pub(super) fn committed(
        &mut self,
        now_ms: u64,
        runtime: usize,
        mut what: Classified,
        tick: u64,
        commit_ns: Option<u64>,
        carried: Option<&ipc::live::Carried>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(asker) = what.edit.asker.take() {
            let report = self.report(&what, ChangeState::Committed);
            answer(asker, asker.verb.answer(report), actions);
        }
        let progress = describe::committed(&what, tick, commit_ns, carried, self.is_by_recovery);
        publish(&what.edit, Some(&what.revision), progress, actions);
        let class = what.class();
        if what.base.is_some() {
            let news = EditNews::Committed {
                change: what.edit.change,
                tick,
                sentences: sentences(&what),
                timings: what.edit.timings,
                commit_us: commit_ns.map(|ns| ns / 1_000),
            };
            actions.push(Action::Tell(Report::Edit { text: what.edit.text.clone(), news }));
        }
        let state = &mut self.runtimes[runtime];
        if let Some(slot) = state.slot {
            self.texts[slot.0] = what.edit.text.clone();
            self.programs[slot.0].revision = Some(Arc::clone(&what.revision));
        }
        state.cause = None;
        state.current = Some(Arc::clone(&what.revision));
        state.last = Some(what.revision.text.clone());
        state.remember(HistoryEntry {
            hash: what.revision.hash(),
            text: what.edit.text,
            change: what.edit.change,
            origin: what.edit.origin,
            class,
            boundary: what.edit.wishes.boundary,
            committed_ms: now_ms,
            tick,
            is_good: false,
            refused: None,
        });
    }

    /// A change under way does not take effect.
    pub(super) fn flight_failed(&mut self, runtime: usize, failure: Failure, actions: &mut Vec<Action>) {
        let Some(flight) = self.runtimes[runtime].flight.take() else { return };
        let mut edit = flight.what.edit;
        edit.stage = EditStage::Queued; // The host has let go of the artifact.
        self.release(flight.what.artifact.name, actions);
        if let Some(Recall::Cancelled { ticket: Some(ticket) }) = flight.recalled {
            let error = ErrorReply::new(ErrorCode::UnknownChange, format!("change {} has been rejected meanwhile", edit.change.0));
            actions.push(Action::Answer { ticket, outcome: Box::new(Err(error)) });
        }
        self.reject(edit, ErrorCode::NotApplied, failure, actions);
    }

    /// Whether this kind of session can be changed while it runs.
    pub(super) fn is_live(&self) -> bool {
        match self.goal {
            Goal::Play { .. } | Goal::Serve => true,
            Goal::Check | Goal::Compile | Goal::Run | Goal::Bounce | Goal::Replay { .. } | Goal::ListDevices => false,
        }
    }
}

/// What a host is asked for a change to take effect.
fn change_of(what: &Classified) -> LiveChange {
    let class = what.report.as_ref().map_or(ipc::plan::ChangeClass::B, |report| report.class);
    let there = what.base.as_ref().filter(|_| is_patch(class, what.edit.wishes.boundary));
    let Some(base) = there else { return LiveChange::Swap(Box::new(swap_of(what))) };
    LiveChange::Patch(Box::new(Patch {
        artifact: what.artifact.clone(),
        revision: what.revision.hash(),
        plan: change::plan(of(base), of(&what.revision)),
        trial_ticks: if class == ipc::plan::ChangeClass::None { 0 } else { trial_ticks(&what.revision) },
        base_directory: what.edit.text.base_directory.clone(),
    }))
}

/// The change as another program that takes the place of the one that runs.
pub(super) fn swap_of(what: &Classified) -> Swap {
    let boundary = match (what.edit.wishes.boundary, what.base.as_ref().and_then(|base| base.plan.pulse.clone())) {
        (Boundary::Freeze, _) => HostBoundary::Freeze,
        (Boundary::Pulse, Some(item)) => HostBoundary::Pulse { item },
        (Boundary::Frame | Boundary::Pulse, _) => HostBoundary::Frame,
    };
    Swap {
        artifact: what.artifact.clone(),
        state: None,
        revision: what.revision.hash(),
        there: what.base.as_ref().map(|base| change::plan(of(base), of(&what.revision))),
        back: what.base.as_ref().map(|base| change::plan_back(of(&what.revision), of(base))),
        back_to_good: None,
        boundary,
        trial_ticks: swap_trial_ticks(&what.revision, what.edit.wishes),
        crossfade_frames: crossfade_frames(&what.revision, what.edit.wishes),
        base_directory: what.edit.text.base_directory.clone(),
    }
}

/// Why an edit is turned down although it compiles.
enum Misfit {
    /// This session cannot play the program.
    Program(String),
    /// What was asked for does not go together with what runs.
    Request(ErrorReply),
}

/// Whether the revision that an edit is of runs no more.
pub(super) fn stale(name: &str, base: &RevisionName, current: Option<ContentHash>) -> Option<ErrorReply> {
    let found = current.map(|current| current.to_string()).unwrap_or_default();
    if found.starts_with(base.as_str()) {
        return None;
    }
    let short = |hash: &str| hash.get(..8).unwrap_or(if hash.is_empty() { "none" } else { hash }).to_owned();
    let message = format!("`{name}` is at revision {}, not {}", short(&found), short(base.as_str()));
    Some(ErrorReply::new(ErrorCode::StaleGeneration, message).in_field("params.base").with_known(vec![found]))
}

/// Why a change cannot take effect at this boundary.
fn boundary_error(base: Option<&Revision>, boundary: Boundary, is_new_host: bool) -> Option<ErrorReply> {
    let message = match boundary {
        Boundary::Frame => return None,
        Boundary::Freeze | Boundary::Pulse if is_new_host => {
            "this change needs a new host, which takes over as soon as it is ready; use the boundary frame"
        }
        Boundary::Pulse if base.is_some_and(|base| base.plan.pulse.is_none()) => {
            "the program that runs names no pulse; use another boundary"
        }
        Boundary::Freeze | Boundary::Pulse => return None,
    };
    Some(ErrorReply::new(ErrorCode::UnknownBoundary, message).in_field("params.boundary"))
}

/// What `change` works on.
pub(super) fn of(revision: &Revision) -> change::Revision<'_> {
    let content = &revision.plan.content;
    change::Revision { manifest: &content.manifest, image: &content.image }
}

pub(super) fn context<'a>(old: &'a Revision, new: &'a Revision) -> change::Context<'a> {
    let facts = |revision: &'a Revision| change::RuntimeFacts {
        runtime_type: &revision.plan.runtime_type,
        sample_rate_hz: revision.plan.sample_rate,
    };
    change::Context { old: facts(old), new: facts(new) }
}

fn sentences(what: &Classified) -> Vec<String> {
    let silence = describe::silence(what);
    silence.into_iter().chain(what.report.as_ref().map(change::sentences::sentences).unwrap_or_default()).collect()
}

/// Whether a change only patches the running memory.
fn is_patch(class: ipc::plan::ChangeClass, boundary: Boundary) -> bool {
    class <= ipc::plan::ChangeClass::A && boundary == Boundary::Frame
}

pub(super) fn crossfade_frames(revision: &Revision, wishes: Wishes) -> u32 {
    let frames = u64::from(wishes.crossfade_ms) * u64::from(revision.plan.sample_rate) / 1_000;
    u32::try_from(frames).unwrap_or(u32::MAX)
}

/// Ticks of one second of a revision.
pub(super) fn trial_ticks(revision: &Revision) -> u32 {
    (ticks_per_second(revision) * TRIAL_SECONDS).max(1)
}

/// Ticks of a second, rounded up.
pub(super) fn ticks_per_second(revision: &Revision) -> u32 {
    let plan = &revision.plan;
    if plan.has_sound() { plan.sample_rate.div_ceil(ipc::limits::BLOCK_FRAMES as u32) } else { plan.sample_rate }
}

/// Ticks that a swap is on trial: a second of its revision, and as long as what it took the place of is still heard. Until then
/// the old program is kept, so a failure may go back to it.
pub(super) fn swap_trial_ticks(revision: &Revision, wishes: Wishes) -> u32 {
    let fade_ticks = crossfade_frames(revision, wishes).div_ceil(ipc::limits::BLOCK_FRAMES as u32);
    trial_ticks(revision).max(if revision.plan.has_sound() { fade_ticks } else { 0 })
}

pub(super) fn answer(asker: Asker, answer: Answer, actions: &mut Vec<Action>) {
    actions.push(Action::Answer { ticket: asker.ticket, outcome: Box::new(Ok(answer)) });
}

pub(super) fn answer_error(asker: Asker, error: ErrorReply, actions: &mut Vec<Action>) {
    actions.push(Action::Answer { ticket: asker.ticket, outcome: Box::new(Err(error)) });
}

/// Tells subscribers what happened to a change.
pub(super) fn publish(edit: &Edit, revision: Option<&Revision>, progress: Progress, actions: &mut Vec<Action>) {
    let found = match &edit.stage {
        EditStage::Ready { revision, .. } => Some(revision.hash()),
        EditStage::Queued | EditStage::Compiling | EditStage::Inspecting { .. } => revision.map(Revision::hash),
    };
    let event = ChangeEvent { change: edit.change, runtime: runtime_name(&edit.text.name), revision: found.map(Into::into), progress };
    actions.push(Action::Tell(Report::Change(Box::new(event))));
}

/// The name as the protocol has it. Names of runtimes are checked where they come in, so the fallback is never used.
pub(super) fn runtime_name(name: &str) -> RuntimeName {
    let cleaned: String = name.chars().map(|c| if c.is_control() || c == '/' || c == ':' { '_' } else { c }).take(16).collect();
    let checked = RuntimeName::new(name).or_else(|_| RuntimeName::new(cleaned.trim()));
    checked.unwrap_or_else(|_| RuntimeName::new("unnamed").expect("a fixed name is a name"))
}

/// For `Runtime` lookups by name.
pub(super) fn find(runtimes: &[Runtime], name: &str) -> Option<usize> {
    runtimes.iter().position(|runtime| runtime.name == name && !runtime.is_vacant())
}
