//! The machine's package manager: which one it has, the names of packages, and the installation.
//!
//! It knows `apt-get`, `dnf` and `zypper`, but not which packages are needed. Each runs without a terminal and without
//! prompts, waits for other package managers (at boot, cloud-init and unattended upgrades run them), and has a
//! deadline. In another root it runs with `chroot`, which all of them support.

mod name;
mod output;

pub use name::Name;
use name::version_behind;
pub use output::FailureCause;
use output::{cause_of, is_waiting};

use super::command::Stream;
use super::{Command, Error, Root};
use crate::deadline::{Deadline, Stop};
use std::path::Path;
use std::time::Duration;

/// The directories of these programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long another package manager may hold its lock.
const LOCK: Duration = Duration::from_secs(300);

/// The pause between two attempts, for a program that does not wait for a lock by itself.
const PAUSE: Duration = Duration::from_secs(2);

/// The timeout of a query.
const QUESTION: Duration = Duration::from_secs(60);

/// How long an interrupted transaction may take to finish cleanly.
const GRACE: Duration = Duration::from_secs(30);

/// A family of package managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian's `apt-get`.
    Apt,
    /// Fedora's `dnf`, or its replacement in minimal images.
    Dnf,
    /// SUSE's `zypper`.
    Zypper,
}

/// An installation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The package manager failed.
    #[error("`{command}` failed with {how}")]
    Ended {
        /// The command line.
        command: String,
        /// Its exit code, in words.
        how: String,
        /// The end of its output.
        tail: String,
        /// Why.
        cause: FailureCause,
    },
    /// The package manager has no package of this name.
    #[error("{program} found no package {}", names.join(", "))]
    NoSuchPackage {
        /// The package manager.
        program: &'static str,
        /// The names of the packages.
        names: Vec<String>,
        /// The output of a failed refresh of its lists, and why it failed.
        refresh: Option<(String, FailureCause)>,
    },
    /// It could not be started, or was ended.
    #[error(transparent)]
    Host(#[from] Error),
}

/// The package manager of one root file system.
#[derive(Debug, Clone)]
pub struct Packages<'a> {
    family: Family,
    program: &'static str,
    root: &'a Root,
    /// The part of the environment that it gets: the proxies.
    proxies: Vec<(String, String)>,
}

impl<'a> Packages<'a> {
    /// The package manager under the root, with the proxies from this environment.
    #[must_use]
    pub fn of(family: Family, root: &'a Root, environment: &[(String, String)]) -> Self {
        let known: &[&'static str] = match family {
            Family::Apt => &["apt-get"],
            Family::Dnf => &["dnf", "microdnf", "yum"],
            Family::Zypper => &["zypper"],
        };
        let there = known.iter().copied().find(|program| super::has_program(root, program));
        let is_proxy = |name: &str| name.to_ascii_lowercase().ends_with("_proxy");
        Self {
            family,
            program: there.unwrap_or(known[0]),
            root,
            proxies: environment.iter().filter(|(name, _)| is_proxy(name)).cloned().collect(),
        }
    }

    /// Whether it is installed.
    #[must_use]
    pub fn is_there(&self) -> bool {
        super::has_program(self.root, self.program)
    }

    /// Its program's name.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The shell command that installs these. If a name cannot be determined now (the package lists are empty, or the
    /// query needs root), the command looks it up itself.
    pub async fn command_line(&self, names: &[Name], stop: &Stop) -> Result<String, Error> {
        let words = match self.resolve(names, stop).await? {
            Ok(found) => found,
            Err(_) => names.iter().map(|name| name.in_shell(&self.inside())).collect(),
        };
        let install = format!("{} {}", self.shown(&self.install(&[])), words.join(" "));
        Ok(match self.refresh() {
            Some(refresh) => format!("{} && {install}", self.shown(&refresh)),
            None => install,
        })
    }

    /// Refreshes the package lists and installs these, without recommended packages.
    ///
    /// # Errors
    /// Why they are not installed.
    pub async fn install_now(
        &self,
        names: &[Name],
        deadline: Deadline,
        stop: &Stop,
    ) -> Result<Vec<String>, Failure> {
        let mut refresh = None;
        if let Some(arguments) = self.refresh() {
            match self.attempt(&arguments, deadline, stop).await {
                Ok(printed) if cause_of(&printed) == FailureCause::Network => {
                    refresh = Some((printed, FailureCause::Network));
                }
                Ok(_) => {}
                // A third-party repository can be broken while the packages are in another one.
                Err(Failure::Ended { command, how, tail, cause }) if cause != FailureCause::Locked => {
                    tracing::warn!(
                        "`{command}` failed with {how}; continuing with the existing package lists"
                    );
                    refresh = Some((tail, cause));
                }
                Err(error) => return Err(error),
            }
        }
        let found = match self.resolve(names, stop).await? {
            Ok(found) => found,
            Err(names) => {
                return Err(Failure::NoSuchPackage { program: self.program, names, refresh });
            }
        };
        let packages: Vec<&str> = found.iter().map(String::as_str).collect();
        match (self.attempt(&self.install(&packages), deadline, stop).await, refresh) {
            (Ok(_), _) => Ok(found),
            // It found no package because it could not download the lists.
            (
                Err(Failure::Ended { command, how, cause: FailureCause::NotOffered, .. }),
                Some((tail, cause)),
            ) => Err(Failure::Ended { command, how, tail, cause }),
            (Err(error), _) => Err(error),
        }
    }

    /// The arguments that refresh its lists; `None` if it does that by itself.
    fn refresh(&self) -> Option<Vec<String>> {
        let words: &[&str] = match self.family {
            Family::Apt => &["update"],
            Family::Zypper => &["--non-interactive", "refresh"],
            Family::Dnf => return None,
        };
        Some(self.apt_options().into_iter().chain(words.iter().map(ToString::to_string)).collect())
    }

    fn install(&self, packages: &[&str]) -> Vec<String> {
        let words: &[&str] = match self.family {
            Family::Apt => &["install", "--yes", "--no-install-recommends"],
            Family::Dnf => &["install", "-y", "--setopt=install_weak_deps=0"],
            Family::Zypper => &["--non-interactive", "install", "--no-recommends"],
        };
        self.apt_options().into_iter().chain(words.iter().chain(packages).map(ToString::to_string)).collect()
    }

    /// `dnf` waits for its lock by itself, `zypper` by a variable.
    fn apt_options(&self) -> Vec<String> {
        if self.family != Family::Apt {
            return Vec::new();
        }
        vec![format!("--option=DPkg::Lock::Timeout={}", LOCK.as_secs())]
    }

    /// The variables that are part of the command for the user.
    fn variables(&self) -> Vec<(&'static str, String)> {
        match self.family {
            Family::Apt => vec![("DEBIAN_FRONTEND", "noninteractive".to_owned())],
            Family::Zypper => vec![("ZYPP_LOCK_TIMEOUT", LOCK.as_secs().to_string())],
            Family::Dnf => Vec::new(),
        }
    }

    /// The prefix of a shell command that runs inside the root.
    fn inside(&self) -> String {
        if self.root.is_host() {
            return String::new();
        }
        let chroot = Command::new("chroot").arg(self.root.path()).render();
        format!("{chroot} ")
    }

    /// A program with arguments, inside the root.
    fn command(&self, program: &str, arguments: &[String]) -> Command {
        let command = if self.root.is_host() {
            Command::new(program)
        } else {
            Command::new("chroot").arg(self.root.path()).arg(program)
        };
        let mut command =
            command.args(arguments.iter()).env("PATH", PATH).env("HOME", "/root").env("LC_ALL", "C");
        if self.family == Family::Apt {
            // Ubuntu's needrestart would restart services although no process uses the library yet.
            command = command.env("NEEDRESTART_SUSPEND", "1");
        }
        for (name, value) in &self.proxies {
            command = command.env(name, value);
        }
        self.variables().into_iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// The command for a shell, for display.
    fn shown(&self, arguments: &[String]) -> String {
        let variables: Vec<String> =
            self.variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words = self.command(self.program, arguments).render();
        variables.into_iter().chain([words]).collect::<Vec<_>>().join(" ")
    }

    /// Runs it, repeatedly while another process holds its lock; returns the end of its output.
    async fn attempt(
        &self,
        arguments: &[String],
        deadline: Deadline,
        stop: &Stop,
    ) -> Result<String, Failure> {
        let lock_timeout = deadline.within(LOCK);
        loop {
            let program = self.program;
            let mut log = |stream: Stream, line: &str| {
                tracing::debug!(?stream, "{program}: {line}");
                if is_waiting(line) {
                    tracing::info!("{program}: {line}");
                }
            };
            let command = self.command(program, arguments).deadline(deadline).grace(GRACE);
            let shown = command.render();
            let outcome = command.run(stop, &mut log).await?;
            if outcome.success() {
                return Ok(outcome.tail);
            }
            let cause = cause_of(&outcome.tail);
            if cause == FailureCause::Locked && !lock_timeout.passed() {
                tracing::info!("waiting for another package manager to finish");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PAUSE.min(lock_timeout.left())) => {}
                }
                continue;
            }
            return Err(Failure::Ended { command: shown, how: outcome.how(), tail: outcome.tail, cause });
        }
    }

    /// The names of the packages on this distribution; the packages that do not exist as an error.
    async fn resolve(&self, names: &[Name], stop: &Stop) -> Result<Result<Vec<String>, Vec<String>>, Error> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for name in names {
            let candidates = match name {
                Name::Plain(name) => vec![(*name).to_owned()],
                Name::Either(names) => names.iter().map(|&name| name.to_owned()).collect(),
                Name::Newest(prefix) => self.versions_of(prefix, stop).await?,
            };
            let chosen = match name {
                Name::Plain(_) => candidates.into_iter().next(),
                _ => self.first_on_offer(candidates, stop).await?,
            };
            match chosen {
                Some(name) => found.push(name),
                None => missing.push(name.in_words()),
            }
        }
        Ok(if missing.is_empty() { Ok(found) } else { Err(missing) })
    }

    /// The package names of `apt-cache` that consist of this prefix and a version, the highest first.
    async fn versions_of(&self, prefix: &str, stop: &Stop) -> Result<Vec<String>, Error> {
        let lines = self.ask(&["pkgnames", prefix], stop).await?;
        let mut names: Vec<(Vec<u32>, String)> =
            lines.into_iter().filter_map(|name| Some((version_behind(&name, prefix)?, name))).collect();
        names.sort();
        Ok(names.into_iter().rev().map(|(_, name)| name).collect())
    }

    /// Whether it can be installed: a name can be left from an older release.
    async fn first_on_offer(&self, names: Vec<String>, stop: &Stop) -> Result<Option<String>, Error> {
        for name in names {
            let lines = self.ask(&["policy", &name], stop).await?;
            let candidate = lines.iter().find_map(|line| line.trim().strip_prefix("Candidate:"));
            if candidate.is_some_and(|version| version.trim() != "(none)") {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The output of `apt-cache`; empty if it cannot be queried.
    async fn ask(&self, question: &[&str], stop: &Stop) -> Result<Vec<String>, Error> {
        let arguments: Vec<String> = question.iter().map(ToString::to_string).collect();
        let command = self.command("apt-cache", &arguments).deadline(Deadline::after(QUESTION));
        let mut lines = Vec::new();
        let mut collect = |stream, line: &str| {
            if stream == Stream::Out {
                lines.push(line.to_owned());
            }
        };
        match command.run(stop, &mut collect).await {
            Err(error @ Error::Stopped { .. }) => Err(error),
            Ok(_) => Ok(lines),
            Err(error) => {
                tracing::debug!("failed to query apt-cache: {}", crate::error::chain(&error));
                Ok(Vec::new())
            }
        }
    }
}

/// Whether the root has name servers, which is the usual cause of a failed look-up in an image.
#[must_use]
pub fn has_name_servers(root: &Root) -> bool {
    root.resolve(Path::new("/etc/resolv.conf"))
        .and_then(|file| fs_err::read_to_string(file).ok())
        .is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with("nameserver")))
}
