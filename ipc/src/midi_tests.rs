//! MIDI lanes over real segments.

use super::*;
use crate::segment::Session;

fn lane() -> (Session, Segment, MidiLaneWriter, MidiLaneReader) {
    let session = Session::open().unwrap();
    let segment = create(session.id(), 1).unwrap();
    let writer = MidiLaneWriter::open(segment.reference()).unwrap();
    let reader = MidiLaneReader::open(segment.reference()).unwrap();
    (session, segment, writer, reader)
}

fn event(tick: u64, note: u8, velocity: u8) -> MidiEvent {
    MidiEvent { due_ns: tick * 20, tick, port: 1, message: [NOTE_ON, note, velocity] }
}

fn state(note: u8) -> RouteState {
    RouteState { key: u64::from(note), port: 1, message: Some([NOTE_ON, note, 100]) }
}

fn events(reader: &mut MidiLaneReader) -> Vec<MidiEvent> {
    std::iter::from_fn(|| reader.next_event()).collect()
}

#[test]
fn the_events_of_a_tick_are_delivered_when_it_is_complete() {
    let (_session, _segment, mut writer, mut reader) = lane();
    assert!(writer.push_rt(&event(0, 60, 100)) && writer.push_rt(&event(0, 64, 100)));
    assert_eq!(events(&mut reader), []);
    writer.complete_rt(&[], 20);
    assert_eq!(events(&mut reader), [event(0, 60, 100), event(0, 64, 100)]);
    assert_eq!((events(&mut reader), reader.ticks()), (vec![], 1));
}

#[test]
fn a_tick_that_a_dying_writer_did_not_complete_is_written_over_by_the_next_one() {
    let (_session, segment, mut writer, mut reader) = lane();
    assert!(writer.push_rt(&event(0, 60, 100)));
    writer.complete_rt(&[state(60)], 20);
    assert!(writer.push_rt(&event(1, 61, 100)));
    drop(writer);
    let mut writer = MidiLaneWriter::open(segment.reference()).unwrap();
    assert_eq!((writer.next_tick(), writer.states()), (1, vec![state(60)]));
    assert!(writer.push_rt(&event(1, 62, 100)));
    writer.complete_rt(&[state(62)], 40);
    assert_eq!(events(&mut reader), [event(0, 60, 100), event(1, 62, 100)]);
    assert_eq!(reader.sounding(), [state(62)]);
}

#[test]
fn a_second_reader_goes_on_after_what_the_first_one_took() {
    let (_session, segment, mut writer, mut reader) = lane();
    assert!(writer.push_rt(&event(0, 60, 100)) && writer.push_rt(&event(0, 64, 100)));
    writer.complete_rt(&[], 20);
    assert_eq!(reader.next_event(), Some(event(0, 60, 100)));
    drop(reader);
    assert_eq!(events(&mut MidiLaneReader::open(segment.reference()).unwrap()), [event(0, 64, 100)]);
}

#[test]
fn where_room_is_short_notes_end_and_none_begin() {
    let (_session, _segment, mut writer, mut reader) = lane();
    let begun = (0..).take_while(|_| writer.push_rt(&event(0, 60, 100))).count();
    assert_eq!(begun, MIDI_LANE_EVENTS - MIDI_LANE_EVENTS / 4);
    let ended = (0..).take_while(|_| writer.push_rt(&event(0, 60, 0))).count();
    assert_eq!(begun + ended, MIDI_LANE_EVENTS);
    writer.complete_rt(&[], 20);
    assert_eq!(events(&mut reader).len(), MIDI_LANE_EVENTS);
    assert!(writer.push_rt(&event(1, 60, 100)), "there is room again");
}

#[test]
fn what_no_writer_writes_is_not_believed() {
    let (_session, segment, mut writer, mut reader) = lane();
    for message in [[0x12, 60, 100], [NOTE_ON, 200, 1], [0xf8, 0, 0]] {
        assert!(writer.push_rt(&MidiEvent { message, ..event(0, 0, 0) }));
    }
    assert!(writer.push_rt(&event(0, 60, 100)));
    writer.complete_rt(&[RouteState { key: 1, port: 1, message: Some([0, 0, 0]) }], 20);
    assert_eq!(events(&mut reader), [event(0, 60, 100)]);
    assert_eq!(reader.sounding(), []);
    segment.word_u64(NEXT_TICK).store(u64::MAX, Release);
    for head in [head(0), head(1)] {
        segment.word_u64(head).store(u64::MAX, Relaxed);
        segment.word_u64(head + WORD).store(u64::MAX, Relaxed);
    }
    assert_eq!(events(&mut reader), []);
    assert!(reader.sounding().len() <= MAX_MIDI_ROUTES);
}

#[test]
fn a_lane_is_behind_once_its_next_tick_is_due() {
    let (_session, segment, mut writer, _reader) = lane();
    assert_eq!(progress(&segment, u64::MAX), (0, 0), "before its first tick");
    writer.complete_rt(&[], 1_000);
    assert_eq!(progress(&segment, 999), (1, 1));
    assert_eq!(progress(&segment, 1_000), (1, 2));
}
