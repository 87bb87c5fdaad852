//! Listening: what a recording holds, block by block, against what the voices must have given.
//!
//! A lane without a block is concealed: a decay, silence, a fade-in. While that happens to one voice the two others can still
//! be heard exactly: [`Side::Left`] and [`Side::Right`] have a channel each, and what happens to [`Side::Both`] happens to
//! both channels alike.

use super::voices::{Journal, Side};
use crate::live::BLOCK_FRAMES;

type Frames = [[f32; 2]];
type Expected = [[f32; BLOCK_FRAMES]; 3];

/// Largest difference that the rounding of a sum makes.
const ROUNDING: f32 = 1.0 / 8_388_608.0;

/// Blocks that a device host fades in over when it goes on for another one: 20 ms and one more.
const FADE_IN_BLOCKS: usize = 9;

/// Ticks that may pass between two parts of a recording, at most: what a killed device host had not yet written (a second of
/// audio), and what it takes to start another one, several times.
const PART_GAP_TICKS: u64 = 4_000;

/// A block in which a voice was not what it must have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Odd {
    pub side: Side,
    pub tick: u64,
}

/// What came of listening.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Blocks that were compared.
    pub blocks: u64,
    pub odd: Vec<Odd>,
    /// Differences that belong to nobody: more than one voice at a time, or parts in no place.
    pub unexplained: Vec<String>,
}

/// Compares all parts of a recording. `fade_out_blocks` are left out at the end of the last one.
pub fn compare(parts: &[Vec<[f32; 2]>], journals: &[Journal; 3], fade_out_blocks: usize) -> Heard {
    let mut heard = Heard::default();
    let mut next_tick = 0;
    for (number, part) in parts.iter().enumerate() {
        let end = if number + 1 == parts.len() { part.len().saturating_sub(fade_out_blocks * BLOCK_FRAMES) } else { part.len() };
        let place = if number == 0 { first_sound(part).map(|at| (at, 0)) } else { place(&part[..end], journals, next_tick) };
        let Some((skipped, tick)) = place else {
            // The first part may have ended before anything was heard.
            if number > 0 && end > 2 * FADE_IN_BLOCKS * BLOCK_FRAMES {
                heard.unexplained.push(format!("part {} ({} frames) fits nowhere after tick {next_tick}", number + 1, part.len()));
            }
            continue;
        };
        next_tick = heard.listen(&part[skipped.min(end)..end], journals, tick);
    }
    heard
}

/// Where the first part begins: with the first sample of the programs.
fn first_sound(part: &Frames) -> Option<usize> {
    part.iter().position(|frame| *frame != [0.0, 0.0])
}

/// Where a later part belongs: frames to leave out, and the tick of what follows. Its first sound is faded in.
fn place(part: &Frames, journals: &[Journal; 3], from_tick: u64) -> Option<(usize, u64)> {
    let skipped = first_sound(part)?.next_multiple_of(BLOCK_FRAMES) + FADE_IN_BLOCKS * BLOCK_FRAMES;
    // Not every block need be whole: whoever dies at the same time is concealed.
    let probes = (0..64).map(|block| skipped + block * BLOCK_FRAMES);
    let whole = probes.filter_map(|at| part.get(at..at + BLOCK_FRAMES).map(|block| (at, block)));
    for (at, block) in whole {
        let fits = |tick: &u64| is_exact(block, &expected(journals, *tick));
        if let Some(tick) = (from_tick..from_tick + PART_GAP_TICKS).find(fits) {
            let skipped_blocks = ((at - skipped) / BLOCK_FRAMES) as u64;
            return Some((skipped, tick.saturating_sub(skipped_blocks)));
        }
    }
    None
}

fn expected(journals: &[Journal; 3], tick: u64) -> Expected {
    journals.each_ref().map(|journal| journal.block(tick))
}

fn is_exact(block: &Frames, [left, right, both]: &Expected) -> bool {
    let fits = |(index, frame): (usize, &[f32; 2])| frame[0] == left[index] + both[index] && frame[1] == right[index] + both[index];
    block.iter().enumerate().all(fits)
}

impl Heard {
    /// Compares from `tick` on; returns the tick after the last one.
    fn listen(&mut self, frames: &Frames, journals: &[Journal; 3], mut tick: u64) -> u64 {
        for block in frames.chunks_exact(BLOCK_FRAMES) {
            let expected = expected(journals, tick);
            self.blocks += 1;
            if !is_exact(block, &expected) {
                match whose(block, &expected) {
                    Some(side) => self.odd.push(Odd { side, tick }),
                    None => self.unexplained.push(format!("tick {tick}: {}", first_difference(block, &expected))),
                }
            }
            tick += 1;
        }
        tick
    }

    /// Ticks in which this voice was not what it must have been.
    pub fn odd_ticks(&self, side: Side) -> impl Iterator<Item = u64> {
        self.odd.iter().filter(move |odd| odd.side == side).map(|odd| odd.tick)
    }
}

/// Which of the voices, alone, can have made this difference.
fn whose(block: &Frames, [left, right, both]: &Expected) -> Option<Side> {
    let all = |fits: &dyn Fn(usize, &[f32; 2]) -> bool| block.iter().enumerate().all(|(index, frame)| fits(index, frame));
    if all(&|index, frame| frame[1] == right[index] + both[index]) {
        return Some(Side::Left);
    }
    if all(&|index, frame| frame[0] == left[index] + both[index]) {
        return Some(Side::Right);
    }
    let is_alike = all(&|index, frame| ((frame[0] - left[index]) - (frame[1] - right[index])).abs() <= ROUNDING);
    is_alike.then_some(Side::Both)
}

fn first_difference(block: &Frames, [left, right, both]: &Expected) -> String {
    let expected = |index: usize| [left[index] + both[index], right[index] + both[index]];
    let differs = (0..block.len()).find(|index| block[*index] != expected(*index));
    differs.map_or_else(String::new, |index| format!("sample {index} is {:?}, must be {:?}", block[index], expected(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::voices::Variant;

    const BLOCKS: u64 = 80;

    fn journals() -> [Journal; 3] {
        let mut journals = Side::ALL.map(|side| Journal::new(side.first_variant()));
        journals[0].note(20, Variant { offset: 77, ..Side::Left.first_variant() });
        journals
    }

    /// What the voices give from a tick on, with so many blocks of silence before.
    fn render(from: u64, to: u64, silent_blocks: usize) -> Vec<[f32; 2]> {
        let journals = journals();
        let mut frames = vec![[0.0, 0.0]; silent_blocks * BLOCK_FRAMES];
        for tick in from..to {
            let [left, right, both] = expected(&journals, tick);
            frames.extend((0..BLOCK_FRAMES).map(|index| [left[index] + both[index], right[index] + both[index]]));
        }
        frames
    }

    fn listen(parts: &[Vec<[f32; 2]>]) -> Heard {
        compare(parts, &journals(), 0)
    }

    #[test]
    fn what_must_be_heard_is_not_odd() {
        let heard = listen(&[render(0, BLOCKS, 3)]);
        assert_eq!((heard.blocks, heard.odd, heard.unexplained), (BLOCKS, Vec::new(), Vec::new()));
    }

    #[test]
    fn a_voice_that_is_concealed_is_told_from_the_others() {
        let [mut left, mut right, mut both] = [0; 3].map(|_| render(0, BLOCKS, 0));
        let journals = journals();
        for index in 0..BLOCK_FRAMES {
            let at = 9 * BLOCK_FRAMES + index;
            left[at][0] -= 0.3 * Side::Left.first_variant().block(9)[index];
            right[at][1] -= 0.7 * journals[1].block(9)[index];
            let lost = 0.1 * journals[2].block(9)[index];
            both[at] = [both[at][0] - lost, both[at][1] - lost];
        }
        for (side, frames) in Side::ALL.into_iter().zip([left, right, both]) {
            let heard = listen(&[frames]);
            assert_eq!(heard.odd, [Odd { side, tick: 9 }]);
        }
    }

    #[test]
    fn one_altered_sample_is_odd_and_two_voices_at_once_are_unexplained() {
        let mut frames = render(0, BLOCKS, 0);
        frames[31 * BLOCK_FRAMES + 5][1] += STEP_OF_A_FLOAT;
        assert_eq!(listen(&[frames.clone()]).odd, [Odd { side: Side::Right, tick: 31 }]);
        frames[31 * BLOCK_FRAMES + 7][0] = 0.9;
        assert_eq!(listen(&[frames]).unexplained.len(), 1);
    }

    const STEP_OF_A_FLOAT: f32 = 1e-6;

    #[test]
    fn a_block_that_is_missing_or_played_twice_shows() {
        let mut short = render(0, BLOCKS, 0);
        short.drain(40 * BLOCK_FRAMES..41 * BLOCK_FRAMES);
        assert_eq!(listen(&[short]).unexplained.len(), BLOCKS as usize - 41);
    }

    #[test]
    fn a_later_part_is_found_where_it_belongs() {
        let heard = listen(&[render(0, 30, 2), render(33, BLOCKS, 4)]);
        assert_eq!((heard.odd.as_slice(), heard.unexplained.as_slice()), ([].as_slice(), [].as_slice()));
        assert_eq!(heard.blocks, 30 + (BLOCKS - 33 - FADE_IN_BLOCKS as u64));
    }
}
