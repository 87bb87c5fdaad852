//! The segments that the supervisor makes for its hosts: lanes, state segments and the
//! boards of control wires. It holds them mapped for as long as their
//! runtime lives, so that their names can be given to another host, and a few words of them be looked at.
//!
//! Used by the main thread only. Reads counters, and never what a program has computed.

use std::collections::HashMap;

use ipc::manifest::Manifest;
use ipc::segment::{self, Segment, SegmentError, SegmentKind, SegmentRef, SessionId};
use ipc::state::StateView;
use ipc::{lane, midi, state, wires};

/// Generation of everything the supervisor makes: its names are random, and never used twice.
const GENERATION: u64 = 1;

/// The supervisor's segments, by name.
pub struct Segments {
    session: SessionId,
    held: HashMap<String, Segment>,
    /// State segments, for looking on.
    states: HashMap<String, StateView>,
}

impl Segments {
    pub fn new(session: SessionId) -> Self {
        Self { session, held: HashMap::new(), states: HashMap::new() }
    }

    /// A lane for a runtime that delivers blocks, or MIDI events.
    pub fn create_lane(&mut self, is_of_notes: bool) -> Result<SegmentRef, SegmentError> {
        let create = if is_of_notes { midi::create } else { lane::create };
        create(&self.session, GENERATION).map(|segment| self.hold(segment))
    }

    /// A place for the checkpoints of a program.
    pub fn create_state(&mut self, manifest: &Manifest) -> Result<SegmentRef, SegmentError> {
        let state = state::create(&self.session, GENERATION, manifest).map(|segment| self.hold(segment))?;
        if let Ok(view) = StateView::open(&state) {
            self.states.insert(state.name.clone(), view);
        }
        Ok(state)
    }

    /// What a runtime needs for its control wires.
    pub fn create_board(&mut self) -> Result<SegmentRef, SegmentError> {
        wires::create(&self.session, GENERATION).map(|segment| self.hold(segment))
    }

    /// A segment that another supervisor of this session has made. Programs may share one: it is held once, because the name
    /// goes with whoever holds it.
    pub fn adopt(&mut self, reference: &SegmentRef) -> Result<(), SegmentError> {
        if self.held.contains_key(&reference.name) {
            return Ok(());
        }
        let mut segment = Segment::open(reference)?;
        segment.own_name();
        self.hold(segment);
        if reference.kind == SegmentKind::State
            && let Ok(view) = StateView::open(reference)
        {
            self.states.insert(reference.name.clone(), view);
        }
        Ok(())
    }

    fn hold(&mut self, segment: Segment) -> SegmentRef {
        let reference = segment.reference().clone();
        self.held.insert(reference.name.clone(), segment);
        reference
    }

    /// Nobody needs this segment by its name any more, whoever has made it.
    pub fn release(&mut self, name: &str) {
        self.states.remove(name);
        match self.held.remove(name) {
            Some(mut segment) => segment.unlink(),
            None => segment::remove_name(&self.session, name),
        }
    }

    /// How many ticks are complete, as a state segment says.
    pub fn ticks(&self, name: &str) -> Option<u64> {
        self.states.get(name).map(StateView::completed_ticks)
    }

    /// How far a lane is: blocks written and blocks wanted, or ticks delivered and ticks due.
    pub fn lane(&self, name: &str) -> Option<(u64, u64)> {
        let lane = self.held.get(name)?;
        let is_of_notes = lane.reference().kind == SegmentKind::MidiLane;
        Some(if is_of_notes { midi::progress(lane, monotonic_ns()) } else { lane::progress(lane) })
    }
}

/// The clock that ticks are due by.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use ipc::segment::Session;

    use super::*;

    #[test]
    fn a_segment_that_two_programs_share_keeps_its_name_when_it_is_taken_back() {
        let session = Session::open().expect("there is shared memory");
        let mut made = Segment::create(session.id(), SegmentKind::Artifact, GENERATION, 64).expect("shared memory has room");
        made.leave_name();
        let mut segments = Segments::new(session.id().clone());
        for _ in 0..2 {
            segments.adopt(made.reference()).expect("it is there");
        }
        assert!(Segment::open(made.reference()).is_ok(), "somebody else can still map it");
        segments.release(&made.reference().name);
        assert!(Segment::open(made.reference()).is_err(), "and it goes when nobody needs it");
    }
}
