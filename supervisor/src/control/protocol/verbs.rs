//! Every verb: its parameters, the answer to it, and the one table that names them all. Adding a verb means adding its
//! parameters and a line of the table.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::change::ChangeReport;
use super::event::Topic;
use super::status::{ControlStatus, Mix, RevisionList, RuntimeState, SessionStatus};
use super::values::{Boundary, ChangeId, ItemName, Number, RevisionName, RuntimeName};

/// Longest client name in bytes.
const MAX_CLIENT_NAME_BYTES: usize = 64;

/// Longest path in bytes, as the kernel has it.
const MAX_PATH_BYTES: usize = 4_096;

/// Items that one `get` or `set` may name.
const MAX_ITEMS: usize = 1_024;

/// Largest linear gain: +18 dB. More than this is a slip of the finger.
const MAX_GAIN: f64 = 8.0;

/// Longest ramp or crossfade in milliseconds.
const MAX_RAMP_MS: u32 = 60_000;

/// A parameter that has the right type, but cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The parameter, such as `path`.
    pub field: &'static str,
    pub expected: String,
}

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
    /// Sets the level of a runtime.
    Gain("gain") -> Mix { check: check_gain };
    /// Silences a runtime, or lets it sound again.
    Mute("mute") -> Mix;
    /// Silences all runtimes that are not soloed.
    Solo("solo") -> Mix;
    /// Starts a runtime again, with its state unless told otherwise.
    Restart("restart") -> RuntimeNow;
    /// Fades a runtime out and ends it.
    Stop("stop") -> RuntimeNow;
    /// Tells what the session is doing.
    Status("status") -> SessionStatus;
    /// Lists the revisions of a runtime.
    List("list") -> RevisionList { check: check_list };
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

macro_rules! params {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        $item
    )*};
}

macro_rules! answers {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
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
    }

    /// One item of a `set`.
    pub struct SetValue {
        pub item: ItemName,
        pub value: Number,
    }

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

    /// Parameters of `panic`.
    pub struct Panic {}

    /// Parameters of `record`.
    pub struct Record {
        /// Start a recording into this new file (absolute path); without it, end the one that runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub path: Option<String>,
    }

    /// Parameters of `replayInfo`.
    pub struct ReplayInfo {
        /// Absolute path of a recording.
        pub path: String,
    }

    /// Parameters of `shutdown`.
    pub struct Shutdown {}
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

    /// Answer to `set`.
    pub struct SetAt {
        /// The first tick that sees the values.
        pub tick: u64,
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

fn unfit<T: Into<String>>(field: &'static str, expected: T) -> Result<(), Unfit> {
    Err(Unfit { field, expected: expected.into() })
}

fn check_hello(hello: &Hello) -> Result<(), Unfit> {
    if (1..=MAX_CLIENT_NAME_BYTES).contains(&hello.client.len()) && !hello.client.chars().any(char::is_control) {
        Ok(())
    } else {
        unfit("client", format!("a name of 1 to {MAX_CLIENT_NAME_BYTES} bytes without control characters"))
    }
}

fn check_path(field: &'static str, path: &str) -> Result<(), Unfit> {
    if path.starts_with('/') && path.len() < MAX_PATH_BYTES && !path.contains('\0') {
        Ok(())
    } else {
        unfit(field, "an absolute path (the supervisor's working directory is not yours)")
    }
}

fn check_source(text: Option<&str>, path: Option<&str>, directory: Option<&str>) -> Result<(), Unfit> {
    match (text, path, directory) {
        (Some(_), Some(_), _) => unfit("path", "either `text` or `path`, not both"),
        (None, None, _) => unfit("text", "the program as `text`, or its `path`"),
        (None, Some(_), Some(_)) => unfit("directory", "no `directory` with `path`: it is the file's own"),
        (None, Some(path), None) => check_path("path", path),
        (Some(_), None, Some(directory)) => check_path("directory", directory),
        (Some(_), None, None) => Ok(()),
    }
}

fn check_time(field: &'static str, time_ms: Option<u32>) -> Result<(), Unfit> {
    if time_ms.is_none_or(|time_ms| time_ms <= MAX_RAMP_MS) { Ok(()) } else { unfit(field, format!("0 to {MAX_RAMP_MS} milliseconds")) }
}

fn check_count(field: &'static str, count: usize) -> Result<(), Unfit> {
    if (1..=MAX_ITEMS).contains(&count) { Ok(()) } else { unfit(field, format!("1 to {MAX_ITEMS} items")) }
}

fn check_push(push: &Push) -> Result<(), Unfit> {
    check_source(push.text.as_deref(), push.path.as_deref(), push.directory.as_deref())?;
    check_time("crossfadeMs", push.crossfade_ms)
}

fn check_plan(plan: &Plan) -> Result<(), Unfit> {
    check_source(plan.text.as_deref(), plan.path.as_deref(), plan.directory.as_deref())
}

fn check_confirm(confirm: &Confirm) -> Result<(), Unfit> {
    check_time("crossfadeMs", confirm.crossfade_ms)
}

fn check_get(get: &Get) -> Result<(), Unfit> {
    check_count("items", get.items.len())
}

fn check_set(set: &Set) -> Result<(), Unfit> {
    check_count("values", set.values.len())?;
    if set.values.iter().any(|one| !one.value.is_finite()) {
        return unfit("values", "finite numbers");
    }
    check_time("rampMs", set.ramp_ms)
}

fn check_gain(gain: &Gain) -> Result<(), Unfit> {
    if !(0.0..=MAX_GAIN).contains(&gain.gain) {
        return unfit("gain", format!("a linear gain from 0 to {MAX_GAIN}"));
    }
    check_time("rampMs", gain.ramp_ms)
}

fn check_list(list: &List) -> Result<(), Unfit> {
    if list.limit.is_none_or(|limit| (1..=1_000).contains(&limit)) { Ok(()) } else { unfit("limit", "1 to 1000") }
}

fn check_rollback(rollback: &Rollback) -> Result<(), Unfit> {
    check_time("crossfadeMs", rollback.crossfade_ms)
}

fn check_watch(watch: &Watch) -> Result<(), Unfit> {
    check_path("path", &watch.path)
}

fn check_subscribe(subscribe: &Subscribe) -> Result<(), Unfit> {
    if subscribe.topics.is_empty() { unfit("topics", "at least one topic") } else { Ok(()) }
}

fn check_record(record: &Record) -> Result<(), Unfit> {
    record.path.as_deref().map_or(Ok(()), |path| check_path("path", path))
}

fn check_replay_info(info: &ReplayInfo) -> Result<(), Unfit> {
    check_path("path", &info.path)
}
