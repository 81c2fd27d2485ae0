//! `runup install`

use super::args::InstallFlags;
use super::output::{Failed, Output};
use super::{Session, in_cloud, jobs, request, service};
use crate::lifecycle::{Installed, Site, install, wait_for_limit};
use crate::settings::flags::ServiceKind;

pub(super) async fn run(flags: Box<InstallFlags>, mut session: Session) -> Result<Output, Failed> {
    session.environment =
        jobs::reach(&session.environment, &flags.converge.server, Some(&flags.converge.place));
    request::check_deadline(&flags.converge.server)?;
    let mut request = request::install(&flags.converge, &session)?;
    request.deps = flags.libraries.deps;
    request.service = service::wanted(&flags, &session)?;
    request.no_service = flags.service.service == ServiceKind::None;
    service::adopt(&mut request, &flags, &session)?;
    let http = request::http(&flags.converge.server, &session.environment)?;
    let stop = session.signals.stop();
    session.spread_start(flags.converge.start_spread).await?;
    in_cloud::locate(&mut request, &flags.converge, &session).await?;
    loop {
        let site = Site::new(&request, http.clone(), stop.clone(), &session.screen)?;
        match install(&site).await {
            Ok(installed) => return Ok(Output::new(text(&installed), &installed)),
            Err(error) if flags.converge.wait_for_limit && wait_for_limit(&error, stop, None).await => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One line: the state now, and whether it changed.
pub(super) fn text(installed: &Installed) -> String {
    let version = installed.version.as_deref().unwrap_or("of unknown version");
    let place = format!("runner {version} in {}", installed.dir.display());
    let verb = if installed.changed { "done" } else { "nothing to do" };
    match &installed.runner {
        Some(runner) => {
            let id = runner.id.map(|id| format!(" (id {id})")).unwrap_or_default();
            format!("{verb}: {} is registered with {}{id}; {place}", runner.name, runner.url)
        }
        None => format!("{verb}: {place}, sealed"),
    }
}
