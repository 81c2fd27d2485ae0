//! What jobs need, besides what an installation does.

use crate::deadline::Deadline;
use crate::error::chain;
use crate::github::Client;
use crate::host::{self, account};
use crate::lifecycle::command::doctor::Check;
use crate::lifecycle::context::site::Site;
use crate::net::{self, Url};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

const ID: &str = "job-hosts";

/// Of one answer.
const ANSWERING: Duration = Duration::from_secs(2);

/// How many hosts are asked, and how many a message names.
const MOST: usize = 64;
const FEW: usize = 5;

const SOCKETS: [(&str, &str); 2] =
    [("docker", "/var/run/docker.sock"), ("podman", "/run/podman/podman.sock")];

/// The hosts that the server says jobs need, each asked as the runner would, through the proxy if there is one.
pub(super) async fn hosts(site: &Site<'_>, client: &Client, limit: Deadline) -> Check {
    let hosts = match timeout_at(limit.instant(), client.job_hosts()).await {
        Ok(Ok(hosts)) => hosts,
        Ok(Err(error)) => {
            return Check::unknown(
                ID,
                format!("the server did not name the hosts that jobs need: {}", chain(&error)),
            );
        }
        Err(_) => return Check::unknown(ID, "the server did not name the hosts that jobs need in time"),
    };
    if hosts.named.is_empty() && hosts.patterns.is_empty() {
        return Check::fine(ID, "jobs need no host besides the server");
    }
    let scheme = client.target().api.scheme();
    let mut asked = JoinSet::new();
    let mut count = 0;
    for name in hosts.named.iter().take(MOST) {
        let Some(url) = url_of(scheme, name) else { continue };
        count += 1;
        let http = site.http.clone();
        asked.spawn(async move {
            let host = url.authority().to_owned();
            match timeout(ANSWERING, http.open(&url, None, None)).await {
                // Whatever it answers, it answers.
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err((host, Some(error))),
                Err(_) => Err((host, None)),
            }
        });
    }
    let Ok(mut blocked) = timeout_at(limit.instant(), collect(asked)).await else {
        return Check::unknown(ID, format!("not all of {count} hosts answered in time"));
    };
    blocked.sort_by(|one, other| one.0.cmp(&other.0));
    let rest = match hosts.patterns.len() {
        0 => String::new(),
        _ => format!("; {} could not be tried", few(hosts.patterns.iter().map(String::as_str))),
    };
    if blocked.is_empty() {
        return Check::fine(ID, format!("{count} of {count} hosts that jobs need answer{rest}"));
    }
    let names = few(blocked.iter().map(|(host, _)| host.as_str()));
    let why = blocked.iter().find_map(|(_, error)| error.as_ref()).map(|error| chain(error));
    let why = why.unwrap_or_else(|| format!("no answer within {} s", ANSWERING.as_secs()));
    let detail =
        format!("{} of {count} hosts that jobs need did not answer: {names} ({why}){rest}", blocked.len());
    let fix = "Allow connections from this machine to them. A runner works without some of them, but its jobs may fail.";
    Check { fix: Some(fix.to_owned()), ..Check::unknown(ID, detail) }
}

/// Of a name, or of a name and a port.
fn url_of(scheme: &str, name: &str) -> Option<Url> {
    let name = name.strip_suffix(":443").unwrap_or(name);
    let url = Url::parse(&format!("{scheme}://{name}/")).ok()?;
    (url.authority() == name.to_ascii_lowercase() && url.username().is_empty()).then_some(url)
}

async fn collect(
    mut asked: JoinSet<Result<(), (String, Option<net::Error>)>>,
) -> Vec<(String, Option<net::Error>)> {
    let mut blocked = Vec::new();
    while let Some(one) = asked.join_next().await {
        blocked.extend(one.ok().and_then(Result::err));
    }
    blocked
}

/// The calls that are left in this hour, by the answers so far.
pub(super) fn limit(client: &Client) -> Check {
    const ID: &str = "rate-limit";
    // An installation makes up to six; some room for the other machines that use the credential.
    const ENOUGH: u64 = 100;
    match client.calls_left() {
        None => Check::unknown(ID, "the server did not say how many calls are left"),
        Some(calls) if calls.left < ENOUGH => {
            let detail = format!("{} of {} calls are left in this hour", calls.left, calls.limit);
            let fix = "Wait, or use a credential of its own for these machines: an installation makes up to six calls.";
            Check { fix: Some(fix.to_owned()), ..Check::unknown(ID, detail) }
        }
        Some(calls) => {
            Check::fine(ID, format!("{} of {} calls are left in this hour", calls.left, calls.limit))
        }
    }
}

/// What runs the containers of jobs, and what that means for the machine.
pub(super) fn engine(site: &Site<'_>) -> Check {
    const ID: &str = "engine";
    let root = &site.request.root;
    let Some((name, socket)) = SOCKETS.iter().find(|(name, _)| host::has_program(root, name)) else {
        return Check::unknown(ID, "no container engine: jobs with containers, and container actions, fail");
    };
    if !root.is_host() {
        return Check::fine(ID, format!("{name} is installed"));
    }
    let user = site.user.clone().unwrap_or_default();
    let Ok(Some(account)) = site.account() else {
        return Check::unknown(
            ID,
            format!("{name} is installed; whether jobs may use it shows once {user} exists"),
        );
    };
    if !Path::new(socket).exists() {
        return Check::unknown(
            ID,
            format!("{name} is installed, but {socket} does not exist: it does not run as root"),
        );
    }
    let mut text = format!("{name} runs");
    let ways = account::ways_to_root(root, &account, &[]);
    if ways.iter().any(|way| way.contains(name)) {
        let _ = write!(text, "; jobs of {} can use it, and become root with it", account.name);
    } else {
        let _ = write!(
            text,
            "; jobs of {} cannot use it: --groups {name} would let them, and make them root",
            account.name
        );
    }
    Check::fine(ID, text)
}

/// Whether the clock is kept right: tokens and certificates are refused once it is some minutes off.
pub(super) async fn time_sync(site: &Site<'_>) -> Check {
    const ID: &str = "time-sync";
    if !site.request.root.is_host() || !host::systemd::is_running() {
        return Check::unknown(ID, "only systemd can be asked whether the clock is synchronized");
    }
    match timeout(ANSWERING, host::systemd::clock_is_synchronized(&site.stop)).await {
        Ok(Some(true)) => Check::fine(ID, "the clock is synchronized"),
        Ok(Some(false)) => Check {
            fix: Some("Run: timedatectl set-ntp true; or install chrony.".to_owned()),
            ..Check::unknown(ID, "the clock is not synchronized, and will be refused once it is minutes off")
        },
        _ => Check::unknown(ID, "systemd did not say whether the clock is synchronized"),
    }
}

/// Each verified copy that runners on this machine are made from, read whole.
pub(super) async fn store(site: &Site<'_>, limit: Deadline) -> Option<Check> {
    const ID: &str = "store";
    let looking = crate::lifecycle::step::placing::stored::inspect_beside(site);
    Some(match timeout_at(limit.instant(), looking).await {
        Err(_) => Check::unknown(ID, "the copies of the runner could not be read in time"),
        Ok(Err(error)) => Check::fails(ID, &error),
        Ok(Ok((stores, _))) if stores.is_empty() => return None,
        Ok(Ok((stores, found))) if found.is_empty() => {
            Check::fine(ID, format!("the verified copies in {} are whole", stores[0].display()))
        }
        Ok(Ok((_, found))) => {
            // It keeps nothing from working.
            let what: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
            let fix = found.first().map(|finding| format!("{}.", capital(&finding.fix)));
            Check { fix, ..Check::unknown(ID, what.join("; ")) }
        }
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn few<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(FEW);
    let mut shown: Vec<String> = names.take(FEW).map(str::to_owned).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}
