//! `compile`: source text to WebAssembly, and to an artifact that a host can take.

use compiler_worker::native::NativeCompiler;
use ipc::artifact::Artifact;
use ipc::message::CompileRequest;
use ipc::segment::{Session, SessionId};

use crate::programs::{self, Text};
use crate::sampling::{calibrated, interleave, timed};
use crate::table;

/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Rounds of what starts from nothing each time.
const COLD_ROUNDS: usize = 5;

/// The lowest compile time that is known of the reference, for one line of source text, in nanoseconds: 0.2 ms for 20 lines;
/// the others (10 to 40 ms for 1,000 lines, 96 ms for 4,300) are higher.
const REFERENCE_LINE_NS: f64 = 10_000.0;

const NOTES: &[&str] = &[
    "Processor time, medians, in one process. wasm: text to WebAssembly, validated. Ready: the same, then native code, then written and hashed into",
    "shared memory; cold: in a worker that has just started; again: the same text once more; edit: one number in the code is another.",
    "Reference: quoted, not measured: its compile times, warm, are 0.2 ms for 20 lines, 10 to 40 ms for audio programs of 1,000 lines and",
    "96 ms for 4,300 lines. The table takes the lowest of these for every row: 10 us for each line that holds code (96 ms for the row of",
    "4,300 lines). It goes as far as wasm, as the column `wasm` does; the goal of that factor is 10.",
];

pub fn print() {
    let session = Session::open().expect("there is shared memory");
    let texts: Vec<Text> = [programs::sine()].into_iter().chain(programs::examples()).chain(programs::workloads()).collect();
    let rows: Vec<Vec<String>> = texts.iter().chain(&programs::generated()).map(|text| row(session.id(), text)).collect();
    let header = ["program", "lines", "of code", "wasm bytes", "wasm", "ready, cold", "again", "edit", "reference (quoted)", "factor"];
    table::print("compile", NOTES, &header, &rows);
}

fn row(session: &SessionId, text: &Text) -> Vec<String> {
    let artifact = compiler_worker::compile(&text.request()).unwrap_or_else(|error| panic!("{}: {error}", text.name));
    let wasm = wasm_cost(text);
    let [again, edit] = warm_costs(session, text);
    let cold = cold_cost(session, text);
    let reference_ns = if text.lines() >= 4_300 { 96e6 } else { text.code_lines() as f64 * REFERENCE_LINE_NS };
    vec![
        text.name.clone(),
        text.lines().to_string(),
        text.code_lines().to_string(),
        artifact.wasm.len().to_string(),
        table::us(wasm),
        table::ms(cold),
        table::ms(again),
        table::ms(edit),
        table::ms(reference_ns),
        table::ratio(reference_ns / wasm),
    ]
}

fn wasm_cost(text: &Text) -> f64 {
    let request = text.request();
    let mut sides = [timed(move || drop(compiler_worker::compile(&request)))];
    let repetitions = calibrated(&mut sides[0], 10_000_000);
    interleave(&mut sides, ROUNDS, repetitions)[0]
}

/// A worker that has compiled the text before: the same text again, and a text in which one number differs each time.
fn warm_costs(session: &SessionId, text: &Text) -> [f64; 2] {
    let request = text.request();
    let (mut same, mut changing) = (NativeCompiler::default(), NativeCompiler::default());
    ready(session, &mut same, &request);
    ready(session, &mut changing, &request);
    let mut edits = 0;
    let edit = move || {
        edits += 1;
        ready(session, &mut changing, &programs::request(&edited(&text.source, edits)));
    };
    let mut sides = [timed(move || ready(session, &mut same, &request)), timed(edit)];
    let costs = interleave(&mut sides, ROUNDS, 1);
    [costs[0], costs[1]]
}

fn cold_cost(session: &SessionId, text: &Text) -> f64 {
    let request = text.request();
    let mut sides = [timed(move || ready(session, &mut NativeCompiler::default(), &request))];
    interleave(&mut sides, COLD_ROUNDS, 1)[0]
}

/// All that the worker does for one request.
fn ready(session: &SessionId, native: &mut NativeCompiler, request: &CompileRequest) {
    let mut artifact: Artifact = compiler_worker::compile(request).expect("it compiles");
    artifact.native = native.compile(&artifact.wasm).expect("valid wasm has native code");
    artifact.publish(session, 1).expect("shared memory has room");
}

/// The text with the first fractional number that its code pushes changed a little, differently for each `edit`.
fn edited(source: &str, edit: u32) -> String {
    let mut is_done = false;
    let mut lines: Vec<String> = Vec::new();
    for line in source.lines() {
        let is_number = || line.trim().strip_prefix("push ").is_some_and(|rest| rest.contains('.') && rest.parse::<f64>().is_ok());
        if !is_done && is_number() {
            is_done = true;
            lines.push(format!("{}{edit:04}1", line.trim_end()));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}
