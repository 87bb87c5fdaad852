//! Reads program files, within limits, before anything is started or sent. What is no text at all is refused here; whether
//! a text is a program is for the worker to say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::control::protocol::MAX_RUNTIME_NAME_BYTES;
use crate::session::{ProgramText, SourceError, read_text};

/// Reads all programs of a command line, and gives each a name of its own.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<ProgramText>, SourceError> {
    let mut names = BTreeSet::new();
    paths.iter().map(|path| read(path, &mut names)).collect()
}

fn read(path: &Path, names: &mut BTreeSet<String>) -> Result<ProgramText, SourceError> {
    let source = read_text(path)?;
    let absolute = std::path::absolute(path).map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    Ok(ProgramText {
        name: unique_name(path, names),
        path: path.to_owned(),
        source: source.into(),
        base_directory: absolute.parent().unwrap_or(Path::new("/")).to_owned(),
    })
}

/// The file's name without its ending, as far as it can name a runtime; with a number where that is taken.
fn unique_name(path: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = runtime_name(&path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy(), MAX_RUNTIME_NAME_BYTES);
    let numbered = (2u64..).map(|number| {
        let ending = format!("-{number}");
        format!("{}{ending}", runtime_name(&stem, MAX_RUNTIME_NAME_BYTES - ending.len()))
    });
    let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name)).unwrap_or(stem);
    names.insert(name.clone());
    name
}

/// The text as a runtime's name of at most so many bytes: what cannot be in one becomes `_`.
fn runtime_name(text: &str, max_bytes: usize) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() || c == '/' || c == ':' { '_' } else { c }).collect();
    let mut end = clean.len().min(max_bytes);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    let name = clean.get(..end).unwrap_or_default().trim_end();
    if name.is_empty() { "program".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_one_name_become_two_runtimes() {
        let mut names = BTreeSet::new();
        let all = ["a/drums.8f4e", "b/drums.8f4e", "drums-2.8f4e", "c/drums"].map(|path| unique_name(Path::new(path), &mut names));
        assert_eq!(all, ["drums", "drums-2", "drums-2-2", "drums-3"]);
    }

    #[test]
    fn whatever_a_file_is_called_its_runtime_has_a_name_of_the_protocol() {
        let mut names = BTreeSet::new();
        let long = "ä".repeat(100);
        for stem in ["a:b", " drums ", "line\nbreak", long.as_str(), &long, &long, ":", "\u{1}"] {
            let name = unique_name(&Path::new("/x").join(format!("{stem}.8f4e")), &mut names);
            assert!(crate::control::protocol::RuntimeName::new(name.clone()).is_ok(), "{name:?}");
        }
        assert_eq!(names.len(), 8, "each has its own: {names:?}");
    }
}
