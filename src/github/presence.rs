//! Whether a runner is gone. GitHub answers from replicas that lag, so a single 404 proves nothing, and believing it
//! would wipe the identity of a healthy runner, or leave a ghost.

use super::access::Access;
use super::client::{Client, Deletion};
use super::document::Runner;
use super::error::Error;
use reqwest::Method;
use std::cell::Cell;
use std::time::Duration;

/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(2);

/// The pause before the same question again.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// How often a deletion is tried that meets 404 although the server still shows the runner.
const DELETIONS: u32 = 3;

impl Client {
    /// The runner with this id and name; `None` only if two questions at different times found nothing: by id, and then
    /// by name, or by id again if the server ignores names (GitHub Enterprise Server before 3.11).
    pub async fn runner_unless_gone(&self, id: u64, name: &str) -> Result<Option<Runner>, Error> {
        if let Some(runner) = self.runner_at_once(id).await? {
            return Ok(Some(runner));
        }
        // On the heap: this is rare, and part of many long chains of calls.
        Box::pin(self.asked_again(id, name)).await
    }

    async fn asked_again(&self, id: u64, name: &str) -> Result<Option<Runner>, Error> {
        tokio::time::sleep(PAUSE).await;
        let (found, ignored) = self.listed(id, name).await?;
        if found.is_some() || !ignored {
            return Ok(found);
        }
        tokio::time::sleep(LONG_PAUSE).await;
        self.runner(id).await
    }

    /// The runner with this id and name, by id or in the list: what both do not have now may be gone.
    pub async fn runner_or_listed(&self, id: u64, name: &str) -> Result<Option<Runner>, Error> {
        match self.runner_at_once(id).await? {
            None => Ok(Box::pin(self.listed(id, name)).await?.0),
            found => Ok(found),
        }
    }

    /// Deletes a runner on the server; its machine is not involved. A busy one is [`Error::Busy`]. That it was gone
    /// already is believed if it is not there a moment later either.
    pub async fn delete(&self, id: u64) -> Result<Deletion, Error> {
        match self.delete_once(id).await {
            Err(Error::NotFound { .. }) => Box::pin(self.deleted_again(id)).await,
            done => done.map(|()| Deletion::Deleted),
        }
    }

    async fn deleted_again(&self, id: u64) -> Result<Deletion, Error> {
        let mut attempt = 1;
        loop {
            tokio::time::sleep(PAUSE).await;
            if self.runner(id).await?.is_none() {
                return Ok(Deletion::AlreadyGone);
            }
            attempt += 1;
            match self.delete_once(id).await {
                Err(Error::NotFound { .. }) if attempt < DELETIONS => {}
                done => return done.map(|()| Deletion::Deleted),
            }
        }
    }

    /// One attempt to delete a runner.
    async fn delete_once(&self, id: u64) -> Result<(), Error> {
        match self.call(Method::DELETE, &format!("/actions/runners/{id}"), &[], Access::Write).await {
            Err(Error::Unprocessable(reply)) => {
                let message = reply.message.to_lowercase();
                let busy = message.contains("busy")
                    || message.contains("running a job")
                    || self.runner(id).await?.is_some_and(|runner| runner.busy);
                Err(if busy { Error::Busy { id, reply } } else { Error::Unprocessable(reply) })
            }
            done => done.map(drop),
        }
    }

    /// The runner in the list, and whether the server ignored the name.
    async fn listed(&self, id: u64, name: &str) -> Result<(Option<Runner>, bool), Error> {
        let ignored = Cell::new(false);
        let found = self.runners_where(Some(name), |runner| {
            ignored.set(ignored.get() || !runner.is_named(name));
            runner.id == id
        });
        Ok((found.await?.into_iter().next(), ignored.get()))
    }
}
