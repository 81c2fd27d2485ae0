//! The points at which a machine's death would do the most damage.
//!
//! A test kills a real process at each of them and asserts that the next run recovers. In a release build [`reach`] is
//! empty.

use crate::lifecycle::state::record::Step;

/// A named point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// The journal says that the user is about to be created; it is not.
    UserBegun,
    /// The user is created; the journal does not say so.
    UserMade,
    /// The journal says that the runner is about to be placed; nothing is there.
    PlaceBegun,
    /// The verified tree is staged beside its place.
    PlaceStaged,
    /// The tree is in place; its user may not look into it yet.
    PlaceRenamed,
    /// The tree is in place and guarded; the journal does not say so.
    PlaceGuarded,
    /// The runner to be re-registered is off the server; its files are still there.
    RegisterGhostGone,
    /// The journal says that registering begins; no token was requested.
    RegisterBegun,
    /// The token was received; `config.sh` was not started.
    RegisterTokenMinted,
    /// `config.sh` has ended; its result was not checked yet.
    RegisterConfigured,
    /// Registering has failed, and nothing is undone yet.
    Refused,
    /// The server confirmed the runner; the journal does not say so.
    RegisterConfirmed,
    /// The journal says that the unit is about to be written; it is not.
    ServiceBegun,
    /// The unit is written; the journal does not say so.
    ServiceWritten,
    /// The journal says that the service is about to be started; it is not.
    ServiceStarting,
    /// The service is started; the journal does not say so.
    ServiceStarted,
    /// The service is stopped; the journal does not say so.
    ServiceStopped,
    /// The unit is deleted; the journal does not say so.
    ServiceDeleted,
    /// The journal says that a runner is adopted; its own service still runs.
    AdoptBegun,
    /// Its own service is stopped; nothing else has changed.
    AdoptStopped,
    /// Its own service is gone; the journal does not say so.
    AdoptConcluded,
    /// The journal says that an upgrade begins; the service still runs.
    UpgradeBegun,
    /// The service has ended; the old tree is in its place.
    UpgradeStopped,
    /// The new tree is in the place of the old one; the service is off.
    UpgradeExchanged,
    /// The new runner is started; it is not known yet whether it comes online.
    UpgradeStarted,
    /// The new runner is online; the journal does not say so.
    UpgradeProven,
    /// The remove token was received; `config.sh remove` was not started.
    RemoveTokenMinted,
    /// The server has deleted the runner; the local files are still there.
    RemoveDeregistered,
    /// The identity is gone from the tree; the journal does not say so.
    RemoveCleaned,
    /// The tree is gone; the journal does not say so.
    RemoveTreeGone,
    /// The user is gone; the journal does not say so.
    RemoveUserGone,
    /// Only the journal is left.
    RemoveJournalLeft,
}

// `WriteEnvironment` has no entry, and so nothing to be recorded of it.
impl Checkpoint {
    /// The step is recorded as begun, and has done nothing yet.
    #[must_use]
    pub const fn begun(step: Step) -> Self {
        match step {
            Step::CreateUser => Self::UserBegun,
            Step::PlaceRunner => Self::PlaceBegun,
            Step::Register => Self::RegisterBegun,
            Step::WriteEnvironment => unreachable!(),
            Step::WriteService => Self::ServiceBegun,
            Step::StartService => Self::ServiceStarting,
            Step::Adopt => Self::AdoptBegun,
        }
    }

    /// The step has been taken, which is not recorded yet.
    #[must_use]
    pub const fn taken(step: Step) -> Self {
        match step {
            Step::CreateUser => Self::UserMade,
            Step::PlaceRunner => Self::PlaceGuarded,
            Step::Register => Self::RegisterConfirmed,
            Step::WriteEnvironment => unreachable!(),
            Step::WriteService => Self::ServiceWritten,
            Step::StartService => Self::ServiceStarted,
            Step::Adopt => Self::AdoptConcluded,
        }
    }

    /// The step has been undone, which is not recorded yet.
    #[must_use]
    pub const fn undone(step: Step) -> Self {
        match step {
            Step::CreateUser => Self::RemoveUserGone,
            Step::PlaceRunner => Self::RemoveTreeGone,
            Step::Register => Self::RemoveCleaned,
            Step::WriteEnvironment => unreachable!(),
            Step::WriteService => Self::ServiceDeleted,
            Step::StartService => Self::ServiceStopped,
            Step::Adopt => Self::AdoptConcluded,
        }
    }

    /// All of them, in the order in which `install`, `upgrade` and then `remove` reach them.
    pub const ALL: [Self; 32] = [
        Self::UserBegun,
        Self::UserMade,
        Self::PlaceBegun,
        Self::PlaceStaged,
        Self::PlaceRenamed,
        Self::PlaceGuarded,
        Self::RegisterGhostGone,
        Self::RegisterBegun,
        Self::RegisterTokenMinted,
        Self::RegisterConfigured,
        Self::Refused,
        Self::RegisterConfirmed,
        Self::ServiceBegun,
        Self::ServiceWritten,
        Self::ServiceStarting,
        Self::ServiceStarted,
        Self::AdoptBegun,
        Self::AdoptStopped,
        Self::AdoptConcluded,
        Self::UpgradeBegun,
        Self::UpgradeStopped,
        Self::UpgradeExchanged,
        Self::UpgradeStarted,
        Self::UpgradeProven,
        Self::ServiceStopped,
        Self::ServiceDeleted,
        Self::RemoveTokenMinted,
        Self::RemoveDeregistered,
        Self::RemoveCleaned,
        Self::RemoveTreeGone,
        Self::RemoveUserGone,
        Self::RemoveJournalLeft,
    ];

    /// The name by which a test selects it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserBegun => "user-begun",
            Self::UserMade => "user-made",
            Self::PlaceBegun => "place-begun",
            Self::PlaceStaged => "place-staged",
            Self::PlaceRenamed => "place-renamed",
            Self::PlaceGuarded => "place-guarded",
            Self::RegisterGhostGone => "register-ghost-gone",
            Self::RegisterBegun => "register-begun",
            Self::RegisterTokenMinted => "register-token-minted",
            Self::Refused => "refused",
            Self::RegisterConfigured => "register-configured",
            Self::RegisterConfirmed => "register-confirmed",
            Self::ServiceBegun => "service-begun",
            Self::ServiceWritten => "service-written",
            Self::ServiceStarting => "service-starting",
            Self::ServiceStarted => "service-started",
            Self::ServiceStopped => "service-stopped",
            Self::ServiceDeleted => "service-deleted",
            Self::AdoptBegun => "adopt-begun",
            Self::AdoptStopped => "adopt-stopped",
            Self::AdoptConcluded => "adopt-concluded",
            Self::UpgradeBegun => "upgrade-begun",
            Self::UpgradeStopped => "upgrade-stopped",
            Self::UpgradeExchanged => "upgrade-exchanged",
            Self::UpgradeStarted => "upgrade-started",
            Self::UpgradeProven => "upgrade-proven",
            Self::RemoveTokenMinted => "remove-token-minted",
            Self::RemoveDeregistered => "remove-deregistered",
            Self::RemoveCleaned => "remove-cleaned",
            Self::RemoveTreeGone => "remove-tree-gone",
            Self::RemoveUserGone => "remove-user-gone",
            Self::RemoveJournalLeft => "remove-journal-left",
        }
    }
}

/// The variable with the checkpoint at which a debug build kills itself.
pub const VARIABLE: &str = "RUNUP_KILL_AT";

/// In a debug build that is told to: dies here as in a power cut, without unwinding.
#[cfg(all(debug_assertions, unix))]
pub fn reach(checkpoint: Checkpoint) {
    if std::env::var(VARIABLE).is_ok_and(|name| name == checkpoint.name()) {
        // The process does not survive this call, so its result does not matter.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Does nothing in a release build.
#[cfg(not(all(debug_assertions, unix)))]
pub fn reach(_: Checkpoint) {}
