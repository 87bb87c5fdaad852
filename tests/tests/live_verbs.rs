//! What clients can do to a session beside pushing edits, in whole sessions: real processes, and what was heard of it.

use serde_json::{Value, json};
use tests::live::{BLOCK_FRAMES, LiveSession};
use tests::playing::{Folder, text};
use tests::programs::{RAMP_STEP, audio_program, constant, ramp, silence};

/// Frames that are played on where something is to be heard for a while: well more than every fade.
const A_WHILE_FRAMES: u64 = 9_600;

/// What was heard on the left, without repetitions.
fn steps_on_the_left(heard: &[[f32; 2]]) -> Vec<f32> {
    let mut steps: Vec<f32> = heard.iter().map(|frame| frame[0]).collect();
    steps.dedup();
    steps
}

/// Whether these levels were held one after the other, whatever lies between.
fn are_heard_in_turn(heard: &[[f32; 2]], levels: &[f32]) -> bool {
    let mut runs = heard.chunk_by(|one, next| one[0] == next[0]).filter(|run| run.len() >= BLOCK_FRAMES);
    levels.iter().all(|level| runs.any(|run| run[0][0] == *level))
}

/// A program that gives this constant on the right.
fn constant_on_the_right(level: f32) -> String {
    constant(level, "").replace("push &left", "push &right")
}

/// Waits until the revision that plays has passed its trial.
fn wait_until_good(session: &mut LiveSession, runtime: &str) {
    session.wait_until("what plays to pass its trial", |peer| {
        let list = peer.expect("list", json!({ "runtime": runtime }));
        let revisions = list["revisions"].as_array().expect("a list of revisions").iter();
        revisions.filter(|revision| revision["isCurrent"] == true).any(|revision| revision["isGood"] == true)
    });
}

fn push(session: &mut LiveSession, runtime: &str, text: &str) -> Value {
    session.peer.expect("push", json!({ "runtime": runtime, "text": text, "acknowledge": true, "answer": "committed" }))
}

fn number(session: &mut LiveSession, runtime: &str, item: &str) -> f64 {
    let answer = session.peer.expect("get", json!({ "runtime": runtime, "items": [item] }));
    answer["values"][0]["values"][0].as_f64().unwrap_or_else(|| panic!("{answer}"))
}

// ---------------------------------------------------------------------------------------------------------- files

#[test]
fn a_watched_file_is_an_edit_whenever_it_is_saved_until_it_is_unwatched() {
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.125, ""));
    let other = folder.file("other.8f4e", constant_on_the_right(0.125));
    let mut session = LiveSession::start(&folder, &[&tone]);
    session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
    let answer = session.peer.expect("watch", json!({ "runtime": "other", "path": text(&other) }));
    assert_eq!(answer, json!({ "runtime": "other", "path": text(&other) }));
    let is_committed =
        |runtime: &'static str| move |event: &Value| event["runtime"] == runtime && event["progress"]["state"] == "committed";
    session.peer.event("a watched file to be played", is_committed("other"));
    assert_eq!(session.runtime("other")["watching"], text(&other));
    folder.file("other.8f4e", constant_on_the_right(0.25));
    session.peer.event("a watched file that was saved to be played", is_committed("other"));
    let played = session.runtime("other")["revision"].clone();
    let answer = session.peer.expect("unwatch", json!({ "runtime": "other" }));
    assert_eq!(answer, json!({ "runtime": "other", "path": null }));
    assert_eq!(session.runtime("other")["watching"], Value::Null);
    // The other file is followed on: once it is heard, this one would have been.
    folder.file("other.8f4e", constant_on_the_right(0.5));
    folder.file("tone.8f4e", constant(0.25, ""));
    let about = |event: &Value| event["runtime"] == "other" || is_committed("tone")(event);
    let event = session.peer.event("the other file to be played", about);
    assert_eq!(event["runtime"], "tone", "an unwatched file is no edit: {event}");
    assert_eq!(session.runtime("other")["revision"], played);
    session.end();
}

#[test]
fn a_recording_tells_what_it_holds_also_where_it_is_torn() {
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.125, ""));
    let mut session = LiveSession::start(&folder, &[&tone]);
    let path = folder.path().join("take.continuo");
    let first = session.runtime("tone")["revision"].clone();
    let recording = session.peer.expect("record", json!({ "path": text(&path) }));
    assert_eq!((&recording["isRecording"], &recording["fromFrame"]), (&json!(true), &json!(0)));
    let second = push(&mut session, "tone", &constant(0.25, ""))["revision"].clone();
    session.peer.expect("set", json!({ "runtime": "tone", "values": [{ "item": "m:level", "value": 0.5 }] }));
    session.play_on(A_WHILE_FRAMES);
    let ended = session.peer.expect("record", json!({}));
    assert_eq!(ended["isRecording"], false, "{ended}");
    let info = session.peer.expect("replayInfo", json!({ "path": text(&path) }));
    assert_eq!((&info["path"], &info["isTorn"]), (&json!(text(&path)), &json!(false)), "{info}");
    assert!(info["frames"].as_u64() >= Some(A_WHILE_FRAMES) && info["inputs"].as_u64() >= Some(1), "{info}");
    assert_eq!(info["runtimes"].as_array().map(Vec::len), Some(1), "{info}");
    let runtime = &info["runtimes"][0];
    assert_eq!((&runtime["runtime"], &runtime["runtimeType"]), (&json!("tone"), &json!("audio")));
    assert_eq!(runtime["revisions"], json!([first, second]), "{info}");
    let whole = std::fs::read(&path).expect("the recording can be read");
    let torn = folder.file("torn.continuo", &whole[..whole.len() - 3]);
    let info = session.peer.expect("replayInfo", json!({ "path": text(&torn) }));
    assert_eq!(info["isTorn"], true, "{info}");
    let nowhere = folder.path().join("nowhere.continuo");
    let failure = session.peer.call("replayInfo", json!({ "path": text(&nowhere) })).expect_err("there is no such file");
    assert_eq!((failure.code, failure.name.as_str()), (13, "file_failed"), "{failure:?}");
    session.end();
}

// ---------------------------------------------------------------------------------------------------------- mixing

#[test]
fn a_soloed_runtime_silences_the_others_until_it_is_soloed_no_more() {
    let folder = Folder::new();
    let left = folder.file("left.8f4e", constant(0.125, ""));
    let right = folder.file("right.8f4e", constant_on_the_right(0.25));
    let mut session = LiveSession::start(&folder, &[&left, &right]);
    session.play_on(A_WHILE_FRAMES);
    let mix = session.peer.expect("solo", json!({ "runtime": "left", "on": true }));
    assert_eq!((&mix["isSoloed"], &mix["isAudible"]), (&json!(true), &json!(true)));
    assert_eq!(session.runtime("right")["mix"]["isAudible"], false);
    session.play_on(A_WHILE_FRAMES);
    session.peer.expect("solo", json!({ "runtime": "left", "on": false }));
    assert_eq!(session.runtime("right")["mix"]["isAudible"], true);
    session.play_on(A_WHILE_FRAMES);
    let underruns = session.underruns_by_runtime();
    let heard = session.end();
    let swapped: Vec<[f32; 2]> = heard.iter().map(|frame| [frame[1], frame[0]]).collect();
    assert!(are_heard_in_turn(&swapped, &[0.25, 0.0, 0.25]), "the other one is silent meanwhile");
    let played = &heard[heard.iter().position(|frame| frame[1] == 0.25).expect("it was heard")..heard.len() - A_WHILE_FRAMES as usize / 2];
    assert!(underruns["left"] > 0 || played.iter().all(|frame| frame[0] == 0.125), "the soloed one goes on: {underruns:?}");
}

#[test]
fn panic_is_silence_in_which_everything_plays_on() {
    let folder = Folder::new();
    let counting = "int n\npush &n\npush n\npush 1\nadd\nstore";
    let left = folder.file("left.8f4e", constant(0.125, counting));
    let right = folder.file("right.8f4e", constant_on_the_right(0.25));
    let mut session = LiveSession::start(&folder, &[&left, &right]);
    session.play_on(A_WHILE_FRAMES);
    let answer = session.peer.expect("panic", json!({}));
    assert_eq!(answer, json!({ "runtimes": ["left", "right"] }));
    for runtime in ["left", "right"] {
        let status = session.runtime(runtime);
        assert_eq!((&status["mix"]["isAudible"], &status["state"]), (&json!(false), &json!("running")), "{status}");
    }
    let before = number(&mut session, "left", "m:n");
    session.play_on(A_WHILE_FRAMES);
    assert!(number(&mut session, "left", "m:n") > before, "time goes on");
    session.peer.expect("mute", json!({ "runtime": "left", "on": false }));
    session.play_on(A_WHILE_FRAMES);
    let heard = session.end();
    assert!(are_heard_in_turn(&heard, &[0.125, 0.0, 0.125]), "it is silent meanwhile: {:?}", steps_on_the_left(&heard).len());
    let quiet = heard.iter().rposition(|frame| frame[1] != 0.0).expect("the right one was heard");
    assert!(heard[quiet..].iter().any(|frame| frame[0] == 0.125), "what nobody lets sound again stays silent");
}

// ------------------------------------------------------------------------------------------------------ boundaries

#[test]
fn an_edit_waits_for_the_programs_pulse_and_takes_effect_in_the_tick_after_it_rose() {
    let folder = Folder::new();
    let with_pulse = |level: f32| constant(level, "; @config pulse m:beat\nint beat");
    let tone = folder.file("tone.8f4e", with_pulse(0.125));
    let mut session = LiveSession::start(&folder, &[&tone]);
    session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
    let set = |beat: u32, session: &mut LiveSession| {
        let values = json!([{ "item": "m:beat", "value": beat }]);
        session.peer.expect("set", json!({ "runtime": "tone", "values": values }))["tick"].as_u64().expect("a tick")
    };
    // A pulse that is high already is none.
    set(1, &mut session);
    let report = session.peer.expect("push", json!({ "runtime": "tone", "text": with_pulse(0.25), "boundary": "pulse" }));
    assert_eq!(report["boundaries"], json!(["frame", "pulse", "freeze"]));
    assert_eq!((&report["state"], &report["boundary"]), (&json!("pending"), &json!("pulse")));
    let change = report["change"].as_u64().expect("a change has a number");
    session.play_on(A_WHILE_FRAMES);
    assert_eq!(session.runtime("tone")["revision"], report["base"], "nothing changes before the pulse");
    set(0, &mut session);
    session.play_on(A_WHILE_FRAMES);
    let rose = set(1, &mut session);
    let committed = session.peer.progress(change, &["committed", "rejected", "superseded", "cancelled"]);
    assert_eq!((&committed["state"], &committed["tick"]), (&json!("committed"), &json!(rose + 1)), "{committed}");
    session.play_on(A_WHILE_FRAMES);
    assert!(are_heard_in_turn(&session.end(), &[0.125, 0.25]));
}

#[test]
fn a_program_without_a_pulse_has_no_such_boundary() {
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.125, ""));
    let mut session = LiveSession::start(&folder, &[&tone]);
    let params = json!({ "runtime": "tone", "text": constant(0.25, ""), "boundary": "pulse" });
    let failure = session.peer.call("push", params).expect_err("there is no pulse to wait for");
    assert_eq!((failure.code, failure.name.as_str()), (10, "unknown_boundary"), "{failure:?}");
    session.end();
}

#[test]
fn a_crossfade_goes_from_the_old_to_the_new_sound_frame_by_frame() {
    const FADE_MS: u64 = 100;
    const FADE_FRAMES: usize = FADE_MS as usize * 48;
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.25, "float[] line 8"));
    let mut session = LiveSession::start(&folder, &[&tone]);
    session.play_on(A_WHILE_FRAMES);
    // An array that is retyped loses its identity: class C.
    let params = json!({ "runtime": "tone", "text": constant(0.75, "int[] line 8"), "crossfadeMs": FADE_MS });
    let failure = session.peer.call("push", params).expect_err("a loss is asked about");
    assert_eq!(failure.name, "needs_ack", "{failure:?}");
    let change = failure.data["change"]["change"].clone();
    let report = session.peer.expect("confirm", json!({ "change": change, "crossfadeMs": FADE_MS, "answer": "committed" }));
    assert_eq!((&report["class"], &report["state"]), (&json!("C"), &json!("committed")));
    session.play_on(2 * A_WHILE_FRAMES);
    let underruns = session.underruns();
    let heard = session.end();
    if underruns > 0 {
        return assert!(are_heard_in_turn(&heard, &[0.25, 0.75]));
    }
    let first = heard.iter().position(|frame| frame[0] > 0.25 && frame[0] < 0.26).expect("the fade was heard");
    for (frame, sample) in heard[first..first + FADE_FRAMES].iter().enumerate() {
        let gain = (frame + 1) as f32 / FADE_FRAMES as f32;
        assert_eq!(sample[0], 0.75 * gain + 0.25 * (1.0 - gain), "frame {frame} of the fade");
    }
    assert_eq!(heard[first + FADE_FRAMES][0], 0.75);
}

#[test]
fn time_that_was_stopped_goes_on_where_it_was() {
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.125, "int n\npush &n\npush n\npush 1\nadd\nstore"));
    let mut session = LiveSession::start(&folder, &[&tone]);
    let frozen = session.command(&folder, &["freeze", "tone", "--json"]);
    assert_eq!((&frozen["state"], &frozen["runtime"]), (&json!("frozen"), &json!("tone")));
    let before = number(&mut session, "tone", "m:n");
    session.play_on(A_WHILE_FRAMES);
    assert_eq!(number(&mut session, "tone", "m:n"), before, "time stands still");
    assert_eq!(session.runtime("tone")["state"], "frozen");
    let running = session.command(&folder, &["unfreeze", "tone", "--json"]);
    assert_eq!(running["state"], "running");
    session.play_on(A_WHILE_FRAMES);
    let after = number(&mut session, "tone", "m:n");
    assert!(after > before, "it goes on");
    session.end();
}

// ------------------------------------------------------------------------------------------------------- going back

/// A constant whose module divides by zero after so many samples.
fn bomb(level: f32, fuse: u32) -> String {
    let fuse = format!("int fuse {fuse}\npush &fuse\npush fuse\npush 1\nsub\nstore\npush fuse\npush 0\nlessThan\nif\n");
    constant(level, &format!("{fuse}push &fuse\npush -2147483648\npush -1\ndiv\nstore\nifEnd"))
}

#[test]
fn a_revision_that_failed_plays_again_only_by_force() {
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.125, ""));
    let mut session = LiveSession::start(&folder, &[&tone]);
    wait_until_good(&mut session, "tone");
    session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
    let good = session.runtime("tone")["revision"].clone();
    let is_back = |event: &Value| event["progress"]["state"] == "rolledBack";
    let params = |force: bool| json!({ "runtime": "tone", "text": bomb(0.25, 4_800), "force": force, "answer": "committed" });
    session.peer.expect("push", params(false));
    assert_eq!(session.peer.event("the failure", is_back)["progress"]["to"], good);
    let failure = session.peer.call("push", params(false)).expect_err("it has failed");
    assert_eq!((failure.code, failure.name.as_str()), (8, "refused"), "{failure:?}");
    let plan = session.peer.expect("plan", json!({ "runtime": "tone", "text": bomb(0.25, 4_800) }));
    assert!(!plan["refused"].is_null(), "the plan says that it failed before: {plan}");
    assert_eq!(session.peer.expect("push", params(true))["state"], "committed");
    assert_eq!(session.peer.event("the second failure", is_back)["progress"]["to"], good);
    assert_eq!(session.runtime("tone")["revision"], good);
    session.play_on(A_WHILE_FRAMES);
    assert!(are_heard_in_turn(&session.end(), &[0.125, 0.25, 0.125, 0.25, 0.125]));
}

#[test]
fn a_rollback_without_a_revision_goes_back_one_and_the_next_one_further() {
    let folder = Folder::new();
    let tone = folder.file("tone.8f4e", constant(0.125, ""));
    let mut session = LiveSession::start(&folder, &[&tone]);
    let mut revisions = vec![session.runtime("tone")["revision"].clone()];
    for level in [0.25, 0.5] {
        wait_until_good(&mut session, "tone");
        revisions.push(push(&mut session, "tone", &constant(level, ""))["revision"].clone());
    }
    wait_until_good(&mut session, "tone");
    for (level, revision) in [(0.25, &revisions[1]), (0.125, &revisions[0])] {
        let report = session.peer.expect("rollback", json!({ "runtime": "tone", "answer": "committed" }));
        assert_eq!(&report["revision"], revision, "{report}");
        assert_eq!(number(&mut session, "tone", "m:level"), level);
    }
    let failure = session.peer.call("rollback", json!({ "runtime": "tone" })).expect_err("there is nothing further back");
    assert_eq!(failure.name, "unknown_revision", "{failure:?}");
    session.play_on(A_WHILE_FRAMES);
    assert!(are_heard_in_turn(&session.end(), &[0.125, 0.25, 0.5, 0.25, 0.125]));
}

#[test]
fn an_edit_to_another_runtime_type_that_fails_in_its_first_second_gives_the_old_sound_back() {
    let folder = Folder::new();
    let ramp = ramp();
    let subject = folder.file("subject.8f4e", &ramp);
    let bystander = folder.file("bystander.8f4e", silence());
    let mut session = LiveSession::start(&folder, &[&subject, &bystander]);
    wait_until_good(&mut session, "subject");
    session.peer.expect("subscribe", json!({ "topics": ["changes"] }));
    let (before, hosts) = (session.runtime("subject"), session.host_pids());
    let failing = audio_program("int n\npush &n\npush -2147483648\npush -1\ndiv\nstore").replace("AudioWorkletRuntime", "WebWorkerRuntime");
    let report = push(&mut session, "subject", &failing);
    assert_eq!(report["class"], "T", "{report}");
    let back = session.peer.event("the way back", |event| event["progress"]["state"] == "rolledBack");
    assert_eq!(back["progress"]["to"], before["revision"], "{back}");
    let after = session.runtime("subject");
    for key in ["runtimeType", "revision", "state"] {
        assert_eq!(after[key], before[key], "{key}: {after}");
    }
    assert_eq!(session.host_pids(), hosts, "the old host goes on, and no other is touched");
    session.play_on(A_WHILE_FRAMES);
    let heard = session.end();
    // It went on from where it was: what follows the silence is the ramp's next step, but for the fade at its seam.
    let sounding = heard.iter().rposition(|frame| frame[0] != 0.0).expect("it is heard again") - A_WHILE_FRAMES as usize / 2;
    let ramps = heard[sounding - 100..sounding].windows(2).all(|pair| pair[1][0] - pair[0][0] == RAMP_STEP);
    assert!(ramps, "the old sound comes back");
    let played = heard.iter().filter(|frame| frame[0] != 0.0).count() as f32;
    assert!(heard[sounding][0] <= played * RAMP_STEP, "no sample was left out");
}
