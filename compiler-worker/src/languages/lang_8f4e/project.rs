//! The project file: header, entries and document blocks (LANGUAGE §2).
//!
//! Checks the text as a whole, then splits it into blocks of lines without reading them. Everything borrows the text; nothing
//! is copied or normalised, so that line numbers and meaning stay those of the file.

use ipc::limits::{MAX_NESTING, MAX_SOURCE_BYTES, MAX_SOURCE_LINES};
use rustc_hash::FxHashSet;

use super::error::{LanguageError, TextCode, excerpt};
use super::lexer::{is_space, trim};

const HEADER: &str = "8f4e/v1";

/// Words that open a block, and the words that close it.
const BLOCK_WORDS: [(BlockWord, &str, &str); 8] = [
    (BlockWord::Module, "module", "moduleEnd"),
    (BlockWord::Function, "function", "functionEnd"),
    (BlockWord::Constants, "constants", "constantsEnd"),
    (BlockWord::Prototype, "prototype", "prototypeEnd"),
    (BlockWord::Note, "note", "noteEnd"),
    (BlockWord::Includes, "includes", "includesEnd"),
    (BlockWord::Entry, "entry", "entryEnd"),
    (BlockWord::Group, "group", "groupEnd"),
];

/// The kinds of blocks of a project file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockWord {
    Module,
    Function,
    Constants,
    Prototype,
    Note,
    Includes,
    Entry,
    Group,
}

impl BlockWord {
    /// The word that opens such a block.
    pub fn opener(self) -> &'static str {
        BLOCK_WORDS.iter().find(|(word, ..)| *word == self).map_or("", |(_, opener, _)| opener)
    }
}

/// A document block: its lines, opener and closer included.
#[derive(Clone, Copy, Debug)]
pub struct DocumentBlock<'a> {
    pub word: BlockWord,
    /// 1-based line of the opener in the file.
    pub line: u32,
    /// Half-open range of `Project::lines`.
    pub lines: (usize, usize),
    /// Entry a module belongs to, as named in the file.
    pub entry: Option<&'a str>,
}

/// A project file, split into blocks.
#[derive(Debug)]
pub struct Project<'a> {
    /// Every line of the file.
    pub lines: Vec<&'a str>,
    /// Blocks outside groups in document order.
    pub blocks: Vec<DocumentBlock<'a>>,
}

impl<'a> Project<'a> {
    /// The lines of a block.
    pub fn lines_of(&self, block: &DocumentBlock<'_>) -> &[&'a str] {
        self.lines.get(block.lines.0..block.lines.1).unwrap_or_default()
    }
}

/// Splits a file into blocks.
pub fn parse(source: &[u8]) -> Result<Project<'_>, LanguageError> {
    let text = text_of(source)?;
    let lines = lines_of(text);
    if trim(lines[0]) != HEADER {
        let message = format!("Invalid .8f4e file: expected header \"{HEADER}\", got \"{}\"", excerpt(trim(lines[0])));
        return Err(LanguageError::project(1, message, "make 8f4e/v1 the first line of the file"));
    }
    let has_returns = memchr::memchr(b'\r', source).is_some();
    if let Some(at) = lines.iter().position(|line| has_returns && line.ends_with('\r')) {
        return Err(LanguageError::text(TextCode::CarriageReturns, at as u32 + 1, ""));
    }
    let mut splitter = Splitter { lines: &lines, at: 1, blocks: Vec::new() };
    splitter.document()?;
    let blocks = splitter.blocks;
    Ok(Project { lines, blocks })
}

/// What stands between line feeds.
fn lines_of(text: &str) -> Vec<&str> {
    let mut lines = Vec::with_capacity(text.len() / 10 + 1);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
        lines.push(&text[start..end]);
        start = end + 1;
    }
    lines.push(&text[start..]);
    lines
}

/// The source as text, if it can be one.
fn text_of(source: &[u8]) -> Result<&str, LanguageError> {
    if source.len() > MAX_SOURCE_BYTES {
        let subject = format!("{} bytes, at most {MAX_SOURCE_BYTES} are accepted", source.len());
        return Err(LanguageError::text(TextCode::TooLarge, 0, subject));
    }
    let line_at = |offset: usize| 1 + memchr::memchr_iter(b'\n', &source[..offset]).count();
    if let Some(offset) = memchr::memchr(0, source) {
        return Err(LanguageError::text(TextCode::NotText, line_at(offset) as u32, format!("byte {offset} is zero")));
    }
    let text = std::str::from_utf8(source).map_err(|error| {
        let offset = error.valid_up_to();
        LanguageError::text(TextCode::NotText, line_at(offset) as u32, format!("byte {offset} is not UTF-8"))
    })?;
    let lines = line_at(source.len());
    if lines > MAX_SOURCE_LINES {
        let subject = format!("{lines} lines, at most {MAX_SOURCE_LINES} are accepted");
        return Err(LanguageError::text(TextCode::TooManyLines, 0, subject));
    }
    Ok(text)
}

/// What the first word of a line says about blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Opener(BlockWord),
    Closer(BlockWord, &'static str),
}

/// Tells whether a trimmed line opens or closes a block: it is one of the words, or one of them and a blank behind it.
fn marker(line: &str) -> Option<Marker> {
    // Asked of every line of the file: most are told apart by their first letter.
    if !matches!(line.as_bytes().first(), Some(b'm' | b'f' | b'c' | b'p' | b'n' | b'i' | b'e' | b'g')) {
        return None;
    }
    let length = line.bytes().take_while(|byte| !matches!(byte, b' ' | b'\t')).count();
    let word = &line[..length];
    BLOCK_WORDS.iter().find_map(|&(block, opener, closer)| match word.strip_prefix(opener)? {
        "" => Some(Marker::Opener(block)),
        "End" => Some(Marker::Closer(block, closer)),
        _ => None,
    })
}

fn opener(line: &str) -> Option<BlockWord> {
    match marker(line)? {
        Marker::Opener(word) => Some(word),
        Marker::Closer(..) => None,
    }
}

fn is_gap(line: &str) -> bool {
    line.is_empty() || line.starts_with([';', '#']) || line.starts_with("//")
}

/// The one name behind `entry` or `group`.
fn only_name(line: &str) -> Option<&str> {
    let mut tokens = line.split(is_space).filter(|token| !token.is_empty()).skip(1);
    tokens.next().filter(|_| tokens.next().is_none())
}

struct Splitter<'l, 'a> {
    lines: &'l [&'a str],
    /// Index of the next line.
    at: usize,
    blocks: Vec<DocumentBlock<'a>>,
}

impl<'a> Splitter<'_, 'a> {
    fn document(&mut self) -> Result<(), LanguageError> {
        let mut entries: FxHashSet<&str> = FxHashSet::default();
        while let Some((number, line)) = self.next_line() {
            match opener(line) {
                Some(BlockWord::Entry) => {
                    let name = only_name(line).ok_or_else(|| parse_error(number, "entry requires exactly one name", NAME_HINT))?;
                    if !entries.insert(name) {
                        return Err(parse_error(number, &format!("duplicate entry \"{}\"", excerpt(name)), "merge the two entry blocks"));
                    }
                    self.entry(name)?;
                }
                Some(word @ (BlockWord::Module | BlockWord::Group)) => {
                    let message = format!("{} blocks must be inside an entry block", word.opener());
                    return Err(parse_error(number, &message, "put it between entry main and entryEnd"));
                }
                Some(word) => self.document_block(word, None, true)?,
                None => return Err(expected_opener(number, line)),
            }
        }
        Ok(())
    }

    /// The next line that is no gap: its number, and its trimmed text.
    fn next_line(&mut self) -> Option<(u32, &'a str)> {
        while let Some(line) = self.lines.get(self.at) {
            self.at += 1;
            let line = trim(line);
            if !is_gap(line) {
                return Some((self.at as u32, line));
            }
        }
        None
    }

    fn entry(&mut self, name: &'a str) -> Result<(), LanguageError> {
        let opened_at = self.at as u32;
        while let Some((number, line)) = self.next_line() {
            match marker(line) {
                Some(Marker::Closer(BlockWord::Entry, _)) => return Ok(()),
                Some(Marker::Closer(_, closer)) => return Err(mismatch(number, closer, "entry")),
                Some(Marker::Opener(BlockWord::Module)) => self.document_block(BlockWord::Module, Some(name), true)?,
                Some(Marker::Opener(BlockWord::Group)) => self.groups(number, line)?,
                Some(Marker::Opener(_)) | None => {
                    let what = format!("entry \"{}\" can only contain module or group blocks, got \"{}\"", excerpt(name), excerpt(line));
                    return Err(parse_error(number, &what, "move it in front of the entry line or behind entryEnd"));
                }
            }
        }
        Err(unclosed(opened_at, "entry"))
    }

    /// A group and the groups inside it. They are checked, but what they hold does not exist for the compiler.
    fn groups(&mut self, number: u32, line: &str) -> Result<(), LanguageError> {
        let mut open = Vec::new();
        let mut next = Some((number, line));
        while let Some((number, line)) = next {
            match marker(line) {
                Some(Marker::Closer(BlockWord::Group, _)) => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(());
                    }
                }
                Some(Marker::Closer(_, closer)) => return Err(mismatch(number, closer, "group")),
                Some(Marker::Opener(BlockWord::Group)) => {
                    only_name(line).ok_or_else(|| parse_error(number, "group requires exactly one name", NAME_HINT))?;
                    if open.len() >= MAX_NESTING {
                        return Err(parse_error(number, "groups are nested too deeply", "use fewer levels"));
                    }
                    open.push(number);
                }
                Some(Marker::Opener(BlockWord::Entry)) => {
                    return Err(parse_error(number, "entry blocks cannot be nested inside groups", "close the group first"));
                }
                Some(Marker::Opener(word)) => self.document_block(word, None, false)?,
                None => return Err(expected_opener(number, line)),
            }
            next = self.next_line();
        }
        Err(unclosed(open.last().copied().unwrap_or(number), "group"))
    }

    /// Reads up to the closer of the block whose opener was read last, and keeps the block if asked to.
    fn document_block(&mut self, word: BlockWord, entry: Option<&'a str>, is_kept: bool) -> Result<(), LanguageError> {
        let first = self.at - 1;
        let opened_at = self.at as u32;
        while let Some(line) = self.lines.get(self.at) {
            self.at += 1;
            let (number, line) = (self.at as u32, trim(line));
            match marker(line) {
                Some(Marker::Closer(closed, _)) if closed == word => {
                    if is_kept {
                        self.blocks.push(DocumentBlock { word, line: opened_at, lines: (first, self.at), entry });
                    }
                    return Ok(());
                }
                Some(Marker::Closer(_, closer)) => return Err(mismatch(number, closer, word.opener())),
                Some(Marker::Opener(_)) => {
                    let line = excerpt(line);
                    let what = format!("mixed block type markers (found opener \"{line}\" inside \"{}\" block)", word.opener());
                    return Err(parse_error(
                        number,
                        &what,
                        "close the block first; even the lines of a note cannot start with such a word",
                    ));
                }
                None => {}
            }
        }
        Err(unclosed(opened_at, word.opener()))
    }
}

const NAME_HINT: &str = "write one name without spaces behind it";

fn parse_error(line: u32, what: &str, hint: &'static str) -> LanguageError {
    LanguageError::project(line, format!("Parse error at line {line}: {what}"), hint)
}

fn expected_opener(line: u32, text: &str) -> LanguageError {
    let what = format!("expected opener keyword, got \"{}\"", excerpt(text));
    parse_error(line, &what, "only blocks such as entry, function, constants and comments can stand here")
}

fn mismatch(line: u32, closer: &str, opener: &str) -> LanguageError {
    parse_error(line, &format!("closer \"{closer}\" does not match opener \"{opener}\""), "every block ends with its own word")
}

fn unclosed(line: u32, opener: &str) -> LanguageError {
    LanguageError::project(line, format!("Parse error: unclosed block with opener \"{opener}\""), "add its end line")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &[u8]) -> (i32, u32) {
        let error = parse(source).expect_err("the file is wrong");
        (error.code, error.span.line)
    }

    #[test]
    fn blocks_keep_their_lines_and_entries() {
        let project = parse(b" 8f4e/v1 \n\nconstants c\nconst A 1\nconstantsEnd\nentry main\n; note\n module m\nmoduleEnd x\nentryEnd")
            .expect("is right");
        let blocks: Vec<_> = project.blocks.iter().map(|block| (block.word, block.line, block.entry)).collect();
        assert_eq!(blocks, [(BlockWord::Constants, 3, None), (BlockWord::Module, 8, Some("main"))]);
        assert_eq!(project.lines_of(&project.blocks[1]), [" module m", "moduleEnd x"]);
    }

    #[test]
    fn groups_are_checked_but_dropped() {
        let project =
            parse(b"8f4e/v1\nentry main\ngroup g\nfunction f\nfunctionEnd\ngroup h\ngroupEnd\ngroupEnd\nentryEnd").expect("is right");
        assert!(project.blocks.is_empty());
        assert_eq!(error(b"8f4e/v1\nentry main\ngroup g\nentry x"), (-1, 4));
        assert_eq!(error(b"8f4e/v1\nentry main\ngroup g\nhello"), (-1, 4));
        assert_eq!(error(b"8f4e/v1\nentry main\ngroup g\nmoduleEnd"), (-1, 4));
        assert_eq!(error(b"8f4e/v1\nentry main\ngroup g h"), (-1, 3));
    }

    #[test]
    fn files_that_are_no_programs_are_refused_with_a_line() {
        assert_eq!(error(b""), (-1, 1));
        assert_eq!(error(b"8f4e/v2\n"), (-1, 1));
        assert_eq!(error(b"8f4e/v1\nab\0"), (TextCode::NotText.number(), 2));
        assert_eq!(error(b"8f4e/v1\n\n\xff"), (TextCode::NotText.number(), 3));
        assert_eq!(error(b"8f4e/v1\r\n"), (TextCode::CarriageReturns.number(), 1));
        assert_eq!(error(&vec![b'\n'; MAX_SOURCE_LINES]), (TextCode::TooManyLines.number(), 0));
        assert_eq!(error(&vec![b' '; MAX_SOURCE_BYTES + 1]), (TextCode::TooLarge.number(), 0));
    }

    #[test]
    fn unclosed_and_misplaced_blocks_are_named() {
        assert_eq!(error(b"8f4e/v1\nentry main\nmodule a"), (-1, 3));
        assert_eq!(error(b"8f4e/v1\nentry main\n"), (-1, 2));
        assert_eq!(error(b"8f4e/v1\nmoduleEnd"), (-1, 2));
        assert_eq!(error(b"8f4e/v1\nnote\nmoduleEnd"), (-1, 3));
        assert_eq!(error(b"8f4e/v1\nentry a b\nentryEnd"), (-1, 2));
    }
}
