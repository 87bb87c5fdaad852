//! From analysed bodies to a program of the middle: functions, dispatchers, exports, initial data (LANGUAGE §15.1, §15.2, §16, §24).

use super::build::{Targets, build};
use super::code::{Callee, Code, StackOp};
use super::{Bodies, Body, bodies};
use crate::languages::lang_8f4e::error::LanguageError;
use crate::languages::lang_8f4e::functions::{Functions, INIT_DEFAULTS, INIT_ONLY};
use crate::languages::lang_8f4e::program::{self, Module, Program};
use crate::middle::function::{Function, FunctionId, Kind, Op, Region, Results, Source};
use crate::middle::program::{self as middle, Export, Import, Memory, Segment};

/// A dispatcher: a function the compiler makes, which calls modules.
struct Dispatcher {
    name: String,
    body: Region,
}

/// In place of the id of a function that nothing calls.
const NOT_TRANSLATED: FunctionId = FunctionId(u32::MAX);

/// Ids of everything the program defines. Order of the functions: dispatchers, functions with a body, modules.
struct Numbering {
    functions: Vec<FunctionId>,
    modules: Vec<FunctionId>,
    init_defaults: FunctionId,
    entries: Vec<FunctionId>,
    /// Only where the program uses `#initOnly`.
    init_only: Option<FunctionId>,
}

/// Translates a program. On errors: the first of each body, functions before modules.
pub fn translate(program: &Program, functions: &Functions, analysed: &Bodies) -> Result<middle::Program, Vec<LanguageError>> {
    let memories: Vec<Memory> = program.memories.iter().map(memory).collect();
    let is_translated = called_for(program, analysed);
    let numbering = number(program, functions, &is_translated);
    let targets = Targets {
        functions: numbering.functions.clone(),
        entries: numbering.entries.clone(),
        memory_pages: memories.iter().map(Memory::pages).collect(),
    };
    let mut defined: Vec<Function> = dispatchers(program, &memories, &numbering).into_iter().map(function_of).collect();
    defined.extend(translate_bodies(program, functions, analysed, &is_translated, &targets)?);
    Ok(middle::Program {
        imports: imports(functions),
        functions: defined,
        exports: exports(program, functions, &numbering),
        segments: segments(program),
        memories,
        budget: None,
    })
}

fn memory(memory: &program::Memory) -> Memory {
    Memory { name: memory.name.clone(), required_bytes: memory.required_bytes, initial_bytes: memory.initial_bytes }
}

/// Which functions are translated: those of the program itself, and what they need of the library. All of the library is inlined, so
/// that leaving the rest out changes nothing but the time it takes.
fn called_for(program: &Program, analysed: &Bodies) -> Vec<bool> {
    let mut is_called: Vec<bool> = program.functions.iter().map(|function| function.library.is_none()).collect();
    let own = program.functions.iter().zip(&analysed.functions).filter(|(function, _)| function.library.is_none());
    let mut open: Vec<usize> = analysed.modules.iter().chain(own.filter_map(|(_, code)| code.as_deref())).flat_map(callees).collect();
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut is_called[index], true)
            && let (Some(place), Some(code)) = (program.functions[index].library, &analysed.functions[index])
        {
            open.extend(callees(code).map(|callee| place.family + callee));
        }
    }
    is_called
}

fn callees(code: &Code) -> impl Iterator<Item = usize> {
    code.steps.iter().filter_map(|step| match step.op {
        StackOp::Call { callee: Callee::Function(index), .. } => Some(index),
        _ => None,
    })
}

fn number(program: &Program, functions: &Functions, is_translated: &[bool]) -> Numbering {
    let mut next = functions.signatures.iter().filter(|signature| signature.import.is_some()).count() as u32;
    let mut take = || {
        next += 1;
        FunctionId(next - 1)
    };
    let init_defaults = take();
    let entries = program.entries.iter().map(|_| take()).collect();
    let init_only = program.modules.iter().any(|module| module.init_only).then(&mut take);
    let mut next_import = 0;
    let ids = functions.signatures.iter().zip(is_translated).map(|(signature, is_translated)| match signature.import {
        Some(_) => {
            next_import += 1;
            FunctionId(next_import - 1)
        }
        None if *is_translated => take(),
        None => NOT_TRANSLATED,
    });
    let ids = ids.collect();
    let modules = program.modules.iter().map(|_| take()).collect();
    Numbering { functions: ids, modules, init_defaults, entries, init_only }
}

fn imports(functions: &Functions) -> Vec<Import> {
    let imported = functions.signatures.iter().filter_map(|signature| Some((signature, signature.import.as_ref()?)));
    imported
        .map(|(signature, field)| Import {
            module: "host".to_owned(),
            field: field.clone(),
            params: signature.params.iter().map(|param| param.ty.ty()).collect(),
            results: signature.results.iter().map(|ty| ty.ty()).collect(),
        })
        .collect()
}

fn exports(program: &Program, functions: &Functions, numbering: &Numbering) -> Vec<Export> {
    let mut exports = vec![Export { name: INIT_DEFAULTS.to_owned(), function: numbering.init_defaults }];
    let entries = program.entries.iter().zip(&numbering.entries);
    exports.extend(entries.map(|(name, &function)| Export { name: name.clone(), function }));
    exports.extend(numbering.init_only.map(|function| Export { name: INIT_ONLY.to_owned(), function }));
    let own = functions.signatures.iter().zip(&numbering.functions);
    exports.extend(own.filter_map(|(signature, &function)| Some(Export { name: signature.export.clone()?, function })));
    exports
}

fn segments(program: &Program) -> Vec<Segment> {
    let segments = program.data.iter();
    segments.map(|data| Segment { memory: data.memory, address: data.address, bytes: data.bytes.clone() }).collect()
}

/// Whether the module runs after initialisation instead of in its entry (LANGUAGE §24).
pub fn is_init_only(module: &Module) -> bool {
    module.init_only && !module.skip_execution
}

/// `initDefaults`, the entries, and `initOnly` if there is one.
fn dispatchers(program: &Program, memories: &[Memory], numbering: &Numbering) -> Vec<Dispatcher> {
    let calls = |runs: &dyn Fn(&Module) -> bool| {
        let modules = program.modules.iter().zip(&numbering.modules);
        let called = modules.filter(|(module, _)| runs(module));
        called.map(|(module, &function)| effect(Kind::Call { function, arguments: Vec::new() }, module.block as u32)).collect::<Vec<_>>()
    };
    let mut defaults = initialisation(program, memories);
    defaults.extend(calls(&is_init_only));
    let mut made = vec![Dispatcher { name: INIT_DEFAULTS.to_owned(), body: region(defaults) }];
    for (index, name) in program.entries.iter().enumerate() {
        let ops = calls(&|module: &Module| module.entry == index && !module.skip_execution && !module.init_only);
        made.push(Dispatcher { name: name.clone(), body: region(ops) });
    }
    if numbering.init_only.is_some() {
        made.push(Dispatcher { name: INIT_ONLY.to_owned(), body: region(calls(&is_init_only)) });
    }
    made
}

/// Clears every memory that is used, then writes the data segments.
fn initialisation(program: &Program, memories: &[Memory]) -> Vec<Op> {
    let block = program.modules.first().map_or(0, |module| module.block as u32);
    let used = memories.iter().enumerate().filter(|(_, memory)| memory.required_bytes > 0);
    let clears = used.map(|(index, memory)| Kind::MemoryClear { memory: index as u32, bytes: memory.required_bytes as u32 });
    let writes = (0..program.data.len()).map(|segment| Kind::MemoryInit { segment: segment as u32 });
    clears.chain(writes).map(|kind| effect(kind, block)).collect()
}

fn effect(kind: Kind, block: u32) -> Op {
    Op { kind, results: Results::NONE, source: Source { block, line: 0 } }
}

fn region(ops: Vec<Op>) -> Region {
    Region { ops, yields: Vec::new() }
}

fn function_of(dispatcher: Dispatcher) -> Function {
    Function { name: dispatcher.name, body: dispatcher.body, ..Function::default() }
}

fn translate_bodies(
    program: &Program,
    functions: &Functions,
    analysed: &Bodies,
    is_translated: &[bool],
    targets: &Targets,
) -> Result<Vec<Function>, Vec<LanguageError>> {
    let (of_functions, of_modules) = bodies(program, functions);
    let own = of_functions.iter().zip(&analysed.functions).zip(is_translated).filter(|(_, is_translated)| **is_translated);
    let own = own.filter_map(|((body, code), _)| Some((body.as_ref()?, code.as_deref()?)));
    let all = own.chain(of_modules.iter().zip(&analysed.modules));
    let mut built = Vec::new();
    let mut errors = Vec::new();
    for (body, code) in all {
        if let Some(known) = body.library.and_then(|place| place.known.translated.as_ref()) {
            built.push(placed(known, body.block as u32));
            continue;
        }
        match build(body, name_of(body), code, targets) {
            Ok(function) => built.push(function),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(built) } else { Err(errors) }
}

/// A function of the library as part of a program.
fn placed(known: &Function, block: u32) -> Function {
    let mut function = known.clone();
    middle::for_each_region_mut(&mut function.body, &mut |region| region.ops.iter_mut().for_each(|op| op.source.block = block));
    function
}

fn name_of<'a>(body: &Body<'a>) -> &'a str {
    match (body.module, body.signature) {
        (Some(module), _) => &module.id,
        (None, Some(signature)) => &signature.name,
        (None, None) => "",
    }
}
