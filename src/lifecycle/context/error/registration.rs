//! The registration, here and on the server.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::error::words::remove;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error("{} is registered as {found}, but {wanted} was requested", dir.display())]
    ConfiguredOtherwise { dir: PathBuf, found: String, wanted: String },
    #[error("the runner in {} is registered as {name} at {url}, but not by runup", dir.display())]
    ConfiguredByHand { dir: PathBuf, name: String, url: String },
    #[error(
        "the runner's id in {} is {on_disk}, but the journal says {in_journal}: the runner's files were changed",
        dir.display()
    )]
    Tampered { dir: PathBuf, on_disk: u64, in_journal: u64 },
    #[error("the files of the runner in {} name the server {on_disk}, but the journal says {journal}", dir.display())]
    OtherServer { dir: PathBuf, on_disk: String, journal: String },
    #[error("the files in {} say that the runner is {name}{}, but its jobs can write them", dir.display(), id.map(|id| format!(" (id {id})")).unwrap_or_default())]
    NameNotConfirmed { dir: PathBuf, name: String, id: Option<u64> },
    #[error("{purpose} needs a token, and none was given")]
    CredentialMissing { purpose: &'static str },
    #[error("deleting this runner needs a token for the API: what config.sh remove works with is gone")]
    FilesGone,
    #[error("{purpose} needs a token, and none was given")]
    NoWayToDeregister { purpose: &'static str },
    #[error("a runner named {name} is already registered (id {id}, {status})")]
    NameTaken { name: String, id: u64, status: String },
    #[error(
        "a runner named {name} is {status} at {url} (id {id}), and --replace=if-offline replaces only one that is offline"
    )]
    NameInUse { name: String, id: u64, status: String, url: String },
    #[error("the server does not know the runner that config.sh says it registered: {name} (id {id})")]
    NotOnServer { name: String, id: u64 },
    #[error("the runner {name} (id {id}) is still running a job")]
    Busy { name: String, id: u64 },
    #[error("the runner {name} (id {id}) is running a job, and {} can only be changed between jobs", options.join(", "))]
    BusyToChange { name: String, id: u64, options: Vec<&'static str> },
    #[error("the runner in {} was registered with a different {}, and changing that needs a token", dir.display(), options.join(", "))]
    CannotChange { dir: PathBuf, options: Vec<&'static str> },
    #[error("the server still has the runner {name}{}", id.map(|id| format!(" (id {id})")).unwrap_or_default())]
    StillOnServer { name: String, id: Option<u64>, source: Option<Box<Error>> },
    #[error("the runner may remain on the server: {name}{}", id.map(|id| format!(" (id {id})")).unwrap_or_default())]
    MayRemain { name: String, id: Option<u64>, source: Option<Box<Error>> },
    #[error("the {kind} from {place} expired at {at}")]
    TokenExpired { kind: &'static str, place: String, at: Timestamp },
    #[error("GitHub does not accept the {kind} from {place} for {url}")]
    TokenRefused {
        kind: &'static str,
        place: String,
        url: String,
        age: Option<SignedDuration>,
        valid_until: Option<Timestamp>,
    },
    #[error("what the runner in {} is registered as cannot be read: {why}", dir.display())]
    RegistrationUnclear { dir: PathBuf, why: String },
    #[error("--url is {given}, but the runner in {} is registered at {journal}", dir.display())]
    OtherUrl { dir: PathBuf, given: String, journal: String },
    #[error("the credential may not be for the server of the runner in {}: {why}", dir.display())]
    Withheld { dir: PathBuf, why: String },
    #[error("the runner in {} was not installed by runup, so only --url can say which server may get the credential", dir.display())]
    UrlNeededToAdopt { dir: PathBuf },
    #[error("another run of runup has just taken the number {index} for the name of its runner")]
    IndexTaken { index: u32 },
    #[error("the runner group {name:?} does not exist")]
    NoSuchGroup { name: String },
}

fn create_another(kind: &str) -> String {
    let word = kind.split(' ').next().unwrap_or_default();
    format!(
        "Create another one with `runup token {word} --json`, which also tells when it expires, or on the page of the \
         runners in the settings."
    )
}

/// GitHub answers 404 for everything that can be wrong with a token.
fn why_refused(age: Option<SignedDuration>, valid_until: Option<Timestamp>) -> String {
    let expired = match (valid_until, age) {
        (Some(end), _) => format!("It was to be valid until {end}. "),
        (None, None) => "It may have expired, an hour after it was created. ".to_owned(),
        (None, Some(age)) => {
            let minutes = age.as_mins();
            let age = if minutes < 120 { format!("{minutes} min") } else { format!("{} h", minutes / 60) };
            format!("It may have expired, an hour after it was created: the file is {age} old. ")
        }
    };
    format!(
        "{expired}Or it is for another enterprise, organization or repository, --url is wrong, or the account that \
         created it has lost access."
    )
}

impl RegistrationError {
    /// What to do where a credential is missing, or was not accepted.
    fn credential_hint(&self) -> Option<String> {
        Some(match self {
            Self::CredentialMissing { purpose } if purpose.starts_with("listing") => {
                "Pass --token-file FILE or set RUNUP_TOKEN; or, without a credential, pass --from-release, or \
                 --archive with --sha256."
                    .into()
            }
            Self::CredentialMissing { .. } | Self::CannotChange { .. } => {
                "Pass --token-file FILE or set RUNUP_TOKEN.".into()
            }
            Self::FilesGone => {
                "Pass --token-file FILE or set RUNUP_TOKEN. --local cleans up only this machine.".into()
            }
            Self::NoWayToDeregister { .. } => {
                "Pass --token-file FILE or set RUNUP_TOKEN, or pass a remove token with \
                 --remove-token-file. --local cleans up only this machine."
                    .into()
            }
            Self::MayRemain { name, .. } => format!(
                "If the server has it (`runup runners list`) and it does not belong to another machine, delete it with `runup runners \
                 delete {name}`, or take it over with `runup install --replace`."
            ),
            Self::TokenExpired { kind, .. } => create_another(kind),
            Self::TokenRefused { kind, age, valid_until, .. } => {
                format!("{} {}", why_refused(*age, *valid_until), create_another(kind))
            }
            _ => return None,
        })
    }
}

impl Failure for RegistrationError {
    fn class(&self) -> Class {
        match self {
            Self::CredentialMissing { .. }
            | Self::CannotChange { .. }
            | Self::NoWayToDeregister { .. }
            | Self::TokenExpired { .. }
            | Self::TokenRefused { .. }
            | Self::FilesGone => Class::NoPerm,
            Self::NameNotConfirmed { .. }
            | Self::OtherServer { .. }
            | Self::ConfiguredOtherwise { .. }
            | Self::ConfiguredByHand { .. }
            | Self::Tampered { .. }
            | Self::NameTaken { .. }
            | Self::RegistrationUnclear { .. }
            | Self::OtherUrl { .. }
            | Self::Withheld { .. }
            | Self::NoSuchGroup { .. }
            | Self::UrlNeededToAdopt { .. } => Class::Config,
            Self::NotOnServer { .. } | Self::StillOnServer { .. } | Self::MayRemain { .. } => Class::Runner,
            Self::Busy { .. }
            | Self::BusyToChange { .. }
            | Self::NameInUse { .. }
            | Self::IndexTaken { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ConfiguredOtherwise { dir, .. } => {
                format!("Run `{}` first, or choose another --dir for a second runner.", remove(dir))
            }
            Self::ConfiguredByHand { dir, name, .. } => format!(
                "If the image brought it, every machine of the image is that runner: clean this \
                 one with `{} --local`, install again, and build the image again (`runup bake \
                 --check`). If config.sh was run here by hand, take the runner over with --adopt, \
                 or delete it with `runup runners delete {name}` before that.",
                remove(dir)
            ),
            Self::Tampered { dir, .. } | Self::OtherServer { dir, .. } => {
                format!("Find out what changed them. `{}` deregisters the journal's runner.", remove(dir))
            }
            Self::BusyToChange { .. } => "Run the same command again when the job has ended.".into(),
            Self::NameNotConfirmed { name, .. } => {
                format!("If that is the runner to delete, run the same command again with --name {name}.")
            }
            Self::NameTaken { id, .. } => format!(
                "Choose another --name, delete that runner with `runup runners delete {id}`, or \
                 replace it with --replace=if-offline, or with --replace even if it is online."
            ),
            Self::NameInUse { id, .. } => format!(
                "If it has crashed, GitHub reports it as offline after some minutes: run the same \
                 command again then, or delete it with `runup runners delete {id}`. If it is \
                 another machine's, choose another --name."
            ),
            Self::NoSuchGroup { .. } => {
                "Create the group, or correct --group; repositories have no groups.".into()
            }
            Self::NotOnServer { .. } | Self::IndexTaken { .. } => "Run the same command again.".into(),
            Self::Busy { .. } => "Wait for the job or cancel it, or pass a longer --deadline.".into(),
            Self::StillOnServer { .. } => {
                "Run `runup remove` again with a token for the API; it deletes the runner by its id.".into()
            }
            Self::CredentialMissing { .. }
            | Self::CannotChange { .. }
            | Self::FilesGone
            | Self::NoWayToDeregister { .. }
            | Self::MayRemain { .. }
            | Self::TokenExpired { .. }
            | Self::TokenRefused { .. } => return self.credential_hint(),
            Self::RegistrationUnclear { .. } => {
                "Find it with `runup runners list` and delete it with `runup runners delete`; then \
                 clean this machine with `runup remove --local`."
                    .into()
            }
            Self::Withheld { dir, .. } => {
                format!("Run `{}` with the credential of that server.", remove(dir))
            }
            Self::OtherUrl { .. } => "Omit --url: the journal knows it.".into(),
            Self::UrlNeededToAdopt { .. } => "Add the --url that the runner was registered for.".into(),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::ConfiguredOtherwise { .. } | Self::ConfiguredByHand { .. } | Self::OtherUrl { .. } => {
                &situation::REGISTERED_OTHERWISE
            }
            Self::Tampered { .. }
            | Self::OtherServer { .. }
            | Self::NameNotConfirmed { .. }
            | Self::RegistrationUnclear { .. } => &situation::REGISTRATION_CHANGED,
            Self::CredentialMissing { .. } | Self::NoWayToDeregister { .. } => &situation::NO_CREDENTIAL,
            Self::FilesGone | Self::CannotChange { .. } => &situation::NEEDS_API_TOKEN,
            Self::NameTaken { .. } | Self::NameInUse { .. } | Self::IndexTaken { .. } => {
                &situation::NAME_TAKEN
            }
            Self::NotOnServer { .. } | Self::StillOnServer { .. } => &situation::RUNNER_NOT_ON_SERVER,
            Self::MayRemain { .. } => &situation::MAY_REMAIN,
            Self::TokenExpired { .. } => &situation::TOKEN_EXPIRED,
            Self::TokenRefused { .. } => &situation::TOKEN_REFUSED,
            Self::Busy { .. } | Self::BusyToChange { .. } => &situation::RUNNER_BUSY,
            Self::Withheld { .. } | Self::UrlNeededToAdopt { .. } => &situation::CREDENTIAL_WITHHELD,
            Self::NoSuchGroup { .. } => &situation::NO_SUCH_GROUP,
        }
    }
}
