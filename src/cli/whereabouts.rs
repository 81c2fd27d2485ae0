//! Which directories a command is about: the root file system, the runner's, and that of the journals.

use crate::host::{self, Root, account, owner};
use crate::settings::flags::Place;
use crate::settings::{Environment, Error};
use crate::transfer::place::is_reserved;
use std::path::{Path, PathBuf};

/// Where root's journals are.
const ROOT_STATE: &str = "/var/lib/runup";

/// The root file system, the runner's directory in it, and where the journals are in it.
pub(super) fn whereabouts(
    place: &Place,
    environment: &Environment,
) -> Result<(Root, PathBuf, PathBuf), super::Failed> {
    // An image belongs to root, even if another user builds it.
    let as_root = account::is_root() || place.root.is_some();
    let (root, dir) = (root(place.root.as_deref())?, dir(place, as_root)?);
    let state = match &place.state_dir {
        Some(state) => set_state(state, place.root.is_some())?,
        None => state(as_root, environment, dir.parent()),
    };
    Ok((root, dir, state))
}

/// The runner's directory, as the machine that boots from the root file system will see it.
fn dir(place: &Place, as_root: bool) -> Result<PathBuf, Error> {
    let dir = match &place.dir {
        Some(dir) if dir.is_relative() && place.root.is_some() => {
            return Err(Error::Contradiction(format!(
                "--dir {} must be absolute with --root",
                dir.display()
            )));
        }
        Some(dir) => absolute(dir)?,
        None if as_root && cfg!(unix) => PathBuf::from("/opt/actions-runner"),
        None => account::current().home.join("actions-runner"),
    };
    if dir.file_name().is_none() {
        let message = format!("--dir {} cannot be the directory of a runner", dir.display());
        return Err(Error::Contradiction(message));
    }
    if is_reserved(&dir) {
        let message = format!("--dir {} has a name of what runup deletes beside a runner", dir.display());
        return Err(Error::Contradiction(message));
    }
    Ok(dir)
}

/// The root file system to work in.
pub(super) fn root(prefix: Option<&Path>) -> Result<Root, Error> {
    Ok(match prefix {
        Some(prefix) if !prefix.is_dir() => {
            return Err(Error::Contradiction(format!("--root {} is not a directory", prefix.display())));
        }
        Some(prefix) => Root::at(absolute(prefix)?),
        None => Root::host(),
    })
}

/// The directory that was set for the journals. What root undoes and deletes is in them, so no other user may be able to
/// write them, or to put others in their place.
fn set_state(state: &Path, in_image: bool) -> Result<PathBuf, super::Failed> {
    if in_image && state.is_relative() {
        let message = format!("--state-dir {} must be absolute with --root", state.display());
        return Err(Error::Contradiction(message).into());
    }
    let state = absolute(state)?;
    if account::is_root() && !in_image {
        let there = state.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let opened = std::fs::File::open(there).map_err(host::Error::from)?;
        if let Some(found) = owner::who_else_can_change(there, &opened)? {
            return Err(Error::StateOfOthers { state, at: found.path, why: found.why }.into());
        }
    }
    Ok(state)
}

/// Where the journals are, unless another directory is set. An ordinary user's home directory may be missing, or closed
/// to them, as in a container that runs as any user: then it is beside the runner, where one can be placed.
fn state(as_root: bool, environment: &Environment, beside: Option<&Path>) -> PathBuf {
    if as_root && cfg!(unix) {
        return PathBuf::from(ROOT_STATE);
    }
    if let Some(state) = environment.get("XDG_STATE_HOME").or_else(|| environment.get("LOCALAPPDATA")) {
        return Path::new(state).join("runup");
    }
    // An image that root has baked for any user of its own group.
    let baked = Path::new(ROOT_STATE);
    if baked.is_dir() && may_write(baked) {
        return baked.to_owned();
    }
    let homes = [Some(account::current().home), environment.get("HOME").map(PathBuf::from)];
    let mut candidates: Vec<PathBuf> = homes
        .into_iter()
        .flatten()
        .filter(|home| home.is_absolute())
        .map(|home| home.join(".local/state/runup"))
        .collect();
    candidates.extend(beside.map(|dir| dir.join(".runup")));
    let existing = |path: &&PathBuf| path.is_dir() && may_write(path);
    let possible = |path: &&PathBuf| path.ancestors().find(|path| path.exists()).is_some_and(may_write);
    let chosen = candidates.iter().find(existing).or_else(|| candidates.iter().find(possible));
    chosen.or(candidates.first()).cloned().unwrap_or_else(|| PathBuf::from(ROOT_STATE))
}

fn may_write(dir: &Path) -> bool {
    dir.is_dir() && host::check_writable(dir).is_ok()
}

/// The directories with journals of runners that this user's could be confused with: their own, and root's.
pub(super) fn states(
    prefix: Option<&Path>,
    set: Option<&Path>,
    environment: &Environment,
) -> Result<Vec<PathBuf>, super::Failed> {
    let as_root = account::is_root() || prefix.is_some();
    let mut states = vec![state(as_root, environment, None)];
    states.extend(set.map(|set| set_state(set, prefix.is_some())).transpose()?);
    let root = root(prefix)?;
    states = states.iter().map(|state| root.join(state)).collect();
    if !as_root && cfg!(unix) {
        states.push(PathBuf::from(ROOT_STATE));
    }
    states.dedup();
    Ok(states)
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::Contradiction(format!("{} is not a valid path: {error}", path.display())))?;
    if absolute.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::Contradiction(format!("{} must not contain ..", path.display())));
    }
    // Without a trailing slash, which shells complete: the names of journal and lock follow from the path.
    Ok(absolute.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_name() {
        for text in ["/opt/runner", "/opt/runner/", "/opt//runner/.", "/opt/./runner//"] {
            assert_eq!(absolute(Path::new(text)).unwrap().as_os_str(), "/opt/runner", "{text}");
        }
    }

    #[test]
    fn paths_do_not_climb() {
        assert!(absolute(Path::new("/opt/../etc")).is_err());
        assert!(absolute(Path::new("runner")).unwrap().is_absolute());
    }
}
