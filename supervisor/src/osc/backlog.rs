//! What has come in over OSC and waits: for its time, or for the session, which has so many requests under way.
//!
//! Bounded, whatever comes. A controller that is moved faster than the session can follow leaves its newest value only; what
//! finds no room is left out. But a note that has begun ends: the end of a note is always kept, once for each note, and in its
//! order behind what was kept of that note. So no more ends can wait than there are notes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use ipc::limits::MAX_RECEIVED;
use ipc::midi::{Message, NOTE_OFF, is_note_off};

use super::{handed_over, has_tick};
use crate::control::protocol::{Midi, MidiMessage, RuntimeName, Set, Verb};

/// Wishes that may wait for the session.
const MAX_WAITING: usize = 1_024;

/// Wishes that may wait for their time.
const MAX_SCHEDULED: usize = 1_024;

/// Ends of notes that may wait beyond that: all notes of all channels of sixteen ports. Who plays more is no instrument.
const MAX_ENDS: usize = 16 * 16 * 128;

/// A note that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    port: Option<u8>,
    channel: u8,
    note: u8,
}

/// What waits.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: VecDeque<(Verb, Option<Instant>)>,
    /// Ends of notes for which there was no room, by runtime. They come behind everything that waits.
    ends: BTreeMap<RuntimeName, BTreeSet<End>>,
    scheduled: Vec<(Instant, Verb)>,
    /// The same of what waits for its time: of each note the last end.
    scheduled_ends: BTreeMap<(RuntimeName, End), Instant>,
}

/// There was no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("too many requests wait for their answer")]
    Waiting,
    #[error("too many packets wait for their time")]
    Scheduled,
}

impl End {
    /// The end of a note, if the message is one.
    fn of(message: &MidiMessage) -> Option<Self> {
        let bytes: Message = message.bytes.as_slice().try_into().ok()?;
        is_note_off(bytes).then_some(Self { port: message.port, channel: bytes[0] & 0x0f, note: bytes[1] })
    }

    fn message(self) -> MidiMessage {
        MidiMessage { port: self.port, bytes: vec![NOTE_OFF | self.channel, self.note, 0] }
    }
}

impl Backlog {
    /// Takes in what is to be asked as soon as the session has room, at this instant where one is given.
    pub fn put(&mut self, verb: Verb, at: Option<Instant>) -> Result<(), NoRoom> {
        if at.is_none()
            && let Some(older) = self.superseded(&verb)
        {
            *older = verb;
            return Ok(());
        }
        let has_room = self.waiting.len() < MAX_WAITING;
        match verb {
            Verb::Midi(midi) if !has_room || self.ends.contains_key(&midi.runtime) => self.keep_ends(midi),
            // Once: it silences all there is.
            Verb::Panic(_) if self.waiting.iter().any(|(verb, _)| matches!(verb, Verb::Panic(_))) => Ok(()),
            verb if has_room || matches!(verb, Verb::Panic(_)) => {
                self.waiting.push_back((verb, at));
                Ok(())
            }
            _ => Err(NoRoom::Waiting),
        }
    }

    /// Takes in what is to be asked at its time.
    pub fn schedule(&mut self, at: Instant, verb: Verb) -> Result<(), NoRoom> {
        if self.scheduled.len() < MAX_SCHEDULED {
            self.scheduled.push((at, verb));
            return Ok(());
        }
        let Verb::Midi(midi) = verb else { return Err(NoRoom::Scheduled) };
        let mut is_whole = true;
        for message in &midi.messages {
            let key = End::of(message).map(|end| (midi.runtime.clone(), end));
            match key.filter(|key| self.scheduled_ends.len() < MAX_ENDS || self.scheduled_ends.contains_key(key)) {
                Some(key) => {
                    let last = self.scheduled_ends.entry(key).or_insert(at);
                    *last = at.max(*last);
                }
                None => is_whole = false,
            }
        }
        if is_whole { Ok(()) } else { Err(NoRoom::Scheduled) }
    }

    /// Moves on what is due, in the order of the times. Returns what became of each of them.
    pub fn hand_over(&mut self, now: Instant) -> Vec<Result<(), NoRoom>> {
        let mut due: Vec<_> = self.scheduled.extract_if(.., |(at, verb)| handed_over(*at, verb) <= now).collect();
        let ends: Vec<_> = self.scheduled_ends.extract_if(.., |_, at| *at <= now).collect();
        due.extend(ends.into_iter().map(|((runtime, end), at)| {
            let messages = vec![end.message()];
            (at, Verb::Midi(Midi { runtime, messages, at_tick: None }))
        }));
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().map(|(at, verb)| self.put_timed(at, verb)).collect()
    }

    fn put_timed(&mut self, at: Instant, verb: Verb) -> Result<(), NoRoom> {
        let at = has_tick(&verb).then_some(at);
        self.put(verb, at)
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        let scheduled = self.scheduled.iter().map(|(at, verb)| handed_over(*at, verb));
        scheduled.chain(self.scheduled_ends.values().copied()).min()
    }

    /// What is to be asked next.
    pub fn next(&mut self) -> Option<(Verb, Option<Instant>)> {
        if let Some(next) = self.waiting.pop_front() {
            return Some(next);
        }
        let mut entry = self.ends.first_entry()?;
        let runtime = entry.key().clone();
        let ends = entry.get_mut();
        let messages = std::iter::from_fn(|| ends.pop_first()).take(MAX_RECEIVED).map(End::message).collect();
        if ends.is_empty() {
            entry.remove();
        }
        Some((Verb::Midi(Midi { runtime, messages, at_tick: None }), None))
    }

    /// Of messages for which there is no room: the ends of notes.
    fn keep_ends(&mut self, midi: Midi) -> Result<(), NoRoom> {
        let mut known: usize = self.ends.values().map(BTreeSet::len).sum();
        let mut is_whole = true;
        for message in &midi.messages {
            match End::of(message).filter(|_| known < MAX_ENDS) {
                Some(end) => known += usize::from(self.ends.entry(midi.runtime.clone()).or_default().insert(end)),
                None => is_whole = false,
            }
        }
        if is_whole { Ok(()) } else { Err(NoRoom::Waiting) }
    }

    /// What waits and is of no use any more once the newer one is there: the same items of the same runtime, or the same level.
    /// Nothing moves past a note.
    fn superseded(&mut self, newer: &Verb) -> Option<&mut Verb> {
        let runtime = runtime(newer)?.clone();
        let of_runtime = self.waiting.iter_mut().rev().filter(|(verb, _)| self::runtime(verb).is_none_or(|of| *of == runtime));
        let mut values = of_runtime.take_while(|(verb, at)| at.is_none() && !matches!(verb, Verb::Midi(_) | Verb::Panic(_)));
        values.find(|(older, _)| is_superseded(older, newer)).map(|(verb, _)| verb)
    }
}

/// Whose value it changes.
fn runtime(verb: &Verb) -> Option<&RuntimeName> {
    match verb {
        Verb::Set(set) => Some(&set.runtime),
        Verb::Gain(gain) => Some(&gain.runtime),
        Verb::Mute(mute) => Some(&mute.runtime),
        Verb::Solo(solo) => Some(&solo.runtime),
        Verb::Midi(midi) => Some(&midi.runtime),
        _ => None,
    }
}

fn is_superseded(older: &Verb, newer: &Verb) -> bool {
    let items = |set: &Set| set.values.iter().map(|value| value.item.clone()).collect::<Vec<_>>();
    match (older, newer) {
        (Verb::Set(older), Verb::Set(newer)) => (items(older), older.ramp_ms) == (items(newer), newer.ramp_ms),
        (Verb::Gain(_), Verb::Gain(_)) | (Verb::Mute(_), Verb::Mute(_)) | (Verb::Solo(_), Verb::Solo(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::protocol::{ItemName, Number, SetValue};

    fn song() -> RuntimeName {
        RuntimeName::new("song").unwrap()
    }

    fn set(item: &str, value: i64) -> Verb {
        let values = vec![SetValue { item: ItemName::new(item).unwrap(), value: Number::Int(value) }];
        Verb::Set(Set { runtime: song(), values, ramp_ms: None, at_tick: None })
    }

    fn note(note: u8, velocity: u8) -> Verb {
        let messages = vec![MidiMessage { port: None, bytes: vec![0x90, note, velocity] }];
        Verb::Midi(Midi { runtime: song(), messages, at_tick: None })
    }

    fn drain(backlog: &mut Backlog) -> Vec<Verb> {
        std::iter::from_fn(|| backlog.next()).map(|(verb, _)| verb).collect()
    }

    fn ends(verbs: &[Verb]) -> Vec<u8> {
        let messages = verbs.iter().filter_map(|verb| if let Verb::Midi(midi) = verb { Some(&midi.messages) } else { None });
        messages.flatten().filter_map(End::of).map(|end| end.note).collect()
    }

    #[test]
    fn a_fader_leaves_its_newest_value_and_no_note_is_passed() {
        let mut backlog = Backlog::default();
        for value in 0..5_000 {
            assert_eq!(backlog.put(set("m:a", value), None), Ok(()));
            assert_eq!(backlog.put(set("m:b", value), None), Ok(()));
        }
        assert_eq!(backlog.put(note(60, 1), None), Ok(()));
        assert_eq!(backlog.put(set("m:a", 7), None), Ok(()));
        let told = [set("m:a", 4_999), set("m:b", 4_999), note(60, 1), set("m:a", 7)];
        assert_eq!(drain(&mut backlog), told);
    }

    #[test]
    fn where_there_is_no_room_ends_of_notes_are_kept_behind_what_waits() {
        let mut backlog = Backlog::default();
        for _ in 0..MAX_WAITING {
            assert_eq!(backlog.put(note(60, 1), None), Ok(()));
        }
        assert_eq!(backlog.put(note(61, 1), None), Err(NoRoom::Waiting));
        for _ in 0..10_000 {
            assert_eq!((backlog.put(note(60, 0), None), backlog.put(note(61, 0), None)), (Ok(()), Ok(())));
        }
        backlog.next();
        assert_eq!(backlog.put(note(60, 1), None), Err(NoRoom::Waiting), "it would come before the end of another one");
        assert_eq!(backlog.put(Verb::Panic(crate::control::protocol::Panic {}), None), Ok(()));
        let rest = drain(&mut backlog);
        assert_eq!((rest.len(), ends(&rest)), (MAX_WAITING + 1, vec![60, 61]));
        assert_eq!(backlog.put(note(60, 1), None), Ok(()));
    }

    #[test]
    fn a_note_whose_time_tag_finds_no_room_ends_at_its_time() {
        let mut backlog = Backlog::default();
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        for ms in 0..MAX_SCHEDULED as u64 {
            assert_eq!(backlog.schedule(at(1_000 + ms), note(60, 1)), Ok(()));
        }
        assert_eq!(backlog.schedule(at(3_000), note(61, 1)), Err(NoRoom::Scheduled));
        assert_eq!(backlog.schedule(at(3_500), note(60, 0)), Ok(()));
        assert_eq!(backlog.schedule(at(3_400), note(60, 0)), Ok(()));
        assert!(backlog.hand_over(at(3_450)).iter().all(Result::is_ok));
        assert_eq!(drain(&mut backlog).len(), MAX_SCHEDULED);
        assert_eq!(backlog.next_due(), Some(at(3_500)));
        assert_eq!(backlog.hand_over(at(3_500)).len(), 1);
        assert_eq!(ends(&drain(&mut backlog)), [60]);
        assert_eq!(backlog.next_due(), None);
    }
}
