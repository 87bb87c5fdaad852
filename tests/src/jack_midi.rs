//! Independent JACK clients that play, and that write down what is played.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::jack_server::JackServer;
use crate::playing::{PATIENCE, binary};

/// What the writing client's port is called.
pub const LISTENER_PORT: &str = "continuo-midi-capture:in";

/// Programs of this package lie where the binary under test does.
fn tool(name: &str) -> PathBuf {
    binary().with_file_name(name)
}

/// A client that plays.
pub struct Sender {
    process: Child,
    lines: Option<ChildStdin>,
    words: Receiver<String>,
}

impl Sender {
    /// Starts a client of this name, whose port is called `out`.
    pub fn start(server: &JackServer, name: &str) -> Self {
        let mut process = Command::new(tool("jack-midi-send"))
            .arg(name)
            .env("JACK_DEFAULT_SERVER", server.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sender can be started");
        let said = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (sender, words) = channel();
        std::thread::spawn(move || said.map_while(Result::ok).for_each(|word| drop(sender.send(word))));
        let lines = process.stdin.take();
        let this = Self { process, lines, words };
        this.hear("ready");
        this
    }

    pub fn hear(&self, word: &str) {
        assert_eq!(self.words.recv_timeout(PATIENCE).expect("the sender goes on"), word);
    }

    /// Sends messages, each so many frames after the one before.
    pub fn send(&mut self, messages: &[(u64, Vec<u8>)]) {
        let mut lines = String::new();
        for (after, bytes) in messages {
            lines += &after.to_string();
            bytes.iter().for_each(|byte| lines += &format!(" {byte}"));
            lines.push('\n');
        }
        self.lines.as_mut().expect("open").write_all(lines.as_bytes()).expect("the sender reads");
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        drop(self.lines.take());
        let _ = self.process.wait();
    }
}

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// On the server's clock.
    pub frame: u64,
    pub bytes: Vec<u8>,
}

/// A client that writes down what is played.
pub struct Listener {
    process: Child,
    messages: Receiver<Captured>,
}

impl Listener {
    /// Starts a client that connects itself to this port; `None`: somebody else connects it.
    pub fn start(server: &JackServer, port: Option<&str>) -> Self {
        let mut process = Command::new(tool("jack-midi-capture"))
            .args(port)
            .env("JACK_DEFAULT_SERVER", server.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the listener can be started");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
                let (frame, bytes) = numbers.split_first().expect("a line has a frame");
                let bytes = bytes.iter().map(|byte| *byte as u8).collect();
                if sender.send(Captured { frame: *frame, bytes }).is_err() {
                    return;
                }
            }
        });
        Self { process, messages }
    }

    /// The next message.
    pub fn hear(&self) -> Captured {
        self.messages.recv_timeout(PATIENCE).expect("something is played")
    }

    /// Hears until this message comes.
    pub fn hear_until(&self, bytes: &[u8]) {
        while self.hear().bytes != bytes {}
    }

    /// What has come, and comes until nothing has for so long.
    pub fn hear_rest(&self, silence: Duration) -> Vec<Captured> {
        std::iter::from_fn(|| self.messages.recv_timeout(silence).ok()).collect()
    }

    /// Ends as a program that crashes does.
    pub fn vanish(mut self) {
        let _ = self.process.kill();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It ends itself when its input does.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
