//! The session clock between two callbacks of the device: which frame of the session belongs to a moment.
//!
//! The count of frames steps once a period, when the device's callback runs. Right after a step it is as far ahead of time
//! as it ever is; a callback that runs late makes it less so, never more. So the furthest it was ahead of late tells where
//! the frames lie in time, free of jitter. Owned by the MIDI input thread; time comes in as an argument.

/// Length of a stretch whose best observation is kept, in nanoseconds.
const STRETCH_NS: u64 = 100_000_000;
/// Stretches that are looked back at: as long as a device that has stalled is believed to make its time good.
const STRETCHES: usize = 5;
const SECOND_NS: i128 = 1_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct SessionClock {
    sample_rate_hz: u32,
    /// The best observation of each of the last stretches: how far frames are ahead of time, in nanoseconds.
    ahead_ns: [Option<i128>; STRETCHES],
    stretch: u64,
}

impl SessionClock {
    pub fn new(sample_rate_hz: u32) -> Self {
        Self { sample_rate_hz: sample_rate_hz.max(1), ahead_ns: [None; STRETCHES], stretch: 0 }
    }

    /// So many frames have been given to the device at `now_ns`.
    pub fn observe(&mut self, frames: u64, now_ns: u64) {
        let stretch = now_ns / STRETCH_NS;
        let passed = stretch.saturating_sub(self.stretch).min(STRETCHES as u64);
        for number in 0..passed {
            self.ahead_ns[((stretch - number) % STRETCHES as u64) as usize] = None;
        }
        self.stretch = self.stretch.max(stretch);
        let ahead_ns = i128::from(frames) * SECOND_NS / i128::from(self.sample_rate_hz) - i128::from(now_ns);
        let best = &mut self.ahead_ns[(self.stretch % STRETCHES as u64) as usize];
        *best = Some(best.map_or(ahead_ns, |best| best.max(ahead_ns)));
    }

    /// When a frame would be next, on the same clock: what [`Self::frame_at`] is the inverse of.
    pub fn time_of(&self, frame: u64) -> u64 {
        let at_ns = i128::from(frame) * SECOND_NS / i128::from(self.sample_rate_hz) - self.ahead_ns();
        u64::try_from(at_ns.max(0)).unwrap_or(u64::MAX)
    }

    fn ahead_ns(&self) -> i128 {
        self.ahead_ns.iter().flatten().max().copied().unwrap_or(0)
    }

    /// The frame that would be next to be given to a device that is never late and has no period.
    pub fn frame_at(&self, at_ns: u64) -> u64 {
        let frame = (i128::from(at_ns) + self.ahead_ns()) * i128::from(self.sample_rate_hz) / SECOND_NS;
        u64::try_from(frame.max(0)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn moments_have_their_frames_whatever_the_period_and_however_late_callbacks_are() {
        let mut clock = SessionClock::new(48_000);
        for step in 0..2_000u64 {
            let now_ns = 7_000 * MS + step * MS;
            // A callback every 20 ms, of which all but every fifth come 3 ms late.
            let periods = if step % 100 < 20 || step % 20 >= 3 { step / 20 + 1 } else { step / 20 };
            clock.observe(periods * 960, now_ns);
            if step > 100 {
                assert_eq!(clock.frame_at(now_ns), step * 48 + 960, "{step}");
                assert_eq!(clock.time_of(step * 48 + 960), now_ns, "{step}");
            }
        }
    }

    #[test]
    fn a_device_that_has_stalled_is_followed_half_a_second_later() {
        let mut clock = SessionClock::new(48_000);
        for step in 0..3_000u64 {
            let frames = if step < 1_000 { step * 48 } else { (step.saturating_sub(1_500)) * 48 + 48_000 };
            clock.observe(frames, step * MS);
        }
        assert_eq!(clock.frame_at(3_000 * MS), 48 * 1_500 + 48_000);
    }

    #[test]
    fn before_anything_was_observed_and_after_any_clock_it_answers() {
        let mut clock = SessionClock::new(0);
        assert_eq!(clock.frame_at(0), 0);
        clock.observe(u64::MAX, u64::MAX);
        clock.observe(0, 0);
        let _ = clock.frame_at(u64::MAX);
    }
}
