//! What routes send, cycle by cycle, into a real lane.

use ipc::midi::{self, MidiLaneReader, NOTE_OFF};
use ipc::segment::{Segment, Session};

use super::*;
use crate::host::program::Route;

/// Items by their address.
#[derive(Clone, Default)]
struct Values([i32; 8]);

impl Items for Values {
    fn number_rt(&self, source: Source) -> i32 {
        self.0[source.place.byte_address as usize]
    }
}

const GATE: usize = 0;
const NOTE: usize = 1;
const VELOCITY: usize = 2;
const CHANNEL: usize = 3;
const PORT: usize = 4;
const SELECTED: usize = 5;
const VALUE: usize = 6;

fn at(index: usize) -> Source {
    Source { place: Route { memory: 0, byte_address: index as u32 }, element: ElementType::Int32 }
}

fn note_route() -> OutputRoute {
    let sends = Sends::Note { gate: at(GATE), note: at(NOTE), velocity: Some(at(VELOCITY)), port: Some(at(PORT)) };
    OutputRoute { key: 1, sends, channel: Some(at(CHANNEL)) }
}

fn controller_route() -> OutputRoute {
    OutputRoute { key: 2, sends: Sends::Controller { selected: at(SELECTED), value: at(VALUE) }, channel: None }
}

struct Rig {
    _session: Session,
    segment: Segment,
    writer: MidiLaneWriter,
    reader: MidiLaneReader,
    notes: Notes,
    routes: Vec<OutputRoute>,
    values: Values,
}

impl Rig {
    fn new(routes: Vec<OutputRoute>) -> Self {
        let session = Session::open().unwrap();
        let segment = midi::create(session.id(), 1).unwrap();
        let writer = MidiLaneWriter::open(segment.reference()).unwrap();
        let reader = MidiLaneReader::open(segment.reference()).unwrap();
        let mut values = Values::default();
        (values.0[NOTE], values.0[VELOCITY]) = (60, 100);
        Self { _session: session, segment, writer, reader, notes: Notes::new(&[]), routes, values }
    }

    /// One cycle after items were set; what was sent in it.
    fn cycle(&mut self, changes: &[(usize, i32)]) -> Vec<(u8, Message)> {
        for (index, value) in changes {
            self.values.0[*index] = *value;
        }
        let values = self.values.clone();
        self.send(Some(&values))
    }

    /// One cycle in which the program does not run.
    fn pause(&mut self) -> Vec<(u8, Message)> {
        self.send(None)
    }

    fn send(&mut self, values: Option<&Values>) -> Vec<(u8, Message)> {
        let routes = self.routes.clone();
        let routes = if values.is_some() { &routes[..] } else { &[] };
        self.notes.send_routes_rt(values, routes, 7, &mut self.writer);
        self.writer.complete_rt(self.notes.states_rt(), 8);
        std::iter::from_fn(|| self.reader.next_event()).map(|event| (event.port, event.message)).collect()
    }
}

#[test]
fn a_gate_begins_a_note_and_ends_the_note_that_it_began() {
    let mut rig = Rig::new(vec![note_route()]);
    assert_eq!(rig.cycle(&[]), []);
    assert_eq!(rig.cycle(&[(GATE, -3)]), [(1, [NOTE_ON, 60, 100])]);
    assert_eq!(rig.cycle(&[(NOTE, 72), (GATE, 5)]), [], "while the gate keeps its state nothing is sent");
    assert_eq!(rig.cycle(&[(GATE, 0), (CHANNEL, 9), (PORT, 3)]), [(1, [NOTE_OFF, 60, 0])]);
    assert_eq!(rig.cycle(&[]), []);
}

#[test]
fn channels_and_ports_count_from_one_and_zero_means_one() {
    let mut rig = Rig::new(vec![note_route()]);
    assert_eq!(rig.cycle(&[(GATE, 1), (CHANNEL, 16), (PORT, 2)]), [(2, [NOTE_ON | 15, 60, 100])]);
    rig.cycle(&[(GATE, 0)]);
    assert_eq!(rig.cycle(&[(GATE, 1), (CHANNEL, 0), (PORT, 0)]), [(1, [NOTE_ON, 60, 100])]);
}

#[test]
fn without_items_for_them_velocity_is_full_and_channel_and_port_are_the_first() {
    let sends = Sends::Note { gate: at(GATE), note: at(NOTE), velocity: None, port: None };
    let mut rig = Rig::new(vec![OutputRoute { key: 1, sends, channel: None }]);
    assert_eq!(rig.cycle(&[(GATE, 1)]), [(1, [NOTE_ON, 60, 127])]);
}

#[test]
fn a_route_out_of_range_is_passed_over_until_it_is_in_range() {
    let mut rig = Rig::new(vec![note_route()]);
    for change in [(NOTE, 128), (NOTE, -1), (VELOCITY, 128), (CHANNEL, 17)] {
        let before = rig.values.0[change.0];
        assert_eq!(rig.cycle(&[(GATE, 1), change]), [], "{change:?}");
        rig.values.0[change.0] = before;
    }
    assert_eq!(rig.cycle(&[]), [(1, [NOTE_ON, 60, 100])]);
    assert_eq!(rig.cycle(&[(GATE, 0), (NOTE, 999)]), [(1, [NOTE_OFF, 60, 0])], "a note that sounds ends all the same");
}

#[test]
fn a_note_without_velocity_is_sent_once() {
    let mut rig = Rig::new(vec![note_route()]);
    assert_eq!(rig.cycle(&[(GATE, 1), (VELOCITY, 0)]), [(1, [NOTE_ON, 60, 0])]);
    assert_eq!(rig.cycle(&[]), []);
    assert_eq!(rig.cycle(&[(GATE, 0)]), [(1, [NOTE_OFF, 60, 0])]);
}

#[test]
fn a_controller_is_sent_when_its_value_changes() {
    let mut rig = Rig::new(vec![controller_route()]);
    assert_eq!(rig.cycle(&[(SELECTED, 74), (VALUE, 5)]), [(1, [CONTROLLER, 74, 5])]);
    assert_eq!(rig.cycle(&[(SELECTED, 75)]), []);
    assert_eq!(rig.cycle(&[(VALUE, 300)]), []);
    assert_eq!(rig.cycle(&[(VALUE, 6)]), [(1, [CONTROLLER, 75, 6])]);
    assert_eq!((rig.pause(), rig.cycle(&[])), (vec![], vec![]), "a pause changes no value");
}

#[test]
fn notes_end_when_the_program_pauses_and_when_their_route_is_gone() {
    let mut rig = Rig::new(vec![note_route(), controller_route()]);
    rig.cycle(&[(GATE, 1)]);
    assert_eq!(rig.pause(), [(1, [NOTE_OFF, 60, 0])]);
    assert_eq!(rig.cycle(&[]), [(1, [NOTE_ON, 60, 100])], "its gate is still open");
    rig.routes.remove(0);
    assert_eq!(rig.cycle(&[]), [(1, [NOTE_OFF, 60, 0])]);
    assert_eq!(rig.notes.states_rt().len(), 1);
}

#[test]
fn another_host_ends_what_this_one_began() {
    let mut rig = Rig::new(vec![note_route()]);
    rig.cycle(&[(GATE, 1)]);
    // It dies while it sends the end.
    rig.values.0[GATE] = 0;
    rig.notes.send_routes_rt(Some(&rig.values), &rig.routes, 7, &mut rig.writer);
    rig.writer = MidiLaneWriter::open(rig.segment.reference()).unwrap();
    rig.notes = Notes::new(&rig.writer.states());
    assert_eq!(rig.cycle(&[]), [(1, [NOTE_OFF, 60, 0])]);
}

#[test]
fn while_the_lane_is_full_no_note_begins_and_every_end_is_sent_as_soon_as_there_is_room() {
    let mut rig = Rig::new(vec![note_route()]);
    rig.cycle(&[(GATE, 1)]);
    let filler = MidiEvent { due_ns: 0, tick: 0, port: 1, message: [NOTE_OFF, 0, 0] };
    while rig.writer.push_rt(&filler) {}
    rig.values.0[GATE] = 0;
    rig.notes.send_routes_rt(Some(&rig.values), &rig.routes, 7, &mut rig.writer);
    rig.writer.complete_rt(rig.notes.states_rt(), 8);
    let sent = std::iter::from_fn(|| rig.reader.next_event()).filter(|event| event.message[1] == 60).count();
    assert_eq!(sent, 0);
    assert_eq!(rig.cycle(&[]), [(1, [NOTE_OFF, 60, 0])]);
}

#[test]
fn numbers_of_every_type_are_read_as_integers() {
    assert_eq!(to_integer_rt(ElementType::Float32, &60.5f32.to_le_bytes()), 60.5f32.to_bits() as i32);
    assert_eq!(to_integer_rt(ElementType::Float64, &0.0f64.to_le_bytes()), 0);
    assert_eq!(to_integer_rt(ElementType::Int16, &(-2i16).to_le_bytes()), -2);
    assert_eq!(to_integer_rt(ElementType::Int8u, &[200]), 200);
    assert_eq!(to_integer_rt(ElementType::Int32, &[]), 0);
}
