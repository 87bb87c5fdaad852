//! Reading a crash page: words become a record, and nothing in it is believed.
//!
//! Used by the supervisor, on whatever thread learns of a death; owns nothing. The child may have been dying while it wrote, or
//! have written nonsense: every length is bounded, every text made valid, every number only shown.

use std::sync::atomic::Ordering::Acquire;

use serde::{Deserialize, Serialize};

use super::{
    ADDRESS, CODE, FRAME_COUNT, FRAMES, INSTRUCTION, MAX_FRAMES, MAX_NAME_BYTES, MAX_PANIC_BYTES, MODULE_BASE, MODULE_BYTES, PANIC,
    PANIC_LENGTH, PHASE, REVISION, RUNTIME, RUNTIME_LENGTH, SENDER, SIGNAL, STACK, SYSCALL, THREAD, THREAD_NAME, THREAD_NAME_BYTES, TICK,
};
use crate::hash::ContentHash;
use crate::segment::Segment;

/// Addresses below this are a null pointer with an offset.
const NULL_PAGE_BYTES: u64 = 64 << 10;
/// An access this near to the stack pointer is the stack's own: it has run into its guard page.
const NEAR_STACK_BYTES: u64 = 64 << 10;
/// First address that no process can have on a 64-bit machine.
const END_OF_ADDRESSES: u64 = 1 << 57;

/// What a process was doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It had not come to anything yet.
    #[default]
    Start,
    /// It was loading or initialising a program.
    Initialise,
    /// It was executing a tick.
    Tick,
    /// It was between two ticks, or has none.
    Idle,
}

impl Phase {
    pub(super) fn code(self) -> u64 {
        match self {
            Self::Start => 0,
            Self::Initialise => 1,
            Self::Tick => 2,
            Self::Idle => 3,
        }
    }

    fn of(code: u64) -> Self {
        match code {
            1 => Self::Initialise,
            2 => Self::Tick,
            3 => Self::Idle,
            _ => Self::Start,
        }
    }

    /// What it was doing, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Initialise => "loading a program",
            Self::Tick => "executing a tick",
            Self::Idle => "between two ticks",
        }
    }
}

/// What kind of address a fatal signal was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressClass {
    /// The signal is not about an address.
    None,
    /// A null pointer, or one with an offset.
    NullPage,
    /// Just below the stack pointer: the stack is exhausted.
    Stack,
    /// No process can have this address; the processor does not say which it was.
    Impossible,
    /// Memory that is not mapped, or not for this purpose.
    Other,
}

impl AddressClass {
    fn of(signal: i32, is_sent: bool, address: u64, stack: u64) -> Self {
        if is_sent || !matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
            return Self::None;
        }
        match address {
            // The processor reports 0 for addresses that are none, which cannot be told from a null pointer.
            0..NULL_PAGE_BYTES => Self::NullPage,
            END_OF_ADDRESSES.. => Self::Impossible,
            _ if address.abs_diff(stack) < NEAR_STACK_BYTES => Self::Stack,
            _ => Self::Other,
        }
    }

    /// The class as data, such as `null`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NullPage => "null",
            Self::Stack => "stack",
            Self::Impossible => "impossible",
            Self::Other => "unmapped",
        }
    }
}

/// A fatal signal that was caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    pub signal: i32,
    pub code: i32,
    pub address: u64,
    pub class: AddressClass,
    /// Where the thread was executing.
    pub instruction: u64,
    /// The process that sent the signal, if it was sent.
    pub sender: Option<u32>,
    /// The system call that was forbidden, for SIGSYS.
    pub syscall: Option<u32>,
    pub thread: u32,
    pub thread_name: String,
}

/// What a process has left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    pub phase: Phase,
    /// The tick that was being executed, or the last one that was.
    pub tick: Option<u64>,
    /// The revision it was a tick of.
    pub revision: Option<ContentHash>,
    /// The runtime it executed.
    pub runtime: Option<String>,
    /// The signal that ended it, unless that cannot be caught.
    pub signal: Option<SignalRecord>,
    /// Message of the panic that ended it.
    pub panic: Option<String>,
    /// Return addresses on the stack of the thread that was hit, innermost first.
    pub frames: Vec<u64>,
    /// Where the binary's own machine code was: first address, length in bytes.
    pub module: Option<(u64, u64)>,
}

impl CrashRecord {
    /// The place of an address in the binary, where it lies in it.
    pub fn offset_in_module(&self, address: u64) -> Option<u64> {
        let (base, bytes) = self.module?;
        address.checked_sub(base).filter(|offset| *offset < bytes)
    }
}

pub(super) fn read(page: &Segment) -> CrashRecord {
    let word = |at: usize| page.word_u64(at).load(Acquire);
    let mut hash = [0u8; 32];
    for (index, bytes) in hash.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(REVISION + index * 8).to_le_bytes());
    }
    // No text hashes to zero, and every tick notes its revision first.
    let has_ticked = hash != [0u8; 32];
    let module = (word(MODULE_BASE), word(MODULE_BYTES));
    let count = usize::try_from(word(FRAME_COUNT)).unwrap_or(0).min(MAX_FRAMES);
    CrashRecord {
        phase: Phase::of(word(PHASE)),
        tick: has_ticked.then(|| word(TICK)),
        revision: has_ticked.then_some(ContentHash(hash)),
        runtime: text(page, RUNTIME, RUNTIME_LENGTH, MAX_NAME_BYTES),
        signal: signal(page),
        panic: text(page, PANIC, PANIC_LENGTH, MAX_PANIC_BYTES),
        frames: (0..count).map(|index| word(FRAMES + index * 8)).collect(),
        module: (module.1 != 0).then_some(module),
    }
}

fn signal(page: &Segment) -> Option<SignalRecord> {
    let word = |at: usize| page.word_u64(at).load(Acquire);
    let signal = word(SIGNAL) as u32 as i32;
    if signal == 0 {
        return None;
    }
    let (code, address, sender) = (word(CODE) as u32 as i32, word(ADDRESS), word(SENDER) as u32);
    // Codes of 0 and below stand for signals that a process has sent.
    let is_sent = code <= 0;
    let name = bytes(page, THREAD_NAME, THREAD_NAME_BYTES);
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Some(SignalRecord {
        signal,
        code,
        address,
        class: AddressClass::of(signal, is_sent, address, word(STACK)),
        instruction: word(INSTRUCTION),
        sender: (is_sent && sender != 0).then_some(sender),
        syscall: word(SYSCALL).checked_sub(1).map(|number| number as u32),
        thread: word(THREAD) as u32,
        thread_name: String::from_utf8_lossy(&name[..end]).into_owned(),
    })
}

fn text(page: &Segment, at: usize, length_at: usize, limit: usize) -> Option<String> {
    let length = usize::try_from(page.word_u64(length_at).load(Acquire)).unwrap_or(0).min(limit);
    (length > 0).then(|| String::from_utf8_lossy(&bytes(page, at, length)).into_owned())
}

fn bytes(page: &Segment, at: usize, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).flat_map(|index| page.word_u64(at + index * 8).load(Acquire).to_le_bytes());
    words.take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classed_by_where_they_lie() {
        let stack = 0x7fff_0000_0000;
        let class = |address| AddressClass::of(libc::SIGSEGV, false, address, stack);
        assert_eq!(class(0x10), AddressClass::NullPage);
        assert_eq!(class(stack - 8), AddressClass::Stack);
        assert_eq!(class(0x1234_5678), AddressClass::Other);
        assert_eq!(class(u64::MAX), AddressClass::Impossible);
        assert_eq!(AddressClass::of(libc::SIGSEGV, true, 0, stack), AddressClass::None, "sent from outside");
        assert_eq!(AddressClass::of(libc::SIGABRT, false, 0, stack), AddressClass::None);
    }

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        for phase in [Phase::Start, Phase::Initialise, Phase::Tick, Phase::Idle] {
            assert_eq!(Phase::of(phase.code()), phase);
        }
        assert_eq!(Phase::of(77), Phase::Start);
    }

    #[test]
    fn an_address_has_a_place_only_in_the_binary() {
        let record = CrashRecord { module: Some((0x1000, 0x100)), ..CrashRecord::default() };
        assert_eq!(record.offset_in_module(0x1010), Some(0x10));
        assert_eq!(record.offset_in_module(0xfff), None);
        assert_eq!(record.offset_in_module(0x1100), None);
    }
}
