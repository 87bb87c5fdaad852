//! The 8f4e language (LANGUAGE.md).
//!
//! The front half turns text into a resolved [`program::Program`]: [`project`] splits the file into blocks, [`lexer`],
//! [`arguments`] and [`syntax`] read their lines, [`includes`] adds library functions, [`constants`], [`layout`],
//! [`references`] and [`defaults`] replace every compile-time form by its value, [`bodies`] puts the result together. The
//! [`library`] has gone this way before. The
//! back half checks what is on the operand stack and translates into the middle representation. Errors of both are in
//! [`error`]. Pure computation on any thread: no input, no output, no clock.

pub mod analysis;
pub mod argument_shapes;
pub mod arguments;
pub mod back;
pub mod block_cache;
pub mod blocks;
pub mod bodies;
pub mod constants;
pub mod defaults;
pub mod directives;
pub mod error;
pub mod fingerprints;
pub mod functions;
pub mod hashes;
pub mod includes;
pub mod instruction;
pub mod layout;
pub mod lexer;
pub mod library;
pub mod manifest;
pub mod parsed;
pub mod power;
pub mod program;
pub mod project;
pub mod references;
pub mod relative_layout;
pub mod structure;
pub mod syntax;

use ipc::diagnostic::Diagnostic;
use ipc::manifest::Manifest;

use block_cache::BlockCache;
use blocks::{Blocks, Outline};
use error::LanguageError;
use program::Program;
use project::Project;

/// The language and its version: the header line of its texts.
pub const ID: &str = "8f4e/v1";

/// What a program is compiled with, besides its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrontOptions {
    /// Names of memories 1 … N.
    pub memory_regions: Vec<String>,
    /// Values that replace, or add, names of the `constants env` block. A program without one gets one.
    pub environment: Vec<(String, f64)>,
}

/// Resolves a program that nothing runs of yet. See [`resolve_after`].
pub fn resolve(source: &[u8], options: &FrontOptions) -> Result<Program, Vec<Diagnostic>> {
    resolve_after(source, options, None, None)
}

/// Resolves a program: everything up to the point where the operand stack matters. The language's first error comes first;
/// further errors of the same stage follow where they are independent of it. Memory is laid out relative to `previous`; an
/// error may be due to that, and then there is none without it. Blocks that `cache` knows are not read again.
pub fn resolve_after(
    source: &[u8],
    options: &FrontOptions,
    previous: Option<&Manifest>,
    cache: Option<&BlockCache<'_>>,
) -> Result<Program, Vec<Diagnostic>> {
    let project = project::parse(source).map_err(|error| diagnostics(vec![error], &Outline::default()))?;
    let outline = Outline::new(&project).map_err(|error| diagnostics(vec![error], &Outline::default()))?;
    match resolve_blocks(&project, &outline, options, previous, cache) {
        Ok(mut program) => {
            program.config = outline.config;
            program.blocks = outline.infos;
            program.directive_errors = outline.directive_errors;
            Ok(program)
        }
        Err(errors) => Err(diagnostics(errors, &outline)),
    }
}

/// The passes of LANGUAGE §1 up to the defaults, one after the other.
fn resolve_blocks<'a, 't: 'a>(
    project: &Project<'a>,
    outline: &Outline<'a>,
    options: &'a FrontOptions,
    previous: Option<&Manifest>,
    cache: Option<&BlockCache<'t>>,
) -> Result<Program, Vec<LanguageError>> {
    resolve_read(blocks::read(project, outline, cache)?, options, previous)
}

/// The same from the point where all blocks have been read.
fn resolve_read<'a>(mut blocks: Blocks<'a>, options: &'a FrontOptions, previous: Option<&Manifest>) -> Result<Program, Vec<LanguageError>> {
    layout::check_ids(&blocks)?;
    let environment = constants::resolve(&mut blocks, &options.environment)?;
    let mut layout = layout::plan(&blocks, &options.memory_regions)?;
    if let Some(previous) = previous {
        relative_layout::apply(&mut layout, previous);
    }
    let defaults = defaults::resolve(&layout)?;
    let data = defaults::segments(&layout, &defaults);
    defaults::reserve(&mut layout.memories, &data);
    let mut program = Program {
        entries: blocks.entries.iter().map(|name| (*name).to_owned()).collect(),
        memories: layout.memories.clone(),
        data,
        environment,
        ..Program::default()
    };
    bodies::build(&mut program, &blocks, &layout, &defaults);
    Ok(program)
}

fn diagnostics(errors: Vec<LanguageError>, outline: &Outline<'_>) -> Vec<Diagnostic> {
    errors.into_iter().map(|error| error.into_diagnostic(&outline.infos)).collect()
}
