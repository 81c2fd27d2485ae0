//! What `config.sh` would refuse anyway, found before anything is registered, with the package that mends it.
//!
//! The script's own text says which checks it makes, so a runner that no longer needs a library is not refused for it.

use crate::deadline::Deadline;
use crate::error::{Class, Failure};
use crate::host::{self, Account, Command, Distribution, Libc, Machine, Os};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where the script looks for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The libraries that it asks `ldd` about.
const PROBED: [&str; 3] = [
    "bin/libcoreclr.so",
    "bin/libSystem.Security.Cryptography.Native.OpenSsl.so",
    "bin/libSystem.IO.Compression.Native.so",
];
const SCRIPT_LIMIT: u64 = 256 * 1024;

/// What the machine lacks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// musl instead of glibc.
    #[error("{distribution} uses the C library musl, and GitHub releases no runner for it")]
    Musl {
        /// The distribution's name.
        distribution: String,
    },
    /// A program that config.sh calls is not there.
    #[error("config.sh needs the program {program}, and it is not in {PATH}")]
    ProgramMissing {
        /// Its name.
        program: &'static str,
        /// How to get it.
        install: String,
    },
    /// libicu is not there.
    #[error("the runner needs the library libicu, and the machine has none")]
    IcuMissing {
        /// How to get it.
        install: String,
    },
    /// Other libraries are not there.
    #[error("the runner needs libraries that the machine does not have: {}", missing.join(", "))]
    LibrariesMissing {
        /// Their names.
        missing: Vec<String>,
        /// How to get them.
        install: String,
    },
    /// A folder above the runner cannot be read.
    #[error("the user {user} cannot read the folder {}, and the runner demands that of every folder above it", folder.display())]
    AncestorUnreadable {
        /// The runner's user.
        user: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A probe failed.
    #[error(transparent)]
    Host(#[from] host::Error),
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
            | Self::LibrariesMissing { install, .. } => Some(format!("Run: {install}")),
            Self::AncestorUnreadable { user, folder } => Some(format!(
                "Run: chmod o+rx {} (or put the runner where {user} can read).",
                folder.display()
            )),
            Self::Host(error) => error.hint(),
        }
    }
}

/// Whether GitHub has a runner for this machine's C library at all; asked before anything is downloaded.
///
/// # Errors
/// [`Error::Musl`].
pub fn libc(machine: &Machine) -> Result<(), Error> {
    if machine.platform.os == Os::Linux && machine.libc == Libc::Musl {
        return Err(Error::Musl { distribution: machine.distribution.pretty.clone() });
    }
    Ok(())
}

/// Checks the runner in `dir` for `account`.
///
/// `ldd` runs the loader of what it looks at, so it runs as the runner's user, as in `config.sh` itself.
///
/// # Errors
/// The first thing that `config.sh` would refuse.
pub async fn check(
    dir: &Path,
    account: &Account,
    machine: &Machine,
    stop: &CancellationToken,
) -> Result<(), Error> {
    if let Some(folder) = host::account::first_unreadable_ancestor(dir, account) {
        return Err(Error::AncestorUnreadable { user: account.name.clone(), folder });
    }
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let script = host::file::read_untrusted(&dir.join("config.sh"), SCRIPT_LIMIT)?.unwrap_or_default();
    let script = String::from_utf8_lossy(&script).to_lowercase();
    let distribution = &machine.distribution;
    if script.contains("ldd") {
        program("ldd", distribution)?;
        let missing = missing_libraries(dir, account, stop).await?;
        if !missing.is_empty() {
            let install = install_command(distribution, Need::Libraries);
            return Err(Error::LibrariesMissing { missing, install });
        }
    }
    if script.contains("libicu") {
        let ldconfig = program("ldconfig", distribution)?;
        if !has_icu(&ldconfig, stop).await? {
            return Err(Error::IcuMissing { install: install_command(distribution, Need::Icu) });
        }
    }
    Ok(())
}

fn program(name: &'static str, distribution: &Distribution) -> Result<PathBuf, Error> {
    host::find_program(name, PATH).ok_or_else(|| Error::ProgramMissing {
        program: name,
        install: install_command(distribution, Need::Loader),
    })
}

async fn missing_libraries(
    dir: &Path,
    account: &Account,
    stop: &CancellationToken,
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for library in PROBED {
        if !dir.join(library).exists() {
            continue;
        }
        let command = Command::new("ldd")
            .arg(format!("./{library}"))
            .cwd(dir)
            .account(account)
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .deadline(Deadline::after(Duration::from_secs(20)));
        let mut collect = |_, line: &str| {
            if let Some((name, _)) = line.split_once("=> not found") {
                missing.push(name.trim().to_owned());
            }
        };
        command.run(stop, &mut collect).await?;
    }
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// The script's own check: the loader's cache and folders, by name. It takes nothing else for an answer, not even a
/// runner that was told to do without.
async fn has_icu(ldconfig: &Path, stop: &CancellationToken) -> Result<bool, Error> {
    let command = Command::new(ldconfig)
        .arg("-NXv")
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .deadline(Deadline::after(Duration::from_secs(20)));
    let mut found = false;
    let mut look = |_, line: &str| found |= line.contains("libicu");
    command.run(stop, &mut look).await?;
    Ok(found)
}

/// What is to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Icu,
    Libraries,
    Loader,
}

/// The package manager's command for this distribution; the package names are those of its current releases.
fn install_command(distribution: &Distribution, need: Need) -> String {
    let family = |name: &str| distribution.id == name || distribution.id_like.iter().any(|like| like == name);
    let version = distribution.version.as_str();
    if family("debian") || family("ubuntu") {
        let icu = match (distribution.id.as_str(), version.split('.').next().unwrap_or_default()) {
            ("debian", "11") => "libicu67",
            ("debian", "12") => "libicu72",
            ("debian", _) | ("ubuntu", "25" | "26") => "libicu76",
            ("ubuntu", "20") => "libicu66",
            ("ubuntu", "22") => "libicu70",
            ("ubuntu", "24") => "libicu74",
            // A derivative: let the name be found there.
            _ => "'^libicu[0-9]+$'",
        };
        let packages = match need {
            Need::Icu => icu.to_owned(),
            Need::Libraries => format!("{icu} libssl3 libkrb5-3 zlib1g liblttng-ust1"),
            Need::Loader => "libc-bin".to_owned(),
        };
        return format!("apt-get update && apt-get install -y {packages}");
    }
    let packages = match need {
        Need::Icu => "libicu",
        Need::Libraries => "libicu openssl-libs krb5-libs zlib lttng-ust",
        Need::Loader => "glibc-common",
    };
    if family("suse") || family("opensuse") || family("sles") {
        let packages = match need {
            Need::Icu => "libicu",
            Need::Libraries => "libicu libopenssl3 krb5 libz1 liblttng-ust1",
            Need::Loader => "glibc",
        };
        return format!("zypper install -y {packages}");
    }
    if family("arch") {
        let packages = match need {
            Need::Icu => "icu",
            Need::Libraries => "icu openssl krb5 zlib lttng-ust",
            Need::Loader => "glibc",
        };
        return format!("pacman -S --noconfirm {packages}");
    }
    if family("fedora") || family("rhel") || family("amzn") {
        return format!("dnf install -y {packages}");
    }
    format!("the package manager of {}, to install what provides {packages}", distribution.pretty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(id: &str, like: &[&str], version: &str) -> Distribution {
        Distribution {
            id: id.into(),
            id_like: like.iter().map(|&like| like.into()).collect(),
            version: version.into(),
            pretty: id.to_uppercase(),
        }
    }

    #[test]
    fn the_fix_names_the_package_of_the_distribution() {
        let icu = |id, like: &[&str], version| install_command(&distribution(id, like, version), Need::Icu);
        assert!(icu("debian", &[], "12").ends_with("install -y libicu72"));
        assert!(icu("ubuntu", &["debian"], "24.04").ends_with("install -y libicu74"));
        assert!(icu("linuxmint", &["ubuntu", "debian"], "22").contains("libicu[0-9]"));
        assert_eq!(icu("amzn", &["fedora"], "2023"), "dnf install -y libicu");
        assert_eq!(icu("rocky", &["rhel", "centos", "fedora"], "9.4"), "dnf install -y libicu");
        assert_eq!(icu("opensuse-leap", &["suse", "opensuse"], "15.6"), "zypper install -y libicu");
        assert!(icu("void", &[], "").starts_with("the package manager of VOID"));
    }
}
