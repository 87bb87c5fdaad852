//! What the runtime types have in common whose ticks come from the clock: absolute deadlines at a fixed rate (DESIGN §6,
//! LANGUAGE §20.5).

use std::time::Duration;

use ipc::limits::TIMER_RATE_RANGE_HZ;
use ipc::state::Clock;

use super::midi::inputs;
use super::runtime::{Assembly, BuildError, Resume, Runtime};
use super::{RuntimeType, Settings};
use crate::host::engine::Engine;
use crate::host::live::stage::Sounding;
use crate::host::program::{Binding, Program};
use crate::realtime::{TIMER_PRIORITY, monotonic_ns_rt, sleep_until_rt};

/// What these types have in common. Each says who it is, which key of the configuration sets its rate, and its usual rate.
pub(super) const BASE: RuntimeType = RuntimeType {
    id: "",
    aliases: &[],
    config: &[],
    sample_rate_key: "",
    default_sample_rate_hz: *TIMER_RATE_RANGE_HZ.start(),
    sample_rate_range_hz: TIMER_RATE_RANGE_HZ,
    constants: &[],
    flushes_denormals: false,
    priority: TIMER_PRIORITY,
    stall_patience_ms: 10_000,
    tick_export: "main",
    bind,
    build,
};

const SECOND_NS: u64 = 1_000_000_000;

/// When ticks are due. Time comes in as an argument; deadlines do not drift, because each is computed from the start.
struct Schedule {
    start_ns: u64,
    rate_hz: u32,
    /// Number of the next deadline; deadline n lies n/rate seconds after the start.
    next: u64,
    lost: u64,
}

impl Schedule {
    fn new(start_ns: u64, rate_hz: u32) -> Self {
        Self { start_ns, rate_hz, next: 0, lost: 0 }
    }

    /// Goes on where another host stopped: deadlines stay where they were, and those that made no tick are lost. A clock that
    /// cannot be (it is in memory that a dying host could write to) begins anew.
    fn resume(resume: Resume, now_ns: u64, rate_hz: u32) -> Self {
        let fresh = Self::new(now_ns.max(1), rate_hz);
        let Some(Clock { start_ns, next }) = resume.clock.filter(|clock| clock.start_ns <= now_ns) else { return fresh };
        let elapsed_ns = u128::from(now_ns - start_ns);
        let most = elapsed_ns * u128::from(rate_hz) / u128::from(SECOND_NS) + 2;
        if u128::from(next) > most {
            return fresh;
        }
        Self { start_ns, rate_hz, next, lost: next.saturating_sub(resume.tick) }
    }

    fn deadline_ns(&self) -> u64 {
        self.deadline_of_ns(self.next)
    }

    fn deadline_of_ns(&self, number: u64) -> u64 {
        self.start_ns + (u128::from(number) * u128::from(SECOND_NS) / u128::from(self.rate_hz)) as u64
    }

    /// Whether a tick is due at `now_ns`. If so, the schedule moves on to the first deadline after `now_ns`: of several
    /// deadlines that have passed, one makes a tick and the others are lost, so that a stall is not followed by a burst.
    fn take_rt(&mut self, now_ns: u64) -> bool {
        if now_ns < self.deadline_ns() {
            return false;
        }
        let elapsed_ns = u128::from(now_ns - self.start_ns);
        let mut passed = (elapsed_ns * u128::from(self.rate_hz) / u128::from(SECOND_NS)) as u64;
        // Deadlines are rounded down to nanoseconds, so one more may have passed than the division says.
        if self.deadline_of_ns(passed + 1) <= now_ns {
            passed += 1;
        }
        self.lost += passed - self.next;
        self.next = passed + 1;
        true
    }
}

/// A runtime whose ticks come from the clock. It has no lanes; types that have some are made around it.
pub(super) struct TimerRuntime {
    first_tick: u64,
    schedule: Schedule,
    /// Every tick is due: a horizon paces it instead of the clock.
    is_free: bool,
    has_ended: bool,
}

/// Binds a timer type: its export, and the callbacks for MIDI.
fn bind(ty: &RuntimeType, settings: &Settings, engine: &Engine) -> Binding {
    Binding { export: engine.export(ty.tick_export), midi_in: inputs::callbacks(settings, engine).collect(), ..Binding::default() }
}

/// Builds a timer runtime; see [`TimerRuntime::build`].
fn build(assembly: &Assembly<'_>) -> Result<Box<dyn Runtime>, BuildError> {
    Ok(Box::new(TimerRuntime::build(assembly)?))
}

impl TimerRuntime {
    /// A timer runtime whose first tick is due now, or that goes on by the clock of another one. Without a lane there is
    /// nothing to be faster for, so an offline session paces it all the same, unless it replays up to a horizon.
    pub(super) fn build(assembly: &Assembly<'_>) -> Result<Self, BuildError> {
        let rate_hz = assembly.start.sample_rate;
        if rate_hz == 0 {
            return Err(BuildError::NoSampleRate);
        }
        let first_tick = assembly.resume.map_or(0, |resume| resume.tick);
        let is_free = assembly.start.run_until.is_some();
        let schedule = match assembly.resume {
            // Nothing paces it: its time is that of its ticks.
            _ if is_free => Schedule { next: first_tick, ..Schedule::new(1, rate_hz) },
            Some(resume) => Schedule::resume(resume, monotonic_ns_rt(), rate_hz),
            None => Schedule::new(monotonic_ns_rt(), rate_hz),
        };
        Ok(Self { first_tick, schedule, is_free, has_ended: false })
    }

    /// Whether no clock paces it.
    pub(super) fn is_free(&self) -> bool {
        self.is_free
    }

    /// When the tick was due that [`Runtime::wait_rt`] announced last, on the monotonic clock.
    pub(super) fn tick_due_ns(&self) -> u64 {
        self.schedule.deadline_of_ns(self.schedule.next.saturating_sub(1))
    }
}

impl Runtime for TimerRuntime {
    fn first_tick(&self) -> u64 {
        self.first_tick
    }

    fn tick_ns(&self) -> u64 {
        SECOND_NS / u64::from(self.schedule.rate_hz)
    }

    fn wait_rt(&mut self, patience: Duration) -> bool {
        if self.is_free {
            self.schedule.next += 1;
            return true;
        }
        let now_ns = monotonic_ns_rt();
        if self.schedule.take_rt(now_ns) {
            return true;
        }
        sleep_until_rt(self.schedule.deadline_ns().min(now_ns + patience.as_nanos() as u64));
        self.schedule.take_rt(monotonic_ns_rt())
    }

    fn sample_inputs_rt(&mut self, _tick: u64, _program: &mut Program) {}

    fn publish_rt(&mut self, _sounding: Sounding<'_>) -> u64 {
        0
    }

    fn clock_rt(&self) -> Option<Clock> {
        (!self.is_free).then_some(Clock { start_ns: self.schedule.start_ns, next: self.schedule.next })
    }

    fn lost_ticks(&self) -> u64 {
        self.schedule.lost
    }

    fn begin_end_rt(&mut self) {
        self.has_ended = true;
    }

    fn has_ended_rt(&self) -> bool {
        self.has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the schedule over `nows`; returns how many ticks ran.
    fn ticks(schedule: &mut Schedule, nows: impl IntoIterator<Item = u64>) -> usize {
        nows.into_iter().filter(|now| schedule.take_rt(*now)).count()
    }

    #[test]
    fn fifty_hertz_make_fifty_ticks_a_second() {
        let mut schedule = Schedule::new(7, 50);
        assert_eq!(ticks(&mut schedule, (0..1_000).map(|ms| 7 + ms * 1_000_000)), 50);
        assert_eq!(schedule.lost, 0);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut schedule = Schedule::new(0, 7);
        let deadlines: Vec<u64> = (0..70).map(|_| (schedule.deadline_ns(), schedule.take_rt(schedule.deadline_ns())).0).collect();
        assert_eq!(schedule.lost, 0);
        assert_eq!(deadlines[63], 9 * SECOND_NS);
        assert!(deadlines.is_sorted());
    }

    #[test]
    fn a_stall_loses_ticks_instead_of_bursting() {
        let mut schedule = Schedule::new(0, 100);
        assert!(schedule.take_rt(0));
        assert!(schedule.take_rt(105_000_000), "ten and a half periods later one tick runs");
        assert_eq!(schedule.lost, 9, "deadlines 1 to 9 are gone, 10 has run");
        assert!(!schedule.take_rt(105_000_001));
        assert!(schedule.take_rt(110_000_000));
    }

    #[test]
    fn a_schedule_that_is_resumed_keeps_its_deadlines_and_counts_what_was_lost() {
        let mut before = Schedule::new(7, 50);
        let ran = ticks(&mut before, (0..1_000).map(|ms| 7 + ms * 1_000_000)) as u64;
        let clock = Clock { start_ns: before.start_ns, next: before.next };
        let mut after = Schedule::resume(Resume { tick: ran, clock: Some(clock) }, 1_105_000_000, 50);
        assert_eq!((after.lost, after.deadline_ns()), (0, 7 + SECOND_NS));
        assert!(after.take_rt(1_105_000_000));
        assert_eq!((after.lost, after.next), (5, 56), "deadlines 50 to 54 passed while nobody was there");
        let mid_tick = Schedule::resume(Resume { tick: ran - 1, clock: Some(clock) }, 1_000_000_000, 50);
        assert_eq!(mid_tick.lost, 1, "a tick that was not completed has lost its deadline");
    }

    #[test]
    fn a_clock_that_cannot_be_begins_anew() {
        for (start_ns, next) in [(u64::MAX, 3), (5_000, u64::MAX), (5_000, 10_000)] {
            let resume = Resume { tick: 9, clock: Some(Clock { start_ns, next }) };
            let mut schedule = Schedule::resume(resume, SECOND_NS, 50);
            assert_eq!((schedule.start_ns, schedule.next, schedule.lost), (SECOND_NS, 0, 0));
            assert!(schedule.take_rt(SECOND_NS));
        }
    }

    #[test]
    fn every_deadline_is_either_run_or_counted_as_lost() {
        let mut schedule = Schedule::new(3, 441);
        let mut now_ns = 3;
        let mut ran = 0;
        for step in 0..10_000u64 {
            now_ns += (step * 7_919) % 9_000_000;
            ran += u64::from(schedule.take_rt(now_ns));
        }
        assert_eq!(ran + schedule.lost, schedule.next);
        assert!(schedule.deadline_ns() > now_ns);
    }
}
