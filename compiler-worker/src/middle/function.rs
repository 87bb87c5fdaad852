//! Functions of the middle: typed values, each defined once, in regions of structured control.
//!
//! A region is a list of operations that run in order; an operation defines zero or more values and may hold further regions.
//! A value may be used anywhere after its definition in the same region and in the regions nested there. What changes over
//! time is in locals (read and written explicitly) and in memory. Pure data: passes live in the files beside this one.

use super::operators::{Binary, Const, Load, Store, Type, Unary};

/// A value: the result of exactly one operation of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

/// A variable of a function. Parameters come first; all others are zero when the function is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Local(pub u32);

/// A function of the program: the imported ones first, then the defined ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// Where an operation stems from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// Index into the program's blocks.
    pub block: u32,
    /// 0-based line inside the block.
    pub line: u32,
}

/// A function with a body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// For people; two functions may share a name.
    pub name: String,
    /// How many of `locals` are parameters.
    pub params: usize,
    pub results: Vec<Type>,
    pub locals: Vec<Type>,
    /// Type of each value, indexed by [`Value`].
    pub values: Vec<Type>,
    pub body: Region,
}

impl Function {
    /// Makes room for a new value.
    pub fn new_value(&mut self, ty: Type) -> Value {
        self.values.push(ty);
        Value(self.values.len() as u32 - 1)
    }

    /// Makes room for a new local.
    pub fn new_local(&mut self, ty: Type) -> Local {
        self.locals.push(ty);
        Local(self.locals.len() as u32 - 1)
    }

    pub fn type_of(&self, value: Value) -> Type {
        self.values[value.0 as usize]
    }

    /// Types of an operation's results.
    pub fn types_of(&self, results: Results) -> &[Type] {
        &self.values[results.first as usize..(results.first + results.count) as usize]
    }

    /// Parameter types.
    pub fn param_types(&self) -> &[Type] {
        &self.locals[..self.params]
    }
}

/// Operations that run in order. Where the region ends normally it hands `yields` to the operation that holds it (to the caller,
/// for a body). A region whose last operation is a terminator never ends normally.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    pub ops: Vec<Op>,
    pub yields: Vec<Value>,
}

impl Region {
    /// Whether control never reaches the end of the region.
    pub fn is_terminated(&self) -> bool {
        self.ops.last().is_some_and(|op| op.kind.is_terminator())
    }
}

/// The values an operation defines: consecutive ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub first: u32,
    pub count: u32,
}

impl Results {
    pub const NONE: Self = Self { first: 0, count: 0 };

    /// Exactly one value.
    pub fn one(value: Value) -> Self {
        Self { first: value.0, count: 1 }
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = Value> {
        (self.first..self.first + self.count).map(Value)
    }

    /// The value, if there is exactly one.
    pub fn single(self) -> Option<Value> {
        (self.count == 1).then_some(Value(self.first))
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    pub kind: Kind,
    pub results: Results,
    pub source: Source,
}

/// An address in a memory: `base` plus `offset` as unsigned integers, without wrapping around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub memory: u32,
    pub base: Value,
    pub offset: u32,
}

/// A table of a multi-way selection: the value of the first row whose key equals the input, else the default.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceTable {
    pub rows: Vec<(Const, Const)>,
    pub default: Const,
}

/// What an operation does. Labels of branches count enclosing `If`, `Block` (one level each) and `Repeat` (two levels: 0 starts
/// the next iteration, 1 leaves it) from the inside. Regions and tables are boxed: there are few of them, and all operations
/// are as large as the largest.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Const(Const),
    Unary {
        op: Unary,
        operand: Value,
    },
    Binary {
        op: Binary,
        left: Value,
        right: Value,
    },
    /// `on_true` if the condition is not zero, else `on_false`.
    Select {
        condition: Value,
        on_true: Value,
        on_false: Value,
    },
    /// Multi-way selection.
    Choose {
        input: Value,
        table: Box<ChoiceTable>,
    },
    LocalGet(Local),
    LocalSet(Local, Value),
    /// A guarded load gives 0 where the address is outside the memory; an unguarded one traps.
    Load {
        op: Load,
        address: Address,
        is_guarded: bool,
    },
    /// A guarded store does nothing where the address is outside the memory; an unguarded one traps.
    Store {
        op: Store,
        address: Address,
        value: Value,
        is_guarded: bool,
    },
    /// Copies bytes, as if through a buffer. Guarded: does nothing unless both ranges lie inside their memories.
    MemoryCopy {
        to: Address,
        from: Address,
        bytes: u32,
        is_guarded: bool,
    },
    /// Sets the first `bytes` of a memory to zero.
    MemoryClear {
        memory: u32,
        bytes: u32,
    },
    /// Writes a data segment of the program to its place.
    MemoryInit {
        segment: u32,
    },
    Call {
        function: FunctionId,
        arguments: Vec<Value>,
    },
    If {
        condition: Value,
        then: Box<Region>,
        otherwise: Box<Region>,
    },
    /// A branch to its label goes behind it.
    Block {
        body: Box<Region>,
    },
    /// Runs its body at most `cap` times; `index` is the number of iterations before this one.
    Repeat {
        cap: u32,
        index: Local,
        body: Box<Region>,
    },
    Branch {
        depth: u32,
        values: Vec<Value>,
    },
    BranchIf {
        depth: u32,
        condition: Value,
        values: Vec<Value>,
    },
    Return {
        values: Vec<Value>,
    },
    /// Traps.
    Unreachable,
    /// Takes `work` operations off the budget and traps when none are left.
    Charge {
        work: u64,
    },
    /// Fills the budget up; at the start of what the host calls.
    ResetBudget,
}

impl Kind {
    /// Whether nothing behind the operation in its region can run.
    pub fn is_terminator(&self) -> bool {
        matches!(self, Self::Branch { .. } | Self::Return { .. } | Self::Unreachable)
    }

    /// The regions the operation holds.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        let (first, second) = match self {
            Self::If { then, otherwise, .. } => (Some(&**then), Some(&**otherwise)),
            Self::Block { body } | Self::Repeat { body, .. } => (Some(&**body), None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The regions the operation holds.
    pub fn regions_mut(&mut self) -> impl Iterator<Item = &mut Region> {
        let (first, second) = match self {
            Self::If { then, otherwise, .. } => (Some(&mut **then), Some(&mut **otherwise)),
            Self::Block { body } | Self::Repeat { body, .. } => (Some(&mut **body), None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Label levels the operation adds for branches inside it.
    pub fn label_levels(&self) -> u32 {
        match self {
            Self::If { .. } | Self::Block { .. } => 1,
            Self::Repeat { .. } => 2,
            _ => 0,
        }
    }

    /// Visits the values the operation itself uses, in the order in which they are evaluated; not those of its regions.
    pub fn for_each_operand(&self, mut visit: impl FnMut(Value)) {
        match self {
            Self::Unary { operand, .. } => visit(*operand),
            Self::Binary { left, right, .. } => {
                visit(*left);
                visit(*right);
            }
            Self::Select { condition, on_true, on_false } => {
                visit(*on_true);
                visit(*on_false);
                visit(*condition);
            }
            Self::Choose { input, .. } => visit(*input),
            Self::LocalSet(_, value) => visit(*value),
            Self::Load { address, .. } => visit(address.base),
            Self::Store { address, value, .. } => {
                visit(address.base);
                visit(*value);
            }
            Self::MemoryCopy { to, from, .. } => {
                visit(to.base);
                visit(from.base);
            }
            Self::Call { arguments: values, .. } | Self::Branch { values, .. } | Self::Return { values } => {
                values.iter().copied().for_each(visit);
            }
            Self::BranchIf { condition, values, .. } => {
                values.iter().copied().for_each(&mut visit);
                visit(*condition);
            }
            Self::If { condition, .. } => visit(*condition),
            Self::Const(_)
            | Self::LocalGet(_)
            | Self::MemoryClear { .. }
            | Self::MemoryInit { .. }
            | Self::Block { .. }
            | Self::Repeat { .. }
            | Self::Unreachable
            | Self::Charge { .. }
            | Self::ResetBudget => {}
        }
    }

    /// As [`Kind::for_each_operand`], to change them.
    pub fn for_each_operand_mut(&mut self, mut visit: impl FnMut(&mut Value)) {
        match self {
            Self::Unary { operand, .. } => visit(operand),
            Self::Binary { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Self::Select { condition, on_true, on_false } => {
                visit(on_true);
                visit(on_false);
                visit(condition);
            }
            Self::Choose { input, .. } => visit(input),
            Self::LocalSet(_, value) => visit(value),
            Self::Load { address, .. } => visit(&mut address.base),
            Self::Store { address, value, .. } => {
                visit(&mut address.base);
                visit(value);
            }
            Self::MemoryCopy { to, from, .. } => {
                visit(&mut to.base);
                visit(&mut from.base);
            }
            Self::Call { arguments: values, .. } | Self::Branch { values, .. } | Self::Return { values } => {
                values.iter_mut().for_each(visit);
            }
            Self::BranchIf { condition, values, .. } => {
                values.iter_mut().for_each(&mut visit);
                visit(condition);
            }
            Self::If { condition, .. } => visit(condition),
            Self::Const(_)
            | Self::LocalGet(_)
            | Self::MemoryClear { .. }
            | Self::MemoryInit { .. }
            | Self::Block { .. }
            | Self::Repeat { .. }
            | Self::Unreachable
            | Self::Charge { .. }
            | Self::ResetBudget => {}
        }
    }

    /// Whether the operation only computes: leaving it out when its results are unused changes nothing. `known` tells the
    /// constant a value is known to be, for divisors.
    pub fn is_pure(&self, known: impl Fn(Value) -> Option<Const>) -> bool {
        match self {
            Self::Const(_)
            | Self::Unary { .. }
            | Self::Select { .. }
            | Self::Choose { .. }
            | Self::LocalGet(_)
            | Self::Load { is_guarded: true, .. } => true,
            Self::Binary { op, right, .. } => match op {
                Binary::I32DivS => matches!(known(*right), Some(Const::I32(divisor)) if divisor != 0 && divisor != -1),
                Binary::I32RemS => matches!(known(*right), Some(Const::I32(divisor)) if divisor != 0),
                _ => true,
            },
            _ => false,
        }
    }
}
