//! `runup logs`

use super::args::LogsFlags;
use super::output::{Failed, Output};
use super::{Session, request, visible};
use crate::lifecycle::{LocalRunners, LogLine, LogSource, Site, logs, refuse_elsewhere};
use crate::settings::Error;
use std::io::Write as _;

pub(super) async fn run(flags: LogsFlags, session: Session) -> Result<Output, Failed> {
    if flags.follow && session.screen.is_json() {
        return Err(Error::Contradiction("--follow has no end, and --json is one document".into()).into());
    }
    let mut request = request::place(&flags.place, &session)?;
    let http = crate::net::Http::new(crate::net::HttpOptions::default())?;
    let stop = session.signals.stop();
    let site = Site::new(&request, http.clone(), stop.clone(), &session.screen)?;
    if request.dir_is_default {
        // The only one there is, wherever it is.
        let mut found = LocalRunners::find(&site)?.found;
        match found.len() {
            1 => request = found.swap_remove(0).request,
            _ => refuse_elsewhere(&site, "logs")?,
        }
    }
    let site = Site::new(&request, http, stop.clone(), &session.screen)?;
    if flags.follow {
        let mut stdout = std::io::stdout();
        let mut show =
            |line: &LogLine| writeln!(stdout, "{}", text(line)).and_then(|()| stdout.flush()).is_ok();
        logs(&site, true, &mut show).await?;
        return Ok(Output::silent());
    }
    let mut lines = Vec::new();
    let mut keep = |line: &LogLine| {
        lines.push(LogLine { text: visible::marked(&line.text), ..line.clone() });
        true
    };
    logs(&site, false, &mut keep).await?;
    let shown: Vec<String> = lines.iter().map(text).collect();
    Ok(Output::new(shown.join("\n"), &lines))
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
