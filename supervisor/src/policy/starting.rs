//! How programs come to sound: whatever has become possible is started. Part of the state machine: see the parent module.
//!
//! Looks at the state only, never at the event that changed it, so the order in which answers come in does not matter.

use std::sync::Arc;

use ipc::limits::DEFAULT_SAMPLE_RATE_HZ;
use ipc::segment::SegmentRef;

use super::program::{COMPILE_ATTEMPTS, Lane, Phase, Program};
use super::runtime::Revision;
use super::{Action, Child, Compiling, Device, Failure, Goal, Inspection, Policy, Report, RuntimeIndex, Stage, Target, Verdict, deadlines};

impl Policy {
    /// Starts whatever has become possible.
    pub(super) fn advance(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::Working => {}
            Stage::NotBegun | Stage::Stopping { .. } | Stage::Killing { .. } | Stage::Over => return,
        }
        // First of all: somebody may be about to miss a block.
        self.advance_recovery(now_ms, actions);
        self.advance_parts(now_ms, actions);
        self.advance_looks(now_ms, actions);
        self.compile_next(now_ms, actions);
        self.compile_next_edit(now_ms, actions);
        self.advance_edits(now_ms, actions);
        self.advance_mix(actions);
        self.advance_bounce(actions);
        self.advance_script(now_ms, actions);
        self.settle_sample_rate();
        self.open_device(now_ms, actions);
        self.connect_buses(actions);
        for runtime in (0..self.programs.len()).map(RuntimeIndex) {
            self.start_program(now_ms, runtime, actions);
            let is_over = self.programs[runtime.0].phase.is_over() && (self.is_live() || self.programs[runtime.0].phase == Phase::Failed);
            if (is_over || self.programs[runtime.0].phase == Phase::Quarantined)
                && let Some(host) = self.host(runtime)
            {
                self.close(now_ms, host, actions);
            }
        }
        // What has come to its end meanwhile is heard by nobody.
        self.connect_buses(actions);
        self.begin_rendering(actions);
        (0..self.programs.len()).for_each(|slot| self.map_output(RuntimeIndex(slot), actions));
        self.advance_midi(actions);
        self.advance_tempo(now_ms, actions);
        self.advance_wires(actions);
        self.advance_spare(now_ms, actions);
    }

    /// One compile at a time, so that each has the whole of its deadline and a dead worker fails one program for its fault.
    fn compile_next(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let Some(index) = self.programs.iter().position(|program| program.phase == Phase::Queued) else { return };
        let runtime = RuntimeIndex(index);
        if !self.process(self.worker()).is_usable() && !self.is_live() {
            self.fail(runtime, Failure::NoWorker, Verdict::Environment, actions);
            return self.compile_next(now_ms, actions);
        }
        if self.compiling.is_some() || !self.process(self.worker()).is_joined() {
            return;
        }
        self.last_request += 1;
        self.compiling =
            Some(Compiling { target: Target::Program(runtime), request: self.last_request, deadline_ms: now_ms + deadlines::COMPILE_MS });
        let program = &mut self.programs[index];
        program.phase = Phase::Compiling;
        let settings = program.settings.clone();
        actions.push(Action::Compile { runtime, request: self.last_request, settings });
    }

    /// The first program (in the order of the command line) that delivers blocks settles the session's sample rate, once no
    /// program before it can still do so. A bounce waits for all of them: it makes a file of all programs or none.
    fn settle_sample_rate(&mut self) {
        let plays = match self.goal {
            Goal::Play { .. } | Goal::Serve | Goal::Bounce | Goal::Replay { .. } => true,
            Goal::Check | Goal::Compile | Goal::Run | Goal::ListDevices => false,
        };
        let is_unready = |program: &Program| program.phase.is_compiling() || program.phase == Phase::Failed;
        if !plays || self.sample_rate.is_some() || (self.goal == Goal::Bounce && self.programs.iter().any(is_unready)) {
            return;
        }
        for program in &self.programs {
            if program.phase.is_compiling() {
                return;
            }
            if let Phase::Ready { plan: Some(plan), .. } = &program.phase
                && plan.has_sound()
            {
                self.sample_rate = Some((plan.sample_rate, Some(program.name.clone())));
                return;
            }
        }
        if self.goal == Goal::Serve || self.programs.iter().any(|program| !program.phase.is_over()) {
            self.sample_rate = Some((DEFAULT_SAMPLE_RATE_HZ, None));
        }
    }

    fn open_device(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.device != Device::Closed || !self.process(self.device()).is_joined() {
            return;
        }
        if self.goal == Goal::ListDevices {
            actions.push(Action::ListDevices);
        } else if let Some((sample_rate, _)) = self.sample_rate {
            let first_frame = self.session_frames(now_ms);
            let tape = self.tape_to_open();
            actions.push(Action::OpenDevice { sample_rate, first_frame, channels: self.wanted_channels(), tape });
        } else {
            return;
        }
        self.device = Device::Opening { deadline_ms: now_ms + deadlines::OPEN_DEVICE_MS };
    }

    fn start_program(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &self.programs[runtime.0];
        let Phase::Ready { artifact, plan } = program.phase.clone() else { return };
        let joined = program.host.filter(|host| self.process(Child::Host(*host)).is_joined());
        let Some(plan) = plan else {
            if let Some(host) = joined {
                self.programs[runtime.0].phase = Phase::Starting { artifact: artifact.clone(), deadline_ms: None };
                actions.push(Action::RunProgram { runtime, host, artifact });
            }
            return;
        };
        let Some((session_rate, settled_by)) = self.sample_rate.clone() else { return };
        if plan.has_sound() && plan.sample_rate != session_rate {
            let message = other_rate(plan.sample_rate, session_rate, settled_by.as_deref());
            return self.fail(runtime, Failure::Unplayable { message, line: None }, Verdict::Program, actions);
        }
        let lane = match (plan.has_lane, program.lane.clone()) {
            (false, Lane::None | Lane::Asked | Lane::Created(_) | Lane::Gone) => None,
            (true, Lane::None) => {
                self.programs[runtime.0].lane = Lane::Asked;
                return actions.push(Action::CreateLane(runtime));
            }
            (true, Lane::Asked | Lane::Gone) => return,
            (true, Lane::Created(lane)) => Some(lane),
        };
        self.add_lane(runtime, lane.as_ref(), actions);
        if let Some(host) = joined {
            let deadline_ms = Some(now_ms + deadlines::START_RUNTIME_MS);
            let is_protected = self.is_live();
            let base_directory = self.texts[runtime.0].base_directory.clone();
            let program = &mut self.programs[runtime.0];
            program.phase = Phase::Starting { artifact: artifact.clone(), deadline_ms };
            if is_protected {
                let released = program.keep.end().into_iter().filter(|segment| *segment != artifact.name);
                actions.extend(released.map(|segment| Action::Release { segment }));
                program.keep.start(plan.content.manifest.revision, artifact.clone(), base_directory);
            }
            actions.push(Action::StartRuntime { runtime, host, artifact, plan, lane, is_protected });
        }
    }

    fn add_lane(&mut self, runtime: RuntimeIndex, lane: Option<&SegmentRef>, actions: &mut Vec<Action>) {
        let is_device_told = match self.device {
            Device::Opening { .. } | Device::Open => true,
            Device::Closed | Device::Stopping | Device::Stopped => false,
        };
        let program = &mut self.programs[runtime.0];
        if let Some(lane) = lane
            && is_device_told
            && !program.is_lane_added
            && !program.is_retiring
        {
            program.is_lane_added = true;
            let resumes = std::mem::replace(&mut program.was_lane_added, true);
            actions.push(Action::AddLane { runtime, lane: lane.clone(), resumes });
            self.set_gain(runtime, 0, actions);
            self.map_output(runtime, actions);
        }
    }

    fn begin_rendering(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.programs.len() {
            // A runtime may have been started before the device could be told of its lane.
            if let Lane::Created(lane) = self.programs[index].lane.clone()
                && !self.programs[index].phase.is_over()
                && self.programs[index].phase != Phase::Quarantined
            {
                self.add_lane(RuntimeIndex(index), Some(&lane), actions);
            }
        }
        // Programs of one command start together. A wrong one ends a bounce; in a play the others do not wait for it.
        // After the death of a device host what played before goes on in step, and waits for nothing that has yet to begin.
        let is_bounce = self.goal == Goal::Bounce;
        let is_restart = self.device_generation > 1;
        let is_ready = |program: &Program| match program.phase {
            Phase::Running | Phase::Held => program.is_lane_mapped || !program.has_lane(),
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Starting { .. } => is_restart,
            Phase::Recovering { .. } | Phase::Quarantined => true,
            Phase::Done | Phase::Failed => !is_bounce,
        };
        if self.device == Device::Open && self.begun_device != self.device_generation && self.programs.iter().all(is_ready) {
            self.begun_device = self.device_generation;
            actions.push(Action::BeginRendering);
        }
    }

    pub(super) fn inspected(&mut self, runtime: RuntimeIndex, inspection: Inspection, actions: &mut Vec<Action>) {
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        let Phase::Inspecting { artifact } = program.phase.clone() else { return };
        let release = Action::Release { segment: artifact.name.clone() };
        match inspection {
            Inspection::Playable(plan) => {
                let lines = plan.log.iter().cloned();
                actions.extend(lines.map(|line| Action::Tell(Report::Log { runtime, line })));
                if self.goal == Goal::Bounce && !plan.has_sound() {
                    let message = format!("a bounce renders audio; this program runs under the runtime type `{}`", plan.runtime_type);
                    actions.push(release);
                    return self.fail(runtime, Failure::Unplayable { message, line: None }, Verdict::Program, actions);
                }
                let text = self.texts[runtime.0].clone();
                program.revision =
                    Some(Arc::new(Revision { text, settings: program.settings.clone(), plan: plan.clone(), previous: None }));
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
    pub(super) fn compile_again(&mut self, runtime: RuntimeIndex, reason: String, actions: &mut Vec<Action>) {
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
}

/// Why a program cannot join a session of another sample rate.
pub(super) fn other_rate(asked: u32, session: u32, settled_by: Option<&str>) -> String {
    let by = settled_by.map(|name| format!(", as \"{name}\" asks for")).unwrap_or_default();
    format!(
        "it asks for {asked} Hz (audioRuntime.sampleRate), but this session's output runs at {session} Hz{by}, and lanes are not resampled; \
         set it to {session}, or end the session and play everything at {asked} Hz"
    )
}
