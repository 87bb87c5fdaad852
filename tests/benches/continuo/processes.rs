//! What processes use: processor time and memory, as the kernel counts them.

use std::fs;
use std::path::PathBuf;

/// Processor time that the living threads of a process have used, in nanoseconds.
pub fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    tasks.flatten().map(|task| schedstat_ns(task.path().join("schedstat"))).sum()
}

fn schedstat_ns(path: PathBuf) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Memory of a process with what it shares divided among those that share it, in bytes.
pub fn pss_bytes(pid: u32) -> u64 {
    rollup_kib(pid, "Pss:") * 1024
}

/// Memory that only this process has, in bytes.
pub fn private_bytes(pid: u32) -> u64 {
    (rollup_kib(pid, "Private_Clean:") + rollup_kib(pid, "Private_Dirty:")) * 1024
}

fn rollup_kib(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|value| value.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}
