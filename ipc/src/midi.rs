//! MIDI lanes: the lock-free ring in shared memory through which one midi host hands its events to the device host.
//!
//! One writer (the tick thread of the host that runs the runtime), one reader (the MIDI thread of the device host). What a
//! tick does becomes visible all at once, with one store: its events, what every route is left with (the note that sounds,
//! the controller value that was sent), and the number of the next tick. So a host that takes over goes on with the first
//! tick that was not delivered, knows what sounds, and neither repeats nor loses an event: what a dying host had put into
//! the ring without completing its tick is written over.
//!
//! An event that has not been taken is never written over. Where there is little room, only the ends of notes are still
//! taken in; what began too late is counted and does not begin. Nobody waits for the other side, and there are no wake-ups:
//! events carry the time they are due, some milliseconds ahead of when they are sent.
//!
//! The supervisor creates the segment; both sides map it; then its name is removed. The reader believes nothing: numbers are
//! checked before they are used, and bytes that are no MIDI message are passed over.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_MIDI_ROUTES, MIDI_LANE_EVENTS};
use crate::segment::{Segment, SegmentError, SegmentKind, SegmentRef, SessionId};
use crate::words::Words;

/// Highest number of anything that is believed: a million a second for a hundred years stay below it.
const LAST_NUMBER: u64 = 1 << 52;

// Offsets in the payload, in bytes. What the reader writes and what the writer writes lie in cache lines of their own.
const TAKEN: usize = 0;
const NEXT_TICK: usize = 64;
const NEXT_DUE: usize = 72;
const DROPPED: usize = 80;
const HEADS: usize = 128;
const WORD: usize = 8;
/// Events written, number of states, then two words for each state.
const HEAD_BYTES: usize = (2 + 2 * MAX_MIDI_ROUTES) * WORD;
const EVENTS_AT: usize = HEADS + 2 * HEAD_BYTES;
/// When it is due, the tick, and the message with its port.
const EVENT_BYTES: usize = 3 * WORD;
const PAYLOAD_BYTES: usize = EVENTS_AT + MIDI_LANE_EVENTS * EVENT_BYTES;

/// A state word says with this bit that there is a message.
const HAS_MESSAGE: u64 = 1 << 32;

/// Times the reader looks again while a tick is being completed under its eyes.
const LOOKS: usize = 3;

/// A channel message of three bytes.
pub type Message = [u8; 3];

/// Status of the end of a note, without its channel.
pub const NOTE_OFF: u8 = 0x80;
/// Status of the beginning of a note, without its channel.
pub const NOTE_ON: u8 = 0x90;
/// Status of a controller, without its channel.
pub const CONTROLLER: u8 = 0xb0;
/// Where a piece is, in sixteenth notes: seven bits, then seven more.
pub const SONG_POSITION: u8 = 0xf2;
/// A 24th of a beat has passed.
pub const TIMING_CLOCK: u8 = 0xf8;
/// A piece begins with the next clock.
pub const TRANSPORT_START: u8 = 0xfa;
/// A piece goes on with the next clock, from where it is.
pub const TRANSPORT_CONTINUE: u8 = 0xfb;
/// A piece stands still.
pub const TRANSPORT_STOP: u8 = 0xfc;

/// One event of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MidiEvent {
    /// When its tick was due, on the monotonic clock, which all processes of a machine share.
    pub due_ns: u64,
    pub tick: u64,
    /// Counts from 1.
    pub port: u8,
    pub message: Message,
}

/// A message that has come in from outside: of whatever kind, missing bytes are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Received {
    /// Counts from 1.
    pub port: u8,
    pub message: Message,
}

impl Received {
    /// As one word of a log.
    pub fn to_word_rt(self) -> u64 {
        pack_rt(self.port, self.message)
    }

    /// Reads a word back; `None` to what no port can have received.
    pub fn from_word(word: u64) -> Option<Self> {
        let (port, message) = unpack_rt(word);
        let received = Self { port, message };
        (received.is_sound() && received.to_word_rt() == word).then_some(received)
    }

    /// Whether a port can have received it.
    pub fn is_sound(self) -> bool {
        self.port > 0 && self.message[0] >= 0x80 && self.message[1] < 0x80 && self.message[2] < 0x80
    }
}

/// A message that has come in, and when it is to be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// Block of the session that is to know of it.
    pub block: u64,
    pub received: Received,
}

/// The MIDI ports of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// What the input ports listen to, from port 1 on: parts of the names of other programs' ports, Standard MIDI Files, or
    /// the session's own output ports. Empty: port 1 listens to all instruments of the machine.
    pub inputs: Vec<String>,
    /// What the output ports are connected to, likewise, but for files. Empty: to nothing.
    pub outputs: Vec<String>,
    /// Whether the session's tempo is that of the MIDI clock that comes in.
    pub follows_clock: bool,
}

/// Whether a port hears or sends, as seen from the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    In,
    Out,
}

/// A port of another program that one of the session's is connected to has come, or has gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortChange {
    pub direction: Direction,
    /// The session's port, counted from 1.
    pub port: u8,
    /// The other program's.
    pub name: String,
    pub is_there: bool,
}

/// What the device host has counted of MIDI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MidiCounters {
    /// Messages that came in.
    pub received: u64,
    /// Messages that came in faster than they could be taken, and were left out. Never ends of notes.
    pub received_dropped: u64,
    /// Pieces of bytes that came in and were no message.
    pub received_malformed: u64,
    /// Messages that did not go out because they were too late.
    pub sent_late: u64,
    /// Messages that did not go out because there were too many.
    pub sent_dropped: u64,
}

/// What a route is left with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteState {
    /// Names the route in whatever revision it occurs.
    pub key: u64,
    /// Counts from 1.
    pub port: u8,
    /// The beginning of the note that sounds, or the last controller that was sent.
    pub message: Option<Message>,
}

/// Whether the message ends a note.
pub fn is_note_off(message: Message) -> bool {
    let kind = message[0] & 0xf0;
    kind == NOTE_OFF || (kind == NOTE_ON && message[2] == 0)
}

/// Whether the message sets a controller.
pub fn is_controller(message: Message) -> bool {
    message[0] & 0xf0 == CONTROLLER
}

/// Whether the message begins a note.
pub fn is_note_on(message: Message) -> bool {
    message[0] & 0xf0 == NOTE_ON && message[2] > 0
}

/// The bytes of a message that go over a wire: as many as its kind has.
pub fn wire_bytes_rt(message: &Message) -> &[u8] {
    let count = match message[0] {
        0xc0..=0xdf | 0xf1 | 0xf3 => 2,
        0xf4..=0xff => 1,
        _ => 3,
    };
    &message[..count]
}

/// The end of the note that `note_on` begins.
pub fn note_off(note_on: Message) -> Message {
    [NOTE_OFF | (note_on[0] & 0x0f), note_on[1], 0]
}

/// Whether this is a message that may stand alone: a status of a channel, then data.
fn is_sound(message: Message) -> bool {
    (0x80..0xf0).contains(&message[0]) && message[1] < 0x80 && message[2] < 0x80
}

fn pack_rt(port: u8, message: Message) -> u64 {
    u64::from(u32::from_be_bytes([port, message[0], message[1], message[2]]))
}

fn unpack_rt(word: u64) -> (u8, Message) {
    let [port, status, first, second] = (word as u32).to_be_bytes();
    (port, [status, first, second])
}

/// A lane's segment, created by the supervisor before anyone writes to it.
pub fn create(session: &SessionId, generation: u64) -> Result<Segment, SegmentError> {
    Segment::create(session, SegmentKind::MidiLane, generation, PAYLOAD_BYTES)
}

/// How far a lane is, for whoever looks on: ticks delivered, and ticks that were due at `now_ns` on the monotonic clock.
pub fn progress(lane: &Segment, now_ns: u64) -> (u64, u64) {
    let ticks = lane.word_u64(NEXT_TICK).load(Acquire).min(LAST_NUMBER);
    let is_due = ticks > 0 && lane.word_u64(NEXT_DUE).load(Relaxed) <= now_ns;
    (ticks, ticks + u64::from(is_due))
}

fn open(reference: &SegmentRef) -> Result<Segment, SegmentError> {
    let segment = Segment::open(reference)?;
    if reference.kind != SegmentKind::MidiLane || segment.payload_bytes() != PAYLOAD_BYTES {
        return Err(SegmentError::Damaged { name: reference.name.clone(), what: "it is not a MIDI lane of this version" });
    }
    Ok(segment)
}

/// Where the head lies that is valid while the next tick is `next_tick`.
fn head(next_tick: u64) -> usize {
    HEADS + (next_tick & 1) as usize * HEAD_BYTES
}

fn event_at<const EVENTS: usize>(number: u64) -> usize {
    EVENTS_AT + (number % EVENTS as u64) as usize * EVENT_BYTES
}

fn read_states<W: Words>(words: &W, head: usize) -> Vec<RouteState> {
    let count = words.load_u64_rt(head + WORD, Relaxed).min(MAX_MIDI_ROUTES as u64) as usize;
    let state = |index: usize| {
        let at = head + (2 + 2 * index) * WORD;
        let word = words.load_u64_rt(at + WORD, Relaxed);
        let (port, message) = unpack_rt(word);
        let message = Some(message).filter(|message| word & HAS_MESSAGE != 0 && is_sound(*message));
        RouteState { key: words.load_u64_rt(at, Relaxed), port, message }
    };
    (0..count).map(state).collect()
}

/// The host's end of a lane. Its parameters are other than their defaults only where the protocol is tried in small.
pub struct MidiLaneWriter<W = Segment, const EVENTS: usize = MIDI_LANE_EVENTS> {
    words: W,
    next_tick: u64,
    /// Events of completed ticks and of this one.
    written: u64,
}

impl MidiLaneWriter {
    /// Maps the lane and goes on where the last writer stopped.
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self::over(open(reference)?))
    }
}

impl<W: Words, const EVENTS: usize> MidiLaneWriter<W, EVENTS> {
    /// Goes on where the last writer of these words stopped.
    pub fn over(words: W) -> Self {
        let next_tick = words.load_u64_rt(NEXT_TICK, Acquire).min(LAST_NUMBER);
        let written = words.load_u64_rt(head(next_tick), Relaxed).min(LAST_NUMBER);
        Self { words, next_tick, written }
    }

    /// Number of the tick that is delivered next.
    pub fn next_tick(&self) -> u64 {
        self.next_tick
    }

    /// What the last completed tick has left. Allocates: for the control thread.
    pub fn states(&self) -> Vec<RouteState> {
        read_states(&self.words, head(self.next_tick))
    }

    /// Adds an event to this tick; false when there is no room for one of its kind.
    pub fn push_rt(&mut self, event: &MidiEvent) -> bool {
        let reserve = if is_note_off(event.message) { 0 } else { (EVENTS / 4) as u64 };
        let untaken = self.written.saturating_sub(self.words.load_u64_rt(TAKEN, Acquire));
        if untaken + reserve >= EVENTS as u64 {
            return false;
        }
        let at = event_at::<EVENTS>(self.written);
        self.words.store_u64_rt(at, event.due_ns, Relaxed);
        self.words.store_u64_rt(at + WORD, event.tick, Relaxed);
        self.words.store_u64_rt(at + 2 * WORD, pack_rt(event.port, event.message), Relaxed);
        self.written += 1;
        true
    }

    /// Whether so many events of any kind find room.
    pub fn has_room_rt(&self, events: u64) -> bool {
        let untaken = self.written.saturating_sub(self.words.load_u64_rt(TAKEN, Acquire));
        untaken + events + (EVENTS / 4) as u64 <= EVENTS as u64
    }

    /// Counts what does not begin because there is no room.
    pub fn count_dropped_rt(&self) {
        let dropped = self.words.load_u64_rt(DROPPED, Relaxed);
        self.words.store_u64_rt(DROPPED, dropped.wrapping_add(1), Relaxed);
    }

    /// Completes the tick: its events and `states` are delivered. The next one is due at `next_due_ns`.
    pub fn complete_rt(&mut self, states: &[RouteState], next_due_ns: u64) {
        self.next_tick += 1;
        let head = head(self.next_tick);
        // Nobody reads this head before the tick is complete, but a reader that is late with the one before last, which
        // notices by the number of the next tick: orders that number before what is stored here.
        self.words.fence_rt(Release);
        self.words.store_u64_rt(head, self.written, Relaxed);
        let states = &states[..states.len().min(MAX_MIDI_ROUTES)];
        self.words.store_u64_rt(head + WORD, states.len() as u64, Relaxed);
        for (index, state) in states.iter().enumerate() {
            let at = head + (2 + 2 * index) * WORD;
            let word = state.message.map_or(0, |message| HAS_MESSAGE | pack_rt(state.port, message));
            self.words.store_u64_rt(at, state.key, Relaxed);
            self.words.store_u64_rt(at + WORD, word, Relaxed);
        }
        self.words.store_u64_rt(NEXT_DUE, next_due_ns, Relaxed);
        self.words.store_u64_rt(NEXT_TICK, self.next_tick, Release);
    }
}

/// The device host's end of a lane. Its parameters are other than their defaults only where the protocol is tried in small.
pub struct MidiLaneReader<W = Segment, const EVENTS: usize = MIDI_LANE_EVENTS> {
    words: W,
    taken: u64,
    /// Events that are known to be delivered.
    delivered: u64,
}

impl MidiLaneReader {
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self::over(open(reference)?))
    }
}

impl<W: Words, const EVENTS: usize> MidiLaneReader<W, EVENTS> {
    /// Goes on where the last reader of these words stopped.
    pub fn over(words: W) -> Self {
        let taken = words.load_u64_rt(TAKEN, Acquire).min(LAST_NUMBER);
        Self { words, taken, delivered: taken }
    }

    /// Number of ticks that have been delivered.
    pub fn ticks(&self) -> u64 {
        self.words.load_u64_rt(NEXT_TICK, Acquire).min(LAST_NUMBER)
    }

    /// Events that did not begin because there was no room.
    pub fn dropped(&self) -> u64 {
        self.words.load_u64_rt(DROPPED, Relaxed)
    }

    /// The next event of a completed tick. What a damaged lane holds is passed over.
    pub fn next_event(&mut self) -> Option<MidiEvent> {
        if self.taken == self.delivered {
            self.look();
        }
        while self.taken < self.delivered {
            let at = event_at::<EVENTS>(self.taken);
            let (port, message) = unpack_rt(self.words.load_u64_rt(at + 2 * WORD, Relaxed));
            let (due_ns, tick) = (self.words.load_u64_rt(at, Relaxed), self.words.load_u64_rt(at + WORD, Relaxed));
            self.taken += 1;
            // The writer may use the place again once this is seen, so it comes after the reading.
            self.words.store_u64_rt(TAKEN, self.taken, Release);
            if is_sound(message) && port > 0 {
                return Some(MidiEvent { due_ns, tick, port, message });
            }
        }
        None
    }

    /// Finds how many events are delivered.
    fn look(&mut self) {
        let Some(written) = self.head_word() else { return };
        if written.saturating_sub(self.taken) > EVENTS as u64 {
            // No writer does this. What is in the ring belongs to nothing, so it goes on after it.
            self.taken = written;
            self.words.store_u64_rt(TAKEN, self.taken, Release);
        }
        self.delivered = self.taken.max(written);
    }

    /// The number of delivered events, if the writer leaves its head alone for a moment.
    fn head_word(&self) -> Option<u64> {
        for _ in 0..LOOKS {
            let ticks = self.words.load_u64_rt(NEXT_TICK, Acquire);
            let written = self.words.load_u64_rt(head(ticks), Relaxed);
            self.words.fence_rt(Acquire);
            if self.words.load_u64_rt(NEXT_TICK, Relaxed) == ticks {
                return Some(written.min(LAST_NUMBER));
            }
        }
        None
    }

    /// What sounds after the last completed tick, for a reader that goes on for another one. A lane that is written to
    /// meanwhile may show a mixture of two ticks: of notes, some that have just ended.
    pub fn sounding(&self) -> Vec<RouteState> {
        let mut states = read_states(&self.words, head(self.ticks()));
        states.retain(|state| state.message.is_some_and(is_note_on));
        states
    }
}

#[cfg(test)]
#[path = "midi_tests.rs"]
mod tests;
