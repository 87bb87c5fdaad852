//! A short share of the soak (`./dev soak` runs it for as long as is wanted): one session under weighted random blows and
//! edits, with the longest lead, every lane listened to.

use std::time::Duration;

use tests::soak::{self, Plan};

/// The usual seed; `CONTINUO_SEED` takes another one.
const SEED: u64 = 7;

#[test]
fn a_session_under_random_blows_and_edits_loses_nothing_that_was_not_told() {
    let seed = std::env::var("CONTINUO_SEED").ok().map_or(SEED, |seed| seed.parse().expect("CONTINUO_SEED is a number"));
    println!("CONTINUO_SEED={seed}");
    let plan = Plan { duration: Duration::from_secs(12), round: Duration::from_secs(12), seed, lead_blocks: 24 };
    let tally = soak::run(&plan);
    println!("{tally}");
    assert!(tally.injected() > 0);
    assert!(tally.unexpected.is_empty(), "{:#?}", tally.unexpected);
}
