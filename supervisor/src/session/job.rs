//! What a command wants of a session: its programs, and the details that the policy need not know.

use std::path::PathBuf;
use std::sync::Arc;

use ipc::message::Output;

use crate::policy::Goal;

/// Operations that one tick of an `audio` program may take before it counts as a runaway. A block has 2.7 ms; a program
/// that needs a hundredth of this budget is too slow to play. High enough never to hit one that merely starts up slowly.
pub const AUDIO_WORK_BUDGET: u64 = 1 << 24;

/// The same for programs that do not have to meet a device: some seconds of computing.
pub const TIMER_WORK_BUDGET: u64 = 1 << 30;

/// The same for `run`, which has no clock and a user who can press Ctrl-C: minutes of computing in one cycle.
pub const RUN_WORK_BUDGET: u64 = 1 << 38;

/// A program as it was read from its file.
#[derive(Clone, Debug)]
pub struct ProgramText {
    /// Name of the runtime that runs it: the file's name without its ending, made unique.
    pub name: String,
    /// The file as the user named it.
    pub path: PathBuf,
    pub source: Arc<str>,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
}

/// How sound leaves the session.
#[derive(Clone, Debug)]
pub struct SoundOutput {
    pub output: OutputChoice,
    pub lead_blocks: u32,
    pub recording: Option<PathBuf>,
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
}

impl Job {
    /// A job of this goal for these programs, with nothing else asked for.
    pub fn new(goal: Goal, programs: Vec<ProgramText>) -> Self {
        Self { goal, programs, memory_regions: Vec::new(), sound: None }
    }
}
