//! The horizon of a runtime: it executes only ticks below it. That is how a replay keeps a runtime from running into ticks
//! whose requests are still on the way; a live runtime has none.
//!
//! Raised by the control thread, waited for by the tick thread. It never comes down.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use ipc::futex;

/// See the module's documentation.
pub struct Horizon {
    tick: AtomicU64,
    /// Changes whenever the horizon is raised.
    raised: AtomicU32,
}

impl Horizon {
    /// A horizon before tick `until`; `None` for none at all.
    pub fn new(until: Option<u64>) -> Self {
        Self { tick: AtomicU64::new(until.unwrap_or(u64::MAX)), raised: AtomicU32::new(0) }
    }

    /// Lets all ticks below `tick` be executed. What was sent to the tick thread before is there when they begin.
    pub fn raise(&self, tick: u64) {
        self.tick.fetch_max(tick, Release);
        self.raised.fetch_add(1, Release);
        futex::wake_all_rt(&self.raised);
    }

    /// Sleeps until `tick` may be executed, at most `patience`; returns whether it may.
    pub fn wait_rt(&self, tick: u64, patience: Duration) -> bool {
        let seen = self.raised.load(Acquire);
        if self.is_below_rt(tick) {
            return true;
        }
        futex::wait_rt(&self.raised, seen, patience);
        self.is_below_rt(tick)
    }

    fn is_below_rt(&self, tick: u64) -> bool {
        tick < self.tick.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_rises_and_never_comes_down() {
        let horizon = Horizon::new(Some(3));
        assert!(horizon.wait_rt(2, Duration::ZERO));
        assert!(!horizon.wait_rt(3, Duration::ZERO));
        horizon.raise(5);
        horizon.raise(1);
        assert!(horizon.wait_rt(4, Duration::ZERO));
        assert!(!horizon.wait_rt(5, Duration::ZERO));
    }

    #[test]
    fn who_waits_for_the_horizon_is_woken() {
        let horizon = Horizon::new(Some(0));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| while !horizon.wait_rt(7, Duration::from_secs(60)) {});
            horizon.raise(8);
            waiting.join().unwrap();
        });
    }

    #[test]
    fn without_a_horizon_every_tick_may_be_executed() {
        assert!(Horizon::new(None).wait_rt(u64::MAX - 1, Duration::ZERO));
    }
}
