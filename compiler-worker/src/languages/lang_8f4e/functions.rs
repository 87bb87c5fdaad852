//! Functions as their callers see them: signatures, overload sets, exports, imports (LANGUAGE §11; pass 7 of §1).
//!
//! Looks at directives, parameters and result types only, never at what a body does. Pure computation.

use std::borrow::Cow;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::error::{CompilerCode, LanguageError, Place};
use super::instruction::Instruction;
use super::program::{Argument, BaseType, DeclaredType, Function, Line, Program, Prototype, Span};
use crate::middle::operators::Type;

/// Most parameters and results a function can have.
const MAX_PARAMS: usize = 16;
const MAX_RESULTS: usize = 8;

/// Exports that the compiler itself makes.
pub const INIT_DEFAULTS: &str = "initDefaults";
pub const INIT_ONLY: &str = "initOnly";

/// Type of a parameter, local or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VariableType {
    Scalar(Type),
    /// `depth` stars behind `base`; an integer for WebAssembly.
    Pointer {
        base: BaseType,
        depth: u8,
    },
}

impl VariableType {
    /// Reads `int`, `float64`, `int16u*`, …
    pub fn from_word(word: &str) -> Option<Self> {
        let base_word = word.trim_end_matches('*');
        let depth = (word.len() - base_word.len()) as u8;
        match (base_word, depth) {
            ("int", 0) => Some(Self::Scalar(Type::I32)),
            ("float", 0) => Some(Self::Scalar(Type::F32)),
            ("float64", 0) => Some(Self::Scalar(Type::F64)),
            (_, 1 | 2) => Some(Self::Pointer { base: pointee_base(base_word)?, depth }),
            _ => None,
        }
    }

    /// What it is for WebAssembly.
    pub fn ty(self) -> Type {
        match self {
            Self::Scalar(ty) => ty,
            Self::Pointer { .. } => Type::I32,
        }
    }

    /// As written in the language.
    pub fn word(self) -> String {
        match self {
            Self::Scalar(Type::I32) => "int".to_owned(),
            Self::Scalar(Type::F32) => "float".to_owned(),
            Self::Scalar(Type::F64) => "float64".to_owned(),
            Self::Pointer { base, depth } => format!("{}{}", base_word(base), "*".repeat(usize::from(depth))),
        }
    }
}

fn pointee_base(word: &str) -> Option<BaseType> {
    Some(match word {
        "int" => BaseType::Int,
        "int8" => BaseType::Int8,
        "int8u" => BaseType::Int8u,
        "int16" => BaseType::Int16,
        "int16u" => BaseType::Int16u,
        "float" => BaseType::Float,
        "float64" => BaseType::Float64,
        _ => return None,
    })
}

fn base_word(base: BaseType) -> &'static str {
    match base {
        BaseType::Int => "int",
        BaseType::Int8 => "int8",
        BaseType::Int8u => "int8u",
        BaseType::Int16 => "int16",
        BaseType::Int16u => "int16u",
        BaseType::Int32 => "int32",
        BaseType::Float => "float",
        BaseType::Float64 => "float64",
    }
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub name: String,
    pub ty: VariableType,
}

/// A function from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    pub name: String,
    pub params: Vec<Param>,
    pub results: Vec<VariableType>,
    /// Name it is exported under.
    pub export: Option<String>,
    /// Field of the host it is imported from; then it has no body.
    pub import: Option<String>,
}

impl Signature {
    /// The language's name for an overload, such as `boost__int` or `tick__float_p_void`.
    fn id(&self) -> String {
        let types: Vec<String> = self.params.iter().map(|param| param.ty.word().replace('*', "_p")).collect();
        let types = if types.is_empty() { "void".to_owned() } else { types.join("__") };
        format!("{}__{types}", self.name)
    }

    /// `name(int, float*)`, for messages.
    pub fn shown(&self) -> String {
        let types: Vec<String> = self.params.iter().map(|param| param.ty.word()).collect();
        format!("{}({})", self.name, types.join(", "))
    }
}

/// All functions of a program, parallel to [`Program::functions`].
#[derive(Clone, Debug, Default)]
pub struct Functions {
    pub signatures: Vec<Cow<'static, Signature>>,
    by_name: FxHashMap<Cow<'static, str>, SmallVec<[usize; 2]>>,
}

impl Functions {
    /// The overloads of a name, in document order; empty when there is none.
    pub fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], SmallVec::as_slice)
    }

    /// Reads the signatures of all functions. On errors: the first of each function, in document order.
    pub fn of(program: &Program) -> Result<Self, Vec<LanguageError>> {
        let mut functions = Self::default();
        functions.signatures.reserve(program.functions.len());
        functions.by_name.reserve(program.functions.len());
        let mut export_names: FxHashSet<&str> = program.entries.iter().map(String::as_str).collect();
        export_names.insert(INIT_DEFAULTS);
        if program.modules.iter().any(|module| module.init_only) {
            export_names.insert(INIT_ONLY);
        }
        let mut errors = Vec::new();
        for function in &program.functions {
            let read = signature(program, function).and_then(|signature| {
                functions.check_name(program, function, &signature)?;
                check_exports(function, &mut export_names)?;
                Ok(signature)
            });
            match read {
                Ok(signature) => functions.add(signature),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            errors.extend(program.functions.iter().filter_map(|function| functions.overloaded_export(function)));
        }
        if errors.is_empty() { Ok(functions) } else { Err(errors) }
    }

    fn add(&mut self, signature: Cow<'static, Signature>) {
        let name = match &signature {
            Cow::Borrowed(known) => Cow::Borrowed(known.name.as_str()),
            Cow::Owned(own) => Cow::Owned(own.name.clone()),
        };
        self.by_name.entry(name).or_default().push(self.signatures.len());
        self.signatures.push(signature);
    }

    fn check_name(&self, program: &Program, function: &Function, signature: &Signature) -> Result<(), LanguageError> {
        let place = Place::of_opener(function.block, "function");
        if program.entries.contains(&signature.name) {
            return Err(LanguageError::about(CompilerCode::DuplicateIdentifier, place, &signature.name));
        }
        let others: Vec<&Signature> = self.named(&signature.name).iter().map(|&index| &*self.signatures[index]).collect();
        let types = |signature: &Signature| signature.params.iter().map(|param| param.ty).collect::<Vec<_>>();
        if others.iter().any(|other| types(other) == types(signature)) {
            return Err(LanguageError::about(CompilerCode::DuplicateFunctionSignature, place, signature.id()));
        }
        let arity = signature.params.len();
        if !others.is_empty() && (arity == 0 || others.iter().any(|other| other.params.len() != arity)) {
            return Err(LanguageError::about(CompilerCode::InvalidFunctionOverloadSet, place, &signature.name));
        }
        Ok(())
    }

    fn overloaded_export(&self, function: &Function) -> Option<LanguageError> {
        let (_, span) = function.exports.first()?;
        let is_overloaded = self.named(&function.name).len() > 1;
        let place = Place { block: function.block, span: *span, instruction: "#export" };
        is_overloaded.then(|| LanguageError::about(CompilerCode::OverloadedFunctionExportUnsupported, place, &function.name))
    }
}

fn check_exports<'p>(function: &'p Function, taken: &mut FxHashSet<&'p str>) -> Result<(), LanguageError> {
    for (index, (alias, span)) in function.exports.iter().enumerate() {
        let place = Place { block: function.block, span: *span, instruction: "#export" };
        if index > 0 || !taken.insert(alias) {
            return Err(LanguageError::about(CompilerCode::DuplicateExportName, place, alias));
        }
        if !alias.is_ascii() {
            return Err(LanguageError::about(CompilerCode::NonAsciiExportName, place, alias));
        }
    }
    Ok(())
}

fn check_imports(function: &Function) -> Result<(), LanguageError> {
    let at = |span: Span, instruction| Place { block: function.block, span, instruction };
    if let Some((field, span)) = function.imports.get(1) {
        return Err(LanguageError::about(CompilerCode::DuplicateFunctionImport, at(*span, "#import"), field));
    }
    let (Some((field, import)), export) = (function.imports.first(), function.exports.first()) else { return Ok(()) };
    if let Some((_, export)) = export {
        let (later, word) = if export.line > import.line { (export, "#export") } else { (import, "#import") };
        return Err(LanguageError::about(CompilerCode::ImportExportConflict, at(*later, word), field));
    }
    if !field.is_ascii() {
        return Err(LanguageError::about(CompilerCode::NonAsciiExportName, at(*import, "#import"), field));
    }
    Ok(())
}

fn signature(program: &Program, function: &Function) -> Result<Cow<'static, Signature>, LanguageError> {
    match function.library {
        Some(place) => Ok(Cow::Borrowed(&place.known.signature)),
        None => own_signature(program, function).map(Cow::Owned),
    }
}

fn own_signature(program: &Program, function: &Function) -> Result<Signature, LanguageError> {
    check_imports(function)?;
    let mut params = Vec::new();
    let mut results = Vec::new();
    let mut in_body = false;
    for line in &*function.body {
        let before = params.len();
        match line.instruction {
            Instruction::Param => params.push(param(function, line)?),
            Instruction::ParamShape => params.extend(shape_params(program, function, line)?),
            Instruction::FunctionEnd => results = result_types(function, line)?,
            _ if !function.imports.is_empty() => return Err(error(CompilerCode::ImportedFunctionBody, function, line)),
            _ => in_body = true,
        }
        if in_body && matches!(line.instruction, Instruction::Param | Instruction::ParamShape) {
            return Err(error(CompilerCode::ParamAfterFunctionBody, function, line));
        }
        check_params(function, line, &params, before)?;
    }
    let export = function.exports.first().map(|(alias, _)| alias.clone());
    let import = function.imports.first().map(|(field, _)| field.clone());
    Ok(Signature { name: function.name.clone(), params, results, export, import })
}

/// Checks the parameters from `first` on, which `line` has added.
fn check_params(function: &Function, line: &Line, params: &[Param], first: usize) -> Result<(), LanguageError> {
    for (index, param) in params.iter().enumerate().skip(first) {
        if params[..index].iter().any(|other| other.name == param.name) {
            return Err(error(CompilerCode::DuplicateParameterName, function, line));
        }
        if index >= MAX_PARAMS {
            return Err(error(CompilerCode::FunctionSignatureOverflow, function, line));
        }
    }
    Ok(())
}

fn param(function: &Function, line: &Line) -> Result<Param, LanguageError> {
    let (Some(Argument::Name(ty)), Some(Argument::Name(name))) = (line.arguments.first(), line.arguments.get(1)) else {
        return Err(error(CompilerCode::ExpectedIdentifier, function, line));
    };
    let ty = VariableType::from_word(ty).ok_or_else(|| error(CompilerCode::ExpectedIdentifier, function, line))?;
    Ok(Param { name: name.clone(), ty })
}

fn result_types(function: &Function, line: &Line) -> Result<Vec<VariableType>, LanguageError> {
    let types: Option<Vec<VariableType>> = line
        .arguments
        .iter()
        .map(|argument| match argument {
            Argument::Name(word) => VariableType::from_word(word),
            _ => None,
        })
        .collect();
    match types {
        Some(types) if types.len() <= MAX_RESULTS => Ok(types),
        Some(_) => Err(error(CompilerCode::FunctionSignatureOverflow, function, line)),
        None => Err(error(CompilerCode::ExpectedIdentifier, function, line)),
    }
}

fn shape_params(program: &Program, function: &Function, line: &Line) -> Result<Vec<Param>, LanguageError> {
    let prototype = named_prototype(program, line).map_err(|subject| {
        LanguageError::about(CompilerCode::UndeclaredIdentifier, Place::of_argument(function.block, line, 0), subject)
    })?;
    let mut params = Vec::new();
    for item in &prototype.items {
        if item.is_anonymous {
            return Err(error(CompilerCode::ExpectedIdentifier, function, line));
        }
        let ty = shape_param_type(item.declared).ok_or_else(|| error(CompilerCode::ParamShapeUnsupportedPointerDepth, function, line))?;
        params.push(Param { name: item.name.clone(), ty });
    }
    Ok(params)
}

/// The prototype that a `paramShape` or `pushShape` line names; else the name nothing was found under.
pub fn named_prototype<'a>(program: &'a Program, line: &Line) -> Result<&'a Prototype, String> {
    let Some(Argument::Name(id)) = line.arguments.first() else { return Err(String::new()) };
    program.prototypes.iter().find(|prototype| prototype.id == *id).ok_or_else(|| id.clone())
}

/// The pointer a declaration becomes as a parameter; `None` for one that would have three stars.
pub fn shape_param_type(declared: DeclaredType) -> Option<VariableType> {
    let base = if declared.base == BaseType::Int32 { BaseType::Int } else { declared.base };
    (declared.pointer_depth < 2).then_some(VariableType::Pointer { base, depth: declared.pointer_depth + 1 })
}

fn error(code: CompilerCode, function: &Function, line: &Line) -> LanguageError {
    LanguageError::plain(code, Place::of_line(function.block, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_words_are_read_and_written_alike() {
        for word in ["int", "float", "float64", "int*", "int8u**", "float64*"] {
            assert_eq!(VariableType::from_word(word).map(VariableType::word).as_deref(), Some(word));
        }
        for word in ["int8", "int32*", "int***", "double", "*"] {
            assert_eq!(VariableType::from_word(word), None, "{word}");
        }
    }

    #[test]
    fn a_shape_turns_declarations_into_pointers() {
        let declared = |base, pointer_depth| DeclaredType { base, pointer_depth, is_array: false };
        assert_eq!(shape_param_type(declared(BaseType::Int32, 0)), Some(VariableType::Pointer { base: BaseType::Int, depth: 1 }));
        assert_eq!(shape_param_type(declared(BaseType::Float, 1)), Some(VariableType::Pointer { base: BaseType::Float, depth: 2 }));
        assert_eq!(shape_param_type(declared(BaseType::Float, 2)), None);
    }
}
