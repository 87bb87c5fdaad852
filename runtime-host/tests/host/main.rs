//! The runtime host as its supervisor sees it: real segments, real lanes, real threads, hand-made artifacts.

mod artifacts;
mod assets;
mod audio;
mod fixture;
#[allow(dead_code)] // Hosts in processes of their own are for the tests of recovery.
mod harness;
mod live;
mod runs;
mod settings;
mod timers;
