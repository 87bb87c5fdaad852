//! Readers that stand still: a pipe that nobody empties, a terminal that is stopped (Ctrl-S). The session goes on as if they read:
//! it answers, takes over, ends; and they are told what they have missed.

#[path = "live/fixture.rs"]
#[allow(dead_code, reason = "used by several tests, each of which needs a part")]
mod fixture;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use fixture::{PATIENCE, program};
use nix::fcntl::{FcntlArg, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{FlowArg, LocalFlags, tcflow, tcgetattr};
use nix::unistd::Pid;
use serde_json::Value;

/// What a pipe holds at least, in bytes: some thirty events.
const SMALLEST_PIPE: i32 = 4_096;

/// A play whose streams are somebody else's.
struct Unread {
    process: Child,
    folder: tempfile::TempDir,
}

impl Unread {
    fn play(text: &str, arguments: &[&str], streams: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let song = folder.path().join("song.8f4e");
        std::fs::write(&song, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuo"));
        command.args(["play", "--device", "null"]).args(arguments).arg(&song).env("XDG_RUNTIME_DIR", folder.path());
        streams(&mut command);
        let process = command.spawn().unwrap();
        Self { process, folder }
    }

    /// What a command of the command line answers, once it does.
    fn ask(&self, arguments: &[&str]) -> Option<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuo"));
        command.args(arguments).arg("--json").env("XDG_RUNTIME_DIR", self.folder.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut is_true: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_true(self) {
            assert!(Instant::now() < deadline, "it never happens: {what}");
            std::thread::yield_now();
        }
    }

    /// The process that runs the song.
    fn host(&self) -> Option<i64> {
        self.ask(&["status"])?["runtimes"][0]["pid"].as_i64()
    }

    /// Waits until the session has been somewhere for so long that it would have had to wait for its reader.
    fn play_on(&mut self, frames: u64) {
        let played = |unread: &Self| unread.ask(&["status"]).and_then(|status| status["device"]["frames"].as_u64());
        self.wait_until("it plays", |unread| played(unread).is_some_and(|played| played > frames));
    }

    /// Kills the song's host, and waits until another one goes on.
    fn is_taken_over(&mut self) {
        let host = self.host().expect("it has a host");
        kill(Pid::from_raw(host as i32), Signal::SIGKILL).unwrap();
        self.wait_until("another host goes on", |unread| unread.host().is_some_and(|next| next != host));
    }

    fn shut_down(&mut self) -> ExitStatus {
        self.ask(&["shutdown"]).expect("it answers");
        let mut status = None;
        self.wait_until("it ends", |unread| {
            status = unread.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_session_whose_events_nobody_reads_answers_takes_over_and_ends() {
    let (mut events, out) = std::io::pipe().unwrap();
    fcntl(&out, FcntlArg::F_SETPIPE_SZ(SMALLEST_PIPE)).unwrap();
    let mut unread = Unread::play(&program("", ""), &["--json"], |command| {
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    });
    // Ten seconds of events, each of a hundred bytes and more, ten times a second and more.
    unread.play_on(48_000 * 10);
    unread.is_taken_over();
    assert_eq!(unread.shut_down().code(), Some(0));
    let mut said = Vec::new();
    events.read_to_end(&mut said).unwrap();
    assert!(said.len() >= SMALLEST_PIPE as usize / 2, "it had been full: {}", said.len());
}

#[test]
fn a_terminal_that_is_stopped_holds_up_nobody_and_is_given_back() {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let keys = "module keys\n; @config keyboard.keyCodeMemory code\nint code\nmoduleEnd";
    let streams = [slave.try_clone().unwrap(), slave.try_clone().unwrap(), slave.try_clone().unwrap()];
    let mut unread = Unread::play(&program("", keys), &[], |command| {
        let [stdin, stdout, stderr] = streams;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        // SAFETY: both calls are async-signal-safe and touch nothing of the parent: the child becomes the leader of a session of
        // its own, whose terminal is its standard input.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
    });
    let mut screen = File::from(master.try_clone().unwrap());
    let shown = std::thread::spawn(move || {
        let (mut shown, mut bytes) = (Vec::new(), [0u8; 256]);
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            shown.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let is_ours = |slave: &OwnedFd| !tcgetattr(slave.as_fd()).unwrap().local_flags.contains(LocalFlags::ICANON);
    unread.wait_until("the keys are played", |_| is_ours(&slave));
    tcflow(slave.as_fd(), FlowArg::TCOOFF).unwrap();
    unread.play_on(48_000 * 2);
    unread.is_taken_over();
    // What has been said of that is told once the terminal goes on.
    tcflow(slave.as_fd(), FlowArg::TCOON).unwrap();
    unread.play_on(48_000 * 3);
    tcflow(slave.as_fd(), FlowArg::TCOOFF).unwrap();
    unread.play_on(48_000 * 5);
    assert_eq!(unread.shut_down().code(), Some(0));
    assert!(!is_ours(&slave), "its mode is as before");
    tcflow(slave.as_fd(), FlowArg::TCOON).unwrap();
    drop((slave, master));
    let shown = shown.join().unwrap();
    assert!(shown.contains("killed by signal 9"), "{shown}");
}
