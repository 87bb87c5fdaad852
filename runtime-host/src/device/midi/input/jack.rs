//! MIDI in from JACK, with the time of each message to the frame: a client of its own.
//!
//! A thread looks for a server, twice a second for as long as there is none, and has [`Wiring`] connect ports by name: those
//! that are there, and those that come. What comes in goes through a wait-free queue to the MIDI input thread.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::jack::{
    AsyncClient, Client, ClientOptions, ClientStatus, Control, MidiIn, NotificationHandler, Port, PortId, ProcessHandler, ProcessScope,
};
use ipc::midi::{Message, Received};

use super::inbox::{Inbox, Outbox, queue};
use super::wiring::{OnPort, Wiring};
use super::{Heard, InputCounters, PORTS, Setup};
use crate::device::clients::{Client as OwnClient, Clients};
use crate::device::output::quiet::silence_libraries;
use crate::realtime::{RealtimeSection, monotonic_ns_rt};

/// What JACK calls the client.
const CLIENT_NAME: &str = "continuo-midi-in";
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
const SECOND_NS: u64 = 1_000_000_000;
/// Says that somebody is there, and nothing else.
const ACTIVE_SENSING: u8 = 0xfe;

/// What JACK calls the client that sends, while there is one. Never on a real-time thread.
#[derive(Clone, Debug, Default)]
pub struct ClientName(Arc<Mutex<Option<String>>>);

impl ClientName {
    pub fn set(&self, name: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The MIDI input thread's end.
pub struct JackIn {
    found: Receiver<Inbox>,
    inbox: Option<Inbox>,
    /// Ends the search, and the client.
    _end: End,
}

struct End {
    is_over: Arc<AtomicBool>,
    /// Wakes the thread.
    changes: Sender<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.is_over.store(true, Release);
        // The thread may have ended.
        let _ = self.changes.send(());
    }
}

impl JackIn {
    /// Begins to look for a server.
    pub fn start(setup: &Setup, on_port: OnPort) -> std::io::Result<Self> {
        let (found_in, found) = channel();
        let (changes_in, changes) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let seeker = Seeker {
            wiring: Wiring::new(setup.ports.clone(), setup.sender_name.clone(), on_port),
            counters: Arc::clone(&setup.input_counters),
            clients: setup.clients.clone(),
            is_over: Arc::clone(&is_over),
            changes_in: changes_in.clone(),
            changes,
        };
        std::thread::Builder::new().name("midi-in-jack".into()).spawn(move || seeker.run(&found_in))?;
        Ok(Self { found, inbox: None, _end: End { is_over, changes: changes_in } })
    }

    /// The next message.
    pub fn hear(&mut self) -> Option<Heard> {
        if let Ok(inbox) = self.found.try_recv() {
            self.inbox = Some(inbox);
        }
        self.inbox.as_mut()?.hear()
    }
}

/// The thread that looks for servers and connects ports.
struct Seeker {
    wiring: Wiring,
    counters: Arc<InputCounters>,
    clients: Clients,
    is_over: Arc<AtomicBool>,
    /// Says that a port has come or gone, or that it is over.
    changes_in: Sender<()>,
    changes: Receiver<()>,
}

impl Seeker {
    fn run(mut self, found: &Sender<Inbox>) {
        silence_libraries();
        while !self.is_over.load(Acquire) {
            let Ok((client, inbox, is_lost)) = self.connect() else {
                let _ = self.changes.recv_timeout(SEARCH_INTERVAL);
                continue;
            };
            if found.send(inbox).is_err() {
                return;
            }
            while !self.is_over.load(Acquire) && !is_lost.load(Acquire) {
                self.wiring.look(client.as_client());
                // Ports that come and go wake it; a client that never says so is seen at the next look.
                if self.changes.recv_timeout(SEARCH_INTERVAL).is_ok() {
                    self.changes.try_iter().for_each(drop);
                    self.wiring.check(client.as_client());
                }
            }
            self.wiring.end();
        }
    }

    fn connect(&self) -> Result<Connected, ::jack::Error> {
        let open = self.clients.enter();
        let (client, _) = Client::new(CLIENT_NAME, ClientOptions::NO_START_SERVER)?;
        let mut ports = Vec::with_capacity(PORTS);
        for number in 1..=PORTS {
            ports.push(client.register_port(&format!("in_{number}"), MidiIn::default())?);
        }
        let (messages, inbox) = queue();
        let is_lost = Arc::new(AtomicBool::new(false));
        let sample_rate_hz = client.sample_rate() as u64;
        let receiving = Receiving { ports, messages, counters: Arc::clone(&self.counters), sample_rate_hz };
        let notices = Notices { is_lost: Arc::clone(&is_lost), changes: self.changes_in.clone() };
        let client = client.activate_async(notices, receiving)?;
        Ok((OwnClient::new(client, open, Arc::clone(&is_lost)), inbox, is_lost))
    }
}

type Connected = (OwnClient<AsyncClient<Notices, Receiving>>, Inbox, Arc<AtomicBool>);

struct Notices {
    is_lost: Arc<AtomicBool>,
    /// Says that a port has come or gone.
    changes: Sender<()>,
}

impl NotificationHandler for Notices {
    // One atomic store, which is allowed where a signal handler may do no more.
    unsafe fn shutdown(&mut self, _status: ClientStatus, _reason: &str) {
        self.is_lost.store(true, Release);
    }

    fn port_registration(&mut self, _: &Client, _: PortId, _has_come: bool) {
        // The thread may have ended.
        let _ = self.changes.send(());
    }
}

/// What JACK's thread has.
struct Receiving {
    ports: Vec<Port<MidiIn>>,
    messages: Outbox,
    counters: Arc<InputCounters>,
    sample_rate_hz: u64,
}

impl ProcessHandler for Receiving {
    fn process(&mut self, _client: &Client, scope: &ProcessScope) -> Control {
        let _section = RealtimeSection::enter_rt();
        let rate_hz = self.sample_rate_hz.max(1);
        let since_ns = u64::from(scope.frames_since_cycle_start()) * SECOND_NS / rate_hz;
        let begin_ns = monotonic_ns_rt().saturating_sub(since_ns);
        let Self { ports, messages, counters, .. } = self;
        for (port, number) in ports.iter().zip(1u8..) {
            for event in port.iter(scope) {
                let Some(message) = message_rt(event.bytes) else {
                    counters.malformed.fetch_add(1, Relaxed);
                    continue;
                };
                if message[0] == ACTIVE_SENSING {
                    continue;
                }
                let at_ns = begin_ns + u64::from(event.time) * SECOND_NS / rate_hz;
                if !messages.put_rt(Heard { at_ns, received: Received { port: number, message } }) {
                    counters.dropped.fetch_add(1, Relaxed);
                }
            }
        }
        Control::Continue
    }
}

/// The first three bytes of a message. `None` to what is none.
fn message_rt(bytes: &[u8]) -> Option<Message> {
    let message = [*bytes.first()?, bytes.get(1).copied().unwrap_or(0), bytes.get(2).copied().unwrap_or(0)];
    let received = Received { port: 1, message };
    received.is_sound().then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_message_or_none() {
        assert_eq!(message_rt(&[0x90, 60, 100]), Some([0x90, 60, 100]));
        assert_eq!(message_rt(&[0xc0, 7]), Some([0xc0, 7, 0]));
        assert_eq!(message_rt(&[0xf8]), Some([0xf8, 0, 0]));
        assert_eq!(message_rt(&[0xf0, 0x7e, 0x7f, 9, 1, 0xf7]), Some([0xf0, 0x7e, 0x7f]));
        for garbage in [&[][..], &[60, 100], &[0x90, 0x90, 1], &[0x80, 1, 0xff]] {
            assert_eq!(message_rt(garbage), None, "{garbage:?}");
        }
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..100_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let bytes = seed.to_le_bytes();
            let message = message_rt(&bytes[..(seed >> 61) as usize]);
            assert!(message.is_none_or(|message| message[0] >= 0x80 && message[1] < 0x80 && message[2] < 0x80));
        }
    }
}
