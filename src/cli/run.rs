//! `runup run` and `runup drain`

use super::args::{DrainFlags, RunFlags};
use super::output::{Failed, Output};
use super::{Session, request};
use crate::deadline::Deadline;
use crate::install::{Because, Ran, Running, Site, drain, notice, run as see_to_it};
use crate::settings::flags;
use std::time::Duration;

/// What taking the runner off the server may take of a shutdown, when the network may be going down as well.
const LEAVING: Duration = Duration::from_secs(60);

pub(super) async fn run(flags: Box<RunFlags>, session: Session) -> Result<Output, Failed> {
    let request = request::run(&flags, &session)?;
    let http = request::http(&flags.converge.server, &session.environment)?;
    let ephemeral = request.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral);
    let notices =
        notice::Notices::of(&flags.cloud.providers(&request.root), flags.cloud.metadata_url.as_ref());
    let running = Running {
        drain: flags.run.drain,
        remove_on_shutdown: flags.run.remove_on_shutdown.unwrap_or(ephemeral),
        leaving: LEAVING,
        after_job: match flags.run.after_job {
            flags::AfterJob::Stop => crate::install::AfterJob::Stop,
            flags::AfterJob::Again => crate::install::AfterJob::Again,
            flags::AfterJob::Poweroff => crate::install::AfterJob::PowerOff,
        },
        jit: flags.run.jit,
        insist: session.signals.again().clone(),
        notices: if notices.is_empty() { None } else { Some((notice::client()?, notices)) },
    };
    // The entry point of a container is process 1 there.
    #[cfg(target_os = "linux")]
    tokio::spawn(crate::host::orphans::adopt());
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    let ran = see_to_it(&site, &running).await?;
    Ok(Output::new(text(&ran), &ran))
}

/// `runup drain`: waits until no job of this runner runs here.
pub(super) async fn wait(flags: DrainFlags, session: Session) -> Result<Output, Failed> {
    let dir = request::dir(&flags.place, &session)?;
    drain(&dir, Deadline::after(flags.deadline), session.signals.stop()).await?;
    let result = serde_json::json!({ "dir": dir, "idle": true });
    Ok(Output::new(format!("done: no job runs in {}", dir.display()), &result))
}

fn text(ran: &Ran) -> String {
    let jobs = match ran.jobs {
        1 => "1 job".to_owned(),
        jobs => format!("{jobs} jobs"),
    };
    let because = match ran.because {
        Because::Told => "stopped as told",
        Because::JobDone => "the job is done",
        Because::ListenerDone => "the listener ended by itself",
    };
    let gone = if ran.deregistered { "; the runner is off the server" } else { "" };
    format!("done: {because} after {jobs}{gone}")
}
