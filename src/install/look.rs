//! What is there, before anything is decided. Looking changes nothing.

use super::Error;
use super::journal::{Act, Journal, Step};
use super::site::Site;
use crate::github;
use crate::host::{self, Account};
use crate::runner::{LocalState, NameContext, RunnerName, RunnerVersion, TreeReport, name, state, tree};
use std::path::Path;

/// The machine and the server as they are now.
#[derive(Debug)]
pub struct Seen {
    /// The runner's user, if it exists.
    pub account: Option<Account>,
    /// What stands in the runner's folder.
    pub tree: Tree,
    /// What the folder says of a registration.
    pub local: LocalState,
    /// Whether the folder has the key that `config.sh` makes just before it registers.
    pub key: bool,
    /// Whether the identity in the folder is another machine's: the disk is a copy.
    pub clone: bool,
    /// The name that this run would register, and whether nobody else could have it.
    pub name: Option<WantedName>,
    /// The runner on the server, as far as it could be asked.
    pub server: Server,
}

/// The name to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedName {
    /// The name itself.
    pub name: RunnerName,
    /// Only this machine could have made it.
    pub unique: bool,
}

/// What stands in the runner's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// Nothing, or an empty folder.
    Absent,
    /// A complete runner that the journal knows.
    Ours {
        /// Its version, where its files tell it.
        version: Option<RunnerVersion>,
    },
    /// A runner that the journal knows, with parts missing.
    Incomplete {
        /// Which parts.
        missing: Vec<String>,
    },
    /// Something that the journal does not know.
    Foreign {
        /// In a few words.
        what: String,
    },
}

/// What the server said.
#[derive(Debug, Clone)]
pub enum Server {
    /// Nobody asked: no credential, or nothing to ask for.
    NotAsked,
    /// It has no such runner.
    Nothing,
    /// It has this one.
    Has(github::Runner),
}

/// Looks at everything that `install` and `plan` decide from.
///
/// # Errors
/// Something could not be looked at.
pub async fn look(site: &Site<'_>, journal: &Journal) -> Result<Seen, Error> {
    let dir = site.dir();
    let account = site.account()?;
    let tree = look_at_tree(&dir, site, journal)?;
    let local = state::read(&dir)?;
    let fingerprint = fingerprint(site);
    let clone = match (journal.machine(), fingerprint.as_deref()) {
        (Some(then), Some(now)) => then != now,
        _ => false,
    };
    let name = wanted_name(site, journal, clone)?;
    let server = if clone { Server::NotAsked } else { ask(site, journal, &local, name.as_ref()).await? };
    Ok(Seen { account, tree, local, key: state::has_key(&dir), clone, name, server })
}

/// The machine's fingerprint: eight hex digits that say which machine, not its id.
#[must_use]
pub fn fingerprint(site: &Site<'_>) -> Option<String> {
    host::machine_id(&site.request.root).map(|id| name::fingerprint(&id))
}

fn look_at_tree(dir: &Path, site: &Site<'_>, journal: &Journal) -> Result<Tree, Error> {
    match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Tree::Absent),
        Err(source) => {
            return Err(host::Error::Path { doing: "look at", path: dir.to_owned(), source }.into());
        }
        Ok(metadata) if metadata.is_symlink() => {
            return Ok(Tree::Foreign { what: "it is a symbolic link".into() });
        }
        Ok(metadata) if !metadata.is_dir() => return Ok(Tree::Foreign { what: "it is no folder".into() }),
        Ok(_) => {}
    }
    let mut entries = fs_err::read_dir(dir).map_err(host::Error::from)?;
    if entries.next().is_none() {
        return Ok(Tree::Absent);
    }
    let report: TreeReport = tree::inspect(dir, site.platform())?;
    if journal.entry(Step::PlaceRunner).is_none() {
        let what = if report.is_runner() {
            "a runner that was set up in another way"
        } else {
            "a folder with other things in it"
        };
        return Ok(Tree::Foreign { what: what.into() });
    }
    if report.is_runner() {
        return Ok(Tree::Ours { version: report.version });
    }
    Ok(Tree::Incomplete { missing: report.lacks() })
}

/// The name of this run. What the journal says was made from the same template stays: `{random}` must not mean another
/// runner with every boot.
pub(super) fn wanted_name(
    site: &Site<'_>,
    journal: &Journal,
    clone: bool,
) -> Result<Option<WantedName>, Error> {
    let Some(wanted) = &site.request.registration else { return Ok(None) };
    if !clone
        && let Some((_, registered)) = journal.registered()
        && registered.template == wanted.name.to_string()
        && let Ok(name) = registered.name.parse()
    {
        return Ok(Some(WantedName { name, unique: registered.unique }));
    }
    let context = NameContext {
        hostname: host::hostname(),
        // A machine without an id (a container) gets a random one instead, and the journal keeps the name.
        machine_id: Some(host::machine_id(&site.request.root).unwrap_or_else(name::random_word)),
        random: name::random_word(),
        platform: site.platform(),
    };
    Ok(Some(WantedName { name: wanted.name.render(&context)?, unique: wanted.name.is_unique() }))
}

/// Asks the server once: by id where one is known to us, by name otherwise.
async fn ask(
    site: &Site<'_>,
    journal: &Journal,
    local: &LocalState,
    name: Option<&WantedName>,
) -> Result<Server, Error> {
    let Some(client) = site.eyes() else { return Ok(Server::NotAsked) };
    let Some(name) = name else { return Ok(Server::NotAsked) };
    let known_id = journal.registered().and_then(|(_, registered)| registered.agent_id);
    let answer = match (known_id, local) {
        (Some(id), _) => site.within("asking for the runner", client.runner(id)).await?,
        // The folder of a run that was cut off right after config.sh: the journal has no id yet.
        (None, LocalState::Configured(file)) if journal.registered().is_some() => {
            site.within("asking for the runner", client.runner(file.agent_id)).await?
        }
        _ => site.within("asking for the name", client.runner_named(name.name.as_str())).await?,
    };
    let same_name = |runner: &github::Runner| runner.is_named(name.name.as_str());
    Ok(match answer {
        Some(runner) if same_name(&runner) || known_id == Some(runner.id) => Server::Has(runner),
        _ => Server::Nothing,
    })
}

/// Whether the journal says that the user was made by us.
#[must_use]
pub fn made_user(journal: &Journal) -> Option<&str> {
    match journal.entry(Step::CreateUser).map(|entry| &entry.act) {
        Some(Act::CreateUser { name }) => Some(name),
        _ => None,
    }
}
