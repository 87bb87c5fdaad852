//! What clients and clocks say, and what comes of it. Time is the session clock's, 48 frames a millisecond.

use super::*;
use crate::policy::{Event, Goal, ProgramText};

fn session(setup: TempoSetup) -> Policy {
    let mut policy = Policy::new(Goal::Serve, Vec::<ProgramText>::new());
    policy.set_up_tempo(setup);
    policy.step(0, Event::Begin);
    policy
}

/// The session clock at a time.
fn look(policy: &mut Policy, now_ms: u64) {
    (policy.frames, policy.frames_at_ms) = (now_ms * 48, now_ms);
}

fn ask(policy: &mut Policy, now_ms: u64, asked: TempoParams) -> Result<(TempoNow, Vec<Action>), ErrorReply> {
    look(policy, now_ms);
    let mut actions = Vec::new();
    let now = policy.tempo_call(now_ms, &asked, &mut actions)?;
    Ok((now, actions))
}

const NOTHING: TempoParams = TempoParams { bpm: None, transport: None, beat: None };
const START: TempoParams = TempoParams { transport: Some(Transport::Start), ..NOTHING };

/// Whether two positions in beats are the same, but for the block they are rounded to.
fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.02
}

#[test]
fn another_tempo_goes_on_where_the_first_one_is() {
    let mut policy = session(TempoSetup { sends_clock: true, ..TempoSetup::default() });
    let (now, actions) = ask(&mut policy, 1_000, START).unwrap();
    assert_eq!((now.bpm, now.is_running, now.beat), (120.0, true, 0.0));
    let sent = actions.iter().find_map(|action| if let Action::SetTempo(tempo) = action { Some(*tempo) } else { None }).unwrap();
    assert_eq!((sent.block, sent.clocks), (1_060 * 48 / 128 + 4, 0.0), "a moment ahead");
    let (now, _) = ask(&mut policy, 3_000, TempoParams { bpm: Some(60.0), ..NOTHING }).unwrap();
    assert!(is_near(now.beat, 4.0), "{now:?}");
    let (now, actions) = ask(&mut policy, 6_060, NOTHING).unwrap();
    assert!(is_near(now.beat, 7.0), "{now:?}");
    assert_eq!(actions, [], "who asks changes nothing");
    let (now, _) = ask(&mut policy, 7_000, TempoParams { transport: Some(Transport::Stop), ..NOTHING }).unwrap();
    assert!(is_near(now.beat, 8.0) && !now.is_running, "{now:?}");
    let (now, _) = ask(&mut policy, 9_000, NOTHING).unwrap();
    assert!(is_near(now.beat, 8.0), "it stands still: {now:?}");
    let (now, _) = ask(&mut policy, 9_000, TempoParams { transport: Some(Transport::Continue), beat: Some(33.3), ..NOTHING }).unwrap();
    assert_eq!((now.beat, now.is_running), (33.25, true), "to the sixteenth note");
}

#[test]
fn a_session_that_follows_a_clock_is_set_by_nobody_else() {
    let mut policy = session(TempoSetup { follows_clock: true, ..TempoSetup::default() });
    let mut actions = Vec::new();
    policy.clock_said(Tempo { block: 300, bpm: 98.0, is_running: false, clocks: 0.0 }, &mut actions);
    assert!(actions.contains(&Action::Tell(Report::MidiClock { is_there: true, bpm: 98.0 })), "{actions:?}");
    assert_eq!(ask(&mut policy, 1_000, START).unwrap_err().name(), ErrorCode::WrongState);
    policy.clock_said(Tempo { block: 400, bpm: 99.0, is_running: true, clocks: 48.0 }, &mut actions);
    policy.clock_said(Tempo { block: 400, bpm: f64::NAN, is_running: true, clocks: 48.0 }, &mut actions);
    let (now, _) = ask(&mut policy, 400 * 128 / 48, NOTHING).unwrap();
    assert_eq!((now.bpm, now.is_running, now.follows_clock), (99.0, true, true));
    assert!(is_near(now.beat, 2.0), "{now:?}");
    let mut other = session(TempoSetup::default());
    other.clock_said(Tempo { block: 400, bpm: 99.0, is_running: true, clocks: 48.0 }, &mut actions);
    assert_eq!(ask(&mut other, 1_000, NOTHING).unwrap().0.bpm, 120.0, "one that does not follow is not told");
}

#[test]
fn a_clock_that_goes_silent_is_told_once_and_the_session_can_be_stopped_until_it_is_back() {
    let mut policy = session(TempoSetup { follows_clock: true, ..TempoSetup::default() });
    let said = |policy: &mut Policy, actions: &mut Vec<Action>| {
        policy.clock_said(Tempo { block: 400, bpm: 99.0, is_running: true, clocks: 48.0 }, actions);
    };
    let mut actions = Vec::new();
    policy.clock_lost(&mut actions);
    assert_eq!(actions, [], "there has been none");
    said(&mut policy, &mut actions);
    actions.clear();
    policy.clock_lost(&mut actions);
    policy.clock_lost(&mut actions);
    assert_eq!(actions, [Action::Tell(Report::MidiClock { is_there: false, bpm: 99.0 })]);
    let (now, _) = ask(&mut policy, 2_000, NOTHING).unwrap();
    assert_eq!((now.bpm, now.is_running, now.follows_clock, now.has_clock), (99.0, true, true, false), "it goes on");
    let (now, _) = ask(&mut policy, 3_000, TempoParams { transport: Some(Transport::Stop), ..NOTHING }).unwrap();
    assert!(!now.is_running, "{now:?}");
    said(&mut policy, &mut actions);
    let (now, _) = ask(&mut policy, 400 * 128 / 48, NOTHING).unwrap();
    assert!(now.is_running && now.has_clock, "{now:?}");
    assert!(ask(&mut policy, 4_000, START).is_err());
}
