//! The words of the policy: what can happen ([`Event`]), what it can want ([`Action`]), what it tells people ([`Report`]).
//!
//! All of it is plain data. Handles (processes, channels, mapped memory) stay in the shell, `crate::session`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ipc::artifact::DefaultBytes;
use ipc::diagnostic::Diagnostic;
use ipc::fault::Fault;
use ipc::hash::ContentHash;
use ipc::live::{LiveRequest, RequestId};
use ipc::manifest::Manifest;
use ipc::message::{
    Buses, CompileTimings, DeviceDescription, DeviceReply, DeviceStatus, HostReply, HostStatus, ItemValue, OutputMap, Refusal, Role, Tape,
    WorkerReply,
};
use ipc::midi::PortChange;
use ipc::recovery::{Prepare, TakeOver, TookOver};
use ipc::segment::SegmentRef;
use ipc::tempo::Tempo;
use ipc::wires::Wiring;
use runtime_host::host::assets::Wanted;
use serde::{Deserialize, Serialize};

use super::gaps::Gap;
use super::log::LogEntry;
use super::tape::TapeFiles;
use crate::control::protocol::{Answer, ChangeEvent, ChangeId, ControlEvent, ErrorReply, Timings};
use crate::control::{Call, Ticket};

/// A program's text, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramText {
    /// Name of the runtime that runs it. Programs of a command line: the file's name without its ending, made unique.
    pub name: String,
    /// The file as the user named it.
    pub path: PathBuf,
    pub source: Arc<str>,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
}

impl ProgramText {
    /// Tells texts apart, whatever they are compiled with.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&[self.source.as_bytes()])
    }
}

#[cfg(test)]
impl From<String> for ProgramText {
    fn from(name: String) -> Self {
        Self { path: PathBuf::from(format!("{name}.8f4e")), name, source: "8f4e/v1\n".into(), base_directory: PathBuf::from("/") }
    }
}

/// Index of one life of a runtime in its session: the programs of the command line in their order, from 0, then every new
/// host that a runtime was given. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeIndex(pub usize);

/// Number of a runtime host's process in its session, from 0. Never used twice: a host is not a runtime, and what a dead one
/// has left on the way belongs to nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostIndex(pub usize);

/// A process that the supervisor starts. Worker and device host are numbered from 1 by their starts, so that no two
/// processes of a session are the same child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Child {
    Worker(u64),
    Device(u64),
    Host(HostIndex),
}

impl Child {
    pub fn role(self) -> Role {
        match self {
            Self::Worker(_) => Role::CompilerWorker,
            Self::Device(_) => Role::DeviceHost,
            Self::Host(_) => Role::RuntimeHost,
        }
    }
}

/// A process as people are told of it: by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Worker,
    Device,
    Host(RuntimeIndex),
    /// A runtime host with nothing to run.
    Spare,
}

impl Part {
    pub fn role(self) -> Role {
        match self {
            Self::Worker => Role::CompilerWorker,
            Self::Device => Role::DeviceHost,
            Self::Host(_) | Self::Spare => Role::RuntimeHost,
        }
    }
}

/// How a process ended, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessEnd {
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl ProcessEnd {
    /// Only the one who started it is told how a process ended, and that supervisor is dead.
    pub const UNKNOWN: Self = Self::Exited(-1);
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(-1) => f.write_str("ended; how is not known"),
            Self::Exited(status) => write!(f, "ended with exit status {status}"),
            Self::Killed(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "was killed by signal {signal} ({name})"),
                None => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

/// The name of a signal, such as `SIGKILL`.
pub fn signal_name(signal: i32) -> Option<&'static str> {
    nix::sys::signal::Signal::try_from(signal).ok().map(nix::sys::signal::Signal::as_str)
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Diagnostics of one program.
    Check,
    /// The wasm of one program, handed to the command.
    Compile,
    /// One program without a clock.
    Run,
    /// Programs on a device, until stopped or for so many seconds from the first sound on.
    Play { seconds: Option<f64> },
    /// A session that waits for what clients push, until it is told to end.
    Serve,
    /// Programs into a file, faster than real time; the device host knows how long.
    Bounce,
    /// One program without sound through its log, up to this tick, faster than real time.
    Replay { to_tick: u64 },
    /// The outputs this machine has.
    ListDevices,
}

/// How a session ended; the worst thing that happened decides. Ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Fine,
    /// A program is wrong, or failed while it ran.
    Program,
    /// Something on the command line or a file it names is not usable.
    Input,
    /// The machine, or a part of Continuo itself, failed.
    Environment,
    /// Ended by a signal before its work was done.
    Interrupted,
}

/// What the supervisor must know of a compiled program to run it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub content: Arc<Content>,
    /// The runtime type it asked for, when there is none of that name.
    pub fallback_from: Option<String>,
    /// The item that the program names as its pulse.
    pub pulse: Option<String>,
    pub keys: KeyItems,
    /// `None`: in none.
    pub tempo: Option<Box<TempoItems>>,
    /// Runtime type id of the registry.
    pub runtime_type: String,
    /// Whether it delivers into a lane: blocks of sound, or MIDI events.
    pub has_lane: bool,
    /// Whether it has an output on the left, and on the right.
    pub sides: [bool; 2],
    /// Whether it wants to hear what the device's input takes in, or other runtimes.
    pub hears_sound: bool,
    /// Frames (or ticks) a second.
    pub sample_rate: u32,
    /// Lines for the log that came out of resolving the runtime type and the settings.
    pub log: Vec<String>,
    /// Files whose bytes it wants in its memory, as they were when it was compiled.
    pub assets: Vec<Wanted>,
}

/// The items in which a program wants to be told of the keyboard (LANGUAGE §20.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyItems {
    /// The USB-HID usage of the key.
    pub code: Option<String>,
    /// Whether any is held.
    pub pressed: Option<String>,
}

/// The items in which a program wants to be told of the session's musical time (LANGUAGE §20.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TempoItems {
    /// Beats a minute.
    pub tempo: Option<String>,
    /// Whether the transport runs.
    pub running: Option<String>,
    /// Where it is, in beats.
    pub beat: Option<String>,
}

impl Plan {
    /// Whether it delivers sound.
    pub fn has_sound(&self) -> bool {
        self.has_lane && !self.has_notes()
    }

    /// Whether it delivers MIDI events.
    pub fn has_notes(&self) -> bool {
        self.has_lane && self.runtime_type == "midi"
    }
}

/// What a compiled program is, as far as changes of it are concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub manifest: Manifest,
    /// What its memories hold after `initDefaults`.
    pub image: Vec<DefaultBytes>,
}

/// What a program is compiled with that its runtime type decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompileSettings {
    /// Values of the program's `constants env` block.
    pub environment: Vec<(String, f64)>,
    /// Work budget of one tick; see `ipc::message::CompileRequest`.
    pub work_budget: u64,
}

/// What came of looking into an artifact.
#[derive(Clone, Debug, PartialEq)]
pub enum Inspection {
    /// To be run under this plan.
    Playable(Plan),
    /// To be run without a clock.
    Runnable,
    /// Compile once more, this way: what it has to be compiled with only shows once it is compiled.
    NeedsSettings(CompileSettings),
    /// Nothing can run this program: its settings are impossible.
    Unplayable { message: String, line: Option<u32> },
    /// The command has what it wanted of it.
    Delivered,
    /// The command could not write its files.
    NotDelivered { reason: String },
    /// The artifact is not what the worker announced.
    Damaged { reason: String },
}

/// How far a runtime's work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub runtime: RuntimeIndex,
    /// Ticks completed.
    pub done: u64,
    /// Ticks that are wanted by now; where nobody counts them, one more than are completed.
    pub due: u64,
}

/// Everything that can happen to a session.
#[derive(Clone, Debug)]
pub enum Event {
    /// The session is open.
    Begin,
    Spawned {
        child: Child,
        pid: u32,
    },
    NotSpawned {
        child: Child,
        reason: String,
    },
    /// The child came in through its doorway and is of this build.
    Joined {
        child: Child,
    },
    NotJoined {
        child: Child,
        reason: String,
    },
    /// The child has closed its channel: it is ending.
    ChannelClosed {
        child: Child,
    },
    /// The child sent something unreadable, or does not read what it is sent.
    ChannelBroken {
        child: Child,
        reason: String,
    },
    /// The kernel says that the child is dead.
    Died {
        child: Child,
        end: ProcessEnd,
        /// For a host: the tick it was executing, and of which revision.
        tick: Option<(ContentHash, u64)>,
    },
    WorkerSaid {
        generation: u64,
        reply: WorkerReply,
    },
    HostSaid {
        host: HostIndex,
        reply: HostReply,
    },
    DeviceSaid {
        generation: u64,
        reply: DeviceReply,
    },
    /// Answer to [`Action::Inspect`].
    Inspected {
        runtime: RuntimeIndex,
        inspection: Inspection,
    },
    /// Answers to [`Action::CreateLane`].
    LaneCreated {
        runtime: RuntimeIndex,
        lane: SegmentRef,
    },
    LaneNotCreated {
        runtime: RuntimeIndex,
        reason: String,
    },
    /// Answers to [`Action::CreateBoard`].
    BoardCreated {
        runtime: RuntimeIndex,
        board: SegmentRef,
    },
    BoardNotCreated {
        runtime: RuntimeIndex,
        reason: String,
    },
    /// A state segment has been made for a program that a host was told of: the one it started with, or that of a swap.
    StateCreated {
        runtime: RuntimeIndex,
        request: Option<RequestId>,
        state: SegmentRef,
    },
    StateNotCreated {
        runtime: RuntimeIndex,
        reason: String,
    },
    /// Answer to [`Action::Look`].
    Looked {
        found: Vec<Progress>,
    },
    /// Answer to [`Action::InspectEdit`].
    EditInspected {
        change: ChangeId,
        inspection: Inspection,
    },
    /// A client asks for something. What it names by path has been read.
    Call {
        call: Box<Call>,
        text: Option<ProgramText>,
    },
    /// A watched file has another content.
    FileChanged {
        runtime: String,
        text: ProgramText,
        /// How long ago that was, in microseconds.
        detect_us: u64,
    },
    /// A watched file has changed and cannot be read.
    FileUnreadable {
        runtime: String,
        reason: String,
    },
    /// A key, by its USB-HID usage (0: unknown), has been pressed or released.
    Key {
        usage: u8,
        is_down: bool,
    },
    /// Nobody looks at the keyboard any more: no key is held.
    KeysReleased,
    /// Someone wants the session to end.
    Signal,
    /// The earliest deadline has passed.
    DeadlinePassed,
}

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answered by `Spawned` or `NotSpawned`, later by `Joined` or `NotJoined`, in the end by `Died`.
    Spawn(Child),
    Compile {
        runtime: RuntimeIndex,
        request: u64,
        /// `None`: not settled yet; what most programs need.
        settings: Option<CompileSettings>,
    },
    /// Nobody needs this segment by its name any more: remove it.
    Release {
        segment: String,
    },
    /// Read an artifact's manifest; answered by `Inspected`.
    Inspect {
        runtime: RuntimeIndex,
        artifact: SegmentRef,
        /// It has been compiled with settings asked for before: do not ask again.
        is_settled: bool,
    },
    /// Compile an edit, laid out relative to what runs now. Answered by `WorkerSaid`.
    CompileEdit {
        request: u64,
        text: ProgramText,
        settings: Option<CompileSettings>,
        previous: Option<Arc<Content>>,
    },
    /// Read the manifest of an edit's artifact; answered by `EditInspected`.
    InspectEdit {
        change: ChangeId,
        artifact: SegmentRef,
        base_directory: PathBuf,
        /// What it was compiled with.
        settings: Option<CompileSettings>,
        is_settled: bool,
    },
    /// Change a running runtime; answered by `HostSaid`.
    Live {
        runtime: RuntimeIndex,
        host: HostIndex,
        request: LiveRequest,
        /// For a swap: make a state segment for this program and name it in the swap; answered by `StateCreated` or
        /// `StateNotCreated` before anything else happens.
        content: Option<Arc<Content>>,
    },
    /// Keep a program ready in a spare.
    Prepare {
        host: HostIndex,
        program: Box<Prepare>,
    },
    /// A spare need not keep this runtime's programs ready, except those.
    Forget {
        host: HostIndex,
        runtime: String,
        except: Vec<ContentHash>,
    },
    /// Go on where a dead host stopped.
    TakeOver {
        host: HostIndex,
        order: Box<TakeOver>,
        /// The program and the runtime of a swap that is to come first: it gets a state segment, as with `Live`.
        content: Option<(RuntimeIndex, Arc<Content>)>,
    },
    /// See how far the runtimes are; answered by `Looked`.
    Look,
    /// Answer a client. Exactly one for each [`Event::Call`].
    Answer {
        ticket: Ticket,
        outcome: Box<Result<Answer, ErrorReply>>,
    },
    /// Follow this file; its changes come in as `FileChanged`. Takes the place of what the runtime followed before.
    Watch {
        runtime: String,
        path: PathBuf,
    },
    Unwatch {
        runtime: String,
    },
    /// An input that has reached a host, for the journal.
    Log(LogEntry),
    /// Record the sound from the next block on.
    StartTape(Tape),
    /// Record no further block.
    StopTape {
        end_block: u64,
        number: u64,
    },
    /// Begin a recording into this file, or end the one that runs. The shell answers.
    Record {
        ticket: Ticket,
        path: Option<PathBuf>,
    },
    SetGain {
        runtime: RuntimeIndex,
        gain: f32,
        ramp_frames: u32,
    },
    SetOutput {
        runtime: RuntimeIndex,
        route: OutputMap,
    },
    /// Answered by `LaneCreated` or `LaneNotCreated`.
    CreateLane(RuntimeIndex),
    /// Make what a runtime needs for its control wires; answered by `BoardCreated` or `BoardNotCreated`.
    CreateBoard(RuntimeIndex),
    /// What a host has to do with control wires from now on.
    Wire {
        host: HostIndex,
        wiring: Wiring,
    },
    OpenDevice {
        sample_rate: u32,
        /// Frames that an earlier device host has played.
        first_frame: u64,
        /// Channels that are played to.
        channels: u32,
        /// What is recorded from the first block on.
        tape: Option<Tape>,
    },
    ListDevices,
    AddLane {
        runtime: RuntimeIndex,
        lane: SegmentRef,
        /// Another device host was reading it.
        resumes: bool,
    },
    RemoveLane(RuntimeIndex),
    /// From now on lanes listen to each other like this.
    Connect(Buses),
    /// Listen to MIDI, and tell what comes in. Files began at this frame of the session, if they have.
    Listen {
        files_from: Option<u64>,
    },
    /// Send MIDI clock at this tempo, from its block on.
    SetTempo(Tempo),
    /// All lanes have been added: start rendering.
    BeginRendering,
    StopDevice,
    StartRuntime {
        runtime: RuntimeIndex,
        host: HostIndex,
        artifact: SegmentRef,
        plan: Plan,
        lane: Option<SegmentRef>,
        /// Make a state segment for it; answered by `StateCreated` or `StateNotCreated` before anything else happens.
        is_protected: bool,
    },
    RunProgram {
        runtime: RuntimeIndex,
        host: HostIndex,
        artifact: SegmentRef,
    },
    StopRuntime(HostIndex),
    /// Close the control channel: a child that is not busy ends itself.
    Close(Child),
    Kill(Child),
    Tell(Report),
    /// The session is over; no action follows.
    Finish(Verdict),
}

/// Why a program does not run (any more). Each program fails at most once.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    Rejected(Vec<Diagnostic>),
    /// The worker could not finish.
    NotCompiled(String),
    CompileTooLong,
    /// The worker is gone.
    NoWorker,
    Unplayable {
        message: String,
        line: Option<u32>,
    },
    NotDelivered {
        reason: String,
    },
    Refused(Refusal),
    NoLane {
        reason: String,
    },
    /// Its host has died or never came; that has been reported.
    NoHost,
    /// The host that was to make the change died before it did.
    HostDied,
    /// Its hosts have died too often.
    Quarantined {
        cause: String,
    },
    /// Workers die of it.
    CompilerRestarted,
    /// The host does not start it in time.
    StartTooLong,
    /// The fault that ended a run.
    Fault(Fault),
}

/// What people and scripts are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    ProcessStarted {
        part: Part,
        pid: u32,
    },
    /// A process could not be started or did not connect.
    ProcessMissing {
        part: Part,
        reason: String,
    },
    /// A process is ended because it does not do its part.
    ProcessStuck {
        part: Part,
        reason: String,
    },
    Died {
        part: Part,
        pid: u32,
        /// Of the runtime that it ran.
        generation: u64,
        end: ProcessEnd,
        /// Why we have killed it, if it was us.
        cause: Option<String>,
    },
    /// A runtime goes on in another host.
    HostReady {
        runtime: RuntimeIndex,
        took: Box<TookOver>,
        pid: u32,
        gap: Gap,
    },
    /// A host makes no progress although work is due.
    Stalled {
        runtime: RuntimeIndex,
        stalled_ms: u64,
    },
    /// A stalled host goes on by itself.
    Resumed {
        runtime: RuntimeIndex,
        stalled_ms: u64,
    },
    /// A runtime is not restarted any more.
    Quarantined {
        runtime: RuntimeIndex,
        cause: String,
    },
    /// A runtime cannot be recovered if its host dies.
    Unprotected {
        runtime: RuntimeIndex,
        reason: String,
    },
    /// A revision killed its hosts; another one has taken its place.
    RolledBack {
        runtime: RuntimeIndex,
        from: ContentHash,
        to: ContentHash,
        cause: String,
        line: Option<u32>,
    },
    Compiled {
        runtime: RuntimeIndex,
        timings: CompileTimings,
    },
    /// An artifact arrived damaged and is made once more.
    CompilingAgain {
        runtime: RuntimeIndex,
        reason: String,
    },
    Failed {
        runtime: RuntimeIndex,
        failure: Failure,
    },
    Checked {
        runtime: RuntimeIndex,
    },
    Log {
        runtime: RuntimeIndex,
        line: String,
    },
    RuntimeStarted {
        runtime: RuntimeIndex,
    },
    /// The runtime's first block has been given to the device.
    Sounding {
        runtime: RuntimeIndex,
        block: u64,
    },
    Fault {
        runtime: RuntimeIndex,
        fault: Fault,
        is_held: bool,
    },
    RuntimeStopped {
        runtime: RuntimeIndex,
    },
    HostStatus {
        runtime: RuntimeIndex,
        status: HostStatus,
    },
    DeviceStatus(DeviceStatus),
    DeviceOpened {
        device: String,
        sample_rate: u32,
        period_frames: u32,
    },
    DeviceFailed {
        reason: String,
    },
    Moved {
        device: String,
        reason: String,
    },
    /// The sound is recorded from this block on, in files of this part. `missed_frames`: between this part and the one before.
    TapeBegun {
        files: TapeFiles,
        part: u32,
        block: u64,
        missed_frames: Option<u64>,
    },
    /// The sound is recorded up to this block; the files are complete.
    TapeEnded {
        files: TapeFiles,
        block: u64,
        frames: u64,
    },
    /// A port that is played on or sent to has come or gone.
    MidiPort(PortChange),
    /// The MIDI clock that the session follows is there, as fast as this, or has been silent for a while.
    MidiClock {
        is_there: bool,
        bpm: f64,
    },
    /// There is nothing that instruments could be heard and played through.
    MidiUnavailable {
        reason: String,
    },
    RecordingFailed {
        /// Of what was played. `None`: what the sound is recorded into.
        path: Option<PathBuf>,
        reason: String,
    },
    Devices(Vec<DeviceDescription>),
    Captured(Vec<u8>),
    Memory {
        memory: u32,
        offset: u64,
        bytes: Vec<u8>,
    },
    RunDone {
        dumps: Vec<ItemValue>,
    },
    /// Something happened to a change of a runtime, for subscribers.
    Change(Box<ChangeEvent>),
    /// The same for people. `text` is the edited program.
    Edit {
        text: ProgramText,
        news: EditNews,
    },
    /// Somebody did something to a runtime that is no edit.
    Control(Box<ControlEvent>),
    /// The session begins to end.
    Stopping,
    /// The device host has faded out and completed its tape.
    DeviceStopped {
        frames: u64,
    },
}

/// How an edit went, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum EditNews {
    /// It does not take effect; what plays goes on playing.
    Rejected(Failure),
    /// It failed before and is refused until its text changes.
    Refused { why: String },
    /// It would lose state and waits.
    NeedsAck { change: ChangeId, sentences: Vec<String> },
    /// It is on its way to the host, and state will be lost.
    Pending { change: ChangeId, sentences: Vec<String> },
    /// It is in effect from this tick on.
    Committed { change: ChangeId, tick: u64, sentences: Vec<String>, timings: Timings, commit_us: Option<u64> },
    /// The text is the one that plays.
    Unchanged,
    /// It failed while it ran, and what ran before has taken its place; `is_late`: not so soon that nobody can have heard it.
    RolledBack { fault: Fault, why: String, is_late: bool },
    /// A watched file cannot be read.
    Unreadable { reason: String },
}
