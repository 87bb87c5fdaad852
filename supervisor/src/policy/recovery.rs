//! What happens when a process of a session dies that goes on without it: another host takes the runtime over, another worker
//! compiles, another device host plays. Part of the state machine: see the parent module.
//!
//! A host that is killed for a fault counts as dead when the kernel says so, never before: two hosts must not write one lane.

use std::collections::BTreeSet;

use ipc::live::{Carried, LiveChange, LiveReply, LiveRequest, SwapProgress};
use ipc::message::{OutputMap, StartRuntime, WorkerReply};
use ipc::recovery::{TakeOver, TookOver};
use ipc::segment::SegmentRef;
use runtime_host::registry;

use super::blame::Opening;
use super::hosts::Duty;
use super::program::{Lane, Phase, Program};
use super::trials::Undone;
use super::{Action, Child, Device, Failure, HostIndex, Loss, Policy, Report, RuntimeIndex, Stage, Target, Verdict, deadlines, looking};
use crate::control::protocol::{Cause, ErrorCode};

impl Policy {
    // ------------------------------------------------------------------------------------------------- runtime hosts

    pub(super) fn host_lost(&mut self, now_ms: u64, host: HostIndex, loss: Loss, actions: &mut Vec<Action>) {
        match self.hosts.remove(&host) {
            Some(Duty::Spare(_)) => {
                self.spare_restarts.died(now_ms, self.intensity);
            }
            Some(Duty::Program(runtime)) => self.program_lost(now_ms, runtime, host, &loss, actions),
            None => {}
        }
    }

    /// A program has lost its host.
    fn program_lost(&mut self, now_ms: u64, runtime: RuntimeIndex, host: HostIndex, loss: &Loss, actions: &mut Vec<Action>) {
        let verdict = self.blame(runtime, loss.end);
        let is_restarted = self.is_live() && self.stage == Stage::Working;
        let (intensity, session_intensity) = (self.intensity, self.session_intensity);
        let Some(program) = self.programs.get_mut(runtime.0).filter(|program| program.host == Some(host)) else { return };
        program.host = None;
        let is_spares = std::mem::take(&mut program.is_host_spare) && loss.tick.is_none();
        if !is_restarted || program.is_retiring || program.is_stop_sent {
            return self.fail(runtime, Failure::NoHost, verdict, actions);
        }
        if self.hand_back_from_the_dead(runtime, loss, actions) {
            return;
        }
        let program = &mut self.programs[runtime.0];
        let plan = program.revision.as_ref().map(|revision| revision.plan.clone());
        let is_protected = program.keep.is_protected();
        let is_after_another = matches!(program.phase, Phase::Recovering { .. });
        match program.phase.clone() {
            Phase::Done | Phase::Failed | Phase::Quarantined => return,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => {}
            Phase::Starting { artifact, .. } => program.phase = Phase::Ready { artifact, plan },
            Phase::Running | Phase::Held | Phase::Recovering { .. } => program.phase = Phase::Recovering { deadline_ms: None },
        }
        program.watch = program.watch.begun_anew();
        program.loss = Some(describe_loss(program, loss, is_after_another));
        let was_running = matches!(program.phase, Phase::Recovering { .. });
        let is_borne = match program.runtime {
            Some(named) if is_after_another && is_spares => {
                // It was dead already, or died of itself: no reason to make the program wait for the next host.
                self.spare_restarts.died(now_ms, intensity);
                self.runtimes[named].restarts.died_unused(now_ms, intensity)
            }
            Some(named) => self.runtimes[named].restarts.died(now_ms, intensity),
            None => true,
        };
        let is_borne = self.session_restarts.died(now_ms, session_intensity) && is_borne;
        if !is_borne {
            return self.quarantine(runtime, loss, verdict, actions);
        }
        if !was_running {
            return;
        }
        if !is_protected {
            return self.start_over(runtime, actions);
        }
        self.next_generation(runtime);
        if !self.find_blame(runtime, loss.tick, actions) {
            self.hold_blamed(runtime, actions);
        }
    }

    /// A host has come so far that what goes wrong next is another story.
    pub(super) fn settled(&mut self, runtime: RuntimeIndex) {
        if let Some(named) = self.programs[runtime.0].runtime {
            self.runtimes[named].restarts.is_ready();
        }
    }

    pub(super) fn next_generation(&mut self, runtime: RuntimeIndex) {
        let program = &mut self.programs[runtime.0];
        program.generation += 1;
        if let Some(named) = program.runtime {
            let state = &mut self.runtimes[named];
            // Of several lives of a runtime each has numbers of its own.
            program.generation = program.generation.max(state.generation + 1).max(state.last_generation + 1);
            state.last_generation = program.generation;
            state.generation = program.generation;
        }
    }

    /// Its hosts die too often: it is left alone until somebody wants it again.
    fn quarantine(&mut self, runtime: RuntimeIndex, loss: &Loss, verdict: Verdict, actions: &mut Vec<Action>) {
        let (last, what) = (loss.words(), if loss.end.is_some() { "died" } else { "could not be started" });
        let (deaths, seconds) = (self.intensity.deaths, self.intensity.window_ms / 1_000);
        let cause = format!("its hosts {what} more than {deaths} times within {seconds} s (the last one: {last}); `restart` tries again");
        self.hold_back(runtime, cause, verdict, actions);
    }

    /// Takes a program out of play until somebody restarts its runtime or pushes another text to it.
    pub(super) fn hold_back(&mut self, runtime: RuntimeIndex, cause: String, verdict: Verdict, actions: &mut Vec<Action>) {
        self.verdict = self.verdict.max(verdict);
        actions.push(Action::Tell(Report::Quarantined { runtime, cause: cause.clone() }));
        let failure = Failure::Quarantined { cause };
        self.let_go_of_lane(runtime, actions);
        self.programs[runtime.0].phase = Phase::Quarantined;
        self.slot_over(runtime, Some(&failure), actions);
    }

    /// What cannot be recovered starts from its defaults, in a lane of its own.
    pub(super) fn start_over(&mut self, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let last = self.programs[runtime.0].revision.as_ref().map(|revision| revision.text.clone());
        let named = self.programs[runtime.0].runtime;
        self.fail(runtime, Failure::NoHost, Verdict::Environment, actions);
        if let (Some(text), Some(named)) = (last, named) {
            self.order_again(named, text, actions);
        }
        // Its deaths count on: it is the same runtime.
    }

    /// Finds a host for everything that has none, and tells those that are to take over.
    pub(super) fn advance_recovery(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if !self.is_live() {
            return;
        }
        for runtime in (0..self.programs.len()).map(RuntimeIndex) {
            self.find_host(now_ms, runtime, actions);
            self.tell_to_take_over(now_ms, runtime, actions);
        }
    }

    /// When the next host may be started, if a program lacks one.
    pub(super) fn host_deadline_ms(&self, runtime: RuntimeIndex) -> Option<u64> {
        let program = &self.programs[runtime.0];
        (self.is_live() && self.stage == Stage::Working && program.host.is_none() && needs_host(&program.phase))
            .then(|| program.runtime.map_or(0, |named| self.runtimes[named].restarts.not_before_ms))
    }

    fn find_host(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        if self.host_deadline_ms(runtime).is_none_or(|not_before_ms| not_before_ms > now_ms) {
            return;
        }
        let is_recovering = matches!(self.programs[runtime.0].phase, Phase::Recovering { .. });
        match self.spare().filter(|_| is_recovering) {
            Some(spare) => {
                let before = self.hosts.insert(spare, Duty::Program(runtime));
                let program = &mut self.programs[runtime.0];
                (program.host, program.is_host_spare) = (Some(spare), true);
                program.loaded = if let Some(Duty::Spare(spare)) = before { spare.ready_of(&program.name) } else { BTreeSet::new() };
            }
            None => {
                self.programs[runtime.0].loaded.clear();
                self.spawn_host(now_ms, Duty::Program(runtime), actions);
            }
        }
    }

    fn tell_to_take_over(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &self.programs[runtime.0];
        let (Phase::Recovering { deadline_ms: None }, Some(host)) = (&program.phase, program.host) else { return };
        if !self.process(Child::Host(host)).is_joined() {
            return;
        }
        let opening = self.opening(runtime, actions);
        let Some(mut order) = self.take_over_order(runtime) else { return self.start_over(runtime, actions) };
        let mut made = None;
        match opening {
            Opening::Plain => {}
            Opening::NotYet => return,
            Opening::Never => return self.hold_blamed(runtime, actions),
            Opening::Again { request } => order.first.push(request),
            Opening::With { request, content } => {
                order.first.push(request);
                made = content.map(|content| (runtime, content));
            }
        }
        order.first.iter().for_each(|asked| self.programs[runtime.0].keep.sent(asked));
        let deadline_ms = Some(now_ms + self.take_over_ms(runtime, &order));
        self.programs[runtime.0].phase = Phase::Recovering { deadline_ms };
        self.programs[runtime.0].wiring = (*order.start.wiring).clone();
        actions.push(Action::TakeOver { host, order: Box::new(order), content: made });
    }

    /// How long a takeover may take. Long where files may have to be read: before the first tick, and for a program that is to
    /// take the place of the one that ran.
    fn take_over_ms(&self, runtime: RuntimeIndex, order: &TakeOver) -> u64 {
        let program = &self.programs[runtime.0];
        let Some(plan) = program.revision.as_ref().map(|revision| &revision.plan) else { return deadlines::START_RUNTIME_MS };
        let Some(found) = registry::find(&plan.runtime_type) else { return deadlines::START_RUNTIME_MS };
        let may_read_files = (program.ticks == 0 && !plan.assets.is_empty()) || !order.first.is_empty();
        if may_read_files {
            return deadlines::START_RUNTIME_MS;
        }
        let memory_bytes = plan.content.manifest.memories.iter().map(|memory| memory.required_bytes).sum();
        let to_load = order.candidates.iter().filter(|candidate| !program.loaded.contains(&candidate.revision));
        let load_bytes = to_load.map(|candidate| candidate.artifact.bytes).max();
        deadlines::take_over_ms(found.stall_patience_ms, memory_bytes, load_bytes)
    }

    /// What a host is told that goes on with a program.
    fn take_over_order(&self, runtime: RuntimeIndex) -> Option<TakeOver> {
        let program = &self.programs[runtime.0];
        let (revision, current) = (program.revision.as_ref()?, program.keep.current()?);
        let lane = match &program.lane {
            Lane::Created(lane) => Some(lane.clone()),
            Lane::None | Lane::Asked | Lane::Gone => None,
        };
        let start = StartRuntime {
            runtime: program.name.clone(),
            generation: program.generation,
            runtime_type: revision.plan.runtime_type.clone(),
            artifact: current.artifact.clone(),
            sample_rate: revision.plan.sample_rate,
            lane,
            state: current.state.clone(),
            base_directory: revision.text.base_directory.clone(),
            is_offline: false,
            run_until: None,
            wiring: Box::new(self.wiring(runtime)),
        };
        Some(TakeOver { start, candidates: program.keep.candidates(), first: Vec::new() })
    }

    /// A host goes on with a program: what was open when the one before it died is settled.
    pub(super) fn took_over(&mut self, now_ms: u64, runtime: RuntimeIndex, took: Box<TookOver>, actions: &mut Vec<Action>) {
        let program = &mut self.programs[runtime.0];
        let is_told = matches!(program.phase, Phase::Recovering { deadline_ms: Some(_) });
        if !is_told || took.generation != program.generation {
            self.stale += 1;
            return;
        }
        program.phase = if took.is_held { Phase::Held } else { Phase::Running };
        program.ticks = program.ticks.max(took.next_tick);
        self.settled(runtime);
        let program = &self.programs[runtime.0];
        let pid = program.host.map_or(0, |host| self.process(Child::Host(host)).pid);
        let named = self.programs[runtime.0].runtime.filter(|named| self.runtimes[*named].slot == Some(runtime));
        if let Some(named) = named {
            self.runtimes[named].is_frozen = took.is_frozen;
        }
        self.settle(now_ms, runtime, &took, actions);
        self.recovered(now_ms, runtime, took, pid);
    }

    /// Answers what the dead host did not: what it had done as done, the rest once more, except changes, which are not made
    /// a second time behind anybody's back.
    pub(super) fn settle(&mut self, now_ms: u64, runtime: RuntimeIndex, took: &TookOver, actions: &mut Vec<Action>) {
        let open = std::mem::take(&mut self.programs[runtime.0].keep.unanswered);
        let mut again = Vec::new();
        for asked in open {
            let request = asked.request;
            let tick = took.applied.iter().find(|(applied, _)| *applied == request).map(|(_, tick)| *tick);
            if tick.is_none() && self.is_remedy(runtime, request) {
                // The host has been given it to begin with, and says next what has come of it.
                self.programs[runtime.0].keep.unanswered.push(asked);
                continue;
            }
            match (&asked.what, tick) {
                (LiveChange::Swap(_), Some(tick)) => {
                    let progress = SwapProgress::Committed { tick, commit_ns: 0, carried: Carried::default() };
                    self.answer_for_the_dead(now_ms, runtime, LiveReply::Swap { request, progress }, actions);
                }
                (LiveChange::Swap(_) | LiveChange::Patch(_), None) => self.change_lost(runtime, request, actions),
                (LiveChange::CancelSwap | LiveChange::RollBack | LiveChange::Proceed { .. }, _) => {}
                (LiveChange::Get { .. }, _) => again.push(asked),
                (LiveChange::Patch(_) | LiveChange::Set { .. } | LiveChange::Reset | LiveChange::Freeze | LiveChange::Run, Some(tick)) => {
                    self.answer_for_the_dead(now_ms, runtime, LiveReply::Applied { request, tick, carried: None }, actions);
                }
                (LiveChange::Midi { .. }, Some(tick)) => {
                    self.answer_for_the_dead(now_ms, runtime, LiveReply::Applied { request, tick, carried: None }, actions);
                }
                (LiveChange::Midi { .. }, None) => again.push(asked),
                (LiveChange::Set { .. } | LiveChange::Reset | LiveChange::Freeze | LiveChange::Run, None) => again.push(asked),
            }
        }
        self.settle_trial(runtime, took, actions);
        self.remedied(runtime, took.revision, actions);
        self.ask_again(runtime, again, actions);
    }

    fn answer_for_the_dead(&mut self, now_ms: u64, runtime: RuntimeIndex, reply: LiveReply, actions: &mut Vec<Action>) {
        self.is_by_recovery = true;
        self.live_said(now_ms, runtime, reply, actions);
        self.is_by_recovery = false;
    }

    fn ask_again(&mut self, runtime: RuntimeIndex, again: Vec<LiveRequest>, actions: &mut Vec<Action>) {
        let Some(host) = self.programs[runtime.0].host else { return };
        for request in again {
            self.programs[runtime.0].keep.unanswered.push(request.clone());
            actions.push(Action::Live { runtime, host, request, content: None });
        }
    }

    /// A change died with the host that was to make it.
    pub(super) fn change_lost(&mut self, runtime: RuntimeIndex, request: u64, actions: &mut Vec<Action>) {
        self.programs[runtime.0].keep.answered(request);
        let released = self.programs[runtime.0].keep.dropped(request);
        actions.extend(released.into_iter().map(|segment| Action::Release { segment }));
        let Some(named) = self.programs[runtime.0].runtime.filter(|named| self.is_flight(*named, request)) else { return };
        if self.runtimes[named].flight.as_ref().is_some_and(|flight| flight.recalled.is_some()) {
            return self.flight_recalled(named, actions);
        }
        self.flight_failed(named, Failure::HostDied, actions);
    }

    /// The dead host may have ended trials without a word, and those of patches have ended with it.
    fn settle_trial(&mut self, slot: RuntimeIndex, took: &TookOver, actions: &mut Vec<Action>) {
        let Some(named) = self.programs[slot.0].runtime else { return };
        let open = took.trial.map(|(open, _)| open);
        while let Some(Some(trial)) = self.trial_in(named, slot) {
            let (request, tick) = (trial.request, took.next_tick);
            if Some(request) == open {
                return self.cut_later_short(named, slot, request, tick, actions);
            }
            if took.revision == trial.base.hash() && took.revision != trial.revision.hash() {
                let fault = ipc::fault::Fault { kind: ipc::fault::FaultKind::Trap, tick, block: None, line: None, repeats: 0 };
                // What the takeover cost is told of its own.
                let undone = Undone { tick, fault: fault.clone(), to: took.revision, is_late: true };
                let progress = SwapProgress::RolledBack { tick, fault, to: took.revision, is_partial: false, is_late: true };
                self.keep_up(slot, &LiveReply::Swap { request, progress }, actions);
                self.rolled_back(named, slot, request, undone, actions);
            } else {
                self.keep_up(slot, &LiveReply::Swap { request, progress: SwapProgress::TrialPassed { tick } }, actions);
                self.trial_passed(named, slot, request, actions);
            }
        }
    }

    /// The trial of a swap goes on in the next host, those of the patches since have ended with the last one.
    fn cut_later_short(&mut self, named: usize, slot: RuntimeIndex, open: u64, tick: u64, actions: &mut Vec<Action>) {
        let later = self.trial_in(named, slot).into_iter().flatten().flat_map(|trial| &trial.later).filter_map(|later| later.request);
        for request in later.filter(|request| *request != open).collect::<Vec<_>>() {
            self.keep_up(slot, &LiveReply::Swap { request, progress: SwapProgress::TrialCutShort { tick } }, actions);
            self.trial_cut_short(named, slot, request);
        }
    }

    /// A host cannot take over.
    pub(super) fn takeover_refused(&mut self, runtime: RuntimeIndex, message: String, actions: &mut Vec<Action>) {
        actions.push(Action::Tell(Report::Log { runtime, line: format!("it cannot be recovered: {message}") }));
        self.start_over(runtime, actions);
    }

    // ------------------------------------------------------------------------------------------------ state segments

    pub(super) fn state_created(&mut self, runtime: RuntimeIndex, request: Option<u64>, state: SegmentRef, actions: &mut Vec<Action>) {
        let is_wanted = self.programs.get_mut(runtime.0).is_some_and(|program| program.keep.protect(request, &state));
        if !is_wanted {
            actions.push(Action::Release { segment: state.name });
        }
    }

    /// There is no room for checkpoints: the runtime plays on, and that it is at risk is said once.
    pub(super) fn state_not_created(&mut self, runtime: RuntimeIndex, reason: String, actions: &mut Vec<Action>) {
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        if !std::mem::replace(&mut program.is_risk_told, true) {
            actions.push(Action::Tell(Report::Unprotected { runtime, reason }));
        }
    }

    // ---------------------------------------------------------------------------------------- worker and device host

    pub(super) fn worker_lost(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let is_borne = self.worker_restarts.died(now_ms, self.intensity);
        if !is_borne && !self.has_worker_joined {
            return self.worker_gone(now_ms, actions);
        }
        let Some(compiling) = self.compiling.take() else { return };
        match compiling.target {
            Target::Program(runtime) if self.compiles_again(runtime) => {}
            Target::Program(runtime) => self.fail(runtime, Failure::CompilerRestarted, Verdict::Program, actions),
            Target::Edit(change) if self.edit_compiles_again(change) => {}
            Target::Edit(change) => self.edit_compile_died(change, actions),
            Target::Script => self.end_script("the compiler-worker is gone", actions),
        }
    }

    /// A compile has missed its deadline. A worker that stands still looks like one that has too much to do, so where there is
    /// a next worker, that one has a try. Nothing else of a compile can be interrupted than the worker.
    pub(super) fn compile_overdue(&mut self, now_ms: u64, target: Target, actions: &mut Vec<Action>) {
        let is_followed = self.is_live() && self.stage == Stage::Working;
        match target {
            Target::Program(runtime) if is_followed && self.compiles_again(runtime) => {}
            Target::Program(runtime) => self.fail(runtime, Failure::CompileTooLong, Verdict::Program, actions),
            Target::Edit(change) if is_followed && self.edit_compiles_again(change) => {}
            Target::Edit(change) => self.reject_change(change, ErrorCode::CompileFailed, Failure::CompileTooLong, actions),
            Target::Script => self.end_script("a revision of the recording takes too long to compile", actions),
        }
        if is_followed {
            let reason = format!("it has not compiled a program within {} s", deadlines::COMPILE_MS / 1_000);
            self.stuck(now_ms, self.worker(), reason, actions);
        } else {
            self.kill(self.worker(), actions);
        }
    }

    /// A worker was lost while it compiled a program. Queues that once more, unless too many were lost of it.
    fn compiles_again(&mut self, runtime: RuntimeIndex) -> bool {
        let Some(program) = self.programs.get_mut(runtime.0).filter(|program| program.phase == Phase::Compiling) else { return true };
        program.worker_deaths += 1;
        let is_tried = program.worker_deaths < WORKER_DEATHS;
        if is_tried {
            program.phase = Phase::Queued;
        }
        is_tried
    }

    fn edit_compiles_again(&mut self, change: crate::control::protocol::ChangeId) -> bool {
        let Some(edit) = self.edit_mut(change) else { return true };
        edit.worker_deaths += 1;
        let is_tried = edit.worker_deaths < WORKER_DEATHS;
        if is_tried {
            edit.stage = super::runtime::EditStage::Queued;
        }
        is_tried
    }

    fn edit_compile_died(&mut self, change: crate::control::protocol::ChangeId, actions: &mut Vec<Action>) {
        let Some(edit) = self.edit_mut(change) else { return };
        let (runtime, text) = (edit.runtime, edit.text.hash());
        let message = crate::render::sentences::failure_text(&Failure::CompilerRestarted);
        self.runtimes[runtime].refuse(text, looking::cause(message, None, None));
        self.reject_change(change, ErrorCode::CompilerRestarted, Failure::CompilerRestarted, actions);
    }

    /// Starts the next worker and the next device host, as soon as they may be.
    pub(super) fn advance_parts(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.worker_deadline_ms().is_some_and(|not_before_ms| not_before_ms <= now_ms) {
            self.worker_generation += 1;
            self.spawn(now_ms, self.worker(), actions);
        }
        if self.device_deadline_ms().is_some_and(|not_before_ms| not_before_ms <= now_ms) {
            self.device_generation += 1;
            self.spawn(now_ms, self.device(), actions);
        }
    }

    /// When the next worker may be started, if there is none.
    pub(super) fn worker_deadline_ms(&self) -> Option<u64> {
        self.is_missing(self.worker()).then_some(self.worker_restarts.not_before_ms)
    }

    /// When the next device host may be started, if there is none.
    pub(super) fn device_deadline_ms(&self) -> Option<u64> {
        self.is_missing(self.device()).then_some(self.device_restarts.not_before_ms)
    }

    fn is_missing(&self, child: Child) -> bool {
        self.is_live() && self.stage == Stage::Working && self.process(child).is_gone()
    }

    /// The session clock in frames as it should be by now. It never goes back, whichever device host counts.
    pub(super) fn session_frames(&self, now_ms: u64) -> u64 {
        let rate = self.sample_rate.as_ref().map_or(ipc::limits::DEFAULT_SAMPLE_RATE_HZ, |(rate, _)| *rate);
        if self.frames == 0 {
            // One that died before its first report has played something all the same: its recording is to be kept.
            return if self.device_generation > 1 { ipc::limits::BLOCK_FRAMES as u64 } else { 0 };
        }
        let since = now_ms.saturating_sub(self.frames_at_ms) * u64::from(rate) / 1_000;
        (self.frames + since).next_multiple_of(ipc::limits::BLOCK_FRAMES as u64)
    }

    /// The hosts wait at their lead and lose nothing but time.
    pub(super) fn device_lost(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let is_borne = self.device_restarts.died(now_ms, self.intensity);
        if !is_borne && self.device_name.is_none() {
            self.verdict = self.verdict.max(Verdict::Environment);
            return self.stop(now_ms, actions);
        }
        self.device = Device::Closed;
        self.tape_lost(actions);
        self.end_held_notes(None, actions);
        self.clock_lost(actions);
        for program in &mut self.programs {
            program.is_lane_added = false;
            program.is_lane_mapped = false;
            program.underruns.device_lost();
            program.gain = 1.0;
            program.route = OutputMap::STRAIGHT;
            // Whoever waited for its fade need not wait any more.
        }
        for runtime in (0..self.programs.len()).map(RuntimeIndex) {
            self.stop_retiring(runtime, actions);
        }
    }

    /// Something that an earlier worker has said.
    pub(super) fn stale_worker_said(&mut self, reply: WorkerReply, actions: &mut Vec<Action>) {
        self.stale += 1;
        let WorkerReply::Compiled { outcome, .. } = reply;
        if let ipc::message::CompileOutcome::Artifact(artifact) = outcome {
            actions.push(Action::Release { segment: artifact.name });
        }
    }
}

/// What clients are told while a program has no host. A host that dies before it has gone on for another one has not seen the tick in
/// which that died.
fn describe_loss(program: &Program, loss: &Loss, is_after_another: bool) -> Cause {
    let message = match (&loss.cause, loss.end) {
        (Some(cause), Some(_)) => format!("its host was killed: {cause}"),
        (None, Some(end)) => format!("its host {end}"),
        (_, None) => format!("its host could not be started: {}", loss.words()),
    };
    let before = program.loss.as_ref().filter(|_| is_after_another).and_then(|before| before.tick);
    let revision = loss.tick.map(|(revision, _)| revision).or(program.revision.as_ref().map(|revision| revision.hash()));
    Cause { message, revision: revision.map(Into::into), tick: loss.tick.map(|(_, tick)| tick).or(before), line: None }
}

/// How often a worker may die of one text before that text is refused.
const WORKER_DEATHS: u32 = 2;

/// Whether a program is of no use without a host.
fn needs_host(phase: &Phase) -> bool {
    match phase {
        Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => true,
        Phase::Starting { .. } | Phase::Recovering { .. } => true,
        Phase::Running | Phase::Held | Phase::Quarantined | Phase::Done | Phase::Failed => false,
    }
}
