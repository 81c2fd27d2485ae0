//! `config.sh remove`: the documented way to deregister, with a remove token.
//!
//! It deletes the runner that its files name, on the server that they name, so both must be the journal's; and a user
//! who can change its programs gets the token. In a guarded tree only root can. Otherwise a fresh, verified tree is
//! used that gets nothing of the old one but its identity.

use crate::deadline::Deadline;
use crate::github::{Client, Target};
use crate::host::account::{self, Account};
use crate::host::file::read_untrusted_in;
use crate::host::{self, file};
use crate::lifecycle::context::error::{ConfigShError, Error, RegistrationError, TreeError, TrustError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Journal, Registered};
use crate::lifecycle::step::placing::stage;
use crate::lifecycle::step::registration::token;
use crate::lifecycle::step::user;
#[cfg(unix)]
use crate::runner::tree;
use crate::runner::{Guard, LocalState, RunnerFile, complaint, config_sh, guard, state};
use crate::secret::Secret;
use std::path::{Path, PathBuf};

/// For which purpose a remove token is missing.
pub(crate) const NO_REMOVE_TOKEN: &str = "removing this runner";

/// The share of the remaining time that the script may take: afterwards, the runner can still be deleted by its id.
const SHARE: u32 = 2;

/// What config.sh needs to remove a runner.
const IDENTITY: [&str; 3] = [".runner", ".credentials", ".credentials_rsaparams"];
const LIMIT: u64 = 64 * 1024;

/// The program that gets the token.
enum Program {
    /// That of the tree, which runs with the rights of whoever runs this.
    Own,
    /// That of the tree, which jobs cannot have changed, or are trusted not to have.
    Kept,
    /// That of a fresh tree.
    Fresh,
}

/// Decides which program gets the token, and as whom it runs.
///
/// # Errors
/// `TreeError::NothingThere` if there is nothing for it to work with; `TrustError::TreeNotGuarded` if no program may get
/// a token.
fn program(site: &Site<'_>, journal: &Journal, registered: &Registered) -> Result<(Program, Account), Error> {
    let nothing = || Error::Tree(TreeError::NothingThere { dir: site.request.dir.clone() });
    if !is_configured(site, registered)? {
        return Err(nothing());
    }
    let account = account(site, journal)?.ok_or_else(nothing)?;
    let kept = site.request.trust_tree || journal.guard() != Guard::Open;
    if site.isolates(&account) && !kept {
        if site.request.archive.archive.is_none() {
            return Err(TrustError::TreeNotGuarded { dir: site.request.dir.clone() }.into());
        }
        return Ok((Program::Fresh, account));
    }
    if !config_sh::path(&site.dir()).exists() {
        return Err(nothing());
    }
    Ok((if site.isolates(&account) { Program::Kept } else { Program::Own }, account))
}

/// Whether it could run, before anything is stopped for it.
///
/// # Errors
/// Those of [`remove`] that can be known by now.
pub(crate) fn check(site: &Site<'_>, journal: &Journal, registered: &Registered) -> Result<(), Error> {
    program(site, journal, registered).map(drop)
}

/// Runs it, if there is something for it to work with.
///
/// # Errors
/// `TreeError::NothingThere` if not; `TrustError::TreeNotGuarded` if no program may get a token; else what the script said.
pub(crate) async fn remove(
    site: &Site<'_>,
    journal: &mut Journal,
    registered: &Registered,
    client: Option<&Client>,
) -> Result<(), Error> {
    let nothing = || Error::Tree(TreeError::NothingThere { dir: site.request.dir.clone() });
    let (program, account) = program(site, journal, registered)?;
    if matches!(program, Program::Own) {
        return run(site, &site.dir(), account, client, &registered.url).await;
    }
    if matches!(program, Program::Kept) {
        user::check_alone(site, journal, &account).await?;
        prepare(site, journal, &account).await?;
        // Every process that could have changed it since the first check is gone by now.
        if !is_configured(site, registered)? {
            return Err(nothing());
        }
        return run(site, &site.dir(), account, client, &registered.url).await;
    }
    user::end_processes(site, journal, &account).await?;
    let fresh = fresh(site, journal, &account).await?;
    match state::read(&fresh)? {
        LocalState::Configured(file) if is_the_one(site, registered, &file) => {}
        _ => {
            stage::discard(&fresh);
            return Err(nothing());
        }
    }
    let ran = run(site, &fresh, account, client, &registered.url).await;
    stage::discard(&fresh);
    ran
}

/// Prepares the existing tree: no process of its user runs, and the script reads what was checked.
async fn prepare(site: &Site<'_>, journal: &mut Journal, account: &Account) -> Result<(), Error> {
    let (dir, keeper) = (site.dir(), site.keeper(account, journal));
    user::end_processes(site, journal, account).await?;
    if journal.guard() == Guard::Open {
        return Ok(());
    }
    if journal.guard() == Guard::Sealed {
        journal.set_guard(Guard::Locked)?;
        guard::unseal(&dir, keeper)?;
    }
    // What the listener would prefer to `.runner`, and jobs can create.
    state::discard_migrated(&dir)?;
    #[cfg(unix)]
    if let Some(path) = tree::writable_by_others(&dir)? {
        return Err(TrustError::UnsafeTree { path }.into());
    }
    Ok(())
}

/// A fresh tree beside the runner's, with nothing of that but its identity.
async fn fresh(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<PathBuf, Error> {
    let phase = site.phase("fresh");
    let (dir, keeper) = (site.dir(), site.keeper(account, journal));
    let staging = stage::stage_fresh(site, account, keeper, None, false).await?.staging;
    for name in IDENTITY {
        let Some(bytes) = read_untrusted_in(&dir, name, LIMIT)? else { continue };
        // For this one call of the script.
        file::replace(&staging.join(name), &bytes, 0o600)?;
        guard::give(&staging.join(name), keeper)?;
    }
    guard::lock(&staging, keeper)?;
    phase.end("a fresh config.sh, which jobs could not change");
    Ok(staging)
}

async fn run(
    site: &Site<'_>,
    dir: &Path,
    account: Account,
    client: Option<&Client>,
    url: &str,
) -> Result<(), Error> {
    let token: Secret = match (&site.request.credentials.remove, client) {
        (Some(given), _) => given.token.clone(),
        (None, Some(client)) => {
            let phase = site.phase("token");
            let token = site.within("asking for a remove token", client.remove_token()).await?;
            phase.end(format!("remove token, good until {}", token.expires_at));
            token.token
        }
        (None, None) => {
            return Err(RegistrationError::NoWayToDeregister { purpose: NO_REMOVE_TOKEN }.into());
        }
    };
    reach(Checkpoint::RemoveTokenMinted);
    let phase = site.phase("config.sh");
    let deadline = Deadline::after(site.deadline.left() / SHARE);
    let setting = config_sh::Setting { dir: dir.to_owned(), ..site.config_setting(account) };
    let command = config_sh::remove(&setting, &token, deadline);
    let shown = command.render();
    let outcome = command.run(&site.stop, &mut |stream, line| site.watch.line(stream, line)).await;
    match outcome {
        Ok(outcome) if outcome.success() => {
            phase.end("config.sh remove exited 0");
            Ok(())
        }
        Ok(outcome) => {
            let error = ConfigShError::Failed {
                command: shown,
                status: outcome.how(),
                cause: complaint::recognise(&outcome.tail),
                tail: outcome.tail,
                log: None,
            };
            let given = site.request.credentials.remove.as_ref();
            let refused = token::refusal(site, token::REMOVE, given, url, &error);
            Err(refused.map_or_else(|| error.into(), Error::from))
        }
        Err(host::Error::Deadline { tail, total, .. }) => {
            Err(Error::ConfigSh(ConfigShError::Hung { command: shown, after: total, tail }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the directory has the runner of the journal, registered where the journal says. The script deregisters the
/// runner that it finds there, and a job can write any.
pub(crate) fn is_configured(site: &Site<'_>, registered: &Registered) -> Result<bool, Error> {
    let LocalState::Configured(file) = state::read(&site.dir())? else { return Ok(false) };
    let dir = || site.request.dir.clone();
    let wrong = match (registered.agent_id, &file.github_url) {
        (Some(in_journal), _) if in_journal != file.agent_id => {
            Error::Registration(RegistrationError::Tampered {
                dir: dir(),
                on_disk: file.agent_id,
                in_journal,
            })
        }
        (_, Some(url)) if !is_same(site, registered, url) => {
            Error::Registration(RegistrationError::OtherServer {
                dir: dir(),
                on_disk: url.clone(),
                journal: registered.url.clone(),
            })
        }
        _ => return Ok(true),
    };
    if site.request.credentials.api.is_none() {
        return Err(wrong);
    }
    tracing::warn!("{wrong}; deleting the journal's by id");
    Ok(false)
}

/// Whether these files describe the journal's runner.
fn is_the_one(site: &Site<'_>, registered: &Registered, file: &RunnerFile) -> bool {
    registered.agent_id.is_none_or(|id| id == file.agent_id)
        && file.github_url.as_ref().is_none_or(|url| is_same(site, registered, url))
}

fn is_same(site: &Site<'_>, registered: &Registered, url: &str) -> bool {
    // One that was adopted without an address is what its own files say.
    registered.url.is_empty()
        || Target::parse(&registered.url, None, site.request.allow_http)
            .is_ok_and(|target| target.is_same_as(url))
}

/// The account to run it as: the runner's user, or the owner of the tree if runup did not set it up.
#[cfg(unix)]
fn account(site: &Site<'_>, journal: &Journal) -> Result<Option<Account>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    if !account::is_root() {
        return Ok(Some(account::current()));
    }
    if let Some(name) = journal.user() {
        return Ok(account::find(&site.request.root, name)?);
    }
    let metadata = fs_err::symlink_metadata(site.dir()).map_err(host::Error::from)?;
    if metadata.uid() == 0
        && let Some(path) = tree::writable_by_others(&site.dir())?
    {
        return Err(TrustError::UnsafeTree { path }.into());
    }
    Ok(account::find_by_id(&site.request.root, metadata.uid())?)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other platform can fail")]
fn account(_: &Site<'_>, _: &Journal) -> Result<Option<Account>, Error> {
    Ok(Some(account::current()))
}
