//! Takeovers that cannot be: each says why. And those that can be against expectation.

use std::sync::atomic::Ordering::Relaxed;

use ipc::hash::ContentHash;
use ipc::live::{LiveChange, LiveReply, LiveRequest, SwapProgress};
use ipc::message::{HostReply, HostRequest};
use ipc::recovery::{Prepare, TakeOver};
use ipc::segment::Segment;

use super::script::{Step, What, set, swap, then, wait};
use super::show::{NONE, Show};
use crate::live::band::{Band, Model, player};
use crate::live::rig::assert_heard;

fn solo() -> Band {
    Band::of([player("tone", 3, 1)])
}

fn duo() -> Band {
    Band::of([player("guest", 9, 7), player("tone", 3, 1)])
}

/// A show whose host has been killed after this script, and another host that waits for what it is told.
fn orphaned(script: &[Step]) -> Show {
    let mut show = Show::new(solo().artifact(), NONE, 1).play(script);
    show.kill_and_wait();
    show
}

fn refusal(show: &mut Show, change: impl FnOnce(&mut TakeOver)) -> String {
    let mut request = show.take_over_request(Vec::new());
    change(&mut request);
    show.try_take_over(request).unwrap_err().message
}

/// Playing goes on as if nothing had been refused.
fn goes_on(mut show: Show, expected: &[ipc::lane::Block]) {
    let request = show.take_over_request(Vec::new());
    show.try_take_over(request).unwrap();
    let show = show.play(&[wait(20)]);
    assert_heard(&show.heard, expected);
}

#[test]
fn a_damaged_state_segment_is_refused_by_name() {
    let mut show = orphaned(&[wait(50)]);
    let name = show.states()[0].name.clone();
    let segment = Segment::open(&show.states()[0]).unwrap();
    // The commit words of both slots: sequence numbers that nobody reaches. What lies behind them is not even looked at.
    let words: Vec<(usize, u64)> =
        (0..segment.payload_bytes() / 8 - 1).map(|word| (word * 8, segment.word_u64(word * 8).load(Relaxed))).collect();
    for (offset, word) in &words {
        if *word != 0 && *offset < 30_000 {
            segment.word_u64(*offset).store(u64::MAX, Relaxed);
        }
    }
    let message = refusal(&mut show, |_| {});
    assert!(message.contains(&name) && message.contains("damaged"), "{message}");
    words.iter().for_each(|(offset, word)| segment.word_u64(*offset).store(*word, Relaxed));
    goes_on(show, &Model::new(&solo()).ticks(70));
}

#[test]
fn no_scribble_on_a_state_segment_makes_the_host_fall_over() {
    let mut show = orphaned(&[wait(20), set("tone:step", 500.0, 90, 30)]);
    let segment = Segment::open(&show.states()[0]).unwrap();
    let used: Vec<usize> = (0..15_000).map(|word| word * 8).filter(|offset| segment.word_u64(*offset).load(Relaxed) != 0).collect();
    for (index, offset) in used.iter().enumerate().step_by(1 + used.len() / 200) {
        let before = segment.word_u64(*offset).load(Relaxed);
        let scribble = [u64::MAX, 1 << 40, before ^ 1, before << 1][index % 4];
        segment.word_u64(*offset).store(scribble, Relaxed);
        let request = show.take_over_request(Vec::new());
        // It may well be taken over: a bit of a value is as good as another. Then the next one tries.
        if show.try_take_over(request).is_ok() {
            show.kill_and_wait();
        }
        segment.word_u64(*offset).store(before, Relaxed);
    }
}

#[test]
fn a_revision_that_was_not_sent_and_a_program_of_other_memories_are_refused() {
    let mut show = orphaned(&[wait(10), swap(&duo(), 0, 0, 40)]);
    let message = refusal(&mut show, |request| {
        request.candidates[1].revision = ContentHash::of(&[b"another"]);
    });
    assert!(message.contains("was not sent"), "{message}");
    let message = refusal(&mut show, |request| request.candidates[1].artifact = request.candidates[0].artifact.clone());
    assert!(message.contains("where"), "{message}");
    let message = refusal(&mut show, |request| request.candidates.clear());
    assert!(message.contains("nothing to go on with"), "{message}");
    let mut model = Model::new(&solo());
    let mut expected = model.ticks(10);
    model.edit(&duo());
    expected.extend(model.ticks(60));
    goes_on(show, &expected);
}

#[test]
fn a_lane_that_does_not_belong_to_the_checkpoint_is_refused() {
    let mut show = orphaned(&[wait(50)]);
    let (other, _reader) = show.host().lane();
    let message = refusal(&mut show, |request| request.start.lane = Some(other.clone()));
    assert!(message.contains("do not belong together"), "{message}");
    let fresh = show.fresh_state();
    let message = refusal(&mut show, |request| request.candidates[0].state = fresh);
    assert!(message.contains("no complete checkpoint"), "{message}");
    goes_on(show, &Model::new(&solo()).ticks(70));
}

#[test]
fn a_runtime_that_never_began_begins() {
    let mut show = orphaned(&[]);
    let fresh = show.fresh_state();
    let mut request = show.take_over_request(Vec::new());
    request.candidates[0].state = fresh;
    show.try_take_over(request).unwrap();
    let took_over = show.takeovers.last().unwrap();
    assert_eq!((took_over.next_tick, took_over.replayed_ticks, took_over.was_prepared), (0, 0, false));
    let show = show.play(&[wait(30)]);
    assert_heard(&show.heard, &Model::new(&solo()).ticks(30));
}

#[test]
fn what_came_of_everything_is_told() {
    let script = [set("tone:step", 5.0, 200, 1), swap(&duo(), 100, 0, 39), then(What::Freeze, 10)];
    let mut show = orphaned(&script);
    let request = show.take_over_request(Vec::new());
    show.try_take_over(request).unwrap();
    let took_over = show.takeovers.last().unwrap().clone();
    assert_eq!((took_over.runtime.as_str(), took_over.generation, took_over.next_tick), ("drums", 2, 50));
    assert_eq!(took_over.applied, [(1, 0), (2, 1), (3, 40)]);
    assert_eq!(took_over.trial, Some((2, 61)));
    assert!(took_over.is_frozen && !took_over.is_held && !took_over.was_prepared);
    assert_eq!(took_over.restored_tick + took_over.replayed_ticks, took_over.next_tick);
    assert_eq!(took_over.revision, duo().artifact().manifest.revision);
}

#[test]
fn what_is_to_take_effect_first_takes_effect_before_the_first_tick() {
    let mut show = orphaned(&[wait(10), swap(&duo(), 300, 0, 40)]);
    let first = vec![LiveRequest { request: 90, at_tick: None, what: LiveChange::RollBack }];
    let request = show.take_over_request(first);
    show.try_take_over(request).unwrap();
    let mut show = show.play(&[wait(30)]);
    let rolled_back = show.hear_until(|reply| match reply {
        LiveReply::Swap { progress: SwapProgress::RolledBack { tick, .. }, .. } => Some(*tick),
        _ => None,
    });
    assert_eq!(rolled_back, 50);
    let mut model = Model::new(&solo());
    let mut expected = model.ticks(10);
    model.edit(&duo());
    expected.extend(model.ticks(40));
    model.edit(&solo());
    expected.extend(model.ticks(30));
    assert_heard(&show.heard, &expected);
}

#[test]
fn a_host_killed_in_the_middle_of_its_takeover_leaves_everything_for_the_next() {
    let mut show = orphaned(&[wait(10), set("tone:step", 40.0, 300, 20), swap(&duo(), 500, 4_000, 17)]);
    for us in 0..40 {
        let request = show.take_over_request(Vec::new());
        show.host().send(HostRequest::TakeOver(Box::new(request)));
        std::thread::sleep(std::time::Duration::from_micros(us * 50));
        show.kill_and_wait();
    }
    let request = show.take_over_request(Vec::new());
    show.try_take_over(request).unwrap();
    let show = show.play(&[wait(60)]);
    let expected = Show::new(solo().artifact(), NONE, 1).play(&[wait(10), set("tone:step", 40.0, 300, 20), swap(&duo(), 500, 4_000, 77)]);
    assert_heard(&show.heard, &expected.heard);
}

#[test]
fn a_spare_keeps_what_it_is_told_to_and_lets_go_of_what_it_is_told_to() {
    let mut show = orphaned(&[wait(10)]);
    let candidate = show.take_over_request(Vec::new()).candidates.remove(0);
    let prepare = |runtime: &str, revision| {
        HostRequest::Prepare(Box::new(Prepare {
            runtime: runtime.to_owned(),
            runtime_type: "audio".to_owned(),
            revision,
            artifact: candidate.artifact.clone(),
        }))
    };
    let wrong = ContentHash::of(&[b"wrong"]);
    show.host().send(prepare("drums", wrong));
    assert!(show.host().wait_for_refusal().message.contains("was announced"));
    for runtime in ["drums", "arp", "drums"] {
        show.host().send(prepare(runtime, candidate.revision));
        show.host().wait_for(|reply| matches!(reply, HostReply::Prepared { runtime: ready, .. } if ready == runtime).then_some(()));
    }
    let (keep, forget) = (vec![candidate.revision], Vec::new());
    show.host().send(HostRequest::Forget { runtime: "drums".to_owned(), except: keep });
    show.host().send(HostRequest::Forget { runtime: "arp".to_owned(), except: forget });
    let request = show.take_over_request(Vec::new());
    show.try_take_over(request).unwrap();
    assert!(show.takeovers.last().unwrap().was_prepared);
    show.host().send(prepare("drums", candidate.revision));
    assert!(show.host().wait_for_refusal().message.contains("already runs"));
    goes_on_playing(show);
}

fn goes_on_playing(show: Show) {
    let show = show.play(&[wait(20)]);
    assert_heard(&show.heard, &Model::new(&solo()).ticks(30));
}
