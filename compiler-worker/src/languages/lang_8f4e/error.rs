//! Everything that can be wrong with a program of the language: codes, messages, hints (LANGUAGE §18).
//!
//! Both halves of the compiler build a [`LanguageError`] from a code, a [`Place`] and a subject; it becomes an
//! `ipc::diagnostic::Diagnostic` once the blocks of the program are known. Codes and their meaning are the language's;
//! hints, and codes from 1000, are Continuo's own. Pure data: it never looks at the program.

use std::borrow::Cow;

use ipc::diagnostic::{BlockName, Diagnostic, Stage};

use super::program::{BlockId, BlockInfo, Line, Span};

/// Code of every project error of the language; the message tells them apart.
pub const PROJECT_CODE: i32 = -1;

/// Characters of a program's text that one message quotes at most: a message is read, and travels through channels.
const MAX_EXCERPT_CHARS: usize = 400;

macro_rules! codes {
    ($(#[$outer:meta])* $name:ident, $stage:expr; $($(#[$inner:meta])* $variant:ident = $code:literal, $text:literal, $hint:literal;)+) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant = $code),+ }

        impl $name {
            /// Every code of the family, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number, as listed in LANGUAGE §18.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// What is wrong; `{}` stands for the subject.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// What to do about it.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint),+ }
            }
        }

        impl From<$name> for Code {
            fn from(code: $name) -> Self {
                Self { stage: $stage, number: code.number(), text: code.text(), hint: code.hint() }
            }
        }
    };
}

/// A code of any family with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    pub stage: Stage,
    pub number: i32,
    text: &'static str,
    hint: &'static str,
}

codes! {
    /// Syntax errors (LANGUAGE §18.2): a line cannot be read, or stands where it may not.
    SyntaxCode, Stage::Syntax;
    InvalidIdentifier = 1, "{}", "names start with a letter, and forms such as count(x) need a name inside";
    InvalidArgument = 2, "{}", "compare the line with the shape the instruction expects";
    InvalidNumericLiteral = 3, "{}", "write numbers as 12, -0.5, 1e3, 0.5f64, 0x1F or 0b101, with one operator at most between two of them";
    InvalidPointerDepth = 4, "Invalid pointer depth.", "at most two stars are possible: *p and **p";
    MissingArgument = 5, "{}", "add what is missing";
    DivisionByZero = 6, "Division by zero in literal expression: {}", "divide by a number other than 0";
    InvalidStringLiteral = 7, "{}", "strings end with \" on the same line and know the escapes \\\" \\\\ \\n \\r \\t \\xHH";
    InvalidBlockStructure = 9, "{}", "every loop, if, block and map needs its own end, in the opposite order of the openers";
    DirectiveMustBePrologue = 10, "Compiler directives must appear in the block prologue, immediately after module or function.", "move the line up, directly below the opener";
    UnrecognisedInstruction = 11, "Unrecognised instruction.", "check the spelling and the case; comments start with ;";
    InstructionNotAllowedInBlock = 12, "Instruction is not allowed in this block.", "move the line to a block that may hold it";

    // Continuo's own.
    LineWouldVanish = 1004, "A comment on this line holds a carriage return or a Unicode line separator, which would make the line vanish.", "delete the invisible character behind the ;";
    NestingTooDeep = 1010, "Blocks are nested too deeply: {}.", "move the inner blocks into a function";
}

codes! {
    /// Compiler errors (LANGUAGE §18.3): the lines can be read, but the program makes no sense.
    CompilerCode, Stage::Compiler;
    InsufficientOperands = 0, "Insufficient number of elements in the stack for the operation to proceed.", "push the operands before this line";
    UnmatchingOperands = 1, "This instruction can only operate on operands of the same type.", "convert one operand with castToInt, castToFloat or castToFloat64";
    OnlyIntegers = 2, "The operation only accepts integer values as operands.", "convert the operand with castToInt";
    OnlyFloats = 3, "The operation only accepts float values as operands.", "convert the operand with castToFloat or castToFloat64, or write the number with a point";
    UndeclaredIdentifier = 5, "Undeclared identifier: {}.", "check the spelling; constants are visible after their const or use line, items of other modules as &module:item";
    ExpectedIdentifier = 6, "Expected an identifier, got a value.", "give every declaration of the prototype a name";
    ExpectedValue = 8, "Expected value, got an identifier.", "the expression must give a number that is not negative";
    StackExpectedZeroElements = 11, "{}", "drop or store what the module leaves on the stack";
    DivisionByZero = 14, "Possible division by zero.", "write ensureNonZero before this line";
    FunctionSignatureOverflow = 17, "A function can have at most 16 parameters and 8 results.", "pass a pointer to memory instead";
    StackMismatchFunctionReturn = 18, "Stack elements do not match function return signature.", "leave exactly the values that functionEnd names on the stack, in that order";
    TypeMismatch = 19, "Type mismatch.", "an integer is needed here; convert with castToInt";
    ImpureDirectiveRequired = 21, "Memory IO in functions requires #impure.", "add the line #impure below the function line";
    UndefinedFunction = 22, "Undefined function: {}.", "define the function, or include the library that has it";
    ParamAfterFunctionBody = 23, "Parameters must be declared before the function body.", "move the line up, before the first instruction";
    DuplicateParameterName = 24, "Duplicate parameter name. Each parameter must have a unique name.", "rename one of the parameters";
    MixedFloatWidth = 33, "Mixed float widths: arithmetic operations require all float operands to have the same width (float32 or float64).", "convert one operand with castToFloat64, or mark the number with f64";
    SplitHexTooManyBytes = 35, "Too many split-byte values for this declaration type.", "a default holds at most four bytes";
    SplitHexMixedTokens = 36, "Split-byte default values must all be bytes (0 to 255): {} is not.", "use integers from 0 to 255, or give a single value";
    ConstantNameAsMemoryIdentifier = 37, "Constant-style identifiers (all-uppercase) are reserved for constants and cannot be used as memory allocation names.", "write the name with a lower-case letter, or declare the constant first";
    ReservedMemoryIdentifier = 38, "Reserved identifier cannot be used as a memory allocation name: {}.", "choose another name";
    LocalNameCollisionWithMemory = 44, "Local variable name collides with a memory declaration: {}. Local names must be unique within the namespace.", "rename the local";
    DuplicateIdentifier = 45, "Duplicate identifier: {}. Module and function names must be unique.", "rename one of them";
    ArrayInitializerTooLong = 47, "Array initializer contains more values than the declared element count.", "raise the count or remove values";
    AddressRangeRequired = 48, "This instruction requires address range metadata.", "start from an address such as &item, or use clampModuleAddress or clampGlobalAddress";
    InvalidAccessWidth = 49, "Access width must be 1, 2, 4, 8 bytes.", "use one of these widths";
    AddressRangeTooSmall = 50, "Access width is larger than the address range.", "use a smaller width or a larger item";
    DuplicateExportName = 52, "Duplicate function export name: {}. Exported function names must be unique and must not reuse built-in export names.", "give #export another alias";
    InvalidMemoryRegionName = 53, "Invalid memory region name: {}. Custom memory region names must be unique non-numeric identifiers and cannot be \"default\" or \"memory\".", "choose another region name";
    DuplicateMemoryRegionName = 54, "Duplicate memory region name: {}.", "name each region once";
    UnknownMemoryRegion = 55, "Unknown memory region: {}.", "pass the region with --memory-regions";
    MemoryRegionIndexOutOfBounds = 56, "Memory region index is out of bounds: {}.", "pass more regions with --memory-regions, or use a smaller index";
    PointerDereferenceDepthExceeded = 57, "Pointer dereference depth exceeds the declared pointer depth: {}.", "use fewer stars here, or more in the declaration";
    PointeeElementCountUnknown = 58, "Pointee element count is unknown: {}. Pass the length explicitly or use count() on a named memory declaration.", "pass the length explicitly, or use count() of the array itself";
    DuplicateFunctionImport = 60, "A function can have only one #import.", "remove one of the lines";
    ImportExportConflict = 61, "A function cannot be imported and exported.", "remove #import or #export";
    ImportedFunctionBody = 62, "An imported function cannot have a body.", "keep only the directives and parameters";
    ParamShapeUnsupportedPointerDepth = 64, "paramShape cannot expand this prototype declaration because the resulting pointer parameter type is unsupported.", "prototypes used with paramShape cannot hold ** declarations";
    PushShapeRequiresModuleShape = 65, "pushShape requires the current module to declare the requested shape.", "add a shape line with the same prototype to the module";
    DuplicateFunctionSignature = 66, "Duplicate function overload signature: {}. Function overloads must have unique parameter signatures.", "rename or remove one of the functions; an include may appear in one includes block only";
    InvalidFunctionOverloadSet = 67, "Invalid function overload set: {}. Functions that share a name need the same number of parameters, at least one.", "rename one of the functions";
    FunctionOverloadNoMatch = 68, "No matching function overload: {}", "make the types on the stack those of one overload; numbers are not converted";
    ConstantResolutionFailed = 69, "{}", "a constant can use numbers and constants that are declared before it";
    OverloadedFunctionExportUnsupported = 72, "An overloaded function cannot be exported: {}.", "give the exported function a name of its own";

    // Continuo's own: programs that the reference turns into invalid wasm (LANGUAGE §25), and limits.
    MemoryTooLarge = 1011, "The program's memory is too large: {}.", "use smaller arrays";
    TooManyConstants = 1012, "The program's blocks use too many constants: {}.", "copy fewer namespaces with use";
    TooManyItems = 1013, "The program has too many memory items: {}.", "use arrays";
    RoundOnFloat64 = 1020, "round works on float only, the operand is float64.", "round a float instead: there is no conversion from float64 to float";
    ResultWithoutElse = 1021, "An if that gives a result needs an else that gives one too.", "add an else branch";
    ValuesLeftByBranch = 1022, "This branch leaves values on the stack that its end does not name: {}.", "drop them, or name them as results";
    ExitWithValuesOnStack = 1023, "exitIfTrue cannot leave the module while values are on the stack: {}.", "store or drop them before this line";
    FloatWidthConversion = 1024, "A {} is expected.", "declare the local or result with the type of the value: castToFloat64 widens, nothing narrows";
    BranchDepth = 1025, "There is no block to branch to: {}.", "count if and block as one level, loop as two";
    MemoryCopyOfNothing = 1026, "memoryCopy of 0 bytes leaves its operands on the stack.", "copy at least one byte, or remove the line and its operands";
    RedeclaredLocal = 1027, "The local is declared twice.", "remove or rename one of the declarations";
    IntegerConstantTooSmall = 1028, "The integer does not fit 32 bits.", "use values from -2147483648 to 4294967295";
    TooManyFunctions = 1029, "The program has too many functions or function types: {}.", "split the program";
    NonAsciiExportName = 1030, "Export and import names can only hold ASCII characters: {}.", "choose another name";
    InvalidWasmConstruct = 1031, "This cannot be compiled to valid WebAssembly: {}.", "write this part differently";

    InvalidMidiDirective = 1040, "{}", "see the MIDI directives: ; ~midiNoteInput gate note [channel] [velocity] [port], ; ~midiCCInput selectedCC value [channel], and the same with Output";
}

codes! {
    /// Continuo's own checks of the text as a whole, before it is split into blocks.
    TextCode, Stage::Project;
    TooLarge = 1000, "The source text is too large: {}.", "split the program into several runtimes";
    TooManyLines = 1001, "The source text has too many lines: {}.", "split the program into several runtimes";
    NotText = 1002, "The file is not text: {}.", "an 8f4e program is a UTF-8 text file";
    CarriageReturns = 1003, "This file has Windows line endings (CRLF), which would make lines with a trailing comment vanish.", "convert it with: sed -i 's/\\r$//' FILE";
}

/// Where an error is: a line of a block, and the columns concerned.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub block: BlockId,
    pub span: Span,
    /// First token of the line.
    pub instruction: &'a str,
}

impl Place<'static> {
    /// The instruction word of a body line.
    pub fn of_line(block: BlockId, line: &Line) -> Self {
        Self { block, span: line.span, instruction: line.instruction.word() }
    }

    /// One argument of a body line; the instruction word where there is no such argument.
    pub fn of_argument(block: BlockId, line: &Line, argument: usize) -> Self {
        let span = line.argument_spans.get(argument).copied().unwrap_or(line.span);
        // Arguments may stand on continuation lines; errors are reported at the line the instruction starts on.
        let span = if span.line == line.span.line { span } else { line.span };
        Self { block, span, instruction: line.instruction.word() }
    }

    /// The opener line of a block, where errors about a block as a whole are reported.
    pub fn of_opener(block: BlockId, kind: &'static str) -> Self {
        Self { block, span: Span { line: 0, column: 1, length: kind.len() as u32 }, instruction: kind }
    }
}

/// One thing wrong with a program.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct LanguageError {
    pub stage: Stage,
    pub code: i32,
    pub message: String,
    pub hint: Cow<'static, str>,
    /// The block it is in; `None` for errors of the file or of the options.
    pub block: Option<BlockId>,
    /// Place inside the block. Without a block, `line` is the 1-based line of the file, 0 for none.
    pub span: Span,
    pub instruction: Option<Cow<'static, str>>,
}

impl LanguageError {
    /// An error whose message needs no subject.
    pub fn plain(code: impl Into<Code>, place: Place<'_>) -> Self {
        Self::about(code, place, "")
    }

    /// An error whose message names something.
    pub fn about(code: impl Into<Code>, place: Place<'_>, subject: impl AsRef<str>) -> Self {
        let mut error = Self::of_options(code, subject);
        error.block = Some(place.block);
        error.span = place.span;
        error.instruction = Some(Cow::Owned(place.instruction.to_owned()));
        error
    }

    /// The same error with a hint that knows more about this case than the code does.
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// An error of the options a program is compiled with; it has no place in the text.
    pub fn of_options(code: impl Into<Code>, subject: impl AsRef<str>) -> Self {
        let code = code.into();
        let message = code.text.replacen("{}", &excerpt(subject.as_ref()), 1);
        Self {
            stage: code.stage,
            code: code.number,
            message,
            hint: code.hint.into(),
            block: None,
            span: Span::default(),
            instruction: None,
        }
    }

    /// An error in the structure of the project file (LANGUAGE §18.1). `line` is 1-based; 0 means none.
    pub fn project(line: u32, message: impl Into<String>, hint: &'static str) -> Self {
        let message = message.into();
        let span = Span { line, column: u32::from(line > 0), length: 0 };
        Self { stage: Stage::Project, code: PROJECT_CODE, message, hint: hint.into(), block: None, span, instruction: None }
    }

    /// An error of the text as a whole. `line` is 1-based; 0 means none.
    pub fn text(code: TextCode, line: u32, subject: impl AsRef<str>) -> Self {
        let mut error = Self::of_options(code, subject);
        error.span.line = line;
        error
    }

    /// The diagnostic that leaves the compiler. `blocks` is what `block` indexes.
    pub fn into_diagnostic(self, blocks: &[BlockInfo]) -> Diagnostic {
        let block = self.block.and_then(|id| blocks.get(id));
        let file_line = match block {
            Some(block) => block.file_line.map(|opener| opener + self.span.line),
            None => (self.span.line > 0).then_some(self.span.line),
        };
        let has_columns = self.span.column > 0;
        Diagnostic {
            stage: self.stage,
            code: self.code,
            line: file_line,
            column: has_columns.then_some(self.span.column),
            length: has_columns.then_some(self.span.length),
            line_in_block: block.map(|_| self.span.line),
            block: block.map(|block| BlockName { kind: block.kind.to_owned(), id: block.id.clone() }),
            instruction: self.instruction.map(Cow::into_owned),
            message: self.message,
            hint: Some(self.hint.into_owned()),
            include: block.and_then(|block| block.include.clone()),
        }
    }
}

/// What a message quotes of a program's text: all of it, unless it is absurdly long.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_EXCERPT_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_block_knows_its_line_in_the_file() {
        let blocks = [BlockInfo { kind: "module", id: "osc".into(), file_line: Some(7), include: None }];
        let place = Place { block: 0, span: Span { line: 3, column: 6, length: 4 }, instruction: "push" };
        let diagnostic = LanguageError::about(CompilerCode::UndeclaredIdentifier, place, "freq").into_diagnostic(&blocks);
        assert_eq!((diagnostic.stage, diagnostic.code), (Stage::Compiler, 5));
        assert_eq!((diagnostic.line, diagnostic.column, diagnostic.length), (Some(10), Some(6), Some(4)));
        assert_eq!((diagnostic.line_in_block, diagnostic.instruction.as_deref()), (Some(3), Some("push")));
        assert_eq!(diagnostic.message, "Undeclared identifier: freq.");
    }

    #[test]
    fn an_error_of_the_file_has_a_line_but_no_block() {
        let diagnostic = LanguageError::project(4, "Parse error at line 4: duplicate entry \"main\"", "rename").into_diagnostic(&[]);
        assert_eq!((diagnostic.line, diagnostic.line_in_block, diagnostic.code), (Some(4), None, PROJECT_CODE));
    }

    #[test]
    fn every_code_has_a_hint_and_a_number_of_its_own() {
        let mut numbers: Vec<i32> = CompilerCode::ALL.iter().map(|code| code.number()).collect();
        assert!(CompilerCode::ALL.iter().all(|code| !code.hint().is_empty()));
        numbers.dedup();
        assert_eq!(numbers.len(), CompilerCode::ALL.len());
        assert!(SyntaxCode::ALL.iter().all(|code| !code.hint().is_empty() && code.number() < 13 || code.number() >= 1000));
    }
}
