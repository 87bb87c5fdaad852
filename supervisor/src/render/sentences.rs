//! Reports as sentences for people.

use ipc::midi::{Direction, PortChange};

use super::excerpt;
use crate::policy::gaps::Gap;
use crate::policy::{EditNews, Failure, Part, Report, RuntimeIndex, TapeFiles};
use crate::session::ProgramText;

/// What the device host calls the output that plays to nobody.
const NULL_DEVICE: &str = "null";

/// What a tape records, and where to.
fn taped(files: &TapeFiles) -> String {
    let master = files.master.as_ref().map(|path| format!("the master into {}", path.display()));
    let stems = files.stems.as_ref().map(|path| format!("stems into {}", path.display()));
    master.into_iter().chain(stems).collect::<Vec<_>>().join(" and ")
}

/// Puts reports of a session into words.
pub struct Sentences<'a> {
    pub programs: &'a [ProgramText],
    pub has_colour: bool,
    /// The session's name, where commands have to give it.
    pub session: Option<&'a str>,
}

impl Sentences<'_> {
    /// What to tell people, or `None` when the report is not for reading (counters, results).
    pub fn of(&self, report: &Report) -> Option<String> {
        Some(match report {
            Report::ProcessMissing { part, reason } => format!("error: {} could not be started: {reason}", self.process(*part)),
            Report::ProcessStuck { part, reason } => format!("error: {} is ended: {reason}", self.process(*part)),
            Report::Died { part, pid, end, .. } => format!("error: {} (pid {pid}) {end}", self.process(*part)),
            Report::HostReady { runtime, took, gap, .. } => {
                let name = self.name(*runtime);
                let gap = match gap {
                    Gap::Blocks(0) => "without a gap".to_owned(),
                    Gap::Blocks(1) => "after a gap of 1 block".to_owned(),
                    Gap::Blocks(blocks) => format!("after a gap of {blocks} blocks"),
                    Gap::Ticks(0) => "no tick is lost".to_owned(),
                    Gap::Ticks(1) => "1 tick is lost".to_owned(),
                    Gap::Ticks(ticks) => format!("{ticks} ticks are lost"),
                };
                format!("{name}: goes on in another host from tick {} on, {gap}", took.next_tick)
            }
            Report::Stalled { runtime, stalled_ms } => {
                format!("{}: makes no progress since {stalled_ms} ms, although work is due", self.name(*runtime))
            }
            Report::Resumed { runtime, stalled_ms } => format!("{}: goes on after {stalled_ms} ms without progress", self.name(*runtime)),
            Report::Quarantined { runtime, cause } => format!("error: {}: it is held: {cause}", self.name(*runtime)),
            Report::Unprotected { runtime, reason } => {
                format!("{}: plays, but could not be recovered if its host died: {reason}", self.name(*runtime))
            }
            Report::RolledBack { runtime, from, to, cause, line } => {
                let (from, to) = (from.to_string(), to.to_string());
                let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
                format!(
                    "error: {}: revision {} is taken back{line}: {cause}; revision {} plays on, and the text is refused until it changes",
                    self.name(*runtime),
                    from.get(..8).unwrap_or(&from),
                    to.get(..8).unwrap_or(&to)
                )
            }
            Report::CompilingAgain { runtime, reason } => format!("{}: compiled once more: {reason}", self.name(*runtime)),
            Report::Failed { runtime, failure } => self.failed(*runtime, failure),
            Report::Log { runtime, line } => format!("{}: {line}", self.name(*runtime)),
            Report::Fault { runtime, fault, is_held } => {
                let consequence = if *is_held {
                    "it failed again and again and is held: it does not run any more, and is silent"
                } else {
                    "the program goes on with the next tick"
                };
                match self.programs.get(runtime.0) {
                    Some(program) => excerpt::fault(program, fault, consequence, self.has_colour),
                    None => fault.kind.explanation().to_owned(),
                }
            }
            // That there is no device has a reason, which follows.
            Report::DeviceOpened { device, .. } if device == NULL_DEVICE => return None,
            Report::DeviceOpened { device, sample_rate, period_frames } => {
                format!("playing to {device} at {sample_rate} Hz, {period_frames} frames a period")
            }
            Report::DeviceFailed { reason } => format!("error: no output could be opened: {reason}"),
            Report::Moved { device: _, reason } => reason.clone(),
            // Asked for with the session, and told at its end.
            Report::TapeBegun { block: 0, .. } => return None,
            Report::TapeBegun { files, part: 1, block, .. } => format!("recording {} from block {block} on", taped(files)),
            Report::TapeBegun { files, part, block, missed_frames } => {
                let missed = missed_frames.map_or("some frames".to_owned(), |frames| format!("{frames} frames"));
                format!("recording {} goes on at block {block} in its part {part}; {missed} are missing before it", taped(files))
            }
            // Told to whoever ended it, or with the end of the session.
            Report::TapeEnded { .. } => return None,
            Report::MidiPort(change) => midi_port(change),
            Report::MidiClock { is_there: true, bpm } => format!("following the MIDI clock that comes in: {} beats a minute", beats(*bpm)),
            Report::MidiClock { is_there: false, bpm } => {
                format!("the MIDI clock is silent: going on at {} beats a minute; `tempo` sets it until the clock is back", beats(*bpm))
            }
            Report::MidiUnavailable { reason } => format!("no instrument is heard or played over MIDI: {reason}"),
            Report::RecordingFailed { path: None, reason } => format!("error: recording: {reason}"),
            Report::RecordingFailed { path: Some(path), reason } => format!("error: recording into {}: {reason}", path.display()),
            Report::ProcessStarted { .. } | Report::Compiled { .. } | Report::Checked { .. } | Report::RuntimeStarted { .. } => {
                return None;
            }
            Report::Sounding { .. } | Report::RuntimeStopped { .. } | Report::HostStatus { .. } | Report::DeviceStatus(_) => return None,
            Report::Devices(_) | Report::Captured(_) | Report::Memory { .. } | Report::RunDone { .. } => return None,
            Report::Edit { text, news } => self.edit(text, news),
            Report::Change(_) | Report::Control(_) | Report::Stopping | Report::DeviceStopped { .. } => return None,
        })
    }

    /// A process by name, such as `runtime host "drums"`.
    fn process(&self, part: Part) -> String {
        match part {
            Part::Worker => "the compiler-worker".to_owned(),
            Part::Device => "the device host".to_owned(),
            Part::Host(runtime) => format!("the runtime host \"{}\"", self.name(runtime)),
            Part::Spare => "the spare host".to_owned(),
        }
    }

    fn name(&self, runtime: RuntimeIndex) -> &str {
        self.programs.get(runtime.0).map_or("?", |program| &program.name)
    }

    fn failed(&self, runtime: RuntimeIndex, failure: &Failure) -> String {
        match self.programs.get(runtime.0) {
            Some(program) => self.failed_program(program, failure),
            None => failure_text(failure),
        }
    }

    /// How an edit went.
    fn edit(&self, text: &ProgramText, news: &EditNews) -> String {
        let name = &text.name;
        match news {
            EditNews::Rejected(failure) => {
                format!("{}\n{name}: the edit changes nothing; what plays goes on", self.failed_program(text, failure))
            }
            EditNews::Refused { why } => format!("{name}: {why}"),
            EditNews::NeedsAck { change, sentences } => {
                let (number, sentences) = (change.0, indented(sentences));
                let session = self.session.map(|session| format!(" --session {session}")).unwrap_or_default();
                format!(
                    "{name}: change {number} waits for you, and what plays goes on\n{sentences}\n  take it: continuo confirm \
                     {number}{session}\n  drop it: continuo cancel {number}{session}"
                )
            }
            EditNews::Pending { sentences, .. } => format!("{name}: {}", sentences.join("; ")),
            EditNews::Unchanged => format!("{name}: this text plays already"),
            EditNews::Committed { tick, sentences, .. } => match sentences.as_slice() {
                [] => format!("{name}: plays from tick {tick} on"),
                [first] => format!("{name}: from tick {tick} on: {first}"),
                [first, rest @ ..] => format!("{name}: from tick {tick} on: {first}\n{}", indented(rest)),
            },
            EditNews::RolledBack { fault, why, .. } if why != fault.kind.explanation() => {
                format!("error: {name}: {why}; what played before plays on; this text is refused until it changes")
            }
            EditNews::RolledBack { fault, is_late, .. } => {
                let consequence = if *is_late {
                    "it was taken back, too late to be sure that nobody heard it: what played before plays on; \
                     this text is refused until it changes"
                } else {
                    "it was taken back: nothing of the failure was heard, and what played before plays on; \
                     this text is refused until it changes"
                };
                excerpt::fault(text, fault, consequence, self.has_colour)
            }
            EditNews::Unreadable { reason } => format!("{name}: {reason}; what plays goes on"),
        }
    }

    fn failed_program(&self, program: &ProgramText, failure: &Failure) -> String {
        let with_line = |message: &str, line| excerpt::refusal(program, message, line, self.has_colour);
        match failure {
            Failure::Rejected(diagnostics) => {
                let each = diagnostics.iter().map(|diagnostic| excerpt::diagnostic(program, diagnostic, self.has_colour));
                each.collect::<Vec<_>>().join("\n\n")
            }
            Failure::Unplayable { message, line } => with_line(message, *line),
            Failure::Refused(refusal) => with_line(&refusal.message, refusal.line),
            Failure::Fault(fault) => excerpt::fault(program, fault, "", self.has_colour),
            Failure::NotCompiled(_) | Failure::CompileTooLong | Failure::NoWorker | Failure::NotDelivered { .. } => {
                with_line(&failure_text(failure), None)
            }
            Failure::NoLane { .. } | Failure::NoHost | Failure::StartTooLong => with_line(&failure_text(failure), None),
            Failure::HostDied | Failure::Quarantined { .. } | Failure::CompilerRestarted => with_line(&failure_text(failure), None),
        }
    }
}

fn indented(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("  {sentence}")).collect::<Vec<_>>().join("\n")
}

/// A failure in one sentence, without its place.
pub fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Rejected(diagnostics) => match &diagnostics[..] {
            [] => "the program is wrong".to_owned(),
            [one] => one.message.clone(),
            [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
        },
        Failure::NotCompiled(reason) => format!("it could not be compiled: {reason}"),
        Failure::CompileTooLong => format!(
            "compiling it was given up after {} s: the program is too large, or the machine or the compiler-worker was held up; try again, or \
             make the program smaller",
            ipc::limits::COMPILE_DEADLINE_MS / 1000
        ),
        Failure::NoWorker => "it was not compiled, because the compiler-worker is gone".to_owned(),
        Failure::Unplayable { message, .. } => message.clone(),
        Failure::NotDelivered { reason } => reason.clone(),
        Failure::Refused(refusal) => refusal.message.clone(),
        Failure::NoLane { reason } => format!("it has no lane to the device: {reason}"),
        Failure::NoHost => "it does not run any more, because its runtime host is gone".to_owned(),
        Failure::HostDied => "its runtime host died before the change took effect; push it again".to_owned(),
        Failure::Quarantined { cause } => cause.clone(),
        Failure::CompilerRestarted => "the compiler-worker died of this text twice; it is refused until it changes".to_owned(),
        Failure::StartTooLong => {
            format!("its host has not started it within {} s", crate::policy::deadlines::START_RUNTIME_MS / 1000)
        }
        Failure::Fault(fault) => fault.kind.explanation().to_owned(),
    }
}

/// A MIDI port that has come or gone.
/// Beats a minute as people read them: what a clock measures is no more exact.
pub fn beats(bpm: f64) -> f64 {
    (bpm * 100.0).round() / 100.0
}

fn midi_port(change: &PortChange) -> String {
    let PortChange { direction, port, name, is_there } = change;
    match (direction, is_there) {
        (Direction::In, true) => format!("MIDI input {port} hears {name}"),
        (Direction::In, false) => format!("MIDI input {port} has lost {name}; it is heard again when it comes back"),
        (Direction::Out, true) => format!("MIDI output {port} plays {name}"),
        (Direction::Out, false) => format!("MIDI output {port} has lost {name}; it is played again when it comes back"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::policy::ProcessEnd;

    #[test]
    fn what_to_type_next_names_a_session_that_is_not_the_default() {
        let text = ProgramText { name: "drums".to_owned(), path: PathBuf::new(), source: "".into(), base_directory: PathBuf::new() };
        let news = EditNews::NeedsAck { change: crate::control::protocol::ChangeId(7), sentences: Vec::new() };
        let sentences = Sentences { programs: &[], has_colour: false, session: Some("gig") };
        let said = sentences.of(&Report::Edit { text, news }).unwrap();
        assert!(said.contains("continuo confirm 7 --session gig\n"), "{said}");
    }

    #[test]
    fn an_edit_that_is_taken_back_too_late_is_not_said_to_be_unheard() {
        let kind = ipc::fault::FaultKind::DeadlineExceeded;
        let said = |is_late| {
            let text = ProgramText { name: "drums".to_owned(), path: PathBuf::new(), source: "".into(), base_directory: PathBuf::new() };
            let fault = ipc::fault::Fault { kind, tick: 7, block: None, line: None, repeats: 0 };
            let news = EditNews::RolledBack { fault, why: kind.explanation().to_owned(), is_late };
            let sentences = Sentences { programs: &[], has_colour: false, session: None };
            sentences.of(&Report::Edit { text, news }).unwrap()
        };
        assert!(said(false).contains("nothing of the failure was heard"), "{}", said(false));
        assert!(!said(true).contains("nothing of the failure was heard"), "{}", said(true));
    }

    #[test]
    fn a_death_is_reported_by_name() {
        let program = ProgramText {
            name: "drums".to_owned(),
            path: PathBuf::from("drums.8f4e"),
            source: "".into(),
            base_directory: PathBuf::from("/"),
        };
        let sentences = Sentences { programs: &[program], has_colour: false, session: None };
        let report = Report::Died { part: Part::Host(RuntimeIndex(0)), pid: 123, generation: 1, end: ProcessEnd::Killed(9), cause: None };
        let said = sentences.of(&report).unwrap();
        assert_eq!(said, "error: the runtime host \"drums\" (pid 123) was killed by signal 9 (SIGKILL)");
    }
}
