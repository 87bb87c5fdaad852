//! Wiring with ports in memory, which come, go and come back.

use super::*;

type Told = Arc<Mutex<Vec<(String, u8, bool)>>>;

/// What is there and what is connected. Our own ports are called `own:in_1`, `own:out_1` and so on.
#[derive(Default)]
struct Memory {
    offered: Offered,
    connections: BTreeSet<Connection>,
    /// How often something was connected.
    connects: usize,
}

impl Memory {
    fn with(sources: &[&str], destinations: &[&str], instruments: &[&str]) -> Self {
        let mut memory = Self { offered: offered(sources, destinations, instruments), ..Self::default() };
        memory.offered.sources.push("own:out_1".into());
        memory.offered.destinations.extend((1..=PORTS).map(|port| format!("own:in_{port}")));
        memory
    }

    /// A port goes, and everything that was connected to it.
    fn unplug(&mut self, name: &str) {
        self.offered.sources.retain(|source| source != name);
        self.offered.instruments.retain(|source| source != name);
        self.offered.destinations.retain(|destination| destination != name);
        self.connections.retain(|(source, destination)| source != name && destination != name);
    }
}

impl Patching for Memory {
    fn offered(&mut self) -> Offered {
        self.offered.clone()
    }

    fn input(&self, port: u8) -> Option<String> {
        Some(format!("own:in_{port}"))
    }

    fn connect(&mut self, connection: &Connection) -> bool {
        let is_there = self.offered.sources.contains(&connection.0) && self.offered.destinations.contains(&connection.1);
        let is_new = is_there && self.connections.insert(connection.clone());
        self.connects += usize::from(is_new);
        is_new
    }

    fn is_connected(&self, connection: &Connection) -> bool {
        self.connections.contains(connection)
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn offered(sources: &[&str], destinations: &[&str], instruments: &[&str]) -> Offered {
    Offered { sources: names(sources), destinations: names(destinations), instruments: names(instruments) }
}

fn ports(inputs: &[&str], outputs: &[&str]) -> Ports {
    Ports { inputs: names(inputs), outputs: names(outputs), ..Ports::default() }
}

fn wiring(ports: Ports) -> (Wiring, Told, SenderPorts) {
    let (told, senders) = (Told::default(), SenderPorts::default());
    let into = Arc::clone(&told);
    let on_port: OnPort = Box::new(move |change| into.lock().unwrap().push((change.name, change.port, change.is_there)));
    (Wiring::new(ports, senders.clone(), on_port), told, senders)
}

fn take(told: &Told) -> Vec<(String, u8, bool)> {
    std::mem::take(&mut told.lock().unwrap())
}

fn of(name: &str, port: u8, is_there: bool) -> (String, u8, bool) {
    (name.to_owned(), port, is_there)
}

#[test]
fn ports_are_found_by_a_part_of_their_name() {
    let ports = ["a2j:Keystation 49 [16] (capture)".to_owned(), "system:midi_capture_1".to_owned()];
    assert_eq!(alike(&ports, "keystation").collect::<Vec<_>>(), [&ports[0]]);
    assert_eq!(alike(&ports, "capture").count(), 2);
}

#[test]
fn without_a_name_port_1_hears_every_instrument_and_files_are_no_ports() {
    let there = offered(&["system:capture_1", "seq:tune.mid"], &["Synth:in"], &["system:capture_1"]);
    let all = wanted(&Ports::default(), &there);
    assert_eq!(all, [Wire { direction: Direction::In, port: 1, peer: "system:capture_1".into() }]);
    let wires = wanted(&ports(&["tune.mid", "loop", "capture"], &["synth"]), &there);
    let of = |direction, port, peer: &str| Wire { direction, port, peer: peer.into() };
    assert_eq!(wires, [of(Direction::In, 3, "system:capture_1"), of(Direction::Out, 1, "Synth:in")]);
}

#[test]
fn every_port_that_comes_and_goes_is_told_once() {
    let (mut wiring, told, _) = wiring(Ports::default());
    let there = |names: &[&str]| names.iter().map(|name| Wire { direction: Direction::In, port: 1, peer: (*name).into() }).collect();
    wiring.tell(there(&["a"]));
    wiring.tell(there(&["a", "b"]));
    wiring.tell(there(&["b"]));
    wiring.end();
    wiring.end();
    assert_eq!(take(&told), [of("a", 1, true), of("b", 1, true), of("a", 1, false), of("b", 1, false)]);
}

#[test]
fn a_port_that_comes_back_under_another_number_is_connected_again_by_its_name() {
    let (mut wiring, told, _) = wiring(ports(&["pads", "Keystation"], &[]));
    let mut memory = Memory::with(&["Keystation 49:MIDI 1 24:0", "Pads:MIDI 1 20:0"], &[], &[]);
    wiring.look(&mut memory);
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Pads:MIDI 1 20:0", 1, true), of("Keystation 49:MIDI 1 24:0", 2, true)]);
    assert_eq!(memory.connects, 2, "each once");
    memory.unplug("Keystation 49:MIDI 1 24:0");
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Keystation 49:MIDI 1 24:0", 2, false)]);
    memory.offered.sources.push("Keystation 49:MIDI 1 28:0".into());
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Keystation 49:MIDI 1 28:0", 2, true)]);
    assert!(memory.is_connected(&("Keystation 49:MIDI 1 28:0".into(), "own:in_2".into())));
}

#[test]
fn a_port_that_has_gone_and_come_back_between_two_looks_is_told_as_lost_and_connected_again() {
    let (mut wiring, told, _) = wiring(Ports::default());
    let mut memory = Memory::with(&["Keys 24:0"], &[], &["Keys 24:0"]);
    wiring.look(&mut memory);
    take(&told);
    // It is there again under the same name, without its connections.
    memory.connections.clear();
    wiring.check(&memory);
    assert_eq!(take(&told), [of("Keys 24:0", 1, false)]);
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Keys 24:0", 1, true)]);
    assert_eq!(memory.connects, 2);
}

#[test]
fn what_our_ports_send_to_is_connected_once_they_are_there_and_never_to_what_is_refused() {
    let (mut wiring, told, senders) = wiring(ports(&[], &["synth"]));
    let mut memory = Memory::with(&[], &["Synth 128:0"], &[]);
    wiring.look(&mut memory);
    assert_eq!(take(&told), [], "nobody sends yet");
    senders.set(names(&["own:out_1"]));
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Synth 128:0", 1, true)]);
    assert!(memory.is_connected(&("own:out_1".into(), "Synth 128:0".into())));
    senders.set(Vec::new());
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Synth 128:0", 1, false)]);
    // A sender that the list does not know yet.
    senders.set(names(&["own:out_9"]));
    wiring.look(&mut memory);
    assert_eq!(take(&told), []);
}

#[test]
fn our_own_ports_are_nobody_elses_whatever_name_is_asked_for() {
    let (mut wiring, told, senders) = wiring(ports(&["own", ""], &["own", "  "]));
    let mut memory = Memory::with(&["Keys of my own 24:0"], &["Synth 128:0"], &[]);
    senders.set(names(&["own:out_1"]));
    wiring.look(&mut memory);
    assert_eq!(take(&told), [of("Keys of my own 24:0", 1, true)]);
    assert_eq!(memory.connects, 1);
}
