//! Patchwork: audio programs of known arithmetic, the reference model of the edit campaign.
//!
//! A [`Program`] is a list of modules of a few kinds: oscillators, counters, delay lines, feedback pairs, clips of a file, an
//! init-only module and a mixer. [`text`] writes it in the language, [`change`] says from the two programs alone what an edit must do,
//! [`machine`] computes what it must sound like, sample by sample in 32-bit floats. None of them shares code with Continuo.

pub mod change;
pub mod machine;
pub mod text;

use std::collections::BTreeSet;

/// A program, modules in the order in which they run.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub modules: Vec<Module>,
    /// Number written into a comment.
    pub comment: u32,
}

/// A module of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub id: String,
    pub kind: Kind,
}

/// What a module does. Fields in capitals in its comments are constants in its code; the others are defaults in memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Adds `step` to its phase, which wraps at 1. Gives phase · level · TRIM, or (phase − 0.5) · level · TRIM if CENTRED.
    Oscillator { phase: String, step: f32, level: f32, trim: f32, is_centred: bool },
    /// Adds INCREMENT to its count, which wraps at 65536, as an int or as a float. Gives count / 65536 · level.
    Counter { is_float: bool, increment: i32, level: f32 },
    /// Gives what module `input` gave `length` samples ago, times `gain`. The line is an array of floats, or of ints that
    /// hold floats.
    Delay { length: u32, is_int: bool, input: String, gain: f32 },
    /// Gives what module `input` gave `length` samples ago. A pointer into its own array goes round in it.
    Tape { length: u32, input: String },
    /// Gives `other` · keep + `drive` · 0.25. Two that are each other's `other` are a feedback loop.
    Echo { other: String, drive: String, keep: f32 },
    /// Plays the first `length` samples of [`text::CLIP_FILE`] round and round.
    Clip { length: u32 },
    /// Init-only: counts its runs and derives `base` · 7.
    Boot { base: i32 },
    /// Silent; fails in a named way after so many samples.
    Bomb { fuse: i32, way: Failure },
    /// Sums what all voices give, in the order they run in, into the left channel. Its item `beat`, which nothing but clients
    /// write, is the program's pulse.
    Mix,
}

/// How a bomb fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    DivisionByZero,
    Overflow,
    RunawayLoop,
}

/// What an item is declared as.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub name: String,
    pub shape: Shape,
    pub default: Default,
}

/// An item's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Int,
    Float,
    Pointer,
    Ints(u32),
    Floats(u32),
}

/// An item's default.
#[derive(Clone, Debug, PartialEq)]
pub enum Default {
    Zero,
    Int(i32),
    Float(f32),
    /// The item `out` of this module.
    OutOf(String),
    /// The item `tape` of the same module.
    OwnTape,
}

impl Shape {
    /// Number of words.
    pub fn words(self) -> u32 {
        match self {
            Self::Int | Self::Float | Self::Pointer => 1,
            Self::Ints(count) | Self::Floats(count) => count,
        }
    }

    /// Whether state of the one can be state of the other.
    pub fn is_same_element(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int, Self::Int) | (Self::Float, Self::Float) | (Self::Pointer, Self::Pointer) => true,
            (Self::Ints(_), Self::Ints(_)) | (Self::Floats(_), Self::Floats(_)) => true,
            (Self::Int | Self::Float | Self::Pointer | Self::Ints(_) | Self::Floats(_), _) => false,
        }
    }

    pub fn is_array(self) -> bool {
        matches!(self, Self::Ints(_) | Self::Floats(_))
    }
}

impl Module {
    pub fn new(id: &str, kind: Kind) -> Self {
        Self { id: id.to_owned(), kind }
    }

    /// Its memory items, in order of declaration.
    pub fn items(&self) -> Vec<Item> {
        let item = |name: &str, shape, default| Item { name: name.to_owned(), shape, default };
        let float = |name: &str, value: f32| item(name, Shape::Float, Default::Float(value));
        let int = |name: &str, value: i32| item(name, Shape::Int, Default::Int(value));
        let pointer = |name: &str, target: &String| item(name, Shape::Pointer, Default::OutOf(target.clone()));
        let out = item("out", Shape::Float, Default::Zero);
        match &self.kind {
            Kind::Oscillator { phase, step, level, .. } => {
                vec![item(phase, Shape::Float, Default::Zero), float("step", *step), float("level", *level), out]
            }
            Kind::Counter { is_float, level, .. } => {
                let count = if *is_float { Shape::Float } else { Shape::Int };
                vec![item("count", count, Default::Zero), float("level", *level), out]
            }
            Kind::Delay { length, is_int, input, gain } => {
                let line = if *is_int { Shape::Ints(*length) } else { Shape::Floats(*length) };
                let head = item("head", Shape::Int, Default::Zero);
                vec![item("line", line, Default::Zero), head, pointer("input", input), float("gain", *gain), out]
            }
            Kind::Tape { length, input } => {
                let tape = item("tape", Shape::Floats(*length), Default::Zero);
                vec![tape, item("cursor", Shape::Pointer, Default::OwnTape), pointer("input", input), out]
            }
            Kind::Echo { other, drive, keep } => vec![pointer("other", other), pointer("drive", drive), float("keep", *keep), out],
            Kind::Clip { length } => {
                vec![item("clip", Shape::Floats(*length), Default::Zero), item("position", Shape::Int, Default::Zero), out]
            }
            Kind::Boot { base } => {
                vec![item("runs", Shape::Int, Default::Zero), int("base", *base), item("derived", Shape::Int, Default::Zero)]
            }
            Kind::Bomb { fuse, .. } => vec![int("fuse", *fuse)],
            Kind::Mix => {
                let position = item("position", Shape::Int, Default::Zero);
                vec![item("left", Shape::Floats(128), Default::Zero), position, item("beat", Shape::Float, Default::Zero)]
            }
        }
    }

    /// Modules it reads from by a pointer.
    pub fn inputs(&self) -> Vec<&String> {
        match &self.kind {
            Kind::Delay { input, .. } | Kind::Tape { input, .. } => vec![input],
            Kind::Echo { other, drive, .. } => vec![other, drive],
            Kind::Oscillator { .. } | Kind::Counter { .. } | Kind::Clip { .. } => Vec::new(),
            Kind::Boot { .. } | Kind::Bomb { .. } | Kind::Mix => Vec::new(),
        }
    }

    /// The same, to be changed.
    pub fn inputs_mut(&mut self) -> Vec<&mut String> {
        match &mut self.kind {
            Kind::Delay { input, .. } | Kind::Tape { input, .. } => vec![input],
            Kind::Echo { other, drive, .. } => vec![other, drive],
            Kind::Oscillator { .. } | Kind::Counter { .. } | Kind::Clip { .. } => Vec::new(),
            Kind::Boot { .. } | Kind::Bomb { .. } | Kind::Mix => Vec::new(),
        }
    }

    /// Whether it gives something to hear.
    pub fn is_voice(&self) -> bool {
        match self.kind {
            Kind::Oscillator { .. } | Kind::Counter { .. } | Kind::Delay { .. } => true,
            Kind::Tape { .. } | Kind::Echo { .. } | Kind::Clip { .. } => true,
            Kind::Boot { .. } | Kind::Bomb { .. } | Kind::Mix => false,
        }
    }
}

impl Program {
    /// What the campaign starts from: two oscillators, a counter, a delay line, a tape, a feedback pair, an init-only module.
    pub fn base() -> Self {
        let oscillator = |step: f32, level: f32| Kind::Oscillator { phase: "phase".to_owned(), step, level, trim: 0.5, is_centred: false };
        let echo = |other: &str, drive: &str| Kind::Echo { other: other.to_owned(), drive: drive.to_owned(), keep: 0.5 };
        let modules = vec![
            Module::new("boot", Kind::Boot { base: 3 }),
            Module::new("anchor", oscillator(40.0 / 4096.0, 0.5)),
            Module::new("osc1", oscillator(18.0 / 4096.0, 0.25)),
            Module::new("count1", Kind::Counter { is_float: false, increment: 77, level: 0.25 }),
            Module::new("delay1", Kind::Delay { length: 500, is_int: false, input: "osc1".to_owned(), gain: 0.5 }),
            Module::new("tape1", Kind::Tape { length: 300, input: "count1".to_owned() }),
            Module::new("left1", echo("right1", "osc1")),
            Module::new("right1", echo("left1", "count1")),
            Module::new("mix", Kind::Mix),
        ];
        Self { modules, comment: 0 }
    }

    /// The voices in the order they run in.
    pub fn voices(&self) -> impl Iterator<Item = &Module> {
        self.modules.iter().filter(|module| module.is_voice())
    }

    pub fn module(&self, id: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.id == id)
    }

    /// The feedback loops: sets of at least two modules that all reach each other.
    pub fn loops(&self) -> BTreeSet<BTreeSet<&str>> {
        let reached: Vec<BTreeSet<&str>> = self.modules.iter().map(|module| self.reached_from(module)).collect();
        let members = |index: usize| -> BTreeSet<&str> {
            let id = self.modules[index].id.as_str();
            let mates = reached[index].iter().copied();
            mates.filter(|mate| self.modules.iter().zip(&reached).any(|(m, from)| m.id == *mate && from.contains(id))).collect()
        };
        (0..self.modules.len()).map(members).filter(|members| members.len() > 1).collect()
    }

    fn reached_from<'a>(&'a self, start: &'a Module) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut left = vec![start];
        while let Some(module) = left.pop() {
            for input in module.inputs() {
                if reached.insert(input.as_str()) {
                    left.extend(self.module(input));
                }
            }
        }
        reached
    }
}
