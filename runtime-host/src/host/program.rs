//! A program bound to its runtime type: the engine, the export that is one tick, and where its inputs and outputs lie.
//!
//! Prepared on the control thread, handed whole to the tick thread, and handed back to be freed.

use ipc::artifact::DefaultBytes;
use ipc::hash::ContentHash;
use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS};
use ipc::live::RequestId;
use ipc::midi::Received;
use ipc::state::{Applied, Clock, Head, Ramp, StateWriter, Write};
use ipc::wires::WireId;

use super::engine::{Engine, ExportHandle, INIT_ONLY};
use super::failure::Failure;
use super::live::handover::{Fade, Identity, LayoutId};
use super::live::snapshot::Snapshot;
use crate::registry::midi::inputs::{self, InputRoute};
use crate::registry::midi::routes::OutputRoute;

/// Bytes of one block of one channel.
pub const BLOCK_BYTES: usize = BLOCK_FRAMES * size_of::<f32>();

/// A block of samples in a program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index into `Manifest::memories`.
    pub memory: u32,
    pub byte_address: u32,
}

/// What a runtime type wants of a program.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// The export to call every tick; `None` when the program lacks it: then nothing of it runs.
    pub export: Option<ExportHandle>,
    /// Where an input block goes.
    pub input: Option<Route>,
    /// Where each channel's output block is taken from; `None` is silent.
    pub outputs: [Option<Route>; LANE_CHANNELS],
    /// The ways by which notes and controllers leave.
    pub midi: Box<[OutputRoute]>,
    /// The ways by which messages come in.
    pub midi_in: Box<[InputRoute]>,
}

/// A program as the tick thread has it.
pub struct Program {
    engine: Engine,
    binding: Binding,
    /// Runs the init-only modules; `None` when there are none.
    init_only: Option<ExportHandle>,
    identity: Identity,
    /// The memories at the start of the tick; `None` when they are too large to be copied every tick.
    start: Option<Snapshot>,
    /// Where its checkpoints go; `None` when nobody would take it over.
    state: Option<StateWriter>,
}

/// A program that is blended out.
#[derive(Clone, Copy)]
pub struct Fading<'a> {
    pub program: &'a Program,
    /// How far it is at the start of the tick.
    pub fade: Fade,
}

impl Program {
    /// A program whose code is `layout` to the host; see [`super::live::layouts`].
    pub fn new(engine: Engine, binding: Binding, layout: LayoutId, state: Option<StateWriter>) -> Self {
        let init_only = engine.export(INIT_ONLY);
        let identity = Identity { layout, revision: engine.manifest().revision };
        let start = Snapshot::of_all(&engine);
        Self { engine, binding, init_only, identity, start, state }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn layout(&self) -> LayoutId {
        self.identity.layout
    }

    pub fn revision(&self) -> ContentHash {
        self.identity.revision
    }

    /// A patch has made another revision of it.
    pub fn set_revision(&mut self, revision: ContentHash) {
        self.identity.revision = revision;
    }

    /// Whether it has somewhere to put its checkpoints.
    pub fn keeps_state_rt(&self) -> bool {
        self.state.is_some()
    }

    /// Writes a checkpoint, if it has somewhere to put it. Returns whether it has.
    pub fn checkpoint_rt(&mut self, sequence: u64, head: &Head, ramps: &[Ramp], applied: &Applied) -> bool {
        let Some(state) = &mut self.state else { return false };
        state.checkpoint_rt(sequence, head, ramps, applied, |index| self.engine.memory(index));
        true
    }

    /// Logs values that are written in `tick`. Returns false when they can only be kept by a checkpoint.
    pub fn log_set_rt(&mut self, request: RequestId, tick: u64, steps: u32, writes: &[Write]) -> bool {
        self.state.as_mut().is_none_or(|state| state.log_set_rt(request, tick, steps, writes))
    }

    /// Logs messages that come in in `tick`. Returns false when they can only be kept by a checkpoint.
    pub fn log_midi_rt(&mut self, request: RequestId, tick: u64, messages: &[Received]) -> bool {
        self.state.as_mut().is_none_or(|state| state.log_midi_rt(request, tick, messages))
    }

    /// Logs a value that a control wire brings in `tick`. Returns false when it can only be kept by a checkpoint.
    pub fn log_wire_rt(&mut self, wire: WireId, tick: u64, write: &Write) -> bool {
        self.state.as_mut().is_none_or(|state| state.log_wire_rt(wire, tick, write))
    }

    /// All ticks below `ticks` are complete.
    pub fn complete_rt(&self, ticks: u64, clock: Option<Clock>) {
        if let Some(state) = &self.state {
            state.complete_rt(ticks, clock);
        }
    }

    /// Says where the clock is.
    pub fn put_clock_rt(&self, clock: Option<Clock>) {
        if let Some(state) = &self.state {
            state.put_clock_rt(clock);
        }
    }

    /// Runs the init-only modules.
    pub fn run_init_only_rt(&mut self) -> Result<(), Failure> {
        match self.init_only {
            Some(export) => self.engine.call_rt(export),
            None => Ok(()),
        }
    }

    /// Writes bytes to where they belong.
    pub fn write_rt(&mut self, parts: &[DefaultBytes]) {
        self.engine.write_rt(parts);
    }

    /// Runs one tick. One that fails leaves the memories as they were before, unless they are too large for that
    /// ([`ipc::limits::MAX_KEPT_START_BYTES`]): then what it wrote until then stays.
    pub fn tick_rt(&mut self) -> Result<(), Failure> {
        let Some(export) = self.binding.export else { return Ok(()) };
        if let Some(start) = &mut self.start {
            start.take_rt(&self.engine);
        }
        let outcome = self.engine.call_rt(export);
        if outcome.is_err()
            && let Some(start) = &self.start
        {
            start.restore_rt(&mut self.engine);
        }
        outcome
    }

    /// The ways by which notes and controllers leave the program.
    pub fn midi_rt(&self) -> &[OutputRoute] {
        &self.binding.midi
    }

    /// Hands a message that has come in to everything that takes it. A callback that fails leaves the memories as they were
    /// before, as far as [`Program::tick_rt`] does; the first failure is returned.
    pub fn receive_rt(&mut self, received: Received) -> Result<(), Failure> {
        let Self { engine, binding, start, .. } = self;
        let mut outcome = Ok(());
        for route in &binding.midi_in {
            let Some(callback) = inputs::receive_rt(engine, route, received) else { continue };
            if let Some(start) = start {
                start.take_rt(engine);
            }
            if let Err(failure) = engine.call_back_rt(callback, received.message) {
                if let Some(start) = start {
                    start.restore_rt(engine);
                }
                outcome = outcome.and(Err(failure));
            }
        }
        outcome
    }

    /// Writes an input block to where the program wants it, if it wants one.
    pub fn write_input_rt(&mut self, input: &[f32; BLOCK_FRAMES]) {
        let Some(route) = self.binding.input else { return };
        let Some(bytes) = self.engine.bytes_mut_rt(route.memory, route.byte_address, BLOCK_BYTES) else { return };
        for (bytes, sample) in bytes.chunks_exact_mut(size_of::<f32>()).zip(input) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
    }

    /// Copies a channel's output block out. A channel without one is silent. Returns how many samples were not finite;
    /// they are zero in the copy.
    pub fn read_output_rt(&self, channel: usize, output: &mut [f32; BLOCK_FRAMES]) -> u64 {
        let route = self.binding.outputs.get(channel).copied().flatten();
        let Some(bytes) = route.and_then(|route| self.engine.bytes_rt(route.memory, route.byte_address, BLOCK_BYTES)) else {
            output.fill(0.0);
            return 0;
        };
        let mut non_finite = 0;
        for (sample, bytes) in output.iter_mut().zip(bytes.as_chunks::<{ size_of::<f32>() }>().0) {
            let value = f32::from_le_bytes(*bytes);
            non_finite += u64::from(!value.is_finite());
            *sample = if value.is_finite() { value } else { 0.0 };
        }
        non_finite
    }
}
