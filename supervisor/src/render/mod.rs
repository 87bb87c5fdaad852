//! How the supervisor speaks: diagnostics and faults with the source line, reports as sentences for people and as JSON for
//! scripts, one live line on a terminal. Nothing here decides anything.

pub mod excerpt;
pub mod json;
pub mod meter;
mod output;
pub mod sentences;

use std::io::{IsTerminal, Write};

pub use output::{is_closed, is_lost, note, print};

/// Whether to use colours on standard error: it is a terminal, and the user has not declined (<https://no-color.org>).
pub fn has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line for people. That nobody reads it any more is not a reason to stop what is playing.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
