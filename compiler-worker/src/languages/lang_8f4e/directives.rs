//! Directives in comments that concern a runtime: `@config`, and those of the MIDI runtime (LANGUAGE §20.1, §20.7).
//!
//! The language itself ignores comments. What a path or an item name means is the runtime's business; here it is only found,
//! and given its block and line.

use ipc::diagnostic::BlockName;
use ipc::limits::MAX_DIAGNOSTICS;
use ipc::manifest::ConfigEntry;

use super::error::{CompilerCode, LanguageError, Place};
use super::lexer::{self, is_space, trim};
use super::program::{BlockId, Span};
use super::project::BlockWord;

const CONFIG: &str = "config";
const MIDI: [&str; 4] = ["midiNoteInput", "midiNoteOutput", "midiCCInput", "midiCCOutput"];

/// The block whose comments are read.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'s> {
    pub word: BlockWord,
    pub name: &'s str,
    pub block: Option<BlockId>,
    /// 1-based line of its opener in the file.
    pub line: u32,
}

/// A directive while its arguments are still coming in.
struct Found<'t> {
    name: &'t str,
    arguments: Vec<&'t str>,
    /// Place in the block.
    span: Span,
}

impl Scan<'_> {
    /// Reads the comments of the block's lines and appends what concerns a runtime.
    pub fn read(&self, lines: &[&str], config: &mut Vec<ConfigEntry>, errors: &mut Vec<LanguageError>) {
        if !lines.iter().any(|line| memchr::memchr2(b'@', b'~', line.as_bytes()).is_some()) {
            return;
        }
        let mut found: Vec<Found<'_>> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            if let Some(comment) = lexer::comment(line) {
                self.read_comment(comment, line, index as u32, &mut found);
            }
        }
        for directive in found {
            match self.keep(&directive) {
                Ok(Some(entry)) => config.push(entry),
                Ok(None) => {}
                Err(error) if errors.len() < MAX_DIAGNOSTICS => errors.push(error),
                Err(_) => {}
            }
        }
    }

    fn read_comment<'t>(&self, comment: &'t str, line: &str, index: u32, found: &mut Vec<Found<'t>>) {
        let mut tokens = comment.split(is_space).filter(|token| !token.is_empty());
        let is_comment_line = trim(line).starts_with(';');
        let mut is_open = false;
        for (position, token) in tokens.by_ref().enumerate() {
            if let Some(name) = directive_name(token) {
                found.push(Found { name, arguments: Vec::new(), span: span_of(line, token, index) });
                is_open = true;
            } else if position == 0 && token == "-" && is_comment_line {
                // One argument for the directive before it; what follows on this line belongs to nothing.
                break;
            } else if is_open && let Some(directive) = found.last_mut() {
                directive.arguments.push(token);
            }
        }
        if !is_open && let (Some(argument), Some(directive)) = (tokens.next(), found.last_mut()) {
            directive.arguments.push(argument);
        }
    }

    fn keep(&self, directive: &Found<'_>) -> Result<Option<ConfigEntry>, LanguageError> {
        let is_midi = MIDI.contains(&directive.name);
        if is_midi && self.word != BlockWord::Module {
            return Err(self.error(directive, format!("~{} belongs into a module.", directive.name)));
        }
        if is_midi && directive.arguments.len() < 2 {
            return Err(self.error(directive, format!("~{} needs two items at least.", directive.name)));
        }
        Ok((is_midi || directive.name == CONFIG).then(|| ConfigEntry {
            directive: directive.name.to_owned(),
            arguments: directive.arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            block: BlockName { kind: self.word.opener().to_owned(), id: self.name.to_owned() },
            line: self.line + directive.span.line,
        }))
    }

    fn error(&self, directive: &Found<'_>, message: String) -> LanguageError {
        match self.block {
            Some(block) => {
                let place = Place { block, span: directive.span, instruction: directive.name };
                LanguageError::about(CompilerCode::InvalidMidiDirective, place, message)
            }
            None => {
                let mut error = LanguageError::of_options(CompilerCode::InvalidMidiDirective, message);
                error.span = Span { line: self.line + directive.span.line, ..directive.span };
                error
            }
        }
    }
}

/// `@name`, and `~name` for the directives of the MIDI runtime.
fn directive_name(token: &str) -> Option<&str> {
    token.strip_prefix('@').or_else(|| token.strip_prefix('~').filter(|name| MIDI.contains(name))).filter(|name| !name.is_empty())
}

fn span_of(line: &str, token: &str, index: u32) -> Span {
    // The token is a piece of the line, so the distance of their starts is its offset.
    let offset = (token.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
    let column = line.get(..offset).map_or(0, |before| before.chars().count()) as u32 + 1;
    Span { line: index, column, length: token.chars().count() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Kept = (String, Vec<String>, u32);

    fn scan(word: BlockWord, lines: &[&str]) -> (Vec<Kept>, Vec<(i32, u32)>) {
        let (mut config, mut errors) = (Vec::new(), Vec::new());
        Scan { word, name: "m", block: Some(0), line: 10 }.read(lines, &mut config, &mut errors);
        let config = config.into_iter().map(|entry| (entry.directive, entry.arguments, entry.line)).collect();
        (config, errors.into_iter().map(|error| (error.code, error.span.line)).collect())
    }

    #[test]
    fn config_is_found_in_whole_line_and_trailing_comments() {
        let lines = ["module m ; @pos 1 2 @config runtime AudioWorkletRuntime", "push \"; @config a b\" ; @config c d", "; @config e f"];
        let (config, errors) = scan(BlockWord::Module, &lines);
        let expected = [("runtime", "AudioWorkletRuntime", 10), ("c", "d", 11), ("e", "f", 12)];
        let expected = expected.map(|(path, value, line)| ("config".to_owned(), vec![path.to_owned(), value.to_owned()], line));
        assert_eq!((config.as_slice(), errors.len()), (expected.as_slice(), 0));
    }

    #[test]
    fn an_argument_can_stand_on_a_comment_line_of_its_own() {
        let lines = ["; @config audioRuntime.sampleRate", "push 1", "; - 44100", "; @watch x", "; - y"];
        assert_eq!(
            scan(BlockWord::Note, &lines).0,
            [("config".to_owned(), vec!["audioRuntime.sampleRate".to_owned(), "44100".to_owned()], 10)]
        );
    }

    #[test]
    fn midi_directives_need_a_module_and_two_items() {
        let (config, errors) =
            scan(BlockWord::Module, &["; ~midiNoteOutput gate note channel", "; @midiCCInput selected", "; ~ text ~other"]);
        assert_eq!(config[0].1, ["gate", "note", "channel"]);
        assert_eq!(errors, [(CompilerCode::InvalidMidiDirective.number(), 1)]);
        assert_eq!(scan(BlockWord::Function, &["; ~midiNoteOutput gate note"]).1.len(), 1);
    }
}
