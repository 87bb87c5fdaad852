//! Source texts: whatever is written in them, the compiler answers with valid WebAssembly or with a diagnostic, in time.

use std::time::Duration;

use compiler_worker::{CompileError, compile};
use fuzz::Target;
use ipc::limits::{COMPILE_DEADLINE_MS, MAX_DIAGNOSTICS};
use ipc::manifest::Manifest;

use crate::programs;

/// Words of the language that change what the lines around them mean.
const WORDS: [&str; 32] = [
    "8f4e/v1\n",
    "module a\n",
    "moduleEnd\n",
    "function f\n",
    "functionEnd int\n",
    "int[] big 4294967295\n",
    "int* p &a:b\n",
    "float x 1e308\n",
    "float64 y 0x7fffffff\n",
    "const N 3\n",
    "use a\n",
    "include midi\n",
    "loop\n",
    "loopEnd\n",
    "if\n",
    "else\n",
    "ifEnd\n",
    "block\n",
    "blockEnd int\n",
    "push &x\n",
    "push *p\n",
    "push 0\n",
    "store\n",
    "load\n",
    "add\n",
    "div\n",
    "call f\n",
    "localSet x\n",
    "map 1 2\n",
    "#initOnly\n",
    "; @config project sampleRate 1\n",
    "constants env\n",
];

/// Compiles a text after another one, as the edits of a session do.
fn check(input: &[u8], previous: &Manifest) {
    let lines = input.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
    let mut request = programs::request(input);
    request.previous = Some(Box::new(previous.clone()));
    match compile(&request) {
        Ok(artifact) => assert!(artifact.wasm.starts_with(b"\0asm")),
        Err(CompileError::Rejected(diagnostics)) => {
            assert!((1..=MAX_DIAGNOSTICS).contains(&diagnostics.len()), "{} diagnostics", diagnostics.len());
            let beyond =
                diagnostics.iter().find(|found| found.include.is_none() && found.line.is_some_and(|line| line == 0 || line > lines));
            assert!(beyond.is_none(), "{beyond:?} of {lines} lines");
        }
        Err(CompileError::Internal(what)) => panic!("the compiler made what is invalid: {what}"),
    }
}

#[test]
fn source_text() {
    let previous = programs::artifact().manifest;
    let mut seeds = programs::conformance();
    seeds.extend(programs::examples());
    let target = Target {
        name: "source_text",
        seeds,
        words: &WORDS,
        max_bytes: 64 << 10,
        cases: 4_000,
        cpu: Duration::from_millis(COMPILE_DEADLINE_MS),
        bytes: 256 << 20,
        bytes_per_byte: 4_000,
    };
    target.run(|input| check(input, &previous));
}
