//! The ledger: what a session's next supervisor must know if this one dies, in a file in the session's directory (DESIGN §10).
//!
//! It holds entries by key, and is written only at its end: a new record of a key takes the place of the one before. Each record
//! is `length u32 | checksum 16 bytes | payload`, little-endian; the checksum covers the record's number and its payload, so that a
//! record counts only whole, unharmed and in its place. Whoever reads stops at the first that does not; what follows is cut.
//! When the file has grown to several times what counts in it, it is written anew beside itself and put in its place at once.
//!
//! Owned by the main thread, which writes before it carries out what the records are about. Nothing is synced: the ledger has
//! to outlive a process and not the machine, whose end is the end of everything that could be taken back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipc::codec;
use ipc::hash::ContentHash;
use serde::{Serialize, de::DeserializeOwned};

/// Name of the file in a session's directory.
const FILE: &str = "ledger";

/// Bytes of a record before its payload.
const HEAD_BYTES: usize = 4 + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 16;

/// A ledger is not written anew before it has so many bytes, nor before it has so many times the bytes that count.
const COMPACT_BYTES: u64 = 1 << 20;
const COMPACT_RATIO: u64 = 4;

/// Longest ledger that is read, in bytes: far more than the largest session writes between two compactions.
const MAX_BYTES: u64 = 1 << 30;

/// What a ledger holds: encoded values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<String, Vec<u8>>);

impl Entries {
    /// What the ledger in this directory says; without one, nothing.
    pub fn read(directory: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(directory.join(FILE)).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        if read.is_ok() { parse(&bytes) } else { Self::default() }
    }

    /// The value of a key, if there is one that can be read.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        codec::decode(self.0.get(key)?).ok()
    }

    /// All values whose keys begin with `prefix`, with what follows it.
    pub fn all<T: DeserializeOwned>(&self, prefix: &str) -> Vec<(String, T)> {
        let found = self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
        found.filter_map(|(rest, value)| Some((rest.to_owned(), codec::decode(value).ok()?))).collect()
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(key, value)| (HEAD_BYTES + key.len() + value.len()) as u64).sum()
    }
}

/// A ledger that is being written.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    entries: Entries,
    /// Records in the file.
    records: u64,
    bytes: u64,
}

impl Ledger {
    /// Begins a ledger with these entries, in place of one that may be there.
    pub fn begin(directory: &Path, entries: Entries) -> io::Result<Self> {
        let path = directory.join(FILE);
        let unfinished = directory.join(format!("{FILE}.new"));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut ledger = Self { path, file, entries: Entries::default(), records: 0, bytes: 0 };
        for (key, value) in entries.0 {
            ledger.put_bytes(&key, value)?;
        }
        fs::rename(unfinished, &ledger.path)?;
        Ok(ledger)
    }

    /// Notes a value, unless it is what is noted already.
    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) -> io::Result<()> {
        let value = codec::encode(value).map_err(io::Error::other)?;
        if self.entries.0.get(key) == Some(&value) { Ok(()) } else { self.put_bytes(key, value) }
    }

    /// Forgets every key that begins with `prefix` and that `is_needed` does not want; it is given what follows the prefix.
    pub fn retain(&mut self, prefix: &str, is_needed: impl Fn(&str) -> bool) -> io::Result<()> {
        let is_over = |key: &&String| key.strip_prefix(prefix).is_some_and(|rest| !is_needed(rest));
        let over: Vec<String> = self.entries.0.keys().filter(is_over).cloned().collect();
        over.iter().try_for_each(|key| self.remove(key))
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &str) -> io::Result<()> {
        if self.entries.0.remove(key).is_some() { self.append(key, None) } else { Ok(()) }
    }

    /// Gives up: what cannot be kept up to date is worth nothing.
    pub fn abandon(self) {
        let _ = fs::remove_file(self.path);
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.0.contains_key(key)
    }

    fn put_bytes(&mut self, key: &str, value: Vec<u8>) -> io::Result<()> {
        self.append(key, Some(&value))?;
        self.entries.0.insert(key.to_owned(), value);
        self.compact_if_due()
    }

    fn append(&mut self, key: &str, value: Option<&[u8]>) -> io::Result<()> {
        let payload = codec::encode(&(key, value)).map_err(io::Error::other)?;
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut record = Vec::with_capacity(HEAD_BYTES + payload.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(self.records, &payload));
        record.extend_from_slice(&payload);
        self.file.write_all(&record)?;
        self.records += 1;
        self.bytes += record.len() as u64;
        Ok(())
    }

    fn compact_if_due(&mut self) -> io::Result<()> {
        if self.bytes < COMPACT_BYTES || self.bytes < self.entries.bytes().saturating_mul(COMPACT_RATIO) {
            return Ok(());
        }
        let Some(directory) = self.path.parent().map(Path::to_owned) else { return Ok(()) };
        *self = Self::begin(&directory, std::mem::take(&mut self.entries))?;
        Ok(())
    }
}

fn checksum(number: u64, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = ContentHash::of(&[&number.to_le_bytes(), payload]).0;
    std::array::from_fn(|index| hash[index])
}

/// Reads records up to the first that is not whole and unharmed.
fn parse(mut bytes: &[u8]) -> Entries {
    let mut entries = Entries::default();
    for number in 0.. {
        let Some((key, value, rest)) = record(number, bytes) else { break };
        match value {
            Some(value) => drop(entries.0.insert(key, value)),
            None => drop(entries.0.remove(&key)),
        }
        bytes = rest;
    }
    entries
}

type Record<'a> = (String, Option<Vec<u8>>, &'a [u8]);

fn record(number: u64, bytes: &[u8]) -> Option<Record<'_>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if checksum(number, payload) != *sum {
        return None;
    }
    let (key, value) = codec::decode::<(String, Option<Vec<u8>>)>(payload).ok()?;
    Some((key, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ledger after each of some changes, and the file after all of them.
    fn history() -> (Vec<Entries>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::begin(folder.path(), Entries::default()).unwrap();
        let mut after = vec![ledger.entries.clone()];
        for step in 0..6u64 {
            ledger.put(&format!("life/{}", step % 3), &(step, "x".repeat(step as usize))).unwrap();
            after.push(ledger.entries.clone());
        }
        ledger.remove("life/1").unwrap();
        after.push(ledger.entries.clone());
        (after, fs::read(folder.path().join(FILE)).unwrap())
    }

    #[test]
    fn what_was_noted_is_read_and_the_last_value_of_a_key_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::begin(folder.path(), Entries::default()).unwrap();
        ledger.put("life/1", &"first").unwrap();
        ledger.put("life/2", &"second").unwrap();
        ledger.put("life/1", &"third").unwrap();
        ledger.put("job", &7u32).unwrap();
        ledger.retain("life/", |rest| rest == "1").unwrap();
        let entries = Entries::read(folder.path());
        assert_eq!(entries.all::<String>("life/"), [("1".to_owned(), "third".to_owned())]);
        assert_eq!((entries.get("job"), entries.get::<u32>("nothing")), (Some(7u32), None));
        assert_eq!(entries, ledger.entries);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_holds_what_was_whole() {
        let (after, bytes) = history();
        let mut seen = Vec::new();
        for length in 0..=bytes.len() {
            let entries = parse(&bytes[..length]);
            assert!(after.contains(&entries), "cut at {length}");
            if seen.last() != Some(&entries) {
                seen.push(entries);
            }
        }
        assert_eq!(seen, after, "every record counts from its last byte on");
    }

    #[test]
    fn a_flipped_bit_cuts_the_ledger_before_its_record() {
        let (after, bytes) = history();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let entries = parse(&bad);
            assert!(after[..after.len() - 1].contains(&entries), "bit {bit}");
        }
    }

    #[test]
    fn a_record_in_another_place_does_not_count() {
        let (_, bytes) = history();
        let first = HEAD_BYTES + u32::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        assert_eq!(parse(&bytes[first..]), Entries::default());
        let doubled = [&bytes[..first], &bytes[..first]].concat();
        assert_eq!(parse(&doubled), parse(&bytes[..first]));
    }

    #[test]
    fn a_value_that_is_the_same_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::begin(folder.path(), Entries::default()).unwrap();
        ledger.put("a", &1u8).unwrap();
        let bytes = ledger.bytes;
        ledger.put("a", &1u8).unwrap();
        ledger.remove("b").unwrap();
        assert_eq!(ledger.bytes, bytes);
    }

    #[test]
    fn a_ledger_that_grows_is_written_anew_and_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::begin(folder.path(), Entries::default()).unwrap();
        let filling = "x".repeat(10_000);
        let mut largest = 0;
        for step in 0..1_000u64 {
            ledger.put(&format!("key/{}", step % 5), &(step, &filling)).unwrap();
            largest = largest.max(fs::metadata(folder.path().join(FILE)).unwrap().len());
        }
        assert!(largest < 2 * COMPACT_BYTES, "{largest}");
        let entries = Entries::read(folder.path());
        assert_eq!(entries, ledger.entries);
        assert_eq!(entries.get::<(u64, String)>("key/4").unwrap().0, 999);
    }

    #[test]
    fn no_ledger_is_an_empty_one() {
        assert_eq!(Entries::read(Path::new("/nowhere/at/all")), Entries::default());
    }

    /// Records around any payloads, with lengths and checksums that are right.
    fn sealed(payloads: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for (number, payload) in (0..).zip(payloads.split(|byte| *byte == b'\n')) {
            file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            file.extend_from_slice(&checksum(number, payload));
            file.extend_from_slice(payload);
        }
        file
    }

    /// Ledgers are files: cut, damaged, and, where the first byte of an input is odd, with checksums that are right although the
    /// content is not. What is read is what is there, can be asked for anything, and a session is built from it or is not.
    #[test]
    fn ledgers() {
        use crate::session::scribe::{self, ChildNote, SetupNote, keys};

        let policy = crate::policy::Policy::new(crate::policy::Goal::Serve, ["drums".to_owned()]);
        let notes = policy.notes(&mut |text| ContentHash::of(&[text.as_bytes()]));
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::begin(folder.path(), Entries::default()).unwrap();
        ledger.put(keys::SESSION, &notes.session).unwrap();
        ledger.put(keys::RECKONING, &notes.reckoning).unwrap();
        for (life, note) in &notes.lives {
            ledger.put(&format!("{}{life:06}", keys::LIFE), note).unwrap();
        }
        for (runtime, note) in &notes.runtimes {
            ledger.put(&format!("{}{runtime:06}", keys::RUNTIME), note).unwrap();
        }
        let (_, other) = history();
        let copy = tempfile::tempdir().unwrap();
        let whole = fs::read(folder.path().join(FILE)).unwrap();
        let payloads: Vec<Vec<u8>> = ledger.entries.0.iter().map(|(key, value)| codec::encode(&(key, Some(value))).unwrap()).collect();
        let target = fuzz::Target {
            name: "ledgers",
            seeds: vec![[&[0], whole.as_slice()].concat(), [&[0], other.as_slice()].concat(), [vec![1], payloads.join(&b'\n')].concat()],
            words: &["setup", "session", "reckoning", "life/000000", "runtime/000000", "text/", "child/", "\u{0}\u{0}\u{0}\u{0}", "\n"],
            max_bytes: 16 << 10,
            cases: 20_000,
            cpu: std::time::Duration::from_secs(2),
            bytes: 1 << 20,
            bytes_per_byte: 64,
        };
        target.run(|input| {
            let Some((kind, bytes)) = input.split_first() else { return };
            let file = if kind % 2 == 1 { sealed(bytes) } else { bytes.to_vec() };
            let entries = parse(&file);
            assert!(entries.0.len() * HEAD_BYTES <= file.len(), "every entry stands somewhere");
            drop(Ledger::begin(copy.path(), entries.clone()).unwrap());
            assert_eq!(Entries::read(copy.path()), entries, "written anew it says the same");
            let _ = (entries.get::<SetupNote>(keys::SETUP), entries.all::<ChildNote>(keys::CHILD), entries.all::<String>(keys::TEXT));
            if let Some(notes) = scribe::notes(&entries) {
                let _ = (notes.hosts(), notes.segments().count(), notes.revisions().len(), notes.texts());
                let _ = crate::policy::Policy::take_back(&notes, crate::policy::adoption::Found::default());
            }
        });
    }
}
