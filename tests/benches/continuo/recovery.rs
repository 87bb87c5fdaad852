//! `recovery`: from the death of an audio host to the next block of its lane, and what being ready for that costs.
//!
//! Real sessions on the paced null device with the usual lead. The bench maps the lane of the runtime beside the session, kills
//! the host, and looks when the lane goes on.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ipc::artifact::Artifact;
use ipc::lane::LaneReader;
use ipc::limits::DEFAULT_LEAD_BLOCKS;
use ipc::segment::{SegmentKind, SegmentRef, Session};
use runtime_host::host::engine::Loader;
use rustix::process::Signal;
use serde_json::Value;
use tests::edits::Random;
use tests::playing::{Folder, Playing, binary, send_signal, text};

use crate::host_rig::HostRig;
use crate::processes::cpu_ns;
use crate::programs::{self, Text};
use crate::sampling::{quantile, thread_time};
use crate::table;

/// Sessions of each row, and kills in each: as many as a runtime may have in ten seconds without being held.
const SESSIONS: usize = 60;
const KILLS: usize = 5;

/// Without a spare: the one that is killed may have become the host by then, and counts as well.
const COLD_KILLS: usize = 2;

/// Runs of each baseline.
const RUNS: usize = 40;

/// Blocks over which the cost of checkpoints is counted.
const BLOCKS: u64 = 40_000;

const NOTES: &[&str] = &[
    "60 sessions with one audio program each, 5 SIGKILLs of its host in each, at random moments; null device, 4 blocks of lead. From the kill until the",
    "lane has another block, which waits for the device to want one (up to 2.7 ms). With a spare: it has the program loaded. Without: it is killed at",
    "the same moment. Beside it what a takeover would cost at least that starts a process, and one that loads native code. Goal: gap 0 in ≥ 99 % with a spare.",
];

const COST_NOTES: &[&str] = &[
    "Processor time of the whole host for each block, 40,000 blocks as fast as they can be computed, with and without a state segment, in turns.",
];

/// What one kill came to.
struct Kill {
    until_block_ns: f64,
    gap_blocks: u64,
}

pub fn print() {
    let mut random = Random::new(1);
    let sine = programs::sine();
    let folder = Folder::new();
    let file = folder.file("sine.8f4e", &sine.source);
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    for session in 0..SESSIONS * 2 {
        let has_spare = session % 2 == 0;
        let kills = if has_spare { &mut warm } else { &mut cold };
        // Fewer than with a spare: they are there for comparison.
        if has_spare || session % 4 == 1 {
            kill_some(&folder, &file, has_spare, &mut random, kills);
        }
    }
    let mut rows = vec![row("kill → next block, with a spare", &warm), row("kill → next block, without", &cold)];
    rows.extend(baselines(&sine));
    let header = ["what", "median", "p99", "longest", "runs", "gap 0", "worst gap (blocks)"];
    table::print("recovery", NOTES, &header, &rows);
    print_cost();
}

fn row(name: &str, kills: &[Kill]) -> Vec<String> {
    let until: Vec<f64> = kills.iter().map(|kill| kill.until_block_ns).collect();
    let unheard = kills.iter().filter(|kill| kill.gap_blocks == 0).count();
    let worst = kills.iter().map(|kill| kill.gap_blocks).max().unwrap_or(0);
    let mut row = spans(name, &until);
    row.extend([table::percent(unheard as f64 / kills.len() as f64), worst.to_string()]);
    row
}

fn spans(name: &str, samples: &[f64]) -> Vec<String> {
    let at = |fraction| table::ms(quantile(samples, fraction));
    vec![name.to_owned(), at(0.5), at(0.99), at(1.0), samples.len().to_string()]
}

fn baselines(sine: &Text) -> Vec<Vec<String>> {
    let start = || {
        let began = Instant::now();
        let _ = Command::new(binary()).arg("--version").output();
        began.elapsed().as_nanos() as f64
    };
    let session = Session::open().expect("there is shared memory");
    let loader = Loader::new().expect("this machine can run wasm");
    let segment = sine.artifact().publish(session.id(), 1).expect("shared memory has room");
    let load = || {
        let began = thread_time();
        let artifact = Artifact::read(segment.reference()).expect("it is undamaged");
        drop(sine.ready(&loader, &artifact));
        (thread_time() - began).as_nanos() as f64
    };
    let rows = [
        ("process start and end alone", (0..RUNS).map(|_| start()).collect::<Vec<_>>()),
        ("deserialisation alone", (0..RUNS).map(|_| load()).collect()),
    ];
    let pad = |mut row: Vec<String>| {
        row.extend([table::NOTHING.to_owned(), table::NOTHING.to_owned()]);
        row
    };
    rows.iter().map(|(name, samples)| pad(spans(name, samples))).collect()
}

/// One session, its host killed again and again.
fn kill_some(folder: &Folder, file: &std::path::Path, has_spare: bool, random: &mut Random, kills: &mut Vec<Kill>) {
    let mut playing = Playing::start(folder, &["--device", "null", text(file)], &[]);
    playing.wait_for("sounding");
    let lane = lane_of(&playing);
    let mut host = pid(&playing.seen().iter().find(|event| event["runtime"] == "sine" && event["event"] == "processStarted").cloned());
    for _ in 0..if has_spare { KILLS } else { COLD_KILLS } {
        let spare = wait_for_spare(&playing, host);
        // It loads what runs as soon as it has come in; and no kill is to come at the same point of a period.
        std::thread::sleep(Duration::from_micros(60_000 + random.below(20_000)));
        let began = Instant::now();
        if !has_spare {
            send_signal(spare, Signal::KILL);
        }
        send_signal(host, Signal::KILL);
        while is_alive(host) {
            std::hint::spin_loop();
        }
        let written = lane.written_rt();
        while lane.written_rt() == written {
            std::thread::sleep(Duration::from_micros(20));
        }
        let until_block_ns = began.elapsed().as_nanos() as f64;
        let ready = playing.wait_for("hostReady");
        kills.push(Kill { until_block_ns, gap_blocks: ready["gapBlocks"].as_u64().unwrap_or(0) });
        host = pid(&Some(ready));
    }
    playing.signal(Signal::TERM);
    playing.wait();
}

fn pid(event: &Option<Value>) -> u32 {
    event.as_ref().and_then(|event| event["pid"].as_u64()).expect("a process has an id") as u32
}

/// Until the kernel has torn it down it may still write.
fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

fn wait_for_spare(playing: &Playing, host: u32) -> u32 {
    loop {
        let spare = playing.in_role("runtime-host").into_iter().find(|process| process.pid != host && is_alive(process.pid));
        if let Some(spare) = spare {
            return spare.pid;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The only lane of a session, found among its names in shared memory.
fn lane_of(playing: &Playing) -> LaneReader {
    let device = &playing.in_role("device-host")[0];
    let at = device.arguments.iter().position(|argument| argument == "device-host").expect("its role");
    let session = &device.arguments[at + 2];
    let names = std::fs::read_dir("/dev/shm").expect("/dev/shm can be read").flatten().map(|entry| entry.path());
    let of_session = names.filter(|path| path.to_string_lossy().contains(session.as_str()));
    let open = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let bytes = path.metadata().ok()?.len();
        LaneReader::open(&SegmentRef { name, kind: SegmentKind::Lane, generation: 1, bytes, hash: None }).ok()
    };
    of_session.filter_map(open).next().expect("a session that plays has a lane")
}

// ------------------------------------------------------------------------------------------------------------------ cost

fn print_cost() {
    let ballast = |words: usize| format!("{}\n", tests::programs::ramp().replace("int n\n", &format!("int n\nfloat[] ballast {words}\n")));
    let texts = [
        Text::of("ramp, 1 KiB of memory", tests::programs::ramp()),
        Text::of("ramp, 64 KiB", ballast(16 << 10)),
        Text::of("ramp, 1 MiB", ballast(256 << 10)),
    ];
    let rows: Vec<Vec<String>> = texts
        .iter()
        .map(|text| {
            let rounds: Vec<[f64; 2]> = (0..5).map(|_| [cost_ns(text, false), cost_ns(text, true)]).collect();
            let median = |side: usize| quantile(&rounds.iter().map(|round| round[side]).collect::<Vec<_>>(), 0.5);
            let (without, with) = (median(0), median(1));
            vec![text.name.clone(), table::us(without), table::us(with), table::us((with - without).max(0.0))]
        })
        .collect();
    table::print("recovery: checkpoints", COST_NOTES, &["program", "without", "with", "checkpoints, each block"], &rows);
}

/// Processor time of a host for a block.
fn cost_ns(text: &Text, is_protected: bool) -> f64 {
    let rig = HostRig::start_with(text, 1, is_protected);
    let lane = &rig.lanes[0];
    let proceed = |to: u64, from: u64| {
        for block in (from..to).step_by(DEFAULT_LEAD_BLOCKS as usize) {
            lane.demand_rt(block + u64::from(DEFAULT_LEAD_BLOCKS));
            // A host on a device's clock wakes nobody.
            while lane.written_rt() < block + u64::from(DEFAULT_LEAD_BLOCKS) {
                std::thread::yield_now();
            }
        }
    };
    proceed(BLOCKS / 10, 0);
    let before = cpu_ns(rig.pid(0));
    proceed(BLOCKS / 10 + BLOCKS, BLOCKS / 10);
    (cpu_ns(rig.pid(0)) - before) as f64 / BLOCKS as f64
}
