//! The wrapper around every step: it is recorded before it happens and when it has happened, and each of these instants
//! is one at which a test kills the process. A step cannot forget either: only this file begins
//! and deletes an entry. Others may correct one that is done, or settle one that an interruption left.

use crate::lifecycle::context::error::Error;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Journal, Step};

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

/// Deletes the entry of a step that turns out not to have happened.
///
/// # Errors
/// The journal cannot be written.
pub(crate) fn never_happened(journal: &mut Journal, step: Step) -> Result<(), Error> {
    Ok(journal.forget(step)?)
}
