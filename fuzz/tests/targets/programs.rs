//! Programs to begin with: the examples, and the conformance corpus where it lies.

use std::fs;
use std::path::{Path, PathBuf};

use compiler_worker::compile;
use ipc::artifact::Artifact;
use ipc::message::{CompileGoal, CompileRequest};

/// Operations that a call may execute in the programs compiled here.
const WORK_BUDGET: u64 = 1_000_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The examples, in the order of their names.
pub fn examples() -> Vec<Vec<u8>> {
    let entries = fs::read_dir(root().join("examples")).expect("the examples are there").flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "8f4e")).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an example can be read")).collect()
}

/// The programs of the conformance corpus.
pub fn conformance() -> Vec<Vec<u8>> {
    let text = fs::read_to_string(root().join("tests/conformance/probes.json")).expect("the corpus is there");
    let corpus: serde_json::Value = serde_json::from_str(&text).expect("the corpus is JSON");
    let probes = corpus["probes"].as_array().expect("the corpus has probes");
    let mut sources: Vec<Vec<u8>> =
        probes.iter().filter_map(|probe| probe["source"].as_str()).map(|text| text.as_bytes().to_vec()).collect();
    sources.dedup();
    sources
}

/// What the worker is asked for to compile a text.
pub fn request(source: &[u8]) -> CompileRequest {
    CompileRequest {
        id: 1,
        source: source.to_vec(),
        goal: CompileGoal::Wasm,
        memory_regions: Vec::new(),
        environment: Vec::new(),
        previous: None,
        work_budget: WORK_BUDGET,
        generation: 1,
    }
}

/// The artifact of a small example.
pub fn artifact() -> Artifact {
    let smallest = examples().into_iter().min_by_key(Vec::len).expect("there are examples");
    compile(&request(&smallest)).expect("an example compiles")
}
