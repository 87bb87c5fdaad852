//! When a swap takes effect: frame, pulse, freeze; superseded and cancelled ones.

use ipc::lane::SILENCE;
use ipc::live::{Boundary, LiveChange, SwapProgress};
use ipc::message::{HostReply, HostRequest};

use super::band::{Band, Model, player};
use super::rig::{Rig, assert_heard, join, set};

fn solo() -> Band {
    Band::of([player("beat", 3, 1)])
}

fn variant(extra: i32) -> Band {
    solo().with(|band| band.players[0].extra = extra)
}

/// What is heard when `band` takes the place of `solo` in `tick`.
fn changed_at(tick: usize, band: &Band, ticks: usize) -> Vec<ipc::lane::Block> {
    let mut model = Model::new(&solo());
    let mut expected = model.ticks(tick);
    model.edit(band);
    expected.extend(model.ticks(ticks - tick));
    expected
}

#[test]
fn a_swap_that_names_its_tick_is_committed_in_it() {
    let mut rig = Rig::start(&solo());
    let swap = rig.swap_to(&variant(10), |_| {});
    let swap = rig.send_at(Some(77), swap);
    rig.wait_until_pending(swap);
    rig.play_to(100);
    assert_eq!(rig.committed(swap).0, 77);
    assert_heard(&rig.heard, &changed_at(77, &variant(10), 100));
}

#[test]
fn a_tick_in_the_past_means_the_next_one() {
    let mut rig = Rig::start(&solo());
    rig.play_to(20);
    let swap = rig.swap_to(&variant(10), |_| {});
    let swap = rig.send_at(Some(3), swap);
    rig.wait_until_pending(swap);
    rig.play_to(40);
    assert_eq!(rig.committed(swap).0, 20);
}

#[test]
fn a_pulse_is_the_tick_after_a_rising_edge() {
    // The pulse item counts down and up again: -3, -2, … so that it is more than zero after tick 13 for the first time.
    let band = Band::of([player("beat", 3, 1), player("pulse", 4, 1).clone()]).with(|band| band.players[1].phase = -13);
    let edited = band.clone().with(|band| band.players[0].extra = 50);
    let mut rig = Rig::start(&band);
    rig.play_to(4);
    let swap = rig.swap(&edited, |swap| swap.boundary = Boundary::Pulse { item: "pulse:phase".to_owned() });
    rig.play_to(40);
    assert_eq!(rig.committed(swap).0, 14, "it is 1 after tick 13");
    let mut model = Model::new(&band);
    let mut expected = model.ticks(14);
    model.edit(&edited);
    expected.extend(model.ticks(26));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_pulse_that_is_already_high_has_to_fall_first() {
    let band = Band::of([player("pulse", 4, 1)]);
    let edited = band.clone().with(|band| band.players[0].extra = 50);
    let mut rig = Rig::start(&band);
    rig.play_to(10);
    let swap = rig.swap(&edited, |swap| swap.boundary = Boundary::Pulse { item: "phase".to_owned() });
    rig.play_to(20);
    let low = rig.send_at(Some(25), set("phase", -3.0));
    rig.play_to(40);
    assert_eq!(rig.applied(low), 25);
    assert_eq!(rig.committed(swap).0, 29, "-2, -1, 0 and 1 after ticks 25 to 28");
}

#[test]
fn a_pulse_that_no_program_has_is_refused() {
    let mut rig = Rig::start(&solo());
    let swap = rig.swap_to(&variant(1), |swap| swap.boundary = Boundary::Pulse { item: "beet:phase".to_owned() });
    let swap = rig.send(swap);
    assert!(rig.refused(swap).contains("no module `beet`"));
}

#[test]
fn a_frozen_runtime_is_silent_keeps_its_state_and_counts_its_ticks() {
    let mut rig = Rig::start(&solo());
    let freeze = rig.send_at(Some(10), LiveChange::Freeze);
    let run = rig.send_at(Some(30), LiveChange::Run);
    rig.play_to(50);
    assert_eq!((rig.applied(freeze), rig.applied(run)), (10, 30));
    let mut model = Model::new(&solo());
    let mut expected = model.ticks(10);
    expected.extend([SILENCE; 20]);
    expected.extend(model.ticks(20));
    join(&mut expected, 10);
    join(&mut expected, 30);
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_swap_that_waits_for_a_freeze_is_committed_with_it() {
    let mut rig = Rig::start(&solo());
    let swap = rig.swap(&variant(10), |swap| swap.boundary = Boundary::Freeze);
    rig.play_to(20);
    let freeze = rig.send_at(Some(25), LiveChange::Freeze);
    let run = rig.send_at(Some(28), LiveChange::Run);
    rig.play_to(40);
    assert_eq!((rig.applied(freeze), rig.committed(swap).0, rig.applied(run)), (25, 25, 28));
    let mut expected = changed_at(25, &variant(10), 37);
    expected.splice(25..25, [SILENCE; 3]);
    join(&mut expected, 25);
    join(&mut expected, 28);
    assert_heard(&rig.heard, &expected);
}

#[test]
fn of_two_swaps_that_wait_the_newer_one_wins() {
    let mut rig = Rig::start(&solo());
    let first = rig.swap(&variant(1), |swap| swap.boundary = Boundary::Freeze);
    rig.current = solo().artifact();
    let second = rig.swap(&variant(2), |swap| swap.boundary = Boundary::Freeze);
    rig.current = solo().artifact();
    let third = rig.swap(&variant(3), |_| {});
    rig.play_to(10);
    assert_eq!(rig.progress(first), SwapProgress::Superseded);
    assert_eq!(rig.progress(second), SwapProgress::Superseded);
    assert_eq!(rig.committed(third).0, 0);
    assert_heard(&rig.heard, &changed_at(0, &variant(3), 10));
    assert_eq!(rig.rest(), []);
}

#[test]
fn a_cancelled_swap_is_answered_and_never_committed() {
    let mut rig = Rig::start(&solo());
    let nothing = rig.send(LiveChange::CancelSwap);
    let swap = rig.swap(&variant(1), |swap| swap.boundary = Boundary::Freeze);
    rig.play_to(5);
    let cancel = rig.send(LiveChange::CancelSwap);
    let freeze = rig.send(LiveChange::Freeze);
    rig.play_to(10);
    assert!(rig.refused(nothing).contains("no swap is pending"));
    assert_eq!(rig.progress(swap), SwapProgress::Cancelled);
    assert_eq!((rig.applied(cancel), rig.applied(freeze)), (5, 5));
    assert_eq!(rig.rest(), []);
}

#[test]
fn everything_that_waits_is_answered_once_when_the_runtime_ends() {
    let mut rig = Rig::start(&solo());
    rig.play_to(3);
    let trial = rig.swap(&variant(1), |swap| swap.trial_ticks = 1_000);
    rig.play_to(5);
    assert_eq!(rig.committed(trial).0, 3);
    let pending = rig.swap(&variant(2), |swap| swap.boundary = Boundary::Freeze);
    let late = rig.send_at(Some(1 << 40), set("beat:step", 4.0));
    let swap = rig.swap_to(&variant(3), |_| {});
    let late_swap = rig.send_at(Some(1 << 40), swap);
    rig.wait_until_pending(late_swap);
    rig.host.send(HostRequest::Stop);
    assert!(matches!(rig.progress(trial), SwapProgress::TrialCutShort { tick } if tick >= 5));
    assert_eq!(rig.progress(pending), SwapProgress::Cancelled);
    assert!(rig.refused(late).contains("has ended"));
    assert_eq!(rig.progress(late_swap), SwapProgress::Cancelled);
    rig.host.wait_for(|reply| matches!(reply, HostReply::Stopped).then_some(()));
    assert_eq!(rig.rest(), []);
    let orphan = rig.send(LiveChange::Freeze);
    assert!(rig.refused(orphan).contains("no program"));
}

/// A program whose left output is a constant, so that every step is heard.
fn level(level: f32) -> ipc::artifact::Artifact {
    let mut text = String::from("8f4e/v1\n\nconstants env\n; @config audioRuntime.audioOutBufferLAddress out:left\n");
    text += "const SAMPLE_RATE 48000\nconstantsEnd\n\nentry main\nmodule out\nfloat[] left 128\nint at\n";
    text += &format!(
        "loop 128\npush &left\npush at\npush 4\nmul\nadd\npush {level:?}\nstore\npush &at\npush at\npush 1\nadd\npush 127\nand\nstore\nloopEnd\n"
    );
    super::band::compile(&(text + "moduleEnd\nentryEnd\n\nfunction buffer\n#export\ncall main\nfunctionEnd\n"))
}

/// The largest step from one sample to the next on the left.
fn largest_step(blocks: &[ipc::lane::Block]) -> f32 {
    let samples: Vec<f32> = blocks.iter().flat_map(|block| block[0]).collect();
    samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn stopping_time_and_cutting_a_crossfade_off_make_no_step() {
    let mut rig = Rig::start_artifact(level(0.25));
    rig.send_at(Some(10), LiveChange::Freeze);
    rig.send_at(Some(20), LiveChange::Run);
    rig.play_to(40);
    assert_eq!((rig.heard[11], rig.heard[30][0][64]), (SILENCE, 0.25));
    assert!(largest_step(&rig.heard[1..]) < 0.0021, "{}", largest_step(&rig.heard[1..]));

    // A crossfade that is cut off by the next swap, and one that its program does not live to see the end of.
    let fade = rig.swap_between(&level(0.75), |swap| swap.crossfade_frames = 9_600);
    rig.play_to(70);
    let next = rig.swap_between(&level(0.125), |_| {});
    rig.play_to(100);
    rig.wait_until_pending(fade);
    rig.wait_until_pending(next);
    assert!(rig.committed(next).0 > rig.committed(fade).0);
    assert_eq!(rig.heard[99][0], [0.125; 128]);
    assert!(largest_step(&rig.heard[1..]) < 0.0051, "{}", largest_step(&rig.heard[1..]));
}

#[test]
fn a_comment_does_not_end_a_crossfade() {
    let mut rig = Rig::start(&solo());
    rig.play_to(10);
    let swap = rig.swap(&variant(0).with(|band| band.players[0].ballast = 3), |swap| swap.crossfade_frames = 6_400);
    rig.play_to(20);
    rig.committed(swap);
    let with_comment = variant(0).with(|band| {
        band.players[0].ballast = 3;
        band.config.push("color.comment a".to_owned());
    });
    let comment = rig.patch_to(&with_comment, 0);
    let comment = rig.send(comment);
    rig.play_to(80);
    assert_eq!(rig.applied(comment), 20);
    // Both sound the same, to the rounding of the blend.
    for (heard, expected) in rig.heard.iter().zip(Model::new(&solo()).ticks(80)) {
        assert!((heard[0][3] - expected[0][3]).abs() < 1e-3, "{} and not {}", heard[0][3], expected[0][3]);
    }
}
