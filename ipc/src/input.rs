//! Input: the blocks that the device host hands to an audio runtime, in the same segment as its lane.
//!
//! One writer (whichever thread mixes in the device host), one reader (the tick thread of the host that runs the runtime). Block n
//! is what tick n hears. The writer decides each block once, and a host waits for it before it executes the tick; what was
//! decided stays until no host can have to execute that tick again, so that one which takes over hears the same, bit for bit.
//! That limits how far the writer may be ahead of the runtime, whatever the session's clock says.
//!
//! A lane that nobody feeds has silence for input, and nobody waits for it. The ring is that of a [`crate::lane`], with
//! its wake-up; the word that says how far a lane is wanted says here that it is fed.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use crate::lane::{self, LaneReader, LaneWriter};
use crate::limits::{BLOCK_FRAMES, INPUT_BLOCKS, INPUT_KEPT_BLOCKS, LANE_CHANNELS};
use crate::segment::{Segment, SegmentError, SegmentRef};
use crate::words::{Shifted, Words};

/// Where the word lies that says whether anybody feeds the input: the lane's demand, which an input does not have.
const IS_FED: usize = 0;

/// The words of a lane's input.
pub type InputWords = Shifted<Segment>;

/// The device host's end. Its parameters are other than their defaults only where the protocol is tried in small.
pub struct InputWriter<
    W = InputWords,
    const BLOCKS: usize = INPUT_BLOCKS,
    const KEPT: usize = INPUT_KEPT_BLOCKS,
    const FRAMES: usize = BLOCK_FRAMES,
> {
    ring: LaneWriter<W, BLOCKS, FRAMES>,
}

impl InputWriter {
    /// Maps the input of a lane and goes on where the last writer stopped. From here on hosts wait for it.
    pub fn open(lane: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self::over(words(lane)?))
    }
}

impl<W: Words, const BLOCKS: usize, const KEPT: usize, const FRAMES: usize> InputWriter<W, BLOCKS, KEPT, FRAMES> {
    /// Feeds these words, from where the last writer stopped.
    pub fn over(words: W) -> Self {
        words.store_u64_rt(IS_FED, 1, Release);
        Self { ring: LaneWriter::over(words) }
    }

    /// The block that is decided next.
    pub fn next_block(&self) -> u64 {
        self.ring.next_block()
    }

    /// Whether the next block may be decided, now that the runtime has completed this many ticks: it overwrites nothing that
    /// may have to be heard again.
    pub fn has_room_rt(&self, completed_ticks: u64) -> bool {
        self.ring.next_block() < completed_ticks.saturating_add((BLOCKS - KEPT) as u64)
    }

    /// Decides the next block.
    pub fn write_rt(&mut self, block: &[[f32; FRAMES]; LANE_CHANNELS]) {
        self.ring.write_rt(block);
    }

    /// Wakes a host that waits for what has been decided.
    pub fn wake_rt(&self) {
        self.ring.wake_reader_rt();
    }
}

/// A host's end. It only looks, and its parameters are as those of the writer.
pub struct InputReader<W = InputWords, const BLOCKS: usize = INPUT_BLOCKS, const FRAMES: usize = BLOCK_FRAMES> {
    words: LaneReader<W, BLOCKS, FRAMES>,
}

impl InputReader {
    pub fn open(lane: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self::over(words(lane)?))
    }
}

impl<W: Words, const BLOCKS: usize, const FRAMES: usize> InputReader<W, BLOCKS, FRAMES> {
    /// Hears what is decided in these words.
    pub fn over(words: W) -> Self {
        Self { words: LaneReader::over(words) }
    }

    /// Whether anybody decides what is heard.
    pub fn is_fed_rt(&self) -> bool {
        self.words.words().load_u64_rt(IS_FED, Acquire) != 0
    }

    /// Sleeps until it is decided what tick `tick` hears, at most `timeout`; returns whether it is. Where nobody decides, it is.
    pub fn wait_rt(&self, tick: u64, timeout: Duration) -> bool {
        !self.is_fed_rt() || self.words.written_rt() > tick || self.words.wait_until_written_rt(tick, timeout)
    }

    /// Number of the block that is decided next.
    pub fn decided_rt(&self) -> u64 {
        self.words.written_rt()
    }

    /// Copies out what tick `tick` hears. False when it is not there.
    pub fn read_rt(&self, tick: u64, block: &mut [[f32; FRAMES]; LANE_CHANNELS]) -> bool {
        self.words.read_rt(tick, block)
    }
}

fn words(lane: &SegmentRef) -> Result<InputWords, SegmentError> {
    Ok(Shifted::new(lane::open(lane)?, lane::INPUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Block, SILENCE};
    use crate::segment::Session;

    fn block(number: u64) -> Block {
        [[number as f32 + 0.25; BLOCK_FRAMES], [-(number as f32); BLOCK_FRAMES]]
    }

    #[test]
    fn an_input_that_nobody_feeds_is_not_waited_for_and_one_that_is_fed_is() {
        let session = Session::open().unwrap();
        let segment = lane::create(session.id(), 1).unwrap();
        let reader = InputReader::open(segment.reference()).unwrap();
        assert!(reader.wait_rt(0, Duration::ZERO));
        let mut writer = InputWriter::open(segment.reference()).unwrap();
        assert!(!reader.wait_rt(0, Duration::ZERO));
        writer.write_rt(&block(0));
        assert!(reader.wait_rt(0, Duration::ZERO) && !reader.wait_rt(1, Duration::ZERO));
        let mut found = SILENCE;
        assert!(reader.read_rt(0, &mut found) && found == block(0));
    }

    #[test]
    fn input_and_output_of_a_lane_do_not_touch_each_other() {
        let session = Session::open().unwrap();
        let segment = lane::create(session.id(), 1).unwrap();
        let (mut out, outside) =
            (lane::LaneWriter::open(segment.reference()).unwrap(), LaneReader::<Segment>::open(segment.reference()).unwrap());
        let (mut input, inside) = (InputWriter::open(segment.reference()).unwrap(), InputReader::open(segment.reference()).unwrap());
        for number in 0..3 * INPUT_BLOCKS as u64 {
            out.write_rt(&block(number + 10_000));
            input.write_rt(&block(number));
            let (mut went, mut came) = (SILENCE, SILENCE);
            assert!(outside.read_rt(number, &mut went) && inside.read_rt(number, &mut came));
            assert!(went == block(number + 10_000) && came == block(number));
        }
    }

    #[test]
    fn what_may_have_to_be_heard_again_is_not_overwritten() {
        let session = Session::open().unwrap();
        let segment = lane::create(session.id(), 1).unwrap();
        let mut writer = InputWriter::open(segment.reference()).unwrap();
        let reader = InputReader::open(segment.reference()).unwrap();
        let completed = 1_000;
        while writer.has_room_rt(completed) {
            writer.write_rt(&block(writer.next_block()));
        }
        assert_eq!(writer.next_block(), completed + (INPUT_BLOCKS - INPUT_KEPT_BLOCKS) as u64);
        let mut found = SILENCE;
        assert!(reader.read_rt(completed - INPUT_KEPT_BLOCKS as u64, &mut found), "the oldest that a host may need is there");
        assert!(writer.has_room_rt(completed + 1));
    }

    #[test]
    fn the_next_writer_goes_on_with_the_first_block_that_is_not_decided() {
        let session = Session::open().unwrap();
        let segment = lane::create(session.id(), 1).unwrap();
        let mut writer = InputWriter::open(segment.reference()).unwrap();
        (0..5).for_each(|number| writer.write_rt(&block(number)));
        drop(writer);
        assert_eq!(InputWriter::open(segment.reference()).unwrap().next_block(), 5);
    }
}
