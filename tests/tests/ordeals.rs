//! What is too particular for the table of blows: revisions that kill natively long after their trial, supervisors that die with an
//! edit in their hands or together with the device host, hosts that die before they are known to have begun (FAULTS rows 2, 3, 7, 8,
//! 10, 46). Every sample of every voice is known, and compared at the end.

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::playing::send_signal;
use tests::soak::blows::{Ordeal, Window};
use tests::soak::gig::{COUNTER, Gig, Setup};
use tests::soak::voices::{COUNTING, Side, Variant};

/// The longest lead: a busy machine is not what is tested here.
const LEAD_BLOCKS: u32 = 24;

/// Ticks after which a revision is known to be good, with some to spare.
const TRIAL_TICKS: u64 = 450;

fn start(environment: Vec<(&'static str, String)>) -> Ordeal {
    let setup = Setup { lead_blocks: LEAD_BLOCKS, environment, ..Setup::default() };
    Ordeal::start(setup, 4)
}

/// Ends a session of which nothing unexpected may be heard or left.
#[track_caller]
fn ends_well(ordeal: Ordeal) {
    let tally = ordeal.end();
    assert!(tally.unexpected.is_empty(), "{:#?}", tally.unexpected);
}

fn edited() -> Variant {
    Variant { factor: 35, ..Side::Left.first_variant() }
}

/// The revision that the edit will have: the same text always has the same.
fn revision_of_edit() -> String {
    let mut ordeal = start(Vec::new());
    let plan = ordeal.gig.peer.expect("plan", json!({ "runtime": "left", "text": edited().text(Side::Left) }));
    plan["revision"].as_str().expect("a plan names the revision").to_owned()
}

/// The tick at which the revision that plays took effect, and whether it is known to be good.
fn current(gig: &mut Gig, runtime: &str) -> (String, u64, bool) {
    let list = gig.peer.expect("list", json!({ "runtime": runtime }));
    let all = list["revisions"].as_array().expect("a history").clone();
    let current = all.iter().find(|entry| entry["isCurrent"] == true).unwrap_or_else(|| panic!("nothing plays: {list}"));
    let revision = current["revision"].as_str().expect("a name").to_owned();
    (revision, current["tick"].as_u64().expect("a tick"), current["isGood"] == true)
}

#[test]
fn a_revision_that_kills_twice_after_it_has_passed_its_trial_gives_way_to_the_last_good_one_with_its_state() {
    const FATAL_TICK: u64 = 4_000;
    let revision = revision_of_edit();
    let fault = format!("segv@tick:{FATAL_TICK},runtime:left,revision:{}", &revision[..16]);
    let mut ordeal = start(vec![("CONTINUO_FAULT", fault)]);
    let gig = &mut ordeal.gig;
    let good = gig.runtime("left")["revision"].clone();
    gig.wait_for_tick("left", TRIAL_TICKS).unwrap();
    let mark = gig.mark();
    let tick = gig.edit(Side::Left, edited());
    assert!(tick + TRIAL_TICKS < FATAL_TICK, "the machine was too slow for this test: committed at {tick}");
    let back = gig.event_since(mark, "rolledBack", |event| event["kind"] == "rolledBack").unwrap();
    assert_eq!((&back["runtime"], &back["from"]), (&json!("left"), &json!(revision)), "{back}");
    assert!(back["cause"].as_str().is_some_and(|cause| cause.contains(&FATAL_TICK.to_string())), "{back}");
    assert!(back["line"].is_null(), "where in a program a process died natively is not known: {back}");
    gig.wait_for_tick("left", FATAL_TICK + 300).unwrap();
    let is_death = |event: &Value| event["kind"] == "hostDied" && event["runtime"] == "left" && event["signal"] == 11;
    assert_eq!(gig.count_since(mark, is_death), 2, "it dies twice, and not a third time");
    assert_eq!(gig.count_since(mark, |event| event["kind"] == "hostDied"), 2, "nobody else dies");
    let now = gig.runtime("left");
    assert_eq!(now["state"], "running", "{now}");
    assert_eq!(back["to"], now["revision"], "what it says it went back to is what plays");
    assert_ne!((&now["revision"], &good), (&json!(revision), &Value::Null));
    gig.journals[Side::Left as usize].note(FATAL_TICK, Side::Left.first_variant());
    let gap_blocks = now["underruns"].as_u64().unwrap() + 2;
    let to_tick = gig.wait_for_tick("left", FATAL_TICK + 350).unwrap();
    ordeal.windows.push(Window { side: Side::Left, kind: "a revision that dies late", from_tick: FATAL_TICK - 64, to_tick, gap_blocks });
    ends_well(ordeal);
}

#[test]
fn an_edit_on_trial_when_the_supervisor_dies_passes_its_trial_under_the_next_one() {
    let mut ordeal = start(Vec::new());
    let gig = &mut ordeal.gig;
    gig.wait_for_tick("left", TRIAL_TICKS).unwrap();
    let tick = gig.edit(Side::Left, edited());
    gig.replace_supervisor().unwrap();
    gig.wait_for_tick("left", tick + TRIAL_TICKS).unwrap();
    gig.wait_until("the edit to be known to be good", |gig| current(gig, "left").2).unwrap();
    assert_eq!(current(gig, "left").1, tick);
    ends_well(ordeal);
}

#[test]
fn an_edit_in_flight_when_the_supervisor_dies_has_taken_effect_or_not_and_the_next_one_knows() {
    let mut ordeal = start(Vec::new());
    for delay_ms in [0, 4, 8, 16, 24, 40] {
        let gig = &mut ordeal.gig;
        let (before, ..) = current(gig, "left");
        let variant = Variant { factor: 35 + delay_ms as i32, ..Side::Left.first_variant() };
        gig.push(Side::Left, variant);
        // Wherever the edit is by then; each round it has come further.
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        gig.replace_supervisor().unwrap();
        let (now, tick, _) = current(gig, "left");
        if now != before {
            gig.journals[Side::Left as usize].note(tick, variant);
        }
        let edits = gig.runtime("left")["waitingChange"].clone();
        assert!(edits.is_null(), "nothing waits for anybody");
    }
    ends_well(ordeal);
}

#[test]
fn a_supervisor_and_the_device_host_that_die_together_are_both_replaced_and_no_host_is_touched() {
    let mut ordeal = start(Vec::new());
    let gig = &mut ordeal.gig;
    gig.play_on(24_000).unwrap();
    let hosts = |gig: &mut Gig| gig.runtimes().into_iter().map(|runtime| gig.host(runtime)).collect::<Vec<_>>();
    let (before, device) = (hosts(gig), gig.process("deviceHost").expect("there is one"));
    send_signal(device, Signal::KILL);
    gig.replace_supervisor().unwrap();
    assert_eq!(hosts(gig), before);
    gig.wait_until("another device host", |gig| gig.process("deviceHost").is_some_and(|pid| pid != device)).unwrap();
    // Long enough for a part of the recording that can be told from others.
    gig.play_on(48_000).unwrap();
    ends_well(ordeal);
}

#[test]
fn stopped_and_killed_worker_and_main_runtimes_have_counted_every_tick_once() {
    let mut ordeal = start(Vec::new());
    let gig = &mut ordeal.gig;
    let main = COUNTING.replace("WebWorkerRuntime", "MainThreadRuntime");
    assert_ne!(main, COUNTING);
    gig.peer.expect("push", json!({ "runtime": "main", "text": main, "answer": "committed" }));
    gig.wait_until_all_run().unwrap();
    gig.wait_for_spare().unwrap();
    ordeal.hold_anew();
    let gig = &mut ordeal.gig;
    for (runtime, signal) in [(COUNTER, Signal::STOP), ("main", Signal::KILL), ("main", Signal::STOP)] {
        gig.wait_for_spare().unwrap();
        let mark = gig.mark();
        let pid = gig.host(runtime).expect("it has a host");
        send_signal(pid, signal);
        let died = gig.event_since(mark, "hostDied", |event| event["kind"] == "hostDied" && event["pid"] == pid).unwrap();
        assert_eq!(died["signal"], 9, "{died}");
        gig.event_since(mark, "hostReady", |event| event["kind"] == "hostReady" && event["runtime"] == runtime).unwrap();
        let answer = gig.peer.expect("get", json!({ "runtime": runtime, "items": ["m:ticks"] }));
        assert_eq!(answer["tick"], answer["values"][0]["values"][0], "{runtime}: {answer}");
    }
    ends_well(ordeal);
}

#[test]
fn a_host_that_dies_in_its_first_ticks_again_and_again_is_held_and_costs_nobody_else_a_sample() {
    // A timer ticks at once, before its host is known to have started.
    let mut ordeal = start(vec![("CONTINUO_FAULT", "segv@tick:1,runtime:early".to_owned())]);
    let gig = &mut ordeal.gig;
    let mark = gig.mark();
    gig.peer.ask("push", json!({ "runtime": "early", "text": COUNTING }));
    gig.wait_until("the runtime to be held", |gig| {
        let status = gig.status();
        let early = status["runtimes"].as_array().into_iter().flatten().find(|runtime| runtime["runtime"] == "early").cloned();
        early.is_some_and(|early| early["state"] == "held" && early["cause"]["message"].is_string())
    })
    .unwrap();
    let deaths = gig.count_since(mark, |event| event["kind"] == "hostDied" && event["runtime"] == "early");
    assert!((2..=6).contains(&deaths), "{deaths} deaths");
    assert_eq!(gig.count_since(mark, |event| event["kind"] == "hostDied"), deaths, "nobody else dies");
    gig.play_on(24_000).unwrap();
    gig.peer.expect("stop", json!({ "runtime": "early" }));
    gig.peer.expect("shutdown", json!({}));
    gig.playing.wait();
    gig.playing.wait_until_gone();
    gig.remains().unwrap();
}
