//! `swap`: saving a file until the change is in effect, stage by stage, in a session of the release binary.
//!
//! The figures are those that the session itself reports with each commit, and, as their witness, the time that passes here
//! between writing the file and hearing of the commit, which contains what no stage counts: the wait for the next tick, the
//! lead, and the ways of messages.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tests::live::Stages;
use tests::playing::{Folder, Playing, text};

use crate::compile::edited;
use crate::programs::{self, Text};
use crate::sampling::quantile;
use crate::table;

/// Edits of each row, after one that is thrown away.
const EDITS: u32 = 30;

/// Examples that are edited.
const PLAYED: [&str; 2] = ["bass", "drums"];

/// Sessions that are begun anew, for the baseline.
const RESTARTS: u32 = 5;

const NOTES: &[&str] = &[
    "`continuo play --device null`, its file saved 30 times with another number in the code (class B: new code, all state moves over) and in",
    "turns with another number in a default (class A). Medians; p90 of the sum in brackets. Detect: from the file's change to the worker,",
    "with the time in which an editor may still be writing. Compile: text to wasm. Native: wasm to native code. Transfer: published in",
    "shared memory, copied and checked by the host, its engine built. Commit: on the tick thread, copies included. Sum: of the stages.",
    "Seen: from writing the file to hearing of the commit, by a clock outside. Anew: the same text played by a new process until its first",
    "block, in the same run: what an edit costs an engine that starts again, all state lost. Goals: a sum under 30 ms for 1,000 lines, a",
    "commit under 100 us plus what is copied. Quoted, request to first new sample, other engines: scsynth 2.7 ms, ChucK 5.3, Pd 12 to 13,",
    "Csound 13, none of which keeps the phase.",
];

const HEADER: [&str; 10] = ["program", "edit", "detect", "compile", "native", "transfer", "commit", "sum (p90)", "seen", "anew (baseline)"];

pub fn print() {
    // Two that people play, with sounds of their own, and the generated ones.
    let played = programs::examples().into_iter().filter(|text| PLAYED.contains(&text.name.as_str()));
    let texts = played.chain(programs::generated());
    let rows: Vec<Vec<String>> = texts.flat_map(|text| rows(&text)).collect();
    table::print("swap", NOTES, &HEADER, &rows);
}

/// One row for edits of the code, and one for those of a default where the program has one.
fn rows(program: &Text) -> Vec<Vec<String>> {
    let folder = Folder::new();
    let file = folder.file("program.8f4e", &program.source);
    let anew_ns = (0..=RESTARTS).filter_map(|_| anew(&folder, &file)).skip(1).collect::<Vec<_>>();
    let mut session = play(&folder, &file);
    session.wait_for("sounding");
    let (mut code, mut default) = (Vec::new(), Vec::new());
    for edit in 0..=EDITS {
        let source = edited(&program.source, edit + 1);
        // A text that does not differ is no edit: some programs push no fraction.
        if source.trim_end() != program.source.trim_end() {
            code.extend(save(&mut session, &file, &source));
        }
        if let Some(with_default) = other_default(&source, edit + 1) {
            default.extend(save(&mut session, &file, &with_default));
        }
    }
    let name = format!("{} ({} lines)", program.name, program.lines());
    let sides = [("code", code), ("default", default)].into_iter().filter(|(_, samples)| samples.len() > 1);
    sides.map(|(kind, samples)| row(&name, kind, &samples[1..], &anew_ns)).collect()
}

fn row(name: &str, kind: &str, samples: &[(Stages, u64)], anew_ns: &[f64]) -> Vec<String> {
    let at = |fraction: f64, of: &dyn Fn(&(Stages, u64)) -> u64| {
        let values: Vec<f64> = samples.iter().map(|sample| of(sample) as f64 * 1e3).collect();
        quantile(&values, fraction)
    };
    let median = |of: &dyn Fn(&(Stages, u64)) -> u64| at(0.5, of);
    let sum = |(stages, _): &(Stages, u64)| stages.total_us();
    vec![
        name.to_owned(),
        kind.to_owned(),
        table::ms(median(&|(stages, _)| stages.detect_us)),
        table::ms(median(&|(stages, _)| stages.compile_us)),
        table::ms(median(&|(stages, _)| stages.native_us)),
        table::ms(median(&|(stages, _)| stages.transfer_us)),
        table::us(median(&|(stages, _)| stages.commit_us)),
        format!("{} ({})", table::ms(median(&sum)), table::ms(at(0.9, &sum))),
        table::ms(median(&|(_, seen_us)| *seen_us)),
        table::maybe((!anew_ns.is_empty()).then(|| quantile(anew_ns, 0.5)), table::ms),
    ]
}

fn play(folder: &Folder, file: &Path) -> Playing {
    Playing::start(folder, &["--device", "null", text(file)], &[])
}

/// A new process plays the file: time until its first block was given to the device, in nanoseconds.
fn anew(folder: &Folder, file: &Path) -> Option<f64> {
    let start = Instant::now();
    let mut session = play(folder, file);
    session.wait_for("sounding");
    Some(start.elapsed().as_nanos() as f64)
}

/// Saves a text and waits until it is in effect. `None` where it was no edit that takes effect by itself.
fn save(session: &mut Playing, file: &Path, source: &str) -> Option<(Stages, u64)> {
    let start = Instant::now();
    std::fs::write(file, source).expect("the file can be written");
    let is_over = |event: &Value| matches!(event["event"].as_str(), Some("editCommitted" | "editRejected" | "editWaits"));
    let event = session.wait_until("that an edit is in effect", is_over);
    let seen_us = start.elapsed().as_micros() as u64;
    (event["event"] == "editCommitted").then(|| (Stages::of(&event), seen_us))
}

/// The text with another number in the first default of a float that has one.
fn other_default(source: &str, edit: u32) -> Option<String> {
    let line = source.lines().find(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("float") && words.nth(1).is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok())
    })?;
    Some(source.replacen(line, &format!("{}{edit:04}1", line.trim_end()), 1))
}
