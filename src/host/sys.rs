//! The system calls that have no safe wrapper: the setup of a child between fork and exec, killing all processes of a
//! user id, and the removal of System V IPC objects.
//!
//! All unsafe code of the crate is here. After a fork only async-signal-safe calls are made: raw system calls on data
//! that was prepared before, no allocation, no locks.
#![cfg_attr(
    unix,
    expect(
        unsafe_code,
        reason = "fork, pre_exec, sigaction, keyctl and the IPC calls have no safe wrapper; each use says why it is sound"
    )
)]

use std::io;
use std::path::Path;

/// The umask of every child: other programs expect the usual one, and runup's own is stricter.
#[cfg(unix)]
const CHILD_UMASK: rustix::fs::Mode = rustix::fs::Mode::WGRP.union(rustix::fs::Mode::WOTH);

/// The ids that a child takes on.
#[derive(Debug, Clone)]
#[cfg_attr(not(unix), expect(dead_code, reason = "no user is changed there"))]
pub struct Identity {
    /// Real, effective and saved user id.
    pub uid: u32,
    /// Real, effective and saved group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Starts `child` in its own session without a controlling terminal, with its own session keyring, umask 022, all
/// signals at their default disposition and unblocked, only the file descriptors 0 to 2, as `identity` if given
/// (otherwise with the current ids), in the directory `cwd` if that user may enter it.
///
/// A setuid program keeps its effect: `no_new_privs` is not set, because jobs may use sudo.
#[cfg(target_os = "linux")]
pub fn prepare(
    child: &mut tokio::process::Command,
    identity: Option<Identity>,
    cwd: Option<&Path>,
) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    use std::os::unix::ffi::OsStrExt as _;

    let cwd = cwd.map(|path| std::ffi::CString::new(path.as_os_str().as_bytes())).transpose()?;
    let foreign = identity.is_some();
    let ids = identity.map(|identity| {
        let groups: Vec<Gid> = identity.groups.into_iter().map(Gid::from_raw).collect();
        (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid), groups)
    });
    let parent = rustix::process::getpid();
    let setup = move || -> io::Result<()> {
        die_with(parent);
        rustix::process::setsid()?;
        reset_signals()?;
        // Done before the ids change, so that the keyring counts against runup's quota, which the user cannot exhaust.
        join_keyring(foreign)?;
        rustix::process::umask(CHILD_UMASK);
        if let Some((uid, gid, groups)) = &ids {
            // These calls apply to the thread, and after a fork there is only one.
            rustix::thread::set_thread_groups(groups)?;
            rustix::thread::set_thread_res_gid(*gid, *gid, *gid)?;
            rustix::thread::set_thread_res_uid(*uid, *uid, *uid)?;
            // Another user's process loses it.
            die_with(parent);
        }
        if let Some(cwd) = &cwd {
            rustix::process::chdir(cwd)?;
        }
        close_on_exec();
        // From here on its user or its environment tells whose it is.
        let _ = rustix::process::set_parent_process_death_signal(None);
        Ok(())
    };
    // SAFETY: the closure makes system calls only, on values that were allocated before the fork and are not freed in
    // it.
    unsafe { child.pre_exec(setup) };
    Ok(())
}

/// The same for kernels without keyrings, where the standard library changes the ids.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn prepare(
    child: &mut tokio::process::Command,
    identity: Option<Identity>,
    cwd: Option<&Path>,
) -> io::Result<()> {
    if let Some(identity) = identity {
        child.uid(identity.uid).gid(identity.gid);
    }
    if let Some(cwd) = cwd {
        child.current_dir(cwd);
    }
    let setup = || -> io::Result<()> {
        rustix::process::setsid()?;
        reset_signals()?;
        rustix::process::umask(CHILD_UMASK);
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { child.pre_exec(setup) };
    Ok(())
}

/// Does nothing: this system has no sessions, and the user is not changed.
#[cfg(not(unix))]
pub fn prepare(
    child: &mut tokio::process::Command,
    _identity: Option<Identity>,
    cwd: Option<&Path>,
) -> io::Result<()> {
    if let Some(cwd) = cwd {
        child.current_dir(cwd);
    }
    Ok(())
}

/// Until the child is the program, nothing tells it from runup, so that no later run would find one that was left: it is
/// killed with `parent`, which waits for it meanwhile. A sandbox may forbid that, and is no reason not to start it.
#[cfg(target_os = "linux")]
fn die_with(parent: rustix::process::Pid) {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // None: runup's children are in a process namespace of their own.
    if rustix::process::getppid().is_some_and(|now| now != parent) {
        // SAFETY: it was killed before this, so there is nobody to whom an error could be told.
        unsafe { libc::_exit(1) }
    }
}

/// Resets all signals: an ignored signal stays ignored across exec, and a listener that ignores SIGINT could not be
/// interrupted.
#[cfg(unix)]
fn reset_signals() -> io::Result<()> {
    const LAST: libc::c_int = if cfg!(target_os = "linux") { 64 } else { 31 };
    // SAFETY: the structures are plain data, for which all zeroes is a valid value; zeroes are SIG_DFL without flags.
    unsafe {
        for signal in 1..=LAST {
            // Refused for SIGKILL and SIGSTOP, which cannot be ignored. The C library's wrapper would keep 32 and 33 as
            // they are; what the kernel wants is smaller than this on every architecture.
            #[cfg(target_os = "linux")]
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                [0_u64; 8].as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
            #[cfg(not(target_os = "linux"))]
            libc::sigaction(signal, &std::mem::zeroed(), std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Creates a new session keyring; without it a child possesses root's keys. Kernels without keyrings, and containers
/// that forbid them, have no keys to share. Any other failure is fatal only for a child of another user.
#[cfg(target_os = "linux")]
fn join_keyring(foreign: bool) -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    const ANONYMOUS: libc::c_long = 0;
    // SAFETY: the name is a null pointer, which this operation takes for "a new one without a name".
    if unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, ANONYMOUS) } >= 0 || !foreign {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => Ok(()),
        _ => Err(error),
    }
}

/// Marks descriptors that the parent of runup left open to be closed at exec. They are not closed now, because the
/// standard library still needs one of them to report a failed exec.
#[cfg(target_os = "linux")]
fn close_on_exec() {
    const FIRST: libc::c_uint = 3;
    const MOST: libc::c_int = 4096;
    // SAFETY: no memory is passed.
    unsafe {
        if libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        // Before Linux 5.11, or behind a strict seccomp filter.
        for descriptor in 3..MOST {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Forks a process that sends SIGKILL to every process with the real or saved user id `uid`, then exits; returns its
/// id, to be reaped. The kernel goes through all processes in one pass, so a process that forks meanwhile does not
/// escape.
///
/// The real and saved ids of the killing process are `outsider`, which no process may have, so that its victims cannot
/// kill it first. If `outsider` is not mapped (user namespaces), it has only `uid`, and may have to be started again.
#[cfg(target_os = "linux")]
pub fn fork_killer(uid: u32, outsider: u32) -> io::Result<rustix::process::Pid> {
    use rustix::process::Uid;
    use rustix::thread::{set_thread_groups, set_thread_res_uid};
    if uid == 0 || outsider == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (user, outsider) = (Uid::from_raw(uid), Uid::from_raw(outsider));
    // SAFETY: the child makes system calls only, and exits without running other code of this process.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let dropped = set_thread_groups(&[]).is_ok()
                && (set_thread_res_uid(outsider, user, outsider).is_ok()
                    || set_thread_res_uid(user, user, user).is_ok());
            // As root it would kill all processes.
            let harmless = !rustix::process::getuid().is_root() && !rustix::process::geteuid().is_root();
            if dropped && harmless {
                libc::kill(-1, libc::SIGKILL);
            }
            libc::_exit(i32::from(!(dropped && harmless)));
        }
        rustix::process::Pid::from_raw(child).ok_or_else(io::Error::last_os_error)
    }
}

/// Forks a process that empties the keyrings that the kernel keeps for the user id `uid` without any process of it, then
/// exits; returns its id, to be reaped. It exits with 0, or with [`NO_KEYRINGS`] where the kernel or the container
/// forbids keyrings.
///
/// Only a process of the user itself can do this: root has no rights to keys of others.
#[cfg(target_os = "linux")]
pub fn fork_key_cleaner(uid: u32) -> io::Result<rustix::process::Pid> {
    use rustix::process::Uid;
    use rustix::thread::{set_thread_groups, set_thread_res_uid};
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    const SETPERM: libc::c_long = 5;
    const CLEAR: libc::c_long = 7;
    const INVALIDATE: libc::c_long = 21;
    const GET_PERSISTENT: libc::c_long = 22;
    const OF_SESSION: libc::c_long = -3;
    const OF_USER: [libc::c_long; 2] = [-4, -5];
    /// As the kernel creates them.
    const USUAL: libc::c_long = 0x1f3f_0000;
    if uid == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let user = Uid::from_raw(uid);
    // SAFETY: the child makes system calls only, and exits without running other code of this process; a null pointer
    // stands for a keyring without a name.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let dropped = set_thread_groups(&[]).is_ok() && set_thread_res_uid(user, user, user).is_ok();
            let call = |operation: libc::c_long, one: libc::c_long, two: libc::c_long| {
                libc::syscall(libc::SYS_keyctl, operation, one, two)
            };
            if !dropped {
                libc::_exit(1);
            }
            // These need no session keyring, for which a full quota has no room.
            for keyring in OF_USER {
                call(SETPERM, keyring, USUAL);
                let cleared = call(CLEAR, keyring, 0) >= 0;
                if !cleared && matches!(*libc::__errno_location(), libc::ENOSYS | libc::EPERM) {
                    libc::_exit(NO_KEYRINGS);
                }
            }
            // The kernel frees the room a moment later.
            let mut joined = false;
            for _ in 0..200 {
                joined = call(JOIN_SESSION_KEYRING, 0, 0) >= 0;
                if joined || *libc::__errno_location() != libc::EDQUOT {
                    break;
                }
                libc::usleep(10_000);
            }
            if joined {
                let persistent = call(GET_PERSISTENT, libc::c_long::from(u32::MAX), OF_SESSION);
                if persistent > 0 {
                    call(CLEAR, persistent, 0);
                    call(INVALIDATE, persistent, 0);
                }
            }
            libc::_exit(0);
        }
        rustix::process::Pid::from_raw(child).ok_or_else(io::Error::last_os_error)
    }
}

/// The exit code of the key cleaner where there are no keyrings.
#[cfg(target_os = "linux")]
pub const NO_KEYRINGS: i32 = 2;

/// A kind of System V IPC object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipc {
    /// Shared memory.
    Memory,
    /// A set of semaphores.
    Semaphores,
    /// A message queue.
    Queue,
}

impl Ipc {
    /// Its name in `/proc/sysvipc`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "shm",
            Self::Semaphores => "sem",
            Self::Queue => "msg",
        }
    }
}

/// Removes the object; one that does not exist is success.
#[cfg(target_os = "linux")]
pub fn remove_ipc(kind: Ipc, id: i32) -> io::Result<()> {
    // SAFETY: a removal takes no buffer.
    let result = unsafe {
        match kind {
            Ipc::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            Ipc::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
            Ipc::Queue => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        _ if result == 0 => Ok(()),
        Some(libc::EINVAL | libc::EIDRM) => Ok(()),
        _ => Err(error),
    }
}

/// Does nothing: this system does not list them.
#[cfg(not(target_os = "linux"))]
pub fn remove_ipc(_: Ipc, _: i32) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::deadline::{Deadline, Stop};
    use crate::host::Command;

    /// The serial number of this process's session keyring.
    fn session_keyring() -> io::Result<i64> {
        const GET_KEYRING_ID: libc::c_long = 0;
        const SESSION_KEYRING: libc::c_long = -3;
        // SAFETY: no memory is passed.
        match unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION_KEYRING, 0 as libc::c_long) } {
            id if id >= 0 => Ok(id),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Not a test, but the child process of the next one.
    #[test]
    fn tells_its_keyring() {
        if std::env::var_os("RUNUP_TEST_KEYRING").is_some() {
            println!("keyring={}", session_keyring().unwrap());
        }
    }

    #[tokio::test]
    async fn a_child_has_a_session_keyring_of_its_own() {
        let Ok(ours) = session_keyring() else {
            println!("skipped: there are no keyrings here");
            return;
        };
        let mut theirs = None;
        let outcome = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::sys::tests::tells_its_keyring", "--nocapture"])
            .env("RUNUP_TEST_KEYRING", "1")
            .deadline(Deadline::after(std::time::Duration::from_secs(60)))
            .run(&Stop::never(), &mut |_, line| {
                if let Some((_, id)) = line.split_once("keyring=") {
                    theirs = id.trim().parse::<i64>().ok();
                }
            })
            .await
            .unwrap();
        assert!(outcome.success(), "{}", outcome.tail);
        assert!(theirs.is_some_and(|theirs| theirs != ours), "{theirs:?} and {ours}");
    }
}
