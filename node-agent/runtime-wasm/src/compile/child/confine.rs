//! System calls that the compile child gives up once its input and output are open. It runs as the user of whoever started
//! it, beside that one's keys: a module that takes over the compiler must find nothing that it can open, change or signal.
//!
//! What compiling needs (memory, threads of its own, reading and writing what is open) is left.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Calls of the x32 interface have this bit in their number, and would pass a filter of plain numbers.
#[cfg(target_arch = "x86_64")]
const X32_BIT: libc::c_long = 0x4000_0000;

const FORBIDDEN: &[libc::c_long] = &[
    // The network.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // Files that are not open yet.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_readlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_inotify_init1,
    libc::SYS_fanotify_init,
    // The system.
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

/// Older names of the above.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_readlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_inotify_init,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE: &[libc::c_long] = &[];

/// Forbids them to this thread and to those that it starts.
pub(super) fn forbid() -> anyhow::Result<()> {
    let all = FORBIDDEN.iter().chain(FORBIDDEN_HERE);
    let mut rules: BTreeMap<_, _> = all.map(|call| (*call, Vec::new())).collect();
    // Itself may be ended so: that is how a program aborts.
    let others = condition(0, SeccompCmpOp::Ne, std::process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![others])?]);
    // Reads its own; may set nobody's, not even lower.
    let others = condition(0, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![others])?]);
    // Threads only: a process of its own would have CPU time of its own.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let process = condition(0, SeccompCmpOp::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![process])?]);
    #[cfg(target_arch = "x86_64")]
    rules.extend(
        rules
            .keys()
            .map(|call| (call | X32_BIT, Vec::new()))
            .collect::<Vec<_>>(),
    );
    apply(rules, libc::EPERM)?;
    // Its flags are in memory, where no filter sees them: libraries that do not find it use `clone`.
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> anyhow::Result<SeccompCondition> {
    Ok(SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}

fn apply(rules: BTreeMap<libc::c_long, Vec<SeccompRule>>, errno: i32) -> anyhow::Result<()> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use rustix::process::{Pid, Resource, Rlimit, Signal};

    use super::*;

    /// Tries what a module would that took over the compiler. The filter holds for one thread of this test.
    #[test]
    fn nothing_can_be_opened_changed_or_signalled_any_more() {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("key"), "secret").expect("written");
        fs::create_dir(at("empty")).expect("made");
        let parent = rustix::process::getppid().expect("a parent");
        let tried = |what: &'static str, outcome: std::io::Result<()>| {
            let error = outcome.map_err(|error| error.kind());
            assert_eq!(error, Err(ErrorKind::PermissionDenied), "{what}");
        };
        let probe = || {
            let mut open = fs::File::open(at("key")).expect("opened before");
            let mut out = fs::File::create_new(at("out")).expect("made before");
            forbid().expect("forbidden");
            tried("read", fs::read(at("key")).map(drop));
            tried("create", fs::write(at("new"), ""));
            tried("rename", fs::rename(at("key"), at("other")));
            tried("link", fs::hard_link(at("key"), at("other")));
            tried("symlink", std::os::unix::fs::symlink("/", at("other")));
            tried("unlink", fs::remove_file(at("key")));
            tried("mkdir", fs::create_dir(at("other")));
            tried("rmdir", fs::remove_dir(at("empty")));
            tried("readlink", fs::read_link("/proc/self/exe").map(drop));
            let mode = fs::Permissions::from_mode(0o777);
            tried("chmod", fs::set_permissions(at("key"), mode.clone()));
            tried("fchmod", open.set_permissions(mode));
            tried("chown", std::os::unix::fs::chown(at("key"), Some(0), None));
            tried("socket", std::net::UdpSocket::bind("127.0.0.1:0").map(drop));
            tried("program", std::process::Command::new("/bin/true").status().map(drop));
            let kill = |pid: Pid| rustix::process::kill_process(pid, Signal::CONT).map_err(Into::into);
            tried("kill", kill(parent));
            let none = Rlimit {
                current: None,
                maximum: None,
            };
            let limit = rustix::process::prlimit(Some(parent), Resource::Cpu, none);
            tried("prlimit", limit.map(drop).map_err(Into::into));
            // What compiling needs is left.
            let mut text = String::new();
            open.read_to_string(&mut text).expect("read");
            out.write_all(text.as_bytes())
                .and_then(|()| out.sync_all())
                .expect("written");
            std::thread::spawn(|| ()).join().expect("a thread");
        };
        std::thread::scope(|scope| scope.spawn(probe).join().expect("it is confined"));
        assert_eq!(fs::read(at("out")).expect("read"), b"secret");
    }
}
