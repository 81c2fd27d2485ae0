//! Decides what is done about the runner's tree.

use crate::lifecycle::context::error::{Error, TreeError, TrustError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::state::observed::{Seen, Server, Tree};
use crate::lifecycle::state::plan::{Change, Planned};
use crate::lifecycle::state::version_policy;
use crate::lifecycle::state::version_policy::{Decision, Hold};
use crate::runner::{Guard, LocalState, RunnerVersion};

/// How long after a tree was recorded as the newest version this is recorded again.
const NOTED: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// How the description of a download begins.
pub(crate) const DOWNLOADED: &str = "download, verify and place";

/// Whether a working runner is to be converted: jobs can change its programs, and this can be avoided. One that cannot
/// be converted now goes on as it is.
pub(crate) fn converts(request: &Request, journal: &Journal, seen: &Seen) -> bool {
    let ours = matches!(seen.tree, Tree::Ours { .. } | Tree::Incomplete { .. });
    let registered =
        journal.registered().is_some() && matches!(seen.local, LocalState::Configured(_)) && !seen.clone;
    // A sealed one that lost a part is replaced in the same way: its user gets nothing of it.
    let lacks = matches!(seen.tree, Tree::Incomplete { .. }) && seen.guard != Guard::Open;
    let open = lacks || (seen.guard == Guard::Open && seen.wanted_guard != Guard::Open);
    ours && registered && open && request.registration.is_some() && why_not(request, seen).is_none()
}

/// Why a runner whose programs jobs can change cannot be converted now.
pub(crate) fn why_not(request: &Request, seen: &Seen) -> Option<&'static str> {
    match &seen.server {
        _ if seen.mounted => Some("a mount point cannot be exchanged for a fresh one"),
        _ if seen.neighbour => Some("another runner of the same user runs"),
        // One that is adopted gets the time for its job.
        Server::Has(runner) if runner.busy && !request.adopt => Some("it is running a job"),
        Server::Has(_) if !can_fetch(request) => Some("getting a fresh runner needs a token or --archive"),
        Server::Has(_) => None,
        Server::Nothing => Some("the server does not know it"),
        Server::NotAsked => Some("asking the server needs a token"),
    }
}

/// Whether a fresh, verified runner is available.
fn can_fetch(request: &Request) -> bool {
    request.archive.archive.is_some() || request.credentials.api.is_some()
}

/// If a registration would be created in a tree that jobs could change, a fresh one is placed first.
pub(crate) fn freshen(steps: &mut [Planned], request: &Request, seen: &Seen) -> Result<(), Error> {
    if !seen.isolates || seen.guard != Guard::Open || matches!(seen.tree, Tree::Absent | Tree::Foreign { .. })
    {
        return Ok(());
    }
    let registers =
        request.jit || steps.iter().any(|planned| planned.step == Step::Register && planned.restarts());
    let Some(place) = steps.iter_mut().find(|planned| planned.step == Step::PlaceRunner) else {
        return Ok(());
    };
    if !registers || matches!(place.change(), Some(Change::Replace { .. })) {
        return Ok(());
    }
    if !can_fetch(request) {
        return Err(TrustError::TreeNotGuarded { dir: request.dir.clone() }.into());
    }
    let detail =
        format!("place a fresh runner in {}: jobs could change the one that is there", request.dir.display());
    *place = anew(detail);
    Ok(())
}

pub(crate) fn place_runner(
    request: &Request,
    journal: &Journal,
    seen: &Seen,
    converts: bool,
) -> Result<Planned, Error> {
    let dir = &request.dir;
    let shown = dir.display();
    let registered = journal.registered().is_some() && !seen.clone;
    if let Some(owner) = other_owner(seen) {
        let wanted = seen.user.clone().unwrap_or_default();
        if registered || request.archive.no_refresh {
            return Err(TreeError::OtherUser { dir: dir.clone(), found: owner, wanted }.into());
        }
        return Ok(anew(format!(
            "replace the runner in {shown}: it belongs to the user {owner}, not to {wanted}"
        )));
    }
    if converts {
        let detail = format!("replace the runner in {shown} by one that its jobs cannot change");
        return Ok(Planned::to_do(Step::PlaceRunner, Change::Replace { converts: true }, detail));
    }
    if let Some(what) = other_platform(journal, seen) {
        if registered || request.archive.no_refresh {
            return Err(TreeError::OtherPlatform { dir: dir.clone(), what, registered }.into());
        }
        return Ok(anew(format!("refresh {} in {shown}: {what}", named(tree_version(seen)))));
    }
    Ok(match &seen.tree {
        Tree::Foreign { what } => {
            return Err(TreeError::NotOurs { dir: dir.clone(), what: what.clone() }.into());
        }
        Tree::Absent => {
            Planned::to_do(Step::PlaceRunner, Change::Place, format!("{DOWNLOADED} the runner in {shown}"))
        }
        Tree::Incomplete { missing } if registered && matches!(seen.local, LocalState::Configured(_)) => {
            Planned::to_do(
                Step::PlaceRunner,
                Change::Repair,
                format!(
                    "replace the incomplete runner in {shown} ({}), and keep its registration",
                    missing.join(", ")
                ),
            )
        }
        Tree::Incomplete { .. } => anew(format!("replace the incomplete runner in {shown}")),
        Tree::Ours { .. } if request.adopt && registered && is_by_hand(journal) => {
            let detail =
                format!("replace the programs in {shown} by verified ones, and keep its registration");
            Planned::to_do(Step::PlaceRunner, Change::Repair, detail)
        }
        Tree::Ours { version, self_updated } => {
            complete(request, journal, seen, *version, *self_updated && registered && updates(request))?
        }
    })
}

/// Whether the tree was not placed by runup.
fn is_by_hand(journal: &Journal) -> bool {
    journal.placed().is_some_and(|placed| placed.sha256.is_none())
}

fn anew(detail: String) -> Planned {
    Planned::to_do(Step::PlaceRunner, Change::Replace { converts: false }, detail)
}

/// Decides whether a complete runner is the right one. `updated`: another version in its place would only update itself
/// again.
fn complete(
    request: &Request,
    journal: &Journal,
    seen: &Seen,
    version: Option<RunnerVersion>,
    updated: bool,
) -> Result<Planned, Error> {
    let dir = &request.dir;
    let shown = dir.display();
    let registered = journal.registered().is_some() && !seen.clone;
    Ok(match (&request.archive.version, version) {
        (Some(wanted), Some(found)) if *wanted < found && updated => {
            let detail = format!("the runner {found} is in {shown}: it was {wanted}, and has updated itself");
            Planned::keep(Step::PlaceRunner, detail)
        }
        (Some(wanted), Some(found)) if *wanted != found && registered => {
            let (found, wanted) = (found.to_string(), wanted.to_string());
            return Err(TreeError::OtherVersion { dir: dir.clone(), found, wanted }.into());
        }
        (Some(wanted), Some(found)) if *wanted != found => {
            anew(format!("replace runner {found} by {wanted} in {shown}"))
        }
        (None, version) if !registered && other_archive(request, journal) => {
            anew(format!("replace {} in {shown} by the requested archive", named(version)))
        }
        (_, version) => match refresh(request, journal, seen, version)? {
            Some((newest, why)) => anew(format!("refresh {} to {newest} in {shown}: {why}", named(version))),
            None => Planned::keep(Step::PlaceRunner, format!("the {} is in {shown}", named(version))),
        },
    })
}

/// The owner of the tree, if another user was requested.
fn other_owner(seen: &Seen) -> Option<String> {
    let owner = seen.owner.as_ref().filter(|_| seen.user.is_some())?;
    let same = seen.account.as_ref().is_some_and(|account| account.uid == owner.uid);
    (!same).then(|| owner.name.clone())
}

/// Whether the tree was placed from another archive than the requested one, as far as the digests tell.
fn other_archive(request: &Request, journal: &Journal) -> bool {
    let wanted = request.archive.archive.as_ref().and(request.archive.sha256);
    let placed = journal.placed().and_then(|placed| placed.sha256);
    matches!((wanted, placed), (Some(wanted), Some(placed)) if wanted.to_string() != placed)
}

/// A clause saying that the tree is for another platform than this one, if it is.
fn other_platform(journal: &Journal, seen: &Seen) -> Option<String> {
    if matches!(seen.tree, Tree::Absent | Tree::Foreign { .. }) {
        return None;
    }
    let (placed, machine) = (journal.placed()?.platform, &seen.platform);
    (placed != machine).then(|| format!("it is for {placed}, and this machine is {machine}"))
}

/// The version that replaces a tree, and why: it is about to register and too old for that, or it becomes an image's,
/// which gets the newest version.
fn refresh(
    request: &Request,
    journal: &Journal,
    seen: &Seen,
    here: Option<RunnerVersion>,
) -> Result<Option<(RunnerVersion, String)>, Error> {
    let (Some(offer), Some(here)) = (&seen.offer, here) else { return Ok(None) };
    let Some(newest) = offer.newest else { return Ok(None) };
    let hold = match &request.archive {
        archive if archive.no_refresh => Hold::Never,
        archive if archive.version.is_some() || archive.archive.is_some() => Hold::Chosen,
        _ => Hold::Free,
    };
    if request.bakes() && hold == Hold::Free && newest > here {
        return Ok(Some((newest, "it is the newest version".into())));
    }
    let current_at = journal.placed().and_then(|placed| placed.current_at);
    match version_policy::decide(version_policy::judge(here, current_at, offer), hold) {
        Decision::Keep => Ok(None),
        Decision::Refresh { why } => Ok(Some((newest, why))),
        Decision::Refuse { why } => {
            let chosen = hold == Hold::Chosen;
            Err(Error::Tree(TreeError::TooOld { dir: request.dir.clone(), here, newest, why, chosen }))
        }
    }
}

fn tree_version(seen: &Seen) -> Option<RunnerVersion> {
    match seen.tree {
        Tree::Ours { version, .. } => version,
        _ => None,
    }
}

fn named(version: Option<RunnerVersion>) -> String {
    version.map_or_else(|| "runner".to_owned(), |version| format!("runner {version}"))
}

/// Whether the server may update the runner.
fn updates(request: &Request) -> bool {
    request.registration.as_ref().is_none_or(|wanted| !wanted.options.disable_update)
}

/// Records that the current tree was the newest version just now, if it was: the time it may stay counts from then.
///
/// # Errors
/// The journal cannot be written.
pub fn note_current(journal: &mut Journal, seen: &Seen) -> Result<(), Error> {
    let (Some(offer), Tree::Ours { version: Some(here), .. }) = (&seen.offer, &seen.tree) else {
        return Ok(());
    };
    let noted = journal.placed().and_then(|placed| placed.current_at);
    let is_newest = offer.newest.is_some_and(|newest| newest <= *here);
    if !is_newest || noted.is_some_and(|then| then.duration_until(offer.now).abs() < NOTED) {
        return Ok(());
    }
    let Some(Entry { state: EntryState::Done, act }) = journal.entry(Step::PlaceRunner) else {
        return Ok(());
    };
    let mut act = act.clone();
    if let Act::PlaceRunner { current_at, .. } = &mut act {
        *current_at = Some(offer.now.to_string());
    }
    Ok(journal.done(act)?)
}
