//! `--midi-in` and `--midi-out`: names of ports and files, from a command line.

use std::path::Path;

use ipc::midi::Ports;
use runtime_host::device::midi::input::PORTS;
use runtime_host::device::midi::input::score::{self, Score};

use super::CommandError;

/// What MIDI comes from and goes to, where a command plays on a device.
#[derive(clap::Args)]
pub struct MidiArguments {
    /// What MIDI input ports listen to, the first one first: (part of) the name of another program's port, a MIDI file, or
    /// `loop` (`loop:2`) for what the session itself sends at its first (second) output port. Without it port 1 listens to
    /// all instruments.
    #[arg(long = "midi-in", value_name = "NAME")]
    inputs: Vec<String>,
    /// What MIDI output ports are connected to, the first one first: (part of) the name of another program's port.
    #[arg(long = "midi-out", value_name = "NAME")]
    outputs: Vec<String>,
}

impl MidiArguments {
    /// The ports, with files that can be read by another process.
    pub fn ports(&self) -> Result<Ports, CommandError> {
        self.ports_or(&Ports::default())
    }

    /// The same; where the command line names none, those of a session file.
    pub fn ports_or(&self, others: &Ports) -> Result<Ports, CommandError> {
        let inputs = if self.inputs.is_empty() { &others.inputs } else { &self.inputs };
        let outputs = if self.outputs.is_empty() { &others.outputs } else { &self.outputs };
        check_count(inputs, "input")?;
        check_count(outputs, "output")?;
        let inputs = inputs.iter().map(|name| if score::is_file(name) { checked_file(name) } else { Ok(name.clone()) });
        Ok(Ports { inputs: inputs.collect::<Result<_, _>>()?, outputs: outputs.clone() })
    }
}

/// MIDI files, one for each input port.
pub fn scores(names: &[String]) -> Result<Vec<Score>, CommandError> {
    check_count(names, "input")?;
    names.iter().map(|name| read(Path::new(name))).collect()
}

fn checked_file(name: &str) -> Result<String, CommandError> {
    read(Path::new(name))?;
    let path = std::path::absolute(name).map_err(|error| CommandError::Input(format!("{name}: {error}")))?;
    path.into_os_string().into_string().map_err(|path| CommandError::Input(format!("{} is no text", path.display())))
}

fn read(path: &Path) -> Result<Score, CommandError> {
    Score::read(path).map_err(|error| CommandError::Input(error.to_string()))
}

fn check_count(names: &[String], what: &str) -> Result<(), CommandError> {
    match names.len() {
        0..=PORTS => Ok(()),
        count => Err(CommandError::Input(format!("{count} MIDI {what}s are more than the {PORTS} ports there are"))),
    }
}
