//! `runup upgrade`

use super::args::UpgradeFlags;
use super::output::{Failed, Output};
use super::{Session, jobs, request};
use crate::lifecycle::{Site, Upgraded, Upgrading, upgrade};

pub(super) async fn run(flags: Box<UpgradeFlags>, mut session: Session) -> Result<Output, Failed> {
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    let mut request = request::status(&flags.server, &flags.place, &session)?;
    request.archive.mirror.clone_from(&flags.mirror);
    let http = request::http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let how = Upgrading { window: flags.window, daily: flags.daily };
    let upgraded = Box::pin(upgrade(&site, &how)).await?;
    Ok(Output::new(text(&upgraded), &upgraded))
}

fn text(upgraded: &Upgraded) -> String {
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "of unknown version".into());
    let dir = upgraded.dir.display();
    if let Some(reason) = &upgraded.reason {
        return format!("nothing to do in {dir}: {reason}");
    }
    let status = upgraded.status.as_ref().map(|status| format!(", {status}")).unwrap_or_default();
    format!(
        "done: upgraded the runner in {dir} to {}, from {}{status}",
        version(&upgraded.version),
        version(&upgraded.from)
    )
}
