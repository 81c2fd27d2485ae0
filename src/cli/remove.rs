//! `runup remove`

use super::args::RemoveFlags;
use super::output::{Failed, Output};
use super::{Session, request};
use crate::install::{Reach, Removed, Site, remove};
use std::fmt::Write as _;

pub(super) async fn run(flags: Box<RemoveFlags>, session: Session) -> Result<Output, Failed> {
    let request = request::remove(&flags, &session)?;
    let http = request::http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let reach = if flags.local { Reach::Local } else { Reach::Server };
    let removed = remove(&site, reach, flags.drain).await?;
    Ok(Output::new(text(&removed), &removed))
}

fn text(removed: &Removed) -> String {
    if !removed.changed {
        return format!("nothing to do: there is no runner in {}", removed.dir.display());
    }
    let mut text = format!("done: the runner in {} is gone", removed.dir.display());
    if let Some(left) = &removed.left_on_server {
        let id = left.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        let _ = write!(
            text,
            "\nstill on the server: {}{id} at {}\nto delete it there: runup runners delete {} --url {}",
            left.name,
            left.url,
            left.id.map_or_else(|| left.name.clone(), |id| id.to_string()),
            left.url
        );
    }
    text
}
