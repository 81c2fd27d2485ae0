//! What a `useradd` or `userdel` that was killed leaves of a user: it writes one file after the other, and
//! `/etc/passwd` first.

use super::home::home_of_nobody;
use super::manage::{
    Made, WantedIds, create_group, delete_group, ensure_own_group, has_group, own_group, uid_for, useradd,
};
use super::tools::{run, tool};
use super::{find, group_file, is_root};
use crate::deadline::Stop;
use crate::host::{Error, Root, delete};
use std::path::Path;

/// Deletes what is left of a user of runup's that is not in `/etc/passwd`.
pub(super) async fn delete_rest(root: &Root, name: &str, made: Made<'_>, stop: &Stop) -> Result<(), Error> {
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
        delete_entries(root, name, made, stop).await?;
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
pub(super) async fn delete_own_group(root: &Root, name: &str, stop: &Stop) -> Result<(), Error> {
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
async fn delete_entries(root: &Root, name: &str, made: Made<'_>, stop: &Stop) -> Result<(), Error> {
    if !add_again(root, name, made, stop).await? {
        return Ok(());
    }
    let command = tool(root, name, "userdel")?.arg(name);
    let rendered = command.render();
    run(command, "userdel", stop).await?.into_success(&rendered)?;
    Ok(())
}

/// Creates the user for userdel. If this is killed before userdel, the next run finds a user that is like any that runup
/// creates, but for its home directory. Returns whether there is a group for it.
pub(super) async fn add_again(root: &Root, name: &str, made: Made<'_>, stop: &Stop) -> Result<bool, Error> {
    let gid = if made.group && (own_group(root, name).is_some() || !has_group(root, name)) {
        ensure_own_group(root, name, WantedIds::default(), stop).await?
    } else {
        let Some(gid) = other_group(root, name) else { return Ok(false) };
        gid
    };
    let ids = (uid_for(root, name, gid)?, gid);
    let command = useradd(root, name, ids, made.dir)?.arg("--no-create-home").arg(name);
    let rendered = command.render();
    run(command, "useradd", stop).await?.into_success(&rendered)?;
    Ok(true)
}

/// A group for a user that is about to be deleted, so that userdel does not delete the group of its name: that of nobody,
/// or else any but root's.
pub(super) fn other_group(root: &Root, name: &str) -> Option<u32> {
    const NOBODY: u32 = 65_534;
    let groups = group_file(root);
    let others = || groups.iter().filter(|group| group.name != name && group.gid != 0);
    others().find(|group| group.gid == NOBODY).or_else(|| others().next()).map(|group| group.gid)
}
