//! Segments: named shared memory, wrapped so that what the `shared_memory` crate lacks is there once and for all.
//!
//! Who creates and who destroys: a [`Session`] belongs to the supervisor and holds a lock file beside its segments; a
//! segment belongs to the process that created it, which removes its name when every party has mapped it
//! ([`Segment::unlink`]) or when it drops it. If the owner is killed the name stays. Every child is a [`Member`] of its
//! session: as long as one lives, its supervisor may be replaced by another one ([`Session::adopt`]), which finds all names
//! where they were. When nobody is left, the next session's [`sweep`] removes everything under the prefix.
//!
//! Immutable content (artifacts) is never read in place: [`read_checked`] makes a private copy, checks its length and hash,
//! and only then hands it out. Mutable content is reached through atomics only; there is no `&mut` to shared bytes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use serde::{Deserialize, Serialize};
use shared_memory::{Shmem, ShmemConf, ShmemError};

use crate::hash::ContentHash;

/// Where Linux keeps named shared memory.
const SHM_DIRECTORY: &str = "/dev/shm";
/// Prefix of every name that Continuo creates there.
const NAME_PREFIX: &str = "continuo-";
/// Ending of a session's lock file, which its supervisor holds.
const LOCK_SUFFIX: &str = ".session";
/// Ending of the lock file that is held, shared, by every child of a session.
const MEMBERS_SUFFIX: &str = ".members";
/// How often, and at what intervals, a lock is tried again that somebody may only be looking at.
const LOOKS: u32 = 40;
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(5);
const MAGIC: [u8; 8] = *b"CONTINUO";
/// Version of the segment layouts; a peer with another one is refused.
const FORMAT_VERSION: u32 = 1;
/// Bytes of the header at the start of every segment.
pub const HEADER_BYTES: usize = 64;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentKind {
    Artifact,
    Lane,
    /// Checkpoints and input log of a program.
    State,
    /// What a process leaves behind when it crashes.
    CrashPage,
    /// Events of a midi runtime.
    MidiLane,
    /// What a runtime has to do with control wires.
    Board,
}

impl SegmentKind {
    fn code(self) -> u32 {
        match self {
            Self::Artifact => 1,
            Self::Lane => 2,
            Self::State => 3,
            Self::CrashPage => 4,
            Self::MidiLane => 5,
            Self::Board => 6,
        }
    }
}

/// Names a segment to another process. `bytes` and, for immutable content, `hash` are what the receiver checks against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    pub name: String,
    pub kind: SegmentKind,
    pub generation: u64,
    /// Length of the whole segment in bytes, header included.
    pub bytes: u64,
    /// Hash over the whole segment except its own checksum field; `None` for mutable segments.
    pub hash: Option<ContentHash>,
}

impl SegmentRef {
    /// Whether the segment's name is one of this session's.
    pub fn belongs_to(&self, session: &SessionId) -> bool {
        self.name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.strip_prefix(session.as_str())).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// Why a segment could not be made, mapped or believed.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("shared memory is exhausted: {need} bytes are needed in {SHM_DIRECTORY} ({source}); free space there or enlarge it")]
    Exhausted { need: u64, source: std::io::Error },
    #[error("cannot {operation} the segment {name}: {source}")]
    Os { operation: &'static str, name: String, source: std::io::Error },
    #[error("the segment {name} is damaged: {what}")]
    Damaged { name: String, what: &'static str },
    #[error("the segment {name} has {found} bytes where {expected} were announced")]
    WrongLength { name: String, found: u64, expected: u64 },
    #[error("the segment name {0:?} is not one of this program's")]
    ForeignName(String),
}

/// A session's claim on its names in shared memory, held by the supervisor for as long as it lives.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    _lock: File,
    /// Whether its names go with this value.
    is_ours: AtomicBool,
}

/// Names a session: sixteen hexadecimal digits, random, so that two sessions never meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionId(String);

impl SessionId {
    /// Reads an id that another process sent; refuses anything but sixteen lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Session {
    /// Opens a new session and takes its lock.
    pub fn open() -> Result<Self, SegmentError> {
        loop {
            let id = SessionId(random_hex()?);
            let lock_path = lock_path(&id);
            let os = |operation, source| SegmentError::Os { operation, name: lock_path.display().to_string(), source };
            let lock = File::options().write(true).create_new(true).mode(0o600).open(&lock_path).map_err(|e| os("create", e))?;
            // A sweeper may have taken the file between its creation and our lock; then it is gone, and we try again.
            if lock.try_lock().is_ok() && fs::metadata(&lock_path).is_ok_and(|at_path| same_file(&at_path, &lock)) {
                File::options().write(true).create_new(true).mode(0o600).open(members_path(&id)).map_err(|e| os("create", e))?;
                return Ok(Self { id, _lock: lock, is_ours: AtomicBool::new(true) });
            }
        }
    }

    /// Takes the place of the supervisor that this session has lost. `None`: it has one, or nothing is left of it. The names
    /// outlive this value until they are [kept](Self::keep).
    pub fn adopt(id: &SessionId) -> Option<Self> {
        let lock_path = lock_path(id);
        for _ in 0..LOOKS {
            let lock = File::options().write(true).open(&lock_path).ok()?;
            if lock.try_lock().is_ok() {
                let is_there = fs::metadata(&lock_path).is_ok_and(|at_path| same_file(&at_path, &lock));
                return is_there.then(|| Self { id: id.clone(), _lock: lock, is_ours: AtomicBool::new(false) });
            }
            // A supervisor holds it for good, one that only looks for a moment.
            std::thread::sleep(LOOK_INTERVAL);
        }
        None
    }

    /// The session's names go with this value from now on.
    pub fn keep(&self) {
        self.is_ours.store(true, Relaxed);
    }

    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Removes the names of the session's segments that `is_needed` does not want.
    pub fn retain(&self, is_needed: impl Fn(&str) -> bool) {
        remove_names_of(&self.id, is_needed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_ours.load(Relaxed) {
            remove_all_of(&self.id);
        }
    }
}

/// A child's part in a session: while it lives, nobody takes the session's names for remains.
#[derive(Debug)]
pub struct Member {
    id: SessionId,
    lock: File,
}

impl Member {
    /// Joins a session. `None`: nothing is left of it.
    pub fn join(id: &SessionId) -> Option<Self> {
        let path = members_path(id);
        let lock = File::open(&path).ok()?;
        lock.try_lock_shared().ok()?;
        fs::metadata(&path).is_ok_and(|at_path| same_file(&at_path, &lock)).then(|| Self { id: id.clone(), lock })
    }

    /// Leaves. The last one of a session without a supervisor removes what is left of it in shared memory, and is told so.
    pub fn leave(self) -> bool {
        let Self { id, lock } = self;
        drop(lock);
        let Claim::Dead { .. } = claim(&id) else { return false };
        remove_all_of(&id);
        true
    }
}

fn same_file(at_path: &fs::Metadata, held: &File) -> bool {
    held.metadata().is_ok_and(|held| held.ino() == at_path.ino() && held.dev() == at_path.dev())
}

/// Whether a session of this id has a supervisor.
pub fn has_supervisor(id: &SessionId) -> bool {
    // Shared, so that those who look at the same time do not take each other for the supervisor.
    File::open(lock_path(id)).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// Whether anybody of this session is alive: its supervisor, or a child that waits for the next one.
pub fn is_alive(id: &SessionId) -> bool {
    has_supervisor(id) || File::open(members_path(id)).is_ok_and(|members| members.try_lock().is_err())
}

/// What is known of a session whose locks were tried.
enum Claim {
    Alive,
    /// Its locks are ours while this is held, so nobody can take it for a session of their own.
    Dead {
        _locks: [Option<File>; 2],
    },
}

fn claim(id: &SessionId) -> Claim {
    // The supervisor first: a session with one is left alone altogether, so that its children can join it.
    if has_supervisor(id) {
        return Claim::Alive;
    }
    let locks = [members_path(id), lock_path(id)].map(|path| File::open(path).ok());
    let are_ours = locks.iter().flatten().all(|lock| lock.try_lock().is_ok());
    if are_ours { Claim::Dead { _locks: locks } } else { Claim::Alive }
}

fn members_path(id: &SessionId) -> PathBuf {
    Path::new(SHM_DIRECTORY).join(format!("{NAME_PREFIX}{}{MEMBERS_SUFFIX}", id.0))
}

fn lock_path(id: &SessionId) -> PathBuf {
    Path::new(SHM_DIRECTORY).join(format!("{NAME_PREFIX}{}{LOCK_SUFFIX}", id.0))
}

/// Removes what dead sessions left in shared memory. Returns the ids of the sessions whose remains were removed.
pub fn sweep() -> Vec<SessionId> {
    let mut dead = Vec::new();
    for id in sessions_with_names() {
        // The claim is held until everything is gone: a session that is just being opened under this lock sees that it
        // has lost it, and opens another one.
        if let Claim::Dead { .. } = &claim(&id) {
            remove_all_of(&id);
            dead.push(id);
        }
    }
    dead
}

fn sessions_with_names() -> Vec<SessionId> {
    let mut ids: Vec<String> =
        names().into_iter().filter_map(|name| name.strip_prefix(NAME_PREFIX)?.get(..16).map(str::to_owned)).collect();
    ids.sort();
    ids.dedup();
    ids.iter().filter_map(|id| SessionId::parse(id)).collect()
}

fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(SHM_DIRECTORY) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn remove_all_of(id: &SessionId) {
    remove_names_of(id, |_| false);
    let _ = fs::remove_file(members_path(id));
    let _ = fs::remove_file(lock_path(id));
}

fn remove_names_of(id: &SessionId, is_needed: impl Fn(&str) -> bool) {
    let prefix = format!("{NAME_PREFIX}{}-", id.0);
    for name in names().iter().filter(|name| name.starts_with(&prefix) && !is_needed(name)) {
        let _ = fs::remove_file(Path::new(SHM_DIRECTORY).join(name));
    }
}

/// Removes the name of a segment of this session, whoever created it: mappings live on. Foreign names, and names that are gone
/// already, are left alone.
pub fn remove_name(session: &SessionId, name: &str) {
    let is_ours =
        name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.strip_prefix(session.as_str())).is_some_and(|rest| rest.starts_with('-'));
    if is_ours && check_name(name).is_ok() {
        let _ = rustix::shm::unlink(format!("/{name}"));
    }
}

fn random_hex() -> Result<String, SegmentError> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|e| SegmentError::Os {
        operation: "name",
        name: NAME_PREFIX.to_owned(),
        source: e.into(),
    })?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// A mapped segment. Dropping it unmaps it, and removes its name if this process created it and has not yet done so.
pub struct Segment {
    memory: Shmem,
    reference: SegmentRef,
}

// SAFETY: `Shmem` is neither Send nor Sync only because it holds a raw pointer to the mapping. The mapping lives as long as
// the value, is not tied to a thread, and safe code reaches its bytes only through atomics (`word_u32`, `word_u64`).
// The test `a_segment_is_shared_between_threads` uses both.
unsafe impl Send for Segment {}
// SAFETY: see above.
unsafe impl Sync for Segment {}

impl Segment {
    /// Creates a zeroed segment with `payload_bytes` after its header. The space is reserved before this returns, so that a
    /// full shared memory is an error here and not a bus error later.
    pub fn create(session: &SessionId, kind: SegmentKind, generation: u64, payload_bytes: usize) -> Result<Self, SegmentError> {
        let bytes = HEADER_BYTES + payload_bytes;
        let name = format!("{NAME_PREFIX}{}-{}", session.0, random_hex()?);
        let memory = ShmemConf::new().os_id(format!("/{name}")).size(bytes).create().map_err(|e| os_error("create", &name, e))?;
        reserve(&name, bytes as u64)?;
        let reference = SegmentRef { name, kind, generation, bytes: bytes as u64, hash: None };
        let segment = Self { memory, reference };
        segment.write_bytes(0, &header(&segment.reference));
        Ok(segment)
    }

    /// Creates an immutable segment that holds `parts` one after the other, and puts its hash into header and reference.
    pub fn publish(session: &SessionId, kind: SegmentKind, generation: u64, parts: &[&[u8]]) -> Result<Self, SegmentError> {
        let payload_bytes = parts.iter().map(|part| part.len()).sum();
        let mut segment = Self::create(session, kind, generation, payload_bytes)?;
        let mut at = HEADER_BYTES;
        for part in parts {
            segment.write_bytes(at, part);
            at += part.len();
        }
        let start = header(&segment.reference);
        let mut hashed = vec![&start[..CHECKSUM_AT]];
        hashed.extend_from_slice(parts);
        let hash = ContentHash::of(&hashed);
        segment.reference.hash = Some(hash);
        segment.write_bytes(CHECKSUM_AT, &hash.0);
        Ok(segment)
    }

    /// Maps a segment that another process created, after checking its name, length and header.
    pub fn open(reference: &SegmentRef) -> Result<Self, SegmentError> {
        check_name(&reference.name)?;
        let path = Path::new(SHM_DIRECTORY).join(&reference.name);
        let found =
            fs::metadata(&path).map_err(|source| SegmentError::Os { operation: "find", name: reference.name.clone(), source })?.len();
        check_length(reference, found)?;
        let memory = ShmemConf::new().os_id(format!("/{}", reference.name)).open().map_err(|e| os_error("map", &reference.name, e))?;
        check_length(reference, memory.len() as u64)?;
        let segment = Self { memory, reference: reference.clone() };
        let mut start = [0u8; HEADER_BYTES];
        // SAFETY: the mapping has `bytes` ≥ HEADER_BYTES bytes (checked just above) and `start` is private.
        unsafe { std::ptr::copy_nonoverlapping(segment.memory.as_ptr(), start.as_mut_ptr(), HEADER_BYTES) };
        check_header(reference, &start)?;
        Ok(segment)
    }

    /// The same for reading only: the kernel ends a process that writes to it, so that it cannot damage what is another one's.
    pub fn open_read_only(reference: &SegmentRef) -> Result<Self, SegmentError> {
        let segment = Self::open(reference)?;
        let (start, bytes) = (segment.memory.as_ptr().cast(), segment.memory.len());
        // SAFETY: the range is the whole mapping, which begins at a page and is not shared with any other value; what is read
        // from it stays readable, and nothing of this crate writes to a segment that it has opened this way. The test
        // `a_segment_for_reading_is_not_written_to` writes to one.
        unsafe { rustix::mm::mprotect(start, bytes, rustix::mm::MprotectFlags::READ) }.map_err(|error| SegmentError::Os {
            operation: "protect",
            name: reference.name.clone(),
            source: error.into(),
        })?;
        Ok(segment)
    }

    /// What another process needs to find this segment.
    pub fn reference(&self) -> &SegmentRef {
        &self.reference
    }

    /// Removes the name: mappings live on, nobody else can map it, and nothing remains when the last process is gone.
    pub fn unlink(&mut self) {
        if self.memory.is_owner() {
            self.memory.set_owner(false);
            let _ = rustix::shm::unlink(format!("/{}", self.reference.name));
        }
    }

    /// Lets the name be, whatever becomes of this process: somebody else will remove it.
    pub fn leave_name(&mut self) {
        self.memory.set_owner(false);
    }

    /// Takes on the name of a segment that another process created: it goes with this value.
    pub fn own_name(&mut self) {
        self.memory.set_owner(true);
    }

    /// Length of the payload in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.memory.len() - HEADER_BYTES
    }

    /// The 32-bit word at `offset` bytes of the payload. Panics when it is misaligned or outside: offsets are constants.
    pub fn word_u32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `checked_at` returns an aligned address inside the mapping, which lives as long as `self`; every process
        // reaches these bytes through atomics only.
        unsafe { &*self.checked_at(offset, 4).cast::<AtomicU32>() }
    }

    /// The 64-bit word at `offset` bytes of the payload. Panics when it is misaligned or outside: offsets are constants.
    pub fn word_u64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as for `word_u32`.
        unsafe { &*self.checked_at(offset, 8).cast::<AtomicU64>() }
    }

    fn checked_at(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(bytes) && offset.checked_add(bytes).is_some_and(|end| end <= self.payload_bytes()));
        // SAFETY: `offset + bytes` lies inside the payload (asserted above).
        unsafe { self.memory.as_ptr().add(HEADER_BYTES + offset) }
    }

    /// Copies private bytes into the payload, at the speed of memory. Whoever reads them at the same time may see any mixture
    /// of old and new, so there is a commit word that tells when they are whole ([`crate::state::Commit`]). Panics when they
    /// do not fit: offsets come from a layout that was checked against the segment's length.
    pub fn copy_in_rt(&self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.payload_bytes()));
        // SAFETY: the range lies inside the payload (asserted above) and so does not overlap `bytes`, which is private memory.
        // No reference to the shared bytes exists on either side; a process that reads them meanwhile throws its copy away.
        // The test `a_checkpoint_is_read_back_as_it_was_written` covers both copies.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_ptr().add(HEADER_BYTES + offset), bytes.len()) };
    }

    /// Copies bytes of the payload out, at the speed of memory. They are to be believed only if a commit word says so, before
    /// and after. Panics when they are not there, as [`Self::copy_in_rt`].
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.payload_bytes()));
        // SAFETY: as for `copy_in_rt`; any bytes are valid for `u8`.
        unsafe { std::ptr::copy_nonoverlapping(self.memory.as_ptr().add(HEADER_BYTES + offset), bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Makes the operating system provide all of its pages now. Changes nothing. Returns whether the kernel could be asked
    /// to (Linux 5.14); otherwise they come one by one, when each is written to.
    pub fn populate(&self) -> bool {
        // SAFETY: the range is the whole mapping, which begins at a page; populating it reads and writes no byte. The test
        // `a_segment_is_populated_as_it_is` compares its bytes before and after.
        unsafe { rustix::mm::madvise(self.memory.as_ptr().cast(), self.memory.len(), rustix::mm::Advice::LinuxPopulateWrite) }.is_ok()
    }

    /// Writes bytes of a segment that no other process has been told of yet.
    fn write_bytes(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.memory.len());
        // SAFETY: the range lies inside the mapping (asserted above), and `bytes` is private memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_ptr().add(at), bytes.len()) };
    }
}

/// Copies the payload of an immutable segment into private memory and returns it only if length, header and hash are
/// those announced in `reference`. Reads through the file, so that a truncated segment is an error and not a bus error.
pub fn read_checked(reference: &SegmentRef, limit_bytes: usize) -> Result<Vec<u8>, SegmentError> {
    check_name(&reference.name)?;
    let os = |operation, source| SegmentError::Os { operation, name: reference.name.clone(), source };
    let damaged = |what| SegmentError::Damaged { name: reference.name.clone(), what };
    if reference.bytes > limit_bytes as u64 || reference.bytes < HEADER_BYTES as u64 {
        return Err(damaged("its announced length is out of bounds"));
    }
    let mut file = File::open(Path::new(SHM_DIRECTORY).join(&reference.name)).map_err(|e| os("open", e))?;
    check_length(reference, file.metadata().map_err(|e| os("measure", e))?.len())?;
    let mut copy = vec![0u8; reference.bytes as usize];
    file.read_exact(&mut copy).map_err(|e| os("read", e))?;
    check_header(reference, &copy[..HEADER_BYTES])?;
    let announced = reference.hash.ok_or_else(|| damaged("no hash was announced for it"))?;
    let computed = ContentHash::of(&[&copy[..CHECKSUM_AT], &copy[HEADER_BYTES..]]);
    if computed != announced || copy[CHECKSUM_AT..HEADER_BYTES] != announced.0 {
        return Err(damaged("its content does not have the announced hash"));
    }
    copy.drain(..HEADER_BYTES);
    Ok(copy)
}

/// Offset of the checksum in the header: magic 8, version 4, kind 4, generation 8, length 8, checksum 32.
const CHECKSUM_AT: usize = 32;

fn header(reference: &SegmentRef) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&reference.kind.code().to_le_bytes());
    header[16..24].copy_from_slice(&reference.generation.to_le_bytes());
    header[24..32].copy_from_slice(&reference.bytes.to_le_bytes());
    header
}

fn check_header(reference: &SegmentRef, found: &[u8]) -> Result<(), SegmentError> {
    let expected = header(reference);
    let fields: [(&'static str, std::ops::Range<usize>); 5] = [
        ("its magic is wrong", 0..8),
        ("its format version is another", 8..12),
        ("its kind is another", 12..16),
        ("its generation is another", 16..24),
        ("its length field is wrong", 24..32),
    ];
    match fields.into_iter().find(|(_, range)| found[range.clone()] != expected[range.clone()]) {
        Some((what, _)) => Err(SegmentError::Damaged { name: reference.name.clone(), what }),
        None => Ok(()),
    }
}

fn check_length(reference: &SegmentRef, found: u64) -> Result<(), SegmentError> {
    if found != reference.bytes || found < HEADER_BYTES as u64 {
        return Err(SegmentError::WrongLength { name: reference.name.clone(), found, expected: reference.bytes });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SegmentError> {
    let valid = name.starts_with(NAME_PREFIX) && name.len() < 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if valid { Ok(()) } else { Err(SegmentError::ForeignName(name.to_owned())) }
}

fn reserve(name: &str, bytes: u64) -> Result<(), SegmentError> {
    let os = |operation, source| SegmentError::Os { operation, name: name.to_owned(), source };
    let file = File::options().read(true).write(true).open(Path::new(SHM_DIRECTORY).join(name)).map_err(|e| os("open", e))?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(e @ (rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM)) => Err(SegmentError::Exhausted { need: bytes, source: e.into() }),
        Err(e) => Err(os("reserve", e.into())),
    }
}

fn os_error(operation: &'static str, name: &str, error: ShmemError) -> SegmentError {
    let source = match error {
        ShmemError::MapCreateFailed(code) | ShmemError::MapOpenFailed(code) | ShmemError::UnknownOsError(code) => {
            std::io::Error::from_raw_os_error(code as i32)
        }
        other => std::io::Error::other(other.to_string()),
    };
    SegmentError::Os { operation, name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::Ordering;

    use super::*;

    fn path_of(reference: &SegmentRef) -> PathBuf {
        Path::new(SHM_DIRECTORY).join(&reference.name)
    }

    #[test]
    fn a_published_segment_is_read_back_and_is_private_to_the_user() {
        let session = Session::open().unwrap();
        let segment = Segment::publish(session.id(), SegmentKind::Artifact, 3, &[b"abc", b"def"]).unwrap();
        assert_eq!(read_checked(segment.reference(), 1 << 20).unwrap(), b"abcdef");
        assert_eq!(fs::metadata(path_of(segment.reference())).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn every_single_flipped_bit_and_every_truncation_is_refused() {
        let session = Session::open().unwrap();
        let segment = Segment::publish(session.id(), SegmentKind::Artifact, 3, &[&[7u8; 40]]).unwrap();
        let path = path_of(segment.reference());
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(read_checked(segment.reference(), 1 << 20).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(read_checked(segment.reference(), 1 << 20).is_err(), "length {length}");
        }
        fs::write(&path, &good).unwrap();
        assert!(read_checked(segment.reference(), 1 << 20).is_ok());
    }

    #[test]
    fn a_segment_is_shared_between_threads() {
        let session = Session::open().unwrap();
        let segment = Segment::create(session.id(), SegmentKind::Lane, 1, 64).unwrap();
        let other = Segment::open(segment.reference()).unwrap();
        std::thread::spawn(move || other.word_u64(8).store(42, Ordering::Release)).join().unwrap();
        assert_eq!(segment.word_u64(8).load(Ordering::Acquire), 42);
    }

    /// Started by the test below: writes to a segment that is not its own.
    #[test]
    fn a_writer_to_what_is_another_ones() {
        let Ok(reference) = std::env::var("CONTINUO_TEST_READ_ONLY") else { return };
        let [name, bytes] = reference.split(' ').collect::<Vec<_>>()[..] else { panic!("{reference}") };
        let reference =
            SegmentRef { name: name.to_owned(), kind: SegmentKind::Board, generation: 1, bytes: bytes.parse().unwrap(), hash: None };
        let segment = Segment::open_read_only(&reference).unwrap();
        assert_eq!(segment.word_u64(8).load(Ordering::Relaxed), 7);
        segment.word_u64(8).store(8, Ordering::Relaxed);
    }

    #[test]
    fn a_segment_for_reading_is_not_written_to() {
        use std::os::unix::process::ExitStatusExt;
        let session = Session::open().unwrap();
        let segment = Segment::create(session.id(), SegmentKind::Board, 1, 64).unwrap();
        segment.word_u64(8).store(7, Ordering::Relaxed);
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap());
        writer.args(["--exact", "segment::tests::a_writer_to_what_is_another_ones"]);
        writer.env("CONTINUO_TEST_READ_ONLY", format!("{} {}", segment.reference().name, segment.reference().bytes));
        let ended = writer.output().unwrap().status;
        assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended}");
        assert_eq!(segment.word_u64(8).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn an_unlinked_segment_lives_on_without_a_name() {
        let session = Session::open().unwrap();
        let mut segment = Segment::create(session.id(), SegmentKind::Lane, 1, 64).unwrap();
        let other = Segment::open(segment.reference()).unwrap();
        segment.unlink();
        assert!(!path_of(segment.reference()).exists());
        other.word_u32(0).store(5, Ordering::Release);
        assert_eq!(segment.word_u32(0).load(Ordering::Acquire), 5);
    }

    #[test]
    fn a_segment_belongs_to_its_session_only() {
        let (ours, theirs) = (Session::open().unwrap(), Session::open().unwrap());
        let segment = Segment::create(ours.id(), SegmentKind::Lane, 1, 64).unwrap();
        assert!(segment.reference().belongs_to(ours.id()));
        assert!(!segment.reference().belongs_to(theirs.id()));
    }

    #[test]
    fn names_of_others_are_not_opened() {
        let reference = SegmentRef { name: "../etc/passwd".into(), kind: SegmentKind::Artifact, generation: 0, bytes: 100, hash: None };
        assert!(matches!(read_checked(&reference, 1000), Err(SegmentError::ForeignName(_))));
        assert!(matches!(Segment::open(&reference), Err(SegmentError::ForeignName(_))));
    }

    #[test]
    fn more_than_there_is_is_an_error_and_leaves_nothing() {
        let session = Session::open().unwrap();
        let before = names().len();
        let result = Segment::create(session.id(), SegmentKind::Lane, 1, 1 << 50);
        assert!(result.is_err());
        assert_eq!(
            names()
                .iter()
                .filter(|n| n.contains(session.id().as_str()) && !n.ends_with(LOCK_SUFFIX) && !n.ends_with(MEMBERS_SUFFIX))
                .count(),
            0,
            "{before}"
        );
    }

    /// A session whose supervisor has been killed, with one segment.
    fn orphaned() -> (SessionId, SegmentRef) {
        let session = Session::open().unwrap();
        let mut segment = Segment::create(session.id(), SegmentKind::Lane, 1, 64).unwrap();
        segment.leave_name();
        let (id, reference) = (session.id().clone(), segment.reference().clone());
        // As if its process had been killed: the lock goes, the names stay.
        session.is_ours.store(false, Relaxed);
        drop(session);
        (id, reference)
    }

    #[test]
    fn a_session_keeps_its_names_as_long_as_a_child_of_it_lives() {
        let (id, segment) = orphaned();
        let (first, second) = (Member::join(&id).unwrap(), Member::join(&id).unwrap());
        assert!(!has_supervisor(&id) && is_alive(&id));
        assert!(!sweep().contains(&id));
        assert!(path_of(&segment).exists());
        assert!(!first.leave(), "somebody else is still there");
        assert!(path_of(&segment).exists());
        assert!(second.leave(), "the last one");
        assert!(!path_of(&segment).exists() && !is_alive(&id));
        assert!(names().iter().all(|name| !name.contains(id.as_str())), "the lock files included");
        assert!(Member::join(&id).is_none());
    }

    #[test]
    fn a_session_without_a_supervisor_is_taken_over_once_with_its_names() {
        let (id, segment) = orphaned();
        let member = Member::join(&id).unwrap();
        let adopted = Session::adopt(&id).unwrap();
        assert!(has_supervisor(&id));
        assert!(Session::adopt(&id).is_none(), "it has one now");
        assert!(!member.leave(), "which looks after the names");
        let unneeded = Segment::create(&id, SegmentKind::Lane, 1, 64).unwrap();
        adopted.retain(|name| name == segment.name);
        assert!(path_of(&segment).exists() && !path_of(unneeded.reference()).exists());
        drop(adopted);
        assert!(path_of(&segment).exists(), "a supervisor that could not go on has changed nothing");
        let adopted = Session::adopt(&id).unwrap();
        adopted.keep();
        drop(adopted);
        assert!(!path_of(&segment).exists());
        assert!(Session::adopt(&id).is_none(), "nothing is left of it");
    }

    #[test]
    fn a_living_session_is_not_taken_from_its_supervisor() {
        let session = Session::open().unwrap();
        let member = Member::join(session.id()).unwrap();
        assert!(Session::adopt(session.id()).is_none());
        assert!(!member.leave());
        assert!(lock_path(session.id()).exists());
    }

    #[test]
    fn a_sweep_removes_dead_sessions_only() {
        let alive = Session::open().unwrap();
        let kept = Segment::create(alive.id(), SegmentKind::Lane, 1, 64).unwrap();
        let dead = SessionId(random_hex().unwrap());
        let mut left = Segment::create(&dead, SegmentKind::Lane, 1, 64).unwrap();
        left.memory.set_owner(false); // As if its process had been killed.
        assert!(sweep().contains(&dead));
        assert!(!path_of(left.reference()).exists());
        assert!(path_of(kept.reference()).exists());
    }
}
