//! Edits as a table: what is asked of a runtime, what its hosts answer, and what it comes to. One promise a test.

use std::path::PathBuf;
use std::sync::Arc;

use ipc::diagnostic::{Diagnostic, Stage as DiagnosticStage};
use ipc::fault::{Fault, FaultKind};
use ipc::hash::ContentHash;
use ipc::live::{Carried, LiveChange, LiveReply, LiveRequest, Swap, SwapProgress};
use ipc::message::{CompileOutcome, CompileTimings, DeviceReply, HostReply, HostStatus, Refusal, WorkerReply};
use ipc::segment::{SegmentKind, SegmentRef};
use runtime_host::host::assets::Wanted;

use super::programs_in_tests::{Shape, plan};
use super::*;
use crate::control::protocol::{
    Answer, AnswerWhen, Boundary, Cancel, ChangeReport, Confirm, ControlEvent, ErrorCode, ErrorReply, List, Progress as Step, Push,
    RevisionEntry, RevisionName, Rollback, RuntimeName, Status, Stop, Verb,
};
use crate::control::{Call, ClientId, Ticket};

const FIRST: Shape = Shape { default: 0, code: 0, is_loop: false, is_worker: false, comment: 0 };

/// Ticks of a trial of a program at 48 kHz.
const TRIAL_TICKS: u64 = 375;

/// One runtime that plays, clients that ask, and everything that came of it.
struct Stage {
    policy: Policy,
    now_ms: u64,
    all: Vec<Action>,
    calls: u64,
}

impl Stage {
    /// A session in which the runtime `a` is heard.
    fn playing() -> Self {
        let policy = Policy::new(Goal::Play { seconds: None }, ["a".to_owned()]);
        let mut stage = Self { policy, now_ms: 0, all: Vec::new(), calls: 0 };
        stage.step(Event::Begin);
        stage.join_all();
        stage.answer_compile(Ok(()));
        let runtime = RuntimeIndex(0);
        stage.step(Event::Inspected { runtime, inspection: Inspection::Playable(plan(FIRST)) });
        stage.device(DeviceReply::Opened { device: "null".to_owned(), sample_rate: 48_000, period_frames: 128, channels: 2 });
        stage.start(runtime);
        stage
    }

    /// A session whose first program has proved itself.
    fn proven() -> Self {
        let mut stage = Self::playing();
        stage.ticks(TRIAL_TICKS);
        stage
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let actions = self.policy.step(self.now_ms, event);
        self.all.extend(actions.iter().cloned());
        actions
    }

    fn join_all(&mut self) {
        let children: Vec<Child> = self.policy.processes.keys().copied().collect();
        for (child, pid) in children.into_iter().zip(100..) {
            if !self.policy.process(child).is_joined() {
                self.step(Event::Spawned { child, pid });
                self.step(Event::Joined { child });
            }
        }
    }

    /// Brings a program that is ready to where it is heard.
    fn start(&mut self, slot: RuntimeIndex) {
        self.join_all();
        self.step(Event::LaneCreated { runtime: slot, lane: self.segment(SegmentKind::Lane) });
        self.join_all();
        self.host(slot, HostReply::Started { runtime: "a".to_owned() });
        let runtime = self.policy.lane_name(slot);
        self.device(DeviceReply::LaneMapped { runtime: runtime.clone() });
        self.device(DeviceReply::LaneStarted { runtime, block: 10 });
    }

    fn segment(&self, kind: SegmentKind) -> SegmentRef {
        SegmentRef { name: format!("segment-{}", self.all.len()), kind, generation: 1, bytes: 100, hash: None }
    }

    fn device(&mut self, reply: DeviceReply) {
        let generation = self.policy.device_generation;
        self.step(Event::DeviceSaid { generation, reply });
    }

    fn host(&mut self, slot: RuntimeIndex, reply: HostReply) {
        let host = self.policy.programs[slot.0].host.expect("it has a host");
        self.step(Event::HostSaid { host, reply });
    }

    fn slot(&self) -> RuntimeIndex {
        self.policy.runtimes[0].slot.expect("it has a host")
    }

    fn live(&mut self, reply: LiveReply) {
        self.host(self.slot(), HostReply::Live(reply));
    }

    fn ticks(&mut self, ticks: u64) {
        self.host(self.slot(), HostReply::Status(HostStatus { ticks, ..HostStatus::default() }));
    }

    /// Answers the compile that the worker is at.
    fn answer_compile(&mut self, outcome: Result<(), ()>) {
        let id = self.policy.compiling.expect("the worker compiles").request;
        let outcome = match outcome {
            Ok(()) => CompileOutcome::Artifact(self.segment(SegmentKind::Artifact)),
            Err(()) => CompileOutcome::Rejected(vec![diagnostic()]),
        };
        let generation = self.policy.worker_generation;
        self.step(Event::WorkerSaid { generation, reply: WorkerReply::Compiled { id, outcome, timings: CompileTimings::default() } });
    }

    fn inspect(&mut self, shape: Shape) {
        let asked = self.all.iter().rev().find_map(|action| match action {
            Action::InspectEdit { change, .. } => Some(*change),
            _ => None,
        });
        let change = asked.expect("an artifact is to be read");
        self.step(Event::EditInspected { change, inspection: Inspection::Playable(plan(shape)) });
    }

    fn call(&mut self, verb: Verb) -> Ticket {
        self.calls += 1;
        let ticket = Ticket(self.calls);
        let text = match &verb {
            Verb::Push(push) => push.text.as_deref().map(|source| text(push.runtime.as_str(), source)),
            Verb::Plan(plan) => plan.text.as_deref().map(|source| text(plan.runtime.as_str(), source)),
            _ => None,
        };
        self.step(Event::Call { call: Box::new(Call { ticket, client: ClientId(1), verb }), text });
        ticket
    }

    fn push(&mut self, source: &str) -> Ticket {
        self.call(Verb::Push(push("a", source)))
    }

    /// Pushes a text that compiles to this.
    fn edit(&mut self, shape: Shape) -> Ticket {
        let ticket = self.push(&format!("{shape:?}"));
        self.answer_compile(Ok(()));
        self.inspect(shape);
        ticket
    }

    /// As [`Self::edit`], and its host commits it in this tick. Returns the request.
    fn commit(&mut self, shape: Shape, tick: u64) -> u64 {
        self.edit(shape);
        let LiveRequest { request, what, .. } = self.asked();
        self.live(match what {
            LiveChange::Patch(_) => LiveReply::Applied { request, tick, carried: Some(Carried::default()) },
            _ => LiveReply::Swap { request, progress: SwapProgress::Committed { tick, commit_ns: 1_000, carried: Carried::default() } },
        });
        request
    }

    fn pass(&mut self, request: u64, tick: u64) {
        self.live(LiveReply::Swap { request, progress: SwapProgress::TrialPassed { tick } });
    }

    fn fail(&mut self, request: u64, tick: u64, to: ContentHash) {
        self.live(LiveReply::Swap {
            request,
            progress: SwapProgress::RolledBack { tick, fault: fault(tick), to, is_partial: false, is_late: false },
        });
    }

    fn logged(&self) -> Vec<&log::LogEntry> {
        let logged = self.all.iter().filter_map(|action| match action {
            Action::Log(entry) => Some(entry),
            _ => None,
        });
        logged.collect()
    }

    /// The newest request to a host.
    fn asked(&self) -> LiveRequest {
        let found = self.all.iter().rev().find_map(|action| match action {
            Action::Live { request, .. } => Some(request.clone()),
            _ => None,
        });
        found.expect("a host has been asked")
    }

    fn swap(&self) -> Box<Swap> {
        match self.asked().what {
            LiveChange::Swap(swap) => swap,
            other => panic!("no swap: {other:?}"),
        }
    }

    fn answer(&self, ticket: Ticket) -> Option<&Result<Answer, ErrorReply>> {
        self.all.iter().find_map(|action| match action {
            Action::Answer { ticket: answered, outcome } if *answered == ticket => Some(&**outcome),
            _ => None,
        })
    }

    #[track_caller]
    fn report(&self, ticket: Ticket) -> &ChangeReport {
        match self.answer(ticket) {
            Some(Ok(Answer::Push(report) | Answer::Confirm(report) | Answer::Rollback(report))) => report,
            Some(Err(ErrorReply { data, .. })) if data.change.is_some() => data.change.as_ref().unwrap(),
            other => panic!("no report: {other:?}"),
        }
    }

    #[track_caller]
    fn error(&self, ticket: Ticket) -> ErrorCode {
        match self.answer(ticket) {
            Some(Err(error)) => error.name(),
            other => panic!("no error: {other:?}"),
        }
    }

    /// What subscribers have been told of a change.
    fn steps(&self, change: ChangeId) -> Vec<&Step> {
        let told = self.all.iter().filter_map(|action| match action {
            Action::Tell(Report::Change(event)) if event.change == change => Some(&event.progress),
            _ => None,
        });
        told.collect()
    }

    fn list(&mut self) -> Vec<RevisionEntry> {
        let ticket = self.call(Verb::List(List { runtime: name("a"), limit: None }));
        match self.answer(ticket) {
            Some(Ok(Answer::List(list))) => list.revisions.clone(),
            other => panic!("no list: {other:?}"),
        }
    }

    fn current(&self) -> ContentHash {
        self.policy.runtimes[0].current.as_ref().expect("it runs").hash()
    }

    /// A supervisor that dies now leaves nothing to the next one that is gone.
    #[track_caller]
    fn artifacts_of_all_revisions_are_kept(&self) {
        let notes = self.policy.notes(&mut |text| ContentHash::of(&[text.as_bytes()]));
        let kept: Vec<_> = notes.revisions().into_iter().map(|(revision, _)| revision.hash).collect();
        for revision in notes.runtimes.values().flat_map(|runtime| runtime.revisions()) {
            assert!(kept.contains(&revision.hash), "the artifact of {} has been let go of", revision.hash);
        }
    }

    fn confirm(&mut self, change: ChangeId, boundary: Option<Boundary>) -> Ticket {
        self.call(Verb::Confirm(Confirm { change, boundary, crossfade_ms: None, answer: AnswerWhen::Planned }))
    }

    fn roll_back(&mut self) -> Ticket {
        self.call(Verb::Rollback(Rollback {
            runtime: name("a"),
            revision: None,
            boundary: None,
            acknowledge: false,
            crossfade_ms: None,
            answer: AnswerWhen::Planned,
        }))
    }

    /// Goes back, to this.
    fn rolled_back_to(&mut self, shape: Shape, tick: u64) {
        self.roll_back();
        self.answer_compile(Ok(()));
        self.inspect(shape);
        let LiveRequest { request, .. } = self.asked();
        self.live(LiveReply::Swap { request, progress: SwapProgress::Committed { tick, commit_ns: 1, carried: Carried::default() } });
        self.pass(request, tick + TRIAL_TICKS);
        assert_eq!(self.current(), hash(shape));
    }
}

fn name(name: &str) -> RuntimeName {
    RuntimeName::new(name).unwrap()
}

fn push(runtime: &str, source: &str) -> Push {
    Push {
        runtime: name(runtime),
        text: Some(source.to_owned()),
        path: None,
        directory: None,
        base: None,
        boundary: None,
        acknowledge: false,
        force: false,
        crossfade_ms: None,
        answer: AnswerWhen::Planned,
    }
}

fn text(runtime: &str, source: &str) -> ProgramText {
    ProgramText { name: runtime.to_owned(), path: PathBuf::from(runtime), source: source.into(), base_directory: PathBuf::from("/") }
}

fn hash(shape: Shape) -> ContentHash {
    plan(shape).content.manifest.revision
}

fn code(code: u8) -> Shape {
    Shape { code, ..FIRST }
}

fn fault(tick: u64) -> Fault {
    Fault { kind: FaultKind::DivisionByZero, tick, block: None, line: Some(7), repeats: 0 }
}

fn diagnostic() -> Diagnostic {
    Diagnostic {
        stage: DiagnosticStage::Syntax,
        code: 11,
        line: Some(3),
        column: None,
        length: None,
        line_in_block: None,
        block: None,
        instruction: None,
        message: "Unrecognised instruction".to_owned(),
        hint: None,
        include: None,
    }
}

// ------------------------------------------------------------------------------------------------------ which edit wins

#[test]
fn what_an_edit_costs_is_told_before_the_host_hears_of_it() {
    let mut stage = Stage::proven();
    let ticket = stage.edit(code(1));
    let change = stage.report(ticket).change;
    let told = stage.all.iter().position(|action| {
        matches!(action, Action::Tell(Report::Change(event)) if event.change == change
            && matches!(&event.progress, Step::Pending { report, .. } if report.kept.items == 2))
    });
    let sent = stage.all.iter().position(|action| matches!(action, Action::Live { .. }));
    assert!(told.expect("it is told") < sent.expect("it is sent"));
}

#[test]
fn a_text_that_plays_already_is_told_so_and_goes_to_no_host() {
    let mut stage = Stage::proven();
    let ticket = stage.edit(FIRST);
    let change = stage.report(ticket).change;
    assert_eq!(stage.steps(change), [&Step::Unchanged {}]);
    assert!(!stage.all.iter().any(|action| matches!(action, Action::Live { .. })));
    assert_eq!(stage.list().len(), 1, "it is no revision of its own");
}

#[test]
fn a_broken_text_throws_away_neither_what_waits_nor_what_is_on_its_way() {
    let mut stage = Stage::proven();
    let asked = stage.edit(Shape { is_loop: true, ..FIRST });
    let waiting = stage.report(asked).change;
    let good = stage.push("a good one");
    let broken = stage.push("a broken one");
    stage.answer_compile(Ok(()));
    stage.answer_compile(Err(()));
    assert_eq!(stage.error(broken), ErrorCode::CompileFailed);
    assert!(stage.answer(good).is_none(), "it goes on");
    let confirmed = stage.confirm(waiting, None);
    assert_eq!(stage.report(confirmed).change, waiting);
}

#[test]
fn half_a_file_asks_before_it_silences_what_is_heard() {
    let mut stage = Stage::proven();
    let with_export = |shape: Shape, name: &str| {
        let mut plan = plan(shape);
        let content = Arc::make_mut(&mut plan.content);
        content.manifest.exports[1].name = name.to_owned();
        content.manifest.revision = ContentHash::of(&[name.as_bytes()]);
        plan
    };
    for (number, name) in ["buffer", "other"].into_iter().enumerate() {
        let ticket = stage.push(name);
        stage.answer_compile(Ok(()));
        let change = ChangeId(stage.policy.last_change);
        stage.step(Event::EditInspected { change, inspection: Inspection::Playable(with_export(code(1), name)) });
        if number == 0 {
            let LiveRequest { request, .. } = stage.asked();
            let progress = SwapProgress::Committed { tick: 400, commit_ns: 1, carried: Carried::default() };
            stage.live(LiveReply::Swap { request, progress });
            continue;
        }
        assert_eq!(stage.error(ticket), ErrorCode::NeedsAck);
        assert_eq!(stage.report(ticket).reasons[0].rule, "falls_silent");
    }
}

#[test]
fn a_followed_file_that_is_no_text_is_told_to_subscribers() {
    let mut stage = Stage::proven();
    stage.step(Event::FileUnreadable { runtime: "a".to_owned(), reason: "a.8f4e:1: this is not UTF-8 text".to_owned() });
    let change = ChangeId(stage.policy.last_change);
    assert!(matches!(stage.steps(change)[..], [Step::Rejected { .. }]));
}

#[test]
fn a_file_saved_as_it_plays_after_a_mistake_is_told_so_that_the_mistake_is_forgotten() {
    let mut stage = Stage::proven();
    let plays = stage.policy.runtimes[0].current.as_ref().unwrap().text.clone();
    let saved = |text| Event::FileChanged { runtime: "a".to_owned(), text, detect_us: 0 };
    stage.step(saved(text("a", "a mistake")));
    stage.answer_compile(Err(()));
    stage.step(saved(plays));
    let change = ChangeId(stage.policy.last_change);
    assert_eq!(stage.steps(change), [&Step::Unchanged {}]);
    let news = stage.all.iter().filter(|action| matches!(action, Action::Tell(Report::Edit { news: EditNews::Unchanged, .. })));
    assert_eq!(news.count(), 1);
    assert!(stage.policy.compiling.is_none(), "there is nothing to compile");
}

#[test]
fn freeze_and_run_name_the_tick_they_took_effect_in_also_when_a_later_one_has_been_heard_of() {
    let mut stage = Stage::proven();
    for (tick, verb) in [
        (400, Verb::Freeze(crate::control::protocol::Freeze { runtime: name("a") })),
        (500, Verb::Run(crate::control::protocol::Run { runtime: name("a") })),
    ] {
        let ticket = stage.call(verb);
        let request = stage.asked().request;
        // The host reports what it has done so far before it is certain that the request will never be undone.
        stage.ticks(tick + 2);
        stage.live(LiveReply::Applied { request, tick, carried: None });
        let Some(Ok(Answer::Freeze(now) | Answer::Run(now))) = stage.answer(ticket) else { panic!("no answer") };
        assert_eq!(now.tick, tick);
    }
}

#[test]
fn a_freeze_names_a_change_as_committed_when_it_is_and_not_before() {
    let frozen = |stage: &mut Stage| {
        stage.call(Verb::Push(Push { boundary: Some(Boundary::Freeze), ..push("a", "at the freeze") }));
        stage.answer_compile(Ok(()));
        stage.inspect(code(1));
        let pending = stage.asked().request;
        let ticket = stage.call(Verb::Freeze(crate::control::protocol::Freeze { runtime: name("a") }));
        let request = stage.asked().request;
        stage.live(LiveReply::Applied { request, tick: 400, carried: None });
        assert_eq!(stage.answer(ticket), None, "the host has not said yet what became of the change");
        (pending, ticket)
    };
    let named = |stage: &Stage, ticket| match stage.answer(ticket) {
        Some(Ok(Answer::Freeze(now))) => now.committed,
        other => panic!("{other:?}"),
    };
    let mut stage = Stage::proven();
    let (request, ticket) = frozen(&mut stage);
    stage.live(LiveReply::Swap { request, progress: SwapProgress::Committed { tick: 400, commit_ns: 1, carried: Carried::default() } });
    assert_eq!(named(&stage, ticket), Some(ChangeId(stage.policy.last_change)));
    let mut stage = Stage::proven();
    let (request, ticket) = frozen(&mut stage);
    let reason = Refusal { message: "its plan does not fit".to_owned(), line: None, is_damaged: false, is_machine: false };
    stage.live(LiveReply::Refused { request, reason });
    assert_eq!(named(&stage, ticket), None);
}

#[test]
fn what_one_client_does_to_a_runtime_is_told_to_all() {
    let mut stage = Stage::proven();
    stage.call(Verb::Solo(crate::control::protocol::Solo { runtime: name("a"), on: true }));
    stage.call(Verb::Solo(crate::control::protocol::Solo { runtime: name("a"), on: true }));
    stage.call(Verb::Freeze(crate::control::protocol::Freeze { runtime: name("a") }));
    let request = stage.asked().request;
    stage.live(LiveReply::Applied { request, tick: 400, carried: None });
    let told = stage.all.iter().filter_map(|action| match action {
        Action::Tell(Report::Control(event)) => Some((**event).clone()),
        _ => None,
    });
    let mix = crate::control::protocol::Mix {
        gain: 1.0,
        is_muted: false,
        is_soloed: true,
        is_audible: true,
        output: crate::control::protocol::Channels::MAIN,
    };
    let (mixed, frozen) = (ControlEvent::Mixed { runtime: name("a"), mix }, ControlEvent::Frozen { runtime: name("a"), tick: 400 });
    assert_eq!(told.collect::<Vec<_>>(), [mixed, frozen], "and what changes nothing is not told");
}

#[test]
fn what_a_file_is_written_over_is_named_before_and_only_where_the_file_is_another_one() {
    let sample = |inode: u64, of: Shape| {
        let place = ipc::plan::Place { memory: 0, address: 0 };
        let wanted = Wanted { path: PathBuf::from("/kick.raw"), stamp: (1, inode, 4, 0), offset: 0, place, bytes: 4 };
        Inspection::Playable(Plan { assets: vec![wanted], ..plan(of) })
    };
    let mut stage = Stage::proven();
    for (number, inode, at_risk) in [(1, 1, 1), (2, 1, 0), (3, 2, 1)] {
        let ticket = stage.push(&format!("edit {number}"));
        stage.answer_compile(Ok(()));
        let change = ChangeId(stage.policy.last_change);
        stage.step(Event::EditInspected { change, inspection: sample(inode, code(number)) });
        assert_eq!(stage.report(ticket).at_risk.len(), at_risk, "edit {number}");
        let request = stage.asked().request;
        let tick = 400 + u64::from(number);
        stage.live(LiveReply::Swap { request, progress: SwapProgress::Committed { tick, commit_ns: 1, carried: Carried::default() } });
    }
}

#[test]
fn the_newest_text_is_compiled_first_and_an_older_one_when_it_is_broken() {
    let mut stage = Stage::proven();
    stage.push("text 0");
    let [first, second] = ["text 1", "text 2"].map(|source| stage.push(source));
    stage.answer_compile(Err(()));
    stage.answer_compile(Err(()));
    assert_eq!((stage.error(second), stage.answer(first)), (ErrorCode::CompileFailed, None));
    stage.answer_compile(Ok(()));
    stage.inspect(code(1));
    assert_eq!(stage.report(first).state, crate::control::protocol::ChangeState::Pending);
}

#[test]
fn an_accepted_text_takes_the_place_of_all_older_ones() {
    let mut stage = Stage::proven();
    let asked = stage.edit(Shape { is_loop: true, ..FIRST });
    let waiting = stage.report(asked).change;
    let older = stage.push("older");
    stage.answer_compile(Ok(()));
    let newer = stage.push("newer");
    stage.answer_compile(Ok(()));
    stage.inspect(code(2));
    assert!(stage.answer(newer).unwrap().is_ok());
    assert_eq!(stage.error(older), ErrorCode::Superseded);
    assert!(matches!(stage.steps(waiting)[..], [.., Step::Superseded { .. }]));
}

#[test]
fn a_newer_change_that_waits_and_is_cancelled_leaves_the_older_one_waiting() {
    let mut stage = Stage::proven();
    let [older, newer] = [1, 2].map(|code| {
        let ticket = stage.edit(Shape { is_loop: true, code, ..FIRST });
        stage.report(ticket).change
    });
    stage.call(Verb::Cancel(Cancel { change: newer }));
    let confirmed = stage.confirm(older, None);
    assert_eq!(stage.report(confirmed).change, older);
}

#[test]
fn a_boundary_that_is_not_there_does_not_cost_the_change_that_waits() {
    let mut stage = Stage::proven();
    let asked = stage.edit(Shape { is_loop: true, ..FIRST });
    let change = stage.report(asked).change;
    let slip = stage.confirm(change, Some(Boundary::Pulse));
    assert_eq!(stage.error(slip), ErrorCode::UnknownBoundary);
    let confirmed = stage.confirm(change, None);
    assert_eq!(stage.report(confirmed).change, change);
}

#[test]
fn a_change_at_its_boundary_is_called_back_only_for_one_that_is_good() {
    let mut stage = Stage::proven();
    let pending = stage.call(Verb::Push(Push { boundary: Some(Boundary::Freeze), ..push("a", "at the freeze") }));
    stage.answer_compile(Ok(()));
    stage.inspect(code(1));
    assert!(stage.answer(pending).unwrap().is_ok());
    stage.edit(Shape { is_loop: true, code: 2, ..FIRST });
    stage.push("broken");
    stage.answer_compile(Err(()));
    assert!(matches!(stage.asked().what, LiveChange::Swap(_)), "one waits for its acknowledgement, one is wrong");
    stage.edit(code(3));
    assert_eq!(stage.asked().what, LiveChange::CancelSwap);
}

#[test]
fn an_edit_of_a_revision_that_has_gone_meanwhile_is_stale_also_when_it_comes_to_its_turn() {
    let mut stage = Stage::proven();
    let base = Some(RevisionName::from(stage.current()));
    stage.push("somebody else's");
    let mine = stage.call(Verb::Push(Push { base: base.clone(), ..push("a", "mine") }));
    stage.answer_compile(Ok(()));
    stage.inspect(code(1));
    let LiveRequest { request, .. } = stage.asked();
    let late = stage.call(Verb::Push(Push { base, ..push("a", "late") }));
    assert_eq!(stage.error(late), ErrorCode::StaleGeneration, "what is on its way counts");
    stage.live(LiveReply::Swap { request, progress: SwapProgress::Committed { tick: 400, commit_ns: 1, carried: Carried::default() } });
    stage.answer_compile(Ok(()));
    stage.inspect(code(2));
    assert_eq!(stage.error(mine), ErrorCode::StaleGeneration);
}

// ------------------------------------------------------------------------------------------------------------- trials

#[test]
fn a_first_program_is_good_after_its_first_second_and_time_in_which_it_is_frozen_does_not_count() {
    let mut stage = Stage::playing();
    stage.ticks(TRIAL_TICKS - 1);
    assert!(!stage.list()[0].is_good);
    stage.call(Verb::Freeze(crate::control::protocol::Freeze { runtime: name("a") }));
    let LiveRequest { request, .. } = stage.asked();
    stage.live(LiveReply::Applied { request, tick: TRIAL_TICKS - 1, carried: None });
    stage.ticks(2 * TRIAL_TICKS);
    assert!(!stage.list()[0].is_good);
    stage.call(Verb::Run(crate::control::protocol::Run { runtime: name("a") }));
    let LiveRequest { request, .. } = stage.asked();
    stage.live(LiveReply::Applied { request, tick: 2 * TRIAL_TICKS, carried: None });
    stage.ticks(2 * TRIAL_TICKS + 1);
    assert!(stage.list()[0].is_good);
}

#[test]
fn a_comment_within_a_trial_neither_ends_it_nor_is_it_good_before_and_fails_with_it() {
    let mut stage = Stage::proven();
    let bomb = stage.commit(code(1), 400);
    let LiveRequest { request, .. } = {
        stage.edit(Shape { comment: 1, ..code(1) });
        stage.asked()
    };
    stage.live(LiveReply::Applied { request, tick: 450, carried: None });
    assert!(stage.list()[..2].iter().all(|entry| !entry.is_good), "nothing of it has completed its trial");
    stage.fail(bomb, 700, hash(FIRST));
    assert_eq!(stage.current(), hash(FIRST));
    let list = stage.list();
    assert!(list[0].refused.is_some() && list[1].refused.is_some() && list[2].is_current, "{list:#?}");
    for shape in [code(1), Shape { comment: 1, ..code(1) }] {
        let again = stage.push(&format!("{shape:?}"));
        assert_eq!(stage.error(again), ErrorCode::Refused);
    }
}

#[test]
fn a_comment_within_a_trial_is_good_when_that_is_passed() {
    let mut stage = Stage::proven();
    let swap = stage.commit(code(1), 400);
    stage.commit(Shape { comment: 1, ..code(1) }, 450);
    stage.pass(swap, 775);
    assert!(stage.list().iter().all(|entry| entry.is_good));
}

#[test]
fn a_swap_within_a_trial_leads_back_to_the_last_revision_that_passed_its_own() {
    let mut stage = Stage::proven();
    let first = stage.commit(code(1), 400);
    stage.edit(code(2));
    let swap = stage.swap();
    assert_eq!(swap.back.as_ref().map(|back| back.to), Some(hash(code(1))));
    assert_eq!(swap.back_to_good.as_ref().map(|back| back.to), Some(hash(FIRST)));
    let LiveRequest { request, .. } = stage.asked();
    stage.live(LiveReply::Swap { request: first, progress: SwapProgress::TrialCutShort { tick: 450 } });
    stage.live(LiveReply::Swap { request, progress: SwapProgress::Committed { tick: 450, commit_ns: 1, carried: Carried::default() } });
    stage.fail(request, 500, hash(FIRST));
    assert_eq!(stage.current(), hash(FIRST));
    assert!(!stage.list()[1].is_good, "the one in between never completed its trial");
}

#[test]
fn a_patch_on_a_swap_that_fails_ends_the_swap_too_with_the_first_word_of_it() {
    let mut stage = Stage::proven();
    let swap = stage.commit(code(1), 400);
    let patch = stage.commit(Shape { default: 1, ..code(1) }, 450);
    // A host takes both back in one tick, and tells of the newer one first.
    stage.fail(patch, 500, hash(FIRST));
    stage.artifacts_of_all_revisions_are_kept();
    assert_eq!((stage.current(), stage.policy.runtimes[0].trial.is_none()), (hash(FIRST), true));
    stage.fail(swap, 500, hash(FIRST));
    assert_eq!(stage.current(), hash(FIRST));
    let list = stage.list();
    assert!(list[0].refused.is_some() && list[1].refused.is_some() && list[2].is_current, "{list:#?}");
    let told = stage.all.iter().filter(|action| matches!(action, Action::Tell(Report::Edit { news: EditNews::RolledBack { .. }, .. })));
    assert_eq!(told.count(), 1, "the text that ran is blamed, once");
}

#[test]
fn a_swap_after_a_passed_trial_names_one_way_back() {
    let mut stage = Stage::proven();
    let first = stage.commit(code(1), 400);
    stage.pass(first, 775);
    stage.edit(code(2));
    assert_eq!(stage.swap().back_to_good, None);
}

// -------------------------------------------------------------------------------------------------------- going back

#[test]
fn going_back_again_leads_further_back_and_passes_over_comments() {
    let mut stage = Stage::proven();
    for (number, tick) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        let request = stage.commit(code(number), tick);
        stage.pass(request, tick + TRIAL_TICKS);
    }
    stage.commit(Shape { comment: 1, ..code(3) }, 4_000);
    stage.rolled_back_to(code(2), 5_000);
    stage.rolled_back_to(code(1), 6_000);
    stage.rolled_back_to(FIRST, 7_000);
    let end = stage.roll_back();
    assert_eq!(stage.error(end), ErrorCode::UnknownRevision);
}

#[test]
fn going_back_after_a_new_edit_leads_to_what_played_before_it() {
    let mut stage = Stage::proven();
    for (number, tick) in [(1, 1_000), (2, 2_000)] {
        let request = stage.commit(code(number), tick);
        stage.pass(request, tick + TRIAL_TICKS);
    }
    stage.rolled_back_to(code(1), 3_000);
    let request = stage.commit(code(3), 4_000);
    stage.pass(request, 4_000 + TRIAL_TICKS);
    stage.rolled_back_to(code(1), 5_000);
    stage.rolled_back_to(FIRST, 6_000);
}

// ---------------------------------------------------------------------------------------------------------- new hosts

/// Pushes a change of the runtime type, whose new host takes over.
fn handed_over() -> (Stage, RuntimeIndex, RuntimeIndex) {
    let mut stage = Stage::proven();
    let old = stage.slot();
    stage.edit(Shape { is_worker: true, ..FIRST });
    let new = RuntimeIndex(stage.policy.programs.len() - 1);
    stage.join_all();
    stage.host(new, HostReply::Started { runtime: "a".to_owned() });
    assert_eq!(stage.slot(), new);
    (stage, old, new)
}

fn generation(stage: &Stage) -> u64 {
    stage.policy.runtimes[0].generation
}

#[test]
fn a_relieved_host_is_frozen_until_the_new_one_has_proved_itself() {
    let (mut stage, old, new) = handed_over();
    assert_eq!(generation(&stage), 2);
    assert!(!stage.all.contains(&Action::RemoveLane(old)), "it stays");
    stage.now_ms = stage.policy.next_deadline_ms().expect("it is to be frozen");
    stage.step(Event::DeadlinePassed);
    let host = stage.policy.programs[old.0].host;
    let frozen = stage
        .all
        .iter()
        .any(|action| matches!(action, Action::Live { runtime, request, .. } if *runtime == old && request.what == LiveChange::Freeze));
    assert!(host.is_some() && frozen);
    stage.ticks(50);
    assert!(stage.all.contains(&Action::RemoveLane(old)), "the new one is good");
    assert!(stage.list()[0].is_good && stage.slot() == new);
}

#[test]
fn a_program_that_fails_in_its_new_host_hands_the_runtime_back() {
    let (mut stage, old, new) = handed_over();
    stage.now_ms = stage.policy.next_deadline_ms().unwrap();
    stage.step(Event::DeadlinePassed);
    stage.host(new, HostReply::Faulted { runtime: "a".to_owned(), fault: fault(3), held: false });
    assert_eq!((stage.slot(), stage.current(), generation(&stage)), (old, hash(FIRST), 1));
    let asked = stage.asked();
    assert_eq!(asked.what, LiveChange::Run);
    stage.live(LiveReply::Applied { request: asked.request, tick: 400, carried: None });
    let logged = stage.all.iter().filter(|action| matches!(action, Action::Log(entry) if entry.what == log::Logged::Run {}));
    assert_eq!(logged.count(), 1, "a replay of the old host knows of it");
    let list = stage.list();
    assert!(list[0].refused.is_some() && list[1].is_current, "{list:#?}");
    let again = stage.push(&format!("{:?}", Shape { is_worker: true, ..FIRST }));
    assert_eq!(stage.error(again), ErrorCode::Refused);
}

#[test]
fn a_new_host_that_dies_of_its_program_hands_the_runtime_back_at_once_and_says_of_what() {
    let (mut stage, old, new) = handed_over();
    let change = ChangeId(stage.policy.last_change);
    let child = Child::Host(stage.policy.programs[new.0].host.unwrap());
    stage.step(Event::Died { child, end: ProcessEnd::Killed(11), tick: Some((stage.current(), 3)) });
    assert_eq!((stage.slot(), stage.current()), (old, hash(FIRST)));
    assert!(stage.policy.programs[new.0].phase.is_over());
    let Some(Step::RolledBack { why, .. }) = stage.steps(change).pop() else { panic!("nothing is said") };
    assert_eq!(why, "its new host was killed by signal 11 (SIGSEGV) in tick 3");
}

#[test]
fn a_runtime_that_is_handed_back_plays_what_its_old_host_had_gone_back_to_meanwhile() {
    let mut stage = Stage::proven();
    let old = stage.slot();
    let swap = stage.commit(code(1), 400);
    stage.edit(Shape { is_worker: true, ..code(1) });
    let new = RuntimeIndex(stage.policy.programs.len() - 1);
    stage.join_all();
    stage.host(new, HostReply::Started { runtime: "a".to_owned() });
    assert_eq!(stage.slot(), new);
    // In its last blocks, before it was frozen.
    let progress = SwapProgress::RolledBack { tick: 410, fault: fault(410), to: hash(FIRST), is_partial: false, is_late: false };
    stage.host(old, HostReply::Live(LiveReply::Swap { request: swap, progress }));
    assert_eq!(stage.current(), hash(Shape { is_worker: true, ..code(1) }), "the new one plays");
    stage.host(new, HostReply::Faulted { runtime: "a".to_owned(), fault: fault(3), held: false });
    assert_eq!((stage.slot(), stage.current()), (old, hash(FIRST)));
    let again = stage.push(&format!("{:?}", code(1)));
    assert_eq!(stage.error(again), ErrorCode::Refused, "it failed");
}

#[test]
fn a_trial_goes_on_in_the_host_that_a_runtime_is_handed_back_to() {
    let mut stage = Stage::proven();
    let swap = stage.commit(code(1), 400);
    stage.edit(Shape { is_worker: true, ..code(1) });
    let new = RuntimeIndex(stage.policy.programs.len() - 1);
    stage.join_all();
    stage.host(new, HostReply::Started { runtime: "a".to_owned() });
    stage.host(new, HostReply::Faulted { runtime: "a".to_owned(), fault: fault(3), held: false });
    assert_eq!(stage.current(), hash(code(1)));
    stage.fail(swap, 500, hash(FIRST));
    assert_eq!(stage.current(), hash(FIRST));
}

#[test]
fn a_new_host_that_is_killed_from_outside_is_gone_on_with_in_another_one() {
    let (mut stage, _, new) = handed_over();
    stage.step(Event::StateCreated { runtime: new, request: None, state: stage.segment(SegmentKind::State) });
    let child = Child::Host(stage.policy.programs[new.0].host.unwrap());
    stage.step(Event::Died { child, end: ProcessEnd::Killed(9), tick: Some((stage.current(), 3)) });
    assert_eq!(stage.slot(), new);
    assert!(!stage.policy.programs[new.0].phase.is_over());
}

/// A worker program, known to be good, and an audio program in another host that is to relieve it, with its lane at the device host.
fn coming_into_sound() -> (Stage, RuntimeIndex, RuntimeIndex) {
    let (mut stage, _, old) = handed_over();
    stage.ticks(50);
    stage.edit(Shape { default: 1, ..FIRST });
    stage.confirm(ChangeId(stage.policy.last_change), None);
    let new = RuntimeIndex(stage.policy.programs.len() - 1);
    stage.step(Event::LaneCreated { runtime: new, lane: stage.segment(SegmentKind::Lane) });
    stage.join_all();
    assert_eq!(gains(&stage, new), [0.0], "the old one plays");
    (stage, old, new)
}

/// The levels that the device host was told of a lane.
fn gains(stage: &Stage, slot: RuntimeIndex) -> Vec<f32> {
    let told = stage.all.iter().filter_map(|action| match action {
        Action::SetGain { runtime, gain, .. } if *runtime == slot => Some(*gain),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_new_host_whose_predecessor_ends_before_it_is_heard_is_not_left_silent() {
    let (mut stage, old, new) = coming_into_sound();
    stage.host(old, HostReply::RunFailed { fault: fault(60) });
    assert!(stage.policy.programs[old.0].phase.is_over());
    stage.host(new, HostReply::Started { runtime: "a".to_owned() });
    assert_eq!((stage.slot(), gains(&stage, new)), (new, vec![0.0, 1.0]));
}

#[test]
fn a_new_host_that_is_heard_before_it_has_said_that_it_runs_begins_once() {
    let (mut stage, _, new) = coming_into_sound();
    let change = ChangeId(stage.policy.last_change);
    // The two come over channels of their own, in any order.
    let runtime = stage.policy.lane_name(new);
    stage.device(DeviceReply::LaneStarted { runtime, block: 20 });
    stage.host(new, HostReply::Started { runtime: "a".to_owned() });
    assert_eq!((stage.slot(), gains(&stage, new)), (new, vec![0.0, 1.0]));
    let starts =
        |action: &&Action| matches!(action, Action::Log(entry) if entry.life == new.0 && matches!(entry.what, log::Logged::Start { .. }));
    assert_eq!(stage.all.iter().filter(starts).count(), 1, "a replay begins it once");
    assert_eq!(stage.policy.last_change, change.0, "nobody is told of a change that nobody made");
    assert!(matches!(stage.policy.programs[new.0].phase, Phase::Running));
}

#[test]
fn a_new_host_that_cannot_start_its_program_leaves_everything_as_it_was() {
    let mut stage = Stage::proven();
    let old = stage.slot();
    let ticket = stage.edit(Shape { is_worker: true, ..FIRST });
    let change = stage.report(ticket).change;
    let new = RuntimeIndex(stage.policy.programs.len() - 1);
    stage.join_all();
    let artifact = match &stage.policy.programs[new.0].phase {
        Phase::Starting { artifact, .. } => artifact.name.clone(),
        other => panic!("{other:?}"),
    };
    let reason = Refusal { message: "division by zero".to_owned(), line: Some(4), is_damaged: false, is_machine: false };
    stage.host(new, HostReply::Refused { segment: artifact, reason });
    assert_eq!((stage.slot(), generation(&stage)), (old, 1));
    assert!(matches!(stage.steps(change)[..], [.., Step::Rejected { .. }]));
}

#[test]
fn what_needs_a_new_host_waits_for_no_boundary_and_says_so() {
    let mut stage = Stage::proven();
    let source = format!("{:?}", Shape { is_worker: true, ..FIRST });
    let ticket = stage.call(Verb::Push(Push { boundary: Some(Boundary::Freeze), ..push("a", &source) }));
    stage.answer_compile(Ok(()));
    stage.inspect(Shape { is_worker: true, ..FIRST });
    assert_eq!(stage.error(ticket), ErrorCode::UnknownBoundary);
}

// ------------------------------------------------------------------------------------------------------------- limits

#[test]
fn a_runtime_whose_first_text_is_wrong_is_as_if_it_had_never_been_named() {
    let mut stage = Stage::proven();
    for typo in 0..200 {
        let ticket = stage.call(Verb::Push(push(&format!("typo-{typo}"), "wrong")));
        stage.answer_compile(Err(()));
        assert_eq!(stage.error(ticket), ErrorCode::CompileFailed);
    }
    let ticket = stage.call(Verb::Status(Status { runtime: None }));
    let Some(Ok(Answer::Status(status))) = stage.answer(ticket) else { panic!("no status") };
    assert_eq!(status.runtimes.len(), 1);
    assert!(stage.policy.runtimes.len() <= 2);
}

#[test]
fn the_texts_of_a_history_take_no_more_than_their_share() {
    let mut stage = Stage::proven();
    let big = "x".repeat(3 << 20);
    for round in 0..8u64 {
        let mut entry = stage.policy.runtimes[0].history[0].clone();
        entry.text.source = Arc::from(format!("{round}{big}"));
        stage.policy.runtimes[0].remember(entry);
    }
    let bytes: usize = stage.policy.runtimes[0].history.iter().map(|entry| entry.text.source.len()).sum();
    assert!(bytes <= runtime::MAX_HISTORY_BYTES, "{bytes}");
}

#[test]
fn a_runtime_that_is_starting_can_be_stopped() {
    let mut stage = Stage::proven();
    let push = stage.call(Verb::Push(push("b", "its first")));
    stage.answer_compile(Ok(()));
    stage.inspect(FIRST);
    assert!(stage.answer(push).unwrap().is_ok());
    let ticket = stage.call(Verb::Stop(Stop { runtime: name("b") }));
    assert!(stage.answer(ticket).unwrap().is_ok());
    let slot = RuntimeIndex(stage.policy.programs.len() - 1);
    assert_eq!(stage.policy.programs[slot.0].phase, Phase::Done);
    let state = stage.policy.runtimes[1].flight.is_none();
    assert!(state, "nothing of it comes any more");
}

// ------------------------------------------------------------------------------------------------------------- keys

/// A runtime that wants to know of keys.
fn with_keys() -> Stage {
    let mut stage = Stage::proven();
    let keys = KeyItems { code: Some("a:code".to_owned()), pressed: Some("a:down".to_owned()) };
    let shape = Shape { code: 1, ..FIRST };
    stage.push("keys");
    stage.answer_compile(Ok(()));
    let change = stage.all.iter().rev().find_map(|action| match action {
        Action::InspectEdit { change, .. } => Some(*change),
        _ => None,
    });
    stage.step(Event::EditInspected { change: change.unwrap(), inspection: Inspection::Playable(Plan { keys, ..plan(shape) }) });
    let request = stage.asked().request;
    assert!(!stage.policy.wants_keys(), "it does not run yet");
    let progress = SwapProgress::Committed { tick: 400, commit_ns: 1, carried: Carried::default() };
    stage.live(LiveReply::Swap { request, progress });
    stage
}

fn values_of(what: LiveChange) -> Vec<(String, f64)> {
    match what {
        LiveChange::Set { values, ramp_ticks: 0 } => values.into_iter().map(|value| (value.item, value.value)).collect(),
        other => panic!("no set: {other:?}"),
    }
}

#[test]
fn a_key_is_a_set_at_a_tick_that_stands_in_the_log() {
    let mut stage = with_keys();
    assert!(stage.policy.wants_keys());
    stage.step(Event::Key { usage: 4, is_down: true });
    let LiveRequest { request, what, .. } = stage.asked();
    assert_eq!(values_of(what), [("a:code".to_owned(), 4.0), ("a:down".to_owned(), 1.0)]);
    let before = stage.logged().len();
    stage.live(LiveReply::Applied { request, tick: 500, carried: None });
    let entry = stage.logged()[before].clone();
    let values = vec![("a:code".to_owned(), 4f64.to_bits()), ("a:down".to_owned(), 1f64.to_bits())];
    assert_eq!((entry.tick, entry.what), (500, log::Logged::Set { values, ramp_ticks: 0 }));
    stage.step(Event::KeysReleased);
    assert_eq!(values_of(stage.asked().what), [("a:down".to_owned(), 0.0)]);
}

#[test]
fn a_host_that_takes_no_keys_is_told_how_the_keyboard_is_when_it_does() {
    let mut stage = with_keys();
    let from = stage.asked().request;
    for _ in 0..500 {
        stage.step(Event::Key { usage: 4, is_down: true });
        stage.step(Event::Key { usage: 4, is_down: false });
    }
    stage.step(Event::Key { usage: 5, is_down: true });
    let last = stage.asked().request;
    assert!(last - from <= 64, "what waits is bounded: {}", last - from);
    (from + 1..=last).for_each(|request| stage.live(LiveReply::Applied { request, tick: 500, carried: None }));
    assert!(stage.asked().request > last);
    assert_eq!(values_of(stage.asked().what), [("a:code".to_owned(), 5.0), ("a:down".to_owned(), 1.0)]);
}

// -------------------------------------------------------------------------------------------------------- routes

/// What the device host was told last of who listens to whom: the lanes that are heard and those that hear them.
fn wired(stage: &Stage) -> Option<Vec<(Option<String>, String)>> {
    let told = stage.all.iter().rev().find_map(|action| if let Action::Connect(buses) = action { Some(buses.clone()) } else { None });
    told.map(|buses| buses.list.into_iter().map(|bus| (bus.from, bus.to)).collect())
}

fn route(from: &str, to: &str, only: bool) -> Verb {
    Verb::Route(crate::control::protocol::Route { from: name(from), to: name(to), only })
}

#[test]
fn a_route_is_told_to_the_device_host_and_names_what_is_not_there() {
    let mut stage = Stage::proven();
    assert_eq!(wired(&stage), None, "where nobody listens there is nothing to tell");
    stage.call(route("a", "a", true));
    let bus = |from: &str| (Some(from.to_owned()), "a".to_owned());
    assert_eq!(wired(&stage), Some(vec![bus("a")]));
    assert!(
        matches!(stage.all.iter().rev().find(|action| matches!(action, Action::Connect(_))), Some(Action::Connect(buses)) if buses.unheard == ["a"])
    );
    let Some(Action::Answer { outcome, .. }) = stage.all.iter().rev().find(|action| matches!(action, Action::Answer { .. })) else {
        panic!("it is answered")
    };
    let Ok(Answer::Route(routing)) = outcome.as_ref() else { panic!("{outcome:?}") };
    let why = routing.routes[0].silent_because.as_deref().unwrap_or_default();
    assert!(why.contains("audioRuntime.audioInBufferLAddress"), "a program that listens to nothing is named: {why}");
    let told = stage.all.iter().filter(|action| matches!(action, Action::Connect(_))).count();
    stage.call(route("a", "a", true));
    assert_eq!(stage.all.iter().filter(|action| matches!(action, Action::Connect(_))).count(), told, "what changes nothing is not told");
    for (from, to) in [("b", "a"), ("a", "b"), ("a", "@input")] {
        stage.call(route(from, to, false));
        let refused = stage.all.iter().rev().find_map(|action| match action {
            Action::Answer { outcome, .. } => outcome.as_ref().as_ref().err().map(ErrorReply::name),
            _ => None,
        });
        assert_eq!(refused, Some(ErrorCode::UnknownRuntime), "{from} to {to}");
    }
    stage.call(Verb::Unroute(crate::control::protocol::Unroute { from: name("a"), to: name("a") }));
    assert_eq!(wired(&stage), Some(Vec::new()));
}

#[test]
fn a_program_that_wants_to_hear_something_hears_the_device_until_something_is_routed_to_it() {
    let mut stage = Stage::proven();
    stage.push("listens");
    stage.answer_compile(Ok(()));
    stage.inspect(Shape { code: 2, ..FIRST });
    assert_eq!(wired(&stage), None, "not before it runs");
    let request = stage.asked().request;
    let progress = SwapProgress::Committed { tick: 400, commit_ns: 1, carried: Carried::default() };
    stage.live(LiveReply::Swap { request, progress });
    assert_eq!(wired(&stage), Some(vec![(None, "a".to_owned())]));
    stage.call(route("a", "a", false));
    assert_eq!(wired(&stage), Some(vec![(Some("a".to_owned()), "a".to_owned())]));
    stage.call(Verb::Stop(Stop { runtime: name("a") }));
    assert_eq!(wired(&stage), Some(Vec::new()), "who is gone hears nothing");
}
