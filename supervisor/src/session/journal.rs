//! The journal of a session, and recordings made of it.
//!
//! Everything that is logged goes into a nameless file first, so that a recording can begin at any time and still hold the
//! session from its start; it takes disk, not memory, and is gone with the process whatever ends it. A recording is a copy of
//! it that goes on growing. One entry a line: sixteen hexadecimal digits of the hash of the rest, a blank, JSON. A line that
//! does not fit its hash ends the file: there the recorder was killed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ipc::hash::ContentHash;
use serde::{Deserialize, Serialize};

use crate::policy::log::{LogEntry, Logged};

/// Version of the format.
const FORMAT: u32 = 1;

/// Bytes that a journal may take on disk. A session that has been edited so much can be recorded no more.
const MAX_BYTES: u64 = 1 << 30;

/// Longest line in bytes: the largest source text in JSON, with room.
const MAX_LINE_BYTES: u64 = 32 << 20;

/// Digits of a line's hash.
const HASH_DIGITS: usize = 16;

/// Where journals lie, nameless. The session's own directory for temporary files is in memory.
pub const FOLDER: &str = "/var/tmp";

/// The first line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    pub build: String,
    pub seed: u64,
    /// What was heard lies beside it in a file with this id (`super::heard`). Builds before did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the session's log could not be kept: {0}")]
    Lost(String),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no recording of Continuo", .0.display())]
    NotARecording(PathBuf),
    #[error("{} has the format {found}; this build reads {FORMAT}", path.display())]
    Format { path: PathBuf, found: u32 },
}

/// The journal of a session.
pub struct Journal {
    spool: Result<(File, u64), String>,
    recording: Option<(PathBuf, File)>,
}

impl Journal {
    pub fn begin() -> Self {
        let spool = tempfile::tempfile_in(FOLDER).map(|file| (file, 0)).map_err(|error| error.to_string());
        Self { spool, recording: None }
    }

    /// The file that is recorded into.
    pub fn recording(&self) -> Option<&Path> {
        self.recording.as_ref().map(|(path, _)| path.as_path())
    }

    /// Appends an entry. Returns why a recording has come to its end by that.
    pub fn log(&mut self, entry: &LogEntry) -> Option<(PathBuf, String)> {
        let line = line(entry);
        if let Ok((file, bytes)) = &mut self.spool {
            *bytes += line.len() as u64;
            let written = if *bytes > MAX_BYTES {
                Err("it is too long".to_owned())
            } else {
                file.write_all(&line).map_err(|error| error.to_string())
            };
            if let Err(reason) = written {
                self.spool = Err(reason);
            }
        }
        let (_, file) = self.recording.as_mut()?;
        let error = file.write_all(&line).err()?;
        self.recording.take().map(|(path, _)| (path, error.to_string()))
    }

    /// Begins a recording into a new file, from the session's start on. What is heard goes into a file with the id `heard`.
    pub fn record(&mut self, path: &Path, heard: Option<String>) -> Result<(), JournalError> {
        let spool = self.spool.as_mut().map_err(|reason| JournalError::Lost(reason.clone()))?;
        let failed = |source| JournalError::Write { path: path.to_owned(), source };
        let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
        let header = Header { format: FORMAT, build: crate::role::BUILD.to_owned(), seed: 0, heard };
        let copied = file.write_all(&line(&header)).and_then(|()| {
            spool.0.seek(SeekFrom::Start(0))?;
            let copied = io::copy(&mut spool.0, &mut file);
            spool.0.seek(SeekFrom::End(0))?;
            copied.map(drop)
        });
        copied.map_err(failed)?;
        self.recording = Some((path.to_owned(), file));
        Ok(())
    }

    /// Ends the recording, noting how far each life has come. Returns its file.
    pub fn finish(&mut self, lives: impl IntoIterator<Item = (usize, u64)>) -> Option<PathBuf> {
        self.recording.as_ref()?;
        for (life, tick) in lives {
            self.log(&LogEntry { life, tick, what: Logged::Seen {} });
        }
        self.recording.take().map(|(path, _)| path)
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Cannot fail: no type of the log has a map with keys that are not strings.
    let json = serde_json::to_vec(value).unwrap_or_default();
    let hash = ContentHash::of(&[&json]).to_string();
    let mut line = hash.as_bytes().get(..HASH_DIGITS).unwrap_or_default().to_vec();
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

/// A recording that has been read.
#[derive(Debug)]
pub struct Recording {
    pub header: Header,
    pub entries: Vec<LogEntry>,
    /// Cut off at the end.
    pub is_torn: bool,
}

impl Recording {
    /// Reads a recording up to its end, or to where it is torn.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Read { path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let first = read_line(&mut reader).map_err(failed)?;
        let header: Header = first.as_deref().and_then(content).ok_or_else(|| JournalError::NotARecording(path.to_owned()))?;
        if header.format != FORMAT {
            return Err(JournalError::Format { path: path.to_owned(), found: header.format });
        }
        let mut recording = Self { header, entries: Vec::new(), is_torn: false };
        while let Some(line) = read_line(&mut reader).map_err(failed)? {
            match content(&line) {
                Some(entry) => recording.entries.push(entry),
                None => {
                    recording.is_torn = true;
                    break;
                }
            }
        }
        Ok(recording)
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}

fn content<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Option<T> {
    let line = line.strip_suffix(b"\n")?;
    let (hash, json) = line.split_at_checked(HASH_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    let is_whole = ContentHash::of(&[json]).to_string().as_bytes().get(..HASH_DIGITS) == Some(hash);
    if is_whole { serde_json::from_slice(json).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tick: u64) -> LogEntry {
        LogEntry { life: 0, tick, what: Logged::Set { values: vec![("m:x".to_owned(), 0.1f64.to_bits())], ramp_ticks: 3 } }
    }

    #[test]
    fn a_recording_begun_late_holds_everything_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take.continuo");
        let mut journal = Journal::begin();
        assert!(journal.log(&set(1)).is_none());
        journal.record(&path, None).unwrap();
        assert!(journal.log(&set(2)).is_none());
        assert_eq!(journal.finish([(0, 9)]), Some(path.clone()));
        assert!(journal.log(&set(3)).is_none());
        let read = Recording::read(&path).unwrap();
        assert_eq!(read.entries, [set(1), set(2), LogEntry { life: 0, tick: 9, what: Logged::Seen {} }]);
        assert!(!read.is_torn);
        assert!(journal.record(&path, None).is_err(), "a recording never takes the place of a file");
    }

    #[test]
    fn a_torn_recording_is_good_up_to_where_it_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take.continuo");
        let mut journal = Journal::begin();
        journal.record(&path, None).unwrap();
        journal.log(&set(1));
        journal.log(&set(2));
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        let read = Recording::read(&path).unwrap();
        assert_eq!((read.entries.len(), read.is_torn), (1, true));
        std::fs::write(&path, "something else\n").unwrap();
        assert!(matches!(Recording::read(&path), Err(JournalError::NotARecording(_))));
    }

    /// A line of a recording around any text, with the right hash.
    fn hashed(json: &[u8]) -> Vec<u8> {
        let hash = ContentHash::of(&[json]).to_string();
        [&hash.as_bytes()[..HASH_DIGITS], b" ", json, b"\n"].concat()
    }

    fn revision() -> crate::policy::log::RevisionText {
        crate::policy::log::RevisionText {
            hash: ContentHash::of(&[b"program"]).to_string(),
            previous: None,
            text: "8f4e/v1\n".to_owned(),
            path: PathBuf::from("drums.8f4e"),
            directory: PathBuf::new(),
            settings: Some(crate::policy::log::LoggedSettings { environment: vec![("SAMPLE_RATE".to_owned(), 7)], work_budget: 9 }),
            hears_sound: false,
            assets: Vec::new(),
        }
    }

    /// Recordings are files: cut, damaged, and, where the first byte of an input is odd, with hashes that are right although the
    /// content is not. What stands before the damage is read.
    #[test]
    fn recordings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take.continuo");
        let header = Header { format: FORMAT, build: crate::role::BUILD.to_owned(), seed: 0, heard: None };
        let start =
            Logged::Start { runtime: "drums".to_owned(), runtime_type: "audio".to_owned(), sample_rate: 48_000, revision: revision() };
        let change = Logged::Change { revision: revision(), is_patch: true, trial_ticks: 375, crossfade_frames: 64, good: None };
        let entries = [start, change, Logged::Freeze {}, Logged::RolledBack { is_forced: true, to: None }, Logged::Seen {}];
        let entries = entries.map(|what| LogEntry { life: 0, tick: 5, what });
        let lines: Vec<Vec<u8>> = std::iter::once(line(&header)).chain(entries.iter().map(line)).chain([line(&set(6))]).collect();
        let contents: Vec<Vec<u8>> = lines.iter().map(|line| line[HASH_DIGITS + 1..].to_vec()).collect();
        let target = fuzz::Target {
            name: "recordings",
            seeds: vec![[vec![0], lines.concat()].concat(), [vec![1], contents.concat()].concat()],
            words: &["{\"kind\":\"reset\"}", "\"tick\":", "18446744073709551615", "null", "\\u0000", "[["],
            max_bytes: 16 << 10,
            cases: 20_000,
            cpu: std::time::Duration::from_secs(2),
            bytes: 1 << 20,
            bytes_per_byte: 200,
        };
        target.run(|input| {
            let Some((kind, bytes)) = input.split_first() else { return };
            let file: Vec<u8> = match kind % 2 {
                1 => bytes.split(|byte| *byte == b'\n').flat_map(hashed).collect(),
                _ => bytes.to_vec(),
            };
            std::fs::write(&path, &file).unwrap();
            let Ok(read) = Recording::read(&path) else { return };
            let intact = lines.iter().scan(0, |end, line| {
                let start = *end;
                *end += line.len();
                (file.get(start..*end) == Some(line.as_slice())).then_some(())
            });
            assert!(read.entries.len() + 1 >= intact.count(), "an entry before the damage was not read");
            assert_eq!(read.header.format, FORMAT);
        });
    }
}
