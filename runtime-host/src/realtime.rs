//! What a real-time thread needs from the operating system and the processor: priority, timer slack, flushed denormals,
//! absolute sleep, locked memory.
//!
//! Used by the tick thread of a runtime host and by the pacing threads of the device host; owns nothing. Functions whose
//! name ends in `_rt` may be called in the real-time part of a thread, the others only before it begins.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32};

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Priority of the threads that feed the sound device. Above the tick threads: a late mixer silences everybody.
pub const DEVICE_PRIORITY: i32 = 62;

/// Priority of tick threads that make sound. Below 65, which JACK gives its clients, and above what desktop services use.
pub const TICK_PRIORITY: i32 = 60;

/// Priority of tick threads that make no sound: they may hold up each other, but never a block.
pub const TIMER_PRIORITY: i32 = 40;

/// Why a thread runs without real-time priority. Not a failure: it runs, but may be late when the machine is busy.
#[derive(Debug, thiserror::Error)]
#[error(
    "real-time priority {priority} was denied ({source}); allow it with `ulimit -r {priority}` or an rtprio line in /etc/security/limits.conf"
)]
pub struct RealtimeDenied {
    pub priority: i32,
    pub source: std::io::Error,
}

/// Gives the calling thread SCHED_FIFO at `priority` (1 to 99). Threads it starts later do not inherit it.
pub fn promote_current_thread(priority: i32) -> Result<(), RealtimeDenied> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: thread 0 means the calling thread, and `parameters` is a valid structure that the call only reads.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if result != 0 {
        return Err(RealtimeDenied { priority, source: std::io::Error::last_os_error() });
    }
    remember_promoted();
    Ok(())
}

/// Threads of this process with real-time priority that are remembered; a process has one or two.
const MAX_PROMOTED: usize = 16;
/// Their ids; 0 where there is none.
static PROMOTED: [AtomicI32; MAX_PROMOTED] = [const { AtomicI32::new(0) }; MAX_PROMOTED];
/// Whether their priority has been taken from them.
static WERE_DEMOTED: AtomicBool = AtomicBool::new(false);

fn remember_promoted() {
    // SAFETY: takes nothing, changes nothing.
    let thread = unsafe { libc::gettid() };
    let place = PROMOTED.iter().find(|place| {
        let there = place.load(Relaxed);
        (there == thread || !is_own_thread_rt(there)) && place.compare_exchange(there, thread, Release, Relaxed).is_ok()
    });
    // More of them than there is room for keep their priority whatever happens.
    let _ = place;
}

/// Whether a thread of this id lives in this process: ids of threads that have ended may go to other processes.
fn is_own_thread_rt(thread: i32) -> bool {
    // SAFETY: signal 0 is sent to nobody; the call takes no pointers.
    thread != 0 && unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) } == 0
}

/// Takes real-time priority from every thread of this process that has been given it. Runs in the handler of SIGXCPU: the
/// kernel says that one of them has computed for longer than its budget without waiting (FAULTS row 15), but not which.
/// Returns whether this is the first time.
pub fn demote_all_rt() -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    for thread in PROMOTED.iter().map(|place| place.load(Acquire)).filter(|thread| is_own_thread_rt(*thread)) {
        // SAFETY: the id is that of a thread of ours (asked just before), and `parameters` is a valid structure that the call
        // only reads.
        unsafe { libc::sched_setscheduler(thread, libc::SCHED_OTHER, &raw const parameters) };
    }
    !WERE_DEMOTED.swap(true, Release)
}

/// Whether threads of this process have lost their real-time priority because one of them exceeded its budget.
pub fn were_demoted() -> bool {
    WERE_DEMOTED.load(Acquire)
}

/// Asks the kernel to wake the calling thread as exactly as it can, also when it has no real-time priority.
/// Best effort: where it is refused, sleeps end up to 50 us late.
pub fn tighten_timer_slack() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Keeps the pages of what is mapped now in memory once they have been touched. Best effort; returns whether it worked.
/// What is mapped later is not locked: a program's memory reserves gigabytes of address space, and all of it would count
/// against the limit of locked memory.
pub fn lock_memory() -> bool {
    use rustix::mm::{MlockAllFlags, mlockall};
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT).is_ok()
}

/// The monotonic clock in nanoseconds. Reads it without a system call.
pub fn monotonic_ns_rt() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Processor time that the calling thread has used, in nanoseconds. A system call, so real-time code reads it only where a
/// deadline has been missed already, or a trial begins.
pub fn thread_cpu_ns_rt() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps until the monotonic clock shows `deadline_ns`, whatever signals arrive meanwhile. Returns at once when that
/// time has passed.
pub fn sleep_until_rt(deadline_ns: u64) {
    let deadline = Timespec { tv_sec: (deadline_ns / 1_000_000_000) as i64, tv_nsec: (deadline_ns % 1_000_000_000) as _ };
    while clock_nanosleep_absolute(ClockId::Monotonic, &deadline) == Err(rustix::io::Errno::INTR) {}
}

/// Denormals are flushed on this thread as long as the value lives; see [`flush_denormals`].
pub struct DenormalsFlushed {
    previous: u64,
    /// The control register belongs to the thread, so the guard must stay on it.
    _on_this_thread: PhantomData<*const ()>,
}

/// Makes the calling thread's floating-point unit treat denormal numbers as zero, as operands and as results, until the
/// returned guard is dropped. Recursive filters that ring out are 20 to 50 times slower otherwise (DESIGN §10).
///
/// On x86-64 this sets FTZ and DAZ in MXCSR, on AArch64 FZ in FPCR; elsewhere it does nothing.
#[must_use = "denormals are flushed only while the guard lives"]
pub fn flush_denormals() -> DenormalsFlushed {
    let previous = control_register::read();
    control_register::write(previous | control_register::FLUSH);
    DenormalsFlushed { previous, _on_this_thread: PhantomData }
}

impl Drop for DenormalsFlushed {
    fn drop(&mut self) {
        control_register::write(self.previous);
    }
}

#[cfg(target_arch = "x86_64")]
mod control_register {
    /// Flush-to-zero (bit 15) and denormals-are-zero (bit 6) of MXCSR.
    pub const FLUSH: u64 = 0x8040;

    pub fn read() -> u64 {
        let mut value = 0u32;
        // SAFETY: `stmxcsr` stores the register's 4 bytes at the given address, which is a live u32.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        u64::from(value)
    }

    pub fn write(value: u64) {
        let value = value as u32;
        // SAFETY: `value` was read from the register and at most had FTZ and DAZ added, so no reserved bit is set, no
        // exception is unmasked and the rounding mode stays. Rust code on the thread sees denormals as zeros and relies on
        // nothing else; the test `denormals_are_flushed_while_the_guard_lives` shows both states.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, readonly, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control_register {
    /// FZ, bit 24 of FPCR.
    pub const FLUSH: u64 = 1 << 24;

    pub fn read() -> u64 {
        let value: u64;
        // SAFETY: reading FPCR has no effect on memory or other registers.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub fn write(value: u64) {
        // SAFETY: `value` was read from the register and at most had FZ added: rounding and traps stay as they were.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control_register {
    pub const FLUSH: u64 = 0;

    pub fn read() -> u64 {
        0
    }

    pub fn write(_value: u64) {}
}

thread_local! {
    static IN_SECTION: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as being in its real-time part while the value lives. Costs one store; tests run the same code
/// under an allocator that fails the test when [`is_in_section`] is true.
pub struct RealtimeSection {
    outer: bool,
    _on_this_thread: PhantomData<*const ()>,
}

impl RealtimeSection {
    /// Begins the real-time part of the thread.
    #[must_use = "the section ends when the value is dropped"]
    pub fn enter_rt() -> Self {
        Self { outer: IN_SECTION.replace(true), _on_this_thread: PhantomData }
    }
}

impl Drop for RealtimeSection {
    fn drop(&mut self) {
        IN_SECTION.set(self.outer);
    }
}

/// Whether the calling thread is in its real-time part. Safe to call from an allocator.
pub fn is_in_section() -> bool {
    IN_SECTION.try_with(Cell::get).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn denormals_are_flushed_while_the_guard_lives() {
        let halve = |x: f32| black_box(x) * black_box(0.5);
        let smallest_normal = f32::MIN_POSITIVE;
        assert!(halve(smallest_normal) > 0.0);
        {
            let _flushed = flush_denormals();
            assert_eq!(halve(smallest_normal).to_bits(), 0, "a denormal result is zero");
            let denormal = black_box(f32::from_bits(1));
            assert_eq!((denormal * black_box(1.0e30)).to_bits(), 0, "a denormal operand is zero");
            assert_eq!(black_box(1.0f32) / black_box(3.0), 1.0 / 3.0, "rounding is as before");
        }
        assert!(halve(smallest_normal) > 0.0);
    }

    #[test]
    fn a_sleep_ends_at_its_deadline_and_not_before() {
        let deadline_ns = monotonic_ns_rt() + 2_000_000;
        sleep_until_rt(deadline_ns);
        assert!(monotonic_ns_rt() >= deadline_ns);
        sleep_until_rt(deadline_ns);
    }

    #[test]
    fn priority_is_given_or_denied_with_a_remedy() {
        let text = std::thread::spawn(|| promote_current_thread(TICK_PRIORITY).err().map(|e| e.to_string())).join().unwrap();
        assert!(text.is_none_or(|text| text.contains("ulimit -r")));
        let impossible = std::thread::spawn(|| promote_current_thread(1_000).is_err()).join().unwrap();
        assert!(impossible);
    }

    #[test]
    fn threads_that_were_given_priority_can_be_made_ordinary_again() {
        std::thread::spawn(|| {
            if promote_current_thread(TIMER_PRIORITY).is_err() {
                return; // Denied on this machine.
            }
            // SAFETY: takes no pointers; 0 is the calling thread.
            let policy = || unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK;
            assert_eq!(policy(), libc::SCHED_FIFO);
            demote_all_rt();
            assert_eq!(policy(), libc::SCHED_OTHER);
            assert!(were_demoted());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_section_ends_with_its_guard_and_nests() {
        assert!(!is_in_section());
        let outer = RealtimeSection::enter_rt();
        drop(RealtimeSection::enter_rt());
        assert!(is_in_section());
        drop(outer);
        assert!(!is_in_section());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn locked_memory_is_locked_where_that_is_said_and_not_where_it_is_denied() {
        let locked_kib = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        assert_eq!(locked_kib(), 0);
        let is_locked = lock_memory();
        assert_eq!(is_locked, locked_kib() > 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_asks_for_it_is_woken_exactly() {
        std::thread::spawn(|| {
            let slack_ns = || rustix::thread::current_timer_slack().unwrap();
            assert_eq!(slack_ns(), 50_000, "the system's own");
            tighten_timer_slack();
            assert_eq!(slack_ns(), 1);
        })
        .join()
        .unwrap();
    }
}
