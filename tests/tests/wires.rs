//! Control wires through the whole system: made by clients and session files, kept through kills, edits, changes of the runtime
//! type and the death of the supervisor, recorded and replayed.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::live::{BLOCK_FRAMES, LiveSession, read_wav};
use tests::playing::{Folder, Playing, run, send_signal, succeed, text};
use tests::programs::{audio_program, constant};
use tests::rpc::Peer;

/// What the item holds that follows, before it does.
const DEFAULT: f32 = 0.25;

/// What the source's item gains in a tick: its program counts samples, in steps of 2^-20.
const STEP: f32 = BLOCK_FRAMES as f32 / 1_048_576.0;

/// Frames after the end of which a recording may be faded out.
const FADE_OUT_FRAMES: usize = 4_800;

/// Plays in which a takeover came too late prove nothing about what was heard: then there is another one.
const TAKES: usize = 5;

/// Silent; its item `m:out` grows by [`STEP`] each tick. These lines stand before it.
fn source(before: &str) -> String {
    audio_program(&format!(
        "{before}\nint n\npush &n\npush n\npush 1\nadd\npush 0xFFFFF\nand\nstore
float out\npush &out\npush n\ncastToFloat\npush 0.00000095367431640625\nmul\nstore"
    ))
}

fn wire(to: (&str, &str), from: (&str, &str)) -> Value {
    let end = |(runtime, item): (&str, &str)| json!({ "runtime": runtime, "item": item });
    json!({ "to": end(to), "from": end(from) })
}

fn value_of(peer: &mut Peer, runtime: &str, item: &str) -> f64 {
    let answer = peer.expect("get", json!({ "runtime": runtime, "items": [item] }));
    answer["values"][0]["values"][0].as_f64().expect("a number")
}

/// Waits until the item that follows has moved on twice.
fn wait_until_it_follows(session: &mut LiveSession) {
    for _ in 0..2 {
        let before = value_of(&mut session.peer, "follower", "level");
        session.wait_until("the item to follow", |peer| value_of(peer, "follower", "level") != before);
    }
}

fn waits_because(peer: &mut Peer) -> Value {
    peer.expect("wires", json!({}))["wires"][0]["waitsBecause"].clone()
}

/// A follower and its source, not yet wired.
fn pair(folder: &Folder) -> LiveSession {
    let follower = folder.file("follower.8f4e", constant(DEFAULT, ""));
    let source = folder.file("source.8f4e", source(""));
    LiveSession::start(folder, &[&follower, &source])
}

#[test]
fn a_wire_is_made_listed_refuses_a_set_and_is_taken_down() {
    let folder = Folder::new();
    let mut session = pair(&folder);
    assert_eq!(session.command(&folder, &["wires", "--json"]), json!({ "wires": [] }));
    let made = session.command(&folder, &["wire", "follower.level=source.m:out", "--json"]);
    let (to, from) = (json!({ "runtime": "follower", "item": "m:level" }), json!({ "runtime": "source", "item": "m:out" }));
    assert_eq!((&made["to"], &made["from"]), (&to, &from), "{made}");
    wait_until_it_follows(&mut session);
    let live = json!({ "to": to, "from": from, "isLive": true, "waitsBecause": null });
    assert_eq!(session.peer.expect("wires", json!({})), json!({ "wires": [live] }));
    assert_eq!(session.peer.expect("status", json!({}))["wires"], json!([live]));
    for item in ["level", "m:level"] {
        let set = json!({ "runtime": "follower", "values": [{ "item": "m:position", "value": 0 }, { "item": item, "value": 0.5 }] });
        let refused = session.peer.call("set", set).expect_err("it follows another item");
        assert_eq!((refused.name.as_str(), refused.data["field"].as_str()), ("wrong_state", Some("params.values[1]")));
        assert!(refused.message.contains("unwire follower.m:level"), "{}", refused.message);
    }
    let taken = session.command(&folder, &["unwire", "follower.level", "--json"]);
    assert_eq!(taken, json!({ "to": to, "from": from }));
    let set = json!({ "runtime": "follower", "values": [{ "item": "level", "value": 0.5 }] });
    session.peer.expect("set", set);
    session.play_on(9_600);
    assert_eq!(value_of(&mut session.peer, "follower", "level"), 0.5);
    session.end();
}

#[test]
fn what_cannot_be_wired_is_refused_with_what_there_is() {
    let folder = Folder::new();
    let mut session = pair(&folder);
    let mut refusal = |to, from| {
        let failure = session.peer.call("wire", wire(to, from)).expect_err("it cannot be wired");
        (failure.name, failure.data["field"].as_str().unwrap_or_default().to_owned(), failure.data["known"].to_string(), failure.message)
    };
    let (level, out) = (("follower", "m:level"), ("source", "m:out"));
    let (name, field, known, _) = refusal(("folower", "m:level"), out);
    assert_eq!((name.as_str(), field.as_str()), ("unknown_runtime", "params.to.runtime"));
    assert!(known.contains("follower"), "{known}");
    let (name, field, known, _) = refusal(("follower", "m:levle"), out);
    assert_eq!((name.as_str(), field.as_str()), ("unknown_item", "params.to.item"));
    assert!(known.contains("m:level"), "{known}");
    let (name, field, known, _) = refusal(level, ("source", "outt"));
    assert_eq!((name.as_str(), field.as_str()), ("unknown_item", "params.from.item"));
    assert!(known.contains("m:out"), "{known}");
    let (name, _, _, message) = refusal(level, ("source", "m:left"));
    assert!(name == "invalid_params" && message.contains("m:left[0]"), "{name}: {message}");
    let (name, field, _, _) = refusal(level, ("follower", "level"));
    assert_eq!((name.as_str(), field.as_str()), ("invalid_params", "params.from"));
    let failure = session.peer.call("unwire", json!({ "to": { "runtime": "follower", "item": "level" } })).expect_err("there is no wire");
    assert_eq!(failure.name, "unknown_item");
    for arguments in [["wire", "follower.level"], ["wire", "level=source.out"], ["unwire", "level"]] {
        let output = run(&folder, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    assert_eq!(session.peer.expect("wires", json!({})), json!({ "wires": [] }));
    session.end();
}

#[test]
fn a_wire_waits_for_its_ends_and_takes_up_its_work_when_they_are_there_again() {
    let folder = Folder::new();
    let mut session = pair(&folder);
    session.peer.expect("wire", wire(("follower", "level"), ("source", "out")));
    wait_until_it_follows(&mut session);
    // What it follows is moved by an edit, is gone after another one, comes back as another type.
    let push = |session: &mut LiveSession, text: &str| {
        let params = json!({ "runtime": "source", "text": text, "acknowledge": true, "answer": "committed" });
        session.peer.expect("push", params);
    };
    push(&mut session, &source("int[] room 77"));
    wait_until_it_follows(&mut session);
    push(&mut session, &audio_program("int unused"));
    session.wait_until("the wire to wait", |peer| waits_because(peer) == "`source` has no `m:out`");
    session.play_on(9_600);
    let kept = value_of(&mut session.peer, "follower", "level");
    session.play_on(9_600);
    assert_eq!(value_of(&mut session.peer, "follower", "level"), kept, "it keeps its last value");
    push(&mut session, &audio_program("int out 1"));
    session.wait_until("another type to be taken", |peer| value_of(peer, "follower", "level") == 1.0);
    // The runtime type changes: another host.
    push(&mut session, &source("").replace("AudioWorkletRuntime", "WebWorkerRuntime"));
    session.wait_until("the new host to be followed", |peer| waits_because(peer).is_null() && value_of(peer, "follower", "level") != 1.0);
    session.peer.expect("stop", json!({ "runtime": "source" }));
    session.wait_until("the wire to wait", |peer| waits_because(peer) == "`source` does not run");
    let kept = value_of(&mut session.peer, "follower", "level");
    session.play_on(9_600);
    assert_eq!(value_of(&mut session.peer, "follower", "level"), kept);
    push(&mut session, &source(""));
    wait_until_it_follows(&mut session);
    // The follower begins again from its defaults, or loses its item: the wire leads there all the same.
    session.peer.expect("restart", json!({ "runtime": "follower", "reset": true }));
    wait_until_it_follows(&mut session);
    let edited = constant(DEFAULT, "int[] more 9");
    session.peer.expect("push", json!({ "runtime": "follower", "text": edited, "acknowledge": true, "answer": "committed" }));
    wait_until_it_follows(&mut session);
    session.end();
}

/// Waits until a runtime has come so many ticks further.
fn play_on(playing: &mut Playing, runtime: &str, ticks: u64) {
    let ticks_of = |event: &Value| event["ticks"].as_u64().unwrap_or(0);
    let is_status = |event: &Value| event["event"] == "runtimeStatus" && event["runtime"] == runtime;
    let now = ticks_of(&playing.wait_until("a status", is_status));
    playing.wait_until("progress", |event| is_status(event) && ticks_of(event) >= now + ticks);
}

/// The left channel from the first tick of the follower on, one value for each tick.
fn levels(wav: &Path, cut_frames: usize) -> Vec<f32> {
    let frames = read_wav(wav);
    let start = frames.iter().position(|frame| frame[0] != 0.0).expect("something was recorded");
    let heard = &frames[start..frames.len() - cut_frames];
    let blocks = heard.chunks_exact(BLOCK_FRAMES);
    blocks.map(|block| if block.iter().all(|frame| *frame == block[0]) { block[0][0] } else { f32::NAN }).collect()
}

/// A worker that keeps what its item `level` was in each of its last thousand ticks, which it counts.
const HISTORY: &str = "8f4e/v1
constants env
; @config runtime WebWorkerRuntime
; @config workerRuntime.sampleRate 200
constantsEnd
entry main
module m
float level 0.25
int tick
float[] history 1024
push &history
push tick
push 1023
and
push 4
mul
add
push level
store
push &tick
push tick
push 1
add
store
moduleEnd
entryEnd
";

#[test]
fn what_wires_brought_a_follower_without_sound_replays_to_the_same_values() {
    let folder = Folder::new();
    let programs = [folder.file("follower.8f4e", HISTORY), folder.file("source.8f4e", source(""))];
    let (log, wav) = (folder.path().join("take.continuo"), folder.path().join("take.wav"));
    let arguments = ["--device", "null", "--restarts", "100,200,1", text(&programs[0]), text(&programs[1])];
    let mut playing = Playing::start(&folder, &arguments, &[]);
    playing.wait_for("sounding");
    succeed(&folder, &["wire", "follower.level=source.out"]);
    play_on(&mut playing, "follower", 60);
    for kill in 0..6 {
        let runtime = ["follower", "source"][kill % 2];
        playing.kill_host(runtime);
        play_on(&mut playing, "follower", 20);
    }
    succeed(&folder, &["record", text(&log)]);
    let items = ["m:history", "m:tick"];
    let values = |answer: &str| -> Vec<Value> {
        let answer: Value = serde_json::from_str(answer).expect("JSON");
        items.iter().map(|item| answer["items"][*item].clone()).collect()
    };
    play_on(&mut playing, "follower", 60);
    let got: Value = serde_json::from_str(&succeed(&folder, &[&["get", "follower", "--json"], &items[..]].concat())).expect("JSON");
    let live: Vec<&Vec<Value>> = (0..2).map(|index| got["values"][index]["values"].as_array().expect("values")).collect();
    play_on(&mut playing, "follower", 60);
    succeed(&folder, &["record"]);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    let replay = || succeed(&folder, &["replay", text(&log), "--runtime", "follower", "--json", "--dump", "m:history", "--dump", "m:tick"]);
    let first = replay();
    assert_eq!(replay(), first, "the same recording gives the same values");
    let said: Value = serde_json::from_str(&first).expect("JSON");
    let replayed = values(&first);
    assert_eq!(said["ticks"], replayed[1], "it has come to its end");
    let (ticks, end) = (live[1][0].as_u64().expect("ticks") as usize, replayed[1].as_u64().expect("ticks") as usize);
    assert!(ticks > 240 && end >= ticks && end < 1_024, "{ticks} ticks of {end}");
    let numbers = |values: &[Value]| values.iter().map(|value| value.as_f64().expect("a number") as f32).collect::<Vec<f32>>();
    let (played, history) = (numbers(live[0]), numbers(replayed[0].as_array().expect("an array")));
    let odd = (0..ticks).find(|tick| played[*tick] != history[*tick]);
    assert_eq!(odd.map(|tick| (tick, played[tick], history[tick])), None);
    assert!(history[..ticks].windows(2).filter(|pair| pair[0] != pair[1]).count() > 100, "it has followed");
    assert!(!run(&folder, &["replay", text(&log), "--runtime", "source"]).status.success(), "sound goes into a file");
    assert!(run(&folder, &["replay", text(&log), "--runtime", "source", "-o", text(&wav)]).status.success());
}

#[test]
fn twenty_kills_of_the_hosts_at_both_ends_lose_no_value_and_the_recording_replays_what_was_heard() {
    let folder = Folder::new();
    let programs = [folder.file("follower.8f4e", constant(DEFAULT, "")), folder.file("source.8f4e", source(""))];
    for take in 0..TAKES {
        let file = |name: &str| folder.path().join(format!("{name}-{take}"));
        let (wav, log, again) = (file("take.wav"), file("take.continuo"), file("again.wav"));
        let arguments = ["--device", "null", "--lead", "24", "--restarts", "100,200,1", "--wav", text(&wav)];
        let mut playing = Playing::start(&folder, &[&arguments[..], &[text(&programs[0]), text(&programs[1])]].concat(), &[]);
        (0..2).for_each(|_| drop(playing.wait_for("sounding")));
        succeed(&folder, &["wire", "follower.level=source.out"]);
        play_on(&mut playing, "follower", 60);
        for kill in 0..20 {
            let runtime = ["follower", "source"][kill % 2];
            playing.kill_host(runtime);
            play_on(&mut playing, "follower", 20);
        }
        succeed(&folder, &["record", text(&log)]);
        play_on(&mut playing, "follower", 60);
        succeed(&folder, &["record"]);
        playing.signal(Signal::INT);
        assert_eq!(playing.wait(), Some(0));
        let hash = succeed(&folder, &["replay", text(&log), "-o", text(&again), "--runtime", "follower"]);
        let replayed = levels(&again, 0);
        assert!(replayed.len() > 400, "{} ticks are replayed", replayed.len());
        let (defaults, followed) = replayed.split_at(replayed.iter().position(|level| *level != DEFAULT).expect("it follows"));
        assert!(!defaults.is_empty());
        assert!(followed.iter().all(|level| (level / STEP).fract() == 0.0), "only what the source had: {followed:?}");
        assert!(followed.is_sorted(), "and never what it had before: {followed:?}");
        std::fs::remove_file(&again).expect("it was written");
        assert_eq!(succeed(&folder, &["replay", text(&log), "-o", text(&again), "--runtime", "follower"]), hash);
        let is_gap = |event: &Value| event["event"] == "hostReady" && event["gapBlocks"].as_u64() != Some(0);
        if playing.seen().iter().any(is_gap) {
            println!("take {take}: a takeover came too late");
            continue;
        }
        let heard = levels(&wav, FADE_OUT_FRAMES);
        let common = heard.len().min(replayed.len());
        assert!(common > 400);
        let odd = (0..common).find(|tick| heard[*tick] != replayed[*tick]);
        assert_eq!(odd, None, "{:?} and not {:?}", odd.map(|tick| heard[tick]), odd.map(|tick| replayed[tick]));
        return;
    }
    panic!("in {TAKES} takes a takeover came too late");
}

#[test]
fn wires_of_a_session_file_outlive_the_supervisor() {
    let folder = Folder::new();
    folder.file("follower.8f4e", constant(DEFAULT, ""));
    folder.file("source.8f4e", source(""));
    let runtime = |name: &str| format!("[[runtime]]\nname = \"{name}\"\nfile = \"{name}.8f4e\"\n");
    let session = format!(
        "name = \"gig\"\ndevice = \"null\"\nlead = 24\ngrace = 30\n{}{}[wires]\n\"follower.level\" = \"source.m:out\"\n",
        runtime("follower"),
        runtime("source")
    );
    let file = folder.file("gig.toml", session);
    let socket = folder.path().join("continuo").join("gig.sock");
    let follows = |peer: &mut Peer| {
        let deadline = std::time::Instant::now() + tests::playing::PATIENCE;
        let first = value_of(peer, "follower", "level");
        while !peer.expect("wires", json!({}))["wires"][0]["isLive"].as_bool().unwrap_or(false)
            || value_of(peer, "follower", "level") == first
        {
            assert!(std::time::Instant::now() < deadline, "it does not follow");
        }
    };
    let mut playing = Playing::up(&folder, &[text(&file)], &[]);
    (0..2).for_each(|_| drop(playing.wait_for("sounding")));
    let mut peer = Peer::connect(&socket);
    follows(&mut peer);
    let before = peer.expect("wires", json!({}));
    playing.signal(Signal::KILL);
    assert_eq!(playing.wait(), None, "a signal is no exit code");
    let mut next = Playing::up(&folder, &[text(&file)], &[]);
    let mut peer = Peer::connect(&socket);
    assert_eq!(peer.expect("wires", json!({}))["wires"][0]["to"], before["wires"][0]["to"]);
    follows(&mut peer);
    // A host that dies under the second supervisor goes on with its wires, too.
    let status = peer.expect("status", json!({}));
    for host in status["runtimes"].as_array().expect("a list") {
        send_signal(host["pid"].as_u64().expect("it has a process") as u32, Signal::KILL);
        next.wait_for("hostReady");
    }
    follows(&mut peer);
    peer.expect("shutdown", json!({}));
    assert_eq!(next.wait(), Some(0));
    playing.leave();
}
