//! Where a thread that crashed came from: return addresses found on its stack, without help from anybody.
//!
//! [`locate`] runs once at start, on the child's only thread; [`walk_rt`] runs in the handler of a fatal signal: it allocates
//! nothing, takes no lock, and calls the kernel only to read the stack, which answers with an error where there is none.
//!
//! Neither the library nor this binary keeps frame pointers, and unwinding tables are too much for a process that is broken. So
//! every word of the stack counts that points behind a call instruction of the binary. A few of them are left over from calls
//! that have returned; the order is right.

use std::cell::UnsafeCell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc::crash;

/// Bytes of the stack that are looked through.
const DEPTH_BYTES: u64 = 64 << 10;
/// Words that are read at a time: a page of memory, because the stack ends at the end of one.
const CHUNK_WORDS: usize = 512;
const CHUNK_BYTES: u64 = CHUNK_WORDS as u64 * 8;

static CODE_BEGIN: AtomicU64 = AtomicU64::new(0);
static CODE_END: AtomicU64 = AtomicU64::new(0);

/// Room for a part of the stack: the stack of a signal handler is too small for it.
struct Room(UnsafeCell<[u64; CHUNK_WORDS]>);

// SAFETY: only `walk_rt` touches it, and it runs at most once in a process, on the thread whose signal was noted first.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new([0; CHUNK_WORDS]));

/// Notes where the binary's machine code lies, here and in the crash page.
pub fn locate() {
    let mut found = Module::default();
    // SAFETY: `visit` is given the pointer to `found`, which outlives the call, and returns 1 at the first module, the binary.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    CODE_BEGIN.store(found.code_begin, Relaxed);
    CODE_END.store(found.code_end, Release);
    crash::set_module(found.base, found.code_end.saturating_sub(found.base));
}

/// Where this process has the binary's machine code: the address its offsets count from.
pub fn base() -> u64 {
    let mut found = Module::default();
    // SAFETY: as in `locate`.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found.base
}

#[derive(Default)]
struct Module {
    base: u64,
    code_begin: u64,
    code_end: u64,
}

/// Takes the executable segment of the first module.
extern "C" fn visit(info: *mut libc::dl_phdr_info, _bytes: usize, data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the loader hands in a valid description, whose headers are `dlpi_phnum` in number, and `data` is the `Module` of
    // the caller, who waits for us.
    let (base, headers, module) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)), &mut *data.cast::<Module>())
    };
    if let Some(code) = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0) {
        *module = Module { base, code_begin: base + code.p_vaddr, code_end: base + code.p_vaddr + code.p_memsz };
    }
    1
}

/// Adds the return addresses above `stack` to the crash page.
pub fn walk_rt(stack: u64) {
    let mut found = 0;
    let begin = stack & !7;
    let mut at = begin;
    while at < begin + DEPTH_BYTES {
        let until = (at / CHUNK_BYTES + 1) * CHUNK_BYTES;
        let Some(words) = read_rt(at, ((until - at) / 8) as usize) else { return };
        for word in words.iter().filter(|word| follows_a_call_rt(**word)) {
            if !crash::record_frame_rt(found, *word) {
                return;
            }
            found += 1;
        }
        at = until;
    }
}

/// Reads so many words of this process, at most a chunk; `None` where nothing can be read.
fn read_rt(address: u64, words: usize) -> Option<&'static [u64]> {
    let bytes = words.min(CHUNK_WORDS) * 8;
    let local = libc::iovec { iov_base: ROOM.0.get().cast(), iov_len: bytes };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes };
    // SAFETY: the kernel writes at most `bytes` bytes into the room, which has as many and which nobody else uses; the other
    // address is only looked at by the kernel, which answers with an error where it is none.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    // SAFETY: the room lives for ever, is aligned, and is not written before the next call, when this slice is gone.
    (read == bytes as isize).then(|| unsafe { std::slice::from_raw_parts(ROOM.0.get().cast::<u64>(), bytes / 8) })
}

/// Whether a word is an address in the binary's code to which a call would return.
fn follows_a_call_rt(word: u64) -> bool {
    let (begin, end) = (CODE_BEGIN.load(Acquire), CODE_END.load(Acquire));
    if word < begin.saturating_add(LONGEST_CALL_BYTES as u64) || word >= end {
        return false;
    }
    // SAFETY: the bytes before the address lie in the binary's executable segment (checked just above), which stays mapped and
    // readable as long as the process lives.
    let before = unsafe { std::slice::from_raw_parts((word - LONGEST_CALL_BYTES as u64) as *const u8, LONGEST_CALL_BYTES) };
    ends_in_a_call(before)
}

const LONGEST_CALL_BYTES: usize = 7;

/// Whether these bytes of machine code end in a call: direct, or through a register or memory.
#[cfg(target_arch = "x86_64")]
fn ends_in_a_call(code: &[u8]) -> bool {
    let at = |back: usize| code.get(code.len().wrapping_sub(back)).copied().unwrap_or(0);
    let is_indirect = |back: usize| at(back) == 0xff && at(back - 1) >> 3 & 7 == 2;
    at(5) == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}

/// Elsewhere every address in the code may be one.
#[cfg(not(target_arch = "x86_64"))]
fn ends_in_a_call(_code: &[u8]) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_are_told_from_other_instructions() {
        assert!(ends_in_a_call(&[0x90, 0x90, 0xe8, 1, 2, 3, 4]), "call rel32");
        assert!(ends_in_a_call(&[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0]), "call rax");
        assert!(ends_in_a_call(&[0x90, 0xff, 0x15, 1, 2, 3, 4]), "call [rip + x]");
        assert!(!ends_in_a_call(&[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0]), "jmp rax");
        assert!(!ends_in_a_call(&[0x90; 7]));
    }

    #[test]
    fn the_stack_is_read_and_what_is_no_memory_is_not() {
        locate();
        let local = 0x1122_3344u64;
        let read = read_rt((&raw const local) as u64, 1).map(<[u64]>::to_vec);
        assert_eq!(read, Some(vec![local]));
        assert!(read_rt(8, 1).is_none());
        assert!(!follows_a_call_rt(8));
        assert!(base() != 0);
    }
}
