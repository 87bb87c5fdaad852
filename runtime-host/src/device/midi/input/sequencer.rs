//! MIDI in from the sequencer of the machine, with the time that it stamps each message with.
//!
//! It is listened to where no JACK server is: a thread opens it, twice a second for as long as there is none, and has
//! [`Wiring`] connect ports by name: those that are there, and those that come. When a JACK server appears it lets go of it.
//! What comes in at a port goes through a queue of its own to the MIDI input thread; a stamp counts microseconds since the
//! port's queue began, and [`CountClock`] knows when that was. That there is no sequencer is told once.
//!
//! The sequencer is the machine's (`device/midi/alsa.rs`) or a test's own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::clock::CountClock;
use super::inbox::{Inbox, Outbox, queue};
use super::wiring::{Patching, Wiring};
use super::{Heard, InputCounters, PORTS};
use crate::device::midi::presence::Presence;
use crate::device::midi::sequencer::Unavailable;
use crate::device::output::quiet::silence_libraries;
use crate::realtime::monotonic_ns_rt;

/// How often ports are looked at, or the sequencer is where there is none.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked whether a JACK server is there.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);

/// Opens the sequencer with what takes in what comes to our ports, that of port 1 first. What it returns connects them until
/// it is dropped.
pub type Open = Box<dyn Fn(Vec<Intake>) -> Result<Box<dyn Patching + Send>, Unavailable> + Send>;

/// Is told that there is no sequencer.
pub type OnMissing = Box<dyn Fn(Unavailable) + Send>;

/// What takes in what comes to one port. Belongs to the sequencer's thread of that port.
pub struct Intake {
    port: u8,
    clock: CountClock,
    /// When the last message came: none is before it.
    last_ns: u64,
    outbox: Outbox,
    counters: Arc<InputCounters>,
}

impl Intake {
    /// Takes in what was stamped so many microseconds after the queue began. A sequencer may have several messages in one.
    pub fn hear_rt(&mut self, stamp_us: u64, bytes: &[u8], now_ns: u64) {
        self.clock.observe(stamp_us, now_ns);
        self.last_ns = self.clock.time_of(stamp_us).max(self.last_ns);
        for message in bytes.chunk_by(|_, next| *next < 0x80) {
            self.outbox.hear_rt(self.last_ns, self.port, message, &self.counters);
        }
    }
}

/// A queue of each port.
fn intakes(counters: &Arc<InputCounters>) -> (Vec<Intake>, Vec<Inbox>) {
    let one = |port| {
        let (outbox, inbox) = queue();
        (Intake { port, clock: CountClock::of_queue(), last_ns: 0, outbox, counters: Arc::clone(counters) }, inbox)
    };
    (1..=PORTS as u8).map(one).unzip()
}

/// The MIDI input thread's end.
pub struct SequencerIn {
    found: Receiver<Vec<Inbox>>,
    ports: Vec<(Inbox, Option<Heard>)>,
    /// Ends the thread, once it is dropped.
    _end: Sender<()>,
}

impl SequencerIn {
    /// Begins to look whether the sequencer is needed, and there.
    pub fn start(
        open: Open,
        wiring: Wiring,
        presence: Presence,
        counters: &Arc<InputCounters>,
        on_missing: OnMissing,
    ) -> std::io::Result<Self> {
        let (found_in, found) = channel();
        let (end, ended) = channel();
        let mut seeking = Seeking::new(open, wiring, presence, Arc::clone(counters), found_in, on_missing);
        let job = move || {
            silence_libraries();
            let mut pause = Duration::ZERO;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
                pause = seeking.step(monotonic_ns_rt());
            }
        };
        std::thread::Builder::new().name("midi-in-seq".into()).spawn(job)?;
        Ok(Self { found, ports: Vec::new(), _end: end })
    }

    /// The next message: of those that wait the one that came first.
    pub fn hear(&mut self) -> Option<Heard> {
        if let Ok(inboxes) = self.found.try_recv() {
            self.ports = inboxes.into_iter().map(|inbox| (inbox, None)).collect();
        }
        for (inbox, next) in &mut self.ports {
            if next.is_none() {
                *next = inbox.hear();
            }
        }
        let first = self.ports.iter_mut().filter(|(_, next)| next.is_some());
        first.min_by_key(|(_, next)| next.map(|heard| heard.at_ns))?.1.take()
    }
}

/// What the thread that opens the sequencer has.
struct Seeking {
    open: Open,
    wiring: Wiring,
    presence: Presence,
    counters: Arc<InputCounters>,
    found: Sender<Vec<Inbox>>,
    on_missing: OnMissing,
    has_told: bool,
    opened: Option<Box<dyn Patching + Send>>,
}

impl Seeking {
    fn new(
        open: Open,
        wiring: Wiring,
        presence: Presence,
        counters: Arc<InputCounters>,
        found: Sender<Vec<Inbox>>,
        on_missing: OnMissing,
    ) -> Self {
        Self { open, wiring, presence, counters, found, on_missing, has_told: false, opened: None }
    }

    /// Opens, connects or lets go; returns after how long there may be something to do again.
    fn step(&mut self, now_ns: u64) -> Duration {
        if !self.presence.is_absent(now_ns) {
            if self.opened.take().is_some() {
                self.wiring.end();
            }
            return WAIT_INTERVAL;
        }
        if self.opened.is_none() {
            let (intakes, inboxes) = intakes(&self.counters);
            match (self.open)(intakes) {
                // When the input thread has ended this one does, too.
                Ok(opened) => {
                    let _ = self.found.send(inboxes);
                    self.opened = Some(opened);
                }
                Err(missing) if !std::mem::replace(&mut self.has_told, true) => (self.on_missing)(missing),
                Err(_) => {}
            }
        }
        if let Some(patching) = &mut self.opened {
            // The sequencer says nothing by itself here: a port may have gone and come back since.
            self.wiring.check(patching.as_ref());
            self.wiring.look(patching.as_mut());
        }
        LOOK_INTERVAL
    }
}

impl Drop for Seeking {
    fn drop(&mut self) {
        self.wiring.end();
    }
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
