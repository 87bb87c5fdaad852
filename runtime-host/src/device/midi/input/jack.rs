//! MIDI in from JACK, with the time of each message to the frame: a client of its own.
//!
//! A thread looks for a server, twice a second for as long as there is none, and connects ports by name: those that are
//! there, and those that come. A connection that somebody has taken apart stays so until a port has gone.
//! What comes in goes through a wait-free queue to the MIDI input thread. Where that is full, the ends of notes are kept in a
//! table of their own, so that a flood leaves no note hanging; everything else is left out and counted.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::jack::{
    AsyncClient, Client, ClientOptions, ClientStatus, Control, MidiIn, NotificationHandler, Port, PortFlags, PortId, ProcessHandler,
    ProcessScope,
};
use ipc::midi::{Message, NOTE_OFF, Ports, Received, is_note_off};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Heard, InputCounters, PORTS, Setup, score};
use crate::device::output::quiet::silence_libraries;
use crate::realtime::{RealtimeSection, monotonic_ns_rt};

/// What JACK calls the client.
const CLIENT_NAME: &str = "continuo-midi-in";
/// What JACK calls ports for MIDI.
const PORT_TYPE: &str = "8 bit raw midi";
/// Messages on their way from JACK's thread.
const QUEUE_MESSAGES: usize = 4_096;
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
const SECOND_NS: u64 = 1_000_000_000;
/// Says that somebody is there, and nothing else.
const ACTIVE_SENSING: u8 = 0xfe;

/// What JACK calls the client that sends, while there is one. Never on a real-time thread.
#[derive(Clone, Debug, Default)]
pub struct ClientName(Arc<Mutex<Option<String>>>);

impl ClientName {
    pub fn set(&self, name: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The MIDI input thread's end.
pub struct JackIn {
    found: Receiver<Inbox>,
    inbox: Option<Inbox>,
    /// Ends the search, and the client.
    _is_over: OverOnDrop,
}

struct OverOnDrop(Arc<AtomicBool>);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Release);
    }
}

/// Where messages of one client come in.
struct Inbox {
    messages: Consumer<Heard>,
    ends: Arc<Ends>,
}

impl JackIn {
    /// Begins to look for a server.
    pub fn start(setup: &Setup) -> std::io::Result<Self> {
        let (found_in, found) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let wiring = Wiring { ports: setup.ports.clone(), sender: setup.sender_name.clone(), known: BTreeSet::new() };
        let seeker = Seeker { wiring, counters: Arc::clone(&setup.input_counters), is_over: Arc::clone(&is_over) };
        std::thread::Builder::new().name("midi-in-jack".into()).spawn(move || seeker.run(&found_in))?;
        Ok(Self { found, inbox: None, _is_over: OverOnDrop(is_over) })
    }

    /// The next message.
    pub fn hear(&mut self) -> Option<Heard> {
        if let Ok(inbox) = self.found.try_recv() {
            self.inbox = Some(inbox);
        }
        let inbox = self.inbox.as_mut()?;
        inbox.messages.pop().ok().or_else(|| inbox.ends.take().map(|received| Heard { at_ns: monotonic_ns_rt(), received }))
    }
}

/// The ends of notes that found no room: a bit for each note of each channel and port.
#[derive(Debug)]
struct Ends {
    notes: [[[AtomicU64; 2]; 16]; PORTS],
    is_any: AtomicBool,
}

impl Default for Ends {
    fn default() -> Self {
        let notes = std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))));
        Self { notes, is_any: AtomicBool::new(false) }
    }
}

impl Ends {
    fn keep_rt(&self, received: Received) {
        let [status, note, _] = received.message;
        let channel = usize::from(status & 0x0f);
        let Some(notes) = self.notes.get(usize::from(received.port) - 1) else { return };
        notes[channel][usize::from(note >> 6) & 1].fetch_or(1 << (note & 63), Relaxed);
        self.is_any.store(true, Release);
    }

    fn take(&self) -> Option<Received> {
        if !self.is_any.swap(false, AcqRel) {
            return None;
        }
        for (port, channels) in (1u8..).zip(&self.notes) {
            for (channel, halves) in (0u8..).zip(channels) {
                for (half, notes) in (0u8..).zip(halves) {
                    let note = notes.load(Relaxed).trailing_zeros() as u8;
                    if note < 64 {
                        notes.fetch_and(!(1 << note), Relaxed);
                        // There may be more.
                        self.is_any.store(true, Release);
                        return Some(Received { port, message: [NOTE_OFF | channel, half << 6 | note, 0] });
                    }
                }
            }
        }
        None
    }
}

/// The thread that looks for servers and connects ports.
struct Seeker {
    wiring: Wiring,
    counters: Arc<InputCounters>,
    is_over: Arc<AtomicBool>,
}

impl Seeker {
    fn run(mut self, found: &Sender<Inbox>) {
        silence_libraries();
        while !self.is_over.load(Acquire) {
            let (changes_in, changes) = channel();
            let Ok((client, inbox, is_lost)) = connect(&self.counters, changes_in) else {
                std::thread::sleep(SEARCH_INTERVAL);
                continue;
            };
            if found.send(inbox).is_err() {
                return;
            }
            self.wiring.known.clear();
            while !self.is_over.load(Acquire) && !is_lost.load(Acquire) {
                self.wiring.look(client.as_client());
                // Ports that come and go wake it; a client that never says so is seen at the next look.
                let first = changes.recv_timeout(SEARCH_INTERVAL).ok();
                let has_gone = first.into_iter().chain(changes.try_iter()).any(|change| change == Change::Gone);
                if has_gone {
                    // It may be back already, under the same name.
                    self.wiring.known.clear();
                }
            }
            let_go(client);
        }
    }
}

/// Closes a client on a thread of its own: a server that hangs answers nobody.
fn let_go(client: AsyncClient<Notices, Receiving>) {
    // Without the thread it is closed by being dropped, here.
    let _ = std::thread::Builder::new().name("midi-in-end".into()).spawn(move || drop(client.deactivate()));
}

type Connected = (AsyncClient<Notices, Receiving>, Inbox, Arc<AtomicBool>);

fn connect(counters: &Arc<InputCounters>, changes: Sender<Change>) -> Result<Connected, ::jack::Error> {
    let (client, _) = Client::new(CLIENT_NAME, ClientOptions::NO_START_SERVER)?;
    let mut ports = Vec::with_capacity(PORTS);
    for number in 1..=PORTS {
        ports.push(client.register_port(&format!("in_{number}"), MidiIn::default())?);
    }
    let (messages_rt, messages) = RingBuffer::new(QUEUE_MESSAGES);
    let (ends, is_lost) = (Arc::new(Ends::default()), Arc::new(AtomicBool::new(false)));
    let sample_rate_hz = client.sample_rate() as u64;
    let receiving = Receiving { ports, messages: messages_rt, ends: Arc::clone(&ends), counters: Arc::clone(counters), sample_rate_hz };
    let client = client.activate_async(Notices { is_lost: Arc::clone(&is_lost), changes }, receiving)?;
    Ok((client, Inbox { messages, ends }, is_lost))
}

/// What has happened to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Come,
    Gone,
}

struct Notices {
    is_lost: Arc<AtomicBool>,
    changes: Sender<Change>,
}

impl NotificationHandler for Notices {
    // One atomic store, which is allowed where a signal handler may do no more.
    unsafe fn shutdown(&mut self, _status: ClientStatus, _reason: &str) {
        self.is_lost.store(true, Release);
    }

    fn port_registration(&mut self, _: &Client, _: PortId, has_come: bool) {
        // The thread may have ended.
        let _ = self.changes.send(if has_come { Change::Come } else { Change::Gone });
    }
}

/// What JACK's thread has.
struct Receiving {
    ports: Vec<Port<MidiIn>>,
    messages: Producer<Heard>,
    ends: Arc<Ends>,
    counters: Arc<InputCounters>,
    sample_rate_hz: u64,
}

impl ProcessHandler for Receiving {
    fn process(&mut self, _client: &Client, scope: &ProcessScope) -> Control {
        let _section = RealtimeSection::enter_rt();
        let rate_hz = self.sample_rate_hz.max(1);
        let since_ns = u64::from(scope.frames_since_cycle_start()) * SECOND_NS / rate_hz;
        let begin_ns = monotonic_ns_rt().saturating_sub(since_ns);
        let Self { ports, messages, ends, counters, .. } = self;
        for (port, number) in ports.iter().zip(1u8..) {
            for event in port.iter(scope) {
                let Some(message) = message_rt(event.bytes) else { continue };
                let heard =
                    Heard { at_ns: begin_ns + u64::from(event.time) * SECOND_NS / rate_hz, received: Received { port: number, message } };
                take_in_rt(messages, ends, counters, heard);
            }
        }
        Control::Continue
    }
}

/// Puts a message into the queue; the last quarter of it is for the ends of notes.
fn take_in_rt(messages: &mut Producer<Heard>, ends: &Ends, counters: &InputCounters, heard: Heard) {
    let is_end = is_note_off(heard.received.message);
    let has_room = is_end || messages.slots() > QUEUE_MESSAGES / 4;
    if has_room && messages.push(heard).is_ok() {
        return;
    }
    if is_end {
        ends.keep_rt(heard.received);
    } else {
        counters.dropped.fetch_add(1, Relaxed);
    }
}

/// The first three bytes of a message. `None` to what is none, and to what says nothing.
fn message_rt(bytes: &[u8]) -> Option<Message> {
    let message = [*bytes.first()?, bytes.get(1).copied().unwrap_or(0), bytes.get(2).copied().unwrap_or(0)];
    let received = Received { port: 1, message };
    (received.is_sound() && message[0] != ACTIVE_SENSING).then_some(message)
}

/// Which ports are connected to which.
struct Wiring {
    ports: Ports,
    sender: ClientName,
    /// What has been connected and has not gone since.
    known: BTreeSet<(String, String)>,
}

impl Wiring {
    /// Connects what has come.
    fn look(&mut self, client: &Client) {
        let sources = client.ports(None, Some(PORT_TYPE), PortFlags::IS_OUTPUT);
        let destinations = client.ports(None, Some(PORT_TYPE), PortFlags::IS_INPUT);
        self.known.retain(|(source, destination)| sources.contains(source) && destinations.contains(destination));
        let own = |name: &str| format!("{}:{name}", client.name());
        let mut wanted = Vec::new();
        if self.ports.inputs.is_empty() {
            let instruments = client.ports(None, Some(PORT_TYPE), PortFlags::IS_OUTPUT | PortFlags::IS_PHYSICAL);
            wanted.extend(instruments.into_iter().map(|source| (source, own("in_1"))));
        }
        for (number, name) in (1..=PORTS).zip(&self.ports.inputs).filter(|(_, name)| !score::is_file(name)) {
            wanted.extend(alike(&sources, name).map(|source| (source.clone(), own(&format!("in_{number}")))));
        }
        if let Some(sender) = self.sender.get() {
            for (number, name) in (1..).zip(&self.ports.outputs) {
                wanted.extend(alike(&destinations, name).map(|destination| (format!("{sender}:out_{number}"), destination.clone())));
            }
        }
        for (source, destination) in wanted {
            let is_there = sources.contains(&source) && destinations.contains(&destination);
            if is_there && !self.known.contains(&(source.clone(), destination.clone())) {
                // One that somebody else has connected already is connected, too.
                let _ = client.connect_ports_by_name(&source, &destination);
                self.known.insert((source, destination));
            }
        }
    }
}

/// The ports whose names have this part, in whatever case.
fn alike<'a>(ports: &'a [String], part: &str) -> impl Iterator<Item = &'a String> {
    let part = part.to_lowercase();
    ports.iter().filter(move |port| port.to_lowercase().contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_left_out_and_counted_and_every_note_ends() {
        let (mut messages, received) = RingBuffer::new(QUEUE_MESSAGES);
        let (ends, counters) = (Arc::new(Ends::default()), InputCounters::default());
        let heard = |message| Heard { at_ns: 0, received: Received { port: 2, message } };
        for number in 0..100_000u32 {
            take_in_rt(&mut messages, &ends, &counters, heard([0x90 | (number % 16) as u8, (number / 16 % 128) as u8, 1]));
        }
        for note in 0..2_048u32 {
            take_in_rt(&mut messages, &ends, &counters, heard([0x80 | (note % 16) as u8, (note / 16) as u8, 0]));
        }
        let (_, found) = channel();
        let inbox = Some(Inbox { messages: received, ends });
        let mut input = JackIn { found, inbox, _is_over: OverOnDrop(Arc::default()) };
        let all: Vec<Received> = std::iter::from_fn(|| input.hear()).map(|heard| heard.received).collect();
        let ended: BTreeSet<Received> =
            all.iter().filter(|received| is_note_off(received.message)).map(|received| Received { ..*received }).collect();
        assert_eq!(ended.len(), 2_048);
        assert!(ended.iter().all(|received| received.port == 2));
        let begun = all.iter().filter(|received| !is_note_off(received.message)).count() as u64;
        assert_eq!(begun + counters.dropped.load(Relaxed), 100_000);
        assert!(counters.dropped.load(Relaxed) > 90_000);
    }

    #[test]
    fn any_bytes_are_a_message_or_none() {
        assert_eq!(message_rt(&[0x90, 60, 100]), Some([0x90, 60, 100]));
        assert_eq!(message_rt(&[0xc0, 7]), Some([0xc0, 7, 0]));
        assert_eq!(message_rt(&[0xf8]), Some([0xf8, 0, 0]));
        assert_eq!(message_rt(&[0xf0, 0x7e, 0x7f, 9, 1, 0xf7]), Some([0xf0, 0x7e, 0x7f]));
        for garbage in [&[][..], &[60, 100], &[0x90, 0x90, 1], &[0xfe], &[0x80, 1, 0xff]] {
            assert_eq!(message_rt(garbage), None, "{garbage:?}");
        }
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..100_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let bytes = seed.to_le_bytes();
            let message = message_rt(&bytes[..(seed >> 61) as usize]);
            assert!(message.is_none_or(|message| message[0] >= 0x80 && message[1] < 0x80 && message[2] < 0x80));
        }
    }

    #[test]
    fn ports_are_found_by_a_part_of_their_name() {
        let ports = ["a2j:Keystation 49 [16] (capture)".to_owned(), "system:midi_capture_1".to_owned()];
        assert_eq!(alike(&ports, "keystation").collect::<Vec<_>>(), [&ports[0]]);
        assert_eq!(alike(&ports, "capture").count(), 2);
    }
}
