//! Constants and namespaces (LANGUAGE §9): evaluates `const` and `use` and replaces known constants by their numbers.
//!
//! Namespaces (constants blocks and modules) are worked off in the order of their dependencies, then the functions. Within a
//! block order counts: a line sees what stands above it. A name that is unknown stays a name and is an error later.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use ipc::limits::MAX_DIAGNOSTICS;
use rustc_hash::FxHashMap;

use super::arguments::{Expression, Name, Number, Operand, Value};
use super::blocks::{Blocks, FunctionBlock};
use super::error::{CompilerCode, LanguageError, Place};
use super::instruction::Instruction;
use super::parsed::{ParsedBlock, Statement, Word};
use super::program::LiteralKind;

/// A map whose behaviour is the same in every run. Results never depend on its order.
pub type NameMap<K, V> = FxHashMap<K, V>;

/// The namespace that holds what the runtime decides, such as `SAMPLE_RATE`.
const ENVIRONMENT: &str = "env";

/// Constants that all `use` lines of a program may copy together. Real programs copy some thousands; without a limit a
/// chain of namespaces that use each other would take memory with the square of its length.
const MAX_COPIED_CONSTANTS: usize = 1 << 20;

/// Constants that are visible at a place, in the order they were first declared in.
#[derive(Clone, Debug, Default)]
struct Scope<'a> {
    positions: NameMap<&'a str, usize>,
    values: Vec<(&'a str, Number)>,
}

impl<'a> Scope<'a> {
    fn get(&self, name: &str) -> Option<Number> {
        self.positions.get(name).map(|&position| self.values[position].1)
    }

    fn set(&mut self, name: &'a str, number: Number) {
        match self.positions.entry(name) {
            Entry::Occupied(known) => self.values[*known.get()].1 = number,
            Entry::Vacant(free) => {
                free.insert(self.values.len());
                self.values.push((name, number));
            }
        }
    }
}

/// Replaces constants everywhere. Returns the environment as compiled: names and values of the `env` namespace.
pub fn resolve<'a>(blocks: &mut Blocks<'a>, environment: &'a [(String, f64)]) -> Result<Vec<(String, f64)>, Vec<LanguageError>> {
    let mut resolver = Resolver { scopes: Vec::new(), ids: NameMap::default(), environment, copied: 0, errors: Vec::new() };
    resolver.namespaces(blocks);
    if resolver.errors.is_empty() {
        for function in &mut blocks.functions {
            if let FunctionBlock::Own(function) = function {
                resolver.block(function, &[]);
            }
        }
    }
    match resolver.errors.is_empty() {
        true => Ok(resolver.environment()),
        false => Err(resolver.errors),
    }
}

struct Resolver<'a> {
    /// Finished namespaces: modules, then constants blocks, then the environment if the program has none of its own.
    scopes: Vec<Option<Scope<'a>>>,
    ids: NameMap<String, usize>,
    environment: &'a [(String, f64)],
    copied: usize,
    errors: Vec<LanguageError>,
}

/// One namespace that waits for others.
#[derive(Default)]
struct Waiting {
    /// Namespaces it uses that are not finished; those that do not exist never are.
    open: usize,
    users: Vec<usize>,
}

impl<'a> Resolver<'a> {
    fn namespaces(&mut self, blocks: &mut Blocks<'a>) {
        let count = blocks.modules.len() + blocks.constants.len();
        self.scopes = vec![None; count];
        // From the end, as the language does; it decides which of two equal names is the duplicate.
        for index in (0..count).rev() {
            let block = namespace(blocks, index);
            if self.ids.insert(block.id.to_string(), index).is_some() {
                let message = format!("Duplicate constant namespace {} (DUPLICATE_NAMESPACE).", block.id);
                self.fail(LanguageError::about(CompilerCode::ConstantResolutionFailed, opener_place(block), message));
            }
        }
        if !self.errors.is_empty() {
            return;
        }
        self.add_environment();
        let mut waiting = self.waiting(blocks);
        let mut ready: VecDeque<usize> = (0..count).rev().filter(|&index| waiting[index].open == 0).collect();
        while let Some(index) = ready.pop_front() {
            self.namespace(blocks, index);
            for user in std::mem::take(&mut waiting[index].users) {
                waiting[user].open -= 1;
                if waiting[user].open == 0 {
                    ready.push_back(user);
                }
            }
        }
        if self.errors.is_empty() {
            self.report_unfinished(blocks, count);
        }
    }

    fn add_environment(&mut self) {
        if self.environment.is_empty() || self.ids.contains_key(ENVIRONMENT) {
            return;
        }
        let mut scope = Scope::default();
        self.override_environment(&mut scope);
        self.ids.insert(ENVIRONMENT.to_owned(), self.scopes.len());
        self.scopes.push(Some(scope));
    }

    fn waiting(&self, blocks: &Blocks<'a>) -> Vec<Waiting> {
        let count = blocks.modules.len() + blocks.constants.len();
        let mut waiting: Vec<Waiting> = (0..count).map(|_| Waiting::default()).collect();
        for index in 0..count {
            for (_, target) in uses(namespace(blocks, index)) {
                match self.ids.get(target) {
                    Some(&target) if target >= count => {}
                    Some(&target) => {
                        waiting[target].users.push(index);
                        waiting[index].open += 1;
                    }
                    None => waiting[index].open += 1,
                }
            }
        }
        waiting
    }

    fn namespace(&mut self, blocks: &mut Blocks<'a>, index: usize) {
        let modules = blocks.modules.len();
        let is_environment = index >= modules && namespace(blocks, index).id == ENVIRONMENT;
        let environment = if is_environment { self.environment } else { &[] };
        let block = match index.checked_sub(modules) {
            Some(constants) => &mut blocks.constants[constants],
            None => &mut blocks.modules[index].1,
        };
        let mut scope = self.block(block, environment);
        if is_environment {
            self.override_environment(&mut scope);
        }
        self.scopes[index] = Some(scope);
    }

    /// Works off one block from top to bottom. `overrides` replace the values its `const` lines give.
    fn block(&mut self, block: &mut ParsedBlock<'a>, overrides: &[(String, f64)]) -> Scope<'a> {
        let mut scope = Scope::default();
        for statement in &mut block.statements {
            let outcome = match statement.word {
                Word::Use => self.use_namespace(block.block, statement, &mut scope),
                Word::Const => define(block.block, statement, &mut scope, overrides),
                _ => {
                    substitute_arguments(statement, &scope);
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                self.fail(error);
                break;
            }
        }
        scope
    }

    fn use_namespace(&mut self, block: usize, statement: &Statement<'a>, scope: &mut Scope<'a>) -> Result<(), LanguageError> {
        let place = statement.argument_place(block, 0);
        let target =
            statement.arguments.first().and_then(|argument| self.ids.get(&*argument.text)).and_then(|&index| self.scopes[index].as_ref());
        let Some(target) = target else { return Err(unresolved_namespace(place)) };
        self.copied += target.values.len();
        if self.copied > MAX_COPIED_CONSTANTS {
            let subject = format!("more than {MAX_COPIED_CONSTANTS} are copied");
            return Err(LanguageError::about(CompilerCode::TooManyConstants, place, subject));
        }
        for (name, number) in &target.values {
            scope.set(name, *number);
        }
        Ok(())
    }

    /// A namespace that does not exist comes first, as it is the reason of others that wait for it; then a circle.
    fn report_unfinished(&mut self, blocks: &Blocks<'a>, count: usize) {
        let unfinished: Vec<&ParsedBlock<'a>> =
            (0..count).filter(|&index| self.scopes[index].is_none()).map(|index| namespace(blocks, index)).collect();
        let mut missing = Vec::new();
        for block in &unfinished {
            let unknown = uses(block).find(|(_, target)| !self.ids.contains_key(*target));
            missing.extend(unknown.map(|(statement, _)| unresolved_namespace(statement.argument_place(block.block, 0))));
        }
        if missing.is_empty() {
            let circular = unfinished.iter().find_map(|block| {
                let is_open = |target: &str| self.ids.get(target).is_some_and(|&index| self.scopes[index].is_none());
                uses(block).find(|(_, target)| is_open(target)).map(|(statement, _)| statement.argument_place(block.block, 0))
            });
            missing
                .extend(circular.map(|place| unresolved_namespace(place).with_hint("these namespaces use each other; break the circle")));
        }
        missing.into_iter().for_each(|error| self.fail(error));
    }

    fn override_environment(&self, scope: &mut Scope<'a>) {
        for (name, value) in self.environment {
            let known = scope.get(name).map_or(LiteralKind::Int, |number| number.kind);
            scope.set(name, overridden(known, *value));
        }
    }

    fn environment(&self) -> Vec<(String, f64)> {
        let scope = self.ids.get(ENVIRONMENT).and_then(|&index| self.scopes[index].as_ref());
        scope.map(|scope| scope.values.iter().map(|(name, number)| ((*name).to_owned(), number.value)).collect()).unwrap_or_default()
    }

    fn fail(&mut self, error: LanguageError) {
        if self.errors.len() < MAX_DIAGNOSTICS {
            self.errors.push(error);
        }
    }
}

fn namespace<'b, 'a>(blocks: &'b Blocks<'a>, index: usize) -> &'b ParsedBlock<'a> {
    match index.checked_sub(blocks.modules.len()) {
        Some(constants) => &blocks.constants[constants],
        None => &blocks.modules[index].1,
    }
}

fn uses<'b, 'a>(block: &'b ParsedBlock<'a>) -> impl Iterator<Item = (&'b Statement<'a>, &'b str)> {
    let uses = block.statements.iter().filter(|statement| statement.word == Word::Use);
    uses.filter_map(|statement| Some((statement, &*statement.arguments.first()?.text)))
}

/// Where an error about a block as a whole is reported.
pub fn opener_place<'a>(block: &ParsedBlock<'a>) -> Place<'a> {
    match block.statements.first() {
        Some(opener) => opener.argument_place(block.block, 0),
        None => Place::of_opener(block.block, block.kind.word()),
    }
}

fn unresolved_namespace(place: Place<'_>) -> LanguageError {
    let message = "Unable to resolve constant namespace dependencies (UNRESOLVED_NAMESPACE).";
    LanguageError::about(CompilerCode::ConstantResolutionFailed, place, message)
        .with_hint("use names a constants block or a module of this file")
}

/// A value from outside takes the kind that the program gave the name, where it can.
fn overridden(kind: LiteralKind, value: f64) -> Number {
    let is_integral = value.is_finite() && value.fract() == 0.0;
    let kind = if kind == LiteralKind::Int && !is_integral { LiteralKind::Float } else { kind };
    Number { value, kind }
}

fn define<'a>(block: usize, statement: &Statement<'a>, scope: &mut Scope<'a>, overrides: &[(String, f64)]) -> Result<(), LanguageError> {
    let [name, value] = statement.arguments.as_slice() else { return Ok(()) };
    let Some(identifier) = name.identifier() else { return Ok(()) };
    let Value::Number(mut number) = substituted(&value.value, scope).unwrap_or_else(|| value.value.clone()) else {
        let message = format!("Unable to resolve constant {identifier} (UNRESOLVED_CONSTANT_VALUE).");
        return Err(LanguageError::about(CompilerCode::ConstantResolutionFailed, statement.argument_place(block, 1), message));
    };
    if let Some((_, value)) = overrides.iter().find(|(name, _)| name == identifier) {
        number = overridden(number.kind, *value);
    }
    scope.set(identifier, number);
    Ok(())
}

fn substitute_arguments(statement: &mut Statement<'_>, scope: &Scope<'_>) {
    if scope.values.is_empty() {
        return;
    }
    let names = leading_names(statement.word);
    for argument in statement.arguments.iter_mut().skip(names) {
        if let Some(value) = substituted(&argument.value, scope) {
            argument.value = value;
        }
    }
}

/// Arguments at the front that name something and so are never constants.
fn leading_names(word: Word) -> usize {
    use Instruction as I;
    match word {
        Word::Body(I::Call | I::LocalSet | I::PushShape | I::ParamShape) | Word::Shape => 1,
        Word::Body(I::Local | I::Param) => 2,
        Word::Declaration(declared) if declared.is_array => 1,
        Word::Directive(_) | Word::Opener(_) => usize::MAX,
        _ => 0,
    }
}

/// The value with constants replaced; `None` if nothing in it is known.
fn substituted<'a>(value: &Value<'a>, scope: &Scope<'_>) -> Option<Value<'a>> {
    match value {
        Value::Name(Name::ConstantStyle(name)) => scope.get(name).map(Value::Number),
        Value::Expression(expression) => {
            let Expression { left, operator, right } = &**expression;
            let (known_left, known_right) = (constant(left, scope), constant(right, scope));
            if known_left.is_none() && known_right.is_none() {
                return None;
            }
            let (left, right) = (known_left.unwrap_or(*left), known_right.unwrap_or(*right));
            let folded = match (left, right) {
                (Operand::Number(left), Operand::Number(right)) => operator.apply(left, right),
                _ => None,
            };
            let operator = *operator;
            Some(folded.map_or_else(|| Value::Expression(Box::new(Expression { left, operator, right })), Value::Number))
        }
        _ => None,
    }
}

fn constant<'a>(operand: &Operand<'a>, scope: &Scope<'_>) -> Option<Operand<'a>> {
    match operand {
        Operand::Name(Name::ConstantStyle(name)) => scope.get(name).map(Operand::Number),
        _ => None,
    }
}
