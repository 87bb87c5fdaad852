//! Standard output: the one place that writes results.
//!
//! Every line is written and flushed at once, and the first line that could not be written is remembered. It is told at once,
//! and is the exit code of the command at its end; it stops nothing that plays. A reader that has gone (`| head -1`) has got
//! what it wanted: that is told to nobody.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use super::tell;

/// The kind of the first error.
static FAILED: OnceLock<ErrorKind> = OnceLock::new();

/// Writes a line of results.
pub fn print(line: &str) {
    let mut out = io::stdout().lock();
    note(writeln!(out, "{line}").and_then(|()| out.flush()));
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
