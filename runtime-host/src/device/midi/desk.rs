//! What the MIDI thread knows: the lanes, and the notes that sound in each of them.
//!
//! Everything goes to every sink. The end of a note is passed on only where the note sounds, so that there are never more ends
//! than beginnings. What is much too late (the machine was suspended, a host was stopped and goes on) does not begin; it is
//! counted. Of a controller that is too late only the last value is sent: a pedal must not stay down. A lane that is muted ends
//! what it holds, and begins it again when it is heard again, if it still holds it.

use std::collections::BTreeMap;

use ipc::midi::{Message, MidiEvent, MidiLaneReader, is_controller, is_note_off, is_note_on, note_off};

use super::MidiSink;

/// Lateness from which on nothing begins any more: a listener would take it for another rhythm.
const TOO_LATE_NS: u64 = 250_000_000;

/// Events of one lane that are passed on at a time, so that a flood in one does not delay the others.
const EVENTS_AT_A_TIME: usize = 512;

/// A note: port, channel, number.
type Note = (u8, u8, u8);

/// A controller: the same.
type Controller = (u8, u8, u8);

struct Lane<R> {
    runtime: String,
    reader: R,
    /// The notes that have begun and not ended, with their beginnings. They sound unless the lane is muted.
    held: BTreeMap<Note, Message>,
    /// Controllers that came too late, with what each is set to.
    overdue: BTreeMap<Controller, MidiEvent>,
    is_started: bool,
    is_muted: bool,
    /// When its last event was due.
    last_due_ns: u64,
}

/// See the module's documentation.
pub struct Desk {
    lanes: Vec<Lane<MidiLaneReader>>,
    sinks: Vec<Box<dyn MidiSink>>,
    late: u64,
    /// Of lanes that are gone.
    dropped: u64,
    /// When an event came last, or a lane came or went.
    active_ns: u64,
}

fn note_of(port: u8, message: Message) -> Note {
    (port, message[0] & 0x0f, message[1])
}

impl Desk {
    pub fn new(sinks: Vec<Box<dyn MidiSink>>) -> Self {
        Self { lanes: Vec::new(), sinks, late: 0, dropped: 0, active_ns: 0 }
    }

    /// Events that were not sent because they were too late.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Events that hosts had no room for, in the lanes of now and before, or the ways out had none.
    pub fn dropped(&self) -> u64 {
        let of_lanes: u64 = self.lanes.iter().map(|lane| lane.reader.dropped()).sum();
        self.dropped + of_lanes + self.sinks.iter().map(|sink| sink.dropped()).sum::<u64>()
    }

    /// How long nothing has come or gone.
    pub fn quiet_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.active_ns)
    }

    pub fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Reads a lane from now on. What an earlier reader has begun in it counts as sounding.
    pub fn add(&mut self, runtime: String, reader: MidiLaneReader, now_ns: u64) {
        self.active_ns = now_ns;
        let states = reader.sounding().into_iter();
        let held = states.filter_map(|state| Some((note_of(state.port, state.message?), state.message?))).collect();
        self.lanes.push(Lane { runtime, reader, held, overdue: BTreeMap::new(), is_started: false, is_muted: false, last_due_ns: 0 });
    }

    /// Passes on what has been delivered and ends what sounds then. Lets go of the lane.
    pub fn remove(&mut self, runtime: &str, now_ns: u64) {
        let Some(index) = self.find(runtime) else { return };
        while self.pass_on(index, now_ns) {}
        self.active_ns = now_ns;
        self.sound(index, note_off, now_ns);
        let lane = self.lanes.remove(index);
        self.dropped += lane.reader.dropped();
    }

    /// Whether the notes of a lane sound.
    pub fn mute(&mut self, runtime: &str, is_muted: bool, now_ns: u64) {
        let Some(index) = self.find(runtime) else { return };
        if self.lanes[index].is_muted == is_muted {
            return;
        }
        while self.pass_on(index, now_ns) {}
        if is_muted {
            self.sound(index, note_off, now_ns);
            self.lanes[index].is_muted = true;
        } else {
            self.lanes[index].is_muted = false;
            self.sound(index, |begin| begin, now_ns);
        }
    }

    fn find(&self, runtime: &str) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.runtime == runtime)
    }

    /// Sends something for every note that a lane holds, made of its beginning. Nothing for one that is muted.
    fn sound(&mut self, index: usize, what: impl Fn(Message) -> Message, now_ns: u64) {
        let lane = &mut self.lanes[index];
        if lane.is_muted {
            return;
        }
        // Not before what was to be sent before.
        lane.last_due_ns = lane.last_due_ns.max(now_ns);
        for ((port, ..), begin) in &lane.held {
            let event = MidiEvent { due_ns: lane.last_due_ns, tick: lane.reader.ticks(), port: *port, message: what(*begin) };
            self.sinks.iter_mut().for_each(|sink| sink.send(&event));
        }
    }

    /// Passes on what has been delivered; returns the runtimes whose first tick is there.
    pub fn look(&mut self, now_ns: u64) -> Vec<String> {
        let mut started = Vec::new();
        for index in 0..self.lanes.len() {
            self.pass_on(index, now_ns);
            let lane = &mut self.lanes[index];
            if !lane.is_started && lane.reader.ticks() > 0 {
                lane.is_started = true;
                started.push(lane.runtime.clone());
            }
        }
        self.sinks.iter_mut().for_each(|sink| sink.look(now_ns));
        started
    }

    /// Sends what is of no lane.
    pub fn send(&mut self, event: &MidiEvent) {
        self.sinks.iter_mut().for_each(|sink| sink.send(event));
    }

    /// Ends everything.
    pub fn close(&mut self, now_ns: u64) {
        while let Some(lane) = self.lanes.first() {
            let runtime = lane.runtime.clone();
            self.remove(&runtime, now_ns);
        }
        self.sinks.iter_mut().for_each(|sink| sink.close());
    }

    /// Begins the notes that sound at a port again, for whoever has come to listen there.
    pub fn begin_again(&mut self, port: u8, now_ns: u64) {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_muted) {
            for (_, begin) in lane.held.iter().filter(|((at, ..), _)| *at == port) {
                lane.last_due_ns = lane.last_due_ns.max(now_ns);
                let event = MidiEvent { due_ns: lane.last_due_ns, tick: lane.reader.ticks(), port, message: *begin };
                self.sinks.iter_mut().for_each(|sink| sink.begin_again(&event));
            }
        }
    }

    /// Passes on some events of a lane; whether there may be more.
    fn pass_on(&mut self, index: usize, now_ns: u64) -> bool {
        for _ in 0..EVENTS_AT_A_TIME {
            let Some(event) = self.lanes.get_mut(index).and_then(|lane| lane.reader.next_event()) else {
                self.send_overdue(index, now_ns);
                return false;
            };
            self.active_ns = now_ns;
            // A host can put any time into its lane. What is due later than now is not: hosts run when a tick is due.
            let event = MidiEvent { due_ns: event.due_ns.min(now_ns), ..event };
            let is_late = now_ns - event.due_ns > TOO_LATE_NS;
            if !is_late {
                self.send_overdue(index, now_ns);
            }
            let lane = &mut self.lanes[index];
            let overdue = lane.overdue.len();
            if lane.takes(&event, is_late) {
                lane.last_due_ns = lane.last_due_ns.max(event.due_ns);
                self.sinks.iter_mut().for_each(|sink| sink.send(&event));
            } else if is_late && !is_note_off(event.message) && lane.overdue.len() == overdue {
                self.late += 1;
            }
        }
        true
    }

    /// Sends what controllers of a lane are set to that came too late.
    fn send_overdue(&mut self, index: usize, now_ns: u64) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        for event in std::mem::take(&mut lane.overdue).into_values() {
            lane.last_due_ns = lane.last_due_ns.max(now_ns);
            let event = MidiEvent { due_ns: lane.last_due_ns, ..event };
            self.sinks.iter_mut().for_each(|sink| sink.send(&event));
        }
    }
}

impl Lane<MidiLaneReader> {
    /// Whether an event is passed on now.
    fn takes(&mut self, event: &MidiEvent, is_late: bool) -> bool {
        let (message, place) = (event.message, note_of(event.port, event.message));
        if is_note_off(message) {
            return self.held.remove(&place).is_some() && !self.is_muted;
        }
        if is_late {
            if is_controller(message) {
                self.overdue.insert(place, *event);
            }
            return false;
        }
        if is_note_on(message) {
            self.held.insert(place, message);
            return !self.is_muted;
        }
        true
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
