//! Stack code: a body after analysis, one step per thing the operand stack sees.
//!
//! Names are locals and addresses, overloads are chosen, and it is decided which accesses are guarded (LANGUAGE §15.5). It is still the
//! program's own stack discipline, which need not be valid WebAssembly (LANGUAGE §25); [`super::build`] finds that out. Pure data.

use smallvec::SmallVec;

use crate::middle::function::Local;
use crate::middle::operators::{Binary, Const, Load, Store, Type, Unary};

/// A body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Code {
    pub steps: Vec<Step>,
    /// Parameters first.
    pub locals: Vec<Type>,
    /// How many of the locals are parameters.
    pub params: usize,
    pub results: Vec<Type>,
}

/// One step, and the index of the body line it stems from.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub op: StackOp,
    pub line: u32,
}

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Index into the program's functions.
    Function(usize),
    /// Index into the program's entries.
    Entry(usize),
}

/// What a step does to the operand stack (LANGUAGE §14, §15.4).
#[derive(Clone, Debug, PartialEq)]
pub enum StackOp {
    Const(Const),
    LocalGet(Local),
    LocalSet(Local),
    /// A `local` line: from here on the local exists. Declaring a local a second time has no meaning (LANGUAGE §25).
    LocalDeclare {
        local: Local,
        is_redeclared: bool,
    },
    /// Takes an address. `chain` is set in the dereference of a local pointer: the type of the value finally read, which is what the
    /// reference gives the guard of every level.
    Load {
        op: Load,
        memory: u32,
        is_guarded: bool,
        chain: Option<Type>,
    },
    /// Takes an address and a value.
    Store {
        op: Store,
        memory: u32,
        is_guarded: bool,
    },
    /// Takes `count` bytes and an address.
    StoreBytes {
        count: u32,
        memory: u32,
        is_guarded: bool,
    },
    /// Takes destination and source.
    MemoryCopy {
        bytes: u32,
        to: u32,
        from: u32,
        is_guarded: bool,
    },
    /// `memoryCopy 0`, which takes nothing although the language says it does.
    MemoryCopyNothing,
    Unary(Unary),
    Binary(Binary),
    /// The three that WebAssembly lacks for integers.
    IntAbs,
    IntMin,
    IntMax,
    /// Replaces zero by the constant.
    EnsureNonZero(Const),
    /// `round` of a float64, which has no instruction.
    RoundFloat64,
    /// An integer constant below −2³¹, which has no encoding.
    ConstTooSmall,
    /// Limits an address: signed against the lower, unsigned against the upper end.
    Clamp {
        low: i32,
        high: i32,
    },
    /// Limits an address to a memory, for an access of this width.
    ClampMemory {
        memory: u32,
        width: u32,
    },
    Drop,
    If {
        results: Vec<Type>,
    },
    Else,
    IfEnd,
    Block {
        results: Vec<Type>,
    },
    BlockEnd,
    Loop {
        cap: i32,
    },
    LoopEnd,
    LoopIndex,
    Branch(u32),
    BranchIf(u32),
    /// Leaves the module if the condition is not zero; `drops` items are on the analysis stack then.
    ExitIfTrue {
        drops: u32,
    },
    Return,
    Call {
        callee: Callee,
        params: SmallVec<[Type; 8]>,
        results: SmallVec<[Type; 8]>,
    },
    Map {
        input: Type,
        output: Type,
        rows: Vec<(Const, Const)>,
        default: Const,
    },
}
