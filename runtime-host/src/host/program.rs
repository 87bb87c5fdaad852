//! A program bound to its runtime type: the engine, the export that is one tick, and where its inputs and outputs lie.
//!
//! Prepared on the control thread, handed whole to the tick thread, and handed back to be freed.

use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS};

use super::engine::{Engine, ExportHandle};
use super::failure::Failure;

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
}

/// A program as the tick thread has it.
pub struct Program {
    engine: Engine,
    binding: Binding,
}

impl Program {
    pub fn new(engine: Engine, binding: Binding) -> Self {
        Self { engine, binding }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs one tick.
    pub fn tick_rt(&mut self) -> Result<(), Failure> {
        match self.binding.export {
            Some(export) => self.engine.call_rt(export),
            None => Ok(()),
        }
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
