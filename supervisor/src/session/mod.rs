//! A session: one supervisor and all it starts. This is the shell around [`crate::policy`]: it owns the processes, channels,
//! lanes and timers, turns everything that happens into events, and carries the policy's actions out.
//!
//! Life cycle: [`Session::open`] removes what dead sessions left and takes the session's lock and directory; [`conduct()`]
//! runs one job to its end; dropping the session removes its names. After a SIGKILL the next `open` does that instead.

mod calls;
mod conduct;
mod connection;
mod directory;
mod files;
mod job;
mod journal;
mod last_words;
mod obituaries;
mod planning;
mod process;
mod publishing;
mod readiness;
mod segments;
mod signals;
mod symbols;
mod tail;
mod text;

pub use self::conduct::{Audience, ConductError, conduct};
pub use self::directory::DirectoryError;
pub use self::job::{Job, LiveSetup, OutputChoice, Preset, ProgramText, Replay, RunOrder, SoundOutput};
pub use self::journal::Recording;
pub use self::process::ROLE_COMMAND;
pub use self::text::{SourceError, read_text};

use ipc::segment::{self, SegmentError, SessionId};

use self::directory::SessionDirectory;
use crate::containment::limits;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    SharedMemory(#[from] SegmentError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// An open session. Its names in shared memory and its directory are removed when it is dropped.
pub struct Session {
    names: segment::Session,
    directory: SessionDirectory,
}

impl Session {
    /// Removes the remains of dead sessions, then opens a new one.
    pub fn open() -> Result<Self, SessionError> {
        limits::protect_supervisor();
        segment::sweep();
        directory::sweep();
        let names = segment::Session::open()?;
        let directory = SessionDirectory::make(names.id())?;
        // Doorways are sockets in the directory for temporary files; this keeps them out of everybody else's.
        let _ = tempfile::env::override_temp_dir(directory.path());
        Ok(Self { names, directory })
    }

    fn id(&self) -> &SessionId {
        self.names.id()
    }
}
