//! Stack code to a function of the middle, and on the way the typing rules of WebAssembly's own operand stack.
//!
//! The language accepts programs whose stack code is not valid WebAssembly (LANGUAGE §25). This walk types the stack exactly as a
//! WebAssembly validator does, code behind a branch included, so that such programs get a diagnostic at their line. Each
//! item of the stack is a value of the middle; code that cannot be reached is typed, but not translated. Pure computation.

use smallvec::SmallVec;

use super::Body;
use super::code::{Callee, Code, StackOp};
use crate::languages::lang_8f4e::error::{CompilerCode, LanguageError, Place};
use crate::middle::function::{Address, ChoiceTable, Function, FunctionId, Kind, Op, Region, Results, Source, Value};
use crate::middle::operators::{Binary, Const, Store, Type, Unary};
use crate::middle::program::PAGE_BYTES;

/// Locals a body may declare. WebAssembly allows 50,000 in a function; the compiler needs some of its own.
const MAX_LOCALS: usize = 40_000;

/// A body's operations are seldom more than its steps. Room is made for so many at first.
const MOST_OPS_RESERVED: usize = 256;

/// What the bodies of a program refer to in the middle.
#[derive(Debug)]
pub struct Targets {
    /// Of each function of the program.
    pub functions: Vec<FunctionId>,
    /// Of each entry.
    pub entries: Vec<FunctionId>,
    /// Pages of each memory.
    pub memory_pages: Vec<u64>,
}

/// Why stack code is not WebAssembly.
struct Invalid {
    code: CompilerCode,
    subject: String,
    /// Step whose line is blamed instead of the current one.
    step: Option<usize>,
}

impl From<CompilerCode> for Invalid {
    fn from(code: CompilerCode) -> Self {
        Self { code, subject: String::new(), step: None }
    }
}

impl Invalid {
    fn about(code: CompilerCode, subject: impl Into<String>) -> Self {
        Self { code, subject: subject.into(), step: None }
    }
}

type Outcome<T = ()> = Result<T, Invalid>;

/// Operands of one operation, nearly always one or two.
type Slots = SmallVec<[Slot; 4]>;
type Operands = SmallVec<[Value; 4]>;

/// An item of the stack. In unreachable code it has no value, and perhaps no particular type.
#[derive(Clone, Copy)]
struct Slot {
    ty: Option<Type>,
    value: Option<Value>,
}

enum Holder {
    Function,
    If { condition: Option<Value> },
    Else { condition: Option<Value>, then: Box<Region> },
    Block,
    Repeat { cap: u32, index: crate::middle::function::Local },
}

/// A block under construction.
struct Frame {
    holder: Holder,
    results: Vec<Type>,
    /// Items below belong to enclosing blocks.
    height: usize,
    /// Behind a branch: the stack gives any type.
    is_unreachable: bool,
    /// The block itself is never entered.
    is_dead: bool,
    source: Source,
    ops: Vec<Op>,
}

struct Builder<'a> {
    targets: &'a Targets,
    /// What the numbers of called functions count from.
    family: usize,
    function: Function,
    frames: Vec<Frame>,
    stack: Vec<Slot>,
    source: Source,
    /// Step of the first `memoryCopy 0`: its operands stay on the stack, so it is to blame for what goes wrong later.
    copy_of_nothing: Option<usize>,
}

/// Translates a body; fails where it is not valid WebAssembly.
pub fn build(body: &Body<'_>, name: &str, code: &Code, targets: &Targets) -> Result<Function, LanguageError> {
    let function = Function {
        name: name.to_owned(),
        params: code.params,
        results: code.results.clone(),
        locals: code.locals.clone(),
        ..Function::default()
    };
    let source = Source { block: body.block as u32, line: 0 };
    let family = body.library.map_or(0, |place| place.family);
    let mut builder = Builder { targets, family, function, frames: Vec::new(), stack: Vec::new(), source, copy_of_nothing: None };
    builder.function.values.reserve(code.steps.len());
    builder.open(Holder::Function, code.results.clone());
    builder.frame().ops.reserve(code.steps.len().min(MOST_OPS_RESERVED));
    for (index, step) in code.steps.iter().enumerate() {
        builder.source.line = body.lines[step.line as usize].span.line;
        builder.step(index, &step.op).map_err(|invalid| located(body, code, index, &builder, invalid))?;
    }
    let last = code.steps.len();
    builder.source.line = body.lines.last().map_or(0, |line| line.span.line);
    match builder.close_region() {
        Ok((region, _)) => Ok(Function { body: region, ..builder.function }),
        Err(invalid) => Err(located(body, code, last, &builder, invalid)),
    }
}

fn located(body: &Body<'_>, code: &Code, step: usize, builder: &Builder<'_>, invalid: Invalid) -> LanguageError {
    let (step, number, subject) = match builder.copy_of_nothing {
        Some(copy) => (copy, CompilerCode::MemoryCopyOfNothing, String::new()),
        None => (invalid.step.unwrap_or(step), invalid.code, invalid.subject),
    };
    let line = match code.steps.get(step) {
        Some(step) => body.lines.get(step.line as usize),
        None => body.lines.last().filter(|_| body.signature.is_some()),
    };
    let place = match line {
        Some(line) => Place::of_line(body.block, line),
        None => Place::of_opener(body.block, if body.module.is_some() { "module" } else { "function" }),
    };
    LanguageError::about(number, place, subject)
}

impl<'a> Builder<'a> {
    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the function's own frame is open until the end")
    }

    fn is_dead(&mut self) -> bool {
        let frame = self.frame();
        frame.is_dead || frame.is_unreachable
    }

    fn open(&mut self, holder: Holder, results: Vec<Type>) {
        let is_dead = !self.frames.is_empty() && self.is_dead();
        let frame =
            Frame { holder, results, height: self.stack.len(), is_unreachable: false, is_dead, source: self.source, ops: Vec::new() };
        self.frames.push(frame);
    }

    // -------------------------------------------------------------------------------------------- the stack

    fn pop_any(&mut self) -> Outcome<Slot> {
        let height = self.frame().height;
        if self.stack.len() > height {
            return Ok(self.stack.pop().unwrap_or(Slot { ty: None, value: None }));
        }
        if self.frame().is_unreachable {
            return Ok(Slot { ty: None, value: None });
        }
        Err(Invalid::about(CompilerCode::InvalidWasmConstruct, "the operand stands outside the block that uses it"))
    }

    fn pop(&mut self, expected: Type) -> Outcome<Slot> {
        let slot = self.pop_any()?;
        match slot.ty {
            Some(found) if found != expected => Err(mismatch(found, expected)),
            _ => Ok(slot),
        }
    }

    /// The value of a popped item. Only reachable code asks for it, and there every item has one.
    fn value_of(&mut self, slot: Slot) -> Value {
        slot.value.expect("items of reachable code have values")
    }

    fn pop_values(&mut self, types: &[Type]) -> Outcome<Slots> {
        let mut slots = Slots::new();
        for &ty in types.iter().rev() {
            slots.push(self.pop(ty)?);
        }
        slots.reverse();
        Ok(slots)
    }

    fn push_back(&mut self, types: &[Type], slots: &[Slot]) {
        for (&ty, slot) in types.iter().zip(slots) {
            self.stack.push(Slot { ty: Some(ty), value: slot.value });
        }
    }

    fn values(&mut self, slots: &[Slot]) -> Vec<Value> {
        if self.is_dead() { Vec::new() } else { slots.iter().filter_map(|slot| slot.value).collect() }
    }

    // ------------------------------------------------------------------------------------------- operations

    /// Adds an operation without results.
    fn effect(&mut self, kind: Kind) {
        let op = Op { kind, results: Results::NONE, source: self.source };
        self.frame().ops.push(op);
    }

    /// Adds an operation with one result, and gives it.
    fn define(&mut self, kind: Kind, ty: Type) -> Value {
        let value = self.function.new_value(ty);
        let op = Op { kind, results: Results::one(value), source: self.source };
        self.frame().ops.push(op);
        value
    }

    fn constant(&mut self, constant: Const) -> Value {
        self.define(Kind::Const(constant), constant.ty())
    }

    fn binary(&mut self, op: Binary, left: Value, right: Value) -> Value {
        self.define(Kind::Binary { op, left, right }, op.result())
    }

    fn select(&mut self, condition: Value, on_true: Value, on_false: Value) -> Value {
        let ty = self.function.type_of(on_true);
        self.define(Kind::Select { condition, on_true, on_false }, ty)
    }

    /// Replaces `operands` by one result of type `result`, which `make` computes where the code can be reached.
    fn compute(&mut self, operands: &[Type], result: Type, make: impl FnOnce(&mut Self, &[Value]) -> Value) -> Outcome {
        let slots = self.pop_values(operands)?;
        let value = if self.is_dead() {
            None
        } else {
            let values: Operands = slots.iter().map(|&slot| self.value_of(slot)).collect();
            Some(make(self, &values))
        };
        self.stack.push(Slot { ty: Some(result), value });
        Ok(())
    }

    /// Takes `operands` for an effect.
    fn consume(&mut self, operands: &[Type], make: impl FnOnce(&mut Self, &[Value])) -> Outcome {
        let slots = self.pop_values(operands)?;
        if !self.is_dead() {
            let values: Operands = slots.iter().map(|&slot| self.value_of(slot)).collect();
            make(self, &values);
        }
        Ok(())
    }

    fn step(&mut self, index: usize, op: &StackOp) -> Outcome {
        let local_type = |builder: &Self, local: crate::middle::function::Local| builder.function.locals[local.0 as usize];
        match op {
            StackOp::Const(constant) => {
                let constant = *constant;
                self.compute(&[], constant.ty(), |builder, _| builder.constant(constant))
            }
            StackOp::ConstTooSmall => Err(CompilerCode::IntegerConstantTooSmall.into()),
            StackOp::LocalGet(local) => {
                let ty = local_type(self, *local);
                self.compute(&[], ty, |builder, _| builder.define(Kind::LocalGet(*local), ty))
            }
            StackOp::LocalSet(local) => {
                let ty = local_type(self, *local);
                self.consume(&[ty], |builder, values| builder.effect(Kind::LocalSet(*local, values[0])))
            }
            StackOp::LocalDeclare { is_redeclared: true, .. } => Err(CompilerCode::RedeclaredLocal.into()),
            StackOp::LocalDeclare { local, .. } if local.0 as usize >= MAX_LOCALS => {
                Err(Invalid::about(CompilerCode::InvalidWasmConstruct, format!("more than {MAX_LOCALS} locals")))
            }
            StackOp::LocalDeclare { .. } => Ok(()),
            StackOp::Unary(op) => self.compute(&[op.operand()], op.result(), |builder, values| {
                builder.define(Kind::Unary { op: *op, operand: values[0] }, op.result())
            }),
            StackOp::Binary(op) => {
                self.compute(&[op.operand(); 2], op.result(), |builder, values| builder.binary(*op, values[0], values[1]))
            }
            StackOp::IntAbs | StackOp::IntMin | StackOp::IntMax | StackOp::EnsureNonZero(_) => self.selection(op),
            StackOp::RoundFloat64 => Err(CompilerCode::RoundOnFloat64.into()),
            StackOp::Clamp { .. } | StackOp::ClampMemory { .. } => self.clamp(op),
            StackOp::Drop => self.pop_any().map(drop),
            StackOp::Load { .. } | StackOp::Store { .. } | StackOp::StoreBytes { .. } | StackOp::MemoryCopy { .. } => self.access(op),
            StackOp::MemoryCopyNothing => {
                self.copy_of_nothing.get_or_insert(index);
                Ok(())
            }
            StackOp::Call { callee, params, results } => self.call(*callee, params, results),
            StackOp::Map { input, output, rows, default } => {
                let table = ChoiceTable { rows: rows.clone(), default: *default };
                self.compute(&[*input], *output, |builder, values| {
                    builder.define(Kind::Choose { input: values[0], table: Box::new(table) }, *output)
                })
            }
            StackOp::If { .. }
            | StackOp::Else
            | StackOp::IfEnd
            | StackOp::Block { .. }
            | StackOp::BlockEnd
            | StackOp::Loop { .. }
            | StackOp::LoopEnd
            | StackOp::LoopIndex => self.structure(op),
            StackOp::Branch(depth) => self.branch(*depth),
            StackOp::BranchIf(depth) => self.branch_if(*depth),
            StackOp::ExitIfTrue { drops } => self.exit_if_true(*drops),
            StackOp::Return => {
                let types = self.function.results.clone();
                let slots = self.pop_values(&types)?;
                if !self.is_dead() {
                    let values = self.values(&slots);
                    self.effect(Kind::Return { values });
                }
                self.mark_unreachable();
                Ok(())
            }
        }
    }

    /// Lowers what WebAssembly has no instruction for to a choice between two values (LANGUAGE §15.4).
    fn selection(&mut self, op: &StackOp) -> Outcome {
        match *op {
            StackOp::IntAbs => self.compute(&[Type::I32], Type::I32, |builder, values| {
                let zero = builder.constant(Const::I32(0));
                let negated = builder.binary(Binary::I32Sub, zero, values[0]);
                let zero = builder.constant(Const::I32(0));
                let is_negative = builder.binary(Binary::I32LtS, values[0], zero);
                builder.select(is_negative, negated, values[0])
            }),
            StackOp::IntMin | StackOp::IntMax => self.compute(&[Type::I32; 2], Type::I32, |builder, values| {
                let op = if *op == StackOp::IntMin { Binary::I32LtS } else { Binary::I32GtS };
                let takes_left = builder.binary(op, values[0], values[1]);
                builder.select(takes_left, values[0], values[1])
            }),
            StackOp::EnsureNonZero(replacement) => {
                let ty = replacement.ty();
                self.compute(&[ty], ty, |builder, values| {
                    let is_zero = match ty {
                        Type::I32 => builder.define(Kind::Unary { op: Unary::I32Eqz, operand: values[0] }, Type::I32),
                        Type::F32 | Type::F64 => {
                            let zero = builder.constant(ty.zero());
                            builder.binary(if ty == Type::F32 { Binary::F32Eq } else { Binary::F64Eq }, values[0], zero)
                        }
                    };
                    let replacement = builder.constant(replacement);
                    builder.select(is_zero, replacement, values[0])
                })
            }
            _ => Ok(()),
        }
    }

    fn clamp(&mut self, op: &StackOp) -> Outcome {
        let (low, high) = match *op {
            StackOp::Clamp { low, high } => (low, high),
            StackOp::ClampMemory { memory, width } => (0, self.memory_bytes(memory).saturating_sub(u64::from(width)) as u32 as i32),
            _ => return Ok(()),
        };
        self.compute(&[Type::I32], Type::I32, |builder, values| {
            let limit = builder.constant(Const::I32(low));
            let is_below = builder.binary(Binary::I32LtS, values[0], limit);
            let limit = builder.constant(Const::I32(low));
            let raised = builder.select(is_below, limit, values[0]);
            let limit = builder.constant(Const::I32(high));
            let is_above = builder.binary(Binary::I32GtU, raised, limit);
            let limit = builder.constant(Const::I32(high));
            builder.select(is_above, limit, raised)
        })
    }

    fn memory_bytes(&self, memory: u32) -> u64 {
        self.targets.memory_pages.get(memory as usize).map_or(0, |pages| pages * PAGE_BYTES)
    }

    fn access(&mut self, op: &StackOp) -> Outcome {
        let at = |memory, base, offset| Address { memory, base, offset };
        match *op {
            StackOp::Load { op, memory, is_guarded, chain } => {
                if is_guarded && chain.is_some_and(|ty| ty != op.result()) {
                    let what = "a local pointer to a pointer to floats cannot be followed twice at once";
                    return Err(Invalid::about(CompilerCode::InvalidWasmConstruct, what));
                }
                self.compute(&[Type::I32], op.result(), |builder, values| {
                    builder.define(Kind::Load { op, address: at(memory, values[0], 0), is_guarded }, op.result())
                })
            }
            StackOp::Store { op, memory, is_guarded } => self.consume(&[Type::I32, op.operand()], |builder, values| {
                builder.effect(Kind::Store { op, address: at(memory, values[0], 0), value: values[1], is_guarded });
            }),
            StackOp::StoreBytes { count, memory, is_guarded } => {
                // The top byte goes to the address itself, the one below it to the next.
                self.consume(&vec![Type::I32; count as usize + 1], |builder, values| {
                    let (base, bytes) = values.split_last().expect("the address is always there");
                    for (offset, &value) in bytes.iter().rev().enumerate() {
                        let address = at(memory, *base, offset as u32);
                        builder.effect(Kind::Store { op: Store::I32Low8, address, value, is_guarded });
                    }
                })
            }
            StackOp::MemoryCopy { bytes, to, from, is_guarded } => self.consume(&[Type::I32; 2], |builder, values| {
                builder.effect(Kind::MemoryCopy { to: at(to, values[0], 0), from: at(from, values[1], 0), bytes, is_guarded });
            }),
            _ => Ok(()),
        }
    }

    fn call(&mut self, callee: Callee, params: &[Type], results: &[Type]) -> Outcome {
        let function = match callee {
            Callee::Function(index) => self.targets.functions[self.family + index],
            Callee::Entry(index) => self.targets.entries[index],
        };
        let slots = self.pop_values(params)?;
        if self.is_dead() {
            self.stack.extend(results.iter().map(|&ty| Slot { ty: Some(ty), value: None }));
            return Ok(());
        }
        let arguments = self.values(&slots);
        self.define_all(Kind::Call { function, arguments }, results, self.source);
        Ok(())
    }

    /// Adds an operation with results of these types, and pushes them.
    fn define_all(&mut self, kind: Kind, types: &[Type], source: Source) {
        let first = self.function.values.len() as u32;
        for &ty in types {
            let value = self.function.new_value(ty);
            self.stack.push(Slot { ty: Some(ty), value: Some(value) });
        }
        let results = if types.is_empty() { Results::NONE } else { Results { first, count: types.len() as u32 } };
        self.frame().ops.push(Op { kind, results, source });
    }

    // -------------------------------------------------------------------------------------------- structure

    fn structure(&mut self, op: &StackOp) -> Outcome {
        match op {
            StackOp::If { results } => {
                let condition = self.pop(Type::I32)?.value;
                self.open(Holder::If { condition }, results.clone());
                Ok(())
            }
            StackOp::Else => self.begin_else(),
            StackOp::Block { results } => {
                self.open(Holder::Block, results.clone());
                Ok(())
            }
            StackOp::Loop { cap } => {
                let index = self.function.new_local(Type::I32);
                self.open(Holder::Repeat { cap: (*cap).max(0) as u32, index }, Vec::new());
                Ok(())
            }
            StackOp::LoopIndex => {
                let index = self.frames.iter().rev().find_map(|frame| match frame.holder {
                    Holder::Repeat { index, .. } => Some(index),
                    _ => None,
                });
                let index = index.ok_or_else(|| Invalid::about(CompilerCode::InvalidWasmConstruct, "loopIndex outside a loop"))?;
                self.compute(&[], Type::I32, |builder, _| builder.define(Kind::LocalGet(index), Type::I32))
            }
            _ => self.end(),
        }
    }

    /// Ends the innermost frame's region: its results must be all that is on its part of the stack.
    fn close_region(&mut self) -> Outcome<(Region, Slots)> {
        let types = self.frame().results.clone();
        let slots = self.pop_values(&types)?;
        let left = self.stack.len() - self.frame().height;
        if left > 0 {
            return Err(Invalid::about(CompilerCode::ValuesLeftByBranch, left.to_string()));
        }
        let yields = self.values(&slots);
        Ok((Region { ops: std::mem::take(&mut self.frame().ops), yields }, slots))
    }

    fn begin_else(&mut self) -> Outcome {
        let (then, _) = self.close_region()?;
        let frame = self.frame();
        if let Holder::If { condition } = frame.holder {
            frame.holder = Holder::Else { condition, then: Box::new(then) };
        }
        frame.is_unreachable = false;
        Ok(())
    }

    fn end(&mut self) -> Outcome {
        let (region, _) = self.close_region()?;
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if matches!(frame.holder, Holder::If { .. }) && !frame.results.is_empty() {
            self.frames.push(frame);
            return Err(CompilerCode::ResultWithoutElse.into());
        }
        if frame.is_dead {
            self.stack.extend(frame.results.iter().map(|&ty| Slot { ty: Some(ty), value: None }));
            return Ok(());
        }
        let kind = match frame.holder {
            Holder::If { condition: Some(condition) } => Kind::If { condition, then: Box::new(region), otherwise: Box::default() },
            Holder::Else { condition: Some(condition), then } => Kind::If { condition, then, otherwise: Box::new(region) },
            Holder::Repeat { cap, index } => Kind::Repeat { cap, index, body: Box::new(region) },
            _ => Kind::Block { body: Box::new(region) },
        };
        self.define_all(kind, &frame.results, frame.source);
        Ok(())
    }

    fn mark_unreachable(&mut self) {
        let height = self.frame().height;
        self.stack.truncate(height);
        self.frame().is_unreachable = true;
    }

    /// What a label takes: `Some(types)`, with `true` if it is the function's own. `None` where there is no such label.
    fn label(&self, depth: u32) -> Option<(Vec<Type>, bool)> {
        let mut left = depth;
        for frame in self.frames.iter().rev() {
            let (levels, types) = match frame.holder {
                Holder::Repeat { .. } => (2, Vec::new()),
                _ => (1, frame.results.clone()),
            };
            if left < levels {
                return Some((types, matches!(frame.holder, Holder::Function)));
            }
            left -= levels;
        }
        None
    }

    fn branch(&mut self, depth: u32) -> Outcome {
        let (types, is_function) = self.label(depth).ok_or_else(|| no_label(depth))?;
        let slots = self.pop_values(&types)?;
        if !self.is_dead() {
            let values = self.values(&slots);
            self.effect(if is_function { Kind::Return { values } } else { Kind::Branch { depth, values } });
        }
        self.mark_unreachable();
        Ok(())
    }

    fn branch_if(&mut self, depth: u32) -> Outcome {
        let condition = self.pop(Type::I32)?;
        let (types, is_function) = self.label(depth).ok_or_else(|| no_label(depth))?;
        let slots = self.pop_values(&types)?;
        if !self.is_dead() {
            let condition = self.value_of(condition);
            let values = self.values(&slots);
            if is_function {
                self.leave_if(condition, values);
            } else {
                self.effect(Kind::BranchIf { depth, condition, values });
            }
        }
        self.push_back(&types, &slots);
        Ok(())
    }

    fn exit_if_true(&mut self, drops: u32) -> Outcome {
        let condition = self.pop(Type::I32)?;
        if drops > 0 {
            return Err(Invalid::about(CompilerCode::ExitWithValuesOnStack, drops.to_string()));
        }
        if !self.is_dead() {
            let condition = self.value_of(condition);
            self.leave_if(condition, Vec::new());
        }
        Ok(())
    }

    fn leave_if(&mut self, condition: Value, values: Vec<Value>) {
        let leave = Op { kind: Kind::Return { values }, results: Results::NONE, source: self.source };
        let then = Region { ops: vec![leave], yields: Vec::new() };
        self.effect(Kind::If { condition, then: Box::new(then), otherwise: Box::default() });
    }
}

fn no_label(depth: u32) -> Invalid {
    Invalid::about(CompilerCode::BranchDepth, depth.to_string())
}

fn mismatch(found: Type, expected: Type) -> Invalid {
    let word = |ty| match ty {
        Type::I32 => "int",
        Type::F32 => "float",
        Type::F64 => "float64",
    };
    if found == Type::I32 || expected == Type::I32 {
        let what = format!("{} stands where {} is expected", word(found), word(expected));
        return Invalid::about(CompilerCode::InvalidWasmConstruct, what);
    }
    Invalid::about(CompilerCode::FloatWidthConversion, format!("{} value cannot go where {}", word(found), word(expected)))
}
