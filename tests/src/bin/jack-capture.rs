//! An independent JACK client that writes what a player plays: `jack-capture PREFIX FRAMES FILE`.
//!
//! Waits until output ports appear whose names start with PREFIX, connects the first two, and writes FRAMES frames from the
//! first non-zero samples on as 32-bit float little-endian, left and right interleaved. Obeys `JACK_DEFAULT_SERVER`.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jack::{AudioIn, Client, ClientOptions, Control, Port, PortFlags, ProcessHandler, ProcessScope};

/// Longest time to wait for the player's ports, and for its first sound.
const PATIENCE: Duration = Duration::from_secs(60);

struct Capture {
    inputs: [Port<AudioIn>; 2],
    periods: SyncSender<Vec<[f32; 2]>>,
}

impl ProcessHandler for Capture {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let (left, right) = (self.inputs[0].as_slice(scope), self.inputs[1].as_slice(scope));
        // A test tool on a synchronous server: it may allocate here, it only makes the server late.
        match self.periods.send(left.iter().zip(right).map(|(l, r)| [*l, *r]).collect()) {
            Ok(()) => Control::Continue,
            Err(_) => Control::Quit,
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, prefix, frames, file] = arguments.as_slice() else {
        eprintln!("usage: jack-capture PREFIX FRAMES FILE");
        std::process::exit(2);
    };
    let frames: usize = frames.parse().expect("FRAMES is a number");
    let (client, _) = Client::new("continuo-capture", ClientOptions::NO_START_SERVER).expect("the server answers");
    let inputs = ["left", "right"].map(|name| client.register_port(name, AudioIn::default()).expect("a port can be registered"));
    let own = inputs.each_ref().map(|port| port.name().expect("a port has a name"));
    let (periods, received) = sync_channel(4096);
    let active = client.activate_async((), Capture { inputs, periods }).expect("the client can be activated");
    write(&received, frames, file, || connect(active.as_client(), prefix, &own));
}

/// Connects the player's ports to ours, if they are there. Until something is heard this is done again and again: a player
/// may look around with a short-lived client of the same name first.
fn connect(client: &Client, prefix: &str, own: &[String; 2]) {
    for (from, to) in client.ports(Some(&format!("^{prefix}")), None, PortFlags::IS_OUTPUT).iter().zip(own) {
        let _ = client.connect_ports_by_name(from, to);
    }
}

fn write(received: &Receiver<Vec<[f32; 2]>>, frames: usize, file: &str, connect: impl Fn()) {
    let deadline = Instant::now() + PATIENCE;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).expect("the capture file can be written"));
    let mut written = 0;
    while written < frames {
        assert!(written > 0 || Instant::now() < deadline, "nothing was heard");
        let Ok(period) = received.recv_timeout(Duration::from_secs(10)) else { break };
        let (has_begun, left) = (written > 0, frames - written);
        if !has_begun {
            connect();
        }
        for frame in period.into_iter().skip_while(|frame| !has_begun && frame.contains(&0.0)).take(left) {
            frame.iter().for_each(|sample| out.write_all(&sample.to_le_bytes()).expect("the capture can be written"));
            written += 1;
        }
    }
    out.flush().expect("the capture can be written");
    println!("captured {written}");
}
