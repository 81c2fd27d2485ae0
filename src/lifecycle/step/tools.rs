//! The tools that the jobs of all runners share: checked when they are set, and linked before a runner starts.

use crate::error::{chain, few};
use crate::host::Command;
use crate::host::Stream;
use crate::host::account::{self, Account};
use crate::lifecycle::context::error::{Error, JobsError, TrustError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::environment::recorded;
use crate::lifecycle::step::work::{self, Place};
use crate::runner::environment::TOOL_CACHE_VARIABLES;
use crate::runner::tool_cache;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The command by which runup calls itself as the runner's user.
pub const LINK_TOOLS: &str = "link-tools";

/// How long that may take: a disk or a server may not answer.
const LIMIT: Duration = Duration::from_secs(20);

/// How many of the tools that are left out a warning names.
const NAMED: usize = 5;

/// Refuses a directory that jobs could not use, or could change for each other.
///
/// # Errors
/// `JobsError::ToolCacheUnusable`.
pub(crate) fn check(site: &Site<'_>, account: Option<&Account>) -> Result<(), Error> {
    let Some(dir) = site.environment.tool_cache() else { return Ok(()) };
    let refused = |why: String| Err(JobsError::ToolCacheUnusable { dir: dir.to_owned(), why }.into());
    let moved =
        site.environment.variables().into_iter().find(|(name, _)| TOOL_CACHE_VARIABLES.contains(&&**name));
    if let Some((name, _)) = moved {
        return refused(format!(
            "{name} is set for jobs, so they would not look in the tool cache that has the links"
        ));
    }
    // One that was fine when it was set stops no runner.
    if site.request.supervised && recorded(site)?.tool_cache() == Some(dir) {
        return Ok(());
    }
    if cfg!(windows) {
        return refused("links need a privilege on Windows".into());
    }
    let Some(here) = site.request.root.locate(dir).filter(|dir| dir.is_dir()) else {
        return refused("it is not a directory".into());
    };
    if here.starts_with(site.dir()) {
        return refused("it is in the runner's directory".into());
    }
    let isolates = account.map_or_else(account::is_root, |account| site.isolates(account));
    match refusal(site, &here, isolates)? {
        Some(why) => refused(why),
        None => Ok(()),
    }
}

/// Why the jobs of this runner must not use the directory, as far as that is seen at its top.
#[cfg(unix)]
fn refusal(site: &Site<'_>, cache: &Path, strict: bool) -> Result<Option<String>, Error> {
    if strict {
        match site.check_above(&cache.join(tool_cache::OWN)) {
            Err(Error::Trust(TrustError::UnsafeParent { directory, .. })) => {
                return Ok(Some(format!("users other than root can change {}", directory.display())));
            }
            checked => checked?,
        }
    }
    Ok(tool_cache::refusal(&fs_err::metadata(cache).map_err(crate::host::Error::from)?, strict)
        .map(str::to_owned))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn refusal(_: &Site<'_>, _: &Path, _: bool) -> Result<Option<String>, Error> {
    Ok(None)
}

/// Links them in the tool cache of this runner. Jobs can do without, so what fails is a warning.
pub(crate) async fn link(site: &Site<'_>, account: &Account, work: &str) {
    match try_to_link(site, account, work).await {
        Ok(left_out) if left_out.is_empty() => {}
        Ok(left_out) => {
            let named = few(&left_out, NAMED);
            let named = named.escape_debug();
            tracing::warn!("some tools of --tool-cache are not available to jobs: {named}");
        }
        Err(_) if site.stop.is_cancelled() => {}
        Err(error) => {
            let why = chain(&error);
            tracing::warn!("the tools of --tool-cache are not available to jobs: {why}");
        }
    }
}

/// Returns what is left out.
async fn try_to_link(site: &Site<'_>, account: &Account, work: &str) -> Result<Vec<String>, Error> {
    let set = recorded(site)?;
    let cache = set.tool_cache().and_then(|cache| site.request.root.locate(cache));
    let dir = site.dir();
    let (Some(cache), Some(place)) = (cache, work::locate(&dir, work)) else { return Ok(Vec::new()) };
    let own = match place {
        Place::Inside(_) => dir.join(work),
        Place::Elsewhere(path) => path,
    };
    let own = own.join(tool_cache::OWN);
    let strict = site.isolates(account);
    if let Some(why) = refusal(site, &cache, strict)? {
        return Err(JobsError::ToolCacheUnusable { dir: cache, why }.into());
    }
    if strict {
        return link_as(site, account, &cache, &own).await;
    }
    let linked = tool_cache::link(&cache, &own, false);
    Ok(linked.map_err(|source| JobsError::ToolsNotLinked { cache, own, source })?)
}

/// Links them as the runner's user: jobs own the directory, so with root's rights their links could lead anywhere, and
/// with root's name the links would stay where jobs move them.
async fn link_as(site: &Site<'_>, account: &Account, cache: &Path, own: &Path) -> Result<Vec<String>, Error> {
    let command = Command::new(this_program())
        .args([LINK_TOOLS.as_ref(), cache.as_os_str(), own.as_os_str()])
        .account(account)
        .cwd("/")
        // Not that of the user, which jobs can write.
        .env("RUNUP_CONFIG", "/dev/null")
        .deadline(site.deadline.within(LIMIT));
    let mut left_out = Vec::new();
    let outcome = command
        .run(&site.stop, &mut |stream, line| {
            if stream == Stream::Out && !line.is_empty() {
                left_out.push(line.to_owned());
            }
        })
        .await?;
    if outcome.success() {
        return Ok(left_out);
    }
    let why = outcome.tail.lines().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned);
    let source = std::io::Error::other(why.unwrap_or_else(|| outcome.how()));
    Err(JobsError::ToolsNotLinked { cache: cache.to_owned(), own: own.to_owned(), source }.into())
}

/// The file of this process, wherever its path is: the user may not be able to enter that.
fn this_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("runup"))
}
