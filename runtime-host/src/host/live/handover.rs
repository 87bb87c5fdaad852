//! What the control thread and the tick thread hand each other to change a running program.
//!
//! Everything here is allocated and freed on the control thread. The tick thread only moves it: a command goes in, and
//! whatever it consisted of comes back inside an outcome.

use std::sync::Arc;

use ipc::artifact::DefaultBytes;
use ipc::hash::ContentHash;
use ipc::live::RequestId;
use ipc::message::Refusal;
use ipc::midi::Received;
use ipc::state::Write;

use super::snapshot::Snapshot;
use super::wires::WiringWork;
use crate::host::failure::Failure;
use crate::host::fault_log::Report;
use crate::host::items::Place;
use crate::host::migration::{Carried, Migration};
use crate::host::program::Program;

/// Names a loaded program: where its items are and what code they belong to. A patch leaves it as it is.
pub type LayoutId = u64;

/// A request that is ready to be carried out.
pub struct Command {
    pub request: RequestId,
    /// The first tick it may take effect in.
    pub at_tick: Option<u64>,
    pub action: Action,
}

/// What is to be done.
pub enum Action {
    Swap(Box<SwapWork>),
    Patch(Box<PatchWork>),
    CancelSwap,
    Reset(Box<ResetWork>),
    Freeze,
    Run,
    RollBack,
    Set(Box<SetWork>),
    Get(Box<GetWork>),
    /// Other control wires; the old ones come back. Nobody waits for an answer.
    Wire(Box<WiringWork>),
    /// Messages that have come in.
    Midi(Box<[Received]>),
}

/// The same thing prepared for each program that may be running when its tick comes.
pub struct ForLayouts<T>(pub Vec<(LayoutId, T)>);

impl<T> ForLayouts<T> {
    pub fn get_rt(&self, layout: LayoutId) -> Option<&T> {
        self.0.iter().find(|(id, _)| *id == layout).map(|(_, prepared)| prepared)
    }
}

/// A swap: before its commit it holds the new program, afterwards the old one, until trial and crossfade are over.
pub struct SwapWork {
    pub request: RequestId,
    pub program: Box<Program>,
    /// Shared for a moment with the control thread, which reads from it what was lost.
    pub there: Option<Arc<Migration>>,
    /// Reads from `snapshot`, or from the failed program where there is none.
    pub back: Option<Migration>,
    /// The way back to the last good program; takes the place of `back` if that program is still kept at the commit.
    pub back_to_good: Option<Migration>,
    /// `back` leads past the program that `there` starts from.
    pub leads_past: bool,
    pub boundary: PreparedBoundary,
    /// Ticks that are still to be completed before the old program is let go.
    pub trial_ticks: u32,
    pub fade: Fade,
    pub snapshot: Option<Snapshot>,
    /// What files hold, written after the state has moved.
    pub assets: Vec<DefaultBytes>,
    /// Failing ticks in a row of the old program, once it has been replaced.
    pub failed_in_a_row: u32,
}

/// Where a swap may be committed.
pub enum PreparedBoundary {
    Frame,
    Freeze,
    /// The item whose rising edge is waited for; `None` in a program that lacks it.
    Pulse(ForLayouts<Option<Place>>),
}

/// How far a crossfade is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fade {
    pub done_frames: u32,
    pub total_frames: u32,
}

impl Fade {
    pub fn is_over(self) -> bool {
        self.done_frames >= self.total_frames
    }
}

/// A patch. Once it has been carried out, its migration holds what was there before.
pub struct PatchWork {
    pub request: RequestId,
    pub migration: Migration,
    pub revision: ContentHash,
    /// The running revision before it.
    pub previous: ContentHash,
    pub trial_ticks: u32,
    pub snapshot: Option<Snapshot>,
    /// The snapshot holds the memory of before the patch, and nothing else has been changed since.
    pub is_untouched: bool,
    pub assets: Vec<DefaultBytes>,
    pub failed_in_a_row: u32,
}

/// A reset, for every revision that may be running.
pub struct ResetWork {
    pub variants: Vec<ResetVariant>,
}

/// What one revision starts from.
pub struct ResetVariant {
    pub layout: LayoutId,
    pub revision: ContentHash,
    pub image: Arc<Vec<DefaultBytes>>,
    pub assets: Vec<DefaultBytes>,
    /// To go back to when the init-only modules fail.
    pub snapshot: Option<Snapshot>,
}

/// Values to write.
pub struct SetWork {
    pub steps: u32,
    pub writes: ForLayouts<Result<Vec<Write>, Refusal>>,
    /// The request as it came, to prepare it again.
    pub items: Vec<ipc::live::SetItem>,
}

/// Items to read.
pub struct GetWork {
    pub places: ForLayouts<Result<Vec<Place>, Refusal>>,
    /// Room for the largest variant; filled item by item.
    pub buffer: Vec<u8>,
    /// Which variant was read.
    pub layout: LayoutId,
    pub items: Vec<String>,
}

/// A change whose outcome is still open: what to go back to.
pub enum Trial {
    Swap(Box<SwapWork>),
    Patch(Box<PatchWork>),
}

impl Trial {
    pub fn request(&self) -> RequestId {
        match self {
            Self::Swap(swap) => swap.request,
            Self::Patch(patch) => patch.request,
        }
    }

    /// Ticks that are still to be completed.
    pub fn ticks_left(&self) -> u32 {
        match self {
            Self::Swap(swap) => swap.trial_ticks,
            Self::Patch(patch) => patch.trial_ticks,
        }
    }
}

/// Which program runs: its layout, and the revision that its defaults and text are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub layout: LayoutId,
    pub revision: ContentHash,
}

/// What became of commands, and what happened by itself. In the order in which it happened.
pub enum Outcome {
    /// It took effect at the start of this tick.
    Applied {
        tick: u64,
        command: Command,
    },
    /// The patch took effect at the start of this tick; what it consisted of comes back with the end of its trial.
    Patched {
        request: RequestId,
        tick: u64,
        /// What the tick thread spent on it.
        patch_ns: u64,
        carried: Carried,
        now: Identity,
    },
    /// The values are in `work`.
    Read {
        request: RequestId,
        tick: u64,
        work: Box<GetWork>,
    },
    /// Nothing was changed.
    Refused {
        command: Command,
        reason: Reason,
    },
    /// The program that runs is none that the command was prepared for.
    Stale(Command),
    /// The first tick of the new program.
    Committed {
        request: RequestId,
        tick: u64,
        commit_ns: u64,
        carried: Carried,
        there: Option<Arc<Migration>>,
        now: Identity,
    },
    /// A newer swap came before its boundary did.
    Superseded(Box<SwapWork>),
    Cancelled(Box<SwapWork>),
    TrialPassed {
        request: RequestId,
        tick: u64,
    },
    TrialCutShort {
        request: RequestId,
        tick: u64,
    },
    /// The trial failed in this tick; `failed` ran before. A swap holds the failed program now.
    RolledBack {
        tick: u64,
        failure: Failure,
        failed: Identity,
        now: Identity,
        /// There was no copy of the state of the tick's start.
        is_partial: bool,
        /// The tick took so long that the lead may have drained.
        is_late: bool,
        trial: Trial,
    },
    /// Nothing goes back to this any more.
    Retired(Trial),
    /// Nothing is kept in this any more.
    Unused(Snapshot),
    /// A failure of the running program.
    Fault(Report),
}

/// Why the tick thread refuses a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NoPendingSwap,
    NoTrial,
    /// The plan starts from a revision that does not run any more.
    OtherRevision,
    /// The plan was prepared for other memories.
    OtherMemories,
    /// The running program does not have what the command names; the command says why.
    NotInThisProgram,
    /// The running program has no item that the boundary waits for.
    NoPulse,
    TooManyRamps,
    /// The init-only modules failed.
    InitialisationFailed(Failure),
}
