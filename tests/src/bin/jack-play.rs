//! An independent JACK client that plays into an input of another program: `jack-play PORT FRAMES`.
//!
//! Waits until input ports appear whose names match the regular expression PORT, connects its own two, and plays a ramp from
//! then on: sample n (from 1) is n / 2^20 on the left and its negative on the right. Ends after FRAMES frames. Obeys
//! `JACK_DEFAULT_SERVER`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jack::{AudioOut, Client, ClientOptions, Control, Port, PortFlags, ProcessHandler, ProcessScope};

/// Longest time to wait for the ports.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program's ports must be there to be those that it listens to.
const STAY: Duration = Duration::from_secs(1);

struct Player {
    outputs: [Port<AudioOut>; 2],
    may_begin: Arc<AtomicBool>,
    played: Arc<AtomicU64>,
}

impl ProcessHandler for Player {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let first = self.played.load(Ordering::Relaxed);
        let begins = self.may_begin.load(Ordering::Relaxed);
        let mut frames = 0;
        for (port, sign) in self.outputs.iter_mut().zip([1.0f32, -1.0]) {
            let samples = port.as_mut_slice(scope);
            frames = samples.len() as u64;
            for (index, sample) in samples.iter_mut().enumerate() {
                *sample = if begins { sign * ((first + index as u64 + 1) & 0xF_FFFF) as f32 / (1 << 20) as f32 } else { 0.0 };
            }
        }
        if begins {
            self.played.fetch_add(frames, Ordering::Relaxed);
        }
        Control::Continue
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, prefix, frames] = arguments.as_slice() else {
        eprintln!("usage: jack-play PORT FRAMES");
        std::process::exit(2);
    };
    let frames: u64 = frames.parse().expect("FRAMES is a number");
    let (client, _) = Client::new("continuo-instrument", ClientOptions::NO_START_SERVER).expect("the server answers");
    let outputs = ["left", "right"].map(|name| client.register_port(name, AudioOut::default()).expect("a port can be registered"));
    let own = outputs.each_ref().map(|port| port.name().expect("a port has a name"));
    let (may_begin, played) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let player = Player { outputs, may_begin: Arc::clone(&may_begin), played: Arc::clone(&played) };
    let active = client.activate_async((), player).expect("the client can be activated");
    connect(active.as_client(), prefix, &own);
    may_begin.store(true, Ordering::Relaxed);
    println!("playing");
    while played.load(Ordering::Relaxed) < frames {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("played {}", played.load(Ordering::Relaxed));
}

/// Connects our ports to the other program's, as soon as they stay: a program may look around with a short-lived client of the
/// same name first.
fn connect(client: &Client, prefix: &str, own: &[String; 2]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let theirs = client.ports(Some(&format!("^{prefix}")), None, PortFlags::IS_INPUT);
        let is_connected = theirs.len() >= 2 && own.iter().zip(&theirs).all(|(from, to)| client.connect_ports_by_name(from, to).is_ok());
        if is_connected {
            std::thread::sleep(STAY);
            let stays = |(from, to): (&String, &String)| {
                client.port_by_name(from).is_some_and(|port| port.is_connected_to(to).is_ok_and(|is_connected| is_connected))
            };
            if own.iter().zip(&theirs).all(stays) {
                return;
            }
        }
        assert!(Instant::now() < deadline, "no input to play into: {theirs:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
