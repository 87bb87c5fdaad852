//! What checkpoints cost a host, by memory and by the work of a block, and how far apart it makes them: printed as part of
//! `recovery`.
//!
//! The host decides how often it writes one: so that copying stays below a fiftieth of the time that a block lasts, and
//! executing the blocks since again below a millisecond. The bench reads from the state segment how many there were.

use ipc::limits::DEFAULT_LEAD_BLOCKS;

use crate::host_rig::HostRig;
use crate::processes::cpu_ns;
use crate::programs::{self, Text};
use crate::sampling::quantile;
use crate::table;

/// Blocks over which the cost is counted.
const BLOCKS: u64 = 20_000;

/// How long one lasts.
const BLOCK_NS: f64 = 128.0 * 1e9 / 48_000.0;

/// Rounds; the sides take turns in each.
const ROUNDS: usize = 5;

/// Items of four bytes that a program has beside those that it sounds with.
const BALLAST: [usize; 6] = [0, 3 << 10, 15 << 10, 63 << 10, 255 << 10, 1 << 20];

const NOTES: &[&str] = &[
    "Processor time of the whole host for each block, 20,000 blocks as fast as they can be computed, with and without a state segment, in",
    "turns; medians of 5 rounds. Between: blocks from one checkpoint to the next, which the host chooses: at most 64, as many as can be",
    "executed again in 1 ms, and so few that copying takes at most a fiftieth of the time that a block lasts. One: what one checkpoint costs,",
    "from the two others. A block lasts 2,667 us.",
];

/// What one side came to.
struct Run {
    block_ns: f64,
    /// Blocks from one checkpoint to the next, where there are any.
    interval: Option<f64>,
}

pub fn print() {
    let texts = BALLAST.iter().map(|words| ramp(*words)).chain(["freeverb", "voices64"].map(programs::workload));
    let rows: Vec<Vec<String>> = texts.map(|text| row(&text)).collect();
    let header = ["program", "memory", "without", "with", "checkpoints, each block", "of its time", "between (blocks)", "one"];
    table::print("recovery: checkpoints", NOTES, &header, &rows);
}

/// A program that needs next to no time, with this much more memory.
fn ramp(ballast_words: usize) -> Text {
    let more = if ballast_words == 0 { String::new() } else { format!("float[] ballast {ballast_words}\n") };
    Text::of("ramp", tests::programs::ramp().replacen("int n\n", &format!("int n\n{more}"), 1))
}

fn row(text: &Text) -> Vec<String> {
    let bytes: u64 = text.artifact().manifest.memories.iter().map(|memory| memory.required_bytes).sum();
    let rounds: Vec<[Run; 2]> = (0..ROUNDS).map(|_| [run(text, false), run(text, true)]).collect();
    let median = |side: usize| quantile(&rounds.iter().map(|round| round[side].block_ns).collect::<Vec<_>>(), 0.5);
    let intervals: Vec<f64> = rounds.iter().filter_map(|round| round[1].interval).collect();
    let (without, with, interval) = (median(0), median(1), quantile(&intervals, 0.5));
    let cost = (with - without).max(0.0);
    vec![
        text.name.clone(),
        format!("{:.1} KiB", bytes as f64 / 1024.0),
        table::us(without),
        table::us(with),
        table::us(cost),
        table::percent(cost / BLOCK_NS),
        format!("{interval:.1}"),
        table::us(cost * interval),
    ]
}

/// Processor time of a host for a block, and how far apart its checkpoints were.
fn run(text: &Text, is_protected: bool) -> Run {
    let rig = HostRig::start_with(text, 1, is_protected);
    proceed(&rig, 0, BLOCKS / 10);
    let (before_ns, before) = (cpu_ns(rig.pid(0)), rig.newest_checkpoint(0));
    proceed(&rig, BLOCKS / 10, BLOCKS / 10 + BLOCKS);
    let (after_ns, after) = (cpu_ns(rig.pid(0)), rig.newest_checkpoint(0));
    let interval = before.zip(after).map(|((first, from), (last, to))| (to - from) as f64 / (last - first).max(1) as f64);
    Run { block_ns: (after_ns - before_ns) as f64 / BLOCKS as f64, interval }
}

/// Demands blocks as a device does, a lead at a time, without its pauses.
fn proceed(rig: &HostRig, from: u64, to: u64) {
    let lane = &rig.lanes[0];
    let lead = u64::from(DEFAULT_LEAD_BLOCKS);
    for block in (from..to).step_by(DEFAULT_LEAD_BLOCKS as usize) {
        lane.demand_rt(block + lead);
        // A host on a device's clock wakes nobody.
        while lane.written_rt() < block + lead {
            std::thread::yield_now();
        }
    }
}
