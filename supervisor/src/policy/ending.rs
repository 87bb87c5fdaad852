//! How a session ends: by itself, by a signal, by a missed deadline. Part of the state machine: see the parent module.
//!
//! The order: the device host fades out while the hosts still deliver, and completes its tape; then the runtimes are
//! stopped; then the channels are closed, upon which each child ends itself. Whoever is left at the deadline is killed.

use super::process::Life;
use super::program::Phase;
use super::{Action, Child, Device, Failure, Goal, Policy, Report, RuntimeIndex, Stage, Verdict, deadlines};

impl Policy {
    /// Begins to end the session, unless that has begun.
    pub(super) fn stop(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::NotBegun | Stage::Working => {
                self.stage = Stage::Stopping { deadline_ms: now_ms + deadlines::STOP_MS };
                self.release_everything(actions);
                self.release_tape(actions);
                actions.push(Action::Tell(Report::Stopping));
            }
            Stage::Stopping { .. } | Stage::Killing { .. } | Stage::Over => {}
        }
    }

    pub(super) fn signalled(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.signals += 1;
        match (self.stage, self.signals) {
            (Stage::NotBegun | Stage::Working, _) => {
                match self.goal {
                    // A performer ends a performance this way: nothing is left undone.
                    Goal::Play { .. } | Goal::Serve => {}
                    Goal::Check | Goal::Compile | Goal::Run | Goal::Bounce | Goal::Replay { .. } | Goal::ListDevices => {
                        self.verdict = self.verdict.max(Verdict::Interrupted);
                    }
                }
                self.stop(now_ms, actions);
            }
            (Stage::Stopping { .. }, 0 | 1) | (Stage::Killing { .. } | Stage::Over, _) => {}
            (Stage::Stopping { .. }, _) => {
                self.verdict = self.verdict.max(Verdict::Interrupted);
                self.kill_all(now_ms, actions);
            }
        }
    }

    /// Decides whether the session has done its work, and carries its end on.
    pub(super) fn conclude(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.stage == Stage::Working && self.is_work_over() {
            self.stop(now_ms, actions);
        }
        match self.stage {
            Stage::NotBegun | Stage::Working | Stage::Over => return,
            Stage::Stopping { .. } => self.carry_stop_on(now_ms, actions),
            Stage::Killing { .. } => {}
        }
        if self.processes.values().all(super::Process::is_gone) {
            self.finish(actions);
        }
    }

    fn is_work_over(&self) -> bool {
        match self.goal {
            Goal::Check | Goal::Compile | Goal::Run | Goal::Replay { .. } => self.programs.iter().all(|program| program.phase.is_over()),
            // An edit that is on its way may start what has failed.
            Goal::Play { .. } => self.programs.iter().all(|program| program.phase.is_over()) && !self.has_edits(),
            // A bounce with a program missing is not what was asked for; it ends well when the device host says `Stopped`.
            Goal::Bounce => self.programs.iter().any(|program| program.phase.is_over()),
            Goal::ListDevices | Goal::Serve => false,
        }
    }

    fn has_edits(&self) -> bool {
        self.runtimes.iter().any(|runtime| !runtime.incoming.is_empty() || runtime.flight.is_some())
    }

    fn finish(&mut self, actions: &mut Vec<Action>) {
        self.stage = Stage::Over;
        actions.push(Action::Finish(self.verdict));
    }

    fn carry_stop_on(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.stop_device(now_ms, actions);
        if self.compiling.take().is_some() {
            self.kill(self.worker(), actions); // It cannot be interrupted, and has nothing to lose.
        }
        self.close(now_ms, self.worker(), actions);
        if let Some(spare) = self.spare() {
            self.close(now_ms, Child::Host(spare), actions);
        }
        if !self.process(self.device()).is_joined() {
            for index in 0..self.programs.len() {
                self.stop_host(now_ms, RuntimeIndex(index), actions);
            }
        }
    }

    fn stop_device(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let is_joined = self.process(self.device()).is_joined();
        match (self.device, is_joined) {
            (Device::Opening { .. } | Device::Open, true) => {
                self.device = Device::Stopping;
                actions.push(Action::StopDevice);
            }
            (Device::Stopping, true) => {}
            (Device::Closed | Device::Stopped, _) | (Device::Opening { .. } | Device::Open | Device::Stopping, false) => {
                self.close(now_ms, self.device(), actions);
            }
        }
    }

    fn stop_host(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let Some(index) = self.programs[runtime.0].host else { return };
        let host = Child::Host(index);
        if !self.process(host).is_joined() {
            return self.close(now_ms, host, actions);
        }
        let goal = self.goal;
        let program = &mut self.programs[runtime.0];
        match program.phase {
            // In the middle of its cycles it listens to nobody, and has nothing to lose.
            Phase::Starting { .. } if goal == Goal::Run => {
                self.kill(host, actions);
            }
            Phase::Starting { .. } | Phase::Running | Phase::Held | Phase::Recovering { deadline_ms: Some(_) } => {
                if !program.is_stop_sent {
                    program.is_stop_sent = true;
                    actions.push(Action::StopRuntime(index));
                }
            }
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Done | Phase::Failed => {
                self.close(now_ms, host, actions);
            }
            Phase::Recovering { deadline_ms: None } | Phase::Quarantined => self.close(now_ms, host, actions),
        }
    }

    /// Lets go of a child: one that is connected ends itself, one that is still starting is killed.
    pub(super) fn close(&mut self, now_ms: u64, child: Child, actions: &mut Vec<Action>) {
        match self.process(child).life {
            Life::Joined => {
                if let Some(process) = self.processes.get_mut(&child) {
                    process.close(now_ms, true);
                }
                actions.push(Action::Close(child));
            }
            Life::Starting { .. } => {
                self.kill(child, actions);
            }
            Life::Absent | Life::Closing { .. } | Life::Killed { .. } | Life::Dead => {}
        }
    }

    fn kill_all(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.stage = Stage::Killing { deadline_ms: now_ms + deadlines::KILL_MS };
        let children: Vec<Child> = self.processes.keys().copied().collect();
        for child in children {
            self.kill(child, actions);
        }
    }

    /// Acts on every deadline that has passed.
    pub(super) fn check_deadlines(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        self.check_stage(now_ms, actions);
        self.check_processes(now_ms, actions);
        if let Some(compiling) = self.compiling.filter(|compiling| compiling.deadline_ms <= now_ms) {
            self.compiling = None;
            self.compile_overdue(now_ms, compiling.target, actions);
        }
        if matches!(self.device, Device::Opening { deadline_ms } if deadline_ms <= now_ms) {
            self.device = Device::Stopped;
            let reason = format!("it has not opened its device within {} s", deadlines::OPEN_DEVICE_MS / 1000);
            self.stuck(now_ms, self.device(), reason, actions);
        }
        for index in 0..self.programs.len() {
            if matches!(self.programs[index].phase, Phase::Starting { deadline_ms: Some(deadline_ms), .. } if deadline_ms <= now_ms) {
                self.fail(RuntimeIndex(index), Failure::StartTooLong, Verdict::Program, actions);
                if let Some(host) = self.host(RuntimeIndex(index)) {
                    self.kill(host, actions);
                }
            }
            if matches!(self.programs[index].phase, Phase::Recovering { deadline_ms: Some(deadline_ms) } if deadline_ms <= now_ms)
                && let Some(host) = self.host(RuntimeIndex(index))
            {
                self.programs[index].phase = Phase::Recovering { deadline_ms: None };
                let reason = "it was told to take a runtime over and has not done so in time".to_owned();
                self.stuck(now_ms, host, reason, actions);
            }
        }
    }

    fn check_stage(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::Stopping { deadline_ms } if deadline_ms <= now_ms => {
                let late: Vec<Child> = self.processes.iter().filter(|(_, process)| !process.is_gone()).map(|(child, _)| *child).collect();
                for child in late {
                    let reason = format!("it has not ended within {} ms", deadlines::STOP_MS);
                    actions.push(Action::Tell(Report::ProcessStuck { part: self.part(child), reason }));
                }
                self.verdict = self.verdict.max(Verdict::Environment);
                self.kill_all(now_ms, actions);
            }
            Stage::Killing { deadline_ms } if deadline_ms <= now_ms => {
                self.verdict = self.verdict.max(Verdict::Environment);
                self.finish(actions);
            }
            Stage::Stopping { .. } | Stage::Killing { .. } | Stage::NotBegun | Stage::Working | Stage::Over => {}
        }
    }

    fn check_processes(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let late: Vec<(Child, Life)> = self
            .processes
            .iter()
            .filter(|(_, process)| process.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms))
            .map(|(child, process)| (*child, process.life))
            .collect();
        for (child, life) in late {
            match life {
                Life::Starting { .. } => {
                    let reason = format!("it has not connected within {} s", deadlines::JOIN_MS / 1000);
                    self.end_faulty(now_ms, child, reason, true, actions);
                }
                Life::Closing { .. } => self.stuck(now_ms, child, "it has closed its channel but does not end".to_owned(), actions),
                Life::Absent | Life::Joined | Life::Killed { .. } | Life::Dead => {}
            }
        }
    }
}
