//! Manifests that lie about the code beside them: items outside of every memory, counts near 2^32, exports that are not there
//! (FAULTS row 24). The code is the compiler's own; only what is said of it is damaged.

use std::time::Duration;

use compiler_worker::native::NativeCompiler;
use fuzz::Target;
use ipc::artifact::Artifact;
use ipc::codec;
use ipc::limits::MAX_MESSAGE_BYTES;
use ipc::manifest::Manifest;
use runtime_host::host::engine::{FunctionImports, Loader};
use runtime_host::host::items::Place;

use crate::programs;

/// Items of a program that are looked at.
const LOOKED_AT: usize = 64;

fn check(loader: &Loader, whole: &Artifact, input: &[u8]) {
    let Ok(manifest) = codec::decode::<Manifest>(input) else { return };
    let artifact = Artifact { manifest, ..whole.clone() };
    let Ok(mut engine) = loader.load_checked(&artifact, FunctionImports::Refused) else { return };
    engine.touch();
    engine.initialise().expect("the code is whole");
    let names = artifact.manifest.modules.iter().flat_map(|module| module.items.iter().map(|item| format!("{}:{}", module.id, item.name)));
    for name in names.take(LOOKED_AT) {
        for text in [name.clone(), format!("{name}[1]"), format!("{name}[4294967295]")] {
            let Ok(place) = Place::find(&artifact.manifest, &text) else { continue };
            // Arrays as long as a memory are as many values; those that reach outside of it are none.
            if place.count < 4_096 {
                let _ = place.values(&engine);
            }
            let _ = place.write(&mut engine, "1, 2");
        }
    }
    engine.clear_rt();
    engine.write_rt(&whole.image);
    for export in artifact.manifest.exports.iter().take(8) {
        if let Some(handle) = engine.export(&export.name) {
            let _ = engine.call_rt(handle);
        }
    }
}

#[test]
fn layouts() {
    let mut whole = programs::artifact();
    whole.native = NativeCompiler::default().compile(&whole.wasm).expect("an example becomes native");
    let loader = Loader::new().expect("an engine");
    let target = Target {
        name: "layouts",
        seeds: vec![codec::encode(&whole.manifest).expect("a manifest is short")],
        words: &["\u{fc}\u{ff}\u{ff}\u{ff}\u{ff}", "memory", "initDefaults", "buffer"],
        max_bytes: 32 << 10,
        cases: 3_000,
        cpu: Duration::from_secs(5),
        bytes: MAX_MESSAGE_BYTES as u64 + (8 << 20),
        bytes_per_byte: 400,
    };
    target.run(|input| check(&loader, &whole, input));
}
