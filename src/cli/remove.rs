//! `runup remove`

use super::args::{Command, RemoveFlags};
use super::fan_out::{self, Results};
use super::instances::OneOfAll;
use super::output::{Failed, Output};
use super::{Session, jobs, request};
use crate::lifecycle::{
    Error, LocalRunner, LocalRunners, RegistrationError, RemoveScope, Removed, Site, Why, remove,
};
use crate::settings::{self, Given, Origin};
use std::fmt::Write as _;

pub(super) async fn run(flags: Box<RemoveFlags>, mut session: Session) -> Result<Output, Failed> {
    let before = session.clone();
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    refuse_beside_all(&flags, &session)?;
    let request = request::remove(&flags, &session)?;
    let http = if flags.local { request::http_offline } else { request::http };
    let http = http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http.clone(), session.signals.stop().clone(), &session.screen)?;
    if !flags.choice.all {
        let removed = Box::pin(watched(&site, &flags, &session)).await?;
        return Ok(Output::new(text(&removed), &removed));
    }
    let runners = LocalRunners::find(&site)?;
    let are_instances = runners.are_instances();
    let unreadable: Vec<Failed> =
        runners.unreadable.into_iter().map(|error| Failed::from(Error::from(error))).collect();
    let mut results = Results::default();
    // Each as if it were alone. A signal ends it: what was begun is finished by the next run.
    for runner in runners.found {
        let (number, dir) = (runner.number(), runner.request.dir.clone());
        let result = fan_out::named(&dir, Box::pin(one(runner, &flags, &before))).await;
        if result.as_ref().is_err_and(Failed::is_stop) {
            return result.map(|_| Output::silent());
        }
        results.add((number, &dir), result, text, "remove");
    }
    for request in runners.gone {
        let site = Site::new(&request, http.clone(), session.signals.stop().clone(), &session.screen)?;
        let result = Box::pin(watched(&site, &flags, &session)).await;
        if result.as_ref().is_err_and(Failed::is_stop) {
            return result.map(|_| Output::silent());
        }
        // Of most, only the journal is left, which is nothing to report.
        if result.as_ref().map_or(true, |removed| removed.changed) {
            results.add((None, &request.dir), result, text, "remove");
        }
    }
    results.list(are_instances, unreadable, "nothing to do: no runner on this machine")
}

fn scope(flags: &RemoveFlags) -> RemoveScope {
    if flags.local { RemoveScope::Local } else { RemoveScope::Server }
}

/// One of all, with what is set for it alone.
async fn one(runner: LocalRunner, flags: &RemoveFlags, session: &Session) -> Result<Removed, Failed> {
    let request = |command: &Command, session: &Session| {
        let Command::Remove(flags) = command else { return Err(settings::Error::UrlMissing.into()) };
        request::remove(flags, session)
    };
    let one = OneOfAll::of(runner, (&flags.server, &flags.place, flags.local), session, request)?;
    let flags = if let Some(Command::Remove(own)) = &one.command { own } else { flags };
    let request = &one.runner.request;
    if let Some(why) = one.runner.withheld.filter(|_| !flags.local) {
        return Err(Error::from(RegistrationError::Withheld { dir: request.dir.clone(), why }).into());
    }
    let site = Site::new(request, one.http, session.signals.stop().clone(), &session.screen)?;
    Box::pin(watched(&site, flags, session)).await
}

/// Removes one, with its metrics.
async fn watched(site: &Site<'_>, flags: &RemoveFlags, session: &Session) -> Result<Removed, Failed> {
    let removed = Box::pin(remove(site, scope(flags), flags.drain)).await?;
    if let Some(metrics) = &session.metrics {
        metrics.forget(site);
    }
    Ok(removed)
}

/// What means one runner contradicts `--all`. A directory of the environment or the configuration file is a default, and
/// no choice of this command.
fn refuse_beside_all(flags: &RemoveFlags, session: &Session) -> Result<(), settings::Error> {
    let is_dir = |given: &Given| given.key == "dir" && given.origin == Origin::Flag;
    let one = match (&flags.name, session.given.iter().any(is_dir)) {
        _ if !flags.choice.all => return Ok(()),
        (Some(_), _) => "--name",
        (None, true) => "--dir",
        (None, false) => return Ok(()),
    };
    Err(settings::Error::Contradiction(format!("--all and {one} cannot be used together")))
}

pub(super) fn text(removed: &Removed) -> String {
    if !removed.changed {
        return format!("nothing to do: no runner in {}", removed.dir.display());
    }
    let mut text = format!("done: removed the runner in {}", removed.dir.display());
    if let Some(gone) = &removed.deregistered {
        let id = gone.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        let from = if gone.url.is_empty() { "its server" } else { &gone.url };
        let _ = write!(text, "; deregistered {}{id} from {from}", gone.name);
    }
    if let Some(left) = &removed.left_on_server {
        let id = left.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        if left.why == Why::OtherMachine {
            let _ = write!(
                text,
                "\nstill registered: {}{id} at {}; this disk is a copy, and the runner belongs to another machine",
                left.name, left.url
            );
            return text;
        }
        if left.why == Why::Claimed {
            let _ = write!(
                text,
                "\nstill registered, according to the runner's own files, which its jobs could write: {}{id} at {}\n\
                 delete it there only if you know that URL",
                left.name,
                if left.url.is_empty() { "an unknown URL" } else { &left.url }
            );
            return text;
        }
        let _ = write!(
            text,
            "\nstill registered: {}{id} at {}\nto delete it there, run: runup runners delete {} --url {}",
            left.name,
            left.url,
            left.id.map_or_else(|| left.name.clone(), |id| id.to_string()),
            left.url
        );
    }
    text
}
