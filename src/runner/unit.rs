//! The unit file of a runner's service. runup writes its own, because root would run GitHub's `svc.sh` in a directory
//! that jobs can write to, and its unit does not wait for the network and does not restart the runner.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The content of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The runner's directory.
    pub dir: PathBuf,
    /// The work directory of the jobs, if it is elsewhere.
    pub work: Option<PathBuf>,
    /// The directory of the journals, if it is not the usual one.
    pub state: Option<PathBuf>,
    /// The runner's user.
    pub user: String,
    /// The enterprise, organization or repository.
    pub url: String,
    /// The path of the installed runup.
    pub program: PathBuf,
    /// What it starts.
    pub main: Main,
    /// How long a stop waits for a running job, in seconds.
    pub drain: u64,
    /// Jobs may reach the cloud's metadata.
    pub allow_metadata: bool,
    /// Whether runup upgrades the runner, with the units of [`render_upgrade`].
    pub upgrades: bool,
    /// Its number and the directory of the first runner, if the configuration has settings for this one alone.
    pub instance: Option<(u32, PathBuf)>,
    /// It belongs to [`TARGET`].
    pub in_target: bool,
    /// It has a `/tmp` and `/var/tmp` of its own.
    pub private_tmp: bool,
}

impl Unit {
    /// The options that tell a command of root's which runner it is about. `drain` runs as the runner's user, which cannot
    /// read the journals, and takes the directory.
    fn choice(&self) -> String {
        match &self.instance {
            Some((number, first)) => {
                format!("--dir {} --instance {number}", percent(&first.display().to_string()))
            }
            None => format!("--dir {}", percent(&self.dir.display().to_string())),
        }
    }
}

/// The target of all instances of a machine.
pub const TARGET: &str = "runup.target";

/// Its file.
pub const TARGET_TEXT: &str = "# Written by runup; deleted with the last runner of several.\n\
                               [Unit]\n\
                               Description=All GitHub Actions runners of runup\n\
                               Documentation=man:runup(1)\n\
                               \n\
                               [Install]\n\
                               WantedBy=multi-user.target\n";

/// The line that lets the target stop the unit, and the one that starts it; and that of a unit without a target.
const PART_OF: &str = "PartOf=runup.target\n";
const WANTED_BY_BOTH: &str = "WantedBy=multi-user.target runup.target\n";
const WANTED_BY: &str = "WantedBy=multi-user.target\n";

/// The text of a unit as it would be without the target.
#[must_use]
pub fn without_target(text: &str) -> String {
    text.replace(PART_OF, "").replace(WANTED_BY_BOTH, WANTED_BY)
}

/// When and how runup looks for a newer version of the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrades {
    /// The time of day, `HH:MM` by the machine's clock.
    pub at: String,
    /// The random delay after that, in seconds, which spreads the checks of many machines.
    pub spread: u64,
    /// The arguments of `runup upgrade` besides the directory, without secrets.
    pub arguments: Vec<String>,
    /// Like that of [`Main::Supervisor`].
    pub credential: Option<CredentialFile>,
}

/// A file that systemd reads at each start of a unit, and that only root can read there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialFile {
    /// The token for the API.
    Token(PathBuf),
    /// The key of a GitHub App.
    AppKey(PathBuf),
}

impl CredentialFile {
    fn line(&self) -> String {
        let (name, file) = match self {
            Self::Token(file) => ("runup.token", file),
            Self::AppKey(file) => ("runup.app-key", file),
        };
        format!("LoadCredential={name}:{}", percent(&file.display().to_string()))
    }
}

/// What a unit starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Main {
    /// GitHub's own entry point, as the runner's user.
    Runsvc,
    /// `runup run`, as root: it registers at start and deregisters at stop, and drops to the runner's user for the
    /// runner itself.
    Supervisor {
        /// Its arguments, without secrets.
        arguments: Vec<String>,
        /// The file that the credential for the API needs; without it, the arguments or the configuration have all of it.
        credential: Option<CredentialFile>,
    },
}

/// Begins each unit file that runup writes, for whatever directory.
pub const OURS: &str = "# Written by runup for the runner in ";

/// The first line, by which runup recognises its own files.
fn headline(dir: &Path) -> String {
    format!("{OURS}{}.", dir.display())
}

/// Whether runup wrote the text of this unit file, for this directory.
#[must_use]
pub fn is_ours(text: &str, dir: &Path) -> bool {
    text.lines().next() == Some(headline(dir).as_str())
}

/// The longest name, which leaves room for `-upgrade`, `.d` and a temporary file's.
const LONGEST_NAME: usize = 200;

/// Where root's journals usually are.
pub const USUAL_STATE: &str = "/var/lib/runup";

/// The directory whose unit has a short name.
const DEFAULT_DIR: &str = "/opt/actions-runner";

/// The name of a new unit: that of the default directory is easy to type, and any other follows from the whole path, as
/// `systemd-escape --path` has it, so that no two directories share one.
#[must_use]
pub fn name(dir: &Path) -> String {
    if dir == Path::new(DEFAULT_DIR) {
        return short_name(dir);
    }
    let text = dir.to_string_lossy();
    let mut name = String::new();
    for (at, byte) in text.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b'.' | b'_' | b':' => name.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            byte => {
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    let name = format!("runup-{name}.service");
    // Too long for a file, or that of the default directory.
    if name.len() > LONGEST_NAME || name == short_name(Path::new(DEFAULT_DIR)) {
        let digest = hex::encode(&Sha256::digest(text.as_bytes())[..6]);
        let start: String = short_name(dir).trim_end_matches(".service").chars().take(100).collect();
        return format!("{start}-{digest}.service");
    }
    name
}

/// The name that older versions gave to a unit, after the last part of the directory.
#[must_use]
pub fn short_name(dir: &Path) -> String {
    let base = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String =
        base.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    format!("runup-{plain}.service")
}

/// A unit's name as a shell takes it.
#[must_use]
pub fn for_shell(unit: &str) -> String {
    if unit.contains('\\') { format!("'{unit}'") } else { unit.to_owned() }
}

/// Whether a path can be written to a unit file without quoting, which differs between systemd's settings.
#[must_use]
pub fn can_hold(path: &Path) -> bool {
    let text = path.to_string_lossy();
    !text.contains(['"', '\'', '\\', '$', ' ']) && !text.chars().any(char::is_control)
}

/// The unit file.
#[must_use]
pub fn render(unit: &Unit) -> String {
    let path = |path: &Path| percent(&path.display().to_string());
    let (dir, program) = (path(&unit.dir), path(&unit.program));
    let mut text = headline(&unit.dir);
    let _ = write!(
        text,
        "\n# Every `runup install` rewrites this file. Put your own settings into a drop-in:\n\
         #   systemctl edit {name}\n\
         \n\
         [Unit]\n{part_of}\
         Description=GitHub Actions runner in {dir} for {url}\n\
         Documentation=man:runup(1)\n\
         # After= alone orders the units, but does not start network-online.target.\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         # A directory service may have the runner's user.\n\
         After=nss-user-lookup.target\n\
         # A shutdown stops what is started first last: the engines stay up until the job is over.\n\
         After=docker.service containerd.service\n\
         # A disk that is mounted later would hide the runner.\n\
         RequiresMountsFor={mounts}\n\
         # A runner that exits at once each time (deleted, deprecated) must not be restarted for ever.\n\
         StartLimitIntervalSec=10min\n\
         StartLimitBurst=5\n\
         \n\
         [Service]\n",
        name = for_shell(&unit.name),
        mounts = mounts(unit),
        part_of = if unit.in_target { PART_OF } else { "" },
        url = percent(&unit.url),
    );
    text.push_str(&start(unit, &dir, &program));
    if unit.upgrades {
        // The name is not written out: an escape in it would be read as one.
        text.push_str(
            "# Checks for a newer runner unless it was done today. The start does not wait for it, and ignores its failure.\n\
             ExecStartPost=-+/bin/systemctl start --no-block %N-upgrade.service\n",
        );
    }
    let _ = write!(
        text,
        "# The entry point exits 0 whatever happened, so every exit is followed by a restart.\n\
         Restart=always\n\
         RestartSec=15\n\
         # SIGTERM goes to the entry point, which stops the listener; processes that jobs left are killed after it.\n\
         KillMode=mixed\n\
         # The time for the running job, and for the runner to cancel it.\n\
         TimeoutStopSec={timeout}\n\
         # If a job uses up the memory, only its process is killed, not the runner.\n\
         OOMPolicy=continue\n\
         # Jobs run untrusted programs: they see no keys of other sessions, and no files of runup. More would break them:\n\
         # NoNewPrivileges and ProtectSystem sudo, and ProtectProc every job with a container, for which the runner reads\n\
         # /proc/1/cgroup.\n\
         KeyringMode=private\n",
        timeout = unit.drain + 120,
    );
    text.push_str(&hidden(unit));
    text + "\n[Install]\n" + if unit.in_target { WANTED_BY_BOTH } else { WANTED_BY }
}

/// What it does not see of the machine.
fn hidden(unit: &Unit) -> String {
    let mut text = String::new();
    if unit.private_tmp {
        text.push_str(
            "# No other user of the machine shares /tmp and /var/tmp with jobs; runup adds /dev/shm. Not where they can reach a\n\
             # container engine, which would take such paths for the machine's. PrivateTmp=no in a drop-in turns it off.\n\
             PrivateTmp=yes\n",
        );
    }
    if unit.main == Main::Runsvc {
        let state = unit.state.as_ref().map(|state| format!(" -{}", percent(&state.display().to_string())));
        let _ = writeln!(text, "InaccessiblePaths=-{USUAL_STATE} -/etc/runup{}", state.unwrap_or_default());
    }
    text
}

/// The directories that have to be there before it starts.
fn mounts(unit: &Unit) -> String {
    let paths = [Some(&unit.dir), unit.work.as_ref(), unit.state.as_ref()].into_iter().flatten();
    paths.map(|path| quoted(&path.display().to_string())).collect::<Vec<_>>().join(" ")
}

/// How the service starts and stops: the lines that differ between the two kinds.
fn start(unit: &Unit, dir: &str, program: &str) -> String {
    let mut text = String::new();
    let state =
        unit.state.as_ref().map(|state| format!(" --state-dir {}", percent(&state.display().to_string())));
    let state = state.unwrap_or_default();
    match &unit.main {
        Main::Runsvc => {
            let _ = write!(
                text,
                "# The runner and its jobs run as this user, not as root.\n\
                 User={user}\n\
                 WorkingDirectory={dir}\n\
                 # As root: creates directories that the runner's user cannot create, and denies the cloud's metadata to jobs.\n\
                 ExecStartPre=+{program} prepare-start --quiet {choice}{state}{metadata}\n\
                 # GitHub's supported entry point. bin is a link after a self-update, so the path stays valid; bash is the\n\
                 # program because SELinux lets systemd start it whatever label the script has.\n\
                 ExecStart=/bin/bash {dir}/bin/runsvc.sh\n\
                 # A stop waits for the running job before the runner is stopped.\n\
                 ExecStop=-{program} drain --quiet --dir {dir}{state} --deadline {drain}\n",
                choice = unit.choice(),
                state = state,
                user = percent(&unit.user),
                metadata = if unit.allow_metadata { " --allow-metadata" } else { "" },
                drain = unit.drain,
            );
        }
        Main::Supervisor { arguments, credential } => {
            let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
            let _ = write!(
                text,
                "# Root registers and deregisters; the runner and its jobs run as {user}.\n\
                 ExecStart={program} run {arguments}\n",
                user = unit.user,
                arguments = arguments.join(" "),
            );
            if let Some(file) = credential {
                let _ = writeln!(
                    text,
                    "# systemd reads it at each start; only root can read it, and it is deleted with the service.\n{}",
                    file.line(),
                );
            }
        }
    }
    text
}

/// The name of the units that upgrade the runner of `unit`, without `.service` and `.timer`.
#[must_use]
pub fn upgrade_name(unit: &str) -> String {
    format!("{}-upgrade", unit.strip_suffix(".service").unwrap_or(unit))
}

/// The service that upgrades the runner, and the timer that starts it.
#[must_use]
pub fn render_upgrade(unit: &Unit, upgrades: &Upgrades) -> (String, String) {
    let dir = percent(&unit.dir.display().to_string());
    let mut arguments = String::new();
    for argument in &upgrades.arguments {
        let _ = write!(arguments, " {}", quoted(argument));
    }
    let mut service = headline(&unit.dir);
    let _ = write!(
        service,
        "\n\
         [Unit]\n\
         Description=Upgrade of the GitHub Actions runner in {dir}\n\
         Documentation=man:runup(1)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         # At most one check a day, whatever starts it. Exit code 75: the runner was not idle in time; tried again later.\n\
         ExecStart={program} upgrade --daily --quiet --window=2h {choice}{arguments}\n\
         SuccessExitStatus=75\n\
         # If it is killed while it has the runner's listener suspended, the listener continues.\n\
         ExecStopPost=-/bin/sh -c '[ \"$$SERVICE_RESULT\" = success ] || exec systemctl kill --signal=CONT \"$${{1%%-upgrade}}.service\"' sh %N\n\
         # SIGTERM goes to runup, which undoes what it has begun.\n\
         KillMode=mixed\n\
         TimeoutStopSec=10min\n\
         # Near the end of support of the runner's version, it waits for the running job, which can take five days.\n\
         TimeoutStartSec=6d\n",
        program = percent(&unit.program.display().to_string()),
        choice = unit.choice(),
    );
    if let Some(file) = &upgrades.credential {
        let _ = writeln!(service, "{}", file.line());
    }
    let mut timer = headline(&unit.dir);
    let _ = write!(
        timer,
        "\n\
         [Unit]\n\
         Description=Daily check for a newer GitHub Actions runner in {dir}\n\
         \n\
         [Timer]\n\
         OnCalendar=*-*-* {at}:00\n\
         RandomizedDelaySec={spread}s\n\
         # A machine that was off at that time checks at the next boot.\n\
         Persistent=true\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n",
        at = upgrades.at,
        spread = upgrades.spread,
    );
    (service, timer)
}

/// `%` begins a specifier everywhere in a unit file.
fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word of a command line in a unit file.
fn quoted(word: &str) -> String {
    let escaped = percent(word).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$");
    // The text after a line break in a word would be read as a setting.
    let mut word = String::with_capacity(escaped.len());
    for letter in escaped.chars() {
        if letter.is_control() {
            let mut bytes = [0; 4];
            letter.encode_utf8(&mut bytes).bytes().for_each(|byte| {
                let _ = write!(word, "\\x{byte:02x}");
            });
        } else {
            word.push(letter);
        }
    }
    if word.is_empty() || word.contains(char::is_whitespace) || word.contains(['"', '\'', ';', '\\']) {
        format!("\"{word}\"")
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(main: Main) -> Unit {
        Unit {
            name: "runup-actions-runner.service".into(),
            dir: "/opt/actions-runner".into(),
            work: None,
            state: None,
            user: "actions-runner".into(),
            url: "https://github.com/octo%20org".into(),
            program: "/usr/bin/runup".into(),
            main,
            drain: 300,
            allow_metadata: false,
            upgrades: false,
            instance: None,
            in_target: false,
            private_tmp: false,
        }
    }

    #[test]
    fn an_instance_belongs_to_the_target_and_is_chosen_by_its_number_if_it_has_settings_of_its_own() {
        let alone = render(&unit(Main::Runsvc));
        assert!(!alone.contains(TARGET), "{alone}");
        let several = render(&Unit { in_target: true, ..unit(Main::Runsvc) });
        assert!(several.contains("\nPartOf=runup.target\n"), "{several}");
        assert!(several.ends_with("\nWantedBy=multi-user.target runup.target\n"), "{several}");
        // It is not restarted for that.
        assert_eq!(without_target(&several), alone);

        let instance = Some((3, "/opt/actions-runner".into()));
        let own = Unit { instance, dir: "/opt/actions-runner-3".into(), ..unit(Main::Runsvc) };
        let text = render(&own);
        assert!(text.contains("prepare-start --quiet --dir /opt/actions-runner --instance 3\n"), "{text}");
        assert!(text.contains("drain --quiet --dir /opt/actions-runner-3 "), "{text}");
        let upgrades = Upgrades { at: "03:00".into(), spread: 0, arguments: vec![], credential: None };
        let (upgrade, _) = render_upgrade(&own, &upgrades);
        assert!(upgrade.contains(" --window=2h --dir /opt/actions-runner --instance 3\n"), "{upgrade}");
    }

    #[test]
    fn the_service_runs_github_s_entry_point_as_the_runner_s_user() {
        let text = render(&unit(Main::Runsvc));
        assert!(text.contains("\nUser=actions-runner\n"));
        assert!(text.contains("\nExecStart=/bin/bash /opt/actions-runner/bin/runsvc.sh\n"));
        assert!(text.contains("for https://github.com/octo%%20org\n"), "a specifier is escaped");
        assert!(is_ours(&text, Path::new("/opt/actions-runner")));
        assert!(!is_ours(&text, Path::new("/opt/other")));
        assert!(!is_ours("[Unit]\n", Path::new("/opt/actions-runner")));
    }

    #[test]
    fn every_command_of_the_service_uses_the_same_state_directory() {
        let text = render(&Unit { state: Some("/srv/runup".into()), ..unit(Main::Runsvc) });
        for line in [
            "ExecStartPre=+/usr/bin/runup prepare-start --quiet --dir /opt/actions-runner --state-dir /srv/runup\n",
            "ExecStop=-/usr/bin/runup drain --quiet --dir /opt/actions-runner --state-dir /srv/runup --deadline 300\n",
            "InaccessiblePaths=-/var/lib/runup -/etc/runup -/srv/runup\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!render(&unit(Main::Runsvc)).contains("--state-dir"));
    }

    #[test]
    fn the_supervisor_gets_its_token_from_systemd_and_not_from_its_command_line() {
        let arguments = ["--name", "my runner $x"].map(String::from).to_vec();
        let text = render(&unit(Main::Supervisor {
            arguments,
            credential: Some(CredentialFile::Token("/etc/runup/token".into())),
        }));
        assert!(text.contains("\nExecStart=/usr/bin/runup run --name \"my runner $$x\"\n"), "{text}");
        assert!(text.contains("\nLoadCredential=runup.token:/etc/runup/token\n"));
        assert!(!text.contains("User="));
    }

    #[test]
    fn only_a_unit_that_may_has_a_tmp_of_its_own() {
        let main = Main::Supervisor { arguments: vec![], credential: None };
        assert!(!render(&unit(main.clone())).contains("PrivateTmp"));
        let text = render(&Unit { private_tmp: true, ..unit(main) });
        assert!(text.contains("\nPrivateTmp=yes\n"), "{text}");
        // Where there are no namespaces at all, systemd ignores PrivateTmp=, but refuses to start what has this.
        assert!(!text.contains("TemporaryFileSystem="), "{text}");
    }

    #[test]
    fn an_argument_cannot_end_its_line() {
        let arguments = vec!["--token-command=export A=\"1\"\nExecStartPre=/bin/evil\t%n\u{85}".to_owned()];
        let text = render(&unit(Main::Supervisor { arguments, credential: None }));
        let expected = r#"run "--token-command=export A=\"1\"\x0aExecStartPre=/bin/evil\x09%%n\xc2\x85""#;
        assert!(text.contains(expected), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("ExecStartPre")), "{text}");
    }

    #[test]
    fn the_upgrade_units_belong_to_the_service_and_hold_no_secret() {
        let main = Unit { upgrades: true, ..unit(Main::Runsvc) };
        let upgrades = Upgrades {
            at: "03:00".into(),
            spread: 7200,
            arguments: vec!["--ca-file=/etc/my ca.pem".into()],
            credential: Some(CredentialFile::Token("/etc/runup/token".into())),
        };
        let (service, timer) = render_upgrade(&main, &upgrades);
        for text in [&service, &timer] {
            assert!(is_ours(text, Path::new("/opt/actions-runner")), "{text}");
        }
        let line = "\nExecStart=/usr/bin/runup upgrade --daily --quiet --window=2h --dir /opt/actions-runner \
                    \"--ca-file=/etc/my ca.pem\"\n";
        assert!(service.contains(line), "{service}");
        assert!(service.contains("\nLoadCredential=runup.token:/etc/runup/token\n"), "{service}");
        assert!(service.contains("kill --signal=CONT \"$${1%%-upgrade}.service\"' sh %N\n"), "{service}");
        assert!(timer.contains("\nOnCalendar=*-*-* 03:00:00\nRandomizedDelaySec=7200s\n"), "{timer}");
        let start = "\nExecStartPost=-+/bin/systemctl start --no-block %N-upgrade.service\n";
        assert!(render(&main).contains(start));
        assert!(!render(&unit(Main::Runsvc)).contains("upgrade"));
    }

    #[test]
    fn the_key_of_an_app_reaches_the_unit_as_a_credential_of_systemd() {
        let credential = Some(CredentialFile::AppKey("/etc/runup/app 100%.pem".into()));
        let text = render(&unit(Main::Supervisor { arguments: vec![], credential: credential.clone() }));
        let line = "\nLoadCredential=runup.app-key:/etc/runup/app 100%%.pem\n";
        assert!(text.contains(line), "{text}");
        let upgrades = Upgrades { at: "03:00".into(), spread: 0, arguments: vec![], credential };
        assert!(render_upgrade(&unit(Main::Runsvc), &upgrades).0.contains(line));
    }

    #[test]
    fn every_setting_says_why_it_is_there() {
        for main in [
            Main::Runsvc,
            Main::Supervisor { arguments: vec![], credential: Some(CredentialFile::AppKey("/t".into())) },
        ] {
            let text = render(&unit(main));
            let service = text.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
            assert!(service.matches("# ").count() >= 6, "{service}");
        }
    }

    #[test]
    fn no_two_directories_share_a_unit() {
        assert_eq!(name(Path::new("/opt/actions-runner")), "runup-actions-runner.service");
        // As `systemd-escape --path` has them.
        assert_eq!(name(Path::new("/srv/a/actions-runner")), "runup-srv-a-actions\\x2drunner.service");
        assert_eq!(name(Path::new("/srv/my runner@2")), "runup-srv-my\\x20runner\\x402.service");
        assert_eq!(name(Path::new("/.hidden/ü")), "runup-\\x2ehidden-\\xc3\\xbc.service");
        assert_ne!(name(Path::new("/actions/runner")), "runup-actions-runner.service");
        let long = format!("/srv/{}", "ü".repeat(60));
        assert!(
            name(Path::new(&long)).len() <= LONGEST_NAME
                && name(Path::new(&long)) != name(Path::new(&format!("{long}x")))
        );
        assert_eq!(short_name(Path::new("/srv/my runner@2")), "runup-my-runner-2.service");
    }
}
