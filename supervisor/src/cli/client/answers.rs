//! Answers and errors of a session in words.

use crate::control::protocol::{
    ChangeClass, ChangeReport, ChangeState, Diagnostic, ErrorReply, ItemValues, Mix, Number, Recording, RevisionList, RuntimeNow,
    SessionStatus, Watching,
};

/// Things named in one line; the rest are counted.
const NAMED: usize = 8;

pub fn change(report: &ChangeReport) -> String {
    let class = match report.class {
        ChangeClass::Load => "its first program".to_owned(),
        ChangeClass::None => "nothing that runs".to_owned(),
        ChangeClass::A => "class A (parameters)".to_owned(),
        ChangeClass::B => "class B (structure)".to_owned(),
        ChangeClass::C => "class C (identity)".to_owned(),
        ChangeClass::T => "class T (a new host)".to_owned(),
    };
    let state = match report.state {
        ChangeState::Planned => "planned",
        ChangeState::NeedsAck => "waits for an acknowledgement",
        ChangeState::Pending => "on its way",
        ChangeState::Committed => "in effect",
    };
    let revision = report.revision.as_str().get(..8).unwrap_or_default();
    let mut lines = vec![format!("{}: change {}, {class}, {state}, revision {revision}", report.runtime, report.change.0)];
    lines.extend(report.reasons.iter().take(NAMED).map(|reason| format!("  {}", reason.text)));
    if report.reasons.len() > NAMED {
        lines.push(format!("  and {} reasons more", report.reasons.len() - NAMED));
    }
    let amounts = [
        (report.kept.items, "kept"),
        (report.moved.len() as u64, "moved"),
        (report.reset.len() as u64, "reset"),
        (report.discarded.len() as u64, "discarded"),
    ];
    let amounts: Vec<String> = amounts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !amounts.is_empty() {
        lines.push(format!("  items: {}", amounts.join(", ")));
    }
    let lost = report.reset.iter().chain(&report.discarded);
    lines.extend(lost.take(NAMED).map(|loss| format!("  {}: {}", loss.item, loss.why)));
    lines.join("\n")
}

pub fn now(now: &RuntimeNow) -> String {
    let committed = now.committed.map(|change| format!("; change {} took effect", change.0)).unwrap_or_default();
    format!("{}: {} at tick {}{committed}", now.runtime, word(&now.state), now.tick)
}

/// The name that a value has on the wire.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub fn values(values: &ItemValues) -> String {
    let shown = |number: &Number| match number {
        Number::Int(value) => value.to_string(),
        Number::Float(value) => format!("{value:?}"),
    };
    let line = |item: &crate::control::protocol::ItemValue| {
        let elements: Vec<String> = item.values.iter().map(shown).collect();
        format!("{} = {}", item.item, elements.join(" "))
    };
    values.values.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub fn mix(mix: &Mix) -> String {
    let muted = if mix.is_muted { ", muted" } else { "" };
    let soloed = if mix.is_soloed { ", soloed" } else { "" };
    let heard = if mix.is_audible { "heard" } else { "not heard" };
    format!("gain {}{muted}{soloed}: {heard}", mix.gain)
}

pub fn status(status: &SessionStatus) -> String {
    let device = status
        .device
        .as_ref()
        .map_or("no output yet".to_owned(), |device| format!("{} at {} Hz, {} xruns", device.name, device.sample_rate, device.xruns));
    let mut lines = vec![format!("session {} (pid {}): {device}", status.session, status.pid)];
    for runtime in &status.runtimes {
        let revision = runtime.revision.as_ref().and_then(|revision| revision.as_str().get(..8)).unwrap_or("-");
        let waiting = runtime.waiting_change.map(|change| format!(", change {} waits", change.0)).unwrap_or_default();
        let cause = runtime.cause.as_ref().map(|cause| format!(" ({})", cause.message)).unwrap_or_default();
        lines.push(format!(
            "  {}: {}{cause}, {}, revision {revision}, tick {}, load {}%, {} underruns{waiting}",
            runtime.runtime,
            word(&runtime.state),
            runtime.runtime_type,
            runtime.tick,
            runtime.load_permille.div_ceil(10),
            runtime.underruns
        ));
    }
    lines.join("\n")
}

pub fn revisions(list: &RevisionList) -> String {
    let line = |entry: &crate::control::protocol::RevisionEntry| {
        let current = if entry.is_current { "*" } else { " " };
        let good = if entry.is_good { " good" } else { "" };
        let refused = entry.refused.as_ref().map(|cause| format!(" refused: {}", cause.message)).unwrap_or_default();
        let revision = entry.revision.as_str().get(..8).unwrap_or_default();
        format!("{current} {revision} change {} class {} tick {}{good}{refused}", entry.change.0, word(&entry.class), entry.tick)
    };
    list.revisions.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub fn watching(watching: &Watching) -> String {
    match &watching.path {
        Some(path) => format!("{}: follows {path}", watching.runtime),
        None => format!("{}: follows no file", watching.runtime),
    }
}

pub fn recording(recording: &Recording) -> String {
    if recording.is_recording {
        format!("recording into {}", recording.path)
    } else {
        format!("recorded {} frames into {}", recording.frames, recording.path)
    }
}

/// An error with what belongs to it.
pub fn error(error: &ErrorReply) -> String {
    let mut lines = vec![format!("error: {}", error.message)];
    lines.extend(error.data.diagnostics.iter().map(diagnostic));
    if let Some(report) = &error.data.change {
        lines.push(change(report));
        let number = report.change.0;
        lines.push(format!("  take it: continuo confirm {number}\n  drop it: continuo cancel {number}"));
    }
    if !error.data.known.is_empty() {
        lines.push(format!("  there is: {}", error.data.known.join(", ")));
    }
    lines.join("\n")
}

fn diagnostic(found: &Diagnostic) -> String {
    let line = found.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let hint = found.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("  {line}{}{hint}", found.message)
}
