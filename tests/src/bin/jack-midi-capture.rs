//! An independent JACK client that writes down the MIDI events a player sends: `jack-midi-capture [PORT]`.
//!
//! Connects itself to PORT as soon as it is there, and again when it comes back; without it, somebody else connects it. Writes
//! a line for each event: the frame on the server's clock, then the bytes in decimal. Ends when its standard input does. Obeys
//! `JACK_DEFAULT_SERVER`.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use jack::{Client, ClientOptions, Control, MidiIn, Port, ProcessHandler, ProcessScope};

struct Capture {
    input: Port<MidiIn>,
    events: SyncSender<(u32, Vec<u8>)>,
}

impl ProcessHandler for Capture {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        // A test tool on a synchronous server: it may allocate here, it only makes the server late.
        for event in self.input.iter(scope) {
            if self.events.send((scope.last_frame_time().wrapping_add(event.time), event.bytes.to_vec())).is_err() {
                return Control::Quit;
            }
        }
        Control::Continue
    }
}

fn main() {
    let port = std::env::args().nth(1);
    let (client, _) = Client::new("continuo-midi-capture", ClientOptions::NO_START_SERVER).expect("the server answers");
    let input = client.register_port("in", MidiIn::default()).expect("a port can be registered");
    let own = input.name().expect("a port has a name");
    let (events, received) = sync_channel(65_536);
    let active = client.activate_async((), Capture { input, events }).expect("the client can be activated");
    // The end of the input is the end of the capture. A client that just died would make the whole graph wait for it.
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        IS_OVER.store(true, Ordering::Release);
    });
    let mut out = std::io::stdout();
    while !IS_OVER.load(Ordering::Acquire) {
        match received.recv_timeout(Duration::from_millis(2)) {
            Ok((frame, bytes)) => {
                let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
                writeln!(out, "{frame} {}", bytes.join(" ")).and_then(|()| out.flush()).expect("somebody listens");
            }
            // Already connected, or not there yet: both are fine.
            Err(RecvTimeoutError::Timeout) => {
                let _ = port.as_ref().map(|port| active.as_client().connect_ports_by_name(port, &own));
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
