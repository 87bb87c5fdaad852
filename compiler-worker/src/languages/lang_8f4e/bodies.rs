//! Puts the resolved program together: modules, functions and prototypes as the back half takes them.
//!
//! Errors of bodies are not found here. What cannot be resolved becomes [`Argument::Unresolved`] and is an error where the
//! analysis meets it.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::arguments::{Name, Value};
use super::blocks::{Blocks, FunctionBlock};
use super::constants::NameMap;
use super::defaults::Defaults;
use super::instruction::Instruction;
use super::layout::{Layout, ModuleLayout, anonymous_name};
use super::parsed::{Directive, ParsedArgument, ParsedBlock, Statement, Word};
use super::program::{
    Argument, BlockId, DeclaredType, Function, Item, LibraryPlace, Line, Literal, Module, Program, Prototype, PrototypeItem, Span,
};
use super::references::{Lookup, Resolver};

/// Fills in modules, functions and prototypes.
pub fn build(program: &mut Program, blocks: &Blocks<'_>, layout: &Layout<'_, '_>, defaults: &Defaults) {
    program.prototypes = blocks.prototypes.iter().map(prototype).collect();
    let prototypes: NameMap<&str, &Prototype> = program.prototypes.iter().map(|prototype| (&*prototype.id, prototype)).collect();
    let context = Context { layout, defaults, prototypes };
    program.modules = blocks.modules.iter().enumerate().map(|(index, (entry, block))| context.module(index, *entry, block)).collect();
    program.functions = blocks.functions.iter().map(|function| context.function(function)).collect();
}

fn prototype(block: &ParsedBlock<'_>) -> Prototype {
    let items = block.statements.iter().filter_map(|statement| match statement.word {
        Word::Declaration(declared) => Some(prototype_item(statement, declared)),
        _ => None,
    });
    Prototype { id: block.id.to_string(), block: block.block, items: items.collect() }
}

fn prototype_item(statement: &Statement<'_>, declared: DeclaredType) -> PrototypeItem {
    let first = statement.arguments.first();
    let name = match first.map(|argument| &argument.value) {
        Some(Value::Name(Name::Plain(_))) => first,
        _ if declared.is_array => first,
        _ => None,
    };
    match name {
        Some(name) => PrototypeItem { name: name.text.to_string(), is_anonymous: false, declared },
        None => PrototypeItem { name: anonymous_name(statement.span.line), is_anonymous: true, declared },
    }
}

struct Context<'c, 'p, 'a> {
    layout: &'c Layout<'p, 'a>,
    defaults: &'c Defaults,
    prototypes: NameMap<&'c str, &'c Prototype>,
}

impl Context<'_, '_, '_> {
    fn module(&self, index: usize, entry: usize, block: &ParsedBlock<'_>) -> Module {
        let layout = &self.layout.modules[index];
        let has = |directive| block.statements.iter().any(|statement| statement.word == Word::Directive(directive));
        let shapes = block.statements.iter().filter(|statement| statement.word == Word::Shape);
        Module {
            id: block.id.to_string(),
            block: block.block,
            entry,
            skip_execution: has(Directive::SkipExecution),
            init_only: has(Directive::InitOnly),
            loop_cap: loop_cap(block),
            memory: layout.memory,
            byte_address: layout.byte_address,
            words: layout.words,
            items: self.items(index, layout),
            default_modules: self.defaults.modules[index].targets.iter().copied().collect(),
            shapes: shapes.filter_map(|statement| Some(statement.arguments.first()?.text.to_string())).collect(),
            body: self.body(Some(index), block),
        }
    }

    fn items(&self, index: usize, layout: &ModuleLayout<'_, '_>) -> Vec<Item> {
        let no_locals = |_: &str| None;
        let resolver = Resolver { layout: self.layout, module: Some(index), pointee_counts: &[], local_type: &no_locals };
        let (defaults, pointees) = (&self.defaults.modules[index], &self.defaults.pointee_counts[index]);
        let items = layout.slots.iter().map(|slot| {
            let range = defaults.address(layout, slot).filter(|_| slot.declared.is_integer() && !slot.declared.is_array);
            let last = layout.by_name.get(&slot.name).copied();
            Item {
                name: slot.name.to_string(),
                declared: slot.declared,
                count: slot.count,
                byte_address: slot.byte_address,
                words: slot.words,
                end_byte_address: slot.end_byte_address,
                default_address: range.map(|range| resolver.address_range(range)),
                pointee_count: last.and_then(|last| pointees.get(last).copied().flatten()),
                line: slot.place.span.line,
            }
        });
        items.collect()
    }

    fn function(&self, function: &FunctionBlock<'_>) -> Function {
        match function {
            FunctionBlock::Own(block) => self.own_function(block),
            FunctionBlock::Library { block, place } => included(*block, *place),
        }
    }

    fn own_function(&self, block: &ParsedBlock<'_>) -> Function {
        Function {
            name: block.id.to_string(),
            block: block.block,
            is_impure: block.statements.iter().any(|statement| statement.word == Word::Directive(Directive::Impure)),
            exports: labels(block, Directive::Export),
            imports: labels(block, Directive::Import),
            loop_cap: loop_cap(block),
            body: Cow::Owned(self.body(None, block)),
            library: None,
        }
    }

    fn body(&self, module: Option<usize>, block: &ParsedBlock<'_>) -> Vec<Line> {
        let locals: OnceCell<NameMap<&str, DeclaredType>> = OnceCell::new();
        let local_type = |name: &str| locals.get_or_init(|| self.local_types(block)).get(name).copied();
        let pointee_counts = module.map_or(&[][..], |index| &self.defaults.pointee_counts[index]);
        let resolver = Resolver { layout: self.layout, module, pointee_counts, local_type: &local_type };
        let mut lines = Vec::with_capacity(block.statements.len());
        lines.extend(block.statements.iter().filter_map(|statement| match statement.word {
            Word::Body(instruction) => Some(line(instruction, statement, &resolver)),
            _ => None,
        }));
        lines
    }

    /// Types of a block's parameters and locals. Only expressions with `sizeof(*p)` and its like ask for them.
    fn local_types<'b>(&'b self, block: &'b ParsedBlock<'_>) -> NameMap<&'b str, DeclaredType> {
        let mut types = NameMap::default();
        for statement in &block.statements {
            match (statement.word, statement.arguments.as_slice()) {
                (Word::Body(Instruction::Local | Instruction::Param), [declared, name]) => {
                    if let Some(declared) = DeclaredType::from_type_word(&declared.text) {
                        types.insert(&*name.text, declared);
                    }
                }
                (Word::Body(Instruction::ParamShape), [id]) => {
                    for item in self.prototypes.get(&*id.text).map_or(&[][..], |prototype| &prototype.items) {
                        let pointer_depth = item.declared.pointer_depth.saturating_add(1);
                        types.insert(&*item.name, DeclaredType { pointer_depth, is_array: false, ..item.declared });
                    }
                }
                _ => {}
            }
        }
        types
    }
}

/// A function of the library has no labels of its own.
fn included(block: BlockId, place: LibraryPlace) -> Function {
    let known = &place.known.function;
    Function {
        name: known.name.clone(),
        block,
        is_impure: known.is_impure,
        exports: Vec::new(),
        imports: Vec::new(),
        loop_cap: known.loop_cap,
        body: Cow::Borrowed(&known.body),
        library: Some(place),
    }
}

/// `#export` and `#import` lines; without an argument they mean the block's own name.
fn labels(block: &ParsedBlock<'_>, directive: Directive) -> Vec<(String, Span)> {
    let statements = block.statements.iter().filter(|statement| statement.word == Word::Directive(directive));
    let label = |statement: &Statement<'_>| match statement.arguments.first() {
        Some(ParsedArgument { value: Value::Text(text), .. }) => text.to_string(),
        Some(argument) => argument.text.to_string(),
        None => block.id.to_string(),
    };
    statements.map(|statement| (label(statement), statement.span)).collect()
}

fn loop_cap(block: &ParsedBlock<'_>) -> Option<u32> {
    let mut caps = block.statements.iter().filter(|statement| statement.word == Word::Directive(Directive::LoopCap));
    caps.next_back().and_then(|statement| match statement.arguments.first()?.value {
        // A cap beyond 32 bits could not be reached either.
        Value::Number(number) => Some(number.value as u32),
        _ => None,
    })
}

fn line(instruction: Instruction, statement: &Statement<'_>, resolver: &Resolver<'_, '_, '_>) -> Line {
    let names = names_at_front(instruction);
    let arguments = statement.arguments.iter().enumerate().map(|(index, argument)| match index < names {
        true => Argument::Name(argument.text.to_string()),
        false => resolved(argument, resolver),
    });
    Line {
        instruction,
        arguments: arguments.collect(),
        span: statement.span,
        argument_spans: statement.arguments.iter().map(|argument| argument.span).collect(),
    }
}

/// How many arguments at the front are names or types and never values.
fn names_at_front(instruction: Instruction) -> usize {
    use Instruction as I;
    match instruction {
        I::Call | I::LocalSet | I::PushShape | I::ParamShape => 1,
        I::Local | I::Param | I::MapBegin | I::MapEnd | I::BlockEnd | I::IfEnd | I::FunctionEnd => usize::MAX,
        _ => 0,
    }
}

fn resolved(argument: &ParsedArgument<'_>, resolver: &Resolver<'_, '_, '_>) -> Argument {
    let unresolved = || Argument::Unresolved { what: argument.text.to_string() };
    match &argument.value {
        Value::Number(number) => Argument::Literal(Literal { value: number.value, kind: number.kind, range: None }),
        Value::Text(text) => Argument::Text(text.to_string()),
        Value::Name(Name::Plain(name) | Name::ConstantStyle(name)) => Argument::Name((*name).to_owned()),
        Value::Name(Name::Dereference { name, depth }) => Argument::Dereference { name: (*name).to_owned(), depth: *depth },
        Value::Name(name) => match (resolver.name(name), name) {
            (Lookup::Known(known), _) => Argument::Literal(resolver.literal(&known)),
            (Lookup::CountUnknown | Lookup::NotMemory, Name::PointeeQuery { query, name }) => {
                Argument::PointeeQuery { query: *query, name: (*name).to_owned(), depth_written: 1 }
            }
            _ => unresolved(),
        },
        Value::Expression(expression) => {
            resolver.expression(expression).map_or_else(unresolved, |known| Argument::Literal(resolver.literal(&known)))
        }
    }
}
