//! A real session under measurement: `continuo play` on the null device, its processes and what they use over some time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tests::playing::{Folder, continuo, send_signal};

use crate::processes::cpu_ns;

/// Frames of a block.
const BLOCK_FRAMES: f64 = 128.0;
/// Blocks of a second.
const BLOCKS_A_SECOND: f64 = 375.0;

/// The roles whose use is told apart.
pub const ROLES: [&str; 5] = ["supervisor", "compiler-worker", "device-host", "runtime-host", "spare-host"];

/// A session that plays copies of a program.
pub struct Playback {
    process: Child,
    events: Lines<BufReader<ChildStdout>>,
    /// Process ids of each of [`ROLES`].
    pub pids: [Vec<u32>; 5],
    /// What runs in each runtime host; a spare has nothing.
    pub runtimes: BTreeMap<u32, String>,
    _folder: Folder,
}

/// What a session used over some time.
pub struct Use {
    /// Blocks that the device took meanwhile.
    pub blocks: f64,
    /// Processor time of each of [`ROLES`], in nanoseconds.
    pub cpu_ns: [f64; 5],
    /// The same for each process.
    pub cpu_ns_of: BTreeMap<u32, f64>,
    /// Blocks that were missing when the device wanted them, over all lanes.
    pub underruns: u64,
}

impl Playback {
    /// Starts a session with `count` copies of a program and waits until all of them sound.
    pub fn start(source: &str, count: usize) -> Self {
        let folder = Folder::new();
        let mut command = continuo(&folder);
        command.args(["play", "--json", "--device", "null"]);
        command.args((0..count).map(|index| folder.file(&format!("p{index}.8f4e"), source)));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary can be started");
        let events = BufReader::new(process.stdout.take().expect("piped")).lines();
        let pids = [vec![process.id()], Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let mut playback = Self { process, events, pids, runtimes: BTreeMap::new(), _folder: folder };
        let mut sounding = 0;
        while sounding < count {
            sounding += usize::from(playback.next_event()["event"] == "sounding");
        }
        playback
    }

    /// Watches the session for `seconds` of its own time, after a second of settling.
    pub fn watch(&mut self, seconds: f64) -> Use {
        let first = self.next_meter(0.0);
        let begin = self.next_meter(blocks(&first) + BLOCKS_A_SECOND);
        let at_begin = self.cpu_ns_of();
        let end = self.next_meter(blocks(&begin) + seconds * BLOCKS_A_SECOND);
        let used = |(pid, at_end): (u32, f64)| (pid, at_end - at_begin.get(&pid).copied().unwrap_or(0.0));
        let cpu_ns_of: BTreeMap<u32, f64> = self.cpu_ns_of().into_iter().map(used).collect();
        Use {
            blocks: blocks(&end) - blocks(&begin),
            cpu_ns: std::array::from_fn(|role| self.pids[role].iter().filter_map(|pid| cpu_ns_of.get(pid)).sum()),
            cpu_ns_of,
            underruns: underruns(&end) - underruns(&begin),
        }
    }

    fn note(&mut self, event: &Value) {
        let role = ROLES.iter().position(|role| event["event"] == "processStarted" && event["role"] == *role);
        if let (Some(role), Some(pid)) = (role, event["pid"].as_u64()) {
            self.pids[role].push(pid as u32);
            self.runtimes.extend(event["runtime"].as_str().map(|runtime| (pid as u32, runtime.to_owned())));
        }
    }

    fn cpu_ns_of(&self) -> BTreeMap<u32, f64> {
        self.pids.iter().flatten().map(|pid| (*pid, cpu_ns(*pid) as f64)).collect()
    }

    /// The next counters of the device from `from_blocks` of its time on.
    fn next_meter(&mut self, from_blocks: f64) -> Value {
        loop {
            let event = self.next_event();
            if event["event"] == "meter" && blocks(&event) >= from_blocks {
                return event;
            }
        }
    }

    fn next_event(&mut self) -> Value {
        let line = self.events.next().expect("the session goes on").expect("its events are text");
        let event = serde_json::from_str(&line).expect("its events are JSON");
        self.note(&event);
        event
    }
}

impl Drop for Playback {
    /// Ends the session in order.
    fn drop(&mut self) {
        send_signal(self.process.id(), Signal::TERM);
        self.events.by_ref().for_each(drop);
        let _ = self.process.wait();
    }
}

fn blocks(meter: &Value) -> f64 {
    meter["frames"].as_f64().unwrap_or(0.0) / BLOCK_FRAMES
}

fn underruns(meter: &Value) -> u64 {
    meter["lanes"].as_array().into_iter().flatten().filter_map(|lane| lane["underruns"].as_u64()).sum()
}
