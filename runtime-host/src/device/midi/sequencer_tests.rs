//! A sequencer in memory: what is sent through it, when, and how notes end.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use ipc::midi::{CONTROLLER, MidiLaneReader, MidiLaneWriter, NOTE_ON, TIMING_CLOCK};
use ipc::segment::Session;

use super::*;
use crate::device::midi::desk::Desk;

const MS: u64 = 1_000_000;

/// What a listener hears, and whether it has room.
#[derive(Default)]
struct Listener {
    heard: Vec<(u8, Vec<u8>)>,
    is_full: bool,
    /// How many have the ports open now.
    opened: usize,
    /// How often they were opened.
    openings: usize,
    is_missing: bool,
}

type Shared = Arc<Mutex<Listener>>;

struct Memory(Shared);

impl Outputs for Memory {
    fn names(&self) -> Vec<String> {
        (1..=PORTS).map(|port| format!("memory:out_{port}")).collect()
    }

    fn send(&mut self, port: u8, bytes: &[u8]) -> bool {
        let mut listener = self.0.lock().unwrap();
        if !listener.is_full {
            listener.heard.push((port, bytes.to_vec()));
        }
        !listener.is_full
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.lock().unwrap().opened -= 1;
    }
}

fn opening(listener: &Shared) -> Open {
    let listener = Arc::clone(listener);
    Box::new(move || {
        let mut state = listener.lock().unwrap();
        state.openings += 1;
        if state.is_missing {
            return Err(Unavailable::Refused { what: "a port", why: "it is a test".to_owned() });
        }
        state.opened += 1;
        Ok(Box::new(Memory(Arc::clone(&listener))))
    })
}

struct Rig {
    listener: Shared,
    outgoing: Outgoing,
    playing: Playing,
    presence: Presence,
    senders: SenderPorts,
}

impl Rig {
    fn new() -> Self {
        let (listener, senders, presence) = (Shared::default(), SenderPorts::default(), Presence::absent());
        let (outgoing, due) = outgoing::queue();
        let playing = Playing::new(opening(&listener), senders.clone(), presence.clone(), due, Arc::default());
        Self { listener, outgoing, playing, presence, senders }
    }

    fn put(&mut self, due_ns: u64, port: u8, message: Message) {
        self.outgoing.put(&MidiEvent { due_ns, tick: 0, port, message });
    }

    /// What is heard by a step at this time.
    fn heard_at(&mut self, now_ns: u64) -> Vec<(u8, Vec<u8>)> {
        self.playing.step(now_ns);
        std::mem::take(&mut self.listener.lock().unwrap().heard)
    }

    fn refused(&self) -> u64 {
        self.playing.refused.load(Relaxed)
    }
}

const ON: Message = [NOTE_ON | 2, 60, 100];
const OFF: Message = [NOTE_OFF | 2, 60, 0];

fn at(port: u8, message: Message) -> (u8, Vec<u8>) {
    (port, wire_bytes_rt(&message).to_vec())
}

#[test]
fn events_are_sent_when_they_are_due_in_order_and_what_is_late_at_once() {
    let mut rig = Rig::new();
    let clock = [TIMING_CLOCK, 0, 0];
    rig.put(30 * MS, 1, ON);
    rig.put(20 * MS, 2, [CONTROLLER, 7, 1]);
    rig.put(20 * MS, 2, [CONTROLLER, 7, 2]);
    rig.put(25 * MS, 3, clock);
    let first_ns = 20 * MS + LATENCY_NS;
    assert_eq!(rig.playing.step(first_ns - MS), first_ns, "it sleeps until the first one is due");
    assert_eq!(rig.heard_at(first_ns - 1), [], "not before its time");
    assert_eq!(rig.heard_at(first_ns), [at(2, [CONTROLLER, 7, 1]), at(2, [CONTROLLER, 7, 2])]);
    rig.put(10 * MS, 4, ON);
    assert_eq!(rig.heard_at(100 * MS), [at(4, ON), at(3, clock), at(1, ON)], "what is late goes in order");
    assert!(rig.outgoing.is_idle() && rig.playing.is_idle());
    assert_eq!(rig.playing.step(100 * MS), 100 * MS + WAIT_INTERVAL_NS, "there is nothing to wait for");
}

#[test]
fn what_sounds_is_ended_when_a_jack_server_appears_and_the_sequencer_is_taken_again_when_it_goes() {
    let mut rig = Rig::new();
    rig.put(0, 1, ON);
    rig.put(0, 2, [NOTE_ON, 64, 1]);
    rig.put(0, 2, [NOTE_OFF, 64, 0]);
    assert_eq!(rig.heard_at(LATENCY_NS).len(), 3);
    rig.presence.tell(true);
    assert_eq!(rig.heard_at(LATENCY_NS + 1), [at(1, OFF)], "the only note that sounds");
    assert_eq!(rig.listener.lock().unwrap().opened, 0);
    rig.put(LATENCY_NS, 1, ON);
    assert_eq!(rig.heard_at(3 * LATENCY_NS), [], "it is for JACK now");
    rig.presence.tell(false);
    rig.put(SEARCH_INTERVAL_NS, 1, ON);
    assert_eq!(rig.heard_at(SEARCH_INTERVAL_NS + LATENCY_NS), [at(1, ON)]);
    assert_eq!(rig.listener.lock().unwrap().openings, 2);
}

#[test]
fn the_end_of_a_note_is_sent_until_there_is_room_and_everything_else_is_counted() {
    let mut rig = Rig::new();
    rig.put(0, 1, ON);
    rig.heard_at(LATENCY_NS);
    rig.listener.lock().unwrap().is_full = true;
    rig.put(1, 1, OFF);
    rig.put(1, 1, [NOTE_ON, 1, 1]);
    rig.put(1, 1, [CONTROLLER, 1, 1]);
    let now_ns = LATENCY_NS + MS;
    assert_eq!(rig.playing.step(now_ns), now_ns + RETRY_INTERVAL_NS);
    assert_eq!(rig.refused(), 2);
    assert!(!rig.playing.is_idle());
    assert_eq!(rig.heard_at(now_ns + RETRY_INTERVAL_NS), [], "there is no room still");
    rig.listener.lock().unwrap().is_full = false;
    assert_eq!(rig.heard_at(now_ns + 2 * RETRY_INTERVAL_NS), [at(1, OFF)]);
    assert_eq!(rig.heard_at(now_ns + 3 * RETRY_INTERVAL_NS), [], "once");
    assert!(rig.playing.is_idle());
}

#[test]
fn a_note_that_begins_again_is_not_ended_by_the_end_that_its_beginning_overtook() {
    let mut rig = Rig::new();
    rig.put(0, 1, ON);
    rig.heard_at(LATENCY_NS);
    rig.listener.lock().unwrap().is_full = true;
    rig.put(1, 1, OFF);
    assert_eq!(rig.heard_at(LATENCY_NS + MS), []);
    rig.listener.lock().unwrap().is_full = false;
    rig.put(2, 1, ON);
    assert_eq!(rig.heard_at(LATENCY_NS + MS), [at(1, ON)]);
    assert_eq!(rig.heard_at(LATENCY_NS + 50 * MS), [], "it sounds");
}

#[test]
fn without_a_sequencer_events_are_left_out_and_it_is_looked_for_twice_a_second() {
    let mut rig = Rig::new();
    rig.listener.lock().unwrap().is_missing = true;
    for step in 0..100 {
        rig.put(step * 10 * MS, 1, ON);
        assert_eq!(rig.heard_at(step * 10 * MS + LATENCY_NS), []);
        assert!(rig.outgoing.is_idle());
    }
    assert_eq!(rig.listener.lock().unwrap().openings, 2);
    rig.listener.lock().unwrap().is_missing = false;
    rig.put(2_000 * MS, 1, ON);
    assert_eq!(rig.heard_at(3_000 * MS), [at(1, ON)], "it has come");
    assert!(format!("{:?}", rig.senders).contains("memory:out_4"), "whoever connects ports knows their names");
}

#[test]
fn a_flood_of_any_events_is_bounded_and_leaves_no_note_hanging() {
    let mut rig = Rig::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut sounding = BTreeSet::new();
    let mut take_in = |heard: Vec<(u8, Vec<u8>)>| {
        for (port, bytes) in heard {
            let note = (port, bytes[0] & 0x0f, *bytes.get(1).unwrap_or(&0));
            match (bytes[0] & 0xf0, bytes.get(2)) {
                (NOTE_ON, Some(1..)) => drop(sounding.insert(note)),
                (NOTE_ON | NOTE_OFF, _) => drop(sounding.remove(&note)),
                _ => {}
            }
        }
        sounding.len()
    };
    for step in 0..2_000u64 {
        for _ in 0..50 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let [kind, first, second, port, ..] = seed.to_le_bytes();
            rig.put(step * MS, port % 6, [0x80 | kind, first & 0x7f, second & 0x7f]);
        }
        rig.listener.lock().unwrap().is_full = seed.is_multiple_of(3);
        let heard = rig.heard_at(step * MS + LATENCY_NS);
        take_in(heard);
        assert!(rig.playing.due.pending.len() <= outgoing::QUEUE_EVENTS);
    }
    rig.listener.lock().unwrap().is_full = false;
    rig.presence.tell(true);
    let heard = rig.heard_at(u64::MAX / 2);
    assert_eq!(take_in(heard), 0, "notes hang");
}

/// Outputs that tell what they are sent, and when.
struct Telling(Sender<(u64, Vec<u8>)>);

impl Outputs for Telling {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn send(&mut self, _port: u8, bytes: &[u8]) -> bool {
        let _ = self.0.send((monotonic_ns_rt(), bytes.to_vec()));
        true
    }
}

/// What a program sends and holds goes through the list of sounding notes and a thread that sleeps.
#[test]
fn a_lane_is_played_through_the_thread_on_time_and_its_notes_end_with_it() {
    let (tell, told) = channel();
    let open: Open = Box::new(move || Ok(Box::new(Telling(tell.clone()))));
    let out = SequencerOut::start(open, SenderPorts::default(), Presence::absent()).unwrap();
    let session = Session::open().unwrap();
    let segment = ipc::midi::create(session.id(), 1).unwrap();
    let mut writer = MidiLaneWriter::open(segment.reference()).unwrap();
    let mut desk = Desk::new(vec![Box::new(out)]);
    desk.add("arp".into(), MidiLaneReader::open(segment.reference()).unwrap(), monotonic_ns_rt());
    let mut due = Vec::new();
    for note in 0..50u8 {
        let due_ns = monotonic_ns_rt();
        due.push(due_ns);
        assert!(writer.push_rt(&MidiEvent { due_ns, tick: u64::from(note), port: 1, message: [NOTE_ON, note, 9] }));
        writer.complete_rt(&[], 0);
        desk.look(monotonic_ns_rt());
    }
    let patience = Duration::from_secs(60);
    for (note, due_ns) in (0..50u8).zip(due) {
        let (at_ns, bytes) = told.recv_timeout(patience).unwrap();
        assert_eq!(bytes, [NOTE_ON, note, 9]);
        assert!(at_ns >= due_ns + LATENCY_NS, "a note is {} ns early", due_ns + LATENCY_NS - at_ns);
    }
    desk.close(monotonic_ns_rt());
    let ends: Vec<Vec<u8>> = told.try_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(ends, (0..50u8).map(|note| vec![NOTE_OFF, note, 0]).collect::<Vec<_>>(), "it is over when everything has been sent");
}
