//! What the device's input takes in, as blocks of the session.
//!
//! Frames come from the input stream's own thread through a wait-free queue ([`Inlet`] to [`Tap`]); the rendering thread takes
//! as many as it gives to the output, so that both go by one clock. A few periods stay in the queue, because nobody says in
//! which order the two streams of a device are called; how many is settled when frames begin to flow, and constant from then
//! on. When the queue is empty, or far too full because the clocks differ, it is settled anew and counted. The last blocks are
//! kept, for those who are behind. Without an input everything is silence, and time goes on.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use ipc::lane::{Block, SILENCE};
use ipc::limits::{BLOCK_FRAMES, MAX_PERIOD_FRAMES};
use rtrb::{Consumer, Producer, RingBuffer};

use super::mixer::Frame;

/// Blocks that are kept: what hosts compute ahead, the largest period, and room for whoever is late.
const KEPT_BLOCKS: usize = 128;

/// Frames that the queue holds: some of the largest periods.
const QUEUE_FRAMES: usize = 8 * MAX_PERIOD_FRAMES;

/// Periods that are in the queue when frames begin to flow, each as long as the longer of the two streams'.
const SETTLED_PERIODS: usize = 2;

/// When there are so many times that in the queue, the input's clock is faster than the output's, or it has come in bursts.
const OVERFULL: usize = 3;

/// The input stream's end of the queue.
pub struct Inlet {
    frames: Producer<Frame>,
    period_frames: Arc<AtomicU32>,
}

/// The rendering thread's end of it.
pub struct Tap {
    frames: Consumer<Frame>,
    period_frames: Arc<AtomicU32>,
    is_flowing: bool,
    settled_frames: usize,
}

/// A queue for one input stream.
pub fn queue() -> (Inlet, Tap) {
    let (producer, consumer) = RingBuffer::new(QUEUE_FRAMES);
    let period_frames = Arc::new(AtomicU32::new(0));
    let inlet = Inlet { frames: producer, period_frames: Arc::clone(&period_frames) };
    (inlet, Tap { frames: consumer, period_frames, is_flowing: false, settled_frames: 0 })
}

impl Inlet {
    /// The stream hands over this many frames. What finds no room is lost; that shows at the other end.
    pub fn push_rt(&mut self, frames: usize, frame: impl Fn(usize) -> Frame) {
        self.period_frames.fetch_max(frames.min(MAX_PERIOD_FRAMES) as u32, Relaxed);
        for index in 0..frames {
            if self.frames.push(frame(index)).is_err() {
                return;
            }
        }
    }
}

impl Tap {
    /// How many of the next `frames` frames there are to take, and whether there is a gap before them.
    fn ready_rt(&mut self, frames: usize) -> (usize, bool) {
        let level = self.frames.slots();
        if !self.is_flowing {
            let period_frames = frames.max(self.period_frames.load(Relaxed) as usize);
            let wanted = SETTLED_PERIODS * period_frames;
            if level < wanted {
                return (0, false);
            }
            self.drop_rt(level - wanted);
            (self.is_flowing, self.settled_frames) = (true, wanted);
            return (frames, false);
        }
        if level < frames {
            self.is_flowing = false;
            return (level, true);
        }
        let most = OVERFULL * self.settled_frames.max(SETTLED_PERIODS * frames);
        if level > most {
            self.drop_rt(level - self.settled_frames.max(frames));
            return (frames, true);
        }
        (frames, false)
    }

    fn drop_rt(&mut self, frames: usize) {
        if let Ok(chunk) = self.frames.read_chunk(frames) {
            chunk.commit_all();
        }
    }
}

/// Whether a block is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    There,
    NotYet,
    /// Too long ago.
    Gone,
}

/// The last blocks that have been taken in.
pub struct Capture {
    tap: Option<Tap>,
    /// [`KEPT_BLOCKS`] of them.
    blocks: Vec<Block>,
    /// Of the session: frames before it are there.
    end_frame: u64,
    gaps: u64,
}

impl Default for Capture {
    fn default() -> Self {
        Self { tap: None, blocks: vec![SILENCE; KEPT_BLOCKS], end_frame: 0, gaps: 0 }
    }
}

impl Capture {
    /// Puts another queue in the place of the one there is, and returns that.
    pub fn tap_rt(&mut self, tap: Option<Tap>) -> Option<Tap> {
        std::mem::replace(&mut self.tap, tap)
    }

    /// Frames that wait in the queue since it has been settled.
    pub fn waiting_frames_rt(&self) -> u64 {
        self.tap.as_ref().filter(|tap| tap.is_flowing).map_or(0, |tap| tap.settled_frames as u64)
    }

    /// How often frames were missing, or left out.
    pub fn gaps_rt(&self) -> u64 {
        self.gaps
    }

    /// Takes in what belongs to these frames of the session.
    pub fn advance_rt(&mut self, from_frame: u64, frames: usize) {
        let (ready, is_gap) = self.tap.as_mut().map_or((0, false), |tap| tap.ready_rt(frames));
        self.gaps += u64::from(is_gap);
        for index in 0..frames {
            let frame = self.tap.as_mut().filter(|_| index < ready).and_then(|tap| tap.frames.pop().ok()).unwrap_or_default();
            let at = from_frame + index as u64;
            let block = &mut self.blocks[(at / BLOCK_FRAMES as u64) as usize % KEPT_BLOCKS];
            for (samples, sample) in block.iter_mut().zip(frame) {
                samples[(at % BLOCK_FRAMES as u64) as usize] = sample;
            }
        }
        self.end_frame = from_frame + frames as u64;
    }

    /// Copies out what was taken in in this block of the session. Before the session there was silence.
    pub fn read_rt(&self, number: i64, block: &mut Block) -> Taken {
        let Ok(number) = u64::try_from(number) else {
            *block = SILENCE;
            return Taken::There;
        };
        let end_block = self.end_frame / BLOCK_FRAMES as u64;
        if number >= end_block {
            return Taken::NotYet;
        }
        // The one that follows may be half overwritten already.
        if number + KEPT_BLOCKS as u64 <= end_block {
            return Taken::Gone;
        }
        *block = self.blocks[number as usize % KEPT_BLOCKS];
        Taken::There
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(inlet: &mut Inlet, from: &mut u64, frames: usize) {
        let start = *from;
        inlet.push_rt(frames, |index| [(start + index as u64 + 1) as f32, -((start + index as u64 + 1) as f32)]);
        *from += frames as u64;
    }

    /// All that is there of the left channel.
    fn left(capture: &Capture, blocks: std::ops::Range<i64>) -> Vec<f32> {
        let mut out = Vec::new();
        for number in blocks {
            let mut block = SILENCE;
            assert_eq!(capture.read_rt(number, &mut block), Taken::There);
            out.extend(block[0]);
        }
        out
    }

    #[test]
    fn frames_come_out_in_order_at_a_constant_distance_in_whichever_order_the_streams_are_called() {
        for is_input_first in [true, false] {
            let (mut capture, mut sent) = (Capture::default(), 0);
            let (mut inlet, tap) = queue();
            assert!(capture.tap_rt(Some(tap)).is_none());
            for cycle in 0..64u64 {
                // The order changes in the middle, as it does when a graph is sorted anew.
                let is_input_first = is_input_first != (cycle > 30);
                if is_input_first {
                    ramp(&mut inlet, &mut sent, 128);
                }
                capture.advance_rt(cycle * 128, 128);
                if !is_input_first {
                    ramp(&mut inlet, &mut sent, 128);
                }
            }
            let out = left(&capture, 0..64);
            let start = out.iter().position(|sample| *sample != 0.0).unwrap();
            assert!(start % 128 == 0 && start <= 3 * 128, "{start}");
            assert!(out[start..].windows(2).all(|pair| pair[1] == pair[0] + 1.0), "not one frame is missing");
            assert_eq!(capture.gaps_rt(), 0);
        }
    }

    #[test]
    fn periods_of_any_length_go_into_blocks() {
        let (mut capture, mut sent, mut at) = (Capture::default(), 0, 0);
        let (mut inlet, tap) = queue();
        capture.tap_rt(Some(tap));
        for _ in 0..20 {
            ramp(&mut inlet, &mut sent, 441);
            capture.advance_rt(at, 441);
            at += 441;
        }
        let out = left(&capture, 0..(at / 128) as i64);
        let start = out.iter().position(|sample| *sample != 0.0).unwrap();
        assert!(out[start..].windows(2).all(|pair| pair[1] == pair[0] + 1.0));
        assert_eq!(capture.read_rt((at / 128) as i64, &mut SILENCE.clone()), Taken::NotYet);
    }

    #[test]
    fn an_input_that_stops_is_silence_and_comes_back() {
        let (mut capture, mut sent) = (Capture::default(), 0);
        let (mut inlet, tap) = queue();
        capture.tap_rt(Some(tap));
        for cycle in 0..30u64 {
            if !(10..20).contains(&cycle) {
                ramp(&mut inlet, &mut sent, 128);
            }
            capture.advance_rt(cycle * 128, 128);
        }
        assert_eq!(capture.gaps_rt(), 1);
        let out = left(&capture, 0..30);
        assert_eq!(out[15 * 128], 0.0);
        assert!(out[25 * 128] > 0.0, "it is heard again");
        drop(capture.tap_rt(None));
        capture.advance_rt(30 * 128, 128);
        assert_eq!(left(&capture, 30..31), [0.0; 128], "without an input time goes on");
    }

    #[test]
    fn an_input_that_is_faster_is_cut_and_counted() {
        let (mut capture, mut sent) = (Capture::default(), 0);
        let (mut inlet, tap) = queue();
        capture.tap_rt(Some(tap));
        for cycle in 0..100u64 {
            ramp(&mut inlet, &mut sent, 160);
            capture.advance_rt(cycle * 128, 128);
        }
        assert!(capture.gaps_rt() > 0);
        let last = left(&capture, 99..100)[127];
        assert!(sent as f32 - last < 128.0 * 10.0, "it does not fall behind for good");
    }

    #[test]
    fn only_the_last_blocks_are_kept() {
        let mut capture = Capture::default();
        (0..300).for_each(|cycle| capture.advance_rt(cycle * 128, 128));
        let mut block = SILENCE;
        assert_eq!(capture.read_rt(300 - KEPT_BLOCKS as i64, &mut block), Taken::Gone);
        assert_eq!(capture.read_rt(301 - KEPT_BLOCKS as i64, &mut block), Taken::There);
        assert_eq!(capture.read_rt(-5, &mut block), Taken::There);
    }
}
