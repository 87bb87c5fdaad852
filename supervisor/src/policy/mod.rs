//! The supervisor's decisions: a pure state machine. [`Policy::step`] takes what has happened and the time it happened at,
//! and returns what is to be done. It owns no clock, no process, no channel and no file; the shell around it
//! (`crate::session`) does everything that can fail or wait, and reports back with another event.
//!
//! Its duties: start the processes a goal needs, exactly once each; bring every program from text to sound, or to exactly
//! one [`Failure`]; notice every death and missed deadline; end everything in the right order; say how it went.
//! Its one rule: never wait for anybody. Whatever a child does or omits, a deadline ends the wait.
//!
//! Each event first changes what is known ([`Policy::step`] and the `*_said` functions), then [`Policy::advance`] starts
//! whatever has become possible, then [`Policy::conclude`] decides whether the session is over. The latter two look at the
//! state only, never at the event, so that the order in which events come in does not matter.

mod calls;
pub mod deadlines;
mod describe;
mod edits;
mod ending;
pub mod log;
mod looking;
mod mixing;
mod outcomes;
mod process;
mod program;
#[cfg(test)]
mod programs_in_tests;
mod replies;
mod runtime;
mod script;
#[cfg(test)]
mod simulation;
mod starting;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;

use self::process::{Death, Process};
use self::program::{Lane, Phase, Program};
use self::runtime::{Edit, Runtime};
pub use self::vocabulary::*;
use crate::control::protocol::ChangeId;

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    NotBegun,
    Working,
    /// Fading out and stopping, in order.
    Stopping {
        deadline_ms: u64,
    },
    /// Everything still alive has been sent SIGKILL.
    Killing {
        deadline_ms: u64,
    },
    Over,
}

/// The device as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Closed,
    /// Told to open.
    Opening {
        deadline_ms: u64,
    },
    Open,
    /// Told to fade out and stop.
    Stopping,
    Stopped,
}

/// The compile that the worker is at.
#[derive(Clone, Copy, Debug)]
struct Compiling {
    target: Target,
    request: u64,
    deadline_ms: u64,
}

/// What a compile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A program of the command line.
    Program(RuntimeIndex),
    Edit(ChangeId),
    /// A revision of a replay.
    Script,
}

/// The state machine of one session.
#[derive(Debug)]
pub struct Policy {
    goal: Goal,
    stage: Stage,
    /// The worst thing that has happened.
    verdict: Verdict,
    processes: BTreeMap<Child, Process>,
    programs: Vec<Program>,
    /// The text of each program, as it runs now.
    texts: Vec<ProgramText>,
    runtimes: Vec<Runtime>,
    /// Edits that are only asked about.
    plans: Vec<Edit>,
    script: Option<script::Script>,
    compiling: Option<Compiling>,
    last_request: u64,
    last_live_request: u64,
    last_change: u64,
    /// Changes wait for an acknowledgement whenever any state would be lost.
    asks_for_any_loss: bool,
    /// When the session began, in milliseconds since 1970.
    epoch_ms: u64,
    /// Name, sample rate and period of the output, once one is open.
    device_name: Option<(String, u32, u32)>,
    device_xruns: u64,
    device: Device,
    /// Sample rate of the session, once it is settled, and the name of the program that settled it.
    sample_rate: Option<(u32, Option<String>)>,
    is_rendering_begun: bool,
    /// Session frame that the goal's seconds count from: the first sound, or without audio the first runtime.
    first_frame: Option<u64>,
    /// Session frames at the last report.
    frames: u64,
    signals: u32,
}

impl Policy {
    /// A session for this goal with one program for each name.
    pub fn new<T: Into<ProgramText>>(goal: Goal, texts: impl IntoIterator<Item = T>) -> Self {
        let texts: Vec<ProgramText> = texts.into_iter().map(Into::into).collect();
        let mut policy = Self {
            goal,
            stage: Stage::NotBegun,
            verdict: Verdict::Fine,
            processes: BTreeMap::new(),
            programs: texts.iter().map(|text| Program::new(text.name.clone())).collect(),
            texts,
            runtimes: Vec::new(),
            plans: Vec::new(),
            script: None,
            compiling: None,
            last_request: 0,
            last_live_request: 0,
            last_change: 0,
            asks_for_any_loss: false,
            epoch_ms: 0,
            device_name: None,
            device_xruns: 0,
            device: Device::Closed,
            sample_rate: None,
            is_rendering_begun: false,
            first_frame: None,
            frames: 0,
            signals: 0,
        };
        if policy.is_live() {
            for (index, program) in policy.programs.iter_mut().enumerate() {
                program.runtime = Some(index);
                let mut runtime = Runtime::new(program.name.clone());
                runtime.slot = Some(RuntimeIndex(index));
                runtime.generation = 1;
                policy.runtimes.push(runtime);
            }
        }
        policy
    }

    /// Sets what the session's owner wants of all of it: the sample rate, whether to ask before any loss, and when it began.
    pub fn configure(&mut self, sample_rate: Option<u32>, asks_for_any_loss: bool, epoch_ms: u64) {
        self.sample_rate = sample_rate.map(|rate| (rate, None)).or(self.sample_rate.take());
        self.asks_for_any_loss = asks_for_any_loss;
        self.epoch_ms = epoch_ms;
    }

    /// Mixes a runtime of the command line before it is heard.
    pub fn preset(&mut self, name: &str, gain: f64, is_muted: bool) {
        if let Some(runtime) = edits::find(&self.runtimes, name) {
            self.runtimes[runtime].level.gain = gain;
            self.runtimes[runtime].level.is_muted = is_muted;
        }
    }

    /// The file whose changes are edits of this runtime.
    pub fn follow(&mut self, name: &str, path: std::path::PathBuf) {
        if let Some(runtime) = edits::find(&self.runtimes, name) {
            self.runtimes[runtime].watching = Some(path);
        }
    }

    /// The programs' texts, as they run now, by [`RuntimeIndex`].
    pub fn texts(&self) -> &[ProgramText] {
        &self.texts
    }

    /// What the device host calls a program's lane.
    pub fn lane_name(&self, runtime: RuntimeIndex) -> String {
        self.programs.get(runtime.0).map(|program| program.lane_name.clone()).unwrap_or_default()
    }

    /// Generation of a program's host and the revision it runs, for events.
    pub fn life(&self, runtime: RuntimeIndex) -> Option<(u64, ipc::hash::ContentHash)> {
        let program = self.programs.get(runtime.0)?;
        Some((program.generation, program.revision.as_ref()?.hash()))
    }

    /// Every life of a runtime, and how far it has come.
    pub fn lives(&self) -> Vec<(usize, u64)> {
        let lives = self.programs.iter().enumerate().filter(|(_, program)| program.ticks > 0);
        lives.map(|(life, program)| (life, program.ticks)).collect()
    }

    /// The session clock in frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Process id of a child; 0 where it has none.
    pub fn pid(&self, child: Child) -> u32 {
        self.process(child).pid
    }

    /// Last counters of the host that runs a runtime.
    pub fn counters(&self, name: &str) -> Option<&ipc::message::HostStatus> {
        edits::find(&self.runtimes, name).map(|runtime| &self.runtimes[runtime].status)
    }

    /// Whether this is the host that its runtime runs in now.
    pub fn is_present(&self, slot: RuntimeIndex) -> bool {
        let runtime = self.programs.get(slot.0).and_then(|program| program.runtime);
        runtime.is_none_or(|runtime| self.runtimes[runtime].slot == Some(slot))
    }

    /// Takes one event at `now_ms` (of a clock that never goes back) and decides.
    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stage == Stage::Over {
            return actions;
        }
        self.take_in(now_ms, event, &mut actions);
        self.advance(now_ms, &mut actions);
        self.conclude(now_ms, &mut actions);
        actions
    }

    /// When to step with [`Event::DeadlinePassed`] if nothing else happens before.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let stage = match self.stage {
            Stage::Stopping { deadline_ms } | Stage::Killing { deadline_ms } => Some(deadline_ms),
            Stage::Over => return None,
            Stage::NotBegun | Stage::Working => None,
        };
        let device = match self.device {
            Device::Opening { deadline_ms } => Some(deadline_ms),
            Device::Closed | Device::Open | Device::Stopping | Device::Stopped => None,
        };
        let programs = self.programs.iter().filter_map(|program| match program.phase {
            Phase::Starting { deadline_ms, .. } => deadline_ms,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => None,
            Phase::Running | Phase::Held | Phase::Done | Phase::Failed => None,
        });
        let compiling = self.compiling.map(|compiling| compiling.deadline_ms);
        let processes = self.processes.values().filter_map(Process::deadline_ms);
        processes.chain(programs).chain(stage).chain(device).chain(compiling).min()
    }

    fn take_in(&mut self, now_ms: u64, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Begin => self.begin(now_ms, actions),
            Event::Spawned { child, pid } => {
                self.process_mut(child).pid = pid;
                actions.push(Action::Tell(Report::ProcessStarted { child, pid }));
            }
            Event::NotSpawned { child, reason } => {
                self.process_mut(child).life = process::Life::Dead;
                self.missing(now_ms, child, reason, actions);
            }
            Event::Joined { child } => self.process_mut(child).join(),
            Event::NotJoined { child, reason } => {
                if self.process(child).is_usable() {
                    self.kill(child, actions);
                    self.missing(now_ms, child, reason, actions);
                }
            }
            Event::ChannelClosed { child } => {
                // The cause follows from the kernel; a child that closes its channel and lives on is ended by the deadline.
                self.process_mut(child).close(now_ms, false);
            }
            Event::ChannelBroken { child, reason } => self.stuck(now_ms, child, reason, actions),
            Event::Died { child, end } => self.died(now_ms, child, end, actions),
            Event::WorkerSaid(reply) => self.worker_said(reply, actions),
            Event::HostSaid { runtime, reply } => self.host_said(now_ms, runtime, reply, actions),
            Event::DeviceSaid(reply) => self.device_said(now_ms, reply, actions),
            Event::Inspected { runtime, inspection } => self.inspected(runtime, inspection, actions),
            Event::LaneCreated { runtime, lane } => {
                if let Some(program) = self.programs.get_mut(runtime.0) {
                    program.lane = Lane::Created(lane);
                }
            }
            Event::LaneNotCreated { runtime, reason } => {
                self.fail(runtime, Failure::NoLane { reason }, Verdict::Environment, actions);
            }
            Event::EditInspected { inspection, .. } if self.script.is_some() => self.script_inspected(inspection, actions),
            Event::EditInspected { change, inspection } => self.edit_inspected(change, inspection, actions),
            Event::Call { call, text } => self.called(now_ms, *call, text, actions),
            Event::FileChanged { runtime, text, detect_us } => self.file_changed(&runtime, text, detect_us, actions),
            Event::FileUnreadable { runtime, reason } => self.file_unreadable(&runtime, reason, actions),
            Event::Signal => self.signalled(now_ms, actions),
            Event::DeadlinePassed => self.check_deadlines(now_ms, actions),
        }
    }

    fn begin(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.stage != Stage::NotBegun {
            return;
        }
        self.stage = Stage::Working;
        let hosts = || (0..self.programs.len()).map(|index| Child::Host(RuntimeIndex(index)));
        let children: Vec<Child> = match self.goal {
            Goal::Check | Goal::Compile => vec![Child::Worker],
            Goal::Run => [Child::Worker].into_iter().chain(hosts()).collect(),
            // The worker first: it has the longest way to go before there is sound.
            Goal::Play { .. } | Goal::Serve | Goal::Bounce => [Child::Worker, Child::Device].into_iter().chain(hosts()).collect(),
            Goal::ListDevices => vec![Child::Device],
        };
        for child in children {
            let mut process = Process::absent();
            process.start(now_ms);
            self.processes.insert(child, process);
            actions.push(Action::Spawn(child));
        }
    }

    /// A program will not run (any more). Tells so once, and lets go of what it had.
    fn fail(&mut self, runtime: RuntimeIndex, failure: Failure, verdict: Verdict, actions: &mut Vec<Action>) {
        let is_news = self.stage == Stage::Working && self.is_present(runtime);
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        if program.phase.is_over() {
            return;
        }
        program.phase = Phase::Failed;
        // What only follows from the end of the session is not news: the first cause has been told. What an edit started is
        // told as the edit's end.
        if is_news {
            self.verdict = self.verdict.max(verdict);
            actions.push(Action::Tell(Report::Failed { runtime, failure: failure.clone() }));
        }
        if matches!(program.lane, Lane::Created(_)) {
            actions.push(Action::UnlinkLane(runtime));
        }
        if program.is_lane_added {
            program.is_lane_added = false;
            if !program.is_retiring {
                actions.push(Action::RemoveLane(runtime));
            }
        }
        self.slot_over(runtime, Some(&failure), actions);
    }

    fn process(&self, child: Child) -> &Process {
        const ABSENT: Process = Process { life: process::Life::Absent, pid: 0 };
        self.processes.get(&child).unwrap_or(const { &ABSENT })
    }

    fn process_mut(&mut self, child: Child) -> &mut Process {
        self.processes.entry(child).or_insert_with(Process::absent)
    }

    fn died(&mut self, now_ms: u64, child: Child, end: ProcessEnd, actions: &mut Vec<Action>) {
        let process = self.process_mut(child);
        let pid = process.pid;
        match process.die(end) {
            Death::Expected | Death::Stale => {}
            Death::Unexpected => {
                actions.push(Action::Tell(Report::Died { child, pid, end }));
                self.lost(now_ms, child, Some(end), actions);
            }
        }
    }

    fn missing(&mut self, now_ms: u64, child: Child, reason: String, actions: &mut Vec<Action>) {
        actions.push(Action::Tell(Report::ProcessMissing { child, reason }));
        self.lost(now_ms, child, None, actions);
    }

    fn stuck(&mut self, now_ms: u64, child: Child, reason: String, actions: &mut Vec<Action>) {
        if self.kill(child, actions) {
            actions.push(Action::Tell(Report::ProcessStuck { child, reason }));
            self.lost(now_ms, child, None, actions);
        }
    }

    fn kill(&mut self, child: Child, actions: &mut Vec<Action>) -> bool {
        let is_news = self.process_mut(child).kill();
        if is_news {
            actions.push(Action::Kill(child));
        }
        is_news
    }

    /// What the loss of a process means for the rest. It has been told already.
    fn lost(&mut self, now_ms: u64, child: Child, end: Option<ProcessEnd>, actions: &mut Vec<Action>) {
        match child {
            Child::Worker => {
                if let Some(Compiling { target: Target::Edit(change), .. }) = self.compiling {
                    self.reject_change(change, crate::control::protocol::ErrorCode::CompilerRestarted, Failure::NoWorker, actions);
                }
                if let Some(Compiling { target: Target::Script, .. }) = self.compiling {
                    self.end_script("the compiler-worker is gone", actions);
                }
                self.verdict = self.verdict.max(Verdict::Environment);
                self.compiling = None;
                for runtime in (0..self.programs.len()).map(RuntimeIndex) {
                    if self.programs[runtime.0].phase.is_compiling() {
                        self.fail(runtime, Failure::NoWorker, Verdict::Environment, actions);
                    }
                }
                match self.goal {
                    // As long as nothing is restarted, a session that cannot compile any more is over.
                    Goal::Play { .. } | Goal::Serve | Goal::Bounce => self.stop(now_ms, actions),
                    Goal::Check | Goal::Compile | Goal::Run | Goal::ListDevices => {}
                }
            }
            Child::Device => {
                self.verdict = self.verdict.max(Verdict::Environment);
                self.stop(now_ms, actions);
            }
            Child::Host(runtime) => self.fail(runtime, Failure::NoHost, self.blame(runtime, end), actions),
        }
    }

    /// Whose fault the loss of a host is. A program can only be blamed if the host had it, and can get its host stuck or
    /// killed by a signal; a host that exits, or aborts in a panic, has found something missing itself.
    fn blame(&self, runtime: RuntimeIndex, end: Option<ProcessEnd>) -> Verdict {
        const ABORT: i32 = nix::sys::signal::Signal::SIGABRT as i32;
        let had_program = self.programs.get(runtime.0).is_some_and(|program| match program.phase {
            Phase::Starting { .. } | Phase::Running | Phase::Held | Phase::Done | Phase::Failed => true,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => false,
        });
        match end {
            Some(ProcessEnd::Exited(_) | ProcessEnd::Killed(ABORT)) => Verdict::Environment,
            Some(ProcessEnd::Killed(_)) | None if had_program => Verdict::Program,
            Some(ProcessEnd::Killed(_)) | None => Verdict::Environment,
        }
    }
}
