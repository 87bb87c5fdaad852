//! The conformance corpus: programs with the memory images, sizes and diagnostics that the language's reference gives.

use serde::Deserialize;

/// `tests/conformance/probes.json`.
#[derive(Deserialize)]
struct Corpus {
    probes: Vec<Probe>,
}

/// One program and what it must give.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub name: String,
    pub source: String,
    pub memory_regions: Vec<String>,
    pub required_memory_bytes: Option<u64>,
    pub exports: Option<Vec<String>>,
    /// Memory 0 after `initDefaults`: the first min(4096, required + 16) bytes without trailing zeros, hexadecimal.
    pub mem_init_hex: Option<String>,
    /// The same after one call of every entry.
    pub mem_after_hex: Option<String>,
    /// What calling the entries trapped with.
    pub trap: Option<serde_json::Value>,
    /// The reference's wasm was not valid.
    pub invalid_wasm: Option<String>,
    pub error: Option<ProbeError>,
}

/// The diagnostic that a wrong program must give.
#[derive(Clone, Deserialize)]
pub struct ProbeError {
    pub stage: String,
    pub code: i32,
    /// 0-based line inside the block; 0 where there is no block.
    pub line: Option<u32>,
    pub instruction: Option<String>,
    pub message: String,
}

/// All programs of the corpus.
pub fn probes() -> Vec<Probe> {
    let corpus: Corpus = serde_json::from_str(include_str!("../conformance/probes.json")).expect("the corpus is valid JSON");
    corpus.probes
}

/// The form in which the corpus records a memory.
pub fn recorded_form(memory: &[u8], required_bytes: u64) -> String {
    let end = memory.len().min(4096).min(required_bytes as usize + 16);
    let used = memory[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    memory[..used].iter().map(|byte| format!("{byte:02x}")).collect()
}
