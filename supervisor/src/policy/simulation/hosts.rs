//! Hosts of the simulated session as they are, whatever the policy has heard of them: what runs in each life of a runtime, what is
//! on trial there, what its checkpoints lead back to. They say what real hosts would say, in that order.

use std::collections::BTreeMap;

use ipc::hash::ContentHash;
use ipc::live::{Boundary, Carried, LiveChange, LiveReply, Patch, RequestId, Swap, SwapProgress};
use ipc::recovery::{Presence, TookOver};
use ipc::wires::{Taken, Wiring};

use super::*;

/// A program in a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub revision: ContentHash,
    /// Where its checkpoints are; `None` where there was no room for them.
    state: Option<String>,
}

/// A swap on trial.
#[derive(Clone, Debug)]
struct SwapTrial {
    request: RequestId,
    /// What a failure goes back to.
    old: Place,
}

/// A patch on trial.
#[derive(Clone, Debug)]
struct PatchTrial {
    request: RequestId,
    before: ContentHash,
}

/// One life of a runtime as its hosts know it.
#[derive(Clone, Debug)]
pub struct Life {
    pub host: HostIndex,
    pub running: Place,
    generation: u64,
    swap: Option<SwapTrial>,
    /// On top of it, or alone; oldest first.
    patches: Vec<PatchTrial>,
    /// A swap that waits for its boundary, and its state segment.
    pending: Option<(RequestId, Box<Swap>, Option<String>)>,
    /// What has taken effect.
    applied: Vec<(RequestId, u64)>,
    tick: u64,
    is_frozen: bool,
    /// What the host that runs it now remembers for another supervisor.
    last_request: Option<RequestId>,
    answers: Vec<LiveReply>,
    took_over: Option<Box<TookOver>>,
    /// What it has to do with control wires, as it was told last.
    wiring: Wiring,
    /// Values that its wires have brought.
    taken: u64,
}

/// All lives.
#[derive(Debug, Default)]
pub struct Hosts {
    pub lives: BTreeMap<RuntimeIndex, Life>,
}

impl World {
    /// A host has begun to run this revision.
    pub fn begins(&mut self, runtime: RuntimeIndex, host: HostIndex, revision: ContentHash, state: Option<String>) {
        let generation = self.policy.programs[runtime.0].generation;
        let life = Life {
            host,
            running: Place { revision, state },
            generation,
            swap: None,
            patches: Vec::new(),
            pending: None,
            applied: Vec::new(),
            tick: 0,
            is_frozen: false,
            last_request: None,
            answers: Vec::new(),
            took_over: None,
            wiring: Wiring::default(),
            taken: 0,
        };
        self.hosts.lives.insert(runtime, life);
        self.music.forget(runtime);
    }

    /// The life that this host executes, if it does and lives.
    fn life(&mut self, runtime: RuntimeIndex) -> Option<&mut Life> {
        let life = self.hosts.lives.get_mut(&runtime)?;
        self.alive.get(&Child::Host(life.host)).is_some_and(|is_going| !is_going).then_some(life)
    }

    fn says(&mut self, runtime: RuntimeIndex, reply: LiveReply) {
        let Some(life) = self.hosts.lives.get_mut(&runtime) else { return };
        if !matches!(reply, LiveReply::Values { .. }) {
            life.answers.push(reply.clone());
        }
        let host = life.host;
        self.host_says(host, HostReply::Live(reply));
    }

    fn says_of_swap(&mut self, runtime: RuntimeIndex, request: RequestId, progress: SwapProgress) {
        self.says(runtime, LiveReply::Swap { request, progress });
    }

    fn refuses(&mut self, runtime: RuntimeIndex, request: RequestId) {
        let reason = Refusal { message: String::new(), line: None, is_damaged: false, is_machine: false };
        self.says(runtime, LiveReply::Refused { request, reason });
    }

    fn applies(&mut self, runtime: RuntimeIndex, request: RequestId) -> u64 {
        let Some(life) = self.hosts.lives.get_mut(&runtime) else { return 0 };
        life.tick += 1;
        life.applied.push((request, life.tick));
        life.tick
    }

    /// A host is asked for a change. `state` is the segment that was made for a swap.
    pub fn change_host(&mut self, runtime: RuntimeIndex, host: HostIndex, asked: LiveRequest, state: Option<String>) {
        let LiveRequest { request, what, .. } = asked;
        self.promise(self.policy.programs[runtime.0].phase != Phase::Queued, "a host that does not run is asked");
        let is_going = self.alive.get(&Child::Host(host)).is_none_or(|is_going| *is_going);
        if is_going {
            return;
        }
        if self.life(runtime).is_none_or(|life| life.host != host) {
            // Nothing runs in it: the policy believed somebody who said so.
            let reason = Refusal { message: String::new(), line: None, is_damaged: false, is_machine: false };
            return self.host_says(host, HostReply::Live(LiveReply::Refused { request, reason }));
        }
        let Some(life) = self.life(runtime) else { return };
        life.last_request = life.last_request.max(Some(request));
        // What a program names can be set, and nothing else is set here.
        let is_set = matches!(what, LiveChange::Set { .. });
        if !is_set && self.fails(12) { self.refuses(runtime, request) } else { self.obey(runtime, request, what, state) }
    }

    fn obey(&mut self, runtime: RuntimeIndex, request: RequestId, what: LiveChange, state: Option<String>) {
        let Some(life) = self.life(runtime) else { return };
        match what {
            LiveChange::Swap(swap) => self.prepare_swap(runtime, request, swap, state),
            LiveChange::Patch(patch) => self.patch(runtime, request, &patch),
            LiveChange::CancelSwap => match life.pending.take() {
                Some((pending, ..)) => {
                    self.says_of_swap(runtime, pending, SwapProgress::Cancelled);
                    self.is_applied(runtime, request);
                }
                None => self.refuses(runtime, request),
            },
            LiveChange::Freeze | LiveChange::Run => {
                life.is_frozen = what == LiveChange::Freeze;
                if life.is_frozen {
                    self.commit(runtime);
                }
                self.is_applied(runtime, request);
            }
            LiveChange::Get { .. } => self.says(runtime, LiveReply::Values { request, tick: 1, values: Vec::new() }),
            LiveChange::RollBack if life.swap.is_none() && life.patches.is_empty() => self.refuses(runtime, request),
            LiveChange::RollBack => {
                self.is_applied(runtime, request);
                self.fail_trial(runtime);
            }
            LiveChange::Set { values, .. } => {
                self.music.take(runtime, &values);
                self.is_applied(runtime, request);
            }
            LiveChange::Reset => {
                self.music.forget(runtime);
                self.is_applied(runtime, request);
            }
            LiveChange::Midi { .. } | LiveChange::Proceed { .. } => self.is_applied(runtime, request),
        }
    }

    fn is_applied(&mut self, runtime: RuntimeIndex, request: RequestId) {
        let tick = self.applies(runtime, request);
        self.says(runtime, LiveReply::Applied { request, tick, carried: None });
    }

    fn prepare_swap(&mut self, runtime: RuntimeIndex, request: RequestId, swap: Box<Swap>, state: Option<String>) {
        let state = state.or_else(|| swap.state.as_ref().map(|state| state.name.clone()));
        let is_immediate = swap.boundary == Boundary::Frame;
        let Some(life) = self.life(runtime) else { return };
        if let Some((older, ..)) = life.pending.replace((request, swap, state)) {
            self.says_of_swap(runtime, older, SwapProgress::Superseded);
        }
        self.says_of_swap(runtime, request, SwapProgress::Pending { build_us: 1 });
        if is_immediate {
            self.commit(runtime);
        }
    }

    /// The swap that waits takes effect.
    fn commit(&mut self, runtime: RuntimeIndex) {
        let Some(life) = self.life(runtime) else { return };
        let Some((request, swap, state)) = life.pending.take() else { return };
        if swap.there.as_ref().is_some_and(|there| there.from != life.running.revision) {
            return self.refuses(runtime, request);
        }
        let mut old = life.running.clone();
        let good = life.swap.as_ref().map(|trial| trial.old.revision).or(life.patches.first().map(|patch| patch.before));
        if good.is_some() && swap.back_to_good.as_ref().map(|back| back.to) == good {
            match &life.swap {
                Some(trial) => old = trial.old.clone(),
                None => old.revision = good.unwrap_or(old.revision),
            }
        }
        let over: Vec<RequestId> =
            life.swap.take().map(|trial| trial.request).into_iter().chain(life.patches.drain(..).map(|patch| patch.request)).collect();
        life.running = Place { revision: swap.revision, state };
        life.swap = (swap.trial_ticks > 0).then_some(SwapTrial { request, old });
        for over in over {
            self.says_of_swap(runtime, over, SwapProgress::TrialCutShort { tick: 1 });
        }
        let tick = self.applies(runtime, request);
        self.says_of_swap(runtime, request, SwapProgress::Committed { tick, commit_ns: 1, carried: Carried::default() });
        self.play_on_for_a_while(runtime);
    }

    fn patch(&mut self, runtime: RuntimeIndex, request: RequestId, patch: &Patch) {
        let Some(life) = self.life(runtime) else { return };
        if patch.plan.from != life.running.revision {
            return self.refuses(runtime, request);
        }
        let before = std::mem::replace(&mut life.running.revision, patch.revision);
        if patch.trial_ticks > 0 {
            life.patches.push(PatchTrial { request, before });
        }
        let tick = self.applies(runtime, request);
        self.says(runtime, LiveReply::Applied { request, tick, carried: Some(Carried::default()) });
        self.play_on_for_a_while(runtime);
    }

    /// Time passes: sometimes as much as a trial takes, sometimes too little for anything.
    fn play_on_for_a_while(&mut self, runtime: RuntimeIndex) {
        match self.random.below(4) {
            0 => self.fail_trial(runtime),
            1 => self.pass_trial(runtime),
            _ => {}
        }
    }

    /// Some host plays on by itself.
    pub fn play_on(&mut self) {
        let lives: Vec<RuntimeIndex> = self.hosts.lives.keys().copied().collect();
        if lives.is_empty() {
            return;
        }
        let runtime = lives[self.random.below(lives.len() as u64) as usize];
        let Some(life) = self.life(runtime) else { return };
        life.tick += 10;
        match self.random.below(4) {
            0 => self.fail_trial(runtime),
            1 => self.commit(runtime),
            _ => self.pass_trial(runtime),
        }
    }

    /// The running program fails: whatever is on trial is undone.
    fn fail_trial(&mut self, runtime: RuntimeIndex) {
        let Some(life) = self.life(runtime) else { return };
        let (swap, patches) = (life.swap.take(), std::mem::take(&mut life.patches));
        match (&swap, patches.first()) {
            (Some(trial), _) => life.running = trial.old.clone(),
            (None, Some(first)) => life.running.revision = first.before,
            (None, None) => return,
        }
        life.tick += 1;
        let (to, tick) = (life.running.revision, life.tick);
        let fault = Fault { kind: FaultKind::Runaway, tick, block: None, line: Some(3), repeats: 0 };
        for request in patches.into_iter().map(|patch| patch.request).chain(swap.map(|trial| trial.request)) {
            self.says_of_swap(
                runtime,
                request,
                SwapProgress::RolledBack { tick, fault: fault.clone(), to, is_partial: false, is_late: false },
            );
        }
    }

    /// The oldest trial is passed.
    fn pass_trial(&mut self, runtime: RuntimeIndex) {
        let Some(life) = self.life(runtime) else { return };
        let tick = life.tick;
        let request = match life.swap.take() {
            Some(trial) => trial.request,
            None if life.patches.is_empty() => return,
            None => life.patches.remove(0).request,
        };
        self.says_of_swap(runtime, request, SwapProgress::TrialPassed { tick });
    }

    // --------------------------------------------------------------------------------------------------------- wires

    /// A host is told of its wires, and tells what they have brought, some of it twice.
    pub fn wire_host(&mut self, host: HostIndex, wiring: Wiring) {
        for board in wiring.board.iter().chain(wiring.inlets.iter().map(|inlet| &inlet.board)) {
            self.promise(!self.released.contains(&board.name), "a wire begins or ends at a board that is gone");
        }
        let again = self.wire_dice.below(3);
        let Some(life) = self.hosts.lives.values_mut().find(|life| life.host == host) else { return };
        let first = life.taken.saturating_sub(again);
        let wire = wiring.inlets.first().map_or(1, |inlet| inlet.wire);
        life.taken += 1;
        let values = (first..life.taken).map(|number| Taken { tick: number, wire, bits: number }).collect();
        life.wiring = wiring;
        let to_tick = life.taken;
        self.pending.push_back(Event::HostSaid { host, reply: HostReply::Wired { first, values, to_tick } });
    }

    /// A life begins once, and what wires bring is logged once.
    pub fn check_log(&mut self, entry: &log::LogEntry) {
        if matches!(entry.what, log::Logged::Start { .. }) {
            let is_first = self.logged.insert(entry.life);
            self.promise(is_first, "a life is logged to begin twice");
        }
        let log::Logged::Wired { values, .. } = &entry.what else { return };
        for (tick, _, _) in values {
            let before = self.wired.insert(entry.life, *tick);
            self.promise(before.is_none_or(|before| before < *tick), "a value of a wire is logged twice");
        }
    }

    /// Nothing goes wrong any more: every host that runs has been told of all wires whose other ends are there.
    pub fn check_wires(&self) {
        for (runtime, life) in &self.hosts.lives {
            let program = &self.policy.programs[runtime.0];
            let is_present = program.runtime.is_some_and(|named| self.policy.runtimes[named].slot == Some(*runtime));
            let is_running = matches!(program.phase, Phase::Running | Phase::Held) && program.host == Some(life.host) && is_present;
            if is_running {
                self.promise(life.wiring == self.policy.wiring(*runtime), &format!("a host has other wires than there are: {life:?}"));
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------ recovery

    /// A host goes on where another one stopped: it needs what the checkpoints of the dead one lead to.
    pub fn take_over(&mut self, host: HostIndex, order: TakeOver, state: Option<String>) {
        let runtime = self.policy.programs.iter().position(|program| program.host == Some(host)).map(RuntimeIndex).expect("it has a duty");
        self.writes(runtime, host, order.start.lane.as_ref());
        self.promise(!order.candidates.is_empty(), "nothing is left to go on with");
        for candidate in &order.candidates {
            for segment in [&candidate.artifact, &candidate.state] {
                self.promise(!self.released.contains(&segment.name), "what is to be recovered is gone");
            }
        }
        if self.fails(25) {
            return; // It hangs, and is killed for it.
        }
        if !self.hosts.lives.contains_key(&runtime) {
            // Somebody has said of a host that it had begun which had not.
            let first = &order.candidates[0];
            self.begins(runtime, host, first.revision, Some(first.state.name.clone()));
            self.music.had_not_begun(runtime);
        }
        let life = self.hosts.lives[&runtime].clone();
        if self.fails(12) || life.running.state.is_none() {
            let reason = Refusal { message: String::new(), line: None, is_damaged: false, is_machine: true };
            return self.host_says(host, HostReply::Refused { segment: String::new(), reason });
        }
        let is_known = |place: &Place| {
            let is_it = |state: &String| order.candidates.iter().any(|one| one.revision == place.revision && one.state.name == *state);
            place.state.as_ref().is_some_and(is_it)
        };
        self.promise(is_known(&life.running), &format!("what ran has been let go of: {life:?}, {:?}", order.candidates));
        if let Some(trial) = life.swap.as_ref().filter(|trial| trial.old.state.is_some()) {
            let has_plans = order.candidates.iter().any(|one| one.swap.as_ref().is_some_and(|(request, _)| *request == trial.request));
            self.promise(
                is_known(&trial.old),
                &format!("what a failure goes back to has been let go of: {life:?}, {:?}", order.candidates),
            );
            self.promise(has_plans, "the way back has been let go of");
        }
        self.resume(runtime, host, order, state);
    }

    fn resume(&mut self, runtime: RuntimeIndex, host: HostIndex, order: TakeOver, state: Option<String>) {
        let Some(life) = self.hosts.lives.get_mut(&runtime) else { return };
        life.host = host;
        life.generation = order.start.generation;
        life.wiring = (*order.start.wiring).clone();
        life.pending = None;
        (life.last_request, life.answers) = (None, Vec::new());
        life.swap.take_if(|trial| trial.old.state.is_none());
        let cut_short = std::mem::take(&mut life.patches).first().map(|patch| patch.request).filter(|_| life.swap.is_none());
        let took = Box::new(TookOver {
            runtime: order.start.runtime,
            generation: order.start.generation,
            revision: life.running.revision,
            restored_tick: life.tick,
            replayed_ticks: 1,
            next_tick: life.tick + 1,
            applied: life.applied.clone(),
            trial: life.swap.as_ref().map(|trial| (trial.request, 1)),
            is_frozen: life.is_frozen,
            is_held: false,
            was_prepared: true,
            took_us: 1,
        });
        life.tick += 1;
        life.took_over = Some(took.clone());
        self.host_says(host, HostReply::TookOver(took));
        if let Some(request) = cut_short {
            self.says_of_swap(runtime, request, SwapProgress::TrialCutShort { tick: 1 });
        }
        for asked in order.first {
            if let Some(life) = self.life(runtime) {
                life.last_request = life.last_request.max(Some(asked.request));
            }
            self.obey(runtime, asked.request, asked.what, state.clone());
        }
    }

    /// What a host tells the next supervisor; `None` where it has nothing to tell, and ends.
    pub fn presence(&mut self, host: HostIndex) -> Option<Presence> {
        let (runtime, _) = self.hosts.lives.iter().find(|(_, life)| life.host == host)?;
        let (runtime, name) = (*runtime, self.policy.programs[runtime.0].name.clone());
        let life = self.life(runtime)?;
        Some(Presence {
            runtime: name,
            generation: life.generation,
            revision: life.running.revision,
            next_tick: life.tick,
            is_frozen: life.is_frozen,
            is_held: false,
            last_request: life.last_request,
            answers: life.answers.clone(),
            took_over: life.took_over.clone(),
        })
    }

    /// Whether everything has been heard that a host has said, and its death.
    pub fn is_heard(&self, of: HostIndex) -> bool {
        let is_his =
            |event: &Event| matches!(event, Event::HostSaid { host, .. } | Event::Died { child: Child::Host(host), .. } if *host == of);
        !self.coming.iter().chain(&self.pending).any(is_his)
    }

    /// Once everything has been heard that was said, the policy knows what plays.
    pub fn check_what_plays(&self) {
        if self.policy.stage != Stage::Working || !self.policy.is_live() {
            return;
        }
        for (runtime, life) in &self.hosts.lives {
            let program = &self.policy.programs[runtime.0];
            let is_open = !matches!(program.phase, Phase::Running | Phase::Held) || program.host != Some(life.host);
            if is_open || !self.is_heard(life.host) {
                continue;
            }
            let named = program.runtime.filter(|named| self.policy.runtimes[*named].slot == Some(*runtime));
            let Some(current) = named.and_then(|named| self.policy.runtimes[named].current.as_ref()) else { continue };
            self.promise(current.hash() == life.running.revision, &format!("another revision plays than it says: {life:?}"));
            let kept = program.keep.current().map(|kept| kept.revision);
            self.promise(
                kept == Some(life.running.revision),
                &format!("another revision is kept than plays: {life:?}, {:?}", program.keep),
            );
        }
    }
}
