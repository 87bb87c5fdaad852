//! Exit codes: the one table.

use crate::policy::Verdict;

/// Everything went well.
pub const FINE: u8 = 0;
/// A program is wrong, or failed while it ran.
pub const PROGRAM: u8 = 1;
/// The command line, or a file it names, is not usable.
pub const INPUT: u8 = 2;
/// The machine, or a part of Continuo itself, failed.
pub const ENVIRONMENT: u8 = 3;
/// Ended by a signal before the work was done.
pub const INTERRUPTED: u8 = 130;

/// The table as `--help` shows it.
pub const HELP: &str = "\
Exit codes:
  0    all is well (for play: also after Ctrl-C)
  1    a program is wrong, or failed while it ran
  2    the command line, or a file it names, is not usable
  3    the machine or a part of Continuo failed; see `continuo doctor`
  130  interrupted before the work was done, or while stopping";

/// The exit code for a session's verdict.
pub fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Fine => FINE,
        Verdict::Program => PROGRAM,
        Verdict::Input => INPUT,
        Verdict::Environment => ENVIRONMENT,
        Verdict::Interrupted => INTERRUPTED,
    }
}
