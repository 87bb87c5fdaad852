//! `continuo check`: diagnostics of one program.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CommandError, run_job, source};
use crate::policy::{Failure, Goal, Report, Verdict};
use crate::render::sentences::{Sentences, failure_text};
use crate::render::{self, json};
use crate::session::{Audience, Job, ProgramText};

/// Look for mistakes in a program.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo check drums.8f4e
  continuo check drums.8f4e --json | jq '.diagnostics[0].line'

The JSON object has two keys: `file`, and `diagnostics`, a list with the first error first. Each has `stage` (project, \
syntax or compiler), `code` within that stage, `line` and `column` in the file (from 1), `length` in characters, \
`lineInBlock` (the block's opener is 0), `block` (`kind` and `id`), `instruction`, `message`, `hint`, and `include` (the \
library file it is in). What does not apply is null. Where the check itself failed there is a third key, `error`.")]
pub struct Arguments {
    /// The program.
    file: PathBuf,
    /// Print the diagnostics as one JSON object.
    #[arg(long)]
    json: bool,
    /// Names of the program's memory regions, in order.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    memory_regions: Vec<String>,
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let programs = match source::read_all(std::slice::from_ref(&arguments.file)) {
        Ok(programs) => programs,
        Err(error) => {
            if arguments.json {
                render::print(&report(arguments, Vec::new(), Some(error.to_string())).to_string());
            }
            return Err(error.into());
        }
    };
    let mut job = Job::new(Goal::Check, programs);
    job.memory_regions.clone_from(&arguments.memory_regions);
    let mut audience = Checker { arguments };
    run_job(&job, &mut audience)
}

struct Checker<'a> {
    arguments: &'a Arguments,
}

impl Audience for Checker<'_> {
    fn hear(&mut self, programs: &[ProgramText], told: Report) {
        match &told {
            Report::Failed { failure, .. } if self.arguments.json => {
                let (diagnostics, error) = match failure {
                    Failure::Rejected(diagnostics) => (diagnostics.iter().map(json::diagnostic).collect(), None),
                    other => (Vec::new(), Some(failure_text(other))),
                };
                render::print(&report(self.arguments, diagnostics, error).to_string());
            }
            Report::Checked { .. } if self.arguments.json => render::print(&report(self.arguments, Vec::new(), None).to_string()),
            Report::Checked { .. } => render::print(&format!("{}: no mistakes found", self.arguments.file.display())),
            other => {
                let sentences = Sentences { programs, has_colour: render::has_colour(), session: None };
                if let Some(text) = sentences.of(other) {
                    render::tell(&text);
                }
            }
        }
    }
}

fn report(arguments: &Arguments, diagnostics: Vec<Value>, error: Option<String>) -> Value {
    let mut report = json!({ "file": arguments.file.display().to_string(), "diagnostics": diagnostics });
    if let Some(error) = error {
        report["error"] = json!(error);
    }
    report
}
