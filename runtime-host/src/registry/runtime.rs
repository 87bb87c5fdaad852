//! What a runtime type is to the tick thread, and what its factory is given.

use std::time::Duration;

use ipc::message::StartRuntime;
use ipc::segment::SegmentError;
use ipc::state::Clock;

use crate::host::live::stage::Sounding;
use crate::host::program::Program;

/// A runtime type at work: when its ticks are due and where their output goes. Built on the control thread by the type's
/// factory, then owned by the tick thread, and freed on the control thread again.
pub trait Runtime: Send {
    /// Number of the first tick.
    fn first_tick(&self) -> u64;

    /// Time one tick may take, in nanoseconds.
    fn tick_ns(&self) -> u64;

    /// Frames that a tick delivers; 0 for types without sound.
    fn tick_frames(&self) -> u32 {
        0
    }

    /// Sleeps until a tick is due, at most `patience`; returns whether one is.
    fn wait_rt(&mut self, patience: Duration) -> bool;

    /// Hands the input of `tick` to the program. It may be a tick that has been executed before, by another host.
    fn sample_inputs_rt(&mut self, tick: u64, program: &mut Program);

    /// Delivers the tick's output. Without a program (it is frozen, held, or this tick failed) it is silence, so that nobody
    /// waits for it. Returns how many samples were not finite and were replaced.
    fn publish_rt(&mut self, sounding: Sounding<'_>) -> u64;

    /// Where the clock is that drives the runtime, if one does.
    fn clock_rt(&self) -> Option<Clock> {
        None
    }

    /// Ticks that were due and never ran.
    fn lost_ticks(&self) -> u64;

    /// The runtime is to end: fade out.
    fn begin_end_rt(&mut self);

    /// Whether nothing of it can be heard any more.
    fn has_ended_rt(&self) -> bool;
}

/// What a factory builds from.
pub struct Assembly<'a> {
    pub start: &'a StartRuntime,
    /// Where another host stopped; `None` for a runtime that has not run yet.
    pub resume: Option<Resume>,
}

/// Where a runtime goes on that is not known from its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The next tick.
    pub tick: u64,
    pub clock: Option<Clock>,
}

/// Why a runtime could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the runtime type `{0}` needs a lane and was given none")]
    NoLane(&'static str),
    #[error("the lane cannot be used: {0}")]
    Lane(#[from] SegmentError),
    #[error("a sample rate of 0 makes no ticks")]
    NoSampleRate,
}
