//! The assist program: a hand-made artifact whose job is to fail in named ways, and to sound when it does not.
//!
//! One module `assist` with one item of every kind, exports `initDefaults`, `main`, `buffer`, `answer` and `takesOne`. What
//! it does in its `buffer` is told by its items, so that one piece of code serves every test:
//!
//! - `counter` counts the calls of `buffer` (and of `main`);
//! - while `from` <= counter < `until`, `buffer` fails as `mode` says, before it has touched its outputs;
//! - otherwise `left[i]` = counter * 128 + i, `right[i]` is the negative of it.

use std::path::PathBuf;

use ipc::artifact::Artifact;
use ipc::diagnostic::BlockName;
use ipc::engine::engine_config;
use ipc::hash::ContentHash;
use ipc::limits::MAX_KEPT_START_BYTES;
use ipc::manifest::{
    ConfigEntry, ElementType, EntryInfo, ExportInfo, ImportInfo, Item, Manifest, MemoryInfo, ModuleInfo, PointeeType, SourceBlock,
    SourcePoint, ValueType,
};
use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, InstructionSink, MemArg,
    MemoryType, Module, TypeSection, ValType,
};

pub const COUNTER: u32 = 4;
pub const MODE: u32 = 8;
pub const FROM: u32 = 12;
pub const UNTIL: u32 = 16;
pub const HALVED: u32 = 20;
pub const BYTES: u32 = 32;
pub const SHORTS: u32 = 40;
pub const BIG: u32 = 48;
pub const POINTER: u32 = 56;
pub const CLIP: u32 = 64;
pub const LEFT: u32 = 1024;
pub const RIGHT: u32 = 1536;

/// How `buffer` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Division = 1,
    Overflow = 2,
    Outside = 3,
    Recursion = 4,
    Runaway = 5,
    Unreachable = 6,
    /// Not a failure of the call: one sample of the left output is not a number.
    NotANumber = 7,
    /// Divides by zero inside a library function, which has no line in the performer's file.
    InLibrary = 8,
    /// Not a failure of the call: it asks for another page of memory, and takes no for an answer.
    Growth = 9,
}

/// 1-based line of the module's opener.
pub const MODULE_LINE: u32 = 10;
/// Line of the file that fails in each mode.
pub fn line_of(mode: Mode) -> u32 {
    MODULE_LINE + 20 + mode as u32
}

/// What differs between two assist programs.
#[derive(Clone, Default)]
pub struct Assist {
    pub defaults: Vec<(u32, i32)>,
    pub config: Vec<(&'static str, String, u32)>,
    pub without_buffer: bool,
    /// Declares and calls a function import, as `#import NAME` on line 3 would.
    pub import: Option<&'static str>,
    /// `initDefaults` divides by zero after it has filled the memory.
    pub fails_at_start: bool,
    /// A second memory, a region, with one item in it.
    pub region: bool,
    /// Its memory is larger than what is kept of a tick's start.
    pub is_large: bool,
}

impl Assist {
    /// Sounds on both channels.
    pub fn sounding() -> Self {
        let config = vec![
            ("audioRuntime.audioOutBufferLAddress", "left".to_owned(), 12),
            ("audioRuntime.audioOutBufferRAddress", "assist:right".to_owned(), 13),
        ];
        Self { config, ..Self::default() }
    }

    /// Fails in ticks whose counter lies in `from..until`; the first tick has counter 1.
    pub fn failing(mode: Mode, from: i32, until: i32) -> Self {
        Self { defaults: vec![(MODE, mode as i32), (FROM, from), (UNTIL, until)], ..Self::sounding() }
    }

    /// What a failing tick did until then stays done.
    pub fn large(self) -> Self {
        Self { is_large: true, ..self }
    }

    fn pages(&self) -> u64 {
        if self.is_large { MAX_KEPT_START_BYTES / 65_536 + 1 } else { 1 }
    }

    pub fn with_config(mut self, path: &'static str, value: &str, line: u32) -> Self {
        self.config.push((path, value.to_owned(), line));
        self
    }

    /// The complete artifact, native code included.
    pub fn artifact(&self) -> Artifact {
        let (wasm, source_map) = self.wasm();
        let engine = wasmtime::Engine::new(&engine_config()).unwrap();
        let native = engine.precompile_module(&wasm).unwrap();
        Artifact { manifest: self.manifest(source_map), image: Vec::new(), wasm, native }
    }

    fn manifest(&self, source_map: Vec<SourcePoint>) -> Manifest {
        let mut memories = vec![MemoryInfo { name: "memory".into(), required_bytes: 2048, pages: self.pages() }];
        let mut modules = vec![module("assist", 0, items())];
        if self.region {
            memories.push(MemoryInfo { name: "tape".into(), required_bytes: 8, pages: 1 });
            modules.push(module("recorder", 1, vec![item("counter", ElementType::Int32, None, 4, 1)]));
        }
        let plain =
            |name: &str| ExportInfo { name: name.into(), code_hash: ContentHash::of(&[name.as_bytes()]), params: vec![], results: vec![] };
        let mut exports = vec![plain("initDefaults"), plain("main")];
        exports.push(ExportInfo { results: vec![ValueType::Int], ..plain("answer") });
        exports.push(ExportInfo { params: vec![ValueType::Int], ..plain("takesOne") });
        if !self.without_buffer {
            exports.push(plain("buffer"));
        }
        let import = |field: &str| ImportInfo { module: "host".into(), field: field.into(), params: vec![], results: vec![], line: 3 };
        Manifest {
            language: "8f4e/v1".into(),
            revision: ContentHash::of(&[b"assist"]),
            memories,
            modules,
            entries: vec![EntryInfo { name: "main".into(), steps: vec![0] }],
            exports,
            imports: self.import.iter().map(|field| import(field)).collect(),
            config: self.config.iter().map(|(path, value, line)| config(&[path, value], *line)).collect(),
            environment: Vec::new(),
            source_map,
            blocks: vec![block("assist", Some(MODULE_LINE)), block("library", None)],
        }
    }

    fn wasm(&self) -> (Vec<u8>, Vec<SourcePoint>) {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        types.ty().function([], [ValType::I32]);
        types.ty().function([ValType::I32], []);
        let mut imports = ImportSection::new();
        if let Some(field) = self.import {
            imports.import("host", field, EntityType::Function(0));
        }
        let page = MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None };
        imports.import("host", "memory", MemoryType { minimum: self.pages(), maximum: Some(self.pages()), ..page });
        if self.region {
            imports.import("host", "tape", page);
        }
        let first = u32::from(self.import.is_some());
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        let bodies = [
            (0, self.initialise()),
            (0, main_body()),
            (1, answer_body()),
            (2, empty_body()),
            (0, buffer_body(first)),
            (0, recursion_body(first + 5)),
            (0, library_body()),
        ];
        for (ty, body) in &bodies {
            functions.function(*ty);
            code.function(&body.function);
        }
        let mut exports = ExportSection::new();
        for (index, name) in ["initDefaults", "main", "answer", "takesOne", "buffer"].into_iter().enumerate() {
            if name != "buffer" || !self.without_buffer {
                exports.export(name, ExportKind::Func, first + index as u32);
            }
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
        let wasm = module.finish();
        let source_map = source_map(&wasm, &bodies.map(|(_, body)| body));
        (wasm, source_map)
    }

    fn initialise(&self) -> Body {
        let mut body = Body::new(&[]);
        body.code().i32_const(0).i32_const(0).i32_const(2048).memory_fill(0);
        for (address, value) in &self.defaults {
            body.code().i32_const(0).i32_const(*value).i32_store(at(*address));
        }
        if self.fails_at_start {
            body.mark(4, 0, false);
            body.code().i32_const(1).i32_const(0).i32_div_s().drop();
        }
        body.finish()
    }
}

/// A function under construction, with the source points inside it.
struct Body {
    function: Function,
    /// Offset in the body, line in block, block, budget.
    points: Vec<(usize, u32, u32, bool)>,
}

impl Body {
    fn new(locals: &[ValType]) -> Self {
        let mut body = Self { function: Function::new_with_locals_types(locals.iter().copied()), points: Vec::new() };
        body.mark(0, 0, false);
        body
    }

    fn code(&mut self) -> InstructionSink<'_> {
        self.function.instructions()
    }

    /// From here on, code stems from this line.
    fn mark(&mut self, line_in_block: u32, block: u32, is_budget: bool) {
        self.points.push((self.function.byte_len(), line_in_block, block, is_budget));
    }

    fn finish(mut self) -> Self {
        self.code().end();
        self
    }
}

/// Turns offsets in bodies into offsets in the file. The code section is the last, so they are counted from its end.
fn source_map(wasm: &[u8], bodies: &[Body]) -> Vec<SourcePoint> {
    let mut end = wasm.len();
    let mut points = Vec::new();
    for body in bodies.iter().rev() {
        let length = body.function.byte_len();
        let start = end - length;
        points.extend(body.points.iter().rev().map(|(offset, line_in_block, block, is_budget)| SourcePoint {
            wasm_offset: (start + offset) as u32,
            block: *block,
            line_in_block: *line_in_block,
            is_budget: *is_budget,
        }));
        end = start - if length < 128 { 1 } else { 2 };
    }
    points.reverse();
    points
}

fn at(address: u32) -> MemArg {
    MemArg { offset: u64::from(address), align: 2, memory_index: 0 }
}

fn increment(body: &mut Body) {
    body.code().i32_const(0).i32_const(0).i32_load(at(COUNTER)).i32_const(1).i32_add().i32_store(at(COUNTER));
}

/// Counts, and halves the smallest normal number: the result is a denormal, or zero where denormals are flushed.
fn main_body() -> Body {
    let mut body = Body::new(&[]);
    increment(&mut body);
    halve(&mut body);
    body.finish()
}

fn halve(body: &mut Body) {
    // The factor is read from memory, or the compiler would do the sum itself.
    body.code().i32_const(0).i32_const(0x3f00_0000).i32_store(at(HALVED));
    body.code().i32_const(0).i32_const(0).f32_load(at(HALVED)).f32_const(f32::MIN_POSITIVE.into()).f32_mul().f32_store(at(HALVED));
}

fn answer_body() -> Body {
    let mut body = Body::new(&[]);
    increment(&mut body);
    body.code().i32_const(42);
    body.finish()
}

fn empty_body() -> Body {
    Body::new(&[]).finish()
}

fn recursion_body(own_index: u32) -> Body {
    let mut body = Body::new(&[]);
    body.mark(20 + Mode::Recursion as u32, 0, false);
    body.code().call(own_index).call(own_index);
    body.finish()
}

fn library_body() -> Body {
    let mut body = Body { function: Function::new([]), points: Vec::new() };
    body.mark(1, 1, false);
    body.code().i32_const(1).i32_const(0).i32_div_s().drop();
    body.finish()
}

/// `buffer`: counts, fails where it is told to, then fills both outputs.
fn buffer_body(first: u32) -> Body {
    let mut body = Body::new(&[ValType::I32, ValType::I32]);
    increment(&mut body);
    halve(&mut body);
    body.code().i32_const(0).i32_load(at(COUNTER)).local_set(0);
    // if from <= counter && counter < until
    body.code().i32_const(0).i32_load(at(FROM)).local_get(0).i32_le_s();
    body.code().local_get(0).i32_const(0).i32_load(at(UNTIL)).i32_lt_s().i32_and().if_(BlockType::Empty);
    for mode in [Mode::Division, Mode::Overflow, Mode::Outside, Mode::Recursion, Mode::Runaway, Mode::Unreachable, Mode::InLibrary] {
        // The condition belongs to the line too: where nothing but a trap follows it, native code traps in its place.
        body.mark(20 + mode as u32, 0, mode == Mode::Runaway);
        body.code().i32_const(0).i32_load(at(MODE)).i32_const(mode as i32).i32_eq().if_(BlockType::Empty);
        fail(&mut body, mode, first);
        body.mark(40, 0, false);
        body.code().end();
    }
    body.code().end();
    fill_outputs(&mut body);
    body.code().i32_const(0).i32_load(at(MODE)).i32_const(Mode::NotANumber as i32).i32_eq().if_(BlockType::Empty);
    body.code().i32_const(0).f32_const(f32::NAN.into()).f32_store(at(LEFT + 4)).end();
    body.code().i32_const(0).i32_load(at(MODE)).i32_const(Mode::Growth as i32).i32_eq().if_(BlockType::Empty);
    body.code().i32_const(1).memory_grow(0).drop().end();
    body.finish()
}

fn fail(body: &mut Body, mode: Mode, first: u32) {
    let mut code = body.code();
    match mode {
        Mode::Division => code.i32_const(1).i32_const(0).i32_div_s().drop(),
        Mode::Overflow => code.i32_const(i32::MIN).i32_const(-1).i32_div_s().drop(),
        Mode::Outside => code.i32_const(-64).i32_load(at(0)).drop(),
        Mode::Recursion => code.call(first + 5),
        Mode::InLibrary => code.call(first + 6),
        Mode::Runaway | Mode::Unreachable => code.unreachable(),
        Mode::NotANumber | Mode::Growth => &mut code,
    };
}

fn fill_outputs(body: &mut Body) {
    let mut code = body.code();
    code.i32_const(0).local_set(1).loop_(BlockType::Empty);
    for (address, sign) in [(LEFT, 1.0f32), (RIGHT, -1.0)] {
        code.local_get(1).i32_const(4).i32_mul();
        code.local_get(0).i32_const(128).i32_mul().local_get(1).i32_add().f32_convert_i32_s().f32_const(sign.into()).f32_mul();
        code.f32_store(at(address));
    }
    code.local_get(1).i32_const(1).i32_add().local_tee(1).i32_const(128).i32_lt_s().br_if(0).end();
}

fn items() -> Vec<Item> {
    let pointer = ElementType::Pointer { base: PointeeType::Float, depth: 1 };
    vec![
        item("counter", ElementType::Int32, None, COUNTER, 1),
        item("mode", ElementType::Int32, None, MODE, 1),
        item("from", ElementType::Int32, None, FROM, 1),
        item("until", ElementType::Int32, None, UNTIL, 1),
        item("halved", ElementType::Float32, None, HALVED, 1),
        item("bytes", ElementType::Int8, Some(8), BYTES, 2),
        item("shorts", ElementType::Int16u, Some(4), SHORTS, 2),
        item("big", ElementType::Float64, None, BIG, 2),
        item("pointer", pointer, None, POINTER, 1),
        item("clip", ElementType::Int32, Some(4), CLIP, 4),
        item("left", ElementType::Float32, Some(128), LEFT, 128),
        item("right", ElementType::Float32, Some(128), RIGHT, 128),
    ]
}

fn item(name: &str, element: ElementType, count: Option<u32>, byte_address: u32, words: u32) -> Item {
    let (is_array, count) = (count.is_some(), count.unwrap_or(1));
    Item {
        name: name.into(),
        element,
        is_array,
        count,
        byte_address,
        words,
        default_fingerprint: 0,
        initial_bytes: 0,
        points_at: None,
        line: MODULE_LINE + 1,
    }
}

fn module(id: &str, memory: u32, items: Vec<Item>) -> ModuleInfo {
    ModuleInfo {
        id: id.into(),
        entry: "main".into(),
        memory,
        byte_address: 4,
        words: 511,
        skip_execution: false,
        init_only: false,
        code_hash: ContentHash::of(&[id.as_bytes()]),
        references: Vec::new(),
        line: MODULE_LINE,
        items,
    }
}

fn block(id: &str, line: Option<u32>) -> SourceBlock {
    SourceBlock { name: BlockName { kind: "module".into(), id: id.into() }, line, include: None }
}

/// A `@config` entry inside the module `assist`.
pub fn config(arguments: &[&str], line: u32) -> ConfigEntry {
    ConfigEntry {
        directive: "config".into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        block: BlockName { kind: "module".into(), id: "assist".into() },
        line,
    }
}

/// A fresh empty folder, removed with the value.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("continuo-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
