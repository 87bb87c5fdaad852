//! Checks that what emission wrote is valid WebAssembly: a failure is an error of the compiler, never of the program. Builds with debug
//! assertions check everything, others what no native code is made of: wasmtime checks the rest.

use wasmparser::{Validator, WasmFeatures};

/// The features emitted code may use: those the hosts' engine has.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::MULTI_MEMORY
}

/// Validates a binary; says what is wrong with it.
pub fn validate(wasm: &[u8]) -> Result<(), String> {
    Validator::new_with_features(features()).validate_all(wasm).map(|_| ()).map_err(|error| error.to_string())
}
