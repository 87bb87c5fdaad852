//! The one table of all verbs: name on the wire, parameters, answer. Adding a verb means adding its parameters, its answer and
//! a line of the table.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answers::*;
use super::change::ChangeReport;
use super::checks::*;
use super::deaths::Deaths;
use super::params::*;
use super::status::{Mix, RevisionList, SessionStatus, WireList, WireStatus};

/// The parameters of a verb.
pub trait Params: Serialize + DeserializeOwned {
    /// The verb's name on the wire.
    const METHOD: &'static str;
    /// What a successful answer carries.
    type Answer: Serialize + DeserializeOwned;

    /// Checks what types alone do not say.
    fn check(&self) -> Result<(), Unfit> {
        Ok(())
    }
}

macro_rules! verbs {
    ($($(#[doc = $doc:literal])+ $name:ident($method:literal) -> $answer:ident $({ check: $check:path })?;)*) => {
        /// A request's verb with its parameters.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Verb {
            $($(#[doc = $doc])+ $name($name),)*
        }

        /// The answer to a verb.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Answer {
            $($name($answer),)*
        }

        /// Every verb's name on the wire.
        pub const METHODS: &[&str] = &[$($method,)*];

        impl Verb {
            pub fn method(&self) -> &'static str {
                match self { $(Self::$name(_) => $method,)* }
            }

            /// Reads the parameters of `method` with `read`; `None` if there is no such verb.
            pub(super) fn read<R: ReadParams>(method: &str, read: R) -> Option<Result<Self, R::Error>> {
                match method {
                    $($method => Some(read.read().map(Self::$name)),)*
                    _ => None,
                }
            }
        }

        impl Answer {
            /// The verb it is an answer to.
            pub fn method(&self) -> &'static str {
                match self { $(Self::$name(_) => $method,)* }
            }
        }

        $(
            impl Params for $name {
                const METHOD: &'static str = $method;
                type Answer = $answer;
                $(fn check(&self) -> Result<(), Unfit> { $check(self) })?
            }
        )*

        /// Reads an answer to `method`, as a client would.
        #[cfg(test)]
        pub fn read_answer(method: &str, answer: serde_json::Value) -> Option<serde_json::Result<Answer>> {
            match method {
                $($method => Some(serde_json::from_value(answer).map(Answer::$name)),)*
                _ => None,
            }
        }

        /// Name, description, parameters and answer of each verb, as schemas.
        #[cfg(test)]
        pub fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, String, schemars::Schema, schemars::Schema)> {
            vec![$((
                $method,
                concat!($($doc),+).trim().to_owned(),
                generator.subschema_for::<$name>(),
                generator.subschema_for::<$answer>(),
            ),)*]
        }
    };
}

/// A way to read the parameters of one verb.
pub(super) trait ReadParams {
    type Error;
    fn read<P: Params>(self) -> Result<P, Self::Error>;
}

verbs! {
    /// Opens the conversation; must be the first request.
    Hello("hello") -> Welcome { check: check_hello };
    /// Asks whether the supervisor answers.
    Ping("ping") -> Pong;
    /// Loads a program into a runtime, or edits the one that runs.
    Push("push") -> ChangeReport { check: check_push };
    /// Asks what a push would do, without doing it.
    Plan("plan") -> ChangeReport { check: check_plan };
    /// Lets a change that waits for an acknowledgement happen.
    Confirm("confirm") -> ChangeReport { check: check_confirm };
    /// Gives up a change that has not taken effect.
    Cancel("cancel") -> Cancelled;
    /// Stops the time of a runtime and keeps its state; changes with the boundary `freeze` take effect.
    Freeze("freeze") -> RuntimeNow;
    /// Lets the time of a frozen runtime go on.
    Run("run") -> RuntimeNow;
    /// Reads memory items.
    Get("get") -> ItemValues { check: check_get };
    /// Sets memory items at a tick.
    Set("set") -> SetAt { check: check_set };
    /// Hands MIDI messages to a program, as if they had come in at a port.
    Midi("midi") -> SetAt { check: check_midi };
    /// Lets an item follow another one, of any runtime: it has its value at the start of each tick.
    Wire("wire") -> WireStatus;
    /// Ends that; the item keeps the value it has.
    Unwire("unwire") -> Unwired;
    /// Lists the control wires.
    Wires("wires") -> WireList;
    /// Sets the level of a runtime.
    Gain("gain") -> Mix { check: check_gain };
    /// Silences a runtime, or lets it sound again.
    Mute("mute") -> Mix;
    /// Silences all runtimes that are not soloed.
    Solo("solo") -> Mix;
    /// Brings a runtime to other channels of the device.
    Output("output") -> Mix;
    /// Starts a runtime again, with its state unless told otherwise.
    Restart("restart") -> RuntimeNow;
    /// Fades a runtime out and ends it.
    Stop("stop") -> RuntimeNow;
    /// Tells what the session is doing.
    Status("status") -> SessionStatus;
    /// Lists the revisions of a runtime.
    List("list") -> RevisionList { check: check_list };
    /// Tells what processes of the session died of.
    WhyDied("whyDied") -> Deaths;
    /// Goes back to an earlier revision.
    Rollback("rollback") -> ChangeReport { check: check_rollback };
    /// Pushes a file now and whenever it changes.
    Watch("watch") -> Watching { check: check_watch };
    /// Stops watching a runtime's file.
    Unwatch("unwatch") -> Watching;
    /// Asks for events.
    Subscribe("subscribe") -> Subscription { check: check_subscribe };
    /// Asks for fewer events.
    Unsubscribe("unsubscribe") -> Subscription;
    /// Silence now, notes off. Runtimes are muted and play on.
    Panic("panic") -> Silenced;
    /// Starts or ends a recording of revisions, seed and inputs.
    Record("record") -> Recording { check: check_record };
    /// Starts or ends a recording of the sound: the master, and a stem of each runtime.
    Tape("tape") -> TapeNow { check: check_tape };
    /// Tells what a recording holds.
    ReplayInfo("replayInfo") -> RecordingInfo { check: check_replay_info };
    /// Fades everything out and ends the session.
    Shutdown("shutdown") -> ShuttingDown;
}

impl Verb {
    /// Whether it is accepted although too many requests wait already: it makes an end of something.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Panic(_) | Self::Shutdown(_))
    }

    /// Whether its answer may take long: it waits for a compile or for a boundary.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Push(_) | Self::Plan(_) | Self::Confirm(_) | Self::Rollback(_))
    }
}
