//! What analysis knows about an item of the operand stack, and how operators change it (LANGUAGE §13).
//!
//! These facts decide two things that are part of the language: which programs are refused, and which accesses are
//! unguarded. So they follow the language's rules to the letter, the unsound ones included; better knowledge belongs into the
//! passes of the middle. Pure computation.

use crate::languages::lang_8f4e::program::{AddressRange, BaseType};
use crate::middle::operators::Type;

/// An item of the operand stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub ty: Type,
    /// Known to differ from zero.
    pub is_non_zero: bool,
    /// Exact value of an integer; not wrapped.
    pub known: Option<f64>,
    pub address: Option<Address>,
}

/// What makes an integer an address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Address {
    pub memory: u32,
    /// Bytes from the address on that may be used without a guard.
    pub safe: Option<Range>,
    /// What a clamp limits it to.
    pub clamp: Option<Range>,
    /// Width that a clamp has made safe.
    pub safe_width: Option<u32>,
    pub points_to: Option<PointsTo>,
}

/// A stretch of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub start: f64,
    pub bytes: f64,
}

/// What an address points at: `depth` stars behind `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointsTo {
    pub base: BaseType,
    pub memory: u32,
    pub depth: u8,
}

impl PointsTo {
    /// As written in a signature: `float*`, `int**`. `int32*` matches no parameter (LANGUAGE §25).
    pub fn type_name(self) -> &'static str {
        match (self.base, self.depth) {
            (BaseType::Int, 1) => "int*",
            (BaseType::Int8, 1) => "int8*",
            (BaseType::Int8u, 1) => "int8u*",
            (BaseType::Int16, 1) => "int16*",
            (BaseType::Int16u, 1) => "int16u*",
            (BaseType::Int32, 1) => "int32*",
            (BaseType::Float, 1) => "float*",
            (BaseType::Float64, 1) => "float64*",
            (BaseType::Int, _) => "int**",
            (BaseType::Int8, _) => "int8**",
            (BaseType::Int8u, _) => "int8u**",
            (BaseType::Int16, _) => "int16**",
            (BaseType::Int16u, _) => "int16u**",
            (BaseType::Int32, _) => "int32**",
            (BaseType::Float, _) => "float**",
            (BaseType::Float64, _) => "float64**",
        }
    }
}

impl Range {
    /// The range from `offset` bytes on; none where that leaves it.
    fn shifted(self, offset: f64) -> Option<Self> {
        let inside = offset.fract() == 0.0 && (0.0..=self.bytes).contains(&offset);
        inside.then_some(Self { start: self.start + offset, bytes: self.bytes - offset })
    }
}

impl From<&AddressRange> for Range {
    fn from(range: &AddressRange) -> Self {
        Self { start: f64::from(range.byte_address), bytes: f64::from(range.safe_bytes) }
    }
}

/// The language's `ToInt32`: towards zero, then modulo 2³².
pub fn to_int32(value: f64) -> i32 {
    if !value.is_finite() {
        return 0;
    }
    let modulus = 4_294_967_296.0;
    let wrapped = value.trunc().rem_euclid(modulus);
    (wrapped as u64) as u32 as i32
}

impl Item {
    /// A value about which nothing is known.
    pub fn value(ty: Type) -> Self {
        Self { ty, is_non_zero: false, known: None, address: None }
    }

    /// An integer with a known value.
    pub fn known_int(value: f64) -> Self {
        Self { ty: Type::I32, is_non_zero: value != 0.0, known: Some(value), address: None }
    }

    /// An address about which only the memory and the type are known.
    pub fn pointer(memory: u32, points_to: Option<PointsTo>) -> Self {
        Self { address: Some(Address { memory, points_to, ..Address::default() }), ..Self::value(Type::I32) }
    }

    pub fn is_int(&self) -> bool {
        self.ty == Type::I32
    }

    /// Memory an access through this item goes to.
    pub fn memory(&self) -> u32 {
        self.address.as_ref().map_or(0, |address| address.memory)
    }

    /// Whether an access of `bytes` needs no guard (LANGUAGE §15.5).
    pub fn is_safe_for(&self, bytes: u32) -> bool {
        self.address.as_ref().is_some_and(|address| {
            address.safe.is_some_and(|safe| safe.bytes >= f64::from(bytes)) || address.safe_width.is_some_and(|width| width >= bytes)
        })
    }

    /// What a clamp of this item limits it to.
    pub fn clamp_range(&self) -> Option<Range> {
        self.address.as_ref().and_then(|address| address.clamp.or(address.safe))
    }

    /// The type a call sees: pointer types for addresses whose target is known.
    pub fn type_name(&self) -> &'static str {
        match (self.address.as_ref().and_then(|address| address.points_to), self.ty) {
            (Some(points_to), _) => points_to.type_name(),
            (None, Type::I32) => "int",
            (None, Type::F32) => "float",
            (None, Type::F64) => "float64",
        }
    }
}

/// Result of an integer operator whose value is `known`.
fn int_result(known: Option<f64>) -> Item {
    Item { ty: Type::I32, is_non_zero: known.is_some_and(|value| value != 0.0), known, address: None }
}

/// `add` of two integers.
pub fn add(left: &Item, right: &Item) -> Item {
    let shifted = |item: &Item, by: &Item| Some((item.address.as_ref()?.safe?, by.known?));
    let safe = match shifted(left, right) {
        Some((range, offset)) => range.shifted(offset),
        None => shifted(right, left).and_then(|(range, offset)| range.shifted(offset)),
    };
    let clamp = left.clamp_range().or_else(|| right.clamp_range());
    let from = if left.clamp_range().is_some() || right.clamp_range().is_none() { left } else { right };
    let points_to = [left, right].into_iter().find_map(|item| item.address.as_ref()?.points_to);
    address_result(sum(left.known, right.known), from.memory(), safe, clamp, points_to)
}

/// `sub` of two integers: only the left one can be an address.
pub fn sub(left: &Item, right: &Item) -> Item {
    let safe = left.address.as_ref().and_then(|address| address.safe?.shifted(-right.known?));
    let points_to = left.address.as_ref().and_then(|address| address.points_to);
    address_result(sum(left.known, right.known.map(|value| -value)), left.memory(), safe, left.clamp_range(), points_to)
}

fn sum(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    Some(left? + right?)
}

/// The result stays an address only while a range survives.
fn address_result(known: Option<f64>, memory: u32, safe: Option<Range>, clamp: Option<Range>, points_to: Option<PointsTo>) -> Item {
    let mut result = int_result(known);
    if safe.is_some() || clamp.is_some() {
        result.address = Some(Address { memory, safe, clamp, safe_width: None, points_to });
    }
    result
}

/// Integer operators that lose addresses.
pub fn combine(left: &Item, right: &Item, fold: impl Fn(f64, f64) -> Option<i32>) -> Item {
    int_result(left.known.zip(right.known).and_then(|(a, b)| fold(a, b)).map(f64::from))
}

/// Integer operators that compute on wrapped values.
pub fn combine_bits(left: &Item, right: &Item, fold: impl Fn(i32, i32) -> i32) -> Item {
    combine(left, right, |a, b| Some(fold(to_int32(a), to_int32(b))))
}

/// `or`: different from zero as soon as one side is.
pub fn or(left: &Item, right: &Item) -> Item {
    let mut result = combine_bits(left, right, |a, b| a | b);
    if result.known.is_none() {
        result.is_non_zero = left.is_non_zero || right.is_non_zero;
    }
    result
}

/// `div` with known operands: truncated, none where it traps.
pub fn divide(left: f64, right: f64) -> Option<i32> {
    let traps = right == 0.0 || (left == f64::from(i32::MIN) && right == -1.0);
    (!traps).then(|| to_int32(left / right))
}

/// `remainder` with known operands.
pub fn remainder(left: f64, right: f64) -> Option<i32> {
    (right != 0.0).then(|| to_int32(left % right))
}

/// A clamp to `range` for accesses of `width` bytes.
pub fn clamped(item: &Item, memory: u32, range: Range, width: u32) -> Item {
    let low = range.start;
    let high = range.start + (range.bytes - f64::from(width)).max(0.0);
    let address = Address {
        memory,
        safe: None,
        clamp: Some(range),
        safe_width: Some(f64::from(width).min(range.bytes) as u32),
        points_to: item.address.as_ref().and_then(|address| address.points_to),
    };
    Item { ty: Type::I32, is_non_zero: false, known: item.known.map(|value| value.clamp(low, high)), address: Some(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(start: f64, bytes: f64) -> Item {
        let range = Range { start, bytes };
        let points_to = Some(PointsTo { base: BaseType::Float, memory: 0, depth: 1 });
        let address = Address { memory: 0, safe: Some(range), clamp: Some(range), safe_width: None, points_to };
        Item { ty: Type::I32, is_non_zero: true, known: Some(start), address: Some(address) }
    }

    #[test]
    fn a_known_offset_moves_the_safe_range() {
        let sum = add(&address(8.0, 16.0), &Item::known_int(12.0));
        assert!(sum.is_safe_for(4) && !sum.is_safe_for(8));
        assert_eq!(sum.known, Some(20.0));
    }

    #[test]
    fn an_unknown_offset_keeps_the_clamp_range_only() {
        let sum = add(&address(8.0, 16.0), &Item::value(Type::I32));
        assert!(!sum.is_safe_for(1));
        assert_eq!(sum.clamp_range(), Some(Range { start: 8.0, bytes: 16.0 }));
        assert_eq!(sum.type_name(), "float*");
    }

    #[test]
    fn a_pointer_without_range_becomes_a_plain_integer_under_arithmetic() {
        let pointer = Item::pointer(1, Some(PointsTo { base: BaseType::Int, memory: 1, depth: 1 }));
        let sum = add(&pointer, &Item::known_int(4.0));
        assert_eq!(sum.address, None);
        assert_eq!(sum.memory(), 0);
    }

    #[test]
    fn integers_wrap_as_the_language_says() {
        assert_eq!(to_int32(4_294_967_295.0), -1);
        assert_eq!(to_int32(2_147_483_648.0), i32::MIN);
        assert_eq!(to_int32(-1.9), -1);
        assert_eq!(to_int32(1e300), 0);
    }

    #[test]
    fn or_is_non_zero_as_soon_as_one_side_is() {
        assert!(or(&Item::value(Type::I32), &Item::known_int(2.0)).is_non_zero);
        assert!(!combine_bits(&Item::value(Type::I32), &Item::known_int(2.0), |a, b| a ^ b).is_non_zero);
    }
}
