//! Edits to another runtime type (class T) of a runtime that is heard: a new host takes over each time, no other lane notices,
//! and nothing is left behind.

use serde_json::json;
use tests::campaign::check_bystander;
use tests::live::{BLOCK_FRAMES, LiveSession, assert_flat};
use tests::playing::Folder;
use tests::programs::{RAMP_STEP, ramp_on};

/// Edits in a row.
const EDITS: usize = 60;

/// Edits after which everything that is kept for good is there.
const FIRST_EDITS: usize = 6;

/// How long the old and the new host are heard together.
const CROSSFADE_MS: u64 = 40;
const CROSSFADE_FRAMES: usize = CROSSFADE_MS as usize * 48;

/// Frames that are played between two edits: some more than the crossfades at both ends.
const BETWEEN_FRAMES: u64 = 3 * CROSSFADE_FRAMES as u64;

/// Longer than a trial takes: then no host is kept but those that run.
const PAST_TRIALS_FRAMES: u64 = 72_000;

/// Blocks that a new host may have played, at no gain yet, when the device host hears that it has taken over.
const UNHEARD_BLOCKS: usize = 8;

/// What is heard of one host: from the first to the last frame that is not silent. A sample of the ramp is its number times
/// the step; at both ends the host is faded in and out.
fn check_episode(heard: &[f32]) {
    let middle = heard.len() / 2;
    let before = (heard[middle] / RAMP_STEP) as usize - (middle + 1);
    assert!(before.is_multiple_of(BLOCK_FRAMES) && before <= UNHEARD_BLOCKS * BLOCK_FRAMES, "{before} samples of it were not heard");
    let expected = |frame: usize| (before + frame + 1) as f32 * RAMP_STEP;
    let is_whole = |frame: &usize| heard[*frame] == expected(*frame);
    let first = (0..heard.len()).find(is_whole).expect("a host is faded in to what it plays");
    let whole = (first..heard.len()).take_while(is_whole).count();
    let fade_out = heard.len() - first - whole;
    let most = CROSSFADE_FRAMES + BLOCK_FRAMES;
    assert!(first <= most && fade_out <= most, "{first} frames of fading in, {whole} whole ones, {fade_out} of fading out");
    let is_fading = |frame: usize| heard[frame] > 0.0 && heard[frame] <= expected(frame);
    assert!((0..first).chain(first + whole..heard.len()).all(is_fading), "a fade is between silence and what is played");
}

#[test]
fn sixty_edits_of_the_runtime_type_cost_no_other_lane_a_sample_and_leave_nothing_behind() {
    let folder = Folder::new();
    let audio = ramp_on("left");
    let worker = audio.replace("AudioWorkletRuntime", "WebWorkerRuntime");
    let subject = folder.file("subject.8f4e", &audio);
    let bystander = folder.file("bystander.8f4e", ramp_on("right"));
    let mut session = LiveSession::start(&folder, &[&subject, &bystander]);
    let mut underruns = 0;
    let hosts = session.host_pids();
    let mut before = None;
    for edit in 1..=EDITS {
        session.play_on(BETWEEN_FRAMES);
        underruns += session.underruns_by_runtime()["subject"];
        let text = if edit % 2 == 1 { &worker } else { &audio };
        let params = json!({ "runtime": "subject", "text": text, "crossfadeMs": CROSSFADE_MS, "answer": "committed" });
        let report = session.peer.expect("push", params);
        assert_eq!((&report["class"], &report["state"]), (&json!("T"), &json!("committed")), "{report}");
        if edit == FIRST_EDITS {
            session.play_on(PAST_TRIALS_FRAMES);
            before = Some(session.holdings());
        }
    }
    session.play_on(PAST_TRIALS_FRAMES);
    let (before, after) = (before.expect("there were more edits"), session.holdings());
    assert_eq!(before.len(), after.len(), "as many processes as before: {before:?} {after:?}");
    assert_flat(&before, &after);
    assert_eq!(session.host_pids()["bystander"], hosts["bystander"], "only one runtime gets new hosts");
    let by_runtime = session.underruns_by_runtime();
    underruns += by_runtime["subject"];
    let heard = session.end();
    check_bystander(&heard, by_runtime["bystander"]);
    let left: Vec<f32> = heard.iter().map(|frame| frame[0]).collect();
    let episodes: Vec<&[f32]> = left.split(|sample| *sample == 0.0).filter(|episode| !episode.is_empty()).collect();
    println!("{} episodes, {underruns} underruns of the subject", episodes.len());
    if underruns == 0 {
        // The session begins and ends with the audio runtime; its last sound is faded out by its end.
        assert_eq!(episodes.len(), EDITS / 2 + 1);
        episodes[1..episodes.len() - 1].iter().for_each(|episode| check_episode(episode));
    }
}
