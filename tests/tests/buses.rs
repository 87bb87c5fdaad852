//! Runtimes that listen: to each other over buses, and to what the device takes in. Real processes, a real audio server; what is
//! heard is compared with a model of it, sample by sample.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::jack_server::JackServer;
use tests::live::read_wav;
use tests::playing::{Folder, PATIENCE, Playing, continuo, run, send_signal, text};
use tests::programs::{RAMP_STEP, audio_program, ramp, silence};
use tests::rpc::Peer;

/// Takes in which the machine was late prove nothing: then the scene is played again.
const TAKES: usize = 8;

const BLOCK: usize = 128;

/// Frames at the end of a recording that may be part of its fade-out.
const FADE_OUT: usize = 4_800;

const NAME: &str = "under-test";

/// A program that hears two channels and delivers them at this level.
fn passes(level: &str) -> String {
    audio_program(&format!(
        "; @config audioRuntime.audioInBufferLAddress m:inL
; @config audioRuntime.audioInBufferRAddress m:inR
float[] inL 128
float[] inR 128
int position
{}{}push &position\npush position\npush 1\nadd\npush 127\nand\nstore",
        passes_on("left", "inL", level),
        passes_on("right", "inR", level)
    ))
}

fn passes_on(to: &str, from: &str, level: &str) -> String {
    let address = |array| format!("push &{array}\npush position\npush 4\nmul\nadd\n");
    format!("{}{}loadFloat\npush {level}\nmul\nstore\n", address(to), address(from))
}

/// A play of the ramp and of a program that hears it, on the paced null device, with the connection to its session.
struct Scene {
    playing: Playing,
    wav: PathBuf,
    socket: PathBuf,
}

impl Scene {
    fn start(folder: &Folder, routes: &[&str]) -> Self {
        Self::start_with(folder, &passes("0.25"), routes)
    }

    /// The same with another program that hears it, or does not.
    fn start_with(folder: &Folder, listener: &str, routes: &[&str]) -> Self {
        let drums = folder.file("drums.8f4e", ramp());
        let reverb = folder.file("reverb.8f4e", listener);
        let (wav, stems) = (folder.path().join("take.wav"), folder.path().join("stems"));
        let mut arguments = vec!["--device", "null", "--lead", "24", "--session", NAME, "--restarts", "99,99,1"];
        arguments.extend(["--wav", text(&wav), "--stems", text(&stems)]);
        routes.iter().for_each(|route| arguments.extend(["--route", route]));
        arguments.extend([text(&drums), text(&reverb)]);
        let mut playing = Playing::start(folder, &arguments, &[]);
        playing.wait_for("sounding");
        playing.wait_for("sounding");
        let socket = folder.path().join("continuo").join(format!("{NAME}.sock"));
        Self { playing, wav, socket }
    }

    fn status(&self, peer: &mut Peer) -> Value {
        peer.expect("status", json!({}))
    }

    fn peer(&self) -> Peer {
        Peer::connect(&self.socket)
    }

    /// Ends the play, and returns what was heard, from the ramp's first sample on and without the fade-out.
    fn heard(mut self) -> Vec<[f32; 2]> {
        self.playing.signal(Signal::INT);
        self.playing.wait();
        let frames = read_wav(&self.wav);
        let start = frames.iter().position(|frame| frame[0] != 0.0).expect("something was recorded");
        frames[start..frames.len() - FADE_OUT].to_vec()
    }
}

/// Sample n of the ramp, from 0.
fn ramp_at(frame: usize) -> f32 {
    ((frame + 1) & 0xF_FFFF) as f32 * RAMP_STEP
}

/// The ramp, and a quarter of it so many blocks later.
fn wet(frame: usize, blocks: usize) -> f32 {
    ramp_at(frame) + frame.checked_sub(blocks * BLOCK).map_or(0.0, |frame| ramp_at(frame) * 0.25)
}

/// Blocks in which what was heard is not what the model says.
fn odd_blocks(heard: &[[f32; 2]], model: impl Fn(usize) -> f32) -> Vec<usize> {
    let is_odd = |(frame, found): (usize, &[f32; 2])| (*found != [model(frame), -model(frame)]).then_some(frame / BLOCK);
    let mut odd: Vec<usize> = heard.iter().enumerate().filter_map(is_odd).collect();
    odd.dedup();
    odd
}

/// Blocks that came too late, and blocks of inputs in which something was missing, of all runtimes.
fn missed(status: &Value) -> u64 {
    let runtimes = status["runtimes"].as_array().expect("a list of runtimes").iter();
    runtimes.map(|runtime| runtime["underruns"].as_u64().unwrap_or(1) + runtime["inputUnderruns"].as_u64().unwrap_or(1)).sum()
}

/// Waits until the session has played on by so many frames.
fn play_on(peer: &mut Peer, frames: u64) {
    let played = |peer: &mut Peer| peer.expect("status", json!({}))["device"]["frames"].as_u64().expect("frames");
    let (deadline, goal) = (Instant::now() + PATIENCE, played(peer) + frames);
    while played(peer) < goal {
        assert!(Instant::now() < deadline, "the session does not play on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The host of a runtime, once it runs.
fn host_of(peer: &mut Peer, runtime: &str, before: Option<u64>) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = peer.expect("status", json!({ "runtime": runtime }));
        let now = &status["runtimes"][0];
        let is_there = now["state"] == "running" || now["state"] == "late";
        match now["pid"].as_u64().filter(|pid| is_there && Some(*pid) != before) {
            Some(pid) => return pid,
            None => assert!(Instant::now() < deadline, "{runtime} does not run: {status:#}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for_spare(peer: &mut Peer) {
    let deadline = Instant::now() + PATIENCE;
    let has_spare = |status: &Value| status["processes"].as_array().is_some_and(|all| all.iter().any(|one| one["role"] == "spareHost"));
    while !has_spare(&peer.expect("status", json!({}))) {
        assert!(Instant::now() < deadline, "there is no spare");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Plays a scene until nothing came too late in it, and demands that what was heard is what the model says.
fn is_heard_exactly(scene: impl Fn() -> (Vec<[f32; 2]>, u64), model: impl Fn(usize) -> f32) {
    for _ in 0..TAKES {
        let (heard, missed) = scene();
        if missed == 0 {
            assert!(heard.len() > 40_000, "there is something to compare");
            assert_eq!(odd_blocks(&heard, model), Vec::<usize>::new());
            return;
        }
        eprintln!("{missed} blocks were late; once more");
    }
    panic!("in each of {TAKES} takes blocks were late: the machine is too busy, or the hosts are");
}

#[test]
fn a_bus_is_heard_exactly_one_block_later() {
    let scene = || {
        let folder = Folder::new();
        let scene = Scene::start(&folder, &["drums:reverb"]);
        let mut peer = scene.peer();
        play_on(&mut peer, 48_000);
        let status = scene.status(&mut peer);
        assert_eq!(status["routing"]["busLatencyBlocks"], 1, "{status:#}");
        assert_eq!(status["routing"]["routes"], json!([{ "from": "drums", "to": "reverb", "only": false, "silentBecause": null }]));
        (scene.heard(), missed(&status))
    };
    is_heard_exactly(scene, |frame| wet(frame, 1));
}

#[test]
fn a_bus_is_the_same_through_twenty_deaths_of_who_is_heard_and_of_who_listens() {
    for victim in ["drums", "reverb"] {
        let scene = || {
            let folder = Folder::new();
            let scene = Scene::start(&folder, &["drums:reverb"]);
            let mut peer = scene.peer();
            let mut host = host_of(&mut peer, victim, None);
            for _ in 0..20 {
                wait_for_spare(&mut peer);
                play_on(&mut peer, 2_000);
                send_signal(host as u32, Signal::KILL);
                host = host_of(&mut peer, victim, Some(host));
            }
            play_on(&mut peer, 4_800);
            let status = scene.status(&mut peer);
            (scene.heard(), missed(&status))
        };
        is_heard_exactly(scene, |frame| wet(frame, 1));
    }
}

#[test]
fn routes_come_and_go_while_it_plays_and_who_is_only_heard_through_others_is_not_heard_directly() {
    let folder = Folder::new();
    let scene = Scene::start(&folder, &[]);
    let mut peer = scene.peer();
    play_on(&mut peer, 9_600);
    let output = continuo(&folder).args(["route", "drums", "reverb", "--only", "--json", "--session", NAME]).output().expect("it runs");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("a command answers in JSON");
    assert_eq!(answer["routes"][0], json!({ "from": "drums", "to": "reverb", "only": true, "silentBecause": null }));
    assert_eq!(peer.expect("status", json!({ "runtime": "reverb" }))["runtimes"][0]["hears"], json!(["drums"]));
    play_on(&mut peer, 24_000);
    peer.expect("unroute", json!({ "from": "drums", "to": "reverb" }));
    play_on(&mut peer, 24_000);
    assert!(peer.call("unroute", json!({ "from": "drums", "to": "reverb" })).is_err());
    assert_eq!(peer.call("route", json!({ "from": "drum", "to": "reverb" })).expect_err("no such runtime").name, "unknown_runtime");
    let heard = scene.heard();
    let is_dry = |frame: usize| heard[frame][0] == ramp_at(frame);
    let is_only_wet = |frame: &usize| heard[*frame][0] == ramp_at(*frame - BLOCK) * 0.25;
    assert!((0..5_000).all(is_dry), "nothing is routed at first");
    let wet = (10_000..heard.len()).filter(is_only_wet).count();
    assert!(wet > 12_000, "only through the other: {wet} frames of {}", heard.len());
    assert!((heard.len() - 5_000..heard.len()).filter(|frame| is_dry(*frame)).count() > 4_000, "and directly again");
}

#[test]
fn who_is_heard_may_die_for_good_and_who_listens_goes_on_with_silence() {
    let folder = Folder::new();
    let scene = Scene::start(&folder, &["drums:reverb", "reverb:reverb"]);
    let mut peer = scene.peer();
    play_on(&mut peer, 9_600);
    peer.expect("stop", json!({ "runtime": "drums" }));
    let before = peer.expect("status", json!({ "runtime": "reverb" }))["runtimes"][0].clone();
    play_on(&mut peer, 24_000);
    let status = scene.status(&mut peer);
    let after = status["runtimes"].as_array().expect("runtimes").iter().find(|runtime| runtime["runtime"] == "reverb").expect("it").clone();
    assert!(after["tick"].as_u64() > before["tick"].as_u64(), "{after:#}");
    assert_eq!(after["pid"], before["pid"]);
    assert_eq!(status["routing"]["routes"][0]["silentBecause"], "`drums` does not run");
    // It comes back under its name, and the route with it.
    peer.expect("restart", json!({ "runtime": "drums" }));
    host_of(&mut peer, "drums", None);
    play_on(&mut peer, 9_600);
    let status = scene.status(&mut peer);
    assert_eq!(status["routing"]["routes"][0]["silentBecause"], Value::Null);
    scene.heard();
}

#[test]
fn routes_outlive_the_supervisor() {
    let folder = Folder::new();
    let scene = Scene::start(&folder, &["drums:reverb:only", "@input:reverb"]);
    let mut peer = scene.peer();
    play_on(&mut peer, 4_800);
    let routes = scene.status(&mut peer)["routing"]["routes"].clone();
    scene.playing.signal(Signal::KILL);
    let Scene { playing, socket, .. } = scene;
    playing.leave();
    let mut next = Playing::up(&folder, &["--session", NAME], &[]);
    next.wait_for("takenBack");
    let mut peer = Peer::connect(&socket);
    assert_eq!(peer.expect("status", json!({}))["routing"]["routes"], routes);
    play_on(&mut peer, 4_800);
    next.signal(Signal::INT);
    next.wait();
}

#[test]
fn a_bounce_of_a_bus_is_what_is_played_and_the_same_every_time() {
    let folder = Folder::new();
    let (drums, reverb) = (folder.file("drums.8f4e", ramp()), folder.file("reverb.8f4e", passes("0.25")));
    let bounce = |name: &str, route: &str| {
        let wav = folder.path().join(name);
        let output = run(&folder, &["bounce", text(&drums), text(&reverb), "--route", route, "--seconds", "2", "-o", text(&wav)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        read_wav(&wav)
    };
    let once = bounce("one.wav", "drums:reverb");
    assert_eq!(once, bounce("two.wav", "drums:reverb"));
    assert_eq!(odd_blocks(&once, |frame| wet(frame, 1)), Vec::<usize>::new());
    // A circle: each hears itself, too.
    let circle = bounce("three.wav", "reverb:reverb");
    assert_eq!(odd_blocks(&circle, ramp_at), Vec::<usize>::new());
    let wrong = run(&folder, &["bounce", text(&drums), "--route", "drums:hall", "--seconds", "1", "-o", "x.wav"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("there is no program `hall`"));
}

/// Replays a runtime of a recording twice; what is heard of it.
fn replayed(folder: &Folder, recording: &Path, runtime: &str) -> Vec<[f32; 2]> {
    let wav = folder.path().join("replayed.wav");
    let replay = || {
        let output = run(folder, &["replay", text(recording), "-o", text(&wav), "--runtime", runtime]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(replay(), replay(), "the same recording gives the same bytes");
    read_wav(&wav)
}

/// From the first sample on that is none of silence.
fn sounding(frames: &[[f32; 2]]) -> &[[f32; 2]] {
    let start = frames.iter().position(|frame| *frame != [0.0; 2]).expect("there is something to be heard");
    &frames[start..]
}

/// Demands that a replay is what was heard when it was recorded, but for a fade-out.
fn is_the_same(replayed: &[[f32; 2]], heard: &[[f32; 2]]) {
    let (replayed, heard) = (sounding(replayed), sounding(heard));
    let frames = replayed.len().min(heard.len() - FADE_OUT);
    assert!(frames > 40_000, "{} frames of {} are compared", frames, heard.len());
    let odd = (0..frames).find(|frame| replayed[*frame] != heard[*frame]);
    assert_eq!(odd.map(|frame| (frame, replayed[frame], heard[frame])), None);
}

/// Gives the listener of a scene another program.
fn push(peer: &mut Peer, program: &str) {
    peer.expect("push", json!({ "runtime": "reverb", "text": program, "acknowledge": true, "answer": "committed" }));
}

#[test]
fn what_was_heard_over_a_bus_replays_to_the_same_samples_through_kills_and_edits() {
    for _ in 0..TAKES {
        let folder = Folder::new();
        let scene = Scene::start(&folder, &["drums:reverb"]);
        let mut peer = scene.peer();
        let path = folder.path().join("take.continuo");
        peer.expect("record", json!({ "path": text(&path) }));
        for round in 0..6 {
            let victim = ["drums", "reverb"][round % 2];
            wait_for_spare(&mut peer);
            play_on(&mut peer, 6_000);
            push(&mut peer, &passes(["0.5", "0.125", "0.75"][round % 3]));
            play_on(&mut peer, 2_000);
            let host = host_of(&mut peer, victim, None);
            send_signal(host as u32, Signal::KILL);
            host_of(&mut peer, victim, Some(host));
        }
        play_on(&mut peer, 9_600);
        let missed = missed(&scene.status(&mut peer));
        peer.expect("record", json!({}));
        scene.heard();
        let replayed_once = replayed(&folder, &path, "reverb");
        if missed > 0 {
            eprintln!("{missed} blocks were late; once more");
            continue;
        }
        is_the_same(&replayed_once, &read_wav(&folder.path().join("stems").join("reverb.wav")));
        is_the_same(&replayed(&folder, &path, "drums"), &read_wav(&folder.path().join("stems").join("drums.wav")));
        return;
    }
    panic!("in each of {TAKES} takes blocks were late: the machine is too busy, or the hosts are");
}

#[test]
fn what_was_heard_is_recorded_through_the_death_of_the_device_host() {
    for _ in 0..TAKES {
        let folder = Folder::new();
        let scene = Scene::start(&folder, &["drums:reverb:only"]);
        let mut peer = scene.peer();
        let path = folder.path().join("take.continuo");
        peer.expect("record", json!({ "path": text(&path) }));
        play_on(&mut peer, 24_000);
        let status = scene.status(&mut peer);
        let processes = status["processes"].as_array().expect("a list of processes");
        let device = processes.iter().find(|process| process["role"] == "deviceHost").expect("there is one");
        send_signal(device["pid"].as_u64().expect("a number") as u32, Signal::KILL);
        play_on(&mut peer, 48_000);
        let status = scene.status(&mut peer);
        peer.expect("record", json!({}));
        let Scene { mut playing, .. } = scene;
        playing.signal(Signal::INT);
        playing.wait();
        let replayed = replayed(&folder, &path, "reverb");
        if status["runtimes"].as_array().expect("runtimes").iter().any(|runtime| runtime["inputUnderruns"] != 0) {
            eprintln!("something was missing in what was heard; once more");
            continue;
        }
        // The host heard every block once, whichever device host decided it.
        let heard = sounding(&replayed);
        assert!(heard.len() > 60_000, "{} frames", heard.len());
        assert_eq!(odd_blocks(heard, |frame| ramp_at(frame) * 0.25), Vec::<usize>::new());
        return;
    }
    panic!("in each of {TAKES} takes something was missing");
}

#[test]
fn who_begins_to_listen_by_an_edit_is_replayed_with_what_was_heard_from_there_on() {
    for _ in 0..TAKES {
        let folder = Folder::new();
        let scene = Scene::start_with(&folder, &silence(), &[]);
        let mut peer = scene.peer();
        play_on(&mut peer, 48_000);
        push(&mut peer, &passes("0.5"));
        play_on(&mut peer, 9_600);
        peer.expect("route", json!({ "from": "drums", "to": "reverb" }));
        play_on(&mut peer, 24_000);
        // A recording that is begun late holds everything from the start.
        let path = folder.path().join("take.continuo");
        peer.expect("record", json!({ "path": text(&path) }));
        play_on(&mut peer, 24_000);
        let missed = missed(&scene.status(&mut peer));
        // It is ended by the end of the session.
        scene.heard();
        let replayed = replayed(&folder, &path, "reverb");
        if missed > 0 {
            eprintln!("{missed} blocks were late; once more");
            continue;
        }
        is_the_same(&replayed, &read_wav(&folder.path().join("stems").join("reverb.wav")));
        return;
    }
    panic!("in each of {TAKES} takes blocks were late: the machine is too busy, or the hosts are");
}

#[test]
fn a_recording_without_what_was_heard_is_not_replayed_into_something_else() {
    let folder = Folder::new();
    let scene = Scene::start(&folder, &["drums:reverb"]);
    let mut peer = scene.peer();
    let path = folder.path().join("take.continuo");
    let beside = folder.file("take.continuo.heard", "a letter to a friend");
    let taken = peer.call("record", json!({ "path": text(&path) })).expect_err("nothing is written over");
    assert!(taken.name == "file_failed" && taken.message.contains("take.continuo.heard"), "{taken:?}");
    std::fs::remove_file(&beside).expect("it is there");
    peer.expect("record", json!({ "path": text(&path) }));
    play_on(&mut peer, 12_000);
    peer.expect("record", json!({}));
    let other = folder.path().join("other.continuo");
    peer.expect("record", json!({ "path": text(&other) }));
    peer.expect("record", json!({}));
    scene.heard();
    let replay = |runtime: &str| {
        let wav = folder.path().join(format!("{runtime}.wav"));
        run(&folder, &["replay", text(&path), "-o", text(&wav), "--runtime", runtime])
    };
    let refused = |words: &str| {
        let output = replay("reverb");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
    };
    assert!(replay("reverb").status.success());
    std::fs::copy(folder.path().join("other.continuo.heard"), &beside).expect("there are two");
    refused("belongs to another recording");
    std::fs::remove_file(&beside).expect("it is there");
    refused("what it heard is not there: it belongs into");
    assert!(replay("drums").status.success(), "who listens to nothing is replayed");
}

fn instrument_on(server: &JackServer, frames: u64) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_jack-play"))
        .args(["cpal_client_.*_in:", &frames.to_string()])
        .env("JACK_DEFAULT_SERVER", server.name())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the instrument can be started")
}

#[test]
fn what_an_instrument_plays_into_the_device_is_heard_exactly_at_a_constant_distance() {
    for _ in 0..TAKES {
        let Some(server) = JackServer::start() else { return };
        let folder = Folder::new();
        let echo = folder.file("echo.8f4e", passes("0.5"));
        let wav = folder.path().join("take.wav");
        let arguments = ["--device", "jack", "--lead", "8", "--session", NAME, "--wav", text(&wav), text(&echo)];
        let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
        playing.wait_for("sounding");
        let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
        let mut instrument = instrument_on(&server, 96_000);
        assert!(instrument.wait().expect("it ends").success());
        let status = peer.expect("status", json!({}));
        playing.signal(Signal::INT);
        playing.wait();
        let input = &status["routing"]["input"];
        assert_eq!(status["runtimes"][0]["hears"], json!(["@input"]));
        assert!(input["device"].as_str().is_some_and(|name| name.starts_with("jack")), "{status:#}");
        assert!(input["latencyFrames"].as_u64().is_some_and(|frames| frames >= 9 * 128), "{input}");
        if missed(&status) + input["gaps"].as_u64().expect("gaps are counted") + status["device"]["xruns"].as_u64().unwrap_or(0) > 0 {
            eprintln!("something was late; once more");
            continue;
        }
        let frames = read_wav(&wav);
        let start = frames.iter().position(|frame| frame[0] != 0.0).expect("something was heard");
        let first = (frames[start][0] / (0.5 * RAMP_STEP)) as usize - 1;
        let heard = &frames[start..frames.len().min(start + 90_000)];
        assert!(heard.len() > 80_000 && first < 1_024, "{} frames from {first}", heard.len());
        for (index, frame) in heard.iter().enumerate().take(80_000) {
            let expected = ramp_at(first + index) * 0.5;
            assert_eq!(*frame, [expected, -expected], "frame {index}");
        }
        return;
    }
    panic!("in each of {TAKES} takes something was late");
}

#[test]
fn what_an_instrument_played_into_the_device_replays_to_the_same_samples_although_the_host_was_killed() {
    for _ in 0..TAKES {
        let Some(server) = JackServer::start() else { return };
        let folder = Folder::new();
        let echo = folder.file("reverb.8f4e", passes("0.5"));
        let (wav, path) = (folder.path().join("take.wav"), folder.path().join("take.continuo"));
        let arguments = ["--device", "jack", "--lead", "24", "--session", NAME, "--wav", text(&wav), text(&echo)];
        let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
        playing.wait_for("sounding");
        let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
        peer.expect("record", json!({ "path": text(&path) }));
        let mut instrument = instrument_on(&server, 144_000);
        wait_for_spare(&mut peer);
        play_on(&mut peer, 48_000);
        let host = host_of(&mut peer, "reverb", None);
        send_signal(host as u32, Signal::KILL);
        host_of(&mut peer, "reverb", Some(host));
        push(&mut peer, &passes("0.25"));
        assert!(instrument.wait().expect("it ends").success());
        play_on(&mut peer, 4_800);
        let status = peer.expect("status", json!({}));
        peer.expect("record", json!({}));
        playing.signal(Signal::INT);
        playing.wait();
        let replayed = replayed(&folder, &path, "reverb");
        if status["runtimes"][0]["underruns"] != 0 || status["device"]["xruns"].as_u64().unwrap_or(0) > 0 {
            eprintln!("something was late; once more");
            continue;
        }
        is_the_same(&replayed, &read_wav(&wav));
        return;
    }
    panic!("in each of {TAKES} takes something was late");
}

#[test]
fn without_an_input_a_program_hears_silence_and_time_goes_on() {
    let Some(server) = JackServer::start() else { return };
    let folder = Folder::new();
    let echo = folder.file("echo.8f4e", passes("0.5"));
    let arguments = ["--device", "jack", "--session", NAME, text(&echo)];
    let name = server.name().to_owned();
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", &name)]);
    playing.wait_for("sounding");
    let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
    let has_input = |peer: &mut Peer| peer.expect("status", json!({}))["routing"]["input"].is_object();
    let deadline = Instant::now() + PATIENCE;
    while !has_input(&mut peer) {
        assert!(Instant::now() < deadline, "the input is not opened");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(server);
    playing.wait_until("the null device", |event| event["event"] == "moved" && event["device"] == "null");
    play_on(&mut peer, 24_000);
    assert!(!has_input(&mut peer), "what is gone is not told");
    let status = peer.expect("status", json!({}));
    assert!(status["runtimes"][0]["tick"].as_u64().is_some_and(|tick| tick > 100), "time goes on");
    playing.signal(Signal::INT);
    playing.wait();
}

/// The stretches of a recording that are sound, with their first frames: between two of them lies silence of half a second.
fn stretches(frames: &[[f32; 2]]) -> Vec<(usize, &[[f32; 2]])> {
    const SILENCE: usize = 24_000;
    let loud: Vec<usize> = (0..frames.len()).filter(|index| frames[*index][0] != 0.0).collect();
    let parts = loud.chunk_by(|one, next| next - one < SILENCE);
    parts.filter_map(|part| Some((*part.first()?, &frames[*part.first()?..=*part.last()?]))).collect()
}

#[test]
fn an_input_that_goes_and_comes_back_is_heard_again_by_itself_and_is_silence_between() {
    let Some(server) = JackServer::start() else { return };
    let name = server.name().to_owned();
    let folder = Folder::new();
    let (echo, wav) = (folder.file("echo.8f4e", passes("0.5")), folder.path().join("take.wav"));
    let arguments = ["--device", "jack", "--lead", "8", "--session", NAME, "--wav", text(&wav), text(&echo)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", &name)]);
    playing.wait_for("sounding");
    let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
    assert!(instrument_on(&server, 48_000).wait().expect("it ends").success());
    drop(server);
    playing.wait_until("the null device", |event| event["event"] == "moved" && event["device"] == "null");
    let gone = peer.expect("status", json!({}))["device"]["frames"].as_u64().expect("frames");
    play_on(&mut peer, 48_000);
    let server = JackServer::start_as(&name, 5_000);
    assert!(instrument_on(&server, 48_000).wait().expect("it ends").success());
    let back = peer.expect("status", json!({}))["device"]["frames"].as_u64().expect("frames");
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    let frames = read_wav(&wav);
    assert!(frames.len() as u64 >= back && back >= gone + 96_000, "time never stopped: {gone}, {back}, {}", frames.len());
    let heard = stretches(&frames);
    let [(first, before), (second, after)] = heard[..] else { panic!("it is heard {} times", heard.len()) };
    assert!(before.len() > 24_000 && after.len() > 24_000, "{} and {} frames are heard", before.len(), after.len());
    assert!(((first + before.len()) as u64) < gone + 48_000 && second as u64 > gone + 48_000, "from {first} and from {second} on");
}
