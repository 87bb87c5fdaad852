//! A message with the place in the source text it is about, the way compilers show it.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use ipc::diagnostic::{Diagnostic, Stage};
use ipc::fault::Fault;

use crate::session::ProgramText;

/// What is wrong and where.
struct Finding<'a> {
    level: Level<'a>,
    /// Such as `syntax 11`.
    id: Option<String>,
    title: String,
    line: Option<u32>,
    column: Option<u32>,
    length: Option<u32>,
    notes: Vec<String>,
    hint: Option<&'a str>,
}

/// A diagnostic of the worker.
pub fn diagnostic(program: &ProgramText, diagnostic: &Diagnostic, has_colour: bool) -> String {
    let mut notes = Vec::new();
    if let Some(include) = &diagnostic.include {
        notes.push(format!("this is in the included {include}"));
    }
    if let Some(block) = &diagnostic.block {
        let line = diagnostic.line_in_block.map(|line| format!(", line {line} of it")).unwrap_or_default();
        notes.push(format!("in the {} `{}`{line}", block.kind, block.id));
    }
    let finding = Finding {
        level: Level::ERROR,
        id: Some(format!("{} {}", stage(diagnostic.stage), diagnostic.code)),
        title: diagnostic.message.clone(),
        line: diagnostic.line,
        column: diagnostic.column,
        length: diagnostic.length,
        notes,
        hint: diagnostic.hint.as_deref(),
    };
    render(program, &finding, has_colour)
}

/// A fault of the running program.
pub fn fault(program: &ProgramText, fault: &Fault, consequence: &str, has_colour: bool) -> String {
    let repeats = if fault.repeats == 0 { String::new() } else { format!(" (and {} times more)", fault.repeats) };
    let mut notes: Vec<String> = fault.block.iter().map(|block| format!("in the {} `{}`", block.kind, block.id)).collect();
    if !consequence.is_empty() {
        notes.push(consequence.to_owned());
    }
    let finding = Finding {
        level: Level::ERROR,
        id: None,
        title: format!("tick {} of \"{}\": {}{repeats}", fault.tick, program.name, fault.kind.explanation()),
        line: fault.line,
        column: None,
        length: None,
        notes,
        hint: None,
    };
    render(program, &finding, has_colour)
}

/// A refusal, with the line to blame where there is one.
pub fn refusal(program: &ProgramText, message: &str, line: Option<u32>, has_colour: bool) -> String {
    let title = message.to_owned();
    let finding = Finding { level: Level::ERROR, id: None, title, line, column: None, length: None, notes: Vec::new(), hint: None };
    render(program, &finding, has_colour)
}

/// The stage's name in codes, such as `syntax`.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Project => "project",
        Stage::Syntax => "syntax",
        Stage::Compiler => "compiler",
    }
}

fn render(program: &ProgramText, finding: &Finding<'_>, has_colour: bool) -> String {
    let path = program.path.display().to_string();
    let mut title = finding.level.clone().primary_title(normalize_untrusted_str(&finding.title));
    if let Some(id) = &finding.id {
        title = title.id(id.clone());
    }
    let text = finding.line.and_then(|line| line_of(&program.source, line).map(|text| (line, text)));
    let mut group = match text {
        Some((line, text)) => Group::with_title(title).element(
            Snippet::source(text.to_owned()).line_start(line as usize).path(path).annotation(AnnotationKind::Primary.span(span(
                text,
                finding.column,
                finding.length,
            ))),
        ),
        None => Group::with_title(title).element(Origin::path(path)),
    };
    for note in &finding.notes {
        group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
    }
    if let Some(hint) = finding.hint {
        group = group.element(Level::HELP.message(normalize_untrusted_str(hint)));
    }
    let renderer = if has_colour { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// Line `number` (from 1) of a text, without its end.
fn line_of(source: &str, number: u32) -> Option<&str> {
    let line = source.split('\n').nth(number.checked_sub(1)? as usize)?;
    Some(line.strip_suffix('\r').unwrap_or(line))
}

/// The bytes of a line that column (from 1) and length in characters name; the line without its indentation where none do.
fn span(line: &str, column: Option<u32>, length: Option<u32>) -> std::ops::Range<usize> {
    let byte_at = |character: usize| line.char_indices().nth(character).map_or(line.len(), |(byte, _)| byte);
    match column {
        Some(column) => {
            let start = column.saturating_sub(1) as usize;
            byte_at(start)..byte_at(start + length.unwrap_or(1) as usize)
        }
        None => line.len() - line.trim_start().len()..line.trim_end().len().max(line.len() - line.trim_start().len()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ipc::diagnostic::BlockName;
    use ipc::fault::FaultKind;

    use super::*;

    fn program(source: &str) -> ProgramText {
        ProgramText {
            name: "drums".to_owned(),
            path: PathBuf::from("songs/drums.8f4e"),
            source: source.into(),
            base_directory: PathBuf::from("/"),
        }
    }

    fn unknown_instruction(line: Option<u32>) -> Diagnostic {
        Diagnostic {
            stage: Stage::Syntax,
            code: 11,
            line,
            column: Some(2),
            length: Some(4),
            line_in_block: Some(1),
            block: Some(BlockName { kind: "module".to_owned(), id: "kick".to_owned() }),
            instruction: Some("puhs".to_owned()),
            message: "Unrecognised instruction puhs".to_owned(),
            hint: Some("did you mean `push`?".to_owned()),
            include: None,
        }
    }

    #[test]
    fn a_diagnostic_shows_file_line_column_excerpt_code_and_hint() {
        let text = diagnostic(&program("8f4e/v1\nentry main\nmodule kick\n\tpuhs 1\r\n"), &unknown_instruction(Some(4)), false);
        for part in ["error[syntax 11]: Unrecognised", "songs/drums.8f4e:4:2", "puhs 1", "^^^^", "did you mean `push`?", "`kick`"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_place_outside_the_file_is_left_out() {
        for line in [None, Some(0), Some(99)] {
            assert!(diagnostic(&program("8f4e/v1\n"), &unknown_instruction(line), false).contains("songs/drums.8f4e"));
        }
    }

    #[test]
    fn a_column_outside_the_line_or_inside_a_character_does_no_harm() {
        for column in [1, 2, 3, 100, u32::MAX] {
            let range = span("é→x", Some(column), Some(u32::MAX));
            assert!("é→x".get(range).is_some());
        }
        assert_eq!(span("   ", None, None), 3..3);
        assert_eq!(span("  ab ", None, None), 2..4);
    }

    #[test]
    fn a_fault_names_tick_runtime_and_line() {
        let trap = Fault { kind: FaultKind::DivisionByZero, tick: 41, block: None, line: Some(2), repeats: 3 };
        let text = fault(&program("8f4e/v1\ndiv\n"), &trap, "its output is silent for this tick", false);
        for part in ["tick 41", "\"drums\"", "divided by zero", "drums.8f4e:2", "3 times more", "silent"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
