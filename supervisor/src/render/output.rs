//! The streams that are spoken to: results on standard output, everything for people on standard error. The one place that
//! writes either.
//!
//! Every line is written and flushed at once, and the first result that could not be written is remembered. It is told at once,
//! and is the exit code of the command at its end; it stops nothing that plays. A reader that has gone (`| head -1`) has got
//! what it wanted: that is told to nobody.
//!
//! A command that only answers waits for its reader, however long that takes. A session that plays must not wait for anybody:
//! after [`speak_without_waiting`] both streams are written by threads of their own ([`super::outlet`]).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;

use super::meter::LiveLine;
use super::outlet::{Mouth, Outlet};

/// How long the end waits for a reader: what is said last is complete for whoever reads, and nobody is kept by one who does not.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The kind of the first error.
static FAILED: OnceLock<ErrorKind> = OnceLock::new();

/// The threads that write, of a session that plays.
static OUTLETS: OnceLock<Outlets> = OnceLock::new();

struct Outlets {
    results: Outlet,
    people: Outlet,
}

/// Standard output. It has no live line.
struct Results {
    is_json: bool,
}

impl Mouth for Results {
    fn write(&mut self, said: &[u8]) {
        let mut out = io::stdout().lock();
        note(out.write_all(said).and_then(|()| out.flush()));
    }

    fn left_out(&self, lines: u64) -> String {
        if self.is_json { format!("{}\n", json!({ "event": "lagged", "dropped": lines })) } else { not_shown(lines) }
    }
}

/// Standard error, with the live line at its end.
struct People {
    line: LiveLine,
}

impl Mouth for People {
    fn write(&mut self, said: &[u8]) {
        self.line.above(|| tell_now(said));
    }

    fn show(&mut self, line: Option<&str>) {
        match line {
            Some(line) => self.line.show(line.to_owned()),
            None => self.line.clear(),
        }
    }

    fn left_out(&self, lines: u64) -> String {
        not_shown(lines)
    }
}

fn not_shown(lines: u64) -> String {
    match lines {
        1 => "… 1 line was not shown\n".to_owned(),
        _ => format!("… {lines} lines were not shown\n"),
    }
}

/// From now on nobody waits for who reads: what cannot be kept for them is left out, and told when they go on. Results that
/// are `is_json` are told so in JSON. Where no thread is to be had everything stays as it is.
pub fn speak_without_waiting(is_json: bool) {
    let results = Outlet::start("stdout", Results { is_json });
    let people = Outlet::start("stderr", People { line: LiveLine::text() });
    if let (Ok(results), Ok(people)) = (results, people) {
        let _ = OUTLETS.set(Outlets { results, people });
        std::panic::set_hook(Box::new(tell_panic));
    }
}

/// Tells of a panic as everything else: a stream that nobody reads must not keep a thread from ending.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    tell(&format!("thread '{}' {panic}", thread.name().unwrap_or("<unnamed>")));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tell(&backtrace.to_string());
    }
    if let Some(outlets) = OUTLETS.get() {
        outlets.people.close(LAST_WORDS);
    }
}

/// Gives what was said last a moment to be read.
pub fn finish() {
    if let Some(outlets) = OUTLETS.get() {
        outlets.results.close(LAST_WORDS);
        outlets.people.close(LAST_WORDS);
    }
}

/// Writes a line of results.
pub fn print(line: &str) {
    if let Some(outlets) = OUTLETS.get() {
        return outlets.results.say(format!("{line}\n").into_bytes());
    }
    let mut out = io::stdout().lock();
    note(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Writes a line for people. That nobody reads it any more is not a reason to stop what is playing.
pub fn tell(line: &str) {
    pass_on(format!("{line}\n").as_bytes());
}

/// Passes on to people what another process has said.
pub fn pass_on(said: &[u8]) {
    match OUTLETS.get() {
        Some(outlets) => outlets.people.say(said.to_vec()),
        None => tell_now(said),
    }
}

/// Shows this as the live line of a session that plays; `None` takes it away.
pub fn show(line: Option<String>) {
    if let Some(outlets) = OUTLETS.get() {
        outlets.people.show(line);
    }
}

fn tell_now(said: &[u8]) {
    let _ = io::stderr().lock().write_all(said);
}

/// Takes what has become of something that was written to standard output.
pub fn note(written: io::Result<()>) {
    let Err(error) = written else { return };
    if FAILED.set(error.kind()).is_ok() && error.kind() != ErrorKind::BrokenPipe {
        tell(&format!("error: cannot write to standard output: {error}"));
    }
}

/// Whether results are lost that somebody wanted.
pub fn is_lost() -> bool {
    FAILED.get().is_some_and(|kind| *kind != ErrorKind::BrokenPipe)
}

/// Whether nothing that is printed arrives any more.
pub fn is_closed() -> bool {
    FAILED.get().is_some()
}
