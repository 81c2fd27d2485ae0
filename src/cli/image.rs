//! Turns the flags of `bake`, and what the image itself configures, into a request.

use super::args::BakeFlags;
use super::credential::files;
use super::request::{DEFAULT_APP_KEY_FILE, DEFAULT_TOKEN_FILE, archive, base, groups, ids, target};
use super::whereabouts::absolute;
use super::{Session, jobs};
use crate::host::Root;
use crate::lifecycle::{KeepCopy, Request};
use crate::settings::credential::find;
use crate::settings::{Credentials, Error, layers};
use std::path::{Path, PathBuf};

/// The request of `bake`.
pub(super) fn bake(flags: &BakeFlags, session: &Session) -> Result<Request, super::Failed> {
    let credentials = find(files(&flags.server, session)?, &session.environment)?;
    let mut request = base(&flags.server, &flags.place, target(&flags.server)?, credentials, session)?;
    request.archive = archive(&flags.archive)?;
    request.archive.no_refresh = flags.no_refresh;
    request.keep_on_failure = flags.keep_on_failure;
    request.deps = flags.libraries.deps;
    jobs::add(&mut request.environment, &flags.jobs)?;
    jobs::of_options_only(&mut request.environment, &flags.server);
    request.groups = groups(&flags.jobs, &request)?;
    request.ids = ids(&flags.jobs, &request)?;
    let config = config_of_machine(&request.root, session)?;
    request.archive.keep_copy = copy_of_image(&config);
    request.token_files = token_files(flags, &config, &request.root)?;
    if request.target.is_none() && request.archive.archive.is_none() {
        return Err(Error::UrlMissing.into());
    }
    Ok(request)
}

/// The request of `bake --check`.
pub(super) fn check(flags: &BakeFlags, session: &Session) -> Result<Request, super::Failed> {
    let mut request = base(&flags.server, &flags.place, None, Credentials::default(), session)?;
    let config = config_of_machine(&request.root, session)?;
    request.token_files = token_files(flags, &config, &request.root)?;
    Ok(request)
}

/// Whether an image gets a verified copy beside its runner: where it takes no space, and for several runners.
fn copy_of_image(config: &layers::File) -> KeepCopy {
    let count: Option<u32> = config.value("count").and_then(|count| count.parse().ok());
    if count.is_some_and(|count| count > 1) {
        KeepCopy::Always
    } else if config.value("self-update") == Some("true") {
        // Its user will own the files, which then cannot be shared.
        KeepCopy::default()
    } else {
        KeepCopy::IfFree
    }
}

/// The path as this process sees it.
fn inside(root: &Root, path: &Path) -> PathBuf {
    root.locate(path).unwrap_or_else(|| root.join(path))
}

/// The configuration file that a machine with the image would read.
fn config_of_machine(root: &Root, session: &Session) -> Result<layers::File, Error> {
    match &session.config {
        Some(config) if root.is_host() => layers::File::at(config),
        _ => layers::File::at(&inside(root, Path::new(layers::DEFAULT_FILE))),
    }
}

/// Where a machine with the image would look for tokens.
fn token_files(flags: &BakeFlags, config: &layers::File, root: &Root) -> Result<Vec<PathBuf>, super::Failed> {
    let inside = |path: &Path| inside(root, path);
    let mut files = [DEFAULT_TOKEN_FILE, DEFAULT_APP_KEY_FILE].map(|file| inside(Path::new(file))).to_vec();
    let keys = ["token-file", "app-key-file", "registration-token-file", "remove-token-file"];
    files.extend(keys.iter().filter_map(|key| config.value(key)).map(|path| inside(Path::new(path))));
    for file in flags.server.token_file.iter().chain(&flags.server.app.app_key_file) {
        let file = absolute(Path::new(file))?;
        // The token that is used for baking is not a part of a mounted image.
        if root.is_host() || file.starts_with(root.path()) {
            files.push(file);
        }
    }
    files.retain(|file| !file.ends_with("-"));
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}
