//! Deaths, standstills and restarts: what happens, and what the policy then wants. One promise a test.

use ipc::hash::ContentHash;
use ipc::live::{Carried, LiveChange, LiveReply, SwapProgress};
use ipc::recovery::{TakeOver, TookOver};

use super::*;
use crate::control::protocol::{ErrorCode, Freeze, Get, ItemName, Mute, Push, Restart, RuntimeName, Verb};
use crate::control::{Call, ClientId, Ticket};

const SPARE: HostIndex = HostIndex(2);

/// Two programs that play, and the spare that has come in.
fn playing() -> Scene {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a", "b"]);
    scene.join_all();
    for runtime in [FIRST, SECOND] {
        scene.play(runtime, 48_000);
        scene.step(state(runtime));
    }
    scene.step(opened());
    join(&mut scene, Child::Host(SPARE), 77);
    scene
}

fn state(runtime: RuntimeIndex) -> Event {
    Event::StateCreated { runtime, request: None, state: segment(&format!("state-{}", runtime.0), SegmentKind::State) }
}

fn join(scene: &mut Scene, child: Child, pid: u32) -> Vec<Action> {
    scene.step(Event::Spawned { child, pid });
    scene.step(Event::Joined { child })
}

fn killed(child: Child) -> Event {
    Event::Died { child, end: ProcessEnd::Killed(9), tick: None }
}

fn told_to_take_over(actions: &[Action]) -> Option<(HostIndex, &TakeOver)> {
    actions.iter().find_map(|action| if let Action::TakeOver { host, order, .. } = action { Some((*host, &**order)) } else { None })
}

fn took(order: &TakeOver, applied: &[(u64, u64)]) -> HostReply {
    HostReply::TookOver(Box::new(TookOver {
        runtime: order.start.runtime.clone(),
        generation: order.start.generation,
        revision: order.candidates[0].revision,
        restored_tick: 90,
        replayed_ticks: 10,
        next_tick: 100,
        applied: applied.to_vec(),
        trial: None,
        is_frozen: false,
        is_held: false,
        was_prepared: true,
        took_us: 5,
    }))
}

fn said(host: HostIndex, reply: HostReply) -> Event {
    Event::HostSaid { host, reply }
}

fn call(ticket: u64, verb: Verb) -> Event {
    Event::Call { call: Box::new(Call { ticket: Ticket(ticket), client: ClientId(1), verb }), text: None }
}

fn name(name: &str) -> RuntimeName {
    RuntimeName::new(name).unwrap()
}

/// The answer to a ticket: `None` while there is none.
fn answer(scene: &Scene, ticket: u64) -> Option<Result<(), i32>> {
    scene.all.iter().find_map(|action| match action {
        Action::Answer { ticket: found, outcome } if *found == Ticket(ticket) => {
            Some(outcome.as_ref().as_ref().map(|_| ()).map_err(|error| error.code))
        }
        _ => None,
    })
}

fn requests(actions: &[Action]) -> Vec<(HostIndex, u64)> {
    let request = |action: &Action| if let Action::Live { host, request, .. } = action { Some((*host, request.request)) } else { None };
    actions.iter().filter_map(request).collect()
}

#[test]
fn a_spare_is_started_once_everything_plays_and_keeps_ready_what_runs() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a", "b"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.step(state(FIRST));
    assert!(!scene.has(&Action::Spawn(Child::Host(SPARE))), "the second is still on its way");
    scene.play(SECOND, 48_000);
    scene.step(state(SECOND));
    assert!(scene.has(&Action::Spawn(Child::Host(SPARE))));
    let told = join(&mut scene, Child::Host(SPARE), 77);
    let prepared: Vec<&str> = told
        .iter()
        .filter_map(|action| if let Action::Prepare { host: SPARE, program } = action { Some(program.runtime.as_str()) } else { None })
        .collect();
    assert_eq!(prepared, ["a", "b"]);
    for goal in [Goal::Check, Goal::Run, Goal::Bounce] {
        let mut other = Scene::new(goal, &["a"]);
        other.join_all();
        assert!(other.policy.spare().is_none(), "{goal:?}");
    }
}

#[test]
fn a_dead_host_is_followed_by_the_spare_in_the_same_step() {
    let mut scene = playing();
    let actions = scene.step(killed(HOST_1));
    let (host, order) = told_to_take_over(&actions).expect("the spare takes over");
    assert_eq!((host, order.start.runtime.as_str(), order.start.generation), (SPARE, "a", 2));
    assert_eq!(order.start.lane, Some(lane(FIRST)));
    assert_eq!(order.candidates.len(), 1);
    assert!(scene.failure_of(FIRST).is_none() && scene.policy.verdict == Verdict::Fine);
    let reply = took(&order.clone(), &[]);
    let actions = scene.step(said(SPARE, reply));
    assert_eq!(scene.policy.programs[0].phase, Phase::Running);
    assert!(actions.contains(&Action::Spawn(Child::Host(HostIndex(3)))), "the next spare follows");
    scene.now_ms += 200;
    let actions = scene.step(at_frame(1_000));
    let ready =
        actions.iter().any(|action| matches!(action, Action::Tell(Report::HostReady { runtime: FIRST, gap: gaps::Gap::Blocks(0), .. })));
    assert!(ready, "the gap is known when the device host has reported");
}

#[test]
fn without_a_spare_a_new_host_is_started_and_takes_over_when_it_comes_in() {
    let mut scene = playing();
    scene.step(killed(HOST_1));
    let actions = scene.step(killed(HOST_2));
    assert!(actions.contains(&Action::Spawn(Child::Host(HostIndex(3)))));
    assert!(told_to_take_over(&actions).is_none());
    let actions = join(&mut scene, Child::Host(HostIndex(3)), 78);
    assert_eq!(told_to_take_over(&actions).map(|(host, order)| (host, order.start.runtime.as_str())), Some((HostIndex(3), "b")));
}

#[test]
fn what_a_dead_host_was_asked_is_answered_once_whether_it_was_done_or_not() {
    let mut scene = playing();
    scene.step(call(1, Verb::Freeze(Freeze { runtime: name("a") })));
    let get = || Verb::Get(Get { runtime: name("a"), items: vec![ItemName::new("a:level").unwrap()] });
    let asked = requests(&scene.step(call(2, get())));
    let actions = scene.step(killed(HOST_1));
    let order = told_to_take_over(&actions).expect("the spare takes over").1.clone();
    // Asked while nobody runs it: the next host is asked.
    assert!(requests(&scene.step(call(3, get()))).is_empty());
    let frozen = 1;
    let again = requests(&scene.step(said(SPARE, took(&order, &[(frozen, 95)]))));
    assert_eq!(answer(&scene, 1), Some(Ok(())), "it had been done");
    assert_eq!(again[0], (SPARE, asked[0].1), "the same request, once more");
    assert_eq!((again.len(), answer(&scene, 2), answer(&scene, 3)), (2, None, None));
    for (_, request) in again {
        scene.step(said(SPARE, HostReply::Live(LiveReply::Values { request, tick: 101, values: Vec::new() })));
    }
    assert_eq!((answer(&scene, 2), answer(&scene, 3)), (Some(Ok(())), Some(Ok(()))));
}

#[test]
fn what_a_dead_host_says_late_counts_for_nothing() {
    let mut scene = playing();
    scene.step(killed(HOST_1));
    let before = scene.policy.stale;
    scene.expect(said(HostIndex(0), HostReply::Stopped), &[]);
    scene.expect(killed(HOST_1), &[]);
    scene.expect(Event::DeviceSaid { generation: 9, reply: DeviceReply::Stopped { frames: 1 } }, &[]);
    assert_eq!(scene.policy.stale, before + 3);
}

/// Two programs whose lanes a device host plays.
fn played() -> Scene {
    let mut scene = playing();
    for runtime in ["a", "b"] {
        scene.step(device(DeviceReply::LaneMapped { runtime: runtime.to_owned() }));
    }
    assert!(scene.has(&Action::BeginRendering));
    scene
}

/// Lets the supervisor look so many times, every 50 ms, while the first program stands still.
fn stand_still(scene: &mut Scene, looks: u32, step_ms: u64) -> Vec<Action> {
    let mut all = Vec::new();
    for _ in 0..looks {
        scene.now_ms += step_ms;
        let found =
            vec![Progress { runtime: FIRST, done: 7, due: 20 }, Progress { runtime: SECOND, done: scene.now_ms, due: scene.now_ms }];
        all.extend(scene.step(Event::Looked { found }));
    }
    all
}

#[test]
fn a_host_that_stands_still_is_told_then_killed_and_replaced_when_it_is_dead() {
    let mut scene = played();
    stand_still(&mut scene, 1, 50);
    let told = stand_still(&mut scene, 2, 50);
    assert!(told.iter().any(|action| matches!(action, Action::Tell(Report::Stalled { runtime: FIRST, .. }))));
    assert!(!scene.has(&Action::Kill(HOST_1)));
    let killing = stand_still(&mut scene, 8, 50);
    assert!(killing.contains(&Action::Kill(HOST_1)));
    assert!(told_to_take_over(&killing).is_none(), "it could still write its lane");
    let actions = scene.step(killed(HOST_1));
    assert!(told_to_take_over(&actions).is_some());
}

#[test]
fn hosts_that_wait_for_a_device_are_not_stuck_however_long_it_takes_to_open_one() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a", "b"]);
    scene.join_all();
    for runtime in [FIRST, SECOND] {
        scene.play(runtime, 48_000);
        scene.step(state(runtime));
    }
    let waiting = [FIRST, SECOND].map(|runtime| Progress { runtime, done: 0, due: 4 }).to_vec();
    let wait = |scene: &mut Scene| {
        for _ in 0..40 {
            scene.now_ms += 50;
            let actions = scene.step(Event::Looked { found: waiting.clone() });
            let is_blamed = |action: &Action| matches!(action, Action::Kill(Child::Host(_)) | Action::Tell(Report::Stalled { .. }));
            assert!(!actions.iter().any(is_blamed), "{actions:?}");
        }
    };
    wait(&mut scene);
    // The device is there, but not every lane is known to it.
    scene.step(opened());
    wait(&mut scene);
    for runtime in ["a", "b"] {
        scene.step(device(DeviceReply::LaneMapped { runtime: runtime.to_owned() }));
    }
    let killing = stand_still(&mut scene, 14, 50);
    assert!(killing.contains(&Action::Kill(HOST_1)), "from here on it has something to do");
}

#[test]
fn a_host_that_goes_on_in_time_is_left_alone() {
    let mut scene = played();
    stand_still(&mut scene, 5, 50);
    scene.now_ms += 50;
    let actions = scene.step(Event::Looked { found: vec![Progress { runtime: FIRST, done: 8, due: 20 }] });
    assert!(
        actions.iter().any(|action| matches!(action, Action::Tell(Report::Resumed { runtime: FIRST, stalled_ms: 200 }))),
        "{actions:?}"
    );
    stand_still(&mut scene, 5, 50);
    assert!(!scene.has(&Action::Kill(HOST_1)));
}

#[test]
fn a_supervisor_that_is_late_itself_kills_nobody() {
    let mut scene = played();
    stand_still(&mut scene, 20, 400);
    assert!(!scene.has(&Action::Kill(HOST_1)));
}

#[test]
fn a_host_that_dies_too_often_is_held_until_somebody_restarts_it() {
    let mut scene = playing();
    for _ in 0..6 {
        let Some(host) = scene.policy.host(FIRST) else { break };
        let actions = scene.step(killed(host));
        scene.now_ms += 1;
        let order = match told_to_take_over(&actions) {
            Some((host, order)) => (host, order.clone()),
            None => {
                let Some(next) = scene.policy.host(FIRST) else { break };
                let actions = join(&mut scene, next, 80);
                let Some((host, order)) = told_to_take_over(&actions) else { break };
                (host, order.clone())
            }
        };
        scene.step(said(order.0, took(&order.1, &[])));
    }
    assert_eq!(scene.policy.programs[0].phase, Phase::Quarantined);
    assert!(scene.has(&Action::Release { segment: lane(FIRST).name }) && scene.has(&Action::RemoveLane(FIRST)));
    assert!(!scene.has(&Action::Tell(Report::Stopping)), "the other plays on");
    scene.step(call(1, Verb::Restart(Restart { runtime: name("a"), reset: false, generation: None })));
    assert_eq!(answer(&scene, 1), Some(Ok(())));
    assert!(!scene.policy.runtimes[0].incoming.is_empty(), "it is compiled and started anew");
}

#[test]
fn the_session_says_how_many_deaths_are_borne_and_the_next_supervisor_knows_it() {
    let borne = |deaths| Intensity { deaths, window_ms: 60_000 };
    let mut scene = playing();
    let limits = RestartLimits { of_one: borne(1), of_session: borne(3) };
    scene.policy.limit_restarts(limits);
    scene.step(killed(HOST_1));
    assert!(matches!(scene.policy.programs[0].phase, Phase::Recovering { .. }), "one is borne");
    // Long after the time that would have been the usual one.
    scene.now_ms += 30_000;
    scene.step(killed(Child::Host(SPARE)));
    assert_eq!(scene.policy.programs[0].phase, Phase::Quarantined);
    let cause = scene.policy.runtimes[0].cause.clone().expect("it says why");
    assert!(cause.message.contains("more than 1 times within 60 s"), "{cause:?}");
    let notes = scene.policy.notes(&mut |source| ContentHash::of(&[source.as_bytes()]));
    assert_eq!(Policy::take_back(&notes, adoption::Found::default()).restart_limits(), limits);
}

#[test]
fn a_revision_that_kills_twice_in_the_same_tick_is_held_where_there_is_no_good_one() {
    let mut scene = playing();
    let revision = scene.policy.programs[0].revision.as_ref().unwrap().hash();
    let died = |child, tick| Event::Died { child, end: ProcessEnd::Killed(11), tick: Some((revision, tick)) };
    let actions = scene.step(died(HOST_1, 50));
    let order = told_to_take_over(&actions).expect("the spare takes over").1.clone();
    scene.step(said(SPARE, took(&order, &[])));
    scene.step(died(Child::Host(SPARE), 50));
    assert_eq!(scene.policy.programs[0].phase, Phase::Quarantined);
    let cause = scene.policy.runtimes[0].cause.clone().expect("it says why");
    assert!(cause.message.contains("tick 50"), "{cause:?}");
    let push = Push {
        runtime: name("a"),
        text: Some(String::new()),
        path: None,
        directory: None,
        base: None,
        boundary: None,
        acknowledge: false,
        force: false,
        crossfade_ms: None,
        answer: crate::control::protocol::AnswerWhen::Planned,
    };
    let text = scene.policy.texts[0].clone();
    let event = Event::Call { call: Box::new(Call { ticket: Ticket(5), client: ClientId(1), verb: Verb::Push(push) }), text: Some(text) };
    scene.step(event);
    assert_eq!(answer(&scene, 5), Some(Err(ErrorCode::Refused.number())), "the text is refused until it changes");
}

/// A revision has killed twice in one tick, and the next host is to begin with a good one: which host, and with what request.
fn remedy_underway(good: programs_in_tests::Shape) -> (Scene, HostIndex, u64) {
    let mut scene = playing();
    let entry = scene.policy.runtimes[0].history.back_mut().unwrap();
    entry.is_good = true;
    entry.hash = ContentHash::of(&[b"good"]);
    entry.text.source = "8f4e/v1\n; good\n".into();
    let died = |child| Event::Died { child, end: ProcessEnd::Killed(11), tick: Some((bad(), 50)) };
    let actions = scene.step(died(HOST_1));
    let order = told_to_take_over(&actions).expect("the spare takes over").1.clone();
    scene.step(said(SPARE, took(&order, &[])));
    let host = HostIndex(3);
    join(&mut scene, Child::Host(host), 80);
    let actions = scene.step(died(Child::Host(SPARE)));
    assert!(told_to_take_over(&actions).is_none(), "what is to come first is being compiled");
    let request = actions.iter().find_map(|action| if let Action::CompileEdit { request, .. } = action { Some(*request) } else { None });
    scene.step(compiled(request.expect("the good text is compiled"), CompileOutcome::Artifact(artifact("good"))));
    let change = scene.policy.runtimes[0].incoming.last().unwrap().change;
    let inspection = Inspection::Playable(programs_in_tests::plan(good));
    let actions = scene.step(Event::EditInspected { change, inspection });
    let (told, order) = told_to_take_over(&actions).expect("the next host takes over");
    assert_eq!((told, order.first.len()), (host, 1));
    assert!(matches!(&order.first[0].what, LiveChange::Swap(swap) if swap.there.is_some()), "with the state that there is");
    let (request, order) = (order.first[0].request, order.clone());
    let HostReply::TookOver(took) = took(&order, &[]) else { panic!("it takes over") };
    // What a host is to begin with comes after what it has gone on with.
    let actions = scene.step(said(host, HostReply::TookOver(Box::new(TookOver { revision: bad(), ..*took }))));
    assert!(!actions.iter().any(is_back) && scene.policy.runtimes[0].flight.is_some(), "it has not done it yet");
    (scene, host, request)
}

/// The revision that kills.
fn bad() -> ContentHash {
    ContentHash::of(&[b"bad"])
}

fn is_back(action: &Action) -> bool {
    matches!(action, Action::Tell(Report::RolledBack { from, .. }) if *from == bad())
}

fn committed(host: HostIndex, request: u64) -> Event {
    let progress = SwapProgress::Committed { tick: 50, commit_ns: 1, carried: Carried::default() };
    said(host, HostReply::Live(LiveReply::Swap { request, progress }))
}

#[test]
fn a_good_revision_takes_the_place_of_one_that_kills_twice_with_its_state() {
    let (mut scene, host, request) = remedy_underway(programs_in_tests::Shape { code: 9, ..Default::default() });
    let actions = scene.step(committed(host, request));
    assert_eq!(actions.iter().filter(|action| is_back(action)).count(), 1, "and says so when it has");
    assert!(scene.policy.runtimes[0].flight.is_none() && scene.policy.programs[0].remedy.is_none());
    let kept = scene.policy.programs[0].keep.current().map(|kept| kept.revision);
    assert_eq!(kept, scene.policy.runtimes[0].current.as_ref().map(|current| current.hash()));
}

#[test]
fn a_good_revision_that_differs_in_a_comment_only_is_on_trial_like_any_other_program() {
    let (mut scene, host, request) = remedy_underway(programs_in_tests::Shape { comment: 9, ..Default::default() });
    let before = scene.policy.runtimes[0].current.as_ref().unwrap().hash();
    scene.step(committed(host, request));
    assert_ne!(scene.policy.runtimes[0].current.as_ref().unwrap().hash(), before);
    let fault = Fault { kind: FaultKind::Trap, tick: 60, block: None, line: None, repeats: 0 };
    let progress = SwapProgress::RolledBack { tick: 60, fault, to: before, is_partial: false, is_late: false };
    scene.step(said(host, HostReply::Live(LiveReply::Swap { request, progress })));
    assert_eq!(scene.policy.runtimes[0].current.as_ref().unwrap().hash(), before, "the host has gone back, and so has it");
    assert_eq!(scene.policy.programs[0].keep.current().map(|kept| kept.revision), Some(before));
}

/// What another supervisor finds of a session beside its notes; nobody has come.
fn found(scene: &Scene) -> adoption::Found {
    let revisions = scene.policy.programs.iter().filter_map(|program| program.revision.as_ref());
    adoption::Found {
        texts: scene.policy.texts.iter().map(|text| (ContentHash::of(&[text.source.as_bytes()]), text.source.clone())).collect(),
        plans: revisions.map(|it| (it.hash(), it.plan.clone())).collect(),
        ..adoption::Found::default()
    }
}

/// The next supervisor, and the first that it does.
fn succeeded(scene: &Scene, found: adoption::Found) -> (Scene, Vec<Action>) {
    let notes = scene.policy.notes(&mut |source| ContentHash::of(&[source.as_bytes()]));
    let mut next = Scene { policy: Policy::take_back(&notes, found), now_ms: scene.now_ms, all: Vec::new() };
    let actions = next.step(Event::Begin);
    (next, actions)
}

#[test]
fn a_muted_runtime_stays_silent_when_another_device_host_plays_for_another_supervisor() {
    let mut scene = playing();
    scene.step(call(1, Verb::Mute(Mute { runtime: name("a"), on: true })));
    let (mut next, _) = succeeded(&scene, found(&scene));
    let actions = join(&mut next, Child::Device(2), 90);
    assert!(actions.contains(&Action::AddLane { runtime: FIRST, lane: lane(FIRST), resumes: true }), "{actions:?}");
    let is_silent = |action: &Action| matches!(action, Action::SetGain { runtime: FIRST, gain: 0.0, .. });
    assert!(actions.iter().any(is_silent), "{actions:?}");
}

#[test]
fn the_lane_of_a_host_that_had_not_begun_is_taken_from_the_device_host_under_its_own_name() {
    let mut scene = Scene::new(Goal::Serve, &["a", "b"]);
    scene.join_all();
    scene.play(FIRST, 48_000);
    scene.step(opened());
    scene.answer(CompileOutcome::Artifact(artifact("b")));
    scene.step(Event::Inspected { runtime: SECOND, inspection: Inspection::Playable(audio(48_000)) });
    scene.step(Event::LaneCreated { runtime: SECOND, lane: lane(SECOND) });
    assert!(scene.has(&Action::AddLane { runtime: SECOND, lane: lane(SECOND), resumes: false }));
    let (next, actions) = succeeded(&scene, adoption::Found { device: Some(7), ..found(&scene) });
    let removed = actions.iter().find_map(|action| if let Action::RemoveLane(runtime) = action { Some(*runtime) } else { None });
    assert_eq!(next.policy.lane_name(removed.expect("it is removed")), "b");
    assert_eq!(next.policy.lane_name(SECOND), "b/2", "what begins anew has a lane of its own");
}

#[test]
fn the_number_of_a_process_is_noted_before_it_is_started() {
    assert!(adoption::is_consequential(&[Action::Look, Action::Spawn(Child::Worker(2))]));
    assert!(!adoption::is_consequential(&[Action::Look]));
}

#[test]
fn a_host_that_stood_still_while_there_was_no_supervisor_says_so() {
    let scene = playing();
    let (next, _) = succeeded(&scene, adoption::Found { given_up: [0].into(), ..found(&scene) });
    let cause = status_of_first(&next).cause.expect("it says why it is recovering");
    assert!(cause.message.contains("stood still"), "{cause:?}");
}

#[test]
fn a_compile_that_kills_the_worker_is_tried_once_more_and_then_refused() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a", "b"]);
    scene.join_all();
    let actions = scene.step(killed(WORKER));
    assert!(actions.contains(&Action::Spawn(Child::Worker(2))));
    let actions = join(&mut scene, Child::Worker(2), 90);
    assert!(actions.iter().any(|action| matches!(action, Action::Compile { runtime: FIRST, .. })), "once more");
    scene.step(killed(Child::Worker(2)));
    assert_eq!(scene.failure_of(FIRST), Some(&Failure::CompilerRestarted));
    scene.wait();
    let actions = join(&mut scene, Child::Worker(3), 91);
    assert!(actions.iter().any(|action| matches!(action, Action::Compile { runtime: SECOND, .. })), "the next one is not to blame");
}

#[test]
fn the_next_device_host_goes_on_with_the_clock_and_the_lanes() {
    let mut scene = playing();
    scene.now_ms += 100;
    scene.step(at_frame(48_000));
    let actions = scene.step(killed(DEVICE));
    assert!(actions.contains(&Action::Spawn(Child::Device(2))));
    assert!(!scene.all.iter().any(|action| matches!(action, Action::StopRuntime(_))), "the hosts wait");
    let actions = join(&mut scene, Child::Device(2), 92);
    assert!(actions.contains(&Action::OpenDevice { sample_rate: 48_000, first_frame: 48_000, channels: 2, tape: None }));
    for runtime in [FIRST, SECOND] {
        assert!(actions.contains(&Action::AddLane { runtime, lane: lane(runtime), resumes: true }));
    }
    // What the dead one said last comes too late.
    scene.expect(device(DeviceReply::Stopped { frames: 5 }), &[]);
}

/// What a spare has been told to keep ready, as it says itself.
fn prepared(actions: &[Action]) -> Vec<Event> {
    let answer = |action: &Action| match action {
        Action::Prepare { host, program } => {
            let (runtime, revision) = (program.runtime.clone(), program.revision);
            Some(said(*host, HostReply::Prepared { runtime, revision }))
        }
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

/// Two programs that play, and a spare that has loaded both.
fn playing_with_both_loaded() -> Scene {
    let mut scene = playing();
    let answers = prepared(&scene.all);
    assert_eq!(answers.len(), 2);
    for answer in answers {
        scene.step(answer);
    }
    scene
}

/// Lets the supervisor look, every 50 ms, while both programs play and the device host reports.
fn look_once(scene: &mut Scene) -> Vec<Action> {
    scene.now_ms += 50;
    let playing = |runtime| Progress { runtime, done: scene.now_ms, due: scene.now_ms };
    let found = vec![playing(FIRST), playing(SECOND)];
    let mut actions = scene.step(Event::Looked { found });
    actions.extend(scene.step(at_frame(scene.now_ms * 48)));
    actions
}

#[test]
fn a_spare_that_answers_is_asked_now_and_then_and_left_alone() {
    let mut scene = playing_with_both_loaded();
    let mut questions = 0;
    for _ in 0..200 {
        let answers = prepared(&look_once(&mut scene));
        questions += answers.len();
        for answer in answers {
            scene.step(answer);
        }
    }
    assert_eq!(questions, 40, "four times a second");
    assert!(!scene.has(&Action::Kill(Child::Host(SPARE))));
}

#[test]
fn a_spare_that_stands_still_is_replaced_within_a_second() {
    let mut scene = playing_with_both_loaded();
    let began_ms = scene.now_ms;
    let replaced = loop {
        let actions = look_once(&mut scene);
        if actions.contains(&Action::Kill(Child::Host(SPARE))) {
            break actions;
        }
        assert!(scene.now_ms - began_ms < 1_000, "it is never given up");
    };
    assert!(replaced.contains(&Action::Spawn(Child::Host(HostIndex(3)))), "the next one is not waited for");
    let told = join(&mut scene, Child::Host(HostIndex(3)), 78);
    assert_eq!(prepared(&told).len(), 2);
    let actions = scene.step(killed(HOST_1));
    assert_eq!(told_to_take_over(&actions).map(|(host, _)| host), Some(HostIndex(3)));
    let actions = scene.step(killed(Child::Host(SPARE)));
    assert!(actions.iter().any(|action| matches!(action, Action::Tell(Report::Died { part: Part::Spare, cause: Some(_), .. }))));
}

#[test]
fn a_spare_that_stands_still_while_it_loads_is_replaced_too() {
    let mut scene = playing();
    let looks = (1..200).find(|_| look_once(&mut scene).contains(&Action::Kill(Child::Host(SPARE))));
    assert_eq!(looks, Some(deadlines::load_ms(200).div_ceil(50) as usize));
}

/// Lets time pass until this process is killed; returns how long that took.
fn wait_for_kill(scene: &mut Scene, host: HostIndex) -> u64 {
    let began_ms = scene.now_ms;
    while !scene.wait().contains(&Action::Kill(Child::Host(host))) {
        assert!(scene.now_ms < began_ms + 60_000, "it is never given up");
    }
    scene.now_ms - began_ms
}

#[test]
fn a_takeover_that_does_not_come_is_given_to_the_next_host_as_soon_as_it_should_have() {
    let mut scene = playing_with_both_loaded();
    scene.step(killed(HOST_1));
    assert_eq!(wait_for_kill(&mut scene, SPARE), 500, "nothing has to be loaded");
    let (next, began_ms) = (HostIndex(3), scene.now_ms);
    scene.step(killed(Child::Host(SPARE)));
    while !scene.has(&Action::Spawn(Child::Host(next))) && scene.now_ms < began_ms + 1_000 {
        scene.wait();
    }
    assert!(scene.now_ms <= began_ms + 100, "the next one comes at once, or after the first pause between starts");
    let actions = join(&mut scene, Child::Host(next), 78);
    let order = told_to_take_over(&actions).expect("the next one is told").1.clone();
    scene.step(said(next, took(&order, &[])));
    assert_eq!(scene.policy.programs[0].phase, Phase::Running);
}

/// A file of four bytes.
fn sample() -> runtime_host::host::assets::Wanted {
    let place = ipc::plan::Place { memory: 0, address: 0 };
    runtime_host::host::assets::Wanted { path: "/kick.raw".into(), stamp: (1, 1, 4, 0), offset: 0, place, bytes: 4 }
}

#[test]
fn a_takeover_in_which_something_must_be_loaded_is_given_the_time_for_it() {
    let mut scene = playing();
    scene.step(killed(HOST_1));
    assert_eq!(wait_for_kill(&mut scene, SPARE), 500 + deadlines::load_ms(100));
    let mut scene = playing_with_both_loaded();
    let plan = Plan { assets: vec![sample()], ..audio(48_000) };
    let text = scene.policy.texts[0].clone();
    let revision = super::super::runtime::Revision { text, settings: None, plan, previous: None };
    scene.policy.programs[0].revision = Some(std::sync::Arc::new(revision));
    scene.step(killed(HOST_1));
    assert_eq!(wait_for_kill(&mut scene, SPARE), deadlines::START_RUNTIME_MS, "no tick is known of: its files may have to be read");
}

/// Two programs in lanes that a device host plays.
fn sounding() -> Scene {
    let mut scene = playing_with_both_loaded();
    for runtime in ["a", "b"] {
        scene.step(device(DeviceReply::LaneMapped { runtime: runtime.to_owned() }));
    }
    assert!(scene.has(&Action::BeginRendering));
    look_once(&mut scene);
    scene
}

/// Looks until the device host is killed; returns how long that took, `None` where it is left alone for five seconds.
fn looks_until_device_is_killed(scene: &mut Scene, asks: bool, reports: bool) -> Option<u64> {
    let began_ms = scene.now_ms;
    while scene.now_ms < began_ms + 5_000 {
        scene.now_ms += 50;
        let due = if asks { scene.now_ms } else { began_ms };
        let found = [FIRST, SECOND].map(|runtime| Progress { runtime, done: due, due }).to_vec();
        let actions = scene.step(Event::Looked { found });
        if actions.contains(&Action::Kill(DEVICE)) {
            return Some(scene.now_ms - began_ms);
        }
        for answer in prepared(&actions) {
            scene.step(answer);
        }
        if reports {
            scene.step(at_frame(scene.now_ms * 48));
        }
    }
    None
}

#[test]
fn a_device_host_that_neither_asks_nor_reports_is_given_up_long_before_one_that_only_reports_nothing() {
    assert_eq!(looks_until_device_is_killed(&mut sounding(), false, false), Some(500));
    assert_eq!(looks_until_device_is_killed(&mut sounding(), true, false), Some(3_000), "it plays");
    assert_eq!(looks_until_device_is_killed(&mut sounding(), false, true), None, "it looks after its device itself");
    assert_eq!(looks_until_device_is_killed(&mut sounding(), true, true), None);
}

#[test]
fn a_worker_that_stands_still_is_replaced_and_its_compile_tried_once_more_before_anybody_is_told() {
    let mut scene = Scene::new(Goal::Play { seconds: None }, &["a"]);
    scene.join_all();
    let actions = scene.wait();
    assert!(actions.contains(&Action::Kill(WORKER)) && scene.failure_of(FIRST).is_none());
    let actions = scene.step(killed(WORKER));
    let reason = |action: &Action| matches!(action, Action::Tell(Report::Died { part: Part::Worker, cause: Some(cause), .. }) if cause.contains("10 s"));
    assert!(actions.iter().any(reason), "{actions:?}");
    let next = Child::Worker(2);
    let actions = join(&mut scene, next, 90);
    assert!(actions.iter().any(|action| matches!(action, Action::Compile { runtime: FIRST, .. })), "once more");
    while !scene.wait().contains(&Action::Kill(next)) {}
    assert_eq!(scene.failure_of(FIRST), Some(&Failure::CompileTooLong));
}

/// What a device host tells that has counted so many underruns of the first program's lane.
fn missed(underruns: u64) -> Event {
    let lane = ipc::message::LaneStatus { runtime: "a".to_owned(), underruns, ..Default::default() };
    device(DeviceReply::Status(DeviceStatus { frames: 48_000, lanes: vec![lane], ..DeviceStatus::default() }))
}

fn status_of_first(scene: &Scene) -> crate::control::protocol::RuntimeStatus {
    scene.policy.session_status(Some(0)).runtimes.remove(0)
}

#[test]
fn underruns_count_on_over_the_death_of_a_device_host() {
    let mut scene = playing();
    scene.step(missed(3));
    scene.step(killed(DEVICE));
    join(&mut scene, Child::Device(2), 92);
    let next = |event| match event {
        Event::DeviceSaid { reply, .. } => Event::DeviceSaid { generation: 2, reply },
        other => other,
    };
    let actions = scene.step(next(missed(2)));
    assert_eq!(status_of_first(&scene).underruns, 5);
    let told = actions.iter().find_map(|action| match action {
        Action::Tell(Report::DeviceStatus(status)) => Some(status.lanes[0].underruns),
        _ => None,
    });
    assert_eq!(told, Some(5), "what is told all the time is the same");
}

#[test]
fn a_host_that_died_without_a_supervisor_is_counted_and_the_state_says_why() {
    let mut scene = playing();
    scene.step(missed(3));
    let notes = scene.policy.notes(&mut |source| ContentHash::of(&[source.as_bytes()]));
    let next = Policy::take_back(&notes, found(&scene));
    let first = next.session_status(Some(0)).runtimes.remove(0);
    assert_eq!((first.restarts, first.underruns), (1, 3));
    let cause = first.cause.expect("it says why it is recovering");
    assert!(cause.message.contains("no supervisor"), "{cause:?}");
}

#[test]
fn a_runtime_that_stands_still_or_has_no_host_says_why() {
    let mut scene = played();
    stand_still(&mut scene, 3, 50);
    let cause = status_of_first(&scene).cause.expect("it is stuck");
    assert!(cause.message.contains("no progress for"), "{cause:?}");
    scene.step(Event::Died { child: HOST_1, end: ProcessEnd::Killed(11), tick: None });
    let cause = status_of_first(&scene).cause.expect("it is recovering");
    assert!(cause.message.contains("SIGSEGV"), "{cause:?}");
    let next = scene.policy.host(FIRST).expect("the next host");
    scene.step(killed(next));
    let cause = status_of_first(&scene).cause.expect("it is recovering still");
    assert!(cause.message.contains("SIGKILL"), "{cause:?}");
}

#[test]
fn a_spare_that_dies_with_the_host_does_not_make_the_program_wait() {
    let mut scene = playing();
    scene.step(killed(HOST_1));
    let actions = scene.step(killed(Child::Host(SPARE)));
    assert_eq!(scene.policy.runtimes[0].restarts.not_before_ms, scene.now_ms);
    assert!(actions.contains(&Action::Spawn(Child::Host(HostIndex(3)))), "the next host is started in the same step");
    assert_eq!(scene.policy.runtimes[0].restarts.total, 2, "it counts all the same");
}
