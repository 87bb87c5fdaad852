//! What the processes of Continuo share, and nothing else: the messages they send, the segments of shared memory they
//! map, the lanes audio travels through, the artifact format, and every limit.
//!
//! Every other crate may depend on this one; this one depends on none of them. It starts no process, opens no device
//! and knows no language.

pub mod artifact;
pub mod channel;
pub mod codec;
pub mod crash;
pub mod diagnostic;
pub mod engine;
pub mod fault;
pub mod futex;
pub mod hash;
pub mod held_notes;
pub mod input;
pub mod lane;
pub mod limits;
pub mod live;
pub mod manifest;
pub mod message;
pub mod midi;
pub mod plan;
pub mod recovery;
pub mod rendezvous;
pub mod segment;
pub mod state;
pub mod tempo;
pub mod wires;
pub mod words;
