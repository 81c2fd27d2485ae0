//! The registration state in a runner's directory.
//!
//! GitHub's runner writes these files, and a job may have replaced them by anything: no link is followed, nothing large
//! is read, and the content is a claim that the server has to confirm.

use super::error::Error;
use crate::error::chain;
use crate::host::{
    self,
    delete::delete_dir,
    file::{read_untrusted_in, remove_if_present},
};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The files that identify a runner: with them in an image, every clone would be the same runner.
pub const IDENTITY_FILES: [&str; 6] =
    [".runner", ".runner_migrated", ".credentials", ".credentials_migrated", KEY, ".service"];

/// The key, which `config.sh` creates as soon as the server has accepted its token, before it asks for the group and the
/// name and registers.
const KEY: &str = ".credentials_rsaparams";

/// The other files that `config.sh` and `run.sh` create, and that `config.sh remove` leaves.
pub const GENERATED_FILES: [&str; 8] = [
    ".env",
    ".path",
    ".setup_info",
    "svc.sh",
    "runsvc.sh",
    "run-helper.sh",
    "run-helper.cmd",
    "update.finished",
];

/// The directory of the runner's logs.
pub const LOG_DIR: &str = "_diag";
/// The work directory, unless `--work` sets another.
pub const WORK_DIR: &str = "_work";

/// How old a new key may be: as old as the token that it registers with.
const NEW: Duration = Duration::from_secs(3600);
/// The most that is read; real files have less than one kilobyte.
const LIMIT: u64 = 64 * 1024;

/// The content of `.runner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunnerFile {
    /// The runner's id on the server.
    pub agent_id: u64,
    /// Its name.
    pub agent_name: String,
    /// The URL that it was configured for; missing in a just-in-time configuration.
    pub github_url: Option<String>,
    /// The URL of its service.
    pub server_url: Option<String>,
    /// The directory of its jobs.
    pub work_folder: Option<String>,
    /// Its runner group.
    pub pool_name: Option<String>,
    /// Whether it takes one job only.
    pub ephemeral: bool,
    /// Whether it does not update itself.
    pub disable_update: bool,
}

/// The registration state of a runner's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalState {
    /// No trace of a registration. The server can still have a runner if `config.sh` was killed.
    Unconfigured,
    /// `.runner` (or `.runner_migrated`) exists and is valid.
    Configured(RunnerFile),
    /// Credentials without `.runner`: `config.sh` was interrupted, or the removal was.
    Partial {
        /// The existing files.
        files: Vec<&'static str>,
    },
    /// A file that makes the runner "configured" but is not valid.
    Corrupt {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the state of the runner in `dir`; a directory that does not exist is unconfigured.
pub fn read(dir: &Path) -> Result<LocalState, Error> {
    // GitHub's runner counts as configured with either file, and reads `.runner`.
    for file in [".runner", ".runner_migrated"] {
        match read_untrusted_in(dir, file, LIMIT) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                return Ok(match parse(&bytes) {
                    Ok(runner) => LocalState::Configured(runner),
                    Err(why) => LocalState::Corrupt { file, why },
                });
            }
            Err(
                error @ (host::Error::SymbolicLink { .. }
                | host::Error::NotAFile { .. }
                | host::Error::TooLarge { .. }),
            ) => return Ok(LocalState::Corrupt { file, why: chain(&error) }),
            // The directory does not exist, which is reported where a runner is required.
            Err(host::Error::Path { source, .. }) if source.kind() == ErrorKind::NotADirectory => {
                return Ok(LocalState::Unconfigured);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let credentials = IDENTITY_FILES.into_iter().filter(|file| file.starts_with(".credentials"));
    let files: Vec<&'static str> = present(dir, credentials)?;
    Ok(if files.is_empty() { LocalState::Unconfigured } else { LocalState::Partial { files } })
}

/// The files of one particular runner, which must not be in an image: identity, generated files, logs and work.
pub fn personal_files() -> impl Iterator<Item = &'static str> {
    IDENTITY_FILES.into_iter().chain(GENERATED_FILES).chain([LOG_DIR, WORK_DIR])
}

/// What in `dir` would make it a certain runner before it is registered, as an archive may bring it: personal files in
/// any case, as some file systems have it, and whatever else is named like credentials or a configuration. Sorted.
pub fn personal_in(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| host::Error::Path { doing: "read", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let lower = name.to_ascii_lowercase();
        let is_personal = personal_files().any(|personal| lower == personal)
            || lower.starts_with(".runner")
            || lower.starts_with(".credential")
            || matches!(lower.as_str(), ".proxy" | ".proxycredentials" | ".certificates" | ".options");
        if is_personal {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether `config.sh` has created its key: without it, nothing was registered.
#[must_use]
pub fn has_key(dir: &Path) -> bool {
    fs_err::symlink_metadata(dir.join(KEY)).is_ok()
}

/// Whether it has done so within the last hour, and so perhaps registered just before it was cut off. Later, a runner of the
/// name that was free then may well be another machine's.
#[must_use]
pub fn has_new_key(dir: &Path) -> bool {
    let Ok(made) = fs_err::symlink_metadata(dir.join(KEY)).and_then(|meta| meta.modified()) else {
        return false;
    };
    // A clock that was set back says nothing.
    made.elapsed().map_or(true, |age| age < NEW)
}

/// The unit in `.service`, if the file exists and names one.
pub fn service(dir: &Path) -> Result<Option<String>, Error> {
    let bytes = match read_untrusted_in(dir, ".service", LIMIT) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => bytes,
        // No service writes this.
        Err(
            host::Error::SymbolicLink { .. } | host::Error::NotAFile { .. } | host::Error::TooLarge { .. },
        ) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let name = String::from_utf8_lossy(&bytes).trim().trim_start_matches('\u{feff}').to_owned();
    // It is used in a path and in messages, so it must be a plain unit name.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@:".contains(c);
    let plain = name.ends_with(".service") && name.len() < 256 && name.chars().all(plain);
    Ok(Some(if plain { name } else { "(unnamed)".to_owned() }))
}

/// The existing files of a registered runner besides its identity: its service and its logs. A work directory and an
/// environment can be part of an image on purpose.
pub fn traces(dir: &Path) -> Result<Vec<&'static str>, Error> {
    present(dir, [".service", LOG_DIR])
}

/// Deletes the identity files in `dir`, but not `.service`, because the service may still exist.
pub fn clean_identity(dir: &Path) -> Result<(), Error> {
    clean_all_but_key(dir)?;
    unlink(&dir.join(KEY))
}

/// The same, except for the key, which `config.sh` uses again (`RSAFileKeyManager.CreateKey` in GitHub's runner).
pub fn clean_all_but_key(dir: &Path) -> Result<(), Error> {
    for name in IDENTITY_FILES.into_iter().filter(|name| ![".service", KEY].contains(name)) {
        unlink(&dir.join(name))?;
    }
    Ok(())
}

/// Deletes what is at `path`, including a directory, with which a job could otherwise block every removal.
pub(super) fn unlink(path: &Path) -> Result<(), Error> {
    match remove_if_present(path) {
        Err(_) if fs_err::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) => delete_dir(path)
            .map_err(|source| host::Error::Path { doing: "delete", path: path.to_owned(), source }.into()),
        other => Ok(other.map(drop)?),
    }
}

/// Deletes `.service`, because of which `config.sh remove` refuses even if the service no longer exists.
pub fn clean_service(dir: &Path) -> Result<(), Error> {
    unlink(&dir.join(".service"))
}

/// Deletes the files that the listener would read instead of the identity that config.sh wrote.
pub fn discard_migrated(dir: &Path) -> Result<(), Error> {
    [".runner_migrated", ".credentials_migrated"].iter().try_for_each(|name| unlink(&dir.join(name)))
}

/// Deletes GitHub's service script from the tree: root would run it, and config.sh cannot replace a file of root.
pub fn discard_svc(dir: &Path) -> Result<(), Error> {
    ["svc.sh", "runsvc.sh"].iter().try_for_each(|name| unlink(&dir.join(name)))
}

/// Which of the `names` exist in `dir`; a link counts even if it is broken.
fn present(dir: &Path, names: impl IntoIterator<Item = &'static str>) -> Result<Vec<&'static str>, Error> {
    let mut there = Vec::new();
    for name in names {
        match fs_err::symlink_metadata(dir.join(name)) {
            Ok(_) => there.push(name),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(there)
}

/// Parses a file of the runner: JSON after a byte order mark, with keys whose case differs between versions. In a
/// just-in-time configuration, numbers and flags are strings.
pub(super) fn parse(bytes: &[u8]) -> Result<RunnerFile, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err("it is empty".to_owned());
    }
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("it is not the expected JSON: {error}"))?;
    let get =
        |key: &str| object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
    // No name or URL from GitHub has control characters, which a terminal would interpret.
    let text = |key| {
        let text = get(key)?.as_str()?;
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    };
    let flag = |key| match get(key) {
        Some(serde_json::Value::String(text)) => text.eq_ignore_ascii_case("true"),
        value => value.and_then(serde_json::Value::as_bool).unwrap_or(false),
    };
    Ok(RunnerFile {
        agent_id: get("agentId")
            .and_then(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()))
            .filter(|id| *id > 0)
            .ok_or("it has no `agentId`")?,
        agent_name: text("agentName").ok_or("it has no `agentName`")?,
        github_url: text("gitHubUrl"),
        server_url: text("serverUrl"),
        work_folder: text("workFolder"),
        pool_name: text("poolName"),
        ephemeral: flag("ephemeral"),
        disable_update: flag("disableUpdate"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: &str = "\u{feff}{\r\n  \"agentId\": 23,\r\n  \"AgentName\": \"MBP\",\r\n  \"poolId\": 1,\r\n  \
        \"poolName\": \"Default\",\r\n  \"serverUrl\": \"https://pipelines.actions.githubusercontent.com/x\",\r\n  \
        \"GITHUBURL\": \"https://github.com/octo-org\",\r\n  \"workFolder\": \"_work\",\r\n  \"ephemeral\": true\r\n}";

    fn temp_dir(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    fn corrupt(dir: &Path) -> (&'static str, String) {
        match read(dir).unwrap() {
            LocalState::Corrupt { file, why } => (file, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_configured_runner_is_read_past_its_byte_order_mark() {
        let dir = temp_dir(&[(".runner", RUNNER.as_bytes()), (".credentials", b"{}"), (".service", b"x")]);
        let LocalState::Configured(runner) = read(dir.path()).unwrap() else { panic!() };
        assert_eq!((runner.agent_id, runner.agent_name.as_str()), (23, "MBP"));
        assert_eq!(runner.github_url.as_deref(), Some("https://github.com/octo-org"));
        assert_eq!(runner.pool_name.as_deref(), Some("Default"));
        assert!(runner.ephemeral && !runner.disable_update);
        assert!(service(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_migrated_runner_is_configured_too() {
        let dir = temp_dir(&[(".runner_migrated", RUNNER.as_bytes())]);
        assert!(matches!(read(dir.path()).unwrap(), LocalState::Configured(_)));
    }

    #[test]
    fn what_would_make_an_archive_s_tree_a_certain_runner_is_found() {
        let dir = temp_dir(&[
            (".Runner", b""),
            (".credentials_rsaparams", b""),
            (".credential_store", b""),
            ("SVC.sh", b""),
            ("run.sh", b""),
            ("run-helper.sh.template", b""),
            (".gitignore", b""),
        ]);
        std::fs::create_dir(dir.path().join("_diag")).unwrap();
        let expected = [".Runner", ".credential_store", ".credentials_rsaparams", "SVC.sh", "_diag"];
        assert_eq!(personal_in(dir.path()).unwrap(), expected);
        assert!(personal_in(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn credentials_without_a_runner_are_partial() {
        let dir = temp_dir(&[(".credentials_rsaparams", b"{}"), (".credentials", b"{}"), (".env", b"")]);
        let files = vec![".credentials", ".credentials_rsaparams"];
        assert_eq!(read(dir.path()).unwrap(), LocalState::Partial { files });
    }

    #[test]
    fn nothing_or_no_directory_is_unconfigured() {
        let dir = temp_dir(&[(".env", b"A=b"), (".service", b"x")]);
        assert_eq!(read(dir.path()).unwrap(), LocalState::Unconfigured);
        assert_eq!(read(&dir.path().join("missing")).unwrap(), LocalState::Unconfigured);
    }

    #[test]
    fn what_says_nothing_is_corrupt_and_why() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "it is empty"),
            (b"\xef\xbb\xbf\r\n", "it is empty"),
            (b"{\"agentId\": 1", "it is not the expected JSON: EOF"),
            (b"[]", "it is not the expected JSON"),
            (b"{\"agentName\":\"a\"}", "it has no `agentId`"),
            (b"{\"agentName\":\"a\",\"agentId\":-1}", "it has no `agentId`"),
            (b"{\"agentId\":1,\"agentName\":\"\"}", "it has no `agentName`"),
        ];
        for (bytes, expected) in cases {
            let (file, why) = corrupt(temp_dir(&[(".runner", bytes)]).path());
            assert!(file == ".runner" && why.starts_with(expected), "{why}");
        }
    }

    #[test]
    fn what_a_job_could_put_there_is_not_believed() {
        let dir = temp_dir(&[(".runner", &vec![b' '; 65 * 1024])]);
        assert!(corrupt(dir.path()).1.contains("larger than"));
        let dir = temp_dir(&[]);
        std::fs::create_dir(dir.path().join(".runner")).unwrap();
        assert!(corrupt(dir.path()).1.contains("not a regular file"));
        #[cfg(unix)]
        {
            let dir = temp_dir(&[("elsewhere", RUNNER.as_bytes())]);
            std::os::unix::fs::symlink("elsewhere", dir.path().join(".runner")).unwrap();
            assert!(corrupt(dir.path()).1.contains("symbolic link"));
        }
    }
}
