//! A whole program in the middle: memories, functions, what it imports and exports, its initial data.

use super::function::{Function, FunctionId, Region};
use super::operators::Type;

/// Bytes of one page of memory.
pub const PAGE_BYTES: u64 = 65_536;

/// A program, ready for passes and emission.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    pub memories: Vec<Memory>,
    pub imports: Vec<Import>,
    /// Defined functions; [`FunctionId`] counts them behind the imported ones.
    pub functions: Vec<Function>,
    /// In the order in which they are exported.
    pub exports: Vec<Export>,
    pub segments: Vec<Segment>,
    /// Operations that one call of an export may execute, when the program counts them.
    pub budget: Option<u64>,
}

/// A memory of fixed size that the host provides.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    pub name: String,
    /// Bytes the program's items occupy.
    pub required_bytes: u64,
    /// Bytes up to the end of the last one that initialisation writes, where that is more.
    pub initial_bytes: u64,
}

impl Memory {
    /// Pages the memory has: minimum and maximum.
    pub fn pages(&self) -> u64 {
        self.required_bytes.max(self.initial_bytes).div_ceil(PAGE_BYTES).max(1)
    }

    /// Bytes the memory has.
    pub fn bytes(&self) -> u64 {
        self.pages() * PAGE_BYTES
    }
}

/// A function the host provides.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    pub module: String,
    pub field: String,
    pub params: Vec<Type>,
    pub results: Vec<Type>,
}

/// A function the host can call.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    pub name: String,
    pub function: FunctionId,
}

/// Initial bytes of a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub memory: u32,
    pub address: u32,
    pub bytes: Vec<u8>,
}

impl Program {
    /// The defined function of this id; `None` for an imported one.
    pub fn function(&self, id: FunctionId) -> Option<&Function> {
        self.defined(id).map(|index| &self.functions[index])
    }

    /// Index of a defined function.
    pub fn defined(&self, id: FunctionId) -> Option<usize> {
        (id.0 as usize).checked_sub(self.imports.len())
    }

    /// Id of the defined function at `index`.
    pub fn id_of(&self, index: usize) -> FunctionId {
        FunctionId((self.imports.len() + index) as u32)
    }

    /// Size of a memory in bytes; 0 for one that does not exist.
    pub fn memory_bytes(&self, memory: u32) -> u64 {
        self.memories.get(memory as usize).map_or(0, Memory::bytes)
    }
}

/// Visits every region of a region, itself first.
pub fn for_each_region<'a>(region: &'a Region, visit: &mut impl FnMut(&'a Region)) {
    visit(region);
    for op in &region.ops {
        for inner in op.kind.regions() {
            for_each_region(inner, visit);
        }
    }
}

/// Visits every region of a region to change it, inner ones first.
pub fn for_each_region_mut(region: &mut Region, visit: &mut impl FnMut(&mut Region)) {
    for op in &mut region.ops {
        for inner in op.kind.regions_mut() {
            for_each_region_mut(inner, visit);
        }
    }
    visit(region);
}
