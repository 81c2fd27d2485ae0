//! The machine's package manager: which one there is, what a package is called here, and one installation.
//!
//! It knows `apt-get`, `dnf` and `zypper`, and nothing of what anybody needs of them. Each runs without a terminal and
//! without questions, waits for whoever else is at work (at boot, cloud-init and unattended upgrades are), and ends at
//! a deadline. In another root it runs by `chroot`, which is the one way that all of them have in common.

mod name;
mod output;

pub use name::Name;
use name::version_behind;
pub use output::Because;
use output::{because, is_waiting};

use super::command::Stream;
use super::{Command, Error, Root};
use crate::deadline::Deadline;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where these programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long another package manager may hold its lock.
const LOCK: Duration = Duration::from_secs(300);

/// Between two attempts to get a lock that the program does not wait for by itself.
const PAUSE: Duration = Duration::from_secs(2);

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(60);

/// A transaction that is ended in the middle gets this long to end in order.
const GRACE: Duration = Duration::from_secs(30);

/// A family of package managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian's `apt-get`.
    Apt,
    /// Fedora's `dnf`, or what minimal images have in its place.
    Dnf,
    /// SUSE's `zypper`.
    Zypper,
}

/// An installation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The package manager ended with a failure.
    #[error("`{command}` failed with {how}")]
    Ended {
        /// The command line.
        command: String,
        /// Its exit code, in words.
        how: String,
        /// The end of its output.
        tail: String,
        /// Why.
        because: Because,
    },
    /// The package manager has no package of such a name.
    #[error("{program} found no package {}", names.join(", "))]
    NoSuchPackage {
        /// The package manager.
        program: &'static str,
        /// What was looked for.
        names: Vec<String>,
        /// What a failed refresh of its lists printed, and why it failed.
        refresh: Option<(String, Because)>,
    },
    /// It could not be run, or was ended.
    #[error(transparent)]
    Host(#[from] Error),
}

/// The package manager of one root file system.
#[derive(Debug, Clone)]
pub struct Packages<'a> {
    family: Family,
    program: &'static str,
    root: &'a Root,
    /// What it gets of our environment: the way to the network.
    proxies: Vec<(String, String)>,
}

impl<'a> Packages<'a> {
    /// The one under the root; of the environment it takes the proxies.
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

    /// Whether it is there at all.
    #[must_use]
    pub fn is_there(&self) -> bool {
        super::has_program(self.root, self.program)
    }

    /// Its program's name.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The shell command that installs these. A name that only the package manager knows, and cannot be asked for now
    /// (its lists are empty, or only root may), is looked up by the command itself.
    pub async fn command_line(&self, names: &[Name], stop: &CancellationToken) -> Result<String, Error> {
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

    /// Brings the lists of packages up to date and installs these, without what is merely recommended.
    ///
    /// # Errors
    /// Why they are not installed.
    pub async fn install_now(
        &self,
        names: &[Name],
        deadline: Deadline,
        stop: &CancellationToken,
    ) -> Result<Vec<String>, Failure> {
        let mut refresh = None;
        if let Some(arguments) = self.refresh() {
            match self.attempt(&arguments, deadline, stop).await {
                Ok(printed) if because(&printed) == Because::Network => {
                    refresh = Some((printed, Because::Network));
                }
                Ok(_) => {}
                // Somebody else's repository may be broken, and the packages in another one.
                Err(Failure::Ended { command, how, tail, because }) if because != Because::Locked => {
                    tracing::warn!(
                        "`{command}` failed with {how}; continuing with the existing package lists"
                    );
                    refresh = Some((tail, because));
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
            // It knows no package because it could not ask for the list of them.
            (
                Err(Failure::Ended { command, how, because: Because::NotOffered, .. }),
                Some((tail, because)),
            ) => Err(Failure::Ended { command, how, tail, because }),
            (Err(error), _) => Err(error),
        }
    }

    /// The arguments that bring its lists up to date; `None` if it does that by itself.
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

    /// Its variables that are part of what a person has to run.
    fn variables(&self) -> Vec<(&'static str, String)> {
        match self.family {
            Family::Apt => vec![("DEBIAN_FRONTEND", "noninteractive".to_owned())],
            Family::Zypper => vec![("ZYPP_LOCK_TIMEOUT", LOCK.as_secs().to_string())],
            Family::Dnf => Vec::new(),
        }
    }

    /// What goes before a program that a shell is to run inside the root.
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
            // Ubuntu's needrestart would restart the operator's services for a library that nobody used.
            command = command.env("NEEDRESTART_SUSPEND", "1");
        }
        for (name, value) in &self.proxies {
            command = command.env(name, value);
        }
        self.variables().into_iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// The command as a person would give it to a shell.
    fn shown(&self, arguments: &[String]) -> String {
        let variables: Vec<String> =
            self.variables().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words = self.command(self.program, arguments).render();
        variables.into_iter().chain([words]).collect::<Vec<_>>().join(" ")
    }

    /// Runs it until nobody else holds its lock; what it printed last.
    async fn attempt(
        &self,
        arguments: &[String],
        deadline: Deadline,
        stop: &CancellationToken,
    ) -> Result<String, Failure> {
        let patience = deadline.within(LOCK);
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
            let because = because(&outcome.tail);
            if because == Because::Locked && !patience.passed() {
                tracing::info!("waiting for another package manager to finish");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PAUSE.min(patience.left())) => {}
                }
                continue;
            }
            return Err(Failure::Ended { command: shown, how: outcome.how(), tail: outcome.tail, because });
        }
    }

    /// What the packages are called here; those of which there is none otherwise.
    async fn resolve(
        &self,
        names: &[Name],
        stop: &CancellationToken,
    ) -> Result<Result<Vec<String>, Vec<String>>, Error> {
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

    /// The names that `apt-cache` knows that begin so and go on with a version, the highest first.
    async fn versions_of(&self, prefix: &str, stop: &CancellationToken) -> Result<Vec<String>, Error> {
        let lines = self.ask(&["pkgnames", prefix], stop).await?;
        let mut names: Vec<(Vec<u32>, String)> =
            lines.into_iter().filter_map(|name| Some((version_behind(&name, prefix)?, name))).collect();
        names.sort();
        Ok(names.into_iter().rev().map(|(_, name)| name).collect())
    }

    /// A name may be left of an older release, with nothing to install behind it.
    async fn first_on_offer(
        &self,
        names: Vec<String>,
        stop: &CancellationToken,
    ) -> Result<Option<String>, Error> {
        for name in names {
            let lines = self.ask(&["policy", &name], stop).await?;
            let candidate = lines.iter().find_map(|line| line.trim().strip_prefix("Candidate:"));
            if candidate.is_some_and(|version| version.trim() != "(none)") {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// What `apt-cache` answers; nothing where it cannot be asked.
    async fn ask(&self, question: &[&str], stop: &CancellationToken) -> Result<Vec<String>, Error> {
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

/// Whether names can be looked up in the root: what a failed look-up is mostly about in an image.
#[must_use]
pub fn has_name_servers(root: &Root) -> bool {
    root.resolve(Path::new("/etc/resolv.conf"))
        .and_then(|file| fs_err::read_to_string(file).ok())
        .is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with("nameserver")))
}
