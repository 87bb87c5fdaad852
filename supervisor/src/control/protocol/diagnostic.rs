//! Diagnostics and faults as they are on the wire: the same objects that `check --json` prints, camelCase.

use serde::{Deserialize, Serialize};

/// One thing that is wrong with a source text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Diagnostic {
    pub stage: Stage,
    /// Code within the stage's family (LANGUAGE §18).
    pub code: i32,
    /// Line of the file, from 1.
    pub line: Option<u32>,
    /// Column of the first character concerned, from 1.
    pub column: Option<u32>,
    /// Length of what is concerned, in characters.
    pub length: Option<u32>,
    /// Line inside the block; its opener is 0.
    pub line_in_block: Option<u32>,
    pub block: Option<Block>,
    /// First token of the line.
    pub instruction: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The included library function it is in.
    pub include: Option<String>,
}

/// The family a code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Stage {
    Project,
    Syntax,
    Compiler,
}

/// A block of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Block {
    /// `module`, `function`, `constants`, `prototype`, …
    pub kind: String,
    pub id: String,
}

impl From<&ipc::diagnostic::BlockName> for Block {
    fn from(name: &ipc::diagnostic::BlockName) -> Self {
        Self { kind: name.kind.clone(), id: name.id.clone() }
    }
}

impl From<&ipc::diagnostic::Diagnostic> for Diagnostic {
    fn from(found: &ipc::diagnostic::Diagnostic) -> Self {
        Self {
            stage: match found.stage {
                ipc::diagnostic::Stage::Project => Stage::Project,
                ipc::diagnostic::Stage::Syntax => Stage::Syntax,
                ipc::diagnostic::Stage::Compiler => Stage::Compiler,
            },
            code: found.code,
            line: found.line,
            column: found.column,
            length: found.length,
            line_in_block: found.line_in_block,
            block: found.block.as_ref().map(Block::from),
            instruction: found.instruction.clone(),
            message: found.message.clone(),
            hint: found.hint.clone(),
            include: found.include.clone(),
        }
    }
}

/// Something that went wrong while a program ran. Repeats are batched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fault {
    pub kind: FaultKind,
    /// The same in a sentence.
    pub explanation: String,
    /// Tick in which it first happened.
    pub tick: u64,
    pub block: Option<Block>,
    /// Line of the file, from 1.
    pub line: Option<u32>,
    /// How many more ticks failed in the same way since the last report.
    pub repeats: u64,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum FaultKind {
    DivisionByZero,
    IntegerOverflow,
    OutOfBounds,
    StackOverflow,
    Runaway,
    DeadlineExceeded,
    Trap,
    NonFinite,
}

impl From<ipc::fault::FaultKind> for FaultKind {
    fn from(kind: ipc::fault::FaultKind) -> Self {
        use ipc::fault::FaultKind as Found;
        match kind {
            Found::DivisionByZero => Self::DivisionByZero,
            Found::IntegerOverflow => Self::IntegerOverflow,
            Found::OutOfBounds => Self::OutOfBounds,
            Found::StackOverflow => Self::StackOverflow,
            Found::Runaway => Self::Runaway,
            Found::DeadlineExceeded => Self::DeadlineExceeded,
            Found::Trap => Self::Trap,
            Found::NonFinite => Self::NonFinite,
        }
    }
}

impl From<&ipc::fault::Fault> for Fault {
    fn from(fault: &ipc::fault::Fault) -> Self {
        Self {
            kind: fault.kind.into(),
            explanation: fault.kind.explanation().to_owned(),
            tick: fault.tick,
            block: fault.block.as_ref().map(Block::from),
            line: fault.line,
            repeats: fault.repeats,
        }
    }
}
