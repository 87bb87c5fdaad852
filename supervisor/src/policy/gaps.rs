//! What deaths have cost, counted: blocks that the device went without, and ticks that nobody executed. Part of the state
//! machine: see the parent module.
//!
//! A device host counts from its own beginning. What clients see counts on over the deaths of device hosts: what a dead one had
//! told is added to what the next one tells.

use ipc::recovery::TookOver;
use serde::{Deserialize, Serialize};

use super::program::Lane;
use super::{Action, Policy, Report, RuntimeIndex};

/// How long after a takeover its gap is known: the device host reports about ten times a second.
const GAP_KNOWN_MS: u64 = 50;

/// What went missing while a program had no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Blocks that the device went without.
    Blocks(u64),
    /// Ticks that were due and have not been executed, of a program that makes no sound.
    Ticks(u64),
}

impl Gap {
    /// Of a program that makes sound.
    pub fn blocks(self) -> Option<u64> {
        match self {
            Self::Blocks(blocks) => Some(blocks),
            Self::Ticks(_) => None,
        }
    }

    /// Of a program that makes none.
    pub fn ticks(self) -> Option<u64> {
        match self {
            Self::Ticks(ticks) => Some(ticks),
            Self::Blocks(_) => None,
        }
    }
}

/// A takeover whose gap is not yet known.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub took: Box<TookOver>,
    pub pid: u32,
    /// What had gone missing before the death.
    pub before: Gap,
    pub at_ms: u64,
}

/// The blocks of one lane that devices went without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underruns {
    /// What device hosts told that are dead.
    earlier: u64,
    pub total: u64,
}

impl Underruns {
    /// The device host has counted so many since it began. Returns how many there were in all.
    pub fn told(&mut self, since_begin: u64) -> u64 {
        self.total = self.earlier.saturating_add(since_begin);
        self.total
    }

    /// The next device host counts from 0.
    pub fn device_lost(&mut self) {
        self.earlier = self.total;
    }
}

impl Policy {
    /// Whether what a program's death costs can be heard.
    pub fn has_sound(&self, runtime: RuntimeIndex) -> bool {
        let program = &self.programs[runtime.0];
        matches!(program.lane, Lane::Created(_)) && program.revision.as_ref().is_none_or(|revision| revision.plan.has_sound())
    }

    /// Ticks that a program's hosts have told to be lost.
    fn lost_ticks(&self, runtime: RuntimeIndex) -> u64 {
        let named = self.programs[runtime.0].runtime.filter(|named| self.runtimes[*named].slot == Some(runtime));
        named.map_or(0, |named| self.runtimes[named].status.lost_ticks)
    }

    /// A host goes on: what it cost is told as soon as that is known.
    pub(super) fn recovered(&mut self, now_ms: u64, runtime: RuntimeIndex, took: Box<TookOver>, pid: u32) {
        let blocks = self.programs[runtime.0].watch.underruns;
        let before = if self.has_sound(runtime) { Gap::Blocks(blocks) } else { Gap::Ticks(self.lost_ticks(runtime)) };
        self.programs[runtime.0].recovered = Some(Recovered { took, pid, before, at_ms: now_ms });
    }

    /// The device host has reported: the gaps of takeovers are known.
    pub(super) fn measure_gaps(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        for runtime in (0..self.programs.len()).map(RuntimeIndex) {
            let program = &self.programs[runtime.0];
            let is_known = |recovered: &&Recovered| recovered.at_ms + GAP_KNOWN_MS <= now_ms;
            let Some(Gap::Blocks(before)) = program.recovered.as_ref().filter(is_known).map(|recovered| recovered.before) else {
                continue;
            };
            let gap = Gap::Blocks(program.underruns.total.saturating_sub(before));
            self.tell_recovered(runtime, gap, actions);
        }
    }

    /// A host has reported: it counts on from where its program was when the one before it died.
    pub(super) fn measure_lost_ticks(&mut self, runtime: RuntimeIndex, lost_ticks: u64, actions: &mut Vec<Action>) {
        let before = self.programs[runtime.0].recovered.as_ref().map(|recovered| recovered.before);
        if let Some(Gap::Ticks(before)) = before {
            self.tell_recovered(runtime, Gap::Ticks(lost_ticks.saturating_sub(before)), actions);
        }
    }

    fn tell_recovered(&mut self, runtime: RuntimeIndex, gap: Gap, actions: &mut Vec<Action>) {
        if let Some(Recovered { took, pid, .. }) = self.programs[runtime.0].recovered.take() {
            actions.push(Action::Tell(Report::HostReady { runtime, took, pid, gap }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_device_hosts_told_is_added_to_what_the_next_one_tells() {
        let mut underruns = Underruns::default();
        assert_eq!(underruns.told(7), 7);
        underruns.device_lost();
        assert_eq!((underruns.total, underruns.told(0), underruns.told(2)), (7, 7, 9));
    }

    #[test]
    fn a_gap_is_of_blocks_or_of_ticks() {
        assert_eq!((Gap::Blocks(0).blocks(), Gap::Blocks(0).ticks()), (Some(0), None));
        assert_eq!((Gap::Ticks(3).blocks(), Gap::Ticks(3).ticks()), (None, Some(3)));
    }
}
