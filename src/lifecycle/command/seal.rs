//! Proves that an image holds no secret, and nothing that identifies one particular runner.

use crate::host::{self, lock};
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::finding::Finding;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::environment;
use crate::lifecycle::state::journal::{EntryState, Journal, Step};
use crate::lifecycle::step::placing::stored;
use crate::runner::{Guard, guard as guarding, state, tree};
use crate::transfer::place;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where the machine's identity is. systemd uses the second one if the first is empty.
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// What systemd reads as "not yet", besides an empty file.
const UNINITIALIZED: &str = "uninitialized";

/// What is left to do on a running machine, once nothing writes to its disk any more.
pub const LAST: &str =
    "empty /etc/machine-id (`cloud-init clean --machine-id` does), and shut the machine down";

/// The result of checking an image.
#[derive(Debug, Clone, Serialize)]
pub struct Seal {
    /// Whether nothing was found.
    pub sealed: bool,
    /// The runner's directory.
    pub dir: PathBuf,
    /// The baked version, as far as its files tell it.
    pub version: Option<String>,
    /// The platform that it was baked for.
    pub platform: String,
    /// Everything that must not be there.
    pub found: Vec<Finding>,
    /// What was checked.
    pub looked_at: Vec<String>,
    /// What no check of a running machine can tell, and so has to be done last.
    pub last: Option<&'static str>,
}

/// Checks an image: without a network, and without changing anything.
///
/// # Errors
/// `TreeError::NotBaked` if no baked runner is there; something could not be checked, and so proves nothing.
pub fn inspect(site: &Site<'_>) -> Result<Seal, Error> {
    let request = &site.request;
    let journal = site.read_journal()?;
    let not_baked = |what: String| Error::Tree(TreeError::NotBaked { dir: request.dir.clone(), what });
    let placed = journal.placed().ok_or_else(|| not_baked("runup has placed none".into()))?;
    let platform =
        placed.platform.parse().map_err(|_| not_baked(format!("it is for {}", placed.platform)))?;
    let report = tree::inspect(&site.dir(), platform)?;
    if !report.is_runner() {
        return Err(not_baked(report.lacks().join(", ")));
    }
    let mut looked_at = vec![
        format!("the files of the runner in {}, and beside it", request.dir.display()),
        format!("the journals and locks in {}", request.state.display()),
        format!("tokens in {}", shown(&request.token_files)),
    ];
    let mut found = of_runner(site, &journal)?;
    found.extend(of_journals(site)?);
    found.extend(of_others(site)?);
    found.extend(of_tokens(&request.token_files)?);
    let (stores, damaged) = stored::inspect(site)?;
    if !stores.is_empty() {
        looked_at.push(format!("the verified copies in {}, their content too", shown(&stores)));
        found.extend(damaged);
    }
    let running = request.root.is_host();
    if !running {
        looked_at.push(MACHINE_ID.join(" and "));
        found.extend(of_machine(site));
    }
    Ok(Seal {
        sealed: found.is_empty(),
        dir: request.dir.clone(),
        version: report.version.map(|version| version.to_string()),
        platform: placed.platform.to_owned(),
        found,
        looked_at,
        last: running.then_some(LAST),
    })
}

/// The part that `bake` itself is responsible for: a running machine has a token and an identity of its own.
///
/// # Errors
/// `TreeError::NotSealed`, with all that was found.
pub fn check(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let mut found = of_runner(site, journal)?;
    found.extend(of_registration(site, journal));
    if !site.request.root.is_host() {
        found.extend(of_tokens(&site.request.token_files)?);
    }
    if found.is_empty() { Ok(()) } else { Err(Error::Tree(TreeError::NotSealed { found })) }
}

/// Logs what is still to be done before this is an image.
pub fn remind(site: &Site<'_>) {
    if site.request.root.is_host() {
        let tokens: Vec<PathBuf> =
            site.request.token_files.iter().filter(|path| path.exists()).cloned().collect();
        if !tokens.is_empty() {
            tracing::info!("before this machine becomes an image, delete {}", shown(&tokens));
        }
        tracing::info!("last of all, {LAST}");
        return;
    }
    for finding in of_machine(site) {
        tracing::warn!("{}: every machine of the image would have that: {}", finding.what, finding.fix);
    }
}

fn of_runner(site: &Site<'_>, journal: &Journal) -> Result<Vec<Finding>, Error> {
    let mut found = personal(site, journal.guard())?;
    let dir = site.dir();
    let inside = place::staging_inside(&dir);
    let mut litter = [place::litter(&dir)?, place::litter(&inside)?].concat();
    if is_there(&inside)? {
        litter.push(inside);
    }
    found.extend(litter.iter().map(|path| Finding {
        what: format!("{}, what is left of a runner that was replaced", path.display()),
        fix: format!("run {} again, which deletes it", command(site, "bake", &site.request.dir)),
    }));
    Ok(found)
}

/// What is in a runner's directory only once it has been configured, or has run.
fn personal(site: &Site<'_>, guard: Guard) -> Result<Vec<Finding>, Error> {
    let dir = site.dir();
    let mut found = Vec::new();
    let written =
        if site.environment.is_empty() { Vec::new() } else { environment::wanted_files(site, None, guard)? };
    let placed_so = |name| {
        guard == Guard::Locked && guarding::FURNISHED.contains(&name)
            || written.iter().any(|file| file.name == name && environment::is_there(site, &dir, file, guard))
    };
    for name in state::personal_files() {
        if !is_there(&dir.join(name))? || placed_so(name) {
            continue;
        }
        let fix = match name {
            ".service" => "remove the service of the runner, then delete the file".into(),
            _ if state::IDENTITY_FILES.contains(&name) => format!(
                "take that runner off its server and away with {}, then bake again",
                command(site, "remove", &site.request.dir)
            ),
            _ => "delete it: a runner that was configured or has run left it".into(),
        };
        let what = site.request.dir.join(name).display().to_string();
        found.push(Finding { what, fix });
    }
    Ok(found)
}

/// The command as it has to be typed for the root file system that is checked.
fn command(site: &Site<'_>, words: &str, dir: &Path) -> String {
    let root = &site.request.root;
    let root = if root.is_host() { String::new() } else { format!(" --root {}", root.path().display()) };
    format!("`runup {words} --dir {}{root}`", dir.display())
}

fn of_registration(site: &Site<'_>, journal: &Journal) -> Option<Finding> {
    let (_, registered) = journal.registered()?;
    Some(Finding {
        what: format!("the registration of {} in {}", registered.name, journal.path().display()),
        fix: format!("run {}, then bake again", command(site, "remove", journal.dir())),
    })
}

/// Of every runner in the image: a second one would be shared just the same.
fn of_journals(site: &Site<'_>) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for journal in Journal::all(&site.state)? {
        found.extend(of_registration(site, &journal));
        let cut_off = journal.entry(Step::PlaceRunner).is_some_and(|entry| entry.state == EntryState::Begun);
        if cut_off {
            found.push(Finding {
                what: format!("{} says that placing the runner was cut off", journal.path().display()),
                fix: format!("run {} again", command(site, "bake", journal.dir())),
            });
        }
        let locks = [Journal::lock_for, Journal::run_lock_for].map(|of| of(&site.state, journal.dir()));
        for path in locks {
            if lock::is_held(&path)? {
                let holder = lock::holder(&path).map(|holder| format!(" by process {}", holder.pid));
                found.push(Finding {
                    what: format!("the lock {} is held{}", path.display(), holder.unwrap_or_default()),
                    fix: "wait until that runup has ended".into(),
                });
            }
        }
    }
    Ok(found)
}

/// What is left beside any runner of the image, and was another one's: it may hold credentials.
fn of_others(site: &Site<'_>) -> Result<Vec<Finding>, Error> {
    let own = place::litter(&site.dir())?;
    let mut fixes = BTreeMap::new();
    let mut dirs = vec![site.dir()];
    for journal in Journal::all(&site.state)? {
        let Some(dir) = site.request.root.locate(journal.dir()) else { continue };
        for path in place::litter(&dir)? {
            // It may hold what that runner's next run puts back.
            fixes.insert(path, format!("run {} again", command(site, "bake", journal.dir())));
        }
        dirs.push(dir);
    }
    for dir in dirs {
        for path in place::litter_of_any(&dir)? {
            fixes.entry(path).or_insert_with(|| "delete it".to_owned());
        }
    }
    fixes.retain(|path, _| !own.contains(path));
    let found = |(path, fix): (PathBuf, String)| Finding {
        what: format!("{}, which runup was about to delete", path.display()),
        fix,
    };
    Ok(fixes.into_iter().map(found).collect())
}

fn of_tokens(files: &[PathBuf]) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for path in files {
        // An empty one does not count.
        if is_there(path)? && std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            found.push(Finding {
                what: format!("a token in {}", path.display()),
                fix: "delete it, and give each machine its own when it boots".into(),
            });
        }
    }
    Ok(found)
}

fn of_machine(site: &Site<'_>) -> Vec<Finding> {
    let root = &site.request.root;
    let mut found = Vec::new();
    for name in MACHINE_ID {
        let path = root.join(Path::new(name));
        let of_its_own = name == MACHINE_ID[0] || path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let text =
            root.resolve(Path::new(name)).and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if of_its_own && !matches!(text.trim(), "" | UNINITIALIZED) {
            found.push(Finding {
                what: format!("the machine id in {}", path.display()),
                fix: format!("empty it: truncate --size=0 {}", path.display()),
            });
        }
    }
    found
}

/// What cannot be checked is not known to be absent.
fn is_there(path: &Path) -> Result<bool, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(host::Error::Path { doing: "look at", path: path.to_owned(), source }.into()),
    }
}

fn shown(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { "no file".to_owned() } else { paths.join(", ") }
}
