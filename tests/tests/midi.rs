//! Notes through the whole system: a midi runtime, its lane, the device host, and a file or a JACK client that listens.
//!
//! What comes out is compared with what the pattern is: every note once, begun and ended, in order. Time is counted in
//! cycles of the runtime: a cycle that a busy machine lost makes a note longer, never shorter, and never repeats one.

use std::path::Path;
use std::time::Duration;

use midly::{MidiMessage, Smf, TrackEventKind};
use rustix::process::Signal;
use tests::jack_midi::{Captured, Listener};
use tests::jack_server::JackServer;
use tests::playing::{Folder, Playing, text};

/// File ticks, or frames, in a cycle of the pattern.
const CYCLE_FRAMES: u64 = 960;
/// Cycles of a note, of which it is held for half.
const NOTE_CYCLES: u64 = 4;
const FIRST_NOTE: u64 = 20;
const NOTES: u64 = 100;

/// A note every four cycles, each one semitone above the last.
const PATTERN: &str = "8f4e/v1
constants env
; @config runtime WebWorkerMIDIRuntime
constantsEnd
entry main
module pattern
; ~midiNoteOutput gate note channel velocity
int gate
int* note &sound:note   ; followed to where it points
int channel 3
int velocity 90
int cycle -1
push &cycle
push cycle
push 1
add
store
push note
push cycle
push 4
div
push 100
remainder
push 20
add
store
push &gate
push cycle
push 4
remainder
push 2
lessThan
store
moduleEnd
module sound
int note
moduleEnd
entryEnd
";

/// An event as it arrived: when, whether a note began, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrived {
    frame: u64,
    begins: bool,
    note: u64,
}

/// Demands every note of the pattern from `first` on, in order, once, begun and ended; returns how many there are.
fn check(events: &[Arrived], first: u64) -> u64 {
    for (index, event) in (0..).zip(events) {
        let number = first + index / 2;
        assert_eq!((event.begins, event.note), (index % 2 == 0, FIRST_NOTE + number % NOTES), "event {index} of {events:?}");
    }
    assert!(events.len().is_multiple_of(2), "the last note has not been ended");
    events.len() as u64 / 2
}

fn play(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Playing {
    let program = folder.file("pattern.8f4e", PATTERN);
    Playing::start(folder, &[arguments, &[text(&program)]].concat(), environment)
}

/// The notes of a Standard MIDI File, which are all on channel 3 with velocity 90.
fn read_file(path: &Path) -> Vec<Arrived> {
    let bytes = std::fs::read(path).expect("the file was written");
    let smf = Smf::parse(&bytes).expect("it is a MIDI file");
    let mut frame = 0;
    let mut notes = Vec::new();
    for event in &smf.tracks[0] {
        frame += u64::from(event.delta.as_int());
        let TrackEventKind::Midi { channel, message } = event.kind else { continue };
        assert_eq!(channel.as_int(), 2);
        let (begins, key) = match message {
            MidiMessage::NoteOn { key, vel } => {
                assert_eq!(vel.as_int(), 90);
                (true, key)
            }
            MidiMessage::NoteOff { key, .. } => (false, key),
            other => panic!("{other:?}"),
        };
        notes.push(Arrived { frame, begins, note: u64::from(key.as_int()) });
    }
    notes
}

#[test]
fn a_file_has_every_note_of_the_pattern_at_its_cycle() {
    let folder = Folder::new();
    let wav = folder.path().join("take.wav");
    let mut playing = play(&folder, &["--device", "null", "--seconds", "3", "--wav", text(&wav)], &[]);
    assert_eq!(playing.wait(), Some(0));
    let notes = read_file(&wav.with_extension("mid"));
    assert!(check(&notes, 0) >= 10, "{notes:?}");
    // The end of the session may cut the last note short.
    for pair in notes[..notes.len() - 1].windows(2) {
        let frames = pair[1].frame - pair[0].frame;
        let off = frames % CYCLE_FRAMES;
        assert!(off <= 1 || off == CYCLE_FRAMES - 1, "{frames} frames are no number of cycles");
        assert!(frames + 1 >= NOTE_CYCLES / 2 * CYCLE_FRAMES, "{frames} frames are less than half a note");
    }
}

#[test]
fn a_killed_host_repeats_and_loses_no_note_and_none_hangs() {
    let folder = Folder::new();
    let wav = folder.path().join("take.wav");
    let mut playing = play(&folder, &["--device", "null", "--wav", text(&wav)], &[]);
    playing.wait_for("sounding");
    for _ in 0..4 {
        playing.kill_host("pattern");
    }
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    check(&read_file(&wav.with_extension("mid")), 0);
}

/// A message of the pattern as a JACK client hears it.
fn arrived(captured: &Captured) -> Arrived {
    let [status, note, _] = captured.bytes[..] else { panic!("{captured:?}") };
    assert!(matches!(status, 0x92 | 0x82), "{captured:?}");
    Arrived { frame: captured.frame, begins: status == 0x92, note: u64::from(note) }
}

#[test]
fn a_jack_client_hears_every_note_and_its_end_although_the_host_is_killed() {
    let Some(server) = JackServer::start() else { return };
    let listener = Listener::start(&server, Some("continuo-midi:out_1"));
    let folder = Folder::new();
    let mut playing = play(&folder, &["--device", "jack"], &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    let mut heard: Vec<Arrived> = (0..10).map(|_| arrived(&listener.hear())).collect();
    playing.kill_host("pattern");
    heard.extend((0..10).map(|_| arrived(&listener.hear())));
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    heard.extend(listener.hear_rest(Duration::from_secs(1)).iter().map(arrived));
    // The client comes when it comes: it may have missed the first notes, and the beginning of its first one.
    let begun = heard.iter().position(|event| event.begins).expect("a note begins");
    assert!(begun <= 1, "{heard:?}");
    check(&heard[begun..], heard[begun].note - FIRST_NOTE);
}
