//! Recordings of the sound while a session plays: master and stems of real processes, whoever dies meanwhile.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::live::{BLOCK_FRAMES, read_wav};
use tests::playing::{Folder, PATIENCE, Playing, continuo, run, send_signal, text};
use tests::programs::{RAMP_STEP, constant, left_output, ramp};
use tests::rpc::Peer;

const NAME: &str = "studio";

/// Two ramps at other levels, on the paced null device with the longest lead.
struct Studio {
    folder: Folder,
    playing: Playing,
    peer: Peer,
}

impl Studio {
    fn open(more: &[&str]) -> Self {
        Self::open_in(Folder::new(), more)
    }

    fn open_in(folder: Folder, more: &[&str]) -> Self {
        let (one, two) = (folder.file("one.8f4e", ramp()), folder.file("two.8f4e", ramp()));
        let mut arguments = vec!["--session", NAME, "--device", "null", "--lead", "24"];
        arguments.extend(more.iter().copied().chain([text(&one), text(&two)]));
        let mut playing = Playing::start(&folder, &arguments, &[]);
        (0..2).for_each(|_| drop(playing.wait_for("sounding")));
        let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
        peer.expect("subscribe", json!({ "topics": ["processes"] }));
        for (runtime, gain) in [("one", 0.25), ("two", 0.5)] {
            peer.expect("gain", json!({ "runtime": runtime, "gain": gain, "rampMs": 0 }));
        }
        Self { folder, playing, peer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_tape(&mut self) -> Value {
        let (master, stems) = (self.path("take.wav"), self.path("stems"));
        self.peer.expect("tape", json!({ "master": text(&master), "stems": text(&stems) }))
    }

    /// Waits until the device has played so many frames more.
    fn play_on(&mut self, frames: u64) {
        play_on(&mut self.peer, frames);
    }

    /// Whether blocks have come too late: a busy machine then proves nothing about ramps.
    fn is_undisturbed(&mut self) -> bool {
        is_undisturbed(&mut self.peer)
    }

    fn tape_event(&mut self, kind: &str) -> Value {
        self.peer.event(kind, |event| event["kind"] == kind)
    }

    fn device_pid(&self) -> u32 {
        self.playing.in_role("device-host").first().expect("there is a device host").pid
    }

    fn end(mut self) -> Folder {
        self.peer.expect("shutdown", json!({}));
        assert_eq!(self.playing.wait(), Some(0), "the session ends well");
        self.folder
    }
}

fn played(peer: &mut Peer) -> u64 {
    peer.expect("status", json!({}))["device"]["frames"].as_u64().unwrap_or(0)
}

fn is_undisturbed(peer: &mut Peer) -> bool {
    let status = peer.expect("status", json!({}));
    status["runtimes"].as_array().into_iter().flatten().all(|runtime| runtime["underruns"] == 0)
}

fn play_on(peer: &mut Peer, frames: u64) {
    let (goal, deadline) = (played(peer) + frames, Instant::now() + PATIENCE);
    while played(peer) < goal {
        assert!(Instant::now() < deadline, "the device does not play on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the CLI answers.
fn command(folder: &Folder, arguments: &[&str]) -> Value {
    let output = continuo(folder).args(arguments).args(["--session", NAME, "--json"]).output().expect("the binary can be started");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Demands that the stems add up to the master, frame by frame. Returns how many frames each has.
fn check_sum(master: &Path, stems: &[PathBuf]) -> usize {
    let master = read_wav(master);
    let stems: Vec<_> = stems.iter().map(|stem| read_wav(stem)).collect();
    assert!(stems.iter().all(|stem| stem.len() == master.len()), "every stem is as long as the master");
    for (frame, whole) in master.iter().enumerate() {
        let sum = stems.iter().fold([0.0f32; 2], |sum, stem| [sum[0] + stem[frame][0], sum[1] + stem[frame][1]]);
        assert_eq!(sum, *whole, "frame {frame}");
    }
    master.len()
}

/// Which sample of its ramp a stem with this gain begins with; demands that it goes on from there without a hole.
fn check_ramp(stem: &[[f32; 2]], gain: f32) -> usize {
    let first = (stem[0][0] / gain / RAMP_STEP) as usize;
    let odd = stem.iter().enumerate().find(|(frame, found)| {
        let value = gain * RAMP_STEP * ((first + frame) & 0xF_FFFF) as f32;
        **found != [value, -value]
    });
    assert_eq!(odd, None, "the ramp begins with its sample {first}");
    first
}

#[test]
fn a_tape_begun_while_it_plays_has_stems_of_one_length_that_add_up_to_the_master() {
    let mut studio = Studio::open(&[]);
    let (master, stems) = (studio.path("take.wav"), studio.path("stems"));
    let told = command(&studio.folder, &["tape", "start", "--master", text(&master), "--stems", text(&stems)]);
    assert_eq!((&told["isTaping"], &told["master"]), (&json!(true), &json!(text(&master))));
    let first_block = told["block"].as_u64().expect("the block is named");
    studio.play_on(10_000);
    assert_eq!(studio.peer.expect("status", json!({}))["tape"]["block"], first_block);
    // A runtime that comes later, one that is silenced, and one that goes.
    studio.peer.expect("push", json!({ "runtime": "three", "text": constant(0.125, ""), "answer": "committed" }));
    studio.play_on(10_000);
    studio.peer.expect("mute", json!({ "runtime": "two", "on": true }));
    studio.play_on(5_000);
    studio.peer.expect("stop", json!({ "runtime": "three" }));
    studio.play_on(5_000);
    let told = command(&studio.folder, &["tape", "stop"]);
    let end_block = told["block"].as_u64().expect("the block is named");
    assert_eq!(told["isTaping"], false);
    let stopped = studio.tape_event("tapeStopped");
    assert_eq!((&stopped["block"], &stopped["frames"]), (&told["block"], &told["frames"]));
    assert_eq!(studio.peer.expect("status", json!({}))["tape"], Value::Null);
    studio.play_on(1_000);
    let is_undisturbed = studio.is_undisturbed();
    let folder = studio.end();
    let stem = |name: &str| folder.path().join("stems").join(format!("{name}.wav"));
    let frames = check_sum(&folder.path().join("take.wav"), &[stem("one"), stem("two"), stem("three")]);
    assert_eq!(frames as u64, told["frames"].as_u64().expect("a length"));
    assert_eq!(frames as u64, (end_block - first_block) * BLOCK_FRAMES as u64, "from the block that was named to the one that was named");
    if is_undisturbed {
        check_ramp(&read_wav(&stem("one")), 0.25);
    }
    let (two, three) = (read_wav(&stem("two")), read_wav(&stem("three")));
    assert_eq!((two[0][0] != 0.0, two[frames - 1]), (true, [0.0; 2]), "stems are behind the level: what is muted is silent");
    assert_eq!((three[0], three[frames - 1]), ([0.0; 2], [0.0; 2]), "it came later and went earlier");
    assert!(three.iter().any(|frame| frame[0] == 0.125), "and was there");
}

#[test]
fn a_tape_may_follow_another_one_and_never_replaces_a_file() {
    let mut studio = Studio::open(&[]);
    assert!(studio.peer.call("tape", json!({})).unwrap_err().message.contains("not being recorded"));
    studio.start_tape();
    let running = studio.peer.call("tape", json!({ "master": text(&studio.path("other.wav")) })).unwrap_err();
    assert_eq!(running.name, "wrong_state");
    assert!(running.message.contains("take.wav"), "{}", running.message);
    studio.play_on(1_000);
    studio.peer.expect("tape", json!({}));
    let (master, folder) = (studio.path("take.wav"), studio.folder.path().to_owned());
    let before = std::fs::read(&master).expect("it is there");
    let taken = studio.peer.call("tape", json!({ "master": text(&master) })).unwrap_err();
    assert_eq!(taken.name, "file_failed");
    assert!(taken.message.contains("never replaces"), "{}", taken.message);
    assert_eq!(std::fs::read(&master).expect("it is there"), before);
    for (master, part) in [(folder.join("none/at/all.wav"), "No such file"), (folder.join("stems"), "exists")] {
        let refused = studio.peer.call("tape", json!({ "master": text(&master) })).unwrap_err();
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    assert!(studio.peer.call("tape", json!({ "master": "take.wav" })).unwrap_err().message.contains("absolute"));
    studio.peer.expect("tape", json!({ "master": text(&studio.path("second.wav")) }));
    studio.play_on(1_000);
    // A session that ends completes its tape.
    let folder = studio.end();
    assert!(read_wav(&folder.path().join("second.wav")).len() >= 1_000);
}

#[test]
fn a_killed_device_host_leaves_a_playable_part_and_the_next_one_goes_on_in_a_part_of_its_own() {
    let mut studio = Studio::open(&[]);
    studio.start_tape();
    studio.tape_event("tapeStarted");
    studio.play_on(96_000);
    send_signal(studio.device_pid(), Signal::KILL);
    let next = studio.tape_event("tapeStarted");
    assert_eq!(next["part"], 2);
    let is_undisturbed = studio.is_undisturbed();
    let missed = next["missedFrames"].as_u64().expect("the gap is told");
    studio.play_on(20_000);
    let told = studio.peer.expect("tape", json!({}));
    let folder = studio.end();
    let path = |name: &str| folder.path().join(name);
    let parts = ["", ".2"].map(|part| {
        let stems = ["one", "two"].map(|name| path(&format!("stems/{name}{part}.wav")));
        (path(&format!("take{part}.wav")), stems)
    });
    assert_eq!(check_sum(&parts[1].0, &parts[1].1) as u64, told["frames"].as_u64().expect("a length"));
    let before = read_wav(&parts[0].0);
    assert!(before.len() > 48_000, "all but its last second can be read: {} frames", before.len());
    let (before, after) = (read_wav(&parts[0].1[0]), read_wav(&parts[1].1[0]));
    if is_undisturbed {
        let start = check_ramp(&before, 0.25);
        // Behind the block that is faded in.
        let goes_on = after.iter().position(|frame| frame[0] != 0.0).expect("it is heard again") + BLOCK_FRAMES;
        let sample = (after[goes_on][0] / 0.25 / RAMP_STEP) as usize;
        assert!(sample - BLOCK_FRAMES >= start + before.len(), "nothing is played twice");
    }
    assert!(missed < 480_000, "{missed} frames are said to be missing");
}

#[test]
fn the_next_supervisor_takes_a_running_tape_back() {
    let Studio { folder, playing, mut peer } = Studio::open(&["--grace", "60"]);
    let (master, stems) = (folder.path().join("take.wav"), folder.path().join("stems"));
    let begun = peer.expect("tape", json!({ "master": text(&master), "stems": text(&stems) }));
    play_on(&mut peer, 10_000);
    drop(peer);
    playing.signal(Signal::KILL);
    playing.leave();
    let mut playing = Playing::up(&folder, &["--session", NAME], &[]);
    playing.wait_for("takenBack");
    let mut peer = Peer::connect(&folder.path().join("continuo").join(format!("{NAME}.sock")));
    play_on(&mut peer, 10_000);
    let status = peer.expect("status", json!({}));
    assert_eq!((&status["tape"]["block"], &status["tape"]["part"]), (&begun["block"], &json!(1)));
    assert!(peer.call("tape", json!({ "master": text(&folder.path().join("other.wav")) })).is_err(), "it is recording");
    let told = peer.expect("tape", json!({}));
    let is_undisturbed = is_undisturbed(&mut peer);
    peer.expect("shutdown", json!({}));
    assert_eq!(playing.wait(), Some(0), "the session ends well");
    let frames = check_sum(&master, &["one", "two"].map(|name| stems.join(format!("{name}.wav"))));
    assert_eq!(frames as u64, told["frames"].as_u64().expect("a length"));
    if is_undisturbed {
        check_ramp(&read_wav(&stems.join("one.wav")), 0.25);
    }
}

#[test]
fn a_full_disk_ends_the_tape_with_an_event_and_everything_plays_on() {
    let folder = Folder::new();
    let (master, stems) = (folder.path().join("take.wav"), folder.path().join("stems"));
    std::fs::create_dir(&stems).expect("a folder can be made");
    // What a session begins with may replace files: here, by a device that is always full.
    std::os::unix::fs::symlink("/dev/full", stems.join("two.wav")).expect("a link can be made");
    let mut studio = Studio::open_in(folder, &["--wav", text(&master), "--stems", text(&stems)]);
    let is_failure = |event: &Value| event["event"] == "recordingFailed";
    // It may have come before the first sound.
    let failed = studio.playing.seen().iter().find(|event| is_failure(event)).cloned();
    let failed = failed.unwrap_or_else(|| studio.playing.wait_until("recordingFailed", is_failure));
    assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains("two.wav") && reason.contains("No space")), "{failed}");
    studio.play_on(20_000);
    assert_eq!(studio.peer.expect("status", json!({}))["tape"], Value::Null);
    // The disk has room again.
    studio.peer.expect("tape", json!({ "master": text(&studio.path("again.wav")) }));
    studio.play_on(10_000);
    studio.peer.expect("shutdown", json!({}));
    assert_eq!(studio.playing.wait(), Some(3), "something was missing: the exit code says so");
    hound::WavReader::open(studio.path("take.wav")).expect("what was written before can be read");
    assert!(read_wav(&studio.path("again.wav")).len() >= 10_000);
}

#[test]
fn a_bounce_has_stems_that_add_up_to_its_file() {
    let folder = Folder::new();
    let (one, two) = (folder.file("one.8f4e", ramp()), folder.file("two.8f4e", constant(0.125, "")));
    let (wav, stems) = (folder.path().join("both.wav"), folder.path().join("stems"));
    let output = run(&folder, &["bounce", text(&one), text(&two), "--seconds", "0.51", "-o", text(&wav), "--stems", text(&stems)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(check_sum(&wav, &[stems.join("one.wav"), stems.join("two.wav")]), 24_480);
}

/// A beat of 125 a minute, at 48 kHz: whole blocks.
const BEAT_FRAMES: u64 = 180 * BLOCK_FRAMES as u64;

/// A program whose output counts the frames since the transport was started, from 0.
fn frames_since_start() -> String {
    let items = "; @config clock.runningMemory running\nint running\nint passed";
    let value = "push passed\ncastToFloat\npush 0.00000095367431640625\nmul";
    left_output(items, value, "push &passed\npush passed\npush running\nadd\npush 0xFFFFF\nand\nstore")
}

#[test]
fn a_tape_begins_and_ends_with_beats_of_the_session_to_the_sample() {
    let mut studio = Studio::open(&[]);
    let (master, stems) = (studio.path("take.wav"), studio.path("stems"));
    let refused = studio.peer.call("tape", json!({ "master": text(&master), "at": "beat" })).unwrap_err();
    assert!(refused.name == "wrong_state" && refused.message.contains("tempo --start"), "{}", refused.message);
    studio.peer.expect("push", json!({ "runtime": "beats", "text": frames_since_start(), "answer": "committed" }));
    studio.play_on(1_000);
    studio.peer.expect("tempo", json!({ "bpm": 125.0, "transport": "start" }));
    let begun = command(&studio.folder, &["tape", "start", "--master", text(&master), "--stems", text(&stems), "--at", "beat"]);
    let first_block = begun["block"].as_u64().expect("the block is named");
    studio.play_on(10_000);
    let ended = command(&studio.folder, &["tape", "stop", "--at", "beat"]);
    let end_block = ended["block"].as_u64().expect("the block is named");
    let frames = (end_block - first_block) * BLOCK_FRAMES as u64;
    assert!(frames > 0 && frames.is_multiple_of(BEAT_FRAMES), "whole beats: {frames} frames");
    assert_eq!(ended["frames"], frames);
    // What is ended before it has begun is one beat long.
    let second = json!({ "master": text(&studio.path("second.wav")), "at": "beat" });
    let (begun, ended) = (studio.peer.ask("tape", second), studio.peer.ask("tape", json!({ "at": "beat" })));
    assert_eq!(studio.peer.answer(begun).expect("it begins")["isTaping"], true);
    assert_eq!(studio.peer.answer(ended).expect("it ends")["frames"], BEAT_FRAMES);
    let is_undisturbed = studio.is_undisturbed();
    let folder = studio.end();
    assert_eq!(read_wav(&master).len() as u64, frames);
    let beats = read_wav(&folder.path().join("stems/beats.wav"));
    if is_undisturbed {
        let is_beat = |frame: u64| (1..1_000).any(|beat| beat * BEAT_FRAMES % (1 << 20) == frame);
        let first = (beats[0][0] / RAMP_STEP) as u64;
        assert!(is_beat(first), "the tape begins {} frames after a beat", first % BEAT_FRAMES);
        let odd = beats.iter().zip(first..).find(|(found, frame)| found[0] != RAMP_STEP * (frame % (1 << 20)) as f32);
        assert_eq!(odd, None, "no frame is missing");
    }
}
