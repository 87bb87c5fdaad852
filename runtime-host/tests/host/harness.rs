//! A runtime host on a thread or in a process of its own, with real channels, segments and lanes, and the test as its
//! supervisor.

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::artifact::Artifact;
use ipc::channel::{Doorway, Hello, PROTOCOL_VERSION, Sender, connect};
use ipc::lane::{self, Block, LaneReader, SILENCE};
use ipc::message::{HostReply, HostRequest, HostStatus, Role, RunJob, StartRuntime};
use ipc::segment::{Segment, SegmentRef, Session};

/// Longest wait for anything. Only a broken host ever needs it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Names the doorway and the session to a test binary that is to be a host; see [`be_host_if_asked`].
const DOORWAY: &str = "CONTINUO_TEST_DOORWAY";
const SESSION: &str = "CONTINUO_TEST_SESSION";

/// What the host runs in.
enum Body {
    Thread(JoinHandle<ExitCode>),
    Process(Child),
    Gone,
}

pub struct Host {
    pub session: Arc<Session>,
    /// `None` once the supervisor has gone.
    requests: Option<Sender>,
    replies: Receiver<HostReply>,
    /// Replies that were passed over while waiting for another.
    pub seen: Vec<HostReply>,
    body: Body,
    kept: Vec<Segment>,
}

fn hello() -> Hello {
    Hello { protocol: PROTOCOL_VERSION, build: "test".into(), role: Role::RuntimeHost }
}

/// The whole life of this process, if it was started to be a host: then it does not return.
pub fn be_host_if_asked() {
    let (Ok(doorway), Ok(session)) = (std::env::var(DOORWAY), std::env::var(SESSION)) else { return };
    let (sender, receiver) = connect(&doorway, &hello()).unwrap();
    let code = runtime_host::host::run(sender, receiver, ipc::segment::SessionId::parse(&session).unwrap());
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}

impl Host {
    /// On a thread of this process.
    pub fn start() -> Self {
        Self::begin(Arc::new(Session::open().unwrap()), |doorway, session| {
            let (name, session) = (doorway.name().to_owned(), session.id().clone());
            Body::Thread(std::thread::spawn(move || {
                let (sender, receiver) = connect(&name, &hello()).unwrap();
                runtime_host::host::run(sender, receiver, session)
            }))
        })
    }

    /// In a process of its own, which can be killed: this test binary, whose test `entry` calls [`be_host_if_asked`].
    pub fn start_process(session: Arc<Session>, entry: &str) -> Self {
        Self::begin(session, |doorway, session| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", entry, "--nocapture"]).env(DOORWAY, doorway.name()).env(SESSION, session.id().as_str());
            Body::Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
        })
    }

    fn begin(session: Arc<Session>, start: impl FnOnce(&Doorway, &Session) -> Body) -> Self {
        let doorway = Doorway::open().unwrap();
        let body = start(&doorway, &session);
        let (requests, receiver) = doorway.accept(&hello()).unwrap();
        let (forward, replies) = channel();
        std::thread::spawn(move || {
            while let Ok(reply) = receiver.receive::<HostReply>() {
                if forward.send(reply).is_err() {
                    return;
                }
            }
        });
        Self { session, requests: Some(requests), replies, seen: Vec::new(), body, kept: Vec::new() }
    }

    /// Kills the host's process, whatever it is doing; `next` goes on in its place, with what was published for it. Returns
    /// what it had answered and nobody had heard.
    pub fn kill(&mut self, mut next: Self) -> Vec<HostReply> {
        let Body::Process(child) = &mut self.body else { panic!("a thread cannot be killed") };
        child.kill().unwrap();
        child.wait().unwrap();
        let last_words: Vec<HostReply> = std::iter::from_fn(|| self.replies.recv_timeout(DEADLINE).ok()).collect();
        next.kept.append(&mut self.kept);
        *self = next;
        last_words
    }

    pub fn send(&self, request: HostRequest) {
        self.requests.as_ref().unwrap().send(&request).unwrap();
    }

    pub fn publish(&mut self, artifact: &Artifact) -> SegmentRef {
        let segment = artifact.publish(self.session.id(), 1).unwrap();
        let reference = segment.reference().clone();
        self.kept.push(segment);
        reference
    }

    /// A state segment for the program of this artifact.
    pub fn state(&mut self, artifact: &Artifact) -> SegmentRef {
        let segment = ipc::state::create(self.session.id(), 1, &artifact.manifest).unwrap();
        let reference = segment.reference().clone();
        self.kept.push(segment);
        reference
    }

    pub fn lane(&mut self) -> (SegmentRef, LaneReader) {
        let segment = lane::create(self.session.id(), 1).unwrap();
        let reader = LaneReader::open(segment.reference()).unwrap();
        let reference = segment.reference().clone();
        self.kept.push(segment);
        (reference, reader)
    }

    /// Starts `artifact` as `runtime_type`; does not wait for the answer.
    pub fn start_runtime(&mut self, artifact: &Artifact, runtime_type: &str, sample_rate: u32) -> LaneReader {
        let artifact = self.publish(artifact);
        let (lane, reader) = self.lane();
        let lane = (runtime_type == "audio").then_some(lane);
        self.send(HostRequest::Start(start(artifact, lane, runtime_type, sample_rate)));
        reader
    }

    pub fn run(&mut self, artifact: &Artifact, job: impl FnOnce(&mut RunJob)) {
        let mut request = RunJob {
            artifact: self.publish(artifact),
            exports: Vec::new(),
            cycles: 1,
            sets: Vec::new(),
            dumps: Vec::new(),
            captures: Vec::new(),
            dump_memory: false,
            assets_from: None,
        };
        job(&mut request);
        self.send(HostRequest::Run(request));
    }

    pub fn next(&mut self) -> HostReply {
        let reply = self.replies.recv_timeout(DEADLINE).expect("the host answers");
        self.seen.push(reply.clone());
        reply
    }

    /// Waits for the first reply from now on for which `wanted` finds something.
    pub fn wait_for<T>(&mut self, wanted: impl Fn(&HostReply) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.next()) {
                return found;
            }
        }
    }

    pub fn wait_until_started(&mut self) {
        self.wait_for(|reply| match reply {
            HostReply::Started { .. } => Some(()),
            HostReply::Refused { reason, .. } => panic!("refused: {}", reason.message),
            _ => None,
        });
    }

    pub fn wait_for_status(&mut self, wanted: impl Fn(&HostStatus) -> bool) -> HostStatus {
        self.wait_for(|reply| match reply {
            HostReply::Status(status) if wanted(status) => Some(status.clone()),
            _ => None,
        })
    }

    pub fn wait_for_refusal(&mut self) -> ipc::message::Refusal {
        self.wait_for(|reply| match reply {
            HostReply::Refused { reason, .. } => Some(reason.clone()),
            HostReply::Started { .. } | HostReply::RunDone { .. } => panic!("it was not refused"),
            _ => None,
        })
    }

    pub fn stop(&mut self) {
        self.send(HostRequest::Stop);
        self.wait_for(|reply| matches!(reply, HostReply::Stopped).then_some(()));
    }

    pub fn log_lines(&self) -> Vec<String> {
        let lines = self.seen.iter().filter_map(|reply| match reply {
            HostReply::Log { line, .. } => Some(line.clone()),
            _ => None,
        });
        lines.collect()
    }

    /// The supervisor goes; returns whether the host ended by itself.
    pub fn abandon(mut self) -> bool {
        self.requests = None;
        let body = std::mem::replace(&mut self.body, Body::Gone);
        // The reading half lives in a thread that ends with the host's own sending half.
        match body {
            Body::Gone => false,
            Body::Thread(thread) => thread.join().unwrap() == ExitCode::SUCCESS,
            Body::Process(mut child) => child.wait().unwrap().success(),
        }
    }
}

pub fn start(artifact: SegmentRef, lane: Option<SegmentRef>, runtime_type: &str, sample_rate: u32) -> StartRuntime {
    StartRuntime {
        runtime: "drums".into(),
        generation: 1,
        runtime_type: runtime_type.into(),
        artifact,
        sample_rate,
        lane,
        base_directory: PathBuf::from("/"),
        is_offline: true,
        state: None,
        run_until: None,
        wiring: Box::default(),
    }
}

/// Reads block `number` as soon as it is there, with a lead of four.
pub fn block(reader: &LaneReader, number: u64) -> Block {
    let mut block = SILENCE;
    reader.demand_rt(number + 4);
    for _ in 0..600 {
        if reader.wait_until_written(number, Duration::from_millis(100)) {
            assert!(reader.read_rt(number, &mut block), "block {number}");
            return block;
        }
    }
    panic!("block {number} never came");
}

/// What the assist program sounds like when its counter is `counter`.
pub fn expected(counter: u64) -> Block {
    let mut block = SILENCE;
    for frame in 0..block[0].len() {
        let value = (counter * 128 + frame as u64) as f32;
        block[0][frame] = value;
        block[1][frame] = -value;
    }
    block
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Body::Process(child) = &mut self.body {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
