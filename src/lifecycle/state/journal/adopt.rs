//! What the journal says of a runner that was set up by hand, while it is taken over and after it.

use crate::lifecycle::state::journal::{Act, Entry, EntryState, Error, Journal, RunnerUser, Step};

/// What is to be recorded of such a runner.
#[derive(Debug, Clone)]
pub(crate) struct TakenIn {
    /// What it consists of, and what is begun with it.
    pub acts: Vec<Act>,
    /// Its user; `None` is the one who runs this.
    pub user: Option<String>,
    /// The fingerprint of this machine.
    pub machine: Option<String>,
}

impl Journal {
    /// Whether a runner that was set up by hand is being taken over.
    #[must_use]
    pub fn adopts(&self) -> bool {
        self.entry(Step::Adopt).is_some()
    }

    /// The same journal as it would be with that runner in it; nothing is written.
    #[must_use]
    pub(crate) fn supposing(&self, what: &TakenIn) -> Self {
        let mut supposed = self.clone();
        for act in &what.acts {
            let state = if act.step() == Step::Adopt { EntryState::Begun } else { EntryState::Done };
            supposed.record.entries.retain(|old| old.act.step() != act.step());
            supposed.record.entries.push(Entry { state, act: act.clone() });
        }
        supposed.record.entries.sort_by_key(|entry| entry.act.step());
        supposed.record.machine.clone_from(&what.machine);
        if let Some(name) = what.user.clone() {
            let group =
                supposed.record.user.take().filter(|user| user.name == name).and_then(|user| user.group);
            supposed.record.user = Some(RunnerUser { name, group });
        }
        supposed
    }

    /// Makes that durable, all of it at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn take_in(&mut self, what: &TakenIn) -> Result<(), Error> {
        let mut supposed = self.supposing(what);
        supposed.write()?;
        *self = supposed;
        Ok(())
    }

    /// Says again what it said before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn go_back_to(&mut self, before: &Self) -> Result<(), Error> {
        if !before.exists {
            return self.delete();
        }
        self.record = before.record.clone();
        self.write()
    }
}
