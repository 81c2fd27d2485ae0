//! `runup logs`

use super::args::LogsFlags;
use super::fan_out::{self, Results};
use super::output::{Failed, Output};
use super::{Session, request, visible};
use crate::lifecycle::{LocalRunner, LocalRunners, LogLine, LogSource, Site, logs, refuse_elsewhere};
use crate::net::{Http, HttpOptions};
use crate::settings::Error;
use serde_json::json;
use std::io::Write as _;

pub(super) async fn run(flags: LogsFlags, session: Session) -> Result<Output, Failed> {
    if flags.follow && session.screen.is_json() {
        return Err(Error::Contradiction("--follow has no end, and --json is one document".into()).into());
    }
    let mut request = request::place(&flags.place, &session)?;
    let http = Http::new(HttpOptions::default())?;
    let stop = session.signals.stop();
    let site = Site::new(&request, http.clone(), stop.clone(), &session.screen)?;
    if request.dir_is_default {
        // The only one there is, wherever it is; or all instances.
        let mut runners = LocalRunners::find(&site)?;
        match runners.found.len() {
            2.. if runners.are_instances() => return several(&flags, &session, &http, runners.found).await,
            1 => request = runners.found.swap_remove(0).request,
            _ => refuse_elsewhere(&site, "logs")?,
        }
    }
    let site = Site::new(&request, http, stop.clone(), &session.screen)?;
    if flags.follow {
        follow(&site, "").await?;
        return Ok(Output::silent());
    }
    let lines = so_far(&site).await?;
    let shown: Vec<String> = lines.iter().map(text).collect();
    Ok(Output::new(shown.join("\n"), &json!({ "lines": lines })))
}

/// The logs of all instances, in the order of time; each line begins with the name of its directory.
async fn several(
    flags: &LogsFlags,
    session: &Session,
    http: &Http,
    runners: Vec<LocalRunner>,
) -> Result<Output, Failed> {
    let stop = session.signals.stop();
    let sites = runners
        .iter()
        .map(|runner| Site::new(&runner.request, http.clone(), stop.clone(), &session.screen))
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = runners.iter().map(|runner| fan_out::name(&runner.request.dir)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let prefixes: Vec<String> = names.iter().map(|name| format!("{name:<width$} ")).collect();
    let mut results = Results::default();
    if flags.follow {
        let all = sites.iter().zip(&prefixes).map(|(site, prefix)| follow(site, prefix));
        for (runner, ended) in runners.iter().zip(fan_out::together(all).await) {
            if ended.is_err() {
                results.add((runner.number(), &runner.request.dir), ended, |()| String::new(), "follow");
            }
        }
        return results.output();
    }
    let mut shown = Vec::new();
    for ((runner, site), prefix) in runners.iter().zip(&sites).zip(&prefixes) {
        let lines = so_far(site).await;
        shown.extend(lines.iter().flatten().map(|line| (line.at, format!("{prefix}{}", text(line)))));
        let lines = lines.map(|lines| json!({ "lines": lines }));
        results.add((runner.number(), &runner.request.dir), lines, |_| String::new(), "read the logs of");
    }
    shown.sort_by_key(|(at, _)| *at);
    let shown: Vec<String> = shown.into_iter().map(|(_, line)| line).collect();
    Ok(results.output()?.with_text(shown.join("\n")))
}

/// Prints what is there and what is added, until a signal ends it.
async fn follow(site: &Site<'_>, prefix: &str) -> Result<(), Failed> {
    let mut show = |line: &LogLine| {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{prefix}{}", text(line)).and_then(|()| stdout.flush()).is_ok()
    };
    Ok(logs(site, true, &mut show).await?)
}

/// The lines that are there.
async fn so_far(site: &Site<'_>) -> Result<Vec<LogLine>, Failed> {
    let mut lines = Vec::new();
    let mut keep = |line: &LogLine| {
        lines.push(LogLine { text: visible::marked(&line.text), ..line.clone() });
        true
    };
    logs(site, false, &mut keep).await?;
    Ok(lines)
}

/// One line, whatever it contains.
fn text(line: &LogLine) -> String {
    let at = line.at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    let source = match line.source {
        LogSource::Journal => "journal",
        LogSource::Listener => "listener",
        LogSource::Worker => "worker",
    };
    format!("{at:<20} {source:<8} | {}", visible::line(&visible::marked(&line.text)))
}
