//! A source block after reading its lines: statements with classified arguments, names not yet looked up.
//!
//! Made by [`super::syntax`], turned into a program by the stages after it. Everything borrows the text.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use rustc_hash::FxHashMap;

use super::arguments::{Name, Value};
use super::error::Place;
use super::instruction::Instruction;
use super::program::{BaseType, BlockId, DeclaredType, Span};

/// The kinds of blocks that hold instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    Module,
    Function,
    Constants,
    Prototype,
}

impl BlockKind {
    const ALL: [Self; 4] = [Self::Module, Self::Function, Self::Constants, Self::Prototype];

    /// The word that opens such a block.
    pub fn word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Function => "function",
            Self::Constants => "constants",
            Self::Prototype => "prototype",
        }
    }

    /// Reads an opener word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Directives of the prologue (LANGUAGE §17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    SkipExecution,
    InitOnly,
    Region,
    LoopCap,
    Impure,
    Export,
    Import,
}

impl Directive {
    const WORDS: &[(&str, Self)] = &[
        ("#skipExecution", Self::SkipExecution),
        ("#initOnly", Self::InitOnly),
        ("#region", Self::Region),
        ("#loopCap", Self::LoopCap),
        ("#impure", Self::Impure),
        ("#export", Self::Export),
        ("#import", Self::Import),
    ];
}

/// The first token of a line, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// What ends up in a body, `functionEnd` included.
    Body(Instruction),
    Declaration(DeclaredType),
    Const,
    Use,
    Shape,
    Directive(Directive),
    Opener(BlockKind),
    /// `moduleEnd`, `constantsEnd`, `prototypeEnd`; `functionEnd` is a body line.
    Closer(BlockKind),
}

impl Word {
    /// Reads the first token of a line; case-sensitive.
    pub fn from_token(token: &str) -> Option<Self> {
        static WORDS: LazyLock<FxHashMap<String, Word>> = LazyLock::new(words);
        WORDS.get(token).copied()
    }
}

/// Every word a line can start with.
fn words() -> FxHashMap<String, Word> {
    let mut words: FxHashMap<String, Word> = FxHashMap::default();
    words.extend(Instruction::ALL.iter().map(|&instruction| (instruction.word().to_owned(), Word::Body(instruction))));
    for base in BaseType::WORDS {
        let forms = ["", "*", "**"].into_iter().flat_map(|stars| ["", "[]"].map(|array| format!("{base}{stars}{array}")));
        words.extend(
            forms.filter_map(|form| DeclaredType::from_declaration_word(&form).map(|declared| (form, Word::Declaration(declared)))),
        );
    }
    words.extend(Directive::WORDS.iter().map(|&(word, directive)| (word.to_owned(), Word::Directive(directive))));
    words.extend(BlockKind::ALL.iter().map(|&kind| (kind.word().to_owned(), Word::Opener(kind))));
    let others = [
        ("const", Word::Const),
        ("use", Word::Use),
        ("shape", Word::Shape),
        ("moduleEnd", Word::Closer(BlockKind::Module)),
        ("constantsEnd", Word::Closer(BlockKind::Constants)),
        ("prototypeEnd", Word::Closer(BlockKind::Prototype)),
    ];
    words.extend(others.map(|(word, meaning)| (word.to_owned(), meaning)));
    words
}

impl BaseType {
    const WORDS: [&str; 8] = ["int", "int8", "int8u", "int16", "int16u", "int32", "float", "float64"];

    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "int" => Self::Int,
            "int8" => Self::Int8,
            "int8u" => Self::Int8u,
            "int16" => Self::Int16,
            "int16u" => Self::Int16u,
            "int32" => Self::Int32,
            "float" => Self::Float,
            "float64" => Self::Float64,
            _ => return None,
        })
    }
}

impl DeclaredType {
    /// Reads the first word of a memory declaration (LANGUAGE §6).
    pub fn from_declaration_word(word: &str) -> Option<Self> {
        let (element, is_array) = match word.strip_suffix("[]") {
            Some(element) => (element, true),
            None => (word, false),
        };
        let base_word = element.trim_end_matches('*');
        let declared =
            Self { base: BaseType::from_word(base_word)?, pointer_depth: u8::try_from(element.len() - base_word.len()).ok()?, is_array };
        let is_wide = matches!(declared.base, BaseType::Int | BaseType::Float | BaseType::Float64);
        let exists = match (is_array, declared.pointer_depth) {
            (_, 3..) => false,
            (false, 0) | (true, 1 | 2) => is_wide,
            (false, _) => declared.base != BaseType::Int32,
            (true, _) => true,
        };
        exists.then_some(declared)
    }

    /// Reads a type of a parameter, local or result: `int`, `float`, `float64` and the pointers (LANGUAGE §11).
    pub fn from_type_word(word: &str) -> Option<Self> {
        Self::from_declaration_word(word).filter(|declared| !declared.is_array)
    }
}

/// One argument of a statement.
#[derive(Clone, Debug)]
pub struct ParsedArgument<'a> {
    pub value: Value<'a>,
    /// The token as written; in library functions, the name that a called function finally has.
    pub text: Cow<'a, str>,
    pub span: Span,
}

impl<'a> ParsedArgument<'a> {
    /// The name it is, if it is nothing but a name.
    pub fn identifier(&self) -> Option<&'a str> {
        match self.value {
            Value::Name(Name::Plain(name) | Name::ConstantStyle(name)) => Some(name),
            _ => None,
        }
    }
}

/// Arguments of a statement: nearly always one, or none, which then need no memory of their own. (A `SmallVec` would not do: blocks of a
/// cache are used where shorter lifetimes are wanted.)
#[derive(Clone, Debug, Default)]
pub enum Arguments<'a> {
    #[default]
    None,
    One(ParsedArgument<'a>),
    Several(Vec<ParsedArgument<'a>>),
}

impl<'a> Arguments<'a> {
    pub fn push(&mut self, argument: ParsedArgument<'a>) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(argument),
            Self::One(first) => Self::Several(vec![first, argument]),
            Self::Several(mut arguments) => {
                arguments.push(argument);
                Self::Several(arguments)
            }
        };
    }

    pub fn as_slice(&self) -> &[ParsedArgument<'a>] {
        self
    }
}

impl<'a> Deref for Arguments<'a> {
    type Target = [ParsedArgument<'a>];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::None => &[],
            Self::One(argument) => std::slice::from_ref(argument),
            Self::Several(arguments) => arguments,
        }
    }
}

impl DerefMut for Arguments<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::None => &mut [],
            Self::One(argument) => std::slice::from_mut(argument),
            Self::Several(arguments) => arguments,
        }
    }
}

/// One logical line.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    pub word: Word,
    /// The first token as written.
    pub text: &'a str,
    pub span: Span,
    pub arguments: Arguments<'a>,
}

impl<'a> Statement<'a> {
    /// Where an error about the whole line is reported.
    pub fn place(&self, block: BlockId) -> Place<'a> {
        Place { block, span: self.span, instruction: self.text }
    }

    /// Where an error about one argument is reported: on the line the statement starts on.
    pub fn argument_place(&self, block: BlockId, argument: usize) -> Place<'a> {
        match self.arguments.get(argument) {
            Some(argument) if argument.span.line == self.span.line => Place { block, span: argument.span, instruction: self.text },
            _ => self.place(block),
        }
    }
}

/// A block whose lines have been read.
#[derive(Clone, Debug)]
pub struct ParsedBlock<'a> {
    pub kind: BlockKind,
    pub block: BlockId,
    /// Id as written behind the opener; for library functions the name they are called by.
    pub id: Cow<'a, str>,
    /// All logical lines, opener and closer included.
    pub statements: Vec<Statement<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_words_are_exactly_those_of_the_language() {
        let scalars =
            "int int* int** int8* int8** int8u* int8u** int16* int16** int16u* int16u** float float* float** float64 float64* float64**";
        let arrays =
            "int[] int8[] int8u[] int16[] int16u[] int32[] float[] float64[] int*[] int**[] float*[] float**[] float64*[] float64**[]";
        for word in scalars.split(' ').chain(arrays.split(' ')) {
            assert!(DeclaredType::from_declaration_word(word).is_some(), "{word}");
        }
        for word in ["int8", "int16", "int32", "int32*", "int***", "int8*[]", "int[][]", "Int", "*", "[]", "int[]*"] {
            assert!(DeclaredType::from_declaration_word(word).is_none(), "{word}");
        }
        assert!(DeclaredType::from_type_word("int[]").is_none());
    }
}
