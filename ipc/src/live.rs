//! Changing a runtime while it runs: what the supervisor asks of a host between two ticks, and what the host answers
//! (DESIGN §9).
//!
//! Every request takes effect at the start of exactly one tick, and its answer names that tick: requests and their ticks are
//! the log by which a runtime can be replayed. A request may name the tick itself (`at_tick`): that is how a replay gives
//! it. One that names a tick in the past takes effect at the next one. Those of one tick take effect in the order they came
//! in.
//!
//! Ticks are numbered whether the program runs in them or not: for `audio`, tick n is block n of the lane. While a runtime is
//! frozen or held its ticks pass, silent, without executing the program.
//!
//! A host that replays does not run into ticks whose requests are still on the way: it executes only ticks below a horizon,
//! which starts at `StartRuntime::run_until` and is raised with [`LiveChange::Proceed`] once every request below it has been
//! sent. Requests for such a host are best sent in the order of their ticks, no more at a time than
//! `limits::MAX_LIVE_REQUESTS`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::hash::ContentHash;
use crate::message::{ItemValue, Refusal};
use crate::midi::Received;
use crate::plan::{MigrationPlan, StateKey};
use crate::segment::SegmentRef;

/// Names a request of the supervisor; unique within a runtime.
pub type RequestId = u64;

/// Supervisor to runtime host, inside `HostRequest::Live`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveRequest {
    pub request: RequestId,
    /// The first tick it may take effect in; `None` for the next one.
    pub at_tick: Option<u64>,
    pub what: LiveChange,
}

/// What is to change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LiveChange {
    /// Run another revision (classes B and C, and resets). Answered by `SwapProgress` until it is over. A newer swap
    /// supersedes one that is still pending.
    Swap(Box<Swap>),
    /// New defaults in the running memory (class A): patch, then run the init-only modules once if the plan says so. The
    /// engine stays; the artifact's manifest takes the place of the running one.
    Patch(Box<Patch>),
    /// Drop the pending swap.
    CancelSwap,
    /// Start again from the defaults: full initialisation of the running revision, assets included. Releases a held runtime.
    Reset,
    /// Stop ticking; an `audio` runtime delivers silence. A swap that waits for `Boundary::Freeze` takes effect.
    Freeze,
    /// Go on ticking.
    Run,
    /// Write values; with a ramp, reach them in so many equal steps, one at the start of each tick: the first step in the
    /// tick of the answer, the value itself `ramp_ticks` - 1 ticks later. 0 and 1 write the value at once. A ramp follows
    /// its item through a swap, and ends where the item is reset, dropped, or written by a newer request.
    Set { values: Vec<SetItem>, ramp_ticks: u32 },
    /// Messages that have come in from outside, in order, for whatever of the program takes them. Those that nothing takes
    /// are fine. A callback that fails is reported like a failing tick, and the others are called all the same.
    Midi { messages: Vec<Received> },
    /// Read items as they are at the start of a tick. Answered by `LiveReply::Values`.
    Get { items: Vec<String> },
    /// End the running trial as failed: the old revision computes this tick. A replay gives rollbacks for exceeded deadlines
    /// this way, because no clock decides in it.
    RollBack,
    /// Execute all ticks below `to_tick`: every request for them has been sent. Answered at once, with `to_tick`. Only for a
    /// runtime that was started with a horizon, which it never lowers.
    Proceed { to_tick: u64 },
}

/// Another revision for a running runtime. Its segment may go as soon as `HostReply::Loaded` names it, or the swap is refused;
/// the same goes for patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swap {
    pub artifact: SegmentRef,
    pub revision: ContentHash,
    /// Where the checkpoints of the new program go; `None` for a runtime that nobody would take over.
    pub state: Option<SegmentRef>,
    /// How state gets from the running revision into this one; `None` starts from the defaults.
    pub there: Option<MigrationPlan>,
    /// How it gets back to the running revision if the trial fails.
    pub back: Option<MigrationPlan>,
    /// How it gets back to the last revision that passed its trial (`to` names it), where that is another than the one that
    /// runs: given while a swap is on trial. If that revision's program is still kept when this one is committed, it is what
    /// a failed trial goes back to; if not, the running revision has passed its trial meanwhile, and `back` is the way.
    pub back_to_good: Option<MigrationPlan>,
    pub boundary: Boundary,
    /// For how many ticks the old revision is kept, to take over when this one fails; 0 for no trial.
    pub trial_ticks: u32,
    /// Frames over which an `audio` runtime blends from the old revision's sound to the new one's; 0 for none. The old
    /// program goes on ticking meanwhile; if the trial fails, what `back` does not carry goes on from there. There is none
    /// where `back_to_good` is the way back: only one old program is kept.
    pub crossfade_frames: u32,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
}

/// New defaults for the running revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    /// Artifact of the edited program; its manifest is used, and its memory image for later resets.
    pub artifact: SegmentRef,
    pub revision: ContentHash,
    pub plan: MigrationPlan,
    /// For how many ticks a failure undoes the patch: the old values come back, the init-only modules run once more if they
    /// ran for the patch, and the failed tick is computed again. `LiveReply::Applied` is then followed by exactly one
    /// `TrialPassed`, `RolledBack` or `TrialCutShort` of the same request. 0 for no trial.
    ///
    /// A patch ends no trial that is under way. Patches that are on trial at the same time as a swap or as earlier patches are
    /// taken back with them, because a failure may be due to any of them: each gets its `RolledBack`, with the same tick.
    pub trial_ticks: u32,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
}

/// Where a swap may take effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boundary {
    /// The next tick after the engine is ready.
    Frame,
    /// The next tick after a rising edge of this item (`MODULE:ITEM`) of the running program: from zero or less to more.
    Pulse { item: String },
    /// When the runtime is frozen.
    Freeze,
}

/// One value to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetItem {
    /// `MODULE:ITEM`, a bare item name that is unique, or either with an element index (`buffer[3]`).
    pub item: String,
    pub value: f64,
}

/// Runtime host to supervisor, inside `HostReply::Live`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LiveReply {
    Swap {
        request: RequestId,
        progress: SwapProgress,
    },
    /// Anything but a swap or a read took effect at the start of this tick. `carried` is set for patches.
    Applied {
        request: RequestId,
        tick: u64,
        carried: Option<Carried>,
    },
    Values {
        request: RequestId,
        tick: u64,
        values: Vec<ItemValue>,
    },
    /// Nothing was changed.
    Refused {
        request: RequestId,
        reason: Refusal,
    },
}

impl LiveReply {
    /// The request it answers.
    pub fn request(&self) -> RequestId {
        match self {
            Self::Swap { request, .. } | Self::Applied { request, .. } | Self::Values { request, .. } | Self::Refused { request, .. } => {
                *request
            }
        }
    }
}

/// How far a swap is. Exactly one of `Committed`, `Superseded`, `Cancelled` and a `LiveReply::Refused` comes for each;
/// after `Committed` exactly one of `TrialPassed`, `RolledBack` and `TrialCutShort` when there is a trial. A new revision
/// whose init-only modules fail at the commit is committed and rolled back in the same tick; without a trial it is refused.
/// Whatever is committed within a trial: a failure goes back to the last revision that passed its own.
/// A swap that still waits when the runtime ends is cancelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SwapProgress {
    /// The engine is ready and waits for its boundary.
    Pending {
        build_us: u64,
    },
    /// The first tick of the new revision. `commit_ns` is what the tick thread spent on it, copies included.
    Committed {
        tick: u64,
        commit_ns: u64,
        carried: Carried,
    },
    Superseded,
    Cancelled,
    TrialPassed {
        tick: u64,
    },
    /// The new revision failed in this tick, and the revision `to` computed it instead, with the state of the tick's start.
    /// `is_partial`: with the state that the failed tick left, because the program is too large to be kept every tick.
    /// `is_late`: the failed tick took so long that the lead may have drained before `to` had computed it.
    RolledBack {
        tick: u64,
        fault: Fault,
        to: ContentHash,
        is_partial: bool,
        is_late: bool,
    },
    /// The trial ended because another swap was committed, or the runtime ended.
    TrialCutShort {
        tick: u64,
    },
}

/// What a migration carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Bytes that were carried to the place where they were before, as they were or as addresses.
    pub kept_bytes: u64,
    /// Bytes that were carried to another place.
    pub moved_bytes: u64,
    /// Addresses that changed because their target moved.
    pub relocated_addresses: u64,
    /// Bytes of what is kept that took their new default.
    pub patched_bytes: u64,
    /// Time that a patch took on the tick thread. 0 for a swap, whose progress tells it.
    pub patch_ns: u64,
    /// Items of which addresses lost their target and went back to their default.
    pub lost: Vec<StateKey>,
}
