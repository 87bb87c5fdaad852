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

/// From a closed channel to the end of the process.
pub const CLOSE_MS: u64 = 2_000;

/// Fading out, stopping and ending everything. With [`KILL_MS`] below the two seconds a performer is made to wait at most.
pub const STOP_MS: u64 = 1_500;

/// From SIGKILL until the session is given up waiting. A process that the kernel cannot end (stuck in a driver) is left.
pub const KILL_MS: u64 = 400;
