//! A sequencer in memory: whose ports come and go, and what is heard of its stamps.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use ipc::midi::{PortChange, Ports, Received, is_note_off};

use super::*;
use crate::device::midi::input::wiring::{Connection, Offered, SenderPorts};

const MS: u64 = 1_000_000;

/// What the test's sequencer is.
#[derive(Default)]
struct State {
    is_missing: bool,
    offered: Offered,
    connections: Vec<Connection>,
    /// What plays into our ports, while they are open.
    intakes: Vec<Intake>,
}

type Shared = Arc<Mutex<State>>;

struct Memory(Shared);

impl Patching for Memory {
    fn offered(&mut self) -> Offered {
        let mut offered = self.0.lock().unwrap().offered.clone();
        offered.destinations.extend((1..=4).map(|port| format!("own:in_{port}")));
        offered
    }

    fn input(&self, port: u8) -> Option<String> {
        Some(format!("own:in_{port}"))
    }

    fn connect(&mut self, connection: &Connection) -> bool {
        self.0.lock().unwrap().connections.push(connection.clone());
        true
    }

    fn is_connected(&self, connection: &Connection) -> bool {
        self.0.lock().unwrap().connections.contains(connection)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap();
        state.intakes.clear();
        state.connections.clear();
    }
}

struct Rig {
    state: Shared,
    presence: Presence,
    seeking: Seeking,
    hearing: SequencerIn,
    told: Receiver<PortChange>,
    missing: Receiver<String>,
    counters: Arc<InputCounters>,
}

impl Rig {
    fn new(ports: Ports) -> Self {
        let (state, presence, counters) = (Shared::default(), Presence::absent(), Arc::<InputCounters>::default());
        let opened = Arc::clone(&state);
        let open: Open = Box::new(move |intakes| {
            let mut state = opened.lock().unwrap();
            if state.is_missing {
                return Err(Unavailable::Refused { what: "a port", why: "it is a test".to_owned() });
            }
            state.intakes = intakes;
            Ok(Box::new(Memory(Arc::clone(&opened))))
        });
        let ((change_in, told), (missing_in, missing), (found_in, found), (end, _)) = (channel(), channel(), channel(), channel());
        let wiring = Wiring::new(ports, SenderPorts::default(), Box::new(move |change| drop(change_in.send(change))));
        let on_missing: OnMissing = Box::new(move |why| drop(missing_in.send(why.to_string())));
        let seeking = Seeking::new(open, wiring, presence.clone(), Arc::clone(&counters), found_in, on_missing);
        let hearing = SequencerIn { found, ports: Vec::new(), _end: end };
        Self { state, presence, seeking, hearing, told, missing, counters }
    }

    fn plug(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.offered.sources.push(name.to_owned());
        state.offered.instruments.push(name.to_owned());
    }

    fn unplug(&self) {
        let mut state = self.state.lock().unwrap();
        state.offered = Offered::default();
        state.connections.clear();
    }

    fn play(&self, port: usize, stamp_us: u64, bytes: &[u8], now_ns: u64) {
        self.state.lock().unwrap().intakes[port - 1].hear_rt(stamp_us, bytes, now_ns);
    }

    fn heard(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.hearing.hear()).collect()
    }

    fn changes(&self) -> Vec<(String, bool)> {
        self.told.try_iter().map(|change| (change.name, change.is_there)).collect()
    }
}

#[test]
fn an_instrument_is_heard_at_the_time_of_its_stamps_and_at_a_constant_distance() {
    let mut rig = Rig::new(Ports::default());
    rig.plug("Keys:MIDI 1 24:0");
    rig.seeking.step(0);
    assert_eq!(rig.changes(), [("Keys:MIDI 1 24:0".to_owned(), true)]);
    // The queue began at 5 s; every third message is seen at once, the others up to 2 ms late.
    for number in 0..300u64 {
        let late_ns = number % 3 * MS;
        rig.play(1, number * 7_000, &[0x90, 60, 1], 5_000 * MS + number * 7 * MS + late_ns);
    }
    let times: Vec<u64> = rig.heard().iter().map(|heard| heard.at_ns).collect();
    assert_eq!(times, (0..300).map(|number| 5_000 * MS + number * 7 * MS).collect::<Vec<_>>());
}

#[test]
fn ports_are_heard_in_the_order_in_which_they_were_played_on() {
    let mut rig = Rig::new(Ports::default());
    rig.seeking.step(0);
    // Each port has a queue of its own, which began at another time.
    let began_ns = [1_000 * MS, 900 * MS, 990 * MS];
    for (port, at_ms) in [(1, 2_000), (3, 2_001), (2, 2_002), (3, 2_003), (1, 2_004)] {
        let now_ns = at_ms * MS;
        rig.play(port, (now_ns - began_ns[port - 1]) / 1_000, &[0x90, 60, 1], now_ns);
    }
    let ports: Vec<u8> = rig.heard().iter().map(|heard| heard.received.port).collect();
    assert_eq!(ports, [1, 3, 2, 3, 1]);
}

#[test]
fn an_instrument_that_goes_and_comes_back_is_told_and_connected_again() {
    let mut rig = Rig::new(Ports { inputs: vec!["keys".to_owned()], ..Ports::default() });
    rig.plug("Keys:MIDI 1 24:0");
    rig.seeking.step(0);
    rig.unplug();
    rig.seeking.step(1);
    rig.plug("Keys:MIDI 1 28:0");
    rig.seeking.step(2);
    // Gone and back between two looks.
    rig.unplug();
    rig.plug("Keys:MIDI 1 28:0");
    rig.seeking.step(3);
    let expected = [("24", true), ("24", false), ("28", true), ("28", false), ("28", true)];
    assert_eq!(rig.changes(), expected.map(|(number, is_there)| (format!("Keys:MIDI 1 {number}:0"), is_there)));
}

#[test]
fn where_a_jack_server_appears_it_lets_go_and_takes_it_again_when_that_goes() {
    let mut rig = Rig::new(Ports::default());
    rig.plug("Keys");
    rig.presence.tell(true);
    rig.seeking.step(0);
    assert!(rig.seeking.opened.is_none());
    rig.presence.tell(false);
    rig.seeking.step(1);
    rig.play(1, 10, &[0xf8], 1_000);
    assert_eq!(rig.heard().len(), 1);
    rig.presence.tell(true);
    rig.seeking.step(2);
    assert_eq!(rig.changes(), [("Keys".to_owned(), true), ("Keys".to_owned(), false)]);
    assert!(rig.state.lock().unwrap().intakes.is_empty(), "nobody listens there any more");
    rig.presence.tell(false);
    rig.seeking.step(3);
    rig.play(1, 20, &[0xfa], 2_000);
    assert_eq!(rig.heard().iter().map(|heard| heard.received.message[0]).collect::<Vec<_>>(), [0xfa]);
    drop(rig.seeking);
    assert_eq!(rig.told.try_iter().map(|change| change.is_there).collect::<Vec<_>>(), [true, false], "at the end, too");
}

#[test]
fn that_there_is_no_sequencer_is_told_once_and_it_is_used_when_it_comes() {
    let mut rig = Rig::new(Ports::default());
    rig.state.lock().unwrap().is_missing = true;
    for step in 0..10 {
        assert_eq!(rig.seeking.step(step), LOOK_INTERVAL);
    }
    assert_eq!(rig.missing.try_iter().count(), 1);
    rig.state.lock().unwrap().is_missing = false;
    rig.plug("Keys");
    rig.seeking.step(10);
    assert_eq!(rig.changes(), [("Keys".to_owned(), true)]);
    rig.state.lock().unwrap().is_missing = true;
    rig.presence.tell(true);
    rig.seeking.step(11);
    rig.presence.tell(false);
    rig.seeking.step(12);
    assert_eq!(rig.missing.try_iter().count(), 0, "it was said before");
}

#[test]
fn several_messages_in_one_are_heard_one_by_one() {
    let mut rig = Rig::new(Ports::default());
    rig.seeking.step(0);
    rig.play(2, 0, &[0xb0, 99, 1, 0xb0, 98, 2, 0xc1, 3], MS);
    let messages: Vec<_> = rig.heard().iter().map(|heard| heard.received).collect();
    assert_eq!(messages, [[0xb0, 99, 1], [0xb0, 98, 2], [0xc1, 3, 0]].map(|message| Received { port: 2, message }));
}

#[test]
fn a_hundred_thousand_random_messages_are_taken_in_or_counted_and_every_end_is_heard() {
    let mut rig = Rig::new(Ports::default());
    rig.seeking.step(0);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let (mut heard, mut pieces) = (0u64, 0u64);
    for number in 0..100_000u64 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let bytes = seed.to_le_bytes();
        let bytes = &bytes[..1 + (seed >> 61) as usize % 7];
        pieces +=
            bytes.chunk_by(|_, next| *next < 0x80).filter(|piece| piece[0] != 0xfe || piece[1..].iter().any(|byte| *byte >= 0x80)).count()
                as u64;
        // Stamps that make no sense, too.
        rig.play(1 + number as usize % 4, if number.is_multiple_of(97) { seed } else { number * 10 }, bytes, number * 10_000);
        if number.is_multiple_of(50_000) {
            heard += rig.heard().len() as u64;
        }
    }
    for note in 0..128 {
        rig.play(1, 1_000_000, &[0x80, note, 0], 1_000 * MS);
    }
    let rest = rig.heard();
    let ends = rest.iter().rev().filter(|heard| is_note_off(heard.received.message) && heard.received.port == 1);
    assert!(ends.map(|heard| heard.received.message[1]).collect::<BTreeSet<_>>().len() == 128);
    let (dropped, malformed) = (rig.counters.dropped.load(Relaxed), rig.counters.malformed.load(Relaxed));
    assert!(dropped > 1_000 && malformed > 1_000, "{dropped} {malformed}");
    heard += rest.len() as u64;
    // Ends that found no room are heard once for each note, however often they came.
    assert!(heard + dropped + malformed <= pieces + 128, "{heard} {dropped} {malformed} {pieces}");
}
