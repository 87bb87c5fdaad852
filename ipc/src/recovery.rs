//! Going on where a dead host stopped: what the supervisor tells the host that takes over, and what it is told (DESIGN §10).
//!
//! A runtime has a *state segment* for each program that runs in it ([`crate::state`]): two checkpoint slots and the log of the
//! inputs since. The host writes it, nobody else. A checkpoint names the revision and the tick, and says what has been applied;
//! the moment at which it is complete is the moment at which a change has happened: what is not in a complete checkpoint or
//! its log has not been applied. A change of program gets a state segment of its own, so a swap is committed by the first
//! complete checkpoint there, and the segment of the old program keeps what a failed trial goes back to.
//!
//! Recovery is replay: the newest complete checkpoint is restored, the ticks from there to the last published one are executed
//! again with the logged inputs and without being published, and the next tick goes out in the same lane.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;
use crate::live::{LiveReply, LiveRequest, RequestId, Swap};
use crate::message::StartRuntime;
use crate::segment::SegmentRef;

/// A program of a runtime that may have to be recovered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub revision: ContentHash,
    /// Its artifact; the segment stays for as long as the program may have to be recovered. A patch has an artifact of its own,
    /// and shares its state segment with the program it patches.
    pub artifact: SegmentRef,
    /// Where its checkpoints are.
    pub state: SegmentRef,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
    /// The swap that brought it, or was to bring it, as long as its outcome is open (not yet committed, or on trial).
    pub swap: Option<(RequestId, Box<Swap>)>,
}

/// Keep this program ready, so that taking it over takes no loading. Answered by `HostReply::Prepared` or `HostReply::Refused`.
/// A spare keeps as many as it is told to, each under its runtime and revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    pub runtime: String,
    pub runtime_type: String,
    pub revision: ContentHash,
    pub artifact: SegmentRef,
}

/// Go on with this runtime. Answered by `HostReply::TookOver` or `HostReply::Refused`; from then on this host is no spare any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakeOver {
    /// As the dead host was started, with the next generation; the artifact and state segment in it do not count. A horizon
    /// is to be raised again.
    pub start: StartRuntime,
    /// What may have been running, oldest first: at least the last program that is known to have been committed, and every
    /// program that was sent since. The one of the newest complete checkpoint is the one that ran.
    pub candidates: Vec<Candidate>,
    /// To take effect before the first tick that is published, in this order: how a revision that killed twice in the same
    /// tick is replaced (`RollBack` while it is on trial, else a `Swap` to the last good one).
    pub first: Vec<LiveRequest>,
}

/// What a host went on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TookOver {
    pub runtime: String,
    pub generation: u64,
    /// The revision that runs.
    pub revision: ContentHash,
    /// Tick of the checkpoint that was restored.
    pub restored_tick: u64,
    /// Ticks that were executed again.
    pub replayed_ticks: u64,
    /// The next tick to be published.
    pub next_tick: u64,
    /// Requests that had taken effect, with their ticks, oldest first. Those of the last
    /// `limits::MAX_LIVE_REQUESTS` are known; a request that is not among them and was not answered has not been applied.
    pub applied: Vec<(RequestId, u64)>,
    /// The change that is on trial, and how many ticks it still has to complete. Every other trial is over, as if it had been
    /// cut short: that of a patch always is, because what it would have gone back to died with the host. Trials that pass or
    /// fail in the ticks that are executed again are reported afterwards, as usual: the dead host has told nobody of them. What
    /// it had put into a checkpoint and died before it could send is not told any more; then this says what has become of it.
    pub trial: Option<(RequestId, u32)>,
    pub is_frozen: bool,
    pub is_held: bool,
    /// Whether the program had been loaded before, by `Prepare`.
    pub was_prepared: bool,
    /// From the request to the first tick that is due being possible, in microseconds.
    pub took_us: u64,
}

/// Answers that a host remembers for the next supervisor: far more than are on their way when one dies.
pub const MAX_REMEMBERED_ANSWERS: usize = 256;

/// What a host that plays tells the next supervisor of its session, first of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    pub runtime: String,
    pub generation: u64,
    /// The revision that runs.
    pub revision: ContentHash,
    /// The next tick to be published.
    pub next_tick: u64,
    pub is_frozen: bool,
    pub is_held: bool,
    /// The newest request that has come in. A newer one has been lost on its way.
    pub last_request: Option<RequestId>,
    /// The last answers to requests, oldest first, heard by the last supervisor or not. Values that were read are not among them.
    pub answers: Vec<LiveReply>,
    /// How it took the runtime over from a host that died, if it did.
    pub took_over: Option<Box<TookOver>>,
}
