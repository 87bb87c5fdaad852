//! Analysis of `mapBegin` … `mapEnd`: a table from keys to values (LANGUAGE §14).

use super::code::StackOp;
use super::control::Open;
use super::facts::{Item, to_int32};
use super::stack::{Fail, Outcome, Walk};
use crate::languages::lang_8f4e::error::CompilerCode;
use crate::languages::lang_8f4e::functions::VariableType;
use crate::languages::lang_8f4e::instruction::Instruction;
use crate::languages::lang_8f4e::program::{Argument, Line, LiteralKind};
use crate::middle::operators::{Const, Type};

/// A map that is open at the current line.
pub struct OpenMap {
    input: Type,
    rows: Vec<(Const, Cell)>,
    default: Option<Cell>,
}

/// A value whose column type is not known yet.
#[derive(Clone, Copy)]
struct Cell {
    value: f64,
    ty: Type,
}

impl Cell {
    /// The cell as a constant of the column's type; numbers must be written in the column's kind.
    fn in_column(self, column: Type) -> Outcome<Const> {
        match (column, self.ty) {
            (Type::I32, Type::I32) => Ok(Const::I32(to_int32(self.value))),
            (Type::F32, Type::F32) => Ok(Const::f32(self.value as f32)),
            (Type::F64, Type::F64) => Ok(Const::f64(self.value)),
            (Type::I32, _) => Err(CompilerCode::OnlyIntegers.into()),
            (_, Type::I32) => Err(CompilerCode::OnlyFloats.into()),
            _ => Err(CompilerCode::MixedFloatWidth.into()),
        }
    }
}

impl<'a> Walk<'a> {
    pub(super) fn map_line(&mut self, line: &'a Line) -> Outcome {
        match line.instruction {
            Instruction::MapBegin => {
                self.open.push(Open::Map(OpenMap { input: column_type(line), rows: Vec::new(), default: None }));
                Ok(())
            }
            Instruction::MapEnd => self.end_map(line),
            _ => {
                let Some(Open::Map(map)) = self.open.last_mut() else { return Ok(()) };
                if line.instruction == Instruction::Default { map.set_default(line) } else { map.add_row(line) }
            }
        }
    }

    fn end_map(&mut self, line: &Line) -> Outcome {
        let Some(Open::Map(map)) = self.open.pop() else { return Ok(()) };
        let operand = self.pop()?;
        if operand.ty != map.input {
            // The operand has to be of the input type, as if it were a key.
            Cell { value: 0.0, ty: operand.ty }.in_column(map.input)?;
        }
        let output = column_type(line);
        let rows = map.rows.iter().map(|(key, cell)| Ok((*key, cell.in_column(output)?))).collect::<Outcome<Vec<_>>>()?;
        let default = map.default.map_or(Ok(output.zero()), |cell| cell.in_column(output))?;
        self.emit(StackOp::Map { input: map.input, output, rows, default });
        self.stack.push(Item::value(output));
        Ok(())
    }
}

impl OpenMap {
    /// `map value` takes the row's number as its key.
    fn add_row(&mut self, line: &Line) -> Outcome {
        let key = match line.arguments.len() {
            0 | 1 => row_number(self.rows.len(), self.input),
            _ => cell(line, 0)?.in_column(self.input).map_err(|fail| Fail { argument: Some(0), ..fail })?,
        };
        let value = cell(line, line.arguments.len().saturating_sub(1))?;
        self.rows.push((key, value));
        Ok(())
    }

    fn set_default(&mut self, line: &Line) -> Outcome {
        self.default = Some(cell(line, 0)?);
        Ok(())
    }
}

fn row_number(index: usize, ty: Type) -> Const {
    match ty {
        Type::I32 => Const::I32(index as i32),
        Type::F32 => Const::f32(index as f32),
        Type::F64 => Const::f64(index as f64),
    }
}

fn cell(line: &Line, index: usize) -> Outcome<Cell> {
    let wrong = || Fail { argument: Some(index), ..CompilerCode::ExpectedValue.into() };
    match line.arguments.get(index) {
        Some(Argument::Literal(literal)) => {
            let ty = match literal.kind {
                LiteralKind::Int => Type::I32,
                LiteralKind::Float => Type::F32,
                LiteralKind::Float64 => Type::F64,
            };
            Ok(Cell { value: literal.value, ty })
        }
        Some(Argument::Text(text)) => Ok(Cell { value: text.chars().next().map_or(0.0, |c| f64::from(c as u32)), ty: Type::I32 }),
        _ => Err(wrong()),
    }
}

fn column_type(line: &Line) -> Type {
    let word = match line.arguments.first() {
        Some(Argument::Name(word)) => word.as_str(),
        _ => "int",
    };
    VariableType::from_word(word).map_or(Type::I32, VariableType::ty)
}
