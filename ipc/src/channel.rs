//! The control connection between the supervisor and one child: ipc-channel underneath, our own codec and limits on top.
//!
//! Life cycle: the supervisor makes a [`Doorway`] and starts the child with its name; the child calls [`connect`], sends both
//! ends of a fresh pair of byte channels and its [`Hello`]; the supervisor answers with its own. A peer of another protocol
//! or build is refused before any other message. When either side dies the other's `receive` returns [`ChannelError::Closed`].
//! `receive` blocks: call it on a thread of its own. Audio never travels over this.

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};
use crate::message::Role;

/// Version of the messages. Raised with every change that an older peer would misread.
pub const PROTOCOL_VERSION: u32 = 1;

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// Identity of the build: both sides must stem from the same one.
    pub build: String,
    /// The child's role; the supervisor repeats it.
    pub role: Role,
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("cannot {operation} the control channel: {reason}")]
    Os { operation: &'static str, reason: String },
    #[error("the other side has closed the control channel")]
    Closed,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(
        "the other process is another build of Continuo (protocol {theirs_protocol}, build {theirs}; this is protocol {PROTOCOL_VERSION}, build {ours}); start all of one build"
    )]
    VersionSkew { ours: String, theirs: String, theirs_protocol: u32 },
    #[error("the other process has the role {found:?} where {expected:?} was started")]
    WrongRole { expected: Role, found: Role },
}

/// Calls into ipc-channel, which asserts where it should answer: a directory that is gone, a packet that no sender of ours
/// has written. Such a panic becomes an error of this one connection.
fn guarded<T>(operation: &'static str, call: impl FnOnce() -> Result<T, ChannelError>) -> Result<T, ChannelError> {
    let broken = |_| Err(ChannelError::Os { operation, reason: "the transport below it failed".to_owned() });
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_or_else(broken)
}

fn os(operation: &'static str) -> impl Fn(std::io::Error) -> ChannelError {
    move |error| ChannelError::Os { operation, reason: error.to_string() }
}

/// The sending end: whole messages, in order.
pub struct Sender {
    bytes: IpcBytesSender,
}

impl Sender {
    /// Sends one message. Blocks while the peer's queue is full: in the supervisor, call it on the child's own thread.
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), ChannelError> {
        self.bytes.send(&codec::encode(message)?).map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => ChannelError::Closed,
            _ => os("write to")(error),
        })
    }
}

/// The receiving end.
pub struct Receiver {
    bytes: IpcBytesReceiver,
}

impl Receiver {
    /// Waits for one message.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<T, ChannelError> {
        Ok(codec::decode(&self.receive_bytes()?)?)
    }

    fn receive_bytes(&self) -> Result<Vec<u8>, ChannelError> {
        guarded("read from", || {
            self.bytes.recv().map_err(|error| match error {
                IpcError::Disconnected => ChannelError::Closed,
                other => ChannelError::Os { operation: "read from", reason: other.to_string() },
            })
        })
    }
}

/// What a child sends through the doorway: its ends of two channels. The greeting follows in the channel itself.
#[derive(Serialize, Deserialize)]
struct Introduction {
    to_child: IpcBytesSender,
    from_child: IpcBytesReceiver,
}

/// Where a child that is about to start will come in.
pub struct Doorway {
    server: IpcOneShotServer<Option<Introduction>>,
    name: String,
}

impl Doorway {
    pub fn open() -> Result<Self, ChannelError> {
        // Asked first, because ipc-channel would panic instead of saying what is wrong.
        let probe = tempfile::tempdir().map_err(os("open"))?;
        drop(probe);
        let (server, name) = guarded("open", || IpcOneShotServer::new().map_err(os("open")))?;
        Ok(Self { server, name })
    }

    /// The name to hand to the child.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the child, exchanges greetings. Blocks until the child comes or [`Doorway::shut`] is called with its name.
    pub fn accept(self, hello: &Hello) -> Result<(Sender, Receiver), ChannelError> {
        let os = |e: IpcError| ChannelError::Os { operation: "accept", reason: e.to_string() };
        let (_, introduction) = guarded("accept", || self.server.accept().map_err(os))?;
        let introduction = introduction.ok_or(ChannelError::Closed)?;
        let connection = (Sender { bytes: introduction.to_child }, Receiver { bytes: introduction.from_child });
        connection.0.send(hello)?;
        check(hello, &connection.1.receive()?)?;
        Ok(connection)
    }

    /// Ends a pending [`Doorway::accept`] of this name: the child died before it came in.
    pub fn shut(name: &str) {
        if let Ok(sender) = IpcSender::<Option<Introduction>>::connect(name.to_owned()) {
            let _ = sender.send(None);
        }
    }
}

/// Connects a child to the doorway its supervisor named, and exchanges greetings.
pub fn connect(doorway: &str, hello: &Hello) -> Result<(Sender, Receiver), ChannelError> {
    let door = IpcSender::<Option<Introduction>>::connect(doorway.to_owned()).map_err(os("connect to"))?;
    let (to_child, from_supervisor) = ipc::bytes_channel().map_err(os("make"))?;
    let (to_supervisor, from_child) = ipc::bytes_channel().map_err(os("make"))?;
    door.send(Some(Introduction { to_child, from_child }))
        .map_err(|e| ChannelError::Os { operation: "introduce itself through", reason: e.to_string() })?;
    let connection = (Sender { bytes: to_supervisor }, Receiver { bytes: from_supervisor });
    connection.0.send(hello)?;
    check(hello, &connection.1.receive()?)?;
    Ok(connection)
}

fn check(ours: &Hello, theirs: &Hello) -> Result<(), ChannelError> {
    if theirs.protocol != ours.protocol || theirs.build != ours.build {
        return Err(ChannelError::VersionSkew { ours: ours.build.clone(), theirs: theirs.build.clone(), theirs_protocol: theirs.protocol });
    }
    if theirs.role != ours.role {
        return Err(ChannelError::WrongRole { expected: ours.role, found: theirs.role });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(build: &str) -> Hello {
        Hello { protocol: PROTOCOL_VERSION, build: build.to_owned(), role: Role::DeviceHost }
    }

    #[test]
    fn two_sides_of_one_build_talk() {
        let doorway = Doorway::open().unwrap();
        let name = doorway.name().to_owned();
        let child = std::thread::spawn(move || {
            let (sender, receiver) = connect(&name, &hello("a")).unwrap();
            sender.send(&(receiver.receive::<u64>().unwrap() + 1)).unwrap();
        });
        let (sender, receiver) = doorway.accept(&hello("a")).unwrap();
        sender.send(&41u64).unwrap();
        assert_eq!(receiver.receive::<u64>().unwrap(), 42);
        child.join().unwrap();
        assert!(matches!(receiver.receive::<u64>(), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_peer_of_another_build_is_refused_on_both_sides() {
        let doorway = Doorway::open().unwrap();
        let name = doorway.name().to_owned();
        let child = std::thread::spawn(move || connect(&name, &hello("b")).err().map(|e| e.to_string()));
        assert!(matches!(doorway.accept(&hello("a")), Err(ChannelError::VersionSkew { .. })));
        assert!(child.join().unwrap().unwrap().contains("another build"));
    }

    #[test]
    fn a_doorway_can_be_shut_when_the_child_never_comes() {
        let doorway = Doorway::open().unwrap();
        let name = doorway.name().to_owned();
        let waiting = std::thread::spawn(move || matches!(doorway.accept(&hello("a")), Err(ChannelError::Closed)));
        Doorway::shut(&name);
        assert!(waiting.join().unwrap());
    }
}
