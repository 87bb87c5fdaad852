//! Writes a whole binary: types, imports, functions, exports, code, data, and the source map beside it (LANGUAGE §16).
//!
//! Exports are exactly those of the program; there is no start function and no active segment, so instantiating a module never
//! touches memory. Pure computation.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, EntityType, ExportKind, ExportSection, FunctionSection, GlobalSection,
    GlobalType, ImportSection, MemoryType, Module, TypeSection, ValType,
};

use super::body::{self, Body, Point, val_type};
use crate::middle::function::Function;
use crate::middle::operators::Type;
use crate::middle::program::Program;

/// A binary and where its code stems from.
#[derive(Debug)]
pub struct Emitted {
    pub wasm: Vec<u8>,
    /// Offsets into `wasm`, ascending.
    pub points: Vec<Point>,
}

/// Types of parameters or results: few.
type Types = SmallVec<[Type; 16]>;

/// So many function types are found by looking at each; there are seldom more.
const SEARCHED_TYPES: usize = 8;

/// Function types of a binary, each once, in order of first use.
#[derive(Debug, Default)]
pub struct TypeRegistry {
    signatures: Vec<(Types, Types)>,
    /// Those behind the first ones.
    indices: FxHashMap<(Types, Types), u32>,
}

impl TypeRegistry {
    /// Index of a type; registers it when it is new.
    pub fn index(&mut self, params: &[Type], results: &[Type]) -> u32 {
        let is_same = |signature: &(Types, Types)| signature.0.as_slice() == params && signature.1.as_slice() == results;
        if let Some(index) = self.signatures.iter().take(SEARCHED_TYPES).position(is_same) {
            return index as u32;
        }
        let signature = (Types::from_slice(params), Types::from_slice(results));
        let next = self.signatures.len() as u32;
        if (next as usize) < SEARCHED_TYPES {
            self.signatures.push(signature);
            return next;
        }
        let signatures = &mut self.signatures;
        *self.indices.entry(signature).or_insert_with_key(|signature| {
            signatures.push(signature.clone());
            next
        })
    }

    fn section(&self) -> TypeSection {
        let mut section = TypeSection::new();
        for (params, results) in &self.signatures {
            section.ty().function(params.iter().copied().map(val_type), results.iter().copied().map(val_type));
        }
        section
    }
}

/// Writes the program's binary.
pub fn emit(program: &Program) -> Emitted {
    let mut types = TypeRegistry::default();
    let imports = imports(program, &mut types);
    let mut functions = FunctionSection::new();
    for function in &program.functions {
        functions.function(types.index(function.param_types(), &function.results));
    }
    let bodies: Vec<Body> = program.functions.iter().map(|function: &Function| body::write(program, function, &mut types)).collect();

    let mut module = Module::new();
    module.section(&types.section());
    module.section(&imports);
    module.section(&functions);
    if let Some(budget) = program.budget {
        module.section(&globals(budget));
    }
    module.section(&exports(program));
    if !program.segments.is_empty() {
        module.section(&DataCountSection { count: program.segments.len() as u32 });
    }
    let (code, points) = code(&bodies, module.len());
    module.section(&code);
    if !program.segments.is_empty() {
        module.section(&data(program));
    }
    Emitted { wasm: module.finish(), points }
}

/// Imported functions, then the memories.
fn imports(program: &Program, types: &mut TypeRegistry) -> ImportSection {
    let mut section = ImportSection::new();
    for import in &program.imports {
        section.import(&import.module, &import.field, EntityType::Function(types.index(&import.params, &import.results)));
    }
    for memory in &program.memories {
        let pages = memory.pages();
        let ty = MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared: false, page_size_log2: None };
        section.import("host", &memory.name, EntityType::Memory(ty));
    }
    section
}

fn globals(budget: u64) -> GlobalSection {
    let mut section = GlobalSection::new();
    let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
    section.global(ty, &ConstExpr::i64_const(budget.min(i64::MAX as u64) as i64));
    section
}

fn exports(program: &Program) -> ExportSection {
    let mut section = ExportSection::new();
    for export in &program.exports {
        section.export(&export.name, ExportKind::Func, export.function.0);
    }
    section
}

fn data(program: &Program) -> DataSection {
    let mut section = DataSection::new();
    for segment in &program.segments {
        section.passive(segment.bytes.iter().copied());
    }
    section
}

/// The code section, and the source points with offsets into the binary. `before` is the length of everything in front.
fn code(bodies: &[Body], before: usize) -> (CodeSection, Vec<Point>) {
    let mut section = CodeSection::new();
    let lengths: Vec<usize> = bodies.iter().map(|body| leb_bytes(body.bytes.len()) + body.bytes.len()).collect();
    let content = leb_bytes(bodies.len()) + lengths.iter().sum::<usize>();
    let mut start = before + 1 + leb_bytes(content) + leb_bytes(bodies.len());
    let mut points = Vec::new();
    for (body, length) in bodies.iter().zip(lengths) {
        section.raw(&body.bytes);
        let first = start + leb_bytes(body.bytes.len());
        points.extend(body.points.iter().map(|point| Point { offset: point.offset + first as u32, ..*point }));
        start += length;
    }
    (section, points)
}

/// Bytes of an unsigned number in LEB128.
fn leb_bytes(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    (bits.max(1) as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_leb_numbers() {
        assert_eq!([0, 127, 128, 16_383, 16_384].map(leb_bytes), [1, 1, 2, 2, 3]);
    }
}
