//! Clients of the simulated session.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipc::live::LiveChange;

use super::*;
use crate::control::protocol::{
    AnswerWhen, Boundary, Cancel, ChangeEvent, ChangeId, Confirm, Freeze, Get, ItemName, Mute, Panic, Progress, Push, Restart, Rollback,
    Route, Run, RuntimeName, Solo, Status, Stop, Tape, TapeBoundary, Unroute, Unwire, Verb, Wire, WireEnd,
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
    compiled: u64,
    /// Calls whose supervisor died before it had answered.
    pub lost: BTreeSet<Ticket>,
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
            _ if self.has_tapes && self.random.one_in(4) => Verb::Tape(Tape {
                master: self.random.one_in(2).then(|| "/take.wav".to_owned()),
                stems: None,
                at: if self.random.one_in(2) { TapeBoundary::Beat } else { TapeBoundary::Frame },
            }),
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
            14 => match self.random.below(7) {
                0 => Verb::Stop(Stop { runtime }),
                1 => Verb::Restart(Restart { runtime, reset: self.random.one_in(2), generation: None }),
                2 => Verb::Mute(Mute { runtime, on: self.random.one_in(2) }),
                3 => Verb::Solo(Solo { runtime, on: self.random.one_in(2) }),
                4 => Verb::Route(Route { from: self.heard(), to: runtime, only: self.random.one_in(2) }),
                5 => Verb::Unroute(Unroute { from: self.heard(), to: runtime }),
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

    fn heard(&mut self) -> RuntimeName {
        let name = match self.random.below(4) {
            3 => crate::policy::routes::DEVICE_INPUT.to_owned(),
            number => format!("p{number}"),
        };
        RuntimeName::new(name).unwrap()
    }

    /// Somebody makes a control wire, or takes one down.
    pub fn wire_call(&mut self) -> Event {
        let ticket = Ticket(self.clients.asked.len() as u64 + 1);
        self.clients.asked.insert(ticket);
        let mut end = || {
            let runtime = RuntimeName::new(format!("p{}", self.wire_dice.below(3))).unwrap();
            let item = ["a:level", "b:level"][self.wire_dice.below(2) as usize];
            WireEnd { runtime, item: ItemName::new(item).unwrap() }
        };
        let (to, from) = (end(), end());
        let verb = if self.wire_dice.one_in(4) { Verb::Unwire(Unwire { to }) } else { Verb::Wire(Wire { to, from }) };
        Event::Call { call: Box::new(Call { ticket, client: ClientId(1), verb }), text: None }
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
                let state = content.and_then(|_| self.create_state(runtime, Some(request.request)));
                if let LiveChange::Set { values, .. } = &request.what {
                    self.is_told_tempo(runtime, values);
                }
                self.letters.push(Letter::Change { runtime, host, request, state });
            }
            Action::Prepare { host, program } => {
                self.promise(!self.released.contains(&program.artifact.name), "a spare is to load what is gone");
                let reply = HostReply::Prepared { runtime: program.runtime, revision: program.revision };
                self.host_says(host, reply);
            }
            Action::Forget { .. } => {}
            Action::TakeOver { host, order, content } => {
                let mut state = None;
                if let (Some((runtime, _)), Some(first)) = (content, order.first.first()) {
                    // A remedy is nobody's edit: it leads back to what was good.
                    let flights = self.policy.runtimes.iter().filter_map(|runtime| runtime.flight.as_ref());
                    let ours = flights.filter(|flight| flight.way == runtime::Way::Host { request: first.request });
                    self.clients
                        .confirmed
                        .extend(ours.filter(|flight| flight.what.edit.asker.is_none()).map(|flight| flight.what.edit.change));
                    state = self.create_state(runtime, Some(first.request));
                }
                self.letters.push(Letter::TakeOver { host, order, state });
            }
            Action::Answer { ticket, .. } => {
                let is_open = self.clients.asked.contains(&ticket) && !self.clients.lost.contains(&ticket);
                self.promise(is_open, "nobody waits for this");
                let is_first = self.clients.answered.insert(ticket);
                self.promise(is_first, "a call is answered twice");
            }
            _ => {}
        }
    }

    fn edited(&mut self) -> Plan {
        self.clients.compiled += 1;
        let shape = Shape {
            default: self.random.below(2) as u8,
            code: self.random.below(3) as u8,
            is_loop: self.random.one_in(4),
            is_worker: self.random.one_in(8),
            comment: (self.clients.compiled % 200) as u8,
        };
        self.with_tempo(plan(shape), shape.code.into())
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
