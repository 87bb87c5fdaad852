//! The blocking client of the control socket: what the command line, scripts and tests talk through. One per thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::address::Address;
use super::limits::{MAX_REPLY_BYTES, READ_CHUNK_BYTES};
use super::protocol::{
    EVENT_METHOD, ErrorCode, ErrorReply, Event, Hello, LAGGED_METHOD, Lagged, PROTOCOL_VERSION, Params, RequestId, Welcome, request_line,
};

/// How long a call waits for its answer, unless it says otherwise: well beyond the longest compile.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// How long connecting goes on while the supervisor is busy: somewhat longer than idle strangers can hold their places.
const CONNECT_DEADLINE: Duration = Duration::from_secs(7);

/// Pause between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Notices kept while their reader is busy with calls. Beyond, the oldest go, and the reader is told how many.
const MAX_NOTICES: usize = 4_096;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no session `{session}` is running (there is no answer at {socket}); start one with `continuo up`")]
    NoSession { session: String, socket: PathBuf },
    /// The supervisor said no.
    #[error(transparent)]
    Refused(ErrorReply),
    #[error("the supervisor has closed the connection")]
    Closed,
    #[error("the supervisor has not answered `{method}` within {} seconds", deadline.as_secs())]
    Late { method: &'static str, deadline: Duration },
    #[error("the supervisor answered something else than the protocol says: {0}")]
    Malformed(String),
    #[error("cannot talk to the supervisor: {0}")]
    Io(#[from] io::Error),
}

/// What the supervisor says without being asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Event(Box<Event>),
    /// So many events were not delivered. From the supervisor, this is the last notice before it closes the connection.
    Lagged {
        dropped: u64,
    },
}

/// A conversation with a session.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    welcome: Welcome,
}

/// A connection, and what came through it that nobody has asked for yet.
#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    unread: Vec<u8>,
    last_id: i64,
    notices: VecDeque<Notice>,
    notices_dropped: u64,
}

impl Client {
    /// Connects and says hello. `name` says who is talking, such as `continuo-cli`.
    pub fn connect(address: &Address, name: &str) -> Result<Self, ClientError> {
        let give_up_at = Instant::now() + CONNECT_DEADLINE;
        loop {
            match Self::try_connect(address, name) {
                Err(ClientError::Refused(error)) if error.name() == ErrorCode::Busy && Instant::now() < give_up_at => {
                    thread::sleep(CONNECT_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn try_connect(address: &Address, name: &str) -> Result<Self, ClientError> {
        let socket = address.socket();
        let stream = UnixStream::connect(&socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoSession { session: address.session.as_str().to_owned(), socket }
            }
            _ => ClientError::Io(error),
        })?;
        stream.set_write_timeout(Some(CALL_DEADLINE))?;
        let mut wire = Wire { stream, unread: Vec::new(), last_id: 0, notices: VecDeque::new(), notices_dropped: 0 };
        let welcome = wire.call(&Hello { protocol: PROTOCOL_VERSION, client: name.to_owned() }, CALL_DEADLINE)?;
        Ok(Self { wire, welcome })
    }

    /// What the supervisor said about itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Asks and waits for the answer.
    pub fn call<P: Params>(&mut self, params: &P) -> Result<P::Answer, ClientError> {
        self.wire.call(params, CALL_DEADLINE)
    }

    /// Asks and waits for the answer, at most so long. After [`ClientError::Late`] the answer may still come; it is passed over.
    pub fn call_within<P: Params>(&mut self, params: &P, deadline: Duration) -> Result<P::Answer, ClientError> {
        self.wire.call(params, deadline)
    }

    /// Waits for the next notice, at most so long.
    pub fn notice_within(&mut self, deadline: Duration) -> Result<Option<Notice>, ClientError> {
        self.wire.notice(deadline)
    }
}

impl Wire {
    fn call<P: Params>(&mut self, params: &P, deadline: Duration) -> Result<P::Answer, ClientError> {
        self.last_id += 1;
        let id = self.last_id;
        let written = self.stream.write_all(&request_line(id, params));
        let give_up_at = Instant::now() + deadline;
        loop {
            // A supervisor that refuses us may close before we have written; what it said is still there to be read.
            let line = match (self.line(give_up_at), &written) {
                (Ok(Some(line)), _) => line,
                (Ok(None), _) => return Err(ClientError::Late { method: P::METHOD, deadline }),
                (Err(ClientError::Closed | ClientError::Io(_)), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(ClientError::Io(io::Error::from(error.kind())));
                }
                (Err(error), _) => return Err(error),
            };
            let head: Head = from_line(&line)?;
            match (head.method, head.id) {
                (Some(method), _) => self.keep(&method, &line)?,
                // An error without an id concerns the connection, so it concerns this call.
                (None, Some(RequestId::Number(found))) if found == id => return outcome(&line),
                (None, None) => return outcome(&line),
                (None, Some(_)) => {}
            }
        }
    }

    fn notice(&mut self, deadline: Duration) -> Result<Option<Notice>, ClientError> {
        let give_up_at = Instant::now() + deadline;
        loop {
            if self.notices_dropped > 0 {
                return Ok(Some(Notice::Lagged { dropped: std::mem::take(&mut self.notices_dropped) }));
            }
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Some(notice));
            }
            let Some(line) = self.line(give_up_at)? else { return Ok(None) };
            let head: Head = from_line(&line)?;
            if let Some(method) = head.method {
                self.keep(&method, &line)?;
            }
        }
    }

    fn keep(&mut self, method: &str, line: &[u8]) -> Result<(), ClientError> {
        let notice = match method {
            EVENT_METHOD => match from_line::<Notification<Event>>(line) {
                Ok(notification) => Notice::Event(Box::new(notification.params)),
                // A kind of event that a later supervisor knows and we do not.
                Err(_) => return Ok(()),
            },
            LAGGED_METHOD => Notice::Lagged { dropped: from_line::<Notification<Lagged>>(line)?.params.dropped },
            _ => return Ok(()),
        };
        if self.notices.len() >= MAX_NOTICES {
            self.notices.pop_front();
            self.notices_dropped += 1;
        }
        self.notices.push_back(notice);
        Ok(())
    }

    /// The next line; `None` if there is none in time.
    fn line(&mut self, give_up_at: Instant) -> Result<Option<Vec<u8>>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(position) = self.unread.iter().skip(searched).position(|&byte| byte == b'\n') {
                let rest = self.unread.split_off(searched + position + 1);
                return Ok(Some(std::mem::replace(&mut self.unread, rest)));
            }
            searched = self.unread.len();
            if searched > MAX_REPLY_BYTES {
                return Err(ClientError::Malformed("a line that does not end".into()));
            }
            let remaining = give_up_at.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(remaining))?;
            let mut chunk = [0; READ_CHUNK_BYTES];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.unread.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(ClientError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[derive(Deserialize)]
struct Head {
    id: Option<RequestId>,
    method: Option<String>,
}

#[derive(Deserialize)]
struct Notification<P> {
    params: P,
}

#[derive(Deserialize)]
struct Success<A> {
    result: A,
}

#[derive(Deserialize)]
struct Failure {
    error: ErrorReply,
}

#[derive(Deserialize)]
struct Which {
    error: Option<IgnoredAny>,
}

fn outcome<A: DeserializeOwned>(line: &[u8]) -> Result<A, ClientError> {
    let which: Which = from_line(line)?;
    if which.error.is_some() {
        let failure: Failure = from_line(line)?;
        return Err(ClientError::Refused(failure.error));
    }
    from_line::<Success<A>>(line).map(|success| success.result)
}

fn from_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(line).map_err(|error| ClientError::Malformed(error.to_string()))
}
