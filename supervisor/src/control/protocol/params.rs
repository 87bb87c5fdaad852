//! The parameters of every verb. What types alone do not say is checked in [`super::checks`].

use ipc::midi::Received;
use serde::{Deserialize, Serialize};

use super::event::Topic;
use super::values::{Boundary, ChangeId, Channels, ItemName, Number, RevisionName, RuntimeName, WireEnd};

macro_rules! params {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        $item
    )*};
}

/// Parameters of `hello`. Unknown ones are ignored here, and only here: a client of a later version must be told that its
/// version is not spoken, not that it has misspelt something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hello {
    /// The protocol version the client speaks.
    pub protocol: u32,
    /// What the client is, such as `continuo-cli` or `my-editor 1.2`.
    pub client: String,
}

params! {
    /// Parameters of `ping`.
    pub struct Ping {}

    /// Parameters of `push`. Exactly one of `text` and `path`.
    pub struct Push {
        pub runtime: RuntimeName,
        /// The program.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub text: Option<String>,
        /// Absolute path of a file with the program.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub path: Option<String>,
        /// Absolute path of the folder that relative asset paths of `text` start from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub directory: Option<String>,
        /// The revision this is an edit of. If another one runs by now: `stale_generation`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub base: Option<RevisionName>,
        /// Where it takes effect; without it, at the next tick.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub boundary: Option<Boundary>,
        /// Do not ask before state is lost.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub acknowledge: bool,
        /// Accept a revision that has failed before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub force: bool,
        /// Fade from the old to the new sound where an acknowledged change resets state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub crossfade_ms: Option<u32>,
        /// When to answer.
        #[serde(default)]
        pub answer: AnswerWhen,
    }

    /// Parameters of `plan`. Exactly one of `text` and `path`.
    pub struct Plan {
        pub runtime: RuntimeName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub path: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub directory: Option<String>,
    }

    /// Parameters of `confirm`.
    pub struct Confirm {
        pub change: ChangeId,
        /// Another boundary than the push asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub boundary: Option<Boundary>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub crossfade_ms: Option<u32>,
        /// When to answer.
        #[serde(default)]
        pub answer: AnswerWhen,
    }

    /// Parameters of `cancel`.
    pub struct Cancel {
        pub change: ChangeId,
    }

    /// Parameters of `freeze`.
    pub struct Freeze {
        pub runtime: RuntimeName,
    }

    /// Parameters of `run`.
    pub struct Run {
        pub runtime: RuntimeName,
    }

    /// Parameters of `get`.
    pub struct Get {
        pub runtime: RuntimeName,
        pub items: Vec<ItemName>,
    }

    /// Parameters of `set`. All values take effect at the same tick.
    pub struct Set {
        pub runtime: RuntimeName,
        pub values: Vec<SetValue>,
        /// Go there in this time instead of at once; floats only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ramp_ms: Option<u32>,
        /// Take effect at this tick, at most ten seconds ahead. Without it, and where it has passed, at the next one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub at_tick: Option<u64>,
    }

    /// One item of a `set`.
    pub struct SetValue {
        pub item: ItemName,
        pub value: Number,
    }

    /// Parameters of `midi`. All messages take effect at the same tick, in order.
    pub struct Midi {
        pub runtime: RuntimeName,
        pub messages: Vec<MidiMessage>,
        /// As for `set`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub at_tick: Option<u64>,
    }

    /// A MIDI message.
    pub struct MidiMessage {
        /// The port that it is to have come in at, from 1; without it, 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub port: Option<u8>,
        /// Its bytes, the status first: `[144, 60, 100]` begins a note on the first channel.
        pub bytes: Vec<u8>,
    }

    /// Parameters of `wire`. A newer wire to the same item takes the place of the older one.
    pub struct Wire {
        /// The item that follows. It cannot be `set` as long as it does.
        pub to: WireEnd,
        /// The item that it follows.
        pub from: WireEnd,
    }

    /// Parameters of `unwire`.
    pub struct Unwire {
        pub to: WireEnd,
    }

    /// Parameters of `wires`.
    pub struct Wires {}

    /// Parameters of `gain`.
    pub struct Gain {
        pub runtime: RuntimeName,
        /// Linear, 0 to 8; 1 is unchanged.
        pub gain: f64,
        /// Go there in this time; without it, in a few milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ramp_ms: Option<u32>,
    }

    /// Parameters of `mute`.
    pub struct Mute {
        pub runtime: RuntimeName,
        pub on: bool,
    }

    /// Parameters of `solo`.
    pub struct Solo {
        pub runtime: RuntimeName,
        pub on: bool,
    }

    /// Parameters of `output`.
    pub struct Output {
        pub runtime: RuntimeName,
        /// Channels of the device, from 1: `3-4`, or `3`; without it, `1-2`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub channels: Option<Channels>,
    }

    /// Parameters of `route`.
    pub struct Route {
        /// The runtime that is heard; `@input` is what the device takes in.
        pub from: RuntimeName,
        /// The runtime that hears it.
        pub to: RuntimeName,
        /// What is routed is heard only there, and not directly.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub only: bool,
    }

    /// Parameters of `unroute`.
    pub struct Unroute {
        pub from: RuntimeName,
        pub to: RuntimeName,
    }

    /// Parameters of `restart`.
    pub struct Restart {
        pub runtime: RuntimeName,
        /// Start from the defaults instead of from the present state.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub reset: bool,
        /// The generation that is meant. If another one runs by now: `stale_generation`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub generation: Option<u64>,
    }

    /// Parameters of `stop`.
    pub struct Stop {
        pub runtime: RuntimeName,
    }

    /// Parameters of `status`.
    pub struct Status {
        /// Only this runtime and its processes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub runtime: Option<RuntimeName>,
    }

    /// Parameters of `whyDied`.
    pub struct WhyDied {
        /// Only hosts of this runtime.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub runtime: Option<RuntimeName>,
    }

    /// Parameters of `list`.
    pub struct List {
        pub runtime: RuntimeName,
        /// At most so many, 1 to 1000; without it, 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub limit: Option<u32>,
    }

    /// Parameters of `rollback`.
    pub struct Rollback {
        pub runtime: RuntimeName,
        /// Where to; without it, the last good revision before the present one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub revision: Option<RevisionName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub boundary: Option<Boundary>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub acknowledge: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub crossfade_ms: Option<u32>,
        #[serde(default)]
        pub answer: AnswerWhen,
    }

    /// Parameters of `watch`.
    pub struct Watch {
        pub runtime: RuntimeName,
        /// Absolute path of the file.
        pub path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub boundary: Option<Boundary>,
    }

    /// Parameters of `unwatch`.
    pub struct Unwatch {
        pub runtime: RuntimeName,
    }

    /// Parameters of `subscribe`. What is subscribed to already stays.
    pub struct Subscribe {
        pub topics: Vec<Topic>,
        /// Of events that concern one runtime, only this one's. Replaces an earlier choice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub runtime: Option<RuntimeName>,
    }

    /// Parameters of `unsubscribe`.
    pub struct Unsubscribe {
        /// Without it, all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub topics: Option<Vec<Topic>>,
    }

    /// Parameters of `tempo`. Without any, nothing is changed.
    pub struct Tempo {
        /// Beats (quarter notes) a minute, 10 to 999.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bpm: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub transport: Option<Transport>,
        /// Go there, in beats from the beginning, to the sixteenth note before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub beat: Option<f64>,
    }

    /// Parameters of `panic`.
    pub struct Panic {}

    /// Parameters of `record`.
    pub struct Record {
        /// Start a recording into this new file (absolute path); without it, end the one that runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub path: Option<String>,
    }

    /// Parameters of `tape`. With neither, the recording that runs is ended.
    pub struct Tape {
        /// Record what the device is given into this new file (absolute path).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub master: Option<String>,
        /// Record what each runtime adds to it, its level included, into a new file `RUNTIME.wav` in this folder (absolute path).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub stems: Option<String>,
        /// Where it begins, or ends.
        #[serde(default)]
        pub at: TapeBoundary,
    }

    /// Parameters of `replayInfo`.
    pub struct ReplayInfo {
        /// Absolute path of a recording.
        pub path: String,
    }

    /// Parameters of `shutdown`.
    pub struct Shutdown {}
}

/// What the transport is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Transport {
    /// Run, from the beginning.
    Start,
    /// Stand still.
    Stop,
    /// Run, from where it is.
    Continue,
}

/// Where a recording of the sound begins, or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum TapeBoundary {
    /// With the next block.
    #[default]
    Frame,
    /// With the block that the session's next beat lies in.
    Beat,
}

/// When a change is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum AnswerWhen {
    /// As soon as it is known what it does; how it goes on is told by events of the topic `changes`.
    #[default]
    Planned,
    /// When it has taken effect; if it does not, the answer is an error.
    Committed,
}

impl MidiMessage {
    /// As the host takes it; `None` where it is no message that can come in.
    pub fn received(&self) -> Option<Received> {
        let message = match self.bytes[..] {
            [status] => [status, 0, 0],
            [status, first] => [status, first, 0],
            [status, first, second] => [status, first, second],
            _ => return None,
        };
        Some(Received { port: self.port.unwrap_or(1), message }).filter(|received| received.is_sound())
    }
}
