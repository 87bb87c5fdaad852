//! The gain of one lane, and the straight line by which it gets to another one.
//!
//! Used by the real-time threads; holds nothing but its position. At a gain of exactly 1 samples are left alone, so that what
//! nobody has touched stays bit-identical.

use ipc::lane::Block;

/// A gain, perhaps on its way to another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    now: f32,
    step: f32,
    target: f32,
    left_frames: u32,
}

impl Gain {
    pub const UNCHANGED: Self = Self { now: 1.0, step: 0.0, target: 1.0, left_frames: 0 };

    /// Goes to `gain` from the next frame on, in `frames` equal steps; with 0, at once.
    pub fn go_to_rt(&mut self, gain: f32, frames: u32) {
        self.target = gain;
        self.left_frames = frames;
        if frames == 0 {
            self.now = gain;
        } else {
            self.step = (gain - self.now) / frames as f32;
        }
    }

    /// Applies the gain to the next block.
    pub fn apply_rt(&mut self, block: &mut Block) {
        if self.left_frames == 0 {
            if self.now != 1.0 {
                block.iter_mut().flatten().for_each(|sample| *sample *= self.now);
            }
            return;
        }
        let [left, right] = block;
        for (left, right) in left.iter_mut().zip(right) {
            self.step_rt();
            *left *= self.now;
            *right *= self.now;
        }
    }

    fn step_rt(&mut self) {
        match self.left_frames {
            0 => {}
            // Where the steps' rounding errors end.
            1 => (self.now, self.left_frames) = (self.target, 0),
            _ => {
                self.now += self.step;
                self.left_frames -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ipc::limits::BLOCK_FRAMES;

    use super::*;

    const ONES: Block = [[1.0; BLOCK_FRAMES]; 2];

    #[test]
    fn a_gain_of_one_leaves_every_bit_alone() {
        let mut block = ONES;
        block[0][3] = f32::from_bits(1);
        let before = block;
        let mut gain = Gain::UNCHANGED;
        gain.apply_rt(&mut block);
        assert_eq!(block, before);
    }

    #[test]
    fn a_ramp_is_a_straight_line_over_blocks_and_ends_at_its_target() {
        let mut gain = Gain::UNCHANGED;
        gain.go_to_rt(0.0, 200);
        let mut heard = Vec::new();
        for _ in 0..2 {
            let mut block = ONES;
            gain.apply_rt(&mut block);
            assert_eq!(block[0], block[1]);
            heard.extend_from_slice(&block[0]);
        }
        assert!(heard[..200].windows(2).all(|pair| pair[1] < pair[0] && pair[0] - pair[1] < 0.006), "no step is a click");
        assert!(heard[199..].iter().all(|sample| *sample == 0.0));
    }

    #[test]
    fn a_ramp_that_is_turned_round_goes_on_where_it_is() {
        let mut gain = Gain::UNCHANGED;
        gain.go_to_rt(0.0, 256);
        let mut block = ONES;
        gain.apply_rt(&mut block);
        let reached = block[0][BLOCK_FRAMES - 1];
        gain.go_to_rt(1.0, 128);
        let mut block = ONES;
        gain.apply_rt(&mut block);
        assert!((block[0][0] - reached).abs() < 0.01);
        assert_eq!(block[0][BLOCK_FRAMES - 1], 1.0);
    }
}
