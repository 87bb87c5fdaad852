//! MIDI clock that comes in, as musical time: how fast it goes, whether it goes, and where it is (LANGUAGE §20.8).
//!
//! Pure; owned by the MIDI input thread. One port is followed, the first that clocks come from, until it is silent for a while.
//! The tempo is the mean of the last beats: a clock of a busy machine is late by a millisecond now and then, which is nothing
//! in four beats. Where the last beat says something else than those before it, only that one counts.

use ipc::midi::{Received, SONG_POSITION, TIMING_CLOCK, TRANSPORT_CONTINUE, TRANSPORT_START, TRANSPORT_STOP};
use ipc::tempo::{CLOCKS_PER_BEAT, CLOCKS_PER_SIXTEENTH, TEMPO_RANGE_BPM};

/// Clocks in a beat.
const BEAT: usize = CLOCKS_PER_BEAT as usize;
/// Clocks that the mean is made of, and one more.
const REMEMBERED: usize = 4 * BEAT + 1;
/// Clocks before anything is said: a quarter of a beat.
const FEWEST: usize = BEAT / 4 + 1;
/// A longer pause between two clocks is an end, in nanoseconds: at the slowest tempo there are 250 ms between them.
const SILENCE_NS: u64 = 500_000_000;
/// After so long a pause the clock is given up, in nanoseconds: the cable is out, or whoever sent it has ended.
const LOSS_NS: u64 = 2_000_000_000;
/// By how much the last beat may differ from those before it.
const SAME_TEMPO: f64 = 0.02;
/// A tempo is told again when it differs by more.
const TOLD_TEMPO: f64 = 0.005;
const MINUTE_NS: f64 = 60e9;

/// What is known after a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Followed {
    pub at_ns: u64,
    /// `None`: not yet.
    pub bpm: Option<f64>,
    pub is_running: bool,
    /// Position, in clocks.
    pub clocks: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Follower {
    port: Option<u8>,
    /// When the last clocks came.
    times: Vec<u64>,
    is_running: bool,
    /// The position of the next clock.
    clocks: u64,
    told_bpm: Option<f64>,
    /// Clocks since the tempo was told last.
    since: usize,
    /// It has been told that the clock is lost.
    is_given_up: bool,
}

impl Follower {
    /// Takes a message. What it returns is to be told.
    pub fn take(&mut self, at_ns: u64, received: Received) -> Option<Followed> {
        let [status, low, high] = received.message;
        if !matches!(status, TIMING_CLOCK | TRANSPORT_START | TRANSPORT_STOP | TRANSPORT_CONTINUE | SONG_POSITION) {
            return None;
        }
        if status == TIMING_CLOCK && self.is_silent(at_ns) {
            (self.port, self.told_bpm) = (Some(received.port), None);
            self.times.clear();
        }
        if self.port.is_some_and(|port| port != received.port) {
            return None;
        }
        match status {
            TIMING_CLOCK => return self.clock(at_ns),
            TRANSPORT_START => (self.is_running, self.clocks) = (true, 0),
            TRANSPORT_CONTINUE => self.is_running = true,
            TRANSPORT_STOP => self.is_running = false,
            // A position: the only one left.
            _ => self.clocks = u64::from(u16::from(low) | u16::from(high) << 7) * CLOCKS_PER_SIXTEENTH as u64,
        }
        Some(self.told(at_ns))
    }

    /// Whether the clock has been silent for so long that it counts as lost; once for each time.
    pub fn is_newly_lost(&mut self, now_ns: u64) -> bool {
        let is_lost = self.times.last().is_some_and(|last| now_ns.saturating_sub(*last) > LOSS_NS);
        is_lost && !std::mem::replace(&mut self.is_given_up, true)
    }

    fn is_silent(&self, at_ns: u64) -> bool {
        self.times.last().is_none_or(|last| at_ns.saturating_sub(*last) > SILENCE_NS)
    }

    fn clock(&mut self, at_ns: u64) -> Option<Followed> {
        if self.times.len() == REMEMBERED {
            self.times.remove(0);
        }
        self.times.push(at_ns.max(self.times.last().copied().unwrap_or(0)));
        self.since += 1;
        self.is_given_up = false;
        let is_beat = if self.is_running { self.clocks.is_multiple_of(BEAT as u64) } else { self.since >= BEAT };
        let bpm = self.bpm();
        let is_other = match (bpm, self.told_bpm) {
            (Some(bpm), Some(told)) => (bpm - told).abs() > told * TOLD_TEMPO,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let followed = (is_other || (is_beat && bpm.is_some())).then(|| self.told(at_ns));
        self.clocks += u64::from(self.is_running);
        followed
    }

    fn told(&mut self, at_ns: u64) -> Followed {
        self.since = 0;
        self.told_bpm = self.bpm().or(self.told_bpm);
        Followed { at_ns, bpm: self.told_bpm, is_running: self.is_running, clocks: self.clocks }
    }

    /// What the last clocks say.
    fn bpm(&mut self) -> Option<f64> {
        let all = mean(&self.times)?;
        let last = mean(&self.times[self.times.len().saturating_sub(BEAT + 1)..])?;
        if (last - all).abs() <= all * SAME_TEMPO {
            return Some(all);
        }
        self.times.drain(..self.times.len().saturating_sub(BEAT + 1));
        Some(last)
    }
}

/// The tempo of clocks at these times; `None` of too few, and where it is none.
fn mean(times: &[u64]) -> Option<f64> {
    let (first, last) = (times.first()?, times.last()?);
    let intervals = (times.len() - 1) as f64;
    let bpm = intervals * MINUTE_NS / (CLOCKS_PER_BEAT * last.saturating_sub(*first) as f64);
    (times.len() >= FEWEST && TEMPO_RANGE_BPM.contains(&bpm)).then_some(bpm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: u8) -> Received {
        Received { port: 1, message: [status, 0, 0] }
    }

    /// Clocks at a tempo from a time on; returns what is told, and when the next one would come.
    fn clocks(follower: &mut Follower, count: u64, bpm: f64, from_ns: u64) -> (Vec<Followed>, u64) {
        let at = |number: u64| from_ns + (number as f64 * MINUTE_NS / (24.0 * bpm)) as u64;
        ((0..count).filter_map(|number| follower.take(at(number), message(TIMING_CLOCK))).collect(), at(count))
    }

    fn is_near(bpm: Option<f64>, expected: f64) -> bool {
        bpm.is_some_and(|bpm| (bpm - expected).abs() < 0.05)
    }

    #[test]
    fn a_clock_that_is_silent_for_two_seconds_is_lost_once_until_it_is_back() {
        let mut follower = Follower::default();
        assert!(!follower.is_newly_lost(10 * LOSS_NS), "there has been none");
        let (_, end) = clocks(&mut follower, 24, 10.0, LOSS_NS);
        let lost = |follower: &mut Follower, from: u64| {
            (from..from + 3 * LOSS_NS).step_by(1_000_000).filter(|now| follower.is_newly_lost(*now)).count()
        };
        assert!(!follower.is_newly_lost(end + LOSS_NS / 2), "the slowest one is not");
        assert_eq!((lost(&mut follower, end), lost(&mut follower, end)), (1, 0));
        let (told, end) = clocks(&mut follower, 24, 120.0, end + 4 * LOSS_NS);
        assert!(is_near(told.last().and_then(|followed| followed.bpm), 120.0), "{told:?}");
        assert_eq!(lost(&mut follower, end), 1);
    }

    #[test]
    fn a_steady_clock_is_known_after_a_quarter_of_a_beat_and_told_once_a_beat() {
        let mut follower = Follower::default();
        let (told, _) = clocks(&mut follower, 24 * 10 + 7, 133.0, 5_000_000_000);
        assert_eq!(told.len(), 11, "{told:?}");
        assert!(told.iter().all(|followed| is_near(followed.bpm, 133.0) && !followed.is_running), "{told:?}");
    }

    #[test]
    fn jitter_is_averaged_and_another_tempo_is_followed_within_a_beat() {
        let mut follower = Follower::default();
        let mut at_ns = 1_000_000_000;
        let mut seed = 7u64;
        let mut last = None;
        for _ in 0..960 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Up to 2 ms late.
            last = follower.take(at_ns + (seed >> 33) % 2_000_000, message(TIMING_CLOCK)).or(last);
            at_ns += 20_000_000;
        }
        assert!(last.is_some_and(|last| last.bpm.is_some_and(|bpm| (bpm - 125.0).abs() < 1.0)), "{last:?}");
        let (told, _) = clocks(&mut follower, 48, 90.0, at_ns);
        assert!(is_near(told.last().and_then(|followed| followed.bpm), 90.0), "{told:?}");
    }

    #[test]
    fn starting_stopping_and_positions_are_told_with_where_it_is() {
        let mut follower = Follower::default();
        let (_, now_ns) = clocks(&mut follower, 24, 120.0, 1_000_000_000);
        let started = follower.take(now_ns, message(TRANSPORT_START)).unwrap();
        assert_eq!((started.is_running, started.clocks), (true, 0));
        let (told, now_ns) = clocks(&mut follower, 49, 120.0, now_ns);
        assert_eq!(told.iter().map(|followed| followed.clocks).collect::<Vec<_>>(), [0, 24, 48]);
        let stopped = follower.take(now_ns, message(TRANSPORT_STOP)).unwrap();
        assert_eq!((stopped.is_running, stopped.clocks), (false, 49));
        let (_, now_ns) = clocks(&mut follower, 24, 120.0, now_ns);
        let moved = follower.take(now_ns, Received { port: 1, message: [SONG_POSITION, 3, 1] }).unwrap();
        assert_eq!((moved.is_running, moved.clocks), (false, (128 + 3) * 6));
        let goes_on = follower.take(now_ns, message(TRANSPORT_CONTINUE)).unwrap();
        assert_eq!((goes_on.is_running, goes_on.clocks), (true, (128 + 3) * 6));
    }

    #[test]
    fn one_port_is_followed_until_it_is_silent() {
        let mut follower = Follower::default();
        let (_, now_ns) = clocks(&mut follower, 48, 120.0, 1_000_000_000);
        let other = |status| Received { port: 2, message: [status, 0, 0] };
        assert_eq!(follower.take(now_ns, other(TRANSPORT_START)), None);
        assert!((0..100).all(|number| follower.take(now_ns + number * 1_000_000, other(TIMING_CLOCK)).is_none()));
        let later_ns = now_ns + 2 * SILENCE_NS;
        let heard = (0..30).filter_map(|number| follower.take(later_ns + number * 25_000_000, other(TIMING_CLOCK))).last();
        assert!(is_near(heard.and_then(|followed| followed.bpm), 100.0), "{heard:?}");
    }

    #[test]
    fn any_messages_at_any_times_are_a_tempo_that_can_be_or_none() {
        let mut follower = Follower::default();
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        let mut at_ns = 0;
        for _ in 0..100_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            at_ns += seed % 40_000_000;
            let status = [TIMING_CLOCK, TIMING_CLOCK, TRANSPORT_START, TRANSPORT_STOP, TRANSPORT_CONTINUE, SONG_POSITION, 0x90]
                [(seed >> 40) as usize % 7];
            let received =
                Received { port: 1 + (seed >> 60) as u8 % 2, message: [status, (seed >> 8) as u8 & 0x7f, (seed >> 16) as u8 & 0x7f] };
            if let Some(followed) = follower.take(at_ns, received) {
                assert!(followed.bpm.is_none_or(|bpm| TEMPO_RANGE_BPM.contains(&bpm)), "{followed:?}");
            }
        }
    }
}
