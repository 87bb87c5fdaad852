//! Rows in which a revision is to blame: it kills its host in the same tick twice.

use serde_json::{Value, json};
use tests::soak::blows::{Ordeal, Window};
use tests::soak::gig::Setup;
use tests::soak::voices::{Side, Variant};

use crate::{SEED, ends_well, setup, start};

/// What the edit is, whose revision is told to die.
fn edited() -> Variant {
    Variant { factor: 35, ..Side::Left.first_variant() }
}

/// The revision that the edit will have: asked for in a session of its own, since the same text always has the same.
fn revision() -> String {
    let mut ordeal = start();
    let plan = ordeal.gig.peer.expect("plan", json!({ "runtime": "left", "text": edited().text(Side::Left) }));
    plan["revision"].as_str().unwrap().to_owned()
}

#[test]
fn row_08_a_revision_that_kills_its_host_twice_in_a_tick_of_its_trial_is_rolled_back() {
    const ATTEMPTS: usize = 5;
    let revision = revision();
    assert!((0..ATTEMPTS).any(|_| dies_in_its_trial(&revision)), "each time the edit was not there before the tick it is to fail in");
}

/// Plays it once. Returns false where a busy machine was too late with the edit for its revision to die at all.
fn dies_in_its_trial(revision: &str) -> bool {
    const FATAL_TICK: u64 = 2_200;
    let fault = format!("segv@tick:{FATAL_TICK},runtime:left,revision:{}", &revision[..16]);
    let mut ordeal = Ordeal::start(Setup { environment: vec![("CONTINUO_FAULT", fault)], ..setup() }, SEED);
    let gig = &mut ordeal.gig;
    gig.wait_for_tick("left", FATAL_TICK - 300).unwrap();
    let mark = gig.mark();
    let tick = gig.edit(Side::Left, edited());
    if !(FATAL_TICK - 375..FATAL_TICK).contains(&tick) {
        eprintln!("committed in tick {tick}, which is too late; once more");
        return false;
    }
    let back = gig.event_since(mark, "rolledBack", |event| event["kind"] == "rolledBack").unwrap();
    assert_eq!((back["runtime"].as_str(), back["from"].as_str()), (Some("left"), Some(revision)), "{back}");
    assert!(back["cause"].as_str().unwrap().contains(&FATAL_TICK.to_string()), "{back}");
    let is_death = |event: &Value| event["kind"] == "hostDied" && event["signal"] == 11;
    assert_eq!(gig.count_since(mark, is_death), 2, "it dies twice, and not a third time");
    gig.journals[Side::Left as usize].note(FATAL_TICK, Side::Left.first_variant());
    let to_tick = gig.wait_for_tick("left", FATAL_TICK + 300).unwrap();
    // Read once the ticks have long been played: what is counted by then is all that the two deaths have cost.
    let gap_blocks = gig.runtime("left")["underruns"].as_u64().unwrap();
    ordeal.windows.push(Window { side: Side::Left, kind: "a revision that dies", from_tick: FATAL_TICK - 30, to_tick, gap_blocks });
    let gig = &mut ordeal.gig;
    let again = gig.push(Side::Left, edited());
    let failure = gig.settle(Side::Left, edited(), again).unwrap_err();
    assert_eq!(failure.name, "refused", "{failure:?}");
    ends_well(ordeal);
    true
}

#[test]
fn row_08_a_program_without_a_good_revision_is_held_with_its_reason_and_the_others_play_on() {
    let fault = "segv@tick:30,runtime:left".to_owned();
    let setup = Setup { environment: vec![("CONTINUO_FAULT", fault)], ..setup() };
    let mut ordeal = Ordeal::start(setup, SEED);
    let gig = &mut ordeal.gig;
    gig.wait_until("the runtime to be held", |gig| gig.runtime("left")["state"] == "held").unwrap();
    let cause = gig.runtime("left")["cause"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(cause.contains("twice in tick 30"), "{cause}");
    for runtime in ["right", "both"] {
        let tick = gig.runtime(runtime)["tick"].as_u64().unwrap();
        gig.wait_for_tick(runtime, tick + 200).unwrap();
        assert_eq!(gig.runtime(runtime)["restarts"], 0, "{runtime} has not been touched");
    }
    gig.peer.expect("shutdown", json!({}));
    gig.playing.wait();
    gig.playing.wait_until_gone();
    gig.remains().unwrap();
}
