//! A JACK server of a test's own, and an independent client that captures what the device host plays.
//!
//! jackd2 with its dummy driver and a synchronous graph (`-S`) with a long client time-out: an overloaded machine makes this
//! "sound card" late, but no frame is lost or repeated by it. What is missing in a capture was lost by the device host.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::process::{Pid, Signal};

use crate::device_rig::{PATIENCE, in_own_process};

/// The server that JACK clients of this process find.
const SERVER: &str = "JACK_DEFAULT_SERVER";

/// Frames a capture holds until they are taken: 87 s at 48 kHz.
const CAPTURE_FRAMES: usize = 1 << 22;

/// Runs `test` in a process of its own, whose JACK clients find only the server that it starts. `name` is the test's own
/// name; `environment` is added. Skips, loudly, where there is no jackd.
pub fn with_own_jack(name: &str, environment: &[(&str, &str)], test: fn()) {
    if let Err(error) = Command::new("jackd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        assert!(std::env::var_os("REQUIRE_JACK").is_none(), "jackd cannot be started: {error}");
        eprintln!("\n*** SKIPPED {name}: jackd cannot be started ({error}); install jackd2 to run this test ***\n");
        return;
    }
    let server = format!("continuo-device-{}", std::process::id());
    let jack = [(SERVER, server.as_str()), ("JACK_NO_AUDIO_RESERVATION", "1")];
    in_own_process(name, &[&jack, environment].concat(), test);
}

/// A running server; ended when dropped, and when the test's thread dies.
pub struct JackServer {
    process: Child,
}

impl JackServer {
    pub fn start(sample_rate_hz: u32, period_frames: u32) -> Self {
        Self::start_with_patience(sample_rate_hz, period_frames, 5_000)
    }

    /// One that waits so long for a client in each cycle. It stands still some twenty times as long when a client is killed.
    pub fn start_with_patience(sample_rate_hz: u32, period_frames: u32, patience_ms: u32) -> Self {
        let name = server_name();
        let mut command = Command::new("jackd");
        command
            .args(["-n", &name, "--port-max", "128", "-R", "-P", "70", "-S", "-t", &patience_ms.to_string()])
            .args(["-d", "dummy", "-C", "2", "-P", "2"])
            .args(["-r", &sample_rate_hz.to_string(), "-p", &period_frames.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec this makes one system call and neither allocates nor locks.
        unsafe { command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?)) };
        let mut process = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !socket(&name).exists() {
            assert!(process.try_wait().unwrap().is_none(), "jackd ended before it was ready");
            assert!(Instant::now() < deadline, "jackd is not ready");
            std::thread::yield_now();
        }
        Self { process }
    }

    /// Stops or continues the server's process.
    pub fn signal(&self, signal: Signal) {
        // A server that has ended by itself needs no signal.
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), signal);
    }
}

impl JackServer {
    /// Kills the server, as a crash would. It leaves an entry in JACK's registry of servers, of which there are eight on a
    /// machine: start it again under the same name, and let it end by itself, or nobody can start JACK any more.
    pub fn crash(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        remove_remains();
        std::mem::forget(self);
    }
}

impl Drop for JackServer {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            std::thread::yield_now();
        }
        remove_remains();
    }
}

/// Removes the sockets and semaphores that a killed server leaves; they carry its unique name.
fn remove_remains() {
    let name = server_name();
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(&name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn server_name() -> String {
    std::env::var(SERVER).expect("the test runs in a process of its own")
}

fn socket(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/jack_{name}_{}_0", rustix::process::getuid().as_raw()))
}

struct Capturing {
    ports: [jack::Port<jack::AudioIn>; 2],
    frames: Producer<[f32; 2]>,
}

impl jack::ProcessHandler for Capturing {
    fn process(&mut self, _: &jack::Client, scope: &jack::ProcessScope) -> jack::Control {
        let [left, right] = &self.ports;
        for (left, right) in left.as_slice(scope).iter().zip(right.as_slice(scope)) {
            // A full queue shows in the test as lost frames.
            let _ = self.frames.push([*left, *right]);
        }
        jack::Control::Continue
    }
}

/// A client that hears what the device host plays.
pub struct Capture {
    client: jack::AsyncClient<(), Capturing>,
    frames: Consumer<[f32; 2]>,
}

impl Capture {
    /// Connects to the device host's ports, waiting until they are there.
    pub fn connect() -> Self {
        let (client, _) = jack::Client::new("capture", jack::ClientOptions::NO_START_SERVER).unwrap();
        let ports = ["left", "right"].map(|name| client.register_port(name, jack::AudioIn::default()).unwrap());
        let names = ports.each_ref().map(|port| port.name().unwrap());
        let (frames_in, frames) = RingBuffer::new(CAPTURE_FRAMES);
        let client = client.activate_async((), Capturing { ports, frames: frames_in }).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let theirs = client.as_client().ports(Some("cpal_client_.*_out:out_"), None, jack::PortFlags::IS_OUTPUT);
            if let [left, right] = theirs.as_slice() {
                let connected = [(left, &names[0]), (right, &names[1])]
                    .iter()
                    .all(|(from, to)| client.as_client().connect_ports_by_name(from, to).is_ok());
                if connected {
                    return Self { client, frames };
                }
            }
            assert!(Instant::now() < deadline, "the device host has no ports");
            std::thread::yield_now();
        }
    }

    /// What has been captured since the last time.
    pub fn take(&mut self) -> Vec<[f32; 2]> {
        std::iter::from_fn(|| self.frames.pop().ok()).collect()
    }

    /// Lets go of a server that is gone.
    pub fn abandon(self) {
        // Deactivating a client of a dead server fails, as it should.
        let _ = self.client.deactivate();
    }
}
