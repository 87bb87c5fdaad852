//! A node process that runs WebAssembly in V8, as one side of a comparison.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tests::playing::Folder;

/// A program as V8 gets it.
pub struct V8Program {
    _folder: Folder,
    wasm: PathBuf,
    pages: u64,
    export: String,
}

impl V8Program {
    /// Writes `wasm` where node can read it. `pages` is the size of its memory, `export` what is one tick of it.
    pub fn new(wasm: &[u8], pages: u64, export: &str) -> Self {
        let folder = Folder::new();
        let wasm = folder.file("program.wasm", wasm);
        Self { _folder: folder, wasm, pages, export: export.to_owned() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/continuo/v8.mjs"));
        command.arg(&self.wasm).args([&self.pages.to_string(), &self.export]);
        command
    }

    /// Starts a process of its own for it and loads it; `None` when there is no node on this machine.
    pub fn start(&self) -> Option<V8> {
        let mut process = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let requests = process.stdin.take()?;
        let mut v8 = V8 { requests, answers: BufReader::new(process.stdout.take()?), process };
        assert_eq!(v8.answer(), "ready", "node did not load {}", self.wasm.display());
        Some(v8)
    }

    /// Time from the start of a fresh process to the end of its first tick; `None` without node.
    pub fn cold_start(&self) -> Option<Duration> {
        let start = Instant::now();
        let mut process = self.command().arg("once").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take()?).read_line(&mut line).ok()?;
        let took = start.elapsed();
        let _ = process.wait();
        (line.trim() == "first").then_some(took)
    }
}

/// A running node with one program loaded and initialised.
pub struct V8 {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl V8 {
    /// Calls the tick so many times; the time is node's own count of its processor time, in microseconds.
    pub fn call(&mut self, times: u64) -> Duration {
        self.ask(&times.to_string())
    }

    /// Compiles, instantiates, initialises and ticks once, in a process that is warm; the time is counted as for `call`.
    pub fn load(&mut self) -> Duration {
        self.ask("load")
    }

    /// From now on it ticks by itself in real time.
    pub fn pace(&mut self) {
        writeln!(self.requests, "pace").expect("node listens");
        assert_eq!(self.answer(), "pacing");
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn ask(&mut self, request: &str) -> Duration {
        writeln!(self.requests, "{request}").expect("node listens");
        Duration::from_nanos(self.answer().parse().expect("node answers with nanoseconds"))
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("node answers");
        line.trim().to_owned()
    }
}

impl Drop for V8 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
