//! Who owns a session's name: the process that holds the lock on its lock file. Only the owner listens on the socket, and
//! only the owner may remove one that a dead session left behind.
//!
//! Life cycle: [`Ownership::take`] makes the private directory, takes the lock and writes the process id into it;
//! [`Ownership::listen`] replaces the stale socket, if any; dropping removes socket and lock file. A killed owner's lock goes
//! with its process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::address::Address;

/// How often taking a lock is tried again because its file, or its directory, was removed in between. Each time somebody
/// else's session ended in just that moment.
const ATTEMPTS: usize = 16;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another supervisor has this session.
    #[error("session `{session}` already runs{}; talk to it, end it with `shutdown`, or choose another name with --session", of_process(*pid))]
    Owned { session: String, pid: Option<u32> },
    #[error("{path} is not a directory of your own; remove it, or give XDG_RUNTIME_DIR a directory of your own")]
    NotPrivate { path: PathBuf },
    #[error("{path} is in the way of the control socket and no socket; remove it")]
    NotASocket { path: PathBuf },
    #[error("cannot {operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start the control thread: {0}")]
    Thread(io::Error),
}

fn of_process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// The right to a session's name; given up when dropped.
#[derive(Debug)]
pub struct Ownership {
    address: Address,
    /// Whether the socket is ours, to be removed with us.
    is_listening: bool,
    /// Holds the lock as long as it is open. Not inherited: std opens everything close-on-exec.
    _lock: File,
}

impl Ownership {
    /// Takes the session's name, or says who has it.
    pub fn take(address: Address) -> Result<Self, ListenError> {
        for _ in 0..ATTEMPTS {
            make_private(&address.directory)?;
            if let Some(lock) = try_lock(&address)? {
                return Ok(Self { address, is_listening: false, _lock: lock });
            }
        }
        Err(ListenError::Owned { session: address.session.as_str().to_owned(), pid: None })
    }

    /// The socket that a dead session left goes with this value.
    pub fn clear(&mut self) {
        self.is_listening = true;
    }

    /// Binds the socket, in place of one that a dead session left.
    pub fn listen(&mut self) -> Result<UnixListener, ListenError> {
        let path = self.address.socket();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => remove(&path)?,
            Ok(_) => return Err(ListenError::NotASocket { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ListenError::Io { operation: "look at", path, source }),
        }
        // Between these two calls the mode of the directory keeps others out.
        let failed = |operation| {
            let path = path.clone();
            move |source| ListenError::Io { operation, path, source }
        };
        let listener = UnixListener::bind(&path).map_err(failed("listen on"))?;
        self.is_listening = true;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed("restrict"))?;
        listener.set_nonblocking(true).map_err(failed("prepare"))?;
        Ok(listener)
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        // In this order, and both before the lock is let go: whoever takes it next starts from nothing.
        if self.is_listening {
            let _ = fs::remove_file(self.address.socket());
        }
        let _ = fs::remove_file(self.address.lock());
        let _ = fs::remove_dir(&self.address.directory); // Goes only when this was the last session.
    }
}

/// Takes the lock; `None` if its file was removed meanwhile and the lock is therefore worth nothing.
fn try_lock(address: &Address) -> Result<Option<File>, ListenError> {
    let path = address.lock();
    let failed = |operation, source| ListenError::Io { operation, path: path.clone(), source };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).clone();
    let mut file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None), // The directory has just gone.
        Err(source) => return Err(failed("open", source)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(ListenError::Owned { session: address.session.as_str().to_owned(), pid: owner(&mut file) });
        }
        Err(error) => return Err(failed("lock", error.into())),
    }
    let ours = file.metadata().map_err(|source| failed("look at", source))?;
    let is_current = fs::symlink_metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
    if !is_current {
        return Ok(None);
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(|source| failed("write", source))?;
    Ok(Some(file))
}

/// Who holds the lock, by what it wrote into the file.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Makes a directory that only this user can enter, or checks that it is one.
fn make_private(path: &Path) -> Result<(), ListenError> {
    let failed = |operation, source| ListenError::Io { operation, path: path.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(failed("make the directory", source)),
    }
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // Just removed; the next attempt makes it.
        Err(source) => return Err(failed("look at", source)),
    };
    if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() {
        return Err(ListenError::NotPrivate { path: path.to_owned() });
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|source| failed("restrict", source))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), ListenError> {
    fs::remove_file(path).map_err(|source| ListenError::Io { operation: "remove", path: path.to_owned(), source })
}
