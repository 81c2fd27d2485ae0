//! Finds credentials where they may be: a file, standard input, a variable, a systemd credential. Never on argv.

use super::{Credentials, Environment, Error};
use crate::github::Credential;
#[cfg(unix)]
use crate::host::account;
use crate::secret::Secret;
use secrecy::zeroize::Zeroizing;
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
                    // Who may read it was systemd's decision, and nobody could put it right with chmod.
                    let path = path.to_string_lossy();
                    return open(what, &path).and_then(|file| take(what, &path, file)).map(Some);
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

/// The just-in-time configuration: the file that was named, with the same checks as a token's, else a systemd credential.
///
/// # Errors
/// It cannot be read, or every user can read it.
pub fn jit_config(file: Option<&str>, environment: &Environment) -> Result<Option<Zeroizing<String>>, Error> {
    const WHAT: &str = "just-in-time configuration";
    let systemd = || {
        let path = Path::new(environment.get("CREDENTIALS_DIRECTORY")?).join("runup.jit-config");
        path.exists().then(|| path.to_string_lossy().into_owned())
    };
    match file {
        Some("-") => text(WHAT, "-", std::io::stdin()).map(Some),
        Some(path) => {
            let file = open(WHAT, path)?;
            refuse_if_open_to_all(WHAT, path, &file)?;
            text(WHAT, path, file).map(Some)
        }
        None => systemd().map(|path| text(WHAT, &path, open(WHAT, &path)?)).transpose(),
    }
}

fn read(what: &'static str, path: &str) -> Result<Secret, Error> {
    if path == "-" {
        return take(what, path, std::io::stdin());
    }
    let file = open(what, path)?;
    refuse_if_open_to_all(what, path, &file)?;
    take(what, path, file)
}

fn open(what: &'static str, path: &str) -> Result<std::fs::File, Error> {
    std::fs::File::open(path).map_err(|source| Error::CredentialUnreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

fn take(what: &'static str, path: &str, from: impl std::io::Read) -> Result<Secret, Error> {
    let text = text(what, path, from)?;
    Secret::new(&text).ok_or_else(|| Error::CredentialMalformed { what, place: path.to_owned() })
}

/// What is there, in a buffer that does not leave it in freed memory.
fn text(what: &'static str, path: &str, from: impl std::io::Read) -> Result<Zeroizing<String>, Error> {
    let unreadable = |source| Error::CredentialUnreadable { what, path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::new());
    from.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Every job of every runner on this machine could read such a file. A group may be what shares it on purpose.
#[cfg(unix)]
fn refuse_if_open_to_all(what: &'static str, path: &str, file: &std::fs::File) -> Result<(), Error> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    // A pipe that a shell made (`<(…)`) is nobody else's, whatever its mode says.
    let metadata = match file.metadata() {
        Ok(metadata) if metadata.is_file() => metadata,
        _ => return Ok(()),
    };
    let mode = metadata.permissions().mode();
    if mode & 0o004 != 0 {
        return Err(Error::CredentialOpenToAll { what, path: path.to_owned() });
    }
    if mode & 0o040 != 0 && group_is_others(metadata.uid(), metadata.gid(), account::current().uid) {
        tracing::warn!("the {what} in {path} can be read by its group: chmod 600 {path}");
    }
    Ok(())
}

/// Whether somebody else may be in the group of a file that we could read without it. If it is somebody else's, the group
/// is what lets us in: so a cluster mounts a secret. Root's group, and the one that bears its user's number, have no other
/// members by custom.
#[cfg(unix)]
fn group_is_others(owner: u32, group: u32, we: u32) -> bool {
    let need_none = we == 0 || we == owner;
    need_none && group != 0 && group != owner
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there are no such permissions on Windows")]
fn refuse_if_open_to_all(_: &str, _: &str, _: &std::fs::File) -> Result<(), Error> {
    Ok(())
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

    fn private(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        mode(path, 0o600);
    }

    #[cfg(unix)]
    fn mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[cfg(not(unix))]
    fn mode(_: &Path, _: u32) {}

    #[test]
    fn the_file_wins_over_ours_over_systemd_over_github_s_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        private(&file, "from-file\n");
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
        private(&empty, "\n");
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

    #[test]
    #[cfg(unix)]
    fn a_group_is_warned_of_only_where_it_may_have_other_members_and_is_not_what_lets_us_in() {
        assert!(group_is_others(1000, 50, 1000), "a file of ours");
        assert!(group_is_others(0, 50, 0) && group_is_others(1000, 50, 0), "root needs no group");
        assert!(!group_is_others(0, 1001, 1001), "a cluster's secret, for the group of the pod");
        assert!(!group_is_others(0, 0, 0) && !group_is_others(1000, 1000, 1000));
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_every_user_can_read_is_refused_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runup.token");
        std::fs::write(&file, "of-somebody").unwrap();
        let path = file.to_str().unwrap();
        let files = Files { api: Some(path), ..Files::default() };
        for open in [0o644, 0o604, 0o444] {
            mode(&file, open);
            let error = find(files, &Environment::default()).unwrap_err();
            assert_eq!(error.class(), Class::Config, "{open:o}");
            assert!(error.to_string().contains(path), "{error}");
            assert!(error.hint().unwrap().contains(&format!("chmod 600 {path}")), "{error}");
            assert!(!format!("{error} {error:?}").contains("of-somebody"));
        }
        for closed in [0o600, 0o400, 0o640, 0o660, 0o602] {
            mode(&file, closed);
            assert_eq!(api(files, &[]).as_deref(), Some("of-somebody"), "{closed:o}");
        }
        // What systemd hands over is as systemd wants it.
        mode(&file, 0o444);
        let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
        assert_eq!(api(Files::default(), &[credentials]).as_deref(), Some("of-somebody"));
    }
}
