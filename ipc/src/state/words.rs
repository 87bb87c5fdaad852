//! What a state segment holds, as words: ramps, writes, heads. Reading checks everything and says `None` to what no writer
//! can have written.

use crate::hash::ContentHash;
use crate::manifest::ElementType;

use super::layout::{HEAD_WORDS, RAMP_WORDS};
use super::{Head, OpenTrial, Ramp, Role, Write};

/// Words of a write.
pub const WRITE_WORDS: usize = 3;

const HAS_BEGUN: u64 = 1;
const IS_KEPT: u64 = 1 << 1;
const IS_FROZEN: u64 = 1 << 2;
const HAS_TRIAL: u64 = 1 << 3;
const IS_PATCH: u64 = 1 << 4;
const HAS_BREAK: u64 = 1 << 5;

/// Two halves of a word.
pub fn pack(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The halves of a word.
pub fn unpack(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// What a head has besides what [`Head`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub log_position: u64,
    pub applied: u64,
    pub ramps: u64,
}

/// The words of a head but for the first, which is the commit word.
pub fn head_to_words_rt(head: &Head, extent: Extent) -> [u64; HEAD_WORDS] {
    let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
    let mut words = [0; HEAD_WORDS];
    let kept = match head.role {
        Role::Running { kept } => kept.unwrap_or(0),
        Role::Kept => 0,
    };
    let is_patch = head.trial.is_some_and(|trial| trial.is_patch);
    words[1] = head.tick;
    words[2] = flag(head.has_begun, HAS_BEGUN)
        | flag(head.role == Role::Kept, IS_KEPT)
        | flag(head.is_frozen, IS_FROZEN)
        | flag(head.has_break, HAS_BREAK)
        | flag(head.trial.is_some(), HAS_TRIAL)
        | flag(is_patch, IS_PATCH);
    words[3] = pack(head.failed_in_a_row, head.trial.map_or(0, |trial| trial.ticks_left));
    words[4] = kept;
    words[5] = extent.log_position;
    words[6] = extent.applied;
    words[7] = extent.ramps;
    words[8] = head.trial.map_or(0, |trial| trial.request);
    words[9] = head.trial.map_or(0, |trial| pack(trial.fade_done_frames, trial.fade_total_frames));
    for (word, bytes) in words[10..14].iter_mut().zip(head.revision.0.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Reads a head back.
pub fn head_from_words(words: &[u64; HEAD_WORDS]) -> (Head, Extent) {
    let is = |flag: u64| words[2] & flag != 0;
    let mut revision = [0; 32];
    for (bytes, word) in revision.as_chunks_mut::<8>().0.iter_mut().zip(&words[10..14]) {
        *bytes = word.to_le_bytes();
    }
    let (failed_in_a_row, ticks_left) = unpack(words[3]);
    let (fade_done_frames, fade_total_frames) = unpack(words[9]);
    let trial = OpenTrial { request: words[8], is_patch: is(IS_PATCH), ticks_left, fade_done_frames, fade_total_frames };
    let head = Head {
        tick: words[1],
        has_begun: is(HAS_BEGUN),
        role: if is(IS_KEPT) { Role::Kept } else { Role::Running { kept: Some(words[4]).filter(|kept| *kept != 0) } },
        revision: ContentHash(revision),
        is_frozen: is(IS_FROZEN),
        has_break: is(HAS_BREAK),
        failed_in_a_row,
        trial: is(HAS_TRIAL).then_some(trial),
    };
    (head, Extent { log_position: words[5], applied: words[6], ramps: words[7] })
}

/// The words of a write.
pub fn write_to_words_rt(write: &Write) -> [u64; WRITE_WORDS] {
    [pack(write.memory, write.address), element_code_rt(write.element), u64::from_le_bytes(write.bytes)]
}

/// Reads a write back. Where it leads is checked where it is carried out.
pub fn write_from_words(words: &[u64; WRITE_WORDS]) -> Option<Write> {
    let (memory, address) = unpack(words[0]);
    Some(Write { memory, address, element: element_of(words[1])?, bytes: words[2].to_le_bytes() })
}

/// The words of a ramp.
pub fn ramp_to_words_rt(ramp: &Ramp) -> [u64; RAMP_WORDS] {
    let [place, element, bytes] = write_to_words_rt(&ramp.write);
    [place, element, bytes, ramp.from.to_bits(), ramp.to.to_bits(), pack(ramp.step, ramp.steps)]
}

/// Reads a ramp back.
pub fn ramp_from_words(words: &[u64; RAMP_WORDS]) -> Option<Ramp> {
    let [place, element, bytes, from, to, steps] = *words;
    let write = write_from_words(&[place, element, bytes])?;
    let (step, steps) = unpack(steps);
    (step < steps).then(|| Ramp { write, from: f64::from_bits(from), to: f64::from_bits(to), step, steps })
}

/// Pointers are written as the integers they are.
fn element_code_rt(element: ElementType) -> u64 {
    match element {
        ElementType::Int8 => 1,
        ElementType::Int8u => 2,
        ElementType::Int16 => 3,
        ElementType::Int16u => 4,
        ElementType::Int32 | ElementType::Pointer { .. } => 5,
        ElementType::Float32 => 6,
        ElementType::Float64 => 7,
    }
}

fn element_of(code: u64) -> Option<ElementType> {
    Some(match code {
        1 => ElementType::Int8,
        2 => ElementType::Int8u,
        3 => ElementType::Int16,
        4 => ElementType::Int16u,
        5 => ElementType::Int32,
        6 => ElementType::Float32,
        7 => ElementType::Float64,
        _ => return None,
    })
}
