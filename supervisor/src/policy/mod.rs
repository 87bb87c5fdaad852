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

pub mod deadlines;
mod ending;
mod process;
mod program;
mod replies;
#[cfg(test)]
mod simulation;
mod starting;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;

use self::process::{Death, Process};
use self::program::{Lane, Phase, Program};
pub use self::vocabulary::*;

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
    runtime: RuntimeIndex,
    request: u64,
    deadline_ms: u64,
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
    compiling: Option<Compiling>,
    last_request: u64,
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
    pub fn new(goal: Goal, names: impl IntoIterator<Item = String>) -> Self {
        Self {
            goal,
            stage: Stage::NotBegun,
            verdict: Verdict::Fine,
            processes: BTreeMap::new(),
            programs: names.into_iter().map(Program::new).collect(),
            compiling: None,
            last_request: 0,
            device: Device::Closed,
            sample_rate: None,
            is_rendering_begun: false,
            first_frame: None,
            frames: 0,
            signals: 0,
        }
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
            Goal::Play { .. } | Goal::Bounce => [Child::Worker, Child::Device].into_iter().chain(hosts()).collect(),
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
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        if program.phase.is_over() {
            return;
        }
        program.phase = Phase::Failed;
        // What only follows from the end of the session is not news: the first cause has been told.
        if self.stage == Stage::Working {
            self.verdict = self.verdict.max(verdict);
            actions.push(Action::Tell(Report::Failed { runtime, failure }));
        }
        if matches!(program.lane, Lane::Created(_)) {
            actions.push(Action::UnlinkLane(runtime));
        }
        if program.is_lane_added {
            program.is_lane_added = false;
            actions.push(Action::RemoveLane(runtime));
        }
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
                self.lost(now_ms, child, actions);
            }
        }
    }

    fn missing(&mut self, now_ms: u64, child: Child, reason: String, actions: &mut Vec<Action>) {
        actions.push(Action::Tell(Report::ProcessMissing { child, reason }));
        self.lost(now_ms, child, actions);
    }

    fn stuck(&mut self, now_ms: u64, child: Child, reason: String, actions: &mut Vec<Action>) {
        if self.kill(child, actions) {
            actions.push(Action::Tell(Report::ProcessStuck { child, reason }));
            self.lost(now_ms, child, actions);
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
    fn lost(&mut self, now_ms: u64, child: Child, actions: &mut Vec<Action>) {
        match child {
            Child::Worker => {
                self.verdict = self.verdict.max(Verdict::Environment);
                self.compiling = None;
                for runtime in (0..self.programs.len()).map(RuntimeIndex) {
                    if self.programs[runtime.0].phase.is_compiling() {
                        self.fail(runtime, Failure::NoWorker, Verdict::Environment, actions);
                    }
                }
                match self.goal {
                    // As long as nothing is restarted, a session that cannot compile any more is over.
                    Goal::Play { .. } | Goal::Bounce => self.stop(now_ms, actions),
                    Goal::Check | Goal::Compile | Goal::Run | Goal::ListDevices => {}
                }
            }
            Child::Device => {
                self.verdict = self.verdict.max(Verdict::Environment);
                self.stop(now_ms, actions);
            }
            Child::Host(runtime) => self.fail(runtime, Failure::NoHost, Verdict::Program, actions),
        }
    }
}
