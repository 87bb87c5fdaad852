//! Fading out: a straight line to zero, over blocks.
//!
//! Used by the real-time threads; holds nothing but its position.

use ipc::lane::Block;
use ipc::limits::BLOCK_FRAMES;

/// Milliseconds a lane or the whole session takes to fade out: short enough to feel immediate, long enough not to click.
const FADE_OUT_MS: u64 = 20;

/// A fade-out under way. The first frame it is applied to is already quieter, the last one is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FadeOut {
    done_frames: u64,
    total_frames: u64,
}

impl FadeOut {
    pub fn new(sample_rate_hz: u32) -> Self {
        Self { done_frames: 0, total_frames: (u64::from(sample_rate_hz) * FADE_OUT_MS / 1_000).max(1) }
    }

    /// Applies the fade to the next block. After its end, blocks become silence.
    pub fn apply_rt(&mut self, block: &mut Block) {
        for samples in block.iter_mut() {
            for (frame, sample) in samples.iter_mut().enumerate() {
                let left = self.total_frames.saturating_sub(self.done_frames + frame as u64 + 1);
                *sample *= left as f32 / self.total_frames as f32;
            }
        }
        self.done_frames += BLOCK_FRAMES as u64;
    }

    pub fn is_over_rt(&self) -> bool {
        self.done_frames >= self.total_frames
    }
}
