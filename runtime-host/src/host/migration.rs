//! Carries state from the memories of one revision into those of another, as a plan says (DESIGN §9).
//!
//! The control thread makes a [`Migration`] out of a plan: it refuses every plan that would reach outside of a memory, write
//! a byte twice or split a word, whoever made it. The tick thread then carries it out between two ticks. That allocates
//! nothing and cannot fail halfway; its time is bounded by the size of the memories, because no byte is written twice.
//!
//! A migration never grows a memory, never runs a program and knows no state keys apart from the names it reports.

use ipc::artifact::DefaultBytes;
use ipc::plan::{CopyRange, MigrationPlan, Place, Relocation, StateKey, TargetRange};

use super::engine::Engine;

/// Bytes of the words that addresses are.
const WORD_BYTES: u32 = 4;

/// Memories that state is read from.
pub trait Memories {
    /// All of a memory; empty when there is no such memory.
    fn memory_rt(&self, index: u32) -> &[u8];
}

/// Memories that state is written to.
pub trait MemoriesMut: Memories {
    /// All of a memory, to write to; empty when there is no such memory.
    fn memory_mut_rt(&mut self, index: u32) -> &mut [u8];
}

/// Why a plan is refused. Plans come from the supervisor, so each of these is a fault of the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("{field} ends at byte {end} of memory {memory}, which has {size} bytes")]
    OutOfRange { field: Field, memory: u32, end: u64, size: u64 },
    #[error("{field} names memory {memory}, which does not exist")]
    NoMemory { field: Field, memory: u32 },
    #[error("{0} is empty")]
    Empty(Field),
    #[error("{0} is not aligned")]
    Misaligned(Field),
    #[error("{0} overlaps {1}")]
    Overlap(Field, Field),
    #[error("{0} is not in ascending order")]
    Unordered(Field),
    #[error("{field} is {index}, there are {count}")]
    NoPointer { field: Field, index: u32, count: usize },
}

/// Which part of a plan is wrong, such as `copies[3].from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub list: &'static str,
    pub index: usize,
    pub name: &'static str,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}].{}", self.list, self.index, self.name)
    }
}

/// The memories are not those that the migration was prepared for; nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memories are not those that the migration was prepared for")]
pub struct OtherMemories;

/// What carrying out a migration did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes that were carried to the place where they were before, as they were or as addresses.
    pub kept_bytes: u64,
    /// Bytes that were carried to another place.
    pub moved_bytes: u64,
    /// Addresses that changed because their target moved.
    pub relocated: u64,
    /// Addresses whose target is gone; their words hold what the destination held before, which is their default.
    pub lost: u64,
    /// Bytes of new defaults.
    pub patched_bytes: u64,
}

impl Carried {
    /// Counts bytes that have been carried over.
    fn count_rt(&mut self, from: Place, to: Place, bytes: u32) {
        let count = if from == to { &mut self.kept_bytes } else { &mut self.moved_bytes };
        *count += u64::from(bytes);
    }
}

/// A plan that has been checked against the memories it is for.
#[derive(Clone, Debug)]
pub struct Migration {
    plan: MigrationPlan,
    from_sizes: Vec<u64>,
    to_sizes: Vec<u64>,
    /// For each relocation, how many addresses the relocations before it have.
    first_word: Vec<u64>,
    /// One bit for each address: its target was gone when this was last carried out.
    lost: Vec<u64>,
}

impl Migration {
    /// Checks a plan against the sizes of the memories it is for. Runs on the control thread; allocates in proportion to
    /// the plan, and one bit for each address it carries.
    pub fn prepare(plan: MigrationPlan, from_sizes: Vec<u64>, to_sizes: Vec<u64>) -> Result<Self, PlanError> {
        validate(&plan, &from_sizes, &to_sizes)?;
        let mut words = 0;
        let mut first_word = Vec::with_capacity(plan.relocations.len());
        for relocation in &plan.relocations {
            first_word.push(words);
            words += u64::from(relocation.count);
        }
        Ok(Self { plan, from_sizes, to_sizes, first_word, lost: vec![0; words.div_ceil(64) as usize] })
    }

    /// The plan as it is being carried out.
    pub fn plan(&self) -> &MigrationPlan {
        &self.plan
    }

    /// Carries everything over from `from` to `to`, which holds the defaults of its revision.
    pub fn apply_rt(&mut self, from: &impl Memories, to: &mut impl MemoriesMut) -> Result<Carried, OtherMemories> {
        self.carry_rt(from, to, None)
    }

    /// Carries everything back from `failed` to `good`, which holds what it held when `swap` was carried out. Addresses that
    /// `failed` has not changed since stay as they were then, and so do those that had lost their target: it is back.
    pub fn roll_back_rt(&mut self, swap: &Self, failed: &impl Memories, good: &mut impl MemoriesMut) -> Result<Carried, OtherMemories> {
        self.carry_rt(failed, good, Some(swap))
    }

    /// Exchanges the patches with what `memories` hold: all there is to do in class A, where the engine stays. A second
    /// call undoes the first.
    pub fn exchange_patches_rt(&mut self, memories: &mut impl MemoriesMut) -> Result<Carried, OtherMemories> {
        if !fits_rt(memories, &self.to_sizes) {
            return Err(OtherMemories);
        }
        let mut carried = Carried::default();
        for patch in &mut self.plan.patches {
            let place = Place { memory: patch.memory, address: patch.address };
            bytes_mut_rt(memories, place, patch.bytes.len()).swap_with_slice(&mut patch.bytes);
            carried.patched_bytes += patch.bytes.len() as u64;
        }
        Ok(carried)
    }

    /// Items with addresses whose target was gone when this was last carried out. Not for the tick thread.
    pub fn lost_pointers(&self) -> Vec<&StateKey> {
        let is_lost =
            |(first, relocation): &(&u64, &Relocation)| (**first..**first + u64::from(relocation.count)).any(|word| self.is_lost_rt(word));
        let lost = self.first_word.iter().zip(&self.plan.relocations).filter(is_lost);
        let mut pointers: Vec<u32> = lost.map(|(_, relocation)| relocation.pointer).collect();
        pointers.sort_unstable();
        pointers.dedup();
        pointers.into_iter().filter_map(|pointer| self.plan.pointers.get(pointer as usize)).collect()
    }

    fn carry_rt(&mut self, from: &impl Memories, to: &mut impl MemoriesMut, swap: Option<&Self>) -> Result<Carried, OtherMemories> {
        if !fits_rt(from, &self.from_sizes) || !fits_rt(to, &self.to_sizes) {
            return Err(OtherMemories);
        }
        let mut carried = Carried::default();
        for copy in &self.plan.copies {
            let bytes = copy.bytes as usize;
            bytes_mut_rt(to, copy.to, bytes).copy_from_slice(bytes_rt(from, copy.from, bytes));
            carried.count_rt(copy.from, copy.to, copy.bytes);
        }
        self.lost.fill(0);
        for (first_word, relocation) in self.first_word.iter().zip(&self.plan.relocations) {
            relocate_rt(relocation, &self.plan.targets, from, to, swap, &mut carried, |index| {
                let word = first_word + u64::from(index);
                self.lost[(word / 64) as usize] |= 1 << (word % 64);
            });
        }
        for patch in &self.plan.patches {
            let place = Place { memory: patch.memory, address: patch.address };
            bytes_mut_rt(to, place, patch.bytes.len()).copy_from_slice(&patch.bytes);
            carried.patched_bytes += patch.bytes.len() as u64;
        }
        Ok(carried)
    }

    /// What this migration made of the word `kept` on its way to `place`; `None` when its target was gone.
    fn carried_to_rt(&self, place: Place, kept: u32) -> Option<u32> {
        let after = self.plan.relocations.partition_point(|relocation| relocation.to <= place);
        let relocation = after.checked_sub(1).map(|index| &self.plan.relocations[index]);
        match relocation {
            Some(relocation) if covers_rt(relocation, place) => follow_rt(relocation, &self.plan.targets, kept),
            // Addresses that are not relocated are copied.
            Some(_) | None => Some(kept),
        }
    }

    fn is_lost_rt(&self, word: u64) -> bool {
        self.lost[(word / 64) as usize] & (1 << (word % 64)) != 0
    }
}

// ---------------------------------------------------------------------------------------------- on the tick thread

/// Carries the words of one relocation over. `lose` is told the index of each word whose target is gone.
fn relocate_rt(
    relocation: &Relocation,
    targets: &[TargetRange],
    from: &impl Memories,
    to: &mut impl MemoriesMut,
    swap: Option<&Migration>,
    carried: &mut Carried,
    mut lose: impl FnMut(u32),
) {
    for index in 0..relocation.count {
        let source = Place { address: relocation.from.address + index * WORD_BYTES, ..relocation.from };
        let destination = Place { address: relocation.to.address + index * WORD_BYTES, ..relocation.to };
        let value = word_rt(bytes_rt(from, source, WORD_BYTES as usize));
        let kept = word_rt(bytes_rt(to, destination, WORD_BYTES as usize));
        if swap.is_some_and(|swap| is_as_left_rt(swap.carried_to_rt(source, kept), value)) {
            continue;
        }
        let Some(address) = follow_rt(relocation, targets, value) else {
            carried.lost += 1;
            lose(index);
            continue;
        };
        carried.relocated += u64::from(address != value);
        carried.count_rt(source, destination, WORD_BYTES);
        bytes_mut_rt(to, destination, WORD_BYTES as usize).copy_from_slice(&address.to_le_bytes());
    }
}

/// Whether a word is what the swap made of it, so that there is nothing to carry back. Where its target was gone it is.
fn is_as_left_rt(carried: Option<u32>, value: u32) -> bool {
    carried.is_none_or(|carried| carried == value)
}

fn covers_rt(relocation: &Relocation, place: Place) -> bool {
    let offset = place.address.wrapping_sub(relocation.to.address);
    relocation.to.memory == place.memory && u64::from(offset) < u64::from(relocation.count) * u64::from(WORD_BYTES)
}

/// Where what `address` points at is now; `None` when it is gone.
fn follow_rt(relocation: &Relocation, targets: &[TargetRange], address: u32) -> Option<u32> {
    match relocation.default {
        Some(default) if default.from == address => return Some(default.to),
        _ => {}
    }
    let place = Place { memory: relocation.from_pointee, address };
    let after = targets.partition_point(|target| target.from <= place);
    let Some(target) = after.checked_sub(1).map(|index| &targets[index]) else { return Some(address) };
    let offset = address.wrapping_sub(target.from.address);
    if target.from.memory != place.memory || offset >= target.bytes {
        return Some(address);
    }
    // Targets end inside of their memory, so this cannot overflow.
    target.to.filter(|to| to.memory == relocation.to_pointee).map(|to| to.address + offset)
}

fn word_rt(bytes: &[u8]) -> u32 {
    let mut word = [0; WORD_BYTES as usize];
    word.copy_from_slice(bytes);
    u32::from_le_bytes(word)
}

/// Whether the memories have the sizes that a plan was checked against.
fn fits_rt(memories: &impl Memories, sizes: &[u64]) -> bool {
    (0u32..).zip(sizes).all(|(index, size)| memories.memory_rt(index).len() as u64 == *size)
}

/// Bytes of a checked plan: [`validate`] and [`fits_rt`] have made sure that they exist.
fn bytes_rt(memories: &impl Memories, place: Place, length: usize) -> &[u8] {
    &memories.memory_rt(place.memory)[place.address as usize..][..length]
}

fn bytes_mut_rt(memories: &mut impl MemoriesMut, place: Place, length: usize) -> &mut [u8] {
    &mut memories.memory_mut_rt(place.memory)[place.address as usize..][..length]
}

// -------------------------------------------------------------------------------------------- on the control thread

/// Writes the defaults of a revision into its memories, which are zero: what a memory holds before state is carried into it.
pub fn write_defaults(image: &[DefaultBytes], memories: &mut impl MemoriesMut) -> Result<(), PlanError> {
    for (index, part) in image.iter().enumerate() {
        let field = Field { list: "image", index, name: "bytes" };
        let size = memories.memory_rt(part.memory).len() as u64;
        let end = u64::from(part.address) + part.bytes.len() as u64;
        if end > size {
            return Err(PlanError::OutOfRange { field, memory: part.memory, end, size });
        }
        bytes_mut_rt(memories, Place { memory: part.memory, address: part.address }, part.bytes.len()).copy_from_slice(&part.bytes);
    }
    Ok(())
}

/// Refuses plans that are not what a plan must be (FAULTS row 24). `from_sizes` and `to_sizes` are the sizes of the memories
/// in bytes.
pub fn validate(plan: &MigrationPlan, from_sizes: &[u64], to_sizes: &[u64]) -> Result<(), PlanError> {
    let mut read = Vec::with_capacity(plan.copies.len() + plan.relocations.len());
    let mut written = Vec::with_capacity(read.capacity() + plan.patches.len());
    for (index, copy) in plan.copies.iter().enumerate() {
        let (from, to) = check_copy(index, copy, from_sizes, to_sizes)?;
        read.push(from);
        written.push(to);
    }
    for (index, relocation) in plan.relocations.iter().enumerate() {
        let (from, to) = check_relocation(index, relocation, plan.pointers.len(), from_sizes, to_sizes)?;
        read.push(from);
        written.push(to);
    }
    ascending("relocations", plan.relocations.iter().map(|relocation| relocation.to))?;
    for (index, patch) in plan.patches.iter().enumerate() {
        let field = Field { list: "patches", index, name: "bytes" };
        let place = Place { memory: patch.memory, address: patch.address };
        written.push(Span::inside(field, place, patch.bytes.len() as u64, to_sizes)?);
    }
    check_targets(&plan.targets, from_sizes, to_sizes)?;
    apart(read)?;
    apart(written)
}

fn check_copy(index: usize, copy: &CopyRange, from_sizes: &[u64], to_sizes: &[u64]) -> Result<(Span, Span), PlanError> {
    let field = |name| Field { list: "copies", index, name };
    let from = Span::inside(field("from"), copy.from, u64::from(copy.bytes), from_sizes)?;
    let to = Span::inside(field("to"), copy.to, u64::from(copy.bytes), to_sizes)?;
    match copy.from.address % WORD_BYTES == copy.to.address % WORD_BYTES {
        true => Ok((from, to)),
        false => Err(PlanError::Misaligned(field("to"))),
    }
}

fn check_relocation(
    index: usize,
    relocation: &Relocation,
    pointers: usize,
    from_sizes: &[u64],
    to_sizes: &[u64],
) -> Result<(Span, Span), PlanError> {
    let field = |name| Field { list: "relocations", index, name };
    let bytes = u64::from(relocation.count) * u64::from(WORD_BYTES);
    let from = Span::inside(field("from"), relocation.from, bytes, from_sizes)?;
    let to = Span::inside(field("to"), relocation.to, bytes, to_sizes)?;
    for (name, place) in [("from", relocation.from), ("to", relocation.to)] {
        if !place.address.is_multiple_of(WORD_BYTES) {
            return Err(PlanError::Misaligned(field(name)));
        }
    }
    size_of(field("from_pointee"), relocation.from_pointee, from_sizes)?;
    size_of(field("to_pointee"), relocation.to_pointee, to_sizes)?;
    match relocation.pointer {
        pointer if (pointer as usize) < pointers => Ok((from, to)),
        index => Err(PlanError::NoPointer { field: field("pointer"), index, count: pointers }),
    }
}

fn check_targets(targets: &[TargetRange], from_sizes: &[u64], to_sizes: &[u64]) -> Result<(), PlanError> {
    let mut ranges = Vec::with_capacity(targets.len());
    for (index, target) in targets.iter().enumerate() {
        let field = |name| Field { list: "targets", index, name };
        ranges.push(Span::inside(field("from"), target.from, u64::from(target.bytes), from_sizes)?);
        if let Some(to) = target.to {
            Span::inside(field("to"), to, u64::from(target.bytes), to_sizes)?;
        }
    }
    ascending("targets", targets.iter().map(|target| target.from))?;
    apart(ranges)
}

/// Bytes that an entry of a plan reads or writes.
#[derive(Clone, Copy, Debug)]
struct Span {
    field: Field,
    memory: u32,
    start: u64,
    end: u64,
}

impl Span {
    fn inside(field: Field, place: Place, bytes: u64, sizes: &[u64]) -> Result<Self, PlanError> {
        let size = size_of(field, place.memory, sizes)?;
        let start = u64::from(place.address);
        let end = start + bytes;
        if bytes == 0 {
            return Err(PlanError::Empty(field));
        }
        if end > size {
            return Err(PlanError::OutOfRange { field, memory: place.memory, end, size });
        }
        Ok(Self { field, memory: place.memory, start, end })
    }
}

fn size_of(field: Field, memory: u32, sizes: &[u64]) -> Result<u64, PlanError> {
    sizes.get(memory as usize).copied().ok_or(PlanError::NoMemory { field, memory })
}

fn apart(mut spans: Vec<Span>) -> Result<(), PlanError> {
    spans.sort_by_key(|span| (span.memory, span.start));
    let overlap = spans.windows(2).find(|pair| pair[0].memory == pair[1].memory && pair[0].end > pair[1].start);
    overlap.map_or(Ok(()), |pair| Err(PlanError::Overlap(pair[1].field, pair[0].field)))
}

fn ascending(list: &'static str, places: impl Iterator<Item = Place> + Clone) -> Result<(), PlanError> {
    let mut pairs = places.clone().zip(places.skip(1)).enumerate();
    let unordered = pairs.find(|(_, (place, next))| place >= next);
    unordered.map_or(Ok(()), |(index, _)| Err(PlanError::Unordered(Field { list, index: index + 1, name: "place" })))
}

impl Memories for Engine {
    fn memory_rt(&self, index: u32) -> &[u8] {
        self.memory(index)
    }
}

impl MemoriesMut for Engine {
    fn memory_mut_rt(&mut self, index: u32) -> &mut [u8] {
        self.memory_mut(index)
    }
}
