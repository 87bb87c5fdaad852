//! How the supervisor speaks: diagnostics and faults with the source line, reports as sentences for people and as JSON for
//! scripts, one live line on a terminal. Nothing here decides anything.

pub mod excerpt;
pub mod json;
pub mod meter;
mod outlet;
mod output;
pub mod sentences;

use std::io::IsTerminal;

pub use output::{finish, is_closed, is_lost, note, pass_on, print, show, speak_without_waiting, tell};

/// Whether to use colours on standard error: it is a terminal, and the user has not declined (<https://no-color.org>).
pub fn has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
