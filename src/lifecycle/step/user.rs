//! The step `CreateUser`: the runner's own system user, created only if missing and deleted only if runup created it.
//!
//! A runner has a user of its own unless the operator says otherwise, and the journal says which: that is its claim,
//! which is durable before the runner relies on the user. Several may share one knowingly. Claims are made and read, and
//! users deleted and their processes ended, only under the lock of the users.

pub(crate) mod cleaning;
pub mod release;
pub(crate) mod room;

use crate::deadline::Deadline;
use crate::host::account::{self, Account, Marked, NewUser};
use crate::host::process::{self, Ask, Which};
use crate::lifecycle::context::error::{Error, TreeError, UserError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, RunnerUser, Step};
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::{Change, Plan, Planned};
use crate::lifecycle::state::user::{claimant, is_created, known, name, not_found_yet, running_neighbour};
use crate::lifecycle::step::recorded::{self, Begin};
use crate::runner::{config_sh, listener};
use std::time::Duration;

/// How often a directory service is asked for a user that it may not have yet.
const SERVICE: Duration = Duration::from_secs(1);

/// How long a user's killed processes may take to end.
const ENDING: Duration = Duration::from_secs(15);

/// Waits for a named user that a directory service could have: at boot, it may not be up yet.
///
/// # Errors
/// The user was not found until the deadline, or is not in the image.
pub(crate) async fn wait_for_service(site: &Site<'_>) -> Result<(), Error> {
    if !site.may_be_in_a_service() {
        return Ok(());
    }
    let journal = site.read_journal()?;
    let mut told = false;
    while let Some(error) = not_found_yet(site, &journal)? {
        if site.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        if site.deadline.passed() || matches!(error, UserError::NotInImage { .. }) {
            return Err(error.into());
        }
        if !told {
            told = true;
            tracing::warn!("{error}; waiting for it, {} s at most", site.deadline.left().as_secs());
        }
        tokio::select! {
            () = site.stop.cancelled() => {}
            () = tokio::time::sleep(SERVICE.min(site.deadline.left())) => {}
        }
    }
    Ok(())
}

/// Decides whether the user is created. The step is planned only if a user of its own is requested.
///
/// # Errors
/// This runner has created another user.
pub(crate) fn decide(
    user: &str,
    request: &Request,
    journal: &Journal,
    seen: &Seen,
) -> Result<Planned, Error> {
    if let Some(name) = seen.unknown_groups.first() {
        return Err(UserError::NoGroup { name: name.clone() }.into());
    }
    check_ids(user, request, seen)?;
    match (&seen.account, journal.created_user()) {
        // A user of the operator's has the groups that the operator gave it.
        (Some(_), made) if !seen.missing_groups.is_empty() && made != Some(user) => {
            let (name, groups) = (user.to_owned(), seen.missing_groups.clone());
            Err(UserError::GroupsOfOther { name, groups }.into())
        }
        (Some(_), _) if !seen.missing_groups.is_empty() => {
            let groups = seen.missing_groups.clone();
            let detail = format!("add the user {user} to {}", groups.join(", "));
            Ok(Planned::to_do(Step::CreateUser, Change::JoinGroups { groups }, detail))
        }
        (Some(account), _) => {
            Ok(Planned::keep(Step::CreateUser, format!("the user {user} exists (uid {})", account.uid)))
        }
        // The journal would forget the user that it has to delete.
        (None, Some(made)) if made != user => {
            let (dir, wanted) = (request.dir.clone(), user.to_owned());
            Err(Error::Tree(TreeError::OtherUser { dir, found: made.to_owned(), wanted }))
        }
        (None, _) => {
            let change = Change::CreateUser { name: user.to_owned() };
            Ok(Planned::to_do(Step::CreateUser, change, creation(user, request)))
        }
    }
}

/// What is to be created, for people.
fn creation(user: &str, request: &Request) -> String {
    let id = |what: &str, id: Option<u32>| id.map(|id| format!("the {what} id {id}"));
    let mut with: Vec<String> =
        [id("user", request.ids.uid), id("group", request.ids.gid)].into_iter().flatten().collect();
    if !request.groups.is_empty() {
        with.push(format!("the groups {}", request.groups.join(", ")));
    }
    let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(" and ")) };
    format!("create the system user {user}{with}")
}

/// Refuses an id that the user does not have, or another one has.
fn check_ids(user: &str, request: &Request, seen: &Seen) -> Result<(), Error> {
    if let Some((option, id, holder)) = seen.taken_ids.first() {
        let (option, id, holder) = (*option, *id, holder.clone());
        return Err(UserError::IdTaken { name: user.to_owned(), option, id, holder }.into());
    }
    let Some(account) = &seen.account else { return Ok(()) };
    for (option, wanted, found) in
        [("--user-id", request.ids.uid, account.uid), ("--group-id", request.ids.gid, account.gid)]
    {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(UserError::OtherId { name: user.to_owned(), option, wanted, found }.into());
        }
    }
    Ok(())
}

/// Records which user the runner has, before anything relies on it. Returns whether the user is another one than was
/// seen: a run of another runner has created or deleted it meanwhile. From here on, none deletes it.
///
/// # Errors
/// Another runner has chosen the same name meanwhile; the journal cannot be written; the home directory cannot be put
/// right.
pub(crate) async fn claim(
    site: &Site<'_>,
    journal: &mut Journal,
    plan: &Plan,
    seen: &Seen,
) -> Result<bool, Error> {
    let Some(wanted) = site.user.clone().filter(|_| !plan.is_empty()) else { return Ok(false) };
    let _users = site.lock_users().await?;
    let known = known(site, journal)?;
    if site.request.user_is_default && known.is_none() && name(site, journal)?.as_ref() != Some(&wanted) {
        return Err(UserError::UserTaken { name: wanted }.into());
    }
    // A runner that is replaced by another user's belongs to that user from here on.
    if known.is_none_or(|known| known == wanted) || plan.takes(Step::PlaceRunner) {
        let group = journal.group().filter(|_| journal.user() == Some(wanted.as_str())).map(str::to_owned);
        journal.set_user(RunnerUser { name: wanted.clone(), group })?;
    }
    let root = &site.request.root;
    let account = account::find(root, &wanted)?;
    // The runup that created it may have been killed, and whoever uses the user next needs the home.
    if let Some(account) = &account
        && (is_created(site, journal, account)?
            || account::mark(root, account, &site.request.dir)? != Marked::No)
        && !account::has_home(root, account)
    {
        account::ensure_home(root, account)?;
    }
    Ok(account != seen.account)
}

/// Adds the user to these groups of the machine, from which it goes when it is deleted.
///
/// # Errors
/// The machine's tools fail.
pub(crate) async fn join(site: &Site<'_>, user: &str, groups: &[String]) -> Result<(), Error> {
    for group in groups {
        account::add_to_group(&site.request.root, user, group, &site.stop).await?;
    }
    Ok(())
}

/// Creates a group for the runner if its user's primary group has other members, who could look into its tree.
///
/// # Errors
/// The group cannot be created.
pub(crate) async fn ensure_group(
    site: &Site<'_>,
    journal: &mut Journal,
    account: &Account,
) -> Result<(), Error> {
    if !site.isolates(account) {
        return Ok(());
    }
    let root = &site.request.root;
    let name = journal.group().map(str::to_owned);
    // Who else has a group of a directory service as the primary one is not known.
    let service = account::find_local(root, &account.name)?.is_none()
        && account::group_name(root, account.gid).as_ref() != Some(&account.name);
    let others = service
        || account::primary_group_members(root, account.gid).into_iter().any(|name| name != account.name);
    if name.is_none() && !others {
        return Ok(());
    }
    let name = name.unwrap_or_else(|| own_group(account));
    let _users = site.change_users().await?;
    journal.set_user(RunnerUser { name: account.name.clone(), group: Some(name.clone()) })?;
    if account::group_id(root, &name).is_none() {
        account::create_group(root, &name, None, &site.stop).await?;
    }
    account::add_to_group(root, &account.name, &name, &site.stop).await?;
    Ok(())
}

/// The name of a group for this user alone. A user of a directory service can have a name that no local group may have.
fn own_group(account: &Account) -> String {
    let name = format!("runup-{}", account.name);
    if account::check_name(&name).is_ok() { name } else { format!("runup-{}", account.uid) }
}

/// Ends every process of the runner's user that could interfere with what follows: all of them if runup created the
/// user for this runner alone, and otherwise those that are known to be this runner's.
///
/// # Errors
/// One does not end.
pub(crate) async fn end_processes(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
) -> Result<(), Error> {
    if !site.isolates(account) || !site.request.root.is_host() {
        return Ok(());
    }
    // No other runner comes to share the user while its processes are ended. What a killed run has left of others is
    // not waited for.
    let _users = site.hold_users().await?;
    if is_created(site, journal, account)? && claimant(site, journal, account)?.is_none() {
        // What could start a process of it again at a time of the job's choosing goes first.
        account::end_starters(&site.request.root, account, &site.stop).await?;
        let deadline = Deadline::after(ENDING.min(site.deadline.left()));
        let ended = account::end_account(account, deadline).await?;
        if ended > 0 {
            tracing::info!("ended {ended} processes of the user {}", account.name);
        }
        return Ok(());
    }
    // The user may have other processes: only those that are known to be this runner's are ended.
    let dir = site.dir().display().to_string();
    for key in [listener::MARKER, config_sh::MARKER] {
        let marked = Which::MarkedBy { uid: Some(account.uid), key: key.to_owned(), value: dir.clone() };
        process::end(&marked, Ask::Interrupt, Deadline::after(ENDING.min(site.deadline.left()))).await?;
    }
    let others = Which::OfUser(account.uid).find().len();
    if others > 0 {
        tracing::warn!(
            "{others} other processes run as {}, which runup did not create for this runner alone: they could read its tokens",
            account.name
        );
    }
    Ok(())
}

/// Refuses to go on beside another running runner of the same user: its jobs could read every token.
///
/// # Errors
/// `UserError::UserShared`.
pub(crate) async fn check_alone(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<(), Error> {
    match running_neighbour(site, journal, account).await? {
        Some((dir, unit)) => {
            Err(Error::User(UserError::UserShared { user: account.name.clone(), dir, unit }))
        }
        None => Ok(()),
    }
}

/// Applies the step.
///
/// # Errors
/// The user could not be created.
pub async fn take(site: &Site<'_>, journal: &mut Journal, name: &str) -> Result<Account, Error> {
    let phase = site.phase("user");
    // Of two runs that see the user missing, one creates it; the other must not think that it did.
    let _users = site.change_users().await?;
    let root = &site.request.root;
    if let Some(account) = account::find(root, name)? {
        if site.request.user_is_default {
            // It was free when this runner chose it.
            return Err(UserError::UserTaken { name: name.to_owned() }.into());
        }
        phase.end(format!("another run has created the user {name} (uid {})", account.uid));
        return Ok(account);
    }
    let (earlier, again) = match journal.entry(Step::CreateUser) {
        Some(Entry { state, act: Act::CreateUser { name: before, group_created } }) if before == name => {
            // The home directory of one that was created and is gone is what the operator has kept of it.
            (*group_created, *state == EntryState::Begun && group_created.is_some())
        }
        _ => (None, false),
    };
    let new = NewUser { name, ids: site.request.ids, dir: &site.request.dir, again };
    // What is recorded as begun is deleted if it is not finished: nothing of the operator's may be in its place.
    account::check_new(root, &new)?;
    let group_created = Some(earlier.unwrap_or(!account::has_group(root, name)));
    let act = Act::CreateUser { name: name.to_owned(), group_created };
    let account = recorded::take(journal, act, Begin::New, async |_, _| {
        let account = account::create(root, &new, &site.stop).await?;
        join(site, name, &site.request.groups).await?;
        Ok(account)
    })
    .await?;
    phase.end(format!("created the system user {name} (uid {})", account.uid));
    Ok(account)
}

/// Settles a creation that was interrupted.
///
/// # Errors
/// The user database cannot be read; the home directory cannot be created.
pub(crate) async fn recover(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    if journal.entry(Step::CreateUser).is_some() {
        // Whatever that run was killed at, the user may be as it must be, so that no tool runs that would do this.
        account::sweep_locks(&site.request.root);
    }
    let Some(Entry { state: EntryState::Begun, act }) = journal.entry(Step::CreateUser).cloned() else {
        return Ok(());
    };
    let Act::CreateUser { name, .. } = &act else { return Ok(()) };
    // The useradd of that run may still be at work.
    let _users = site.lock_users().await?;
    let root = &site.request.root;
    // It was missing when that run began, so if it is there now, runup created it.
    match account::find_local(root, name)? {
        Some(account) => {
            account::ensure_home(root, &account)?;
            journal.done(act)?;
        }
        // It stays begun, so that this goes with it.
        None if account::has_rest(root, name, release::made(site, journal, name)) => {}
        None => recorded::never_happened(journal, Step::CreateUser)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_of_a_user_has_a_name_that_no_other_user_s_has() {
        let group =
            |name: &str| own_group(&Account { name: name.into(), uid: 7001, gid: 100, home: "/".into() });
        assert_eq!(group("ci"), "runup-ci");
        for name in ["ci@corp.test", "CORP\\ci", "a-user-whose-name-is-very-long-indeed"] {
            assert_eq!(group(name), "runup-7001");
        }
    }
}
