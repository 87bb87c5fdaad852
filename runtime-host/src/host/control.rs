//! The control thread of a runtime host: answers the supervisor, and owns everything the tick thread does not.
//!
//! One event at a time, from three sources: the supervisor's requests (read by a thread that does nothing else), a run
//! without a clock (on its own thread), and the end of the tick thread. While a runtime runs it also looks at the tick
//! thread's queues and counters from time to time. It never waits for the program: a tick that does not end leaves it free
//! to say so, and only the supervisor decides to kill. When the supervisor is gone a runtime that runs plays on for as long as
//! its [`Grace`] says, and tells the next one where it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use ipc::artifact::Artifact;
use ipc::channel::Receiver as Requests;
use ipc::crash::{self, Phase};
use ipc::engine::TICK_THREAD_STACK_BYTES;
use ipc::live::{LiveReply, LiveRequest};
use ipc::message::{HostReply, HostRequest, HostStatus, Refusal, RunJob, StartRuntime};
use ipc::recovery::{Prepare, Presence, TakeOver, TookOver};
use ipc::rendezvous::{Connection, Grace};
use ipc::segment::{SegmentRef, SessionId};

use super::engine::Loader;
use super::line::{Gone, Line};
use super::live::desk::{Desk, Office};
use super::live::layouts::{Layouts, Revision};
use super::run_job;
use super::spare::Spare;
use super::start::{Prepared, machine_refusal, plain_refusal, prepare, rehearse};
use super::take_over::{self, Resumed};
use super::tick_thread::{Opening, TickThread, TickThreadOptions};
use crate::realtime::were_demoted;
use crate::registry::{RuntimeType, log_lines};

/// Events that may be on the way at a time; beyond, their senders wait.
const EVENT_QUEUE: usize = 16;
/// How often the tick thread's reports are collected.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);
/// The same while an answer is to be expected from it.
const ANSWER_INTERVAL: Duration = Duration::from_millis(2);
/// How often counters are sent.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How long a runtime may take to fade out when the supervisor is gone.
const FAREWELL: Duration = Duration::from_millis(500);

/// Said once of a runtime.
const REFUSED_GROWTH: &str =
    "The program asks for more memory while it runs and is refused: it has what its text declares. `status` counts how often.";

/// Everything that can happen to a host.
#[allow(clippy::large_enum_variant)] // A few are on the way at a time, and most are requests.
pub enum Event {
    Request(HostRequest),
    /// The supervisor is gone, or speaks nonsense.
    Closed,
    /// The next supervisor has come.
    Attached(Connection),
    /// There will be no next supervisor.
    Abandoned,
    /// A run without a clock has something to say.
    JobReply(HostReply),
    /// It is over; its last reply, unless it was cancelled.
    JobEnded(Option<HostReply>),
    TickThreadEnded,
}

/// A runtime that ticks, or fades out.
struct Running {
    runtime: String,
    generation: u64,
    type_id: &'static str,
    /// Where changes of it come in and answers go out.
    desk: Desk,
    tick_thread: TickThread,
    next_status: Instant,
    /// It has been said that the program is refused more memory.
    has_said_refused: bool,
    /// How it was taken over from a host that died, if it was.
    took_over: Option<Box<TookOver>>,
}

enum State {
    Idle,
    Running(Running),
    /// It was asked to end and has not ended yet.
    Ending(Running),
    Job {
        cancelled: Arc<AtomicBool>,
    },
}

impl Running {
    /// How long the tick thread need not be looked at.
    fn patience(&self) -> Duration {
        if self.desk.is_waiting() { ANSWER_INTERVAL } else { REPORT_INTERVAL }
    }
}

/// The control thread's own.
pub struct Control {
    session: SessionId,
    replies: Line,
    grace: Option<Grace>,
    events: Receiver<Event>,
    event_sender: SyncSender<Event>,
    loader: Loader,
    /// Programs that are kept ready, as long as nothing runs here.
    spare: Spare,
    state: State,
}

impl Control {
    /// Starts to read requests.
    pub fn new(connection: Connection, session: SessionId, loader: Loader, grace: Option<Grace>) -> std::io::Result<Self> {
        let (event_sender, events) = mpsc::sync_channel(EVENT_QUEUE);
        let replies = Line::new(connection.sender);
        let control = Self { session, replies, grace, events, event_sender, loader, spare: Spare::default(), state: State::Idle };
        control.listen(connection.receiver)?;
        Ok(control)
    }

    /// Reads the supervisor's requests on a thread of their own.
    fn listen(&self, receiver: Requests) -> std::io::Result<()> {
        let requests = self.event_sender.clone();
        std::thread::Builder::new().name("requests".to_owned()).spawn(move || read_requests(&receiver, &requests)).map(drop)
    }

    /// Handles events until the supervisor is gone, then ends what runs.
    pub fn run(mut self) {
        loop {
            let outcome = match self.next_event() {
                Some(event) => self.handle(event),
                None => Ok(()),
            };
            let is_over = outcome.and_then(|()| self.look_at_tick_thread()).is_err();
            // Without a supervisor there is nothing to do but to play on.
            if is_over || (self.replies.is_cut() && !matches!(self.state, State::Running(_))) {
                return self.end();
            }
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        match &self.state {
            State::Running(running) => match self.events.recv_timeout(running.patience()) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Event::Closed),
            },
            State::Idle | State::Ending(_) | State::Job { .. } => Some(self.events.recv().unwrap_or(Event::Closed)),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Gone> {
        match (std::mem::replace(&mut self.state, State::Idle), event) {
            (State::Idle, Event::Request(HostRequest::Start(start))) => self.start(&start),
            (State::Idle, Event::Request(HostRequest::Run(job))) => self.start_job(job),
            (State::Idle, Event::Request(HostRequest::Stop)) => self.send(HostReply::Stopped),
            (State::Running(running), Event::Request(HostRequest::Stop)) => {
                running.tick_thread.request_stop();
                self.state = State::Ending(running);
                Ok(())
            }
            (State::Job { cancelled }, Event::Request(HostRequest::Stop)) => {
                cancelled.store(true, Relaxed);
                self.state = State::Job { cancelled };
                Ok(())
            }
            (busy @ (State::Running(_) | State::Ending(_) | State::Job { .. }), Event::Request(HostRequest::Start(start))) => {
                self.state = busy;
                self.refuse(&start.artifact, plain_refusal("this host already runs a program".to_owned()))
            }
            (busy @ (State::Running(_) | State::Ending(_) | State::Job { .. }), Event::Request(HostRequest::Run(job))) => {
                self.state = busy;
                self.refuse(&job.artifact, plain_refusal("this host already runs a program".to_owned()))
            }
            (State::Ending(running), Event::Request(HostRequest::Stop)) => {
                self.state = State::Ending(running);
                Ok(())
            }
            (State::Running(running), Event::Request(HostRequest::Live(request))) => {
                self.state = State::Running(running);
                self.change(request);
                Ok(())
            }
            (state @ (State::Idle | State::Ending(_) | State::Job { .. }), Event::Request(HostRequest::Live(request))) => {
                self.state = state;
                let reason = plain_refusal("no program that could be changed runs in this host".to_owned());
                self.send(HostReply::Live(LiveReply::Refused { request: request.request, reason }))
            }
            (State::Running(mut running), Event::Request(HostRequest::Wire(wiring))) => {
                // A reply that cannot be sent is noticed with the next one.
                running.desk.connect(wiring, &mut |reply| drop(self.replies.send(&reply)));
                running.desk.wire(&mut running.tick_thread);
                self.state = State::Running(running);
                Ok(())
            }
            // Nothing runs that has wires; whoever runs next is told with its start.
            (state @ (State::Idle | State::Ending(_) | State::Job { .. }), Event::Request(HostRequest::Wire(_))) => {
                self.state = state;
                Ok(())
            }
            (State::Idle, Event::Request(HostRequest::Prepare(prepare))) => self.keep_ready(&prepare),
            (State::Idle, Event::Request(HostRequest::TakeOver(request))) => self.take_over(*request),
            (busy @ (State::Running(_) | State::Ending(_) | State::Job { .. }), Event::Request(HostRequest::Prepare(prepare))) => {
                self.state = busy;
                self.refuse(&prepare.artifact, plain_refusal("this host already runs a program, so it keeps none ready".to_owned()))
            }
            (busy @ (State::Running(_) | State::Ending(_) | State::Job { .. }), Event::Request(HostRequest::TakeOver(request))) => {
                self.state = busy;
                self.refuse(&request.start.artifact, plain_refusal("this host already runs a program".to_owned()))
            }
            (state, Event::Request(HostRequest::Forget { runtime, except })) => {
                self.state = state;
                self.spare.forget(&runtime, &except);
                Ok(())
            }
            (State::Running(running) | State::Ending(running), Event::TickThreadEnded) => self.take_apart(running),
            (State::Job { cancelled }, Event::JobEnded(last)) => {
                last.map_or(Ok(()), |last| self.send(last))?;
                if cancelled.load(Relaxed) { self.send(HostReply::Stopped) } else { Ok(()) }
            }
            (job @ State::Job { .. }, Event::JobReply(reply)) => {
                self.state = job;
                self.send(reply)
            }
            // Events of a thread that belongs to another state would be a mistake in this file; they change nothing.
            (state @ (State::Idle | State::Job { .. }), Event::TickThreadEnded)
            | (state @ (State::Idle | State::Running(_) | State::Ending(_)), Event::JobEnded(_) | Event::JobReply(_)) => {
                self.state = state;
                Ok(())
            }
            (State::Running(running), Event::Closed) => {
                self.state = State::Running(running);
                self.await_supervisor()
            }
            (state, Event::Closed | Event::Abandoned) => {
                self.state = state;
                Err(Gone)
            }
            (state, Event::Attached(connection)) => {
                self.state = state;
                self.attach(connection)
            }
        }
    }

    /// The supervisor is gone: plays on for the next one, if there can be one.
    fn await_supervisor(&mut self) -> Result<(), Gone> {
        let grace = self.grace.clone().ok_or(Gone)?;
        self.replies.cut();
        let events = self.event_sender.clone();
        let wait = move || drop(events.send((grace.next_supervisor)().map_or(Event::Abandoned, Event::Attached)));
        std::thread::Builder::new().name("rendezvous".to_owned()).spawn(wait).map(drop).map_err(|_| Gone)
    }

    /// The next supervisor has come: tells it what runs here, and what has happened of late.
    fn attach(&mut self, connection: Connection) -> Result<(), Gone> {
        let State::Running(running) = &self.state else { return Err(Gone) };
        let diary = self.replies.diary();
        let presence = Presence {
            runtime: running.runtime.clone(),
            generation: running.generation,
            revision: running.desk.revision(),
            next_tick: running.tick_thread.counters().ticks(),
            is_frozen: diary.is_frozen,
            is_held: running.tick_thread.counters().is_held(),
            last_request: diary.last_request,
            answers: diary.answers(),
            took_over: running.took_over.clone(),
        };
        self.replies.mend(connection.sender);
        self.send(HostReply::Present(Box::new(presence)))?;
        self.listen(connection.receiver).map_err(|_| Gone)
    }

    fn send(&self, reply: HostReply) -> Result<(), Gone> {
        self.replies.send(&reply)
    }

    fn log(&self, runtime: &str, line: String) -> Result<(), Gone> {
        self.send(HostReply::Log { runtime: runtime.to_owned(), line })
    }

    fn refuse(&self, segment: &SegmentRef, reason: Refusal) -> Result<(), Gone> {
        self.send(HostReply::Refused { segment: segment.name.clone(), reason })
    }

    /// A host maps only segments of its own session.
    fn check_session(&self, segments: &[&SegmentRef]) -> Result<(), Refusal> {
        match segments.iter().find(|segment| !segment.belongs_to(&self.session)) {
            Some(foreign) => Err(plain_refusal(format!("the segment {} belongs to another session", foreign.name))),
            None => Ok(()),
        }
    }

    fn start(&mut self, start: &StartRuntime) -> Result<(), Gone> {
        crash::set_runtime(&start.runtime);
        crash::phase_rt(Phase::Initialise);
        match self.start_running(start) {
            Ok(running) => {
                let (runtime, type_id) = (running.runtime.clone(), running.type_id);
                self.state = State::Running(running);
                self.log(&runtime, log_lines::initialized(type_id))?;
                self.send(HostReply::Started { runtime })?;
                self.note_assets();
                Ok(())
            }
            Err(reason) => self.refuse(&start.artifact, reason),
        }
    }

    /// Once the program sounds: what files have brought into its memory.
    fn note_assets(&mut self) {
        if let State::Running(running) = &mut self.state {
            running.desk.note_assets();
        }
    }

    fn start_running(&self, start: &StartRuntime) -> Result<Running, Refusal> {
        let segments: Vec<&SegmentRef> = std::iter::once(&start.artifact).chain(&start.lane).chain(&start.state).collect();
        self.check_session(&segments)?;
        // A reply that cannot be sent is noticed with the next one.
        let mut reply = |reply| drop(self.replies.send(&reply));
        let Prepared { runtime_type, runtime, program, image } = prepare(&self.loader, &self.session, start, &mut reply)?;
        let revision = Revision { manifest: Arc::clone(program.engine().manifest()), image: Arc::new(image) };
        let office = Office {
            session: self.session.clone(),
            runtime: start.runtime.clone(),
            runtime_type,
            base_directory: start.base_directory.clone(),
        };
        let mut desk = Desk::new(office, program.identity(), Layouts::new(program.engine().sizes(), revision));
        desk.connect((*start.wiring).clone(), &mut reply);
        let mut running = self.run_opening(start, desk, runtime_type, Opening::new(runtime, program, start.is_offline))?;
        if start.wiring.board.is_some() {
            running.desk.wire(&mut running.tick_thread);
        }
        running.tick_thread.begin();
        Ok(running)
    }

    /// Starts the tick thread, which waits for [`TickThread::begin`].
    fn run_opening(
        &self,
        start: &StartRuntime,
        desk: Desk,
        runtime_type: &'static RuntimeType,
        opening: Opening,
    ) -> Result<Running, Refusal> {
        let ended = self.event_sender.clone();
        let options = TickThreadOptions {
            runtime_type,
            is_offline: start.is_offline,
            run_until: start.run_until,
            on_end: Box::new(move || drop(ended.send(Event::TickThreadEnded))),
        };
        let tick_thread =
            TickThread::start(opening, options).map_err(|error| machine_refusal(format!("the tick thread cannot be started: {error}")))?;
        let (runtime, generation) = (start.runtime.clone(), start.generation);
        let type_id = runtime_type.id;
        let (next_status, has_said_refused) = (Instant::now(), false);
        Ok(Running { runtime, generation, type_id, desk, tick_thread, next_status, has_said_refused, took_over: None })
    }

    fn keep_ready(&mut self, prepare: &Prepare) -> Result<(), Gone> {
        let kept = self.check_session(&[&prepare.artifact]).and_then(|()| self.spare.keep(&self.loader, prepare));
        match kept {
            Ok(()) => self.send(HostReply::Prepared { runtime: prepare.runtime.clone(), revision: prepare.revision }),
            Err(reason) => self.refuse(&prepare.artifact, reason),
        }
    }

    /// Goes on for a host that died. The first block is under way before anybody is told.
    fn take_over(&mut self, request: TakeOver) -> Result<(), Gone> {
        let began = Instant::now();
        let (segment, artifact) = (request.start.artifact.clone(), request.candidates.last().map(|candidate| candidate.artifact.clone()));
        match self.resume(request, began) {
            Ok(log) => {
                // What was kept ready for others is of no use here any more.
                self.spare = Spare::default();
                self.note_assets();
                self.rehearse(&artifact);
                log
            }
            Err(reason) => self.refuse(&segment, reason),
        }
    }

    /// A program that was not kept ready has been loaded without having had the process's first trap, which is slow. Now that it
    /// sounds there is time for that.
    fn rehearse(&self, artifact: &Option<SegmentRef>) {
        if let State::Running(Running { took_over: Some(took_over), .. }) = &self.state
            && !took_over.was_prepared
            && let Some(artifact) = artifact.as_ref().and_then(|artifact| Artifact::read(artifact).ok())
        {
            rehearse(&artifact);
        }
    }

    fn resume(&mut self, request: TakeOver, began: Instant) -> Result<Result<(), Gone>, Refusal> {
        let TakeOver { start, candidates, first } = request;
        crash::set_runtime(&start.runtime);
        crash::phase_rt(Phase::Initialise);
        let segments: Vec<&SegmentRef> =
            start.lane.iter().chain(candidates.iter().flat_map(|candidate| [&candidate.artifact, &candidate.state])).collect();
        self.check_session(&segments)?;
        let resumed = take_over::resume(&self.loader, &self.session, &mut self.spare, &start, &candidates)?;
        let Resumed { runtime_type, opening, desk, mut took_over, told } = resumed;
        let mut running = self.run_opening(&start, desk, runtime_type, opening)?;
        // A reply that cannot be sent is noticed with the next one.
        let mut replies = Vec::new();
        self.replies.diary().is_frozen = took_over.is_frozen;
        if start.wiring.board.is_some() {
            running.desk.wire(&mut running.tick_thread);
        }
        for change in first {
            // The next supervisor must not take it for one that got lost on its way.
            self.replies.diary().ask(&change);
            running.desk.take(change, &self.loader, &mut running.tick_thread, &mut |reply| replies.push(reply));
        }
        running.tick_thread.begin();
        took_over.took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        running.took_over = Some(Box::new(took_over.clone()));
        let log = HostReply::Log { runtime: start.runtime, line: log_lines::initialized(runtime_type.id) };
        self.state = State::Running(running);
        let told = std::iter::once(HostReply::TookOver(Box::new(took_over))).chain(told).chain(replies).chain([log]);
        Ok(told.into_iter().try_for_each(|reply| self.send(reply)))
    }

    fn change(&mut self, request: LiveRequest) {
        let State::Running(running) = &mut self.state else { return };
        self.replies.diary().ask(&request);
        // A reply that cannot be sent is noticed with the next one.
        let mut reply = |reply| drop(self.replies.send(&reply));
        // What has happened before the request is heard before it is prepared.
        running.desk.look(&mut running.tick_thread, &mut reply);
        running.desk.take(request, &self.loader, &mut running.tick_thread, &mut reply);
    }

    fn start_job(&mut self, job: RunJob) -> Result<(), Gone> {
        if let Err(reason) = self.check_session(&[&job.artifact]) {
            return self.refuse(&job.artifact, reason);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let (events, is_cancelled, loader) = (self.event_sender.clone(), Arc::clone(&cancelled), self.loader.clone());
        let segment = job.artifact.clone();
        let body = move || {
            let last = run_job::execute(&loader, &job, &is_cancelled, &mut |reply| events.send(Event::JobReply(reply)).is_ok());
            let _ = events.send(Event::JobEnded(last));
        };
        match std::thread::Builder::new().name("run".to_owned()).stack_size(TICK_THREAD_STACK_BYTES).spawn(body) {
            Ok(_) => {
                self.state = State::Job { cancelled };
                Ok(())
            }
            Err(error) => self.refuse(&segment, machine_refusal(format!("the run's thread cannot be started: {error}"))),
        }
    }

    /// The tick thread has ended: frees what it had.
    fn take_apart(&mut self, mut running: Running) -> Result<(), Gone> {
        // A reply that cannot be sent is noticed with the next one.
        let mut reply = |reply| drop(self.replies.send(&reply));
        running.desk.look(&mut running.tick_thread, &mut reply);
        running.desk.report_wires(&running.tick_thread, true, &mut reply);
        send_status(&self.replies, &running)?;
        let tick = running.tick_thread.counters().ticks();
        if let Some(leftovers) = running.tick_thread.join() {
            running.desk.close(leftovers, tick, &mut reply);
        }
        self.log(&running.runtime, log_lines::destroying(running.type_id))?;
        self.send(HostReply::Stopped)
    }

    /// Forwards what the tick thread has to report, and its counters when it is time.
    fn look_at_tick_thread(&mut self) -> Result<(), Gone> {
        let (State::Running(running) | State::Ending(running)) = &mut self.state else { return Ok(()) };
        let mut reply = |reply| drop(self.replies.send(&reply));
        running.desk.look(&mut running.tick_thread, &mut reply);
        let is_due = Instant::now() >= running.next_status;
        running.desk.report_wires(&running.tick_thread, is_due, &mut reply);
        if is_due {
            running.next_status = Instant::now() + STATUS_INTERVAL;
            send_status(&self.replies, running)?;
            if running.tick_thread.counters().refused_growth() > 0 && !std::mem::replace(&mut running.has_said_refused, true) {
                self.replies.send(&HostReply::Log { runtime: running.runtime.clone(), line: REFUSED_GROWTH.to_owned() })?;
            }
        }
        Ok(())
    }

    /// Without a supervisor: fades out what runs, and leaves.
    fn end(self) {
        match self.state {
            State::Running(running) | State::Ending(running) => {
                running.tick_thread.request_stop();
                let give_up = Instant::now() + FAREWELL;
                while let Ok(event) = self.events.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                    if matches!(event, Event::TickThreadEnded) {
                        drop(running.tick_thread.join());
                        return;
                    }
                }
            }
            State::Job { cancelled } => cancelled.store(true, Relaxed),
            State::Idle => {}
        }
    }
}

fn send_status(replies: &Line, running: &Running) -> Result<(), Gone> {
    let counters = running.tick_thread.counters();
    replies.send(&HostReply::Status(HostStatus {
        runtime: running.runtime.clone(),
        ticks: counters.ticks(),
        load_permille: counters.take_load_permille(),
        lost_ticks: counters.lost_ticks(),
        non_finite: counters.non_finite(),
        refused_growth: counters.refused_growth(),
        is_realtime: counters.is_realtime() && !were_demoted(),
        is_held: counters.is_held(),
    }))
}

fn read_requests(receiver: &Requests, events: &SyncSender<Event>) {
    loop {
        let event = receiver.receive().map_or(Event::Closed, Event::Request);
        let is_last = matches!(event, Event::Closed);
        if events.send(event).is_err() || is_last {
            return;
        }
    }
}
