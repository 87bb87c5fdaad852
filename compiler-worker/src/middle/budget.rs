//! The work budget: a bound on what one call of an export executes (DESIGN §10).
//!
//! Loops have caps, so that a bound on every export's work is known here. Only where it is above the budget, the program counts:
//! each round of a loop, and each call of a recursive function, takes its operations off what is left, and traps when
//! nothing is. Loops that are small as a whole are counted with what surrounds them. Every export starts with a full budget;
//! functions that are exported and called inside as well get an entrance of their own, so that calls inside do not refill it.
//! Counting is deterministic: a replay trips in the same tick.

use rustc_hash::FxHashSet;

use super::function::{Function, FunctionId, Kind, Local, Op, Region, Results, Source};
use super::inline::{CallGraph, for_each_callee};
use super::program::Program;

/// A loop of at most this many operations, all rounds together, is not counted by itself.
const SMALL_LOOP_OPS: u64 = 512;

/// Bytes that a copy moves in the time of one operation.
const COPY_BYTES_PER_OP: u64 = 32;

/// Makes the program count its work if a call of an export could exceed `budget` operations.
pub fn apply(program: &mut Program, budget: u64) {
    if budget == 0 || largest_work(program) <= budget {
        return;
    }
    let graph = CallGraph::of(program);
    charge(program, &graph);
    reset_at_exports(program);
    program.budget = Some(budget);
}

/// Upper bound of the operations that one call of any export executes.
pub fn largest_work(program: &Program) -> u64 {
    let graph = CallGraph::of(program);
    let mut work = vec![u64::MAX; program.functions.len()];
    for &index in &graph.callees_first {
        if !graph.is_recursive[index] {
            let called = |id: FunctionId| program.defined(id).map_or(0, |callee| work[callee]);
            work[index] = bound(&program.functions[index].body, &called);
        }
    }
    let exported = program.exports.iter().filter_map(|export| program.defined(export.function));
    exported.map(|index| work[index]).max().unwrap_or(0)
}

/// Operations a region executes at most. `called` bounds a callee.
fn bound(region: &Region, called: &impl Fn(FunctionId) -> u64) -> u64 {
    let ops = region.ops.iter().map(|op| match &op.kind {
        Kind::If { then, otherwise, .. } => 1u64.saturating_add(bound(then, called).max(bound(otherwise, called))),
        Kind::Block { body } => bound(body, called),
        Kind::Repeat { cap, body, .. } => 1u64.saturating_add(u64::from(*cap).saturating_mul(1u64.saturating_add(bound(body, called)))),
        Kind::Call { function, .. } => 1u64.saturating_add(called(*function)),
        kind => own_work(kind),
    });
    ops.fold(0, u64::saturating_add)
}

fn own_work(kind: &Kind) -> u64 {
    match kind {
        Kind::MemoryCopy { bytes, .. } | Kind::MemoryClear { bytes, .. } => 1 + u64::from(*bytes) / COPY_BYTES_PER_OP,
        Kind::Choose { table, .. } => 1 + table.rows.len() as u64,
        _ => 1,
    }
}

/// Puts charges into loops and recursive functions.
fn charge(program: &mut Program, graph: &CallGraph) {
    // What a call costs its caller: everything outside of what charges for itself.
    let mut outside = vec![1u64; program.functions.len()];
    for &index in &graph.callees_first {
        let imports = program.imports.len();
        let mut body = std::mem::take(&mut program.functions[index].body);
        let called = |id: FunctionId| (id.0 as usize).checked_sub(imports).map_or(1, |callee| outside[callee]);
        let work = charge_loops(&mut body, &called).work;
        outside[index] = work;
        if graph.is_recursive[index] {
            outside[index] = 1;
            let source = body.ops.first().map_or(Source::default(), |op| op.source);
            body.ops.insert(0, effect(Kind::Charge { work: work.max(1) }, source));
        }
        program.functions[index].body = body;
    }
}

/// What a region costs whoever holds it.
struct Outside {
    work: u64,
    /// Something in it charges for itself.
    charges: bool,
}

fn charge_loops(region: &mut Region, called: &impl Fn(FunctionId) -> u64) -> Outside {
    let mut total = Outside { work: 0, charges: false };
    for op in &mut region.ops {
        let source = op.source;
        let outside = match &mut op.kind {
            Kind::If { then, otherwise, .. } => {
                let (then, otherwise) = (charge_loops(then, called), charge_loops(otherwise, called));
                Outside { work: then.work.max(otherwise.work) + 1, charges: then.charges || otherwise.charges }
            }
            Kind::Block { body } => charge_loops(body, called),
            Kind::Repeat { cap, body, .. } => charge_loop(*cap, body, source, called),
            Kind::Call { function, .. } => Outside { work: called(*function).saturating_add(1), charges: false },
            kind => Outside { work: own_work(kind), charges: false },
        };
        total.work = total.work.saturating_add(outside.work);
        total.charges |= outside.charges;
    }
    total
}

fn charge_loop(cap: u32, body: &mut Region, source: Source, called: &impl Fn(FunctionId) -> u64) -> Outside {
    let inside = charge_loops(body, called);
    let round = inside.work.saturating_add(1);
    let all = round.saturating_mul(u64::from(cap));
    if !inside.charges && all <= SMALL_LOOP_OPS {
        return Outside { work: all + 1, charges: false };
    }
    body.ops.insert(0, effect(Kind::Charge { work: round }, source));
    Outside { work: 1, charges: true }
}

fn effect(kind: Kind, source: Source) -> Op {
    Op { kind, results: Results::NONE, source }
}

/// Every export starts with a full budget.
fn reset_at_exports(program: &mut Program) {
    let mut called: FxHashSet<FunctionId> = FxHashSet::default();
    for function in &program.functions {
        for_each_callee(&function.body, &mut |callee| {
            called.insert(callee);
        });
    }
    for index in 0..program.exports.len() {
        let id = program.exports[index].function;
        let Some(defined) = program.defined(id) else { continue };
        if called.contains(&id) {
            program.functions.push(entrance(&program.functions[defined], id));
            program.exports[index].function = program.id_of(program.functions.len() - 1);
        } else {
            let body = &mut program.functions[defined].body;
            let source = body.ops.first().map_or(Source::default(), |op| op.source);
            body.ops.insert(0, effect(Kind::ResetBudget, source));
        }
    }
}

/// A function that fills the budget up and calls another one.
fn entrance(target: &Function, id: FunctionId) -> Function {
    let mut function = Function {
        name: target.name.clone(),
        params: target.params,
        results: target.results.clone(),
        locals: target.param_types().to_vec(),
        ..Function::default()
    };
    let source = target.body.ops.first().map_or(Source::default(), |op| op.source);
    let mut ops = vec![effect(Kind::ResetBudget, source)];
    let mut arguments = Vec::new();
    for (index, &ty) in target.param_types().iter().enumerate() {
        let value = function.new_value(ty);
        ops.push(Op { kind: Kind::LocalGet(Local(index as u32)), results: Results::one(value), source });
        arguments.push(value);
    }
    let first = function.values.len() as u32;
    let results: Vec<_> = target.results.iter().map(|&ty| function.new_value(ty)).collect();
    let count = results.len() as u32;
    let defined = if count == 0 { Results::NONE } else { Results { first, count } };
    ops.push(Op { kind: Kind::Call { function: id, arguments }, results: defined, source });
    function.body = Region { ops, yields: results };
    function
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::operators::Type;
    use crate::middle::program::Export;

    fn repeat(function: &mut Function, cap: u32, body: Vec<Op>) -> Op {
        let index = function.new_local(Type::I32);
        effect(Kind::Repeat { cap, index, body: Box::new(Region { ops: body, yields: Vec::new() }) }, Source::default())
    }

    fn program_of(function: Function) -> Program {
        let exports = vec![Export { name: "main".to_owned(), function: FunctionId(0) }];
        Program { functions: vec![function], exports, ..Program::default() }
    }

    fn nested(outer: u32, inner: u32) -> Program {
        let mut function = Function::default();
        let call = effect(Kind::MemoryClear { memory: 0, bytes: 0 }, Source::default());
        let inner = repeat(&mut function, inner, vec![call]);
        let outer = repeat(&mut function, outer, vec![inner]);
        function.body.ops.push(outer);
        program_of(function)
    }

    fn charges(region: &Region) -> Vec<u64> {
        let mut found = Vec::new();
        super::super::program::for_each_region(region, &mut |region| {
            found.extend(region.ops.iter().filter_map(|op| match op.kind {
                Kind::Charge { work } => Some(work),
                _ => None,
            }));
        });
        found
    }

    #[test]
    fn a_program_within_its_budget_does_not_count() {
        let mut program = nested(10, 10);
        let before = program.clone();
        assert_eq!(largest_work(&program), 1 + 10 * (1 + 1 + 10 * 2));
        apply(&mut program, 1000);
        assert_eq!(program, before);
    }

    #[test]
    fn large_loops_count_and_small_ones_are_counted_with_them() {
        let mut program = nested(1000, 10);
        apply(&mut program, 1000);
        assert_eq!(program.budget, Some(1000));
        assert_eq!(charges(&program.functions[0].body), vec![1 + 10 * 2 + 1]);
        assert_eq!(program.functions[0].body.ops[0].kind, Kind::ResetBudget);
        let mut program = nested(1000, 1000);
        apply(&mut program, 1000);
        assert_eq!(charges(&program.functions[0].body), vec![2, 2]);
    }

    #[test]
    fn recursion_is_unbounded_and_counts_every_call() {
        let mut function = Function::default();
        function.body.ops.push(effect(Kind::Call { function: FunctionId(0), arguments: Vec::new() }, Source::default()));
        let mut program = program_of(function);
        assert_eq!(largest_work(&program), u64::MAX);
        apply(&mut program, 1_000_000);
        assert_eq!(charges(&program.functions[0].body), vec![2]);
        assert_eq!(program.functions.len(), 2, "calls inside must not refill the budget");
        assert_eq!(program.exports[0].function, FunctionId(1));
    }
}
