//! Pass 9 of LANGUAGE §1: walks a body with an abstract operand stack, refuses what the language refuses, and writes stack code.
//!
//! Control flow is followed line by line, without merging (LANGUAGE §13). This file has the driver and the operators; the files beside
//! it the other groups of instructions. Pure computation.

use smallvec::{SmallVec, smallvec};

use super::Body;
use super::code::{Code, StackOp, Step};
use super::control::Open;
use super::facts::{self, Item, to_int32};
use super::scope::{Problem, Scope};
use crate::languages::lang_8f4e::error::{CompilerCode, LanguageError, Place};
use crate::languages::lang_8f4e::functions::Functions;
use crate::languages::lang_8f4e::instruction::Instruction;
use crate::languages::lang_8f4e::program::{Argument, Line, Literal, LiteralKind, Program};
use crate::middle::operators::{Binary, Const, Type, Unary};

/// A body's stack code, and its first memory access if it may have none.
pub struct Analysed {
    pub code: Code,
    pub impure: Option<LanguageError>,
}

/// Why a line is refused: a code, what it is about, and the argument concerned.
pub struct Fail {
    pub code: CompilerCode,
    pub subject: String,
    pub argument: Option<usize>,
}

impl From<CompilerCode> for Fail {
    fn from(code: CompilerCode) -> Self {
        Self { code, subject: String::new(), argument: None }
    }
}

impl Fail {
    /// A problem with an argument.
    pub fn at(argument: usize, problem: Problem) -> Self {
        Self { code: problem.code, subject: problem.subject, argument: Some(argument) }
    }
}

pub type Outcome<T = ()> = Result<T, Fail>;

/// The walk over one body.
pub struct Walk<'a> {
    pub program: &'a Program,
    pub functions: &'a Functions,
    pub body: Body<'a>,
    pub scope: Scope<'a>,
    pub stack: Vec<Item>,
    pub open: Vec<Open>,
    steps: Vec<Step>,
    /// Index of the current line.
    pub index: usize,
    /// First line that accesses memory in a pure function.
    impure_line: Option<usize>,
}

/// Analyses one body; fails at its first wrong line.
pub fn analyse(program: &Program, functions: &Functions, body: &Body<'_>) -> Result<Analysed, LanguageError> {
    let mut walk = Walk {
        program,
        functions,
        body: *body,
        scope: body.scope(),
        stack: Vec::new(),
        open: Vec::new(),
        steps: Vec::with_capacity(body.lines.len() * 2),
        index: 0,
        impure_line: None,
    };
    for (index, line) in body.lines.iter().enumerate() {
        walk.index = index;
        walk.line(line).map_err(|fail| located(body, line, fail))?;
    }
    walk.finish()
}

fn located(body: &Body<'_>, line: &Line, fail: Fail) -> LanguageError {
    let place = match fail.argument {
        Some(argument) => Place::of_argument(body.block, line, argument),
        None => Place::of_line(body.block, line),
    };
    LanguageError::about(fail.code, place, fail.subject)
}

impl<'a> Walk<'a> {
    fn finish(self) -> Result<Analysed, LanguageError> {
        if self.body.module.is_some() && !self.stack.is_empty() {
            let types: Vec<&str> = self.stack.iter().map(|item| scalar_name(item.ty)).collect();
            let found = format!("0: Expected 0 elements on the stack, found {} [{}]", self.stack.len(), types.join(", "));
            let place = Place::of_opener(self.body.block, "module");
            return Err(LanguageError::about(CompilerCode::StackExpectedZeroElements, place, found));
        }
        let impure = self
            .impure_line
            .and_then(|index| self.body.lines.get(index))
            .map(|line| LanguageError::plain(CompilerCode::ImpureDirectiveRequired, Place::of_line(self.body.block, line)));
        let signature = self.body.signature;
        let code = Code {
            steps: self.steps,
            locals: self.scope.into_locals(),
            params: signature.map_or(0, |signature| signature.params.len()),
            results: signature.map_or_else(Vec::new, |signature| signature.results.iter().map(|ty| ty.ty()).collect()),
        };
        Ok(Analysed { code, impure })
    }

    /// Writes a step of the current line.
    pub fn emit(&mut self, op: StackOp) {
        self.steps.push(Step { op, line: self.index as u32 });
    }

    /// The current line accesses memory.
    pub fn note_memory_access(&mut self) {
        if !self.body.is_impure && self.impure_line.is_none() {
            self.impure_line = Some(self.index);
        }
    }

    pub fn pop(&mut self) -> Outcome<Item> {
        Ok(self.stack.pop().ok_or(CompilerCode::InsufficientOperands)?)
    }

    /// Takes the two upper items, in the order in which they were pushed.
    pub fn pop_two(&mut self) -> Outcome<(Item, Item)> {
        if self.stack.len() < 2 {
            return Err(CompilerCode::InsufficientOperands.into());
        }
        let right = self.pop()?;
        Ok((self.pop()?, right))
    }

    pub fn pop_int(&mut self) -> Outcome<Item> {
        let item = self.pop()?;
        if item.is_int() { Ok(item) } else { Err(CompilerCode::OnlyIntegers.into()) }
    }

    fn pop_two_ints(&mut self) -> Outcome<(Item, Item)> {
        let (left, right) = self.pop_two()?;
        if left.is_int() && right.is_int() { Ok((left, right)) } else { Err(CompilerCode::OnlyIntegers.into()) }
    }

    fn pop_matching(&mut self) -> Outcome<(Item, Item)> {
        let (left, right) = self.pop_two()?;
        if left.is_int() != right.is_int() {
            return Err(CompilerCode::UnmatchingOperands.into());
        }
        if left.ty != right.ty {
            return Err(CompilerCode::MixedFloatWidth.into());
        }
        Ok((left, right))
    }

    fn line(&mut self, line: &'a Line) -> Outcome {
        use Instruction::*;
        match line.instruction {
            Push => self.push_argument(line, 0),
            Add
            | Sub
            | Mul
            | Div
            | Remainder
            | And
            | Or
            | Xor
            | ShiftLeft
            | ShiftRight
            | ShiftRightUnsigned
            | Min
            | Max
            | Equal
            | NotEqual
            | LessThan
            | LessOrEqual
            | GreaterThan
            | GreaterOrEqual
            | GreaterOrEqualUnsigned => self.binary(line.instruction),
            Abs | Sqrt | Round | CastToFloat | CastToFloat64 | CastToInt | EqualToZero | NotZero => self.unary(line.instruction),
            EnsureNonZero => self.ensure_non_zero(line),
            Drop => {
                self.pop()?;
                self.emit(StackOp::Drop);
                Ok(())
            }
            ClearStack => {
                (0..self.stack.len()).for_each(|_| self.emit(StackOp::Drop));
                self.stack.clear();
                Ok(())
            }
            Local => self.declare_local(line),
            LocalSet => self.set_local(line),
            Load | Load8s | Load8u | Load16s | Load16u | LoadFloat => self.load(line.instruction),
            Store => self.store(),
            StoreBytes => self.store_bytes(line),
            MemoryCopy => self.memory_copy(line),
            ClampAddress | ClampModuleAddress | ClampGlobalAddress => self.clamp(line),
            Loop | LoopEnd | LoopIndex | Block | BlockEnd | If | Else | IfEnd | Branch | BranchIfTrue | ExitIfTrue | Return => {
                self.control(line)
            }
            Call => self.call(line),
            MapBegin | Map | Default | MapEnd => self.map_line(line),
            PushShape => self.push_shape(line),
            Param | ParamShape => Ok(()),
            FunctionEnd => self.function_end(),
        }
    }

    fn binary(&mut self, instruction: Instruction) -> Outcome {
        use Instruction::*;
        let (left, right) = match instruction {
            Remainder | And | Or | Xor | ShiftLeft | ShiftRight | ShiftRightUnsigned => self.pop_two_ints()?,
            _ => self.pop_matching()?,
        };
        if matches!(instruction, Div | Remainder) && !right.is_non_zero {
            return Err(CompilerCode::DivisionByZero.into());
        }
        let ty = left.ty;
        self.emit(binary_op(instruction, ty));
        self.stack.push(if ty == Type::I32 { int_facts(instruction, &left, &right) } else { float_facts(instruction, ty) });
        Ok(())
    }

    fn unary(&mut self, instruction: Instruction) -> Outcome {
        let item = self.pop()?;
        let op = unary_op(instruction, item.ty)?;
        op.into_iter().for_each(|op| self.emit(op));
        let mut result = Item::value(unary_result(instruction, item.ty));
        match instruction {
            Instruction::Abs => {
                result.is_non_zero = item.is_non_zero;
                result.known = item.known.map(|value| f64::from(to_int32(value).wrapping_abs()));
            }
            Instruction::CastToFloat | Instruction::CastToFloat64 | Instruction::CastToInt | Instruction::NotZero => {
                result.is_non_zero = item.is_non_zero;
            }
            _ => {}
        }
        self.stack.push(result);
        Ok(())
    }

    fn ensure_non_zero(&mut self, line: &Line) -> Outcome {
        let item = self.pop()?;
        let given = line.arguments.first().and_then(literal);
        let constant = match (item.ty, given.map_or(1.0, |literal| literal.value)) {
            (Type::I32, value) => Const::I32(to_int32(value)),
            (Type::F32, value) => Const::f32(to_one_decimal(value) as f32),
            (Type::F64, value) => Const::f64(to_one_decimal(value)),
        };
        self.emit(StackOp::EnsureNonZero(constant));
        self.stack.push(Item { is_non_zero: true, ..Item::value(item.ty) });
        Ok(())
    }
}

/// The literal an argument is, if it is one.
pub fn literal(argument: &Argument) -> Option<&Literal> {
    match argument {
        Argument::Literal(literal) => Some(literal),
        _ => None,
    }
}

/// A literal as a constant of its own kind.
pub fn literal_const(literal: &Literal) -> Const {
    match literal.kind {
        LiteralKind::Int => Const::I32(to_int32(literal.value)),
        LiteralKind::Float => Const::f32(literal.value as f32),
        LiteralKind::Float64 => Const::f64(literal.value),
    }
}

fn scalar_name(ty: Type) -> &'static str {
    match ty {
        Type::I32 => "int",
        Type::F32 => "float",
        Type::F64 => "float64",
    }
}

/// Rounds to one decimal, ties away from zero: what `ensureNonZero` does to its float literals (LANGUAGE §14).
fn to_one_decimal(value: f64) -> f64 {
    let magnitude = value.abs();
    if !value.is_finite() || magnitude >= 1e21 {
        return value;
    }
    // Formatting is exact but rounds ties to even; ties are the odd multiples of a quarter.
    let is_tie = (magnitude * 4.0).fract() == 0.0 && (magnitude * 4.0) % 2.0 == 1.0;
    let rounded = if is_tie { ((magnitude * 10.0).floor() + 1.0) / 10.0 } else { format!("{magnitude:.1}").parse().unwrap_or(magnitude) };
    rounded.copysign(value)
}

fn int_facts(instruction: Instruction, left: &Item, right: &Item) -> Item {
    use Instruction::*;
    match instruction {
        Add => facts::add(left, right),
        Sub => facts::sub(left, right),
        Mul => facts::combine_bits(left, right, i32::wrapping_mul),
        Div => facts::combine(left, right, facts::divide),
        Remainder => facts::combine(left, right, facts::remainder),
        And => facts::combine_bits(left, right, |a, b| a & b),
        Or => facts::or(left, right),
        Xor => facts::combine_bits(left, right, |a, b| a ^ b),
        ShiftLeft => facts::combine_bits(left, right, |a, b| a.wrapping_shl(b as u32)),
        ShiftRight => facts::combine_bits(left, right, |a, b| a.wrapping_shr(b as u32)),
        ShiftRightUnsigned => {
            facts::combine(left, right, |a, b| Some(to_int32(a) as u32 >> (to_int32(b) as u32 & 31)).map(|bits| bits as i32))
        }
        _ => Item::value(Type::I32),
    }
}

fn float_facts(instruction: Instruction, ty: Type) -> Item {
    use Instruction::*;
    match instruction {
        Add | Sub | Mul | Div | Min | Max => Item::value(ty),
        _ => Item::value(Type::I32),
    }
}

fn binary_op(instruction: Instruction, ty: Type) -> StackOp {
    use Binary::*;
    use Instruction::*;
    let of_type = |int, float, float64| {
        StackOp::Binary(match ty {
            Type::I32 => int,
            Type::F32 => float,
            Type::F64 => float64,
        })
    };
    match instruction {
        Add => of_type(I32Add, F32Add, F64Add),
        Sub => of_type(I32Sub, F32Sub, F64Sub),
        Mul => of_type(I32Mul, F32Mul, F64Mul),
        Div => of_type(I32DivS, F32Div, F64Div),
        Remainder => StackOp::Binary(I32RemS),
        And => StackOp::Binary(I32And),
        Or => StackOp::Binary(I32Or),
        Xor => StackOp::Binary(I32Xor),
        ShiftLeft => StackOp::Binary(I32Shl),
        ShiftRight => StackOp::Binary(I32ShrS),
        ShiftRightUnsigned => StackOp::Binary(I32ShrU),
        Min if ty == Type::I32 => StackOp::IntMin,
        Max if ty == Type::I32 => StackOp::IntMax,
        Min => of_type(I32LtS, F32Min, F64Min),
        Max => of_type(I32GtS, F32Max, F64Max),
        Equal => of_type(I32Eq, F32Eq, F64Eq),
        NotEqual => of_type(I32Ne, F32Ne, F64Ne),
        LessThan => of_type(I32LtS, F32Lt, F64Lt),
        LessOrEqual => of_type(I32LeS, F32Le, F64Le),
        GreaterThan => of_type(I32GtS, F32Gt, F64Gt),
        GreaterOrEqual => of_type(I32GeS, F32Ge, F64Ge),
        GreaterOrEqualUnsigned => of_type(I32GeU, F32Ge, F64Ge),
        other => unreachable!("{} has not two operands", other.word()),
    }
}

fn unary_op(instruction: Instruction, ty: Type) -> Outcome<SmallVec<[StackOp; 2]>> {
    use Instruction::*;
    let one = |op| Ok(smallvec![StackOp::Unary(op)]);
    let with_zero = |op| Ok(smallvec![StackOp::Const(ty.zero()), StackOp::Binary(op)]);
    match (instruction, ty) {
        (Abs, Type::I32) => Ok(smallvec![StackOp::IntAbs]),
        (Abs, Type::F32) => one(Unary::F32Abs),
        (Abs, Type::F64) => one(Unary::F64Abs),
        (Sqrt, Type::F32) => one(Unary::F32Sqrt),
        (Sqrt, Type::F64) => one(Unary::F64Sqrt),
        (Round, Type::F32) => one(Unary::F32Nearest),
        (Round, Type::F64) => Ok(smallvec![StackOp::RoundFloat64]),
        (CastToFloat, Type::I32) => one(Unary::F32ConvertI32),
        (CastToFloat64, Type::I32) => one(Unary::F64ConvertI32),
        (CastToFloat64, Type::F32) => one(Unary::F64PromoteF32),
        (CastToFloat64, Type::F64) => Ok(SmallVec::new()),
        (CastToInt, Type::F32) => one(Unary::I32TruncF32),
        (CastToInt, Type::F64) => one(Unary::I32TruncF64),
        (EqualToZero, Type::I32) => one(Unary::I32Eqz),
        (EqualToZero, Type::F32) => with_zero(Binary::F32Eq),
        (EqualToZero, Type::F64) => with_zero(Binary::F64Eq),
        (NotZero, Type::I32) => with_zero(Binary::I32Ne),
        (NotZero, Type::F32) => with_zero(Binary::F32Ne),
        (NotZero, Type::F64) => with_zero(Binary::F64Ne),
        (CastToFloat, _) => Err(CompilerCode::OnlyIntegers.into()),
        _ => Err(CompilerCode::OnlyFloats.into()),
    }
}

fn unary_result(instruction: Instruction, ty: Type) -> Type {
    match instruction {
        Instruction::CastToFloat | Instruction::Round => Type::F32,
        Instruction::CastToFloat64 => Type::F64,
        Instruction::CastToInt | Instruction::EqualToZero | Instruction::NotZero => Type::I32,
        _ => ty,
    }
}

#[cfg(test)]
mod tests {
    use super::to_one_decimal;

    #[test]
    fn float_replacements_are_rounded_to_one_decimal() {
        for (value, rounded) in [(0.25, 0.3), (-0.25, -0.3), (0.75, 0.8), (0.04, 0.0), (1.05, 1.1), (2.0, 2.0), (1e22, 1e22), (0.349, 0.3)]
        {
            assert_eq!(to_one_decimal(value), rounded, "{value}");
        }
    }
}
