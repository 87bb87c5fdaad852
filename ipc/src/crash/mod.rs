//! The crash page: what a process leaves behind when it dies, in a small piece of shared memory (DESIGN §10, FAULTS row 9).
//!
//! Life cycle: the supervisor creates one page per child before it starts it ([`CrashPage::create`]) and names it on the child's
//! command line; the child maps it first of all ([`install`]); the name goes with the supervisor's view of the page, and another
//! supervisor can take it over with the child ([`CrashPage::adopt`]). While the
//! child lives, its tick thread notes which tick it is about to execute ([`begin_tick_rt`]), so that even after a SIGKILL, which
//! no handler sees, the supervisor knows where it was. A handler of a fatal signal and the panic hook fill in the rest; the first
//! of them wins. After the child's death the supervisor reads the page ([`CrashPage::read`]).
//!
//! All of it is atomics, so nobody is ever in the way of anybody, and what a dying process leaves half-written is still read
//! word by word. Nothing in a page is believed further than into a text for people: the child may have damaged it.

#[cfg(any(debug_assertions, feature = "faults"))]
pub mod faults;
mod record;

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::hash::ContentHash;
use crate::segment::{Segment, SegmentError, SegmentKind, SegmentRef, SessionId};

pub use record::{AddressClass, CrashRecord, Phase, SignalRecord};

/// Whether this build dies on demand: another one than a build of the same sources that does not.
pub const HAS_FAULTS: bool = cfg!(any(debug_assertions, feature = "faults"));

/// Return addresses that a page holds.
pub const MAX_FRAMES: usize = 32;
/// Bytes of a panic's message that a page holds.
pub const MAX_PANIC_BYTES: usize = 512;
/// Bytes of a runtime's name that a page holds.
pub const MAX_NAME_BYTES: usize = 64;
/// Bytes of a thread's name, as the kernel keeps it.
pub const THREAD_NAME_BYTES: usize = 16;

// Offsets in the payload, in bytes; every word has eight. The first cache lines are those that each tick writes.
const PHASE: usize = 0;
const TICK: usize = 8;
const REVISION: usize = 16;
const RUNTIME_LENGTH: usize = 64;
const RUNTIME: usize = 72;
const MODULE_BASE: usize = RUNTIME + MAX_NAME_BYTES;
const MODULE_BYTES: usize = MODULE_BASE + 8;
const CLAIM: usize = MODULE_BYTES + 8;
const SIGNAL: usize = CLAIM + 8;
const CODE: usize = SIGNAL + 8;
const ADDRESS: usize = CODE + 8;
const INSTRUCTION: usize = ADDRESS + 8;
const STACK: usize = INSTRUCTION + 8;
const SENDER: usize = STACK + 8;
const SYSCALL: usize = SENDER + 8;
const THREAD: usize = SYSCALL + 8;
const THREAD_NAME: usize = THREAD + 8;
const FRAME_COUNT: usize = THREAD_NAME + THREAD_NAME_BYTES;
const FRAMES: usize = FRAME_COUNT + 8;
const PANIC_LENGTH: usize = FRAMES + MAX_FRAMES * 8;
const PANIC: usize = PANIC_LENGTH + 8;
const PAYLOAD_BYTES: usize = PANIC + MAX_PANIC_BYTES;

/// A page belongs to one process, so it has no generations.
const GENERATION: u64 = 0;

/// The page of this process, once [`install`] has mapped it. It is never unmapped: a handler may need it at any time.
static PAGE: OnceLock<Segment> = OnceLock::new();

/// The supervisor's end of one child's page.
pub struct CrashPage {
    segment: Segment,
}

impl CrashPage {
    /// Creates the page of a child that is about to be started.
    pub fn create(session: &SessionId) -> Result<Self, SegmentError> {
        Ok(Self { segment: Segment::create(session, SegmentKind::CrashPage, GENERATION, PAYLOAD_BYTES)? })
    }

    /// The page of a child that another supervisor has started.
    pub fn adopt(name: &str) -> Result<Self, SegmentError> {
        let mut segment = Segment::open(&reference(name))?;
        segment.own_name();
        Ok(Self { segment })
    }

    /// The name to hand to the child.
    pub fn name(&self) -> &str {
        &self.segment.reference().name
    }

    /// What the child has left behind, or, while it lives, where it is.
    pub fn read(&self) -> CrashRecord {
        record::read(&self.segment)
    }
}

/// What the child is told: enough to map the page without asking anybody.
fn reference(name: &str) -> SegmentRef {
    let bytes = (crate::segment::HEADER_BYTES + PAYLOAD_BYTES) as u64;
    SegmentRef { name: name.to_owned(), kind: SegmentKind::CrashPage, generation: GENERATION, bytes, hash: None }
}

/// Maps the page that the supervisor made for this process. Called once, before anything that may crash; later calls change
/// nothing.
pub fn install(name: &str) -> Result<(), SegmentError> {
    let page = Segment::open(&reference(name))?;
    let _ = PAGE.set(page);
    Ok(())
}

/// Notes that `tick` begins, with `revision` as far as is known: what is to take effect in it may bring another one.
#[inline]
pub fn note_tick_rt(tick: u64, revision: &ContentHash) {
    if let Some(page) = PAGE.get() {
        begin_in_rt(page, tick, revision);
    }
}

/// Notes that `tick` of `revision` is about to be executed, for whoever asks what this process died of. A handful of plain
/// stores; does nothing where there is no page.
#[inline]
pub fn begin_tick_rt(tick: u64, revision: &ContentHash) {
    note_tick_rt(tick, revision);
    #[cfg(any(debug_assertions, feature = "faults"))]
    faults::at_tick_rt(tick, revision);
}

fn begin_in_rt(page: &Segment, tick: u64, revision: &ContentHash) {
    // A process that is killed in between has left no tick with the revision of another one.
    page.word_u64(PHASE).store(Phase::Idle.code(), Relaxed);
    for (index, word) in revision_words(revision).into_iter().enumerate() {
        page.word_u64(REVISION + index * 8).store(word, Release);
    }
    page.word_u64(TICK).store(tick, Release);
    page.word_u64(PHASE).store(Phase::Tick.code(), Release);
}

/// Notes that the tick is over and the process waits for the next one.
#[inline]
pub fn end_tick_rt() {
    phase_rt(Phase::Idle);
}

/// Notes what the process is doing.
#[inline]
pub fn phase_rt(phase: Phase) {
    if let Some(page) = PAGE.get() {
        page.word_u64(PHASE).store(phase.code(), Release);
    }
}

/// Notes which runtime this process executes from now on. Longer names are cut.
pub fn set_runtime(name: &str) {
    if let Some(page) = PAGE.get() {
        store_bytes(page, RUNTIME, RUNTIME_LENGTH, name.as_bytes(), MAX_NAME_BYTES);
    }
    #[cfg(any(debug_assertions, feature = "faults"))]
    faults::arm(name);
}

/// Notes where the program's own machine code lies, so that addresses can be given names by another process of this build.
pub fn set_module(base: u64, bytes: u64) {
    if let Some(page) = PAGE.get() {
        page.word_u64(MODULE_BASE).store(base, Relaxed);
        page.word_u64(MODULE_BYTES).store(bytes, Release);
    }
}

/// Notes a panic. Nothing is allocated; what does not fit is cut. The first panic is kept.
pub fn record_panic(message: &[u8]) {
    let Some(page) = PAGE.get() else { return };
    if page.word_u64(PANIC_LENGTH).load(Acquire) == 0 {
        store_bytes(page, PANIC, PANIC_LENGTH, message, MAX_PANIC_BYTES);
    }
}

/// What the handler of a fatal signal knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caught {
    pub signal: i32,
    pub code: i32,
    pub address: u64,
    /// Where the thread was executing.
    pub instruction: u64,
    /// Its stack pointer.
    pub stack: u64,
    /// The process that sent the signal; 0 when it was not sent.
    pub sender: u32,
    /// The system call that was forbidden, for SIGSYS.
    pub syscall: Option<u32>,
    pub thread: u32,
    pub thread_name: [u8; THREAD_NAME_BYTES],
}

/// Notes a fatal signal. Runs in signal handlers: stores and nothing else. Returns whether this was the first one, and the
/// caller may add frames.
pub fn record_signal_rt(caught: &Caught) -> bool {
    let Some(page) = PAGE.get() else { return false };
    if page.word_u64(CLAIM).compare_exchange(0, 1, AcqRel, Acquire).is_err() {
        return false;
    }
    page.word_u64(CODE).store(u64::from(caught.code as u32), Relaxed);
    page.word_u64(ADDRESS).store(caught.address, Relaxed);
    page.word_u64(INSTRUCTION).store(caught.instruction, Relaxed);
    page.word_u64(STACK).store(caught.stack, Relaxed);
    page.word_u64(SENDER).store(u64::from(caught.sender), Relaxed);
    page.word_u64(SYSCALL).store(caught.syscall.map_or(0, |number| u64::from(number) + 1), Relaxed);
    page.word_u64(THREAD).store(u64::from(caught.thread), Relaxed);
    for (index, word) in caught.thread_name.as_chunks::<8>().0.iter().enumerate() {
        page.word_u64(THREAD_NAME + index * 8).store(u64::from_le_bytes(*word), Relaxed);
    }
    page.word_u64(SIGNAL).store(u64::from(caught.signal as u32), Release);
    true
}

/// Adds a return address to the signal that was noted. Returns whether there is room for another one.
pub fn record_frame_rt(index: usize, address: u64) -> bool {
    let Some(page) = PAGE.get() else { return false };
    if index >= MAX_FRAMES {
        return false;
    }
    page.word_u64(FRAMES + index * 8).store(address, Relaxed);
    page.word_u64(FRAME_COUNT).store(index as u64 + 1, Release);
    index + 1 < MAX_FRAMES
}

fn revision_words(revision: &ContentHash) -> [u64; 4] {
    let (words, _) = revision.0.as_chunks::<8>();
    [0, 1, 2, 3].map(|index: usize| words.get(index).map_or(0, |word| u64::from_le_bytes(*word)))
}

fn store_bytes(page: &Segment, at: usize, length_at: usize, bytes: &[u8], limit: usize) {
    let length = bytes.len().min(limit);
    for (index, part) in bytes[..length].chunks(8).enumerate() {
        let mut word = [0u8; 8];
        word[..part.len()].copy_from_slice(part);
        page.word_u64(at + index * 8).store(u64::from_le_bytes(word), Relaxed);
    }
    page.word_u64(length_at).store(length as u64, Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Session;

    fn hash(fill: u8) -> ContentHash {
        ContentHash([fill; 32])
    }

    /// Several tests in one: a process has one page.
    #[test]
    fn a_page_tells_what_its_process_was_doing() {
        let session = Session::open().unwrap();
        let page = CrashPage::create(session.id()).unwrap();
        assert_eq!(page.read(), CrashRecord::default(), "a process that never came to use its page");
        begin_tick_rt(1, &hash(1)); // Without a page it does nothing.

        install(page.name()).unwrap();
        assert_eq!(page.read().phase, Phase::Start);
        phase_rt(Phase::Initialise);
        assert_eq!(page.read().tick, None, "no tick has begun");
        begin_tick_rt(41, &hash(7));
        let during = page.read();
        assert_eq!((during.phase, during.tick, during.revision), (Phase::Tick, Some(41), Some(hash(7))));
        end_tick_rt();
        assert_eq!((page.read().phase, page.read().tick), (Phase::Idle, Some(41)));
        begin_tick_rt(0, &hash(8));
        assert_eq!(page.read().tick, Some(0), "tick 0 is one");

        let long = "x".repeat(MAX_NAME_BYTES + 9);
        set_runtime(&long);
        assert_eq!(page.read().runtime.as_deref(), Some(&long[..MAX_NAME_BYTES]));
        set_runtime("drums");
        assert_eq!(page.read().runtime.as_deref(), Some("drums"));

        record_panic(b"index out of bounds");
        record_panic(b"a second one");
        assert_eq!(page.read().panic.as_deref(), Some("index out of bounds"), "the first panic is kept");

        let caught = Caught { signal: libc::SIGSEGV, code: 1, address: 8, stack: 0x7000_0000, thread: 5, ..Caught::default() };
        assert!(record_signal_rt(&Caught { thread_name: *b"tick\0\0\0\0\0\0\0\0\0\0\0\0", ..caught }));
        assert!(!record_signal_rt(&Caught { signal: libc::SIGABRT, ..caught }), "the first signal is kept");
        for index in 0..MAX_FRAMES + 3 {
            record_frame_rt(index, 0x1000 + index as u64);
        }
        let read = page.read();
        let signal = read.signal.unwrap();
        assert_eq!((signal.signal, signal.class, signal.thread_name.as_str()), (libc::SIGSEGV, AddressClass::NullPage, "tick"));
        assert_eq!(read.frames.len(), MAX_FRAMES);
        assert_eq!(read.frames[2], 0x1002);
    }

    #[test]
    fn a_page_is_found_by_its_name_alone_and_nothing_else_is() {
        let session = Session::open().unwrap();
        assert!(install("continuo-0000000000000000-0000000000000000").is_err());
        let lane = crate::lane::create(session.id(), 1).unwrap();
        assert!(install(&lane.reference().name).is_err(), "a segment of another kind");
        assert!(install("../etc/passwd").is_err());
    }
}
