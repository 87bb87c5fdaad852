//! Tells a device that runs wild from one that plays: how fast sound is taken, measured against the monotonic clock.
//!
//! Used on the thread of the device's callback. A device that has lost its clock takes sound as fast as it is given; left
//! alone it would run the session's time away from everybody's.

use ipc::limits::MAX_PERIOD_FRAMES;

/// Frames a device may take at once beyond its pace, to fill its buffers or to make up for a pause.
const SLACK_FRAMES: u64 = 4 * MAX_PERIOD_FRAMES as u64;

/// How many times faster than real time a device may take sound for longer than that.
const SPEED_LIMIT: u64 = 2;

/// A bucket that leaks at `SPEED_LIMIT`; what is taken fills it.
#[derive(Debug)]
pub struct Meter {
    sample_rate_hz: u64,
    level_frames: u64,
    seen_ns: Option<u64>,
    is_wild: bool,
}

impl Meter {
    pub fn new(sample_rate_hz: u32) -> Self {
        Self { sample_rate_hz: u64::from(sample_rate_hz), level_frames: 0, seen_ns: None, is_wild: false }
    }

    /// Takes note of a callback; returns whether the device runs wild. It stays so.
    pub fn is_wild_rt(&mut self, now_ns: u64, frames: usize) -> bool {
        let elapsed_ns = now_ns.saturating_sub(self.seen_ns.replace(now_ns).unwrap_or(now_ns));
        let leaked = u128::from(elapsed_ns) * u128::from(self.sample_rate_hz * SPEED_LIMIT) / 1_000_000_000;
        self.level_frames = self.level_frames.saturating_sub(leaked.min(u128::from(u64::MAX)) as u64).saturating_add(frames as u64);
        self.is_wild |= self.level_frames > SLACK_FRAMES;
        self.is_wild
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a device at 48 kHz that takes `frames` every `every_ns` is found to be wild within `callbacks`.
    fn is_wild(meter: &mut Meter, frames: usize, every_ns: u64, callbacks: u64) -> bool {
        let start_ns = meter.seen_ns.unwrap_or(5);
        (1..=callbacks).any(|callback| meter.is_wild_rt(start_ns + callback * every_ns, frames))
    }

    #[test]
    fn a_device_that_keeps_its_pace_is_never_wild() {
        assert!(!is_wild(&mut Meter::new(48_000), 128, 2_666_666, 1_000_000));
        assert!(!is_wild(&mut Meter::new(48_000), 4_096, 85_333_333, 100_000));
    }

    #[test]
    fn a_device_may_fill_its_buffers_and_make_up_for_a_pause() {
        let mut meter = Meter::new(48_000);
        assert!(!is_wild(&mut meter, 4_096, 1, 4));
        assert!(!is_wild(&mut meter, 128, 2_666_666, 10_000));
        assert!(!meter.is_wild_rt(meter.seen_ns.unwrap() + 60_000_000_000, 4_096), "after a minute of sleep");
        assert!(!is_wild(&mut meter, 4_096, 1, 2));
    }

    #[test]
    fn a_device_without_a_clock_is_wild_before_it_has_taken_half_a_second_and_stays_so() {
        let mut meter = Meter::new(48_000);
        let callbacks = (0..).take_while(|number| !meter.is_wild_rt(1_000 * number, 128)).count();
        assert!(callbacks * 128 < 24_000, "{callbacks} callbacks");
        assert!(meter.is_wild_rt(3_600_000_000_000, 1));
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut meter = Meter::new(48_000);
        assert!(!meter.is_wild_rt(1_000_000, 128));
        assert!(!meter.is_wild_rt(0, 128));
    }
}
