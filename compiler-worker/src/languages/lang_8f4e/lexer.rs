//! Lines and tokens of a source block (LANGUAGE §3).
//!
//! Decides which lines are instructions and which are skipped, and cuts an instruction line into tokens with their places.
//! Tokens borrow the text. White space is JavaScript's, as programs may hold any of it. Joining continuation lines is the
//! parser's business (`syntax`).

use super::program::Span;

/// A word of a line, or a string with its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub text: &'a str,
    pub span: Span,
}

/// What a physical line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Blank, or nothing but a comment.
    Skipped,
    /// `- argument`: belongs to the instruction before it.
    Continuation,
    Instruction,
    /// The language would skip this instruction line, because its comment holds a line terminator of JavaScript's.
    Vanishing,
}

/// A string that does not end on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnterminatedString(pub Span);

/// JavaScript's `\s`, which is also what `trim` removes.
#[inline]
pub fn is_space(c: char) -> bool {
    match c {
        '\t'..='\r' | ' ' => true,
        c if c.is_ascii() => false,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}' => {
            true
        }
        _ => false,
    }
}

/// JavaScript's `trim`.
pub fn trim(text: &str) -> &str {
    // Most lines begin and end with a character of one byte that is no space; those need no decoding.
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    if is_edge(text.as_bytes().first()) && is_edge(text.as_bytes().last()) {
        return text;
    }
    text.trim_matches(is_space)
}

/// Tells what kind of line this is.
pub fn line_kind(line: &str) -> LineKind {
    let text = if line.starts_with(|first: char| first.is_ascii_alphabetic()) { line } else { line.trim_start_matches(is_space) };
    match text.as_bytes() {
        [] | [b';', ..] => return LineKind::Skipped,
        [b'-'] | [b'-', b';', ..] => {}
        [b'-', ..] if text[1..].starts_with(is_space) => {}
        _ => return if comment_hides_line(text) { LineKind::Vanishing } else { LineKind::Instruction },
    }
    if comment_hides_line(text) { LineKind::Vanishing } else { LineKind::Continuation }
}

/// The first `;` counts here even inside a string: that is how the language looks for comments at this point.
fn comment_hides_line(text: &str) -> bool {
    let comment = memchr::memchr(b';', text.as_bytes()).map(|start| &text[start..]);
    comment.is_some_and(|comment| {
        let can_hide = !comment.is_ascii() || memchr::memchr(b'\r', comment.as_bytes()).is_some();
        can_hide && comment.contains(['\r', '\u{2028}', '\u{2029}'])
    })
}

/// Cuts an instruction line into tokens and appends them to `tokens`. An unquoted `;` ends the line.
pub fn tokenize<'a>(line: &'a str, line_number: u32, tokens: &mut Vec<Token<'a>>) -> Result<(), UnterminatedString> {
    let mut found = self::tokens(line, line_number);
    while let Some(token) = found.next().transpose()? {
        tokens.push(token);
    }
    Ok(())
}

/// The tokens of an instruction line. An unquoted `;` ends the line; a string that does not end is the last thing there is.
pub fn tokens(line: &str, line_number: u32) -> Tokens<'_> {
    Tokens { cursor: Cursor { line, offset: 0, column: 1 }, line_number }
}

/// See [`tokens`].
pub struct Tokens<'a> {
    cursor: Cursor<'a>,
    line_number: u32,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, UnterminatedString>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let cursor = &mut self.cursor;
        cursor.skip(Class::Space);
        let (offset, column) = (cursor.offset, cursor.column);
        // Nearly every token is a word of characters that are one byte each.
        let rest = &cursor.line.as_bytes()[offset..];
        let length = rest.iter().position(|byte| CLASSES[usize::from(*byte)] != Class::Word).unwrap_or(rest.len());
        let ends_here = rest.get(length).is_none_or(|byte| CLASSES[usize::from(*byte)] != Class::Beyond);
        if length > 0 && ends_here && rest[0] != b'"' {
            cursor.offset += length;
            cursor.column += length as u32;
            let span = Span { line: self.line_number, column, length: length as u32 };
            return Some(Ok(Token { text: &cursor.line[offset..cursor.offset], span }));
        }
        let is_closed = match cursor.peek()? {
            ';' => return None,
            '"' => cursor.skip_string(),
            _ => {
                cursor.skip(Class::Word);
                true
            }
        };
        let span = Span { line: self.line_number, column, length: cursor.column - column };
        let text = &cursor.line[offset..cursor.offset];
        Some(if is_closed { Ok(Token { text, span }) } else { Err(UnterminatedString(span)) })
    }
}

/// The comment of a line: what follows its first unquoted `;`.
pub fn comment(line: &str) -> Option<&str> {
    let mut cursor = Cursor { line, offset: 0, column: 1 };
    loop {
        cursor.skip(Class::Space);
        match cursor.peek()? {
            ';' => return Some(&line[cursor.offset + 1..]),
            '"' => {
                cursor.skip_string();
            }
            _ => cursor.skip(Class::Word),
        }
    }
}

/// What a byte is, outside of strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Space,
    Semicolon,
    /// Part of a character beyond ASCII, which is a space or part of a word.
    Beyond,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Word; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'\t'..=b'\r' | b' ' => Class::Space,
            b';' => Class::Semicolon,
            0x80.. => Class::Beyond,
            _ => Class::Word,
        };
        byte += 1;
    }
    classes
};

struct Cursor<'a> {
    line: &'a str,
    offset: usize,
    /// 1-based, in characters.
    column: u32,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        // Nearly every character is a single byte; those need no decoding.
        match self.line.as_bytes().get(self.offset) {
            Some(&byte) if byte.is_ascii() => Some(char::from(byte)),
            Some(_) => self.line.get(self.offset..)?.chars().next(),
            None => None,
        }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.offset += c.len_utf8();
        self.column += 1;
        Some(c)
    }

    /// Skips spaces, or a word.
    #[inline]
    fn skip(&mut self, class: Class) {
        loop {
            let ascii = self.line.as_bytes()[self.offset..].iter().take_while(|byte| CLASSES[usize::from(**byte)] == class).count();
            self.offset += ascii;
            self.column += ascii as u32;
            match self.peek() {
                Some(c) if !c.is_ascii() && (class == Class::Space) == is_space(c) => self.bump(),
                _ => return,
            };
        }
    }

    /// Skips a string from its opening quote; false if it does not end.
    fn skip_string(&mut self) -> bool {
        self.bump();
        while let Some(c) = self.bump() {
            match c {
                '"' => return true,
                '\\' => {
                    self.bump();
                }
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&str> {
        let mut tokens = Vec::new();
        tokenize(line, 0, &mut tokens).expect("the strings are closed");
        tokens.iter().map(|token| token.text).collect()
    }

    #[test]
    fn a_comment_starts_directly_after_a_token() {
        assert_eq!(words("push 1;note"), ["push", "1"]);
        assert_eq!(words("  push\t\"a;b\" ; c"), ["push", "\"a;b\""]);
    }

    #[test]
    fn a_string_keeps_its_escaped_quotes_and_ends_its_token() {
        assert_eq!(words(r#"push "a\"b"c"#), ["push", r#""a\"b""#, "c"]);
        assert_eq!(words(r#"push a"b c""#), ["push", "a\"b", "c\""]);
    }

    #[test]
    fn columns_count_characters() {
        let mut tokens = Vec::new();
        tokenize(" é  \u{a0}ü;", 4, &mut tokens).expect("there are no strings");
        assert_eq!(tokens[1].span, Span { line: 4, column: 6, length: 1 });
    }

    #[test]
    fn an_open_string_is_an_error_where_it_starts() {
        let error = tokenize("push \"abc", 2, &mut Vec::new());
        assert_eq!(error, Err(UnterminatedString(Span { line: 2, column: 6, length: 4 })));
    }

    #[test]
    fn a_minus_continues_a_line_only_when_it_stands_alone() {
        for line in ["- 5", "-", "-;", "  -\tx"] {
            assert_eq!(line_kind(line), LineKind::Continuation, "{line}");
        }
        for line in ["-5", "--", "push - 5"] {
            assert_eq!(line_kind(line), LineKind::Instruction, "{line}");
        }
    }

    #[test]
    fn a_carriage_return_in_a_comment_would_hide_the_line() {
        assert_eq!(line_kind("push 1 ; note\r"), LineKind::Vanishing);
        assert_eq!(line_kind("push 1\r"), LineKind::Instruction);
        assert_eq!(line_kind("; note\r"), LineKind::Skipped);
    }

    #[test]
    fn the_comment_of_a_line_is_found_behind_strings() {
        assert_eq!(comment("push \"a;b\" ; @config x y"), Some(" @config x y"));
        assert_eq!(comment("push 1"), None);
    }
}
