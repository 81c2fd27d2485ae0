//! `runup upgrade`

use super::args::UpgradeFlags;
use super::fan_out::{self, Results};
use super::output::{Failed, Output};
use super::{Session, jobs, request};
use crate::lifecycle::{Error, LocalRunners, RegistrationError, Site, Upgraded, Upgrading, upgrade};

pub(super) async fn run(flags: Box<UpgradeFlags>, mut session: Session) -> Result<Output, Failed> {
    let given = session.environment.clone();
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    let mut request = request::status(&flags.server, &flags.place, &session)?;
    request.archive.mirror.clone_from(&flags.mirror);
    let stop = session.signals.stop();
    let http = request::http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, stop.clone(), &session.screen)?;
    let how = Upgrading { window: flags.window, daily: flags.daily };
    if !flags.choice.all {
        let upgraded = Box::pin(upgrade(&site, &how)).await?;
        return Ok(Output::new(text(&upgraded), &upgraded));
    }
    let runners = LocalRunners::find(&site)?;
    let are_instances = runners.are_instances();
    let unreadable = runners.unreadable.into_iter().map(|error| Failed::from(Error::from(error))).collect();
    let mut results = Results::default();
    // One after the other: the machine keeps runners that work.
    for runner in &runners.found {
        let place = (runner.number(), &*runner.request.dir);
        let http = request::http_of_runner((&flags.server, &flags.place, false), &given, place.1)?;
        let site = Site::new(&runner.request, http, stop.clone(), &session.screen)?;
        let upgraded = match &runner.withheld {
            Some(why) => {
                Err(RegistrationError::Withheld { dir: runner.request.dir.clone(), why: why.clone() }.into())
            }
            None => fan_out::named(place.1, Box::pin(upgrade(&site, &how))).await,
        };
        let is_stop = upgraded.as_ref().is_err_and(Error::is_stop);
        results.add(place, upgraded.map_err(Failed::from), text, "upgrade");
        if is_stop {
            break;
        }
    }
    results.list(are_instances, unreadable, "nothing to do: no runner on this machine")
}

fn text(upgraded: &Upgraded) -> String {
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "of unknown version".into());
    let dir = upgraded.dir.display();
    if let Some(reason) = &upgraded.reason {
        return format!("nothing to do in {dir}: {reason}");
    }
    let status = upgraded.status.as_ref().map(|status| format!(", {status}")).unwrap_or_default();
    format!(
        "done: upgraded the runner in {dir} to {}, from {}{status}",
        version(&upgraded.version),
        version(&upgraded.from)
    )
}
