//! Protects the memory of this process from other processes.

/// Protects the memory and the environment of this process from all unprivileged processes, including those of its own
/// user: they cannot attach to it or open `/proc/PID/mem` or `/proc/PID/environ`, and a crash leaves no core dump. It
/// does not apply to programs that this process starts. Linux only; returns whether it is in effect.
///
/// Source: `PR_SET_DUMPABLE` in prctl(2), "Ptrace access mode checking" in ptrace(2).
#[must_use]
pub fn hide() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}
