//! The Standard MIDI File that everything sent is written into. MIDI thread.
//!
//! One track, one file tick for each frame at 48 kHz; the first event is at 0. The file is replaced as a whole, about once a
//! second while there is something new, and at the end: whatever kills the process, the file is readable and at most that
//! much behind. Ports other than the first are told by the port event of the format.

use std::path::PathBuf;

use ipc::midi::{CONTROLLER, MidiEvent, NOTE_OFF, NOTE_ON};
use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, Track, TrackEvent, TrackEventKind};

use super::MidiSink;

/// File ticks in a second: 24,000 in a quarter note of half a second.
const TICKS_PER_SECOND: u64 = 48_000;
const TICKS_PER_QUARTER: u16 = 24_000;
const QUARTER_US: u32 = 500_000;
/// A longer pause is written as several.
const MAX_DELTA: u64 = (1 << 28) - 1;
/// Nanoseconds between two savings.
const SAVE_INTERVAL_NS: u64 = 1_000_000_000;
/// Events that are kept: more than a day of ten notes a second. Later ones are left out.
const MAX_EVENTS: usize = 2_000_000;

/// See the module's documentation.
pub struct MidiFile {
    path: PathBuf,
    track: Track<'static>,
    /// When the first event was due.
    origin_ns: Option<u64>,
    /// File ticks up to the last event.
    ticks: u64,
    port: u8,
    saved_events: usize,
    save_at_ns: u64,
}

impl MidiFile {
    /// A new file, written at once, so that a path which cannot be written is known from the beginning.
    pub fn create(path: PathBuf) -> std::io::Result<Self> {
        let tempo = TrackEventKind::Meta(MetaMessage::Tempo(u24::new(QUARTER_US)));
        let track = vec![TrackEvent { delta: u28::new(0), kind: tempo }];
        let mut file = Self { path, track, origin_ns: None, ticks: 0, port: 1, saved_events: 0, save_at_ns: 0 };
        file.save()?;
        Ok(file)
    }

    fn save(&mut self) -> std::io::Result<()> {
        let header = Header { format: Format::SingleTrack, timing: Timing::Metrical(u15::new(TICKS_PER_QUARTER)) };
        let end = TrackEvent { delta: u28::new(0), kind: TrackEventKind::Meta(MetaMessage::EndOfTrack) };
        self.track.push(end);
        let smf = Smf { header, tracks: vec![std::mem::take(&mut self.track)] };
        let beside = self.path.with_extension("mid.part");
        let saved = smf.save(&beside).and_then(|()| std::fs::rename(&beside, &self.path));
        self.track = smf.tracks.into_iter().next().unwrap_or_default();
        self.track.pop();
        self.saved_events = self.track.len();
        saved
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
        let origin_ns = *self.origin_ns.get_or_insert(event.due_ns);
        let elapsed_ns = u128::from(event.due_ns.saturating_sub(origin_ns));
        let ticks = ((elapsed_ns * u128::from(TICKS_PER_SECOND) + 500_000_000) / 1_000_000_000) as u64;
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

    fn event(due_ns: u64, port: u8, message: [u8; 3]) -> MidiEvent {
        MidiEvent { due_ns, tick: 0, port, message }
    }

    #[test]
    fn every_event_stands_at_the_frame_it_was_due() {
        let path = std::env::temp_dir().join(format!("continuo-midi-file-{}.mid", std::process::id()));
        let mut file = MidiFile::create(path.clone()).unwrap();
        let hour_ns = 3_600_000_000_000;
        file.send(&event(7, 1, [NOTE_ON | 3, 60, 100]));
        file.send(&event(20_000_007, 2, [NOTE_OFF | 3, 60, 0]));
        file.send(&event(2 * hour_ns + 7, 2, [CONTROLLER, 74, 5]));
        file.close();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
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
        assert_eq!(events, [(0, 3, on), (960, 3, off), (2 * 3_600 * TICKS_PER_SECOND, 0, controller)]);
        assert_eq!(smf.header.timing, Timing::Metrical(u15::new(TICKS_PER_QUARTER)));
    }

    #[test]
    fn a_path_that_cannot_be_written_is_known_at_once() {
        assert!(MidiFile::create("/nowhere/at/all.mid".into()).is_err());
    }
}
