//! MIDI clock: 24 messages a beat, with start, stop, continue and song position, to every output port (LANGUAGE §20.8).
//!
//! Owned by the MIDI thread. Musical time lies on the frames of the session, as audio programs count it, so the clock neither
//! drifts from them nor jumps with a busy machine: every message is stamped with the time of its frame and sent a constant
//! distance later, in the cycle in which the device is given that frame. While the transport stands still, clocks go on, so
//! that whoever follows knows the tempo before it starts.

use std::collections::VecDeque;

use ipc::midi::{MidiEvent, SONG_POSITION, TIMING_CLOCK, TRANSPORT_CONTINUE, TRANSPORT_START, TRANSPORT_STOP};
use ipc::tempo::{CLOCKS_PER_SIXTEENTH, MAX_SIXTEENTHS, Tempo};

use super::LATENCY_NS;
use super::input::PORTS;
use super::input::clock::CountClock;

/// Tempos that wait for their block; of more, the last counts.
const MAX_WAITING: usize = 64;

/// How much is made up for after a pause, in parts of a second: what is later than this is left out, as one flood of clocks
/// would be taken for a mad tempo.
const MADE_UP_PARTS: u64 = 4;

/// Positions that differ by less are the same one, in clocks.
const SAME_CLOCKS: f64 = 0.5;

/// See the module's documentation.
pub struct ClockOut {
    session: CountClock,
    sample_rate_hz: u32,
    /// What holds; `None` before the first.
    tempo: Option<Tempo>,
    waiting: VecDeque<Tempo>,
    /// Frames up to here have their clocks.
    done: u64,
}

impl ClockOut {
    pub fn new(sample_rate_hz: u32) -> Self {
        let session = CountClock::of_session(sample_rate_hz);
        Self { session, sample_rate_hz: sample_rate_hz.max(1), tempo: None, waiting: VecDeque::new(), done: 0 }
    }

    /// Another tempo, from its block on, or at once where that has passed. It replaces what was to hold later.
    pub fn take(&mut self, tempo: Tempo) {
        if !tempo.is_sound() {
            return;
        }
        self.waiting.retain(|other| other.block < tempo.block);
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(tempo);
    }

    /// Whether clocks are to be sent.
    pub fn runs(&self) -> bool {
        self.tempo.is_some() || !self.waiting.is_empty()
    }

    /// What is to be sent by now, when so many frames had been given to the device at `now_ns`.
    pub fn look(&mut self, frames: u64, now_ns: u64, mut send: impl FnMut(MidiEvent)) {
        self.session.observe(frames, now_ns);
        if frames == 0 || !self.runs() {
            return;
        }
        let horizon = self.session.count_at(now_ns.saturating_add(LATENCY_NS));
        let made_up = u64::from(self.sample_rate_hz) / MADE_UP_PARTS;
        self.done = self.done.max(horizon.saturating_sub(made_up));
        while let Some(next) = self.waiting.front().copied().filter(|next| next.first_frame() < horizon) {
            self.waiting.pop_front();
            let from = next.first_frame().max(self.done);
            self.send_clocks(from, &mut send);
            self.turn(next, from, &mut send);
        }
        self.send_clocks(horizon, &mut send);
    }

    /// Sends the clocks of all frames before `until`.
    fn send_clocks(&mut self, until: u64, send: &mut impl FnMut(MidiEvent)) {
        let from = self.done;
        self.done = self.done.max(until);
        let Some(tempo) = self.tempo else { return };
        let per_frame = tempo.clocks_per_frame(self.sample_rate_hz);
        let first = tempo.first_frame();
        // Clocks go on while the transport stands still, so this is not the position.
        let place = |frame: u64| tempo.clocks + frame.saturating_sub(first) as f64 * per_frame;
        // From before the first one that can be due, so that none is lost to rounding.
        let mut clock = (place(from).floor() - 1.0).max(tempo.clocks.ceil());
        loop {
            let frame = first + ((clock - tempo.clocks) / per_frame).ceil().max(0.0) as u64;
            if frame >= until {
                return;
            }
            if frame >= from {
                self.send(frame, [TIMING_CLOCK, 0, 0], send);
            }
            clock += 1.0;
        }
    }

    /// Another tempo holds from this frame on: tells what is other about it, but for the tempo itself.
    fn turn(&mut self, next: Tempo, frame: u64, send: &mut impl FnMut(MidiEvent)) {
        let was = self.tempo.replace(next).unwrap_or(Tempo { clocks: 0.0, is_running: false, ..next });
        let jumps = (was.clocks_at(frame, self.sample_rate_hz) - next.clocks_at(frame, self.sample_rate_hz)).abs() > SAME_CLOCKS;
        if was.is_running && (!next.is_running || jumps) {
            self.send(frame, [TRANSPORT_STOP, 0, 0], send);
        }
        let begins = next.is_running && (!was.is_running || jumps);
        if begins && next.clocks < SAME_CLOCKS {
            return self.send(frame, [TRANSPORT_START, 0, 0], send);
        }
        if begins || jumps {
            let sixteenths = (next.clocks / CLOCKS_PER_SIXTEENTH).round().min(MAX_SIXTEENTHS) as u16;
            self.send(frame, [SONG_POSITION, (sixteenths & 0x7f) as u8, (sixteenths >> 7) as u8], send);
        }
        if begins {
            self.send(frame, [TRANSPORT_CONTINUE, 0, 0], send);
        }
    }

    fn send(&self, frame: u64, message: [u8; 3], send: &mut impl FnMut(MidiEvent)) {
        let due_ns = self.session.time_of(frame).saturating_sub(LATENCY_NS);
        (1..=PORTS as u8).for_each(|port| send(MidiEvent { due_ns, tick: 0, port, message }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    /// Where the session's first frame lies in time: none is given before the clock is looked at.
    const ORIGIN_MS: u64 = 10_000;

    /// What port 1 is sent, by the frame of the session it belongs to.
    fn sent(clock: &mut ClockOut, steps_ms: std::ops::Range<u64>, period_frames: u64) -> Vec<(u64, [u8; 3])> {
        let mut events = Vec::new();
        for step in steps_ms {
            let frames = (step * 48 / period_frames + 1) * period_frames;
            clock.look(frames, (ORIGIN_MS + step) * MS, |event| {
                if event.port == 1 {
                    // The first period is given at the origin.
                    let elapsed_ns = event.due_ns + LATENCY_NS - ORIGIN_MS * MS;
                    events.push(((elapsed_ns * 48 + 500_000) / MS + period_frames, event.message));
                }
            });
        }
        events
    }

    const CLOCK: [u8; 3] = [TIMING_CLOCK, 0, 0];

    #[test]
    fn a_beat_has_24_clocks_on_its_frames_whatever_the_period_is() {
        for period_frames in [64, 1_024] {
            let mut clock = ClockOut::new(48_000);
            clock.take(Tempo { block: 100, bpm: 120.0, is_running: true, clocks: 0.0 });
            let events = sent(&mut clock, 0..1_500, period_frames);
            assert_eq!(events[0], (12_800, [TRANSPORT_START, 0, 0]));
            for (number, event) in (0..).zip(&events[1..]) {
                assert_eq!(*event, (12_800 + number * 1_000, CLOCK), "{period_frames}");
            }
            assert!(events.len() > 50, "{}", events.len());
        }
    }

    #[test]
    fn another_tempo_goes_on_where_the_first_one_was() {
        let mut clock = ClockOut::new(48_000);
        let first = Tempo { block: 100, bpm: 120.0, is_running: true, clocks: 0.0 };
        clock.take(first);
        let clocks = first.clocks_at(475 * 128, 48_000);
        assert_eq!(clocks, 48.0);
        clock.take(Tempo { block: 475, bpm: 60.0, is_running: true, clocks });
        let events = sent(&mut clock, 0..3_000, 128);
        assert!(events[1..].iter().all(|(_, message)| *message == CLOCK), "{events:?}");
        let frames: Vec<u64> = events.iter().map(|(frame, _)| *frame).filter(|frame| *frame >= 58_800).take(4).collect();
        assert_eq!(frames, [58_800, 59_800, 60_800, 62_800]);
    }

    #[test]
    fn what_starts_stops_and_goes_on_says_so_and_says_where() {
        let mut clock = ClockOut::new(48_000);
        clock.take(Tempo { block: 100, bpm: 120.0, is_running: false, clocks: 0.0 });
        clock.take(Tempo { block: 200, bpm: 120.0, is_running: true, clocks: 0.0 });
        clock.take(Tempo { block: 300, bpm: 120.0, is_running: false, clocks: 12.8 });
        clock.take(Tempo { block: 400, bpm: 120.0, is_running: true, clocks: 12.0 });
        clock.take(Tempo { block: 500, bpm: 120.0, is_running: true, clocks: 6.0 * 300.0 });
        let events = sent(&mut clock, 0..1_500, 128);
        let said: Vec<(u64, [u8; 3])> = events.iter().filter(|(_, message)| *message != CLOCK).copied().collect();
        let expected = [
            (200 * 128, [TRANSPORT_START, 0, 0]),
            (300 * 128, [TRANSPORT_STOP, 0, 0]),
            (400 * 128, [SONG_POSITION, 2, 0]),
            (400 * 128, [TRANSPORT_CONTINUE, 0, 0]),
            (500 * 128, [TRANSPORT_STOP, 0, 0]),
            (500 * 128, [SONG_POSITION, 44, 2]),
            (500 * 128, [TRANSPORT_CONTINUE, 0, 0]),
        ];
        assert_eq!(said, expected);
        assert!(events.iter().any(|(frame, message)| *frame < 200 * 128 && *message == CLOCK), "clocks go on while it stands still");
    }

    #[test]
    fn a_machine_that_was_suspended_is_not_made_up_for_and_nonsense_is_not_sent() {
        let mut clock = ClockOut::new(48_000);
        clock.take(Tempo { bpm: f64::NAN, ..Tempo::default() });
        clock.take(Tempo { bpm: 999.0, is_running: true, ..Tempo::default() });
        let mut count = 0;
        clock.look(128, 0, |_| count += 1);
        clock.look(48_000 * 3_600, 3_600_000 * MS, |_| count += 1);
        assert!(count < PORTS * 200, "{count}");
    }
}
