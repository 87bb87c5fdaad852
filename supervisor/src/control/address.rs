//! Where a session's control socket is: `$XDG_RUNTIME_DIR/continuo/<session>.sock`, or `/tmp/continuo-<uid>/<session>.sock`
//! where there is no usable runtime directory. Used by server and client alike; neither creates anything here.

use std::path::{Path, PathBuf};

/// The session that is meant when none is named.
pub const DEFAULT_SESSION: &str = "default";

/// Longest session name in bytes; with it, a socket's path fits into an address in every usual runtime directory.
const MAX_SESSION_NAME_BYTES: usize = 32;

/// Longest path of a socket: 108 bytes less the terminating zero.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The name of a session: 1 to 32 letters, digits, `-`, `_` and `.`, the first of them no `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName(String);

/// A text that is no session name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a session: 1 to {MAX_SESSION_NAME_BYTES} letters, digits, `-`, `_` or `.`, not beginning with `.`")]
pub struct BadSessionName(String);

impl SessionName {
    pub fn new(name: &str) -> Result<Self, BadSessionName> {
        let is_fine = (1..=MAX_SESSION_NAME_BYTES).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_fine { Ok(Self(name.to_owned())) } else { Err(BadSessionName(name.chars().take(2 * MAX_SESSION_NAME_BYTES).collect())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SessionName {
    fn default() -> Self {
        Self(DEFAULT_SESSION.to_owned())
    }
}

/// The files of one session's control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub session: SessionName,
    /// Private to the user (mode 0700).
    pub directory: PathBuf,
}

impl Address {
    /// Where this user's session of that name is.
    pub fn of(session: SessionName) -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let preferred = runtime.filter(|path| path.is_absolute() && path.is_dir()).map(|path| path.join("continuo"));
        let fallback = PathBuf::from(format!("/tmp/continuo-{}", rustix::process::getuid().as_raw()));
        // Both sides must come to the same place whatever the name, so the longest name decides.
        let directory = preferred.filter(|directory| has_room(directory)).unwrap_or(fallback);
        Self { session, directory }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.session.as_str()))
    }

    /// Whoever holds a lock on this file owns the session's name; its content is the owner's process id.
    pub fn lock(&self) -> PathBuf {
        self.directory.join(format!("{}.lock", self.session.as_str()))
    }
}

fn has_room(directory: &Path) -> bool {
    directory.as_os_str().len() + "/".len() + MAX_SESSION_NAME_BYTES + ".sock".len() <= MAX_SOCKET_PATH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_name_cannot_leave_its_directory() {
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "ä", "a b", &"x".repeat(33)] {
            assert!(SessionName::new(bad).is_err(), "{bad}");
        }
        let address = Address { session: SessionName::new("gig-2.b").unwrap(), directory: "/run/user/7/continuo".into() };
        assert_eq!(address.socket(), Path::new("/run/user/7/continuo/gig-2.b.sock"));
        assert_eq!(address.lock(), Path::new("/run/user/7/continuo/gig-2.b.lock"));
    }

    #[test]
    fn a_directory_with_a_long_name_has_no_room_for_sockets() {
        assert!(has_room(Path::new("/run/user/1000/continuo")));
        assert!(!has_room(&PathBuf::from(format!("/{}", "x".repeat(80)))));
    }
}
