//! One supervisor in the place of another: what is noted of a session while it runs, and how a state machine is built from it
//! that goes on. Part of the state machine: see the parent module.
//!
//! Notes hold what cannot be learnt from the children: texts, histories, levels, which segments belong to whom, what a host has
//! been asked. What the children know better they say themselves ([`Presence`]), and they were there when the last supervisor
//! was not: where both speak, they are believed. An edit that had not reached its host, and a question about one, die with the
//! supervisor; watched files that differ from what plays are edits again.
//!
//! [`Policy::notes`] and [`Policy::take_back`] are pure; the ledger and the artifacts are read by the shell.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::live::{LiveChange, RequestId};
use ipc::message::{DeviceReply, HostReply, OutputMap};
use ipc::recovery::Presence;
use ipc::segment::SegmentRef;
use ipc::tempo::Tempo;
use ipc::wires::WireId;
use serde::{Deserialize, Serialize};

use super::blame::Remedy;
use super::gaps::Underruns;
use super::hosts::Duty;
use super::keep::Keep;
use super::process::{Life, Process};
use super::program::{Lane, Phase, Program};
use super::restarts::RestartLimits;
use super::routes::{Route, Routes};
use super::runtime::{Classified, Edit, EditStage, Flight, HistoryEntry, Later, Level, Probation, Revision, Runtime, Trial, Way, Wishes};
use super::tape::TapeNote;
use super::wires::{Board, Wire};
use super::{
    Action, Child, CompileSettings, Device, Event, Goal, HostIndex, Plan, Policy, ProgramText, Report, RuntimeIndex, Stage, TempoSetup,
    edits,
};
use crate::change;
use crate::control::protocol::{Boundary, Cause, ChangeClass, ChangeId, Channels, Timings};

/// Revisions of a runtime's history that are noted; beyond, what `list` tells is the running supervisor's own.
const NOTED_HISTORY: usize = 100;

/// How long gains take that are told once more, in milliseconds.
const RAMP_MS: u32 = 10;

/// A text by its hash; the source itself is noted once for all who name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextNote {
    pub name: String,
    pub path: PathBuf,
    pub base_directory: PathBuf,
    pub source: ContentHash,
}

/// A compiled state of a program. Its plan is in its artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionNote {
    pub hash: ContentHash,
    pub text: TextNote,
    pub settings: Option<CompileSettings>,
    previous: Option<ContentHash>,
}

/// What holds for the whole session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionNote {
    sample_rate: Option<(u32, Option<String>)>,
    asks_for_any_loss: bool,
    restart_limits: RestartLimits,
    epoch_ms: u64,
    last_host: usize,
    worker_generation: u64,
    device_generation: u64,
    last_change: u64,
    begun_device: u64,
    first_frame: Option<u64>,
    midi_files_from: Option<u64>,
    device_name: Option<(String, u32, u32)>,
    /// The number of the last tape, and the one that is written.
    tape: (u64, Option<TapeNote>),
    routes: Vec<Route>,
    tempo: (TempoSetup, Tempo),
    wires: (Vec<Wire>, WireId),
}

/// What counts on all the time, and need not be noted for its own sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reckoning {
    last_live_request: RequestId,
    frames: u64,
    frames_at_ms: u64,
}

/// How far a life of a runtime is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum LifeStage {
    /// Its host does not run it yet.
    Coming,
    Running,
    Recovering,
    Quarantined,
}

/// One life of a runtime that is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifeNote {
    runtime: usize,
    lane_name: String,
    generation: u64,
    stage: LifeStage,
    lane: Option<SegmentRef>,
    /// What it has for its control wires.
    board: Option<SegmentRef>,
    is_lane_added: bool,
    was_lane_added: bool,
    is_retiring: bool,
    gain: f32,
    route: OutputMap,
    keep: Keep,
    host: Option<usize>,
    text: TextNote,
    last_death: Option<(ContentHash, u64)>,
    remedy: Option<Remedy>,
    underruns: Underruns,
}

/// A line of a runtime's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HistoryNote {
    hash: ContentHash,
    text: TextNote,
    change: u64,
    origin: u64,
    class: ChangeClass,
    boundary: Boundary,
    committed_ms: u64,
    tick: u64,
    is_good: bool,
    refused: Option<Cause>,
}

/// A change that the host had been asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FlightNote {
    change: u64,
    request: RequestId,
    revision: RevisionNote,
    artifact: SegmentRef,
    boundary: Boundary,
    crossfade_ms: u32,
    good: Option<RevisionNote>,
}

/// A revision on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TrialNote {
    change: u64,
    request: RequestId,
    revision: RevisionNote,
    base: RevisionNote,
    other_base: Option<RevisionNote>,
    is_patch: bool,
    later: Vec<LaterNote>,
}

/// A patch on top of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LaterNote {
    change: u64,
    request: Option<RequestId>,
    revision: RevisionNote,
}

/// A named runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuntimeNote {
    pub name: String,
    slot: Option<usize>,
    generation: u64,
    last_generation: u64,
    current: Option<RevisionNote>,
    last: Option<TextNote>,
    history: Vec<HistoryNote>,
    refused: Vec<(ContentHash, Cause)>,
    level: (f64, bool, bool),
    output: Channels,
    watching: Option<PathBuf>,
    /// What the watched file held when it was last taken for an edit that has come to its end.
    seen: Option<ContentHash>,
    watch_boundary: Boundary,
    is_frozen: bool,
    cause: Option<Cause>,
    /// Changes that waited for an answer.
    asked_about: Vec<u64>,
    flight: Option<FlightNote>,
    trial: Option<TrialNote>,
    /// Change, the tick up to which it has to play, and since when it is frozen.
    probation: Option<(u64, u64, Option<u64>)>,
    restarts: u64,
}

/// Everything that is noted of a session, by the indexes of its lives and runtimes.
#[derive(Clone, Debug, PartialEq)]
pub struct Notes {
    pub session: SessionNote,
    pub reckoning: Reckoning,
    pub lives: BTreeMap<usize, LifeNote>,
    pub runtimes: BTreeMap<usize, RuntimeNote>,
}

/// What the shell has found beside the notes.
#[derive(Debug, Default)]
pub struct Found {
    /// Sources by their hashes.
    pub texts: HashMap<ContentHash, Arc<str>>,
    /// Plans of the revisions whose artifacts are still there.
    pub plans: HashMap<ContentHash, Plan>,
    /// The hosts that have come, by their numbers, with their process ids.
    pub hosts: BTreeMap<usize, (u32, Presence)>,
    /// Hosts that were there and stood still, so that they have been killed.
    pub given_up: BTreeSet<usize>,
    /// Process id of the device host, if it has come.
    pub device: Option<u32>,
}

/// What there is to do when the session goes on.
#[derive(Debug, Default)]
pub(super) struct Homecoming {
    /// Hosts that have come, with what they say.
    present: Vec<(RuntimeIndex, Presence)>,
    /// Those of them whose takeover the last supervisor has not heard of.
    unheard: BTreeSet<RuntimeIndex>,
    /// Lanes that the device host need not read any more, and segments without an owner.
    lanes: Vec<RuntimeIndex>,
    released: Vec<String>,
    /// Runtimes to start from their text, because what ran cannot be gone on with.
    lost: Vec<(usize, ProgramText)>,
    /// Changes that waited for an answer which nobody can give any more.
    dropped: Vec<(RuntimeIndex, u64)>,
    /// Lanes of lives that begin once more, under other names: each is the life of nobody, until it is gone.
    nobodys: Vec<(String, ProgramText)>,
}

impl Notes {
    /// Hosts that a runtime cannot do without, each with the name of its runtime.
    pub fn hosts(&self) -> BTreeMap<usize, String> {
        let kept = self.lives.iter().filter(|(life, note)| self.is_present(**life, note));
        let running = kept.filter(|(_, note)| matches!(note.stage, LifeStage::Running | LifeStage::Recovering));
        running.filter_map(|(_, note)| Some((note.host?, self.runtimes.get(&note.runtime)?.name.clone()))).collect()
    }

    /// Number of the device host.
    pub fn device(&self) -> u64 {
        self.session.device_generation
    }

    /// Segments that go on being needed.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        let kept = self.lives.iter().filter(|(life, note)| self.is_present(**life, note));
        kept.flat_map(|(_, note)| note.lane.iter().chain(&note.board).chain(note.keep.segments()))
    }

    /// Every revision whose plan is needed, with its artifact.
    pub fn revisions(&self) -> Vec<(&RevisionNote, &SegmentRef)> {
        let mut found = Vec::new();
        for runtime in self.runtimes.values() {
            let Some(life) = runtime.slot.and_then(|slot| self.lives.get(&slot)) else { continue };
            for revision in runtime.revisions() {
                let kept = life.keep.programs().iter().find(|kept| kept.revision == revision.hash);
                found.extend(kept.map(|kept| (revision, &kept.artifact)));
            }
        }
        found
    }

    /// Every text that is named.
    pub fn texts(&self) -> BTreeSet<String> {
        let mut hashes = BTreeSet::new();
        let mut name = |text: &TextNote| {
            hashes.insert(text.source.to_string());
        };
        self.lives.values().for_each(|life| name(&life.text));
        for runtime in self.runtimes.values() {
            let trial = runtime.trial.iter().flat_map(TrialNote::revisions).map(|revision| &revision.text);
            let flight = runtime.flight.iter().flat_map(|flight| std::iter::once(&flight.revision).chain(&flight.good));
            let flight = flight.map(|revision| &revision.text);
            let current = runtime.current.iter().map(|current| &current.text);
            let history = runtime.history.iter().map(|entry| &entry.text);
            trial.chain(flight).chain(current).chain(history).chain(&runtime.last).for_each(&mut name);
        }
        hashes
    }

    fn is_present(&self, life: usize, note: &LifeNote) -> bool {
        self.runtimes.get(&note.runtime).is_some_and(|runtime| runtime.slot == Some(life)) && !note.is_retiring
    }
}

impl TrialNote {
    fn revisions(&self) -> impl Iterator<Item = &RevisionNote> {
        [&self.revision, &self.base].into_iter().chain(&self.other_base).chain(self.later.iter().map(|later| &later.revision))
    }
}

impl RuntimeNote {
    /// Every revision that it has to do with.
    pub fn revisions(&self) -> impl Iterator<Item = &RevisionNote> {
        let on_trial = self.trial.iter().flat_map(TrialNote::revisions);
        let in_flight = self.flight.iter().flat_map(|flight| std::iter::once(&flight.revision).chain(&flight.good));
        self.current.iter().chain(on_trial).chain(in_flight)
    }

    /// What the death of a supervisor does not change.
    #[cfg(test)]
    pub fn lasting(&self) -> Self {
        // Who died meanwhile counts.
        Self { slot: None, asked_about: Vec::new(), restarts: 0, ..self.clone() }
    }
}

// -------------------------------------------------------------------------------------------------------- noting

/// Whether an event may change what is noted. What children say all the time does not.
pub fn is_noteworthy(event: &Event) -> bool {
    !matches!(
        event,
        Event::Looked { .. }
            | Event::HostSaid {
                reply: HostReply::Status(_) | HostReply::Log { .. } | HostReply::Prepared { .. } | HostReply::Wired { .. },
                ..
            }
            | Event::DeviceSaid {
                reply: DeviceReply::Status(_) | DeviceReply::Midi(_) | DeviceReply::MidiHeld(_) | DeviceReply::MidiPort(_),
                ..
            }
    )
}

/// Whether what is to be done must be noted, whatever brought it about: no number of a process is given twice, and no change that
/// is told to be cancelled because the session ends is told of by the next supervisor once more.
pub fn is_consequential(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Spawn(_) | Action::Tell(Report::Stopping)))
}

/// Takes notes; knows the hashes of texts.
struct Noting<'a> {
    digest: &'a mut dyn FnMut(&Arc<str>) -> ContentHash,
}

impl Noting<'_> {
    fn text(&mut self, text: &ProgramText) -> TextNote {
        let ProgramText { name, path, base_directory, source } = text;
        TextNote { name: name.clone(), path: path.clone(), base_directory: base_directory.clone(), source: (self.digest)(source) }
    }

    fn revision(&mut self, revision: &Revision) -> RevisionNote {
        let Revision { text, settings, previous, .. } = revision;
        RevisionNote { hash: revision.hash(), text: self.text(text), settings: settings.clone(), previous: *previous }
    }

    fn life(&mut self, program: &Program, text: &ProgramText) -> Option<LifeNote> {
        let stage = match program.phase {
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Starting { .. } => LifeStage::Coming,
            Phase::Running | Phase::Held => LifeStage::Running,
            Phase::Recovering { .. } => LifeStage::Recovering,
            Phase::Quarantined => LifeStage::Quarantined,
            Phase::Done | Phase::Failed => return None,
        };
        let lane = match &program.lane {
            Lane::Created(lane) => Some(lane.clone()),
            Lane::None | Lane::Asked | Lane::Gone => None,
        };
        let board = match &program.board {
            Board::There(board) => Some(board.clone()),
            Board::None | Board::Asked | Board::Lacking(_) => None,
        };
        Some(LifeNote {
            runtime: program.runtime?,
            lane_name: program.lane_name.clone(),
            generation: program.generation,
            stage,
            lane,
            board,
            is_lane_added: program.is_lane_added,
            was_lane_added: program.was_lane_added,
            is_retiring: program.is_retiring || program.is_stop_sent,
            gain: program.gain,
            route: program.route,
            keep: program.keep.to_be_noted(),
            host: program.host.map(|host| host.0),
            text: self.text(text),
            last_death: program.last_death,
            remedy: program.remedy.clone().filter(Remedy::is_noted),
            underruns: program.underruns,
        })
    }

    fn history(&mut self, entry: &HistoryEntry) -> HistoryNote {
        HistoryNote {
            hash: entry.hash,
            text: self.text(&entry.text),
            change: entry.change.0,
            origin: entry.origin.0,
            class: entry.class,
            boundary: entry.boundary,
            committed_ms: entry.committed_ms,
            tick: entry.tick,
            is_good: entry.is_good,
            refused: entry.refused.clone(),
        }
    }

    fn flight(&mut self, flight: &Flight) -> Option<FlightNote> {
        // A new host that is not heard yet is given up with its supervisor.
        let Way::Host { request } = flight.way else { return None };
        let Wishes { boundary, crossfade_ms, .. } = flight.what.edit.wishes;
        let (change, artifact) = (flight.what.edit.change.0, flight.what.artifact.clone());
        let good = flight.good.as_ref().map(|good| self.revision(good));
        let revision = self.revision(&flight.what.revision);
        Some(FlightNote { change, request, revision, artifact, boundary, crossfade_ms, good })
    }

    fn trial(&mut self, trial: &Trial) -> TrialNote {
        let later = |later: &Later| LaterNote { change: later.change.0, request: later.request, revision: self.revision(&later.revision) };
        let later = trial.later.iter().map(later).collect();
        TrialNote {
            change: trial.change.0,
            request: trial.request,
            revision: self.revision(&trial.revision),
            base: self.revision(&trial.base),
            other_base: trial.other_base.as_ref().map(|base| self.revision(base)),
            is_patch: trial.is_patch,
            later,
        }
    }

    fn runtime(&mut self, runtime: &Runtime) -> RuntimeNote {
        let recent = runtime.history.len().saturating_sub(NOTED_HISTORY);
        RuntimeNote {
            name: runtime.name.clone(),
            slot: runtime.slot.map(|slot| slot.0),
            generation: runtime.generation,
            last_generation: runtime.last_generation,
            current: runtime.current.as_ref().map(|current| self.revision(current)),
            last: runtime.last.as_ref().map(|last| self.text(last)),
            history: runtime.history.iter().skip(recent).map(|entry| self.history(entry)).collect(),
            refused: runtime.refused.iter().map(|(text, cause)| (*text, cause.clone())).collect(),
            level: (runtime.level.gain, runtime.level.is_muted, runtime.level.is_soloed),
            output: runtime.level.output,
            watching: runtime.watching.clone(),
            seen: runtime.seen.filter(|seen| !is_on_its_way(runtime, *seen)),
            watch_boundary: runtime.watch_boundary,
            is_frozen: runtime.is_frozen,
            cause: runtime.cause.clone(),
            asked_about: runtime.waiting.iter().map(|waiting| waiting.edit.change.0).collect(),
            flight: runtime.flight.as_ref().and_then(|flight| self.flight(flight)),
            trial: runtime.trial.as_ref().map(|trial| self.trial(trial)),
            probation: runtime.probation.map(|Probation { change, until_tick, frozen_at }| (change.0, until_tick, frozen_at)),
            restarts: runtime.restarts.total,
        }
    }
}

impl Policy {
    /// What another supervisor must know. `digest` is given every text, and tells its hash.
    pub fn notes(&self, digest: &mut dyn FnMut(&Arc<str>) -> ContentHash) -> Notes {
        let mut noting = Noting { digest };
        let lives = self.programs.iter().zip(&self.texts).enumerate();
        Notes {
            session: SessionNote {
                sample_rate: self.sample_rate.clone(),
                asks_for_any_loss: self.asks_for_any_loss,
                restart_limits: self.restart_limits(),
                epoch_ms: self.epoch_ms,
                last_host: self.last_host,
                worker_generation: self.worker_generation,
                device_generation: self.device_generation,
                last_change: self.last_change,
                begun_device: self.begun_device,
                first_frame: self.first_frame,
                midi_files_from: self.midi.files_from,
                device_name: self.device_name.clone(),
                tape: self.tape_note(),
                routes: self.routes.list.clone(),
                tempo: self.noted_tempo(),
                wires: self.wires.to_be_noted(),
            },
            reckoning: Reckoning { last_live_request: self.last_live_request, frames: self.frames, frames_at_ms: self.frames_at_ms },
            lives: lives.filter_map(|(life, (program, text))| Some((life, noting.life(program, text)?))).collect(),
            runtimes: self.runtimes.iter().enumerate().map(|(index, runtime)| (index, noting.runtime(runtime))).collect(),
        }
    }

    /// The files that are followed, each with what it held when it was last looked at.
    pub fn followed(&self) -> Vec<(String, PathBuf, Option<ContentHash>)> {
        let followed = |runtime: &Runtime| Some((runtime.name.clone(), runtime.watching.clone()?, runtime.seen));
        self.runtimes.iter().filter_map(followed).collect()
    }

    /// Names of the runtimes that have been taken back, as long as [`super::Event::Begin`] has not been taken.
    pub fn taken_back(&self) -> Vec<String> {
        let present = self.homecoming.iter().flat_map(|homecoming| &homecoming.present);
        present.map(|(life, _)| self.programs[life.0].name.clone()).collect()
    }
}

// --------------------------------------------------------------------------------------------------- taking back

/// Builds the state of a session from its notes.
struct Restoring<'a> {
    found: &'a Found,
}

impl Restoring<'_> {
    fn text(&self, note: &TextNote) -> Option<ProgramText> {
        let source = Arc::clone(self.found.texts.get(&note.source)?);
        Some(ProgramText { name: note.name.clone(), path: note.path.clone(), base_directory: note.base_directory.clone(), source })
    }

    fn revision(&self, note: &RevisionNote) -> Option<Arc<Revision>> {
        let plan = self.found.plans.get(&note.hash)?.clone();
        Some(Arc::new(Revision { text: self.text(&note.text)?, settings: note.settings.clone(), plan, previous: note.previous }))
    }

    fn history(&self, note: &HistoryNote) -> Option<HistoryEntry> {
        Some(HistoryEntry {
            hash: note.hash,
            text: self.text(&note.text)?,
            change: ChangeId(note.change),
            origin: ChangeId(note.origin),
            class: note.class,
            boundary: note.boundary,
            committed_ms: note.committed_ms,
            tick: note.tick,
            is_good: note.is_good,
            refused: note.refused.clone(),
        })
    }

    fn flight(&self, note: &FlightNote, runtime: usize, base: Option<Arc<Revision>>) -> Option<Flight> {
        let revision = self.revision(&note.revision)?;
        let artifact = note.artifact.clone();
        let wishes = Wishes { boundary: note.boundary, is_acknowledged: true, crossfade_ms: note.crossfade_ms };
        let edit = Edit {
            change: ChangeId(note.change),
            runtime,
            text: revision.text.clone(),
            wishes,
            base: None,
            origin: ChangeId(note.change),
            asker: None,
            is_plan: false,
            stage: EditStage::Ready { revision: Arc::clone(&revision), artifact: artifact.clone() },
            settings: revision.settings.clone(),
            is_settled: true,
            attempts: 1,
            worker_deaths: 0,
            previous: revision.previous,
            timings: Timings::default(),
        };
        let report = base.as_ref().map(|base| change::classify(edits::of(base), edits::of(&revision), &edits::context(base, &revision)));
        let what = Classified { edit, revision, artifact, report, base };
        let good = note.good.as_ref().and_then(|good| self.revision(good));
        Some(Flight { what, way: Way::Host { request: note.request }, good, recalled: None })
    }

    fn trial(&self, note: &TrialNote) -> Option<Trial> {
        let (revision, base) = (self.revision(&note.revision)?, self.revision(&note.base)?);
        let later = |later: &LaterNote| {
            Some(Later { change: ChangeId(later.change), request: later.request, revision: self.revision(&later.revision)? })
        };
        let later = note.later.iter().filter_map(later).collect();
        let other_base = note.other_base.as_ref().and_then(|base| self.revision(base));
        Some(Trial { change: ChangeId(note.change), request: note.request, revision, base, other_base, is_patch: note.is_patch, later })
    }

    fn runtime(&self, index: usize, note: &RuntimeNote) -> Runtime {
        let mut runtime = Runtime::new(note.name.clone());
        (runtime.generation, runtime.last_generation) = (note.generation, note.last_generation);
        runtime.current = note.current.as_ref().and_then(|current| self.revision(current));
        runtime.last = note.last.as_ref().and_then(|last| self.text(last));
        runtime.history = note.history.iter().filter_map(|entry| self.history(entry)).collect();
        runtime.refused = note.refused.iter().map(|(text, cause)| (*text, cause.clone())).collect();
        let (gain, is_muted, is_soloed) = note.level;
        runtime.level = Level { gain, is_muted, is_soloed, output: note.output };
        runtime.watching.clone_from(&note.watching);
        runtime.seen = note.seen;
        runtime.watch_boundary = note.watch_boundary;
        runtime.is_frozen = note.is_frozen;
        runtime.cause.clone_from(&note.cause);
        runtime.trial = note.trial.as_ref().and_then(|trial| self.trial(trial));
        runtime.flight = note.flight.as_ref().and_then(|flight| self.flight(flight, index, runtime.current.clone()));
        let probation = |(change, until_tick, frozen_at)| Probation { change: ChangeId(change), until_tick, frozen_at };
        runtime.probation = note.probation.map(probation);
        runtime.restarts.total = note.restarts;
        runtime
    }
}

impl Policy {
    /// The state machine of a session whose supervisor has died, to be given [`super::Event::Begin`] like any other.
    pub fn take_back(notes: &Notes, found: Found) -> Self {
        let mut policy = Self::new(Goal::Serve, Vec::<ProgramText>::new());
        let SessionNote { sample_rate, asks_for_any_loss, epoch_ms, .. } = &notes.session;
        policy.sample_rate.clone_from(sample_rate);
        (policy.asks_for_any_loss, policy.epoch_ms) = (*asks_for_any_loss, *epoch_ms);
        policy.limit_restarts(notes.session.restart_limits);
        policy.last_host = notes.session.last_host;
        policy.worker_generation = notes.session.worker_generation;
        policy.device_generation = notes.session.device_generation;
        policy.last_change = notes.session.last_change;
        policy.first_frame = notes.session.first_frame;
        policy.midi.files_from = notes.session.midi_files_from;
        policy.begun_device = notes.session.begun_device;
        policy.device_name.clone_from(&notes.session.device_name);
        policy.take_tape_back(notes.session.tape.clone());
        policy.routes = Routes::taken_back(notes.session.routes.clone());
        policy.wires.restore(notes.session.wires.clone());
        let heard = found.hosts.values().filter_map(|(_, presence)| presence.last_request).max().unwrap_or(0);
        policy.last_live_request = notes.reckoning.last_live_request.max(heard);
        (policy.frames, policy.frames_at_ms) = (notes.reckoning.frames, notes.reckoning.frames_at_ms);
        policy.has_worker_joined = true;
        if let Some(pid) = found.device {
            policy.device = Device::Open;
            policy.processes.insert(policy.device(), joined(pid));
        }
        let restoring = Restoring { found: &found };
        policy.runtimes = notes.runtimes.iter().map(|(index, note)| restoring.runtime(*index, note)).collect();
        let mut homecoming = Homecoming::default();
        for (life, note) in &notes.lives {
            policy.take_back_life(notes, *life, note, &found, &mut homecoming);
        }
        policy.take_back_tempo(notes.session.tempo);
        for (lane_name, text) in std::mem::take(&mut homecoming.nobodys) {
            homecoming.lanes.push(RuntimeIndex(policy.programs.len()));
            policy.programs.push(Program { lane_name, phase: Phase::Done, ..Program::new(text.name.clone()) });
            policy.texts.push(text);
        }
        policy.homecoming = Some(homecoming);
        policy
    }

    fn take_back_life(&mut self, notes: &Notes, life: usize, note: &LifeNote, found: &Found, homecoming: &mut Homecoming) {
        let restoring = Restoring { found };
        let (Some(text), Some(runtime)) = (restoring.text(&note.text), self.runtimes.get(note.runtime)) else { return };
        let slot = RuntimeIndex(self.programs.len());
        let mut program = Program::new(runtime.name.clone());
        program.runtime = Some(note.runtime);
        program.lane_name.clone_from(&note.lane_name);
        program.generation = note.generation;
        program.was_lane_added = note.was_lane_added;
        program.is_lane_added = note.is_lane_added && found.device.is_some();
        if program.is_lane_added {
            // Another device host begins with every lane as it is.
            (program.gain, program.route) = (note.gain, note.route);
        }
        program.last_death = note.last_death;
        program.remedy.clone_from(&note.remedy);
        program.underruns = note.underruns;
        if found.device.is_none() {
            program.underruns.device_lost();
        }
        program.keep = note.keep.clone();
        program.lane = note.lane.clone().map_or(Lane::None, Lane::Created);
        program.board = note.board.clone().map_or(Board::None, Board::There);
        program.revision.clone_from(&runtime.current);
        let can_go_on = program.revision.is_some();
        program.phase = match note.stage {
            _ if !notes.is_present(life, note) => Phase::Done,
            LifeStage::Coming => Phase::Queued,
            LifeStage::Running | LifeStage::Recovering if can_go_on => Phase::Recovering { deadline_ms: None },
            LifeStage::Running | LifeStage::Recovering => Phase::Failed,
            LifeStage::Quarantined => Phase::Quarantined,
        };
        let presence = note.host.and_then(|host| Some((host, found.hosts.get(&host)?)));
        if let (Phase::Recovering { .. }, Some((host, (pid, presence)))) = (&program.phase, presence) {
            program.phase = if presence.is_held { Phase::Held } else { Phase::Running };
            program.ticks = presence.next_tick;
            program.host = Some(HostIndex(host));
            self.hosts.insert(HostIndex(host), Duty::Program(slot));
            self.processes.insert(Child::Host(HostIndex(host)), joined(*pid));
            homecoming.present.push((slot, presence.clone()));
            if note.stage == LifeStage::Recovering {
                homecoming.unheard.insert(slot);
            }
        }
        if matches!(program.phase, Phase::Recovering { .. }) {
            self.runtimes[note.runtime].restarts.total += u64::from(note.host.is_some());
            let message = match note.host {
                Some(host) if found.given_up.contains(&host) => "its host was killed: it stood still when the supervisor came back",
                Some(_) => "its host died while there was no supervisor",
                None => "its host died, and then the supervisor",
            };
            program.loss = Some(Cause { message: message.to_owned(), revision: None, tick: None, line: None });
        }
        if program.phase.is_over() || program.phase == Phase::Queued {
            // What it had nobody goes on with: its lane is taken from the device host, and its name from its segments.
            match program.phase {
                Phase::Queued if program.is_lane_added => homecoming.nobodys.push((program.lane_name.clone(), text.clone())),
                _ => homecoming.lanes.extend(program.is_lane_added.then_some(slot)),
            }
            homecoming.released.extend(program.end());
            (program.is_lane_added, program.was_lane_added) = (false, false);
        }
        if program.phase == Phase::Queued {
            // Under another name than what fades out.
            let state = &mut self.runtimes[note.runtime];
            state.last_generation = state.last_generation.max(state.generation) + 1;
            state.generation = state.last_generation;
            program.generation = state.generation;
            program.lane_name = format!("{}/{}", program.name, program.generation);
            (program.lane, program.gain, program.route) = (Lane::None, 1.0, OutputMap::STRAIGHT);
        }
        if program.phase == Phase::Failed {
            homecoming.lost.push((note.runtime, text.clone()));
        }
        let asked_about = notes.runtimes.get(&note.runtime).map(|runtime| runtime.asked_about.clone()).unwrap_or_default();
        if notes.is_present(life, note) {
            self.runtimes[note.runtime].slot = Some(slot);
            self.runtimes[note.runtime].lane.underruns = program.underruns.total;
            homecoming.dropped.extend(asked_about.into_iter().map(|change| (slot, change)));
        }
        self.programs.push(program);
        self.texts.push(text);
    }

    /// The session goes on under another supervisor.
    pub(super) fn come_home(&mut self, now_ms: u64, homecoming: Homecoming, actions: &mut Vec<Action>) {
        self.stage = Stage::Working;
        let Homecoming { present, unheard, lanes, released, lost, dropped, nobodys: _ } = homecoming;
        actions.extend(lanes.into_iter().map(Action::RemoveLane));
        actions.extend(released.into_iter().map(|segment| Action::Release { segment }));
        for (slot, presence) in present {
            self.welcome(now_ms, slot, &presence, unheard.contains(&slot), actions);
        }
        for slot in 0..self.programs.len() {
            if matches!(self.programs[slot].phase, Phase::Recovering { .. }) {
                self.go_on_without_host(RuntimeIndex(slot), actions);
            }
        }
        for (runtime, text) in lost {
            self.order_again(runtime, text, actions);
        }
        for (runtime, change) in dropped {
            let line = format!("change {change} waited for an answer when the supervisor died; push it again");
            actions.push(Action::Tell(Report::Log { runtime, line }));
        }
        self.tape_comes_home(actions);
        // The last supervisor may have died before it told them.
        for program in self.programs.iter_mut().filter(|program| program.is_lane_added) {
            program.gain = f32::NAN;
            if program.revision.as_ref().is_some_and(|revision| revision.plan.has_sound()) {
                program.route.gain = f32::NAN;
            }
        }
        self.mix(Some(RAMP_MS), actions);
    }

    /// A host has come home: what it has done while nobody heard it is heard now.
    fn welcome(&mut self, now_ms: u64, slot: RuntimeIndex, presence: &Presence, is_unheard: bool, actions: &mut Vec<Action>) {
        let generation = self.programs[slot.0].generation;
        if let Some(took) = presence.took_over.as_deref().filter(|took| is_unheard && took.generation == generation) {
            // What a takeover settles is settled once.
            self.settle(now_ms, slot, took, actions);
        }
        let runtime = self.programs[slot.0].runtime;
        let trial = runtime.and_then(|runtime| self.runtimes[runtime].trial.as_ref());
        let on_trial: Vec<RequestId> = trial
            .into_iter()
            .flat_map(|trial| std::iter::once(trial.request).chain(trial.later.iter().filter_map(|later| later.request)))
            .collect();
        let open: BTreeSet<RequestId> = self.programs[slot.0].keep.open_requests().into_iter().chain(on_trial).collect();
        for answer in presence.answers.iter().filter(|answer| open.contains(&answer.request())) {
            self.live_said(now_ms, slot, answer.clone(), actions);
        }
        self.drop_unheard(slot, presence.last_request, actions);
        if let Some(runtime) = runtime {
            self.runtimes[runtime].is_frozen = presence.is_frozen;
            self.runtimes[runtime].status.ticks = presence.next_tick;
        }
    }

    /// Its host died while there was no supervisor: another one goes on, if it can.
    fn go_on_without_host(&mut self, slot: RuntimeIndex, actions: &mut Vec<Action>) {
        if self.programs[slot.0].keep.is_protected() {
            self.next_generation(slot);
        } else {
            self.start_over(slot, actions);
        }
    }

    /// What has been lost on its way to the host is not made a second time: a watched file is an edit again, and others have
    /// seen their connection break.
    fn drop_unheard(&mut self, slot: RuntimeIndex, last_heard: Option<RequestId>, actions: &mut Vec<Action>) {
        let unheard = |asked: &&ipc::live::LiveRequest| last_heard.is_none_or(|last| asked.request > last);
        let lost: Vec<_> = self.programs[slot.0].keep.unanswered.iter().filter(unheard).cloned().collect();
        for asked in lost {
            self.programs[slot.0].keep.answered(asked.request);
            if matches!(asked.what, LiveChange::Swap(_) | LiveChange::Patch(_)) {
                self.change_lost(slot, asked.request, actions);
            }
        }
    }
}

/// Whether an edit to this text has not come to its end: it would die with its supervisor.
fn is_on_its_way(runtime: &Runtime, text: ContentHash) -> bool {
    let waiting = runtime.waiting.iter().map(|waiting| &waiting.edit);
    let in_flight = runtime.flight.iter().map(|flight| &flight.what.edit);
    runtime.incoming.iter().chain(waiting).chain(in_flight).any(|edit| edit.text.hash() == text)
}

/// A process that has come in.
fn joined(pid: u32) -> Process {
    Process { life: Life::Joined, pid, cause: None }
}
