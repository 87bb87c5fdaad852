//! Changes: what an edit would do, and how it went (DESIGN §9).

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;
use super::status::Cause;
use super::values::{Boundary, ChangeClass, ChangeId, RevisionName, RuntimeName};

/// What a change does, as it is known before it takes effect. The answer to `push`, `plan`, `confirm` and `rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChangeReport {
    pub change: ChangeId,
    pub runtime: RuntimeName,
    /// The new revision.
    pub revision: RevisionName,
    /// The revision it is compared with; null for a runtime's first one.
    pub base: Option<RevisionName>,
    pub class: ChangeClass,
    pub state: ChangeState,
    /// Why it has this class.
    pub reasons: Vec<Reason>,
    /// State that stays where it is.
    pub kept: Amount,
    /// Items whose state moves to another place or another size.
    pub moved: Vec<ItemMove>,
    /// Items that start from their default.
    pub reset: Vec<ItemLoss>,
    /// Items whose state goes because they are no longer declared.
    pub discarded: Vec<ItemLoss>,
    /// Items that are kept, but may lose state all the same: those that hold addresses go back to their default if they point
    /// at something that goes (then they are among what `committed` tells as reset), and those that init-only modules which run
    /// again can reach may be written by them.
    pub at_risk: Vec<String>,
    /// Items that are new, and start from their default.
    pub added: Vec<String>,
    /// The init-only modules run once more.
    pub reruns_init_only: bool,
    /// What looks renamed. A hint only: state goes by name, so the new one starts afresh.
    pub renames: Vec<Renamed>,
    /// Boundaries that this program offers.
    pub boundaries: Vec<Boundary>,
    /// The boundary it takes effect at.
    pub boundary: Boundary,
    /// The runtime type the program runs under.
    pub runtime_type: String,
    /// The runtime type it asked for, when there is no such type and the session's default took its place.
    pub fallback_from: Option<String>,
    /// Why this text failed while it ran before, if it did: a push of it is refused without `force`.
    pub refused: Option<Cause>,
    pub timings: Option<Timings>,
}

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ChangeState {
    /// Only asked about: nothing follows.
    Planned,
    /// Waits for `confirm` or `cancel`.
    NeedsAck,
    /// Waits for its boundary.
    Pending,
    /// In effect.
    Committed,
}

/// Why a change has its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    /// The rule that applied, for scripts, such as `feedback_changed`.
    pub rule: String,
    /// The same for people.
    pub text: String,
    /// Modules or items concerned.
    pub concerns: Vec<String>,
}

/// An amount of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Amount {
    pub items: u64,
    pub bytes: u64,
}

/// State in bytes, as the host counted it while it carried it from the old program to the new one. A change of class A at the
/// boundary `frame` carries nothing: the memory stays, and only what has a new default is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CarriedBytes {
    /// Carried to the place where it was.
    pub kept: u64,
    /// Carried to another place.
    pub moved: u64,
    /// Kept items' bytes that took their new default instead.
    pub patched: u64,
}

/// An item whose state moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ItemMove {
    /// `MODULE:ITEM`.
    pub item: String,
    pub from_address: u64,
    pub to_address: u64,
    /// Bytes that are carried over.
    pub bytes: u64,
}

/// A module, or an item of a module, that is gone beside one that is new and looks the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Renamed {
    /// The module that both items are in; null where the names are those of modules.
    pub module: Option<String>,
    pub from: String,
    pub to: String,
}

/// An item whose state goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ItemLoss {
    /// `MODULE:ITEM`.
    pub item: String,
    pub bytes: u64,
    /// Why, such as `was int, is float`.
    pub why: String,
}

/// Where the time of a change went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timings {
    /// From the request, or the file's change, to the worker.
    pub detect_us: u64,
    /// Source text to wasm.
    pub compile_us: u64,
    /// Wasm to native code.
    pub native_us: u64,
    /// Through shared memory into the host.
    pub transfer_us: u64,
}

/// An event of the topic `changes`: something happened to a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChangeEvent {
    pub change: ChangeId,
    pub runtime: RuntimeName,
    /// Null as long as the text has not been compiled.
    pub revision: Option<RevisionName>,
    pub progress: Progress,
}

/// What happened to a change. Exactly one of `committed`, `unchanged`, `rejected`, `superseded` and `cancelled` comes for every
/// change that was not merely planned; `rolledBack` may follow `committed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Progress {
    /// It would lose state and waits for `confirm` or `cancel`.
    NeedsAck { report: Box<ChangeReport> },
    /// It is on its way, and takes effect at its boundary. Told before the host is.
    Pending { boundary: Boundary, report: Box<ChangeReport> },
    /// It is in effect from this tick on.
    Committed {
        tick: u64,
        /// State that was copied to the same place, and to another one.
        copied: Amount,
        remapped: Amount,
        reset: Vec<String>,
        discarded: Vec<String>,
        /// What the host that did it counted; null where state was not carried by a host that could tell: a first load, a new
        /// host, a commit that recovery found done.
        carried: Option<CarriedBytes>,
        /// Time the commit took on the tick thread; null where nobody measured it: as `carried`.
        commit_us: Option<u64>,
        /// The host died between the commit and its report; recovery found it done.
        by_recovery: bool,
    },
    /// The text is the one that plays: there is nothing to do.
    Unchanged {},
    /// It does not take effect. What played goes on playing.
    Rejected { why: String, diagnostics: Vec<Diagnostic> },
    /// It failed while it ran; an older revision plays in its place, unheard.
    RolledBack { to: RevisionName, tick: u64, why: String, line: Option<u32> },
    /// A newer change took its place before it took effect.
    Superseded { by: ChangeId },
    /// Somebody cancelled it.
    Cancelled {},
}
