//! Random programs, random edits, random memories: what holds for all of them. A failure prints its seed;
//! `CONTINUO_SEED=<seed>` runs that one alone.
//!
//! The expectation is worked out from the descriptions of both programs, element by element and without the code under
//! test: see [`Oracle`].

use std::collections::BTreeSet;

use ipc::manifest::{ElementType, Item, ModuleInfo, PointeeType};
use ipc::plan::{ChangeClass, Fate, StateKey};

use super::builder::{Built, Default, FLOAT, INT, ItemText, POINTER, SAME_RUNTIME, Text, bytes, text};
use super::ram::{Ram, Swap, roll_back, swap};
use crate::change::{classify, plan};

/// Pairs of programs in one test run; a few seconds.
const PAIRS: u64 = 3_000;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

// ------------------------------------------------------------------------------------------------------ programs

const ELEMENTS: [ElementType; 8] = [
    INT,
    INT,
    FLOAT,
    ElementType::Float64,
    ElementType::Int8,
    ElementType::Int16u,
    POINTER,
    ElementType::Pointer { base: PointeeType::Int, depth: 2 },
];

fn random_program(random: &mut Random) -> Text {
    let mut program = text();
    program.regions = vec!["fast".to_owned()];
    for module in 0..1 + random.below(6) {
        program = program.module(&format!("m{module}"));
        program.last().memory = u32::from(random.one_in(6));
        for _ in 0..random.below(7) {
            let item = random_item(random);
            program.last().items.push(item);
        }
    }
    aim(&mut program, random);
    program
}

/// Names repeat, so that some shadow others.
fn random_item(random: &mut Random) -> ItemText {
    let element = ELEMENTS[random.below(ELEMENTS.len())];
    let is_array = random.one_in(3);
    let count = if is_array { random.below(20) as u32 } else { 1 };
    let mut item = ItemText { name: format!("i{}", random.below(8)), element, is_array, count, default: Default::Zero };
    item.default = random_default(random, &item);
    item
}

fn random_default(random: &mut Random, item: &ItemText) -> Default {
    if random.one_in(2) || matches!(item.element, ElementType::Pointer { .. }) || item.count == 0 {
        return Default::Zero;
    }
    let elements = 1 + random.below(item.count as usize);
    let length = elements * item.element.bytes() as usize;
    bytes(&(0..length).map(|_| random.below(4) as u8).collect::<Vec<u8>>())
}

/// Gives some pointers and integers the address of an item as their default, and mends those that lost their target.
fn aim(program: &mut Text, random: &mut Random) {
    let names: Vec<(String, String)> =
        program.modules.iter().flat_map(|module| module.items.iter().map(|item| (module.id.clone(), item.name.clone()))).collect();
    for module in &mut program.modules {
        for item in module.items.iter_mut().filter(|item| !item.is_array) {
            let is_lost = matches!(&item.default, Default::Address(module, name, _) if !names.contains(&(module.clone(), name.clone())));
            let is_address = matches!(item.element, ElementType::Pointer { .. }) || (item.element == INT && random.one_in(3));
            if is_lost || (item.default == Default::Zero && is_address && random.one_in(2)) {
                let (module, name) = names[random.below(names.len())].clone();
                item.default = if is_address { Default::Address(module, name, 0) } else { Default::Zero };
            }
        }
    }
}

fn edit(program: &mut Text, random: &mut Random) {
    match random.below(12) {
        0 => program.gap_words = random.below(4) as u32,
        1 if program.modules.len() > 1 => drop(program.modules.remove(random.below(program.modules.len()))),
        2 => {
            let id = format!("m{}", random.below(9));
            if program.modules.iter().all(|module| module.id != id) {
                *program = program.clone().module(&id);
                let item = random_item(random);
                program.last().items.push(item);
            }
        }
        3 => program.comment_lines += 1,
        _ => edit_module(program, random),
    }
    aim(program, random);
}

fn edit_module(program: &mut Text, random: &mut Random) {
    let index = random.below(program.modules.len());
    let module = &mut program.modules[index];
    let position = random.below(module.items.len() + 1);
    match (random.below(8), module.items.get_mut(position)) {
        (0, _) => module.memory ^= 1,
        (1, _) => module.code.push('x'),
        (2, _) | (_, None) => module.items.insert(position, random_item(random)),
        (3, Some(_)) => drop(module.items.remove(position)),
        (4, Some(item)) => {
            item.element = ELEMENTS[random.below(ELEMENTS.len())];
            item.default = Default::Zero;
        }
        (5, Some(item)) if item.is_array => {
            item.count = random.below(20) as u32;
            item.default = random_default(random, item);
        }
        (6, Some(item)) => item.name = format!("i{}", random.below(8)),
        (_, Some(item)) => item.default = random_default(random, item),
    }
}

/// Memory after some ticks: random values; addresses of anything, of ends, and of nothing.
fn played(built: &Built, random: &mut Random) -> Ram {
    let mut ram = Ram::initial(built);
    let places: Vec<u32> = items(built).iter().filter(|(_, _, item)| item.words > 0).map(|(_, _, item)| item.byte_address).collect();
    for (_, module, item) in items(built) {
        let start = item.byte_address as usize;
        let bytes = &mut ram.0[module.memory as usize][start..start + item.element_bytes() as usize];
        if random.one_in(4) {
            continue;
        }
        bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
        for word in bytes.chunks_exact_mut(4).filter(|_| holds_addresses(item)) {
            let address = match random.below(8) {
                0 => 0,
                1 => random.next() as u32,
                _ => places[random.below(places.len())] + random.below(8) as u32,
            };
            word.copy_from_slice(&address.to_le_bytes());
        }
    }
    ram
}

// -------------------------------------------------------------------------------------------------------- oracle

/// All items with their state keys: of a name that is declared several times, the last has the plain key.
fn items(built: &Built) -> Vec<(StateKey, &ModuleInfo, &Item)> {
    let of_module = |module: &'_ ModuleInfo| -> Vec<StateKey> {
        let name = |item: &Item| item.name.clone();
        let key = |(index, item): (usize, &Item)| {
            let is_last = !module.items[index + 1..].iter().any(|other| other.name == item.name);
            let earlier = module.items[..index].iter().filter(|other| other.name == item.name).count() as u32;
            StateKey { module: module.id.clone(), item: name(item), shadowed: (!is_last).then_some(earlier) }
        };
        module.items.iter().enumerate().map(key).collect()
    };
    let modules = built.manifest.modules.iter();
    modules.flat_map(|module| of_module(module).into_iter().zip(&module.items).map(move |(key, item)| (key, module, item))).collect()
}

fn holds_addresses(item: &Item) -> bool {
    matches!(item.element, ElementType::Pointer { .. }) || (item.element == INT && !item.is_array && item.points_at.is_some())
}

/// What an address means: an item and an offset, or the bare number.
type Meaning = Result<(StateKey, u32), u32>;

fn meaning(built: &Built, memory: u32, address: u32) -> Meaning {
    let found = items(built).into_iter().find(|(_, module, item)| {
        let bytes = if item.element == ElementType::Float64 { item.count * 8 } else { item.words * 4 };
        module.memory == memory && (item.byte_address..item.byte_address + bytes).contains(&address)
    });
    found.map_or(Err(address), |(key, _, item)| Ok((key, address - item.byte_address)))
}

/// What must be in the new memory.
struct Oracle<'a> {
    old: &'a Built,
    new: &'a Built,
    memory: &'a Ram,
    initial: Ram,
    /// Items with an address whose target is gone.
    lost: BTreeSet<StateKey>,
}

impl Oracle<'_> {
    fn element(&mut self, key: &StateKey, before: (&ModuleInfo, &Item), after: (&ModuleInfo, &Item), index: u32) -> Vec<u8> {
        let size = after.1.element.bytes();
        let at = |ram: &Ram, (module, item): (&ModuleInfo, &Item)| {
            ram.0[module.memory as usize][(item.byte_address + index * size) as usize..][..size as usize].to_vec()
        };
        let new_default = at(&self.initial, after);
        let old_default = at(&Ram::initial(self.old), before);
        let state = at(self.memory, before);
        if !holds_addresses(before.1) || !holds_addresses(after.1) {
            let is_edited = old_default != new_default || before.1.points_at.is_some() != after.1.points_at.is_some();
            return if is_edited { new_default } else { state };
        }
        let pointee = |item: &Item| item.points_at.as_ref().map_or(0, |target| target.memory);
        let address = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let (from, to) = (pointee(before.1), pointee(after.1));
        let default_before = self.default_meaning(self.old, before.1, from, address(&old_default));
        if default_before != self.default_meaning(self.new, after.1, to, address(&new_default)) {
            return new_default;
        }
        match self.followed(from, to, address(&state)) {
            _ if before.1.points_at.is_some() && state == old_default => new_default,
            Some(address) => address.to_le_bytes().to_vec(),
            None => {
                self.lost.insert(key.clone());
                new_default
            }
        }
    }

    /// Also tells an address that is written as one from a number that happens to be one.
    fn default_meaning(&self, built: &Built, item: &Item, memory: u32, address: u32) -> (bool, Result<(StateKey, u32), Option<u32>>) {
        let named = item.points_at.as_ref().and_then(|target| Some((target.module.clone()?, target.item.clone()?)));
        let meant = match named {
            Some((module, item)) => Ok((StateKey { module, item, shadowed: None }, 0)),
            None => meaning(built, memory, address).map_err(Some),
        };
        (item.points_at.is_some(), meant)
    }

    fn followed(&self, from: u32, to: u32, address: u32) -> Option<u32> {
        let Ok((key, offset)) = meaning(self.old, from, address) else { return Some(address) };
        let (_, module, item) = items(self.new).into_iter().find(|(other, _, _)| *other == key)?;
        let bytes = if item.element == ElementType::Float64 { item.count * 8 } else { item.words * 4 };
        let stayed = items(self.old)
            .into_iter()
            .any(|(other, old_module, old)| other == key && (old_module.memory, old.byte_address) == (module.memory, item.byte_address));
        match offset < bytes {
            true if stayed => Some(address),
            true if module.memory == to => Some(item.byte_address + offset),
            _ => None,
        }
    }
}

// ---------------------------------------------------------------------------------------------------- properties

fn every_item_has_what_it_must_have(old: &Built, new: &Built, memory: &Ram, swap: &Swap) {
    let mut oracle = Oracle { old, new, memory, initial: Ram::initial(new), lost: BTreeSet::new() };
    let mut expected = Ram::initial(new);
    for (key, module, item) in items(new) {
        let Some((_, old_module, old_item)) = items(old).into_iter().find(|(other, _, _)| *other == key) else { continue };
        if (old_item.element, old_item.is_array) != (item.element, item.is_array) {
            continue;
        }
        for index in 0..item.count.min(old_item.count) {
            let bytes = oracle.element(&key, (old_module, old_item), (module, item), index);
            let start = (item.byte_address + index * item.element.bytes()) as usize;
            expected.0[module.memory as usize][start..start + bytes.len()].copy_from_slice(&bytes);
        }
    }
    for (key, module, item) in items(new) {
        let start = item.byte_address as usize;
        let range = start..start + item.element_bytes() as usize;
        let memory = module.memory as usize;
        assert_eq!(swap.memory.0[memory][range.clone()], expected.0[memory][range], "{key}");
    }
    let lost: BTreeSet<StateKey> = swap.migration.lost_pointers().into_iter().cloned().collect();
    assert_eq!(lost, oracle.lost);
}

/// What was announced is what happens: the fates account for every item, and agree with manifests and plan.
fn the_report_is_true(old: &Built, new: &Built, swap: &Swap) {
    let report = classify(old.revision(), new.revision(), &SAME_RUNTIME);
    assert_eq!(report, classify(old.revision(), new.revision(), &SAME_RUNTIME));
    let (before, after) = (keys(old), keys(new));
    let told = |is: &dyn Fn(Fate) -> bool| -> BTreeSet<StateKey> {
        report.items.iter().filter(|item| is(item.fate)).map(|item| item.key.clone()).collect()
    };
    assert_eq!(told(&|fate| fate == Fate::New), after.difference(&before).cloned().collect());
    assert_eq!(told(&|fate| fate == Fate::Discarded), before.difference(&after).cloned().collect());
    assert_eq!(report.items.len(), before.union(&after).count());
    let resets = told(&|fate| matches!(fate, Fate::Reset(_)));
    assert_eq!(resets, swap.migration.plan().resets.iter().cloned().collect());
    let at_risk: BTreeSet<&StateKey> = report.items.iter().filter(|item| item.may_lose_target).map(|item| &item.key).collect();
    assert!(swap.migration.lost_pointers().into_iter().all(|key| at_risk.contains(key)), "a loss that was not announced");
    assert_eq!(report.items.iter().any(|item| item.default_changed), !swap.migration.plan().patches.is_empty());
    let is_shallow = report.class <= ChangeClass::A;
    assert!(!is_shallow || report.items.iter().all(|item| item.fate == Fate::Kept), "{report:#?}");
    assert_eq!(report.class == ChangeClass::None, report.differences.is_empty());
}

fn keys(built: &Built) -> BTreeSet<StateKey> {
    items(built).into_iter().map(|(key, _, _)| key).collect()
}

/// Back at once, memory is what it was, to the last byte: what was dropped, reset or cut off included.
fn there_and_back_is_nothing(old: &Built, new: &Built, memory: &Ram, swap: &Swap) {
    let mut kept = memory.clone();
    roll_back(new, old, swap, &mut kept);
    assert_eq!(kept, *memory);
}

fn copies_are_merged(swap: &Swap) {
    let is_adjacent = |pair: &[ipc::plan::CopyRange]| {
        let end = |place: ipc::plan::Place| (place.memory, place.address + pair[0].bytes);
        end(pair[0].to) == (pair[1].to.memory, pair[1].to.address) && end(pair[0].from) == (pair[1].from.memory, pair[1].from.address)
    };
    assert!(!swap.migration.plan().copies.windows(2).any(is_adjacent));
}

fn check(seed: u64) {
    let mut random = Random(seed);
    let program = random_program(&mut random);
    let mut next = program.clone();
    (0..1 + random.below(5)).for_each(|_| edit(&mut next, &mut random));
    let (old, new) = (program.build(), next.build());
    assert_eq!(plan(old.revision(), new.revision()), plan(old.revision(), new.revision()));
    let memory = played(&old, &mut random);
    let swap = swap(&old, &new, &memory);
    every_item_has_what_it_must_have(&old, &new, &memory, &swap);
    the_report_is_true(&old, &new, &swap);
    there_and_back_is_nothing(&old, &new, &memory, &swap);
    copies_are_merged(&swap);
}

/// Prints the seed when the checks of it panic.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("CONTINUO_SEED={}", self.0);
        }
    }
}

#[test]
fn whatever_the_edit_no_state_is_lost_that_was_not_named() {
    if let Some(seed) = std::env::var("CONTINUO_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return check(seed);
    }
    for seed in 0..PAIRS {
        let _named = Named(seed);
        check(seed);
    }
}
