//! Which runtime host is there for what, and the spare: a host with nothing to run, which keeps every running program loaded,
//! so that taking one over takes no loading. Part of the state machine: see the parent module.

use std::collections::{BTreeMap, BTreeSet};

use ipc::hash::ContentHash;
use ipc::message::HostReply;
use ipc::recovery::Prepare;
use ipc::segment::SegmentRef;

use super::program::Phase;
use super::{Action, Child, HostIndex, Policy, RuntimeIndex, Stage};

/// What a host is there for.
#[derive(Clone, Debug)]
pub enum Duty {
    /// It runs this program, or is to.
    Program(RuntimeIndex),
    Spare(Spare),
}

/// What a spare has been told to keep ready: programs by runtime and revision.
#[derive(Clone, Debug, Default)]
pub struct Spare {
    asked: BTreeSet<(String, ContentHash)>,
}

/// A program that a spare should have.
struct Wanted {
    artifact: SegmentRef,
    runtime_type: String,
}

impl Policy {
    /// Starts a host; it belongs to its duty from here on.
    pub(super) fn spawn_host(&mut self, now_ms: u64, duty: Duty, actions: &mut Vec<Action>) -> HostIndex {
        let host = HostIndex(self.last_host);
        self.last_host += 1;
        if let Duty::Program(runtime) = &duty {
            self.programs[runtime.0].host = Some(host);
        }
        self.hosts.insert(host, duty);
        self.spawn(now_ms, Child::Host(host), actions);
        host
    }

    /// The spare, if there is one that is or may become of use. One that has come in is preferred.
    pub(super) fn spare(&self) -> Option<HostIndex> {
        let is_spare = |host: &HostIndex| matches!(self.hosts.get(host), Some(Duty::Spare(_)));
        let spares = || self.hosts.keys().copied().filter(is_spare);
        let joined = spares().find(|host| self.process(Child::Host(*host)).is_joined());
        joined.or_else(|| spares().find(|host| self.process(Child::Host(*host)).is_usable()))
    }

    /// Keeps one spare, which has ready what runs.
    pub(super) fn advance_spare(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if !self.wants_spare() {
            return;
        }
        match self.spare() {
            Some(host) if self.process(Child::Host(host)).is_joined() => self.equip(host, actions),
            Some(_) => {}
            None if self.spare_restarts.not_before_ms <= now_ms => {
                self.spawn_host(now_ms, Duty::Spare(Spare::default()), actions);
            }
            None => {}
        }
    }

    /// When the next spare may be started, if one is missing.
    pub(super) fn spare_deadline_ms(&self) -> Option<u64> {
        (self.wants_spare() && self.spare().is_none()).then_some(self.spare_restarts.not_before_ms)
    }

    /// A spare is for sessions that go on, and must not slow down what is on its way to sound.
    fn wants_spare(&self) -> bool {
        let is_on_its_way = |phase: &Phase| match phase {
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => true,
            Phase::Starting { .. } | Phase::Recovering { .. } => true,
            Phase::Running | Phase::Held | Phase::Quarantined | Phase::Done | Phase::Failed => false,
        };
        self.is_live()
            && self.stage == Stage::Working
            && self.programs.iter().any(|program| matches!(program.phase, Phase::Running | Phase::Held))
            && !self.programs.iter().any(|program| is_on_its_way(&program.phase))
    }

    /// Tells a spare what it lacks, and what it need not keep.
    fn equip(&mut self, host: HostIndex, actions: &mut Vec<Action>) {
        let wanted = self.wanted();
        let Some(Duty::Spare(spare)) = self.hosts.get_mut(&host) else { return };
        let stale: BTreeSet<String> =
            spare.asked.iter().filter(|program| !wanted.contains_key(program)).map(|(runtime, _)| runtime.clone()).collect();
        for runtime in stale {
            let except = wanted.keys().filter(|(name, _)| *name == runtime).map(|(_, revision)| *revision).collect();
            spare.asked.retain(|(name, revision)| *name != runtime || wanted.contains_key(&(name.clone(), *revision)));
            actions.push(Action::Forget { host, runtime, except });
        }
        for ((runtime, revision), Wanted { artifact, runtime_type }) in wanted {
            if spare.asked.insert((runtime.clone(), revision)) {
                actions.push(Action::Prepare { host, program: Box::new(Prepare { runtime, runtime_type, revision, artifact }) });
            }
        }
    }

    /// Every program that may have to be recovered.
    fn wanted(&self) -> BTreeMap<(String, ContentHash), Wanted> {
        let mut wanted = BTreeMap::new();
        for program in &self.programs {
            let Some(revision) = program.revision.as_ref().filter(|_| program.keep.is_protected()) else { continue };
            for kept in program.keep.programs() {
                let (artifact, runtime_type) = (kept.artifact.clone(), revision.plan.runtime_type.clone());
                wanted.insert((program.name.clone(), kept.revision), Wanted { artifact, runtime_type });
            }
        }
        wanted
    }

    /// What a host says counts as long as it is there for something, and is not being ended.
    pub(super) fn some_host_said(&mut self, now_ms: u64, host: HostIndex, reply: HostReply, actions: &mut Vec<Action>) {
        if !self.process(Child::Host(host)).is_heard() {
            self.stale += 1;
            return;
        }
        match self.hosts.get(&host) {
            Some(Duty::Program(runtime)) => self.host_said(now_ms, *runtime, reply, actions),
            Some(Duty::Spare(_)) => spare_said(&reply),
            None => self.stale += 1,
        }
    }
}

/// Nothing depends on a spare's answers: a program that it could not load is loaded when it takes over.
fn spare_said(reply: &HostReply) {
    match reply {
        HostReply::Prepared { .. } | HostReply::Refused { .. } | HostReply::Loaded { .. } | HostReply::Log { .. } => {}
        HostReply::Started { .. } | HostReply::Status(_) | HostReply::Faulted { .. } | HostReply::Live(_) => {}
        HostReply::RunCaptured(_) | HostReply::RunMemory { .. } | HostReply::RunDone { .. } | HostReply::RunFailed { .. } => {}
        HostReply::TookOver(_) | HostReply::Present(_) | HostReply::Stopped => {}
    }
}
