//! `runup bake`

use super::args::BakeFlags;
use super::output::{Failed, Output};
use super::{Session, image, install, jobs, request};
use crate::error::Class;
use crate::lifecycle::{Site, bake, seal};

pub(super) async fn run(flags: Box<BakeFlags>, mut session: Session) -> Result<Output, Failed> {
    session.environment = jobs::reach(&session.environment, &flags.server, Some(&flags.place));
    if flags.check {
        return check(&flags, &session);
    }
    let request = image::bake(&flags, &session)?;
    let http = request::http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let baked = bake(&site).await?;
    Ok(Output::new(install::text(&baked), &baked))
}

fn check(flags: &BakeFlags, session: &Session) -> Result<Output, Failed> {
    let request = image::check(flags, session)?;
    let http = request::http_offline(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let seal = seal::inspect(&site)?;
    let output = Output::new(text(&seal), &seal);
    Ok(if seal.sealed { output } else { output.with_code(Class::Config) })
}

fn text(seal: &seal::Seal) -> String {
    let version = seal.version.as_deref().unwrap_or("of unknown version");
    let verdict = if seal.sealed { "sealed" } else { "not sealed" };
    let mut lines =
        vec![format!("{verdict}: runner {version} for {} in {}", seal.platform, seal.dir.display())];
    for finding in &seal.found {
        lines.push(format!("  {}\n    {}", finding.what, finding.fix));
    }
    lines.push("checked:".to_owned());
    lines.extend(seal.looked_at.iter().map(|place| format!("  {place}")));
    lines.extend(seal.last.map(|last| format!("remaining step: {last}")));
    lines.join("\n")
}
