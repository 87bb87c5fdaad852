//! Who makes no progress although work is due. Part of the state machine: see the parent module.
//!
//! The shell looks at counters in shared memory, which move whether the host talks or not. Only the time that the supervisor
//! itself has seen counts: a look that comes late says more about us than about the hosts, so a starved supervisor kills
//! nobody.

use runtime_host::registry;

use super::program::{Lane, Phase, Program};
use super::{Action, Device, Policy, Progress, Report, RuntimeIndex, Stage};

/// From one look to the next.
const LOOK_MS: u64 = 50;

/// A look that comes later than this after the one before it does not count.
const LATE_LOOK_MS: u64 = 2 * LOOK_MS;

/// From here on a standstill is told: long after the lead has drained, and more than a moment's pressure on the machine.
const TELL_MS: u64 = 100;

/// A device host that plays reports about ten times a second. It may have to wait for a sound server meanwhile.
const DEVICE_SILENT_MS: u64 = 3_000;

/// When a device host is given up that neither reports nor asks a lane for sound. The two come from different threads, the second
/// from one of real-time priority, and from the null device while a sound server is lost. In this time five reports are due and
/// three of the longest periods that devices have (8,192 frames); what is merely slow shows one of them.
const DEVICE_STILL_MS: u64 = 500;

/// What the device host asks of the lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Blocks wanted of all lanes that it plays.
    blocks: u64,
    /// How long that has been the same.
    still_ms: u64,
}

/// What is known of a program's progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    done: u64,
    stalled_ms: u64,
    /// Underruns of its lane when it made progress last: what comes after them is the gap, if it dies.
    pub underruns: u64,
}

impl Watch {
    /// For the next host of the same program.
    pub fn begun_anew(self) -> Self {
        Self { underruns: self.underruns, ..Self::default() }
    }

    /// How long it has made no progress.
    pub fn stalled_ms(&self) -> u64 {
        self.stalled_ms
    }

    /// Whether people have been told that it makes no progress.
    pub fn is_stalled(&self) -> bool {
        self.stalled_ms >= TELL_MS
    }
}

impl Program {
    /// Whether it delivers sound.
    fn plays(&self) -> bool {
        self.revision.as_ref().is_some_and(|revision| revision.plan.has_sound())
    }
}

impl Policy {
    /// Asks for a look as often as is needed.
    pub(super) fn advance_looks(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if self.look_deadline_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            self.asked_look_ms = now_ms;
            actions.push(Action::Look);
        }
    }

    pub(super) fn look_deadline_ms(&self) -> Option<u64> {
        let is_running = self.programs.iter().any(|program| matches!(program.phase, Phase::Running | Phase::Held));
        (self.is_live() && self.stage == Stage::Working && is_running).then_some(self.asked_look_ms + LOOK_MS)
    }

    pub(super) fn looked(&mut self, now_ms: u64, found: &[Progress], actions: &mut Vec<Action>) {
        let since_ms = now_ms.saturating_sub(self.last_look_ms);
        self.last_look_ms = now_ms;
        let seen_ms = if since_ms <= LATE_LOOK_MS { since_ms } else { 0 };
        for progress in found {
            self.look_at(now_ms, *progress, seen_ms, actions);
        }
        self.look_at_device(now_ms, found, seen_ms, actions);
        self.look_at_spare(now_ms, seen_ms, actions);
    }

    fn look_at(&mut self, now_ms: u64, progress: Progress, seen_ms: u64, actions: &mut Vec<Action>) {
        let Progress { runtime, done, due } = progress;
        let is_driven = self.is_rendering();
        let Some(program) = self.programs.get_mut(runtime.0) else { return };
        let underruns = program.underruns.total;
        let is_running = matches!(program.phase, Phase::Running | Phase::Held);
        let before = program.watch;
        // What is wanted of a program with sound, and what it hears, comes from the device host: while that has no device yet,
        // because a sound server does not answer or another one is opened, whoever waits for it is not to blame.
        let waits_for_device = !is_driven && program.plays();
        if !is_running || waits_for_device || due <= done || done != before.done {
            // While nobody computes, the gap grows: it began where the last one stopped.
            let underruns = if is_running { underruns } else { before.underruns };
            program.watch = Watch { done, stalled_ms: 0, underruns };
            if is_running && before.is_stalled() {
                actions.push(Action::Tell(Report::Resumed { runtime, stalled_ms: before.stalled_ms }));
            }
            return;
        }
        let stalled_ms = before.stalled_ms + seen_ms;
        program.watch.stalled_ms = stalled_ms;
        if stalled_ms >= TELL_MS && !before.is_stalled() {
            actions.push(Action::Tell(Report::Stalled { runtime, stalled_ms }));
        }
        let found = program.revision.as_ref().and_then(|revision| registry::find(&revision.plan.runtime_type));
        if found.is_some_and(|found| stalled_ms >= found.stall_patience_ms)
            && let Some(host) = self.host(runtime)
        {
            let reason = format!("it has made no progress for {stalled_ms} ms although work is due");
            self.stuck(now_ms, host, reason, actions);
        }
    }

    fn look_at_device(&mut self, now_ms: u64, found: &[Progress], seen_ms: u64, actions: &mut Vec<Action>) {
        let still_ms = self.look_at_demand(found, seen_ms);
        if self.device != Device::Open {
            self.device_silent_ms = 0;
            return;
        }
        self.device_silent_ms += seen_ms;
        let silent_ms = self.device_silent_ms;
        let reason = if still_ms.is_some_and(|still_ms| still_ms.min(silent_ms) >= DEVICE_STILL_MS) {
            format!("it has asked for nothing and said nothing for {DEVICE_STILL_MS} ms")
        } else if silent_ms >= DEVICE_SILENT_MS {
            format!("it has said nothing for {silent_ms} ms")
        } else {
            return;
        };
        self.device_silent_ms = 0;
        self.stuck(now_ms, self.device(), reason, actions);
    }

    /// Whether the device host has a device, or the null device, and has been told to play.
    pub(super) fn is_rendering(&self) -> bool {
        self.device == Device::Open && self.begun_device == self.device_generation
    }

    /// How long the device host has not asked for sound; `None` while it need not ask.
    fn look_at_demand(&mut self, found: &[Progress], seen_ms: u64) -> Option<u64> {
        let is_playing = self.is_rendering();
        let plays = |program: &Program| program.is_lane_mapped && program.plays();
        let played = found.iter().filter(|progress| self.programs.get(progress.runtime.0).is_some_and(plays));
        let wanted: Vec<u64> = played.map(|progress| progress.due).collect();
        let blocks = wanted.iter().fold(0, |sum: u64, due| sum.wrapping_add(*due));
        let before = self.demand;
        let is_still = is_playing && !wanted.is_empty() && blocks == before.blocks;
        self.demand = Demand { blocks, still_ms: if is_still { before.still_ms + seen_ms } else { 0 } };
        is_still.then_some(self.demand.still_ms)
    }

    /// Where every program's progress can be seen: in its lane, or, where it has none, in its state segment.
    pub fn watched(&self) -> impl Iterator<Item = (RuntimeIndex, Watched<'_>)> {
        self.programs.iter().enumerate().filter_map(|(index, program)| {
            let watched = match (&program.lane, program.keep.current()) {
                (Lane::Created(lane), _) => Watched::Lane(&lane.name),
                (Lane::None | Lane::Asked | Lane::Gone, Some(current)) => Watched::State(&current.state.as_ref()?.name),
                (Lane::None | Lane::Asked | Lane::Gone, None) => return None,
            };
            let is_frozen = program.runtime.is_some_and(|runtime| self.runtimes[runtime].is_frozen);
            let is_counted = matches!(watched, Watched::Lane(_)) || (!is_frozen && program.phase == Phase::Running);
            is_counted.then_some((RuntimeIndex(index), watched))
        })
    }
}

/// The segment that shows how far a program is.
#[derive(Clone, Copy, Debug)]
pub enum Watched<'a> {
    Lane(&'a str),
    State(&'a str),
}
