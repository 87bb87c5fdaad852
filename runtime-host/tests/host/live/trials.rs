//! Trials: a change that fails is undone in the tick in which it fails, and nobody hears it.

use ipc::fault::FaultKind;
use ipc::limits::{MAX_KEPT_START_BYTES, MAX_SNAPSHOT_BYTES};
use ipc::live::{LiveChange, LiveReply, SwapProgress};
use ipc::message::HostReply;
use runtime_host::host::live::stage::HOLD_AFTER_TICKS;

use super::band::{Band, Model, Trouble, player};
use super::rig::{Rig, assert_heard, ramp, set};

const TRIAL_TICKS: u32 = 375;

fn trio() -> Band {
    Band::of([player("low", 3, 1), player("mid", 5, 10), player("high", 4, 100)])
}

/// As `trio`, shifted by a module in front, and failing.
fn failing(trouble: Trouble) -> Band {
    let mut players = vec![player("intruder", 3, 0)];
    players.extend(trio().players);
    // It plays where `low` plays, before it, so that only its presence in memory differs.
    Band::of(players).in_trouble(trouble)
}

fn rolled_back(rig: &mut Rig, request: u64) -> (u64, FaultKind, Option<u32>) {
    match rig.progress(request) {
        SwapProgress::RolledBack { tick, fault, .. } => {
            assert_eq!(fault.tick, tick);
            (tick, fault.kind, fault.line)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failing_revision_is_replaced_in_the_failing_tick_and_nothing_is_heard() {
    let cases = [
        (Trouble::Overflow(1), 40, FaultKind::IntegerOverflow),
        (Trouble::Overflow(2), 41, FaultKind::IntegerOverflow),
        (Trouble::Overflow(200), 239, FaultKind::IntegerOverflow),
        (Trouble::Runaway(1), 40, FaultKind::Runaway),
        (Trouble::Runaway(100), 139, FaultKind::Runaway),
        (Trouble::Overflow(375), 414, FaultKind::IntegerOverflow),
    ];
    for (trouble, tick, kind) in cases {
        let mut rig = Rig::start(&trio());
        rig.play_to(40);
        let swap = rig.swap(&failing(trouble), |swap| swap.trial_ticks = TRIAL_TICKS);
        rig.play_to(450);
        assert_eq!(rig.committed(swap).0, 40);
        let (failed_in, found, line) = rolled_back(&mut rig, swap);
        assert_eq!((failed_in, found), (tick, kind), "{trouble:?}");
        assert!(line.is_some(), "{trouble:?}");
        assert_heard(&rig.heard, &Model::new(&trio()).ticks(450));
        assert!(!rig.host.seen.iter().any(|reply| matches!(reply, HostReply::Faulted { .. })), "{trouble:?}: no fault of the old revision");
    }
}

#[test]
fn a_trial_passes_with_its_last_tick_and_later_failures_are_silent_ticks() {
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    let swap = rig.swap(&failing(Trouble::Overflow(101)), |swap| swap.trial_ticks = 100);
    rig.play_to(120);
    assert_eq!(rig.committed(swap).0, 10);
    assert_eq!(rig.progress(swap), SwapProgress::TrialPassed { tick: 109 });
    let fault = rig.host.wait_for(|reply| match reply {
        HostReply::Faulted { fault, .. } => Some(fault.clone()),
        _ => None,
    });
    assert_eq!((fault.tick, fault.kind), (110, FaultKind::IntegerOverflow));
    assert_eq!(rig.heard[110], ipc::lane::SILENCE);
}

/// What is heard of a program that fails from its eleventh tick on, and of the one that it is mended to in tick 30.
fn mended(broken: &Band, good: &Band) -> Rig {
    let mut rig = Rig::start(broken);
    rig.play_to(30);
    rig.host.wait_for_status(|status| status.is_held);
    rig.swap(good, |swap| swap.trial_ticks = 0);
    rig.play_to(50);
    rig
}

#[test]
fn a_failing_tick_leaves_nothing_half_written_for_whoever_mends_the_program() {
    let rig = mended(&trio().in_trouble(Trouble::Overflow(11)), &trio());
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(10);
    expected.extend([ipc::lane::SILENCE; 20]);
    expected.extend(model.ticks(20));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_program_too_large_for_that_goes_on_with_what_its_failing_ticks_left() {
    let large = trio().with(|band| band.players[0].ballast = MAX_KEPT_START_BYTES as usize / 4);
    let rig = mended(&large.clone().in_trouble(Trouble::Overflow(11)), &large);
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(10);
    expected.extend([ipc::lane::SILENCE; 20]);
    // The players had played in each of the ticks that failed.
    model.ticks(HOLD_AFTER_TICKS as usize);
    expected.extend(model.ticks(20));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn items_that_the_failed_revision_had_dropped_come_back_as_they_were_at_the_swap() {
    let without_mid = Band::of([player("low", 3, 1), player("high", 4, 100)]).in_trouble(Trouble::Overflow(21));
    let mut rig = Rig::start(&trio());
    rig.play_to(30);
    let swap = rig.swap(&without_mid, |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(60);
    rig.committed(swap);
    assert_eq!(rolled_back(&mut rig, swap).0, 50);

    let mut model = Model::new(&trio());
    let mut expected = model.ticks(30);
    let mid = *model.player("mid");
    let mut without = model.clone();
    without.edit(&without_mid);
    expected.extend(without.ticks(20));
    model.state[0] = without.state[0];
    model.state[2] = without.state[1];
    *model.player("mid") = mid;
    expected.extend(model.ticks(10));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn sets_during_a_trial_survive_the_rollback_with_the_state() {
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    rig.swap(&failing(Trouble::Overflow(50)), |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(20);
    rig.send_at(Some(30), set("low:step", 5.0));
    rig.send_at(Some(59), set("high:step", 7.0));
    rig.send_at(Some(40), ramp("mid:step", 90.0, 40));
    rig.play_to(120);
    let mut model = Model::new(&trio());
    let mut expected = Vec::new();
    for tick in 0..120u64 {
        match tick {
            30 => model.player("low").1 = 5,
            59 => model.player("high").1 = 7,
            _ => {}
        }
        if (40..80).contains(&tick) {
            model.player("mid").1 = 10 + ((tick - 39) * 80 / 40) as i32;
        }
        expected.push(model.tick());
    }
    assert_heard(&rig.heard, &expected);
}

#[test]
fn another_swap_cuts_a_trial_short_and_is_tried_against_the_running_revision() {
    let second = trio().with(|band| band.players[0].extra = 1);
    let third = second.clone().with(|band| band.players[1].extra = 1).in_trouble(Trouble::Overflow(5));
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    let first = rig.swap(&second, |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(20);
    rig.committed(first);
    let next = rig.swap(&third, |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(40);
    assert_eq!(rig.progress(first), SwapProgress::TrialCutShort { tick: 20 });
    assert_eq!(rig.committed(next).0, 20);
    assert_eq!(rolled_back(&mut rig, next).0, 24);
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(10);
    model.edit(&second);
    expected.extend(model.ticks(10));
    let mut tried = model.clone();
    tried.edit(&third);
    expected.extend(tried.ticks(4));
    // Code is as it was, state is as it became.
    tried.edit(&second);
    expected.extend(tried.ticks(16));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_rollback_can_be_asked_for_in_a_tick_as_a_replay_does() {
    let edited = trio().with(|band| band.players[0].extra = 1);
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    let swap = rig.swap(&edited, |swap| swap.trial_ticks = TRIAL_TICKS);
    let rollback = rig.send_at(Some(33), LiveChange::RollBack);
    let again = rig.send_at(Some(40), LiveChange::RollBack);
    rig.play_to(50);
    rig.committed(swap);
    assert_eq!(rig.applied(rollback), 33);
    let (tick, kind, _) = rolled_back(&mut rig, swap);
    assert_eq!((tick, kind), (33, FaultKind::DeadlineExceeded));
    assert!(rig.refused(again).contains("no change is on trial"));
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(10);
    model.edit(&edited);
    expected.extend(model.ticks(23));
    model.edit(&trio());
    expected.extend(model.ticks(17));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_failing_patch_is_undone_in_the_failing_tick() {
    // The default of `x` decides in which tick it fails.
    let good = trio().in_trouble(Trouble::Overflow(100_000));
    for (delay, tick) in [(1, 20), (7, 26)] {
        let bad = good.clone().in_trouble(Trouble::Overflow(delay));
        let mut rig = Rig::start(&good);
        rig.play_to(20);
        let patch = rig.patch_to(&bad, TRIAL_TICKS);
        let patch = rig.send(patch);
        rig.play_to(200);
        assert!(matches!(rig.answer(patch), LiveReply::Applied { tick: 20, carried: Some(_), .. }));
        let (failed_in, kind, line) = rolled_back(&mut rig, patch);
        assert_eq!((failed_in, kind), (tick, FaultKind::IntegerOverflow));
        assert!(line.is_some());
        assert_heard(&rig.heard, &Model::new(&trio()).ticks(200));

        // The next change starts from the revision that came back.
        rig.current = good.artifact();
        let edited = good.clone().with(|band| band.players[0].extra = 1);
        let swap = rig.swap(&edited, |_| {});
        rig.play_to(210);
        assert_eq!(rig.committed(swap).0, 200);
    }
}

#[test]
fn a_patch_that_holds_passes_its_trial() {
    let mut rig = Rig::start(&trio());
    rig.play_to(20);
    let patch = rig.patch_to(&trio().with(|band| band.players[0].step = 2), 30);
    let patch = rig.send(patch);
    rig.play_to(60);
    assert_eq!(rig.applied(patch), 20);
    assert_eq!(rig.progress(patch), SwapProgress::TrialPassed { tick: 49 });
}

#[test]
fn a_rolled_back_crossfade_goes_on_with_the_old_sound() {
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    // The players keep their state, so both sound the same, and a blend of the same is the same.
    let swap = rig.swap(&failing(Trouble::Overflow(6)), |swap| {
        swap.trial_ticks = TRIAL_TICKS;
        swap.crossfade_frames = 4_800;
    });
    rig.play_to(40);
    rig.committed(swap);
    assert_eq!(rolled_back(&mut rig, swap).0, 15);
    let expected = Model::new(&trio()).ticks(40);
    assert_heard(&rig.heard[..10], &expected[..10]);
    // The blend was cut off, so that its last sample is joined to what comes back.
    assert_heard(&rig.heard[16..], &expected[16..]);
}

#[test]
fn a_program_too_large_to_be_copied_every_tick_is_rolled_back_with_what_the_failed_tick_left() {
    let large = |trouble| failing(trouble).with(|band| band.players[0].ballast = 1 + MAX_SNAPSHOT_BYTES as usize / 4);
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    let swap = rig.swap(&large(Trouble::Overflow(6)), |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(30);
    rig.committed(swap);
    assert_eq!(rolled_back(&mut rig, swap).0, 15);
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(15);
    // The players had played the tick before it failed, and play it once more: late, but nothing is silent.
    model.tick();
    expected.extend(model.ticks(15));
    assert_heard(&rig.heard, &expected);
}

/// As `trio`, failing after so many ticks of its own.
fn bomb(ticks: i32) -> Band {
    failing(Trouble::Overflow(ticks))
}

/// Another revision of a band, with another default and nothing else.
fn retuned(band: &Band, step: i32) -> Band {
    band.clone().with(|band| band.players.last_mut().unwrap().step = step)
}

/// The same as [`retuned`], of which only a comment differs.
fn commented(band: &Band, comment: &str) -> Band {
    band.clone().with(|band| band.config.push(format!("color.comment {comment}")))
}

#[test]
fn a_comment_within_a_trial_does_not_disarm_it() {
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    let swap = rig.swap(&bomb(100), |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(30);
    rig.committed(swap);
    let comment = rig.patch_to(&commented(&bomb(100), "a"), 0);
    let comment = rig.send(comment);
    rig.play_to(200);
    assert_eq!(rig.applied(comment), 30);
    match rig.progress(swap) {
        SwapProgress::RolledBack { tick: 109, fault, to, is_partial: false, .. } => {
            assert_eq!((fault.kind, to), (FaultKind::IntegerOverflow, trio().artifact().manifest.revision));
        }
        other => panic!("{other:?}"),
    }
    assert_heard(&rig.heard, &Model::new(&trio()).ticks(200));
}

#[test]
fn new_defaults_within_a_trial_are_taken_back_with_the_program_they_were_for() {
    let mut rig = Rig::start(&trio());
    rig.play_to(10);
    let swap = rig.swap(&bomb(100), |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(30);
    rig.committed(swap);
    let patches = [(30, 7), (60, 9)].map(|(tick, step)| {
        rig.play_to(tick);
        let patch = rig.patch_to(&retuned(&bomb(100), step), TRIAL_TICKS);
        let patch = rig.send(patch);
        rig.play_to(tick + 1);
        assert_eq!(rig.applied(patch), tick);
        patch
    });
    rig.play_to(200);
    for request in [swap, patches[0], patches[1]] {
        match rig.progress(request) {
            SwapProgress::RolledBack { tick: 109, to, .. } => assert_eq!(to, trio().artifact().manifest.revision),
            other => panic!("{other:?}"),
        }
    }
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(30);
    model.player("high").1 = 7;
    expected.extend(model.ticks(30));
    model.player("high").1 = 9;
    expected.extend(model.ticks(49));
    model.player("high").1 = 100;
    expected.extend(model.ticks(91));
    assert_heard(&rig.heard, &expected);

    // The next change starts from the revision that came back.
    rig.current = trio().artifact();
    let edited = trio().with(|band| band.players[0].extra = 1);
    let swap = rig.swap(&edited, |_| {});
    rig.play_to(210);
    assert_eq!(rig.committed(swap).0, 200);
}

#[test]
fn patches_that_are_on_trial_at_a_time_are_undone_together_and_each_passes_by_itself() {
    // The default of `x` decides in which tick it fails; the comment after it does not save it.
    let good = trio().in_trouble(Trouble::Overflow(100_000));
    let first = retuned(&good, 7);
    let second = first.clone().in_trouble(Trouble::Overflow(40));
    let third = commented(&retuned(&second, 9), "b");
    let mut rig = Rig::start(&good);
    rig.play_to(20);
    let mut requests = Vec::new();
    for (tick, band) in [(20, &first), (35, &second), (50, &third)] {
        rig.play_to(tick);
        let patch = rig.patch_to(band, 30);
        requests.push(rig.send(patch));
    }
    rig.play_to(120);
    for request in &requests {
        rig.applied(*request);
    }
    assert_eq!(rig.progress(requests[0]), SwapProgress::TrialPassed { tick: 49 });
    assert_eq!(rig.progress(requests[1]), SwapProgress::TrialPassed { tick: 64 });
    // `second` failed 40 ticks after its commit, when only `third` was on trial: that is not what failed, so it stays held back.
    assert!(matches!(rig.progress(requests[2]), SwapProgress::RolledBack { tick: 74, .. }));

    let mut rig = Rig::start(&good);
    rig.play_to(20);
    let mut requests = Vec::new();
    for (tick, band) in [(20, &first), (35, &second), (50, &third)] {
        rig.play_to(tick);
        let patch = rig.patch_to(band, TRIAL_TICKS);
        requests.push(rig.send(patch));
    }
    rig.play_to(120);
    for request in &requests {
        rig.applied(*request);
        assert!(matches!(rig.progress(*request), SwapProgress::RolledBack { tick: 74, is_partial: false, .. }));
    }
    let mut model = Model::new(&trio());
    let mut expected = model.ticks(20);
    model.player("high").1 = 7;
    expected.extend(model.ticks(30));
    model.player("high").1 = 9;
    expected.extend(model.ticks(24));
    model.player("high").1 = 100;
    expected.extend(model.ticks(46));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_swap_within_a_trial_goes_back_to_the_last_good_program_with_the_state_of_now() {
    let good = trio();
    // The second revision is a bomb that the third one does not defuse; the third lacks a player, too.
    let third = bomb(60).with(|band| drop(band.players.remove(2)));
    let mut rig = Rig::start(&good);
    rig.play_to(10);
    let first = rig.swap(&bomb(90), |swap| swap.trial_ticks = TRIAL_TICKS);
    rig.play_to(40);
    rig.committed(first);
    let back = super::plans::back(&third.artifact(), &good.artifact());
    let next = rig.swap(&third, |swap| {
        swap.trial_ticks = TRIAL_TICKS;
        swap.back_to_good = Some(back);
    });
    rig.play_to(150);
    assert_eq!(rig.progress(first), SwapProgress::TrialCutShort { tick: 40 });
    assert_eq!(rig.committed(next).0, 40);
    match rig.progress(next) {
        SwapProgress::RolledBack { tick: 99, to, .. } => assert_eq!(to, good.artifact().manifest.revision),
        other => panic!("{other:?}"),
    }
    // `x`, the fuse, was kept, so that the third went on where the second had been.
    let mut model = Model::new(&good);
    let mut expected = model.ticks(40);
    let mid = *model.player("mid");
    let held = expected[39][0][5];
    let rest = model.ticks(59);
    expected.extend(rest.into_iter().map(|mut block| {
        // Nobody plays there; what was played last is still there.
        block[0][5] = held;
        block
    }));
    *model.player("mid") = mid;
    expected.extend(model.ticks(51));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_swap_within_the_trial_of_a_patch_goes_back_to_before_the_patch() {
    let good = trio();
    let mut rig = Rig::start(&good);
    rig.play_to(10);
    let patch = rig.patch_to(&retuned(&good, 7), TRIAL_TICKS);
    let patch = rig.send(patch);
    rig.play_to(20);
    rig.applied(patch);
    let bad = retuned(&bomb(30), 7);
    let back = super::plans::back(&bad.artifact(), &good.artifact());
    let swap = rig.swap(&bad, |swap| {
        swap.trial_ticks = TRIAL_TICKS;
        swap.back_to_good = Some(back);
    });
    rig.play_to(80);
    assert_eq!(rig.progress(patch), SwapProgress::TrialCutShort { tick: 20 });
    assert_eq!(rig.committed(swap).0, 20);
    match rig.progress(swap) {
        SwapProgress::RolledBack { tick: 49, to, .. } => assert_eq!(to, good.artifact().manifest.revision),
        other => panic!("{other:?}"),
    }
    let mut model = Model::new(&good);
    let mut expected = model.ticks(10);
    model.player("high").1 = 7;
    expected.extend(model.ticks(39));
    model.player("high").1 = 100;
    expected.extend(model.ticks(31));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_way_to_a_program_that_is_kept_no_longer_is_not_taken() {
    let good = trio();
    let second = good.clone().with(|band| band.players[0].extra = 1);
    let third = second.clone().with(|band| band.players[1].extra = 1).in_trouble(Trouble::Overflow(5));
    let mut rig = Rig::start(&good);
    rig.play_to(10);
    let first = rig.swap(&second, |swap| swap.trial_ticks = 10);
    rig.play_to(30);
    rig.committed(first);
    assert_eq!(rig.progress(first), SwapProgress::TrialPassed { tick: 19 });
    let back = super::plans::back(&third.artifact(), &good.artifact());
    let next = rig.swap(&third, |swap| {
        swap.trial_ticks = TRIAL_TICKS;
        swap.back_to_good = Some(back);
    });
    rig.play_to(50);
    assert_eq!(rig.committed(next).0, 30);
    match rig.progress(next) {
        SwapProgress::RolledBack { tick: 34, to, .. } => assert_eq!(to, second.artifact().manifest.revision),
        other => panic!("{other:?}"),
    }
}
