//! State segments: what is written is read back, and what nobody can have written is refused.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::manifest::MemoryInfo;
use crate::midi::Received;
use crate::segment::Session;

fn manifest(pages: &[u64]) -> Manifest {
    let memories = pages.iter().map(|pages| MemoryInfo { name: "memory".into(), required_bytes: 8, pages: *pages });
    Manifest {
        language: "8f4e/v1".into(),
        revision: ContentHash::of(&[b"program"]),
        memories: memories.collect(),
        modules: Vec::new(),
        entries: Vec::new(),
        exports: Vec::new(),
        imports: Vec::new(),
        config: Vec::new(),
        environment: Vec::new(),
        source_map: Vec::new(),
        blocks: Vec::new(),
    }
}

fn head(tick: u64) -> Head {
    Head {
        tick,
        has_begun: true,
        role: Role::Running { kept: Some(3) },
        revision: ContentHash::of(&[b"program"]),
        is_frozen: true,
        has_break: true,
        failed_in_a_row: 7,
        trial: Some(OpenTrial { request: 9, is_patch: true, ticks_left: 5, fade_done_frames: 128, fade_total_frames: 4_800 }),
    }
}

fn write(address: u32) -> Write {
    Write { memory: 1, address, element: ElementType::Float32, bytes: [1, 2, 3, 4, 0, 0, 0, 0] }
}

struct Stand {
    _session: Session,
    segment: Segment,
    manifest: Manifest,
    memories: Vec<Vec<u8>>,
    writer: StateWriter,
    applied: Applied,
}

impl Stand {
    fn new() -> Self {
        let manifest = manifest(&[1, 2]);
        let session = Session::open().unwrap();
        let segment = create(session.id(), 1, &manifest).unwrap();
        let memories = vec![vec![1; 65_536], vec![2; 131_072]];
        let writer = StateWriter::open(segment.reference(), &manifest).unwrap();
        Self { _session: session, segment, manifest, memories, writer, applied: Applied::default() }
    }

    fn checkpoint(&mut self, sequence: u64, head: &Head, ramps: &[Ramp]) {
        let Self { writer, memories, applied, .. } = self;
        writer.checkpoint_rt(sequence, head, ramps, applied, |index| &memories[index as usize]);
    }

    fn reader(&self) -> StateReader {
        StateReader::open(self.segment.reference(), &self.manifest).unwrap()
    }

    fn newest(&self) -> Found {
        self.reader().view().newest().unwrap().unwrap()
    }

    fn copies(&self, found: &Found) -> Vec<Vec<u8>> {
        let reader = self.reader();
        let mut copies: Vec<Vec<u8>> = self.memories.iter().map(|memory| vec![0; memory.len()]).collect();
        for (index, copy) in (0..).zip(&mut copies) {
            reader.copy_memory(found, index, copy);
        }
        reader.check_still(found).unwrap();
        copies
    }

    fn scribble(&self, offset: usize, word: u64) {
        self.segment.word_u64(offset).store(word, Relaxed);
    }
}

#[test]
fn a_checkpoint_is_read_back_as_it_was_written() {
    let mut stand = Stand::new();
    let ramp = Ramp { write: write(12), from: 0.5, to: -3.25, step: 2, steps: 9 };
    stand.memories[1][131_071] = 77;
    stand.applied.push_rt(4, 40);
    stand.checkpoint(10, &head(50), &[ramp; 3]);
    let (found, reader) = (stand.newest(), stand.reader());
    assert_eq!((found.sequence, found.head), (10, head(50)));
    assert_eq!(stand.copies(&found), stand.memories);
    assert_eq!(reader.ramps(&found).unwrap(), [ramp; 3]);
    assert_eq!(reader.applied(&found).unwrap().iter().collect::<Vec<_>>(), [(4, 40)]);
    assert_eq!(reader.inputs(&found, u64::MAX).unwrap(), []);
}

#[test]
fn a_checkpoint_that_was_not_completed_leaves_the_one_before_it() {
    let mut stand = Stand::new();
    stand.checkpoint(1, &head(1), &[]);
    let before = stand.memories.clone();
    stand.checkpoint(2, &head(2), &[]);
    stand.memories[0].fill(9);
    // The third goes into the slot of the first; it is as if its writer had died before the end.
    stand.checkpoint(3, &head(3), &[]);
    stand.scribble(layout::head(0), 0);
    let found = stand.newest();
    assert_eq!((found.sequence, found.head.tick), (2, 2));
    assert_eq!(stand.copies(&found), before);
}

#[test]
fn the_restored_checkpoint_is_the_last_one_to_be_overwritten() {
    let mut stand = Stand::new();
    stand.checkpoint(1, &head(1), &[]);
    stand.checkpoint(2, &head(2), &[]);
    let older = stand.reader().view().checkpoints().unwrap().into_iter().min_by_key(|found| found.sequence).unwrap();
    stand.writer = stand.reader().into_writer(&older);
    stand.checkpoint(3, &head(3), &[]);
    let left: Vec<u64> = stand.reader().view().checkpoints().unwrap().iter().map(|found| found.sequence).collect();
    assert_eq!(left, [1, 3]);
}

#[test]
fn inputs_since_the_newest_checkpoint_come_back_in_order_for_as_long_as_there_is_one() {
    let mut stand = Stand::new();
    for round in 0..100u64 {
        stand.checkpoint(round + 1, &head(round * 10), &[]);
        for tick in 1..9 {
            let writes: Vec<Write> = (0..tick as u32 * 10).map(|index| write(index * 4)).collect();
            assert!(stand.writer.log_set_rt(round * 100 + tick, round * 10 + tick, 1, &writes));
        }
        let inputs = stand.reader().inputs(&stand.newest(), u64::MAX).unwrap();
        assert_eq!(inputs.len(), 8);
        for (tick, input) in (1..).zip(&inputs) {
            let Logged::Set(set) = input else { panic!("{input:?}") };
            assert_eq!(
                (set.request, input.tick(), set.steps, set.writes.len()),
                (round * 100 + tick, round * 10 + tick, 1, tick as usize * 10)
            );
        }
    }
}

#[test]
fn messages_come_back_between_the_values_they_came_in_with() {
    let mut stand = Stand::new();
    stand.checkpoint(1, &head(5), &[]);
    let received = |port, note| Received { port, message: [0x91, note, 100] };
    let messages: Vec<Received> = (0..128).map(|note| received(3, note)).collect();
    assert!(stand.writer.log_set_rt(7, 5, 1, &[write(0)]));
    assert!(stand.writer.log_midi_rt(8, 6, &messages));
    assert!(stand.writer.log_set_rt(9, 6, 1, &[write(4)]));
    assert!(stand.writer.log_wire_rt(3, 6, &write(8)));
    let inputs = stand.reader().inputs(&stand.newest(), u64::MAX).unwrap();
    assert_eq!(inputs.iter().map(Logged::tick).collect::<Vec<_>>(), [5, 6, 6, 6]);
    assert_eq!(inputs[3], Logged::Wire(LoggedWire { wire: 3, tick: 6, write: write(8) }));
    assert_eq!(inputs[1], Logged::Midi(LoggedMidi { request: 8, tick: 6, messages }));
    // A word that is no message.
    assert!(stand.writer.log_midi_rt(10, 7, &[Received { port: 0, message: [0x90, 1, 1] }]));
    assert!(read_all(&stand).is_err());
}

#[test]
fn a_full_log_takes_no_more_until_there_is_another_checkpoint_of_the_running_program() {
    let mut stand = Stand::new();
    let writes = vec![write(0); 1_000];
    stand.checkpoint(1, &head(0), &[]);
    let taken = (0..10).filter(|request| stand.writer.log_set_rt(*request, 1, 1, &writes)).count();
    assert_eq!(taken, 2);
    stand.checkpoint(2, &Head { role: Role::Kept, ..head(2) }, &[]);
    assert!(!stand.writer.log_set_rt(11, 2, 1, &writes), "the running program's checkpoint is still the one before");
    stand.checkpoint(3, &head(3), &[]);
    assert!(stand.writer.log_set_rt(12, 4, 1, &writes));
}

#[test]
fn the_last_requests_are_remembered_across_checkpoints_and_segments() {
    let (mut first, mut second) = (Stand::new(), Stand::new());
    for request in 0..3_000 {
        first.applied.push_rt(request, request * 2);
        if request % 700 == 0 {
            first.checkpoint(request + 1, &head(request), &[]);
        }
    }
    second.applied = first.applied.clone();
    second.checkpoint(9_000, &head(9_000), &[]);
    let known: Vec<_> = second.reader().applied(&second.newest()).unwrap().iter().collect();
    assert_eq!((known.len(), known[0], known[1_023]), (1_024, (1_976, 3_952), (2_999, 5_998)));
    let known: Vec<_> = first.reader().applied(&first.newest()).unwrap().iter().collect();
    assert_eq!((known.len(), known[1_023]), (1_024, (2_800, 5_600)), "what came after the checkpoint does not count");
}

#[test]
fn what_nobody_can_have_written_is_refused_by_name() {
    let scribbles: [(usize, u64); 6] = [
        (layout::head(0), u64::MAX),     // Its sequence number.
        (layout::head(0) + 8, 1 << 60),  // Its tick.
        (layout::head(0) + 7 * 8, 257),  // Its number of ramps.
        (layout::ramp(0, 0) + 8, 99),    // The type of a ramp's element.
        (layout::ramp(0, 0) + 5 * 8, 5), // A ramp of no steps that has taken five.
        (layout::LOG_END, 1 << 40),
    ];
    for (offset, word) in scribbles {
        let mut stand = Stand::new();
        stand.checkpoint(1, &head(0), &[Ramp { write: write(0), from: 0.0, to: 1.0, step: 1, steps: 2 }]);
        stand.scribble(offset, word);
        let error = read_all(&stand).unwrap_err();
        assert!(error.to_string().contains(&stand.segment.reference().name), "offset {offset}: {error}");
    }
}

fn read_all(stand: &Stand) -> Result<(), SegmentError> {
    let reader = stand.reader();
    let Some(found) = reader.view().newest()? else { return Ok(()) };
    reader.ramps(&found)?;
    reader.applied(&found)?;
    reader.inputs(&found, u64::MAX)?;
    Ok(())
}

#[test]
fn no_scribble_on_the_log_makes_its_reader_fall_over() {
    let mut stand = Stand::new();
    stand.checkpoint(1, &head(0), &[]);
    assert!(stand.writer.log_set_rt(1, 1, 1, &[write(0), write(4)]));
    assert!(stand.writer.log_set_rt(2, 2, 1, &[write(8)]));
    assert!(stand.writer.log_wire_rt(3, 2, &write(12)));
    for position in 0..23 {
        let before = stand.segment.word_u64(layout::log(position)).load(Relaxed);
        for word in [0, 1, u64::MAX, 1 << 32, u64::from(u32::MAX), before ^ (1 << 33), before ^ 2] {
            stand.scribble(layout::log(position), word);
            let _ = read_all(&stand);
        }
        stand.scribble(layout::log(position), before);
    }
    assert!(read_all(&stand).is_ok());
}

#[test]
fn one_damaged_slot_leaves_the_other_and_two_are_an_error() {
    let ramp = Ramp { write: write(0), from: 0.0, to: 1.0, step: 1, steps: 2 };
    for (slot, left) in [(0, 2), (1, 1)] {
        // Its sequence number, its tick, its number of ramps, the type of a ramp's element.
        let damages = [(layout::head(slot), u64::MAX), (layout::head(slot) + 8, 1 << 60), (layout::head(slot) + 56, 257)];
        for (offset, word) in damages.into_iter().chain([(layout::ramp(slot, 0) + 8, 99)]) {
            let mut stand = Stand::new();
            stand.checkpoint(1, &head(1), &[ramp]);
            stand.checkpoint(2, &head(2), &[ramp]);
            stand.scribble(offset, word);
            let found = stand.newest();
            assert_eq!(found.sequence, left, "offset {offset}");
            // What comes next goes into the damaged one.
            stand.writer = stand.reader().into_writer(&found);
            stand.checkpoint(3, &head(3), &[]);
            assert_eq!(stand.reader().view().checkpoints().unwrap().len(), 2, "offset {offset}");
        }
    }
    let mut stand = Stand::new();
    stand.checkpoint(1, &head(1), &[]);
    stand.checkpoint(2, &head(2), &[]);
    (0..2).for_each(|slot| stand.scribble(layout::head(slot), u64::MAX));
    assert!(stand.reader().view().checkpoints().is_err());
}

#[test]
fn a_log_that_is_not_needed_may_end_anywhere() {
    for end in [u64::MAX, 1 << 40, 0] {
        let mut stand = Stand::new();
        stand.checkpoint(1, &head(1), &[]);
        assert!(stand.writer.log_set_rt(1, 2, 1, &[write(0)]));
        stand.checkpoint(2, &head(3), &[]);
        stand.scribble(layout::LOG_END, end);
        let found = stand.newest();
        assert_eq!(stand.reader().inputs(&found, 3).unwrap(), []);
        assert!(stand.reader().inputs(&found, 4).is_err(), "it ends before it begins, or too far away");
        stand.writer = stand.reader().into_writer(&found);
        assert!(stand.writer.log_set_rt(2, 4, 1, &[write(8)]));
        let inputs = stand.reader().inputs(&found, 5).unwrap();
        let Logged::Set(set) = &inputs[0] else { panic!("{inputs:?}") };
        assert_eq!((set.request, set.tick), (2, 4));
    }
}

#[test]
fn a_segment_is_populated_as_it_is() {
    let mut stand = Stand::new();
    stand.checkpoint(1, &head(1), &[]);
    let before = stand.copies(&stand.newest());
    stand.segment.populate();
    stand.writer.touch();
    assert_eq!(stand.copies(&stand.newest()), before);
}

#[test]
fn a_segment_of_another_program_is_refused() {
    let stand = Stand::new();
    let other = manifest(&[1, 3]);
    assert!(StateReader::open(stand.segment.reference(), &other).is_err());
    assert!(StateWriter::open(stand.segment.reference(), &other).is_err());
}

#[test]
fn the_supervisor_sees_how_far_a_program_is() {
    let mut stand = Stand::new();
    let view = StateView::open(stand.segment.reference()).unwrap();
    assert_eq!((view.completed_ticks(), view.clock(), view.newest().unwrap()), (0, None, None));
    stand.checkpoint(1, &head(12), &[]);
    let clock = Clock { start_ns: 5, next: 14 };
    stand.writer.complete_rt(13, Some(clock));
    assert_eq!((view.completed_ticks(), view.clock()), (13, Some(clock)));
    let newest = view.newest().unwrap().unwrap();
    assert_eq!((newest.head.tick, newest.head.revision), (12, ContentHash::of(&[b"program"])));
}
