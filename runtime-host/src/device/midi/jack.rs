//! MIDI out to JACK, exact to the frame: a client of its own, because the audio back end keeps its client to itself.
//!
//! A thread looks for a server, twice a second for as long as there is none; calls into the library may take their time, and
//! the MIDI thread does not wait for them. Events go through a wait-free queue to JACK's thread, which knows the time at
//! which its cycle began and sends each event at its frame. A server that goes takes nothing with it but what was on its way.
//!
//! What is sent while there is no server is left out. What does not fit into a cycle is sent in the next one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ::jack::{
    AsyncClient, Client, ClientOptions, ClientStatus, Control, MidiOut, NotificationHandler, Port, ProcessHandler, ProcessScope, RawMidi,
};
use ipc::midi::{MidiEvent, wire_bytes_rt};

use super::input::PORTS;
use super::input::wiring::SenderPorts;
use super::outgoing::{self, Due, Outgoing};
use super::presence::Presence;
use super::{LATENCY_NS, MidiSink};
use crate::device::clients::{Client as OwnClient, Clients};
use crate::device::output::quiet::silence_libraries;
use crate::realtime::{RealtimeSection, monotonic_ns_rt};

/// What JACK calls the client.
const CLIENT_NAME: &str = "continuo-midi";
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long the end waits for what is on its way to be sent: some cycles of the longest period, and the latency.
const FAREWELL_LIMIT: Duration = Duration::from_millis(250);
const SECOND_NS: u64 = 1_000_000_000;

/// See the module's documentation.
pub struct JackOut {
    found: Receiver<Connected>,
    /// Ends the search.
    is_over: Arc<AtomicBool>,
    /// Asks for another search.
    search: Sender<()>,
    /// What JACK calls our ports, for whoever connects them.
    ports: SenderPorts,
    connected: Option<Connected>,
    /// Events that clients of before had no room for.
    earlier_dropped: u64,
}

/// A client that plays.
struct Connected {
    /// Closed when this is dropped.
    _client: OwnClient<AsyncClient<Notices, Sending>>,
    events: Outgoing,
    is_lost: Arc<AtomicBool>,
}

impl JackOut {
    /// Begins to look for a server, and tells whether there is one.
    pub fn start(ports: SenderPorts, presence: Presence, clients: Clients) -> std::io::Result<Self> {
        let (found_in, found) = channel();
        let (search, searches) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (ended, senders) = (Arc::clone(&is_over), ports.clone());
        let job = move || look_for_servers(&searches, &found_in, &ended, &presence, &clients, &senders);
        std::thread::Builder::new().name("midi-jack".into()).spawn(job)?;
        let out = Self { found, ports, is_over, search, connected: None, earlier_dropped: 0 };
        out.begin_search();
        Ok(out)
    }

    fn begin_search(&self) {
        // The thread is there until the other end of this is gone.
        let _ = self.search.send(());
    }
}

impl MidiSink for JackOut {
    fn send(&mut self, event: &MidiEvent) {
        if let Some(connected) = &mut self.connected {
            connected.events.put(event);
        }
    }

    fn begin_again(&mut self, event: &MidiEvent) {
        self.send(event);
    }

    fn look(&mut self, _now_ns: u64) {
        if let Ok(connected) = self.found.try_recv() {
            self.connected = Some(connected);
        }
        if let Some(lost) = self.connected.take_if(|connected| connected.is_lost.load(Acquire)) {
            self.ports.set(Vec::new());
            self.earlier_dropped += lost.events.dropped();
            self.begin_search();
        }
        if let Some(connected) = &mut self.connected {
            connected.events.hand_over();
        }
    }

    fn dropped(&self) -> u64 {
        self.earlier_dropped + self.connected.as_ref().map_or(0, |connected| connected.events.dropped())
    }

    fn close(&mut self) {
        self.is_over.store(true, Release);
        let Some(connected) = &self.connected else { return };
        let began = std::time::Instant::now();
        while !connected.events.is_idle() && !connected.is_lost.load(Acquire) && began.elapsed() < FAREWELL_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.connected = None;
    }
}

fn look_for_servers(
    searches: &Receiver<()>,
    found: &Sender<Connected>,
    is_over: &AtomicBool,
    presence: &Presence,
    clients: &Clients,
    ports: &SenderPorts,
) {
    silence_libraries();
    while searches.recv().is_ok() {
        loop {
            if is_over.load(Acquire) {
                return;
            }
            let connected = connect(clients, ports);
            presence.tell(connected.is_ok());
            match connected {
                Ok(connected) => match found.send(connected) {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Err(_) => std::thread::sleep(SEARCH_INTERVAL),
            }
        }
    }
}

fn connect(clients: &Clients, senders: &SenderPorts) -> Result<Connected, ::jack::Error> {
    let open = clients.enter();
    let (client, _) = Client::new(CLIENT_NAME, ClientOptions::NO_START_SERVER)?;
    // Before they are there, so that nobody takes them for another program's.
    senders.set((1..=PORTS).map(|number| format!("{}:out_{number}", client.name())).collect());
    let mut ports = Vec::with_capacity(PORTS);
    for number in 1..=PORTS {
        ports.push(client.register_port(&format!("out_{number}"), MidiOut::default())?);
    }
    let sample_rate_hz = client.sample_rate() as u64;
    let (events, due) = outgoing::queue();
    let is_lost = Arc::new(AtomicBool::new(false));
    let sending = Sending { ports, due, sample_rate_hz };
    let client = client.activate_async(Notices { is_lost: Arc::clone(&is_lost) }, sending)?;
    let client = OwnClient::new(client, open, Arc::clone(&is_lost));
    Ok(Connected { _client: client, events, is_lost })
}

struct Notices {
    is_lost: Arc<AtomicBool>,
}

impl NotificationHandler for Notices {
    // One atomic store, which is allowed where a signal handler may do no more.
    unsafe fn shutdown(&mut self, _status: ClientStatus, _reason: &str) {
        self.is_lost.store(true, Release);
    }
}

/// What JACK's thread has.
struct Sending {
    ports: Vec<Port<MidiOut>>,
    due: Due,
    sample_rate_hz: u64,
}

impl ProcessHandler for Sending {
    fn process(&mut self, _client: &Client, scope: &ProcessScope) -> Control {
        let _section = RealtimeSection::enter_rt();
        self.due.take_in_rt();
        let frames = scope.n_frames();
        let period_ns = u64::from(frames) * SECOND_NS / self.sample_rate_hz.max(1);
        let since_ns = u64::from(scope.frames_since_cycle_start()) * SECOND_NS / self.sample_rate_hz.max(1);
        let begin_ns = monotonic_ns_rt().saturating_sub(since_ns);
        let Self { ports, due: Due { pending, .. }, sample_rate_hz } = self;
        for (port, number) in ports.iter_mut().zip(1u8..) {
            let mut writer = port.writer(scope);
            let mut is_full = false;
            pending.retain(|event| {
                if event.port != number || is_full {
                    return usize::from(event.port) <= PORTS;
                }
                let at_ns = event.due_ns.saturating_add(LATENCY_NS + period_ns);
                let Some(time) = frame_rt(at_ns, begin_ns, *sample_rate_hz, frames) else { return true };
                is_full = writer.write(&RawMidi { time, bytes: wire_bytes_rt(&event.message) }).is_err();
                is_full
            });
        }
        self.due.tell_idle_rt();
        Control::Continue
    }
}

/// The frame of a cycle in which something is sent that is to be sent at `at_ns`; what is late goes first. `None`: it belongs
/// to a later cycle.
fn frame_rt(at_ns: u64, begin_ns: u64, sample_rate_hz: u64, frames: u32) -> Option<u32> {
    let frame = u128::from(at_ns.saturating_sub(begin_ns)) * u128::from(sample_rate_hz) / u128::from(SECOND_NS);
    u32::try_from(frame).ok().filter(|frame| *frame < frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_sent_in_its_cycle_at_its_frame() {
        let begin_ns = 5 * SECOND_NS;
        assert_eq!(frame_rt(begin_ns, begin_ns, 48_000, 128), Some(0));
        assert_eq!(frame_rt(begin_ns + 1_000_000, begin_ns, 48_000, 128), Some(48));
        assert_eq!(frame_rt(begin_ns + 3_000_000, begin_ns, 48_000, 128), None, "it is for the next cycle");
        assert_eq!(frame_rt(0, begin_ns, 48_000, 128), Some(0), "what is late is not later still");
    }
}
