//! Which files went into the memory of a program: read and hashed for the journal, so that a replay with other files is
//! refused instead of giving other samples (DESIGN P6).
//!
//! Owned by the main thread, which never reads a file: each new state of one is read on a thread of its own, and its note
//! comes back as [`Incoming::Noted`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread;

use ipc::hash::ContentHash;
use runtime_host::host::assets::Stamp;

use super::connection::Incoming;
use crate::policy::log::{LogEntry, Logged};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Stack in bytes of the reading threads.
const STACK_BYTES: usize = 256 << 10;

/// States of files that are remembered as noted; beyond that they are noted once more.
const MAX_NOTED: usize = 4_096;

/// The files that have been noted.
#[derive(Debug, Default)]
pub struct AssetNotes {
    noted: BTreeSet<(usize, PathBuf, Stamp)>,
}

impl AssetNotes {
    /// Has the files of a logged revision read that are not noted yet for this life.
    pub fn note(&mut self, entry: &LogEntry, events: &SyncSender<Incoming>) {
        let (Logged::Start { revision, .. } | Logged::Change { revision, .. }) = &entry.what else { return };
        if self.noted.len() >= MAX_NOTED {
            self.noted.clear();
        }
        let (life, tick) = (entry.life, entry.tick);
        for wanted in &revision.assets {
            if !self.noted.insert((life, wanted.path.clone(), wanted.stamp)) {
                continue;
            }
            let (path, events) = (wanted.path.clone(), events.clone());
            let read = move || {
                // One that is gone again cannot be noted, and a replay misses it anyway.
                if let Ok((bytes, hash)) = length_and_hash(&path) {
                    let what = Logged::Asset { path, bytes, hash: hash.to_string() };
                    let _ = events.send(Incoming::Noted(LogEntry { life, tick, what }));
                }
            };
            // Without a thread the recording has no note of the file, and a replay trusts it.
            let _ = thread::Builder::new().name("asset".to_owned()).stack_size(STACK_BYTES).spawn(read);
        }
    }
}

/// The first file among those noted that is not what it was, in words.
pub fn changed<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> Option<String> {
    entries.into_iter().find_map(|entry| {
        let Logged::Asset { path, bytes, hash } = &entry.what else { return None };
        match length_and_hash(path) {
            Ok((found, same)) if found == *bytes && same.to_string() == *hash => None,
            Ok((found, _)) if found != *bytes => {
                Some(format!("{} had {bytes} bytes when this was recorded, and has {found}", path.display()))
            }
            Ok(_) => Some(format!("{} has other bytes than when this was recorded", path.display())),
            Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
        }
    })
}

/// Reads a file piece by piece; its hash is that of the hashes of its pieces.
fn length_and_hash(path: &Path) -> io::Result<(u64, ContentHash)> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut bytes, mut hash) = (0, ContentHash::of(&[]));
    loop {
        let mut filled = 0;
        while filled < PIECE_BYTES {
            match file.read(&mut piece[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        if filled == 0 {
            return Ok((bytes, hash));
        }
        bytes += filled as u64;
        hash = ContentHash::of(&[hash.to_string().as_bytes(), &piece[..filled]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_what_was_recorded_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.raw");
        std::fs::write(&path, vec![7; PIECE_BYTES + 1]).unwrap();
        let (bytes, hash) = length_and_hash(&path).unwrap();
        let entry = LogEntry { life: 0, tick: 3, what: Logged::Asset { path: path.clone(), bytes, hash: hash.to_string() } };
        assert_eq!(changed([&entry]), None);
        let mut other = vec![7; PIECE_BYTES + 1];
        other[PIECE_BYTES] = 8;
        for content in [other, vec![7; PIECE_BYTES], Vec::new()] {
            std::fs::write(&path, content).unwrap();
            assert!(changed([&entry]).unwrap().contains("clip.raw"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(changed([&entry]).unwrap().contains("cannot be read"));
    }
}
