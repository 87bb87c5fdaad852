//! The log of a session: every input that reached a host, with the tick it took effect in. What a replay needs, and no more.
//!
//! Numbers are kept as their bits: a log that rounds is none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use ipc::midi::Received;
use runtime_host::host::assets::Wanted;

use super::runtime::Revision;
use super::vocabulary::{CompileSettings, ProgramText};

/// One thing that happened to one life of a runtime: from the start of a host to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// Number of the life, counted over the session.
    pub life: usize,
    /// The first tick that knows of it.
    pub tick: u64,
    pub what: Logged,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Logged {
    /// A host began to run this revision from its defaults.
    Start {
        runtime: String,
        runtime_type: String,
        sample_rate: u32,
        revision: RevisionText,
    },
    /// Another revision, with the state of the one before.
    Change {
        revision: RevisionText,
        is_patch: bool,
        trial_ticks: u32,
        crossfade_frames: u32,
        /// What a failed trial goes back to, where that is not the revision before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        good: Option<String>,
    },
    Set {
        values: Vec<(String, u64)>,
        ramp_ticks: u32,
    },
    /// Messages that had come in over MIDI.
    Midi {
        messages: Vec<Received>,
        /// The tick that was to know of them, if any was.
        #[serde(skip)]
        wanted: Option<u64>,
    },
    /// What control wires brought: each value with its tick and the index of its item. The entry's tick is the first of which
    /// that is not known.
    Wired {
        items: Vec<String>,
        values: Vec<(u64, usize, u64)>,
    },
    Reset {},
    Freeze {},
    Run {},
    /// An earlier revision (`to`; without it the one before the last change) took over. By itself, or because a clock decided
    /// so (`isForced`).
    RolledBack {
        is_forced: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// A file whose bytes went into its memory was this one. Noted when it has been read, which is after the change it is of.
    Asset {
        path: PathBuf,
        bytes: u64,
        hash: String,
    },
    /// It ran at least up to here.
    Seen {},
}

/// A revision as it can be compiled again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionText {
    pub hash: String,
    /// The revision its memory is laid out against.
    pub previous: Option<String>,
    pub text: String,
    pub path: PathBuf,
    pub directory: PathBuf,
    pub settings: Option<LoggedSettings>,
    /// It listened to something that no log holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hears_sound: bool,
    /// Files to be noted with it.
    #[serde(skip)]
    pub assets: Vec<Wanted>,
}

/// What it was compiled with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedSettings {
    pub environment: Vec<(String, u64)>,
    pub work_budget: u64,
}

impl RevisionText {
    pub fn of(revision: &Revision) -> Self {
        Self {
            hash: revision.hash().to_string(),
            previous: revision.previous.map(|previous| previous.to_string()),
            text: revision.text.source.to_string(),
            path: revision.text.path.clone(),
            directory: revision.text.base_directory.clone(),
            settings: revision.settings.as_ref().map(|settings| LoggedSettings {
                environment: settings.environment.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect(),
                work_budget: settings.work_budget,
            }),
            hears_sound: revision.plan.hears_sound,
            assets: revision.plan.assets.clone(),
        }
    }

    /// As a program of the runtime `name`.
    pub fn program(&self, name: &str) -> ProgramText {
        ProgramText {
            name: name.to_owned(),
            path: self.path.clone(),
            source: self.text.as_str().into(),
            base_directory: self.directory.clone(),
        }
    }

    pub fn settings(&self) -> Option<CompileSettings> {
        self.settings.as_ref().map(|settings| CompileSettings {
            environment: settings.environment.iter().map(|(name, bits)| (name.clone(), f64::from_bits(*bits))).collect(),
            work_budget: settings.work_budget,
        })
    }
}
