//! Pass 8 of LANGUAGE §1: every name in a body means something, before any body's operand stack is looked at.
//!
//! Reports the first unknown name of each body. Pure computation.

use super::Body;
use super::scope::{Problem, Scope};
use crate::languages::lang_8f4e::error::{CompilerCode, LanguageError, Place};
use crate::languages::lang_8f4e::functions::{Functions, VariableType, named_prototype};
use crate::languages::lang_8f4e::instruction::Instruction;
use crate::languages::lang_8f4e::program::{Argument, Line, Program};

/// The first name of the body that means nothing, or means what it may not.
pub fn check<'a>(program: &'a Program, functions: &Functions, body: &Body<'a>) -> Result<(), LanguageError> {
    let mut scope = body.scope();
    for line in body.lines {
        check_line(program, functions, body, &mut scope, line).map_err(|(problem, argument)| {
            let place = match argument {
                Some(argument) => Place::of_argument(body.block, line, argument),
                None => Place::of_line(body.block, line),
            };
            LanguageError::about(problem.code, place, problem.subject)
        })?;
    }
    Ok(())
}

/// A problem, and the argument it is in.
type Located = (Problem, Option<usize>);

fn check_line<'a>(program: &Program, functions: &Functions, body: &Body<'a>, scope: &mut Scope<'a>, line: &'a Line) -> Result<(), Located> {
    match line.instruction {
        Instruction::Push | Instruction::Loop | Instruction::MemoryCopy => check_values(scope, line, 0),
        Instruction::Call => {
            check_callee(program, functions, line)?;
            check_values(scope, line, 1)
        }
        Instruction::Local => declare(body, scope, line),
        Instruction::LocalSet => check_assigned(scope, line),
        Instruction::PushShape => check_shape(program, body, line),
        _ => check_resolved(line),
    }
}

fn check_values<'a>(scope: &Scope<'a>, line: &'a Line, first: usize) -> Result<(), Located> {
    for (index, argument) in line.arguments.iter().enumerate().skip(first) {
        scope.resolve(argument).map_err(|problem| (problem, Some(index)))?;
    }
    Ok(())
}

/// Arguments of other instructions are literals and words; only a failed expression is wrong.
fn check_resolved(line: &Line) -> Result<(), Located> {
    for (index, argument) in line.arguments.iter().enumerate() {
        match argument {
            Argument::Unresolved { what } => return Err((Problem::undeclared(what), Some(index))),
            Argument::Name(name) if takes_literals(line.instruction) => return Err((Problem::undeclared(name), Some(index))),
            _ => {}
        }
    }
    Ok(())
}

fn takes_literals(instruction: Instruction) -> bool {
    use Instruction::*;
    matches!(
        instruction,
        Map | Default | Branch | BranchIfTrue | StoreBytes | EnsureNonZero | ClampAddress | ClampModuleAddress | ClampGlobalAddress
    )
}

fn check_callee(program: &Program, functions: &Functions, line: &Line) -> Result<(), Located> {
    let name = callee_name(line);
    if program.entries.iter().any(|entry| entry == name) || !functions.named(name).is_empty() {
        return Ok(());
    }
    Err((Problem { code: CompilerCode::UndefinedFunction, subject: name.to_owned() }, Some(0)))
}

/// The name a `call` line calls.
pub fn callee_name(line: &Line) -> &str {
    match line.arguments.first() {
        Some(Argument::Name(name)) => name,
        _ => "",
    }
}

/// Name and type of a `local` line.
pub fn declaration(line: &Line) -> Option<(VariableType, &str)> {
    match (line.arguments.first(), line.arguments.get(1)) {
        (Some(Argument::Name(ty)), Some(Argument::Name(name))) => Some((VariableType::from_word(ty)?, name)),
        _ => None,
    }
}

fn declare<'a>(body: &Body<'a>, scope: &mut Scope<'a>, line: &'a Line) -> Result<(), Located> {
    let Some((ty, name)) = declaration(line) else {
        return Err((Problem { code: CompilerCode::ExpectedIdentifier, subject: String::new() }, None));
    };
    if body.module.is_some() && scope.item(name).is_some() {
        return Err((Problem { code: CompilerCode::LocalNameCollisionWithMemory, subject: name.to_owned() }, Some(1)));
    }
    scope.declare(name, ty);
    Ok(())
}

fn check_assigned(scope: &Scope<'_>, line: &Line) -> Result<(), Located> {
    match line.arguments.first() {
        Some(Argument::Name(name)) if scope.variable(name).is_some() => Ok(()),
        Some(Argument::Name(name)) => Err((Problem::undeclared(name), Some(0))),
        _ => Err((Problem { code: CompilerCode::ExpectedIdentifier, subject: String::new() }, None)),
    }
}

fn check_shape(program: &Program, body: &Body<'_>, line: &Line) -> Result<(), Located> {
    let prototype = named_prototype(program, line).map_err(|subject| (Problem::undeclared(subject), Some(0)))?;
    let is_shaped = body.module.is_some_and(|module| module.shapes.contains(&prototype.id));
    let code = if !is_shaped {
        CompilerCode::PushShapeRequiresModuleShape
    } else if prototype.items.iter().any(|item| item.is_anonymous) {
        CompilerCode::ExpectedIdentifier
    } else {
        return Ok(());
    };
    Err((Problem { code, subject: String::new() }, None))
}
