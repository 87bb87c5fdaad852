//! How often something may be restarted: the limit that keeps one bad program, or one bad machine, from taking everything
//! else with it. Pure: time comes in as an argument.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Policy;

/// Pauses before the next start, in milliseconds, by how many starts in a row have come to nothing.
const BACKOFF_MS: [u64; 5] = [0, 100, 200, 400, 800];

/// How many deaths within which time are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    pub deaths: u32,
    pub window_ms: u64,
}

impl Intensity {
    /// Of one runtime, and of worker, device host and spare each (DESIGN §10).
    pub const OF_ONE: Self = Self { deaths: 5, window_ms: 10_000 };

    /// Of everything in a session together.
    pub const OF_SESSION: Self = Self { deaths: 25, window_ms: 10_000 };
}

/// How often a session's processes may die before they are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartLimits {
    /// Of one runtime, and of worker, device host and spare each.
    pub of_one: Intensity,
    /// Of all runtimes together.
    pub of_session: Intensity,
}

impl Default for RestartLimits {
    fn default() -> Self {
        Self { of_one: Intensity::OF_ONE, of_session: Intensity::OF_SESSION }
    }
}

impl Policy {
    /// Sets how often the processes of the session may die.
    pub fn limit_restarts(&mut self, limits: RestartLimits) {
        (self.intensity, self.session_intensity) = (limits.of_one, limits.of_session);
    }

    /// How often the processes of the session may die.
    pub(super) fn restart_limits(&self) -> RestartLimits {
        RestartLimits { of_one: self.intensity, of_session: self.session_intensity }
    }
}

/// The deaths of one thing that is restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    recent_ms: VecDeque<u64>,
    /// Deaths since it was last ready.
    in_a_row: u32,
    /// Deaths since the session began.
    pub total: u64,
    /// No start before this.
    pub not_before_ms: u64,
}

impl Restarts {
    /// It has died. Returns whether it may be started again.
    pub fn died(&mut self, now_ms: u64, limit: Intensity) -> bool {
        let pause = BACKOFF_MS[(self.in_a_row as usize).min(BACKOFF_MS.len() - 1)];
        self.in_a_row += 1;
        self.not_before_ms = now_ms + pause;
        self.died_unused(now_ms, limit)
    }

    /// What was to go on with it has died by itself: that counts, and says nothing about the next start. Returns whether it may be
    /// started again.
    pub fn died_unused(&mut self, now_ms: u64, limit: Intensity) -> bool {
        self.total += 1;
        self.recent_ms.push_back(now_ms);
        while self.recent_ms.front().is_some_and(|death_ms| death_ms.saturating_add(limit.window_ms) <= now_ms) {
            self.recent_ms.pop_front();
        }
        let is_borne = self.recent_ms.len() <= limit.deaths as usize;
        if !is_borne {
            // No oftener than the limit allows, even where there is nothing to give up for.
            let oldest_ms = self.recent_ms.front().copied().unwrap_or(now_ms);
            self.not_before_ms = self.not_before_ms.max(oldest_ms.saturating_add(limit.window_ms));
            while self.recent_ms.len() > limit.deaths as usize {
                self.recent_ms.pop_front();
            }
        }
        is_borne
    }

    /// It works: what comes next is another story.
    pub fn is_ready(&mut self) {
        self.in_a_row = 0;
    }

    /// Somebody wants it to be tried again.
    pub fn forgive(&mut self) {
        self.recent_ms.clear();
        self.in_a_row = 0;
        self.not_before_ms = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_before_anything_is_ready_are_spaced_more_and_more() {
        let mut restarts = Restarts::default();
        let mut pauses = Vec::new();
        let mut now_ms = 0;
        for _ in 0..5 {
            assert!(restarts.died(now_ms, Intensity::OF_ONE));
            pauses.push(restarts.not_before_ms - now_ms);
            now_ms = restarts.not_before_ms;
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800]);
        assert!(!restarts.died(now_ms, Intensity::OF_ONE), "the sixth is one too many");
    }

    #[test]
    fn a_death_that_says_nothing_about_the_next_start_counts_and_brings_no_pause() {
        let mut restarts = Restarts::default();
        let borne = |restarts: &mut Restarts, now_ms| restarts.died_unused(now_ms, Intensity::OF_ONE);
        restarts.died(0, Intensity::OF_ONE);
        assert!((1..5).all(|now_ms| borne(&mut restarts, now_ms) && restarts.not_before_ms == 0));
        assert!(!borne(&mut restarts, 5), "the sixth is one too many");
        assert_eq!(restarts.total, 6);
    }

    #[test]
    fn what_was_ready_is_started_again_at_once() {
        let mut restarts = Restarts::default();
        for now_ms in [0, 100, 200] {
            restarts.died(now_ms, Intensity::OF_ONE);
            assert_eq!(restarts.not_before_ms, now_ms);
            restarts.is_ready();
        }
    }

    #[test]
    fn only_the_deaths_within_the_window_count() {
        let mut restarts = Restarts::default();
        for death in 0..100 {
            assert!(restarts.died(death * 2_000, Intensity::OF_ONE));
            restarts.is_ready();
        }
        assert_eq!(restarts.total, 100);
    }

    #[test]
    fn beyond_the_limit_it_is_never_started_oftener_than_the_limit_says() {
        let mut restarts = Restarts::default();
        let mut starts = Vec::new();
        let mut now_ms = 0;
        for _ in 0..60 {
            restarts.died(now_ms, Intensity::OF_ONE);
            restarts.is_ready();
            now_ms = now_ms.max(restarts.not_before_ms);
            starts.push(now_ms);
        }
        for first in &starts {
            let within = starts.iter().filter(|start| (*first..first + 10_000).contains(start)).count();
            assert!(within <= 6, "{within} starts within ten seconds of {first}");
        }
    }
}
