//! Between two jobs: the containers of an engine of the user's own, and the room on the disk. A disk that is nearly full
//! fails jobs in ways that do not name it, so this does.

use crate::deadline::Deadline;
use crate::host::account::{self, Account};
use crate::host::usage::{self, Room};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::step::user;
use crate::lifecycle::step::work;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The timeout of Podman.
const ENGINE: Duration = Duration::from_secs(30);

/// How long the search for what fills the disk may take.
const SEARCH: Duration = Duration::from_secs(2);

/// How many of the largest directories a message names.
const LARGEST: usize = 3;

/// What is not worth a name.
const SMALL: u64 = 1_000_000;

/// Where machines have much.
const USUAL: [&str; 9] = [
    "/var/lib/docker",
    "/var/lib/containers",
    "/var/lib/containerd",
    "/var/cache",
    "/var/log",
    "/opt/hostedtoolcache",
    "/tmp",
    "/var/tmp",
    "/root",
];

/// Deletes what is in an engine of the user's own, and ends what that has left running.
///
/// # Errors
/// A process does not end.
pub(crate) async fn clear_engine(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
    home_goes: bool,
) -> Result<(), Error> {
    let Some(podman) = account::podman(&site.request.root, account, home_goes) else { return Ok(()) };
    let storage =
        account::podman_storage(&site.request.root, account).unwrap_or_else(|| account.home.clone());
    let before = Room::at(&storage).filter(Room::is_little);
    let deadline = Deadline::after(ENGINE.min(site.deadline.left()));
    let failed = account::clear_podman(&podman, account, before.is_some(), deadline, &site.stop).await;
    if let (Some(before), Some(now), true) = (before, Room::at(&storage), failed.is_empty()) {
        let freed = amount(now.free.saturating_sub(before.free));
        tracing::info!(
            "the disk of Podman's storage is nearly full: deleted its containers, volumes, and images that are older than a \
             day, which has freed {freed}"
        );
    }
    for failed in failed {
        tracing::warn!("the next job may find containers or volumes of an earlier one: {failed}");
    }
    user::end_processes(site, journal, account).await
}

/// The bytes that are free where the runner is.
pub(crate) fn free(site: &Site<'_>) -> Option<u64> {
    Room::at(&site.dir()).map(|room| room.free)
}

/// Says if there is little room for the next job, and what takes it. `before` was free before the cleaning.
pub(crate) async fn tell(site: &Site<'_>, before: Option<u64>) {
    let Ok(Some(account)) = site.account() else { return };
    let freed = free(site).zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
    for path in places(site, &account) {
        let Some(room) = Room::at(&path).filter(Room::is_little) else { continue };
        let files = room.files.map(|files| format!(", and {files} % of its files")).unwrap_or_default();
        tracing::warn!(
            "only {} % ({}) of the disk of {}{files} is free for the next job; the cleaning has freed {}. The largest: {}",
            room.percent,
            amount(room.free),
            shown(site, &path).display(),
            amount(freed),
            largest(site, &account, &path).await
        );
    }
}

/// Where the next job needs room: one path for each filesystem.
fn places(site: &Site<'_>, account: &Account) -> Vec<PathBuf> {
    let dir = site.dir();
    let work = work::locate(&dir, site.work()).map(|place| place.path().to_owned());
    let home = site.request.root.locate(&account.home);
    let containers = account::podman_storage(&site.request.root, account);
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for path in [Some(dir), work, home, containers].into_iter().flatten() {
        let Some(device) = device(&path) else { continue };
        if !found.iter().any(|(known, _)| *known == device) {
            found.push((device, path));
        }
    }
    found.into_iter().map(|(_, path)| path).collect()
}

fn device(path: &Path) -> Option<u64> {
    let meta = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::dev(&meta));
    #[cfg(not(unix))]
    Some(u64::from(meta.is_file()))
}

/// For people.
async fn largest(site: &Site<'_>, account: &Account, of: &Path) -> String {
    let root = &site.request.root;
    let mut paths: Vec<PathBuf> = USUAL.iter().filter_map(|path| root.locate(Path::new(path))).collect();
    // Other runners, and the verified copies.
    let beside = site.dir().parent().and_then(|parent| std::fs::read_dir(parent).ok());
    paths.extend(beside.into_iter().flatten().flatten().map(|entry| entry.path()));
    paths.extend(root.locate(&account.home));
    paths.sort();
    paths.dedup();
    let deadline = Deadline::after(SEARCH);
    let of = of.to_owned();
    let count = move || {
        let disk = device(&of);
        paths.retain(|path| device(path) == disk);
        let mut sizes: Vec<(u64, PathBuf)> =
            paths.into_iter().map(|path| (usage::size(&path, &|| deadline.passed()), path)).collect();
        sizes.sort_by(|one, other| other.cmp(one));
        sizes
    };
    // A network's filesystem may never answer.
    let counted = tokio::time::timeout(SEARCH * 2, spawn_blocking(count)).await;
    let sizes = counted.map(Result::unwrap_or_default).unwrap_or_default();
    let named = sizes.iter().filter(|(size, _)| *size >= SMALL).take(LARGEST);
    let named: Vec<String> =
        named.map(|(size, path)| format!("{} in {}", amount(*size), shown(site, path).display())).collect();
    if named.is_empty() { "nothing that runup knows".to_owned() } else { named.join(", ") }
}

fn shown(site: &Site<'_>, path: &Path) -> PathBuf {
    site.request.root.strip(path).unwrap_or_else(|| path.to_owned())
}

fn amount(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{} MB", bytes / 1_000_000)
    } else {
        format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let shown = [0, 999_999, 12_345_678, 1_999_999_999].map(amount);
        assert_eq!(shown, ["0 MB", "0 MB", "12 MB", "1.9 GB"]);
    }
}
