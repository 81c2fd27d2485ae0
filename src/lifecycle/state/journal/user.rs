//! Which user and which number a runner has, and how its tree is guarded: the journal decides, whatever owns the files on
//! disk.

use crate::lifecycle::state::journal::{Act, Entry, Error, Instance, Journal, RunnerUser, Step};
use crate::runner::Guard;

impl Journal {
    /// How the tree is guarded; open if none is known.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.placed().map(|placed| placed.guard).unwrap_or_default()
    }

    /// Makes the tree's guard durable, if a tree is placed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_guard(&mut self, guard: Guard) -> Result<(), Error> {
        let Some(Entry { state, act }) = self.entry(Step::PlaceRunner).cloned() else { return Ok(()) };
        let mut act = act;
        match &mut act {
            Act::PlaceRunner { guard: old, .. } if *old != guard => *old = guard,
            _ => return Ok(()),
        }
        self.put(Entry { state, act })
    }

    /// The runner's user, if a runup that records it wrote the journal; else the user that was created for it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.record.user.as_ref().map(|user| user.name.as_str()).or_else(|| self.created_user())
    }

    /// The user that runup created for this runner, or is about to.
    #[must_use]
    pub fn created_user(&self) -> Option<&str> {
        match self.entry(Step::CreateUser).map(|entry| &entry.act) {
            Some(Act::CreateUser { name, .. }) => Some(name),
            _ => None,
        }
    }

    /// The group that runup created for this runner.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.record.user.as_ref()?.group.as_deref()
    }

    /// Makes the runner's user durable, before anything relies on it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_user(&mut self, user: RunnerUser) -> Result<(), Error> {
        if self.record.user.as_ref() == Some(&user) {
            return Ok(());
        }
        let before = self.record.user.replace(user);
        self.write().inspect_err(|_| self.record.user = before)
    }

    /// Makes it durable that the runner does not need its user any more, nor its group.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn release_user(&mut self) -> Result<(), Error> {
        let Some(before) = self.record.user.take() else { return Ok(()) };
        self.write().inspect_err(|_| self.record.user = Some(before))
    }

    /// Whether the home directory of this user had nothing of the operator's before the first job.
    #[must_use]
    pub fn has_empty_home(&self, user: &str) -> bool {
        self.record.empty_home.as_deref() == Some(user)
    }

    /// Makes that durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_empty_home(&mut self, user: &str) -> Result<(), Error> {
        let before = self.record.empty_home.replace(user.to_owned());
        self.write().inspect_err(|_| self.record.empty_home = before)
    }

    /// The number of this runner among those of its machine, if its name has it.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        self.record.index
    }

    /// Makes that number durable, before a runner is registered with it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_index(&mut self, index: u32) -> Result<(), Error> {
        if self.record.index == Some(index) {
            return Ok(());
        }
        let before = self.record.index.replace(index);
        self.write().inspect_err(|_| self.record.index = before)
    }

    /// Which of several runners of one configuration it is; `None` for a runner of its own.
    #[must_use]
    pub fn instance(&self) -> Option<&Instance> {
        self.record.instance.as_ref()
    }

    /// Sets which one it is; written with the next entry.
    pub fn set_instance(&mut self, instance: Option<Instance>) {
        self.record.instance = instance.or(self.record.instance.take());
    }
}
