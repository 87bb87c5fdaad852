//! A real session under measurement: `continuo play` on the null device, its processes and what they use over some time.

use rustix::process::Signal;
use serde_json::Value;
use tests::playing::{Folder, Playing, text};

use crate::processes::cpu_ns;

/// Frames of a block.
const BLOCK_FRAMES: f64 = 128.0;
/// Blocks of a second.
const BLOCKS_A_SECOND: f64 = 375.0;

/// The roles whose use is told apart.
pub const ROLES: [&str; 4] = ["supervisor", "compiler-worker", "device-host", "runtime-host"];

/// A session that plays `count` copies of a program.
pub struct Playback {
    playing: Playing,
    _folder: Folder,
}

/// What a session used over some time.
pub struct Use {
    /// Blocks that the device took meanwhile.
    pub blocks: f64,
    /// Processor time of each of [`ROLES`], in nanoseconds.
    pub cpu_ns: [f64; 4],
    /// Blocks that were missing when the device wanted them, over all lanes.
    pub underruns: u64,
}

impl Playback {
    /// Starts the session and waits until all of its programs sound.
    pub fn start(source: &str, count: usize) -> Self {
        let folder = Folder::new();
        let files: Vec<_> = (0..count).map(|index| folder.file(&format!("p{index}.8f4e"), source)).collect();
        let arguments: Vec<&str> = ["--device", "null"].into_iter().chain(files.iter().map(|file| text(file))).collect();
        let mut playing = Playing::start(&folder, &arguments, &[]);
        for _ in 0..count {
            playing.wait_for("sounding");
        }
        Self { playing, _folder: folder }
    }

    /// Process ids of each of [`ROLES`].
    pub fn pids(&self) -> [Vec<u32>; 4] {
        let mut pids = ROLES.map(|role| self.playing.in_role(role).iter().map(|process| process.pid).collect());
        pids[0] = vec![self.playing.pid()];
        pids
    }

    /// Watches the session for `seconds` of its own time.
    pub fn watch(&mut self, seconds: f64) -> Use {
        let pids = self.pids();
        // The first reports after the start are still those of starting.
        self.next_meter(BLOCKS_A_SECOND);
        let begin = self.next_meter(0.0);
        let cpu_at_begin = cpu_of(&pids);
        let end = self.next_meter(blocks(&begin) + seconds * BLOCKS_A_SECOND);
        let cpu_at_end = cpu_of(&pids);
        Use {
            blocks: blocks(&end) - blocks(&begin),
            cpu_ns: std::array::from_fn(|role| cpu_at_end[role] - cpu_at_begin[role]),
            underruns: underruns(&end) - underruns(&begin),
        }
    }

    /// The next counters of the device from `from_blocks` of its time on.
    fn next_meter(&mut self, from_blocks: f64) -> Value {
        self.playing.wait_until("meter", |event| event["event"] == "meter" && blocks(event) >= from_blocks)
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        self.playing.signal(Signal::TERM);
        self.playing.wait();
    }
}

fn cpu_of(pids: &[Vec<u32>; 4]) -> [f64; 4] {
    std::array::from_fn(|role| pids[role].iter().map(|pid| cpu_ns(*pid)).sum::<u64>() as f64)
}

fn blocks(meter: &Value) -> f64 {
    meter["frames"].as_f64().unwrap_or(0.0) / BLOCK_FRAMES
}

fn underruns(meter: &Value) -> u64 {
    meter["lanes"].as_array().into_iter().flatten().filter_map(|lane| lane["underruns"].as_u64()).sum()
}
