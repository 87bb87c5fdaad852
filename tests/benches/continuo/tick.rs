//! `tick`: what one tick of a program costs, as the tick thread runs it, beside V8 and C.

use runtime_host::host::engine::Loader;
use runtime_host::realtime::flush_denormals;

use crate::c::CProgram;
use crate::programs::{self, Ready, Text};
use crate::sampling::{Side, calibrated, interleave, timed};
use crate::table;
use crate::v8::V8Program;

/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Aimed-for length of one side's turn in nanoseconds.
const ROUND_NS: u64 = 10_000_000;
/// Ticks before anything is measured: V8 has optimised what is hot by then.
const WARM_UP_TICKS: u64 = 3_000;

const NOTES: &[&str] = &[
    "Processor time, medians of 15 rounds, sides in turns. A tick is a block of 128 frames at 48 kHz (2,667 us), of `worker` and `main` a cycle",
    "of 20 and 16.7 ms. Ours: denormals flushed, export called, output copied out and checked, as on the tick thread; the lane is not in it.",
    "V8: node runs the reference compiler's wasm of the three workloads. The reference's wasm of the examples is not part of the project;",
    "there node runs the language's own lowering, made by the compiler's test oracle, which for the workloads gives the same bytes.",
    "C: -O3 -march=native, written by hand: voices64 as structure of arrays with vectors (the limit) and in the program's own order;",
    "freeverb block by block. Goals: ours ≤ 1 × V8 with the first compiler, then ≤ 0.42 ×, in the end ≤ 1.5 × C. For comparison, CPU seconds",
    "per second of audio, quoted: voices64: Faust 0.0100, Pd 0.0104, scsynth 0.0117; freeverb: Faust 0.0024, scsynth 0.0029, Pd 0.0035.",
];

pub fn print() {
    let loader = Loader::new().expect("this machine can run wasm");
    let texts: Vec<Text> = programs::workloads().into_iter().chain(programs::examples()).collect();
    let rows: Vec<Vec<String>> = texts.iter().map(|text| row(&loader, text)).collect();
    let header = ["program", "ours", "V8", "ours / V8", "C", "ours / C", "C, simple", "ours / that", "share of its time", "CPU s per s"];
    table::print("tick", NOTES, &header, &rows);
}

fn row(loader: &Loader, text: &Text) -> Vec<String> {
    let mut ready = Ready::of(loader, text);
    let tick_ns = ready.tick_ns();
    let v8_program = v8_program(text, &ready);
    let [limit, simple] = c_programs(&text.name);
    let mut v8 = v8_program.start();
    if let Some(v8) = &mut v8 {
        v8.call(WARM_UP_TICKS);
    }

    let mut sides: Vec<Side<'_>> = vec![ours(&mut ready)];
    let repetitions = calibrated(&mut sides[0], ROUND_NS);
    let mut places = [None; 3];
    if let Some(v8) = &mut v8 {
        places[0] = Some(sides.len());
        sides.push(Box::new(|repetitions| v8.call(repetitions)));
    }
    for (place, program) in places[1..].iter_mut().zip([&limit, &simple]) {
        if let Some(program) = program {
            *place = Some(sides.len());
            sides.push(Box::new(|repetitions| program.blocks(repetitions)));
        }
    }
    let costs = interleave(&mut sides, ROUNDS, repetitions);
    let ours = costs[0];
    let [v8, limit, simple] = places.map(|place| place.map(|place: usize| costs[place]));
    let times = |baseline: Option<f64>| table::maybe(baseline.map(|baseline| ours / baseline), table::ratio);
    vec![
        text.name.clone(),
        table::us(ours),
        table::maybe(v8, table::us),
        times(v8),
        table::maybe(limit, table::us),
        times(limit),
        table::maybe(simple, table::us),
        times(simple),
        table::percent(ours / tick_ns),
        format!("{:.5}", ours / tick_ns),
    ]
}

/// One tick as the tick thread does it.
fn ours(ready: &mut Ready) -> Side<'_> {
    let mut side = timed(move || ready.tick());
    Box::new(move |repetitions| {
        let _flushed = flush_denormals();
        side(repetitions)
    })
}

/// The same program for V8.
pub fn v8_program(text: &Text, ready: &Ready) -> V8Program {
    let pages = ready.program.engine().manifest().memories.first().map_or(1, |memory| memory.pages);
    V8Program::new(&text.reference_wasm(), pages, ready.runtime_type.tick_export)
}

/// The C versions of a workload: as fast as it goes, and as one would write it down.
fn c_programs(name: &str) -> [Option<CProgram>; 2] {
    match name {
        "voices64" => [CProgram::compile("voices", &["simd", "64"]), CProgram::compile("voices", &["smp", "64"])],
        "freeverb" => [CProgram::compile("freeverb", &["1"]), None],
        _ => [None, None],
    }
}
