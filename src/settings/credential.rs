//! Finds credentials where they may be: a file, standard input, a variable, a systemd credential. Never on argv.

use super::{Credentials, Environment, Error};
use crate::github::Credential;
use crate::secret::Secret;
use std::io::Read as _;
use std::path::Path;

/// No token is longer; a wrong path (a disk, a log) must not fill memory.
const LONGEST: u64 = 64 * 1024;

/// The options that name credentials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// `--token-file`
    pub api: Option<&'a str>,
    /// `--token-command`
    pub command: Option<&'a str>,
    /// `--registration-token-file`
    pub registration: Option<&'a str>,
    /// `--remove-token-file`
    pub remove: Option<&'a str>,
}

/// Looks at every place in the order of precedence: the file or the command that was named, `RUNUP_…`, a systemd credential, and
/// for the API last the variables that GitHub's own tools use.
///
/// # Errors
/// A place that was named but holds no usable token.
pub fn find(files: Files<'_>, environment: &Environment) -> Result<Credentials, Error> {
    let one =
        |what, file: Option<&str>, variables: &[&str], systemd: &str| -> Result<Option<Secret>, Error> {
            if let Some(path) = file {
                return read(what, path).map(Some);
            }
            for name in variables {
                if let Some(value) = environment.get(name) {
                    let malformed = || Error::CredentialMalformed { what, place: (*name).to_owned() };
                    return Secret::new(value).ok_or_else(malformed).map(Some);
                }
            }
            if let Some(folder) = environment.get("CREDENTIALS_DIRECTORY") {
                let path = Path::new(folder).join(systemd);
                if path.exists() {
                    return read(what, &path.to_string_lossy()).map(Some);
                }
            }
            Ok(None)
        };
    let api = if let Some(command) = files.command.filter(|_| files.api.is_none()) {
        Some(Credential::command(command, environment.for_token_command()))
    } else {
        let ours = one("token", files.api, &["RUNUP_TOKEN"], "runup.token")?;
        let github = || one("token", None, &["GITHUB_TOKEN", "GH_TOKEN"], "runup.token");
        ours.map_or_else(github, |token| Ok(Some(token)))?.map(Credential::Token)
    };
    Ok(Credentials {
        api,
        registration: one(
            "registration token",
            files.registration,
            &["RUNUP_REGISTRATION_TOKEN"],
            "runup.registration-token",
        )?,
        remove: one("remove token", files.remove, &["RUNUP_REMOVE_TOKEN"], "runup.remove-token")?,
    })
}

fn read(what: &'static str, path: &str) -> Result<Secret, Error> {
    let unreadable = |source| Error::CredentialUnreadable { what, path: path.to_owned(), source };
    let mut text = zeroizing::Text::default();
    if path == "-" {
        std::io::stdin().take(LONGEST).read_to_string(text.inner()).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        warn_if_open_to_all(what, path, &file);
        file.take(LONGEST).read_to_string(text.inner()).map_err(unreadable)?;
    }
    Secret::new(text.inner()).ok_or_else(|| Error::CredentialMalformed { what, place: path.to_owned() })
}

#[cfg(unix)]
fn warn_if_open_to_all(what: &str, path: &str, file: &std::fs::File) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(metadata) = file.metadata()
        && metadata.is_file()
        && metadata.permissions().mode() & 0o044 != 0
    {
        tracing::warn!("the {what} in {path} can be read by others on this machine: chmod 600 {path}");
    }
}

#[cfg(not(unix))]
fn warn_if_open_to_all(_: &str, _: &str, _: &std::fs::File) {}

/// A buffer that does not leave the token in freed memory.
mod zeroizing {
    use secrecy::zeroize::Zeroize as _;

    #[derive(Default)]
    pub(super) struct Text(String);

    impl Text {
        pub(super) fn inner(&mut self) -> &mut String {
            &mut self.0
        }
    }

    impl Drop for Text {
        fn drop(&mut self) {
            self.0.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Failure as _};

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn api(files: Files<'_>, pairs: &[(&str, &str)]) -> Option<String> {
        match find(files, &environment(pairs)).unwrap().api? {
            Credential::Token(secret) => Some(secret.expose().to_owned()),
            Credential::Command(command) => Some(format!("{command:?}")),
        }
    }

    #[test]
    fn the_file_wins_over_ours_over_systemd_over_github_s_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "from-file\n").unwrap();
        std::fs::write(folder.path().join("runup.token"), "from-systemd").unwrap();
        let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
        let all = [("RUNUP_TOKEN", "ours"), credentials, ("GITHUB_TOKEN", "github"), ("GH_TOKEN", "gh")];

        let files = Files { api: file.to_str(), ..Files::default() };
        assert_eq!(api(files, &all).as_deref(), Some("from-file"));
        let files = Files { command: Some("fetch"), ..Files::default() };
        assert_eq!(api(files, &all).as_deref(), Some("TokenCommand(\"fetch\")"));
        assert_eq!(api(Files::default(), &all).as_deref(), Some("ours"));
        assert_eq!(api(Files::default(), &all[1..]).as_deref(), Some("from-systemd"));
        assert_eq!(api(Files::default(), &all[2..]).as_deref(), Some("github"));
        assert_eq!(api(Files::default(), &all[3..]).as_deref(), Some("gh"));
        assert_eq!(api(Files::default(), &[]), None);
    }

    #[test]
    fn a_named_place_without_a_token_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        let missing = folder.path().join("missing");

        let error = |path: &Path| {
            find(Files { api: path.to_str(), ..Files::default() }, &Environment::default()).unwrap_err()
        };
        assert_eq!(error(&empty).class(), Class::NoPerm);
        assert!(error(&empty).to_string().contains("empty"));
        assert_eq!(error(&missing).class(), Class::NoInput);

        let spaced = find(Files::default(), &environment(&[("RUNUP_TOKEN", "two words")])).unwrap_err();
        assert!(spaced.to_string().contains("RUNUP_TOKEN"));
        assert!(!spaced.to_string().contains("two words"));
    }
}
