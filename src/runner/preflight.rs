//! Checks what `config.sh` would refuse, and names the package that fixes it: before something is deleted that a refusal
//! would not bring back, for a runner that is started without it, and to explain what it has refused.
//!
//! The checks depend on the text of the script, so a runner that no longer needs a library is not refused for it.

use super::libraries;
use crate::deadline::{Deadline, Stop};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host::{self, Account, Command, Distribution, Libc, Machine, Os, Root};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directories in which the script finds programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The libraries that it checks with `ldd`.
const PROBED: [&str; 3] = [
    "bin/libcoreclr.so",
    "bin/libSystem.Security.Cryptography.Native.OpenSsl.so",
    "bin/libSystem.IO.Compression.Native.so",
];
/// The script's interpreter, whose loader is this system's.
const INTERPRETER: &str = "/bin/bash";
const SCRIPT_LIMIT: u64 = 256 * 1024;
/// The most names of missing libraries: a job may have written the library that lacks them.
const MOST_NAMES: usize = 100;
/// How long the checks may take.
const PROBING: Duration = Duration::from_secs(20);

/// What the machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// musl instead of glibc.
    #[error("GitHub offers no runner for {distribution}, which uses the C library musl")]
    Musl {
        /// The distribution's name.
        distribution: String,
    },
    /// A program that config.sh calls is missing.
    #[error("config.sh needs the program {program}, which is not in {PATH}")]
    ProgramMissing {
        /// Its name.
        program: &'static str,
        /// How to install it.
        install: String,
    },
    /// libicu is missing.
    #[error("the runner needs the library libicu, which is not installed")]
    IcuMissing {
        /// How to get it.
        install: String,
    },
    /// Other libraries are missing.
    #[error("the runner needs libraries that are not installed: {}", missing.join(", "))]
    LibrariesMissing {
        /// Their names.
        missing: Vec<String>,
        /// How to install them.
        install: String,
    },
    /// A directory above the runner cannot be read.
    #[error("the user {user} cannot read {}, but the runner must be able to read every directory above it", dir.display())]
    AncestorUnreadable {
        /// The runner's user.
        user: String,
        /// The directory.
        dir: PathBuf,
    },
    /// A probe failed.
    #[error(transparent)]
    Host(#[from] host::Error),
}

impl Error {
    /// Whether a library or a program of the system's is missing.
    #[must_use]
    pub fn is_about_libraries(&self) -> bool {
        std::ptr::eq(self.situation(), &raw const situation::LIBRARIES_MISSING)
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Musl { .. } => Class::Unavailable,
            Self::ProgramMissing { .. } | Self::IcuMissing { .. } | Self::LibrariesMissing { .. } => {
                Class::Os
            }
            Self::AncestorUnreadable { .. } => Class::NoPerm,
            Self::Host(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Musl { .. } => {
                Some("Use a distribution with glibc: Debian, Ubuntu, Fedora, Amazon Linux, SUSE.".into())
            }
            Self::ProgramMissing { install, .. }
            | Self::IcuMissing { install }
            | Self::LibrariesMissing { install, .. } => Some(install.clone()),
            Self::AncestorUnreadable { user, dir } => Some(format!(
                "Run: chmod o+rx {} (or install the runner where {user} can read).",
                dir.display()
            )),
            Self::Host(error) => error.hint(),
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Musl { .. } => &situation::UNSUPPORTED_MACHINE,
            Self::ProgramMissing { .. } | Self::IcuMissing { .. } | Self::LibrariesMissing { .. } => {
                &situation::LIBRARIES_MISSING
            }
            Self::Host(error) => error.situation(),
            Self::AncestorUnreadable { .. } => &situation::DIRECTORY_ABOVE_UNREADABLE,
        }
    }
}

/// Whether GitHub has a runner for this machine's C library; checked before anything is downloaded.
///
/// # Errors
/// [`Error::Musl`].
pub fn libc(machine: &Machine) -> Result<(), Error> {
    if machine.platform.os == Os::Linux && machine.libc == Libc::Musl {
        return Err(Error::Musl { distribution: machine.distribution.pretty.clone() });
    }
    Ok(())
}

/// What `config.sh` would refuse.
enum Lack {
    Program(&'static str),
    Libraries(Vec<String>),
    Icu,
}

/// Checks the runner in `dir` for `account`.
///
/// # Errors
/// The first thing that `config.sh` would refuse.
pub async fn check(
    root: &Root,
    dir: &Path,
    account: &Account,
    limits: (Deadline, &Stop),
) -> Result<(), Error> {
    readable(root, dir, account)?;
    let Some(lack) = lacks(root, dir, account, limits).await? else { return Ok(()) };
    let names = match &lack {
        Lack::Program(name) => vec![(*name).to_owned()],
        Lack::Libraries(missing) => missing.clone(),
        Lack::Icu => vec!["libicuuc.so.".to_owned()],
    };
    let install = remedy(&names, limits.1).await?;
    Err(match lack {
        Lack::Program(program) => Error::ProgramMissing { program, install },
        Lack::Libraries(missing) => Error::LibrariesMissing { missing, install },
        Lack::Icu => Error::IcuMissing { install },
    })
}

/// Checks that `account` can read its way down to the runner in `dir`.
///
/// # Errors
/// [`Error::AncestorUnreadable`].
pub fn readable(root: &Root, dir: &Path, account: &Account) -> Result<(), Error> {
    match host::account::first_unreadable_ancestor(root, dir, account) {
        Some(ancestor) => Err(Error::AncestorUnreadable { user: account.name.clone(), dir: ancestor }),
        None => Ok(()),
    }
}

/// What the machine lacks, the first thing that `config.sh` would look for.
async fn lacks(
    root: &Root,
    dir: &Path,
    account: &Account,
    (deadline, stop): (Deadline, &Stop),
) -> Result<Option<Lack>, Error> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let script = host::file::read_untrusted(&dir.join("config.sh"), SCRIPT_LIMIT)?.unwrap_or_default();
    let script = String::from_utf8_lossy(&script).to_lowercase();
    let limits = (deadline.within(PROBING), stop);
    if script.contains("ldd") {
        if host::find_program("ldd", PATH).is_none() {
            return Ok(Some(Lack::Program("ldd")));
        }
        let missing = missing_libraries(root, dir, account, limits).await?;
        if !missing.is_empty() {
            return Ok(Some(Lack::Libraries(missing)));
        }
    }
    if script.contains("libicu") {
        let Some(ldconfig) = host::find_program("ldconfig", PATH) else {
            return Ok(Some(Lack::Program("ldconfig")));
        };
        if !has_icu(&ldconfig, limits).await? {
            return Ok(Some(Lack::Icu));
        }
    }
    Ok(None)
}

/// The hint for missing names, which `config.sh` looks for on the machine on which it runs.
async fn remedy(missing: &[String], stop: &Stop) -> Result<String, Error> {
    let words: Vec<&str> = missing.iter().map(String::as_str).collect();
    let needs = libraries::behind(&words);
    let root = Root::host();
    if needs.is_empty() {
        return Ok("Install what provides them with the distribution's package manager.".into());
    }
    match libraries::command(&root, &Distribution::of(&root), &needs, stop).await {
        Ok(command) => Ok(format!("Run: {command}; or run `runup install --deps`.")),
        Err(libraries::Error::Host(error)) => Err(error.into()),
        Err(error) => Ok(error.hint().unwrap_or_else(|| error.to_string())),
    }
}

/// The loader maps the library, so it runs as the runner's user, like `config.sh` itself.
async fn missing_libraries(
    root: &Root,
    dir: &Path,
    account: &Account,
    (end, stop): (Deadline, &Stop),
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    let mut collect = |_, line: &str| {
        if let Some((name, _)) = line.split_once("=> not found").filter(|_| missing.len() < MOST_NAMES) {
            missing.push(name.trim().to_owned());
        }
    };
    let loader = host::loader(Path::new(INTERPRETER));
    for library in PROBED.iter().filter(|library| dir.join(library).exists()) {
        // `ldd` is a script that runs the loader twice, which takes five times as long. The loader fails if a library is
        // missing, and then `ldd` names it.
        let direct = loader.iter().map(|loader| Command::new(loader).arg("--list"));
        let mut asked = Ok(());
        for command in direct.chain([Command::new("ldd")]) {
            let command = command.arg(format!("./{library}")).cwd(dir).account(account).groups_of(root);
            let command = command.env("PATH", PATH).env("LC_ALL", "C").all_lines().deadline(end);
            let outcome = command.run(stop, &mut collect).await;
            let is_listed = outcome.as_ref().is_ok_and(host::Outcome::success);
            asked = outcome.map(drop);
            if is_listed {
                break;
            }
        }
        asked?;
    }
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// The script's own check: by name in the loader's cache and directories. It fails even for a runner that is configured
/// to run without libicu.
async fn has_icu(ldconfig: &Path, (end, stop): (Deadline, &Stop)) -> Result<bool, Error> {
    // The script opens every library of the machine; reading the cache first takes a hundredth of that.
    for option in ["-p", "-NXv"] {
        let command =
            Command::new(ldconfig).arg(option).env("PATH", PATH).env("LC_ALL", "C").all_lines().deadline(end);
        let mut found = false;
        let mut look = |_, line: &str| found |= line.contains("libicu") && is_there(line);
        command.run(stop, &mut look).await?;
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the file that a line of the cache names (`NAME (KIND) => PATH`) is there, where the script looks as well; any
/// other line names none. The cache also has what somebody once passed to `ldconfig`.
fn is_there(line: &str) -> bool {
    line.split_once(") => ").is_none_or(|(_, path)| {
        let path = path.trim();
        ["/lib", "/usr/lib"].iter().any(|start| path.starts_with(start)) && Path::new(path).exists()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library of this machine, and a copy of it that needs one which nobody has. `None` without glibc.
    #[cfg(target_os = "linux")]
    fn libraries() -> Option<(Vec<u8>, Vec<u8>)> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.split_whitespace().find(|word| word.ends_with("/libgcc_s.so.1"))?;
        let whole = std::fs::read(path).ok()?;
        let mut bytes = whole.clone();
        let (needed, none) = (b"libc.so.6", b"libq.so.6");
        let found: Vec<usize> =
            (0..bytes.len() - needed.len()).filter(|at| bytes[*at..].starts_with(needed)).collect();
        for at in &found {
            bytes[*at..*at + none.len()].copy_from_slice(none);
        }
        (!found.is_empty()).then_some((whole, bytes))
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_library_that_another_one_needs_is_named() {
        let Some((whole, broken)) = libraries() else { return };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        let missing = async || {
            let limits = (Deadline::after(Duration::from_secs(60)), &Stop::never());
            missing_libraries(&Root::host(), dir.path(), &host::account::current(), limits).await.unwrap()
        };
        std::fs::write(dir.path().join(PROBED[2]), &whole).unwrap();
        assert_eq!(missing().await, [] as [String; 0]);
        std::fs::write(dir.path().join(PROBED[1]), broken).unwrap();
        assert_eq!(missing().await, ["libq.so.6"]);
        // The loader refuses this one, and `ldd` has nothing to say of it.
        std::fs::write(dir.path().join(PROBED[0]), "no library").unwrap();
        assert_eq!(missing().await, ["libq.so.6"]);
    }

    #[test]
    fn a_library_that_was_removed_may_still_be_in_the_cache() {
        assert!(is_there("\tlibicuuc.so.72 (libc6,x86-64) => /usr/lib"));
        assert!(!is_there("\tlibicuuc.so.72 (libc6,x86-64) => /usr/lib/nonexistent/libicuuc.so.72"));
        assert!(!is_there("\tlibicuuc.so.72 (libc6,x86-64) => /"));
        assert!(is_there("\tlibicuuc.so.72 -> libicuuc.so.72.1"));
    }
}
