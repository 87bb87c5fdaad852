//! Requests in general: horizons, journals, limits, runtimes without sound.

use ipc::limits::MAX_LIVE_REQUESTS;
use ipc::live::{LiveChange, LiveReply, LiveRequest, SwapProgress};
use ipc::message::{HostReply, HostRequest};

use super::band::{Band, Model, Trouble, compile_with_budget, player};
use super::rig::{Rig, assert_heard, get, ramp, set};
use crate::harness::{Host, block, start};

fn duo() -> Band {
    Band::of([player("low", 3, 1), player("high", 4, 100)])
}

#[test]
fn a_runtime_waits_at_its_horizon_however_much_the_lane_wants() {
    let mut rig = Rig::start(&duo());
    rig.reader.demand_rt(60);
    rig.play_to(8);
    assert_eq!(rig.reader.written_rt(), 8);
    let write = rig.send_at(Some(8), set("low:step", 50.0));
    let status = rig.host.wait_for_status(|status| status.ticks == 8);
    assert_eq!(status.ticks, 8);
    rig.play_to(20);
    assert_eq!(rig.applied(write), 8);
}

#[test]
fn a_runtime_without_a_horizon_has_none_to_raise() {
    let mut host = Host::start();
    let reader = host.start_runtime(&duo().artifact(), "audio", 48_000);
    host.wait_until_started();
    block(&reader, 3);
    host.send(HostRequest::Live(LiveRequest { request: 9, at_tick: None, what: LiveChange::Proceed { to_tick: 5 } }));
    let answer = host.wait_for(|reply| match reply {
        HostReply::Live(reply) => Some(reply.clone()),
        _ => None,
    });
    assert!(matches!(answer, LiveReply::Refused { request: 9, reason } if reason.message.contains("without a horizon")));
}

/// Plays a session in which requests come when they come, then the same again from the ticks of its answers.
#[test]
fn the_answers_of_a_session_are_the_journal_that_plays_it_again() {
    let moved = Band::of([player("first", 9, 7), player("low", 3, 1), player("high", 4, 100)]);
    let failing = moved.clone().in_trouble(Trouble::Overflow(9));
    let patched = moved.clone().with(|band| band.players[0].step = 70);
    let mut live = Rig::start(&duo());
    live.play_to(17);
    let first = live.swap(&moved, |swap| swap.trial_ticks = 20);
    live.play_to(40);
    let knob = live.send(ramp("low:step", 40.0, 13));
    live.play_to(55);
    let second = live.swap(&failing, |swap| swap.trial_ticks = 20);
    live.play_to(81);
    live.current = moved.artifact();
    let patch = live.patch_to(&patched, 10);
    let patch = live.send(patch);
    live.play_to(90);
    let reset = live.send(LiveChange::Reset);
    live.play_to(130);
    let first = live.committed(first).0;
    let second = live.committed(second).0;
    let (knob, patch, reset) = (live.applied(knob), live.applied(patch), live.applied(reset));

    let mut replay = Rig::start(&duo());
    let swap = replay.swap_to(&moved, |swap| swap.trial_ticks = 20);
    replay.send_at(Some(first), swap);
    replay.send_at(Some(knob), ramp("low:step", 40.0, 13));
    let swap = replay.swap_to(&failing, |swap| swap.trial_ticks = 20);
    let failed = replay.send_at(Some(second), swap);
    replay.current = moved.artifact();
    let change = replay.patch_to(&patched, 10);
    replay.send_at(Some(patch), change);
    replay.send_at(Some(reset), LiveChange::Reset);
    replay.play_to(130);
    assert_heard(&replay.heard, &live.heard);
    replay.wait_until_pending(failed);
    assert_eq!(replay.committed(failed).0, second);
    assert!(matches!(replay.progress(failed), SwapProgress::RolledBack { tick, .. } if tick == second + 8));
}

#[test]
fn more_requests_than_may_wait_are_refused_and_the_others_are_kept() {
    let mut rig = Rig::start(&duo());
    let waiting: Vec<u64> = (0..MAX_LIVE_REQUESTS).map(|_| rig.send_at(Some(10), set("low:step", 2.0))).collect();
    let beyond = rig.send(set("low:step", 9.0));
    assert!(rig.refused(beyond).contains("wait for their ticks already"));
    rig.play_to(12);
    for request in waiting {
        assert_eq!(rig.applied(request), 10);
    }
    let again = rig.send(set("low:step", 9.0));
    rig.play_to(14);
    assert_eq!(rig.applied(again), 12);
}

#[test]
fn a_runtime_without_sound_changes_in_the_same_way() {
    let worker = |extra: i32, trouble: Option<Trouble>| {
        Band::of([player("low", 3, 1)]).with(|band| {
            band.players[0].extra = extra;
            band.trouble = trouble;
        })
    };
    let first = worker(0, None).artifact();
    let mut host = Host::start();
    let segment = host.publish(&first);
    let mut request = start(segment, None, "worker", 50);
    request.run_until = Some(0);
    host.send(HostRequest::Start(request));
    host.wait_until_started();
    let (_lane, reader) = host.lane();
    let mut rig = Rig::around(host, reader, first);

    let good = rig.swap_to(&worker(10, None), |swap| {
        swap.trial_ticks = 5;
        swap.crossfade_frames = 500;
    });
    let good = rig.send_at(Some(100), good);
    let running = rig.current.clone();
    let bad = rig.swap_to(&worker(1_000, Some(Trouble::Overflow(3))), |swap| swap.trial_ticks = 50);
    let bad = rig.send_at(Some(200), bad);
    rig.current = running;
    let write = rig.send_at(Some(300), set("low:phase", 0.0));
    let reads: Vec<u64> = [100, 200, 202, 203, 300, 310].map(|tick| rig.send_at(Some(tick), get(&["low:phase"]))).to_vec();
    rig.send(LiveChange::Proceed { to_tick: 400 });
    rig.wait_until_pending(good);
    assert_eq!(rig.committed(good).0, 100);
    assert_eq!(rig.progress(good), SwapProgress::TrialPassed { tick: 104 });
    rig.wait_until_pending(bad);
    assert_eq!(rig.committed(bad).0, 200);
    assert!(matches!(rig.progress(bad), SwapProgress::RolledBack { tick: 202, .. }));
    assert_eq!(rig.applied(write), 300);
    // 100 ticks of 1, 100 of 11, two of 1001, then 11 again.
    let at_200 = 100 + 100 * 11;
    let expected = [100, at_200, at_200 + 2 * 1_001, at_200 + 2 * 1_001 + 11, 0, 110];
    for (read, expected) in reads.into_iter().zip(expected) {
        assert_eq!(rig.values(read).1, [ipc::message::ElementValues::Int(vec![expected])]);
    }
}

#[test]
fn a_live_host_rolls_back_a_tick_that_computes_for_too_long() {
    let idle = "8f4e/v1\nentry main\nmodule m\nint x\nint q\npush &x\npush x\npush 1\nadd\nstore\nmoduleEnd\nentryEnd\n";
    let busy = idle.replace("moduleEnd", "loop 50000000\npush &q\npush q\npush 1\nadd\nstore\nloopEnd\nmoduleEnd");
    let (old, new) = (compile_with_budget(idle, 0), compile_with_budget(&busy, 0));
    let mut host = Host::start();
    let segment = host.publish(&old);
    let mut request = start(segment, None, "worker", 10_000);
    request.is_offline = false;
    host.send(HostRequest::Start(request));
    host.wait_until_started();
    let (_lane, reader) = host.lane();
    let mut rig = Rig::around(host, reader, old);
    // Fifty million additions in memory: whatever the machine, more than five milliseconds.
    let swap = rig.swap_between(&new, |swap| swap.trial_ticks = 10_000);
    rig.wait_until_pending(swap);
    rig.committed(swap);
    match rig.progress(swap) {
        SwapProgress::RolledBack { fault, .. } => assert_eq!(fault.kind, ipc::fault::FaultKind::DeadlineExceeded),
        other => panic!("{other:?}"),
    }
    let read = rig.send(get(&["m:x"]));
    let (tick, values) = rig.values(read);
    assert_eq!(values, [ipc::message::ElementValues::Int(vec![tick as i64])], "not a tick was lost or counted twice");
}

#[test]
fn a_model_and_a_program_agree_without_any_request() {
    let mut rig = Rig::start(&duo());
    rig.play_to(100);
    assert_heard(&rig.heard, &Model::new(&duo()).ticks(100));
}
