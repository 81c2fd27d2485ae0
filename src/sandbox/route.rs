//! Maps requests to calls. Faults and the request log use the same names.

use super::scope::Scope;

/// Every route that a fault can name.
pub const NAMES: [&str; 32] = [
    "list-runners",
    "downloads",
    "registration-token",
    "remove-token",
    "get-runner",
    "delete-runner",
    "jitconfig",
    "runner-groups",
    "labels",
    "deprecations",
    "latest-release",
    "release",
    "installation",
    "access-tokens",
    "meta",
    "rate-limit",
    "archive",
    "mirror",
    "mirror-sums",
    "runner-registration",
    "runner-groups-of-runner",
    "runner-list",
    "register",
    "runner-delete",
    "session",
    "message",
    "job-script",
    "job-log",
    "job-taken",
    "job-done",
    "session-end",
    "unknown",
];

/// A call, with the parameters of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    ListRunners(Scope),
    Downloads(Scope),
    RegistrationToken(Scope),
    RemoveToken(Scope),
    GetRunner(Scope, u64),
    DeleteRunner(Scope, u64),
    JitConfig(Scope),
    RunnerGroups(Scope),
    /// The labels of one runner; the last part is the one label to delete.
    Labels(Scope, u64, Option<String>),
    Deprecations(Scope, String),
    /// GitHub's public releases of the runner.
    LatestRelease,
    /// The release of one version.
    Release(String),
    /// The installation of an App in a scope, and a token of it.
    Installation(Scope),
    AccessTokens(u64),
    Meta,
    RateLimit,
    /// The archive of a platform (`linux-x64`) and version, which needs the temporary download token.
    Archive(String, String),
    /// The same archive as a storage host would serve it: without any credential.
    Mirror(String, String),
    /// `SHA256SUMS` beside them.
    MirrorSums,
    RunnerRegistration,
    GroupsOfRunner(Scope),
    RunnerList(Scope),
    Register,
    RunnerDelete(Scope, u64),
    Session,
    Message,
    /// The script of a job, for the runner that took it.
    JobScript(u64),
    /// The output of the script.
    JobLog(u64),
    /// The acknowledgment of a job's message.
    JobTaken(u64),
    JobDone(u64),
    SessionEnd,
    Control(Control),
    Unknown,
}

/// The sandbox's own calls, which GitHub does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    State,
    Requests,
    AddFault,
    ClearFaults,
    PatchRunner(u64),
    AddJob,
    AddRunner,
    Tokens,
    Offer,
    Deprecate,
    AddUpdate,
}

impl Route {
    /// The call for `method` and the decoded path `segments`. The runner itself calls some REST paths with its
    /// registration token (`by_runner`); these are separate routes.
    pub fn of(method: &str, segments: &[&str], by_runner: bool) -> Self {
        match segments {
            ["api", "v3", rest @ ..] => Self::of_api(method, rest, by_runner).unwrap_or(Self::Unknown),
            ["_services", rest @ ..] => Self::of_service(method, rest),
            ["_sandbox", "mirror", platform, version] if method == "GET" => {
                Self::Mirror((*platform).to_owned(), (*version).to_owned())
            }
            ["_sandbox", "mirror", "SHA256SUMS"] if method == "GET" => Self::MirrorSums,
            ["_sandbox", "mirror", file] if method == "GET" => Self::of_file(file),
            ["_sandbox", rest @ ..] => Self::of_control(method, rest),
            _ => Self::Unknown,
        }
    }

    /// An archive of a mirror by its file name, `actions-runner-linux-x64-2.336.0.tar.gz`.
    fn of_file(file: &str) -> Self {
        let stem = file.strip_suffix(".tar.gz").or_else(|| file.strip_suffix(".zip"));
        let named = stem.and_then(|stem| stem.strip_prefix("actions-runner-")?.rsplit_once('-'));
        named.map_or(Self::Unknown, |(platform, version)| {
            Self::Mirror(platform.to_owned(), version.to_owned())
        })
    }

    fn of_api(method: &str, segments: &[&str], by_runner: bool) -> Option<Self> {
        let found = match (method, segments) {
            ("GET", ["meta"]) => Self::Meta,
            ("GET", ["repos", "actions", "runner", "releases", "latest"]) => Self::LatestRelease,
            ("GET", ["repos", "actions", "runner", "releases", "tags", tag]) => {
                Self::Release(tag.strip_prefix('v')?.to_owned())
            }
            ("GET", ["rate_limit"]) => Self::RateLimit,
            ("POST", ["app", "installations", id, "access_tokens"]) => Self::AccessTokens(id.parse().ok()?),
            ("POST", ["actions", "runner-registration"]) => Self::RunnerRegistration,
            ("POST", ["actions", "runners", "register"]) => Self::Register,
            _ => {
                let (scope, rest) = Scope::of_api_path(segments)?;
                if let ("GET", ["installation"]) = (method, rest) {
                    return Some(Self::Installation(scope));
                }
                let ["actions", rest @ ..] = rest else { return None };
                match (method, rest) {
                    ("GET", ["runner-groups"]) if by_runner => Self::GroupsOfRunner(scope),
                    ("GET", ["runner-groups"]) => Self::RunnerGroups(scope),
                    (_, ["runners", rest @ ..]) => Self::of_runners(method, scope, rest, by_runner)?,
                    _ => return None,
                }
            }
        };
        Some(found)
    }

    fn of_runners(method: &str, scope: Scope, segments: &[&str], by_runner: bool) -> Option<Self> {
        let found = match (method, segments) {
            ("GET", []) if by_runner => Self::RunnerList(scope),
            ("GET", []) => Self::ListRunners(scope),
            ("GET", ["downloads"]) => Self::Downloads(scope),
            ("GET", ["deprecations", version]) => Self::Deprecations(scope, (*version).to_owned()),
            ("POST", ["registration-token"]) => Self::RegistrationToken(scope),
            ("POST", ["remove-token"]) => Self::RemoveToken(scope),
            ("POST", ["generate-jitconfig"]) => Self::JitConfig(scope),
            ("GET", [id]) => Self::GetRunner(scope, id.parse().ok()?),
            ("DELETE", [id]) if by_runner => Self::RunnerDelete(scope, id.parse().ok()?),
            ("DELETE", [id]) => Self::DeleteRunner(scope, id.parse().ok()?),
            ("GET" | "POST" | "PUT" | "DELETE", [id, "labels"]) => {
                Self::Labels(scope, id.parse().ok()?, None)
            }
            ("DELETE", [id, "labels", name]) => {
                Self::Labels(scope, id.parse().ok()?, Some((*name).to_owned()))
            }
            _ => return None,
        };
        Some(found)
    }

    fn of_service(method: &str, segments: &[&str]) -> Self {
        match (method, segments) {
            (
                "GET",
                ["pipelines", "_apis", "distributedtask", "packagedownload", "agent", platform, version],
            ) => Self::Archive((*platform).to_owned(), (*version).to_owned()),
            ("POST", ["session"]) => Self::Session,
            ("DELETE", ["session"]) => Self::SessionEnd,
            ("GET", ["message"]) => Self::Message,
            ("GET", ["jobs", id, "script"]) => id.parse().map_or(Self::Unknown, Self::JobScript),
            ("POST", ["jobs", id, "log"]) => id.parse().map_or(Self::Unknown, Self::JobLog),
            ("POST", ["jobs", id, "taken"]) => id.parse().map_or(Self::Unknown, Self::JobTaken),
            ("POST", ["jobs", id, "done"]) => id.parse().map_or(Self::Unknown, Self::JobDone),
            _ => Self::Unknown,
        }
    }

    fn of_control(method: &str, segments: &[&str]) -> Self {
        let control = match (method, segments) {
            ("GET", ["state"]) => Control::State,
            ("GET", ["requests"]) => Control::Requests,
            ("POST", ["faults"]) => Control::AddFault,
            ("DELETE", ["faults"]) => Control::ClearFaults,
            ("POST", ["jobs"]) => Control::AddJob,
            ("POST", ["runners"]) => Control::AddRunner,
            ("GET", ["tokens"]) => Control::Tokens,
            ("POST", ["versions"]) => Control::Offer,
            ("POST", ["deprecations"]) => Control::Deprecate,
            ("POST", ["updates"]) => Control::AddUpdate,
            ("PATCH", ["runners", id]) => match id.parse() {
                Ok(id) => Control::PatchRunner(id),
                Err(_) => return Self::Unknown,
            },
            _ => return Self::Unknown,
        };
        Self::Control(control)
    }

    /// The name; the sandbox's own calls have none, because they are not logged and have no faults.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ListRunners(_) => "list-runners",
            Self::Downloads(_) => "downloads",
            Self::RegistrationToken(_) => "registration-token",
            Self::RemoveToken(_) => "remove-token",
            Self::GetRunner(..) => "get-runner",
            Self::DeleteRunner(..) => "delete-runner",
            Self::JitConfig(_) => "jitconfig",
            Self::RunnerGroups(_) => "runner-groups",
            Self::Labels(..) => "labels",
            Self::Deprecations(..) => "deprecations",
            Self::LatestRelease => "latest-release",
            Self::Release(_) => "release",
            Self::Installation(_) => "installation",
            Self::AccessTokens(_) => "access-tokens",
            Self::Meta => "meta",
            Self::RateLimit => "rate-limit",
            Self::Archive(..) => "archive",
            Self::Mirror(..) => "mirror",
            Self::MirrorSums => "mirror-sums",
            Self::RunnerRegistration => "runner-registration",
            Self::GroupsOfRunner(_) => "runner-groups-of-runner",
            Self::RunnerList(_) => "runner-list",
            Self::Register => "register",
            Self::RunnerDelete(..) => "runner-delete",
            Self::Session => "session",
            Self::Message => "message",
            Self::JobScript(_) => "job-script",
            Self::JobLog(_) => "job-log",
            Self::JobTaken(_) => "job-taken",
            Self::JobDone(_) => "job-done",
            Self::SessionEnd => "session-end",
            Self::Control(_) => "control",
            Self::Unknown => "unknown",
        }
    }

    /// The scope of a REST call.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Self::ListRunners(scope)
            | Self::Downloads(scope)
            | Self::RegistrationToken(scope)
            | Self::RemoveToken(scope)
            | Self::GetRunner(scope, _)
            | Self::DeleteRunner(scope, _)
            | Self::JitConfig(scope)
            | Self::RunnerGroups(scope)
            | Self::Labels(scope, ..)
            | Self::Deprecations(scope, _)
            | Self::GroupsOfRunner(scope)
            | Self::RunnerList(scope)
            | Self::RunnerDelete(scope, _) => Some(scope),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &str, path: &str, by_runner: bool) -> &'static str {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        Route::of(method, &segments, by_runner).name()
    }

    #[test]
    fn the_eighteen_calls_are_known_in_each_scope() {
        for scope in ["enterprises/e", "orgs/o", "repos/o/r"] {
            for (method, path, expected) in [
                ("GET", "", "list-runners"),
                ("GET", "/downloads", "downloads"),
                ("POST", "/registration-token", "registration-token"),
                ("POST", "/remove-token", "remove-token"),
                ("GET", "/23", "get-runner"),
                ("DELETE", "/23", "delete-runner"),
            ] {
                let path = format!("/api/v3/{scope}/actions/runners{path}");
                assert_eq!(name(method, &path, false), expected, "{method} {path}");
                assert_eq!(name(method, &format!("{path}/"), false), "unknown", "a trailing slash is a 404");
            }
        }
    }

    #[test]
    fn the_runner_s_own_calls_are_told_apart() {
        assert_eq!(name("GET", "/api/v3/orgs/o/actions/runners", true), "runner-list");
        assert_eq!(name("DELETE", "/api/v3/orgs/o/actions/runners/1", true), "runner-delete");
        assert_eq!(name("POST", "/api/v3/actions/runners/register", true), "register");
    }
}
