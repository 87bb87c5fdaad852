//! What a command wants of a session: its programs, and the details that the policy need not know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipc::message::Output;
use ipc::midi::Ports;
use ipc::tempo::Tempo;

use runtime_host::device::midi::input::score::Score;

use super::sent::Sending;
use crate::control::SessionName;
use crate::control::protocol::{Channels, WireEnd};
pub use crate::policy::ProgramText;
use crate::policy::log::{LogEntry, RevisionText};
pub use crate::policy::routes::Route;
use crate::policy::{Goal, RestartLimits, TapeFiles, TempoSetup};

/// Operations that one tick of an `audio` program may take before it counts as a runaway. A block has 2.7 ms; a program
/// that needs a hundredth of this budget is too slow to play. High enough never to hit one that merely starts up slowly.
pub const AUDIO_WORK_BUDGET: u64 = 1 << 24;

/// The same for programs that do not have to meet a device: some seconds of computing.
pub const TIMER_WORK_BUDGET: u64 = 1 << 30;

/// The same for `run`, which has no clock: some ten seconds of computing in one cycle, after which a program that never ends
/// is told its line.
pub const RUN_WORK_BUDGET: u64 = 1 << 34;

/// How sound leaves the session.
#[derive(Clone, Debug)]
pub struct SoundOutput {
    pub output: OutputChoice,
    pub lead_blocks: u32,
    /// What is recorded from the first block on.
    pub tape: TapeFiles,
    /// Folders that recordings may be begun in while the session plays.
    pub folders: Vec<PathBuf>,
}

/// Which output to open; the frames of an unpaced one follow from the session's sample rate.
#[derive(Clone, Debug)]
pub enum OutputChoice {
    Device(Output),
    Unpaced { seconds: f64 },
}

impl OutputChoice {
    /// The output for a session of this sample rate in hertz.
    pub fn at(&self, sample_rate: u32) -> Output {
        match self {
            Self::Device(output) => output.clone(),
            Self::Unpaced { seconds } => Output::Unpaced { frames: (seconds * f64::from(sample_rate)).round() as u64 },
        }
    }
}

/// What `run` wants of a program; see `ipc::message::RunJob`.
#[derive(Clone, Debug, Default)]
pub struct RunOrder {
    pub exports: Vec<String>,
    pub cycles: u64,
    pub sets: Vec<(String, String)>,
    pub dumps: Vec<String>,
    pub captures: Vec<String>,
    pub dump_memory: bool,
    pub with_assets: bool,
}

/// All a session needs to begin.
#[derive(Clone, Debug)]
pub struct Job {
    pub goal: Goal,
    pub programs: Vec<ProgramText>,
    pub memory_regions: Vec<String>,
    pub sound: Option<SoundOutput>,
    /// What MIDI comes from and goes to.
    pub midi: Ports,
    /// Who listens to whom from the start.
    pub routes: Vec<Route>,
    /// For sessions that clients talk to.
    pub live: Option<LiveSetup>,
    /// For replays: the log that drives the one program.
    pub replay: Option<Replay>,
    /// For sessions without a clock: what the one program hears over MIDI, from port 1 on.
    pub scores: Vec<Score>,
    /// Without a clock: how fast it goes, and whether it does.
    pub tempo: Tempo,
}

/// One life of a runtime, to be lived again.
#[derive(Clone, Debug)]
pub struct Replay {
    pub first: RevisionText,
    pub entries: Vec<LogEntry>,
    /// Of a life that listened.
    pub heard: Option<HeardSource>,
    /// Of a life that sent MIDI.
    pub sending: Option<Sending>,
}

/// Where it stands what a life heard.
#[derive(Clone, Debug)]
pub struct HeardSource {
    pub path: PathBuf,
    /// Of the file.
    pub id: String,
    /// Its number in the recording.
    pub life: usize,
}

/// What a session that clients talk to is set up with.
#[derive(Clone, Debug, Default)]
pub struct LiveSetup {
    /// Its name; `None`: the default one, or where that is taken one after the process id.
    pub session: Option<SessionName>,
    /// Sample rate in hertz; `None`: what the first program asks for.
    pub sample_rate: Option<u32>,
    /// Ask before any state is lost, not only for changes of class C.
    pub asks_for_any_loss: bool,
    /// Whether the programs' files are followed.
    pub follows_files: bool,
    pub presets: Vec<Preset>,
    /// Runtime type of programs that ask for none.
    pub default_runtime: Option<String>,
    /// How long what plays plays on when the supervisor has died, before it fades out.
    pub grace: Duration,
    /// How often processes may die before they are left alone.
    pub restart_limits: RestartLimits,
    /// Whether programs that ask for keys get those of the terminal.
    pub has_keyboard: bool,
    /// How fast it goes, and who follows whom.
    pub tempo: TempoSetup,
    /// Where to listen for OSC; nowhere unless asked.
    pub osc: Option<SocketAddr>,
    /// Control wires: which item follows which.
    pub wires: Vec<(WireEnd, WireEnd)>,
}

/// How a runtime is mixed from the start.
#[derive(Clone, Debug)]
pub struct Preset {
    pub runtime: String,
    pub gain: f64,
    pub is_muted: bool,
    /// Channels of the device.
    pub output: Channels,
}

impl Job {
    /// A job of this goal for these programs, with nothing else asked for.
    pub fn new(goal: Goal, programs: Vec<ProgramText>) -> Self {
        Self {
            goal,
            programs,
            memory_regions: Vec::new(),
            sound: None,
            midi: Ports::default(),
            routes: Vec::new(),
            live: None,
            replay: None,
            scores: Vec::new(),
            tempo: Tempo::default(),
        }
    }
}
