//! What other processes can see of our own one.

/// Keeps every process that is not privileged out of our memory and our environment, those of our own user included:
/// they can neither attach to us nor open `/proc/PID/mem` or `/proc/PID/environ`, and a crash leaves no core dump.
/// Programs that we start are readable again from their `exec` on. Linux only; whether it holds is the result.
///
/// Source: `PR_SET_DUMPABLE` in prctl(2), "Ptrace access mode checking" in ptrace(2).
#[must_use]
pub fn hide() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}
