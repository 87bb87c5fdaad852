//! The system calls that roles need, by purpose. Names that a processor's kernel does not have are skipped.
//!
//! Found by tracing real sessions of every role, with programs that trap, edits, recordings and each sound server, and by
//! reading what the libraries below do when something fails.

/// Computing, waiting, ending.
pub const THREADS: &[&str] = &[
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "exit",
    "exit_group",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "getrandom",
    "gettid",
    "gettimeofday",
    "membarrier",
    "nanosleep",
    "prctl",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "time",
    "times",
];

/// Memory, native code included.
pub const MEMORY: &[&str] = &[
    "brk",
    "madvise",
    "memfd_create",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
];

/// Files, as far as Landlock lets them be opened; segments of shared memory are files.
pub const FILES: &[&str] = &[
    "access",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchmod",
    "fcntl",
    "fdatasync",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents64",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rmdir",
    "stat",
    "statfs",
    "statx",
    "sync_file_range",
    "unlink",
    "unlinkat",
    "write",
    "writev",
];

/// Messages over channels of this machine, and waiting for them.
pub const CHANNELS: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "connect",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd2",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "pipe2",
    "poll",
    "ppoll",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "select",
    "pselect6",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
];

/// Asking who one is and what there is, and whether the supervisor lives.
pub const QUESTIONS: &[&str] = &[
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpid",
    "getppid",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getuid",
    "pidfd_open",
    "prlimit64",
    "setrlimit",
    "sysinfo",
    "uname",
];

/// What libraries that talk to sound servers and drivers do beyond that.
pub const SOUND: &[&str] = &[
    "chmod",
    "clone",
    "clone3",
    "creat",
    "epoll_create",
    "eventfd",
    "fchmodat",
    "fchown",
    "fgetxattr",
    "fork",
    "getpgrp",
    "getpriority",
    "getsid",
    "getxattr",
    "get_mempolicy",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "ioctl",
    "kill",
    "link",
    "linkat",
    "mbind",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "pause",
    "pipe",
    "process_vm_readv",
    "rename",
    "renameat",
    "renameat2",
    "rt_sigqueueinfo",
    "rt_sigsuspend",
    "rt_tgsigqueueinfo",
    "sendfile",
    "set_mempolicy",
    "setitimer",
    "setpriority",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "signalfd",
    "signalfd4",
    "socket",
    "socketpair",
    "splice",
    "symlink",
    "symlinkat",
    "tgkill",
    "tkill",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "umask",
    "utimensat",
    "wait4",
    "waitid",
];

/// What no library has a reason to do in the device host. Whoever tries has been taken over, or is broken.
pub const NEVER: &[&str] = &[
    "acct",
    "add_key",
    "bpf",
    "chroot",
    "clock_settime",
    "delete_module",
    "execve",
    "execveat",
    "finit_module",
    "init_module",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "perf_event_open",
    "personality",
    "pivot_root",
    "process_vm_writev",
    "ptrace",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "umount2",
    "unshare",
    "userfaultfd",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use syscalls::Sysno;

    use super::*;

    #[test]
    fn no_call_is_named_twice_or_both_allowed_and_forbidden() {
        let mut seen = HashSet::new();
        for name in [THREADS, MEMORY, FILES, CHANNELS, QUESTIONS, SOUND, NEVER].concat() {
            assert!(seen.insert(name), "{name}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn nearly_every_name_is_a_call_of_this_processor() {
        let unknown: Vec<_> = [THREADS, MEMORY, FILES, CHANNELS, QUESTIONS, SOUND, NEVER]
            .concat()
            .into_iter()
            .filter(|name| name.parse::<Sysno>().is_err())
            .collect();
        assert!(unknown.is_empty(), "a name that is mistyped allows nothing: {unknown:?}");
    }
}
