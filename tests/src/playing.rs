//! The binary under test: runs that end by themselves, and plays that are followed through their event lines.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::remains::{self, MarkedProcess};

/// Longest time a test waits for anything. Generous: the machine may be busy; no test measures time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Environment variable that marks a run with everything it starts.
const MARK: &str = "CONTINUO_TEST_RUN";

/// The binary that `cargo build` made beside this test, or beside this program.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().find(|folder| folder.ends_with("deps")).unwrap_or(&test).parent().expect("a file lies in a folder");
    let binary = profile.join("continuo");
    assert!(binary.exists(), "{} is missing: build it first with `cargo build`", binary.display());
    binary
}

/// A folder of a test's own, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("continuo-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into the folder and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a file can be written");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with a runtime directory inside `folder`, ready for arguments.
pub fn continuo(folder: &Folder) -> Command {
    marked(folder, &binary())
}

fn marked(folder: &Folder, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("XDG_RUNTIME_DIR", folder.path()).env(MARK, folder.path()).stdin(Stdio::null());
    command
}

/// Runs the binary to its end and returns what it said.
pub fn run(folder: &Folder, arguments: &[&str]) -> Output {
    continuo(folder).args(arguments).output().expect("the binary can be started")
}

/// The same of what must succeed; returns what it said.
pub fn succeed(folder: &Folder, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it says text")
}

/// The same of a command that answers in JSON.
pub fn answer(folder: &Folder, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&succeed(folder, &arguments)).expect("it says JSON")
}

/// What an item of a running program holds.
pub fn number(folder: &Folder, runtime: &str, item: &str) -> f64 {
    let values = answer(folder, &["get", runtime, item]);
    values["values"][0]["values"][0].as_f64().unwrap_or_else(|| panic!("no number: {values}"))
}

/// Waits until something is so; `what` is for the failure message.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// A running `continuo play --json`.
pub struct Playing {
    process: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    mark: String,
}

impl Playing {
    /// Starts `continuo play --json ARGUMENTS` with these additional environment variables.
    pub fn start(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::command(folder, "play", arguments, environment)
    }

    /// The same for `continuo up --json ARGUMENTS`.
    pub fn up(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::command(folder, "up", arguments, environment)
    }

    fn command(folder: &Folder, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = continuo(folder);
        command.args([name, "--json"]).args(arguments).envs(environment.iter().copied());
        Self::follow(folder, command)
    }

    /// Starts another program that becomes a play with events, with all of its arguments.
    pub fn of_program(folder: &Folder, program: &Path, arguments: &[&str]) -> Self {
        let mut command = marked(folder, program);
        command.args(arguments);
        Self::follow(folder, command)
    }

    fn follow(folder: &Folder, mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be started");
        let (sender, events) = channel();
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|e| panic!("not an event ({e}): {line}"));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let errors = BufReader::new(process.stderr.take().expect("piped")).lines();
        std::thread::spawn(move || errors.map_while(Result::ok).for_each(|line| eprintln!("[continuo] {line}")));
        Self { process, events, seen: Vec::new(), mark: text(folder.path()).to_owned() }
    }

    /// Waits for the next event of this name and returns it.
    pub fn wait_for(&mut self, event: &str) -> Value {
        self.wait_until(event, |found| found["event"] == event)
    }

    /// Waits for an event that `is_wanted`; `what` is for the failure message.
    pub fn wait_until(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|_| panic!("no event {what}; so far: {:#?}", self.seen));
            self.seen.push(event.clone());
            if is_wanted(&event) {
                return event;
            }
        }
    }

    /// Every event read so far.
    pub fn seen(&self) -> &[Value] {
        &self.seen
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// All processes of this run, the supervisor included.
    pub fn processes(&self) -> Vec<MarkedProcess> {
        remains::processes_marked(MARK, &self.mark)
    }

    /// The processes of this run in one role.
    pub fn in_role(&self, role: &str) -> Vec<MarkedProcess> {
        self.processes().into_iter().filter(|process| process.arguments.iter().any(|argument| argument == role)).collect()
    }

    /// Waits until no process of this run is left.
    pub fn wait_until_gone(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let _ = self.process.wait();
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "processes are left: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a supervisor that has been killed, and leaves to another one what it has left.
    pub fn leave(mut self) {
        let _ = self.process.wait();
        std::mem::forget(self); // Dropping it would end what is to go on.
    }

    /// The process that runs a runtime now, as the last takeover, or else the start, has told.
    pub fn host_pid(&self, runtime: &str) -> u32 {
        let of = |event: &&Value, name: &str| event["event"] == name && event["runtime"] == runtime;
        let newest = |name: &str| self.seen.iter().rev().find(|event| of(event, name));
        let host = newest("hostReady").or_else(|| newest("processStarted"));
        host.and_then(|event| event["pid"].as_u64()).unwrap_or_else(|| panic!("{runtime} has no host: {:#?}", self.seen)) as u32
    }

    /// Kills a runtime's host, and waits until another one has taken over.
    pub fn kill_host(&mut self, runtime: &str) {
        send_signal(self.host_pid(runtime), rustix::process::Signal::KILL);
        self.wait_until("the takeover", |event| event["event"] == "hostReady" && event["runtime"] == runtime);
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: rustix::process::Signal) {
        send_signal(self.pid(), signal);
    }

    /// Waits for the supervisor's end; returns its exit code and whatever events were left.
    pub fn wait(&mut self) -> Option<i32> {
        let status = self.process.wait().expect("a child can be waited for");
        self.seen.extend(self.events.try_iter());
        status.code()
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for process in self.processes() {
            send_signal(process.pid, rustix::process::Signal::KILL);
        }
    }
}

/// Sends a signal to a process; one that is gone already is fine.
pub fn send_signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
