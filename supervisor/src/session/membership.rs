//! A child's part in its session: as long as it lives, what the session has made stays, for the next supervisor. The last one
//! of a session that has lost its supervisor removes everything, so that nothing is left behind when nobody comes.
//!
//! Owned by the child's main thread, from its start to its end.

use ipc::segment::{Member, SessionId};

use super::abandoned;
use super::directory::DirectoryMember;
use crate::control::{Address, Ownership};

/// Held for as long as a child lives.
pub struct Membership {
    names: Member,
    directory: Option<DirectoryMember>,
}

impl Membership {
    /// Joins the session of the supervisor that has started this process. `None`: it is over.
    pub fn join(session: &SessionId) -> Option<Self> {
        // Doorways lie in the session's directory, which we were given as our place for temporary files.
        let directory = DirectoryMember::join(std::env::temp_dir());
        Some(Self { names: Member::join(session)?, directory })
    }

    /// Leaves. To be called when this process has let go of everything else.
    pub fn leave(self) {
        let name = self.directory.as_ref().and_then(|directory| abandoned::name_of(directory.path()));
        if !self.names.leave() {
            return;
        }
        // Whoever has taken the name meanwhile keeps it.
        if let Some(mut ownership) = name.and_then(|name| Ownership::take(Address::of(name)).ok()) {
            ownership.clear();
        }
        if let Some(directory) = self.directory {
            directory.leave();
        }
    }
}
