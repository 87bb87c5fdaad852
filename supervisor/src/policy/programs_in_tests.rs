//! Compiled programs for the tests of the policy: as small as a program can be that edits of every class are possible of.

use std::sync::Arc;

use ipc::artifact::DefaultBytes;
use ipc::hash::ContentHash;
use ipc::manifest::{ElementType, EntryInfo, ExportInfo, Item, Manifest, MemoryInfo, ModuleInfo};

use super::{Content, Plan};

/// What edits of a small program change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// A default: class A.
    pub default: u8,
    /// Code: class B.
    pub code: u8,
    /// Whether its two modules feed each other: class C where it differs.
    pub is_loop: bool,
    /// Runtime type: class T. `true` for `worker`.
    pub is_worker: bool,
    /// Nothing that runs.
    pub comment: u8,
}

/// The program as a plan at 48 kHz.
pub fn plan(shape: Shape) -> Plan {
    let (runtime_type, has_lane, sample_rate) = if shape.is_worker { ("worker", false, 50) } else { ("audio", true, 48_000) };
    Plan {
        content: content(shape),
        fallback_from: None,
        pulse: None,
        keys: super::KeyItems::default(),
        tempo: None,
        runtime_type: runtime_type.to_owned(),
        has_lane,
        sides: [true; 2],
        sample_rate,
        log: Vec::new(),
        assets: Vec::new(),
    }
}

pub fn content(shape: Shape) -> Arc<Content> {
    let hash = |what: &str, number: u8| ContentHash::of(&[what.as_bytes(), &[number]]);
    let module = |id: &str, index: u32| ModuleInfo {
        id: id.to_owned(),
        entry: "main".to_owned(),
        memory: 0,
        byte_address: 4 * index,
        words: 1,
        skip_execution: false,
        init_only: false,
        code_hash: hash(id, shape.code),
        references: if shape.is_loop || index == 0 { vec![1 - index] } else { Vec::new() },
        line: 3,
        items: vec![Item {
            name: "level".to_owned(),
            element: ElementType::Int32,
            is_array: false,
            count: 1,
            byte_address: 4 * index,
            words: 1,
            default_fingerprint: u64::from(shape.default),
            initial_bytes: 1,
            points_at: None,
            line: 4,
        }],
    };
    let export = |name: &str| ExportInfo { name: name.to_owned(), code_hash: hash(name, 0), params: Vec::new(), results: Vec::new() };
    let revision = ContentHash::of(&[format!("{shape:?}").as_bytes()]);
    let manifest = Manifest {
        language: "8f4e/v1".to_owned(),
        revision,
        memories: vec![MemoryInfo { name: "memory".to_owned(), required_bytes: 8, pages: 1 }],
        modules: vec![module("a", 0), module("b", 1)],
        entries: vec![EntryInfo { name: "main".to_owned(), steps: vec![0, 1] }],
        exports: vec![export("initDefaults"), export("main")],
        imports: Vec::new(),
        config: Vec::new(),
        environment: Vec::new(),
        source_map: Vec::new(),
        blocks: Vec::new(),
    };
    let image = [0, 4].map(|address| DefaultBytes { memory: 0, address, bytes: vec![shape.default, 0, 0, 0] }).to_vec();
    Arc::new(Content { manifest, image })
}
