//! What the session sends, to be heard by its own programs (`--midi-in loop`). MIDI thread. Nobody need listen.

use ipc::midi::{MidiEvent, Received};

use super::MidiSink;
use super::input::Heard;
use super::input::inbox::Outbox;

/// A sink whose events come out where the session listens, by output port.
pub struct Loopback {
    outbox: Outbox,
}

impl Loopback {
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox }
    }
}

impl MidiSink for Loopback {
    fn send(&mut self, event: &MidiEvent) {
        let received = Received { port: event.port, message: event.message };
        // Where nobody listens, what does not fit is nobody's loss; where somebody does, it is a flood of the session's own.
        let _ = self.outbox.put_rt(Heard { at_ns: event.due_ns, received });
    }

    fn look(&mut self, _now_ns: u64) {}

    fn close(&mut self) {}
}
