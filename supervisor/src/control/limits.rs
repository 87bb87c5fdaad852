//! What a client may cost: every limit of the control socket, in one place. Exceeding one ends in a typed error for the
//! client that exceeded it, and in nothing for anybody else.
//!
//! Worst case together: 64 clients × (1 MiB half line + 4 MiB unread answers) + 16 MiB of requests being worked on.

use std::time::Duration;

/// Longest line in bytes, its newline not counted. Larger programs are pushed by path, not by text.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Deepest nesting of arrays and objects in a line. The deepest request of the protocol has four.
pub const MAX_JSON_DEPTH: usize = 32;

/// Longest request id that is a string, in bytes. Ids are kept while a request is worked on.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Longest message of an error reply, in bytes: errors quote what they were given, and must not echo a megabyte.
pub const MAX_ERROR_TEXT_BYTES: usize = 512;

/// Clients connected at a time. Far more than editors and terminals of one performer, few enough to serve in turn.
pub const MAX_CLIENTS: usize = 64;

/// Descriptors kept free for starting processes, mapping segments and opening files: a client whose descriptor would be
/// among the last so many that the process may have is told `busy`.
pub const RESERVED_DESCRIPTORS: u64 = 64;

/// How long a client may take from connecting to its `hello`.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Changes of one client (pushes and the like) that may wait for their answer. They can wait long: for a compile, for a
/// boundary. One more is told `busy`.
pub const MAX_CHANGES_PER_CLIENT: usize = 32;

/// Other requests of one client that may wait for their answer. They are answered at once, so no further request is read
/// until one of them is.
pub const MAX_QUICK_CALLS_PER_CLIENT: usize = 32;

/// Requests of all clients that may wait for their answer. The supervisor's queue for them never needs more room than
/// [`CALL_QUEUE`].
pub const MAX_CALLS: usize = 256;

/// Further requests accepted beyond that when they are urgent (`panic`, `shutdown`).
pub const URGENT_CALLS: usize = 32;

/// Room that the supervisor's queue needs so that it is never full.
pub const CALL_QUEUE: usize = MAX_CALLS + URGENT_CALLS;

/// Bytes of all requests that wait for their answer, as received: pushed texts, mostly.
pub const MAX_CALL_BYTES: usize = 16 << 20;

/// Request units a client may use per second on average. A request costs one unit, and another for each
/// [`BYTES_PER_UNIT`] of its line. A client that sends more is read more slowly; nothing is lost.
pub const UNITS_PER_SECOND: u32 = 1_000;

/// Units a client may use at once after a pause.
pub const UNIT_BURST: u32 = 500;

/// Bytes of a line that cost a further unit.
pub const BYTES_PER_UNIT: usize = 16 << 10;

/// Lines in a row that are no requests (garbage, not JSON, no JSON-RPC) before the connection is closed.
pub const MAX_MALFORMED_IN_A_ROW: u32 = 64;

/// Events that may wait to be read by one client. A subscriber further behind is told `lagged` and closed.
pub const EVENT_QUEUE: usize = 256;

/// Bytes of replies and events together that may wait to be read by one client; beyond, it is closed.
pub const MAX_UNREAD_BYTES: usize = 4 << 20;

/// Unread bytes from which on no further request of a client is read.
pub const UNREAD_HIGH_WATER_BYTES: usize = 256 << 10;

/// Longest reply or event in bytes. Longer replies become the error `too_large`, longer events are dropped.
pub const MAX_REPLY_BYTES: usize = 2 << 20;

/// How long a client that is being closed may take to read its last words.
pub const CLOSING_DEADLINE: Duration = Duration::from_secs(1);

/// How long a client may leave its answers unread before it is taken for dead.
pub const UNREAD_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes read from one client before the next one's turn.
pub const READ_CHUNK_BYTES: usize = 64 << 10;

/// Requests of one client handled before the next one's turn.
pub const LINES_PER_TURN: usize = 32;

/// Connections accepted before the clients' turn.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Events on their way from the supervisor to the control thread. More only wait if that thread gets no processor time.
pub const EVENTS_ON_THE_WAY: usize = 1_024;

/// How long accepting pauses when no descriptor is left even for saying `busy`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
