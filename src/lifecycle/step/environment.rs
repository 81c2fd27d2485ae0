//! The step `WriteEnvironment`: what is set for the runner and its jobs, in the record and in the runner's directory.
//!
//! It undoes nothing: the record goes with the journal, and the files with the tree.

use crate::host::account::{self, Account};
use crate::host::{self, file};
use crate::lifecycle::context::error::{Error, JobsError, TrustError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::environment::{Wanted, is_there, own_hooks, own_path, record, wanted_files};
use crate::lifecycle::state::journal::{Journal, Step};
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::{Change, Planned};
use crate::lifecycle::state::trust;
use crate::lifecycle::step::tools;
use crate::runner::environment::{CA_BUNDLE, HOOKS};
use crate::runner::{Guard, guard};
use std::path::Path;

/// Decides whether anything is to be written; `None` if nothing is set, and nothing was.
pub(crate) fn decide(seen: &Seen) -> Option<Planned> {
    let environment = &seen.environment;
    let step = Step::WriteEnvironment;
    if !environment.changed.is_empty() {
        let detail = format!("set {} for the runner and its jobs", environment.changed.join(", "));
        return Some(Planned::to_do(step, Change::WriteEnvironment { restarts: true }, detail));
    }
    if !environment.drifted.is_empty() {
        let detail =
            format!("write {} again, which something else has changed", environment.drifted.join(", "));
        // An update of the system's certificates is no reason to restart.
        let restarts = environment.drifted.iter().any(|name| *name != CA_BUNDLE);
        return Some(Planned::to_do(step, Change::WriteEnvironment { restarts }, detail));
    }
    let names = &environment.names;
    (!names.is_empty())
        .then(|| Planned::keep(step, format!("{} set for the runner and its jobs", names.join(", "))))
}

/// Refuses a hook that the runner could not run, or that its jobs could change; and the same for shared tools.
///
/// # Errors
/// `JobsError::HookUnusable`, `JobsError::ToolCacheUnusable`.
pub(crate) fn check(site: &Site<'_>, account: Option<&Account>) -> Result<(), Error> {
    let own = if site.request.adopt { own_hooks(site) } else { Vec::new() };
    let own = own.iter().map(|(variable, hook)| (*variable, hook.as_path()));
    for (variable, hook) in site.environment.hooks().chain(own) {
        let refused = |why: &str| {
            let (option, hook) = (option_of(variable), hook.to_owned());
            Err(JobsError::HookUnusable { option, hook, why: why.to_owned() }.into())
        };
        let here = site.request.root.locate(hook);
        let Some(meta) = here.as_ref().and_then(|path| std::fs::metadata(path).ok()) else {
            return refused("it does not exist");
        };
        if !meta.is_file() {
            return refused("it is not a file");
        }
        if !is_executable(&meta) {
            return refused("it is not executable");
        }
        // The user may still have to be created.
        let isolates = account.map_or_else(account::is_root, |account| site.isolates(account));
        if let Some(path) = here.as_ref().filter(|_| isolates)
            && let Err(Error::Trust(TrustError::NotForRoot { path, who, .. })) = trust::check(path, account)
        {
            return refused(&format!("{who} can change {}", path.display()));
        }
    }
    tools::check(site, account)
}

fn option_of(variable: &str) -> &'static str {
    if variable == HOOKS[0] { "--hook-job-started" } else { "--hook-job-completed" }
}

#[cfg(unix)]
fn is_executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    true
}

/// Takes the step.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn take(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<(), Error> {
    let phase = site.phase("env");
    let (dir, guard) = (site.dir(), journal.guard());
    // Before the record is replaced, which tells the lines of runup from those of the operator.
    let files = wanted_files(site, Some(&dir), guard)?;
    record(site)?;
    write_what_differs(site, journal, account, &files)?;
    let names = site.environment.names();
    phase.end(if names.is_empty() { "nothing is set any more".to_owned() } else { names.join(", ") });
    Ok(())
}

/// Writes the files of the runner's directory that are not as they should be.
///
/// # Errors
/// One cannot be written.
pub(crate) fn put(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<(), Error> {
    let files = wanted_files(site, Some(&site.dir()), journal.guard())?;
    write_what_differs(site, journal, account, &files)
}

fn write_what_differs(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
    files: &[Wanted],
) -> Result<(), Error> {
    let (dir, guard) = (site.dir(), journal.guard());
    for wanted in files {
        if !is_there(site, &dir, wanted, guard) {
            write(site, journal, account, &dir, wanted, file::write_atomic)?;
        }
    }
    Ok(())
}

/// Writes them to a staged tree, which the caller syncs. If it `replaces` the one in the runner's directory, the operator's
/// own lines come along, unless a job could have written them. An operator who adopts a runner was shown them.
///
/// # Errors
/// One cannot be written.
pub(crate) fn furnish(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
    staging: &Path,
    replaces: bool,
) -> Result<(), Error> {
    let (dir, guard) = (site.dir(), journal.guard());
    let adopts = site.request.adopt && guard == Guard::Open;
    let trusted = !site.isolates(account) || guard != Guard::Open || adopts;
    let own = (replaces && trusted).then_some(dir.as_path());
    for wanted in wanted_files(site, own, guard)? {
        write(site, journal, account, staging, &wanted, file::replace)?;
    }
    if let Some(text) = own.filter(|_| adopts).and_then(|dir| own_path(site, dir)) {
        let wanted = Wanted { name: ".path", text, mode: 0o644 };
        write(site, journal, account, staging, &wanted, file::replace)?;
    }
    Ok(())
}

fn write(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
    dir: &Path,
    wanted: &Wanted,
    put: fn(&Path, &[u8], u32) -> Result<(), host::Error>,
) -> Result<(), Error> {
    let path = dir.join(wanted.name);
    let isolates = site.isolates(account);
    // Only the runner's own group is to read what can be secret.
    let mode = if wanted.mode == 0o640 && !isolates { 0o600 } else { wanted.mode };
    put(&path, wanted.text.as_bytes(), mode)?;
    if isolates && wanted.mode == 0o640 {
        guard::give_group(&path, site.keeper(account, journal))?;
    }
    Ok(())
}
