//! The process's umask: 077 from the start, so that nothing that runup writes is open to others by accident. What is
//! meant for others gets its mode explicitly, and children get 022 (see [`Command`](super::Command)).

use std::sync::OnceLock;

/// What runup was started with.
static ORIGINAL: OnceLock<u32> = OnceLock::new();

/// Sets the umask to 077, once, before there are other threads. Nothing on Windows.
pub fn close() {
    #[cfg(unix)]
    ORIGINAL.get_or_init(|| set(0o077));
}

/// The umask that runup was started with; 022 where it was never changed.
#[must_use]
pub fn original() -> u32 {
    ORIGINAL.get().copied().unwrap_or(0o022)
}

/// Does `work` with the umask that runup was started with, or 022 where that would let others write: for files that the
/// user asked for, and that are no secret. The umask is the process's, so nothing else may write meanwhile.
pub fn for_others<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(unix)]
    {
        let ours = set(original() | 0o022);
        let result = work();
        set(ours);
        result
    }
    #[cfg(not(unix))]
    work()
}

#[cfg(unix)]
fn set(mask: u32) -> u32 {
    use rustix::fs::Mode;
    // Bit by bit: the type of a mode is narrower on macOS.
    let bits = [
        Mode::RUSR,
        Mode::WUSR,
        Mode::XUSR,
        Mode::RGRP,
        Mode::WGRP,
        Mode::XGRP,
        Mode::ROTH,
        Mode::WOTH,
        Mode::XOTH,
    ];
    let numbered = || bits.iter().zip((0..9).rev());
    let wanted = numbered().filter(|(_, bit)| mask & (1 << bit) != 0).map(|(mode, _)| *mode).collect();
    let before = rustix::process::umask(wanted);
    numbered().filter(|(mode, _)| before.contains(**mode)).map(|(_, bit)| 1 << bit).sum()
}
