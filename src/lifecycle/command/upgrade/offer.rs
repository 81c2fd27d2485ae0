//! Which versions are available, and whether this runner is to get a newer one.

use crate::deadline::Deadline;
use crate::github::{Application, Target};
use crate::host::lock::{self, Lock};
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Asked, Entry, EntryState, Journal, Step};
use crate::lifecycle::state::observed::is_copy;
use crate::lifecycle::step::placing::archive;
use crate::runner::{Guard, RunnerVersion, asset};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for another upgrade of the same runner.
const HOLD: Duration = Duration::from_secs(5);

/// Less than the shortest pause between two days' checks, given the spread of the timer.
const DAILY: jiff::SignedDuration = jiff::SignedDuration::from_hours(20);

/// How an upgrade is done.
#[derive(Debug, Clone, Default)]
pub struct Upgrading {
    /// How long to wait for an idle moment; `None` is what the deadline leaves.
    pub window: Option<Duration>,
    /// Do nothing within a day of the last check, or if the operator has disabled updates; and when the end of the
    /// version's support is near, wait for the end of the running job however long that takes.
    pub daily: bool,
}

/// What is available.
pub(crate) struct Offer {
    pub applications: Vec<Application>,
    pub newest: Option<RunnerVersion>,
}

/// The lock of a running upgrade of this runner.
pub(crate) async fn hold(site: &Site<'_>) -> Result<Lock, Error> {
    site.make_state()?;
    let path = Journal::upgrade_lock_for(&site.state, &site.request.dir);
    Ok(lock::acquire(&path, "upgrade", Deadline::after(HOLD), &site.stop).await?)
}

/// The same context with the server of the journal: the options do not decide where the runner is registered.
pub(crate) fn at_server<'a>(site: &Site<'a>, journal: &Journal) -> Result<Site<'a>, Error> {
    let Some((_, registered)) = journal.registered().filter(|(_, it)| !it.api_url.is_empty()) else {
        return Ok(site.clone());
    };
    if let Some(given) = &site.request.target
        && !given.is_same_as(&registered.url)
    {
        let (dir, given) = (site.request.dir.clone(), given.url.to_string());
        return Err(RegistrationError::OtherUrl { dir, given, journal: registered.url.clone() }.into());
    }
    let client = Arc::new(site.client_at(&registered.url, &registered.api_url)?);
    let target: Option<Target> = Some(client.target().clone());
    let request = Request { target, ..Request::clone(&site.request) };
    Ok(Site { request: Arc::new(request), client: Some(client), ..site.clone() })
}

/// Why this runner is not upgraded, if it is not.
pub(crate) fn kept(site: &Site<'_>, journal: &Journal, how: &Upgrading) -> Option<String> {
    let text = |text: &str| Some(text.to_owned());
    let Some((state, registered)) = journal.registered() else {
        return text("it is not registered; `runup install` brings it up to date");
    };
    if state == EntryState::Begun || journal.entries().iter().any(|entry| entry.state == EntryState::Begun) {
        return text("a run was cut off; `runup install` finishes it");
    }
    if is_copy(site, journal) {
        return text("it is another machine's, whose disk this one is a copy of; run `runup install`");
    }
    match journal.guard() {
        Guard::Sealed => {}
        Guard::Locked => return text("it takes one job, and is brought up to date when it registers again"),
        Guard::Open => return text("its user owns its programs, and it updates itself"),
    }
    let asked = registered.asked.as_ref();
    if let Some(pin) = asked.and_then(pinned) {
        return Some(format!("it was installed with {pin}"));
    }
    if how.daily && asked.is_some_and(|asked| asked.disable_update) {
        return text("it was installed with --disable-update");
    }
    let now = jiff::Timestamp::now();
    let recent = |then: jiff::Timestamp| then.duration_until(now).abs() < DAILY;
    // Placing and registering it checked as well.
    let looks = [journal.looked_at(), journal.placed().and_then(|placed| placed.current_at)];
    if how.daily && looks.into_iter().flatten().any(recent) {
        return text("the last look was less than a day ago");
    }
    None
}

/// What holds the version, in the words of the command line.
pub(crate) fn pinned(asked: &Asked) -> Option<String> {
    match &asked.version {
        Some(version) => Some(format!("--runner-version {version}")),
        None => asked.held.then(|| "--archive or --no-refresh".to_owned()),
    }
}

/// What is available at the journal's server.
pub(crate) async fn look(site: &Site<'_>) -> Result<Offer, Error> {
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let listed = archive::list(site, client).await;
    let applications = listed.map_err(|error| match error {
        // What else could be passed to `install` is no option here.
        Error::Registration(RegistrationError::CredentialMissing { .. }) => {
            RegistrationError::CredentialMissing { purpose: "upgrading a runner" }.into()
        }
        error => error,
    })?;
    let newest = asset::choose(&applications, site.platform(), None)?.version;
    Ok(Offer { applications, newest })
}

/// Records the check, and when the installed version was the newest.
pub(crate) async fn note(
    site: &Site<'_>,
    here: RunnerVersion,
    newest: Option<RunnerVersion>,
) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("upgrade").await?;
    let now = site.client.as_ref().map_or_else(jiff::Timestamp::now, |client| client.now());
    if newest.is_some_and(|newest| newest <= here)
        && let Some(Entry { state: EntryState::Done, act }) = journal.entry(Step::PlaceRunner).cloned()
        && act.version() == Some(here.to_string().as_str())
    {
        let mut act = act;
        if let Act::PlaceRunner { current_at, .. } = &mut act {
            *current_at = Some(now.to_string());
        }
        journal.done(act)?;
    }
    Ok(journal.set_looked_at(jiff::Timestamp::now())?)
}
