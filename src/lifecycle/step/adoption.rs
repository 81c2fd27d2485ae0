//! Finds out which runner was set up by hand in a directory, as far as root can rely on it.
//!
//! Jobs can write the directory. So the operator says at which server the runner is, root's own unit (or this machine,
//! or the operator) how it is called, and the server that the id has this name. Later, when its service is stopped, the
//! server has to see it go offline.

use crate::github::{Client, Runner, RunnerStatus};
use crate::host::{self, account};
use crate::lifecycle::context::error::{AdoptionError, Error, RegistrationError, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand::{self, HandMade};
use crate::lifecycle::state::journal::{Act, Asked, Journal, Registered, Step, TakenIn};
use crate::lifecycle::state::observed;
use crate::runner::{Guard, LocalState, RunnerFile, config_sh, environment, listener, state, tree};
use std::sync::Arc;

/// A setting of a few kilobytes.
const LIMIT: u64 = 256 * 1024;
/// The most that is shown of one variable.
const LONGEST: usize = 200;

/// A runner that was set up by hand.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its id, as its files say and the server confirms.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: Option<HandMade>,
    /// Whether that ran when this was begun.
    pub ran: bool,
    /// Its user; `None` is the one who runs this.
    user: Option<String>,
    labels: Vec<String>,
    no_default_labels: bool,
    group: Option<String>,
    /// What its jobs find, which it keeps: the names.
    pub settings: Vec<String>,
}

/// Looks at the runner, and refuses what must not be adopted.
///
/// # Errors
/// It cannot be relied on, or not be adopted.
pub(crate) async fn examine(site: &Site<'_>, journal: &Journal) -> Result<Found, Error> {
    let dir = || site.request.dir.clone();
    let file = configured(site)?;
    let service = by_hand::find(site, journal)?;
    check_service(site, service.as_ref())?;
    // A run that was cut off has checked it.
    if journal.registered().is_none_or(|(_, known)| !known.name.eq_ignore_ascii_case(&file.agent_name)) {
        check_name(site, &file, service.as_ref())?;
    }
    check_file(site, &file)?;
    let purpose = "asking the server which runner is to be adopted";
    let client = site.eyes().ok_or(RegistrationError::CredentialMissing { purpose })?;
    let (id, name) = (file.agent_id, file.agent_name.clone());
    let runner = match site.within("asking for the runner", client.runner(id)).await? {
        None => return Err(AdoptionError::Unknown { dir: dir(), name, id }.into()),
        Some(runner) if !runner.is_named(&name) => {
            return Err(AdoptionError::Forged { dir: dir(), name, id, named: runner.name }.into());
        }
        Some(runner) => runner,
    };
    let user = user(site, service.as_ref())?;
    // What a cut run has recorded counts: the service may be stopped by now.
    let earlier = journal.entry(Step::Adopt).map(|entry| &entry.act);
    let ran = match (&service, earlier) {
        (Some(one), Some(Act::Adopt { ran, .. })) => *ran || by_hand::runs(site, &one.unit).await?,
        (Some(one), _) => by_hand::runs(site, &one.unit).await?,
        (None, _) => false,
    };
    let uid = match &user {
        Some(user) => account::find(&site.request.root, user)?.map(|account| account.uid),
        None => site.runner_uid(),
    };
    if !ran && site.request.root.is_host() && !listener::listeners(&site.dir(), uid).find().is_empty() {
        return Err(ServiceError::ListenerByHand { dir: dir() }.into());
    }
    let own = |label: &&crate::github::Label| !label.is_read_only();
    Ok(Found {
        id,
        labels: runner.labels.iter().filter(own).map(|label| label.name.clone()).collect(),
        no_default_labels: !runner.labels.iter().any(crate::github::Label::is_read_only),
        group: group(site, client, &runner).await?,
        name: runner.name,
        service,
        ran,
        user,
        settings: settings(site),
    })
}

/// What the directory says of a registration.
fn configured(site: &Site<'_>) -> Result<RunnerFile, Error> {
    let dir = site.dir();
    let refused = |why: Option<String>| AdoptionError::NotRegistered { dir: site.request.dir.clone(), why };
    if std::fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_symlink()) {
        return Err(refused(Some("it is a symbolic link".into())).into());
    }
    match state::read(&dir)? {
        LocalState::Configured(file) => Ok(file),
        LocalState::Corrupt { file, why } => Err(refused(Some(format!("{file}: {why}"))).into()),
        LocalState::Partial { .. } | LocalState::Unconfigured => Err(refused(None).into()),
    }
}

/// Jobs can write the directory, so its word is not enough to touch a runner by. A name that this machine has, that
/// root gave to its service, or that the operator confirms, is.
///
/// # Errors
/// `RegistrationError::NameNotConfirmed`.
pub(crate) fn check_name(
    site: &Site<'_>,
    file: &RunnerFile,
    service: Option<&HandMade>,
) -> Result<(), Error> {
    let name = &file.agent_name;
    let confirmed = match &site.request.confirmed_name {
        Some(given) => given.eq_ignore_ascii_case(name),
        None => {
            host::hostname().eq_ignore_ascii_case(name)
                || observed::fingerprint(site).is_some_and(|fingerprint| name.contains(&fingerprint))
                || service.is_some_and(|service| service.is_of(name))
        }
    };
    if confirmed {
        return Ok(());
    }
    let dir = site.request.dir.clone();
    if let Some(wanted) = site.request.confirmed_name.clone().filter(|_| site.request.adopt) {
        return Err(AdoptionError::OtherName { dir, found: name.clone(), wanted }.into());
    }
    let (name, id) = (name.clone(), Some(file.agent_id));
    Err(Error::Registration(RegistrationError::NameNotConfirmed { dir, name, id }))
}

/// What the files say, as far as it has to agree with what the operator says.
fn check_file(site: &Site<'_>, file: &RunnerFile) -> Result<(), Error> {
    let dir = || site.request.dir.clone();
    let target = site.request.target.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let found = file.github_url.clone().unwrap_or_default();
    if !target.is_same_as(&found) {
        let given = target.url.as_str().trim_end_matches('/').to_owned();
        let found = if found.is_empty() { "an unknown URL".to_owned() } else { found };
        return Err(AdoptionError::OtherUrl { dir: dir(), given, found }.into());
    }
    if file.ephemeral {
        return Err(AdoptionError::Ephemeral { dir: dir() }.into());
    }
    let (found, wanted) = (file.work_folder.as_deref().unwrap_or(state::WORK_DIR), site.work());
    if found != wanted {
        let (found, wanted) = (found.to_owned(), wanted.to_owned());
        return Err(AdoptionError::OtherWork { dir: dir(), found, wanted }.into());
    }
    Ok(())
}

/// A service of the operator's is replaced by one of runup's, which takes root on this machine.
fn check_service(site: &Site<'_>, service: Option<&HandMade>) -> Result<(), Error> {
    let (Some(service), request) = (service, &site.request) else { return Ok(()) };
    let (dir, unit) = (request.dir.clone(), service.unit.clone());
    if request.no_service {
        return Err(ServiceError::ServiceThere { dir, unit, asked: "--service none" }.into());
    }
    if request.service.is_none() {
        return Err(ServiceError::ServiceInstalled { dir, unit }.into());
    }
    Ok(())
}

/// The user of the service, or else the owner of the directory.
fn user(site: &Site<'_>, service: Option<&HandMade>) -> Result<Option<String>, Error> {
    if !account::is_root() || !cfg!(unix) {
        return Ok(None);
    }
    let root = &site.request.root;
    let named = match service {
        Some(service) => service.user.clone().unwrap_or_else(|| "root".to_owned()),
        None => owner(site).to_string(),
    };
    let by_id =
        || named.parse().ok().map(|uid| account::find_by_id(root, uid)).transpose().map(Option::flatten);
    let account = match account::find(root, &named)? {
        Some(account) => Some(account),
        None => by_id()?,
    };
    match account {
        Some(account) if account.uid == 0 => {
            Err(AdoptionError::RunsAsRoot { dir: site.request.dir.clone() }.into())
        }
        Some(account) => Ok(Some(account.name)),
        None => Err(AdoptionError::NoUser { dir: site.request.dir.clone(), user: named }.into()),
    }
}

#[cfg(unix)]
fn owner(site: &Site<'_>) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(site.dir()).map_or(0, |meta| meta.uid())
}

#[cfg(not(unix))]
fn owner(_: &Site<'_>) -> u32 {
    0
}

/// The runner's group, by the server: jobs could have written another one.
async fn group(site: &Site<'_>, client: &Client, runner: &Runner) -> Result<Option<String>, Error> {
    match runner.runner_group_id {
        Some(id) => site.within("asking for the runner groups", client.group_name(id)).await,
        None => Ok(None),
    }
}

/// What its jobs find: the names, and the values of what steers programs, which are no secrets.
fn settings(site: &Site<'_>) -> Vec<String> {
    let read = |name| host::file::read_untrusted_in(&site.dir(), name, LIMIT).ok().flatten();
    let text =
        |name| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let (env, path) = (text(".env"), text(".path"));
    let lines =
        environment::own_lines(&env, &site.environment).into_iter().filter_map(|line| line.split_once('='));
    let path = Some(("PATH", path.trim())).filter(|(_, path)| !path.is_empty() && *path != config_sh::PATH);
    lines.chain(path).map(|(name, value)| shown(name, value)).collect()
}

fn shown(name: &str, value: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let steers = upper.ends_with("_PROXY")
        || upper.starts_with("LD_")
        || environment::HOOKS.contains(&name)
        || ["PATH", "BASH_ENV", "NODE_OPTIONS", "SSL_CERT_FILE"].contains(&name);
    // A proxy's user and password are none of a log's business.
    let plain = match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => value.to_owned(),
    };
    let text = if steers { format!("{name}={plain}") } else { name.to_owned() };
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(LONGEST).collect()
}

impl Found {
    /// The context in which it is converted: what it has stays, unless another is requested.
    pub(crate) fn site<'a>(&self, site: &Site<'a>) -> Site<'a> {
        let mut request = (*site.request).clone();
        request.adopt = true;
        if let Some(registration) = &mut request.registration {
            let options = &mut registration.options;
            if options.labels.is_none() && !self.labels.is_empty() {
                options.labels = self.labels.join(",").parse().ok();
                options.no_default_labels = self.no_default_labels;
            }
            options.group = options.group.take().or_else(|| self.group.clone());
        }
        let user = self.user.clone().filter(|_| request.user_is_default).or_else(|| site.user.clone());
        Site { request: Arc::new(request), user, ..site.clone() }
    }

    /// What the journal is to say of it; `site` is that of [`Self::site`].
    pub(crate) fn record(&self, site: &Site<'_>, journal: &Journal) -> Result<TakenIn, Error> {
        let (request, target) = (&site.request, site.request.target.as_ref());
        let target = target.ok_or(crate::settings::Error::UrlMissing)?;
        let mut acts = Vec::new();
        if journal.entry(Step::PlaceRunner).is_none() {
            let report = tree::inspect(&site.dir(), site.platform())?;
            acts.push(Act::PlaceRunner {
                version: report.version.map(|version| version.to_string()),
                platform: site.platform().to_string(),
                sha256: None,
                verified: false,
                in_place: false,
                current_at: None,
                replaces: None,
                guard: Guard::Open,
            });
        }
        if journal.registered().is_none() {
            acts.push(Act::Register(Registered {
                url: target.url.to_string(),
                api_url: target.api.to_string(),
                name: self.name.clone(),
                template: request
                    .registration
                    .as_ref()
                    .map(|wanted| wanted.name.to_string())
                    .unwrap_or_default(),
                unique: false,
                agent_id: Some(self.id),
                // Until it has gone offline with its service.
                confirmed: false,
                name_was_free: false,
                may_exist: false,
                unused: false,
                asked: Asked::of(request),
                adopted: true,
            }));
        }
        acts.push(Act::Adopt {
            unit: self.service.as_ref().map(|service| service.unit.clone()),
            ran: self.ran,
        });
        Ok(TakenIn { acts, user: self.user.clone(), machine: observed::fingerprint(site) })
    }
}

/// Refuses a runner that is online although its service is stopped.
///
/// # Errors
/// `AdoptionError::StillOnline`.
pub(crate) async fn check_offline(site: &Site<'_>, found: &Found) -> Result<(), Error> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);
    const POLL: std::time::Duration = std::time::Duration::from_millis(500);
    let Some(client) = site.eyes() else { return Ok(()) };
    let deadline = site.deadline.within(PATIENCE);
    loop {
        let (dir, name, id) = (site.request.dir.clone(), found.name.clone(), found.id);
        let asked = client.runner_unless_gone(id, &name);
        match site.within("asking for the runner", asked).await? {
            None => return Err(AdoptionError::Unknown { dir, name, id }.into()),
            Some(runner) if runner.status != RunnerStatus::Online && !runner.busy => return Ok(()),
            Some(_) => {}
        }
        if deadline.passed() {
            return Err(AdoptionError::StillOnline { dir, name, id }.into());
        }
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_programs_is_shown_and_what_may_be_secret_is_not() {
        assert_eq!(shown("API_KEY", "hush"), "API_KEY");
        assert_eq!(shown("https_proxy", "http://me:hush@proxy:3128"), "https_proxy=http://proxy:3128");
        assert_eq!(shown("LD_PRELOAD", "/tmp/x\u{1b}.so"), "LD_PRELOAD=/tmp/x?.so");
    }
}
