//! Editing while it sounds, with real processes: the null device, a recording of every sample, and the control socket.

#[path = "live/fixture.rs"]
mod fixture;

use fixture::{PATIENCE, Session, addition, left_channel, program, ramp_jumps};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a_pushed_edit_takes_effect_between_two_samples_and_keeps_its_state_and_its_host() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let host = session.call("status", json!({}))["runtimes"][0]["pid"].clone();
    let edited = program("", &addition());
    let planned = session.call("plan", json!({ "runtime": "song", "text": edited }));
    assert_eq!((planned["class"].as_str(), planned["state"].as_str()), (Some("B"), Some("planned")));
    let report = session.call("push", json!({ "runtime": "song", "text": edited, "answer": "committed" }));
    for key in ["class", "reasons", "kept", "moved", "reset", "discarded", "base"] {
        assert_eq!(report[key], planned[key], "the plan says what happens: {key}");
    }
    let values = session.call("get", json!({ "runtime": "song", "items": ["other:count", "m:n"] }));
    assert!(values["values"][0]["values"][0].as_i64() > Some(5), "the new module runs: {values}");
    session.call("push", json!({ "runtime": "song", "text": program("", ""), "answer": "committed" }));
    let status = session.call("status", json!({}));
    assert_eq!(status["runtimes"][0]["pid"], host, "edits never change the host");
    let samples = session.end();
    assert_eq!(ramp_jumps(&samples), Vec::<usize>::new());
}

#[test]
fn a_text_that_is_wrong_changes_nothing() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let before = session.call("status", json!({}))["runtimes"][0]["revision"].clone();
    let error = session.refused("push", json!({ "runtime": "song", "text": program("pusch 3", "") }));
    assert_eq!(error["data"]["name"], "compile_failed");
    assert!(error["data"]["diagnostics"][0]["line"].is_number(), "{error}");
    assert_eq!(session.call("status", json!({}))["runtimes"][0]["revision"], before);
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

#[test]
fn saving_a_file_is_an_edit_also_by_renaming() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    session.save(&program("", &addition()));
    assert_eq!(session.wait_for("editCommitted")["runtime"], "song");
    session.save_by_renaming(&program("", ""));
    session.wait_for("editCommitted");
    session.save(&program("pusch 3", ""));
    session.wait_for("editRejected");
    session.save_by_renaming(&program("int fresh", ""));
    session.wait_for("editCommitted");
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

#[test]
fn a_change_of_identity_waits_until_somebody_confirms_it() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let looped = program("", &feedback());
    let error = session.refused("push", json!({ "runtime": "song", "text": looped }));
    assert_eq!((error["data"]["name"].as_str(), error["data"]["change"]["class"].as_str()), (Some("needs_ack"), Some("C")));
    let change = error["data"]["change"]["change"].clone();
    let status = session.call("status", json!({}));
    assert_eq!(status["runtimes"][0]["waitingChange"], change);
    assert_eq!(session.call("cancel", json!({ "change": change }))["change"], change);
    assert_eq!(session.refused("confirm", json!({ "change": change }))["data"]["name"], "unknown_change");
    let error = session.refused("push", json!({ "runtime": "song", "text": looped }));
    let change = error["data"]["change"]["change"].clone();
    let report = session.call("confirm", json!({ "change": change, "answer": "committed" }));
    assert_eq!((report["state"].as_str(), report["change"].clone()), (Some("committed"), change));
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

/// Two modules that read each other.
fn feedback() -> String {
    "module one\nint* in &two:y\nint x\npush &x\npush *in\npush 1\nadd\nstore\nmoduleEnd\nmodule two\nint* in &one:x\nint y\npush &y\npush *in\nstore\nmoduleEnd".to_owned()
}

#[test]
fn an_edit_that_runs_away_is_taken_back_unheard_and_refused_until_it_changes() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let runaway = program("int endless\nloop 2000000000\npush &endless\npush endless\npush 1\nadd\nstore\nloopEnd", "");
    session.call("push", json!({ "runtime": "song", "text": runaway, "answer": "committed" }));
    let event = session.wait_for("editRolledBack");
    assert!(event["fault"]["line"].is_number(), "the line is named: {event}");
    let error = session.refused("push", json!({ "runtime": "song", "text": runaway }));
    assert_eq!(error["data"]["name"], "refused");
    let list = session.call("list", json!({ "runtime": "song" }));
    assert!(list["revisions"][0]["refused"].is_object() && list["revisions"][1]["isCurrent"] == true, "{list}");
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

#[test]
fn values_are_set_at_a_tick_and_read_back_and_unknown_ones_named() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let at = session.call("set", json!({ "runtime": "song", "values": [{ "item": "m:unused", "value": 7 }] }));
    let values = session.call("get", json!({ "runtime": "song", "items": ["m:unused"] }));
    assert_eq!(values["values"][0]["values"], json!([7]));
    assert!(values["tick"].as_u64() >= at["tick"].as_u64());
    let error = session.refused("get", json!({ "runtime": "song", "items": ["x:unused"] }));
    assert_eq!(error["data"]["known"], json!(["m:unused"]));
    assert_eq!(session.refused("get", json!({ "runtime": "sing", "items": ["n"] }))["data"]["known"], json!(["song"]));
    session.end();
}

#[test]
fn a_runtime_is_pushed_mixed_and_stopped_and_the_others_do_not_notice() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let report = session.call("push", json!({ "runtime": "two", "text": silent(), "answer": "committed" }));
    assert_eq!((report["class"].as_str(), report["state"].as_str()), (Some("load"), Some("committed")));
    assert_eq!(session.call("gain", json!({ "runtime": "two", "gain": 0.5 }))["gain"], 0.5);
    assert_eq!(session.call("mute", json!({ "runtime": "two", "on": true }))["isAudible"], false);
    assert_eq!(session.call("stop", json!({ "runtime": "two" }))["state"], "stopped");
    let status = session.call("status", json!({}));
    assert_eq!((status["runtimes"][0]["state"].as_str(), status["runtimes"][1]["state"].as_str()), (Some("running"), Some("stopped")));
    session.call("push", json!({ "runtime": "two", "text": silent(), "answer": "committed" }));
    assert_eq!(session.call("status", json!({ "runtime": "two" }))["runtimes"][0]["generation"], 2);
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

/// An audio program that never writes its buffers.
fn silent() -> String {
    "8f4e/v1\n\nentry main\nmodule m\n; @config runtime AudioWorkletRuntime\n; @config audioRuntime.audioOutBufferLAddress m:left\n\
     float[] left 128\nint unused\nmoduleEnd\nentryEnd\n\nfunction buffer\n#export\ncall main\nfunctionEnd\n"
        .to_owned()
}

#[test]
fn the_newest_of_many_edits_wins_and_each_is_answered() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let descriptors = session.descriptors();
    let texts: Vec<String> = (0..60).map(|number| program(&format!("int fresh{} {number}", number % 7), "")).collect();
    let outcomes = session.call_all("push", texts.iter().map(|text| json!({ "runtime": "song", "text": text, "answer": "committed" })));
    let names: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome["error"]["data"]["name"].as_str()).collect();
    assert!(names.iter().all(|name| *name == "superseded"), "{names:?}");
    assert!(outcomes.iter().filter(|outcome| outcome["result"]["state"] == "committed").count() > 0);
    assert_eq!(outcomes.last().map(|last| last["result"]["state"].clone()), Some(json!("committed")), "the newest is in effect");
    // As long as a revision is on trial, so is what it goes back to.
    let deadline = Instant::now() + PATIENCE;
    while session.descriptors() > descriptors + 2 {
        assert!(Instant::now() < deadline, "descriptors are left behind: {descriptors}, then {}", session.descriptors());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

#[test]
fn a_rollback_goes_back_to_the_named_revision() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    let first = session.call("list", json!({ "runtime": "song" }))["revisions"][0]["revision"].clone();
    session.call("push", json!({ "runtime": "song", "text": program("", &addition()), "answer": "committed" }));
    let report = session.call("rollback", json!({ "runtime": "song", "revision": first, "answer": "committed" }));
    assert_eq!(report["discarded"][0]["item"], "other:count");
    assert_eq!(session.refused("rollback", json!({ "runtime": "song", "revision": "00000000" }))["data"]["name"], "unknown_revision");
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

#[test]
fn another_runtime_type_gets_a_new_host_and_frozen_changes_wait() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    session.call("push", json!({ "runtime": "two", "text": silent(), "answer": "committed" }));
    let audio = session.call("status", json!({ "runtime": "two" }))["runtimes"][0]["pid"].clone();
    let worker = silent().replace("AudioWorkletRuntime", "WebWorkerRuntime");
    let report = session.call("push", json!({ "runtime": "two", "text": worker, "answer": "committed" }));
    assert_eq!(report["class"], "T");
    let status = session.call("status", json!({ "runtime": "two" }));
    assert_ne!(status["runtimes"][0]["pid"], audio);
    assert_eq!((status["runtimes"][0]["runtimeType"].as_str(), status["runtimes"][0]["generation"].as_u64()), (Some("worker"), Some(2)));
    let report = session.call("push", json!({ "runtime": "song", "text": program("int later", ""), "boundary": "freeze" }));
    assert_eq!(report["state"], "pending");
    let change = report["change"].clone();
    assert_eq!(session.call("status", json!({ "runtime": "song" }))["runtimes"][0]["waitingChange"], change);
    session.call("cancel", json!({ "change": change }));
    assert_eq!(session.call("status", json!({ "runtime": "song" }))["runtimes"][0]["waitingChange"], json!(null));
    assert_eq!(ramp_jumps(&session.end()), Vec::<usize>::new());
}

#[test]
fn a_recording_replays_to_the_same_samples_every_time() {
    let mut session = Session::play(&program("", ""));
    session.wait_for("sounding");
    session.call("push", json!({ "runtime": "song", "text": program("", &addition()), "answer": "committed" }));
    let path = session.path("take.continuo").display().to_string();
    assert_eq!(session.call("record", json!({ "path": path }))["isRecording"], true);
    session.call("set", json!({ "runtime": "song", "values": [{ "item": "m:n", "value": 1000 }] }));
    session.call("set", json!({ "runtime": "song", "values": [{ "item": "m:gain", "value": 0.5 }], "rampMs": 40 }));
    let louder = program("", &addition()).replace("int unused", "int unused 9");
    assert_eq!(session.call("push", json!({ "runtime": "song", "text": louder, "answer": "committed" }))["class"], "A");
    session.call("freeze", json!({ "runtime": "song" }));
    session.call("run", json!({ "runtime": "song" }));
    let runaway = program("int endless\nloop 2000000000\npush &endless\npush endless\npush 1\nadd\nstore\nloopEnd", "");
    session.call("push", json!({ "runtime": "song", "text": runaway, "answer": "committed" }));
    session.wait_for("editRolledBack");
    session.call("push", json!({ "runtime": "song", "text": program("int last", ""), "answer": "committed" }));
    session.call("restart", json!({ "runtime": "song", "reset": true }));
    session.call("get", json!({ "runtime": "song", "items": ["m:n"] }));
    (0..12).for_each(|_| drop(session.wait_for("meter")));
    assert_eq!(session.call("record", json!({}))["isRecording"], false);
    let live = session.finish();
    let replay = |name: &str| {
        let wav = session.path(name);
        (session.run(&["replay", &path, "-o", wav.to_str().unwrap()]), left_channel(&wav))
    };
    let ((first, samples), (second, _)) = (replay("one.wav"), replay("two.wav"));
    assert_eq!(first, second, "two replays have the same hash");
    let start = live.iter().position(|sample| *sample != 0.0).unwrap();
    let begun = samples.iter().position(|sample| *sample != 0.0).unwrap();
    // The live recording ends later, with a fade-out; both may end while the last ticks were still on their way.
    let count = (samples.len() - begun).min(live.len() - start).saturating_sub(4_800);
    assert!(count > 10_000, "enough was played to compare: {count}");
    let differs = (0..count).find(|&i| live[start + i] != samples[begun + i]);
    assert_eq!(differs, None, "the replay is what was heard");
}
