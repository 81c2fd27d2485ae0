//! What the name and the labels of a runner take from the machine's cloud.

use super::args::ConvergeFlags;
use super::{Failed, Session};
use crate::cloud::{self, Identity};
use crate::deadline::Deadline;
use crate::lifecycle::Request;
use crate::runner::{Label, Labels};

/// Asks the cloud's metadata service if `request` needs what only it knows, unless that is `known`, and adds the labels
/// from there.
pub(super) async fn locate(
    request: &mut Request,
    flags: &ConvergeFlags,
    session: &Session,
    known: Option<Identity>,
) -> Result<(), Failed> {
    let Some(registration) = &request.registration else { return Ok(()) };
    let labels = flags.runner.label_from.map(|_| "--label-from cloud".to_owned());
    let Some(needed) = registration.name.needs_cloud().or(labels) else { return Ok(()) };
    let identity = match known {
        Some(known) => known,
        None => ask(&needed, request, flags, session).await?,
    };
    if flags.runner.label_from.is_some()
        && let Some(registration) = &mut request.registration
    {
        let labels = registration.options.labels.get_or_insert_with(Labels::default);
        for label in identity.labels() {
            labels.add(label.parse::<Label>()?);
        }
    }
    request.cloud = Some(identity);
    Ok(())
}

async fn ask(
    needed: &str,
    request: &Request,
    flags: &ConvergeFlags,
    session: &Session,
) -> Result<Identity, Failed> {
    let providers = flags.cloud.providers(&request.root);
    let http = cloud::client()?;
    let deadline = Deadline::after(request.deadline).for_work();
    let base = flags.cloud.metadata_url.as_ref();
    let identity = cloud::identity(&http, &providers, base, needed, deadline);
    Ok(session.or_stop(identity).await??)
}
