//! MIDI in and out. In: [`input`]. Out: reads the MIDI lanes of all midi hosts, knows which notes sound, and hands everything to the sinks
//! (DESIGN §2, §6).
//!
//! | thread | does | module |
//! |---|---|---|
//! | control | adds and removes lanes | this one |
//! | midi | reads lanes, keeps the list of sounding notes, makes clocks, writes files | [`desk`], [`clock_out`], [`mod@file`] |
//! | midi-jack | looks for a JACK server | [`jack`] |
//! | JACK's own (real-time) | sends events at their frames | [`jack`] |
//! | midi-seq (real-time priority) | sends events on time to the ALSA sequencer, where there is no JACK server | [`sequencer`], [`alsa`] |
//!
//! A note that was begun is ended when its lane goes, for whatever reason: its runtime was stopped or replaced, its host died
//! and nobody went on, the session ends. The thread begins with the first MIDI lane or tempo; a session without has none of this.

pub mod alsa;
pub mod clock_out;
pub mod desk;
pub mod file;
pub mod input;
pub mod jack;
pub mod loopback;
pub mod outgoing;
pub mod presence;
pub mod sequencer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::limits::MAX_LANES;
use ipc::message::DeviceReply;
use ipc::midi::{Direction, MidiEvent, MidiLaneReader, PortChange};
use ipc::segment::SegmentRef;
use ipc::tempo::Tempo;

use super::clients::Clients;
use super::counters::Counters;
use super::lanes::LaneError;
use super::output::{SoundSystem, Target};
use crate::realtime::{monotonic_ns_rt, tighten_timer_slack};
use clock_out::ClockOut;
use desk::Desk;
use file::MidiFile;
use input::inbox::{self, Inbox, Outbox};
use input::wiring::SenderPorts;
use jack::JackOut;
use loopback::Loopback;
use presence::Presence;
use sequencer::SequencerOut;

/// How often lanes are looked at while notes come: events are sent [`LATENCY_NS`] after they were due, so this costs no accuracy.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The same when none has come for [`QUIET`]: the first one after a silence still has more than half of the latency left.
const QUIET_INTERVAL: Duration = Duration::from_millis(4);
const QUIET: Duration = Duration::from_millis(250);

/// The same where there is no lane: a server that is found is told to nobody before there is something to send.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);

/// From the moment a tick is due to the moment its events are sent, besides the period of the driver: as long as the usual
/// lead of audio, so that both are heard together, and longer than a tick takes.
pub const LATENCY_NS: u64 = 10_000_000;

/// Where events go. Owned by the MIDI thread.
pub trait MidiSink: Send {
    /// Sends the event at its time. One that comes later was not due earlier, or belongs to another lane.
    fn send(&mut self, event: &MidiEvent);

    /// Begins a note again for whoever has just come to listen at its port.
    fn begin_again(&mut self, _event: &MidiEvent) {}

    /// Something to be done now and then.
    fn look(&mut self, now_ns: u64);

    /// Events that were left out because there were too many.
    fn dropped(&self) -> u64 {
        0
    }

    /// Nothing more will come: sends and saves what is left.
    fn close(&mut self);
}

/// What the thread is told.
enum Command {
    Add {
        runtime: String,
        reader: Box<MidiLaneReader>,
    },
    Remove {
        runtime: String,
    },
    Mute {
        runtime: String,
        is_muted: bool,
    },
    /// Somebody listens at an output port where nobody did.
    BeginAgain {
        port: u8,
    },
    Tempo(Tempo),
}

struct Lane {
    runtime: String,
    is_started: bool,
}

struct Running {
    commands: Sender<Command>,
    started: Receiver<String>,
    thread: JoinHandle<()>,
}

/// What MIDI may go through to instruments and other programs, both ways. Through JACK wherever there is a server, else
/// through the sequencer.
#[derive(Clone, Debug, Default)]
pub struct Drivers {
    /// Our own ports that send to JACK, where that may be used.
    pub jack: Option<SenderPorts>,
    /// The same of the ALSA sequencer.
    pub sequencer: Option<SenderPorts>,
    /// Of the process, at sound servers.
    pub clients: Clients,
}

impl Drivers {
    /// JACK where sound may go to it, and the sequencer unless nothing of the machine is to be played.
    pub fn of_target(target: &Target, clients: Clients) -> Self {
        let may_use_jack = target.systems().contains(&SoundSystem::Jack);
        let may_use_any = *target != Target::Null;
        Self { jack: may_use_jack.then(SenderPorts::default), sequencer: may_use_any.then(SenderPorts::default), clients }
    }

    /// Whether a JACK server is there, which whoever looks for one is to tell.
    fn presence(&self) -> Presence {
        if self.jack.is_some() { Presence::sought(monotonic_ns_rt()) } else { Presence::absent() }
    }
}

/// Where the events of a session go.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// A Standard MIDI File, and the frame of the session at which it begins.
    pub file: Option<(PathBuf, u64)>,
    pub drivers: Drivers,
    /// Whether no process has sent anything before this one.
    pub begins_session: bool,
}

impl Destinations {
    fn open(&self, time: &SessionTime) -> std::io::Result<Vec<Box<dyn MidiSink>>> {
        let mut sinks: Vec<Box<dyn MidiSink>> = Vec::new();
        if let Some((path, first_frame)) = &self.file {
            sinks.push(Box::new(MidiFile::beside_recording(path, time.clone(), *first_frame)?));
        }
        let Drivers { jack, sequencer, clients } = &self.drivers;
        let presence = self.drivers.presence();
        if let Some(senders) = jack {
            sinks.push(Box::new(JackOut::start(senders.clone(), presence.clone(), clients.clone())?));
        }
        if let Some(senders) = sequencer {
            sinks.push(Box::new(SequencerOut::start(Box::new(alsa::open_outputs), senders.clone(), presence)?));
        }
        Ok(sinks)
    }
}

/// The session clock.
#[derive(Clone, Debug)]
pub struct SessionTime {
    pub sample_rate_hz: u32,
    /// Of the mixer.
    pub counters: Arc<Counters>,
}

/// What has been counted of what was to be sent.
#[derive(Debug, Default)]
pub struct OutputCounters {
    pub late: AtomicU64,
    pub dropped: AtomicU64,
}

/// The control thread's end.
pub struct MidiOut {
    destinations: Destinations,
    time: SessionTime,
    counters: Arc<OutputCounters>,
    lanes: Vec<Lane>,
    running: Option<Running>,
    /// Who listens at each output port.
    listeners: BTreeMap<u8, BTreeSet<String>>,
    /// Both ends of the way by which the session hears itself: until there is something to send, and until somebody listens.
    looped: (Option<Outbox>, Option<Inbox>),
}

impl MidiOut {
    /// Opens nothing yet.
    pub fn new(destinations: Destinations, time: SessionTime) -> Self {
        let (outbox, inbox) = inbox::queue();
        let looped = (Some(outbox), Some(inbox));
        Self { destinations, time, counters: Arc::default(), lanes: Vec::new(), running: None, listeners: BTreeMap::new(), looped }
    }

    /// What is sent from now on. Only the first time.
    pub fn looped(&mut self) -> Option<Inbox> {
        self.looped.1.take()
    }

    pub fn counters(&self) -> &OutputCounters {
        &self.counters
    }

    /// Reads a lane from now on. What sounds in one that a device host which has died was reading goes on.
    pub fn add(&mut self, session: &str, runtime: &str, lane: &SegmentRef) -> Result<(), LaneError> {
        if self.has(runtime) {
            return Err(LaneError::Duplicate);
        }
        if self.lanes.len() == MAX_LANES {
            return Err(LaneError::Full);
        }
        if !lane.name.contains(session) {
            return Err(LaneError::ForeignSession(lane.name.clone()));
        }
        let reader = Box::new(MidiLaneReader::open(lane)?);
        let running = self.running().map_err(LaneError::Midi)?;
        // The thread lives until its commands end.
        let _ = running.commands.send(Command::Add { runtime: runtime.to_owned(), reader });
        self.lanes.push(Lane { runtime: runtime.to_owned(), is_started: false });
        Ok(())
    }

    /// The thread, begun if it has not been.
    fn running(&mut self) -> std::io::Result<&mut Running> {
        let none = match self.running {
            Some(ref mut running) => return Ok(running),
            ref mut none @ None => none,
        };
        let mut sinks = self.destinations.open(&self.time)?;
        sinks.extend(self.looped.0.take().map(|outbox| Box::new(Loopback::new(outbox)) as Box<dyn MidiSink>));
        Ok(none.insert(start(sinks, self.time.clone(), &self.counters)?))
    }

    /// Sends clocks at this tempo, from its block on. Without threads there are none.
    pub fn set_tempo(&mut self, tempo: Tempo) {
        if let Ok(running) = self.running() {
            let _ = running.commands.send(Command::Tempo(tempo));
        }
    }

    /// Ends what sounds in a lane and lets go of it. False when the runtime has none.
    pub fn remove(&mut self, runtime: &str) -> bool {
        let (had, running) = (self.has(runtime), &self.running);
        self.lanes.retain(|lane| lane.runtime != runtime);
        if let Some(running) = running.as_ref().filter(|_| had) {
            let _ = running.commands.send(Command::Remove { runtime: runtime.to_owned() });
        }
        had
    }

    /// Ends what sounds in a lane and lets no note begin in it, until it is told otherwise.
    pub fn mute(&mut self, runtime: &str, is_muted: bool) {
        if let Some(running) = self.running.as_ref().filter(|_| self.has(runtime)) {
            let _ = running.commands.send(Command::Mute { runtime: runtime.to_owned(), is_muted });
        }
    }

    /// A port of another program has come or gone. Where it is the only one that listens, what sounds begins again for it. Not
    /// for those that this process finds first when it goes on for another one: they have heard it.
    pub fn on_port(&mut self, change: &PortChange) {
        if change.direction != Direction::Out {
            return;
        }
        let known = self.listeners.contains_key(&change.port) || self.destinations.begins_session;
        let listeners = self.listeners.entry(change.port).or_default();
        if !change.is_there {
            listeners.remove(&change.name);
            return;
        }
        let is_only = listeners.is_empty();
        listeners.insert(change.name.clone());
        if let Some(running) = self.running.as_ref().filter(|_| known && is_only) {
            let _ = running.commands.send(Command::BeginAgain { port: change.port });
        }
    }

    /// Lanes whose first tick has been seen since the last time, as beginning in this block of the session.
    pub fn started(&mut self, block: u64) -> Vec<DeviceReply> {
        let Some(running) = &self.running else { return Vec::new() };
        let mut replies = Vec::new();
        while let Ok(runtime) = running.started.try_recv() {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.runtime == runtime) {
                lane.is_started = true;
                replies.push(DeviceReply::LaneStarted { runtime, block });
            }
        }
        replies
    }

    /// What has been told about the lanes.
    pub fn describe(&self, block: u64) -> Vec<DeviceReply> {
        let mut replies = Vec::new();
        for lane in &self.lanes {
            replies.push(DeviceReply::LaneMapped { runtime: lane.runtime.clone() });
            if lane.is_started {
                replies.push(DeviceReply::LaneStarted { runtime: lane.runtime.clone(), block });
            }
        }
        replies
    }

    /// Whether a lane has not begun yet.
    pub fn is_changing(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.is_started)
    }

    /// Ends everything that sounds, sends and saves what is left.
    pub fn close(&mut self) {
        self.lanes.clear();
        let Some(running) = self.running.take() else { return };
        drop(running.commands);
        // A thread that has panicked has aborted the process.
        let _ = running.thread.join();
    }

    fn has(&self, runtime: &str) -> bool {
        self.lanes.iter().any(|lane| lane.runtime == runtime)
    }
}

impl Drop for MidiOut {
    fn drop(&mut self) {
        self.close();
    }
}

fn start(sinks: Vec<Box<dyn MidiSink>>, time: SessionTime, counters: &Arc<OutputCounters>) -> std::io::Result<Running> {
    let counters = Arc::clone(counters);
    let (commands, received) = channel();
    let (started_in, started) = channel();
    let job = move || run(Desk::new(sinks), &time, &received, &started_in, &counters);
    let thread = std::thread::Builder::new().name("midi".into()).spawn(job)?;
    Ok(Running { commands, started, thread })
}

fn run(mut desk: Desk, time: &SessionTime, commands: &Receiver<Command>, started: &Sender<String>, counters: &OutputCounters) {
    tighten_timer_slack();
    let mut clock = ClockOut::new(time.sample_rate_hz);
    loop {
        let command = commands.recv_timeout(if clock.runs() { LOOK_INTERVAL } else { pause(&desk, monotonic_ns_rt()) });
        let now_ns = monotonic_ns_rt();
        match command {
            Ok(Command::Add { runtime, reader }) => desk.add(runtime, *reader, now_ns),
            Ok(Command::Remove { runtime }) => desk.remove(&runtime, now_ns),
            Ok(Command::Mute { runtime, is_muted }) => desk.mute(&runtime, is_muted, now_ns),
            Ok(Command::BeginAgain { port }) => desk.begin_again(port, now_ns),
            Ok(Command::Tempo(tempo)) => clock.take(tempo),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return desk.close(now_ns),
        }
        // Clocks come before the notes of the same moment.
        clock.look(time.counters.frames.load(Relaxed), now_ns, |event| desk.send(&event));
        for runtime in desk.look(now_ns) {
            // Nobody may listen any more.
            let _ = started.send(runtime);
        }
        counters.late.store(desk.late(), Relaxed);
        counters.dropped.store(desk.dropped(), Relaxed);
    }
}

/// How long nothing need be looked at unless a command comes.
fn pause(desk: &Desk, now_ns: u64) -> Duration {
    let is_quiet = Duration::from_nanos(desk.quiet_ns(now_ns)) >= QUIET;
    match (desk.has_lanes(), is_quiet) {
        (_, false) => LOOK_INTERVAL,
        (true, true) => QUIET_INTERVAL,
        (false, true) => IDLE_INTERVAL,
    }
}

#[cfg(test)]
mod tests {
    use ipc::midi::{MidiLaneWriter, NOTE_ON};
    use ipc::segment::Session;

    use super::*;

    #[test]
    fn midi_goes_where_sound_may_and_to_the_sequencer_else_and_nowhere_without_a_device() {
        let of = |target| {
            let drivers = Drivers::of_target(&target, Clients::default());
            (drivers.jack.is_some(), drivers.sequencer.is_some(), drivers.presence().is_absent(monotonic_ns_rt()))
        };
        assert_eq!(of(Target::Any), (true, true, false));
        assert_eq!(of(Target::parse("jack")), (true, true, false));
        assert_eq!(of(Target::parse("Scarlett")), (true, true, false), "it may be a device of JACK");
        assert_eq!(of(Target::parse("alsa:hw:0")), (false, true, true));
        assert_eq!(of(Target::parse("pulseaudio")), (false, true, true));
        assert_eq!(of(Target::Null), (false, false, true));
    }

    #[test]
    fn the_thread_looks_often_while_notes_come_and_seldom_when_none_do() {
        const SECOND_NS: u64 = 1_000_000_000;
        let session = Session::open().unwrap();
        let segment = ipc::midi::create(session.id(), 1).unwrap();
        let mut writer = MidiLaneWriter::open(segment.reference()).unwrap();
        let mut desk = Desk::new(Vec::new());
        assert_eq!(pause(&desk, SECOND_NS), IDLE_INTERVAL);
        desk.add("arp".into(), MidiLaneReader::open(segment.reference()).unwrap(), SECOND_NS);
        assert_eq!(pause(&desk, SECOND_NS), LOOK_INTERVAL, "it may begin at once");
        desk.look(2 * SECOND_NS);
        assert_eq!(pause(&desk, 2 * SECOND_NS), QUIET_INTERVAL);
        assert!(writer.push_rt(&MidiEvent { due_ns: 1_000, tick: 0, port: 1, message: [NOTE_ON, 60, 100] }));
        writer.complete_rt(&[], 0);
        desk.look(3 * SECOND_NS);
        assert_eq!(pause(&desk, 3 * SECOND_NS), LOOK_INTERVAL);
        desk.look(4 * SECOND_NS);
        assert_eq!(pause(&desk, 4 * SECOND_NS), QUIET_INTERVAL);
        desk.remove("arp", 5 * SECOND_NS);
        assert_eq!(pause(&desk, 5 * SECOND_NS), LOOK_INTERVAL, "what it has sent may wait for room");
        assert_eq!(pause(&desk, 6 * SECOND_NS), IDLE_INTERVAL);
    }
}
