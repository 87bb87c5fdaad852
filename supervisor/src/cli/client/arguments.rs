//! What the commands that talk to a session take, and the parameters they become. The one table of these commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ipc::tempo::MAX_SIXTEENTHS;

use super::super::midi::beats;
use super::{CommandError, item_name, number, revision, runtime, wire_end, wrong};
use crate::control::protocol::{self, AnswerWhen, ChangeId, MAX_GAIN, SetValue, Topic, Transport};

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
    #[command(after_help = "Examples:\n  continuo push drums drums.8f4e\n  continuo push drums drums.8f4e --boundary pulse --wait")]
    Push(Push),
    /// Tell what a push would do, without doing it.
    #[command(after_help = "Example:\n  continuo plan drums drums.8f4e")]
    Plan(Plan),
    /// Let a change happen that waits for you.
    #[command(after_help = "Examples:\n  continuo confirm 17\n  continuo confirm 17 --boundary freeze --crossfade 50")]
    Confirm(Confirm),
    /// Give up a change that has not taken effect.
    #[command(after_help = "Example:\n  continuo cancel 17")]
    Cancel(Cancel),
    /// Go back to an earlier revision.
    #[command(
        after_help = "Examples:\n  continuo rollback drums\n  continuo rollback drums 0123abcd      the revision of `continuo list drums`"
    )]
    Rollback(Rollback),
    /// Stop the time of a runtime; it keeps its state.
    #[command(after_help = "Example:\n  continuo freeze drums")]
    Freeze(One),
    /// Let the time of a frozen runtime go on (the verb `run` of the protocol).
    #[command(after_help = "Example:\n  continuo unfreeze drums")]
    Unfreeze(One),
    /// Read memory items of a running program.
    #[command(after_help = "Example:\n  continuo get drums kick:decay seq:steps[3]")]
    Get(Get),
    /// Set memory items of a running program.
    #[command(
        after_help = "Examples:\n  continuo set drums kick:decay=0.5 seq:steps[3]=1\n  continuo set drums filter:cutoff=0.9 --ramp 500"
    )]
    Set(Set),
    /// Let an item follow one of another runtime, tick by tick.
    Wire(Wire),
    /// Let it go: it keeps the value it has.
    #[command(after_help = "Example:\n  continuo unwire visual.energy")]
    Unwire(Unwire),
    /// List which item follows which.
    #[command(after_help = "Example:\n  continuo wires")]
    Wires(Talk),
    /// Set the level of a runtime.
    #[command(after_help = "Example:\n  continuo gain drums 0.7 --ramp 500")]
    Gain(Gain),
    /// Silence a runtime; it plays on unheard.
    #[command(after_help = "Examples:\n  continuo mute drums\n  continuo mute drums --off")]
    Mute(Switch),
    /// Silence all runtimes that are not soloed.
    #[command(after_help = "Examples:\n  continuo solo drums\n  continuo solo drums --off")]
    Solo(Switch),
    /// Bring a runtime to other channels of the device.
    #[command(after_help = "Examples:\n  continuo output drums 3-4\n  continuo output drums                  back to 1-2")]
    Output(Output),
    /// Let a runtime hear what another one delivers, or the device's input.
    Route(Route),
    /// Undo a route.
    #[command(after_help = "Example:\n  continuo unroute drums reverb")]
    Unroute(Unroute),
    /// Tell how fast the session goes and where it is, or set it.
    Tempo(Tempo),
    /// Silence now.
    #[command(after_help = "Example:\n  continuo panic                        and `continuo mute drums --off` to hear it again")]
    Panic(Talk),
    /// Start a runtime again.
    #[command(after_help = "Examples:\n  continuo restart drums\n  continuo restart drums --reset")]
    Restart(Restart),
    /// Fade a runtime out and end it.
    #[command(after_help = "Example:\n  continuo stop drums")]
    Stop(One),
    /// Tell what the session is doing.
    #[command(after_help = "Examples:\n  continuo status\n  continuo status drums --json")]
    Status(Status),
    /// Tell what the processes of a runtime, or of the session, died of.
    #[command(after_help = "Example:\n  continuo why-died drums")]
    WhyDied(WhyDied),
    /// List the revisions of a runtime.
    #[command(after_help = "Example:\n  continuo list drums --limit 10")]
    List(List),
    /// Push a file now and whenever it changes.
    #[command(after_help = "Example:\n  continuo watch drums drums.8f4e --boundary pulse")]
    Watch(Watch),
    /// Stop watching a runtime's file.
    #[command(after_help = "Example:\n  continuo unwatch drums")]
    Unwatch(One),
    /// Begin a recording that can be replayed, or end the one that runs.
    #[command(
        after_help = "Examples:\n  continuo record tonight.continuo       begins it\n  continuo record                        ends it; `continuo replay` plays it again"
    )]
    Record(Record),
    /// Record the sound into WAV files while the session plays.
    #[command(after_help = "Examples:\n  continuo tape start --master take.wav --stems stems\n  continuo tape stop\n  \
                          continuo tape start --master loop.wav --at beat\n  continuo tape stop --at beat")]
    Tape(Tape),
    /// Tell what a recording holds.
    #[command(after_help = "Example:\n  continuo replay-info tonight.continuo")]
    ReplayInfo(ReplayInfo),
    /// Follow what happens in the session, until Ctrl-C.
    #[command(after_help = "Examples:\n  continuo events changes faults\n  continuo events --runtime drums --json")]
    Events(Events),
    /// Ask whether the session answers.
    #[command(after_help = "Example:\n  continuo ping --session gig")]
    Ping(Talk),
    /// Fade everything out and end the session.
    #[command(after_help = "Example:\n  continuo shutdown")]
    Shutdown(Talk),
}

impl Verb {
    /// Which session is meant, and how it is to be answered.
    pub fn talk(&self) -> &Talk {
        match self {
            Self::Push(Push { talk, .. }) | Self::Plan(Plan { talk, .. }) | Self::Confirm(Confirm { talk, .. }) => talk,
            Self::Cancel(Cancel { talk, .. }) | Self::Rollback(Rollback { talk, .. }) => talk,
            Self::Freeze(One { talk, .. }) | Self::Unfreeze(One { talk, .. }) | Self::Stop(One { talk, .. }) => talk,
            Self::Unwatch(One { talk, .. }) | Self::Get(Get { talk, .. }) | Self::Set(Set { talk, .. }) => talk,
            Self::Wire(Wire { talk, .. }) | Self::Unwire(Unwire { talk, .. }) | Self::Gain(Gain { talk, .. }) => talk,
            Self::Mute(Switch { talk, .. }) | Self::Solo(Switch { talk, .. }) | Self::Output(Output { talk, .. }) => talk,
            Self::Route(Route { talk, .. }) | Self::Unroute(Unroute { talk, .. }) | Self::Tempo(Tempo { talk, .. }) => talk,
            Self::Restart(Restart { talk, .. }) | Self::Status(Status { talk, .. }) | Self::WhyDied(WhyDied { talk, .. }) => talk,
            Self::List(List { talk, .. }) | Self::Watch(Watch { talk, .. }) | Self::Record(Record { talk, .. }) => talk,
            Self::ReplayInfo(ReplayInfo { talk, .. }) | Self::Events(Events { talk, .. }) => talk,
            Self::Tape(Tape { order: TapeOrder::Start(TapeStart { talk, .. }) | TapeOrder::Stop(TapeStop { talk, .. }) }) => talk,
            Self::Wires(talk) | Self::Panic(talk) | Self::Ping(talk) | Self::Shutdown(talk) => talk,
        }
    }
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
    /// The runtime, such as `drums`; it need not be there yet.
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
    /// The runtime, such as `drums`; `status` lists all.
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
    /// The runtime, such as `drums`; `status` lists all.
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
    /// The runtime, such as `drums`; `status` lists all.
    pub runtime: String,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Get {
    /// The runtime, such as `drums`; `status` lists all.
    pub runtime: String,
    /// `MODULE:ITEM`, or `ITEM` where only one module has it, with `[INDEX]` for one element.
    #[arg(required = true, value_name = "ITEM")]
    pub items: Vec<String>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Set {
    /// The runtime, such as `drums`; `status` lists all.
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
#[command(after_help = "\
Examples:
  continuo wire visual.energy=drums.env:out        the item `energy` of `visual` follows the item `out` of the module `env` of `drums`
  continuo wire visual.colours:all[2]=drums.out    one element of an array

At the start of each tick of the one runtime its item gets the value that the other's had at the end of its last tick; whatever else \
wrote to it gives way, and `set` refuses it. The runtimes may be of different types and rates. What the item cannot hold is not \
taken. A newer wire to the same item takes the place of the older one. When the other runtime stops, or loses its item in an \
edit, the item keeps its value, and follows again when both are there: `continuo wires` tells. Recordings hold what wires brought.")]
pub struct Wire {
    /// The item that follows, and the one it follows: RUNTIME.MODULE:ITEM, or RUNTIME.ITEM where only one module has it.
    #[arg(value_name = "ITEM=ITEM")]
    wire: String,
    #[command(flatten)]
    pub talk: Talk,
}

impl Wire {
    pub fn params(&self) -> Result<protocol::Wire, CommandError> {
        let ends = self.wire.split_once('=');
        let (to, from) = ends.ok_or_else(|| wrong(format!("`{}` must look like visual.energy=drums.env:out", self.wire)))?;
        Ok(protocol::Wire { to: wire_end(to)?, from: wire_end(from)? })
    }
}

#[derive(Args)]
pub struct Unwire {
    /// The item that follows another one: RUNTIME.MODULE:ITEM, or RUNTIME.ITEM where only one module has it.
    pub item: String,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Gain {
    /// The runtime, such as `drums`; `status` lists all.
    pub runtime: String,
    /// Linear, 0 to 8; 1 is unchanged.
    #[arg(allow_negative_numbers = true, value_parser = gain)]
    pub gain: f64,
    /// Go there in so many milliseconds.
    #[arg(long = "ramp", value_name = "MS")]
    pub ramp_ms: Option<u32>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Switch {
    /// The runtime, such as `drums`; `status` lists all.
    pub runtime: String,
    /// Undo it.
    #[arg(long)]
    pub off: bool,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Output {
    /// The runtime, such as `drums`; `status` lists all.
    pub runtime: String,
    /// From 1: `3-4` is left to 3 and right to 4, `3` is both to 3; without it, 1-2. The master of a recording has
    /// channels 1 and 2; each stem has the pair that its runtime goes to.
    #[arg(value_parser = |text: &str| protocol::Channels::new(text))]
    pub channels: Option<protocol::Channels>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  continuo route drums reverb              the reverb hears the drums, which are heard directly as well (a send)
  continuo route drums reverb --only       they are heard through the reverb only (an insert)
  continuo route @input reverb             it hears the device's input, too

A program hears in the item that `; @config audioRuntime.audioInBufferLAddress MODULE:ITEM` names (an array of 128 floats; with \
audioInBufferRAddress the right channel as well), one block after it was played, or as many as the device takes at once: \
`continuo status` tells. What is routed is what a runtime delivers, whatever its gain. A program that nothing is routed to hears \
the device's input. Routes stay when runtimes die or are stopped, and go with the session.")]
pub struct Route {
    /// The runtime that is heard, or `@input`.
    pub from: String,
    /// The runtime that hears it.
    pub to: String,
    /// Heard only there, and not directly.
    #[arg(long)]
    pub only: bool,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Unroute {
    /// The runtime that is heard, or `@input`.
    pub from: String,
    /// The runtime that hears it.
    pub to: String,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Restart {
    /// The runtime, such as `drums`; `status` lists all.
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
    /// The runtime, such as `drums`; `status` lists all.
    pub runtime: String,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    #[command(flatten)]
    pub talk: Talk,
}

#[derive(Args)]
pub struct Watch {
    /// The runtime, such as `drums`; it need not be there yet.
    runtime: String,
    /// The program.
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
    /// The new file; without it, the recording that runs is ended. What runtimes hear, over buses or from the device's input, is
    /// recorded into FILE.heard beside it.
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
    /// Record from the next block on, or from the next beat; the answer names the block. Files are new, and may lie below the
    /// folder that the session was started in, beside its own recording, or where its `--tapes` said.
    Start(TapeStart),
    /// Record no further block, or none from the next beat on; the answer comes when the files are complete.
    Stop(TapeStop),
}

/// Where a recording begins, or ends.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum TapeBoundary {
    /// With the next block.
    #[default]
    Frame,
    /// With the session's next beat (`tempo`), in the block that it lies in.
    Beat,
}

impl From<TapeBoundary> for protocol::TapeBoundary {
    fn from(boundary: TapeBoundary) -> Self {
        match boundary {
            TapeBoundary::Frame => Self::Frame,
            TapeBoundary::Beat => Self::Beat,
        }
    }
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
    /// Where it begins.
    #[arg(long, value_enum, default_value_t)]
    at: TapeBoundary,
    #[command(flatten)]
    pub talk: Talk,
}

impl TapeStart {
    pub fn params(&self) -> Result<protocol::Tape, CommandError> {
        let (master, stems) = (self.master.as_ref().map(path).transpose()?, self.stems.as_ref().map(path).transpose()?);
        Ok(protocol::Tape { master, stems, at: self.at.into() })
    }
}

#[derive(Args)]
pub struct TapeStop {
    /// Where it ends.
    #[arg(long, value_enum, default_value_t)]
    at: TapeBoundary,
    #[command(flatten)]
    pub talk: Talk,
}

impl TapeStop {
    pub fn params(&self) -> protocol::Tape {
        protocol::Tape { master: None, stems: None, at: self.at.into() }
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
Examples:
  continuo tempo                       how fast, and where
  continuo tempo 128
  continuo tempo --start

Programs that name items by `; @config clock.tempoMemory`, `clock.runningMemory` and `clock.beatMemory` are told, and so is who \
follows the session's MIDI clock (`play --clock-out`). What is set takes effect a moment later, everywhere at once.")]
pub struct Tempo {
    /// Beats (quarter notes) a minute.
    #[arg(value_name = "BPM", allow_negative_numbers = true, value_parser = beats)]
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
    #[arg(long, value_name = "BEAT", allow_negative_numbers = true, value_parser = beat)]
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

/// The limits are those of the verbs. What is no number at all could not even be asked for.
fn gain(text: &str) -> Result<f64, String> {
    let gain = text.parse().ok().filter(|gain| (0.0..=MAX_GAIN).contains(gain));
    gain.ok_or_else(|| format!("it must be a linear gain from 0 to {MAX_GAIN}; 1 is unchanged, 0.5 is 6 dB less"))
}

fn beat(text: &str) -> Result<f64, String> {
    let last_beat = MAX_SIXTEENTHS / 4.0;
    let beat = text.parse().ok().filter(|beat| (0.0..=last_beat).contains(beat));
    beat.ok_or_else(|| format!("it must be 0 to {last_beat} beats from the beginning"))
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
