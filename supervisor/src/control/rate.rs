//! How fast a client's requests are taken: a bucket of units that fills with time. Time comes in as an argument.

use std::time::{Duration, Instant};

use super::limits::{BYTES_PER_UNIT, UNIT_BURST, UNITS_PER_SECOND};

/// Thousandths of a unit; so that a millisecond adds a whole number.
const MILLIS_PER_UNIT: u64 = 1_000;

/// The units one client has left.
#[derive(Debug)]
pub struct Allowance {
    milliunits: u64,
    /// Up to when the time has been turned into units.
    counted_until: Instant,
    /// Units of a request that cost more than there were, still to be paid.
    debt_milliunits: u64,
}

impl Allowance {
    pub fn full(now: Instant) -> Self {
        Self { milliunits: u64::from(UNIT_BURST) * MILLIS_PER_UNIT, counted_until: now, debt_milliunits: 0 }
    }

    /// Whether a request may be taken now; if not, when to ask again.
    pub fn may_take(&mut self, now: Instant) -> Result<(), Instant> {
        self.refill(now);
        if self.debt_milliunits == 0 && self.milliunits >= MILLIS_PER_UNIT {
            return Ok(());
        }
        let missing = self.debt_milliunits + MILLIS_PER_UNIT - self.milliunits;
        Err(self.counted_until + Duration::from_millis(missing.div_ceil(u64::from(UNITS_PER_SECOND))))
    }

    /// Pays for a request whose line has this many bytes. One unit must be there; the rest may be owed.
    pub fn take(&mut self, line_bytes: usize) {
        let cost = (1 + line_bytes / BYTES_PER_UNIT) as u64 * MILLIS_PER_UNIT;
        self.debt_milliunits += cost.saturating_sub(self.milliunits);
        self.milliunits = self.milliunits.saturating_sub(cost);
    }

    fn refill(&mut self, now: Instant) {
        // Thousandths of a unit per millisecond are units per second.
        let passed_ms = u64::try_from(now.saturating_duration_since(self.counted_until).as_millis()).unwrap_or(u64::MAX);
        self.counted_until += Duration::from_millis(passed_ms);
        let gained = passed_ms.saturating_mul(u64::from(UNITS_PER_SECOND));
        let paid = gained.min(self.debt_milliunits);
        self.debt_milliunits -= paid;
        self.milliunits = self.milliunits.saturating_add(gained - paid).min(u64::from(UNIT_BURST) * MILLIS_PER_UNIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that are taken within `duration` by a client that always has another one.
    fn taken(duration: Duration, line_bytes: usize) -> u32 {
        let start = Instant::now();
        let (mut now, mut count, mut allowance) = (start, 0, Allowance::full(start));
        while now <= start + duration {
            match allowance.may_take(now) {
                Ok(()) => {
                    allowance.take(line_bytes);
                    count += 1;
                }
                Err(later) => {
                    assert!(later > now, "asking again at once would spin");
                    now = later;
                }
            }
        }
        count
    }

    #[test]
    fn a_flood_is_read_at_the_agreed_rate() {
        let count = taken(Duration::from_secs(10), 100);
        assert!((10_400..=10_600).contains(&count), "{count}");
    }

    #[test]
    fn long_lines_cost_more() {
        let count = taken(Duration::from_secs(10), 1 << 20);
        assert!((150..=170).contains(&count), "{count}");
    }

    #[test]
    fn a_pause_gives_back_no_more_than_the_burst() {
        let start = Instant::now();
        let mut allowance = Allowance::full(start);
        let later = start + Duration::from_secs(3_600);
        let mut count = 0;
        while allowance.may_take(later).is_ok() {
            allowance.take(0);
            count += 1;
        }
        assert_eq!(count, UNIT_BURST);
    }
}
