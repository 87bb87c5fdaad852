//! How long the session waits for what. All in milliseconds of the monotonic clock that the shell passes in.

use ipc::limits;

/// From the start of a process to its handshake.
pub const JOIN_MS: u64 = limits::HANDSHAKE_DEADLINE_MS;

/// One compile. A program that needs longer is refused, and the worker ended, since it cannot be interrupted.
pub const COMPILE_MS: u64 = limits::COMPILE_DEADLINE_MS;

/// From the order to open a device to its answer. Audio servers may take seconds to answer, or never do.
pub const OPEN_DEVICE_MS: u64 = 10_000;

/// From the order to start a runtime until it runs: assets of hundreds of megabytes are read in this time.
pub const START_RUNTIME_MS: u64 = 10_000;

/// Loading a small program that has no assets: it takes milliseconds, but spares load while others compute.
const LOAD_MS: u64 = 1_500;

/// Bytes that are copied, hashed or mapped within a millisecond even by a slow machine.
const SLOW_BYTES_PER_MS: u64 = 16 << 10;

/// Going on with a program that is loaded already, on a machine that is busy. It takes about a millisecond.
const TAKE_OVER_MS: u64 = 500;

/// From the order to load an artifact of so many bytes to the answer.
pub fn load_ms(artifact_bytes: u64) -> u64 {
    (LOAD_MS + artifact_bytes / SLOW_BYTES_PER_MS).min(START_RUNTIME_MS)
}

/// From the order to take a runtime over to the answer: as long as a host of its type may stand still, and what it takes to fill
/// its memory. `load_bytes` where its artifact has yet to be loaded. No longer than a start, which may read assets.
pub fn take_over_ms(stall_patience_ms: u64, memory_bytes: u64, load_bytes: Option<u64>) -> u64 {
    let to_load_ms = load_bytes.map_or(0, load_ms);
    (stall_patience_ms.max(TAKE_OVER_MS) + memory_bytes / SLOW_BYTES_PER_MS + to_load_ms).min(START_RUNTIME_MS)
}

/// From a closed channel to the end of the process.
pub const CLOSE_MS: u64 = 2_000;

/// Fading out, stopping and ending everything. With [`KILL_MS`] below the two seconds a performer is made to wait at most.
pub const STOP_MS: u64 = 1_500;

/// From SIGKILL until the session is given up waiting. A process that the kernel cannot end (stuck in a driver) is left.
pub const KILL_MS: u64 = 400;
