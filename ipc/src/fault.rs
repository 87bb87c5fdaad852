//! Faults of running programs as data: what went wrong, in which tick, at which line.

use serde::{Deserialize, Serialize};

use crate::diagnostic::BlockName;

/// What went wrong while a program ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    DivisionByZero,
    IntegerOverflow,
    OutOfBounds,
    StackOverflow,
    /// The tick used up its work budget: a loop that does not end soon enough.
    Runaway,
    /// The tick took so much processor time that its output came too late.
    DeadlineExceeded,
    /// Any other trap.
    Trap,
    /// A sample that is not a number or infinite was about to leave the host.
    NonFinite,
}

impl FaultKind {
    /// One sentence for a performer.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::DivisionByZero => "an integer was divided by zero",
            Self::IntegerOverflow => "the smallest integer was divided by -1",
            Self::OutOfBounds => "a pointer pointed outside the program's memory",
            Self::StackOverflow => "functions called each other too deeply",
            Self::Runaway => "the tick did more work than its budget allows (a loop or calls that run too long)",
            Self::DeadlineExceeded => "the tick took longer than it may",
            Self::Trap => "the program trapped",
            Self::NonFinite => "a sample was not a finite number; it was replaced by silence",
        }
    }
}

/// One fault of a running program. Repeats are batched into `repeats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    /// Tick in which it first happened.
    pub tick: u64,
    /// Block the line is in, when the source map knows it.
    pub block: Option<BlockName>,
    /// 1-based line of the file, when the source map knows it.
    pub line: Option<u32>,
    /// How many more ticks failed in the same way since the last report.
    pub repeats: u64,
}
