//! Which arguments each instruction takes (LANGUAGE §14): how many, and of what shape.
//!
//! Only what can be told from the tokens themselves is checked here; whether a name exists is not.

use super::arguments::{Name, Number, Value};
use super::error::{LanguageError, SyntaxCode};
use super::instruction::Instruction;
use super::parsed::{Directive, ParsedArgument, Statement, Word};
use super::program::{BlockId, DeclaredType, LiteralKind};

/// What one argument may be. The second field of [`Shape`] is what the message calls it.
#[derive(Clone, Copy)]
enum Kind {
    Anything,
    Identifier,
    ConstantIdentifier,
    /// A name or a string.
    FieldName,
    /// Everything that may become a number: all but strings.
    CompileTimeValue,
    NonNegativeCompileTimeValue,
    NonNegativeIntegerCompileTimeValue,
    NonNegativeIntegerLiteral,
    RegionName,
    ResultType,
    MapType,
    ValueType,
    MapValue,
}

impl Kind {
    fn expectation(self) -> &'static str {
        match self {
            Self::Anything => "value",
            Self::Identifier => "identifier",
            Self::ConstantIdentifier => "constant identifier",
            Self::FieldName => "name or string",
            Self::CompileTimeValue => "compile-time value",
            Self::NonNegativeCompileTimeValue => "non-negative compile-time value",
            Self::NonNegativeIntegerCompileTimeValue => "non-negative integer compile-time value",
            Self::NonNegativeIntegerLiteral => "non-negative integer literal",
            Self::RegionName => "memory region name or index",
            Self::ResultType => "result type (int or float)",
            Self::MapType => "type (int, float or float64)",
            Self::ValueType => "type (int, float, float64 or a pointer type)",
            Self::MapValue => "compile-time value or single-character string",
        }
    }

    fn accepts(self, argument: &ParsedArgument<'_>) -> bool {
        let value = &argument.value;
        let is_text = matches!(value, Value::Text(_));
        match self {
            Self::Anything => true,
            Self::Identifier => matches!(value, Value::Name(Name::Plain(_) | Name::ConstantStyle(_))),
            Self::ConstantIdentifier => matches!(value, Value::Name(Name::ConstantStyle(_))),
            Self::FieldName => is_text || Self::Identifier.accepts(argument),
            Self::CompileTimeValue => !is_text,
            Self::NonNegativeCompileTimeValue => !is_text && !matches!(value, Value::Number(number) if number.value < 0.0),
            Self::NonNegativeIntegerCompileTimeValue => match value {
                Value::Number(number) => is_non_negative_int(number),
                value => !matches!(value, Value::Text(_)),
            },
            Self::NonNegativeIntegerLiteral => matches!(value, Value::Number(number) if is_non_negative_int(number)),
            Self::RegionName => matches!(value, Value::Number(_)) || Self::Identifier.accepts(argument),
            Self::ResultType => matches!(&*argument.text, "int" | "float"),
            Self::MapType => matches!(&*argument.text, "int" | "float" | "float64"),
            Self::ValueType => DeclaredType::from_type_word(&argument.text).is_some(),
            Self::MapValue => match value {
                Value::Text(text) => text.encode_utf16().count() == 1,
                _ => true,
            },
        }
    }
}

fn is_non_negative_int(number: &Number) -> bool {
    number.kind == LiteralKind::Int && number.value >= 0.0
}

/// Arguments an instruction must have, may have after those, and may have any number of after those.
struct Shape {
    required: &'static [Kind],
    optional: &'static [Kind],
    rest: Option<Kind>,
}

const fn shape(required: &'static [Kind], optional: &'static [Kind], rest: Option<Kind>) -> Shape {
    Shape { required, optional, rest }
}

fn shape_of(word: Word) -> Shape {
    use Kind as K;
    match word {
        Word::Opener(_) | Word::Use | Word::Shape => shape(&[K::Identifier], &[], None),
        Word::Closer(_) => shape(&[], &[], None),
        Word::Const => shape(&[K::ConstantIdentifier, K::CompileTimeValue], &[], None),
        Word::Declaration(declared) if declared.is_array => shape(&[K::Identifier, K::CompileTimeValue], &[], Some(K::CompileTimeValue)),
        Word::Declaration(_) => shape(&[], &[], Some(K::Anything)),
        Word::Directive(directive) => match directive {
            Directive::SkipExecution | Directive::InitOnly | Directive::Impure => shape(&[], &[], None),
            Directive::Region => shape(&[K::RegionName], &[], None),
            Directive::LoopCap => shape(&[K::NonNegativeIntegerLiteral], &[], None),
            Directive::Export => shape(&[], &[K::FieldName], None),
            Directive::Import => shape(&[K::FieldName], &[], None),
        },
        Word::Body(instruction) => body_shape(instruction),
    }
}

fn body_shape(instruction: Instruction) -> Shape {
    use Instruction as I;
    use Kind as K;
    match instruction {
        I::Push => shape(&[K::Anything], &[], None),
        I::EnsureNonZero | I::ClampAddress | I::ClampModuleAddress | I::ClampGlobalAddress => shape(&[], &[K::CompileTimeValue], None),
        I::Local | I::Param => shape(&[K::ValueType, K::Identifier], &[], None),
        I::LocalSet | I::PushShape | I::ParamShape => shape(&[K::Identifier], &[], None),
        I::StoreBytes => shape(&[K::NonNegativeIntegerCompileTimeValue], &[], None),
        I::MemoryCopy => shape(&[K::NonNegativeCompileTimeValue], &[], None),
        I::Loop => shape(&[], &[K::NonNegativeIntegerCompileTimeValue], None),
        I::Branch | I::BranchIfTrue => shape(&[K::CompileTimeValue], &[], None),
        I::BlockEnd => shape(&[], &[K::ResultType], None),
        I::IfEnd => shape(&[], &[], Some(K::ResultType)),
        I::Call => shape(&[K::Identifier], &[], Some(K::Anything)),
        I::MapBegin | I::MapEnd => shape(&[K::MapType], &[], None),
        I::Map => shape(&[K::MapValue], &[K::MapValue], None),
        I::Default => shape(&[K::CompileTimeValue], &[], None),
        I::FunctionEnd => shape(&[], &[], Some(K::ValueType)),
        _ => shape(&[], &[], None),
    }
}

/// Checks number and shape of a statement's arguments.
pub fn check(statement: &Statement<'_>, block: BlockId) -> Result<(), LanguageError> {
    let shape = shape_of(statement.word);
    let (count, required) = (statement.arguments.len(), shape.required.len());
    if count < required {
        let message = format!("Missing required argument for {}.", statement.text);
        return Err(LanguageError::about(SyntaxCode::MissingArgument, statement.place(block), message));
    }
    let known = required + shape.optional.len();
    if count > known && shape.rest.is_none() {
        let message = format!("Too many arguments for {}.", statement.text);
        return Err(LanguageError::about(SyntaxCode::InvalidArgument, statement.argument_place(block, known), message));
    }
    for (index, argument) in statement.arguments.iter().enumerate() {
        let of_front = shape.required.get(index).or_else(|| shape.optional.get(index.wrapping_sub(required)));
        let Some(kind) = of_front.or(shape.rest.as_ref()) else { break };
        if !kind.accepts(argument) {
            let message = format!("Invalid argument for {}: expected {}.", statement.text, kind.expectation());
            return Err(LanguageError::about(SyntaxCode::InvalidArgument, statement.argument_place(block, index), message));
        }
    }
    Ok(())
}
