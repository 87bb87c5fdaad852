//! The control socket: listens under a session's name and runs the control thread until it is dropped.

use std::io;
use std::thread::{self, JoinHandle};

use super::address::Address;
use super::handle::{Call, ControlHandle, Shared};
use super::ownership::{ListenError, Ownership};
use super::reactor::Reactor;

/// Stack of the control thread in bytes. It reads JSON of bounded depth, no more.
const STACK_BYTES: usize = 512 << 10;

/// What the supervisor says about itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Such as `0.1.0`.
    pub version: String,
    /// Distinguishes builds of one version.
    pub build: String,
}

/// Why a call did not get into the supervisor's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The queue is full; a queue of [`super::limits::CALL_QUEUE`] never is.
    Full,
    /// The session is ending.
    Closed,
}

/// Where requests go: a door into the supervisor's event loop. Called on the control thread; must not wait.
pub trait Sink: Send + 'static {
    fn offer(&mut self, call: Call) -> Result<(), NotTaken>;
}

impl<F: FnMut(Call) -> Result<(), NotTaken> + Send + 'static> Sink for F {
    fn offer(&mut self, call: Call) -> Result<(), NotTaken> {
        self(call)
    }
}

/// A control socket that listens. Dropping it sends what is still to be sent, ends the thread, and removes the socket.
#[derive(Debug)]
pub struct Server {
    handle: ControlHandle,
    thread: Option<JoinHandle<()>>,
    /// Dropped last: the name is free only when nobody answers under it any more.
    _ownership: Ownership,
}

impl Server {
    /// Takes the session's name and listens. Fails with [`ListenError::Owned`] if another supervisor has it.
    pub fn listen(address: Address, identity: Identity, sink: impl Sink) -> Result<Self, ListenError> {
        let session = address.session.clone();
        let mut ownership = Ownership::take(address)?;
        let listener = ownership.listen()?;
        let shared = Shared::new().map_err(ListenError::Thread)?;
        let mut reactor = Reactor::new(listener, session, identity, shared.clone(), sink).map_err(ListenError::Thread)?;
        let thread = spawn(move || reactor.run()).map_err(ListenError::Thread)?;
        Ok(Self { handle: ControlHandle { shared }, thread: Some(thread), _ownership: ownership })
    }

    /// How to answer and to publish.
    pub fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("control".to_owned()).stack_size(STACK_BYTES).spawn(work)
}
