//! What a midi runtime sends in a replay: read out of its lane, hashed, and written into a MIDI file where one is asked for.
//!
//! A thread of its own in the place of the device host's, which would send it; the host waits for room in its lane, so nothing is
//! missed however fast it ticks. Time is that of the ticks, as a runtime that loses none has it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::hash::ContentHash;
use ipc::midi::{Message, MidiEvent, MidiLaneReader, is_note_off, is_note_on, note_off};
use ipc::segment::{SegmentError, SegmentRef};
use runtime_host::device::midi::MidiSink;
use runtime_host::device::midi::file::MidiFile;

/// How often the lane is looked at: as often as it takes for a host not to wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Stack in bytes of the thread.
const STACK_BYTES: usize = 256 << 10;

/// What is to be done with what is sent.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The first tick that does not count.
    pub to_tick: u64,
    pub rate_hz: u32,
    /// A MIDI file of it.
    pub file: Option<PathBuf>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Of every message, with its tick and port.
    pub hash: ContentHash,
    pub messages: u64,
}

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SentError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("cannot write {}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
}

/// A lane that is read. Dropped without [`Listener::finish`], it writes what there is.
pub struct Listener {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

impl Listener {
    /// Reads a lane from now on.
    pub fn start(lane: &SegmentRef, sending: &Sending) -> Result<Self, SentError> {
        let mut reader: MidiLaneReader = MidiLaneReader::open(lane)?;
        let mut desk = Desk::new(sending)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ours = Arc::clone(&is_over);
        let read = move || {
            loop {
                // What was complete when it was over is still read.
                let is_last = ours.load(Acquire);
                while let Some(event) = reader.next_event() {
                    desk.take(&event);
                }
                if is_last {
                    return desk.close();
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("sent".to_owned()).stack_size(STACK_BYTES).spawn(read).map_err(SentError::Thread)?;
        Ok(Self { is_over, thread: Some(thread) })
    }

    /// Everything is in the lane: what it was.
    pub fn finish(mut self) -> Option<Sent> {
        self.is_over.store(true, Release);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_over.store(true, Release);
    }
}

/// Puts down what is sent.
struct Desk {
    sending: Sending,
    file: Option<MidiFile>,
    /// Notes that have begun and not ended: port, channel and number, with their beginnings.
    held: BTreeMap<(u8, u8, u8), Message>,
    sent: Sent,
}

impl Desk {
    fn new(sending: &Sending) -> Result<Self, SentError> {
        let create = |path: &PathBuf| MidiFile::create(path.clone()).map_err(|error| SentError::File { path: path.clone(), error });
        let file = sending.file.as_ref().map(create).transpose()?;
        let sent = Sent { hash: ContentHash::of(&[]), messages: 0 };
        Ok(Self { sending: sending.clone(), file, held: BTreeMap::new(), sent })
    }

    fn take(&mut self, event: &MidiEvent) {
        if event.tick >= self.sending.to_tick {
            return;
        }
        let [status, number, _] = event.message;
        let note = (event.port, status & 0x0f, number);
        if is_note_off(event.message) {
            self.held.remove(&note);
        } else if is_note_on(event.message) {
            self.held.insert(note, event.message);
        }
        self.put(event);
    }

    fn put(&mut self, event: &MidiEvent) {
        let message = [&event.tick.to_le_bytes()[..], &[event.port], &event.message];
        self.sent.hash = ContentHash::of(&[&self.sent.hash.0, &message.concat()]);
        self.sent.messages += 1;
        // Its time is that of its tick, whatever clock the host had.
        let due_ns = due_ns(event.tick, self.sending.rate_hz);
        if let Some(file) = &mut self.file {
            file.send(&MidiEvent { due_ns, ..*event });
        }
    }

    /// Ends what is held, as a runtime does that is stopped.
    fn close(mut self) -> Sent {
        let tick = self.sending.to_tick;
        for ((port, ..), begin) in std::mem::take(&mut self.held) {
            self.put(&MidiEvent { due_ns: 0, tick, port, message: note_off(begin) });
        }
        if let Some(file) = &mut self.file {
            file.close();
        }
        self.sent
    }
}

/// When a tick is due, in nanoseconds from the first one.
fn due_ns(tick: u64, rate_hz: u32) -> u64 {
    (u128::from(tick) * 1_000_000_000 / u128::from(rate_hz.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use ipc::midi::{CONTROLLER, MidiLaneWriter, NOTE_ON};
    use ipc::segment::Session;

    use super::*;

    fn event(tick: u64, message: Message) -> MidiEvent {
        MidiEvent { due_ns: 77, tick, port: 1, message }
    }

    /// Plays these messages, one a tick, into a lane that is read up to tick 3.
    fn sent(messages: &[Message]) -> Sent {
        let session = Session::open().unwrap();
        let lane = ipc::midi::create(session.id(), 1).unwrap();
        let listener = Listener::start(lane.reference(), &Sending { to_tick: 3, rate_hz: 50, file: None }).unwrap();
        let mut writer: MidiLaneWriter = MidiLaneWriter::open(lane.reference()).unwrap();
        for (tick, message) in (0..).zip(messages) {
            assert!(writer.push_rt(&event(tick, *message)));
            writer.complete_rt(&[], 0);
        }
        listener.finish().unwrap()
    }

    #[test]
    fn what_is_sent_up_to_the_last_tick_counts_and_held_notes_are_ended() {
        let on = |note| [NOTE_ON, note, 100];
        let one = sent(&[on(60), [CONTROLLER, 1, 2], note_off(on(60)), on(61)]);
        assert_eq!(one, sent(&[on(60), [CONTROLLER, 1, 2], note_off(on(60)), on(62)]), "ticks behind the end do not count");
        assert_eq!(one.messages, 3);
        let held = sent(&[on(60), [CONTROLLER, 1, 2], on(61)]);
        assert_eq!(held.messages, 5, "two notes are ended");
        assert_ne!(held.hash, sent(&[on(60), [CONTROLLER, 1, 3], on(61)]).hash);
    }
}
