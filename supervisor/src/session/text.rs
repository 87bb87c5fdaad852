//! Reads the text of a program from its file, within limits. What is no text at all is refused here; whether a text is a
//! program is for the worker to say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ipc::limits::MAX_SOURCE_BYTES;

/// Why a file is not a program's text. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    #[error("{} is a folder; name a program file, such as {}", .0.display(), .0.join("song.8f4e").display())]
    Folder(PathBuf),
    #[error("{} is a device or a pipe; name a program file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is larger than the {} MiB a program may have", .0.display(), MAX_SOURCE_BYTES >> 20)]
    TooLarge(PathBuf),
    #[error("{}:{line}: this is not UTF-8 text (byte {byte:#04x}); is it a program?", path.display())]
    NotText { path: PathBuf, line: usize, byte: u8 },
}

/// Reads a file of at most [`MAX_SOURCE_BYTES`].
pub fn read_text(path: &Path) -> Result<String, SourceError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
        _ => SourceError::Unreadable { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if found.is_dir() {
        return Err(SourceError::Folder(path.to_owned()));
    }
    let mut bytes = Vec::new();
    // Also what has no length of its own (a pipe, a device) is read up to the limit and no further.
    file.take(MAX_SOURCE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_SOURCE_BYTES {
        return Err(SourceError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
        SourceError::NotText { path: path.to_owned(), line, byte: bytes.get(at).copied().unwrap_or_default() }
    })
}

/// As [`read_text`], for files that somebody else names: nothing that could make us wait is opened.
pub fn read_regular(path: &Path) -> Result<String, SourceError> {
    let found = path.metadata().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing(path.to_owned()),
        _ => SourceError::Unreadable { path: path.to_owned(), source },
    })?;
    if !found.is_file() && !found.is_dir() {
        return Err(SourceError::NotAFile(path.to_owned()));
    }
    read_text(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("continuo-source-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    fn message(path: &Path) -> String {
        let message = read_text(path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        message
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        assert!(message(Path::new("/nowhere/song.8f4e")).contains("no such file"));
        assert!(message(Path::new("/tmp")).contains("folder"));
        let binary = file("binary", b"8f4e/v1\n\xff\xfe");
        assert!(message(&binary).contains(":2:"));
        let large = file("large", &vec![b' '; MAX_SOURCE_BYTES + 1]);
        assert!(message(&large).contains("4 MiB"));
        std::fs::remove_file(binary).unwrap();
        std::fs::remove_file(large).unwrap();
    }

    #[test]
    fn what_never_ends_is_read_up_to_the_limit() {
        assert!(message(Path::new("/dev/zero")).contains("4 MiB"));
    }
}
