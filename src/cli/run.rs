//! `runup run`

use super::args::RunFlags;
use super::credential::{api_only, or_systemd};
use super::output::{Failed, Output};
use super::{Session, in_cloud, instances, jobs, request};
use crate::host::account;
use crate::lifecycle::{
    CredentialSource, ExitReason, KeepCopy, Request, RunResult, RunnerSource, Running, Site, Surroundings,
    facts, run as supervise,
};
use crate::net::Http;
use crate::runner::{JitIdentity, state};
use crate::settings::app::NamedKey;
use crate::settings::{Credentials, Error, Origin, credential, flags};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The time limit for deregistering during a shutdown, when the network may be going down as well.
const LEAVING: Duration = Duration::from_secs(60);

pub(super) async fn run(mut flags: Box<RunFlags>, mut session: Session) -> Result<Output, Failed> {
    let as_recorded = flags.run.as_recorded.clone();
    jobs::without_those_of_the_file(&mut flags.converge, &as_recorded, &session.given);
    instances::adapt(&mut flags.converge, &session)?;
    session.environment =
        jobs::reach(&session.environment, &flags.converge.server, Some(&flags.converge.place));
    request::lengthen_deadline(&mut flags.converge.server);
    let (mut request, source) = requested(&flags, &session)?;
    session.spread_start(flags.converge.start_spread).await?;
    if !matches!(source, RunnerSource::JitConfig(_)) {
        in_cloud::locate(&mut request, &flags.converge, &session, None).await?;
    }
    // The credentials have been read from it.
    session.environment.wipe_credentials();
    let credential = credential_source(&flags, &session)?;
    let http = request::http(&flags.converge.server, &session.environment)?;
    let ephemeral = request.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral);
    let cloud = &flags.converge.cloud;
    let notices = crate::cloud::Notices::of(&cloud.providers(&request.root), cloud.metadata_url.as_ref());
    let running = Running {
        drain: flags.run.drain,
        patient: flags.converge.wait_for_limit,
        remove_on_shutdown: flags.run.remove_on_shutdown.unwrap_or(ephemeral)
            && !matches!(source, RunnerSource::JitConfig(_))
            && has_means(&request),
        leaving: LEAVING,
        after_job: match flags.run.after_job {
            flags::AfterJob::Stop => crate::lifecycle::AfterJob::Stop,
            flags::AfterJob::Again => crate::lifecycle::AfterJob::Again,
            flags::AfterJob::Poweroff => crate::lifecycle::AfterJob::PowerOff,
        },
        source,
        credential,
        insist: session.signals.again().clone(),
        notices: if notices.is_empty() { None } else { Some((crate::cloud::client()?, notices)) },
    };
    // In a container, this can be process 1.
    #[cfg(target_os = "linux")]
    tokio::spawn(crate::host::orphans::adopt());
    let stop = session.signals.stop().clone();
    watch(&request, &http, &session)?;
    let surroundings = Surroundings { http, stop, watch: &session.screen };
    let result = Box::pin(supervise(request, &running, &surroundings)).await?;
    Ok(Output::new(text(&result), &result))
}

/// Lets the metrics look at the runner whenever something happens to it.
fn watch(request: &Request, http: &Http, session: &Session) -> Result<(), Failed> {
    let Some(metrics) = &session.metrics else { return Ok(()) };
    // It must not keep a credential that is wiped before a job of the same user can read it.
    let request =
        Request { credentials: Credentials::default(), target: None, shared: None, ..request.clone() };
    let (http, stop, screen) = (http.clone(), session.signals.stop().clone(), session.screen.clone());
    let look = {
        let (request, http, stop, screen) = (request.clone(), http.clone(), stop.clone(), screen.clone());
        move || facts(&Site::new(&request, http.clone(), stop.clone(), &screen).ok()?).ok()
    };
    metrics.supervise(&Site::new(&request, http, stop, &screen)?, Arc::new(look));
    Ok(())
}

/// The request of `run`, and where its runner comes from.
fn requested(flags: &RunFlags, session: &Session) -> Result<(Request, RunnerSource), Failed> {
    let run = &flags.run;
    // Errors of the command line come before those of files.
    let target = request::target(&flags.converge.server)?;
    let source = match (run.jit, run.jit_config_file.as_deref()) {
        (true, Some(_)) => {
            return Err(
                Error::Contradiction("--jit and --jit-config-file cannot be used together".into()).into()
            );
        }
        (true, None) => RunnerSource::Jit,
        (false, file) => match credential::jit_config(file, &session.environment)? {
            Some(text) => RunnerSource::JitConfig(Box::new(JitIdentity::parse(&text)?)),
            None => RunnerSource::ConfigSh,
        },
    };
    let mut request = if let RunnerSource::JitConfig(identity) = &source {
        refuse_beside_jit_config(flags, session)?;
        let mut request = request::converge(&flags.converge, target, session)?;
        if let Some(registration) = &mut request.registration {
            let work = identity.runner().work_folder.as_deref();
            registration.options.work = request::plain_word("the work directory of --jit-config-file", work)?
                .unwrap_or_else(|| state::WORK_DIR.to_owned());
        }
        request
    } else {
        request::install(&flags.converge, session)?
    };
    // `run` gets its credential at each start. A tree that takes one configuration after the other is protected from jobs
    // as well.
    request.supervised = true;
    if run.after_job == flags::AfterJob::Again {
        request.archive.keep_copy = KeepCopy::Always;
    }
    request.credential_lasts =
        request.credentials.api.is_some() || matches!(source, RunnerSource::JitConfig(_));
    if let Some(registration) = &mut request.registration {
        // Just-in-time runners always take a single job.
        registration.options.ephemeral |= !matches!(source, RunnerSource::ConfigSh);
        if !registration.options.ephemeral && run.after_job != flags::AfterJob::Stop {
            return Err(not_cleaned("--ephemeral or --jit").into());
        }
    }
    if run.after_job == flags::AfterJob::Poweroff
        && (flags.converge.place.root.is_some() || !account::is_root())
    {
        let message = "--after-job poweroff needs root, and cannot be used with --root";
        return Err(Error::Contradiction(message.into()).into());
    }
    let handed = matches!(source, RunnerSource::JitConfig(_));
    let credentials = &request.credentials;
    if run.remove_on_shutdown == Some(true)
        && !handed
        && credentials.api.is_none()
        && credentials.remove.is_none()
    {
        let message = "--remove-on-shutdown needs a credential for the REST API (--token-file, --token-command, --app-id or RUNUP_TOKEN)";
        return Err(Error::Contradiction(message.into()).into());
    }
    Ok((request, source))
}

/// What is asked for applies to the `one_job` of a runner only.
pub(super) fn not_cleaned(one_job: &str) -> Error {
    Error::Contradiction(format!(
        "--after-job needs {one_job}, because a persistent runner is not cleaned between two jobs: pass --ephemeral \
         --after-job again for that"
    ))
}

/// Refuses options that a just-in-time configuration already sets, and the deletion of the runner, which belongs to its
/// creator.
fn refuse_beside_jit_config(flags: &RunFlags, session: &Session) -> Result<(), Error> {
    const SET_BY_IT: [&str; 9] = [
        "name",
        "labels",
        "label-from",
        "no-default-labels",
        "group",
        "work",
        "replace",
        "disable-update",
        "registration-token-file",
    ];
    let given = session.given.iter().filter(|given| given.origin == Origin::Flag);
    let mut excluded: Vec<String> = given
        .filter(|given| SET_BY_IT.contains(&given.key.as_str()))
        .map(|given| format!("--{}", given.key))
        .collect();
    if flags.run.after_job == flags::AfterJob::Again {
        excluded.push("--after-job again".to_owned());
    }
    if flags.run.remove_on_shutdown == Some(true) {
        excluded.push("--remove-on-shutdown".to_owned());
    }
    if excluded.is_empty() {
        return Ok(());
    }
    let message = format!(
        "a just-in-time configuration cannot be used with {}: it already defines the runner, for a single job",
        excluded.join(", ")
    );
    Err(Error::Contradiction(message))
}

/// Whether there is a credential to deregister the runner with.
fn has_means(request: &Request) -> bool {
    request.credentials.api.is_some() || request.credentials.remove.is_some()
}

/// Where to read the credential again, if it stays there. The one in the environment was wiped.
fn credential_source(flags: &RunFlags, session: &Session) -> Result<CredentialSource, Error> {
    let environment = session.environment.clone();
    let named = or_systemd(api_only(&flags.converge.server, session)?, session);
    let is_file = |file: &&str| std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file());
    let file = named.api.filter(is_file).map(str::to_owned);
    let command = named.command.map(str::to_owned);
    let app = named.app.clone();
    let registration = flags.converge.runner.registration_token_file.as_deref();
    let registration = registration.filter(is_file).map(str::to_owned);
    let systemd = environment.get("CREDENTIALS_DIRECTORY").map(|dir| Path::new(dir).join("runup.token"));
    let stays_at = match (&file, &command, &app) {
        (Some(file), ..) => Some(format!("--token-file {file}")),
        (None, Some(_), _) => Some("the output of --token-command".to_owned()),
        (None, None, Some(app)) => Some(match &app.key {
            Some(NamedKey::File(file)) => format!("--app-key-file {file}"),
            Some(NamedKey::Command(_)) => "the output of --app-key-command".to_owned(),
            Some(NamedKey::SignCommand(_)) => "what --app-sign-command signs with".to_owned(),
            None => "the systemd credential runup.app-key".to_owned(),
        }),
        (None, None, None) => systemd
            .filter(|path| named.api.is_none() && path.exists())
            .map(|_| "the systemd credential runup.token".to_owned()),
    };
    let read_again = Box::new(move || {
        let files = credential::Files {
            api: file.as_deref(),
            command: command.as_deref(),
            app: app.clone(),
            registration: registration.as_deref(),
            remove: None,
        };
        credential::find(files, &environment)
    });
    Ok(CredentialSource { stays_at, read_again })
}

fn text(result: &RunResult) -> String {
    let jobs = match result.jobs {
        1 => "1 job".to_owned(),
        jobs => format!("{jobs} jobs"),
    };
    let reason = match result.reason {
        ExitReason::Told => "stopped as requested",
        ExitReason::JobDone => "the job is done",
        ExitReason::ListenerDone => "the listener exited by itself",
        ExitReason::Removed => "the runner is being removed",
    };
    let server = match &result.left_on_server {
        Some(left) => format!("; {left}"),
        None if result.deregistered => "; the runner was deregistered".to_owned(),
        None => String::new(),
    };
    format!("done: {reason} after {jobs}{server}")
}
