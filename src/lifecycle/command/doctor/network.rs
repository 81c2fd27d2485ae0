//! What the network and the server must allow.

use crate::deadline::Deadline;
use crate::error::{Failure, chain};
use crate::github::{self, Client, Credential};
use crate::lifecycle::command::adoption;
use crate::lifecycle::command::doctor::{Check, Verdict, hosts, reached};
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::step::placing::archive;
use crate::lifecycle::step::registration;
use crate::net::{self, Range, redact};
use crate::transfer::Source;
use jiff::SignedDuration;
use tokio::time::timeout_at;

/// A check that ends with this error, unless only the limit of the doctor has ended it.
fn failed(id: &'static str, error: &Error) -> Check {
    let late = match error {
        Error::Net(error) | Error::Github(github::Error::Transport(error)) => {
            matches!(error, net::Error::Deadline { last: None, .. })
        }
        _ => false,
    };
    if late { Check::unknown(id, "no answer in time") } else { Check::fails(id, error) }
}

/// Each depends on those before it, as in an installation. What comes after one that fails could not be told.
pub(super) async fn checks(site: &Site<'_>, limit: Deadline) -> Vec<Check> {
    let Some(client) = site.client.as_deref() else {
        return vec![Check::unknown("server", "--url was not passed, so no server was asked")];
    };
    let mut checks = Vec::new();
    let reached = reached::checks(site, client, limit).await;
    // A host may accept connections at some of its addresses only.
    let connects = reached.iter().all(|check| check.verdict != Verdict::Fails) && reached.len() > 1;
    checks.extend(reached);
    if !connects {
        for id in ["server", "clock", "credential", "rate-limit", "archive", "install", "job-hosts"] {
            checks.push(Check::unknown(id, "the server was not reached"));
        }
        return checks;
    }
    let late = |id| Check::unknown(id, "no answer in time");
    if let Some(check) = without_credential(site, client, limit).await {
        checks.extend(["server", "clock"].map(|id| Check::unknown(id, "not asked without a credential")));
        checks.push(check);
        checks.extend(
            ["rate-limit", "archive", "install"]
                .map(|id| Check::unknown(id, "not asked without a credential")),
        );
        checks.push(Box::pin(hosts::check(site, client, limit)).await);
        return checks;
    }
    let asked = Box::pin(timeout_at(limit.instant(), listed(site, client))).await;
    checks.extend(asked.unwrap_or_else(|_| vec![late("server")]));
    let (archive, plan, hosts) = tokio::join!(
        timeout_at(limit.instant(), archive(site)),
        timeout_at(limit.instant(), plan(site)),
        Box::pin(hosts::check(site, client, limit)),
    );
    checks.push(hosts::limit(client));
    checks.push(archive.unwrap_or_else(|_| late("archive")));
    checks.push(plan.unwrap_or_else(|_| late("install")));
    checks.push(hosts);
    checks
}

/// Why the credential cannot be had, if it is not only a file.
async fn without_credential(site: &Site<'_>, client: &Client, limit: Deadline) -> Option<Check> {
    let credential = site.request.credentials.api.as_ref()?;
    let late = match credential {
        Credential::Token(..) => return None,
        Credential::Command(_) => "the command that prints it did not end in time",
        Credential::App(_) => "the GitHub App had no token in time",
    };
    match timeout_at(limit.instant(), Box::pin(client.bearer(credential, limit))).await {
        Ok(Ok(_)) => None,
        // What the server or the network caused for an App is told by the call after it.
        Ok(Err(error)) if !limit.passed() => {
            let is_ours = matches!(credential, Credential::Command(_)) || error.is_of_credential();
            is_ours.then(|| Check::fails("credential", &error))
        }
        _ => Some(Check::unknown("credential", late)),
    }
}

/// The first call of an installation: it shows the server, its certificate, the clock and the credential.
async fn listed(site: &Site<'_>, client: &Client) -> Vec<Check> {
    let asked = archive::list(site, client).await;
    let answered = client.clock_skew().is_some();
    let server = match &asked {
        Err(error) if !answered => failed("server", error),
        _ => Check::fine("server", format!("{} answers", redact(&client.target().api))),
    };
    let clock = match (client.clock_skew(), site.check_clock()) {
        (None, _) => Check::unknown("clock", "the server did not tell the time"),
        (_, Err(error)) => Check::fails("clock", &error),
        (Some(skew), _) => Check::fine("clock", off(skew)),
    };
    let credential = match &asked {
        _ if !client.has_token() => without_token(site),
        Ok(_) => accepted(client),
        Err(error) if answered => failed("credential", error),
        Err(_) => Check::unknown("credential", "the server did not answer"),
    };
    vec![server, clock, credential]
}

/// What the answer told of the credential.
fn accepted(client: &Client) -> Check {
    let sent = client.accepted();
    let shown = sent.as_ref().map_or_else(|| "it".to_owned(), ToString::to_string);
    match sent.as_ref().and_then(|sent| sent.lacks(&client.target().scope)) {
        Some(scope) => Check::unknown(
            "credential",
            format!(
                "the server accepts {shown} for reading, but registering a runner takes the scope {scope}"
            ),
        ),
        None => Check::fine(
            "credential",
            format!(
                "the server accepts {shown} for reading; whether it may register a runner shows when it does"
            ),
        ),
    }
}

fn off(skew: SignedDuration) -> String {
    match skew.as_secs() {
        -1..=1 => "agrees with the server's".to_owned(),
        seconds => {
            format!("{} s {} the server's", seconds.abs(), if seconds > 0 { "ahead of" } else { "behind" })
        }
    }
}

fn without_token(site: &Site<'_>) -> Check {
    if site.request.credentials.registration.is_some() {
        return Check::unknown("credential", "whether a registration token is valid shows when it is used");
    }
    let purpose = "registering a runner";
    Check::fails("credential", &Error::from(RegistrationError::CredentialMissing { purpose }))
}

/// The archive, and whether its host can be reached: it is another one than the server's.
async fn archive(site: &Site<'_>) -> Check {
    let choice = match archive::choose(site, None).await {
        Ok(choice) => choice,
        Err(error) => return failed("archive", &error),
    };
    let Source::Http { url, bearer } = &choice.source else {
        return Check::fine("archive", format!("{} is here", choice.filename));
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    let range = Range { from: 0, if_range: None };
    match site.http.open(url, bearer.as_ref(), Some(range)).await {
        Ok(body) if matches!(body.status(), 200 | 206) => {
            Check::fine("archive", format!("{} can be downloaded from {host}", choice.filename))
        }
        Ok(body) => {
            let (url, status) = (redact(url), body.status());
            Check::fails("archive", &crate::transfer::Error::Status { url, status })
        }
        Err(error) => blocked(&host, &error),
    }
}

/// A host that is blocked while the server answers.
fn blocked(host: &str, error: &net::Error) -> Check {
    let mut check = Check::fails("archive", error);
    check.detail = format!("{host}, which has the archive, was not reached: {}", chain(error));
    check.fix =
        Some(format!("Allow connections from this machine to {host}, or pass --mirror or --archive."));
    check
}

/// Everything else that an installation would refuse before its first step: group, name, what is installed.
async fn plan(site: &Site<'_>) -> Check {
    if let Err(error) = registration::check_group(site).await {
        return failed("install", &error);
    }
    match adoption::plan(site).await {
        Err(error @ Error::Github(github::Error::Unauthorized(_))) => {
            Check::unknown("install", format!("the server refused the credential: {}", error.class()))
        }
        Err(error) => failed("install", &error),
        Ok((plan, _)) => {
            let steps: Vec<String> = plan
                .steps
                .iter()
                .filter(|one| one.change().is_some())
                .map(|one| one.step.to_string())
                .collect();
            Check::fine(
                "install",
                if steps.is_empty() {
                    "nothing to do".to_owned()
                } else {
                    format!("would take: {}", steps.join(", "))
                },
            )
        }
    }
}
