//! Support of the whole-system tests: the binary under test, real audio servers, independent witnesses, the corpus.

pub mod campaign;
pub mod corpus;
pub mod edits;
pub mod jack_midi;
pub mod jack_server;
pub mod live;
pub mod patchwork;
pub mod playing;
pub mod programs;
pub mod remains;
pub mod rpc;
pub mod soak;
pub mod takes;
