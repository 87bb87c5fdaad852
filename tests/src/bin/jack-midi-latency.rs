//! An independent JACK client that measures how long a note takes until it is heard: `jack-midi-latency PREFIX NOTES`, or plays
//! what is measured against: `jack-midi-latency synth`.
//!
//! The measuring client registers `Latency:out`, to be connected by whoever is measured, and `Latency:in`, which it connects
//! to the first output port whose name begins with PREFIX. It sends notes, each at another frame of its period, and expects
//! the number of the newest one, in 128ths, in what it hears. Writes a line for each note: the frames from when it was sent
//! until it was heard. The synthesiser plays just that, each note from its frame on, and ends when its standard input does:
//! nothing that is told of a note by the server can be faster. Both obey `JACK_DEFAULT_SERVER`.

use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use jack::{AudioIn, AudioOut, Client, ClientOptions, Control, MidiIn, MidiOut, Port, PortFlags, ProcessHandler, ProcessScope, RawMidi};

/// Frames between two notes: long enough that the one before has been heard, and of no length that periods have.
const SPACING_FRAMES: u64 = 4_801;
/// Longest time to wait for the first note to be heard.
const PATIENCE: Duration = Duration::from_secs(60);

fn level(note: u8) -> f32 {
    f32::from(note) / 128.0
}

struct Measuring {
    output: Port<MidiOut>,
    input: Port<AudioIn>,
    frame: u64,
    next: u64,
    /// The newest note and its frame, until it has been heard.
    sent: Option<(u8, u64)>,
    note: u8,
    heard: Sender<u64>,
}

impl ProcessHandler for Measuring {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        // A test tool on a synchronous server: it may allocate here, it only makes the server late.
        let (begin, end) = (self.frame, self.frame + u64::from(scope.n_frames()));
        self.frame = end;
        if let Some((note, at)) = self.sent
            && let Some(index) = self.input.as_slice(scope).iter().position(|sample| *sample == level(note))
        {
            self.sent = None;
            if self.heard.send((begin + index as u64).saturating_sub(at)).is_err() {
                return Control::Quit;
            }
        }
        let mut writer = self.output.writer(scope);
        if self.next < end {
            let at = self.next.max(begin);
            self.note = if self.note == 64 { 32 } else { 64 };
            if writer.write(&RawMidi { time: (at - begin) as u32, bytes: &[0x90, self.note, 100] }).is_ok() {
                self.sent = Some((self.note, at));
            }
            self.next = at + SPACING_FRAMES;
        }
        Control::Continue
    }
}

fn measure(prefix: &str, notes: usize) {
    let (client, _) = Client::new("Latency", ClientOptions::NO_START_SERVER).expect("the server answers");
    let output = client.register_port("out", MidiOut::default()).expect("a port can be registered");
    let input = client.register_port("in", AudioIn::default()).expect("a port can be registered");
    let (own, playing) = (input.name().expect("a port has a name"), output.name().expect("a port has a name"));
    let (heard, latencies) = channel();
    let measuring = Measuring { output, input, frame: 0, next: 0, sent: None, note: 0, heard };
    let active = client.activate_async((), measuring).expect("the client can be activated");
    let began = Instant::now();
    let mut out = std::io::stdout();
    let mut left = notes;
    while left > 0 {
        match latencies.recv_timeout(Duration::from_millis(200)) {
            Ok(frames) => {
                left -= 1;
                writeln!(out, "{frames}").and_then(|()| out.flush()).expect("somebody listens");
            }
            // Nobody is connected yet: the baseline does not look for us, and what is measured may not be there.
            Err(RecvTimeoutError::Timeout) => {
                assert!(began.elapsed() < PATIENCE || left < notes, "no note is heard");
                let client = active.as_client();
                for source in client.ports(Some(&format!("^{prefix}")), None, PortFlags::IS_OUTPUT).iter().take(1) {
                    let _ = client.connect_ports_by_name(source, &own);
                }
                let _ = client.connect_ports_by_name(&playing, "Plain:midi");
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Playing {
    input: Port<MidiIn>,
    output: Port<AudioOut>,
    level: f32,
}

impl ProcessHandler for Playing {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        let samples = self.output.as_mut_slice(scope);
        samples.fill(self.level);
        for event in self.input.iter(scope) {
            if let [0x90, note, _] = event.bytes {
                self.level = level(*note);
                samples[event.time as usize..].fill(self.level);
            }
        }
        Control::Continue
    }
}

fn play() {
    let (client, _) = Client::new("Plain", ClientOptions::NO_START_SERVER).expect("the server answers");
    let input = client.register_port("midi", MidiIn::default()).expect("a port can be registered");
    let output = client.register_port("out", AudioOut::default()).expect("a port can be registered");
    let _active = client.activate_async((), Playing { input, output, level: 0.0 }).expect("the client can be activated");
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role] if role == "synth" => play(),
        [prefix, notes] => measure(prefix, notes.parse().expect("NOTES is a number")),
        _ => {
            eprintln!("usage: jack-midi-latency PREFIX NOTES, or jack-midi-latency synth");
            std::process::exit(2);
        }
    }
}
