//! Takes over a runner that runup did not set up, so that `remove` can undo it.
//!
//! Jobs can write its directory. Its contents decide neither where a credential goes nor that all of it may be deleted.

use crate::host;
use crate::lifecycle::context::error::{Error, RegistrationError, TreeError};
use crate::lifecycle::context::request::RemoveScope;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Journal, Registered};
use crate::lifecycle::state::observed;
use crate::runner::{Guard, LocalState, RunnerFile, TreeReport, state, tree};

/// Without a journal: records what a manually installed runner consists of, so that it is removed in the same way.
pub(crate) fn adopt(site: &Site<'_>, journal: &mut Journal, to: RemoveScope) -> Result<(), Error> {
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
    let registered = registration_of(site, state, to)?;
    write_adopted(site, journal, &report, registered)
}

/// What an adopted directory is registered as, as far as that is to be relied on.
fn registration_of(site: &Site<'_>, state: LocalState, to: RemoveScope) -> Result<Option<Registered>, Error> {
    let shown = || site.request.dir.clone();
    Ok(match state {
        LocalState::Configured(file) => {
            if to == RemoveScope::Server {
                check_name(site, &file)?;
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

/// Jobs can write the directory, so its word is not enough to delete a runner by. A name that this machine has, or that
/// the operator confirms, is.
fn check_name(site: &Site<'_>, file: &RunnerFile) -> Result<(), Error> {
    let name = &file.agent_name;
    let confirmed = match &site.request.confirmed_name {
        Some(given) => given.eq_ignore_ascii_case(name),
        None => {
            host::hostname().eq_ignore_ascii_case(name)
                || observed::fingerprint(site).is_some_and(|fingerprint| name.contains(&fingerprint))
        }
    };
    if confirmed {
        return Ok(());
    }
    Err(Error::Registration(RegistrationError::NameNotConfirmed {
        dir: site.request.dir.clone(),
        name: name.clone(),
        id: Some(file.agent_id),
    }))
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
        just_in_time: false,
        unused: false,
        asked: None,
    }
}

fn write_adopted(
    site: &Site<'_>,
    journal: &mut Journal,
    report: &TreeReport,
    registered: Option<Registered>,
) -> Result<(), Error> {
    tracing::info!("adopting the runner in {}, which runup did not set up", site.request.dir.display());
    journal.done(Act::PlaceRunner {
        version: report.version.as_ref().map(ToString::to_string),
        platform: site.platform().to_string(),
        sha256: None,
        verified: false,
        current_at: None,
        replaces: None,
        in_place: false,
        guard: Guard::Open,
    })?;
    if let Some(registered) = registered {
        journal.done(Act::Register(registered))?;
    }
    Ok(())
}
