//! Lanes for tests: a segment with a writer at one end, known signals to put into it, and files to record them in.

use std::path::{Path, PathBuf};

use ipc::lane::{self, Block, LaneReader, LaneWriter, SILENCE};
use ipc::limits::BLOCK_FRAMES;
use ipc::segment::{Segment, SegmentRef, Session};

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

    /// The host dies between two blocks, or in the middle of one, and another one goes on in the lane.
    pub fn take_over(&mut self) {
        self.writer = LaneWriter::open(self.segment.reference()).unwrap();
    }

    pub fn reference(&self) -> &SegmentRef {
        self.segment.reference()
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

/// The first frames of [`ramp`].
pub fn ramps(count: u64) -> Vec<Frame> {
    (0..count).map(ramp).collect()
}

/// A file that a test records into; removed when dropped, with all its parts.
pub struct RecordedFile(pub PathBuf);

impl RecordedFile {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("continuo-{name}-{}.wav", std::process::id())))
    }
}

impl Drop for RecordedFile {
    fn drop(&mut self) {
        let parts = (2..5).map(|number| self.0.with_extension(format!("{number}.wav")));
        for path in parts.chain([self.0.clone()]) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The frames of a stereo WAV file.
pub fn read_frames(path: &Path) -> Vec<Frame> {
    let samples: Vec<f32> = hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect();
    samples.chunks_exact(2).map(|frame| [frame[0], frame[1]]).collect()
}
