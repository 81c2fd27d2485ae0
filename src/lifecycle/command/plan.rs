//! Decides, from what was seen, what `install` does. Pure: it asks nobody and changes nothing.

pub mod place;

use crate::github;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::drift;
use crate::lifecycle::state::journal::{Asked, Journal, Registered, State, Step};
use crate::lifecycle::state::observed;
use crate::lifecycle::state::observed::{Seen, Server, Service};
use crate::runner::{Guard, LocalState, unit};
use serde::Serialize;

/// The steps, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// One for each step of the request.
    pub steps: Vec<Planned>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Which.
    pub step: Step,
    /// What is done about it.
    pub action: Action,
    /// To what, in words.
    pub detail: String,
}

/// What is done about a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// It is as it should be.
    Keep,
    /// The step is taken.
    Do(Care),
}

/// What has to be put right before the step is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Care {
    /// Replace the old tree, which is ours and incomplete, of another version or platform, or too old to register. It
    /// stays until the new one is verified.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remove_tree: bool,
    /// Put a new tree in the place of an incomplete one, and the registration's files into it: the runner stays the
    /// runner that it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_identity: bool,
    /// Delete what an earlier registration left in the folder.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clean_identity: bool,
    /// Delete these as well: the runner of the machine that the image was made of left them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<&'static str>,
    /// Delete this runner on the server: it is ours, and nobody can be it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ghost: Option<u64>,
    /// Only `config.sh --replace` can take the name back: an earlier run of ours may have registered it, and there is
    /// no credential to look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reclaim_name: bool,
    /// Nothing but the labels of the runner with this id: it stays registered, and goes on running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relabel: Option<u64>,
    /// The service runs as it should, and the server does not see its runner yet: that is waited for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub await_online: bool,
    /// The tree that jobs could change gives way to one that they cannot, and the registration to a new one under the same name
    /// and id. What is there works until then, and comes back if it fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub converts: bool,
}

impl Planned {
    /// Whether what is there already is as the step would leave it, though it may have to be waited for.
    pub(crate) fn stands(&self) -> bool {
        match &self.action {
            Action::Keep => true,
            Action::Do(care) => care.await_online,
        }
    }

    /// Whether a service that runs has to be started again for it.
    fn restarts(&self) -> bool {
        matches!(&self.action, Action::Do(care) if care.relabel.is_none() && !care.await_online)
    }
}

impl Plan {
    /// Whether it takes this step.
    #[must_use]
    pub fn takes(&self, step: Step) -> bool {
        self.steps.iter().any(|planned| planned.step == step && planned.action != Action::Keep)
    }

    /// Whether a runner will be made on the server.
    #[must_use]
    pub fn registers(&self, request: &Request) -> bool {
        request.jit || self.steps.iter().any(|planned| planned.step == Step::Register && planned.restarts())
    }

    /// Whether the service is started, or started again, and not only waited for.
    #[must_use]
    pub fn starts_service(&self) -> bool {
        self.steps.iter().any(|planned| planned.step == Step::StartService && planned.restarts())
    }

    /// Whether a runner that works goes, because only a new one can be as it is asked for.
    #[must_use]
    pub fn replaces_registration(&self) -> bool {
        self.steps.iter().any(|planned| {
            matches!(&planned.action, Action::Do(care) if planned.step == Step::Register && care.ghost.is_some())
        })
    }

    /// Whether it only makes a runner that works safer, which must not take it down.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.steps.iter().any(|planned| matches!(&planned.action, Action::Do(care) if care.converts))
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|planned| planned.action == Action::Keep)
    }
}

/// Makes the plan.
///
/// # Errors
/// What is there contradicts what was asked for.
pub fn make(request: &Request, journal: &Journal, seen: &Seen) -> Result<Plan, Error> {
    if let Some(unit) = journal.unit().filter(|_| request.no_service) {
        let (dir, unit) = (request.dir.clone(), unit.to_owned());
        return Err(Error::ServiceThere { dir, unit, asked: "--service none" });
    }
    let mut steps = Vec::new();
    if let Some(user) = &request.user {
        steps.push(create_user(user, request, journal, seen)?);
    }
    let converts = place::converts(request, journal, seen);
    steps.push(place::place_runner(request, journal, seen, converts)?);
    if request.registration.is_some() {
        steps.push(match supervised(request, seen) {
            Some(unit) => Planned {
                step: Step::Register,
                action: Action::Keep,
                detail: format!("{unit} runs, and registers by itself"),
            },
            None if converts => take_over(request, journal, seen)?,
            None => register(request, journal, seen)?,
        });
    }
    place::freshen(&mut steps, request, seen)?;
    if let Some(service) = &seen.service {
        let written = write_service(request, service)?;
        let changed = steps.iter().any(|planned| planned.step != Step::CreateUser && planned.restarts());
        // The units beside it are nothing to restart it for.
        let restart = changed || !service.is_written();
        steps.push(written);
        let by_itself = matches!(
            request.service.as_ref().map(|wanted| &wanted.main),
            Some(unit::Main::Supervisor { .. })
        );
        // One that registers by itself is offline, or not there, between two jobs.
        let offline = !by_itself
            && matches!(&seen.server, Server::Has(runner) if runner.status == github::Status::Offline);
        steps.push(start_service(service, restart, offline));
    }
    Ok(Plan { steps })
}

fn create_user(user: &str, request: &Request, journal: &Journal, seen: &Seen) -> Result<Planned, Error> {
    let (action, detail) = match (&seen.account, journal.created_user()) {
        (Some(account), _) => (Action::Keep, format!("the user {user} exists (uid {})", account.uid)),
        // The journal would forget the one that it has to delete.
        (None, Some(made)) if made != user => {
            let (dir, wanted) = (request.dir.clone(), user.to_owned());
            return Err(Error::OtherUser { dir, found: made.to_owned(), wanted });
        }
        (None, _) => (Action::Do(Care::default()), format!("make the system user {user}")),
    };
    Ok(Planned { step: Step::CreateUser, action, detail })
}

fn register(request: &Request, journal: &Journal, seen: &Seen) -> Result<Planned, Error> {
    let target = request.target.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let name = seen.name.as_ref().expect("a request that registers has a name");
    let url = target.url.as_str().trim_end_matches('/');
    let doing =
        |care: Care, detail: String| Planned { step: Step::Register, action: Action::Do(care), detail };
    let fresh = format!("register {} at {url}", name.name);
    let dirty = !matches!(seen.local, LocalState::Unconfigured);

    if seen.clone {
        if let (Server::Has(runner), false) = (&seen.server, replaces(request)) {
            return Err(name_taken(runner));
        }
        let care = Care { clean_identity: dirty, traces: seen.traces.clone(), ..Care::default() };
        return Ok(doing(
            care,
            format!("{fresh}: this disk is a copy, and the identity on it is another machine's"),
        ));
    }
    let Some((state, registered)) = journal.registered() else {
        return fresh_registration(request, seen, fresh, dirty);
    };
    let same_url = registered.url.trim_end_matches('/').eq_ignore_ascii_case(url);
    if !same_url || !registered.name.eq_ignore_ascii_case(name.name.as_str()) {
        return Err(Error::ConfiguredOtherwise {
            dir: request.dir.clone(),
            found: format!("{} at {}", registered.name, registered.url),
            wanted: format!("{} at {url}", name.name),
        });
    }
    // What the job of an ephemeral runner left is evidence of nothing.
    let left = seen.guard == Guard::Locked && registered.asked.as_ref().is_some_and(|asked| asked.ephemeral);
    let tampered = matches!((&seen.local, registered.agent_id), (LocalState::Configured(file), Some(id)) if file.agent_id != id);
    if let (LocalState::Configured(file), Some(id)) = (&seen.local, registered.agent_id)
        && file.agent_id != id
        && !left
    {
        let dir = request.dir.clone();
        return Err(Error::Tampered { dir, on_disk: file.agent_id, in_journal: id });
    }
    let configured = match (&seen.local, &seen.server) {
        // Cut off before the journal knew the id: the files count only if the server's runner of our name is that one.
        (LocalState::Configured(file), Server::Has(runner)) if registered.agent_id.is_none() => {
            file.agent_id == runner.id
        }
        (local, _) => matches!(local, LocalState::Configured(_)) && !tampered,
    };
    Ok(match (&seen.server, configured) {
        (Server::Has(runner), true) => match change(request, seen, registered, runner)? {
            Some((care, what)) => doing(care, format!("{what} of {} (id {})", runner.name, runner.id)),
            None => Planned {
                step: Step::Register,
                action: Action::Keep,
                detail: format!(
                    "{} is registered at {url} (id {}, {})",
                    runner.name, runner.id, runner.status
                ),
            },
        },
        // Cut off between the server's entry and the local files, or the files were deleted: nobody can be that
        // runner any more. One that is online is somebody, though.
        (Server::Has(runner), false)
            if (runner.status == github::Status::Online && !(left && registered.confirmed))
                || !is_ours(registered, seen) =>
        {
            return Err(name_taken(runner));
        }
        (Server::Has(runner), false) => doing(
            Care { clean_identity: dirty, ghost: Some(runner.id), ..Care::default() },
            format!("{fresh}: an earlier attempt was cut off and left id {} on the server", runner.id),
        ),
        (Server::Nothing, true) => doing(
            Care { clean_identity: true, ..Care::default() },
            format!("{fresh}: the server has forgotten the runner"),
        ),
        (Server::NotAsked, true) if !unseen_changes(request, seen, registered).is_empty() => {
            let options = unseen_changes(request, seen, registered);
            return Err(Error::CannotChange { dir: request.dir.clone(), options });
        }
        (Server::NotAsked, true) if state == State::Done || !dirty => Planned {
            step: Step::Register,
            action: Action::Keep,
            detail: format!("{} is registered at {url} (not checked: no credential)", name.name),
        },
        (Server::NotAsked, true) => Planned {
            step: Step::Register,
            action: Action::Keep,
            detail: format!("{} was registered at {url} by a run that was cut off", name.name),
        },
        (Server::Nothing, false) => doing(Care { clean_identity: dirty, ..Care::default() }, fresh),
        (Server::NotAsked, false) => doing(
            Care { clean_identity: dirty, reclaim_name: is_ours(registered, seen), ..Care::default() },
            fresh,
        ),
    })
}

/// Registers the runner that is there once more, under its name and id, in a tree that jobs cannot change.
fn take_over(request: &Request, journal: &Journal, seen: &Seen) -> Result<Planned, Error> {
    // What cannot be is refused all the same.
    let as_it_is = register(request, journal, seen)?;
    if as_it_is.action != Action::Keep {
        return Ok(as_it_is);
    }
    let care = Care { converts: true, reclaim_name: true, ..Care::default() };
    let name = seen.name.as_ref().map_or_else(String::new, |wanted| wanted.name.to_string());
    let detail = format!("register {name} once more, in place of the registration that jobs could change");
    Ok(Planned { step: Step::Register, action: Action::Do(care), detail })
}

/// The options that only a new registration can change.
fn changes(request: &Request, seen: &Seen, registered: &Registered) -> Vec<&'static str> {
    let mut options = match (&registered.asked, Asked::of(request)) {
        (Some(then), Some(now)) => then.changed(&now),
        _ => Vec::new(),
    };
    if seen.guard != Guard::Open && seen.wanted_guard == Guard::Open {
        options.push("--self-update");
    }
    options
}

/// Those, and the labels: without a credential they cannot be changed either, and nobody can look what they are.
fn unseen_changes(request: &Request, seen: &Seen, registered: &Registered) -> Vec<&'static str> {
    let mut options = changes(request, seen, registered);
    if let (Some(then), Some(now)) = (&registered.asked, Asked::of(request))
        && now.asks_other_labels(then)
    {
        options.push("--labels");
    }
    options
}

/// What has to be done about a runner that is registered, but not as it is asked for now.
fn change(
    request: &Request,
    seen: &Seen,
    registered: &Registered,
    runner: &github::Runner,
) -> Result<Option<(Care, String)>, Error> {
    let Some(now) = Asked::of(request) else { return Ok(None) };
    let options = changes(request, seen, registered);
    if !options.is_empty() {
        if runner.busy {
            return Err(Error::BusyToChange { name: runner.name.clone(), id: runner.id, options });
        }
        let care = Care { clean_identity: true, ghost: Some(runner.id), ..Care::default() };
        return Ok(Some((care, format!("register anew, for another {},", options.join(", ")))));
    }
    Ok(now.labels.filter(|labels| drift::labels_differ(labels, runner)).map(|labels| {
        let care = Care { relabel: Some(runner.id), ..Care::default() };
        (care, format!("set {} as the labels", drift::listed(&labels)))
    }))
}

/// The unit that registers by itself, if it runs: between two jobs it may have no registration, and will have one.
fn supervised<'a>(request: &Request, seen: &'a Seen) -> Option<&'a str> {
    let supervisor = matches!(request.service.as_ref()?.main, unit::Main::Supervisor { .. });
    let service = seen.service.as_ref()?;
    let same = service.found.as_deref() == Some(service.wanted.as_str());
    (supervisor && same && service.state.is_up()).then_some(service.unit.as_str())
}

fn write_service(request: &Request, service: &Service) -> Result<Planned, Error> {
    let unit = &service.unit;
    if service.state.load == "masked" {
        return Err(Error::UnitMasked { unit: unit.clone() });
    }
    let strange = |extra: &&observed::Extra| {
        extra
            .found
            .as_ref()
            .is_some_and(|found| extra.wanted.is_some() && !unit::is_ours(found, &request.dir))
    };
    if let Some(extra) = service.upgrades.iter().find(strange) {
        return Err(Error::UnitNotOurs { unit: extra.unit.clone() });
    }
    let settled = |extra: &observed::Extra| match (&extra.found, &extra.wanted) {
        (Some(found), None) => !unit::is_ours(found, &request.dir),
        (found, wanted) => found == wanted && !extra.is_off,
    };
    let (action, detail) = match &service.found {
        Some(found) if *found == service.wanted && !service.upgrades.iter().all(settled) => {
            (Action::Do(Care::default()), format!("write the units that upgrade the runner of {unit}"))
        }
        Some(found) if *found == service.wanted => (Action::Keep, format!("the unit {unit} is written")),
        Some(found) if unit::is_ours(found, &request.dir) => {
            (Action::Do(Care::default()), format!("write the unit {unit} anew"))
        }
        Some(_) => return Err(Error::UnitNotOurs { unit: unit.clone() }),
        None if service.state.load == "loaded" => return Err(Error::UnitNotOurs { unit: unit.clone() }),
        None => (Action::Do(Care::default()), format!("write the unit {unit}")),
    };
    Ok(Planned { step: Step::WriteService, action, detail })
}

fn start_service(service: &Service, restart: bool, offline: bool) -> Planned {
    let unit = &service.unit;
    let state = &service.state;
    // Between two starts by systemd it has failed, and a look just then is no proof that it works.
    let up = state.is_up() && state.enabled == "enabled" && state.sub != "auto-restart";
    let (action, detail) = match (up, restart) {
        (true, false) if offline => (
            Action::Do(Care { await_online: true, ..Care::default() }),
            format!("{unit} runs; wait until it is online"),
        ),
        (true, false) => (Action::Keep, format!("{unit} runs, and is enabled")),
        (true, true) => (Action::Do(Care::default()), format!("restart {unit} and wait until it is online")),
        (false, _) => {
            (Action::Do(Care::default()), format!("enable and start {unit} and wait until it is online"))
        }
    };
    Planned { step: Step::StartService, action, detail }
}

/// Whether a runner of the journal's name can only be the journal's: the server told its id, nobody else could have made
/// the name, or nobody had it and `config.sh` had made its key, the last thing before it registers.
fn is_ours(registered: &Registered, seen: &Seen) -> bool {
    registered.agent_id.is_some()
        || registered.unique
        || (seen.key && (registered.name_was_free || seen.guard == Guard::Open && !seen.isolates))
}

fn fresh_registration(request: &Request, seen: &Seen, detail: String, dirty: bool) -> Result<Planned, Error> {
    match (&seen.local, &seen.server) {
        // Placed by us, configured by somebody else since.
        (LocalState::Configured(file), _) => Err(Error::ConfiguredByHand {
            dir: request.dir.clone(),
            name: file.agent_name.clone(),
            url: file.github_url.clone().unwrap_or_else(|| "an unknown server".to_owned()),
        }),
        (_, Server::Has(runner)) if !replaces(request) => Err(name_taken(runner)),
        _ => {
            let care = Care { clean_identity: dirty, traces: seen.traces.clone(), ..Care::default() };
            let mut left = seen.traces.clone();
            if let LocalState::Partial { files } = &seen.local {
                left.extend(files);
            }
            let detail = match left.as_slice() {
                [] => detail,
                left => format!(
                    "{detail}; what another machine or a run that was cut off left goes first: {}",
                    left.join(", ")
                ),
            };
            Ok(Planned { step: Step::Register, action: Action::Do(care), detail })
        }
    }
}

fn replaces(request: &Request) -> bool {
    request.registration.as_ref().is_some_and(|wanted| wanted.options.replace)
}

fn name_taken(runner: &github::Runner) -> Error {
    Error::NameTaken { name: runner.name.clone(), id: runner.id, status: runner.status.to_string() }
}
