//! A session: one supervisor and all it starts. This is the shell around [`crate::policy`]: it owns the processes, channels,
//! lanes and timers, turns everything that happens into events, and carries the policy's actions out.
//!
//! Life cycle: [`Session::open`] removes what dead sessions left and takes the session's lock and directory; [`conduct()`]
//! runs one job to its end; dropping the session removes its names. After a SIGKILL the next `open` does that instead.

mod abandoned;
pub mod asset_notes;
mod calls;
mod conduct;
mod connection;
mod directory;
mod files;
pub mod heard;
mod job;
mod journal;
mod last_words;
mod ledger;
mod membership;
mod obituaries;
mod planning;
mod process;
mod publishing;
mod readiness;
mod scribe;
mod segments;
pub mod sent;
mod signals;
mod symbols;
mod tail;
mod text;

pub use self::calls::CallQueue;
pub use self::conduct::{Audience, ConductError, conduct};
pub use self::connection::Incoming;
pub use self::directory::DirectoryError;
pub use self::job::{HeardSource, Job, LiveSetup, OutputChoice, Preset, ProgramText, Replay, RunOrder, SoundOutput};
#[cfg(test)]
pub use self::journal::Header;
pub use self::journal::Recording;
pub use self::membership::Membership;
pub use self::process::ROLE_COMMAND;
pub use self::signals::die_of_faults;
pub use self::text::{SourceError, read_text};

use ipc::segment::{self, SegmentError, SessionId};

use self::abandoned::Abandoned;
use self::directory::SessionDirectory;
use crate::containment::limits;
use crate::control::SessionName;
use crate::policy::Goal;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    SharedMemory(#[from] SegmentError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Children of another build cannot be talked to.
    #[error(
        "session `{name}` plays on without a supervisor, but its processes are another build of Continuo (build {theirs}, this is {ours}); take it back with that build, or wait until its grace period is over"
    )]
    OtherBuild { name: String, theirs: String, ours: String },
}

/// An open session. Its names in shared memory and its directory are removed when it is dropped.
pub struct Session {
    names: segment::Session,
    directory: SessionDirectory,
    /// What its last supervisor has left, if this one takes its place.
    abandoned: Option<Abandoned>,
}

impl Session {
    /// Removes the remains of dead sessions. Then takes the session that the job names back, if it has lost its supervisor and the
    /// job is to serve it; else opens a new one, and lets what is left of one of the same name end.
    pub fn open(job: &Job) -> Result<Self, SessionError> {
        limits::protect_supervisor();
        segment::sweep();
        directory::sweep();
        let name = job.live.as_ref().map(|live| live.session.clone().unwrap_or_default());
        match (job.goal, name) {
            (Goal::Serve, Some(name)) => {
                if let Some(session) = Self::take_back(&name)? {
                    return Ok(session);
                }
            }
            (Goal::Play { .. }, Some(name)) => abandoned::dismiss(&name),
            (Goal::Play { .. } | Goal::Serve, None) => {}
            (Goal::Check | Goal::Compile | Goal::Run | Goal::Bounce | Goal::Replay { .. } | Goal::ListDevices, _) => {}
        }
        Self::begin()
    }

    /// Takes the place of the supervisor that the session of this name has lost. `None`: there is no such session.
    fn take_back(name: &SessionName) -> Result<Option<Self>, SessionError> {
        let Some(abandoned) = abandoned::find(name) else { return Ok(None) };
        if abandoned.setup.build != crate::role::BUILD {
            let (name, theirs) = (abandoned.setup.name, abandoned.setup.build);
            return Err(SessionError::OtherBuild { name, theirs, ours: crate::role::BUILD.to_owned() });
        }
        // Another supervisor, or the end of its last process, may be faster.
        let Some(names) = segment::Session::adopt(&abandoned.id) else { return Ok(None) };
        let directory = SessionDirectory::adopt(abandoned.directory.clone())?;
        let _ = tempfile::env::override_temp_dir(directory.path());
        Ok(Some(Self { names, directory, abandoned: Some(abandoned) }))
    }

    fn begin() -> Result<Self, SessionError> {
        let names = segment::Session::open()?;
        let directory = SessionDirectory::make(names.id())?;
        // Doorways are sockets in the directory for temporary files; this keeps them out of everybody else's.
        let _ = tempfile::env::override_temp_dir(directory.path());
        Ok(Self { names, directory, abandoned: None })
    }

    /// From now on names and directory go with this value.
    fn keep(&self) {
        self.names.keep();
        self.directory.keep();
    }

    fn id(&self) -> &SessionId {
        self.names.id()
    }
}
