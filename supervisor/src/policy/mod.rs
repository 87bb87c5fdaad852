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
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;

use ipc::limits::DEFAULT_SAMPLE_RATE_HZ;

use self::process::{Death, Process};
use self::program::{COMPILE_ATTEMPTS, Lane, Phase, Program};
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

    /// Starts whatever has become possible.
    fn advance(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::Working => {}
            Stage::NotBegun | Stage::Stopping { .. } | Stage::Killing { .. } | Stage::Over => return,
        }
        self.compile_next(now_ms, actions);
        self.settle_sample_rate();
        self.open_device(now_ms, actions);
        for runtime in (0..self.programs.len()).map(RuntimeIndex) {
            self.start_program(now_ms, runtime, actions);
            if self.programs[runtime.0].phase == Phase::Failed {
                self.close(now_ms, Child::Host(runtime), actions);
            }
        }
        self.begin_rendering(actions);
    }

    /// One compile at a time, so that each has the whole of its deadline and a dead worker fails one program for its fault.
    fn compile_next(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let Some(index) = self.programs.iter().position(|program| program.phase == Phase::Queued) else { return };
        let runtime = RuntimeIndex(index);
        if !self.process(Child::Worker).is_usable() {
            self.fail(runtime, Failure::NoWorker, Verdict::Environment, actions);
            return self.compile_next(now_ms, actions);
        }
        if self.compiling.is_some() || !self.process(Child::Worker).is_joined() {
            return;
        }
        self.last_request += 1;
        self.compiling = Some(Compiling { runtime, request: self.last_request, deadline_ms: now_ms + deadlines::COMPILE_MS });
        let program = &mut self.programs[index];
        program.phase = Phase::Compiling;
        let settings = program.settings.clone();
        actions.push(Action::Compile { runtime, request: self.last_request, settings });
    }

    /// The first program (in the order of the command line) that delivers blocks settles the session's sample rate, once no
    /// program before it can still do so. A bounce waits for all of them: it makes a file of all programs or none.
    fn settle_sample_rate(&mut self) {
        let needs_device = match self.goal {
            Goal::Play { .. } | Goal::Bounce => true,
            Goal::Check | Goal::Compile | Goal::Run | Goal::ListDevices => false,
        };
        let is_unready = |program: &Program| program.phase.is_compiling() || program.phase == Phase::Failed;
        if !needs_device || self.sample_rate.is_some() || (self.goal == Goal::Bounce && self.programs.iter().any(is_unready)) {
            return;
        }
        for program in &self.programs {
            if program.phase.is_compiling() {
                return;
            }
            if let Phase::Ready { plan: Some(plan), .. } = &program.phase
                && plan.has_lane
            {
                self.sample_rate = Some((plan.sample_rate, Some(program.name.clone())));
                return;
            }
        }
        if self.programs.iter().any(|program| !program.phase.is_over()) {
            self.sample_rate = Some((DEFAULT_SAMPLE_RATE_HZ, None));
        }
    }

    fn open_device(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.device != Device::Closed || !self.process(Child::Device).is_joined() {
            return;
        }
        if self.goal == Goal::ListDevices {
            actions.push(Action::ListDevices);
        } else if let Some((sample_rate, _)) = self.sample_rate {
            actions.push(Action::OpenDevice { sample_rate });
        } else {
            return;
        }
        self.device = Device::Opening { deadline_ms: now_ms + deadlines::OPEN_DEVICE_MS };
    }

    fn start_program(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &self.programs[runtime.0];
        let Phase::Ready { artifact, plan } = program.phase.clone() else { return };
        let host = self.process(Child::Host(runtime));
        let Some(plan) = plan else {
            if host.is_joined() {
                self.programs[runtime.0].phase = Phase::Starting { artifact: artifact.clone(), deadline_ms: None };
                actions.push(Action::RunProgram { runtime, artifact });
            }
            return;
        };
        let Some((session_rate, settled_by)) = self.sample_rate.clone() else { return };
        if plan.has_lane && plan.sample_rate != session_rate {
            let message = other_rate(plan.sample_rate, session_rate, settled_by.as_deref());
            return self.fail(runtime, Failure::Unplayable { message, line: None }, Verdict::Program, actions);
        }
        let lane = match (plan.has_lane, program.lane.clone()) {
            (false, Lane::None | Lane::Asked | Lane::Created(_)) => None,
            (true, Lane::None) => {
                self.programs[runtime.0].lane = Lane::Asked;
                return actions.push(Action::CreateLane(runtime));
            }
            (true, Lane::Asked) => return,
            (true, Lane::Created(lane)) => Some(lane),
        };
        self.add_lane(runtime, lane.as_ref(), actions);
        if self.process(Child::Host(runtime)).is_joined() {
            let deadline_ms = Some(now_ms + deadlines::START_RUNTIME_MS);
            self.programs[runtime.0].phase = Phase::Starting { artifact: artifact.clone(), deadline_ms };
            actions.push(Action::StartRuntime { runtime, artifact, plan, lane });
        }
    }

    fn add_lane(&mut self, runtime: RuntimeIndex, lane: Option<&ipc::segment::SegmentRef>, actions: &mut Vec<Action>) {
        let is_device_told = match self.device {
            Device::Opening { .. } | Device::Open => true,
            Device::Closed | Device::Stopping | Device::Stopped => false,
        };
        let program = &mut self.programs[runtime.0];
        if let Some(lane) = lane
            && is_device_told
            && !program.is_lane_added
        {
            program.is_lane_added = true;
            actions.push(Action::AddLane { runtime, lane: lane.clone() });
        }
    }

    fn begin_rendering(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.programs.len() {
            // A runtime may have been started before the device could be told of its lane.
            if let Lane::Created(lane) = self.programs[index].lane.clone()
                && !self.programs[index].phase.is_over()
            {
                self.add_lane(RuntimeIndex(index), Some(&lane), actions);
            }
        }
        let is_ready = |program: &Program| match program.phase {
            Phase::Running | Phase::Held => program.is_lane_mapped,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => false,
            Phase::Starting { .. } | Phase::Done | Phase::Failed => false,
        };
        if self.goal == Goal::Bounce && self.device == Device::Open && !self.is_rendering_begun && self.programs.iter().all(is_ready) {
            self.is_rendering_begun = true;
            actions.push(Action::BeginRendering);
        }
    }

    fn inspected(&mut self, runtime: RuntimeIndex, inspection: Inspection, actions: &mut Vec<Action>) {
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        let Phase::Inspecting { artifact } = program.phase.clone() else { return };
        let release = Action::Release { segment: artifact.name.clone() };
        match inspection {
            Inspection::Playable(plan) => {
                let lines = plan.log.iter().cloned();
                actions.extend(lines.map(|line| Action::Tell(Report::Log { runtime, line })));
                if self.goal == Goal::Bounce && !plan.has_lane {
                    let message = format!("a bounce renders audio; this program runs under the runtime type `{}`", plan.runtime_type);
                    actions.push(release);
                    return self.fail(runtime, Failure::Unplayable { message, line: None }, Verdict::Program, actions);
                }
                program.phase = Phase::Ready { artifact, plan: Some(plan) };
            }
            Inspection::Runnable => program.phase = Phase::Ready { artifact, plan: None },
            Inspection::NeedsSettings(settings) => {
                actions.push(release);
                if program.settings.is_none() {
                    program.settings = Some(settings);
                    program.phase = Phase::Queued;
                } else {
                    let message = "what it is to be compiled with does not settle".to_owned();
                    self.fail(runtime, Failure::NotCompiled(message), Verdict::Environment, actions);
                }
            }
            Inspection::Unplayable { message, line } => {
                actions.push(release);
                self.fail(runtime, Failure::Unplayable { message, line }, Verdict::Program, actions);
            }
            Inspection::Delivered => {
                program.phase = Phase::Done;
                actions.push(release);
            }
            Inspection::NotDelivered { reason } => {
                actions.push(release);
                self.fail(runtime, Failure::NotDelivered { reason }, Verdict::Input, actions);
            }
            Inspection::Damaged { reason } => {
                actions.push(release);
                self.compile_again(runtime, reason, actions);
            }
        }
    }

    /// An artifact arrived damaged: makes it once more, then gives up.
    fn compile_again(&mut self, runtime: RuntimeIndex, reason: String, actions: &mut Vec<Action>) {
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        if program.attempts < COMPILE_ATTEMPTS && self.stage == Stage::Working {
            program.attempts += 1;
            program.phase = Phase::Queued;
            actions.push(Action::Tell(Report::CompilingAgain { runtime, reason }));
        } else {
            let message = format!("its artifact arrived damaged {COMPILE_ATTEMPTS} times ({reason}); check the machine's memory");
            self.fail(runtime, Failure::NotCompiled(message), Verdict::Environment, actions);
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

/// Why a program cannot join a session of another sample rate.
fn other_rate(asked: u32, session: u32, settled_by: Option<&str>) -> String {
    let by = settled_by.map(|name| format!(", as \"{name}\" asks for")).unwrap_or_default();
    format!("it asks for {asked} Hz, but this session runs at {session} Hz{by}; give all programs the same audioRuntime.sampleRate")
}
