//! MIDI out to the sequencer of the machine, on time.
//!
//! It is played where no JACK server is. A thread of its own opens it, sleeps until each event is to be sent, and sends it
//! then; what is late goes at once, in order. It knows which notes sound there, and ends them when it lets go: because a JACK
//! server has appeared, or at the end. The end of a note that a listener had no room for is sent again until it has; other
//! messages are left out then, and counted.
//!
//! The sequencer is the machine's (`device/midi/alsa.rs`) or a test's own. The thread has real-time priority where that is
//! allowed: being on time is all it does. Its only system calls are waiting, and those of the sequencer.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::midi::{Message, MidiEvent, NOTE_OFF, is_note_off, is_note_on, wire_bytes_rt};

use super::input::PORTS;
use super::input::wiring::SenderPorts;
use super::outgoing::{self, Due, Outgoing};
use super::presence::Presence;
use super::{LATENCY_NS, MidiSink};
use crate::device::output::quiet::silence_libraries;
use crate::realtime::{TIMER_PRIORITY, monotonic_ns_rt, promote_current_thread, tighten_timer_slack};

/// How often the sequencer is looked for where there is none.
const SEARCH_INTERVAL_NS: u64 = 500_000_000;
/// How often it is looked whether a JACK server is there.
const WAIT_INTERVAL_NS: u64 = 50_000_000;
/// After how long the end of a note that found no room is sent again.
const RETRY_INTERVAL_NS: u64 = 5_000_000;
/// How long the end waits for what is on its way to be sent.
const FAREWELL_LIMIT_NS: u64 = 250_000_000;

/// Why there is no sequencer. Each is the end of a sentence that says what follows from it.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error(
        "there is no ALSA sequencer on this machine ({device}: {source}); `sudo modprobe snd-seq` loads it, or start a JACK server and play \
         there (`--device jack`): what comes is used at once"
    )]
    Missing { device: &'static str, source: std::io::Error },
    #[error("the ALSA sequencer may not be opened ({device}: {source}); `sudo usermod -aG audio $USER` allows it from the next login on")]
    Denied { device: &'static str, source: std::io::Error },
    #[error("the ALSA sequencer refuses {what} ({why}); it is tried again")]
    Refused { what: &'static str, why: String },
}

/// Our ports that send.
pub trait Outputs: Send {
    /// Their full names, that of port 1 first.
    fn names(&self) -> Vec<String>;

    /// Sends a message at a port, now. False when who listens has no room for it.
    fn send(&mut self, port: u8, bytes: &[u8]) -> bool;
}

/// Opens the sequencer.
pub type Open = Box<dyn Fn() -> Result<Box<dyn Outputs>, Unavailable> + Send>;

/// The MIDI thread's end.
pub struct SequencerOut {
    outgoing: Outgoing,
    presence: Presence,
    is_needed: bool,
    refused: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SequencerOut {
    /// Begins to look whether the sequencer is needed, and there.
    pub fn start(open: Open, senders: SenderPorts, presence: Presence) -> std::io::Result<Self> {
        let (outgoing, due) = outgoing::queue();
        let (refused, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let playing = Playing::new(open, senders, presence.clone(), due, Arc::clone(&refused));
        let ended = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name("midi-seq".into()).spawn(move || run(playing, &ended))?;
        let is_needed = presence.is_absent(monotonic_ns_rt());
        Ok(Self { outgoing, presence, is_needed, refused, is_over, thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl MidiSink for SequencerOut {
    fn send(&mut self, event: &MidiEvent) {
        if self.is_needed {
            self.outgoing.put(event);
            self.wake();
        }
    }

    fn begin_again(&mut self, event: &MidiEvent) {
        self.send(event);
    }

    fn look(&mut self, now_ns: u64) {
        self.is_needed = self.presence.is_absent(now_ns);
        self.outgoing.hand_over();
    }

    fn dropped(&self) -> u64 {
        self.outgoing.dropped() + self.refused.load(Relaxed)
    }

    fn close(&mut self) {
        self.outgoing.hand_over();
        self.is_over.store(true, Release);
        self.wake();
        // A thread that has panicked has aborted the process.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for SequencerOut {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut playing: Playing, is_over: &AtomicBool) {
    silence_libraries();
    tighten_timer_slack();
    // Without it events are as punctual as the machine is idle.
    let _ = promote_current_thread(TIMER_PRIORITY);
    let mut until_ns = u64::MAX;
    loop {
        let now_ns = monotonic_ns_rt();
        if is_over.load(Acquire) {
            until_ns = until_ns.min(now_ns + FAREWELL_LIMIT_NS);
        }
        let next_ns = playing.step(now_ns);
        if now_ns >= until_ns || (until_ns < u64::MAX && playing.is_idle()) {
            return playing.let_go();
        }
        // An absolute time of the monotonic clock to the kernel; what comes meanwhile ends it.
        std::thread::park_timeout(Duration::from_nanos(next_ns.min(until_ns).saturating_sub(monotonic_ns_rt())));
    }
}

/// What the thread has.
struct Playing {
    open: Open,
    senders: SenderPorts,
    presence: Presence,
    due: Due,
    refused: Arc<AtomicU64>,
    outputs: Option<Box<dyn Outputs>>,
    search_at_ns: u64,
    sounding: Notes,
    /// Notes whose end has found no room.
    unended: Notes,
    retry_at_ns: u64,
}

impl Playing {
    fn new(open: Open, senders: SenderPorts, presence: Presence, due: Due, refused: Arc<AtomicU64>) -> Self {
        let (sounding, unended) = (Notes::default(), Notes::default());
        Self { open, senders, presence, due, refused, outputs: None, search_at_ns: 0, sounding, unended, retry_at_ns: 0 }
    }

    /// Sends what is due. Returns when there may be something to do again, if nothing comes.
    fn step(&mut self, now_ns: u64) -> u64 {
        self.follow(now_ns);
        self.due.take_in_rt();
        let Some(outputs) = &mut self.outputs else {
            // What is sent while there is no sequencer is left out.
            self.due.pending.clear();
            self.due.tell_idle_rt();
            return now_ns + WAIT_INTERVAL_NS;
        };
        if !self.unended.is_empty() && now_ns >= self.retry_at_ns {
            self.unended.retain(|port, end| !outputs.send(port, &end));
            self.retry_at_ns = now_ns + RETRY_INTERVAL_NS;
        }
        let ready = self.due.pending.partition_point(|event| time_of(event) <= now_ns);
        for event in self.due.pending.drain(..ready).filter(|event| (1..=PORTS).contains(&usize::from(event.port))) {
            let is_sent = outputs.send(event.port, wire_bytes_rt(&event.message));
            if is_note_off(event.message) {
                self.sounding.remove(event.port, event.message);
                self.unended.set(event.port, event.message, !is_sent);
                self.retry_at_ns = self.retry_at_ns.max(now_ns + RETRY_INTERVAL_NS);
            } else if !is_sent {
                self.refused.fetch_add(1, Relaxed);
            } else if is_note_on(event.message) {
                self.sounding.set(event.port, event.message, true);
                // The end that is still owed is that of the note before.
                self.unended.remove(event.port, event.message);
            }
        }
        self.due.tell_idle_rt();
        let retry_ns = if self.unended.is_empty() { u64::MAX } else { self.retry_at_ns };
        self.due.pending.first().map_or(u64::MAX, time_of).min(retry_ns).min(now_ns + WAIT_INTERVAL_NS)
    }

    /// Opens the sequencer where it is needed, lets go of it where it is not.
    fn follow(&mut self, now_ns: u64) {
        match (self.presence.is_absent(now_ns), &self.outputs) {
            (false, Some(_)) => self.let_go(),
            (true, None) if now_ns >= self.search_at_ns => {
                self.search_at_ns = now_ns + SEARCH_INTERVAL_NS;
                // The input side, which looks for it, too, tells why there is none.
                if let Ok(outputs) = (self.open)() {
                    self.senders.set(outputs.names());
                    self.outputs = Some(outputs);
                }
            }
            (true, _) | (false, None) => {}
        }
    }

    /// Ends what sounds there.
    fn let_go(&mut self) {
        self.senders.set(Vec::new());
        let Some(mut outputs) = self.outputs.take() else { return };
        for notes in [&mut self.sounding, &mut self.unended] {
            notes.retain(|port, end| {
                outputs.send(port, &end);
                false
            });
        }
    }

    /// Whether everything has been sent, and every note that was to end has.
    fn is_idle(&self) -> bool {
        self.due.pending.is_empty() && self.unended.is_empty()
    }
}

/// When an event is sent.
fn time_of(event: &MidiEvent) -> u64 {
    event.due_ns.saturating_add(LATENCY_NS)
}

/// Notes, by port, channel and number.
#[derive(Default)]
struct Notes([[u128; 16]; PORTS]);

impl Notes {
    /// Takes in or removes the note that this message begins or ends.
    fn set(&mut self, port: u8, message: Message, is_in: bool) {
        let Some(channels) = usize::from(port).checked_sub(1).and_then(|index| self.0.get_mut(index)) else { return };
        let (notes, bit) = (&mut channels[usize::from(message[0] & 0x0f)], 1u128 << (message[1] & 0x7f));
        *notes = if is_in { *notes | bit } else { *notes & !bit };
    }

    fn remove(&mut self, port: u8, message: Message) {
        self.set(port, message, false);
    }

    fn is_empty(&self) -> bool {
        self.0.iter().flatten().all(|notes| *notes == 0)
    }

    /// Keeps the notes of which this says so, given the message that ends them.
    fn retain(&mut self, mut keeps: impl FnMut(u8, Message) -> bool) {
        for (port, channels) in (1..).zip(&mut self.0) {
            for (channel, notes) in (0..).zip(channels) {
                for note in 0..128u8 {
                    let bit = 1u128 << note;
                    if *notes & bit != 0 && !keeps(port, [NOTE_OFF | channel, note, 0]) {
                        *notes &= !bit;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
