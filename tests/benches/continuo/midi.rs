//! `midi`: how evenly notes and clocks arrive at another program, which is what a listener hears of the time from when a message
//! was due to when it is played; and how long a note that comes in takes until it is heard.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tests::jack_midi::{Captured, Listener, Sender};
use tests::jack_server::{JackServer, PERIOD_FRAMES};
use tests::playing::{Folder, Playing, binary, text};
use tests::programs::synth;

use crate::sampling::quantile;
use crate::table;

/// Messages of each side.
const MESSAGES: usize = 2_000;
/// Messages before them, which come while ports are being connected.
const FIRST_MESSAGES: usize = 100;
/// Notes whose way is timed, and as many as come while ports are being connected.
const NOTES: usize = 400;
const FIRST_NOTES: usize = 20;
/// Frames between two notes of the program: a hundred cycles a second.
const CYCLE_FRAMES: u64 = 480;
/// Frames between two MIDI clocks at 125 beats a minute.
const CLOCK_FRAMES: u64 = 960;
const FRAME_NS: f64 = 1e9 / 48_000.0;
/// Messages to either side that tell where a message belongs.
const NEIGHBOURS: usize = 25;

const JITTER_NOTES: &[&str] = &[
    "2,000 messages, as an independent JACK client hears them (jackd2, dummy driver, 48 kHz, periods of 128 frames, -S), against the frame",
    "that each was due at: the even spacing that they were meant to have, where their neighbours (25 to either side) say that it lies, because",
    "the clock of a dummy driver that was late is no jitter of ours. Baseline: a JACK client that writes its messages at their frames in its",
    "own process callback, and does nothing else. What all messages have in common is not counted: ours are sent 10 ms and a period after",
    "they are due. Missed: places at which there was no message. midir with its feature `jack` would send each at the first frame of the next",
    "period, by its source: up to 127 frames off.",
];

const LATENCY_NOTES: &[&str] = &[
    "400 notes of an independent JACK client, each at another frame of its period, from the frame it is sent at to the first frame that is",
    "heard of it, in the same client (server as above, lead of 4 blocks). Baseline: a synthesiser that is a JACK client, plays each note from",
    "its frame on in its own process callback, and does nothing else: the server's own way there and back.",
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
        jitter("a JACK client's own messages", &heard_of_a_client(&server), CYCLE_FRAMES),
        jitter("notes of a midi program, 100 cycles a second", &heard_of_a_session(&server, &[], 0x90), CYCLE_FRAMES),
        jitter("MIDI clock at 125 beats a minute", &heard_of_a_session(&server, &["--tempo", "125", "--clock-out"], 0xf8), CLOCK_FRAMES),
    ];
    table::print("midi: jitter", JITTER_NOTES, &["what", "median", "p99", "largest", "largest, time", "missed"], &rows);
    let rows = [latency("a synthesiser that is a JACK client", &of_a_client(&server)), latency("a program", &of_a_session(&server))];
    table::print("midi: latency", LATENCY_NOTES, &["what", "least", "median", "p99", "largest", "median, time", "spread, time"], &rows);
}

fn jitter(name: &str, messages: &[Captured], spacing_frames: u64) -> Vec<String> {
    let (deviations, missed) = deviations(messages, spacing_frames);
    let cell = |share| frames(quantile(&deviations, share));
    let largest = table::us(quantile(&deviations, 1.0) * FRAME_NS);
    vec![name.to_owned(), cell(0.5), cell(0.99), cell(1.0), largest, missed.to_string()]
}

fn frames(count: f64) -> String {
    format!("{count} frames")
}

/// How many frames each message is from where its neighbours say that it belongs, and how many places have none.
fn deviations(messages: &[Captured], spacing_frames: u64) -> (Vec<f64>, u64) {
    let spacing = spacing_frames as i64;
    let first = messages.first().map_or(0, |message| message.frame);
    let mut place = 0;
    let mut last = first;
    let (mut offsets, mut missed) = (Vec::with_capacity(messages.len()), 0);
    for message in messages {
        // Places since the last message; of a late one that is not at the place of the next.
        let steps = (message.frame.saturating_sub(last) as f64 / spacing_frames as f64).round() as i64;
        missed += steps.saturating_sub(1).max(0) as u64;
        place += steps;
        last = message.frame;
        offsets.push(message.frame as i64 - first as i64 - place * spacing);
    }
    let deviation = |(index, offset): (usize, &i64)| {
        let around = &offsets[index.saturating_sub(NEIGHBOURS)..(index + NEIGHBOURS + 1).min(offsets.len())];
        let mut around = around.to_vec();
        around.sort_unstable();
        (offset - around[around.len() / 2]).unsigned_abs() as f64
    };
    (offsets.iter().enumerate().map(deviation).collect(), missed)
}

fn heard_of_a_client(server: &JackServer) -> Vec<Captured> {
    let mut sender = Sender::start(server, "Baseline");
    let listener = Listener::start(server, Some("Baseline:out"));
    // While this is on its way the listener connects itself.
    sender.send(&[(u64::from(PERIOD_FRAMES) * 400, vec![0xfe])]);
    sender.hear("sent");
    let messages: Vec<(u64, Vec<u8>)> = (0..MESSAGES + FIRST_MESSAGES).map(|_| (CYCLE_FRAMES, vec![0x90, 60, 1])).collect();
    sender.send(&messages);
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

/// So many messages of a kind; of notes, also their ends.
fn take(listener: &Listener, status: u8) -> Vec<Captured> {
    let is_wanted = |message: &Captured| message.bytes[0] == status || (status == 0x90 && message.bytes[0] == 0x80);
    std::iter::repeat_with(|| listener.hear()).filter(is_wanted).skip(FIRST_MESSAGES).take(MESSAGES).collect()
}

fn latency(name: &str, latencies: &[f64]) -> Vec<String> {
    let at = |share| quantile(latencies, share);
    let cell = |share| frames(at(share));
    let spread = table::ms((at(0.99) - at(0.0)) * FRAME_NS);
    vec![name.to_owned(), cell(0.0), cell(0.5), cell(0.99), cell(1.0), table::ms(at(0.5) * FRAME_NS), spread]
}

/// Programs of this package lie where the binary under test does.
fn tool(server: &JackServer, arguments: &[&str]) -> Child {
    let path: PathBuf = binary().with_file_name("jack-midi-latency");
    let mut command = Command::new(path);
    command.args(arguments).env("JACK_DEFAULT_SERVER", server.name());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tool can be started")
}

/// Frames from sending to hearing.
fn measured(server: &JackServer, prefix: &str) -> Vec<f64> {
    let mut tool = tool(server, &[prefix, &(NOTES + FIRST_NOTES).to_string()]);
    let lines = BufReader::new(tool.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let frames = lines.skip(FIRST_NOTES).map(|line| line.parse().expect("a number")).collect();
    assert!(tool.wait().expect("a child can be waited for").success());
    frames
}

fn of_a_client(server: &JackServer) -> Vec<f64> {
    let mut synth = tool(server, &["synth"]);
    let mut ready = String::new();
    BufReader::new(synth.stdout.as_mut().expect("piped")).read_line(&mut ready).expect("it says when it is ready");
    let latencies = measured(server, "Plain:out");
    drop(synth.stdin.take());
    synth.wait().expect("a child can be waited for");
    latencies
}

fn of_a_session(server: &JackServer) -> Vec<f64> {
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    let arguments = ["--device", "jack", "--midi-in", "Latency:out", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    let latencies = measured(server, "cpal_client_");
    playing.signal(Signal::INT);
    playing.wait();
    latencies
}
