//! The engine: one loaded revision with its memories, ready to be called.
//!
//! Built on the control thread by a [`Loader`], used by the tick thread, freed on the control thread again. It never
//! compiles, and never sees bytes whose hash was not checked.

use std::sync::Arc;

use ipc::artifact::{Artifact, ArtifactError, DefaultBytes};
use ipc::engine::engine_config;
use ipc::limits::MAX_PROGRAM_MEMORY_BYTES;
use ipc::manifest::{ExportInfo, Manifest};
use ipc::message::Refusal;
use ipc::segment::{SegmentError, SegmentRef};
use wasmtime::{
    Extern, ExternType, Func, FuncType, Instance, Memory, MemoryType, Module, ResourceLimiter, Store, Trap, TypedFunc, Val, ValType,
};

use super::failure::Failure;

/// Module name under which programs import their memories and functions (LANGUAGE §16).
const IMPORT_MODULE: &str = "host";
/// The export that fills the memories with their defaults (LANGUAGE §15.2).
const INITIALISE: &str = "initDefaults";
/// The export that runs the init-only modules, where a program has any (LANGUAGE §24).
pub const INIT_ONLY: &str = "initOnly";
/// Bytes in a page of linear memory.
const PAGE_BYTES: u64 = 65_536;
/// Smallest page of the operating system.
const OS_PAGE_BYTES: usize = 4_096;

/// Why an artifact did not become an engine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("the artifact has no native code; it was compiled for inspection only")]
    NoNativeCode,
    #[error("the native code cannot be loaded ({0}); worker and host must be of one build")]
    Native(String),
    #[error("the program imports the function `{module}.{field}`, which this runtime does not provide; remove `#import {field}`")]
    FunctionImport { module: String, field: String, line: Option<u32> },
    #[error("the artifact's code and its manifest do not fit together: {0}")]
    Interface(String),
    #[error("the program needs {need} bytes of memory, the limit is {MAX_PROGRAM_MEMORY_BYTES}")]
    TooMuchMemory { need: u64 },
    #[error("the program's memory cannot be reserved: {0}; raise the limit on address space (`ulimit -v unlimited`), or free memory")]
    Memory(String),
    #[error("no engine can be made on this machine: {0}")]
    Unavailable(String),
}

impl LoadError {
    /// The refusal to answer the supervisor with.
    pub fn to_refusal(&self) -> Refusal {
        let line = match self {
            Self::FunctionImport { line, .. } => *line,
            _ => None,
        };
        Refusal { message: self.to_string(), line, is_damaged: self.is_damaged(), is_machine: self.is_machine() }
    }

    fn is_machine(&self) -> bool {
        match self {
            Self::Memory(_) | Self::Unavailable(_) => true,
            Self::Artifact(ArtifactError::Segment(SegmentError::Exhausted { .. })) => true,
            Self::Artifact(_) | Self::NoNativeCode | Self::Native(_) => false,
            Self::FunctionImport { .. } | Self::Interface(_) | Self::TooMuchMemory { .. } => false,
        }
    }

    fn is_damaged(&self) -> bool {
        match self {
            Self::Artifact(ArtifactError::Segment(SegmentError::ForeignName(_) | SegmentError::Exhausted { .. })) => false,
            Self::Artifact(_) => true,
            Self::NoNativeCode
            | Self::Native(_)
            | Self::FunctionImport { .. }
            | Self::Interface(_)
            | Self::TooMuchMemory { .. }
            | Self::Memory(_)
            | Self::Unavailable(_) => false,
        }
    }
}

/// What becomes of functions that a program wants from its host. No runtime type provides any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionImports {
    /// A program that is to be played or bounced is refused: it would not do what its author means.
    Refused,
    /// A program that is only looked at gets functions that do nothing and return zero.
    Silent,
}

/// Makes engines. One per process; cheap to clone.
#[derive(Clone)]
pub struct Loader {
    wasm: wasmtime::Engine,
}

impl Loader {
    pub fn new() -> Result<Self, LoadError> {
        let wasm = wasmtime::Engine::new(&engine_config()).map_err(|e| LoadError::Unavailable(e.to_string()))?;
        Ok(Self { wasm })
    }

    /// Copies and checks the artifact, then loads it. Its memories are zero until [`Engine::initialise`].
    pub fn load(&self, reference: &SegmentRef) -> Result<Engine, LoadError> {
        self.load_checked(&Artifact::read(reference)?, FunctionImports::Refused)
    }

    /// Loads an artifact whose hash has been checked.
    pub fn load_checked(&self, artifact: &Artifact, imports: FunctionImports) -> Result<Engine, LoadError> {
        if artifact.native.is_empty() {
            return Err(LoadError::NoNativeCode);
        }
        // SAFETY: `deserialize` demands bytes that wasmtime itself produced and nobody altered. These come from a segment
        // that only this session's worker writes, of the same build (the handshake checked that), and `Artifact::read`
        // compared the hash of this private copy with the announced one. Settings or versions that differ are an error.
        // The test `a_damaged_artifact_never_reaches_its_native_code` damages every part of the segment.
        let module = unsafe { Module::deserialize(&self.wasm, &artifact.native) }.map_err(|e| LoadError::Native(e.to_string()))?;
        Engine::instantiate(&self.wasm, &module, &artifact.manifest, imports)
    }

    /// Makes the process's first trap happen now, on this thread: it is up to a hundred times slower than later ones,
    /// because the unwinder's tables are built on the way. Returns whether it trapped.
    ///
    /// There is no compiler here, so the artifact's own code must do: it runs in a scratch engine whose stack is too small
    /// for its first call.
    pub fn rehearse_trap(artifact: &Artifact) -> bool {
        let mut config = engine_config();
        config.max_wasm_stack(1);
        let Ok(wasm) = wasmtime::Engine::new(&config) else { return false };
        let Ok(mut scratch) = (Self { wasm }).load_checked(artifact, FunctionImports::Silent) else { return false };
        let Some(initialise) = scratch.export(INITIALISE) else { return false };
        match &scratch.exports[initialise.0] {
            Export::Plain(function) => {
                let function = function.clone();
                function.call(&mut scratch.store, ()).is_err_and(|e| e.downcast_ref::<Trap>() == Some(&Trap::StackOverflow))
            }
            Export::Returning(..) | Export::Message(..) | Export::NeedsArguments => false,
        }
    }
}

/// The limit on what a program has: what its manifest announces. Once that is there it gets no more, so that its checkpoints
/// always fit, and no tick waits for pages: `memory.grow` answers -1, the program runs on, and the refusals are counted.
#[derive(Default)]
struct Growth {
    is_complete: bool,
    refused: u64,
}

impl Growth {
    fn allow_rt(&mut self) -> bool {
        self.refused += u64::from(self.is_complete);
        !self.is_complete
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.allow_rt())
    }

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.allow_rt())
    }
}

/// Names an export of an [`Engine`]; looked up once, valid for that engine only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportHandle(usize);

enum Export {
    Plain(TypedFunc<(), ()>),
    /// Its results are of no use to the host, but wasmtime wants a place for them.
    Returning(Func, Vec<Val>),
    /// Takes the three bytes of a MIDI message.
    Message(TypedFunc<(i32, i32, i32), ()>),
    NeedsArguments,
}

/// Names an export of an [`Engine`] that takes a MIDI message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackHandle(usize);

/// One loaded revision of a program.
pub struct Engine {
    store: Store<Growth>,
    memories: Vec<Memory>,
    exports: Vec<Export>,
    manifest: Arc<Manifest>,
}

impl Engine {
    fn instantiate(wasm: &wasmtime::Engine, module: &Module, manifest: &Manifest, imports: FunctionImports) -> Result<Self, LoadError> {
        check_imports(module, manifest, imports)?;
        let mut store = Store::new(wasm, Growth::default());
        store.limiter(|growth| growth);
        let memories = reserve_memories(&mut store, manifest)?;
        // Functions are imported before memories (LANGUAGE §15.1).
        let mut externs: Vec<Extern> = module.imports().filter_map(|import| Some(silent(&mut store, import.ty().func()?))).collect();
        externs.extend(memories.iter().map(|memory| Extern::from(*memory)));
        let instance = Instance::new(&mut store, module, &externs).map_err(|e| LoadError::Interface(format!("{e:#}")))?;
        let exports = manifest.exports.iter().map(|info| look_up(&mut store, &instance, info)).collect::<Result<Vec<_>, _>>()?;
        store.data_mut().is_complete = true;
        let engine = Self { store, memories, exports, manifest: Arc::new(manifest.clone()) };
        match engine.export(INITIALISE) {
            Some(_) => Ok(engine),
            None => Err(LoadError::Interface(format!("there is no callable export `{INITIALISE}`"))),
        }
    }

    /// What the worker said about this revision.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Finds an export that can be called without arguments.
    pub fn export(&self, name: &str) -> Option<ExportHandle> {
        let index = self.manifest.exports.iter().position(|export| export.name == name)?;
        match self.exports[index] {
            Export::Plain(_) | Export::Returning(..) => Some(ExportHandle(index)),
            Export::Message(_) | Export::NeedsArguments => None,
        }
    }

    /// Finds an export that takes the three bytes of a message, as integers, and returns nothing.
    pub fn callback(&self, name: &str) -> Option<CallbackHandle> {
        let index = self.manifest.exports.iter().position(|export| export.name == name)?;
        matches!(self.exports[index], Export::Message(_)).then_some(CallbackHandle(index))
    }

    /// Fills the memories with their defaults and runs the init-only modules.
    pub fn initialise(&mut self) -> Result<(), Failure> {
        match self.export(INITIALISE) {
            Some(initialise) => self.call_rt(initialise),
            None => Ok(()), // `instantiate` has made sure that there is one.
        }
    }

    /// Sizes of the memories in bytes.
    pub fn sizes(&self) -> Vec<u64> {
        (0..self.memories.len() as u32).map(|index| self.memory(index).len() as u64).collect()
    }

    /// Makes the operating system provide the pages of the program's items now, so that the tick thread does not wait for it.
    /// Changes nothing.
    pub fn touch(&mut self) {
        let manifest = Arc::clone(&self.manifest);
        for (index, info) in (0u32..).zip(&manifest.memories) {
            let items = self.memory_mut(index).iter_mut().take(usize::try_from(info.required_bytes).unwrap_or(usize::MAX));
            for byte in items.step_by(OS_PAGE_BYTES) {
                *byte = std::hint::black_box(*byte);
            }
        }
    }

    /// Writes bytes to where they belong. What would reach beyond its memory is passed over.
    pub fn write_rt(&mut self, parts: &[DefaultBytes]) {
        for part in parts {
            if let Some(place) = self.bytes_mut_rt(part.memory, part.address, part.bytes.len()) {
                place.copy_from_slice(&part.bytes);
            }
        }
    }

    /// Makes the bytes of the program's items zero, as `initDefaults` does before it fills them.
    pub fn clear_rt(&mut self) {
        for index in 0..self.memories.len() {
            let length = self.manifest.memories.get(index).map_or(0, |info| info.required_bytes);
            let memory = self.memory_mut(index as u32);
            let length = (memory.len() as u64).min(length) as usize;
            memory[..length].fill(0);
        }
    }

    /// How often the program has asked for more memory than it was announced with, and was refused, since this was last
    /// asked.
    pub fn take_refused_growth_rt(&mut self) -> u64 {
        std::mem::take(&mut self.store.data_mut().refused)
    }

    /// Calls an export. Neither allocates nor locks, unless it traps.
    pub fn call_rt(&mut self, export: ExportHandle) -> Result<(), Failure> {
        let outcome = match &mut self.exports[export.0] {
            Export::Plain(function) => function.call(&mut self.store, ()),
            Export::Returning(function, results) => function.call(&mut self.store, &[], results),
            Export::Message(_) | Export::NeedsArguments => Ok(()), // `export` hands out no such handle.
        };
        outcome.map_err(|error| Failure::of(&error, &self.manifest))
    }

    /// Hands a message to a callback. As [`Engine::call_rt`].
    pub fn call_back_rt(&mut self, callback: CallbackHandle, message: [u8; 3]) -> Result<(), Failure> {
        let [status, first, second] = message.map(i32::from);
        let outcome = match &self.exports[callback.0] {
            Export::Message(function) => function.call(&mut self.store, (status, first, second)),
            Export::Plain(_) | Export::Returning(..) | Export::NeedsArguments => Ok(()), // `callback` hands out no such handle.
        };
        outcome.map_err(|error| Failure::of(&error, &self.manifest))
    }

    /// All of a memory; empty when there is no such memory.
    pub fn memory(&self, index: u32) -> &[u8] {
        self.memories.get(index as usize).map_or(&[], |memory| memory.data(&self.store))
    }

    /// All of a memory, to write to.
    pub fn memory_mut(&mut self, index: u32) -> &mut [u8] {
        self.memories.get(index as usize).map_or(&mut [], |memory| memory.data_mut(&mut self.store))
    }

    /// Bytes of a memory, if they lie inside it.
    pub fn bytes_rt(&self, memory: u32, address: u32, length: usize) -> Option<&[u8]> {
        let start = address as usize;
        self.memory(memory).get(start..start.checked_add(length)?)
    }

    /// Bytes of a memory to write to, if they lie inside it.
    pub fn bytes_mut_rt(&mut self, memory: u32, address: u32, length: usize) -> Option<&mut [u8]> {
        let start = address as usize;
        self.memory_mut(memory).get_mut(start..start.checked_add(length)?)
    }
}

/// Compares what the code imports with what the manifest says, so that memories can be handed over by position.
fn check_imports(module: &Module, manifest: &Manifest, imports: FunctionImports) -> Result<(), LoadError> {
    let mut memories = manifest.memories.iter();
    for import in module.imports() {
        match import.ty() {
            ExternType::Func(_) => match imports {
                FunctionImports::Silent => {}
                FunctionImports::Refused => return Err(refused_function(manifest, import.module(), import.name())),
            },
            ExternType::Memory(found) => {
                let expected = memories.next().ok_or_else(|| LoadError::Interface("more memories than announced".to_owned()))?;
                let fits = import.module() == IMPORT_MODULE
                    && import.name() == expected.name
                    && found.minimum() == expected.pages
                    && found.maximum() == Some(expected.pages)
                    && !found.is_shared()
                    && !found.is_64();
                if !fits {
                    return Err(LoadError::Interface(format!("the memory `{}` differs", import.name())));
                }
            }
            _ => return Err(LoadError::Interface(format!("`{}` is neither memory nor function", import.name()))),
        }
    }
    match memories.next() {
        Some(missing) => Err(LoadError::Interface(format!("the memory `{}` is not imported", missing.name))),
        None => Ok(()),
    }
}

/// A function that does nothing and returns zeros.
fn silent(store: &mut Store<Growth>, signature: &FuncType) -> Extern {
    let zeros: Vec<Val> = signature.results().map(|ty| zero(&ty)).collect();
    let function = Func::new(store, signature.clone(), move |_, _, results| {
        results.clone_from_slice(&zeros);
        Ok(())
    });
    function.into()
}

fn refused_function(manifest: &Manifest, module: &str, field: &str) -> LoadError {
    let line = manifest.imports.iter().find(|import| import.module == module && import.field == field).map(|import| import.line);
    LoadError::FunctionImport { module: module.to_owned(), field: field.to_owned(), line }
}

fn reserve_memories(store: &mut Store<Growth>, manifest: &Manifest) -> Result<Vec<Memory>, LoadError> {
    let need = manifest.memories.iter().fold(0u64, |sum, memory| sum.saturating_add(memory.pages.saturating_mul(PAGE_BYTES)));
    if need > MAX_PROGRAM_MEMORY_BYTES {
        return Err(LoadError::TooMuchMemory { need });
    }
    manifest.memories.iter().map(|memory| reserve(store, memory.pages)).collect()
}

fn reserve(store: &mut Store<Growth>, pages: u64) -> Result<Memory, LoadError> {
    // The limit above keeps the number of pages far below 2^32.
    Memory::new(store, MemoryType::new(pages as u32, Some(pages as u32))).map_err(|e| LoadError::Memory(e.to_string()))
}

fn look_up(store: &mut Store<Growth>, instance: &Instance, info: &ExportInfo) -> Result<Export, LoadError> {
    let missing = || LoadError::Interface(format!("the export `{}` is missing", info.name));
    let function = instance.get_func(&mut *store, &info.name).ok_or_else(missing)?;
    let signature = function.ty(&*store);
    if signature.params().len() != 0 {
        return Ok(function.typed(&*store).map_or(Export::NeedsArguments, Export::Message));
    }
    match function.typed::<(), ()>(&*store) {
        Ok(plain) => Ok(Export::Plain(plain)),
        Err(_) => Ok(Export::Returning(function, signature.results().map(|ty| zero(&ty)).collect())),
    }
}

fn zero(ty: &ValType) -> Val {
    match ty {
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(0),
        ValType::F64 => Val::F64(0),
        _ => Val::I32(0),
    }
}
