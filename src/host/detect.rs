//! Detects the platform. [`decide`] has the rules, as a pure function.

use super::elf::{self, Facts};
use super::platform::{Arch, Distribution, Libc, Machine, Os, Platform};
use super::{Error, Root};
use std::path::Path;

/// Programs of which every system has at least one.
const WITNESSES: [&str; 5] = ["/bin/sh", "/usr/bin/env", "/sbin/ldconfig", "/bin/busybox", "/sbin/init"];

/// The result for Linux, or for an image on Linux.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    arch: Arch,
    userland: String,
    notes: Vec<String>,
}

/// Decides which runner fits, by the kernel's machine name and by what a program is built for. `ours` is what runup was
/// compiled for (in the words of [`std::env::consts::ARCH`]), which is used if no program was found; `foreign` says
/// that the programs are those of an image, not of this machine.
fn decide(kernel: &str, program: Option<&Facts>, ours: &str, foreign: bool) -> Result<Verdict, Error> {
    let unsupported =
        |userland: &str| Error::Unsupported { kernel: kernel.into(), userland: userland.into() };
    let mut notes = Vec::new();
    let (arch, userland) = if let Some(facts) = program {
        match (facts.machine, facts.bits) {
            (elf::X86_64, 64) => (Arch::X64, "x86_64"),
            (elf::AARCH64, 64) => (Arch::Arm64, "aarch64"),
            (elf::ARM, 32) if facts.hard_float => (Arch::Arm, "32-bit ARM, hard float"),
            (elf::ARM, 32) => return Err(unsupported("32-bit ARM, soft float")),
            (elf::X86_64, 32) => return Err(unsupported("x32")),
            (elf::I386, _) => return Err(unsupported("32-bit x86")),
            (machine, bits) => return Err(unsupported(&format!("{bits}-bit ELF machine {machine}"))),
        }
    } else {
        notes.push("No program was found to examine; using the architecture of the kernel.".into());
        // Unless it is for ARM, runup can be a 32-bit build on a 64-bit system.
        match (if foreign { kernel } else { ours }, kernel) {
            (_, "x86_64" | "amd64") => (Arch::X64, "unknown"),
            ("arm", "aarch64" | "arm64") | (_, "armv7l" | "armv8l") => (Arch::Arm, "unknown"),
            (_, "aarch64" | "arm64") => (Arch::Arm64, "unknown"),
            _ => return Err(unsupported("unknown")),
        }
    };
    if arch == Arch::Arm && matches!(kernel, "armv6l" | "armv5tel" | "armv5tejl") {
        return Err(unsupported("ARM before version 7"));
    }
    match (kernel, arch) {
        _ if program.is_none() => {}
        ("aarch64" | "arm64", Arch::Arm) => notes.push(
            "The kernel is 64-bit, but the programs are 32-bit: only the 32-bit runner works here.".into(),
        ),
        ("x86_64" | "amd64", Arch::X64)
        | ("aarch64" | "arm64", Arch::Arm64)
        | ("armv7l" | "armv8l", Arch::Arm) => {}
        _ => notes.push(format!(
            "The programs are {userland} and the kernel is {kernel}: they run under emulation."
        )),
    }
    if arch == Arch::Arm {
        notes.push("GitHub has deprecated its runner for 32-bit ARM.".into());
    }
    Ok(Verdict { arch, userland: userland.into(), notes })
}

/// The C library by the loader's name; for a static program, the existing loaders decide.
fn libc_of(root: &Root, loader: Option<&str>) -> Libc {
    let by_name = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or(name);
        if file.starts_with("ld-musl-") {
            Some(Libc::Musl)
        } else if file.starts_with("ld-linux") {
            Some(Libc::Gnu)
        } else {
            None
        }
    };
    if let Some(loader) = loader {
        return by_name(loader).unwrap_or(Libc::Unknown);
    }
    let mut found = Libc::Unknown;
    for dir in ["/lib", "/lib64"] {
        let Some(entries) = root.resolve(Path::new(dir)).and_then(|path| fs_err::read_dir(path).ok()) else {
            continue;
        };
        for entry in entries.flatten() {
            match by_name(&entry.file_name().to_string_lossy()) {
                // glibc can be installed in addition; then the runner starts.
                Some(Libc::Gnu) => return Libc::Gnu,
                Some(Libc::Musl) => found = Libc::Musl,
                _ => {}
            }
        }
    }
    found
}

/// The first of the programs under the root that is an ELF file, and its path.
fn witness(root: &Root) -> Option<(String, Facts)> {
    WITNESSES.iter().find_map(|path| {
        let file = root.resolve(Path::new(path))?;
        let facts = elf::parse(&beginning(&file)?)?;
        Some(((*path).to_owned(), facts))
    })
}

/// The dynamic loader that a program of this machine names; `None` if it names none, or is a script.
#[must_use]
pub fn loader(program: &Path) -> Option<String> {
    elf::parse(&beginning(program)?)?.loader
}

/// The beginning of a file, which may be an ELF header; `None` if it is not a regular file.
pub(super) fn beginning(file: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    if !fs_err::metadata(file).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    fs_err::File::open(file).ok()?.take(elf::LIMIT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn linux(root: &Root, kernel_machine: String) -> Result<Machine, Error> {
    let witness = witness(root);
    let facts = witness.as_ref().map(|(_, facts)| facts);
    let verdict = decide(&kernel_machine, facts, std::env::consts::ARCH, !root.is_host())?;
    let libc = libc_of(root, facts.and_then(|facts| facts.loader.as_deref()));
    let userland = match &witness {
        Some((path, _)) => format!("{} (as {path})", verdict.userland),
        None => verdict.userland,
    };
    Ok(Machine {
        platform: Platform { os: Os::Linux, arch: verdict.arch },
        kernel_machine,
        userland,
        libc,
        distribution: Distribution::of(root),
        notes: verdict.notes,
    })
}

/// For other systems than Linux: one word decides; `emulated` is set if it is not that of the machine itself.
#[cfg(any(test, not(target_os = "linux")))]
fn elsewhere(os: Os, word: &str, native: Option<Arch>) -> Result<Machine, Error> {
    let seen: Option<Arch> = word.parse().ok();
    let arch = native
        .or(seen)
        .filter(|arch| *arch != Arch::Arm)
        .ok_or_else(|| Error::Unsupported { kernel: word.into(), userland: word.into() })?;
    let mut notes = Vec::new();
    if native.is_some() && native != seen {
        notes.push(format!(
            "runup runs under emulation as {word}; the machine is {arch}, and so is its runner."
        ));
    }
    Ok(Machine {
        platform: Platform { os, arch },
        kernel_machine: arch.to_string(),
        userland: word.into(),
        libc: Libc::Unknown,
        distribution: Distribution::default(),
        notes,
    })
}

#[cfg(all(unix, not(target_os = "macos")))]
pub fn machine(root: &Root) -> Result<Machine, Error> {
    let kernel = rustix::system::uname().machine().to_string_lossy().into_owned();
    linux(root, kernel)
}

/// Whether runup runs under Rosetta, where the kernel reports `x86_64`: only this setting tells.
#[cfg(target_os = "macos")]
pub fn machine(root: &Root) -> Result<Machine, Error> {
    let kernel = rustix::system::uname().machine().to_string_lossy().into_owned();
    if !root.is_host() {
        return linux(root, kernel);
    }
    let asked = std::process::Command::new("/usr/sbin/sysctl")
        .args(["-in", "sysctl.proc_translated"])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output();
    let translated = asked.is_ok_and(|answer| answer.stdout.trim_ascii() == b"1");
    elsewhere(Os::Osx, &kernel, translated.then_some(Arch::Arm64))
}

/// A 32-bit program gets the system's architecture in a separate variable; a 64-bit x86 one on ARM only the
/// processor's.
#[cfg(windows)]
pub fn machine(root: &Root) -> Result<Machine, Error> {
    let variable = |name| std::env::var(name).ok();
    let word = variable("PROCESSOR_ARCHITEW6432").or_else(|| variable("PROCESSOR_ARCHITECTURE"));
    let word = word.unwrap_or_else(|| std::env::consts::ARCH.into());
    if !root.is_host() {
        return linux(root, word.to_ascii_lowercase());
    }
    let on_arm = variable("PROCESSOR_IDENTIFIER").is_some_and(|name| name.starts_with("ARMv8"));
    elsewhere(Os::Win, &word, on_arm.then_some(Arch::Arm64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(bits: u8, machine: u16, flags: u32) -> Facts {
        elf::parse(&elf::fixture(bits, machine, flags, None)).unwrap()
    }

    #[test]
    fn the_programs_decide_and_the_kernel_is_heard() {
        let x64 = program(64, elf::X86_64, 0);
        let arm64 = program(64, elf::AARCH64, 0);
        let armhf = program(32, elf::ARM, 0x400);
        let armel = program(32, elf::ARM, 0x200);
        let i386 = program(32, elf::I386, 0);
        let x32 = program(32, elf::X86_64, 0);
        let riscv = program(64, 243, 0);
        // kernel, program, ours, image, result, number of notes
        let table = [
            ("x86_64", Some(&x64), "x86_64", false, Some(Arch::X64), 0),
            ("aarch64", Some(&arm64), "aarch64", false, Some(Arch::Arm64), 0),
            ("armv7l", Some(&armhf), "arm", false, Some(Arch::Arm), 1),
            ("aarch64", Some(&armhf), "arm", false, Some(Arch::Arm), 2),
            ("aarch64", Some(&armhf), "aarch64", false, Some(Arch::Arm), 2),
            ("armv6l", Some(&armhf), "arm", false, None, 0),
            ("armv7l", Some(&armel), "arm", false, None, 0),
            ("x86_64", Some(&i386), "x86_64", false, None, 0),
            ("i686", Some(&i386), "x86", false, None, 0),
            ("x86_64", Some(&x32), "x86_64", false, None, 0),
            ("riscv64", Some(&riscv), "riscv64", false, None, 0),
            ("x86_64", Some(&arm64), "x86_64", true, Some(Arch::Arm64), 1),
            ("aarch64", Some(&x64), "aarch64", true, Some(Arch::X64), 1),
            ("x86_64", None, "x86_64", false, Some(Arch::X64), 1),
            ("aarch64", None, "aarch64", false, Some(Arch::Arm64), 1),
            ("aarch64", None, "arm", false, Some(Arch::Arm), 2),
            ("ppc64le", None, "powerpc64", false, None, 0),
        ];
        for (kernel, program, ours, foreign, arch, notes) in table {
            let verdict = decide(kernel, program, ours, foreign);
            let case = format!("{kernel} {program:?} {ours} {foreign}: {verdict:?}");
            match (verdict, arch) {
                (Ok(verdict), Some(arch)) => {
                    assert_eq!((verdict.arch, verdict.notes.len()), (arch, notes), "{case}");
                }
                (Err(Error::Unsupported { .. }), None) => {}
                _ => panic!("{case}"),
            }
        }
    }

    #[test]
    fn emulation_elsewhere_is_seen_through() {
        let rosetta = elsewhere(Os::Osx, "x86_64", Some(Arch::Arm64)).unwrap();
        assert_eq!((rosetta.platform.to_string().as_str(), rosetta.notes.len()), ("osx-arm64", 1));
        let plain = elsewhere(Os::Win, "AMD64", None).unwrap();
        assert_eq!((plain.platform.to_string().as_str(), plain.notes.len()), ("win-x64", 0));
        assert!(matches!(elsewhere(Os::Win, "x86", None), Err(Error::Unsupported { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn an_image_is_judged_by_its_own_programs_through_its_own_links() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let at = |path: &str| root.join(Path::new(path));
        fs_err::create_dir_all(at("/usr/bin")).unwrap();
        fs_err::create_dir_all(at("/etc")).unwrap();
        symlink("usr/bin", at("/bin")).unwrap();
        symlink("/usr/bin/busybox", at("/usr/bin/sh")).unwrap();
        let busybox = elf::fixture(64, elf::AARCH64, 0, Some("/lib/ld-musl-aarch64.so.1"));
        fs_err::write(at("/usr/bin/busybox"), busybox).unwrap();
        fs_err::write(at("/etc/os-release"), "ID=alpine\nVERSION_ID=3.22\n").unwrap();

        let machine = linux(&root, "aarch64".into()).unwrap();
        assert_eq!(machine.platform.to_string(), "linux-arm64");
        assert_eq!((machine.libc, machine.distribution.id.as_str()), (Libc::Musl, "alpine"));
        assert_eq!(machine.userland, "aarch64 (as /bin/sh)");
        assert_eq!(machine.notes, [""; 0]);
    }

    #[test]
    fn a_static_shell_leaves_the_c_library_to_the_loaders_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        assert_eq!(libc_of(&root, None), Libc::Unknown);
        fs_err::create_dir_all(dir.path().join("lib")).unwrap();
        fs_err::write(dir.path().join("lib/ld-musl-x86_64.so.1"), "").unwrap();
        assert_eq!(libc_of(&root, None), Libc::Musl);
        fs_err::write(dir.path().join("lib/ld-linux-armhf.so.3"), "").unwrap();
        assert_eq!(libc_of(&root, None), Libc::Gnu);
        assert_eq!(libc_of(&root, Some("/lib/ld-musl-x86_64.so.1")), Libc::Musl);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_is_detected() {
        let machine = machine(&Root::host()).unwrap();
        assert_eq!(machine.platform.os, Os::ours());
        assert!(!machine.kernel_machine.is_empty());
    }
}
