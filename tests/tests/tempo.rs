//! Musical time: what programs are told of it, the MIDI clock that goes out, and the one that is followed. With real processes
//! and, where another program is needed, a JACK server, whose frames are what time is counted in.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tests::jack_midi::{Captured, Listener, Sender};
use tests::jack_server::JackServer;
use tests::live::steps;
use tests::playing::{Folder, Playing, answer, await_that, number, run, succeed, text};
use tests::programs::left_output;

/// A program whose output is its tempo in 1024ths, and as much again while the transport runs.
fn metronome() -> String {
    let items = "; @config clock.tempoMemory tempo
; @config clock.runningMemory running
; @config clock.beatMemory beat
float tempo 0.0
int running
float beat -1.0";
    let value = "push tempo
push 0.0009765625
mul
push running
push 1
add
castToFloat
mul";
    left_output(items, value, "")
}

fn tempo(folder: &Folder, arguments: &[&str]) -> Value {
    answer(folder, &[&["tempo"], arguments].concat())
}

/// The values without the silence at the beginning. A fade at the end is among them.
fn values(path: &Path) -> Vec<f32> {
    let is_whole = |value: &f32| (value * 1_024.0).fract() == 0.0 && *value > 0.0;
    let mut values: Vec<f32> = steps(path).into_iter().map(|(_, value)| value).filter(is_whole).collect();
    values.dedup();
    values
}

#[test]
fn every_program_is_told_how_fast_the_session_goes_in_one_block_and_replays_to_the_same_samples() {
    let folder = Folder::new();
    let program = folder.file("metronome.8f4e", metronome());
    let other = folder.file("other.8f4e", metronome());
    let (wav, log, again) = (folder.path().join("take.wav"), folder.path().join("take.continuo"), folder.path().join("again.wav"));
    let arguments = ["--device", "null", "--tempo", "100", "--wav", text(&wav), text(&program), text(&other)];
    let mut playing = Playing::start(&folder, &arguments, &[]);
    playing.wait_for("sounding");
    playing.wait_for("sounding");
    succeed(&folder, &["record", text(&log)]);
    await_that("it is told", || number(&folder, "metronome", "m:tempo") == 100.0);
    for (arguments, expected) in [
        (&["150", "--start"][..], (150.0, 1.0)),
        (&["90"], (90.0, 1.0)),
        (&["--stop"], (90.0, 0.0)),
        (&["200", "--continue", "--beat", "16"], (200.0, 1.0)),
    ] {
        let now = tempo(&folder, arguments);
        assert_eq!((now["bpm"].as_f64(), now["isRunning"].as_bool()), (Some(expected.0), Some(expected.1 == 1.0)));
        await_that("it is told", || (number(&folder, "metronome", "m:tempo"), number(&folder, "metronome", "m:running")) == expected);
    }
    assert_eq!(number(&folder, "metronome", "m:beat"), 16.0);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    // The programs begin, and are told first, when they do; from then on both are told together. Only where a busy machine
    // has told one of them late, its block is another one.
    let heard = values(&wav);
    let together = [100.0, 300.0, 180.0, 90.0, 400.0].map(|value: f32| 2.0 * value / 1_024.0);
    let places: Vec<usize> = together.iter().filter_map(|value| heard.iter().position(|other| other == value)).collect();
    assert!(places.len() == together.len() && places.is_sorted(), "{heard:?}");
    assert!(places.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() >= 2, "{heard:?}");
    succeed(&folder, &["replay", text(&log), "--runtime", "metronome", "-o", text(&again)]);
    let replayed = values(&again);
    let alone = together.map(|value| value / 2.0);
    assert_eq!(replayed[replayed.len() - alone.len()..], alone, "{replayed:?}");
}

#[test]
fn a_bounce_tells_programs_the_tempo_in_their_first_tick_every_time() {
    let folder = Folder::new();
    let program = folder.file("metronome.8f4e", metronome());
    let other = folder.file("other.8f4e", metronome());
    let bounce = |name: &str, arguments: &[&str]| {
        let wav = folder.path().join(name);
        succeed(&folder, &[&["bounce", "--seconds", "1", "-o", text(&wav)], arguments].concat());
        (std::fs::read(&wav).expect("it was written"), steps(&wav))
    };
    // That of a session that nobody has said anything to.
    let (_, usual) = bounce("usual.wav", &[text(&program)]);
    assert_eq!(usual, [(0, 120.0 / 1_024.0)]);
    let (bytes, both) = bounce("both.wav", &["--tempo", "128", "--start", text(&program), text(&other)]);
    assert_eq!(both, [(0, 2.0 * 2.0 * 128.0 / 1_024.0)]);
    assert_eq!(bounce("again.wav", &["--tempo", "128", "--start", text(&program), text(&other)]).0, bytes);
    // A bounce that hears a file is told as well.
    let tune = folder.file("tune.mid", b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk\0\0\0\x0c\0\x90\x40\x40\x60\x80\x40\0\0\xff\x2f\0");
    assert_eq!(bounce("heard.wav", &["--tempo", "64", "--midi-in", text(&tune), text(&program)]).1, [(0, 64.0 / 1_024.0)]);
    let refused = run(&folder, &["bounce", "--tempo", "5", "--seconds", "1", "-o", "x.wav", text(&program)]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("beats a minute"), "{refused:?}");
}

/// Beats in which the machine may be late, so that its clocks prove nothing.
const TAKES: usize = 8;

/// How many of these clocks are where they are to be, give or take a period.
fn regular(clocks: &[Captured], spacing: u64) -> usize {
    let places: Vec<u64> = (0u64..).zip(clocks).map(|(number, clock)| clock.frame.saturating_sub(number * spacing)).collect();
    let is_near = |one: &u64, other: &u64| one.abs_diff(*other) <= 128;
    places.iter().map(|place| places.iter().filter(|other| is_near(place, other)).count()).max().unwrap_or(0)
}

#[test]
fn midi_clock_goes_out_with_start_stop_continue_and_position() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("metronome.8f4e", metronome());
    let listener = Listener::start(&server, None);
    let arguments = ["--device", "jack", "--tempo", "120", "--clock-out", "--midi-out", "midi-capture", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("midiPortFound");
    let clocks = |count: usize| -> Vec<Captured> {
        let heard: Vec<Captured> = (0..count).map(|_| listener.hear()).collect();
        assert!(heard.iter().all(|message| message.bytes == [0xf8]), "{heard:?}");
        heard
    };
    clocks(10);
    tempo(&folder, &["--start"]);
    listener.hear_until(&[0xfa]);
    // A machine that is late makes the server's frames late, and not for ever.
    let become_regular = |spacing| (0..TAKES).any(|_| regular(&clocks(96), spacing) > 48);
    assert!(become_regular(1_000));
    // What is under way goes on at the tempo it had.
    tempo(&folder, &["240"]);
    clocks(48);
    assert!(become_regular(500));
    tempo(&folder, &["--stop"]);
    listener.hear_until(&[0xfc]);
    clocks(10);
    tempo(&folder, &["--continue", "--beat", "33"]);
    listener.hear_until(&[0xf2, 4, 1]);
    assert_eq!(listener.hear().bytes, [0xfb]);
    clocks(10);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

#[test]
fn a_session_that_follows_a_midi_clock_goes_as_fast_as_that_and_where_that_goes() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("metronome.8f4e", metronome());
    let mut master = Sender::start(&server, "Master");
    let arguments = ["--device", "jack", "--midi-in", "master", "--tempo", "midi", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("midiPortFound");
    let mut send = |messages: &[(u64, Vec<u8>)]| {
        master.send(messages);
        master.hear("sent");
    };
    let clocks = |count| vec![(800, vec![0xf8]); count];
    await_that("the clock is followed", || {
        send(&clocks(24));
        (number(&folder, "metronome", "m:tempo") - 150.0).abs() < 1.0
    });
    assert_eq!(number(&folder, "metronome", "m:running"), 0.0);
    send(&[(0, vec![0xfa])]);
    send(&clocks(49));
    await_that("it runs", || (number(&folder, "metronome", "m:running"), number(&folder, "metronome", "m:beat").round()) == (1.0, 2.0));
    let now = tempo(&folder, &[]);
    assert_eq!((now["isRunning"].as_bool(), now["followsClock"].as_bool()), (Some(true), Some(true)));
    await_that("nobody else may set it while the clock is there", || {
        send(&clocks(24));
        let refused = run(&folder, &["tempo", "99"]);
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("follows")
    });
    send(&[(0, vec![0xfc]), (800, vec![0xf2, 8, 0])]);
    await_that("it stands still", || (number(&folder, "metronome", "m:running"), number(&folder, "metronome", "m:beat")) == (0.0, 2.0));
    // The clock says nothing any more.
    playing.wait_for("midiClockLost");
    // On a busy machine it may have been silent before.
    await_that("there is no clock", || tempo(&folder, &[])["hasClock"] == false);
    let now = tempo(&folder, &["--start"]);
    assert_eq!(
        (now["isRunning"].as_bool(), now["followsClock"].as_bool(), now["hasClock"].as_bool()),
        (Some(true), Some(true), Some(false))
    );
    tempo(&folder, &["--stop"]);
    await_that("the clock is followed again", || {
        send(&clocks(24));
        tempo(&folder, &[])["hasClock"] == true
    });
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}
