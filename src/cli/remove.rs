//! `runup remove`

use super::args::RemoveFlags;
use super::output::{Failed, Output};
use super::{Session, jobs, request};
use crate::lifecycle::{RemoveScope, Removed, Site, Why, remove};
use std::fmt::Write as _;

pub(super) async fn run(flags: Box<RemoveFlags>, mut session: Session) -> Result<Output, Failed> {
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    let request = request::remove(&flags, &session)?;
    let http = if flags.local { request::http_offline } else { request::http };
    let http = http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let reach = if flags.local { RemoveScope::Local } else { RemoveScope::Server };
    let removed = remove(&site, reach, flags.drain).await?;
    Ok(Output::new(text(&removed), &removed))
}

fn text(removed: &Removed) -> String {
    if !removed.changed {
        return format!("nothing to do: no runner in {}", removed.dir.display());
    }
    let mut text = format!("done: removed the runner in {}", removed.dir.display());
    if let Some(gone) = &removed.deregistered {
        let id = gone.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        let from = if gone.url.is_empty() { "its server" } else { &gone.url };
        let _ = write!(text, "; deregistered {}{id} from {from}", gone.name);
    }
    if let Some(left) = &removed.left_on_server {
        let id = left.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        if left.why == Why::OtherMachine {
            let _ = write!(
                text,
                "\nstill registered: {}{id} at {}; this disk is a copy, and the runner belongs to another machine",
                left.name, left.url
            );
            return text;
        }
        if left.why == Why::Claimed {
            let _ = write!(
                text,
                "\nstill registered, according to the runner's own files, which its jobs could write: {}{id} at {}\n\
                 delete it there only if you know that URL",
                left.name,
                if left.url.is_empty() { "an unknown URL" } else { &left.url }
            );
            return text;
        }
        let _ = write!(
            text,
            "\nstill registered: {}{id} at {}\nto delete it there, run: runup runners delete {} --url {}",
            left.name,
            left.url,
            left.id.map_or_else(|| left.name.clone(), |id| id.to_string()),
            left.url
        );
    }
    text
}
