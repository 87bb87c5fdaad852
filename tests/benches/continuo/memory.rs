//! `memory`: what a session that plays one sine uses, by process.

use std::time::Instant;

use runtime_host::host::engine::Loader;

use crate::playback::{Playback, ROLES};
use crate::processes::{cpu_ns, private_bytes, pss_bytes};
use crate::programs::{self, Ready};
use crate::table;
use crate::tick::v8_program;

/// How long the session is watched, in seconds.
const WATCH_SECONDS: f64 = 5.0;
/// Seconds of a block.
const BLOCK_SECONDS: f64 = 128.0 / 48_000.0;

const NOTES: &[&str] = &[
    "`continuo play --device null` with one sine of 22 lines, watched for 5 s, together with a node that ticks the same program's wasm 375",
    "times a second. PSS: memory with what is shared (the binary, for one) divided among those who share it. CPU: share of a core.",
    "The spare has the program loaded. Goals: host ≤ 6 MiB and ≤ 1.5 %, the session ≤ 40 MiB. Quoted, idle with one sine: scsynth 22 MB / 4.9 %, Pd 4 / 2.5 %, ChucK",
    "10 / 3.5 %, Csound 75 / 3.4 %.",
];

pub fn print() {
    let sine = programs::sine();
    let loader = Loader::new().expect("this machine can run wasm");
    let v8_program = v8_program(&sine, &Ready::of(&loader, &sine));
    let mut v8 = v8_program.start();
    v8.iter_mut().for_each(|v8| v8.pace());

    let mut playback = Playback::start(&sine.source, 1);
    let v8_at_begin = v8.as_ref().map(|v8| (cpu_ns(v8.pid()), Instant::now()));
    let used = playback.watch(WATCH_SECONDS);
    let v8_share = v8.as_ref().zip(v8_at_begin).map(|(v8, (begin_ns, begin))| {
        let used_ns = (cpu_ns(v8.pid()) - begin_ns) as f64;
        used_ns / begin.elapsed().as_nanos() as f64
    });
    let watched_seconds = used.blocks * BLOCK_SECONDS;
    let pids = &playback.pids;
    let sum = |of: fn(u32) -> u64, pids: &[u32]| pids.iter().map(|pid| of(*pid)).sum::<u64>();
    let mut rows = Vec::new();
    for (role, (name, pids)) in ROLES.iter().zip(pids).enumerate() {
        rows.push(row(name, sum(pss_bytes, pids), sum(private_bytes, pids), used.cpu_ns[role] / 1e9 / watched_seconds));
    }
    let all = pids.concat();
    let all_seconds = used.cpu_ns.iter().sum::<f64>() / 1e9;
    rows.push(row("the session", sum(pss_bytes, &all), sum(private_bytes, &all), all_seconds / watched_seconds));
    if let Some((v8, share)) = v8.as_ref().zip(v8_share) {
        rows.push(row("node", pss_bytes(v8.pid()), private_bytes(v8.pid()), share));
    }
    table::print("memory", NOTES, &["process", "PSS", "its own alone", "CPU"], &rows);
}

fn row(name: &str, pss: u64, private: u64, cpu: f64) -> Vec<String> {
    vec![name.to_owned(), table::mib(pss), table::mib(private), table::percent(cpu)]
}
