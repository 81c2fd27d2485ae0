//! The runners of this machine: those of its journals, and one in the default directory that was set up by hand.

use crate::host::lock;
use crate::lifecycle::context::error::{Error, JournalError, TreeError};
use crate::lifecycle::context::request::{Instance, Request};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::{LocalState, state, tree};
use crate::settings::Credentials;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Why a credential is not sent to the server of a runner.
pub(crate) const OTHER_SERVER: &str = "its server is not the one of --url";

/// The runners of this machine.
#[derive(Debug)]
pub struct LocalRunners {
    /// Each, in the order of their directories and numbers.
    pub found: Vec<LocalRunner>,
    /// The journals that cannot be read: each is of one more runner.
    pub unreadable: Vec<JournalError>,
    /// What an interrupted removal has left of runners that are gone: a journal, which may still claim a user.
    pub gone: Vec<Request>,
}

/// One of them.
#[derive(Debug)]
pub struct LocalRunner {
    /// What was requested, for this runner alone.
    pub request: Request,
    /// Why the credential is not for its server.
    pub withheld: Option<String>,
    /// Which one it is, if it is one of several of one configuration.
    pub instance: Option<Instance>,
    /// The API of its server, if runup registered it.
    api: Option<String>,
}

impl LocalRunner {
    /// Replaces the request by one that has settings of this runner's own. The directory and the user stay those that it
    /// has. A credential of its own for the API is for its own server, and no other one is sent there with it.
    pub fn set(&mut self, own: Request, has_own_credential: bool) {
        let now = &self.request;
        let mut own = Request { dir: now.dir.clone(), dir_is_default: false, user: now.user.clone(), ..own };
        if let Some(api) = &self.api {
            if own.target.take().is_some_and(|target| target.api.as_str() != api) {
                self.withheld = Some(OTHER_SERVER.to_owned());
            } else if self.withheld.is_some() && has_own_credential {
                self.withheld = None;
                own.credentials = Credentials { api: own.credentials.api.take(), ..Credentials::default() };
            }
        }
        self.request = own;
    }

    /// Its number, if it has one.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.instance.as_ref().map(|instance| instance.number)
    }

    /// By directory, and the instances of one configuration by number.
    fn order(&self) -> (&Path, Option<u32>, &Path) {
        let dir = self.request.dir.as_path();
        (self.instance.as_ref().map_or(dir, |instance| &instance.first), self.number(), dir)
    }
}

impl LocalRunners {
    /// Whether there is more than one instance of one configuration.
    #[must_use]
    pub fn are_instances(&self) -> bool {
        self.found.iter().any(|runner| runner.number().is_some_and(|number| number > 1))
    }

    /// Looks for them. A journal without an entry is what an interrupted command left, and no runner.
    ///
    /// # Errors
    /// The directory of the journals or the default directory cannot be read.
    pub fn find(site: &Site<'_>) -> Result<Self, Error> {
        let (mut journals, mut unreadable, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        for journal in Journal::each(&site.state)? {
            match journal {
                Ok(journal) if journal.entries().is_empty() => empty.push(journal.dir().to_owned()),
                Ok(journal) => journals.push(journal),
                Err(error) => unreadable.push(error),
            }
        }
        let requested = |dir: &Path| {
            let request = Request::clone(&site.request);
            Request { dir: dir.to_owned(), dir_is_default: false, ..request }
        };
        // A credential is for one server: the one of the request, or the one that all runners have.
        let servers: BTreeSet<&str> =
            journals.iter().filter_map(|journal| Some(server(journal)?.1)).collect();
        let mut found: Vec<LocalRunner> = Vec::new();
        for journal in &journals {
            let mut request = requested(journal.dir());
            // What is requested is the user of the first one.
            if journal.instance().is_some_and(|instance| instance.number > 1) && request.user.is_some() {
                request.user = journal.user().map(str::to_owned).or(request.user);
            }
            let mut withheld = None;
            if let Some((url, api)) = server(journal) {
                // Which of that server's organizations and repositories it belongs to, the journal knows.
                withheld = match request.target.take() {
                    Some(target) if target.api.as_str() != api => Some(OTHER_SERVER.to_owned()),
                    None if servers.len() > 1 => {
                        Some(format!("the runners have several servers; pass --url {url}"))
                    }
                    _ => None,
                };
            }
            let api = server(journal).map(|(_, api)| api.to_owned());
            found.push(LocalRunner { request, withheld, instance: journal.instance().cloned(), api });
        }
        let dir = &site.request.dir;
        let is_known = journals.iter().any(|journal| journal.dir() == dir);
        if !is_known && Journal::open(&site.state, dir).is_ok() && has_runner(site)? {
            let request = requested(dir);
            found.push(LocalRunner { request, withheld: None, instance: None, api: None });
        }
        found.sort_by(|one, other| one.order().cmp(&other.order()));
        let is_over = |dir: &PathBuf| {
            let here = site.request.root.locate(dir);
            here.is_some_and(|here| std::fs::symlink_metadata(here).is_err())
                // An installation that has just begun.
                && !lock::is_held(&Journal::lock_for(&site.state, dir)).unwrap_or(true)
        };
        let gone = empty.into_iter().filter(is_over).map(|dir| requested(&dir)).collect();
        Ok(Self { found, unreadable, gone })
    }

    /// Their directories.
    fn dirs(&self) -> Vec<PathBuf> {
        self.found.iter().map(|runner| runner.request.dir.clone()).collect()
    }
}

/// The URL and the API of the runner's server, if runup registered it.
fn server(journal: &Journal) -> Option<(&str, &str)> {
    let (_, registered) = journal.registered()?;
    Some((registered.url.as_str(), registered.api_url.as_str())).filter(|(_, api)| !api.is_empty())
}

/// Whether the default directory has a runner, or the rest of one.
fn has_runner(site: &Site<'_>) -> Result<bool, Error> {
    let dir = site.dir();
    if !std::fs::symlink_metadata(&dir).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(false);
    }
    let is_configured = !matches!(state::read(&dir)?, LocalState::Unconfigured);
    Ok(is_configured || tree::inspect(&dir, site.platform())?.is_runner())
}

/// Refuses a command without a directory that would do nothing in the default one, while this machine has runners in
/// others.
///
/// # Errors
/// `TreeError::Elsewhere`; the journals cannot be read.
pub fn refuse_elsewhere(site: &Site<'_>, command: &'static str) -> Result<(), Error> {
    if !site.request.dir_is_default {
        return Ok(());
    }
    let dirs = LocalRunners::find(site)?.dirs();
    if dirs.is_empty() || dirs.contains(&site.request.dir) {
        return Ok(());
    }
    Err(TreeError::Elsewhere { dir: site.request.dir.clone(), dirs, command }.into())
}

/// Refuses to choose among several runners, for a command that destroys what it chooses.
///
/// # Errors
/// `TreeError::Several`, and those of [`refuse_elsewhere`].
pub fn refuse_to_choose(site: &Site<'_>, command: &'static str) -> Result<(), Error> {
    if site.request.dir_is_default {
        let dirs = LocalRunners::find(site)?.dirs();
        if dirs.len() > 1 {
            return Err(TreeError::Several { dirs, command }.into());
        }
    }
    refuse_elsewhere(site, command)
}
