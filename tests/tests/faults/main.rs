//! The fault matrix (FAULTS), row by row: every test here is named for its row, breaks a real session in the row's way, and
//! looks for the row's outcome.
//!
//! The session is [`tests::soak::gig::Gig`]: three voices whose every sample is known, and a worker that counts. What holds for
//! every row is checked at the end of each test: voices that were not hit are bit-identical to what they must be, the one
//! that was hit wherever no gap was told, no process, name in shared memory or file is left. FAULTS-CAMPAIGN.md lists the
//! rows and the tests of other crates that belong to them.

mod blame;
mod burdens;
mod clocks;
mod hosts;
mod machine;
mod notes;
mod parts;
mod shares;
mod whole;

use serde_json::Value;
use tests::soak::blows::{BLOWS, Blow, Ordeal};
use tests::soak::gig::Setup;
use tests::soak::tally::Tally;

/// Lead of sessions under test, in blocks: the longest, so that a busy machine does not make blocks late that nobody has
/// delayed. What the usual lead is worth is measured (`./dev bench recovery`, `./dev soak`), not tested.
const LEAD_BLOCKS: u32 = 24;

/// Where the test's chances come from. Any would do: what is hit when, the machine decides as well.
const SEED: u64 = 4;

fn setup() -> Setup {
    shares::share_machine();
    Setup { lead_blocks: LEAD_BLOCKS, ..Setup::default() }
}

fn start() -> Ordeal {
    Ordeal::start(setup(), SEED)
}

/// The blow of this name.
fn blow(name: &str) -> &'static Blow {
    BLOWS.iter().find(|blow| blow.name == name).unwrap_or_else(|| panic!("there is no blow `{name}`"))
}

/// Strikes these blows on one session, and ends it.
#[track_caller]
fn survives(blows: &[&str]) -> Tally {
    let mut ordeal = start();
    for name in blows {
        ordeal.strike(blow(name));
    }
    ends_well(ordeal)
}

/// How many of the next takeovers that the session tells were those of a prepared host, and not heard.
fn unheard_takeovers(ordeal: &mut Ordeal, takeovers: usize) -> usize {
    let took: Vec<Value> = (0..takeovers).map(|_| ordeal.gig.playing.wait_for("hostReady")).collect();
    took.iter().filter(|took| took["wasPrepared"] == true && took["gapBlocks"] == 0).count()
}

/// Ends a session of which nothing unexpected may be heard or left.
#[track_caller]
fn ends_well(ordeal: Ordeal) -> Tally {
    let tally = ordeal.end();
    assert!(tally.unexpected.is_empty(), "{:#?}", tally.unexpected);
    tally
}
