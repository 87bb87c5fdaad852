//! Fingerprints of code: what a module or function does, apart from where its memory lies and what it starts with (DESIGN §9).
//!
//! An address counts as the item it names and the offset from its start, a name as the type it has. A called function counts with its
//! own fingerprint. Pure computation.

use std::collections::{BTreeSet, HashMap};

use ipc::hash::ContentHash;

use super::functions::Functions;
use super::instruction::Instruction;
use super::program::{AddressRange, Argument, DeclaredType, Item, Line, Module, Program};

/// What the code of a module or function is and what it refers to.
#[derive(Clone, Debug)]
pub struct CodeInfo {
    pub hash: ContentHash,
    /// Modules whose memory it names, through called functions too.
    pub modules: BTreeSet<usize>,
}

/// Computes fingerprints; each function's once.
pub struct Hasher<'a> {
    program: &'a Program,
    functions: &'a Functions,
    modules: HashMap<&'a str, usize>,
    /// `None` while a function's own fingerprint is being computed: it calls itself.
    done: HashMap<usize, Option<CodeInfo>>,
}

impl<'a> Hasher<'a> {
    pub fn new(program: &'a Program, functions: &'a Functions) -> Self {
        let modules = program.modules.iter().enumerate().map(|(index, module)| (module.id.as_str(), index)).collect();
        Self { program, functions, modules, done: HashMap::new() }
    }

    pub fn module(&mut self, module: &'a Module) -> CodeInfo {
        let items: HashMap<&str, DeclaredType> = module.items.iter().map(|item| (item.name.as_str(), item.declared)).collect();
        let mut info = self.body(&module.body, module.loop_cap, &items);
        info.modules.extend(&module.default_modules);
        info
    }

    pub fn function(&mut self, index: usize) -> CodeInfo {
        if let Some(done) = self.done.get(&index) {
            // A recursive call: the name, which the caller's line has, is all there is to say.
            return done.clone().unwrap_or_else(|| CodeInfo { hash: ContentHash::of(&[]), modules: BTreeSet::new() });
        }
        self.done.insert(index, None);
        let function = &self.program.functions[index];
        let mut info = self.body(&function.body, function.loop_cap, &HashMap::new());
        let fields: Vec<&[u8]> = function.imports.iter().flat_map(|(field, _)| [field.as_bytes(), b"\n"]).collect();
        info.hash = ContentHash::of(&[&info.hash.0[..], &ContentHash::of(&fields).0]);
        self.done.insert(index, Some(info.clone()));
        info
    }

    fn body(&mut self, lines: &'a [Line], loop_cap: Option<u32>, items: &HashMap<&str, DeclaredType>) -> CodeInfo {
        let mut bytes = Vec::with_capacity(lines.len() * 16);
        let mut modules = BTreeSet::new();
        bytes.extend(loop_cap.unwrap_or(u32::MAX).to_le_bytes());
        for line in lines {
            text(&mut bytes, line.instruction.word());
            for argument in &line.arguments {
                self.argument(&mut bytes, argument, items, &mut modules);
            }
            match line.instruction {
                Instruction::Call => self.callees(&mut bytes, line, &mut modules),
                Instruction::PushShape | Instruction::ParamShape => self.shape(&mut bytes, line),
                _ => {}
            }
        }
        CodeInfo { hash: ContentHash::of(&[&bytes]), modules }
    }

    fn callees(&mut self, bytes: &mut Vec<u8>, line: &Line, modules: &mut BTreeSet<usize>) {
        let Some(Argument::Name(name)) = line.arguments.first() else { return };
        for &index in self.functions.named(name) {
            let info = self.function(index);
            bytes.extend(info.hash.0);
            modules.extend(info.modules);
        }
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

    fn argument(&self, bytes: &mut Vec<u8>, argument: &Argument, items: &HashMap<&str, DeclaredType>, modules: &mut BTreeSet<usize>) {
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
        let module = self.modules.get(range.module.as_str()).copied();
        modules.extend(module);
        let module = module.map(|index| &self.program.modules[index]);
        let item = module.and_then(|module| module.item(range.item.as_deref()?));
        let start = item.map(|item| item.byte_address).or(module.map(|module| module.byte_address)).unwrap_or(0);
        text(bytes, &range.module);
        text(bytes, range.item.as_deref().unwrap_or_default());
        bytes.extend((value - f64::from(start)).to_bits().to_le_bytes());
        // Words that align something come and go with the place of a module. They are no part of what the code does.
        let padding = match (item, module) {
            (Some(item), _) => padding_bytes(item),
            (None, Some(module)) => module.items.iter().map(padding_bytes).sum(),
            (None, None) => 0,
        };
        bytes.extend(range.safe_bytes.saturating_sub(padding).to_le_bytes());
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn named(bytes: &mut Vec<u8>, name: &str, items: &HashMap<&str, DeclaredType>) {
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
