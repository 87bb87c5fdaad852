//! How long an edit of one line takes, stage by stage. Shows numbers, proves nothing: run it with `--ignored --nocapture`, in a
//! release build if the numbers are to mean something.

mod support;

use std::time::Instant;

use compiler_worker::compile;
use compiler_worker::native::NativeCompiler;
use ipc::message::CompileRequest;
use support::request;

const EDITS: usize = 20;

fn program(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../tests/bench/{name}.8f4e", env!("CARGO_MANIFEST_DIR"))).expect("the program is there")
}

/// Changes the number of the first `push` of a number behind the middle of the text.
fn edited(source: &str, edit: usize) -> String {
    let middle = source.len() / 2;
    let is_number = |line: &str| line.trim().strip_prefix("push ").is_some_and(|rest| rest.parse::<f64>().is_ok());
    let mut offset = 0;
    for line in source.split_inclusive('\n') {
        if offset >= middle && is_number(line) {
            return format!("{}push {}.5\n{}", &source[..offset], edit + 1, &source[offset + line.len()..]);
        }
        offset += line.len();
    }
    panic!("there is no number behind the middle");
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "measures"]
fn an_edit_of_one_line() {
    for name in ["voices8", "freeverb", "voices64"] {
        let source = program(name);
        let mut native = NativeCompiler::default();
        let started = Instant::now();
        let first = compile(&request(&source)).expect("it is right");
        let (wasm_first, started) = (started.elapsed().as_micros(), Instant::now());
        native.compile(&first.wasm).expect("it compiles");
        let native_first = started.elapsed().as_micros();
        let mut previous = first.manifest;
        let (mut to_wasm, mut to_native) = (Vec::new(), Vec::new());
        for edit in 0..EDITS {
            let source = edited(&source, edit);
            let request = CompileRequest { previous: Some(Box::new(previous)), ..request(&source) };
            let started = Instant::now();
            let artifact = compile(&request).expect("it is right");
            to_wasm.push(started.elapsed().as_micros());
            let started = Instant::now();
            native.compile(&artifact.wasm).expect("it compiles");
            to_native.push(started.elapsed().as_micros());
            previous = artifact.manifest;
        }
        println!(
            "{name:10} {:5} lines {:6} bytes of wasm: first {wasm_first:6} + {native_first:6} us, edit {:6} + {:6} us",
            source.lines().count(),
            first.wasm.len(),
            median(to_wasm),
            median(to_native)
        );
    }
}
