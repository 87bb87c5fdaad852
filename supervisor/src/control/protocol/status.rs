//! What a session is doing: the answers to `status` and `list`.

use serde::{Deserialize, Serialize};

use super::values::{Boundary, ChangeClass, ChangeId, Channels, RevisionName, RuntimeName, WireEnd};

/// The session as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SessionStatus {
    pub session: String,
    /// The supervisor's process.
    pub pid: u32,
    pub build: String,
    pub uptime_ms: u64,
    pub device: Option<DeviceStatus>,
    pub midi: MidiStatus,
    pub routing: Routing,
    /// In the order they were started in.
    pub runtimes: Vec<RuntimeStatus>,
    /// Everything the session started.
    pub processes: Vec<ProcessStatus>,
    /// The file that revisions, seed and inputs are recorded into.
    pub recording: Option<String>,
    /// What the sound is recorded into.
    pub tape: Option<TapeStatus>,
    pub control: ControlStatus,
    /// Where the session listens to OSC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub osc: Option<OscStatus>,
    /// Which items follow which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wires: Vec<WireStatus>,
}

/// A control wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WireStatus {
    pub to: WireEnd,
    pub from: WireEnd,
    /// Both ends are there. If not, the item keeps its last value, and follows again when they are.
    pub is_live: bool,
    /// Why it does not follow.
    pub waits_because: Option<String>,
}

/// All control wires. The answer to `wires`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WireList {
    pub wires: Vec<WireStatus>,
}

/// What has come in by OSC since the session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OscStatus {
    /// Where it listens.
    pub address: String,
    pub packets: u64,
    /// Packets that were none.
    pub malformed: u64,
    /// Messages that could not be carried out.
    pub refused: u64,
    /// Packets that the kernel had no room for: they came faster than they could be read.
    #[serde(default)]
    pub lost: u64,
    /// Why the last of them could not.
    pub last_error: Option<String>,
}

/// The output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeviceStatus {
    pub name: String,
    /// No real output: paced in real time, heard by nobody.
    pub is_null: bool,
    pub sample_rate: u32,
    pub period_frames: u32,
    /// The session clock.
    pub frames: u64,
    pub xruns: u64,
    /// How many of its channels are played to.
    pub channels: u32,
    /// Highest absolute sample on channels 1 and 2, behind the limit, in the last tenth of a second.
    pub peak: [f32; 2],
}

/// A recording of the sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TapeStatus {
    /// The file of what the device is given.
    pub master: Option<String>,
    /// The folder of what each runtime adds to it.
    pub stems: Option<String>,
    /// How many times files have been begun: 1, and one more for each death of the device host.
    pub part: u32,
    /// The first block of the session that is recorded.
    pub block: u64,
    /// Frames since then.
    pub frames: u64,
}

/// MIDI messages that the session has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MidiStatus {
    /// Came in, since the device host was started.
    pub received: u64,
    /// Were known to their programs later than they were to be.
    pub late: u64,
    /// Came in faster than they could be taken, and were left out. Never ends of notes.
    pub dropped: u64,
    /// Pieces of bytes that came in and were no message, since the device host was started.
    pub malformed: u64,
    /// Did not go out because they were too late, or too many, since the device host was started. Never ends of notes.
    pub unsent: u64,
}

/// Who listens to whom. The answer to `route` and `unroute`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Routing {
    pub routes: Vec<RouteNow>,
    /// Blocks of 128 frames after which a runtime hears what another one delivers.
    pub bus_latency_blocks: u64,
    /// What the device takes in, while anybody listens to it and it is there.
    pub input: Option<InputNow>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RouteNow {
    /// A runtime, or `@input`.
    pub from: RuntimeName,
    pub to: RuntimeName,
    /// It is heard only there, and not directly.
    pub only: bool,
    /// Why nothing comes of it now.
    pub silent_because: Option<String>,
}

/// The device's input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InputNow {
    pub device: String,
    /// Frames from its taking in to the sound of the program that hears it, without what the device itself adds.
    pub latency_frames: u64,
    /// How often frames were missing, or too many.
    pub gaps: u64,
}

/// One runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuntimeStatus {
    pub runtime: RuntimeName,
    pub runtime_type: String,
    pub state: RuntimeState,
    /// Why it is in this state, where it is not simply running.
    pub cause: Option<Cause>,
    pub generation: u64,
    pub pid: Option<u32>,
    pub revision: Option<RevisionName>,
    /// The change that waits for its boundary or for an acknowledgement.
    pub waiting_change: Option<ChangeId>,
    /// The file that is watched.
    pub watching: Option<String>,
    pub tick: u64,
    pub load_permille: u32,
    pub underruns: u64,
    /// What it listens to: runtimes, or `@input`.
    pub hears: Vec<RuntimeName>,
    /// Blocks of its input in which something was missing.
    pub input_underruns: u64,
    pub lost_ticks: u64,
    pub non_finite: u64,
    /// How often the program has asked for more memory than it declares, and was refused.
    pub refused_growth: u64,
    pub restarts: u64,
    pub mix: Mix,
    /// Highest absolute sample of each of its channels, behind its level, in the last tenth of a second.
    pub peak: [f32; 2],
}

/// What a runtime is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RuntimeState {
    /// Its first program is being compiled or its host started.
    Starting,
    Running,
    /// Waits for `run`; its state is kept.
    Frozen,
    /// Runs, but needs more time than it has.
    Late,
    /// Makes no progress although work is due.
    Stuck,
    /// Its host died and is being replaced.
    Recovering,
    /// Waits for the output.
    WaitingForDevice,
    /// Failed repeatedly; waits for `restart` or a push.
    Held,
    Stopped,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cause {
    pub message: String,
    pub revision: Option<RevisionName>,
    pub tick: Option<u64>,
    /// Line of the file, from 1.
    pub line: Option<u32>,
}

/// How a runtime is mixed. The answer to `gain`, `mute`, `solo` and `output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mix {
    /// Linear; 1 is unchanged.
    pub gain: f64,
    pub is_muted: bool,
    pub is_soloed: bool,
    /// Whether it is heard at all: not muted, and soloed if any runtime is.
    pub is_audible: bool,
    /// The channels of the device that it goes to, from 1.
    pub output: Channels,
}

/// A process of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessStatus {
    pub role: ProcessRole,
    /// The runtime it executes.
    pub runtime: Option<RuntimeName>,
    pub pid: u32,
    pub generation: u64,
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ProcessRole {
    CompilerWorker,
    DeviceHost,
    RuntimeHost,
    SpareHost,
}

/// What the control socket has seen since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ControlStatus {
    /// Connected now.
    pub clients: u64,
    /// Requests that wait for their answer now.
    pub calls_waiting: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused because they came from another user.
    pub refused_peers: u64,
    /// Connections and requests refused because there were too many.
    pub refused_busy: u64,
    pub requests: u64,
    /// Lines that were no request.
    pub malformed: u64,
    pub too_large: u64,
    /// Subscribers closed because they did not read.
    pub lagged: u64,
    /// Replies to clients that were gone.
    pub replies_dropped: u64,
}

/// The revisions of a runtime, the newest first. The answer to `list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RevisionList {
    pub runtime: RuntimeName,
    pub revisions: Vec<RevisionEntry>,
}

/// One revision in a runtime's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RevisionEntry {
    pub revision: RevisionName,
    pub change: ChangeId,
    pub class: ChangeClass,
    pub boundary: Boundary,
    /// When it took effect, in milliseconds since 1970.
    pub committed_at_ms: u64,
    /// The tick it took effect at.
    pub tick: u64,
    /// The runtime's current revision.
    pub is_current: bool,
    /// Completed its trial: a rollback may go back to it.
    pub is_good: bool,
    /// Why it is refused, if it is.
    pub refused: Option<Cause>,
}
