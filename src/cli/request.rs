//! Turns the flags, the environment and the machine into the plain values of a request.

use super::args::{ConvergeFlags, RemoveFlags};
use super::credential::{check_app, files};
use super::whereabouts::whereabouts;
use super::{Session, jobs};
use crate::deadline::Deadline;
use crate::error::chain;
use crate::github::{Client, Target};
use crate::host::{self, Root, account};
use crate::lifecycle::{Archive, KeepCopy, Registration, Request};
use crate::net::{Http, HttpOptions, ProxyRules};
use crate::runner::{Labels, config_sh};
use crate::settings::app::AppOptions;
use crate::settings::credential::{Files, find, find_for_each};
use crate::settings::flags::{self, Place, Server, TokenVia};
use crate::settings::{Credentials, Environment, Error};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

/// The user of a runner, unless `--user` sets another one.
const DEFAULT_USER: &str = "actions-runner";
/// Where the token of a machine is, by convention.
pub(super) const DEFAULT_TOKEN_FILE: &str = "/etc/runup/token";
/// The same for the key of a GitHub App.
pub(super) const DEFAULT_APP_KEY_FILE: &str = "/etc/runup/app-key.pem";

/// The shortest deadline of a command that registers a runner: a quarter of it is kept for undoing, which takes several
/// calls.
const SHORTEST: Duration = Duration::from_secs(20);
/// Lets the tests of a debug build be faster.
const ANY_DEADLINE: &str = "RUNUP_ANY_DEADLINE";

/// Refuses a deadline that leaves no time to undo what fails.
pub(super) fn check_deadline(server: &Server) -> Result<(), Error> {
    too_short(server).map_or(Ok(()), |message| Err(Error::Contradiction(message)))
}

/// For `run`: older versions took any deadline, and wrote it to units that are started again and again.
pub(super) fn lengthen_deadline(server: &mut Server) {
    if let Some(message) = too_short(server) {
        tracing::warn!("{message}; taking {} s", SHORTEST.as_secs());
        server.deadline = SHORTEST;
    }
}

fn too_short(server: &Server) -> Option<String> {
    let is_test = cfg!(debug_assertions) && std::env::var_os(ANY_DEADLINE).is_some();
    (server.deadline < SHORTEST && !is_test).then(|| {
        format!(
            "--deadline {:?} is too short: use {} s or more, so that what fails can be undone",
            server.deadline,
            SHORTEST.as_secs()
        )
    })
}

/// The request of `install` and `plan`, without a service.
pub(super) fn install(flags: &ConvergeFlags, session: &Session) -> Result<Request, super::Failed> {
    let target = target(&flags.server)?.ok_or(Error::UrlMissing)?;
    converge(flags, Some(target), session)
}

/// The same; without a target, nothing can be registered.
pub(super) fn converge(
    flags: &ConvergeFlags,
    target: Option<Target>,
    session: &Session,
) -> Result<Request, super::Failed> {
    let named = Files {
        registration: flags.runner.registration_token_file.as_deref(),
        ..files(&flags.server, session)?
    };
    let runner = &flags.runner;
    let credentials = credentials(named, session)?;
    let mut request = base(&flags.server, &flags.place, target, credentials, session)?;
    request.instance = session.instance()?;
    request.archive = archive(&flags.archive)?;
    let labels = runner.labels.as_ref();
    if runner.no_default_labels && labels.is_none_or(Labels::is_empty) && runner.label_from.is_none() {
        return Err(Error::Contradiction("--no-default-labels needs --labels".into()).into());
    }
    if runner.self_update && runner.disable_update {
        return Err(Error::Contradiction(
            "--self-update and --disable-update cannot be used together".into(),
        )
        .into());
    }
    for label in labels.into_iter().flat_map(Labels::iter).filter(|label| label.looks_like_several()) {
        tracing::warn!("{:?} is one label; commas separate several: --labels a,b", label.as_str());
    }
    refuse_work(&runner.work, &request.dir)?;
    let options = config_sh::ConfigOptions {
        labels: runner.labels.clone(),
        no_default_labels: runner.no_default_labels,
        group: plain_word("--group", runner.group.as_deref())?,
        work: plain_word("--work", Some(&runner.work))?.unwrap_or_default(),
        ephemeral: runner.ephemeral,
        disable_update: runner.disable_update,
        replace: runner.replace == flags::Replace::Always,
    };
    let replace_offline = runner.replace == flags::Replace::IfOffline;
    request.registration = Some(Registration { name: runner.name.clone(), options, replace_offline });
    jobs::without_certificates_of_the_host(&mut request.environment, &request.root);
    jobs::add(&mut request.environment, &flags.jobs)?;
    request.groups = groups(&flags.jobs, &request)?;
    request.ids = ids(&flags.jobs, &request)?;
    request.self_update = runner.self_update;
    request.archive.no_refresh = flags.no_refresh;
    request.allow_metadata = flags.metadata.allow_metadata;
    request.keep_on_failure = flags.keep_on_failure;
    request.token_on_argv = runner.token_via == TokenVia::Argv;
    Ok(request)
}

/// The credentials of one of several runners.
fn credentials(named: Files<'_>, session: &Session) -> Result<Credentials, Error> {
    let mut piped = session.piped.lock().unwrap_or_else(PoisonError::into_inner);
    find_for_each(named, &session.environment, &mut piped)
}

/// The request for removing an instance that is too many. What only installing it needs may be gone.
pub(super) fn surplus(flags: &ConvergeFlags, session: &Session) -> Result<Request, super::Failed> {
    let server = &flags.server;
    let credentials = credentials(files(server, session)?, session)?;
    let mut request = base(server, &flags.place, target(server)?, credentials, session)?;
    request.token_on_argv = flags.runner.token_via == TokenVia::Argv;
    Ok(request)
}

/// The request of a command that concerns this machine only.
pub(super) fn place(place: &Place, session: &Session) -> Result<Request, super::Failed> {
    let server = Server {
        url: None,
        api_url: None,
        allow_http: false,
        ca_file: None,
        proxy: None,
        no_proxy: None,
        token_file: None,
        token_command: None,
        app: AppOptions::default(),
        deadline: Duration::MAX,
    };
    base(&server, place, None, Credentials::default(), session)
}

/// The request of `remove`.
pub(super) fn remove(flags: &RemoveFlags, session: &Session) -> Result<Request, super::Failed> {
    let files = Files { remove: flags.remove_token_file.as_deref(), ..files(&flags.server, session)? };
    let credentials = if flags.local { Credentials::default() } else { find(files, &session.environment)? };
    let mut request = base(&flags.server, &flags.place, target(&flags.server)?, credentials, session)?;
    request.token_on_argv = flags.token_via == TokenVia::Argv;
    request.confirmed_name.clone_from(&flags.name);
    request.trust_tree = flags.trust_tree;
    request.archive.archive.clone_from(&flags.archive);
    request.archive.sha256 = flags.sha256;
    Ok(request)
}

/// The request of `status`, with the reason why a credential that was named cannot be used: what this machine knows is
/// shown all the same.
pub(super) fn look(
    server: &Server,
    place: &Place,
    local: bool,
    session: &Session,
) -> Result<(Request, Option<String>), super::Failed> {
    let found =
        if local { Ok(Credentials::default()) } else { find(files(server, session)?, &session.environment) };
    let (credentials, refused) = match found {
        Ok(credentials) => (credentials, None),
        Err(error) => (Credentials::default(), Some(chain(&error))),
    };
    Ok((base(server, place, target(server)?, credentials, session)?, refused))
}

/// The request of a command that works on an existing runner.
pub(super) fn status(server: &Server, place: &Place, session: &Session) -> Result<Request, super::Failed> {
    let credentials = find(files(server, session)?, &session.environment)?;
    base(server, place, target(server)?, credentials, session)
}

/// A client for the commands that only talk to the server.
pub(super) fn client(server: &Server, session: &Session) -> Result<Client, super::Failed> {
    Ok(lasting_client(server, session)?.until(Deadline::after(server.deadline)))
}

/// The same for a command that waits before its calls, or cleans up after its deadline: the deadline holds for each call
/// alone.
pub(super) fn lasting_client(server: &Server, session: &Session) -> Result<Client, super::Failed> {
    let target = target(server)?.ok_or(Error::UrlMissing)?;
    let credentials = find(files(server, session)?, &session.environment)?;
    check_app(Some(&target), &credentials)?;
    let http = http(server, &jobs::reach(&session.environment, server, None))?;
    Ok(Client::new(http, target, credentials.api, server.deadline))
}

/// The HTTP client.
pub(super) fn http(server: &Server, environment: &Environment) -> Result<Http, super::Failed> {
    let options = HttpOptions {
        ca_file: jobs::ca_file(server, environment),
        proxy: match server.proxy {
            // `jobs::reach` has put it into the variables.
            Some(_) => ProxyRules::from_option("--proxy", environment.iter())?,
            None => ProxyRules::from_vars(environment.iter())?,
        },
        allow_http: server.allow_http,
        ..HttpOptions::default()
    };
    Ok(Http::new(options)?)
}

/// The HTTP client for one of several runners, with its own recorded proxy and certificates: those of another one must not
/// vouch for its server.
pub(super) fn http_of_runner(
    (server, place, local): (&Server, &Place, bool),
    environment: &Environment,
    dir: &Path,
) -> Result<Http, super::Failed> {
    let place = Place { dir: Some(dir.to_owned()), ..place.clone() };
    let environment = jobs::reach(environment, server, Some(&place));
    if local { http_offline(server, &environment) } else { http(server, &environment) }
}

/// The HTTP client of a command that contacts no server: it does not fail for an unusable proxy.
pub(super) fn http_offline(server: &Server, environment: &Environment) -> Result<Http, super::Failed> {
    let proxy = ProxyRules::from_vars(environment.iter()).unwrap_or_default();
    Ok(Http::new(HttpOptions {
        ca_file: jobs::ca_file(server, environment),
        proxy,
        ..HttpOptions::default()
    })?)
}

pub(super) fn target(server: &Server) -> Result<Option<Target>, super::Failed> {
    let Some(url) = &server.url else { return Ok(None) };
    Ok(Some(Target::parse(url, server.api_url.as_deref(), server.allow_http)?))
}

pub(super) fn base(
    server: &Server,
    place: &Place,
    target: Option<Target>,
    credentials: Credentials,
    session: &Session,
) -> Result<Request, super::Failed> {
    let environment = &session.environment;
    check_app(target.as_ref(), &credentials)?;
    let (root, dir, state) = whereabouts(place, environment)?;
    let user_is_default = place.user.is_none();
    let user = match &place.user {
        Some(user) if !account::is_root() && *user == account::current().name => None,
        Some(user) => Some(user.clone()),
        None if account::is_root() && cfg!(unix) => Some(match session.number.filter(|number| *number > 1) {
            Some(number) => format!("{DEFAULT_USER}-{number}"),
            None => DEFAULT_USER.to_owned(),
        }),
        None => None,
    };
    Ok(Request {
        root,
        dir,
        state,
        user,
        user_is_default,
        dir_is_default: place.dir.is_none() || session.is_open(),
        instance: None,
        shared: None,
        groups: Vec::new(),
        ids: account::WantedIds::default(),
        self_update: false,
        supervised: false,
        credential_lasts: server.token_command.is_some()
            || server.app.lasts()
            || server.token_file.as_ref().is_some_and(|file| file != "-"),
        confirmed_name: None,
        adopt: false,
        trust_tree: false,
        target,
        credentials,
        token_files: Vec::new(),
        archive: Archive::default(),
        registration: None,
        jit: false,
        service: None,
        no_service: false,
        deps: false,
        keep_on_failure: false,
        token_on_argv: false,
        allow_http: server.allow_http,
        allow_metadata: false,
        cloud: None,
        environment: jobs::network(server, environment)?,
        deadline: server.deadline,
    })
}

/// The groups of a user that is to be created.
pub(super) fn groups(jobs: &flags::Jobs, request: &Request) -> Result<Vec<String>, Error> {
    if !jobs.groups.is_empty() && request.user.is_none() {
        return Err(Error::Contradiction("--groups needs root: only then is a user created".into()));
    }
    Ok(jobs.groups.clone())
}

/// The ids of a user that is to be created.
pub(super) fn ids(jobs: &flags::Jobs, request: &Request) -> Result<account::WantedIds, Error> {
    let id = |option: &'static str, id: Option<u64>| {
        let Some(id) = id else { return Ok(None) };
        if request.user.is_none() {
            return Err(Error::Contradiction(format!("{option} needs root: only then is a user created")));
        }
        account::usable_id(id).map(Some).ok_or(Error::UnusableId { option, id })
    };
    Ok(account::WantedIds { uid: id("--user-id", jobs.user_id)?, gid: id("--group-id", jobs.group_id)? })
}

pub(super) fn archive(flags: &flags::Archive) -> Result<Archive, super::Failed> {
    if flags.archive.is_some() && flags.mirror.is_some() {
        return Err(Error::Contradiction("--archive and --mirror cannot be used together".into()).into());
    }
    if flags.archive.is_some() && flags.from_release {
        let message = "--archive and --from-release cannot be used together";
        return Err(Error::Contradiction(message.into()).into());
    }
    if let (Some(os), true) = (flags.os, flags.arch.is_none())
        && host::detect(&Root::host()).is_ok_and(|machine| machine.platform.os != os)
    {
        return Err(Error::Contradiction(format!("--os {os} needs --arch")).into());
    }
    Ok(Archive {
        version: flags.runner_version,
        archive: flags.archive.clone(),
        sha256: flags.sha256,
        mirror: flags.mirror.clone(),
        from_release: flags.from_release,
        accept_unverified: flags.accept_unverified,
        no_refresh: false,
        keep_copy: KeepCopy::default(),
        os: flags.os,
        arch: flags.arch,
    })
}

/// Jobs own their work directory, so it must not be a part of the runner or contain it.
fn refuse_work(work: &str, dir: &Path) -> Result<(), Error> {
    let path = dir.join(work);
    let first = Path::new(work).components().next();
    let own = ["bin", "externals", "_diag"]
        .iter()
        .any(|name| first == Some(std::path::Component::Normal(name.as_ref())));
    if own || dir.starts_with(&path) {
        let message = format!(
            "--work {work} is a part of the runner or contains it, and jobs own their work directory"
        );
        return Err(Error::Contradiction(message));
    }
    Ok(())
}

/// `config.sh` silently drops a value that begins with a dash, and treats an empty one as unset.
pub(super) fn plain_word(option: &str, value: Option<&str>) -> Result<Option<String>, Error> {
    let Some(value) = value.map(str::trim) else { return Ok(None) };
    if value.is_empty() || value.starts_with('-') || value.chars().any(char::is_control) {
        let message = format!(
            "invalid {option} {value:?}: it must not be empty, begin with - or have control characters"
        );
        return Err(Error::Contradiction(message));
    }
    Ok(Some(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_config_sh_would_drop_is_refused() {
        assert!(plain_word("--group", Some("-x")).is_err());
        assert!(plain_word("--group", Some(" ")).is_err());
        assert_eq!(plain_word("--group", Some(" my group ")).unwrap().as_deref(), Some("my group"));
    }
}
