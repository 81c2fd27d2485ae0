//! A just-in-time runner: placed as by `install`, but created by the server, without `config.sh`.

use crate::github::{self, Client, JitConfig, NewJitRunner, RunnerStatus};
use crate::host::{Os, Platform};
use crate::lifecycle::command::install;
use crate::lifecycle::context::error::{Error, RegistrationError, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::index;
use crate::lifecycle::state::journal::{Act, Asked, Journal, Registered, Step};
use crate::lifecycle::state::observed;
use crate::lifecycle::state::observed::WantedName;
use crate::lifecycle::step::recorded::{self, Begin};
use crate::lifecycle::step::registration;
use crate::lifecycle::step::registration::deregister::{self, Occasion};
use crate::lifecycle::step::registration::taken;
use crate::lifecycle::step::work;
use crate::runner::{config_sh, preflight};
use crate::secret::Secret;
use std::sync::Arc;

/// The group that every scope has.
pub(crate) const DEFAULT_GROUP: u64 = 1;

/// Places the runner and lets the server create it; returns what to start the listener with.
///
/// # Errors
/// As for `install`. The server has nothing of this run then, or the journal knows it.
pub(crate) async fn converge(site: &Site<'_>) -> Result<Secret, Error> {
    let site = &site.at_work();
    if site.eyes().is_none() {
        return Err(RegistrationError::CredentialMissing { purpose: "creating a just-in-time runner" }.into());
    }
    registration::check_group(site).await?;
    {
        let (_lock, mut journal) = site.open_journal("run").await?;
        take_back(site, &mut journal).await?;
    }
    let placing = site.request.without_registration(site.request.archive.clone());
    install::install(&Site { request: Arc::new(placing), ..site.clone() }).await?;

    let (_lock, mut journal) = site.open_journal("run").await?;
    site.refuse_beside_removal()?;
    let account = site
        .account()?
        .ok_or_else(|| Error::Tree(TreeError::NothingThere { dir: site.request.dir.clone() }))?;
    preflight::check(&site.request.root, &site.dir(), &account, (site.deadline, &site.stop)).await?;
    registration::unseal(site, &observed::traces(site, &journal)?)?;
    work::claim(site, &mut journal, &account)?;
    let name = observed::wanted_name(site, &journal, false)?.ok_or(crate::settings::Error::UrlMissing)?;
    index::claim(site, &mut journal, name.index).await?;
    let client = site.eyes().ok_or(Error::Registration(RegistrationError::CredentialMissing {
        purpose: "creating a just-in-time runner",
    }))?;
    match make(site, client, &mut journal, &name).await {
        Ok(config) => Ok(config),
        Err(error) => {
            // It may have been created all the same.
            let site = site.for_undoing();
            if let Err(error) = deregister::deregister(&site, &mut journal, Occasion::Unwinding).await {
                tracing::warn!("{}; the journal keeps it", crate::error::chain(&error));
            }
            Err(error)
        }
    }
}

/// Before the server creates a new just-in-time runner: deregisters one that an earlier run left.
///
/// # Errors
/// The server may still have it.
async fn take_back(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some((_, registered)) = journal.registered() else { return Ok(()) };
    if observed::is_copy(site, journal) {
        // The runner belongs to the machine that this disk was copied from.
        return deregister::clean(site, journal).await;
    }
    if !site.request.target.as_ref().is_some_and(|target| target.is_same_as(&registered.url)) {
        return Err(RegistrationError::ConfiguredOtherwise {
            dir: site.request.dir.clone(),
            found: format!("{} at {}", registered.name, registered.url),
            wanted: "a just-in-time runner elsewhere".into(),
        }
        .into());
    }
    tracing::info!("an earlier run left {} to be deregistered", registered.name);
    deregister::deregister(site, journal, Occasion::Leftover).await
}

async fn make(
    site: &Site<'_>,
    client: &Client,
    journal: &mut Journal,
    name: &WantedName,
) -> Result<Secret, Error> {
    let wanted = site.request.registration.as_ref().expect("a name was made from it");
    let new = NewJitRunner {
        name: name.name.to_string(),
        runner_group_id: group(site, client, wanted.options.group.as_deref()).await?,
        labels: labels(site.platform(), &wanted.options),
        work_folder: wanted.options.work.clone(),
    };
    if !name.unique {
        taken::free(site, client, &new.name).await?;
    }
    let target = client.target();
    let registered = Registered {
        url: target.url.to_string(),
        api_url: target.api.to_string(),
        name: new.name.clone(),
        template: wanted.name.to_string(),
        unique: name.unique,
        agent_id: None,
        confirmed: false,
        name_was_free: true,
        may_exist: false,
        unused: true,
        asked: Asked::of(&site.request),
        adopted: false,
    };
    journal.set_machine(observed::fingerprint(site));
    let phase = site.phase("jit");
    // Recorded before the listener can start as that runner: whatever happens then, it is found.
    let made = recorded::take(journal, Act::Register(registered), Begin::New, async |journal, act| {
        let made = match ask(site, client, &new).await {
            // By an attempt of ours whose answer was lost, unless another machine was faster.
            Err(Error::Github(github::Error::NameTaken { reply, .. }))
                if name.unique || reply.attempts > 1 =>
            {
                retake(site, client, journal, &new).await?
            }
            Err(Error::Github(github::Error::NameTaken { name, reply })) => {
                recorded::never_happened(journal, Step::Register)?;
                return Err(github::Error::NameTaken { name, reply }.into());
            }
            Err(Error::Github(error @ (github::Error::NoJit { .. } | github::Error::Unprocessable(_)))) => {
                recorded::never_happened(journal, Step::Register)?;
                return Err(error.into());
            }
            other => other?,
        };
        if let Act::Register(registered) = act {
            (registered.agent_id, registered.confirmed) = (Some(made.runner.id), true);
        }
        Ok(made)
    })
    .await?;
    phase.end(format!("the server created {} (id {}) for one job", made.runner.name, made.runner.id));
    Ok(made.encoded)
}

async fn ask(site: &Site<'_>, client: &Client, new: &NewJitRunner) -> Result<JitConfig, Error> {
    site.within("asking for a just-in-time runner", client.generate_jitconfig(new)).await
}

/// The name is in use: by an attempt of ours whose answer was lost.
async fn retake(
    site: &Site<'_>,
    client: &Client,
    journal: &mut Journal,
    new: &NewJitRunner,
) -> Result<JitConfig, Error> {
    let found = site.within("asking for the name", client.runner_named(&new.name)).await?;
    if let Some(runner) = found {
        if runner.status == RunnerStatus::Online
            && let Some(error) = taken::refusal(&site.request, &runner)
        {
            recorded::never_happened(journal, Step::Register)?;
            return Err(error);
        }
        tracing::info!("deleting {} (id {}), which an earlier attempt created", runner.name, runner.id);
        site.within("deleting what an earlier attempt left", client.delete(runner.id)).await?;
    }
    ask(site, client, new).await
}

/// The group's id: the call does not take a name.
async fn group(site: &Site<'_>, client: &Client, name: Option<&str>) -> Result<u64, Error> {
    let Some(name) = name else { return Ok(DEFAULT_GROUP) };
    let found = site.within("asking for the runner groups", client.group_named(name)).await?;
    found.ok_or_else(|| Error::Registration(RegistrationError::NoSuchGroup { name: name.to_owned() }))
}

/// All labels: the server adds none of those that `config.sh` would.
pub(crate) fn labels(platform: Platform, options: &config_sh::ConfigOptions) -> Vec<String> {
    let mut labels = Vec::new();
    if !options.no_default_labels {
        let os = match platform.os {
            Os::Linux => "Linux",
            Os::Osx => "macOS",
            Os::Win => "Windows",
        };
        labels.extend(["self-hosted".to_owned(), os.to_owned(), platform.arch.to_string().to_uppercase()]);
    }
    if let Some(more) = &options.labels {
        labels.extend(more.to_string().split(',').map(str::to_owned));
    }
    labels
}
