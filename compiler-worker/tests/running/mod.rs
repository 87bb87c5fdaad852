//! Compiles a program and runs it inside the test, with wasmtime and without hosts.

use ipc::manifest::Manifest;
use ipc::message::{CompileGoal, CompileRequest};
use wasmtime::{Engine, Instance, Memory, Module, Store};

/// A program with its memory, not initialised yet.
pub struct Running {
    pub store: Store<()>,
    pub memory: Memory,
    pub instance: Instance,
    pub manifest: Manifest,
}

impl Running {
    /// Compiles the program; a program that is wrong fails the test with its diagnostics.
    pub fn new(source: &str) -> Self {
        let request = CompileRequest {
            id: 1,
            source: source.as_bytes().to_vec(),
            goal: CompileGoal::Wasm,
            memory_regions: Vec::new(),
            environment: Vec::new(),
            previous: None,
            work_budget: 0,
            generation: 1,
        };
        let artifact = compiler_worker::compile(&request).unwrap_or_else(|error| panic!("{error}\n{error:#?}\n{source}"));
        let engine = Engine::new(&ipc::engine::engine_config()).expect("the common settings are valid");
        let module = Module::new(&engine, &artifact.wasm).expect("the compiler emits valid wasm");
        let mut store = Store::new(&engine, ());
        let memory_type = module.imports().find_map(|import| import.ty().memory().cloned()).expect("programs import their memory");
        let memory = Memory::new(&mut store, memory_type).expect("there is memory");
        let instance = Instance::new(&mut store, &module, &[memory.into()]).expect("memory is the only import");
        Self { store, memory, instance, manifest: artifact.manifest }
    }
}
