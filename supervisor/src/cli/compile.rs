//! `continuo compile`: one program to WebAssembly.

use std::fs;
use std::path::{Path, PathBuf};

use ipc::artifact::Artifact;

use super::{CommandError, check_outputs, run_job, source};
use crate::policy::{Goal, Report, Verdict};
use crate::render;
use crate::render::sentences::Sentences;
use crate::session::{Audience, Job, ProgramText};

/// Compile a program to WebAssembly.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo compile drums.8f4e -o drums.wasm
  continuo compile drums.8f4e -o drums.wasm --manifest drums.json

The manifest describes the memory (modules, items, addresses, types), the exports and imports, the settings and the source \
map of the program.")]
pub struct Arguments {
    /// The program.
    file: PathBuf,
    /// Where to write the WebAssembly module.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Where to write the manifest, as JSON.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Names of the program's memory regions, in order.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    memory_regions: Vec<String>,
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let programs = source::read_all(std::slice::from_ref(&arguments.file))?;
    let outputs: Vec<&Path> = [Some(&arguments.output), arguments.manifest.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
    check_outputs(&outputs, std::slice::from_ref(&arguments.file))?;
    let mut job = Job::new(Goal::Compile, programs);
    job.memory_regions.clone_from(&arguments.memory_regions);
    let mut audience = Writer { arguments };
    run_job(&job, &mut audience)
}

struct Writer<'a> {
    arguments: &'a Arguments,
}

impl Audience for Writer<'_> {
    fn hear(&mut self, programs: &[ProgramText], report: Report) {
        if let Some(text) = (Sentences { programs, has_colour: render::has_colour(), session: None }).of(&report) {
            render::tell(&text);
        }
    }

    fn examine(&mut self, artifact: &Artifact) -> Result<(), String> {
        write(&self.arguments.output, &artifact.wasm)?;
        if let Some(path) = &self.arguments.manifest {
            let manifest = serde_json::to_vec_pretty(&artifact.manifest).map_err(|error| error.to_string())?;
            write(path, &manifest)?;
        }
        Ok(())
    }
}

/// Writes a file whole or not at all: under another name first, which then takes its place.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // A device or a pipe (`-o /dev/stdout`) is written to; only a file can be replaced.
    let is_special = fs::metadata(path).is_ok_and(|found| !found.is_file());
    let written =
        if is_special { fs::write(path, bytes) } else { fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path)) };
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        format!("cannot write {}: {error}", path.display())
    })
}
