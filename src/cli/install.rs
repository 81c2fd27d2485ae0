//! `runup install`

use super::args::{Command, InstallFlags};
use super::fan_out::{self, Results, Turns};
use super::output::{Failed, Output};
use super::{Session, in_cloud, instances, jobs, request, run as supervise, service};
use crate::cloud::Identity;
use crate::deadline::Deadline;
use crate::lifecycle::{
    Installed, Instances, KeepCopy, Request, Site, Wanted, Watch, install, lock_instances, remove_surplus,
    start_target, wait_for_limit,
};
use crate::net::Http;
use crate::settings::flags::{AfterJob, ServiceKind};
use crate::settings::{Error, Given, Origin, app};
use std::path::Path;
use std::sync::Arc;

pub(super) async fn run(flags: Box<InstallFlags>, session: Session) -> Result<Output, Failed> {
    session.spread_start(flags.converge.start_spread).await?;
    let found = session.instances()?;
    found.check_alone()?;
    if flags.count.count.is_none() && !found.is_numbered() {
        let one = One::of(&flags, session.clone(), None).await?;
        let installed = one.install(&session, &session.screen).await?;
        return Ok(Output::new(text(&installed), &installed));
    }
    Box::pin(several(&flags, &session)).await
}

/// The keys that choose the server and the credential.
const SERVER: [&str; 4] = ["url", "api-url", "token-file", "token-command"];

/// One runner to install.
pub(super) struct One {
    pub request: Request,
    pub http: Http,
    /// The settings that it was made from.
    pub session: Session,
    is_patient: bool,
}

impl One {
    /// What the options request for the one that the session is for; `cloud` is what is known of the machine's.
    pub(super) async fn of(
        flags: &InstallFlags,
        mut session: Session,
        cloud: Option<Identity>,
    ) -> Result<Self, Failed> {
        let mut flags = flags.clone();
        instances::adapt(&mut flags.converge, &session)?;
        session.environment =
            jobs::reach(&session.environment, &flags.converge.server, Some(&flags.converge.place));
        request::check_deadline(&flags.converge.server)?;
        let mut request = request::install(&flags.converge, &session)?;
        request.deps = flags.libraries.deps;
        request.service = service::wanted(&flags, &session)?;
        request.no_service = flags.service.service == ServiceKind::None;
        let is_asked = |given: &Given| given.key == "after-job" && given.origin == Origin::Flag;
        if !request.is_ephemeral()
            && flags.service.after_job != AfterJob::Stop
            && session.given.iter().any(is_asked)
        {
            return Err(supervise::not_cleaned("--ephemeral").into());
        }
        if flags.service.after_job == AfterJob::Again
            && request.is_ephemeral()
            && request.registers_by_itself()
        {
            request.archive.keep_copy = KeepCopy::Always;
        }
        // A runner that was set up by hand is the first one.
        if session.number.is_none_or(|number| number == 1) {
            service::adopt(&mut request, &flags, &session)?;
        }
        in_cloud::locate(&mut request, &flags.converge, &session, cloud).await?;
        let http = request::http(&flags.converge.server, &session.environment)?;
        Ok(Self { request, http, session, is_patient: flags.converge.wait_for_limit })
    }

    /// What the options request for each of these instances, which are all that there will be.
    pub(super) async fn each(numbers: &[u32], session: &Session) -> Result<Vec<Self>, Failed> {
        let shared = Arc::default();
        let several = numbers.len() > 1;
        let mut all: Vec<Self> = Vec::new();
        for number in numbers {
            let (Command::Install(flags) | Command::Plan(flags), own) = session.of_instance(*number)? else {
                continue;
            };
            let after = flags.service.after_job;
            if several && flags.converge.runner.ephemeral && after == AfterJob::Poweroff {
                let message = "--after-job poweroff is for a machine with one runner: it would end the jobs of the others";
                return Err(Error::Contradiction(message.into()).into());
            }
            let cloud = all.iter().find_map(|one| one.request.cloud.clone());
            let mut one = Self::of(&flags, own, cloud).await?;
            // What one sets for itself of the server may be another server, or another credential.
            if !SERVER.iter().chain(&app::KEYS).any(|key| one.session.own.contains(*key)) {
                one.request.shared = Some(Arc::clone(&shared));
            }
            if let Some(service) = &mut one.request.service {
                service.in_target = several;
            }
            if several {
                one.request.archive.keep_copy = KeepCopy::Always;
            }
            all.push(one);
        }
        Ok(all)
    }

    /// What removing this one needs: its place, its server and a credential.
    fn surplus((number, dir): (u32, &Path), found: &Instances, session: &Session) -> Result<Self, Failed> {
        let (mut command, mut session) = session.of_instance(number)?;
        let Command::Install(flags) = &mut command else { return Err(Error::UrlMissing.into()) };
        let converge = &mut flags.converge;
        converge.place.dir = Some(dir.to_owned());
        if converge.place.user.is_some() {
            converge.place.user = found.user(number).map(str::to_owned);
        }
        session.environment = jobs::reach(&session.environment, &converge.server, Some(&converge.place));
        let request = request::surplus(converge, &session)?;
        let http = request::http(&converge.server, &session.environment)?;
        Ok(Self { request, http, session, is_patient: false })
    }

    fn number(&self) -> u32 {
        self.session.number.unwrap_or(1)
    }

    fn place(&self) -> (Option<u32>, &Path) {
        (self.session.number, &self.request.dir)
    }

    async fn install(&self, session: &Session, watch: &dyn Watch) -> Result<Installed, Failed> {
        let stop = session.signals.stop();
        loop {
            let site = Site::new(&self.request, self.http.clone(), stop.clone(), watch)?;
            if let Some(metrics) = &session.metrics {
                metrics.remember(&site);
            }
            match Box::pin(install(&site)).await {
                Err(error) if self.is_patient && wait_for_limit(&error, stop, None).await => {}
                result => {
                    let result = result.map_err(Failed::from);
                    if let Some(metrics) = &session.metrics {
                        let online = result.as_ref().ok().and_then(Installed::online);
                        metrics.observe(&site, online).await;
                        metrics.ended(&self.request.dir, &result);
                    }
                    return result;
                }
            }
        }
    }
}

/// Where the instances of a request are, and their names.
pub(super) fn wanted(ones: &[One]) -> Result<Vec<Wanted>, Failed> {
    let one = |one: &One| {
        let (stop, screen) = (one.session.signals.stop().clone(), &one.session.screen);
        Ok(Wanted::of(one.number(), &Site::new(&one.request, one.http.clone(), stop, screen)?)?)
    };
    ones.iter().map(one).collect()
}

/// All instances, and none that is too many.
async fn several(flags: &InstallFlags, session: &Session) -> Result<Output, Failed> {
    let stop = session.signals.stop();
    // Before the lock, so that a mistake is an error at once, and once more when no other run can change the number.
    let mut found = session.instances()?;
    let (before, _) = found.wanted(flags.count.count)?;
    let mut ones = One::each(&before, session).await?;
    found.check(&wanted(&ones)?)?;
    let Some(first) = ones.first() else { return Err(Error::UrlMissing.into()) };
    let site = Site::new(&first.request, first.http.clone(), stop.clone(), &session.screen)?;
    let _lock = lock_instances(&site).await?;
    let mut found = session.instances()?;
    let (now, surplus) = found.wanted(flags.count.count)?;
    if now != before {
        ones = One::each(&now, session).await?;
    }
    found.check(&wanted(&ones)?)?;
    // What is not there yet is installed before what is too many is asked to go, which can take as long as a job.
    let mut results = Results::default();
    side_by_side(&ones, &found, session, &mut results).await;
    if ones.iter().any(|one| one.request.service.is_some()) && ones.len() > 1 {
        // With a deadline of its own, after those of the instances.
        let site = site.until(Deadline::after(site.request.deadline), stop.clone());
        if let Err(error) = start_target(&site).await {
            results.fail(error.into());
        }
    }
    if !stop.is_cancelled() {
        remove_all(&surplus, flags, &found, session, &mut results).await;
    }
    let mut is_all = true;
    for error in found.unreadable() {
        results.fail(error.into());
        is_all = false;
    }
    if flags.count.count.is_none() && ones.len() == 1 && is_all {
        return results.only();
    }
    results.output()
}

/// Installs them side by side. One that fails leaves the others as they are.
async fn side_by_side(ones: &[One], found: &Instances, session: &Session, results: &mut Results) {
    // One tree is placed before the others, which are then made from what it left.
    let first = ones.iter().position(|one| !found.is_placed(one.number())).filter(|_| ones.len() > 1);
    let turns = Turns::new(first.is_some());
    let stop = session.signals.stop();
    let work = ones.iter().enumerate().map(|(at, one)| {
        let turns = &turns;
        let work = async move {
            let turn = turns.take(&session.screen, first == Some(at), stop).await;
            one.install(session, &turn).await
        };
        fan_out::named(&one.request.dir, work)
    });
    let installed = fan_out::together(work).await;
    for (one, installed) in ones.iter().zip(installed) {
        results.add(one.place(), installed, text, "install");
    }
}

/// Removes those that are too many, each in its first idle moment.
async fn remove_all(
    surplus: &[u32],
    flags: &InstallFlags,
    found: &Instances,
    session: &Session,
    results: &mut Results,
) {
    let surplus: Vec<(u32, &Path)> =
        surplus.iter().filter_map(|number| Some((*number, found.found.get(number)?.as_path()))).collect();
    let number = u32::try_from(surplus.len()).unwrap_or(u32::MAX);
    let work = surplus.iter().map(|place| {
        let work = async move {
            let one = One::surplus(*place, found, session)?;
            let stop = session.signals.stop().clone();
            let site = Site::new(&one.request, one.http.clone(), stop, &session.screen)?;
            Ok::<_, Failed>(Box::pin(remove_surplus(&site, flags.service.drain, number)).await?)
        };
        fan_out::named(place.1, work)
    });
    let removed = fan_out::together(work).await;
    for ((number, dir), removed) in surplus.iter().zip(removed) {
        results.add((Some(*number), dir), removed, super::remove::text, "remove");
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
