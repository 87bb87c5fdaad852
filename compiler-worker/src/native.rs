//! WebAssembly to native code, with wasmtime (DESIGN §4).
//!
//! The engine is made when the first program needs it: `check` and `compile` never do. Settings that hosts must share come from
//! `ipc::engine`; what concerns Cranelift alone is added here. It works on one thread (the crate feature for more is off): the other
//! cores belong to the sound. Results are cached per function, so that a small edit of a
//! large program is fast; the cache is bounded and may be lost at any time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::{CacheStore, Engine, OptLevel};

/// Bytes of compiled functions that are remembered. A program of 1 MiB of wasm takes about 3 MiB.
const MAX_CACHE_BYTES: usize = 64 << 20;

/// Makes native code; one for the life of the process.
#[derive(Default)]
pub struct NativeCompiler {
    engine: Option<Engine>,
    cache: Arc<FunctionCache>,
}

impl NativeCompiler {
    /// Compiles a binary to what `wasmtime::Module::deserialize` takes.
    pub fn compile(&mut self, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
        self.engine()?.precompile_module(wasm)
    }

    /// How many functions have been compiled because the cache did not have them.
    pub fn functions_compiled(&self) -> u64 {
        self.cache.misses.load(Ordering::Relaxed)
    }

    fn engine(&mut self) -> wasmtime::Result<&Engine> {
        if self.engine.is_none() {
            let mut config = ipc::engine::engine_config();
            config.cranelift_opt_level(OptLevel::Speed);
            config.enable_incremental_compilation(self.cache.clone())?;
            self.engine = Some(Engine::new(&config)?);
        }
        Ok(self.engine.as_ref().expect("just made"))
    }
}

/// Compiled functions by wasmtime's own keys, in two generations: when the younger one is full, the older one is forgotten.
#[derive(Debug, Default)]
struct FunctionCache {
    generations: Mutex<Generations>,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Vec<u8>, Vec<u8>>,
    young_bytes: usize,
    old: HashMap<Vec<u8>, Vec<u8>>,
}

impl Generations {
    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.to_vec(), value.clone());
        Some(value)
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let bytes = key.len() + value.len();
        if self.young_bytes + bytes > MAX_CACHE_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, value);
    }
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.get(key).map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.misses.fetch_add(1, Ordering::Relaxed);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.insert(key.to_vec(), value);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_forgets_the_oldest_when_it_is_full() {
        let cache = FunctionCache::default();
        let large = vec![0; MAX_CACHE_BYTES / 4];
        for key in 0..6u8 {
            cache.insert(&[key], large.clone());
        }
        assert!(cache.get(&[5]).is_some());
        assert!(cache.get(&[0]).is_none());
        let held: usize = cache.generations.lock().unwrap().young_bytes;
        assert!(held <= MAX_CACHE_BYTES / 2);
    }

    #[test]
    fn a_function_in_use_outlives_a_change_of_generations() {
        let cache = FunctionCache::default();
        let large = vec![0; MAX_CACHE_BYTES / 4];
        cache.insert(b"used", vec![1]);
        for key in 0..6u8 {
            cache.insert(&[key], large.clone());
            assert_eq!(cache.get(b"used").as_deref(), Some(&[1u8][..]));
        }
    }
}
