//! The table of system calls, by name.

use libc::c_long;

/// A list of calls with their names, for tests and messages.
macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Allowed whatever their arguments are. What a call can reach is Landlock's and the file permissions' to say.
pub(super) const ALLOWED: &[(&str, c_long)] = &join::<{ COMMON.len() + OLD.len() }>(COMMON, OLD);

const COMMON: &[(&str, c_long)] = calls! {
    // Memory
    SYS_brk SYS_madvise SYS_membarrier SYS_mincore SYS_mlock SYS_mlock2 SYS_mmap SYS_mprotect SYS_mremap SYS_msync
    SYS_munlock SYS_munmap SYS_pkey_mprotect
    // Files
    SYS_close SYS_close_range SYS_dup SYS_dup3 SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fcntl
    SYS_fdatasync SYS_flock SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_getcwd SYS_getdents64 SYS_ioctl SYS_lseek
    SYS_newfstatat SYS_openat SYS_openat2 SYS_pipe2 SYS_pread64 SYS_preadv SYS_preadv2 SYS_pwrite64 SYS_pwritev
    SYS_pwritev2 SYS_read SYS_readlinkat SYS_readv SYS_renameat2 SYS_statfs SYS_statx SYS_umask SYS_unlinkat
    SYS_write SYS_writev
    // Waiting
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_inotify_add_watch
    SYS_inotify_init1 SYS_inotify_rm_watch SYS_ppoll SYS_pselect6 SYS_signalfd4 SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime
    // Sockets
    SYS_accept SYS_accept4 SYS_connect SYS_getpeername SYS_getsockname SYS_getsockopt SYS_recvfrom SYS_recvmmsg
    SYS_recvmsg SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_setsockopt SYS_shutdown
    // Time
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_gettimeofday SYS_nanosleep
    // Signals
    SYS_restart_syscall SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigsuspend
    SYS_rt_sigtimedwait SYS_sigaltstack
    // Threads
    SYS_exit SYS_exit_group SYS_futex SYS_futex_waitv SYS_get_robust_list SYS_getcpu SYS_gettid SYS_rseq
    SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_setaffinity SYS_sched_yield SYS_set_robust_list SYS_set_tid_address
    // What the process is
    SYS_capget SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
    SYS_getresgid SYS_getresuid SYS_getrandom SYS_getrusage SYS_getsid SYS_getuid SYS_sysinfo SYS_times
    SYS_uname
};

/// What has a newer form, which most later architectures have alone.
#[cfg(target_arch = "x86_64")]
const OLD: &[(&str, c_long)] = calls! {
    SYS_access SYS_arch_prctl SYS_dup2 SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_getdents SYS_getpgrp
    SYS_getrlimit SYS_inotify_init SYS_lstat SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_renameat
    SYS_select SYS_signalfd SYS_stat SYS_time SYS_unlink
};

/// What has a newer form. glibc uses the older one of `renameat` here, and libc has neither name.
#[cfg(target_arch = "aarch64")]
const OLD: &[(&str, c_long)] = &[("SYS_renameat", 38), ("SYS_getrlimit", 163)];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLD: &[(&str, c_long)] = &[];

/// Refused with EPERM whatever their arguments are, rather than as unknown: who looks for the reason should find one.
pub(super) const REFUSED: &[(&str, c_long)] =
    &join::<{ DANGEROUS.len() + OLD_DANGEROUS.len() }>(DANGEROUS, OLD_DANGEROUS);

const DANGEROUS: &[(&str, c_long)] = calls! {
    // Programs
    SYS_execve SYS_execveat
    // Other processes
    SYS_kcmp SYS_migrate_pages SYS_move_pages SYS_pidfd_getfd SYS_pidfd_open SYS_pidfd_send_signal SYS_process_madvise
    SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo
    // New listeners: all sockets are there
    SYS_listen
    // Who the process is
    SYS_capset SYS_personality SYS_setdomainname SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_sethostname
    SYS_setns SYS_setpgid SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid SYS_setuid SYS_unshare
    // File systems
    SYS_chroot SYS_fanotify_init SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fsconfig SYS_fsmount SYS_fsopen
    SYS_fspick SYS_linkat SYS_mkdirat SYS_mknodat SYS_mount SYS_mount_setattr SYS_move_mount SYS_name_to_handle_at
    SYS_open_by_handle_at SYS_open_tree SYS_pivot_root SYS_quotactl SYS_quotactl_fd SYS_swapoff SYS_swapon
    SYS_symlinkat SYS_truncate SYS_umount2
    // The kernel
    SYS_acct SYS_adjtimex SYS_bpf SYS_clock_adjtime SYS_clock_settime SYS_delete_module SYS_finit_module
    SYS_init_module SYS_kexec_load SYS_perf_event_open SYS_reboot SYS_settimeofday SYS_syslog SYS_vhangup
    // What has been the way into the kernel too often
    SYS_add_key SYS_io_setup SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup SYS_keyctl
    SYS_memfd_create SYS_memfd_secret SYS_remap_file_pages SYS_request_key SYS_userfaultfd SYS_vmsplice
};

#[cfg(target_arch = "x86_64")]
const OLD_DANGEROUS: &[(&str, c_long)] = calls! {
    SYS_chmod SYS_chown SYS_creat SYS_fork SYS_ioperm SYS_iopl SYS_lchown SYS_link SYS_mkdir SYS_mknod SYS_modify_ldt
    SYS_symlink SYS_uselib SYS_ustat SYS_vfork
};

#[cfg(not(target_arch = "x86_64"))]
const OLD_DANGEROUS: &[(&str, c_long)] = &[];

const fn join<const LENGTH: usize>(
    one: &[(&'static str, c_long)],
    other: &[(&'static str, c_long)],
) -> [(&'static str, c_long); LENGTH] {
    let mut all = [("", 0); LENGTH];
    let mut index = 0;
    while index < LENGTH {
        all[index] = if index < one.len() { one[index] } else { other[index - one.len()] };
        index += 1;
    }
    all
}
