//! `recovery`: from the death of an audio host to the next block of its lane, stage by stage; what being ready for that costs
//! is in [`crate::checkpoints`].
//!
//! Real sessions on the paced null device with the usual lead. The bench maps the lane of the runtime beside the session, kills
//! the host, and looks when the kernel tells of its death, when the spare hears of it, and when the lane goes on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipc::artifact::Artifact;
use ipc::lane::LaneReader;
use ipc::segment::{SegmentKind, SegmentRef, Session};
use runtime_host::host::engine::Loader;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde_json::Value;
use tests::edits::Random;
use tests::playing::{Folder, Playing, binary, send_signal, text};

use crate::checkpoints;
use crate::programs::{self, Text};
use crate::sampling::{quantile, thread_time};
use crate::table;

/// Sessions, and kills in each of them.
const SESSIONS: usize = 20;
const KILLS: usize = 20;

/// The same where the order is looked for, and without a spare for comparison; in every second session each.
const WATCHED_KILLS: usize = 30;
const COLD_KILLS: usize = 6;

/// As many restarts as anybody wants: that there are limits is not what is measured.
const RESTARTS: &str = "1000,1000,1";

/// Runs of each baseline.
const RUNS: usize = 40;

/// How long to sleep between two looks at a lane.
const GLANCE: Duration = Duration::from_micros(100);

/// How long after a death it is looked, once, whether the order has been sent.
const DELAYS_US: [u64; 6] = [100, 200, 300, 500, 1_000, 2_000];

/// How long the kernel and the session have until everything is over, before the bench says that it is not.
const PATIENCE: Duration = Duration::from_secs(60);

const NOTES: &[&str] = &[
    "20 sessions with one audio program each, 20 SIGKILLs of its host in each, at random moments; null device, 4 blocks of lead. Until the lane has",
    "another block, which waits for the device to want one (up to 2.7 ms). With a spare: it has the program loaded. Without: it is killed at the same",
    "moment. Death: a pidfd of the bench's own becomes readable. Ready: what the spare says of itself, from the order to take over to being able to",
    "compute. Beside it what a takeover would cost at least that starts a process, and one that loads native code. Goal: gap 0 in ≥ 99 %.",
];

const ORDER_NOTES: &[&str] = &[
    "From the death of a host (a pidfd of the bench's own becomes readable) to the order to take over: whether the spare's thread that reads",
    "requests has run by then. Each kill is looked at once, because looking often takes time from those who are looked at. Goal: sent within 200 us.",
];

/// What is done in a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Killed beside a spare.
    Warm,
    /// The same, and looked for the order.
    Watched,
    /// Killed together with the spare.
    Cold,
}

/// What one kill came to, in nanoseconds.
struct Kill {
    until_death_ns: f64,
    /// How long after the death it was looked whether the order had been sent, and whether it had.
    look: Option<(u64, bool)>,
    /// From the order until the host can compute.
    until_ready_ns: f64,
    /// From the kill to the next block.
    until_block_ns: f64,
    gap_blocks: u64,
}

pub fn print() {
    let mut random = Random::new(1);
    let sine = programs::sine();
    let folder = Folder::new();
    let file = folder.file("sine.8f4e", &sine.source);
    let [mut warm, mut watched, mut cold] = [const { Vec::new() }; 3];
    for session in 0..SESSIONS {
        kill_some(&folder, &file, Manner::Warm, &mut random, &mut warm);
        match session % 2 {
            0 => kill_some(&folder, &file, Manner::Watched, &mut random, &mut watched),
            _ => kill_some(&folder, &file, Manner::Cold, &mut random, &mut cold),
        }
    }
    let mut rows = vec![row("kill → next block, with a spare", &warm), row("kill → next block, without", &cold)];
    rows.extend(stages(&warm));
    rows.extend(baselines(&sine));
    let header = ["what", "median", "p99", "longest", "runs", "gap 0", "worst gap (blocks)"];
    table::print("recovery", NOTES, &header, &rows);
    print_orders(&watched);
    checkpoints::print();
}

fn row(name: &str, kills: &[Kill]) -> Vec<String> {
    let until: Vec<f64> = kills.iter().map(|kill| kill.until_block_ns).collect();
    let unheard = kills.iter().filter(|kill| kill.gap_blocks == 0).count();
    let worst = kills.iter().map(|kill| kill.gap_blocks).max().unwrap_or(0);
    let mut row = spans(name, &until);
    row.extend([table::percent(unheard as f64 / kills.len() as f64), worst.to_string()]);
    row
}

fn stages(kills: &[Kill]) -> Vec<Vec<String>> {
    let death: Vec<f64> = kills.iter().map(|kill| kill.until_death_ns).collect();
    let ready: Vec<f64> = kills.iter().map(|kill| kill.until_ready_ns).collect();
    let stages = [("  of that: kill → death", death), ("  of that: order → ready", ready)];
    stages.iter().map(|(name, samples)| without_gaps(spans(name, samples))).collect()
}

fn print_orders(kills: &[Kill]) {
    let row = |delay_us: &u64| {
        let looks: Vec<bool> = kills.iter().filter_map(|kill| kill.look).filter(|(at, _)| at == delay_us).map(|(_, heard)| heard).collect();
        let heard = looks.iter().filter(|heard| **heard).count();
        vec![table::us(*delay_us as f64 * 1e3), looks.len().to_string(), table::percent(heard as f64 / looks.len().max(1) as f64)]
    };
    let rows: Vec<Vec<String>> = DELAYS_US.iter().map(row).collect();
    table::print("recovery: the order", ORDER_NOTES, &["after the death", "looks", "the order is there"], &rows);
}

fn without_gaps(mut row: Vec<String>) -> Vec<String> {
    row.extend([table::NOTHING.to_owned(), table::NOTHING.to_owned()]);
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
    rows.iter().map(|(name, samples)| without_gaps(spans(name, samples))).collect()
}

/// One session, its host killed again and again.
fn kill_some(folder: &Folder, file: &Path, manner: Manner, random: &mut Random, kills: &mut Vec<Kill>) {
    let mut playing = Playing::start(folder, &["--device", "null", "--restarts", RESTARTS, text(file)], &[]);
    playing.wait_for("sounding");
    let lane = lane_of(&playing);
    let mut host = pid(&playing.seen().iter().find(|event| event["runtime"] == "sine" && event["event"] == "processStarted").cloned());
    let count = match manner {
        Manner::Warm => KILLS,
        Manner::Watched => WATCHED_KILLS,
        Manner::Cold => COLD_KILLS,
    };
    for number in 0..count {
        let spare = wait_for_spare(&playing, host);
        // It loads what runs as soon as it has come in; and no kill is to come at the same point of a period.
        std::thread::sleep(Duration::from_micros(60_000 + random.below(20_000)));
        let mut kill = kill_one(host, spare, manner, DELAYS_US[number % DELAYS_US.len()], &lane);
        let ready = playing.wait_for("hostReady");
        kill.until_ready_ns = ready["tookUs"].as_f64().unwrap_or(0.0) * 1e3;
        kill.gap_blocks = ready["gapBlocks"].as_u64().unwrap_or(0);
        kills.push(kill);
        host = pid(&Some(ready));
    }
    playing.signal(Signal::TERM);
    playing.wait();
}

/// Kills a host, and looks until its lane goes on.
fn kill_one(host: u32, spare: u32, manner: Manner, delay_us: u64, lane: &LaneReader) -> Kill {
    match manner {
        Manner::Warm => kill_and_wait(host, None, lane),
        Manner::Cold => {
            send_signal(spare, Signal::KILL);
            kill_and_wait(host, None, lane)
        }
        Manner::Watched => kill_and_wait(host, Some((&Ear::of(spare), delay_us)), lane),
    }
}

fn kill_and_wait(host: u32, ear: Option<(&Ear, u64)>, lane: &LaneReader) -> Kill {
    let death = death_of(host);
    let began = Instant::now();
    send_signal(host, Signal::KILL);
    await_end(&death);
    let until_death_ns = began.elapsed().as_nanos() as f64;
    // Before the kernel has torn it down it may still write.
    let written = lane.written_rt();
    let look = ear.map(|(ear, delay_us)| {
        std::thread::sleep(Duration::from_micros(delay_us));
        (delay_us, ear.has_heard())
    });
    while lane.written_rt() == written {
        assert!(began.elapsed() < PATIENCE, "a lane does not go on");
        std::thread::sleep(GLANCE);
    }
    let until_block_ns = began.elapsed().as_nanos() as f64;
    Kill { until_death_ns, look, until_ready_ns: 0.0, until_block_ns, gap_blocks: 0 }
}

/// Becomes readable when the process has ended.
fn death_of(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid as i32).expect("a process has an id");
    pidfd_open(pid, PidfdFlags::empty()).expect("a process that lives can be watched")
}

fn await_end(death: &OwnedFd) {
    while !poll(&mut [PollFd::new(death, PollFlags::IN)], None).is_ok_and(|ready| ready > 0) {}
}

/// A host's thread that does nothing but read requests: whenever it has run, one has come in.
struct Ear {
    schedule: File,
    runs: u64,
}

impl Ear {
    fn of(pid: u32) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a spare lives").flatten().map(|entry| entry.path());
        let reads = |path: &PathBuf| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "requests");
        let thread = threads.into_iter().find(reads).expect("a host has a thread that reads requests");
        let schedule = File::open(thread.join("schedstat")).expect("the kernel counts");
        let runs = runs(&schedule);
        Self { schedule, runs }
    }

    fn has_heard(&self) -> bool {
        runs(&self.schedule) > self.runs
    }
}

/// How often a thread has been given a processor.
fn runs(schedule: &File) -> u64 {
    let mut bytes = [0; 96];
    let length = schedule.read_at(&mut bytes, 0).unwrap_or(0);
    let text = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
    text.split_whitespace().nth(2).and_then(|runs| runs.parse().ok()).unwrap_or(0)
}

fn pid(event: &Option<Value>) -> u32 {
    event.as_ref().and_then(|event| event["pid"].as_u64()).expect("a process has an id") as u32
}

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
