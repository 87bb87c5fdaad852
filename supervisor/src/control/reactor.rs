//! The control thread: one loop around poll that accepts clients, reads their requests, hands them to the supervisor's
//! event loop, and writes replies and events back.
//!
//! Its rules: never wait for anything but poll; every client gets its turn, and nobody more than a turn's worth of work; what a client
//! does wrong ends in that client's connection.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, getrlimit, getuid};

use super::address::SessionName;
use super::calls::{Applicant, Calls};
use super::connection::{Connection, Received, Stage};
use super::handle::{Call, ClientId, Counters, Outgoing, Shared, Ticket};
use super::limits::{
    ACCEPT_PAUSE, ACCEPTS_PER_TURN, EVENT_QUEUE, LINES_PER_TURN, MAX_CHANGES_PER_CLIENT, MAX_CLIENTS, MAX_JSON_DEPTH, MAX_LINE_BYTES,
    MAX_MALFORMED_IN_A_ROW, MAX_REPLY_BYTES, READ_CHUNK_BYTES, RESERVED_DESCRIPTORS, UNITS_PER_SECOND,
};
use super::protocol::{
    Answer, ClientLimits, ErrorCode, ErrorReply, Event, Hello, PROTOCOL_VERSION, Request, RequestId, Subscribe, Subscription, Topics,
    Unsubscribe, Verb, Welcome, event_line, reply_line,
};
use super::server::{Identity, NotTaken, Sink};

/// Everything the control thread owns.
pub(super) struct Reactor<S> {
    listener: UnixListener,
    /// Given up for a moment when there are no descriptors left, so that somebody can be told so.
    spare: Option<File>,
    session: SessionName,
    identity: Identity,
    shared: Arc<Shared>,
    sink: S,
    clients: BTreeMap<ClientId, Connection>,
    last_client: u64,
    calls: Calls,
    /// No connections are accepted before.
    accepts_from: Option<Instant>,
    scratch: Box<[u8]>,
}

/// What poll has found.
struct Found {
    is_knocking: bool,
    clients: Vec<(ClientId, PollFlags)>,
}

impl<S: Sink> Reactor<S> {
    pub fn new(listener: UnixListener, session: SessionName, identity: Identity, shared: Arc<Shared>, sink: S) -> io::Result<Self> {
        Ok(Self {
            listener,
            spare: Some(spare_descriptor()?),
            session,
            identity,
            shared,
            sink,
            clients: BTreeMap::new(),
            last_client: 0,
            calls: Calls::default(),
            accepts_from: None,
            scratch: vec![0; READ_CHUNK_BYTES].into_boxed_slice(),
        })
    }

    /// Works until it is told to stop; then sends once more what there is to send.
    pub fn run(&mut self) {
        while !self.shared.is_stopping() {
            let found = self.wait();
            let now = Instant::now();
            self.deliver(now);
            if found.is_knocking {
                self.accept(now);
            }
            for (client, flags) in found.clients {
                self.attend(client, flags, now);
            }
            self.tidy(now);
        }
        let now = Instant::now();
        self.deliver(now);
        self.clients.values_mut().for_each(|connection| connection.send(now));
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Found {
        let now = Instant::now();
        let pause = self.accepts_from.filter(|&from| from > now);
        self.accepts_from = pause;
        let deadline = self.clients.values().filter_map(|connection| connection.deadline(now)).chain(pause).min();
        let timeout = deadline.and_then(|deadline| Timespec::try_from(deadline.saturating_duration_since(now)).ok());
        let listening = if pause.is_some() { PollFlags::empty() } else { PollFlags::IN };
        let mut ids = Vec::with_capacity(self.clients.len());
        let mut polled = vec![
            PollFd::from_borrowed_fd(self.shared.wake_descriptor(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), listening),
        ];
        for (&id, connection) in &self.clients {
            if let Some(interest) = connection.interest() {
                ids.push(id);
                polled.push(PollFd::from_borrowed_fd(connection.descriptor(), interest));
            }
        }
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Out of memory or of descriptors: both pass, and turning at full speed would not help.
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
        let mut flags = polled.iter().map(PollFd::revents);
        let (_, listener) = (flags.next(), flags.next());
        let mut clients: Vec<(ClientId, PollFlags)> = ids.into_iter().zip(flags).collect();
        // Those whose descriptor is no longer asked have lines left to be handled.
        clients.extend(self.clients.iter().filter(|(_, c)| c.interest().is_none()).map(|(&id, _)| (id, PollFlags::empty())));
        Found { is_knocking: listener.is_some_and(|flags| !flags.is_empty()), clients }
    }

    // ------------------------------------------------------------------------------------- from the supervisor

    fn deliver(&mut self, now: Instant) {
        let outbox = self.shared.take();
        for outgoing in outbox.queue {
            match outgoing {
                Outgoing::Reply { ticket, outcome } => self.answer(ticket, *outcome, now),
                Outgoing::Event(event) => self.tell(&event, now),
            }
        }
        if outbox.skipped > 0 {
            for connection in self.clients.values_mut().filter(|connection| !connection.topics.is_empty()) {
                connection.lag(outbox.skipped, now);
                Counters::count(&self.shared.counters.lagged);
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, outcome: Result<Answer, ErrorReply>, now: Instant) {
        let Some(waiting) = self.calls.settle(ticket) else { return };
        self.shared.counters.calls_waiting.store(self.calls.len() as u64, Ordering::Relaxed);
        let Some(connection) = self.clients.get_mut(&waiting.client) else {
            Counters::count(&self.shared.counters.replies_dropped);
            return;
        };
        connection.uncount_call(waiting.is_change);
        let outcome = match outcome {
            Ok(answer) if answer.method() != waiting.method => {
                let message = format!("the supervisor answered `{}` with an answer to `{}`", waiting.method, answer.method());
                Err(ErrorReply::new(ErrorCode::Internal, message))
            }
            outcome => outcome,
        };
        connection.reply(Some(&waiting.id), &outcome, now);
        connection.send(now);
    }

    fn tell(&mut self, event: &Event, now: Instant) {
        let (topic, runtime) = (event.topic(), event.runtime());
        let line: Arc<[u8]> = event_line(event).into();
        if line.len() > MAX_REPLY_BYTES {
            return;
        }
        for connection in self.clients.values_mut().filter(|connection| connection.listens_to(topic, runtime)) {
            if connection.tell(topic, &line, now) {
                Counters::count(&self.shared.counters.lagged);
            }
            connection.send(now);
        }
    }

    // -------------------------------------------------------------------------------------------- from clients

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    if !self.refuse_with_spare() {
                        self.accepts_from = Some(now + ACCEPT_PAUSE);
                        return;
                    }
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(_) => {
                    self.accepts_from = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: UnixStream, now: Instant) {
        let counters = &self.shared.counters;
        let is_ours = getsockopt(&stream, PeerCredentials).is_ok_and(|peer| peer.uid() == getuid().as_raw());
        if !is_ours {
            Counters::count(&counters.refused_peers);
            return;
        }
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.clients.len() >= MAX_CLIENTS || is_reserved(&stream) {
            Counters::count(&counters.refused_busy);
            say_busy(&stream);
            return;
        }
        Counters::count(&counters.accepted);
        self.last_client += 1;
        self.clients.insert(ClientId(self.last_client), Connection::new(stream, now));
    }

    /// Accepts and refuses one connection with the descriptor that is kept for this. Without it, poll would report the connection
    /// for ever and its client would wait for ever. Returns whether it worked.
    fn refuse_with_spare(&mut self) -> bool {
        self.spare = None;
        let accepted = self.listener.accept();
        if let Ok((stream, _)) = &accepted {
            Counters::count(&self.shared.counters.refused_busy);
            let _ = stream.set_nonblocking(true);
            say_busy(stream);
        }
        let is_refused = accepted.is_ok();
        drop(accepted);
        self.spare = spare_descriptor().ok();
        is_refused
    }

    /// Gives one client its turn.
    fn attend(&mut self, client: ClientId, flags: PollFlags, now: Instant) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        if connection.receive(flags, &mut self.scratch, now).is_err() {
            self.refuse_long_line(client, now);
        }
        for _ in 0..LINES_PER_TURN {
            let Some(connection) = self.clients.get_mut(&client) else { return };
            let Some(received) = connection.next_request(now) else { break };
            let is_too_long = connection.finish_line().is_err();
            self.handle(client, received, now);
            if is_too_long {
                self.refuse_long_line(client, now);
            }
        }
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.send(now);
        }
    }

    fn refuse_long_line(&mut self, client: ClientId, now: Instant) {
        Counters::count(&self.shared.counters.too_large);
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.dismiss_long_line(now);
        }
    }

    fn handle(&mut self, client: ClientId, received: Received, now: Instant) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        let request = match received.request {
            Ok(request) => request,
            Err(unreadable) => {
                Counters::count(&self.shared.counters.malformed);
                reject(connection, unreadable.id.as_ref(), unreadable.error, now);
                return;
            }
        };
        Counters::count(&self.shared.counters.requests);
        connection.malformed_in_a_row = 0;
        if matches!(connection.stage, Stage::Greeting { .. }) {
            self.greet(client, &request, now);
            return;
        }
        let outcome = match request.verb {
            Verb::Hello(_) => Err(ErrorReply::new(ErrorCode::WrongState, "`hello` has been said already")),
            Verb::Subscribe(wanted) => Ok(Answer::Subscribe(subscribe(connection, wanted))),
            Verb::Unsubscribe(unwanted) => Ok(Answer::Unsubscribe(unsubscribe(connection, &unwanted))),
            verb => return self.forward(client, request.id, verb, received.line_bytes, now),
        };
        connection.reply(Some(&request.id), &outcome, now);
        self.note_topics();
    }

    fn greet(&mut self, client: ClientId, request: &Request, now: Instant) {
        let outcome = self.welcome(&request.verb);
        let Some(connection) = self.clients.get_mut(&client) else { return };
        match outcome {
            Ok(welcome) => {
                connection.stage = Stage::Open;
                connection.reply(Some(&request.id), &Ok(welcome), now);
            }
            Err(error) => connection.dismiss(Some(&request.id), error, now),
        }
    }

    fn welcome(&self, verb: &Verb) -> Result<Answer, ErrorReply> {
        let Verb::Hello(Hello { protocol, .. }) = verb else {
            let message = format!("say `hello` before `{}`", verb.method());
            return Err(ErrorReply::new(ErrorCode::HelloFirst, message).in_field("method"));
        };
        if *protocol != PROTOCOL_VERSION {
            let message = format!(
                "this supervisor ({} {}) speaks protocol {PROTOCOL_VERSION}, not {protocol}: use the client that came with it",
                self.identity.version, self.identity.build
            );
            let error = ErrorReply::new(ErrorCode::ProtocolMismatch, message).in_field("params.protocol");
            return Err(error.with_known(vec![PROTOCOL_VERSION.to_string()]));
        }
        Ok(Answer::Hello(Welcome {
            protocol: PROTOCOL_VERSION,
            version: self.identity.version.clone(),
            build: self.identity.build.clone(),
            session: self.session.as_str().to_owned(),
            pid: std::process::id(),
            limits: ClientLimits {
                line_bytes: MAX_LINE_BYTES as u64,
                json_depth: MAX_JSON_DEPTH as u64,
                changes_waiting: MAX_CHANGES_PER_CLIENT as u64,
                requests_per_second: u64::from(UNITS_PER_SECOND),
                events_unread: EVENT_QUEUE as u64,
            },
        }))
    }

    /// Hands a request to the supervisor's event loop.
    fn forward(&mut self, client: ClientId, id: RequestId, verb: Verb, line_bytes: usize, now: Instant) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        let (is_change, is_urgent) = (verb.is_change(), verb.is_urgent());
        let is_too_much = is_change && connection.changes >= MAX_CHANGES_PER_CLIENT;
        let applicant = Applicant { client, id, method: verb.method(), is_urgent, is_change, line_bytes };
        let admitted = if is_too_much { Err(applicant.id) } else { self.calls.admit(applicant) };
        let ticket = match admitted {
            Ok(ticket) => ticket,
            Err(id) => {
                Counters::count(&self.shared.counters.refused_busy);
                let error = ErrorReply::new(ErrorCode::Busy, "too many requests wait for their answer; try again later");
                connection.reply(Some(&id), &Err(error), now);
                return;
            }
        };
        connection.count_call(is_change);
        self.shared.counters.calls_waiting.store(self.calls.len() as u64, Ordering::Relaxed);
        let error = match self.sink.offer(Call { ticket, client, verb }) {
            Ok(()) => return,
            Err(NotTaken::Full) => ErrorReply::new(ErrorCode::Busy, "the supervisor has too much to do; try again later"),
            Err(NotTaken::Closed) => ErrorReply::new(ErrorCode::ShuttingDown, "the session is ending"),
        };
        self.answer(ticket, Err(error), now);
    }

    /// Removes clients with whom nothing more happens.
    fn tidy(&mut self, now: Instant) {
        self.clients.retain(|_, connection| {
            connection.check_deadlines(now);
            connection.send(now);
            !connection.is_over()
        });
        self.shared.counters.clients.store(self.clients.len() as u64, Ordering::Relaxed);
        self.note_topics();
    }

    fn note_topics(&self) {
        let topics = self.clients.values().fold(Topics::default(), |all, connection| all | connection.topics);
        self.shared.set_topics(topics);
    }
}

/// Answers a line that is no request. Before `hello`, and when it goes on like this, that is the end.
fn reject(connection: &mut Connection, id: Option<&RequestId>, error: ErrorReply, now: Instant) {
    connection.malformed_in_a_row += 1;
    if matches!(connection.stage, Stage::Greeting { .. }) {
        connection.dismiss(id, error, now);
        return;
    }
    connection.reply(id, &Err(error), now);
    if connection.malformed_in_a_row >= MAX_MALFORMED_IN_A_ROW {
        let message = format!("{MAX_MALFORMED_IN_A_ROW} lines in a row were no requests");
        connection.dismiss(None, ErrorReply::new(ErrorCode::Garbage, message), now);
    }
}

fn subscribe(connection: &mut Connection, wanted: Subscribe) -> Subscription {
    wanted.topics.into_iter().for_each(|topic| connection.topics.insert(topic));
    connection.runtime = wanted.runtime;
    subscription(connection)
}

fn unsubscribe(connection: &mut Connection, unwanted: &Unsubscribe) -> Subscription {
    match &unwanted.topics {
        Some(topics) => topics.iter().for_each(|&topic| connection.topics.remove(topic)),
        None => connection.topics = Topics::default(),
    }
    subscription(connection)
}

fn subscription(connection: &Connection) -> Subscription {
    Subscription { topics: connection.topics.iter().collect(), runtime: connection.runtime.clone() }
}

/// Whether the stream's descriptor is one of those kept free for other purposes. The kernel hands out the lowest number there is,
/// so the number says how many are in use.
fn is_reserved(stream: &UnixStream) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return false };
    let reserved = RESERVED_DESCRIPTORS.min(limit / 4);
    u64::try_from(stream.as_raw_fd()).is_ok_and(|number| number >= limit - reserved)
}

fn say_busy(mut stream: &UnixStream) {
    let error = ErrorReply::new(ErrorCode::Busy, "too many clients are connected; try again later");
    // A fresh socket has room for a line; if not, the closed connection says the same.
    let _ = stream.write(&reply_line(None, &Err(error)));
}

fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}
