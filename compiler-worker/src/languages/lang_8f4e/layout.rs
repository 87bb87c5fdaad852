//! Memory layout (LANGUAGE §6, §7): which slots each module has, and where they are.
//!
//! Modules are placed in the order of their ids, items in the order of their declarations with prototypes expanded in place.
//! [`super::relative_layout`] then leaves modules where a previous revision had them. Nothing here allocates in proportion to a
//! declared size.

use std::borrow::Cow;

use ipc::limits::{MAX_DIAGNOSTICS, MAX_PROGRAM_MEMORY_BYTES};

use super::arguments::{Name, Value};
use super::blocks::Blocks;
use super::constants::{NameMap, opener_place};
use super::error::{CompilerCode, LanguageError, Place, SyntaxCode};
use super::parsed::{Directive, ParsedArgument, ParsedBlock, Statement, Word};
use super::program::{BlockId, DeclaredType, Memory, Span};

/// Name of memory 0.
const DEFAULT_MEMORY: &str = "memory";

/// Words that cannot name a region, as they mean memory 0.
const RESERVED_REGIONS: [&str; 2] = ["default", DEFAULT_MEMORY];

/// Memory items a program may have. As many as lines, so only the expansion of prototypes can exceed it.
const MAX_ITEMS: usize = ipc::limits::MAX_SOURCE_LINES;

/// Words of all memories of a program together.
pub(super) const MAX_WORDS: u64 = MAX_PROGRAM_MEMORY_BYTES / 4;

/// One declaration with its place in memory.
#[derive(Clone, Debug)]
pub struct Slot<'p, 'a> {
    pub name: Cow<'a, str>,
    pub declared: DeclaredType,
    /// As declared: may be fractional, zero or negative. 1 for scalars.
    pub count: f64,
    pub byte_address: u32,
    /// Words occupied, padding before the item included.
    pub words: u32,
    pub end_byte_address: u32,
    /// Where LANGUAGE §7 puts it, whatever was there before; the same as `byte_address` unless the layout is relative.
    pub fresh_address: u32,
    /// What it is initialised with, as written.
    pub initial: &'p [ParsedArgument<'a>],
    /// Where errors about it are reported: its line, or that of the `shape` it stems from.
    pub place: Place<'a>,
    pub is_from_shape: bool,
}

impl<'a> Slot<'_, 'a> {
    /// Where an error about one of the initial values is reported.
    pub fn initial_place(&self, index: usize) -> Place<'a> {
        match self.initial.get(index) {
            Some(argument) if !self.is_from_shape && argument.span.line == self.place.span.line => {
                Place { span: argument.span, ..self.place }
            }
            _ => self.place,
        }
    }

    /// Bytes of the item's words, without the one that may align it.
    pub fn content_bytes(&self) -> u64 {
        content_words(self.declared, self.count) as u64 * 4
    }

    /// The end of those words in the layout of LANGUAGE §7.
    pub fn fresh_end(&self) -> u64 {
        u64::from(self.fresh_address) + self.content_bytes()
    }

    /// Bytes of the elements themselves.
    pub fn element_bytes(&self) -> f64 {
        self.count * f64::from(self.declared.element_bytes())
    }
}

/// A module's place in memory.
#[derive(Clone, Debug)]
pub struct ModuleLayout<'p, 'a> {
    pub id: &'p str,
    pub memory: u32,
    pub byte_address: u32,
    pub words: u32,
    pub end_byte_address: u32,
    pub slots: Vec<Slot<'p, 'a>>,
    /// The last slot of each name.
    pub by_name: NameMap<Cow<'a, str>, usize>,
}

impl<'p, 'a> ModuleLayout<'p, 'a> {
    /// The slot that a name means: the last one declared with it.
    pub fn slot(&self, name: &str) -> Option<(usize, &Slot<'p, 'a>)> {
        let &index = self.by_name.get(name)?;
        Some((index, &self.slots[index]))
    }
}

/// All modules with their places.
#[derive(Clone, Debug, Default)]
pub struct Layout<'p, 'a> {
    /// In order of execution, parallel to `Blocks::modules`.
    pub modules: Vec<ModuleLayout<'p, 'a>>,
    /// The same in layout order.
    pub order: Vec<usize>,
    pub by_id: NameMap<&'p str, usize>,
    /// Memories 0 … highest used index.
    pub memories: Vec<Memory>,
    /// Some module is not where LANGUAGE §7 puts it, as a previous revision had it elsewhere.
    pub is_relative: bool,
}

/// Refuses ids that are used twice: prototypes, then modules of all entries.
pub fn check_ids(blocks: &Blocks<'_>) -> Result<(), Vec<LanguageError>> {
    let mut errors = duplicates(blocks.prototypes.iter());
    errors.extend(duplicates(blocks.modules.iter().map(|(_, module)| module)));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn duplicates<'b, 'a: 'b>(blocks: impl Iterator<Item = &'b ParsedBlock<'a>>) -> Vec<LanguageError> {
    let mut seen: NameMap<&str, ()> = NameMap::default();
    let again = blocks.filter(|block| seen.insert(&block.id, ()).is_some());
    again
        .map(|block| LanguageError::about(CompilerCode::DuplicateIdentifier, opener_place(block), &block.id))
        .take(MAX_DIAGNOSTICS)
        .collect()
}

/// Places all modules.
pub fn plan<'p, 'a>(blocks: &'p Blocks<'a>, regions: &[String]) -> Result<Layout<'p, 'a>, Vec<LanguageError>> {
    check_regions(regions).map_err(|error| vec![error])?;
    let modules = &blocks.modules;
    let mut order: Vec<usize> = (0..modules.len()).collect();
    order.sort_by(|&a, &b| utf16_order(&modules[a].1.id, &modules[b].1.id));
    let prototypes: NameMap<&str, &ParsedBlock<'a>> = blocks.prototypes.iter().map(|block| (&*block.id, block)).collect();
    let mut planner = Planner { prototypes, regions, cursors: vec![1; regions.len() + 1], items: 0 };
    let mut placed: Vec<Option<ModuleLayout<'p, 'a>>> = vec![None; modules.len()];
    let mut errors = Vec::new();
    for &index in &order {
        match planner.module(&modules[index].1) {
            Ok(layout) => placed[index] = Some(layout),
            Err(error) if errors.len() < MAX_DIAGNOSTICS => errors.push(error),
            Err(_) => {}
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let modules: Vec<ModuleLayout<'p, 'a>> = placed.into_iter().flatten().collect();
    let by_id = modules.iter().enumerate().map(|(index, module)| (module.id, index)).collect();
    let memories = memories(&modules, regions);
    Ok(Layout { modules, order, by_id, memories, is_relative: false })
}

/// Strings in the order JavaScript compares them: by UTF-16 code units.
fn utf16_order(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

fn check_regions(regions: &[String]) -> Result<(), LanguageError> {
    for (index, name) in regions.iter().enumerate() {
        let is_numeric = name.bytes().all(|byte| byte.is_ascii_digit());
        if is_numeric || RESERVED_REGIONS.contains(&name.as_str()) {
            return Err(LanguageError::of_options(CompilerCode::InvalidMemoryRegionName, name));
        }
        if regions[..index].contains(name) {
            return Err(LanguageError::of_options(CompilerCode::DuplicateMemoryRegionName, name));
        }
    }
    Ok(())
}

fn memories(modules: &[ModuleLayout<'_, '_>], regions: &[String]) -> Vec<Memory> {
    let highest = modules.iter().map(|module| module.memory).max().unwrap_or(0);
    let names = std::iter::once(DEFAULT_MEMORY).chain(regions.iter().map(String::as_str));
    let required = |memory| required_bytes(modules, memory);
    (0..=highest)
        .zip(names)
        .map(|(memory, name)| Memory { name: name.to_owned(), required_bytes: required(memory), initial_bytes: 0 })
        .collect()
}

/// Bytes of a memory up to the end of its last module (LANGUAGE §7).
pub(super) fn required_bytes(modules: &[ModuleLayout<'_, '_>], memory: u32) -> u64 {
    let used = modules.iter().filter(|module| module.memory == memory);
    used.map(|module| u64::from(module.byte_address) + 4 * u64::from(module.words)).max().unwrap_or(0)
}

struct Planner<'r, 'p, 'a> {
    prototypes: NameMap<&'p str, &'p ParsedBlock<'a>>,
    regions: &'r [String],
    /// Next free word of each memory. Word 0 is never used: it is the null address.
    cursors: Vec<u64>,
    items: usize,
}

impl<'p, 'a> Planner<'_, 'p, 'a> {
    fn module(&mut self, block: &'p ParsedBlock<'a>) -> Result<ModuleLayout<'p, 'a>, LanguageError> {
        let memory = self.region(block)?;
        let start = self.cursors[memory];
        let mut layout = ModuleLayout {
            id: &block.id,
            memory: memory as u32,
            byte_address: (start * 4) as u32,
            words: 0,
            end_byte_address: 0,
            slots: Vec::new(),
            by_name: NameMap::default(),
        };
        for statement in &block.statements {
            match statement.word {
                Word::Declaration(declared) => {
                    let place = statement.place(block.block);
                    self.declare(&mut layout, statement, declared, place, false)?;
                }
                Word::Shape => self.expand(&mut layout, block.block, statement)?,
                _ => {}
            }
        }
        layout.words = (self.cursors[memory] - start) as u32;
        layout.end_byte_address = end_address(layout.byte_address, layout.words);
        Ok(layout)
    }

    fn region(&self, block: &ParsedBlock<'a>) -> Result<usize, LanguageError> {
        let directives = block.statements.iter().filter(|statement| statement.word == Word::Directive(Directive::Region));
        let mut memory = 0;
        for statement in directives {
            let Some(argument) = statement.arguments.first() else { continue };
            let error = |code| LanguageError::about(code, statement.argument_place(block.block, 0), &argument.text);
            memory = match &argument.value {
                Value::Number(number) => (0..=self.regions.len())
                    .find(|&index| index as f64 == number.value)
                    .ok_or_else(|| error(CompilerCode::MemoryRegionIndexOutOfBounds))?,
                _ => match self.regions.iter().position(|region| *region == argument.text) {
                    Some(position) => position + 1,
                    None => return Err(error(CompilerCode::UnknownMemoryRegion)),
                },
            };
        }
        Ok(memory)
    }

    fn expand(&mut self, layout: &mut ModuleLayout<'p, 'a>, block: BlockId, shape: &'p Statement<'a>) -> Result<(), LanguageError> {
        let Some(id) = shape.arguments.first() else { return Ok(()) };
        let Some(&prototype) = self.prototypes.get(&*id.text) else {
            return Err(LanguageError::about(CompilerCode::UndeclaredIdentifier, shape.argument_place(block, 0), &id.text));
        };
        for statement in &prototype.statements {
            if let Word::Declaration(declared) = statement.word {
                let place = Place { block, span: shape.span, instruction: statement.text };
                self.declare(layout, statement, declared, place, true)?;
            }
        }
        Ok(())
    }

    fn declare(
        &mut self,
        layout: &mut ModuleLayout<'p, 'a>,
        statement: &'p Statement<'a>,
        declared: DeclaredType,
        place: Place<'a>,
        is_from_shape: bool,
    ) -> Result<(), LanguageError> {
        let Declaration { name, count, initial } = if declared.is_array { array(statement, place)? } else { scalar(statement, place)? };
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(LanguageError::about(CompilerCode::TooManyItems, place, format!("more than {MAX_ITEMS}")));
        }
        let (byte_address, words) = self.allocate(layout.memory as usize, declared, count, place)?;
        layout.by_name.insert(name.clone(), layout.slots.len());
        let end_byte_address = end_address(byte_address, words);
        let fresh_address = byte_address;
        layout.slots.push(Slot {
            name,
            declared,
            count,
            byte_address,
            words,
            end_byte_address,
            fresh_address,
            initial,
            place,
            is_from_shape,
        });
        Ok(())
    }

    /// Takes the words of one item; returns its byte address and how many words it took, padding included.
    fn allocate(&mut self, memory: usize, declared: DeclaredType, count: f64, place: Place<'_>) -> Result<(u32, u32), LanguageError> {
        let start = self.cursors[memory];
        let pad = padding(declared, start);
        let needed = content_words(declared, count);
        let used: u64 = self.cursors.iter().sum();
        if !needed.is_finite() || needed > MAX_WORDS as f64 || used + pad + needed as u64 > MAX_WORDS {
            let subject = format!("at most {MAX_PROGRAM_MEMORY_BYTES} bytes are possible");
            return Err(LanguageError::about(CompilerCode::MemoryTooLarge, place, subject));
        }
        let words = pad + needed as u64;
        self.cursors[memory] = start + words;
        Ok((((start + pad) * 4) as u32, words as u32))
    }
}

/// Words of so many elements. A negative count is an error, but one of a later stage; until then it takes no room.
fn content_words(declared: DeclaredType, count: f64) -> f64 {
    (count * f64::from(declared.element_bytes()) / 4.0).ceil().max(0.0)
}

/// Words that align an item which would start at this word.
pub(super) fn padding(declared: DeclaredType, start: u64) -> u64 {
    if declared.element_bytes() == 8 { start % 2 } else { 0 }
}

/// Address of the last word, by the language's formula.
pub(super) fn end_address(byte_address: u32, words: u32) -> u32 {
    byte_address + 4 * words.saturating_sub(1)
}

/// What a declaration line says.
struct Declaration<'p, 'a> {
    name: Cow<'a, str>,
    count: f64,
    initial: &'p [ParsedArgument<'a>],
}

fn array<'p, 'a>(statement: &'p Statement<'a>, place: Place<'a>) -> Result<Declaration<'p, 'a>, LanguageError> {
    let [name, count, initial @ ..] = statement.arguments.as_slice() else {
        return Err(LanguageError::about(SyntaxCode::MissingArgument, place, format!("Missing required argument for {}.", statement.text)));
    };
    let Value::Number(number) = count.value else {
        return Err(LanguageError::about(CompilerCode::UndeclaredIdentifier, place, &count.text));
    };
    Ok(Declaration { name: name.text.clone(), count: number.value, initial })
}

fn scalar<'p, 'a>(statement: &'p Statement<'a>, place: Place<'a>) -> Result<Declaration<'p, 'a>, LanguageError> {
    let arguments = statement.arguments.as_slice();
    let anonymous = |initial| Declaration { name: Cow::Owned(anonymous_name(place.span.line)), count: 1.0, initial };
    match arguments {
        [] => Ok(anonymous(arguments)),
        [first, rest @ ..] => match first.value {
            Value::Name(Name::Plain("this")) => Err(LanguageError::about(CompilerCode::ReservedMemoryIdentifier, place, "this")),
            Value::Name(Name::Plain(name)) => Ok(Declaration { name: Cow::Borrowed(name), count: 1.0, initial: rest }),
            Value::Name(Name::ConstantStyle(_)) => Err(LanguageError::plain(CompilerCode::ConstantNameAsMemoryIdentifier, place)),
            Value::Number(_) | Value::Text(_) => Ok(anonymous(arguments)),
            _ if rest.is_empty() => Ok(anonymous(arguments)),
            _ => Err(nameless(statement, place)),
        },
    }
}

/// The id of an item that has no name.
pub fn anonymous_name(line: u32) -> String {
    format!("__anonymous__{line}")
}

/// The language reports this one without its line (LANGUAGE §25.15), so the hint names the place.
fn nameless(statement: &Statement<'_>, place: Place<'_>) -> LanguageError {
    let first = statement.arguments.first().map_or("", |argument| &*argument.text);
    let hint = format!("line {} below this one declares nothing: {first} is an expression, not a name", place.span.line);
    let mut error =
        LanguageError::about(SyntaxCode::MissingArgument, Place { span: Span::default(), ..place }, "Missing required argument.");
    error.instruction = None;
    error.with_hint(hint)
}
