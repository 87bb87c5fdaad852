//! Resource limits of a role, and who is to go first when the machine runs out of memory (FAULTS rows 14, 15).
//!
//! Entered once by a child, on its only thread. A limit that is lower already stays as it is: limits are only ever lowered.

use std::fs;

use ipc::message::Role;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The environment variable that lets children write core files when it says `on`.
pub const CORE_VARIABLE: &str = "CONTINUO_CORE";

/// Time in microseconds that a real-time thread may compute without waiting once. Longer than any tick, shorter than the
/// patience after which a host that does nothing is killed: the thread loses its priority first, so that others play on.
pub const REALTIME_BUDGET_US: u64 = 400_000;

/// Private memory in bytes that a runtime host may have: the program that runs, the one that is to replace it, the one that it
/// replaced, each of the largest size a program may have, and those that a spare keeps ready.
const HOST_DATA_BYTES: u64 = 4 << 30;
/// Largest file in bytes that a host or the worker may write: segments of shared memory.
const SEGMENT_FILE_BYTES: u64 = 2 << 30;
/// Descriptors of a worker or a host: a few for channels, some for each program that is loaded, published or kept ready.
const HOST_DESCRIPTORS: u64 = 1_024;
/// Descriptors of the device host: sound libraries take some for each port of each client.
const DEVICE_DESCRIPTORS: u64 = 4_096;

/// How readily the kernel ends a process when memory runs out, from -1000 to 1000: the worker first, for it remembers nothing
/// that is missed; then hosts, which can be replaced. The supervisor and the device host last.
fn readiness_to_go(role: Role) -> Option<i32> {
    match role {
        Role::CompilerWorker => Some(500),
        Role::RuntimeHost => Some(200),
        Role::DeviceHost => None,
    }
}

/// The supervisor's own; asked for where the kernel lets it.
const SUPERVISOR_READINESS: i32 = -500;

/// Limits this process to what its role needs.
pub fn enter(role: Role) {
    if let Some(readiness) = readiness_to_go(role) {
        set_readiness(readiness);
    }
    for (resource, limit) in limits(role) {
        lower(resource, limit);
    }
    if std::env::var_os(CORE_VARIABLE).is_none_or(|value| value != "on") {
        lower(Resource::Core, 0);
    }
    if role != Role::CompilerWorker {
        limit_realtime();
    }
}

fn limits(role: Role) -> Vec<(Resource, u64)> {
    match role {
        Role::CompilerWorker => vec![(Resource::Nofile, HOST_DESCRIPTORS), (Resource::Fsize, SEGMENT_FILE_BYTES)],
        Role::RuntimeHost => {
            vec![(Resource::Nofile, HOST_DESCRIPTORS), (Resource::Fsize, SEGMENT_FILE_BYTES), (Resource::Data, HOST_DATA_BYTES)]
        }
        // Recordings may be as long as the disk allows.
        Role::DeviceHost => vec![(Resource::Nofile, DEVICE_DESCRIPTORS)],
    }
}

/// Lowers a limit for good. What is refused, or lower already, stays.
fn lower(resource: Resource, limit: u64) {
    let now = getrlimit(resource);
    let lowered = |value: Option<u64>| Some(value.map_or(limit, |value| value.min(limit)));
    let _ = setrlimit(resource, Rlimit { current: lowered(now.current), maximum: lowered(now.maximum) });
}

/// The kernel sends SIGXCPU each time a real-time thread has exceeded its budget; [`super::crash`] takes its priority away. Only
/// the soft limit is set: beyond the hard one the kernel would kill without a word.
fn limit_realtime() {
    let maximum = getrlimit(Resource::Rttime).maximum;
    let current = Some(maximum.map_or(REALTIME_BUDGET_US, |maximum| maximum.min(REALTIME_BUDGET_US)));
    let _ = setrlimit(Resource::Rttime, Rlimit { current, maximum });
}

/// Asks the kernel to end everything else before the supervisor. Raising one's own chances takes a privilege that most people's
/// sessions do not have; then it stays as it is.
pub fn protect_supervisor() {
    set_readiness(SUPERVISOR_READINESS);
}

fn set_readiness(readiness: i32) {
    let _ = fs::write("/proc/self/oom_score_adj", readiness.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_limits_and_the_precious_ones_go_last() {
        for role in Role::ALL {
            assert!(limits(role).iter().any(|(resource, _)| *resource == Resource::Nofile), "{role:?}");
        }
        assert!(readiness_to_go(Role::CompilerWorker) > readiness_to_go(Role::RuntimeHost));
        assert!(readiness_to_go(Role::RuntimeHost) > Some(SUPERVISOR_READINESS));
        assert_eq!(readiness_to_go(Role::DeviceHost), None);
    }
}
