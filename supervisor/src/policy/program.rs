//! One program of a session in its host, as the policy sees it: how far it has come on the way from text to sound.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::message::Route;
use ipc::segment::SegmentRef;
use ipc::wires::Wiring;

use super::blame::Remedy;
use super::gaps::{Recovered, Underruns};
use super::keep::Keep;
use super::runtime::Revision;
use super::stalls::Watch;
use super::vocabulary::{CompileSettings, HostIndex, Plan};
use super::wires::{Board, Heard};
use crate::control::protocol::Cause;

/// How often an artifact that arrived damaged is made anew before the program is given up.
pub const COMPILE_ATTEMPTS: u32 = 2;

/// Where a program is on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Waits for the worker.
    Queued,
    /// The worker has it.
    Compiling,
    /// The shell reads the manifest of this artifact.
    Inspecting {
        artifact: SegmentRef,
    },
    /// Waits for what it needs to start: its host, its lane, the session's sample rate.
    Ready {
        artifact: SegmentRef,
        plan: Option<Plan>,
    },
    /// Its host has been told to start it.
    Starting {
        artifact: SegmentRef,
        deadline_ms: Option<u64>,
    },
    Running,
    /// Stopped by its host after repeated faults; its lane is silent.
    Held,
    /// Its host has died; another one is to go on. The deadline is that of the host that has been told to.
    Recovering {
        deadline_ms: Option<u64>,
    },
    /// Its hosts have died too often; it is not started again by itself.
    Quarantined,
    /// It has done all it was to do.
    Done,
    Failed,
}

impl Phase {
    /// Whether the worker's part is still to come.
    pub fn is_compiling(&self) -> bool {
        match self {
            Self::Queued | Self::Compiling | Self::Inspecting { .. } => true,
            Self::Ready { .. } | Self::Starting { .. } | Self::Running | Self::Held | Self::Done | Self::Failed => false,
            Self::Recovering { .. } | Self::Quarantined => false,
        }
    }

    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Done | Self::Failed => true,
            Self::Queued
            | Self::Compiling
            | Self::Inspecting { .. }
            | Self::Ready { .. }
            | Self::Starting { .. }
            | Self::Running
            | Self::Held
            | Self::Recovering { .. }
            | Self::Quarantined => false,
        }
    }
}

/// The lane of a program.
#[derive(Clone, Debug, PartialEq)]
pub enum Lane {
    /// Not asked for (yet).
    None,
    /// The shell has been asked to create it.
    Asked,
    Created(SegmentRef),
    /// Its segment has been let go of.
    Gone,
}

/// A program of the session.
#[derive(Clone, Debug)]
pub struct Program {
    /// The runtime's name.
    pub name: String,
    pub phase: Phase,
    /// Compiles begun because of damage, the first one included.
    pub attempts: u32,
    /// What to compile it with, once that is settled.
    pub settings: Option<CompileSettings>,
    pub lane: Lane,
    /// The device host has been told of the lane.
    pub is_lane_added: bool,
    /// The device host has mapped the lane.
    pub is_lane_mapped: bool,
    /// A device host has been told of it before: the next one goes on with it.
    pub was_lane_added: bool,
    /// Its host has been told to stop it.
    pub is_stop_sent: bool,
    /// Index of the runtime it is a life of, in sessions that can be changed.
    pub runtime: Option<usize>,
    pub generation: u64,
    /// What the device host calls its lane.
    pub lane_name: String,
    /// What the host runs, once that is known.
    pub revision: Option<Arc<Revision>>,
    /// Gain the device host has been told for its lane.
    pub gain: f32,
    /// Channels the device host has been told for its lane.
    pub route: Route,
    /// Ticks its host has told of.
    pub ticks: u64,
    /// It is being replaced or stopped.
    pub is_retiring: bool,
    /// The process that runs it, or is to.
    pub host: Option<HostIndex>,
    /// Its revisions that this process had loaded when it was found.
    pub loaded: BTreeSet<ContentHash>,
    /// It was the spare when it was found, and has not gone on with the program yet.
    pub is_host_spare: bool,
    /// How its last host was lost.
    pub loss: Option<Cause>,
    /// What it takes to go on with it in another one.
    pub keep: Keep,
    /// What it has for its control wires, what its host has been told of them, and what that has told.
    pub board: Board,
    pub wiring: Wiring,
    pub heard: Option<Heard>,
    /// Of its lane.
    pub underruns: Underruns,
    pub watch: Watch,
    /// Where it was killed the last time, and by which revision.
    pub last_death: Option<(ContentHash, u64)>,
    /// What the next takeover is to begin with, because the revision that ran is to blame for the death.
    pub remedy: Option<Remedy>,
    /// That it cannot be recovered has been told.
    pub is_risk_told: bool,
    /// Workers that have died of its text.
    pub worker_deaths: u32,
    /// The last takeover, until it has been told of.
    pub recovered: Option<Recovered>,
}

impl Program {
    pub fn new(name: String) -> Self {
        Self {
            lane_name: name.clone(),
            name,
            phase: Phase::Queued,
            attempts: 1,
            settings: None,
            lane: Lane::None,
            is_lane_added: false,
            is_lane_mapped: false,
            was_lane_added: false,
            is_stop_sent: false,
            runtime: None,
            generation: 1,
            revision: None,
            gain: 1.0,
            route: Route::STRAIGHT,
            ticks: 0,
            is_retiring: false,
            host: None,
            loaded: BTreeSet::new(),
            is_host_spare: false,
            loss: None,
            keep: Keep::default(),
            board: Board::None,
            wiring: Wiring::default(),
            heard: None,
            underruns: Underruns::default(),
            watch: Watch::default(),
            last_death: None,
            remedy: None,
            recovered: None,
            is_risk_told: false,
            worker_deaths: 0,
        }
    }

    /// Names of the segments that nobody needs any more now that its life is over.
    pub fn end(&mut self) -> Vec<String> {
        let mut released = self.keep.end();
        if matches!(self.lane, Lane::Created(_))
            && let Lane::Created(lane) = std::mem::replace(&mut self.lane, Lane::Gone)
        {
            released.push(lane.name);
        }
        if let Board::There(board) = std::mem::take(&mut self.board) {
            released.push(board.name);
        }
        self.wiring = Wiring::default();
        released
    }

    /// Whether it delivers blocks into a lane.
    pub fn has_lane(&self) -> bool {
        self.revision.as_ref().map_or(self.lane != Lane::None, |revision| revision.plan.has_lane)
    }
}
