//! Random edits of random programs, each compiled relative to the one before. Every step is compared to a fresh compile of the
//! same text: what did not change stays where it was, and both do the same.
//!
//! `CONTINUO_SEED=n` runs the one sequence of that seed.

use std::fmt::Write;

use ipc::artifact::Artifact;
use ipc::manifest::{ElementType, Item, Manifest};
use wasmtime::Engine;

use crate::compiled;
use crate::layout::assert_no_overlap;
use crate::support::{Machine, engine};

const SEQUENCES: u64 = 12;
const EDITS: usize = 25;
const CYCLES: usize = 3;

/// A small generator of numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

const TYPES: [&str; 11] = ["int", "float", "float64", "int*", "int[]", "int8[]", "int16u[]", "float[]", "float64[]", "int*[]", "int"];

#[derive(Clone, Debug, PartialEq)]
struct ItemText {
    name: String,
    ty: &'static str,
    count: usize,
    default: usize,
    /// Module of which it starts with the address of the item `base`.
    target: Option<String>,
}

#[derive(Clone, Debug)]
struct ModuleText {
    id: String,
    items: Vec<ItemText>,
    step: usize,
    comments: usize,
}

/// A program of modules that each have an `int base` others may point at.
#[derive(Clone, Debug, Default)]
pub struct Text {
    modules: Vec<ModuleText>,
    made: usize,
    /// It has arrays of no elements, whose defaults shift those of the items behind them (LANGUAGE §25): then it has no
    /// addresses, as numbers that end up in pointers mean something else in another layout.
    has_empty_arrays: bool,
}

impl ItemText {
    fn random(random: &mut Random, name: String, text: &Text) -> Self {
        let ty = TYPES[random.below(TYPES.len())];
        let ty = if text.has_empty_arrays && ty.contains('*') { "int[]" } else { ty };
        let mut item = Self { name, ty, count: text.count(random, 7), default: 0, target: None };
        item.redefault(random, text);
        item
    }

    fn redefault(&mut self, random: &mut Random, text: &Text) {
        self.default = random.below(5);
        let is_address = self.ty.contains('*') || (self.ty == "int" && random.below(4) == 0);
        let has_target = is_address && random.below(5) > 0 && !text.modules.is_empty() && !text.has_empty_arrays;
        self.target = has_target.then(|| text.modules[random.below(text.modules.len())].id.clone());
    }

    fn line(&self) -> String {
        let value = match (&self.target, self.ty) {
            (Some(module), _) => format!("&{module}:base"),
            (None, "int*" | "int*[]") => String::new(),
            (None, "float" | "float[]") => format!("{}.5", self.default),
            (None, "float64" | "float64[]") => format!("{}.5f64", self.default),
            (None, _) => self.default.to_string(),
        };
        match self.ty.ends_with("[]") {
            true if self.count > 1 => format!("{} {} {} {value}\n", self.ty, self.name, self.count),
            // Too small for values; what these start with is one of the language's quirks.
            true => format!("{} {} {}\n", self.ty, self.name, self.count),
            false => format!("{} {} {value}\n", self.ty, self.name),
        }
    }

    fn code(&self, step: usize) -> String {
        let name = &self.name;
        match self.ty {
            "int" if self.target.is_none() => format!("push &{name}\npush {name}\npush {step}\nadd\nstore\n"),
            "float" => format!("push &{name}\npush {name}\npush {step}.25\nadd\nstore\n"),
            "float64" => format!("push &{name}\npush {name}\npush {step}.25f64\nadd\nstore\n"),
            "int*" if self.target.is_some() => format!("push &base\npush *{name}\npush base\nadd\nstore\n"),
            "int[]" if self.count > 1 => format!("push &{name}\npush base\nstore\n"),
            _ => String::new(),
        }
    }
}

impl Text {
    pub fn random(random: &mut Random, modules: usize, has_empty_arrays: bool) -> Self {
        let mut text = Self { has_empty_arrays, ..Self::default() };
        (0..modules).for_each(|_| text.add_module(random));
        text
    }

    fn count(&self, random: &mut Random, bound: usize) -> usize {
        random.below(bound).max(usize::from(!self.has_empty_arrays))
    }

    fn add_module(&mut self, random: &mut Random) {
        self.made += 1;
        // Ids sort at random, so that new modules come in anywhere in a fresh layout.
        let id = format!("m{}_{}", random.below(10), self.made);
        let base = ItemText { name: "base".to_owned(), ty: "int", count: 1, default: random.below(5), target: None };
        let mut module = ModuleText { id, items: vec![base], step: random.below(5), comments: 0 };
        for _ in 0..random.below(6) {
            self.made += 1;
            module.items.push(ItemText::random(random, format!("i{}", self.made), self));
        }
        let at = random.below(self.modules.len() + 1);
        self.modules.insert(at, module);
    }

    fn remove_module(&mut self, at: usize) {
        let removed = self.modules.remove(at);
        for item in self.modules.iter_mut().flat_map(|module| &mut module.items) {
            item.target.take_if(|target| *target == removed.id);
        }
    }

    pub fn edit(&mut self, random: &mut Random) -> &'static str {
        let at = random.below(self.modules.len());
        let added = ItemText::random(random, format!("i{}", self.made + 1), self);
        let count = self.count(random, 40);
        let module = &mut self.modules[at];
        let item = 1 + random.below(module.items.len());
        match random.below(11) {
            0 => {
                module.comments += 1;
                "comment"
            }
            1 => {
                module.step += 1;
                "constant"
            }
            2 if item < module.items.len() => {
                let mut changed = module.items[item].clone();
                changed.redefault(random, self);
                self.modules[at].items[item] = changed;
                "default"
            }
            3 | 4 => {
                self.made += 1;
                module.items.insert(item, added);
                "item added"
            }
            5 if item < module.items.len() => {
                module.items.remove(item);
                "item removed"
            }
            6 if item < module.items.len() => {
                module.items[item].count = count;
                "item resized"
            }
            7 if item < module.items.len() => {
                module.items[item] = ItemText { name: module.items[item].name.clone(), ..added };
                "item retyped"
            }
            8 if self.modules.len() > 1 => {
                self.remove_module(at);
                "module removed"
            }
            9 => {
                let module = self.modules.remove(at);
                let to = random.below(self.modules.len() + 1);
                self.modules.insert(to, module);
                "module reordered"
            }
            _ => {
                self.add_module(random);
                "module added"
            }
        }
    }

    pub fn source(&self) -> String {
        let mut text = String::from("8f4e/v1\nentry main\n");
        for module in &self.modules {
            let _ = write!(text, "module {}\n{}", module.id, "; a comment\n".repeat(module.comments));
            module.items.iter().for_each(|item| text.push_str(&item.line()));
            module.items.iter().for_each(|item| text.push_str(&item.code(module.step)));
            text.push_str("moduleEnd\n");
        }
        text.push_str("entryEnd\n");
        text
    }
}

/// Name, type and count of a module's items: what its layout depends on.
fn shape(module: &ModuleText) -> Vec<(&str, &str, usize)> {
    let count = |item: &ItemText| if item.ty.ends_with("[]") { item.count } else { 1 };
    module.items.iter().map(|item| (item.name.as_str(), item.ty, count(item))).collect()
}

fn addresses(manifest: &Manifest) -> Vec<(&str, u32)> {
    manifest.modules.iter().map(|module| (module.id.as_str(), module.byte_address)).collect()
}

/// What an item holds, addresses as the item they lie in.
fn state(manifest: &Manifest, item: &Item, memory: &[u8]) -> String {
    let start = item.byte_address as usize;
    let bytes = &memory[start..start + item.element_bytes() as usize];
    let is_address = matches!(item.element, ElementType::Pointer { .. }) || item.points_at.is_some();
    if !is_address {
        return format!("{bytes:02x?}");
    }
    let words = bytes.chunks_exact(4).map(|word| named(manifest, u32::from_le_bytes(word.try_into().unwrap())));
    words.collect::<Vec<_>>().join(" ")
}

fn named(manifest: &Manifest, address: u32) -> String {
    for module in &manifest.modules {
        for item in &module.items {
            let offset = u64::from(address).wrapping_sub(u64::from(item.byte_address));
            if offset < item.element_bytes() {
                return format!("{}:{}+{offset}", module.id, item.name);
            }
        }
    }
    format!("{address}")
}

fn states(manifest: &Manifest, memory: &[u8]) -> Vec<String> {
    let modules = manifest.modules.iter();
    modules
        .flat_map(|module| module.items.iter().map(|item| format!("{}:{} = {}", module.id, item.name, state(manifest, item, memory))))
        .collect()
}

/// Runs both and compares what they hold after initialisation and after every cycle.
fn assert_same_behaviour(engine: &Engine, left: &Artifact, right: &Artifact, context: &str) {
    let mut machines = [left, right].map(|artifact| Machine::new(engine, &artifact.wasm));
    let mut calls = vec!["initDefaults"];
    calls.extend(["main"; CYCLES]);
    for call in calls {
        machines.iter_mut().for_each(|machine| machine.call(call).unwrap());
        let [left, right] = [(&machines[0], left), (&machines[1], right)].map(|(machine, of)| states(&of.manifest, machine.memory(0)));
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left, right, "{context}, after {call}");
        }
        assert_eq!(left.len(), right.len());
    }
}

/// Runs one sequence of edits; returns how many of them had to lay memory out afresh.
fn run(engine: &Engine, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let modules = 2 + random.below(6);
    let mut text = Text::random(&mut random, modules, seed % 2 == 1);
    let mut previous = compiled(&text.source(), None);
    let mut afresh = 0;
    for step in 0..EDITS {
        let before = text.clone();
        let what = text.edit(&mut random);
        let source = text.source();
        let context = format!("seed {seed}, edit {step} ({what})\n{source}");
        let relative = compiled(&source, Some(&previous.manifest));
        let fresh = compiled(&source, None);
        let is_fresh = addresses(&relative.manifest) == addresses(&fresh.manifest);
        assert_eq!(relative.manifest.revision == fresh.manifest.revision, is_fresh, "{context}");
        let mut moved = 0;
        for module in &text.modules {
            let Some(old) = before.modules.iter().find(|old| old.id == module.id) else { continue };
            let is_moved = crate::address(&previous.manifest, &module.id) != crate::address(&relative.manifest, &module.id);
            moved += usize::from(is_moved && shape(old) == shape(module));
        }
        assert!(moved == 0 || is_fresh, "{moved} modules moved without need: {context}");
        afresh += usize::from(moved > 0);
        let used = |artifact: &Artifact| artifact.manifest.memories[0].required_bytes;
        assert!(used(&relative) <= 2 * used(&fresh) + 65_536, "{context}");
        assert_no_overlap(&relative.manifest, &context);
        assert_same_behaviour(engine, &relative, &fresh, &context);
        assert_eq!(compiled(&source, Some(&previous.manifest)), relative, "the same again: {context}");
        previous = relative;
    }
    afresh
}

#[test]
fn random_edits_move_nothing_that_did_not_change_and_programs_do_the_same() {
    let engine = engine();
    if let Some(seed) = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(&engine, seed);
        return;
    }
    println!("seeds 0 to {}", SEQUENCES - 1);
    let afresh: usize = (0..SEQUENCES).map(|seed| run(&engine, seed)).sum();
    assert_eq!(afresh, 0, "programs this small are never packed");
}
