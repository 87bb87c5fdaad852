//! Starting a process of the session, learning of its death, ending it.
//!
//! A child is this very binary, executed anew. It gets nothing but three descriptors: no input, no output, and a pipe to us for
//! what it has to say when it dies ([`Tail`]). It leads a process group of its own, so that Ctrl-C in the terminal reaches
//! the supervisor alone, which then ends everything in order. Its death is learnt from a pidfd, and every signal goes
//! through it too, so that a recycled process id can never be hit.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipc::message::Role;
use ipc::segment::SessionId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use super::tail::Tail;
use crate::policy::ProcessEnd;

/// The hidden subcommand with which the binary starts in a role.
pub const ROLE_COMMAND: &str = "role";

/// What a child is started with.
pub struct Start<'a> {
    pub role: Role,
    /// Name of the doorway through which it is to come in.
    pub doorway: &'a str,
    pub session: &'a SessionId,
    /// The session's directory, its place for temporary files.
    pub directory: &'a Path,
    /// Name of the runtime it is started for, to be seen in process lists.
    pub runtime: Option<&'a str>,
    /// Name of its crash page.
    pub page: &'a str,
    /// Folders it may write files into.
    pub writable: &'a [PathBuf],
    /// How long it plays on when we have died.
    pub grace: Duration,
}

/// A started process.
#[derive(Clone)]
pub struct Process {
    pub pid: u32,
    /// What it says on its error stream.
    pub tail: Tail,
    pidfd: Arc<OwnedFd>,
    /// Whether we have started it: how others end only they are told.
    is_child: bool,
}

impl Process {
    /// A process that another supervisor has started. `None`: it is dead, or its id is another one's now.
    pub fn adopt(pid: u32, started_ticks: u64) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        // Looked at after the process is ours to watch, so that it is the same one.
        let is_same = started_ticks_of(pid) == Some(started_ticks);
        let process = Self { pid, tail: Tail::default(), pidfd: Arc::new(pidfd), is_child: false };
        (is_same && !process.is_dead()).then_some(process)
    }

    fn is_dead(&self) -> bool {
        let mut waiting = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Starts the binary in a role.
    pub fn start(start: &Start<'_>) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("continuo").arg(ROLE_COMMAND).arg(format!("--page={}", start.page));
        command.arg(format!("--grace-ms={}", start.grace.as_millis()));
        for folder in start.writable {
            command.arg("--writable").arg(folder);
        }
        command.arg(start.role.name()).arg(start.doorway).arg(start.session.as_str()).args(start.runtime);
        command.env("TMPDIR", start.directory);
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; `close_on_exec` makes one system call,
        // and neither allocates nor locks. The test `a_child_inherits_three_descriptors_and_no_more` runs it.
        unsafe { command.pre_exec(close_on_exec) };
        let mut child = command.spawn()?;
        // The process cannot be reaped by anyone else before `wait` is called, so its id is still its own.
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                let tail = child.stderr.take().map(Tail::follow).unwrap_or_default();
                Ok(Self { pid: child.id(), tail, pidfd: Arc::new(pidfd), is_child: true })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// Something that waits for the end of the process; to be moved to a thread of its own.
    pub fn death(&self) -> Death {
        Death { pidfd: Arc::clone(&self.pidfd), is_child: self.is_child }
    }

    /// Sends SIGKILL. A process that is dead already is fine.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&*self.pidfd, Signal::KILL);
    }
}

/// When a process was started, in the kernel's ticks since the machine was: with its id, what tells it from all others.
pub fn started_ticks_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the 22nd field is the twentieth behind it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The end of a process, to be waited for.
pub struct Death {
    pidfd: Arc<OwnedFd>,
    is_child: bool,
}

impl Death {
    /// Blocks until the process has ended, and reaps it.
    pub fn wait(self) -> ProcessEnd {
        if !self.is_child {
            // Only a parent learns how a process has ended; to others its descriptor becomes readable.
            while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&*self.pidfd, PollFlags::IN)], None) {}
            return ProcessEnd::UNKNOWN;
        }
        loop {
            match waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&*self.pidfd)), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    return match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => ProcessEnd::Exited(code),
                        (None, Some(signal)) => ProcessEnd::Killed(signal),
                        (None, None) => ProcessEnd::UNKNOWN,
                    };
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                // Somebody else has reaped it; how it ended is lost, that it ended is not.
                Err(_) => return ProcessEnd::UNKNOWN,
            }
        }
    }
}

/// Marks every descriptor from 3 on to be closed by exec, whoever opened it and with whatever flags.
fn close_on_exec() -> io::Result<()> {
    // SAFETY: the call takes no pointers and affects nothing but descriptor flags of the calling (forked) process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_end_of_a_process_is_learnt_with_its_cause() {
        let ended = Process::spawn(Command::new("/bin/sh").args(["-c", "exit 7"])).unwrap();
        assert_eq!(ended.death().wait(), ProcessEnd::Exited(7));
        let killed = Process::spawn(Command::new("/bin/sh").args(["-c", "while :; do sleep 10; done"])).unwrap();
        killed.kill();
        assert_eq!(killed.death().wait(), ProcessEnd::Killed(9));
        killed.kill(); // Has no effect, and hits nobody else.
    }

    #[test]
    fn a_process_of_another_supervisor_is_known_by_its_id_and_its_start() {
        let mut other = Command::new("/bin/sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let started = started_ticks_of(other.id()).unwrap();
        assert!(Process::adopt(other.id(), started + 1).is_none(), "another one with the same id");
        let adopted = Process::adopt(other.id(), started).unwrap();
        adopted.kill();
        assert_eq!(adopted.death().wait(), ProcessEnd::UNKNOWN);
        assert!(Process::adopt(other.id(), started).is_none(), "it is dead");
        other.wait().unwrap();
        assert_eq!(started_ticks_of(other.id()), None);
    }

    #[test]
    fn a_child_inherits_three_descriptors_and_no_more() {
        let open = File::open("/dev/null").unwrap();
        // Without close-on-exec, as a careless library might leave it.
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        assert!(open.as_raw_fd() > 2);
        let list = std::env::temp_dir().join(format!("continuo-descriptors-{}", std::process::id()));
        let script = format!("for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${{fd##*/}}; done > {}; true", list.display());
        let child = Process::spawn(Command::new("/bin/sh").args(["-c", &script])).unwrap();
        assert_eq!(child.death().wait(), ProcessEnd::Exited(0));
        let found = fs::read_to_string(&list).unwrap();
        fs::remove_file(&list).unwrap();
        // The shell itself saves descriptors above 9 while it redirects.
        let inherited: Vec<u32> = found.lines().filter_map(|fd| fd.parse().ok()).filter(|fd| *fd < 10).collect();
        assert_eq!(inherited, [0, 1, 2]);
    }
}
