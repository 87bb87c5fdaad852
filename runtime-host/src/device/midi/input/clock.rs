//! Which moment belongs to a count that goes on evenly and is only seen now and then: the frames of the session between two
//! callbacks of the device, or the microseconds of a sequencer's queue, by what it stamps its messages with.
//!
//! The count of frames steps once a period, when the device's callback runs. Right after a step it is as far ahead of time
//! as it ever is; a callback that runs late makes it less so, never more. So the furthest it was ahead of late tells where
//! the frames lie in time, free of jitter. The same with stamps: a message is seen after it was stamped, never before. Owned
//! by the thread that sees the count; time comes in as an argument.

/// Length of a stretch whose best observation is kept, of the session clock: five of them are as long as a device that has
/// stalled is believed to make its time good.
const SESSION_STRETCH_NS: u64 = 100_000_000;
/// The same of a queue, which does not stall: long enough that some message of it was seen at once, and short enough that
/// two clocks do not drift apart by more than some microseconds.
const QUEUE_STRETCH_NS: u64 = 2_000_000_000;
/// Stretches that are looked back at.
const STRETCHES: usize = 5;
const SECOND_NS: i128 = 1_000_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct CountClock {
    rate_hz: u32,
    stretch_ns: u64,
    /// The best observation of each of the last stretches: how far the count is ahead of time, in nanoseconds.
    ahead_ns: [Option<i128>; STRETCHES],
    stretch: u64,
}

impl CountClock {
    /// The session clock, which counts frames.
    pub fn of_session(sample_rate_hz: u32) -> Self {
        Self { rate_hz: sample_rate_hz.max(1), stretch_ns: SESSION_STRETCH_NS, ahead_ns: [None; STRETCHES], stretch: 0 }
    }

    /// A queue, which counts microseconds.
    pub fn of_queue() -> Self {
        Self { rate_hz: 1_000_000, stretch_ns: QUEUE_STRETCH_NS, ahead_ns: [None; STRETCHES], stretch: 0 }
    }

    /// The count has been so far at `now_ns`.
    pub fn observe(&mut self, count: u64, now_ns: u64) {
        let stretch = now_ns / self.stretch_ns;
        let passed = stretch.saturating_sub(self.stretch).min(STRETCHES as u64);
        for number in 0..passed {
            self.ahead_ns[((stretch - number) % STRETCHES as u64) as usize] = None;
        }
        self.stretch = self.stretch.max(stretch);
        let ahead_ns = i128::from(count) * SECOND_NS / i128::from(self.rate_hz) - i128::from(now_ns);
        let best = &mut self.ahead_ns[(self.stretch % STRETCHES as u64) as usize];
        *best = Some(best.map_or(ahead_ns, |best| best.max(ahead_ns)));
    }

    /// When the count comes to this, on the same clock: what [`Self::count_at`] is the inverse of.
    pub fn time_of(&self, count: u64) -> u64 {
        let at_ns = i128::from(count) * SECOND_NS / i128::from(self.rate_hz) - self.ahead_ns();
        u64::try_from(at_ns.max(0)).unwrap_or(u64::MAX)
    }

    fn ahead_ns(&self) -> i128 {
        self.ahead_ns.iter().flatten().max().copied().unwrap_or(0)
    }

    /// What the count is at a moment. Of frames: the one that would be next to be given to a device that is never late and has
    /// no period.
    pub fn count_at(&self, at_ns: u64) -> u64 {
        let count = (i128::from(at_ns) + self.ahead_ns()) * i128::from(self.rate_hz) / SECOND_NS;
        u64::try_from(count.max(0)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn moments_have_their_frames_whatever_the_period_and_however_late_callbacks_are() {
        let mut clock = CountClock::of_session(48_000);
        for step in 0..2_000u64 {
            let now_ns = 7_000 * MS + step * MS;
            // A callback every 20 ms, of which all but every fifth come 3 ms late.
            let periods = if step % 100 < 20 || step % 20 >= 3 { step / 20 + 1 } else { step / 20 };
            clock.observe(periods * 960, now_ns);
            if step > 100 {
                assert_eq!(clock.count_at(now_ns), step * 48 + 960, "{step}");
                assert_eq!(clock.time_of(step * 48 + 960), now_ns, "{step}");
            }
        }
    }

    #[test]
    fn a_device_that_has_stalled_is_followed_half_a_second_later() {
        let mut clock = CountClock::of_session(48_000);
        for step in 0..3_000u64 {
            let frames = if step < 1_000 { step * 48 } else { (step.saturating_sub(1_500)) * 48 + 48_000 };
            clock.observe(frames, step * MS);
        }
        assert_eq!(clock.count_at(3_000 * MS), 48 * 1_500 + 48_000);
    }

    #[test]
    fn before_anything_was_observed_and_after_any_clock_it_answers() {
        let mut clock = CountClock::of_session(0);
        assert_eq!(clock.count_at(0), 0);
        clock.observe(u64::MAX, u64::MAX);
        clock.observe(0, 0);
        let _ = clock.count_at(u64::MAX);
    }

    #[test]
    fn stamps_of_a_queue_keep_their_distances_however_late_they_are_seen_and_a_drift_is_followed() {
        let mut clock = CountClock::of_queue();
        // The queue began at 7 s, and goes 20 millionths too fast.
        let at_ns = |stamp_us: u64| 7_000 * MS + stamp_us * 1_000 - stamp_us / 50;
        for number in 0..20_000u64 {
            let stamp_us = number * 2_503;
            let late_ns = if number.is_multiple_of(7) { 0 } else { number * 7_919 % 3_000_000 };
            clock.observe(stamp_us, at_ns(stamp_us) + late_ns);
            if number > 7 {
                let off_ns = clock.time_of(stamp_us).abs_diff(at_ns(stamp_us));
                assert!(off_ns <= 200_000, "{number}: {off_ns} ns");
            }
        }
    }
}
