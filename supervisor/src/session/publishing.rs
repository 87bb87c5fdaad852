//! Reports as events of the control protocol. Pure functions.

use std::path::PathBuf;

use ipc::midi::PortChange;

use crate::control::protocol::{Event, FaultEvent, LogLevel, LogLine, Meters, ProcessEvent, ProcessRole, RuntimeMeter, RuntimeName, Topic};
use crate::policy::{Failure, Part, Policy, ProcessEnd, Report, RuntimeIndex};
use crate::render::sentences::Sentences;

/// What the device host calls the output that plays to nobody.
const NULL_DEVICE: &str = "null";

/// The topic a report is told on, if it is told to subscribers at all. Log lines are told beside it.
pub fn topic(report: &Report) -> Option<Topic> {
    match report {
        Report::Change(_) => Some(Topic::Changes),
        Report::Fault { .. } => Some(Topic::Faults),
        Report::Control(_) => Some(Topic::Controls),
        Report::DeviceStatus(_) => Some(Topic::Meters),
        Report::ProcessStarted { .. } | Report::Died { .. } | Report::RuntimeStarted { .. } | Report::RuntimeStopped { .. } => {
            Some(Topic::Processes)
        }
        Report::Moved { .. } | Report::MidiPort(_) | Report::MidiClock { .. } | Report::MidiUnavailable { .. } => Some(Topic::Processes),
        Report::RecordingFailed { .. } | Report::Stopping => Some(Topic::Processes),
        Report::TapeBegun { .. } | Report::TapeEnded { .. } => Some(Topic::Processes),
        Report::HostReady { .. } | Report::Stalled { .. } | Report::Resumed { .. } => Some(Topic::Processes),
        Report::Quarantined { .. } | Report::Unprotected { .. } | Report::RolledBack { .. } => Some(Topic::Processes),
        Report::ProcessMissing { .. } | Report::ProcessStuck { .. } | Report::Compiled { .. } | Report::CompilingAgain { .. } => None,
        Report::Failed { .. } | Report::Checked { .. } | Report::Log { .. } | Report::Sounding { .. } | Report::HostStatus { .. } => None,
        Report::DeviceOpened { .. } | Report::DeviceFailed { .. } | Report::Devices(_) | Report::Captured(_) | Report::Memory { .. } => {
            None
        }
        Report::RunDone { .. } | Report::Edit { .. } | Report::DeviceStopped { .. } => None,
    }
}

/// The event of a report.
pub fn event(policy: &Policy, report: &Report) -> Option<Event> {
    let name = |runtime: RuntimeIndex| policy.texts().get(runtime.0).and_then(|text| RuntimeName::new(text.name.clone()).ok());
    let generation = |runtime: RuntimeIndex| policy.life(runtime).map_or(1, |(generation, _)| generation);
    Some(match report {
        Report::Change(change) => Event::Changes((**change).clone()),
        Report::Control(control) => Event::Controls((**control).clone()),
        Report::Fault { runtime, fault, is_held } => {
            let (generation, revision) = policy.life(*runtime)?;
            Event::Faults(FaultEvent {
                runtime: name(*runtime)?,
                generation,
                revision: revision.into(),
                fault: fault.into(),
                is_held: *is_held,
            })
        }
        Report::DeviceStatus(_) => Event::Meters(meters(policy, report)?),
        Report::ProcessStarted { part, pid } => Event::Processes(match part {
            Part::Worker => ProcessEvent::ProcessReady { role: ProcessRole::CompilerWorker, pid: *pid },
            Part::Device => ProcessEvent::ProcessReady { role: ProcessRole::DeviceHost, pid: *pid },
            Part::Spare => ProcessEvent::ProcessReady { role: ProcessRole::SpareHost, pid: *pid },
            // Ready when its runtime has started.
            Part::Host(_) => return None,
        }),
        Report::RuntimeStarted { runtime } => Event::Processes(ProcessEvent::HostReady {
            runtime: name(*runtime)?,
            generation: generation(*runtime),
            pid: policy.host(*runtime).map_or(0, |host| policy.pid(host)),
            restored_tick: None,
            replayed_ticks: 0,
            gap_blocks: policy.has_sound(*runtime).then_some(0),
            lost_ticks: (!policy.has_sound(*runtime)).then_some(0),
        }),
        Report::HostReady { runtime, took, pid, gap } => Event::Processes(ProcessEvent::HostReady {
            runtime: name(*runtime)?,
            generation: took.generation,
            pid: *pid,
            restored_tick: Some(took.restored_tick),
            replayed_ticks: took.replayed_ticks,
            gap_blocks: gap.blocks(),
            lost_ticks: gap.ticks(),
        }),
        Report::Stalled { runtime, stalled_ms } => Event::Processes(ProcessEvent::HostStalled {
            runtime: name(*runtime)?,
            generation: generation(*runtime),
            pid: policy.host(*runtime).map_or(0, |host| policy.pid(host)),
            stalled_ms: *stalled_ms,
        }),
        Report::Resumed { runtime, stalled_ms } => Event::Processes(ProcessEvent::HostResumed {
            runtime: name(*runtime)?,
            generation: generation(*runtime),
            stalled_ms: *stalled_ms,
        }),
        Report::Quarantined { runtime, cause } => {
            Event::Processes(ProcessEvent::RuntimeHeld { runtime: name(*runtime)?, generation: generation(*runtime), cause: cause.clone() })
        }
        Report::Unprotected { runtime, reason } => Event::Processes(ProcessEvent::RuntimeUnprotected {
            runtime: name(*runtime)?,
            generation: generation(*runtime),
            cause: reason.clone(),
        }),
        Report::RolledBack { runtime, from, to, cause, line } => Event::Processes(ProcessEvent::RolledBack {
            runtime: name(*runtime)?,
            generation: generation(*runtime),
            from: (*from).into(),
            to: (*to).into(),
            cause: cause.clone(),
            line: *line,
        }),
        Report::Died { part, pid, generation, end, cause } => {
            let (exit_status, signal) = match end {
                ProcessEnd::Exited(status) => (Some(*status), None),
                ProcessEnd::Killed(signal) => (None, Some(*signal)),
            };
            let (pid, cause) = (*pid, cause.clone().unwrap_or_else(|| end.to_string()));
            let died = |role, cause| ProcessEvent::ProcessDied { role, pid, signal, exit_status, cause };
            Event::Processes(match part {
                Part::Host(runtime) => {
                    ProcessEvent::HostDied { runtime: name(*runtime)?, generation: *generation, pid, signal, exit_status, cause }
                }
                Part::Worker => died(ProcessRole::CompilerWorker, cause),
                Part::Device => died(ProcessRole::DeviceHost, cause),
                Part::Spare => died(ProcessRole::SpareHost, cause),
            })
        }
        Report::RuntimeStopped { runtime } if policy.is_present(*runtime) => {
            Event::Processes(ProcessEvent::RuntimeStopped { runtime: name(*runtime)?, generation: generation(*runtime) })
        }
        Report::Moved { device, reason } => {
            Event::Processes(ProcessEvent::DeviceMoved { device: device.clone(), is_null: device == NULL_DEVICE, why: reason.clone() })
        }
        Report::MidiPort(PortChange { direction, port, name, is_there }) => {
            let (direction, port, name) = ((*direction).into(), *port, name.clone());
            Event::Processes(match is_there {
                true => ProcessEvent::MidiPortFound { direction, port, name },
                false => ProcessEvent::MidiPortLost { direction, port, name },
            })
        }
        Report::MidiClock { is_there: true, bpm } => Event::Processes(ProcessEvent::MidiClockFound { bpm: *bpm }),
        Report::MidiClock { is_there: false, bpm } => Event::Processes(ProcessEvent::MidiClockLost { bpm: *bpm }),
        Report::MidiUnavailable { reason } => Event::Processes(ProcessEvent::MidiUnavailable { why: reason.clone() }),
        Report::RecordingFailed { path, reason } => {
            let path = path.as_deref().or(policy.tape_name()).map(|path| path.display().to_string()).unwrap_or_default();
            Event::Processes(ProcessEvent::RecordingStopped { path, why: reason.clone() })
        }
        Report::TapeBegun { files, part, block, missed_frames } => Event::Processes(ProcessEvent::TapeStarted {
            master: shown(files.master.as_ref()),
            stems: shown(files.stems.as_ref()),
            part: *part,
            block: *block,
            missed_frames: *missed_frames,
        }),
        Report::TapeEnded { files, block, frames } => Event::Processes(ProcessEvent::TapeStopped {
            master: shown(files.master.as_ref()),
            stems: shown(files.stems.as_ref()),
            block: *block,
            frames: *frames,
        }),
        Report::Stopping => Event::Processes(ProcessEvent::ShuttingDown {}),
        _ => return None,
    })
}

fn shown(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

/// The same as a line for people, where there is one.
pub fn line(policy: &Policy, report: &Report) -> Option<Event> {
    let sentences = Sentences { programs: policy.texts(), has_colour: false, session: None };
    let line = sentences.of(report)?;
    let (level, runtime) = match report {
        Report::Log { runtime, .. } => (LogLevel::Info, Some(*runtime)),
        Report::Failed { runtime, failure: Failure::NoHost, .. } => (LogLevel::Error, Some(*runtime)),
        Report::Failed { runtime, .. } | Report::Fault { runtime, .. } => (LogLevel::Error, Some(*runtime)),
        _ if line.starts_with("error") => (LogLevel::Error, None),
        _ => (LogLevel::Info, None),
    };
    let edited = match report {
        Report::Edit { text, .. } => RuntimeName::new(text.name.clone()).ok(),
        _ => None,
    };
    let named = runtime.and_then(|runtime| policy.texts().get(runtime.0)).and_then(|text| RuntimeName::new(text.name.clone()).ok());
    Some(Event::Log(LogLine { level, runtime: named.or(edited), line }))
}

fn meters(policy: &Policy, report: &Report) -> Option<Meters> {
    let Report::DeviceStatus(status) = report else { return None };
    let runtimes = status.lanes.iter().filter_map(|lane| {
        Some(RuntimeMeter {
            runtime: RuntimeName::new(lane.runtime.clone()).ok()?,
            tick: policy.counters(&lane.runtime).map_or(0, |status| status.ticks),
            peak: lane.peak,
            load_permille: policy.counters(&lane.runtime).map_or(0, |status| status.load_permille),
            underruns: lane.underruns,
        })
    });
    Some(Meters { frames: status.frames, peak: status.peak, device_xruns: status.device_xruns, runtimes: runtimes.collect() })
}
