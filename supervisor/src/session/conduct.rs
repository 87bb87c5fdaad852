//! The main loop of a session: waits for the next event, lets the policy decide, carries its actions out.
//!
//! Runs on the main thread, the only one that touches processes, outboxes and lanes. It never waits for a child: reading,
//! writing and waiting for deaths happen on the children's own threads (`super::connection`).

mod taking_back;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipc::artifact::Artifact;
use ipc::channel::{Doorway, Hello, PROTOCOL_VERSION};
use ipc::crash::{CrashPage, Phase};
use ipc::hash::ContentHash;
use ipc::live::{LiveChange, LiveRequest, RequestId};
use ipc::message::{CompileGoal, CompileRequest, DeviceRequest, HostRequest, OpenDevice, RunJob, StartRuntime, Tape, WorkerRequest};
use ipc::recovery::TakeOver;
use ipc::segment::{SegmentKind, SegmentRef};

use super::abandoned::Abandoned;
use super::asset_notes::AssetNotes;
use super::calls::CallQueue;
use super::connection::{self, Incoming, Letter, Outbox};
use super::files::{self, Files};
use super::heard::file::HeardLife;
use super::heard::{self, Heard, Player};
use super::job::{AUDIO_WORK_BUDGET, Job, LiveSetup, OutputChoice, ProgramText, RUN_WORK_BUDGET, RunOrder};
use super::journal::{Journal, JournalError};
use super::last_words::LastWords;
use super::obituaries::{Obituaries, Obituary};
use super::planning::Compiled;
use super::process::{Process, Start, started_ticks_of};
use super::readiness::ServiceManager;
use super::scribe::{self, ChildNote, Scribe, SetupNote};
use super::segments::Segments;
use super::sent::{self, Sent};
use super::{Session, planning, publishing, signals};
use crate::control::protocol::{self, Answer, ErrorCode, ErrorReply, Pong, Topic, Verb};
use crate::control::{Address, Identity, ListenError, Server, SessionName, Ticket};
use crate::keyboard::Keyboard;
use crate::osc::Osc;
use crate::policy::log::LogEntry;
use crate::policy::{
    Action, Child, CompileSettings, Content, Event, Goal, HostIndex, Inspection, Part, Plan, Policy, ProcessEnd, Progress, Report,
    RuntimeIndex, TempoSetup, Verdict, Watched,
};

/// Events that may wait for the main thread. When it is busy the threads of the children wait in turn, so that nothing a
/// child sends makes the supervisor's memory grow.
const EVENTS: usize = 64;

/// Generation of everything in a session that restarts nothing.
const GENERATION: u64 = 1;

/// How long to sleep when no deadline is near.
const IDLE: Duration = Duration::from_secs(60);

/// The command that a session works for: it hears the reports, and is asked what only it knows.
pub trait Audience {
    /// Takes a report. Must not wait for anything but the terminal or its own files.
    fn hear(&mut self, programs: &[ProgramText], report: Report);

    /// The session listens to clients under this name.
    fn listens(&mut self, session: &str) {
        let _ = session;
    }

    /// The session listens to OSC at this address.
    fn listens_to_osc(&mut self, address: SocketAddr) {
        let _ = address;
    }

    /// The terminal's keys go to the programs from now on.
    fn plays_keys(&mut self) {}

    /// The session of this name is taken back, with these runtimes, from a supervisor that has died.
    fn takes_back(&mut self, session: &str, runtimes: &[String]) {
        let _ = (session, runtimes);
    }

    /// Takes an artifact for itself (`compile`), or looks at it before it is run (`run`). The error is for people.
    fn examine(&mut self, artifact: &Artifact) -> Result<(), String> {
        let _ = artifact;
        Ok(())
    }

    /// A replayed midi runtime has sent this, all in all.
    fn has_sent(&mut self, sent: Sent) {
        let _ = sent;
    }

    /// What `run` is to do; asked after the artifact has been examined.
    fn run_order(&mut self) -> RunOrder {
        RunOrder::default()
    }
}

/// Why a session could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum ConductError {
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    #[error("cannot listen for OSC on {address}: {error}")]
    Osc { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Control(#[from] ListenError),
}

/// Runs a job to its end.
pub fn conduct(session: &Session, job: &Job, audience: &mut dyn Audience) -> Result<Verdict, ConductError> {
    let (sender, incoming) = sync_channel(EVENTS);
    signals::listen(sender.clone()).map_err(ConductError::Signals)?;
    let asked_for = job;
    let before = session.abandoned.as_ref().map(Abandoned::job);
    let job = before.as_ref().unwrap_or(asked_for);
    let calls = CallQueue::default();
    let control = job.live.as_ref().map(|live| listen(live, &calls, &sender)).transpose()?.flatten();
    let osc = asked_for.live.as_ref().and_then(|live| live.osc).map(|address| listen_to_osc(address, &sender)).transpose()?;
    let files = Files::start(&sender, control.as_ref().map(|(server, _)| server.handle())).map_err(ConductError::Threads)?;
    let mut shell = Shell {
        session,
        job,
        audience,
        policy: policy(job),
        calls,
        control,
        files,
        manager: ServiceManager::from_environment(),
        journal: Journal::begin(),
        heard: Heard::none(),
        player: None,
        sent: None,
        ending_record: None,
        obituaries: Obituaries::default(),
        started: Instant::now(),
        sender,
        pending: VecDeque::from([Event::Begin]),
        letters: Vec::new(),
        children: HashMap::new(),
        segments: Segments::new(session.id().clone()),
        scribe: Scribe::default(),
        asset_notes: AssetNotes::default(),
        keyboard: KeyboardState::NotAsked,
        osc,
    };
    shell.open(asked_for, &incoming);
    if shell.job.live.is_some() {
        shell.heard = Heard::begin(&shell.sender);
    }
    shell.begin();
    Ok(shell.run(&incoming))
}

/// The state machine of a job.
fn policy(job: &Job) -> Policy {
    let mut policy = Policy::new(job.goal, job.programs.iter().cloned());
    if let Some(replay) = &job.replay {
        policy.replay(&replay.first, replay.entries.iter().cloned());
    }
    if !job.scores.is_empty() {
        policy.play_scores(job.scores.clone());
    }
    if let Some(sound) = job.sound.as_ref().filter(|sound| !sound.tape.is_empty()) {
        policy.begin_with_tape(sound.tape.clone());
    }
    policy.connect(job.routes.iter().cloned());
    policy.begin_tempo(job.tempo);
    if let Some(live) = &job.live {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        policy.configure(live.sample_rate, live.asks_for_any_loss, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        policy.limit_restarts(live.restart_limits);
        let lead_blocks = job.sound.as_ref().map_or(live.tempo.lead_blocks, |sound| sound.lead_blocks);
        policy.set_up_tempo(TempoSetup { lead_blocks, ..live.tempo });
        for preset in &live.presets {
            policy.preset(&preset.runtime, preset.gain, preset.is_muted, preset.output);
        }
        for (to, from) in &live.wires {
            policy.preset_wire(to.clone(), from.clone());
        }
    }
    policy
}

fn listen_to_osc(address: SocketAddr, events: &SyncSender<Incoming>) -> Result<Osc, ConductError> {
    Osc::listen(address, events.clone()).map_err(|error| ConductError::Osc { address, error })
}

/// Opens the control socket. A session whose name nobody chose goes on without one where it is not to be had.
fn listen(live: &LiveSetup, calls: &CallQueue, events: &SyncSender<Incoming>) -> Result<Option<(Server, SessionName)>, ConductError> {
    let identity = Identity { version: env!("CARGO_PKG_VERSION").to_owned(), build: crate::role::BUILD.to_owned() };
    let open = |name: &SessionName| Server::listen(Address::of(name.clone()), identity.clone(), calls.sink(events.clone()));
    if let Some(name) = &live.session {
        return Ok(Some((open(name)?, name.clone())));
    }
    let name = SessionName::default();
    match open(&name) {
        Ok(server) => Ok(Some((server, name))),
        Err(ListenError::Owned { .. }) => {
            let Ok(name) = SessionName::new(&format!("play-{}", std::process::id())) else { return Ok(None) };
            Ok(open(&name).ok().map(|server| (server, name)))
        }
        Err(_) => Ok(None),
    }
}

/// A child and how to reach it.
struct Member {
    process: Process,
    /// What it leaves behind when it dies.
    page: CrashPage,
    /// Name of its doorway, until it has come in.
    doorway: Option<String>,
    outbox: Option<Outbox>,
    last_words: LastWords,
}

/// Whether the terminal's keys are played.
enum KeyboardState {
    /// No program has asked for keys so far.
    NotAsked,
    /// They are; this holds the terminal.
    Playing { _keyboard: Keyboard },
    /// There is no terminal to be had.
    Absent,
}

struct Shell<'a> {
    session: &'a Session,
    job: &'a Job,
    audience: &'a mut dyn Audience,
    policy: Policy,
    started: Instant,
    sender: SyncSender<Incoming>,
    /// Events that our own actions brought about.
    pending: VecDeque<Event>,
    /// What children are told once it has been noted which state segments have been made for it: the next supervisor must know of
    /// every segment that a host has.
    letters: Vec<(Child, Letter)>,
    children: HashMap<Child, Member>,
    segments: Segments,
    calls: CallQueue,
    /// The control socket and the session's name, where there is one.
    control: Option<(Server, SessionName)>,
    files: Files,
    manager: ServiceManager,
    journal: Journal,
    heard: Heard,
    /// What a replay hears.
    player: Option<Player>,
    /// What a replayed midi runtime sends.
    sent: Option<sent::Listener>,
    /// Who ended a recording, and is answered when what was heard is complete in it.
    ending_record: Option<(u64, Ticket, Answer)>,
    /// What is known of the processes that died.
    obituaries: Obituaries,
    scribe: Scribe,
    asset_notes: AssetNotes,
    keyboard: KeyboardState,
    osc: Option<Osc>,
}

impl<'a> Shell<'a> {
    /// Takes back what the last supervisor of this session has left, if it had one, and begins to take notes for the next.
    fn open(&mut self, asked_for: &'a Job, incoming: &Receiver<Incoming>) {
        if let Some(abandoned) = &self.session.abandoned {
            self.take_notes(Some(abandoned));
            let notes = taking_back::notes(&abandoned.entries);
            if notes.is_some_and(|notes| self.take_back(&notes, &abandoned.entries, incoming)) {
                self.audience.takes_back(&abandoned.setup.name, &self.policy.taken_back());
                return self.session.keep();
            }
            // Nobody of it lives any more: what was asked for begins.
            (self.job, self.policy, self.obituaries) = (asked_for, policy(asked_for), Obituaries::default());
        }
        self.take_notes(None);
        self.session.keep();
    }

    /// Begins a ledger, with what the one of the last supervisor says.
    fn take_notes(&mut self, abandoned: Option<&Abandoned>) {
        let (Some(live), Some(sound), Some((_, name))) = (&self.job.live, &self.job.sound, &self.control) else { return };
        let OutputChoice::Device(output) = sound.output.clone() else { return };
        let now_ns = monotonic_ns();
        let began_ns = abandoned.map_or(now_ns, |abandoned| abandoned.setup.began_ns);
        // The session's clock goes on.
        self.started = self.started.checked_sub(Duration::from_nanos(now_ns.saturating_sub(began_ns))).unwrap_or(self.started);
        let setup = SetupNote {
            build: crate::role::BUILD.to_owned(),
            name: name.as_str().to_owned(),
            output,
            lead_blocks: sound.lead_blocks,
            folders: sound.folders.clone(),
            memory_regions: self.job.memory_regions.clone(),
            default_runtime: live.default_runtime.clone(),
            follows_files: live.follows_files,
            grace_ms: u64::try_from(live.grace.as_millis()).unwrap_or(u64::MAX),
            began_ns,
        };
        let known = abandoned.map(|abandoned| abandoned.entries.clone()).unwrap_or_default();
        self.scribe = Scribe::begin(self.session.directory.path(), known, &setup);
    }

    /// Tells how the session is to be talked to, and follows the programs' files.
    fn begin(&mut self) {
        let Some(live) = &self.job.live else { return };
        if let Some((_, name)) = &self.control {
            self.audience.listens(name.as_str());
        }
        if let Some(osc) = &self.osc {
            self.audience.listens_to_osc(osc.address());
        }
        self.manager.ready();
        if !live.follows_files {
            return;
        }
        for (runtime, path, text) in self.policy.followed() {
            self.files.follow(runtime, path, text);
        }
        for program in &self.job.programs {
            let Ok(path) = std::path::absolute(&program.path) else { continue };
            self.policy.follow(&program.name, path.clone());
            self.files.follow(program.name.clone(), path, Some(program.hash()));
        }
    }

    fn run(&mut self, incoming: &Receiver<Incoming>) -> Verdict {
        loop {
            while let Some(mut event) = self.pending.pop_front() {
                let dead = if let Event::Died { child, .. } = &event { Some(*child) } else { None };
                if let Event::Died { child, end, tick } = &mut event {
                    *tick = self.bury(*child, *end);
                }
                let now_ms = self.now_ms();
                let is_noteworthy = scribe::is_noteworthy(&event);
                let actions = self.policy.step(now_ms, event);
                if is_noteworthy || scribe::is_consequential(&actions) {
                    self.scribe.note(&self.policy);
                    self.scribe.mourn(&mut self.obituaries);
                }
                for action in actions {
                    if let Action::Finish(verdict) = action {
                        let lives = self.lives();
                        self.journal.finish(lives);
                        self.heard.end();
                        return verdict;
                    }
                    self.carry_out(action);
                }
                if !self.awaits_notes() {
                    self.send_letters();
                }
                self.open_keyboard();
                // The last that is heard of it.
                dead.map(|child| self.children.remove(&child));
            }
            if self.take_calls() {
                continue;
            }
            let event = self.next_event(incoming);
            self.pending.extend(event);
        }
    }

    /// Begins to play the terminal's keys when the first program asks for them.
    fn open_keyboard(&mut self) {
        let may_play = self.job.live.as_ref().is_some_and(|live| live.has_keyboard);
        if !may_play || !matches!(self.keyboard, KeyboardState::NotAsked) || !self.policy.wants_keys() {
            return;
        }
        self.keyboard = match Keyboard::begin(self.sender.clone()) {
            Some(Ok(keyboard)) => KeyboardState::Playing { _keyboard: keyboard },
            // What cannot be played is no reason to end what plays.
            Some(Err(_)) | None => KeyboardState::Absent,
        };
        if matches!(self.keyboard, KeyboardState::Playing { .. }) {
            self.audience.plays_keys();
        }
    }

    /// Keeps what a dead child has left behind. Returns the tick it was executing, and of which revision.
    fn bury(&mut self, child: Child, end: ProcessEnd) -> Option<(ContentHash, u64)> {
        let member = self.children.get(&child)?;
        let (role, pid, tail) = (child.role(), member.process.pid, member.process.tail.clone());
        let record = member.page.read();
        self.scribe.ended(pid);
        let tick = record.revision.zip(record.tick).filter(|_| record.phase == Phase::Tick);
        let killed_for = self.policy.killed_for(child).map(str::to_owned);
        self.obituaries.add(Obituary { role, pid, end, killed_for, record, tail });
        tick
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits for something to happen, at most until the policy's next deadline.
    /// `None`: look at the calls.
    fn next_event(&mut self, incoming: &Receiver<Incoming>) -> Option<Event> {
        loop {
            let deadline = self.policy.next_deadline_ms();
            let patience = deadline.map_or(IDLE, |at_ms| Duration::from_millis(at_ms.saturating_sub(self.now_ms())));
            let watchdog = self.manager.keep_alive(Instant::now());
            let is_watchdog_first = watchdog.is_some_and(|watchdog| watchdog < patience);
            let patience = watchdog.map_or(patience, |watchdog| watchdog.min(patience));
            match incoming.recv_timeout(patience) {
                Ok(Incoming::Event(event)) => {
                    if let Some(event) = self.in_order(event) {
                        return Some(event);
                    }
                }
                Ok(Incoming::Joined { child, outbox }) => {
                    if let Some(member) = self.children.get_mut(&child) {
                        member.outbox = Some(outbox);
                        member.doorway = None;
                    }
                    return Some(Event::Joined { child });
                }
                Ok(Incoming::Noted(entry)) => self.log(&entry),
                Ok(Incoming::Heard(news)) => {
                    if let Some(event) = self.on_heard(news) {
                        return Some(event);
                    }
                }
                Ok(Incoming::Called) => return None,
                Err(RecvTimeoutError::Timeout) if is_watchdog_first => {}
                Err(RecvTimeoutError::Timeout) if deadline.is_some() => return Some(Event::DeadlinePassed),
                // The other end is one of ours (`self.sender`), so it cannot be gone.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Brings the end of a child behind everything it has said; see [`LastWords`]. `None`: the event has to wait.
    fn in_order(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Died { child, end, tick } => {
                let Some(member) = self.children.get_mut(&child) else { return Some(event) };
                // Lets the thread go that waits at the doorway of a child which died before it came in.
                if let Some(doorway) = member.doorway.take() {
                    Doorway::shut(&doorway);
                }
                member.last_words.died(end).map(|end| Event::Died { child, end, tick })
            }
            Event::ChannelClosed { child } | Event::ChannelBroken { child, .. } | Event::NotJoined { child, .. } => {
                let death = self.children.get_mut(&child).and_then(|member| member.last_words.read_out());
                Some(death.map_or(event, |end| Event::Died { child, end, tick: None }))
            }
            Event::Begin | Event::Spawned { .. } | Event::NotSpawned { .. } | Event::Joined { .. } => Some(event),
            Event::WorkerSaid { .. } | Event::HostSaid { .. } | Event::DeviceSaid { .. } | Event::Inspected { .. } => Some(event),
            Event::StateCreated { .. } | Event::StateNotCreated { .. } | Event::Looked { .. } => Some(event),
            Event::BoardCreated { .. } | Event::BoardNotCreated { .. } => Some(event),
            Event::LaneCreated { .. } | Event::LaneNotCreated { .. } | Event::Signal | Event::DeadlinePassed => Some(event),
            Event::Key { .. } | Event::KeysReleased => Some(event),
            Event::EditInspected { .. } | Event::Call { .. } | Event::FileChanged { .. } | Event::FileUnreadable { .. } => Some(event),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn(child) => self.spawn(child),
            Action::Compile { runtime, request, settings } => self.compile(runtime, request, settings),
            Action::Release { segment } => {
                self.heard.release(&segment);
                self.segments.release(&segment);
                // The worker may still hold it mapped.
                self.post(self.policy.worker(), Letter::Worker(WorkerRequest::Release { segment }));
            }
            Action::Inspect { runtime, artifact, is_settled } => {
                let inspection = self.inspect(runtime, &artifact, is_settled);
                self.pending.push_back(Event::Inspected { runtime, inspection });
            }
            Action::CompileEdit { request, text, settings, previous } => self.compile_edit(request, &text, settings, previous.as_deref()),
            Action::InspectEdit { change, artifact, base_directory, settings, is_settled } => {
                let compiled = Compiled { settings: settings.as_ref(), is_settled };
                let inspection = match Artifact::read(&artifact) {
                    Ok(artifact) => planning::plan(artifact, &base_directory, &compiled, self.default_type()),
                    Err(error) => Inspection::Damaged { reason: error.to_string() },
                };
                self.pending.push_back(Event::EditInspected { change, inspection });
            }
            Action::Live { runtime, host, request, content } => self.change(runtime, host, request, content.as_deref()),
            Action::Prepare { host, program } => self.post(Child::Host(host), Letter::Host(HostRequest::Prepare(program))),
            Action::Forget { host, runtime, except } => {
                self.post(Child::Host(host), Letter::Host(HostRequest::Forget { runtime, except }));
            }
            Action::TakeOver { host, order, content } => self.take_over(host, order, content),
            Action::Look => {
                let found = self.look();
                self.pending.push_back(Event::Looked { found });
            }
            Action::Answer { ticket, outcome } => self.answer(ticket, *outcome),
            Action::Watch { runtime, path } => self.files.follow(runtime, path, None),
            Action::Unwatch { runtime } => self.files.leave(runtime),
            Action::Log(entry) => {
                self.asset_notes.note(&entry, &self.sender);
                self.log(&entry);
            }
            Action::StartTape(tape) => self.tell_device(DeviceRequest::StartTape(tape)),
            Action::StopTape { number, end_block } => self.tell_device(DeviceRequest::StopTape { number, end_block }),
            Action::Record { ticket, path } => self.record(ticket, path),
            Action::SetGain { runtime, gain, ramp_frames } => {
                let runtime = self.policy.lane_name(runtime);
                self.tell_device(DeviceRequest::SetGain { runtime, gain, ramp_frames });
            }
            Action::SetOutput { runtime, route } => {
                let runtime = self.policy.lane_name(runtime);
                self.tell_device(DeviceRequest::SetOutput { runtime, route });
            }
            Action::CreateLane(runtime) => self.create_lane(runtime),
            Action::CreateBoard(runtime) => {
                let event = match self.segments.create_board() {
                    Ok(board) => Event::BoardCreated { runtime, board },
                    Err(error) => Event::BoardNotCreated { runtime, reason: error.to_string() },
                };
                self.pending.push_back(event);
            }
            Action::Wire { host, wiring } => self.post(Child::Host(host), Letter::Host(HostRequest::Wire(wiring))),
            Action::OpenDevice { sample_rate, first_frame, channels, tape } => self.open_device(sample_rate, first_frame, channels, tape),
            Action::ListDevices => self.tell_device(DeviceRequest::List),
            Action::AddLane { runtime, lane, resumes } => {
                let (runtime, decides_input) = (self.policy.lane_name(runtime), self.player.is_none());
                self.tell_device(DeviceRequest::AddLane { runtime, lane, resumes, decides_input });
            }
            Action::RemoveLane(runtime) => self.tell_device(DeviceRequest::RemoveLane { runtime: self.policy.lane_name(runtime) }),
            Action::Connect(buses) => {
                self.heard.connect(&buses);
                self.tell_device(DeviceRequest::Connect(buses));
            }
            Action::Listen { files_from } => self.tell_device(DeviceRequest::Listen { ports: self.job.midi.clone(), files_from }),
            Action::SetTempo(tempo) => self.tell_device(DeviceRequest::Tempo(tempo)),
            Action::BeginRendering => self.tell_device(DeviceRequest::Begin),
            Action::StopDevice => self.tell_device(DeviceRequest::Stop),
            Action::StartRuntime { runtime, host, artifact, plan, lane, is_protected } => {
                let state = is_protected.then(|| self.create_state(runtime, None, &plan.content)).flatten();
                self.start_runtime(runtime, host, artifact, plan, lane, state);
            }
            Action::RunProgram { runtime, host, artifact } => self.run_program(runtime, host, artifact),
            Action::StopRuntime(host) => self.post(Child::Host(host), Letter::Host(HostRequest::Stop)),
            Action::Close(child) => {
                if let Some(member) = self.children.get_mut(&child) {
                    member.outbox = None;
                }
            }
            Action::Kill(child) => {
                if let Some(member) = self.children.get(&child) {
                    member.process.kill();
                }
            }
            Action::Tell(report) => self.tell(report),
            Action::Finish(_) => {} // Taken by `run`.
        }
    }

    fn log(&mut self, entry: &LogEntry) {
        if let Some((path, why)) = self.journal.log(entry) {
            self.tell(Report::RecordingFailed { path: Some(path), reason: why });
        }
    }

    fn program(&self, runtime: RuntimeIndex) -> Option<&ProgramText> {
        self.policy.texts().get(runtime.0)
    }

    fn name(&self, runtime: RuntimeIndex) -> String {
        self.program(runtime).map(|program| program.name.clone()).unwrap_or_default()
    }

    fn spawn(&mut self, child: Child) {
        let event = match self.try_spawn(child) {
            Ok(pid) => Event::Spawned { child, pid },
            Err(reason) => Event::NotSpawned { child, reason },
        };
        self.pending.push_back(event);
    }

    fn try_spawn(&mut self, child: Child) -> Result<u32, String> {
        let doorway = Doorway::open().map_err(|error| error.to_string())?;
        let doorway_name = doorway.name().to_owned();
        let runtime = match child {
            Child::Host(_) => match self.policy.part(child) {
                Part::Host(runtime) => Some(self.name(runtime)),
                Part::Worker | Part::Device | Part::Spare => None,
            },
            Child::Worker(_) | Child::Device(_) => None,
        };
        let page = CrashPage::create(self.session.id()).map_err(|error| error.to_string())?;
        let writable = match child {
            Child::Device(_) => self.recording_folders(),
            Child::Worker(_) | Child::Host(_) => Vec::new(),
        };
        let start = Start {
            role: child.role(),
            doorway: &doorway_name,
            session: self.session.id(),
            directory: self.session.directory.path(),
            runtime: runtime.as_deref(),
            page: page.name(),
            writable: &writable,
            grace: self.job.live.as_ref().map_or(Duration::ZERO, |live| live.grace),
        };
        let process = Process::start(&start).map_err(|error| format!("cannot execute /proc/self/exe: {error}"))?;
        let hello = Hello { protocol: PROTOCOL_VERSION, build: crate::role::BUILD.to_owned(), role: child.role() };
        let watched = connection::watch(child, &process, self.sender.clone())
            .and_then(|()| connection::meet(child, doorway, hello, self.sender.clone()));
        if let Err(error) = watched {
            process.kill();
            return Err(format!("cannot start a thread: {error}"));
        }
        let pid = process.pid;
        if let Some(started_ticks) = started_ticks_of(pid) {
            self.scribe.started(&ChildNote::new(child, pid, started_ticks, page.name()));
        }
        self.children.insert(child, Member { process, page, doorway: Some(doorway_name), outbox: None, last_words: LastWords::default() });
        Ok(pid)
    }

    /// Where the device host writes what it records. Of a folder that is not there yet, the one that it is to be made in.
    fn recording_folders(&self) -> Vec<PathBuf> {
        let tape = self.policy.tape().unwrap_or_default();
        let offered = self.job.sound.iter().flat_map(|sound| &sound.folders).map(PathBuf::as_path);
        let absolute = tape.folders().chain(offered).filter_map(|path| std::path::absolute(path).ok());
        absolute.filter_map(|path| path.ancestors().find(|path| path.is_dir()).map(Path::to_owned)).collect()
    }

    /// Whether a state segment has been made that the policy has not heard of.
    fn awaits_notes(&self) -> bool {
        self.pending.iter().any(|event| matches!(event, Event::StateCreated { .. }))
    }

    fn send_letters(&mut self) {
        for (child, letter) in std::mem::take(&mut self.letters) {
            self.send(child, letter);
        }
    }

    fn post(&mut self, child: Child, letter: Letter) {
        if self.awaits_notes() {
            self.letters.push((child, letter));
        } else {
            self.send(child, letter);
        }
    }

    fn send(&mut self, child: Child, letter: Letter) {
        // A child that has not come in or has been let go of gets nothing; the policy does not count on it.
        let Some(outbox) = self.children.get(&child).and_then(|member| member.outbox.as_ref()) else { return };
        if let Err(error) = outbox.post(letter) {
            self.pending.push_back(Event::ChannelBroken { child, reason: error.to_string() });
        }
    }

    fn tell_device(&mut self, request: DeviceRequest) {
        self.post(self.policy.device(), Letter::Device(request));
    }

    /// Passes on what clients have asked. Returns whether there was anything.
    fn take_calls(&mut self) -> bool {
        let Some(call) = self.calls.take() else { return self.take_osc() };
        if files::named_file(&call.verb).is_some() {
            if let Err(call) = self.files.read(call) {
                self.answer(call.ticket, Err(ErrorReply::new(ErrorCode::Busy, "too many files are being read; try again")));
            }
            return true;
        }
        let text = files::sent_text(&call.verb);
        self.pending.push_back(Event::Call { call: Box::new(call), text });
        true
    }

    /// The same for OSC, with the ticks of what has a time.
    fn take_osc(&mut self) -> bool {
        let Some((mut call, at)) = self.osc.as_ref().and_then(Osc::take) else { return false };
        match (&mut call.verb, at) {
            (Verb::Set(set), Some(at)) => set.at_tick = self.tick_at(set.runtime.as_str(), at),
            (Verb::Midi(midi), Some(at)) => midi.at_tick = self.tick_at(midi.runtime.as_str(), at),
            (_, Some(_) | None) => {}
        }
        self.pending.push_back(Event::Call { call: Box::new(call), text: None });
        true
    }

    /// The tick that a runtime will be at then.
    fn tick_at(&self, runtime: &str, at: Instant) -> Option<u64> {
        let (life, ticks_per_second) = self.policy.ticking(runtime)?;
        let done = self.look().into_iter().find(|progress| progress.runtime == life)?.done;
        let ahead = at.saturating_duration_since(Instant::now());
        Some(done + (ahead.as_secs_f64() * f64::from(ticks_per_second)).round() as u64)
    }

    /// Begins or ends a recording. One that holds what was heard has ended when that is complete.
    fn record(&mut self, ticket: Ticket, path: Option<PathBuf>) {
        let frames = self.policy.frames();
        let answer = |path: &Path, is_recording| {
            Answer::Record(protocol::Recording { path: path.display().to_string(), is_recording, from_frame: 0, frames })
        };
        let outcome = match (path, self.journal.recording().map(Path::to_owned)) {
            (Some(_), Some(running)) => {
                let message = format!("already recording into {}; end that first", running.display());
                Err(ErrorReply::new(ErrorCode::WrongState, message))
            }
            (Some(path), None) => match self.begin_recording(&path) {
                Ok(()) => Ok(answer(&path, true)),
                Err(error) => Err(ErrorReply::new(ErrorCode::FileFailed, error.to_string()).in_field("params.path")),
            },
            (None, _) => match self.journal.finish(self.lives()) {
                Some(path) => match self.heard.finish() {
                    Some(number) => {
                        self.ending_record = Some((number, ticket, answer(&path, false)));
                        return;
                    }
                    None => Ok(answer(&path, false)),
                },
                None => Err(ErrorReply::new(ErrorCode::WrongState, "nothing is being recorded")),
            },
        };
        self.answer(ticket, outcome);
    }

    /// Begins a recording, and that of what is heard beside it.
    fn begin_recording(&mut self, path: &Path) -> Result<(), JournalError> {
        let heard = heard::beside(path);
        if heard.symlink_metadata().is_ok() {
            let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(JournalError::Write { path: heard, source });
        }
        let id = ContentHash::of(&[self.session.id().as_str().as_bytes(), path.as_os_str().as_encoded_bytes()]).to_string();
        self.journal.record(path, Some(id.clone()))?;
        self.heard.record(&heard, &id);
        for (life, tick, why) in self.heard.lost().to_vec() {
            self.tell_lost(life, tick, why);
        }
        Ok(())
    }

    /// Says what of a running recording's heard sound is missing.
    fn tell_lost(&mut self, life: usize, tick: u64, why: &str) {
        let Some(path) = self.heard.recording().map(Path::to_owned) else { return };
        let name = self.policy.texts().get(life).map(|text| text.name.clone()).unwrap_or_default();
        let reason = format!("what `{name}` heard from tick {tick} on is not recorded: {why}; everything else is");
        self.tell(Report::RecordingFailed { path: Some(path), reason });
    }

    /// What is heard has something to tell.
    fn on_heard(&mut self, news: heard::News) -> Option<Event> {
        match news {
            heard::News::Finished { number } => {
                if let Some((_, ticket, answer)) = self.ending_record.take_if(|(ending, ..)| *ending == number) {
                    self.answer(ticket, Ok(answer));
                }
            }
            heard::News::Failed { path, why } => {
                self.heard.failed(&path);
                self.tell(Report::RecordingFailed { path: Some(path), reason: why });
            }
            heard::News::Lost { life, tick, why } => {
                self.heard.lose(life, tick, why);
                self.tell_lost(life, tick, why);
            }
            heard::News::Unplayable { why } => {
                let reason = format!("what was heard cannot be read any more: {why}");
                self.tell(Report::RecordingFailed { path: None, reason });
                return Some(Event::Signal);
            }
        }
        None
    }

    /// Answers a client, with what only we know filled in.
    fn answer(&self, ticket: Ticket, outcome: Result<Answer, ErrorReply>) {
        let outcome = match &self.osc {
            Some(osc) => osc.answer(ticket, outcome),
            None => Some(outcome),
        };
        let (Some(outcome), Some((server, name))) = (outcome, &self.control) else { return };
        let control = server.handle();
        let outcome = outcome.map(|answer| match answer {
            Answer::Ping(_) => Answer::Ping(Pong { control: control.status() }),
            Answer::WhyDied(asked) => Answer::WhyDied(self.obituaries.tell(asked.runtime)),
            Answer::Status(mut status) => {
                name.as_str().clone_into(&mut status.session);
                status.pid = std::process::id();
                crate::role::BUILD.clone_into(&mut status.build);
                status.uptime_ms = self.now_ms();
                status.recording = self.journal.recording().map(|path| path.display().to_string());
                status.control = control.status();
                status.osc = self.osc.as_ref().map(Osc::status);
                Answer::Status(status)
            }
            other => other,
        });
        control.reply(ticket, outcome);
    }

    fn tell(&mut self, report: Report) {
        if let Some((server, _)) = &self.control {
            let control = server.handle();
            if publishing::topic(&report).is_some_and(|topic| control.has_subscribers(topic))
                && let Some(event) = publishing::event(&self.policy, &report)
            {
                control.publish(event);
            }
            if control.has_subscribers(Topic::Log)
                && let Some(event) = publishing::line(&self.policy, &report)
            {
                control.publish(event);
            }
        }
        if report == Report::Stopping {
            self.manager.stopping();
        }
        if let Report::RunDone { .. } = report
            && let Some(sent) = self.sent.take().and_then(sent::Listener::finish)
        {
            self.audience.has_sent(sent);
        }
        self.audience.hear(self.policy.texts(), report);
    }

    fn default_type(&self) -> Option<&str> {
        self.job.live.as_ref().and_then(|live| live.default_runtime.as_deref())
    }

    fn compile_edit(&mut self, request: u64, text: &ProgramText, settings: Option<CompileSettings>, previous: Option<&Content>) {
        let settings = settings.unwrap_or(CompileSettings { environment: Vec::new(), work_budget: AUDIO_WORK_BUDGET });
        let request = CompileRequest {
            id: request,
            source: text.source.as_bytes().to_vec(),
            goal: CompileGoal::Native,
            memory_regions: self.job.memory_regions.clone(),
            environment: settings.environment,
            previous: previous.map(|content| Box::new(content.manifest.clone())),
            work_budget: settings.work_budget,
            generation: GENERATION,
        };
        self.post(self.policy.worker(), Letter::Worker(WorkerRequest::Compile(request)));
    }

    fn compile(&mut self, runtime: RuntimeIndex, request: u64, settings: Option<CompileSettings>) {
        let Some(program) = self.program(runtime) else { return };
        let (goal, work_budget) = match self.job.goal {
            Goal::Check | Goal::ListDevices => (CompileGoal::Check, 0),
            Goal::Compile => (CompileGoal::Wasm, 0),
            Goal::Run => (CompileGoal::Native, RUN_WORK_BUDGET),
            Goal::Play { .. } | Goal::Serve | Goal::Bounce | Goal::Replay { .. } => (CompileGoal::Native, AUDIO_WORK_BUDGET),
        };
        let settings = settings.unwrap_or(CompileSettings { environment: Vec::new(), work_budget });
        let request = CompileRequest {
            id: request,
            source: program.source.as_bytes().to_vec(),
            goal,
            memory_regions: self.job.memory_regions.clone(),
            environment: settings.environment,
            previous: None,
            work_budget: settings.work_budget,
            generation: GENERATION,
        };
        self.post(self.policy.worker(), Letter::Worker(WorkerRequest::Compile(request)));
    }

    fn inspect(&mut self, runtime: RuntimeIndex, reference: &SegmentRef, is_settled: bool) -> Inspection {
        let artifact = match Artifact::read(reference) {
            Ok(artifact) => artifact,
            Err(error) => return Inspection::Damaged { reason: error.to_string() },
        };
        match self.job.goal {
            Goal::Play { .. } | Goal::Serve | Goal::Bounce | Goal::Replay { .. } => match self.program(runtime) {
                Some(program) => {
                    let compiled = Compiled { settings: None, is_settled };
                    planning::plan(artifact, &program.base_directory, &compiled, self.default_type())
                }
                None => Inspection::Runnable,
            },
            Goal::Compile => match self.audience.examine(&artifact) {
                Ok(()) => Inspection::Delivered,
                Err(reason) => Inspection::NotDelivered { reason },
            },
            Goal::Run | Goal::Check | Goal::ListDevices => match self.audience.examine(&artifact) {
                Ok(()) => Inspection::Runnable,
                Err(reason) => Inspection::NotDelivered { reason },
            },
        }
    }

    fn create_lane(&mut self, runtime: RuntimeIndex) {
        let event = match self.segments.create_lane(self.policy.has_notes(runtime)) {
            Ok(lane) => match self.be_heard(runtime, &lane) {
                Ok(()) => Event::LaneCreated { runtime, lane },
                Err(reason) => Event::LaneNotCreated { runtime, reason },
            },
            Err(error) => Event::LaneNotCreated { runtime, reason: error.to_string() },
        };
        self.pending.push_back(event);
    }

    /// Takes note of a lane in which something may be heard; in a replay, decides what.
    fn be_heard(&mut self, runtime: RuntimeIndex, lane: &SegmentRef) -> Result<(), String> {
        let replay = self.job.replay.as_ref();
        if let Some(sending) = replay.and_then(|replay| replay.sending.as_ref()).filter(|_| lane.kind == SegmentKind::MidiLane) {
            self.sent = Some(sent::Listener::start(lane, sending).map_err(|error| error.to_string())?);
        }
        if lane.kind != SegmentKind::Lane {
            return Ok(());
        }
        self.heard.add(self.policy.lane_name(runtime), runtime.0, lane.clone());
        let Some(source) = replay.and_then(|replay| replay.heard.as_ref()) else { return Ok(()) };
        let heard = HeardLife::find(&source.path, &source.id, source.life).map_err(|error| error.to_string())?;
        self.player = Some(Player::start(heard, lane, &self.sender).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// A state segment for a program of a runtime; the policy is told whether there is one.
    fn create_state(&mut self, runtime: RuntimeIndex, request: Option<RequestId>, content: &Content) -> Option<SegmentRef> {
        match self.segments.create_state(&content.manifest) {
            Ok(state) => {
                self.pending.push_back(Event::StateCreated { runtime, request, state: state.clone() });
                Some(state)
            }
            Err(error) => {
                self.pending.push_back(Event::StateNotCreated { runtime, reason: error.to_string() });
                None
            }
        }
    }

    /// Asks a host to change its runtime. A swap gets a place for the checkpoints of its program.
    fn change(&mut self, runtime: RuntimeIndex, host: HostIndex, mut request: LiveRequest, content: Option<&Content>) {
        if let (LiveChange::Swap(swap), Some(content)) = (&mut request.what, content) {
            swap.state = self.create_state(runtime, Some(request.request), content);
        }
        self.post(Child::Host(host), Letter::Host(HostRequest::Live(request)));
    }

    /// Tells a host to go on where another one stopped; a swap that is to come first gets a place for its checkpoints.
    fn take_over(&mut self, host: HostIndex, mut order: Box<TakeOver>, content: Option<(RuntimeIndex, Arc<Content>)>) {
        let first = order.first.first_mut().map(|asked| (asked.request, &mut asked.what));
        if let (Some((request, LiveChange::Swap(swap))), Some((runtime, content))) = (first, content) {
            swap.state = self.create_state(runtime, Some(request), &content);
        }
        self.post(Child::Host(host), Letter::Host(HostRequest::TakeOver(order)));
    }

    /// How far every runtime is whose work can be counted.
    fn look(&self) -> Vec<Progress> {
        let progress = |(runtime, watched): (RuntimeIndex, Watched<'_>)| {
            let (done, due) = match watched {
                Watched::Lane(lane) => self.segments.lane(lane)?,
                Watched::State(state) => self.segments.ticks(state).map(|done| (done, done.saturating_add(1)))?,
            };
            Some(Progress { runtime, done, due })
        };
        self.policy.watched().filter_map(progress).collect()
    }

    /// Every life of a runtime and how far it has come by now, which its host may not have told yet.
    fn lives(&self) -> Vec<(usize, u64)> {
        let looked = self.look();
        let done = |life| looked.iter().find(|progress| progress.runtime.0 == life).map_or(0, |progress| progress.done);
        let so_far = |(life, ticks, is_all): (usize, u64, bool)| (life, if is_all { ticks } else { ticks.max(done(life)) });
        self.policy.lives().into_iter().map(so_far).collect()
    }

    fn open_device(&mut self, sample_rate: u32, first_frame: u64, channels: u32, tape: Option<Tape>) {
        let Some(sound) = &self.job.sound else { return };
        let open = OpenDevice {
            output: sound.output.at(sample_rate),
            sample_rate,
            lead_blocks: sound.lead_blocks,
            first_frame,
            channels,
            tape,
            starts_together: true,
        };
        self.tell_device(DeviceRequest::Open(open));
    }

    fn start_runtime(
        &mut self,
        runtime: RuntimeIndex,
        host: HostIndex,
        artifact: SegmentRef,
        plan: Plan,
        lane: Option<SegmentRef>,
        state: Option<SegmentRef>,
    ) {
        let Some(program) = self.program(runtime) else { return };
        let is_offline = self.job.sound.as_ref().is_some_and(|sound| matches!(sound.output, OutputChoice::Unpaced { .. }));
        let start = StartRuntime {
            runtime: program.name.clone(),
            generation: self.policy.life(runtime).map_or(GENERATION, |(generation, _)| generation),
            runtime_type: plan.runtime_type,
            artifact,
            sample_rate: plan.sample_rate,
            lane,
            base_directory: program.base_directory.clone(),
            is_offline,
            state,
            run_until: matches!(self.job.goal, Goal::Bounce | Goal::Replay { .. }).then_some(0),
            wiring: Box::default(),
        };
        self.post(Child::Host(host), Letter::Host(HostRequest::Start(start)));
    }

    fn run_program(&mut self, runtime: RuntimeIndex, host: HostIndex, artifact: SegmentRef) {
        let order = self.audience.run_order();
        let assets_from = self.program(runtime).filter(|_| order.with_assets).map(|program| program.base_directory.clone());
        let job = RunJob {
            artifact,
            exports: order.exports,
            cycles: order.cycles,
            sets: order.sets,
            dumps: order.dumps,
            captures: order.captures,
            dump_memory: order.dump_memory,
            assets_from,
        };
        self.post(Child::Host(host), Letter::Host(HostRequest::Run(job)));
    }
}

/// The clock that all processes of the machine share.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).unwrap_or(0)
}
