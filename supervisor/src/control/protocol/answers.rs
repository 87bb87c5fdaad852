//! What a successful answer to each verb carries.

use serde::{Deserialize, Serialize};

use super::event::Topic;
use super::status::{ControlStatus, RuntimeState};
use super::values::{ChangeId, Number, RevisionName, RuntimeName, WireEnd};

macro_rules! answers {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        $item
    )*};
}

answers! {
    /// Answer to `hello`.
    pub struct Welcome {
        pub protocol: u32,
        /// The supervisor's version, such as `0.1.0`.
        pub version: String,
        /// Its build identity.
        pub build: String,
        pub session: String,
        pub pid: u32,
        pub limits: ClientLimits,
    }

    /// What a client may cost.
    pub struct ClientLimits {
        pub line_bytes: u64,
        pub json_depth: u64,
        pub changes_waiting: u64,
        pub requests_per_second: u64,
        pub events_unread: u64,
    }

    /// Answer to `ping`.
    pub struct Pong {
        pub control: ControlStatus,
    }

    /// Answer to `cancel`.
    pub struct Cancelled {
        pub change: ChangeId,
    }

    /// Answer to `freeze`, `run`, `restart` and `stop`.
    pub struct RuntimeNow {
        pub runtime: RuntimeName,
        pub state: RuntimeState,
        pub generation: u64,
        /// The tick it happened at.
        pub tick: u64,
        /// The change that took effect with it.
        pub committed: Option<ChangeId>,
    }

    /// Answer to `get`.
    pub struct ItemValues {
        /// The tick after which they were read.
        pub tick: u64,
        pub values: Vec<ItemValue>,
    }

    /// A memory item's value.
    pub struct ItemValue {
        /// `MODULE:ITEM`.
        pub item: String,
        pub kind: ItemKind,
        /// All elements; one for a single value.
        pub values: Vec<Number>,
    }

    /// Answer to `set` and `midi`.
    pub struct SetAt {
        /// The first tick that sees the values, or the messages.
        pub tick: u64,
    }

    /// Answer to `unwire`: what was wired.
    pub struct Unwired {
        pub to: WireEnd,
        pub from: WireEnd,
    }

    /// Answer to `watch` and `unwatch`.
    pub struct Watching {
        pub runtime: RuntimeName,
        /// The file that is watched from now on.
        pub path: Option<String>,
    }

    /// Answer to `subscribe` and `unsubscribe`.
    pub struct Subscription {
        /// All that is subscribed to now.
        pub topics: Vec<Topic>,
        pub runtime: Option<RuntimeName>,
    }

    /// Answer to `tempo`: how it is, or will be in a moment.
    pub struct TempoNow {
        /// Beats (quarter notes) a minute.
        pub bpm: f64,
        /// Whether the transport runs.
        pub is_running: bool,
        /// Where it is, in beats from the beginning.
        pub beat: f64,
        /// The tempo is that of the MIDI clock that comes in.
        pub follows_clock: bool,
        /// That clock is there. While it is not, `tempo` sets how it goes on.
        pub has_clock: bool,
        /// MIDI clock goes out.
        pub sends_clock: bool,
    }

    /// Answer to `panic`.
    pub struct Silenced {
        /// Runtimes that are muted now and were not before.
        pub runtimes: Vec<RuntimeName>,
    }

    /// Answer to `record`.
    pub struct Recording {
        pub path: String,
        /// Whether it goes on.
        pub is_recording: bool,
        /// Session clock at which it began, in frames.
        pub from_frame: u64,
        /// Frames recorded so far.
        pub frames: u64,
    }

    /// Answer to `tape`.
    pub struct TapeNow {
        /// Whether the sound is being recorded.
        pub is_taping: bool,
        pub master: Option<String>,
        pub stems: Option<String>,
        /// The first block of the session that is recorded; at the end, the first that is not.
        pub block: u64,
        /// At the end, how many frames each file has.
        pub frames: u64,
    }

    /// Answer to `replayInfo`.
    pub struct RecordingInfo {
        pub path: String,
        pub build: String,
        pub seed: u64,
        pub frames: u64,
        pub inputs: u64,
        /// Cut off at the end (the recorder was killed); everything before that is good.
        pub is_torn: bool,
        pub runtimes: Vec<RecordedRuntime>,
    }

    /// A runtime of a recording.
    pub struct RecordedRuntime {
        pub runtime: RuntimeName,
        pub runtime_type: String,
        pub revisions: Vec<RevisionName>,
        /// Hash of all its output, where the recording has it.
        pub output_hash: Option<String>,
    }

    /// Answer to `shutdown`.
    pub struct ShuttingDown {
        /// Time that fading out and ending may take.
        pub deadline_ms: u64,
    }
}

/// What an item's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ItemKind {
    Int,
    Float,
    Float64,
}
