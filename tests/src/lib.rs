//! Support of the whole-system tests: the binary under test, real audio servers, independent witnesses, the corpus.

pub mod corpus;
pub mod jack_server;
pub mod playing;
pub mod programs;
pub mod remains;
