//! Standard MIDI Files as a source of messages: what is in them, by the time it is due. Not for real-time threads.
//!
//! All tracks are played together, with the tempo that any of them sets. What is no message of a channel is left out.

use std::path::{Path, PathBuf};

use ipc::midi::Message;
use midly::{Format, MetaMessage, Smf, Timing, TrackEventKind};

/// Largest file in bytes: more than a day of the densest music.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Tempo before any is set, in microseconds a quarter note.
const USUAL_QUARTER_US: u32 = 500_000;
const SECOND_US: u128 = 1_000_000;
/// Units of time in a second: every usual sample rate divides it, so that no frame is missed by rounding.
const SECOND_FLICKS: u128 = 705_600_000;

/// Why a file is not played.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than the {MAX_FILE_BYTES} bytes that a MIDI file may have", .0.display())]
    TooLarge(PathBuf),
    #[error("{} is no Standard MIDI File: {reason}", path.display())]
    NotMidi { path: PathBuf, reason: String },
    #[error("{} has several pieces (format 2); write the one that is meant into a file of its own", .0.display())]
    Pieces(PathBuf),
}

/// The messages of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// In the order in which they are due.
    pub messages: Vec<(Moment, Message)>,
}

/// A time from the beginning of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    flicks: u64,
}

impl Moment {
    /// The frame, or the tick, that goes on then at so many a second.
    pub fn at_rate(self, rate_hz: u32) -> u64 {
        let number = u128::from(self.flicks) * u128::from(rate_hz) / SECOND_FLICKS;
        u64::try_from(number).unwrap_or(u64::MAX)
    }
}

/// Whether the name of an input port is that of a file.
pub fn is_file(name: &str) -> bool {
    let ending = Path::new(name).extension().map(|ending| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ending == "mid" || ending == "midi")
}

impl Score {
    pub fn read(path: &Path) -> Result<Self, ScoreError> {
        let failed = |source| ScoreError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
            return Err(ScoreError::TooLarge(path.to_owned()));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        let smf = Smf::parse(&bytes).map_err(|error| ScoreError::NotMidi { path: path.to_owned(), reason: error.to_string() })?;
        if smf.header.format == Format::Sequential && smf.tracks.len() > 1 {
            return Err(ScoreError::Pieces(path.to_owned()));
        }
        Ok(Self::of(&smf))
    }

    fn of(smf: &Smf<'_>) -> Self {
        let mut events = Vec::new();
        for track in &smf.tracks {
            let mut tick = 0u64;
            for event in track {
                tick += u64::from(event.delta.as_int());
                events.push((tick, event.kind));
            }
        }
        // Those of one tick stay in the order of the tracks; a tempo counts for what comes after it.
        events.sort_by_key(|(tick, _)| *tick);
        let mut time = Time::new(smf.header.timing);
        let mut score = Self::default();
        for (tick, kind) in events {
            match kind {
                TrackEventKind::Meta(MetaMessage::Tempo(quarter_us)) => time.set_tempo(tick, quarter_us.as_int()),
                TrackEventKind::Midi { channel, message } => {
                    let mut bytes = Vec::with_capacity(3);
                    let written = midly::live::LiveEvent::Midi { channel, message }.write_std(&mut bytes);
                    bytes.resize(3, 0);
                    if let (Ok(()), &[status, first, second]) = (written, &bytes[..]) {
                        score.messages.push((time.moment(tick), [status, first, second]));
                    }
                }
                TrackEventKind::Meta(_) | TrackEventKind::SysEx(_) | TrackEventKind::Escape(_) => {}
            }
        }
        score
    }
}

/// From ticks to moments. Time is kept as a whole number of microseconds times ticks of a quarter note, so that nothing is
/// rounded but moments.
struct Time {
    /// What a tick's time is divided by.
    ticks_per_quarter: u128,
    quarter_us: u128,
    /// Up to the last tempo.
    tick: u64,
    elapsed: u128,
    is_fixed: bool,
}

impl Time {
    fn new(timing: Timing) -> Self {
        let (ticks_per_quarter, quarter_us, is_fixed) = match timing {
            Timing::Metrical(ticks) => (u128::from(ticks.as_int().max(1)), u128::from(USUAL_QUARTER_US), false),
            // A second has so many frames, 29.97 being 30000/1001; of each, so many ticks.
            Timing::Timecode(fps, subframes) => {
                let ticks = u128::from(subframes.max(1));
                match fps {
                    midly::Fps::Fps29 => (ticks * 30_000, 1_001 * SECOND_US, true),
                    other => (ticks * u128::from(other.as_int()), SECOND_US, true),
                }
            }
        };
        Self { ticks_per_quarter, quarter_us, tick: 0, elapsed: 0, is_fixed }
    }

    fn elapsed(&self, tick: u64) -> u128 {
        self.elapsed + u128::from(tick - self.tick) * self.quarter_us
    }

    fn set_tempo(&mut self, tick: u64, quarter_us: u32) {
        if !self.is_fixed {
            (self.elapsed, self.tick) = (self.elapsed(tick), tick);
            self.quarter_us = u128::from(quarter_us);
        }
    }

    fn moment(&self, tick: u64) -> Moment {
        let flicks = self.elapsed(tick) * SECOND_FLICKS / (self.ticks_per_quarter * SECOND_US);
        Moment { flicks: u64::try_from(flicks).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use midly::num::{u4, u7, u15, u24, u28};
    use midly::{Fps, Header, MidiMessage, TrackEvent};

    use super::*;

    fn note(delta: u32, key: u8) -> TrackEvent<'static> {
        let message = MidiMessage::NoteOn { key: u7::new(key), vel: u7::new(9) };
        TrackEvent { delta: u28::new(delta), kind: TrackEventKind::Midi { channel: u4::new(2), message } }
    }

    fn tempo(delta: u32, quarter_us: u32) -> TrackEvent<'static> {
        TrackEvent { delta: u28::new(delta), kind: TrackEventKind::Meta(MetaMessage::Tempo(u24::new(quarter_us))) }
    }

    fn frames(score: &Score) -> Vec<(u64, Message)> {
        score.messages.iter().map(|(moment, message)| (moment.at_rate(48_000), *message)).collect()
    }

    #[test]
    fn tracks_are_played_together_at_the_tempo_of_any_of_them() {
        let header = Header { format: Format::Parallel, timing: Timing::Metrical(u15::new(480)) };
        let first = vec![tempo(480, 250_000)];
        let second = vec![note(0, 1), note(480, 2), note(480, 3)];
        let third = vec![note(960, 4)];
        let score = Score::of(&Smf { header, tracks: vec![first, second, third] });
        let on = |key| [0x92, key, 9];
        assert_eq!(frames(&score), [(0, on(1)), (24_000, on(2)), (36_000, on(3)), (36_000, on(4))]);
    }

    #[test]
    fn time_code_has_no_tempo() {
        let header = Header { format: Format::SingleTrack, timing: Timing::Timecode(Fps::Fps25, 40) };
        let score = Score::of(&Smf { header, tracks: vec![vec![tempo(0, 1), note(500, 1)]] });
        assert_eq!(frames(&score), [(24_000, [0x92, 1, 9])]);
    }

    #[test]
    fn a_message_of_two_bytes_has_a_third_that_is_zero() {
        let header = Header { format: Format::SingleTrack, timing: Timing::Metrical(u15::new(1)) };
        let message = MidiMessage::ProgramChange { program: u7::new(7) };
        let event = TrackEvent { delta: u28::new(0), kind: TrackEventKind::Midi { channel: u4::new(0), message } };
        assert_eq!(frames(&Score::of(&Smf { header, tracks: vec![vec![event]] })), [(0, [0xc0, 7, 0])]);
    }

    #[test]
    fn what_is_no_midi_file_is_told_with_its_name() {
        let path = std::env::temp_dir().join(format!("continuo-noise-{}.mid", std::process::id()));
        assert!(Score::read(&path).unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&path, "MThd no").unwrap();
        let error = Score::read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains(".mid is no Standard MIDI File"), "{error}");
        assert!(is_file("take.MID") && is_file("a/b.midi") && !is_file("mid") && !is_file("a.mid:out"));
    }
}
