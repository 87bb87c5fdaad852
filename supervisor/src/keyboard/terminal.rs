//! The terminal's mode: characters come one by one and are not shown, and, where the terminal can, keys come as keys.
//!
//! The mode is the terminal's, not the process's: it outlives us. So it is given back on every way out. The normal one is
//! [`Terminal::finish`], which unwinding from a panic takes as well; fatal signals are caught, give the terminal back, and go
//! on to what they would have done. Only SIGKILL is too fast; shells repair what that leaves.
//!
//! Signals of the terminal (Ctrl-C, Ctrl-\, Ctrl-Z) and its output stay as they are.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Asks for focus events, and for keys with their releases and their place on a US layout (kitty's flags 1, 2, 4 and 8); and
/// whether the terminal does that. Terminals that do not know it pass over it.
const ENTER: &[u8] = b"\x1b[?1004h\x1b[>15u\x1b[?u";

/// Takes both back.
const LEAVE: &[u8] = b"\x1b[<u\x1b[?1004l";

/// How long a terminal may take before it takes what it is told: nobody notices, and one that is read is faster.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Signals that end a process on the spot. SIGINT, SIGTERM and SIGHUP end the session instead, in its own time.
const FATAL: [Signal; 12] = [
    Signal::SIGQUIT,
    Signal::SIGABRT,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGALRM,
    Signal::SIGXCPU,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The terminal as signal handlers find it: it is opened once in a process and never closed.
static OPENED: OnceLock<Opened> = OnceLock::new();

/// Whether the terminal is in our mode.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// The process that entered it: a child that has not executed another program yet must not touch it.
static OWNER: AtomicI32 = AtomicI32::new(0);

struct Opened {
    device: File,
    /// Its mode before.
    before: libc::termios,
    /// What fatal signals did before, in the order of [`FATAL`].
    actions: OnceLock<Vec<SigAction>>,
}

/// The controlling terminal. Clones are the same one.
#[derive(Clone)]
pub struct Terminal {
    opened: &'static Opened,
    is_over: Arc<Mutex<bool>>,
}

/// What reading has brought.
pub enum Input {
    Bytes(usize),
    /// Nothing within the time.
    Nothing,
    /// The terminal is another job's at the moment.
    Absent,
    /// The terminal is gone.
    End,
}

impl Terminal {
    /// Opens the controlling terminal and notes its mode.
    pub fn open() -> io::Result<Self> {
        // Of this opening alone: whoever else has the terminal open waits for it as before.
        let device = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/tty")?;
        let before = tcgetattr(device.as_fd())?.into();
        let opened = OPENED.get_or_init(|| Opened { device, before, actions: OnceLock::new() });
        OWNER.store(std::process::id().cast_signed(), std::sync::atomic::Ordering::Release);
        opened.actions.get_or_init(catch_fatal_signals);
        Ok(Self { opened, is_over: Arc::default() })
    }

    /// Sets our mode, unless it is set. `false`: another job has the terminal, or we are through with it.
    pub fn enter(&self) -> io::Result<bool> {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_over || !self.is_foreground() {
            return Ok(false);
        }
        if IS_OURS.swap(true, AcqRel) {
            return Ok(true);
        }
        let mut mode = Termios::from(self.opened.before);
        mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(self.opened.device.as_fd(), SetArg::TCSANOW, &mode)?;
        write(&self.opened.device, ENTER);
        Ok(true)
    }

    /// Gives the terminal back, for now.
    pub fn leave(&self) {
        let _is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        give_back();
    }

    /// Gives the terminal back for good.
    pub fn finish(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        give_back();
    }

    /// Waits so long for input.
    pub fn read(&self, bytes: &mut [u8], patience: Duration) -> Input {
        let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.opened.device, PollFlags::IN)], Some(&patience)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Input::Nothing,
            Ok(_) => {}
            Err(_) => return Input::End,
        }
        if !self.is_foreground() {
            return Input::Absent;
        }
        match nix::unistd::read(self.opened.device.as_fd(), bytes) {
            Ok(0) => Input::End,
            Ok(count) => Input::Bytes(count),
            Err(Errno::EINTR | Errno::EAGAIN) => Input::Nothing,
            // It has become another job's between the two.
            Err(Errno::EIO) if !self.is_foreground() => Input::Absent,
            Err(_) => Input::End,
        }
    }

    fn is_foreground(&self) -> bool {
        tcgetpgrp(self.opened.device.as_fd()).is_ok_and(|group| group == getpgrp())
    }
}

/// Sets the mode that was before, if it is not. Called from signal handlers: system calls and atomics, nothing else.
fn give_back() {
    if std::process::id().cast_signed() != OWNER.load(Acquire) || !IS_OURS.swap(false, AcqRel) {
        return;
    }
    let Some(opened) = OPENED.get() else { return };
    write(&opened.device, LEAVE);
    // What was typed to us is not for the shell.
    let _ = tcflush(opened.device.as_fd(), FlushArg::TCIFLUSH);
    // SAFETY: the descriptor is open as long as the process lives, and `before` is a mode that the same terminal has given.
    // Tested by `every_signal_that_can_be_caught_gives_the_terminal_back`.
    let _ = unsafe { libc::tcsetattr(std::os::fd::AsRawFd::as_raw_fd(&opened.device), libc::TCSANOW, &raw const opened.before) };
}

/// A terminal that does not take what it is told is none that could be told anything: one that is stopped (Ctrl-S), or that nobody
/// reads, is waited for no longer than [`PATIENCE`].
fn write(device: &File, bytes: &[u8]) {
    if nix::unistd::write(device.as_fd(), bytes) == Err(Errno::EAGAIN) {
        let _ = poll(&mut [PollFd::new(device, PollFlags::OUT)], Some(&PATIENCE));
        let _ = nix::unistd::write(device.as_fd(), bytes);
    }
}

fn catch_fatal_signals() -> Vec<SigAction> {
    let ours = SigAction::new(SigHandler::SigAction(on_fatal_signal), SaFlags::SA_ONSTACK | SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler makes async-signal-safe calls only: tcsetattr, tcflush, write, poll, sigaction and raise. What was installed
    // before is kept, and restored by it where it has something to tell. Tested by
    // `every_signal_that_can_be_caught_gives_the_terminal_back`.
    FATAL.iter().map(|signal| unsafe { sigaction(*signal, &ours) }.unwrap_or_else(|_| by_default())).collect()
}

fn by_default() -> SigAction {
    SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())
}

/// Gives the terminal back and lets the signal do what it would have done: it is pending, or what caused it happens again, as
/// soon as this returns.
extern "C" fn on_fatal_signal(number: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    give_back();
    let Ok(signal) = Signal::try_from(number) else { return };
    // SAFETY: the kernel hands a handler that was installed with SA_SIGINFO, as `SigHandler::SigAction` is, a valid pointer or
    // none.
    let is_fault = unsafe { info.as_ref() }.is_some_and(|info| info.si_code > 0) && matches!(signal, Signal::SIGSEGV | Signal::SIGBUS);
    let actions = OPENED.get().and_then(|opened| opened.actions.get()).filter(|_| is_fault);
    let before = FATAL.iter().position(|fatal| *fatal == signal).zip(actions).and_then(|(index, actions)| actions.get(index));
    // SAFETY: the handler that is restored is the standard library's, which tells of an exhausted stack.
    let _ = unsafe { sigaction(signal, before.unwrap_or(&by_default())) };
    if !is_fault {
        let _ = raise(signal);
    }
}
