//! The front half of the 8f4e compiler against the recorded corpus: errors, memory sizes and initial memory, without any
//! code being generated. Where the corpus names an error that only the operand stack shows, the program must resolve here.

use compiler_worker::languages::lang_8f4e::program::Program;
use compiler_worker::languages::lang_8f4e::{FrontOptions, resolve};
use ipc::diagnostic::{Diagnostic, Stage};
use serde_json::Value;

/// Compiler errors that only the back half can find: they need signatures or the operand stack.
const BACK_HALF_CODES: [i64; 25] = [0, 1, 2, 3, 8, 11, 14, 17, 18, 19, 21, 22, 23, 24, 33, 44, 48, 49, 50, 52, 57, 58, 64, 65, 68];

/// Programs the recorded compiler refuses and Continuo accepts: `#initOnly` is part of its language (LANGUAGE §24).
const ACCEPTED_HERE: [&str; 1] = ["initOnly"];

fn corpus() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/probes.json");
    let text = std::fs::read_to_string(path).expect("the corpus is part of the repository");
    let corpus: Value = serde_json::from_str(&text).expect("the corpus is JSON");
    corpus["probes"].as_array().expect("the corpus is a list").clone()
}

fn options(probe: &Value) -> FrontOptions {
    let regions = probe["memoryRegions"].as_array().into_iter().flatten();
    FrontOptions { memory_regions: regions.filter_map(|name| name.as_str().map(str::to_owned)).collect(), environment: Vec::new() }
}

fn compile(probe: &Value) -> Result<Program, Vec<Diagnostic>> {
    resolve(probe["source"].as_str().expect("a probe has a source").as_bytes(), &options(probe))
}

/// Memory 0 after `initDefaults`, as the corpus records it: the first bytes, trailing zeros stripped.
fn initial_memory_hex(program: &Program) -> String {
    let shown = 4096.min(program.memories[0].required_bytes as usize + 16);
    let mut memory = vec![0u8; 1 << 20];
    for segment in program.data.iter().filter(|segment| segment.memory == 0) {
        memory[segment.address as usize..][..segment.bytes.len()].copy_from_slice(&segment.bytes);
    }
    memory.truncate(shown);
    let end = memory.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    memory[..end].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with the outcome of one probe; `None` if nothing is.
fn mismatch(probe: &Value) -> Option<String> {
    let error = &probe["error"];
    let outcome = compile(probe);
    if error.is_null() || ACCEPTED_HERE.contains(&probe["name"].as_str()?) {
        return match outcome {
            Ok(program) => success_mismatch(probe, &program),
            Err(diagnostics) => Some(format!("must resolve, but: {:?}", diagnostics[0])),
        };
    }
    let found = outcome.err().and_then(|diagnostics| diagnostics.into_iter().next());
    let is_back_half = error["stage"] == "compiler" && is_found_later(error["code"].as_i64()?, error["instruction"].as_str()?);
    match found {
        Some(diagnostic) => error_mismatch(error, &diagnostic),
        None if is_back_half => None,
        None => Some(format!("must be refused with {error}")),
    }
}

fn is_found_later(code: i64, instruction: &str) -> bool {
    // Undeclared names of bodies are found by the analysis, those of declarations here; functions are compared later.
    match code {
        5 => matches!(instruction, "push"),
        45 | 66 => instruction == "function",
        code => BACK_HALF_CODES.contains(&code),
    }
}

fn success_mismatch(probe: &Value, program: &Program) -> Option<String> {
    let required = program.memories[0].required_bytes;
    if let Some(recorded) = probe["requiredMemoryBytes"].as_u64()
        && recorded != required
    {
        return Some(format!("required bytes {required}, recorded {recorded}"));
    }
    let memory = initial_memory_hex(program);
    let recorded = probe["memInitHex"].as_str()?;
    (memory != recorded).then(|| format!("memory {memory}, recorded {recorded}"))
}

fn error_mismatch(error: &Value, found: &Diagnostic) -> Option<String> {
    let stage = match found.stage {
        Stage::Project => "project",
        Stage::Syntax => "syntax",
        Stage::Compiler => "compiler",
    };
    let code = error["code"].as_i64()?;
    if error["stage"] != stage || code != i64::from(found.code) {
        return Some(format!("found {found:?}, recorded {error}"));
    }
    // Errors of the project and of the options have no place in a block; the corpus gives them line 0 all the same.
    if found.line_in_block.is_some() {
        let same_line = error["line"].as_u64() == found.line_in_block.map(u64::from);
        let same_instruction = error["instruction"].as_str() == found.instruction.as_deref();
        if !same_line || !same_instruction {
            return Some(format!("found at {found:?}, recorded {error}"));
        }
    }
    message_mismatch(error["message"].as_str()?, &found.message, code)
}

/// Messages are the recorded ones without the code at their end. Two differ on purpose: one is shorter, the other counts
/// lines from the top of the file.
fn message_mismatch(recorded: &str, found: &str, code: i64) -> Option<String> {
    let recorded = recorded.replace(&format!(" ({code})"), "");
    let is_own = recorded.starts_with("Split-byte default values") || recorded.contains("unresolved include");
    (recorded != found && !is_own).then(|| format!("message {found:?}, recorded {recorded:?}"))
}

#[test]
fn the_corpus_resolves_or_is_refused_as_recorded() {
    let wrong: Vec<String> = corpus().iter().filter_map(|probe| Some(format!("{}: {}", probe["name"], mismatch(probe)?))).collect();
    assert!(wrong.is_empty(), "{} programs differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_not_empty_and_has_errors_of_every_stage() {
    let corpus = corpus();
    assert!(corpus.len() >= 343);
    for stage in ["project", "syntax", "compiler"] {
        assert!(corpus.iter().any(|probe| probe["error"]["stage"] == stage), "{stage}");
    }
}
