//! A session under test: `continuo play` on the null device with a recording, its event lines, and one connection to its
//! control socket.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// Longest time a test waits for anything; no test measures time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Sample n (from 1) of [`program`] is n times this; exact in 32-bit floats.
const STEP: f32 = 1.0 / 1_048_576.0;

/// A program whose every sample is known, with more lines in its module and more modules after it.
pub fn program(body: &str, modules: &str) -> String {
    format!(
        "8f4e/v1

entry main
module m
; @config runtime AudioWorkletRuntime
; @config audioRuntime.audioOutBufferLAddress m:left
float[] left 128
int n
int position
int unused
float gain 1.0
push &n
push n
push 1
add
push 0xFFFFF
and
store
push &left
push position
push 4
mul
add
push n
castToFloat
push 0.00000095367431640625
mul
push gain
mul
store
push &position
push position
push 1
add
push 127
and
store
{body}
moduleEnd
{modules}
entryEnd

function buffer
#export
loop 128
call main
loopEnd
functionEnd
"
    )
}

/// A module that does not touch the others.
pub fn addition() -> String {
    "module other\nint count 5\npush &count\npush count\npush 1\nadd\nstore\nmoduleEnd".to_owned()
}

/// Places where the ramp does not go on by one step, up to the fade-out at the end.
pub fn ramp_jumps(samples: &[f32]) -> Vec<usize> {
    let start = samples.iter().position(|sample| *sample != 0.0).expect("something was recorded");
    // The last tenth of a second holds the fade-out.
    let end = samples.len().saturating_sub(4_800).max(start + 2);
    (start + 1..end).filter(|&i| samples[i] - samples[i - 1] != STEP && samples[i] != 0.0).collect()
}

/// The left channel of a 32-bit float stereo WAV file.
pub fn left_channel(path: &std::path::Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let data = bytes.windows(4).position(|window| window == b"data").expect("a WAV file has data") + 8;
    bytes[data..].chunks_exact(8).map(|frame| f32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]])).collect()
}

pub struct Session {
    process: Child,
    folder: tempfile::TempDir,
    events: Lines<BufReader<ChildStdout>>,
    control: BufReader<UnixStream>,
    last_id: u64,
}

impl Session {
    /// Plays this text as the runtime `song`, and connects.
    pub fn play(text: &str) -> Self {
        Self::play_with(text, |_| {})
    }

    /// The same, with a command line and a surrounding of its own.
    pub fn play_with(text: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let song = folder.path().join("song.8f4e");
        std::fs::write(&song, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuo"));
        // A long lead: the machine may be busy, and an underrun is not what is tested.
        command.args(["play", "--json", "--device", "null", "--lead", "24", "--wav"]).arg(folder.path().join("take.wav")).arg(&song);
        command.env("XDG_RUNTIME_DIR", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        change(&mut command);
        let mut process = command.spawn().unwrap();
        let mut events = BufReader::new(process.stdout.take().unwrap()).lines();
        let listening = next_event(&mut events, "listening");
        let socket = folder.path().join("continuo").join(format!("{}.sock", listening["session"].as_str().unwrap()));
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = Self { process, folder, events, control: BufReader::new(stream), last_id: 0 };
        session.call("hello", json!({ "protocol": 1, "client": "test" }));
        session
    }

    #[allow(dead_code, reason = "not every test sends signals")]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for its end.
    #[allow(dead_code, reason = "not every test does")]
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }

    pub fn wait_for(&mut self, event: &str) -> Value {
        next_event(&mut self.events, event)
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        writeln!(self.control.get_mut(), "{request}").unwrap();
        self.last_id
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.control.read_line(&mut line).expect("an answer comes");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Asks, and expects an answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(method, params);
        let answer = self.receive();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Asks, and expects an error.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value) -> Value {
        self.send(method, params);
        let answer = self.receive();
        assert!(answer["result"].is_null(), "{method}: {answer}");
        answer["error"].clone()
    }

    /// Asks many things without waiting in between, no more at a time than a client may. Outcomes are in the order of asking.
    pub fn call_all(&mut self, method: &str, params: impl Iterator<Item = Value>) -> Vec<Value> {
        let mut outcomes = std::collections::BTreeMap::new();
        let mut open = 0;
        for params in params {
            self.send(method, params);
            open += 1;
            if open >= 24 {
                let answer = self.receive();
                outcomes.insert(answer["id"].as_u64(), answer);
                open -= 1;
            }
        }
        for _ in 0..open {
            let answer = self.receive();
            outcomes.insert(answer["id"].as_u64(), answer);
        }
        outcomes.into_values().collect()
    }

    fn song(&self) -> PathBuf {
        self.folder.path().join("song.8f4e")
    }

    /// Saves the song's file in place.
    pub fn save(&self, text: &str) {
        std::fs::write(self.song(), text).unwrap();
    }

    /// Saves it as most editors do.
    pub fn save_by_renaming(&self, text: &str) {
        let other = self.folder.path().join(".song.8f4e.swp");
        std::fs::write(&other, text).unwrap();
        std::fs::rename(other, self.song()).unwrap();
    }

    /// Open descriptors of the supervisor.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Ends the session well; returns the left channel of what was recorded.
    pub fn end(mut self) -> Vec<f32> {
        self.finish()
    }

    /// As [`Session::end`], and keeps the files.
    pub fn finish(&mut self) -> Vec<f32> {
        self.call("shutdown", json!({}));
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
        left_channel(&self.path("take.wav"))
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the binary to its end; returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuo"));
        let output = command.args(arguments).env("XDG_RUNTIME_DIR", self.folder.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn next_event(events: &mut Lines<BufReader<ChildStdout>>, name: &str) -> Value {
    let mut seen = Vec::new();
    for line in events {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == name {
            return event;
        }
        if event["event"] != "meter" && event["event"] != "runtimeStatus" {
            seen.push(event);
        }
    }
    panic!("no event `{name}` comes before the end: {seen:#?}");
}
