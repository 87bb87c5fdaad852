//! The protocol of the control socket: JSON-RPC 2.0, one message a line. PROTOCOL.md describes it for people,
//! `protocol.schema.json` for machines; a test keeps both equal to the types here.
//!
//! Pure data and pure functions: nothing here reads a socket or knows a session. Reading a line allocates in proportion
//! to what the request legitimately holds, never panics, and names what is wrong.

mod answers;
mod change;
mod checks;
mod deaths;
mod diagnostic;
mod error;
mod event;
mod params;
mod parse;
#[cfg(test)]
mod schema;
mod status;
mod values;
mod verbs;

pub use self::answers::*;
pub use self::change::*;
pub use self::checks::{MAX_GAIN, Unfit};
pub use self::deaths::*;
pub use self::diagnostic::*;
pub use self::error::*;
pub use self::event::*;
pub use self::params::*;
pub use self::parse::*;
pub use self::status::*;
pub use self::values::*;
pub use self::verbs::*;

use serde::{Deserialize, Serialize};

/// Version of the protocol. Another one is refused at `hello`; adding verbs, optional parameters, keys of answers or event
/// kinds does not change it.
pub const PROTOCOL_VERSION: u32 = 1;

/// The id of a request: an integer, or a string of at most 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RequestId {
    Number(i64),
    Text(String),
}

/// A request that has been read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: RequestId,
    pub verb: Verb,
}

/// A request as a client writes it.
#[derive(Serialize)]
struct RequestLine<'a, P> {
    jsonrpc: &'static str,
    id: i64,
    method: &'static str,
    params: &'a P,
}

/// A reply as the server writes it: exactly one of `result` and `error`.
#[derive(Serialize)]
struct ReplyLine<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorReply>,
}

/// A notification as the server writes it.
#[derive(Serialize)]
struct NotificationLine<'a, P> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a P,
}

/// The method of the notification that carries an [`Event`].
pub const EVENT_METHOD: &str = "event";

/// The method of the notification that precedes the end of a subscriber's connection that did not read.
pub const LAGGED_METHOD: &str = "lagged";

/// Parameters of the notification `lagged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lagged {
    /// Events that were not delivered.
    pub dropped: u64,
}

/// A request's line, with its newline.
pub fn request_line<P: Params>(id: i64, params: &P) -> Vec<u8> {
    line(&RequestLine { jsonrpc: "2.0", id, method: P::METHOD, params })
}

/// A reply's line, with its newline.
pub fn reply_line(id: Option<&RequestId>, outcome: &Result<Answer, ErrorReply>) -> Vec<u8> {
    line(&ReplyLine { jsonrpc: "2.0", id, result: outcome.as_ref().ok(), error: outcome.as_ref().err() })
}

/// The line of an event, with its newline.
pub fn event_line(event: &Event) -> Vec<u8> {
    line(&NotificationLine { jsonrpc: "2.0", method: EVENT_METHOD, params: event })
}

/// The line that tells a subscriber that it did not read.
pub fn lagged_line(dropped: u64) -> Vec<u8> {
    line(&NotificationLine { jsonrpc: "2.0", method: LAGGED_METHOD, params: &Lagged { dropped } })
}

fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // Cannot fail: no type of the protocol has a map with keys that are not strings. Were it to, an empty line would
    // be ignored by every reader.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
