//! Every message between the supervisor and the processes it starts. Payloads of [`crate::channel`], encoded by
//! [`crate::codec`]. Requests carry an id where an answer belongs to exactly one of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;
use crate::fault::Fault;
use crate::hash::ContentHash;
use crate::live::{LiveReply, LiveRequest};
use crate::manifest::Manifest;
use crate::midi::{Arrived, MidiCounters, PortChange, Ports, Received};
use crate::recovery::{Prepare, Presence, TakeOver, TookOver};
use crate::segment::SegmentRef;
use crate::tempo::Tempo;
use crate::wires::{Taken, Wiring};

/// What a process of the one binary does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    CompilerWorker,
    DeviceHost,
    RuntimeHost,
}

impl Role {
    pub const ALL: [Role; 3] = [Self::CompilerWorker, Self::DeviceHost, Self::RuntimeHost];

    /// The role's name on the command line and in messages to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::CompilerWorker => "compiler-worker",
            Self::DeviceHost => "device-host",
            Self::RuntimeHost => "runtime-host",
        }
    }
}

// ---------------------------------------------------------------------------------------------- compiler-worker

/// Supervisor to compiler-worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WorkerRequest {
    Compile(CompileRequest),
    /// Every party has its copy of this artifact: remove the segment.
    Release {
        segment: String,
    },
}

/// Compile one source text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompileRequest {
    pub id: u64,
    pub source: Vec<u8>,
    pub goal: CompileGoal,
    /// Names of memories 1 … N.
    pub memory_regions: Vec<String>,
    /// Values that replace (or add) names of the program's `constants env` block. Empty: the block stands as written.
    pub environment: Vec<(String, f64)>,
    /// Manifest of the revision that runs now: memory is laid out so that as little as possible moves.
    pub previous: Option<Box<Manifest>>,
    /// Work budget of one call of an export, in middle-representation operations; 0 means none.
    pub work_budget: u64,
    /// Generation that the artifact's segment carries.
    pub generation: u64,
}

/// How far to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompileGoal {
    /// Diagnostics only.
    Check,
    /// Up to wasm; the artifact has no native code.
    Wasm,
    /// Everything a host needs.
    Native,
}

/// Compiler-worker to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WorkerReply {
    Compiled { id: u64, outcome: CompileOutcome, timings: CompileTimings },
}

/// What came of a compile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CompileOutcome {
    /// The goal was `Check` and there is nothing wrong.
    Checked,
    /// The artifact is in this segment until it is released.
    Artifact(SegmentRef),
    /// The program is wrong; at least one diagnostic, the first error first.
    Rejected(Vec<Diagnostic>),
    /// The program may be right, but the worker could not finish (shared memory full, native code refused).
    Failed(String),
}

/// Where a compile's time went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompileTimings {
    /// Source text to wasm.
    pub wasm_us: u64,
    /// Wasm to native code.
    pub native_us: u64,
    /// Writing and hashing the segment.
    pub publish_us: u64,
}

// ------------------------------------------------------------------------------------------------- runtime host

/// Supervisor to runtime host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostRequest {
    /// Run a program under its runtime type's clock.
    Start(StartRuntime),
    /// Run a program without a clock and report what its memory holds.
    Run(RunJob),
    /// Change the running runtime.
    Live(LiveRequest),
    /// What the running runtime has to do with control wires from now on. Not answered; a part of it that cannot be is told as
    /// a log line, and the rest is done.
    Wire(Wiring),
    /// To a spare: keep a program ready.
    Prepare(Box<Prepare>),
    /// To a spare: none of this runtime's programs needs to be kept ready any more, except the named revisions.
    Forget { runtime: String, except: Vec<ContentHash> },
    /// To a spare: go on where a dead host stopped.
    TakeOver(Box<TakeOver>),
    /// End the runtime; answered with `Stopped`.
    Stop,
}

/// All a host needs to run a runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRuntime {
    /// The runtime's name.
    pub runtime: String,
    pub generation: u64,
    /// Runtime type id of the registry.
    pub runtime_type: String,
    pub artifact: SegmentRef,
    /// Ticks (or for `audio`: frames) a second.
    pub sample_rate: u32,
    /// Where an `audio` runtime delivers its blocks.
    pub lane: Option<SegmentRef>,
    /// Where its checkpoints go ([`crate::state`]); `None` for a runtime that nobody would take over.
    pub state: Option<SegmentRef>,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
    /// Render as fast as the lane is read: denormals and inputs as when live, but no deadline and no real-time priority.
    pub is_offline: bool,
    /// Execute only ticks below this horizon until `LiveChange::Proceed` raises it: for replays. A runtime with a horizon is
    /// not paced by a clock, whatever its type. `None`: no horizon.
    pub run_until: Option<u64>,
    /// What it has to do with control wires from its first tick on.
    pub wiring: Box<Wiring>,
}

/// Initialise a program, call it some times, show its memory. Strict IEEE, no clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunJob {
    pub artifact: SegmentRef,
    /// Exports to call in each cycle, in this order; empty means every entry.
    pub exports: Vec<String>,
    pub cycles: u64,
    /// Written after initialisation, before the first cycle: `MODULE:ITEM` or a bare item name that is unique,
    /// optionally with an element index (`buffer[3]`).
    pub sets: Vec<(String, String)>,
    /// Items to show at the end.
    pub dumps: Vec<String>,
    /// Items whose bytes are reported after each cycle.
    pub captures: Vec<String>,
    /// Report all memories whole at the end.
    pub dump_memory: bool,
    /// Load binary assets, with relative paths starting from this folder; `None` leaves them out.
    pub assets_from: Option<PathBuf>,
}

/// Runtime host to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostReply {
    /// The artifact has been copied and checked; its segment may go.
    Loaded { segment: String },
    /// The runtime is initialised and ticking (or, for `audio`, waiting for its lane to be read).
    Started { runtime: String },
    /// The artifact was refused, or the runtime could not be set up.
    Refused { segment: String, reason: Refusal },
    /// Counters, about ten times a second while a runtime runs.
    Status(HostStatus),
    /// The running program did something wrong; it goes on as `Fault` and `held` say.
    Faulted { runtime: String, fault: Fault, held: bool },
    /// A line for the log: one of the five of DESIGN §8, or a warning about a setting.
    Log { runtime: String, line: String },
    /// Bytes of the captured items of a `RunJob`, in order.
    RunCaptured(Vec<u8>),
    /// Part of a memory of a finished `RunJob`.
    RunMemory { memory: u32, offset: u64, bytes: Vec<u8> },
    /// A `RunJob` is finished.
    RunDone { dumps: Vec<ItemValue> },
    /// A `RunJob` ended early.
    RunFailed { fault: Fault },
    /// How a change of the running runtime went.
    Live(LiveReply),
    /// Values that the runtime has taken from control wires, all of those in the ticks before `to_tick`; `first` counts them
    /// over the life of the runtime, so that one that is told twice is known.
    Wired { first: u64, values: Vec<Taken>, to_tick: u64 },
    /// The program is kept ready.
    Prepared { runtime: String, revision: ContentHash },
    /// The runtime goes on here.
    TookOver(Box<TookOver>),
    /// To a supervisor that has taken another one's place: the runtime runs here.
    Present(Box<Presence>),
    /// The runtime has ended.
    Stopped,
}

/// Why a host does not run what it was asked to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What happened and what to do.
    pub message: String,
    /// 1-based line of the source file, where there is one to blame.
    pub line: Option<u32>,
    /// Whether the artifact itself was damaged, so that compiling once more helps.
    pub is_damaged: bool,
    /// Whether the machine lacks something (memory, threads), so that the program is not to blame.
    pub is_machine: bool,
}

/// Counters of a running runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    pub runtime: String,
    pub ticks: u64,
    /// Time the last ticks took relative to the time they had, in thousandths; the highest since the last report.
    pub load_permille: u32,
    /// Ticks that were due and never ran (timer runtimes).
    pub lost_ticks: u64,
    /// Samples that were not finite and were replaced.
    pub non_finite: u64,
    /// How often the program asked for more memory than it was announced with (`memory.grow`), and was refused.
    pub refused_growth: u64,
    /// Whether the tick thread has real-time priority.
    pub is_realtime: bool,
    /// The program is held after repeated faults: it does not run, its lane is silent.
    pub is_held: bool,
}

/// The value of a memory item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemValue {
    /// `MODULE:ITEM`.
    pub item: String,
    pub values: ElementValues,
}

/// Elements of an item, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ElementValues {
    Int(Vec<i64>),
    Float(Vec<f32>),
    Float64(Vec<f64>),
}

// -------------------------------------------------------------------------------------------------- device host

/// Supervisor to device host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeviceRequest {
    /// Open an output and start the session clock. Answered by `Opened` or `Failed`.
    Open(OpenDevice),
    /// Read this lane from now on. Answered by `LaneMapped`.
    AddLane {
        runtime: String,
        lane: SegmentRef,
        /// Another device host was reading it: go on with the first block that no device was given, and fade in.
        resumes: bool,
        /// What its host hears is decided here: it is not a replay, in which the supervisor knows.
        decides_input: bool,
    },
    /// All lanes that are to start together have been added: start them, and an output without a clock.
    Begin,
    /// Fade this lane out and let go of it. Answered by `LaneRemoved`.
    RemoveLane { runtime: String },
    /// Bring this lane to a linear gain, in a straight line over so many frames. A lane that has not begun has it from its
    /// first sample on. Not answered.
    SetGain { runtime: String, gain: f32, ramp_frames: u32 },
    /// Bring this lane to other channels of the device. One that has not begun is there from its first sample on. Not answered.
    SetOutput { runtime: String, route: OutputMap },
    /// From now on lanes listen to each other, and to the device's input, like this and not otherwise. Names lanes that are there
    /// and lanes that are still to come. Not answered.
    Connect(Buses),
    /// Listen to MIDI from now on, tell what comes in (`DeviceReply::Midi`), and connect what goes out. The ports are those of
    /// the first time.
    Listen {
        ports: Ports,
        /// The frame of the session at which files begin, where a device host has told that before.
        files_from: Option<u64>,
    },
    /// Record from its block on, or from the next one. Answered by `TapeBegun` or `TapeRefused`.
    StartTape(Tape),
    /// Record neither this block nor any after it; where it has passed, no further one. Answered by `TapeEnded`, when the files
    /// are complete, or `RecordingFailed`.
    StopTape { number: u64, end_block: u64 },
    /// Send MIDI clock at this tempo, from its block on.
    Tempo(Tempo),
    /// Fade everything out, complete the tape, then answer `Stopped`.
    Stop,
    /// List the outputs this machine has. Answered by `Devices`.
    List,
}

/// Who listens to whom, by the names of lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buses {
    pub list: Vec<Bus>,
    /// Lanes that are only heard through those who listen to them.
    pub unheard: Vec<String>,
}

/// One lane hears another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bus {
    /// `None`: what the device's input takes in.
    pub from: Option<String>,
    pub to: String,
}

/// How to open the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenDevice {
    pub output: Output,
    pub sample_rate: u32,
    pub lead_blocks: u32,
    /// Frames of the session that an earlier device host has played: the session clock goes on from there.
    pub first_frame: u64,
    /// Channels that are to be played to. A device that has fewer is used all the same.
    pub channels: u32,
    /// A tape that begins with the first block.
    pub tape: Option<Tape>,
    /// Lanes wait for `DeviceRequest::Begin` and then start on one and the same block; those added later start by
    /// themselves. Without a clock that is always so.
    pub starts_together: bool,
}

/// A recording of sound: what of it, and where to. 32-bit float WAV files, stereo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tape {
    /// Tells the tapes of a session apart.
    pub number: u64,
    /// 1, or how often a device host has begun to write it: the next one writes files of their own.
    pub part: u32,
    /// What the device is given.
    pub master: Option<PathBuf>,
    /// A folder for one file of each runtime, `NAME.wav`: what it adds to the master, its level included.
    pub stems: Option<PathBuf>,
    /// Whether files of these names are replaced.
    pub replaces: bool,
    /// The first block of the session that may be recorded.
    pub from_block: u64,
}

/// Which channels of the device the two channels of a lane go to: bit n stands for channel n + 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputMap {
    pub left: u32,
    pub right: u32,
    /// What both are multiplied with.
    pub gain: f32,
}

impl OutputMap {
    /// Left to channel 1, right to channel 2.
    pub const STRAIGHT: Self = Self { left: 1, right: 2, gain: 1.0 };
}

/// Where sound goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// The first that opens: JACK, PulseAudio, ALSA; else the paced null device until one appears.
    Default,
    /// A device by (part of) its name, `host:name` or just the host (`jack`, `pulseaudio`, `alsa`); `null` for none.
    Named(String),
    /// No clock: mix as soon as all lanes are ready, so many frames, then stop. Needs `tape`.
    Unpaced { frames: u64 },
}

/// Device host to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeviceReply {
    Opened {
        device: String,
        sample_rate: u32,
        period_frames: u32,
        /// Channels that are played to; the null device has as many as there can be.
        channels: u32,
    },
    /// Nothing could be opened and no null device either (recording path not writable, …).
    Failed {
        reason: String,
    },
    /// Sound moved to another device, the null device included. `reason` is one clear line.
    Moved {
        device: String,
        reason: String,
        channels: u32,
    },
    LaneMapped {
        runtime: String,
    },
    /// The lane could not be mapped.
    LaneRefused {
        runtime: String,
        reason: String,
    },
    LaneRemoved {
        runtime: String,
    },
    /// The first block of this lane has been given to the device, as the session's block `block`.
    LaneStarted {
        runtime: String,
        block: u64,
    },
    /// About ten times a second.
    Status(DeviceStatus),
    /// Messages that have come in, in order.
    Midi(Vec<Arrived>),
    /// To a supervisor that has taken over: the ends of the notes that its predecessor was told to be held. Those that have ended
    /// since follow.
    MidiHeld(Vec<Received>),
    /// MIDI files that are played begin at this frame of the session.
    MidiFilesBegin {
        frame: u64,
    },
    /// A port that is played on or sent to has come or gone.
    MidiPort(PortChange),
    /// There is nothing that instruments could be heard and played through. Looked for all the time, told once.
    MidiUnavailable {
        reason: String,
    },
    /// What the MIDI clock that comes in says, from its block on.
    Tempo(Tempo),
    /// Nothing has come from it for a while.
    ClockLost,
    /// This block is the first of a tape. `earlier_frames` is how many frames the part before has, where that is known.
    TapeBegun {
        number: u64,
        part: u32,
        block: u64,
        earlier_frames: Option<u64>,
    },
    /// There is no such tape, and will be none.
    TapeRefused {
        number: u64,
        reason: String,
    },
    /// The files of a tape are complete, and so long. This block is the first that is not in them.
    TapeEnded {
        number: u64,
        block: u64,
        frames: u64,
    },
    /// Something of what was to be recorded is missing (disk full, …); sound goes on. `ended`: the tape that has ended by it.
    RecordingFailed {
        reason: String,
        ended: Option<u64>,
    },
    Devices(Vec<DeviceDescription>),
    /// Everything has been faded out, the tape is complete.
    Stopped {
        frames: u64,
    },
}

/// Counters of the device host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Frames given to the device since it was opened.
    pub frames: u64,
    /// Highest absolute sample of each channel since the last report.
    pub peak: [f32; 2],
    /// Late or lost periods that the device itself reported.
    pub device_xruns: u64,
    /// Non-finite samples the mixer replaced.
    pub non_finite: u64,
    pub midi: MidiCounters,
    pub input: InputStatus,
    /// Blocks after which a lane hears what another one delivers.
    pub bus_latency_blocks: u64,
    pub lanes: Vec<LaneStatus>,
}

/// The device's input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputStatus {
    /// What is listened to; `None` while nobody wants to hear anything, or there is none.
    pub device: Option<String>,
    /// Frames from its taking in to the sound of the program that hears it, without what the device itself adds.
    pub latency_frames: u64,
    /// How often frames were missing, or left out.
    pub gaps: u64,
}

/// Counters of one lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    pub runtime: String,
    /// Blocks that were not there when the device wanted them.
    pub underruns: u64,
    /// Blocks of its input in which something was missing.
    pub input_underruns: u64,
    /// Session block of the last underrun.
    pub last_underrun_block: u64,
    pub peak: [f32; 2],
}

/// An output the machine has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceDescription {
    /// `jack`, `pulseaudio`, `alsa`, `null`.
    pub host: String,
    pub name: String,
    pub is_default: bool,
    /// Default format, or why it cannot be opened.
    pub detail: String,
    pub is_usable: bool,
}
