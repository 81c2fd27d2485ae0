//! How a context reaches the journal and the user of its runner.

use crate::host;
use crate::host::account::{self, Account};
use crate::host::file::{create_private_dir, sweep_temporaries};
use crate::host::lock::{self, Lock};
use crate::lifecycle::context::error::{Error, InstanceError, JournalError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::context::watch::Watch;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::{environment, user};
use crate::net::Http;
use crate::runner::{Keeper, state};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long other programs, such as `useradd` of a package that is being installed, may change users.
const OTHER_PROGRAMS: Duration = Duration::from_secs(60);

impl<'a> Site<'a> {
    /// Observes the machine and sets up the client, for the user that the runner has or is to get; makes no calls yet.
    ///
    /// # Errors
    /// The machine is of no known kind.
    pub fn new(
        request: &Request,
        http: Http,
        stop: CancellationToken,
        watch: &'a dyn Watch,
    ) -> Result<Self, Error> {
        let site = Self::as_requested(request, http, stop, watch)?;
        // What cannot be read is reported by the code that needs it.
        let journal = site.read_journal().ok();
        let user = journal.as_ref().and_then(|journal| user::name(&site, journal).ok().flatten());
        let recorded = environment::recorded(&site)?;
        let site = site.with_user(user).with_recorded(&recorded);
        Ok(match journal {
            Some(journal) => site.keeping(&journal),
            None => site,
        })
    }

    /// A runner that was set up by hand keeps the options that it had, unless others are requested.
    fn keeping(self, journal: &Journal) -> Self {
        let adopted = journal.registered().filter(|(_, registered)| registered.adopted);
        let Some(asked) = adopted.and_then(|(_, registered)| registered.asked.as_ref()) else { return self };
        let mut request = (*self.request).clone();
        let Some(registration) = &mut request.registration else { return self };
        let options = &mut registration.options;
        let labels = || asked.labels.as_ref().and_then(|labels| labels.join(",").parse().ok());
        options.labels = options.labels.take().or_else(labels);
        options.group = options.group.take().or_else(|| asked.group.clone());
        if options.work == state::WORK_DIR {
            options.work.clone_from(&asked.work);
        }
        Self { request: Arc::new(request), ..self }
    }

    /// The user, and the group that may look into the tree: the user's own, or the one that was created for this runner.
    #[must_use]
    pub fn keeper(&self, account: &Account, journal: &Journal) -> Keeper {
        let group = journal.group().and_then(|name| account::group_id(&self.request.root, name));
        Keeper { uid: account.uid, gid: group.unwrap_or(account.gid) }
    }

    /// Takes the lock of this runner's directory, and opens its journal.
    ///
    /// # Errors
    /// Another process holds it for too long; the journal cannot be read.
    pub async fn open_journal(&self, doing: &str) -> Result<(Lock, Journal), Error> {
        self.make_state()?;
        let path = Journal::lock_for(&self.state, &self.request.dir);
        let lock = lock::acquire(&path, doing, self.deadline, &self.stop)
            .await
            .map_err(|error| self.named(error))?;
        let (state, dir) = (&self.state, &self.request.dir);
        for path in [Journal::path_for, Journal::environment_for, Journal::certificates_for] {
            sweep_temporaries(&path(state, dir));
        }
        Ok((lock, Journal::open(state, dir)?))
    }

    /// Creates the directory of the journals if it does not exist.
    ///
    /// # Errors
    /// It cannot be created, or others can write to it.
    pub fn make_state(&self) -> Result<(), Error> {
        create_private_dir(&self.state).map_err(|error| self.named(error))
    }

    /// An error about the directory of the journals; what is about another process is not.
    fn named(&self, source: host::Error) -> Error {
        match source {
            host::Error::Locked { .. } | host::Error::Stopped { .. } => source.into(),
            source => JournalError::State { state: self.request.state.clone(), source }.into(),
        }
    }

    /// Whether a run has ever taken the lock of this runner's directory; it may still hold it.
    #[must_use]
    pub fn has_lock(&self) -> bool {
        Journal::lock_for(&self.request.root.join(&self.request.state), &self.request.dir).exists()
    }

    /// Takes the lock of the number of instances.
    ///
    /// # Errors
    /// Another process holds it for too long.
    pub async fn lock_number(&self) -> Result<Lock, Error> {
        let path = self.state.join("instances.lock");
        Ok(lock::acquire(&path, "changing the number of runners", self.deadline, &self.stop).await?)
    }

    /// Refuses to register a runner that a run with a lower count removes. The lock of the journal is held, as that run
    /// holds it while it asks the server: what was registered before is deleted, and nothing is registered after.
    ///
    /// # Errors
    /// `InstanceError::Leaving`.
    pub fn refuse_beside_removal(&self) -> Result<(), Error> {
        if self.is_being_removed()? {
            return Err(InstanceError::Leaving { dir: self.request.dir.clone() }.into());
        }
        Ok(())
    }

    /// Whether a run with a lower count removes the runner.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn is_being_removed(&self) -> Result<bool, Error> {
        Ok(lock::is_held(&Journal::removal_lock_for(&self.state, &self.request.dir))?)
    }

    /// Takes the lock for claiming, creating and deleting users, which the runs of all runner directories share.
    ///
    /// # Errors
    /// Another process holds it for too long.
    pub async fn hold_users(&self) -> Result<Lock, Error> {
        let path = self.state.join("users.lock");
        Ok(lock::acquire(&path, "creating or deleting a user", self.deadline, &self.stop).await?)
    }

    /// The same, once no `useradd` or `userdel` runs that a killed holder has left.
    ///
    /// # Errors
    /// Another process holds it for too long; a program does not end.
    pub async fn lock_users(&self) -> Result<Lock, Error> {
        let lock = self.hold_users().await?;
        if account::is_root() {
            account::wait_for_survivors(&self.request.root, self.deadline, &self.stop).await?;
            account::sweep_locks(&self.request.root);
        }
        Ok(lock)
    }

    /// The same for what is about to change users or groups, once no other program is changing them. Other runners are
    /// not kept waiting for that program.
    ///
    /// # Errors
    /// The lock of another program stays.
    pub async fn change_users(&self) -> Result<Lock, Error> {
        let root = &self.request.root;
        let deadline = self.deadline.within(OTHER_PROGRAMS);
        loop {
            let lock = self.lock_users().await?;
            if account::foreign_lock(root).is_none() {
                return Ok(lock);
            }
            drop(lock);
            account::wait_until_unlocked(root, deadline, &self.stop).await?;
        }
    }

    /// Reads the journal without taking the lock or creating anything.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_journal(&self) -> Result<Journal, Error> {
        Ok(Journal::open(&self.state, &self.request.dir)?)
    }
}
