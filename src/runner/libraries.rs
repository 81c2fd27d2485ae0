//! The libraries and programs that GitHub's runner needs on Linux, and the packages that have them: one table.
//!
//! The runner is a .NET 8 program that brings its own runtime, and that runtime loads the system's libraries by the
//! names below. `lttng-ust`, which GitHub's script installs as well, is loaded only by who asks for traces by
//! `DOTNET_LTTng`. Names that have a version in them are not written here: the package manager is asked which one it
//! has.

use crate::deadline::{Deadline, Stop};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host::packages::{self, FailureCause, Family, Name, Packages};
use crate::host::{self, Distribution, Machine, Os, Root, has_library, has_program};
use std::path::Path;
use std::time::Duration;

/// The timeout of an installation, including the wait for other package managers.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Something that the runner needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name for display.
    pub what: &'static str,
    /// How it is detected.
    probe: Probe,
    /// The packages: of Debian and Ubuntu, of Fedora and its derivatives, of SUSE.
    debian: Name,
    fedora: Name,
    suse: Name,
}

#[derive(Debug, PartialEq, Eq)]
enum Probe {
    /// A library whose name begins with one of these.
    Library(&'static [&'static str]),
    /// A program.
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
}

use Name::{Either, Newest, Plain};
use Probe::{File, Library, Program};

const fn need(what: &'static str, probe: Probe, debian: Name, fedora: Name, suse: Name) -> Need {
    Need { what, probe, debian, fedora, suse }
}

/// The table. SUSE's ICU packages have a version in their names, like Debian's, but all of them provide `libicu`.
static NEEDS: [Need; 11] = [
    need("libicu", Library(&["libicuuc.so."]), Newest("libicu"), Plain("libicu"), Plain("libicu")),
    need(
        "OpenSSL",
        Library(&["libssl.so.3", "libssl.so.1.1"]),
        // .NET 8 supports only these two.
        Either(&["libssl3t64", "libssl3", "libssl1.1"]),
        Plain("openssl-libs"),
        Plain("libopenssl3"),
    ),
    need(
        "Kerberos (GSSAPI)",
        Library(&["libgssapi_krb5.so.2"]),
        Plain("libgssapi-krb5-2"),
        Plain("krb5-libs"),
        Plain("krb5"),
    ),
    need("zlib", Library(&["libz.so.1"]), Plain("zlib1g"), Plain("zlib"), Plain("libz1")),
    need(
        "libstdc++",
        Library(&["libstdc++.so.6"]),
        Plain("libstdc++6"),
        Plain("libstdc++"),
        Plain("libstdc++6"),
    ),
    need(
        "libgcc",
        Library(&["libgcc_s.so.1"]),
        Either(&["libgcc-s1", "libgcc1"]),
        Plain("libgcc"),
        Plain("libgcc_s1"),
    ),
    need(
        "certificates",
        File(&[
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/var/lib/ca-certificates/ca-bundle.pem",
        ]),
        Plain("ca-certificates"),
        Plain("ca-certificates"),
        Plain("ca-certificates-mozilla"),
    ),
    need("ldd", Program("ldd"), Plain("libc-bin"), Plain("glibc-common"), Plain("glibc")),
    need("ldconfig", Program("ldconfig"), Plain("libc-bin"), Plain("glibc"), Plain("glibc")),
    need("grep", Program("grep"), Plain("grep"), Plain("grep"), Plain("grep")),
    need("bash", Program("bash"), Plain("bash"), Plain("bash"), Plain("bash")),
];

/// Releases whose C library is too old for the Node.js in the runner, which needs glibc 2.28: id, the last such major
/// version, its glibc.
const TOO_OLD: [(&[&str], u32, &str); 6] = [
    (&["amzn"], 2, "2.26"),
    (&["debian"], 9, "2.24"),
    (&["ubuntu"], 18, "2.27"),
    (&["rhel", "centos", "ol", "almalinux", "rocky"], 7, "2.17"),
    (&["fedora"], 28, "2.27"),
    (&["sles", "sled"], 12, "2.22"),
];

/// Systems whose packages are part of an image: installing more is refused, or undone at the next boot.
const IMAGES: [&str; 6] =
    ["opensuse-microos", "opensuse-leap-micro", "sl-micro", "sle-micro", "suse-microos", "rhcos"];

/// The errors of checking and installing the runner's libraries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The distribution is not in the table.
    #[error(
        "runup does not know how to install packages on {distribution}{}",
        if missing.is_empty() { String::new() } else { format!(", and these are missing: {}", missing.join(", ")) }
    )]
    Unknown {
        /// Its name.
        distribution: String,
        /// What is missing there.
        missing: Vec<&'static str>,
    },
    /// A distribution on which the runner's jobs cannot run.
    #[error(
        "{distribution} is too old for GitHub's runner: it has glibc {glibc}, but the runner's Node.js needs 2.28"
    )]
    TooOld {
        /// Its name.
        distribution: String,
        /// Its C library.
        glibc: &'static str,
    },
    /// Only root can install packages.
    #[error("only root can install what is missing: {}", missing.join(", "))]
    NeedsRoot {
        /// What is missing.
        missing: Vec<&'static str>,
        /// What root has to run.
        command: String,
    },
    /// The distribution's package manager is not installed.
    #[error("{program} was not found to install what is missing: {}", missing.join(", "))]
    NoManager {
        /// The program.
        program: &'static str,
        /// What is missing.
        missing: Vec<&'static str>,
    },
    /// The installation failed.
    #[error("failed to install {}: {source}", missing.join(", "))]
    NotInstalled {
        /// What is missing.
        missing: Vec<&'static str>,
        /// An image without name servers of its own.
        blind: Option<std::path::PathBuf>,
        /// Why.
        source: packages::Failure,
    },
    /// It succeeded, but something is still missing.
    #[error("installed {}, but these are still missing: {}", packages.join(", "), missing.join(", "))]
    StillMissing {
        /// What was installed.
        packages: Vec<String>,
        /// What is missing.
        missing: Vec<&'static str>,
    },
    /// A probe failed.
    #[error(transparent)]
    Host(#[from] host::Error),
}

impl Error {
    /// The command that root has to run, if that is all that is needed.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        if let Self::NeedsRoot { command, .. } = self { Some(command) } else { None }
    }

    /// The end of the package manager's output.
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        let Self::NotInstalled { source, .. } = self else { return None };
        match source {
            packages::Failure::Ended { tail, .. } => Some(tail),
            packages::Failure::NoSuchPackage { refresh, .. } => {
                refresh.as_ref().map(|(tail, _)| tail.as_str())
            }
            packages::Failure::Host(_) => None,
        }
    }

    /// Why an installation failed.
    fn cause(&self) -> FailureCause {
        let Self::NotInstalled { source, .. } = self else { return FailureCause::Other };
        match source {
            packages::Failure::Ended { cause, .. } => *cause,
            packages::Failure::NoSuchPackage { refresh, .. } => {
                refresh.as_ref().map_or(FailureCause::NotOffered, |(_, cause)| *cause)
            }
            packages::Failure::Host(_) => FailureCause::Other,
        }
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unknown { .. } | Self::TooOld { .. } => Class::Unavailable,
            Self::NeedsRoot { .. } => Class::NoPerm,
            Self::NotInstalled { source: packages::Failure::Host(error), .. } | Self::Host(error) => {
                error.class()
            }
            Self::NotInstalled { .. } => match self.cause() {
                FailureCause::Network | FailureCause::Locked => Class::TempFail,
                FailureCause::NotOffered | FailureCause::Other => Class::Os,
            },
            Self::NoManager { .. } | Self::StillMissing { .. } => Class::Os,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } => format!(
                "Install what provides these by the distribution's own means, and omit --deps: {}.",
                NEEDS.iter().map(|need| need.what).collect::<Vec<_>>().join(", ")
            ),
            Self::TooOld { .. } => {
                "Use a newer release: Debian 10, Ubuntu 20.04, RHEL 8, SLES 15, Amazon Linux 2023 or later.".into()
            }
            Self::NeedsRoot { command, .. } => format!("Run as root: {command}"),
            Self::NoManager { .. } => "Install them by other means, and omit --deps.".into(),
            Self::NotInstalled { source: packages::Failure::Host(error), .. } | Self::Host(error) => {
                return error.hint();
            }
            Self::NotInstalled { blind: Some(root), .. } if self.cause() == FailureCause::Network => format!(
                "{} has no name server: use the machine's file in the image during the build.",
                root.join("etc/resolv.conf").display()
            ),
            Self::NotInstalled { .. } => match self.cause() {
                FailureCause::Network => "Check the machine's network, proxy and package sources, then try again.".into(),
                FailureCause::Locked => "Wait until the other package manager is done, then try again.".into(),
                FailureCause::NotOffered => {
                    "Check the machine's package sources: on Ubuntu, RHEL and SLES a component may be missing.".into()
                }
                FailureCause::Other => {
                    "Fix what its output says (on Debian often with `dpkg --configure -a`), then try again.".into()
                }
            },
            Self::StillMissing { .. } => "Check which of these packages is damaged, and install it again.".into(),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Unknown { .. }
            | Self::NeedsRoot { .. }
            | Self::NoManager { .. }
            | Self::NotInstalled { .. }
            | Self::StillMissing { .. } => &situation::PACKAGES_NOT_INSTALLED,
            Self::Host(error) => error.situation(),
            Self::TooOld { .. } => &situation::UNSUPPORTED_MACHINE,
        }
    }
}

/// The entries of the table that are missing under the root for a runner of this machine; empty if it needs none.
#[must_use]
pub fn missing(root: &Root, machine: &Machine) -> Vec<&'static Need> {
    if machine.platform.os != Os::Linux {
        return Vec::new();
    }
    let there = |need: &Need| match &need.probe {
        Library(prefixes) => prefixes.iter().any(|prefix| has_library(root, prefix, machine.platform.arch)),
        Program(name) => has_program(root, name),
        File(paths) => paths.iter().any(|path| {
            root.resolve(Path::new(path))
                .is_some_and(|file| fs_err::metadata(file).is_ok_and(|meta| meta.len() > 0))
        }),
    };
    NEEDS.iter().filter(|need| !there(need)).collect()
}

/// The names of the needs.
#[must_use]
pub fn words(needs: &[&'static Need]) -> Vec<&'static str> {
    needs.iter().map(|need| need.what).collect()
}

/// The package manager of this distribution.
///
/// # Errors
/// The distribution is not in the table, or too old.
fn family(distribution: &Distribution, root: &Root, needs: &[&'static Need]) -> Result<Family, Error> {
    let unknown = || {
        let name = [&distribution.pretty, &distribution.id].into_iter().find(|name| !name.is_empty());
        let name = name.map_or_else(|| "a system without /etc/os-release".into(), Clone::clone);
        Error::Unknown { distribution: name, missing: words(needs) }
    };
    let major = distribution.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let too_old = TOO_OLD.iter().find(|(ids, last, _)| {
        ids.contains(&distribution.id.as_str()) && major.is_some_and(|major| major <= *last)
    });
    if let Some((_, _, glibc)) = too_old {
        return Err(Error::TooOld { distribution: distribution.pretty.clone(), glibc });
    }
    let is_image = IMAGES.contains(&distribution.id.as_str())
        || root.resolve(Path::new("/run/ostree-booted")).is_some()
        || root.resolve(Path::new("/ostree/repo")).is_some();
    match () {
        () if is_image => Err(unknown()),
        () if distribution.is_like(&["debian", "ubuntu"]) => Ok(Family::Apt),
        () if distribution.is_like(&["fedora", "rhel", "centos", "amzn"]) => Ok(Family::Dnf),
        () if distribution.is_like(&["suse", "opensuse", "sles"]) => Ok(Family::Zypper),
        () => Err(unknown()),
    }
}

/// The packages for these needs, each once.
fn names(needs: &[&'static Need], family: Family) -> Vec<Name> {
    let mut names = Vec::new();
    for need in needs {
        let name = match family {
            Family::Apt => need.debian,
            Family::Dnf => need.fedora,
            Family::Zypper => need.suse,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Refuses a system on which runup cannot install what is missing, before anything is changed. An unknown system on
/// which nothing is missing is accepted.
///
/// # Errors
/// [`Error::Unknown`], [`Error::TooOld`].
pub fn check(root: &Root, machine: &Machine, needs: &[&'static Need]) -> Result<(), Error> {
    match family(&machine.distribution, root, needs) {
        Err(Error::Unknown { .. }) if needs.is_empty() => Ok(()),
        other if machine.platform.os == Os::Linux => other.map(drop),
        _ => Ok(()),
    }
}

/// The shell command that installs these, for this system.
///
/// # Errors
/// As [`check`], or a stop was requested.
pub async fn command(
    root: &Root,
    distribution: &Distribution,
    needs: &[&'static Need],
    stop: &Stop,
) -> Result<String, Error> {
    let family = family(distribution, root, needs)?;
    // The command contains no proxy and nothing else of the environment.
    Ok(Packages::of(family, root, &[]).command_line(&names(needs, family), stop).await?)
}

/// Installs these, and checks that they are installed; returns the packages.
///
/// # Errors
/// They are still missing, or the installation failed.
pub async fn install(
    root: &Root,
    machine: &Machine,
    needs: &[&'static Need],
    environment: &[(String, String)],
    deadline: Deadline,
    stop: &Stop,
) -> Result<Vec<String>, Error> {
    let family = family(&machine.distribution, root, needs)?;
    let manager = Packages::of(family, root, environment);
    if !manager.is_there() {
        return Err(Error::NoManager { program: manager.program(), missing: words(needs) });
    }
    let blind = (!root.is_host() && !packages::has_name_servers(root)).then(|| root.path().to_owned());
    if let Some(root) = &blind {
        tracing::warn!(
            "the image in {} has no name server in its /etc/resolv.conf, which runup does not change: only package \
             sources that need none can be reached",
            root.display()
        );
    }
    let installed = manager.install_now(&names(needs, family), deadline.within(TIMEOUT), stop).await;
    let packages =
        installed.map_err(|source| Error::NotInstalled { missing: words(needs), blind, source })?;
    let left = missing(root, machine);
    if left.is_empty() { Ok(packages) } else { Err(Error::StillMissing { packages, missing: words(&left) }) }
}

/// The needs for these names from `ldd` or `config.sh`: sonames and programs.
#[must_use]
pub fn behind(words: &[&str]) -> Vec<&'static Need> {
    let is_behind = |need: &&Need| {
        words.iter().any(|word| match &need.probe {
            Library(prefixes) => prefixes.iter().any(|prefix| word.starts_with(prefix)),
            Program(name) => word == name,
            File(_) => false,
        })
    };
    NEEDS.iter().filter(is_behind).collect()
}

#[cfg(test)]
#[path = "libraries_tests.rs"]
mod tests;
