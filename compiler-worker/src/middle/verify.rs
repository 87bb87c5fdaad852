//! Checks the rules of the middle: values are defined before they are used and have the type their user wants, labels exist,
//! regions yield what they owe. For tests and builds with debug assertions; a failure is an error of the pass before.

use super::function::{Function, Kind, Local, Op, Region, Value};
use super::operators::Type;
use super::program::Program;

/// The first rule a program breaks.
pub fn verify(program: &Program) -> Result<(), String> {
    for function in &program.functions {
        let mut check = Check { program, function, visible: vec![false; function.values.len()], labels: Vec::new() };
        check.body().map_err(|what| format!("function {}: {what}", function.name))?;
    }
    for export in &program.exports {
        if program.function(export.function).is_none() {
            return Err(format!("export {} names no function", export.name));
        }
    }
    Ok(())
}

struct Check<'a> {
    program: &'a Program,
    function: &'a Function,
    /// Values that may be used here.
    visible: Vec<bool>,
    /// What the open labels take, the innermost last.
    labels: Vec<Vec<Type>>,
}

impl Check<'_> {
    fn body(&mut self) -> Result<(), String> {
        self.region(&self.function.body, &self.function.results.clone())
    }

    fn region(&mut self, region: &Region, results: &[Type]) -> Result<(), String> {
        let mut defined = Vec::new();
        for op in &region.ops {
            self.op(op)?;
            for value in op.results.iter() {
                let visible = self.visible.get_mut(value.0 as usize).ok_or_else(|| format!("{value:?} does not exist"))?;
                if std::mem::replace(visible, true) {
                    return Err(format!("{value:?} is defined twice"));
                }
                defined.push(value);
            }
        }
        if region.is_terminated() {
            if !region.yields.is_empty() {
                return Err("a region that never ends yields values".to_owned());
            }
        } else {
            self.values(&region.yields, results)?;
        }
        defined.into_iter().for_each(|value| self.visible[value.0 as usize] = false);
        Ok(())
    }

    fn value(&self, value: Value, ty: Type) -> Result<(), String> {
        if !self.visible.get(value.0 as usize).copied().unwrap_or(false) {
            return Err(format!("{value:?} is used where it is not defined"));
        }
        if self.function.type_of(value) != ty {
            return Err(format!("{value:?} is a {:?}, not a {ty:?}", self.function.type_of(value)));
        }
        Ok(())
    }

    fn values(&self, values: &[Value], types: &[Type]) -> Result<(), String> {
        if values.len() != types.len() {
            return Err(format!("{} values where {} are expected", values.len(), types.len()));
        }
        values.iter().zip(types).try_for_each(|(&value, &ty)| self.value(value, ty))
    }

    fn local(&self, local: Local) -> Result<Type, String> {
        self.function.locals.get(local.0 as usize).copied().ok_or_else(|| format!("{local:?} does not exist"))
    }

    fn results(&self, op: &Op, types: &[Type]) -> Result<(), String> {
        let found: Vec<Type> = op.results.iter().map(|value| self.function.type_of(value)).collect();
        if found == types { Ok(()) } else { Err(format!("results {found:?} of {:?}", op.kind)) }
    }

    fn op(&mut self, op: &Op) -> Result<(), String> {
        match &op.kind {
            Kind::Const(constant) => self.results(op, &[constant.ty()]),
            Kind::Unary { op: operator, operand } => {
                self.value(*operand, operator.operand())?;
                self.results(op, &[operator.result()])
            }
            Kind::Binary { op: operator, left, right } => {
                self.values(&[*left, *right], &[operator.operand(); 2])?;
                self.results(op, &[operator.result()])
            }
            Kind::Select { condition, on_true, on_false } => {
                let ty = self.function.type_of(*on_true);
                self.values(&[*condition, *on_true, *on_false], &[Type::I32, ty, ty])?;
                self.results(op, &[ty])
            }
            Kind::Choose { input, table } => {
                let keys = table.rows.first().map_or(self.function.type_of(*input), |(key, _)| key.ty());
                self.value(*input, keys)?;
                self.results(op, &[table.default.ty()])
            }
            Kind::LocalGet(local) => self.results(op, &[self.local(*local)?]),
            Kind::LocalSet(local, value) => {
                self.value(*value, self.local(*local)?)?;
                self.results(op, &[])
            }
            Kind::Load { op: load, address, .. } => {
                self.value(address.base, Type::I32)?;
                self.results(op, &[load.result()])
            }
            Kind::Store { op: store, address, value, .. } => {
                self.values(&[address.base, *value], &[Type::I32, store.operand()])?;
                self.results(op, &[])
            }
            Kind::MemoryCopy { to, from, .. } => self.values(&[to.base, from.base], &[Type::I32; 2]),
            Kind::MemoryClear { .. } | Kind::Unreachable | Kind::Charge { .. } | Kind::ResetBudget => self.results(op, &[]),
            Kind::MemoryInit { segment } => {
                let exists = (*segment as usize) < self.program.segments.len();
                if exists { self.results(op, &[]) } else { Err(format!("no segment {segment}")) }
            }
            Kind::Call { .. } | Kind::If { .. } | Kind::Block { .. } | Kind::Repeat { .. } => self.structure(op),
            Kind::Branch { .. } | Kind::BranchIf { .. } | Kind::Return { .. } => self.jump(op),
        }
    }

    fn structure(&mut self, op: &Op) -> Result<(), String> {
        let results: Vec<Type> = op.results.iter().map(|value| self.function.type_of(value)).collect();
        match &op.kind {
            Kind::Call { function, arguments } => {
                let (params, types) = match self.program.function(*function) {
                    Some(callee) => (callee.param_types().to_vec(), callee.results.clone()),
                    None => {
                        let import = self.program.imports.get(function.0 as usize).ok_or("a call of nothing")?;
                        (import.params.clone(), import.results.clone())
                    }
                };
                self.values(arguments, &params)?;
                self.results(op, &types)
            }
            Kind::If { condition, then, otherwise } => {
                self.value(*condition, Type::I32)?;
                self.labels.push(results.clone());
                self.region(then, &results)?;
                self.region(otherwise, &results)?;
                self.labels.pop();
                Ok(())
            }
            Kind::Block { body } => {
                self.labels.push(results.clone());
                self.region(body, &results)?;
                self.labels.pop();
                Ok(())
            }
            Kind::Repeat { index, body, .. } => {
                if self.local(*index)? != Type::I32 {
                    return Err("a loop counts in an integer".to_owned());
                }
                self.labels.extend([Vec::new(), Vec::new()]);
                self.region(body, &[])?;
                self.labels.truncate(self.labels.len() - 2);
                self.results(op, &[])
            }
            _ => Ok(()),
        }
    }

    fn jump(&mut self, op: &Op) -> Result<(), String> {
        let label = |depth: u32| {
            let index = self.labels.len().checked_sub(depth as usize + 1).ok_or_else(|| format!("no label {depth}"))?;
            Ok::<_, String>(self.labels[index].clone())
        };
        match &op.kind {
            Kind::Branch { depth, values } => self.values(values, &label(*depth)?),
            Kind::BranchIf { depth, condition, values } => {
                self.value(*condition, Type::I32)?;
                self.values(values, &label(*depth)?)
            }
            Kind::Return { values } => self.values(values, &self.function.results),
            _ => Ok(()),
        }
    }
}
