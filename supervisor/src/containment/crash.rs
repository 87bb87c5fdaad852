//! Handlers of the signals that end a child: they fill its crash page, then let the signal do what it does (FAULTS row 9).
//!
//! Installed once, on the child's only thread, before the engine is made: wasmtime takes the signals over for its traps and
//! hands on to us what is none (DESIGN §11). They run on the stack for signal handlers, so that an exhausted stack is no
//! obstacle; they allocate nothing, lock nothing and format nothing. The signal ends the process after all, and its exit status
//! names it. Also here: SIGXCPU, with which a real-time thread that never waits loses its priority, and the panic hook.

use std::fmt::{self, Write};
use std::panic::PanicHookInfo;
use std::ptr;

use ipc::crash::{self, Caught, MAX_PANIC_BYTES, THREAD_NAME_BYTES};
use runtime_host::realtime;

use super::frames;

/// The signals that end a process because of what it did, and the one for a forbidden system call.
const FATAL: [i32; 8] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS, libc::SIGTRAP, libc::SIGXFSZ];

/// What people are told when a real-time thread has lost its priority.
const BUDGET_SPENT: &[u8] = b"rt_budget: a real-time thread computed for too long without waiting; it goes on with ordinary priority\n";

/// `si_code` of a SIGSYS that a filter of system calls has sent.
const SYS_SECCOMP: i32 = 1;

/// Installs the handlers and the panic hook. The page must have been mapped.
pub fn install() {
    frames::locate();
    for signal in FATAL {
        handle(signal, fatal_rt);
    }
    handle(libc::SIGXCPU, demote_rt);
    outlive_terminal();
    abort_on_panic();
}

/// The end of a terminal, or of the leader of a stopped process group, is the supervisor's to act on. Where that is dead, children
/// wait for the next one.
fn outlive_terminal() {
    // SAFETY: ignoring a signal runs no code of ours and takes no pointers. A test of whole sessions sends SIGHUP to every child.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(signal: i32, handler: Handler) {
    // SAFETY: an all-zero `sigaction` is a valid one: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the structure is valid and only read; the handler has the signature that SA_SIGINFO demands and does only what is
    // allowed in one. What was installed before (the library's own reporter of exhausted stacks) is not needed any more; its
    // stacks for handlers stay in use. The tests in `tests/tests/containment_signals.rs` raise every signal.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Fills the crash page and dies of the signal.
extern "C" fn fatal_rt(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands both to a handler with SA_SIGINFO, and wasmtime hands on what it got; they live as long as the
    // handler runs.
    let caught = unsafe { describe_rt(signal, &*info, &*context.cast::<libc::ucontext_t>()) };
    if crash::record_signal_rt(&caught) {
        frames::walk_rt(caught.stack);
    }
    die_rt(signal);
}

/// Takes the handler away and sends the signal once more. It is held back until the handler returns.
fn die_rt(signal: i32) {
    // SAFETY: the default action is a valid one; `tgkill` takes no pointers and hits the calling thread of this process.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
    }
}

/// # Safety
/// `info` and `context` are what the kernel gave to a handler of `signal` on this thread.
unsafe fn describe_rt(signal: i32, info: &libc::siginfo_t, context: &libc::ucontext_t) -> Caught {
    let code = info.si_code;
    let (instruction, stack) = registers_rt(context);
    let mut thread_name = [0u8; THREAD_NAME_BYTES];
    // SAFETY: the kernel writes at most 16 bytes to the given address, which are there.
    unsafe { libc::prctl(libc::PR_GET_NAME, thread_name.as_mut_ptr()) };
    let is_sent = code <= 0;
    // SAFETY: which fields are filled in depends on the signal and its code; each is only read where it is.
    let (address, sender) = unsafe { if is_sent { (0, info.si_pid()) } else { (info.si_addr() as u64, 0) } };
    let is_call = signal == libc::SIGSYS && code == SYS_SECCOMP;
    Caught {
        signal,
        code,
        address,
        instruction,
        stack,
        sender: sender as u32,
        syscall: is_call.then(|| syscall_rt(info)),
        // SAFETY: takes nothing, changes nothing.
        thread: unsafe { libc::gettid() } as u32,
        thread_name,
    }
}

/// The number of the call that a filter has refused: behind the address of the call, in the part of the structure that the
/// kernel fills in for SIGSYS (`asm-generic/siginfo.h`, `_sigsys`).
fn syscall_rt(info: &libc::siginfo_t) -> u32 {
    #[repr(C)]
    struct Refused {
        header: [libc::c_int; 4],
        call_address: *mut libc::c_void,
        number: libc::c_int,
    }
    // SAFETY: the structure has 128 bytes and the alignment of a pointer, of which these are the first 32; for this signal and
    // code the kernel has filled them in.
    let refused = unsafe { &*ptr::from_ref(info).cast::<Refused>() };
    refused.number as u32
}

#[cfg(target_arch = "x86_64")]
fn registers_rt(context: &libc::ucontext_t) -> (u64, u64) {
    let registers = &context.uc_mcontext.gregs;
    (registers[libc::REG_RIP as usize] as u64, registers[libc::REG_RSP as usize] as u64)
}

#[cfg(target_arch = "aarch64")]
fn registers_rt(context: &libc::ucontext_t) -> (u64, u64) {
    (context.uc_mcontext.pc, context.uc_mcontext.sp)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn registers_rt(_context: &libc::ucontext_t) -> (u64, u64) {
    (0, 0)
}

/// A real-time thread has computed for longer than its budget without waiting. The kernel tells the process, not the thread, so
/// all of them become ordinary threads; the process plays on as well as it can.
extern "C" fn demote_rt(_signal: libc::c_int, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    if realtime::demote_all_rt() {
        // SAFETY: the bytes are there, and descriptor 2 is open in every child; if nobody reads it, nothing is lost.
        unsafe { libc::write(2, BUDGET_SPENT.as_ptr().cast(), BUDGET_SPENT.len()) };
    }
}

/// A panic on any thread of a child ends the child: a crash is a case the supervisor handles, half a process is not.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        crash::record_panic(Said::by(panic).bytes());
        print(panic);
        std::process::abort();
    }));
}

/// What a panic says, and where, as far as there is room. Nothing is allocated: memory may be what ran out.
struct Said {
    bytes: [u8; MAX_PANIC_BYTES],
    length: usize,
}

impl Said {
    fn by(panic: &PanicHookInfo<'_>) -> Self {
        let mut said = Self { bytes: [0; MAX_PANIC_BYTES], length: 0 };
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        // Writing never fails: what does not fit is cut.
        let _ = match panic.location() {
            Some(place) => write!(said, "{message} ({}:{})", place.file(), place.line()),
            None => write!(said, "{message}"),
        };
        said
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Write for Said {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(text.bytes()) {
            *place = byte;
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_the_page_is_cut() {
        let mut said = Said { bytes: [0; MAX_PANIC_BYTES], length: 0 };
        write!(said, "{}bc", "a".repeat(MAX_PANIC_BYTES - 1)).unwrap();
        assert_eq!(said.bytes().len(), MAX_PANIC_BYTES);
        assert!(said.bytes().ends_with(b"ab"));
    }
}
