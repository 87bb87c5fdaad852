//! Audio lanes: the lock-free ring in shared memory through which one runtime host hands its blocks to the device host.
//!
//! One writer (the tick thread of the host that runs the runtime), one reader (whichever thread mixes in the device host).
//! Blocks are numbered by tick: block n of the lane is what tick n of the program computed. The reader decides how far the
//! writer may run ahead: it raises `demand`, and the writer computes block after block while its number is below it. A block
//! that comes too late is still written, in order, and never read. Neither side ever waits for the other's progress under a
//! lock; the only system calls are the futex wake-ups.
//!
//! Behind the ring of blocks that go out lies one of blocks that come in ([`crate::input`]).
//!
//! The supervisor creates the segment; both sides map it; then its name is removed. If the writer dies, the ring stays as
//! it was and another host goes on at `written`. If the reader dies, `demand` stands still and the writer waits; the next
//! reader goes on at `taken`, which says how far blocks have been given to a device.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::limits::{BLOCK_FRAMES, INPUT_BLOCKS, LANE_BLOCKS, LANE_CHANNELS};
use crate::segment::{Segment, SegmentError, SegmentKind, SegmentRef, SessionId};
use crate::words::Words;

/// One block of one lane: left, then right.
pub type Block = [[f32; BLOCK_FRAMES]; LANE_CHANNELS];

/// A block of silence.
pub const SILENCE: Block = [[0.0; BLOCK_FRAMES]; LANE_CHANNELS];

/// Highest block number that is believed: a million a second for a hundred years stay below it. A host that writes wildly can
/// put any number into its lane, and whoever reckons with one must not come to the end of its type.
const LAST_BLOCK: u64 = 1 << 52;

// Offsets in the payload, in bytes. What the reader writes and what the writer writes lie in cache lines of their own.
const DEMAND: usize = 0;
const DEMAND_WAKE: usize = 8;
const TAKEN: usize = 16;
const WRITTEN: usize = 64;
const WRITTEN_WAKE: usize = 72;
const SLOTS: usize = 128;
const SLOT_STAMP_BYTES: usize = 64;
/// Where the blocks that come in begin.
pub(crate) const INPUT: usize = SLOTS + LANE_BLOCKS * slot_bytes(BLOCK_FRAMES);
const PAYLOAD_BYTES: usize = INPUT + SLOTS + INPUT_BLOCKS * slot_bytes(BLOCK_FRAMES);

const fn slot_bytes(frames: usize) -> usize {
    SLOT_STAMP_BYTES + LANE_CHANNELS * frames * 4
}

/// A lane's segment, created by the supervisor before anyone writes to it.
pub fn create(session: &SessionId, generation: u64) -> Result<Segment, SegmentError> {
    Segment::create(session, SegmentKind::Lane, generation, PAYLOAD_BYTES)
}

/// How far a lane is, for whoever looks on: blocks written, and blocks wanted. Both stand in memory that others can damage.
pub fn progress(lane: &Segment) -> (u64, u64) {
    let number = |offset| lane.word_u64(offset).load(Acquire).min(LAST_BLOCK);
    (number(WRITTEN), number(DEMAND))
}

pub(crate) fn open(reference: &SegmentRef) -> Result<Segment, SegmentError> {
    let segment = Segment::open(reference)?;
    if reference.kind != SegmentKind::Lane || segment.payload_bytes() != PAYLOAD_BYTES {
        return Err(SegmentError::Damaged { name: reference.name.clone(), what: "it is not a lane of this version" });
    }
    Ok(segment)
}

/// Where the slot of a block begins in a ring of `BLOCKS` blocks of `FRAMES` frames.
fn slot_at<const BLOCKS: usize, const FRAMES: usize>(block: u64) -> usize {
    SLOTS + (block % BLOCKS as u64) as usize * slot_bytes(FRAMES)
}

/// The host's end of a lane. Its parameters are other than their defaults only where the protocol is tried in small.
pub struct LaneWriter<W = Segment, const BLOCKS: usize = LANE_BLOCKS, const FRAMES: usize = BLOCK_FRAMES> {
    words: W,
    next: u64,
}

impl LaneWriter {
    /// Maps the lane and goes on where the last writer stopped.
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self::over(open(reference)?))
    }
}

impl<W: Words, const BLOCKS: usize, const FRAMES: usize> LaneWriter<W, BLOCKS, FRAMES> {
    /// Goes on where the last writer of these words stopped.
    pub fn over(words: W) -> Self {
        let next = words.load_u64_rt(WRITTEN, Acquire).min(LAST_BLOCK);
        Self { words, next }
    }

    /// Number of the block that is written next.
    pub fn next_block(&self) -> u64 {
        self.next
    }

    /// Whether the reader has asked for the next block.
    pub fn is_wanted_rt(&self) -> bool {
        self.next < self.words.load_u64_rt(DEMAND, Acquire)
    }

    /// Sleeps until the next block is wanted, at most `timeout`; returns whether it is.
    pub fn wait_until_wanted_rt(&self, timeout: Duration) -> bool {
        let seen = self.words.load_u32_rt(DEMAND_WAKE, Acquire);
        if self.is_wanted_rt() {
            return true;
        }
        self.words.wait_rt(DEMAND_WAKE, seen, timeout);
        self.is_wanted_rt()
    }

    /// Publishes the next block.
    pub fn write_rt(&mut self, block: &[[f32; FRAMES]; LANE_CHANNELS]) {
        let slot = slot_at::<BLOCKS, FRAMES>(self.next);
        // The stamp says "being written" until the samples are complete, so that a reader never takes a half-written block.
        self.words.store_u64_rt(slot, u64::MAX, Relaxed);
        self.words.fence_rt(Release);
        for (index, sample) in block.iter().flatten().enumerate() {
            self.words.store_u32_rt(slot + SLOT_STAMP_BYTES + index * 4, sample.to_bits(), Relaxed);
        }
        self.words.store_u64_rt(slot, self.next, Release);
        self.next += 1;
        self.words.store_u64_rt(WRITTEN, self.next, Release);
        let wake = self.words.load_u32_rt(WRITTEN_WAKE, Relaxed);
        self.words.store_u32_rt(WRITTEN_WAKE, wake.wrapping_add(1), Release);
    }

    /// Wakes a reader that waits for blocks instead of pacing itself (rendering faster than real time).
    pub fn wake_reader_rt(&self) {
        self.words.wake_all_rt(WRITTEN_WAKE);
    }
}

/// The device host's end of a lane. Its parameters are other than their defaults only where the protocol is tried in small.
pub struct LaneReader<W = Segment, const BLOCKS: usize = LANE_BLOCKS, const FRAMES: usize = BLOCK_FRAMES> {
    words: W,
}

impl LaneReader {
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self::over(open(reference)?))
    }
}

impl<W: Words, const BLOCKS: usize, const FRAMES: usize> LaneReader<W, BLOCKS, FRAMES> {
    /// Reads what is written to these words.
    pub fn over(words: W) -> Self {
        Self { words }
    }

    /// What it reads.
    pub(crate) fn words(&self) -> &W {
        &self.words
    }

    /// Number of blocks written so far.
    pub fn written_rt(&self) -> u64 {
        self.words.load_u64_rt(WRITTEN, Acquire).min(LAST_BLOCK)
    }

    /// Copies block `number` out. False when it is not there: not yet written, or already overwritten.
    pub fn read_rt(&self, number: u64, block: &mut [[f32; FRAMES]; LANE_CHANNELS]) -> bool {
        let slot = slot_at::<BLOCKS, FRAMES>(number);
        if self.words.load_u64_rt(slot, Acquire) != number || number >= self.written_rt() {
            return false;
        }
        for (index, sample) in block.iter_mut().flatten().enumerate() {
            *sample = f32::from_bits(self.words.load_u32_rt(slot + SLOT_STAMP_BYTES + index * 4, Relaxed));
        }
        self.words.fence_rt(Acquire);
        self.words.load_u64_rt(slot, Relaxed) == number
    }

    /// Number of the first block that has not been given to a device yet, as the last reader has left it. It stands in
    /// memory that the writer can damage: only this lane may depend on it.
    pub fn taken(&self) -> u64 {
        self.words.load_u64_rt(TAKEN, Acquire).min(LAST_BLOCK)
    }

    /// Notes for the next reader that all blocks below `end` have been given to a device.
    pub fn take_rt(&self, end: u64) {
        self.words.store_u64_rt(TAKEN, end, Release);
    }

    /// Lets the writer compute all blocks below `end`, and wakes it.
    pub fn demand_rt(&self, end: u64) {
        self.words.store_u64_rt(DEMAND, end, Release);
        let wake = self.words.load_u32_rt(DEMAND_WAKE, Relaxed);
        self.words.store_u32_rt(DEMAND_WAKE, wake.wrapping_add(1), Release);
        self.words.wake_all_rt(DEMAND_WAKE);
    }

    /// Sleeps until block `number` is written, at most `timeout`; returns whether it is.
    pub fn wait_until_written_rt(&self, number: u64, timeout: Duration) -> bool {
        let seen = self.words.load_u32_rt(WRITTEN_WAKE, Acquire);
        if self.written_rt() > number {
            return true;
        }
        self.words.wait_rt(WRITTEN_WAKE, seen, timeout);
        self.written_rt() > number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Session;

    fn lane() -> (Session, Segment, LaneWriter, LaneReader) {
        let session = Session::open().unwrap();
        let segment = create(session.id(), 1).unwrap();
        let writer = LaneWriter::open(segment.reference()).unwrap();
        let reader = LaneReader::open(segment.reference()).unwrap();
        (session, segment, writer, reader)
    }

    fn ramp(block: u64) -> Block {
        let mut out = SILENCE;
        for (channel, samples) in out.iter_mut().enumerate() {
            for (frame, sample) in samples.iter_mut().enumerate() {
                *sample = (block * 1000 + channel as u64 * 200 + frame as u64) as f32;
            }
        }
        out
    }

    #[test]
    fn nothing_is_wanted_before_the_reader_asks() {
        let (_session, _segment, writer, reader) = lane();
        assert!(!writer.is_wanted_rt());
        reader.demand_rt(1);
        assert!(writer.is_wanted_rt());
    }

    #[test]
    fn blocks_arrive_in_order_and_whole_between_threads() {
        let (_session, _segment, mut writer, reader) = lane();
        const BLOCKS: u64 = 2_000;
        let host = std::thread::spawn(move || {
            while writer.next_block() < BLOCKS {
                if writer.wait_until_wanted_rt(Duration::from_millis(50)) {
                    let block = ramp(writer.next_block());
                    writer.write_rt(&block);
                    writer.wake_reader_rt();
                }
            }
        });
        let mut block = SILENCE;
        for number in 0..BLOCKS {
            reader.demand_rt(number + 4);
            while !reader.wait_until_written_rt(number, Duration::from_millis(50)) {}
            assert!(reader.read_rt(number, &mut block));
            assert_eq!(block, ramp(number));
        }
        host.join().unwrap();
    }

    #[test]
    fn a_block_that_is_not_there_is_not_read() {
        let (_session, _segment, mut writer, reader) = lane();
        let mut block = SILENCE;
        assert!(!reader.read_rt(0, &mut block));
        for number in 0..=LANE_BLOCKS as u64 {
            writer.write_rt(&ramp(number));
        }
        assert!(!reader.read_rt(0, &mut block), "block 0 has been overwritten");
        assert!(reader.read_rt(1, &mut block));
    }

    #[test]
    fn a_second_reader_finds_where_the_first_stopped() {
        let (_session, segment, _writer, reader) = lane();
        assert_eq!(reader.taken(), 0);
        reader.take_rt(7);
        reader.demand_rt(11);
        drop(reader);
        assert_eq!(LaneReader::open(segment.reference()).unwrap().taken(), 7);
    }

    #[test]
    fn a_second_writer_goes_on_where_the_first_stopped() {
        let (_session, segment, mut writer, _reader) = lane();
        writer.write_rt(&ramp(0));
        drop(writer);
        assert_eq!(LaneWriter::open(segment.reference()).unwrap().next_block(), 1);
    }

    #[test]
    fn numbers_that_no_lane_reaches_are_not_believed() {
        let (_session, segment, _writer, reader) = lane();
        segment.word_u64(WRITTEN).store(u64::MAX, Release);
        segment.word_u64(TAKEN).store(u64::MAX, Release);
        assert_eq!((reader.written_rt(), reader.taken()), (LAST_BLOCK, LAST_BLOCK));
        let mut writer = LaneWriter::open(segment.reference()).unwrap();
        writer.write_rt(&ramp(0));
        assert_eq!(writer.next_block(), LAST_BLOCK + 1);
    }
}
