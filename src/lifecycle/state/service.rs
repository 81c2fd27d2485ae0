//! Observes the service of a runner: its units as they are, and as they should be.

use crate::host::{self, Account, account, systemd};
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::needrestart;
use crate::lifecycle::state::private_tmp;
use crate::lifecycle::state::trust;
use crate::runner::Guard;
use crate::runner::unit::{self, Unit};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The service's unit as it is, and as it should be.
#[derive(Debug, Clone)]
pub struct SeenService {
    /// Its name.
    pub unit: String,
    /// What its file should say.
    pub wanted: String,
    /// What its file says; `None` if there is none.
    pub found: Option<String>,
    /// The units that upgrade the runner.
    pub upgrades: [Extra; 2],
    /// needrestart could restart it in the middle of a job.
    pub is_restartable: bool,
    /// What systemd knows of it.
    pub state: systemd::Unit,
}

impl SeenService {
    /// Whether the service's own unit is as it should be, whatever the ones beside it are. The target that it belongs to
    /// does not count: systemd reads that without a restart.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.found.as_deref().map(unit::without_target) == Some(unit::without_target(&self.wanted))
    }
}

/// A unit beside the service's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Its name.
    pub unit: String,
    /// What its file should say; `None` if it should not be there.
    pub wanted: Option<String>,
    /// What its file says; `None` if there is none.
    pub found: Option<String>,
    /// It is a timer that is written, but does not run.
    pub is_off: bool,
}

/// Observes the service, if one is requested.
///
/// # Errors
/// A path cannot be in a unit, or others can change a file that root uses; systemd cannot be asked.
pub(crate) async fn look(
    site: &Site<'_>,
    account: Option<&Account>,
    guard: Guard,
    journal: &Journal,
) -> Result<Option<SeenService>, Error> {
    let (Some(wanted), Some(target)) = (&site.request.service, &site.request.target) else { return Ok(None) };
    let dir = &site.request.dir;
    if !unit::can_hold(dir) || !unit::can_hold(&wanted.program) || !unit::can_hold(&site.request.state) {
        let others = [&site.request.state, &wanted.program];
        let program =
            others.into_iter().find(|path| !unit::can_hold(path)).unwrap_or(&wanted.program).clone();
        return Err(ServiceError::UnitPath { dir: dir.clone(), program }.into());
    }
    trust::check(&wanted.program, account)?;
    let upgrades = wanted.upgrades.as_ref().filter(|_| guard == Guard::Sealed);
    let supervisor = match &wanted.main {
        unit::Main::Supervisor { arguments, .. } => arguments.as_slice(),
        unit::Main::Runsvc => &[],
    };
    let arguments = supervisor.iter().chain(upgrades.iter().flat_map(|upgrades| &upgrades.arguments));
    for file in arguments.filter_map(|argument| argument.strip_prefix("--config=")).map(Path::new) {
        trust::check(file, account)?;
    }
    let name = name(site, journal)?;
    let groups = groups_of_unit(site, journal.unit()).await?;
    let unit = Unit {
        name: name.clone(),
        dir: dir.clone(),
        work: Path::new(site.work()).is_absolute().then(|| site.work().into()),
        state: Some(site.request.state.clone()).filter(|state| state != Path::new(unit::USUAL_STATE)),
        user: site.user.clone().unwrap_or_else(|| account::current().name),
        url: target.url.as_str().trim_end_matches('/').to_owned(),
        program: wanted.program.clone(),
        main: wanted.main.clone(),
        drain: wanted.drain.as_secs(),
        upgrades: upgrades.is_some(),
        allow_metadata: site.request.allow_metadata,
        instance: site.request.instance.clone().filter(|_| wanted.by_number).map(|it| (it.number, it.first)),
        in_target: wanted.in_target,
        private_tmp: private_tmp::applies(site, journal, wanted, account, &groups).await?,
    };
    let wanted = unit::render(&unit);
    let (service, timer) = upgrades.map(|upgrades| unit::render_upgrade(&unit, upgrades)).unzip();
    let extra = |kind: &str, wanted| {
        let unit = format!("{}.{kind}", unit::upgrade_name(&name));
        Ok::<_, Error>(Extra { found: read_unit(site, &unit)?, unit, wanted, is_off: false })
    };
    let mut upgrades = [extra("service", service)?, extra("timer", timer)?];
    let [_, timer] = &mut upgrades;
    if timer.wanted.is_some() && timer.found == timer.wanted {
        // An interruption between its file and its start leaves it off.
        let state = systemd::show(&timer.unit, &site.stop).await?;
        timer.is_off = !state.is_enabled() || !state.is_up();
    }
    let found = read_unit(site, &name)?;
    let state = systemd::show(&name, &site.stop).await?;
    let is_restartable = needrestart::is_missing(site);
    Ok(Some(SeenService { unit: name, wanted, found, upgrades, is_restartable, state }))
}

/// The groups that the operator adds to a unit of the machine by `SupplementaryGroups=`, which jobs get besides those of
/// the runner's user. They are what the manager has read from root's files, and never this process's own groups: among
/// those are root's.
///
/// # Errors
/// systemd cannot be asked.
pub(crate) async fn groups_of_unit(site: &Site<'_>, unit: Option<&str>) -> Result<Vec<u32>, Error> {
    let root = &site.request.root;
    let Some(unit) = unit.filter(|_| root.is_host() && account::is_root() && systemd::is_running()) else {
        return Ok(Vec::new());
    };
    let mut gids = Vec::new();
    for group in systemd::show(unit, &site.stop).await?.groups {
        match group.parse().ok().or_else(|| account::group_id(root, &group)) {
            // runup takes what that group can write for root's own.
            Some(0) => tracing::warn!("jobs do not get the group {group} of {unit}: it is root's"),
            Some(gid) => gids.push(gid),
            None => tracing::warn!("the group {group} of {unit} does not exist"),
        }
    }
    Ok(gids)
}

/// What a unit's file says; `None` if there is none. An operator's may hold bytes that are no text.
pub(crate) fn read_unit(site: &Site<'_>, unit: &str) -> Result<Option<String>, Error> {
    match fs_err::read(unit_path(site, unit)) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(host::Error::from(error).into()),
    }
}

/// The owner of a unit of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitOwner {
    /// Its file is gone, runup's, or an edited one that still starts this runner.
    Runup,
    /// An operator has masked it since.
    Masked,
    /// An operator has put another file in its place since, which does not start this runner.
    Operator,
}

/// The owner of the unit of this name, which an earlier run wrote.
///
/// # Errors
/// Its file cannot be read.
pub(crate) fn unit_owner(site: &Site<'_>, unit: &str) -> Result<UnitOwner, Error> {
    if std::fs::read_link(unit_path(site, unit)).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Ok(UnitOwner::Masked);
    }
    let is_ours = |text: String| unit::is_ours(&text, &site.request.dir) || by_hand::starts(&text, site);
    Ok(if read_unit(site, unit)?.is_none_or(is_ours) { UnitOwner::Runup } else { UnitOwner::Operator })
}

/// The path of the unit's file.
#[must_use]
pub fn unit_path(site: &Site<'_>, unit: &str) -> PathBuf {
    site.request.root.join(&Path::new(systemd::UNIT_FOLDER).join(unit))
}

/// The unit's name. A runner that exists keeps its own: an older runup named all units after the last part of the
/// directory, and two runners could have the same.
fn name(site: &Site<'_>, journal: &Journal) -> Result<String, Error> {
    if let Some(name) = journal.unit() {
        return Ok(name.to_owned());
    }
    let dir = &site.request.dir;
    let short = unit::short_name(dir);
    // Left by a runner whose journal is gone.
    let is_ours = read_unit(site, &short)?.is_some_and(|text| unit::is_ours(&text, dir));
    Ok(if is_ours { short } else { unit::name(dir) })
}
