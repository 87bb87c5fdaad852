//! The lock-free protocols of shared memory, tried in every order of events that the memory model allows (FAULTS row 23).
//!
//! The code under test is the code that runs: it is written over [`ipc::words::Words`], and here these words are loom's. A
//! writer that is killed is a writer whose stores stop having an effect after some number of them; every number is tried.

mod checkpoint;
mod lane;
mod memory;
mod midi;
mod wires;
