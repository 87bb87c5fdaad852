//! What is heard: the paced null device into a WAV file, and a real JACK server with an independent client that listens.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use tests::jack_server::JackServer;
use tests::playing::{Folder, Playing, run, send_signal, text};
use tests::programs::{RAMP_STEP, ramp, silence};

/// Places where a ramp does not go on by one step. `left` is one channel of a ramp program.
fn jumps(left: &[f32]) -> Vec<usize> {
    let wraps = |before: f32, after: f32| before == 1.0 - RAMP_STEP && after == 0.0;
    (1..left.len()).filter(|&i| left[i] - left[i - 1] != RAMP_STEP && !wraps(left[i - 1], left[i])).collect()
}

/// What was heard of a ramp, and how many blocks of its own lane came too late.
struct Take {
    frames: Vec<[f32; 2]>,
    underruns: u64,
}

/// Takes in which a busy machine made the ramp's own host late prove nothing: then the scene is played again.
const TAKES: usize = 5;

/// Plays the scene until no block of the ramp came too late, and demands that every sample is there, in order, on both
/// channels, whatever else happened.
fn every_sample_is_heard(scene: impl Fn() -> Take) {
    for _ in 0..TAKES {
        let take = scene();
        if take.underruns == 0 {
            let left: Vec<f32> = take.frames.iter().map(|frame| frame[0]).collect();
            assert_eq!(jumps(&left), Vec::<usize>::new());
            assert!(take.frames.iter().all(|frame| frame[0] == -frame[1]));
            return;
        }
        eprintln!("{} blocks came too late; once more", take.underruns);
    }
    panic!("in each of {TAKES} takes blocks came too late: the machine is too busy, or the hosts are");
}

/// Blocks of the ramp's lane that came too late, as the meter counted them.
fn underruns(playing: &Playing) -> u64 {
    let lanes = playing.seen().iter().filter(|event| event["event"] == "meter").flat_map(|event| event["lanes"].as_array());
    lanes.flatten().filter(|lane| lane["runtime"] == "ramp").filter_map(|lane| lane["underruns"].as_u64()).max().unwrap_or(0)
}

fn read_wav(path: &std::path::Path) -> Vec<[f32; 2]> {
    let mut reader = hound::WavReader::open(path).expect("the recording is a WAV file");
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 48_000));
    let samples: Vec<f32> = reader.samples::<f32>().map(|sample| sample.expect("a sample")).collect();
    samples.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect()
}

/// A recording of the ramp beside a silent program on the paced null device, from its first sample on and without the
/// fade-out, while `meanwhile` happens.
fn recorded(meanwhile: impl Fn(&mut Playing)) -> Take {
    let folder = Folder::new();
    let (program, quiet) = (folder.file("ramp.8f4e", ramp()), folder.file("quiet.8f4e", silence()));
    let wav = folder.path().join("take.wav");
    let arguments = ["--device", "null", "--seconds", "2", "--lead", "16", "--wav", text(&wav), text(&program), text(&quiet)];
    let mut playing = Playing::start(&folder, &arguments, &[]);
    meanwhile(&mut playing);
    playing.wait();
    let frames = read_wav(&wav);
    let start = frames.iter().position(|frame| frame != &[0.0, 0.0]).expect("something was recorded");
    assert_eq!(frames[start], [RAMP_STEP, -RAMP_STEP], "the first sample of the program comes first");
    Take { frames: frames[start..start + 90_000].to_vec(), underruns: underruns(&playing) }
}

#[test]
fn the_paced_null_device_records_every_sample_from_the_first_on() {
    every_sample_is_heard(|| recorded(|_| {}));
}

#[test]
fn a_killed_host_does_not_change_one_sample_of_another_runtime() {
    every_sample_is_heard(|| {
        recorded(|playing| {
            let is_quiet = |event: &serde_json::Value| event["event"] == "processStarted" && event["runtime"] == "quiet";
            let pid = playing.wait_until("the quiet host", is_quiet)["pid"].as_u64().expect("a process has a pid");
            playing.wait_for("sounding");
            playing.wait_for("sounding");
            send_signal(pid as u32, Signal::KILL);
            assert_eq!(playing.wait_for("died")["runtime"], "quiet");
        })
    });
}

#[test]
fn programs_of_one_play_start_on_the_same_sample() {
    let folder = Folder::new();
    let programs: Vec<_> = ["one", "two", "three", "four"].map(|name| folder.file(&format!("{name}.8f4e"), ramp())).to_vec();
    let wav = folder.path().join("take.wav");
    let mut arguments = vec!["--device", "null", "--seconds", "0.5", "--lead", "16", "--wav", text(&wav)];
    arguments.extend(programs.iter().map(|program| text(program)));
    let mut playing = Playing::start(&folder, &arguments, &[]);
    playing.wait();
    let frames = read_wav(&wav);
    let first = frames.iter().find(|frame| frame != &&[0.0, 0.0]).expect("something was recorded");
    assert_eq!(*first, [4.0 * RAMP_STEP, -4.0 * RAMP_STEP]);
    let blocks: Vec<_> = playing.seen().iter().filter(|event| event["event"] == "sounding").map(|event| event["block"].as_u64()).collect();
    assert_eq!(blocks.len(), 4);
    assert!(blocks.iter().all(|block| *block == blocks[0]), "{blocks:?}");
}

#[test]
fn a_bounce_is_exact_and_the_same_every_time() {
    let folder = Folder::new();
    let program = folder.file("ramp.8f4e", ramp());
    let bounce = |name: &str| {
        let wav = folder.path().join(name);
        let output = run(&folder, &["bounce", text(&program), "--seconds", "3", "-o", text(&wav)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(&wav).expect("the bounce was written")
    };
    assert_eq!(bounce("one.wav"), bounce("two.wav"));
    let frames = read_wav(&folder.path().join("one.wav"));
    assert_eq!(frames.len(), 144_000);
    assert_eq!(frames[0], [RAMP_STEP, -RAMP_STEP]);
    let left: Vec<f32> = frames.iter().map(|frame| frame[0]).collect();
    assert_eq!(jumps(&left[..143_000]), Vec::<usize>::new());
}

#[test]
fn a_jack_server_hears_every_sample() {
    let Some(server) = JackServer::start() else { return };
    every_sample_is_heard(|| captured(&server));
}

/// What an independent client of the server hears of the ramp beside a silent program, for two seconds.
fn captured(server: &JackServer) -> Take {
    const FRAMES: usize = 96_000;
    let folder = Folder::new();
    let (program, quiet) = (folder.file("ramp.8f4e", ramp()), folder.file("quiet.8f4e", silence()));
    let arguments = ["--device", "jack", "--lead", "16", text(&program), text(&quiet)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    let device_host = playing.wait_until("device host", |event| event["event"] == "processStarted" && event["role"] == "device-host");
    let file = folder.path().join("capture.f32");
    let captured = Command::new(env!("CARGO_BIN_EXE_jack-capture"))
        .arg(format!("cpal_client_{}_out", device_host["pid"]))
        .arg(FRAMES.to_string())
        .arg(&file)
        .env("JACK_DEFAULT_SERVER", server.name())
        .stdout(Stdio::null())
        .status()
        .expect("the capture can be started");
    assert!(captured.success());
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    let bytes = std::fs::read(&file).expect("the capture was written");
    let samples: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(samples.len(), 2 * FRAMES);
    Take { frames: samples.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect(), underruns: underruns(&playing) }
}
