//! MIDI in through the whole system: files and an independent JACK client play programs, live, bounced and replayed.
//!
//! The programs put what they are told on their output, so that a recording shows which block knew of which message. Time is
//! counted in blocks and frames of recordings, never in seconds of the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, TrackEvent, TrackEventKind};
use rustix::process::Signal;
use serde_json::Value;
use tests::jack_midi::Sender;
use tests::jack_server::JackServer;
use tests::live::steps;
use tests::playing::{Folder, Playing, answer, await_that, number, run, succeed, text};
use tests::programs::synth;
use tests::takes::missed_so_far;

const BLOCK_FRAMES: u64 = 128;

/// Plays in which the machine may be late, so that what was heard proves nothing.
const TAKES: usize = 8;

fn level(note: u8) -> f32 {
    f32::from(note) / 128.0
}

/// A Standard MIDI File in which one tick is one frame at 48 kHz: notes, each from one frame to another.
fn file_of_notes(folder: &Folder, name: &str, notes: &[(u64, u64, u8)]) -> PathBuf {
    let mut events: Vec<(u64, MidiMessage)> = Vec::new();
    for (from, to, note) in notes {
        let key = u7::new(*note);
        events.push((*from, MidiMessage::NoteOn { key, vel: u7::new(100) }));
        events.push((*to, MidiMessage::NoteOff { key, vel: u7::new(0) }));
    }
    events.sort_by_key(|(frame, _)| *frame);
    let tempo = TrackEventKind::Meta(MetaMessage::Tempo(u24::new(500_000)));
    let mut track = vec![TrackEvent { delta: u28::new(0), kind: tempo }];
    let mut last = 0;
    for (frame, message) in events {
        let kind = TrackEventKind::Midi { channel: u4::new(0), message };
        track.push(TrackEvent { delta: u28::new((frame - last) as u32), kind });
        last = frame;
    }
    track.push(TrackEvent { delta: u28::new(0), kind: TrackEventKind::Meta(MetaMessage::EndOfTrack) });
    let header = Header { format: Format::SingleTrack, timing: Timing::Metrical(u15::new(24_000)) };
    let mut bytes = Vec::new();
    Smf { header, tracks: vec![track] }.write_std(&mut bytes).expect("a vector takes everything");
    folder.file(name, bytes)
}

/// The steps of a recording without how they came about: which values sounded for how long, without silence before and after.
fn sounding(steps: &[(u64, f32)]) -> Vec<(u64, f32)> {
    let lengths = steps.windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[0].1));
    lengths.skip_while(|(_, value)| *value == 0.0).collect()
}

/// The messages that a recording says took effect, in order.
fn logged(recording: &Path) -> Vec<[u8; 3]> {
    let text = std::fs::read_to_string(recording).expect("the recording is text");
    let lines = text.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line.split_once(' ')?.1).ok());
    let of_midi = lines.filter(|line| line["what"]["kind"] == "midi").flat_map(|line| line["what"]["messages"].as_array().cloned());
    let bytes = |message: &Value| serde_json::from_value(message["message"].clone()).expect("three bytes");
    of_midi.flatten().map(|message| bytes(&message)).collect()
}

#[test]
fn a_bounce_hears_every_note_of_a_file_in_its_block() {
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    let notes = [(0, 300, 60), (1_280, 1_407, 61), (1_408, 20_000, 62), (20_001, 30_000, 63)];
    let file = file_of_notes(&folder, "tune.mid", &notes);
    let wav = folder.path().join("tune.wav");
    succeed(&folder, &["bounce", text(&program), "--midi-in", text(&file), "--seconds", "1", "-o", text(&wav)]);
    let block = |frame: u64| frame / BLOCK_FRAMES * BLOCK_FRAMES;
    let expected = [
        (0, level(60)),
        (block(300), 0.0),
        (1_280, level(61)),
        // In this block the note ends; the next one begins in the next.
        (1_408, level(62)),
        (block(20_000), level(63)),
        (block(30_000), 0.0),
    ];
    // 1,407 lies in the block that 61 begins in, so that it is never heard.
    let expected: Vec<(u64, f32)> = expected.into_iter().filter(|(frame, _)| *frame != 1_280).collect();
    assert_eq!(steps(&wav), expected);
}

#[test]
fn a_flood_in_a_file_is_taken_in_whole_when_it_is_bounced() {
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    // More requests than a host takes at a time, and more messages in a block than one request has.
    let notes: Vec<(u64, u64, u8)> = (0..3_000).map(|n| (n * 128, n * 128 + 64, 1)).chain((0..1_000).map(|_| (6_400, 6_401, 2))).collect();
    let file = file_of_notes(&folder, "flood.mid", &notes);
    let wav = folder.path().join("flood.wav");
    succeed(&folder, &["bounce", text(&program), "--midi-in", text(&file), "--seconds", "9", "-o", text(&wav)]);
    assert_eq!(steps(&wav), [(0, 0.0)], "every note ends in the block that it begins in");
}

#[test]
fn a_recorded_performance_is_replayed_to_the_same_samples_although_the_host_was_killed_in_it() {
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    let notes: Vec<(u64, u64, u8)> = (0..60).map(|n| (n * 2_400, n * 2_400 + 1_300, 40 + n as u8)).collect();
    let file = file_of_notes(&folder, "tune.mid", &notes);
    let (wav, log, again) = (folder.path().join("take.wav"), folder.path().join("take.continuo"), folder.path().join("again.wav"));
    let arguments = ["--device", "null", "--seconds", "4", "--midi-in", text(&file), "--wav", text(&wav), text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[]);
    playing.wait_for("sounding");
    succeed(&folder, &["record", text(&log)]);
    for _ in 0..3 {
        playing.kill_host("synth");
    }
    assert_eq!(playing.wait(), Some(0));
    let first = succeed(&folder, &["replay", text(&log), "-o", text(&again)]);
    let replayed = sounding(&steps(&again));
    let played: Vec<[u8; 3]> = (0..60).flat_map(|n| [[0x90, 40 + n, 100], [0x80, 40 + n, 0]]).collect();
    assert_eq!(logged(&log), played, "every message took effect once, in order");
    let heard = sounding(&steps(&wav));
    // A gap in what was heard is a takeover that came too late; the program has played the same all the same.
    let gaps = playing.seen().iter().filter(|event| event["event"] == "hostReady").any(|event| event["gapBlocks"] != 0);
    // So is what was not there in time, on a machine that is late.
    let missed = missed_so_far(&playing).values().any(|missed| *missed > 0);
    assert!(gaps || missed || heard == replayed, "{heard:?}\n{replayed:?}");
    std::fs::remove_file(&again).expect("it was written");
    assert_eq!(succeed(&folder, &["replay", text(&log), "-o", text(&again)]), first, "the same recording gives the same bytes");
}

/// What comes in goes out one note higher.
const THRU: &str = "8f4e/v1
constants env
; @config runtime WebWorkerMIDIRuntime
; @config midiRuntime.sampleRate 200
constantsEnd
entry main
module thru
; ~midiNoteInput gateIn noteIn channel velocity port
; ~midiNoteOutput gateOut noteOut channel velocity
; ~midiCCInput selected value
; ~midiCCOutput selected value
int gateIn
int noteIn
int channel 1
int velocity
int port 2
int gateOut
int noteOut
int selected 7
int value
push &gateOut
push gateIn
store
push &noteOut
push noteIn
push 1
add
store
moduleEnd
entryEnd
";

#[test]
fn a_midi_program_hears_the_notes_of_its_port_and_sends_what_it_makes_of_them() {
    let folder = Folder::new();
    let program = folder.file("thru.8f4e", THRU);
    // Long notes: of one that began and ended within a cycle, because the machine was busy, nothing would be sent.
    let notes: Vec<(u64, u64, u8)> = (0..8).map(|n| (n * 19_200, n * 19_200 + 9_600, 40 + n as u8)).collect();
    let other = file_of_notes(&folder, "other.mid", &[(0, 90_000, 1)]);
    let file = file_of_notes(&folder, "tune.mid", &notes);
    let wav = folder.path().join("take.wav");
    let ports = ["--midi-in", text(&other), "--midi-in", text(&file)];
    let arguments = ["--device", "null", "--seconds", "5", "--wav", text(&wav), text(&program)];
    let mut playing = Playing::start(&folder, &[&ports[..], &arguments].concat(), &[]);
    assert_eq!(playing.wait(), Some(0));
    let bytes = std::fs::read(wav.with_extension("mid")).expect("what is sent is written beside the recording");
    let smf = Smf::parse(&bytes).expect("it is a MIDI file");
    let sent = smf.tracks[0].iter().filter_map(|event| match event.kind {
        TrackEventKind::Midi { message: MidiMessage::NoteOn { key, vel }, .. } => Some((true, key.as_int(), vel.as_int())),
        TrackEventKind::Midi { message: MidiMessage::NoteOff { key, .. }, .. } => Some((false, key.as_int(), 0)),
        _ => None,
    });
    let expected: Vec<(bool, u8, u8)> = (0..8).flat_map(|n| [(true, 41 + n, 100), (false, 41 + n, 0)]).collect();
    assert_eq!(sent.collect::<Vec<_>>(), expected);
}

/// The messages of a MIDI file, with their times if these are to count.
fn messages(file: &Path) -> Vec<(u64, MidiMessage)> {
    let bytes = std::fs::read(file).expect("the file was written");
    let smf = Smf::parse(&bytes).expect("it is a MIDI file");
    let mut at = 0;
    let timed = smf.tracks[0].iter().filter_map(|event| {
        at += u64::from(event.delta.as_int());
        if let TrackEventKind::Midi { message, .. } = event.kind { Some((at, message)) } else { None }
    });
    timed.collect()
}

#[test]
fn what_a_midi_runtime_sent_replays_to_the_same_bytes_although_its_host_was_killed_in_it() {
    let folder = Folder::new();
    let program = folder.file("thru.8f4e", THRU);
    let notes: Vec<(u64, u64, u8)> = (0..8).map(|n| (n * 19_200, n * 19_200 + 9_600, 40 + n as u8)).collect();
    let (other, file) = (file_of_notes(&folder, "other.mid", &[(0, 90_000, 1)]), file_of_notes(&folder, "tune.mid", &notes));
    let (wav, log, again) = (folder.path().join("take.wav"), folder.path().join("take.continuo"), folder.path().join("again.mid"));
    let ports = ["--midi-in", text(&other), "--midi-in", text(&file)];
    let arguments = ["--device", "null", "--seconds", "5", "--wav", text(&wav), text(&program)];
    let mut playing = Playing::start(&folder, &[&ports[..], &arguments].concat(), &[]);
    playing.wait_for("runtimeStarted");
    succeed(&folder, &["record", text(&log)]);
    for _ in 0..2 {
        playing.kill_host("thru");
    }
    assert_eq!(playing.wait(), Some(0));
    let replay = || {
        let said = succeed(&folder, &["replay", text(&log), "--midi", text(&again), "--dump", "noteOut", "--json"]);
        (said, std::fs::read(&again).expect("the file was written"))
    };
    let first = replay();
    assert_eq!(replay(), first, "the same recording gives the same bytes");
    let said: Value = serde_json::from_str(&first.0).expect("JSON");
    // The notes, and the controller that is sent once.
    assert_eq!((said["messages"].as_u64(), &said["items"]["thru:noteOut"]), (Some(17), &serde_json::json!(48)), "{said}");
    // Ticks that a takeover lost stand in the one and not in the other: a replay knows ticks and no clock.
    let (played, replayed) = (messages(&wav.with_extension("mid")), messages(&again));
    let untimed = |messages: &[(u64, MidiMessage)]| messages.iter().map(|(_, message)| *message).collect::<Vec<_>>();
    assert_eq!(untimed(&replayed), untimed(&played));
    assert!(replayed.iter().all(|(at, _)| at % 240 == 0), "each at a tick of 200 a second: {replayed:?}");
    let refused = run(&folder, &["replay", text(&log), "-o", text(&wav)]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("`thru` has no sound"), "{refused:?}");
}

/// Sends notes until the program has heard of one, so that its port is known to be connected.
fn await_connection(folder: &Folder, sender: &mut Sender) {
    await_that("the port is connected", || {
        sender.send(&[(0, vec![0x80, 1, 0])]);
        sender.hear("sent");
        count(folder) > 0.0
    });
}

/// How many messages the synthesiser has had.
fn count(folder: &Folder) -> f64 {
    number(folder, "synth", "m:count")
}

#[test]
fn notes_of_an_independent_client_are_heard_in_the_right_blocks() {
    let Some(server) = JackServer::start() else { return };
    for take in 0..TAKES {
        match hear_notes_of_a_client(&server) {
            Ok(()) => return,
            Err(late) => println!("take {take}: {late}"),
        }
    }
    panic!("in {TAKES} takes the machine was late");
}

/// Plays a hundred notes, and demands that each is in its block, but for those that are told to be late. Fails where the machine
/// has made many of them late.
fn hear_notes_of_a_client(server: &JackServer) -> Result<(), String> {
    let folder = Folder::new();
    let (program, wav) = (folder.file("synth.8f4e", synth()), folder.path().join("take.wav"));
    let mut sender = Sender::start(server, "Keystation 49");
    let arguments = ["--device", "jack", "--midi-in", "keystation", "--wav", text(&wav), text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    await_connection(&folder, &mut sender);
    let spacing = 15 * BLOCK_FRAMES;
    let messages: Vec<(u64, Vec<u8>)> = (0..100).map(|n| (spacing, vec![0x90, 20 + n, 100])).collect();
    sender.send(&messages);
    sender.hear("sent");
    // An end that is known long after the last note.
    sender.send(&[(20_000, vec![0x80, 119, 0])]);
    sender.hear("sent");
    await_that("all of it is recorded", || steps(&wav).last().is_some_and(|(_, value)| *value == 0.0) && steps(&wav).len() >= 3);
    let status = answer(&folder, &["status"]);
    let (late, xruns) = (status["midi"]["late"].as_u64(), status["device"]["xruns"].as_u64());
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    let steps = steps(&wav);
    assert!(steps.iter().all(|(frame, _)| frame % BLOCK_FRAMES == 0), "{steps:?}");
    let frame_of = |n: u64| steps.iter().find(|(_, value)| *value == level(20 + n as u8)).map(|(frame, _)| *frame);
    let frames: Vec<Option<u64>> = (0..100).map(frame_of).collect();
    assert!(frames.iter().flatten().is_sorted(), "{steps:?}");
    // Where most of them say that the first one is.
    let begins: Vec<u64> = (0..).zip(&frames).filter_map(|(n, frame)| frame.map(|frame: u64| frame.saturating_sub(n * spacing))).collect();
    let begin = begins.iter().max_by_key(|begin| begins.iter().filter(|other| other == begin).count()).expect("notes are heard");
    let is_displaced = |(n, frame): &(u64, &Option<u64>)| frame.is_none_or(|frame| frame.abs_diff(begin + n * spacing) > BLOCK_FRAMES);
    let displaced = (0..).zip(&frames).filter(is_displaced).count();
    let said = format!("{displaced} of 100 notes are not in their blocks: {steps:?}");
    assert!(displaced == 0 || late > Some(0) || xruns > Some(0), "{said}");
    if displaced < 10 { Ok(()) } else { Err(said) }
}

#[test]
fn an_instrument_that_is_unplugged_and_comes_back_is_heard_again() {
    let Some(server) = JackServer::start_with_patience(300) else { return };
    let folder = Folder::new();
    let program = folder.file("synth.8f4e", synth());
    let arguments = ["--device", "jack", "--midi-in", "keys", text(&program)];
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    for _ in 0..2 {
        let before = count(&folder);
        let mut sender = Sender::start(&server, "Keys");
        await_that("the port is connected", || {
            sender.send(&[(0, vec![0x90, 1, 1])]);
            sender.hear("sent");
            count(&folder) > before
        });
    }
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
}

#[test]
fn a_hundred_thousand_bytes_of_noise_crash_nothing_and_leave_no_note_hanging() {
    let Some(server) = JackServer::start() else { return };
    let folder = Folder::new();
    let (program, thru, wav) = (folder.file("synth.8f4e", synth()), folder.file("thru.8f4e", THRU), folder.path().join("take.wav"));
    let mut sender = Sender::start(&server, "Noise");
    // The synthesiser hears the first port, the midi program the second one.
    let ports = ["--midi-in", "noise", "--midi-in", "noise"];
    let arguments = [&["--device", "jack", "--wav", text(&wav)], &ports[..], &[text(&program), text(&thru)]].concat();
    let mut playing = Playing::start(&folder, &arguments, &[("JACK_DEFAULT_SERVER", server.name())]);
    playing.wait_for("sounding");
    await_connection(&folder, &mut sender);
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut bytes = 0;
    while bytes < 100_000 {
        let messages: Vec<(u64, Vec<u8>)> = (0..200)
            .map(|_| {
                let word = noise().to_le_bytes();
                let length = 1 + usize::from(word[7] % 7);
                bytes += length;
                (u64::from(word[6] % 4), word[..length].to_vec())
            })
            .collect();
        sender.send(&messages);
        sender.hear("sent");
    }
    let mut end = vec![(0, vec![0x90, 5, 9])];
    end.extend((0..16).map(|channel| (0, vec![0x80 | channel, 5, 0])));
    sender.send(&end);
    sender.hear("sent");
    await_that("no note hangs", || number(&folder, "synth", "m:level") == 0.0);
    let status = answer(&folder, &["status"]);
    assert!(status["midi"]["received"].as_u64() > Some(1_000) && status["midi"]["malformed"].as_u64() > Some(1_000), "{status}");
    assert!(!playing.seen().iter().any(|event| event["event"] == "died"));
    playing.signal(Signal::INT);
    assert_eq!(playing.wait(), Some(0));
    let bytes = std::fs::read(wav.with_extension("mid")).expect("what is sent is written beside the recording");
    let (mut begun, mut sounding) = (0, BTreeSet::new());
    for event in &Smf::parse(&bytes).expect("it is a MIDI file").tracks[0] {
        match event.kind {
            TrackEventKind::Midi { channel, message: MidiMessage::NoteOn { key, .. } } => {
                begun += 1;
                sounding.insert((channel, key));
            }
            TrackEventKind::Midi { channel, message: MidiMessage::NoteOff { key, .. } } => drop(sounding.remove(&(channel, key))),
            _ => {}
        }
    }
    assert!(begun > 0 && sounding.is_empty(), "of {begun} notes that were sent these hang: {sounding:?}");
}
