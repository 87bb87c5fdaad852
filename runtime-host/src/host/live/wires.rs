//! Control wires on the tick thread: samples go out at the end of each tick, values come in at the start of each (DESIGN §6).
//!
//! An item at the end of a wire has the wire's value at the start of every tick: whatever else has written to it, a reset and
//! an edit included, gives way. Only where that changes its bytes something is written, and then it is an input like a `set`:
//! it stands in the log of the state segment, which the next host executes again, and on the tape, which goes to the supervisor.
//! Between two ticks nothing of a wire has to be remembered, so that there is nothing to lose.
//!
//! What an element cannot hold, and what is not finite, is not taken; the item keeps what it has. Prepared by
//! [`super::circuit`] on the control thread; allocates nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ipc::state::Write;
use ipc::wires::{Board, Panel, Taken, WireId};

use super::handover::ForLayouts;
use super::ramps::to_number_rt;
use super::stage::{ReadPlace, Stage};
use crate::host::items::encode_rt;
use crate::host::program::Program;

/// What a runtime has to do with wires, ready for every program that may run.
#[derive(Default)]
pub struct WiringWork {
    pub board: Option<Arc<Board>>,
    pub outlets: Vec<OutletWork>,
    pub inlets: Vec<InletWork>,
}

/// An item that others follow.
pub struct OutletWork {
    pub wire: WireId,
    pub socket: u32,
    /// `None` in a program that lacks it.
    pub places: ForLayouts<Option<ReadPlace>>,
}

/// An item that follows another one.
pub struct InletWork {
    pub wire: WireId,
    pub socket: u32,
    pub panel: Arc<Panel>,
    /// `None` in a program that lacks it.
    pub places: ForLayouts<Option<ReadPlace>>,
    pub misfits: Arc<Misfits>,
}

/// Values of a wire that were not taken. Written by the tick thread, told by the control thread.
#[derive(Debug, Default)]
pub struct Misfits {
    count: AtomicU64,
    newest: AtomicU64,
}

impl Misfits {
    fn note_rt(&self, value: f64) {
        self.newest.store(value.to_bits(), Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// The newest, if there was any.
    pub fn newest(&self) -> Option<f64> {
        (self.count.load(Relaxed) > 0).then(|| f64::from_bits(self.newest.load(Relaxed)))
    }
}

impl OutletWork {
    fn sample_rt(&self, program: &Program, board: &Board) {
        let Some(Some(place)) = self.places.get_rt(program.layout()) else { return };
        if let Some(value) = place.number_rt(program) {
            board.put_rt(self.socket, self.wire, value);
        }
    }
}

impl InletWork {
    /// What is to be written so that the item has the wire's value; `None` where it has it.
    fn news_rt(&self, program: &Program) -> Option<Write> {
        let place = self.places.get_rt(program.layout())?.as_ref()?;
        let value = self.panel.get_rt(self.socket, self.wire)?;
        let fitting = if value.is_finite() { encode_rt(place.element, value).ok() } else { None };
        let Some(bytes) = fitting else {
            self.misfits.note_rt(value);
            return None;
        };
        let write = Write { memory: place.memory, address: place.address, element: place.element, bytes };
        let length = place.element.bytes() as usize;
        let now = program.engine().bytes_rt(place.memory, place.address, length)?;
        (now != &bytes[..length]).then_some(write)
    }
}

impl WiringWork {
    /// Puts a value on the tape that has taken effect.
    pub(super) fn note_rt(&self, wire: WireId, tick: u64, write: &Write) {
        if let Some(board) = &self.board {
            let bits = to_number_rt(write.element, &write.bytes[..write.element.bytes() as usize]).to_bits();
            board.note_rt(Taken { tick, wire, bits });
        }
    }
}

impl Stage {
    /// The start of a tick, after everything else that takes effect in it: what wires bring.
    pub(super) fn take_wires_rt(&mut self, tick: u64) {
        let Self { program, ramps, checkpoints, wiring, .. } = self;
        let Some(board) = &wiring.board else { return };
        let mut has_news = false;
        for inlet in &wiring.inlets {
            // What could not be told is not taken, so that a recording is never short of anything.
            if !board.has_room_rt() {
                break;
            }
            let Some(write) = inlet.news_rt(program) else { continue };
            ramps.write_rt(program.engine_mut(), &write);
            checkpoints.log_wire_rt(program, inlet.wire, tick, &write);
            wiring.note_rt(inlet.wire, tick, &write);
            has_news = true;
        }
        if has_news {
            self.touch_rt();
        }
    }

    /// The end of a tick: what others follow. Ticks that are executed again were sampled before.
    pub(super) fn sample_wires_rt(&self) {
        let Some(board) = self.wiring.board.as_ref().filter(|_| !self.is_replaying) else { return };
        for outlet in &self.wiring.outlets {
            outlet.sample_rt(&self.program, board);
        }
    }
}
