//! Which files a role may open: Landlock, where the kernel has it.
//!
//! Entered once by a child, on its only thread. What is not named here cannot be opened: no device but by the device host, no
//! program executed by anybody, nothing written but shared memory, temporary files and recordings. What was open before stays so.

use std::path::{Path, PathBuf};

use ipc::message::Role;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Grants;
use crate::control::{Address, SessionName};

/// The newest kernel interface that is asked for; older kernels do less of it.
const INTERFACE: ABI = ABI::V6;

/// Folders of the root that hold nobody's samples: programs, settings, devices, the kernel's own. Hosts read nothing there.
const NOT_FOR_HOSTS: [&str; 13] = ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys"];
/// Where media are mounted inside one of them.
const MEDIA: &str = "/run/media";

/// How much of it the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Everything that is asked for.
    Confined,
    /// An older kernel: files, but not everything else.
    Partly,
    NotOffered,
}

/// Confines the calling thread, and those it starts, to the files of its role.
pub fn enter(role: Role, grants: &Grants) -> Result<Files, RulesetError> {
    let rules = ruleset(role)?;
    let rules = match role {
        Role::CompilerWorker => allow(rules, &workplace(), writing())?,
        Role::RuntimeHost => {
            let rules = allow(rules, &assets(), AccessFs::ReadFile | AccessFs::ReadDir)?;
            let rules = allow(rules, &workplace(), writing())?;
            allow(rules, &[Address::of(SessionName::default()).directory], writing())?
        }
        Role::DeviceHost => {
            let rules = allow(rules, &[PathBuf::from("/")], AccessFs::ReadFile | AccessFs::ReadDir)?;
            let rules = allow(rules, &device_places(), writing() | AccessFs::IoctlDev)?;
            allow(rules, &grants.writable, writing())?
        }
    };
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Files::Confined,
        RulesetStatus::PartiallyEnforced => Files::Partly,
        RulesetStatus::NotEnforced => Files::NotOffered,
    })
}

/// What is forbidden unless it is allowed: every kind of access to files; for what does not play, also connections and signals
/// to other processes.
fn ruleset(role: Role) -> Result<RulesetCreated, RulesetError> {
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(INTERFACE))?;
    match role {
        Role::CompilerWorker | Role::RuntimeHost => {
            rules.handle_access(AccessNet::from_all(INTERFACE))?.scope(Scope::from_all(INTERFACE))?.create()
        }
        // Sound servers are reached in every way there is.
        Role::DeviceHost => rules.create(),
    }
}

/// Paths that are not there need no rule.
fn allow(mut rules: RulesetCreated, paths: &[PathBuf], access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        let Ok(descriptor) = PathFd::new(path) else { continue };
        // Access that only folders have is no access to a file.
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(INTERFACE) };
        rules = rules.add_rule(PathBeneath::new(descriptor, access))?;
    }
    Ok(rules)
}

/// Everything but executing, and devices' own calls.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(INTERFACE) & !(AccessFs::Execute | AccessFs::IoctlDev)
}

/// Where every child has its segments and its temporary files.
fn workplace() -> Vec<PathBuf> {
    vec![PathBuf::from("/dev/shm"), std::env::temp_dir()]
}

/// Where samples may be: a program names them by any path, and is pushed from anywhere.
fn assets() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/").into_iter().flatten().flatten();
    let folders = entries.filter(|entry| !NOT_FOR_HOSTS.iter().any(|name| entry.file_name() == *name)).map(|entry| entry.path());
    folders.chain([PathBuf::from(MEDIA)]).chain(home()).collect()
}

/// The home folder, which for some is not where everybody's is.
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && home != Path::new("/"))
}

/// Where devices, sound servers and their sockets are.
fn device_places() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    ["/dev", "/run", "/tmp", "/var/run"].map(PathBuf::from).into_iter().chain(runtime).chain([std::env::temp_dir()]).collect()
}

/// Asks the kernel, on a thread of its own, which is confined and ends at once.
pub fn offered() -> Files {
    let tried = std::thread::spawn(|| enter(Role::CompilerWorker, &Grants::default()).unwrap_or(Files::NotOffered));
    tried.join().unwrap_or(Files::NotOffered)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Confines a thread as a role would be and lets it try something.
    fn as_role<T: Send + 'static>(role: Role, writable: Vec<PathBuf>, attempt: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(move || match enter(role, &Grants { writable }) {
            Ok(Files::Confined | Files::Partly) => Some(attempt()),
            Ok(Files::NotOffered) | Err(_) => None,
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_worker_reads_and_writes_shared_memory_and_nothing_else() {
        let name = format!("/dev/shm/continuo-files-test-{}", std::process::id());
        let Some((shared, settings, root)) = as_role(Role::CompilerWorker, Vec::new(), move || {
            let shared = fs::write(&name, "x").and_then(|()| fs::remove_file(&name)).is_ok();
            (shared, fs::read("/etc/hostname").is_ok() || fs::read("/etc/passwd").is_ok(), fs::read_dir("/").is_ok())
        }) else {
            return;
        };
        assert!(shared && !settings && !root);
    }

    #[test]
    fn a_host_reads_assets_and_no_settings_and_writes_neither() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let asset = folder.path().join("kick.raw");
        fs::write(&asset, "x").unwrap();
        let Some((read, written, settings, device)) = as_role(Role::RuntimeHost, Vec::new(), move || {
            let read = fs::read(&asset).is_ok();
            (read, fs::write(&asset, "y").is_ok(), fs::read("/etc/passwd").is_ok(), fs::File::open("/dev/null").is_ok())
        }) else {
            return;
        };
        assert!(read && !written && !settings && !device);
    }

    #[test]
    fn a_device_host_writes_recordings_where_it_was_told_to_and_executes_nothing() {
        let (told, other) = (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/var/tmp").unwrap());
        let (there, elsewhere) = (told.path().join("take.wav"), other.path().join("take.wav"));
        let Some((recorded, leaked, device, executed)) = as_role(Role::DeviceHost, vec![told.path().to_owned()], move || {
            let device = fs::File::open("/dev/null").is_ok();
            let executed = std::process::Command::new("/bin/true").status().is_ok();
            (fs::write(there, "x").is_ok(), fs::write(elsewhere, "x").is_ok(), device, executed)
        }) else {
            return;
        };
        assert!(recorded && !leaked && device && !executed);
    }
}
