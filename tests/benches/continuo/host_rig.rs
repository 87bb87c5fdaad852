//! Runtime hosts as processes, with the bench as their supervisor and their device host: what lies between the demand for a
//! block and the block is measured without anybody else's doing.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use ipc::channel::{ChannelError, Doorway, Hello, PROTOCOL_VERSION, Receiver, Sender};
use ipc::lane::{self, LaneReader};
use ipc::message::{HostReply, HostRequest, Role, StartRuntime};
use ipc::segment::{Segment, SegmentRef, Session};
use ipc::state::{self, StateView};
use tests::playing::binary;

use crate::programs::Text;

/// Running hosts, each with a lane.
pub struct HostRig {
    processes: Vec<Child>,
    /// Open as long as the hosts are to run.
    _senders: Vec<Sender>,
    _segments: Vec<Segment>,
    _session: Session,
    pub lanes: Vec<LaneReader>,
    /// Where the hosts write their checkpoints, if they do.
    states: Vec<SegmentRef>,
}

impl HostRig {
    /// Starts `count` hosts that run the same program, and waits until all of them are ready.
    pub fn start(text: &Text, count: usize) -> Self {
        Self::start_with(text, count, false)
    }

    /// The same, with or without segments for their checkpoints.
    pub fn start_with(text: &Text, count: usize, is_protected: bool) -> Self {
        let session = Session::open().expect("there is shared memory");
        let hello = Hello { protocol: PROTOCOL_VERSION, build: build(&session), role: Role::RuntimeHost };
        let made = text.artifact();
        let artifact = made.publish(session.id(), 1).expect("shared memory has room");
        let mut rig = Self {
            processes: Vec::new(),
            _senders: Vec::new(),
            lanes: Vec::new(),
            states: Vec::new(),
            _segments: Vec::new(),
            _session: session,
        };
        let (started_in, started) = mpsc::channel();
        for index in 0..count {
            let lane = lane::create(rig._session.id(), 1).expect("shared memory has room");
            let state = is_protected.then(|| state::create(rig._session.id(), 1, &made.manifest).expect("shared memory has room"));
            let (process, connection) = spawn(&rig._session, &hello);
            let (sender, receiver) = connection.expect("a host of this build comes in");
            let start = StartRuntime {
                runtime: format!("p{index}"),
                generation: 1,
                runtime_type: "audio".to_owned(),
                artifact: artifact.reference().clone(),
                sample_rate: 48_000,
                lane: Some(lane.reference().clone()),
                base_directory: std::env::temp_dir(),
                is_offline: false,
                state: state.as_ref().map(|state| state.reference().clone()),
                run_until: None,
                wiring: Default::default(),
            };
            sender.send(&HostRequest::Start(start)).expect("the host listens");
            let started_in = started_in.clone();
            std::thread::spawn(move || listen(&receiver, &started_in));
            rig.lanes.push(LaneReader::open(lane.reference()).expect("the lane is ours"));
            rig.processes.push(process);
            rig._senders.push(sender);
            rig._segments.push(lane);
            rig.states.extend(state.as_ref().map(|state| state.reference().clone()));
            rig._segments.extend(state);
        }
        rig._segments.push(artifact);
        for _ in 0..count {
            started.recv().expect("every host starts its program");
        }
        rig
    }

    /// Number and tick of the newest checkpoint of a host; nothing for one that writes none.
    pub fn newest_checkpoint(&self, index: usize) -> Option<(u64, u64)> {
        let view = StateView::open(self.states.get(index)?).expect("its state segment is there");
        let newest = view.newest().expect("it is undamaged")?;
        Some((newest.sequence, newest.head.tick))
    }

    /// Process id of a host.
    pub fn pid(&self, index: usize) -> u32 {
        self.processes[index].id()
    }
}

impl Drop for HostRig {
    fn drop(&mut self) {
        self._senders.clear(); // Upon which each host ends itself.
        for process in &mut self.processes {
            let _ = process.wait();
        }
    }
}

/// Reads what a host says, so that it never has to wait, and passes on that it has started.
fn listen(receiver: &Receiver, started: &mpsc::Sender<()>) {
    while let Ok(reply) = receiver.receive::<HostReply>() {
        match reply {
            HostReply::Started { .. } => drop(started.send(())),
            HostReply::Refused { reason, .. } => panic!("a host refused its program: {}", reason.message),
            _ => {}
        }
    }
}

fn spawn(session: &Session, hello: &Hello) -> (Child, Result<(Sender, Receiver), ChannelError>) {
    let doorway = Doorway::open().expect("a socket can be made");
    let mut command = Command::new(binary());
    command.args(["role", Role::RuntimeHost.name(), doorway.name(), session.id().as_str()]);
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be started");
    (process, doorway.accept(hello))
}

/// The identity of the binary's build. A host says it in its greeting; that it then refuses ours is no matter.
fn build(session: &Session) -> String {
    let stranger = Hello { protocol: PROTOCOL_VERSION, build: "bench".to_owned(), role: Role::RuntimeHost };
    let (mut process, connection) = spawn(session, &stranger);
    let _ = process.wait();
    match connection {
        Err(ChannelError::VersionSkew { theirs, .. }) => theirs,
        Err(error) => panic!("a host did not introduce itself: {error}"),
        Ok(_) => stranger.build,
    }
}
