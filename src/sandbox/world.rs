//! The state of the sandbox: runners, jobs, tokens, requests, faults.

use super::app::App;
use super::conduct::Conduct;
use super::deprecation::Deprecation;
use super::fault::{Fault, FaultKind};
use super::job::{JobRecord, JobResult};
use super::limit::Limiter;
use super::scope::Scope;
use super::token::{Credential, CredentialKind, TokenRecord, Tokens, random};
use super::update::Update;
use crate::secret::Secret;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long after its last request a runner with a session counts as offline, because its process was killed. GitHub
/// waits for some minutes.
const SESSION_LIFE: Duration = Duration::from_secs(20);

/// One registered runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of GitHub's runner object")]
pub struct RunnerRecord {
    /// Its id; ids are never used twice.
    pub id: u64,
    /// Its scope.
    pub scope: Scope,
    /// Its name, unique in its scope.
    pub name: String,
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// Whether its listener has a session.
    pub online: bool,
    /// Whether it runs a job.
    pub busy: bool,
    /// Whether it is removed after one job.
    pub ephemeral: bool,
    /// Whether it disabled updates.
    pub disable_update: bool,
    /// Its version when it registered, or the one that its listener has sent since.
    pub version: String,
    /// The id of its group.
    pub group_id: u64,
    /// The names of its labels.
    pub labels: Vec<String>,
}

/// One request, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestRecord {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// The route's name.
    pub route: String,
    /// The scheme of the `Authorization` header in lower case; empty without one.
    pub scheme: String,
    /// The kind of its credential.
    pub credential: CredentialKind,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// When it arrived, since the sandbox started.
    pub at: Duration,
    /// The status of the answer; `None` while it is being answered, or if the client gave up.
    pub status: Option<u16>,
}

/// A snapshot of the visible state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The registered runners, by id.
    pub runners: Vec<RunnerRecord>,
    /// Every token that was issued.
    pub tokens: Vec<TokenRecord>,
    /// Every job that was queued.
    pub jobs: Vec<JobRecord>,
    /// How many requests for an archive carried the API token: there must be none.
    pub leaks: usize,
}

impl Snapshot {
    /// The runner of this name in this scope (`orgs/acme`).
    #[must_use]
    pub fn runner(&self, scope: &str, name: &str) -> Option<&RunnerRecord> {
        let scope: Scope = scope.parse().ok()?;
        self.runners.iter().find(|runner| runner.scope == scope && runner.name.eq_ignore_ascii_case(name))
    }
}

/// A change of a runner on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub struct RunnerChange {
    /// Online or offline.
    pub online: Option<bool>,
    /// Busy or idle.
    pub busy: Option<bool>,
    /// Deleted.
    #[serde(default)]
    pub deleted: bool,
}

/// A runner as the sandbox keeps it.
pub(super) struct Runner {
    pub record: RunnerRecord,
    /// The credential that it got when it registered.
    pub client: Secret,
    /// When its listener sent the last request; `None` without a session, or if a test set the state.
    pub seen: Option<Instant>,
    /// The platform that its listener has sent, such as `linux-x64`.
    pub platform: Option<String>,
}

/// A runner to be registered.
#[derive(Debug, Clone, serde::Deserialize)]
pub(super) struct NewRunner {
    pub name: String,
    #[serde(default = "linux")]
    pub os: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub ephemeral: bool,
    #[serde(default, alias = "updates_disabled")]
    pub disable_update: bool,
    #[serde(default = "first_group", alias = "runner_group_id")]
    pub group_id: u64,
    #[serde(default, deserialize_with = "label_names")]
    pub labels: Vec<String>,
    #[serde(default)]
    pub replace: bool,
}

impl NewRunner {
    /// A runner of another machine.
    pub fn elsewhere(name: &str, version: &str, labels: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            os: linux(),
            version: version.to_owned(),
            ephemeral: false,
            disable_update: false,
            group_id: first_group(),
            labels,
            replace: false,
        }
    }
}

/// The REST API accepts labels as names; the runner sends objects.
fn label_names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Label {
        Name(String),
        Object { name: String },
    }
    let labels = <Vec<Label> as serde::Deserialize>::deserialize(deserializer)?;
    let name = |label| match label {
        Label::Name(name) | Label::Object { name } => name,
    };
    Ok(labels.into_iter().map(name).collect())
}

fn linux() -> String {
    "linux".to_owned()
}

fn first_group() -> u64 {
    1
}

/// The whole state, behind one lock.
pub(super) struct World {
    pub tokens: Tokens,
    pub apps: Vec<App>,
    pub runners: Vec<Runner>,
    pub jobs: Vec<JobRecord>,
    pub requests: Vec<RequestRecord>,
    pub faults: Vec<Fault>,
    pub conduct: Conduct,
    /// The versions that listeners are told to update themselves to; the last one counts.
    pub updates: Vec<Update>,
    /// The groups of every scope, the default one first; a group's id is its position, from 1.
    pub groups: Vec<String>,
    /// The available versions: the first is the newest, for every platform; the others are for linux-x64 only.
    pub versions: Vec<String>,
    /// The versions with a known end of support.
    pub deprecations: Vec<Deprecation>,
    /// The credentials of runners that were replaced.
    rotated: Vec<Secret>,
    next_id: u64,
    /// How long a session continues after the last request of its listener.
    pub session_life: Duration,
    /// How long a request for a message waits for one.
    pub message_hold: Duration,
    /// The rate limits, if there are any.
    pub limiter: Option<Limiter>,
}

/// The name is taken and must not be replaced, or its runner is busy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameTaken;

impl World {
    /// What comes now is looked at for itself.
    pub fn forget_requests(&mut self) {
        self.requests.clear();
        self.conduct.begin();
    }

    pub fn new(tokens: Tokens, faults: Vec<Fault>, versions: Vec<String>) -> Self {
        let groups = vec!["Default".to_owned(), "gpu".to_owned()];
        Self {
            tokens,
            apps: Vec::new(),
            runners: Vec::new(),
            jobs: Vec::new(),
            requests: Vec::new(),
            faults,
            conduct: Conduct::default(),
            updates: Vec::new(),
            groups,
            versions,
            deprecations: Vec::new(),
            rotated: Vec::new(),
            next_id: 1,
            session_life: SESSION_LIFE,
            message_hold: Duration::ZERO,
            limiter: None,
        }
    }

    /// The newest available version.
    pub fn newest(&self) -> &str {
        self.versions.first().map_or("", String::as_str)
    }

    /// Makes a newer version available.
    pub fn offer(&mut self, version: &str) {
        self.versions.retain(|known| known != version);
        self.versions.insert(0, version.to_owned());
    }

    /// Sets the end of a version's support.
    pub fn deprecate(&mut self, deprecation: Deprecation) {
        self.deprecations.retain(|known| known.version != deprecation.version);
        self.deprecations.push(deprecation);
    }

    fn deprecation(&self, version: &str) -> Option<&Deprecation> {
        self.deprecations.iter().find(|known| known.version == version)
    }

    /// Whether this version can no longer register.
    pub fn refuses_to_register(&self, version: &str) -> bool {
        self.deprecation(version)
            .is_some_and(|known| Deprecation::passed(known.registration_deprecates_at.as_deref()))
    }

    /// Whether this version no longer gets messages.
    pub fn refuses_to_talk_to(&self, version: &str) -> bool {
        self.deprecation(version)
            .is_some_and(|known| Deprecation::passed(known.runtime_deprecates_at.as_deref()))
    }

    /// The REST document for the deprecation of a version; `None` if none was set, as on github.com.
    pub fn told_of(&self, version: &str) -> Option<Value> {
        let mut tells = self.deprecations.iter().filter(|known| !known.silent).peekable();
        tells.peek()?;
        let known = tells.find(|known| known.version == version);
        Some(known.map_or_else(|| json!({"runner_version": version}), Deprecation::to_api))
    }

    /// The credential of an `Authorization` header, including those of runners.
    pub fn identify(&self, header: Option<&str>) -> Credential {
        let mut found = self.tokens.identify(header);
        if found.kind == CredentialKind::Unknown {
            let value =
                header.and_then(|header| header.split_once(' ')).map_or("", |(_, value)| value.trim());
            if let Some(runner) = self.runners.iter().find(|runner| runner.client.expose() == value) {
                found.kind = CredentialKind::Runner;
                found.scope = Some(runner.record.scope.clone());
                found.runner = Some(runner.record.id);
            }
        }
        found
    }

    /// The faults that apply to this request of the route `name`.
    pub fn strike(&mut self, name: &str) -> Vec<FaultKind> {
        let struck =
            self.faults.iter_mut().filter_map(|fault| fault.strikes(name).then(|| fault.kind.clone()));
        struck.collect()
    }

    /// Ends every fault.
    pub fn end_faults(&mut self) {
        self.faults.clear();
        self.conduct.forgive();
    }

    /// Adds a runner, or replaces another one, keeping its id and name.
    pub fn register(&mut self, scope: Scope, new: NewRunner) -> Result<&Runner, NameTaken> {
        let taken = self.runners.iter().position(|runner| {
            runner.record.scope == scope && runner.record.name.eq_ignore_ascii_case(&new.name)
        });
        let id = match taken {
            Some(at) if new.replace && !self.runners[at].record.busy => {
                let old = self.runners.remove(at);
                self.rotated.push(old.client);
                old.record.id
            }
            Some(_) => return Err(NameTaken),
            None => {
                self.next_id += 1;
                self.next_id - 1
            }
        };
        let record = RunnerRecord {
            id,
            scope,
            name: new.name,
            os: new.os,
            online: false,
            busy: false,
            ephemeral: new.ephemeral,
            disable_update: new.disable_update,
            version: new.version,
            group_id: new.group_id,
            labels: new.labels,
        };
        let at = self.runners.partition_point(|runner| runner.record.id < id);
        self.runners.insert(at, Runner { record, client: random(32), seen: None, platform: None });
        Ok(&self.runners[at])
    }

    pub fn runner(&self, scope: &Scope, id: u64) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.record.id == id && runner.record.scope == *scope)
    }

    pub fn runner_by_id(&mut self, id: u64) -> Option<&mut Runner> {
        self.runners.iter_mut().find(|runner| runner.record.id == id)
    }

    /// Deletes a runner; a job that it has started fails with it.
    pub fn delete(&mut self, id: u64) -> bool {
        self.end_jobs(id, JobResult::Abandoned);
        let before = self.runners.len();
        self.runners.retain(|runner| runner.record.id != id);
        self.runners.len() != before
    }

    pub fn change(&mut self, id: u64, change: RunnerChange) -> bool {
        if change.deleted {
            return self.delete(id);
        }
        let Some(runner) = self.runner_by_id(id) else { return false };
        if let Some(online) = change.online {
            runner.record.online = online;
            runner.seen = None;
        }
        if let Some(busy) = change.busy {
            runner.record.busy = busy;
        }
        true
    }

    pub fn rename(&mut self, id: u64, name: &str) -> bool {
        self.runner_by_id(id).map(|runner| name.clone_into(&mut runner.record.name)).is_some()
    }

    /// Ends the sessions of listeners that have disappeared, and their jobs.
    pub fn age(&mut self) {
        let mut lost = Vec::new();
        let life = self.session_life;
        for runner in &mut self.runners {
            if runner.seen.is_some_and(|seen| seen.elapsed() > life) {
                runner.record.online = false;
                runner.record.busy = false;
                runner.seen = None;
                lost.push(runner.record.id);
            }
        }
        for id in lost {
            self.end_jobs(id, JobResult::Abandoned);
        }
    }

    /// Whether this is the credential of a runner that was replaced.
    pub fn was_rotated(&self, client: &str) -> bool {
        self.rotated.iter().any(|old| old.expose() == client)
    }

    pub fn snapshot(&mut self) -> Snapshot {
        self.age();
        let leak = |request: &&RequestRecord| {
            matches!(request.route.as_str(), "archive" | "mirror")
                && matches!(request.credential, CredentialKind::Api | CredentialKind::Weak)
        };
        Snapshot {
            runners: self.runners.iter().map(|runner| runner.record.clone()).collect(),
            tokens: self.tokens.records(),
            jobs: self.jobs.clone(),
            leaks: self.requests.iter().filter(leak).count(),
        }
    }
}

impl RunnerRecord {
    /// The runner object of the REST API.
    pub(super) fn to_api(&self) -> Value {
        json!({
            "id": self.id,
            "runner_group_id": self.group_id,
            "name": self.name,
            "os": self.os,
            "status": if self.online { "online" } else { "offline" },
            "busy": self.busy,
            "ephemeral": self.ephemeral,
            "version": self.version,
            "labels": self.labels_to_api(),
        })
    }

    /// Its labels; the default ones are read-only.
    pub(super) fn labels_to_api(&self) -> Vec<Value> {
        let label = |name: &String| {
            let id: u64 = name.bytes().fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 99_991);
            json!({"id": id, "name": name, "type": if is_read_only(name) { "read-only" } else { "custom" }})
        };
        self.labels.iter().map(label).collect()
    }
}

/// Whether a label is one of the default labels of a runner.
pub(super) fn is_read_only(label: &str) -> bool {
    const OWN: [&str; 8] = ["self-hosted", "linux", "macos", "windows", "x64", "arm64", "arm", "x86"];
    OWN.iter().any(|own| own.eq_ignore_ascii_case(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::new(Tokens::new(random(9), random(9), Duration::from_secs(60)), Vec::new(), Vec::new())
    }

    fn new(name: &str, replace: bool) -> NewRunner {
        serde_json::from_value(json!({"name": name, "replace": replace})).unwrap()
    }

    #[test]
    fn a_name_is_unique_in_its_scope_unless_replaced_and_ids_are_not_reused() {
        let mut world = world();
        let org: Scope = "orgs/o".parse().unwrap();
        assert_eq!(world.register(org.clone(), new("a", false)).unwrap_or_else(|_| panic!()).record.id, 1);
        assert!(world.register(org.clone(), new("A", false)).is_err());
        assert!(world.register("orgs/p".parse().unwrap(), new("a", false)).is_ok());
        let old = world.runners[0].client.clone();
        let id = world.register(org.clone(), new("a", true)).unwrap_or_else(|_| panic!()).record.id;
        assert_eq!(id, 1, "a replaced runner's id is taken over");
        assert_ne!(world.runners[0].client.expose(), old.expose(), "and its credential is rotated");
        assert!(world.delete(2));
        assert_eq!(world.register(org, new("b", false)).unwrap_or_else(|_| panic!()).record.id, 3);
    }

    #[test]
    fn a_version_is_refused_from_its_date_on_and_told_of_unless_that_is_kept_silent() {
        let mut world = world();
        let (past, future) = ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
        assert_eq!(world.told_of("2.328.0"), None);
        let silent = json!({"version": "2.328.0", "registration_deprecates_at": past, "silent": true});
        world.deprecate(serde_json::from_value(silent).unwrap());
        assert!(world.refuses_to_register("2.328.0") && !world.refuses_to_talk_to("2.328.0"));
        assert_eq!(world.told_of("2.328.0"), None);
        let told = json!({"version": "2.328.0", "registration_deprecates_at": future, "runtime_deprecates_at": past});
        world.deprecate(serde_json::from_value(told).unwrap());
        assert!(!world.refuses_to_register("2.328.0") && world.refuses_to_talk_to("2.328.0"));
        assert_eq!(world.told_of("2.328.0").unwrap()["registration_deprecates_at"], future);
        assert_eq!(world.told_of("2.336.0").unwrap(), json!({"runner_version": "2.336.0"}));
    }

    #[test]
    fn a_busy_runner_is_not_replaced() {
        let mut world = world();
        let org: Scope = "orgs/o".parse().unwrap();
        assert!(world.register(org.clone(), new("a", false)).is_ok());
        assert!(world.change(1, RunnerChange { busy: Some(true), ..RunnerChange::default() }));
        assert!(world.register(org, new("a", true)).is_err());
    }
}
