//! Editing while it sounds: random edits of all classes, compared with a model that shares no code with Continuo (DESIGN §9,
//! promises P3 and P4).

use tests::campaign::Campaign;
use tests::edits::Random;
use tests::playing::Folder;

/// Environment variable with another number of edits.
const EDITS: &str = "CONTINUO_EDITS";

/// Edits of a usual run.
const USUAL_EDITS: u32 = 1_000;

#[test]
fn a_thousand_random_edits_lose_no_sample_and_no_unnamed_state() {
    let random = Random::from_environment("a_thousand_random_edits_lose_no_sample_and_no_unnamed_state");
    let edits = std::env::var(EDITS).ok().map_or(USUAL_EDITS, |edits| edits.parse().expect("CONTINUO_EDITS is a number"));
    let folder = Folder::new();
    let mut campaign = Campaign::start(&folder, random);
    for _ in 0..edits {
        campaign.step();
    }
    campaign.finish(&folder);
}
