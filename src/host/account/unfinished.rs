//! What a `useradd` or `userdel` that was killed leaves of a user: it writes one file after the other, and
//! `/etc/passwd` first.

use super::home::home_of_nobody;
use super::manage::{Made, create_group, delete_group, free_id, own_group};
use super::tools::{no_login_shell, run, tool};
use super::{find, group_file, is_root};
use crate::host::{Error, Root, delete};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Deletes what is left of a user of runup's that is not in `/etc/passwd`.
pub(super) async fn delete_rest(
    root: &Root,
    name: &str,
    made: Made,
    stop: &CancellationToken,
) -> Result<(), Error> {
    if !is_root() {
        return Ok(());
    }
    if let Some(home) = home_of_nobody(root, name).filter(|_| made.home) {
        match delete::delete_dir(&home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    // What a directory service knows as this user is that user's.
    if find(root, name)?.is_none() && is_listed(root, name) {
        delete_entries(root, name, stop).await?;
    }
    if made.group {
        // groupdel finds the entry in gshadow only by way of the one in group.
        if !group_file(root).iter().any(|group| group.name == name) && has_line(root, "/etc/gshadow", name) {
            create_group(root, name, None, stop).await?;
        }
        delete_own_group(root, name, stop).await?;
    }
    Ok(())
}

/// Deletes the user's own group, unless another user has it.
pub(super) async fn delete_own_group(root: &Root, name: &str, stop: &CancellationToken) -> Result<(), Error> {
    if is_root() && own_group(root, name).is_some() {
        delete_group(root, name, stop).await?;
    }
    Ok(())
}

/// Whether a file besides `/etc/passwd` still has the user.
fn is_listed(root: &Root, name: &str) -> bool {
    has_line(root, "/etc/shadow", name) || group_file(root).iter().any(|group| group.has(name))
}

fn has_line(root: &Root, file: &str, name: &str) -> bool {
    let text = root.resolve(Path::new(file)).and_then(|path| fs_err::read_to_string(path).ok());
    text.is_some_and(|text| text.lines().any(|line| line.split(':').next() == Some(name)))
}

/// Deletes the entries of the user: userdel does that for a user that exists.
async fn delete_entries(root: &Root, name: &str, stop: &CancellationToken) -> Result<(), Error> {
    let Some(gid) = other_group(root, name) else { return Ok(()) };
    let add = tool(root, name, "useradd")?
        .arg("--system")
        .arg("--uid")
        .arg(free_id(root, name)?.to_string())
        .arg("--gid")
        .arg(gid.to_string())
        .args(["--no-create-home", "--home-dir", "/nonexistent", "--shell", no_login_shell(root)])
        .arg(name);
    for (program, command) in [("useradd", add), ("userdel", tool(root, name, "userdel")?.arg(name))] {
        let rendered = command.render();
        run(command, program, stop).await?.into_success(&rendered)?;
    }
    Ok(())
}

/// A group for a user that is about to be deleted, so that userdel does not delete the group of its name: that of nobody,
/// or else any.
pub(super) fn other_group(root: &Root, name: &str) -> Option<u32> {
    const NOBODY: u32 = 65_534;
    let groups = group_file(root);
    let others = || groups.iter().filter(|group| group.name != name);
    others().find(|group| group.gid == NOBODY).or_else(|| others().next()).map(|group| group.gid)
}
