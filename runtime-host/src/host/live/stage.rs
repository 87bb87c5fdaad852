//! What the tick thread plays: the running program, what waits to change it, and what may come back.
//!
//! Owned by the tick loop, which calls it three times a tick: [`Stage::begin_rt`] lets commands take effect, [`Stage::run_rt`]
//! executes the program, [`Stage::end_rt`] looks at boundaries and fades. It allocates and frees nothing; what it has no use
//! for goes to the control thread as an [`Outcome`], for which there is always room: a command is only begun when there is.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use ipc::limits::MAX_LIVE_REQUESTS;
use rtrb::{Consumer, Producer, RingBuffer};

use super::checkpoint::Checkpoints;
use super::deadline::Deadline;
use super::handover::{Action, Command, Identity, Outcome, PatchWork, PreparedBoundary, Reason, SwapWork, Trial};
use super::ramps::{Ramps, to_number_rt};
use super::trial::MAX_LATER_PATCHES;
use super::wires::WiringWork;
use crate::host::failure::Failure;
use crate::host::fault_log::{FaultLog, Report};
use crate::host::items::Place;
use crate::host::program::{Fading, Program};
use crate::realtime::monotonic_ns_rt;
use crate::registry::runtime::Runtime;

/// Failing ticks in a row after which a program is held.
pub const HOLD_AFTER_TICKS: u32 = 16;
/// Outcomes that one command or one tick can have: all patches that are on trial may be taken back, or let go of.
const OUTCOME_RESERVE: usize = 16 + 2 * MAX_LATER_PATCHES;
/// Room for the outcomes of as many requests as may wait: a swap has at most four.
const OUTCOME_QUEUE: usize = 4 * MAX_LIVE_REQUESTS + 2 * OUTCOME_RESERVE;

/// The control thread's ends of the queues to a stage.
pub struct StageDoor {
    commands: Producer<Command>,
    outcomes: Consumer<Outcome>,
    taken: u64,
    released: Arc<AtomicU64>,
}

impl StageDoor {
    /// Hands over a command. Returns it when too many are on the way.
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        self.commands.push(command).map_err(|rtrb::PushError::Full(command)| command)
    }

    /// The next outcome. What has happened in a tick comes out once a host that took over would know of it, too.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        if self.taken >= self.released.load(Acquire) {
            return None;
        }
        let outcome = self.outcomes.pop().ok()?;
        self.taken += 1;
        Some(outcome)
    }
}

/// What was on the stage when its thread ended.
pub struct Leftovers {
    pub program: Box<Program>,
    pub pending: Option<Box<SwapWork>>,
    pub trial: Option<Trial>,
    #[allow(clippy::vec_box)] // As the tick thread had them.
    pub later: Vec<Box<PatchWork>>,
    /// Commands whose tick never came, in the order in which they came in.
    pub commands: Vec<Command>,
}

/// A swap that waits for its boundary.
pub(super) struct Pending {
    pub swap: Box<SwapWork>,
    pub at_tick: Option<u64>,
    edge: Option<Edge>,
}

/// Watches an item for a rising edge: from zero or less to more.
#[derive(Clone, Copy)]
struct Edge {
    place: ReadPlace,
    was_high: bool,
    has_risen: bool,
}

/// An element in memory.
#[derive(Clone, Copy)]
pub struct ReadPlace {
    pub(super) memory: u32,
    pub(super) address: u32,
    pub(super) element: ipc::manifest::ElementType,
}

impl ReadPlace {
    pub(super) fn of(place: &Place) -> Self {
        Self { memory: place.memory, address: place.byte_address, element: place.element }
    }

    /// What it holds.
    pub(super) fn number_rt(&self, program: &Program) -> Option<f64> {
        let bytes = program.engine().bytes_rt(self.memory, self.address, self.element.bytes() as usize);
        bytes.map(|bytes| to_number_rt(self.element, bytes))
    }

    fn is_high_rt(&self, program: &Program) -> bool {
        self.number_rt(program).is_some_and(|number| number > 0.0)
    }
}

/// See the module's documentation.
pub struct Stage {
    pub(super) program: Box<Program>,
    pub(super) failed_in_a_row: u32,
    pub(super) is_frozen: bool,
    /// The sound of this tick does not go on from that of the one before.
    pub(super) has_break: bool,
    pub(super) pending: Option<Pending>,
    /// The oldest change that is on trial; also a crossfade under way.
    pub(super) trial: Option<Trial>,
    /// Patches on trial that were committed since, oldest first. Never grows beyond the capacity it was made with.
    #[allow(clippy::vec_box)] // They come in boxes and go on in them: the tick thread frees none.
    pub(super) later: Vec<Box<PatchWork>>,
    pub(super) ramps: Ramps,
    pub(super) outcomes: Producer<Outcome>,
    pub(super) log: FaultLog,
    /// Frames of a tick; 0 for types without sound.
    pub(super) tick_frames: u32,
    /// `None` in hosts that no clock decides in.
    pub(super) deadline: Option<Deadline>,
    pub(super) checkpoints: Checkpoints,
    /// What it has to do with control wires.
    pub(super) wiring: Box<WiringWork>,
    /// Ticks are executed again that have been executed before: nothing is decided by time, and nothing is written down.
    pub(super) is_replaying: bool,
    /// What takes effect in `tick` already has: the tick thread is in the middle of it, or it was restored like that.
    pub(super) has_begun: bool,
    /// The tick that is executed, or comes next.
    pub(super) tick: u64,
    /// Something has happened that executing the ticks since the newest checkpoint again would come to once more.
    pub(super) is_unkept: bool,
    commands: Consumer<Command>,
    /// In the order in which they came in. Never grows beyond the capacity it was made with.
    waiting: Vec<Command>,
    /// Says that the program is held, until it fits into the queue.
    hold_report: Option<Report>,
    /// The old program of a crossfade has run in this tick.
    pub(super) has_fading_run: bool,
    is_held: Arc<AtomicBool>,
    /// Outcomes that were put into the queue, and those of them that may be taken out.
    told: u64,
    released: Arc<AtomicU64>,
}

/// What a tick comes to, for the runtime type to deliver.
pub struct Sounding<'a> {
    /// `None`: silence.
    pub program: Option<&'a Program>,
    /// What is blended out meanwhile.
    pub fading: Option<Fading<'a>>,
    /// It does not go on from what was heard before: time was stopped or goes on, a crossfade was cut off. Joined to it
    /// with a short ramp, it does not click.
    pub has_break: bool,
}

impl Stage {
    /// A stage with its first program, and the control thread's ends of its queues. `is_held` tells other threads whether the
    /// program is held. `tick_ns` is the length of a tick, and `deadline_tick_ns` the same in hosts that are heard live.
    pub fn new(
        program: Box<Program>,
        tick_frames: u32,
        tick_ns: u64,
        deadline_tick_ns: Option<u64>,
        is_held: Arc<AtomicBool>,
    ) -> (Self, StageDoor) {
        let released = Arc::new(AtomicU64::new(0));
        let (commands, commands_rt) = RingBuffer::new(MAX_LIVE_REQUESTS);
        let (outcomes_rt, outcomes) = RingBuffer::new(OUTCOME_QUEUE);
        let stage = Self {
            program,
            failed_in_a_row: 0,
            is_frozen: false,
            has_break: false,
            pending: None,
            trial: None,
            later: Vec::with_capacity(MAX_LATER_PATCHES),
            ramps: Ramps::default(),
            outcomes: outcomes_rt,
            log: FaultLog::default(),
            tick_frames,
            deadline: deadline_tick_ns.map(Deadline::new),
            checkpoints: Checkpoints::new(tick_ns),
            wiring: Box::default(),
            is_replaying: false,
            has_begun: false,
            tick: 0,
            is_unkept: false,
            commands: commands_rt,
            waiting: Vec::with_capacity(MAX_LIVE_REQUESTS),
            hold_report: None,
            has_fading_run: false,
            is_held,
            told: 0,
            released: Arc::clone(&released),
        };
        (stage, StageDoor { commands, outcomes, taken: 0, released })
    }

    /// Lets go of everything, for the control thread to free and to answer.
    pub fn into_leftovers(mut self) -> Leftovers {
        self.waiting.extend(std::iter::from_fn(|| self.commands.pop().ok()));
        let pending = self.pending.map(|pending| pending.swap);
        Leftovers { program: self.program, pending, trial: self.trial, later: self.later, commands: self.waiting }
    }

    /// The tick thread begins: a trial that has been restored is watched by the clock of this thread.
    pub fn enter_rt(&mut self) {
        self.begin_trial_rt();
    }

    // ------------------------------------------------------------------------------------------ start of a tick

    /// The start of `tick`: ramps step, commands whose tick has come take effect in order, a swap whose boundary has come is
    /// committed, and wires bring their values.
    pub fn begin_rt(&mut self, tick: u64) {
        self.has_fading_run = false;
        self.tick = tick;
        if !std::mem::replace(&mut self.has_begun, true) {
            self.ramps.step_rt(self.program.engine_mut());
        }
        while self.waiting.len() < self.waiting.capacity() {
            let Ok(command) = self.commands.pop() else { break };
            self.waiting.push(command);
        }
        let mut index = 0;
        while index < self.waiting.len() && self.has_room_rt() {
            if self.waiting[index].at_tick.is_none_or(|at_tick| at_tick <= tick) {
                let command = self.waiting.remove(index);
                self.carry_out_rt(command, tick);
            } else {
                index += 1;
            }
        }
        self.commit_ripe_rt(tick);
        self.take_wires_rt(tick);
        self.checkpoint_if_due_rt(tick);
        self.release_rt();
    }

    fn carry_out_rt(&mut self, command: Command, tick: u64) {
        let Command { request, at_tick, action } = command;
        match action {
            Action::Swap(swap) => self.await_boundary_rt(swap, at_tick),
            action => {
                // What came after a swap concerns the program of after the swap.
                self.commit_ripe_rt(tick);
                self.apply_rt(Command { request, at_tick, action }, tick);
            }
        }
    }

    /// A swap has come: it waits for its boundary from here on, in the place of an earlier one.
    fn await_boundary_rt(&mut self, swap: Box<SwapWork>, at_tick: Option<u64>) {
        if let Some(earlier) = self.pending.take() {
            self.tell_rt(Outcome::Superseded(earlier.swap));
        }
        let edge = match &swap.boundary {
            PreparedBoundary::Frame | PreparedBoundary::Freeze => None,
            PreparedBoundary::Pulse(places) => match places.get_rt(self.program.layout()) {
                Some(Some(place)) => {
                    let place = ReadPlace::of(place);
                    Some(Edge { place, was_high: place.is_high_rt(&self.program), has_risen: false })
                }
                Some(None) | None => {
                    return self.refuse_rt(Command { request: swap.request, at_tick, action: Action::Swap(swap) }, Reason::NoPulse);
                }
            },
        };
        self.pending = Some(Pending { swap, at_tick, edge });
    }

    fn commit_ripe_rt(&mut self, tick: u64) {
        let is_ripe = self.pending.as_ref().is_some_and(|pending| match pending.swap.boundary {
            PreparedBoundary::Frame => true,
            PreparedBoundary::Freeze => self.is_frozen,
            PreparedBoundary::Pulse(_) => pending.edge.is_some_and(|edge| edge.has_risen),
        });
        if is_ripe
            && self.has_room_rt()
            && let Some(pending) = self.pending.take()
        {
            self.commit_rt(pending, tick);
        }
    }

    // ---------------------------------------------------------------------------------------------- the tick itself

    /// Executes the program, unless it is frozen or held. Returns whether its output is to be heard.
    pub fn run_rt(&mut self, tick: u64, runtime: &mut dyn Runtime) -> bool {
        if self.is_frozen || self.failed_in_a_row >= HOLD_AFTER_TICKS {
            return false;
        }
        self.keep_start_rt();
        let begin_ns = monotonic_ns_rt();
        let outcome = self.run_once_rt(runtime);
        let spent_ns = monotonic_ns_rt().saturating_sub(begin_ns);
        self.checkpoints.note_run_rt(spent_ns);
        let has_run = match self.judge_rt(outcome, spent_ns) {
            Ok(()) => {
                self.pass_rt(tick);
                true
            }
            Err(failure) if self.is_on_trial_rt() => {
                let is_late = failure == Failure::DEADLINE_EXCEEDED || self.deadline.is_some_and(|deadline| deadline.is_missed(spent_ns));
                self.roll_back_rt(tick, failure, is_late);
                // A clock may have decided, so that executing the tick again would not come to the same.
                self.checkpoint_if_due_rt(tick);
                self.run_instead_rt(tick, runtime)
            }
            Err(failure) => self.fail_rt(failure, tick),
        };
        self.run_fading_rt(runtime);
        has_run
    }

    /// The old program computes the tick that the new one failed in.
    fn run_instead_rt(&mut self, tick: u64, runtime: &mut dyn Runtime) -> bool {
        if self.failed_in_a_row >= HOLD_AFTER_TICKS {
            return false;
        }
        match self.run_once_rt(runtime) {
            Ok(()) => {
                self.failed_in_a_row = 0;
                true
            }
            Err(failure) => self.fail_rt(failure, tick),
        }
    }

    fn run_once_rt(&mut self, runtime: &mut dyn Runtime) -> Result<(), Failure> {
        runtime.sample_inputs_rt(&mut self.program);
        self.program.tick_rt()
    }

    /// A tick of a program on trial that took too long has failed, too.
    fn judge_rt(&mut self, outcome: Result<(), Failure>, spent_ns: u64) -> Result<(), Failure> {
        let is_on_trial = self.is_on_trial_rt();
        let is_alone = !self.is_fading_rt();
        let is_exceeded = outcome.is_ok()
            && is_on_trial
            && !self.is_replaying
            && self.deadline.as_mut().is_some_and(|deadline| deadline.is_exceeded_rt(spent_ns, is_alone));
        if is_exceeded { Err(Failure::DEADLINE_EXCEEDED) } else { outcome }
    }

    fn fail_rt(&mut self, failure: Failure, tick: u64) -> bool {
        let now_ns = monotonic_ns_rt();
        self.failed_in_a_row += 1;
        self.is_unkept = true;
        self.log.note_rt(failure, tick, now_ns);
        if self.failed_in_a_row == HOLD_AFTER_TICKS {
            self.show_held_rt();
            self.hold_report = self.log.take_rt(failure, now_ns).map(|report| Report { held: true, ..report });
        }
        false
    }

    fn run_fading_rt(&mut self, runtime: &mut dyn Runtime) {
        let Some(Trial::Swap(swap)) = &mut self.trial else { return };
        if swap.fade.is_over() {
            return;
        }
        runtime.sample_inputs_rt(&mut swap.program);
        self.checkpoints.kept_changes_rt();
        match swap.program.tick_rt() {
            Ok(()) => self.has_fading_run = true,
            // It is on its way out; there is nothing more to hear of it.
            Err(_) => {
                swap.fade.done_frames = swap.fade.total_frames;
                self.has_break = true;
            }
        }
    }

    /// What the tick sounds like. `has_run` is what [`Self::run_rt`] returned.
    pub fn sounding_rt(&self, has_run: bool) -> Sounding<'_> {
        let fading = match &self.trial {
            Some(Trial::Swap(swap)) if self.has_fading_run => Some(Fading { program: &swap.program, fade: swap.fade }),
            Some(Trial::Swap(_) | Trial::Patch(_)) | None => None,
        };
        Sounding { program: has_run.then_some(&*self.program), fading, has_break: self.has_break }
    }

    // -------------------------------------------------------------------------------------------------- end of a tick

    /// The end of a tick. `has_run` is what [`Self::run_rt`] returned.
    pub fn end_rt(&mut self, has_run: bool) {
        if let Some(edge) = self.pending.as_mut().and_then(|pending| pending.edge.as_mut())
            && has_run
        {
            let is_high = edge.place.is_high_rt(&self.program);
            edge.has_risen |= is_high && !edge.was_high;
            edge.was_high = is_high;
        }
        self.has_break = false;
        let tick_frames = self.tick_frames;
        if let Some(Trial::Swap(swap)) = &mut self.trial
            && self.has_fading_run
        {
            swap.fade.done_frames = swap.fade.done_frames.saturating_add(tick_frames);
        }
        self.let_go_rt();
        self.sample_wires_rt();
        self.tick += 1;
        self.has_begun = false;
        self.release_rt();
    }

    /// Notes samples that were not finite.
    pub fn note_non_finite_rt(&mut self, tick: u64) {
        self.log.note_rt(Failure::NON_FINITE, tick, monotonic_ns_rt());
    }

    /// How often the running program was refused more memory since this was last asked.
    pub fn take_refused_growth_rt(&mut self) -> u64 {
        self.program.engine_mut().take_refused_growth_rt()
    }

    /// Sends the reports that are due and fit; the rest stays where it is.
    pub fn report_rt(&mut self, now_ns: u64) {
        while self.has_room_rt() {
            let Some(report) = self.hold_report.take().or_else(|| self.log.due_rt(now_ns)) else { break };
            self.tell_rt(Outcome::Fault(report));
        }
        self.release_rt();
    }

    /// Sends all reports, due or not: the program they are of is about to be another.
    pub(super) fn report_rest_rt(&mut self) {
        let now_ns = monotonic_ns_rt();
        // There are a few of them only, so they fit into the reserve.
        while let Some(report) = self.hold_report.take().or_else(|| self.log.rest_rt(now_ns)) {
            self.tell_rt(Outcome::Fault(report));
        }
    }

    /// Sends all reports that fit, due or not: the thread is about to end.
    pub fn report_last_rt(&mut self) {
        if self.has_room_rt() {
            self.report_rest_rt();
        }
        self.release_rt();
    }

    // -------------------------------------------------------------------------------------------------------- words

    pub(super) fn identity_rt(&self) -> Identity {
        self.program.identity()
    }

    pub(super) fn show_held_rt(&self) {
        self.is_held.store(self.failed_in_a_row >= HOLD_AFTER_TICKS, Relaxed);
    }

    pub(super) fn refuse_rt(&mut self, command: Command, reason: Reason) {
        self.tell_rt(Outcome::Refused { command, reason });
    }

    /// There is room: [`Self::has_room_rt`] is asked before anything is begun. Were there none, the outcome would be freed
    /// here, which is wrong on this thread but not unsound.
    pub(super) fn tell_rt(&mut self, outcome: Outcome) {
        if self.outcomes.push(outcome).is_ok() {
            self.told += 1;
        }
    }

    /// Lets the control thread have the outcomes of so far. Whatever a host that took over would come to once more goes into
    /// a checkpoint before it is told, so that nobody hears of it twice; what is executed again is told later, for the same
    /// reason.
    fn release_rt(&mut self) {
        if self.is_replaying || self.released.load(Relaxed) == self.told {
            return;
        }
        if self.is_unkept && self.program.keeps_state_rt() {
            self.checkpoint_rt(self.tick, self.has_begun);
        }
        self.released.store(self.told, Release);
    }

    fn has_room_rt(&self) -> bool {
        self.outcomes.slots() >= OUTCOME_RESERVE
    }
}
