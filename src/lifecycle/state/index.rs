//! The number of a runner among those of its machine, for `{index}` in its name: what the journals say.

use crate::host::account;
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::user::others;
use std::collections::BTreeSet;
use std::path::Path;

/// The directory of the first runner of a machine, or of a user; the others have a number at the end.
const DEFAULT_NAME: &str = "actions-runner";
const DEFAULT_PARENT: &str = "/opt";

/// The number that this runner has, or would get now: the one in the name of its directory, unless another runner has it,
/// or else the first that is free.
///
/// # Errors
/// A journal cannot be read.
pub(crate) fn of(site: &Site<'_>, journal: &Journal) -> Result<u32, Error> {
    if let Some(index) = journal.index() {
        return Ok(index);
    }
    if let Some(instance) = &site.request.instance {
        return Ok(instance.number);
    }
    let home = account::current().home;
    let others = others(site, journal)?;
    let taken: BTreeSet<u32> = others
        .iter()
        .filter_map(|other| {
            other
                .index()
                .or_else(|| other.instance().map(|it| it.number))
                .or_else(|| told_by(other.dir(), &home))
        })
        .collect();
    if let Some(told) = told_by(&site.request.dir, &home).filter(|told| !taken.contains(told)) {
        return Ok(told);
    }
    let mut free = 1;
    while taken.contains(&free) {
        free += 1;
    }
    Ok(free)
}

/// Records the number, before anything is registered with it.
///
/// # Errors
/// Another run has taken `planned` meanwhile; the journal cannot be written.
pub(crate) async fn claim(site: &Site<'_>, journal: &mut Journal, planned: Option<u32>) -> Result<(), Error> {
    let Some(planned) = planned else { return Ok(()) };
    let _others = site.lock_users().await?;
    let index = of(site, journal)?;
    if index != planned {
        return Err(RegistrationError::IndexTaken { index: planned }.into());
    }
    Ok(journal.set_index(index)?)
}

/// The number that the name of a directory tells: 1 for the default one, N for the same with `-N`.
fn told_by(dir: &Path, home: &Path) -> Option<u32> {
    let parent = dir.parent()?;
    if parent != Path::new(DEFAULT_PARENT) && parent != home {
        return None;
    }
    match dir.file_name()?.to_str()?.strip_prefix(DEFAULT_NAME)? {
        "" => Some(1),
        rest => {
            let digits = rest.strip_prefix('-')?;
            digits.parse().ok().filter(|number: &u32| *number > 1 && number.to_string() == digits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directories_tell_their_numbers() {
        for (dir, number) in [
            ("/opt/actions-runner", Some(1)),
            ("/opt/actions-runner-2", Some(2)),
            ("/opt/actions-runner-17", Some(17)),
            ("/home/op/actions-runner-3", Some(3)),
            ("/opt/actions-runner-1", None),
            ("/opt/actions-runner-02", None),
            ("/opt/actions-runner-x", None),
            ("/opt/actions-runner2", None),
            ("/srv/actions-runner-2", None),
            ("/", None),
        ] {
            assert_eq!(told_by(Path::new(dir), Path::new("/home/op")), number, "{dir}");
        }
    }
}
