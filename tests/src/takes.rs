//! Takes: plays of a ramp in which hosts are killed, and what may be said of them afterwards.
//!
//! A take is a row of stretches. In some a host is killed, in others nobody is: what is missed there is the machine's doing,
//! and the measure of it. So a take is thrown away only where the machine has shown by itself that it was late, never because
//! somebody missed a block after a kill. Pure functions, but for what they read of a play.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::live::{BLOCK_FRAMES, read_wav};
use crate::playing::Playing;
use crate::programs::RAMP_STEP;

/// Frames at the end of a recording that may be part of its fade-out.
const FADE_OUT_FRAMES: usize = 4_800;

/// Samples after which a ramp begins anew.
const RAMP_SAMPLES: usize = 1 << 20;

/// Blocks that were not there in time, by runtime.
pub type Missed = BTreeMap<String, u64>;

/// A part of a take.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The runtime whose host was killed in it, if one was.
    pub hit: Option<String>,
    /// What was missed in it.
    pub missed: Missed,
}

/// What may be said of a take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody but runtimes that were hit has missed a block.
    Undisturbed,
    /// Blocks came too late while nobody was killed: what is missed elsewhere in this take proves nothing.
    MachineWasLate(String),
    /// A runtime that was not hit missed blocks after a kill, and at no other time.
    Disturbed(String),
}

/// Judges each lane by itself: what a runtime missed whose own host was killed is told elsewhere, as its gap.
pub fn judge(stretches: &[Stretch]) -> Verdict {
    let missed_by_others = |stretch: &Stretch| -> Vec<(String, u64)> {
        let others = stretch.missed.iter().filter(|(runtime, missed)| **missed > 0 && stretch.hit.as_ref() != Some(*runtime));
        others.map(|(runtime, missed)| (runtime.clone(), *missed)).collect()
    };
    let late = stretches.iter().filter(|stretch| stretch.hit.is_none()).find(|stretch| !missed_by_others(stretch).is_empty());
    if let Some(stretch) = late {
        return Verdict::MachineWasLate(format!("missed while nobody was killed: {:?}", missed_by_others(stretch)));
    }
    let disturbed = stretches.iter().find(|stretch| !missed_by_others(stretch).is_empty());
    disturbed.map_or(Verdict::Undisturbed, |stretch| {
        Verdict::Disturbed(format!("missed by others after the death of {:?}: {:?}", stretch.hit, missed_by_others(stretch)))
    })
}

/// What each lane has missed by now, as the newest meter says that the play has told.
pub fn missed_so_far(playing: &Playing) -> Missed {
    let meter = playing.seen().iter().rev().find(|event| event["event"] == "meter");
    let lanes = meter.and_then(|meter| meter["lanes"].as_array()).into_iter().flatten();
    let missed = |lane: &Value| Some((lane["runtime"].as_str()?.to_owned(), lane["underruns"].as_u64()?));
    lanes.filter_map(missed).collect()
}

/// What was missed from one time to another.
pub fn missed_between(before: &Missed, after: &Missed) -> Missed {
    after.iter().map(|(runtime, missed)| (runtime.clone(), missed - before.get(runtime).copied().unwrap_or(0))).collect()
}

/// Blocks of a recording, counted from the ramp's first, in which the ramp is not exactly what it must be there: neither lost,
/// altered nor shifted. The fade-out is left out.
pub fn odd_blocks(wav: &Path) -> Vec<usize> {
    odd_ramp_blocks(&read_wav(wav))
}

/// The same of the frames of a recording.
pub fn odd_ramp_blocks(frames: &[[f32; 2]]) -> Vec<usize> {
    let start = frames.iter().position(|frame| frame[0] != 0.0).expect("something was recorded");
    let heard = &frames[start..frames.len() - FADE_OUT_FRAMES];
    assert!(heard.len() > 10_000, "there is something to compare");
    odd_blocks_of(heard)
}

fn odd_blocks_of(heard: &[[f32; 2]]) -> Vec<usize> {
    let is_exact = |(index, frame): (usize, &[f32; 2])| {
        let value = ((index + 1) % RAMP_SAMPLES) as f32 * RAMP_STEP;
        *frame == [value, -value]
    };
    let is_odd = |(block, frames): (usize, &[[f32; 2]])| {
        let is_whole = frames.iter().enumerate().all(|(index, frame)| is_exact((block * BLOCK_FRAMES + index, frame)));
        (!is_whole).then_some(block)
    };
    heard.chunks_exact(BLOCK_FRAMES).enumerate().filter_map(is_odd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(hit: Option<&str>, missed: &[(&str, u64)]) -> Stretch {
        let missed = missed.iter().map(|(runtime, missed)| ((*runtime).to_owned(), *missed)).collect();
        Stretch { hit: hit.map(str::to_owned), missed }
    }

    #[test]
    fn a_bystander_that_misses_a_block_after_a_kill_is_disturbed_in_however_few_takes() {
        let take = [stretch(None, &[("a", 0), ("b", 0)]), stretch(Some("a"), &[("a", 3), ("b", 1)])];
        assert!(matches!(judge(&take), Verdict::Disturbed(_)));
    }

    #[test]
    fn what_the_runtime_misses_that_was_hit_is_its_own_gap() {
        let take = [stretch(None, &[("a", 0), ("b", 0)]), stretch(Some("a"), &[("a", 3), ("b", 0)])];
        assert_eq!(judge(&take), Verdict::Undisturbed);
    }

    #[test]
    fn only_what_is_missed_while_nobody_is_killed_speaks_against_the_machine() {
        let take = [stretch(None, &[("a", 0), ("b", 2)]), stretch(Some("a"), &[("a", 0), ("b", 1)])];
        assert!(matches!(judge(&take), Verdict::MachineWasLate(_)));
    }

    #[test]
    fn blocks_that_are_altered_or_shifted_are_odd() {
        let ramp = |index: usize| ((index + 1) % RAMP_SAMPLES) as f32 * RAMP_STEP;
        let mut frames: Vec<[f32; 2]> = (0..20 * BLOCK_FRAMES).map(|index| [ramp(index), -ramp(index)]).collect();
        assert_eq!(odd_blocks_of(&frames), Vec::<usize>::new());
        frames[7 * BLOCK_FRAMES + 3][1] = 0.0;
        assert_eq!(odd_blocks_of(&frames), [7]);
        frames.remove(18 * BLOCK_FRAMES);
        assert_eq!(odd_blocks_of(&frames), [7, 18]);
    }
}
