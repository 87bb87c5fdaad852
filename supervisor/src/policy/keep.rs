//! What it takes to go on with a runtime in another host: its programs with their segments, and what its host was asked and
//! has not answered. Plain data, in one place; the only thing that decides how long a segment keeps its name.
//!
//! A program is kept from the moment a host is told of it until no death and no failed trial can lead back to it: it was
//! refused or called back, another one has taken its place and passed its trial, or so many have taken its place within
//! their trials that nothing names it any more.

use std::path::PathBuf;

use ipc::hash::ContentHash;
use ipc::live::{LiveChange, LiveRequest, RequestId, Swap};
use ipc::recovery::Candidate;
use ipc::segment::SegmentRef;
use serde::{Deserialize, Serialize};

/// Swaps whose programs are kept although nothing goes back to them: a host that dies right after a commit goes on from the
/// checkpoint of the program before, should the first one of the new program not be complete.
const NEWEST_SWAPS: usize = 3;

/// What a kept program is to its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// What a failed trial goes back to.
    Fallback,
    /// What runs.
    Current,
    /// Sent, and not yet answered.
    Sent,
}

/// A program that may have to be recovered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub revision: ContentHash,
    pub artifact: SegmentRef,
    /// `None` where there was no room for one: then it cannot be recovered.
    pub state: Option<SegmentRef>,
    base_directory: PathBuf,
    /// The request that brought it; `None` for the one that its runtime started with.
    request: Option<RequestId>,
    swap: Option<Box<Swap>>,
    has_trial: bool,
    pub standing: Standing,
}

/// Names of segments that nothing leads back to any more.
pub type Released = Vec<String>;

/// Everything that is kept of one life of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Keep {
    /// Oldest first.
    programs: Vec<Kept>,
    /// Requests without their final answer, in the order they were sent in.
    pub unanswered: Vec<LiveRequest>,
}

impl Keep {
    /// A host is told to start this program.
    pub fn start(&mut self, revision: ContentHash, artifact: SegmentRef, base_directory: PathBuf) {
        let (request, swap, standing) = (None, None, Standing::Current);
        self.programs = vec![Kept { revision, artifact, state: None, base_directory, request, swap, has_trial: false, standing }];
    }

    /// The host is asked this.
    pub fn sent(&mut self, asked: &LiveRequest) {
        self.unanswered.push(asked.clone());
        let request = Some(asked.request);
        if self.programs.iter().any(|kept| kept.request == request) {
            return; // It was sent to another host before.
        }
        let standing = Standing::Sent;
        match &asked.what {
            LiveChange::Swap(swap) => self.programs.push(Kept {
                revision: swap.revision,
                artifact: swap.artifact.clone(),
                state: swap.state.clone(),
                base_directory: swap.base_directory.clone(),
                request,
                swap: Some(swap.clone()),
                has_trial: swap.trial_ticks > 0,
                standing,
            }),
            LiveChange::Patch(patch) => {
                // Its checkpoints are those of the program it patches.
                let patched = self.programs.iter().rfind(|kept| kept.standing == Standing::Current);
                let state = patched.and_then(|kept| kept.state.clone());
                self.programs.push(Kept {
                    revision: patch.revision,
                    artifact: patch.artifact.clone(),
                    state,
                    base_directory: patch.base_directory.clone(),
                    request,
                    swap: None,
                    has_trial: patch.trial_ticks > 0,
                    standing,
                });
            }
            LiveChange::CancelSwap | LiveChange::Reset | LiveChange::Freeze | LiveChange::Run | LiveChange::RollBack => {}
            LiveChange::Set { .. } | LiveChange::Midi { .. } | LiveChange::Get { .. } | LiveChange::Proceed { .. } => {}
        }
    }

    /// A state segment is there for the program of this request. Returns whether it is still wanted.
    pub fn protect(&mut self, request: Option<RequestId>, state: &SegmentRef) -> bool {
        let Some(kept) = self.programs.iter_mut().find(|kept| kept.request == request && kept.state.is_none()) else { return false };
        kept.state = Some(state.clone());
        if let Some(swap) = &mut kept.swap {
            swap.state = Some(state.clone());
        }
        let asked = self.unanswered.iter_mut().find(|asked| Some(asked.request) == request).map(|asked| &mut asked.what);
        if let Some(LiveChange::Swap(swap)) = asked {
            swap.state = Some(state.clone());
        }
        true
    }

    /// Takes the request out that has been answered for good.
    pub fn answered(&mut self, request: RequestId) -> Option<LiveRequest> {
        let position = self.unanswered.iter().position(|asked| asked.request == request)?;
        Some(self.unanswered.remove(position))
    }

    /// Whether the final answer to this request is still to come.
    pub fn is_unanswered(&self, request: RequestId) -> bool {
        self.unanswered.iter().any(|asked| asked.request == request)
    }

    /// Whether the program of this request is a patch of another one.
    pub fn is_patch(&self, request: RequestId) -> bool {
        self.programs.iter().any(|kept| kept.request == Some(request) && kept.swap.is_none())
    }

    /// The program of this request runs.
    pub fn committed(&mut self, request: RequestId) -> Released {
        let Some(new) = self.programs.iter().position(|kept| kept.request == Some(request) && kept.standing == Standing::Sent) else {
            return Released::new();
        };
        // A patch ends no trial that is under way; a swap does, and may have one of its own.
        let is_patch = self.programs[new].swap.is_none();
        let is_undoable = self.programs[new].has_trial || (is_patch && self.has_fallback());
        for kept in self.programs.iter_mut().filter(|kept| kept.standing != Standing::Sent) {
            kept.standing = Standing::Fallback;
            kept.has_trial &= is_patch;
        }
        self.programs[new].standing = Standing::Current;
        if is_undoable { self.let_go_passed_over() } else { self.let_go(|kept| kept.standing == Standing::Fallback) }
    }

    /// Lets go of what edits that came faster than trials pass have left between the newest programs and the one that a
    /// failure goes back to.
    fn let_go_passed_over(&mut self) -> Released {
        let swaps = self.programs.iter().enumerate().filter(|(_, kept)| kept.swap.is_some());
        let Some((newest, _)) = swaps.rev().nth(NEWEST_SWAPS) else { return Released::new() };
        let ways_back =
            self.programs[newest..].iter().filter_map(|kept| kept.swap.as_ref()).flat_map(|swap| [&swap.back, &swap.back_to_good]);
        let goals: Vec<ContentHash> = ways_back.flatten().map(|plan| plan.to).collect();
        let passed_over: Vec<_> = self.programs[..newest].iter().map(|kept| (kept.request, goals.contains(&kept.revision))).collect();
        self.let_go(|kept| kept.standing == Standing::Fallback && passed_over.contains(&(kept.request, false)))
    }

    /// The program of this request has passed its trial: nothing leads back behind it, unless a swap before it is on trial.
    pub fn stays(&mut self, request: RequestId) -> Released {
        let is_it = |kept: &Kept| kept.request == Some(request) && kept.standing != Standing::Sent;
        let Some(good) = self.programs.iter().position(is_it) else { return Released::new() };
        self.programs[good].swap = None;
        self.programs[good].has_trial = false;
        if self.programs[..good].iter().any(|kept| kept.has_trial && kept.swap.is_some()) {
            return Released::new();
        }
        let older: Vec<Option<RequestId>> = self.programs[..good].iter().map(|kept| kept.request).collect();
        self.let_go(|kept| kept.standing == Standing::Fallback && older.contains(&kept.request))
    }

    /// The trial of this request is over without an outcome: another swap has taken its place, or nothing is left of what it
    /// would have gone back to.
    pub fn cut_short(&mut self, request: RequestId) {
        self.programs.iter_mut().filter(|kept| kept.request == Some(request)).for_each(|kept| kept.has_trial = false);
    }

    /// A trial has failed; this revision runs again. Of several programs of that revision it is the oldest: a swap within a trial
    /// goes back past everything that was on trial before it, and what is older than the last good program is not kept.
    pub fn rolled_back(&mut self, to: ContentHash) -> Released {
        let is_it = |kept: &Kept| kept.revision == to && kept.standing == Standing::Fallback;
        let Some(good) = self.programs.iter().position(is_it) else { return Released::new() };
        self.programs[good].standing = Standing::Current;
        self.programs[good].swap = None;
        let good = self.programs[good].request;
        self.let_go(|kept| kept.standing != Standing::Sent && kept.request != good)
    }

    /// The program of this request will not run.
    pub fn dropped(&mut self, request: RequestId) -> Released {
        self.let_go(|kept| kept.request == Some(request) && kept.standing == Standing::Sent)
    }

    /// Its life is over.
    pub fn end(&mut self) -> Released {
        self.unanswered.clear();
        self.let_go(|_| true)
    }

    /// Whether what runs can be recovered.
    pub fn is_protected(&self) -> bool {
        self.current().is_some_and(|kept| kept.state.is_some())
    }

    /// Requests of which something may still be heard.
    pub fn open_requests(&self) -> Vec<RequestId> {
        let on_trial = self.programs.iter().filter(|kept| kept.has_trial).filter_map(|kept| kept.request);
        self.unanswered.iter().map(|asked| asked.request).chain(on_trial).collect()
    }

    /// What another supervisor must know of it: all but what only those who asked wait for.
    pub fn to_be_noted(&self) -> Self {
        let is_lasting = |asked: &&LiveRequest| match asked.what {
            LiveChange::Swap(_) | LiveChange::Patch(_) | LiveChange::CancelSwap | LiveChange::RollBack => true,
            LiveChange::Reset | LiveChange::Freeze | LiveChange::Run => false,
            LiveChange::Set { .. } | LiveChange::Midi { .. } | LiveChange::Get { .. } | LiveChange::Proceed { .. } => false,
        };
        Self { programs: self.programs.clone(), unanswered: self.unanswered.iter().filter(is_lasting).cloned().collect() }
    }

    /// Every segment that is kept.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        self.programs.iter().flat_map(|kept| std::iter::once(&kept.artifact).chain(&kept.state))
    }

    /// What runs, as far as is known.
    pub fn current(&self) -> Option<&Kept> {
        self.programs.iter().find(|kept| kept.standing == Standing::Current)
    }

    /// Whether a trial is running, so that something can be gone back to.
    pub fn has_fallback(&self) -> bool {
        self.programs.iter().any(|kept| kept.standing == Standing::Fallback)
    }

    /// Everything that is kept.
    pub fn programs(&self) -> &[Kept] {
        &self.programs
    }

    /// Whether this segment is in use.
    pub fn holds(&self, segment: &str) -> bool {
        let names = |kept: &Kept| kept.artifact.name == segment || kept.state.as_ref().is_some_and(|state| state.name == segment);
        self.programs.iter().any(names)
    }

    /// What a host is told that takes over.
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |kept: &Kept| {
            Some(Candidate {
                revision: kept.revision,
                artifact: kept.artifact.clone(),
                state: kept.state.clone()?,
                base_directory: kept.base_directory.clone(),
                swap: kept.request.zip(kept.swap.clone()),
            })
        };
        self.programs.iter().filter_map(candidate).collect()
    }

    fn let_go(&mut self, is_over: impl Fn(&Kept) -> bool) -> Released {
        let (over, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.programs).into_iter().partition(is_over);
        self.programs = kept;
        let names = over.into_iter().flat_map(|kept| [Some(kept.artifact.name), kept.state.map(|state| state.name)]).flatten();
        let mut released: Released = names.filter(|name| !self.holds(name)).collect();
        released.dedup();
        released
    }
}

#[cfg(test)]
mod tests {
    use ipc::live::{Boundary, Patch};
    use ipc::segment::SegmentKind;

    use super::*;

    fn segment(name: &str) -> SegmentRef {
        SegmentRef { name: name.to_owned(), kind: SegmentKind::Artifact, generation: 1, bytes: 1, hash: None }
    }

    fn revision(name: &str) -> ContentHash {
        ContentHash::of(&[name.as_bytes()])
    }

    fn swap(request: RequestId, name: &str, trial_ticks: u32) -> LiveRequest {
        let swap = Swap {
            artifact: segment(name),
            revision: revision(name),
            state: None,
            there: None,
            back: None,
            back_to_good: None,
            boundary: Boundary::Frame,
            trial_ticks,
            crossfade_frames: 0,
            base_directory: PathBuf::from("/"),
        };
        LiveRequest { request, at_tick: None, what: LiveChange::Swap(Box::new(swap)) }
    }

    fn patch(request: RequestId, name: &str) -> LiveRequest {
        let patch = Patch {
            artifact: segment(name),
            revision: revision(name),
            plan: {
                let content = crate::policy::programs_in_tests::content(Default::default());
                let revision = || crate::change::Revision { manifest: &content.manifest, image: &content.image };
                crate::change::plan(revision(), revision())
            },
            trial_ticks: 10,
            base_directory: PathBuf::from("/"),
        };
        LiveRequest { request, at_tick: None, what: LiveChange::Patch(Box::new(patch)) }
    }

    /// The change, with a way back to this program.
    fn back_to(name: &str, asked: LiveRequest) -> LiveChange {
        let LiveRequest { what: LiveChange::Swap(mut swap), .. } = asked else { panic!("a swap") };
        let LiveRequest { what: LiveChange::Patch(patch), .. } = patch(0, name) else { panic!("a patch") };
        swap.back_to_good = Some(ipc::plan::MigrationPlan { to: revision(name), ..patch.plan });
        LiveChange::Swap(swap)
    }

    fn started() -> Keep {
        let mut keep = Keep::default();
        keep.start(revision("a"), segment("a"), PathBuf::from("/"));
        assert!(keep.protect(None, &segment("a-state")));
        keep
    }

    #[test]
    fn a_swap_is_kept_from_its_sending_and_what_it_replaces_until_its_trial_is_passed() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 10));
        assert!(keep.protect(Some(1), &segment("b-state")));
        let open = keep.candidates();
        assert_eq!(open.len(), 2);
        assert_eq!(open[1].swap.as_ref().map(|(request, swap)| (*request, swap.state.clone())), Some((1, Some(segment("b-state")))));
        assert!(keep.committed(1).is_empty());
        assert!(keep.candidates()[1].swap.is_some(), "its outcome is open while it is on trial");
        assert_eq!(keep.stays(1), ["a", "a-state"]);
        assert_eq!(keep.candidates().len(), 1);
        assert!(keep.candidates()[0].swap.is_none());
    }

    #[test]
    fn a_failed_trial_leads_back_to_what_ran_before() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 10));
        keep.committed(1);
        assert_eq!(keep.rolled_back(revision("a")), ["b"]);
        assert_eq!(keep.current().map(|kept| kept.revision), Some(revision("a")));
        assert!(keep.rolled_back(revision("a")).is_empty(), "and once only");
    }

    #[test]
    fn a_refused_swap_leaves_what_runs_alone() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 10));
        keep.protect(Some(1), &segment("b-state"));
        assert_eq!(keep.dropped(1), ["b", "b-state"]);
        assert!(keep.dropped(1).is_empty());
        assert_eq!(keep.candidates().len(), 1);
    }

    #[test]
    fn a_patch_shares_the_state_segment_which_stays_with_it() {
        let mut keep = started();
        keep.sent(&patch(1, "b"));
        assert_eq!(keep.candidates()[1].state, segment("a-state"));
        keep.committed(1);
        assert_eq!(keep.stays(1), ["a"], "the state segment is still in use");
        assert_eq!(keep.end(), ["b", "a-state"]);
    }

    #[test]
    fn a_swap_within_a_trial_that_fails_leads_back_to_the_last_good_program() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 10));
        keep.committed(1);
        keep.sent(&swap(2, "c", 10));
        assert!(keep.committed(2).is_empty());
        assert_eq!(keep.rolled_back(revision("a")), ["b", "c"]);
        assert_eq!(keep.current().map(|kept| kept.revision), Some(revision("a")));
    }

    #[test]
    fn swaps_that_come_faster_than_trials_pass_do_not_pile_up() {
        let mut keep = started();
        let names: Vec<String> = (1..=40).map(|number| format!("b{number}")).collect();
        let mut released = Vec::new();
        for (request, name) in (1..).zip(&names) {
            keep.sent(&LiveRequest { what: back_to("a", swap(request, name, 10)), ..swap(request, name, 10) });
            released.extend(keep.committed(request));
        }
        assert_eq!(released, names[..names.len() - NEWEST_SWAPS - 1], "each is let go of once");
        assert_eq!(keep.programs().first().map(|kept| kept.revision), Some(revision("a")), "what a failure goes back to stays");
        assert_eq!(keep.rolled_back(revision("a")).len(), NEWEST_SWAPS + 1);
    }

    #[test]
    fn of_two_programs_of_one_revision_the_good_one_is_gone_back_to() {
        let mut keep = started();
        for (request, name) in [(1, "b"), (2, "a"), (3, "c")] {
            let asked = swap(request, name, 10);
            keep.sent(&LiveRequest { what: back_to("a", asked.clone()), ..asked });
            keep.protect(Some(request), &segment(&format!("state-{request}")));
            keep.committed(request);
        }
        keep.rolled_back(revision("a"));
        assert_eq!(keep.current().and_then(|kept| kept.state.clone()), Some(segment("a-state")), "its checkpoints are the newest");
    }

    #[test]
    fn a_patch_that_passes_before_the_swap_below_it_leaves_what_that_goes_back_to() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 1_000));
        keep.committed(1);
        keep.sent(&patch(2, "c"));
        keep.committed(2);
        assert!(keep.stays(2).is_empty());
        assert!(keep.holds("a") && keep.has_fallback());
        assert_eq!(keep.stays(1), ["a", "a-state"]);
    }

    #[test]
    fn a_swap_ends_the_trials_before_it() {
        let mut keep = started();
        for (request, name) in [(1, "b"), (2, "c")] {
            keep.sent(&swap(request, name, 10));
            keep.committed(request);
        }
        // The requests themselves were not taken out here; of the trials the newest is open.
        keep.unanswered.clear();
        assert_eq!(keep.open_requests(), [2]);
    }

    #[test]
    fn a_patch_within_a_trial_does_not_end_it() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 10));
        keep.protect(Some(1), &segment("b-state"));
        keep.committed(1);
        keep.sent(&patch(2, "c"));
        assert!(keep.committed(2).is_empty());
        assert!(keep.candidates()[1].swap.is_some(), "the swap's outcome is still open");
        assert_eq!(keep.stays(1), ["a", "a-state"]);
        assert_eq!(keep.stays(2), ["b"]);
        assert_eq!(keep.current().map(|kept| kept.revision), Some(revision("c")));
    }

    #[test]
    fn without_a_trial_nothing_leads_back() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 0));
        assert_eq!(keep.committed(1), ["a", "a-state"]);
    }

    #[test]
    fn what_has_no_state_segment_is_no_candidate() {
        let mut keep = Keep::default();
        keep.start(revision("a"), segment("a"), PathBuf::from("/"));
        assert!(!keep.is_protected());
        assert!(keep.candidates().is_empty());
    }

    #[test]
    fn requests_are_unanswered_until_they_are_answered_for_good() {
        let mut keep = started();
        keep.sent(&swap(1, "b", 0));
        keep.sent(&LiveRequest { request: 2, at_tick: None, what: LiveChange::Freeze });
        assert_eq!(keep.answered(2).map(|asked| asked.request), Some(2));
        assert_eq!(keep.answered(2), None);
        assert_eq!(keep.unanswered.len(), 1);
    }
}
