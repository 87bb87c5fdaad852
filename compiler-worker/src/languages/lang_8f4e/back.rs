//! The way of a program through the back half: signatures, analysis, translation, description (LANGUAGE §1, passes 7 to 11).

use ipc::artifact::DefaultBytes;
use ipc::diagnostic::Diagnostic;
use ipc::limits::MAX_DIAGNOSTICS;
use ipc::manifest::Manifest;
use ipc::message::CompileRequest;

use super::analysis::{self, translate};
use super::block_cache::BlockCache;
use super::error::LanguageError;
use super::functions::Functions;
use super::manifest;
use super::program::Program;
use super::{FrontOptions, ID, resolve_after};
use crate::languages::Translated;
use crate::languages::caches::Caches;
use crate::middle;

/// Compiles a source text up to the middle. Memory lies where the previous revision had it, as far as that is possible.
pub fn translate(request: &CompileRequest, caches: Option<&Caches<'_>>) -> Result<Translated, Vec<Diagnostic>> {
    let cache = caches.map(|caches| &caches.lang_8f4e);
    let previous = request.previous.as_deref().filter(|previous| previous.language == ID);
    // Whether a text is right must not depend on what ran before it: LANGUAGE §7 has the last word.
    match previous.map(|previous| translate_after(request, Some(previous), cache)) {
        Some(Ok(translated)) => Ok(translated),
        Some(Err(_)) | None => translate_after(request, None, cache),
    }
}

fn translate_after(
    request: &CompileRequest,
    previous: Option<&Manifest>,
    cache: Option<&BlockCache<'_>>,
) -> Result<Translated, Vec<Diagnostic>> {
    let options = FrontOptions { memory_regions: request.memory_regions.clone(), environment: request.environment.clone() };
    let program = resolve_after(&request.source, &options, previous, cache)?;
    let (functions, translated) = lower(&program).map_err(|errors| diagnostics(errors, &program))?;
    if !program.directive_errors.is_empty() {
        return Err(diagnostics(program.directive_errors.clone(), &program));
    }
    let image = image(&program);
    Ok(Translated { program: translated, manifest: manifest::describe(request, program, &functions), image })
}

fn lower(program: &Program) -> Result<(Functions, middle::program::Program), Vec<LanguageError>> {
    let functions = Functions::of(program)?;
    let bodies = analysis::analyse(program, &functions)?;
    let translated = translate::translate(program, &functions, &bodies)?;
    Ok((functions, translated))
}

fn diagnostics(errors: Vec<LanguageError>, program: &Program) -> Vec<Diagnostic> {
    errors.into_iter().take(MAX_DIAGNOSTICS).map(|error| error.into_diagnostic(&program.blocks)).collect()
}

fn image(program: &Program) -> Vec<DefaultBytes> {
    let segments = program.data.iter();
    segments.map(|data| DefaultBytes { memory: data.memory, address: data.address, bytes: data.bytes.clone() }).collect()
}
