//! `midi`: how evenly notes and clocks arrive at another program, which is what a listener hears of the time from when a message
//! was due to when it is played.

use rustix::process::Signal;
use tests::jack_midi::{Captured, Listener, Sender};
use tests::jack_server::{JackServer, PERIOD_FRAMES};
use tests::playing::{Folder, Playing, text};

use crate::sampling::quantile;
use crate::table;

/// Messages of each side.
const MESSAGES: usize = 2_000;
/// Frames between two notes of the program: a hundred cycles a second.
const CYCLE_FRAMES: u64 = 480;
/// Frames between two MIDI clocks at 125 beats a minute.
const CLOCK_FRAMES: u64 = 960;
const FRAME_NS: f64 = 1e9 / 48_000.0;

const NOTES: &[&str] = &[
    "2,000 messages, as an independent JACK client hears them (jackd2, dummy driver, 48 kHz, periods of 128 frames, -S), against the even",
    "spacing they were meant to have. Baseline: a JACK client that writes its messages at their frames in its own process callback, and does",
    "nothing else. What all messages have in common is no jitter and is not counted: they are sent 10 ms and a period after they are due.",
];

/// A note that begins and ends in turns, one message a cycle.
const PROGRAM: &str = "8f4e/v1
constants env
; @config runtime WebWorkerMIDIRuntime
; @config midiRuntime.sampleRate 100
constantsEnd
entry main
module pattern
; ~midiNoteOutput gate note
int gate
int note 60
push &gate
push 1
push gate
sub
store
moduleEnd
entryEnd
";

pub fn print() {
    let Some(server) = JackServer::start() else { return println!("\nmidi: there is no jackd on this machine") };
    let rows = [
        row("a JACK client's own messages", &deviations(&heard_of_a_client(&server), CYCLE_FRAMES)),
        row("notes of a midi program, 100 cycles a second", &deviations(&heard_of_a_session(&server, &[], 0x90), CYCLE_FRAMES)),
        row(
            "MIDI clock at 125 beats a minute",
            &deviations(&heard_of_a_session(&server, &["--tempo", "125", "--clock-out"], 0xf8), CLOCK_FRAMES),
        ),
    ];
    table::print("midi: jitter", NOTES, &["what", "median", "p99", "largest"], &rows);
}

fn row(name: &str, deviations_ns: &[f64]) -> Vec<String> {
    let cell = |share| table::us(quantile(deviations_ns, share));
    vec![name.to_owned(), cell(0.5), cell(0.99), cell(1.0)]
}

/// How far each message is from the nearest place, where places are as many frames apart and most messages are at theirs. A
/// cycle that a busy machine has lost is no jitter.
fn deviations(messages: &[Captured], spacing_frames: u64) -> Vec<f64> {
    let phases = || messages.iter().map(|message| message.frame % spacing_frames);
    let begin = phases().max_by_key(|phase| phases().filter(|other| other == phase).count()).unwrap_or(0);
    let deviation = |phase: u64| (phase + spacing_frames - begin) % spacing_frames;
    phases().map(|phase| deviation(phase).min(spacing_frames - deviation(phase)) as f64 * FRAME_NS).collect()
}

fn heard_of_a_client(server: &JackServer) -> Vec<Captured> {
    let mut sender = Sender::start(server, "Baseline");
    let listener = Listener::start(server, Some("Baseline:out"));
    sender.send(&[(u64::from(PERIOD_FRAMES) * 400, vec![0xfe])]);
    sender.hear("sent");
    let messages: Vec<(u64, Vec<u8>)> = (0..MESSAGES).map(|_| (CYCLE_FRAMES, vec![0x90, 60, 1])).collect();
    sender.send(&messages);
    sender.hear("sent");
    take(&listener, 0x90)
}

fn heard_of_a_session(server: &JackServer, arguments: &[&str], status: u8) -> Vec<Captured> {
    let folder = Folder::new();
    let program = folder.file("pattern.8f4e", PROGRAM);
    let all = [&["--device", "jack"], arguments, &[text(&program)]].concat();
    let mut playing = Playing::start(&folder, &all, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    let listener = Listener::start(server, Some("continuo-midi:out_1"));
    let heard = take(&listener, status);
    playing.signal(Signal::INT);
    playing.wait();
    heard
}

/// So many messages of a kind; of notes, also their ends. The first ones are left out: connecting takes its time.
fn take(listener: &Listener, status: u8) -> Vec<Captured> {
    let is_wanted = |message: &Captured| message.bytes[0] == status || (status == 0x90 && message.bytes[0] == 0x80);
    std::iter::repeat_with(|| listener.hear()).filter(is_wanted).skip(100.min(MESSAGES / 20)).take(MESSAGES - 100).collect()
}
