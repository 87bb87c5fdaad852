//! When a tick of a revision on trial has taken too long: the one decision about a program that a clock has a part in.
//!
//! Lives on the tick thread, and only in hosts that are heard live. What counts is processor time, because a thread that the
//! machine did not let run is not the program's fault. Reading it is a system call, which real-time code avoids; so it is read
//! when a trial begins, now and then while it lasts, and after a tick that was late by the wall clock: too late anyway.

use crate::realtime::thread_cpu_ns_rt;

/// How many times its own length a tick may take. The lead of a lane is four blocks, so the old revision can still compute
/// the tick before the lead has drained.
pub const MAX_TICK_LENGTHS: u64 = 3;

/// Shortest time that counts as too long, in nanoseconds. Ticks shorter than a third of this are those of fast timers, which
/// nobody hears.
const LEAST_LIMIT_NS: u64 = 5_000_000;
/// Ticks after which processor time is read at the latest, so that what the thread does between ticks does not add up to
/// anything that matters.
const READ_AFTER_TICKS: u32 = 64;

/// Watches the ticks of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    limit_ns: u64,
    /// Processor time of the thread when it was last read.
    seen_cpu_ns: u64,
    /// Wall time of the ticks since then, an upper bound of the processor time they took.
    since_ns: u64,
    /// How many they were.
    since_ticks: u32,
}

impl Deadline {
    /// For ticks that last `tick_ns`.
    pub fn new(tick_ns: u64) -> Self {
        let limit_ns = tick_ns.saturating_mul(MAX_TICK_LENGTHS).max(LEAST_LIMIT_NS);
        Self { limit_ns, seen_cpu_ns: 0, since_ns: 0, since_ticks: 0 }
    }

    /// A trial begins on the calling thread.
    pub fn begin_rt(&mut self) {
        self.see_rt(thread_cpu_ns_rt());
    }

    fn see_rt(&mut self, cpu_ns: u64) {
        *self = Self { seen_cpu_ns: cpu_ns, since_ns: 0, since_ticks: 0, ..*self };
    }

    /// Whether a tick that took `spent_ns` of wall time took too much processor time.
    pub fn is_exceeded_rt(&mut self, spent_ns: u64) -> bool {
        if spent_ns > self.limit_ns {
            return self.judge_rt(thread_cpu_ns_rt());
        }
        self.since_ns = self.since_ns.saturating_add(spent_ns);
        self.since_ticks += 1;
        if self.since_ticks >= READ_AFTER_TICKS {
            self.see_rt(thread_cpu_ns_rt());
        }
        false
    }

    fn judge_rt(&mut self, cpu_ns: u64) -> bool {
        let tick_cpu_ns = cpu_ns.saturating_sub(self.seen_cpu_ns).saturating_sub(self.since_ns);
        self.see_rt(cpu_ns);
        tick_cpu_ns > self.limit_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 2_666_667;

    #[test]
    fn a_tick_that_was_only_kept_waiting_is_not_too_long() {
        let mut deadline = Deadline { seen_cpu_ns: 1_000, ..Deadline::new(TICK_NS) };
        assert!(!deadline.is_exceeded_rt(TICK_NS));
        assert!(!deadline.judge_rt(1_000 + TICK_NS + 500_000), "late by the wall clock, but it computed for half a millisecond");
        assert!(deadline.judge_rt(1_000 + TICK_NS + 500_000 + 4 * TICK_NS));
    }

    #[test]
    fn earlier_ticks_are_not_counted_against_a_late_one() {
        let mut deadline = Deadline { seen_cpu_ns: 5, ..Deadline::new(TICK_NS) };
        let late = (0..u64::from(READ_AFTER_TICKS) - 1).filter(|_| deadline.is_exceeded_rt(1_000_000)).count();
        assert_eq!(late, 0);
        assert!(!deadline.judge_rt(5 + 63_000_000 + 2 * TICK_NS));
    }

    #[test]
    fn a_tick_that_computes_too_long_is_noticed_on_a_real_thread() {
        let mut deadline = Deadline::new(1_000);
        deadline.begin_rt();
        let before_ns = thread_cpu_ns_rt();
        while thread_cpu_ns_rt() < before_ns + LEAST_LIMIT_NS + 1_000 {}
        assert!(deadline.is_exceeded_rt(LEAST_LIMIT_NS + 1_000));
    }
}
