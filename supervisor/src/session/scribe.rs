//! Who writes the ledger: after each step of the policy what has become different in its notes, and every process that was
//! started. What cannot be written any more is not taken for something that was: the ledger goes, and people are told.
//!
//! Owned by the main thread.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipc::hash::ContentHash;
use ipc::message::{Output, Role};
use serde::{Deserialize, Serialize};

use super::ledger::{Entries, Ledger};
use crate::policy::adoption::Notes;
pub use crate::policy::adoption::is_noteworthy;
use crate::policy::{Child, HostIndex, Policy};
use crate::render;

/// How the session was set up, as far as the policy does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetupNote {
    /// Of the processes that run.
    pub build: String,
    /// The session's name.
    pub name: String,
    pub output: Output,
    pub lead_blocks: u32,
    /// Folders that the sound may be recorded into.
    pub folders: Vec<PathBuf>,
    pub memory_regions: Vec<String>,
    pub default_runtime: Option<String>,
    pub follows_files: bool,
    pub grace_ms: u64,
    /// When the session began, in nanoseconds of the monotonic clock, which all processes share.
    pub began_ns: u64,
}

/// A process of the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildNote {
    role: Role,
    /// What tells it from others of its role.
    number: u64,
    pub pid: u32,
    /// With the id, what tells it from every other process.
    pub started_ticks: u64,
    /// Name of its crash page.
    pub page: String,
}

impl ChildNote {
    pub fn new(child: Child, pid: u32, started_ticks: u64, page: &str) -> Self {
        let number = match child {
            Child::Worker(generation) | Child::Device(generation) => generation,
            Child::Host(host) => host.0 as u64,
        };
        Self { role: child.role(), number, pid, started_ticks, page: page.to_owned() }
    }

    pub fn child(&self) -> Child {
        match self.role {
            Role::CompilerWorker => Child::Worker(self.number),
            Role::DeviceHost => Child::Device(self.number),
            Role::RuntimeHost => Child::Host(HostIndex(self.number as usize)),
        }
    }
}

/// Keys of the ledger, and what they begin with.
pub mod keys {
    pub const SETUP: &str = "setup";
    pub const SESSION: &str = "session";
    pub const RECKONING: &str = "reckoning";
    pub const LIFE: &str = "life/";
    pub const RUNTIME: &str = "runtime/";
    pub const TEXT: &str = "text/";
    pub const CHILD: &str = "child/";
}

/// Texts whose hashes are remembered at most, beyond those that are named.
const SPARE_DIGESTS: usize = 64;

/// Writes the notes of a session, or nothing.
#[derive(Debug, Default)]
pub struct Scribe {
    ledger: Option<Ledger>,
    /// Hashes of texts by their addresses, which the texts keep.
    digests: HashMap<usize, (Arc<str>, ContentHash)>,
}

impl Scribe {
    /// Begins to write, with what is known already.
    pub fn begin(directory: &Path, known: Entries, setup: &SetupNote) -> Self {
        let mut scribe = Self::default();
        match Ledger::begin(directory, known) {
            Ok(ledger) => scribe.ledger = Some(ledger),
            Err(error) => tell(&error),
        }
        scribe.write(|ledger| ledger.put(keys::SETUP, setup));
        scribe
    }

    /// Notes what has become different.
    pub fn note(&mut self, policy: &Policy) {
        if self.ledger.is_none() {
            return;
        }
        let digests = &mut self.digests;
        let notes = policy.notes(&mut |text| {
            let address = Arc::as_ptr(text).cast::<u8>() as usize;
            digests.entry(address).or_insert_with(|| (Arc::clone(text), ContentHash::of(&[text.as_bytes()]))).1
        });
        let texts: Vec<(Arc<str>, ContentHash)> = self.digests.values().cloned().collect();
        let named = notes.texts();
        self.write(|ledger| {
            // Before those who name them.
            for (text, hash) in &texts {
                let key = format!("{}{hash}", keys::TEXT);
                if !ledger.has(&key) && named.contains(&hash.to_string()) {
                    ledger.put(&key, &&**text)?;
                }
            }
            ledger.put(keys::RECKONING, &notes.reckoning)?;
            ledger.put(keys::SESSION, &notes.session)?;
            for (life, note) in &notes.lives {
                ledger.put(&format!("{}{life:06}", keys::LIFE), note)?;
            }
            for (runtime, note) in &notes.runtimes {
                ledger.put(&format!("{}{runtime:06}", keys::RUNTIME), note)?;
            }
            ledger.retain(keys::LIFE, |life| life.parse().is_ok_and(|life| notes.lives.contains_key(&life)))?;
            ledger.retain(keys::TEXT, |hash| named.contains(hash))
        });
        if self.digests.len() > named.len() + SPARE_DIGESTS {
            self.digests.retain(|_, (_, hash)| named.contains(&hash.to_string()));
        }
    }

    /// A process has been started.
    pub fn started(&mut self, child: &ChildNote) {
        self.write(|ledger| ledger.put(&format!("{}{}", keys::CHILD, child.pid), child));
    }

    /// A process is dead.
    pub fn ended(&mut self, pid: u32) {
        self.write(|ledger| ledger.remove(&format!("{}{pid}", keys::CHILD)));
    }

    fn write(&mut self, write: impl FnOnce(&mut Ledger) -> io::Result<()>) {
        let Some(mut ledger) = self.ledger.take() else { return };
        match write(&mut ledger) {
            Ok(()) => self.ledger = Some(ledger),
            Err(error) => {
                ledger.abandon();
                tell(&error);
            }
        }
    }
}

/// The notes that a ledger holds, if it holds enough to go on with.
pub fn notes(entries: &Entries) -> Option<Notes> {
    fn indexed<T: serde::de::DeserializeOwned>(entries: &Entries, prefix: &str) -> BTreeMap<usize, T> {
        entries.all(prefix).into_iter().filter_map(|(key, note)| Some((key.parse().ok()?, note))).collect()
    }
    Some(Notes {
        session: entries.get(keys::SESSION)?,
        reckoning: entries.get(keys::RECKONING)?,
        lives: indexed(entries, keys::LIFE),
        runtimes: indexed(entries, keys::RUNTIME),
    })
}

fn tell(error: &io::Error) {
    render::tell(&format!("warning: this session cannot be taken back should its supervisor die: its ledger cannot be written: {error}"));
}
