//! The supervisor's side of the control socket: where replies and events go in, without ever waiting.
//!
//! Shared between the supervisor's event loop (which puts in) and the control thread (which takes out). The lock is held for
//! moving a value in or a queue out, nothing else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::limits::EVENTS_ON_THE_WAY;
use super::protocol::{Answer, ControlStatus, ErrorReply, Event, Topic, Topics, Verb};

/// One connection. Never used twice within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// One request that waits for its answer. Never used twice within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A request on its way to the supervisor. Every one is to be answered with [`ControlHandle::reply`], whatever becomes of its
/// client: until then it counts against the limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub ticket: Ticket,
    pub client: ClientId,
    pub verb: Verb,
}

/// Something for the control thread to send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Reply { ticket: Ticket, outcome: Box<Result<Answer, ErrorReply>> },
    Event(Box<Event>),
}

/// What the control thread finds when it is woken.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub queue: VecDeque<Outgoing>,
    events: usize,
    /// Events that found no room.
    pub skipped: u64,
}

/// What both sides hold.
#[derive(Debug)]
pub(super) struct Shared {
    outbox: Mutex<Outbox>,
    wake: OwnedFd,
    is_stopping: AtomicBool,
    /// Topics that anybody has subscribed to.
    topics: AtomicU8,
    pub counters: Counters,
}

impl Shared {
    pub fn new() -> std::io::Result<Arc<Self>> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self {
            outbox: Mutex::default(),
            wake,
            is_stopping: AtomicBool::new(false),
            topics: AtomicU8::new(0),
            counters: Counters::default(),
        }))
    }

    pub fn wake_descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub fn wake(&self) {
        // The only possible failure is a counter that is full, and then the other side is being woken already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Takes everything that waits to be sent.
    pub fn take(&self) -> Outbox {
        // Before the queue is emptied: what comes in afterwards wakes again.
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        std::mem::take(&mut *self.outbox())
    }

    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub fn set_topics(&self, topics: Topics) {
        self.topics.store(topics.bits(), Ordering::Relaxed);
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // A queue is whole between any two of its operations, so a panic elsewhere cannot have damaged it.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the supervisor talks to its clients. Cheap to clone; no call of it waits.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    pub(super) shared: Arc<Shared>,
}

impl ControlHandle {
    /// Answers a request. If its client is gone, nothing happens. Only the first answer counts.
    pub fn reply(&self, ticket: Ticket, outcome: Result<Answer, ErrorReply>) {
        self.put(Outgoing::Reply { ticket, outcome: Box::new(outcome) });
    }

    /// Tells an event to everybody who has subscribed to its topic.
    pub fn publish(&self, event: Event) {
        if self.has_subscribers(event.topic()) {
            self.put(Outgoing::Event(Box::new(event)));
        }
    }

    /// Whether publishing on this topic reaches anybody; saves making events that do not.
    pub fn has_subscribers(&self, topic: Topic) -> bool {
        Topics::from_bits(self.shared.topics.load(Ordering::Relaxed)).contains(topic)
    }

    /// What the control socket has seen so far.
    pub fn status(&self) -> ControlStatus {
        self.shared.counters.snapshot()
    }

    fn put(&self, outgoing: Outgoing) {
        let mut outbox = self.shared.outbox();
        if matches!(outgoing, Outgoing::Event(_)) {
            if outbox.events >= EVENTS_ON_THE_WAY {
                outbox.skipped += 1;
                return;
            }
            outbox.events += 1;
        }
        let was_empty = outbox.queue.is_empty();
        outbox.queue.push_back(outgoing);
        drop(outbox);
        if was_empty {
            self.shared.wake();
        }
    }
}

/// Counts since the session began; the source of [`ControlStatus`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub clients: AtomicU64,
    pub calls_waiting: AtomicU64,
    pub accepted: AtomicU64,
    pub refused_peers: AtomicU64,
    pub refused_busy: AtomicU64,
    pub requests: AtomicU64,
    pub malformed: AtomicU64,
    pub too_large: AtomicU64,
    pub lagged: AtomicU64,
    pub replies_dropped: AtomicU64,
}

impl Counters {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self) -> ControlStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ControlStatus {
            clients: read(&self.clients),
            calls_waiting: read(&self.calls_waiting),
            accepted: read(&self.accepted),
            refused_peers: read(&self.refused_peers),
            refused_busy: read(&self.refused_busy),
            requests: read(&self.requests),
            malformed: read(&self.malformed),
            too_large: read(&self.too_large),
            lagged: read(&self.lagged),
            replies_dropped: read(&self.replies_dropped),
        }
    }
}
