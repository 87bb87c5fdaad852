//! State segments: where a host keeps what another one needs to go on for it (DESIGN §10).
//!
//! One for each program of a runtime, made by the supervisor ([`create`]), written by the tick thread of the host that runs the
//! program ([`StateWriter`]), read by the host that takes over ([`StateReader`]) and, for a few words, by the supervisor
//! ([`StateView`]). It holds two checkpoint slots, the log of the inputs since the newer one, the requests that have taken
//! effect, and how many ticks are complete.
//!
//! A checkpoint of tick n is the program as it is in tick n after everything that is to take effect in it, and before the
//! program runs in it. A slot is invalidated first, filled, and made valid last ([`Commit`]), so that at every moment one of
//! both is complete. Every checkpoint of a runtime, in whichever of its segments, has a sequence number of its own: the one
//! with the highest that is of a *running* program tells what ran. The old program of a trial or a crossfade is kept in its
//! own segment, in a checkpoint that says so and that the one of the running program names: the two belong together.
//!
//! The log holds what has taken effect since the newest checkpoint of the running program. It knows writes of values, whoever
//! asked for them, what control wires have brought, and MIDI that has come in: whatever else takes effect forces a checkpoint
//! in its tick. Its records begin with a kind, so that others may be added.
//!
//! A reader must not believe what it finds: a dying host may have written anywhere. It copies, checks, and then uses.

mod commit;
mod layout;
mod reader;
mod words;
mod writer;

pub use commit::Commit;
pub use reader::{Found, Logged, LoggedMidi, LoggedSet, LoggedWire, StateReader, StateView};
pub use writer::StateWriter;

use crate::hash::ContentHash;
use crate::limits::MAX_LIVE_REQUESTS;
use crate::live::RequestId;
use crate::manifest::{ElementType, Manifest};
use crate::segment::{Segment, SegmentError, SegmentKind, SessionId};
use layout::Layout;

/// Bytes of the largest element.
pub const MAX_ELEMENT_BYTES: usize = 8;

/// A state segment for the program that `manifest` describes, created by the supervisor before the program is sent.
pub fn create(session: &SessionId, generation: u64, manifest: &Manifest) -> Result<Segment, SegmentError> {
    Segment::create(session, SegmentKind::State, generation, Layout::of(manifest).payload_bytes())
}

/// What a checkpoint says beside the bytes of the memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The tick that it is of.
    pub tick: u64,
    /// Whether what takes effect in that tick has: ramps have stepped, logged inputs have been applied. Always, except before
    /// the first tick.
    pub has_begun: bool,
    pub role: Role,
    pub revision: ContentHash,
    pub is_frozen: bool,
    /// What is heard in this tick does not go on from what was heard before, and is joined to it.
    pub has_break: bool,
    /// Failing ticks in a row; from some number on the program is held.
    pub failed_in_a_row: u32,
    pub trial: Option<OpenTrial>,
}

/// Whose checkpoint it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The program that runs.
    Running {
        /// Sequence number of the checkpoint of the program that a failed trial goes back to, or that is being blended out.
        kept: Option<u64>,
    },
    /// That other program.
    Kept,
}

/// A change that can still be undone, or a crossfade that is still going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTrial {
    pub request: RequestId,
    /// It is a patch: there is no other program to go back to.
    pub is_patch: bool,
    /// Ticks that are still to be completed; 0 when only the crossfade is going on.
    pub ticks_left: u32,
    pub fade_done_frames: u32,
    pub fade_total_frames: u32,
}

/// One element to write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Write {
    pub memory: u32,
    pub address: u32,
    pub element: ElementType,
    /// As many of these as the element has.
    pub bytes: [u8; MAX_ELEMENT_BYTES],
}

/// A value on its way to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// Where it is, and the bytes of its last step.
    pub write: Write,
    pub from: f64,
    pub to: f64,
    /// Steps taken so far.
    pub step: u32,
    pub steps: u32,
}

/// When the ticks of a runtime are due that a clock drives: deadline n lies n ticks after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// On the monotonic clock, which all processes of a machine share. Not 0.
    pub start_ns: u64,
    /// Number of the next deadline. Those before it have made a tick or are lost.
    pub next: u64,
}

/// The last requests that have taken effect, with their ticks. Its room is fixed.
#[derive(Clone, Debug)]
pub struct Applied {
    entries: Box<[(RequestId, u64)]>,
    /// How many there have ever been.
    total: u64,
}

impl Default for Applied {
    fn default() -> Self {
        Self { entries: vec![(0, 0); MAX_LIVE_REQUESTS].into(), total: 0 }
    }
}

impl Applied {
    /// A request has taken effect.
    pub fn push_rt(&mut self, request: RequestId, tick: u64) {
        let index = self.index(self.total);
        self.entries[index] = (request, tick);
        self.total += 1;
    }

    /// Those that are known, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, u64)> + '_ {
        self.since_rt(0).map(|(_, entry)| entry)
    }

    /// Those with at least this number that are known, with their numbers, oldest first.
    fn since_rt(&self, number: u64) -> impl Iterator<Item = (u64, (RequestId, u64))> + '_ {
        let first = self.total.saturating_sub(self.entries.len() as u64).max(number);
        (first..self.total).map(|number| (number, self.entries[self.index(number)]))
    }

    fn index(&self, number: u64) -> usize {
        (number % self.entries.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests;
