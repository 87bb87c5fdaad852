//! Which files a tape has. The device host that goes on with the tape of one that has died writes parts of their own:
//! `take.wav` is followed by `take.2.wav`, and all files of a part have its number.
//!
//! Used by the tape's own thread.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipc::message::Tape;

use super::TapeError;
use super::wav_file::mend;

/// Parts that one recording may have: a device host that dies more often than this is given up long before.
const MAX_PARTS: u32 = 9_999;

/// Names that are tried for a stem that comes later.
const MAX_NAMES: u32 = 99;

/// Names the files of one part, and creates them.
pub struct Files {
    tape: Tape,
    number: u32,
    created: BTreeSet<PathBuf>,
}

impl Files {
    /// Settles which part is written: the first, or after that of a device host that has died the next that is free. Returns how
    /// many frames the master of the part before has, if there is one.
    pub fn of(tape: &Tape) -> Result<(Self, Option<u64>), TapeError> {
        if tape.master.is_none() && tape.stems.is_none() {
            return Err(TapeError::Empty);
        }
        if let Some(folder) = &tape.stems {
            std::fs::create_dir_all(folder).map_err(|error| refused(folder, &error))?;
        }
        let mut files = Self { tape: tape.clone(), number: tape.part.max(1), created: BTreeSet::new() };
        while files.number > 1 && files.is_taken() {
            if files.number >= MAX_PARTS {
                let path = files.master().or(tape.stems.clone()).unwrap_or_default();
                return Err(TapeError::Create { path, reason: format!("it has {MAX_PARTS} parts already") });
            }
            files.number += 1;
        }
        let frames = tape.master.as_ref().and_then(|path| files.mend_before(path));
        Ok((files, frames))
    }

    /// Number of the part, from 1.
    pub fn part(&self) -> u32 {
        self.number
    }

    /// Where the master goes.
    pub fn master(&self) -> Option<PathBuf> {
        self.tape.master.as_ref().map(|path| part_path(path, self.number))
    }

    /// Where the stem of a runtime goes. The one of the part before is mended.
    pub fn stem(&self, runtime: &str) -> Option<PathBuf> {
        let first = self.tape.stems.as_ref()?.join(format!("{runtime}.wav"));
        self.mend_before(&first);
        Some(part_path(&first, self.number))
    }

    /// Creates one of the files. Nothing that exists is written over unless the tape says so, and a pipe is not waited for.
    pub fn create(&mut self, path: &Path) -> Result<File, TapeError> {
        if !self.created.insert(path.to_owned()) {
            return Err(TapeError::Twice { path: path.to_owned() });
        }
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        match self.replaces() {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        options.open(path).map_err(|error| refused(path, &error))
    }

    /// Creates a stem that comes while others are written already: where its name is taken it gets another one, because they
    /// must not end for it.
    pub fn create_late(&mut self, path: &Path) -> Result<(PathBuf, File), TapeError> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let other = |number| path.with_file_name(format!("{stem}-{number}.wav"));
        let mut names = std::iter::once(path.to_owned()).chain((2..=MAX_NAMES).map(other));
        let is_free = |name: &PathBuf| !self.created.contains(name) && (self.replaces() || name.symlink_metadata().is_err());
        let name = names.find(is_free).unwrap_or_else(|| path.to_owned());
        self.create(&name).map(|file| (name, file))
    }

    /// Whether what exists is written over.
    fn replaces(&self) -> bool {
        self.tape.replaces && self.number == 1
    }

    /// Whether a file has this part's number already.
    fn is_taken(&self) -> bool {
        let has_master = self.master().is_some_and(|path| path.symlink_metadata().is_ok());
        let suffix = format!(".{}.wav", self.number);
        let entries = self.tape.stems.as_ref().and_then(|folder| std::fs::read_dir(folder).ok());
        has_master || entries.into_iter().flatten().flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))
    }

    /// Mends the file of the part before, if there is one, and returns its frames. One that cannot be mended is as it was after
    /// the kill: readable up to the last update of its header.
    fn mend_before(&self, first: &Path) -> Option<u64> {
        let before = (1..self.number).rev().map(|number| part_path(first, number)).find(|path| path.exists())?;
        mend(&before).ok()
    }
}

/// Where the device host may write is settled when it starts, so a refusal says what to do about it.
fn refused(path: &Path, error: &io::Error) -> TapeError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the session may write below the folder it was started in, beside its own recording, and where `--tapes FOLDER` said"
        }
        io::ErrorKind::AlreadyExists => "; a recording never replaces a file",
        _ => "",
    };
    TapeError::Create { path: path.to_owned(), reason: format!("{error}{hint}") }
}

/// `take.wav` becomes `take.2.wav`.
fn part_path(first: &Path, number: u32) -> PathBuf {
    match (number, first.extension()) {
        (1, _) => first.to_owned(),
        (_, Some(extension)) => first.with_extension(format!("{number}.{}", extension.to_string_lossy())),
        (_, None) => first.with_extension(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tape(folder: &Path, part: u32, replaces: bool) -> Tape {
        Tape { number: 1, part, master: Some(folder.join("take.wav")), stems: Some(folder.join("stems")), replaces, from_block: 0 }
    }

    #[test]
    fn parts_are_named_with_and_without_an_ending() {
        assert_eq!(part_path(Path::new("/a/take.wav"), 2), Path::new("/a/take.2.wav"));
        assert_eq!(part_path(Path::new("/a.b/take"), 12), Path::new("/a.b/take.12"));
        assert_eq!(part_path(Path::new("/a/take.wav"), 1), Path::new("/a/take.wav"));
    }

    #[test]
    fn all_files_of_a_part_have_the_number_that_is_free_for_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let names = |part| {
            let (files, _) = Files::of(&tape(folder.path(), part, false)).unwrap();
            (files.part(), files.master().unwrap(), files.stem("drums").unwrap())
        };
        let path = |name: &str| folder.path().join(name);
        assert_eq!(names(2), (2, path("take.2.wav"), path("stems/drums.2.wav")));
        std::fs::write(path("stems/bass.2.wav"), "").unwrap();
        std::fs::write(path("take.3.wav"), "").unwrap();
        assert_eq!(names(1), (1, path("take.wav"), path("stems/drums.wav")));
        assert_eq!(names(2), (4, path("take.4.wav"), path("stems/drums.4.wav")));
    }

    #[test]
    fn what_exists_is_replaced_only_where_the_tape_says_so_and_no_file_is_used_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take.wav");
        std::fs::write(&path, "dear").unwrap();
        let (mut careful, _) = Files::of(&tape(folder.path(), 1, false)).unwrap();
        assert!(careful.create(&path).unwrap_err().to_string().contains("never replaces"));
        assert_eq!(std::fs::read(&path).unwrap(), b"dear");
        let (mut replacing, _) = Files::of(&tape(folder.path(), 1, true)).unwrap();
        replacing.create(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert!(matches!(replacing.create(&path), Err(TapeError::Twice { .. })));
    }

    #[test]
    fn a_stem_that_comes_later_gets_another_name_where_its_own_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = Files::of(&tape(folder.path(), 1, false)).unwrap();
        let path = folder.path().join("stems/lead.wav");
        std::fs::write(&path, "dear").unwrap();
        let mut next = || files.create_late(&path).unwrap().0;
        assert_eq!(next(), folder.path().join("stems/lead-2.wav"));
        assert_eq!(next(), folder.path().join("stems/lead-3.wav"));
        assert_eq!(std::fs::read(&path).unwrap(), b"dear");
    }

    #[test]
    fn a_tape_of_nothing_is_none() {
        let tape = Tape { number: 1, part: 1, master: None, stems: None, replaces: false, from_block: 0 };
        assert!(matches!(Files::of(&tape), Err(TapeError::Empty)));
    }
}
