//! What a patchwork must sound like: a machine of its own that computes every sample in 32-bit floats, and carries state from
//! one program to the next by the rules of DESIGN §9.

use std::collections::BTreeMap;

use super::{Default, Kind, Program};
use super::{change, text};

/// Frames in a tick.
const FRAMES: usize = 128;

/// A program with its state.
#[derive(Clone, Debug)]
pub struct Machine {
    program: Program,
    words: Vec<u32>,
    places: BTreeMap<(String, String), Place>,
    steps: Vec<Step>,
}

/// Where an item is among the machine's words.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: usize,
    words: usize,
}

/// A module ready to be computed: indices of its words, and the constants of its code.
#[derive(Clone, Debug)]
enum Step {
    Oscillator { phase: usize, step: usize, level: usize, out: usize, trim: f32, is_centred: bool },
    Counter { count: usize, level: usize, out: usize, is_float: bool, increment: i32 },
    Delay { line: usize, length: usize, head: usize, input: usize, gain: usize, out: usize },
    Tape { tape: usize, length: usize, cursor: usize, input: usize, out: usize },
    Echo { other: usize, drive: usize, keep: usize, out: usize },
    Clip { clip: usize, length: usize, position: usize, out: usize },
    Bomb { fuse: usize },
    Mix { outs: Vec<usize> },
}

impl Machine {
    /// A program at its defaults, initialised.
    pub fn new(program: &Program) -> Self {
        let mut places = BTreeMap::new();
        let mut end = 0;
        for module in &program.modules {
            for item in module.items() {
                let words = item.shape.words() as usize;
                places.insert((module.id.clone(), item.name), Place { first: end, words });
                end += words;
            }
        }
        let mut machine = Self { program: program.clone(), words: vec![0; end], places, steps: Vec::new() };
        for module in &program.modules {
            for item in module.items() {
                let at = machine.place(&module.id, &item.name).first;
                machine.words[at] = machine.word_of(&module.id, &item.default);
            }
        }
        machine.load_clips();
        machine.steps = program.modules.iter().filter_map(|module| machine.step(&module.id, &module.kind)).collect();
        machine.boot();
        machine
    }

    /// Goes over to another program: equal items keep their state, what has another default takes it.
    pub fn change_to(&mut self, program: &Program) {
        let expected = change::between(&self.program, program);
        let mut next = Self::new(program);
        next.run_boot_backwards();
        let kept = next.places.iter().filter_map(|(key, to)| self.places.get(key).map(|from| (key, *from, *to)));
        let kept: Vec<_> = kept.map(|((module, item), from, to)| (module.clone(), item.clone(), from, to)).collect();
        for (module, item, from, to) in kept {
            let shape = |program: &Program| {
                program.module(&module).and_then(|m| m.items().into_iter().find(|i| i.name == item)).map(|found| found.shape)
            };
            let is_same = shape(&self.program).zip(shape(program)).is_some_and(|(one, other)| one.is_same_element(other));
            let is_pointer = shape(program) == Some(super::Shape::Pointer);
            // Nothing writes pointers to other modules, so one always points where its default does, wherever that is now.
            if is_same && !is_pointer && !expected.patched.contains(&format!("{module}:{item}")) {
                let words = from.words.min(to.words);
                next.words[to.first..to.first + words].copy_from_slice(&self.words[from.first..from.first + words]);
            }
        }
        next.take_cursors_of(self);
        next.load_clips();
        if expected.reruns_boot {
            next.boot();
        }
        *self = next;
    }

    /// Cursors go on where they were in their tapes; one whose place is gone goes back to the start.
    fn take_cursors_of(&mut self, before: &Self) {
        let modules = self.program.modules.iter().filter(|module| matches!(module.kind, Kind::Tape { .. }));
        let kept: Vec<String> = modules.map(|module| module.id.clone()).filter(|id| before.program.module(id).is_some()).collect();
        for id in kept {
            let (from, to) = (before.place(&id, "tape"), self.place(&id, "tape"));
            let offset = before.word(&id, "cursor") as usize - from.first;
            if offset < to.words {
                let cursor = self.place(&id, "cursor").first;
                self.words[cursor] = (to.first + offset) as u32;
            }
        }
    }

    /// Writes a float item.
    pub fn set(&mut self, module: &str, item: &str, value: f32) {
        let at = self.place(module, item).first;
        self.words[at] = value.to_bits();
    }

    /// The first word of an item.
    pub fn word(&self, module: &str, item: &str) -> u32 {
        self.words[self.place(module, item).first]
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Computes one tick: what it gives on the left.
    pub fn tick(&mut self) -> [f32; FRAMES] {
        let mut left = [0.0; FRAMES];
        for sample in &mut left {
            for step in &self.steps {
                run(step, &mut self.words, sample);
            }
        }
        left
    }

    fn place(&self, module: &str, item: &str) -> Place {
        let key = (module.to_owned(), item.to_owned());
        *self.places.get(&key).unwrap_or_else(|| panic!("the model has no item {module}:{item}"))
    }

    fn word_of(&self, module: &str, default: &Default) -> u32 {
        match default {
            Default::Zero => 0,
            Default::Int(value) => *value as u32,
            Default::Float(value) => value.to_bits(),
            Default::OutOf(module) => self.place(module, "out").first as u32,
            Default::OwnTape => self.place(module, "tape").first as u32,
        }
    }

    /// The file is written over the defaults. What was loaded once is kept, and is the same.
    fn load_clips(&mut self) {
        let clips = self.program.modules.iter().filter(|module| matches!(module.kind, Kind::Clip { .. }));
        let places: Vec<Place> = clips.map(|module| self.place(&module.id, "clip")).collect();
        for place in places {
            for index in 0..place.words {
                self.words[place.first + index] = text::clip_sample(index).to_bits();
            }
        }
    }

    /// Runs the init-only module.
    fn boot(&mut self) {
        let (runs, base, derived) = self.boot_places();
        self.words[runs] = self.words[runs].wrapping_add(1);
        self.words[derived] = self.words[base].wrapping_mul(7);
    }

    /// Takes the first run back: an edit does not initialise.
    fn run_boot_backwards(&mut self) {
        let (runs, _, derived) = self.boot_places();
        (self.words[runs], self.words[derived]) = (0, 0);
    }

    fn boot_places(&self) -> (usize, usize, usize) {
        let at = |item| self.place("boot", item).first;
        (at("runs"), at("base"), at("derived"))
    }

    fn step(&self, id: &str, kind: &Kind) -> Option<Step> {
        let at = |item: &str| self.place(id, item).first;
        let target = |pointer: &str| self.words[self.place(id, pointer).first] as usize;
        Some(match kind {
            Kind::Oscillator { phase, trim, is_centred, .. } => Step::Oscillator {
                phase: at(phase),
                step: at("step"),
                level: at("level"),
                out: at("out"),
                trim: *trim,
                is_centred: *is_centred,
            },
            Kind::Counter { is_float, increment, .. } => {
                Step::Counter { count: at("count"), level: at("level"), out: at("out"), is_float: *is_float, increment: *increment }
            }
            Kind::Delay { length, .. } => Step::Delay {
                line: at("line"),
                length: *length as usize,
                head: at("head"),
                input: target("input"),
                gain: at("gain"),
                out: at("out"),
            },
            Kind::Tape { length, .. } => {
                Step::Tape { tape: at("tape"), length: *length as usize, cursor: at("cursor"), input: target("input"), out: at("out") }
            }
            Kind::Echo { .. } => Step::Echo { other: target("other"), drive: target("drive"), keep: at("keep"), out: at("out") },
            Kind::Clip { length } => Step::Clip { clip: at("clip"), length: *length as usize, position: at("position"), out: at("out") },
            Kind::Boot { .. } => return None,
            Kind::Bomb { .. } => Step::Bomb { fuse: at("fuse") },
            Kind::Mix => Step::Mix { outs: self.program.voices().map(|voice| self.place(&voice.id, "out").first).collect() },
        })
    }
}

/// What a real-time thread makes of a result too small to be a normal number (DESIGN §10).
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}

fn read(words: &[u32], at: usize) -> f32 {
    f32::from_bits(words[at])
}

fn run(step: &Step, words: &mut [u32], left: &mut f32) {
    match step {
        Step::Oscillator { phase, step, level, out, trim, is_centred } => {
            let mut now = read(words, *phase) + read(words, *step);
            if now >= 1.0 {
                now -= 1.0;
            }
            words[*phase] = now.to_bits();
            let shape = if *is_centred { now - 0.5 } else { now };
            words[*out] = flushed(flushed(shape * read(words, *level)) * trim).to_bits();
        }
        Step::Counter { count, level, out, is_float, increment } => {
            let now = if *is_float {
                let mut now = read(words, *count) + *increment as f32;
                if now >= 65_536.0 {
                    now -= 65_536.0;
                }
                words[*count] = now.to_bits();
                now
            } else {
                words[*count] = words[*count].wrapping_add(*increment as u32) & 65_535;
                words[*count] as f32
            };
            words[*out] = flushed(flushed(now * (1.0 / 65_536.0)) * read(words, *level)).to_bits();
        }
        Step::Delay { line, length, head, input, gain, out } => {
            let at = words[*head] as usize % length;
            words[*out] = flushed(read(words, line + at) * read(words, *gain)).to_bits();
            words[line + at] = words[*input];
            words[*head] = at as u32 + 1;
        }
        Step::Tape { tape, length, cursor, input, out } => {
            let at = words[*cursor] as usize;
            words[*out] = words[at];
            words[at] = words[*input];
            let next = if at + 1 == tape + length { *tape } else { at + 1 };
            words[*cursor] = next as u32;
        }
        Step::Echo { other, drive, keep, out } => {
            let kept = flushed(read(words, *other) * read(words, *keep));
            words[*out] = flushed(kept + flushed(read(words, *drive) * 0.25)).to_bits();
        }
        Step::Clip { clip, length, position, out } => {
            let at = words[*position] as usize % length;
            words[*out] = words[clip + at];
            words[*position] = at as u32 + 1;
        }
        Step::Bomb { fuse } => words[*fuse] = words[*fuse].wrapping_sub(1),
        Step::Mix { outs } => *left = flushed(outs.iter().fold(0.0, |sum, out| sum + read(words, *out)) * 0.25),
    }
}
