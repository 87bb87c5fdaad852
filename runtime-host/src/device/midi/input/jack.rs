//! MIDI in from JACK, with the time of each message to the frame: a client of its own.
//!
//! A thread looks for a server, twice a second for as long as there is none, and has [`Wiring`] connect ports by name: those
//! that are there, and those that come. What comes in goes through a wait-free queue to the MIDI input thread.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ::jack::{
    AsyncClient, Client, ClientOptions, ClientStatus, Control, MidiIn, NotificationHandler, Port, PortFlags, PortId, ProcessHandler,
    ProcessScope,
};

use super::inbox::{Inbox, Outbox, queue};
use super::wiring::{Connection, Offered, OnPort, Patching, SenderPorts, Wiring};
use super::{Heard, InputCounters, PORTS, Setup};
use crate::device::clients::{Client as OwnClient, Clients};
use crate::device::midi::presence::Presence;
use crate::device::output::quiet::silence_libraries;
use crate::realtime::{RealtimeSection, monotonic_ns_rt};

/// What JACK calls the client.
const CLIENT_NAME: &str = "continuo-midi-in";
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);
const SECOND_NS: u64 = 1_000_000_000;
/// What JACK calls ports for MIDI.
const PORT_TYPE: &str = "8 bit raw midi";

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
    /// Begins to look for a server, and tells whether there is one. `senders` are our own ports that send there.
    pub fn start(setup: &Setup, senders: SenderPorts, presence: Presence, on_port: OnPort) -> std::io::Result<Self> {
        let (found_in, found) = channel();
        let (changes_in, changes) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let seeker = Seeker {
            wiring: Wiring::new(setup.ports.clone(), senders, on_port),
            presence,
            counters: Arc::clone(&setup.input_counters),
            clients: setup.drivers.clients.clone(),
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
    presence: Presence,
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
            let connected = self.connect();
            self.presence.tell(connected.is_ok());
            let Ok((client, inbox, is_lost)) = connected else {
                let _ = self.changes.recv_timeout(SEARCH_INTERVAL);
                continue;
            };
            if found.send(inbox).is_err() {
                return;
            }
            while !self.is_over.load(Acquire) && !is_lost.load(Acquire) {
                self.wiring.look(&mut Patched(client.as_client()));
                // Ports that come and go wake it; a client that never says so is seen at the next look.
                if self.changes.recv_timeout(SEARCH_INTERVAL).is_ok() {
                    self.changes.try_iter().for_each(drop);
                    self.wiring.check(&Patched(client.as_client()));
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

/// The client as what connects ports.
struct Patched<'a>(&'a Client);

impl Patching for Patched<'_> {
    fn offered(&mut self) -> Offered {
        let ports = |flags| self.0.ports(None, Some(PORT_TYPE), flags);
        Offered {
            sources: ports(PortFlags::IS_OUTPUT),
            destinations: ports(PortFlags::IS_INPUT),
            instruments: ports(PortFlags::IS_OUTPUT | PortFlags::IS_PHYSICAL),
        }
    }

    fn input(&self, port: u8) -> Option<String> {
        Some(format!("{}:in_{port}", self.0.name()))
    }

    fn connect(&mut self, (source, destination): &Connection) -> bool {
        self.0.connect_ports_by_name(source, destination).is_ok()
    }

    fn is_connected(&self, (source, destination): &Connection) -> bool {
        self.0.port_by_name(source).is_some_and(|port| port.is_connected_to(destination).unwrap_or(false))
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
                let at_ns = begin_ns + u64::from(event.time) * SECOND_NS / rate_hz;
                messages.hear_rt(at_ns, number, event.bytes, counters);
            }
        }
        Control::Continue
    }
}
