//! Reads the lines of a block into statements (LANGUAGE §3, §4): continuation, first word, arguments and their shape.
//!
//! The first error ends a block, as in the language's own order of errors: lines are read one after the other, then
//! `structure` looks at how they stand to each other.

use std::borrow::Cow;

use super::argument_shapes;
use super::arguments::{self, Value};
use super::error::{LanguageError, Place, SyntaxCode};
use super::lexer::{self, LineKind, Token, UnterminatedString};
use super::parsed::{Arguments, BlockKind, ParsedArgument, ParsedBlock, Statement, Word};
use super::program::{BlockId, Span};
use super::structure;

/// A block of lines as `project` or `includes` found it.
#[derive(Clone, Copy, Debug)]
pub struct SourceLines<'s, 'a> {
    pub kind: BlockKind,
    pub block: BlockId,
    /// Opener first, closer last.
    pub lines: &'s [&'a str],
}

/// Reads a block.
pub fn parse<'a>(source: SourceLines<'_, 'a>) -> Result<ParsedBlock<'a>, LanguageError> {
    let mut reader = Reader { block: source.block, statements: Vec::with_capacity(source.lines.len()), pending: Vec::new() };
    for (number, line) in source.lines.iter().enumerate() {
        reader.read(line, number as u32)?;
    }
    reader.finish_statement()?;
    structure::check(source.kind, source.block, &reader.statements)?;
    let id = reader.statements.first().and_then(|opener| opener.arguments.first()).and_then(|argument| argument.identifier());
    Ok(ParsedBlock { kind: source.kind, block: source.block, id: Cow::Borrowed(id.unwrap_or_default()), statements: reader.statements })
}

struct Reader<'a> {
    block: BlockId,
    statements: Vec<Statement<'a>>,
    /// Tokens of the logical line that continuations may still add to.
    pending: Vec<Token<'a>>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, line: &'a str, number: u32) -> Result<(), LanguageError> {
        match lexer::line_kind(line) {
            LineKind::Skipped => Ok(()),
            LineKind::Vanishing => Err(self.error(SyntaxCode::LineWouldVanish, Span { line: number, column: 1, length: 0 }, None, "")),
            LineKind::Continuation => self.continue_line(line, number),
            LineKind::Instruction => {
                self.finish_statement()?;
                self.tokenize(line, number)
            }
        }
    }

    fn tokenize(&mut self, line: &'a str, number: u32) -> Result<(), LanguageError> {
        lexer::tokenize(line, number, &mut self.pending)
            .map_err(|UnterminatedString(span)| self.error(SyntaxCode::InvalidStringLiteral, span, None, "Unterminated string literal"))
    }

    fn continue_line(&mut self, line: &'a str, number: u32) -> Result<(), LanguageError> {
        let before = self.pending.len();
        self.tokenize(line, number)?;
        let minus = self.pending.get(before).map_or(Span { line: number, column: 1, length: 1 }, |token| token.span);
        let (code, message) = match self.pending.len() - before {
            0 | 1 => (SyntaxCode::MissingArgument, "Missing argument for continuation."),
            2 if before == 0 => (SyntaxCode::InvalidArgument, "Argument continuation needs an instruction before it."),
            2 => {
                self.pending.remove(before);
                return Ok(());
            }
            _ => (SyntaxCode::InvalidArgument, "Argument continuation accepts exactly one argument."),
        };
        Err(self.error(code, minus, Some("-"), message))
    }

    /// Reads the tokens gathered so far as one statement.
    fn finish_statement(&mut self) -> Result<(), LanguageError> {
        let mut tokens = self.pending.iter();
        let Some(first) = tokens.next() else { return Ok(()) };
        let place = Place { block: self.block, span: first.span, instruction: first.text };
        let Some(word) = Word::from_token(first.text) else {
            return Err(LanguageError::plain(SyntaxCode::UnrecognisedInstruction, place));
        };
        let mut statement = Statement { word, text: first.text, span: first.span, arguments: Arguments::None };
        for token in tokens {
            let value = self.argument(token, &statement)?;
            statement.arguments.push(ParsedArgument { value, text: Cow::Borrowed(token.text), span: token.span });
        }
        argument_shapes::check(&statement, self.block)?;
        self.statements.push(statement);
        self.pending.clear();
        Ok(())
    }

    fn argument(&self, token: &Token<'a>, statement: &Statement<'a>) -> Result<Value<'a>, LanguageError> {
        arguments::classify(token.text).map_err(|(code, message)| {
            let span = if token.span.line == statement.span.line { token.span } else { statement.span };
            self.error(code, span, Some(statement.text), &message)
        })
    }

    fn error(&self, code: SyntaxCode, span: Span, instruction: Option<&str>, subject: &str) -> LanguageError {
        let place = Place { block: self.block, span, instruction: instruction.unwrap_or_default() };
        let mut error = LanguageError::about(code, place, subject);
        // An error found while cutting a line into tokens does not know the line's first one yet.
        error.instruction = error.instruction.filter(|instruction| !instruction.is_empty());
        error
    }
}
