//! Takes over a runner that runup did not set up, so that `remove` can undo it.
//!
//! Jobs can write its directory. Its contents decide neither where a credential goes nor that all of it may be deleted.

use crate::host::account;
use crate::lifecycle::context::error::{Error, RegistrationError, ServiceError, TreeError};
use crate::lifecycle::context::request::RemoveScope;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand::{self, HandMade};
use crate::lifecycle::state::journal::{Act, Journal, Registered, TakenIn};
use crate::lifecycle::step::adoption::check_name;
use crate::lifecycle::step::recorded::{self, Begin};
use crate::runner::{Guard, LocalState, RunnerFile, TreeReport, state, tree};

/// Without a journal: records what a manually installed runner consists of, so that it is removed in the same way.
pub(crate) async fn adopt(site: &Site<'_>, journal: &mut Journal, to: RemoveScope) -> Result<(), Error> {
    let dir = site.dir();
    let shown = || site.request.dir.clone();
    if dir.is_symlink() {
        return Err(TreeError::NotOurs { dir: shown(), what: "it is a symbolic link".into() }.into());
    }
    let report = tree::inspect(&dir, site.platform())?;
    let state = state::read(&dir)?;
    let is_runner = report.is_runner() || matches!(state, LocalState::Configured(_));
    if !is_runner {
        return Err(TreeError::NothingThere { dir: shown() }.into());
    }
    // All of the directory will be deleted, and no journal says that all of it is the runner's.
    let work = match &state {
        LocalState::Configured(file) => file.work_folder.as_deref(),
        _ => None,
    };
    let others = tree::others(&dir, work)?;
    if !others.is_empty() {
        return Err(TreeError::HoldsOthers { dir: shown(), others }.into());
    }
    let service = service_of(site, journal)?;
    let registered = registration_of(site, state, to, service.as_ref())?;
    write_adopted(site, journal, &report, registered, service).await
}

/// Records the service that an operator has set up for a runner of runup's, so that it is removed with it.
pub(crate) async fn note_service(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    if journal.adopts() {
        return Ok(());
    }
    let Some(service) = service_of(site, journal)? else { return Ok(()) };
    let ran = by_hand::runs(site, &service.unit).await?;
    recorded::begin(journal, Act::Adopt { unit: Some(service.unit), ran }, Begin::New)
}

/// The service of `svc.sh`, which only root can take away.
fn service_of(site: &Site<'_>, journal: &Journal) -> Result<Option<HandMade>, Error> {
    let service = by_hand::find(site, journal)?;
    match service {
        Some(service) if site.request.root.is_host() && !account::is_root() => {
            let (dir, unit) = (site.request.dir.clone(), service.unit);
            Err(ServiceError::ServiceInstalled { dir, unit }.into())
        }
        service => Ok(service),
    }
}

/// What an adopted directory is registered as, as far as that is to be relied on.
fn registration_of(
    site: &Site<'_>,
    state: LocalState,
    to: RemoveScope,
    service: Option<&HandMade>,
) -> Result<Option<Registered>, Error> {
    let shown = || site.request.dir.clone();
    Ok(match state {
        LocalState::Configured(file) => {
            if to == RemoveScope::Server {
                check_name(site, &file, service)?;
            }
            let on_disk = file.github_url.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
            // Jobs can write the directory. A credential goes where the operator says, never where a file in it says.
            let Some(target) = &site.request.target else {
                if to == RemoveScope::Server && site.request.credentials.api.is_some() {
                    return Err(RegistrationError::UrlNeededToAdopt { dir: shown() }.into());
                }
                // Without an address of the API: a later run with a credential may continue from this record.
                return Ok(Some(adopted(&file, on_disk, String::new())));
            };
            let given = target.url.as_str().trim_end_matches('/').to_owned();
            if !on_disk.is_empty() && !target.is_same_as(&on_disk) {
                return Err(RegistrationError::OtherUrl { dir: shown(), given, journal: on_disk }.into());
            }
            Some(adopted(&file, given, target.api.to_string()))
        }
        LocalState::Corrupt { file, why } if to == RemoveScope::Server => {
            return Err(RegistrationError::RegistrationUnclear {
                dir: shown(),
                why: format!("{file}: {why}"),
            }
            .into());
        }
        LocalState::Partial { files } if to == RemoveScope::Server => {
            let why = format!("there is {} but no .runner", files.join(", "));
            return Err(RegistrationError::RegistrationUnclear { dir: shown(), why }.into());
        }
        _ => None,
    })
}

/// What is recorded of a runner that only files describe: a claim that the server has not confirmed.
pub(crate) fn adopted(file: &RunnerFile, url: String, api_url: String) -> Registered {
    Registered {
        url,
        api_url,
        name: file.agent_name.clone(),
        template: file.agent_name.clone(),
        unique: false,
        agent_id: Some(file.agent_id),
        confirmed: false,
        name_was_free: false,
        may_exist: false,
        unused: false,
        asked: None,
        adopted: false,
    }
}

async fn write_adopted(
    site: &Site<'_>,
    journal: &mut Journal,
    report: &TreeReport,
    registered: Option<Registered>,
    service: Option<HandMade>,
) -> Result<(), Error> {
    tracing::info!("adopting the runner in {}, which runup did not set up", site.request.dir.display());
    let mut acts = vec![Act::PlaceRunner {
        version: report.version.as_ref().map(ToString::to_string),
        platform: site.platform().to_string(),
        sha256: None,
        verified: false,
        current_at: None,
        replaces: None,
        in_place: false,
        guard: Guard::Open,
    }];
    acts.extend(registered.map(Act::Register));
    let mut user = None;
    if let Some(HandMade { unit, user: named }) = service {
        let ran = by_hand::runs(site, &unit).await?;
        acts.push(Act::Adopt { unit: Some(unit), ran });
        user = named.filter(|name| account::is_root() && name != "root");
    }
    let machine = journal.machine().map(str::to_owned);
    Ok(journal.take_in(&TakenIn { acts, user, machine })?)
}
