//! Fading: a straight line to zero, over blocks, and one from zero, over frames.
//!
//! Used by the real-time threads; holds nothing but its position.

use ipc::lane::Block;
use ipc::limits::BLOCK_FRAMES;

use super::routing::DeviceFrame;

/// Milliseconds a lane or the whole session takes to fade out, and a device to fade in: short enough to feel immediate, long
/// enough not to click.
const FADE_MS: u64 = 20;

/// A fade-out under way. The first frame it is applied to is already quieter, the last one is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FadeOut {
    done_frames: u64,
    total_frames: u64,
}

impl FadeOut {
    pub fn new(sample_rate_hz: u32) -> Self {
        Self { done_frames: 0, total_frames: fade_frames(sample_rate_hz) }
    }

    /// Applies the fade to the next block. After its end, blocks become silence.
    pub fn apply_rt(&mut self, block: &mut Block) {
        let begun = *self;
        for samples in block.iter_mut() {
            *self = begun;
            self.apply_to_rt(samples);
        }
    }

    /// The same to one channel of it.
    pub fn apply_to_rt(&mut self, samples: &mut [f32; BLOCK_FRAMES]) {
        for (frame, sample) in samples.iter_mut().enumerate() {
            let left = self.total_frames.saturating_sub(self.done_frames + frame as u64 + 1);
            *sample *= left as f32 / self.total_frames as f32;
        }
        self.done_frames += BLOCK_FRAMES as u64;
    }

    pub fn is_over_rt(&self) -> bool {
        self.done_frames >= self.total_frames
    }
}

/// A fade-in under way. After its end, frames are left as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FadeIn {
    done_frames: u64,
    total_frames: u64,
}

impl FadeIn {
    /// There is nothing to fade.
    pub const DONE: Self = Self { done_frames: 0, total_frames: 0 };

    pub fn new(sample_rate_hz: u32) -> Self {
        Self { done_frames: 0, total_frames: fade_frames(sample_rate_hz) }
    }

    /// Applies the fade to the next frame.
    pub fn apply_rt(&mut self, frame: DeviceFrame) -> DeviceFrame {
        if self.done_frames == self.total_frames {
            return frame;
        }
        self.done_frames += 1;
        frame.map(|sample| sample * (self.done_frames as f32 / self.total_frames as f32))
    }
}

fn fade_frames(sample_rate_hz: u32) -> u64 {
    (u64::from(sample_rate_hz) * FADE_MS / 1_000).max(1)
}
