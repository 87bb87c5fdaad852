//! The manifest: an artifact's description, and all that hosts and supervisor know about a program.
//!
//! It names things by state key (module id, item name), says where they are, and maps native code back to source lines.
//! It is language-neutral: a module is whatever the language calls a step of its program. As JSON (`compile --manifest`) it
//! has the same fields in camelCase.

use serde::{Deserialize, Serialize};

use crate::diagnostic::BlockName;
use crate::hash::ContentHash;

/// Describes one revision of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Language and its version, such as `8f4e/v1`.
    pub language: String,
    /// Hash of all that the program depends on - source text, environment, memory regions, work budget - and of where its
    /// modules lie, which depends on the revision before it: the revision's name.
    pub revision: ContentHash,
    /// Memories in index order. Memory 0 is the default memory, the others are regions.
    pub memories: Vec<MemoryInfo>,
    /// Modules in execution order (entry order, then order within the entry).
    pub modules: Vec<ModuleInfo>,
    /// Entries in export order; each lists the modules that run when it is called.
    pub entries: Vec<EntryInfo>,
    /// All wasm exports in order: `initDefaults`, the entries, `initOnly` where there is one, exported functions.
    pub exports: Vec<ExportInfo>,
    /// Functions the program wants from its host besides memory: module and field name, signature.
    pub imports: Vec<ImportInfo>,
    /// `@config` directives in the order they apply in.
    pub config: Vec<ConfigEntry>,
    /// Names and values of the program's own `constants env` block; empty when it has none.
    pub environment: Vec<(String, f64)>,
    /// Byte offsets in the wasm binary, ascending, with the line each stems from up to the next entry.
    pub source_map: Vec<SourcePoint>,
    /// Blocks that `source_map` refers to.
    pub blocks: Vec<SourceBlock>,
}

impl Manifest {
    /// Finds an item by state key.
    pub fn item(&self, module: &str, item: &str) -> Option<(&ModuleInfo, &Item)> {
        let module = self.modules.iter().find(|m| m.id == module)?;
        // A name that is declared twice means the last declaration (LANGUAGE §6).
        Some((module, module.items.iter().rev().find(|i| i.name == item)?))
    }

    /// The source point that covers `wasm_offset`.
    pub fn source_at(&self, wasm_offset: u32) -> Option<&SourcePoint> {
        let after = self.source_map.partition_point(|point| point.wasm_offset <= wasm_offset);
        self.source_map[..after].last()
    }

    /// Whether the wasm module has an export of this name.
    pub fn has_export(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export.name == name)
    }
}

/// One linear memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryInfo {
    /// Field name under which it is imported from `host`: `memory` or the region's name.
    pub name: String,
    /// Bytes the program's items occupy, counted from address 0.
    pub required_bytes: u64,
    /// Pages of 64 KiB; minimum and maximum.
    pub pages: u64,
}

/// One module: a step of the program with its memory items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleInfo {
    pub id: String,
    /// Entry it belongs to.
    pub entry: String,
    /// Index into `Manifest::memories`.
    pub memory: u32,
    pub byte_address: u32,
    pub words: u32,
    /// Compiled and initialised, but not run by its entry.
    pub skip_execution: bool,
    /// Runs after initialisation instead of in its entry.
    pub init_only: bool,
    /// Hash of what the module does, functions it calls included, apart from addresses and defaults: tells whether its
    /// code changed.
    pub code_hash: ContentHash,
    /// Other modules that it refers to, in its code or in the defaults of its items: indices into `Manifest::modules`,
    /// ascending. The feedback loops of a program are the cycles of this graph.
    pub references: Vec<u32>,
    /// 1-based line of its opener in the file.
    pub line: u32,
    /// Items in declaration order, shadowed ones included.
    pub items: Vec<Item>,
}

/// One memory item. Its state key is (module id, `name`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub name: String,
    pub element: ElementType,
    /// Declared with `[]`.
    pub is_array: bool,
    /// Number of elements; 1 for scalars.
    pub count: u32,
    pub byte_address: u32,
    /// Words of 4 bytes from the cursor before the item to the cursor after it, padding included.
    pub words: u32,
    /// Fingerprint of the item's initial bytes (the first eight bytes of their hash, little-endian): tells whether its
    /// default changed. Addresses in an array of pointers count as what they name, as an address changes whenever its target
    /// moves. Where `points_at` is set, compare that instead, for the same reason.
    pub default_fingerprint: u64,
    /// Bytes from its start up to the last initial one that is not zero.
    pub initial_bytes: u32,
    /// The declared default is an address: of this memory, and this item where it names one.
    pub points_at: Option<PointsAt>,
    /// 1-based line of the file.
    pub line: u32,
}

impl Item {
    /// Bytes of the elements themselves, without padding.
    pub fn element_bytes(&self) -> u64 {
        u64::from(self.count) * u64::from(self.element.bytes())
    }
}

/// Where a default that is an address points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PointsAt {
    pub memory: u32,
    pub address: u32,
    pub module: Option<String>,
    pub item: Option<String>,
}

/// Type of one element of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ElementType {
    Int8,
    Int8u,
    Int16,
    Int16u,
    Int32,
    Float32,
    Float64,
    /// An address; `depth` is the number of stars, 1 or 2.
    Pointer {
        base: PointeeType,
        depth: u8,
    },
}

impl ElementType {
    /// Size of one element in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Int8 | Self::Int8u => 1,
            Self::Int16 | Self::Int16u => 2,
            Self::Int32 | Self::Float32 | Self::Pointer { .. } => 4,
            Self::Float64 => 8,
        }
    }
}

/// What a pointer finally points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PointeeType {
    Int8,
    Int8u,
    Int16,
    Int16u,
    Int,
    Float,
    Float64,
}

/// One entry: what an export of this name runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryInfo {
    pub name: String,
    /// Indices into `Manifest::modules`, in order of execution.
    pub steps: Vec<u32>,
}

/// Value types that cross the wasm boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueType {
    Int,
    Float,
    Float64,
}

/// One wasm export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportInfo {
    pub name: String,
    /// As [`ModuleInfo::code_hash`], for exported functions; for entries, the hash of the order of their steps.
    pub code_hash: ContentHash,
    pub params: Vec<ValueType>,
    pub results: Vec<ValueType>,
}

/// One function import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportInfo {
    pub module: String,
    pub field: String,
    pub params: Vec<ValueType>,
    pub results: Vec<ValueType>,
    /// 1-based line of the file that declares it.
    pub line: u32,
}

/// One directive of a source comment that concerns a runtime: `; @config PATH VALUE`, `; ~midiNoteOutput …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEntry {
    /// Directive name without its marker: `config`, `midiNoteOutput`, …
    pub directive: String,
    pub arguments: Vec<String>,
    /// The block it stands in, which qualifies bare item names.
    pub block: BlockName,
    /// 1-based line of the file.
    pub line: u32,
}

/// From `wasm_offset` on, code stems from `line`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePoint {
    /// Offset in the wasm binary in bytes.
    pub wasm_offset: u32,
    /// Index into `Manifest::blocks`.
    pub block: u32,
    /// 0-based line inside the block.
    pub line_in_block: u32,
    /// The instruction is the work budget's own trap.
    pub is_budget: bool,
}

/// A block of source that has code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceBlock {
    pub name: BlockName,
    /// 1-based line of its opener in the file; `None` for library functions.
    pub line: Option<u32>,
    /// The include a library function stems from.
    pub include: Option<String>,
}
