//! What is read from files and headers: no panic, and what was accepted means the same when it is read again.

use crate::machine::{dir, failure};
use http::{HeaderName, HeaderValue};
use runup::github::Target;
use runup::lifecycle::journal::Journal;
use runup::net::{Backoff, HeaderMap, Method, Outcome, Verdict, answered_at, redact, verdict};
use runup::runner::{JitIdentity, Labels, LocalState, NameTemplate, RunnerEnvironment, RunnerName, state};
use std::path::Path;
use std::time::Duration;

/// The status, and headers in lines: `Retry-After`, `X-RateLimit-*`, `Date`.
pub fn headers(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n');
    let status = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.parse().ok()).unwrap_or(429);
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    let now = answered_at(&headers);
    let outcome = Outcome::Answered { status, headers: &headers, body: b"", now };
    for method in [Method::GET, Method::PATCH] {
        let verdict = verdict(&method, &outcome);
        let mut backoff = Backoff::default();
        let (wait, asked) = backoff.obey(verdict);
        assert_eq!(asked, matches!(verdict, Verdict::RetryAfter(_)));
        // Longer waits are beyond every deadline.
        if wait < Duration::from_secs(1 << 40) {
            assert!(backoff.spread(wait) >= wait);
        }
    }
    headers.contains_key("retry-after")
}

pub fn good_headers() -> Vec<u8> {
    b"503\nretry-after: Fri, 15 Jan 2027 08:00:00 GMT\ndate: Fri, 15 Jan 2027 07:59:00 GMT".to_vec()
}

/// A journal: whatever is accepted is the same after it was written again.
pub fn journal(data: &[u8]) -> bool {
    let (state, runner) = (dir(), Path::new("/opt/actions-runner"));
    let path = Journal::path_for(state, runner);
    std::fs::write(&path, data).unwrap();
    let accepted = match Journal::open(state, runner) {
        Err(error) => {
            failure(&error);
            false
        }
        Ok(mut journal) => {
            assert!(journal.exists());
            let _ = (journal.registered(), journal.placed(), journal.unit(), journal.user(), journal.index());
            let _ = (journal.work(), journal.used(), journal.guard(), journal.adopts(), journal.machine());
            let entries = journal.entries().to_vec();
            journal.set_looked_at("2026-11-24T10:00:00Z".parse().unwrap()).unwrap();
            let again = Journal::open(state, runner).expect("what runup wrote");
            let mut sorted = entries.clone();
            sorted.sort_by_key(|entry| entry.act.step());
            assert!(again.entries() == entries || again.entries() == sorted);
            assert!(
                again.user() == journal.user()
                    && again.work() == journal.work()
                    && again.dir() == journal.dir()
            );
            assert!(again.looked_at().is_some());
            true
        }
    };
    std::fs::remove_file(path).unwrap();
    accepted
}

pub fn good_journal() -> Vec<u8> {
    include_bytes!("../../fixtures/journals/03-asked.json").to_vec()
}

/// The URL of a scope, that of its API, a name, a template, labels: one a line.
pub fn url(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut lines = text.split('\n');
    let (url, api) = (lines.next().unwrap_or_default(), lines.next().filter(|line| !line.is_empty()));
    names(lines);
    keeps_password(url);
    match Target::parse(url, api, false) {
        Err(error) => {
            failure(&error);
            false
        }
        Ok(target) => {
            for part in [&target.url, &target.api] {
                assert!(part.username().is_empty() && part.password().is_none(), "{part}");
                assert!(
                    part.query().is_none() && part.fragment().is_none() && part.host_str().is_some(),
                    "{part}"
                );
            }
            let again = Target::parse(target.url.as_str(), Some(target.api.as_str()), false);
            assert_eq!(again.ok().as_ref(), Some(&target), "it is not what it says");
            assert!(target.is_same_as(target.url.as_str()));
            let call = target.call("/actions/runners");
            assert_eq!(call.origin(), target.api.origin());
            assert!(call.path().ends_with("/actions/runners") && !redact(&call).is_empty());
            true
        }
    }
}

fn names<'a>(mut lines: impl Iterator<Item = &'a str>) {
    if let Ok(name) = lines.next().unwrap_or_default().parse::<RunnerName>() {
        assert_eq!(name.to_string().parse::<RunnerName>().ok(), Some(name), "it is not what it says");
    }
    let _ = lines.next().unwrap_or_default().parse::<NameTemplate>();
    let _ = lines.next().unwrap_or_default().parse::<Labels>();
}

/// A password in a URL is in no message.
fn keeps_password(url: &str) {
    const PASSWORD: &str = "hunter2hunter2";
    if url.contains("hunter") {
        return;
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    for scheme in ["https", "ssh"] {
        if let Err(error) = Target::parse(&format!("{scheme}://octo:{PASSWORD}@{rest}"), None, false) {
            let text = format!("{} {:?}", runup::error::chain(&error), runup::error::Failure::hint(&error));
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
}

pub fn good_url() -> Vec<u8> {
    b"https://github.example.com/octo-org/hello\nhttps://github.example.com/api/v3\nbox-1\n{hostname}\ngpu,large".to_vec()
}

/// A configuration file.
pub fn config(data: &[u8]) -> bool {
    let path = dir().join("config.toml");
    std::fs::write(&path, data).unwrap();
    let result = runup::cli::fuzzing::install_with(&path);
    std::fs::remove_file(&path).unwrap();
    match result {
        Ok(given) => {
            assert!(given > 0);
            true
        }
        Err((code, text)) => {
            assert!(matches!(code, 64 | 65 | 74 | 78), "{code}: {text}");
            false
        }
    }
}

pub fn good_config() -> Vec<u8> {
    b"url = \"https://github.com/octo-org\"\nlabels = [\"gpu\"]\nephemeral = true\ndeadline = \"10m\"\n"
        .to_vec()
}

/// The files of a runner, which a job may have written, and a just-in-time configuration.
pub fn runner(data: &[u8]) -> bool {
    for file in [".runner", ".service"] {
        std::fs::write(dir().join(file), data).unwrap();
    }
    let read = state::read(dir()).unwrap();
    if let Some(unit) = state::service(dir()).unwrap() {
        assert!(unit == "(unnamed)" || unit.ends_with(".service") && !unit.contains('/'), "{unit:?}");
    }
    for file in [".runner", ".service"] {
        std::fs::remove_file(dir().join(file)).unwrap();
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Err(error) = JitIdentity::parse(text) {
            failure(&error);
        }
        if let Some(environment) = RunnerEnvironment::parse(text) {
            assert_eq!(
                RunnerEnvironment::parse(&environment.render()),
                Some(environment.clone()),
                "it is not what it says"
            );
            let _ = environment.dot_env(Some(text), &environment);
        }
    }
    match read {
        LocalState::Configured(runner) => {
            assert!(runner.agent_id > 0 && !runner.agent_name.contains(char::is_control));
            true
        }
        LocalState::Corrupt { .. } => false,
        other => panic!("{other:?}"),
    }
}

pub fn good_runner() -> Vec<u8> {
    "\u{feff}{\"agentId\": 23, \"agentName\": \"box\", \"gitHubUrl\": \"https://github.com/octo-org\", \"ephemeral\": \"True\"}"
        .into()
}
