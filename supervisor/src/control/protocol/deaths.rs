//! What a process died of: the answer to `whyDied`.

use serde::{Deserialize, Serialize};

use super::status::ProcessRole;
use super::values::{RevisionName, RuntimeName};

macro_rules! deaths {
    ($($item:item)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        $item
    )*};
}

deaths! {
    /// Answer to `whyDied`.
    pub struct Deaths {
        /// The runtime that was asked about.
        pub runtime: Option<RuntimeName>,
        /// The newest first.
        pub deaths: Vec<Death>,
    }

    /// The death of a process.
    pub struct Death {
        pub role: ProcessRole,
        /// The runtime it executed.
        pub runtime: Option<RuntimeName>,
        pub pid: u32,
        /// When, in milliseconds since 1970.
        pub at_ms: u64,
        /// The cause as data: `exit`, `signal`, `panic`, `oom`, `sandbox` or `stack`.
        pub kind: DeathKind,
        /// The cause in words.
        pub cause: String,
        /// The signal that ended it, such as `SIGSEGV`.
        pub signal: Option<String>,
        /// What it returned, if it ended by itself.
        pub exit_status: Option<i32>,
        /// The system call it was not allowed to make.
        pub system_call: Option<String>,
        /// What it was doing.
        pub doing: String,
        /// The tick it was executing, or the last one it did.
        pub tick: Option<u64>,
        /// The revision of that tick.
        pub revision: Option<RevisionName>,
        /// Name of the thread that was hit.
        pub thread: Option<String>,
        /// The address it was about, in hexadecimal digits.
        pub address: Option<String>,
        /// Where that thread came from, the innermost call first.
        pub backtrace: Vec<String>,
        /// The last that it said on its error stream.
        pub stderr: String,
    }
}

/// What kind of death it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum DeathKind {
    /// It ended by itself.
    Exit,
    /// A signal ended it.
    Signal,
    /// It found a mistake of its own.
    Panic,
    /// There was no memory left.
    Oom,
    /// It did what its confinement forbids.
    Sandbox,
    /// Its stack was exhausted.
    Stack,
}
