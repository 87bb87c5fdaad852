//! The compiler-worker: source text to artifact.
//!
//! [`compile`] is a pure function from a request to an artifact or diagnostics; everything the process remembers between requests is a
//! cache. One folder per language under [`languages`], one representation for all of them in [`middle`], WebAssembly in [`wasm`].

pub mod languages;
pub mod middle;
pub mod wasm;
