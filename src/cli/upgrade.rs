//! `runup upgrade`

use super::args::{Command, UpgradeFlags};
use super::fan_out::{self, Results};
use super::instances::OneOfAll;
use super::output::{Failed, Output};
use super::{Session, jobs, request};
use crate::lifecycle::{
    Error, LocalRunner, LocalRunners, RegistrationError, Site, Upgraded, Upgrading, upgrade,
};
use crate::settings;

pub(super) async fn run(flags: Box<UpgradeFlags>, mut session: Session) -> Result<Output, Failed> {
    let before = session.clone();
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    let mut request = request::status(&flags.server, &flags.place, &session)?;
    request.archive.mirror.clone_from(&flags.mirror);
    let stop = session.signals.stop();
    let http = request::http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, stop.clone(), &session.screen)?;
    let how = Upgrading { window: flags.window, daily: flags.daily };
    if !flags.choice.all {
        let upgraded = Box::pin(watched(&site, &how, &session)).await?;
        return Ok(Output::new(text(&upgraded), &upgraded));
    }
    let runners = LocalRunners::find(&site)?;
    let are_instances = runners.are_instances();
    let unreadable = runners.unreadable.into_iter().map(|error| Failed::from(Error::from(error))).collect();
    let mut results = Results::default();
    // One after the other: the machine keeps runners that work.
    for runner in runners.found {
        let (number, dir) = (runner.number(), runner.request.dir.clone());
        let upgraded = fan_out::named(&dir, Box::pin(one(runner, &flags, &before))).await;
        let is_stop = upgraded.as_ref().is_err_and(Failed::is_stop);
        results.add((number, &dir), upgraded, text, "upgrade");
        if is_stop {
            break;
        }
    }
    results.list(are_instances, unreadable, "nothing to do: no runner on this machine")
}

/// One of all, with what is set for it alone.
async fn one(runner: LocalRunner, flags: &UpgradeFlags, session: &Session) -> Result<Upgraded, Failed> {
    let request = |command: &Command, session: &Session| {
        let Command::Upgrade(flags) = command else { return Err(settings::Error::UrlMissing.into()) };
        let mut request = request::status(&flags.server, &flags.place, session)?;
        request.archive.mirror.clone_from(&flags.mirror);
        Ok(request)
    };
    let one = OneOfAll::of(runner, (&flags.server, &flags.place, false), session, request)?;
    let flags = if let Some(Command::Upgrade(own)) = &one.command { own } else { flags };
    let request = &one.runner.request;
    if let Some(why) = one.runner.withheld {
        return Err(Error::from(RegistrationError::Withheld { dir: request.dir.clone(), why }).into());
    }
    let site = Site::new(request, one.http, session.signals.stop().clone(), &session.screen)?;
    let how = Upgrading { window: flags.window, daily: flags.daily };
    Box::pin(watched(&site, &how, session)).await
}

/// Upgrades one, and writes its metrics.
async fn watched(site: &Site<'_>, how: &Upgrading, session: &Session) -> Result<Upgraded, Failed> {
    let Some(metrics) = &session.metrics else { return Ok(Box::pin(upgrade(site, how)).await?) };
    metrics.remember(site);
    let upgraded = Box::pin(upgrade(site, how)).await.map_err(Failed::from);
    let status = upgraded.as_ref().ok().and_then(|upgraded| upgraded.status.as_deref());
    metrics.observe(site, status.map(|status| status == "online")).await;
    metrics.ended(&site.request.dir, &upgraded);
    upgraded
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
