//! Random edits of patchworks: every class, and every way in which an edit can go wrong. The same seed gives the same edits.

use crate::patchwork::{Failure, Kind, Module, Program, text};

/// Environment variable with another seed than the usual one.
const SEED: &str = "CONTINUO_SEED";

/// The seed of an ordinary run, so that the same commit gives the same edits everywhere.
const USUAL_SEED: u64 = 3;

/// Fewest and most modules that a program is edited to.
const MODULES: std::ops::RangeInclusive<usize> = 7..=16;

/// Longest fuse of a failing edit, in samples: well within its trial.
const LONGEST_FUSE: u64 = 6_000;

/// Xorshift (Marsaglia), 64 bits.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The seed of this run, printed: from `CONTINUO_SEED`, or the usual one.
    pub fn from_environment(test: &str) -> Self {
        let seed = std::env::var(SEED).ok().map_or(USUAL_SEED, |seed| seed.parse().expect("CONTINUO_SEED is a number"));
        println!("{test}: {SEED}={seed}");
        Self::new(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// True in one of so many cases.
    pub fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A multiple of 1/4096 in `from`..`to`, given in that unit: exact in floats.
    pub fn fraction(&mut self, from: u64, to: u64) -> f32 {
        (from + self.below(to - from)) as f32 / 4096.0
    }
}

/// What somebody saves.
#[derive(Clone, Debug)]
pub enum Edit {
    /// A program that works.
    Good { name: &'static str, program: Program },
    /// A text that does not compile; the error is at this line, where that is known.
    Broken { name: &'static str, text: String, line: Option<u64> },
    /// A program that compiles, and fails after so many samples.
    Failing { program: Program, fuse: i32 },
}

/// One way to edit a program; `None` where there is nothing to edit that way.
type Way = fn(&mut Edits, &Program) -> Option<Program>;

/// The ways, each with how often it is taken.
const WAYS: [(u64, &str, Way); 14] = [
    (16, "another default", Edits::default_value),
    (6, "another input", Edits::retarget),
    (12, "other code", Edits::code),
    (10, "a module added", Edits::add),
    (8, "a module removed", Edits::remove),
    (8, "modules reordered", Edits::reorder),
    (6, "a module renamed", Edits::rename_module),
    (6, "an item renamed", Edits::rename_item),
    (8, "an array resized", Edits::resize),
    (6, "an item retyped", Edits::retype),
    (3, "an array retyped", Edits::retype_array),
    (4, "a feedback loop added", Edits::add_loop),
    (4, "a feedback loop opened or closed", Edits::rewire_loop),
    (5, "a comment", Edits::comment),
];

/// A source of edits.
#[derive(Clone, Debug)]
pub struct Edits {
    pub random: Random,
    names: u32,
    has_clips: bool,
}

impl Edits {
    pub fn new(random: Random) -> Self {
        Self { random, names: 1, has_clips: false }
    }

    /// The same with modules that play a file, which has to be beside the text: `patchwork::text::CLIP_FILE`.
    pub fn with_clips(random: Random) -> Self {
        Self { has_clips: true, ..Self::new(random) }
    }

    /// The next edit of this program.
    pub fn next(&mut self, program: &Program) -> Edit {
        match self.random.below(20) {
            0 | 1 => self.broken(program),
            2 => self.failing(program),
            _ => self.good(program),
        }
    }

    /// The next edit that works.
    pub fn good(&mut self, program: &Program) -> Edit {
        loop {
            let mut ticket = self.random.below(WAYS.iter().map(|(weight, ..)| weight).sum());
            let is_drawn = |(weight, ..): &&(u64, &str, Way)| {
                let is_drawn = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                is_drawn
            };
            let Some((_, name, way)) = WAYS.iter().find(is_drawn) else { continue };
            if let Some(edited) = way(self, program).filter(|edited| edited != program && MODULES.contains(&edited.modules.len())) {
                return Edit::Good { name, program: edited };
            }
        }
    }

    /// A good edit that has a boundary to wait for, and of which nothing is to be acknowledged.
    pub fn unasked(&mut self, program: &Program) -> Program {
        loop {
            if let Edit::Good { program: edited, .. } = self.good(program)
                && matches!(crate::patchwork::change::between(program, &edited).class, "A" | "B")
            {
                return edited;
            }
        }
    }

    fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}{}", self.names)
    }

    /// A module that may be edited, and satisfies a condition. The anchor is never edited.
    fn some(&mut self, program: &Program, is_wanted: impl Fn(&Module) -> bool) -> Option<usize> {
        let fitting = program.modules.iter().enumerate().filter(|(_, module)| module.id != "anchor" && is_wanted(module));
        let fitting: Vec<usize> = fitting.map(|(index, _)| index).collect();
        (!fitting.is_empty()).then(|| *self.random.pick(&fitting))
    }

    // ------------------------------------------------------------------------------------------------ class A

    fn default_value(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| !matches!(module.kind, Kind::Mix | Kind::Bomb { .. } | Kind::Clip { .. }))?;
        let (level, step) = (self.random.fraction(256, 1_024), self.random.fraction(8, 200));
        match &mut edited.modules[index].kind {
            Kind::Oscillator { step: current, .. } if self.random.one_in(2) => *current = step,
            Kind::Oscillator { level: current, .. } | Kind::Counter { level: current, .. } => *current = level,
            Kind::Delay { gain, .. } => *gain = 2.0 * level,
            Kind::Echo { keep, .. } => *keep = 2.0 * level,
            Kind::Boot { base } => *base = self.random.below(1_000) as i32,
            Kind::Tape { .. } | Kind::Clip { .. } | Kind::Bomb { .. } | Kind::Mix => return None,
        }
        Some(edited)
    }

    /// Lets a delay or an echo read from another voice. Class C where that closes or opens a loop.
    fn retarget(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| !module.inputs().is_empty())?;
        let is_delay = matches!(program.modules[index].kind, Kind::Delay { .. } | Kind::Tape { .. });
        let own = program.modules[index].id.clone();
        let is_source = |voice: &&Module| matches!(voice.kind, Kind::Oscillator { .. } | Kind::Counter { .. });
        let voices = program.voices().filter(|voice| voice.id != own && (is_delay || is_source(voice)));
        let voices: Vec<String> = voices.map(|voice| voice.id.clone()).collect();
        let target = self.random.pick(&voices).clone();
        match &mut edited.modules[index].kind {
            Kind::Delay { input, .. } | Kind::Tape { input, .. } => *input = target,
            Kind::Echo { drive, .. } => *drive = target,
            Kind::Oscillator { .. } | Kind::Counter { .. } | Kind::Clip { .. } => return None,
            Kind::Boot { .. } | Kind::Bomb { .. } | Kind::Mix => return None,
        }
        Some(edited)
    }

    // ------------------------------------------------------------------------------------------------ class B

    fn code(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| matches!(module.kind, Kind::Oscillator { .. } | Kind::Counter { .. }))?;
        match &mut edited.modules[index].kind {
            Kind::Oscillator { is_centred, .. } if self.random.one_in(2) => *is_centred = !*is_centred,
            Kind::Oscillator { trim, .. } => *trim = self.random.fraction(512, 3_000),
            Kind::Counter { increment, .. } => *increment = 1 + self.random.below(400) as i32,
            _ => return None,
        }
        Some(edited)
    }

    fn add(&mut self, program: &Program) -> Option<Program> {
        let voices: Vec<String> = program.voices().map(|voice| voice.id.clone()).collect();
        let level = self.random.fraction(256, 1_024);
        let (stem, kind) = match self.random.below(4 + u64::from(self.has_clips)) {
            0 => {
                let (step, trim) = (self.random.fraction(8, 200), self.random.fraction(512, 3_000));
                ("osc", Kind::Oscillator { phase: "phase".to_owned(), step, level, trim, is_centred: self.random.one_in(2) })
            }
            1 => {
                let increment = 1 + self.random.below(400) as i32;
                ("count", Kind::Counter { is_float: self.random.one_in(2), increment, level })
            }
            4 => ("clip", Kind::Clip { length: self.length() }),
            2 => ("tape", Kind::Tape { length: self.length(), input: self.random.pick(&voices).clone() }),
            _ => {
                let input = self.random.pick(&voices).clone();
                ("delay", Kind::Delay { length: self.length(), is_int: self.random.one_in(4), input, gain: 2.0 * level })
            }
        };
        let module = Module { id: self.name(stem), kind };
        Some(self.with(program, module))
    }

    fn length(&mut self) -> u32 {
        20 + self.random.below(4_000) as u32
    }

    fn with(&mut self, program: &Program, module: Module) -> Program {
        let mut edited = program.clone();
        let at = self.random.below(edited.modules.len() as u64 + 1) as usize;
        edited.modules.insert(at, module);
        edited
    }

    /// Whoever read from the module reads from the anchor then.
    fn remove(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, Module::is_voice)?;
        let removed = edited.modules.remove(index).id;
        redirect(&mut edited, &removed, "anchor");
        Some(edited)
    }

    fn reorder(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let count = edited.modules.len() as u64;
        edited.modules.swap(self.random.below(count) as usize, self.random.below(count) as usize);
        Some(edited)
    }

    fn rename_module(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, Module::is_voice)?;
        let name = self.name("voice");
        let old = std::mem::replace(&mut edited.modules[index].id, name.clone());
        redirect(&mut edited, &old, &name);
        Some(edited)
    }

    fn rename_item(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| matches!(module.kind, Kind::Oscillator { .. }))?;
        let name = self.name("phase");
        let Kind::Oscillator { phase, .. } = &mut edited.modules[index].kind else { return None };
        *phase = name;
        Some(edited)
    }

    fn resize(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| matches!(module.kind, Kind::Delay { .. } | Kind::Tape { .. } | Kind::Clip { .. }))?;
        let new = self.length();
        match &mut edited.modules[index].kind {
            Kind::Delay { length, .. } | Kind::Clip { length } => *length = new,
            // A tape only grows; going back to an earlier revision shrinks it.
            Kind::Tape { length, .. } => *length += 1 + new / 4,
            _ => return None,
        }
        Some(edited)
    }

    fn retype(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| matches!(module.kind, Kind::Counter { .. }))?;
        let Kind::Counter { is_float, .. } = &mut edited.modules[index].kind else { return None };
        *is_float = !*is_float;
        Some(edited)
    }

    // ------------------------------------------------------------------------------------------------ class C

    fn retype_array(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let index = self.some(program, |module| matches!(module.kind, Kind::Delay { .. }))?;
        let Kind::Delay { is_int, .. } = &mut edited.modules[index].kind else { return None };
        *is_int = !*is_int;
        Some(edited)
    }

    fn add_loop(&mut self, program: &Program) -> Option<Program> {
        let (left, right) = (self.name("left"), self.name("right"));
        let keep = self.random.fraction(512, 2_048);
        let echo = |other: &String| Kind::Echo { other: other.clone(), drive: "anchor".to_owned(), keep };
        let (one, two) = (Module::new(&left, echo(&right)), Module::new(&right, echo(&left)));
        let with_one = self.with(program, one);
        Some(self.with(&with_one, two))
    }

    fn rewire_loop(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        let is_echo = |module: &Module| matches!(module.kind, Kind::Echo { .. });
        let index = self.some(program, is_echo)?;
        let own = program.modules[index].id.clone();
        let fellow = self.some(program, |module| is_echo(module) && module.id != own)?;
        let fellow = program.modules[fellow].id.clone();
        let Kind::Echo { other, .. } = &mut edited.modules[index].kind else { return None };
        *other = if other == "anchor" { fellow } else { "anchor".to_owned() };
        Some(edited)
    }

    // --------------------------------------------------------------------------------------------- class none

    fn comment(&mut self, program: &Program) -> Option<Program> {
        let mut edited = program.clone();
        edited.comment = self.random.below(1_000_000) as u32;
        Some(edited)
    }

    // ------------------------------------------------------------------------------------------------- wrong

    /// A text that does not compile.
    pub fn broken(&mut self, program: &Program) -> Edit {
        let whole = text::of(program);
        let stores = whole.lines().enumerate().filter(|(_, line)| *line == "store");
        let after: Vec<usize> = stores.map(|(index, _)| index + 1).collect();
        let at = *self.random.pick(&after);
        let with = |inserted: &[&str]| {
            let mut lines: Vec<&str> = whole.lines().collect();
            lines.splice(at..at, inserted.iter().copied());
            lines.join("\n")
        };
        let line = Some(at as u64 + 1);
        match self.random.below(5) {
            0 => Edit::Broken { name: "an unknown instruction", text: with(&["puhs 1"]), line },
            1 => Edit::Broken { name: "an undeclared identifier", text: with(&["push frequenzy", "drop"]), line },
            2 => Edit::Broken { name: "a value left on the stack", text: with(&["push 1"]), line: None },
            3 => Edit::Broken { name: "an unclosed block", text: with(&["push 1", "if"]), line: None },
            _ => {
                // Within the entry: what ends after it may well be a whole program.
                let opened = whole.find("entry main").map_or(0, |at| at + "entry main".len());
                let closed = whole.find("\nentryEnd").unwrap_or(whole.len());
                let end = opened + self.random.below((closed - opened) as u64) as usize;
                Edit::Broken { name: "half a file", text: whole[..end].to_owned(), line: None }
            }
        }
    }

    /// A program with a bomb in it.
    pub fn failing(&mut self, program: &Program) -> Edit {
        let fuse = if self.random.one_in(3) { 0 } else { self.random.below(LONGEST_FUSE) as i32 };
        self.failing_after(program, fuse)
    }

    /// A program with a bomb in it that goes off after so many samples.
    pub fn failing_after(&mut self, program: &Program, fuse: i32) -> Edit {
        let way = *self.random.pick(&[Failure::DivisionByZero, Failure::Overflow, Failure::RunawayLoop]);
        let module = Module { id: self.name("bomb"), kind: Kind::Bomb { fuse, way } };
        Edit::Failing { program: self.with(program, module), fuse }
    }
}

fn redirect(program: &mut Program, from: &str, to: &str) {
    for input in program.modules.iter_mut().flat_map(Module::inputs_mut).filter(|input| *input == from) {
        *input = to.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_edits() {
        let run = || {
            let mut edits = Edits::new(Random::new(7));
            let mut program = Program::base();
            for _ in 0..300 {
                if let Edit::Good { program: edited, .. } = edits.good(&program) {
                    program = edited;
                }
            }
            text::of(&program)
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn half_a_file_is_never_a_whole_program() {
        let mut edits = Edits::new(Random::new(777));
        let program = Program::base();
        let halves = (0..2_000).filter_map(|_| match edits.broken(&program) {
            Edit::Broken { name: "half a file", text, .. } => Some(text),
            _ => None,
        });
        assert!(halves.inspect(|text| assert!(text.contains("entry main") && !text.contains("entryEnd"))).count() > 100);
    }

    #[test]
    fn every_class_of_edit_is_drawn() {
        let mut edits = Edits::new(Random::new(11));
        let mut program = Program::base();
        let mut classes = std::collections::BTreeMap::<&str, u32>::new();
        for _ in 0..400 {
            match edits.next(&program) {
                Edit::Good { program: edited, .. } => {
                    *classes.entry(crate::patchwork::change::between(&program, &edited).class).or_default() += 1;
                    program = edited;
                }
                Edit::Broken { .. } => *classes.entry("broken").or_default() += 1,
                Edit::Failing { .. } => *classes.entry("failing").or_default() += 1,
            }
        }
        for class in ["none", "A", "B", "C", "broken", "failing"] {
            assert!(classes.get(class) > Some(&10), "{class}: {classes:?}");
        }
    }
}
