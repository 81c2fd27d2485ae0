//! The tools that the jobs of all runners share: checked when they are set, and linked before a runner starts.

use crate::host::account::{self, Account};
use crate::lifecycle::context::error::{Error, JobsError, TrustError};
use crate::lifecycle::context::finding::few;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::environment::recorded;
use crate::lifecycle::state::trust;
use crate::lifecycle::step::work::{self, Place};
use crate::runner::{Keeper, tool_cache};
use std::path::Path;

/// Refuses a directory that is none, or that jobs could change for each other.
///
/// # Errors
/// `JobsError::ToolCacheUnusable`.
pub(crate) fn check(site: &Site<'_>, account: Option<&Account>) -> Result<(), Error> {
    let Some(dir) = site.environment.tool_cache() else { return Ok(()) };
    let refused =
        |why: &str| Err(JobsError::ToolCacheUnusable { dir: dir.to_owned(), why: why.to_owned() }.into());
    if cfg!(windows) {
        return refused("links need a privilege on Windows");
    }
    let Some(here) = site.request.root.locate(dir).filter(|dir| dir.is_dir()) else {
        return refused("it is not a directory");
    };
    if here.starts_with(site.dir()) {
        return refused("it is in the runner's directory");
    }
    let isolates = account.map_or_else(account::is_root, |account| site.isolates(account));
    if isolates
        && let Err(Error::Trust(TrustError::NotForRoot { path, who, .. })) = trust::check(&here, account)
    {
        return refused(&format!("{who} can change {}", path.display()));
    }
    Ok(())
}

/// Links them to the tool cache of this runner. A job can do without, so what fails is a warning.
pub(crate) fn link(site: &Site<'_>, account: &Account, keeper: Keeper, work: &str) {
    if let Err(error) = try_to_link(site, account, keeper, work) {
        tracing::warn!("jobs do not find the tools of --tool-cache: {}", crate::error::chain(&error));
    }
}

fn try_to_link(site: &Site<'_>, account: &Account, keeper: Keeper, work: &str) -> Result<(), Error> {
    let set = recorded(site)?;
    let cache = set.tool_cache().and_then(|cache| site.request.root.locate(cache));
    let dir = site.dir();
    let (Some(cache), Some(place)) = (cache, work::locate(&dir, work)) else { return Ok(()) };
    let (base, own) = match &place {
        Place::Inside(_) => (dir.as_path(), Path::new(work).strip_prefix(&dir).unwrap_or(Path::new(work))),
        Place::Elsewhere(path) => (path.as_path(), Path::new("")),
    };
    // Jobs cannot replace it, whatever they do in it.
    site.check_above(base)?;
    let keeper = site.isolates(account).then_some(keeper);
    if keeper.is_some() {
        trust::check(&cache, Some(account))?;
    }
    let linked = tool_cache::link(&cache, base, &own.join(tool_cache::OWN), keeper).map_err(|source| {
        JobsError::ToolsNotLinked { own: base.join(own).join(tool_cache::OWN), cache: cache.clone(), source }
    })?;
    tracing::debug!(tools = linked.tools, "linked the tools of {}", cache.display());
    if !linked.changeable.is_empty() {
        tracing::warn!("tools that not only root can change are not linked: {}", few(&linked.changeable));
    }
    Ok(())
}
