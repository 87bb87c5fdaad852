//! What clients ask for. Part of the state machine: see the parent module.
//!
//! Each call is answered exactly once: at once, or when the host, the worker or the device has done its part, or when that
//! part can no longer be done.

use std::path::PathBuf;

use ipc::live::{LiveChange, SetItem};

use super::edits::{Order, answer_error, find, runtime_name, stale};
use super::log::Logged;
use super::program::Phase;
use super::runtime::{Asker, ChangeVerb, Classified, FreezeAsker, Question, Recall, Runtime, Way, Wishes};
use super::{Action, EditNews, Policy, ProgramText, Report, Stage, TapeFiles, looking};
use crate::control::protocol::{
    Answer, AnswerWhen, Boundary, Cancel, Cancelled, ChangeEvent, ChangeId, Channels, Confirm, Deaths, ErrorCode, ErrorReply, Get, Midi,
    MidiMessage, Pong, Progress, Push, Restart, Rollback, RuntimeName, RuntimeNow, Set, ShuttingDown, Verb, Watch, Watching,
};
use crate::control::{Call, Ticket};

/// Questions that one runtime may have on the way at a time.
const MAX_QUESTIONS: usize = 512;

/// How far ahead a value may be set: what waits in a host takes the place of what could be asked of it.
const MAX_AHEAD_SECONDS: u64 = 10;

/// Runtimes that a session may have, those that are stopped included.
const MAX_RUNTIMES: usize = ipc::limits::MAX_LANES / 2;

type Outcome = Result<Answer, ErrorReply>;

impl Policy {
    pub(super) fn called(&mut self, now_ms: u64, call: Call, text: Option<ProgramText>, actions: &mut Vec<Action>) {
        let ticket = call.ticket;
        if self.stage != Stage::Working || !self.is_live() {
            let error = ErrorReply::new(ErrorCode::ShuttingDown, "the session is ending");
            return actions.push(Action::Answer { ticket, outcome: Box::new(Err(error)) });
        }
        // `None`: it is answered later.
        if let Some(outcome) = self.answer_call(now_ms, ticket, call.verb, text, actions).transpose() {
            actions.push(Action::Answer { ticket, outcome: Box::new(outcome) });
        }
    }

    fn answer_call(
        &mut self,
        now_ms: u64,
        ticket: Ticket,
        verb: Verb,
        text: Option<ProgramText>,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Answer>, ErrorReply> {
        match verb {
            Verb::Push(push) => self.push(ticket, &push, text, actions).map(|()| None),
            Verb::Plan(plan) => self.plan_edit(ticket, &plan.runtime, text, actions).map(|()| None),
            Verb::Confirm(confirm) => self.confirm_call(now_ms, ticket, &confirm, actions).map(|()| None),
            Verb::Cancel(cancel) => self.cancel(ticket, &cancel, actions),
            Verb::Freeze(freeze) => self.ask_host(ticket, &freeze.runtime, Question::Freeze, LiveChange::Freeze, actions).map(|()| None),
            Verb::Run(run) => self.ask_host(ticket, &run.runtime, Question::Run, LiveChange::Run, actions).map(|()| None),
            Verb::Get(get) => self.get(ticket, &get, actions).map(|()| None),
            Verb::Set(set) => self.set(ticket, &set, actions).map(|()| None),
            Verb::Midi(midi) => self.midi_call(ticket, &midi, actions).map(|()| None),
            Verb::Wire(wire) => self.wire(&wire, actions).map(Some),
            Verb::Unwire(unwire) => self.unwire(&unwire.to, actions).map(Some),
            Verb::Wires(_) => Ok(Some(Answer::Wires(self.wire_list()))),
            Verb::Gain(gain) => {
                let runtime = self.runtime(&gain.runtime)?;
                self.change_levels(gain.ramp_ms, actions, |policy| policy.runtimes[runtime].level.gain = gain.gain);
                Ok(Some(Answer::Gain(self.mix_of(runtime))))
            }
            Verb::Mute(mute) => {
                let runtime = self.runtime(&mute.runtime)?;
                self.change_levels(None, actions, |policy| policy.runtimes[runtime].level.is_muted = mute.on);
                Ok(Some(Answer::Mute(self.mix_of(runtime))))
            }
            Verb::Solo(solo) => {
                let runtime = self.runtime(&solo.runtime)?;
                self.change_levels(None, actions, |policy| policy.runtimes[runtime].level.is_soloed = solo.on);
                Ok(Some(Answer::Solo(self.mix_of(runtime))))
            }
            Verb::Output(output) => {
                let runtime = self.runtime(&output.runtime)?;
                self.set_output(runtime, output.channels.unwrap_or(Channels::MAIN), actions)?;
                Ok(Some(Answer::Output(self.mix_of(runtime))))
            }
            Verb::Route(route) => self.route(&route, actions).map(Some),
            Verb::Unroute(unroute) => self.unroute(&unroute, actions).map(Some),
            Verb::Tempo(tempo) => Ok(Some(Answer::Tempo(self.tempo_call(now_ms, &tempo, actions)?))),
            Verb::Panic(_) => Ok(Some(Answer::Panic(self.panic_now(actions)))),
            Verb::Restart(restart) => self.restart(ticket, &restart, actions),
            Verb::Stop(stop) => self.stop_runtime(ticket, &stop.runtime, actions),
            Verb::Status(status) => {
                let only = status.runtime.as_ref().map(|name| self.runtime(name)).transpose()?;
                Ok(Some(Answer::Status(self.session_status(only))))
            }
            Verb::List(list) => {
                let runtime = self.runtime(&list.runtime)?;
                Ok(Some(Answer::List(looking::list(&self.runtimes[runtime], list.limit, self.epoch_ms))))
            }
            // The shell knows the dead.
            Verb::WhyDied(why) => Ok(Some(Answer::WhyDied(Deaths { runtime: why.runtime, deaths: Vec::new() }))),
            Verb::Rollback(rollback) => self.roll_back(ticket, &rollback, actions).map(|()| None),
            Verb::Watch(watch) => self.watch(&watch, text, actions).map(Some),
            Verb::Unwatch(unwatch) => {
                let runtime = self.runtime(&unwatch.runtime)?;
                if self.runtimes[runtime].watching.take().is_some() {
                    actions.push(Action::Unwatch { runtime: unwatch.runtime.as_str().to_owned() });
                }
                Ok(Some(Answer::Unwatch(Watching { runtime: unwatch.runtime, path: None })))
            }
            Verb::Record(record) => self.record(ticket, record.path.map(PathBuf::from), actions),
            Verb::Tape(tape) => {
                let files = TapeFiles { master: tape.master.map(PathBuf::from), stems: tape.stems.map(PathBuf::from) };
                match files.is_empty() {
                    true => self.stop_tape(now_ms, ticket, tape.at, actions),
                    false => self.start_tape(now_ms, ticket, files, tape.at, actions).map(|()| None),
                }
            }
            Verb::Ping(_) => Ok(Some(Answer::Ping(Pong { control: Default::default() }))),
            Verb::Shutdown(_) => {
                self.stop(now_ms, actions);
                let deadline_ms = super::deadlines::STOP_MS + super::deadlines::KILL_MS;
                Ok(Some(Answer::Shutdown(ShuttingDown { deadline_ms })))
            }
            // Answered where they come in.
            Verb::Hello(_) | Verb::Subscribe(_) | Verb::Unsubscribe(_) | Verb::ReplayInfo(_) => {
                Err(ErrorReply::new(ErrorCode::WrongState, "this is answered by the connection, not by the session"))
            }
        }
    }

    /// Index of a runtime that exists.
    pub(super) fn runtime(&self, name: &RuntimeName) -> Result<usize, ErrorReply> {
        find(&self.runtimes, name.as_str()).ok_or_else(|| {
            let known = self.runtimes.iter().filter(|runtime| !runtime.is_vacant()).map(|runtime| runtime.name.clone()).collect();
            ErrorReply::new(ErrorCode::UnknownRuntime, format!("there is no runtime `{name}`")).in_field("params.runtime").with_known(known)
        })
    }

    fn runtime_or_new(&mut self, name: &RuntimeName) -> Result<usize, ErrorReply> {
        if let Some(runtime) = find(&self.runtimes, name.as_str()) {
            return Ok(runtime);
        }
        if let Some(vacant) = self.runtimes.iter().position(Runtime::is_vacant) {
            // What its hosts were called is not used a second time.
            let generation = self.runtimes[vacant].generation;
            self.runtimes[vacant] = Runtime::new(name.as_str().to_owned());
            self.runtimes[vacant].generation = generation;
            return Ok(vacant);
        }
        if self.runtimes.len() >= MAX_RUNTIMES {
            return Err(ErrorReply::new(ErrorCode::Exhausted, format!("a session has {MAX_RUNTIMES} runtimes at most")));
        }
        self.runtimes.push(Runtime::new(name.as_str().to_owned()));
        Ok(self.runtimes.len() - 1)
    }

    fn push(&mut self, ticket: Ticket, push: &Push, text: Option<ProgramText>, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        let text = text.ok_or_else(no_text)?;
        if let Some(base) = &push.base {
            let present = find(&self.runtimes, push.runtime.as_str()).and_then(|runtime| self.runtimes[runtime].present());
            if let Some(error) = stale(push.runtime.as_str(), base, present) {
                return Err(error);
            }
        }
        let runtime = self.runtime_or_new(&push.runtime)?;
        self.try_again(runtime);
        let wishes = Wishes {
            boundary: push.boundary.unwrap_or_default(),
            is_acknowledged: push.acknowledge,
            crossfade_ms: push.crossfade_ms.unwrap_or(0),
        };
        let asker = Some(Asker { ticket, when: push.answer, verb: ChangeVerb::Push });
        self.order(runtime, Order { base: push.base.clone(), is_forced: push.force, ..Order::of(text, wishes, asker) }, actions);
        Ok(())
    }

    fn plan_edit(
        &mut self,
        ticket: Ticket,
        name: &RuntimeName,
        text: Option<ProgramText>,
        actions: &mut Vec<Action>,
    ) -> Result<(), ErrorReply> {
        let text = text.ok_or_else(no_text)?;
        let runtime = self.runtime(name)?;
        let asker = Some(Asker { ticket, when: AnswerWhen::Planned, verb: ChangeVerb::Plan });
        let order = Order { is_plan: true, is_forced: true, ..Order::of(text, Wishes::default(), asker) };
        self.order(runtime, order, actions);
        Ok(())
    }

    fn confirm_call(&mut self, now_ms: u64, ticket: Ticket, confirm: &Confirm, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        let is_it = |waiting: &&Classified| waiting.edit.change == confirm.change;
        let found = self.runtimes.iter().enumerate().find_map(|(runtime, state)| Some((runtime, state.waiting.iter().find(is_it)?)));
        let Some((runtime, waiting)) = found else {
            let message = format!("change {} does not wait for an acknowledgement", confirm.change.0);
            return Err(ErrorReply::new(ErrorCode::UnknownChange, message).in_field("params.change"));
        };
        let before = waiting.edit.wishes;
        let wishes = Wishes {
            boundary: confirm.boundary.unwrap_or(before.boundary),
            is_acknowledged: true,
            crossfade_ms: confirm.crossfade_ms.unwrap_or(before.crossfade_ms),
        };
        let asker = Asker { ticket, when: confirm.answer, verb: ChangeVerb::Confirm };
        self.confirm(now_ms, runtime, confirm.change, wishes, asker, actions)
    }

    fn cancel(&mut self, ticket: Ticket, cancel: &Cancel, actions: &mut Vec<Action>) -> Result<Option<Answer>, ErrorReply> {
        let change = cancel.change;
        let error = || ErrorReply::new(ErrorCode::NotApplied, format!("change {} was cancelled", change.0));
        if let Some(edit) = self.take_edit(change) {
            self.end_edit(edit, error(), Progress::Cancelled {}, actions);
            return Ok(Some(Answer::Cancel(Cancelled { change })));
        }
        for runtime in 0..self.runtimes.len() {
            let position = self.runtimes[runtime].waiting.iter().position(|waiting| waiting.edit.change == change);
            if let Some(position) = position {
                let waiting = self.runtimes[runtime].waiting.remove(position);
                self.end_edit(waiting.edit, error(), Progress::Cancelled {}, actions);
                return Ok(Some(Answer::Cancel(Cancelled { change })));
            }
            let slot = self.live_slot(runtime);
            let flight = self.runtimes[runtime].flight.as_mut().filter(|flight| flight.what.edit.change == change);
            if let (Some(flight), Some(slot)) = (flight, slot)
                && flight.recalled.is_none()
                && matches!(flight.way, Way::Host { .. })
            {
                flight.recalled = Some(Recall::Cancelled { ticket: Some(ticket) });
                self.send_live(slot, LiveChange::CancelSwap, actions);
                return Ok(None);
            }
        }
        let message = format!("change {} is no longer waiting", change.0);
        Err(ErrorReply::new(ErrorCode::UnknownChange, message).in_field("params.change"))
    }

    // ------------------------------------------------------------------------------------------------- running hosts

    fn ask_host(
        &mut self,
        ticket: Ticket,
        name: &RuntimeName,
        question: Question,
        what: LiveChange,
        actions: &mut Vec<Action>,
    ) -> Result<(), ErrorReply> {
        self.ask_host_at(ticket, name, question, what, None, actions)
    }

    fn ask_host_at(
        &mut self,
        ticket: Ticket,
        name: &RuntimeName,
        question: Question,
        what: LiveChange,
        at_tick: Option<u64>,
        actions: &mut Vec<Action>,
    ) -> Result<(), ErrorReply> {
        let runtime = self.runtime(name)?;
        let Some(slot) = self.live_slot(runtime) else {
            return Err(ErrorReply::new(ErrorCode::WrongState, format!("`{name}` does not run; push a program to it, or restart it")));
        };
        if self.runtimes[runtime].questions.len() >= MAX_QUESTIONS {
            return Err(ErrorReply::new(ErrorCode::Busy, format!("too many requests wait for `{name}`; try again")));
        }
        let logged = logged(&what);
        let request = self.send_live_at(slot, what, at_tick, actions);
        self.runtimes[runtime].questions.insert(request, (question, ticket, logged));
        Ok(())
    }

    fn get(&mut self, ticket: Ticket, get: &Get, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        self.check_items(&get.runtime, get.items.iter().map(|item| item.as_str()), "items")?;
        let items = get.items.iter().map(|item| item.as_str().to_owned()).collect();
        self.ask_host(ticket, &get.runtime, Question::Get, LiveChange::Get { items }, actions)
    }

    fn set(&mut self, ticket: Ticket, set: &Set, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        self.check_items(&set.runtime, set.values.iter().map(|value| value.item.as_str()), "values")?;
        self.check_unwired(set.runtime.as_str(), set.values.iter().map(|value| value.item.as_str()))?;
        let runtime = self.runtime(&set.runtime)?;
        let ticks_per_second = self.runtimes[runtime].current.as_ref().map_or(1, |current| super::edits::trial_ticks(current));
        let ramp_ticks = u64::from(set.ramp_ms.unwrap_or(0)) * u64::from(ticks_per_second) / 1_000;
        self.check_ahead(runtime, set.at_tick)?;
        let values = set.values.iter().map(|value| SetItem { item: value.item.as_str().to_owned(), value: value.value.as_f64() }).collect();
        let what = LiveChange::Set { values, ramp_ticks: u32::try_from(ramp_ticks).unwrap_or(u32::MAX) };
        self.ask_host_at(ticket, &set.runtime, Question::Set, what, set.at_tick, actions)
    }

    /// Messages of a client: as if they had come in at a port.
    fn midi_call(&mut self, ticket: Ticket, midi: &Midi, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        let runtime = self.runtime(&midi.runtime)?;
        self.check_ahead(runtime, midi.at_tick)?;
        let what = LiveChange::Midi { messages: midi.messages.iter().filter_map(MidiMessage::received).collect() };
        self.ask_host_at(ticket, &midi.runtime, Question::Midi, what, midi.at_tick, actions)
    }

    fn check_ahead(&self, runtime: usize, at_tick: Option<u64>) -> Result<(), ErrorReply> {
        let ticks_per_second = self.runtimes[runtime].current.as_ref().map_or(1, |current| super::edits::trial_ticks(current));
        let latest = self.runtimes[runtime].status.ticks + MAX_AHEAD_SECONDS * u64::from(ticks_per_second);
        if at_tick.is_some_and(|at_tick| at_tick > latest) {
            let message = format!("it may be up to {MAX_AHEAD_SECONDS} s ahead, which is tick {latest}");
            return Err(ErrorReply::new(ErrorCode::InvalidParams, message).in_field("params.atTick"));
        }
        Ok(())
    }

    /// Whether the program that runs has these items, so that a slip of the pen is answered with what there is.
    fn check_items<'a>(&self, name: &RuntimeName, items: impl Iterator<Item = &'a str>, field: &str) -> Result<(), ErrorReply> {
        let runtime = self.runtime(name)?;
        let Some(current) = &self.runtimes[runtime].current else { return Ok(()) };
        let manifest = &current.plan.content.manifest;
        for (index, item) in items.enumerate() {
            let plain = item.split('[').next().unwrap_or(item);
            let is_known = match plain.split_once(':') {
                Some((module, item)) => manifest.item(module, item).is_some(),
                None => manifest.modules.iter().any(|module| module.items.iter().any(|found| found.name == plain)),
            };
            if !is_known {
                let message = format!("`{name}` has no item `{item}`");
                let known = looking::similar_items(manifest, plain);
                return Err(ErrorReply::new(ErrorCode::UnknownItem, message)
                    .in_field(format!("params.{field}[{index}]"))
                    .with_known(known));
            }
        }
        Ok(())
    }

    fn restart(&mut self, ticket: Ticket, restart: &Restart, actions: &mut Vec<Action>) -> Result<Option<Answer>, ErrorReply> {
        let runtime = self.runtime(&restart.runtime)?;
        let state = &self.runtimes[runtime];
        if let Some(generation) = restart.generation.filter(|generation| *generation != state.generation) {
            let message = format!("`{}` is at generation {}, not {generation}", restart.runtime, state.generation);
            let known = vec![state.generation.to_string()];
            return Err(ErrorReply::new(ErrorCode::StaleGeneration, message).in_field("params.generation").with_known(known));
        }
        if let Some(slot) = self.live_slot(runtime) {
            let is_held = self.programs[slot.0].phase == Phase::Held;
            if !restart.reset && is_held {
                let message =
                    format!("`{}` is held; it runs again from its defaults (reset), or with another revision (push)", restart.runtime);
                return Err(ErrorReply::new(ErrorCode::Held, message));
            }
            if !restart.reset {
                // It runs, with its state: that is what was asked for.
                return Ok(Some(Answer::Restart(self.now(runtime, None))));
            }
            self.ask_host(ticket, &restart.runtime, Question::Reset, LiveChange::Reset, actions)?;
            return Ok(None);
        }
        let Some(last) = state.last.clone() else {
            return Err(ErrorReply::new(ErrorCode::WrongState, format!("`{}` has no revision to start; push one", restart.runtime)));
        };
        self.try_again(runtime);
        self.order_again(runtime, last, actions);
        Ok(Some(Answer::Restart(self.now(runtime, None))))
    }

    /// Somebody wants a runtime to run that was given up: how often it died before does not count any more.
    fn try_again(&mut self, runtime: usize) {
        let phase = self.runtimes[runtime].slot.map(|slot| &self.programs[slot.0].phase);
        if phase.is_none_or(|phase| phase.is_over() || *phase == Phase::Quarantined) {
            self.runtimes[runtime].restarts.forgive();
        }
    }

    /// Starts a runtime again that does not run, with this text.
    pub(super) fn order_again(&mut self, runtime: usize, text: ProgramText, actions: &mut Vec<Action>) {
        let order = Order { is_forced: true, ..Order::of(text, Wishes::default(), None) };
        self.order(runtime, order, actions);
    }

    fn stop_runtime(&mut self, ticket: Ticket, name: &RuntimeName, actions: &mut Vec<Action>) -> Result<Option<Answer>, ErrorReply> {
        let runtime = self.runtime(name)?;
        self.call_off(runtime, actions);
        self.let_go_of_standby(runtime, actions);
        let running = self.runtimes[runtime].slot.filter(|slot| !self.programs[slot.0].phase.is_over());
        let Some(slot) = running else { return Ok(Some(Answer::Stop(self.now(runtime, None)))) };
        self.runtimes[runtime].stop_askers.push(ticket);
        self.retire(slot, actions);
        Ok(None)
    }

    /// Ends every edit of a runtime that has not taken effect.
    fn call_off(&mut self, runtime: usize, actions: &mut Vec<Action>) {
        let state = &mut self.runtimes[runtime];
        let waiting = std::mem::take(&mut state.waiting).into_iter().map(|waiting| waiting.edit);
        let edits: Vec<_> = std::mem::take(&mut state.incoming).into_iter().chain(waiting).collect();
        for edit in edits {
            let error = ErrorReply::new(ErrorCode::NotApplied, format!("`{}` has been stopped", edit.text.name));
            self.end_edit(edit, error, Progress::Cancelled {}, actions);
        }
        if let Some(flight) = &mut self.runtimes[runtime].flight
            && let Way::NewHost { slot } = flight.way
        {
            flight.recalled.get_or_insert(Recall::Cancelled { ticket: None });
            self.retire(slot, actions);
        }
    }

    /// Goes back to an earlier revision: its text is an edit like any other.
    fn roll_back(&mut self, ticket: Ticket, rollback: &Rollback, actions: &mut Vec<Action>) -> Result<(), ErrorReply> {
        let runtime = self.runtime(&rollback.runtime)?;
        let (target, origin) = looking::rollback_target(&self.runtimes[runtime], rollback.revision.as_ref())?;
        let wishes = Wishes {
            boundary: rollback.boundary.unwrap_or_default(),
            is_acknowledged: rollback.acknowledge,
            crossfade_ms: rollback.crossfade_ms.unwrap_or(0),
        };
        let asker = Some(Asker { ticket, when: rollback.answer, verb: ChangeVerb::Rollback });
        self.order(runtime, Order { origin: Some(origin), ..Order::of(target, wishes, asker) }, actions);
        Ok(())
    }

    fn watch(&mut self, watch: &Watch, text: Option<ProgramText>, actions: &mut Vec<Action>) -> Outcome {
        let text = text.ok_or_else(no_text)?;
        let runtime = self.runtime_or_new(&watch.runtime)?;
        let boundary = watch.boundary.unwrap_or_default();
        self.runtimes[runtime].watching = Some(PathBuf::from(&watch.path));
        self.runtimes[runtime].watch_boundary = boundary;
        actions.push(Action::Watch { runtime: watch.runtime.as_str().to_owned(), path: PathBuf::from(&watch.path) });
        self.file_changed(watch.runtime.as_str(), text, 0, actions);
        Ok(Answer::Watch(Watching { runtime: watch.runtime.clone(), path: Some(watch.path.clone()) }))
    }

    /// A watched file has another content.
    pub(super) fn file_changed(&mut self, name: &str, text: ProgramText, detect_us: u64, actions: &mut Vec<Action>) {
        let Some(runtime) = find(&self.runtimes, name) else { return };
        self.runtimes[runtime].seen = Some(text.hash());
        let state = &self.runtimes[runtime];
        let underway = state.incoming.last().map(|edit| &edit.text);
        let underway = underway.or(state.waiting.last().map(|waiting| &waiting.edit.text));
        let underway = underway.or(state.flight.as_ref().map(|flight| &flight.what.edit.text));
        // On its way already: what comes of it will be told.
        if self.stage != Stage::Working || underway.is_some_and(|underway| underway.source == text.source) {
            return;
        }
        let is_current = state.current.as_ref().is_some_and(|current| current.text.source == text.source);
        if underway.is_none() && is_current {
            return self.saved_as_it_plays(runtime, text, actions);
        }
        let wishes = Wishes { boundary: state.watch_boundary, ..Wishes::default() };
        self.order(runtime, Order { detect_us, ..Order::of(text, wishes, None) }, actions);
    }

    /// A watched file is back at what plays, after a mistake for one: nothing is to be done, but whoever marked the mistake
    /// has to know that it is gone.
    fn saved_as_it_plays(&mut self, runtime: usize, text: ProgramText, actions: &mut Vec<Action>) {
        let (change, name) = (self.next_change(), runtime_name(&text.name));
        let revision = self.runtimes[runtime].current.as_ref().map(|current| current.hash().into());
        let event = ChangeEvent { change, runtime: name, revision, progress: Progress::Unchanged {} };
        actions.push(Action::Tell(Report::Change(Box::new(event))));
        actions.push(Action::Tell(Report::Edit { text, news: EditNews::Unchanged }));
    }

    /// A watched file has changed and cannot be read: what plays goes on playing.
    pub(super) fn file_unreadable(&mut self, name: &str, reason: String, actions: &mut Vec<Action>) {
        let Some(runtime) = find(&self.runtimes, name) else { return };
        let state = &self.runtimes[runtime];
        let text = state.slot.and_then(|slot| self.texts.get(slot.0)).or(state.last.as_ref());
        let Some(text) = text.cloned() else { return };
        let progress = Progress::Rejected { why: reason.clone(), diagnostics: Vec::new() };
        let (change, name) = (self.next_change(), runtime_name(&text.name));
        let event = ChangeEvent { change, runtime: name, revision: None, progress };
        actions.push(Action::Tell(Report::Change(Box::new(event))));
        actions.push(Action::Tell(Report::Edit { text, news: EditNews::Unreadable { reason } }));
    }

    fn record(&mut self, ticket: Ticket, path: Option<PathBuf>, actions: &mut Vec<Action>) -> Result<Option<Answer>, ErrorReply> {
        actions.push(Action::Record { ticket, path });
        Ok(None)
    }

    /// A runtime as it is now.
    pub(super) fn now(&self, runtime: usize, committed: Option<ChangeId>) -> RuntimeNow {
        let state = &self.runtimes[runtime];
        RuntimeNow {
            runtime: runtime_name(&state.name),
            state: self.state_of(runtime),
            generation: state.generation,
            tick: state.status.ticks,
            committed,
        }
    }

    /// Ends everything that waits for a host that is gone or going.
    pub(super) fn release_questions(&mut self, runtime: usize, why: &str, actions: &mut Vec<Action>) {
        let state = &mut self.runtimes[runtime];
        let questions = std::mem::take(&mut state.questions).into_values().map(|(_, ticket, _)| ticket);
        let freezes = std::mem::take(&mut state.freeze_askers).into_iter().map(|asker| asker.ticket);
        for ticket in questions.chain(freezes) {
            let error = ErrorReply::new(ErrorCode::WrongState, why);
            answer_error(Asker::of_error(ticket), error, actions);
        }
    }

    /// The change that has waited for the runtime to be frozen, and takes effect now if the host does not refuse it.
    pub(super) fn freeze_boundary_change(&self, runtime: usize) -> Option<ChangeId> {
        let flight = self.runtimes[runtime].flight.as_ref().filter(|flight| matches!(flight.way, Way::Host { .. }))?;
        (flight.what.edit.wishes.boundary == Boundary::Freeze && flight.recalled.is_none()).then_some(flight.what.edit.change)
    }

    /// Answers those who froze a runtime and whose change has come to its end since.
    pub(super) fn answer_freezes(&mut self, actions: &mut Vec<Action>) {
        for runtime in 0..self.runtimes.len() {
            let underway = self.freeze_boundary_change(runtime).filter(|_| self.runtimes[runtime].is_frozen);
            let is_over = |asker: &mut FreezeAsker| Some(asker.change) != underway;
            let over: Vec<_> = self.runtimes[runtime].freeze_askers.extract_if(.., is_over).collect();
            for FreezeAsker { ticket, change, tick } in over {
                let is_committed = self.runtimes[runtime].history.iter().rev().any(|entry| entry.change == change);
                let now = Answer::Freeze(RuntimeNow { tick, ..self.now(runtime, is_committed.then_some(change)) });
                actions.push(Action::Answer { ticket, outcome: Box::new(Ok(now)) });
            }
        }
    }
}

/// What the log says of a request that took effect.
fn logged(what: &LiveChange) -> Logged {
    match what {
        LiveChange::Set { values, ramp_ticks } => {
            let values = values.iter().map(|value| (value.item.clone(), value.value.to_bits())).collect();
            Logged::Set { values, ramp_ticks: *ramp_ticks }
        }
        LiveChange::Midi { messages } => Logged::Midi { messages: messages.clone(), wanted: None },
        LiveChange::Reset => Logged::Reset {},
        LiveChange::Freeze => Logged::Freeze {},
        LiveChange::Run => Logged::Run {},
        // Changes and what they end in are logged when they take effect; looking is no input.
        LiveChange::Swap(_) | LiveChange::Patch(_) | LiveChange::CancelSwap | LiveChange::RollBack => Logged::Seen {},
        LiveChange::Get { .. } | LiveChange::Proceed { .. } => Logged::Seen {},
    }
}

fn no_text() -> ErrorReply {
    ErrorReply::new(ErrorCode::Internal, "the program's text has not been read")
}
