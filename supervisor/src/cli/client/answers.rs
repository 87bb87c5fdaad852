//! Answers and errors of a session in words.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::control::protocol::{
    Cause, ChangeClass, ChangeReport, ChangeState, Channels, Diagnostic, ErrorReply, ItemValues, Mix, Number, Recording, RecordingInfo,
    RevisionList, RouteNow, Routing, RuntimeNow, RuntimeStatus, SessionStatus, TapeNow, TempoNow, Watching, WireStatus,
};
use crate::render::sentences::beats;

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
        lines.push(format!("  and {} more", counted(report.reasons.len() - NAMED, "reason", "reasons")));
    }
    if let Some(asked) = &report.fallback_from {
        lines.push(format!("  there is no runtime type `{asked}`; it runs under `{}`", report.runtime_type));
    }
    if let Some(cause) = &report.refused {
        lines.push(format!("  it failed before{}: a push of it is refused without --force", place(cause)));
    }
    let amounts = [
        (report.kept.items, "kept"),
        (report.moved.len() as u64, "moved"),
        (report.added.len() as u64, "new"),
        (report.reset.len() as u64, "reset"),
        (report.discarded.len() as u64, "discarded"),
    ];
    let amounts: Vec<String> = amounts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !amounts.is_empty() {
        lines.push(format!("  items: {}", amounts.join(", ")));
    }
    let lost = report.reset.iter().chain(&report.discarded);
    lines.extend(lost.take(NAMED).map(|loss| format!("  {}: {}", loss.item, loss.why)));
    lines.extend(named("may lose state", &report.at_risk));
    lines.extend(named("new", &report.added));
    lines.extend(report.renames.iter().map(|renamed| format!("  renamed? {} → {}: the new one starts afresh", renamed.from, renamed.to)));
    if report.reruns_init_only {
        lines.push("  the init-only modules run once more".to_owned());
    }
    if report.boundaries.len() > 1 {
        let offered: Vec<String> = report.boundaries.iter().map(word).collect();
        lines.push(format!("  boundary: {} (of {})", word(&report.boundary), offered.join(", ")));
    }
    lines.join("\n")
}

/// The first few of some items in one line, if there are any.
fn named(what: &str, items: &[String]) -> Option<String> {
    let first: Vec<&str> = items.iter().take(NAMED).map(String::as_str).collect();
    let more = if items.len() > NAMED { format!(" and {} more", items.len() - NAMED) } else { String::new() };
    (!items.is_empty()).then(|| format!("  {what}: {}{more}", first.join(", ")))
}

pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Where a cause lies, as far as that is known: ` in line 7, tick 1200`.
fn place(cause: &Cause) -> String {
    let line = cause.line.map(|line| format!("line {line}"));
    let tick = cause.tick.map(|tick| format!("tick {tick}"));
    let known: Vec<String> = line.into_iter().chain(tick).collect();
    if known.is_empty() { String::new() } else { format!(" in {}", known.join(", ")) }
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

pub fn wire(wire: &WireStatus) -> String {
    let waits = wire.waits_because.as_ref().map(|why| format!(" (waiting: {why})")).unwrap_or_default();
    format!("{} = {}{waits}", wire.to, wire.from)
}

pub fn mix(mix: &Mix) -> String {
    let muted = if mix.is_muted { ", muted" } else { "" };
    let soloed = if mix.is_soloed { ", soloed" } else { "" };
    let heard = if mix.is_audible { "heard" } else { "not heard" };
    format!("gain {}{muted}{soloed}: {heard} on {}", mix.gain, mix.output)
}

/// Who listens to whom, one route a line.
pub fn routing(routing: &Routing) -> String {
    if routing.routes.is_empty() {
        return "nothing is routed".to_owned();
    }
    routing.routes.iter().map(route).collect::<Vec<_>>().join("\n")
}

fn route(route: &RouteNow) -> String {
    let only = if route.only { ", heard only there" } else { "" };
    let silent = route.silent_because.as_ref().map(|why| format!(": silent, {why}")).unwrap_or_default();
    format!("{} → {}{only}{silent}", route.from, route.to)
}

pub fn tempo(now: &TempoNow) -> String {
    let runs = if now.is_running { "running" } else { "standing still" };
    let follows = match (now.follows_clock, now.has_clock) {
        (true, true) => ", following the MIDI clock that comes in",
        (true, false) => ", waiting for the MIDI clock that it is to follow",
        (false, _) => "",
    };
    let sends = if now.sends_clock { ", sending MIDI clock" } else { "" };
    format!("{} beats a minute, {runs} at beat {:.2}{follows}{sends}", beats(now.bpm), now.beat)
}

pub fn status(status: &SessionStatus) -> String {
    let device = status.device.as_ref().map_or("no output yet".to_owned(), |device| {
        let peak = decibels(device.peak);
        format!("{} at {} Hz, {} channels, {peak}, {} xruns", device.name, device.sample_rate, device.channels, device.xruns)
    });
    let mut lines = vec![format!("session {} (pid {}): {device}", status.session, status.pid)];
    let midi = &status.midi;
    if midi.received + midi.late + midi.dropped + midi.malformed + midi.unsent > 0 {
        lines.push(format!(
            "  MIDI: {} messages in, {} late, {} left out, {} malformed; {} not sent",
            midi.received, midi.late, midi.dropped, midi.malformed, midi.unsent
        ));
    }
    if let Some(input) = &status.routing.input {
        let gaps = counted(input.gaps as usize, "gap", "gaps");
        lines.push(format!("  listening to {}, {} frames late, {gaps}", input.device, input.latency_frames));
    }
    if !status.routing.routes.is_empty() {
        let blocks = counted(status.routing.bus_latency_blocks as usize, "block", "blocks");
        lines.push(format!("  routes, {blocks} late:"));
        lines.extend(status.routing.routes.iter().map(|one| format!("    {}", route(one))));
    }
    for runtime in &status.runtimes {
        let revision = runtime.revision.as_ref().and_then(|revision| revision.as_str().get(..8)).unwrap_or("-");
        let waiting = runtime.waiting_change.map(|change| format!(", change {} waits", change.0)).unwrap_or_default();
        let cause = runtime.cause.as_ref().map(|cause| format!(" ({}{})", cause.message, place(cause))).unwrap_or_default();
        lines.push(format!(
            "  {}: {}{cause}, {}, revision {revision}, tick {}, load {}%, {}, {}{}{waiting}",
            runtime.runtime,
            word(&runtime.state),
            runtime.runtime_type,
            runtime.tick,
            runtime.load_permille.div_ceil(10),
            decibels(runtime.peak),
            counted(runtime.underruns as usize, "underrun", "underruns") + &hearing(runtime),
            level(&runtime.mix)
        ));
    }
    if let Some(tape) = &status.tape {
        let what = taped(tape.master.as_ref(), tape.stems.as_ref());
        lines.push(format!("  recording {what} since block {}, {} frames so far", tape.block, tape.frames));
    }
    lines.extend(status.wires.iter().map(|found| format!("  wire {}", wire(found))));
    if let Some(osc) = &status.osc {
        let why = osc.last_error.as_ref().map(|why| format!(", the last one because {why}")).unwrap_or_default();
        lines.push(format!("  osc on {}: {} packets, {} malformed, {} refused{why}", osc.address, osc.packets, osc.malformed, osc.refused));
    }
    let is_silent = !status.runtimes.is_empty() && status.runtimes.iter().all(|runtime| !runtime.mix.is_audible);
    if is_silent {
        lines.push("  nothing is heard: every runtime is muted, or another one is soloed (mute --off, solo --off)".to_owned());
    }
    lines.join("\n")
}

/// The higher of two peaks.
fn decibels(peak: [f32; 2]) -> String {
    crate::render::meter::decibels(peak[0].max(peak[1])).trim_start().to_owned()
}

/// What a runtime has missed of what it listens to.
fn hearing(runtime: &RuntimeStatus) -> String {
    match runtime.input_underruns {
        0 => String::new(),
        count => format!(", {} with something missing", counted(count as usize, "block of its input", "blocks of its input")),
    }
}

/// How a runtime is mixed, where it is not simply heard.
fn level(mix: &Mix) -> String {
    let gain = (mix.gain != 1.0).then(|| format!(", gain {}", mix.gain));
    let muted = mix.is_muted.then(|| ", muted".to_owned());
    let soloed = mix.is_soloed.then(|| ", soloed".to_owned());
    let output = (mix.output != Channels::MAIN).then(|| format!(", on {}", mix.output));
    let unheard = (!mix.is_audible && !mix.is_muted).then(|| ", not heard because of solo".to_owned());
    [gain, output, muted, soloed, unheard].into_iter().flatten().collect()
}

pub fn revisions(list: &RevisionList) -> String {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let line = |entry: &crate::control::protocol::RevisionEntry| {
        let current = if entry.is_current { "*" } else { " " };
        let good = if entry.is_good { " good" } else { "" };
        let refused = entry.refused.as_ref().map(|cause| format!(" refused: {}", cause.message)).unwrap_or_default();
        let revision = entry.revision.as_str().get(..8).unwrap_or_default();
        let (change, class, tick) = (entry.change.0, word(&entry.class), entry.tick);
        let ago = ago(now_ms.saturating_sub(u128::from(entry.committed_at_ms)));
        format!("{current} {revision} change {change} class {class} tick {tick}, {ago}{good}{refused}")
    };
    list.revisions.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A time that has passed, as people say it.
fn ago(passed_ms: u128) -> String {
    let seconds = passed_ms / 1_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        _ => format!("{} h {} min ago", seconds / 3_600, seconds / 60 % 60),
    }
}

/// What a recording holds.
pub fn recorded(info: &RecordingInfo) -> String {
    let torn = if info.is_torn { ", cut off at the end" } else { "" };
    let inputs = counted(info.inputs as usize, "input", "inputs");
    let mut lines = vec![format!("{}: {} frames, {inputs}{torn}, made by {}", info.path, info.frames, info.build)];
    lines.extend(info.runtimes.iter().map(|runtime| {
        let revisions = counted(runtime.revisions.len(), "revision", "revisions");
        format!("  {}: {}, {revisions}", runtime.runtime, runtime.runtime_type)
    }));
    lines.join("\n")
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

/// What a tape records.
fn taped(master: Option<&String>, stems: Option<&String>) -> String {
    let master = master.map(|path| format!("the master into {path}"));
    let stems = stems.map(|path| format!("stems into {path}"));
    master.into_iter().chain(stems).collect::<Vec<_>>().join(" and ")
}

pub fn tape(now: &TapeNow) -> String {
    let what = taped(now.master.as_ref(), now.stems.as_ref());
    match now.is_taping {
        true => format!("recording {what} from block {} on", now.block),
        false => format!("recorded {what}: {} frames, up to block {}", now.frames, now.block),
    }
}

/// An error with what belongs to it. `session` is the name the command was given, for commands that follow from it.
pub fn error(error: &ErrorReply, session: Option<&str>) -> String {
    let mut lines = vec![format!("error: {}", error.message)];
    lines.extend(error.data.diagnostics.iter().map(diagnostic));
    if let Some(report) = &error.data.change {
        lines.push(change(report));
        let number = report.change.0;
        let session = session.map(|session| format!(" --session {session}")).unwrap_or_default();
        lines.push(format!("  take it: continuo confirm {number}{session}\n  drop it: continuo cancel {number}{session}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::ErrorCode;

    #[test]
    fn times_and_numbers_are_said_as_people_say_them() {
        let said = [999, 59_999, 60_000, 3_599_000, 3_600_000 + 61_000].map(ago);
        assert_eq!(said, ["0 s ago", "59 s ago", "1 min ago", "59 min ago", "1 h 1 min ago"]);
        assert_eq!([1, 2].map(|count| counted(count, "reason", "reasons")), ["1 reason", "2 reasons"]);
    }

    #[test]
    fn a_cause_says_its_line_and_its_tick() {
        let cause = |line, tick| Cause { message: String::new(), revision: None, tick, line };
        assert_eq!(place(&cause(Some(7), Some(1_200))), " in line 7, tick 1200");
        assert_eq!(place(&cause(None, None)), "");
    }

    #[test]
    fn a_runtime_that_is_not_heard_says_why() {
        let mix = Mix { gain: 0.5, is_muted: false, is_soloed: false, is_audible: false, output: Channels { left: 3, right: 3 } };
        assert_eq!(level(&mix), ", gain 0.5, on 3, not heard because of solo");
        assert_eq!(level(&Mix { gain: 1.0, is_muted: false, is_soloed: false, is_audible: true, output: Channels::MAIN }), "");
    }

    #[test]
    fn an_error_without_a_change_offers_nothing_to_confirm() {
        let told = error(&ErrorReply::new(ErrorCode::UnknownRuntime, "there is no runtime `x`"), Some("gig"));
        assert_eq!(told, "error: there is no runtime `x`");
    }
}
