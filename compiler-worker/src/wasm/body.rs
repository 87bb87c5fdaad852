//! Writes the body of one function: operations in order, operands where [`super::placement`] put them.
//!
//! Guards are written out here: memories have a fixed size, so "inside the memory" is a comparison with a constant
//! (LANGUAGE §15.6). Keeps a note of which bytes stem from which source line. Pure computation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wasm_encoder::{BlockType, InstructionSink, MemArg, ValType};

use super::module::TypeRegistry;
use super::placement::{Place, Placement};
use crate::middle::function::{Address, ChoiceTable, Function, Kind, Local, Op, Region, Results, Source, Value};
use crate::middle::operators::{Binary, Const, Load, Store, Type, Unary};
use crate::middle::program::Program;

/// Index of the global that holds what is left of the work budget.
const BUDGET_GLOBAL: u32 = 0;

/// A function's bytes.
#[derive(Debug)]
pub struct Body {
    /// Locals and code, without the length in front.
    pub bytes: Vec<u8>,
    /// Offsets into `bytes`, ascending, and what follows there.
    pub points: Vec<Point>,
}

/// From `offset` on, code stems from `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub offset: u32,
    pub source: Source,
    /// The budget's own trap.
    pub is_budget: bool,
}

/// Writes the body of a function of `program`.
pub fn write(program: &Program, function: &Function, types: &mut TypeRegistry) -> Body {
    let mut writer = Writer {
        program,
        function,
        types,
        placement: Placement::of(function),
        code: Vec::with_capacity(function.values.len() * 6),
        points: Vec::new(),
        variables: Variables::new(function),
        homes: vec![u32::MAX; function.values.len()],
        is_on_stack: vec![false; function.values.len()],
        labels: Vec::new(),
        depth: 0,
    };
    writer.region(&function.body);
    writer.sink().end();
    writer.finish()
}

pub fn val_type(ty: Type) -> ValType {
    match ty {
        Type::I32 => ValType::I32,
        Type::F32 => ValType::F32,
        Type::F64 => ValType::F64,
    }
}

/// WebAssembly's locals: those of the function that are used, then those that values live in.
struct Variables {
    /// Index of each local of the function; assigned when first needed, parameters at once.
    of_function: Vec<Option<u32>>,
    params: u32,
    /// Types behind the parameters.
    types: Vec<Type>,
    /// Free ones, by type.
    free: [Vec<u32>; 3],
}

impl Variables {
    fn new(function: &Function) -> Self {
        let params = function.params as u32;
        let of_function = (0..function.locals.len() as u32).map(|index| (index < params).then_some(index)).collect();
        Self { of_function, params, types: Vec::new(), free: Default::default() }
    }

    fn fresh(&mut self, ty: Type) -> u32 {
        self.types.push(ty);
        self.params + self.types.len() as u32 - 1
    }

    fn take(&mut self, ty: Type) -> u32 {
        self.free[ty as usize].pop().unwrap_or_else(|| self.fresh(ty))
    }

    fn give_back(&mut self, ty: Type, index: u32) {
        self.free[ty as usize].push(index);
    }
}

struct Writer<'a> {
    program: &'a Program,
    function: &'a Function,
    types: &'a mut TypeRegistry,
    placement: Placement,
    code: Vec<u8>,
    points: Vec<Point>,
    variables: Variables,
    /// Where values in locals live.
    homes: Vec<u32>,
    /// Values in locals whose first use will still find them on the stack.
    is_on_stack: Vec<bool>,
    /// Depth of the WebAssembly block that each label of the middle leads out of (or to the start of), from the outside.
    labels: Vec<u32>,
    /// WebAssembly blocks that are open.
    depth: u32,
}

impl Writer<'_> {
    fn finish(self) -> Body {
        let mut bytes = Vec::with_capacity(self.code.len() + 16);
        let mut groups: Vec<(u32, Type)> = Vec::new();
        for &ty in &self.variables.types {
            match groups.last_mut() {
                Some((count, last)) if *last == ty => *count += 1,
                _ => groups.push((1, ty)),
            }
        }
        let groups = groups.into_iter().map(|(count, ty)| (count, val_type(ty)));
        bytes.extend(wasm_encoder::Function::new(groups.collect::<Vec<_>>()).into_raw_body());
        let header = bytes.len() as u32;
        bytes.extend(self.code);
        let points = self.points.into_iter().map(|point| Point { offset: point.offset + header, ..point }).collect();
        Body { bytes, points }
    }

    fn sink(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    fn mark(&mut self, source: Source, is_budget: bool) {
        let offset = self.code.len() as u32;
        if self.points.last().is_some_and(|last| last.source == source && last.is_budget == is_budget) {
            return;
        }
        // An operation that wrote nothing leaves its point to the next one.
        if self.points.last().is_some_and(|last| last.offset == offset) {
            self.points.pop();
        }
        self.points.push(Point { offset, source, is_budget });
    }

    fn region(&mut self, region: &Region) {
        let mut expiring: BinaryHeap<Reverse<(u32, u32)>> = BinaryHeap::new();
        for (index, op) in region.ops.iter().enumerate() {
            if self.is_made_at_its_uses(op) {
                continue;
            }
            self.mark(op.source, false);
            self.op(op);
            self.store_results(op.results, &mut expiring);
            self.expire(&mut expiring, index as u32);
        }
        region.yields.iter().for_each(|&value| self.operand(value));
        self.expire(&mut expiring, u32::MAX);
    }

    /// Whether nothing is written here: a constant or variable that is not needed on the stack now.
    fn is_made_at_its_uses(&self, op: &Op) -> bool {
        let place = op.results.single().map(|value| self.placement.of_value(value));
        matches!(op.kind, Kind::Const(_) | Kind::LocalGet(_))
            && matches!(place, Some(Place::Unused | Place::Constant(_) | Place::Variable(_)))
    }

    /// Frees the locals of values whose last use was at or before `index`.
    fn expire(&mut self, expiring: &mut BinaryHeap<Reverse<(u32, u32)>>, index: u32) {
        while let Some(Reverse((last, value))) = expiring.peek().copied() {
            if last > index {
                return;
            }
            expiring.pop();
            let ty = self.function.type_of(Value(value));
            self.variables.give_back(ty, self.homes[value as usize]);
        }
    }

    // --------------------------------------------------------------------------------------------- values

    fn home(&mut self, value: Value, expiring: &mut BinaryHeap<Reverse<(u32, u32)>>) -> u32 {
        let home = self.variables.take(self.function.type_of(value));
        self.homes[value.0 as usize] = home;
        self.is_on_stack[value.0 as usize] = self.placement.of_value(value) == Place::Tee;
        expiring.push(Reverse((self.placement.last_use(value), value.0)));
        home
    }

    /// The results are on the stack, the last one on top: puts each where it belongs.
    fn store_results(&mut self, results: Results, expiring: &mut BinaryHeap<Reverse<(u32, u32)>>) {
        let stays = |place| matches!(place, Place::Stack);
        let settled = results.iter().take_while(|&value| stays(self.placement.of_value(value))).count() as u32;
        let rest = Results { first: results.first + settled, count: results.count - settled };
        if let Some(value) = rest.single() {
            match self.placement.of_value(value) {
                Place::Tee => {
                    let home = self.home(value, expiring);
                    self.sink().local_tee(home);
                }
                Place::Local => {
                    let home = self.home(value, expiring);
                    self.sink().local_set(home);
                }
                Place::Unused => {
                    self.sink().drop();
                }
                // Made again at each use: nothing was written.
                Place::Stack | Place::Constant(_) | Place::Variable(_) => {}
            }
            return;
        }
        self.store_several(rest, expiring);
    }

    /// Several results, of which the lowest does not just stay: everything goes into locals, and back what stays.
    fn store_several(&mut self, results: Results, expiring: &mut BinaryHeap<Reverse<(u32, u32)>>) {
        let mut back = Vec::new();
        for value in results.iter().rev() {
            match self.placement.of_value(value) {
                Place::Local => {
                    let home = self.home(value, expiring);
                    self.sink().local_set(home);
                }
                Place::Tee => {
                    let home = self.home(value, expiring);
                    self.sink().local_set(home);
                    back.push((home, None));
                }
                Place::Stack => {
                    let ty = self.function.type_of(value);
                    let home = self.variables.take(ty);
                    self.sink().local_set(home);
                    back.push((home, Some(ty)));
                }
                Place::Unused | Place::Constant(_) | Place::Variable(_) => {
                    self.sink().drop();
                }
            }
        }
        for (home, borrowed) in back.into_iter().rev() {
            self.sink().local_get(home);
            if let Some(ty) = borrowed {
                self.variables.give_back(ty, home);
            }
        }
    }

    /// Makes sure the value is on the stack; values that stay there are already.
    fn operand(&mut self, value: Value) {
        match self.placement.of_value(value) {
            Place::Stack => {}
            // The first use finds it on the stack; from then on it is in its local.
            Place::Tee if std::mem::take(&mut self.is_on_stack[value.0 as usize]) => {}
            _ => self.read(value),
        }
    }

    /// Reads a value that does not only live on the stack.
    fn read(&mut self, value: Value) {
        match self.placement.of_value(value) {
            Place::Constant(constant) => self.constant(constant),
            Place::Variable(local) => {
                let index = self.local(Local(local));
                self.sink().local_get(index);
            }
            _ => {
                let home = self.homes[value.0 as usize];
                self.sink().local_get(home);
            }
        }
    }

    fn local(&mut self, local: Local) -> u32 {
        let index = local.0 as usize;
        if let Some(known) = self.variables.of_function[index] {
            return known;
        }
        let fresh = self.variables.fresh(self.function.locals[index]);
        self.variables.of_function[index] = Some(fresh);
        fresh
    }

    fn constant(&mut self, constant: Const) {
        match constant {
            Const::I32(value) => self.sink().i32_const(value),
            Const::F32(bits) => self.sink().f32_const(wasm_encoder::Ieee32::new(bits)),
            Const::F64(bits) => self.sink().f64_const(wasm_encoder::Ieee64::new(bits)),
        };
    }

    // ----------------------------------------------------------------------------------------- operations

    fn op(&mut self, op: &Op) {
        match &op.kind {
            Kind::Const(constant) => self.constant(*constant),
            Kind::LocalGet(local) => {
                let index = self.local(*local);
                self.sink().local_get(index);
            }
            Kind::LocalSet(local, value) => {
                self.operand(*value);
                let index = self.local(*local);
                self.sink().local_set(index);
            }
            Kind::Unary { op, operand } => {
                self.operand(*operand);
                self.unary(*op);
            }
            Kind::Binary { op, left, right } => {
                self.operand(*left);
                self.operand(*right);
                self.code.push(*op as u8);
            }
            Kind::Select { condition, on_true, on_false } => {
                [on_true, on_false, condition].into_iter().for_each(|&value| self.operand(value));
                self.sink().select();
            }
            Kind::Choose { input, table } => self.choose(*input, table),
            Kind::Load { op, address, is_guarded } => self.load(*op, *address, *is_guarded),
            Kind::Store { op, address, value, is_guarded } => self.store(*op, *address, *value, *is_guarded),
            Kind::MemoryCopy { to, from, bytes, is_guarded } => self.memory_copy(*to, *from, *bytes, *is_guarded),
            Kind::MemoryClear { memory, bytes } => {
                let mut sink = self.sink();
                sink.i32_const(0).i32_const(0).i32_const(*bytes as i32).memory_fill(*memory);
            }
            Kind::MemoryInit { segment } => self.memory_init(*segment),
            Kind::Call { function, arguments } => {
                arguments.iter().for_each(|&value| self.operand(value));
                self.sink().call(function.0);
            }
            Kind::If { condition, then, otherwise } => self.if_else(op, *condition, then, otherwise),
            Kind::Block { body } => {
                let block = self.block_type(op.results);
                self.sink().block(block);
                self.labelled(body);
                self.sink().end();
            }
            Kind::Repeat { cap, index, body } => self.repeat(*cap, *index, body),
            Kind::Branch { depth, values } => {
                values.iter().for_each(|&value| self.operand(value));
                let depth = self.label(*depth);
                self.sink().br(depth);
            }
            Kind::BranchIf { depth, condition, values } => self.branch_if(*depth, *condition, values),
            Kind::Return { values } => {
                values.iter().for_each(|&value| self.operand(value));
                self.sink().return_();
            }
            Kind::Unreachable => {
                self.sink().unreachable();
            }
            Kind::Charge { work } => self.charge(*work, op.source),
            Kind::ResetBudget => {
                let budget = self.program.budget.unwrap_or(0).min(i64::MAX as u64) as i64;
                self.sink().i64_const(budget).global_set(BUDGET_GLOBAL);
            }
        }
    }

    fn unary(&mut self, op: Unary) {
        let mut sink = self.sink();
        match op {
            Unary::I32Eqz => sink.i32_eqz(),
            Unary::F32Abs => sink.f32_abs(),
            Unary::F32Sqrt => sink.f32_sqrt(),
            Unary::F32Nearest => sink.f32_nearest(),
            Unary::F64Abs => sink.f64_abs(),
            Unary::F64Sqrt => sink.f64_sqrt(),
            Unary::F32ConvertI32 => sink.f32_convert_i32_s(),
            Unary::F64ConvertI32 => sink.f64_convert_i32_s(),
            Unary::F64PromoteF32 => sink.f64_promote_f32(),
            Unary::I32TruncF32 => sink.i32_trunc_sat_f32_s(),
            Unary::I32TruncF64 => sink.i32_trunc_sat_f64_s(),
        };
    }

    /// The first matching row wins: selections from the last row to the first, each replacing what comes after it.
    fn choose(&mut self, input: Value, table: &ChoiceTable) {
        let Some((first, _)) = table.rows.first() else {
            self.operand(input);
            self.sink().drop();
            self.constant(table.default);
            return;
        };
        let (equal, ty) = match first.ty() {
            Type::I32 => (Binary::I32Eq, Type::I32),
            Type::F32 => (Binary::F32Eq, Type::F32),
            Type::F64 => (Binary::F64Eq, Type::F64),
        };
        self.operand(input);
        let held = self.variables.take(ty);
        self.sink().local_set(held);
        // Values are pushed first row first, so that the innermost selection is between the last row and the default.
        table.rows.iter().for_each(|(_, value)| self.constant(*value));
        self.constant(table.default);
        for (key, _) in table.rows.iter().rev() {
            self.sink().local_get(held);
            self.constant(*key);
            self.code.push(equal as u8);
            self.sink().select();
        }
        self.variables.give_back(ty, held);
    }

    // --------------------------------------------------------------------------------------------- memory

    fn argument(&self, address: Address, bytes: u32) -> MemArg {
        MemArg { offset: u64::from(address.offset), align: bytes.trailing_zeros(), memory_index: address.memory }
    }

    /// Largest base for which an access of `bytes` lies inside the memory; `None` if there is none.
    fn last_base(&self, address: Address, bytes: u32) -> Option<i32> {
        let end = u64::from(address.offset) + u64::from(bytes);
        self.program.memory_bytes(address.memory).checked_sub(end).map(|last| last as u32 as i32)
    }

    /// Puts a value on the stack that is needed again: gives the local it can be read from, and whether that is to be given back.
    fn hold(&mut self, value: Value) -> Held {
        if !matches!(self.placement.of_value(value), Place::Stack) && !self.is_on_stack[value.0 as usize] {
            self.read(value);
            return Held::Value(value);
        }
        self.operand(value);
        if self.placement.of_value(value) == Place::Tee {
            return Held::Value(value);
        }
        let local = self.variables.take(Type::I32);
        self.sink().local_tee(local);
        Held::Local(local)
    }

    fn read_held(&mut self, held: &Held) {
        match *held {
            Held::Value(value) => self.read(value),
            Held::Local(local) => {
                self.sink().local_get(local);
            }
        }
    }

    fn let_go(&mut self, held: Held) {
        if let Held::Local(local) = held {
            self.variables.give_back(Type::I32, local);
        }
    }

    fn load(&mut self, op: Load, address: Address, is_guarded: bool) {
        if !is_guarded {
            self.operand(address.base);
            self.load_code(op, address);
            return;
        }
        let Some(last) = self.last_base(address, op.bytes()) else {
            self.operand(address.base);
            self.sink().drop();
            self.constant(op.result().zero());
            return;
        };
        let held = self.hold(address.base);
        self.sink().i32_const(last).i32_le_u().if_(BlockType::Result(val_type(op.result())));
        self.read_held(&held);
        self.load_code(op, address);
        self.sink().else_();
        self.constant(op.result().zero());
        self.sink().end();
        self.let_go(held);
    }

    fn load_code(&mut self, op: Load, address: Address) {
        let argument = self.argument(address, op.bytes());
        let mut sink = self.sink();
        match op {
            Load::I32 => sink.i32_load(argument),
            Load::I32From8S => sink.i32_load8_s(argument),
            Load::I32From8U => sink.i32_load8_u(argument),
            Load::I32From16S => sink.i32_load16_s(argument),
            Load::I32From16U => sink.i32_load16_u(argument),
            Load::F32 => sink.f32_load(argument),
            Load::F64 => sink.f64_load(argument),
        };
    }

    fn store(&mut self, op: Store, address: Address, value: Value, is_guarded: bool) {
        if !is_guarded {
            self.operand(address.base);
            self.operand(value);
            self.store_code(op, address);
            return;
        }
        let Some(last) = self.last_base(address, op.bytes()) else {
            self.operand(address.base);
            self.sink().drop();
            return;
        };
        let held = self.hold(address.base);
        self.sink().i32_const(last).i32_le_u().if_(BlockType::Empty);
        self.read_held(&held);
        self.read(value);
        self.store_code(op, address);
        self.sink().end();
        self.let_go(held);
    }

    fn store_code(&mut self, op: Store, address: Address) {
        let argument = self.argument(address, op.bytes());
        let mut sink = self.sink();
        match op {
            Store::I32 => sink.i32_store(argument),
            Store::I32Low8 => sink.i32_store8(argument),
            Store::F32 => sink.f32_store(argument),
            Store::F64 => sink.f64_store(argument),
        };
    }

    fn memory_copy(&mut self, to: Address, from: Address, bytes: u32, is_guarded: bool) {
        self.operand(to.base);
        self.operand(from.base);
        if !is_guarded {
            self.sink().i32_const(bytes as i32).memory_copy(to.memory, from.memory);
            return;
        }
        let (Some(last_to), Some(last_from)) = (self.last_base(to, bytes), self.last_base(from, bytes)) else {
            self.sink().drop().drop();
            return;
        };
        let (to_local, from_local) = (self.variables.take(Type::I32), self.variables.take(Type::I32));
        let mut sink = self.sink();
        sink.local_set(from_local).local_set(to_local);
        sink.local_get(to_local).i32_const(last_to).i32_le_u();
        sink.local_get(from_local).i32_const(last_from).i32_le_u().i32_and().if_(BlockType::Empty);
        sink.local_get(to_local).local_get(from_local).i32_const(bytes as i32).memory_copy(to.memory, from.memory).end();
        self.variables.give_back(Type::I32, to_local);
        self.variables.give_back(Type::I32, from_local);
    }

    fn memory_init(&mut self, index: u32) {
        if let Some(segment) = self.program.segments.get(index as usize) {
            let (memory, address, bytes) = (segment.memory, segment.address as i32, segment.bytes.len() as i32);
            self.sink().i32_const(address).i32_const(0).i32_const(bytes).memory_init(memory, index);
        }
    }

    // ------------------------------------------------------------------------------------------- structure

    fn block_type(&mut self, results: Results) -> BlockType {
        match self.function.types_of(results) {
            [] => BlockType::Empty,
            [ty] => BlockType::Result(val_type(*ty)),
            several => BlockType::FunctionType(self.types.index(&[], several)),
        }
    }

    /// Writes a region inside a block that has just been opened and is one label.
    fn labelled(&mut self, region: &Region) {
        self.depth += 1;
        self.labels.push(self.depth);
        self.region(region);
        self.labels.pop();
        self.depth -= 1;
    }

    /// WebAssembly's relative depth of a label of the middle.
    fn label(&self, depth: u32) -> u32 {
        let index = self.labels.len() - 1 - depth as usize;
        self.depth - self.labels[index]
    }

    fn if_else(&mut self, op: &Op, condition: Value, then: &Region, otherwise: &Region) {
        self.operand(condition);
        let block = self.block_type(op.results);
        let (is_then_empty, is_else_empty) = (is_empty(then), is_empty(otherwise));
        if is_then_empty && is_else_empty {
            self.sink().drop();
            return;
        }
        if is_then_empty {
            self.sink().i32_eqz().if_(block);
            self.labelled(otherwise);
        } else {
            self.sink().if_(block);
            self.labelled(then);
            if !is_else_empty {
                self.sink().else_();
                self.labelled(otherwise);
            }
        }
        self.sink().end();
    }

    /// A counted loop with the test at its end. Blocks for leaving and continuing are there only where a branch wants them.
    fn repeat(&mut self, cap: u32, index: Local, body: &Region) {
        let index = self.local(index);
        self.sink().i32_const(0).local_set(index);
        if cap == 0 {
            return;
        }
        let (continues, leaves) = (has_branch(body, 0), has_branch(body, 1));
        if leaves {
            self.sink().block(BlockType::Empty);
            self.depth += 1;
        }
        self.labels.push(self.depth);
        self.sink().loop_(BlockType::Empty);
        self.depth += 1;
        if continues {
            self.sink().block(BlockType::Empty);
            self.depth += 1;
        }
        self.labels.push(self.depth);
        self.region(body);
        self.labels.pop();
        self.labels.pop();
        if continues {
            self.sink().end();
            self.depth -= 1;
        }
        let mut sink = self.sink();
        sink.local_get(index).i32_const(1).i32_add().local_tee(index).i32_const(cap as i32).i32_lt_u().br_if(0).end();
        self.depth -= 1;
        if leaves {
            self.sink().end();
            self.depth -= 1;
        }
    }

    fn branch_if(&mut self, depth: u32, condition: Value, values: &[Value]) {
        self.operand(condition);
        if values.is_empty() {
            let depth = self.label(depth);
            self.sink().br_if(depth);
            return;
        }
        self.sink().if_(BlockType::Empty);
        self.depth += 1;
        values.iter().for_each(|&value| self.read(value));
        let depth = self.label(depth);
        self.sink().br(depth).end();
        self.depth -= 1;
    }

    fn charge(&mut self, work: u64, source: Source) {
        let work = work.min(i64::MAX as u64) as i64;
        // Cranelift makes one conditional trap of the `if` and its `unreachable`, at the offset of the `if`: the mark stands
        // before the whole sequence, in which nothing else can trap.
        self.mark(source, true);
        let mut sink = self.sink();
        sink.global_get(BUDGET_GLOBAL).i64_const(work).i64_sub().global_set(BUDGET_GLOBAL);
        sink.global_get(BUDGET_GLOBAL).i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
        self.mark(source, false);
    }
}

/// An operand that is needed twice.
enum Held {
    Value(Value),
    Local(u32),
}

fn is_empty(region: &Region) -> bool {
    region.ops.is_empty() && region.yields.is_empty()
}

/// Whether something in the region branches to the label that has this depth at its start.
fn has_branch(region: &Region, label: u32) -> bool {
    region.ops.iter().any(|op| {
        let goes = matches!(&op.kind, Kind::Branch { depth, .. } | Kind::BranchIf { depth, .. } if *depth == label);
        goes || op.kind.regions().any(|inner| has_branch(inner, label + op.kind.label_levels()))
    })
}
