//! Where requests to change a running program come in and answers go out: the control thread's side.
//!
//! Every request is answered exactly once (a swap as `SwapProgress` says), whatever happens to it: it is refused here, or
//! handed to the tick thread, which gives back every command in an outcome, or leaves it behind when it ends. Freeing is done
//! here, too: by dropping what outcomes bring.

use std::path::PathBuf;

use ipc::hash::ContentHash;
use ipc::limits::{MAX_LIVE_REQUESTS, MAX_RECEIVED};
use ipc::live::{Carried, LiveChange, LiveReply, LiveRequest, RequestId, SwapProgress};
use ipc::message::{HostReply, ItemValue, Refusal};
use ipc::midi::Received;
use ipc::plan::StateKey;
use ipc::segment::SessionId;
use ipc::wires::Wiring;

use super::circuit::Circuit;
use super::handover::{Action, Command, GetWork, Identity, Outcome, Reason, SetWork, SwapWork, Trial};
use super::layouts::{Layout, Layouts};
use super::prepare::{self, Workshop};
use super::stage::Leftovers;
use super::wires::WiringWork;
use crate::host::assets;
use crate::host::engine::Loader;
use crate::host::failure::Failure;
use crate::host::fault_log::Report;
use crate::host::migration;
use crate::host::start::plain_refusal;
use crate::host::tick_thread::TickThread;
use crate::registry::{self, RuntimeType};

/// What a desk is for.
pub struct Office {
    pub session: SessionId,
    pub runtime: String,
    pub runtime_type: &'static RuntimeType,
    /// Folder that relative asset paths start from.
    pub base_directory: PathBuf,
}

/// See the module's documentation.
pub struct Desk {
    office: Office,
    layouts: Layouts,
    /// What runs, as far as the outcomes that have been seen tell.
    running: Identity,
    /// Patches that may be undone, each with the revision that comes back then.
    undoable: Vec<(RequestId, ContentHash)>,
    /// Commands that the tick thread has and has not answered.
    waiting: usize,
    /// The control wires.
    circuit: Circuit,
    /// The tick thread has not been given the wires as they are now: there was no room.
    is_unwired: bool,
}

impl Desk {
    /// A desk for a runtime whose program `running` is about to run; it is among `layouts`.
    pub fn new(office: Office, running: Identity, layouts: Layouts) -> Self {
        let (circuit, undoable) = (Circuit::default(), Vec::new());
        Self { office, layouts, running, undoable, waiting: 0, circuit, is_unwired: false }
    }

    /// What runs, as far as the outcomes that have been seen tell.
    pub fn revision(&self) -> ipc::hash::ContentHash {
        self.running.revision
    }

    /// Takes down what the files of the program that runs hold, so that an edit writes only what is new. For a program that
    /// has just been begun or taken over; a file that cannot be read any more is read again with the next edit.
    pub fn note_assets(&mut self) {
        let Some(layout) = self.layouts.of_revision(self.running.revision) else { return };
        let settings = registry::settings(layout.manifest());
        let id = layout.id;
        if let Ok(parts) = assets::read_all(&settings, &self.office.base_directory) {
            self.layouts.set_assets(id, assets::loaded(&parts));
        }
    }

    /// Whether an answer is to be expected from the tick thread.
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    // ---------------------------------------------------------------------------------------------------- wires

    /// Takes on other control wires. The tick thread has to be given them with [`Desk::wire`].
    pub fn connect(&mut self, wiring: Wiring, reply: &mut dyn FnMut(HostReply)) {
        for line in self.circuit.connect(wiring, &self.office.session) {
            reply(HostReply::Log { runtime: self.office.runtime.clone(), line });
        }
    }

    /// The control wires, ready for every program that may run.
    pub fn wiring(&mut self) -> Box<WiringWork> {
        Box::new(self.circuit.work(&self.layouts))
    }

    /// Takes what belongs to ticks from `tick` on off the tape: they are executed again.
    pub fn rewind(&self, tick: u64) {
        self.circuit.rewind(tick);
    }

    /// Gives the tick thread the control wires as they are now.
    pub fn wire(&mut self, thread: &mut TickThread) {
        let command = Command { request: 0, at_tick: None, action: Action::Wire(self.wiring()) };
        self.is_unwired = thread.send(command).is_err();
        self.waiting += usize::from(!self.is_unwired);
    }

    /// Tells what control wires have brought; that they have brought nothing, when `is_due`.
    pub fn report_wires(&mut self, thread: &TickThread, is_due: bool, reply: &mut dyn FnMut(HostReply)) {
        let manifest = self.layouts.of_revision(self.running.revision).map(Layout::manifest);
        self.circuit.report(&self.office.runtime, manifest.map(|manifest| &**manifest), thread.counters().ticks(), is_due, reply);
    }

    // ------------------------------------------------------------------------------------------------- requests

    /// Takes a request. `reply` gets what there is to say at once.
    pub fn take(&mut self, request: LiveRequest, loader: &Loader, thread: &mut TickThread, reply: &mut dyn FnMut(HostReply)) {
        let LiveRequest { request, at_tick, what } = request;
        if let LiveChange::Proceed { to_tick } = what {
            let answer = match thread.proceed(to_tick) {
                true => LiveReply::Applied { request, tick: to_tick, carried: None },
                false => refused(request, plain_refusal("the runtime was started without a horizon".to_owned())),
            };
            return reply(HostReply::Live(answer));
        }
        let began = std::time::Instant::now();
        let is_swap = matches!(what, LiveChange::Swap(_));
        match self.prepare(request, what, loader, reply) {
            Ok(action) => {
                if is_swap {
                    let build_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    reply(swap_reply(request, SwapProgress::Pending { build_us }));
                    if self.circuit.is_connected() {
                        // They have ends in the new program, too.
                        self.wire(thread);
                    }
                }
                self.hand_over(Command { request, at_tick, action }, thread, reply);
            }
            Err(reason) => reply(HostReply::Live(refused(request, reason))),
        }
    }

    fn prepare(
        &mut self,
        request: RequestId,
        what: LiveChange,
        loader: &Loader,
        reply: &mut dyn FnMut(HostReply),
    ) -> Result<Action, Refusal> {
        if self.waiting >= MAX_LIVE_REQUESTS {
            return Err(too_many());
        }
        let Office { session, runtime, runtime_type, base_directory } = &mut self.office;
        let mut workshop = Workshop { loader, session, runtime, runtime_type, reply };
        Ok(match what {
            LiveChange::Swap(swap) => {
                let directory = swap.base_directory.clone();
                let work = workshop.swap(request, *swap, &mut self.layouts)?;
                *base_directory = directory;
                Action::Swap(Box::new(work))
            }
            LiveChange::Patch(patch) => {
                let directory = patch.base_directory.clone();
                let work = workshop.patch(request, *patch, &mut self.layouts)?;
                *base_directory = directory;
                Action::Patch(Box::new(work))
            }
            LiveChange::CancelSwap => Action::CancelSwap,
            LiveChange::Reset => Action::Reset(Box::new(prepare::reset(&self.layouts, base_directory)?)),
            LiveChange::Freeze => Action::Freeze,
            LiveChange::Run => Action::Run,
            LiveChange::RollBack => Action::RollBack,
            LiveChange::Midi { messages } => Action::Midi(received(messages)?),
            LiveChange::Set { values, ramp_ticks } => Action::Set(Box::new(prepare::set(&self.layouts, values, ramp_ticks)?)),
            LiveChange::Get { items } => Action::Get(Box::new(prepare::get(&self.layouts, items)?)),
            LiveChange::Proceed { .. } => return Err(plain_refusal("a horizon is raised at once or not at all".to_owned())),
        })
    }

    fn hand_over(&mut self, command: Command, thread: &mut TickThread, reply: &mut dyn FnMut(HostReply)) {
        match thread.send(command) {
            Ok(()) => self.waiting += 1,
            Err(command) => self.refuse(command, too_many(), reply),
        }
    }

    // ------------------------------------------------------------------------------------------------- outcomes

    /// Takes everything the tick thread has brought back.
    pub fn look(&mut self, thread: &mut TickThread, reply: &mut dyn FnMut(HostReply)) {
        while let Some(outcome) = thread.take_outcome() {
            if let Some(stale) = self.hear(outcome, reply) {
                self.prepare_again(stale, thread, reply);
            }
        }
        if self.is_unwired {
            self.wire(thread);
        }
    }

    /// The tick thread has ended: answers what it left behind. `tick` is the one that would have come next.
    pub fn close(&mut self, leftovers: Leftovers, tick: u64, reply: &mut dyn FnMut(HostReply)) {
        let Leftovers { program, pending, trial, later, commands } = leftovers;
        for trial in trial.into_iter().chain(later.into_iter().map(Trial::Patch)) {
            if trial.ticks_left() > 0 {
                reply(swap_reply(trial.request(), SwapProgress::TrialCutShort { tick }));
            }
            self.free(trial);
        }
        if let Some(swap) = pending {
            reply(swap_reply(swap.request, SwapProgress::Cancelled));
        }
        for command in commands {
            match command.action {
                Action::Swap(_) => reply(swap_reply(command.request, SwapProgress::Cancelled)),
                Action::Wire(_) => {}
                _ => reply(HostReply::Live(refused(command.request, plain_refusal("the runtime has ended".to_owned())))),
            }
        }
        drop(program);
        self.waiting = 0;
    }

    /// Takes one outcome; returns a command that has to be prepared again.
    fn hear(&mut self, outcome: Outcome, reply: &mut dyn FnMut(HostReply)) -> Option<Command> {
        match outcome {
            Outcome::Fault(report) => self.report(report, reply),
            Outcome::Applied { tick, command } => {
                self.answered();
                if !matches!(command.action, Action::Wire(_)) {
                    reply(HostReply::Live(LiveReply::Applied { request: command.request, tick, carried: None }));
                }
            }
            Outcome::Patched { request, tick, patch_ns, carried, now } => {
                self.answered();
                let before = std::mem::replace(&mut self.running, now);
                self.undoable.push((request, before.revision));
                if self.waiting == 0 {
                    let of_use: Vec<_> = self.undoable.iter().map(|(_, before)| *before).chain([before.revision, now.revision]).collect();
                    self.layouts.forget_all_but(now.layout, &of_use);
                }
                let carried = Some(Carried { patch_ns, ..carried_of(carried, Vec::new()) });
                reply(HostReply::Live(LiveReply::Applied { request, tick, carried }));
            }
            Outcome::Read { request, tick, work } => {
                self.answered();
                reply(HostReply::Live(values(request, tick, &work)));
            }
            Outcome::Refused { command, reason } => {
                self.answered();
                let reason = self.reason_of(&command, reason);
                self.refuse(command, reason, reply);
            }
            Outcome::Stale(command) => {
                self.answered();
                return Some(command);
            }
            Outcome::Committed { request, tick, commit_ns, carried, there, now } => {
                self.answered();
                self.running = now;
                let lost = there.as_deref().map_or_else(Vec::new, |there| there.lost_pointers().into_iter().cloned().collect());
                let carried = carried_of(carried, lost);
                reply(swap_reply(request, SwapProgress::Committed { tick, commit_ns, carried }));
            }
            Outcome::Superseded(swap) => self.drop_swap(swap, SwapProgress::Superseded, reply),
            Outcome::Cancelled(swap) => self.drop_swap(swap, SwapProgress::Cancelled, reply),
            Outcome::TrialPassed { request, tick } => reply(swap_reply(request, SwapProgress::TrialPassed { tick })),
            Outcome::TrialCutShort { request, tick } => reply(swap_reply(request, SwapProgress::TrialCutShort { tick })),
            Outcome::Unused(_) => {}
            Outcome::RolledBack { tick, failure, failed, now, is_partial, is_late, trial } => {
                self.running = now;
                if let Some(fault) = self.layouts.fault(failed, failure, tick, 0) {
                    reply(swap_reply(trial.request(), SwapProgress::RolledBack { tick, fault, to: now.revision, is_partial, is_late }));
                }
                if let Trial::Patch(patch) = &trial {
                    // A program that was replaced together with its patches is freed as a whole.
                    if failed.layout == now.layout {
                        self.layouts.remove_revision(now.layout, patch.revision);
                    }
                }
                self.free(trial);
            }
            Outcome::Retired(trial) => self.free(trial),
        }
        None
    }

    fn answered(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    fn report(&self, report: Report, reply: &mut dyn FnMut(HostReply)) {
        if let Some(fault) = self.layouts.fault(self.running, report.failure, report.tick, report.repeats) {
            reply(HostReply::Faulted { runtime: self.office.runtime.clone(), fault, held: report.held });
        }
    }

    fn drop_swap(&mut self, swap: Box<SwapWork>, progress: SwapProgress, reply: &mut dyn FnMut(HostReply)) {
        self.answered();
        reply(swap_reply(swap.request, progress));
        self.free(Trial::Swap(swap));
    }

    /// Frees what a change consisted of; a program that is freed is none that may run, and a patch is not undone any more.
    fn free(&mut self, trial: Trial) {
        match trial {
            Trial::Swap(swap) => self.layouts.remove(swap.program.layout()),
            Trial::Patch(patch) => self.undoable.retain(|(request, _)| *request != patch.request),
        }
    }

    fn refuse(&mut self, command: Command, reason: Refusal, reply: &mut dyn FnMut(HostReply)) {
        reply(HostReply::Live(refused(command.request, reason)));
        match command.action {
            Action::Swap(swap) => self.free(Trial::Swap(swap)),
            Action::Patch(patch) => {
                if let Some(layout) = self.layouts.of_revision(patch.revision).map(|layout| layout.id) {
                    self.layouts.remove_revision(layout, patch.revision);
                    // Nobody knows any more what of the files is there.
                    self.layouts.set_assets(layout, Vec::new());
                }
            }
            Action::CancelSwap | Action::Reset(_) | Action::Freeze | Action::Run | Action::RollBack => {}
            Action::Set(_) | Action::Get(_) | Action::Midi(_) | Action::Wire(_) => {}
        }
    }

    /// Another program runs than any the command was prepared for: it was loaded after the command came.
    fn prepare_again(&mut self, stale: Command, thread: &mut TickThread, reply: &mut dyn FnMut(HostReply)) {
        let Command { request, at_tick, action } = stale;
        let again = match action {
            Action::Set(set) => {
                let SetWork { steps, items, .. } = *set;
                prepare::set(&self.layouts, items, steps).map(|work| Action::Set(Box::new(work)))
            }
            Action::Get(get) => {
                let GetWork { items, .. } = *get;
                prepare::get(&self.layouts, items).map(|work| Action::Get(Box::new(work)))
            }
            Action::Reset(_) => prepare::reset(&self.layouts, &self.office.base_directory).map(|work| Action::Reset(Box::new(work))),
            action @ (Action::Swap(_) | Action::Patch(_) | Action::CancelSwap) => Ok(action),
            action @ (Action::Freeze | Action::Run | Action::RollBack | Action::Midi(_) | Action::Wire(_)) => Ok(action),
        };
        match again {
            Ok(action) => self.hand_over(Command { request, at_tick, action }, thread, reply),
            Err(reason) => reply(HostReply::Live(refused(request, reason))),
        }
    }

    /// What to tell a person about a refusal of the tick thread's.
    fn reason_of(&self, command: &Command, reason: Reason) -> Refusal {
        match reason {
            Reason::NoPendingSwap => plain_refusal("no swap is pending".to_owned()),
            Reason::NoTrial => plain_refusal("no change is on trial".to_owned()),
            Reason::OtherRevision => {
                plain_refusal("the revision that the change starts from does not run any more; send it again".to_owned())
            }
            Reason::OtherMemories => {
                plain_refusal("the migration plan was made for other memories than those of the running program".to_owned())
            }
            Reason::NoPulse => plain_refusal("the running program has no item of the name that the boundary waits for".to_owned()),
            Reason::TooManyRamps => plain_refusal("too many values are on a ramp; wait until some have arrived".to_owned()),
            Reason::NotInThisProgram => self.missing(command),
            Reason::InitialisationFailed(failure) => self.initialisation_refusal(command, failure),
        }
    }

    fn missing(&self, command: &Command) -> Refusal {
        let layout = self.running.layout;
        let refusal = match &command.action {
            Action::Set(set) => set.writes.get_rt(layout).and_then(|writes| writes.as_ref().err()),
            Action::Get(get) => get.places.get_rt(layout).and_then(|places| places.as_ref().err()),
            _ => None,
        };
        refusal.cloned().unwrap_or_else(|| plain_refusal("the running program does not have what was named".to_owned()))
    }

    fn initialisation_refusal(&self, command: &Command, failure: Failure) -> Refusal {
        let program = match &command.action {
            Action::Swap(swap) => swap.program.identity(),
            Action::Patch(patch) => Identity { revision: patch.revision, ..self.running },
            _ => self.running,
        };
        let fault = self.layouts.fault(program, failure, 0, 0);
        let message = format!("the program failed while it was initialised: {}", failure.kind.explanation());
        Refusal { message, line: fault.and_then(|fault| fault.line), is_damaged: false, is_machine: false }
    }
}

/// Messages that a port can have received, as many as one request may have.
fn received(messages: Vec<Received>) -> Result<Box<[Received]>, Refusal> {
    if messages.len() > MAX_RECEIVED || !messages.iter().all(|message| message.is_sound()) {
        return Err(plain_refusal(format!("these are not at most {MAX_RECEIVED} MIDI messages")));
    }
    Ok(messages.into())
}

fn too_many() -> Refusal {
    plain_refusal(format!("{MAX_LIVE_REQUESTS} requests wait for their ticks already; send it again when some have been answered"))
}

fn refused(request: RequestId, reason: Refusal) -> LiveReply {
    LiveReply::Refused { request, reason }
}

fn swap_reply(request: RequestId, progress: SwapProgress) -> HostReply {
    HostReply::Live(LiveReply::Swap { request, progress })
}

fn carried_of(carried: migration::Carried, lost: Vec<StateKey>) -> Carried {
    let migration::Carried { kept_bytes, moved_bytes, relocated, patched_bytes, lost: _ } = carried;
    Carried { kept_bytes, moved_bytes, relocated_addresses: relocated, patched_bytes, patch_ns: 0, lost }
}

fn values(request: RequestId, tick: u64, work: &GetWork) -> LiveReply {
    let Some(Ok(places)) = work.places.get_rt(work.layout) else {
        return refused(request, plain_refusal("the items were read from a program that is gone".to_owned()));
    };
    let mut rest = &work.buffer[..];
    let mut values = Vec::with_capacity(places.len());
    for place in places {
        let (bytes, later) = rest.split_at((place.count as usize * place.element.bytes() as usize).min(rest.len()));
        values.push(ItemValue { item: place.name.clone(), values: place.decode(bytes) });
        rest = later;
    }
    LiveReply::Values { request, tick, values }
}
