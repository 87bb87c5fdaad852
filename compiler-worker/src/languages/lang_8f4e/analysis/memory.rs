//! Analysis of what reads and writes variables and memory: `push`, locals, loads, stores, copies, clamps (LANGUAGE §14, §15.4, §15.5).

use super::code::StackOp;
use super::facts::{Address, Item, PointsTo, Range, clamped};
use super::names::declaration;
use super::scope::{Operand, Problem, Variable, points_to};
use super::stack::{Fail, Outcome, Walk, literal, literal_const};
use crate::languages::lang_8f4e::error::CompilerCode;
use crate::languages::lang_8f4e::functions::{VariableType, named_prototype, shape_param_type};
use crate::languages::lang_8f4e::instruction::Instruction;
use crate::languages::lang_8f4e::program::{BaseType, DeclaredType, Item as MemoryItem, Line, Literal, LiteralKind};
use crate::middle::operators::{Const, Load, Store, Type};

impl<'a> Walk<'a> {
    /// Pushes what an argument means.
    pub(super) fn push_argument(&mut self, line: &'a Line, index: usize) -> Outcome {
        let Some(argument) = line.arguments.get(index) else { return Err(CompilerCode::ExpectedIdentifier.into()) };
        match self.scope.resolve(argument).map_err(|problem| Fail::at(index, problem))? {
            Operand::Literal(literal) => self.push_literal(literal),
            Operand::Number(literal) => self.push_literal(&literal),
            Operand::Text(text) => {
                for character in text.chars() {
                    let byte = character as u32 & 255;
                    self.emit(StackOp::Const(Const::I32(byte as i32)));
                    self.stack.push(Item::known_int(f64::from(byte)));
                }
            }
            Operand::Variable(variable) => self.push_variable(variable),
            Operand::Item(item) => self.push_item(item),
            Operand::ItemTarget { item, depth } => self.push_item_target(item, depth),
            Operand::VariableTarget { variable, depth } => self.push_variable_target(variable, depth),
        }
        Ok(())
    }

    fn push_literal(&mut self, literal: &Literal) {
        let is_too_small = literal.kind == LiteralKind::Int && literal.value < f64::from(i32::MIN);
        self.emit(if is_too_small { StackOp::ConstTooSmall } else { StackOp::Const(literal_const(literal)) });
        self.stack.push(literal_item(literal));
    }

    fn push_variable(&mut self, variable: Variable) {
        self.emit(StackOp::LocalGet(variable.local));
        self.stack.push(variable_item(variable.ty, variable.pointee_memory));
    }

    fn push_item(&mut self, item: &MemoryItem) {
        let (op, result) = item_load(item);
        self.emit_item_load(item.byte_address, op, self.item_memory());
        self.stack.push(result);
    }

    /// Memory that plain items of this body live in.
    fn item_memory(&self) -> u32 {
        self.body.module.map_or(0, |module| module.memory)
    }

    fn emit_item_load(&mut self, address: u32, op: Load, memory: u32) {
        self.emit(StackOp::Const(Const::I32(address as i32)));
        self.emit(StackOp::Load { op, memory, is_guarded: false, chain: None });
    }

    /// Through a memory pointer: never guarded.
    fn push_item_target(&mut self, item: &MemoryItem, depth: u8) {
        self.note_memory_access();
        let memory = pointee_memory(item);
        self.emit_item_load(item.byte_address, Load::I32, self.item_memory());
        let (last, result) = target(item.declared.base, item.declared.pointer_depth - depth, memory);
        for level in 1..=depth {
            let op = if level == depth { last } else { Load::I32 };
            self.emit(StackOp::Load { op, memory, is_guarded: false, chain: None });
        }
        self.stack.push(result);
    }

    /// Through a local pointer: every level guarded.
    fn push_variable_target(&mut self, variable: Variable, depth: u8) {
        self.note_memory_access();
        let VariableType::Pointer { base, depth: declared } = variable.ty else { return };
        let memory = variable.pointee_memory;
        self.emit(StackOp::LocalGet(variable.local));
        let (last, result) = target(base, declared - depth, memory);
        for level in 1..=depth {
            let op = if level == depth { last } else { Load::I32 };
            self.emit(StackOp::Load { op, memory, is_guarded: true, chain: Some(last.result()) });
        }
        self.stack.push(result);
    }

    pub(super) fn push_shape(&mut self, line: &Line) -> Outcome {
        let prototype = named_prototype(self.program, line).map_err(|subject| Fail::at(0, Problem::undeclared(subject)))?;
        for shaped in &prototype.items {
            let item = self.scope.item(&shaped.name).ok_or_else(|| Fail::at(0, Problem::undeclared(&shaped.name)))?;
            let memory = self.item_memory();
            let range = Range { start: f64::from(item.byte_address), bytes: f64::from(item.words) * 4.0 };
            let points_to = shape_param_type(shaped.declared).and_then(|ty| points_to(ty, memory));
            let address = Address { memory, safe: Some(range), clamp: Some(range), safe_width: None, points_to };
            self.emit(StackOp::Const(Const::I32(item.byte_address as i32)));
            self.stack.push(Item { address: Some(address), ..Item::known_int(range.start) });
        }
        Ok(())
    }

    pub(super) fn declare_local(&mut self, line: &'a Line) -> Outcome {
        let Some((ty, name)) = declaration(line) else { return Err(CompilerCode::ExpectedIdentifier.into()) };
        let (local, is_redeclared) = self.scope.declare(name, ty);
        self.emit(StackOp::LocalDeclare { local, is_redeclared });
        Ok(())
    }

    pub(super) fn set_local(&mut self, line: &'a Line) -> Outcome {
        let Some(crate::languages::lang_8f4e::program::Argument::Name(name)) = line.arguments.first() else {
            return Err(CompilerCode::ExpectedIdentifier.into());
        };
        let variable = self.scope.variable(name).ok_or_else(|| Fail::at(0, Problem::undeclared(name)))?;
        let item = self.pop()?;
        if item.is_int() != (variable.ty.ty() == Type::I32) {
            let code = if item.is_int() { CompilerCode::OnlyFloats } else { CompilerCode::OnlyIntegers };
            return Err(code.into());
        }
        if let (VariableType::Pointer { .. }, Some(address)) = (variable.ty, &item.address) {
            self.scope.point_into(name, address.memory);
        }
        self.emit(StackOp::LocalSet(variable.local));
        Ok(())
    }

    pub(super) fn load(&mut self, instruction: Instruction) -> Outcome {
        let op = match instruction {
            Instruction::Load8s => Load::I32From8S,
            Instruction::Load8u => Load::I32From8U,
            Instruction::Load16s => Load::I32From16S,
            Instruction::Load16u => Load::I32From16U,
            Instruction::LoadFloat => Load::F32,
            _ => Load::I32,
        };
        let address = self.pop_int()?;
        self.note_memory_access();
        let is_guarded = !address.is_safe_for(op.bytes());
        self.emit(StackOp::Load { op, memory: address.memory(), is_guarded, chain: None });
        self.stack.push(Item::value(op.result()));
        Ok(())
    }

    pub(super) fn store(&mut self) -> Outcome {
        let (address, value) = self.pop_two()?;
        if !address.is_int() {
            return Err(CompilerCode::TypeMismatch.into());
        }
        self.note_memory_access();
        let op = match value.ty {
            Type::I32 => Store::I32,
            Type::F32 => Store::F32,
            Type::F64 => Store::F64,
        };
        let is_guarded = !address.is_safe_for(op.bytes());
        self.emit(StackOp::Store { op, memory: address.memory(), is_guarded });
        Ok(())
    }

    pub(super) fn store_bytes(&mut self, line: &Line) -> Outcome {
        let count = line.arguments.first().and_then(literal).map_or(0.0, |literal| literal.value) as u32;
        if self.stack.len() <= count as usize {
            return Err(CompilerCode::InsufficientOperands.into());
        }
        let address = self.pop()?;
        let bytes = self.stack.split_off(self.stack.len() - count as usize);
        if !address.is_int() || !bytes.iter().all(Item::is_int) {
            return Err(CompilerCode::TypeMismatch.into());
        }
        self.note_memory_access();
        let is_guarded = !address.is_safe_for(count);
        self.emit(StackOp::StoreBytes { count, memory: address.memory(), is_guarded });
        Ok(())
    }

    pub(super) fn memory_copy(&mut self, line: &'a Line) -> Outcome {
        let bytes = self.count_argument(line)?;
        let (to, from) = self.pop_two()?;
        if !to.is_int() || !from.is_int() {
            return Err(CompilerCode::OnlyIntegers.into());
        }
        self.note_memory_access();
        let bytes = bytes as u32;
        if bytes == 0 {
            self.emit(StackOp::MemoryCopyNothing);
            return Ok(());
        }
        let is_guarded = !(to.is_safe_for(bytes) && from.is_safe_for(bytes));
        self.emit(StackOp::MemoryCopy { bytes, to: to.memory(), from: from.memory(), is_guarded });
        Ok(())
    }

    /// The argument of `loop` and `memoryCopy`: a whole number that is not negative.
    pub(super) fn count_argument(&self, line: &'a Line) -> Outcome<f64> {
        let Some(argument) = line.arguments.first() else { return Err(CompilerCode::ExpectedValue.into()) };
        let literal = match self.scope.resolve(argument).map_err(|problem| Fail::at(0, problem))? {
            Operand::Literal(literal) => literal.clone(),
            Operand::Number(literal) => literal,
            _ => return Err(Fail { argument: Some(0), ..CompilerCode::ExpectedValue.into() }),
        };
        if literal.kind != LiteralKind::Int {
            return Err(Fail { argument: Some(0), ..CompilerCode::TypeMismatch.into() });
        }
        if literal.value < 0.0 {
            return Err(Fail { argument: Some(0), ..CompilerCode::ExpectedValue.into() });
        }
        Ok(literal.value)
    }

    pub(super) fn clamp(&mut self, line: &Line) -> Outcome {
        let width = line.arguments.first().and_then(literal).map_or(4.0, |literal| literal.value);
        let item = self.pop_int()?;
        if ![1.0, 2.0, 4.0, 8.0].contains(&width) {
            return Err(Fail { argument: Some(0), ..CompilerCode::InvalidAccessWidth.into() });
        }
        let width = width as u32;
        let (memory, range) = match (line.instruction, self.body.module) {
            (Instruction::ClampGlobalAddress, _) => return self.clamp_to_memory(&item, width),
            (Instruction::ClampModuleAddress, Some(module)) => {
                (module.memory, Range { start: f64::from(module.byte_address), bytes: f64::from(module.words) * 4.0 })
            }
            _ => (item.memory(), item.clamp_range().ok_or(CompilerCode::AddressRangeRequired)?),
        };
        if range.bytes < f64::from(width) {
            return Err(CompilerCode::AddressRangeTooSmall.into());
        }
        let high = range.start + range.bytes - f64::from(width);
        self.emit(StackOp::Clamp { low: range.start as u32 as i32, high: high as u32 as i32 });
        self.stack.push(clamped(&item, memory, range, width));
        Ok(())
    }

    fn clamp_to_memory(&mut self, item: &Item, width: u32) -> Outcome {
        let memory = item.memory();
        let points_to = item.address.as_ref().and_then(|address| address.points_to);
        let address = Address { memory, safe_width: Some(width), points_to, ..Address::default() };
        self.emit(StackOp::ClampMemory { memory, width });
        self.stack.push(Item { address: Some(address), ..Item::value(Type::I32) });
        Ok(())
    }
}

fn literal_item(literal: &Literal) -> Item {
    match literal.kind {
        LiteralKind::Int => {
            let address = literal.range.as_ref().map(|range| {
                let safe = Some(Range::from(range));
                let points_to = range.item_type.filter(|_| range.item.is_some()).and_then(|ty| address_of(ty, range.memory));
                Address { memory: range.memory, safe, clamp: safe, safe_width: None, points_to }
            });
            Item { address, ..Item::known_int(literal.value) }
        }
        LiteralKind::Float => Item { is_non_zero: literal.value != 0.0, ..Item::value(Type::F32) },
        LiteralKind::Float64 => Item { is_non_zero: literal.value != 0.0, ..Item::value(Type::F64) },
    }
}

/// What the address of an item of this type points at; nothing nameable for three stars.
fn address_of(ty: DeclaredType, memory: u32) -> Option<PointsTo> {
    (ty.pointer_depth < 2).then_some(PointsTo { base: ty.base, memory, depth: ty.pointer_depth + 1 })
}

/// A local, parameter or result of this type.
pub fn variable_item(ty: VariableType, memory: u32) -> Item {
    match ty {
        VariableType::Scalar(ty) => Item::value(ty),
        VariableType::Pointer { .. } => Item::pointer(memory, points_to(ty, memory)),
    }
}

/// How `push` reads an item, and what it gives. Arrays are read as their first word, `float64[]` as a float (LANGUAGE §6).
fn item_load(item: &MemoryItem) -> (Load, Item) {
    let declared = item.declared;
    if declared.pointer_depth > 0 {
        let memory = pointee_memory(item);
        let points_to = PointsTo { base: declared.base, memory, depth: declared.pointer_depth };
        return (Load::I32, Item::pointer(memory, Some(points_to)));
    }
    let load = match (declared.base, declared.is_array) {
        (BaseType::Float, _) | (BaseType::Float64, true) => Load::F32,
        (BaseType::Float64, false) => Load::F64,
        _ => Load::I32,
    };
    (load, Item::value(load.result()))
}

/// Memory that a pointer item points into, as its declared default tells.
fn pointee_memory(item: &MemoryItem) -> u32 {
    item.default_address.as_ref().map_or(0, |range| range.memory)
}

/// Last load of a dereference that leaves `depth` stars, and what it gives.
fn target(base: BaseType, depth: u8, memory: u32) -> (Load, Item) {
    if depth > 0 {
        return (Load::I32, Item::pointer(memory, Some(PointsTo { base, memory, depth })));
    }
    let load = match base {
        BaseType::Int | BaseType::Int32 => Load::I32,
        BaseType::Int8 => Load::I32From8S,
        BaseType::Int8u => Load::I32From8U,
        BaseType::Int16 => Load::I32From16S,
        BaseType::Int16u => Load::I32From16U,
        BaseType::Float => Load::F32,
        BaseType::Float64 => Load::F64,
    };
    (load, Item::value(load.result()))
}
