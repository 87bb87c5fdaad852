//! Faults on demand: a process that is to die in a named way at a named tick, so that tests can show what becomes of it.
//!
//! Read once at start from the environment variable `CONTINUO_FAULT`, for example `segv@tick:1000,runtime:drums,revision:1f3a`:
//! the kind, then conditions, all of which must hold. The process whose runtime and revision fit dies at that tick, and so does
//! every other one that comes to execute it again. Only in builds with debug assertions or the feature `faults`; nobody else's
//! build reads the variable.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::hash::ContentHash;

/// The environment variable.
pub const VARIABLE: &str = "CONTINUO_FAULT";

/// How to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes where nothing is mapped.
    Segv,
    Bus,
    Ill,
    Fpe,
    Abrt,
    Trap,
    Kill,
    /// Calls itself until the native stack is exhausted.
    Overflow,
    Panic,
    /// Asks the system for what no host may: a program to execute.
    Syscall,
    /// Computes without end.
    Spin,
}

/// A fault and when it is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub tick: u64,
    pub runtime: Option<String>,
    /// First hexadecimal digits of the revision's hash.
    revision: Option<String>,
}

static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
/// Whether this process executes the runtime that is to fail.
static IS_ARMED: AtomicBool = AtomicBool::new(false);

impl Fault {
    /// Reads `segv@tick:1000,runtime:drums,revision:1f3a`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, conditions) = text.split_once('@')?;
        let mut fault = Self { kind: Kind::parse(kind)?, tick: 0, runtime: None, revision: None };
        for condition in conditions.split(',') {
            match condition.split_once(':')? {
                ("tick", tick) => fault.tick = tick.parse().ok()?,
                ("runtime", name) => fault.runtime = Some(name.to_owned()),
                ("revision", digits) if digits.len() <= 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                    fault.revision = Some(digits.to_owned());
                }
                _ => return None,
            }
        }
        Some(fault)
    }

    fn is_due_rt(&self, tick: u64, revision: &ContentHash) -> bool {
        tick == self.tick && self.revision.as_ref().is_none_or(|digits| starts_with_rt(revision, digits.as_bytes()))
    }
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "segv" => Self::Segv,
            "bus" => Self::Bus,
            "ill" => Self::Ill,
            "fpe" => Self::Fpe,
            "abrt" => Self::Abrt,
            "trap" => Self::Trap,
            "kill" => Self::Kill,
            "overflow" => Self::Overflow,
            "panic" => Self::Panic,
            "syscall" => Self::Syscall,
            "spin" => Self::Spin,
            _ => return None,
        })
    }
}

/// Whether the hash, written in hexadecimal digits, begins with these.
fn starts_with_rt(revision: &ContentHash, digits: &[u8]) -> bool {
    digits.iter().enumerate().all(|(index, digit)| {
        let byte = revision.0[index / 2];
        let half = if index % 2 == 0 { byte >> 4 } else { byte & 15 };
        half == if *digit < b'a' { digit - b'0' } else { digit - b'a' + 10 }
    })
}

/// Reads the variable; what cannot be read is no fault. `runtime` is what this process executes from now on.
pub fn arm(runtime: &str) {
    let fault = FAULT.get_or_init(|| Fault::parse(&std::env::var(VARIABLE).ok()?));
    let is_ours = fault.as_ref().is_some_and(|fault| fault.runtime.as_ref().is_none_or(|name| name == runtime));
    IS_ARMED.store(is_ours, Release);
}

/// Dies if it is time to.
pub fn at_tick_rt(tick: u64, revision: &ContentHash) {
    if IS_ARMED.load(Acquire)
        && let Some(Some(fault)) = FAULT.get()
        && fault.is_due_rt(tick, revision)
    {
        commit_rt(fault.kind);
    }
}

/// Does what the kind says. Returns only from what does not kill.
pub fn commit_rt(kind: Kind) {
    match kind {
        // SAFETY: none; this is the crash that was asked for. The address lies in the page that no process has mapped.
        Kind::Segv => unsafe { std::hint::black_box(16 as *mut u64).write_volatile(1) },
        Kind::Bus => raise_rt(libc::SIGBUS),
        Kind::Ill => raise_rt(libc::SIGILL),
        Kind::Fpe => raise_rt(libc::SIGFPE),
        Kind::Abrt => raise_rt(libc::SIGABRT),
        Kind::Trap => raise_rt(libc::SIGTRAP),
        Kind::Kill => raise_rt(libc::SIGKILL),
        Kind::Overflow => drop(descend_rt(std::hint::black_box(1))),
        Kind::Panic => panic!("a panic on demand"),
        Kind::Syscall => execute_rt(),
        Kind::Spin => spin_rt(),
    }
}

fn raise_rt(signal: i32) {
    // SAFETY: `raise` takes no pointers; that the signal ends the process is what it is for.
    unsafe { libc::raise(signal) };
}

fn execute_rt() {
    let none = std::ptr::null::<*const libc::c_char>();
    // SAFETY: the path is a C string, and Linux takes absent lists of arguments for empty ones. Nothing is at that path.
    unsafe { libc::syscall(libc::SYS_execve, c"/nonexistent".as_ptr(), none, none) };
}

#[expect(unconditional_recursion, reason = "it is to exhaust the stack")]
fn descend_rt(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 128]);
    descend_rt(depth + 1) + frame[(depth % 128) as usize]
}

/// Longer than any budget of real time, but not for ever: a test that fails is to end.
fn spin_rt() {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(5);
    let begun = std::time::Instant::now();
    while begun.elapsed() < LONGEST {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_with_its_conditions() {
        let fault = Fault::parse("segv@tick:1000,runtime:drums,revision:07f").unwrap();
        assert_eq!((fault.kind, fault.tick, fault.runtime.as_deref()), (Kind::Segv, 1_000, Some("drums")));
        let mut revision = ContentHash([7; 32]);
        revision.0[1] = 0xf5;
        assert!(fault.is_due_rt(1_000, &revision));
        assert!(!fault.is_due_rt(999, &revision));
        assert!(!fault.is_due_rt(1_000, &ContentHash([7; 32])), "another revision");
        assert!(Fault::parse("kill@tick:0").unwrap().is_due_rt(0, &revision));
        for wrong in ["", "segv", "segv@", "nap@tick:1", "segv@tick:x", "segv@tock:1", "segv@tick:1,revision:XY"] {
            assert_eq!(Fault::parse(wrong), None, "{wrong}");
        }
    }
}
