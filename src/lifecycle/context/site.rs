//! The context: one request, the machine, the server, the clock, and the watcher.

use crate::deadline::{Deadline, Stop};
use crate::github::{Client, Target};
use crate::host::account::{self, Account};
use crate::host::{self, Machine, Platform};
use crate::lifecycle::context::error::{Error, TrustError, UserError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::watch::{Phase, Watch};
use crate::net::Http;
use crate::runner::{Guard, RunnerEnvironment, config_sh, state};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How far this machine's clock may be off: the runner's own limit.
const CLOCK_LIMIT: i64 = 300;

/// How long undoing may take after a signal, if the deadline leaves that much.
const UNDOING: Duration = Duration::from_secs(120);

/// Everything that a step needs besides the journal.
#[derive(Clone)]
pub struct Site<'a> {
    /// What was requested.
    pub request: Arc<Request>,
    /// The facts about the machine.
    pub machine: Machine,
    /// The runner's directory as this process sees it.
    pub(crate) dir: PathBuf,
    /// Where journals live, as this process sees it.
    pub(crate) state: PathBuf,
    /// The user of this runner: the requested one, perhaps with a number; `None` is the one who runs this.
    pub(crate) user: Option<String>,
    /// What is set for the runner and its jobs, once this run has applied it.
    pub(crate) environment: Arc<RunnerEnvironment>,
    /// The HTTP client.
    pub http: Http,
    /// The REST API, if a server is known.
    pub client: Option<Arc<Client>>,
    /// When all waiting ends.
    pub deadline: Deadline,
    /// When undoing ends as well, if that is later.
    pub(crate) ends: Deadline,
    /// A signal requests to stop; programs of the machine end at the deadline too.
    pub stop: Stop,
    /// Receives the progress.
    pub watch: &'a dyn Watch,
}

impl<'a> Site<'a> {
    /// Observes the machine and sets up the client; makes no calls yet.
    ///
    /// # Errors
    /// The machine is of no known kind.
    pub(crate) fn as_requested(
        request: &Request,
        http: Http,
        stop: CancellationToken,
        watch: &'a dyn Watch,
    ) -> Result<Self, Error> {
        let deadline = Deadline::after(request.deadline);
        let machine = host::detect(&request.root)?;
        let client = request.target.clone();
        let client = client.map(|target| Arc::new(Self::client_for(request, &http, target).until(deadline)));
        let locate = |path: &Path| {
            let found = request.root.locate(path);
            found.ok_or_else(|| {
                Error::Trust(TrustError::NoWayTo {
                    path: path.to_owned(),
                    root: request.root.path().to_owned(),
                })
            })
        };
        let (dir, state) = (locate(&request.dir)?, locate(&request.state)?);
        let user = request.user.clone();
        let environment = Arc::new(RunnerEnvironment::default().with(&request.environment, &request.dir));
        let request = Arc::new(request.clone());
        let ends = deadline;
        Ok(Self {
            request,
            machine,
            dir,
            state,
            user,
            environment,
            http,
            client,
            deadline,
            ends,
            stop: Stop::new(stop, deadline),
            watch,
        })
    }

    /// The same context for a runner of this user.
    #[must_use]
    pub(crate) fn with_user(&self, user: Option<String>) -> Self {
        let user = user.or_else(|| self.user.clone());
        Self { user, ..self.clone() }
    }

    /// The same context, with what is recorded of the runner's environment below what is requested.
    #[must_use]
    pub(crate) fn with_recorded(&self, recorded: &RunnerEnvironment) -> Self {
        let environment = recorded.with(&self.request.environment, &self.request.dir);
        Self { environment: Arc::new(environment), ..self.clone() }
    }

    fn client_for(request: &Request, http: &Http, target: Target) -> Client {
        Client::new(http.clone(), target, request.credentials.api.clone(), request.deadline)
            .sharing(request.shared.clone())
    }

    /// The same context with another deadline: for what takes long, and for what has to be done in spite of a signal.
    #[must_use]
    pub fn until(&self, deadline: Deadline, stop: impl Into<Stop>) -> Self {
        let stop = stop.into().until(deadline);
        let client = self.client.as_deref().map(|client| Arc::new(client.clone().until(deadline)));
        Self { client, deadline, ends: deadline, stop, ..self.clone() }
    }

    /// The same context for work that is undone if it fails: some of the time is kept for that.
    #[must_use]
    pub(crate) fn at_work(&self) -> Self {
        Self { ends: self.ends, ..self.until(self.ends.for_work(), self.stop.clone()) }
    }

    /// The same context for undoing: neither the signal nor the deadline that ended the work stops that.
    #[must_use]
    pub(crate) fn for_undoing(&self) -> Self {
        self.until(self.ends.within(UNDOING), CancellationToken::new())
    }

    /// The client for a server that only the journal knows.
    ///
    /// # Errors
    /// The URL in the journal is invalid.
    pub fn client_at(&self, url: &str, api_url: &str) -> Result<Client, Error> {
        let target = Target::parse(url, Some(api_url), self.request.allow_http)?;
        Ok(Self::client_for(&self.request, &self.http, target).until(self.deadline))
    }

    /// The client, if it has a credential for asking the server.
    #[must_use]
    pub fn eyes(&self) -> Option<&Client> {
        self.client.as_deref().filter(|client| client.has_token())
    }

    /// The runner's directory as this process sees it.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// The platform to install for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.request.archive.os.unwrap_or(self.machine.platform.os),
            arch: self.request.archive.arch.unwrap_or(self.machine.platform.arch),
        }
    }

    /// The account of the runner: the user of the request if it exists already, else the user who runs this.
    ///
    /// # Errors
    /// The user database cannot be read; the user is root in disguise.
    pub fn account(&self) -> Result<Option<Account>, Error> {
        let Some(name) = &self.user else { return Ok(Some(account::current())) };
        match account::find(&self.request.root, name)? {
            Some(account) if account.uid == 0 && name != "root" => {
                Err(Error::User(UserError::UserIsRoot { name: name.clone() }))
            }
            // An existing user may have any name; one that is to be created may not.
            None if self.may_be_in_a_service() => Ok(None),
            None => account::check_name(name).map(|()| None).map_err(Error::from),
            account => Ok(account),
        }
    }

    /// Whether a directory service could have the runner's user, which is not to be created then: the operator has named
    /// it.
    #[must_use]
    pub fn may_be_in_a_service(&self) -> bool {
        let request = &self.request;
        !request.user_is_default && !account::directory_services(&request.root).is_empty()
    }

    /// The id of the runner's user, if that is known: a process of any other user is not this runner's.
    #[must_use]
    pub fn runner_uid(&self) -> Option<u32> {
        self.account().ok().flatten().map(|account| account.uid).filter(|_| cfg!(unix))
    }

    /// Whether the runner's user is not ours, so that it can be kept from what is root's.
    #[must_use]
    pub fn isolates(&self, account: &Account) -> bool {
        cfg!(unix) && account::is_root() && account.uid != 0
    }

    /// Whether this is an image whose runner belongs to group 0: it is for containers that run as any user of that group.
    /// On a machine, root is alone in it.
    #[must_use]
    pub(crate) fn bakes_for_group(&self, account: &Account) -> bool {
        cfg!(unix) && self.request.bakes() && account.gid == 0
    }

    /// How the tree of a runner of this request is to be guarded once it is registered, and why it is left open
    /// although it could be guarded. A tree that is guarded stays so, unless its runner is to update itself.
    #[must_use]
    pub fn wanted_guard(&self, account: Option<&Account>, now: Guard) -> (Guard, Option<&'static str>) {
        let request = &self.request;
        let isolates = match account {
            Some(account) => self.isolates(account),
            // It is about to be created.
            None => cfg!(unix) && account::is_root(),
        };
        let ephemeral =
            request.jit || request.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral);
        let kept = if ephemeral { Guard::Locked } else { Guard::Sealed };
        let hosted = request.target.as_ref().is_some_and(Target::is_hosted);
        if !isolates {
            (Guard::Open, None)
        } else if request.self_update {
            (Guard::Open, Some("--self-update asks for it"))
        } else if request.bakes() {
            (Guard::Locked, None)
        } else if now != Guard::Open {
            (kept, None)
        } else if request.service.is_none() && !request.supervised {
            (Guard::Open, Some("it has no service and no `runup run`, which would update it"))
        } else if !request.credential_lasts && !hosted && !ephemeral {
            (Guard::Open, Some("updating it needs a credential that lasts, such as --token-file"))
        } else {
            (kept, None)
        }
    }

    /// The distribution's name, as far as the machine tells it.
    #[must_use]
    pub fn system(&self) -> &str {
        let pretty = self.machine.distribution.pretty.as_str();
        if pretty.is_empty() { "a system without /etc/os-release" } else { pretty }
    }

    /// The jobs' work directory, as requested.
    #[must_use]
    pub fn work(&self) -> &str {
        self.request.registration.as_ref().map_or(state::WORK_DIR, |wanted| &wanted.options.work)
    }

    /// Begins a phase.
    #[must_use]
    pub fn phase(&self, name: &'static str) -> Phase<'a> {
        Phase::begin(self.watch, name)
    }

    /// Ends here if a signal or the deadline requires it.
    ///
    /// # Errors
    /// One of the two.
    pub fn check(&self, doing: &str) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        if self.deadline.passed() {
            return Err(Error::DeadlinePassed { doing: doing.to_owned(), total: self.deadline.total() });
        }
        Ok(())
    }

    /// Waits for `work`, a signal or the deadline, whichever is first.
    ///
    /// # Errors
    /// Those of `work`, and the other two.
    pub async fn within<T, E: Into<Error>>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::Stopped),
            result = work => result.map_err(Into::into),
            () = tokio::time::sleep_until(self.deadline.instant()) => {
                Err(Error::DeadlinePassed { doing: doing.to_owned(), total: self.deadline.total() })
            }
        }
    }

    /// Waits, unless a signal or the deadline comes first.
    ///
    /// # Errors
    /// One of the two.
    pub(crate) async fn pause(&self, doing: &str, pause: Duration) -> Result<(), Error> {
        let waiting = async {
            tokio::time::sleep(pause).await;
            Ok::<(), Error>(())
        };
        self.within(doing, waiting).await
    }

    /// What `config.sh` runs with.
    #[must_use]
    pub fn config_setting(&self, account: Account) -> config_sh::Setting {
        let mut network = self.environment.network();
        if !self.request.root.is_host() {
            // An image may not have the certificates with which this machine reaches the server.
            let own = self.request.environment.own.iter();
            let missing = own.filter(|(name, _)| !network.iter().any(|(it, _)| it == name)).cloned();
            network.extend(missing.collect::<Vec<_>>());
        }
        self.setting(account, network, Vec::new())
    }

    /// What the listener runs with: `groups` besides those of the account.
    #[must_use]
    pub(crate) fn listener_setting(&self, account: Account, groups: Vec<u32>) -> config_sh::Setting {
        self.setting(account, self.environment.variables(), groups)
    }

    fn setting(
        &self,
        account: Account,
        mut environment: Vec<(String, String)>,
        groups: Vec<u32>,
    ) -> config_sh::Setting {
        environment.extend(self.request.environment.system.iter().cloned());
        config_sh::Setting {
            root: self.request.root.clone(),
            groups,
            dir: self.dir(),
            allow_root: account.uid == 0 && cfg!(unix),
            account,
            environment,
            token_on_argv: self.request.token_on_argv,
        }
    }

    /// Refuses a clock that GitHub would refuse later, and less clearly.
    ///
    /// # Errors
    /// It is more than five minutes off.
    pub fn check_clock(&self) -> Result<(), Error> {
        let Some(skew) = self.client.as_deref().and_then(Client::clock_skew) else { return Ok(()) };
        if skew.as_secs().abs() <= CLOCK_LIMIT {
            return Ok(());
        }
        let direction = if skew.is_positive() { "ahead of" } else { "behind" };
        let minutes = skew.as_secs().abs() / 60;
        let skew = if minutes >= 120 { format!("{} h", minutes / 60) } else { format!("{minutes} min") };
        Err(Error::ClockOff { skew, direction })
    }

    /// Refuses, as root, a path where another user could swap what is worked on: every directory above the runner, and
    /// every link to one, must belong to root, and the directory be writable by root only. Or be sticky, as /tmp is,
    /// but not directly above: the runner's user owns the runner's directory and could swap that.
    ///
    /// # Errors
    /// `TrustError::UnsafeParent`.
    pub fn check_parents(&self) -> Result<(), Error> {
        self.check_above(&self.dir)
    }

    /// The same for another path.
    ///
    /// # Errors
    /// `TrustError::UnsafeParent`.
    #[cfg(unix)]
    pub(crate) fn check_above(&self, path: &Path) -> Result<(), Error> {
        use std::os::unix::fs::MetadataExt as _;
        if !account::is_root() {
            return Ok(());
        }
        // What is missing is checked again once it is created.
        let parent = path.parent().unwrap_or(Path::new("/"));
        // Group 0 is root's, unless the operator has put the runner's user into it.
        let in_group =
            |user: &Account| user.uid != 0 && account::groups(&self.request.root, user).contains(&0);
        let closed = !self.account().ok().flatten().as_ref().is_some_and(in_group);
        // Behind a link, the directories that it leads through count as well.
        let real = fs_err::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        for directory in parent.ancestors().chain(real.ancestors()) {
            let Ok(itself) = std::fs::symlink_metadata(directory) else { continue };
            let Ok(metadata) = std::fs::metadata(directory) else { continue };
            let sticky = metadata.mode() & 0o1000 != 0 && directory != parent && directory != real;
            let group = metadata.mode() & 0o020 != 0 && !(closed && metadata.gid() == 0);
            let open_to_others = (group || metadata.mode() & 0o002 != 0) && !sticky;
            let stranger = [itself.uid(), metadata.uid()].into_iter().find(|uid| *uid != 0);
            let owner = match stranger {
                Some(uid) => format!("user id {uid}"),
                None if open_to_others => "any user".into(),
                None => continue,
            };
            return Err(TrustError::UnsafeParent { directory: directory.to_owned(), owner }.into());
        }
        Ok(())
    }

    /// Windows protects its directories by access lists that are not checked here.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "as above")]
    pub(crate) fn check_above(&self, _: &Path) -> Result<(), Error> {
        Ok(())
    }
}
