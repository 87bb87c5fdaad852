//! Which ports of other programs ours are connected to, by name: those that are there, and those that come. Owned by the
//! thread that has the client which listens.
//!
//! A connection that somebody has taken apart stays so until a port comes or goes. A port may go and come back under its name
//! before anybody has looked, so what counts then is whether it is connected, not whether it was. Whoever wants to know is
//! told of every port that comes and goes.

use std::collections::BTreeSet;

use ::jack::{Client, PortFlags};
use ipc::midi::{Direction, PortChange, Ports};

use super::jack::ClientName;
use super::{PORTS, is_port_name};

/// What JACK calls ports for MIDI.
const PORT_TYPE: &str = "8 bit raw midi";

/// Is told of ports that come and go.
pub type OnPort = Box<dyn Fn(PortChange) + Send>;

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
    sender: ClientName,
    on_port: OnPort,
    /// What has been connected, by the full names of both ports, and has not gone since.
    connected: BTreeSet<(String, String)>,
    /// What has been told to be there.
    told: BTreeSet<Wire>,
}

impl Wiring {
    pub fn new(ports: Ports, sender: ClientName, on_port: OnPort) -> Self {
        Self { ports, sender, on_port, connected: BTreeSet::new(), told: BTreeSet::new() }
    }

    /// Connects what has come.
    pub fn look(&mut self, client: &Client) {
        let sources = client.ports(None, Some(PORT_TYPE), PortFlags::IS_OUTPUT);
        let destinations = client.ports(None, Some(PORT_TYPE), PortFlags::IS_INPUT);
        let instruments = client.ports(None, Some(PORT_TYPE), PortFlags::IS_OUTPUT | PortFlags::IS_PHYSICAL);
        self.connected.retain(|(source, destination)| sources.contains(source) && destinations.contains(destination));
        let sender = self.sender.get();
        let mut there = BTreeSet::new();
        for wire in wanted(&self.ports, &sources, &destinations, &instruments) {
            let names = match (wire.direction, &sender) {
                (Direction::In, _) => (wire.peer.clone(), format!("{}:in_{}", client.name(), wire.port)),
                (Direction::Out, Some(sender)) => (format!("{sender}:out_{}", wire.port), wire.peer.clone()),
                (Direction::Out, None) => continue,
            };
            if !sources.contains(&names.0) || !destinations.contains(&names.1) {
                continue;
            }
            // A port that is about to go may still be listed; it is tried again as long as it is.
            if self.connected.contains(&names) || client.connect_ports_by_name(&names.0, &names.1).is_ok() || is_connected(client, &names) {
                self.connected.insert(names);
                there.insert(wire);
            }
        }
        self.tell(there);
    }

    /// A port has come or gone, nobody knows which: what is not connected any more has gone.
    pub fn check(&mut self, client: &Client) {
        let connected = std::mem::take(&mut self.connected);
        let (kept, lost): (BTreeSet<_>, BTreeSet<_>) = connected.into_iter().partition(|names| is_connected(client, names));
        self.connected = kept;
        let is_lost = |wire: &Wire| lost.iter().any(|(source, destination)| *source == wire.peer || *destination == wire.peer);
        let there = self.told.iter().filter(|wire| !is_lost(wire)).cloned().collect();
        self.tell(there);
    }

    /// The server is gone, and all ports with it.
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

/// Whether two ports, a source and a destination, are connected.
fn is_connected(client: &Client, (source, destination): &(String, String)) -> bool {
    client.port_by_name(source).is_some_and(|port| port.is_connected_to(destination).unwrap_or(false))
}

/// The connections that are wanted with the ports that are there.
fn wanted(ports: &Ports, sources: &[String], destinations: &[String], instruments: &[String]) -> Vec<Wire> {
    let wire = |direction, port, peer: &String| Wire { direction, port, peer: peer.clone() };
    let mut wires = Vec::new();
    if ports.inputs.is_empty() {
        wires.extend(instruments.iter().map(|source| wire(Direction::In, 1, source)));
    }
    for (number, name) in (1u8..).zip(&ports.inputs).take(PORTS).filter(|(_, name)| is_port_name(name)) {
        wires.extend(alike(sources, name).map(|source| wire(Direction::In, number, source)));
    }
    for (number, name) in (1u8..).zip(&ports.outputs).take(PORTS) {
        wires.extend(alike(destinations, name).map(|destination| wire(Direction::Out, number, destination)));
    }
    wires
}

/// The ports whose names have this part, in whatever case.
fn alike<'a>(ports: &'a [String], part: &str) -> impl Iterator<Item = &'a String> {
    let part = part.to_lowercase();
    ports.iter().filter(move |port| port.to_lowercase().contains(&part))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn ports_are_found_by_a_part_of_their_name() {
        let ports = ["a2j:Keystation 49 [16] (capture)".to_owned(), "system:midi_capture_1".to_owned()];
        assert_eq!(alike(&ports, "keystation").collect::<Vec<_>>(), [&ports[0]]);
        assert_eq!(alike(&ports, "capture").count(), 2);
    }

    #[test]
    fn without_a_name_port_1_hears_every_instrument_and_files_are_no_ports() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let (sources, instruments) = (names(&["system:capture_1", "seq:tune.mid"]), names(&["system:capture_1"]));
        let all = wanted(&Ports::default(), &sources, &[], &instruments);
        assert_eq!(all, [Wire { direction: Direction::In, port: 1, peer: "system:capture_1".into() }]);
        let ports = Ports { inputs: names(&["tune.mid", "loop", "capture"]), outputs: names(&["synth"]), ..Ports::default() };
        let wires = wanted(&ports, &sources, &names(&["Synth:in"]), &instruments);
        let of = |direction, port, peer: &str| Wire { direction, port, peer: peer.into() };
        assert_eq!(wires, [of(Direction::In, 3, "system:capture_1"), of(Direction::Out, 1, "Synth:in")]);
    }

    #[test]
    fn every_port_that_comes_and_goes_is_told_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&told);
        let on_port: OnPort = Box::new(move |change| into.lock().unwrap().push((change.name, change.is_there)));
        let mut wiring = Wiring::new(Ports::default(), ClientName::default(), on_port);
        let there = |names: &[&str]| names.iter().map(|name| Wire { direction: Direction::In, port: 1, peer: (*name).into() }).collect();
        wiring.tell(there(&["a"]));
        wiring.tell(there(&["a", "b"]));
        wiring.tell(there(&["b"]));
        wiring.end();
        wiring.end();
        let expected = [("a", true), ("b", true), ("a", false), ("b", false)].map(|(name, is_there)| (name.to_owned(), is_there));
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
