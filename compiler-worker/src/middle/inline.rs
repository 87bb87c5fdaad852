//! Inlining: calls of small functions, and of functions that are called only once, become the callee's own operations.
//!
//! Programs of the language are many small modules and library functions, so that calls are a third of their cost, and no pass sees
//! across one. Callees are finished before their callers. Recursive functions stay calls. Lines keep their source. Functions
//! nobody calls or exports any more are removed at the end.

use rustc_hash::FxHashSet;

use super::function::{Function, FunctionId, Kind, Local, Op, Region, Results, Value};
use super::parts;
use super::program::Program;

/// A callee of at most this many operations is inlined wherever it is called.
pub const SMALL_OPS: usize = 120;

/// A function does not grow beyond this many operations: compiling it natively takes time in proportion, and one edit of any
/// of its parts compiles all of it again.
const MAX_OPS: usize = 60_000;

/// Regions are not nested deeper than this by inlining: every walk over them goes as deep on its stack.
const MAX_DEPTH: usize = 400;

/// Inlines what is worth it, everywhere.
pub fn inline(program: &mut Program) {
    let mut graph = CallGraph::of(program);
    let mut measures = measures(program);
    let parts = parts::divide(program, &graph, &measures);
    if !parts.is_empty() {
        graph = CallGraph::of(program);
        measures = self::measures(program);
    }
    for &index in &graph.callees_first {
        if graph.callees(index).is_empty() {
            continue;
        }
        let mut function = std::mem::take(&mut program.functions[index]);
        let mut body = std::mem::take(&mut function.body);
        let renamed = vec![None; function.values.len()];
        let mut site = Site {
            program,
            graph: &graph,
            parts: &parts,
            measures: &measures,
            function: &mut function,
            renamed,
            size: measures[index].ops,
            depth: 0,
            deepest: 0,
        };
        site.region(&mut body);
        measures[index] = Measure { ops: site.size, depth: site.deepest };
        function.body = body;
        program.functions[index] = function;
    }
    remove_unused(program);
}

/// Number of operations in a region, nested ones included.
pub fn size_of(region: &Region) -> usize {
    region.ops.iter().map(|op| 1 + op.kind.regions().map(size_of).sum::<usize>()).sum()
}

/// How large a body is.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Operations, nested ones included.
    pub ops: usize,
    /// How deep regions are nested in it.
    pub depth: usize,
}

impl Measure {
    fn of(region: &Region) -> Self {
        let mut measure = Self { ops: region.ops.len(), depth: 0 };
        for inner in region.ops.iter().flat_map(|op| op.kind.regions()) {
            let inner = Self::of(inner);
            measure.ops += inner.ops;
            measure.depth = measure.depth.max(1 + inner.depth);
        }
        measure
    }
}

/// Of the functions of a program, in their order.
pub fn measures(program: &Program) -> Vec<Measure> {
    program.functions.iter().map(|function| Measure::of(&function.body)).collect()
}

/// Calls `visit` with every function the region calls.
pub fn for_each_callee(region: &Region, visit: &mut impl FnMut(FunctionId)) {
    for op in &region.ops {
        if let Kind::Call { function, .. } = &op.kind {
            visit(*function);
        }
        op.kind.regions().for_each(|inner| for_each_callee(inner, visit));
    }
}

/// Who calls whom, among defined functions.
pub struct CallGraph {
    /// Callees before callers, as far as recursion allows.
    pub callees_first: Vec<usize>,
    /// Functions that take part in a recursion.
    pub is_recursive: Vec<bool>,
    /// Calls of each function, and one for each export.
    pub uses: Vec<u32>,
    /// Functions that are called, function by function, and where those of each begin (and the last ones end).
    calls: Vec<usize>,
    starts: Vec<usize>,
}

impl CallGraph {
    pub fn of(program: &Program) -> Self {
        let count = program.functions.len();
        let (mut calls, mut starts) = (Vec::new(), Vec::with_capacity(count + 1));
        let mut uses = vec![0; count];
        for function in &program.functions {
            starts.push(calls.len());
            for_each_callee(&function.body, &mut |callee| calls.extend(program.defined(callee)));
        }
        starts.push(calls.len());
        calls.iter().for_each(|&callee| uses[callee] += 1);
        for export in &program.exports {
            if let Some(index) = program.defined(export.function) {
                uses[index] += 1;
            }
        }
        let (callees_first, is_recursive) = if calls.is_empty() {
            ((0..count).collect(), vec![false; count])
        } else {
            let callees: Vec<&[usize]> = starts.windows(2).map(|bounds| &calls[bounds[0]..bounds[1]]).collect();
            order(&callees)
        };
        Self { callees_first, is_recursive, uses, calls, starts }
    }

    /// The defined functions that a function calls, as often as it does.
    pub fn callees(&self, index: usize) -> &[usize] {
        &self.calls[self.starts[index]..self.starts[index + 1]]
    }
}

/// Callees before callers, as far as recursion allows, and which functions take part in a recursion.
fn order(callees: &[impl AsRef<[usize]>]) -> (Vec<usize>, Vec<bool>) {
    let mut is_recursive: Vec<bool> = callees.iter().enumerate().map(|(function, callees)| callees.as_ref().contains(&function)).collect();
    let components = components(callees);
    components.iter().filter(|members| members.len() > 1).flatten().for_each(|&member| is_recursive[member] = true);
    (components.members, is_recursive)
}

/// Functions that call each other, together; callees before their callers.
#[derive(Debug, Default)]
pub struct Components {
    members: Vec<usize>,
    /// Where each ends among the members.
    ends: Vec<usize>,
}

impl Components {
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.members[start..end])
    }
}

/// Finds the functions that call each other (Tarjan's strongly connected components, without recursion of our own).
pub fn components(callees: &[impl AsRef<[usize]>]) -> Components {
    const UNSEEN: u32 = u32::MAX;
    let count = callees.len();
    let (mut number, mut low) = (vec![UNSEEN; count], vec![0u32; count]);
    let mut finished = Components { members: Vec::with_capacity(count), ends: Vec::with_capacity(count) };
    let (mut component, mut is_open) = (Vec::new(), vec![false; count]);
    let mut path: Vec<(usize, usize)> = Vec::new();
    let mut next_number = 0;
    for root in 0..count {
        if number[root] == UNSEEN {
            path.push((root, 0));
        }
        while let Some(&(function, next)) = path.last() {
            if next == 0 {
                (number[function], low[function]) = (next_number, next_number);
                next_number += 1;
                component.push(function);
                is_open[function] = true;
            }
            if let Some(&callee) = callees[function].as_ref().get(next) {
                if let Some(last) = path.last_mut() {
                    last.1 += 1;
                }
                if number[callee] == UNSEEN {
                    path.push((callee, 0));
                } else if is_open[callee] {
                    low[function] = low[function].min(number[callee]);
                }
                continue;
            }
            path.pop();
            if let Some(&(caller, _)) = path.last() {
                low[caller] = low[caller].min(low[function]);
            }
            if low[function] == number[function] {
                let start = component.iter().rposition(|&member| member == function).unwrap_or(0);
                finished.members.extend(component.drain(start..).rev().inspect(|&member| is_open[member] = false));
                finished.ends.push(finished.members.len());
            }
        }
    }
    finished
}

/// The function that calls are being inlined into.
struct Site<'a> {
    program: &'a mut Program,
    graph: &'a CallGraph,
    /// Functions that stay calls.
    parts: &'a FxHashSet<usize>,
    /// Of every function, as far as it is finished.
    measures: &'a [Measure],
    function: &'a mut Function,
    /// What results of inlined calls have become.
    renamed: Vec<Option<Value>>,
    size: usize,
    /// Regions around the current one.
    depth: usize,
    /// Regions around the innermost one so far.
    deepest: usize,
}

impl Site<'_> {
    fn region(&mut self, region: &mut Region) {
        self.deepest = self.deepest.max(self.depth);
        // Up to the first call operations stay where they are.
        let first_call = region.ops.iter().position(|op| matches!(op.kind, Kind::Call { .. })).unwrap_or(region.ops.len());
        region.ops[..first_call].iter_mut().for_each(|op| self.keep(op));
        if first_call < region.ops.len() {
            let rest = region.ops.split_off(first_call);
            region.ops.reserve(self.room_for(&rest));
            for mut op in rest {
                self.keep(&mut op);
                match op.kind {
                    Kind::Call { function, ref arguments } if let Some(index) = self.worth_it(function) => {
                        self.inline(&op, index, arguments, &mut region.ops);
                    }
                    _ => region.ops.push(op),
                }
            }
        }
        for value in &mut region.yields {
            *value = self.name(*value);
        }
    }

    /// How many operations these become, or somewhat more.
    fn room_for(&self, ops: &[Op]) -> usize {
        let ops = ops.iter().map(|op| match &op.kind {
            Kind::Call { function, arguments } => self.worth_it(*function).map_or(1, |index| {
                let locals = self.program.functions[index].locals.len();
                arguments.len() + locals * 2 + self.measures[index].ops
            }),
            _ => 1,
        });
        ops.sum()
    }

    /// Names the operands of an operation anew, and looks into its regions.
    fn keep(&mut self, op: &mut Op) {
        op.kind.for_each_operand_mut(|value| *value = self.name(*value));
        self.depth += 1;
        op.kind.regions_mut().for_each(|inner| self.region(inner));
        self.depth -= 1;
    }

    fn name(&self, value: Value) -> Value {
        self.renamed.get(value.0 as usize).copied().flatten().unwrap_or(value)
    }

    /// Index of a callee that becomes part of the function.
    fn worth_it(&self, callee: FunctionId) -> Option<usize> {
        let index = self.program.defined(callee)?;
        if self.graph.is_recursive[index] || self.parts.contains(&index) {
            return None;
        }
        let Measure { ops: size, depth } = self.measures[index];
        let is_wanted = size <= SMALL_OPS || self.graph.uses[index] == 1;
        (is_wanted && self.size + size <= MAX_OPS && self.depth + depth < MAX_DEPTH).then_some(index)
    }

    /// Puts the callee's operations in place of the call.
    fn inline(&mut self, call: &Op, index: usize, arguments: &[Value], ops: &mut Vec<Op>) {
        // A function that is called nowhere else is needed nowhere else.
        let is_last = self.graph.uses[index] == 1;
        let callee = &mut self.program.functions[index];
        let mut body = if is_last { std::mem::take(&mut callee.body) } else { callee.body.clone() };
        self.size += self.measures[index].ops + callee.locals.len() * 2;
        let mut renumbering =
            Renumbering { values: self.function.values.len() as u32, locals: self.function.locals.len() as u32, returns: false };
        self.function.values.extend(&callee.values);
        enter(self.function, call, callee, arguments, ops);

        renumbering.region(&mut body, 0);
        self.deepest = self.deepest.max(self.depth + self.measures[index].depth + usize::from(renumbering.returns));
        if renumbering.returns {
            let body = Box::new(body);
            ops.push(Op { kind: Kind::Block { body }, results: call.results, source: call.source });
            return;
        }
        ops.extend(body.ops);
        for (result, value) in call.results.iter().zip(body.yields) {
            self.renamed[result.0 as usize] = Some(value);
        }
    }
}

/// Makes room for a callee's locals: parameters get the arguments, others are zero at every call.
fn enter(function: &mut Function, call: &Op, callee: &Function, arguments: &[Value], ops: &mut Vec<Op>) {
    let first = function.locals.len();
    function.locals.extend(&callee.locals);
    let set = |local: usize, value| Kind::LocalSet(Local((first + local) as u32), value);
    for (index, &argument) in arguments.iter().enumerate() {
        ops.push(Op { kind: set(index, argument), results: Results::NONE, source: call.source });
    }
    for (index, &ty) in callee.locals.iter().enumerate().skip(callee.params) {
        let zero = function.new_value(ty);
        ops.push(Op { kind: Kind::Const(ty.zero()), results: Results::one(zero), source: call.source });
        ops.push(Op { kind: set(index, zero), results: Results::NONE, source: call.source });
    }
}

/// Brings a callee's body into its caller's numbering.
struct Renumbering {
    values: u32,
    locals: u32,
    /// The body returns from its middle.
    returns: bool,
}

impl Renumbering {
    /// `depth` counts the labels inside the callee.
    fn region(&mut self, region: &mut Region, depth: u32) {
        region.ops.iter_mut().for_each(|op| self.op(op, depth));
        region.yields.iter_mut().for_each(|value| value.0 += self.values);
    }

    fn op(&mut self, op: &mut Op, depth: u32) {
        match &mut op.kind {
            Kind::LocalGet(local) | Kind::LocalSet(local, _) | Kind::Repeat { index: local, .. } => local.0 += self.locals,
            Kind::Return { values } => {
                self.returns = true;
                op.kind = Kind::Branch { depth, values: std::mem::take(values) };
            }
            _ => {}
        }
        op.kind.for_each_operand_mut(|value| value.0 += self.values);
        op.results.first += self.values;
        let inner_depth = depth + op.kind.label_levels();
        op.kind.regions_mut().for_each(|inner| self.region(inner, inner_depth));
    }
}

/// Removes functions that nobody calls or exports, and numbers the others anew.
fn remove_unused(program: &mut Program) {
    let mut used = vec![false; program.functions.len()];
    let mut open: Vec<usize> = program.exports.iter().filter_map(|export| program.defined(export.function)).collect();
    let mut has_calls = false;
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut used[index], true) {
            let before = open.len();
            for_each_callee(&program.functions[index].body, &mut |callee| open.extend(program.defined(callee)));
            has_calls |= open.len() > before;
        }
    }
    let imports = program.imports.len() as u32;
    let mut next = imports;
    let number = |is_used: &bool| {
        next += u32::from(*is_used);
        if *is_used { next - 1 } else { u32::MAX }
    };
    let numbers: Vec<u32> = used.iter().map(number).collect();
    let renumber = |id: &mut FunctionId| {
        if let Some(index) = id.0.checked_sub(imports) {
            id.0 = numbers[index as usize];
        }
    };
    let mut index = 0;
    program.functions.retain(|_| {
        index += 1;
        numbers[index - 1] != u32::MAX
    });
    for function in program.functions.iter_mut().filter(|_| has_calls) {
        super::program::for_each_region_mut(&mut function.body, &mut |region| {
            for op in &mut region.ops {
                if let Kind::Call { function, .. } = &mut op.kind {
                    renumber(function);
                }
            }
        });
    }
    program.exports.iter_mut().for_each(|export| renumber(&mut export.function));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::operators::{Binary, Type};
    use crate::middle::sketch::{Sketch, all_ops, program};
    use crate::middle::verify::verify;

    /// `main` calls function 1 with a constant and stores the result.
    fn caller() -> Function {
        let mut main = Sketch::new(&[], &[]);
        let address = main.int(8);
        let argument = main.int(5);
        let result = main.call(1, vec![argument], Some(Type::I32)).unwrap();
        main.store(address, result, false);
        main.finish(vec![])
    }

    #[test]
    fn a_small_callee_becomes_part_of_its_caller_and_is_gone() {
        let mut callee = Sketch::new(&[Type::I32], &[Type::I32]);
        let param = callee.get(Local(0));
        let double = callee.binary(Binary::I32Add, param, param);
        let mut program = program(vec![caller(), callee.finish(vec![double])]);
        inline(&mut program);
        assert_eq!(verify(&program), Ok(()));
        assert_eq!(program.functions.len(), 1);
        assert!(!all_ops(&program.functions[0].body).iter().any(|kind| matches!(kind, Kind::Call { .. })));
    }

    #[test]
    fn a_return_from_the_middle_leaves_only_the_callee() {
        let mut callee = Sketch::new(&[Type::I32], &[Type::I32]);
        let condition = callee.get(Local(0));
        let then = callee.region(|callee| {
            let value = callee.int(1);
            callee.effect(Kind::Return { values: vec![value] });
            vec![]
        });
        callee.when(condition, then, Region::default());
        let end = callee.int(2);
        let mut program = program(vec![caller(), callee.finish(vec![end])]);
        inline(&mut program);
        assert_eq!(verify(&program), Ok(()));
        let ops = all_ops(&program.functions[0].body);
        assert!(ops.iter().any(|kind| matches!(kind, Kind::Block { .. })));
        assert!(ops.iter().any(|kind| matches!(kind, Kind::Branch { depth: 1, .. })), "out of the `if` and the block");
        assert!(!ops.iter().any(|kind| matches!(kind, Kind::Return { .. })));
    }

    #[test]
    fn locals_of_an_inlined_function_are_zero_each_time() {
        let mut callee = Sketch::new(&[Type::I32], &[Type::I32]);
        let local = callee.local(Type::I32);
        let value = callee.get(local);
        let mut program = program(vec![caller(), callee.finish(vec![value])]);
        inline(&mut program);
        assert_eq!(verify(&program), Ok(()));
        let sets = all_ops(&program.functions[0].body).iter().filter(|kind| matches!(kind, Kind::LocalSet(..))).count();
        assert_eq!(sets, 2, "the parameter and the zeroed local");
    }

    #[test]
    fn recursion_stays() {
        let mut callee = Sketch::new(&[Type::I32], &[Type::I32]);
        let param = callee.get(Local(0));
        let result = callee.call(1, vec![param], Some(Type::I32)).unwrap();
        let mut program = program(vec![caller(), callee.finish(vec![result])]);
        inline(&mut program);
        assert_eq!(verify(&program), Ok(()));
        assert_eq!(program.functions.len(), 2);
        assert!(CallGraph::of(&program).is_recursive[1]);
    }

    #[test]
    fn a_chain_of_deeply_nested_functions_stays_walkable() {
        let mut functions = vec![caller()];
        for next in 2..=40 {
            let mut callee = Sketch::new(&[Type::I32], &[Type::I32]);
            let result = callee.local(Type::I32);
            let condition = callee.get(Local(0));
            let mut nested = callee.region(|callee| {
                if next <= 39 {
                    let value = callee.call(next, vec![condition], Some(Type::I32)).unwrap();
                    callee.set(result, value);
                }
                vec![]
            });
            for _ in 0..50 {
                nested = callee.region(|callee| {
                    callee.when(condition, nested, Region::default());
                    vec![]
                });
            }
            callee.when(condition, nested, Region::default());
            let value = callee.get(result);
            functions.push(callee.finish(vec![value]));
        }
        let mut program = program(functions);
        inline(&mut program);
        assert_eq!(verify(&program), Ok(()));
        assert!(program.functions.len() > 1);
        assert!(measures(&program).iter().all(|measure| measure.depth <= MAX_DEPTH));
    }

    #[test]
    fn callees_come_before_their_callers() {
        let (order, is_recursive) = order(&[vec![1, 2], vec![2], vec![], vec![4], vec![3]]);
        let place = |function: usize| order.iter().position(|&other| other == function).unwrap();
        assert!(place(2) < place(1) && place(1) < place(0));
        assert_eq!(is_recursive, [false, false, false, true, true]);
    }
}
