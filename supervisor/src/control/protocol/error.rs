//! Errors of the protocol: one table of codes and names, and the error object of a reply.

use serde::{Deserialize, Serialize};

use super::change::ChangeReport;
use super::diagnostic::Diagnostic;
use crate::control::limits::MAX_ERROR_TEXT_BYTES;

macro_rules! error_codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $code:literal, $name:literal;)*) => {
        /// What went wrong with a request. On the wire: `code` is the number, `data.name` the name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            pub const ALL: &'static [ErrorCode] = &[$(Self::$variant,)*];

            /// The number on the wire. Negative ones are JSON-RPC's or concern the connection, positive ones the session.
            pub fn number(self) -> i32 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning),+).trim_ascii(),)* }
            }
        }
    };
}

error_codes! {
    /// The line is not UTF-8 or not JSON.
    ParseError = -32700, "parse_error";
    /// The line is JSON, but no request of JSON-RPC 2.0.
    InvalidRequest = -32600, "invalid_request";
    /// There is no such verb.
    UnknownMethod = -32601, "unknown_method";
    /// A parameter is missing, unknown or not what it should be; `data.field` names it.
    InvalidParams = -32602, "invalid_params";
    /// The supervisor is at fault; its log says more.
    Internal = -32603, "internal";
    /// Too many clients, or too many requests wait for their answer; try again later.
    Busy = -32001, "busy";
    /// A line or a reply exceeds its limit. After a line that does, the connection is closed.
    TooLarge = -32002, "too_large";
    /// The line nests deeper than 32 levels.
    TooDeep = -32003, "too_deep";
    /// The first request must be `hello`. The connection is closed.
    HelloFirst = -32004, "hello_first";
    /// The supervisor speaks another protocol version. The connection is closed.
    ProtocolMismatch = -32005, "protocol_mismatch";
    /// No `hello` came in time. The connection is closed.
    HandshakeTimeout = -32006, "handshake_timeout";
    /// Line after line was no request. The connection is closed.
    Garbage = -32007, "garbage";
    /// The session is ending.
    ShuttingDown = -32008, "shutting_down";
    /// There is no runtime of this name; `data.known` lists those there are.
    UnknownRuntime = 1, "unknown_runtime";
    /// There is no such memory item; `data.known` lists similar ones.
    UnknownItem = 2, "unknown_item";
    /// There is no such change, or it is no longer waiting.
    UnknownChange = 3, "unknown_change";
    /// The runtime has no such revision, or the abbreviation is ambiguous.
    UnknownRevision = 4, "unknown_revision";
    /// The change would lose state: `data.change` says which. `confirm` or `cancel` it.
    NeedsAck = 5, "needs_ack";
    /// The runtime has changed since the revision or generation that the request names.
    StaleGeneration = 6, "stale_generation";
    /// The program is wrong: `data.diagnostics`, the first error first. What plays goes on playing.
    CompileFailed = 7, "compile_failed";
    /// This revision failed while it ran. It is refused until its text changes, or with `force`.
    Refused = 8, "refused";
    /// The runtime is held after repeated failures. `restart` it or push another revision.
    Held = 9, "held";
    /// The program has no such boundary.
    UnknownBoundary = 10, "unknown_boundary";
    /// The change was prepared but did not take effect; `message` says why. What played goes on playing.
    NotApplied = 11, "not_applied";
    /// A newer change of the same runtime took this one's place.
    Superseded = 12, "superseded";
    /// A file could not be read or written; `message` names it.
    FileFailed = 13, "file_failed";
    /// The compiler-worker ended before it answered; the request can be repeated.
    CompilerRestarted = 14, "compiler_restarted";
    /// The machine lacks something the request needs (shared memory, a process, a device).
    Exhausted = 15, "exhausted";
    /// The request does not fit the session's or the runtime's state; `message` says how.
    WrongState = 16, "wrong_state";
}

/// The error object of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorReply {
    /// [`ErrorCode::number`].
    pub code: i32,
    /// What happened and what to do, for people.
    pub message: String,
    pub data: Box<ErrorData>,
}

/// What scripts need to know about an error. Keys that do not apply are null or empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorData {
    pub name: ErrorCode,
    /// Which part of the request is wrong, such as `params.boundary`.
    pub field: Option<String>,
    /// Names there are, where the request names one that there is not; or the protocol versions that are spoken.
    pub known: Vec<String>,
    /// What is wrong with the program.
    pub diagnostics: Vec<Diagnostic>,
    /// The change that waits for an acknowledgement.
    pub change: Option<ChangeReport>,
}

impl ErrorReply {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let data = ErrorData { name: code, field: None, known: Vec::new(), diagnostics: Vec::new(), change: None };
        Self { code: code.number(), message: shortened(message.into()), data: Box::new(data) }
    }

    /// Names the part of the request that is wrong.
    pub fn in_field(mut self, field: impl Into<String>) -> Self {
        self.data.field = Some(shortened(field.into()));
        self
    }

    /// Lists what could have been named.
    pub fn with_known(mut self, known: Vec<String>) -> Self {
        self.data.known = known;
        self
    }

    /// A program that does not compile.
    pub fn compile_failed(diagnostics: &[ipc::diagnostic::Diagnostic]) -> Self {
        let message = match diagnostics.first() {
            Some(first) => format!("{}{}", first.line.map(|line| format!("line {line}: ")).unwrap_or_default(), first.message),
            None => "the program does not compile".to_owned(),
        };
        let mut reply = Self::new(ErrorCode::CompileFailed, message);
        reply.data.diagnostics = diagnostics.iter().map(Diagnostic::from).collect();
        reply
    }

    /// A change that waits for its acknowledgement.
    pub fn needs_ack(change: ChangeReport) -> Self {
        let (number, lost) = (change.change.0, change.reset.len() + change.discarded.len());
        let message = match (lost, change.reasons.first()) {
            (0, Some(reason)) => format!("change {number} loses no state, but {}: confirm or cancel it", reason.text),
            (0, None) => format!("change {number} waits for you: confirm or cancel it"),
            (1, _) => format!("change {number} would lose the state of 1 item: confirm or cancel it"),
            (lost, _) => format!("change {number} would lose the state of {lost} items: confirm or cancel it"),
        };
        let mut reply = Self::new(ErrorCode::NeedsAck, message);
        reply.data.change = Some(change);
        reply
    }

    pub fn name(&self) -> ErrorCode {
        self.data.name
    }
}

/// Cuts a text at [`MAX_ERROR_TEXT_BYTES`]: messages quote what they were given.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_ERROR_TEXT_BYTES {
        let mut end = MAX_ERROR_TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_number_and_name() {
        let numbers: BTreeSet<i32> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        let names: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!((numbers.len(), names.len()), (ErrorCode::ALL.len(), ErrorCode::ALL.len()));
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert!(code.meaning().ends_with('.'), "{}", code.name());
        }
    }

    #[test]
    fn messages_do_not_echo_megabytes() {
        let reply = ErrorReply::new(ErrorCode::InvalidParams, "é".repeat(1 << 20)).in_field("x".repeat(1 << 20));
        assert!(serde_json::to_string(&reply).unwrap().len() < 2_000);
    }
}
