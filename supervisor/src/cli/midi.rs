//! `--midi-in`, `--midi-out`, `--tempo` and `--clock-out`: names of ports and files, and who follows whom, from a command line.

use std::path::Path;

use ipc::midi::Ports;
use ipc::tempo::TEMPO_RANGE_BPM;
use runtime_host::device::midi::input::score::{self, Score};
use runtime_host::device::midi::input::{PORTS, looped_port};

use super::CommandError;
use crate::policy::TempoSetup;

/// What MIDI comes from and goes to, where a command plays on a device.
#[derive(clap::Args)]
pub struct MidiArguments {
    /// What MIDI input ports listen to, the first one first: (part of) the name of an instrument's or another program's port,
    /// in JACK or, where no JACK server plays, in the ALSA sequencer (`jack_lsp -t`, `aconnect -l`); a MIDI file; or `loop`
    /// (`loop:2`) for what the session itself sends at its first (second) output port. Without it port 1 listens to all
    /// instruments.
    #[arg(long = "midi-in", value_name = "NAME")]
    inputs: Vec<String>,
    /// What MIDI output ports are connected to, the first one first: (part of) the name of an instrument's or another
    /// program's port, as above. Others may connect themselves to `continuo-midi`, ports `out_1` to `out_4`.
    #[arg(long = "midi-out", value_name = "NAME")]
    outputs: Vec<String>,
    /// How fast the session goes: beats a minute, or `midi` for as fast as the MIDI clock that comes in; 120 without it.
    #[arg(long, value_name = "BPM", value_parser = TempoChoice::parse)]
    tempo: Option<TempoChoice>,
    /// Send MIDI clock at all output ports.
    #[arg(long)]
    clock_out: bool,
}

/// How fast a session goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TempoChoice {
    Beats(f64),
    /// As fast as the MIDI clock that comes in.
    Midi,
}

impl TempoChoice {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "midi" => Ok(Self::Midi),
            _ => beats(text).map(Self::Beats).map_err(|why| format!("{why}, or `midi`")),
        }
    }

    /// What a session is set up with.
    pub fn setup(choice: Option<Self>, sends_clock: bool) -> TempoSetup {
        let usual = TempoSetup { sends_clock, ..TempoSetup::default() };
        match choice {
            None => usual,
            Some(Self::Beats(bpm)) => TempoSetup { bpm, ..usual },
            Some(Self::Midi) => TempoSetup { follows_clock: true, ..usual },
        }
    }
}

impl MidiArguments {
    /// How fast the session goes; what the command line does not say, a session file may.
    pub fn tempo_or(&self, other: Option<TempoChoice>, sends_clock: bool) -> TempoSetup {
        TempoChoice::setup(self.tempo.or(other), self.clock_out || sends_clock)
    }

    /// The ports, with files that can be read by another process; where the command line names none, those of a session file.
    pub fn ports_or(&self, others: &Ports, tempo: &TempoSetup) -> Result<Ports, CommandError> {
        let inputs = if self.inputs.is_empty() { &others.inputs } else { &self.inputs };
        let outputs = if self.outputs.is_empty() { &others.outputs } else { &self.outputs };
        check_count(inputs, "input")?;
        check_count(outputs, "output")?;
        inputs.iter().try_for_each(|name| check_loop(name)).map_err(|why| CommandError::Input(format!("--midi-in: {why}")))?;
        let inputs = inputs.iter().map(|name| if score::is_file(name) { checked_file(name) } else { Ok(name.clone()) });
        Ok(Ports { inputs: inputs.collect::<Result<_, _>>()?, outputs: outputs.clone(), follows_clock: tempo.follows_clock })
    }
}

/// Whether a name that says `loop` names an output port of the session.
pub fn check_loop(name: &str) -> Result<(), String> {
    if name.starts_with("loop:") && looped_port(name).is_none() {
        return Err(format!("`{name}`: a session has the output ports loop:1 to loop:{PORTS}"));
    }
    Ok(())
}

/// Beats a minute, where there is no clock to follow.
pub fn beats(text: &str) -> Result<f64, String> {
    let (least, most) = (TEMPO_RANGE_BPM.start(), TEMPO_RANGE_BPM.end());
    let bpm = text.parse().ok().filter(|bpm| TEMPO_RANGE_BPM.contains(bpm));
    bpm.ok_or_else(|| format!("it must be {least} to {most} beats a minute"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_the_session_does_not_have_is_no_name_of_another_program() {
        for right in ["loop", "loop:1", "loop:4", "looper", "Loopstation"] {
            assert_eq!(check_loop(right), Ok(()));
        }
        for wrong in ["loop:9", "loop:0", "loop:", "loop:x"] {
            assert!(check_loop(wrong).is_err_and(|why| why.contains("loop:4")), "{wrong}");
        }
    }

    #[test]
    fn a_tempo_is_beats_a_minute_or_that_of_a_clock() {
        assert_eq!(TempoChoice::parse("174.5"), Ok(TempoChoice::Beats(174.5)));
        assert_eq!(TempoChoice::parse("midi"), Ok(TempoChoice::Midi));
        for wrong in ["", "9", "1000", "nan", "inf", "-120", "fast"] {
            assert!(TempoChoice::parse(wrong).is_err(), "{wrong}");
        }
    }
}
