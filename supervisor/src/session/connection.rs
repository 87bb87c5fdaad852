//! The threads around one child: one waits for it at the doorway and then reads what it says, one writes what it is told,
//! one waits for its death. So nothing a child does or omits can make the supervisor's main thread wait.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use ipc::channel::{self, ChannelError, Doorway, Hello};
use ipc::message::{DeviceRequest, HostRequest, WorkerRequest};
use serde::Serialize;

use super::process::Process;
use crate::policy::{Child, Event};

/// Messages to a child that may wait to be written. A child that leaves more unread is not listening.
const OUTBOX_MESSAGES: usize = 64;

/// Stack in bytes of these threads: they decode messages, no more.
const STACK_BYTES: usize = 256 << 10;

/// What the threads send to the main thread.
pub enum Incoming {
    /// Something happened.
    Event(Event),
    /// A client has asked for something: look into the queue of calls.
    Called,
    /// A child came in; this is how to write to it.
    Joined { child: Child, outbox: Outbox },
    /// A file of a program has been read for the journal.
    Noted(crate::policy::log::LogEntry),
    /// What is heard, and recorded, has something to tell.
    Heard(super::heard::News),
}

/// A message to some child.
#[allow(clippy::large_enum_variant, reason = "there are some dozens of them at a time, and each is moved twice")]
pub enum Letter {
    Worker(WorkerRequest),
    Host(HostRequest),
    Device(DeviceRequest),
}

impl Letter {
    fn send(&self, sender: &channel::Sender) -> Result<(), ChannelError> {
        fn one<T: Serialize>(sender: &channel::Sender, message: &T) -> Result<(), ChannelError> {
            sender.send(message)
        }
        match self {
            Self::Worker(request) => one(sender, request),
            Self::Host(request) => one(sender, request),
            Self::Device(request) => one(sender, request),
        }
    }
}

/// Where messages to a connected child go. Dropping it closes the channel once all of them are written.
pub struct Outbox {
    letters: SyncSender<Letter>,
}

/// The child does not read what it is sent.
#[derive(Debug, thiserror::Error)]
#[error("it does not read what it is sent ({OUTBOX_MESSAGES} messages are waiting)")]
pub struct NotReading;

impl Outbox {
    /// Queues a message; never blocks. That the child is gone is not an error here: its death is reported elsewhere.
    pub fn post(&self, letter: Letter) -> Result<(), NotReading> {
        match self.letters.try_send(letter) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(NotReading),
        }
    }
}

/// Starts the thread that tells of the process's death.
pub fn watch(child: Child, process: &Process, events: SyncSender<Incoming>) -> std::io::Result<()> {
    let death = process.death();
    spawn("watch", move || {
        let end = death.wait();
        let _ = events.send(Incoming::Event(Event::Died { child, end, tick: None }));
    })
}

/// Starts the thread that waits for the child at the doorway, then reads what it says until the channel closes.
pub fn meet(child: Child, doorway: Doorway, hello: Hello, events: SyncSender<Incoming>) -> std::io::Result<()> {
    spawn("read", move || {
        let event = match doorway.accept(&hello).and_then(|(sender, receiver)| {
            let (letters, outgoing) = sync_channel(OUTBOX_MESSAGES);
            let to_main = events.clone();
            let os = |error: std::io::Error| ChannelError::Os { operation: "start a thread for", reason: error.to_string() };
            spawn("write", move || write(child, &sender, &outgoing, &to_main)).map_err(os)?;
            let _ = events.send(Incoming::Joined { child, outbox: Outbox { letters } });
            Ok(receiver)
        }) {
            Ok(receiver) => match read(child, &receiver, &events) {
                ChannelError::Closed => Event::ChannelClosed { child },
                other => Event::ChannelBroken { child, reason: other.to_string() },
            },
            // It has died, most likely, of what the kernel will say.
            Err(ChannelError::Closed) => Event::ChannelClosed { child },
            Err(error) => Event::NotJoined { child, reason: error.to_string() },
        };
        let _ = events.send(Incoming::Event(event));
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work).map(drop)
}

/// Passes on what the child says; returns why that came to an end.
fn read(child: Child, receiver: &channel::Receiver, events: &SyncSender<Incoming>) -> ChannelError {
    loop {
        let event = match child {
            Child::Worker(generation) => receiver.receive().map(|reply| Event::WorkerSaid { generation, reply }),
            Child::Device(generation) => receiver.receive().map(|reply| Event::DeviceSaid { generation, reply }),
            Child::Host(host) => receiver.receive().map(|reply| Event::HostSaid { host, reply }),
        };
        match event.map(|event| events.send(Incoming::Event(event)).is_ok()) {
            Ok(true) => {}
            Ok(false) => return ChannelError::Closed, // The session is over.
            Err(error) => return error,
        }
    }
}

fn write(child: Child, sender: &channel::Sender, outgoing: &Receiver<Letter>, events: &SyncSender<Incoming>) {
    for letter in outgoing {
        match letter.send(sender) {
            Ok(()) => {}
            // The reading side notices it too, and reports it.
            Err(ChannelError::Closed) => return,
            Err(error) => {
                let _ = events.send(Incoming::Event(Event::ChannelBroken { child, reason: error.to_string() }));
                return;
            }
        }
    }
}
