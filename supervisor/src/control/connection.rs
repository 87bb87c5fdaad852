//! One client's connection: what it has sent, what it has not read, how far it may go. Knows nothing of other clients.
//!
//! Life cycle: *greeting* from the connection to a valid `hello`, then *open*, then, if it broke a rule, *closing* until
//! it has read its last words. It ends at once when the peer is gone.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;

use super::input::{Input, LineTooLong};
use super::limits::{
    CLOSING_DEADLINE, HANDSHAKE_DEADLINE, MAX_LINE_BYTES, MAX_QUICK_CALLS_PER_CLIENT, MAX_REPLY_BYTES, UNREAD_DEADLINE,
    UNREAD_HIGH_WATER_BYTES,
};
use super::output::{Output, Overflow};
use super::protocol::{
    Answer, ErrorCode, ErrorReply, Request, RequestId, RuntimeName, Topic, Topics, Unreadable, lagged_line, parse, reply_line,
};
use super::rate::Allowance;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No `hello` yet.
    Greeting {
        deadline: Instant,
    },
    Open,
    /// Nothing more is read from it; it ends when it has read everything, or at the deadline.
    Closing {
        deadline: Instant,
    },
}

/// A line that has been read, with its length in bytes.
pub struct Received {
    pub request: Result<Request, Unreadable>,
    pub line_bytes: usize,
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    pub stage: Stage,
    input: Input,
    output: Output,
    allowance: Allowance,
    /// Its next line waits for its allowance until then.
    waits_until: Option<Instant>,
    /// Since when it has not read anything of what waits for it.
    unread_since: Option<Instant>,
    /// It sends nothing more.
    has_ended: bool,
    /// It reads nothing more either.
    is_gone: bool,
    /// Changes that wait for their answer.
    pub changes: usize,
    /// Other requests that wait for their answer.
    quick_calls: usize,
    pub malformed_in_a_row: u32,
    pub topics: Topics,
    /// Of events that concern one runtime, it wants only this one's.
    pub runtime: Option<RuntimeName>,
}

impl Connection {
    /// Takes a connection that does not block.
    pub fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            stage: Stage::Greeting { deadline: now + HANDSHAKE_DEADLINE },
            input: Input::default(),
            output: Output::default(),
            allowance: Allowance::full(now),
            waits_until: None,
            unread_since: None,
            has_ended: false,
            is_gone: false,
            changes: 0,
            quick_calls: 0,
            malformed_in_a_row: 0,
            topics: Topics::default(),
            runtime: None,
        }
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What to wait for; `None` if nothing can be learnt from its descriptor any more (a hung-up descriptor would wake for ever).
    pub fn interest(&self) -> Option<PollFlags> {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.wants_input());
        interest.set(PollFlags::OUT, !self.output.is_empty());
        (!self.is_gone).then_some(interest)
    }

    /// When something is to be done even if its descriptor stays silent.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Greeting { deadline } | Stage::Closing { deadline } => Some(deadline),
            Stage::Open => None,
        };
        let work = (self.may_handle() || (self.is_gone && self.wants_input())).then_some(self.waits_until.unwrap_or(now));
        let unread = self.unread_since.map(|since| since + UNREAD_DEADLINE);
        [stage, work, unread].into_iter().flatten().min()
    }

    /// Takes note of what its descriptor says, and reads once if there is something to read.
    pub fn receive(&mut self, found: PollFlags, scratch: &mut [u8], now: Instant) -> Result<(), LineTooLong> {
        if found.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.is_gone = true;
        }
        if !self.wants_input() || !(self.is_gone || found.contains(PollFlags::IN)) {
            return Ok(());
        }
        match self.stream.read(scratch) {
            Ok(0) => self.has_ended = true,
            Ok(count) => return self.input.push(scratch.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_gone => {}
            Err(_) => self.vanish(now),
        }
        Ok(())
    }

    /// The next request, if there is a whole line and it may be taken now.
    pub fn next_request(&mut self, now: Instant) -> Option<Received> {
        if !self.may_handle() {
            return None;
        }
        self.waits_until = self.allowance.may_take(now).err();
        if self.waits_until.is_some() {
            return None;
        }
        let line = self.input.line()?;
        let received = Received { request: parse(line), line_bytes: line.len() };
        self.allowance.take(received.line_bytes);
        Some(received)
    }

    /// Counts a request that waits for its answer from now on.
    pub fn count_call(&mut self, is_change: bool) {
        *self.calls(is_change) += 1;
    }

    /// Counts a request that has its answer.
    pub fn uncount_call(&mut self, is_change: bool) {
        let calls = self.calls(is_change);
        *calls = calls.saturating_sub(1);
    }

    fn calls(&mut self, is_change: bool) -> &mut usize {
        if is_change { &mut self.changes } else { &mut self.quick_calls }
    }

    /// Forgets the line of the last request.
    pub fn finish_line(&mut self) -> Result<(), LineTooLong> {
        self.input.next_line()
    }

    /// Queues a reply. A reply beyond its limit becomes an error; a client that does not read its replies is given up.
    pub fn reply(&mut self, id: Option<&RequestId>, outcome: &Result<Answer, ErrorReply>, now: Instant) {
        let mut line = reply_line(id, outcome);
        if line.len() > MAX_REPLY_BYTES {
            let message = format!("the answer has {} bytes, more than {MAX_REPLY_BYTES}; ask for less", line.len());
            line = reply_line(id, &Err(ErrorReply::new(ErrorCode::TooLarge, message)));
        }
        self.say(line, now);
    }

    /// Queues an error and closes the connection once it has been read.
    pub fn dismiss(&mut self, id: Option<&RequestId>, error: ErrorReply, now: Instant) {
        self.reply(id, &Err(error), now);
        self.close(now);
    }

    /// Whether it wants to hear of this.
    pub fn listens_to(&self, topic: Topic, runtime: Option<&RuntimeName>) -> bool {
        let is_meant = match (&self.runtime, runtime) {
            (Some(wanted), Some(runtime)) => wanted == runtime,
            (None, _) | (_, None) => true,
        };
        self.topics.contains(topic) && is_meant
    }

    /// Queues an event. Returns whether the client lags, and is being closed for it.
    pub fn tell(&mut self, topic: Topic, line: &Arc<[u8]>, now: Instant) -> bool {
        match self.output.event(topic, line) {
            Ok(()) => {
                self.note_unread(now);
                false
            }
            Err(Overflow::Lagged { dropped }) => {
                self.lag(dropped, now);
                true
            }
            Err(Overflow::Unread) => {
                self.vanish(now);
                false
            }
        }
    }

    /// Says that it lags by so many events, besides those that wait and go as well, and closes it.
    pub fn lag(&mut self, dropped: u64, now: Instant) {
        let dropped = dropped + self.output.drop_events();
        self.topics = Topics::default();
        self.say(lagged_line(dropped), now);
        self.close(now);
    }

    /// Says that its line is too long, and closes it: where the next line would begin is nowhere to be found.
    pub fn dismiss_long_line(&mut self, now: Instant) {
        let message = format!("a line may have {MAX_LINE_BYTES} bytes; push larger programs by `path`");
        self.dismiss(None, ErrorReply::new(ErrorCode::TooLarge, message), now);
    }

    /// Writes as much as it takes now.
    pub fn send(&mut self, now: Instant) {
        if self.is_gone {
            return;
        }
        match self.output.write_to(&mut &self.stream) {
            Ok(true) => {
                self.unread_since = None;
                self.note_unread(now);
            }
            Ok(false) => {}
            Err(_) => self.vanish(now),
        }
    }

    /// Ends what has run out of time, saying why where somebody may still be reading.
    pub fn check_deadlines(&mut self, now: Instant) {
        match self.stage {
            Stage::Greeting { deadline } if now >= deadline => {
                let message = format!("no `hello` within {} seconds", HANDSHAKE_DEADLINE.as_secs());
                self.dismiss(None, ErrorReply::new(ErrorCode::HandshakeTimeout, message), now);
            }
            Stage::Closing { deadline } if now >= deadline => self.vanish(now),
            Stage::Greeting { .. } | Stage::Open | Stage::Closing { .. } => {}
        }
        if self.unread_since.is_some_and(|since| now >= since + UNREAD_DEADLINE) {
            self.vanish(now);
        }
    }

    /// Whether nothing can come of it any more.
    pub fn is_over(&self) -> bool {
        let is_closing = matches!(self.stage, Stage::Closing { .. });
        let is_silent = is_closing || (self.has_ended && !self.input.has_line());
        if self.is_gone {
            return is_silent;
        }
        // A client that only shut down its sending side still reads what it has asked for.
        is_silent && self.output.is_empty() && (is_closing || (self.changes + self.quick_calls == 0 && self.topics.is_empty()))
    }

    fn wants_input(&self) -> bool {
        !self.has_ended
            && !matches!(self.stage, Stage::Closing { .. })
            && !self.input.has_line()
            && (self.is_gone || self.output.unread_bytes() < UNREAD_HIGH_WATER_BYTES)
    }

    /// Whether there is a line that its stage and its unanswered and unread requests allow to be handled.
    fn may_handle(&self) -> bool {
        self.input.has_line()
            && self.quick_calls < MAX_QUICK_CALLS_PER_CLIENT
            && !matches!(self.stage, Stage::Closing { .. })
            && (self.is_gone || self.output.unread_bytes() < UNREAD_HIGH_WATER_BYTES)
    }

    fn say(&mut self, line: Vec<u8>, now: Instant) {
        if self.is_gone {
            return;
        }
        match self.output.reply(line) {
            Ok(()) => self.note_unread(now),
            Err(_) => self.vanish(now),
        }
    }

    fn note_unread(&mut self, now: Instant) {
        if !self.output.is_empty() && self.unread_since.is_none() {
            self.unread_since = Some(now);
        }
    }

    fn close(&mut self, now: Instant) {
        self.topics = Topics::default();
        if !matches!(self.stage, Stage::Closing { .. }) {
            self.stage = Stage::Closing { deadline: now + CLOSING_DEADLINE };
        }
    }

    /// Gives it up: nobody reads, nothing comes.
    fn vanish(&mut self, now: Instant) {
        (self.is_gone, self.has_ended) = (true, true);
        self.stage = Stage::Closing { deadline: now };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    /// A connection, and its client's end of it.
    fn pair(now: Instant) -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Connection::new(ours, now), theirs)
    }

    fn read(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn whoever_does_not_say_hello_is_told_and_closed() {
        let start = Instant::now();
        let (mut connection, theirs) = pair(start);
        connection.check_deadlines(start + HANDSHAKE_DEADLINE - Duration::from_millis(1));
        assert!(!connection.is_over() && connection.interest() == Some(PollFlags::IN));
        let late = start + HANDSHAKE_DEADLINE;
        assert_eq!(connection.deadline(start), Some(late));
        connection.check_deadlines(late);
        connection.send(late);
        assert!(connection.is_over());
        drop(connection);
        assert!(read(theirs).contains("handshake_timeout"));
    }

    #[test]
    fn whoever_reads_nothing_for_long_is_given_up() {
        let start = Instant::now();
        let (mut connection, _theirs) = pair(start);
        connection.stage = Stage::Open;
        while connection.output.is_empty() {
            let error = ErrorReply::new(ErrorCode::Internal, "x".repeat(500));
            connection.reply(None, &Err(error), start);
            connection.send(start);
        }
        connection.check_deadlines(start + UNREAD_DEADLINE - Duration::from_millis(1));
        assert!(!connection.is_over());
        connection.check_deadlines(start + UNREAD_DEADLINE);
        assert!(connection.is_over());
    }

    #[test]
    fn a_peer_that_has_gone_still_has_made_its_requests() {
        let start = Instant::now();
        let (mut connection, mut theirs) = pair(start);
        connection.stage = Stage::Open;
        theirs.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"panic\"}\nhalf a li").unwrap();
        drop(theirs);
        let mut scratch = [0; 1_024];
        connection.receive(PollFlags::IN | PollFlags::HUP, &mut scratch, start).unwrap();
        assert!(!connection.is_over() && connection.interest().is_none());
        assert!(connection.next_request(start).unwrap().request.is_ok());
        connection.finish_line().unwrap();
        connection.receive(PollFlags::empty(), &mut scratch, start).unwrap();
        assert!(connection.next_request(start).is_none() && connection.is_over());
    }
}
