//! The `continuo` binary. It starts as the supervisor, on behalf of one command of its command line, and starts itself
//! again as compiler-worker, device host and runtime hosts (DESIGN §2).
//!
//! The standard library has opened descriptors 0 to 2 on /dev/null before `main` if they were closed, so that no segment,
//! socket or device can ever be mistaken for a standard stream.

mod change;
mod cli;
mod containment;
mod control;
mod exit;
mod keyboard;
mod osc;
mod policy;
mod render;
mod role;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
