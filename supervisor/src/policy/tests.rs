//! The policy as a table: what happens, and what it then wants. One promise a test.

use ipc::diagnostic::{Diagnostic, Stage as DiagnosticStage};
use ipc::fault::{Fault, FaultKind};
use ipc::message::{CompileOutcome, CompileTimings, DeviceReply, DeviceStatus, HostReply, HostStatus, ItemValue, Refusal, WorkerReply};
use ipc::segment::{SegmentKind, SegmentRef};

use super::*;

mod mixing;
mod recovery;

const FIRST: RuntimeIndex = RuntimeIndex(0);
const SECOND: RuntimeIndex = RuntimeIndex(1);

/// The hosts that a session starts for its programs have their numbers.
const HOST_1: Child = Child::Host(HostIndex(0));
const HOST_2: Child = Child::Host(HostIndex(1));
const WORKER: Child = Child::Worker(1);
const DEVICE: Child = Child::Device(1);

/// A session under test with a clock of its own; remembers every action.
struct Scene {
    policy: Policy,
    now_ms: u64,
    all: Vec<Action>,
}

impl Scene {
    fn new(goal: Goal, names: &[&str]) -> Self {
        let policy = Policy::new(goal, names.iter().map(|name| (*name).to_owned()));
        let mut scene = Self { policy, now_ms: 0, all: Vec::new() };
        scene.step(Event::Begin);
        scene
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let actions = self.policy.step(self.now_ms, event);
        self.all.extend(actions.iter().cloned());
        actions
    }

    /// Steps and expects exactly these actions.
    #[track_caller]
    fn expect(&mut self, event: Event, expected: &[Action]) {
        let shown = format!("{event:?}");
        assert_eq!(self.step(event), expected, "after {shown}");
    }

    /// Lets time pass until the next deadline.
    fn wait(&mut self) -> Vec<Action> {
        self.now_ms = self.policy.next_deadline_ms().expect("there is a deadline");
        self.step(Event::DeadlinePassed)
    }

    fn join_all(&mut self) {
        let children: Vec<Child> = self.policy.processes.keys().copied().collect();
        for (child, pid) in children.into_iter().zip(100..) {
            self.step(Event::Spawned { child, pid });
            self.step(Event::Joined { child });
        }
    }

    /// Answers the compile that the worker is at.
    fn answer(&mut self, outcome: CompileOutcome) -> Vec<Action> {
        let id = self.policy.compiling.expect("the worker is compiling").request;
        self.step(compiled(id, outcome))
    }

    /// Brings one `audio` program to where its host runs it.
    fn play(&mut self, runtime: RuntimeIndex, sample_rate: u32) {
        let segment = format!("artifact-{}", runtime.0);
        self.answer(CompileOutcome::Artifact(artifact(&segment)));
        self.step(Event::Inspected { runtime, inspection: Inspection::Playable(audio(sample_rate)) });
        self.step(Event::LaneCreated { runtime, lane: lane(runtime) });
        self.step(host(runtime, HostReply::Loaded { segment }));
        self.step(host(runtime, HostReply::Started { runtime: String::new() }));
    }

    fn end(&mut self, child: Child) -> Vec<Action> {
        self.step(Event::Died { child, end: ProcessEnd::Exited(0), tick: None })
    }

    fn has(&self, action: &Action) -> bool {
        self.all.contains(action)
    }

    fn verdict(&self) -> Option<Verdict> {
        self.all.iter().find_map(|action| if let Action::Finish(verdict) = action { Some(*verdict) } else { None })
    }

    fn failure_of(&self, runtime: RuntimeIndex) -> Option<&Failure> {
        self.all.iter().find_map(|action| match action {
            Action::Tell(Report::Failed { runtime: failed, failure }) if *failed == runtime => Some(failure),
            _ => None,
        })
    }
}

fn compiled(id: u64, outcome: CompileOutcome) -> Event {
    Event::WorkerSaid { generation: 1, reply: WorkerReply::Compiled { id, outcome, timings: CompileTimings::default() } }
}

fn host(runtime: RuntimeIndex, reply: HostReply) -> Event {
    Event::HostSaid { host: HostIndex(runtime.0), reply }
}

fn device(reply: DeviceReply) -> Event {
    Event::DeviceSaid { generation: 1, reply }
}

fn segment(name: &str, kind: SegmentKind) -> SegmentRef {
    SegmentRef { name: name.to_owned(), kind, generation: 1, bytes: 100, hash: None }
}

fn artifact(name: &str) -> SegmentRef {
    segment(name, SegmentKind::Artifact)
}

fn lane(runtime: RuntimeIndex) -> SegmentRef {
    segment(&format!("lane-{}", runtime.0), SegmentKind::Lane)
}

fn audio(sample_rate: u32) -> Plan {
    Plan { sample_rate, ..programs_in_tests::plan(programs_in_tests::Shape::default()) }
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

fn opened() -> Event {
    device(DeviceReply::Opened { device: "null".to_owned(), sample_rate: 48_000, period_frames: 128, channels: 2 })
}

fn at_frame(frames: u64) -> Event {
    device(DeviceReply::Status(DeviceStatus { frames, ..DeviceStatus::default() }))
}

#[test]
fn every_goal_starts_the_processes_it_needs_and_no_others() {
    let two = [HOST_1, HOST_2];
    let rows: [(Goal, &[&str], Vec<Child>); 6] = [
        (Goal::Check, &["a"], vec![WORKER]),
        (Goal::Compile, &["a"], vec![WORKER]),
        (Goal::Run, &["a"], vec![WORKER, HOST_1]),
        (Goal::Play { seconds: None }, &["a", "b"], [WORKER, DEVICE].into_iter().chain(two).collect()),
        (Goal::Bounce, &["a", "b"], [WORKER, DEVICE].into_iter().chain(two).collect()),
        (Goal::ListDevices, &[], vec![DEVICE]),
    ];
    for (goal, names, children) in rows {
        let expected: Vec<Action> = children.into_iter().map(Action::Spawn).collect();
        assert_eq!(Scene::new(goal, names).all, expected, "{goal:?}");
    }
}

#[test]
fn a_wrong_program_is_told_once_and_ends_a_check() {
    let mut scene = Scene::new(Goal::Check, &["a"]);
    scene.step(Event::Spawned { child: WORKER, pid: 7 });
    scene.expect(Event::Joined { child: WORKER }, &[Action::Compile { runtime: FIRST, request: 1, settings: None }]);
    let failure = Failure::Rejected(vec![diagnostic()]);
    scene.expect(
        compiled(1, CompileOutcome::Rejected(vec![diagnostic()])),
        &[Action::Tell(Report::Failed { runtime: FIRST, failure }), Action::Tell(Report::Stopping), Action::Close(WORKER)],
    );
    scene.expect(Event::ChannelClosed { child: WORKER }, &[]);
    scene.expect(Event::Died { child: WORKER, end: ProcessEnd::Exited(0), tick: None }, &[Action::Finish(Verdict::Program)]);
}

#[test]
fn a_program_goes_from_text_to_sound_in_this_order() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    let (runtime, artifact, plan) = (FIRST, artifact("x"), audio(48_000));
    let timings = CompileTimings::default();
    let outcome = CompileOutcome::Artifact(artifact.clone());
    scene.expect(
        compiled(1, outcome),
        &[Action::Tell(Report::Compiled { runtime, timings }), Action::Inspect { runtime, artifact: artifact.clone(), is_settled: false }],
    );
    scene.expect(
        Event::Inspected { runtime, inspection: Inspection::Playable(plan.clone()) },
        &[Action::OpenDevice { sample_rate: 48_000, first_frame: 0, channels: 2, tape: None }, Action::CreateLane(runtime)],
    );
    scene.expect(
        Event::LaneCreated { runtime, lane: lane(runtime) },
        &[
            Action::AddLane { runtime, lane: lane(runtime), resumes: false },
            Action::StartRuntime { runtime, host: HostIndex(0), artifact, plan, lane: Some(lane(runtime)), is_protected: true },
        ],
    );
    // Another host may have to load it.
    scene.expect(host(runtime, HostReply::Loaded { segment: "x".to_owned() }), &[]);
    let started = scene.step(host(runtime, HostReply::Started { runtime: "a".to_owned() }));
    assert_eq!(started.first(), Some(&Action::Tell(Report::RuntimeStarted { runtime })));
    assert!(matches!(started[1..3], [Action::Log(_), Action::Tell(Report::Change(_))]), "its first program is a change like any other");
    assert_eq!(started[3..], [Action::Spawn(Child::Host(HostIndex(1)))], "once all is well there is a spare");
    scene.expect(device(DeviceReply::LaneMapped { runtime: "a".to_owned() }), &[]);
    assert_eq!(scene.verdict(), None);
}

#[test]
fn an_environment_is_settled_by_one_more_compile_and_not_by_a_third() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    scene.answer(CompileOutcome::Artifact(artifact("x")));
    let settings = CompileSettings { environment: vec![("SAMPLE_RATE".to_owned(), 44_100.0)], work_budget: 5 };
    let needs = || Event::Inspected { runtime: FIRST, inspection: Inspection::NeedsSettings(settings.clone()) };
    scene.expect(
        needs(),
        &[Action::Release { segment: "x".to_owned() }, Action::Compile { runtime: FIRST, request: 2, settings: Some(settings.clone()) }],
    );
    scene.answer(CompileOutcome::Artifact(artifact("y")));
    assert!(scene.has(&Action::Inspect { runtime: FIRST, artifact: artifact("y"), is_settled: true }));
    scene.step(needs());
    assert!(matches!(scene.failure_of(FIRST), Some(Failure::NotCompiled(_))));
}

#[test]
fn a_damaged_artifact_is_made_once_more_and_then_given_up() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    for (attempt, segment) in [(1, "x"), (2, "y")] {
        scene.answer(CompileOutcome::Artifact(artifact(segment)));
        scene.step(Event::Inspected { runtime: FIRST, inspection: Inspection::Playable(audio(48_000)) });
        scene.step(Event::LaneCreated { runtime: FIRST, lane: lane(FIRST) });
        let reason = Refusal { message: "its hash is wrong".to_owned(), line: None, is_damaged: true, is_machine: false };
        assert_eq!(scene.failure_of(FIRST), None, "attempt {attempt}");
        scene.step(host(FIRST, HostReply::Refused { segment: segment.to_owned(), reason }));
        assert!(scene.has(&Action::Release { segment: segment.to_owned() }));
    }
    assert!(matches!(scene.failure_of(FIRST), Some(Failure::NotCompiled(why)) if why.contains("its hash is wrong")));
    let starts = scene.all.iter().filter(|action| matches!(action, Action::CreateLane(_))).count();
    assert_eq!(starts, 1, "the lane is made once");
}

#[test]
fn of_several_programs_the_good_ones_play_and_the_bad_one_is_told() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["bad", "good"]);
    scene.join_all();
    scene.answer(CompileOutcome::Rejected(vec![diagnostic()]));
    assert!(scene.has(&Action::Close(HOST_1)), "its host has nothing to do");
    scene.play(SECOND, 44_100);
    assert!(scene.has(&Action::OpenDevice { sample_rate: 44_100, first_frame: 0, channels: 2, tape: None }));
    assert!(scene.has(&Action::Tell(Report::RuntimeStarted { runtime: SECOND })));
    scene.end(HOST_1);
    assert_eq!(scene.verdict(), None);
    scene.step(Event::Signal);
    scene.step(device(DeviceReply::Stopped { frames: 1 }));
    scene.end(DEVICE);
    scene.step(host(SECOND, HostReply::Stopped));
    scene.end(HOST_2);
    scene.end(WORKER);
    scene.end(Child::Host(HostIndex(2)));
    assert_eq!(scene.verdict(), Some(Verdict::Program));
}

#[test]
fn a_program_of_another_sample_rate_is_refused_and_the_first_plays_on() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["first", "other"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.answer(CompileOutcome::Artifact(artifact("y")));
    scene.step(Event::Inspected { runtime: SECOND, inspection: Inspection::Playable(audio(44_100)) });
    let Some(Failure::Unplayable { message, .. }) = scene.failure_of(SECOND) else { panic!("it must be refused") };
    assert!(message.contains("44100") && message.contains("48000") && message.contains("\"first\""), "{message}");
    assert_eq!(scene.failure_of(FIRST), None);
}

#[test]
fn the_order_on_the_command_line_settles_the_sample_rate_not_the_order_of_arrival() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["first", "other"]);
    scene.join_all();
    scene.answer(CompileOutcome::Artifact(artifact("x")));
    let again = CompileSettings { environment: Vec::new(), work_budget: 1 };
    scene.step(Event::Inspected { runtime: FIRST, inspection: Inspection::NeedsSettings(again) });
    scene.answer(CompileOutcome::Artifact(artifact("y")));
    scene.step(Event::Inspected { runtime: SECOND, inspection: Inspection::Playable(audio(48_000)) });
    assert!(!scene.all.iter().any(|action| matches!(action, Action::OpenDevice { .. })));
    scene.play(FIRST, 44_100);
    assert!(scene.has(&Action::OpenDevice { sample_rate: 44_100, first_frame: 0, channels: 2, tape: None }));
}

#[test]
fn a_host_that_is_lost_before_it_has_a_program_or_ends_itself_is_the_machines_fault() {
    let host = HOST_1;
    let lost = |joins: bool, plays: bool, event: Event| {
        let mut scene = Scene::new(Goal::Bounce, &["a"]);
        if joins {
            scene.join_all();
        }
        if plays {
            scene.play(FIRST, 48_000);
        }
        scene.step(event);
        assert_eq!(scene.failure_of(FIRST), Some(&Failure::NoHost));
        scene.policy.verdict
    };
    let died = |end| Event::Died { child: host, end, tick: None };
    let reason = || "too many open files".to_owned();
    assert_eq!(lost(false, false, Event::NotSpawned { child: host, reason: reason() }), Verdict::Environment);
    assert_eq!(lost(false, false, Event::NotJoined { child: host, reason: reason() }), Verdict::Environment);
    assert_eq!(lost(false, false, died(ProcessEnd::Killed(11))), Verdict::Environment);
    assert_eq!(lost(true, false, died(ProcessEnd::Exited(1))), Verdict::Environment);
    assert_eq!(lost(true, true, died(ProcessEnd::Exited(1))), Verdict::Environment);
    assert_eq!(lost(true, true, died(ProcessEnd::Killed(6))), Verdict::Environment);
    assert_eq!(lost(true, true, died(ProcessEnd::Killed(11))), Verdict::Program);
}

#[test]
fn a_refusal_is_the_programs_fault_or_the_machines_as_the_host_says() {
    for (is_machine, verdict) in [(false, Verdict::Program), (true, Verdict::Environment)] {
        let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
        scene.join_all();
        scene.answer(CompileOutcome::Artifact(artifact("x")));
        scene.step(Event::Inspected { runtime: FIRST, inspection: Inspection::Playable(audio(48_000)) });
        scene.step(Event::LaneCreated { runtime: FIRST, lane: lane(FIRST) });
        let reason = Refusal { message: "its memory cannot be reserved".to_owned(), line: None, is_damaged: false, is_machine };
        scene.step(host(FIRST, HostReply::Refused { segment: "x".to_owned(), reason }));
        assert_eq!(scene.policy.verdict, verdict);
    }
}

#[test]
fn a_run_whose_program_is_compiled_does_not_need_the_worker() {
    let mut scene = Scene::new(Goal::Run, &["a"]);
    scene.join_all();
    scene.answer(CompileOutcome::Artifact(artifact("x")));
    scene.step(Event::Inspected { runtime: FIRST, inspection: Inspection::Runnable });
    scene.step(Event::Died { child: WORKER, end: ProcessEnd::Killed(9), tick: None });
    scene.step(host(FIRST, HostReply::RunDone { dumps: Vec::new() }));
    assert!(scene.has(&Action::Tell(Report::RunDone { dumps: Vec::new() })));
}

#[test]
fn a_signal_fades_out_first_stops_the_runtimes_then_and_ends_well() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.step(opened());
    let spare = HOST_2;
    let fade = [Action::Tell(Report::Stopping), Action::StopDevice, Action::Close(WORKER), Action::Kill(spare)];
    scene.expect(Event::Signal, &fade);
    scene.expect(
        device(DeviceReply::Stopped { frames: 9 }),
        &[Action::Tell(Report::DeviceStopped { frames: 9 }), Action::Close(DEVICE), Action::StopRuntime(HostIndex(0))],
    );
    scene.expect(
        host(FIRST, HostReply::Stopped),
        &[
            Action::Tell(Report::RuntimeStopped { runtime: FIRST }),
            Action::Release { segment: "artifact-0".to_owned() },
            Action::Release { segment: "lane-0".to_owned() },
            Action::Close(HOST_1),
        ],
    );
    scene.end(WORKER);
    scene.end(DEVICE);
    scene.end(spare);
    scene.expect(Event::Died { child: HOST_1, end: ProcessEnd::Exited(0), tick: None }, &[Action::Finish(Verdict::Fine)]);
}

#[test]
fn a_second_signal_kills_whoever_is_left() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.step(Event::Signal);
    let kills = [WORKER, DEVICE, HOST_1].map(Action::Kill);
    scene.expect(Event::Signal, &kills);
    for child in [WORKER, DEVICE, HOST_1, HOST_2] {
        scene.step(Event::Died { child, end: ProcessEnd::Killed(9), tick: None });
    }
    assert_eq!(scene.verdict(), Some(Verdict::Interrupted));
    assert!(!scene.all.iter().any(|action| matches!(action, Action::Tell(Report::Died { .. }))), "these deaths were ours");
}

#[test]
fn whoever_does_not_end_in_time_is_named_and_killed() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    let began_ms = scene.now_ms;
    scene.step(Event::Signal);
    let actions = scene.wait();
    assert!(scene.now_ms - began_ms <= 2_000);
    assert!(actions.contains(&Action::Kill(DEVICE)) && actions.contains(&Action::Kill(HOST_1)));
    assert!(actions.iter().any(|action| matches!(action, Action::Tell(Report::ProcessStuck { part: Part::Device, .. }))));
    // Not even SIGKILL ends them: the session ends all the same, within the two seconds.
    scene.wait();
    assert_eq!(scene.verdict(), Some(Verdict::Environment));
    assert!(scene.now_ms - began_ms <= 2_000);
}

#[test]
fn a_compile_that_takes_too_long_is_a_failure_of_that_program_and_ends_the_worker() {
    let mut scene = Scene::new(Goal::Check, &["a"]);
    scene.join_all();
    let actions = scene.wait();
    assert_eq!(scene.now_ms, deadlines::COMPILE_MS);
    assert_eq!(scene.failure_of(FIRST), Some(&Failure::CompileTooLong));
    assert!(actions.contains(&Action::Kill(WORKER)));
    scene.step(Event::Died { child: WORKER, end: ProcessEnd::Killed(9), tick: None });
    assert_eq!(scene.verdict(), Some(Verdict::Program));
}

#[test]
fn a_process_that_never_connects_is_named_and_killed() {
    let mut scene = Scene::new(Goal::Check, &["a"]);
    scene.step(Event::Spawned { child: WORKER, pid: 7 });
    let actions = scene.wait();
    assert_eq!(scene.now_ms, deadlines::JOIN_MS);
    assert!(matches!(&actions[..], [Action::Kill(WORKER), Action::Tell(Report::ProcessMissing { .. }), ..]));
    assert_eq!(scene.failure_of(FIRST), Some(&Failure::NoWorker));
    scene.step(Event::Died { child: WORKER, end: ProcessEnd::Killed(9), tick: None });
    assert_eq!(scene.verdict(), Some(Verdict::Environment));
}

#[test]
fn a_process_that_cannot_be_started_ends_the_session_at_once() {
    let mut scene = Scene::new(Goal::Check, &["a"]);
    scene.step(Event::NotSpawned { child: WORKER, reason: "no memory".to_owned() });
    assert_eq!(scene.verdict(), Some(Verdict::Environment));
}

#[test]
fn a_play_of_some_seconds_counts_them_from_the_first_sound() {
    let mut scene = Scene::new(Goal::Play { seconds: Some(1.0) }, &["a"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.step(opened());
    scene.step(at_frame(90_000));
    assert!(!scene.has(&Action::StopDevice), "nothing has sounded yet");
    scene.step(device(DeviceReply::LaneStarted { runtime: "a".to_owned(), block: 1_000 }));
    scene.step(at_frame(128_000 + 47_999));
    assert!(!scene.has(&Action::StopDevice));
    let actions = scene.step(at_frame(128_000 + 48_000));
    assert!(scene.has(&Action::StopDevice));
    assert!(adoption::is_consequential(&actions), "a supervisor that takes this one's place is to know what has been cancelled by it");
}

#[test]
fn a_bounce_begins_when_all_lanes_are_there_and_ends_with_the_file() {
    let mut scene = Scene::new(Goal::Bounce, &["a", "b"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    assert!(!scene.all.iter().any(|action| matches!(action, Action::OpenDevice { .. })), "the second may be wrong yet");
    scene.answer(CompileOutcome::Artifact(artifact("artifact-1")));
    scene.step(Event::Inspected { runtime: SECOND, inspection: Inspection::Playable(audio(48_000)) });
    for runtime in [FIRST, SECOND] {
        scene.step(Event::LaneCreated { runtime, lane: lane(runtime) });
        scene.step(host(runtime, HostReply::Started { runtime: String::new() }));
    }
    scene.step(opened());
    for name in ["a", "b"] {
        assert!(!scene.has(&Action::BeginRendering));
        scene.step(device(DeviceReply::LaneMapped { runtime: name.to_owned() }));
    }
    assert!(scene.has(&Action::BeginRendering));
    scene.step(device(DeviceReply::Stopped { frames: 48_000 }));
    assert!(scene.has(&Action::StopRuntime(HostIndex(0))) || scene.has(&Action::Close(DEVICE)));
}

#[test]
fn a_bounce_with_a_wrong_program_makes_no_file() {
    let mut scene = Scene::new(Goal::Bounce, &["good", "bad"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.answer(CompileOutcome::Rejected(vec![diagnostic()]));
    assert!(!scene.all.iter().any(|action| matches!(action, Action::OpenDevice { .. })));
    assert!(scene.has(&Action::Tell(Report::Stopping)));
}

#[test]
fn a_program_held_by_its_host_makes_the_session_end_with_an_error() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    let fault = Fault { kind: FaultKind::Trap, tick: 3, block: None, line: None, repeats: 0 };
    scene.step(host(FIRST, HostReply::Faulted { runtime: "a".to_owned(), fault: fault.clone(), held: false }));
    assert_eq!(scene.policy.verdict, Verdict::Fine);
    scene.step(host(FIRST, HostReply::Faulted { runtime: "a".to_owned(), fault, held: true }));
    assert_eq!(scene.policy.verdict, Verdict::Program);
    assert!(!scene.has(&Action::Tell(Report::Stopping)), "it stays, silent, until someone decides");
}

#[test]
fn a_run_ends_with_its_values_or_with_its_fault() {
    for succeeds in [true, false] {
        let mut scene = Scene::new(Goal::Run, &["a"]);
        scene.join_all();
        scene.answer(CompileOutcome::Artifact(artifact("x")));
        scene.expect(
            Event::Inspected { runtime: FIRST, inspection: Inspection::Runnable },
            &[Action::RunProgram { runtime: FIRST, host: HostIndex(0), artifact: artifact("x") }],
        );
        let fault = Fault { kind: FaultKind::DivisionByZero, tick: 0, block: None, line: Some(4), repeats: 0 };
        let dumps: Vec<ItemValue> = Vec::new();
        let reply = if succeeds { HostReply::RunDone { dumps } } else { HostReply::RunFailed { fault } };
        scene.step(host(FIRST, reply));
        scene.end(WORKER);
        scene.end(HOST_1);
        assert_eq!(scene.verdict(), Some(if succeeds { Verdict::Fine } else { Verdict::Program }));
    }
}

#[test]
fn a_signal_ends_a_run_in_the_middle_of_its_cycles() {
    let mut scene = Scene::new(Goal::Run, &["a"]);
    scene.join_all();
    scene.answer(CompileOutcome::Artifact(artifact("x")));
    scene.step(Event::Inspected { runtime: FIRST, inspection: Inspection::Runnable });
    scene.step(Event::Signal);
    assert!(scene.has(&Action::Kill(HOST_1)));
    scene.step(Event::Died { child: HOST_1, end: ProcessEnd::Killed(9), tick: None });
    scene.end(WORKER);
    assert_eq!(scene.verdict(), Some(Verdict::Interrupted));
}

#[test]
fn late_and_foreign_messages_change_nothing() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    let nobody = RuntimeIndex(7);
    scene.expect(host(nobody, HostReply::Stopped), &[]);
    scene.expect(host(FIRST, HostReply::Stopped), &[]);
    scene.expect(compiled(99, CompileOutcome::Checked), &[]);
    scene.expect(compiled(99, CompileOutcome::Artifact(artifact("z"))), &[Action::Release { segment: "z".to_owned() }]);
    scene.expect(device(DeviceReply::LaneMapped { runtime: "nobody".to_owned() }), &[]);
    scene.expect(Event::Inspected { runtime: FIRST, inspection: Inspection::Runnable }, &[]);
    scene.expect(Event::Died { child: Child::Host(HostIndex(7)), end: ProcessEnd::Killed(9), tick: None }, &[]);
    scene.expect(Event::Joined { child: Child::Host(HostIndex(7)) }, &[]);
    let status = HostStatus::default();
    scene.expect(host(FIRST, HostReply::Status(status.clone())), &[Action::Tell(Report::HostStatus { runtime: FIRST, status })]);
}

#[test]
fn nothing_follows_the_end() {
    let mut scene = Scene::new(Goal::Check, &["a"]);
    scene.step(Event::NotSpawned { child: WORKER, reason: String::new() });
    assert!(scene.verdict().is_some());
    for event in [Event::Begin, Event::Signal, Event::DeadlinePassed, Event::Joined { child: WORKER }] {
        scene.expect(event, &[]);
    }
    assert_eq!(scene.policy.next_deadline_ms(), None);
}
