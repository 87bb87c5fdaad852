//! `continuo run`: one program without a clock; shows or writes what its memory holds afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ipc::artifact::Artifact;
use ipc::manifest::Manifest;
use ipc::message::{ElementValues, ItemValue};
use serde_json::json;

use super::{CommandError, check_outputs, run_job, source};
use crate::policy::{Goal, Report, Verdict};
use crate::render::sentences::Sentences;
use crate::render::{self, json};
use crate::session::{Audience, Job, ProgramText, RunOrder};

/// Entry that is called when none is named.
const DEFAULT_ENTRY: &str = "main";
/// Elements of an array that are shown on one line; `--json` shows all.
const SHOWN_ELEMENTS: usize = 16;
/// Names that the compiler gives to items without one begin like this; they are not shown unless asked for.
const ANONYMOUS: &str = "__anonymous__";

/// Run a program without a clock and look at its memory.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo run lfo.8f4e --cycles 100                   all its values after 100 cycles
  continuo run lfo.8f4e --cycles 100 --dump lfo:out    one of them
  continuo run lfo.8f4e --cycles 0 --dump-memory m.bin the memory after initialisation
  continuo run osc.8f4e --entry buffer --cycles 375 --capture osc:out --out osc.raw

A program is initialised, then in each cycle its entry `main` (or what --entry names) is called once. Arithmetic is strictly \
IEEE; nothing depends on time. Items are named MODULE:ITEM, or ITEM alone where only one module has it; --set takes an element \
as MODULE:ITEM[3]. Without --dump, --dump-memory and --capture all scalar items are shown.")]
pub struct Arguments {
    /// The program.
    file: PathBuf,
    /// Entry or exported function to call.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ENTRY)]
    entry: String,
    /// Call every entry of the program in each cycle.
    #[arg(long, conflicts_with = "entry")]
    all_entries: bool,
    /// How often to call it; 0 is allowed.
    #[arg(long, value_name = "N", allow_negative_numbers = true, default_value_t = 1)]
    cycles: u64,
    /// Write a value into an item before the first cycle. Repeatable.
    #[arg(long, value_name = "ITEM=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Show this item at the end. Repeatable.
    #[arg(long, value_name = "ITEM")]
    dump: Vec<String>,
    /// Write the whole memory into this file at the end; memory each memory region goes into FILE.REGION.
    #[arg(long, value_name = "FILE")]
    dump_memory: Option<PathBuf>,
    /// Append this item's bytes to the file of --out after every cycle. Repeatable.
    #[arg(long, value_name = "ITEM", requires = "out")]
    capture: Vec<String>,
    /// File for what is captured.
    #[arg(long, value_name = "FILE", requires = "capture")]
    out: Option<PathBuf>,
    /// Names of the program's memory regions, in order.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    memory_regions: Vec<String>,
    /// Do not load binary assets.
    #[arg(long)]
    no_assets: bool,
    /// Print the items as one JSON object: under `items`, values by MODULE:ITEM.
    #[arg(long)]
    json: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((item, value)) if !item.is_empty() && !value.is_empty() => Ok((item.to_owned(), value.to_owned())),
        Some(_) | None => Err("it must look like MODULE:ITEM=VALUE".to_owned()),
    }
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let programs = source::read_all(std::slice::from_ref(&arguments.file))?;
    check_outputs(&outputs(arguments).iter().map(PathBuf::as_path).collect::<Vec<_>>(), std::slice::from_ref(&arguments.file))?;
    let captured = match &arguments.out {
        Some(path) => Some(create(path).map_err(CommandError::Input)?),
        None => None,
    };
    let mut job = Job::new(Goal::Run, programs);
    job.memory_regions.clone_from(&arguments.memory_regions);
    let mut runner = Runner { arguments, dumps: arguments.dump.clone(), captured, memories: BTreeMap::new(), failure: None };
    let verdict = run_job(&job, &mut runner)?;
    match runner.failure {
        Some(failure) => Err(CommandError::Input(failure)),
        None => Ok(verdict),
    }
}

/// Every file that the command may write.
fn outputs(arguments: &Arguments) -> Vec<PathBuf> {
    let mut outputs: Vec<PathBuf> = arguments.out.iter().chain(&arguments.dump_memory).cloned().collect();
    if let Some(path) = &arguments.dump_memory {
        outputs.extend(arguments.memory_regions.iter().map(|region| with_region(path, region)));
    }
    outputs
}

struct Runner<'a> {
    arguments: &'a Arguments,
    dumps: Vec<String>,
    captured: Option<File>,
    memories: BTreeMap<u32, File>,
    /// The first thing that could not be written.
    failure: Option<String>,
}

impl Audience for Runner<'_> {
    fn hear(&mut self, programs: &[ProgramText], report: Report) {
        match report {
            Report::Captured(bytes) => {
                let written = self.captured.as_mut().map_or(Ok(()), |file| file.write_all(&bytes));
                self.note(written, self.arguments.out.as_deref());
            }
            Report::Memory { memory, offset, bytes } => {
                let written = self.memories.get(&memory).map_or(Ok(()), |file| file.write_all_at(&bytes, offset));
                self.note(written, self.arguments.dump_memory.as_deref());
            }
            Report::RunDone { dumps } => show(&dumps, self.arguments.json),
            other => {
                let sentences = Sentences { programs, has_colour: render::has_colour(), session: None };
                if let Some(text) = sentences.of(&other) {
                    render::tell(&text);
                }
            }
        }
    }

    fn examine(&mut self, artifact: &Artifact) -> Result<(), String> {
        if let Some(path) = &self.arguments.dump_memory {
            for (index, memory) in (0u32..).zip(&artifact.manifest.memories) {
                let path = if index == 0 { path.clone() } else { with_region(path, &memory.name) };
                self.memories.insert(index, create(&path)?);
            }
        }
        let shows_nothing = self.dumps.is_empty() && self.arguments.dump_memory.is_none() && self.arguments.capture.is_empty();
        if shows_nothing {
            self.dumps = scalars(&artifact.manifest);
        }
        Ok(())
    }

    fn run_order(&mut self) -> RunOrder {
        RunOrder {
            exports: if self.arguments.all_entries { Vec::new() } else { vec![self.arguments.entry.clone()] },
            cycles: self.arguments.cycles,
            sets: self.arguments.set.clone(),
            dumps: self.dumps.clone(),
            captures: self.arguments.capture.clone(),
            dump_memory: self.arguments.dump_memory.is_some(),
            with_assets: !self.arguments.no_assets,
        }
    }
}

impl Runner<'_> {
    fn note(&mut self, written: std::io::Result<()>, path: Option<&Path>) {
        if let (Err(error), Some(path)) = (written, path) {
            self.failure.get_or_insert_with(|| format!("cannot write {}: {error}", path.display()));
        }
    }
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn with_region(path: &Path, region: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(region);
    name.into()
}

/// All scalar items with a name, each once.
fn scalars(manifest: &Manifest) -> Vec<String> {
    let mut names = Vec::new();
    for module in &manifest.modules {
        for item in module.items.iter().filter(|item| !item.is_array && !item.name.starts_with(ANONYMOUS)) {
            let name = format!("{}:{}", module.id, item.name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn show(dumps: &[ItemValue], as_json: bool) {
    if as_json {
        return render::print(&json!({ "items": json::items(dumps) }).to_string());
    }
    show_items(dumps.iter());
}

/// What items hold, one a line.
pub(super) fn show_items<'a>(items: impl Iterator<Item = &'a ItemValue>) {
    for dump in items {
        let elements: Vec<String> = match &dump.values {
            ElementValues::Int(values) => values.iter().map(ToString::to_string).collect(),
            ElementValues::Float(values) => values.iter().map(|value| format!("{value:?}")).collect(),
            ElementValues::Float64(values) => values.iter().map(|value| format!("{value:?}")).collect(),
        };
        let shown = elements.get(..SHOWN_ELEMENTS).unwrap_or(&elements).join(" ");
        let rest = elements.len().saturating_sub(SHOWN_ELEMENTS);
        let rest = if rest == 0 { String::new() } else { format!(" … and {rest} more") };
        render::print(&format!("{} = {shown}{rest}", dump.item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_needs_an_item_and_a_value() {
        assert_eq!(assignment("m:i=0x10"), Ok(("m:i".to_owned(), "0x10".to_owned())));
        for wrong in ["m:i", "=1", "m:i=", ""] {
            assert!(assignment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_region_has_a_file_of_its_own() {
        assert_eq!(with_region(Path::new("a/image.bin"), "fast"), Path::new("a/image.bin.fast"));
    }
}
