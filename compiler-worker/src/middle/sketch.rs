//! For the tests of passes: functions written down briefly.

use super::function::{Address, Function, FunctionId, Kind, Local, Op, Region, Results, Source, Value};
use super::operators::{Binary, Const, Load, Store, Type};
use super::program::{Export, Memory, Program};

/// A function being written. Operations go into the innermost open region.
pub struct Sketch {
    function: Function,
    open: Vec<Vec<Op>>,
}

impl Sketch {
    pub fn new(params: &[Type], results: &[Type]) -> Self {
        let function = Function { params: params.len(), locals: params.to_vec(), results: results.to_vec(), ..Function::default() };
        Self { function, open: vec![Vec::new()] }
    }

    pub fn local(&mut self, ty: Type) -> Local {
        self.function.new_local(ty)
    }

    fn push(&mut self, kind: Kind, results: Results) {
        self.open.last_mut().unwrap().push(Op { kind, results, source: Source::default() });
    }

    pub fn effect(&mut self, kind: Kind) {
        self.push(kind, Results::NONE);
    }

    pub fn value(&mut self, kind: Kind, ty: Type) -> Value {
        let value = self.function.new_value(ty);
        self.push(kind, Results::one(value));
        value
    }

    pub fn int(&mut self, value: i32) -> Value {
        self.value(Kind::Const(Const::I32(value)), Type::I32)
    }

    pub fn get(&mut self, local: Local) -> Value {
        let ty = self.function.locals[local.0 as usize];
        self.value(Kind::LocalGet(local), ty)
    }

    pub fn set(&mut self, local: Local, value: Value) {
        self.effect(Kind::LocalSet(local, value));
    }

    pub fn binary(&mut self, op: Binary, left: Value, right: Value) -> Value {
        self.value(Kind::Binary { op, left, right }, op.result())
    }

    fn at(base: Value) -> Address {
        Address { memory: 0, base, offset: 0 }
    }

    pub fn load(&mut self, base: Value, is_guarded: bool) -> Value {
        self.value(Kind::Load { op: Load::I32, address: Self::at(base), is_guarded }, Type::I32)
    }

    pub fn store(&mut self, base: Value, value: Value, is_guarded: bool) {
        self.effect(Kind::Store { op: Store::I32, address: Self::at(base), value, is_guarded });
    }

    pub fn call(&mut self, function: u32, arguments: Vec<Value>, result: Option<Type>) -> Option<Value> {
        let kind = Kind::Call { function: FunctionId(function), arguments };
        match result {
            Some(ty) => Some(self.value(kind, ty)),
            None => {
                self.effect(kind);
                None
            }
        }
    }

    /// Writes a region and gives it.
    pub fn region(&mut self, write: impl FnOnce(&mut Self) -> Vec<Value>) -> Region {
        self.open.push(Vec::new());
        let yields = write(self);
        Region { ops: self.open.pop().unwrap(), yields }
    }

    pub fn when(&mut self, condition: Value, then: Region, otherwise: Region) {
        self.effect(Kind::If { condition, then: Box::new(then), otherwise: Box::new(otherwise) });
    }

    pub fn finish(mut self, yields: Vec<Value>) -> Function {
        self.function.body = Region { ops: self.open.pop().unwrap(), yields };
        self.function
    }
}

/// A program with one page of memory that exports its first function.
pub fn program(functions: Vec<Function>) -> Program {
    Program {
        memories: vec![Memory { name: "memory".to_owned(), required_bytes: 64, initial_bytes: 0 }],
        functions,
        exports: vec![Export { name: "main".to_owned(), function: FunctionId(0) }],
        ..Program::default()
    }
}

/// The operations of a region and everything inside it, in order.
pub fn all_ops(region: &Region) -> Vec<&Kind> {
    let mut kinds = Vec::new();
    for op in &region.ops {
        kinds.push(&op.kind);
        op.kind.regions().for_each(|inner| kinds.extend(all_ops(inner)));
    }
    kinds
}
