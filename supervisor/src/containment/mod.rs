//! What a child process gives up before it does its work, and what it leaves behind when it dies (DESIGN §14, §10).
//!
//! Confinement is a layer without logic: [`enter`] runs on a child's only thread, after it has connected and before its role
//! begins, and every thread it starts later inherits all of it. In this order: no new privileges, limits ([`limits`]), files
//! ([`files`]), system calls ([`calls`]). What the machine does not offer is left out; `continuo doctor` says what that is. The
//! handlers of fatal signals ([`crash`]) are installed before, first of all. What each role may do stands in docs/CONTAINMENT.md.
//!
//! It must never ask anybody, never decide by what a program is, and never run in the supervisor.

mod calls;
pub mod crash;
mod files;
mod frames;
pub mod limits;
mod tables;

use std::path::PathBuf;

use ipc::message::Role;

pub use files::Files;

/// The environment variable that leaves children unconfined when it says `off`, for debuggers and tracers.
pub const VARIABLE: &str = "CONTINUO_SANDBOX";

/// What a child is given beyond what its role has.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Folders it may write files into.
    pub writable: Vec<PathBuf>,
}

/// Whether children are confined.
pub fn is_wanted() -> bool {
    std::env::var_os(VARIABLE).is_none_or(|value| value != "off")
}

/// Confines this process to its role. Each measure that is refused is left out, with a line on the error stream: a machine that
/// lacks one still plays.
pub fn enter(role: Role, grants: &Grants) {
    limits::enter(role);
    if !is_wanted() {
        return say(role, &format!("not confined, because {VARIABLE} is `off`"));
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        say(role, &format!("privileges can still be gained: {error}"));
    }
    if let Err(error) = files::enter(role, grants) {
        say(role, &format!("files are not confined: {error}"));
    }
    if let Err(error) = calls::enter(role) {
        say(role, &format!("system calls are not confined: {error}"));
    }
}

fn say(role: Role, what: &str) {
    use std::io::Write;
    // Whoever started us may not listen any more, which is no reason to end.
    let _ = writeln!(std::io::stderr(), "{}: {what}", role.name());
}

/// What of the confinement this machine offers.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    /// The kernel filters system calls.
    pub calls: bool,
    /// Whether the kernel confines files, and how much of it.
    pub files: Files,
}

/// Finds out without confining the calling process.
pub fn offered() -> Offered {
    Offered { calls: calls::is_offered(), files: files::offered() }
}

/// Where the binary was loaded in this process: the address its offsets count from.
pub fn own_base() -> u64 {
    frames::base()
}
