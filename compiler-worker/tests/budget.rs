//! The work budget as a host meets it: a trap at a line, a fresh budget for the next call.

mod support;

use compiler_worker::compile;
use ipc::artifact::Artifact;
use support::{Machine, engine, request};
use wasmtime::{Trap, WasmBacktrace};

const BUDGET: u64 = 10_000;

fn compiled(source: &str) -> Artifact {
    let request = ipc::message::CompileRequest { work_budget: BUDGET, ..request(source) };
    compile(&request).expect("it compiles")
}

const RUNAWAY: &str = "8f4e/v1

entry main
module t
int calm
int n
push &n
push calm
if
push 1
else
loop 1000
loop 1000
push &n
push n
push 1
add
store
loopEnd
loopEnd
push 0
ifEnd int
store
moduleEnd
entryEnd
";

#[test]
fn a_runaway_loop_traps_at_its_line_and_the_next_call_has_a_fresh_budget() {
    let artifact = compiled(RUNAWAY);
    let mut machine = Machine::new(&engine(), &artifact.wasm);
    machine.call("initDefaults").expect("initialises");
    let main = machine.instance.get_typed_func::<(), ()>(&mut machine.store, "main").expect("exported");
    let error = main.call(&mut machine.store, ()).expect_err("a million rounds are beyond the budget");
    assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::UnreachableCodeReached));
    let trace = error.downcast_ref::<WasmBacktrace>().expect("a backtrace");
    let offset = trace.frames()[0].module_offset().expect("an offset");
    let point = artifact.manifest.source_at(offset as u32).expect("a line");
    assert!(point.is_budget);
    assert_eq!(point.line_in_block, 9, "the inner loop");
    let memory = machine.memories[0];
    memory.write(&mut machine.store, 4, &1i32.to_le_bytes()).expect("in range");
    for _ in 0..10 {
        main.call(&mut machine.store, ()).expect("calm, it is well within its budget");
    }
}

#[test]
fn calls_inside_the_program_do_not_refill_the_budget() {
    let source = "8f4e/v1\nentry main\nmodule t\nint n\nloop 700\npush &n\npush n\npush 1\nadd\nstore\nloopEnd\nmoduleEnd\nentryEnd\nfunction buffer\n#export\nloop 128\ncall main\nloopEnd\nfunctionEnd\n";
    let artifact = compiled(source);
    let mut machine = Machine::new(&engine(), &artifact.wasm);
    assert_eq!(machine.exports(), ["initDefaults", "main", "buffer"]);
    machine.call("initDefaults").expect("initialises");
    for _ in 0..50 {
        machine.call("main").expect("one round is within the budget");
    }
    assert_eq!(machine.call("buffer"), Err(Trap::UnreachableCodeReached));
}

#[test]
fn a_program_whose_work_is_small_has_no_counter() {
    let source = "8f4e/v1\nentry main\nmodule t\nint n\nloop 7\npush &n\npush n\npush 1\nadd\nstore\nloopEnd\nmoduleEnd\nentryEnd\n";
    assert_eq!(compiled(source).wasm, compile(&request(source)).expect("it compiles").wasm);
}
