//! `runup bake`

use super::args::BakeFlags;
use super::output::{Failed, Output};
use super::{Session, install, request};
use crate::install::{Site, bake};

pub(super) async fn run(flags: Box<BakeFlags>, session: Session) -> Result<Output, Failed> {
    let request = request::bake(&flags, &session)?;
    let http = request::http(&flags.server, &session.environment)?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let baked = bake(&site).await?;
    Ok(Output::new(install::text(&baked), &baked))
}
