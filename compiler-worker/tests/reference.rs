//! The programs of `tests/bench/` against the binaries the public implementation makes of them: the same memory, bit for bit, after
//! hundreds of calls in the same engine.

mod support;

use compiler_worker::compile;
use support::{Machine, engine, request};

const CALLS: usize = 300;

fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/../tests/bench/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compare(program: &str, export: &str) {
    let source = String::from_utf8(file(&format!("{program}.8f4e"))).expect("a text");
    let artifact = compile(&request(&source)).expect("it compiles");
    let engine = engine();
    let mut ours = Machine::new(&engine, &artifact.wasm);
    let mut reference = Machine::new(&engine, &file(&format!("{program}.reference.wasm")));
    assert_eq!(ours.exports(), reference.exports());
    for machine in [&mut ours, &mut reference] {
        machine.call("initDefaults").expect("initialises");
    }
    assert!(ours.memory(0) == reference.memory(0), "{program}: the same memory after initialisation");
    for call in 0..CALLS {
        for machine in [&mut ours, &mut reference] {
            machine.call(export).expect("runs");
        }
        assert!(ours.memory(0) == reference.memory(0), "{program}: the same memory after call {call} of {export}");
    }
}

#[test]
fn voices8_is_bit_identical() {
    compare("voices8", "main");
    compare("voices8", "buffer");
}

#[test]
fn voices64_is_bit_identical() {
    compare("voices64", "main");
    compare("voices64", "buffer");
}

#[test]
fn freeverb_is_bit_identical() {
    compare("freeverb", "main");
    compare("freeverb", "buffer");
}
