//! Analysis of `call`: inline arguments, the choice of the overload, results (LANGUAGE §11).

use smallvec::SmallVec;

use super::code::{Callee, StackOp};
use super::facts::Item;
use super::memory::variable_item;
use super::names::callee_name;
use super::stack::{Fail, Outcome, Walk};
use crate::languages::lang_8f4e::error::CompilerCode;
use crate::languages::lang_8f4e::functions::{Functions, Signature, VariableType};
use crate::languages::lang_8f4e::program::Line;

impl Item {
    /// Whether the item is exactly what a parameter of this type wants. There are no conversions.
    fn matches(&self, ty: VariableType) -> bool {
        let points_to = self.address.as_ref().and_then(|address| address.points_to);
        match (ty, points_to) {
            (VariableType::Scalar(ty), None) => ty == self.ty,
            (VariableType::Pointer { base, depth }, Some(target)) => (base, depth) == (target.base, target.depth),
            _ => false,
        }
    }

    /// Whether a function may give the item back as this type: pointers take any integer that does not point at something else.
    pub(super) fn fits_result(&self, ty: VariableType) -> bool {
        let points_to = self.address.as_ref().and_then(|address| address.points_to);
        match ty {
            VariableType::Scalar(ty) => self.ty == ty,
            VariableType::Pointer { base, depth } => {
                self.is_int() && points_to.is_none_or(|target| (base, depth) == (target.base, target.depth))
            }
        }
    }
}

impl<'a> Walk<'a> {
    pub(super) fn call(&mut self, line: &'a Line) -> Outcome {
        for index in 1..line.arguments.len() {
            self.push_argument(line, index)?;
        }
        let name = callee_name(line);
        let overloads = self.functions.named(name);
        let Some(&first) = overloads.first() else { return self.call_entry(name) };
        let arity = self.functions.signatures[first].params.len();
        if self.stack.len() < arity {
            return Err(CompilerCode::InsufficientOperands.into());
        }
        let arguments = &self.stack[self.stack.len() - arity..];
        let chosen = overloads.iter().copied().find(|&index| accepts(&self.functions.signatures[index], arguments));
        let chosen = chosen.ok_or_else(|| no_match(self.functions, name, overloads, arguments))?;
        self.stack.truncate(self.stack.len() - arity);
        let signature = &self.functions.signatures[chosen];
        self.stack.extend(signature.results.iter().map(|&ty| variable_item(ty, 0)));
        self.emit(StackOp::Call {
            callee: Callee::Function(chosen),
            params: signature.params.iter().map(|param| param.ty.ty()).collect(),
            results: signature.results.iter().map(|ty| ty.ty()).collect(),
        });
        Ok(())
    }

    fn call_entry(&mut self, name: &str) -> Outcome {
        let undefined = || Fail { code: CompilerCode::UndefinedFunction, subject: name.to_owned(), argument: Some(0) };
        let entry = self.program.entries.iter().position(|entry| entry == name).ok_or_else(undefined)?;
        self.emit(StackOp::Call { callee: Callee::Entry(entry), params: SmallVec::new(), results: SmallVec::new() });
        Ok(())
    }
}

fn accepts(signature: &Signature, arguments: &[Item]) -> bool {
    signature.params.iter().zip(arguments).all(|(param, item)| item.matches(param.ty))
}

fn no_match(functions: &Functions, name: &str, overloads: &[usize], arguments: &[Item]) -> Fail {
    let inferred: Vec<&str> = arguments.iter().map(Item::type_name).collect();
    let mut available: Vec<String> = overloads.iter().map(|&index| functions.signatures[index].shown()).collect();
    available.sort_by_key(|shown| shown.to_lowercase());
    let subject = format!(
        "{name}. Calls must exactly match one parameter signature.\nInferred call: {name}({})\nAvailable overloads:\n- {}",
        inferred.join(", "),
        available.join("\n- ")
    );
    Fail { code: CompilerCode::FunctionOverloadNoMatch, subject, argument: Some(0) }
}
