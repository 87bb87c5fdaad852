//! The control thread: takes requests of the supervisor and events of the other threads, one at a time, and answers.
//!
//! It never renders, never waits for a driver library or for the supervisor, and never locks what a real-time thread uses.
//! When the supervisor is gone it plays on for as long as its [`Grace`] says, and tells the next one what is open.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ipc::held_notes::HeldNotes;
use ipc::message::{DeviceDescription, DeviceReply, DeviceRequest, OpenDevice, Tape};
use ipc::midi::{Arrived, Direction, PortChange};
use ipc::segment::SessionId;

use super::clients::Clients;
use super::link::{Connection, Grace, Link};
use super::midi;
use super::output::listing;
use super::output::search::Found;
use super::output::stream::StreamLost;
use super::session::Session;
use super::tape;

/// How often the mixer's notices and the watchdog are looked at.
const TICK: Duration = Duration::from_millis(20);

/// The same while somebody waits for a lane to begin or for the end.
const BUSY_TICK: Duration = Duration::from_millis(2);

/// How long the end of the process waits for a supervisor that does not read what it is told.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// All that can happen to the control thread.
pub enum Event {
    Request(DeviceRequest),
    /// The supervisor of this link is gone.
    Closed {
        link: u64,
    },
    /// The next supervisor has come.
    Attached(Connection),
    /// There will be no next supervisor.
    Abandoned,
    /// A search for a device is over.
    Found(Found),
    /// A stream has lost its device.
    Lost(StreamLost),
    /// An unpaced output is done.
    Rendered,
    /// The writer of a tape has something to tell.
    Tape {
        number: u64,
        news: tape::writer::News,
    },
    Listed(Vec<DeviceDescription>),
    /// Something has happened to MIDI that comes in.
    Midi(midi::input::News),
}

/// Whether the process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    /// Everything is closed, and whoever listens has been told.
    Exit,
}

/// Who is told what happens.
enum Supervisor {
    Present(Link),
    /// Nobody; if nobody comes until then, the end.
    Awaited {
        until: Instant,
    },
    /// Nobody, and nobody is waited for.
    Gone,
}

/// The control thread's state.
pub struct Control {
    supervisor: Supervisor,
    links: u64,
    grace: Option<Grace>,
    events_in: Sender<Event>,
    session_id: SessionId,
    session: Option<Session>,
    clients: Clients,
    /// Notes that instruments hold, and those of them that a supervisor has been told of.
    held: HeldNotes,
    told: HeldNotes,
}

impl Control {
    pub fn new(
        connection: Connection,
        events_in: Sender<Event>,
        session_id: SessionId,
        grace: Option<Grace>,
        clients: Clients,
    ) -> std::io::Result<Self> {
        let supervisor = Supervisor::Present(Link::open(connection, 1, &events_in)?);
        Ok(Self {
            supervisor,
            links: 1,
            grace,
            events_in,
            session_id,
            session: None,
            clients,
            held: HeldNotes::default(),
            told: HeldNotes::default(),
        })
    }

    /// Runs until the supervisor says stop, or is gone for good.
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
            Event::Closed { link } => return self.on_closed(link, now),
            Event::Attached(connection) => return self.on_attached(connection),
            Event::Abandoned => return self.on_abandoned(now),
            Event::Found(found) => self.session.as_mut().and_then(Session::outputs).map(|outputs| outputs.on_found(found, now)),
            Event::Lost(lost) => self.session.as_mut().and_then(Session::outputs).map(|outputs| outputs.on_lost(&lost, now)),
            Event::Rendered => self.session.as_mut().map(Session::on_rendered),
            Event::Tape { number, news } => self.session.as_mut().map(|session| session.on_tape_news(number, news)),
            Event::Listed(devices) => Some(vec![DeviceReply::Devices(devices)]),
            Event::Midi(midi::input::News::Arrived(arrived)) => {
                self.follow_notes(&arrived);
                Some(vec![DeviceReply::Midi(arrived)])
            }
            Event::Midi(midi::input::News::Port(change)) => {
                self.session.iter_mut().for_each(|session| session.on_midi_port(&change));
                self.follow_port(&change);
                Some(vec![DeviceReply::MidiPort(change)])
            }
            Event::Midi(midi::input::News::FilesBegin { frame }) => Some(vec![DeviceReply::MidiFilesBegin { frame }]),
            Event::Midi(midi::input::News::Unavailable(reason)) => Some(vec![DeviceReply::MidiUnavailable { reason }]),
            Event::Midi(midi::input::News::Tempo(tempo)) => Some(vec![DeviceReply::Tempo(tempo)]),
            Event::Midi(midi::input::News::ClockLost) => Some(vec![DeviceReply::ClockLost]),
        };
        self.send_all(replies.unwrap_or_default())
    }

    /// The supervisor is gone: plays on for the next one if there is something to play and somebody to wait for.
    fn on_closed(&mut self, link: u64, now: Instant) -> Flow {
        match &self.supervisor {
            Supervisor::Present(present) if present.number() == link => self.supervisor = Supervisor::Gone,
            Supervisor::Present(_) | Supervisor::Awaited { .. } | Supervisor::Gone => return Flow::Continue,
        }
        let plays = self.session.as_ref().is_some_and(|session| !session.is_ending());
        if let Some(grace) = self.grace.clone().filter(|_| plays)
            && self.await_supervisor(&grace)
        {
            self.supervisor = Supervisor::Awaited { until: now + grace.period };
            return Flow::Continue;
        }
        self.begin_end(now)
    }

    /// Waits for the next supervisor on a thread of its own; false when there cannot be one.
    fn await_supervisor(&self, grace: &Grace) -> bool {
        let (next_supervisor, attached_in) = (Arc::clone(&grace.next_supervisor), self.events_in.clone());
        let job = move || {
            let _ = attached_in.send(next_supervisor().map_or(Event::Abandoned, Event::Attached));
        };
        std::thread::Builder::new().name("rendezvous".into()).spawn(job).is_ok()
    }

    /// The next supervisor has come: tells it what is open. One that comes too late finds its channel closed.
    fn on_attached(&mut self, connection: Connection) -> Flow {
        let Supervisor::Awaited { .. } = self.supervisor else { return Flow::Continue };
        // Without threads for it, this supervisor is not there; the grace period goes on.
        let Ok(link) = Link::open(connection, self.links + 1, &self.events_in) else { return Flow::Continue };
        self.links += 1;
        self.supervisor = Supervisor::Present(link);
        let replies = self.session.as_ref().map(Session::describe).unwrap_or_default();
        self.send_all(replies);
        self.tell_held_notes()
    }

    /// Tells which notes are held, and ends those whose end nobody was told. What began meanwhile comes too late.
    fn tell_held_notes(&mut self) -> Flow {
        let Some(session) = &self.session else { return Flow::Continue };
        let (block, held) = (session.block(), self.told.ends());
        let ended = self.told.release_all_but(&self.held).into_iter().map(|received| Arrived { block, received });
        self.send_all(vec![DeviceReply::MidiHeld(held), DeviceReply::Midi(ended.collect())])
    }

    /// Messages have come in.
    fn follow_notes(&mut self, arrived: &[Arrived]) {
        let is_told = matches!(self.supervisor, Supervisor::Present(_));
        for message in arrived {
            self.held.take(message.received);
            if is_told {
                self.told.take(message.received);
            }
        }
    }

    /// Who hears that an input port has gone ends the notes that were held there.
    fn follow_port(&mut self, change: &PortChange) {
        if change.direction == Direction::In && !change.is_there {
            self.held.release(Some(change.port));
            if matches!(self.supervisor, Supervisor::Present(_)) {
                self.told.release(Some(change.port));
            }
        }
    }

    /// Nobody needs to be waited for any longer.
    fn on_abandoned(&mut self, now: Instant) -> Flow {
        let Supervisor::Awaited { .. } = self.supervisor else { return Flow::Continue };
        self.supervisor = Supervisor::Gone;
        self.begin_end(now)
    }

    fn on_request(&mut self, request: DeviceRequest, now: Instant) -> Flow {
        let reply = match (request, &mut self.session) {
            (DeviceRequest::List, _) => self.list(),
            (DeviceRequest::Stop, _) => return self.begin_end(now),
            (DeviceRequest::Open(request), None) => return self.open(&request, now),
            (DeviceRequest::Open(_), Some(_)) => Some(DeviceReply::Failed { reason: "an output is already open".into() }),
            (DeviceRequest::AddLane { runtime, lane, resumes, decides_input }, Some(session)) => {
                Some(session.add_lane(runtime, &lane, resumes, decides_input))
            }
            (DeviceRequest::AddLane { runtime, .. }, None) => {
                Some(DeviceReply::LaneRefused { runtime, reason: "no output is open".into() })
            }
            (DeviceRequest::RemoveLane { runtime }, Some(session)) => session.remove_lane(runtime),
            (DeviceRequest::RemoveLane { runtime }, None) => Some(DeviceReply::LaneRemoved { runtime }),
            (DeviceRequest::SetGain { runtime, gain, ramp_frames }, Some(session)) => {
                session.set_gain(&runtime, gain, ramp_frames);
                None
            }
            (DeviceRequest::SetOutput { runtime, route }, Some(session)) => {
                session.set_output(&runtime, route);
                None
            }
            (DeviceRequest::SetGain { .. } | DeviceRequest::SetOutput { .. }, None) => None,
            (DeviceRequest::Connect(buses), Some(session)) => {
                session.connect(buses);
                None
            }
            (DeviceRequest::Connect(_), None) => None,
            (DeviceRequest::Listen { ports, files_from }, Some(session)) => {
                session.listen(ports, files_from);
                None
            }
            (DeviceRequest::Listen { .. }, None) => None,
            (DeviceRequest::StartTape(tape), Some(session)) => session.start_tape(&tape),
            (DeviceRequest::StartTape(Tape { number, .. }) | DeviceRequest::StopTape { number, .. }, None) => {
                Some(DeviceReply::TapeRefused { number, reason: "no output is open".into() })
            }
            (DeviceRequest::StopTape { number, end_block }, Some(session)) => session.stop_tape(number, end_block),
            (DeviceRequest::Tempo(tempo), Some(session)) => {
                session.set_tempo(tempo);
                None
            }
            (DeviceRequest::Tempo(_), None) => None,
            (DeviceRequest::Begin, Some(session)) => session.begin(),
            (DeviceRequest::Begin, None) => Some(DeviceReply::Failed { reason: "no output is open".into() }),
        };
        self.send_all(reply.into_iter().collect())
    }

    fn open(&mut self, request: &OpenDevice, now: Instant) -> Flow {
        match Session::open(self.session_id.clone(), request, &self.clients, &self.events_in, now) {
            Ok((session, replies)) => {
                self.session = Some(session);
                self.send_all(replies)
            }
            Err(error) => self.send_all(vec![DeviceReply::Failed { reason: error.to_string() }]),
        }
    }

    /// Lists the devices on a thread of its own: sound systems may hang.
    fn list(&self) -> Option<DeviceReply> {
        let (listed_in, clients) = (self.events_in.clone(), self.clients.clone());
        let job = move || drop(listed_in.send(Event::Listed(listing::list(&clients))));
        match std::thread::Builder::new().name("list".into()).spawn(job) {
            Ok(_) => None,
            Err(error) => Some(DeviceReply::Failed { reason: format!("the listing thread cannot be started: {error}") }),
        }
    }

    fn on_tick(&mut self, now: Instant) -> Flow {
        if let Supervisor::Awaited { until } = self.supervisor
            && now >= until
        {
            self.supervisor = Supervisor::Gone;
            return self.begin_end(now);
        }
        let Some(session) = &mut self.session else { return Flow::Continue };
        let replies = session.on_tick(now);
        let has_ended = session.has_ended(now);
        self.send_all(replies);
        if has_ended { self.end() } else { Flow::Continue }
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
        self.send_all(replies);
        if let Supervisor::Present(link) = std::mem::replace(&mut self.supervisor, Supervisor::Gone) {
            link.close(FAREWELL_LIMIT);
        }
        Flow::Exit
    }

    /// Tells the supervisor, if there is one.
    fn send_all(&self, replies: Vec<DeviceReply>) -> Flow {
        if let Supervisor::Present(link) = &self.supervisor {
            replies.into_iter().for_each(|reply| link.send(reply));
        }
        Flow::Continue
    }
}
