//! The control socket (DESIGN §12): how editors, scripts and the command line talk to a session. JSON-RPC 2.0, one message a
//! line; PROTOCOL.md is its description.
//!
//! The way of a request: [`Server`] listens and runs one thread ([`reactor`]); that reads a line ([`input`]), makes a [`Call`] of it
//! ([`protocol`]) and offers it to a [`Sink`], which puts it into the supervisor's event loop. The answer comes back through
//! [`ControlHandle::reply`], events through [`ControlHandle::publish`]; both only queue and wake the thread, which writes them
//! ([`output`]). Neither side ever waits for the other, and no client can make either side wait.
//!
//! What a client may cost is in [`limits`]. This module knows no session: what a verb does is decided elsewhere.

#![allow(dead_code, unused_imports, reason = "the protocol is one whole; the session uses of it what it needs")]

mod address;
mod calls;
mod client;
mod connection;
#[cfg(test)]
mod fuzz_target;
mod handle;
mod input;
pub mod limits;
mod output;
mod ownership;
pub mod protocol;
mod rate;
mod reactor;
mod server;

pub use self::address::{Address, BadSessionName, DEFAULT_SESSION, SessionName};
pub use self::client::{Client, ClientError, Notice};
pub use self::handle::{Call, ClientId, ControlHandle, Ticket};
pub use self::ownership::{ListenError, Ownership};
pub use self::server::{Identity, NotTaken, Server, Sink};
