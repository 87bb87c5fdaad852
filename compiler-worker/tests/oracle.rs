//! Random programs, compiled twice: with every pass, and with the plain lowering that knows none of them. Both run in the same
//! engine and have to leave the same memory after every call, and to trap in the same way.
//!
//! `CONTINUO_SEED=n` runs the one program of that seed and prints it.

mod support;

use compiler_worker::{CompileError, compile};
use support::random::{Random, program};
use support::{Machine, engine, plain, request};
use wasmtime::{Engine, Trap};

const PROGRAMS: u64 = 400;
const CALLS: usize = 4;

/// What became of a program.
#[derive(Debug, PartialEq)]
enum Verdict {
    Same,
    /// The plain binary is not valid WebAssembly (LANGUAGE §25), and the compiler says so.
    Refused,
}

/// Bits of numbers that are none may differ: the language leaves them open (LANGUAGE §25).
fn same_memory(left: &[u8], right: &[u8]) -> Result<bool, String> {
    if left == right {
        return Ok(true);
    }
    let is_nan = |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]).is_nan();
    let is_nan64 = |bytes: &[u8], at: usize| {
        let start = at & !7;
        [start, start.saturating_sub(4), start + 4].into_iter().any(|start| {
            bytes.get(start..start + 8).is_some_and(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]).is_nan())
        })
    };
    for (index, (a, b)) in left.chunks_exact(4).zip(right.chunks_exact(4)).enumerate() {
        let at = index * 4;
        let both_nan = (is_nan(a) && is_nan(b)) || (is_nan64(left, at) && is_nan64(right, at));
        if a != b && !both_nan {
            return Err(format!("byte {at}: {a:02x?} and {b:02x?}"));
        }
    }
    Ok(false)
}

fn judge(engine: &Engine, source: &str) -> Result<Verdict, String> {
    let plain = plain::compile(source, &[]).ok_or_else(|| match compile(&request(source)) {
        Err(CompileError::Rejected(diagnostics)) => format!("the generator wrote a wrong program: {:?}", diagnostics[0]),
        other => format!("the plain lowering fails, the compiler gives {:?}", other.map(|_| ())),
    })?;
    let optimised = match compile(&request(source)) {
        Ok(artifact) => artifact.wasm,
        Err(CompileError::Rejected(diagnostics)) => {
            let is_own = diagnostics[0].code >= 1000;
            let is_invalid = wasmtime::Module::validate(engine, &plain).is_err();
            return if is_own && is_invalid { Ok(Verdict::Refused) } else { Err(format!("refused: {:?}", diagnostics[0])) };
        }
        Err(CompileError::Internal(what)) => return Err(what),
    };
    let (mut left, mut right) = (Machine::new(engine, &plain), Machine::new(engine, &optimised));
    let mut calls = vec!["initDefaults"];
    calls.extend(["main"; CALLS]);
    calls.push("buffer");
    for (index, call) in calls.into_iter().enumerate() {
        let outcomes: [Result<(), Trap>; 2] = [left.call(call), right.call(call)];
        if outcomes[0] != outcomes[1] {
            return Err(format!("call {index} ({call}): {outcomes:?}"));
        }
        match same_memory(left.memory(0), right.memory(0)) {
            Ok(true) => {}
            // From here on the bits of a number that is none could have gone anywhere.
            Ok(false) => return Ok(Verdict::Same),
            Err(what) => return Err(format!("memory after call {index} ({call}), {outcomes:?}: {what}")),
        }
    }
    Ok(Verdict::Same)
}

#[test]
fn random_programs_behave_the_same_with_and_without_passes() {
    let engine = engine();
    if let Some(seed) = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let source = program(&mut Random::new(seed));
        println!("{source}");
        assert_eq!(judge(&engine, &source), Ok(Verdict::Same), "seed {seed}");
        return;
    }
    let mut refused = 0;
    for seed in 0..PROGRAMS {
        let source = program(&mut Random::new(seed));
        match judge(&engine, &source) {
            Ok(Verdict::Same) => {}
            Ok(Verdict::Refused) => refused += 1,
            Err(what) => panic!("seed {seed}: {what}\n{source}"),
        }
    }
    assert!(refused * 10 < PROGRAMS, "{refused} of {PROGRAMS} programs are refused, too many to test with");
}
