//! A JACK server of a test's own: jackd2 with its dummy driver, which needs no sound hardware.
//!
//! The graph is synchronous (`-S`) with a long client time-out, so an overloaded machine makes this "sound card" late but
//! never loses or repeats a frame: whatever is missing in a capture was lost by the player.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Frames in one period of the server.
pub const PERIOD_FRAMES: u32 = 128;

/// How long a server waits for a client that stands still.
const PATIENCE_MS: u32 = 5_000;

/// How long a server that is asked to end may take: it waits for each client that has gone without a word.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A running server; ended when dropped.
pub struct JackServer {
    name: String,
    process: Child,
}

impl JackServer {
    /// Starts a server, or says why there is none. With `REQUIRE_JACK=1` in the environment a missing jackd is a failure.
    pub fn start() -> Option<Self> {
        Self::start_with(PATIENCE_MS, 2)
    }

    /// Starts a server that waits no longer than `patience_ms` for one of its clients: for tests that kill clients, since the
    /// whole graph stands still that long, several times for each of them.
    pub fn start_with_patience(patience_ms: u32) -> Option<Self> {
        Self::start_with(patience_ms, 2)
    }

    /// Starts a server with so many outputs.
    pub fn start_with_outputs(outputs: u32) -> Option<Self> {
        Self::start_with(PATIENCE_MS, outputs)
    }

    fn start_with(patience_ms: u32, outputs: u32) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("continuo-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::try_start(name, patience_ms, outputs)
    }

    /// Starts a server again that has ended.
    pub fn start_as(name: &str, patience_ms: u32) -> Self {
        Self::try_start(name.to_owned(), patience_ms, 2).expect("it could be started before")
    }

    fn try_start(name: String, patience_ms: u32, outputs: u32) -> Option<Self> {
        let mut process = match spawn(&name, patience_ms, outputs) {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("REQUIRE_JACK").is_none(), "jackd cannot be started: {error}");
                eprintln!("\n*** SKIPPED: jackd cannot be started ({error}); install jackd2 to run this test ***\n");
                return None;
            }
        };
        if !Self::becomes_ready(&name, &mut process) {
            forget_dead_servers();
            process = spawn(&name, patience_ms, outputs).expect("jackd can be started");
            assert!(Self::becomes_ready(&name, &mut process), "jackd ended before it was ready");
        }
        Some(Self { name, process })
    }

    /// Waits until the server is ready. False when it has ended instead.
    fn becomes_ready(name: &str, process: &mut Child) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !Self::socket(name).exists() {
            if process.try_wait().expect("jackd can be waited for").is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "jackd was not ready after 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    fn socket(name: &str) -> PathBuf {
        // jackd names its socket after the server and the user.
        let user = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap_or(0);
        PathBuf::from(format!("/dev/shm/jack_{name}_{user}_0"))
    }

    /// The server's name, for `JACK_DEFAULT_SERVER`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the server to end and waits for it. A killed server would keep one of the eight places that the machine's
    /// registry has for servers, so that is only done to one that does not listen.
    fn end(&mut self) {
        crate::playing::send_signal(self.process.id(), rustix::process::Signal::TERM);
        let deadline = Instant::now() + END_PATIENCE;
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn spawn(name: &str, patience_ms: u32, outputs: u32) -> std::io::Result<Child> {
    Command::new("jackd")
        .args(["-n", name, "--port-max", "128", "-R", "-P", "70", "-S", "-t", &patience_ms.to_string()])
        .args(["-d", "dummy", "-r", "48000", "-p", &PERIOD_FRAMES.to_string(), "-C", "2", "-P", &outputs.to_string()])
        .env("JACK_NO_AUDIO_RESERVATION", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// A server that cannot start may have found no place in the registry: where none runs, what is registered there is of dead
/// ones, whose places would never become free. Only then: clients that wait for a server to return look for it there.
fn forget_dead_servers() {
    let is_server =
        |process: std::fs::DirEntry| std::fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.trim() == "jackd");
    if !std::fs::read_dir("/proc").is_ok_and(|processes| processes.flatten().any(is_server)) {
        // It may have gone in the meantime, or never have been there.
        let _ = std::fs::remove_file("/dev/shm/jack-shm-registry");
    }
}

impl Drop for JackServer {
    fn drop(&mut self) {
        self.end();
    }
}
