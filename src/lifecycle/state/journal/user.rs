//! Whose a runner is, and how its tree is guarded: the journal's word, whatever owns the files on disk.

use crate::lifecycle::state::journal::{Act, Entry, Error, Journal, RunnerUser, Step};
use crate::runner::Guard;

impl Journal {
    /// Whose the tree is; open where none is known.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.placed().map(|placed| placed.guard).unwrap_or_default()
    }

    /// Makes it durable that the tree is guarded so, if there is one that is placed.
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

    /// Whose the runner is, where this runup or one that knew wrote it down; else the user that was created for it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.record.user.as_ref().map(|user| user.name.as_str()).or_else(|| self.created_user())
    }

    /// The user that runup created for this runner, or is about to.
    #[must_use]
    pub fn created_user(&self) -> Option<&str> {
        match self.entry(Step::CreateUser).map(|entry| &entry.act) {
            Some(Act::CreateUser { name }) => Some(name),
            _ => None,
        }
    }

    /// The group that runup created for this runner.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.record.user.as_ref()?.group.as_deref()
    }

    /// Makes durable whose the runner is, before that is relied on.
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
}
