//! `startup`: from nothing to sound, whole processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use runtime_host::host::engine::Loader;
use rustix::process::Signal;
use serde_json::Value;
use tests::playing::{Folder, continuo, send_signal, text};

use crate::programs::{self, Ready, Text};
use crate::sampling::quantile;
use crate::table;
use crate::tick::v8_program;

/// Runs of each row.
const RUNS: usize = 20;

/// What happens on the way to sound, in the order in which it is expected.
const STAGES: [&str; 5] = ["processStarted", "compiled", "deviceOpened", "runtimeStarted", "sounding"];

const NOTES: &[&str] = &[
    "20 runs of each row, rows in turns, warm file cache. Play: process start until the event that the first block was given to the (null)",
    "device, compile included; goal ≤ 60 ms. Run and check: the whole life of the process. Nothing: `continuo --version`.",
    "Node: start of a process until the first tick of the same program's wasm (compiled before) is done; no sound, no window, no browser.",
    "Quoted, process start to first block, other engines: scsynth 68 ms, Csound 57, ChucK 15, Pd 10, Glicol 2, node 85.",
];

/// One row: a name, and how to run it once.
type Contender<'a> = (&'a str, Box<dyn FnMut() -> Option<Duration> + 'a>);

pub fn print() {
    let sine = programs::sine();
    let example = programs::examples().into_iter().find(|text| text.name == "drums").unwrap_or_else(programs::sine);
    let loader = Loader::new().expect("this machine can run wasm");
    let v8 = v8_program(&sine, &Ready::of(&loader, &sine));
    let folder = Folder::new();
    let (short, long) = (folder.file("sine.8f4e", &sine.source), folder.file("example.8f4e", &example.source));
    let mut stages: [Vec<f64>; STAGES.len()] = Default::default();
    let long_name = format!("play, {} ({} lines)", example.name, example.lines());
    let mut contenders: Vec<Contender<'_>> = vec![
        ("play, 22 lines", Box::new(|| play(&folder, &short, Some(&mut stages)))),
        (&long_name, Box::new(|| play(&folder, &long, None))),
        ("run, 22 lines, one cycle", Box::new(|| whole(&folder, &["run", text(&short), "--cycles", "1", "--entry", "buffer"]))),
        ("check, 22 lines", Box::new(|| whole(&folder, &["check", text(&short)]))),
        ("nothing", Box::new(|| whole(&folder, &["--version"]))),
        ("node, the 22 lines' wasm", Box::new(|| v8.cold_start())),
    ];
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..=RUNS {
        for ((_, run), samples) in contenders.iter_mut().zip(&mut samples) {
            samples.extend(run().map(|took| took.as_nanos() as f64));
        }
    }
    // The first run of each fills the file cache.
    samples.iter_mut().for_each(|samples| drop(samples.drain(..samples.len().min(1))));
    let names: Vec<String> = contenders.iter().map(|(name, _)| (*name).to_owned()).collect();
    drop(contenders);
    let rows: Vec<Vec<String>> = names.iter().zip(&samples).map(|(name, samples)| row(name, samples)).collect();
    table::print("startup", NOTES, &["what", "median", "p90", "p99", "runs"], &rows);
    print_stages(&sine, stages);
}

fn row(name: &str, samples: &[f64]) -> Vec<String> {
    let at = |fraction| table::maybe((!samples.is_empty()).then(|| quantile(samples, fraction)), table::ms);
    vec![name.to_owned(), at(0.5), at(0.9), at(0.99), samples.len().to_string()]
}

fn print_stages(program: &Text, stages: [Vec<f64>; STAGES.len()]) {
    let note = format!(
        "Where the time of `play` with {} lines goes: when each event came, counted from the start of the process; medians.",
        program.lines()
    );
    let medians = stages.map(|samples| quantile(&samples, 0.5));
    let rows: Vec<Vec<String>> = STAGES.iter().zip(medians).map(|(stage, at)| vec![(*stage).to_owned(), table::ms(at)]).collect();
    table::print("startup: stages", &[&note], &["event", "after"], &rows);
}

/// Plays until there is sound. `stages` gets the time of the first event of each kind.
fn play(folder: &Folder, file: &Path, mut stages: Option<&mut [Vec<f64>; STAGES.len()]>) -> Option<Duration> {
    let mut command = continuo(folder);
    command.args(["play", "--json", "--device", "null"]).arg(file).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut process = command.spawn().ok()?;
    let mut sounding = None;
    let mut seen = [false; STAGES.len()];
    for line in BufReader::new(process.stdout.take()?).lines().map_while(Result::ok) {
        let at = start.elapsed();
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(stage) = STAGES.iter().position(|stage| event["event"] == *stage) else { continue };
        if !std::mem::replace(&mut seen[stage], true)
            && let Some(stages) = &mut stages
        {
            stages[stage].push(at.as_nanos() as f64);
        }
        if event["event"] == "sounding" && sounding.is_none() {
            sounding = Some(at);
            send_signal(process.id(), Signal::TERM);
        }
    }
    let _ = process.wait();
    sounding
}

/// Runs a command to its end.
fn whole(folder: &Folder, arguments: &[&str]) -> Option<Duration> {
    let mut command = continuo(folder);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().ok()?;
    status.success().then(|| start.elapsed())
}
