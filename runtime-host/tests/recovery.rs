//! Hosts that are killed in the middle of their work, and others that go on for them: what is heard is what an undisturbed
//! run would have played, bit for bit (DESIGN §10, FAULTS rows 1 to 3).
//!
//! Every host here is a process of its own, this test binary, which is killed with SIGKILL at moments that nobody chose:
//! while it computes, while it writes a checkpoint, between two ticks, while a change is being committed.

#[path = "host/harness.rs"]
#[allow(dead_code)] // Shared with the other tests, which use all of it.
mod harness;
#[path = "host/live"]
#[allow(dead_code)]
mod live {
    pub mod band;
    pub mod chance;
    pub mod plans;
    pub mod rig;
}
#[path = "recovery/mod.rs"]
mod cases;

/// Not a test of its own: the processes of the others begin here.
#[test]
fn a_host_process() {
    harness::be_host_if_asked();
}
