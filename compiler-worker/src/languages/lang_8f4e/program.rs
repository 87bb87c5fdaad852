//! What the front half of the 8f4e compiler (text → resolved program) hands to the back half (analysis → middle).
//!
//! In a [`Program`] nothing has to be looked up in text any more: constants and compile-time references have become literals,
//! memory is laid out, defaults are encoded. What is left in the bodies are instructions with literals, names of locals,
//! parameters and memory items, and dereferences. Errors that need the operand stack are still to be found.

use std::borrow::Cow;

use ipc::manifest::{ConfigEntry, PointeeType};
use smallvec::SmallVec;

use super::error::LanguageError;
use super::instruction::Instruction;
use super::library::LibraryFunction;

/// A resolved program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Entry names in entry order (LANGUAGE §2); `main` is always among them.
    pub entries: Vec<String>,
    /// Modules in entry order, then document order: the order of execution.
    pub modules: Vec<Module>,
    /// Functions in document order, those of included libraries at the place of their `includes` block.
    pub functions: Vec<Function>,
    pub prototypes: Vec<Prototype>,
    /// Memories 0 … highest used index.
    pub memories: Vec<Memory>,
    /// Passive data segments in order (LANGUAGE §8).
    pub data: Vec<DataSegment>,
    /// Runtime directives of comments, in the order they apply in.
    pub config: Vec<ConfigEntry>,
    /// Names and values of the `constants env` block, overrides applied; empty when there is none.
    pub environment: Vec<(String, f64)>,
    /// Every block that has code or declarations; `BlockId` indexes it.
    pub blocks: Vec<BlockInfo>,
    /// Directives in comments that are wrong. The language itself ignores comments, so they count after all other errors.
    pub directive_errors: Vec<LanguageError>,
}

/// Index into [`Program::blocks`].
pub type BlockId = usize;

/// Where a block of source stands.
#[derive(Clone, Debug)]
pub struct BlockInfo {
    /// `module`, `function`, `constants`, `prototype`.
    pub kind: &'static str,
    pub id: String,
    /// 1-based line of the opener in the file; `None` inside an include.
    pub file_line: Option<u32>,
    /// The include it stems from.
    pub include: Option<String>,
}

/// One linear memory and how much of it is occupied.
#[derive(Clone, Debug)]
pub struct Memory {
    pub name: String,
    pub required_bytes: u64,
    /// Bytes up to the end of the last one that `initDefaults` writes: more than the items occupy where one of no size has a
    /// default of its own (LANGUAGE §25).
    pub initial_bytes: u64,
}

/// Bytes that `initDefaults` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSegment {
    pub memory: u32,
    pub address: u32,
    pub bytes: Vec<u8>,
}

/// A module: one step of its entry.
#[derive(Clone, Debug)]
pub struct Module {
    pub id: String,
    pub block: BlockId,
    /// Index into [`Program::entries`].
    pub entry: usize,
    pub skip_execution: bool,
    pub init_only: bool,
    /// `#loopCap`, if given.
    pub loop_cap: Option<u32>,
    /// Memory index its items live in.
    pub memory: u32,
    pub byte_address: u32,
    /// Words occupied by all items together.
    pub words: u32,
    /// Items in declaration order, shadowed ones included; look names up from the end.
    pub items: Vec<Item>,
    /// Indices of the modules that the declared defaults hold addresses of.
    pub default_modules: Vec<usize>,
    /// Ids of the prototypes expanded here with `shape`.
    pub shapes: Vec<String>,
    /// Executable lines and `local` declarations, in order. Declarations, directives, `const`, `use`, `shape` are gone.
    pub body: Vec<Line>,
}

impl Module {
    /// The item that `name` means: the last one declared with it.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().rev().find(|item| item.name == name)
    }
}

/// A function of the project or of an included library.
#[derive(Clone, Debug)]
pub struct Function {
    /// Name as called. Private library functions carry their mangled name (LANGUAGE §19).
    pub name: String,
    pub block: BlockId,
    pub is_impure: bool,
    /// `#export` lines: alias (default: the name) and line, in order. More than one is an error found later.
    pub exports: Vec<(String, Span)>,
    /// `#import` lines: field and line, in order.
    pub imports: Vec<(String, Span)>,
    pub loop_cap: Option<u32>,
    /// Everything after the directives in order: `param`, `paramShape`, `local`, executable lines, and last `functionEnd`
    /// with its result types as arguments. `const` and `use` are gone.
    pub body: Cow<'static, [Line]>,
    /// Set if it is one of the library.
    pub library: Option<LibraryPlace>,
}

/// Where a function of the library has got in a program.
#[derive(Clone, Copy, Debug)]
pub struct LibraryPlace {
    /// What the passes know about it.
    pub known: &'static LibraryFunction,
    /// Index of the first function of the same text in [`Program::functions`]. The others follow it.
    pub family: usize,
}

/// A prototype: declarations that `shape` expands and `paramShape`/`pushShape` turn into pointers.
#[derive(Clone, Debug)]
pub struct Prototype {
    pub id: String,
    pub block: BlockId,
    pub items: Vec<PrototypeItem>,
}

#[derive(Clone, Debug)]
pub struct PrototypeItem {
    /// `__anonymous__N` when it has no name (then `is_anonymous`).
    pub name: String,
    pub is_anonymous: bool,
    pub declared: DeclaredType,
}

/// A type as written in a memory declaration: `float`, `int16u*`, `float64[]`, `int*[]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredType {
    pub base: BaseType,
    /// Number of stars: 0, 1, 2.
    pub pointer_depth: u8,
    pub is_array: bool,
}

/// The word a declared type starts with. `Int32` exists as `int32[]` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BaseType {
    Int,
    Int8,
    Int8u,
    Int16,
    Int16u,
    Int32,
    Float,
    Float64,
}

impl BaseType {
    /// What a pointer to it points at; `None` for `int32`, which no pointer type names.
    pub fn pointee(self) -> Option<PointeeType> {
        Some(match self {
            Self::Int => PointeeType::Int,
            Self::Int8 => PointeeType::Int8,
            Self::Int8u => PointeeType::Int8u,
            Self::Int16 => PointeeType::Int16,
            Self::Int16u => PointeeType::Int16u,
            Self::Float => PointeeType::Float,
            Self::Float64 => PointeeType::Float64,
            Self::Int32 => return None,
        })
    }
}

impl DeclaredType {
    /// Size of one element in bytes.
    pub fn element_bytes(self) -> u32 {
        if self.pointer_depth > 0 {
            return 4;
        }
        match self.base {
            BaseType::Int8 | BaseType::Int8u => 1,
            BaseType::Int16 | BaseType::Int16u => 2,
            BaseType::Int | BaseType::Int32 | BaseType::Float => 4,
            BaseType::Float64 => 8,
        }
    }

    /// Whether an element is an integer (pointers are).
    pub fn is_integer(self) -> bool {
        self.pointer_depth > 0 || !matches!(self.base, BaseType::Float | BaseType::Float64)
    }
}

/// A memory item with its place (LANGUAGE §7).
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub declared: DeclaredType,
    /// Element count as declared; may be fractional, zero or negative (LANGUAGE §7). 1 for scalars.
    pub count: f64,
    pub byte_address: u32,
    /// Words occupied, padding before the item included (`wordAlignedSize`).
    pub words: u32,
    /// Address of the last word by the language's formula (`endByteAddress`).
    pub end_byte_address: u32,
    /// For pointers and integers whose declared default is an address: where it points.
    pub default_address: Option<AddressRange>,
    /// For pointers: element count of what the default points at, where `count(*p)` is known (LANGUAGE §10).
    pub pointee_count: Option<u32>,
    /// 0-based line inside the module (for items of a `shape`: the `shape` line).
    pub line: u32,
}

/// A line of a body.
#[derive(Clone, Debug)]
pub struct Line {
    pub instruction: Instruction,
    pub arguments: SmallVec<[Argument; 1]>,
    /// Where the instruction word stands; `span.line` is the line that errors and traps report.
    pub span: Span,
    /// Where each argument stands, parallel to `arguments`.
    pub argument_spans: SmallVec<[Span; 2]>,
}

/// A place inside a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// 0-based line inside the block.
    pub line: u32,
    /// 1-based column in characters.
    pub column: u32,
    /// Length in characters.
    pub length: u32,
}

/// An argument after resolution.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    Literal(Literal),
    /// A string literal, escapes resolved.
    Text(String),
    /// A name that is neither constant nor compile-time reference: a local, parameter, memory item, function, type … or
    /// something undeclared. Holds the token as written.
    Name(String),
    /// `*name` (depth 1) or `**name` (depth 2).
    Dereference {
        name: String,
        depth: u8,
    },
    /// A compile-time form that could not be resolved (unknown module or item, unresolvable expression): compiler error 5
    /// wherever it is used as a value. `what` is what the message names.
    Unresolved {
        what: String,
    },
    /// `count(*name)` whose answer depends on a parameter, local or unknown element count. See LANGUAGE §10.
    PointeeQuery {
        query: PointeeQuery,
        name: String,
        depth_written: u8,
    },
}

/// The pointee queries that only the back half can answer for locals and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointeeQuery {
    Count,
    Sizeof,
    Max,
    Min,
}

/// A number known at compile time.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// The value as a double; ints are neither range-checked nor wrapped.
    pub value: f64,
    pub kind: LiteralKind,
    /// Set when the literal is an address: where it may be used without a guard (LANGUAGE §10).
    pub range: Option<AddressRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralKind {
    Int,
    Float,
    Float64,
}

/// The `safeRange` of an address (LANGUAGE §10, §13).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddressRange {
    pub byte_address: u32,
    pub safe_bytes: u32,
    pub memory: u32,
    /// Index of the module it lies in, in [`Program::modules`].
    pub module: usize,
    /// Item it names, when it names one: index into that module's items.
    pub item: Option<usize>,
    /// Declared type of that item.
    pub item_type: Option<DeclaredType>,
}
