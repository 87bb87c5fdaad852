//! How long an edit of one line takes, stage by stage. Shows numbers, proves nothing: run it with `--ignored --nocapture`, in a
//! release build if the numbers are to mean something.

mod support;

use std::time::Instant;

use compiler_worker::languages::caches::{Caches, Texts};
use compiler_worker::languages::lang_8f4e::blocks::{self, Outline};
use compiler_worker::languages::lang_8f4e::{self, project};
use compiler_worker::native::NativeCompiler;
use compiler_worker::{compile, compile_with, middle, wasm};
use ipc::message::CompileRequest;
use support::{Machine, engine, request};

const EDITS: usize = 20;
const BLOCKS: usize = 300;

fn program(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../tests/bench/{name}.8f4e", env!("CARGO_MANIFEST_DIR"))).expect("the program is there")
}

/// Multiplies by one number more where the first product behind the middle of the text is, of which there are floats.
fn edited(source: &str, edit: usize) -> String {
    let middle = source.len() / 2;
    let at = middle + source[middle..].find("\nmul\n").expect("something is multiplied there");
    format!("{}\nmul\npush {}.5{}", &source[..at], edit + 1, &source[at..])
}

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start or the last lap.
    fn lap(&mut self) -> u128 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now)).as_micros()
    }
}

fn best(times: Vec<u128>) -> u128 {
    times.into_iter().min().unwrap_or(0)
}

/// Microseconds of each stage, of one compile: reading the blocks, a copy of what was read, all up to the middle, passes, the rest.
fn stages_of(source: &str) -> [u128; 5] {
    let request = request(source);
    let mut clock = Clock::start();
    let project = project::parse(source.as_bytes()).expect("it is right");
    let outline = Outline::new(&project).expect("it is right");
    let blocks = blocks::read(&project, &outline, None).expect("it is right");
    let read = clock.lap();
    drop((blocks.modules.clone(), blocks.functions.clone(), blocks.constants.clone()));
    let copy = clock.lap();
    let mut program = lang_8f4e::back::translate(&request, None).expect("it is right").program;
    let translate = clock.lap();
    middle::optimise(&mut program, 0);
    let optimise = clock.lap();
    let wasm = wasm::module::emit(&program).wasm;
    wasm::validation::validate(&wasm).expect("it is right");
    [read, copy, translate, optimise, clock.lap()]
}

#[test]
#[ignore = "measures"]
fn an_edit_of_one_line() {
    let engine = engine();
    for name in ["voices8", "freeverb", "voices64"] {
        let source = program(name);
        let mut native = NativeCompiler::default();
        let texts = Texts::default();
        let caches = Caches::new(&texts);
        let mut clock = Clock::start();
        let first = compile(&request(&source)).expect("it is right");
        let wasm_first = clock.lap();
        native.compile(&first.wasm).expect("it compiles");
        let native_first = clock.lap();
        let mut previous = first.manifest;
        let (mut to_wasm, mut to_native) = (Vec::new(), Vec::new());
        for edit in 0..EDITS {
            let source = edited(&source, edit);
            let request = CompileRequest { previous: Some(Box::new(previous)), ..request(&source) };
            let mut clock = Clock::start();
            let artifact = compile_with(&request, Some(&caches)).expect("it is right");
            to_wasm.push(clock.lap());
            native.compile(&artifact.wasm).expect("it compiles");
            to_native.push(clock.lap());
            previous = artifact.manifest;
        }
        let mut machine = Machine::new(&engine, &first.wasm);
        machine.call("initDefaults").expect("it runs");
        let block = |machine: &mut Machine| {
            let mut clock = Clock::start();
            machine.call("buffer").expect("it runs");
            clock.lap()
        };
        let block_us = (0..BLOCKS).map(|_| block(&mut machine)).min().unwrap_or(0);
        let mut stages = [0; 5];
        for _ in 0..EDITS {
            for (best, time) in stages.iter_mut().zip(stages_of(&source)) {
                *best = if *best == 0 { time } else { time.min(*best) };
            }
        }
        println!("           best block {block_us} us; best read, copy of that, translate, optimise, emit + validate: {stages:?} us");
        println!(
            "{name:10} {:5} lines {:6} bytes of wasm: first {wasm_first:6} + {native_first:6} us, edit {:6} + {:6} us",
            source.lines().count(),
            first.wasm.len(),
            best(to_wasm),
            best(to_native)
        );
    }
}
