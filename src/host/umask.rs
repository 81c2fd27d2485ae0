//! The process's umask: 077 from the start, so that other users cannot read the files of runup by accident. Files for
//! other users get their mode explicitly, and children get 022 (see [`Command`](super::Command)).

use std::sync::OnceLock;

/// The umask that runup was started with.
static ORIGINAL: OnceLock<u32> = OnceLock::new();

/// Sets the umask to 077, once, before there are other threads. Does nothing on Windows.
pub fn close() {
    #[cfg(unix)]
    ORIGINAL.get_or_init(|| set(0o077));
}

/// The umask that runup was started with; 022 if it was not changed.
#[must_use]
pub fn original() -> u32 {
    ORIGINAL.get().copied().unwrap_or(0o022)
}

/// Does `work` with the umask that runup was started with, or 022 if that would let others write: for output files that
/// are not secret. The umask applies to the whole process, so nothing else may write files meanwhile.
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
    let mode = numbered().filter(|(_, bit)| mask & (1 << bit) != 0).map(|(mode, _)| *mode).collect();
    let before = rustix::process::umask(mode);
    numbered().filter(|(mode, _)| before.contains(**mode)).map(|(_, bit)| 1 << bit).sum()
}
