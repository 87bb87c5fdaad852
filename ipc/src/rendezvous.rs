//! How the children of a supervisor that died come to the next one (DESIGN §10).
//!
//! A child that plays when its channel closes asks whether its supervisor still lives ([`Lifeline`]). If it does, the end was
//! meant. If not, the child plays on and looks for a *summons* of its own: a file in the session's directory, named by its
//! process id, in which the next supervisor has written, as a whole or not at all, the doorway through which the child is to
//! come in, or that it is to end. The child takes the summons by removing it, connects, and greets as it did the first time;
//! a supervisor of another build is refused, and the child waits for another one.
//!
//! Who creates and who destroys: the supervisor writes the file, the child removes it; what is left goes with the directory.
//! None of this runs on a real-time thread.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

use crate::channel::{self, Hello, Receiver, Sender};

/// The summons of a session, below its directory.
const FOLDER: &str = "summons";

/// How often a child looks for its summons.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// How long after the end of its channel a child believes that its supervisor may have died, but is not yet dead for the kernel.
const DYING: Duration = Duration::from_secs(1);

/// Longest summons in bytes: a path, and the little that stands around it.
const MAX_SUMMONS_BYTES: u64 = 4_096;

/// Both ends of a channel to a supervisor that has been greeted.
pub struct Connection {
    pub sender: Sender,
    pub receiver: Receiver,
}

/// What a child does when its supervisor is gone while it plays.
#[derive(Clone)]
pub struct Grace {
    /// How long it plays on without a supervisor, before it fades out and ends.
    pub period: Duration,
    /// Waits for the next supervisor of the session, on a thread of its own. `None`: there will not be one.
    pub next_supervisor: Arc<dyn Fn() -> Option<Connection> + Send + Sync>,
}

/// What a child is told by the supervisor that finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Summons {
    /// Come in through this doorway.
    Come { doorway: String, supervisor: u32 },
    /// Fade out and end.
    End,
}

impl Summons {
    fn to_text(&self) -> String {
        match self {
            Self::Come { doorway, supervisor } => format!("come {supervisor} {doorway}\n"),
            Self::End => "end\n".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.strip_suffix('\n')?;
        if line == "end" {
            return Some(Self::End);
        }
        let (supervisor, doorway) = line.strip_prefix("come ")?.split_once(' ')?;
        Some(Self::Come { doorway: doorway.to_owned(), supervisor: supervisor.parse().ok()? })
    }

    /// Leaves the summons for a child of the session.
    pub fn leave(&self, directory: &Path, child: u32) -> io::Result<()> {
        let folder = directory.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let (path, unfinished) = (folder.join(child.to_string()), folder.join(format!("{child}.new")));
        fs::write(&unfinished, self.to_text())?;
        fs::rename(unfinished, path)
    }

    /// Takes the summons that was left for a child, if there is one.
    pub fn take(directory: &Path, child: u32) -> Option<Self> {
        let path = directory.join(FOLDER).join(child.to_string());
        let is_short = fs::metadata(&path).ok()?.len() <= MAX_SUMMONS_BYTES;
        let text = is_short.then(|| fs::read_to_string(&path)).and_then(Result::ok);
        let _ = fs::remove_file(path);
        Self::parse(&text?)
    }
}

/// A child's view of its supervisor's life: the kernel's word, not a missing message.
#[derive(Debug)]
pub struct Lifeline {
    /// `None` where it was dead before it could be looked at.
    supervisor: Option<OwnedFd>,
}

impl Lifeline {
    /// To the process that started this one.
    pub fn to_parent() -> Self {
        Self { supervisor: getppid().and_then(|parent| pidfd_open(parent, PidfdFlags::empty()).ok()) }
    }

    fn to_process(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self { supervisor: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) }
    }

    /// Whether the supervisor is dead, or is so within `patience`.
    pub fn is_cut(&self, patience: Duration) -> bool {
        let Some(supervisor) = &self.supervisor else { return true };
        let mut waiting = [PollFd::new(supervisor, PollFlags::IN)];
        let timeout = Timespec { tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX), tv_nsec: patience.subsec_nanos().into() };
        loop {
            match poll(&mut waiting, Some(&timeout)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// How a child waits for the next supervisor of its session, as often as it loses one.
pub struct Vigil {
    directory: PathBuf,
    hello: Hello,
    period: Duration,
    lifeline: Mutex<Lifeline>,
}

impl Vigil {
    /// `directory` is the session's, `lifeline` leads to the supervisor of now.
    pub fn new(directory: PathBuf, hello: Hello, period: Duration, lifeline: Lifeline) -> Self {
        Self { directory, hello, period, lifeline: Mutex::new(lifeline) }
    }

    /// As what roles are given.
    pub fn into_grace(self) -> Grace {
        Grace { period: self.period, next_supervisor: Arc::new(move || self.keep()) }
    }

    /// Waits until a supervisor of this build has been greeted. `None`: the last one lives and has let go of this process, or
    /// the next one wants its end, or nobody has come in time.
    pub fn keep(&self) -> Option<Connection> {
        let mut lifeline = self.lifeline.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + self.period;
        if !lifeline.is_cut(DYING) {
            return None;
        }
        let child = std::process::id();
        while Instant::now() < until {
            match Summons::take(&self.directory, child) {
                Some(Summons::End) => return None,
                Some(Summons::Come { doorway, supervisor }) => {
                    let next = Lifeline::to_process(supervisor);
                    // One that cannot be greeted is not ours: another may come.
                    if let Ok((sender, receiver)) = channel::connect(&doorway, &self.hello) {
                        *lifeline = next;
                        return Some(Connection { sender, receiver });
                    }
                }
                None => std::thread::sleep(LOOK_INTERVAL),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::channel::{ChannelError, Doorway, PROTOCOL_VERSION};
    use crate::message::Role;

    fn hello(build: &str) -> Hello {
        Hello { protocol: PROTOCOL_VERSION, build: build.to_owned(), role: Role::RuntimeHost }
    }

    fn vigil(directory: &Path, period: Duration) -> Vigil {
        Vigil::new(directory.to_owned(), hello("a"), period, Lifeline { supervisor: None })
    }

    #[test]
    fn a_summons_is_read_as_it_was_written_and_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        for summons in [Summons::End, Summons::Come { doorway: "/run/a b/socket".to_owned(), supervisor: 77 }] {
            summons.leave(folder.path(), 5).unwrap();
            assert_eq!(Summons::take(folder.path(), 6), None, "it is for another one");
            assert_eq!(Summons::take(folder.path(), 5), Some(summons));
            assert_eq!(Summons::take(folder.path(), 5), None);
        }
    }

    #[test]
    fn what_is_no_summons_is_taken_away_and_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        for text in ["", "end", "come\n", "come x /a\n", "come 5\n", &"x".repeat(10_000)] {
            fs::write(folder.path().join(FOLDER).join("5"), text).unwrap();
            assert_eq!(Summons::take(folder.path(), 5), None, "{text}");
            assert!(!folder.path().join(FOLDER).join("5").exists());
        }
    }

    #[test]
    fn a_child_comes_in_through_the_doorway_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let doorway = Doorway::open().unwrap();
        Summons::Come { doorway: doorway.name().to_owned(), supervisor: 1 }.leave(folder.path(), std::process::id()).unwrap();
        let watch = vigil(folder.path(), Duration::from_secs(60));
        let child = std::thread::spawn(move || watch.keep().unwrap().sender.send(&7u64).unwrap());
        let (_sender, receiver) = doorway.accept(&hello("a")).unwrap();
        assert_eq!(receiver.receive::<u64>().unwrap(), 7);
        child.join().unwrap();
    }

    #[test]
    fn a_supervisor_of_another_build_is_refused_and_another_one_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let other = Doorway::open().unwrap();
        let summons = |doorway: &Doorway| Summons::Come { doorway: doorway.name().to_owned(), supervisor: 1 };
        summons(&other).leave(folder.path(), std::process::id()).unwrap();
        let watch = vigil(folder.path(), Duration::from_secs(60));
        let child = std::thread::spawn(move || watch.keep().is_some());
        assert!(matches!(other.accept(&hello("b")), Err(ChannelError::VersionSkew { .. })));
        let ours = Doorway::open().unwrap();
        summons(&ours).leave(folder.path(), std::process::id()).unwrap();
        assert!(ours.accept(&hello("a")).is_ok());
        assert!(child.join().unwrap());
    }

    #[test]
    fn a_child_that_is_told_to_end_waits_for_nobody() {
        let folder = tempfile::tempdir().unwrap();
        Summons::End.leave(folder.path(), std::process::id()).unwrap();
        assert!(vigil(folder.path(), Duration::from_secs(3_600)).keep().is_none());
    }

    #[test]
    fn nobody_is_waited_for_longer_than_the_period() {
        let folder = tempfile::tempdir().unwrap();
        assert!(vigil(folder.path(), Duration::from_millis(1)).keep().is_none());
    }

    #[test]
    fn a_supervisor_is_dead_when_the_kernel_says_so() {
        let mut supervisor = Command::new("/bin/sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&supervisor);
        let lifeline = Lifeline { supervisor: Some(pidfd_open(pid, PidfdFlags::empty()).unwrap()) };
        assert!(!lifeline.is_cut(Duration::ZERO));
        supervisor.kill().unwrap();
        assert!(lifeline.is_cut(Duration::from_secs(60)));
        supervisor.wait().unwrap();
        assert!(lifeline.is_cut(Duration::ZERO));
        assert!(Lifeline { supervisor: None }.is_cut(Duration::ZERO));
    }
}
