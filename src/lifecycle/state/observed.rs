//! Observes what is there, before anything is decided. Changes nothing.

use crate::github;
use crate::host::{self, Account, account};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::environment;
use crate::lifecycle::state::index;
use crate::lifecycle::state::journal::{Journal, Registered, Step};
use crate::lifecycle::state::service::{self, SeenService};
use crate::lifecycle::state::user;
use crate::lifecycle::state::version_policy;
use crate::lifecycle::state::version_policy::{Offer, Told, Verdict};
use crate::runner::{
    Guard, LocalState, NameContext, NameTemplate, RunnerName, RunnerVersion, TreeReport, asset, name, state,
    tree,
};
use std::io::ErrorKind;
use std::path::Path;

/// The machine and the server as they are now.
#[derive(Debug)]
pub struct Seen {
    /// The name of the runner's user; `None` is the one who runs this.
    pub user: Option<String>,
    /// The runner's user, if it exists.
    pub account: Option<Account>,
    /// The requested groups that it is not in.
    pub missing_groups: Vec<String>,
    /// The requested groups that do not exist.
    pub unknown_groups: Vec<String>,
    /// The requested ids that cannot be those of a new user: the option, the id, and who has it.
    pub taken_ids: Vec<(&'static str, u32, String)>,
    /// The platform that the runner is for, `linux-x64` and so on.
    pub platform: String,
    /// What is in the runner's directory.
    pub tree: Tree,
    /// Whether it cannot be exchanged for another one, because it is a mount point or has one in it.
    pub mounted: bool,
    /// Its owner, if it is ours.
    pub owner: Option<TreeOwner>,
    /// What is set for the runner and its jobs.
    pub environment: SeenEnvironment,
    /// How it is guarded.
    pub guard: Guard,
    /// How it is to be guarded once it is registered.
    pub wanted_guard: Guard,
    /// Why it is to be left to its user, although it could be guarded.
    pub open_because: Option<&'static str>,
    /// Whether the runner's user is another than ours, so that its tree can be guarded.
    pub isolates: bool,
    /// Another runner of the same user runs, so none of this one's programs may get a token.
    pub neighbour: bool,
    /// Whether the server said that no runner has the name.
    pub name_is_free: bool,
    /// What the directory says of a registration.
    pub local: LocalState,
    /// Whether the directory has the key that `config.sh` creates just before it registers.
    pub key: bool,
    /// What another machine's runner left in the directory: the image was created from a machine that had run it.
    pub traces: Vec<&'static str>,
    /// Whether the identity in the directory is another machine's: the disk is a copy.
    pub clone: bool,
    /// The name that this run would register, and whether only this machine could have generated it.
    pub name: Option<WantedName>,
    /// The runner on the server, as far as it could be asked.
    pub server: Server,
    /// What the server offers; `None` until it is needed.
    pub offer: Option<Offer>,
    /// The service; `None` if none is requested.
    pub service: Option<SeenService>,
}

/// What is set for the runner and its jobs: names only, for the values can be secrets.
#[derive(Debug, Clone, Default)]
pub struct SeenEnvironment {
    /// Everything that is to be set.
    pub names: Vec<String>,
    /// What this run changes.
    pub changed: Vec<String>,
    /// The files of the runner's directory that do not say it.
    pub drifted: Vec<&'static str>,
}

/// The name to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedName {
    /// The name itself.
    pub name: RunnerName,
    /// Only this machine could have generated it.
    pub unique: bool,
    /// The number of the runner that is in it, if it was generated now.
    pub index: Option<u32>,
}

/// The owner of the runner's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeOwner {
    /// The user id.
    pub uid: u32,
    /// Its name, or the id if it has none.
    pub name: String,
}

/// What is in the runner's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// Nothing, or an empty directory.
    Absent,
    /// A complete runner that the journal knows.
    Ours {
        /// Its version, if its files tell it.
        version: Option<RunnerVersion>,
        /// Whether it updated itself to that version.
        self_updated: bool,
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
    /// It was not asked: no credential, or nothing to ask for.
    NotAsked,
    /// It has no such runner.
    Nothing,
    /// It has this one.
    Has(github::Runner),
}

fn look_at_groups(site: &Site<'_>, account: Option<&Account>) -> (Vec<String>, Vec<String>) {
    let root = &site.request.root;
    let has = account.map(|account| account::groups(root, account)).unwrap_or_default();
    let (mut missing, mut unknown) = (Vec::new(), Vec::new());
    for name in &site.request.groups {
        match account::group_id(root, name) {
            None => unknown.push(name.clone()),
            Some(gid) if !has.contains(&gid) => missing.push(name.clone()),
            Some(_) => {}
        }
    }
    (missing, unknown)
}

/// The ids that a user that does not exist yet cannot get.
fn look_at_ids(
    site: &Site<'_>,
    account: Option<&Account>,
) -> Result<Vec<(&'static str, u32, String)>, Error> {
    let (root, ids) = (&site.request.root, site.request.ids);
    let Some(user) = site.user.as_deref().filter(|_| account.is_none()) else { return Ok(Vec::new()) };
    let mut taken = Vec::new();
    if let Some(uid) = ids.uid
        && let Some(other) = account::find_by_id(root, uid)?
    {
        taken.push(("--user-id", uid, format!("the user {}", other.name)));
    }
    if let Some(gid) = ids.gid {
        // An interrupted run leaves the group of the user.
        let other = account::group_name(root, gid).filter(|name| name != user);
        taken.extend(other.map(|name| ("--group-id", gid, format!("the group {name}"))));
    }
    Ok(taken)
}

fn look_at_environment(site: &Site<'_>, tree: &Tree, guard: Guard) -> Result<SeenEnvironment, Error> {
    let recorded = environment::recorded(site)?;
    let wanted = &site.environment;
    let mut drifted = Vec::new();
    if matches!(tree, Tree::Ours { .. }) && !(wanted.is_empty() && recorded.is_empty()) {
        drifted = environment::drifted(site, guard)?;
    }
    Ok(SeenEnvironment { names: wanted.names(), changed: wanted.differs(&recorded), drifted })
}

/// Observes everything that `install` and `plan` decide from.
///
/// # Errors
/// Something could not be observed.
pub async fn look(site: &Site<'_>, journal: &Journal) -> Result<Seen, Error> {
    let dir = site.dir();
    let account = site.account()?;
    let tree = look_at_tree(&dir, site, journal)?;
    let mounted = !host::mounts::within(&dir).is_empty();
    let owner = owner(site, journal, &tree)?;
    // What is not ours is not read: the plan will refuse it.
    let local = match &tree {
        Tree::Foreign { .. } | Tree::Absent => LocalState::Unconfigured,
        _ => state::read(&dir)?,
    };
    let clone = is_copy(site, journal);
    let name = wanted_name(site, journal, clone)?;
    let ours = journal.registered().map(|(_, registered)| registered).filter(|_| !clone);
    let (server, name_is_free) = ask(site, ours, name.as_ref()).await?;
    let guard =
        if matches!(tree, Tree::Absent | Tree::Foreign { .. }) { Guard::Open } else { journal.guard() };
    // What an image contains does not belong to a runner yet.
    let kept = if journal.registered().is_some() { guard } else { Guard::Open };
    let (wanted_guard, open_because) = site.wanted_guard(account.as_ref(), kept);
    let service = service::look(site, account.as_ref(), wanted_guard, journal).await?;
    let key = state::has_new_key(&dir);
    let platform = site.platform().to_string();
    let traces = if matches!(tree, Tree::Ours { .. }) { traces(site, journal)? } else { Vec::new() };
    let isolates = account.as_ref().map_or_else(account::is_root, |account| site.isolates(account));
    let neighbour = match &account {
        Some(account) if guard == Guard::Open && wanted_guard != Guard::Open => {
            user::running_neighbour(site, journal, account).await?.is_some()
        }
        _ => false,
    };
    let environment = look_at_environment(site, &tree, guard)?;
    let taken_ids = look_at_ids(site, account.as_ref())?;
    let (missing_groups, unknown_groups) = look_at_groups(site, account.as_ref());
    Ok(Seen {
        missing_groups,
        unknown_groups,
        taken_ids,
        environment,
        user: site.user.clone(),
        account,
        platform,
        tree,
        mounted,
        owner,
        guard,
        wanted_guard,
        open_because,
        isolates,
        neighbour,
        name_is_free,
        local,
        key,
        traces,
        clone,
        name,
        server,
        offer: None,
        service,
    })
}

/// What the directory of a runner that this machine has never registered holds, and only a registered one leaves.
/// Between two registrations of its own, the logs are the machine's.
///
/// # Errors
/// The directory cannot be read.
pub fn traces(site: &Site<'_>, journal: &Journal) -> Result<Vec<&'static str>, Error> {
    let template = match (journal.machine(), fingerprint(site)) {
        (None, Some(_)) => true,
        (Some(then), Some(now)) => then != now,
        // Whether it was this machine is unknown.
        (_, None) => false,
    };
    if !template || journal.registered().is_some() {
        return Ok(Vec::new());
    }
    Ok(state::traces(&site.dir())?)
}

/// Fetches the available versions, if there is a complete tree and a credential; and for a tree that is not the newest,
/// what the server says of its version.
///
/// # Errors
/// The server does not answer.
pub async fn look_at_offer(site: &Site<'_>, seen: &Seen) -> Result<Option<Offer>, Error> {
    let (Some(client), Tree::Ours { version: Some(here), .. }) = (site.eyes(), &seen.tree) else {
        return Ok(None);
    };
    let phase = site.phase("version");
    let applications = site.within("asking for the runner applications", client.downloads()).await?;
    let newest = asset::choose(&applications, site.platform(), None).ok().and_then(|choice| choice.version);
    let (told, detail) = match newest {
        None => (Told::NotAsked, format!("no version is known of the runner for {}", seen.platform)),
        Some(newest) if newest <= *here => (Told::NotAsked, format!("runner {here} is the newest version")),
        Some(newest) => {
            let here = here.to_string();
            let doing = "asking how long the runner's version is supported";
            let told = site.within(doing, client.deprecation(&here)).await?;
            (
                told.map_or(Told::Nothing, Told::Dates),
                format!("runner {here} is installed, and {newest} is available"),
            )
        }
    };
    phase.end(detail);
    let hosted = client.target().is_hosted();
    let offer = Offer { applications, newest, told, now: client.now(), hosted };
    if let Verdict::Ending(what) = version_policy::judge(*here, None, &offer) {
        tracing::warn!("{what}");
    }
    Ok(Some(offer))
}

/// The machine's fingerprint: eight hex digits that identify the machine without revealing its id.
#[must_use]
pub fn fingerprint(site: &Site<'_>) -> Option<String> {
    host::machine_id(&site.request.root).map(|id| name::fingerprint(&id))
}

/// Whether another machine wrote the journal's registration: the disk is a copy of that machine's, and the runner on
/// the server must not be touched.
#[must_use]
pub fn is_copy(site: &Site<'_>, journal: &Journal) -> bool {
    match (journal.machine(), fingerprint(site)) {
        (Some(then), Some(now)) => then != now,
        _ => false,
    }
}

fn look_at_tree(dir: &Path, site: &Site<'_>, journal: &Journal) -> Result<Tree, Error> {
    match std::fs::symlink_metadata(dir) {
        // A file is in the place of a parent directory: nothing is there, and creating it will report why.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Tree::Absent);
        }
        Err(source) => {
            return Err(host::Error::Path { doing: "look at", path: dir.to_owned(), source }.into());
        }
        Ok(metadata) if metadata.is_symlink() => {
            return Ok(Tree::Foreign { what: "it is a symbolic link".into() });
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Ok(Tree::Foreign { what: "it is not a directory".into() });
        }
        Ok(_) => {}
    }
    if is_empty(dir)? {
        return Ok(Tree::Absent);
    }
    let report: TreeReport = tree::inspect(dir, site.platform())?;
    if journal.entry(Step::PlaceRunner).is_none() {
        let what = if report.is_runner() {
            "it contains a runner that was installed another way"
        } else {
            "it contains other files"
        };
        return Ok(Tree::Foreign { what: what.into() });
    }
    if report.is_runner() {
        return Ok(Tree::Ours { version: report.version, self_updated: report.self_updated });
    }
    Ok(Tree::Incomplete { missing: report.lacks() })
}

/// Whether nothing is in a directory but what a filesystem of its own brings along, and what is mounted in it.
fn is_empty(dir: &Path) -> Result<bool, Error> {
    let mounts = host::mounts::within(dir);
    let real = fs_err::canonicalize(dir).map_err(host::Error::from)?;
    for entry in fs_err::read_dir(dir).map_err(host::Error::from)? {
        let path = real.join(entry.map_err(host::Error::from)?.file_name());
        let comes_along = path.ends_with(host::delete::LOST_AND_FOUND) && mounts.contains(&real);
        if !comes_along && !mounts.contains(&path) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(unix)]
fn owner(site: &Site<'_>, journal: &Journal, tree: &Tree) -> Result<Option<TreeOwner>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    if matches!(tree, Tree::Absent | Tree::Foreign { .. }) {
        return Ok(None);
    }
    if let Some(name) = journal.user() {
        let uid = account::find(&site.request.root, name)?.map_or(u32::MAX, |account| account.uid);
        return Ok(Some(TreeOwner { uid, name: name.to_owned() }));
    }
    // An older runup did not record it.
    let uid = fs_err::symlink_metadata(site.dir()).map_err(host::Error::from)?.uid();
    let account = account::find_by_id(&site.request.root, uid)?;
    let name = account.map_or_else(|| uid.to_string(), |account| account.name);
    Ok(Some(TreeOwner { uid, name }))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there are no owners on Windows")]
fn owner(_: &Site<'_>, _: &Journal, _: &Tree) -> Result<Option<TreeOwner>, Error> {
    Ok(None)
}

/// The name of this run. A name in the journal from the same template stays: `{random}` must not mean another runner
/// with every boot.
pub(crate) fn wanted_name(
    site: &Site<'_>,
    journal: &Journal,
    clone: bool,
) -> Result<Option<WantedName>, Error> {
    let Some(wanted) = &site.request.registration else { return Ok(None) };
    if !clone
        && let Some((_, registered)) = journal.registered()
        && (registered.template == wanted.name.to_string() || keeps_name(registered, &wanted.name))
        && let Ok(name) = registered.name.parse()
    {
        return Ok(Some(WantedName { name, unique: registered.unique, index: None }));
    }
    let index = wanted.name.uses_index().then(|| index::of(site, journal)).transpose()?;
    let dir = site.request.dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let cloud = site.request.cloud.as_ref();
    let context = NameContext {
        hostname: host::hostname(),
        // A machine without an id (a container) gets a random one instead, and the journal keeps the name.
        machine_id: Some(host::machine_id(&site.request.root).unwrap_or_else(name::random_word)),
        random: name::random_word(),
        platform: site.platform(),
        dir,
        index,
        instance_id: cloud.map(|cloud| cloud.instance_id.clone()),
        region: cloud.map(|cloud| cloud.region.clone()),
    };
    Ok(Some(WantedName { name: wanted.name.render(&context)?, unique: wanted.name.is_unique(), index }))
}

/// Whether a runner that was set up by hand keeps its name: a template is for new ones.
fn keeps_name(registered: &Registered, wanted: &NameTemplate) -> bool {
    registered.adopted && wanted.to_string().contains('{')
}

/// Asks the server once: by id if we know one, by name otherwise; and whether the name is free, as far as that tells.
async fn ask(
    site: &Site<'_>,
    registered: Option<&Registered>,
    name: Option<&WantedName>,
) -> Result<(Server, bool), Error> {
    let (Some(client), Some(name)) = (site.eyes(), name) else { return Ok((Server::NotAsked, false)) };
    let known_id = registered.and_then(|registered| registered.agent_id);
    let named = name.name.as_str();
    let answer = match known_id {
        Some(id) => site.within("asking for the runner", client.runner_unless_gone(id, named)).await?,
        // Its `config.sh` may have registered after the list was fetched.
        None if registered.is_some() => {
            site.within("asking for the name", client.runner_named(named)).await?
        }
        None => site.within("asking for the name", client.runner_named_lately(named)).await?,
    };
    Ok(match answer {
        // An id whose runner has another name is another machine's.
        Some(runner) if runner.is_named(named) => (Server::Has(runner), false),
        _ => (Server::Nothing, known_id.is_none()),
    })
}
