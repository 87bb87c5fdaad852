//! Removes what has no effect: computations nobody uses, writes to locals nobody reads, results of `if`s nobody takes.
//!
//! A walk against the order of execution, so that what becomes unused on the way is seen in time. Whatever can trap, writes memory or
//! calls the host stays. Pure computation.

use super::function::{Function, Kind, Op, Region, Results, Value};
use super::operators::Const;
use super::program::Program;

/// Cleans every function.
pub fn remove(program: &mut Program) {
    program.functions.iter_mut().for_each(remove_from);
}

/// Cleans one function.
pub fn remove_from(function: &mut Function) {
    let mut body = std::mem::take(&mut function.body);
    let mut walk = Walk::of(function, &body);
    walk.region(&mut body);
    if walk.has_renamed {
        walk.apply_names(&mut body);
    }
    function.body = body;
}

/// A list with an entry for each value, and some room for values that are made on the way.
fn filled<T: Clone>(entry: T, values: usize) -> Vec<T> {
    let mut list = Vec::with_capacity(values + values / 8);
    list.resize(values, entry);
    list
}

struct Walk<'a> {
    function: &'a mut Function,
    uses: Vec<u32>,
    /// Reads of each local that are still there.
    reads: Vec<u32>,
    known: Vec<Option<Const>>,
    /// New numbers of results that had to move together.
    names: Vec<Option<Value>>,
    has_renamed: bool,
}

impl<'a> Walk<'a> {
    fn of(function: &'a mut Function, body: &Region) -> Self {
        let (values, locals) = (function.values.len(), function.locals.len());
        let mut walk = Self {
            function,
            uses: filled(0, values),
            reads: vec![0; locals],
            known: filled(None, values),
            names: filled(None, values),
            has_renamed: false,
        };
        walk.count(body);
        walk
    }

    fn count(&mut self, region: &Region) {
        for op in &region.ops {
            op.kind.for_each_operand(|value| self.uses[value.0 as usize] += 1);
            match op.kind {
                Kind::LocalGet(local) => self.reads[local.0 as usize] += 1,
                Kind::Const(constant) => self.known[op.results.first as usize] = Some(constant),
                _ => {}
            }
            op.kind.regions().for_each(|inner| self.count(inner));
        }
        region.yields.iter().for_each(|value| self.uses[value.0 as usize] += 1);
    }

    fn region(&mut self, region: &mut Region) {
        // What stays gathers at the end, in order.
        let mut first_kept = region.ops.len();
        for index in (0..region.ops.len()).rev() {
            if self.stays(&mut region.ops[index]) {
                first_kept -= 1;
                region.ops.swap(index, first_kept);
            }
        }
        region.ops.drain(..first_kept);
    }

    /// Whether an operation is needed; cleans it if so, and takes its uses back if not.
    fn stays(&mut self, op: &mut Op) -> bool {
        if self.is_dead(op) {
            self.release(&op.kind);
            return false;
        }
        if matches!(op.kind, Kind::If { .. } | Kind::Block { .. }) {
            self.prune_results(op);
        }
        op.kind.regions_mut().for_each(|inner| self.region(inner));
        let is_needed = !is_empty(op);
        if !is_needed {
            self.release(&op.kind);
        }
        is_needed
    }

    fn is_dead(&self, op: &Op) -> bool {
        match op.kind {
            Kind::LocalSet(local, _) => self.reads[local.0 as usize] == 0,
            _ => op.kind.is_pure(|value| self.known[value.0 as usize]) && op.results.iter().all(|value| self.uses[value.0 as usize] == 0),
        }
    }

    /// The operation is gone, and with it its uses of other values.
    fn release(&mut self, kind: &Kind) {
        kind.for_each_operand(|value| self.uses[value.0 as usize] -= 1);
        if let Kind::LocalGet(local) = kind {
            self.reads[local.0 as usize] -= 1;
        }
    }

    /// Drops the results nobody uses, and what the regions yield for them. Only where all ways out go through the yields.
    fn prune_results(&mut self, op: &mut Op) {
        let used: Vec<bool> = op.results.iter().map(|value| self.uses[value.0 as usize] > 0).collect();
        if used.iter().all(|&used| used) || op.kind.regions().any(|region| super::forward::branches_to(region, 0)) {
            return;
        }
        let uses = &mut self.uses;
        for region in op.kind.regions_mut() {
            let mut index = 0;
            region.yields.retain(|value| {
                index += 1;
                if !used[index - 1] {
                    uses[value.0 as usize] -= 1;
                }
                used[index - 1]
            });
        }
        op.results = self.renumber(op.results, &used);
    }

    /// Results have to be consecutive: the ones that stay get new numbers.
    fn renumber(&mut self, results: Results, used: &[bool]) -> Results {
        let first = self.function.values.len() as u32;
        let mut count = 0;
        for (value, _) in results.iter().zip(used).filter(|(_, used)| **used) {
            let ty = self.function.type_of(value);
            let again = self.function.new_value(ty);
            self.names[value.0 as usize] = Some(again);
            self.uses.push(self.uses[value.0 as usize]);
            self.known.push(None);
            self.names.push(None);
            self.has_renamed = true;
            count += 1;
        }
        if count == 0 { Results::NONE } else { Results { first, count } }
    }

    fn apply_names(&self, region: &mut Region) {
        let name = |value: &mut Value| *value = self.names[value.0 as usize].unwrap_or(*value);
        for op in &mut region.ops {
            op.kind.for_each_operand_mut(name);
            op.kind.regions_mut().for_each(|inner| self.apply_names(inner));
        }
        region.yields.iter_mut().for_each(name);
    }
}

/// An `if` that does nothing on either side, or a loop that does nothing each time.
fn is_empty(op: &Op) -> bool {
    let is_empty = |region: &Region| region.ops.is_empty() && region.yields.is_empty();
    matches!(op.kind, Kind::If { .. } | Kind::Repeat { .. }) && op.kind.regions().all(is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::function::Local;
    use crate::middle::operators::{Binary, Type};
    use crate::middle::sketch::{Sketch, all_ops, program};
    use crate::middle::verify::verify;

    fn cleaned(function: Function) -> Function {
        let mut program = program(vec![function]);
        remove(&mut program);
        assert_eq!(verify(&program), Ok(()));
        program.functions.remove(0)
    }

    #[test]
    fn unused_computations_go_with_what_they_used() {
        let mut main = Sketch::new(&[Type::I32], &[]);
        let param = main.get(Local(0));
        let sum = main.binary(Binary::I32Add, param, param);
        main.binary(Binary::I32Mul, sum, sum);
        assert!(cleaned(main.finish(vec![])).body.ops.is_empty());
    }

    #[test]
    fn what_can_trap_stays() {
        let mut main = Sketch::new(&[Type::I32], &[]);
        let param = main.get(Local(0));
        main.load(param, false);
        main.binary(Binary::I32DivS, param, param);
        let function = cleaned(main.finish(vec![]));
        assert_eq!(all_ops(&function.body).len(), 3);
    }

    #[test]
    fn what_cannot_trap_does_not() {
        let mut main = Sketch::new(&[Type::I32], &[]);
        let param = main.get(Local(0));
        main.load(param, true);
        let three = main.int(3);
        main.binary(Binary::I32DivS, param, three);
        assert!(cleaned(main.finish(vec![])).body.ops.is_empty());
    }

    #[test]
    fn writes_to_locals_nobody_reads_go() {
        let mut main = Sketch::new(&[Type::I32], &[]);
        let local = main.local(Type::I32);
        let param = main.get(Local(0));
        main.set(local, param);
        assert!(cleaned(main.finish(vec![])).body.ops.is_empty());
    }

    #[test]
    fn an_if_keeps_only_the_results_somebody_takes() {
        let mut main = Sketch::new(&[Type::I32], &[Type::I32]);
        let condition = main.get(Local(0));
        let branch = |main: &mut Sketch, from: i32| main.region(|main| (0..3).map(|offset| main.int(from + offset)).collect());
        let (then, otherwise) = (branch(&mut main, 10), branch(&mut main, 20));
        let mut function = main.finish(vec![]);
        let first = function.values.len() as u32;
        (0..3).for_each(|_| {
            function.new_value(Type::I32);
        });
        let results = Results { first, count: 3 };
        function.body.ops.push(Op {
            kind: Kind::If { condition, then: Box::new(then), otherwise: Box::new(otherwise) },
            results,
            source: Default::default(),
        });
        function.body.yields = vec![Value(first + 1)];
        let function = cleaned(function);
        let Some(Op { kind: Kind::If { then, .. }, results, .. }) = function.body.ops.last() else { panic!("the if is gone") };
        assert_eq!((results.count, then.ops.len(), then.yields.len()), (1, 1, 1));
        assert_eq!(then.ops[0].kind, Kind::Const(Const::I32(11)));
    }

    #[test]
    fn a_loop_that_does_nothing_goes() {
        let mut main = Sketch::new(&[], &[]);
        let index = main.local(Type::I32);
        let body = main.region(|main| {
            main.int(1);
            vec![]
        });
        main.effect(Kind::Repeat { cap: 1000, index, body: Box::new(body) });
        assert!(cleaned(main.finish(vec![])).body.ops.is_empty());
    }
}
