//! Computing at compile time what is known then, exactly as it would be computed at run time.
//!
//! Results that are not a number are left to run time, because their bits may differ there; so is everything that touches a subnormal
//! number, because some hosts flush those to zero (DESIGN §10). Floats are never reassociated. Pure computation.

use super::function::{Kind, Value};
use super::operators::{Binary, Const, Unary};

/// What an operation turns out to be.
#[derive(Debug, PartialEq)]
pub enum Folded {
    Const(Const),
    /// The same as this value.
    Value(Value),
    /// A cheaper operation with one constant, which has to be made first: the operator, its left operand, the constant.
    WithConst(Binary, Value, Const),
}

/// Folds an operation, if there is something to fold. `known` tells the constant a value is.
pub fn fold(kind: &Kind, known: impl Fn(Value) -> Option<Const>) -> Option<Folded> {
    match kind {
        Kind::Unary { op, operand } => unary(*op, known(*operand)?).map(Folded::Const),
        Kind::Binary { op, left, right } => match (known(*left), known(*right)) {
            (Some(a), Some(b)) => binary(*op, a, b).map(Folded::Const),
            (None, Some(constant)) => with_constant(*op, *left, constant),
            (Some(constant), None) if op.is_commutative() => with_constant(*op, *right, constant),
            _ => None,
        },
        Kind::Select { condition, on_true, on_false } => match known(*condition) {
            Some(Const::I32(condition)) => Some(Folded::Value(if condition != 0 { *on_true } else { *on_false })),
            _ => (on_true == on_false).then_some(Folded::Value(*on_true)),
        },
        Kind::Choose { input, table } => {
            if table.rows.is_empty() {
                return Some(Folded::Const(table.default));
            }
            let input = known(*input)?;
            let row = table.rows.iter().find(|(key, _)| are_equal(*key, input));
            Some(Folded::Const(row.map_or(table.default, |(_, value)| *value)))
        }
        _ => None,
    }
}

fn are_equal(left: Const, right: Const) -> bool {
    match (left, right) {
        (Const::I32(a), Const::I32(b)) => a == b,
        (Const::F32(a), Const::F32(b)) => f32::from_bits(a) == f32::from_bits(b),
        (Const::F64(a), Const::F64(b)) => f64::from_bits(a) == f64::from_bits(b),
        _ => false,
    }
}

/// A 32-bit float that is the same at run time.
fn f32_result(value: f32) -> Option<Const> {
    (!value.is_nan() && !value.is_subnormal()).then(|| Const::f32(value))
}

/// A 64-bit float that is the same at run time.
fn f64_result(value: f64) -> Option<Const> {
    (!value.is_nan() && !value.is_subnormal()).then(|| Const::f64(value))
}

/// An operand that a flushing host sees as it is.
fn is_plain_f32(value: f32) -> bool {
    !value.is_nan() && !value.is_subnormal()
}

fn is_plain_f64(value: f64) -> bool {
    !value.is_nan() && !value.is_subnormal()
}

fn unary(op: Unary, operand: Const) -> Option<Const> {
    match operand {
        Const::I32(value) => match op {
            Unary::I32Eqz => Some(Const::I32(i32::from(value == 0))),
            Unary::F32ConvertI32 => Some(Const::f32(value as f32)),
            Unary::F64ConvertI32 => Some(Const::f64(f64::from(value))),
            _ => None,
        },
        Const::F32(bits) => {
            let value = f32::from_bits(bits);
            if !is_plain_f32(value) {
                return None;
            }
            match op {
                Unary::F32Abs => Some(Const::f32(value.abs())),
                Unary::F32Sqrt => f32_result(value.sqrt()),
                Unary::F32Nearest => Some(Const::f32(value.round_ties_even())),
                Unary::F64PromoteF32 => Some(Const::f64(f64::from(value))),
                Unary::I32TruncF32 => Some(Const::I32(value as i32)),
                _ => None,
            }
        }
        Const::F64(bits) => {
            let value = f64::from_bits(bits);
            if !is_plain_f64(value) {
                return None;
            }
            match op {
                Unary::F64Abs => Some(Const::f64(value.abs())),
                Unary::F64Sqrt => f64_result(value.sqrt()),
                Unary::I32TruncF64 => Some(Const::I32(value as i32)),
                _ => None,
            }
        }
    }
}

fn binary(op: Binary, left: Const, right: Const) -> Option<Const> {
    match (left, right) {
        (Const::I32(a), Const::I32(b)) => int(op, a, b).map(Const::I32),
        (Const::F32(a), Const::F32(b)) => {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            if is_plain_f32(a) && is_plain_f32(b) { float32(op, a, b) } else { None }
        }
        (Const::F64(a), Const::F64(b)) => {
            let (a, b) = (f64::from_bits(a), f64::from_bits(b));
            if is_plain_f64(a) && is_plain_f64(b) { float64(op, a, b) } else { None }
        }
        _ => None,
    }
}

/// `None` where the operation traps.
fn int(op: Binary, a: i32, b: i32) -> Option<i32> {
    use Binary::*;
    let (ua, ub) = (a as u32, b as u32);
    Some(match op {
        I32Add => a.wrapping_add(b),
        I32Sub => a.wrapping_sub(b),
        I32Mul => a.wrapping_mul(b),
        I32DivS => a.checked_div(b)?,
        I32RemS if b == 0 => return None,
        I32RemS => a.wrapping_rem(b),
        I32And => a & b,
        I32Or => a | b,
        I32Xor => a ^ b,
        I32Shl => a.wrapping_shl(ub),
        I32ShrS => a.wrapping_shr(ub),
        I32ShrU => ua.wrapping_shr(ub) as i32,
        I32Eq => i32::from(a == b),
        I32Ne => i32::from(a != b),
        I32LtS => i32::from(a < b),
        I32LtU => i32::from(ua < ub),
        I32GtS => i32::from(a > b),
        I32GtU => i32::from(ua > ub),
        I32LeS => i32::from(a <= b),
        I32LeU => i32::from(ua <= ub),
        I32GeS => i32::from(a >= b),
        I32GeU => i32::from(ua >= ub),
        _ => return None,
    })
}

fn float32(op: Binary, a: f32, b: f32) -> Option<Const> {
    use Binary::*;
    let flag = |value: bool| Some(Const::I32(i32::from(value)));
    match op {
        F32Add => f32_result(a + b),
        F32Sub => f32_result(a - b),
        F32Mul => f32_result(a * b),
        F32Div => f32_result(a / b),
        // Of two equal numbers (zeros included) either may be the smaller one: left to run time, where the sign decides.
        F32Min if a != b => f32_result(if a < b { a } else { b }),
        F32Max if a != b => f32_result(if a > b { a } else { b }),
        F32Eq => flag(a == b),
        F32Ne => flag(a != b),
        F32Lt => flag(a < b),
        F32Gt => flag(a > b),
        F32Le => flag(a <= b),
        F32Ge => flag(a >= b),
        _ => None,
    }
}

fn float64(op: Binary, a: f64, b: f64) -> Option<Const> {
    use Binary::*;
    let flag = |value: bool| Some(Const::I32(i32::from(value)));
    match op {
        F64Add => f64_result(a + b),
        F64Sub => f64_result(a - b),
        F64Mul => f64_result(a * b),
        F64Div => f64_result(a / b),
        F64Min if a != b => f64_result(if a < b { a } else { b }),
        F64Max if a != b => f64_result(if a > b { a } else { b }),
        F64Eq => flag(a == b),
        F64Ne => flag(a != b),
        F64Lt => flag(a < b),
        F64Gt => flag(a > b),
        F64Le => flag(a <= b),
        F64Ge => flag(a >= b),
        _ => None,
    }
}

/// One operand is constant; for operators that are not commutative it is the right one.
fn with_constant(op: Binary, other: Value, constant: Const) -> Option<Folded> {
    use Binary::*;
    match (op, constant) {
        (I32Add | I32Sub | I32Or | I32Xor | I32Shl | I32ShrS | I32ShrU, Const::I32(0)) | (I32Mul | I32DivS, Const::I32(1)) => {
            Some(Folded::Value(other))
        }
        (I32And, Const::I32(-1)) => Some(Folded::Value(other)),
        (I32Mul | I32And, Const::I32(0)) => Some(Folded::Const(Const::I32(0))),
        // A division by a power of two is a multiplication by its inverse: both round the same number.
        (F32Div, Const::F32(bits)) => {
            inverse_f32(f32::from_bits(bits)).map(|inverse| Folded::WithConst(F32Mul, other, Const::f32(inverse)))
        }
        (F64Div, Const::F64(bits)) => {
            inverse_f64(f64::from_bits(bits)).map(|inverse| Folded::WithConst(F64Mul, other, Const::f64(inverse)))
        }
        _ => None,
    }
}

fn inverse_f32(value: f32) -> Option<f32> {
    let is_power = value.is_normal() && value.to_bits() & 0x007f_ffff == 0;
    let inverse = 1.0 / value;
    (is_power && inverse.is_normal()).then_some(inverse)
}

fn inverse_f64(value: f64) -> Option<f64> {
    let is_power = value.is_normal() && value.to_bits() & 0x000f_ffff_ffff_ffff == 0;
    let inverse = 1.0 / value;
    (is_power && inverse.is_normal()).then_some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(op: Binary, left: Const, right: Const) -> Option<Folded> {
        let kind = Kind::Binary { op, left: Value(0), right: Value(1) };
        fold(&kind, |value| Some(if value == Value(0) { left } else { right }))
    }

    #[test]
    fn integers_wrap_and_traps_stay() {
        assert_eq!(both(Binary::I32Add, Const::I32(i32::MAX), Const::I32(1)), Some(Folded::Const(Const::I32(i32::MIN))));
        assert_eq!(both(Binary::I32DivS, Const::I32(1), Const::I32(0)), None);
        assert_eq!(both(Binary::I32DivS, Const::I32(i32::MIN), Const::I32(-1)), None);
        assert_eq!(both(Binary::I32RemS, Const::I32(i32::MIN), Const::I32(-1)), Some(Folded::Const(Const::I32(0))));
        assert_eq!(both(Binary::I32Shl, Const::I32(1), Const::I32(33)), Some(Folded::Const(Const::I32(2))));
    }

    #[test]
    fn what_may_differ_at_run_time_is_left_to_it() {
        let zero = Const::f32(0.0);
        assert_eq!(both(Binary::F32Div, zero, zero), None);
        assert_eq!(both(Binary::F32Mul, Const::f32(1e-30), Const::f32(1e-10)), None, "a subnormal result");
        assert_eq!(both(Binary::F32Add, Const::f32(1e-40), zero), None, "a subnormal operand");
        assert_eq!(both(Binary::F32Min, zero, Const::f32(-0.0)), None);
        assert_eq!(both(Binary::F32Mul, Const::f32(1.5), Const::f32(2.0)), Some(Folded::Const(Const::f32(3.0))));
    }

    #[test]
    fn dividing_by_a_power_of_two_becomes_a_multiplication() {
        let kind = Kind::Binary { op: Binary::F32Div, left: Value(0), right: Value(1) };
        let fold_by = |divisor: f32| fold(&kind, |value| (value == Value(1)).then(|| Const::f32(divisor)));
        assert_eq!(fold_by(-8.0), Some(Folded::WithConst(Binary::F32Mul, Value(0), Const::f32(-0.125))));
        assert_eq!(fold_by(3.0), None);
        assert_eq!(fold_by(0.0), None);
    }

    #[test]
    fn the_first_matching_row_of_a_choice_wins() {
        let rows = vec![(Const::I32(1), Const::I32(10)), (Const::I32(1), Const::I32(20))];
        let table = Box::new(super::super::function::ChoiceTable { rows, default: Const::I32(99) });
        let kind = Kind::Choose { input: Value(0), table };
        assert_eq!(fold(&kind, |_| Some(Const::I32(1))), Some(Folded::Const(Const::I32(10))));
        assert_eq!(fold(&kind, |_| Some(Const::I32(2))), Some(Folded::Const(Const::I32(99))));
    }
}
