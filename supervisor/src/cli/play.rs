//! `continuo play`: programs on a sound device, each in a host of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc::limits::{DEFAULT_LEAD_BLOCKS, DEFAULT_SAMPLE_RATE_HZ, MAX_LEAD_BLOCKS};
use ipc::message::Output;
use ipc::midi::Ports;
use serde_json::json;

use super::midi::MidiArguments;
use super::{CommandError, check_output, grace, osc_address, restart_limits, routes, run_job, seconds, source};
use crate::control::SessionName;
use crate::exit;
use crate::policy::routes::Route;
use crate::policy::{Goal, Report, RestartLimits, TapeFiles, Verdict};
use crate::render::meter::{Meter, clock};
use crate::render::sentences::Sentences;
use crate::render::{self, json};
use crate::session::{Audience, Job, LiveSetup, OutputChoice, ProgramText, SoundOutput};

/// The session that commands talk to when they name none.
const DEFAULT_SESSION: &str = "default";

/// Play programs until Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  continuo play drums.8f4e
  continuo play drums.8f4e bass.8f4e pad.8f4e      several programs, mixed
  continuo play drums.8f4e --wav take.wav          recorded as it is played
  continuo play drums.8f4e bass.8f4e --stems DIR   each program for itself: DIR/drums.wav, DIR/bass.wav
  continuo play drums.8f4e --device null --wav take.wav --seconds 30
  continuo play drums.8f4e reverb.8f4e --route drums:reverb     the reverb hears the drums, one block later
  continuo play synth.8f4e --midi-in keystation    its MIDI input port 1 hears that keyboard, whenever it is there

Save a file and hear it: every change is compiled beside what plays, and takes its place between two blocks with its state. An \
edit that is wrong changes nothing; one that would change the identity of the program waits for `continuo confirm`.

Every program runs in a process of its own; one that fails does not touch the others. Without a device the programs play on \
in real time, unheard but recorded, until one appears. Ctrl-C fades out and ends everything; a second one ends at once. \
With --json every event is one JSON object a line: processStarted, log, compiled, runtimeStarted, deviceOpened, sounding, \
runtimeStatus, meter, fault, editPending, editCommitted, editUnchanged, editRejected, editNeedsAck, editRefused, editRolledBack, listening, takenBack, keyboard, osc, failed, died, processFailed, moved, midiPortFound, midiPortLost, midiUnavailable, midiClockFound, midiClockLost, recordingFailed, tapeStarted, tapeStopped, stopping, runtimeStopped, deviceStopped, \
lagged (so many lines were left out, because they were read too slowly), ended.")]
pub struct Arguments {
    /// The programs.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Record what the device is given into this file (32-bit float WAV).
    #[arg(long, value_name = "FILE")]
    wav: Option<PathBuf>,
    /// Record what each program adds to that, its level included, into a file `PROGRAM.wav` in this folder.
    #[arg(long, value_name = "FOLDER")]
    stems: Option<PathBuf>,
    /// A folder that `continuo tape` may record into; without it, the one this is started in.
    #[arg(long, value_name = "FOLDER")]
    tapes: Option<PathBuf>,
    /// End after so many seconds, counted from the first sound.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = seconds)]
    seconds: Option<f64>,
    /// Output: `jack`, `pulseaudio`, `alsa`, (part of) a name that `continuo devices` lists, or `null` for none.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[command(flatten)]
    midi: MidiArguments,
    /// Let one program hear another one, or `@input`, the device's input; with `:only`, what is heard there is not heard directly.
    #[arg(long = "route", value_name = "FROM:TO[:only]", value_parser = routes::parse)]
    routes: Vec<Route>,
    /// How many blocks of 128 frames the programs compute ahead.
    #[arg(long, value_name = "BLOCKS", allow_negative_numbers = true, default_value_t = DEFAULT_LEAD_BLOCKS,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LEAD_BLOCKS)))]
    lead: u32,
    /// Name under which the other commands find this session; without it `default`, or where that is taken `play-PID`.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// How many seconds the programs play on when this process dies; `continuo up` can take them back in that time.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = grace)]
    grace: Duration,
    /// How many deaths a runtime, and the session, may have within how many seconds before they are left alone; 5,25,10
    /// without it. At most 1000 deaths each, and 1 to 3600 seconds.
    #[arg(long, value_name = "RUNTIME,SESSION,SECONDS", value_parser = restart_limits::parse)]
    restarts: Option<RestartLimits>,
    /// Do not follow the files: saving them changes nothing.
    #[arg(long)]
    no_watch: bool,
    /// Listen for OSC at this port of this machine, or at this address and port; anybody who reaches it may play.
    #[arg(long, value_name = "ADDRESS", value_parser = osc_address)]
    osc: Option<SocketAddr>,
    /// Print events as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn execute(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let outcome = play(arguments);
    if arguments.json {
        let verdict = outcome.as_ref().map_or_else(CommandError::verdict, |verdict| *verdict);
        render::print(&json!({ "event": "ended", "exitCode": exit::code(verdict) }).to_string());
    }
    outcome
}

fn play(arguments: &Arguments) -> Result<Verdict, CommandError> {
    let programs = source::read_all(&arguments.files)?;
    if let Some(wav) = &arguments.wav {
        check_output(wav, &arguments.files)?;
    }
    let mut job = Job::new(Goal::Play { seconds: arguments.seconds }, programs);
    let tempo = arguments.midi.tempo_or(None, false);
    job.live = Some(LiveSetup {
        session: session_name(arguments.session.as_deref())?,
        follows_files: !arguments.no_watch,
        grace: arguments.grace,
        restart_limits: arguments.restarts.unwrap_or_default(),
        has_keyboard: true,
        osc: arguments.osc,
        tempo,
        ..LiveSetup::default()
    });
    job.sound = Some(SoundOutput {
        output: OutputChoice::Device(arguments.device.clone().map_or(Output::Default, Output::Named)),
        lead_blocks: arguments.lead,
        tape: TapeFiles { master: absolute(arguments.wav.as_ref())?, stems: absolute(arguments.stems.as_ref())? },
        folders: recording_folders(arguments.tapes.as_deref())?,
    });
    job.midi = arguments.midi.ports_or(&Ports::default(), &tempo)?;
    routes::check(&arguments.routes, &job.programs)?;
    job.routes.clone_from(&arguments.routes);
    let mut player = Player::new(arguments.json, arguments.wav.clone());
    let verdict = run_job(&job, &mut player)?;
    player.finish();
    Ok(verdict)
}

/// A session's name from the command line.
pub fn session_name(name: Option<&str>) -> Result<Option<SessionName>, CommandError> {
    name.map(|name| SessionName::new(name).map_err(|error| CommandError::Input(error.to_string()))).transpose()
}

/// Another process writes the file, so its name must not depend on the folder we are in.
pub fn absolute(path: Option<&PathBuf>) -> Result<Option<PathBuf>, CommandError> {
    path.map(|path| std::path::absolute(path).map_err(|error| CommandError::Input(format!("{}: {error}", path.display())))).transpose()
}

/// Folders that recordings may be begun in while the session plays: what nobody has been told, the device host may not write to.
pub fn recording_folders(chosen: Option<&Path>) -> Result<Vec<PathBuf>, CommandError> {
    if let Some(folder) = chosen.filter(|folder| !folder.is_dir()) {
        return Err(CommandError::Input(format!("{} is not a folder", folder.display())));
    }
    let here = chosen.map_or_else(std::env::current_dir, std::path::absolute);
    // A service is started in the root, and does not mean all of the machine.
    Ok(here.into_iter().filter(|folder| folder.parent().is_some()).collect())
}

/// Shows a playing session on the terminal, or as events.
pub struct Player {
    is_json: bool,
    /// The session's name, where other commands have to give it.
    session: Option<String>,
    recording: Option<PathBuf>,
    meter: Meter,
    sample_rate: u32,
    frames: u64,
}

impl Player {
    /// From now on nobody is waited for who reads what is said: the session must not.
    pub fn new(is_json: bool, recording: Option<PathBuf>) -> Self {
        render::speak_without_waiting(is_json);
        Self { is_json, session: None, recording, meter: Meter::default(), sample_rate: DEFAULT_SAMPLE_RATE_HZ, frames: 0 }
    }

    /// Says how it was.
    pub fn finish(&self) {
        render::show(None);
        if self.frames > 0 {
            let recorded = self.recording.as_ref().map(|wav| format!(", recorded into {}", wav.display())).unwrap_or_default();
            let bad = match self.meter.non_finite() {
                0 => String::new(),
                count => format!(", {count} samples that were not finite"),
            };
            let (time, underruns) = (clock(self.frames, self.sample_rate), self.meter.underruns());
            render::tell(&format!("played {time}, {underruns} underruns{bad}{recorded}"));
        }
    }

    fn show_meter(&self) {
        if !self.is_json {
            render::show(Some(self.meter.line(self.sample_rate)));
        }
    }
}

impl Audience for Player {
    fn listens(&mut self, session: &str) {
        self.session = (session != DEFAULT_SESSION).then(|| session.to_owned());
        if self.is_json {
            render::print(&json!({ "event": "listening", "session": session }).to_string());
        } else if session != DEFAULT_SESSION {
            render::tell(&format!("this session is called {session}: other commands find it with --session {session}"));
        }
    }

    fn listens_to_osc(&mut self, address: SocketAddr) {
        if self.is_json {
            render::print(&json!({ "event": "osc", "address": address.to_string() }).to_string());
        } else {
            render::tell(&format!("listening for OSC on {address}"));
        }
    }

    fn plays_keys(&mut self) {
        if self.is_json {
            render::print(&json!({ "event": "keyboard" }).to_string());
        } else {
            render::tell("the keys of this terminal go to the programs; Ctrl-C ends");
        }
    }

    fn takes_back(&mut self, session: &str, runtimes: &[String]) {
        if self.is_json {
            render::print(&json!({ "event": "takenBack", "session": session, "runtimes": runtimes }).to_string());
        }
        let (count, names) = (runtimes.len(), runtimes.join(", "));
        render::tell(&match count {
            0 => format!("taking session {session} back: no runtime was left"),
            1 => format!("taking back 1 runtime: {names}"),
            _ => format!("taking back {count} runtimes: {names}"),
        });
    }

    fn hear(&mut self, programs: &[ProgramText], report: Report) {
        if self.is_json
            && let Some(event) = json::event(programs, &report)
        {
            render::print(&event.to_string());
        }
        let sentences = Sentences { programs, has_colour: render::has_colour(), session: self.session.as_deref() };
        if let Some(text) = sentences.of(&report) {
            render::tell(&text);
        }
        match &report {
            Report::DeviceOpened { sample_rate, .. } => self.sample_rate = *sample_rate,
            Report::DeviceStatus(status) => {
                self.frames = status.frames;
                self.meter.take_device(status);
                self.show_meter();
            }
            Report::HostStatus { runtime, status } => {
                if let Some(program) = programs.get(runtime.0) {
                    self.meter.take_host(&program.name, status);
                }
            }
            Report::DeviceStopped { frames } => self.frames = *frames,
            Report::Stopping => render::show(None),
            // Everything else is a sentence or an event, if anything.
            _ => {}
        }
    }
}
