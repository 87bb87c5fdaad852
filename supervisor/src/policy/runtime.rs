//! A named runtime as the policy sees it: which host runs it, which revision plays, which edits are on their way.
//!
//! A runtime outlives its hosts: each host it is given is a program of its own (`super::program`), so that a new one can be
//! made ready while the old one plays. Of edits there are a few: those on their way to the worker, those that wait for an
//! acknowledgement, one that the host has. A newer one takes the place of the older ones once it is known to be good.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::live::RequestId;
use ipc::message::{HostStatus, LaneStatus};
use ipc::plan::ChangeReport;
use ipc::segment::SegmentRef;

use super::handover::Standby;
use super::log::Logged;
use super::restarts::Restarts;
use super::vocabulary::{CompileSettings, Plan, ProgramText, RuntimeIndex};
use crate::control::Ticket;
use crate::control::protocol::{Answer, AnswerWhen, Boundary, Cause, ChangeClass, ChangeId, Channels, RevisionName, Timings};

/// Revisions whose history is kept, per runtime. A performance has some hundred edits an hour; the oldest go first.
pub const MAX_HISTORY: usize = 1_000;

/// Bytes that the texts of a runtime's history may take. The oldest go first, whatever sends them (DESIGN P8).
pub const MAX_HISTORY_BYTES: usize = 8 << 20;

/// Edits of one runtime that may be on their way to the worker at a time. Of more, the oldest is given up.
pub const MAX_INCOMING: usize = 8;

/// Changes of one runtime that may wait for an acknowledgement at a time. Of more, the oldest is given up.
pub const MAX_WAITING: usize = 8;

/// Refused texts that are remembered, per runtime; the oldest go first.
pub const MAX_REFUSED: usize = 256;

/// One compiled state of a program.
#[derive(Debug)]
pub struct Revision {
    pub text: ProgramText,
    pub settings: Option<CompileSettings>,
    pub plan: Plan,
    /// The revision whose memory layout this one was compiled against.
    pub previous: Option<ContentHash>,
}

impl Revision {
    pub fn hash(&self) -> ContentHash {
        self.plan.content.manifest.revision
    }
}

/// What a client wants of an edit besides the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    pub boundary: Boundary,
    /// Do not ask before state is lost.
    pub is_acknowledged: bool,
    pub crossfade_ms: u32,
}

/// Who froze a runtime, in which tick, and waits for what comes of a change that had waited for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreezeAsker {
    pub ticket: Ticket,
    pub change: ChangeId,
    pub tick: u64,
}

/// Who waits for an answer, and for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub ticket: Ticket,
    pub when: AnswerWhen,
    pub verb: ChangeVerb,
}

impl Asker {
    /// Somebody who gets an error, which is the same for every request.
    pub fn of_error(ticket: Ticket) -> Self {
        Self { ticket, when: AnswerWhen::Planned, verb: ChangeVerb::Push }
    }
}

/// Requests that are answered with a change report, each with an answer of its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeVerb {
    Push,
    Plan,
    Confirm,
    Rollback,
}

impl ChangeVerb {
    pub fn answer(self, report: crate::control::protocol::ChangeReport) -> Answer {
        match self {
            Self::Push => Answer::Push(report),
            Self::Plan => Answer::Plan(report),
            Self::Confirm => Answer::Confirm(report),
            Self::Rollback => Answer::Rollback(report),
        }
    }
}

/// How far an edit is on its way to the host.
#[derive(Clone, Debug)]
pub enum EditStage {
    /// Waits for the worker.
    Queued,
    Compiling,
    /// The shell reads the manifest.
    Inspecting {
        artifact: SegmentRef,
    },
    /// Compiled; waits until the host is free to take it.
    Ready {
        revision: Arc<Revision>,
        artifact: SegmentRef,
    },
}

/// An edit from its text to its compiled revision.
#[derive(Debug)]
pub struct Edit {
    pub change: ChangeId,
    /// Index of its runtime.
    pub runtime: usize,
    pub text: ProgramText,
    pub wishes: Wishes,
    /// The revision it is an edit of, where that matters to whoever sent it.
    pub base: Option<RevisionName>,
    /// The change whose text it goes back to; for all but rollbacks its own.
    pub origin: ChangeId,
    /// `None` once it has been answered, and where nobody asked (watched files).
    pub asker: Option<Asker>,
    /// Only asked about.
    pub is_plan: bool,
    pub stage: EditStage,
    pub settings: Option<CompileSettings>,
    /// Whether the settings are those that were asked for after a compile.
    pub is_settled: bool,
    pub attempts: u32,
    /// Workers that have died of it.
    pub worker_deaths: u32,
    /// What it is compiled against.
    pub previous: Option<ContentHash>,
    pub timings: Timings,
}

impl Edit {
    /// The artifact that is still to be released, if there is one.
    pub fn artifact(&self) -> Option<&SegmentRef> {
        match &self.stage {
            EditStage::Queued | EditStage::Compiling => None,
            EditStage::Inspecting { artifact } | EditStage::Ready { artifact, .. } => Some(artifact),
        }
    }
}

/// An edit that has been classified.
#[derive(Debug)]
pub struct Classified {
    pub edit: Edit,
    pub revision: Arc<Revision>,
    pub artifact: SegmentRef,
    /// `None` for a runtime's first program.
    pub report: Option<ChangeReport>,
    /// What it is compared with.
    pub base: Option<Arc<Revision>>,
}

impl Classified {
    pub fn class(&self) -> ChangeClass {
        match self.report.as_ref().map(|report| report.class) {
            None => ChangeClass::Load,
            Some(ipc::plan::ChangeClass::None) => ChangeClass::None,
            Some(ipc::plan::ChangeClass::A) => ChangeClass::A,
            Some(ipc::plan::ChangeClass::B) => ChangeClass::B,
            Some(ipc::plan::ChangeClass::C) => ChangeClass::C,
            Some(ipc::plan::ChangeClass::T) => ChangeClass::T,
        }
    }
}

/// How a change that is under way takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The host that runs has it.
    Host { request: RequestId },
    /// A new host is made ready.
    NewHost { slot: RuntimeIndex },
}

/// A change that is under way: exactly one end of it comes.
#[derive(Debug)]
pub struct Flight {
    pub what: Classified,
    pub way: Way,
    /// The last revision that passed its trial, where that was another than the one that ran when the host was told.
    pub good: Option<Arc<Revision>>,
    /// It has been asked to come back, for a newer one or because somebody cancelled it.
    pub recalled: Option<Recall>,
}

/// Why a change under way is to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    Superseded { by: ChangeId },
    Cancelled { ticket: Option<Ticket> },
}

/// A revision on trial.
#[derive(Debug)]
pub struct Trial {
    pub change: ChangeId,
    pub request: RequestId,
    pub revision: Arc<Revision>,
    /// What comes back if it fails.
    pub base: Arc<Revision>,
    /// The same, where the host decides which of both it still has.
    pub other_base: Option<Arc<Revision>>,
    /// Undone in the running engine; nothing that could be gone back to is kept beside it.
    pub is_patch: bool,
    /// Patches that have been committed on top of it, oldest first: they fail with it.
    pub later: Vec<Later>,
}

/// A patch on top of a revision on trial.
#[derive(Debug)]
pub struct Later {
    pub change: ChangeId,
    /// Its own trial; `None` for a change of nothing that runs, which is as good as what is below it.
    pub request: Option<RequestId>,
    pub revision: Arc<Revision>,
}

/// A revision that nothing watches but the time it plays: it is good once it has played for as long as a trial takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probation {
    pub change: ChangeId,
    pub until_tick: u64,
    /// Ticks pass while a runtime is frozen, and prove nothing.
    pub frozen_at: Option<u64>,
}

/// A line of a runtime's history. Holds no more of the revision than going back to it takes: its text.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    pub hash: ContentHash,
    pub text: ProgramText,
    pub change: ChangeId,
    /// The change that a rollback went back to; otherwise its own.
    pub origin: ChangeId,
    pub class: ChangeClass,
    pub boundary: Boundary,
    /// Milliseconds since the session began.
    pub committed_ms: u64,
    pub tick: u64,
    pub is_good: bool,
    pub refused: Option<Cause>,
}

/// What a client asked a host, apart from changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Set,
    Midi,
    Get,
    Freeze,
    Run,
    Reset,
}

/// How a runtime is mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub gain: f64,
    pub is_muted: bool,
    pub is_soloed: bool,
    /// Channels of the device.
    pub output: Channels,
}

impl Default for Level {
    fn default() -> Self {
        Self { gain: 1.0, is_muted: false, is_soloed: false, output: Channels::MAIN }
    }
}

/// A named runtime.
#[derive(Debug)]
pub struct Runtime {
    pub name: String,
    /// The host that runs it, or is about to.
    pub slot: Option<RuntimeIndex>,
    /// Generation of the host that runs it.
    pub generation: u64,
    /// The highest that any of its hosts has had.
    pub last_generation: u64,
    /// What runs. `None` while nothing does.
    pub current: Option<Arc<Revision>>,
    /// What ran last, for `restart`.
    pub last: Option<ProgramText>,
    pub history: VecDeque<HistoryEntry>,
    /// Texts that failed while they ran.
    pub refused: BTreeMap<ContentHash, Cause>,
    /// Edits that have not been classified, oldest first. The newest is compiled first; it takes the place of the others when
    /// it is known to be good.
    pub incoming: Vec<Edit>,
    /// Changes that wait for an acknowledgement, oldest first.
    pub waiting: Vec<Classified>,
    pub flight: Option<Flight>,
    pub trial: Option<Trial>,
    pub probation: Option<Probation>,
    /// The host before the present one, as long as that has to prove itself.
    pub standby: Option<Standby>,
    /// What it was asked, who waits, and what is to be logged when it happens.
    pub questions: BTreeMap<RequestId, (Question, Ticket, Logged)>,
    /// What hosts of it are to do without anybody waiting, and what is to be logged when it happens.
    pub unasked: BTreeMap<RequestId, (RuntimeIndex, Logged)>,
    /// Who waits for it to have stopped.
    pub stop_askers: Vec<Ticket>,
    /// Who froze it and waits for this change, which had waited for that.
    pub freeze_askers: Vec<FreezeAsker>,
    pub level: Level,
    pub watching: Option<PathBuf>,
    /// What the watched file held when it was last taken for an edit.
    pub seen: Option<ContentHash>,
    /// Boundary of the edits that come from the watched file.
    pub watch_boundary: Boundary,
    pub is_frozen: bool,
    pub cause: Option<Cause>,
    pub status: HostStatus,
    pub lane: LaneStatus,
    pub restarts: Restarts,
}

impl Runtime {
    pub fn new(name: String) -> Self {
        Self {
            name,
            slot: None,
            generation: 0,
            last_generation: 0,
            current: None,
            last: None,
            history: VecDeque::new(),
            refused: BTreeMap::new(),
            incoming: Vec::new(),
            waiting: Vec::new(),
            flight: None,
            trial: None,
            probation: None,
            standby: None,
            unasked: BTreeMap::new(),
            questions: BTreeMap::new(),
            stop_askers: Vec::new(),
            freeze_askers: Vec::new(),
            level: Level::default(),
            watching: None,
            seen: None,
            watch_boundary: Boundary::Frame,
            is_frozen: false,
            cause: None,
            status: HostStatus::default(),
            lane: LaneStatus::default(),
            restarts: Restarts::default(),
        }
    }

    /// Notes that a revision took effect.
    pub fn remember(&mut self, mut entry: HistoryEntry) {
        // Going to and fro between two texts takes the memory of two.
        if let Some(known) = self.history.iter().find(|known| known.text.source == entry.text.source) {
            entry.text.source = Arc::clone(&known.text.source);
        }
        self.history.push_back(entry);
        while self.history.len() > 1 && (self.history.len() > MAX_HISTORY || self.history_bytes() > MAX_HISTORY_BYTES) {
            self.history.pop_front();
        }
    }

    /// Bytes of the texts in its history.
    fn history_bytes(&self) -> usize {
        let mut texts: Vec<(*const u8, usize)> =
            self.history.iter().map(|entry| (entry.text.source.as_ptr(), entry.text.source.len())).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The revision that will run next, as far as that is certain.
    pub fn present(&self) -> Option<ContentHash> {
        let is_certain = |flight: &&Flight| flight.recalled.is_none() && flight.what.edit.wishes.boundary == Boundary::Frame;
        let coming = self.flight.as_ref().filter(is_certain).map(|flight| flight.what.revision.hash());
        coming.or(self.current.as_ref().map(|current| current.hash()))
    }

    /// Whether nothing has come of it: its first text was wrong, and it is as if it had never been named.
    pub fn is_vacant(&self) -> bool {
        let has_edits = !self.incoming.is_empty() || !self.waiting.is_empty() || self.flight.is_some();
        self.slot.is_none() && self.history.is_empty() && self.last.is_none() && self.watching.is_none() && !has_edits
    }

    /// Remembers that this text failed while it ran.
    pub fn refuse(&mut self, text: ContentHash, cause: Cause) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.pop_first();
        }
        self.refused.insert(text, cause);
    }

    /// The change that waits for its boundary or for an acknowledgement.
    pub fn waiting_change(&self) -> Option<ChangeId> {
        let flight = self.flight.as_ref().map(|flight| flight.what.edit.change);
        self.waiting.last().map(|waiting| waiting.edit.change).or(flight)
    }
}
