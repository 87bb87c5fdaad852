//! The session's private directory: the sockets through which children come in lie there, and nowhere else.
//!
//! `$XDG_RUNTIME_DIR/continuo/<session>`, or `/tmp/continuo-<uid>/<session>` where there is no usable runtime directory.
//! Mode 0700, owned by the user. Removed when the session ends; what a killed session left is removed by the next start, unless
//! children of it live and wait for another supervisor: then that one finds everything where it was ([`SessionDirectory::adopt`]).

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc::segment::{SessionId, has_supervisor, is_alive};

/// Longest path of a directory whose sockets still fit into a socket address: 108 bytes less the terminating zero, less
/// what ipc-channel appends (`/.tmp` with six random letters, `/socket`).
const MAX_PATH_BYTES: usize = 107 - "/.tmpXXXXXX/socket".len();

/// Why there is no session directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot make the directory {path}: {source}; give XDG_RUNTIME_DIR a directory of your own")]
    Make { path: PathBuf, source: io::Error },
    #[error("{path} is not a directory that only you can write to; remove it, or give XDG_RUNTIME_DIR a directory of your own")]
    NotPrivate { path: PathBuf },
}

/// File in a session's directory that its supervisor holds locked for as long as it lives. The directory has a lock of its
/// own because it may be shared with processes that do not share our shared memory (another mount namespace).
const LOCK: &str = "lock";

/// File in it that every child holds locked, shared with the others.
const MEMBERS: &str = "members";

/// How often, and at what intervals, a lock is tried again that somebody may only be looking at.
const LOOKS: u32 = 40;
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(5);

/// How often the directory is made anew when another session, ending, has just removed what ours was to lie in.
const ATTEMPTS: u32 = 16;

/// The directory of a living session; removed when dropped.
#[derive(Debug)]
pub struct SessionDirectory {
    path: PathBuf,
    _lock: File,
    /// Whether it goes with this value.
    is_ours: Cell<bool>,
}

impl SessionDirectory {
    /// Makes the directory of this session.
    pub fn make(session: &SessionId) -> Result<Self, DirectoryError> {
        let parent = parents().into_iter().find(|parent| has_room(parent)).unwrap_or_else(fallback);
        let path = parent.join(session.as_str());
        let mut attempt = 1;
        loop {
            match make_private(&parent).and_then(|()| make_private(&path)).and_then(|()| lock(&path)) {
                Ok(lock) => {
                    let members = path.join(MEMBERS);
                    let made = File::options().write(true).create(true).truncate(false).mode(0o600).open(&members);
                    made.map_err(|source| DirectoryError::Make { path: members, source })?;
                    return Ok(Self { path, _lock: lock, is_ours: Cell::new(true) });
                }
                Err(DirectoryError::Make { source, .. }) if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes over the directory of a session that has lost its supervisor. It outlives this value until it is [kept](Self::keep).
    pub fn adopt(path: PathBuf) -> Result<Self, DirectoryError> {
        let mut look = 1;
        loop {
            match lock(&path) {
                Ok(lock) => return Ok(Self { path, _lock: lock, is_ours: Cell::new(false) }),
                Err(_) if look < LOOKS => std::thread::sleep(LOOK_INTERVAL),
                Err(error) => return Err(error),
            }
            look += 1;
        }
    }

    /// The directory goes with this value from now on.
    pub fn keep(&self) {
        self.is_ours.set(true);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SessionDirectory {
    fn drop(&mut self) {
        if self.is_ours.get() {
            remove(&self.path);
        }
    }
}

fn remove(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    if let Some(parent) = directory.parent() {
        let _ = fs::remove_dir(parent); // Goes only when this was the last session.
    }
}

/// A child's part in the directory of its session: while it lives, the directory stays.
#[derive(Debug)]
pub struct DirectoryMember {
    path: PathBuf,
    lock: File,
}

impl DirectoryMember {
    /// `None`: it is not there any more.
    pub fn join(path: PathBuf) -> Option<Self> {
        let lock = File::open(path.join(MEMBERS)).ok()?;
        lock.try_lock_shared().ok()?;
        Some(Self { path, lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves; the last one of a session without a supervisor removes the directory.
    pub fn leave(self) {
        let Self { path, lock } = self;
        drop(lock);
        if !is_locked(&path) {
            remove(&path);
        }
    }
}

/// Directories of sessions that have lost their supervisor and still have children.
pub fn abandoned() -> Vec<(SessionId, PathBuf)> {
    let entries = parents().into_iter().flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    let sessions = entries.filter_map(|entry| Some((entry.file_name().to_str().and_then(SessionId::parse)?, entry.path())));
    sessions.filter(|(id, _)| is_alive(id) && !has_supervisor(id)).collect()
}

/// Removes the directories of sessions that are no longer alive.
pub fn sweep() {
    for parent in parents() {
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(SessionId::parse);
            // A living session took its lock in shared memory before it made its directory, and then the one in it.
            if id.is_some_and(|id| !is_alive(&id)) && !is_locked(&entry.path()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let locked = lock.and_then(|lock| lock.try_lock().map_err(io::Error::from).map(|()| lock));
    locked.map_err(|source| DirectoryError::Make { path, source })
}

/// Whether a supervisor or a child is there. Those who only look do not disturb each other.
fn is_locked(directory: &Path) -> bool {
    let is_held = |lock: &File| lock.try_lock_shared().is_err();
    let is_shared = |members: &File| members.try_lock().is_err();
    File::open(directory.join(LOCK)).is_ok_and(|lock| is_held(&lock))
        || File::open(directory.join(MEMBERS)).is_ok_and(|members| is_shared(&members))
}

/// Where session directories may be, the preferred one first.
fn parents() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && path.is_dir());
    runtime.map(|path| path.join("continuo")).into_iter().chain([fallback()]).collect()
}

fn fallback() -> PathBuf {
    PathBuf::from(format!("/tmp/continuo-{}", rustix::process::getuid().as_raw()))
}

/// Whether the sockets of a session below `parent` have addresses that are short enough.
fn has_room(parent: &Path) -> bool {
    parent.as_os_str().len() + "/0123456789abcdef".len() <= MAX_PATH_BYTES
}

fn make_private(path: &Path) -> Result<(), DirectoryError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(DirectoryError::Make { path: path.to_owned(), source }),
    }
    let found = fs::symlink_metadata(path).map_err(|source| DirectoryError::Make { path: path.to_owned(), source })?;
    let is_private = found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.permissions().mode() & 0o022 == 0;
    if is_private { Ok(()) } else { Err(DirectoryError::NotPrivate { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let path = std::env::temp_dir().join(format!("continuo-directory-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(make_private(&path), Err(DirectoryError::NotPrivate { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(make_private(&path).is_ok());
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn a_directory_whose_lock_is_held_counts_as_alive() {
        let path = std::env::temp_dir().join(format!("continuo-lock-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        assert!(!is_locked(&path));
        let held = lock(&path).unwrap();
        assert!(is_locked(&path));
        drop(held);
        assert!(!is_locked(&path));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_directory_stays_until_its_last_child_has_left() {
        let path = std::env::temp_dir().join(format!("continuo-members-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(MEMBERS), "").unwrap();
        let (one, other) = (DirectoryMember::join(path.clone()).unwrap(), DirectoryMember::join(path.clone()).unwrap());
        assert!(is_locked(&path));
        one.leave();
        assert!(is_locked(&path) && path.exists());
        let supervisor = lock(&path).unwrap();
        other.leave();
        assert!(path.exists(), "the supervisor looks after it");
        drop(supervisor);
        DirectoryMember::join(path.clone()).unwrap().leave();
        assert!(!path.exists());
        assert!(DirectoryMember::join(path).is_none());
    }

    #[test]
    fn an_adopted_directory_outlives_a_supervisor_that_does_not_keep_it() {
        let path = std::env::temp_dir().join(format!("continuo-adopted-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        drop(SessionDirectory::adopt(path.clone()).unwrap());
        assert!(path.exists());
        let adopted = SessionDirectory::adopt(path.clone()).unwrap();
        adopted.keep();
        drop(adopted);
        assert!(!path.exists());
    }

    #[test]
    fn a_link_is_not_taken_for_a_directory() {
        let path = std::env::temp_dir().join(format!("continuo-link-test-{}", std::process::id()));
        std::os::unix::fs::symlink("/", &path).unwrap();
        assert!(matches!(make_private(&path), Err(DirectoryError::NotPrivate { .. })));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_runtime_directory_with_a_long_name_is_passed_over() {
        assert!(has_room(Path::new("/run/user/1000/continuo")));
        assert!(!has_room(&PathBuf::from(format!("/tmp/{}", "x".repeat(90)))));
    }
}
