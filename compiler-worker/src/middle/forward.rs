//! Forwarding: reads of locals and of memory at constant addresses become the values that are known to be there, constant
//! computations their results, and accesses that are certainly inside their memory lose their guards.
//!
//! One walk in execution order. Where two branches meet that leave different values in a place, the `if` itself gives the value as a
//! further result. Stores stay where they are, so that memory is right whenever something else looks at it. Nothing
//! is known across a loop's back edge about what the loop writes. Pure computation.

use rustc_hash::{FxHashMap, FxHashSet};

use super::bounds::Bounds;
use super::fold::{Folded, fold};
use super::function::{Address, Function, Kind, Local, Op, Region, Results, Source, Value};
use super::operators::{Const, Load, Store, Type};
use super::program::Program;
use super::slots::{Held, Mark, Place, Slots};

/// Places that one `if` hands out at most; with more, the places are read again instead.
const MAX_MERGED: usize = 24;

/// Runs the walk over every function.
pub fn forward(program: &mut Program) {
    let writers = memory_writers(program);
    let memory_bytes: Vec<u64> = program.memories.iter().map(super::program::Memory::bytes).collect();
    let imports = program.imports.len();
    for function in &mut program.functions {
        forward_function(function, &Surroundings { writers: &writers, imports, memory_bytes: &memory_bytes });
    }
}

/// What a function's walk has to know of the rest of the program.
pub struct Surroundings<'a> {
    /// Defined functions that write memory, themselves or through others.
    pub writers: &'a [bool],
    pub imports: usize,
    pub memory_bytes: &'a [u64],
}

impl Surroundings<'_> {
    /// Whether a call may change memory. The host's functions may.
    fn writes(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Call { function, .. } => (function.0 as usize).checked_sub(self.imports).is_none_or(|index| self.writers[index]),
            _ => false,
        }
    }
}

/// Which defined functions write memory.
pub fn memory_writers(program: &Program) -> Vec<bool> {
    let imports = program.imports.len() as u32;
    let mut writes: Vec<bool> = program.functions.iter().map(|function| region_writes(&function.body, imports)).collect();
    if writes.iter().all(|&writes| writes) {
        return writes;
    }
    // Callees first, so that one round is enough unless functions call each other.
    let graph = super::inline::CallGraph::of(program);
    loop {
        let mut is_stable = true;
        for &index in &graph.callees_first {
            if !writes[index] && graph.callees(index).iter().any(|&callee| writes[callee]) {
                writes[index] = true;
                is_stable = false;
            }
        }
        if is_stable {
            return writes;
        }
    }
}

/// Whether a region writes by itself. A function of the host, one of the first `imports`, may do so.
fn region_writes(region: &Region, imports: u32) -> bool {
    region.ops.iter().any(|op| match &op.kind {
        Kind::Store { .. } | Kind::MemoryCopy { .. } | Kind::MemoryClear { .. } | Kind::MemoryInit { .. } => true,
        Kind::Call { function, .. } => function.0 < imports,
        kind => kind.regions().any(|inner| region_writes(inner, imports)),
    })
}

/// Runs the walk over one function.
pub fn forward_function(function: &mut Function, surroundings: &Surroundings<'_>) {
    let mut body = std::mem::take(&mut function.body);
    let count = function.values.len();
    let mut walk = Walk {
        function,
        surroundings,
        names: vec![None; count],
        known: vec![None; count],
        slots: Slots::default(),
        bounds: Bounds::default(),
        loops: Vec::new(),
    };
    walk.region(&mut body);
    function.body = body;
}

struct Walk<'a> {
    function: &'a mut Function,
    surroundings: &'a Surroundings<'a>,
    /// What values have turned out to be the same as.
    names: Vec<Option<Value>>,
    /// Constants that values are.
    known: Vec<Option<Const>>,
    slots: Slots,
    bounds: Bounds,
    /// Index locals of the open loops, with their caps.
    loops: Vec<(Local, u32)>,
}

impl Walk<'_> {
    fn name(&self, value: Value) -> Value {
        self.names.get(value.0 as usize).copied().flatten().unwrap_or(value)
    }

    fn constant_of(&self, value: Value) -> Option<Const> {
        self.known.get(value.0 as usize).copied().flatten()
    }

    fn rename(&mut self, old: Value, new: Value) {
        self.names[old.0 as usize] = Some(new);
    }

    fn learn(&mut self, value: Value, constant: Const) {
        if self.known.len() <= value.0 as usize {
            self.known.resize(self.function.values.len(), None);
        }
        self.known[value.0 as usize] = Some(constant);
        if let Const::I32(int) = constant {
            self.bounds.limit(value, int as u32);
        }
    }

    /// Walks a region; leaves out what cannot be reached behind a terminator.
    fn region(&mut self, region: &mut Region) {
        let ops = std::mem::take(&mut region.ops);
        let mut out = Vec::with_capacity(ops.len());
        for op in ops {
            self.op(op, &mut out);
            if out.last().is_some_and(|last: &Op| last.kind.is_terminator()) {
                region.ops = out;
                region.yields.clear();
                return;
            }
        }
        for value in &mut region.yields {
            *value = self.name(*value);
        }
        region.ops = out;
    }

    /// A region that may be left half-way, or not be run at all.
    fn branch_region(&mut self, region: &mut Region) {
        let mark = self.bounds.mark();
        self.region(region);
        self.bounds.roll_back(mark);
    }

    fn op(&mut self, mut op: Op, out: &mut Vec<Op>) {
        op.kind.for_each_operand_mut(|value| *value = self.name(*value));
        match op.kind {
            Kind::Const(constant) => {
                self.learn(Value(op.results.first), constant);
                out.push(op);
            }
            Kind::LocalGet(local) => self.local_get(local, op, out),
            Kind::LocalSet(local, value) => {
                self.slots.set(Place::Local(local), Some(Held { value, load: Load::I32 }));
                out.push(op);
            }
            Kind::Load { op: load, address, is_guarded } => self.load(load, address, is_guarded, op, out),
            Kind::Store { op: store, address, value, is_guarded } => self.store(store, address, value, is_guarded, op, out),
            Kind::MemoryCopy { to, .. } => {
                self.slots.forget_memory(Some(to.memory));
                out.push(op);
            }
            Kind::MemoryClear { .. } | Kind::MemoryInit { .. } => {
                self.slots.forget_memory(None);
                out.push(op);
            }
            Kind::Call { .. } => {
                if self.surroundings.writes(&op.kind) {
                    self.slots.forget_memory(None);
                }
                out.push(op);
            }
            Kind::If { condition, then, otherwise } => match self.constant_of(condition) {
                Some(Const::I32(condition)) => {
                    let taken = if condition != 0 { then } else { otherwise };
                    self.block(taken, op.results, op.source, out);
                }
                _ => self.if_else(condition, then, otherwise, op.results, op.source, out),
            },
            Kind::Block { body } => self.block(body, op.results, op.source, out),
            Kind::Repeat { cap, index, body } => self.repeat(cap, index, body, op.source, out),
            _ => self.compute(op, out),
        }
    }

    fn compute(&mut self, op: Op, out: &mut Vec<Op>) {
        let folded = fold(&op.kind, |value| self.constant_of(value));
        match folded {
            None => {
                if let Some(value) = op.results.single() {
                    let known = &self.known;
                    self.bounds.learn(value, &op.kind, |value| known.get(value.0 as usize).copied().flatten());
                }
                out.push(op);
            }
            Some(Folded::Value(value)) => self.rename(Value(op.results.first), value),
            Some(Folded::Const(constant)) => {
                self.learn(Value(op.results.first), constant);
                out.push(Op { kind: Kind::Const(constant), ..op });
            }
            Some(Folded::WithConst(operator, left, constant)) => {
                let right = self.make_constant(constant, op.source, out);
                out.push(Op { kind: Kind::Binary { op: operator, left, right }, ..op });
            }
        }
    }

    fn make_constant(&mut self, constant: Const, source: Source, out: &mut Vec<Op>) -> Value {
        let value = self.function.new_value(constant.ty());
        self.learn(value, constant);
        out.push(Op { kind: Kind::Const(constant), results: Results::one(value), source });
        value
    }

    fn local_get(&mut self, local: Local, op: Op, out: &mut Vec<Op>) {
        let result = Value(op.results.first);
        if let Some(held) = self.slots.get(Place::Local(local)) {
            self.rename(result, held.value);
            return;
        }
        if let Some((_, cap)) = self.loops.iter().find(|(index, _)| *index == local) {
            self.bounds.limit(result, cap.saturating_sub(1));
        }
        self.slots.set(Place::Local(local), Some(Held { value: result, load: Load::I32 }));
        out.push(op);
    }

    // --------------------------------------------------------------------------------------------- memory

    /// The constant address of an access that lies inside its memory; `Err` if it is constant and does not.
    fn constant_address(&self, address: Address, bytes: u32) -> Option<Result<u32, ()>> {
        let Some(Const::I32(base)) = self.constant_of(address.base) else { return None };
        let start = u64::from(base as u32) + u64::from(address.offset);
        let size = self.surroundings.memory_bytes.get(address.memory as usize).copied().unwrap_or(0);
        Some(if start + u64::from(bytes) <= size { Ok(start as u32) } else { Err(()) })
    }

    fn load(&mut self, load: Load, address: Address, is_guarded: bool, mut op: Op, out: &mut Vec<Op>) {
        let result = Value(op.results.first);
        match self.constant_address(address, load.bytes()) {
            Some(Ok(at)) => {
                if let Some(value) = self.slots.loaded(load, address.memory, at) {
                    self.rename(result, value);
                    return;
                }
                self.slots.note_load(load, address.memory, at, result);
                op.kind = Kind::Load { op: load, address, is_guarded: false };
            }
            Some(Err(())) if is_guarded => {
                let zero = load.result().zero();
                self.learn(result, zero);
                op.kind = Kind::Const(zero);
            }
            _ => {
                let is_guarded = is_guarded && !self.is_inside(address, load.bytes());
                op.kind = Kind::Load { op: load, address, is_guarded };
                self.bounds.learn(result, &op.kind, |_| None);
                self.prove(address, load.bytes(), is_guarded);
            }
        }
        out.push(op);
    }

    /// Whether an access is certainly inside its memory.
    fn is_inside(&self, address: Address, bytes: u32) -> bool {
        let memory_bytes = self.surroundings.memory_bytes.get(address.memory as usize).copied().unwrap_or(0);
        let end = address.offset.checked_add(bytes);
        end.is_some_and(|end| self.bounds.is_inside(address.memory, memory_bytes, address.base, end))
    }

    /// Behind an unguarded access its address is known to be good.
    fn prove(&mut self, address: Address, bytes: u32, is_guarded: bool) {
        if let (false, Some(end)) = (is_guarded, address.offset.checked_add(bytes)) {
            self.bounds.prove(address.memory, address.base, end);
        }
    }

    fn store(&mut self, store: Store, address: Address, value: Value, is_guarded: bool, mut op: Op, out: &mut Vec<Op>) {
        match self.constant_address(address, store.bytes()) {
            Some(Ok(at)) => {
                let stored = store.matching_load().map(|load| Held { value, load });
                if stored.is_some_and(|held| self.slots.loaded(held.load, address.memory, at) == Some(value)) {
                    return;
                }
                self.slots.note_store(store.bytes(), address.memory, at, stored);
                op.kind = Kind::Store { op: store, address, value, is_guarded: false };
            }
            Some(Err(())) if is_guarded => return,
            _ => {
                let is_guarded = is_guarded && !self.is_inside(address, store.bytes());
                op.kind = Kind::Store { op: store, address, value, is_guarded };
                self.prove(address, store.bytes(), is_guarded);
                self.slots.forget_memory(Some(address.memory));
            }
        }
        out.push(op);
    }

    // ------------------------------------------------------------------------------------------ structure

    /// A block nobody branches out of is no block.
    fn block(&mut self, mut body: Box<Region>, results: Results, source: Source, out: &mut Vec<Op>) {
        if branches_to(&body, 0) {
            let mark = self.slots.mark();
            self.branch_region(&mut body);
            self.slots.roll_back(mark);
            self.forget_written(&body);
            out.push(Op { kind: Kind::Block { body }, results, source });
            return;
        }
        leave_label_out(&mut body, 0);
        self.region(&mut body);
        let is_terminated = body.is_terminated();
        out.extend(body.ops);
        if !is_terminated {
            for (result, value) in results.iter().zip(body.yields) {
                self.rename(result, value);
            }
        }
    }

    fn if_else(
        &mut self,
        condition: Value,
        mut then: Box<Region>,
        mut otherwise: Box<Region>,
        results: Results,
        source: Source,
        out: &mut Vec<Op>,
    ) {
        let is_left_early = branches_to(&then, 0) || branches_to(&otherwise, 0);
        let mark = self.slots.mark();
        self.branch_region(&mut then);
        let after_then = self.outcome(mark);
        self.branch_region(&mut otherwise);
        let after_else = self.outcome(mark);
        let mut places: Vec<Place> = after_then.iter().chain(&after_else).map(|(place, _)| *place).collect();
        places.sort_unstable();
        places.dedup();

        if is_left_early {
            // Somebody comes here with what was in the places half-way.
            self.forget_written(&then);
            self.forget_written(&otherwise);
            out.push(Op { kind: Kind::If { condition, then, otherwise }, results, source });
            return;
        }
        if then.is_terminated() && otherwise.is_terminated() {
            out.push(Op { kind: Kind::If { condition, then, otherwise }, results, source });
            out.push(Op { kind: Kind::Unreachable, results: Results::NONE, source });
            return;
        }
        if places.len() > MAX_MERGED {
            for (changes, region) in [(&after_then, &then), (&after_else, &otherwise)] {
                // What a branch changes that never comes back here has not changed here.
                if !region.is_terminated() {
                    changes.iter().for_each(|(place, _)| self.slots.set(*place, None));
                }
            }
            out.push(Op { kind: Kind::If { condition, then, otherwise }, results, source });
            return;
        }
        let merged = self.merge(&places, (&mut then, &after_then), (&mut otherwise, &after_else));
        let all = self.with_results(results, &merged);
        out.push(Op { kind: Kind::If { condition, then, otherwise }, results: all, source });
    }

    /// What a branch has changed, and takes the changes back.
    fn outcome(&mut self, mark: Mark) -> Changes {
        let places = self.slots.changed_since(mark);
        let changes = places.into_iter().map(|place| (place, self.slots.get(place))).collect();
        self.slots.roll_back(mark);
        changes
    }

    /// Where branches meet: the places that both leave with a known value, which become yields of both. All others are unknown.
    fn merge(&mut self, places: &[Place], then: (&mut Region, &Changes), otherwise: (&mut Region, &Changes)) -> Vec<Merged> {
        let mut merged = Vec::new();
        for &place in places {
            let before = self.slots.get(place);
            let held = |changes: &Changes| changes.iter().find(|(other, _)| *other == place).map_or(before, |(_, held)| *held);
            let (in_then, in_else) = match (then.0.is_terminated(), otherwise.0.is_terminated()) {
                (false, false) => (held(then.1), held(otherwise.1)),
                (false, true) => (held(then.1), held(then.1)),
                _ => (held(otherwise.1), held(otherwise.1)),
            };
            match (in_then, in_else) {
                (Some(a), Some(b)) if a == b && before == Some(a) => {}
                (Some(a), Some(b)) if a.load == b.load => {
                    let ends = [(&mut *then.0, a), (&mut *otherwise.0, b)];
                    for (region, held) in ends {
                        if !region.is_terminated() {
                            region.yields.push(held.value);
                        }
                    }
                    let upper = self.bounds.upper(a.value).max(self.bounds.upper(b.value));
                    merged.push((place, a.load, self.function.type_of(a.value), upper));
                }
                _ => self.slots.set(place, None),
            }
        }
        merged
    }

    /// Results of an `if`: its own, renamed, and one for each merged place.
    fn with_results(&mut self, own: Results, merged: &[Merged]) -> Results {
        if merged.is_empty() {
            return own;
        }
        let first = self.function.values.len() as u32;
        for result in own.iter() {
            let ty = self.function.type_of(result);
            let again = self.function.new_value(ty);
            self.rename(result, again);
        }
        for &(place, load, ty, upper) in merged {
            let value = self.function.new_value(ty);
            self.bounds.limit(value, upper);
            self.slots.set(place, Some(Held { value, load }));
        }
        Results { first, count: own.count + merged.len() as u32 }
    }

    fn repeat(&mut self, cap: u32, index: Local, mut body: Box<Region>, source: Source, out: &mut Vec<Op>) {
        self.slots.set(Place::Local(index), None);
        self.forget_written(&body);
        let mark = self.slots.mark();
        self.loops.push((index, cap));
        self.branch_region(&mut body);
        self.loops.pop();
        self.slots.roll_back(mark);
        out.push(Op { kind: Kind::Repeat { cap, index, body }, results: Results::NONE, source });
    }

    /// Forgets everything that the region writes.
    fn forget_written(&mut self, body: &Region) {
        let mut written = Written::default();
        written.region(body, self);
        let mut locals: Vec<Local> = written.locals.into_iter().collect();
        locals.sort_unstable();
        locals.into_iter().for_each(|local| self.slots.set(Place::Local(local), None));
        if written.is_everything {
            self.slots.forget_memory(None);
            return;
        }
        written.memories.into_iter().for_each(|memory| self.slots.forget_memory(Some(memory)));
        for (memory, address, bytes) in written.words {
            self.slots.note_store(bytes, memory, address, None);
        }
    }
}

/// Places a branch has changed and what they hold at its end.
type Changes = Vec<(Place, Option<Held>)>;

/// A place two branches leave with known values, how it is read, its type, and an upper bound of its value.
type Merged = (Place, Load, Type, u32);

/// What a region writes.
#[derive(Default)]
struct Written {
    locals: FxHashSet<Local>,
    /// Memory, address, bytes.
    words: Vec<(u32, u32, u32)>,
    /// Memories written at unknown addresses.
    memories: Vec<u32>,
    is_everything: bool,
    /// Constants met inside the region.
    constants: FxHashMap<Value, u32>,
}

impl Written {
    fn region(&mut self, region: &Region, walk: &Walk<'_>) {
        for op in &region.ops {
            match &op.kind {
                Kind::Const(Const::I32(value)) => {
                    self.constants.insert(Value(op.results.first), *value as u32);
                }
                Kind::LocalSet(local, _) | Kind::Repeat { index: local, .. } => {
                    self.locals.insert(*local);
                }
                Kind::Store { op, address, .. } => match self.address(*address, walk) {
                    Some(start) => self.words.push((address.memory, start, op.bytes())),
                    None => self.memories.push(address.memory),
                },
                Kind::MemoryCopy { to, .. } => self.memories.push(to.memory),
                Kind::MemoryClear { .. } | Kind::MemoryInit { .. } => self.is_everything = true,
                kind @ Kind::Call { .. } => self.is_everything |= walk.surroundings.writes(kind),
                _ => {}
            }
            op.kind.regions().for_each(|inner| self.region(inner, walk));
        }
    }

    fn address(&self, address: Address, walk: &Walk<'_>) -> Option<u32> {
        let base = walk.name(address.base);
        let base = self.constants.get(&base).copied().or_else(|| match walk.constant_of(base) {
            Some(Const::I32(value)) => Some(value as u32),
            _ => None,
        });
        base?.checked_add(address.offset)
    }
}

/// Whether something in the region branches to the label of this depth (as seen from its start).
pub fn branches_to(region: &Region, label: u32) -> bool {
    region.ops.iter().any(|op| {
        let goes = matches!(&op.kind, Kind::Branch { depth, .. } | Kind::BranchIf { depth, .. } if *depth == label);
        goes || op.kind.regions().any(|inner| branches_to(inner, label + op.kind.label_levels()))
    })
}

/// The block around a region disappears: branches beyond it have one level less to go.
fn leave_label_out(region: &mut Region, label: u32) {
    for op in &mut region.ops {
        if let Kind::Branch { depth, .. } | Kind::BranchIf { depth, .. } = &mut op.kind
            && *depth > label
        {
            *depth -= 1;
        }
        let levels = op.kind.label_levels();
        op.kind.regions_mut().for_each(|inner| leave_label_out(inner, label + levels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::operators::Binary;
    use crate::middle::sketch::{Sketch, all_ops, program};
    use crate::middle::verify::verify;

    fn forwarded(function: Function) -> Program {
        let mut program = program(vec![function]);
        forward(&mut program);
        assert_eq!(verify(&program), Ok(()));
        program
    }

    fn loads(program: &Program) -> usize {
        all_ops(&program.functions[0].body).iter().filter(|kind| matches!(kind, Kind::Load { .. })).count()
    }

    #[test]
    fn what_was_stored_is_not_loaded_again() {
        let mut main = Sketch::new(&[Type::I32], &[Type::I32]);
        let address = main.int(8);
        let value = main.get(Local(0));
        main.store(address, value, false);
        let again = main.load(address, false);
        let program = forwarded(main.finish(vec![again]));
        assert_eq!(loads(&program), 0);
        assert_eq!(program.functions[0].body.yields, vec![value]);
    }

    #[test]
    fn a_store_anywhere_makes_everything_unknown() {
        let mut main = Sketch::new(&[Type::I32], &[Type::I32]);
        let address = main.int(8);
        let first = main.load(address, false);
        let anywhere = main.get(Local(0));
        main.store(anywhere, first, true);
        let again = main.load(address, false);
        assert_eq!(loads(&forwarded(main.finish(vec![again]))), 2);
    }

    #[test]
    fn a_store_elsewhere_does_not() {
        let mut main = Sketch::new(&[], &[Type::I32]);
        let (here, there) = (main.int(8), main.int(12));
        let first = main.load(here, false);
        main.store(there, first, false);
        let again = main.load(here, false);
        assert_eq!(loads(&forwarded(main.finish(vec![again]))), 1);
    }

    #[test]
    fn branches_that_leave_different_values_hand_them_out() {
        let mut main = Sketch::new(&[Type::I32], &[Type::I32]);
        let address = main.int(8);
        let before = main.load(address, false);
        let then = main.region(|main| {
            let value = main.binary(Binary::I32Add, before, before);
            main.store(address, value, false);
            vec![]
        });
        main.when(before, then, Region::default());
        let after = main.load(address, false);
        let program = forwarded(main.finish(vec![after]));
        assert_eq!(loads(&program), 1);
        let merged = program.functions[0].body.ops.iter().find(|op| matches!(op.kind, Kind::If { .. })).unwrap();
        assert_eq!(Some(program.functions[0].body.yields[0]), merged.results.single());
    }

    #[test]
    fn what_a_branch_leaves_by_jumping_is_not_trusted_behind_the_block() {
        // block { if p { local = 1; branch out of the block } local = 2 }; local
        let mut main = Sketch::new(&[Type::I32], &[Type::I32]);
        let local = main.local(Type::I32);
        let condition = main.get(Local(0));
        let body = main.region(|main| {
            let then = main.region(|main| {
                let one = main.int(1);
                main.set(local, one);
                main.effect(Kind::Branch { depth: 1, values: vec![] });
                vec![]
            });
            main.when(condition, then, Region::default());
            let two = main.int(2);
            main.set(local, two);
            vec![]
        });
        main.effect(Kind::Block { body: Box::new(body) });
        let after = main.get(local);
        let program = forwarded(main.finish(vec![after]));
        assert_eq!(program.functions[0].body.yields, vec![after], "read again");
    }

    #[test]
    fn a_loop_forgets_what_it_writes_before_it_starts() {
        let mut main = Sketch::new(&[], &[Type::I32]);
        let (here, there) = (main.int(8), main.int(12));
        let (one, two) = (main.load(here, false), main.load(there, false));
        let index = main.local(Type::I32);
        let body = main.region(|main| {
            let known = main.load(there, false);
            let unknown = main.load(here, false);
            let sum = main.binary(Binary::I32Add, known, unknown);
            main.store(here, sum, false);
            vec![]
        });
        main.effect(Kind::Repeat { cap: 3, index, body: Box::new(body) });
        let sum = main.binary(Binary::I32Add, one, two);
        assert_eq!(loads(&forwarded(main.finish(vec![sum]))), 3);
    }

    #[test]
    fn constant_addresses_need_no_guard_and_wild_ones_no_access() {
        let mut main = Sketch::new(&[], &[Type::I32]);
        let (inside, outside) = (main.int(65_532), main.int(65_533));
        let value = main.load(outside, true);
        main.store(inside, value, true);
        main.store(outside, value, true);
        let program = forwarded(main.finish(vec![value]));
        let ops = all_ops(&program.functions[0].body);
        let stores: Vec<_> = ops.iter().filter(|kind| matches!(kind, Kind::Store { .. })).collect();
        assert!(matches!(stores[..], [Kind::Store { is_guarded: false, .. }]));
        assert_eq!(loads(&program), 0);
    }

    #[test]
    fn a_condition_that_is_known_leaves_one_branch() {
        let mut main = Sketch::new(&[], &[]);
        let (condition, address) = (main.int(1), main.int(8));
        let then = main.region(|main| {
            main.store(address, condition, false);
            vec![]
        });
        main.when(condition, then, Region::default());
        let program = forwarded(main.finish(vec![]));
        assert!(!all_ops(&program.functions[0].body).iter().any(|kind| matches!(kind, Kind::If { .. })));
    }
}
