//! Compiling relative to a previous revision (DESIGN §4): what moves, what counts as changed, and that programs do the same.

#[path = "../support/mod.rs"]
mod support;

mod caches;
mod edits;
mod layout;
mod random_edits;

use ipc::artifact::Artifact;
use ipc::manifest::{Manifest, ModuleInfo};
use ipc::message::CompileRequest;

use support::request;

/// Compiles a text that is right, relative to what ran before.
fn compiled(source: &str, previous: Option<&Manifest>) -> Artifact {
    compile(source, previous).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

fn compile(source: &str, previous: Option<&Manifest>) -> Result<Artifact, compiler_worker::CompileError> {
    let request = CompileRequest { previous: previous.map(|manifest| Box::new(manifest.clone())), ..request(source) };
    compiler_worker::compile(&request)
}

fn module<'a>(manifest: &'a Manifest, id: &str) -> Option<&'a ModuleInfo> {
    manifest.modules.iter().find(|module| module.id == id)
}

fn address(manifest: &Manifest, id: &str) -> u32 {
    module(manifest, id).unwrap_or_else(|| panic!("there is no module {id}")).byte_address
}
