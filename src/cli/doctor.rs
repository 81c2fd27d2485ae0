//! `runup doctor`

use super::args::InstallFlags;
use super::fan_out::together;
use super::install::One;
use super::manual::Page;
use super::output::{Failed, Output};
use super::{Session, jobs, request, service, status};
use crate::host::Stream;
use crate::lifecycle::{self, Check, LocalRunner, LocalRunners, Looking, ServiceError, Site, Verdict, Watch};
use crate::settings::flags::ServiceKind;
use crate::transfer::Progress;
use serde_json::json;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How long the state of a runner may take.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) const PAGE: Page = Page {
    path: "doctor",
    notes: &[
        "It checks this machine, each runner on it, and, with a --url, what an installation with these options would meet (of several \
         instances, the first). It changes nothing, here and on the server.",
        "A check that could not tell does not count as a failure.",
    ],
    exit: &[("0", "no check fails")],
    examples: &[
        (
            "Check a machine before a runner is installed",
            "sudo runup doctor --url https://github.com/octo-org --token-file /etc/runup/token",
        ),
        ("Check an installed machine, for a ticket", "sudo runup doctor > ticket.txt"),
    ],
};

pub(super) async fn run(mut flags: Box<InstallFlags>, session: Session) -> Result<Output, Failed> {
    // An installation is refused; here the other checks are made all the same.
    let lacks_systemd = service::lacks_systemd(&flags) && flags.converge.place.root.is_none();
    if lacks_systemd {
        flags.service.service = ServiceKind::None;
    }
    let (server, place) = (&flags.converge.server, &flags.converge.place);
    let mut own = session.clone();
    own.environment = jobs::reach(&session.environment, server, Some(place));
    let (mut request, refused) = request::look(server, place, false, &own)?;
    request.deps = flags.libraries.deps;
    let http = request::http(server, &own.environment)?;
    let stop = session.signals.stop();
    let here = Site::new(&request, http, stop.clone(), &Quiet)?;
    let mut checks = if server.url.is_some() {
        let one = One::of(&flags, session.clone(), None).await?;
        let site = Site::new(&one.request, one.http.clone(), stop.clone(), &Quiet)?;
        Box::pin(session.or_stop(lifecycle::doctor(&site))).await?
    } else {
        Box::pin(session.or_stop(lifecycle::doctor(&here))).await?
    };
    if lacks_systemd {
        let place = checks.iter().position(|check| check.id == "journal").unwrap_or(checks.len());
        checks.insert(place, Check::fails("init", &lifecycle::Error::from(ServiceError::NoSystemd)));
    }
    match LocalRunners::find(&here) {
        Ok(found) => {
            checks.extend(runners(&flags, &session, found.found, refused.as_deref()).await?);
        }
        Err(error) => {
            let check = Check::fails("runner", &error);
            // What the check of the journals has told is told once.
            checks.extend(Some(check).filter(|check| checks.iter().all(|told| told.detail != check.detail)));
        }
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fails).count();
    let text = match failed {
        0 => format!("{}\nno check fails", lines(&checks)),
        1 => format!("{}\n1 check fails", lines(&checks)),
        _ => format!("{}\n{failed} checks fail", lines(&checks)),
    };
    Ok(Output::new(text, &json!({ "checks": checks })).with_worst(lifecycle::worst(&checks)))
}

/// Each runner that is on this machine, side by side.
async fn runners(
    flags: &InstallFlags,
    session: &Session,
    found: Vec<LocalRunner>,
    refused: Option<&str>,
) -> Result<Vec<Check>, Failed> {
    let (server, place) = (&flags.converge.server, &flags.converge.place);
    let looking = Looking { refused: refused.map(str::to_owned), ..Looking::default() };
    let ones = found.iter().map(|one| {
        let http = request::http_of_runner((server, place, false), &session.environment, &one.request.dir)?;
        let site = Site::new(&one.request, http, session.signals.stop().clone(), &Quiet)?;
        Ok((site, Looking { withheld: one.withheld.clone(), ..looking.clone() }))
    });
    let ones = ones.collect::<Result<Vec<_>, Failed>>()?;
    let checks = ones.iter().map(async |(site, looking)| {
        let dir = &site.request.dir;
        match tokio::time::timeout(LIMIT, Box::pin(lifecycle::status(site, looking))).await {
            Ok(status) => {
                let cause = match &status {
                    Ok(status) => lifecycle::last_failure(site, status).await,
                    Err(_) => None,
                };
                [Some(status::check(dir, status)), cause].into_iter().flatten().collect()
            }
            Err(_) => vec![Check::unknown("runner", format!("{}: no answer in time", dir.display()))],
        }
    });
    let checks: Vec<Vec<Check>> = together(checks).await;
    Ok(checks.concat())
}

fn lines(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or_default();
    checks.iter().fold(String::new(), |mut text, check| {
        let verdict = match check.verdict {
            Verdict::Fine => "fine",
            Verdict::Fails => "will fail",
            Verdict::Unknown => "could not tell",
        };
        let _ = writeln!(text, "{verdict:<14}  {:width$}  {}", check.id, check.detail);
        let more = check.name.as_ref().map(|name| format!("more: runup explain {name}"));
        for line in check.fix.iter().chain(&more) {
            let _ = writeln!(text, "{:14}  {:width$}  {line}", "", "");
        }
        text
    })
}

/// The checks tell what was found.
struct Quiet;

impl Watch for Quiet {
    fn begin(&self, _: &'static str) {}
    fn end(&self, _: &'static str, _: &str, _: Duration) {}
    fn line(&self, _: Stream, _: &str) {}
    fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(())
    }
}
