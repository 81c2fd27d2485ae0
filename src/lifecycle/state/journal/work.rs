//! Where the jobs of a runner work: what root may empty there, and what has to be cleaned before the next job.

use crate::lifecycle::state::journal::{Changed, Error, Journal};
use crate::lifecycle::state::record::WorkDir;
use std::path::{Path, PathBuf};

impl Journal {
    /// The work directory that is this runner's, if it is elsewhere.
    #[must_use]
    pub fn work(&self) -> Option<&WorkDir> {
        self.record.work.as_ref()
    }

    /// Whether the directory `path` is recorded as this runner's.
    #[must_use]
    pub fn works_in(&self, path: &Path) -> bool {
        // An older runup recorded only what was requested.
        let asked = self.registered().and_then(|(_, registered)| registered.asked.as_ref());
        self.work().is_some_and(|work| work.path == path)
            || asked.is_some_and(|asked| Path::new(&asked.work) == path)
    }

    /// Makes durable which directory is this runner's, before it is created.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_work(&mut self, work: Option<WorkDir>) -> Result<(), Error> {
        if self.record.work == work {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.record.work, work);
        self.write().inspect_err(|_| self.record.work = before)
    }

    /// The work directory in which jobs of an ephemeral runner may have left something, as `--work` names it.
    #[must_use]
    pub fn used(&self) -> Option<&str> {
        self.record.used.as_deref()
    }

    /// Makes durable that jobs may write to the work directory from now on, or that it was cleaned.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_used(&mut self, work: Option<&str>) -> Result<(), Error> {
        if self.used() == work {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.record.used, work.map(str::to_owned));
        self.write().inspect_err(|_| self.record.used = before)
    }

    /// What differed in the tree from the archive with this digest before its first job; `None` if that is not recorded.
    #[must_use]
    pub fn changed(&self, sha256: &str) -> Option<&[PathBuf]> {
        self.record.changed.as_ref().filter(|changed| changed.sha256 == sha256).map(|changed| &*changed.paths)
    }

    /// Makes that durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_changed(&mut self, changed: Changed) -> Result<(), Error> {
        let before = self.record.changed.replace(changed);
        self.write().inspect_err(|_| self.record.changed = before)
    }
}
