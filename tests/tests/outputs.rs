//! Which channels of the device runtimes are heard on: against a JACK server with four outputs, and through what is recorded.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::jack_server::JackServer;
use tests::live::read_wav;
use tests::playing::{Folder, PATIENCE, Playing, continuo, send_signal, text};
use tests::programs::constant;
use tests::rpc::Peer;

const NAME: &str = "stage";

/// A program that gives this constant on its only output, which is the left one.
fn mono(level: f32) -> String {
    constant(level, "").replace("; @config audioRuntime.audioOutBufferRAddress m:right\n", "")
}

fn peer(folder: &Folder) -> Peer {
    Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")))
}

/// Asks until something holds.
fn wait_until(peer: &mut Peer, what: &str, holds: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(&peer.expect("status", json!({}))) {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn output(peer: &mut Peer, runtime: &str, channels: &str) -> Value {
    peer.expect("output", json!({ "runtime": runtime, "channels": channels }))
}

/// What an independent client hears on four channels, some time after it has begun to listen.
fn heard(server: &JackServer, folder: &Folder, device_host: u32) -> Vec<f32> {
    let file = folder.path().join("capture.f32");
    let captured = Command::new(env!("CARGO_BIN_EXE_jack-capture"))
        .args([&format!("cpal_client_{device_host}_out"), "24000", text(&file), "4"])
        .env("JACK_DEFAULT_SERVER", server.name())
        .stdout(Stdio::null())
        .status()
        .expect("the capture can be started");
    assert!(captured.success());
    let bytes = std::fs::read(&file).expect("the capture was written");
    let samples: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    samples[samples.len() - 4..].to_vec()
}

#[test]
fn a_jack_server_with_four_outputs_hears_each_runtime_on_its_channels() {
    let Some(server) = JackServer::start_with_outputs(4) else { return };
    let folder = Folder::new();
    let programs = [("front", constant(0.25, "")), ("cue", constant(0.5, "")), ("mono", mono(0.125))]
        .map(|(name, source)| folder.file(&format!("{name}.8f4e"), source));
    let mut arguments = vec!["--session", NAME, "--device", "jack", "--lead", "16"];
    arguments.extend(programs.iter().map(|program| text(program)));
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    let device_host = playing.wait_until("device host", |event| event["event"] == "processStarted" && event["role"] == "device-host");
    let device_host = u32::try_from(device_host["pid"].as_u64().expect("a pid")).expect("a pid");
    (0..3).for_each(|_| drop(playing.wait_for("sounding")));
    let mut peer = peer(&folder);
    assert_eq!(peer.expect("status", json!({}))["device"]["channels"], 4);
    assert_eq!(output(&mut peer, "cue", "3-4")["output"], "3-4");
    assert_eq!(heard(&server, &folder, device_host), [0.375, 0.0, 0.5, 0.0], "each on its own channels");
    wait_until(&mut peer, "meters", |status| {
        status["device"]["peak"] == json!([0.375, 0.0]) && status["runtimes"][1]["peak"] == json!([0.5, 0.0])
    });

    let output = continuo(&folder).args(["output", "mono", "4", "--session", NAME, "--json"]).output().expect("the binary can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    peer.expect("gain", json!({ "runtime": "cue", "gain": 0.5 }));
    peer.expect("mute", json!({ "runtime": "front", "on": true }));
    assert_eq!(heard(&server, &folder, device_host), [0.0, 0.0, 0.25, 0.125], "levels hold wherever it goes");

    let refused = peer.call("output", json!({ "runtime": "cue", "channels": "5-6" })).unwrap_err();
    assert_eq!((refused.name.as_str(), &refused.data["field"]), ("invalid_params", &json!("params.channels")));
    assert!(refused.message.contains("has 4 channels"), "{}", refused.message);
    for channels in ["0", "3-3", "17", "left"] {
        assert_eq!(peer.call("output", json!({ "runtime": "cue", "channels": channels })).unwrap_err().name, "invalid_params");
    }
    assert_eq!(peer.expect("output", json!({ "runtime": "cue" }))["output"], "1-2");
    peer.expect("mute", json!({ "runtime": "front", "on": false }));
    assert_eq!(heard(&server, &folder, device_host), [0.5, 0.0, 0.0, 0.125]);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

/// The last frame of a recording that is no part of a fade-out.
fn last(path: &Path) -> [f32; 2] {
    *read_wav(path).last().expect("something was recorded")
}

#[test]
fn channels_of_a_session_file_are_kept_when_the_device_host_and_the_supervisor_die() {
    let folder = Folder::new();
    folder.file("front.8f4e", constant(0.25, ""));
    folder.file("cue.8f4e", mono(0.5));
    let session = format!(
        "name = \"{NAME}\"\ndevice = \"null\"\nlead = 24\ngrace = 60\n[[runtime]]\nname = \"front\"\nfile = \"front.8f4e\"\n\
         [[runtime]]\nname = \"cue\"\nfile = \"cue.8f4e\"\noutput = \"3-4\"\n"
    );
    let file = folder.file("stage.toml", session);
    let mut playing = Playing::up(&folder, &[text(&file)], &[]);
    (0..2).for_each(|_| drop(playing.wait_for("sounding")));
    let mut first = peer(&folder);
    check_take(&folder, &mut first, "whole");

    let device_host = playing.in_role("device-host").first().expect("there is a device host").pid;
    first.expect("subscribe", json!({ "topics": ["processes"] }));
    send_signal(device_host, Signal::KILL);
    first.event("next device host", |event| event["kind"] == "processReady" && event["role"] == "deviceHost");
    check_take(&folder, &mut first, "device");

    drop(first);
    playing.signal(Signal::KILL);
    playing.leave();
    let mut playing = Playing::up(&folder, &["--session", NAME], &[]);
    playing.wait_for("takenBack");
    let mut second = peer(&folder);
    check_take(&folder, &mut second, "supervisor");
    second.expect("shutdown", json!({}));
    assert_eq!(playing.wait(), Some(0));
}

/// On channels 3 and 4 it is not on the master, and on its stem it is.
fn check_take(folder: &Folder, peer: &mut Peer, name: &str) {
    let path = |file: &str| folder.path().join(format!("{name}-{file}"));
    let status = peer.expect("status", json!({}));
    assert_eq!(status["runtimes"][1]["mix"]["output"], "3-4");
    peer.expect("tape", json!({ "master": text(&path("master.wav")), "stems": text(&path("stems")) }));
    let goal = status["device"]["frames"].as_u64().unwrap_or(0) + 24_000;
    wait_until(peer, "half a second", |status| status["device"]["frames"].as_u64() >= Some(goal));
    peer.expect("tape", json!({}));
    assert_eq!(last(&path("master.wav")), [0.25, 0.0]);
    assert_eq!((last(&path("stems").join("front.wav")), last(&path("stems").join("cue.wav"))), ([0.25, 0.0], [0.5, 0.0]));
}

#[test]
fn meters_tell_levels_about_ten_times_a_second_and_no_oftener() {
    let folder = Folder::new();
    let program = folder.file("front.8f4e", constant(0.25, ""));
    let mut playing = Playing::start(&folder, &["--session", NAME, "--device", "null", text(&program)], &[]);
    playing.wait_for("sounding");
    let mut peer = peer(&folder);
    peer.expect("subscribe", json!({ "topics": ["meters"] }));
    peer.expect("gain", json!({ "runtime": "front", "gain": 2.0 }));
    let frames = |meters: &Value| meters["frames"].as_u64().expect("frames");
    let first = peer.event("a level", |meters| meters["peak"] == json!([0.5, 0.0]) && meters["runtimes"][0]["peak"] == json!([0.5, 0.0]));
    let events: Vec<u64> = (0..10).map(|_| frames(&peer.event("meters", |_| true))).collect();
    let spread = events[9] - frames(&first);
    assert!(spread >= 10 * 2_400, "ten events come in no less than half a second of sound: {spread} frames");
    drop(peer);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}
