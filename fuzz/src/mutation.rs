//! Changes to an input: single bits, numbers at the edges of their types, pieces moved, doubled, dropped and taken from
//! elsewhere, whole lines, and words of the format.

use crate::random::Random;

/// Numbers at which decoders go wrong.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xfa,
    0xfb,
    0xff,
    0x100,
    0x1000,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 52,
    i64::MAX as u64,
    u64::MAX,
];

/// Most changes to one input.
const MAX_CHANGES: usize = 6;

/// What an input is changed with.
pub struct Material<'a> {
    /// Inputs that pieces are taken from.
    pub corpus: &'a [Vec<u8>],
    /// Words of the format.
    pub words: &'a [&'a str],
    pub max_bytes: usize,
}

impl Material<'_> {
    /// One of the corpus, changed.
    pub fn mutation(&self, random: &mut Random) -> Vec<u8> {
        let mut input = random.pick(self.corpus).cloned().unwrap_or_default();
        for _ in 0..=random.below(MAX_CHANGES) {
            self.change(&mut input, random);
        }
        input.truncate(self.max_bytes);
        input
    }

    fn change(&self, input: &mut Vec<u8>, random: &mut Random) {
        match random.below(11) {
            0 | 1 => flip_bit(input, random),
            2 => put_byte(input, random),
            3 | 4 => put_edge(input, random),
            5 => drop_piece(input, random),
            6 => double_piece(input, random),
            7 => self.take_piece(input, random),
            8 => self.put_word(input, random),
            9 => move_line(input, random),
            _ => input.truncate(random.below(input.len() + 1)),
        }
    }

    /// Replaces a piece by one of another input.
    fn take_piece(&self, input: &mut Vec<u8>, random: &mut Random) {
        let Some(other) = random.pick(self.corpus) else { return };
        let taken = piece(other, random);
        let place = piece(input, random);
        input.splice(place, other[taken].iter().copied());
    }

    fn put_word(&self, input: &mut Vec<u8>, random: &mut Random) {
        let Some(word) = random.pick(self.words) else { return flip_bit(input, random) };
        let at = random.below(input.len() + 1);
        let end = if random.once_in(2) { at } else { (at + word.len()).min(input.len()) };
        input.splice(at..end, word.bytes());
    }
}

/// Somewhere in `input`: a place and mostly a short length.
fn piece(input: &[u8], random: &mut Random) -> std::ops::Range<usize> {
    let start = random.below(input.len() + 1);
    let longest = if random.once_in(4) { input.len() } else { 16 };
    let length = random.below(longest + 1).min(input.len() - start);
    start..start + length
}

fn flip_bit(input: &mut [u8], random: &mut Random) {
    let at = random.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn put_byte(input: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = if random.once_in(2) { at } else { (at + 1).min(input.len()) };
    input.splice(at..end, [random.bits() as u8]);
}

/// Writes an edge, or a number beside it, as binary or in decimal digits.
fn put_edge(input: &mut Vec<u8>, random: &mut Random) {
    let edge = random.pick(&EDGES).copied().unwrap_or_default();
    let number = edge.wrapping_add(random.below(3) as u64).wrapping_sub(1);
    let bytes = match random.below(4) {
        0 => number.to_string().into_bytes(),
        1 => vec![number as u8],
        2 => (number as u32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    };
    let at = random.below(input.len() + 1);
    let end = if random.once_in(3) { at } else { (at + bytes.len()).min(input.len()) };
    input.splice(at..end, bytes);
}

fn drop_piece(input: &mut Vec<u8>, random: &mut Random) {
    let place = piece(input, random);
    input.drain(place);
}

fn double_piece(input: &mut Vec<u8>, random: &mut Random) {
    let copy = input[piece(input, random)].to_vec();
    let at = random.below(input.len() + 1);
    for _ in 0..=random.below(3) {
        input.splice(at..at, copy.iter().copied());
    }
}

/// Takes one line of a text out and puts it, or a copy of it, elsewhere.
fn move_line(input: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let from = random.below(lines.len());
    let Some(line) = lines.get(from).cloned() else { return };
    if random.once_in(2) {
        lines.remove(from);
    }
    if !random.once_in(3) {
        lines.insert(random.below(lines.len() + 1), line);
    }
    *input = lines.concat();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_none_is_too_long() {
        let corpus = [b"one\ntwo\nthree\n".to_vec(), vec![7; 40], Vec::new()];
        let material = Material { corpus: &corpus, words: &["word"], max_bytes: 48 };
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..2_000).map(|_| material.mutation(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(3).iter().all(|input| input.len() <= 48));
        assert!(inputs(4).iter().filter(|input| corpus.contains(input)).count() < 1_000, "inputs are changed");
    }
}
