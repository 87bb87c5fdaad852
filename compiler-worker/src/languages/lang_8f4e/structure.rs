//! How the lines of a block stand to each other (LANGUAGE §5): the prologue, which instruction may stand in which block,
//! and the nesting of loops, ifs, blocks and maps.

use ipc::limits::MAX_NESTING;

use super::error::{LanguageError, SyntaxCode};
use super::instruction::Instruction;
use super::parsed::{BlockKind, Directive, Statement, Word};
use super::program::BlockId;

/// Checks the statements of one block; the first error wins.
pub fn check(kind: BlockKind, block: BlockId, statements: &[Statement<'_>]) -> Result<(), LanguageError> {
    let mut walk = Walk { kind, block, open: Vec::new(), is_prologue: false };
    for statement in statements {
        walk.check(statement)?;
    }
    match (walk.open.is_empty(), statements.last()) {
        (false, Some(last)) => Err(walk.unclosed(last)),
        _ => Ok(()),
    }
}

/// What is open inside a module or function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nest {
    Loop,
    Block,
    If { has_else: bool },
    Map,
}

impl Nest {
    fn closer(self) -> &'static str {
        match self {
            Self::Loop => "loopEnd",
            Self::Block => "blockEnd",
            Self::If { .. } => "ifEnd",
            Self::Map => "mapEnd",
        }
    }

    fn is_same_kind(self, other: Self) -> bool {
        matches!((self, other), (Self::If { .. }, Self::If { .. })) || self == other
    }
}

struct Walk {
    kind: BlockKind,
    block: BlockId,
    open: Vec<Nest>,
    /// Only the opener and directives have been seen so far.
    is_prologue: bool,
}

impl Walk {
    fn check(&mut self, statement: &Statement<'_>) -> Result<(), LanguageError> {
        if matches!(statement.word, Word::Directive(_)) {
            if !self.is_prologue {
                return Err(self.error(SyntaxCode::DirectiveMustBePrologue, statement, ""));
            }
        } else {
            self.is_prologue = matches!(statement.word, Word::Opener(BlockKind::Module | BlockKind::Function));
        }
        if !self.is_allowed(statement.word) {
            return Err(self.error(SyntaxCode::InstructionNotAllowedInBlock, statement, ""));
        }
        self.nest(statement)
    }

    fn is_allowed(&self, word: Word) -> bool {
        let in_module = self.kind == BlockKind::Module;
        let in_function = self.kind == BlockKind::Function;
        match word {
            Word::Opener(kind) | Word::Closer(kind) => kind == self.kind,
            Word::Const | Word::Use => self.kind != BlockKind::Prototype && !self.is_in_map(),
            Word::Shape => in_module && !self.is_in_map(),
            Word::Declaration(_) => (in_module || self.kind == BlockKind::Prototype) && !self.is_in_map(),
            Word::Directive(directive) => match directive {
                Directive::SkipExecution | Directive::InitOnly | Directive::Region => in_module,
                Directive::Impure | Directive::Export | Directive::Import => in_function,
                Directive::LoopCap => in_module || in_function,
            },
            Word::Body(instruction) => (in_module || in_function) && self.is_body_line_allowed(instruction, in_function),
        }
    }

    fn is_body_line_allowed(&self, instruction: Instruction, in_function: bool) -> bool {
        use Instruction as I;
        let placed = match instruction {
            I::ExitIfTrue | I::ClampModuleAddress | I::PushShape => !in_function,
            I::Param | I::ParamShape | I::Return | I::FunctionEnd => in_function,
            I::LoopIndex => self.is_open(Nest::Loop),
            I::LoopEnd => self.is_open(Nest::Loop),
            I::BlockEnd => self.is_open(Nest::Block),
            I::Else | I::IfEnd => self.is_open(Nest::If { has_else: false }),
            I::Map | I::Default | I::MapEnd => self.is_in_map(),
            _ => true,
        };
        // A map that is never closed is an error of structure, so the closer of the function passes here.
        let inside_map = matches!(instruction, I::Map | I::Default | I::MapEnd | I::FunctionEnd);
        placed && (inside_map || !self.is_in_map())
    }

    fn is_open(&self, nest: Nest) -> bool {
        self.open.iter().any(|open| open.is_same_kind(nest))
    }

    fn is_in_map(&self) -> bool {
        self.open.last() == Some(&Nest::Map)
    }

    fn nest(&mut self, statement: &Statement<'_>) -> Result<(), LanguageError> {
        use Instruction as I;
        let Word::Body(instruction) = statement.word else {
            return match statement.word {
                Word::Closer(_) if !self.open.is_empty() => Err(self.unclosed(statement)),
                _ => Ok(()),
            };
        };
        match instruction {
            I::Loop => self.open(Nest::Loop, statement),
            I::Block => self.open(Nest::Block, statement),
            I::If => self.open(Nest::If { has_else: false }, statement),
            I::MapBegin => self.open(Nest::Map, statement),
            I::Else => self.turn_to_else(statement),
            I::LoopEnd => self.close(Nest::Loop, statement),
            I::BlockEnd => self.close(Nest::Block, statement),
            I::IfEnd => self.close(Nest::If { has_else: false }, statement),
            I::MapEnd => self.close(Nest::Map, statement),
            I::FunctionEnd if !self.open.is_empty() => Err(self.unclosed(statement)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, nest: Nest, statement: &Statement<'_>) -> Result<(), LanguageError> {
        if self.open.len() >= MAX_NESTING {
            return Err(self.error(SyntaxCode::NestingTooDeep, statement, &format!("more than {MAX_NESTING} levels")));
        }
        self.open.push(nest);
        Ok(())
    }

    fn turn_to_else(&mut self, statement: &Statement<'_>) -> Result<(), LanguageError> {
        match self.open.last_mut() {
            Some(Nest::If { has_else: has_else @ false }) => {
                *has_else = true;
                Ok(())
            }
            Some(Nest::If { .. }) => {
                let message = "Unexpected else: if blocks may only contain one else branch.";
                Err(self.error(SyntaxCode::InvalidBlockStructure, statement, message))
            }
            _ => Err(self.unclosed(statement)),
        }
    }

    fn close(&mut self, nest: Nest, statement: &Statement<'_>) -> Result<(), LanguageError> {
        match self.open.last() {
            Some(open) if open.is_same_kind(nest) => {
                self.open.pop();
                Ok(())
            }
            _ => Err(self.unclosed(statement)),
        }
    }

    fn unclosed(&self, statement: &Statement<'_>) -> LanguageError {
        let expected = self.open.last().map_or("nothing", |nest| nest.closer());
        let message = format!("Unexpected {}: expected {expected} before it.", statement.text);
        self.error(SyntaxCode::InvalidBlockStructure, statement, &message)
    }

    fn error(&self, code: SyntaxCode, statement: &Statement<'_>, subject: &str) -> LanguageError {
        LanguageError::about(code, statement.place(self.block), subject)
    }
}
