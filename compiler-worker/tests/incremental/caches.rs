//! What the worker remembers changes the time an answer takes and nothing else (DESIGN §2).

use compiler_worker::languages::caches::{Caches, Texts};
use compiler_worker::native::NativeCompiler;
use compiler_worker::{CompileError, compile, compile_with};
use ipc::artifact::Artifact;
use ipc::manifest::Manifest;
use ipc::message::CompileRequest;

use crate::random_edits::{Random, Text};
use crate::support::request;

const SEQUENCES: u64 = 4;
const EDITS: usize = 15;

/// A worker that has seen all that came before, beside one that has just started.
struct Pair<'t> {
    caches: Caches<'t>,
    native: NativeCompiler,
}

impl Pair<'_> {
    /// What both say to a text, which has to be the same. Diagnostics as text; `None` for an artifact.
    fn compile(&mut self, source: &str, previous: Option<&Manifest>, context: &str) -> Result<Artifact, String> {
        let request = CompileRequest { previous: previous.map(|previous| Box::new(previous.clone())), ..request(source) };
        let warm = compile_with(&request, Some(&self.caches)).map_err(diagnostics);
        let cold = compile(&request).map_err(diagnostics);
        assert_eq!(warm, cold, "{context}");
        if let Ok(artifact) = &warm {
            let (warm, cold) = (self.native.compile(&artifact.wasm), NativeCompiler::default().compile(&artifact.wasm));
            assert!(warm.expect("it compiles") == cold.expect("it compiles"), "native code differs: {context}");
        }
        warm
    }
}

fn diagnostics(error: CompileError) -> String {
    match error {
        CompileError::Rejected(diagnostics) => format!("{diagnostics:?}"),
        CompileError::Internal(what) => panic!("{what}"),
    }
}

#[test]
fn a_restarted_worker_gives_the_same_answers() {
    for seed in 0..SEQUENCES {
        let mut random = Random::new(seed);
        let mut text = Text::random(&mut random, 12, false);
        let texts = Texts::default();
        let mut pair = Pair { caches: Caches::new(&texts), native: NativeCompiler::default() };
        let mut previous = None;
        for step in 0..EDITS {
            let what = text.edit(&mut random);
            let source = text.source();
            let context = format!("seed {seed}, edit {step} ({what})");
            // Now and then the text is broken; what comes then is relative to the last one that was right.
            if random.below(4) == 0 {
                let at = source.len() / 2;
                let at = at + source[at..].find('\n').unwrap_or(0);
                let broken = format!("{}\npush nonsense\n{}", &source[..at], &source[at..]);
                assert!(pair.compile(&broken, previous.as_ref(), &context).is_err(), "{context}");
            }
            let artifact = pair.compile(&source, previous.as_ref(), &context).unwrap_or_else(|what| panic!("{context}: {what}"));
            previous = Some(artifact.manifest);
        }
        assert!(!pair.caches.lang_8f4e.is_empty());
    }
}

#[test]
fn an_edit_reads_one_block_and_compiles_few_functions() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bench/voices64.8f4e")).expect("it is there");
    let texts = Texts::default();
    let mut pair = Pair { caches: Caches::new(&texts), native: NativeCompiler::default() };
    let artifact = pair.compile(&source, None, "first").expect("it is right");
    let (blocks, functions) = (pair.caches.lang_8f4e.len(), pair.native.functions_compiled());
    let edited = source.replacen("float gain 0.0078125000\n", "; quieter\nfloat gain 0.0078125000\nfloat more\n", 1);
    let edited = edited.replacen("push *in\npush gain\nmul\n", "push *in\npush gain\nmul\npush 0.5\nmul\n", 1);
    pair.compile(&edited, Some(&artifact.manifest), "edited").expect("it is right");
    assert_eq!(pair.caches.lang_8f4e.len(), blocks + 1);
    let compiled = pair.native.functions_compiled() - functions;
    assert!(functions > 5 && (1..=2).contains(&compiled), "{compiled} of {functions}");
}
