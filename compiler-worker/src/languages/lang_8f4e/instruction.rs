//! The instruction words of the language: one table, from which parsing, placement and messages work.

macro_rules! instructions {
    ($($variant:ident = $word:literal),+ $(,)?) => {
        /// An instruction of the language that can stand in a body (LANGUAGE §11, §14).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Instruction { $($variant),+ }

        impl Instruction {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word as written in a program.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

instructions! {
    Push = "push", Add = "add", Sub = "sub", Mul = "mul", Div = "div", Remainder = "remainder",
    And = "and", Or = "or", Xor = "xor",
    ShiftLeft = "shiftLeft", ShiftRight = "shiftRight", ShiftRightUnsigned = "shiftRightUnsigned",
    Min = "min", Max = "max", Abs = "abs", Sqrt = "sqrt", Round = "round",
    CastToFloat = "castToFloat", CastToFloat64 = "castToFloat64", CastToInt = "castToInt",
    Equal = "equal", NotEqual = "notEqual", LessThan = "lessThan", LessOrEqual = "lessOrEqual",
    GreaterThan = "greaterThan", GreaterOrEqual = "greaterOrEqual", GreaterOrEqualUnsigned = "greaterOrEqualUnsigned",
    EqualToZero = "equalToZero", NotZero = "notZero", EnsureNonZero = "ensureNonZero",
    Drop = "drop", ClearStack = "clearStack", Local = "local", LocalSet = "localSet",
    Load = "load", Load8s = "load8s", Load8u = "load8u", Load16s = "load16s", Load16u = "load16u", LoadFloat = "loadFloat",
    Store = "store", StoreBytes = "storeBytes", MemoryCopy = "memoryCopy",
    ClampAddress = "clampAddress", ClampModuleAddress = "clampModuleAddress", ClampGlobalAddress = "clampGlobalAddress",
    Loop = "loop", LoopEnd = "loopEnd", LoopIndex = "loopIndex", Block = "block", BlockEnd = "blockEnd",
    If = "if", Else = "else", IfEnd = "ifEnd", Branch = "branch", BranchIfTrue = "branchIfTrue",
    ExitIfTrue = "exitIfTrue", Return = "return", Call = "call",
    MapBegin = "mapBegin", Map = "map", Default = "default", MapEnd = "mapEnd",
    PushShape = "pushShape", Param = "param", ParamShape = "paramShape", FunctionEnd = "functionEnd",
}
