//! What the commands that talk to a session take, and the parameters they become. The one table of these commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{CommandError, item_name, number, revision, runtime, wrong};
use crate::control::protocol::{self, AnswerWhen, ChangeId, SetValue, Topic, Transport};

/// Which session is meant, and how to show its answer.
#[derive(Args)]
pub struct Talk {
    /// The session to talk to.
    #[arg(long, value_name = "NAME")]
    pub session: Option<String>,
    /// Print the answer as one JSON object; an error as one with the key `error`.
    #[arg(long)]
    pub json: bool,
}

/// Commands that talk to a running session.
#[derive(Subcommand)]
pub enum Verb {
    /// Load a program into a runtime of the running session, or edit the one that plays.
    Push(Push),
    /// Tell what a push would do, without doing it.
    Plan(Plan),
    /// Let a change happen that waits for you.
    Confirm(Confirm),
    /// Give up a change that has not taken effect.
    Cancel(Cancel),
    /// Go back to an earlier revision.
    Rollback(Rollback),
    /// Stop the time of a runtime; it keeps its state.
    Freeze(One),
    /// Let the time of a frozen runtime go on (the verb `run` of the protocol).
    Unfreeze(One),
    /// Read memory items of a running program.
    Get(Get),
    /// Set memory items of a running program.
    Set(Set),
    /// Set the level of a runtime.
    Gain(Gain),
    /// Silence a runtime; it plays on unheard.
    Mute(Switch),
    /// Silence all runtimes that are not soloed.
    Solo(Switch),
    /// Tell how fast the session goes and where it is, or set it.
    Tempo(Tempo),
    /// Bring a runtime to other channels of the device.
    Output(Output),
    /// Silence now.
    Panic(Talk),
    /// Start a runtime again.
    Restart(Restart),
    /// Fade a runtime out and end it.
    Stop(One),
    /// Tell what the session is doing.
    Status(Status),
    /// Tell what the processes of a runtime, or of the session, died of.
    WhyDied(WhyDied),
    /// List the revisions of a runtime.
    List(List),
    /// Push a file now and whenever it changes.
    Watch(Watch),
    /// Stop watching a runtime's file.
    Unwatch(One),
    /// Begin a recording that can be replayed, or end the one that runs.
    Record(Record),
    /// Record the sound into WAV files while the session plays.
    Tape(Tape),
    /// Tell what a recording holds.
    ReplayInfo(ReplayInfo),
    /// Follow what happens in the session, until Ctrl-C.
    Events(Events),
    /// Ask whether the session answers.
    Ping(Talk),
    /// Fade everything out and end the session.
    Shutdown(Talk),
}

/// Where a change takes effect.
#[derive(Clone, Copy, ValueEnum)]
pub enum Boundary {
    /// The next tick.
    Frame,
    /// The program's next pulse.
    Pulse,
    /// When the runtime is frozen.
    Freeze,
}

impl From<Boundary> for protocol::Boundary {
    fn from(boundary: Boundary) -> Self {
        match boundary {
            Boundary::Frame => Self::Frame,
            Boundary::Pulse => Self::Pulse,
            Boundary::Freeze => Self::Freeze,
        }
    }
}

/// How a change is to take effect.
#[derive(Args)]
pub struct How {
    /// Where it takes effect.
    #[arg(long, value_enum)]
    boundary: Option<Boundary>,
    /// Do not ask before state is lost.
    #[arg(long)]
    acknowledge: bool,
    /// Blend the old into the new sound, in milliseconds.
    #[arg(long, value_name = "MS")]
    crossfade: Option<u32>,
    /// Answer when it has taken effect.
    #[arg(long)]
    wait: bool,
}

impl How {
    fn boundary(&self) -> Option<protocol::Boundary> {
        self.boundary.map(Into::into)
    }

    fn answer(&self) -> AnswerWhen {
        if self.wait { AnswerWhen::Committed } else { AnswerWhen::Planned }
    }
}

#[derive(Args)]
pub struct Push {
    runtime: String,
    /// The program.
    file: PathBuf,
    #[command(flatten)]
    how: How,
    /// Accept a text that has failed before.
    #[arg(long)]
    force: bool,
    /// The revision this is an edit of; if another one plays by now, nothing happens.
    #[arg(long, value_name = "REVISION")]
    base: Option<String>,
    #[command(flatten)]
    pub talk: Talk,
}

impl Push {
    pub fn params(&self) -> Result<protocol::Push, CommandError> {
        Ok(protocol::Push {
            runtime: runtime(&self.runtime)?,
            text: None,
            path: Some(path(&self.file)?),
            directory: None,
            base: self.base.as_deref().map(revision).transpose()?,
            boundary: self.how.boundary(),
            acknowledge: self.how.acknowledge,
            force: self.force,
            crossfade_ms: self.how.crossfade,
            answer: self.how.answer(),
        })
    }
}

#[derive(Args)]
pub struct Plan {
    runtime: String,
    /// The edited program.
    file: PathBuf,
    #[command(flatten)]
    pub talk: Talk,
}

impl Plan {
    pub fn params(&self) -> Result<protocol::Plan, CommandError> {
        Ok(protocol::Plan { runtime: runtime(&self.runtime)?, text: None, path: Some(path(&self.file)?), directory: None })
    }
}

#[derive(Args)]
pub struct Confirm {
    /// Number of the change.
    change: u64,
    /// Where it takes effect.
    #[arg(long, value_enum)]
    boundary: Option<Boundary>,
    /// Blend the old into the new sound, in milliseconds.
    #[arg(long, value_name = "MS")]
    crossfade: Option<u32>,
    /// Answer when it has taken effect.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub talk: Talk,
}

impl Confirm {
    pub fn params(&self) -> protocol::Confirm {
        protocol::Confirm {
            change: ChangeId(self.change),
            boundary: self.boundary.map(Into::into),
            crossfade_ms: self.crossfade,
            answer: if self.wait { AnswerWhen::Committed } else { AnswerWhen::Planned },
        }
    }
}

#[derive(Args)]
pub struct Cancel {
    /// Number of the change.
    pub change: u64,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Rollback {
    runtime: String,
    /// Where to; without it, the last good revision before the present one.
    revision: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    pub talk: Talk,
}

impl Rollback {
    pub fn params(&self) -> Result<protocol::Rollback, CommandError> {
        Ok(protocol::Rollback {
            runtime: runtime(&self.runtime)?,
            revision: self.revision.as_deref().map(revision).transpose()?,
            boundary: self.how.boundary(),
            acknowledge: self.how.acknowledge,
            crossfade_ms: self.how.crossfade,
            answer: self.how.answer(),
        })
    }
}

/// A runtime, and nothing else.
#[derive(Args)]
pub struct One {
    pub runtime: String,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Get {
    pub runtime: String,
    /// `MODULE:ITEM`, or `ITEM` where only one module has it, with `[INDEX]` for one element.
    #[arg(required = true, value_name = "ITEM")]
    pub items: Vec<String>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Set {
    runtime: String,
    /// `ITEM=VALUE`; all of them take effect at the same tick.
    #[arg(required = true, value_name = "ITEM=VALUE")]
    values: Vec<String>,
    /// Go there in so many milliseconds; floats only.
    #[arg(long, value_name = "MS")]
    ramp: Option<u32>,
    #[command(flatten)]
    pub talk: Talk,
}

impl Set {
    pub fn params(&self) -> Result<protocol::Set, CommandError> {
        let value = |text: &String| {
            let (item, value) = text.split_once('=').ok_or_else(|| wrong(format!("`{text}` must look like MODULE:ITEM=VALUE")))?;
            Ok(SetValue { item: item_name(item)?, value: number(value)? })
        };
        let values = self.values.iter().map(value).collect::<Result<_, CommandError>>()?;
        Ok(protocol::Set { runtime: runtime(&self.runtime)?, values, ramp_ms: self.ramp, at_tick: None })
    }
}

#[derive(Args)]
pub struct Gain {
    pub runtime: String,
    /// Linear, 0 to 8; 1 is unchanged.
    pub gain: f64,
    /// Go there in so many milliseconds.
    #[arg(long = "ramp", value_name = "MS")]
    pub ramp_ms: Option<u32>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Switch {
    pub runtime: String,
    /// Undo it.
    #[arg(long)]
    pub off: bool,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Output {
    pub runtime: String,
    /// From 1: `3-4` is left to 3 and right to 4, `3` is both to 3; without it, 1-2. A program with one output only is heard on
    /// both channels. The master of a recording has channels 1 and 2; each stem has the pair that its runtime goes to.
    #[arg(value_parser = |text: &str| protocol::Channels::new(text))]
    pub channels: Option<protocol::Channels>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Restart {
    pub runtime: String,
    /// From its defaults, instead of with its state.
    #[arg(long)]
    pub reset: bool,
    /// Only if it is still in this generation.
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Status {
    /// Only this runtime.
    pub runtime: Option<String>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct WhyDied {
    /// Only hosts of this runtime.
    pub runtime: Option<String>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct List {
    pub runtime: String,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Watch {
    runtime: String,
    file: PathBuf,
    /// Where its edits take effect.
    #[arg(long, value_enum)]
    boundary: Option<Boundary>,
    #[command(flatten)]
    pub talk: Talk,
}

impl Watch {
    pub fn params(&self) -> Result<protocol::Watch, CommandError> {
        Ok(protocol::Watch { runtime: runtime(&self.runtime)?, path: path(&self.file)?, boundary: self.boundary.map(Into::into) })
    }
}

#[derive(Args)]
pub struct Record {
    /// The new file; without it, the recording that runs is ended.
    file: Option<PathBuf>,
    #[command(flatten)]
    pub talk: Talk,
}

impl Record {
    pub fn params(&self) -> Result<protocol::Record, CommandError> {
        Ok(protocol::Record { path: self.file.as_ref().map(path).transpose()? })
    }
}

#[derive(Args)]
pub struct Tape {
    #[command(subcommand)]
    pub order: TapeOrder,
}

/// What is to be done about the recording of the sound.
#[derive(Subcommand)]
pub enum TapeOrder {
    /// Record from the next block on; the answer names it. Files are new, and may lie below the folder that the session was
    /// started in, beside its own recording, or where its `--tapes` said.
    Start(TapeStart),
    /// Record no further block; the answer comes when the files are complete.
    Stop(Talk),
}

#[derive(Args)]
#[group(id = "what", required = true, multiple = true, args = ["master", "stems"])]
pub struct TapeStart {
    /// What the device is given, behind the limit at full scale.
    #[arg(long, value_name = "FILE")]
    master: Option<PathBuf>,
    /// A folder for one file of each runtime, `RUNTIME.wav`: what it adds to the master, behind gain, mute and solo. All files are
    /// equally long and aligned to the sample.
    #[arg(long, value_name = "FOLDER")]
    stems: Option<PathBuf>,
    #[command(flatten)]
    pub talk: Talk,
}

impl TapeStart {
    pub fn params(&self) -> Result<protocol::Tape, CommandError> {
        Ok(protocol::Tape { master: self.master.as_ref().map(path).transpose()?, stems: self.stems.as_ref().map(path).transpose()? })
    }
}

#[derive(Args)]
pub struct ReplayInfo {
    /// The recording.
    file: PathBuf,
    #[command(flatten)]
    pub talk: Talk,
}

impl ReplayInfo {
    pub fn params(&self) -> Result<protocol::ReplayInfo, CommandError> {
        Ok(protocol::ReplayInfo { path: path(&self.file)? })
    }
}

#[derive(Args)]
#[command(after_help = "\
Programs that name items by `; @config clock.tempoMemory`, `clock.runningMemory` and `clock.beatMemory` are told, and so is who \
follows the session's MIDI clock (`play --clock-out`). What is set takes effect a moment later, everywhere at once.")]
pub struct Tempo {
    /// Beats (quarter notes) a minute.
    #[arg(value_name = "BPM")]
    bpm: Option<f64>,
    /// Run, from the beginning.
    #[arg(long, group = "transport")]
    start: bool,
    /// Stand still.
    #[arg(long, group = "transport")]
    stop: bool,
    /// Run, from where it is.
    #[arg(long = "continue", group = "transport")]
    go_on: bool,
    /// Go there, in beats from the beginning.
    #[arg(long, value_name = "BEAT")]
    beat: Option<f64>,
    #[command(flatten)]
    pub talk: Talk,
}

impl Tempo {
    pub fn params(&self) -> protocol::Tempo {
        let transport = match (self.start, self.stop, self.go_on) {
            (true, ..) => Some(Transport::Start),
            (_, true, _) => Some(Transport::Stop),
            (.., true) => Some(Transport::Continue),
            (false, false, false) => None,
        };
        protocol::Tempo { bpm: self.bpm, transport, beat: self.beat }
    }
}

#[derive(Args)]
pub struct Events {
    /// Topics: changes, faults, processes, controls, meters, log. Without any: all but meters.
    #[arg(value_name = "TOPIC", value_parser = topic)]
    pub topics: Vec<Topic>,
    /// Of events about a runtime, only this one's.
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    #[command(flatten)]
    pub talk: Talk,
}

fn topic(text: &str) -> Result<Topic, String> {
    let known = Topic::ALL.into_iter().find(|topic| serde_json::to_value(topic).is_ok_and(|name| name == text));
    known.ok_or_else(|| "it must be one of changes, faults, processes, controls, meters, log".to_owned())
}

/// The supervisor has a working directory of its own.
fn path(path: &PathBuf) -> Result<String, CommandError> {
    let absolute = std::path::absolute(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    absolute.into_os_string().into_string().map_err(|path| wrong(format!("{} is not a path in UTF-8", path.display())))
}
