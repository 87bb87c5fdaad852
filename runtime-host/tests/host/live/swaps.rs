//! Swaps, patches and resets: what state survives, and in which tick.

use ipc::lane::SILENCE;
use ipc::live::{LiveChange, LiveReply, SwapProgress};
use ipc::message::{ElementValues, HostReply};

use super::band::{Band, Model, Trouble, player};
use super::rig::{Rig, assert_heard, get, set};
use crate::fixture::Folder;

fn duo() -> Band {
    Band::of([player("low", 3, 1), player("high", 4, 100)])
}

#[test]
fn an_untouched_player_does_not_miss_a_tick_when_another_one_is_edited() {
    let mut rig = Rig::start(&duo());
    rig.play_to(50);
    // Another module comes in front, so that everything moves, and one is changed.
    let edited = Band::of([player("first", 9, 7), player("low", 3, 1), player("high", 4, 100)]).with(|band| band.players[2].extra = 5);
    let swap = rig.swap(&edited, |_| {});
    rig.play_to(100);
    let (tick, carried) = rig.committed(swap);
    assert_eq!(tick, 50);
    assert!(carried.kept_bytes + carried.moved_bytes > 0 && carried.patched_bytes == 0 && carried.lost.is_empty());

    let mut model = Model::new(&duo());
    let mut expected = model.ticks(50);
    model.edit(&edited);
    expected.extend(model.ticks(50));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_thousand_ticks_through_ten_swaps_sound_as_if_nothing_had_been_edited() {
    let mut rig = Rig::start(&duo());
    for number in 0..10u64 {
        rig.play_to(number * 100 + 13);
        let visitors = (0..number % 4).map(|index| player(&format!("visitor{index}"), 20, 0));
        rig.swap(&Band::of(visitors.chain(duo().players)), |_| {});
    }
    rig.play_to(1_000);
    assert_heard(&rig.heard, &Model::new(&duo()).ticks(1_000));
}

#[test]
fn the_segment_may_go_before_the_swap_is_pending() {
    let mut rig = Rig::start(&duo());
    let before = rig.host.seen.len();
    rig.swap(&duo().with(|band| band.players[0].extra = 1), |_| {});
    let loaded = rig.host.seen[before..].iter().position(|reply| matches!(reply, HostReply::Loaded { .. }));
    let pending = rig.host.seen[before..].iter().position(|reply| matches!(reply, HostReply::Live(LiveReply::Swap { .. })));
    assert!(loaded.is_some() && loaded < pending);
}

#[test]
fn a_swap_without_a_plan_starts_from_the_defaults() {
    let mut rig = Rig::start(&duo());
    rig.play_to(20);
    let edited = duo().with(|band| band.counts_initialisations = true);
    let swap = rig.swap(&edited, |swap| swap.there = None);
    rig.play_to(40);
    assert_eq!(rig.committed(swap).0, 20);
    let mut expected = Model::new(&duo()).ticks(20);
    expected.extend(Model::new(&edited).ticks(20));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_patch_gives_new_defaults_and_leaves_the_rest_alone() {
    let mut rig = Rig::start(&duo());
    rig.play_to(10);
    let edited = duo().with(|band| band.players[1].step = 1_000);
    let patch = rig.patch_to(&edited, 0);
    let patch = rig.send(patch);
    rig.play_to(30);
    match rig.answer(patch) {
        LiveReply::Applied { tick: 10, carried: Some(carried), .. } => {
            assert_eq!((carried.patched_bytes, carried.kept_bytes + carried.moved_bytes), (4, 0));
            assert!(carried.patch_ns > 0, "a patch tells how long it took");
        }
        other => panic!("{other:?}"),
    }
    let mut model = Model::new(&duo());
    let mut expected = model.ticks(10);
    model.edit(&edited);
    expected.extend(model.ticks(20));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_swap_may_follow_a_patch_before_the_patch_has_been_answered() {
    let mut rig = Rig::start(&duo());
    let patched = duo().with(|band| band.players[1].step = 7);
    let edited = patched.clone().with(|band| band.players[0].extra = 3);
    let patch = rig.patch_to(&patched, 0);
    let patch = rig.send_at(Some(5), patch);
    let swap = rig.swap_to(&edited, |_| {});
    let swap = rig.send_at(Some(8), swap);
    rig.play_to(20);
    assert_eq!(rig.applied(patch), 5);
    rig.wait_until_pending(swap);
    assert_eq!(rig.committed(swap).0, 8);
    let mut model = Model::new(&duo());
    let mut expected = model.ticks(5);
    model.edit(&patched);
    expected.extend(model.ticks(3));
    model.edit(&edited);
    expected.extend(model.ticks(12));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_plan_from_a_revision_that_does_not_run_is_refused() {
    let mut rig = Rig::start(&duo());
    let elsewhere = rig.current.clone();
    rig.current = Band::of([player("nobody", 1, 1)]).artifact();
    let swap = rig.swap_to(&duo().with(|band| band.players[0].extra = 1), |_| {});
    let swap = rig.send(swap);
    assert!(rig.refused(swap).contains("does not run here"));
    rig.current = elsewhere;

    // Both start from the same revision, but when the second one's turn comes another one runs.
    let first = rig.swap_to(&duo().with(|band| band.players[0].extra = 1), |_| {});
    rig.current = duo().artifact();
    let second = rig.swap_to(&duo().with(|band| band.players[0].extra = 2), |_| {});
    let (first, second) = (rig.send_at(Some(2), first), rig.send_at(Some(4), second));
    rig.play_to(10);
    rig.wait_until_pending(first);
    assert_eq!(rig.committed(first).0, 2);
    rig.wait_until_pending(second);
    assert!(rig.refused(second).contains("does not run any more"));
    let mut model = Model::new(&duo());
    let mut expected = model.ticks(2);
    model.edit(&duo().with(|band| band.players[0].extra = 1));
    expected.extend(model.ticks(8));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_damaged_artifact_is_refused_and_the_old_text_plays_on() {
    let mut rig = Rig::start(&duo());
    let LiveChange::Swap(mut swap) = rig.swap_to(&duo().with(|band| band.players[0].extra = 1), |_| {}) else { unreachable!() };
    swap.artifact.hash = Some(ipc::hash::ContentHash::of(&[b"another"]));
    let swap = rig.send(LiveChange::Swap(swap));
    match rig.answer(swap) {
        LiveReply::Refused { reason, .. } => assert!(reason.is_damaged),
        other => panic!("{other:?}"),
    }
    rig.play_to(20);
    assert_heard(&rig.heard, &Model::new(&duo()).ticks(20));
}

#[test]
fn init_only_modules_run_exactly_once_for_each_change_of_a_default() {
    let band = duo().with(|band| band.counts_initialisations = true);
    let mut rig = Rig::start(&band);
    rig.play_to(5);
    let code = band.clone().with(|band| band.players[0].extra = 1);
    rig.swap(&code, |_| {});
    rig.play_to(10);
    let patched = code.clone().with(|band| band.players[0].step = 9);
    let patch = rig.patch_to(&patched, 4);
    rig.send(patch);
    rig.play_to(20);
    let both = patched.clone().with(|band| {
        band.players[1].step = 9;
        band.players[1].extra = 2;
    });
    rig.swap(&both, |swap| swap.trial_ticks = 4);
    rig.play_to(30);

    let mut model = Model::new(&band);
    let mut expected = model.ticks(5);
    model.edit(&code);
    expected.extend(model.ticks(5));
    model.edit(&patched);
    model.initialisations += 1;
    expected.extend(model.ticks(10));
    model.edit(&both);
    model.initialisations += 1;
    expected.extend(model.ticks(10));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_new_revision_whose_init_only_modules_fail_changes_nothing() {
    let band = duo().with(|band| band.counts_initialisations = true);
    let broken = band.clone().with(|band| band.players[0].step = 5).in_trouble(Trouble::InitOnly);
    let mut rig = Rig::start(&band);
    rig.play_to(7);
    let refused = rig.swap(&broken, |_| {});
    rig.play_to(9);
    match rig.answer(refused) {
        LiveReply::Refused { reason, .. } => {
            assert!(reason.message.contains("the smallest integer was divided by -1"), "{}", reason.message);
            assert!(reason.line.is_some());
        }
        other => panic!("{other:?}"),
    }
    rig.current = band.artifact();
    let tried = rig.swap(&broken, |swap| swap.trial_ticks = 100);
    rig.play_to(30);
    assert_eq!(rig.committed(tried).0, 9);
    assert!(matches!(rig.progress(tried), SwapProgress::RolledBack { tick: 9, fault, .. } if fault.line.is_some()));
    assert_heard(&rig.heard, &Model::new(&band).ticks(30));
}

#[test]
fn a_reset_starts_again_from_the_newest_defaults() {
    let band = duo().with(|band| band.counts_initialisations = true);
    let patched = band.clone().with(|band| band.players[1].phase = 50);
    let mut rig = Rig::start(&band);
    rig.play_to(5);
    let patch = rig.patch_to(&patched, 0);
    rig.send(patch);
    rig.play_to(12);
    let reset = rig.send_at(Some(15), LiveChange::Reset);
    rig.play_to(30);
    assert_eq!(rig.applied(reset), 15);
    let mut model = Model::new(&band);
    let mut expected = model.ticks(5);
    model.edit(&patched);
    model.initialisations += 1;
    expected.extend(model.ticks(10));
    expected.extend(Model::new(&patched).ticks(15));
    assert_heard(&rig.heard, &expected);
}

#[test]
fn a_held_runtime_plays_again_after_a_swap_and_after_a_reset() {
    // From its fifth tick on, every tick fails.
    let broken = duo().in_trouble(Trouble::Overflow(5));
    let mut rig = Rig::start(&broken);
    rig.play_to(60);
    rig.host.wait_for_status(|status| status.is_held);
    assert_heard(&rig.heard[4..], &[SILENCE; 56]);
    let reset = rig.send(LiveChange::Reset);
    rig.play_to(63);
    assert_eq!(rig.applied(reset), 60);
    assert_heard(&rig.heard[60..], &Model::new(&duo()).ticks(3));
    rig.play_to(100);
    rig.host.wait_for_status(|status| status.is_held && status.ticks >= 100);
    rig.swap(&duo(), |swap| swap.there = None);
    rig.play_to(110);
    assert_heard(&rig.heard[100..], &Model::new(&duo()).ticks(10));
    rig.host.wait_for_status(|status| !status.is_held);
}

#[test]
fn assets_are_loaded_again_after_every_change_and_after_the_state_has_moved() {
    let folder = Folder::new("live-assets");
    let write = |value: i32| std::fs::write(folder.0.join("clip.raw"), value.to_le_bytes()).unwrap();
    let with_clip = |extra: i32| {
        duo().with(|band| {
            band.players[0].ballast = 2;
            band.players[0].extra = extra;
            band.config = vec!["bin.clip.url clip.raw".to_owned(), "bin.clip.memory low:ballast".to_owned()];
        })
    };
    write(11);
    let mut rig = Rig::start_with(with_clip(0).artifact(), true, folder.0.clone());
    let expect = |rig: &mut Rig, values: [i64; 2]| {
        let read = rig.send(get(&["low:ballast"]));
        let next = rig.heard.len() as u64 + 1;
        rig.play_to(next);
        assert_eq!(rig.values(read).1, [ElementValues::Int(values.to_vec())]);
    };
    rig.send(set("low:ballast[0]", 5.0));
    rig.send(set("low:ballast[1]", 6.0));
    expect(&mut rig, [5, 6]);
    write(22);
    rig.swap(&with_clip(1), |swap| swap.base_directory = folder.0.clone());
    expect(&mut rig, [22, 6]);
    write(33);
    rig.send(LiveChange::Reset);
    expect(&mut rig, [33, 0]);
    let missing = rig.swap_to(&with_clip(2), |swap| swap.base_directory = folder.0.join("nowhere"));
    let missing = rig.send(missing);
    assert!(rig.refused(missing).contains("`clip`"));
    expect(&mut rig, [33, 0]);
}

#[test]
fn a_crossfade_blends_from_the_old_sound_to_the_new_one() {
    let old = Band::of([player("low", 3, 1), player("high", 100, 1_000)]);
    let new = old.clone().with(|band| band.players[1].extra = 64);
    let mut rig = Rig::start(&old);
    rig.play_to(10);
    let swap = rig.swap(&new, |swap| {
        swap.there = None;
        swap.crossfade_frames = 300;
    });
    rig.play_to(20);
    assert_eq!(rig.committed(swap).0, 10);
    let (mut before, mut after) = (Model::new(&old), Model::new(&new));
    let mut expected = before.ticks(10);
    for tick in 0..10 {
        let (was, is) = (before.tick(), after.tick());
        let mut block = is;
        for frame in (0..128).filter(|frame| tick * 128 + frame < 300) {
            let gain = (tick * 128 + frame + 1) as f32 / 300.0;
            block[0][frame] = is[0][frame] * gain + was[0][frame] * (1.0 - gain);
        }
        expected.push(block);
    }
    assert_heard(&rig.heard, &expected);
}
