//! An independent JACK client that writes what a player plays: `jack-capture PREFIX FRAMES FILE [CHANNELS]`.
//!
//! Waits until output ports appear whose names start with PREFIX, connects the first two (or so many), and writes FRAMES frames
//! as 32-bit float little-endian, interleaved: of two channels from the first frame on in which both are not zero, of other
//! numbers from the first in which any is not. Obeys `JACK_DEFAULT_SERVER`.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jack::{AudioIn, Client, ClientOptions, Control, Port, PortFlags, ProcessHandler, ProcessScope};

/// Longest time to wait for the player's ports, and for its first sound.
const PATIENCE: Duration = Duration::from_secs(60);

struct Capture {
    inputs: Vec<Port<AudioIn>>,
    periods: SyncSender<Vec<Vec<f32>>>,
}

impl ProcessHandler for Capture {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let frame = |index: usize| self.inputs.iter().map(|input| input.as_slice(scope)[index]).collect();
        // A test tool on a synchronous server: it may allocate here, it only makes the server late.
        match self.periods.send((0..scope.n_frames() as usize).map(frame).collect()) {
            Ok(()) => Control::Continue,
            Err(_) => Control::Quit,
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let ([_, prefix, frames, file] | [_, prefix, frames, file, _]) = arguments.as_slice() else {
        eprintln!("usage: jack-capture PREFIX FRAMES FILE [CHANNELS]");
        std::process::exit(2);
    };
    let channels: usize = arguments.get(4).map_or(2, |channels| channels.parse().expect("CHANNELS is a number"));
    let frames: usize = frames.parse().expect("FRAMES is a number");
    let (client, _) = Client::new("continuo-capture", ClientOptions::NO_START_SERVER).expect("the server answers");
    let input = |number| client.register_port(&format!("in_{number}"), AudioIn::default()).expect("a port can be registered");
    let inputs: Vec<_> = (1..=channels).map(input).collect();
    let own: Vec<_> = inputs.iter().map(|port| port.name().expect("a port has a name")).collect();
    let (periods, received) = sync_channel(4096);
    let active = client.activate_async((), Capture { inputs, periods }).expect("the client can be activated");
    write(&received, frames, file, || connect(active.as_client(), prefix, &own));
}

/// Connects the player's ports to ours, if they are there. Until something is heard this is done again and again: a player
/// may look around with a short-lived client of the same name first.
fn connect(client: &Client, prefix: &str, own: &[String]) {
    for (from, to) in client.ports(Some(&format!("^{prefix}")), None, PortFlags::IS_OUTPUT).iter().zip(own) {
        let _ = client.connect_ports_by_name(from, to);
    }
}

fn write(received: &Receiver<Vec<Vec<f32>>>, frames: usize, file: &str, connect: impl Fn()) {
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
        let is_silent = |frame: &Vec<f32>| match frame.len() {
            2 => frame.contains(&0.0),
            _ => frame.iter().all(|sample| *sample == 0.0),
        };
        for frame in period.into_iter().skip_while(|frame| !has_begun && is_silent(frame)).take(left) {
            frame.iter().for_each(|sample| out.write_all(&sample.to_le_bytes()).expect("the capture can be written"));
            written += 1;
        }
    }
    out.flush().expect("the capture can be written");
    println!("captured {written}");
}
