//! How large an integer can be at most, and which addresses are known to lie inside their memory: what guards can be left out.
//!
//! Two sources. A value's upper bound (as an unsigned integer) follows from the operation that makes it. And where an
//! unguarded access has gone before, its address was inside, because memories never change their size; otherwise it would have
//! trapped. Pure computation.

use super::function::{Kind, Value};
use super::operators::{Binary, Const, Load, Unary};

/// Bounds of a function's values, filled in as a walk passes their definitions.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Largest possible value of each integer, as an unsigned one.
    upper: Vec<u32>,
    /// Comparisons `left >u right`, by their result.
    above: Vec<Option<(Value, Value)>>,
    /// Bytes behind an address that are known to be inside its memory here.
    proven: Vec<(u32, Value, u32)>,
}

/// A point in a walk, to come back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Bounds {
    pub fn upper(&self, value: Value) -> u32 {
        self.upper.get(value.0 as usize).copied().unwrap_or(u32::MAX)
    }

    /// The value is never larger than this.
    pub fn limit(&mut self, value: Value, upper: u32) {
        if upper < u32::MAX {
            set(&mut self.upper, value, upper, u32::MAX);
        }
    }

    /// Learns what follows from a value's definition. `known` tells the constant a value is.
    pub fn learn(&mut self, value: Value, kind: &Kind, known: impl Fn(Value) -> Option<Const>) {
        let int = |value| match known(value) {
            Some(Const::I32(constant)) => Some(constant as u32),
            _ => None,
        };
        let upper = match kind {
            Kind::Const(Const::I32(constant)) => *constant as u32,
            Kind::Load { op: Load::I32From8U, .. } => 0xff,
            Kind::Load { op: Load::I32From16U, .. } => 0xffff,
            Kind::Unary { op: Unary::I32Eqz, .. } => 1,
            Kind::Binary { op, left, right } => {
                if *op == Binary::I32GtU {
                    set(&mut self.above, value, Some((*left, *right)), None);
                }
                self.of_binary(*op, *left, *right, int(*right))
            }
            Kind::Select { condition, on_true, on_false } => self.of_select(*condition, *on_true, *on_false),
            _ => u32::MAX,
        };
        self.limit(value, upper);
    }

    fn of_binary(&self, op: Binary, left: Value, right: Value, constant: Option<u32>) -> u32 {
        let (a, b) = (self.upper(left), self.upper(right));
        match (op, constant) {
            (Binary::I32And, _) => a.min(b),
            (Binary::I32Or | Binary::I32Xor, _) => bits_of(a | b),
            (Binary::I32Add, _) => a.saturating_add(b),
            (Binary::I32Mul, _) => a.saturating_mul(b),
            (Binary::I32Shl, Some(count)) => a.saturating_mul(1u32.wrapping_shl(count)),
            (Binary::I32ShrU, Some(count)) => a >> (count & 31),
            // A dividend that is not negative stays that way.
            (Binary::I32ShrS, Some(count)) if a <= i32::MAX as u32 => a >> (count & 31),
            (Binary::I32DivS, Some(divisor)) if a <= i32::MAX as u32 && (1..=i32::MAX as u32).contains(&divisor) => a / divisor,
            (Binary::I32RemS, Some(divisor)) if a <= i32::MAX as u32 && (1..=i32::MAX as u32).contains(&divisor) => a.min(divisor - 1),
            (Binary::I32RemS, _) if a <= i32::MAX as u32 => a,
            _ if op.is_comparison() => 1,
            _ => u32::MAX,
        }
    }

    /// A clamp from above, `if x > limit then other else x`, or any other choice.
    fn of_select(&self, condition: Value, on_true: Value, on_false: Value) -> u32 {
        let kept = match self.above.get(condition.0 as usize).copied().flatten() {
            Some((left, limit)) if left == on_false => self.upper(limit).min(self.upper(on_false)),
            _ => self.upper(on_false),
        };
        self.upper(on_true).max(kept)
    }

    /// An access of the bytes up to `end` behind `base` has gone well.
    pub fn prove(&mut self, memory: u32, base: Value, end: u32) {
        if !self.is_proven(memory, base, end) {
            self.proven.push((memory, base, end));
        }
    }

    fn is_proven(&self, memory: u32, base: Value, end: u32) -> bool {
        // The newest are asked for most; older ones are not worth a long search.
        self.proven.iter().rev().take(64).any(|&(other, value, proven)| other == memory && value == base && proven >= end)
    }

    /// Whether the bytes up to `end` behind `base` are inside a memory of this size.
    pub fn is_inside(&self, memory: u32, memory_bytes: u64, base: Value, end: u32) -> bool {
        u64::from(self.upper(base)) + u64::from(end) <= memory_bytes || self.is_proven(memory, base, end)
    }

    pub fn mark(&self) -> Mark {
        Mark(self.proven.len())
    }

    /// Forgets what has been proven since the mark: it held in a branch only.
    pub fn roll_back(&mut self, mark: Mark) {
        self.proven.truncate(mark.0);
    }
}

/// The largest number with as many bits.
fn bits_of(value: u32) -> u32 {
    u32::MAX.checked_shr(value.leading_zeros()).unwrap_or(0)
}

fn set<T: Clone>(table: &mut Vec<T>, value: Value, entry: T, empty: T) {
    let index = value.0 as usize;
    if table.len() <= index {
        table.resize(index + 1, empty);
    }
    table[index] = entry;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::function::Address;

    fn learn(bounds: &mut Bounds, value: u32, kind: Kind) -> u32 {
        bounds.learn(Value(value), &kind, |value| match value.0 {
            7 => Some(Const::I32(4)),
            _ => None,
        });
        bounds.upper(Value(value))
    }

    fn binary(op: Binary, left: u32, right: u32) -> Kind {
        Kind::Binary { op, left: Value(left), right: Value(right) }
    }

    #[test]
    fn bounds_follow_the_operations() {
        let mut bounds = Bounds::default();
        let address = Address { memory: 0, base: Value(0), offset: 0 };
        assert_eq!(learn(&mut bounds, 1, Kind::Load { op: Load::I32From8U, address, is_guarded: false }), 255);
        learn(&mut bounds, 7, Kind::Const(Const::I32(4)));
        assert_eq!(learn(&mut bounds, 2, binary(Binary::I32Mul, 1, 7)), 1020);
        assert_eq!(learn(&mut bounds, 3, binary(Binary::I32Shl, 1, 7)), 255 << 4);
        assert_eq!(learn(&mut bounds, 4, binary(Binary::I32RemS, 1, 7)), 3);
        assert_eq!(learn(&mut bounds, 5, binary(Binary::I32Sub, 1, 7)), u32::MAX);
        assert_eq!(learn(&mut bounds, 6, binary(Binary::F32Lt, 8, 9)), 1);
        assert_eq!(learn(&mut bounds, 10, binary(Binary::I32Or, 4, 7)), 7);
    }

    #[test]
    fn a_clamp_from_above_is_a_bound() {
        let mut bounds = Bounds::default();
        learn(&mut bounds, 7, Kind::Const(Const::I32(4)));
        learn(&mut bounds, 2, binary(Binary::I32GtU, 1, 7));
        let select = Kind::Select { condition: Value(2), on_true: Value(7), on_false: Value(1) };
        assert_eq!(learn(&mut bounds, 3, select), 4);
    }

    #[test]
    fn what_has_been_accessed_is_inside_until_the_branch_ends() {
        let mut bounds = Bounds::default();
        let mark = bounds.mark();
        bounds.prove(0, Value(1), 4);
        assert!(bounds.is_inside(0, 65_536, Value(1), 4));
        assert!(!bounds.is_inside(0, 65_536, Value(1), 8));
        assert!(!bounds.is_inside(1, 65_536, Value(1), 4));
        bounds.roll_back(mark);
        assert!(!bounds.is_inside(0, 65_536, Value(1), 4));
    }
}
