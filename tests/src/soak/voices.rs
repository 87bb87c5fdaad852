//! Programs whose every sample is known in advance, whatever is edited and whoever dies: what a soak listens for.
//!
//! A voice counts its samples; what it gives is a function of that count and of the variant that runs. Samples are whole
//! multiples of [`STEP`] below a quarter, so that two voices in one channel add up exactly.

use crate::live::BLOCK_FRAMES;

/// The step between two samples' values: exact in 32-bit floats, as is every sum of two voices.
pub const STEP: f32 = 1.0 / 4_194_304.0;

/// Bits of the count that are heard: the pattern is different from sample to sample for 2^20 samples.
const MASK: i32 = 0xF_FFFF;

/// Where a voice is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Left,
    Right,
    /// The same on both sides, under the two others: who differs from it on one side only can be told from it.
    Both,
}

impl Side {
    pub const ALL: [Self; 3] = [Self::Left, Self::Right, Self::Both];

    /// The runtime that plays there.
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Both => "both",
        }
    }

    /// Each voice begins with another factor, so that a voice in another's place shows.
    pub fn first_variant(self) -> Variant {
        let factor = match self {
            Self::Left => 1,
            Self::Right => 3,
            Self::Both => 5,
        };
        Variant { factor, offset: 0, pads: 0, fuse: None }
    }
}

/// How a voice sounds, and how it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Odd; in the code: another one is an edit of class B.
    pub factor: i32,
    /// A default in memory: another one is an edit of class A.
    pub offset: i32,
    /// Modules that only count.
    pub pads: u32,
    /// Samples after which it divides by zero.
    pub fuse: Option<u32>,
}

impl Variant {
    /// The program.
    pub fn text(self, side: Side) -> String {
        let settings = match side {
            Side::Left => "; @config audioRuntime.audioOutBufferLAddress m:out\n",
            Side::Right => "; @config audioRuntime.audioOutBufferRAddress m:out\n",
            Side::Both => "; @config audioRuntime.audioOutBufferLAddress m:out\n; @config audioRuntime.audioOutBufferRAddress m:out\n",
        };
        let pads: String = (0..self.pads).map(pad).collect();
        let bomb = self.fuse.map(bomb).unwrap_or_default();
        let Self { factor, offset, .. } = self;
        format!(
            "8f4e/v1

entry main
{pads}module m
; @config runtime AudioWorkletRuntime
{settings}float[] out 128
int n
int offset {offset}
int position
push &n\npush n\npush 1\nadd\nstore
push &out\npush position\npush 4\nmul\nadd
push n\npush {factor}\nmul\npush offset\nadd\npush {MASK}\nand\ncastToFloat\npush {STEP:?}\nmul
store
push &position\npush position\npush 1\nadd\npush 127\nand\nstore
moduleEnd
{bomb}entryEnd

function buffer
#export
loop 128
call main
loopEnd
functionEnd
"
        )
    }

    /// What it gives in a tick.
    pub fn block(self, tick: u64) -> [f32; BLOCK_FRAMES] {
        std::array::from_fn(|index| {
            let count = (tick * BLOCK_FRAMES as u64 + index as u64 + 1) as i32;
            (count.wrapping_mul(self.factor).wrapping_add(self.offset) & MASK) as f32 * STEP
        })
    }
}

fn pad(number: u32) -> String {
    format!("module a{number}\nint x {number}\nint[] ballast {}\npush &x\npush x\npush 1\nadd\nstore\nmoduleEnd\n", 1 + number % 7)
}

/// A constant that becomes 0 passes for a divisor that is not 0 (LANGUAGE §25, 12).
fn bomb(samples: u32) -> String {
    format!(
        "module z\nint fuse {samples}\npush &fuse\npush fuse\npush 1\nsub\nstore\npush fuse\npush 0\nlessThan\nif\npush &fuse\npush fuse\n\
         push 0.5\ncastToInt\ndiv\nstore\nifEnd\nmoduleEnd\n"
    )
}

/// A program for a worker runtime: `ticks` counts the calls.
pub const COUNTING: &str = "8f4e/v1
entry main
module m
; @config runtime WebWorkerRuntime
int ticks 0
push &ticks\npush ticks\npush 1\nadd\nstore
moduleEnd
entryEnd
";

/// What a voice has been, tick by tick.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: Vec<(u64, Variant)>,
}

impl Journal {
    pub fn new(first: Variant) -> Self {
        Self { entries: vec![(0, first)] }
    }

    /// From this tick on it is another variant.
    pub fn note(&mut self, tick: u64, variant: Variant) {
        self.entries.push((tick, variant));
    }

    /// What is running by what is known.
    pub fn last(&self) -> Variant {
        self.entries[self.entries.len() - 1].1
    }

    /// What must be heard in a tick: of entries for the same tick the later one counts.
    pub fn block(&self, tick: u64) -> [f32; BLOCK_FRAMES] {
        let entry = self.entries.iter().rev().find(|(from, _)| *from <= tick).unwrap_or(&self.entries[0]);
        entry.1.block(tick)
    }
}
