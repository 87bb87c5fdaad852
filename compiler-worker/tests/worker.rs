//! The worker process's loop, in a thread: requests in, answers and segments out.

mod support;

use std::process::ExitCode;
use std::thread::JoinHandle;

use ipc::artifact::Artifact;
use ipc::channel::{Doorway, Hello, PROTOCOL_VERSION, Receiver, Sender, connect};
use ipc::message::{CompileGoal, CompileOutcome, CompileRequest, CompileTimings, Role, WorkerReply, WorkerRequest};
use ipc::segment::{SegmentKind, SegmentRef, Session};
use support::request;

const PROGRAM: &str = "8f4e/v1\nentry main\nmodule t\nint n 3\npush &n\npush n\npush 1\nadd\nstore\nmoduleEnd\nentryEnd\n";

struct Worker {
    session: Session,
    sender: Sender,
    receiver: Receiver,
    thread: JoinHandle<bool>,
}

fn start() -> Worker {
    let hello = Hello { protocol: PROTOCOL_VERSION, build: "test".to_owned(), role: Role::CompilerWorker };
    let session = Session::open().expect("shared memory is there");
    let id = session.id().clone();
    let doorway = Doorway::open().expect("a doorway");
    let (name, greeting) = (doorway.name().to_owned(), hello.clone());
    let thread = std::thread::spawn(move || {
        let (sender, receiver) = connect(&name, &greeting).expect("the supervisor's side is there");
        compiler_worker::run(sender, receiver, id) == ExitCode::SUCCESS
    });
    let (sender, receiver) = doorway.accept(&hello).expect("the worker comes in");
    Worker { session, sender, receiver, thread }
}

impl Worker {
    fn compile(&self, request: CompileRequest) -> (CompileOutcome, CompileTimings) {
        let sent = request.id;
        self.sender.send(&WorkerRequest::Compile(request)).expect("the worker listens");
        let WorkerReply::Compiled { id, outcome, timings } = self.receiver.receive().expect("the worker answers");
        assert_eq!(id, sent);
        (outcome, timings)
    }

    fn artifact(&self, goal: CompileGoal) -> SegmentRef {
        match self.compile(CompileRequest { goal, id: 7, generation: 5, ..request(PROGRAM) }).0 {
            CompileOutcome::Artifact(reference) => reference,
            other => panic!("{other:?}"),
        }
    }

    /// Closes the channel and waits for the worker to end.
    fn end(self) -> bool {
        drop((self.sender, self.receiver));
        self.thread.join().expect("the worker does not panic")
    }
}

#[test]
fn an_artifact_is_there_until_it_is_released() {
    let worker = start();
    let reference = worker.artifact(CompileGoal::Native);
    assert_eq!((reference.kind, reference.generation), (SegmentKind::Artifact, 5));
    let artifact = Artifact::read(&reference).expect("the segment is whole");
    assert!(!artifact.native.is_empty());
    assert_eq!(artifact.image[0].bytes, 3i32.to_le_bytes());
    worker.sender.send(&WorkerRequest::Release { segment: reference.name.clone() }).expect("the worker listens");
    // The answer to a later request tells that the release is through.
    worker.compile(CompileRequest { goal: CompileGoal::Check, ..request(PROGRAM) });
    assert!(Artifact::read(&reference).is_err());
    assert!(worker.end());
}

#[test]
fn goals_are_reached_and_not_exceeded() {
    let worker = start();
    let (checked, timings) = worker.compile(CompileRequest { goal: CompileGoal::Check, ..request(PROGRAM) });
    assert!(matches!(checked, CompileOutcome::Checked));
    assert_eq!((timings.native_us, timings.publish_us), (0, 0));
    let artifact = Artifact::read(&worker.artifact(CompileGoal::Wasm)).expect("the segment is whole");
    assert!(artifact.native.is_empty() && !artifact.wasm.is_empty());
    assert!(worker.end());
}

#[test]
fn a_wrong_program_is_an_answer_and_the_next_one_compiles() {
    let worker = start();
    match worker.compile(request("8f4e/v1\nentry main\nmodule t\npush nothing\nmoduleEnd\nentryEnd\n")).0 {
        CompileOutcome::Rejected(diagnostics) => assert_eq!((diagnostics[0].code, diagnostics[0].line), (5, Some(4))),
        other => panic!("{other:?}"),
    }
    worker.artifact(CompileGoal::Wasm);
    assert!(worker.end());
}

#[test]
fn the_worker_limits_its_own_memory() {
    let worker = start();
    worker.artifact(CompileGoal::Native);
    let limit = rustix::process::getrlimit(rustix::process::Resource::As);
    assert_eq!(limit.maximum, Some(ipc::limits::WORKER_ADDRESS_SPACE_BYTES));
    assert!(worker.end());
}

#[test]
fn segments_outlive_the_worker_and_go_with_the_session() {
    let worker = start();
    let reference = worker.artifact(CompileGoal::Wasm);
    drop((worker.sender, worker.receiver));
    assert!(worker.thread.join().expect("the worker does not panic"));
    assert!(Artifact::read(&reference).is_ok(), "a host may have to load it once more, whoever is the supervisor by then");
    drop(worker.session);
    assert!(Artifact::read(&reference).is_err());
}
