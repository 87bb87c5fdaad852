//! Analysis of control flow: blocks, loops, branches, ends (LANGUAGE §13, §14). Nothing is merged: a result has the facts of
//! the last branch.

use super::code::StackOp;
use super::facts::{Item, to_int32};
use super::maps::OpenMap;
use super::stack::{Outcome, Walk, literal};
use crate::languages::lang_8f4e::error::CompilerCode;
use crate::languages::lang_8f4e::instruction::Instruction;
use crate::languages::lang_8f4e::program::{Argument, Line};
use crate::middle::operators::Type;

/// A block that is open at the current line.
pub enum Open {
    If { results: Vec<Type> },
    Block { results: Vec<Type> },
    Loop,
    Map(OpenMap),
}

impl<'a> Walk<'a> {
    pub(super) fn control(&mut self, line: &'a Line) -> Outcome {
        match line.instruction {
            Instruction::Loop => self.begin_loop(line),
            Instruction::LoopEnd => {
                self.open.pop();
                self.emit(StackOp::LoopEnd);
                Ok(())
            }
            Instruction::LoopIndex => {
                self.emit(StackOp::LoopIndex);
                self.stack.push(Item::value(Type::I32));
                Ok(())
            }
            Instruction::Block => {
                let results = self.results_of_end();
                self.emit(StackOp::Block { results: results.clone() });
                self.open.push(Open::Block { results });
                Ok(())
            }
            Instruction::BlockEnd => self.end_block(),
            Instruction::If => self.begin_if(),
            Instruction::Else => self.begin_else(),
            Instruction::IfEnd => self.end_if(),
            Instruction::Branch => {
                self.emit(StackOp::Branch(branch_depth(line)));
                Ok(())
            }
            Instruction::BranchIfTrue => {
                self.pop_int()?;
                self.emit(StackOp::BranchIf(branch_depth(line)));
                Ok(())
            }
            Instruction::ExitIfTrue => {
                self.pop_int()?;
                self.emit(StackOp::ExitIfTrue { drops: self.stack.len() as u32 });
                Ok(())
            }
            _ => {
                self.stack.clear();
                self.emit(StackOp::Return);
                Ok(())
            }
        }
    }

    fn begin_loop(&mut self, line: &'a Line) -> Outcome {
        let cap = if line.arguments.is_empty() { f64::from(self.body.loop_cap) } else { self.count_argument(line)? };
        self.emit(StackOp::Loop { cap: to_int32(cap) });
        self.open.push(Open::Loop);
        Ok(())
    }

    fn begin_if(&mut self) -> Outcome {
        let results = self.results_of_end();
        self.pop_int()?;
        self.emit(StackOp::If { results: results.clone() });
        self.open.push(Open::If { results });
        Ok(())
    }

    fn begin_else(&mut self) -> Outcome {
        if let Some(Open::If { results }) = self.open.last() {
            let results = results.clone();
            self.pop_results(&results, true)?;
        }
        self.emit(StackOp::Else);
        Ok(())
    }

    fn end_if(&mut self) -> Outcome {
        if let Some(Open::If { results }) = self.open.pop() {
            let items = self.pop_results(&results, true)?;
            self.stack.extend(items);
        }
        self.emit(StackOp::IfEnd);
        Ok(())
    }

    fn end_block(&mut self) -> Outcome {
        if let Some(Open::Block { results }) = self.open.pop() {
            let items = self.pop_results(&results, false)?;
            self.stack.extend(items);
        }
        self.emit(StackOp::BlockEnd);
        Ok(())
    }

    /// Takes the declared results off the stack. An `int` must be one; whether a `float` is one is checked for `if` only.
    fn pop_results(&mut self, results: &[Type], checks_floats: bool) -> Outcome<Vec<Item>> {
        if self.stack.len() < results.len() {
            return Err(CompilerCode::InsufficientOperands.into());
        }
        let items = self.stack.split_off(self.stack.len() - results.len());
        for (item, &result) in items.iter().zip(results) {
            if result == Type::I32 && !item.is_int() {
                return Err(CompilerCode::OnlyIntegers.into());
            }
            if checks_floats && result != Type::I32 && item.is_int() {
                return Err(CompilerCode::OnlyFloats.into());
            }
        }
        Ok(items)
    }

    /// Result types that the end of the block opened at the current line declares.
    fn results_of_end(&self) -> Vec<Type> {
        let mut depth = 0usize;
        for line in &self.body.lines[self.index..] {
            match line.instruction {
                Instruction::If | Instruction::Block => depth += 1,
                Instruction::IfEnd | Instruction::BlockEnd => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return line.arguments.iter().map(result_type).collect();
            }
        }
        Vec::new()
    }

    pub(super) fn function_end(&mut self) -> Outcome {
        let Some(signature) = self.body.signature else { return Ok(()) };
        let fits = |(item, result): (&Item, &crate::languages::lang_8f4e::functions::VariableType)| item.fits_result(*result);
        if self.stack.len() != signature.results.len() || !self.stack.iter().zip(&signature.results).all(fits) {
            return Err(CompilerCode::StackMismatchFunctionReturn.into());
        }
        Ok(())
    }
}

fn result_type(argument: &Argument) -> Type {
    match argument {
        Argument::Name(name) if name == "float" => Type::F32,
        _ => Type::I32,
    }
}

/// A raw label depth: any literal, truncated to an unsigned integer.
fn branch_depth(line: &Line) -> u32 {
    line.arguments.first().and_then(literal).map_or(0, |literal| to_int32(literal.value) as u32)
}
