//! The writer: puts what was heard on disk.
//!
//! On a thread of its own, the only one here that waits for a disk. As the journal does, it writes into a nameless file from the
//! session's start on, so that a recording can begin at any time; a recording is a copy of it that goes on growing. The nameless
//! file is bounded, and leaves room for others on its disk; a recording is bounded by its disk alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use super::News;
use super::file::first_line;
use crate::session::journal;

/// Loads that may wait for the disk, each of 64 KiB at most: some forty seconds of one listener, and 16 MiB.
pub const MAX_LOADS: usize = 256;

/// Bytes that the nameless file may take: three hours of one listener at 48 kHz.
const MAX_SPOOL_BYTES: u64 = 4 << 30;

/// Bytes that it leaves free on its disk.
const KEPT_FREE_BYTES: u64 = 1 << 30;

/// How often that is looked at, in bytes.
const LOOK_BYTES: u64 = 16 << 20;

/// What the ear brings.
pub enum Load {
    /// A piece of what was heard.
    Piece(Vec<u8>),
    /// Begin to record into this new file.
    Record { path: PathBuf, id: String },
    /// End that.
    Finish { number: u64 },
}

/// The nameless file.
struct Spool {
    file: File,
    bytes: u64,
    looked_at_bytes: u64,
}

/// See the module.
pub struct Writer<T> {
    spool: Result<Spool, String>,
    recording: Option<(PathBuf, File)>,
    tell: T,
}

impl<T: Fn(News)> Writer<T> {
    pub fn new(tell: T) -> Self {
        let spool = tempfile::tempfile_in(journal::FOLDER).map(|file| Spool { file, bytes: 0, looked_at_bytes: 0 });
        Self { spool: spool.map_err(|error| error.to_string()), recording: None, tell }
    }

    /// Writes what comes until nobody brings anything any more.
    pub fn run(mut self, loads: &Receiver<Load>) {
        while let Ok(load) = loads.recv() {
            match load {
                Load::Piece(bytes) => self.write(&bytes),
                Load::Record { path, id } => self.record(path, &id),
                Load::Finish { number } => {
                    self.recording = None;
                    (self.tell)(News::Finished { number });
                }
            }
        }
    }

    fn write(&mut self, piece: &[u8]) {
        if let Ok(spool) = &mut self.spool
            && let Err(why) = spool.write(piece)
        {
            self.spool = Err(why);
        }
        let Some((_, file)) = &mut self.recording else { return };
        if let Err(error) = file.write_all(piece)
            && let Some((path, _)) = self.recording.take()
        {
            self.fail(path, &error.to_string());
        }
    }

    fn record(&mut self, path: PathBuf, id: &str) {
        match self.copy(&path, id) {
            Ok(file) => self.recording = Some((path, file)),
            Err(why) => self.fail(path, &why),
        }
    }

    /// A new file with everything so far.
    fn copy(&mut self, path: &Path, id: &str) -> Result<File, String> {
        let spool = self.spool.as_mut().map_err(|why| format!("what was heard before could not be kept: {why}"))?;
        let in_words = |error: io::Error| error.to_string();
        let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(in_words)?;
        file.write_all(&first_line(id)).map_err(in_words)?;
        spool.file.seek(SeekFrom::Start(0)).map_err(in_words)?;
        let copied = io::copy(&mut spool.file, &mut file);
        spool.file.seek(SeekFrom::Start(spool.bytes)).map_err(in_words)?;
        copied.map(|_| file).map_err(in_words)
    }

    fn fail(&self, path: PathBuf, why: &str) {
        let why = format!("what was heard is not recorded any further: {why}; everything else is, and the sound goes on");
        (self.tell)(News::Failed { path, why });
    }
}

impl Spool {
    fn write(&mut self, piece: &[u8]) -> Result<(), String> {
        let bytes = self.bytes + piece.len() as u64;
        if bytes > MAX_SPOOL_BYTES {
            return Err(format!("it is longer than {} GiB; begin the recording earlier", MAX_SPOOL_BYTES >> 30));
        }
        if self.bytes == 0 || bytes - self.looked_at_bytes > LOOK_BYTES {
            self.looked_at_bytes = bytes;
            let free_bytes = rustix::fs::fstatvfs(&self.file).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
            if free_bytes < KEPT_FREE_BYTES {
                return Err(format!("{} has less than {} GiB free", journal::FOLDER, KEPT_FREE_BYTES >> 30));
            }
        }
        self.file.write_all(piece).map_err(|error| error.to_string())?;
        self.bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use ipc::lane::SILENCE;

    use super::super::file::{HeardLife, Kind, Piece};
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn piece(tick: u64) -> Vec<u8> {
        let mut piece = Piece::begin(0, Kind::Silence, tick);
        piece.push(&SILENCE);
        piece.into_bytes()
    }

    fn end(path: &Path) -> u64 {
        HeardLife::find(path, ID, 0).unwrap().end()
    }

    #[test]
    fn a_recording_that_is_begun_late_holds_what_was_heard_before() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one.heard"), folder.path().join("other.heard"));
        let told = RefCell::new(Vec::new());
        let mut writer = Writer::new(|news| told.borrow_mut().push(news));
        (0..5).for_each(|tick| writer.write(&piece(tick)));
        writer.record(one.clone(), ID);
        (5..7).for_each(|tick| writer.write(&piece(tick)));
        writer.recording = None;
        writer.write(&piece(7));
        writer.record(other.clone(), ID);
        writer.write(&piece(8));
        assert_eq!((end(&one), end(&other)), (7, 9));
        assert!(told.borrow().is_empty());
        writer.record(one.clone(), ID);
        assert!(matches!(&told.borrow()[..], [News::Failed { path, .. }] if *path == one), "nothing is written over");
        assert_eq!(end(&one), 7);
    }

    #[test]
    fn a_disk_that_is_full_ends_what_is_recorded_of_what_is_heard_once_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("next.heard");
        let told = RefCell::new(Vec::new());
        let mut writer = Writer::new(|news| told.borrow_mut().push(news));
        let full = File::options().write(true).open("/dev/full").unwrap();
        writer.recording = Some(("take.heard".into(), full));
        (0..3).for_each(|tick| writer.write(&piece(tick)));
        assert!(matches!(&told.borrow()[..], [News::Failed { why, .. }] if why.contains("everything else is")), "{told:?}");
        writer.record(path.clone(), ID);
        writer.write(&piece(3));
        assert_eq!(end(&path), 4, "another recording can be begun, and holds it all");
    }

    #[test]
    fn where_the_nameless_file_is_lost_a_recording_that_runs_goes_on_and_no_other_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take.heard");
        let told = RefCell::new(Vec::new());
        let mut writer = Writer::new(|news| told.borrow_mut().push(news));
        writer.write(&piece(0));
        writer.record(path.clone(), ID);
        let full = File::options().write(true).open("/dev/full").unwrap();
        writer.spool = Ok(Spool { file: full, bytes: 32, looked_at_bytes: 32 });
        (1..4).for_each(|tick| writer.write(&piece(tick)));
        assert_eq!((end(&path), told.borrow().len()), (4, 0));
        writer.record(folder.path().join("next.heard"), ID);
        assert!(matches!(&told.borrow()[..], [News::Failed { why, .. }] if why.contains("could not be kept")), "{told:?}");
    }
}
