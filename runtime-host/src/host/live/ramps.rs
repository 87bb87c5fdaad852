//! Values that move to their target in equal steps, one at the start of each tick.
//!
//! Lives on the tick thread; its room is fixed. Each step is computed from where the ramp began, so that nothing drifts and
//! the last step is exactly the value that was asked for. A ramp ends early where something else takes its place: a newer
//! write, a new default, a reset, or a swap that does not carry the item over.

use ipc::artifact::DefaultBytes;
use ipc::limits::MAX_RAMPS;
use ipc::manifest::ElementType;
use ipc::plan::{CopyRange, MigrationPlan};
use ipc::state::{MAX_ELEMENT_BYTES, Ramp, Write};

use crate::host::engine::Engine;

fn step_rt(ramp: &mut Ramp, engine: &mut Engine) {
    ramp.step += 1;
    let bytes = if ramp.step == ramp.steps {
        ramp.write.bytes
    } else {
        let value = ramp.from + (ramp.to - ramp.from) * f64::from(ramp.step) / f64::from(ramp.steps);
        to_bytes_rt(ramp.write.element, value)
    };
    put_rt(engine, &Write { bytes, ..ramp.write });
}

fn overlaps_rt(ramp: &Ramp, memory: u32, address: u32, length: u64) -> bool {
    let start = u64::from(ramp.write.address);
    let end = start + u64::from(ramp.write.element.bytes());
    ramp.write.memory == memory && start < u64::from(address) + length && u64::from(address) < end
}

/// All ramps of a program.
pub struct Ramps {
    /// Never grows beyond the capacity it was made with.
    ramps: Vec<Ramp>,
}

impl Default for Ramps {
    fn default() -> Self {
        Self { ramps: Vec::with_capacity(MAX_RAMPS) }
    }
}

impl Ramps {
    /// How many more there may be.
    pub fn room_rt(&self) -> usize {
        MAX_RAMPS - self.ramps.len()
    }

    pub fn is_empty_rt(&self) -> bool {
        self.ramps.is_empty()
    }

    /// All there are.
    pub fn as_slice_rt(&self) -> &[Ramp] {
        &self.ramps
    }

    /// Goes on with these. Those that there is no room for are dropped; there are none.
    pub fn recall(&mut self, ramps: &[Ramp]) {
        self.ramps.clear();
        self.ramps.extend(ramps.iter().take(MAX_RAMPS));
    }

    /// Writes a value at once, in the place of a ramp.
    pub fn write_rt(&mut self, engine: &mut Engine, write: &Write) {
        self.end_at_rt(write.memory, write.address, u64::from(write.element.bytes()));
        put_rt(engine, write);
    }

    /// Begins a ramp with its first step. The caller has made sure that there is room.
    pub fn begin_rt(&mut self, engine: &mut Engine, write: &Write, steps: u32) {
        self.end_at_rt(write.memory, write.address, u64::from(write.element.bytes()));
        let length = write.element.bytes() as usize;
        let Some(now) = engine.bytes_rt(write.memory, write.address, length) else { return };
        let (from, to) = (to_number_rt(write.element, now), to_number_rt(write.element, &write.bytes));
        let mut ramp = Ramp { write: *write, from, to, step: 0, steps };
        step_rt(&mut ramp, engine);
        if ramp.step < ramp.steps && self.room_rt() > 0 {
            self.ramps.push(ramp);
        }
    }

    /// The next step of every ramp.
    pub fn step_rt(&mut self, engine: &mut Engine) {
        for ramp in &mut self.ramps {
            step_rt(ramp, engine);
        }
        self.ramps.retain(|ramp| ramp.step < ramp.steps);
    }

    /// The program is another one now: ramps go on where the plan put their bytes, the others end.
    pub fn follow_rt(&mut self, plan: Option<&MigrationPlan>) {
        let Some(plan) = plan else { return self.ramps.clear() };
        self.ramps.retain_mut(|ramp| match plan.copies.iter().find(|copy| carries_rt(copy, &ramp.write)) {
            Some(copy) => {
                ramp.write.memory = copy.to.memory;
                ramp.write.address = copy.to.address + (ramp.write.address - copy.from.address);
                true
            }
            None => false,
        });
    }

    /// New defaults have been written.
    pub fn give_way_rt(&mut self, patches: &[DefaultBytes]) {
        for patch in patches {
            self.end_at_rt(patch.memory, patch.address, patch.bytes.len() as u64);
        }
    }

    pub fn clear_rt(&mut self) {
        self.ramps.clear();
    }

    fn end_at_rt(&mut self, memory: u32, address: u32, length: u64) {
        self.ramps.retain(|ramp| !overlaps_rt(ramp, memory, address, length));
    }
}

fn carries_rt(copy: &CopyRange, write: &Write) -> bool {
    let (start, end) = (u64::from(write.address), u64::from(write.address) + u64::from(write.element.bytes()));
    let copied = u64::from(copy.from.address)..u64::from(copy.from.address) + u64::from(copy.bytes);
    copy.from.memory == write.memory && copied.start <= start && end <= copied.end
}

fn put_rt(engine: &mut Engine, write: &Write) {
    let length = write.element.bytes() as usize;
    if let Some(bytes) = engine.bytes_mut_rt(write.memory, write.address, length) {
        bytes.copy_from_slice(&write.bytes[..length]);
    }
}

/// The number that an element's bytes stand for.
pub fn to_number_rt(element: ElementType, bytes: &[u8]) -> f64 {
    let mut padded = [0; MAX_ELEMENT_BYTES];
    let length = bytes.len().min(MAX_ELEMENT_BYTES);
    padded[..length].copy_from_slice(&bytes[..length]);
    let [a, b, c, d, ..] = padded;
    match element {
        ElementType::Int8 => f64::from(a.cast_signed()),
        ElementType::Int8u => f64::from(a),
        ElementType::Int16 => f64::from(i16::from_le_bytes([a, b])),
        ElementType::Int16u => f64::from(u16::from_le_bytes([a, b])),
        ElementType::Int32 | ElementType::Pointer { .. } => f64::from(i32::from_le_bytes([a, b, c, d])),
        ElementType::Float32 => f64::from(f32::from_le_bytes([a, b, c, d])),
        ElementType::Float64 => f64::from_le_bytes(padded),
    }
}

/// An element's bytes for a number that fits into it; whole numbers are cut off after the point.
pub fn to_bytes_rt(element: ElementType, value: f64) -> [u8; MAX_ELEMENT_BYTES] {
    match element {
        ElementType::Float32 => {
            let [a, b, c, d] = (value as f32).to_le_bytes();
            [a, b, c, d, 0, 0, 0, 0]
        }
        ElementType::Float64 => value.to_le_bytes(),
        ElementType::Int8
        | ElementType::Int8u
        | ElementType::Int16
        | ElementType::Int16u
        | ElementType::Int32
        | ElementType::Pointer { .. } => (value as i64).to_le_bytes(),
    }
}
