//! The standard library, and the `includes` blocks that ask for it (LANGUAGE §19).
//!
//! Library texts are written in the language and are part of this binary; nothing is read from the file system. An included
//! function is an ordinary function of the program, apart from its name.

use std::borrow::Cow;

use super::error::{LanguageError, excerpt};
use super::instruction::Instruction;
use super::lexer::{self, is_space, trim};
use super::parsed::{Directive, ParsedBlock, Word};

macro_rules! library {
    ($($id:literal),+ $(,)?) => {
        /// Every include with its text.
        pub const LIBRARY: &[(&str, &str)] = &[$((concat!("std/", $id), include_str!(concat!("stdlib/std/", $id, ".8f4e")))),+];
    };
}

library! {
    "bitwise/extractBit",
    "bitwise/extractByte",
    "events/gateToTrigger",
    "events/hasChanged",
    "events/risingEdge",
    "events/triggerToGate",
    "math/clamp",
    "math/fract",
    "math/lerp",
    "math/normalize",
    "math/pow2",
    "math/smoothstep",
    "math/trig/advancePhase",
    "math/trig/cosine",
    "math/trig/saw",
    "math/trig/sine",
    "math/trig/triangle",
    "memory/advancePointer",
    "memory/copy",
    "memory/decrementPointer",
    "memory/loadAt",
    "memory/nearestValue",
    "memory/readInterpolated",
    "memory/storeAt",
    "memory/wrapPointer",
    "random/lcg",
    "random/xorshift",
    "stack/dup",
    "stack/swap",
}

/// A function of a library file before its lines are read.
#[derive(Clone, Debug)]
pub struct WrittenFunction {
    /// Name in the library file.
    pub written_name: &'static str,
    /// Name in the program: the alias of its `#export`, or a name that programs cannot call.
    pub name: String,
    pub lines: Vec<&'static str>,
}

/// What an `includes` block asks for, each once, as indices into [`LIBRARY`]. `line` is the 1-based line of its opener.
pub fn requested(lines: &[&str], line: u32) -> Result<Vec<usize>, LanguageError> {
    let mut found: Vec<usize> = Vec::new();
    let last = lines.len().saturating_sub(1);
    for (index, text) in lines.iter().enumerate() {
        let (text, number) = (trim(text), line + index as u32);
        if index == 0 || index == last {
            if text.contains(is_space) {
                let what = format!("nothing may stand behind \"{}\"", excerpt(text.split(is_space).next().unwrap_or_default()));
                return Err(include_error(number, &what, "remove the rest of the line"));
            }
            continue;
        }
        if text.is_empty() || text.starts_with([';', '#']) || text.starts_with("//") {
            continue;
        }
        let entry = library_entry(text, number)?;
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn library_entry(text: &str, number: u32) -> Result<usize, LanguageError> {
    let mut tokens = text.split(is_space).filter(|token| !token.is_empty());
    let (word, id, rest) = (tokens.next(), tokens.next(), tokens.next());
    if word != Some("include") {
        let what = format!("expected include, got \"{}\"", excerpt(text));
        return Err(include_error(number, &what, "an includes block holds lines such as: include std/math/clamp"));
    }
    let (Some(id), None) = (id, rest) else {
        return Err(include_error(number, "include requires exactly one include id", "comments need a line of their own here"));
    };
    LIBRARY.iter().position(|(known, _)| *known == id).ok_or_else(|| {
        let error = include_error(number, &format!("unresolved include \"{}\"", excerpt(id)), "");
        error.with_hint(format!("the library has {}", LIBRARY.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ")))
    })
}

fn include_error(line: u32, what: &str, hint: &'static str) -> LanguageError {
    LanguageError::project(line, format!("Parse error at line {line}: {what}"), hint)
}

/// The functions of a library text with the names they have in a program.
pub fn functions(include: &'static str, text: &'static str) -> Vec<WrittenFunction> {
    let mut functions = Vec::new();
    let mut lines = text.lines();
    while let Some(opener) = lines.next() {
        let mut words = first_words(opener);
        if words.next() != Some("function") {
            continue;
        }
        let written_name = words.next().unwrap_or_default();
        let mut function = WrittenFunction { written_name, name: private_name(include, written_name), lines: vec![opener] };
        for line in lines.by_ref() {
            function.lines.push(line);
            let mut words = first_words(line);
            match words.next() {
                Some("#export") => function.name = words.next().unwrap_or(written_name).to_owned(),
                Some("functionEnd") => break,
                _ => {}
            }
        }
        functions.push(function);
    }
    functions
}

fn first_words(line: &'static str) -> impl Iterator<Item = &'static str> {
    let mut tokens = Vec::new();
    // A string that does not end is an error of syntax, found when the line is read for good.
    let _ = lexer::tokenize(line, 0, &mut tokens);
    tokens.into_iter().map(|token| token.text)
}

/// `__8f4e_<id, every run of other than letters and digits as one _>__<name>`.
fn private_name(include: &str, name: &str) -> String {
    let mut mangled = String::from("__8f4e_");
    for c in include.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => mangled.push(c),
            _ if mangled.ends_with('_') => {}
            _ => mangled.push('_'),
        }
    }
    mangled + "__" + name
}

/// Gives a library function its final name, lets its calls name their targets finally, and removes its `#export`, which makes
/// it callable but exports nothing from the program. `family` is all functions of the same library text.
pub fn adopt<'a>(parsed: &mut ParsedBlock<'a>, function: &WrittenFunction, family: &[WrittenFunction]) {
    parsed.id = Cow::Owned(function.name.clone());
    parsed.statements.retain(|statement| statement.word != Word::Directive(Directive::Export));
    for statement in parsed.statements.iter_mut().filter(|statement| statement.word == Word::Body(Instruction::Call)) {
        let Some(target) = statement.arguments.first_mut() else { continue };
        if let Some(called) = family.iter().find(|known| known.written_name == target.text) {
            target.text = Cow::Owned(called.name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_text_has_functions_and_exports_one() {
        for (id, text) in LIBRARY {
            let functions = functions(id, text);
            assert!(!functions.is_empty(), "{id}");
            assert!(functions.iter().any(|function| !function.name.starts_with("__8f4e_")), "{id} exports nothing");
            assert!(!text.contains('\r'), "{id} has Windows line endings");
        }
    }

    #[test]
    fn calls_inside_a_library_text_have_one_target_each() {
        for (id, text) in LIBRARY {
            let functions = functions(id, text);
            for function in &functions {
                let mut names = functions.iter().filter(|other| other.written_name == function.written_name).map(|other| &other.name);
                assert!(names.all(|name| *name == function.name), "{id}: {} has several final names", function.written_name);
            }
        }
    }

    #[test]
    fn functions_that_are_not_exported_get_names_of_their_own() {
        let (id, text) = LIBRARY.iter().find(|(id, _)| *id == "std/memory/readInterpolated").expect("it is in the library");
        let names: Vec<String> = functions(id, text).into_iter().map(|function| function.name).collect();
        assert!(names.contains(&"__8f4e_std_memory_readInterpolated__wrapReadAddress".to_owned()), "{names:?}");
        assert!(names.contains(&"readInterpolated".to_owned()), "{names:?}");
    }

    #[test]
    fn an_includes_block_is_strict() {
        let ids = |lines: &[&str]| requested(lines, 5).map(|found| found.into_iter().map(|include| LIBRARY[include].0).collect::<Vec<_>>());
        let twice = ["includes", " include  std/math/clamp", "; note", "", "include std/math/clamp", "includesEnd"];
        assert_eq!(ids(&twice).expect("is right"), ["std/math/clamp"]);
        for wrong in ["include std/nope", "include", "include std/math/clamp ; note", "push 1"] {
            assert_eq!(ids(&["includes", wrong, "includesEnd"]).expect_err(wrong).span.line, 6, "{wrong}");
        }
        assert!(ids(&["includes x", "includesEnd"]).is_err());
    }
}
