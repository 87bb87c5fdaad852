//! Where each value lives between its definition and its uses: on WebAssembly's operand stack where it is used once and in order,
//! computed again where that is cheaper, else in a WebAssembly local.
//!
//! Two walks over a function: the first counts uses, the second plays the operand stack through and gives up on every value
//! that would be in the way. Pure computation.

use smallvec::SmallVec;

use crate::middle::function::{Function, Kind, Op, Region, Value};
use crate::middle::operators::Const;

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody uses it.
    Unused,
    /// On the operand stack, for its only use.
    Stack,
    /// On the operand stack for its first use, in a local for the others.
    Tee,
    /// In a local.
    Local,
    /// Made again at each use: a constant.
    Constant(Const),
    /// Read again at each use: a local that is never written.
    Variable(u32),
}

/// What the walks found out about a function.
#[derive(Debug)]
pub struct Placement {
    places: Vec<Place>,
    /// Index, in the region that defines the value, of the last operation that uses it (itself or in its regions).
    last_uses: Vec<u32>,
}

impl Placement {
    pub fn of(function: &Function) -> Self {
        let mut uses = Uses::new(function);
        uses.region(&function.body);
        let mut play = Play { places: initial(function, &uses), uses: &uses, pending: Vec::new() };
        play.region(&function.body);
        let places = play.places;
        Self { places, last_uses: uses.last }
    }

    pub fn of_value(&self, value: Value) -> Place {
        self.places[value.0 as usize]
    }

    pub fn last_use(&self, value: Value) -> u32 {
        self.last_uses[value.0 as usize]
    }
}

/// Operands that have to be in a local although they are used once: they are needed inside a guard's `if`, or twice.
pub fn is_wanted_in_local(kind: &Kind, operand: usize) -> bool {
    match kind {
        Kind::Store { is_guarded: true, .. } => operand == 1,
        Kind::BranchIf { values, .. } => operand < values.len(),
        _ => false,
    }
}

struct Uses {
    counts: Vec<u32>,
    /// Depth of the region that defines the value, in nesting levels.
    depths: Vec<u32>,
    last: Vec<u32>,
    /// The first use is an operand of an operation of the defining region.
    is_first_near: Vec<bool>,
    /// Index of the current operation on each nesting level.
    path: Vec<u32>,
    /// Locals that some operation writes.
    written: Vec<bool>,
}

impl Uses {
    fn new(function: &Function) -> Self {
        let count = function.values.len();
        Self {
            counts: vec![0; count],
            depths: vec![0; count],
            last: vec![0; count],
            is_first_near: vec![false; count],
            path: Vec::new(),
            written: vec![false; function.locals.len()],
        }
    }

    fn region(&mut self, region: &Region) {
        self.path.push(0);
        for (index, op) in region.ops.iter().enumerate() {
            self.enter(index);
            op.kind.for_each_operand(|value| self.note(value));
            match op.kind {
                Kind::LocalSet(local, _) => self.written[local.0 as usize] = true,
                Kind::Repeat { index, .. } => self.written[index.0 as usize] = true,
                _ => {}
            }
            op.kind.regions().for_each(|inner| self.region(inner));
            for result in op.results.iter() {
                self.depths[result.0 as usize] = self.path.len() as u32 - 1;
            }
        }
        self.enter(region.ops.len());
        region.yields.iter().for_each(|&value| self.note(value));
        self.path.pop();
    }

    fn enter(&mut self, index: usize) {
        if let Some(current) = self.path.last_mut() {
            *current = index as u32;
        }
    }

    fn note(&mut self, value: Value) {
        let index = value.0 as usize;
        let depth = self.depths[index] as usize;
        if self.counts[index] == 0 {
            self.is_first_near[index] = depth + 1 == self.path.len();
        }
        self.counts[index] += 1;
        self.last[index] = self.path[depth];
    }
}

/// Places that follow from the uses alone. What may stay on the stack starts out as `Stack` or `Tee`.
fn initial(function: &Function, uses: &Uses) -> Vec<Place> {
    let mut places = vec![Place::Unused; function.values.len()];
    for (index, place) in places.iter_mut().enumerate() {
        *place = match (uses.counts[index], uses.is_first_near[index]) {
            (0, _) => Place::Unused,
            (1, true) => Place::Stack,
            (_, true) => Place::Tee,
            (_, false) => Place::Local,
        };
    }
    places
}

/// Plays the operand stack through.
struct Play<'a> {
    places: Vec<Place>,
    uses: &'a Uses,
    /// Values of the current region on the operand stack, each with what it becomes when it is in the way.
    pending: Vec<(Value, Place)>,
}

impl Play<'_> {
    fn region(&mut self, region: &Region) {
        let outer = std::mem::take(&mut self.pending);
        for op in &region.ops {
            self.operands(op);
            op.kind.regions().for_each(|inner| self.region(inner));
            self.results(op);
        }
        self.take(&region.yields);
        self.pending = outer;
    }

    fn operands(&mut self, op: &Op) {
        let mut operands: SmallVec<[Value; 4]> = SmallVec::new();
        let mut index = 0;
        op.kind.for_each_operand(|value| {
            if is_wanted_in_local(&op.kind, index) {
                self.evict(value);
            } else {
                operands.push(value);
            }
            index += 1;
        });
        self.take(&operands);
    }

    /// An operation takes these values, the last one from the top. Whatever does not stand there in this order is given up.
    fn take(&mut self, operands: &[Value]) {
        let Some(start) = operands.first().and_then(|first| self.pending.iter().rposition(|(value, _)| value == first)) else {
            operands.iter().for_each(|&value| self.evict(value));
            return;
        };
        let mut matched = 0;
        for (value, fallback) in self.pending.drain(start..) {
            // A value used twice by one operation is on the stack for the first use only.
            if operands.get(matched) == Some(&value) {
                matched += 1;
            } else {
                self.places[value.0 as usize] = fallback;
            }
        }
        operands[matched..].iter().for_each(|&value| self.evict(value));
    }

    /// The value cannot stay on the stack.
    fn evict(&mut self, value: Value) {
        if let Some(position) = self.pending.iter().rposition(|(pending, _)| *pending == value) {
            let (_, fallback) = self.pending.remove(position);
            self.places[value.0 as usize] = fallback;
        }
    }

    fn results(&mut self, op: &Op) {
        let again = match op.kind {
            Kind::Const(constant) => Some(Place::Constant(constant)),
            Kind::LocalGet(local) if !self.uses.written[local.0 as usize] => Some(Place::Variable(local.0)),
            _ => None,
        };
        for value in op.results.iter() {
            let place = &mut self.places[value.0 as usize];
            match (*place, again) {
                (Place::Unused, _) => {}
                (Place::Tee | Place::Local, Some(again)) => *place = again,
                (Place::Stack | Place::Tee, _) => self.pending.push((value, again.unwrap_or(Place::Local))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middle::function::{Address, Local, Results, Source};
    use crate::middle::operators::{Binary, Load, Type};

    fn op(function: &mut Function, kind: Kind, ty: Type) -> Value {
        let value = function.new_value(ty);
        function.body.ops.push(Op { kind, results: Results::one(value), source: Source::default() });
        value
    }

    fn load(function: &mut Function, offset: u32) -> Value {
        let base = op(function, Kind::Const(Const::I32(0)), Type::I32);
        let address = Address { memory: 0, base, offset };
        op(function, Kind::Load { op: Load::I32, address, is_guarded: false }, Type::I32)
    }

    #[test]
    fn values_used_once_and_in_order_stay_on_the_stack() {
        let mut function = Function { results: vec![Type::I32], ..Function::default() };
        let (left, right) = (load(&mut function, 4), load(&mut function, 8));
        let sum = op(&mut function, Kind::Binary { op: Binary::I32Sub, left, right }, Type::I32);
        function.body.yields = vec![sum];
        let placement = Placement::of(&function);
        assert_eq!([left, right, sum].map(|value| placement.of_value(value)), [Place::Stack; 3]);
    }

    #[test]
    fn a_value_that_comes_too_late_gets_a_local() {
        let mut function = Function { results: vec![Type::I32], ..Function::default() };
        let (right, left) = (load(&mut function, 4), load(&mut function, 8));
        let difference = op(&mut function, Kind::Binary { op: Binary::I32Sub, left, right }, Type::I32);
        function.body.yields = vec![difference];
        let placement = Placement::of(&function);
        assert_eq!(placement.of_value(left), Place::Stack);
        assert_eq!(placement.of_value(right), Place::Local);
    }

    #[test]
    fn a_value_used_twice_is_kept_in_a_local_after_its_first_use() {
        let mut function = Function { results: vec![Type::I32], ..Function::default() };
        let value = load(&mut function, 4);
        let square = op(&mut function, Kind::Binary { op: Binary::I32Mul, left: value, right: value }, Type::I32);
        function.body.yields = vec![square];
        let placement = Placement::of(&function);
        assert_eq!(placement.of_value(value), Place::Tee);
        assert_eq!(placement.last_use(value), 2);
    }

    #[test]
    fn a_parameter_that_is_never_written_is_read_again() {
        let mut function = Function { params: 1, locals: vec![Type::I32], results: vec![Type::I32], ..Function::default() };
        let value = op(&mut function, Kind::LocalGet(Local(0)), Type::I32);
        let square = op(&mut function, Kind::Binary { op: Binary::I32Mul, left: value, right: value }, Type::I32);
        function.body.yields = vec![square];
        assert_eq!(Placement::of(&function).of_value(value), Place::Variable(0));
    }
}
