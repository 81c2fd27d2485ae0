//! `runup plan`

use super::args::InstallFlags;
use super::output::{Failed, Output};
use super::{Session, in_cloud, jobs, request, service, visible};
use crate::deadline::Deadline;
use crate::host::Account;
use crate::lifecycle::{Plan, Site, libraries_command, plan};
use crate::runner::config_sh;
use crate::secret::{self, Secret};
use crate::settings::flags::ServiceKind;
use serde_json::json;

pub(super) async fn run(flags: Box<InstallFlags>, mut session: Session) -> Result<Output, Failed> {
    session.environment =
        jobs::reach(&session.environment, &flags.converge.server, Some(&flags.converge.place));
    request::check_deadline(&flags.converge.server)?;
    let mut request = request::install(&flags.converge, &session)?;
    request.deps = flags.libraries.deps;
    request.service = service::wanted(&flags, &session)?;
    request.no_service = flags.service.service == ServiceKind::None;
    service::adopt(&mut request, &flags, &session)?;
    in_cloud::locate(&mut request, &flags.converge, &session).await?;
    let http = request::http(&flags.converge.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let (plan, seen) = plan(&site).await?;
    let libraries = libraries_command(&site).await?;

    let mut lines = Vec::new();
    for planned in &plan.steps {
        let mark = if planned.change().is_none() { "keep" } else { "do" };
        lines.push(format!("{mark:<5} {:<17} {}", planned.step.to_string(), planned.detail));
    }
    if let Some(command) = &libraries {
        lines.push(format!("\nbefore that, this installs the missing libraries:\n  {command}"));
    }
    let command = command(&site, &plan, &seen).map(|command| secret::mask(&command).into_owned());
    if let Some(command) = &command {
        lines.push(format!("\nthis runs config.sh:\n  {command}"));
    }
    lines.push("\nsettings, and where they were set:".to_owned());
    let width = session.given.iter().map(|given| given.key.len()).max().unwrap_or(0);
    for given in &session.given {
        let value = secret::mask(&given.value);
        lines.push(format!("  {:<width$}  {}  ({})", given.key, visible::line(&value), given.origin));
    }
    let settings: Vec<_> = session
        .given
        .iter()
        .map(|given| json!({"key": given.key, "value": secret::mask(&given.value), "origin": given.origin.to_string()}))
        .collect();
    let document =
        json!({"steps": plan.steps, "deps": libraries, "config_sh": command, "settings": settings});
    Ok(Output::new(lines.join("\n"), &document))
}

/// The command line of `config.sh` that `install` would run, with the secret marked.
fn command(site: &Site<'_>, plan: &Plan, seen: &crate::lifecycle::Seen) -> Option<String> {
    let request = &site.request;
    let options = plan.options()?;
    let (Some(target), Some(name)) = (&request.target, &seen.name) else { return None };
    let account = seen.account.clone().unwrap_or_else(|| {
        // The user that the first step would create.
        let name = site.user.clone().unwrap_or_default();
        Account { home: format!("/home/{name}").into(), name, uid: u32::MAX, gid: u32::MAX }
    });
    let token = Secret::new("TOKEN").expect("a word is a token");
    let deadline = Deadline::after(config_sh::TIMEOUT);
    let url = target.url.as_str().trim_end_matches('/');
    let setting = site.config_setting(account);
    Some(config_sh::configure(&setting, url, &name.name, &options, &token, deadline).render())
}
