//! What is known of the processes that died in this session, for `why-died`.
//!
//! Owned by the main thread, which adds a death when the kernel tells of it and reads when a client asks; neither waits for
//! anything. Addresses become names on a thread of their own, because reading this binary's own tables takes a while the first
//! time. It keeps the last deaths and forgets the rest; what it keeps goes into the ledger, so that the next supervisor knows it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ipc::crash::{AddressClass, CrashRecord, SignalRecord};
use ipc::message::Role;
use serde::{Deserialize, Serialize};

use super::symbols;
use super::tail::Tail;
use crate::control::protocol::{Death, DeathKind, Deaths, ProcessRole, RevisionName, RuntimeName};
use crate::policy::{ProcessEnd, signal_name};

/// Deaths that are kept, of all processes together.
const KEPT: usize = 64;
/// What the library says when it cannot have the memory it needs, just before it aborts.
const OUT_OF_MEMORY: &str = "memory allocation of ";

/// A dead process.
pub struct Obituary {
    pub role: Role,
    pub pid: u32,
    pub end: ProcessEnd,
    /// What we killed it for, if we did.
    pub killed_for: Option<String>,
    /// What was in its crash page.
    pub record: CrashRecord,
    /// What it said last. More may still come in just after its death.
    pub tail: Tail,
}

/// The same for the next supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeathNote {
    role: Role,
    pid: u32,
    end: ProcessEnd,
    killed_for: Option<String>,
    record: CrashRecord,
    said: String,
    at_ms: u64,
}

struct Entry {
    number: u64,
    obituary: Obituary,
    at_ms: u64,
    backtrace: Arc<OnceLock<Vec<String>>>,
    /// How much it had said when it was noted for the next supervisor.
    noted: Option<u64>,
}

/// The dead of a session.
#[derive(Default)]
pub struct Obituaries {
    /// The newest last.
    entries: VecDeque<Entry>,
    /// How many there have been.
    total: u64,
}

impl Obituaries {
    /// Adds a death that has just become known.
    pub fn add(&mut self, obituary: Obituary) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = self.total;
        self.keep(number, obituary, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    }

    /// Takes over what the last supervisor has noted.
    pub fn inherit(&mut self, notes: impl IntoIterator<Item = (u64, DeathNote)>) {
        for (number, note) in notes {
            let DeathNote { role, pid, end, killed_for, record, said, at_ms } = note;
            self.keep(number, Obituary { role, pid, end, killed_for, record, tail: Tail::of(&said) }, at_ms);
        }
    }

    fn keep(&mut self, number: u64, obituary: Obituary, at_ms: u64) {
        let backtrace = symbols::resolve(&obituary.record);
        self.entries.push_back(Entry { number, obituary, at_ms, backtrace, noted: None });
        self.total = self.total.max(number + 1);
        let excess = self.entries.len().saturating_sub(KEPT);
        self.entries.drain(..excess);
    }

    /// What the next supervisor does not know yet, by the numbers of the deaths.
    pub fn unnoted(&mut self) -> Vec<(u64, DeathNote)> {
        let changed = self.entries.iter_mut().filter(|entry| entry.noted != Some(entry.obituary.tail.total()));
        changed.map(|entry| (entry.number, entry.note())).collect()
    }

    /// The number of the first death that is kept.
    pub fn first(&self) -> u64 {
        self.entries.front().map_or(self.total, |entry| entry.number)
    }

    /// What is known of the deaths of a runtime's hosts, or of all processes.
    pub fn tell(&self, runtime: Option<RuntimeName>) -> Deaths {
        let wanted = |entry: &&Entry| runtime.as_ref().is_none_or(|name| entry.obituary.record.runtime.as_deref() == Some(name.as_str()));
        let deaths = self.entries.iter().rev().filter(wanted).map(Entry::tell).collect();
        Deaths { runtime, deaths }
    }
}

impl Entry {
    fn note(&mut self) -> DeathNote {
        let Obituary { role, pid, end, killed_for, record, tail } = &self.obituary;
        self.noted = Some(tail.total());
        let (killed_for, record, said) = (killed_for.clone(), record.clone(), tail.text());
        DeathNote { role: *role, pid: *pid, end: *end, killed_for, record, said, at_ms: self.at_ms }
    }

    fn tell(&self) -> Death {
        let Obituary { role, pid, end, killed_for, record, tail } = &self.obituary;
        let stderr = tail.text();
        let (kind, cause) = match killed_for {
            // What it did in its last moment does not matter.
            Some(reason) => (DeathKind::Signal, format!("it was killed by its supervisor: {reason}")),
            None => cause(*pid, *end, record, &stderr),
        };
        let (signal, exit_status) = match (end, &record.signal) {
            (ProcessEnd::Killed(signal), _) => (Some(*signal), None),
            (ProcessEnd::Exited(_), Some(caught)) => (Some(caught.signal), None),
            (&ProcessEnd::UNKNOWN, None) => (None, None),
            (ProcessEnd::Exited(status), None) => (None, Some(*status)),
        };
        let caught = record.signal.as_ref();
        Death {
            role: process_role(*role, record),
            runtime: record.runtime.as_ref().and_then(|name| RuntimeName::new(name.as_str()).ok()),
            pid: *pid,
            at_ms: self.at_ms,
            kind,
            cause,
            signal: signal.map(name_of),
            exit_status,
            system_call: caught.and_then(|caught| caught.syscall).map(symbols::system_call),
            doing: record.phase.words().to_owned(),
            tick: record.tick,
            revision: record.revision.and_then(|revision| RevisionName::new(revision.to_string()).ok()),
            thread: caught.map(|caught| caught.thread_name.clone()),
            address: caught.filter(|caught| caught.class != AddressClass::None).map(|caught| format!("{:#x}", caught.address)),
            backtrace: self.backtrace.get().cloned().unwrap_or_else(|| symbols::offsets(record)),
            stderr,
        }
    }
}

fn name_of(signal: i32) -> String {
    signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

fn process_role(role: Role, record: &CrashRecord) -> ProcessRole {
    match role {
        Role::CompilerWorker => ProcessRole::CompilerWorker,
        Role::DeviceHost => ProcessRole::DeviceHost,
        Role::RuntimeHost if record.runtime.is_some() => ProcessRole::RuntimeHost,
        Role::RuntimeHost => ProcessRole::SpareHost,
    }
}

/// The kind of a death, and why in words: the first cause that is known.
fn cause(pid: u32, end: ProcessEnd, record: &CrashRecord, stderr: &str) -> (DeathKind, String) {
    if let Some(panic) = &record.panic {
        return (DeathKind::Panic, format!("it panicked: {panic}"));
    }
    // What the page says holds also where nobody told us how the process ended.
    match (&record.signal, end) {
        (Some(caught), _) if caught.signal == libc::SIGABRT && stderr.contains(OUT_OF_MEMORY) => (DeathKind::Oom, out_of_memory(stderr)),
        (Some(caught), _) => of_signal(pid, caught),
        (None, ProcessEnd::UNKNOWN) => {
            (DeathKind::Exit, "it ended, and nobody saw how: another supervisor had started it, or none was there".to_owned())
        }
        (None, ProcessEnd::Exited(status)) => (DeathKind::Exit, format!("it ended by itself with exit status {status}")),
        (None, ProcessEnd::Killed(libc::SIGKILL)) => {
            (DeathKind::Signal, "it was killed from outside (SIGKILL): by somebody, or by the kernel when memory ran out".to_owned())
        }
        (None, ProcessEnd::Killed(_)) => (DeathKind::Signal, format!("it {end}")),
    }
}

fn out_of_memory(stderr: &str) -> String {
    let said = stderr.lines().rev().find(|line| line.contains(OUT_OF_MEMORY)).unwrap_or(OUT_OF_MEMORY);
    format!("oom: there was no memory left for it ({})", said.trim())
}

fn of_signal(pid: u32, caught: &SignalRecord) -> (DeathKind, String) {
    let name = name_of(caught.signal);
    if let Some(number) = caught.syscall {
        let call = symbols::system_call(number);
        return (DeathKind::Sandbox, format!("sandbox{{{call}}}: its confinement does not allow the system call {call}"));
    }
    match caught.sender {
        Some(sender) if sender == pid => return (DeathKind::Signal, format!("it gave itself up ({name})")),
        Some(sender) => return (DeathKind::Signal, format!("process {sender} sent it {name}")),
        None => {}
    }
    match caught.class {
        AddressClass::Stack => (DeathKind::Stack, format!("its stack was exhausted ({name} at {:#x})", caught.address)),
        AddressClass::NullPage => (DeathKind::Signal, format!("{name}: it used a null pointer ({:#x})", caught.address)),
        AddressClass::Impossible | AddressClass::Other => {
            (DeathKind::Signal, format!("{name}: it used memory that is not its own ({:#x})", caught.address))
        }
        AddressClass::None => (DeathKind::Signal, format!("{name}, raised by what it executed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(runtime: &str, end: ProcessEnd) -> Obituary {
        let record = CrashRecord { runtime: Some(runtime.to_owned()), tick: Some(7), ..CrashRecord::default() };
        Obituary { role: Role::RuntimeHost, pid: 5, end, killed_for: None, record, tail: Tail::default() }
    }

    fn caught(signal: i32, class: AddressClass, syscall: Option<u32>, sender: Option<u32>) -> CrashRecord {
        let thread_name = "tick".to_owned();
        let signal = SignalRecord { signal, code: 1, address: 0x10, class, instruction: 0, sender, syscall, thread: 1, thread_name };
        CrashRecord { signal: Some(signal), ..CrashRecord::default() }
    }

    #[test]
    fn the_newest_death_of_the_runtime_comes_first_and_old_ones_are_forgotten() {
        let mut obituaries = Obituaries::default();
        for number in 0..KEPT as i32 + 3 {
            obituaries.add(dead(if number % 2 == 0 { "even" } else { "odd" }, ProcessEnd::Exited(number)));
        }
        assert_eq!(obituaries.tell(None).deaths.len(), KEPT);
        let even = obituaries.tell(Some(RuntimeName::new("even").unwrap())).deaths;
        assert_eq!((even[0].exit_status, even[0].tick), (Some(KEPT as i32 + 2), Some(7)));
        assert!(even.iter().all(|death| death.runtime.as_ref().is_some_and(|name| name.as_str() == "even")));
        assert!(obituaries.tell(Some(RuntimeName::new("nobody").unwrap())).deaths.is_empty());
    }

    #[test]
    fn the_first_cause_that_is_known_is_told() {
        let killed = |signal| ProcessEnd::Killed(signal);
        let of = |record: &CrashRecord, signal| cause(5, killed(signal), record, "");
        let (kind, words) = of(&caught(libc::SIGSYS, AddressClass::None, Some(libc::SYS_execve as u32), None), libc::SIGSYS);
        assert_eq!(kind, DeathKind::Sandbox);
        assert!(words.starts_with("sandbox{execve}"), "{words}");
        let (kind, _) = of(&caught(libc::SIGSEGV, AddressClass::Stack, None, None), libc::SIGSEGV);
        assert_eq!(kind, DeathKind::Stack);
        let (_, words) = of(&caught(libc::SIGSEGV, AddressClass::None, None, Some(99)), libc::SIGSEGV);
        assert_eq!(words, "process 99 sent it SIGSEGV");
        let (_, words) = of(&caught(libc::SIGABRT, AddressClass::None, None, Some(5)), libc::SIGABRT);
        assert_eq!(words, "it gave itself up (SIGABRT)");
        let panicked = CrashRecord { panic: Some("no".to_owned()), ..caught(libc::SIGABRT, AddressClass::None, None, None) };
        assert_eq!(of(&panicked, libc::SIGABRT), (DeathKind::Panic, "it panicked: no".to_owned()));
        let aborted = caught(libc::SIGABRT, AddressClass::None, None, None);
        let (kind, words) = cause(5, killed(libc::SIGABRT), &aborted, "memory allocation of 99 bytes failed\n");
        assert_eq!(kind, DeathKind::Oom);
        assert!(words.contains("99 bytes"), "{words}");
        let adopted = cause(5, ProcessEnd::Exited(-1), &caught(libc::SIGSEGV, AddressClass::NullPage, None, None), "");
        assert_eq!(adopted.0, DeathKind::Signal, "the page tells what nobody else does");
        assert_eq!(cause(5, ProcessEnd::Exited(3), &CrashRecord::default(), "").0, DeathKind::Exit);
        assert!(of(&CrashRecord::default(), libc::SIGKILL).1.contains("from outside"));
    }

    #[test]
    fn the_next_supervisor_knows_the_dead_of_the_last_one_and_counts_on() {
        let mut last = Obituaries::default();
        for status in 0..KEPT as i32 + 2 {
            let tail = Tail::of("it ");
            last.add(Obituary { tail: tail.clone(), ..dead("song", ProcessEnd::Exited(status)) });
            let mut ledger: Vec<_> = last.unnoted();
            assert_eq!(ledger.len(), 1, "each death is noted once");
            if status == KEPT as i32 + 1 {
                // A moment later comes the rest of what it said.
                last.entries.back_mut().unwrap().obituary.tail = Tail::of("it said this");
                ledger = last.unnoted();
                assert_eq!((ledger.len(), ledger[0].1.said.as_str()), (1, "it said this"));
            }
        }
        assert!(last.unnoted().is_empty());
        let notes: Vec<_> = last.entries.iter_mut().map(|entry| (entry.number, entry.note())).collect();
        let encoded = ipc::codec::encode(&notes).unwrap();
        let mut next = Obituaries::default();
        next.inherit(ipc::codec::decode::<Vec<(u64, DeathNote)>>(&encoded).unwrap());
        assert_eq!(next.tell(None), last.tell(None));
        assert_eq!((next.first(), next.total), (2, KEPT as u64 + 2));
        next.add(dead("song", ProcessEnd::UNKNOWN));
        let told = &next.tell(None).deaths[0];
        assert_eq!((told.exit_status, told.signal.as_deref()), (None, None));
        assert!(told.cause.contains("nobody saw"), "{}", told.cause);
        assert_eq!(next.first(), 3, "of the oldest nobody knows any more");
    }

    #[test]
    fn what_the_supervisor_killed_is_not_said_to_be_killed_from_outside() {
        let mut obituaries = Obituaries::default();
        let killed_for = Some("it stood still for 500 ms".to_owned());
        obituaries.add(Obituary { killed_for, ..dead("song", ProcessEnd::Killed(libc::SIGKILL)) });
        assert_eq!(obituaries.tell(None).deaths[0].cause, "it was killed by its supervisor: it stood still for 500 ms");
    }
}
