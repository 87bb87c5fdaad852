//! A node process that runs WebAssembly in V8, as one side of a comparison.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A running node with one program loaded and initialised.
pub struct V8 {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl V8 {
    /// Loads `wasm`; `None` when there is no node on this machine.
    pub fn start(wasm: &Path, pages: u64, is_shared: bool, export: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/v8.mjs");
        let memory = if is_shared { "shared" } else { "plain" };
        let mut process = Command::new("node")
            .arg(script)
            .arg(wasm)
            .args([&pages.to_string(), memory, export])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let requests = process.stdin.take()?;
        let mut v8 = Self { requests, answers: BufReader::new(process.stdout.take()?), process };
        assert_eq!(v8.answer(), "ready", "node did not load {}", wasm.display());
        Some(v8)
    }

    /// Calls the export so many times; the time is node's own.
    pub fn call(&mut self, times: u64) -> Duration {
        writeln!(self.requests, "{times}").expect("node listens");
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
