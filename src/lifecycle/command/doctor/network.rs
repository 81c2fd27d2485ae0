//! What the network and the server must allow.

use crate::deadline::Deadline;
use crate::error::{Failure, chain};
use crate::github::{self, Client, Credential};
use crate::lifecycle::command::adoption;
use crate::lifecycle::command::doctor::{Check, Verdict, hosts, reached};
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state;
use crate::lifecycle::step::placing::archive;
use crate::lifecycle::step::registration;
use crate::net::{self, Range, redact};
use crate::transfer::Source;
use jiff::SignedDuration;
use tokio::time::timeout_at;

/// What is asked of the server.
const ALL: [&str; 7] = ["server", "clock", "credential", "rate-limit", "archive", "install", "job-hosts"];

const SILENT: &str = "the first call to the server failed";
const FOREIGN: &str = "something else answered in the server's place";
const WITHOUT: &str = "not asked without a credential";

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
        checks.extend(ALL.map(|id| Check::unknown(id, "the server was not reached")));
        return checks;
    }
    if let Some(check) = without_credential(site, client, limit).await {
        checks.extend(["server", "clock"].map(|id| Check::unknown(id, WITHOUT)));
        checks.push(check);
        checks.extend(["rate-limit", "archive", "install"].map(|id| Check::unknown(id, WITHOUT)));
        checks.push(Box::pin(hosts::check(site, client, limit)).await);
        return checks;
    }
    let Ok(asked) = Box::pin(timeout_at(limit.instant(), archive::list(site, client))).await else {
        checks.extend(ALL.map(late));
        return checks;
    };
    checks.extend(first_call(site, client, asked.as_ref().err()));
    let untold = asked.as_ref().err().and_then(|error| untold(site, client, error));
    let unlisted = asked.is_err().then_some("the server did not list the archives");
    let unlisted = untold.or(unlisted.filter(|_| client.has_token()));
    let (archive, plan, hosts) = tokio::join!(
        told("archive", unlisted.filter(|_| site.request.archive.archive.is_none()), limit, archive(site)),
        told("install", untold, limit, plan(site)),
        told(
            "job-hosts",
            untold.filter(|why| [SILENT, FOREIGN].contains(why)),
            limit,
            Box::pin(hosts::check(site, client, limit))
        ),
    );
    checks.push(match &asked {
        Err(error) if state::limit::asked(error).is_some() => Check::fails("rate-limit", error),
        _ => match untold.filter(|why| [SILENT, FOREIGN].contains(why)) {
            Some(why) => Check::unknown("rate-limit", why),
            None => hosts::limit(client),
        },
    });
    checks.extend([archive, plan, hosts]);
    checks
}

fn late(id: &'static str) -> Check {
    Check::unknown(id, "no answer in time")
}

/// The result of a check, unless something before it has failed.
async fn told(
    id: &'static str,
    untold: Option<&str>,
    limit: Deadline,
    check: impl Future<Output = Check>,
) -> Check {
    if let Some(why) = untold {
        return Check::unknown(id, why);
    }
    timeout_at(limit.instant(), check).await.unwrap_or_else(|_| late(id))
}

/// Why nothing else can be told after the first call has failed: it would fail in the same way.
fn untold(site: &Site<'_>, client: &Client, error: &Error) -> Option<&'static str> {
    match error {
        _ if state::limit::asked(error).is_some() => Some("the rate limit is used up"),
        Error::ClockOff { .. } => Some("the server was not asked with a clock that is off"),
        error if is_foreign(error) => Some(FOREIGN),
        Error::Github(
            github::Error::Unauthorized(_) | github::Error::Forbidden { .. } | github::Error::NotFound { .. },
        ) => Some("the server refused the first call"),
        Error::Registration(RegistrationError::CredentialMissing { .. }) => {
            site.request.credentials.registration.is_none().then_some(WITHOUT)
        }
        _ => client.clock_skew().is_none().then_some(SILENT),
    }
}

/// Whether it was not GitHub that answered: a captive portal, a proxy.
fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::Github(github::Error::NotJson { .. }))
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
fn first_call(site: &Site<'_>, client: &Client, error: Option<&Error>) -> [Check; 3] {
    let limited = error.is_some_and(|error| state::limit::asked(error).is_some());
    let foreign = error.is_some_and(is_foreign);
    let answered = (client.clock_skew().is_some() || limited) && !foreign;
    let server = match error {
        Some(Error::Registration(RegistrationError::CredentialMissing { .. })) => {
            Check::unknown("server", WITHOUT)
        }
        Some(error) if !answered => failed("server", error),
        _ => Check::fine("server", format!("{} answers", redact(&client.target().api))),
    };
    let clock = match (client.clock_skew().filter(|_| !foreign), site.check_clock()) {
        (None, _) => Check::unknown("clock", "the server did not tell the time"),
        (_, Err(error)) => Check::fails("clock", &error),
        (Some(skew), _) => Check::fine("clock", off(skew)),
    };
    let credential = match error {
        _ if !client.has_token() => without_token(site),
        // The clock is looked at once the list is there.
        None | Some(Error::ClockOff { .. }) => accepted(client),
        _ if limited => Check::unknown("credential", "the rate limit is used up"),
        Some(error) if answered => failed("credential", error),
        Some(_) => Check::unknown("credential", if foreign { FOREIGN } else { SILENT }),
    };
    [server, clock, credential]
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
