//! The record of what is set for a runner and its jobs, and the files in its directory that are written from it.

use crate::host;
use crate::host::file::{self, read_untrusted_in};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::net;
use crate::runner::Guard;
use crate::runner::environment::{CA_BUNDLE, HOOKS, RunnerEnvironment, own_lines};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A bundle of certificates has a few hundred kilobytes.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Where the distributions keep the certificates of the public authorities in one file.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file of the runner's directory, as it should be.
pub(crate) struct Wanted {
    pub name: &'static str,
    pub text: String,
    pub mode: u32,
}

/// What is recorded of this runner. Somebody who may not read the record sees nothing of it.
///
/// # Errors
/// It cannot be read, or is no record.
pub(crate) fn recorded(site: &Site<'_>) -> Result<RunnerEnvironment, Error> {
    let path = Journal::environment_for(&site.state, &site.request.dir);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(RunnerEnvironment::default());
        }
        Err(source) => return Err(host::Error::Path { doing: "read", path, source }.into()),
    };
    RunnerEnvironment::parse(&text).ok_or_else(|| {
        let source = std::io::Error::new(ErrorKind::InvalidData, "runup did not write it");
        host::Error::Path { doing: "read", path, source }.into()
    })
}

/// Records what is set from now on.
///
/// # Errors
/// It cannot be written.
pub(crate) fn record(site: &Site<'_>) -> Result<(), Error> {
    let path = Journal::environment_for(&site.state, &site.request.dir);
    let copy = Journal::certificates_for(&site.state, &site.request.dir);
    if site.environment.ca_file().is_none() {
        file::remove_if_present(&copy)?;
    }
    if site.environment.is_empty() {
        file::remove_written(&path)?;
        return Ok(());
    }
    site.make_state()?;
    if let Some(file) = site.environment.ca_file().filter(|file| file.exists()) {
        file::write_atomic(&copy, read_certificates(file)?.as_bytes(), 0o600)?;
    }
    Ok(file::write_atomic(&path, site.environment.render().as_bytes(), 0o600)?)
}

/// The files of the runner's directory. The `.env` keeps the operator's own lines of the one in `own`.
///
/// # Errors
/// The certificates cannot be read.
pub(crate) fn wanted_files(site: &Site<'_>, own: Option<&Path>, guard: Guard) -> Result<Vec<Wanted>, Error> {
    let now = own.and_then(|dir| text_of(site, dir, ".env", guard));
    let mut files = vec![Wanted {
        name: ".env",
        text: site.environment.dot_env(now.as_deref(), &recorded(site)?),
        mode: 0o640,
    }];
    if let Some(path) = site.environment.path() {
        files.push(Wanted { name: ".path", text: format!("{path}\n"), mode: 0o644 });
    }
    if let Some(file) = site.environment.ca_file() {
        files.push(Wanted { name: CA_BUNDLE, text: bundle(site, file)?, mode: 0o644 });
    }
    Ok(files)
}

/// Whether a file in the runner's directory is as it should be.
pub(crate) fn is_there(site: &Site<'_>, dir: &Path, wanted: &Wanted, guard: Guard) -> bool {
    text_of(site, dir, wanted.name, guard).as_deref() == Some(wanted.text.as_str())
}

/// The files of the runner's directory that are not as they should be.
///
/// # Errors
/// The certificates cannot be read.
pub(crate) fn drifted(site: &Site<'_>, guard: Guard) -> Result<Vec<&'static str>, Error> {
    let dir = site.dir();
    let files = wanted_files(site, Some(&dir), guard)?;
    let wrong = files.iter().filter(|file| !is_there(site, &dir, file, guard));
    Ok(wrong.map(|file| file.name).collect())
}

/// The text of a file in the runner's directory. In a guarded one, what is not root's is a job's, and does not count; in
/// an open one, jobs can write all files anyway.
fn text_of(site: &Site<'_>, dir: &Path, name: &str, guard: Guard) -> Option<String> {
    if guard != Guard::Open && !is_roots(site, &dir.join(name)) {
        return None;
    }
    let bytes = read_untrusted_in(dir, name, LIMIT).ok().flatten()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(unix)]
fn is_roots(site: &Site<'_>, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let isolates = site.account().ok().flatten().is_some_and(|account| site.isolates(&account));
    std::fs::symlink_metadata(path).is_ok_and(|meta| !isolates || meta.uid() == 0)
}

#[cfg(not(unix))]
fn is_roots(_: &Site<'_>, _: &Path) -> bool {
    true
}

/// The hooks in the `.env` of a runner that is to be adopted.
pub(crate) fn own_hooks(site: &Site<'_>) -> Vec<(&'static str, PathBuf)> {
    let text = text_of(site, &site.dir(), ".env", Guard::Open).unwrap_or_default();
    let lines = own_lines(&text, &site.environment).into_iter().filter_map(|line| line.split_once('='));
    let hook = |(name, value): (&str, &str)| {
        let known = HOOKS.into_iter().find(|known| *known == name)?;
        Some((known, PathBuf::from(value)))
    };
    lines.filter_map(hook).collect()
}

/// The `.path` of a runner that is adopted, unless another PATH is set: one line.
pub(crate) fn own_path(site: &Site<'_>, dir: &Path) -> Option<String> {
    let text = text_of(site, dir, ".path", Guard::Open).filter(|_| site.environment.path().is_none())?;
    let path = text.trim();
    (!path.is_empty() && !path.contains(char::is_control)).then(|| format!("{path}\n"))
}

/// The certificates of the system and those of the operator, in one text.
fn bundle(site: &Site<'_>, own: &Path) -> Result<String, Error> {
    let root = &site.request.root;
    let system =
        SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read_to_string(root.locate(Path::new(path))?).ok());
    // Without one, programs are left with what they bring along; the listener has none of its own.
    let mut text = system.unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // One that is gone was copied before.
    let copy = Journal::certificates_for(&site.state, &site.request.dir);
    text.push_str(&read_certificates(if own.exists() { own } else { &copy })?);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn read_certificates(path: &Path) -> Result<String, Error> {
    let read = std::fs::read_to_string(path);
    Ok(read.map_err(|source| net::Error::CaFile { path: path.to_owned(), source })?)
}
