//! What scripts get: diagnostics, faults and reports as JSON objects with camelCase keys. Keys that do not apply are null,
//! never absent. `play --json` prints one event a line; its `event` key says which.

use ipc::diagnostic::{BlockName, Diagnostic};
use ipc::fault::Fault;
use ipc::message::{DeviceDescription, DeviceStatus, ElementValues, ItemValue};
use serde_json::{Map, Value, json};

use super::excerpt::stage;
use crate::policy::{EditNews, Failure, Part, ProcessEnd, Report, RuntimeIndex, signal_name};
use crate::session::ProgramText;

/// A diagnostic: `stage` (project, syntax, compiler), `code`, `line` and `column` in the file (from 1), `length` in
/// characters, `lineInBlock` (opener = 0), `block` (kind, id), `instruction`, `message`, `hint`, `include`.
pub fn diagnostic(diagnostic: &Diagnostic) -> Value {
    json!({
        "stage": stage(diagnostic.stage),
        "code": diagnostic.code,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "length": diagnostic.length,
        "lineInBlock": diagnostic.line_in_block,
        "block": diagnostic.block.as_ref().map(block),
        "instruction": diagnostic.instruction,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        "include": diagnostic.include,
    })
}

fn block(block: &BlockName) -> Value {
    json!({ "kind": block.kind, "id": block.id })
}

/// A fault: `kind`, `explanation`, `tick`, `line` in the file, `block`, `repeats`.
pub fn fault(fault: &Fault) -> Value {
    json!({
        "kind": fault.kind,
        "explanation": fault.kind.explanation(),
        "tick": fault.tick,
        "line": fault.line,
        "block": fault.block.as_ref().map(block),
        "repeats": fault.repeats,
    })
}

/// Values of memory items by `MODULE:ITEM`: a number for one element, else a list. What JSON has no number for is one of
/// the strings `NaN`, `Infinity`, `-Infinity`.
pub fn items(values: &[ItemValue]) -> Value {
    let elements = |values: &ElementValues| -> Vec<Value> {
        match values {
            ElementValues::Int(values) => values.iter().map(|value| json!(value)).collect(),
            ElementValues::Float(values) => values.iter().map(|value| single(*value)).collect(),
            ElementValues::Float64(values) => values.iter().map(|value| double(*value)).collect(),
        }
    };
    let value = |item: &ItemValue| {
        let mut elements = elements(&item.values);
        if elements.len() == 1 { elements.remove(0) } else { Value::Array(elements) }
    };
    Value::Object(values.iter().map(|item| (item.item.clone(), value(item))).collect::<Map<_, _>>())
}

/// The shortest decimal that reads back as the same 32-bit number, not the longer one of its 64-bit image.
fn single(value: f32) -> Value {
    if value.is_finite() { json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value))) } else { double(f64::from(value)) }
}

fn double(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

/// An output of the machine.
pub fn device(device: &DeviceDescription) -> Value {
    json!({
        "host": device.host,
        "name": device.name,
        "isDefault": device.is_default,
        "isUsable": device.is_usable,
        "detail": device.detail,
    })
}

/// A report as an event of `play --json`. `None` for what is not part of playing.
pub fn event(programs: &[ProgramText], report: &Report) -> Option<Value> {
    let name = |runtime: RuntimeIndex| programs.get(runtime.0).map(|program| program.name.clone());
    let process = |part: Part| match part {
        Part::Host(runtime) => (part.role().name(), name(runtime)),
        Part::Worker | Part::Device => (part.role().name(), None),
        Part::Spare => ("spare-host", None),
    };
    Some(match report {
        Report::ProcessStarted { part, pid } => {
            let (role, runtime) = process(*part);
            json!({ "event": "processStarted", "role": role, "runtime": runtime, "pid": pid })
        }
        Report::ProcessMissing { part, reason } | Report::ProcessStuck { part, reason } => {
            let (role, runtime) = process(*part);
            json!({ "event": "processFailed", "role": role, "runtime": runtime, "reason": reason })
        }
        Report::Died { part, pid, generation, end, cause } => {
            let (role, runtime) = process(*part);
            let (status, signal) = match end {
                ProcessEnd::Exited(status) => (Some(*status), None),
                ProcessEnd::Killed(signal) => (None, Some(*signal)),
            };
            let signal_name = signal.and_then(signal_name);
            json!({ "event": "died", "role": role, "runtime": runtime, "pid": pid, "exitStatus": status, "signal": signal,
                    "signalName": signal_name, "generation": generation, "reason": cause.clone().unwrap_or_else(|| end.to_string()) })
        }
        Report::HostReady { runtime, took, pid, gap } => json!({ "event": "hostReady", "runtime": name(*runtime), "pid": pid,
            "generation": took.generation, "restoredTick": took.restored_tick, "replayedTicks": took.replayed_ticks,
            "nextTick": took.next_tick, "gapBlocks": gap.blocks(), "lostTicks": gap.ticks(),
            "wasPrepared": took.was_prepared, "tookUs": took.took_us }),
        Report::Stalled { runtime, stalled_ms } => {
            json!({ "event": "stalled", "runtime": name(*runtime), "stalledMs": stalled_ms })
        }
        Report::Resumed { runtime, stalled_ms } => {
            json!({ "event": "resumed", "runtime": name(*runtime), "stalledMs": stalled_ms })
        }
        Report::Quarantined { runtime, cause } => json!({ "event": "quarantined", "runtime": name(*runtime), "reason": cause }),
        Report::Unprotected { runtime, reason } => json!({ "event": "unprotected", "runtime": name(*runtime), "reason": reason }),
        Report::RolledBack { runtime, from, to, cause, line } => json!({ "event": "rolledBack", "runtime": name(*runtime),
            "from": from.to_string(), "to": to.to_string(), "reason": cause, "line": line }),
        Report::Compiled { runtime, timings } => json!({ "event": "compiled", "runtime": name(*runtime),
            "wasmUs": timings.wasm_us, "nativeUs": timings.native_us, "publishUs": timings.publish_us }),
        Report::CompilingAgain { runtime, reason } => {
            json!({ "event": "compilingAgain", "runtime": name(*runtime), "reason": reason })
        }
        Report::Failed { runtime, failure } => failed(programs.get(runtime.0), failure),
        Report::Log { runtime, line } => json!({ "event": "log", "runtime": name(*runtime), "line": line }),
        Report::RuntimeStarted { runtime } => json!({ "event": "runtimeStarted", "runtime": name(*runtime) }),
        Report::Sounding { runtime, block } => json!({ "event": "sounding", "runtime": name(*runtime), "block": block }),
        Report::Fault { runtime, fault: what, is_held } => {
            json!({ "event": "fault", "runtime": name(*runtime), "fault": fault(what), "isHeld": is_held })
        }
        Report::RuntimeStopped { runtime } => json!({ "event": "runtimeStopped", "runtime": name(*runtime) }),
        Report::HostStatus { runtime, status } => json!({ "event": "runtimeStatus", "runtime": name(*runtime),
            "ticks": status.ticks, "loadPermille": status.load_permille, "lostTicks": status.lost_ticks,
            "nonFinite": status.non_finite, "isRealtime": status.is_realtime, "isHeld": status.is_held }),
        Report::DeviceStatus(status) => meter(status),
        Report::DeviceOpened { device, sample_rate, period_frames } => {
            json!({ "event": "deviceOpened", "device": device, "sampleRate": sample_rate, "periodFrames": period_frames })
        }
        Report::DeviceFailed { reason } => json!({ "event": "deviceFailed", "reason": reason }),
        Report::Moved { device, reason } => json!({ "event": "moved", "device": device, "reason": reason }),
        Report::MidiPort(change) => json!({ "event": if change.is_there { "midiPortFound" } else { "midiPortLost" },
            "direction": change.direction, "port": change.port, "name": change.name }),
        Report::MidiClock { is_there, bpm } => json!({ "event": if *is_there { "midiClockFound" } else { "midiClockLost" }, "bpm": bpm }),
        Report::MidiUnavailable { reason } => json!({ "event": "midiUnavailable", "reason": reason }),
        Report::RecordingFailed { reason, .. } => json!({ "event": "recordingFailed", "reason": reason }),
        Report::TapeBegun { files, part, block, missed_frames } => json!({ "event": "tapeStarted", "master": files.master,
            "stems": files.stems, "part": part, "block": block, "missedFrames": missed_frames }),
        Report::TapeEnded { files, block, frames } => {
            json!({ "event": "tapeStopped", "master": files.master, "stems": files.stems, "block": block, "frames": frames })
        }
        Report::Stopping => json!({ "event": "stopping" }),
        Report::DeviceStopped { frames } => json!({ "event": "deviceStopped", "frames": frames }),
        Report::Edit { text, news } => edit(text, news),
        Report::Change(_) | Report::Control(_) => return None,
        Report::Checked { .. } | Report::Devices(_) | Report::Captured(_) | Report::Memory { .. } | Report::RunDone { .. } => return None,
    })
}

/// How an edit went: `edited` and what came of it.
fn edit(text: &ProgramText, news: &EditNews) -> Value {
    let name = &text.name;
    let file = text.path.display().to_string();
    match news {
        EditNews::Rejected(failure) => {
            let mut rejected = failed(Some(text), failure);
            rejected["event"] = json!("editRejected");
            rejected
        }
        EditNews::Refused { why } => json!({ "event": "editRefused", "runtime": name, "file": file, "reason": why }),
        EditNews::NeedsAck { change, sentences } => {
            json!({ "event": "editNeedsAck", "runtime": name, "file": file, "change": change.0, "report": sentences })
        }
        EditNews::Pending { change, sentences } => {
            json!({ "event": "editPending", "runtime": name, "file": file, "change": change.0, "losses": sentences })
        }
        EditNews::Unchanged => json!({ "event": "editUnchanged", "runtime": name, "file": file }),
        EditNews::Committed { change, tick, sentences, timings, commit_us } => {
            json!({ "event": "editCommitted", "runtime": name, "file": file,
            "change": change.0, "tick": tick, "report": sentences, "detectUs": timings.detect_us, "compileUs": timings.compile_us,
            "nativeUs": timings.native_us, "transferUs": timings.transfer_us, "commitUs": commit_us })
        }
        EditNews::RolledBack { fault: what, why, is_late } => {
            json!({ "event": "editRolledBack", "runtime": name, "file": file, "fault": fault(what), "why": why,
            "isLate": is_late })
        }
        EditNews::Unreadable { reason } => json!({ "event": "editRejected", "runtime": name, "file": file, "reason": reason, "line": null,
            "diagnostics": [] }),
    }
}

fn meter(status: &DeviceStatus) -> Value {
    let peak = |peak: [f32; 2]| json!([single(peak[0]), single(peak[1])]);
    let lanes: Vec<Value> = status
        .lanes
        .iter()
        .map(|lane| {
            json!({ "runtime": lane.runtime, "underruns": lane.underruns, "lastUnderrunBlock": lane.last_underrun_block,
                    "peak": peak(lane.peak) })
        })
        .collect();
    json!({ "event": "meter", "frames": status.frames, "peak": peak(status.peak), "deviceXruns": status.device_xruns,
            "nonFinite": status.non_finite, "lanes": lanes })
}

fn failed(program: Option<&ProgramText>, failure: &Failure) -> Value {
    let name = program.map(|program| program.name.clone());
    let file = program.map(|program| program.path.display().to_string());
    let (diagnostics, line) = match failure {
        Failure::Rejected(list) => (list.iter().map(diagnostic).collect(), None),
        Failure::Unplayable { line, .. } => (Vec::new(), *line),
        Failure::Refused(refusal) => (Vec::new(), refusal.line),
        Failure::Fault(fault) => (Vec::new(), fault.line),
        Failure::NotCompiled(_) | Failure::CompileTooLong | Failure::NoWorker | Failure::NotDelivered { .. } => (Vec::new(), None),
        Failure::NoLane { .. } | Failure::NoHost | Failure::StartTooLong => (Vec::new(), None),
        Failure::HostDied | Failure::Quarantined { .. } | Failure::CompilerRestarted => (Vec::new(), None),
    };
    json!({ "event": "failed", "runtime": name, "file": file, "reason": super::sentences::failure_text(failure), "line": line,
            "diagnostics": diagnostics })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_short_as_they_are_and_what_json_lacks_as_words() {
        let item = |item: &str, values| ItemValue { item: item.to_owned(), values };
        let values = [
            item("m:a", ElementValues::Int(vec![-3])),
            item("m:b", ElementValues::Float(vec![0.1, f32::NAN, f32::NEG_INFINITY])),
            item("m:c", ElementValues::Float64(vec![0.1])),
        ];
        let shown = items(&values).to_string();
        assert_eq!(shown, r#"{"m:a":-3,"m:b":[0.1,"NaN","-Infinity"],"m:c":0.1}"#);
    }

    #[test]
    fn a_death_is_told_with_its_signal() {
        let report = Report::Died { part: Part::Device, pid: 7, generation: 1, end: ProcessEnd::Killed(9), cause: None };
        let event = event(&[], &report).unwrap();
        assert_eq!((event["role"].as_str(), event["signalName"].as_str()), (Some("device-host"), Some("SIGKILL")));
    }
}
