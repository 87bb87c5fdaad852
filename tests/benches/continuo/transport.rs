//! `transport`: what lies between processes: handing blocks over, in time and in processor time.

use std::time::{Duration, Instant};

use ipc::lane::LaneReader;
use runtime_host::host::engine::Loader;
use runtime_host::realtime::{TICK_PRIORITY, flush_denormals, monotonic_ns_rt, promote_current_thread, sleep_until_rt};

use crate::host_rig::HostRig;
use crate::playback::Playback;
use crate::programs::{self, Ready, Text};
use crate::sampling::quantile;
use crate::table;

/// Numbers of hosts.
const HOSTS: [usize; 4] = [1, 8, 32, 64];
/// How long each session is watched, in seconds.
const WATCH_SECONDS: f64 = 5.0;
/// Blocks that are handed over in the measurement of latency: three seconds.
const BLOCKS: u64 = 1_125;
const BLOCK_NS: u64 = 128 * 1_000_000_000 / 48_000;
/// A block that has not come after this is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a prototype with futexes and nothing else took on a quiet machine: microseconds for p50 and p99, CPU per host and block.
const PROTOTYPE_US: [(f64, f64, f64); 4] = [(44.0, 92.0, 73.0), (49.0, 106.0, 9.4), (113.0, 214.0, 6.6), (202.0, 330.0, 6.2)];

const HAND_OVER_NOTES: &[&str] = &[
    "Every 2.67 ms one block is demanded of every host (processes of their own, real-time priority where it is granted), 1,125 times; complete:",
    "until the last of them has written its block, the program's own work included. In one process: the same programs called one after the",
    "other in this process, in turns with the hosts, block by block. Prototype: quoted; futexes and shared memory and nothing else, two",
    "cores, a quiet machine. The bench watches from a thread of lower priority, so a host never waits for it.",
];
const CPU_NOTES: &[&str] = &[
    "`continuo play --device null` with so many copies of a program of 22 lines, watched for 5 s after the first second. Per host and block:",
    "all threads of a runtime host, and what of that is not the program's own work (measured in this process); goal ≤ 10 us. Mixer: the",
    "device host, per lane and block. Supervisor: share of a core. Late: blocks that the mixer wanted and that were not there; goal 0.",
    "Prototype: quoted, CPU per host and block of futexes and shared memory and nothing else; with one host, the core sleeps in between.",
];

pub fn print() {
    let text = programs::sine();
    let loader = Loader::new().expect("this machine can run wasm");
    let rows: Vec<Vec<String>> = HOSTS.iter().zip(PROTOTYPE_US).map(|(&count, quoted)| hand_over(&loader, &text, count, quoted)).collect();
    let header = ["hosts", "complete, p50", "p99", "per host", "in one process, p50", "lost", "prototype p50 / p99 (quoted)"];
    table::print("transport: hand-over", HAND_OVER_NOTES, &header, &rows);

    let own_ns = own_work_ns(&loader, &text);
    let rows: Vec<Vec<String>> = HOSTS.iter().zip(PROTOTYPE_US).map(|(&count, quoted)| played(&text, own_ns, count, quoted)).collect();
    let header = [
        "hosts",
        "CPU per host and block",
        "beyond its own work",
        "prototype (quoted)",
        "mixer",
        "supervisor",
        "all CPU",
        "blocks",
        "late",
    ];
    table::print("transport: playing", CPU_NOTES, &header, &rows);
}

fn hand_over(loader: &Loader, text: &Text, count: usize, quoted: (f64, f64, f64)) -> Vec<String> {
    let rig = HostRig::start(text, count);
    let artifact = text.artifact();
    let mut programs: Vec<Ready> = (0..count).map(|_| text.ready(loader, &artifact)).collect();
    // On a thread of its own: its priority must not be left to the tables that follow.
    let measure = || {
        // Without the priority the figures are those of a machine that does not grant it.
        let _ = promote_current_thread(TICK_PRIORITY - 5);
        let _flushed = flush_denormals();
        let mut deadline_ns = monotonic_ns_rt();
        let (mut processes, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..BLOCKS {
            deadline_ns = (deadline_ns + BLOCK_NS).max(monotonic_ns_rt());
            sleep_until_rt(deadline_ns);
            processes.push(complete_ns(&rig.lanes));
            let start = Instant::now();
            programs.iter_mut().for_each(Ready::tick);
            alone.push(start.elapsed().as_nanos() as f64);
        }
        (processes, alone)
    };
    let (processes, alone) = std::thread::scope(|scope| scope.spawn(measure).join().expect("the measurement ends"));
    let come: Vec<f64> = processes.iter().copied().flatten().collect();
    let lost = processes.len() - come.len();
    let p50 = quantile(&come, 0.5);
    vec![
        count.to_string(),
        table::us(p50),
        table::us(quantile(&come, 0.99)),
        table::us(p50 / count as f64),
        table::us(quantile(&alone, 0.5)),
        lost.to_string(),
        format!("{:.0} / {:.0} us", quoted.0, quoted.1),
    ]
}

/// Demands the next block of every lane and waits until all are there; `None` when one does not come.
fn complete_ns(lanes: &[LaneReader]) -> Option<f64> {
    let wanted: Vec<u64> = lanes.iter().map(|lane| lane.written_rt() + 1).collect();
    let start = Instant::now();
    lanes.iter().zip(&wanted).for_each(|(lane, wanted)| lane.demand_rt(*wanted));
    for (lane, wanted) in lanes.iter().zip(&wanted) {
        while lane.written_rt() < *wanted {
            if start.elapsed() > PATIENCE {
                return None;
            }
            std::hint::spin_loop();
        }
    }
    Some(start.elapsed().as_nanos() as f64)
}

/// What one block of the program costs where nothing is between.
fn own_work_ns(loader: &Loader, text: &Text) -> f64 {
    let mut ready = Ready::of(loader, text);
    let _flushed = flush_denormals();
    let samples: Vec<f64> = (0..BLOCKS)
        .map(|_| {
            let start = Instant::now();
            ready.tick();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    quantile(&samples, 0.5)
}

fn played(text: &Text, own_ns: f64, count: usize, quoted: (f64, f64, f64)) -> Vec<String> {
    let mut playback = Playback::start(&text.source, count);
    let used = playback.watch(WATCH_SECONDS);
    drop(playback);
    let [supervisor, _, device, hosts, _] = used.cpu_ns;
    let per_block = |cpu_ns: f64| cpu_ns / used.blocks / count as f64;
    let of_a_core = |cpu_ns: f64| cpu_ns / (used.blocks * BLOCK_NS as f64);
    vec![
        count.to_string(),
        table::us(per_block(hosts)),
        table::us(per_block(hosts) - own_ns),
        table::us(quoted.2 * 1e3),
        table::us(per_block(device)),
        table::percent(of_a_core(supervisor)),
        table::percent(of_a_core(used.cpu_ns.iter().sum())),
        format!("{:.0}", used.blocks * count as f64),
        used.underruns.to_string(),
    ]
}
