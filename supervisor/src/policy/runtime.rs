//! A named runtime as the policy sees it: which host runs it, which revision plays, which edits are on their way.
//!
//! A runtime outlives its hosts: each host it is given is a program of its own (`super::program`), so that a new one can be
//! made ready while the old one plays. Of edits there are three at most: the newest one on its way to the host, one that
//! waits for an acknowledgement, one that the host has. A newer one takes the place of an older one.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::live::RequestId;
use ipc::message::{HostStatus, LaneStatus};
use ipc::plan::ChangeReport;
use ipc::segment::SegmentRef;

use super::log::Logged;
use super::restarts::Restarts;
use super::vocabulary::{CompileSettings, Plan, ProgramText, RuntimeIndex};
use crate::control::Ticket;
use crate::control::protocol::{Answer, AnswerWhen, Boundary, Cause, ChangeClass, ChangeId, Timings};

/// Revisions whose history is kept, per runtime. A performance has some hundred edits an hour; the oldest go first.
pub const MAX_HISTORY: usize = 1_000;

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
}

/// A line of a runtime's history. Holds no more of the revision than going back to it takes: its text.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    pub hash: ContentHash,
    pub text: ProgramText,
    /// Ticks after which a first program is good.
    pub trial_ticks: u32,
    pub change: ChangeId,
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
}

impl Default for Level {
    fn default() -> Self {
        Self { gain: 1.0, is_muted: false, is_soloed: false }
    }
}

/// A named runtime.
#[derive(Debug)]
pub struct Runtime {
    pub name: String,
    /// The host that runs it, or is about to.
    pub slot: Option<RuntimeIndex>,
    pub generation: u64,
    /// What runs. `None` while nothing does.
    pub current: Option<Arc<Revision>>,
    /// What ran last, for `restart`.
    pub last: Option<Arc<Revision>>,
    pub history: VecDeque<HistoryEntry>,
    /// Texts that failed while they ran.
    pub refused: BTreeMap<ContentHash, Cause>,
    pub incoming: Option<Edit>,
    pub waiting: Option<Classified>,
    pub flight: Option<Flight>,
    pub trial: Option<Trial>,
    /// What it was asked, who waits, and what is to be logged when it happens.
    pub questions: BTreeMap<RequestId, (Question, Ticket, Logged)>,
    /// Who waits for it to have stopped.
    pub stop_askers: Vec<Ticket>,
    pub level: Level,
    pub watching: Option<PathBuf>,
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
            current: None,
            last: None,
            history: VecDeque::new(),
            refused: BTreeMap::new(),
            incoming: None,
            waiting: None,
            flight: None,
            trial: None,
            questions: BTreeMap::new(),
            stop_askers: Vec::new(),
            level: Level::default(),
            watching: None,
            watch_boundary: Boundary::Frame,
            is_frozen: false,
            cause: None,
            status: HostStatus::default(),
            lane: LaneStatus::default(),
            restarts: Restarts::default(),
        }
    }

    /// Notes that a revision took effect.
    pub fn remember(&mut self, entry: HistoryEntry) {
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(entry);
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
        self.waiting.as_ref().map(|waiting| waiting.edit.change).or(flight)
    }
}
