//! The lane: a block that is read is whole and the right one, and nobody sleeps through a wake-up.

use std::time::Duration;

use ipc::lane::{LaneReader, LaneWriter};
use loom::sync::Arc;
use loom::thread;

use crate::memory::{Memory, Process};

/// Frames of a block: the least that can be torn between its two channels.
const FRAMES: usize = 1;

type SmallBlock = [[f32; FRAMES]; 2];
type Writer<const BLOCKS: usize> = LaneWriter<Process, BLOCKS, FRAMES>;
type Reader<const BLOCKS: usize> = LaneReader<Process, BLOCKS, FRAMES>;

/// The words of a lane of `blocks` blocks. An offset that is missing here panics when it is used.
fn memory(blocks: usize) -> Arc<Memory> {
    let slots = (0..blocks).map(|slot| 128 + slot * (64 + 2 * FRAMES * 4));
    let offsets: Vec<usize> = [0, 64].into_iter().chain(slots.flat_map(|slot| [slot, slot + 64, slot + 68])).collect();
    Memory::new(&offsets, &[8, 72])
}

/// What block `number` holds: no two samples of the lane are the same.
fn block(number: u64) -> SmallBlock {
    [[(2 * number + 1) as f32], [(2 * number + 2) as f32]]
}

/// A model in which no more than `preemptions` times a thread is interrupted that could go on. What goes wrong, goes wrong
/// with few interruptions; without a bound the two loops of waiting take hours.
fn bounded(preemptions: usize) -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model
}

/// Reads block `number`; says whether it was there, and fails if what was there is anything else.
fn reads_whole<const BLOCKS: usize>(reader: &Reader<BLOCKS>, number: u64) -> bool {
    let mut found = [[0.0; FRAMES]; 2];
    let is_there = reader.read_rt(number, &mut found);
    assert!(!is_there || found == block(number), "block {number} was read as {found:?}");
    is_there
}

#[test]
fn a_writer_that_waits_is_woken_and_every_block_arrives() {
    const BLOCKS: u64 = 2;
    bounded(3).check(|| {
        let memory = memory(2);
        let mut writer: Writer<2> = LaneWriter::over(Process::living(&memory));
        let reader: Reader<2> = LaneReader::over(Process::living(&memory));
        let host = thread::spawn(move || {
            while writer.next_block() < BLOCKS {
                if writer.wait_until_wanted_rt(Duration::MAX) {
                    writer.write_rt(&block(writer.next_block()));
                    writer.wake_reader_rt();
                }
            }
        });
        for number in 0..BLOCKS {
            reader.demand_rt(number + 1);
            while !reader.wait_until_written_rt(number, Duration::MAX) {}
            assert!(reads_whole(&reader, number), "block {number} is written and not there");
        }
        host.join().unwrap();
    });
}

#[test]
fn a_block_that_is_being_overwritten_is_whole_or_not_there() {
    loom::model(|| {
        let memory = memory(1);
        let mut writer: Writer<1> = LaneWriter::over(Process::living(&memory));
        let reader: Reader<1> = LaneReader::over(Process::living(&memory));
        let host = thread::spawn(move || {
            writer.write_rt(&block(0));
            writer.write_rt(&block(1));
        });
        reads_whole(&reader, 0);
        reads_whole(&reader, 1);
        host.join().unwrap();
        assert!(!reads_whole(&reader, 0), "block 0 has been overwritten");
        assert!(reads_whole(&reader, 1));
    });
}

#[test]
fn a_writer_that_dies_anywhere_is_followed_by_one_that_goes_on() {
    /// More than two blocks take: the last of the numbers tried is that of a writer that does not die at all.
    const STEPS: u32 = 2 * 6 + 1;
    for steps in 0..=STEPS {
        loom::model(move || {
            let memory = memory(2);
            let mut first: Writer<2> = LaneWriter::over(Process::dying_after(&memory, steps));
            let reader: Reader<2> = LaneReader::over(Process::living(&memory));
            let second = Process::living(&memory);
            let hosts = thread::spawn(move || {
                first.write_rt(&block(0));
                first.write_rt(&block(1));
                // The next host begins after the kernel has told of the first one's death.
                let mut second: Writer<2> = LaneWriter::over(second);
                assert_eq!(second.next_block() == 2, steps >= STEPS - 2, "{steps} steps");
                while second.next_block() < 2 {
                    second.write_rt(&block(second.next_block()));
                }
            });
            reads_whole(&reader, 0);
            reads_whole(&reader, 1);
            hosts.join().unwrap();
            assert!(reads_whole(&reader, 0) && reads_whole(&reader, 1));
        });
    }
}

#[test]
fn the_model_notices_a_reader_that_does_not_look_at_the_stamp_again() {
    let torn = std::panic::catch_unwind(|| {
        loom::model(|| {
            let memory = memory(1);
            let mut writer: Writer<1> = LaneWriter::over(Process::living(&memory));
            let careless = Process::living(&memory);
            let host = thread::spawn(move || {
                writer.write_rt(&block(0));
                writer.write_rt(&block(1));
            });
            use ipc::words::Words;
            use std::sync::atomic::Ordering::{Acquire, Relaxed};
            if careless.load_u64_rt(64, Acquire) > 0 && careless.load_u64_rt(128, Acquire) == 0 {
                let found = [192, 196].map(|at| [f32::from_bits(careless.load_u32_rt(at, Relaxed))]);
                assert_eq!(found, block(0));
            }
            host.join().unwrap();
        });
    });
    assert!(torn.is_err(), "a torn block was not found");
}
