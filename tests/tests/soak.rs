//! Short shares of the soak (`./dev soak` runs it for as long as is wanted), with the longest lead, every lane listened to: one
//! session under weighted random blows and edits, and one whose audio hosts are killed again and again.

use std::time::Duration;

use tests::soak::{self, Plan, attrition};

/// The usual seed; `CONTINUO_SEED` takes another one.
const SEED: u64 = 7;

/// Kills of audio hosts that nothing may be left of; `soak --kills 1000` is the whole of it.
const KILLS: u64 = 60;

#[test]
fn sixty_kills_of_audio_hosts_leave_every_survivor_as_it_was() {
    let seed = seed();
    let attrition = attrition::run(KILLS, seed, 24);
    println!("{attrition}\n{}", attrition.tally);
    assert!(attrition.tally.injected() >= KILLS);
    assert!(attrition.tally.unexpected.is_empty(), "{:#?}", attrition.tally.unexpected);
    let survivors = ["supervisor", "compilerWorker", "deviceHost", "counter"];
    let is_same = |name: &&str| {
        attrition.before.processes.get(*name).map(|held| held.pid) == attrition.after.processes.get(*name).map(|held| held.pid)
    };
    assert!(survivors.iter().all(|name| attrition.before.processes.contains_key(*name)), "{:?}", attrition.before);
    assert!(survivors.iter().all(is_same), "nobody but audio hosts has died");
}

fn seed() -> u64 {
    let seed = std::env::var("CONTINUO_SEED").ok().map_or(SEED, |seed| seed.parse().expect("CONTINUO_SEED is a number"));
    println!("CONTINUO_SEED={seed}");
    seed
}

#[test]
fn a_session_under_random_blows_and_edits_loses_nothing_that_was_not_told() {
    let seed = seed();
    let plan = Plan { duration: Duration::from_secs(12), round: Duration::from_secs(12), seed, lead_blocks: 24 };
    let tally = soak::run(&plan);
    println!("{tally}");
    assert!(tally.injected() > 0);
    assert!(tally.unexpected.is_empty(), "{:#?}", tally.unexpected);
}
