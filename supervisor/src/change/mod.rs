//! Says what an edit would do, before it is done: the class of the change, the fate of every memory item, and the plan by
//! which state moves (DESIGN §9). The types are those of [`ipc::plan`].
//!
//! Pure functions from two revisions, the running one and the edited one, to data. They decide nothing, remember nothing and
//! never fail: whatever a worker wrote into a manifest, they end without a panic, and the host checks a plan once more
//! before it writes a byte. Report and plan are made from one [`Matching`], so that they cannot disagree. Time is
//! proportional to the size of the manifests, apart from sorting.
//!
//! The words: nodes are modules, edges are their references, keys are state keys. A *feedback loop* is a strongly connected
//! component of at least two modules; a module that reads what it wrote itself has state, but is no loop.
//!
//! [`matching`] pairs the items of both revisions, [`defaults`] compares what they start from, [`loops`] finds the feedback
//! loops, [`differences`] lists what differs with the class of each, [`report`] and [`moving`] make report and plan,
//! [`sentences`] puts a report into words.

mod defaults;
mod differences;
mod loops;
mod matching;
mod moving;
mod report;
pub mod sentences;
mod settings;
#[cfg(test)]
mod tests;

use ipc::artifact::DefaultBytes;
use ipc::manifest::Manifest;
use ipc::plan::{ChangeReport, MigrationPlan};

use defaults::Image;
use matching::Matching;

/// One compiled state of a program, as far as changes are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Revision<'a> {
    pub manifest: &'a Manifest,
    /// What its memories hold after `initDefaults`, init-only modules not counted.
    pub image: &'a [DefaultBytes],
}

/// What the manifests do not say: the runtime types and rates that both revisions come down to once aliases, defaults and
/// fallbacks are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    pub old: RuntimeFacts<'a>,
    pub new: RuntimeFacts<'a>,
}

/// What only a new process can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeFacts<'a> {
    /// Runtime type id of the registry.
    pub runtime_type: &'a str,
    /// Frames (of `audio`) or ticks a second.
    pub sample_rate_hz: u32,
}

/// Classifies the edit from `old` to `new` and names the fate of every item.
pub fn classify(old: Revision, new: Revision, context: &Context) -> ChangeReport {
    report::make(&Matching::of(old, new), context)
}

/// The plan that carries the state of `old` over to `new`, whose memories hold their defaults. In class A, where code and
/// memory stay, only its patches are of use.
pub fn plan(old: Revision, new: Revision) -> MigrationPlan {
    let matching = Matching::of(old, new);
    let targets = moving::targets(&matching);
    let relocates = !targets.is_empty();
    moving::make(&matching, targets, relocates, &Image::of(new.image))
}

/// The plan that carries the state of `failed` back to `good`, whose memories still hold what they held when `failed` took
/// over. What `failed` has no equal of stays as it was then: dropped and reset items, and defaults that `failed` changed.
pub fn plan_back(failed: Revision, good: Revision) -> MigrationPlan {
    let matching = Matching::of(failed, good);
    let targets = moving::targets(&matching);
    // Addresses that were relocated on the way there may have lost their target, so they are no plain bytes on the way back.
    let relocates = !targets.is_empty() || !moving::targets(&Matching::of(good, failed)).is_empty();
    let mut back = moving::make(&matching, targets, relocates, &Image::of(good.image));
    back.patches.clear();
    back
}
