//! A control socket in a process of its own, so that its memory and descriptors can be measured and itself be killed, with a
//! supervisor behind it that does what a test asks of it through the protocol itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::control::limits::CALL_QUEUE;
use crate::control::protocol::*;
use crate::control::{Address, Call, Client, ControlHandle, Identity, NotTaken, Server, SessionName, Ticket};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the test binary where to serve.
const DIRECTORY_VARIABLE: &str = "CONTINUO_TEST_CONTROL_DIRECTORY";

/// What the serving process prints once it listens, and when it cannot.
const LISTENING: &str = "now listening";
const NOT_LISTENING: &str = "not listening: ";

/// A process that serves a control socket.
pub struct Served {
    pub process: Child,
    pub address: Address,
    /// Kept open: the test harness over there fails if it cannot print.
    _output: BufReader<ChildStdout>,
}

impl Served {
    /// Starts a process that serves in `directory`; what it says if it cannot.
    pub fn start(directory: &TempDir) -> Result<Self, String> {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serve", "--ignored", "--nocapture"])
            .env(DIRECTORY_VARIABLE, directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            if line.contains(LISTENING) {
                return Ok(Self { process, address: address(directory), _output: output });
            }
            if let Some((_, why)) = line.trim_end().split_once(NOT_LISTENING) {
                let why = why.to_owned();
                let _ = output.read_to_string(&mut line);
                process.wait().unwrap();
                return Err(why);
            }
            line.clear();
        }
        panic!("the serving process ended: {:?}", process.wait());
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.address, "test").unwrap()
    }

    /// A connection that has said nothing yet.
    pub fn raw(&self) -> Raw {
        Raw::new(UnixStream::connect(self.address.socket()).unwrap())
    }

    /// A connection that has said hello.
    pub fn greeted(&self) -> Raw {
        let mut raw = self.raw();
        raw.say(r#"{"jsonrpc":"2.0","id":0,"method":"hello","params":{"protocol":1,"client":"raw"}}"#);
        assert!(raw.reply()["result"].is_object());
        raw
    }

    pub fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Asks until the counters are as wanted.
    pub fn wait_for(&self, client: &mut Client, wanted: impl Fn(&ControlStatus) -> bool) -> ControlStatus {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let status = client.call(&Ping {}).unwrap().control;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < give_up_at, "this never came to pass: {status:?}");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn address(directory: &TempDir) -> Address {
    Address { session: SessionName::default(), directory: directory.path().join("continuo") }
}

pub fn directory() -> TempDir {
    tempfile::tempdir_in("/tmp").unwrap()
}

/// A connection without manners.
pub struct Raw {
    pub stream: UnixStream,
    unread: BufReader<UnixStream>,
}

impl Raw {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { unread: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    pub fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line; `None` at the end of the connection.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.unread.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn reply(&mut self) -> Value {
        serde_json::from_str(&self.line().expect("the connection was closed")).unwrap()
    }

    /// The next line that is no notification.
    pub fn answer(&mut self) -> Value {
        loop {
            let line = self.reply();
            if line["method"].is_null() {
                return line;
            }
        }
    }

    /// The name of the error that comes next.
    pub fn error_name(&mut self) -> String {
        let reply = self.reply();
        reply["error"]["data"]["name"].as_str().unwrap_or_else(|| panic!("no error: {reply}")).to_owned()
    }

    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.unread.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

// ------------------------------------------------------------------------------------------- the serving process

/// Serves until it is asked to shut down or its standard input ends.
pub fn serve() {
    let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) else { return };
    let address = Address { session: SessionName::default(), directory: std::path::Path::new(&directory).join("continuo") };
    let identity = Identity { version: "0.0.0".into(), build: "test".into() };
    let (sender, calls) = sync_channel(CALL_QUEUE);
    let sink = move |call| {
        sender.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => NotTaken::Full,
            TrySendError::Disconnected(_) => NotTaken::Closed,
        })
    };
    match Server::listen(address, identity, sink) {
        Ok(server) => {
            println!("{LISTENING}");
            std::thread::spawn(|| {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                std::process::exit(0); // The test has ended without us.
            });
            Supervisor { handle: server.handle(), held: Vec::new(), ballast: Vec::new() }.run(&calls);
        }
        Err(error) => println!("{NOT_LISTENING}{error}"),
    }
}

/// Behaves as tests need it.
struct Supervisor {
    handle: ControlHandle,
    /// Pushes that are answered when somebody says `cancel`.
    held: Vec<Ticket>,
    /// Descriptors that are taken up to leave none.
    ballast: Vec<std::fs::File>,
}

impl Supervisor {
    fn run(mut self, calls: &Receiver<Call>) {
        while let Ok(call) = calls.recv() {
            let is_last = matches!(call.verb, Verb::Shutdown(_));
            self.handle(call);
            if is_last {
                return;
            }
        }
    }

    fn handle(&mut self, Call { ticket, verb, .. }: Call) {
        let answer = match verb {
            Verb::Ping(_) => Answer::Ping(Pong { control: self.handle.status() }),
            Verb::Push(_) => return self.held.push(ticket),
            Verb::Cancel(Cancel { change }) => {
                for held in self.held.drain(..) {
                    self.handle.reply(held, Err(ErrorReply::new(ErrorCode::Superseded, "by something")));
                }
                Answer::Cancel(Cancelled { change })
            }
            // So many events of so many bytes.
            Verb::List(List { runtime, limit }) => {
                for n in 0..limit.unwrap_or(1) {
                    let line = format!("{n} {}", "x".repeat(1_000));
                    self.handle.publish(Event::Log(LogLine { level: LogLevel::Info, runtime: Some(runtime.clone()), line }));
                }
                Answer::List(RevisionList { runtime, revisions: Vec::new() })
            }
            // An answer of as many numbers as the name of the item says.
            Verb::Get(get) => {
                let count = get.items.first().and_then(|item| item.as_str().parse().ok()).unwrap_or(0);
                let values = vec![Number::Int(1_000_000); count];
                let value = ItemValue { item: "a:b".into(), kind: ItemKind::Int, values };
                Answer::Get(ItemValues { tick: 1, values: vec![value] })
            }
            Verb::Panic(_) => Answer::Panic(Silenced { runtimes: Vec::new() }),
            Verb::Freeze(_) => {
                self.take_all_descriptors();
                Answer::Freeze(runtime_now())
            }
            Verb::Run(_) => {
                self.ballast.clear();
                Answer::Run(runtime_now())
            }
            // The wrong answer.
            Verb::Stop(_) => Answer::Panic(Silenced { runtimes: Vec::new() }),
            Verb::Shutdown(_) => Answer::Shutdown(ShuttingDown { deadline_ms: 1 }),
            other => return self.handle.reply(ticket, Err(ErrorReply::new(ErrorCode::WrongState, other.method()))),
        };
        self.handle.reply(ticket, Ok(answer));
    }

    fn take_all_descriptors(&mut self) {
        let limit = rustix::process::Rlimit { current: Some(256), maximum: None };
        rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit { maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum, ..limit },
        )
        .unwrap();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            self.ballast.push(file);
        }
    }
}

fn runtime_now() -> RuntimeNow {
    RuntimeNow { runtime: RuntimeName::new("a").unwrap(), state: RuntimeState::Running, generation: 1, tick: 1, committed: None }
}

/// Numbers that only look random; the same seed, the same numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Takes the seed from `CONTINUO_SEED`, else from the clock, and prints it.
    pub fn new() -> Self {
        let given = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(clock) | 1;
        println!("CONTINUO_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}
