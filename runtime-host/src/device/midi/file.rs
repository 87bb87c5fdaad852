//! The Standard MIDI File that everything sent is written into. MIDI thread.
//!
//! One track, one file tick for each frame at 48 kHz. Beside a recording it begins where that does: an event stands where what
//! sounds with it is recorded, to a period of the device, and from one event to the next exactly. A file of its own begins with
//! its first event. The file is replaced as a whole, about once a second while there is something new, and at the end: whatever
//! kills the process, the file is readable and at most that much behind. Ports other than the first are told by the port event
//! of the format.
//!
//! A file that nobody has asked for by name takes the place of no other one.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use ipc::midi::{CONTROLLER, MidiEvent, NOTE_OFF, NOTE_ON};
use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, Track, TrackEvent, TrackEventKind};

use super::{LATENCY_NS, MidiSink, SessionTime};
use crate::realtime::monotonic_ns_rt;

/// File ticks in a second: 24,000 in a quarter note of half a second.
const TICKS_PER_SECOND: u64 = 48_000;
const TICKS_PER_QUARTER: u16 = 24_000;
const QUARTER_US: u32 = 500_000;
/// A longer pause is written as several.
const MAX_DELTA: u64 = (1 << 28) - 1;
/// How many names are tried where one is taken.
const MAX_NAMES: u32 = 10_000;
/// Nanoseconds between two savings.
const SAVE_INTERVAL_NS: u64 = 1_000_000_000;
/// Events that are kept: more than a day of ten notes a second. Later ones are left out.
const MAX_EVENTS: usize = 2_000_000;

/// See the module's documentation.
pub struct MidiFile {
    path: PathBuf,
    track: Track<'static>,
    /// The session clock, and the frame at which the file begins. Without them that is the first event's.
    session: Option<(SessionTime, u64)>,
    /// The first event: when it was due, and at which file tick it stands.
    origin: Option<(u64, u64)>,
    /// File ticks up to the last event.
    ticks: u64,
    port: u8,
    saved_events: usize,
    save_at_ns: u64,
}

impl MidiFile {
    /// A new file in the place of whatever is there, written at once, so that a path which cannot be written is known from the
    /// beginning.
    pub fn create(path: PathBuf) -> std::io::Result<Self> {
        Self::new(path, None)
    }

    /// The same beside a recording, which begins at this frame of the session. Where there is a file of this name, it has a
    /// number before its extension.
    pub fn beside_recording(path: &Path, time: SessionTime, first_frame: u64) -> std::io::Result<Self> {
        Self::new(unused(path)?, Some((time, first_frame)))
    }

    fn new(path: PathBuf, session: Option<(SessionTime, u64)>) -> std::io::Result<Self> {
        let tempo = TrackEventKind::Meta(MetaMessage::Tempo(u24::new(QUARTER_US)));
        let track = vec![TrackEvent { delta: u28::new(0), kind: tempo }];
        let mut file = Self { path, track, session, origin: None, ticks: 0, port: 1, saved_events: 0, save_at_ns: 0 };
        file.save()?;
        Ok(file)
    }

    fn save(&mut self) -> std::io::Result<()> {
        let header = Header { format: Format::SingleTrack, timing: Timing::Metrical(u15::new(TICKS_PER_QUARTER)) };
        let end = TrackEvent { delta: u28::new(0), kind: TrackEventKind::Meta(MetaMessage::EndOfTrack) };
        self.track.push(end);
        let smf = Smf { header, tracks: vec![std::mem::take(&mut self.track)] };
        let beside = self.path.with_extension("mid.part");
        let saved = write(&smf, &beside).and_then(|()| std::fs::rename(&beside, &self.path));
        self.track = smf.tracks.into_iter().next().unwrap_or_default();
        self.track.pop();
        self.saved_events = self.track.len();
        saved
    }

    /// The file tick at which what is due at this time is heard, as far as the device has told.
    fn ticks_now(&self, due_ns: u64, now_ns: u64) -> u64 {
        let Some((time, first_frame)) = &self.session else { return 0 };
        let frames = time.counters.frames.load(Relaxed).saturating_sub(*first_frame);
        let ticks = u128::from(frames) * u128::from(TICKS_PER_SECOND) / u128::from(time.sample_rate_hz.max(1));
        let heard_ns = due_ns.saturating_add(LATENCY_NS);
        (ticks as u64 + ticks_in(heard_ns.saturating_sub(now_ns))).saturating_sub(ticks_in(now_ns.saturating_sub(heard_ns)))
    }

    /// Puts an event at its place in time.
    fn push(&mut self, ticks: u64, kind: TrackEventKind<'static>) {
        let mut delta = ticks.saturating_sub(self.ticks);
        self.ticks = self.ticks.max(ticks);
        while delta > MAX_DELTA {
            let nothing = TrackEventKind::Meta(MetaMessage::Text(b""));
            self.track.push(TrackEvent { delta: u28::new(MAX_DELTA as u32), kind: nothing });
            delta -= MAX_DELTA;
        }
        self.track.push(TrackEvent { delta: u28::new(delta as u32), kind });
    }
}

impl MidiSink for MidiFile {
    fn send(&mut self, event: &MidiEvent) {
        let Some(message) = message_of(event) else { return };
        if self.track.len() >= MAX_EVENTS {
            return;
        }
        let (origin_ns, origin) = match self.origin {
            Some(origin) => origin,
            None => *self.origin.insert((event.due_ns, self.ticks_now(event.due_ns, monotonic_ns_rt()))),
        };
        let ticks = origin + ticks_in(event.due_ns.saturating_sub(origin_ns));
        if event.port != self.port {
            self.port = event.port;
            self.push(ticks, TrackEventKind::Meta(MetaMessage::MidiPort(u7::new((event.port - 1) & 0x7f))));
        }
        let channel = u4::new(event.message[0] & 0x0f);
        self.push(ticks, TrackEventKind::Midi { channel, message });
    }

    fn look(&mut self, now_ns: u64) {
        if self.track.len() > self.saved_events && now_ns >= self.save_at_ns {
            self.save_at_ns = now_ns + SAVE_INTERVAL_NS;
            // A disk that is full now may have room at the next try; what is kept is not lost by it.
            let _ = self.save();
        }
    }

    fn close(&mut self) {
        let _ = self.save();
    }
}

fn ticks_in(duration_ns: u64) -> u64 {
    ((u128::from(duration_ns) * u128::from(TICKS_PER_SECOND) + 500_000_000) / 1_000_000_000) as u64
}

/// The path, or if that is taken the first of `NAME.2.mid`, `NAME.3.mid` and so on that is not; reserved by an empty file.
fn unused(path: &Path) -> std::io::Result<PathBuf> {
    let named = |number| if number == 1 { path.to_owned() } else { path.with_extension(format!("{number}.mid")) };
    let mut taken = None;
    for name in (1..MAX_NAMES).map(named) {
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(_) => return Ok(name),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => taken = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(taken.unwrap_or_else(|| std::io::ErrorKind::AlreadyExists.into()))
}

/// Writes a new file. What is left there from before is no file to write into: it may be a pipe.
fn write(smf: &Smf, path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = BufWriter::new(File::create_new(path)?);
    smf.write_std(&mut file)?;
    file.flush()
}

fn message_of(event: &MidiEvent) -> Option<MidiMessage> {
    let [status, first, second] = event.message;
    let (first, second) = (u7::new(first), u7::new(second));
    Some(match status & 0xf0 {
        NOTE_OFF => MidiMessage::NoteOff { key: first, vel: second },
        NOTE_ON => MidiMessage::NoteOn { key: first, vel: second },
        CONTROLLER => MidiMessage::Controller { controller: first, value: second },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many frames have been given to the device.
    fn session_time(frames: u64) -> SessionTime {
        let time = SessionTime { sample_rate_hz: 48_000, counters: std::sync::Arc::default() };
        time.counters.frames.store(frames, Relaxed);
        time
    }

    fn event(due_ns: u64, port: u8, message: [u8; 3]) -> MidiEvent {
        MidiEvent { due_ns, tick: 0, port, message }
    }

    #[test]
    fn every_event_stands_at_the_frame_it_was_due() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take.mid");
        let time = session_time(100_000);
        let mut file = MidiFile::beside_recording(&path, time, 52_000).unwrap();
        let hour_ns = 3_600_000_000_000;
        // As much in the past as what is due is heard later: it is heard now.
        let due_ns = monotonic_ns_rt() - LATENCY_NS;
        file.send(&event(due_ns, 1, [NOTE_ON | 3, 60, 100]));
        file.send(&event(due_ns + 20_000_000, 2, [NOTE_OFF | 3, 60, 0]));
        file.send(&event(due_ns + 2 * hour_ns, 2, [CONTROLLER, 74, 5]));
        file.close();
        let bytes = std::fs::read(&path).unwrap();
        let smf = Smf::parse(&bytes).unwrap();
        let mut at = 0;
        let mut events = Vec::new();
        for event in &smf.tracks[0] {
            at += u64::from(event.delta.as_int());
            if let TrackEventKind::Midi { channel, message } = event.kind {
                events.push((at, channel.as_int(), message));
            }
        }
        let key = u7::new(60);
        let on = MidiMessage::NoteOn { key, vel: u7::new(100) };
        let controller = MidiMessage::Controller { controller: u7::new(74), value: u7::new(5) };
        let off = MidiMessage::NoteOff { key, vel: u7::new(0) };
        let first = events[0].0;
        assert!(first <= 48_000 && first > 24_000, "a frame that the device had had, but for how slow this machine was: {first}");
        assert_eq!(events, [(first, 3, on), (first + 960, 3, off), (first + 2 * 3_600 * TICKS_PER_SECOND, 0, controller)]);
        assert_eq!(smf.header.timing, Timing::Metrical(u15::new(TICKS_PER_QUARTER)));
    }

    #[test]
    fn a_path_that_cannot_be_written_is_known_at_once() {
        assert!(MidiFile::create("/nowhere/at/all.mid".into()).is_err());
        assert!(MidiFile::beside_recording(Path::new("/nowhere/at/all.mid"), session_time(0), 0).is_err());
    }

    #[test]
    fn beside_a_recording_it_takes_the_place_of_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("song.mid");
        std::fs::write(&path, "precious").unwrap();
        std::fs::write(folder.path().join("song.2.mid"), "as well").unwrap();
        let mut file = MidiFile::beside_recording(&path, session_time(0), 0).unwrap();
        file.send(&event(0, 1, [NOTE_ON, 60, 1]));
        file.close();
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert_eq!(std::fs::read(folder.path().join("song.2.mid")).unwrap(), b"as well");
        assert!(Smf::parse(&std::fs::read(folder.path().join("song.3.mid")).unwrap()).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "and nothing else is left");
    }
}
