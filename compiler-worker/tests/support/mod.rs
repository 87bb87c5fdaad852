//! Runs compiled programs in this process: memories, stub imports, calls.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod plain;
pub mod random;

use ipc::message::{CompileGoal, CompileRequest};
use wasmtime::{Engine, Extern, ExternType, Func, Instance, Memory, Module, Store, Trap, Val};

/// A request for everything up to WebAssembly.
pub fn request(source: &str) -> CompileRequest {
    CompileRequest {
        id: 1,
        source: source.as_bytes().to_vec(),
        goal: CompileGoal::Wasm,
        memory_regions: Vec::new(),
        environment: Vec::new(),
        previous: None,
        work_budget: 0,
        generation: 1,
    }
}

/// The engine all tests run programs in, with the settings of the hosts.
pub fn engine() -> Engine {
    Engine::new(&ipc::engine::engine_config()).expect("the engine's settings are valid")
}

/// An instance with its memories.
pub struct Machine {
    pub store: Store<()>,
    pub instance: Instance,
    pub memories: Vec<Memory>,
    pub module: Module,
}

impl Machine {
    /// Instantiates a binary. Imported functions do nothing and give zeros.
    pub fn new(engine: &Engine, wasm: &[u8]) -> Self {
        let module = Module::new(engine, wasm).expect("the binary is valid");
        let mut store = Store::new(engine, ());
        let mut memories = Vec::new();
        let mut imports: Vec<Extern> = Vec::new();
        for import in module.imports() {
            match import.ty() {
                ExternType::Memory(ty) => {
                    let memory = Memory::new(&mut store, ty).expect("memory can be made");
                    memories.push(memory);
                    imports.push(memory.into());
                }
                ExternType::Func(ty) => {
                    let results: Vec<Val> = ty.results().map(|ty| Val::default_for_ty(&ty).expect("numeric")).collect();
                    imports.push(
                        Func::new(&mut store, ty, move |_, _, out| {
                            out.clone_from_slice(&results);
                            Ok(())
                        })
                        .into(),
                    );
                }
                other => panic!("unexpected import {other:?}"),
            }
        }
        let instance = Instance::new(&mut store, &module, &imports).expect("instantiation touches nothing");
        Self { store, instance, memories, module }
    }

    /// Calls an export without parameters.
    pub fn call(&mut self, name: &str) -> Result<(), Trap> {
        let function = self.instance.get_typed_func::<(), ()>(&mut self.store, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        function.call(&mut self.store, ()).map_err(|error| *error.downcast_ref::<Trap>().unwrap_or_else(|| panic!("{error:?}")))
    }

    pub fn memory(&self, index: usize) -> &[u8] {
        self.memories[index].data(&self.store)
    }

    pub fn exports(&self) -> Vec<String> {
        self.module.exports().map(|export| export.name().to_owned()).collect()
    }
}
