//! The wrapper around every step: it is recorded before it happens and when it has happened, and each of these instants
//! is one at which a test kills the process. A step cannot forget either: only this file begins
//! and deletes an entry. Others may correct one that is done, or settle one that an interruption left.

use crate::lifecycle::context::error::Error;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};

/// What a step begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Nothing: if this run fails later, the step is undone.
    New,
    /// With what an earlier run has done, which a run that fails must not undo.
    Over,
    /// The same. Once taken, it still counts as begun, because a later step decides whether it stays.
    Tentatively,
}

/// Records `act` as begun. [`take`] does that by itself; this is for what another process may have to finish.
///
/// # Errors
/// The journal cannot be written; then nothing may happen.
pub(crate) fn begin(journal: &mut Journal, act: Act, how: Begin) -> Result<(), Error> {
    let step = act.step();
    match how {
        Begin::New => journal.begin(act)?,
        Begin::Over | Begin::Tentatively => journal.begin_instead(act)?,
    }
    reach(Checkpoint::begun(step));
    Ok(())
}

/// Takes a step: records it as begun, does the `work`, and records it as done, with what `work` has added to the act.
///
/// # Errors
/// Those of `work`: the entry stays as begun then, unless `work` has changed it. The journal cannot be written.
pub(crate) async fn take<T>(
    journal: &mut Journal,
    mut act: Act,
    how: Begin,
    work: impl AsyncFnOnce(&mut Journal, &mut Act) -> Result<T, Error>,
) -> Result<T, Error> {
    let step = act.step();
    begin(journal, act.clone(), how)?;
    // On the heap: an installation is a long chain of these.
    let result = Box::pin(work(journal, &mut act)).await?;
    reach(Checkpoint::taken(step));
    if how != Begin::Tentatively {
        journal.done(act)?;
    }
    Ok(result)
}

/// Undoes a step: does the `work`, for which "already gone" is success, and deletes the entry.
///
/// # Errors
/// Those of `work`; the journal cannot be written. The entry stays then, for the next run.
pub(crate) async fn undo<T>(
    journal: &mut Journal,
    step: Step,
    work: impl AsyncFnOnce(&Journal) -> Result<T, Error>,
) -> Result<T, Error> {
    let undone = work(journal).await?;
    reach(Checkpoint::undone(step));
    journal.forget(step)?;
    Ok(undone)
}

/// Puts the earlier entry of a step back, whatever it said: what was begun over it has not happened.
///
/// # Errors
/// The journal cannot be written.
pub(crate) fn restore(journal: &mut Journal, step: Step, before: Option<Entry>) -> Result<(), Error> {
    match before {
        Some(Entry { state: EntryState::Done, act }) => journal.done(act)?,
        Some(Entry { state: EntryState::Begun, act }) => journal.begin_instead(act)?,
        None => journal.forget(step)?,
    }
    Ok(())
}

/// Deletes the entry of a step that turns out not to have happened.
///
/// # Errors
/// The journal cannot be written.
pub(crate) fn never_happened(journal: &mut Journal, step: Step) -> Result<(), Error> {
    Ok(journal.forget(step)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(name: &str) -> Act {
        Act::CreateUser { name: name.into(), group_created: None }
    }

    /// A conversion whose exchange fails is told by its entry from one that has happened.
    #[tokio::test]
    async fn what_has_not_happened_leaves_the_entry_that_was_there() {
        let state = tempfile::tempdir().unwrap();
        let dir = std::path::Path::new("/opt/actions-runner");
        for earlier in [None, Some(EntryState::Begun), Some(EntryState::Done)] {
            let mut journal = Journal::open(state.path(), dir).unwrap();
            match earlier {
                None => journal.forget(Step::CreateUser).unwrap(),
                Some(EntryState::Begun) => journal.begin_instead(act("old")).unwrap(),
                Some(EntryState::Done) => journal.done(act("old")).unwrap(),
            }
            let before = journal.entry(Step::CreateUser).cloned();
            let restored = before.clone();
            let failed: Result<(), Error> =
                take(&mut journal, act("new"), Begin::Tentatively, async |journal, _| {
                    restore(journal, Step::CreateUser, restored)?;
                    Err(Error::Stopped)
                })
                .await;
            assert!(failed.is_err());
            let read = Journal::open(state.path(), dir).unwrap();
            assert_eq!(read.entry(Step::CreateUser).cloned(), before);
            assert!(!journal.began(Step::CreateUser), "a failure of the run must not undo it");
        }
    }

    #[tokio::test]
    async fn a_step_is_begun_before_its_work_and_done_after_it() {
        let state = tempfile::tempdir().unwrap();
        let dir = std::path::Path::new("/opt/actions-runner");
        let on_disk = || Journal::open(state.path(), dir).unwrap().entry(Step::CreateUser).cloned();
        let mut journal = Journal::open(state.path(), dir).unwrap();
        for (how, then) in [
            (Begin::New, EntryState::Done),
            (Begin::Over, EntryState::Done),
            (Begin::Tentatively, EntryState::Begun),
        ] {
            take(&mut journal, act("old"), how, async |_, act| {
                assert_eq!(on_disk(), Some(Entry { state: EntryState::Begun, act: act.clone() }));
                *act = Act::CreateUser { name: "new".into(), group_created: None };
                Ok(())
            })
            .await
            .unwrap();
            let name = if then == EntryState::Done { "new" } else { "old" };
            assert_eq!(on_disk(), Some(Entry { state: then, act: act(name) }), "{how:?}");
        }
        undo(&mut journal, Step::CreateUser, async |_| {
            assert!(on_disk().is_some(), "the entry stays until it is undone");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(on_disk(), None);
    }
}
