//! Jobs: the queue, their scripts, and their results.

use super::scope::Scope;
use super::world::World;
use serde::{Deserialize, Serialize};

/// How much of a job's output is kept, in bytes.
const LOG_LIMIT: usize = 256 * 1024;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRecord {
    /// Its id.
    pub id: u64,
    /// The scope in which it was queued.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// The duration of a job without a script.
    pub seconds: u64,
    /// The shell script that it runs as the runner's user.
    pub script: Option<String>,
    /// The name of the only runner that may take it.
    pub only_for: Option<String>,
    /// The id of the runner that took it.
    pub runner: Option<u64>,
    /// Whether its runner has acknowledged its message. Until then, the next session gets it if this one ends.
    pub acknowledged: bool,
    /// Whether its runner has reported its result.
    pub done: bool,
    /// Its result; `Canceled` and `Abandoned` jobs are not `done`.
    pub result: Option<JobResult>,
    /// The output of its script.
    pub log: String,
}

/// The result of a job, in the words of GitHub's runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobResult {
    /// Its script exited 0.
    Succeeded,
    /// Its script failed.
    Failed,
    /// Its listener was stopped.
    Canceled,
    /// Its listener disappeared, or its runner was deleted.
    Abandoned,
}

/// A job to be queued.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NewJob {
    /// The scope, for example `orgs/acme`.
    pub scope: String,
    /// Its name.
    #[serde(default = "build")]
    pub name: String,
    /// The time that a job without a script takes.
    #[serde(default)]
    pub seconds: u64,
    /// A script for bash, which the runner's user runs in the job's workspace.
    #[serde(default)]
    pub script: Option<String>,
    /// The name of the only runner that may take it; without one, the first runner gets it.
    #[serde(default)]
    pub runner: Option<String>,
}

fn build() -> String {
    "build".to_owned()
}

impl NewJob {
    /// A job in this scope (`orgs/acme`) that runs this script.
    #[must_use]
    pub fn script(scope: &str, script: &str) -> Self {
        let (scope, script) = (scope.to_owned(), Some(script.to_owned()));
        Self { scope, name: build(), seconds: 0, script, runner: None }
    }

    /// The same, for this runner only.
    #[must_use]
    pub fn only_for(self, runner: &str) -> Self {
        Self { runner: Some(runner.to_owned()), ..self }
    }
}

impl World {
    /// Queues a job and returns its id.
    pub fn add_job(&mut self, scope: Scope, new: NewJob) -> u64 {
        let id = self.jobs.len() as u64 + 1;
        self.jobs.push(JobRecord {
            id,
            scope,
            name: new.name,
            seconds: new.seconds,
            script: new.script,
            only_for: new.runner,
            runner: None,
            acknowledged: false,
            done: false,
            result: None,
            log: String::new(),
        });
        id
    }

    /// Assigns the next job that this runner may take; `None` if none is queued.
    pub fn take_job(&mut self, runner: u64) -> Option<JobRecord> {
        let record = self.runner_by_id(runner)?.record.clone();
        let fits = |job: &&mut JobRecord| {
            let mine = job.only_for.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(&record.name));
            job.scope == record.scope && job.runner.is_none() && mine
        };
        let job = self.jobs.iter_mut().find(fits)?;
        job.runner = Some(runner);
        Some(job.clone())
    }

    /// The job of this id, if this runner took it and it has not ended.
    pub fn running_job(&mut self, id: u64, runner: u64) -> Option<&mut JobRecord> {
        let is_it = |job: &&mut JobRecord| job.id == id && job.runner == Some(runner);
        self.jobs.iter_mut().find(is_it).filter(|job| job.result.is_none())
    }

    /// Ends the job of this runner. A job that it has not started is queued again.
    pub fn end_jobs(&mut self, runner: u64, result: JobResult) {
        let running = |job: &&mut JobRecord| job.runner == Some(runner) && job.result.is_none();
        for job in self.jobs.iter_mut().filter(running) {
            if job.acknowledged {
                job.result = Some(result);
            } else {
                job.runner = None;
            }
        }
    }
}

impl JobRecord {
    /// Stores the output of the script.
    pub(super) fn keep_log(&mut self, bytes: &[u8]) {
        self.log = String::from_utf8_lossy(&bytes[..bytes.len().min(LOG_LIMIT)]).into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::{Tokens, random};
    use super::super::world::NewRunner;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_job_goes_to_the_runner_that_it_is_for_and_ends_once() {
        let mut world =
            World::new(Tokens::new(random(9), random(9), Duration::from_secs(60)), Vec::new(), Vec::new());
        let org: Scope = "orgs/o".parse().unwrap();
        for name in ["one", "two"] {
            let new: NewRunner = serde_json::from_value(serde_json::json!({"name": name})).unwrap();
            assert!(world.register(org.clone(), new).is_ok());
        }
        let id = world.add_job(org, NewJob::script("orgs/o", "true").only_for("TWO"));
        assert_eq!(world.take_job(1), None);
        assert_eq!(world.take_job(2).unwrap().id, id);
        assert_eq!(world.take_job(2), None, "it is taken");
        assert!(world.running_job(id, 1).is_none() && world.running_job(id, 2).is_some());
        world.end_jobs(2, JobResult::Canceled);
        assert_eq!(world.take_job(2).unwrap().id, id, "its message was never acknowledged");
        world.running_job(id, 2).unwrap().acknowledged = true;
        world.end_jobs(2, JobResult::Canceled);
        assert!(world.running_job(id, 2).is_none() && world.jobs[0].result == Some(JobResult::Canceled));
    }

    #[test]
    fn a_job_fails_whose_runner_is_deleted_unless_another_can_still_take_it() {
        let mut world =
            World::new(Tokens::new(random(9), random(9), Duration::from_secs(60)), Vec::new(), Vec::new());
        let org: Scope = "orgs/o".parse().unwrap();
        for (name, acknowledged) in [("one", true), ("two", false)] {
            let new: NewRunner = serde_json::from_value(serde_json::json!({"name": name})).unwrap();
            let runner = world.register(org.clone(), new).unwrap_or_else(|_| panic!()).record.id;
            let id = world.add_job(org.clone(), NewJob::script("orgs/o", "true").only_for(name));
            assert_eq!(world.take_job(runner).unwrap().id, id);
            world.running_job(id, runner).unwrap().acknowledged = acknowledged;
            assert!(world.delete(runner));
        }
        assert_eq!(world.jobs[0].result, Some(JobResult::Abandoned));
        assert_eq!((world.jobs[1].result, world.jobs[1].runner), (None, None));
    }
}
