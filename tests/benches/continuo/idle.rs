//! `idle`: what a session costs that plays eight audio runtimes and keeps a spare, by process, and how much of that is the price
//! of being supervised.

use std::time::Duration;

use runtime_host::realtime::{monotonic_ns_rt, sleep_until_rt};

use crate::host_rig::HostRig;
use crate::playback::{Playback, ROLES, Use};
use crate::processes::{cpu_ns, private_bytes, pss_bytes};
use crate::programs::{self, Text};
use crate::sampling::quantile;
use crate::table;

/// Audio runtimes of the session.
const RUNTIMES: usize = 8;

/// How long each side is watched, and how often.
const WATCH: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

/// How long a block lasts.
const BLOCK_NS: u64 = 128 * 1_000_000_000 / 48_000;

const NOTES: &[&str] = &[
    "`continuo play --device null` with eight programs of 22 lines (a sine each), watched for 5 s after the first second. PSS: memory with what",
    "is shared (the binary, for one) divided among those who share it. CPU: share of a core.",
];

const PRICE_NOTES: &[&str] = &[
    "Processor time for each runtime and block, medians of 3 rounds of 5 s, sides in turns. Alone: eight host processes without supervisor,",
    "spare or device host; the bench wants a block of each every 2.67 ms. In the session: the one of the table above. What supervision costs:",
    "what hosts take more with checkpoints, and all that supervisor and spare do.",
];

pub fn print() {
    let sine = programs::sine();
    let mut playback = Playback::start(&sine.source, RUNTIMES);
    let used = playback.watch(WATCH.as_secs_f64());
    print_processes(&playback, &used);
    drop(playback);
    print_price(&sine);
}

fn print_processes(playback: &Playback, used: &Use) {
    let watched_ns = used.blocks * BLOCK_NS as f64;
    let row = |name: String, pids: &[u32]| {
        let sum = |of: fn(u32) -> u64| table::mib(pids.iter().map(|pid| of(*pid)).sum());
        let cpu_ns: f64 = pids.iter().filter_map(|pid| used.cpu_ns_of.get(pid)).sum();
        vec![name, sum(pss_bytes), sum(private_bytes), table::percent(cpu_ns / watched_ns)]
    };
    let mut rows = Vec::new();
    for (role, pids) in ROLES.iter().zip(&playback.pids) {
        for pid in pids {
            let name = playback.runtimes.get(pid).map_or_else(|| (*role).to_owned(), |runtime| format!("{role} {runtime}"));
            rows.push(row(name, &[*pid]));
        }
    }
    rows.push(row("the session".to_owned(), &playback.pids.concat()));
    table::print("idle: eight runtimes and a spare", NOTES, &["process", "PSS", "its own alone", "CPU"], &rows);
    println!("\nblocks that were missing: {}", used.underruns);
}

fn print_price(text: &Text) {
    let mut samples: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        samples[0].push(alone_ns(text, false));
        samples[1].push(alone_ns(text, true));
        let used = Playback::start(&text.source, RUNTIMES).watch(WATCH.as_secs_f64());
        let [supervisor, _, _, hosts, spare] = used.cpu_ns.map(|cpu_ns| cpu_ns / used.blocks / RUNTIMES as f64);
        samples[2].push(hosts);
        samples[3].push(supervisor);
        samples[4].push(spare);
    }
    let [without, with, hosts, supervisor, spare] = samples.map(|samples| quantile(&samples, 0.5));
    let price = (with - without).max(0.0) + supervisor + spare;
    let row = |name: &str, ns: f64| vec![name.to_owned(), table::us(ns), table::percent(ns / BLOCK_NS as f64)];
    let rows = [
        row("host alone, supervision off", without),
        row("host alone, with checkpoints", with),
        row("host in the session", hosts),
        row("supervisor", supervisor),
        row("spare", spare),
        row("supervision: checkpoints, supervisor, spare", price),
    ];
    table::print("idle: what supervision costs", PRICE_NOTES, &["what", "each runtime and block", "of its time"], &rows);
}

/// Processor time of a host for a block, where the bench is the only one who wants anything of it.
fn alone_ns(text: &Text, is_protected: bool) -> f64 {
    let rig = HostRig::start_with(text, RUNTIMES, is_protected);
    proceed(&rig, Duration::from_secs(1));
    let used = || (0..RUNTIMES).map(|index| cpu_ns(rig.pid(index))).sum::<u64>();
    let before = used();
    let blocks = proceed(&rig, WATCH);
    (used() - before) as f64 / blocks as f64 / RUNTIMES as f64
}

/// Wants one block after the other for some time; returns how many.
fn proceed(rig: &HostRig, time: Duration) -> u64 {
    let blocks = time.as_nanos() as u64 / BLOCK_NS;
    let mut deadline_ns = monotonic_ns_rt();
    for _ in 0..blocks {
        deadline_ns = (deadline_ns + BLOCK_NS).max(monotonic_ns_rt());
        sleep_until_rt(deadline_ns);
        rig.lanes.iter().for_each(|lane| lane.demand_rt(lane.written_rt() + 1));
    }
    blocks
}
