//! Lanes in, a loopback out.

use std::sync::{Arc, Mutex};

use ipc::midi::{self, CONTROLLER, MidiLaneWriter, NOTE_OFF, NOTE_ON, RouteState};
use ipc::segment::{Segment, Session};

use super::*;

type Heard = Arc<Mutex<Vec<Message>>>;

/// Keeps what it is sent.
struct Loopback(Heard);

impl MidiSink for Loopback {
    fn send(&mut self, event: &MidiEvent) {
        self.0.lock().unwrap().push(event.message);
    }

    fn begin_again(&mut self, event: &MidiEvent) {
        self.send(event);
    }

    fn look(&mut self, _now_ns: u64) {}

    fn close(&mut self) {}
}

struct Rig {
    _session: Session,
    segment: Segment,
    writer: MidiLaneWriter,
    desk: Desk,
    heard: Heard,
}

impl Rig {
    fn new() -> Self {
        let session = Session::open().unwrap();
        let segment = midi::create(session.id(), 1).unwrap();
        let writer = MidiLaneWriter::open(segment.reference()).unwrap();
        let heard = Heard::default();
        let mut rig = Self { _session: session, segment, writer, desk: Desk::new(Vec::new()), heard };
        rig.begin_desk();
        rig
    }

    /// A device host, or another one in its place.
    fn begin_desk(&mut self) {
        self.desk = Desk::new(vec![Box::new(Loopback(Arc::clone(&self.heard)))]);
        self.desk.add("arp".into(), MidiLaneReader::open(self.segment.reference()).unwrap(), 0);
    }

    fn tick(&mut self, messages: &[Message], states: &[Message]) {
        for message in messages {
            assert!(self.writer.push_rt(&MidiEvent { due_ns: 1_000, tick: 0, port: 1, message: *message }));
        }
        let states: Vec<_> = states.iter().map(|message| RouteState { key: 1, port: 1, message: Some(*message) }).collect();
        self.writer.complete_rt(&states, 0);
    }

    fn heard(&self) -> Vec<Message> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

const ON: Message = [NOTE_ON | 2, 60, 100];
const OFF: Message = [NOTE_OFF | 2, 60, 0];

#[test]
fn a_lane_that_goes_takes_its_notes_with_it() {
    let mut rig = Rig::new();
    rig.tick(&[ON, [NOTE_ON, 64, 1], [CONTROLLER, 1, 2]], &[]);
    rig.tick(&[[NOTE_OFF, 64, 0]], &[]);
    assert_eq!(rig.desk.look(2_000), ["arp"]);
    assert_eq!(rig.desk.look(2_000), [""; 0], "it begins once");
    assert_eq!(rig.heard().len(), 4);
    rig.desk.remove("arp", 3_000);
    assert_eq!(rig.heard(), [OFF]);
}

#[test]
fn what_was_delivered_and_not_yet_read_is_heard_before_its_end() {
    let mut rig = Rig::new();
    rig.tick(&[ON], &[ON]);
    rig.desk.close(2_000);
    assert_eq!(rig.heard(), [ON, OFF]);
}

#[test]
fn what_is_much_too_late_does_not_begin_and_what_sounds_still_ends() {
    let mut rig = Rig::new();
    rig.tick(&[ON], &[ON]);
    rig.desk.look(2_000);
    rig.tick(&[[NOTE_ON, 64, 1], OFF, [NOTE_OFF, 64, 0]], &[]);
    rig.desk.look(2_000 + TOO_LATE_NS);
    assert_eq!((rig.heard(), rig.desk.late()), (vec![ON, OFF], 1));
}

#[test]
fn of_a_controller_that_is_too_late_the_last_value_is_sent() {
    let (down, up, other) = ([CONTROLLER, 64, 127], [CONTROLLER, 64, 0], [CONTROLLER | 1, 64, 5]);
    let mut rig = Rig::new();
    rig.tick(&[down], &[]);
    rig.desk.look(2_000);
    assert_eq!(rig.heard(), [down]);
    rig.tick(&[up, down, other, up, ON], &[]);
    rig.desk.look(2_000 + TOO_LATE_NS);
    assert_eq!((rig.heard(), rig.desk.late()), (vec![up, other], 3), "a pedal does not stay down, and no rhythm comes too late");
    // What is on time comes after what is overdue.
    rig.tick(&[down], &[]);
    assert!(rig.writer.push_rt(&MidiEvent { due_ns: 3 * TOO_LATE_NS, tick: 0, port: 1, message: up }));
    rig.writer.complete_rt(&[], 0);
    rig.desk.look(3 * TOO_LATE_NS);
    assert_eq!(rig.heard(), [down, up]);
}

#[test]
fn what_sounds_begins_again_for_whoever_comes_to_listen_and_only_at_that_port() {
    let mut rig = Rig::new();
    rig.tick(&[ON, [NOTE_ON, 64, 1], [NOTE_OFF, 64, 0]], &[ON]);
    rig.desk.look(2_000);
    rig.heard();
    rig.desk.begin_again(2, 3_000);
    assert_eq!(rig.heard(), [[0; 3]; 0]);
    rig.desk.begin_again(1, 3_000);
    assert_eq!(rig.heard(), [ON]);
    rig.desk.mute("arp", true, 4_000);
    rig.heard();
    rig.desk.begin_again(1, 5_000);
    assert_eq!(rig.heard(), [[0; 3]; 0], "what is muted does not");
}

#[test]
fn a_device_host_that_goes_on_for_another_one_ends_what_that_one_began() {
    let mut rig = Rig::new();
    rig.tick(&[ON], &[ON]);
    rig.desk.look(2_000);
    rig.begin_desk();
    rig.tick(&[OFF], &[]);
    rig.desk.look(3_000);
    assert_eq!(rig.heard(), [ON, OFF]);
}

#[test]
fn a_flood_of_ends_that_end_nothing_goes_nowhere() {
    let mut rig = Rig::new();
    rig.tick(&[OFF; 1_000], &[]);
    rig.desk.remove("arp", 2_000);
    assert_eq!(rig.heard(), [[0; 3]; 0]);
}

#[test]
fn a_lane_that_is_muted_falls_silent_at_once_and_is_heard_again_with_the_notes_that_it_holds_then() {
    let mut rig = Rig::new();
    rig.tick(&[ON], &[ON]);
    rig.desk.look(2_000);
    rig.desk.mute("arp", true, 3_000);
    assert_eq!(rig.heard(), [ON, OFF]);
    let (next, end) = ([NOTE_ON, 64, 1], [NOTE_OFF, 64, 0]);
    rig.tick(&[OFF, next, [CONTROLLER, 1, 2]], &[next]);
    rig.desk.look(4_000);
    assert_eq!(rig.heard(), [[CONTROLLER, 1, 2]], "what is no note goes on");
    rig.desk.mute("arp", false, 5_000);
    assert_eq!(rig.heard(), [next]);
    rig.tick(&[end, ON], &[ON]);
    rig.desk.look(6_000);
    assert_eq!(rig.heard(), [end, ON]);
    rig.desk.mute("arp", true, 7_000);
    rig.heard();
    rig.desk.remove("arp", 8_000);
    assert_eq!(rig.heard(), [[0; 3]; 0], "what does not sound is not ended");
}
