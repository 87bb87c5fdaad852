//! The ALSA sequencer: our ports through `midir`, their connections through alsa-lib, as `aconnect` makes them.
//!
//! `midir` gives each port a client of its own, and each port that hears a queue, by which the kernel stamps what arrives.
//! Which client is ours it does not tell: it is the one that was not there before. Clients are called as those in JACK, and
//! ports `in_1`, `out_1` and so on; their full names end in the sequencer's numbers, so that two instruments of one name are
//! two. System exclusive messages are left to the sequencer: `midir` would collect them without a limit.

use std::collections::{BTreeMap, BTreeSet};

use ::alsa::Seq;
use ::alsa::seq::{Addr, ClientIter, PortCap, PortIter, PortSubscribe, PortSubscribeIter, QuerySubsType};
use midir::os::unix::{VirtualInput, VirtualOutput};
use midir::{Ignore, MidiInput, MidiInputConnection, MidiOutput, MidiOutputConnection};

use super::input::PORTS;
use super::input::sequencer::Intake;
use super::input::wiring::{Connection, Offered, Patching};
use super::sequencer::{Outputs, Unavailable};
use crate::realtime::monotonic_ns_rt;

/// What the sequencer is opened by.
pub const DEVICE: &str = "/dev/snd/seq";
/// What the clients are called.
const INPUT_CLIENT: &str = "continuo-midi-in";
const OUTPUT_CLIENT: &str = "continuo-midi";
/// The numbers that the kernel gives to clients of sound cards: below them are its own, above them programs.
const CARD_CLIENTS: std::ops::Range<i32> = 16..128;

/// Opens our ports that send.
pub fn open_outputs() -> Result<Box<dyn Outputs>, Unavailable> {
    let seq = open()?;
    let mut ports = Vec::with_capacity(PORTS);
    for number in 1..=PORTS {
        let made = || {
            let output = MidiOutput::new(OUTPUT_CLIENT).map_err(|error| error.to_string())?;
            output.create_virtual(&format!("out_{number}")).map_err(|error| error.to_string())
        };
        ports.push(make(&seq, OUTPUT_CLIENT, made)?);
    }
    Ok(Box::new(AlsaOutputs { ports }))
}

/// Opens our ports that hear, and what connects all of them.
pub fn open_inputs(intakes: Vec<Intake>) -> Result<Box<dyn Patching + Send>, Unavailable> {
    let seq = open()?;
    check_queues(&seq, intakes.len())?;
    let mut inputs = Vec::with_capacity(intakes.len());
    for (number, intake) in (1..).zip(intakes) {
        let made = || {
            let mut input = MidiInput::new(INPUT_CLIENT).map_err(|error| error.to_string())?;
            input.ignore(Ignore::SysexAndActiveSense);
            let hear = |stamp_us, bytes: &[u8], intake: &mut Intake| intake.hear_rt(stamp_us, bytes, monotonic_ns_rt());
            input.create_virtual(&format!("in_{number}"), hear, intake).map_err(|error| error.to_string())
        };
        inputs.push(make(&seq, INPUT_CLIENT, made)?);
    }
    Ok(Box::new(AlsaInputs { seq, inputs, addresses: BTreeMap::new() }))
}

/// A client that owns no port.
fn open() -> Result<Seq, Unavailable> {
    let opened = Seq::open(None, None, true);
    opened.map_err(|error| {
        let source = std::io::Error::from_raw_os_error(error.errno());
        match source.kind() {
            std::io::ErrorKind::PermissionDenied => Unavailable::Denied { device: DEVICE, source },
            _ => Unavailable::Missing { device: DEVICE, source },
        }
    })
}

/// The kernel has 32 queues for everybody, and `midir` panics where there is none left.
fn check_queues(seq: &Seq, count: usize) -> Result<(), Unavailable> {
    let queues: Vec<_> = (0..count).map(|_| seq.alloc_queue()).collect();
    for queue in queues.iter().flatten() {
        // What cannot be given back goes with the client.
        let _ = seq.free_queue(*queue);
    }
    let refusal = queues.into_iter().find_map(Result::err);
    refusal.map_or(Ok(()), |error| Err(Unavailable::Refused { what: "a queue", why: error.to_string() }))
}

/// Makes something that is a client of this name with one port, and finds the full name of that.
fn make<T>(seq: &Seq, name: &str, making: impl FnOnce() -> Result<T, String>) -> Result<(T, String), Unavailable> {
    let of_name = || -> BTreeSet<i32> {
        let clients = ClientIter::new(seq).filter(|client| client.get_name().is_ok_and(|found| found == name));
        clients.map(|client| client.get_client()).collect()
    };
    let before = of_name();
    let made = making().map_err(|why| Unavailable::Refused { what: "a port", why })?;
    let new: Vec<i32> = of_name().difference(&before).copied().collect();
    let [client] = new[..] else {
        let why = "another session has made one at the same moment".to_owned();
        return Err(Unavailable::Refused { what: "a port", why });
    };
    let port = ports_of(seq).into_iter().find(|port| port.address.client == client);
    let name = port.map(|port| port.name).ok_or(Unavailable::Refused { what: "a port", why: "it is not listed".to_owned() })?;
    Ok((made, name))
}

/// A port that others may connect.
struct ListedPort {
    name: String,
    address: Addr,
    capability: PortCap,
}

fn ports_of(seq: &Seq) -> Vec<ListedPort> {
    let mut listed = Vec::new();
    for client in ClientIter::new(seq).filter(|client| client.get_client() != Addr::system_timer().client) {
        for port in PortIter::new(seq, client.get_client()) {
            let (address, capability) = (port.addr(), port.get_capability());
            if let (Ok(client), Ok(port)) = (client.get_name(), port.get_name())
                && !capability.contains(PortCap::NO_EXPORT)
            {
                let name = format!("{client}:{port} {}:{}", address.client, address.port);
                listed.push(ListedPort { name, address, capability });
            }
        }
    }
    listed
}

struct AlsaOutputs {
    ports: Vec<(MidiOutputConnection, String)>,
}

impl Outputs for AlsaOutputs {
    fn names(&self) -> Vec<String> {
        self.ports.iter().map(|(_, name)| name.clone()).collect()
    }

    fn send(&mut self, port: u8, bytes: &[u8]) -> bool {
        let port = usize::from(port).checked_sub(1).and_then(|index| self.ports.get_mut(index));
        port.is_some_and(|(port, _)| port.send(bytes).is_ok())
    }
}

struct AlsaInputs {
    seq: Seq,
    inputs: Vec<(MidiInputConnection<Intake>, String)>,
    /// Of the ports that were there at the last look.
    addresses: BTreeMap<String, Addr>,
}

impl AlsaInputs {
    fn addresses(&self, (source, destination): &Connection) -> Option<(Addr, Addr)> {
        Some((*self.addresses.get(source)?, *self.addresses.get(destination)?))
    }
}

impl Patching for AlsaInputs {
    fn offered(&mut self) -> Offered {
        let ports = ports_of(&self.seq);
        let mut offered = Offered::default();
        for port in &ports {
            if port.capability.contains(PortCap::READ | PortCap::SUBS_READ) {
                offered.sources.push(port.name.clone());
                if CARD_CLIENTS.contains(&port.address.client) {
                    offered.instruments.push(port.name.clone());
                }
            }
            if port.capability.contains(PortCap::WRITE | PortCap::SUBS_WRITE) {
                offered.destinations.push(port.name.clone());
            }
        }
        self.addresses = ports.into_iter().map(|port| (port.name, port.address)).collect();
        offered
    }

    fn input(&self, port: u8) -> Option<String> {
        let index = usize::from(port).checked_sub(1)?;
        self.inputs.get(index).map(|(_, name)| name.clone())
    }

    fn connect(&mut self, connection: &Connection) -> bool {
        let Some((source, destination)) = self.addresses(connection) else { return false };
        let Ok(subscription) = PortSubscribe::empty() else { return false };
        subscription.set_sender(source);
        subscription.set_dest(destination);
        self.seq.subscribe_port(&subscription).is_ok()
    }

    fn is_connected(&self, connection: &Connection) -> bool {
        let Some((source, destination)) = self.addresses(connection) else { return false };
        PortSubscribeIter::new(&self.seq, source, QuerySubsType::READ).any(|found| found.get_dest() == destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::output::quiet::silence_libraries;

    #[test]
    fn without_a_sequencer_it_is_said_what_is_missing_where_and_what_to_do() {
        silence_libraries();
        if std::path::Path::new(DEVICE).exists() {
            eprintln!("\n*** SKIPPED: this machine has an ALSA sequencer ***\n");
            return;
        }
        for refusal in [open_outputs().err(), open_inputs(Vec::new()).err()] {
            let sentence = refusal.expect("there is none").to_string();
            for part in ["no ALSA sequencer", DEVICE, "No such file or directory", "modprobe snd-seq", "--device jack"] {
                assert!(sentence.contains(part), "{sentence}");
            }
        }
    }

    #[test]
    fn where_there_is_a_sequencer_our_ports_are_listed_under_their_names() {
        silence_libraries();
        let (mut outputs, mut inputs) = match (open_outputs(), open_inputs(Vec::new())) {
            (Ok(outputs), Ok(inputs)) => (outputs, inputs),
            (Err(why), _) | (_, Err(why)) => return eprintln!("\n*** SKIPPED: {why} ***\n"),
        };
        let offered = inputs.offered();
        assert_eq!(outputs.names().len(), PORTS);
        assert!(outputs.names().iter().all(|name| offered.sources.contains(name)), "{offered:?}");
        assert!(outputs.send(1, &[0xf8]), "nobody listens");
        assert!(!inputs.connect(&(outputs.names()[0].clone(), "nobody".to_owned())));
    }
}
