//! The way of events from the MIDI thread to the thread that sends them: a wait-free queue of fixed size, and what waits
//! behind it.
//!
//! Events are taken out in the order in which they are due, whatever lanes they come from. What finds no room is left out and
//! counted, but for the ends of notes, which wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

use ipc::midi::{MidiEvent, is_note_off};
use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// Events on their way, and as many again that wait there for their time.
pub const QUEUE_EVENTS: usize = 2_048;
/// Beginnings that wait for room in the queue; ends always wait.
const MAX_WAITING: usize = 1_024;

/// Both ends of an empty queue.
pub fn queue() -> (Outgoing, Due) {
    let (events, events_rt) = RingBuffer::new(QUEUE_EVENTS);
    let is_idle = Arc::new(AtomicBool::new(true));
    let outgoing = Outgoing { events, waiting: VecDeque::new(), is_idle: Arc::clone(&is_idle), dropped: 0 };
    (outgoing, Due { events: events_rt, pending: Vec::with_capacity(QUEUE_EVENTS), is_idle })
}

/// The MIDI thread's end.
pub struct Outgoing {
    events: Producer<MidiEvent>,
    waiting: VecDeque<MidiEvent>,
    is_idle: Arc<AtomicBool>,
    dropped: u64,
}

impl Outgoing {
    pub fn put(&mut self, event: &MidiEvent) {
        if is_note_off(event.message) || self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(*event);
            self.hand_over();
        } else {
            self.dropped += 1;
        }
    }

    /// Hands over what waits for room.
    pub fn hand_over(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            self.is_idle.store(false, Release);
            if let Err(PushError::Full(event)) = self.events.push(event) {
                self.waiting.push_front(event);
                return;
            }
        }
    }

    /// Whether everything that was put in has been sent.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.is_idle.load(Acquire)
    }

    /// Events that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The end of the thread that sends.
pub struct Due {
    events: Consumer<MidiEvent>,
    /// In the order in which they are due. Never grows beyond the capacity it was made with.
    pub pending: Vec<MidiEvent>,
    is_idle: Arc<AtomicBool>,
}

impl Due {
    /// Puts what has come to its place in [`Self::pending`].
    pub fn take_in_rt(&mut self) {
        while self.pending.len() < self.pending.capacity() {
            let Ok(event) = self.events.pop() else { return };
            // Lanes come one after the other; within a lane the order stays.
            let place = self.pending.iter().rposition(|other| other.due_ns <= event.due_ns).map_or(0, |index| index + 1);
            self.pending.insert(place, event);
        }
    }

    /// Tells the other end when nothing is left to be sent.
    pub fn tell_idle_rt(&self) {
        if self.pending.is_empty() && self.events.is_empty() {
            self.is_idle.store(true, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use ipc::midi::{NOTE_OFF, NOTE_ON};

    use super::*;

    fn event(due_ns: u64, kind: u8, note: u8) -> MidiEvent {
        MidiEvent { due_ns, tick: 0, port: 1, message: [kind, note, 1] }
    }

    #[test]
    fn lanes_are_merged_by_when_events_are_due_and_within_a_lane_the_order_stays() {
        let (mut outgoing, mut due) = queue();
        for (due_ns, note) in [(10, 1), (20, 2), (20, 3), (5, 4), (20, 5), (15, 6)] {
            outgoing.put(&event(due_ns, NOTE_ON, note));
        }
        assert!(!outgoing.is_idle());
        due.take_in_rt();
        let notes: Vec<u8> = due.pending.iter().map(|event| event.message[1]).collect();
        assert_eq!(notes, [4, 1, 6, 2, 3, 5]);
        due.tell_idle_rt();
        assert!(!outgoing.is_idle(), "they are not sent yet");
        due.pending.clear();
        due.tell_idle_rt();
        assert!(outgoing.is_idle());
    }

    #[test]
    fn a_flood_is_left_out_and_counted_and_the_ends_of_notes_wait() {
        let (mut outgoing, mut due) = queue();
        (0..10_000).for_each(|at| outgoing.put(&event(at, NOTE_ON, 60)));
        (0..3_000).for_each(|at| outgoing.put(&event(10_000 + at, NOTE_OFF, 60)));
        let (mut begun, mut ended) = (0, 0);
        for _ in 0..20 {
            outgoing.hand_over();
            due.take_in_rt();
            assert!(due.pending.len() <= QUEUE_EVENTS);
            due.pending.drain(..).for_each(|event| if is_note_off(event.message) { ended += 1 } else { begun += 1 });
        }
        assert_eq!(ended, 3_000);
        assert_eq!((begun + outgoing.dropped(), begun), (10_000, (QUEUE_EVENTS + MAX_WAITING) as u64));
    }
}
