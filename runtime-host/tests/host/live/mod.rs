//! Changing a program while it runs, as the supervisor sees it: requests in, answers and sound out, tick by tick.
//!
//! Programs are real source texts ([`band`]), plans are made here by state key ([`plans`]), and a horizon paces the runtime
//! ([`rig`]), so that every test says in which tick something happens and compares what is heard from the first tick to the
//! last.

pub mod band;
pub mod plans;
#[allow(dead_code)] // Programs that are checkpointed are for the test of allocations.
pub mod rig;

mod boundaries;
mod midi;
mod random;
mod requests;
mod swaps;
mod trials;
mod values;
