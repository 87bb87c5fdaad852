//! The way of messages from a thread that must not wait to the MIDI input thread: a wait-free queue of fixed size.
//!
//! Where it is full, the ends of notes are kept in a table of their own, so that a flood leaves no note hanging; everything
//! else is left out, and whoever puts it in counts it.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use ipc::midi::{Message, NOTE_OFF, Received, is_note_off};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Heard, InputCounters, PORTS};
use crate::realtime::monotonic_ns_rt;

/// Says that somebody is there, and nothing else.
const ACTIVE_SENSING: u8 = 0xfe;
/// Messages on their way.
const QUEUE_MESSAGES: usize = 4_096;

/// Both ends of an empty queue.
pub fn queue() -> (Outbox, Inbox) {
    let (messages_rt, messages) = RingBuffer::new(QUEUE_MESSAGES);
    let ends = Arc::new(Ends::default());
    (Outbox { messages: messages_rt, ends: Arc::clone(&ends) }, Inbox { messages, ends })
}

/// Where messages are put in.
pub struct Outbox {
    messages: Producer<Heard>,
    ends: Arc<Ends>,
}

impl Outbox {
    /// Puts in what has come to a port as bytes. Counts what is no message and what finds no room.
    pub fn hear_rt(&mut self, at_ns: u64, port: u8, bytes: &[u8], counters: &InputCounters) {
        let Some(message) = message_rt(bytes) else {
            counters.malformed.fetch_add(1, Relaxed);
            return;
        };
        if message[0] != ACTIVE_SENSING && !self.put_rt(Heard { at_ns, received: Received { port, message } }) {
            counters.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Puts a message in; the last quarter of the queue is for the ends of notes. False when it is left out.
    pub fn put_rt(&mut self, heard: Heard) -> bool {
        let is_end = is_note_off(heard.received.message);
        let has_room = is_end || self.messages.slots() > QUEUE_MESSAGES / 4;
        if has_room && self.messages.push(heard).is_ok() {
            return true;
        }
        if is_end {
            self.ends.keep_rt(heard.received);
        }
        is_end
    }
}

/// The first three bytes of a message. `None` to what is none.
fn message_rt(bytes: &[u8]) -> Option<Message> {
    let message = [*bytes.first()?, bytes.get(1).copied().unwrap_or(0), bytes.get(2).copied().unwrap_or(0)];
    let received = Received { port: 1, message };
    received.is_sound().then_some(message)
}

/// Where they come out.
pub struct Inbox {
    messages: Consumer<Heard>,
    ends: Arc<Ends>,
}

impl Inbox {
    /// The next message.
    pub fn hear(&mut self) -> Option<Heard> {
        self.messages.pop().ok().or_else(|| self.ends.take().map(|received| Heard { at_ns: monotonic_ns_rt(), received }))
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
        let Some(notes) = usize::from(received.port).checked_sub(1).and_then(|port| self.notes.get(port)) else { return };
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_flood_is_left_out_and_counted_and_every_note_ends() {
        let (mut outbox, mut inbox) = queue();
        let heard = |message| Heard { at_ns: 0, received: Received { port: 2, message } };
        let put = |number: &u32| outbox.put_rt(heard([0x90 | (number % 16) as u8, (number / 16 % 128) as u8, 1]));
        let taken_in = (0..100_000u32).filter(put).count();
        for note in 0..2_048u32 {
            assert!(outbox.put_rt(heard([0x80 | (note % 16) as u8, (note / 16) as u8, 0])), "the end of a note is never left out");
        }
        let all: Vec<Received> = std::iter::from_fn(|| inbox.hear()).map(|heard| heard.received).collect();
        let ended: BTreeSet<Received> = all.iter().filter(|received| is_note_off(received.message)).copied().collect();
        assert_eq!(ended.len(), 2_048);
        assert!(ended.iter().all(|received| received.port == 2));
        assert_eq!(all.iter().filter(|received| !is_note_off(received.message)).count(), taken_in);
        assert!(taken_in < 10_000);
    }

    #[test]
    fn any_bytes_are_a_message_or_none() {
        assert_eq!(message_rt(&[0x90, 60, 100]), Some([0x90, 60, 100]));
        assert_eq!(message_rt(&[0xc0, 7]), Some([0xc0, 7, 0]));
        assert_eq!(message_rt(&[0xf8]), Some([0xf8, 0, 0]));
        assert_eq!(message_rt(&[0xf0, 0x7e, 0x7f, 9, 1, 0xf7]), Some([0xf0, 0x7e, 0x7f]));
        for garbage in [&[][..], &[60, 100], &[0x90, 0x90, 1], &[0x80, 1, 0xff]] {
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
}
