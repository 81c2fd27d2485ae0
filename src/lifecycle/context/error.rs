//! What can go wrong in the lifecycle, and what to do about it.

use crate::error::{Class, Failure};
use crate::lifecycle::context::finding::Finding;
use crate::lifecycle::context::journal_error::JournalError;
use crate::runner::RunnerVersion;
use crate::runner::complaint::Complaint;
use crate::runner::{libraries, preflight};
use crate::{github, host, net, runner, transfer};
use std::path::PathBuf;
use std::time::Duration;

/// Why `install`, `bake`, `remove`, `plan` or `status` failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum Error {
    #[error(transparent)]
    Github(#[from] github::Error),
    #[error(transparent)]
    Runner(#[from] runner::Error),
    #[error(transparent)]
    Preflight(#[from] preflight::Error),
    #[error(transparent)]
    Libraries(#[from] libraries::Error),
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Settings(#[from] crate::settings::Error),

    #[error("{} exists and was not created by runup: {what}", dir.display())]
    NotOurs { dir: PathBuf, what: String },
    #[error("the runner in {} is incomplete: {}", dir.display(), missing.join(", "))]
    TreeIncomplete { dir: PathBuf, missing: Vec<String> },
    #[error("{filename} does not contain a complete runner: {}", lacks.join(", "))]
    NoRunnerInside { filename: String, lacks: Vec<String> },
    #[error("{filename} is not a clean runner archive: it contains {}", shortened(files))]
    PersonalInside { filename: String, files: Vec<String> },
    #[error("{} contains runner {found}, but --runner-version requests {wanted}", dir.display())]
    OtherVersion { dir: PathBuf, found: String, wanted: String },
    #[error("runner {here} in {} is too old to register, and {newest} is available: {why}", dir.display())]
    TooOld { dir: PathBuf, here: RunnerVersion, newest: RunnerVersion, why: String, chosen: bool },
    #[error("the runner in {} cannot run here: {what}", dir.display())]
    OtherPlatform { dir: PathBuf, what: String, registered: bool },
    #[error("the service {unit} runs the runner in {}, but {asked} was requested", dir.display())]
    ServiceThere { dir: PathBuf, unit: String, asked: &'static str },
    #[error("the runner in {} belongs to the user {found}, but {wanted} was requested", dir.display())]
    OtherUser { dir: PathBuf, found: String, wanted: String },
    #[error("{} is registered as {found}, but {wanted} was requested", dir.display())]
    ConfiguredOtherwise { dir: PathBuf, found: String, wanted: String },
    #[error("the runner in {} is registered as {name} at {url}, but not by runup", dir.display())]
    ConfiguredByHand { dir: PathBuf, name: String, url: String },
    #[error(
        "the runner's id in {} is {on_disk}, but the journal says {in_journal}: the runner's files were changed",
        dir.display()
    )]
    Tampered { dir: PathBuf, on_disk: u64, in_journal: u64 },
    #[error("refusing to work below {} as root: {owner} can write there", folder.display())]
    UnsafeParent { folder: PathBuf, owner: String },
    #[error("refusing to use {} as root at every start of the service: {who} can change {}", file.display(), path.display())]
    NotForRoot { file: PathBuf, path: PathBuf, who: String },
    #[error("{} cannot be reached in {}: a loop of symbolic links, or a directory that cannot be read", path.display(), root.display())]
    NoWayTo { path: PathBuf, root: PathBuf },
    #[error("jobs can change the programs of the runner in {}, so none of these gets a token", dir.display())]
    TreeNotGuarded { dir: PathBuf },
    #[error("the user {user} also runs the runner in {}, whose jobs could read the token of this one", dir.display())]
    UserShared { user: String, dir: PathBuf, unit: String },
    #[error("the files of the runner in {} name the server {on_disk}, but the journal says {journal}", dir.display())]
    OtherServer { dir: PathBuf, on_disk: String, journal: String },
    #[error("the user {name} was just created by another program")]
    UserTaken { name: String },
    #[error("the files in {} say that the runner is {name}{}, but its jobs can write them", dir.display(), id.map(|id| format!(" (id {id})")).unwrap_or_default())]
    NameNotConfirmed { dir: PathBuf, name: String, id: Option<u64> },
    #[error("--user {name} requires root")]
    NotRoot { name: String },
    #[error("the user {name} is root under another name")]
    UserIsRoot { name: String },
    #[error("{purpose} needs a token, and none was given")]
    CredentialMissing { purpose: &'static str },
    #[error("deleting this runner needs a token for the API: what config.sh remove works with is gone")]
    FilesGone,
    #[error("{purpose} needs a token, and none was given")]
    NoWayToDeregister { purpose: &'static str },
    #[error("no sha256 is known for {filename}: the list of runner applications has none")]
    ChecksumAbsent { filename: String },
    #[error("the list of runner applications has an empty sha256 for {filename}")]
    ChecksumEmpty { filename: String },
    #[error("the list of runner applications has an invalid sha256 for {filename}: {found:?}")]
    ChecksumMalformed { filename: String, found: String },
    #[error("--sha256 is {given}, but the list of runner applications says {listed} for {filename}")]
    ChecksumsDisagree { filename: String, given: String, listed: String },
    #[error("the format of {filename} is unknown: its name ends in neither .tar.gz nor .zip")]
    FormUnknown { filename: String },
    #[error("--archive {archive} needs --sha256")]
    ArchiveWithoutDigest { archive: String },
    #[error("--archive {archive} is neither a file nor an http(s) URL")]
    ArchiveUnclear { archive: String },
    #[error("the archive file {} does not exist", path.display())]
    ArchiveMissing { path: PathBuf },
    #[error("a runner named {name} is already registered (id {id}, {status})")]
    NameTaken { name: String, id: u64, status: String },
    #[error("this machine's clock is {skew} {direction} GitHub's")]
    ClockOff { skew: String, direction: &'static str },
    #[error("`{command}` failed with {status}{}", cause.map(|known| format!(": {}", known.cause)).unwrap_or_default())]
    ConfigFailed { command: String, status: String, tail: String, cause: Option<&'static Complaint> },
    #[error("`{command}` exited 0 but did not register a runner: {missing}")]
    ConfigLied { command: String, missing: &'static str, tail: String },
    #[error("`{command}` did not finish within {} s and was stopped", after.as_secs())]
    ConfigHung { command: String, after: Duration, tail: String },
    #[error("the server does not know the runner that config.sh says it registered: {name} (id {id})")]
    NotOnServer { name: String, id: u64 },
    #[error("the runner {name} (id {id}) is still running a job")]
    Busy { name: String, id: u64 },
    #[error("the runner {name} (id {id}) is running a job, and {} can only be changed between jobs", options.join(", "))]
    BusyToChange { name: String, id: u64, options: Vec<&'static str> },
    #[error("the runner in {} was registered with a different {}, and changing that needs a token", dir.display(), options.join(", "))]
    CannotChange { dir: PathBuf, options: Vec<&'static str> },
    #[error("the server still has the runner {name}{}", id.map(|id| format!(" (id {id})")).unwrap_or_default())]
    StillOnServer { name: String, id: Option<u64> },
    #[error("a service is installed for the runner in {}: {unit}", dir.display())]
    ServiceInstalled { dir: PathBuf, unit: String },
    #[error("the unit {unit} exists, and runup did not write it")]
    UnitNotOurs { unit: String },
    #[error("the unit {unit} is masked")]
    UnitMasked { unit: String },
    #[error("the paths {} and {} cannot be written to a unit file: one contains a space, a quote, $ or \\", dir.display(), program.display())]
    UnitPath { dir: PathBuf, program: PathBuf },
    #[error("--service systemd requires a machine that runs systemd")]
    NoSystemd,
    #[error("the service {unit} does not stay up ({state})")]
    ServiceFailed { unit: String, state: String, tail: String },
    #[error("the service {unit} runs, but the server did not report {name} as online within {} s", after.as_secs())]
    NotOnline { unit: String, name: String, after: Duration, tail: String },
    #[error("{} is not a receipt of a runner: {message}", path.display())]
    ReceiptMalformed { path: PathBuf, message: String },
    #[error("--url is {given}, but {} is the receipt of a runner at {receipt}", path.display())]
    OtherReceipt { path: PathBuf, given: String, receipt: String },
    #[error("the server calls the runner with id {id} {name}, but {} says {receipt}", path.display())]
    ReceiptName { path: PathBuf, id: u64, name: String, receipt: String },
    #[error("there is no runner in {}, and no archive or token to get one with", dir.display())]
    NothingToPlace { dir: PathBuf },
    #[error(
        "the server no longer has the runner {name} (id {id}): its just-in-time configuration was already used, or the runner was deleted"
    )]
    JitConfigUsed { name: String, id: u64 },
    #[error(
        "the just-in-time configuration of {name} (id {id}) is in use: another listener has this runner's session"
    )]
    JitConfigInUse { name: String, id: u64 },
    #[error("the server has deleted the runner in {}, and runup holds no credential to register it again", dir.display())]
    CredentialDropped { dir: PathBuf },
    #[error("there is no runner in {}, and no journal of one", dir.display())]
    NothingThere { dir: PathBuf },
    #[error("{} contains more than a runner: {}", dir.display(), shortened(others))]
    HoldsOthers { dir: PathBuf, others: Vec<String> },
    #[error(
        "something is mounted in {}, and deleting the directory would empty it: {}",
        dir.display(),
        shortened(&mounts.iter().map(|place| place.display().to_string()).collect::<Vec<_>>())
    )]
    MountedInside { dir: PathBuf, mounts: Vec<PathBuf> },
    #[error("what the runner in {} is registered as cannot be read: {why}", dir.display())]
    RegistrationUnclear { dir: PathBuf, why: String },
    #[error("users other than root can write {}, so root runs nothing from there", path.display())]
    UnsafeTree { path: PathBuf },
    #[error(
        "the image is not sealed: it must not contain {}",
        found.iter().map(|one| one.what.as_str()).collect::<Vec<_>>().join(", ")
    )]
    NotSealed { found: Vec<Finding> },
    #[error("there is no baked runner in {}: {what}", dir.display())]
    NotBaked { dir: PathBuf, what: String },
    #[error("--url is {given}, but the runner in {} is registered at {journal}", dir.display())]
    OtherUrl { dir: PathBuf, given: String, journal: String },
    #[error("the runner in {} was not installed by runup, so only --url can say which server may get the credential", dir.display())]
    UrlNeededToAdopt { dir: PathBuf },
    #[error("the listener failed with {status}{}", cause.map(|known| format!(": {}", known.cause)).unwrap_or_default())]
    ListenerFailed { status: String, tail: String, cause: Option<&'static Complaint> },
    #[error("another session of this runner stayed open for {} s", total.as_secs())]
    SessionConflict { total: Duration },
    #[error(
        "GitHub no longer supports runner {}, which is installed here{}",
        here.as_deref().unwrap_or("of unknown version"),
        newest.as_ref().map(|newest| format!("; the newest version is {newest}")).unwrap_or_default()
    )]
    VersionDeprecated { here: Option<String>, newest: Option<String> },
    #[error("the server deleted the runner in {} again, after it was re-registered {times} times", dir.display())]
    DeletedAgain { dir: PathBuf, times: usize },
    #[error("the runner group {name:?} does not exist")]
    NoSuchGroup { name: String },
    #[error("the runner in {} was ended in the middle of a job", dir.display())]
    CutShort { dir: PathBuf },
    #[error("the runner in {} was not idle within {} s, so it was not upgraded", dir.display(), after.as_secs())]
    NotIdle { dir: PathBuf, after: Duration },
    #[error("the runner in {} was changed by another run during its upgrade", dir.display())]
    UpgradeOvertaken { dir: PathBuf },
    #[error(
        "runner {to} in {} did not come online, so {from} {}: {}",
        dir.display(),
        if back.is_none() { "is back and online" } else { "is back, and is not online either" },
        crate::error::chain(cause.as_ref())
    )]
    UpgradeTakenBack { dir: PathBuf, from: String, to: String, cause: Box<Error>, back: Option<Box<Error>> },
    #[error("stopped by a signal")]
    Stopped,
    #[error("the deadline of {} s passed while {doing}", total.as_secs())]
    DeadlinePassed { doing: String, total: Duration },
    #[error("{}", crate::error::chain(cause.as_ref()))]
    Unwound { cause: Box<Error>, left: Vec<Error> },
}

/// The first of many names.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Error {
    /// Whether a signal caused this.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Stopped
            | Self::Host(host::Error::Stopped { .. })
            | Self::Transfer(transfer::Error::Stopped)
            | Self::Preflight(preflight::Error::Host(host::Error::Stopped { .. })) => true,
            Self::Libraries(error) => matches!(error.class(), Class::Signal(_)),
            Self::Unwound { cause, .. } => cause.is_stop(),
            _ => false,
        }
    }

    /// The end of a child's output, if that explains more than the message.
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::ConfigFailed { tail, .. }
            | Self::ListenerFailed { tail, .. }
            | Self::ConfigLied { tail, .. }
            | Self::ConfigHung { tail, .. }
            | Self::ServiceFailed { tail, .. }
            | Self::NotOnline { tail, .. } => {
                Some(tail).filter(|tail| !tail.trim().is_empty()).map(String::as_str)
            }
            Self::Libraries(error) => error.output().filter(|tail| !tail.trim().is_empty()),
            Self::Unwound { cause, .. } | Self::UpgradeTakenBack { cause, .. } => cause.output(),
            _ => None,
        }
    }

    /// The command that another user has to run, if that is the result.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        if let Self::Libraries(error) = self { error.command() } else { None }
    }

    /// What could not be undone after this failure.
    #[must_use]
    pub fn left(&self) -> &[Error] {
        match self {
            Self::Unwound { left, .. } => left,
            _ => &[],
        }
    }
}
