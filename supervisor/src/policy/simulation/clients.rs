//! Clients of the simulated session, and hosts that change while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ipc::hash::ContentHash;
use ipc::live::{Boundary as HostBoundary, Carried, LiveChange, LiveReply, LiveRequest, SwapProgress};

use ipc::recovery::{TakeOver, TookOver};

use super::*;
use crate::control::protocol::{
    AnswerWhen, Boundary, Cancel, ChangeEvent, ChangeId, Confirm, Freeze, Get, ItemName, Mute, Panic, Progress, Push, Restart, Rollback,
    Run, RuntimeName, Status, Stop, Verb,
};
use crate::control::{Call, ClientId, Ticket};
use crate::policy::programs_in_tests::{Shape, plan};

/// What clients have asked, and what they have been told.
#[derive(Default)]
pub struct Clients {
    pub asked: BTreeSet<Ticket>,
    pub answered: BTreeSet<Ticket>,
    confirmed: BTreeSet<ChangeId>,
    ended: BTreeSet<ChangeId>,
    /// Swaps that wait in a host.
    pending: BTreeMap<RuntimeIndex, u64>,
    compiled: u64,
    /// What the hosts of each life have done, whether they have said so or not.
    lives: BTreeMap<RuntimeIndex, Life>,
    /// The revisions of swaps.
    swapped: BTreeMap<u64, ContentHash>,
    /// The host whose answers are being made up.
    said_by: HostIndex,
}

/// One life of a runtime as its hosts know it.
#[derive(Debug, Default)]
struct Life {
    revision: Option<ContentHash>,
    /// What it ran before.
    before: Option<ContentHash>,
    applied: Vec<(u64, u64)>,
}

impl Clients {
    /// A host has begun to run this revision.
    pub fn begins(&mut self, runtime: RuntimeIndex, revision: ContentHash) {
        self.lives.insert(runtime, Life { revision: Some(revision), before: Some(revision), applied: Vec::new() });
    }

    fn applies(&mut self, runtime: RuntimeIndex, request: u64, revision: Option<ContentHash>) {
        let life = self.lives.entry(runtime).or_default();
        life.applied.push((request, 1));
        if revision.is_some() {
            life.before = std::mem::replace(&mut life.revision, revision);
        }
    }
}

impl World {
    pub fn call(&mut self) -> Event {
        let ticket = Ticket(self.clients.asked.len() as u64 + 1);
        self.clients.asked.insert(ticket);
        let runtime = RuntimeName::new(format!("p{}", self.random.below(3))).unwrap();
        let change = ChangeId(1 + self.random.below(12));
        let boundary = [None, Some(Boundary::Frame), Some(Boundary::Freeze), Some(Boundary::Pulse)][self.random.below(4) as usize];
        let answer = if self.random.one_in(2) { AnswerWhen::Planned } else { AnswerWhen::Committed };
        let item = || ItemName::new("a:level").unwrap();
        let name = runtime.as_str().to_owned();
        let verb = match self.random.below(16) {
            0..=5 => Verb::Push(Push {
                runtime,
                text: Some(String::new()),
                path: None,
                directory: None,
                base: None,
                boundary,
                acknowledge: false,
                force: self.random.one_in(2),
                crossfade_ms: None,
                answer,
            }),
            6 => Verb::Plan(crate::control::protocol::Plan { runtime, text: Some(String::new()), path: None, directory: None }),
            7 | 8 => {
                self.clients.confirmed.insert(change);
                Verb::Confirm(Confirm { change, boundary, crossfade_ms: None, answer })
            }
            9 => Verb::Cancel(Cancel { change }),
            10 => Verb::Freeze(Freeze { runtime }),
            11 => Verb::Run(Run { runtime }),
            12 => Verb::Get(Get { runtime, items: vec![item()] }),
            13 => Verb::Rollback(Rollback { runtime, revision: None, boundary, acknowledge: false, crossfade_ms: None, answer }),
            14 => match self.random.below(4) {
                0 => Verb::Stop(Stop { runtime }),
                1 => Verb::Restart(Restart { runtime, reset: self.random.one_in(2), generation: None }),
                2 => Verb::Mute(Mute { runtime, on: self.random.one_in(2) }),
                _ => Verb::Panic(Panic {}),
            },
            _ => Verb::Status(Status { runtime: None }),
        };
        let source = format!("text {}", self.random.below(40));
        let path = PathBuf::from("song.8f4e");
        let text = ProgramText { name, path, source: source.into(), base_directory: PathBuf::from("/") };
        let has_text = matches!(verb, Verb::Push(_) | Verb::Plan(_));
        Event::Call { call: Box::new(Call { ticket, client: ClientId(1), verb }), text: has_text.then_some(text) }
    }

    pub fn take_live(&mut self, action: Action) {
        match action {
            Action::CompileEdit { request, .. } => {
                let is_first = self.requests.insert(request);
                self.promise(is_first, "a request number is used twice");
                let outcome = match self.random.below(10) {
                    0 => CompileOutcome::Rejected(Vec::new()),
                    1 => CompileOutcome::Failed(String::new()),
                    _ => CompileOutcome::Artifact(self.segment(SegmentKind::Artifact)),
                };
                self.compiled(request, outcome);
            }
            Action::InspectEdit { change, .. } => {
                let inspection = match self.random.below(12) {
                    0 => Inspection::Damaged { reason: String::new() },
                    1 => Inspection::NeedsSettings(CompileSettings { environment: Vec::new(), work_budget: 1 }),
                    2 => Inspection::Unplayable { message: String::new(), line: None },
                    _ => Inspection::Playable(self.edited()),
                };
                self.pending.push_back(Event::EditInspected { change, inspection });
            }
            Action::Live { runtime, host, request, content } => {
                if content.is_some() {
                    self.create_state(runtime, Some(request.request));
                }
                self.change_host(runtime, host, request);
            }
            Action::Prepare { host, program } => {
                self.promise(!self.released.contains(&program.artifact.name), "a spare is to load what is gone");
                let reply = HostReply::Prepared { runtime: program.runtime, revision: program.revision };
                self.host_says(host, reply);
            }
            Action::Forget { .. } => {}
            Action::TakeOver { host, order, content } => {
                if let (Some((runtime, _)), Some(first)) = (content, order.first.first()) {
                    // A remedy is nobody's edit: it leads back to what was good.
                    let flights = self.policy.runtimes.iter().filter_map(|runtime| runtime.flight.as_ref());
                    let ours = flights.filter(|flight| flight.way == runtime::Way::Host { request: first.request });
                    self.clients
                        .confirmed
                        .extend(ours.filter(|flight| flight.what.edit.asker.is_none()).map(|flight| flight.what.edit.change));
                    self.create_state(runtime, Some(first.request));
                }
                self.take_over(host, *order);
            }
            Action::Answer { ticket, .. } => {
                self.promise(self.clients.asked.contains(&ticket), "nobody has asked");
                let is_first = self.clients.answered.insert(ticket);
                self.promise(is_first, "a call is answered twice");
            }
            _ => {}
        }
    }

    fn edited(&mut self) -> Plan {
        self.clients.compiled += 1;
        plan(Shape {
            default: self.random.below(2) as u8,
            code: self.random.below(3) as u8,
            is_loop: self.random.one_in(4),
            is_worker: self.random.one_in(8),
            comment: (self.clients.compiled % 200) as u8,
        })
    }

    /// A host goes on where another one stopped.
    fn take_over(&mut self, host: HostIndex, order: TakeOver) {
        let runtime = self.policy.programs.iter().position(|program| program.host == Some(host)).map(RuntimeIndex).expect("it has a duty");
        self.writes(runtime, host, order.start.lane.as_ref());
        self.promise(!order.candidates.is_empty(), "nothing is left to go on with");
        for candidate in &order.candidates {
            for segment in [&candidate.artifact, &candidate.state] {
                self.promise(!self.released.contains(&segment.name), "what is to be recovered is gone");
            }
        }
        if self.fails(12) {
            let reason = Refusal { message: String::new(), line: None, is_damaged: false, is_machine: true };
            return self.host_says(host, HostReply::Refused { segment: String::new(), reason });
        }
        // What waited in the dead host is lost with it.
        self.clients.pending.remove(&runtime);
        for asked in &order.first {
            let swap = if let LiveChange::Swap(swap) = &asked.what { Some(swap.revision) } else { None };
            self.clients.applies(runtime, asked.request, swap);
        }
        let life = self.clients.lives.entry(runtime).or_default();
        let took = TookOver {
            runtime: order.start.runtime,
            generation: order.start.generation,
            revision: life.revision.unwrap_or(order.candidates[0].revision),
            restored_tick: 1,
            replayed_ticks: 1,
            next_tick: 2,
            applied: life.applied.clone(),
            trial: None,
            is_frozen: false,
            is_held: false,
            was_prepared: true,
            took_us: 1,
        };
        self.host_says(host, HostReply::TookOver(Box::new(took)));
    }

    fn change_host(&mut self, runtime: RuntimeIndex, host: HostIndex, asked: LiveRequest) {
        let LiveRequest { request, what, .. } = asked;
        self.promise(self.policy.programs[runtime.0].phase != Phase::Queued, "a host that does not run is asked");
        self.clients.said_by = host;
        let is_dead = self.alive.get(&Child::Host(host)).is_none_or(|is_going| *is_going);
        if is_dead {
            return;
        }
        let carried = Carried::default;
        if self.fails(12) {
            let reason = Refusal { message: String::new(), line: None, is_damaged: false, is_machine: false };
            return self.host(runtime, LiveReply::Refused { request, reason });
        }
        match what {
            LiveChange::Swap(swap) => {
                self.clients.swapped.insert(request, swap.revision);
                if let Some(older) = self.clients.pending.insert(runtime, request) {
                    self.host(runtime, LiveReply::Swap { request: older, progress: SwapProgress::Superseded });
                }
                self.host(runtime, LiveReply::Swap { request, progress: SwapProgress::Pending { build_us: 1 } });
                if swap.boundary == HostBoundary::Frame {
                    self.commit(runtime);
                }
            }
            LiveChange::Patch(patch) => {
                self.clients.applies(runtime, request, Some(patch.revision));
                self.host(runtime, LiveReply::Applied { request, tick: 1, carried: Some(carried()) });
                self.end_trial(runtime, request);
            }
            LiveChange::CancelSwap => {
                if let Some(pending) = self.clients.pending.remove(&runtime) {
                    self.host(runtime, LiveReply::Swap { request: pending, progress: SwapProgress::Cancelled });
                }
                self.host(runtime, LiveReply::Applied { request, tick: 1, carried: None });
            }
            LiveChange::Freeze => {
                self.clients.applies(runtime, request, None);
                self.commit(runtime);
                self.host(runtime, LiveReply::Applied { request, tick: 1, carried: None });
            }
            LiveChange::Get { .. } => self.host(runtime, LiveReply::Values { request, tick: 1, values: Vec::new() }),
            LiveChange::Reset | LiveChange::Run | LiveChange::Set { .. } | LiveChange::Midi { .. } | LiveChange::RollBack | LiveChange::Proceed { .. } => {
                self.clients.applies(runtime, request, None);
                self.host(runtime, LiveReply::Applied { request, tick: 1, carried: None });
            }
        }
    }

    fn commit(&mut self, runtime: RuntimeIndex) {
        let Some(request) = self.clients.pending.remove(&runtime) else { return };
        let revision = self.clients.swapped.get(&request).copied();
        self.clients.applies(runtime, request, revision);
        let progress = SwapProgress::Committed { tick: 1, commit_ns: 1, carried: Carried::default() };
        self.host(runtime, LiveReply::Swap { request, progress });
        self.end_trial(runtime, request);
    }

    fn end_trial(&mut self, runtime: RuntimeIndex, request: u64) {
        let fault = Fault { kind: FaultKind::Runaway, tick: 2, block: None, line: Some(3), repeats: 0 };
        let life = self.clients.lives.entry(runtime).or_default();
        let progress = match (self.random.below(4), life.before) {
            (0, Some(to)) => {
                life.revision = Some(to);
                SwapProgress::RolledBack { tick: 2, fault, to, is_partial: false }
            }
            (1, _) => SwapProgress::TrialCutShort { tick: 2 },
            _ => SwapProgress::TrialPassed { tick: 2 },
        };
        self.host(runtime, LiveReply::Swap { request, progress });
    }

    fn host(&mut self, runtime: RuntimeIndex, reply: LiveReply) {
        let _ = runtime;
        self.host_says(self.clients.said_by, HostReply::Live(reply));
    }

    pub fn listen_to_change(&mut self, event: &ChangeEvent) {
        match &event.progress {
            Progress::Committed { .. }
            | Progress::Unchanged {}
            | Progress::Rejected { .. }
            | Progress::Superseded { .. }
            | Progress::Cancelled {} => {
                let is_first = self.clients.ended.insert(event.change);
                self.promise(is_first, "a change ends twice");
            }
            Progress::NeedsAck { report } => {
                self.promise(report.change == event.change, "a report is about another change");
                self.promise(!self.clients.ended.contains(&event.change), "a change that has ended asks");
            }
            Progress::Pending { .. } | Progress::RolledBack { .. } => {}
        }
        let entries = self.policy.runtimes.iter().flat_map(|runtime| &runtime.history);
        let unasked = entries
            .filter(|entry| entry.class == crate::control::protocol::ChangeClass::C && !self.clients.confirmed.contains(&entry.change));
        self.promise(unasked.count() == 0, "a class C change took effect that nobody confirmed");
    }
}
