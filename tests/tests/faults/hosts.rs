//! Rows that hit runtime hosts.

use rustix::process::Signal;
use serde_json::Value;
use tests::playing::send_signal;
use tests::soak::blows::Window;
use tests::soak::voices::Side;

use crate::{blow, ends_well, start, survives, unheard_takeovers};

#[test]
fn row_01_a_killed_audio_host_is_taken_over_and_no_other_lane_differs() {
    const KILLS: usize = 4;
    let mut ordeal = start();
    for _ in 0..KILLS {
        assert!(ordeal.strike(blow("host: SIGKILL")));
        // The next spare has the programs loaded by then.
        ordeal.gig.play_on(24_000).unwrap();
    }
    assert!(unheard_takeovers(&mut ordeal, KILLS) > 0, "at the longest lead a prepared host takes over unheard");
    assert!(ends_well(ordeal).blocks > 0);
}

#[test]
fn row_01_two_hosts_that_are_killed_at_once_are_both_taken_over() {
    survives(&["two hosts: SIGKILL", "two hosts: SIGKILL"]);
}

#[test]
fn row_01_the_same_host_killed_again_in_its_recovery_goes_on_with_the_next_one() {
    survives(&["host: SIGKILL, again in its recovery", "host: SIGKILL, again in its recovery"]);
}

#[test]
fn row_02_and_03_an_edit_whose_host_is_killed_takes_effect_or_does_not_and_that_is_told() {
    survives(&["host: SIGKILL during an edit"; 4]);
}

#[test]
fn row_05_a_killed_worker_runtime_has_counted_every_tick_once() {
    survives(&["worker host: SIGKILL", "worker host: SIGSEGV", "worker host: SIGKILL"]);
}

#[test]
fn row_09_native_signals_are_named_and_taken_over() {
    let names = ["host: SIGSEGV", "host: SIGBUS", "host: SIGILL", "host: SIGABRT"];
    let mut ordeal = start();
    for name in names {
        assert!(ordeal.strike(blow(name)));
        ordeal.gig.play_on(24_000).unwrap();
    }
    assert!(unheard_takeovers(&mut ordeal, names.len()) > 0, "a crash page that is written makes no takeover heard");
    ends_well(ordeal);
}

#[test]
fn row_10_a_stopped_host_is_told_killed_and_taken_over() {
    let mut ordeal = start();
    let mark = ordeal.gig.mark();
    assert!(ordeal.strike(blow("host: SIGSTOP")));
    assert_eq!(ordeal.gig.count_since(mark, |event| event["kind"] == "hostStalled"), 1, "it was told before it was killed");
    ends_well(ordeal);
}

#[test]
fn row_12_a_host_that_is_stopped_for_a_moment_goes_on_by_itself() {
    survives(&["host: SIGSTOP, SIGCONT"; 3]);
}

#[test]
fn row_16_a_revision_that_traps_in_its_trial_is_replaced_in_the_same_tick_unheard() {
    survives(&["edit: structure", "edit that fails", "edit: parameters"]);
}

#[test]
fn row_49_all_hosts_killed_at_once_are_each_told_and_taken_over() {
    let mut ordeal = start();
    let mark = ordeal.gig.mark();
    let names = ordeal.gig.runtimes();
    let from_tick = ordeal.gig.runtime(Side::Left.runtime())["tick"].as_u64().unwrap().saturating_sub(64);
    let pids: Vec<u32> = names.iter().map(|name| ordeal.gig.host(name).unwrap()).collect();
    pids.iter().for_each(|pid| send_signal(*pid, Signal::KILL));
    for name in &names {
        let is_ready = |event: &Value| event["kind"] == "hostReady" && event["runtime"] == *name;
        let ready = ordeal.gig.event_since(mark, "hostReady", is_ready).unwrap();
        let Some(side) = Side::ALL.into_iter().find(|side| side.runtime() == *name) else { continue };
        let gap_blocks = ready["gapBlocks"].as_u64().unwrap();
        let to_tick = ordeal.gig.wait_for_tick(name, ready["restoredTick"].as_u64().unwrap() + 200).unwrap();
        ordeal.windows.push(Window { side, kind: "all hosts: SIGKILL", from_tick, to_tick, gap_blocks });
    }
    for pid in pids {
        assert_eq!(ordeal.gig.count_since(mark, |event| event["kind"] == "hostDied" && event["pid"] == pid), 1, "each death is told once");
    }
    ends_well(ordeal);
}

#[test]
fn row_49_hosts_that_are_killed_while_the_session_ends_delay_nothing() {
    let mut ordeal = start();
    let names = ordeal.gig.runtimes();
    let pids: Vec<u32> = names.iter().map(|name| ordeal.gig.host(name).unwrap()).collect();
    ordeal.gig.peer.expect("shutdown", serde_json::json!({}));
    pids.iter().for_each(|pid| send_signal(*pid, Signal::KILL));
    let code = ordeal.gig.playing.wait();
    assert!(code.is_some(), "the supervisor ends by itself");
    ordeal.gig.playing.wait_until_gone();
    ordeal.gig.remains().unwrap();
}
