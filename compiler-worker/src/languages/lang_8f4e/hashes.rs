//! Fingerprints of code: what a module or function does, apart from where its memory lies and what it starts with (DESIGN §9).
//!
//! An address counts as the item it names and the offset from its start, a name as the type it has. A called function counts with its
//! own fingerprint. Pure computation.

use std::collections::BTreeSet;

use ipc::hash::ContentHash;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::functions::Functions;
use super::instruction::Instruction;
use super::program::{AddressRange, Argument, DeclaredType, Function, Item, Line, Module, Program};
use crate::middle::inline::components;

/// What the code of a module or function is and what it refers to.
#[derive(Clone, Debug)]
pub struct CodeInfo {
    pub hash: ContentHash,
    /// Modules whose memory it names, through called functions too.
    pub modules: BTreeSet<usize>,
}

/// A body by itself: what it calls counts as names.
#[derive(Clone, Debug)]
pub struct OwnHash {
    hash: ContentHash,
    modules: BTreeSet<usize>,
    /// Names of the functions it calls, each once.
    callees: Vec<String>,
}

/// A body, with the functions that it calls by number.
struct Own {
    hash: ContentHash,
    modules: BTreeSet<usize>,
    callees: Vec<usize>,
    /// Its hash where it is called, if that is known because it calls nothing.
    as_callee: Option<ContentHash>,
}

/// The hash that counts where something is called that calls nothing itself.
fn of_leaf(hash: ContentHash) -> ContentHash {
    combined(hash, &[combined(hash, &[])])
}

/// A function of the library by itself.
#[derive(Clone, Debug)]
pub struct LibraryHash {
    own: OwnHash,
    as_callee: Option<ContentHash>,
}

impl From<OwnHash> for LibraryHash {
    fn from(own: OwnHash) -> Self {
        Self { as_callee: own.callees.is_empty().then(|| of_leaf(own.hash)), own }
    }
}

/// Fingerprints of the functions of a program by themselves.
pub fn of_functions(program: &Program) -> Vec<OwnHash> {
    let reader = Reader { program };
    program.functions.iter().map(|function| reader.function(function)).collect()
}

/// Computes fingerprints. Does not recurse: chains of calls may be as long as the text.
pub struct Hasher<'a> {
    program: &'a Program,
    /// Parallel to the program's modules.
    modules: Vec<Own>,
    /// Parallel to the program's functions.
    own: Vec<Own>,
    /// The same, with all that each calls. None for those of the library that are not called.
    hashes: Vec<Option<ContentHash>>,
}

impl<'a> Hasher<'a> {
    pub fn new(program: &'a Program, functions: &Functions) -> Self {
        let reader = Reader { program };
        let modules = program.modules.iter().map(|module| numbered(reader.module(module), functions)).collect();
        let own = program.functions.iter().map(|function| match function.library {
            // The library has no modules.
            Some(place) => {
                let LibraryHash { own, as_callee } = &place.known.hash;
                Own { hash: own.hash, modules: BTreeSet::new(), callees: numbers(own, functions), as_callee: *as_callee }
            }
            None => {
                let own = numbered(reader.function(function), functions);
                Own { as_callee: own.callees.is_empty().then(|| of_leaf(own.hash)), ..own }
            }
        });
        let mut hasher = Self { program, modules, own: own.collect(), hashes: Vec::new() };
        hasher.hashes = hasher.with_callees();
        hasher
    }

    /// What the code of the module at `index` is.
    pub fn module(&self, index: usize) -> CodeInfo {
        let own = &self.modules[index];
        let mut modules = self.reached(&own.callees);
        modules.extend(own.modules.iter().chain(&self.program.modules[index].default_modules));
        let callees: SmallVec<[ContentHash; 8]> = own.callees.iter().filter_map(|&callee| self.hashes[callee]).collect();
        CodeInfo { hash: combined(own.hash, &callees), modules }
    }

    /// Fingerprint of a function of the program's own.
    pub fn function(&self, index: usize) -> ContentHash {
        self.hashes[index].unwrap_or(self.own[index].hash)
    }

    /// Modules that these functions and all they call refer to.
    fn reached(&self, functions: &[usize]) -> BTreeSet<usize> {
        let mut modules = BTreeSet::new();
        let mut seen: FxHashSet<usize> = functions.iter().copied().collect();
        let mut open: Vec<usize> = seen.iter().copied().collect();
        while let Some(function) = open.pop() {
            let own = &self.own[function];
            modules.extend(&own.modules);
            open.extend(own.callees.iter().copied().filter(|&callee| seen.insert(callee)));
        }
        modules
    }

    /// Functions of the program's own, and all that is called.
    fn needed(&self) -> Vec<bool> {
        let mut is_needed = vec![false; self.own.len()];
        let own = self.program.functions.iter().enumerate().filter(|(_, function)| function.library.is_none());
        let mut open: Vec<usize> = own.map(|(index, _)| index).collect();
        open.extend(self.modules.iter().flat_map(|module| &module.callees));
        while let Some(function) = open.pop() {
            if !std::mem::replace(&mut is_needed[function], true) {
                open.extend(&self.own[function].callees);
            }
        }
        is_needed
    }

    /// Fingerprints of functions with what they call. Those that call each other count together.
    fn with_callees(&self) -> Vec<Option<ContentHash>> {
        let is_needed = self.needed();
        let own = self.own.iter().zip(&is_needed);
        if own.clone().all(|(own, is_needed)| !is_needed || own.as_callee.is_some()) {
            return own.map(|(own, is_needed)| own.as_callee.filter(|_| *is_needed)).collect();
        }
        let callees: Vec<&[usize]> = self.own.iter().map(|own| own.callees.as_slice()).collect();
        let mut hashes: Vec<Option<ContentHash>> = vec![None; callees.len()];
        for members in components(&callees).iter() {
            // Functions that call each other are needed together.
            if !is_needed[members[0]] {
                continue;
            }
            if let Some(known) = self.own[members[0]].as_callee {
                hashes[members[0]] = Some(known);
                continue;
            }
            let outside = |callee: &&usize| !members.contains(callee);
            let mut parts: SmallVec<[ContentHash; 1]> = SmallVec::new();
            for &member in members {
                let called: SmallVec<[ContentHash; 8]> =
                    callees[member].iter().filter(outside).filter_map(|&callee| hashes[callee]).collect();
                parts.push(combined(self.own[member].hash, &called));
            }
            parts.sort_unstable();
            for &member in members {
                hashes[member] = Some(combined(self.own[member].hash, &parts));
            }
        }
        hashes
    }
}

/// Looks the called functions up: all overloads of each name.
fn numbered(own: OwnHash, functions: &Functions) -> Own {
    Own { hash: own.hash, callees: numbers(&own, functions), modules: own.modules, as_callee: None }
}

fn numbers(own: &OwnHash, functions: &Functions) -> Vec<usize> {
    own.callees.iter().flat_map(|name| functions.named(name)).copied().collect()
}

/// Reads bodies.
struct Reader<'a> {
    program: &'a Program,
}

impl Reader<'_> {
    fn module(&self, module: &Module) -> OwnHash {
        let items: FxHashMap<&str, DeclaredType> = module.items.iter().map(|item| (item.name.as_str(), item.declared)).collect();
        self.body(&module.body, module.loop_cap, &items)
    }

    fn function(&self, function: &Function) -> OwnHash {
        let mut own = self.body(&function.body, function.loop_cap, &FxHashMap::default());
        let fields: Vec<&[u8]> = function.imports.iter().flat_map(|(field, _)| [field.as_bytes(), b"\n"]).collect();
        own.hash = combined(own.hash, &[ContentHash::of(&fields)]);
        own
    }

    fn body(&self, lines: &[Line], loop_cap: Option<u32>, items: &FxHashMap<&str, DeclaredType>) -> OwnHash {
        let mut bytes = Vec::with_capacity(lines.len() * 16);
        let (mut modules, mut callees) = (BTreeSet::new(), Vec::new());
        bytes.extend(loop_cap.unwrap_or(u32::MAX).to_le_bytes());
        for line in lines {
            text(&mut bytes, line.instruction.word());
            for argument in &line.arguments {
                self.argument(&mut bytes, argument, items, &mut modules);
            }
            match (line.instruction, line.arguments.first()) {
                (Instruction::Call, Some(Argument::Name(name))) if !callees.contains(name) => callees.push(name.clone()),
                (Instruction::PushShape | Instruction::ParamShape, _) => self.shape(&mut bytes, line),
                _ => {}
            }
        }
        OwnHash { hash: ContentHash::of(&[&bytes]), modules, callees }
    }

    /// Such a line means as many values as the prototype has items.
    fn shape(&self, bytes: &mut Vec<u8>, line: &Line) {
        let Some(Argument::Name(name)) = line.arguments.first() else { return };
        let prototype = self.program.prototypes.iter().find(|prototype| prototype.id == *name);
        for item in prototype.iter().flat_map(|prototype| &prototype.items) {
            text(bytes, &item.name);
            declared(bytes, item.declared);
        }
    }

    fn argument(&self, bytes: &mut Vec<u8>, argument: &Argument, items: &FxHashMap<&str, DeclaredType>, modules: &mut BTreeSet<usize>) {
        match argument {
            Argument::Literal(literal) => {
                bytes.push(b'0' + literal.kind as u8);
                match &literal.range {
                    Some(range) => self.address(bytes, literal.value, range, modules),
                    None => bytes.extend(literal.value.to_bits().to_le_bytes()),
                }
            }
            Argument::Text(string) => text(bytes, string),
            Argument::Name(name) => named(bytes, name, items),
            Argument::Dereference { name, depth } => {
                bytes.push(*depth);
                named(bytes, name, items);
            }
            Argument::Unresolved { what } => text(bytes, what),
            Argument::PointeeQuery { query, name, depth_written } => {
                bytes.extend([*query as u8, *depth_written]);
                named(bytes, name, items);
            }
        }
    }

    /// An address as module, item and offset.
    fn address(&self, bytes: &mut Vec<u8>, value: f64, range: &AddressRange, modules: &mut BTreeSet<usize>) {
        modules.insert(range.module);
        let module = &self.program.modules[range.module];
        let name = range.item.map_or("", |item| &module.items[item].name);
        // The last item of that name, wherever the address lies.
        let item = range.item.and_then(|_| module.item(name));
        let start = item.map_or(module.byte_address, |item| item.byte_address);
        text(bytes, &module.id);
        text(bytes, name);
        bytes.extend((value - f64::from(start)).to_bits().to_le_bytes());
        // Words that align something come and go with the place of a module. They are no part of what the code does.
        let padding = item.map_or_else(|| module.items.iter().map(padding_bytes).sum(), padding_bytes);
        bytes.extend(range.safe_bytes.saturating_sub(padding).to_le_bytes());
    }
}

fn combined(own: ContentHash, others: &[ContentHash]) -> ContentHash {
    let mut bytes: SmallVec<[u8; 256]> = SmallVec::new();
    bytes.extend_from_slice(&own.0);
    others.iter().for_each(|other| bytes.extend_from_slice(&other.0));
    ContentHash::of(&[&bytes])
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn named(bytes: &mut Vec<u8>, name: &str, items: &FxHashMap<&str, DeclaredType>) {
    text(bytes, name);
    if let Some(of_item) = items.get(name) {
        declared(bytes, *of_item);
    }
}

fn declared(bytes: &mut Vec<u8>, declared: DeclaredType) {
    bytes.extend([declared.base as u8, declared.pointer_depth, u8::from(declared.is_array)]);
}

fn padding_bytes(item: &Item) -> u32 {
    let elements = (item.count * f64::from(item.declared.element_bytes()) / 4.0).ceil().max(0.0) as u32;
    item.words.saturating_sub(elements) * 4
}
