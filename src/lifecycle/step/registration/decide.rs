//! Decides whether the runner is registered, registered again, or stays as it is.

use crate::github;
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::drift;
use crate::lifecycle::state::journal::{Asked, EntryState, Journal, Registered, Step};
use crate::lifecycle::state::observed::{Seen, Server};
use crate::lifecycle::state::plan::{Change, NewRegistration, Planned};
use crate::lifecycle::step::registration::taken;
use crate::runner::{Guard, LocalState};

pub(crate) fn register(
    request: &Request,
    journal: &Journal,
    seen: &Seen,
    new: &NewRegistration,
) -> Result<Planned, Error> {
    let target = request.target.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let name = &new.name;
    let url = target.url.as_str().trim_end_matches('/');
    let fresh = format!("register {} at {url}", name.name);
    let dirty = !matches!(seen.local, LocalState::Unconfigured);

    if seen.clone {
        let refused = has(&seen.server).and_then(|runner| taken::refusal(request, runner));
        if let Some(error) = refused {
            return Err(error);
        }
        let new = NewRegistration { clean_identity: dirty, traces: seen.traces.clone(), ..new.clone() };
        return Ok(doing(
            new,
            format!("{fresh}: this disk is a copy, and the identity on it is another machine's"),
        ));
    }
    let Some((state, registered)) = journal.registered() else {
        return fresh_registration(request, seen, new, &fresh, dirty);
    };
    if !target.is_same_as(&registered.url) || !registered.name.eq_ignore_ascii_case(name.name.as_str()) {
        return Err(RegistrationError::ConfiguredOtherwise {
            dir: request.dir.clone(),
            found: format!("{} at {}", registered.name, registered.url),
            wanted: format!("{} at {url}", name.name),
        }
        .into());
    }
    // What the job of an ephemeral runner left proves nothing.
    let left = seen.guard == Guard::Locked && registered.asked.as_ref().is_some_and(|asked| asked.ephemeral);
    let tampered = matches!((&seen.local, registered.agent_id), (LocalState::Configured(file), Some(id)) if file.agent_id != id);
    if let (LocalState::Configured(file), Some(id)) = (&seen.local, registered.agent_id)
        && file.agent_id != id
        && !left
    {
        let dir = request.dir.clone();
        return Err(RegistrationError::Tampered { dir, on_disk: file.agent_id, in_journal: id }.into());
    }
    let configured = match (&seen.local, &seen.server) {
        // Interrupted before the id was in the journal: the files count only if their id is the server runner's.
        (LocalState::Configured(file), Server::Has(runner)) if registered.agent_id.is_none() => {
            file.agent_id == runner.id
        }
        (local, _) => matches!(local, LocalState::Configured(_)) && !tampered,
    };
    let known = Known { registered, done: state == EntryState::Done, configured, left, dirty };
    by_server(request, seen, new, &known, url)
}

fn doing(new: NewRegistration, detail: String) -> Planned {
    Planned::to_do(Step::Register, Change::Register(Box::new(new)), detail)
}

/// What is known of a registration that the journal records, besides what the server says.
struct Known<'a> {
    registered: &'a Registered,
    /// The journal has it as done.
    done: bool,
    /// The files in the tree are this runner's.
    configured: bool,
    /// They may be what a job of an ephemeral runner left.
    left: bool,
    /// There are files of some registration.
    dirty: bool,
}

/// Decides by what the server says of the runner of the journal.
fn by_server(
    request: &Request,
    seen: &Seen,
    new: &NewRegistration,
    known: &Known<'_>,
    url: &str,
) -> Result<Planned, Error> {
    let Known { registered, done, configured, left, dirty } = *known;
    let name = &new.name.name;
    let fresh = format!("register {name} at {url}");
    Ok(match (&seen.server, configured) {
        (Server::Has(runner), true) => match change(request, seen, registered, runner, new)? {
            Some((change, what)) => {
                let detail = format!("{what} of {} (id {})", runner.name, runner.id);
                Planned::to_do(Step::Register, change, detail)
            }
            None => Planned::keep(
                Step::Register,
                format!("{} is registered at {url} (id {}, {})", runner.name, runner.id, runner.status),
            ),
        },
        // Interrupted between the server's entry and the local files, or the files were deleted: no listener can be
        // that runner any more. One that is online has a listener, though.
        (Server::Has(runner), false)
            if (runner.status == github::RunnerStatus::Online && !(left && registered.confirmed))
                || !is_ours(registered, seen) =>
        {
            if let Some(error) = taken::refusal(request, runner) {
                return Err(error);
            }
            let detail = format!("{fresh}{}", in_place_of(&seen.server));
            doing(NewRegistration { clean_identity: dirty, ..new.clone() }, detail)
        }
        (Server::Has(runner), false) => doing(
            NewRegistration { clean_identity: dirty, ghost: Some(runner.id), ..new.clone() },
            format!("{fresh}: an earlier attempt was cut off and left id {} on the server", runner.id),
        ),
        (Server::Nothing, true) => doing(
            NewRegistration { clean_identity: true, ..new.clone() },
            format!("{fresh}: the server has forgotten the runner"),
        ),
        (Server::NotAsked, true) if !unseen_changes(request, seen, registered).is_empty() => {
            let options = unseen_changes(request, seen, registered);
            return Err(RegistrationError::CannotChange { dir: request.dir.clone(), options }.into());
        }
        (Server::NotAsked, true) if done || !dirty => Planned::keep(
            Step::Register,
            format!("{name} is registered at {url} (not checked: no credential)"),
        ),
        (Server::NotAsked, true) => {
            Planned::keep(Step::Register, format!("{name} was registered at {url} by a run that was cut off"))
        }
        (Server::Nothing, false) => doing(NewRegistration { clean_identity: dirty, ..new.clone() }, fresh),
        (Server::NotAsked, false) => doing(
            NewRegistration { clean_identity: dirty, reclaim_name: is_ours(registered, seen), ..new.clone() },
            fresh,
        ),
    })
}

/// Re-registers the existing runner, under its name and id, in a tree that jobs cannot change.
pub(crate) fn take_over(
    request: &Request,
    journal: &Journal,
    seen: &Seen,
    new: NewRegistration,
) -> Result<Planned, Error> {
    // What cannot work is refused all the same.
    let as_it_is = register(request, journal, seen, &new)?;
    // Other labels come with the registration.
    if !matches!(as_it_is.change(), None | Some(Change::Relabel { .. })) {
        return Ok(as_it_is);
    }
    let name = new.name.name.clone();
    let new = NewRegistration { converts: true, reclaim_name: true, ..new };
    let detail = format!("register {name} once more, in place of the registration that jobs could change");
    Ok(doing(new, detail))
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

/// Those, and the labels: without a credential, labels cannot be changed or looked up either.
fn unseen_changes(request: &Request, seen: &Seen, registered: &Registered) -> Vec<&'static str> {
    let mut options = changes(request, seen, registered);
    if let (Some(then), Some(now)) = (&registered.asked, Asked::of(request))
        && now.asks_other_labels(then)
    {
        options.push("--labels");
    }
    options
}

/// What has to be done about a registered runner that differs from what is requested now.
fn change(
    request: &Request,
    seen: &Seen,
    registered: &Registered,
    runner: &github::Runner,
    new: &NewRegistration,
) -> Result<Option<(Change, String)>, Error> {
    let Some(now) = Asked::of(request) else { return Ok(None) };
    let options = changes(request, seen, registered);
    if !options.is_empty() {
        if runner.busy {
            return Err(RegistrationError::BusyToChange {
                name: runner.name.clone(),
                id: runner.id,
                options,
            }
            .into());
        }
        let new = NewRegistration { clean_identity: true, ghost: Some(runner.id), ..new.clone() };
        return Ok(Some((
            Change::Register(Box::new(new)),
            format!("re-register, for a different {},", options.join(", ")),
        )));
    }
    Ok(now.labels.filter(|labels| drift::labels_differ(labels, runner)).map(|labels| {
        (Change::Relabel { id: runner.id }, format!("set {} as the labels", drift::listed(&labels)))
    }))
}

/// The unit that registers by itself, if it runs: between two jobs it may have no registration, and will get one.
pub(crate) fn supervised<'a>(request: &Request, seen: &'a Seen) -> Option<&'a str> {
    let service = seen.service.as_ref()?;
    let up = service.is_written() && service.state.is_up();
    (up && request.registers_by_itself()).then_some(service.unit.as_str())
}

/// Whether a runner of the journal's name can only be the journal's: the server returned its id, no other machine could
/// have generated the name, or it was unused within the last hour and `config.sh` had created its key, without which it registers nothing.
fn is_ours(registered: &Registered, seen: &Seen) -> bool {
    registered.agent_id.is_some() || registered.unique || (seen.key && registered.name_was_free)
}

fn fresh_registration(
    request: &Request,
    seen: &Seen,
    new: &NewRegistration,
    detail: &str,
    dirty: bool,
) -> Result<Planned, Error> {
    match (&seen.local, &seen.server) {
        // Placed by runup, and configured by hand since.
        (LocalState::Configured(file), _) => Err(Error::Registration(RegistrationError::ConfiguredByHand {
            dir: request.dir.clone(),
            name: file.agent_name.clone(),
            url: file.github_url.clone().unwrap_or_else(|| "an unknown server".to_owned()),
        })),
        (_, server) => {
            if let Some(error) = has(server).and_then(|runner| taken::refusal(request, runner)) {
                return Err(error);
            }
            let detail = format!("{detail}{}", in_place_of(server));
            let new = NewRegistration { clean_identity: dirty, traces: seen.traces.clone(), ..new.clone() };
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
            Ok(doing(new, detail))
        }
    }
}

fn has(server: &Server) -> Option<&github::Runner> {
    if let Server::Has(runner) = server { Some(runner) } else { None }
}

/// The end of a description: which runner is replaced.
fn in_place_of(server: &Server) -> String {
    let replaced = |runner: &github::Runner| {
        format!(", in place of {} (id {}, {})", runner.name, runner.id, runner.status)
    };
    has(server).map(replaced).unwrap_or_default()
}
