//! The control thread: takes requests of the supervisor and events of the other threads, one at a time, and answers.
//!
//! It never renders, never waits for a driver library and never locks what a real-time thread uses. If the supervisor's
//! queue is full it waits there; the sound goes on.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ipc::message::{DeviceDescription, DeviceReply, DeviceRequest, OpenDevice};
use ipc::segment::SessionId;

use super::output::listing;
use super::output::search::Found;
use super::output::stream::StreamLost;
use super::session::Session;

/// How often the mixer's notices and the watchdog are looked at.
const TICK: Duration = Duration::from_millis(20);

/// The same while somebody waits for a lane to begin or for the end.
const BUSY_TICK: Duration = Duration::from_millis(2);

/// All that can happen to the control thread.
pub enum Event {
    Request(DeviceRequest),
    /// The supervisor is gone.
    Closed,
    /// A search for a device is over.
    Found(Found),
    /// A stream has lost its device.
    Lost(StreamLost),
    /// An unpaced output is done.
    Rendered,
    /// The recording ended early, for this reason.
    RecordingFailed(String),
    Listed(Vec<DeviceDescription>),
}

/// Whether the process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    /// The supervisor is gone or has been told that all is over.
    Exit,
}

/// The control thread's state.
pub struct Control {
    sender: ipc::channel::Sender,
    events_in: Sender<Event>,
    session_id: SessionId,
    session: Option<Session>,
}

impl Control {
    pub fn new(sender: ipc::channel::Sender, events_in: Sender<Event>, session_id: SessionId) -> Self {
        Self { sender, events_in, session_id, session: None }
    }

    /// Runs until the supervisor says stop, or is gone.
    pub fn run(mut self, events: &Receiver<Event>) -> ExitCode {
        loop {
            let tick = if self.session.as_ref().is_some_and(Session::is_changing) { BUSY_TICK } else { TICK };
            let flow = match events.recv_timeout(tick) {
                Ok(event) => self.on_event(event, Instant::now()),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Flow::Continue,
            };
            if flow == Flow::Exit || self.on_tick(Instant::now()) == Flow::Exit {
                return ExitCode::SUCCESS;
            }
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) -> Flow {
        let replies = match event {
            Event::Request(request) => return self.on_request(request, now),
            Event::Closed => return self.begin_end(now),
            Event::Found(found) => self.session.as_mut().and_then(Session::outputs).map(|outputs| outputs.on_found(found, now)),
            Event::Lost(lost) => self.session.as_mut().and_then(Session::outputs).map(|outputs| outputs.on_lost(&lost, now)),
            Event::Rendered => self.session.as_mut().map(Session::on_rendered),
            Event::RecordingFailed(reason) => self.session.as_mut().map(|session| vec![session.on_recording_failed(reason)]),
            Event::Listed(devices) => Some(vec![DeviceReply::Devices(devices)]),
        };
        self.send_all(replies.unwrap_or_default(), now)
    }

    fn on_request(&mut self, request: DeviceRequest, now: Instant) -> Flow {
        let reply = match (request, &mut self.session) {
            (DeviceRequest::List, _) => self.list(),
            (DeviceRequest::Stop, _) => return self.begin_end(now),
            (DeviceRequest::Open(request), None) => return self.open(&request, now),
            (DeviceRequest::Open(_), Some(_)) => Some(DeviceReply::Failed { reason: "an output is already open".into() }),
            (DeviceRequest::AddLane { runtime, lane, .. }, Some(session)) => Some(session.add_lane(runtime, &lane)),
            (DeviceRequest::AddLane { runtime, .. }, None) => {
                Some(DeviceReply::LaneRefused { runtime, reason: "no output is open".into() })
            }
            (DeviceRequest::RemoveLane { runtime }, Some(session)) => session.remove_lane(runtime),
            (DeviceRequest::RemoveLane { runtime }, None) => Some(DeviceReply::LaneRemoved { runtime }),
            (DeviceRequest::SetGain { runtime, gain, ramp_frames }, Some(session)) => {
                session.set_gain(&runtime, gain, ramp_frames);
                None
            }
            (DeviceRequest::SetGain { .. }, None) => None,
            (DeviceRequest::Begin, Some(session)) => session.begin(),
            (DeviceRequest::Begin, None) => Some(DeviceReply::Failed { reason: "no output is open".into() }),
        };
        self.send_all(reply.into_iter().collect(), now)
    }

    fn open(&mut self, request: &OpenDevice, now: Instant) -> Flow {
        match Session::open(self.session_id.clone(), request, &self.events_in, now) {
            Ok((session, replies)) => {
                self.session = Some(session);
                self.send_all(replies, now)
            }
            Err(error) => self.send_all(vec![DeviceReply::Failed { reason: error.to_string() }], now),
        }
    }

    /// Lists the devices on a thread of its own: sound systems may hang.
    fn list(&self) -> Option<DeviceReply> {
        let listed_in = self.events_in.clone();
        let job = move || drop(listed_in.send(Event::Listed(listing::list())));
        match std::thread::Builder::new().name("list".into()).spawn(job) {
            Ok(_) => None,
            Err(error) => Some(DeviceReply::Failed { reason: format!("the listing thread cannot be started: {error}") }),
        }
    }

    fn on_tick(&mut self, now: Instant) -> Flow {
        let Some(session) = &mut self.session else { return Flow::Continue };
        let replies = session.on_tick(now);
        let has_ended = session.has_ended(now);
        if self.send_all(replies, now) == Flow::Exit || has_ended { self.end() } else { Flow::Continue }
    }

    fn begin_end(&mut self, now: Instant) -> Flow {
        match &mut self.session {
            Some(session) => {
                session.begin_end(now);
                Flow::Continue
            }
            None => self.end(),
        }
    }

    /// Closes everything and says so, if anybody still listens.
    fn end(&mut self) -> Flow {
        let replies = self.session.take().map_or_else(|| vec![DeviceReply::Stopped { frames: 0 }], Session::close);
        let _ = replies.iter().try_for_each(|reply| self.sender.send(reply));
        Flow::Exit
    }

    /// Sends replies; when nobody listens any more, begins to end.
    fn send_all(&mut self, replies: Vec<DeviceReply>, now: Instant) -> Flow {
        match replies.iter().try_for_each(|reply| self.sender.send(reply)) {
            Ok(()) => Flow::Continue,
            Err(_) => self.begin_end(now),
        }
    }
}
