//! Control wires: memory items of one program that follow items of another one, a value a tick (DESIGN §6).
//!
//! Every runtime at an end of a wire has a *board*: a segment that the supervisor makes ([`create`]), that the host of the runtime
//! writes ([`Board`]), and that the hosts at the other ends map for reading only ([`Panel`]), so that a wild write in a host
//! damages nobody else. It holds *sockets*, each with the newest sample of one item, and the *tape*: every value that the
//! runtime itself has taken from wires, with its tick. What is on the tape of complete ticks goes to the supervisor, for
//! recordings; a host that takes over finds on it what the dead one had not told yet. The same values stand in the log of the
//! state segment, which is what the next host executes again.
//!
//! A reader must not believe what it finds: a dying host may have written anywhere. A socket names the wire that it belongs to, and
//! whoever reads numbers from it has to check that they fit.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use serde::{Deserialize, Serialize};

use crate::limits::MAX_WIRES;
use crate::segment::{Segment, SegmentError, SegmentKind, SegmentRef, SessionId};
use crate::state::Commit;
use crate::words::Words;

/// Names a wire; unique within a session, not 0.
pub type WireId = u64;

const WORD: usize = 8;
/// Values that have ever been written to the tape.
const TAPE_END: usize = 0;
/// Those of them that the supervisor has been told.
const TAPE_TOLD: usize = 8;
const SOCKETS: usize = 64;
/// A socket: whose it is, and the value.
const SOCKET_BYTES: usize = 2 * WORD;
const TAPE: usize = SOCKETS + MAX_WIRES * SOCKET_BYTES;
/// Values that the tape holds: what all wires bring to one runtime in some hundred ticks, far more than a host keeps to
/// itself. When it is full nothing is taken until the supervisor has been told.
pub const TAPE_VALUES: u64 = 8_192;
/// A value on the tape: its tick, its wire, its bits.
const VALUE_BYTES: usize = 3 * WORD;
const PAYLOAD_BYTES: usize = TAPE + TAPE_VALUES as usize * VALUE_BYTES;

/// What a runtime has to do with wires, all of it: a newer one takes the place of the older one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The runtime's own board; `None` where there is nothing to be done.
    pub board: Option<SegmentRef>,
    pub outlets: Vec<Outlet>,
    pub inlets: Vec<Inlet>,
}

/// An item that is sampled at the end of each tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlet {
    pub wire: WireId,
    /// Where its samples go, on the own board.
    pub socket: u32,
    /// As for `get`: one element.
    pub item: String,
}

/// An item that has the value of another one at the start of each tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inlet {
    pub wire: WireId,
    /// As for `set`: one element.
    pub item: String,
    /// The board of the runtime at the other end.
    pub board: SegmentRef,
    /// Where the samples are there.
    pub socket: u32,
}

/// A value that a runtime has taken from a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The tick at whose start it took effect.
    pub tick: u64,
    pub wire: WireId,
    /// The bits of the 64-bit float that it is.
    pub bits: u64,
}

/// A board for a runtime, made by the supervisor.
pub fn create(session: &SessionId, generation: u64) -> Result<Segment, SegmentError> {
    Segment::create(session, SegmentKind::Board, generation, PAYLOAD_BYTES)
}

/// Offset of a socket.
fn socket_at(socket: u32) -> usize {
    SOCKETS + (socket as usize % MAX_WIRES) * SOCKET_BYTES
}

/// Puts a sample into the socket at `offset`, which belongs to `wire` from now on.
pub fn put_rt(words: &impl Words, offset: usize, wire: WireId, value: f64) {
    if words.load_u64_rt(offset, Relaxed) == wire {
        return words.store_u64_rt(offset + WORD, value.to_bits(), Release);
    }
    // Nobody may take the value of the wire that it belonged to for one of this wire.
    let commit = Commit { offset };
    commit.begin_rt(words);
    words.store_u64_rt(offset + WORD, value.to_bits(), Relaxed);
    commit.complete_rt(words, wire);
}

/// The newest sample in the socket at `offset`, if it belongs to `wire`.
pub fn get_rt(words: &impl Words, offset: usize, wire: WireId) -> Option<f64> {
    let commit = Commit { offset };
    commit.read(words).filter(|owner| *owner == wire)?;
    let bits = words.load_u64_rt(offset + WORD, Relaxed);
    commit.is_still(words, wire).then_some(f64::from_bits(bits))
}

fn open(reference: &SegmentRef, map: impl Fn(&SegmentRef) -> Result<Segment, SegmentError>) -> Result<Segment, SegmentError> {
    let segment = map(reference)?;
    if reference.kind != SegmentKind::Board || segment.payload_bytes() != PAYLOAD_BYTES {
        return Err(SegmentError::Damaged { name: reference.name.clone(), what: "it is not a board of this version" });
    }
    Ok(segment)
}

/// Another runtime's board, for reading its sockets.
pub struct Panel {
    /// Mapped for reading only: stores to it would end the process.
    segment: Segment,
}

impl Panel {
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        Ok(Self { segment: open(reference, Segment::open_read_only)? })
    }

    /// The newest sample in a socket, if it belongs to this wire.
    pub fn get_rt(&self, socket: u32, wire: WireId) -> Option<f64> {
        get_rt(&self.segment, socket_at(socket), wire)
    }
}

/// A runtime's own board. The tick thread writes sockets and tape; the control thread tells what is on the tape.
pub struct Board {
    segment: Segment,
}

impl Board {
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        let segment = open(reference, Segment::open)?;
        segment.populate();
        Ok(Self { segment })
    }

    /// The segment's name.
    pub fn name(&self) -> &str {
        &self.segment.reference().name
    }

    /// Puts a sample into a socket.
    pub fn put_rt(&self, socket: u32, wire: WireId, value: f64) {
        put_rt(&self.segment, socket_at(socket), wire, value);
    }

    /// Whether the tape has room for another value.
    pub fn has_room_rt(&self) -> bool {
        let told = self.segment.word_u64(TAPE_TOLD).load(Acquire);
        self.segment.word_u64(TAPE_END).load(Relaxed).saturating_sub(told) < TAPE_VALUES
    }

    /// Puts a value on the tape.
    pub fn note_rt(&self, taken: Taken) {
        let end = self.segment.word_u64(TAPE_END).load(Relaxed);
        let offset = Self::value_at(end);
        for (index, word) in [taken.tick, taken.wire, taken.bits].into_iter().enumerate() {
            self.segment.word_u64(offset + index * WORD).store(word, Relaxed);
        }
        self.segment.word_u64(TAPE_END).store(end.wrapping_add(1), Release);
    }

    /// The values that have not been told, up to the first of a tick that is not among the first `ticks`, and the number of the
    /// first of them. No more than the tape can hold, whatever its words say.
    pub fn untold(&self, ticks: u64) -> (u64, Vec<Taken>) {
        let end = self.segment.word_u64(TAPE_END).load(Acquire);
        let told = self.segment.word_u64(TAPE_TOLD).load(Relaxed);
        let first = told.max(end.saturating_sub(TAPE_VALUES));
        (first, (first..end).map(|number| self.value(number)).take_while(|taken| taken.tick < ticks).collect())
    }

    /// The values before this number have been told.
    pub fn tell(&self, end: u64) {
        self.segment.word_u64(TAPE_TOLD).store(end, Release);
    }

    /// Takes what belongs to ticks from `tick` on off the tape: they are executed again, with what the state's log says. To be
    /// called while nobody else writes.
    pub fn rewind(&self, tick: u64) {
        let end = self.segment.word_u64(TAPE_END).load(Relaxed);
        let first = end.saturating_sub(TAPE_VALUES);
        let later = (first..end).rev().take_while(|number| self.value(*number).tick >= tick).count() as u64;
        self.segment.word_u64(TAPE_END).store(end - later, Release);
    }

    fn value(&self, number: u64) -> Taken {
        let [tick, wire, bits] = [0, 1, 2].map(|index| self.segment.word_u64(Self::value_at(number) + index * WORD).load(Relaxed));
        Taken { tick, wire, bits }
    }

    fn value_at(number: u64) -> usize {
        TAPE + (number % TAPE_VALUES) as usize * VALUE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use crate::segment::Session;

    use super::*;

    fn board(session: &Session) -> (Segment, Board) {
        let segment = create(session.id(), 1).expect("there is shared memory");
        let board = Board::open(segment.reference()).expect("it has just been made");
        (segment, board)
    }

    fn taken(tick: u64) -> Taken {
        Taken { tick, wire: 7, bits: tick ^ 0x55 }
    }

    #[test]
    fn a_sample_is_read_by_the_wire_that_the_socket_belongs_to_and_by_no_other() {
        let session = Session::open().unwrap();
        let (segment, board) = board(&session);
        let panel = Panel::open(segment.reference()).unwrap();
        assert_eq!(panel.get_rt(3, 7), None, "nothing has been sampled");
        board.put_rt(3, 7, 0.25);
        board.put_rt(3, 7, -0.5);
        assert_eq!((panel.get_rt(3, 7), panel.get_rt(3, 8), panel.get_rt(2, 7)), (Some(-0.5), None, None));
        board.put_rt(3, 8, 1.0);
        assert_eq!((panel.get_rt(3, 7), panel.get_rt(3, 8)), (None, Some(1.0)));
    }

    #[test]
    fn values_are_told_in_order_and_only_those_of_complete_ticks() {
        let session = Session::open().unwrap();
        let (_segment, board) = board(&session);
        (0..5).for_each(|tick| board.note_rt(taken(tick)));
        assert_eq!(board.untold(3), (0, (0..3).map(taken).collect()));
        board.tell(3);
        assert_eq!(board.untold(9), (3, vec![taken(3), taken(4)]));
    }

    #[test]
    fn a_full_tape_has_no_room_until_it_is_told() {
        let session = Session::open().unwrap();
        let (_segment, board) = board(&session);
        for tick in 0..TAPE_VALUES {
            assert!(board.has_room_rt());
            board.note_rt(taken(tick));
        }
        assert!(!board.has_room_rt());
        assert_eq!(board.untold(u64::MAX).1.len() as u64, TAPE_VALUES);
        board.tell(1);
        assert!(board.has_room_rt());
    }

    #[test]
    fn ticks_that_are_executed_again_come_off_the_tape_and_keep_their_numbers() {
        let session = Session::open().unwrap();
        let (segment, board) = board(&session);
        (0..10).for_each(|tick| board.note_rt(taken(tick)));
        board.tell(8);
        drop(board);
        let next = Board::open(segment.reference()).unwrap();
        next.rewind(6);
        assert_eq!(next.untold(u64::MAX), (8, Vec::new()), "what was told is not told again");
        assert!(next.has_room_rt());
        (6..12).for_each(|tick| next.note_rt(taken(tick)));
        assert_eq!(next.untold(u64::MAX), (8, (8..12).map(taken).collect()));
    }

    #[test]
    fn a_board_full_of_nonsense_is_read_without_harm() {
        let session = Session::open().unwrap();
        let (segment, board) = board(&session);
        for offset in (0..PAYLOAD_BYTES).step_by(WORD) {
            segment.word_u64(offset).store(u64::MAX - offset as u64, Relaxed);
        }
        let (_, values) = board.untold(u64::MAX);
        assert!(values.len() as u64 <= TAPE_VALUES);
        board.rewind(0);
        board.note_rt(taken(1));
        assert_eq!(Panel::open(segment.reference()).unwrap().get_rt(0, 7), None);
    }
}
