//! The ear: looks into the rings of listening runtimes, and brings what was decided there to the writer.
//!
//! On a thread of its own, which never waits for a disk: a ring comes round after half a second at 48 kHz. What it cannot bring
//! in time, because the machine or the disk is too busy for that long, is not known from that tick on; it never guesses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError};
use std::time::{Duration, Instant};

use ipc::input::InputReader;
use ipc::lane::SILENCE;

use super::file::{Kind, Piece};
use super::writer::Load;
use super::{Loads, News};

/// How often the rings are looked into.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

/// Age at which a piece goes to the writer, however short it is: a kill costs no more.
const PIECE_AGE: Duration = Duration::from_millis(250);

/// What the main thread asks for.
pub enum Order {
    /// Take in what this life hears from this tick on. Before, it has heard silence.
    Listen {
        life: usize,
        reader: InputReader,
        from: u64,
    },
    /// It hears nothing any more.
    Leave {
        life: usize,
    },
    Record {
        path: PathBuf,
        id: String,
    },
    Finish {
        number: u64,
    },
}

/// One runtime's ring.
struct Voice {
    reader: InputReader,
    /// The tick whose block is next.
    next: u64,
    piece: Option<(Piece, Instant)>,
}

/// See the module.
pub struct Ear<T> {
    voices: BTreeMap<usize, Voice>,
    loads: Loads,
    tell: T,
}

impl<T: Fn(News)> Ear<T> {
    pub fn new(loads: Loads, tell: T) -> Self {
        Self { voices: BTreeMap::new(), loads, tell }
    }

    /// Listens until there is nobody to ask for it any more.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let patience = if self.voices.is_empty() { Duration::from_secs(3_600) } else { LOOK_INTERVAL };
            match orders.recv_timeout(patience) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.look(Instant::now(), true);
                    return;
                }
            }
            self.look(Instant::now(), false);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Listen { life, reader, from } => {
                self.voices.insert(life, Voice { reader, next: from, piece: None });
                if from > 0 {
                    self.bring(life, Piece::silence(life as u32, 0, from));
                }
            }
            Order::Leave { life } => {
                self.listen(life, Instant::now(), true);
                self.voices.remove(&life);
            }
            // These wait for the disk to come round, as nothing that is heard does.
            Order::Record { path, id } => drop(self.loads.send(Load::Record { path, id })),
            Order::Finish { number } => {
                self.look(Instant::now(), true);
                let _ = self.loads.send(Load::Finish { number });
            }
        }
    }

    fn look(&mut self, now: Instant, is_last: bool) {
        let lives: Vec<usize> = self.voices.keys().copied().collect();
        lives.into_iter().for_each(|life| self.listen(life, now, is_last));
    }

    /// Takes in what has been decided since the last time.
    fn listen(&mut self, life: usize, now: Instant, is_last: bool) {
        let mut block = SILENCE;
        while let Some(voice) = self.voices.get_mut(&life)
            && voice.next < voice.reader.decided_rt()
        {
            if !voice.reader.read_rt(voice.next, &mut block) {
                let (next, piece) = (voice.next, voice.piece.take());
                if let Some((piece, _)) = piece {
                    self.bring(life, piece);
                }
                return self.lose(life, next, "it was not taken in soon enough, because the machine is too busy");
            }
            let (kind, tick) = (Kind::of(&block), voice.next);
            let full = voice.piece.take_if(|(piece, _)| !piece.takes(kind));
            voice.piece.get_or_insert_with(|| (Piece::begin(life as u32, kind, tick), now)).0.push(&block);
            voice.next += 1;
            if let Some((piece, _)) = full {
                self.bring(life, piece);
            }
        }
        let is_due = |(_, began): &mut (Piece, Instant)| is_last || now.duration_since(*began) >= PIECE_AGE;
        if let Some((piece, _)) = self.voices.get_mut(&life).and_then(|voice| voice.piece.take_if(is_due)) {
            self.bring(life, piece);
        }
    }

    fn bring(&mut self, life: usize, piece: Piece) {
        let from = piece.first_tick();
        match self.loads.try_send(Load::Piece(piece.into_bytes())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.lose(life, from, "the disk is too slow for it"),
        }
    }

    /// What a life hears is not known from this tick on; so nothing later is of use any more.
    fn lose(&mut self, life: usize, tick: u64, why: &'static str) {
        if self.voices.remove(&life).is_some() {
            (self.tell)(News::Lost { life, tick, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc::sync_channel;

    use ipc::input::InputWriter;
    use ipc::lane;
    use ipc::limits::INPUT_BLOCKS;
    use ipc::segment::{Segment, Session};

    use super::*;

    fn lane() -> (Session, Segment, InputWriter) {
        let session = Session::open().unwrap();
        let segment = lane::create(session.id(), 1).unwrap();
        let input = InputWriter::open(segment.reference()).unwrap();
        (session, segment, input)
    }

    fn feed(input: &mut InputWriter, blocks: usize) {
        (0..blocks).for_each(|_| input.write_rt(&[[input.next_block() as f32 + 1.0; 128]; 2]));
    }

    fn listening(segment: &Segment) -> Order {
        Order::Listen { life: 7, reader: InputReader::open(segment.reference()).unwrap(), from: 0 }
    }

    /// Ticks that have been brought.
    fn brought(loads: &std::sync::mpsc::Receiver<Load>) -> u64 {
        let pieces = loads.try_iter().filter_map(|load| if let Load::Piece(bytes) = load { Some(bytes) } else { None });
        pieces.map(|bytes| u64::from_le_bytes(*bytes[24..].first_chunk().unwrap())).sum()
    }

    #[test]
    fn each_block_is_brought_once_however_it_is_looked_at() {
        let (_session, segment, mut input) = lane();
        let (to, loads) = sync_channel(64);
        let mut ear = Ear::new(to, |news| panic!("{news:?}"));
        ear.obey(listening(&segment));
        let now = Instant::now();
        for step in 0..40u32 {
            feed(&mut input, 30);
            ear.look(now + LOOK_INTERVAL * step, false);
        }
        ear.look(now, true);
        assert_eq!(brought(&loads), 1_200);
        ear.look(now, true);
        assert_eq!(brought(&loads), 0);
    }

    #[test]
    fn what_it_is_too_late_for_is_told_once_and_not_guessed() {
        let (_session, segment, mut input) = lane();
        let (to, loads) = sync_channel(64);
        let told = RefCell::new(Vec::new());
        let mut ear = Ear::new(to, |news| told.borrow_mut().push(news));
        ear.obey(listening(&segment));
        feed(&mut input, 10);
        ear.look(Instant::now(), true);
        feed(&mut input, INPUT_BLOCKS + 1);
        (0..2).for_each(|_| ear.look(Instant::now(), true));
        assert_eq!(brought(&loads), 10);
        assert!(matches!(told.borrow()[..], [News::Lost { life: 7, tick: 10, .. }]), "{told:?}");
    }

    #[test]
    fn a_disk_that_is_too_slow_makes_nothing_wait_and_nothing_grow() {
        let (_session, segment, mut input) = lane();
        let (to, loads) = sync_channel(2);
        let told = RefCell::new(Vec::new());
        let mut ear = Ear::new(to, |news| told.borrow_mut().push(news));
        ear.obey(listening(&segment));
        for _ in 0..4 {
            feed(&mut input, 10);
            ear.look(Instant::now(), true);
        }
        assert_eq!(brought(&loads), 20);
        assert!(matches!(told.borrow()[..], [News::Lost { life: 7, tick: 20, .. }]), "{told:?}");
    }
}
