//! Reads program files, within limits, before anything is started or sent. What is no text at all is refused here; whether
//! a text is a program is for the worker to say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// The file's name without its ending; with a number where that is taken.
fn unique_name(path: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let numbered = (2u64..).map(|number| format!("{stem}-{number}"));
    let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name)).unwrap_or(stem);
    names.insert(name.clone());
    name
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
}
