//! Names inside one body: locals, parameters, and the memory items of the module (LANGUAGE §10, §14 `push`).
//!
//! Made anew for each body; locals come into scope as their lines are passed. Pure computation.

use rustc_hash::FxHashMap;

use super::facts::PointsTo;
use crate::languages::lang_8f4e::error::CompilerCode;
use crate::languages::lang_8f4e::functions::{Signature, VariableType};
use crate::languages::lang_8f4e::program::{Argument, BaseType, Item, Literal, LiteralKind, Module, PointeeQuery};
use crate::middle::function::Local;
use crate::middle::operators::Type;

/// A local or parameter.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub local: Local,
    pub ty: VariableType,
    pub is_param: bool,
    /// Memory that it points into, if it is a pointer; follows what is assigned to it.
    pub pointee_memory: u32,
}

/// What an argument means where a value is wanted.
#[derive(Debug)]
pub enum Operand<'a> {
    Literal(&'a Literal),
    /// A pointee query of a local pointer.
    Number(Literal),
    Text(&'a str),
    Variable(Variable),
    Item(&'a Item),
    /// A memory pointer, followed `depth` times.
    ItemTarget {
        item: &'a Item,
        depth: u8,
    },
    /// A local pointer, followed `depth` times.
    VariableTarget {
        variable: Variable,
        depth: u8,
    },
}

/// Why an argument means nothing.
#[derive(Debug)]
pub struct Problem {
    pub code: CompilerCode,
    pub subject: String,
}

impl Problem {
    /// An unknown name, or an expression that cannot be computed.
    pub fn undeclared(subject: impl Into<String>) -> Self {
        Self { code: CompilerCode::UndeclaredIdentifier, subject: subject.into() }
    }
}

/// The names of one body.
pub struct Scope<'a> {
    items: FxHashMap<&'a str, &'a Item>,
    variables: FxHashMap<&'a str, Variable>,
    locals: Vec<Type>,
}

impl<'a> Scope<'a> {
    pub fn of_module(module: &'a Module) -> Self {
        // A later item of the same name replaces an earlier one, as the language wants it.
        let items = module.items.iter().map(|item| (item.name.as_str(), item)).collect();
        Self { items, variables: FxHashMap::default(), locals: Vec::new() }
    }

    pub fn of_function(signature: &'a Signature) -> Self {
        let mut scope = Self { items: FxHashMap::default(), variables: FxHashMap::default(), locals: Vec::new() };
        for param in &signature.params {
            scope.add(&param.name, param.ty, true);
        }
        scope
    }

    /// Types of all locals so far, parameters first.
    pub fn into_locals(self) -> Vec<Type> {
        self.locals
    }

    pub fn variable(&self, name: &str) -> Option<Variable> {
        self.variables.get(name).copied()
    }

    /// The item a plain name means in this body.
    pub fn item(&self, name: &str) -> Option<&'a Item> {
        self.items.get(name).copied()
    }

    /// A `local` line. Tells whether a local of that name was there already.
    pub fn declare(&mut self, name: &'a str, ty: VariableType) -> (Local, bool) {
        let is_redeclared = self.variable(name).is_some_and(|variable| !variable.is_param);
        (self.add(name, ty, false), is_redeclared)
    }

    fn add(&mut self, name: &'a str, ty: VariableType, is_param: bool) -> Local {
        let local = Local(self.locals.len() as u32);
        self.locals.push(ty.ty());
        self.variables.insert(name, Variable { local, ty, is_param, pointee_memory: 0 });
        local
    }

    /// From here on the pointer points into `memory`.
    pub fn point_into(&mut self, name: &str, memory: u32) {
        if let Some(variable) = self.variables.get_mut(name) {
            variable.pointee_memory = memory;
        }
    }

    /// Finds out what an argument means.
    pub fn resolve(&self, argument: &'a Argument) -> Result<Operand<'a>, Problem> {
        match argument {
            Argument::Literal(literal) => Ok(Operand::Literal(literal)),
            Argument::Text(text) => Ok(Operand::Text(text)),
            Argument::Name(name) => self.resolve_name(name),
            Argument::Dereference { name, depth } => self.resolve_dereference(name, *depth),
            Argument::PointeeQuery { query, name, depth_written } => self.resolve_query(*query, name, *depth_written),
            Argument::Unresolved { what } => Err(Problem::undeclared(what)),
        }
    }

    /// Locals first, then memory.
    fn resolve_name(&self, name: &str) -> Result<Operand<'a>, Problem> {
        let variable = self.variable(name).map(Operand::Variable);
        variable.or_else(|| self.item(name).map(Operand::Item)).ok_or_else(|| Problem::undeclared(name))
    }

    /// Memory first, then locals.
    fn resolve_dereference(&self, name: &str, depth: u8) -> Result<Operand<'a>, Problem> {
        let (declared, operand) = match (self.item(name), self.variable(name)) {
            (Some(item), _) => (item.declared.pointer_depth, Operand::ItemTarget { item, depth }),
            (None, Some(variable)) => (depth_of(variable.ty), Operand::VariableTarget { variable, depth }),
            (None, None) => return Err(Problem::undeclared(starred(name, depth))),
        };
        if depth > declared {
            return Err(Problem { code: CompilerCode::PointerDereferenceDepthExceeded, subject: starred(name, depth) });
        }
        Ok(operand)
    }

    /// Queries that the layout could not answer: those of local pointers, and counts that are not known.
    fn resolve_query(&self, query: PointeeQuery, name: &str, depth_written: u8) -> Result<Operand<'a>, Problem> {
        let shown = format!("{}({})", query_word(query), starred(name, depth_written));
        let is_item_pointer = self.item(name).is_some_and(|item| item.declared.pointer_depth > 0);
        let pointer = match self.variable(name).map(|variable| variable.ty) {
            Some(VariableType::Pointer { base, depth }) if depth_written == 1 => Some((base, depth)),
            _ => None,
        };
        if query == PointeeQuery::Count && depth_written == 1 && (is_item_pointer || pointer.is_some()) {
            return Err(Problem { code: CompilerCode::PointeeElementCountUnknown, subject: shown });
        }
        match pointer {
            Some((base, depth)) => Ok(Operand::Number(pointee_number(query, base, depth))),
            None => Err(Problem::undeclared(shown)),
        }
    }
}

fn starred(name: &str, depth: u8) -> String {
    format!("{}{name}", "*".repeat(usize::from(depth)))
}

fn query_word(query: PointeeQuery) -> &'static str {
    match query {
        PointeeQuery::Count => "count",
        PointeeQuery::Sizeof => "sizeof",
        PointeeQuery::Max => "max",
        PointeeQuery::Min => "min",
    }
}

fn depth_of(ty: VariableType) -> u8 {
    match ty {
        VariableType::Scalar(_) => 0,
        VariableType::Pointer { depth, .. } => depth,
    }
}

/// `sizeof`, `max`, `min` of what a pointer points at (LANGUAGE §6, §10).
fn pointee_number(query: PointeeQuery, base: BaseType, depth: u8) -> Literal {
    let base = if depth == 2 { BaseType::Int } else { base };
    let (bytes, low, high) = match base {
        BaseType::Int8 => (1.0, -128.0, 127.0),
        BaseType::Int8u => (1.0, 0.0, 255.0),
        BaseType::Int16 => (2.0, -32_768.0, 32_767.0),
        BaseType::Int16u => (2.0, 0.0, 65_535.0),
        BaseType::Int | BaseType::Int32 => (4.0, -2_147_483_648.0, 2_147_483_647.0),
        BaseType::Float => (4.0, -3.402_823_466_385_288_6e38, 3.402_823_466_385_288_6e38),
        BaseType::Float64 => (8.0, f64::MIN, f64::MAX),
    };
    let (value, is_range) = match query {
        PointeeQuery::Sizeof | PointeeQuery::Count => (bytes, false),
        PointeeQuery::Max => (high, true),
        PointeeQuery::Min => (low, true),
    };
    let is_float = is_range && matches!(base, BaseType::Float | BaseType::Float64);
    Literal { value, kind: if is_float { LiteralKind::Float } else { LiteralKind::Int }, range: None }
}

/// What a pointer of this type points at, in `memory`.
pub fn points_to(ty: VariableType, memory: u32) -> Option<PointsTo> {
    match ty {
        VariableType::Scalar(_) => None,
        VariableType::Pointer { base, depth } => Some(PointsTo { base, memory, depth }),
    }
}
