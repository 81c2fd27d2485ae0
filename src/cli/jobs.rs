//! What the options say of the environment of the runner and its jobs, and how runup itself reaches the network.

use super::Failed;
use super::args::ConvergeFlags;
use super::whereabouts::{self, absolute};
use crate::host::Root;
use crate::lifecycle::journal::Journal;
use crate::net;
use crate::runner::environment::HOOKS;
use crate::runner::{Requested, RunnerEnvironment, WantedEnvironment};
use crate::settings::flags::{Jobs, Place, Server};
use crate::settings::{Environment, Error, Given, Origin};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// The variable of --ca-file.
const CA_FILE: &str = "RUNUP_CA_FILE";

/// Variables that cannot be set for jobs: runup and the runner use them, or they have an option of their own.
const NOT_FOR_JOBS: [(&str, &str); 11] = [
    ("PATH", "use --path"),
    ("http_proxy", "use --proxy"),
    ("https_proxy", "use --proxy"),
    ("no_proxy", "use --no-proxy"),
    ("SSL_CERT_FILE", "use --ca-file"),
    ("SSL_CERT_DIR", "use --ca-file"),
    ("NODE_EXTRA_CA_CERTS", "use --ca-file"),
    ("CURL_CA_BUNDLE", "use --ca-file"),
    ("GIT_SSL_CAINFO", "use --ca-file"),
    (HOOKS[0], "use --hook-job-started"),
    (HOOKS[1], "use --hook-job-completed"),
];

/// The environment with the proxy of the options, or else its own, or else that with which this runner was
/// installed; and the same for the certificates.
pub(super) fn reach(environment: &Environment, server: &Server, place: Option<&Place>) -> Environment {
    let (recorded, copy) = place.map(|place| recorded(place, environment)).unwrap_or_default();
    let mut environment = environment.clone();
    let has_ca_file = recorded.ca_file().is_some();
    let recorded = recorded.network();
    let value = |name: &str| recorded.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let proxy = Requested::of(server.proxy.as_deref(), |proxy| Ok::<_, Infallible>(proxy.to_owned()));
    match proxy.unwrap_or_default() {
        asked @ (Requested::Unset | Requested::Set(_)) => {
            environment.set_proxy(asked.value().map(String::as_str));
        }
        Requested::Kept if !environment.has_proxy() => {
            for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"] {
                if let Some(value) = value(name).filter(|_| environment.get(name).is_none()) {
                    environment.set(name, value);
                }
            }
        }
        Requested::Kept => {}
    }
    // The files of the runner's directory are not for root: jobs may be able to write there.
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = value(name).filter(|_| environment.get(name).is_none() && !has_ca_file) {
            environment.set(name, value);
            if name == "SSL_CERT_FILE" && Path::new(value).is_file() {
                environment.set(CA_FILE, value);
            }
        }
    }
    if let Some(hosts) = &server.no_proxy {
        environment.set("no_proxy", hosts);
    }
    // Root's copy of the certificates outlives the file that they came from.
    if let Some(copy) = copy.filter(|copy| has_ca_file && server.ca_file.is_none() && copy.is_file()) {
        environment.set(CA_FILE, &copy.display().to_string());
    }
    environment
}

/// The certificates that runup itself trusts besides the system's.
pub(super) fn ca_file(server: &Server, environment: &Environment) -> Option<PathBuf> {
    let asked = Requested::of(server.ca_file.as_deref(), |file| Ok::<_, Infallible>(PathBuf::from(file)));
    match asked.unwrap_or_default() {
        Requested::Kept => environment.get(CA_FILE).map(PathBuf::from),
        Requested::Unset => None,
        Requested::Set(file) => Some(file),
    }
}

/// Drops what the configuration file sets of these options: a flag that was recorded wins over the file.
pub(super) fn without_those_of_the_file(flags: &mut ConvergeFlags, recorded: &[String], given: &[Given]) {
    let drops = |keys: &[&str]| {
        let of_file = |one: &&Given| matches!(one.origin, Origin::File(_));
        let mut of_file = given.iter().filter(of_file).map(|one| one.key.as_str());
        recorded.iter().any(|key| keys.contains(&key.as_str())) && of_file.any(|key| keys.contains(&key))
    };
    let (server, jobs) = (&mut flags.server, &mut flags.jobs);
    for (key, option) in [
        ("ca-file", &mut server.ca_file),
        ("proxy", &mut server.proxy),
        ("no-proxy", &mut server.no_proxy),
        ("hook-job-started", &mut jobs.hook_job_started),
        ("hook-job-completed", &mut jobs.hook_job_completed),
        ("path", &mut jobs.path),
        ("tool-cache", &mut jobs.tool_cache),
    ] {
        option.take_if(|_| drops(&[key]));
    }
    // Each of the two replaces all variables.
    if drops(&["env", "env-file"]) {
        jobs.env.clear();
        jobs.env_file = None;
    }
}

/// What is recorded of the runner of these options, as far as this user may read it, and where the copy of its
/// certificates is.
fn recorded(place: &Place, environment: &Environment) -> (RunnerEnvironment, Option<PathBuf>) {
    // What is wrong with the options, or is no record, is reported by the code that needs it.
    let Ok((root, dir, state)) = whereabouts::whereabouts(place, environment) else {
        return Default::default();
    };
    let Some(state) = root.locate(&state) else { return Default::default() };
    let text = std::fs::read_to_string(Journal::environment_for(&state, &dir)).ok();
    let recorded = text.and_then(|text| RunnerEnvironment::parse(&text)).unwrap_or_default();
    (recorded, Some(Journal::certificates_for(&state, &dir)))
}

/// What the environment and the options say of the network.
pub(super) fn network(server: &Server, environment: &Environment) -> Result<WantedEnvironment, Failed> {
    let mut network = environment.for_runner();
    for (name, value) in &mut network {
        // A secret that is mounted as a variable often ends with a line break.
        *value = value.trim().to_owned();
        refuse_control(name, value)?;
        // A child has another working directory.
        if matches!(name.as_str(), "SSL_CERT_FILE" | "SSL_CERT_DIR") {
            *value = absolute(Path::new(value))?.display().to_string();
        }
    }
    let ca_file = Requested::of(server.ca_file.as_deref(), |file| absolute(Path::new(file)))?;
    network.retain(|(_, value)| !value.is_empty());
    Ok(WantedEnvironment {
        own: network.clone(),
        network: Some(network),
        ca_file,
        system: environment.of_windows(),
        ..WantedEnvironment::default()
    })
}

/// For a runner in an image: the host's certificates are the image's only if it has them at the same place.
pub(super) fn without_certificates_of_the_host(wanted: &mut WantedEnvironment, root: &Root) {
    let is_there = |path: &str| root.locate(Path::new(path)).is_some_and(|path| path.exists());
    for network in wanted.network.iter_mut().filter(|_| !root.is_host()) {
        network.retain(|(name, value)| {
            !matches!(name.as_str(), "SSL_CERT_FILE" | "SSL_CERT_DIR") || is_there(value)
        });
    }
}

/// For an image: what the machine that builds it needs to reach the network is not what the image needs.
pub(super) fn of_options_only(wanted: &mut WantedEnvironment, server: &Server) {
    wanted.network = wanted.network.take().filter(|_| server.proxy.is_some() || server.no_proxy.is_some());
    if let Some(network) = &mut wanted.network {
        network.retain(|(name, _)| match name.as_str() {
            "http_proxy" | "https_proxy" => server.proxy.is_some(),
            "no_proxy" => server.no_proxy.is_some(),
            _ => false,
        });
    }
}

/// Adds what the options say of the jobs.
pub(super) fn add(environment: &mut WantedEnvironment, flags: &Jobs) -> Result<(), Failed> {
    let mut variables = Vec::new();
    if let Some(file) = &flags.env_file {
        let text = std::fs::read_to_string(file)
            .map_err(|source| Error::EnvFileUnreadable { path: file.clone(), source })?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end_matches('\r');
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("line {} of {}", number + 1, file.display());
            variables.push(variable(line, &place)?);
        }
    }
    for line in flags.env.iter().flat_map(|given| given.lines()) {
        variables.push(variable(line, "--env")?);
    }
    let direct = environment.network.iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case("no_proxy"));
    for host in direct.map(|(_, hosts)| net::ignored(hosts)).unwrap_or_default() {
        tracing::warn!(
            "the runner ignores {host:?} in no_proxy: it takes names of hosts and domains, separated by commas"
        );
    }
    let is_given = flags.env_file.is_some() || !flags.env.is_empty();
    environment.jobs = is_given.then_some(variables);
    environment.hooks = [
        Requested::of(flags.hook_job_started.as_deref(), |file| hook("--hook-job-started", file))?,
        Requested::of(flags.hook_job_completed.as_deref(), |file| hook("--hook-job-completed", file))?,
    ];
    environment.path = Requested::of(flags.path.as_deref(), path)?;
    environment.tool_cache = Requested::of(flags.tool_cache.as_deref(), |dir| {
        refuse_control("--tool-cache", dir)?;
        absolute(Path::new(dir)).map_err(Failed::from)
    })?;
    Ok(())
}

/// A variable for jobs. Its value can be a secret, so no message has it.
fn variable(line: &str, place: &str) -> Result<(String, String), Failed> {
    let refused = |why: String| Failed::from(Error::EnvVariable { place: place.to_owned(), why });
    let Some((name, value)) = line.split_once('=') else {
        return Err(refused("it has no =, as in KEY=VALUE".into()));
    };
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(refused("the name before the = is not made of letters, digits and _".into()));
    }
    if let Some((_, instead)) = NOT_FOR_JOBS.iter().find(|(reserved, _)| reserved.eq_ignore_ascii_case(name))
    {
        return Err(refused(format!("{name} is set in another way: {instead}")));
    }
    if name.starts_with("ACTIONS_RUNNER_INPUT_") || name.starts_with("RUNUP_") {
        return Err(refused(format!("{name} is for the runner or runup itself")));
    }
    if value.chars().any(char::is_control) {
        return Err(refused(format!("the value of {name} has a control character")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The PATH of the jobs.
fn path(text: &str) -> Result<String, Failed> {
    let wrong = text.split(':').find(|part| !part.starts_with('/'));
    if let Some(wrong) = wrong.filter(|_| cfg!(unix)) {
        let message =
            format!("--path needs absolute directories, separated by colons, and {wrong:?} is none");
        return Err(Error::Contradiction(message).into());
    }
    refuse_control("--path", text)?;
    Ok(text.to_owned())
}

/// A hook as the runner takes it: an absolute path.
fn hook(option: &str, file: &str) -> Result<String, Failed> {
    refuse_control(option, file)?;
    let path = absolute(Path::new(file))?;
    // The runner refuses others at each job.
    if !["sh", "ps1", "js"].iter().any(|end| path.extension().is_some_and(|extension| extension == *end)) {
        let message =
            format!("{option} {} needs a script whose name ends in .sh, .ps1 or .js", path.display());
        return Err(Error::Contradiction(message).into());
    }
    Ok(path.display().to_string())
}

fn refuse_control(option: &str, text: &str) -> Result<(), Failed> {
    if text.chars().any(char::is_control) {
        return Err(Error::Contradiction(format!("{option} has a control character")).into());
    }
    Ok(())
}
