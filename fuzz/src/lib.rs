//! Fuzzing for tests: a [`Target`] is a decoder with seeds, and [`Target::run`] gives it mutations of them, one after the other.
//!
//! In a plain test run the number of cases is fixed and the seed is a constant, so the same commit tries the same inputs
//! everywhere. `./dev fuzz TARGET` runs one target for some time instead, built so that it counts which branches are taken
//! ([`coverage`]): inputs that reach something new join the corpus, in `target/fuzz/TARGET/`. The variables it sets:
//!
//! | variable | meaning |
//! |---|---|
//! | `CONTINUO_SEED` | seed of the random numbers |
//! | `FUZZ_SECONDS` | run for this long, not for the fixed number of cases |
//! | `FUZZ_INPUT` | try the input in this file and nothing else |
//!
//! What counts as a failure: a panic, an abort, more processor time or memory than the target allows for an input of that length,
//! and no end. The input is on disk in each of these cases.
//!
//! This crate knows none of the others; the targets lie in `tests/targets` and, for what is private to the supervisor, there.

pub mod allocation;
pub mod arbitrary;
pub mod coverage;
mod mutation;
mod random;
mod target;
mod trial;
mod watchdog;

pub use allocation::Tally;
pub use random::Random;
pub use target::Target;
