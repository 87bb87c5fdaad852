//! The wasmtime settings that worker and hosts must agree on: native code made under other settings is refused.

use wasmtime::Config;

/// Stack in bytes that wasm may use. Threads that run programs need at least [`TICK_THREAD_STACK_BYTES`].
pub const MAX_WASM_STACK_BYTES: usize = 512 << 10;

/// Stack in bytes of a thread that runs programs: with less, endless recursion ends the process instead of trapping.
pub const TICK_THREAD_STACK_BYTES: usize = MAX_WASM_STACK_BYTES + (1 << 20);

/// The common part of every engine's configuration. The worker adds what concerns Cranelift.
pub fn engine_config() -> Config {
    let mut config = Config::new();
    config.max_wasm_stack(MAX_WASM_STACK_BYTES);
    config.wasm_multi_memory(true);
    config.wasm_relaxed_simd(false); // Its results depend on the CPU.
    config.epoch_interruption(false); // Costs up to 100 % in tight loops; the compiled code counts its own work instead.
    config
}
