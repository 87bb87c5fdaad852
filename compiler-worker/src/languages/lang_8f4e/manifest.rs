//! Describes a program: the manifest of its revision, all but the source map.

use ipc::diagnostic::BlockName;
use ipc::hash::ContentHash;
use ipc::manifest::{
    ElementType, EntryInfo, ExportInfo, ImportInfo, Item, Manifest, MemoryInfo, ModuleInfo, PointeeType, PointsAt, SourceBlock, ValueType,
};
use ipc::message::CompileRequest;
use smallvec::SmallVec;

use super::ID;
use super::analysis::translate::is_init_only;
use super::fingerprints::{self, Fingerprints};
use super::functions::{Functions, INIT_DEFAULTS, INIT_ONLY, Signature};
use super::hashes::Hasher;
use super::program::{self, BaseType, BlockId, DeclaredType, Module, Program};
use crate::middle::operators::Type;
use crate::middle::program::Memory;

/// The manifest of a program that has been translated; its source map is empty. Takes the program's names with it.
pub fn describe(request: &CompileRequest, mut program: Program, functions: &Functions) -> Manifest {
    let mut manifest = describe_without_names(request, &program, functions);
    for (info, module) in manifest.modules.iter_mut().zip(&mut program.modules) {
        info.id = std::mem::take(&mut module.id);
        for (info, item) in info.items.iter_mut().zip(&mut module.items) {
            info.name = std::mem::take(&mut item.name);
        }
    }
    let blocks = program.blocks.into_iter().map(|block| SourceBlock {
        name: BlockName { kind: block.kind.to_owned(), id: block.id },
        line: block.file_line,
        include: block.include,
    });
    Manifest { blocks: blocks.collect(), config: program.config, environment: program.environment, ..manifest }
}

/// All but what can be taken out of the program: names of modules and items, blocks, settings.
fn describe_without_names(request: &CompileRequest, program: &Program, functions: &Functions) -> Manifest {
    let hasher = Hasher::new(program, functions);
    let fingerprints = Fingerprints::new(program);
    let modules = program.modules.iter().enumerate();
    Manifest {
        language: ID.to_owned(),
        revision: revision(request, program),
        memories: memories(program),
        modules: modules.map(|(index, module)| describe_module(program, &hasher, &fingerprints, index, module)).collect(),
        entries: entries(program),
        exports: exports(program, functions, &hasher),
        imports: imports(program, functions),
        config: Vec::new(),
        environment: Vec::new(),
        source_map: Vec::new(),
        blocks: Vec::new(),
    }
}

/// Names the revision: everything the compiled program depends on, and where the previous revision made its memory lie.
fn revision(request: &CompileRequest, program: &Program) -> ContentHash {
    let mut bytes = Vec::with_capacity(request.source.len() + program.modules.len() * 12 + 256);
    let mut text = |text: &[u8]| {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
    };
    text(&request.source);
    for (name, value) in &request.environment {
        text(name.as_bytes());
        text(&value.to_bits().to_le_bytes());
    }
    text(b"regions");
    request.memory_regions.iter().for_each(|region| text(region.as_bytes()));
    text(&request.work_budget.to_le_bytes());
    // Where the items of a module lie follows from where it starts.
    program.modules.iter().for_each(|module| text(&module.byte_address.to_le_bytes()));
    ContentHash::of(&[&bytes])
}

fn memories(program: &Program) -> Vec<MemoryInfo> {
    let memories = program.memories.iter().map(|memory| MemoryInfo {
        name: memory.name.clone(),
        required_bytes: memory.required_bytes,
        pages: Memory { name: String::new(), required_bytes: memory.required_bytes, initial_bytes: memory.initial_bytes }.pages(),
    });
    memories.collect()
}

fn describe_module<'a>(
    program: &'a Program,
    hasher: &Hasher<'_>,
    fingerprints: &Fingerprints<'a>,
    index: usize,
    module: &'a Module,
) -> ModuleInfo {
    let code = hasher.module(index);
    let opener = file_line(program, module.block, 0);
    ModuleInfo {
        id: String::new(),
        entry: program.entries[module.entry].clone(),
        memory: module.memory,
        byte_address: module.byte_address,
        words: module.words,
        skip_execution: module.skip_execution,
        init_only: module.init_only,
        code_hash: code.hash,
        references: code.modules.into_iter().filter(|&other| other != index).map(|other| other as u32).collect(),
        line: opener,
        items: module.items.iter().map(|item| describe_item(program, fingerprints, module, item, opener)).collect(),
    }
}

fn describe_item(program: &Program, fingerprints: &Fingerprints<'_>, module: &Module, item: &program::Item, opener: u32) -> Item {
    let element = element_type(item.declared);
    let count = element_count(item.count);
    let initial = fingerprints.initial(module.memory, item.byte_address, u64::from(count) * u64::from(element.bytes()));
    let holds_addresses = item.declared.is_array && item.declared.pointer_depth > 0;
    Item {
        name: String::new(),
        element,
        is_array: item.declared.is_array,
        count,
        byte_address: item.byte_address,
        words: item.words,
        default_fingerprint: if holds_addresses { fingerprints.of_addresses(&initial) } else { fingerprints::of_bytes(&initial) },
        initial_bytes: initial.len() as u32,
        points_at: item.default_address.as_ref().map(|range| PointsAt {
            memory: range.memory,
            address: range.byte_address,
            module: Some(program.modules[range.module].id.clone()),
            item: range.item.map(|item| program.modules[range.module].items[item].name.clone()),
        }),
        line: opener + item.line,
    }
}

/// A declared count, as manifests have it: it may be fractional or negative (LANGUAGE §7).
pub(super) fn element_count(declared: f64) -> u32 {
    declared.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// The type of an item's elements, as manifests have it.
pub(super) fn element_type(declared: DeclaredType) -> ElementType {
    if declared.pointer_depth > 0 {
        // `int32` is never pointed at by name, so that `int` says all there is to say.
        let base = declared.base.pointee().unwrap_or(PointeeType::Int);
        return ElementType::Pointer { base, depth: declared.pointer_depth };
    }
    match declared.base {
        BaseType::Int | BaseType::Int32 => ElementType::Int32,
        BaseType::Int8 => ElementType::Int8,
        BaseType::Int8u => ElementType::Int8u,
        BaseType::Int16 => ElementType::Int16,
        BaseType::Int16u => ElementType::Int16u,
        BaseType::Float => ElementType::Float32,
        BaseType::Float64 => ElementType::Float64,
    }
}

fn entries(program: &Program) -> Vec<EntryInfo> {
    let entries = program.entries.iter().enumerate();
    entries.map(|(index, name)| EntryInfo { name: name.clone(), steps: steps(program, |module| runs_in(module, index)) }).collect()
}

fn runs_in(module: &Module, entry: usize) -> bool {
    module.entry == entry && !module.skip_execution && !module.init_only
}

fn steps(program: &Program, runs: impl Fn(&Module) -> bool) -> Vec<u32> {
    let modules = program.modules.iter().enumerate();
    modules.filter(|(_, module)| runs(module)).map(|(index, _)| index as u32).collect()
}

fn exports(program: &Program, functions: &Functions, hasher: &Hasher<'_>) -> Vec<ExportInfo> {
    let init_only = steps(program, is_init_only);
    let mut exports = vec![dispatcher(program, INIT_DEFAULTS, &init_only)];
    for (index, name) in program.entries.iter().enumerate() {
        exports.push(dispatcher(program, name, &steps(program, |module| runs_in(module, index))));
    }
    if program.modules.iter().any(|module| module.init_only) {
        exports.push(dispatcher(program, INIT_ONLY, &init_only));
    }
    for (index, signature) in functions.signatures.iter().enumerate() {
        if let Some(name) = &signature.export {
            let (params, results) = value_types(signature);
            exports.push(ExportInfo { name: name.clone(), code_hash: hasher.function(index), params, results });
        }
    }
    exports
}

/// An export that runs modules: what it does is their order.
fn dispatcher(program: &Program, name: &str, steps: &[u32]) -> ExportInfo {
    let mut ids: SmallVec<[u8; 256]> = SmallVec::new();
    for &step in steps {
        ids.extend_from_slice(program.modules[step as usize].id.as_bytes());
        ids.push(b'\n');
    }
    ExportInfo { name: name.to_owned(), code_hash: ContentHash::of(&[&ids]), params: Vec::new(), results: Vec::new() }
}

fn imports(program: &Program, functions: &Functions) -> Vec<ImportInfo> {
    let pairs = program.functions.iter().zip(&functions.signatures);
    let imported = pairs.filter_map(|(function, signature)| {
        let (field, span) = function.imports.first()?;
        let (params, results) = value_types(signature);
        let line = file_line(program, function.block, span.line);
        Some(ImportInfo { module: "host".to_owned(), field: field.clone(), params, results, line })
    });
    imported.collect()
}

fn value_types(signature: &Signature) -> (Vec<ValueType>, Vec<ValueType>) {
    let value_type = |ty| match ty {
        Type::I32 => ValueType::Int,
        Type::F32 => ValueType::Float,
        Type::F64 => ValueType::Float64,
    };
    let params = signature.params.iter().map(|param| value_type(param.ty.ty()));
    (params.collect(), signature.results.iter().map(|ty| value_type(ty.ty())).collect())
}

/// Line of the file for a line of a block; 0 inside an include.
fn file_line(program: &Program, block: BlockId, line: u32) -> u32 {
    program.blocks.get(block).and_then(|block| block.file_line).map_or(0, |opener| opener + line)
}
