//! Defaults and initial data (LANGUAGE §8): what each item starts with, and the data segments that put it there.
//!
//! Segments are made from initialisers only, never from declared sizes. Two items of one name share the default of the last,
//! and items of no size still write theirs: the language's own quirks (LANGUAGE §25), which change what memory holds. What they
//! overwrite is decided in the layout of LANGUAGE §7, so that an item starts with the same bytes wherever it lies.

use std::collections::BTreeSet;

use ipc::limits::MAX_DIAGNOSTICS;
use smallvec::SmallVec;

use super::arguments::{Name, Number, Operand, Reference, Value};
use super::error::{CompilerCode, LanguageError};
use super::layout::{Layout, ModuleLayout, Slot};
use super::parsed::ParsedArgument;
use super::program::{DataSegment, DeclaredType, LiteralKind, Memory};
use super::references::{Lookup, PointeeCounts, Range, Resolver, elements_behind};

/// Bytes between two initialised places that are filled rather than starting another segment.
const MAX_GAP_BYTES: i64 = 32;

/// Initial bytes of one place: nearly always those of a scalar.
type Bytes = SmallVec<[u8; 16]>;

/// Initial bytes of one place, before neighbours become one segment.
#[derive(Debug)]
struct Candidate {
    memory: u32,
    address: u32,
    bytes: Bytes,
}

/// What a declaration says an item starts with.
#[derive(Clone, Debug)]
enum Initial {
    /// Nothing is said: zero.
    Implicit,
    /// `range` is set when it is an address.
    Number { value: f64, range: Option<Range> },
    /// Values of an array in order; empty when nothing is said.
    Array(Vec<f64>),
}

/// What follows from the defaults of one module, by slot.
#[derive(Clone, Debug, Default)]
pub struct ModuleDefaults {
    initials: Vec<Initial>,
    /// Modules that the defaults hold addresses of.
    pub targets: BTreeSet<usize>,
}

impl ModuleDefaults {
    /// The address a slot is initialised with, where it is one.
    pub fn address(&self, module: &ModuleLayout<'_, '_>, slot: &Slot<'_, '_>) -> Option<Range> {
        match self.of(module, slot) {
            Initial::Number { range, .. } => *range,
            Initial::Implicit | Initial::Array(_) => None,
        }
    }

    /// The default of a slot: that of the last declaration of its name.
    fn of(&self, module: &ModuleLayout<'_, '_>, slot: &Slot<'_, '_>) -> &Initial {
        let last = module.by_name.get(&slot.name).and_then(|&index| self.initials.get(index));
        last.unwrap_or(&Initial::Implicit)
    }
}

/// Defaults of all modules, in the order of `Layout::modules`, and what pointers are known to point at.
#[derive(Debug, Default)]
pub struct Defaults {
    pub modules: Vec<ModuleDefaults>,
    pub pointee_counts: PointeeCounts,
}

/// Resolves all defaults, module by module in layout order.
pub fn resolve(layout: &Layout<'_, '_>) -> Result<Defaults, Vec<LanguageError>> {
    let count = layout.modules.len();
    let mut defaults = Defaults { modules: vec![ModuleDefaults::default(); count], pointee_counts: vec![Vec::new(); count] };
    let mut errors = Vec::new();
    for &index in &layout.order {
        let module = &layout.modules[index];
        // Grows with the slots, so that `count(*p)` sees only pointers declared above it.
        let mut pointees: Vec<Option<u32>> = Vec::with_capacity(module.slots.len());
        for slot in &module.slots {
            let no_locals = |_: &str| None;
            let resolver = Resolver { layout, module: Some(index), pointee_counts: &pointees, local_type: &no_locals };
            let initial = initial(slot, &resolver).unwrap_or_else(|error| {
                if errors.len() < MAX_DIAGNOSTICS {
                    errors.push(error);
                }
                Initial::Implicit
            });
            defaults.modules[index].targets.extend(targets(slot, &resolver));
            pointees.push(match initial {
                Initial::Number { range: Some(range), .. } if slot.declared.pointer_depth > 0 => elements_behind(range, &layout.modules),
                _ => None,
            });
            defaults.modules[index].initials.push(initial);
        }
        defaults.pointee_counts[index] = pointees;
    }
    if errors.is_empty() { Ok(defaults) } else { Err(errors) }
}

fn targets(slot: &Slot<'_, '_>, resolver: &Resolver<'_, '_, '_>) -> impl Iterator<Item = usize> {
    let addresses = slot.initial.iter().map(|argument| &argument.value).filter(|value| mentions_address(value));
    addresses.filter_map(|value| Some(resolver.value(value)?.range?.module))
}

fn initial(slot: &Slot<'_, '_>, resolver: &Resolver<'_, '_, '_>) -> Result<Initial, LanguageError> {
    if slot.declared.is_array {
        return array(slot, resolver);
    }
    match slot.initial {
        [] => Ok(Initial::Implicit),
        [only] => match &only.value {
            Value::Text(text) if text.encode_utf16().count() > 1 => split_bytes(slot, resolver),
            Value::Text(text) => Ok(Initial::Number { value: text.chars().next().map_or(0.0, |c| f64::from(byte_of(c))), range: None }),
            _ => value(slot, 0, resolver),
        },
        _ => split_bytes(slot, resolver),
    }
}

fn array(slot: &Slot<'_, '_>, resolver: &Resolver<'_, '_, '_>) -> Result<Initial, LanguageError> {
    if slot.initial.len() as f64 > slot.count {
        return Err(LanguageError::plain(CompilerCode::ArrayInitializerTooLong, slot.place));
    }
    let mut values = Vec::with_capacity(slot.initial.len());
    for index in 0..slot.initial.len() {
        values.push(match value(slot, index, resolver)? {
            Initial::Number { value, .. } => value,
            Initial::Implicit | Initial::Array(_) => 0.0,
        });
    }
    Ok(Initial::Array(values))
}

fn value(slot: &Slot<'_, '_>, index: usize, resolver: &Resolver<'_, '_, '_>) -> Result<Initial, LanguageError> {
    let argument = &slot.initial[index];
    match resolver.value(&argument.value) {
        Some(resolved) => Ok(Initial::Number { value: resolved.number.value, range: resolved.range }),
        None => Err(unresolved(slot, index, argument, resolver)),
    }
}

fn unresolved(slot: &Slot<'_, '_>, index: usize, argument: &ParsedArgument<'_>, resolver: &Resolver<'_, '_, '_>) -> LanguageError {
    let error = LanguageError::about(CompilerCode::UndeclaredIdentifier, slot.initial_place(index), &argument.text);
    match &argument.value {
        Value::Name(name) if matches!(resolver.name(name), Lookup::CountUnknown) => {
            error.with_hint("count(*p) needs a pointer that is declared above, with the address of an array as its default")
        }
        Value::Name(Name::Plain(name)) if resolver.module.is_some_and(|module| resolver.layout.modules[module].slot(name).is_some()) => {
            error.with_hint(format!("a default is known before the program runs: use a number, a constant, or the address &{name}"))
        }
        _ => error,
    }
}

/// Two to four bytes, packed from the top of a 32-bit word.
fn split_bytes(slot: &Slot<'_, '_>, resolver: &Resolver<'_, '_, '_>) -> Result<Initial, LanguageError> {
    let mut bytes: Vec<u8> = Vec::with_capacity(4);
    for (index, argument) in slot.initial.iter().enumerate() {
        match &argument.value {
            Value::Text(text) => bytes.extend(text.chars().map(byte_of).take(5)),
            value => match resolver.value(value).and_then(|resolved| byte(resolved.number)) {
                // Whether an address is small enough must not depend on what ran before.
                Some(byte) if !(resolver.layout.is_relative && mentions_address(value)) => bytes.push(byte),
                _ => return Err(LanguageError::about(CompilerCode::SplitHexMixedTokens, slot.initial_place(index), &argument.text)),
            },
        }
    }
    if bytes.len() > 4 {
        return Err(LanguageError::plain(CompilerCode::SplitHexTooManyBytes, slot.place));
    }
    bytes.resize(4, 0);
    let packed = bytes.iter().fold(0u32, |packed, &byte| packed << 8 | u32::from(byte));
    Ok(Initial::Number { value: f64::from(packed), range: None })
}

fn mentions_address(value: &Value<'_>) -> bool {
    let is_address = |name: &Name<'_>| matches!(name, Name::Reference(reference) if !matches!(reference, Reference::Query { .. }));
    let is_operand = |operand: &Operand<'_>| matches!(operand, Operand::Name(name) if is_address(name));
    match value {
        Value::Name(name) => is_address(name),
        Value::Expression(expression) => is_operand(&expression.left) || is_operand(&expression.right),
        Value::Number(_) | Value::Text(_) => false,
    }
}

fn byte(number: Number) -> Option<u8> {
    let is_byte = number.kind == LiteralKind::Int && (0.0..=255.0).contains(&number.value) && number.value.fract() == 0.0;
    is_byte.then_some(number.value as u8)
}

/// JavaScript's `charCodeAt(0) & 255`; the first half of a pair stands for a character beyond 16 bits.
fn byte_of(c: char) -> u8 {
    let mut units = [0u16; 2];
    (c.encode_utf16(&mut units)[0] & 0xff) as u8
}

/// The passive data segments of a program.
pub fn segments(layout: &Layout<'_, '_>, defaults: &Defaults) -> Vec<DataSegment> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for &index in &layout.order {
        let module = &layout.modules[index];
        for slot in &module.slots {
            let initial = defaults.modules[index].of(module, slot);
            if slot.declared.is_array && slot.count > 1.0 {
                add_runs(module.memory, slot, initial, &mut candidates);
            } else if let Some(bytes) = scalar_bytes(slot.declared, initial) {
                candidates.push(Candidate { memory: module.memory, address: slot.fresh_address, bytes });
            }
        }
    }
    let segments = sort_and_merge(candidates);
    if layout.is_relative { relocate(&segments, layout) } else { segments }
}

fn sort_and_merge(mut candidates: Vec<Candidate>) -> Vec<DataSegment> {
    candidates.sort_by_key(|candidate| (candidate.memory, candidate.address));
    merge(candidates)
}

/// Cuts segments of a fresh layout at its items, and puts each piece where its item lies. Bytes outside of all items are left
/// out: nothing can name them.
fn relocate(segments: &[DataSegment], layout: &Layout<'_, '_>) -> Vec<DataSegment> {
    let modules = layout.modules.iter();
    let mut slots: Vec<_> = modules.flat_map(|module| module.slots.iter().map(move |slot| (module.memory, slot))).collect();
    slots.retain(|(_, slot)| slot.content_bytes() > 0);
    slots.sort_by_key(|(memory, slot)| (*memory, slot.fresh_address));
    let mut pieces = Vec::new();
    for segment in segments {
        let (start, end) = (u64::from(segment.address), u64::from(segment.address) + segment.bytes.len() as u64);
        let ends_before = |&(memory, slot): &(u32, &Slot<'_, '_>)| (memory, slot.fresh_end()) <= (segment.memory, start);
        for (memory, slot) in &slots[slots.partition_point(ends_before)..] {
            let first = u64::from(slot.fresh_address);
            if *memory != segment.memory || first >= end {
                break;
            }
            let (from, to) = (first.max(start), slot.fresh_end().min(end));
            let bytes = Bytes::from_slice(&segment.bytes[(from - start) as usize..(to - start) as usize]);
            pieces.push(Candidate { memory: *memory, address: slot.byte_address + (from - first) as u32, bytes });
        }
    }
    sort_and_merge(pieces)
}

/// Makes memories large enough for their initial data: an item of no size may have a default behind the end of all items.
pub fn reserve(memories: &mut [Memory], segments: &[DataSegment]) {
    for segment in segments {
        let memory = &mut memories[segment.memory as usize];
        memory.initial_bytes = memory.initial_bytes.max(u64::from(segment.address) + segment.bytes.len() as u64);
    }
}

/// Scalars, and arrays of at most one element: these take an array's default for a number, which is none.
fn scalar_bytes(declared: DeclaredType, initial: &Initial) -> Option<Bytes> {
    match initial {
        Initial::Implicit => None,
        Initial::Number { value, .. } => Some(encode(declared, *value)),
        Initial::Array(_) => Some(encode(declared, f64::NAN)),
    }
}

/// Consecutive elements that are not zero become one candidate each.
fn add_runs(memory: u32, slot: &Slot<'_, '_>, initial: &Initial, candidates: &mut Vec<Candidate>) {
    let Initial::Array(values) = initial else { return };
    let mut run: Option<Candidate> = None;
    for (index, &value) in values.iter().enumerate() {
        let bytes = encode(slot.declared, value);
        if bytes.iter().all(|&byte| byte == 0) {
            candidates.extend(run.take());
            continue;
        }
        let address = slot.fresh_address + index as u32 * slot.declared.element_bytes();
        run.get_or_insert_with(|| Candidate { memory, address, bytes: Bytes::new() }).bytes.extend(bytes);
    }
    candidates.extend(run);
}

/// A candidate that overlaps the segment before it is appended all the same: that is what the language's programs start with.
fn merge(candidates: Vec<Candidate>) -> Vec<DataSegment> {
    let mut segments: Vec<DataSegment> = Vec::new();
    for candidate in candidates {
        if let Some(last) = segments.last_mut().filter(|last| last.memory == candidate.memory) {
            let gap = i64::from(candidate.address) - i64::from(last.address) - last.bytes.len() as i64;
            if gap <= MAX_GAP_BYTES {
                last.bytes.resize(last.bytes.len() + gap.max(0) as usize, 0);
                last.bytes.extend(candidate.bytes);
                continue;
            }
        }
        segments.push(DataSegment { memory: candidate.memory, address: candidate.address, bytes: candidate.bytes.into_vec() });
    }
    segments
}

/// One element as memory holds it.
fn encode(declared: DeclaredType, value: f64) -> Bytes {
    let size = declared.element_bytes() as usize;
    match (declared.is_integer(), size) {
        (true, _) => Bytes::from_slice(&to_int32(value).to_le_bytes()[..size]),
        (false, 8) => Bytes::from_slice(&value.to_le_bytes()),
        (false, _) => Bytes::from_slice(&(value as f32).to_le_bytes()),
    }
}

/// JavaScript's ToInt32: truncated, modulo 2³²; what is not finite is 0.
fn to_int32(value: f64) -> i32 {
    const MODULUS: f64 = 4_294_967_296.0;
    if value.is_finite() { value.trunc().rem_euclid(MODULUS) as u32 as i32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::languages::lang_8f4e::program::BaseType;

    #[test]
    fn integers_wrap_like_in_javascript() {
        for (value, expected) in
            [(4294967295.0, -1), (2147483648.0, i32::MIN), (-2147483649.0, i32::MAX), (-1.9, -1), (1e300, 0), (f64::NAN, 0)]
        {
            assert_eq!(to_int32(value), expected, "{value}");
        }
    }

    #[test]
    fn an_overlapping_candidate_is_appended_to_the_segment() {
        let segment = |address, bytes: &[u8]| Candidate { memory: 0, address, bytes: Bytes::from_slice(bytes) };
        let merged = merge(vec![segment(4, &[1, 1, 1, 1]), segment(4, &[2]), segment(8, &[3])]);
        assert_eq!(merged, [DataSegment { memory: 0, address: 4, bytes: vec![1, 1, 1, 1, 2, 3] }]);
        assert_eq!(merge(vec![segment(4, &[1]), segment(37, &[2]), segment(71, &[3])]).len(), 2);
    }

    #[test]
    fn runs_of_an_array_end_at_zeros() {
        let declared = DeclaredType { base: BaseType::Int8, pointer_depth: 0, is_array: true };
        assert_eq!(encode(declared, 300.0).as_slice(), [0x2c]);
        assert_eq!(encode(declared, 256.0).as_slice(), [0]);
    }
}
