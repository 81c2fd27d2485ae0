//! What to do about each failure: one sentence per situation.

use crate::error::{Class, Failure};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::journal_error::JournalError;
use std::path::Path;

#[expect(clippy::too_many_lines, reason = "one sentence a situation")]
fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::Github(error) => return error.hint(),
        Error::Runner(error) => return error.hint(),
        Error::Preflight(error) => return error.hint(),
        Error::Libraries(error) => return error.hint(),
        Error::Transfer(error) => return error.hint(),
        Error::Net(error) => return error.hint(),
        Error::Host(error) => return error.hint(),
        Error::Settings(error) => return error.hint(),
        Error::Journal(JournalError::Io { source, .. }) => return source.hint(),
        Error::Journal(JournalError::Delete { .. }) => return None,
        Error::Journal(JournalError::List { .. }) => {
            "Run it as root: only then is it known which runners this machine still has.".into()
        }
        Error::Journal(JournalError::Malformed { .. }) => {
            "Move the file away; `runup remove --dir DIR --url URL` then adopts the runner that is there.".into()
        }
        Error::Journal(JournalError::Newer { .. }) => "Use the newer runup.".into(),
        Error::NotOurs { dir, .. } => format!(
            "Choose another --dir, or move the directory away. A runner that is registered there can be removed \
             with `{} --url URL`.",
            remove(dir)
        ),
        Error::TreeIncomplete { dir, .. } => format!(
            "Run `runup install` again once no listener runs there: it puts a complete runner in its place. What comes \
             back incomplete again and again is better removed with `{}` and installed again.",
            remove(dir)
        ),
        Error::NoRunnerInside { .. } => "Use an archive from the list of runner applications (`runup downloads`).".into(),
        Error::PersonalInside { .. } => {
            "It was packed from the directory of a registered runner, whose identity every copy would share. Take the \
             archive from the list of runner applications (`runup downloads`)."
                .into()
        }
        Error::OtherVersion { dir, .. } | Error::ConfiguredOtherwise { dir, .. } => {
            format!("Run `{}` first, or choose another --dir for a second runner.", remove(dir))
        }
        Error::ConfiguredByHand { dir, name, .. } => format!(
            "If the image brought it, every machine of the image is that runner: clean this one with `{} \
             --local`, install again, and build the image again (`runup bake --check`). If config.sh was run \
             here by hand, delete it with `runup runners delete {name}` before that.",
            remove(dir)
        ),
        Error::ServiceThere { dir, .. } => {
            format!("Let the service run it, or run `{}` first, which also removes the service.", remove(dir))
        }
        Error::OtherUser { dir, found, .. } => format!(
            "Pass --user {found}, or run `{}` first, or choose another --dir for a second runner.",
            remove(dir)
        ),
        Error::Tampered { dir, .. } | Error::OtherServer { dir, .. } => {
            format!("Find out what changed them. `{}` deregisters the runner of the journal.", remove(dir))
        }
        Error::UnsafeParent { folder, .. } => format!(
            "Choose a --dir below directories that only root can write, such as /opt, or let only root write {}.",
            folder.display()
        ),
        Error::NotForRoot { file, path, .. } => format!(
            "Put {} where only root can write, such as /usr/local/bin or /etc/runup, or let only root write {}.",
            file.display(),
            path.display()
        ),
        Error::NotRoot { .. } => "Run as root, or omit --user: the runner then runs as you.".into(),
        Error::UserIsRoot { .. } => "Choose an unprivileged user, or pass --user root if you mean it.".into(),
        Error::CredentialMissing { .. } | Error::CannotChange { .. } => {
            "Pass --token-file FILE or set RUNUP_TOKEN.".into()
        }
        Error::BusyToChange { .. } => "Run the same command again when the job has ended.".into(),
        Error::TreeNotGuarded { dir } => format!(
            "Pass --token-file FILE, so that the runner is deleted by its id; or --archive with --sha256, so that a fresh one \
             is used; or clean up here with `{} --local` and delete it with `runup runners delete` from elsewhere. \
             --trust-tree takes the risk.",
            remove(dir)
        ),
        Error::UserShared { unit, .. } => format!(
            "Omit --user, so that this runner gets a user of its own, or stop {unit} while it registers."
        ),
        Error::UserTaken { .. } => "Run the same command again: it takes the next name that is free.".into(),
        Error::NameNotConfirmed { name, .. } => {
            format!("If that is the runner to delete, run the same command again with --name {name}.")
        }
        Error::FilesGone => {
            "Pass --token-file FILE or set RUNUP_TOKEN. --local cleans up only this machine.".into()
        }
        Error::NoWayToDeregister { .. } => {
            "Pass --token-file FILE or set RUNUP_TOKEN, or pass a remove token with --remove-token-file. \
             --local cleans up only this machine."
                .into()
        }
        Error::ArchiveWithoutDigest { .. }
        | Error::ChecksumAbsent { .. }
        | Error::ChecksumEmpty { .. }
        | Error::ChecksumMalformed { .. } => {
            "Pass the sha256 from the release notes with --sha256, or, at your own risk, --accept-unverified."
                .into()
        }
        Error::ChecksumsDisagree { .. } => {
            "One of them is wrong. Check the release notes of that version before you continue.".into()
        }
        Error::NameTaken { id, .. } => format!(
            "Choose another --name, delete that runner with `runup runners delete {id}`, or replace it with \
             --replace."
        ),
        Error::ClockOff { .. } => "Set the clock, for instance with `timedatectl set-ntp true`, and run the same command again.".into(),
        Error::ConfigFailed { cause: Some(known), .. } | Error::ListenerFailed { cause: Some(known), .. } => {
            known.fix.into()
        }
        Error::TooOld { chosen: true, .. } => {
            "Omit --runner-version and --archive, so that the newest version is installed, or bake the image again."
                .into()
        }
        Error::TooOld { .. } => {
            "Bake the image again, or omit --no-refresh, so that the newest version is installed.".into()
        }
        Error::OtherPlatform { dir, registered: true, .. } => {
            format!("Run `{}` where it is registered, or with --local here; then install again.", remove(dir))
        }
        Error::OtherPlatform { .. } => {
            "Bake an image for this architecture, or omit --no-refresh, so that the right one is installed."
                .into()
        }
        Error::VersionDeprecated { .. } => {
            "Run `runup remove` and install again for the newest version, or bake the image again.".into()
        }
        Error::SessionConflict { .. } => {
            "Find the machine that runs with a copy of this runner's files; or try again in a few minutes, if \
             this one was cut off."
                .into()
        }
        Error::ReceiptMalformed { path, .. } | Error::ReceiptName { path, .. } => format!(
            "Look for the runner with `runup runners list`, delete it with `runup runners delete`, and remove {}.",
            path.display()
        ),
        Error::OtherReceipt { receipt, .. } => format!("Pass --url {receipt}, or another --receipt."),
        Error::NothingToPlace { .. } => {
            "Bake the runner into the image, or pass --archive with --sha256, or --url with a token.".into()
        }
        Error::JitConfigUsed { .. } => {
            "Create another just-in-time configuration: each is for one runner and one job.".into()
        }
        Error::JitConfigInUse { .. } => {
            "Find the machine that has the same configuration. After a power cut of this one, try again in a few minutes."
                .into()
        }
        Error::CredentialDropped { .. } => {
            "Start `runup run` again. A --token-file or --token-command is read again when it is needed.".into()
        }
        Error::DeletedAgain { .. } => {
            "Find out what deletes it: the settings page of the runners, `runup runners prune`, another machine.".into()
        }
        Error::NoSuchGroup { .. } => "Create the group, or correct --group; repositories have no groups.".into(),
        Error::CutShort { .. } => "Give jobs time to finish with --drain.".into(),
        Error::ListenerFailed { .. } | Error::ConfigFailed { .. } | Error::ConfigLied { .. } => {
            "See its output above, and the newest file in _diag.".into()
        }
        Error::ConfigHung { .. } => "Check that this machine reaches GitHub, and run the same command again.".into(),
        Error::NotOnServer { .. } => "Run the same command again.".into(),
        Error::Busy { .. } => "Wait for the job or cancel it, or pass a longer --deadline.".into(),
        Error::StillOnServer { .. } => {
            "Run `runup remove` again with a token for the API; it deletes the runner by its id.".into()
        }
        // Not `svc.sh uninstall`: root would run a script that jobs can write.
        Error::ServiceInstalled { unit, .. } => format!(
            "Run `systemctl disable --now {unit}`, delete /etc/systemd/system/{unit}, then try again."
        ),
        Error::HoldsOthers { .. } => {
            "runup did not install this runner, and would delete the whole directory. Move the rest elsewhere first.".into()
        }
        Error::MountedInside { .. } => "Unmount it, then run the same command again.".into(),
        Error::RegistrationUnclear { .. } => {
            "Find it with `runup runners list` and delete it with `runup runners delete`; then clean this machine \
             with `runup remove --local`."
                .into()
        }
        Error::UnsafeTree { .. } => {
            "Make the runner's user the owner of the directory and everything in it, or pass a token for the API.".into()
        }
        Error::UnitNotOurs { unit } => {
            format!("Choose another --dir, whose unit has another name, or remove {unit}, or pass --service none.")
        }
        Error::UnitMasked { unit } => format!("Run: systemctl unmask {unit}"),
        Error::UnitPath { .. } => "Choose a plain --dir, or pass --service none.".into(),
        Error::NoSystemd => "Pass --service none, and start the runner yourself.".into(),
        Error::ServiceFailed { unit, .. } | Error::NotOnline { unit, .. } => {
            format!("See `journalctl -u {unit}` and the newest file in _diag.")
        }
        Error::NotIdle { .. } => {
            "The next run of its timer tries again; by hand, give it a longer --window.".into()
        }
        Error::UpgradeOvertaken { .. } => "Run `runup upgrade` again.".into(),
        Error::UpgradeTakenBack { to, .. } => format!(
            "Find out why runner {to} does not work here; until then, `systemctl disable --now` of the upgrade's timer \
             saves the attempts."
        ),
        Error::NothingThere { .. } => "If the runner is elsewhere, pass its directory with --dir.".into(),
        Error::NotSealed { found } => {
            let fixes: Vec<String> = found.iter().map(|one| format!("{}: {}", one.what, one.fix)).collect();
            format!("{}.", fixes.join("; "))
        }
        Error::NotBaked { .. } => "Run `runup bake`, or pass the directory with --dir and --root.".into(),
        Error::OtherUrl { .. } => "Omit --url: the journal knows it.".into(),
        Error::UrlNeededToAdopt { .. } => "Add the --url that the runner was registered for.".into(),
        Error::Unwound { cause, .. } => return cause.hint(),
        Error::DeadlinePassed { .. } => "Run the same command again, or pass a longer --deadline.".into(),
        Error::NoWayTo { .. } => "Check the links on that path.".into(),
        Error::FormUnknown { .. } | Error::ArchiveUnclear { .. } | Error::ArchiveMissing { .. } | Error::Stopped => {
            return None;
        }
    })
}

/// The command that removes the runner in `dir`: without the directory, it could mean another one on the machine.
fn remove(dir: &Path) -> String {
    format!("runup remove --dir {}", dir.display())
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Github(error) => error.class(),
            Self::Runner(error) => error.class(),
            Self::Preflight(error) => error.class(),
            Self::Libraries(error) => error.class(),
            Self::Transfer(error) => error.class(),
            Self::Net(error) => error.class(),
            Self::Host(error) => error.class(),
            Self::Settings(error) => error.class(),
            Self::Journal(error) => match error {
                JournalError::Io { source, .. } => source.class(),
                JournalError::Delete { source, .. } | JournalError::List { source, .. } => {
                    Class::of_io(source, Class::Io)
                }
                _ => Class::Config,
            },
            Self::ChecksumAbsent { .. }
            | Self::ChecksumEmpty { .. }
            | Self::ChecksumMalformed { .. }
            | Self::ChecksumsDisagree { .. }
            | Self::FormUnknown { .. }
            | Self::NoRunnerInside { .. }
            | Self::PersonalInside { .. } => Class::Data,
            Self::ArchiveUnclear { .. } | Self::ArchiveWithoutDigest { .. } | Self::NothingToPlace { .. } => {
                Class::Usage
            }
            Self::ArchiveMissing { .. } => Class::NoInput,
            Self::NotBaked { .. } | Self::JitConfigUsed { .. } => Class::Unavailable,
            Self::NotRoot { .. }
            | Self::CredentialMissing { .. }
            | Self::CannotChange { .. }
            | Self::NoWayToDeregister { .. }
            | Self::FilesGone => Class::NoPerm,
            Self::NotOurs { .. }
            | Self::TreeNotGuarded { .. }
            | Self::UserShared { .. }
            | Self::NameNotConfirmed { .. }
            | Self::OtherServer { .. }
            | Self::TreeIncomplete { .. }
            | Self::OtherVersion { .. }
            | Self::OtherPlatform { .. }
            | Self::OtherUser { .. }
            | Self::ServiceThere { .. }
            | Self::ConfiguredOtherwise { .. }
            | Self::ConfiguredByHand { .. }
            | Self::Tampered { .. }
            | Self::UnsafeParent { .. }
            | Self::NotForRoot { .. }
            | Self::NoWayTo { .. }
            | Self::UserIsRoot { .. }
            | Self::NameTaken { .. }
            | Self::ServiceInstalled { .. }
            | Self::NothingThere { .. }
            | Self::HoldsOthers { .. }
            | Self::MountedInside { .. }
            | Self::RegistrationUnclear { .. }
            | Self::UnsafeTree { .. }
            | Self::NotSealed { .. }
            | Self::OtherUrl { .. }
            | Self::UnitNotOurs { .. }
            | Self::UnitMasked { .. }
            | Self::UnitPath { .. }
            | Self::NoSystemd
            | Self::NoSuchGroup { .. }
            | Self::ReceiptMalformed { .. }
            | Self::OtherReceipt { .. }
            | Self::ReceiptName { .. }
            | Self::UrlNeededToAdopt { .. } => Class::Config,
            Self::VersionDeprecated { .. } | Self::TooOld { .. } => Class::Deprecated,
            Self::ConfigFailed { cause, .. } | Self::ListenerFailed { cause, .. } => {
                cause.map_or(Class::Runner, |known| known.class)
            }
            Self::ConfigLied { .. }
            | Self::NotOnServer { .. }
            | Self::StillOnServer { .. }
            | Self::ServiceFailed { .. }
            | Self::NotOnline { .. }
            | Self::UpgradeTakenBack { .. }
            | Self::DeletedAgain { .. } => Class::Runner,
            // The network sets most clocks, some time after it is up.
            Self::ClockOff { .. }
            | Self::ConfigHung { .. }
            | Self::Busy { .. }
            | Self::UserTaken { .. }
            | Self::BusyToChange { .. }
            | Self::SessionConflict { .. }
            | Self::NotIdle { .. }
            | Self::UpgradeOvertaken { .. }
            | Self::JitConfigInUse { .. }
            | Self::CredentialDropped { .. }
            | Self::DeadlinePassed { .. } => Class::TempFail,
            // The process's main knows the signal's number and sets it here.
            Self::Stopped | Self::CutShort { .. } => Class::Signal(15),
            Self::Unwound { cause, .. } => cause.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        hint(self)
    }
}
