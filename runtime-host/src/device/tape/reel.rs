//! The real-time end of a tape: blocks on their way to their files.
//!
//! Made by the control thread, turned by whichever thread renders, handed back to be dropped. A tape begins with a block that is
//! told, and ends before one; where the mixer is told too late, with the next one it renders. Every file has these blocks and no
//! others. The stem of a runtime that comes later begins with the silence it has missed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ipc::lane::{Block, SILENCE};
use ipc::limits::{BLOCK_FRAMES, MAX_LANES};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::device::counters::Counters;
use crate::device::fade::FadeOut;

/// Blocks of one file that may wait for the disk: 5 s at 48 kHz, 2 MB. Disks pause for a second or two when they are busy.
const QUEUE_BLOCKS: usize = 2_048;

/// A block on its way to a file.
#[derive(Clone, Copy)]
pub struct RecordedBlock {
    /// Frames of silence before this block: lost because the queue was full, or before its runtime was there.
    pub gap_frames: u64,
    /// How many of the frames there are.
    pub frames: usize,
    pub samples: Block,
}

const EMPTY: RecordedBlock = RecordedBlock { gap_frames: 0, frames: 0, samples: SILENCE };

/// What one file gets.
pub struct Tap {
    queue: Producer<RecordedBlock>,
    block: RecordedBlock,
    has_begun: bool,
    counters: Arc<Counters>,
}

impl Tap {
    /// A tap, and the writer's end of it.
    pub fn new(counters: Arc<Counters>) -> (Self, Consumer<RecordedBlock>) {
        Self::with_room(QUEUE_BLOCKS, counters)
    }

    /// The same with room for so many blocks.
    pub fn with_room(blocks: usize, counters: Arc<Counters>) -> (Self, Consumer<RecordedBlock>) {
        let (queue, consumer) = RingBuffer::new(blocks);
        (Self { queue, block: EMPTY, has_begun: false, counters }, consumer)
    }

    /// The next block begins, which is this many frames after the tape's first.
    fn begin_block_rt(&mut self, since_first_frames: u64) {
        self.block.samples = SILENCE;
        if !self.has_begun {
            self.has_begun = true;
            self.block.gap_frames = since_first_frames;
        }
    }

    fn add_rt(&mut self, samples: &Block) {
        for (sum, sample) in self.block.samples.iter_mut().flatten().zip(samples.iter().flatten()) {
            *sum += sample;
        }
    }

    /// Hands the block over, or the first frames of it.
    fn push_rt(&mut self, frames: usize) {
        if !self.has_begun || self.queue.is_abandoned() {
            return;
        }
        self.block.frames = frames;
        if self.queue.push(self.block).is_ok() {
            self.block.gap_frames = 0;
        } else {
            self.block.gap_frames += frames as u64;
            self.counters.unrecorded_frames.fetch_add(frames as u64, Relaxed);
        }
    }

    /// Whether so many frames find room, or nobody writes them any more.
    fn has_room(&self, frames: usize) -> bool {
        self.queue.is_abandoned() || self.queue.slots() > frames.div_ceil(BLOCK_FRAMES)
    }
}

/// All taps of a tape. Taps of stems are boxed, so that one more costs the real-time side no copy.
pub struct Reel {
    master: Option<Tap>,
    stems: [Option<Box<Tap>>; MAX_LANES],
    /// No block before this one belongs to it.
    from_block: u64,
    first_block: Option<u64>,
    /// The block that is being given out belongs to the tape, and has not been handed over.
    holds_block: bool,
    /// Nor this one, nor any after it.
    end_block: Option<u64>,
}

impl Reel {
    /// A tape of the blocks from this one on.
    pub fn new(master: Option<Tap>, from_block: u64) -> Self {
        let stems = std::array::from_fn(|_| None);
        Self { master, stems, from_block, first_block: None, holds_block: false, end_block: None }
    }

    /// One more stem, on a track that is free. What is there already stays, and the newcomer is lost without being freed: the
    /// control thread keeps the table of tracks.
    pub fn insert_rt(&mut self, track: usize, tap: Box<Tap>) {
        match self.stems.get_mut(track) {
            Some(free @ None) => *free = Some(tap),
            Some(Some(_)) | None => std::mem::forget(tap),
        }
    }

    /// It ends before this block; where that has passed, before the next one.
    pub fn end_rt(&mut self, block: u64) {
        self.end_block = Some(self.end_block.map_or(block, |earlier| earlier.min(block)));
    }

    /// Whether it ends before this block.
    pub fn is_over_rt(&self, block: u64) -> bool {
        self.end_block.is_some_and(|end_block| block >= end_block)
    }

    /// This block of the session is about to be rendered. Returns whether it is the tape's first.
    pub fn begin_block_rt(&mut self, block: u64) -> bool {
        if block < self.from_block {
            return false;
        }
        let is_first = self.first_block.is_none();
        let first_block = *self.first_block.get_or_insert(block);
        let since_first_frames = block.saturating_sub(first_block).saturating_mul(BLOCK_FRAMES as u64);
        self.holds_block = true;
        self.taps_rt().for_each(|tap| tap.begin_block_rt(since_first_frames));
        is_first
    }

    /// What a lane adds to the block, to the stem on its track.
    pub fn add_rt(&mut self, track: usize, samples: &Block) {
        if let Some(Some(stem)) = self.stems.get_mut(track) {
            stem.add_rt(samples);
        }
    }

    /// Everything fades out, and the stems with it.
    pub fn fade_rt(&mut self, fade: FadeOut) {
        for stem in self.stems.iter_mut().flatten() {
            let mut fade = fade;
            fade.apply_rt(&mut stem.block.samples);
        }
    }

    /// The block as the device is to be given it.
    pub fn master_rt(&mut self, samples: &Block) {
        if let Some(master) = &mut self.master {
            master.block.samples = *samples;
        }
    }

    /// So many frames of the block have been given to the device, which will be all.
    pub fn push_rt(&mut self, frames: usize) {
        if std::mem::take(&mut self.holds_block) && frames > 0 {
            self.taps_rt().for_each(|tap| tap.push_rt(frames));
        }
    }

    /// Whether so many frames find room in every file's queue.
    pub fn has_room(&self, frames: usize) -> bool {
        self.master.iter().chain(self.stems.iter().flatten().map(Box::as_ref)).all(|tap| tap.has_room(frames))
    }

    fn taps_rt(&mut self) -> impl Iterator<Item = &mut Tap> {
        self.master.iter_mut().chain(self.stems.iter_mut().flatten().map(Box::as_mut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::test_lane::{block, ramp};

    fn drain(queue: &mut Consumer<RecordedBlock>) -> Vec<(u64, usize, f32)> {
        std::iter::from_fn(|| queue.pop().ok()).map(|block| (block.gap_frames, block.frames, block.samples[0][0])).collect()
    }

    #[test]
    fn frames_that_find_no_room_are_counted_and_stand_before_the_next_block_as_a_gap() {
        let counters = Arc::new(Counters::default());
        let (tap, mut queue) = Tap::with_room(2, Arc::clone(&counters));
        let mut reel = Reel::new(Some(tap), 0);
        assert!(reel.has_room(BLOCK_FRAMES));
        let turn = |reel: &mut Reel, number: u64| {
            reel.begin_block_rt(number);
            reel.master_rt(&block(number, ramp));
            reel.push_rt(BLOCK_FRAMES);
        };
        (7..11).for_each(|number| turn(&mut reel, number));
        assert!(!reel.has_room(BLOCK_FRAMES));
        assert_eq!(drain(&mut queue), [(0, 128, ramp(7 * 128)[0]), (0, 128, ramp(8 * 128)[0])]);
        turn(&mut reel, 11);
        assert_eq!(drain(&mut queue), [(256, 128, ramp(11 * 128)[0])]);
        assert_eq!(counters.unrecorded_frames.load(Relaxed), 256);
    }

    #[test]
    fn a_tape_holds_the_blocks_from_the_one_that_was_named_to_the_one_that_was_named() {
        let (tap, mut queue) = Tap::new(Arc::default());
        let mut reel = Reel::new(Some(tap), 8);
        reel.end_rt(11);
        let mut firsts = Vec::new();
        for number in 6..11 {
            assert!(!reel.is_over_rt(number));
            if reel.begin_block_rt(number) {
                firsts.push(number);
            }
            reel.master_rt(&block(number, ramp));
            reel.push_rt(BLOCK_FRAMES);
        }
        assert!(reel.is_over_rt(11));
        assert_eq!(firsts, [8]);
        let expected: Vec<_> = (8..11).map(|number| (0, 128, ramp(number * 128)[0])).collect();
        assert_eq!(drain(&mut queue), expected);
        reel.end_rt(0);
        assert!(reel.is_over_rt(9), "what has passed is at once");
    }

    #[test]
    fn a_stem_that_comes_later_begins_with_the_silence_it_has_missed() {
        let mut reel = Reel::new(None, 0);
        assert!(reel.begin_block_rt(100));
        reel.push_rt(BLOCK_FRAMES);
        assert!(!reel.begin_block_rt(101));
        let (tap, mut queue) = Tap::new(Arc::default());
        reel.insert_rt(3, Box::new(tap));
        reel.push_rt(BLOCK_FRAMES);
        assert_eq!(drain(&mut queue), [], "it was not there when this block was rendered");
        reel.begin_block_rt(102);
        reel.add_rt(3, &[[0.25; BLOCK_FRAMES]; 2]);
        reel.add_rt(3, &[[0.5; BLOCK_FRAMES]; 2]);
        reel.add_rt(4, &[[1.0; BLOCK_FRAMES]; 2]);
        reel.push_rt(40);
        assert_eq!(drain(&mut queue), [(256, 40, 0.75)]);
    }
}
