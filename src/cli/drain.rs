//! `runup drain`

use super::args::{Command, DrainFlags};
use super::fan_out::{self, Results};
use super::output::{Failed, Output};
use super::{Session, request};
use crate::deadline::Deadline;
use crate::host::account;
use crate::lifecycle::{LocalRunners, Site, drain, refuse_elsewhere};
use crate::net::{Http, HttpOptions};
use serde_json::{Value, json};
use std::time::Duration;

/// Waits until the runner on this machine is idle, or all instances are.
pub(super) async fn run(flags: DrainFlags, session: Session) -> Result<Output, Failed> {
    let request = request::place(&flags.place, &session)?;
    let http = Http::new(HttpOptions::default())?;
    let stop = session.signals.stop();
    let site = Site::new(&request, http.clone(), stop.clone(), &session.screen)?;
    if request.dir_is_default
        && let Ok(runners) = LocalRunners::find(&site)
        && runners.are_instances()
    {
        let sites = runners
            .found
            .iter()
            .map(|runner| Site::new(&runner.request, http.clone(), stop.clone(), &session.screen))
            .collect::<Result<Vec<_>, _>>()?;
        let waits = runners
            .found
            .iter()
            .map(|runner| match session.of_runner(runner)? {
                Some((Command::Drain(own), _)) => Ok(own.deadline),
                _ => Ok(flags.deadline),
            })
            .collect::<Result<Vec<_>, Failed>>()?;
        let all = sites.iter().zip(waits).map(|(site, wait)| one(site, wait, &session));
        let mut results = Results::default();
        for (runner, idle) in runners.found.iter().zip(fan_out::together(all).await) {
            let dir = &runner.request.dir;
            let text = |_: &Value| format!("done: the runner in {} is idle", dir.display());
            results.add((runner.number(), dir), idle, text, "drain");
        }
        return results.output();
    }
    if !site.dir().exists() {
        refuse_elsewhere(&site, "drain")?;
    }
    let idle = one(&site, flags.deadline, &session).await?;
    Ok(Output::new(format!("done: the runner in {} is idle", site.dir().display()), &idle))
}

async fn one(site: &Site<'_>, wait: Duration, session: &Session) -> Result<Value, Failed> {
    // Without root, the jobs of the current user count: the unit runs this as the runner's user, which cannot read the
    // journal.
    let uid = if account::is_root() { site.runner_uid() } else { Some(account::current().uid) };
    let dir = site.dir();
    drain(&dir, uid, Deadline::after(wait), session.signals.stop()).await?;
    Ok(json!({ "dir": dir, "idle": true }))
}
