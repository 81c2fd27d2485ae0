//! Whether the service of a runner for one job after another gets a `/tmp`, `/var/tmp` and `/dev/shm` of its own.
//!
//! A container engine takes the paths of `-v /tmp/x:/x` for the machine's, and a job whose user can become root is kept
//! from nothing, so neither has them. Nothing of the runner may be below one of these directories either.

use crate::host::account::{self, Account};
use crate::host::mounts;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::request::WantedService;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::user::is_created;
use crate::runner::unit::Main;
use crate::settings::layers;
use std::path::Path;

/// What the service would have of its own.
const OWN: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The variables that tell a client of a container engine where that is.
const HOSTS: [&str; 2] = ["DOCKER_HOST", "CONTAINER_HOST"];

/// The id that no user has, for one that is about to be created.
const NO_ID: u32 = u32::MAX - 1;

/// Whether it does; the unit adds the groups `more` to its user.
///
/// # Errors
/// The user database cannot be read.
pub(crate) async fn applies(
    site: &Site<'_>,
    journal: &Journal,
    wanted: &WantedService,
    account: Option<&Account>,
    more: &[u32],
) -> Result<bool, Error> {
    let Main::Supervisor { arguments, .. } = &wanted.main else { return Ok(false) };
    let request = &site.request;
    let ephemeral = request.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral);
    if !cfg!(target_os = "linux") || !(ephemeral || request.jit) || !account::is_root() {
        return Ok(false);
    }
    let variables = site.environment.variables();
    let mut texts: Vec<String> = arguments.clone();
    texts.extend(configuration(site, arguments));
    for (name, value) in variables {
        if HOSTS.contains(&name.as_str()) {
            return Ok(false);
        }
        texts.push(value);
    }
    let paths: [&Path; 4] = [&request.dir, &request.state, &wanted.program, Path::new(site.work())];
    if paths.into_iter().any(is_inside) || texts.iter().any(|text| names_one(text)) {
        return Ok(false);
    }
    let coming;
    let account = match account {
        Some(account) if !site.isolates(account) || !is_created(site, journal, account)? => return Ok(false),
        Some(account) => account,
        None => {
            let name = site.user.clone().unwrap_or_default();
            coming = Account { name, uid: NO_ID, gid: NO_ID, home: "/nonexistent".into() };
            &coming
        }
    };
    let root = &request.root;
    let mut groups = more.to_vec();
    groups.extend(request.groups.iter().filter_map(|group| account::group_id(root, group)));
    let may = !is_inside(&account.home)
        && !account::has_engine(root)
        && account::ways_to_root(root, account, &groups).is_empty();
    Ok(may && (!root.is_host() || mounts::can_be_private(&site.stop).await))
}

fn is_inside(path: &Path) -> bool {
    OWN.iter().any(|own| path.starts_with(own))
}

/// Whether the text names something in one of them, as an option or a command does.
fn names_one(text: &str) -> bool {
    OWN.iter().any(|own| text.contains(&format!("{own}/")))
}

/// The text of the files that the service reads its settings from: a token, or a command for one.
fn configuration(site: &Site<'_>, arguments: &[String]) -> Vec<String> {
    let named = arguments.iter().filter_map(|argument| argument.strip_prefix("--config="));
    let files =
        named.chain([layers::DEFAULT_FILE]).filter_map(|file| site.request.root.resolve(Path::new(file)));
    files.filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_one_of_them_is_told_as_a_path_and_in_a_text() {
        for path in ["/tmp", "/tmp/runner", "/var/tmp/a/b", "/dev/shm/x"] {
            assert!(is_inside(Path::new(path)), "{path}");
        }
        for path in ["/opt/actions-runner", "/tmpfs", "/srv/tmp", "_work", "/var/tmpx"] {
            assert!(!is_inside(Path::new(path)), "{path}");
        }
        assert!(names_one("--token-command=cat /tmp/token") && names_one("token-file = \"/var/tmp/t\""));
        assert!(!names_one("--drain=300s") && !names_one("TMPDIR=/var/tmp"));
    }
}
