//! The runtime type `audio`: one tick is one block of 128 frames, delivered through a lane (LANGUAGE §20.4, DESIGN §6).
//!
//! Per tick: the input block goes into memory, the export `buffer` is called, the output blocks are copied out. It never
//! calls `main`. It computes block after block while the lane wants more, so it has no clock of its own.

use std::time::Duration;

use ipc::lane::{Block, LaneReader, LaneWriter, SILENCE};
use ipc::limits::{BLOCK_FRAMES, DEFAULT_SAMPLE_RATE_HZ, SAMPLE_RATE_RANGE_HZ};

use super::midi::inputs;
use super::runtime::{Assembly, BuildError, Runtime};
use super::schema::{ConfigKey, ValueKind};
use super::{RuntimeType, Settings};
use crate::host::engine::Engine;
use crate::host::live::handover::Fade;
use crate::host::live::stage::Sounding;
use crate::host::program::{BLOCK_BYTES, Binding, Fading, Program, Route};
use crate::realtime::TICK_PRIORITY;

const SAMPLE_RATE: &str = "audioRuntime.sampleRate";
const OUT_LEFT: &str = "audioRuntime.audioOutBufferLAddress";
const OUT_RIGHT: &str = "audioRuntime.audioOutBufferRAddress";
const IN_LEFT: &str = "audioRuntime.audioInBufferLAddress";

/// Blocks over which a runtime that ends fades out: 10.7 ms at 48 kHz.
const FADE_BLOCKS: u32 = 4;

/// How a block is joined to what was heard before, if it does not go on from there: the last sample is held and blended into
/// it, which takes 2.7 ms at 48 kHz.
const JOIN: Fade = Fade { done_frames: 0, total_frames: BLOCK_FRAMES as u32 };

pub const TYPE: RuntimeType = RuntimeType {
    id: "audio",
    aliases: &["AudioWorkletRuntime"],
    config: &[
        ConfigKey { path: SAMPLE_RATE, kind: ValueKind::NumberAtLeast(1.0) },
        ConfigKey { path: OUT_LEFT, kind: ValueKind::Memory },
        ConfigKey { path: OUT_RIGHT, kind: ValueKind::Memory },
        ConfigKey { path: IN_LEFT, kind: ValueKind::Memory },
    ],
    sample_rate_key: SAMPLE_RATE,
    default_sample_rate_hz: DEFAULT_SAMPLE_RATE_HZ,
    sample_rate_range_hz: SAMPLE_RATE_RANGE_HZ,
    constants: &[("AUDIO_BUFFER_SIZE", BLOCK_FRAMES as f64)],
    flushes_denormals: true,
    priority: TICK_PRIORITY,
    stall_patience_ms: 500,
    tick_export: "buffer",
    bind,
    build,
};

/// Whether a program has an output on the left, and on the right.
pub fn sides(settings: &Settings) -> [bool; 2] {
    [OUT_LEFT, OUT_RIGHT].map(|path| settings.memory(path).is_some())
}

/// A route that has no address, or whose block would not fit into the memory, is missing: that channel is silent.
fn bind(ty: &RuntimeType, settings: &Settings, engine: &Engine) -> Binding {
    let route = |path| {
        let target = settings.memory(path)?;
        engine.bytes_rt(target.memory, target.byte_address, BLOCK_BYTES)?;
        Some(Route { memory: target.memory, byte_address: target.byte_address })
    };
    Binding {
        export: engine.export(ty.tick_export),
        input: route(IN_LEFT),
        outputs: [route(OUT_LEFT), route(OUT_RIGHT)],
        midi_in: inputs::callbacks(settings, engine).collect(),
        ..Binding::default()
    }
}

fn build(assembly: &Assembly<'_>) -> Result<Box<dyn Runtime>, BuildError> {
    let reference = assembly.start.lane.as_ref().ok_or(BuildError::NoLane(TYPE.id))?;
    let lane = LaneWriter::open(reference)?;
    let mut block = SILENCE;
    if let Some(last) = lane.next_block().checked_sub(1) {
        // Another host has written it. Should it be gone, nobody can have heard it lately.
        let _ = LaneReader::<ipc::segment::Segment>::open(reference)?.read_rt(last, &mut block);
    }
    let sample_rate_hz = u64::from(assembly.start.sample_rate);
    let tick_ns = (BLOCK_FRAMES as u64 * 1_000_000_000).checked_div(sample_rate_hz).ok_or(BuildError::NoSampleRate)?;
    Ok(Box::new(AudioRuntime {
        lane,
        tick_ns,
        is_offline: assembly.start.is_offline,
        input: [0.0; BLOCK_FRAMES],
        block,
        fading: SILENCE,
        fade_blocks_left: None,
    }))
}

struct AudioRuntime {
    lane: LaneWriter,
    tick_ns: u64,
    /// The reader waits for blocks instead of pacing itself, so it has to be woken.
    is_offline: bool,
    /// What the program hears. Silence as long as no microphone is attached.
    input: [f32; BLOCK_FRAMES],
    /// The last block that was delivered.
    block: Block,
    /// What a program that is blended out makes.
    fading: Block,
    /// `Some` once the runtime is to end.
    fade_blocks_left: Option<u32>,
}

impl AudioRuntime {
    fn fade_rt(&mut self) {
        let Some(left) = self.fade_blocks_left else { return };
        let total = (FADE_BLOCKS as usize * BLOCK_FRAMES) as f32;
        for channel in &mut self.block {
            for (frame, sample) in channel.iter_mut().enumerate() {
                let frames_left = (left as usize * BLOCK_FRAMES).saturating_sub(frame + 1);
                *sample *= frames_left as f32 / total;
            }
        }
        self.fade_blocks_left = Some(left.saturating_sub(1));
    }
}

/// Copies a program's output block out; without a program it is silence. Returns how many samples were not finite.
fn read_block_rt(program: Option<&Program>, block: &mut Block) -> u64 {
    match program {
        Some(program) => block.iter_mut().enumerate().map(|(channel, samples)| program.read_output_rt(channel, samples)).sum(),
        None => {
            *block = SILENCE;
            0
        }
    }
}

/// Blends from `old` to `block`, linearly, with equal gain: the first frame of the fade still is almost all the old one's, its
/// last is the new one's alone.
fn blend_rt(block: &mut Block, old: &Block, fade: Fade) {
    let total = fade.total_frames.max(1);
    for (samples, old) in block.iter_mut().zip(old) {
        for (frame, (sample, old)) in (fade.done_frames..).zip(samples.iter_mut().zip(old)) {
            let gain = (frame.saturating_add(1)).min(total) as f32 / total as f32;
            *sample = *sample * gain + *old * (1.0 - gain);
        }
    }
}

impl Runtime for AudioRuntime {
    fn tick_frames(&self) -> u32 {
        BLOCK_FRAMES as u32
    }

    fn first_tick(&self) -> u64 {
        self.lane.next_block()
    }

    fn tick_ns(&self) -> u64 {
        self.tick_ns
    }

    fn wait_rt(&mut self, patience: Duration) -> bool {
        self.lane.wait_until_wanted_rt(patience)
    }

    fn sample_inputs_rt(&mut self, program: &mut Program) {
        program.write_input_rt(&self.input);
    }

    fn publish_rt(&mut self, sounding: Sounding<'_>) -> u64 {
        let last = self.block.map(|samples| [samples[BLOCK_FRAMES - 1]; BLOCK_FRAMES]);
        let mut non_finite = read_block_rt(sounding.program, &mut self.block);
        if let Some(Fading { program, fade }) = sounding.fading {
            non_finite += read_block_rt(Some(program), &mut self.fading);
            blend_rt(&mut self.block, &self.fading, fade);
        }
        if sounding.has_break {
            blend_rt(&mut self.block, &last, JOIN);
        }
        self.fade_rt();
        self.lane.write_rt(&self.block);
        if self.is_offline {
            self.lane.wake_reader_rt();
        }
        non_finite
    }

    fn lost_ticks(&self) -> u64 {
        0 // A late block is computed all the same (DESIGN §6).
    }

    fn begin_end_rt(&mut self) {
        self.fade_blocks_left = Some(FADE_BLOCKS);
    }

    fn has_ended_rt(&self) -> bool {
        self.fade_blocks_left == Some(0)
    }
}
