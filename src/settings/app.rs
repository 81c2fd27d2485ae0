//! The options of a GitHub App as the credential, and its key.

use super::credential::{LONGEST, refuse_if_open_to_all, text, warn_if_open_to_group};
use super::{Environment, Error};
use crate::error::Failure;
use crate::github::{App, CommandKind, Credential, ShellCommand, Signer};
use clap::Args;
use secrecy::zeroize::Zeroizing;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// What the key is called in messages.
const WHAT: &str = "key of the GitHub App";
/// No App's id is longer.
const LONGEST_ID: usize = 100;
/// The systemd credential.
pub const SYSTEMD: &str = "runup.app-key";

/// A GitHub App, which needs no long-lived token on the machine.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server options")]
pub struct AppOptions {
    /// GitHub App to use instead of a token: its App id or client id
    ///
    /// Its tokens live for an hour, are limited to the runners of --url, and are renewed when they expire.
    #[arg(long, value_name = "ID")]
    pub app_id: Option<String>,
    /// File with the private key of the App (PEM) [default: the systemd credential runup.app-key]
    ///
    /// It is read each time a token is needed, so it must be a file that stays.
    #[arg(long, value_name = "FILE")]
    pub app_key_file: Option<String>,
    /// Shell command that prints the private key of the App, run each time a token is needed
    #[arg(long, value_name = "COMMAND")]
    pub app_key_command: Option<String>,
    /// Shell command that signs for the App, with a key in a KMS, an HSM or a TPM
    ///
    /// It gets the text to sign on stdin, and has 30 seconds to print its RSA signature (PKCS#1 v1.5, SHA-256), raw or in
    /// base64.
    #[arg(long, value_name = "COMMAND")]
    pub app_sign_command: Option<String>,
    /// Installation of the App to use [default: the one in --url, which takes a request]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub app_installation_id: Option<u64>,
}

/// The keys of these options.
pub const KEYS: [&str; 5] =
    ["app-id", "app-key-file", "app-key-command", "app-sign-command", "app-installation-id"];

/// An App that the options name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedApp {
    /// The App's id or client id.
    pub id: String,
    /// Its installation.
    pub installation: Option<u64>,
    /// What signs; `None` for the key in the systemd credential.
    pub key: Option<NamedKey>,
}

/// What signs for an App.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedKey {
    /// `--app-key-file`
    File(String),
    /// `--app-key-command`
    Command(String),
    /// `--app-sign-command`
    SignCommand(String),
}

impl NamedKey {
    /// The option that names it.
    #[must_use]
    pub fn option(&self) -> &'static str {
        match self {
            Self::File(_) => "app-key-file",
            Self::Command(_) => "app-key-command",
            Self::SignCommand(_) => "app-sign-command",
        }
    }
}

impl AppOptions {
    /// Whether they name a key that is there at each start.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.app_id.is_some()
            && [&self.app_key_file, &self.app_key_command, &self.app_sign_command]
                .iter()
                .any(|it| it.is_some())
    }

    /// The App. Of several options for the key, the one with the highest `rank` counts.
    ///
    /// # Errors
    /// Options are missing or exclude each other.
    pub fn named<R: Ord>(&self, rank: impl Fn(&str) -> R) -> Result<Option<NamedApp>, Error> {
        let keys = [
            ("app-key-file", self.app_key_file.clone().map(NamedKey::File)),
            ("app-key-command", self.app_key_command.clone().map(NamedKey::Command)),
            ("app-sign-command", self.app_sign_command.clone().map(NamedKey::SignCommand)),
        ];
        let mut keys: Vec<_> =
            keys.into_iter().filter_map(|(name, key)| Some((rank(name), name, key?))).collect();
        keys.sort_by(|one, other| other.0.cmp(&one.0));
        let contradiction = |message: String| Err(Error::Contradiction(message));
        let Some(id) = &self.app_id else {
            let installation = self.app_installation_id.map(|_| "app-installation-id");
            return match keys.first().map(|(_, name, _)| *name).or(installation) {
                Some(name) => contradiction(format!("--{name} needs --app-id")),
                None => Ok(None),
            };
        };
        let fits = (1..=LONGEST_ID).contains(&id.len());
        if !fits || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return contradiction(
                "--app-id is not the id of a GitHub App, such as 123456, or its client id".into(),
            );
        }
        if let [(first, one, _), (second, other, _), ..] = keys.as_slice()
            && first == second
        {
            return contradiction(format!("--{one} and --{other} cannot be used together"));
        }
        let key = keys.into_iter().next().map(|(_, _, key)| key);
        if key == Some(NamedKey::File("-".to_owned())) {
            return contradiction(
                "--app-key-file cannot be -: the key is read again for each token; use a file or --app-key-command"
                    .into(),
            );
        }
        Ok(Some(NamedApp { id: id.clone(), installation: self.app_installation_id, key }))
    }
}

/// The credential of an App.
///
/// # Errors
/// Its key is missing, can be read by every user, or cannot sign.
pub(super) fn credential(named: &NamedApp, environment: &Environment) -> Result<Credential, Error> {
    let command = |kind, text: &str| ShellCommand::new(kind, text, environment.for_token_command());
    let signer = match &named.key {
        Some(NamedKey::Command(text)) => Signer::KeyCommand(command(CommandKind::AppKey, text)),
        Some(NamedKey::SignCommand(text)) => Signer::SignCommand(command(CommandKind::AppSign, text)),
        Some(NamedKey::File(path)) => {
            read_key(path, true)?;
            warn_if_open_to_group(WHAT, path, &open(path)?);
            key(path.clone(), true)
        }
        None => {
            let dir = environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
            let path = dir.map(|dir| dir.join(SYSTEMD)).filter(|path| path.exists());
            let Some(path) = path else {
                return Err(Error::Contradiction(
                    "--app-id needs the key of the App: --app-key-file, --app-key-command, --app-sign-command, or the \
                     systemd credential runup.app-key"
                        .into(),
                ));
            };
            // systemd decides who can read it, and chmod could not change that.
            key(path.to_string_lossy().into_owned(), false)
        }
    };
    let app = App::new(&named.id, named.installation, signer);
    app.check()?;
    Ok(Credential::App(Arc::new(app)))
}

fn key(path: String, private: bool) -> Signer {
    let place = path.clone();
    let read = move || read_key(&path, private).map_err(|error| Box::new(error) as Box<dyn Failure>);
    Signer::Key { place, read: Arc::new(read) }
}

/// Reads a key. A pipe could be read only once, and would hold up the second time.
fn read_key(path: &str, private: bool) -> Result<Zeroizing<String>, Error> {
    let file = open(path)?;
    if private {
        refuse_if_open_to_all(WHAT, path, &file)?;
    }
    if file.metadata().is_ok_and(|metadata| metadata.len() > LONGEST) {
        return Err(Error::CredentialMalformed {
            what: WHAT,
            place: path.to_owned(),
            why: "is too large for a key",
        });
    }
    text(WHAT, path, file)
}

/// Opens a regular file, without waiting for the writer of a pipe.
fn open(path: &str) -> Result<File, Error> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    let opened = options.open(path).and_then(|file| {
        let not_a_file = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_a_file()) }
    });
    opened.map_err(|source| Error::CredentialUnreadable { what: WHAT, path: path.to_owned(), source })
}
