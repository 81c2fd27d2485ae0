//! Finds credentials: in a file, on standard input, in a variable, in a systemd credential. Never on argv.

use super::app::{self, NamedApp};
use super::given::TokenPlace;
use super::{Credentials, Environment, Error, GivenToken};
use crate::github::Credential;
#[cfg(unix)]
use crate::host::account;
use secrecy::zeroize::Zeroizing;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

/// No token is longer, and a wrong path (a disk, a log) must not fill the memory.
pub(super) const LONGEST: u64 = 64 * 1024;

/// The options that name credentials.
#[derive(Debug, Clone, Default)]
pub struct Files<'a> {
    /// `--token-file`
    pub api: Option<&'a str>,
    /// `--token-command`
    pub command: Option<&'a str>,
    /// `--app-id`, instead of both
    pub app: Option<NamedApp>,
    /// `--registration-token-file`
    pub registration: Option<&'a str>,
    /// `--remove-token-file`
    pub remove: Option<&'a str>,
}

/// What the runners of one command share: what came from standard input, which can be read once, and Apps.
#[derive(Debug, Default)]
pub struct Piped {
    tokens: BTreeMap<&'static str, GivenToken>,
    /// The same App for all of them, so that what is known of it is asked for once.
    apps: BTreeMap<NamedApp, Credential>,
}

impl Piped {
    fn read(&mut self, what: &'static str, path: &str) -> Result<GivenToken, Error> {
        if let Some(known) = self.tokens.get(what).filter(|_| path == "-") {
            return Ok(known.clone());
        }
        let given = read(what, path)?;
        if path == "-" {
            self.tokens.insert(what, given.clone());
        }
        Ok(given)
    }

    fn app(&mut self, named: NamedApp, environment: &Environment) -> Result<Credential, Error> {
        if let Some(known) = self.apps.get(&named) {
            return Ok(known.clone());
        }
        let credential = app::credential(&named, environment)?;
        self.apps.insert(named, credential.clone());
        Ok(credential)
    }
}

/// Looks for each credential in the order of precedence: the file or command from the settings, `RUNUP_…`, a systemd
/// credential, and for the API last the variables that GitHub's own tools use.
///
/// # Errors
/// The first one that is set does not hold a usable token.
pub fn find(files: Files<'_>, environment: &Environment) -> Result<Credentials, Error> {
    find_for_each(files, environment, &mut Piped::default())
}

/// The same for one of several runners.
///
/// # Errors
/// Those of [`find`].
pub fn find_for_each(
    files: Files<'_>,
    environment: &Environment,
    piped: &mut Piped,
) -> Result<Credentials, Error> {
    let app = files.app.map(|named| piped.app(named, environment)).transpose()?;
    let mut one = |what, file: Option<&str>, variables: &[&str], systemd: &str| {
        if let Some(path) = file {
            return piped.read(what, path).map(Some);
        }
        for name in variables {
            if let Some(value) = environment.get(name) {
                return TokenPlace::variable(what, name).token(value).map(Some);
            }
        }
        let Some(dir) = environment.get("CREDENTIALS_DIRECTORY") else { return Ok(None) };
        let path = Path::new(dir).join(systemd);
        if !path.exists() {
            return Ok(None);
        }
        // systemd decides who can read it, and chmod could not change that.
        let path = path.to_string_lossy();
        let place = TokenPlace {
            source: format!("the systemd credential {systemd}"),
            ..TokenPlace::file(what, &path)
        };
        // The file is as old as the service, not as the credential.
        open(what, &path).and_then(|file| place.take(file)).map(Some)
    };
    let api = if app.is_some() {
        app
    } else if let Some(command) = files.command.filter(|_| files.api.is_none()) {
        Some(Credential::command(command, environment.for_token_command()))
    } else {
        let ours = one("token", files.api, &["RUNUP_TOKEN"], "runup.token")?;
        let github = || one("token", None, &["GITHUB_TOKEN", "GH_TOKEN"], "runup.token");
        let found: Option<GivenToken> = ours.map_or_else(github, |token| Ok(Some(token)))?;
        found.map(|found| Credential::token(found.token, &found.source))
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

/// The just-in-time configuration: from the file in the settings, with the same checks as for a token, or else from a
/// systemd credential.
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
            warn_if_open_to_group(WHAT, path, &file);
            text(WHAT, path, file).map(Some)
        }
        None => systemd().map(|path| text(WHAT, &path, open(WHAT, &path)?)).transpose(),
    }
}

fn read(what: &'static str, path: &str) -> Result<GivenToken, Error> {
    let place = TokenPlace::file(what, path);
    if path == "-" {
        return place.take(std::io::stdin());
    }
    let file = open(what, path)?;
    refuse_if_open_to_all(what, path, &file)?;
    warn_if_open_to_group(what, path, &file);
    place.take_file(file)
}

fn open(what: &'static str, path: &str) -> Result<std::fs::File, Error> {
    std::fs::File::open(path).map_err(|source| Error::CredentialUnreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The content, in a buffer that is wiped before its memory is freed.
pub(super) fn text(
    what: &'static str,
    path: &str,
    from: impl std::io::Read,
) -> Result<Zeroizing<String>, Error> {
    let unreadable = |source| Error::CredentialUnreadable { what, path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::new());
    from.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Every job of every runner on this machine could read such a file. A group can be a deliberate way to share it.
#[cfg(unix)]
pub(super) fn refuse_if_open_to_all(
    what: &'static str,
    path: &str,
    file: &std::fs::File,
) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    // A pipe of a shell (`<(…)`) belongs to this process alone, whatever its mode is.
    match file.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 => {
            Err(Error::CredentialOpenToAll { what, path: path.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(unix)]
pub(super) fn warn_if_open_to_group(what: &str, path: &str, file: &std::fs::File) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let Ok(metadata) = file.metadata() else { return };
    let is_open = metadata.is_file() && metadata.permissions().mode() & 0o040 != 0;
    if is_open && group_is_others(metadata.uid(), metadata.gid(), account::current().uid) {
        tracing::warn!(
            "the {what} in {path} can be read by its group; to change that, run: chmod 600 {path}"
        );
    }
}

/// Whether others can be members of the group of a file that this process can read without the group. In a file of
/// another user, the group is what grants access, as for a secret that a cluster mounts. By convention, root's group and
/// a group with the id of its user have no other members.
#[cfg(unix)]
fn group_is_others(owner: u32, group: u32, uid: u32) -> bool {
    let need_none = uid == 0 || uid == owner;
    need_none && group != 0 && group != owner
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "Windows has no such permissions")]
pub(super) fn refuse_if_open_to_all(_: &str, _: &str, _: &std::fs::File) -> Result<(), Error> {
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn warn_if_open_to_group(_: &str, _: &str, _: &std::fs::File) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Failure as _};

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn api(files: Files<'_>, pairs: &[(&str, &str)]) -> Option<String> {
        match find(files, &environment(pairs)).unwrap().api? {
            Credential::Token(secret, _) => Some(secret.expose().to_owned()),
            other => Some(format!("{other:?}")),
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
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        private(&file, "from-file\n");
        std::fs::write(dir.path().join("runup.token"), "from-systemd").unwrap();
        let credentials = ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap());
        let all = [("RUNUP_TOKEN", "ours"), credentials, ("GITHUB_TOKEN", "github"), ("GH_TOKEN", "gh")];

        let files = Files { api: file.to_str(), ..Files::default() };
        assert_eq!(api(files, &all).as_deref(), Some("from-file"));
        let files = Files { command: Some("fetch"), ..Files::default() };
        assert_eq!(api(files, &all).as_deref(), Some("Command(TokenCommand(\"fetch\"))"));
        assert_eq!(api(Files::default(), &all).as_deref(), Some("ours"));
        assert_eq!(api(Files::default(), &all[1..]).as_deref(), Some("from-systemd"));
        assert_eq!(api(Files::default(), &all[2..]).as_deref(), Some("github"));
        assert_eq!(api(Files::default(), &all[3..]).as_deref(), Some("gh"));
        assert_eq!(api(Files::default(), &[]), None);
    }

    #[test]
    fn a_source_without_a_token_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        private(&empty, "\n");
        let missing = dir.path().join("missing");

        let error = |path: &Path| {
            find(Files { api: path.to_str(), ..Files::default() }, &Environment::default()).unwrap_err()
        };
        assert_eq!(error(&empty).class(), Class::NoPerm);
        assert!(error(&empty).to_string().contains("empty"));
        for (text, why) in [
            ("{\"token\": \"canary\"}", "is JSON"),
            ("\"canary\"", "in quotation marks"),
            ("RUNUP_TOKEN=canary", "NAME=value"),
            ("export GH_TOKEN='canary'", "NAME=value"),
            ("two words", "one word"),
        ] {
            let said =
                find(Files::default(), &environment(&[("RUNUP_TOKEN", text)])).unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains("canary"), "{text}: {said}");
        }
        let marked = find(Files::default(), &environment(&[("RUNUP_TOKEN", "\u{feff}canary=")])).unwrap();
        assert!(matches!(marked.api, Some(Credential::Token(token, _)) if token.expose() == "canary="));
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
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("runup.token");
        std::fs::write(&file, "of-somebody").unwrap();
        let path = file.to_str().unwrap();
        let files = || Files { api: Some(path), ..Files::default() };
        for open in [0o644, 0o604, 0o444] {
            mode(&file, open);
            let error = find(files(), &Environment::default()).unwrap_err();
            assert_eq!(error.class(), Class::Config, "{open:o}");
            assert!(error.to_string().contains(path), "{error}");
            assert!(error.hint().unwrap().contains(&format!("chmod 600 {path}")), "{error}");
            assert!(!format!("{error} {error:?}").contains("of-somebody"));
        }
        for closed in [0o600, 0o400, 0o640, 0o660, 0o602] {
            mode(&file, closed);
            assert_eq!(api(files(), &[]).as_deref(), Some("of-somebody"), "{closed:o}");
        }
        // systemd chooses the mode of its own credentials.
        mode(&file, 0o444);
        let credentials = ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap());
        assert_eq!(api(Files::default(), &[credentials]).as_deref(), Some("of-somebody"));
    }
}
