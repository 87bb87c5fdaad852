//! Types, constants and operators of the middle.
//!
//! They are those of WebAssembly's numeric instructions, because every language ends there; an operator's discriminant is its
//! opcode. Pure data, shared by all passes.

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    I32,
    F32,
    F64,
}

impl Type {
    /// Zero of this type.
    pub fn zero(self) -> Const {
        match self {
            Self::I32 => Const::I32(0),
            Self::F32 => Const::F32(0),
            Self::F64 => Const::F64(0),
        }
    }
}

/// A constant. Floats are kept as bits, so that NaNs survive and constants can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Const {
    I32(i32),
    F32(u32),
    F64(u64),
}

impl Const {
    /// A 32-bit float constant.
    pub fn f32(value: f32) -> Self {
        Self::F32(value.to_bits())
    }

    /// A 64-bit float constant.
    pub fn f64(value: f64) -> Self {
        Self::F64(value.to_bits())
    }

    pub fn ty(self) -> Type {
        match self {
            Self::I32(_) => Type::I32,
            Self::F32(_) => Type::F32,
            Self::F64(_) => Type::F64,
        }
    }
}

/// Operators with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    I32Eqz,
    F32Abs,
    F32Sqrt,
    F32Nearest,
    F64Abs,
    F64Sqrt,
    F32ConvertI32,
    F64ConvertI32,
    F64PromoteF32,
    /// Saturating, signed; NaN becomes 0.
    I32TruncF32,
    /// Saturating, signed; NaN becomes 0.
    I32TruncF64,
}

impl Unary {
    pub fn operand(self) -> Type {
        match self {
            Self::I32Eqz | Self::F32ConvertI32 | Self::F64ConvertI32 => Type::I32,
            Self::F32Abs | Self::F32Sqrt | Self::F32Nearest | Self::F64PromoteF32 | Self::I32TruncF32 => Type::F32,
            Self::F64Abs | Self::F64Sqrt | Self::I32TruncF64 => Type::F64,
        }
    }

    pub fn result(self) -> Type {
        match self {
            Self::I32Eqz | Self::I32TruncF32 | Self::I32TruncF64 => Type::I32,
            Self::F32Abs | Self::F32Sqrt | Self::F32Nearest | Self::F32ConvertI32 => Type::F32,
            Self::F64Abs | Self::F64Sqrt | Self::F64ConvertI32 | Self::F64PromoteF32 => Type::F64,
        }
    }
}

/// Operators with two operands of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Binary {
    I32Eq = 0x46,
    I32Ne = 0x47,
    I32LtS = 0x48,
    I32LtU = 0x49,
    I32GtS = 0x4a,
    I32GtU = 0x4b,
    I32LeS = 0x4c,
    I32LeU = 0x4d,
    I32GeS = 0x4e,
    I32GeU = 0x4f,
    F32Eq = 0x5b,
    F32Ne = 0x5c,
    F32Lt = 0x5d,
    F32Gt = 0x5e,
    F32Le = 0x5f,
    F32Ge = 0x60,
    F64Eq = 0x61,
    F64Ne = 0x62,
    F64Lt = 0x63,
    F64Gt = 0x64,
    F64Le = 0x65,
    F64Ge = 0x66,
    I32Add = 0x6a,
    I32Sub = 0x6b,
    I32Mul = 0x6c,
    /// Traps on division by zero and on the smallest integer divided by −1.
    I32DivS = 0x6d,
    /// Traps on division by zero.
    I32RemS = 0x6f,
    I32And = 0x71,
    I32Or = 0x72,
    I32Xor = 0x73,
    I32Shl = 0x74,
    I32ShrS = 0x75,
    I32ShrU = 0x76,
    F32Add = 0x92,
    F32Sub = 0x93,
    F32Mul = 0x94,
    F32Div = 0x95,
    F32Min = 0x96,
    F32Max = 0x97,
    F64Add = 0xa0,
    F64Sub = 0xa1,
    F64Mul = 0xa2,
    F64Div = 0xa3,
    F64Min = 0xa4,
    F64Max = 0xa5,
}

impl Binary {
    /// Type of both operands.
    pub fn operand(self) -> Type {
        match self as u8 {
            0x46..=0x4f | 0x6a..=0x76 => Type::I32,
            0x5b..=0x60 | 0x92..=0x97 => Type::F32,
            _ => Type::F64,
        }
    }

    pub fn result(self) -> Type {
        if self.is_comparison() { Type::I32 } else { self.operand() }
    }

    /// Whether the result is 0 or 1.
    pub fn is_comparison(self) -> bool {
        matches!(self as u8, 0x46..=0x66)
    }

    /// Whether some operands make it trap.
    pub fn can_trap(self) -> bool {
        matches!(self, Self::I32DivS | Self::I32RemS)
    }

    /// Whether the operands may be swapped without changing a bit of the result. Float operators are left out: which of
    /// two NaNs survives depends on their order.
    pub fn is_commutative(self) -> bool {
        use Binary::*;
        matches!(self, I32Eq | I32Ne | I32Add | I32Mul | I32And | I32Or | I32Xor)
    }
}

/// How a load reads memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    I32,
    I32From8S,
    I32From8U,
    I32From16S,
    I32From16U,
    F32,
    F64,
}

impl Load {
    /// Bytes read.
    pub fn bytes(self) -> u32 {
        match self {
            Self::I32From8S | Self::I32From8U => 1,
            Self::I32From16S | Self::I32From16U => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    pub fn result(self) -> Type {
        match self {
            Self::F32 => Type::F32,
            Self::F64 => Type::F64,
            _ => Type::I32,
        }
    }
}

/// How a store writes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    I32,
    /// The low byte of an integer.
    I32Low8,
    F32,
    F64,
}

impl Store {
    /// Bytes written.
    pub fn bytes(self) -> u32 {
        match self {
            Self::I32Low8 => 1,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    pub fn operand(self) -> Type {
        match self {
            Self::I32 | Self::I32Low8 => Type::I32,
            Self::F32 => Type::F32,
            Self::F64 => Type::F64,
        }
    }

    /// The load that gives back exactly what this store wrote; `None` if the store drops bits.
    pub fn matching_load(self) -> Option<Load> {
        match self {
            Self::I32 => Some(Load::I32),
            Self::I32Low8 => None,
            Self::F32 => Some(Load::F32),
            Self::F64 => Some(Load::F64),
        }
    }
}
