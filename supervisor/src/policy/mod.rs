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

pub mod adoption;
mod blame;
mod calls;
pub mod deadlines;
mod describe;
mod edits;
mod ending;
pub mod gaps;
mod handover;
mod hosts;
pub mod keep;
mod keys;
pub mod log;
mod looking;
mod midi;
mod mixing;
mod outcomes;
mod process;
mod program;
#[cfg(test)]
mod programs_in_tests;
mod pulse;
mod recovery;
mod replies;
pub mod restarts;
pub mod routes;
mod runtime;
mod script;
#[cfg(test)]
mod simulation;
mod stalls;
mod starting;
mod tape;
mod tempo;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_edits;
mod trials;
mod vocabulary;
mod wires;

use std::collections::BTreeMap;

use ipc::hash::ContentHash;

use self::hosts::Duty;
use self::process::{Death, Process};
use self::program::{Lane, Phase, Program};
use self::restarts::Restarts;
pub use self::restarts::{Intensity, RestartLimits};
use self::runtime::{Edit, Runtime};
pub use self::stalls::Watched;
pub use self::tape::TapeFiles;
pub use self::tempo::TempoSetup;
pub use self::vocabulary::*;
use crate::control::protocol::{ChangeId, Channels};

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

/// What is known of the end of a process.
#[derive(Clone, Debug)]
struct Loss {
    /// `None` where it never came.
    end: Option<ProcessEnd>,
    /// What we have killed it for, or why it never came.
    cause: Option<String>,
    /// The tick it was executing, and of which revision.
    tick: Option<(ContentHash, u64)>,
}

impl Loss {
    /// What is known of it.
    fn words(&self) -> String {
        match (&self.cause, self.end) {
            (Some(cause), _) => cause.clone(),
            (None, Some(end)) => format!("it {end}"),
            (None, None) => "it never came".to_owned(),
        }
    }
}

/// The state machine of one session.
#[derive(Debug)]
pub struct Policy {
    goal: Goal,
    stage: Stage,
    /// The worst thing that has happened.
    verdict: Verdict,
    processes: BTreeMap<Child, Process>,
    /// What each runtime host is there for. A host that is not in here belongs to nobody any more.
    hosts: BTreeMap<HostIndex, Duty>,
    last_host: usize,
    /// Which start of the worker, and of the device host, is the present one.
    worker_generation: u64,
    device_generation: u64,
    worker_restarts: Restarts,
    device_restarts: Restarts,
    spare_restarts: Restarts,
    session_restarts: Restarts,
    intensity: Intensity,
    session_intensity: Intensity,
    has_worker_joined: bool,
    /// What is to be done first, where this supervisor has taken another one's place.
    homecoming: Option<adoption::Homecoming>,
    /// What is settled now, a host did that has died since.
    is_by_recovery: bool,
    /// When a look was last asked for, and when one was last taken.
    asked_look_ms: u64,
    last_look_ms: u64,
    /// How long the device host has said nothing, as far as we have seen it.
    device_silent_ms: u64,
    /// Whether it asks the lanes for sound.
    demand: stalls::Demand,
    /// Events that came from processes that are not there any more.
    stale: u64,
    programs: Vec<Program>,
    /// The text of each program, as it runs now.
    texts: Vec<ProgramText>,
    runtimes: Vec<Runtime>,
    keys: keys::Keys,
    midi: midi::Midi,
    taping: tape::Taping,
    routes: routes::Routes,
    musical: tempo::MusicalTime,
    wires: wires::Wires,
    /// Edits that are only asked about.
    plans: Vec<Edit>,
    /// Whether the runtimes are mixed as if one that plays were soloed.
    is_solo_heard: bool,
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
    /// Channels of the output that are played to, once one is open.
    device_channels: Option<u32>,
    /// Level of the session at the last report.
    device_peak: [f32; 2],
    device: Device,
    /// Sample rate of the session, once it is settled, and the name of the program that settled it.
    sample_rate: Option<(u32, Option<String>)>,
    /// The device host that has been told to begin, by its generation.
    begun_device: u64,
    /// Session frame that the goal's seconds count from: the first sound, or without audio the first runtime.
    first_frame: Option<u64>,
    /// Session frames at the last report.
    frames: u64,
    /// When that was.
    frames_at_ms: u64,
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
            hosts: BTreeMap::new(),
            last_host: 0,
            worker_generation: 1,
            device_generation: 1,
            worker_restarts: Restarts::default(),
            device_restarts: Restarts::default(),
            spare_restarts: Restarts::default(),
            session_restarts: Restarts::default(),
            intensity: Intensity::OF_ONE,
            session_intensity: Intensity::OF_SESSION,
            has_worker_joined: false,
            homecoming: None,
            is_by_recovery: false,
            asked_look_ms: 0,
            last_look_ms: 0,
            device_silent_ms: 0,
            demand: stalls::Demand::default(),
            stale: 0,
            programs: texts.iter().map(|text| Program::new(text.name.clone())).collect(),
            texts,
            runtimes: Vec::new(),
            keys: keys::Keys::default(),
            midi: midi::Midi::default(),
            taping: tape::Taping::default(),
            routes: routes::Routes::default(),
            musical: tempo::MusicalTime::default(),
            wires: wires::Wires::default(),
            plans: Vec::new(),
            is_solo_heard: false,
            script: None,
            compiling: None,
            last_request: 0,
            last_live_request: 0,
            last_change: 0,
            asks_for_any_loss: false,
            epoch_ms: 0,
            device_name: None,
            device_xruns: 0,
            device_channels: None,
            device_peak: [0.0; 2],
            device: Device::Closed,
            sample_rate: None,
            begun_device: 0,
            first_frame: None,
            frames: 0,
            frames_at_ms: 0,
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
    pub fn preset(&mut self, name: &str, gain: f64, is_muted: bool, output: Channels) {
        if let Some(runtime) = edits::find(&self.runtimes, name) {
            self.runtimes[runtime].level.gain = gain;
            self.runtimes[runtime].level.is_muted = is_muted;
            self.runtimes[runtime].level.output = output;
        }
    }

    /// The file whose changes are edits of this runtime.
    pub fn follow(&mut self, name: &str, path: std::path::PathBuf) {
        if let Some(runtime) = edits::find(&self.runtimes, name) {
            let text = self.runtimes[runtime].slot.and_then(|slot| self.texts.get(slot.0));
            self.runtimes[runtime].seen = text.map(ProgramText::hash);
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

    /// Whether a program delivers MIDI events into its lane.
    pub fn has_notes(&self, runtime: RuntimeIndex) -> bool {
        let revision = self.programs.get(runtime.0).and_then(|program| program.revision.as_ref());
        revision.is_some_and(|revision| revision.plan.has_notes())
    }

    /// Generation of a program's host and the revision it runs, for events.
    pub fn life(&self, runtime: RuntimeIndex) -> Option<(u64, ipc::hash::ContentHash)> {
        let program = self.programs.get(runtime.0)?;
        Some((program.generation, program.revision.as_ref()?.hash()))
    }

    /// Every life of a runtime, how far it has come, and whether nothing later than that may be recorded, although it plays on.
    pub fn lives(&self) -> Vec<(usize, u64, bool)> {
        let lives = self.programs.iter().enumerate().filter(|(_, program)| program.ticks > 0);
        // What control wires have brought later is not known yet.
        let ticks = |program: &Program| program.heard.map_or((program.ticks, false), |heard| (heard.to_tick, true));
        lives.map(|(life, program)| (life, ticks(program).0, ticks(program).1)).collect()
    }

    /// The life of a runtime that runs, and how many ticks it has in a second.
    pub fn ticking(&self, name: &str) -> Option<(RuntimeIndex, u32)> {
        let runtime = edits::find(&self.runtimes, name)?;
        let current = self.runtimes[runtime].current.as_ref()?;
        Some((self.live_slot(runtime)?, edits::ticks_per_second(current)))
    }

    /// The session clock in frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What a child is being killed for, if it is.
    pub fn killed_for(&self, child: Child) -> Option<&str> {
        let process = self.process(child);
        process.cause.as_deref().filter(|_| process.life == process::Life::Killed { is_fault: true })
    }

    /// Process id of a child; 0 where it has none.
    pub fn pid(&self, child: Child) -> u32 {
        self.process(child).pid
    }

    /// The worker that compiles now.
    pub fn worker(&self) -> Child {
        Child::Worker(self.worker_generation)
    }

    /// The device host that plays now.
    pub fn device(&self) -> Child {
        Child::Device(self.device_generation)
    }

    /// The process that runs a program, or is to.
    pub fn host(&self, runtime: RuntimeIndex) -> Option<Child> {
        self.programs.get(runtime.0)?.host.map(Child::Host)
    }

    /// What a child is there for.
    pub fn part(&self, child: Child) -> Part {
        match child {
            Child::Worker(_) => Part::Worker,
            Child::Device(_) => Part::Device,
            Child::Host(host) => match self.hosts.get(&host) {
                Some(Duty::Program(runtime)) => Part::Host(*runtime),
                Some(Duty::Spare(_)) | None => Part::Spare,
            },
        }
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
            Phase::Recovering { deadline_ms } => deadline_ms,
            Phase::Quarantined => None,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => None,
            Phase::Running | Phase::Held | Phase::Done | Phase::Failed => None,
        });
        let compiling = self.compiling.map(|compiling| compiling.deadline_ms).into_iter().chain(self.standby_deadline_ms());
        let processes = self.processes.values().filter_map(Process::deadline_ms);
        let pauses = (0..self.programs.len()).filter_map(|runtime| self.host_deadline_ms(RuntimeIndex(runtime)));
        let restarts =
            [self.spare_deadline_ms(), self.worker_deadline_ms(), self.device_deadline_ms(), self.look_deadline_ms()].into_iter().flatten();
        processes.chain(programs).chain(stage).chain(device).chain(compiling).chain(pauses).chain(restarts).min()
    }

    fn take_in(&mut self, now_ms: u64, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Begin => self.begin(now_ms, actions),
            Event::Spawned { child, pid } => self.spawned(child, pid, actions),
            Event::NotSpawned { child, reason } => {
                let Some(process) = self.processes.get_mut(&child) else { return self.stale += 1 };
                if process.is_gone() {
                    return self.stale += 1;
                }
                process.life = process::Life::Dead;
                self.missing(now_ms, child, reason, actions);
                self.processes.remove(&child);
            }
            Event::Joined { child } => match self.processes.get_mut(&child) {
                Some(process) => {
                    process.join();
                    self.has_worker_joined |= matches!(child, Child::Worker(_));
                }
                None => self.stale += 1,
            },
            Event::NotJoined { child, reason } => {
                if self.process(child).is_usable() {
                    self.end_faulty(now_ms, child, reason, true, actions);
                }
            }
            Event::ChannelClosed { child } => {
                // The cause follows from the kernel; a child that closes its channel and lives on is ended by the deadline.
                match self.processes.get_mut(&child) {
                    Some(process) => drop(process.close(now_ms, false)),
                    None => self.stale += 1,
                }
            }
            Event::ChannelBroken { child, reason } => self.stuck(now_ms, child, reason, actions),
            Event::Died { child, end, tick } => self.died(now_ms, child, end, tick, actions),
            Event::WorkerSaid { generation, reply } if generation == self.worker_generation => self.worker_said(reply, actions),
            Event::DeviceSaid { generation, reply } if generation == self.device_generation => self.device_said(now_ms, reply, actions),
            Event::WorkerSaid { reply, .. } => self.stale_worker_said(reply, actions),
            Event::DeviceSaid { .. } => self.stale += 1,
            Event::HostSaid { host, reply } => self.some_host_said(now_ms, host, reply, actions),
            Event::Inspected { runtime, inspection } => self.inspected(runtime, inspection, actions),
            Event::LaneCreated { runtime, lane } => match self.programs.get_mut(runtime.0) {
                Some(program) if !program.phase.is_over() => program.lane = Lane::Created(lane),
                // It has come to its end meanwhile.
                Some(_) | None => actions.push(Action::Release { segment: lane.name }),
            },
            Event::BoardCreated { runtime, board } => self.board_created(runtime, board, actions),
            Event::BoardNotCreated { runtime, reason } => self.board_not_created(runtime, reason),
            Event::StateCreated { runtime, request, state } => self.state_created(runtime, request, state, actions),
            Event::StateNotCreated { runtime, reason } => self.state_not_created(runtime, reason, actions),
            Event::Looked { found } => self.looked(now_ms, &found, actions),
            Event::LaneNotCreated { runtime, reason } => {
                self.fail(runtime, Failure::NoLane { reason }, Verdict::Environment, actions);
            }
            Event::EditInspected { inspection, .. } if self.script.is_some() => self.script_inspected(inspection, actions),
            Event::EditInspected { change, inspection } => self.edit_inspected(change, inspection, actions),
            Event::Call { call, text } => self.called(now_ms, *call, text, actions),
            Event::FileChanged { runtime, text, detect_us } => self.file_changed(&runtime, text, detect_us, actions),
            Event::FileUnreadable { runtime, reason } => self.file_unreadable(&runtime, reason, actions),
            Event::Key { usage, is_down } => self.key_moved(usage, is_down, actions),
            Event::KeysReleased => self.keys_released(actions),
            Event::Signal => self.signalled(now_ms, actions),
            Event::DeadlinePassed => self.check_deadlines(now_ms, actions),
        }
    }

    fn begin(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.stage != Stage::NotBegun {
            return;
        }
        if let Some(homecoming) = self.homecoming.take() {
            return self.come_home(now_ms, homecoming, actions);
        }
        self.stage = Stage::Working;
        let (worker, device) = (self.worker(), self.device());
        let (parts, has_hosts) = match self.goal {
            Goal::Check | Goal::Compile => (vec![worker], false),
            Goal::Run | Goal::Replay { .. } => (vec![worker], true),
            // The worker first: it has the longest way to go before there is sound.
            Goal::Play { .. } | Goal::Serve | Goal::Bounce => (vec![worker, device], true),
            Goal::ListDevices => (vec![device], false),
        };
        for child in parts {
            self.spawn(now_ms, child, actions);
        }
        if has_hosts {
            for runtime in (0..self.programs.len()).map(RuntimeIndex) {
                self.spawn_host(now_ms, Duty::Program(runtime), actions);
            }
        }
    }

    fn spawn(&mut self, now_ms: u64, child: Child, actions: &mut Vec<Action>) {
        let mut process = Process::absent();
        process.start(now_ms);
        self.processes.insert(child, process);
        actions.push(Action::Spawn(child));
    }

    fn spawned(&mut self, child: Child, pid: u32, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&child) else { return self.stale += 1 };
        process.pid = pid;
        actions.push(Action::Tell(Report::ProcessStarted { part: self.part(child), pid }));
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
        self.let_go_of_lane(runtime, actions);
        self.slot_over(runtime, Some(&failure), actions);
    }

    /// The device host need not read a program's lane any more, and nobody needs its segments.
    fn let_go_of_lane(&mut self, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &mut self.programs[runtime.0];
        actions.extend(program.end().into_iter().map(|segment| Action::Release { segment }));
        if program.is_lane_added {
            program.is_lane_added = false;
            if !program.is_retiring {
                actions.push(Action::RemoveLane(runtime));
            }
        }
    }

    fn process(&self, child: Child) -> &Process {
        const ABSENT: Process = Process { life: process::Life::Absent, pid: 0, cause: None };
        self.processes.get(&child).unwrap_or(const { &ABSENT })
    }

    fn died(&mut self, now_ms: u64, child: Child, end: ProcessEnd, tick: Option<(ContentHash, u64)>, actions: &mut Vec<Action>) {
        let Some(process) = self.processes.get_mut(&child) else { return self.stale += 1 };
        let pid = process.pid;
        let cause = process.cause.take();
        match process.die(end) {
            Death::Expected => {}
            Death::Stale => self.stale += 1,
            Death::Unexpected => {
                let part = self.part(child);
                let generation = self.generation(part);
                actions.push(Action::Tell(Report::Died { part, pid, generation, end, cause: cause.clone() }));
                self.lost(now_ms, child, Loss { end: Some(end), cause, tick }, actions);
            }
        }
        self.processes.remove(&child);
        if let Child::Host(host) = child {
            self.hosts.remove(&host);
        }
    }

    /// Which generation of its part a process is.
    fn generation(&self, part: Part) -> u64 {
        match part {
            Part::Worker => self.worker_generation,
            Part::Device => self.device_generation,
            Part::Host(runtime) => self.programs.get(runtime.0).map_or(1, |program| program.generation),
            Part::Spare => 1,
        }
    }

    fn missing(&mut self, now_ms: u64, child: Child, reason: String, actions: &mut Vec<Action>) {
        actions.push(Action::Tell(Report::ProcessMissing { part: self.part(child), reason: reason.clone() }));
        self.lost(now_ms, child, Loss { end: None, cause: Some(reason), tick: None }, actions);
    }

    fn stuck(&mut self, now_ms: u64, child: Child, reason: String, actions: &mut Vec<Action>) {
        self.end_faulty(now_ms, child, reason, false, actions);
    }

    /// Kills a process that does not do its part. In a session that restarts what is lost, it is lost once the kernel says
    /// that it is dead: before that, it could still write where the next one is to go on.
    fn end_faulty(&mut self, now_ms: u64, child: Child, reason: String, is_missing: bool, actions: &mut Vec<Action>) {
        let is_restarted = self.is_live() && self.stage == Stage::Working;
        let part = self.part(child);
        let Some(process) = self.processes.get_mut(&child) else { return self.stale += 1 };
        if !process.kill(is_restarted) {
            return;
        }
        process.cause = Some(reason.clone());
        actions.push(Action::Kill(child));
        actions.push(Action::Tell(if is_missing {
            Report::ProcessMissing { part, reason: reason.clone() }
        } else {
            Report::ProcessStuck { part, reason: reason.clone() }
        }));
        if !is_restarted {
            self.lost(now_ms, child, Loss { end: None, cause: Some(reason), tick: None }, actions);
        }
    }

    fn kill(&mut self, child: Child, actions: &mut Vec<Action>) -> bool {
        let is_news = self.processes.get_mut(&child).is_some_and(|process| process.kill(false));
        if is_news {
            actions.push(Action::Kill(child));
        }
        is_news
    }

    /// What the loss of a process means for the rest. It has been told already.
    fn lost(&mut self, now_ms: u64, child: Child, loss: Loss, actions: &mut Vec<Action>) {
        let is_restarted = self.is_live() && self.stage == Stage::Working;
        match child {
            Child::Worker(generation) if generation != self.worker_generation => {}
            Child::Device(generation) if generation != self.device_generation => {}
            Child::Worker(_) if is_restarted => self.worker_lost(now_ms, actions),
            Child::Worker(_) => self.worker_gone(now_ms, actions),
            Child::Device(_) if is_restarted => self.device_lost(now_ms, actions),
            Child::Device(_) => {
                self.verdict = self.verdict.max(Verdict::Environment);
                self.stop(now_ms, actions);
            }
            Child::Host(host) => self.host_lost(now_ms, host, loss, actions),
        }
    }

    /// Nothing can be compiled any more.
    fn worker_gone(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
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
            // A session that cannot compile any more is over.
            Goal::Play { .. } | Goal::Serve | Goal::Bounce | Goal::Replay { .. } => self.stop(now_ms, actions),
            Goal::Check | Goal::Compile | Goal::Run | Goal::ListDevices => {}
        }
    }

    /// Whose fault the loss of a host is. A program can only be blamed if the host had it, and can get its host stuck or
    /// killed by a signal; a host that exits, or aborts in a panic, has found something missing itself.
    fn blame(&self, runtime: RuntimeIndex, end: Option<ProcessEnd>) -> Verdict {
        const ABORT: i32 = nix::sys::signal::Signal::SIGABRT as i32;
        let had_program = self.programs.get(runtime.0).is_some_and(|program| match program.phase {
            Phase::Starting { .. } | Phase::Running | Phase::Held | Phase::Done | Phase::Failed => true,
            Phase::Recovering { .. } | Phase::Quarantined => true,
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => false,
        });
        match end {
            Some(ProcessEnd::Exited(_) | ProcessEnd::Killed(ABORT)) => Verdict::Environment,
            Some(ProcessEnd::Killed(_)) | None if had_program => Verdict::Program,
            Some(ProcessEnd::Killed(_)) | None => Verdict::Environment,
        }
    }
}
