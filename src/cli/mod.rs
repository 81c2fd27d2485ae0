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
use args::{Cli, Command};
use clap::FromArgMatches as _;
use events::Events;
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
    /// What the command line was, to read it again for another instance.
    arguments: Arc<[OsString]>,
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
    let Parsed { cli, given, own, tables, number } = match parse(&arguments, &environment, None) {
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
            arguments: arguments.into(),
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

enum ParseError {
    Clap(clap::Error, Origin),
    Settings(crate::settings::Error),
}

/// A command line, with the layers below it.
struct Parsed {
    cli: Cli,
    given: Vec<Given>,
    own: BTreeSet<String>,
    tables: BTreeSet<u32>,
    number: Option<u32>,
}

/// Parses the command line, for one instance if the caller or the command line chooses one.
fn parse(
    arguments: &[OsString],
    environment: &Environment,
    number: Option<u32>,
) -> Result<Parsed, ParseError> {
    let (arguments, off) = layers::switches(arguments, &interface::bare());
    let parse_over = |file: &layers::File| parse_over(file, &arguments, environment);
    let file = layers::File::find(&arguments, environment).map_err(ParseError::Settings);
    let parsed = file.and_then(|file| {
        let file = file.without(off.clone());
        let parsed = parse_over(&file)?;
        // Whichever one this is about: a mistake in the file is not to appear with the next one only.
        file.instances().try_for_each(|number| parse_over(&file.of_instance(number)).map(drop))?;
        match number.or_else(|| instances::number(&parsed.cli.command)) {
            Some(number) => Ok(Parsed { number: Some(number), ..parse_over(&file.of_instance(number))? }),
            None => Ok(parsed),
        }
    });
    let Err(ParseError::Settings(error)) = parsed else { return parsed };
    // Whatever is wrong with the file, what uses no setting works.
    match parse_over(&layers::File::default().without(off.clone())) {
        Ok(parsed) if !uses_settings(&parsed.cli.command) => Ok(parsed),
        Err(ParseError::Clap(shown, origin)) if !shown.use_stderr() => Err(ParseError::Clap(shown, origin)),
        _ => Err(ParseError::Settings(error)),
    }
}

fn parse_over(
    file: &layers::File,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Parsed, ParseError> {
    let command = layers::lay_under(interface::bare(), file).map_err(ParseError::Settings)?;
    let matches = match command.clone().try_get_matches_from(arguments) {
        Err(error) if error.kind() != clap::error::ErrorKind::DisplayVersion => {
            // The error may be the help.
            let documented = layers::lay_under(interface::command(), file).map_err(ParseError::Settings)?;
            documented.try_get_matches_from(arguments)
        }
        result => result,
    };
    let matches = matches.map_err(|error| {
        let origin = usage::origin(&error, file, arguments, environment);
        ParseError::Clap(error, origin)
    })?;
    let (mut chosen, mut below) = (&command, &matches);
    while let Some((name, next)) = below.subcommand() {
        chosen = chosen.find_subcommand(name).expect("clap matched a subcommand that it knows");
        below = next;
    }
    let given = layers::given(chosen, below, file);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| ParseError::Clap(error, Origin::Flag))?;
    let tables = file.instances().collect();
    Ok(Parsed { cli, given, own: file.own().clone(), tables, number: None })
}
