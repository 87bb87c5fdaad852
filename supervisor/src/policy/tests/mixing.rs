//! Who is heard when somebody is soloed. One promise a test.

use super::*;
use crate::control::protocol::{ControlEvent, Restart, RuntimeName, Solo, Stop, Verb};
use crate::control::{Call, ClientId, Ticket};

/// Two programs that are heard.
fn heard() -> Scene {
    let mut scene = Scene::new(Goal::Serve, &["a", "b"]);
    scene.join_all();
    for runtime in [FIRST, SECOND] {
        scene.play(runtime, 48_000);
    }
    scene.step(opened());
    scene
}

fn call(scene: &mut Scene, verb: Verb) -> Vec<Action> {
    scene.step(Event::Call { call: Box::new(Call { ticket: Ticket(1), client: ClientId(1), verb }), text: None })
}

fn a() -> RuntimeName {
    RuntimeName::new("a").unwrap()
}

fn solo(scene: &mut Scene) -> Vec<Action> {
    call(scene, Verb::Solo(Solo { runtime: a(), on: true }))
}

fn gain_of(runtime: RuntimeIndex, actions: &[Action]) -> Option<f32> {
    actions.iter().rev().find_map(|action| match action {
        Action::SetGain { runtime: found, gain, .. } if *found == runtime => Some(*gain),
        _ => None,
    })
}

/// What subscribers are told: whether `b` is audible.
fn told(actions: &[Action]) -> Option<bool> {
    actions.iter().rev().find_map(|action| match action {
        Action::Tell(Report::Control(event)) => match &**event {
            ControlEvent::Mixed { runtime, mix } if runtime.as_str() == "b" => Some(mix.is_audible),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn a_soloed_runtime_that_is_stopped_silences_nobody_and_does_again_when_it_plays_again() {
    let mut scene = heard();
    let actions = solo(&mut scene);
    assert_eq!((gain_of(SECOND, &actions), told(&actions)), (Some(0.0), Some(false)));
    let actions = call(&mut scene, Verb::Stop(Stop { runtime: a() }));
    assert_eq!((gain_of(SECOND, &actions), told(&actions)), (Some(1.0), Some(true)), "while it fades out the others come back");
    scene.step(device(DeviceReply::LaneRemoved { runtime: "a".to_owned() }));
    scene.step(host(FIRST, HostReply::Stopped));
    assert_eq!(scene.policy.programs[0].phase, Phase::Done);
    let actions = call(&mut scene, Verb::Restart(Restart { runtime: a(), reset: false, generation: None }));
    assert_eq!(gain_of(SECOND, &actions), None, "nothing is heard of it yet");
    let change = scene.policy.runtimes[0].incoming.last().expect("it is compiled").change;
    scene.answer(CompileOutcome::Artifact(artifact("again")));
    scene.step(Event::EditInspected { change, inspection: Inspection::Playable(audio(48_000)) });
    let life = RuntimeIndex(2);
    let Some(Child::Host(next)) = scene.policy.host(life) else { panic!("it gets a host") };
    scene.step(Event::Joined { child: Child::Host(next) });
    scene.step(Event::LaneCreated { runtime: life, lane: lane(life) });
    let actions = scene.step(Event::HostSaid { host: next, reply: HostReply::Started { runtime: String::new() } });
    assert_eq!((gain_of(SECOND, &actions), told(&actions)), (Some(0.0), Some(false)));
}

#[test]
fn a_soloed_runtime_that_is_given_up_silences_nobody() {
    let mut scene = heard();
    scene.policy.limit_restarts(RestartLimits { of_one: Intensity { deaths: 0, window_ms: 10_000 }, ..RestartLimits::default() });
    solo(&mut scene);
    let actions = scene.step(Event::Died { child: HOST_1, end: ProcessEnd::Killed(9), tick: None });
    assert_eq!(scene.policy.programs[0].phase, Phase::Quarantined);
    assert_eq!((gain_of(SECOND, &actions), told(&actions)), (Some(1.0), Some(true)));
}

#[test]
fn while_a_soloed_runtime_has_no_host_the_others_stay_silent() {
    let mut scene = heard();
    scene.step(Event::StateCreated { runtime: FIRST, request: None, state: segment("state", SegmentKind::State) });
    solo(&mut scene);
    let actions = scene.step(Event::Died { child: HOST_1, end: ProcessEnd::Killed(9), tick: None });
    assert!(matches!(scene.policy.programs[0].phase, Phase::Recovering { .. }));
    assert_eq!((gain_of(SECOND, &actions), told(&actions)), (None, None));
}
