//! Sessions that have lost their supervisor while children of theirs play on: finding them, and what becomes of them.

use std::path::{Path, PathBuf};

use ipc::rendezvous::Summons;
use ipc::segment::SessionId;

use super::directory;
use super::job::{Job, LiveSetup, OutputChoice, SoundOutput};
use super::ledger::Entries;
use super::scribe::{ChildNote, SetupNote, keys};
use crate::control::SessionName;
use crate::policy::{Goal, TapeFiles};

/// A session without a supervisor.
pub struct Abandoned {
    pub id: SessionId,
    pub directory: PathBuf,
    pub entries: Entries,
    pub setup: SetupNote,
}

/// The session of this name, if there is one that waits for a supervisor.
pub fn find(name: &SessionName) -> Option<Abandoned> {
    directory::abandoned().into_iter().find_map(|(id, directory)| {
        let entries = Entries::read(&directory);
        let setup: SetupNote = entries.get(keys::SETUP)?;
        (setup.name == name.as_str()).then_some(Abandoned { id, directory, entries, setup })
    })
}

/// The name of the session whose directory this is, as its ledger says.
pub fn name_of(directory: &Path) -> Option<SessionName> {
    let setup: SetupNote = Entries::read(directory).get(keys::SETUP)?;
    SessionName::new(&setup.name).ok()
}

/// Tells what is left of a session to fade out and end: another one of its name begins.
pub fn dismiss(name: &SessionName) {
    let Some(Abandoned { directory, entries, .. }) = find(name) else { return };
    for (_, child) in entries.all::<ChildNote>(keys::CHILD) {
        // Without it, they end with their grace period.
        let _ = Summons::End.leave(&directory, child.pid);
    }
}

impl Abandoned {
    /// What the session was set up with. What a command line or a session file says now is not looked at: it plays.
    pub fn job(&self) -> Job {
        let setup = self.setup.clone();
        let mut job = Job::new(Goal::Serve, Vec::new());
        job.memory_regions = setup.memory_regions;
        job.sound = Some(SoundOutput {
            output: OutputChoice::Device(setup.output),
            lead_blocks: setup.lead_blocks,
            // What is recorded stands in the notes of the policy.
            tape: TapeFiles::default(),
            folders: setup.folders,
        });
        job.live = Some(LiveSetup {
            session: SessionName::new(&setup.name).ok(),
            follows_files: setup.follows_files,
            default_runtime: setup.default_runtime,
            grace: std::time::Duration::from_millis(setup.grace_ms),
            ..LiveSetup::default()
        });
        job
    }
}
