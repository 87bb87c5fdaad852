//! Every program of the corpus (`tests/conformance/probes.json` of the repository), compiled and executed in this process.
//!
//! The corpus records what the public implementation of the language does: memory after initialisation and after one call of every
//! entry, traps, exports, sizes, and the first error of wrong programs.

mod support;

use compiler_worker::{CompileError, compile};
use ipc::artifact::Artifact;
use ipc::diagnostic::{Diagnostic, Stage};
use serde_json::Value;
use support::{Machine, engine, request};

/// Uses `#initOnly`, which the public implementation no longer has and Continuo does (LANGUAGE §24).
const HAS_INIT_ONLY: &str = "initOnly";

/// Programs that the public implementation turns into invalid WebAssembly only because of limits of its encoding (or of the
/// virtual machine they were recorded with). They are valid programs of the language.
const VALID_ALL_THE_SAME: &[&str] = &["regions=s,d", "reserved proto names", "two regions pointer arithmetic regions=s"];

fn corpus() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/probes.json");
    let text = std::fs::read_to_string(path).expect("the corpus is part of the repository");
    let corpus: Value = serde_json::from_str(&text).expect("the corpus is JSON");
    corpus["probes"].as_array().expect("a list of programs").clone()
}

fn compile_probe(probe: &Value) -> Result<Artifact, Vec<Diagnostic>> {
    let mut request = request(probe["source"].as_str().expect("a source text"));
    let regions = probe["memoryRegions"].as_array().into_iter().flatten();
    request.memory_regions = regions.filter_map(|region| Some(region.as_str()?.to_owned())).collect();
    compile(&request).map_err(|error| match error {
        CompileError::Rejected(diagnostics) => diagnostics,
        CompileError::Internal(what) => panic!("{}: {what}", probe["name"]),
    })
}

fn hex(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes[..end].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with the outcome of a probe, if something is.
fn check(probe: &Value) -> Result<(), String> {
    let name = probe["name"].as_str().unwrap_or_default();
    match (compile_probe(probe), probe.get("error"), probe.get("invalidWasm")) {
        (Ok(artifact), Some(_), _) if name == HAS_INIT_ONLY => {
            let has_export = artifact.manifest.has_export("initOnly");
            if has_export { Ok(()) } else { Err("has no export for its init-only modules".to_owned()) }
        }
        (Err(diagnostics), Some(expected), _) => check_error(&diagnostics[0], expected),
        (Err(diagnostics), None, Some(_)) => check_own_error(name, &diagnostics[0]),
        (Ok(_), None, Some(_)) if !VALID_ALL_THE_SAME.contains(&name) => Err("compiles, although it has no valid WebAssembly".to_owned()),
        (Ok(artifact), None, _) => check_run(probe, &artifact),
        (Ok(_), Some(expected), _) => Err(format!("compiles, expected {expected}")),
        (Err(diagnostics), None, None) => Err(format!("does not compile: {:?}", diagnostics[0])),
    }
}

fn check_error(found: &Diagnostic, expected: &Value) -> Result<(), String> {
    let stage = match found.stage {
        Stage::Project => "project",
        Stage::Syntax => "syntax",
        Stage::Compiler => "compiler",
    };
    let mut same = expected["stage"] == stage && expected["code"] == found.code;
    // Errors of the file and of the options have no place in a block; the corpus has placeholders there.
    if found.block.is_some() {
        same &= found.line_in_block.map(u64::from) == expected["line"].as_u64();
        same &= found.instruction.as_deref() == expected["instruction"].as_str();
    }
    if same { Ok(()) } else { Err(format!("found {found:?}, expected {expected}")) }
}

fn check_own_error(name: &str, found: &Diagnostic) -> Result<(), String> {
    let is_own = found.code >= 1000 && found.line.is_some();
    let same = is_own && !VALID_ALL_THE_SAME.contains(&name);
    if same { Ok(()) } else { Err(format!("found {found:?}")) }
}

fn check_run(probe: &Value, artifact: &Artifact) -> Result<(), String> {
    let mut machine = Machine::new(&engine(), &artifact.wasm);
    if let Some(exports) = probe["exports"].as_array() {
        expect("exports", &Value::from(machine.exports()), &Value::from(exports.clone()))?;
    }
    let required = artifact.manifest.memories.first().map_or(0, |memory| memory.required_bytes);
    expect("required bytes", &Value::from(required), &probe["requiredMemoryBytes"])?;
    machine.call("initDefaults").map_err(|trap| format!("initDefaults: {trap}"))?;
    let shown = (required as usize + 16).min(4096);
    let memory = |machine: &Machine| machine.memories.first().map_or(String::new(), |_| hex(&machine.memory(0)[..shown]));
    if let Some(expected) = probe.get("memInitHex") {
        expect("memory after initialisation", &Value::from(memory(&machine)), expected)?;
    }
    let entries: Vec<String> = artifact.manifest.entries.iter().map(|entry| entry.name.clone()).collect();
    let trap = entries.iter().find_map(|entry| machine.call(entry).err());
    if let Some(expected) = probe.get("memAfterHex") {
        expect("memory after the entries", &Value::from(memory(&machine)), expected)?;
    }
    check_trap(trap, probe.get("trap"))
}

fn check_trap(found: Option<wasmtime::Trap>, expected: Option<&Value>) -> Result<(), String> {
    let wanted = match expected.and_then(Value::as_str) {
        None => None,
        Some("divide by zero") => Some(wasmtime::Trap::IntegerDivisionByZero),
        Some("divide result unrepresentable") => Some(wasmtime::Trap::IntegerOverflow),
        Some(other) => return Err(format!("the corpus has a new kind of trap: {other}")),
    };
    if found == wanted { Ok(()) } else { Err(format!("traps with {found:?}, expected {wanted:?}")) }
}

fn expect(what: &str, found: &Value, expected: &Value) -> Result<(), String> {
    if expected.is_null() || found == expected { Ok(()) } else { Err(format!("{what}: found {found}, expected {expected}")) }
}

#[test]
fn every_program_of_the_corpus_behaves_as_recorded() {
    let corpus = corpus();
    assert!(corpus.len() >= 343, "the corpus is complete");
    let failures: Vec<String> =
        corpus.iter().filter_map(|probe| check(probe).err().map(|what| format!("{}: {what}", probe["name"]))).collect();
    assert!(failures.is_empty(), "{} of {} programs fail:\n{}", failures.len(), corpus.len(), failures.join("\n"));
}

/// Programs whose recorded bytes differ all the same: one includes library text, which is our own here, and one numbers the
/// temporaries of a double dereference in a way the language's description leaves open.
const DIFFERENT_BYTES: &[&str] = &["private include helper names", "deref local double ptr"];

/// The plain lowering of the test support gives the very bytes whose hashes the corpus records. So it is a trustworthy oracle for the
/// optimised output, and the analysis decides about every guard, overload and temporary as the language says.
#[test]
fn the_plain_lowering_gives_the_recorded_binaries() {
    let mut compared = 0;
    let mut failures = Vec::new();
    for probe in &corpus() {
        let (Some(hash), None) = (probe["wasmSha256"].as_str(), probe.get("invalidWasm")) else { continue };
        if DIFFERENT_BYTES.iter().any(|name| probe["name"] == *name) {
            continue;
        }
        let regions: Vec<String> =
            probe["memoryRegions"].as_array().into_iter().flatten().filter_map(|r| Some(r.as_str()?.to_owned())).collect();
        let wasm = support::plain::compile(probe["source"].as_str().unwrap_or_default(), &regions).unwrap_or_default();
        compared += 1;
        if sha256(&wasm) != hash {
            failures.push(probe["name"].to_string());
        }
    }
    assert!(failures.is_empty(), "{} of {compared} differ: {}", failures.len(), failures.join(", "));
    assert!(compared >= 199);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
