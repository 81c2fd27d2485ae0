//! The settings: flags over environment over file over default, and where each value came from.
//!
//! [`flags`] defines every option once; its environment variable and its key in the configuration file follow from its
//! name (see [`layers`]), so that none can be forgotten. Credentials are not options: [`credential`] finds them.
//! [`suggestion`] finds what was meant by an unknown option, key or command.

pub mod app;
pub mod credential;
pub mod flags;
mod given;
pub mod instances;
pub mod layers;
mod situations;
pub mod suggestion;

pub use given::{Credentials, GivenToken};

use crate::error::situation::Situation;
use crate::error::{Class, Failure};
use secrecy::zeroize::Zeroize as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment variable of this name.
    Variable(String),
    /// The configuration file.
    File(PathBuf),
    /// It was not set.
    Default,
}

impl Origin {
    /// The value of the highest rank wins.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Variable(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One option that has a value: its name without dashes, the value as text, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The long flag without its dashes; also the key in the file.
    pub key: String,
    /// The value as it would be written on the command line.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
    /// Whether it is a switch, whose flag takes no value.
    pub switch: bool,
}

/// The variables that set a proxy.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];

/// The variables that hold a credential.
const CREDENTIALS: [&str; 5] =
    ["RUNUP_TOKEN", "RUNUP_REGISTRATION_TOKEN", "RUNUP_REMOVE_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"];

/// The process's environment, read once and passed down; no other module asks the operating system for it.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out, because none of runup's can be.
    #[must_use]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// The variable's value, unless it is empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Whether a proxy is set, for any hosts.
    #[must_use]
    pub fn has_proxy(&self) -> bool {
        PROXIES.iter().any(|name| self.get(name).is_some())
    }

    /// Sets the proxy of all connections; `None` is none.
    pub fn set_proxy(&mut self, proxy: Option<&str>) {
        self.0.retain(|name, _| !PROXIES.contains(&name.as_str()));
        if let Some(proxy) = proxy {
            self.set("http_proxy", proxy);
            self.set("https_proxy", proxy);
        }
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(key, value)| (key.clone(), value.clone()))
    }

    /// The environment of a command that fetches a token: everything but the tokens that are set already.
    #[must_use]
    pub fn for_token_command(&self) -> Vec<(String, String)> {
        let path =
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let missing = self.get("PATH").is_none();
        let given = self.iter().filter(|(key, _)| !CREDENTIALS.contains(&key.as_str()));
        given.chain(Some(path).filter(|_| missing)).collect()
    }

    /// Wipes the credentials, once they have been read.
    pub fn wipe_credentials(&mut self) {
        for name in CREDENTIALS {
            if let Some(mut value) = self.0.remove(name) {
                value.zeroize();
            }
        }
    }

    /// The variables that the runner needs to reach GitHub, as runup does: proxies and certificates. Nothing else of the
    /// environment is passed to a child.
    #[must_use]
    pub fn for_runner(&self) -> Vec<(String, String)> {
        const NAMES: [&str; 8] = [
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ];
        NAMES.iter().filter_map(|name| Some(((*name).to_owned(), self.get(name)?.to_owned()))).collect()
    }

    /// The variables without which no program starts on Windows.
    #[must_use]
    pub fn of_windows(&self) -> Vec<(String, String)> {
        const NAMES: [&str; 7] =
            ["SystemRoot", "PATH", "PATHEXT", "TEMP", "USERPROFILE", "ProgramFiles", "ComSpec"];
        let set = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), self.get(name)?.to_owned())));
        if cfg!(windows) { set.collect() } else { Vec::new() }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A GitHub App cannot be used.
    #[error(transparent)]
    App(#[from] crate::github::AppError),
    /// A credential file could not be read.
    #[error("failed to read the {what} from {path}")]
    CredentialUnreadable {
        /// Which credential.
        what: &'static str,
        /// The file, or `-`.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A credential is empty or has characters that no token has.
    #[error("the {what} from {place} {why}")]
    CredentialMalformed {
        /// Which credential.
        what: &'static str,
        /// A path or a variable's name.
        place: String,
        /// What is wrong with it, without any of it.
        why: &'static str,
    },
    /// A credential's file can be read by every user.
    #[error("the {what} in {path} can be read by every user")]
    CredentialOpenToAll {
        /// Which credential.
        what: &'static str,
        /// The file.
        path: String,
    },
    /// Another user can change the directory of root's journals.
    #[error("refusing --state-dir {}: {} {why}, and runup runs as root", state.display(), at.display())]
    StateOfOthers {
        /// The directory.
        state: PathBuf,
        /// That, or a directory above it, or a link on the way.
        at: PathBuf,
        /// Who can change that.
        why: String,
    },
    /// An id that no user or group may have.
    #[error("{option} {id} cannot be used: ids are from 1 to 4294967293, and 65534 and 65535 are reserved")]
    UnusableId {
        /// The option.
        option: &'static str,
        /// Its value.
        id: u64,
    },
    /// The configuration file could not be read.
    #[error("failed to read the configuration file {}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file can be written by every user.
    #[error("the configuration file {} can be written by every user", path.display())]
    FileOpenToAll {
        /// The file.
        path: PathBuf,
    },
    /// Another user can change the configuration file of root.
    #[error("refusing the configuration file {}: {} {why}, and runup runs as root", path.display(), which(path, at))]
    FileOfOthers {
        /// The file.
        path: PathBuf,
        /// The file, a directory above it, or a link on the way.
        at: PathBuf,
        /// Who can change that.
        why: String,
    },
    /// It is unknown who can change the configuration file.
    #[error("failed to check who can change the configuration file {}", path.display())]
    FileUnchecked {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<crate::host::Error>,
    },
    /// The configuration file is not TOML.
    #[error("the configuration file {} is not valid TOML: {place}: {message}", path.display())]
    FileMalformed {
        /// The file.
        path: PathBuf,
        /// The line.
        place: String,
        /// Why.
        message: String,
    },
    /// The configuration file has a key that belongs to no option.
    #[error("unknown key {key:?}{} of the configuration file {}", line.map(|line| format!(" in line {line}")).unwrap_or_default(), path.display())]
    FileUnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its line.
        line: Option<usize>,
        /// The key that was probably meant.
        similar: Option<String>,
    },
    /// The configuration file has a value of a type that no option takes.
    #[error("the value of {key:?} in the configuration file {} is not a string, number, boolean or list of strings", path.display())]
    FileValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The configuration file has a table that belongs to no instance.
    #[error("{key:?} in the configuration file {} is not the table of an instance", path.display())]
    FileInstance {
        /// The file.
        path: PathBuf,
        /// The table.
        key: String,
    },
    /// The configuration file sets for one instance what holds for all.
    #[error("{key:?} cannot be set for instance {number} alone, as the configuration file {} does", path.display())]
    FileKeyForAll {
        /// The file.
        path: PathBuf,
        /// The number of the instance.
        number: u32,
        /// The key.
        key: String,
    },
    /// `--env-file` could not be read.
    #[error("failed to read --env-file {}", path.display())]
    EnvFileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A variable for jobs cannot be set. Its value can be a secret, and is not named.
    #[error("a variable of {place} cannot be set: {why}")]
    EnvVariable {
        /// The option, or the line of the file.
        place: String,
        /// Why.
        why: String,
    },
    /// `--url` is needed.
    #[error("--url is missing: the organization, repository or enterprise of the runner")]
    UrlMissing,
    /// Two options exclude each other, or one lacks its partner.
    #[error("{0}")]
    Contradiction(String),
}

/// The file itself needs no second mention.
fn which(file: &std::path::Path, at: &std::path::Path) -> String {
    if at == file { "it".into() } else { at.display().to_string() }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::App(error) => error.class(),
            Self::CredentialUnreadable { source, .. }
            | Self::FileUnreadable { source, .. }
            | Self::EnvFileUnreadable { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Class::NoInput,
                _ => Class::of_io(source, Class::Io),
            },
            Self::CredentialMalformed { .. } => Class::NoPerm,
            Self::CredentialOpenToAll { .. }
            | Self::FileOpenToAll { .. }
            | Self::FileOfOthers { .. }
            | Self::FileMalformed { .. }
            | Self::FileUnknownKey { .. }
            | Self::UnusableId { .. }
            | Self::StateOfOthers { .. }
            | Self::FileInstance { .. }
            | Self::FileKeyForAll { .. }
            | Self::FileValue { .. } => Class::Config,
            Self::FileUnchecked { source, .. } => source.class(),
            Self::UrlMissing | Self::Contradiction(_) | Self::EnvVariable { .. } => Class::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::App(error) => return error.hint(),
            Self::CredentialUnreadable { what, .. } => {
                format!("Pass a file that holds only the {what}, and that the user who runs runup can read.")
            }
            Self::StateOfOthers { .. } => "Set a directory below ones that only root can write to.".to_owned(),
            Self::UnusableId { option, .. } => format!("Pass another id, or omit {option}."),
            Self::CredentialMalformed { .. } => "Put the token there, on one line of its own.".to_owned(),
            Self::CredentialOpenToAll { path, .. } => format!(
                "Run: chmod 600 {path} (for a mounted secret, use mode 0400). Other users may have read it: consider a \
                 new token."
            ),
            Self::EnvFileUnreadable { .. } => "Pass an existing, readable file with lines of the form KEY=VALUE.".to_owned(),
            Self::EnvVariable { .. } => "Each is KEY=VALUE; --env may be repeated.".to_owned(),
            Self::FileUnreadable { .. } => {
                "Pass an existing, readable file with --config, or omit the option.".to_owned()
            }
            Self::FileOpenToAll { path } => format!(
                "It can set commands that runup runs. Check its content, then run: chmod go-w {}",
                path.display()
            ),
            Self::FileOfOthers { path, at, .. } if path == std::path::Path::new(layers::DEFAULT_FILE) => {
                format!(
                    "Its token-command would run as root. Check its content, then run: chown root:root {at} && chmod go-w {at}",
                    at = at.display(),
                )
            }
            Self::FileOfOthers { path, .. } => format!(
                "Its token-command would run as root. Check its content, then run: install -D -o root -m 644 {} {}",
                path.display(),
                layers::DEFAULT_FILE
            ),
            Self::FileUnknownKey { similar: Some(similar), .. } => {
                format!("Use `{similar} = …`; runup.toml(5) lists all keys.")
            }
            Self::FileUnknownKey { .. } => {
                "Keys are the long options without their dashes; runup.toml(5) and `runup install --help` list them."
                    .to_owned()
            }
            Self::FileInstance { .. } => {
                format!("Name the table [instance.N], with the number of the instance from 1 to {}.", instances::MOST)
            }
            Self::FileKeyForAll { .. } => "Set it above the tables, for all instances.".to_owned(),
            Self::UrlMissing => {
                "Pass --url https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/SLUG."
                    .to_owned()
            }
            _ => return None,
        })
    }

    fn situation(&self) -> &'static Situation {
        situations::of(self)
    }
}

/// Reads `90`, `30s`, `5m`, `1h 30m`. A bare number is seconds.
///
/// # Errors
/// The formats that are accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "expected a duration like 30s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_usual() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("-5s").is_err());
    }

    #[test]
    fn the_runner_gets_proxies_and_certificates_and_nothing_else() {
        let environment: Environment =
            [("https_proxy", "http://p:1"), ("RUNUP_TOKEN", "x"), ("no_proxy", "")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect();
        assert_eq!(environment.for_runner(), [("https_proxy".to_owned(), "http://p:1".to_owned())]);
    }

    #[test]
    fn a_wiped_environment_holds_no_credential() {
        let variables = CREDENTIALS.into_iter().chain(["PATH"]);
        let mut environment: Environment = variables.map(|name| (name.to_owned(), "x".to_owned())).collect();
        environment.wipe_credentials();
        assert_eq!(environment.iter().collect::<Vec<_>>(), [("PATH".to_owned(), "x".to_owned())]);
    }
}
