//! The command line: one file per command. The only module that prints or exits.

mod args;
mod bake;
mod create_jit;
mod credential;
#[cfg(feature = "sandbox")]
mod demo;
mod doctor;
mod documents;
mod downloads;
mod drain;
mod events;
mod explain;
mod fan_out;
mod flood;
#[cfg(fuzzing)]
pub mod fuzzing;
mod generate;
mod image;
mod in_cloud;
mod install;
mod instances;
mod interface;
mod jobs;
mod keys;
mod line;
mod link_tools;
mod log;
mod logs;
mod man;
mod manual;
mod metrics;
mod output;
mod plan;
mod prepare_start;
mod reference;
mod remove;
mod request;
mod run;
mod runners;
#[cfg(feature = "sandbox")]
mod sandbox;
mod schema;
mod screen;
mod service;
mod status;
mod token;
mod upgrade;
mod usage;
mod visible;
mod whereabouts;

use crate::event;
use crate::host::memory;
use crate::host::signals::{self, Signals};
use crate::host::umask;
use crate::settings::credential::Piped;
use crate::settings::flags::Common;
use crate::settings::{Environment, Given, Origin, layers};
use args::Command;
use events::Events;
use line::{Line, ParseError, Parsed};
use metrics::Metrics;
use output::{Failed, Output};
use screen::Screen;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What every command gets.
#[derive(Clone)]
struct Session {
    /// The command line, to read it again for another instance.
    line: Arc<Line>,
    environment: Environment,
    signals: Signals,
    screen: Arc<Screen>,
    /// The metrics, if there are any.
    metrics: Option<Arc<Metrics>>,
    /// The options of the chosen command, and where each was set.
    given: Vec<Given>,
    /// The configuration file that `--config` names; `None` for the default one.
    config: Option<PathBuf>,
    /// The instance that it is for, if one is chosen.
    number: Option<u32>,
    /// The keys that the file sets for this instance alone.
    own: BTreeSet<String>,
    /// The instances for which the file sets something.
    tables: BTreeSet<u32>,
    /// The credentials from standard input, for all instances that name it.
    piped: Arc<Mutex<Piped>>,
}

impl Session {
    /// Waits for `work` or a signal.
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, crate::lifecycle::Error> {
        tokio::select! {
            biased;
            () = self.signals.stop().cancelled() => Err(crate::lifecycle::Error::Stopped),
            result = work => Ok(result),
        }
    }

    /// Waits for a random part of `spread`.
    async fn spread_start(&self, spread: Duration) -> Result<(), crate::lifecycle::Error> {
        let wait = spread.mul_f64(fastrand::f64());
        if !wait.is_zero() {
            event::wait("--start-spread", Some(wait));
            tracing::info!("starting in {} s, because of --start-spread", wait.as_secs());
        }
        self.or_stop(tokio::time::sleep(wait)).await
    }
}

/// What watches the command, besides the log.
struct Watchers {
    metrics: Option<Arc<Metrics>>,
    began: Instant,
}

impl Watchers {
    /// Starts the log, the events and the metrics.
    fn start(
        command: &Command,
        given: &[Given],
        common: &Common,
        screen: &Arc<Screen>,
    ) -> Result<Self, Failed> {
        let metrics = metrics::of(command).map(|it| Arc::new(Metrics::new(it, screen)));
        let asked = given.iter().any(|given| given.key == "events" && given.origin == Origin::Flag);
        let events = events::of(command).map(|it| Events::open(it, asked, screen)).transpose();
        let (events, refused) = match events {
            Ok(events) => (events, None),
            Err(error) => (None, Some(error)),
        };
        log::start(common, screen, events, metrics.clone());
        if let Some(error) = refused {
            return Err(Failed::from(error).while_doing("--events".into()));
        }
        event::begin(env!("CARGO_PKG_VERSION"));
        Ok(Self { metrics, began: Instant::now() })
    }

    /// The command has ended.
    fn end(self, result: &Result<Output, Failed>, signal: Option<u8>) {
        let (code, error) = output::outcome(result, signal);
        event::end(code, error.as_deref(), self.began.elapsed());
        if let Some(metrics) = self.metrics {
            metrics.end(code, error.as_deref());
        }
    }
}

/// Runs the process's command line, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    umask::close();
    output::exit_with_70_on_a_bug();
    // Before anything else, so that a job of the same user can find no credential in this process.
    let hidden = memory::hide();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let environment = Environment::of_process();
    let line = Line::new(&arguments);
    let Parsed { cli, given, own, tables, number } = match line.read(&environment, None) {
        Ok(parsed) => parsed,
        Err(error) => {
            let common = Common::of_broken(&arguments, &environment);
            log::start(&common, &Screen::new(&common), None, None);
            return match error {
                ParseError::Clap(error, origin) => usage::clap_says(&error, &origin, &arguments, &common),
                ParseError::Settings(error) => output::finish(Err(Failed::from(error)), &common, None),
            };
        }
    };
    let common = cli.common.clone();
    let screen = Screen::new(&common);
    let watchers = match Watchers::start(&cli.command, &given, &common, &screen) {
        Ok(watchers) => watchers,
        Err(error) => return output::finish(Err(error), &common, None),
    };
    if uses_settings(&cli.command) && common.config.is_none() {
        warn_of_the_machines_file(&environment);
    }
    if cfg!(target_os = "linux") && !hidden {
        tracing::debug!("the kernel lets other processes of this user read the memory of runup");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => return output::finish(Err(output::no_runtime(source)), &common, None),
    };
    let (result, signal) = runtime.block_on(async {
        let signals = match signals::listen() {
            Ok(signals) => signals,
            Err(error) => return (Err(Failed::from(error)), None),
        };
        let session = Session {
            line: Arc::new(line),
            environment,
            signals: signals.clone(),
            screen: Arc::clone(&screen),
            metrics: watchers.metrics.clone(),
            given,
            config: cli.common.config.clone(),
            number,
            own,
            tables,
            piped: Arc::default(),
        };
        (Box::pin(dispatch(cli.command, session)).await, signals.received())
    });
    screen.clear();
    // A blocking read must not keep the process from exiting.
    runtime.shutdown_background();
    watchers.end(&result, signal);
    output::finish(result, &common, signal)
}

/// An ordinary user could expect that the machine's file counts.
fn warn_of_the_machines_file(environment: &Environment) {
    let own = layers::default_file(environment);
    let machine = Path::new(layers::DEFAULT_FILE);
    if own != machine && !own.exists() && machine.exists() {
        tracing::warn!(
            "{} is for runners of root and is not used; put your settings into {}, or pass it with --config",
            machine.display(),
            own.display()
        );
    }
}

/// Whether a configuration file can change what the command does.
fn uses_settings(command: &Command) -> bool {
    match command {
        Command::Explain(_) | Command::Generate(_) | Command::LinkTools(_) => false,
        #[cfg(feature = "sandbox")]
        Command::Sandbox(_) | Command::Demo => false,
        _ => true,
    }
}

async fn dispatch(mut command: Command, session: Session) -> Result<Output, Failed> {
    instances::choose(&mut command, &session)?;
    match command {
        Command::Install(flags) => Box::pin(install::run(flags, session)).await,
        Command::Run(flags) => run::run(flags, session).await,
        Command::PrepareStart(flags) => prepare_start::run(&flags, &session).await,
        Command::LinkTools(flags) => link_tools::run(&flags),
        Command::Drain(flags) => drain::run(flags, session).await,
        Command::Bake(flags) => bake::run(flags, session).await,
        Command::Upgrade(flags) => upgrade::run(flags, session).await,
        Command::Remove(flags) => remove::run(flags, session).await,
        Command::Status(flags) => status::run(flags, session).await,
        Command::Logs(flags) => logs::run(flags, session).await,
        Command::Plan(flags) => plan::run(flags, session).await,
        Command::Doctor(flags) => Box::pin(doctor::run(flags, session)).await,
        Command::Runners(flags) => runners::run(flags, session).await,
        Command::Downloads(flags) => downloads::run(flags, session).await,
        Command::Token(flags) => token::run(flags, session).await,
        Command::Explain(flags) => explain::run(&flags),
        Command::Generate(flags) => generate::run(&flags),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(flags) => sandbox::run(flags, session).await,
        #[cfg(feature = "sandbox")]
        Command::Demo => Box::pin(demo::run(session)).await,
    }
}
