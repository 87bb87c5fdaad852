//! A live session under test: `continuo play` as a session of its own name, its control socket, its recording, and what its
//! processes hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::playing::{Folder, PATIENCE, Playing, continuo, text};
use crate::rpc::Peer;

/// Frames in a block.
pub const BLOCK_FRAMES: usize = 128;

/// The session's name.
const NAME: &str = "under-test";

/// Most that a process may grow over a run, in KiB: the allocator keeps what was freed, and a history fills.
const GROWTH_KIB: u64 = 12 << 10;

/// Most that the worker may: its cache of native code has a limit of its own.
const WORKER_GROWTH_KIB: u64 = (64 << 10) + GROWTH_KIB;

/// Compares what the processes of a session hold with what they held; those that were not there before do not count.
pub fn assert_flat(before: &BTreeMap<String, Holdings>, after: &BTreeMap<String, Holdings>) {
    for (process, now) in after {
        let Some(then) = before.get(process) else { continue };
        let growth_kib = if process.contains("compiler-worker") { WORKER_GROWTH_KIB } else { GROWTH_KIB };
        assert!(now.descriptors <= then.descriptors + 4, "{process}: {} descriptors became {}", then.descriptors, now.descriptors);
        assert!(now.memory_kib <= then.memory_kib + growth_kib, "{process}: {} KiB became {}", then.memory_kib, now.memory_kib);
    }
}

/// A running session.
pub struct LiveSession {
    pub playing: Playing,
    pub peer: Peer,
    socket: PathBuf,
    wav: PathBuf,
}

impl LiveSession {
    /// Plays these programs on the paced null device with the longest lead, recorded, and connects to the control socket.
    pub fn start(folder: &Folder, programs: &[&Path]) -> Self {
        let wav = folder.path().join("session.wav");
        let mut arguments = vec!["--session", NAME, "--device", "null", "--lead", "24", "--wav", text(&wav)];
        arguments.extend(programs.iter().map(|program| text(program)));
        let mut playing = Playing::start(folder, &arguments, &[]);
        programs.iter().for_each(|_| drop(playing.wait_for("sounding")));
        let socket = folder.path().join("continuo").join(format!("{NAME}.sock"));
        let peer = Peer::connect(&socket);
        Self { playing, peer, socket, wav }
    }

    /// Another connection to the same session.
    pub fn another_peer(&self) -> Peer {
        Peer::connect(&self.socket)
    }

    /// Where clients connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `status` says about one runtime.
    pub fn runtime(&mut self, name: &str) -> Value {
        let mut status = self.peer.expect("status", json!({ "runtime": name }));
        status["runtimes"][0].take()
    }

    /// Asserts that a runtime plays. On a busy machine, or after a tick that ran away, it may be late.
    pub fn assert_playing(&mut self, name: &str) {
        let state = self.runtime(name)["state"].clone();
        assert!(state == "running" || state == "late", "{name} is {state}");
    }

    /// Process id of the host of each runtime.
    pub fn host_pids(&mut self) -> BTreeMap<String, u64> {
        let status = self.peer.expect("status", json!({}));
        let runtimes = status["runtimes"].as_array().expect("a list of runtimes").iter();
        runtimes.map(|runtime| (runtime["runtime"].as_str().unwrap_or("?").to_owned(), runtime["pid"].as_u64().unwrap_or(0))).collect()
    }

    /// Waits until the device has played so many frames more than it has now.
    pub fn play_on(&mut self, frames: u64) {
        let deadline = Instant::now() + PATIENCE;
        let played = |session: &mut Self| session.peer.expect("status", json!({}))["device"]["frames"].as_u64().expect("frames played");
        let goal = played(self) + frames;
        while played(self) < goal {
            assert!(Instant::now() < deadline, "the device does not play on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks until something holds.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&mut Peer) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&mut self.peer) {
            assert!(Instant::now() < deadline, "waited for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a command of the command line on this session, and returns the JSON that it answers with.
    pub fn command(&self, folder: &Folder, arguments: &[&str]) -> Value {
        let output = continuo(folder).args(arguments).args(["--session", NAME]).output().expect("the binary can be started");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a command answers in JSON")
    }

    /// Blocks that were not there in time, of all runtimes.
    pub fn underruns(&mut self) -> u64 {
        let status = self.peer.expect("status", json!({}));
        let runtimes = status["runtimes"].as_array().expect("a list of runtimes").iter();
        runtimes.filter_map(|runtime| runtime["underruns"].as_u64()).sum()
    }

    /// The same, for each runtime.
    pub fn underruns_by_runtime(&mut self) -> BTreeMap<String, u64> {
        let status = self.peer.expect("status", json!({}));
        let runtimes = status["runtimes"].as_array().expect("a list of runtimes").iter();
        runtimes
            .map(|runtime| (runtime["runtime"].as_str().unwrap_or("?").to_owned(), runtime["underruns"].as_u64().unwrap_or(0)))
            .collect()
    }

    /// Memory and descriptors of every process of the session, by its role or runtime.
    pub fn holdings(&self) -> BTreeMap<String, Holdings> {
        let processes = self.playing.processes().into_iter();
        processes.filter_map(|process| Some((process.arguments.get(1..)?.join(" "), Holdings::of(process.pid)?))).collect()
    }

    /// Ends the session through its socket; returns what the device was given, as frames of left and right.
    pub fn end(mut self) -> Vec<[f32; 2]> {
        self.peer.expect("shutdown", json!({}));
        assert_eq!(self.playing.wait(), Some(0), "the session ends well");
        read_wav(&self.wav)
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    /// Memory of its own: resident and anonymous.
    pub memory_kib: u64,
    pub descriptors: usize,
}

impl Holdings {
    /// `None` for a process that is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let memory_kib = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self { memory_kib, descriptors })
    }
}

/// The frames of a stereo recording at 48 kHz.
pub fn read_wav(path: &Path) -> Vec<[f32; 2]> {
    let mut reader = hound::WavReader::open(path).expect("the recording is a WAV file");
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 48_000));
    let samples: Vec<f32> = reader.samples::<f32>().map(|sample| sample.expect("a sample")).collect();
    samples.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect()
}

/// The left channel of a recording as steps: from which frame on, which value.
pub fn steps(path: &Path) -> Vec<(u64, f32)> {
    let mut steps: Vec<(u64, f32)> = Vec::new();
    for (frame, [left, _]) in (0..).zip(read_wav(path)) {
        if steps.last().is_none_or(|(_, last)| *last != left) {
            steps.push((frame, left));
        }
    }
    steps
}

/// Where the time of one edit went, from the saved file (or the request) to the tick that is heard. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub detect_us: u64,
    pub compile_us: u64,
    pub native_us: u64,
    pub transfer_us: u64,
    pub commit_us: u64,
}

impl Stages {
    /// Reads the stages from an `editCommitted` event of `continuo play --json`.
    pub fn of(event: &Value) -> Self {
        let time = |name: &str| event[name].as_u64().unwrap_or(0);
        Self {
            detect_us: time("detectUs"),
            compile_us: time("compileUs"),
            native_us: time("nativeUs"),
            transfer_us: time("transferUs"),
            commit_us: time("commitUs"),
        }
    }

    pub fn total_us(&self) -> u64 {
        self.detect_us + self.compile_us + self.native_us + self.transfer_us + self.commit_us
    }
}
