//! `runup status`

use super::args::{Command, StatusFlags};
use super::fan_out::{deciding, together};
use super::instances::OneOfAll;
use super::output::{self, Failed, Output};
use super::{Session, jobs, request, visible};
use crate::error::Class;
use crate::lifecycle::{
    Check, Error, LocalRunner, LocalRunners, Looking, RunnerState, ServiceStatus, Site, Status, StoredCopies,
    status,
};
use crate::runner::Guard;
use crate::settings;
use serde_json::{Value, json};
use std::path::Path;

const HEAD: [&str; 6] = ["DIR", "NAME", "STATE", "SERVER", "SERVICE", "JOB"];

pub(super) async fn run(flags: Box<StatusFlags>, mut session: Session) -> Result<Output, Failed> {
    let before = session.clone();
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    let (request, refused) = request::look(&flags.server, &flags.place, flags.local, &session)?;
    let http = if flags.local { request::http_offline } else { request::http };
    let http = http(&flags.server, &session.environment)?;
    let stop = session.signals.stop();
    let site = Site::new(&request, http.clone(), stop.clone(), &session.screen)?;
    let looking = Looking { local: flags.local, refused, ..Looking::default() };
    if !request.dir_is_default {
        let status = watched(&site, &looking, &session).await?;
        return Ok(Output::new(text(&status), &status).with_worst(class(&status)));
    }
    let mut runners = LocalRunners::find(&site)?;
    let mut failed: Vec<Failed> = std::mem::take(&mut runners.unreadable)
        .into_iter()
        .map(|error| Failed::from(Error::from(error)))
        .collect();
    let are_instances = runners.are_instances();
    let places: Vec<_> =
        runners.found.iter().map(|runner| (runner.number(), runner.request.dir.clone())).collect();
    // Side by side: each server has the same ten seconds.
    let ones = runners.found.into_iter().map(|runner| one(runner, &flags, looking.clone(), &before));
    let answers = together(ones).await;
    if are_instances {
        return Ok(numbered(places.iter().map(|(number, dir)| (*number, &**dir)).zip(answers), failed));
    }
    let mut statuses = Vec::new();
    for answer in answers {
        match answer {
            Ok(status) => statuses.push(status),
            Err(error) => failed.push(error),
        }
    }
    if statuses.is_empty() && !failed.is_empty() {
        return Err(failed.swap_remove(0));
    }
    Ok(all(&site, statuses, &session).with_failures(failed))
}

/// One of all, with what is set for it alone.
async fn one(
    runner: LocalRunner,
    flags: &StatusFlags,
    mut looking: Looking,
    session: &Session,
) -> Result<Status, Failed> {
    let request = |command: &Command, session: &Session| {
        let Command::Status(flags) = command else { return Err(settings::Error::UrlMissing.into()) };
        let request;
        (request, looking.refused) = request::look(&flags.server, &flags.place, flags.local, session)?;
        Ok(request)
    };
    let one = OneOfAll::of(runner, (&flags.server, &flags.place, flags.local), session, request)?;
    looking.withheld = one.runner.withheld;
    let site = Site::new(&one.runner.request, one.http, session.signals.stop().clone(), &session.screen)?;
    watched(&site, &looking, session).await
}

/// Looks at one, and writes its metrics.
async fn watched(site: &Site<'_>, looking: &Looking, session: &Session) -> Result<Status, Failed> {
    let status = status(site, looking).await?;
    if let Some(metrics) = &session.metrics {
        let online = status.server.as_deref().map(|server| server == "online");
        metrics.observe(site, online).await;
    }
    Ok(status)
}

/// The instances of this machine, and its other runners.
fn numbered<'a>(
    answers: impl Iterator<Item = ((Option<u32>, &'a Path), Result<Status, Failed>)>,
    mut failed: Vec<Failed>,
) -> Output {
    let (mut rows, mut documents, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for ((number, dir), answer) in answers {
        let mut document = json!({ "instance": number, "dir": dir });
        match answer {
            Ok(status) => {
                rows.push(row(&status));
                classes.extend(class(&status));
                if let (Some(document), Ok(Value::Object(fields))) =
                    (document.as_object_mut(), serde_json::to_value(&status))
                {
                    document.extend(fields);
                }
            }
            Err(error) => {
                document["error"] = error.document();
                failed.push(error);
            }
        }
        documents.push(document);
    }
    let text = output::table(&HEAD, &rows);
    Output::new(text, &json!({ "instances": documents })).with_worst(deciding(classes)).with_failures(failed)
}

/// Every runner of the machine: one alone in full, several as a table.
fn all(site: &Site<'_>, statuses: Vec<Status>, session: &Session) -> Output {
    let worst = deciding(statuses.iter().filter_map(class));
    match &statuses[..] {
        [] => {
            let text = format!("absent: no runner in {}", site.request.dir.display());
            Output::new(text, &json!({ "runners": statuses })).with_code(Class::Unavailable)
        }
        [one] => Output::new(text(one), &json!({ "runners": [one] })).with_worst(worst),
        _ => Output::list("runners", statuses, session.screen.is_json(), &HEAD, row).with_worst(worst),
    }
}

/// What is wrong with the runner; `None` if nothing is.
fn class(status: &Status) -> Option<Class> {
    Some(match status.state {
        RunnerState::Registered | RunnerState::Placed | RunnerState::Forgotten
            if status.waits_until.is_some() =>
        {
            Class::TempFail
        }
        RunnerState::Registered | RunnerState::Placed if status.drift.is_empty() => return None,
        RunnerState::Absent => Class::Unavailable,
        RunnerState::Stopped => Class::Runner,
        RunnerState::Unfinished | RunnerState::Offline => Class::TempFail,
        RunnerState::Unreachable => status.unreachable.unwrap_or(Class::TempFail),
        RunnerState::Registered | RunnerState::Placed | RunnerState::Forgotten | RunnerState::Copied => {
            Class::Config
        }
    })
}

/// The same as a check of `runup doctor`.
pub(super) fn check(dir: &Path, status: Result<Status, Error>) -> Check {
    let status = match status {
        Ok(status) => status,
        Err(error) => return Check::fails("runner", &error),
    };
    let server =
        status.not_asked.as_ref().map(|why| format!("; the server was not asked: {why}")).unwrap_or_default();
    let drift =
        if status.drift.is_empty() { String::new() } else { format!("; {}", status.drift.join("; ")) };
    let detail = format!("{}: {}{drift}{server}", dir.display(), status.state);
    match class(&status) {
        Some(class) => {
            Check::ends("runner", detail, class, format!("See `runup status --dir {}`.", dir.display()))
        }
        None => Check::fine("runner", detail),
    }
}

fn row(status: &Status) -> Vec<String> {
    let drift = if status.drift.is_empty() { "" } else { " (drift)" };
    let job = match status.job.or(status.busy).filter(|_| status.listener != Some(false)) {
        Some(true) => "running",
        Some(false) => "none",
        None => "-",
    };
    let or_dash = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    vec![
        status.dir.display().to_string(),
        or_dash(status.name.as_ref()),
        format!("{}{drift}", status.state),
        or_dash(status.server.as_ref()),
        or_dash(status.service.as_ref().map(|service| &service.active)),
        job.to_owned(),
    ]
}

fn text(status: &Status) -> String {
    let mut lines = vec![heading(status)];
    let mut row = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("  {key:<8} {}", visible::line(&value)));
        }
    };
    row("version", status.version.clone());
    row("name", status.name.clone());
    row("id", status.id.map(|id| id.to_string()));
    row("url", status.url.clone());
    let busy = if status.busy == Some(true) { ", busy" } else { "" };
    row("server", status.server.as_ref().map(|server| format!("{server}{busy}")));
    row("user", status.user.clone());
    row("tree", status.guard.filter(|guard| *guard != Guard::Open).map(|guard| guard.to_string()));
    row("tree", status.not_locked.as_ref().map(|why| format!("not locked: {why}")));
    let ways = Some(&status.ways_to_root).filter(|ways| !ways.is_empty());
    row("jobs", ways.map(|ways| format!("not isolated: their user can become root ({})", ways.join(", "))));
    row("server", status.not_asked.as_ref().map(|why| format!("not asked: {why}")));
    let waits = |until: &String| format!("for the server's rate limit, until {until}");
    row("waits", status.waits_until.as_ref().map(waits));
    row("service", status.service.as_ref().map(service));
    row("listener", status.listener.map(|runs| listener(runs, status.job).to_owned()));
    for line in status.service.iter().flat_map(|service| &service.log) {
        row("log", Some(line.clone()));
    }
    let set = Some(&status.environment).filter(|names| !names.is_empty());
    row("env", set.map(|names| names.join(", ")));
    let copies = |store: &StoredCopies| {
        let (versions, dir) = (store.versions.join(", "), store.dir.display());
        format!("{versions} in {dir}, {} MB", store.bytes.div_ceil(1_000_000))
    };
    row("copies", status.store.as_ref().map(copies));
    row("support", status.support.as_ref().map(ToString::to_string));
    for drift in &status.drift {
        row("drift", Some(drift.clone()));
    }
    if status.state != RunnerState::Absent && !status.journal {
        row("journal", Some("none: runup did not install this runner".into()));
    }
    lines.join("\n")
}

fn heading(status: &Status) -> String {
    match status.state {
        RunnerState::Absent => format!("absent: no runner in {}", status.dir.display()),
        RunnerState::Placed => format!("placed: the runner in {} is not registered", status.dir.display()),
        RunnerState::Unfinished => {
            format!(
                "unfinished: runup was interrupted in {}; run install or remove again",
                status.dir.display()
            )
        }
        RunnerState::Registered => format!("registered: {}", status.dir.display()),
        RunnerState::Unreachable => {
            format!("unreachable: {} is registered, but the server cannot be asked", status.dir.display())
        }
        RunnerState::Stopped if status.name.is_none() => format!(
            "stopped: the runner in {} is not registered, and its service is not running; run install again",
            status.dir.display()
        ),
        RunnerState::Stopped => {
            format!("stopped: {} is registered, but its service is not running", status.dir.display())
        }
        RunnerState::Offline => {
            format!(
                "offline: the service of {} is running, but the server reports the runner as offline",
                status.dir.display()
            )
        }
        RunnerState::Forgotten => {
            format!(
                "forgotten: the server no longer has the runner in {}; run install again",
                status.dir.display()
            )
        }
        RunnerState::Copied => format!(
            "copied: this disk is a copy, and the runner in {} belongs to another machine; run install",
            status.dir.display()
        ),
    }
}

fn service(service: &ServiceStatus) -> String {
    let restarts = match service.restarts {
        0 => String::new(),
        restarts => format!(", restarted {restarts} times"),
    };
    let since = service.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    format!("{}: {}{since}, {}{restarts}", service.unit, service.active, service.enabled)
}

fn listener(runs: bool, job: Option<bool>) -> &'static str {
    match (runs, job) {
        (true, Some(true)) => "runs a job",
        (true, _) => "waits for jobs",
        (false, _) => "does not run",
    }
}
