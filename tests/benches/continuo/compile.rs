//! `compile`: source text to WebAssembly, and to an artifact that a host can take.

use compiler_worker::languages::caches::{Caches, Texts};
use compiler_worker::native::NativeCompiler;
use ipc::artifact::Artifact;
use ipc::message::CompileRequest;
use ipc::segment::{Session, SessionId};
use runtime_host::host::engine::Loader;

use crate::programs::{self, Ready, Text};
use crate::sampling::{calibrated, interleave, timed};
use crate::table;
use crate::tick::v8_program;
use crate::v8::V8;

/// What V8 needed for a block of `voices64` on the machine that the reference's compile times stem from, in nanoseconds.
const QUOTED_V8_BLOCK_NS: f64 = 0.038e9 / 375.0;
/// Blocks in one round of that.
const V8_BLOCKS: u64 = 100;
/// Blocks after which V8 has optimised what is hot.
const V8_WARM_UP_BLOCKS: u64 = 3_000;

/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Rounds of what starts from nothing each time.
const COLD_ROUNDS: usize = 5;

/// The lowest compile time that is known of the reference, for one line of source text, in nanoseconds: 0.2 ms for 20 lines;
/// the others (10 to 40 ms for 1,000 lines, 96 ms for 4,300) are higher.
const REFERENCE_LINE_NS: f64 = 10_000.0;

const NOTES: &[&str] = &[
    "Processor time, medians, in one process. Wasm: text to WebAssembly, by a process that has compiled before, but remembers nothing of",
    "the text: only the library is read once. It is not validated there: making native code of it begins with that. Ready: the same, then",
    "native code, then written and hashed into shared memory; cold: with empty caches; again: the same text once more, with the caches of",
    "a worker. Edit: what a worker does when one number of the code is another: it has the caches of the texts before, and the manifest of",
    "what runs, which memory is laid out after; up to wasm, and until all is ready. As in a worker, freed memory stays with the process.",
    "Reference: quoted, not measured: warm, it takes 0.2 ms for 20 lines, 10 to 40 ms for audio programs of 1,000 lines, 96 ms for 4,300",
    "lines. The table takes the lowest of these for every row: 10 us for each line that holds code (and 96 ms for 4,300 lines). That goes",
    "as far as wasm, as the column `wasm` does, and the factor compares these two. Scaled: this machine is not as fast now as that of",
    "those figures was; V8 runs `voices64` on both, here in turns with each program, and the last column corrects by that. Goal: 10 ×.",
];

pub fn print() {
    // As the worker does.
    compiler_worker::heap::keep_freed_memory();
    let session = Session::open().expect("there is shared memory");
    let loader = Loader::new().expect("this machine can run wasm");
    let texts: Vec<Text> = [programs::sine()].into_iter().chain(programs::examples()).chain(programs::workloads()).collect();
    let generated = programs::generated();
    let mut yardstick = yardstick(&loader);
    let all = texts.iter().chain(&generated);
    let rows: Vec<Vec<String>> = all.map(|text| row(session.id(), text, yardstick.as_mut())).collect();
    let header = [
        "program",
        "lines",
        "of code",
        "wasm bytes",
        "ready, cold",
        "again",
        "edit, wasm",
        "edit, ready",
        "wasm",
        "reference (quoted)",
        "factor",
        "scaled",
    ];
    table::print("compile", NOTES, &header, &rows);
}

/// A warm V8 with `voices64`, to tell how fast this machine is right now; `None` without node.
fn yardstick(loader: &Loader) -> Option<V8> {
    let text = programs::workload("voices64");
    let mut v8 = v8_program(&text, &Ready::of(loader, &text)).start()?;
    v8.call(V8_WARM_UP_BLOCKS);
    Some(v8)
}

fn row(session: &SessionId, text: &Text, yardstick: Option<&mut V8>) -> Vec<String> {
    let artifact = compiler_worker::compile(&text.request()).unwrap_or_else(|error| panic!("{}: {error}", text.name));
    let (wasm_ns, slowness) = wasm_cost(text, yardstick);
    let warm = warm_costs(session, text);
    let cold_ns = cold_cost(session, text);
    let (lines, code_lines) = (text.lines(), text.code_lines());
    let reference_ns = if lines >= 4_300 { 96e6 } else { code_lines as f64 * REFERENCE_LINE_NS };
    let factor = reference_ns / wasm_ns;
    vec![
        text.name.clone(),
        lines.to_string(),
        code_lines.to_string(),
        artifact.wasm.len().to_string(),
        table::ms(cold_ns),
        table::ms(warm.again_ns),
        table::us(warm.edit_wasm_ns),
        table::ms(warm.edit_ready_ns),
        table::us(wasm_ns),
        table::ms(reference_ns),
        table::ratio(factor),
        table::maybe(slowness.map(|slowness| factor * slowness), table::ratio),
    ]
}

/// What a compile costs, and how much slower than the machine of the quoted figures this one was meanwhile.
fn wasm_cost(text: &Text, yardstick: Option<&mut V8>) -> (f64, Option<f64>) {
    let request = text.request();
    let mut sides = vec![timed(move || drop(compiler_worker::compile(&request)))];
    let repetitions = calibrated(&mut sides[0], 10_000_000);
    if let Some(v8) = yardstick {
        // Its own number of blocks, counted as if it were that of the compiles.
        sides.push(Box::new(move |repetitions| v8.call(V8_BLOCKS).mul_f64(repetitions as f64 / V8_BLOCKS as f64)));
    }
    let costs = interleave(&mut sides, ROUNDS, repetitions);
    (costs[0], costs.get(1).map(|block_ns| block_ns / QUOTED_V8_BLOCK_NS))
}

/// What a worker needs that has compiled the text before.
struct Warm {
    /// For the same text.
    again_ns: f64,
    /// For a text in which one number differs, each time another one: up to wasm, and all of it.
    edit_wasm_ns: f64,
    edit_ready_ns: f64,
}

fn warm_costs(session: &SessionId, text: &Text) -> Warm {
    let texts = Texts::default();
    let caches = Caches::new(&texts);
    let (mut same, mut changing) = (NativeCompiler::default(), NativeCompiler::default());
    let running = ready(session, &mut changing, &text.request(), Some(&caches));
    ready(session, &mut same, &text.request(), Some(&caches));
    let again = after(&running, &text.source);
    // Requests are made beforehand: the worker gets them from outside.
    let edits: Vec<CompileRequest> = (1..=2 * (ROUNDS as u32 + 1)).map(|edit| after(&running, &edited(&text.source, edit))).collect();
    let (up_to_wasm, all) = edits.split_at(ROUNDS + 1);
    let (mut up_to_wasm, mut all) = (up_to_wasm.iter(), all.iter());
    let mut sides = [
        timed(|| drop(ready(session, &mut same, &again, Some(&caches)))),
        timed(|| drop(compiler_worker::compile_with(up_to_wasm.next().expect("one for each round"), Some(&caches)))),
        timed(|| drop(ready(session, &mut changing, all.next().expect("one for each round"), Some(&caches)))),
    ];
    let costs = interleave(&mut sides, ROUNDS, 1);
    Warm { again_ns: costs[0], edit_wasm_ns: costs[1], edit_ready_ns: costs[2] }
}

/// A request for a text while another one runs.
fn after(running: &Artifact, source: &str) -> CompileRequest {
    CompileRequest { previous: Some(Box::new(running.manifest.clone())), ..programs::request(source) }
}

fn cold_cost(session: &SessionId, text: &Text) -> f64 {
    let request = text.request();
    let mut sides = [timed(move || drop(ready(session, &mut NativeCompiler::default(), &request, None)))];
    interleave(&mut sides, COLD_ROUNDS, 1)[0]
}

/// All that the worker does for one request.
fn ready(session: &SessionId, native: &mut NativeCompiler, request: &CompileRequest, caches: Option<&Caches<'_>>) -> Artifact {
    let mut artifact: Artifact = compiler_worker::compile_with(request, caches).expect("it compiles");
    artifact.native = native.compile(&artifact.wasm).expect("valid wasm has native code");
    artifact.publish(session, 1).expect("shared memory has room");
    artifact
}

/// The text with the first fractional number that its code pushes changed a little, differently for each `edit`.
pub fn edited(source: &str, edit: u32) -> String {
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
