//! Which failures of a running program are reported, and when: the first at once, repeats batched.
//!
//! Lives on the tick thread: fixed size, no allocation, time comes in as an argument. A failure is told apart by kind and
//! place; each gets at most four reports a second, and there is room for a few different ones at a time. A program that
//! fails in more places than that at once still has every failure counted, as a repeat of another.

use super::failure::Failure;
use ipc::fault::FaultKind;

/// Different failures that are told apart at a time.
const SLOTS: usize = 4;
/// Shortest time between two reports of one failure, in nanoseconds: four a second.
const REPORT_INTERVAL_NS: u64 = 250_000_000;
/// The same for numbers that were not finite: a program that makes one usually makes them in every block.
const NON_FINITE_INTERVAL_NS: u64 = 2_000_000_000;
/// A failure that has not come back for this long gives its slot away, in nanoseconds.
const QUIET_NS: u64 = 1_000_000_000;

/// A failure as the tick thread reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub failure: Failure,
    /// The first tick it stands for.
    pub tick: u64,
    /// How many more ticks it stands for.
    pub repeats: u64,
    /// The program is held from here on.
    pub held: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    failure: Failure,
    /// What has happened since the last report: first tick, number of ticks.
    waiting: Option<(u64, u64)>,
    /// `None`: never, so that the first report is due at once.
    reported_ns: Option<u64>,
    seen_ns: u64,
}

impl Slot {
    fn interval_ns(&self) -> u64 {
        if self.failure.kind == FaultKind::NonFinite { NON_FINITE_INTERVAL_NS } else { REPORT_INTERVAL_NS }
    }

    fn is_due(&self, now_ns: u64) -> bool {
        let is_time = self.reported_ns.is_none_or(|reported_ns| now_ns.saturating_sub(reported_ns) >= self.interval_ns());
        is_time && self.waiting.is_some()
    }

    fn take_rt(&mut self, now_ns: u64) -> Option<Report> {
        let (tick, ticks) = self.waiting.take()?;
        self.reported_ns = Some(now_ns);
        Some(Report { failure: self.failure, tick, repeats: ticks - 1, held: false })
    }
}

/// Decides about reports. Every failure that is noted comes out in exactly one report, as its first tick or as a repeat.
#[derive(Default)]
pub struct FaultLog {
    slots: [Option<Slot>; SLOTS],
}

impl FaultLog {
    /// Takes note of a failure in `tick`.
    pub fn note_rt(&mut self, failure: Failure, tick: u64, now_ns: u64) {
        let slot = self.slot_for_rt(failure, now_ns);
        slot.seen_ns = now_ns;
        slot.waiting = match slot.waiting {
            Some((first, ticks)) => Some((first, ticks + 1)),
            None => Some((tick, 1)),
        };
    }

    /// The next report that is due, if one is.
    pub fn due_rt(&mut self, now_ns: u64) -> Option<Report> {
        self.slots.iter_mut().flatten().find(|slot| slot.is_due(now_ns))?.take_rt(now_ns)
    }

    /// Any report that is waiting, due or not: for the end.
    pub fn rest_rt(&mut self, now_ns: u64) -> Option<Report> {
        self.slots.iter_mut().flatten().find(|slot| slot.waiting.is_some())?.take_rt(now_ns)
    }

    /// The report of this failure as it stands, due or not.
    pub fn take_rt(&mut self, failure: Failure, now_ns: u64) -> Option<Report> {
        self.slot_for_rt(failure, now_ns).take_rt(now_ns)
    }

    fn slot_for_rt(&mut self, failure: Failure, now_ns: u64) -> &mut Slot {
        let same = |slot: &Option<Slot>| slot.is_some_and(|slot| slot.failure == failure);
        let free = |slot: &Option<Slot>| slot.is_none_or(|slot| slot.waiting.is_none() && now_ns.saturating_sub(slot.seen_ns) >= QUIET_NS);
        let known = self.slots.iter().position(same);
        let index = known.or_else(|| self.slots.iter().position(free)).unwrap_or(SLOTS - 1);
        let slot = &mut self.slots[index];
        if known.is_none() && free(slot) {
            *slot = None;
        }
        slot.get_or_insert(Slot { failure, waiting: None, reported_ns: None, seen_ns: now_ns })
    }
}

#[cfg(test)]
mod tests {
    use ipc::manifest::SourcePoint;

    use super::*;

    /// A process is never younger than this when its program fails.
    const START_NS: u64 = 10_000_000_000;
    const TICK_NS: u64 = 2_666_667;

    fn failure(line: u32) -> Failure {
        let point = SourcePoint { wasm_offset: line, block: 0, line_in_block: line, is_budget: false };
        Failure { kind: FaultKind::DivisionByZero, point: Some(point) }
    }

    fn drain(log: &mut FaultLog, now_ns: u64) -> Vec<Report> {
        std::iter::from_fn(|| log.due_rt(now_ns)).collect()
    }

    #[test]
    fn the_first_failure_is_reported_at_once_and_repeats_in_batches() {
        let mut log = FaultLog::default();
        let mut reports = Vec::new();
        for tick in 0..375 {
            let now_ns = START_NS + tick * TICK_NS;
            log.note_rt(failure(3), tick, now_ns);
            let due = drain(&mut log, now_ns);
            assert!(tick != 0 || due == [Report { failure: failure(3), tick: 0, repeats: 0, held: false }]);
            reports.extend(due);
        }
        assert!(reports.len() <= 5, "{} reports in one second", reports.len());
        let last = log.rest_rt(START_NS).unwrap();
        let counted: u64 = reports.iter().chain([&last]).map(|report| report.repeats + 1).sum();
        assert_eq!(counted, 375, "every failing tick is in exactly one report");
        assert_eq!(reports[1].tick, 1, "a batch begins with the tick after the last report");
    }

    #[test]
    fn different_failures_are_told_apart() {
        let mut log = FaultLog::default();
        log.note_rt(failure(1), 5, START_NS);
        log.note_rt(failure(2), 6, START_NS);
        let lines: Vec<_> = drain(&mut log, START_NS).iter().map(|report| report.failure).collect();
        assert_eq!(lines, [failure(1), failure(2)]);
    }

    #[test]
    fn more_failures_than_slots_are_counted_and_do_not_flood() {
        let mut log = FaultLog::default();
        let mut reports = Vec::new();
        for tick in 0..1_000 {
            let now_ns = START_NS + tick * 1_000_000;
            log.note_rt(failure(tick as u32 % 50), tick, now_ns);
            reports.extend(drain(&mut log, now_ns));
        }
        reports.extend(std::iter::from_fn(|| log.rest_rt(START_NS)));
        assert!(reports.len() <= SLOTS * 6, "{}", reports.len());
        assert_eq!(reports.iter().map(|report| report.repeats + 1).sum::<u64>(), 1_000);
    }

    #[test]
    fn a_failure_that_comes_back_later_is_reported_at_once_again() {
        let mut log = FaultLog::default();
        log.note_rt(failure(1), 0, START_NS);
        assert_eq!(drain(&mut log, START_NS).len(), 1);
        let later_ns = START_NS + QUIET_NS;
        log.note_rt(failure(1), 400, later_ns);
        assert_eq!(drain(&mut log, later_ns), [Report { failure: failure(1), tick: 400, repeats: 0, held: false }]);
    }
}
