//! `continuo up`: a session that waits for what clients push, with the runtimes of a session file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipc::message::Output;

use super::midi::MidiArguments;
use super::play::{Player, absolute, recording_folders, session_name};
use super::session_file::{self, Acknowledge, SessionFile};
use super::{CommandError, grace, osc_address, restart_limits, run_job};
use crate::policy::{Goal, RestartLimits, TapeFiles, Verdict};
use crate::session::{Job, LiveSetup, OutputChoice, Preset, ProgramText, SoundOutput, read_text};

/// Run a session until it is told to end.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo up                         an empty session; `continuo push NAME FILE` gives it something to play
  continuo up SESSION.toml            with the runtimes that the file names, which are followed

The file:
  name = \"gig\"                       how other commands find it with --session
  sample_rate = 48000
  lead = 4                            blocks of 128 frames that programs compute ahead
  device = \"jack\"
  default_runtime = \"audio\"           for programs that ask for no runtime type
  acknowledge = \"class-c\"             or \"any-loss\": ask before any state is lost
  recording = \"take.wav\"            what the device is given, from the start on
  stems = \"stems\"                   a folder for what each runtime adds to it, one file each
  tapes = \"takes\"                   where `continuo tape` may record; else the folder this is started in
  osc = 9000                          listen for OSC at this port, or at an address such as \"0.0.0.0:9000\"
  grace = 30                          seconds that everything plays on without its supervisor
  [restarts]                          deaths after which processes are left alone:
  runtime = 5                         of one runtime, at most 1000
  session = 25                        of all together, at most 1000
  seconds = 10                        within this time, 1 to 3600
  [[runtime]]
  name = \"drums\"
  file = \"drums.8f4e\"
  gain = 0.8
  mute = false
  output = \"1-2\"                      channels of the device, such as \"3-4\" or \"3\"
  [wires]                             items that follow items of other runtimes, as `continuo wire` has it
  \"visual.energy\" = \"drums.env:out\"

When a session's supervisor dies, everything plays on for the grace period; `continuo up` with the session's name (or its file), \
within that time, takes it back as it is, and what the file says by then is not looked at. So it does with a session of \
`continuo play`. Nobody comes: everything fades out and ends.

Started by systemd with Type=notify, it tells when it is ready, and that it is alive.")]
pub struct Arguments {
    /// The session file.
    file: Option<PathBuf>,
    /// The session's name, in place of the file's.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Output, in place of the file's.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// A folder that `continuo tape` may record into, in place of the file's.
    #[arg(long, value_name = "FOLDER")]
    tapes: Option<PathBuf>,
    /// How many seconds everything plays on when this process dies, in place of the file's.
    #[arg(long, value_name = "SECONDS", value_parser = grace)]
    grace: Option<Duration>,
    /// How many deaths a runtime, and the session, may have within how many seconds before they are left alone, in place of
    /// the file's. At most 1000 deaths each, and 1 to 3600 seconds.
    #[arg(long, value_name = "RUNTIME,SESSION,SECONDS", value_parser = restart_limits::parse)]
    restarts: Option<RestartLimits>,
    #[command(flatten)]
    midi: MidiArguments,
    /// Listen for OSC at this port of this machine, or at this address and port, in place of the file's; anybody who reaches it may
    /// play.
    #[arg(long, value_name = "ADDRESS", value_parser = osc_address)]
    osc: Option<SocketAddr>,
    /// Print events as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let file = match &arguments.file {
        Some(path) => session_file::parse(path, &read_text(path)?).map_err(|error| CommandError::Input(error.to_string()))?,
        None => SessionFile::default(),
    };
    let mut job = Job::new(Goal::Serve, programs(&file)?);
    let chosen = session_name(arguments.session.as_deref())?.or(file.name);
    let preset = |runtime: &session_file::FileRuntime| {
        let session_file::FileRuntime { name, gain, is_muted, output, .. } = runtime;
        Preset { runtime: name.clone(), gain: *gain, is_muted: *is_muted, output: *output }
    };
    let presets = file.runtimes.iter().map(preset);
    job.live = Some(LiveSetup {
        // Unlike `play`, it is nothing without its name.
        session: Some(chosen.unwrap_or_default()),
        sample_rate: file.sample_rate,
        asks_for_any_loss: file.acknowledge == Acknowledge::AnyLoss,
        follows_files: true,
        presets: presets.collect(),
        default_runtime: file.default_runtime,
        grace: arguments.grace.unwrap_or(file.grace),
        restart_limits: arguments.restarts.unwrap_or(file.restart_limits),
        // Whoever runs it is not at the keyboard: it has none, or belongs to a service manager.
        has_keyboard: false,
        osc: arguments.osc.or(file.osc),
        wires: file.wires,
    });
    let device = arguments.device.clone().or(file.device);
    job.sound = Some(SoundOutput {
        output: OutputChoice::Device(device.map_or(Output::Default, Output::Named)),
        lead_blocks: file.lead,
        tape: TapeFiles { master: absolute(file.recording.as_ref())?, stems: absolute(file.stems.as_ref())? },
        folders: recording_folders(arguments.tapes.as_deref().or(file.tapes.as_deref()))?,
    });
    job.midi = arguments.midi.ports()?;
    let mut player = Player::new(arguments.json, file.recording);
    let verdict = run_job(&job, &mut player)?;
    player.finish();
    Ok(verdict)
}

fn programs(file: &SessionFile) -> Result<Vec<ProgramText>, CommandError> {
    let read = |runtime: &session_file::FileRuntime| {
        let path = std::path::absolute(&runtime.file).unwrap_or_else(|_| runtime.file.clone());
        Ok(ProgramText {
            name: runtime.name.clone(),
            source: read_text(&path)?.into(),
            base_directory: path.parent().map(PathBuf::from).unwrap_or_default(),
            path: runtime.file.clone(),
        })
    };
    file.runtimes.iter().map(read).collect()
}
