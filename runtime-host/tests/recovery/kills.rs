//! Each situation a host can be in, with kills all over it.

use ipc::fault::FaultKind;
use ipc::live::{Boundary, LiveChange, LiveReply, SwapProgress};

use super::script::{Step, What, patch, set, swap, then, wait};
use super::show::{NONE, Show, Violence};
use crate::live::band::{Band, Trouble, player};
use crate::live::chance::seed;
use crate::live::rig::assert_heard;

const KILLS: Violence = Violence { in_a_hundred: 50, requests_in_a_hundred: 30, is_spare_warm: true };

fn trio() -> Band {
    Band::of([player("low", 3, 1), player("mid", 4, 100), player("high", 5, 10_000)])
}

fn longer() -> Band {
    trio().with(|band| band.players.insert(0, player("first", 9, 7)))
}

/// Plays the script undisturbed and with kills, some times over, and compares.
#[track_caller]
fn survives(first: &Band, script: &[Step]) {
    survives_with(first, script, KILLS, 4);
}

#[track_caller]
fn survives_with(first: &Band, script: &[Step], violence: Violence, rounds: u64) {
    let seed = seed();
    let expected = Show::new(first.artifact(), NONE, seed).play(script);
    let mut takeovers = 0;
    for round in 0..rounds {
        let show = Show::new(first.artifact(), violence, seed + round).play(script);
        takeovers += show.takeovers.len();
        assert_heard(&show.heard, &expected.heard);
    }
    assert!(takeovers > 0, "nobody was killed");
}

#[test]
fn a_program_that_plays_on_is_not_heard_to_have_died() {
    survives(&trio(), &[wait(700)]);
}

#[test]
fn a_cold_spare_goes_on_just_as_well() {
    survives_with(&trio(), &[wait(300)], Violence { is_spare_warm: false, ..KILLS }, 2);
}

#[test]
fn two_mebibytes_are_restored() {
    let large = trio().with(|band| band.players[1].ballast = (2 << 20) / 4);
    let edited = large.clone().with(|band| band.players[0].extra = 5);
    survives_with(&large, &[wait(200), swap(&edited, 40, 2_000, 200)], KILLS, 2);
}

#[test]
fn values_on_their_way_arrive_as_if_nothing_had_been() {
    let script = [
        wait(9),
        set("low:step", 1_000.0, 200, 40),
        set("mid:step", 3.0, 77, 20),
        set("high:step", 11.0, 0, 50),
        set("low:step", 5.0, 30, 150),
    ];
    survives(&trio(), &script);
}

#[test]
fn an_edit_is_committed_once_or_not_at_all() {
    let script = [
        wait(20),
        swap(&longer(), 0, 0, 30),
        swap(&trio(), 0, 0, 30),
        swap(&trio().with(|band| band.players.rotate_left(1)), 0, 0, 30),
        swap(&longer().with(|band| band.players[1].extra = 3), 0, 0, 60),
    ];
    survives_with(&trio(), &script, Violence { requests_in_a_hundred: 80, ..KILLS }, 4);
}

#[test]
fn a_trial_goes_on_and_passes() {
    survives(&trio(), &[wait(10), swap(&longer(), 90, 0, 60), set("first:step", 1.0, 0, 60), wait(100)]);
}

#[test]
fn a_trial_goes_on_and_fails_in_its_tick() {
    let script = [
        wait(10),
        set("high:step", 9_000.0, 100, 10),
        swap(&longer().in_trouble(Trouble::Overflow(70)), 100, 0, 90),
        wait(50),
        swap(&longer().in_trouble(Trouble::Runaway(33)), 100, 0, 60),
        swap(&longer(), 10, 0, 60),
    ];
    survives(&trio(), &script);
}

#[test]
fn what_was_dropped_on_trial_comes_back_after_a_takeover() {
    let shorter = Band::of([player("mid", 4, 100)]).in_trouble(Trouble::Overflow(50));
    survives(&trio(), &[wait(33), swap(&shorter, 100, 0, 80), wait(60)]);
}

#[test]
fn a_crossfade_goes_on_with_both_programs() {
    let script = [
        wait(10),
        swap(&longer(), 0, 12_800, 50),
        wait(80),
        swap(&trio(), 50, 6_400, 90),
        swap(&longer().in_trouble(Trouble::Overflow(20)), 60, 12_800, 60),
        wait(40),
    ];
    survives(&trio(), &script);
}

#[test]
fn a_frozen_program_stays_frozen_and_goes_on_when_it_is_told_to() {
    survives(&trio(), &[wait(10), then(What::Freeze, 100), set("low:step", 4.0, 60, 30), then(What::Run, 100)]);
}

#[test]
fn time_that_stops_and_goes_on_is_joined_without_a_step_whenever_its_host_dies() {
    let steps = (0..60).flat_map(|round| [then(What::Freeze, 1 + round % 3), then(What::Run, 1 + round % 2)]);
    let script: Vec<Step> = std::iter::once(wait(5)).chain(steps).collect();
    survives_with(&trio(), &script, Violence { in_a_hundred: 40, requests_in_a_hundred: 10, is_spare_warm: true }, 2);
}

#[test]
fn a_crossfade_that_is_cut_off_is_joined_without_a_step_whenever_its_host_dies() {
    // Each swap comes in the middle of the crossfade before it.
    let bands = (0..24).map(|extra| trio().with(|band| band.players[1].extra = 1 + extra));
    let swaps = bands.enumerate().map(|(round, band)| swap(&band, 0, 4_800, 2 + round as u64 % 5));
    let script: Vec<Step> = std::iter::once(wait(5)).chain(swaps).collect();
    survives_with(&trio(), &script, Violence { in_a_hundred: 40, requests_in_a_hundred: 20, is_spare_warm: true }, 2);
}

#[test]
fn a_swap_that_waits_for_a_freeze_is_sent_again_and_committed_once() {
    let waiting = |band: &Band| {
        let boundary = Boundary::Freeze;
        then(What::Swap { band: band.clone(), trial_ticks: 20, crossfade_frames: 0, boundary }, 90)
    };
    let script = [
        wait(10),
        waiting(&longer()),
        set("low:step", 4.0, 60, 30),
        then(What::Freeze, 40),
        then(What::Run, 60),
        waiting(&trio()),
        then(What::Freeze, 9),
        then(What::Run, 60),
    ];
    survives(&trio(), &script);
}

#[test]
fn a_swap_that_waits_for_a_pulse_is_sent_again_and_committed_after_the_next_one() {
    let edited = trio().with(|band| band.players[0].extra = 50);
    let boundary = Boundary::Pulse { item: "mid:step".to_owned() };
    let swap = then(What::Swap { band: edited, trial_ticks: 0, crossfade_frames: 0, boundary }, 50);
    let script = [set("mid:step", 0.0, 0, 10), swap, set("low:step", 4.0, 0, 20), set("mid:step", 7.0, 0, 20)];
    // Whoever dies in the tick of a pulse misses it: the next one counts. Here nobody does.
    survives_with(&trio(), &script, Violence { in_a_hundred: 0, requests_in_a_hundred: 60, is_spare_warm: true }, 4);
}

#[test]
fn what_has_come_of_a_tick_is_told_once_however_often_it_is_executed() {
    let seed = seed();
    let mut show = Show::new(trio().artifact(), NONE, seed).play(&[wait(10), swap(&longer(), 30, 0, 31)]);
    show.hear_of(1, |progress| matches!(progress, SwapProgress::TrialPassed { .. }));
    for _ in 0..3 {
        show.strike();
        assert_eq!(show.takeovers.last().unwrap().trial, None);
        show = show.play(&[wait(1)]);
    }
    let passed = |reply: &&LiveReply| matches!(reply, LiveReply::Swap { progress: SwapProgress::TrialPassed { .. }, .. });
    assert_eq!(show.replies.iter().filter(passed).count(), 1);
}

#[test]
fn a_failure_that_was_told_is_not_told_again_by_the_next_host() {
    let mut show = Show::new(trio().in_trouble(Trouble::Overflow(12)).artifact(), NONE, seed()).play(&[wait(14)]);
    show.hear_fault();
    for _ in 0..3 {
        show.strike();
        show = show.play(&[wait(1)]);
    }
    let first = &show.faults[0];
    assert_eq!((first.tick, first.repeats, first.kind), (11, 0, FaultKind::IntegerOverflow));
    assert_eq!(show.faults.iter().filter(|fault| fault.tick == 11).count(), 1, "{:?}", show.faults);
    assert!(show.takeovers.iter().all(|took_over| took_over.restored_tick > 11));
}

#[test]
fn new_defaults_and_resets_are_kept() {
    let band = trio().with(|band| band.counts_initialisations = true);
    let louder = band.clone().with(|band| band.players[0].step = 44);
    let script = [
        wait(15),
        patch(&louder, 50),
        patch(&louder.clone().with(|band| band.players[1].step = 9), 50),
        then(What::Reset, 60),
        set("high:step", 2.0, 20, 10),
        then(What::Reset, 60),
    ];
    survives(&band, &script);
}

#[test]
fn a_program_that_fails_again_and_again_fails_in_the_same_ticks_and_is_held() {
    let band = trio().in_trouble(Trouble::Overflow(40));
    survives(&band, &[wait(45), wait(8), wait(100), then(What::Reset, 60)]);
}

#[test]
fn a_thousand_values_at_a_time_are_more_than_the_log_holds_and_are_kept_all_the_same() {
    let seed = seed();
    let names = ["low:step", "mid:step", "high:step"];
    let set = |round: usize| LiveChange::Set {
        values: (0..1_000).map(|index| ipc::live::SetItem { item: names[index % 3].to_owned(), value: (round + index) as f64 }).collect(),
        ramp_ticks: 0,
    };
    let play = |violence| {
        let mut show = Show::new(trio().artifact(), violence, seed);
        for round in 0..20 {
            (0..4).for_each(|part| {
                show.send(set(round * 4 + part));
            });
            show = show.play(&[wait(7)]);
        }
        show
    };
    let (expected, show) = (play(NONE), play(KILLS));
    assert!(!show.takeovers.is_empty());
    assert_heard(&show.heard, &expected.heard);
}
