//! Ports that come and go, the session's own loop, and the ways in which a performer ends notes: with real processes and, where
//! another program is needed, a JACK server.

use std::time::Duration;

use midly::{MidiMessage, Smf, TrackEventKind};
use rustix::process::Signal;
use serde_json::Value;
use tests::jack_midi::{LISTENER_PORT, Listener, Sender};
use tests::jack_server::JackServer;
use tests::playing::{Folder, Playing, await_that, number, send_signal, succeed, text};
use tests::programs::synth;

/// A program that holds a note for as long as it is told to.
const HOLD: &str = "8f4e/v1
constants env
; @config runtime WebWorkerMIDIRuntime
constantsEnd
entry main
module hold
; ~midiNoteOutput gate note channel velocity
int gate
int note 64
int channel 2
int velocity 99
int cycle
push &cycle
push cycle
push 1
add
store
moduleEnd
entryEnd
";

/// A note every twelve cycles, of which it is held for six, each one semitone above the last.
const SCALE: &str = "8f4e/v1
constants env
; @config runtime WebWorkerMIDIRuntime
constantsEnd
entry main
module scale
; ~midiNoteOutput gate note
int gate
int note
int cycle -1
push &cycle
push cycle
push 1
add
store
push &note
push cycle
push 12
div
push 60
remainder
push 30
add
store
push &gate
push cycle
push 12
remainder
push 6
lessThan
store
moduleEnd
entryEnd
";

/// The line of [`HOLD`] that says where its note goes.
const ROUTE: &str = "; ~midiNoteOutput gate note channel velocity\n";

const ON: [u8; 3] = [0x91, 64, 99];
const OFF: [u8; 3] = [0x81, 64, 0];

fn port_event<'a>(event: &'a str, direction: &'a str, name: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |found| found["event"] == event && found["direction"] == direction && found["port"] == 1 && found["name"] == name
}

/// Sends a note until the synthesiser sounds it.
fn sound_note(folder: &Folder, sender: &mut Sender, note: u8) {
    await_that("the note is heard", || {
        sender.send(&[(0, vec![0x90, note, 9])]);
        sender.hear("sent");
        number(folder, "synth", "m:level") == f64::from(note) / 128.0
    });
}

#[test]
fn an_output_port_is_connected_to_what_its_name_says_whenever_that_is_there() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("scale.8f4e", SCALE);
    let arguments = ["--device", "jack", "--midi-out", "MIDI-Capture", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    for _ in 0..2 {
        let listener = Listener::start(&server, None);
        playing.wait_until("of a found port", port_event("midiPortFound", "out", LISTENER_PORT));
        (0..6).for_each(|_| drop(listener.hear()));
        drop(listener);
        playing.wait_until("of a lost port", port_event("midiPortLost", "out", LISTENER_PORT));
    }
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

#[test]
fn an_instrument_that_goes_is_told_and_the_notes_that_it_held_end() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    let arguments = ["--device", "jack", "--midi-in", "keys", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    for _ in 0..2 {
        let mut sender = Sender::start(&server, "Keys");
        playing.wait_until("of a found port", port_event("midiPortFound", "in", "Keys:out"));
        sound_note(&folder, &mut sender, 64);
        drop(sender);
        playing.wait_until("of a lost port", port_event("midiPortLost", "in", "Keys:out"));
        await_that("the note ends", || number(&folder, "synth", "m:level") == 0.0);
    }
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

#[test]
fn a_server_that_goes_and_comes_back_finds_its_instruments_connected_again_and_no_note_hanging() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let name = server.name().to_owned();
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    let mut playing =
        Playing::start(&folder, &["--device", "jack", "--midi-in", "keys", text(&program)], &[("JACK_DEFAULT_SERVER", &name)]);
    playing.wait_for("sounding");
    let mut sender = Sender::start(&server, "Keys");
    playing.wait_until("of a found port", port_event("midiPortFound", "in", "Keys:out"));
    sound_note(&folder, &mut sender, 64);
    drop(server);
    drop(sender);
    playing.wait_until("of a lost port", port_event("midiPortLost", "in", "Keys:out"));
    await_that("the note ends", || number(&folder, "synth", "m:level") == 0.0);
    let server = JackServer::start_as(&name, 1_000);
    let mut sender = Sender::start(&server, "Keys");
    playing.wait_until("of a found port", port_event("midiPortFound", "in", "Keys:out"));
    sound_note(&folder, &mut sender, 32);
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

/// This machine may have a sequencer; then there is nothing to be said.
#[test]
fn without_a_sequencer_and_a_server_it_is_said_once_and_the_server_that_comes_is_played_to() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let name = server.name().to_owned();
    drop(server);
    let folder = Folder::new();
    let program = folder.file("scale.8f4e", SCALE);
    let arguments = ["--midi-out", "midi-capture", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", &name)]);
    if !std::path::Path::new("/dev/snd/seq").exists() {
        let said = playing.wait_for("midiUnavailable");
        let reason = said["reason"].as_str().expect("a reason is text");
        assert!(reason.contains("no ALSA sequencer") && reason.contains("/dev/snd/seq") && reason.contains("modprobe snd-seq"), "{reason}");
    }
    // Another device host finds the same, and need not say it.
    let device = playing.seen().iter().find(|event| event["role"] == "device-host").and_then(|event| event["pid"].as_u64());
    send_signal(device.expect("its process is known") as u32, Signal::KILL);
    playing.wait_until("of another device host", |event| event["event"] == "processStarted" && event["role"] == "device-host");
    let before = number(&folder, "scale", "scale:cycle");
    await_that("time goes on", || number(&folder, "scale", "scale:cycle") > before + 20.0);
    let server = JackServer::start_as(&name, 1_000);
    let listener = Listener::start(&server, None);
    playing.wait_until("of a found port", port_event("midiPortFound", "out", LISTENER_PORT));
    (0..6).for_each(|_| drop(listener.hear()));
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    assert!(playing.seen().iter().filter(|event| event["event"] == "midiUnavailable").count() <= 1);
}

#[test]
fn panic_mute_stop_and_another_program_end_what_sounds_at_once() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("hold.8f4e", HOLD);
    // The same without anything that leaves it.
    let other = folder.file("mute.8f4e", HOLD.replace(ROUTE, ""));
    let (listener, mut playing) = listen_to(&server, &folder, text(&program));
    let hold: &[&str] = &["set", "hold", "hold:gate=1"];
    let again = ["push", "hold", text(&program), "--acknowledge", "--wait"];
    let without = ["push", "hold", text(&other), "--acknowledge", "--wait"];
    // What begins the note, and what ends it.
    let pairs: [(&[&[&str]], &[&str]); 5] = [
        (&[hold], &["panic"]),
        (&[&["mute", "hold", "--off"]], &["freeze", "hold"]),
        (&[&["unfreeze", "hold"]], &["restart", "hold", "--reset"]),
        (&[hold], &without),
        // Without a runtime there is no play.
        (&[&again, hold], &["stop", "hold"]),
    ];
    for (beginning, ending) in pairs {
        beginning.iter().for_each(|verb| drop(succeed(&folder, verb)));
        assert_eq!(listener.hear().bytes, ON, "{beginning:?}");
        succeed(&folder, ending);
        assert_eq!(listener.hear().bytes, OFF, "{ending:?}");
    }
    assert_eq!(playing.wait(), Some(0));
    assert_eq!(listener.hear_rest(Duration::from_millis(300)), [], "nothing more is begun or ended");
}

#[test]
fn a_note_that_is_released_while_no_supervisor_is_there_ends_with_the_next_one() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    folder.file("synth.8f4e", synth());
    let content = "device = \"jack\"\nmidi_in = [\"keys\"]\ngrace = 30\n[[runtime]]\nname = \"synth\"\nfile = \"synth.8f4e\"\n";
    let file = folder.file("gig.toml", content);
    let environment = [("JACK_DEFAULT_SERVER", server.name())];
    let mut playing = Playing::up(&folder, &[text(&file)], &environment);
    playing.wait_for("sounding");
    let mut sender = Sender::start(&server, "Keys");
    playing.wait_until("of a found port", port_event("midiPortFound", "in", "Keys:out"));
    sound_note(&folder, &mut sender, 64);
    playing.signal(Signal::KILL);
    assert_eq!(playing.wait(), None, "a signal is no exit code");
    sender.send(&[(0, vec![0x80, 64, 0])]);
    sender.hear("sent");
    let mut next = Playing::up(&folder, &[text(&file)], &environment);
    next.wait_for("takenBack");
    await_that("the note ends", || number(&folder, "synth", "m:level") == 0.0);
    // What is held under one supervisor is known to the next.
    sound_note(&folder, &mut sender, 32);
    next.signal(Signal::KILL);
    assert_eq!(next.wait(), None);
    let mut last = Playing::up(&folder, &[text(&file)], &environment);
    last.wait_for("takenBack");
    assert_eq!(number(&folder, "synth", "m:level"), 0.25, "it is held still");
    drop(sender);
    await_that("the note ends with its instrument", || number(&folder, "synth", "m:level") == 0.0);
    succeed(&folder, &["shutdown"]);
    assert_eq!(last.wait(), Some(0));
    playing.leave();
    next.leave();
}

/// A session that plays a program to a listener, once they are connected.
fn listen_to(server: &JackServer, folder: &Folder, program: &str) -> (Listener, Playing) {
    let listener = Listener::start(server, None);
    let arguments = ["--device", "jack", "--midi-out", "midi-capture", program];
    let mut playing = Playing::start(folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_until("of a found port", |found| found["event"] == "midiPortFound" && found["direction"] == "out");
    (listener, playing)
}

#[test]
fn a_runtime_that_is_heard_again_goes_on_with_the_note_that_it_holds() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("hold.8f4e", HOLD);
    let (listener, mut playing) = listen_to(&server, &folder, text(&program));
    succeed(&folder, &["mute", "hold"]);
    succeed(&folder, &["set", "hold", "hold:gate=1"]);
    await_that("the note is held", || number(&folder, "hold", "hold:gate") == 1.0);
    succeed(&folder, &["mute", "hold", "--off"]);
    assert_eq!(listener.hear().bytes, ON, "not before it is heard again");
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    assert_eq!(listener.hear().bytes, OFF);
}

#[test]
fn a_note_that_is_held_begins_again_for_a_listener_that_comes_back() {
    let Some(server) = JackServer::start_with_patience(1_000) else { return };
    let folder = Folder::new();
    let program = folder.file("hold.8f4e", HOLD);
    let (listener, mut playing) = listen_to(&server, &folder, text(&program));
    succeed(&folder, &["set", "hold", "hold:gate=1"]);
    assert_eq!(listener.hear().bytes, ON);
    drop(listener);
    playing.wait_for("midiPortLost");
    let listener = Listener::start(&server, None);
    assert_eq!(listener.hear().bytes, ON, "it is held still");
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    assert_eq!(listener.hear().bytes, OFF);
}

/// The numbers of the notes that begin in a Standard MIDI File.
fn notes_of(path: &std::path::Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("what is sent is written beside the recording");
    let smf = Smf::parse(&bytes).expect("it is a MIDI file");
    let begun = smf.tracks[0].iter().filter_map(|event| match event.kind {
        TrackEventKind::Midi { message: MidiMessage::NoteOn { key, .. }, .. } => Some(key.as_int()),
        _ => None,
    });
    begun.collect()
}

/// The numbers of the notes that begin in a recording of the synthesiser.
fn notes_heard(path: &std::path::Path) -> Vec<u8> {
    let mut reader = hound::WavReader::open(path).expect("the recording is a WAV file");
    let mut notes = Vec::new();
    let mut last = 0.0;
    for sample in reader.samples::<f32>().map(|sample| sample.expect("it can be read")).step_by(2) {
        // A sample of a fade at the beginning or the end is no note.
        let note = sample * 128.0;
        if sample != last && note > 0.0 && note.fract() == 0.0 {
            notes.push(note as u8);
        }
        last = sample;
    }
    notes
}

#[test]
fn what_one_program_sends_another_one_hears_inside_the_session() {
    let folder = Folder::new();
    let (scale, synth) = (folder.file("scale.8f4e", SCALE), folder.file("synth.8f4e", synth()));
    let wav = folder.path().join("take.wav");
    let arguments = ["--device", "null", "--seconds", "4", "--midi-in", "loop", "--wav", text(&wav), text(&scale), text(&synth)];
    let mut playing = Playing::start(&folder, &arguments, &[]);
    assert_eq!(playing.wait(), Some(0));
    let (sent, heard) = (notes_of(&wav.with_extension("mid")), notes_heard(&wav));
    assert!(sent.len() > 8, "{sent:?}");
    // The first may have been before the synthesiser listened, the last at the end.
    let begun = sent.iter().position(|note| Some(note) == heard.first()).expect("what is heard was sent");
    assert!(begun <= 2 && heard.len() + begun + 1 >= sent.len(), "{sent:?} {heard:?}");
    assert_eq!(sent[begun..begun + heard.len()], heard);
}

#[test]
fn a_session_file_says_what_its_midi_ports_hear() {
    let folder = Folder::new();
    let (scale, synth) = (folder.file("scale.8f4e", SCALE), folder.file("synth.8f4e", synth()));
    let runtime = |name: &str, file: &str| format!("[[runtime]]\nname = \"{name}\"\nfile = \"{file}\"\n");
    let content = format!("device = \"null\"\nmidi_in = [\"loop\"]\n{}{}", runtime("scale", text(&scale)), runtime("synth", text(&synth)));
    let file = folder.file("SESSION.toml", content);
    let mut playing = Playing::up(&folder, &[text(&file)], &[]);
    (0..2).for_each(|_| drop(playing.wait_for("sounding")));
    await_that("notes are heard", || number(&folder, "synth", "m:level") > 0.0);
    succeed(&folder, &["shutdown"]);
    assert_eq!(playing.wait(), Some(0));
}
