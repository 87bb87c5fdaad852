//! Rows of notes: a midi host that dies while one sounds, and a port that goes and comes back.

use std::path::Path;

use midly::{MidiMessage, Smf, TrackEventKind};
use rustix::process::Signal;
use serde_json::Value;
use tests::jack_midi::Listener;
use tests::jack_server::JackServer;
use tests::playing::{Folder, Playing, text};
use tests::programs::silence;

use crate::shares::share_machine;

/// Frames in a cycle of the pattern, which has fifty in a second.
const CYCLE_FRAMES: u64 = 960;

/// Cycles from the begin of a note to the begin of the next; it sounds for half of them.
const NOTE_CYCLES: u64 = 8;

const FIRST_NOTE: u64 = 20;
const NOTES: u64 = 100;

/// A note every eight cycles, each one semitone above the last.
const PATTERN: &str = "8f4e/v1
constants env
; @config runtime WebWorkerMIDIRuntime
constantsEnd
entry main
module pattern
; ~midiNoteOutput gate note channel velocity
int gate
int note
int channel 3
int velocity 90
int cycle -1
push &cycle\npush cycle\npush 1\nadd\nstore
push &note\npush cycle\npush 8\ndiv\npush 100\nremainder\npush 20\nadd\nstore
push &gate\npush cycle\npush 8\nremainder\npush 4\nlessThan\nstore
moduleEnd
entryEnd
";

/// A note that was begun and ended, in frames of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    number: u64,
    from_frame: u64,
    to_frame: u64,
}

/// The notes of a Standard MIDI File. Fails where one begins before the last one has ended, and where one is never ended.
fn notes_of(path: &Path) -> Vec<Note> {
    let bytes = std::fs::read(path).expect("the file was written");
    let smf = Smf::parse(&bytes).expect("it is a MIDI file");
    let (mut frame, mut notes, mut sounding) = (0, Vec::new(), None);
    for event in &smf.tracks[0] {
        frame += u64::from(event.delta.as_int());
        let TrackEventKind::Midi { message, .. } = event.kind else { continue };
        match message {
            MidiMessage::NoteOn { key, .. } => {
                let before = sounding.replace((u64::from(key.as_int()), frame));
                assert_eq!(before, None, "a note has not been ended when {key} begins in frame {frame}");
            }
            MidiMessage::NoteOff { key, .. } => {
                let (number, from_frame) = sounding.take().unwrap_or_else(|| panic!("{key} is ended twice, in frame {frame}"));
                assert_eq!(number, u64::from(key.as_int()));
                notes.push(Note { number, from_frame, to_frame: frame });
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sounding, None, "a note hangs");
    notes
}

fn play(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Playing {
    share_machine();
    let (pattern, quiet) = (folder.file("pattern.8f4e", PATTERN), folder.file("quiet.8f4e", silence()));
    let mut playing = Playing::start(folder, &[arguments, &[text(&pattern), text(&quiet)]].concat(), environment);
    playing.wait_for("sounding");
    playing
}

/// Waits until the pattern's runtime has come so many cycles further; returns how many it has lost by then.
fn play_cycles(playing: &mut Playing, cycles: u64) -> u64 {
    let is_status = |event: &Value| event["event"] == "runtimeStatus" && event["runtime"] == "pattern";
    let ticks = |event: &Value| event["ticks"].as_u64().unwrap_or(0);
    let now = ticks(&playing.wait_until("a status", is_status));
    let status = playing.wait_until("progress", |event| is_status(event) && ticks(event) >= now + cycles);
    status["lostTicks"].as_u64().unwrap()
}

fn end(playing: &mut Playing, code: i32) {
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(code));
    playing.wait_until_gone();
}

#[test]
fn row_04_a_pattern_whose_host_is_killed_goes_on_in_phase_and_no_note_hangs() {
    let folder = Folder::new();
    let wav = folder.path().join("take.wav");
    let mut playing = play(&folder, &["--device", "null", "--wav", text(&wav)], &[]);
    let mut lost_cycles = 0;
    for _ in 0..4 {
        play_cycles(&mut playing, 30);
        playing.kill_host("pattern");
        lost_cycles = play_cycles(&mut playing, 30);
    }
    end(&mut playing, 0);
    let notes = notes_of(&wav.with_extension("mid"));
    assert!(notes.len() > 20, "{notes:?}");
    let numbers: Vec<u64> = notes.iter().map(|note| note.number).collect();
    let expected: Vec<u64> = (0..notes.len() as u64).map(|index| FIRST_NOTE + index % NOTES).collect();
    assert_eq!(numbers, expected, "each is played once, in order");
    // Where it should be by its number, but for cycles that were told to be lost.
    let (first, last) = (notes[0], notes[notes.len() - 1]);
    let due_cycles = (notes.len() as u64 - 1) * NOTE_CYCLES;
    let cycles = (last.from_frame - first.from_frame + 2) / CYCLE_FRAMES;
    assert!((due_cycles..=due_cycles + lost_cycles).contains(&cycles), "{cycles} cycles for {due_cycles}, {lost_cycles} lost: {notes:?}");
}

#[test]
fn row_04_a_note_that_sounds_when_its_host_dies_for_good_is_ended() {
    /// In the second cycle of a note.
    const FATAL_CYCLE: u64 = 10 * NOTE_CYCLES + 1;
    let folder = Folder::new();
    let wav = folder.path().join("take.wav");
    let fault = format!("segv@tick:{FATAL_CYCLE},runtime:pattern");
    let mut playing = play(&folder, &["--device", "null", "--wav", text(&wav)], &[("CONTINUO_FAULT", &fault)]);
    let held = playing.wait_for("quarantined");
    assert_eq!(held["runtime"], "pattern");
    let frames = |event: &Value| event["frames"].as_u64().unwrap_or(0);
    let held_frame = frames(&playing.wait_until("a meter", |event| event["event"] == "meter"));
    // The session plays on: the note is not ended by its end.
    let end_frame = held_frame + 100 * CYCLE_FRAMES;
    playing.wait_until("the session to play on", |event| event["event"] == "meter" && frames(event) >= end_frame);
    end(&mut playing, 1);
    let notes = notes_of(&wav.with_extension("mid"));
    let last = notes.last().expect("there were notes");
    assert_eq!(last.number, FIRST_NOTE + FATAL_CYCLE / NOTE_CYCLES, "the one that sounded is the last");
    assert!(last.to_frame < held_frame + 50 * CYCLE_FRAMES, "it is ended when its host is given up, not later: {last:?}, {held_frame}");
}

/// The next notes that a client hears, begun and ended, from the first begin on.
fn hear_notes(listener: &Listener, notes: usize) -> Vec<u64> {
    let next = || match listener.hear().bytes[..] {
        [status, number, _] => (status & 0xF0 == 0x90, u64::from(number)),
        ref other => panic!("no note: {other:?}"),
    };
    let mut event = next();
    while !event.0 {
        event = next();
    }
    let mut numbers = Vec::new();
    while numbers.len() < notes {
        let (begins, number) = event;
        assert!(begins, "a note begins after the last one has ended");
        assert_eq!(next(), (false, number), "it is ended before the next one");
        numbers.push(number);
        event = next();
    }
    numbers
}

#[test]
fn row_43_a_midi_port_whose_listener_vanishes_is_played_to_again_when_it_returns() {
    let Some(server) = JackServer::start_with_patience(300) else { return };
    let folder = Folder::new();
    let mut playing = play(&folder, &["--device", "jack"], &[("JACK_DEFAULT_SERVER", server.name())]);
    let mut last = None;
    for _ in 0..3 {
        let listener = Listener::start(&server, Some("continuo-midi:out_1"));
        let numbers = hear_notes(&listener, 4);
        listener.vanish();
        assert!(numbers.windows(2).all(|pair| pair[1] == FIRST_NOTE + (pair[0] - FIRST_NOTE + 1) % NOTES), "{numbers:?}");
        assert!(last.is_none_or(|last| last < numbers[0]), "time has gone on meanwhile: {last:?}, {numbers:?}");
        last = numbers.last().copied();
    }
    let died = playing.seen().iter().any(|event| event["event"] == "died");
    assert!(!died, "nobody has died of it");
    end(&mut playing, 0);
}
