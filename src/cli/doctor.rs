//! `runup doctor`

use super::args::InstallFlags;
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

pub(super) const PAGE: Page = Page {
    path: "doctor",
    notes: &[
        "With the options of install, it checks what an installation with them would meet. Without --url, it checks this machine and the \
         runners on it. It changes nothing, here and on the server.",
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
    let stop = session.signals.stop();
    let mut checks = if flags.converge.server.url.is_some() {
        let one = One::of(&flags, session.clone(), None).await?;
        let site = Site::new(&one.request, one.http.clone(), stop.clone(), &Quiet)?;
        Box::pin(session.or_stop(lifecycle::doctor(&site))).await?
    } else {
        Vec::new()
    };
    if checks.is_empty() {
        checks = Box::pin(installed(&flags, session.clone())).await?;
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fails).count();
    let text = match failed {
        0 => format!("{}\nno check fails", lines(&checks)),
        1 => format!("{}\n1 check fails", lines(&checks)),
        _ => format!("{}\n{failed} checks fail", lines(&checks)),
    };
    Ok(Output::new(text, &json!({ "checks": checks })).with_worst(lifecycle::worst(&checks)))
}

/// This machine, and each runner on it.
async fn installed(flags: &InstallFlags, mut session: Session) -> Result<Vec<Check>, Failed> {
    let (server, place) = (&flags.converge.server, &flags.converge.place);
    let given = session.environment.clone();
    session.environment = jobs::reach(&session.environment, server, Some(place));
    let (request, refused) = request::look(server, place, false, &session)?;
    let http = request::http(server, &session.environment)?;
    let stop = session.signals.stop();
    let site = Site::new(&request, http, stop.clone(), &Quiet)?;
    let mut checks = Box::pin(session.or_stop(lifecycle::doctor(&site))).await?;
    for runner in LocalRunners::find(&site)?.found {
        let http = request::http_of_runner((server, place, false), &given, &runner.request.dir)?;
        let own = Site::new(&runner.request, http, stop.clone(), &Quiet)?;
        let looking = Looking { local: false, refused: refused.clone(), withheld: runner.withheld.clone() };
        checks.push(status::check(&runner.request.dir, lifecycle::status(&own, &looking).await));
    }
    Ok(checks)
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
