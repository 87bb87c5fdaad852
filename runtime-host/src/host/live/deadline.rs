//! When a revision on trial takes too long: the one decision about a program that a clock has a part in. Either a single tick
//! is so long that the lead drains, or the ticks together need more time than there is, so that the revision would play on in
//! stutters for ever.
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
/// Ticks whose sum is looked at, some 85 ms of sound. Whether a revision keeps up is a question of its mean, and
/// fewer ticks than these may well be the expensive ones of a program that works in turns.
const WINDOW_TICKS: u32 = 32;
/// Shortest time, in nanoseconds, whose sum is looked at: in less, what the thread does besides its ticks would count.
const LEAST_WINDOW_NS: u64 = 50_000_000;

/// Watches the ticks of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    limit_ns: u64,
    tick_ns: u64,
    /// Processor time of the thread when it was last read.
    seen_cpu_ns: u64,
    /// Wall time of the ticks since then, an upper bound of the processor time they took.
    since_ns: u64,
    /// How many ticks are summed up.
    window_ticks: u32,
    /// Processor time of the thread when the sum began.
    window_cpu_ns: u64,
    /// Ticks of the sum so far.
    summed_ticks: u32,
    /// The thread has computed something else besides the ticks of the sum.
    is_sum_mixed: bool,
}

impl Deadline {
    /// For ticks that last `tick_ns`.
    pub fn new(tick_ns: u64) -> Self {
        let limit_ns = tick_ns.saturating_mul(MAX_TICK_LENGTHS).max(LEAST_LIMIT_NS);
        let ticks_of_least = u32::try_from(LEAST_WINDOW_NS / tick_ns.max(1)).unwrap_or(u32::MAX);
        let window_ticks = WINDOW_TICKS.max(ticks_of_least);
        Self { limit_ns, tick_ns, seen_cpu_ns: 0, since_ns: 0, window_ticks, window_cpu_ns: 0, summed_ticks: 0, is_sum_mixed: false }
    }

    /// A trial begins on the calling thread.
    pub fn begin_rt(&mut self) {
        let cpu_ns = thread_cpu_ns_rt();
        self.see_rt(cpu_ns);
        self.sum_from_rt(cpu_ns);
    }

    fn see_rt(&mut self, cpu_ns: u64) {
        (self.seen_cpu_ns, self.since_ns) = (cpu_ns, 0);
    }

    fn sum_from_rt(&mut self, cpu_ns: u64) {
        (self.window_cpu_ns, self.summed_ticks, self.is_sum_mixed) = (cpu_ns, 0, false);
    }

    /// Whether a tick that took `spent_ns` of wall time has left too little for another program to compute it in time.
    pub fn is_missed(&self, spent_ns: u64) -> bool {
        spent_ns > self.limit_ns
    }

    /// Whether a tick that took `spent_ns` of wall time, or the last ticks together, took too much processor time. The ticks
    /// of a crossfade, in which the revision is not alone on the thread, are not summed up.
    pub fn is_exceeded_rt(&mut self, spent_ns: u64, is_alone: bool) -> bool {
        if self.is_missed(spent_ns) && self.judge_rt(thread_cpu_ns_rt()) {
            return true;
        }
        self.since_ns = self.since_ns.saturating_add(spent_ns);
        self.is_sum_mixed |= !is_alone;
        if self.is_sum_mixed && is_alone {
            let cpu_ns = thread_cpu_ns_rt();
            self.see_rt(cpu_ns);
            self.sum_from_rt(cpu_ns);
            return false;
        }
        if self.is_sum_mixed {
            return false;
        }
        self.summed_ticks += 1;
        self.summed_ticks >= self.window_ticks && self.judge_sum_rt(thread_cpu_ns_rt())
    }

    /// Whether the ticks of the sum took longer than they last. Begins the next sum.
    fn judge_sum_rt(&mut self, cpu_ns: u64) -> bool {
        let available_ns = self.tick_ns.saturating_mul(u64::from(self.summed_ticks));
        let is_exceeded = cpu_ns.saturating_sub(self.window_cpu_ns) > available_ns;
        self.see_rt(cpu_ns);
        self.sum_from_rt(cpu_ns);
        is_exceeded
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
        assert!(!deadline.is_exceeded_rt(TICK_NS, true));
        assert!(!deadline.judge_rt(1_000 + TICK_NS + 500_000), "late by the wall clock, but it computed for half a millisecond");
        assert!(deadline.judge_rt(1_000 + TICK_NS + 500_000 + 4 * TICK_NS));
    }

    #[test]
    fn a_tick_that_failed_after_its_deadline_has_missed_it_whatever_it_failed_of() {
        let deadline = Deadline::new(TICK_NS);
        assert!(!deadline.is_missed(MAX_TICK_LENGTHS * TICK_NS));
        assert!(deadline.is_missed(200_000_000));
    }

    #[test]
    fn earlier_ticks_are_not_counted_against_a_late_one() {
        let mut deadline = Deadline { seen_cpu_ns: 5, ..Deadline::new(TICK_NS) };
        let late = (0..u64::from(WINDOW_TICKS) - 1).filter(|_| deadline.is_exceeded_rt(1_000_000, true)).count();
        assert_eq!(late, 0);
        assert!(!deadline.judge_rt(5 + 31_000_000 + 2 * TICK_NS));
    }

    #[test]
    fn ticks_that_are_each_in_time_and_together_take_twice_the_time_there_is_are_too_much() {
        let sum_of = |cpu_per_tick_ns: u64| {
            let mut deadline = Deadline { window_cpu_ns: 7, ..Deadline::new(TICK_NS) };
            deadline.summed_ticks = WINDOW_TICKS;
            let is_exceeded = deadline.judge_sum_rt(7 + u64::from(WINDOW_TICKS) * cpu_per_tick_ns);
            assert_eq!(deadline.summed_ticks, 0, "the next sum begins");
            is_exceeded
        };
        assert!(sum_of(2 * TICK_NS));
        assert!(!sum_of(TICK_NS));
    }

    #[test]
    fn the_ticks_of_fast_timers_are_summed_up_for_as_long_as_others() {
        assert_eq!(Deadline::new(TICK_NS).window_ticks, WINDOW_TICKS);
        assert_eq!(Deadline::new(100_000).window_ticks, 500);
    }

    #[test]
    fn a_tick_that_computes_too_long_is_noticed_on_a_real_thread() {
        let mut deadline = Deadline::new(1_000);
        deadline.begin_rt();
        let before_ns = thread_cpu_ns_rt();
        while thread_cpu_ns_rt() < before_ns + LEAST_LIMIT_NS + 1_000 {}
        assert!(deadline.is_exceeded_rt(LEAST_LIMIT_NS + 1_000, true));
    }
}
