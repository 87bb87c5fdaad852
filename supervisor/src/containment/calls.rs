//! Which system calls a role may make: seccomp filters.
//!
//! Entered once by a child, on its only thread; every thread it starts inherits them. A host or the worker that makes a call
//! which is not in its table gets SIGSYS, so that its crash page names the call (FAULTS row 53). In the device host foreign
//! libraries run that no table can know in advance: what it does not know is refused as if the kernel had no such call, and only
//! what nobody has a reason for is fatal.

use std::collections::BTreeMap;

use ipc::message::Role;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule, apply_filter,
};
use syscalls::Sysno;

use super::tables::{CHANNELS, FILES, MEMORY, NEVER, QUESTIONS, SOUND, THREADS};

type Rules = BTreeMap<i64, Vec<Rule>>;

/// Why system calls are not confined.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("there are no filters for this processor: {0}")]
    Processor(seccompiler::BackendError),
    #[error("the filter cannot be made: {0}")]
    Make(seccompiler::BackendError),
    #[error("the kernel refuses the filter: {0}")]
    Refused(#[from] seccompiler::Error),
}

/// Confines the calling thread, and those it starts, to the calls of its role. Where filters contradict each other the
/// strictest one decides.
pub fn enter(role: Role) -> Result<(), FilterError> {
    for program in programs(role)? {
        apply_filter(&program)?;
    }
    Ok(())
}

fn programs(role: Role) -> Result<Vec<BpfProgram>, FilterError> {
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    match role {
        Role::CompilerWorker | Role::RuntimeHost => Ok(vec![
            // What a new kind of call asks for lies in memory, where a filter cannot look; without it the C library takes the old
            // one, which shows its flags.
            compile(whole(&["clone3"]), SeccompAction::Allow, absent)?,
            compile(confined()?, SeccompAction::Trap, SeccompAction::Allow)?,
        ]),
        Role::DeviceHost => {
            Ok(vec![compile(whole(NEVER), SeccompAction::Allow, SeccompAction::Trap)?, compile(device(), absent, SeccompAction::Allow)?])
        }
    }
}

fn compile(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> Result<BpfProgram, FilterError> {
    let processor = std::env::consts::ARCH.try_into().map_err(FilterError::Processor)?;
    let filter = SeccompFilter::new(rules, otherwise, matching, processor).map_err(FilterError::Make)?;
    filter.try_into().map_err(FilterError::Make)
}

/// The calls of these names with whatever arguments.
fn whole(names: &[&str]) -> Rules {
    names.iter().filter_map(|name| number(name)).map(|number| (number, Vec::new())).collect()
}

fn number(name: &str) -> Option<i64> {
    name.parse::<Sysno>().ok().map(|call| i64::from(call.id()))
}

fn device() -> Rules {
    let mut rules = whole(&[THREADS, MEMORY, FILES, CHANNELS, QUESTIONS, SOUND].concat());
    // Otherwise the other filter's verdict on them would be softened to a refusal.
    rules.extend(whole(NEVER));
    rules
}

/// What worker and hosts may do: the tables, and a few calls with some arguments only.
fn confined() -> Result<Rules, FilterError> {
    let mut rules = whole(&[THREADS, MEMORY, FILES, CHANNELS, QUESTIONS].concat());
    rules.extend(whole(&["clone3"]));
    let own = u64::from(std::process::id());
    // Threads, no processes.
    let thread = libc::CLONE_THREAD as u64;
    restrict(&mut rules, "clone", 0, &Compare::MaskedEq(thread), &[thread])?;
    // Channels on this machine, no network.
    for name in ["socket", "socketpair"] {
        restrict(&mut rules, name, 0, &Compare::Eq, &[libc::AF_UNIX as u64])?;
    }
    // Whether a stream is a terminal, whether a socket blocks; no device.
    restrict(&mut rules, "ioctl", 1, &Compare::Eq, &[libc::TCGETS, libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD])?;
    // Only itself: to die by a signal, and to read its own stack when it does.
    for name in ["tgkill", "kill", "process_vm_readv"] {
        restrict(&mut rules, name, 0, &Compare::Eq, &[own])?;
    }
    Ok(rules)
}

/// Allows a call where one of its arguments is one of `values`.
fn restrict(rules: &mut Rules, name: &str, argument: u8, compare: &Compare, values: &[u64]) -> Result<(), FilterError> {
    let Some(number) = number(name) else { return Ok(()) };
    let rule = |value: &u64| Rule::new(vec![Condition::new(argument, Length::Dword, compare.clone(), *value)?]);
    rules.insert(number, values.iter().map(rule).collect::<Result<_, _>>().map_err(FilterError::Make)?);
    Ok(())
}

/// Whether the kernel filters system calls.
pub fn is_offered() -> bool {
    let action = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads the four bytes of `action`, which outlives it, and changes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    answer == 0
}
