//! The compiler-worker: source text to artifact.
//!
//! [`compile`] is a pure function from a request to an artifact or diagnostics; everything the process remembers between
//! requests is a cache. One folder per language under [`languages`], one representation for all of them in [`middle`],
//! WebAssembly in [`wasm`], native code in [`native`], and the process around it in [`worker`].

pub mod heap;
pub mod languages;
pub mod middle;
pub mod native;
pub mod wasm;
pub mod worker;

pub use worker::run;

use ipc::artifact::Artifact;
use ipc::diagnostic::{Diagnostic, Stage};
use ipc::limits::MAX_WASM_BYTES;
use ipc::manifest::SourcePoint;
use ipc::message::{CompileGoal, CompileRequest};
use languages::caches::Caches;

/// Code of the diagnostic for a program whose compiled form is too large. One of Continuo's own, of no language in particular.
pub const WASM_TOO_LARGE_CODE: i32 = 1032;

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The program is wrong; at least one diagnostic, the first error first.
    #[error("the program is wrong: {}", first_message(.0))]
    Rejected(Vec<Diagnostic>),
    /// The compiler is wrong.
    #[error("the compiler made invalid WebAssembly ({0}); please report this program")]
    Internal(String),
}

fn first_message(diagnostics: &[Diagnostic]) -> &str {
    diagnostics.first().map_or("", |diagnostic| diagnostic.message.as_str())
}

/// Compiles a source text up to WebAssembly. The artifact has no native code; see [`native::NativeCompiler`], which also checks the
/// WebAssembly of requests that are to have native code.
pub fn compile(request: &CompileRequest) -> Result<Artifact, CompileError> {
    compile_with(request, None)
}

/// The same, with what is remembered of requests before: the answer is the same and comes sooner.
pub fn compile_with(request: &CompileRequest, caches: Option<&Caches<'_>>) -> Result<Artifact, CompileError> {
    let language = languages::language_of(&request.source);
    let caches = caches.filter(|caches| caches.takes(&request.source));
    let mut translated = (language.translate)(request, caches).map_err(CompileError::Rejected)?;
    middle::optimise(&mut translated.program, request.work_budget);
    let emitted = wasm::module::emit(&translated.program);
    if emitted.wasm.len() > MAX_WASM_BYTES {
        return Err(CompileError::Rejected(vec![too_large(emitted.wasm.len())]));
    }
    // Making native code begins with the same check, so that it is left to that where native code is made.
    if cfg!(debug_assertions) || request.goal != CompileGoal::Native {
        wasm::validation::validate(&emitted.wasm).map_err(CompileError::Internal)?;
    }
    translated.manifest.source_map = emitted.points.iter().map(source_point).collect();
    Ok(Artifact { manifest: translated.manifest, image: translated.image, wasm: emitted.wasm, native: Vec::new() })
}

fn source_point(point: &wasm::body::Point) -> SourcePoint {
    let (block, line_in_block) = (point.source.block, point.source.line);
    SourcePoint { wasm_offset: point.offset, block, line_in_block, is_budget: point.is_budget }
}

fn too_large(bytes: usize) -> Diagnostic {
    Diagnostic {
        stage: Stage::Compiler,
        code: WASM_TOO_LARGE_CODE,
        line: None,
        column: None,
        length: None,
        line_in_block: None,
        block: None,
        instruction: None,
        message: format!("The compiled program is too large: {bytes} bytes of WebAssembly, the limit is {MAX_WASM_BYTES}."),
        hint: Some("split the program into several runtimes".to_owned()),
        include: None,
    }
}
