//! What the MIDI thread knows: the lanes, and the notes that sound in each of them.
//!
//! Everything goes to every sink. The end of a note is passed on only where the note sounds, so that there are never more
//! ends than beginnings. What is much too late (the machine was suspended, a host was stopped and goes on) does not begin;
//! it is counted.

use std::collections::BTreeSet;

use ipc::midi::{Message, MidiEvent, MidiLaneReader, is_note_off, is_note_on, note_off};

use super::MidiSink;

/// Lateness from which on nothing begins any more: a listener would take it for another rhythm.
const TOO_LATE_NS: u64 = 250_000_000;

/// Events of one lane that are passed on at a time, so that a flood in one does not delay the others.
const EVENTS_AT_A_TIME: usize = 512;

/// A note: port, channel, number.
type Note = (u8, u8, u8);

struct Lane<R> {
    runtime: String,
    reader: R,
    sounding: BTreeSet<Note>,
    is_started: bool,
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

    /// Events that did not begin because they were too late.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Events that hosts had no room for, in the lanes of now and before.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.lanes.iter().map(|lane| lane.reader.dropped()).sum::<u64>()
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
        let sounding = states.filter_map(|state| Some(note_of(state.port, state.message?))).collect();
        self.lanes.push(Lane { runtime, reader, sounding, is_started: false, last_due_ns: 0 });
    }

    /// Passes on what has been delivered and ends what sounds then. Lets go of the lane.
    pub fn remove(&mut self, runtime: &str, now_ns: u64) {
        let Some(index) = self.lanes.iter().position(|lane| lane.runtime == runtime) else { return };
        while self.pass_on(index, now_ns) {}
        self.active_ns = now_ns;
        let lane = self.lanes.remove(index);
        self.dropped += lane.reader.dropped();
        // Not before what was to be sent before.
        let due_ns = now_ns.max(lane.last_due_ns);
        for (port, channel, note) in lane.sounding {
            let message = note_off([channel, note, 0]);
            let event = MidiEvent { due_ns, tick: lane.reader.ticks(), port, message };
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

    /// Ends everything.
    pub fn close(&mut self, now_ns: u64) {
        while let Some(lane) = self.lanes.first() {
            let runtime = lane.runtime.clone();
            self.remove(&runtime, now_ns);
        }
        self.sinks.iter_mut().for_each(|sink| sink.close());
    }

    /// Passes on some events of a lane; whether there may be more.
    fn pass_on(&mut self, index: usize, now_ns: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(index) else { return false };
        for _ in 0..EVENTS_AT_A_TIME {
            let Some(event) = lane.reader.next_event() else { return false };
            self.active_ns = now_ns;
            // A host can put any time into its lane. What is due later than now is not: hosts run when a tick is due.
            let event = MidiEvent { due_ns: event.due_ns.min(now_ns), ..event };
            let is_late = now_ns - event.due_ns > TOO_LATE_NS;
            let note = note_of(event.port, event.message);
            let is_passed_on = match event.message {
                message if is_note_off(message) => lane.sounding.remove(&note),
                _ if is_late => {
                    self.late += 1;
                    false
                }
                message if is_note_on(message) => {
                    lane.sounding.insert(note);
                    true
                }
                _ => true,
            };
            if is_passed_on {
                lane.last_due_ns = lane.last_due_ns.max(event.due_ns);
                self.sinks.iter_mut().for_each(|sink| sink.send(&event));
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
