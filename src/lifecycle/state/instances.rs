//! Several runners of one configuration: which ones there are by the journals, and which ones there may be.

use crate::lifecycle::context::error::{Error, InstanceError, JournalError};
use crate::lifecycle::context::request::Instance;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::observed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The runners of one configuration.
#[derive(Debug)]
pub struct Instances {
    /// The directory of the first one.
    pub first: PathBuf,
    /// The directories of those that are recorded, by number.
    pub found: BTreeMap<u32, PathBuf>,
    journals: Vec<Journal>,
    unreadable: Vec<JournalError>,
}

/// An instance that is to be there.
#[derive(Debug)]
pub struct Wanted {
    number: u32,
    dir: PathBuf,
    /// Where it would be registered, and its name there.
    runner: Option<(String, String)>,
}

impl Wanted {
    /// What is requested, with the name that it has or would get.
    ///
    /// # Errors
    /// A journal cannot be read; the name cannot be made.
    pub fn of(number: u32, site: &Site<'_>) -> Result<Self, Error> {
        let journal = site.read_journal()?;
        let name = observed::wanted_name(site, &journal, observed::is_copy(site, &journal))?;
        let url = site.request.target.as_ref().map(|target| target.url.as_str().to_ascii_lowercase());
        let runner = url.zip(name.map(|wanted| wanted.name.to_string()));
        Ok(Self { number, dir: site.request.dir.clone(), runner })
    }

    fn is_named(&self, url: &str, name: &str) -> bool {
        self.runner.as_ref().is_some_and(|(at, own)| at == url && own.eq_ignore_ascii_case(name))
    }
}

impl Instances {
    /// Reads the journals in `state`, which this process sees there. A runner that was installed on its own is none of
    /// them, wherever it is; the one in the first directory is the first one.
    #[must_use]
    pub fn find(state: &Path, first: &Path) -> Self {
        let (mut journals, mut unreadable) = (Vec::new(), Vec::new());
        // A directory that cannot be read is an error of what needs it.
        let each = Journal::each(state).unwrap_or_else(|error| vec![Err(error)]);
        for journal in each {
            match journal {
                Ok(journal) if journal.entries().is_empty() && journal.instance().is_none() => {}
                Ok(journal) => journals.push(journal),
                Err(error) => unreadable.push(error),
            }
        }
        let mut found = BTreeMap::new();
        for journal in &journals {
            match journal.instance() {
                Some(instance) if instance.first == first => {
                    found.insert(instance.number, journal.dir().to_owned());
                }
                None if journal.dir() == first => {
                    found.insert(1, first.to_owned());
                }
                _ => {}
            }
        }
        Self { first: first.to_owned(), found, journals, unreadable }
    }

    /// Whether there is more than the first one.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.found.keys().any(|number| *number > 1)
    }

    /// Whether the first one is known to be one of several: it was installed with a number.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.found.keys().any(|number| *number > 1)
            || self.journal(&self.first).is_some_and(|journal| journal.instance().is_some())
    }

    /// Whether this one has to place its tree first.
    #[must_use]
    pub fn is_placed(&self, number: u32) -> bool {
        let journal = self.found.get(&number).and_then(|dir| self.journal(dir));
        journal.is_some_and(|journal| journal.placed().is_some())
    }

    /// Whether this one is registered.
    #[must_use]
    pub fn is_registered(&self, number: u32) -> bool {
        let journal = self.found.get(&number).and_then(|dir| self.journal(dir));
        journal.is_some_and(|journal| journal.registered().is_some())
    }

    /// The numbers that are wanted, and those that are too many, the last one first. Without a count, those that there
    /// are.
    ///
    /// # Errors
    /// With a count: a journal cannot be read, which may be that of one of them. Without one, it is [`Self::unreadable`].
    pub fn wanted(&mut self, count: Option<u32>) -> Result<(Vec<u32>, Vec<u32>), Error> {
        let Some(count) = count else {
            let found: Vec<u32> = self.found.keys().copied().collect();
            return Ok((if found.is_empty() { vec![1] } else { found }, Vec::new()));
        };
        if let Some(error) = self.unreadable.pop() {
            return Err(error.into());
        }
        Ok((
            (1..=count).collect(),
            self.found.keys().rev().copied().filter(|number| *number > count).collect(),
        ))
    }

    /// The journals that cannot be read, which may be those of some of them.
    pub fn unreadable(&mut self) -> impl Iterator<Item = Error> {
        self.unreadable.drain(..).map(Error::from)
    }

    /// Refuses directories and names that the instances cannot have, before anything is done.
    ///
    /// # Errors
    /// `InstanceError`.
    pub fn check(&self, wanted: &[Wanted]) -> Result<(), InstanceError> {
        for (at, Wanted { number, dir, runner }) in wanted.iter().enumerate() {
            if let Some(one) = wanted[..at].iter().find(|one| one.dir == *dir) {
                return Err(InstanceError::SameDir { one: one.number, other: *number, dir: dir.clone() });
            }
            // With --replace, one would take the place of the other.
            if let Some((url, name)) = runner
                && let Some(one) = wanted[..at].iter().find(|one| one.is_named(url, name))
            {
                return Err(InstanceError::SameName { one: one.number, other: *number, name: name.clone() });
            }
            if let Some(found) = self.found.get(number).filter(|found| *found != dir) {
                let (found, wanted) = (found.clone(), dir.clone());
                return Err(InstanceError::Elsewhere { number: *number, found, wanted });
            }
            match self.journal(dir).map(|journal| journal.instance()) {
                Some(None) if *dir != self.first => {
                    return Err(InstanceError::OfItsOwn { number: *number, dir: dir.clone() });
                }
                Some(Some(Instance { number: other, first })) if other != number || *first != self.first => {
                    let (dir, first) = (dir.clone(), first.clone());
                    return Err(InstanceError::OfOthers { number: *number, dir, other: *other, first });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses to take the runner in the first directory for one of its own, if it is an instance of another one.
    ///
    /// # Errors
    /// `InstanceError::NotAlone`.
    pub fn check_alone(&self) -> Result<(), InstanceError> {
        match self.journal(&self.first).and_then(Journal::instance) {
            Some(Instance { number, first }) if *first != self.first => {
                let (dir, first) = (self.first.clone(), first.clone());
                Err(InstanceError::NotAlone { dir, number: *number, first })
            }
            _ => Ok(()),
        }
    }

    /// The directory of an instance that is there.
    ///
    /// # Errors
    /// `InstanceError::Missing`.
    pub fn dir(&self, number: u32) -> Result<&Path, InstanceError> {
        self.found.get(&number).map(PathBuf::as_path).ok_or_else(|| InstanceError::Missing {
            number,
            first: self.first.clone(),
            known: self.found.keys().copied().collect(),
        })
    }

    /// The user of an instance that is there.
    #[must_use]
    pub fn user(&self, number: u32) -> Option<&str> {
        self.found.get(&number).and_then(|dir| self.journal(dir)).and_then(Journal::user)
    }

    fn journal(&self, dir: &Path) -> Option<&Journal> {
        self.journals.iter().find(|journal| journal.dir() == dir)
    }
}
