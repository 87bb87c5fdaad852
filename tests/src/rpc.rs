//! A client of the control socket for tests, written from PROTOCOL.md alone: a witness that shares no code with the
//! supervisor.
//!
//! One thread reads lines, the test's own thread asks and waits. Every wait has a deadline; none measures time.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::playing::PATIENCE;

/// Longest line this client reads. The protocol's answers are at most 2 MiB.
const LONGEST_LINE_BYTES: usize = 4 << 20;

/// The error of a request, as the protocol has it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: i64,
    pub name: String,
    pub message: String,
    pub data: Value,
}

/// A connection that has said hello.
pub struct Peer {
    stream: UnixStream,
    lines: Receiver<Value>,
    next_id: u64,
    answers: BTreeMap<u64, Value>,
    events: VecDeque<Value>,
}

impl Peer {
    /// Connects as soon as the socket is there, and says hello.
    pub fn connect(socket: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", socket.display()),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut peer = Self::over(stream);
        peer.call("hello", json!({ "protocol": 1, "client": "continuo-tests" })).expect("hello is answered");
        peer
    }

    fn over(stream: UnixStream) -> Self {
        let reader = stream.try_clone().expect("a socket can be shared by two threads");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                assert!(line.len() <= LONGEST_LINE_BYTES, "a line of {} bytes", line.len());
                let message = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Self { stream, lines, next_id: 1, answers: BTreeMap::new(), events: VecDeque::new() }
    }

    /// Sends a request without waiting for its answer.
    pub fn ask(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).unwrap_or_else(|error| panic!("{method} cannot be sent: {error}"));
        id
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self, id: u64) -> Result<Value, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(mut answer) = self.answers.remove(&id) {
                assert_eq!(answer["jsonrpc"], "2.0");
                return match answer.get_mut("error") {
                    Some(error) => Err(failure(error)),
                    None => Ok(answer["result"].take()),
                };
            }
            self.read(deadline, &format!("the answer to request {id}"));
        }
    }

    /// Sends a request and waits for its answer.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let id = self.ask(method, params);
        self.answer(id)
    }

    /// As [`Self::call`], for requests that must not fail.
    pub fn expect(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params.clone()).unwrap_or_else(|failure| panic!("{method} {params}: {failure:?}"))
    }

    /// Whether this request has been answered by now.
    pub fn has_answer(&mut self, id: u64) -> bool {
        while let Ok(message) = self.lines.try_recv() {
            self.sort(message);
        }
        self.answers.contains_key(&id)
    }

    /// Waits for the next event that `is_wanted` and returns its content (`params.event`). Events before it are dropped.
    pub fn event(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.events.pop_front() {
                if is_wanted(&event) {
                    return event;
                }
            }
            self.read(deadline, what);
        }
    }

    /// The next event, if one comes within `patience`.
    pub fn next_event(&mut self, patience: Duration) -> Option<Value> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let message = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
            self.sort(message);
        }
    }

    /// Waits for the next event about this change in one of these states and returns its `progress`.
    pub fn progress(&mut self, change: u64, states: &[&str]) -> Value {
        let is_wanted = |event: &Value| event["change"] == change && states.iter().any(|state| event["progress"]["state"] == *state);
        let mut event = self.event(&format!("change {change} to be {states:?}"), is_wanted);
        event["progress"].take()
    }

    fn read(&mut self, deadline: Instant, what: &str) {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("waited for {what}: {error}"));
        self.sort(message);
    }

    fn sort(&mut self, message: Value) {
        match message["method"].as_str() {
            Some("event") => self.events.push_back(message["params"]["event"].clone()),
            Some(other) => panic!("an unexpected notification {other}: {message}"),
            None => {
                let id = message["id"].as_u64().unwrap_or_else(|| panic!("an answer to nothing: {message}"));
                assert!(self.answers.insert(id, message).is_none(), "request {id} has been answered twice");
            }
        }
    }
}

fn failure(error: &mut Value) -> Failure {
    Failure {
        code: error["code"].as_i64().expect("an error has a code"),
        name: error["data"]["name"].as_str().expect("an error has a name").to_owned(),
        message: error["message"].as_str().expect("an error has a message").to_owned(),
        data: error["data"].take(),
    }
}
