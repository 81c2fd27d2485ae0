//! `runup plan`

use super::args::InstallFlags;
use super::install::{self, One};
use super::output::{Failed, Output};
use super::{Session, visible};
use crate::deadline::Deadline;
use crate::host::Account;
use crate::lifecycle::{Plan, Site, libraries_command, plan};
use crate::runner::config_sh;
use crate::secret::{self, Secret};
use serde_json::{Value, json};

pub(super) async fn run(flags: Box<InstallFlags>, session: Session) -> Result<Output, Failed> {
    let mut found = session.instances()?;
    found.check_alone()?;
    if flags.count.count.is_none() && !found.is_numbered() {
        let (text, document) = one(&One::of(&flags, session, None).await?).await?;
        return Ok(Output::new(text, &document));
    }
    let (wanted, surplus) = found.wanted(flags.count.count)?;
    let ones = One::each(&wanted, &session).await?;
    found.check(&install::wanted(&ones)?)?;
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    for (number, planned) in wanted.iter().zip(&ones) {
        let dir = &planned.request.dir;
        let (text, mut document) = one(planned).await?;
        lines.push(format!("instance {number}, in {}:\n{text}\n", dir.display()));
        document["instance"] = (*number).into();
        document["dir"] = dir.display().to_string().into();
        documents.push(document);
    }
    for number in surplus {
        let dir = found.dir(number)?;
        lines.push(format!("instance {number}, in {}, is removed in its first idle moment", dir.display()));
        documents.push(json!({ "instance": number, "dir": dir, "steps": [], "removed": true }));
    }
    let unreadable = found.unreadable().map(Failed::from).collect();
    Ok(Output::new(lines.join("\n").trim_end(), &json!({ "instances": documents })).with_failures(unreadable))
}

/// What would be done for one runner.
async fn one(one: &One) -> Result<(String, Value), Failed> {
    let session = &one.session;
    let site = Site::new(&one.request, one.http.clone(), session.signals.stop().clone(), &session.screen)?;
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
    Ok((lines.join("\n"), document))
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
