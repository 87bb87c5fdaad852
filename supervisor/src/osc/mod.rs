//! Open Sound Control: controllers and other programs set parameters and levels over UDP, and are told values.
//!
//! A client like those of the control socket, in a thread of its own: it reads packets, asks the session for what they ask
//! for, in the same verbs and with the same answers, and sends values to who has subscribed to them. What it costs is bounded,
//! whatever the network sends: so many requests under way, so much that waits for them or for its time (`backlog`), so many
//! subscriptions. What finds no room, and what is no packet, is counted and forgotten, but for the ends of notes; what the
//! kernel had no room for is counted too (`losses`).
//!
//! A packet with a time tag is handed over a little before its time, with the instant; the session works out the tick.
//!
//! It must never wait for the session, and never send to anybody who has not asked.

mod backlog;
mod losses;
mod packet;
mod subscriptions;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use self::backlog::{Backlog, NoRoom};
use self::packet::{Due, MAX_PACKET_BYTES, Wish};
use self::subscriptions::{Poll, Subscriptions};
use crate::control::protocol::{Answer, ErrorCode, ErrorReply, Get, OscStatus, Verb};
use crate::control::{Call, ClientId, Ticket};
use crate::session::{CallQueue, Incoming};

/// Tickets from here on are ours; those of the control socket count from 1.
const FIRST_TICKET: u64 = 1 << 63;

/// Requests that may be under way at a time. What a session that answers no faster is asked besides waits.
const MAX_UNDERWAY: usize = 64;

/// Furthest time tag that is waited for: further, and somebody's clock is wrong.
const MAX_AHEAD: Duration = Duration::from_secs(600);

/// How long before its time a value is handed to the session: long enough for a busy machine, far shorter than what the
/// session accepts.
const HANDED_OVER: Duration = Duration::from_millis(100);

/// How often answers are looked for while requests are under way.
const LOOK: Duration = Duration::from_millis(5);

/// How long to wait for packets when nothing else is to be done.
const IDLE: Duration = Duration::from_millis(200);

/// What has come of a request.
type Outcome = (Ticket, Result<Answer, ErrorReply>);

/// A request and, where it has a time, when it is to take effect.
pub type TimedCall = (Call, Option<Instant>);

/// The session's end of OSC.
pub struct Osc {
    address: SocketAddr,
    /// What the kernel calls the socket.
    inode: Option<u64>,
    calls: CallQueue<TimedCall>,
    outcomes: Sender<Outcome>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    packets: AtomicU64,
    malformed: AtomicU64,
    refused: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    fn refuse(&self, why: String) {
        self.refused.fetch_add(1, Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

impl Osc {
    /// Listens at this address. `events` wakes the session.
    pub fn listen(address: SocketAddr, events: std::sync::mpsc::SyncSender<Incoming>) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        losses::widen(&socket);
        let (address, inode) = (socket.local_addr()?, losses::inode(&socket));
        let (outcomes, answered) = channel();
        let calls = CallQueue::default();
        let counters = Arc::default();
        let bridge = Bridge {
            socket,
            calls: calls.clone(),
            events,
            answered,
            counters: Arc::clone(&counters),
            underway: Vec::new(),
            last_ticket: FIRST_TICKET,
            backlog: Backlog::default(),
            subscriptions: Subscriptions::default(),
        };
        std::thread::Builder::new().name("osc".to_owned()).spawn(move || bridge.run())?;
        Ok(Self { address, inode, calls, outcomes, counters })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request, if there is one.
    pub fn take(&self) -> Option<TimedCall> {
        self.calls.take()
    }

    /// Takes the outcome of a request. Returns it where it is not one of ours.
    pub fn answer(&self, ticket: Ticket, outcome: Result<Answer, ErrorReply>) -> Option<Result<Answer, ErrorReply>> {
        if ticket.0 <= FIRST_TICKET {
            return Some(outcome);
        }
        let _ = self.outcomes.send((ticket, outcome));
        None
    }

    /// What has come in so far.
    pub fn status(&self) -> OscStatus {
        OscStatus {
            address: self.address.to_string(),
            packets: self.counters.packets.load(Relaxed),
            malformed: self.counters.malformed.load(Relaxed),
            refused: self.counters.refused.load(Relaxed),
            lost: losses::lost(self.address, self.inode),
            last_error: self.counters.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The thread.
struct Bridge {
    socket: UdpSocket,
    calls: CallQueue<TimedCall>,
    events: std::sync::mpsc::SyncSender<Incoming>,
    answered: Receiver<Outcome>,
    counters: Arc<Counters>,
    /// Requests without an outcome, and the poll that each is of, where it is one.
    underway: Vec<(Ticket, Option<Poll>)>,
    last_ticket: u64,
    backlog: Backlog,
    subscriptions: Subscriptions,
}

/// The session is over.
struct Over;

impl Bridge {
    fn run(mut self) {
        let mut bytes = [0; MAX_PACKET_BYTES + 1];
        loop {
            let Ok(()) = self.hear_outcomes() else { return };
            let now = Instant::now();
            let handed_over = self.backlog.hand_over(now);
            handed_over.into_iter().for_each(|taken| self.note(taken));
            self.ask_what_waits();
            self.poll(now);
            // A timeout of zero would be none.
            let patience = self.patience(now).max(Duration::from_millis(1));
            let _ = self.socket.set_read_timeout(Some(patience));
            match self.socket.recv_from(&mut bytes) {
                Ok((count, from)) => self.take(&bytes[..count], from),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                // The network's, not ours, and for the next packet perhaps no more; but never in a circle as fast as can be.
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn patience(&self, now: Instant) -> Duration {
        let look = if self.underway.is_empty() { IDLE } else { LOOK };
        let next = self.backlog.next_due().into_iter().chain(self.subscriptions.next_poll()).min();
        next.map_or(look, |at| at.saturating_duration_since(now).min(look))
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr) {
        self.counters.packets.fetch_add(1, Relaxed);
        match packet::read(bytes) {
            Ok(read) => {
                read.errors.into_iter().for_each(|error| self.counters.refuse(error.to_string()));
                read.due.into_iter().for_each(|due| self.take_due(due, from));
            }
            Err(_) => drop(self.counters.malformed.fetch_add(1, Relaxed)),
        }
    }

    fn take_due(&mut self, due: Due, from: SocketAddr) {
        let ahead = due.at.and_then(|at| at.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        if ahead > MAX_AHEAD {
            let seconds = MAX_AHEAD.as_secs();
            return self.counters.refuse(format!("the time tag is more than {seconds} s ahead: a clock is wrong"));
        }
        let now = Instant::now();
        for wish in due.wishes {
            match wish {
                Wish::Subscribe { address, runtime, item, interval } => {
                    if !self.subscriptions.add(from, address, runtime, item, interval, now) {
                        self.counters.refuse("too many subscriptions".to_owned());
                    }
                }
                Wish::Unsubscribe { address } => self.subscriptions.remove(from, &address),
                Wish::Verb(verb) if ahead.is_zero() => {
                    let taken = self.backlog.put(verb, None);
                    self.note(taken);
                }
                Wish::Verb(verb) => {
                    let taken = self.backlog.schedule(now + ahead, verb);
                    self.note(taken);
                }
            }
        }
        self.ask_what_waits();
    }

    /// Counts what found no room.
    fn note(&self, taken: Result<(), NoRoom>) {
        if let Err(no_room) = taken {
            self.counters.refuse(no_room.to_string());
        }
    }

    /// Asks for as much as may be under way.
    fn ask_what_waits(&mut self) {
        while self.underway.len() < MAX_UNDERWAY
            && let Some((verb, at)) = self.backlog.next()
        {
            self.ask(verb, at, None);
        }
    }

    fn poll(&mut self, now: Instant) {
        while self.underway.len() < MAX_UNDERWAY / 2
            && let Some(poll) = self.subscriptions.due(now)
        {
            let get = Get { runtime: poll.runtime.clone(), items: vec![poll.item.clone()] };
            self.ask(Verb::Get(get), None, Some(poll));
        }
    }

    fn ask(&mut self, verb: Verb, at: Option<Instant>, poll: Option<Poll>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.underway.push((ticket, poll));
        self.calls.put((Call { ticket, client: ClientId(0), verb }, at));
        let _ = self.events.try_send(Incoming::Called);
    }

    fn hear_outcomes(&mut self) -> Result<(), Over> {
        loop {
            match self.answered.try_recv() {
                Ok((ticket, outcome)) => self.hear(ticket, outcome),
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(()),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(Over),
            }
        }
    }

    fn hear(&mut self, ticket: Ticket, outcome: Result<Answer, ErrorReply>) {
        let Some(index) = self.underway.iter().position(|(underway, _)| *underway == ticket) else { return };
        let (_, poll) = self.underway.swap_remove(index);
        match (outcome, poll) {
            (Ok(Answer::Get(values)), Some(poll)) => {
                if let Some((to, bytes)) = self.subscriptions.tell(&poll, &values) {
                    // Who does not take it is told the next value.
                    let _ = self.socket.send_to(&bytes, to);
                }
            }
            (Err(error), Some(poll)) if matches!(error.name(), ErrorCode::UnknownItem | ErrorCode::UnknownRuntime) => {
                self.subscriptions.end(&poll);
                self.counters.refuse(error.message);
            }
            // It is being started again, or ends: it is looked at again as long as the subscription lasts.
            (Err(_), Some(poll)) => self.subscriptions.missed(&poll),
            (Err(error), None) => self.counters.refuse(error.message),
            (Ok(_), _) => {}
        }
    }
}

/// Whether it can name the tick that it is to take effect in.
fn has_tick(verb: &Verb) -> bool {
    matches!(verb, Verb::Set(_) | Verb::Midi(_))
}

/// When something with a time is handed over: values and notes before it, because they can name their tick; all else then.
fn handed_over(at: Instant, verb: &Verb) -> Instant {
    let early = if has_tick(verb) { HANDED_OVER } else { Duration::ZERO };
    at.checked_sub(early).unwrap_or(at)
}
