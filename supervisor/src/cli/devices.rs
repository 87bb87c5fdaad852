//! `continuo devices`: the outputs this machine has.

use ipc::message::DeviceDescription;
use serde_json::json;

use super::{CommandError, run_job};
use crate::policy::{Goal, Report, Verdict};
use crate::render::sentences::Sentences;
use crate::render::{self, json};
use crate::session::{Audience, Job, ProgramText};

/// List the outputs this machine has.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo devices
  continuo play drums.8f4e --device jack

A mark before a name says: * used by default, - cannot be opened (and why).")]
pub struct Arguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let (verdict, devices) = list()?;
    if arguments.json {
        render::print(&json!({ "devices": devices.iter().map(json::device).collect::<Vec<_>>() }).to_string());
    } else {
        devices.iter().for_each(|device| render::print(&line(device)));
    }
    Ok(verdict)
}

/// Asks a device host for the outputs of this machine.
pub fn list() -> Result<(Verdict, Vec<DeviceDescription>), CommandError> {
    let mut listener = Listener { devices: Vec::new() };
    let verdict = run_job(&Job::new(Goal::ListDevices, Vec::new()), &mut listener)?;
    Ok((verdict, listener.devices))
}

struct Listener {
    devices: Vec<DeviceDescription>,
}

impl Audience for Listener {
    fn hear(&mut self, _: &[ProgramText], report: Report) {
        match report {
            Report::Devices(devices) => self.devices = devices,
            other => {
                if let Some(text) = (Sentences { programs: &[], has_colour: render::has_colour(), session: None }).of(&other) {
                    render::tell(&text);
                }
            }
        }
    }
}

fn line(device: &DeviceDescription) -> String {
    let mark = match (device.is_usable, device.is_default) {
        (false, _) => '-',
        (true, true) => '*',
        (true, false) => ' ',
    };
    format!("{mark} {}:{}  ({})", device.host, device.name, device.detail)
}
