//! Lanes for tests: a segment with a writer at one end, and known signals to put into it.

use ipc::lane::{self, Block, LaneReader, LaneWriter, SILENCE};
use ipc::limits::BLOCK_FRAMES;
use ipc::segment::{Segment, Session};

use super::mixer::Frame;

/// A lane whose host is the test.
pub struct TestLane {
    segment: Segment,
    pub writer: LaneWriter,
}

impl TestLane {
    pub fn new(session: &Session) -> Self {
        let segment = lane::create(session.id(), 1).unwrap();
        let writer = LaneWriter::open(segment.reference()).unwrap();
        Self { segment, writer }
    }

    pub fn reader(&self) -> LaneReader {
        LaneReader::open(self.segment.reference()).unwrap()
    }

    /// Writes every block that is wanted, from `signal` of the frame's number.
    pub fn write_wanted(&mut self, signal: impl Fn(u64) -> Frame) {
        while self.writer.is_wanted_rt() {
            self.write(&signal);
        }
    }

    /// Writes the next block, wanted or not.
    pub fn write(&mut self, signal: impl Fn(u64) -> Frame) {
        self.writer.write_rt(&block(self.writer.next_block(), signal));
        self.writer.wake_reader_rt();
    }
}

/// Block `number` of a signal.
pub fn block(number: u64, signal: impl Fn(u64) -> Frame) -> Block {
    let mut block = SILENCE;
    let [left, right] = &mut block;
    for (offset, (left, right)) in left.iter_mut().zip(right).enumerate() {
        [*left, *right] = signal(number * BLOCK_FRAMES as u64 + offset as u64);
    }
    block
}

/// A signal that is never zero, never repeats for 87 s and is exact in 32-bit floats: left rises, right falls.
pub fn ramp(frame: u64) -> Frame {
    let level = (frame + 1) as f32 / (1 << 22) as f32;
    [level, -level]
}
