//! The session's musical time: how fast it goes, whether it goes, and where it is (LANGUAGE §20.8).
//!
//! Positions are counted in MIDI clocks, of which a beat (a quarter note) has 24, from the beginning of the piece. A
//! [`Tempo`] holds from the first frame of a block of the session on, until another one does. Pure arithmetic.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::limits::BLOCK_FRAMES;

/// MIDI clocks in a beat.
pub const CLOCKS_PER_BEAT: f64 = 24.0;

/// MIDI clocks in a sixteenth note, in which MIDI tells a position.
pub const CLOCKS_PER_SIXTEENTH: f64 = 6.0;

/// Tempos that can be asked for and are believed, in beats a minute: from a beat in six seconds to what no ear counts.
pub const TEMPO_RANGE_BPM: RangeInclusive<f64> = 10.0..=999.0;

/// What a session begins with when nobody says otherwise, in beats a minute.
pub const DEFAULT_TEMPO_BPM: f64 = 120.0;

/// Largest position in sixteenth notes, as MIDI can tell it: more than an hour of 120 beats a minute.
pub const MAX_SIXTEENTHS: f64 = 16_383.0;

/// Musical time from a block of the session on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tempo {
    pub block: u64,
    /// Beats a minute.
    pub bpm: f64,
    pub is_running: bool,
    /// Position at the first frame of the block, in MIDI clocks.
    pub clocks: f64,
}

impl Default for Tempo {
    fn default() -> Self {
        Self { block: 0, bpm: DEFAULT_TEMPO_BPM, is_running: false, clocks: 0.0 }
    }
}

impl Tempo {
    /// The frame of the session that it holds from.
    pub fn first_frame(&self) -> u64 {
        self.block.saturating_mul(BLOCK_FRAMES as u64)
    }

    /// MIDI clocks in a frame.
    pub fn clocks_per_frame(&self, sample_rate_hz: u32) -> f64 {
        self.bpm * CLOCKS_PER_BEAT / (60.0 * f64::from(sample_rate_hz.max(1)))
    }

    /// Position at a frame, in MIDI clocks. Before it holds, and while it stands still, it is where it begins.
    pub fn clocks_at(&self, frame: u64, sample_rate_hz: u32) -> f64 {
        let passed = if self.is_running { frame.saturating_sub(self.first_frame()) } else { 0 };
        self.clocks + passed as f64 * self.clocks_per_frame(sample_rate_hz)
    }

    /// Whether it is one that can be: what another process says is checked before it is used.
    pub fn is_sound(&self) -> bool {
        TEMPO_RANGE_BPM.contains(&self.bpm) && self.clocks.is_finite() && self.clocks >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_of_120_a_minute_is_half_a_second() {
        let tempo = Tempo { block: 10, bpm: 120.0, is_running: true, clocks: 6.0 };
        assert_eq!(tempo.clocks_at(1_280 + 24_000, 48_000), 6.0 + 24.0);
        assert_eq!(tempo.clocks_at(0, 48_000), 6.0, "before it holds");
        assert_eq!(Tempo { is_running: false, ..tempo }.clocks_at(48_000, 48_000), 6.0, "it stands still");
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        assert!(Tempo::default().is_sound());
        for bpm in [0.0, -1.0, 1_000.0, f64::NAN, f64::INFINITY] {
            assert!(!Tempo { bpm, ..Tempo::default() }.is_sound(), "{bpm}");
        }
        assert!(!Tempo { clocks: -1.0, ..Tempo::default() }.is_sound());
        assert!(!Tempo { clocks: f64::NAN, ..Tempo::default() }.is_sound());
    }
}
