//! What the allocator does with memory that is free again: it keeps it.
//!
//! A compile takes some hundred kilobytes and gives all of them back, a second later the next one does the same. By default glibc returns
//! them to the kernel each time, and getting them again is a page fault for every 4 KiB: up to a tenth of a compile. Called once, by the
//! worker's process, before its first request. It changes nothing about how much can be allocated.

/// Bytes that stay with the process although they are free: as much as compiling a large program natively takes.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 32 << 20;

/// Blocks from this size on are mapped and unmapped one by one.
#[cfg(target_env = "gnu")]
const MAPPED_BLOCK_BYTES: i32 = 8 << 20;

/// Keeps memory that is free again. False where the allocator does not take the wish; then compiles take longer.
#[cfg(target_env = "gnu")]
pub fn keep_freed_memory() -> bool {
    // The second setting has to follow the first, which alone would stop glibc from finding a good value of it by itself.
    let settings = [(libc::M_TRIM_THRESHOLD, KEPT_BYTES), (libc::M_MMAP_THRESHOLD, MAPPED_BLOCK_BYTES)];
    settings.iter().all(|&(setting, bytes)| {
        // SAFETY: `mallopt` takes two integers and no pointers; it locks the allocator's own state, so that other threads may allocate
        // meanwhile. Unknown settings and values out of range are refused with 0.
        unsafe { libc::mallopt(setting, bytes) == 1 }
    })
}

/// Other allocators are left as they are.
#[cfg(not(target_env = "gnu"))]
pub fn keep_freed_memory() -> bool {
    false
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_takes_the_wish_and_still_works() {
        assert!(keep_freed_memory());
        for bytes in [1, 1 << 16, KEPT_BYTES as usize, 2 * KEPT_BYTES as usize] {
            let block = vec![7u8; bytes];
            assert!(block.iter().all(|&byte| byte == 7));
        }
    }
}
