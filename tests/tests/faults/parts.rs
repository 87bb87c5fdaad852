//! Rows that hit the compiler-worker, the device host and the spare.

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::playing::send_signal;
use tests::soak::blows::{BLOWS, Window};
use tests::soak::voices::{Side, Variant};

use crate::{ends_well, start, survives};

#[test]
fn row_06_a_worker_killed_in_mid_compile_is_followed_by_one_that_compiles_it_again() {
    survives(&["compiler-worker: SIGKILL during an edit"; 3]);
}

#[test]
fn row_06_a_text_that_two_workers_die_of_is_refused_until_it_changes() {
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    let variant = Variant { factor: 77, ..Side::Left.first_variant() };
    let mark = gig.mark();
    // Stopped, it cannot answer: each of the two is killed with the text in its hands.
    let first = gig.process("compilerWorker").unwrap();
    send_signal(first, Signal::STOP);
    let request = gig.push(Side::Left, variant);
    gig.peer.expect("ping", json!({}));
    send_signal(first, Signal::KILL);
    let is_next = |event: &Value| event["kind"] == "processReady" && event["role"] == "compilerWorker";
    let second = gig.event_since(mark, "the next worker", is_next).unwrap()["pid"].as_u64().unwrap() as u32;
    send_signal(second, Signal::KILL);
    let failure = match gig.settle(Side::Left, variant, request) {
        Err(failure) => failure,
        // The second one was faster than its end.
        Ok(_) => return drop(ends_well(ordeal)),
    };
    assert_eq!(failure.name, "compiler_restarted", "{failure:?}");
    let again = gig.push(Side::Left, variant);
    let failure = gig.settle(Side::Left, variant, again).unwrap_err();
    assert_eq!(failure.name, "refused", "{failure:?}");
    gig.edit(Side::Left, Variant { factor: 79, ..variant });
    ends_well(ordeal);
}

#[test]
fn row_11_a_stopped_worker_delays_nobody_and_the_next_one_compiles_what_it_had() {
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    let mark = gig.mark();
    let worker = gig.process("compilerWorker").unwrap();
    send_signal(worker, Signal::STOP);
    let variant = Variant { factor: 91, ..Side::Right.first_variant() };
    let request = gig.push(Side::Right, variant);
    let mut pings = 0;
    while !gig.peer.has_answer(request) {
        gig.peer.expect("ping", json!({}));
        gig.peer.expect("set", json!({ "runtime": "left", "values": [{ "item": "m:offset", "value": 0 }] }));
        pings += 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(pings > 1, "the session goes on while the worker stands still");
    let progress = gig.settle(Side::Right, variant, request).unwrap_or_else(|failure| panic!("the text is not to blame: {failure:?}"));
    assert_eq!(progress["state"], "committed", "{progress}");
    let is_death = |event: &Value| event["kind"] == "processDied" && event["pid"] == worker;
    assert!(gig.event_since(mark, "its death", is_death).unwrap()["cause"].as_str().unwrap().contains("not compiled"), "with its cause");
    let is_next = |event: &Value| event["kind"] == "processReady" && event["role"] == "compilerWorker";
    assert_ne!(gig.event_since(mark, "the next one", is_next).unwrap()["pid"], worker);
    gig.edit(Side::Right, Variant { factor: 93, ..variant });
    ends_well(ordeal);
}

#[test]
fn a_killed_device_host_is_followed_by_one_that_goes_on_with_all_lanes_in_step() {
    survives(&["device host: SIGKILL", "device host: SIGSEGV", "device host: SIGKILL"]);
}

#[test]
fn row_11_a_stopped_device_host_is_given_up_and_followed_by_another() {
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    let mark = gig.mark();
    let device = gig.process("deviceHost").unwrap();
    send_signal(device, Signal::STOP);
    gig.event_since(mark, "its death", |event| event["kind"] == "processDied" && event["pid"] == device).unwrap();
    gig.event_since(mark, "the next one", |event| event["kind"] == "processReady" && event["role"] == "deviceHost").unwrap();
    gig.play_on(24_000).unwrap();
    let hosts_died = gig.count_since(mark, |event| event["kind"] == "hostDied");
    assert_eq!(hosts_died, 0, "hosts wait at their lead meanwhile");
    ends_well(ordeal);
}

#[test]
fn a_killed_spare_is_followed_by_another_and_nothing_is_heard() {
    survives(&["spare: SIGKILL", "host: SIGKILL", "spare: SIGKILL", "host and spare: SIGKILL"]);
}

#[test]
fn every_part_of_a_session_but_its_supervisor_can_be_killed_at_once() {
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    let mark = gig.mark();
    let supervisor = gig.playing.pid();
    let children: Vec<u32> = gig.playing.processes().iter().map(|process| process.pid).filter(|pid| *pid != supervisor).collect();
    children.iter().for_each(|pid| send_signal(*pid, Signal::KILL));
    let mut windows = Vec::new();
    for name in gig.runtimes() {
        let is_ready = |event: &Value| event["kind"] == "hostReady" && event["runtime"] == name;
        let ready = gig.event_since(mark, "hostReady", is_ready).unwrap();
        let Some(side) = Side::ALL.into_iter().find(|side| side.runtime() == name) else { continue };
        let to_tick = gig.wait_for_tick(name, ready["restoredTick"].as_u64().unwrap() + 200).unwrap();
        let gap_blocks = ready["gapBlocks"].as_u64().unwrap();
        windows.push(Window { side, kind: "all children: SIGKILL", from_tick: 0, to_tick, gap_blocks });
    }
    gig.wait_until_all_run().unwrap();
    gig.play_on(24_000).unwrap();
    gig.check_counter().unwrap();
    for pid in children {
        let deaths = gig.count_since(mark, |event| event["pid"] == pid && event["cause"].is_string());
        assert_eq!(deaths, 1, "the death of {pid} is told once");
    }
    ordeal.windows.extend(windows);
    ends_well(ordeal);
}

#[test]
fn blows_have_names_of_their_own() {
    let names: std::collections::BTreeSet<&str> = BLOWS.iter().map(|blow| blow.name).collect();
    assert_eq!(names.len(), BLOWS.len());
}
