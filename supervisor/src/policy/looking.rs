//! What a session is doing, as clients see it. Part of the state machine: looks, and changes nothing.

use std::path::Path;

use ipc::manifest::Manifest;

use super::edits::runtime_name;
use super::hosts::Duty;
use super::program::Phase;
use super::runtime::{HistoryEntry, Runtime};
use super::{Child, Device, Policy, ProgramText};
use crate::control::protocol::{
    Cause, ChangeClass, ChangeId, ControlStatus, DeviceStatus, ErrorCode, ErrorReply, ProcessRole, ProcessStatus, RevisionEntry,
    RevisionList, RevisionName, RuntimeState, RuntimeStatus, SessionStatus,
};

/// Revisions that `list` names when it is not told how many.
const LISTED: u32 = 100;

/// From this load on a runtime needs more time than it has.
const LATE_PERMILLE: u32 = 1_000;

/// Similar names that an unknown item is answered with.
const SIMILAR: usize = 8;

impl Policy {
    pub(super) fn state_of(&self, runtime: usize) -> RuntimeState {
        let state = &self.runtimes[runtime];
        let Some(slot) = state.slot else {
            let is_coming = state.flight.is_some() || !state.incoming.is_empty();
            return if is_coming { RuntimeState::Starting } else { RuntimeState::Stopped };
        };
        match self.programs[slot.0].phase {
            Phase::Queued | Phase::Compiling | Phase::Inspecting { .. } | Phase::Ready { .. } | Phase::Starting { .. } => {
                RuntimeState::Starting
            }
            Phase::Recovering { .. } => RuntimeState::Recovering,
            Phase::Quarantined if state.flight.is_some() => RuntimeState::Starting,
            Phase::Quarantined => RuntimeState::Held,
            Phase::Running if state.is_frozen => RuntimeState::Frozen,
            Phase::Running if self.programs[slot.0].watch.is_stalled() => RuntimeState::Stuck,
            Phase::Running if self.programs[slot.0].has_lane() && self.device != Device::Open => RuntimeState::WaitingForDevice,
            Phase::Running if state.status.load_permille >= LATE_PERMILLE => RuntimeState::Late,
            Phase::Running => RuntimeState::Running,
            Phase::Held => RuntimeState::Held,
            Phase::Done | Phase::Failed if state.flight.is_some() => RuntimeState::Starting,
            Phase::Done | Phase::Failed => RuntimeState::Stopped,
        }
    }

    /// The session, or one runtime of it. What only the shell knows is filled in there.
    pub(super) fn session_status(&self, only: Option<usize>) -> SessionStatus {
        let is_wanted = |runtime: &usize| only.map_or_else(|| !self.runtimes[*runtime].is_vacant(), |only| only == *runtime);
        let wanted = (0..self.runtimes.len()).filter(is_wanted);
        SessionStatus {
            session: String::new(),
            pid: 0,
            build: String::new(),
            uptime_ms: 0,
            device: self.output(),
            midi: self.midi_status(),
            runtimes: wanted.map(|runtime| self.runtime_status(runtime)).collect(),
            processes: self.process_status(only),
            recording: None,
            tape: self.tape_status(),
            control: ControlStatus::default(),
            osc: None,
            wires: self.wire_statuses(),
        }
    }

    fn output(&self) -> Option<DeviceStatus> {
        let (name, sample_rate, period_frames) = self.device_name.clone()?;
        let is_null = name == "null";
        Some(DeviceStatus {
            name,
            is_null,
            sample_rate,
            period_frames,
            frames: self.frames,
            xruns: self.device_xruns,
            channels: self.device_channels.unwrap_or_default(),
            peak: self.device_peak,
        })
    }

    fn runtime_status(&self, runtime: usize) -> RuntimeStatus {
        let state = &self.runtimes[runtime];
        let host = state.slot.and_then(|slot| self.host(slot));
        let pid = host.map(|host| self.process(host).pid).filter(|pid| *pid != 0);
        RuntimeStatus {
            runtime: runtime_name(&state.name),
            runtime_type: state.current.as_ref().map(|current| current.plan.runtime_type.clone()).unwrap_or_default(),
            state: self.state_of(runtime),
            cause: self.cause_of(runtime),
            generation: state.generation,
            pid: pid.filter(|_| self.live_slot(runtime).is_some()),
            revision: state.current.as_ref().map(|current| current.hash().into()),
            waiting_change: state.waiting_change(),
            watching: state.watching.as_deref().map(Path::display).map(|path| path.to_string()),
            tick: state.status.ticks,
            load_permille: state.status.load_permille,
            underruns: state.lane.underruns,
            lost_ticks: state.status.lost_ticks,
            non_finite: state.status.non_finite,
            refused_growth: state.status.refused_growth,
            restarts: state.restarts.total,
            mix: self.mix_of(runtime),
            peak: state.lane.peak,
        }
    }

    /// Why a runtime is as it is.
    fn cause_of(&self, runtime: usize) -> Option<Cause> {
        let state = &self.runtimes[runtime];
        let program = state.slot.map(|slot| &self.programs[slot.0]);
        match self.state_of(runtime) {
            RuntimeState::Stuck => program.map(|program| {
                let message = format!("it has made no progress for {} ms although work is due", program.watch.stalled_ms());
                let revision = program.revision.as_ref().map(|revision| revision.hash().into());
                Cause { message, revision, tick: Some(program.ticks), line: None }
            }),
            RuntimeState::Starting | RuntimeState::Recovering => {
                program.and_then(|program| program.loss.clone()).or_else(|| state.cause.clone())
            }
            RuntimeState::Running | RuntimeState::Late | RuntimeState::WaitingForDevice | RuntimeState::Frozen => state.cause.clone(),
            RuntimeState::Held | RuntimeState::Stopped => state.cause.clone(),
        }
    }

    fn process_status(&self, only: Option<usize>) -> Vec<ProcessStatus> {
        let living = self.processes.iter().filter(|(_, process)| !process.is_gone() && process.pid != 0);
        let described = living.filter_map(|(child, process)| {
            let (role, runtime, generation) = match child {
                Child::Worker(generation) => (ProcessRole::CompilerWorker, None, *generation),
                Child::Device(generation) => (ProcessRole::DeviceHost, None, *generation),
                Child::Host(host) => match self.hosts.get(host)? {
                    Duty::Program(slot) => {
                        let program = self.programs.get(slot.0)?;
                        (ProcessRole::RuntimeHost, program.runtime, program.generation)
                    }
                    Duty::Spare(_) => (ProcessRole::SpareHost, None, host.0 as u64),
                },
            };
            if only.is_some() && only != runtime {
                return None;
            }
            let name = runtime.map(|runtime| runtime_name(&self.runtimes[runtime].name));
            Some(ProcessStatus { role, runtime: name, pid: process.pid, generation })
        });
        described.collect()
    }
}

/// The newest revisions of a runtime. `epoch_ms` is when the session began.
pub fn list(runtime: &Runtime, limit: Option<u32>, epoch_ms: u64) -> RevisionList {
    let current = runtime.current.as_ref().map(|current| current.hash());
    let mut is_current_named = false;
    let newest = runtime.history.iter().rev().take(limit.unwrap_or(LISTED) as usize);
    let revisions = newest.map(|entry| {
        let is_current = !is_current_named && Some(entry.hash) == current && entry.refused.is_none();
        is_current_named |= is_current;
        RevisionEntry {
            revision: entry.hash.into(),
            change: entry.change,
            class: entry.class,
            boundary: entry.boundary,
            committed_at_ms: epoch_ms + entry.committed_ms,
            tick: entry.tick,
            is_current,
            is_good: entry.is_good,
            refused: entry.refused.clone(),
        }
    });
    RevisionList { runtime: runtime_name(&runtime.name), revisions: revisions.collect() }
}

/// The text that a rollback leads to, and the change it is of: that of the named revision, or what played before what plays now.
pub fn rollback_target(runtime: &Runtime, wanted: Option<&RevisionName>) -> Result<(ProgramText, ChangeId), ErrorReply> {
    let unknown = |message: String| ErrorReply::new(ErrorCode::UnknownRevision, message).in_field("params.revision");
    let Some(wanted) = wanted else {
        return earlier(runtime)
            .map(|entry| (entry.text.clone(), entry.origin))
            .ok_or_else(|| unknown(format!("`{}` has no good revision before the present one; `list` names all", runtime.name)));
    };
    let entries = runtime.history.iter().rev();
    let mut found: Vec<_> = entries.filter(|entry| entry.hash.to_string().starts_with(wanted.as_str())).collect();
    found.dedup_by_key(|entry| entry.hash);
    match found.as_slice() {
        [] => Err(unknown(format!("`{}` has no revision {}", runtime.name, wanted.as_str()))),
        [first, rest @ ..] if rest.iter().all(|entry| entry.hash == first.hash) => Ok((first.text.clone(), first.origin)),
        [..] => Err(unknown(format!("{} could mean several revisions; name more digits", wanted.as_str()))),
    }
}

/// The newest text that passed its trial, other than the one that plays now.
pub fn last_good(runtime: &Runtime) -> Option<ProgramText> {
    let current = runtime.current.as_ref().map(|current| current.text.hash());
    let good = runtime.history.iter().rev().filter(|entry| entry.is_good);
    good.filter(|entry| Some(entry.text.hash()) != current)
        .find(|entry| !runtime.refused.contains_key(&entry.text.hash()))
        .map(|entry| entry.text.clone())
}

/// The newest good revision before the present one. After a rollback that is the place it led to, so that the next one leads
/// further back. Changes of nothing that runs belong to what they are of.
fn earlier(runtime: &Runtime) -> Option<&HistoryEntry> {
    let history = &runtime.history;
    let current = runtime.current.as_ref().map(|current| current.hash());
    // What is stopped has played last what is newest.
    let present = history.iter().rposition(|entry| entry.refused.is_none() && current.is_none_or(|current| entry.hash == current))?;
    let current = history[present].hash;
    let origin = history[present].origin;
    let mut first = history.iter().position(|entry| entry.change == origin).unwrap_or(present);
    while first > 0 && (history[first].class == ChangeClass::None || history[first].refused.is_some()) {
        first -= 1;
    }
    let before = history.iter().take(first).rev();
    before.filter(|entry| entry.is_good && entry.refused.is_none()).find(|entry| entry.hash != current)
}

/// Items whose name or whose module's name is like this one's.
pub fn similar_items(manifest: &Manifest, wanted: &str) -> Vec<String> {
    let item = wanted.rsplit(':').next().unwrap_or(wanted);
    let module = wanted.split_once(':').map(|(module, _)| module);
    let all = || manifest.modules.iter().flat_map(|module| module.items.iter().map(move |item| (module.id.as_str(), item.name.as_str())));
    let same_item = all().filter(|(_, name)| *name == item);
    let same_module = all().filter(|(id, name)| Some(*id) == module && *name != item && !name.starts_with("__"));
    let alike = all().filter(|(_, name)| *name != item && !name.starts_with("__") && is_slip(item, name));
    let mut seen = std::collections::BTreeSet::new();
    let found = same_item.chain(alike).chain(same_module).filter(|found| seen.insert(*found));
    found.take(SIMILAR).map(|(id, name)| format!("{id}:{name}")).collect()
}

/// Whether one name is the other with at most two slips of the finger: letters left out, too many, wrong or exchanged.
fn is_slip(one: &str, other: &str) -> bool {
    /// Longer names are not compared: nobody types them, and the time is the product of the lengths.
    const LONGEST: usize = 64;
    const SLIPS: usize = 2;
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(LONGEST).collect(), other.chars().take(LONGEST).collect());
    if one.len().abs_diff(other.len()) > SLIPS || one.len() <= SLIPS {
        return false;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let cost = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row.last().is_some_and(|slips| *slips <= SLIPS)
}

/// A cause with everything that is known of it.
pub fn cause(message: String, revision: Option<RevisionName>, fault: Option<&ipc::fault::Fault>) -> Cause {
    Cause { message, revision, tick: fault.map(|fault| fault.tick), line: fault.and_then(|fault| fault.line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert!(["levle", "leve", "levell", "lvel"].iter().all(|slip| is_slip(slip, "level")));
        assert!(!is_slip("gain", "level") && !is_slip("x", "y"));
    }
}
