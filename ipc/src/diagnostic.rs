//! Diagnostics as data: what the worker found wrong with a source text, for people and for scripts.

use serde::{Deserialize, Serialize};

/// The family a diagnostic code belongs to. Syntax and compiler codes are two separate number spaces (LANGUAGE §18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The project file could not be split into blocks; code −1.
    Project,
    /// A line could not be read.
    Syntax,
    /// The program does not make sense.
    Compiler,
}

/// One thing that is wrong with a source text. Serialised as it is by `check --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub stage: Stage,
    /// Code within the stage's family; −1 for project errors. Codes from 1000 are Continuo's own.
    pub code: i32,
    /// 1-based line of the file, where the diagnostic has a place in it.
    pub line: Option<u32>,
    /// 1-based column of the first character concerned.
    pub column: Option<u32>,
    /// Length of what is concerned, in characters.
    pub length: Option<u32>,
    /// 0-based line inside the block (opener = 0).
    pub line_in_block: Option<u32>,
    /// The block's kind and id, such as `module` and `osc`.
    pub block: Option<BlockName>,
    /// First token of the line.
    pub instruction: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in an included library function it is, when it is there: the include's id and the function.
    pub include: Option<String>,
}

/// Names the block a diagnostic or a fault is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockName {
    /// `module`, `function`, `constants`, `prototype`, …
    pub kind: String,
    pub id: String,
}
