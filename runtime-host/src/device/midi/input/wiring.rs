//! Which ports of other programs and instruments ours are connected to, by name: those that are there, and those that come.
//! Owned by the thread that has what connects them: a client of JACK, or of the sequencer.
//!
//! A connection that somebody has taken apart stays so until a port comes or goes. A port may go and come back under its name
//! before anybody has looked, so what counts then is whether it is connected, not whether it was. Whoever wants to know is
//! told of every port that comes and goes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ipc::midi::{Direction, PortChange, Ports};

use super::{PORTS, is_port_name};

/// Is told of ports that come and go.
pub type OnPort = Box<dyn Fn(PortChange) + Send>;

/// The full names of two ports: of what plays, and of what listens.
pub type Connection = (String, String);

/// What connects ports: JACK, the sequencer, a test's own.
pub trait Patching {
    /// The MIDI ports that are there now.
    fn offered(&mut self) -> Offered;

    /// The full name of one of our own ports that hear; they count from 1.
    fn input(&self, port: u8) -> Option<String>;

    /// Connects two ports. False when it is refused.
    fn connect(&mut self, connection: &Connection) -> bool;

    fn is_connected(&self, connection: &Connection) -> bool;
}

/// Ports by their full names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    /// Those of the sources that are no programs'.
    pub instruments: Vec<String>,
}

/// The full names of our own ports that send, that of port 1 first, while there are any. Never on a real-time thread.
#[derive(Clone, Debug, Default)]
pub struct SenderPorts(Arc<Mutex<Vec<String>>>);

impl SenderPorts {
    pub fn set(&self, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection that is wanted: one of our ports by its direction and number, and the name of another program's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wire {
    direction: Direction,
    port: u8,
    peer: String,
}

/// See the module's documentation.
pub struct Wiring {
    ports: Ports,
    senders: SenderPorts,
    on_port: OnPort,
    /// What has been connected, by the full names of both ports, and has not gone since.
    connected: BTreeSet<Connection>,
    /// What has been told to be there.
    told: BTreeSet<Wire>,
}

impl Wiring {
    pub fn new(ports: Ports, senders: SenderPorts, on_port: OnPort) -> Self {
        Self { ports, senders, on_port, connected: BTreeSet::new(), told: BTreeSet::new() }
    }

    /// Connects what has come.
    pub fn look(&mut self, patching: &mut dyn Patching) {
        let offered = patching.offered();
        self.connected.retain(|(source, destination)| offered.sources.contains(source) && offered.destinations.contains(destination));
        let senders = self.senders.get();
        let inputs: Vec<String> = (1..=PORTS as u8).filter_map(|port| patching.input(port)).collect();
        // The session hears itself where it asks for that (`loop`), not by a name that happens to be part of its own.
        let is_own = |peer: &String| senders.contains(peer) || inputs.contains(peer);
        let mut there = BTreeSet::new();
        for wire in wanted(&self.ports, &offered).into_iter().filter(|wire| !is_own(&wire.peer)) {
            let own = match wire.direction {
                Direction::In => patching.input(wire.port),
                Direction::Out => usize::from(wire.port).checked_sub(1).and_then(|index| senders.get(index).cloned()),
            };
            let Some(own) = own else { continue };
            let peer = wire.peer.clone();
            let names = if wire.direction == Direction::In { (peer, own) } else { (own, peer) };
            if !offered.sources.contains(&names.0) || !offered.destinations.contains(&names.1) {
                continue;
            }
            // A port that is about to go may still be listed; it is tried again as long as it is.
            if self.connected.contains(&names) || patching.connect(&names) || patching.is_connected(&names) {
                self.connected.insert(names);
                there.insert(wire);
            }
        }
        self.tell(there);
    }

    /// A port has come or gone, nobody knows which: what is not connected any more has gone.
    pub fn check(&mut self, patching: &dyn Patching) {
        let connected = std::mem::take(&mut self.connected);
        let (kept, lost): (BTreeSet<_>, BTreeSet<_>) = connected.into_iter().partition(|names| patching.is_connected(names));
        self.connected = kept;
        let is_lost = |wire: &Wire| lost.iter().any(|(source, destination)| *source == wire.peer || *destination == wire.peer);
        let there = self.told.iter().filter(|wire| !is_lost(wire)).cloned().collect();
        self.tell(there);
    }

    /// What connects is gone, and all ports with it.
    pub fn end(&mut self) {
        self.connected.clear();
        self.tell(BTreeSet::new());
    }

    /// Tells what is other than it was told.
    fn tell(&mut self, there: BTreeSet<Wire>) {
        let change = |wire: &Wire, is_there| PortChange { direction: wire.direction, port: wire.port, name: wire.peer.clone(), is_there };
        self.told.difference(&there).for_each(|wire| (self.on_port)(change(wire, false)));
        there.difference(&self.told).for_each(|wire| (self.on_port)(change(wire, true)));
        self.told = there;
    }
}

/// The connections that are wanted with the ports that are there.
fn wanted(ports: &Ports, offered: &Offered) -> Vec<Wire> {
    let wire = |direction, port, peer: &String| Wire { direction, port, peer: peer.clone() };
    let mut wires = Vec::new();
    if ports.inputs.is_empty() {
        wires.extend(offered.instruments.iter().map(|source| wire(Direction::In, 1, source)));
    }
    for (number, name) in (1u8..).zip(&ports.inputs).take(PORTS).filter(|(_, name)| is_port_name(name)) {
        wires.extend(alike(&offered.sources, name).map(|source| wire(Direction::In, number, source)));
    }
    for (number, name) in (1u8..).zip(&ports.outputs).take(PORTS) {
        wires.extend(alike(&offered.destinations, name).map(|destination| wire(Direction::Out, number, destination)));
    }
    wires
}

/// The ports whose names have this part, in whatever case. No name is part of none.
fn alike<'a>(ports: &'a [String], part: &str) -> impl Iterator<Item = &'a String> {
    let part = part.to_lowercase();
    ports.iter().filter(move |port| !part.trim().is_empty() && port.to_lowercase().contains(&part))
}

#[cfg(test)]
#[path = "wiring_tests.rs"]
mod tests;
