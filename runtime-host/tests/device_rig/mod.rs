//! What the device host's tests have in common: a supervisor that is the test, hosts that write a known signal, and the
//! check that a recording or a capture holds nothing but that signal.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipc::channel::{Doorway, Hello, PROTOCOL_VERSION};
use ipc::lane::{self, Block, LaneWriter, SILENCE};
use ipc::limits::BLOCK_FRAMES;
use ipc::message::{DeviceReply, DeviceRequest, OpenDevice, Output, Role, Tape};
use ipc::segment::{Segment, Session, SessionId};
use runtime_host::device::link::{Connection, Grace};
use runtime_host::realtime;

/// Longest time a test waits for anything. Generous: the machine may be busy; no test measures time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Frames of the ramp until it reaches full level: 87 s. Its steps are exact in 32-bit floats.
const RAMP_FRAMES: f32 = (1u32 << 22) as f32;

/// Frame `frame` of the signal all hosts of the rig write: never zero, never twice the same.
pub fn ramp(frame: u64) -> [f32; 2] {
    let level = (frame + 1) as f32 / RAMP_FRAMES;
    [level, -level]
}

/// Block `number` of the ramp.
pub fn ramp_block(number: u64) -> Block {
    let mut block = SILENCE;
    let [left, right] = &mut block;
    for (offset, (left, right)) in left.iter_mut().zip(right).enumerate() {
        [*left, *right] = ramp(number * BLOCK_FRAMES as u64 + offset as u64);
    }
    block
}

/// Which frame of the ramp this sample is.
pub fn frame_of(left: f32) -> u64 {
    (left * RAMP_FRAMES) as u64 - 1
}

/// Runs `test` in a process of its own with this environment, because the environment steers the sound libraries; and one
/// at a time, because real-time servers and clients share the processors. `name` is the test's own name.
pub fn in_own_process(name: &str, environment: &[(&str, &str)], test: fn()) {
    const MARK: &str = "CONTINUO_TEST_IN_OWN_PROCESS";
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .envs(environment.iter().copied())
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}

/// Where a device host runs.
enum Life {
    Thread(JoinHandle<ExitCode>),
    Process(std::process::Child),
}

/// A device host, and its supervisor, which is the test.
pub struct DeviceHost {
    pub session: Session,
    connection: Option<(ipc::channel::Sender, mpsc::Receiver<DeviceReply>)>,
    life: Option<Life>,
    /// Where the next supervisor is announced.
    doorways: mpsc::Sender<String>,
    /// Underruns of all lanes and frames, as last reported.
    underruns: Cell<u64>,
    frames: Cell<u64>,
}

/// Names the doorway, and the session, to a process that is to be a device host.
const DOORWAY: &str = "CONTINUO_TEST_DOORWAY";
const SESSION: &str = "CONTINUO_TEST_SESSION";
/// The length beyond which no file of such a process grows, in bytes.
const FILE_LIMIT: &str = "CONTINUO_TEST_FILE_LIMIT_BYTES";

/// Makes this process a device host if it was started by [`DeviceHost::start_process`] of the test that calls this first.
pub fn be_device_host_if_asked() {
    let variable = |name| std::env::var(name).ok();
    let (Some(doorway), Some(session)) = (variable(DOORWAY), variable(SESSION)) else { return };
    if let Some(bytes) = variable(FILE_LIMIT).map(|bytes| bytes.parse().unwrap()) {
        // SAFETY: ignoring a signal changes nothing but what the kernel does with it; writes then fail instead.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    }
    let (sender, receiver) = ipc::channel::connect(&doorway, &hello()).unwrap();
    let session = SessionId::parse(&session).unwrap();
    let _ = runtime_host::device::run(sender, receiver, session);
    std::process::exit(0);
}

fn hello() -> Hello {
    Hello { protocol: PROTOCOL_VERSION, build: "test".into(), role: Role::DeviceHost }
}

/// Lets the device host in, and reads what it says on a thread of its own.
fn accept(doorway: Doorway) -> (ipc::channel::Sender, mpsc::Receiver<DeviceReply>) {
    let (sender, receiver) = doorway.accept(&hello()).unwrap();
    let (replies_in, replies) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(reply) = receiver.receive::<DeviceReply>() {
            if replies_in.send(reply).is_err() {
                break;
            }
        }
    });
    (sender, replies)
}

/// A tape of a master alone, which may replace what is there.
pub fn tape(master: &Path) -> Tape {
    Tape { number: 1, part: 1, master: Some(master.to_owned()), stems: None, replaces: true, from_block: 0 }
}

impl DeviceHost {
    pub fn start() -> Self {
        Self::start_thread(None)
    }

    /// One that plays on so long when its supervisor is gone.
    pub fn start_with_grace(period: Duration) -> Self {
        Self::start_thread(Some(period))
    }

    fn start_thread(grace: Option<Duration>) -> Self {
        let session = Session::open().unwrap();
        let doorway = Doorway::open().unwrap();
        let (name, id) = (doorway.name().to_owned(), session.id().clone());
        let (doorways, doorways_out) = mpsc::channel::<String>();
        let thread = std::thread::spawn(move || {
            let doorways = std::sync::Mutex::new(doorways_out);
            let connect = |name: String| {
                let (sender, receiver) = ipc::channel::connect(&name, &hello()).unwrap();
                Connection { sender, receiver }
            };
            let next_supervisor = move || doorways.lock().unwrap().recv().ok().map(connect);
            let grace = grace.map(|period| Grace { period, next_supervisor: Arc::new(next_supervisor) });
            runtime_host::device::run_with_grace(connect(name), id, grace)
        });
        Self::of(session, accept(doorway), Life::Thread(thread), doorways)
    }

    /// A device host that is a process of its own, for `session`. The test, whose own name is `test`, begins with
    /// [`be_device_host_if_asked`].
    pub fn start_process(session: Session, test: &str, file_limit_bytes: Option<u64>) -> Self {
        let doorway = Doorway::open().unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(DOORWAY, doorway.name()).env(SESSION, session.id().as_str());
        if let Some(bytes) = file_limit_bytes {
            command.env(FILE_LIMIT, bytes.to_string());
        }
        let process = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        Self::of(session, accept(doorway), Life::Process(process), mpsc::channel().0)
    }

    fn of(
        session: Session,
        connection: (ipc::channel::Sender, mpsc::Receiver<DeviceReply>),
        life: Life,
        doorways: mpsc::Sender<String>,
    ) -> Self {
        let (underruns, frames) = (Cell::new(0), Cell::new(0));
        Self { session, connection: Some(connection), life: Some(life), doorways, underruns, frames }
    }

    /// Kills the process; returns the session, and the frames and underruns that were reported last.
    pub fn kill(mut self) -> (Session, u64, u64) {
        let Some(Life::Process(mut process)) = self.life.take() else { panic!("a thread cannot be killed") };
        process.kill().unwrap();
        process.wait().unwrap();
        self.replies().iter().for_each(|reply| self.note(&reply));
        (self.session, self.frames.get(), self.underruns.get())
    }

    /// The supervisor disappears, as if it had been killed.
    pub fn lose_supervisor(&mut self) {
        self.connection = None;
    }

    /// The next supervisor comes.
    pub fn gain_supervisor(&mut self) {
        let doorway = Doorway::open().unwrap();
        self.doorways.send(doorway.name().to_owned()).unwrap();
        self.connection = Some(accept(doorway));
    }

    fn replies(&self) -> &mpsc::Receiver<DeviceReply> {
        &self.connection.as_ref().expect("there is a supervisor").1
    }

    pub fn send(&self, request: DeviceRequest) {
        self.connection.as_ref().expect("there is a supervisor").0.send(&request).unwrap();
    }

    /// Opens an output at 48 kHz with the largest lead, so that a busy machine seldom matters.
    pub fn open(&self, output: Output, recording: Option<&Path>) {
        self.send(DeviceRequest::Open(OpenDevice {
            output,
            sample_rate: 48_000,
            lead_blocks: 24,
            first_frame: 0,
            channels: 2,
            tape: recording.map(tape),
            starts_together: false,
        }));
    }

    /// Waits for a reply that `pick` recognises, passing over the others.
    pub fn wait_for<T>(&self, what: &str, mut pick: impl FnMut(&DeviceReply) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            let reply = self.replies().recv_timeout(patience).unwrap_or_else(|_| panic!("no {what} after {seen:?}"));
            self.note(&reply);
            if let Some(found) = pick(&reply) {
                return found;
            }
            if !matches!(reply, DeviceReply::Status(_)) {
                seen.push(reply);
            }
        }
    }

    fn note(&self, reply: &DeviceReply) {
        if let DeviceReply::Status(status) = reply {
            self.underruns.set(status.lanes.iter().map(|lane| lane.underruns).sum());
            self.frames.set(status.frames);
        }
    }

    /// Waits until `frames` frames have been given out.
    pub fn wait_for_frames(&self, frames: u64) {
        self.wait_for("status", |reply| matches!(reply, DeviceReply::Status(status) if status.frames >= frames).then_some(()));
    }

    /// Waits until so many more frames have been given out than are by now. Passes over all replies until then.
    pub fn wait_for_more_frames(&self, frames: u64) {
        self.replies().try_iter().for_each(|reply| self.note(&reply));
        let now = self.wait_for("status", |reply| match reply {
            DeviceReply::Status(status) => Some(status.frames),
            _ => None,
        });
        self.wait_for_frames(now + frames);
    }

    /// Waits until the output is open, which must be one whose name begins like this.
    pub fn wait_for_opened(&self, expected: &str) {
        let opened = self.wait_for("open output", |reply| match reply {
            DeviceReply::Opened { device, .. } => Some(device.clone()),
            _ => None,
        });
        assert!(opened.starts_with(expected), "{opened} has been opened");
    }

    /// Waits until sound has moved to a device whose name begins like this, and returns the reason, which is one line.
    pub fn wait_for_move(&self, to: &str) -> String {
        let reason = self.wait_for(&format!("move to {to}"), |reply| match reply {
            DeviceReply::Moved { device, reason, .. } if device.starts_with(to) => Some(reason.clone()),
            _ => None,
        });
        assert!(!reason.contains('\n'), "{reason}");
        reason
    }

    /// Adds a lane whose host writes the ramp, and waits until it is mapped.
    pub fn add_ramp(&self, runtime: &str) -> RampHost {
        let host = RampHost::start(&self.session);
        self.add_lane(runtime, &host, false);
        host
    }

    /// Adds the lane of a host, and waits until it is mapped.
    pub fn add_lane(&self, runtime: &str, host: &RampHost, resumes: bool) {
        self.send(DeviceRequest::AddLane { runtime: runtime.into(), lane: host.segment.reference().clone(), resumes, decides_input: true });
        self.wait_for("mapped lane", |reply| match reply {
            DeviceReply::LaneMapped { runtime: mapped } if mapped == runtime => Some(()),
            DeviceReply::LaneRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        });
    }

    /// Waits until a lane is heard, and returns in which block of the session.
    pub fn wait_for_start(&self, runtime: &str) -> u64 {
        self.wait_for("lane start", |reply| match reply {
            DeviceReply::LaneStarted { runtime: started, block } if started == runtime => Some(*block),
            _ => None,
        })
    }

    /// Stops the device host; returns the frames it gave out and the underruns it last reported.
    pub fn stop(mut self) -> (u64, u64) {
        self.send(DeviceRequest::Stop);
        let frames = self.wait_for("stop", |reply| match reply {
            DeviceReply::Stopped { frames } => Some(*frames),
            DeviceReply::RecordingFailed { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        let is_success = match self.life.take().unwrap() {
            Life::Thread(thread) => format!("{:?}", thread.join().unwrap()) == format!("{:?}", ExitCode::SUCCESS),
            Life::Process(mut process) => process.wait().unwrap().success(),
        };
        assert!(is_success);
        (frames, self.underruns.get())
    }

    /// Disappears, as a killed supervisor does; returns when the device host has ended.
    pub fn abandon(mut self) {
        self.connection = None;
        match self.life.take().unwrap() {
            Life::Thread(thread) => drop(thread.join().unwrap()),
            Life::Process(mut process) => drop(process.wait().unwrap()),
        }
    }
}

/// A runtime host that is a thread of the test and writes the ramp.
pub struct RampHost {
    pub segment: Segment,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl RampHost {
    pub fn start(session: &Session) -> Self {
        let segment = lane::create(session.id(), 1).unwrap();
        let mut writer = LaneWriter::open(segment.reference()).unwrap();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&is_stopping);
        let thread = std::thread::spawn(move || {
            // Where it is denied the test counts more underruns, and allows for them.
            let _ = realtime::promote_current_thread(realtime::TICK_PRIORITY);
            while !stopping.load(Ordering::Relaxed) {
                if writer.wait_until_wanted_rt(Duration::from_millis(20)) {
                    writer.write_rt(&ramp_block(writer.next_block()));
                    writer.wake_reader_rt();
                }
            }
            writer.next_block()
        });
        Self { segment, is_stopping, thread: Some(thread) }
    }

    /// A host that never writes a block.
    pub fn silent(session: &Session) -> Self {
        Self { segment: lane::create(session.id(), 1).unwrap(), is_stopping: Arc::default(), thread: None }
    }

    /// Ends the host; returns how many blocks it has written.
    pub fn stop(&mut self) -> u64 {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for RampHost {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A file of a test's own, removed when dropped.
pub struct TestFile(pub PathBuf);

impl TestFile {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("continuo-device-{name}-{}.wav", std::process::id())))
    }

    pub fn frames(&self) -> Vec<[f32; 2]> {
        let samples: Vec<f32> = hound::WavReader::open(&self.0).unwrap().into_samples().map(Result::unwrap).collect();
        samples.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect()
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A home directory with ALSA's configuration in it, removed when dropped.
pub struct AlsaHome(PathBuf);

impl AlsaHome {
    pub fn new(configuration: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("continuo-device-home-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(".asoundrc"), configuration).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for AlsaHome {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Checks that the frames are silence and then the ramp, sample by sample, from the ramp's frame `first` on. Blocks of the
/// ramp that differ must have been reported as underruns: `underruns` of them, and as many that fade in afterwards. A frame
/// that is lost or repeated shifts everything behind it and is found at once. Returns how many frames of the ramp there are.
pub fn assert_is_ramp(frames: &[[f32; 2]], first: u64, underruns: u64) -> u64 {
    let start = frames.iter().position(|frame| *frame != [0.0; 2]).expect("there is sound");
    let sound = &frames[start..];
    assert_eq!(sound[0], ramp(first), "the first frame");
    let expected = |at: usize| ramp(first + at as u64);
    let is_wrong = |(index, block): &(usize, &[[f32; 2]])| {
        block.iter().enumerate().any(|(offset, frame)| *frame != expected(index * BLOCK_FRAMES + offset))
    };
    let wrong: Vec<usize> = sound.chunks(BLOCK_FRAMES).enumerate().filter(is_wrong).map(|(index, _)| index).collect();
    assert!(wrong.len() as u64 <= 2 * underruns, "blocks {wrong:?} are not the signal, with {underruns} underruns");
    sound.len() as u64
}
