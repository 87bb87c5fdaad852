//! The MIDI lane: every event of a completed tick is read once, in order, and no event of another.

use ipc::limits::MAX_MIDI_ROUTES;
use ipc::midi::{MidiEvent, MidiLaneReader, MidiLaneWriter, NOTE_ON};
use loom::sync::Arc;
use loom::thread;

use crate::memory::{Memory, Process};

const EVENTS: usize = 2;

type Writer = MidiLaneWriter<Process, EVENTS>;
type Reader = MidiLaneReader<Process, EVENTS>;

/// The words of a lane of two events, without states. An offset that is missing here panics when it is used.
fn memory() -> Arc<Memory> {
    let head_bytes = (2 + 2 * MAX_MIDI_ROUTES) * 8;
    let heads = [0, 8].into_iter().flat_map(|at| [128 + at, 128 + head_bytes + at]);
    let events = (0..3 * EVENTS).map(|word| 128 + 2 * head_bytes + word * 8);
    let offsets: Vec<usize> = [0, 64, 72, 80].into_iter().chain(heads).chain(events).collect();
    Memory::new(&offsets, &[])
}

/// The event of a tick: no two of the lane are the same.
fn event(tick: u64) -> MidiEvent {
    MidiEvent { due_ns: tick + 10, tick, port: 1, message: [NOTE_ON, tick as u8 + 1, 100] }
}

/// Delivers ticks up to this one, each with its event if there is room.
fn deliver(writer: &mut Writer, ticks: u64) {
    while writer.next_tick() < ticks {
        writer.push_rt(&event(writer.next_tick()));
        writer.complete_rt(&[], 0);
    }
}

#[test]
fn a_midi_writer_that_dies_anywhere_is_followed_by_one_that_neither_repeats_nor_loses() {
    /// Stores of two ticks, and one more: the last of the numbers tried is that of a writer that does not die at all.
    const STEPS: u32 = 2 * 7 + 1;
    for steps in 0..=STEPS {
        loom::model(move || {
            let memory = memory();
            let mut first: Writer = MidiLaneWriter::over(Process::dying_after(&memory, steps));
            let mut reader: Reader = MidiLaneReader::over(Process::living(&memory));
            let second = Process::living(&memory);
            let hosts = thread::spawn(move || {
                deliver(&mut first, 2);
                // The next host begins after the kernel has told of the first one's death.
                deliver(&mut MidiLaneWriter::over(second), 2);
            });
            let mut read: Vec<MidiEvent> = reader.next_event().into_iter().collect();
            hosts.join().unwrap();
            read.extend(std::iter::from_fn(|| reader.next_event()));
            assert_eq!(read, [event(0), event(1)], "{steps} steps");
        });
    }
}

#[test]
fn an_event_is_not_written_over_before_it_is_taken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let memory = memory();
        let mut writer: Writer = MidiLaneWriter::over(Process::living(&memory));
        let mut reader: Reader = MidiLaneReader::over(Process::living(&memory));
        let host = thread::spawn(move || deliver(&mut writer, 3));
        let mut read: Vec<MidiEvent> = reader.next_event().into_iter().collect();
        host.join().unwrap();
        read.extend(std::iter::from_fn(|| reader.next_event()));
        // Where there was no room for the last one it is left out, whole.
        assert!(read == [event(0), event(1)] || read == [event(0), event(1), event(2)], "{read:?}");
    });
}
