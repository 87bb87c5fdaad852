//! How commands end when they are not left to finish: signals, and children that do not do their part.

use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest time a test waits for anything; no test measures time.
const PATIENCE: Duration = Duration::from_secs(60);

const PROGRAM: &str = "8f4e/v1

entry main
module m
; @config runtime AudioWorkletRuntime
; @config audioRuntime.audioOutBufferLAddress m:left
float[] left 128
int count
push &count
push count
push 1
add
store
moduleEnd
entryEnd

function buffer
#export
call main
functionEnd
";

/// A command that runs in a folder of its own; both go when it is dropped.
struct Running {
    process: Child,
    folder: PathBuf,
}

impl Running {
    fn start(command: &[&str], options: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("continuo-end-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("program.8f4e");
        std::fs::write(&file, PROGRAM).unwrap();
        let mut binary = Command::new(env!("CARGO_BIN_EXE_continuo"));
        binary.args(command).arg(&file).args(options).env("XDG_RUNTIME_DIR", &folder).stdin(Stdio::null());
        let process = binary.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { process, folder }
    }

    fn signal(&self, signal: Signal) {
        send(self.process.id(), signal);
    }

    fn events(&mut self) -> Events {
        Events(BufReader::new(self.process.stdout.take().unwrap()).lines())
    }

    /// Waits for the end; returns the exit code and what was said to people.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code(), said)
    }

    /// Waits until it has started all processes of these roles.
    fn wait_for_children(&self, count: usize) {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        let deadline = Instant::now() + PATIENCE;
        while std::fs::read_to_string(&children).unwrap_or_default().split_whitespace().count() < count {
            assert!(Instant::now() < deadline, "it has not started {count} processes");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The event lines of `play --json`.
struct Events(Lines<BufReader<ChildStdout>>);

impl Events {
    fn wait_for(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let events = self.0.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        events.into_iter().find(|event| is_wanted(event)).expect("the event comes before the end")
    }

    /// The process id of a role, once all is sounding.
    fn wait_for_sound(&mut self, role: &str) -> u32 {
        let started = self.wait_for(|event| event["event"] == "processStarted" && event["role"] == role);
        self.wait_for(|event| event["event"] == "sounding");
        started["pid"].as_u64().unwrap() as u32
    }
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

#[test]
fn a_run_that_is_interrupted_ends_with_130() {
    let mut running = Running::start(&["run"], &["--cycles", "1000000000000"]);
    running.wait_for_children(2);
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(130));
}

#[test]
fn a_bounce_that_is_interrupted_ends_with_130_and_leaves_what_it_has() {
    let wav = std::env::temp_dir().join(format!("continuo-end-{}.wav", std::process::id()));
    let mut running = Running::start(&["bounce"], &["--seconds", "3600", "-o", wav.to_str().unwrap()]);
    let deadline = Instant::now() + PATIENCE;
    while std::fs::metadata(&wav).map_or(0, |found| found.len()) < 1 << 20 {
        assert!(Instant::now() < deadline, "nothing is rendered");
        std::thread::yield_now();
    }
    running.signal(Signal::TERM);
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(&std::fs::read(&wav).unwrap()[..4], b"RIFF");
    std::fs::remove_file(&wav).unwrap();
}

#[test]
fn a_second_signal_ends_a_play_at_once_with_130() {
    let mut running = Running::start(&["play", "--json", "--device", "null"], &[]);
    let mut events = running.events();
    let device = events.wait_for_sound("device-host");
    send(device, Signal::STOP);
    running.signal(Signal::INT);
    events.wait_for(|event| event["event"] == "stopping");
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(130));
    assert!(!is_alive(device), "the stopped process was killed, and reaped");
}

#[test]
fn a_supervisor_that_is_sent_a_fault_dies_of_it_at_once() {
    for signal in [Signal::SEGV, Signal::BUS, Signal::ABORT] {
        let mut play = Running::start(&["play"], &["--device", "null", "--json", "--grace", "0"]);
        play.events().wait_for(|event| event["event"] == "sounding");
        play.signal(signal);
        let end = play.process.wait().unwrap();
        assert_eq!(end.signal(), Some(signal.as_raw()), "{end:?}");
    }
}

#[test]
fn a_device_host_that_is_stuck_is_named_and_killed() {
    let mut running = Running::start(&["play", "--json", "--device", "null"], &[]);
    let mut events = running.events();
    let device = events.wait_for_sound("device-host");
    send(device, Signal::STOP);
    running.signal(Signal::INT);
    let stuck = events.wait_for(|event| event["event"] == "processFailed");
    assert_eq!(stuck["role"], "device-host");
    let (code, said) = running.end();
    assert_eq!(code, Some(3));
    assert!(said.contains("the device host") && said.contains("has not ended"), "{said}");
    assert!(!is_alive(device));
}

#[test]
fn a_role_that_is_started_by_hand_says_what_is_wrong() {
    for (arguments, part) in [
        (["role", "device-host", "/nowhere", "0123456789abcdef"], "device-host"),
        (["role", "drummer", "/nowhere", "0123456789abcdef"], "drummer"),
        (["role", "device-host", "/nowhere", "session"], "session"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_continuo")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&output.stderr).contains(part));
    }
}
