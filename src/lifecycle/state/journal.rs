//! The write-ahead record of what was done to this machine, and so of what can be undone.
//!
//! One file per runner directory, where no job can reach it: `/var/lib/runup` as root, the user's state directory
//! otherwise. An entry is durable as *begun* before its act and as *done*, with what its undo needs, after it. `remove`
//! undoes what is recorded here and nothing else; there is no second list.

mod adopt;
mod user;
mod version;
mod work;

use crate::host::{self, Root};
pub use crate::lifecycle::context::error::{JournalError as Error, VERSION};
pub use crate::lifecycle::state::record::{
    Act, Asked, Entry, EntryState, Instance, Registered, RunnerUser, Step, WorkDir,
};
use crate::runner::{Guard, kept_logs};
pub(crate) use adopt::TakenIn;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const LIMIT: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// The version of runup that wrote it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runup: Option<String>,
    dir: PathBuf,
    /// The fingerprint of the machine that registered: a clone of its disk has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    /// The user that the runner has; unknown if an older runup wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<RunnerUser>,
    /// The number of the runner among those of this machine, if its name has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    /// Which of several runners of one configuration it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Instance>,
    /// When a newer version was last looked for, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    looked_at: Option<String>,
    /// When the runner updated itself before a run ended because of that, RFC 3339.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    updates: Vec<String>,
    /// The work directory, if it is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    work: Option<WorkDir>,
    /// The work directory in which jobs may have left something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<String>,
    /// The user whose home directory had nothing in it when its first job began, so that it is deleted between jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    empty_home: Option<String>,
    /// What an operator had changed in the tree before its first job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<Changed>,
    entries: Vec<Entry>,
}

/// What differed in a tree from the archive with this digest before a job could change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The digest of the archive.
    pub sha256: String,
    /// The paths below the tree.
    pub paths: Vec<PathBuf>,
}

/// What the journal says of the placed tree.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// `linux-x64` and so on.
    pub platform: &'a str,
    /// When it was last known to be the newest version.
    pub current_at: Option<jiff::Timestamp>,
    /// The digest of its archive.
    pub sha256: Option<&'a str>,
    /// How it is guarded.
    pub guard: Guard,
}

/// The journal of one runner directory.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    record: Record,
    exists: bool,
    /// What this run has begun.
    begun: Vec<Step>,
}

impl Journal {
    /// The file for the runner in `dir`, in the state directory `state`.
    #[must_use]
    pub fn path_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.json", slug(dir)))
    }

    /// What is set for this runner and its jobs, which is kept beside its journal.
    #[must_use]
    pub fn environment_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.environment", slug(dir)))
    }

    /// A copy of the certificates that are trusted besides the system's.
    #[must_use]
    pub fn certificates_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.ca.pem", slug(dir)))
    }

    /// The directory for the logs of jobs that are over; `None` if a link leads out of the root.
    #[must_use]
    pub fn logs_for(root: &Root, dir: &Path) -> Option<PathBuf> {
        Some(root.locate(&kept_logs::place())?.join(slug(dir)))
    }

    /// The lock of this journal.
    #[must_use]
    pub fn lock_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.lock", slug(dir)))
    }

    /// The lock that `upgrade` holds from its first check to its end.
    #[must_use]
    pub fn upgrade_lock_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.upgrade.lock", slug(dir)))
    }

    /// The lock that a run with a lower count holds while it removes the runner.
    #[must_use]
    pub fn removal_lock_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.removal.lock", slug(dir)))
    }

    /// The lock that `run` holds for as long as it supervises the runner.
    #[must_use]
    pub fn run_lock_for(state: &Path, dir: &Path) -> PathBuf {
        state.join(format!("{}.run.lock", slug(dir)))
    }

    /// Reads the journal of `dir`; an absent one is empty.
    ///
    /// # Errors
    /// It exists but cannot be read, is malformed or from a newer runup.
    pub fn open(state: &Path, dir: &Path) -> Result<Self, Error> {
        let path = Self::path_for(state, dir);
        if let Some(journal) = Self::read(&path)? {
            return Ok(journal);
        }
        let record = Record {
            version: VERSION,
            runup: None,
            dir: dir.to_owned(),
            machine: None,
            user: None,
            index: None,
            instance: None,
            looked_at: None,
            updates: Vec::new(),
            work: None,
            used: None,
            empty_home: None,
            changed: None,
            entries: Vec::new(),
        };
        Ok(Self { path, record, exists: false, begun: Vec::new() })
    }

    /// Every journal in the state directory `state`, and so every runner that this machine knows; none if that
    /// directory does not exist.
    ///
    /// # Errors
    /// One of them cannot be read: then it is not known which runners there are.
    pub fn all(state: &Path) -> Result<Vec<Self>, Error> {
        Self::each(state)?.into_iter().collect()
    }

    /// The same, where one that cannot be read does not hide the others.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn each(state: &Path) -> Result<Vec<Result<Self, Error>>, Error> {
        let failed = |source| Error::List { state: state.to_owned(), source };
        let entries = match std::fs::read_dir(state) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut journals = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                journals.extend(Self::read(&path).transpose());
            }
        }
        Ok(journals)
    }

    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let read = host::file::read_untrusted(path, LIMIT);
        let Some(bytes) = read.map_err(|source| Error::Io { path: path.to_owned(), source })? else {
            return Ok(None);
        };
        let malformed = |error: serde_json::Error, runup| {
            let (path, message) = (path.to_owned(), error.to_string());
            Error::Malformed { path, message, runup }
        };
        let head: Head = serde_json::from_slice(&bytes).map_err(|error| malformed(error, None))?;
        let runup = head.runup();
        if head.version > VERSION {
            return Err(Error::Newer { path: path.to_owned(), found: head.version, runup });
        }
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| malformed(error, runup))?;
        Ok(Some(Self { path: path.to_owned(), record, exists: true, begun: Vec::new() }))
    }

    /// The runner's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.record.dir
    }

    /// Reads the file again: another process held the lock meanwhile.
    ///
    /// # Errors
    /// As for [`Journal::open`].
    pub fn reload(&mut self) -> Result<(), Error> {
        if let Some(read) = Self::read(&self.path)? {
            self.record = read.record;
        } else {
            self.clear();
        }
        Ok(())
    }

    /// Whether there is a file.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entry of this step.
    #[must_use]
    pub fn entry(&self, step: Step) -> Option<&Entry> {
        self.record.entries.iter().find(|entry| entry.act.step() == step)
    }

    /// The registration, begun or done.
    #[must_use]
    pub fn registered(&self) -> Option<(EntryState, &Registered)> {
        match self.entry(Step::Register) {
            Some(Entry { state, act: Act::Register(registered) }) => Some((*state, registered)),
            _ => None,
        }
    }

    /// What is known of the tree that was placed, or is about to be.
    #[must_use]
    pub fn placed(&self) -> Option<Placed<'_>> {
        match &self.entry(Step::PlaceRunner)?.act {
            Act::PlaceRunner { platform, current_at, sha256, guard, .. } => Some(Placed {
                platform,
                guard: *guard,
                sha256: sha256.as_deref(),
                // An unreadable date proves nothing.
                current_at: current_at.as_deref().and_then(|text| text.parse().ok()),
            }),
            _ => None,
        }
    }

    /// The unit of the service, if one was written or was about to be.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        match self.entry(Step::WriteService).map(|entry| &entry.act) {
            Some(Act::WriteService { unit, .. }) => Some(unit),
            _ => None,
        }
    }

    /// Every entry, in the order of the steps.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.record.entries
    }

    /// The fingerprint of the machine that registered.
    #[must_use]
    pub fn machine(&self) -> Option<&str> {
        self.record.machine.as_deref()
    }

    /// Sets the fingerprint; written with the next entry.
    pub fn set_machine(&mut self, machine: Option<String>) {
        self.record.machine = machine;
    }

    /// Makes `act` durable as begun, before it happens.
    ///
    /// # Errors
    /// The file cannot be written; then the act must not happen.
    pub fn begin(&mut self, act: Act) -> Result<(), Error> {
        let step = act.step();
        self.put(Entry { state: EntryState::Begun, act })?;
        self.begun.push(step);
        Ok(())
    }

    /// Makes `act` durable as begun in the place of one that is done. A run that fails afterwards does not undo it:
    /// something of ours was there before.
    ///
    /// # Errors
    /// The file cannot be written; then the act must not happen.
    pub fn begin_instead(&mut self, act: Act) -> Result<(), Error> {
        self.put(Entry { state: EntryState::Begun, act })
    }

    /// Whether this run has begun the step, so that a failure of the run has to undo it.
    #[must_use]
    pub fn began(&self, step: Step) -> bool {
        self.begun.contains(&step)
    }

    /// Makes `act` durable as done, with what its undo needs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn done(&mut self, act: Act) -> Result<(), Error> {
        self.put(Entry { state: EntryState::Done, act })
    }

    /// Forgets a step, after its undo.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget(&mut self, step: Step) -> Result<(), Error> {
        self.record.entries.retain(|entry| entry.act.step() != step);
        self.write()
    }

    /// Deletes the file. An absent one is fine.
    ///
    /// # Errors
    /// It still exists.
    pub fn delete(&mut self) -> Result<(), Error> {
        self.exists = false;
        self.clear();
        for extension in ["environment", "ca.pem"] {
            let path = self.path.with_extension(extension);
            host::file::remove_written(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        }
        match host::file::remove_written(&self.path) {
            Err(source) => Err(Error::Delete { path: self.path.clone(), source }),
            Ok(false) => Ok(()),
            // Otherwise a power cut could bring it back.
            Ok(true) => host::file::sync_dir(self.path.parent().unwrap_or(Path::new(".")))
                .map_err(|source| Error::Io { path: self.path.clone(), source }),
        }
    }

    fn clear(&mut self) {
        let record = &mut self.record;
        record.entries.clear();
        record.updates.clear();
        (record.user, record.looked_at, record.work, record.used) = (None, None, None, None);
        (record.index, record.instance) = (None, None);
    }

    fn put(&mut self, entry: Entry) -> Result<(), Error> {
        let step = entry.act.step();
        let before = self.record.clone();
        match self.record.entries.iter_mut().find(|old| old.act.step() == step) {
            Some(old) => *old = entry,
            None => self.record.entries.push(entry),
        }
        // Undoing reverses this order, even if an early step was applied again after a late one.
        self.record.entries.sort_by_key(|entry| entry.act.step());
        // What could not be written must not be undone either.
        self.write().inspect_err(|_| self.record = before)
    }

    fn write(&mut self) -> Result<(), Error> {
        self.record.version = VERSION;
        self.record.runup = Some(env!("CARGO_PKG_VERSION").to_owned());
        let mut text =
            serde_json::to_vec_pretty(&self.record).expect("a record of texts and numbers is JSON");
        text.push(b'\n');
        host::file::write_atomic(&self.path, &text, 0o600)
            .map_err(|source| Error::Io { path: self.path.clone(), source })?;
        self.exists = true;
        Ok(())
    }
}

/// Only the version and the runup that wrote it, whatever else a newer one may have written.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    runup: serde_json::Value,
}

impl Head {
    /// The version of the runup that wrote it, if that is a newer one.
    fn runup(&self) -> Option<String> {
        let other = self.runup.as_str().filter(|version| is_newer(version, env!("CARGO_PKG_VERSION")))?;
        Some(other.chars().filter(|c| !c.is_control()).take(40).collect())
    }
}

/// Whether a version of runup is newer than another: by its numbers, and a release is newer than what leads to it.
fn is_newer(one: &str, than: &str) -> bool {
    let parsed = |text: &str| {
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, before) =
            text.split_once('-').map_or((text, None), |(numbers, rest)| (numbers, Some(rest)));
        let numbers: Option<Vec<u64>> = numbers.split('.').map(|number| number.parse().ok()).collect();
        numbers.map(|numbers| (numbers, before.is_none()))
    };
    matches!((parsed(one), parsed(than)), (Some(one), Some(than)) if one > than)
}

/// A readable file name for a directory, with a digest because `/a-b` and `/a/b` are two directories.
fn slug(dir: &Path) -> String {
    let text = dir.to_string_lossy();
    let readable: String = text
        .trim_matches(['/', '\\'])
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' })
        .collect();
    let tail: String = readable.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
    format!("{tail}-{}", hex::encode(&Sha256::digest(text.as_bytes())[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> Registered {
        Registered {
            url: "https://github.com/octo-org".into(),
            api_url: "https://api.github.com/".into(),
            name: "box-1".into(),
            template: "{hostname}".into(),
            unique: false,
            agent_id: Some(23),
            confirmed: false,
            name_was_free: false,
            may_exist: false,
            unused: false,
            asked: None,
            adopted: false,
        }
    }

    #[test]
    fn what_was_written_is_read_back_entry_by_entry() {
        let state = tempfile::tempdir().unwrap();
        let dir = Path::new("/opt/actions-runner");
        let mut journal = Journal::open(state.path(), dir).unwrap();
        assert!(!journal.exists());
        journal.begin(Act::CreateUser { name: "actions-runner".into(), group_created: None }).unwrap();
        journal.done(Act::CreateUser { name: "actions-runner".into(), group_created: None }).unwrap();
        journal.set_machine(Some("ab12cd34".into()));
        journal.begin(Act::Register(Registered { agent_id: None, ..registered() })).unwrap();

        let read = Journal::open(state.path(), dir).unwrap();
        assert_eq!(read.entries().len(), 2);
        assert_eq!(read.entry(Step::CreateUser).unwrap().state, EntryState::Done);
        assert_eq!(read.registered().unwrap().0, EntryState::Begun);
        assert_eq!(read.machine(), Some("ab12cd34"));

        journal.forget(Step::Register).unwrap();
        assert!(Journal::open(state.path(), dir).unwrap().registered().is_none());
        journal.delete().unwrap();
        journal.delete().unwrap();
        assert!(!Journal::open(state.path(), dir).unwrap().exists());
    }

    /// The first version ever written. It must parse for as long as there are machines that have one.
    #[test]
    fn version_1_parses() {
        let state = tempfile::tempdir().unwrap();
        let dir = Path::new("/opt/actions-runner");
        let text = include_str!("../../../tests/fixtures/journals/01-first.json");
        std::fs::write(Journal::path_for(state.path(), dir), text).unwrap();
        let journal = Journal::open(state.path(), dir).unwrap();
        assert_eq!(journal.entries().len(), 3);
        assert_eq!(journal.registered(), Some((EntryState::Done, &registered())));
    }

    /// The requested options were added later, without a new version: an older runup ignores them.
    #[test]
    fn what_was_asked_for_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let dir = Path::new("/opt/actions-runner");
        let text = include_str!("../../../tests/fixtures/journals/03-asked.json");
        std::fs::write(Journal::path_for(state.path(), dir), text).unwrap();
        let journal = Journal::open(state.path(), dir).unwrap();
        let asked = journal.registered().unwrap().1.asked.clone().unwrap();
        assert_eq!(asked.labels.unwrap(), ["gpu", "large"]);
        assert!(asked.ephemeral && asked.group.as_deref() == Some("builders"));
    }

    /// So were the time when a tree was the newest version, and what it is about to replace.
    #[test]
    fn when_a_tree_was_the_newest_is_kept_and_older_journals_have_no_such_date() {
        let state = tempfile::tempdir().unwrap();
        let dir = Path::new("/opt/actions-runner");
        let read = |text: &str| {
            std::fs::write(Journal::path_for(state.path(), dir), text).unwrap();
            Journal::open(state.path(), dir).unwrap().entry(Step::PlaceRunner).unwrap().clone()
        };
        let entry = read(include_str!("../../../tests/fixtures/journals/04-replacing.json"));
        let Act::PlaceRunner { current_at, replaces, .. } = entry.act else { panic!() };
        assert_eq!(current_at.as_deref(), Some("2026-11-24T10:00:00Z"));
        let Some(Act::PlaceRunner { version, current_at, .. }) = replaces.as_deref() else { panic!() };
        assert_eq!((version.as_deref(), current_at.as_deref()), (Some("2.336.0"), None));
        let entry = read(include_str!("../../../tests/fixtures/journals/01-first.json"));
        assert!(matches!(entry.act, Act::PlaceRunner { current_at: None, replaces: None, .. }));
    }

    #[test]
    fn a_newer_or_broken_journal_is_refused_not_overwritten() {
        let state = tempfile::tempdir().unwrap();
        let dir = Path::new("/opt/actions-runner");
        let path = Journal::path_for(state.path(), dir);
        std::fs::write(&path, r#"{"version": 99, "entries": "something else"}"#).unwrap();
        assert!(matches!(Journal::open(state.path(), dir), Err(Error::Newer { found: 99, .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Journal::open(state.path(), dir), Err(Error::Malformed { .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Journal::open(state.path(), dir), Err(Error::Malformed { .. })));
    }

    #[test]
    fn an_entry_that_could_not_be_written_is_not_there() {
        let state = tempfile::tempdir().unwrap();
        let mut journal =
            Journal::open(&state.path().join("missing"), Path::new("/opt/actions-runner")).unwrap();
        journal.begin(Act::CreateUser { name: "actions-runner".into(), group_created: None }).unwrap_err();
        assert!(journal.entries().is_empty() && !journal.began(Step::CreateUser));
    }

    #[test]
    fn all_journals_are_found_and_one_that_cannot_be_read_is_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        assert!(Journal::all(&state).unwrap().is_empty());
        std::fs::create_dir(&state).unwrap();
        let dirs = [Path::new("/opt/a"), Path::new("/opt/b")];
        for dir in dirs {
            let mut journal = Journal::open(&state, dir).unwrap();
            journal.begin(Act::Register(registered())).unwrap();
        }
        std::fs::write(Journal::lock_for(&state, dirs[0]), "").unwrap();
        let mut found: Vec<PathBuf> =
            Journal::all(&state).unwrap().iter().map(|journal| journal.dir().to_owned()).collect();
        found.sort();
        assert_eq!(found, dirs);

        std::fs::write(state.join("other.json"), "{}").unwrap();
        assert!(matches!(Journal::all(&state), Err(Error::Malformed { .. })));
        assert!(matches!(Journal::all(&state.join("other.json")), Err(Error::List { .. })));
    }

    #[test]
    fn two_folders_never_share_a_journal() {
        assert_ne!(slug(Path::new("/opt/a-b")), slug(Path::new("/opt/a/b")));
        assert!(slug(Path::new("/opt/actions-runner")).starts_with("opt-actions-runner-"));
    }
}
