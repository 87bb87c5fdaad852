//! What a run may leave behind: nothing. Processes, names in shared memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Processes that descend from, or were started by, a process with this environment variable set to this value. Children
/// inherit it, so it marks a run with everything it started, whoever its parent is by now.
pub fn processes_marked(variable: &str, value: &str) -> Vec<MarkedProcess> {
    let mark = format!("{variable}={value}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc can be read").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments = arguments.split(|byte| *byte == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
            found.push(MarkedProcess { pid, arguments });
        }
    }
    found
}

/// A process of a marked run.
#[derive(Clone, Debug)]
pub struct MarkedProcess {
    pub pid: u32,
    pub arguments: Vec<String>,
}

/// Names in shared memory that belong to Continuo.
pub fn shared_memory_names() -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new("/dev/shm")).expect("/dev/shm can be read");
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with("continuo-")).collect()
}
