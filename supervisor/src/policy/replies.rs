//! What the children's messages change. Part of the state machine: see the parent module.

use ipc::limits::BLOCK_FRAMES;
use ipc::message::{CompileOutcome, CompileTimings, DeviceReply, DeviceStatus, HostReply, HostStatus, Refusal, WorkerReply};

use super::program::{Lane, Phase};
use super::{Action, Device, Failure, Goal, Policy, Report, RuntimeIndex, Stage, Target, Verdict, looking};

impl Policy {
    pub(super) fn worker_said(&mut self, reply: WorkerReply, actions: &mut Vec<Action>) {
        let WorkerReply::Compiled { id, outcome, timings } = reply;
        let compiling = self.compiling.filter(|compiling| compiling.request == id);
        let Some(compiling) = compiling else {
            // Nobody waits for it any more.
            return match outcome {
                CompileOutcome::Artifact(artifact) => actions.push(Action::Release { segment: artifact.name }),
                CompileOutcome::Checked | CompileOutcome::Rejected(_) | CompileOutcome::Failed(_) => {}
            };
        };
        self.compiling = None;
        match compiling.target {
            Target::Program(runtime) => self.compiled(runtime, outcome, timings, actions),
            Target::Script => self.script_compiled(outcome, actions),
            Target::Edit(change) => self.edit_compiled(change, outcome, timings, actions),
        }
    }

    fn compiled(&mut self, runtime: RuntimeIndex, outcome: CompileOutcome, timings: CompileTimings, actions: &mut Vec<Action>) {
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        match outcome {
            CompileOutcome::Checked if program.phase == Phase::Compiling => {
                program.phase = Phase::Done;
                actions.push(Action::Tell(Report::Checked { runtime }));
            }
            CompileOutcome::Checked => {}
            CompileOutcome::Artifact(artifact) if program.phase == Phase::Compiling => {
                let is_settled = program.settings.is_some();
                program.phase = Phase::Inspecting { artifact: artifact.clone() };
                actions.push(Action::Tell(Report::Compiled { runtime, timings }));
                actions.push(Action::Inspect { runtime, artifact, is_settled });
            }
            // The program's host has died meanwhile.
            CompileOutcome::Artifact(artifact) => actions.push(Action::Release { segment: artifact.name }),
            CompileOutcome::Rejected(diagnostics) => {
                self.fail(runtime, Failure::Rejected(diagnostics), Verdict::Program, actions);
            }
            CompileOutcome::Failed(reason) => self.fail(runtime, Failure::NotCompiled(reason), Verdict::Environment, actions),
        }
    }

    pub(super) fn host_said(&mut self, now_ms: u64, runtime: RuntimeIndex, reply: HostReply, actions: &mut Vec<Action>) {
        if runtime.0 >= self.programs.len() {
            return;
        }
        match reply {
            // Where it may have to be loaded once more, it keeps its name until the program's keep lets go of it.
            HostReply::Loaded { .. } if self.is_live() => {}
            HostReply::Loaded { segment } => actions.push(Action::Release { segment }),
            HostReply::Started { .. } => self.started(now_ms, runtime, actions),
            HostReply::Refused { segment, reason } => self.refused(runtime, segment, reason, actions),
            HostReply::Status(status) => self.host_status(runtime, status, actions),
            HostReply::Faulted { runtime: _, fault, held } => {
                let is_relieved = self.hand_back(runtime, &fault, actions);
                if held && !is_relieved {
                    self.hold(runtime);
                    self.note_hold(runtime, &fault);
                }
                actions.push(Action::Tell(Report::Fault { runtime, fault, is_held: held }));
            }
            HostReply::Log { runtime: _, line } => actions.push(Action::Tell(Report::Log { runtime, line })),
            HostReply::RunCaptured(bytes) => actions.push(Action::Tell(Report::Captured(bytes))),
            HostReply::RunMemory { memory, offset, bytes } => actions.push(Action::Tell(Report::Memory { memory, offset, bytes })),
            HostReply::RunDone { dumps } => self.run_done(runtime, dumps, actions),
            HostReply::RunFailed { fault } => self.fail(runtime, Failure::Fault(fault), Verdict::Program, actions),
            HostReply::Live(reply) if self.script.is_some() => self.script_said(&reply, actions),
            HostReply::Live(reply) => self.live_said(now_ms, runtime, reply, actions),
            HostReply::Wired { first, values, to_tick } => self.wires_said(runtime, first, &values, to_tick, actions),
            HostReply::TookOver(took) => self.took_over(now_ms, runtime, took, actions),
            // Heard before the session goes on.
            HostReply::Present(_) => {}
            HostReply::Prepared { .. } => {}
            HostReply::Stopped => self.host_stopped(now_ms, runtime, actions),
        }
    }

    fn started(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let frames = self.frames;
        let has_audio = self.programs.iter().any(|program| program.lane != Lane::None);
        let program = &mut self.programs[runtime.0];
        match program.phase {
            Phase::Starting { .. } => {
                program.phase = Phase::Running;
                actions.push(Action::Tell(Report::RuntimeStarted { runtime }));
                if !has_audio {
                    self.first_frame.get_or_insert(frames);
                }
                self.settled(runtime);
                self.slot_started(now_ms, runtime, actions);
            }
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => {}
            Phase::Running | Phase::Held | Phase::Done | Phase::Failed => {}
            Phase::Recovering { .. } | Phase::Quarantined => {}
        }
    }

    fn refused(&mut self, runtime: RuntimeIndex, segment: String, reason: Refusal, actions: &mut Vec<Action>) {
        if matches!(self.programs[runtime.0].phase, Phase::Recovering { deadline_ms: Some(_) }) {
            return self.takeover_refused(runtime, reason.message, actions);
        }
        if segment.is_empty() {
            // It is not about a program: the host cannot do its work at all.
            return self.fail(runtime, Failure::Refused(reason), Verdict::Environment, actions);
        }
        match &self.programs[runtime.0].phase {
            Phase::Starting { artifact, .. } if artifact.name == segment => {
                actions.push(Action::Release { segment: segment.clone() });
                let released = self.programs[runtime.0].keep.end().into_iter().filter(|name| *name != segment);
                actions.extend(released.map(|segment| Action::Release { segment }));
                if reason.is_damaged {
                    self.compile_again(runtime, reason.message, actions);
                } else {
                    let verdict = if reason.is_machine { Verdict::Environment } else { Verdict::Program };
                    self.fail(runtime, Failure::Refused(reason), verdict, actions);
                }
            }
            Phase::Starting { .. } | Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => {}
            Phase::Running | Phase::Held | Phase::Done | Phase::Failed => {}
            Phase::Recovering { .. } | Phase::Quarantined => {}
        }
    }

    fn host_status(&mut self, runtime: RuntimeIndex, status: HostStatus, actions: &mut Vec<Action>) {
        if status.is_held {
            self.hold(runtime);
        }
        self.programs[runtime.0].ticks = self.programs[runtime.0].ticks.max(status.ticks);
        if let Some(index) = self.programs[runtime.0].runtime.filter(|index| self.runtimes[*index].slot == Some(runtime)) {
            self.runtimes[index].status = status.clone();
            self.look_at_first_trial(index, status.ticks, status.is_held, actions);
        }
        let lost_ticks = status.lost_ticks;
        actions.push(Action::Tell(Report::HostStatus { runtime, status }));
        self.measure_lost_ticks(runtime, lost_ticks, actions);
    }

    /// Why a runtime is held, for those who ask.
    fn note_hold(&mut self, slot: RuntimeIndex, fault: &ipc::fault::Fault) {
        let revision = self.programs[slot.0].revision.as_ref().map(|revision| revision.hash().into());
        if let Some(runtime) = self.programs[slot.0].runtime.filter(|runtime| self.runtimes[*runtime].slot == Some(slot)) {
            self.runtimes[runtime].cause = Some(looking::cause(fault.kind.explanation().to_owned(), revision, Some(fault)));
        }
    }

    fn hold(&mut self, runtime: RuntimeIndex) {
        let program = &mut self.programs[runtime.0];
        match program.phase {
            Phase::Running => {
                program.phase = Phase::Held;
                self.verdict = self.verdict.max(Verdict::Program);
            }
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Starting { .. } => {}
            Phase::Held | Phase::Done | Phase::Failed => {}
            Phase::Recovering { .. } | Phase::Quarantined => {}
        }
    }

    fn run_done(&mut self, runtime: RuntimeIndex, dumps: Vec<ipc::message::ItemValue>, actions: &mut Vec<Action>) {
        let program = &mut self.programs[runtime.0];
        match program.phase {
            Phase::Starting { .. } if self.goal == Goal::Run => {
                program.phase = Phase::Done;
                actions.push(Action::Tell(Report::RunDone { dumps }));
            }
            Phase::Starting { .. } | Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } => {}
            Phase::Running | Phase::Held | Phase::Done | Phase::Failed => {}
            Phase::Recovering { .. } | Phase::Quarantined => {}
        }
    }

    fn host_stopped(&mut self, now_ms: u64, runtime: RuntimeIndex, actions: &mut Vec<Action>) {
        let program = &mut self.programs[runtime.0];
        if !program.is_stop_sent {
            return;
        }
        if !program.phase.is_over() {
            program.phase = Phase::Done;
            actions.push(Action::Tell(Report::RuntimeStopped { runtime }));
            let released = program.end().into_iter();
            actions.extend(released.map(|segment| Action::Release { segment }));
            self.slot_over(runtime, None, actions);
        }
        if let Some(host) = self.host(runtime) {
            self.close(now_ms, host, actions);
        }
    }

    pub(super) fn device_said(&mut self, now_ms: u64, reply: DeviceReply, actions: &mut Vec<Action>) {
        match reply {
            DeviceReply::Opened { device, sample_rate, period_frames, channels } => {
                self.device_opened();
                self.device_name = Some((device.clone(), sample_rate, period_frames));
                self.device_channels = Some(channels);
                actions.push(Action::Tell(Report::DeviceOpened { device, sample_rate, period_frames }));
                self.tell_unheard(actions);
            }
            DeviceReply::Failed { reason } => {
                actions.push(Action::Tell(Report::DeviceFailed { reason }));
                self.verdict = self.verdict.max(Verdict::Environment);
                self.device = Device::Stopped;
                self.stop(now_ms, actions);
            }
            DeviceReply::Moved { device, reason, channels } => {
                self.device_channels = Some(channels);
                if let Some((name, ..)) = &mut self.device_name {
                    name.clone_from(&device);
                }
                actions.push(Action::Tell(Report::Moved { device, reason }));
                self.tell_unheard(actions);
            }
            DeviceReply::LaneMapped { runtime } => {
                if let Some(runtime) = self.named(&runtime) {
                    self.programs[runtime.0].is_lane_mapped = true;
                }
            }
            DeviceReply::LaneRefused { runtime, reason } => {
                if let Some(runtime) = self.named(&runtime) {
                    self.programs[runtime.0].is_lane_added = false;
                    self.fail(runtime, Failure::NoLane { reason }, Verdict::Environment, actions);
                }
            }
            DeviceReply::LaneRemoved { runtime } => {
                if let Some(slot) = self.named(&runtime) {
                    self.programs[slot.0].is_lane_added = false;
                    self.stop_retiring(slot, actions);
                }
            }
            DeviceReply::LaneStarted { runtime, block } => {
                if let Some(runtime) = self.named(&runtime) {
                    self.first_frame.get_or_insert(block.saturating_mul(BLOCK_FRAMES as u64));
                    self.note_origin(runtime, block);
                    actions.push(Action::Tell(Report::Sounding { runtime, block }));
                    self.take_over(now_ms, runtime, actions);
                }
            }
            DeviceReply::Status(status) => self.device_status(now_ms, status, actions),
            DeviceReply::Midi(arrived) => self.midi_arrived(&arrived, actions),
            DeviceReply::MidiFilesBegin { frame } => self.midi_files_begin(frame),
            DeviceReply::MidiHeld(ends) => self.midi_held(ends),
            DeviceReply::MidiPort(change) => self.midi_port_changed(change, actions),
            DeviceReply::MidiUnavailable { reason } => self.midi_unavailable(reason, actions),
            DeviceReply::Tempo(tempo) => self.clock_said(tempo, actions),
            DeviceReply::ClockLost => self.clock_lost(actions),
            DeviceReply::RecordingFailed { .. } => {
                self.tape_said(reply, actions);
                if self.goal == Goal::Bounce {
                    self.stop(now_ms, actions); // Without its file a bounce is for nothing.
                }
            }
            DeviceReply::TapeBegun { .. } | DeviceReply::TapeRefused { .. } | DeviceReply::TapeEnded { .. } => {
                self.tape_said(reply, actions);
            }
            DeviceReply::Devices(devices) => {
                actions.push(Action::Tell(Report::Devices(devices)));
                self.device = Device::Stopped;
                self.stop(now_ms, actions);
            }
            DeviceReply::Stopped { frames } => {
                self.device = Device::Stopped;
                actions.push(Action::Tell(Report::DeviceStopped { frames }));
                self.stop(now_ms, actions);
            }
        }
    }

    fn device_opened(&mut self) {
        match self.device {
            Device::Opening { .. } => self.device = Device::Open,
            Device::Closed | Device::Open | Device::Stopping | Device::Stopped => {}
        }
    }

    fn device_status(&mut self, now_ms: u64, mut status: DeviceStatus, actions: &mut Vec<Action>) {
        self.frames = self.frames.max(status.frames);
        self.frames_at_ms = now_ms;
        self.device_restarts.is_ready();
        self.device_silent_ms = 0;
        self.device_xruns = status.device_xruns;
        self.device_peak = status.peak;
        self.note_midi_counters(status.midi);
        self.routes.input = status.input.clone();
        self.routes.bus_latency_blocks = status.bus_latency_blocks;
        for lane in &mut status.lanes {
            let Some(slot) = self.named(&lane.runtime) else { continue };
            lane.runtime.clone_from(&self.programs[slot.0].name);
            lane.underruns = self.programs[slot.0].underruns.told(lane.underruns);
            if let Some(runtime) = self.programs[slot.0].runtime.filter(|runtime| self.runtimes[*runtime].slot == Some(slot)) {
                self.runtimes[runtime].lane = lane.clone();
            }
        }
        actions.push(Action::Tell(Report::DeviceStatus(status)));
        self.measure_gaps(now_ms, actions);
        let (Goal::Play { seconds: Some(seconds) }, Some((rate, _)), Some(first)) = (self.goal, &self.sample_rate, self.first_frame) else {
            return;
        };
        let frames = (seconds * f64::from(*rate)).ceil() as u64;
        if self.stage == Stage::Working && self.frames >= first.saturating_add(frames) {
            self.stop(now_ms, actions);
        }
    }

    fn named(&self, name: &str) -> Option<RuntimeIndex> {
        self.programs.iter().position(|program| program.lane_name == name).map(RuntimeIndex)
    }
}
