//! Which notes instruments hold, as whoever hears them follows it: the supervisor, so that it can end them for one that is
//! unplugged, and the device host, which hears what is played while there is no supervisor. A set in memory, of one thread.

use std::collections::BTreeSet;

use crate::midi::{Received, is_note_off, is_note_on, note_off};

/// Notes that are known to be held; as many as four ports have.
const MAX_HELD: usize = 4 * 16 * 128;

/// Notes that instruments hold: begun and not ended, each by what ends it. No more than four ports have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldNotes(BTreeSet<Received>);

impl HeldNotes {
    /// Follows a message.
    pub fn take(&mut self, received: Received) {
        let end = Received { message: note_off(received.message), ..received };
        if is_note_off(received.message) {
            self.0.remove(&end);
        } else if is_note_on(received.message) {
            self.insert(end);
        }
    }

    /// Takes in the note that this message ends.
    pub fn insert(&mut self, end: Received) {
        if self.0.len() < MAX_HELD {
            self.0.insert(end);
        }
    }

    /// The ends of the notes that are held, of one port or of all; they are not held any more.
    pub fn release(&mut self, port: Option<u8>) -> Vec<Received> {
        let (ends, kept) =
            std::mem::take(&mut self.0).into_iter().partition::<BTreeSet<_>, _>(|end| port.is_none_or(|port| end.port == port));
        self.0 = kept;
        ends.into_iter().collect()
    }

    /// Lets go of the notes that the other ones are without, and returns their ends.
    pub fn release_all_but(&mut self, others: &Self) -> Vec<Received> {
        let ends = self.0.difference(&others.0).copied().collect();
        self.0 = &self.0 & &others.0;
        ends
    }

    /// The ends of all.
    pub fn ends(&self) -> Vec<Received> {
        self.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(port: u8, message: [u8; 3]) -> Received {
        Received { port, message }
    }

    #[test]
    fn what_is_held_when_a_port_goes_ends_and_nothing_else() {
        let mut held = HeldNotes::default();
        for message in [[0x90, 60, 9], [0x92, 61, 9], [0x90, 62, 9], [0x90, 62, 0], [0x91, 63, 9], [0x81, 63, 5], [0xb0, 64, 1]] {
            held.take(received(1, message));
        }
        held.take(received(2, [0x90, 60, 9]));
        assert_eq!(held.release(Some(1)), [received(1, [0x80, 60, 0]), received(1, [0x82, 61, 0])]);
        assert_eq!(held.release(Some(1)), []);
        assert_eq!(held.release(None), [received(2, [0x80, 60, 0])]);
    }

    #[test]
    fn of_two_lists_what_the_newer_one_has_no_more_is_ended_once() {
        let (mut told, mut held) = (HeldNotes::default(), HeldNotes::default());
        for note in [60, 61] {
            told.take(received(1, [0x90, note, 9]));
            held.take(received(1, [0x90, note, 9]));
        }
        held.take(received(1, [0x80, 60, 0]));
        held.take(received(1, [0x90, 62, 9]));
        assert_eq!(told.release_all_but(&held), [received(1, [0x80, 60, 0])]);
        assert_eq!(told.release_all_but(&held), []);
        assert_eq!(told.ends(), [received(1, [0x80, 61, 0])]);
    }
}
