//! Which runtime host is there for what, and the spare: a host with nothing to run, which keeps every running program loaded,
//! so that taking one over takes no loading. Part of the state machine: see the parent module.

use std::collections::{BTreeMap, BTreeSet};

use ipc::hash::ContentHash;
use ipc::message::HostReply;
use ipc::recovery::Prepare;
use ipc::segment::SegmentRef;

use super::program::Phase;
use super::pulse::{self, Pulse};
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
    /// Those of them that it says it has loaded.
    ready: BTreeSet<(String, ContentHash)>,
    pulse: Pulse,
}

impl Spare {
    /// The revisions of a runtime that it has loaded.
    pub fn ready_of(&self, runtime: &str) -> BTreeSet<ContentHash> {
        self.ready.iter().filter(|(name, _)| name == runtime).map(|(_, revision)| *revision).collect()
    }

    /// Nothing depends on its answers but whether it is alive, and how long a takeover may take: a program that it could not
    /// load is loaded when it takes over.
    fn said(&mut self, reply: HostReply) {
        match reply {
            HostReply::Prepared { runtime, revision } => {
                if self.ready.contains(&(runtime.clone(), revision)) {
                    self.pulse.has_answered();
                } else {
                    self.pulse.has_loaded();
                    self.ready.insert((runtime, revision));
                }
            }
            HostReply::Refused { .. } => self.pulse.has_loaded(),
            HostReply::Loaded { .. } | HostReply::Log { .. } => {}
            HostReply::Started { .. } | HostReply::Status(_) | HostReply::Faulted { .. } | HostReply::Live(_) => {}
            HostReply::RunCaptured(_) | HostReply::RunMemory { .. } | HostReply::RunDone { .. } | HostReply::RunFailed { .. } => {}
            HostReply::TookOver(_) | HostReply::Present(_) | HostReply::Wired { .. } | HostReply::Stopped => {}
        }
    }
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
            let is_kept = |program: &(String, ContentHash)| program.0 != runtime || wanted.contains_key(program);
            spare.asked.retain(is_kept);
            spare.ready.retain(is_kept);
            actions.push(Action::Forget { host, runtime, except });
        }
        for ((runtime, revision), Wanted { artifact, runtime_type }) in wanted {
            if spare.asked.insert((runtime.clone(), revision)) {
                spare.pulse.loads(artifact.bytes);
                actions.push(Action::Prepare { host, program: Box::new(Prepare { runtime, runtime_type, revision, artifact }) });
            }
        }
    }

    /// Sees to it that the spare answers, and replaces it if it does not. One that has nothing loaded has nothing to be asked for.
    pub(super) fn look_at_spare(&mut self, now_ms: u64, seen_ms: u64, actions: &mut Vec<Action>) {
        let Some(host) = self.spare().filter(|host| self.process(Child::Host(*host)).is_joined()) else { return };
        let Some(Duty::Spare(spare)) = self.hosts.get_mut(&host) else { return };
        match spare.pulse.pass(seen_ms) {
            pulse::Found::Well => {}
            pulse::Found::Due => self.ask_spare(host, actions),
            pulse::Found::Stuck { quiet_ms } => {
                let reason = format!("it has not answered for {quiet_ms} ms");
                self.stuck(now_ms, Child::Host(host), reason, actions);
            }
        }
    }

    /// Tells a spare once more to keep a program that it has: it says at once that it does.
    fn ask_spare(&mut self, host: HostIndex, actions: &mut Vec<Action>) {
        let wanted = self.wanted();
        let Some(Duty::Spare(spare)) = self.hosts.get_mut(&host) else { return };
        let Some(((runtime, revision), known)) = wanted.into_iter().find(|(program, _)| spare.ready.contains(program)) else { return };
        spare.pulse.is_asked();
        let Wanted { artifact, runtime_type } = known;
        actions.push(Action::Prepare { host, program: Box::new(Prepare { runtime, runtime_type, revision, artifact }) });
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
        match self.hosts.get_mut(&host) {
            Some(Duty::Program(runtime)) => {
                let runtime = *runtime;
                self.host_said(now_ms, runtime, reply, actions);
            }
            Some(Duty::Spare(spare)) => spare.said(reply),
            None => self.stale += 1,
        }
    }
}
