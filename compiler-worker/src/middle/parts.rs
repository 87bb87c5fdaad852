//! Parts: a large entry calls its modules in groups, each a function of its own, so that one edit makes native code of one group
//! only - compiled functions are cached, and compiling takes longer than all else (DESIGN §4).
//!
//! Where a group ends depends on the names of its modules as well as on their sizes, so that an edit changes the groups next to it and
//! no others. A group costs one call; what it costs beside is that no pass sees from one to the next.

use ipc::hash::ContentHash;
use rustc_hash::FxHashSet;

use super::function::{Function, FunctionId, Kind, Op, Region, Results};
use super::inline::{CallGraph, Measure, SMALL_OPS};
use super::program::Program;

/// Operations from which on a group may end. A function of this size takes about 2 ms to compile.
const LEAST_OPS: usize = 750;

/// Operations from which on a group ends, and up to which an entry is left as it is.
const MOST_OPS: usize = 2_000;

/// One in so many modules may be the last of its group.
const END_EVERY: u8 = 3;

/// Divides the large functions that do nothing but call modules. Returns the indices of the functions that are new: they must not
/// be inlined.
pub fn divide(program: &mut Program, graph: &CallGraph, measures: &[Measure]) -> FxHashSet<usize> {
    let mut parts = FxHashSet::default();
    let sizes = inlined_sizes(graph, measures);
    for index in 0..sizes.len() {
        if sizes[index] <= MOST_OPS || !is_dispatcher(&program.functions[index]) {
            continue;
        }
        let calls = std::mem::take(&mut program.functions[index].body.ops);
        for group in groups(program, &sizes, calls) {
            let source = group[0].source;
            let name = format!("{} in part", program.functions[index].name);
            program.functions.push(Function { name, body: Region { ops: group, yields: Vec::new() }, ..Function::default() });
            let part = program.functions.len() - 1;
            parts.insert(part);
            let call = Kind::Call { function: program.id_of(part), arguments: Vec::new() };
            program.functions[index].body.ops.push(Op { kind: call, results: Results::NONE, source });
        }
    }
    parts
}

fn is_dispatcher(function: &Function) -> bool {
    let is_call = |op: &Op| matches!(&op.kind, Kind::Call { arguments, .. } if arguments.is_empty() && op.results.count == 0);
    function.body.ops.iter().all(is_call)
}

/// Operations of each function once calls have been inlined, or somewhat less: enough to tell large from small.
fn inlined_sizes(graph: &CallGraph, measures: &[Measure]) -> Vec<usize> {
    let mut sizes = vec![0; measures.len()];
    for &index in &graph.callees_first {
        let is_inlined = |callee: &usize| sizes[*callee] <= SMALL_OPS || graph.uses[*callee] == 1;
        let inlined = graph.callees(index).iter().copied().filter(is_inlined);
        sizes[index] = measures[index].ops + inlined.map(|callee| sizes[callee]).sum::<usize>();
    }
    sizes
}

/// Runs of calls in order.
fn groups(program: &Program, sizes: &[usize], calls: Vec<Op>) -> Vec<Vec<Op>> {
    let mut groups = Vec::new();
    let (mut group, mut size) = (Vec::new(), 0);
    for call in calls {
        let callee = callee(&call).and_then(|callee| program.defined(callee));
        size += callee.map_or(1, |callee| sizes[callee]);
        let may_end = callee.is_some_and(|callee| ends_group(&program.functions[callee].name));
        group.push(call);
        if size >= MOST_OPS || (size >= LEAST_OPS && may_end) {
            groups.push(std::mem::take(&mut group));
            size = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

fn callee(call: &Op) -> Option<FunctionId> {
    match call.kind {
        Kind::Call { function, .. } => Some(function),
        _ => None,
    }
}

/// Decided by the name alone, at random.
fn ends_group(name: &str) -> bool {
    ContentHash::of(&[name.as_bytes()]).0[0].is_multiple_of(END_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::inline::{inline, measures, size_of};
    use crate::middle::sketch::{Sketch, all_ops, program};
    use crate::middle::verify::verify;

    /// A program whose `main` calls so many modules with one store each, three operations, and a module of `large` stores at the end.
    fn modules(names: &[String], stores: usize) -> Program {
        let mut functions = vec![Function::default()];
        for name in names {
            let mut module = Sketch::new(&[], &[]);
            for _ in 0..stores {
                let (address, value) = (module.int(8), module.int(5));
                module.store(address, value, false);
            }
            functions.push(Function { name: name.clone(), ..module.finish(vec![]) });
        }
        let mut program = program(functions);
        let calls = (1..=names.len()).map(|index| Op {
            kind: Kind::Call { function: program.id_of(index), arguments: Vec::new() },
            results: Results::NONE,
            source: Default::default(),
        });
        program.functions[0].body.ops = calls.collect();
        program
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("module{index}")).collect()
    }

    /// Names of the modules of each group.
    fn grouped(names: &[String]) -> Vec<Vec<String>> {
        let mut program = modules(names, 30);
        let graph = CallGraph::of(&program);
        let measures = measures(&program);
        let parts = divide(&mut program, &graph, &measures);
        let mut parts: Vec<usize> = parts.into_iter().collect();
        parts.sort_unstable();
        let of_part = |part: usize| program.functions[part].body.ops.iter().filter_map(callee);
        let name = |id: FunctionId| program.function(id).unwrap().name.clone();
        parts.into_iter().map(|part| of_part(part).map(name).collect()).collect()
    }

    #[test]
    fn a_small_entry_stays_whole() {
        let mut program = modules(&names(20), 30);
        inline(&mut program);
        assert_eq!(program.functions.len(), 1);
    }

    #[test]
    fn a_large_entry_runs_all_its_modules_in_order() {
        let names = names(200);
        assert_eq!(grouped(&names).concat(), names);
        let mut program = modules(&names, 30);
        inline(&mut program);
        assert_eq!(verify(&program), Ok(()));
        let main = all_ops(&program.functions[0].body);
        assert!(main.len() > 4 && main.iter().all(|kind| matches!(kind, Kind::Call { .. })));
        assert!(program.functions[1..].iter().all(|part| size_of(&part.body) <= 2 * MOST_OPS));
    }

    #[test]
    fn an_added_module_changes_the_groups_around_it_only() {
        let before = grouped(&names(200));
        let mut more = names(200);
        more.insert(50, "another".to_owned());
        let changed = grouped(&more).into_iter().filter(|group| !before.contains(group)).count();
        assert!((1..=3).contains(&changed), "{changed}");
    }
}
