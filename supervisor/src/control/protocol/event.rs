//! What happens in a session, as subscribers see it.

use serde::{Deserialize, Serialize};

use super::change::ChangeEvent;
use super::diagnostic::Fault;
use super::params::SetValue;
use super::status::{Mix, ProcessRole};
use super::values::{RevisionName, RuntimeName, WireEnd};

/// Something to subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Topic {
    /// Edits on their way and how they went.
    Changes,
    /// What running programs do wrong.
    Faults,
    /// Deaths, restarts, devices.
    Processes,
    /// What somebody did to a runtime that is no edit: values, freezing, levels.
    Controls,
    /// Levels and load, about ten times a second. An unread one is replaced by the next.
    Meters,
    /// Lines for people.
    Log,
}

impl Topic {
    pub const ALL: [Topic; 6] = [Self::Changes, Self::Faults, Self::Processes, Self::Controls, Self::Meters, Self::Log];
}

/// A set of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u8);

impl Topics {
    pub fn contains(self, topic: Topic) -> bool {
        self.0 & Self::bit(topic) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn insert(&mut self, topic: Topic) {
        self.0 |= Self::bit(topic);
    }

    pub fn remove(&mut self, topic: Topic) {
        self.0 &= !Self::bit(topic);
    }

    pub fn iter(self) -> impl Iterator<Item = Topic> {
        Topic::ALL.into_iter().filter(move |topic| self.contains(*topic))
    }

    /// As a number, for an atomic.
    pub fn bits(self) -> u8 {
        self.0
    }

    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    fn bit(topic: Topic) -> u8 {
        1 << topic as u8
    }
}

impl std::ops::BitOr for Topics {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The parameters of the notification `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "topic", content = "event", rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Event {
    Changes(ChangeEvent),
    Faults(FaultEvent),
    Processes(ProcessEvent),
    Controls(ControlEvent),
    Meters(Meters),
    Log(LogLine),
}

impl Event {
    pub fn topic(&self) -> Topic {
        match self {
            Self::Changes(_) => Topic::Changes,
            Self::Faults(_) => Topic::Faults,
            Self::Processes(_) => Topic::Processes,
            Self::Controls(_) => Topic::Controls,
            Self::Meters(_) => Topic::Meters,
            Self::Log(_) => Topic::Log,
        }
    }

    /// The one runtime it is about, if it is about one.
    pub fn runtime(&self) -> Option<&RuntimeName> {
        match self {
            Self::Changes(event) => Some(&event.runtime),
            Self::Faults(event) => Some(&event.runtime),
            Self::Processes(event) => event.runtime(),
            Self::Controls(event) => event.runtime(),
            Self::Meters(_) => None,
            Self::Log(line) => line.runtime.as_ref(),
        }
    }
}

/// A running program did something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FaultEvent {
    pub runtime: RuntimeName,
    pub generation: u64,
    pub revision: RevisionName,
    pub fault: Fault,
    /// The program is held: it no longer runs, its lane is silent.
    pub is_held: bool,
}

/// Something happened to a process or to the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ProcessEvent {
    /// A runtime's host ended although it should not.
    HostDied { runtime: RuntimeName, generation: u64, pid: u32, signal: Option<i32>, exit_status: Option<i32>, cause: String },
    /// A runtime's host is ready, for the first time or again.
    HostReady {
        runtime: RuntimeName,
        generation: u64,
        pid: u32,
        /// The checkpoint it went on from; null for a first start.
        restored_tick: Option<u64>,
        replayed_ticks: u64,
        /// Blocks the device went without; null for a runtime that makes no sound.
        gap_blocks: Option<u64>,
        /// Ticks that were due and are lost; null for a runtime that makes sound, which loses none.
        lost_ticks: Option<u64>,
    },
    /// A runtime's host makes no progress although work is due.
    HostStalled { runtime: RuntimeName, generation: u64, pid: u32, stalled_ms: u64 },
    /// A host that made no progress goes on by itself; it made none for so long.
    HostResumed { runtime: RuntimeName, generation: u64, stalled_ms: u64 },
    /// A runtime plays, but could not be recovered if its host died.
    RuntimeUnprotected { runtime: RuntimeName, generation: u64, cause: String },
    /// A revision killed its host in the same tick twice; another one has taken its place, with its state.
    RolledBack { runtime: RuntimeName, generation: u64, from: RevisionName, to: RevisionName, cause: String, line: Option<u32> },
    /// A runtime ended because somebody stopped it.
    RuntimeStopped { runtime: RuntimeName, generation: u64 },
    /// A runtime is no longer restarted; it waits for `restart` or a push.
    RuntimeHeld { runtime: RuntimeName, generation: u64, cause: String },
    /// Another process of the session ended although it should not.
    ProcessDied { role: ProcessRole, pid: u32, signal: Option<i32>, exit_status: Option<i32>, cause: String },
    /// Another process of the session is ready, for the first time or again.
    ProcessReady { role: ProcessRole, pid: u32 },
    /// Sound moved to another output.
    DeviceMoved { device: String, is_null: bool, why: String },
    /// The sound is recorded from this block on. `part` counts from 1; the next one is begun when the device host has died, and
    /// between the two `missed_frames` are missing.
    TapeStarted { master: Option<String>, stems: Option<String>, part: u32, block: u64, missed_frames: Option<u64> },
    /// The sound is recorded up to this block; each file is complete, and has so many frames.
    TapeStopped { master: Option<String>, stems: Option<String>, block: u64, frames: u64 },
    /// A port of another program is played on, or sent to, by one of the session's (counted from 1).
    MidiPortFound { direction: MidiDirection, port: u8, name: String },
    /// It has gone. What it held is ended; when it comes back it is connected again.
    MidiPortLost { direction: MidiDirection, port: u8, name: String },
    /// The MIDI clock that the session follows comes in, so fast.
    MidiClockFound { bpm: f64 },
    /// It has been silent for two seconds. The session goes on as fast as it went, and `tempo` sets it until the clock is back.
    MidiClockLost { bpm: f64 },
    /// There is nothing that instruments could be heard and played through. It is looked for all the time, and told once.
    MidiUnavailable { why: String },
    /// A recording ended by itself.
    RecordingStopped { path: String, why: String },
    /// The session ends.
    ShuttingDown {},
}

impl ProcessEvent {
    fn runtime(&self) -> Option<&RuntimeName> {
        match self {
            Self::HostDied { runtime, .. }
            | Self::HostReady { runtime, .. }
            | Self::HostStalled { runtime, .. }
            | Self::HostResumed { runtime, .. }
            | Self::RuntimeUnprotected { runtime, .. }
            | Self::RolledBack { runtime, .. }
            | Self::RuntimeStopped { runtime, .. }
            | Self::RuntimeHeld { runtime, .. } => Some(runtime),
            Self::ProcessDied { .. }
            | Self::ProcessReady { .. }
            | Self::DeviceMoved { .. }
            | Self::TapeStarted { .. }
            | Self::TapeStopped { .. }
            | Self::MidiPortFound { .. }
            | Self::MidiPortLost { .. }
            | Self::MidiClockFound { .. }
            | Self::MidiClockLost { .. }
            | Self::MidiUnavailable { .. }
            | Self::RecordingStopped { .. }
            | Self::ShuttingDown {} => None,
        }
    }
}

/// Whether a port of the session hears or sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum MidiDirection {
    In,
    Out,
}

impl From<ipc::midi::Direction> for MidiDirection {
    fn from(direction: ipc::midi::Direction) -> Self {
        match direction {
            ipc::midi::Direction::In => Self::In,
            ipc::midi::Direction::Out => Self::Out,
        }
    }
}

/// Somebody did something to a runtime that is no edit; told to everybody, so that two clients see the same session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ControlEvent {
    /// Items were given values; they have them from this tick on, or go there in so many ticks.
    Set { runtime: RuntimeName, tick: u64, values: Vec<SetValue>, ramp_ticks: u32 },
    /// Its time stands still from this tick on.
    Frozen { runtime: RuntimeName, tick: u64 },
    /// Its time goes on in this tick.
    Running { runtime: RuntimeName, tick: u64 },
    /// It began again from its defaults in this tick.
    Reset { runtime: RuntimeName, tick: u64 },
    /// The session goes like this from a moment on: beats a minute, and where it is, in beats.
    Tempo { bpm: f64, is_running: bool, beat: f64 },
    /// It is mixed like this now, whoever changed it: `gain`, `mute`, `output`, `panic`, or `solo` of any runtime.
    Mixed { runtime: RuntimeName, mix: Mix },
    /// It hears another runtime, or `@input`, from now on; or it does so no more.
    Routed { from: RuntimeName, runtime: RuntimeName, on: bool, only: bool },
    /// An item of it follows another one from now on.
    Wired { runtime: RuntimeName, to: WireEnd, from: WireEnd },
    /// It does not any more.
    Unwired { runtime: RuntimeName, to: WireEnd },
}

impl ControlEvent {
    fn runtime(&self) -> Option<&RuntimeName> {
        match self {
            Self::Tempo { .. } => None,
            Self::Set { runtime, .. }
            | Self::Frozen { runtime, .. }
            | Self::Running { runtime, .. }
            | Self::Reset { runtime, .. }
            | Self::Mixed { runtime, .. }
            | Self::Routed { runtime, .. }
            | Self::Wired { runtime, .. }
            | Self::Unwired { runtime, .. } => Some(runtime),
        }
    }
}

/// Levels and load of everything that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Meters {
    /// The session clock.
    pub frames: u64,
    /// Highest absolute sample of each channel of the mix since the last event.
    pub peak: [f32; 2],
    pub device_xruns: u64,
    pub runtimes: Vec<RuntimeMeter>,
}

/// Level and load of one runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuntimeMeter {
    pub runtime: RuntimeName,
    pub tick: u64,
    pub peak: [f32; 2],
    pub load_permille: u32,
    pub underruns: u64,
}

/// A line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LogLine {
    pub level: LogLevel,
    pub runtime: Option<RuntimeName>,
    pub line: String,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LogLevel {
    Info,
    Warning,
    Error,
}
