//! `runup doctor`

use super::args::InstallFlags;
use super::fan_out::together;
use super::install::One;
use super::manual::Page;
use super::output::{Failed, Output};
use super::{Session, jobs, request, status};
use crate::host::Stream;
use crate::lifecycle::{self, Check, LocalRunners, Looking, Site, Verdict, Watch};
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

pub(super) async fn run(flags: Box<InstallFlags>, session: Session) -> Result<Output, Failed> {
    let (server, place) = (&flags.converge.server, &flags.converge.place);
    let mut own = session.clone();
    own.environment = jobs::reach(&session.environment, server, Some(place));
    let (request, refused) = request::look(server, place, false, &own)?;
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
    checks.extend(runners(&flags, &session, &here, refused.as_deref()).await?);
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
    here: &Site<'_>,
    refused: Option<&str>,
) -> Result<Vec<Check>, Failed> {
    let (server, place) = (&flags.converge.server, &flags.converge.place);
    let found = LocalRunners::find(here)?.found;
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
