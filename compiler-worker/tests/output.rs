//! What the compiled binary promises its hosts: its interface, its source map, and that it is always the same.

mod support;

use compiler_worker::compile;
use ipc::artifact::Artifact;
use support::{Machine, engine, request};
use wasmparser::{DataKind, Parser, Payload, TypeRef};
use wasmtime::{Trap, WasmBacktrace};

fn compiled(source: &str) -> Artifact {
    compile(&request(source)).unwrap_or_else(|error| panic!("{error}: {source}"))
}

const INIT_ONLY: &str = "8f4e/v1
entry main
module setup
#initOnly
int base 1
int derived
push &derived
push &base
load
push 1
add
store
moduleEnd
module count
int n
push &n
push n
push 1
add
store
moduleEnd
entryEnd
";

#[test]
fn init_only_modules_run_after_initialisation_and_not_in_their_entry() {
    let artifact = compiled(INIT_ONLY);
    let mut machine = Machine::new(&engine(), &artifact.wasm);
    assert_eq!(machine.exports(), ["initDefaults", "main", "initOnly"]);
    let word = |machine: &Machine, at: usize| i32::from_le_bytes(machine.memory(0)[at..at + 4].try_into().expect("four bytes"));
    let at = |item: (&str, &str)| artifact.manifest.item(item.0, item.1).expect("declared").1.byte_address as usize;
    let (base, derived, n) = (at(("setup", "base")), at(("setup", "derived")), at(("count", "n")));
    machine.call("initDefaults").expect("initialises");
    assert_eq!([word(&machine, base), word(&machine, derived), word(&machine, n)], [1, 2, 0]);
    let memory = machine.memories[0];
    memory.write(&mut machine.store, base, &10i32.to_le_bytes()).expect("in range");
    machine.call("main").expect("runs");
    assert_eq!([word(&machine, derived), word(&machine, n)], [2, 1]);
    machine.call("initOnly").expect("runs");
    assert_eq!([word(&machine, base), word(&machine, derived), word(&machine, n)], [10, 11, 1]);
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    for source in [INIT_ONLY, include_str!("../../tests/bench/voices8.8f4e")] {
        let (first, again) = (compiled(source), compiled(source));
        assert_eq!(first.wasm, again.wasm);
        assert_eq!(first.manifest, again.manifest);
    }
}

#[test]
fn instantiating_touches_nothing() {
    for payload in Parser::new(0).parse_all(&compiled(INIT_ONLY).wasm) {
        match payload.expect("valid") {
            Payload::StartSection { .. } | Payload::MemorySection(_) | Payload::TableSection(_) => panic!("there must be none"),
            Payload::DataSection(segments) => {
                for segment in segments {
                    assert!(matches!(segment.expect("valid").kind, DataKind::Passive));
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.expect("valid");
                    assert_eq!((import.module, import.name), ("host", "memory"));
                    assert!(matches!(import.ty, TypeRef::Memory(memory) if memory.maximum == Some(memory.initial) && !memory.shared));
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_trap_names_the_line_of_the_function_it_is_in() {
    let source = "8f4e/v1\nentry main\nmodule t\nint r\nint zero\npush &r\npush zero\ncall bad\nstore\nmoduleEnd\nentryEnd\n\nfunction bad\nparam int n\npush 7\npush n\nensureNonZero 0\ndiv\nfunctionEnd int\n";
    let artifact = compiled(source);
    let mut machine = Machine::new(&engine(), &artifact.wasm);
    machine.call("initDefaults").expect("initialises");
    let main = machine.instance.get_typed_func::<(), ()>(&mut machine.store, "main").expect("exported");
    let error = main.call(&mut machine.store, ()).expect_err("divides by zero");
    assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::IntegerDivisionByZero));
    let offset = error.downcast_ref::<WasmBacktrace>().expect("a backtrace").frames()[0].module_offset().expect("an offset");
    let point = artifact.manifest.source_at(offset as u32).expect("a line");
    let block = &artifact.manifest.blocks[point.block as usize];
    assert_eq!((block.name.kind.as_str(), block.name.id.as_str()), ("function", "bad"));
    assert_eq!((point.line_in_block, block.line), (5, Some(13)));
    assert!(!point.is_budget);
}

#[test]
fn exported_functions_keep_their_signature() {
    let source = "8f4e/v1\nentry main\nentryEnd\nfunction f\n#export g\nparam int a\nparam float64 b\nparam int* c\npush b\npush a\nfunctionEnd float64 int\n";
    let artifact = compiled(source);
    let machine = Machine::new(&engine(), &artifact.wasm);
    let export = machine.module.exports().find(|export| export.name() == "g").expect("exported");
    let ty = export.ty().unwrap_func().clone();
    assert_eq!(format!("{:?}", ty.params().collect::<Vec<_>>()), "[i32, f64, i32]");
    assert_eq!(format!("{:?}", ty.results().collect::<Vec<_>>()), "[f64, i32]");
    let described = artifact.manifest.exports.iter().find(|export| export.name == "g").expect("described");
    assert_eq!((described.params.len(), described.results.len()), (3, 2));
}
