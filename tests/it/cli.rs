//! The command line itself: the layers of settings, help, generated files, and what goes to which stream.

use crate::rig::{Ran, Rig, finish};
use runup::error::Class;
use serde_json::Value;
use std::process::Command;

/// The options that `COMMAND --help` lists, without their dashes.
pub fn options_of(rig: &Rig, command: &[&str]) -> Vec<String> {
    let mut arguments = command.to_vec();
    arguments.push("--help");
    let help = finish(rig.command(&arguments).spawn().unwrap()).expect(0).stdout;
    // The text of an option is indented further.
    help.lines()
        .filter_map(|line| {
            line.strip_prefix("      --")
                .or_else(|| line.strip_prefix("  -")?.split_once(", --").map(|it| it.1))
        })
        .map(|line| line.split([' ', '=', '[']).next().unwrap().to_owned())
        .filter(|option| option != "help" && option != "version")
        .collect()
}

fn ran(command: &mut Command) -> Ran {
    finish(command.spawn().unwrap())
}

/// The value of `key` in the settings of a plan, and who set it.
fn setting(plan: &Ran, key: &str) -> (String, String) {
    let document = plan.json();
    let settings = document["settings"].as_array().unwrap();
    let found =
        settings.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("no {key}: {plan:#?}"));
    (found["value"].as_str().unwrap().to_owned(), found["origin"].as_str().unwrap().to_owned())
}

#[test]
fn the_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "name = \"from-file\"\nlabels = [\"a\", \"b\"]\nephemeral = true\n");
    let plan = |arguments: &[&str], environment: Option<&str>| {
        let mut command = rig.on_machine(arguments);
        command.args(["--json"]);
        if let Some(name) = environment {
            command.env("RUNUP_NAME", name);
        }
        ran(&mut command).expect(0)
    };
    let default = plan(&["plan"], None);
    assert_eq!(setting(&default, "name"), ("{hostname}-{machine-id}".into(), "default".into()));

    let configured = plan(&["plan", "--config", &file], None);
    assert_eq!(setting(&configured, "name"), ("from-file".into(), format!("file {file}")));
    assert_eq!(setting(&configured, "labels").0, "a,b");
    assert_eq!(setting(&configured, "ephemeral"), ("true".into(), format!("file {file}")));
    let command = configured.json()["config_sh"].as_str().unwrap().to_owned();
    assert!(command.contains("from-file") && command.contains("--ephemeral"), "{command}");

    let variable = plan(&["plan", "--config", &file], Some("from-environment"));
    assert_eq!(setting(&variable, "name"), ("from-environment".into(), "environment RUNUP_NAME".into()));

    let flag = plan(&["plan", "--config", &file, "--name", "from-flag"], Some("from-environment"));
    assert_eq!(setting(&flag, "name"), ("from-flag".into(), "flag".into()));
    assert!(flag.json()["config_sh"].as_str().unwrap().contains("from-flag"));
    // The text says it too.
    rig.run(&["plan", "--name", "x"]).expect(0).says("(flag)").says("(default)");
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let rig = Rig::new();
    let file = rig.write("elsewhere.toml", "name = \"from-file\"\n");
    let plan = ran(rig.on_machine(&["plan", "--json"]).env("RUNUP_CONFIG", &file)).expect(0);
    assert_eq!(setting(&plan, "name").1, format!("file {file}"));
}

/// A value that each option takes, and that is not its default.
fn example(option: &str) -> &'static str {
    match option {
        "url" | "api-url" | "mirror" => "https://github.com/octo",
        "sha256" => "0000000000000000000000000000000000000000000000000000000000000000",
        "deadline" | "drain" | "window" | "upgrade-spread" | "start-spread" => "77s",
        "upgrade-at" => "04:05",
        "service" | "cloud" => "none",
        "after-job" => "poweroff",
        "runner-version" => "2.336.0",
        "group" => "Default",
        "os" => "linux",
        "arch" => "arm64",
        "log-format" => "json",
        "token-via" => "argv",
        "dir"
        | "events"
        | "metrics"
        | "root"
        | "state-dir"
        | "ca-file"
        | "token-file"
        | "app-key-file"
        | "registration-token-file"
        | "remove-token-file"
        | "receipt"
        | "jit-config-out"
        | "jit-config-file"
        | "tool-cache" => "/nowhere",
        "proxy" => "http://proxy.test:3128",
        "env" => "A=1",
        "env-file" | "hook-job-started" | "hook-job-completed" => "/nowhere.sh",
        "path" => "/usr/bin:/bin",
        "status" => "online",
        "label-from" => "cloud",
        "metadata-url" => "http://169.254.169.254/",
        "no-proxy" => "internal.test",
        "groups" => "nogroup",
        "app-id" | "app-installation-id" | "user-id" | "group-id" => "4711",
        "count" => "3",
        "name" | "labels" | "label" | "prefix" | "work" | "user" | "archive" | "token-command"
        | "app-key-command" | "app-sign-command" => "word",
        _ => "true",
    }
}

/// Options that do not take every text.
const TYPED: [&str; 20] = [
    "app-installation-id",
    "count",
    "user-id",
    "group-id",
    "deadline",
    "drain",
    "window",
    "upgrade-at",
    "upgrade-spread",
    "start-spread",
    "cloud",
    "metadata-url",
    "label-from",
    "service",
    "os",
    "arch",
    "log-format",
    "token-via",
    "sha256",
    "runner-version",
];

#[test]
fn each_option_reads_its_variable_and_its_key() {
    let rig = Rig::new();
    let mut seen = 0;
    for command in [
        &["install"] as &[&str],
        &["bake"],
        &["upgrade"],
        &["remove"],
        &["status"],
        &["logs"],
        &["plan"],
        &["downloads"],
        &["token", "registration"],
        &["runners", "list"],
        &["runners", "show", "1"],
        &["runners", "delete", "1"],
        &["runners", "prune"],
        &["runners", "create-jit"],
        &["runners", "delete-on-stop"],
    ] {
        for option in options_of(&rig, command) {
            // Only a person decides which runners a command is about.
            if ["config", "all", "instance"].contains(&option.as_str()) {
                continue;
            }
            seen += 1;
            // A variable or key that nobody reads would not complain of what no option takes.
            let is_switch = example(&option) == "true";
            let bad = if TYPED.contains(&option.as_str()) || is_switch { "no such value" } else { continue };
            let variable = format!("RUNUP_{}", option.replace('-', "_").to_uppercase());
            ran(rig.command(command).env(&variable, bad)).expect(64).says(&option);
            let file = rig.write("config.toml", format!("{option} = {bad:?}\n"));
            ran(rig.command(command).args(["--config", &file])).expect(78).says(&option);
        }
    }
    assert!(seen > 80, "only {seen} options");
}

#[test]
fn each_option_arrives_from_the_environment_and_from_the_file() {
    let rig = Rig::new();
    let options = options_of(&rig, &["plan"]);
    // What --deps would install is a question for a system that is known.
    rig.write("etc/os-release", "ID=debian\n");
    let mine: Vec<&String> = options
        .iter()
        .filter(|it| !["config", "json", "verbose", "quiet", "log-format"].contains(&it.as_str()))
        // These are read before anything is planned.
        .filter(|it| {
            ![
                "url",
                "api-url",
                "token-file",
                "token-command",
                "app-id",
                "app-key-file",
                "app-key-command",
                "app-sign-command",
                "app-installation-id",
                "ca-file",
                "root",
                "user",
                "archive",
                "mirror",
                "sha256",
            ]
            .contains(&it.as_str())
        })
        // And these exclude another one, or give another document.
        .filter(|it| {
            !["registration-token-file", "self-update", "adopt", "label-from", "count"].contains(&it.as_str())
        })
        // Files that are not there are refused, and of a variable only the name is shown.
        .filter(|it| {
            ![
                "env",
                "env-file",
                "hook-job-started",
                "hook-job-completed",
                "tool-cache",
                "groups",
                "user-id",
                "group-id",
            ]
            .contains(&it.as_str())
        })
        .collect();
    let lines: Vec<String> = mine.iter().map(|it| format!("{it} = {:?}", example(it))).collect();
    let file = rig.write("config.toml", lines.join("\n"));
    let from_file = ran(rig.on_machine(&["plan", "--json", "--config", &file]).env("LC_ALL", "C")).expect(0);
    let mut command = rig.on_machine(&["plan", "--json"]);
    for option in &mine {
        command.env(format!("RUNUP_{}", option.replace('-', "_").to_uppercase()), example(option));
    }
    let from_environment = ran(&mut command).expect(0);
    for option in mine {
        assert_eq!(setting(&from_file, option), (example(option).into(), format!("file {file}")), "{option}");
        let variable = format!("environment RUNUP_{}", option.replace('-', "_").to_uppercase());
        assert_eq!(setting(&from_environment, option), (example(option).into(), variable), "{option}");
    }
}

#[test]
fn what_is_wrong_with_the_file_is_said_with_its_path() {
    let rig = Rig::new();
    let with = |content: &str| {
        let file = rig.write("config.toml", content);
        rig.run(&["plan", "--config", &file]).says("config.toml")
    };
    with("nmae = \"x\"\n").expect(78).says("nmae").says("hint: ");
    with("name = \n").expect(78).says("TOML");
    with("name = { a = 1 }\n").expect(78).says("\"name\"");
    with("deadline = \"soon\"\n").expect(78).says("soon").says("deadline");
    with("name = \"{hostnam}\"\n").expect(78).says("hostnam");
    rig.run(&["plan", "--config", "/nowhere/config.toml"])
        .expect(66)
        .says("/nowhere/config.toml")
        .says("hint: ");
    ran(&mut rig.command(&["plan", "--config"])).expect(64).says("--config");
    // The same values on the command line are the caller's mistake.
    rig.run(&["plan", "--deadline", "soon"]).expect(64).says("soon");
    rig.run(&["plan", "--name", "{hostnam}"]).expect(64).says("hostnam");
}

#[test]
fn a_flag_that_is_right_heals_no_file_that_is_wrong() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "deadline = \"soon\"\n");
    // Only what is in force is looked at.
    rig.run(&["plan", "--config", &file, "--deadline", "5m"]).expect(0);
    rig.run(&["plan", "--config", &file, "--deadline", "later"]).expect(64).says("later");
}

#[test]
fn help_lists_every_exit_code() {
    let rig = Rig::new();
    let help = ran(&mut rig.command(&["--help"])).expect(0);
    assert_eq!(help.stderr, "");
    for class in Class::ALL {
        let line = format!("{:<4} {}", class.exit_code(), class.meaning());
        assert!(help.stdout.contains(&line), "no {line:?} in {help:#?}");
    }
    ran(&mut rig.command(&["--version"])).expect(0).says(env!("CARGO_PKG_VERSION"));
    ran(&mut rig.command(&["-h"])).expect(0).says("install");
}

#[test]
fn what_the_command_line_does_not_know_is_64() {
    let rig = Rig::new();
    ran(&mut rig.command(&["install", "--no-such-flag"])).expect(64).says("--no-such-flag");
    ran(&mut rig.command(&["instal"])).expect(64).says("install");
    ran(&mut rig.command(&[])).expect(64).says("Usage");
    ran(&mut rig.command(&["runners"])).expect(64).says("list");
    ran(&mut rig.command(&["runners", "show"])).expect(64);
    ran(&mut rig.command(&["install", "--quiet", "--verbose"])).expect(64);
    ran(&mut rig.command(&["install"])).expect(64).says("--url").says("hint: ");
}

#[test]
fn an_unknown_option_key_or_command_is_answered_with_the_one_that_means_the_same() {
    let rig = Rig::new();
    let hint = |arguments: &[&str], code: i32| {
        let ran = ran(&mut rig.command(arguments)).expect(code);
        ran.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default().to_owned()
    };
    for (unknown, meant) in [
        ("--organisation", "Use --url <URL>"),
        ("--org", "Use --url <URL>"),
        ("--repo", "Use --url <URL>"),
        ("--owner", "Use --url <URL>"),
        ("--pat", "Use --token-file <FILE>"),
        ("--token", "Use --token-file <FILE>"),
        ("--label", "Use --labels <LABELS>"),
        ("--lables", "Use --labels <LABELS>"),
        ("--folder", "Use --dir <DIR>"),
        ("--directory", "Use --dir <DIR>"),
        ("--runnergroup", "Use --group <NAME>"),
        ("--dry-run", "`runup plan`"),
        ("--unattended", "Omit it"),
        ("--window", "--window is an option of `runup upgrade`"),
        ("--frobnicate", "`runup install --help`"),
    ] {
        let hint = hint(&["install", unknown], 64);
        assert!(hint.starts_with(meant), "{unknown}: {hint}");
        // As a key; a label and a window are keys of other commands.
        let word = unknown.trim_start_matches("--");
        let Some(option) = meant.strip_prefix("Use --").filter(|_| word != "label") else { continue };
        let file = rig.write("config.toml", format!("{word} = \"x\"\n"));
        let key = option.split(' ').next().unwrap();
        let ran = ran(&mut rig.command(&["install", "--config", &file]));
        ran.expect(78).says(word).says(&format!("hint: Use `{key} = …`"));
    }
    for (unknown, meant) in [
        ("uninstall", "runup remove"),
        ("deregister", "runup remove"),
        ("unregister", "runup remove"),
        ("delete", "runup remove"),
        ("register", "runup install"),
        ("setup", "runup install"),
        ("configure", "runup install"),
        ("start", "runup run"),
        ("instal", "runup install"),
    ] {
        let hint = hint(&[unknown], 64);
        assert!(hint.starts_with(&format!("Use `{meant}`")), "{unknown}: {hint}");
    }
    assert!(hint(&["runners", "rm", "1"], 64).starts_with("Use `runup runners delete`"));
}

#[test]
fn what_could_be_a_secret_is_not_repeated() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "token-file = hunter2\n");
    for arguments in [
        &["install", "--pat=hunter2"] as &[&str],
        &["install", "--pat", "hunter2"],
        &["install", "hunter2"],
        &["install", "--hunter2"],
        &["hunter2"],
        &["runners", "hunter2"],
        &["install", "--json", "hunter2"],
        &["install", "--config", &file],
    ] {
        let ran = ran(&mut rig.command(arguments));
        assert!([64, 78].contains(&ran.code) && !ran.all().contains("hunter2"), "{ran:#?}");
    }
}

#[test]
fn a_failure_is_one_json_document_where_json_was_asked_for() {
    let rig = Rig::new();
    let failed = rig.ask(&["runners", "show", "nobody", "--json"]).expect(69);
    let error = failed.json()["error"].clone();
    assert_eq!(error["class"], "unavailable");
    assert_eq!(error["exit_code"], 69);
    assert!(error["message"].as_str().unwrap().contains("nobody"), "{error}");
    assert!(error["hint"].as_str().unwrap().ends_with('.'), "{error}");
    assert!(failed.stderr.contains("error: "), "people read stderr as before");
    // Also where the command line or the file is what is wrong.
    let error = |arguments: &[&str]| ran(&mut rig.command(arguments)).json()["error"].clone();
    for (arguments, code, word) in [
        (vec!["install", "--json"], 64, "--url"),
        (vec!["install", "--json", "--no-such-flag"], 64, "--no-such-flag"),
        (vec!["install", "--json", "--deadline", "soon"], 64, "soon"),
        (vec!["--json", "install", "--config", "/nowhere.toml"], 66, "/nowhere.toml"),
    ] {
        let error = error(&arguments);
        assert_eq!(error["exit_code"], code, "{arguments:?} {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
}

#[test]
fn the_log_can_be_json_line_by_line() {
    let rig = Rig::new();
    let installed = rig.run(&["install", "--log-format", "json", "--verbose", "--replace"]).expect(0);
    let lines = |ran: &Ran| -> Vec<Value> {
        let parsed = ran.stderr.lines().map(serde_json::from_str);
        parsed.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
    };
    let log = lines(&installed);
    assert!(log.iter().any(|line| line["phase"] == "config.sh"), "{log:#?}");
    let failed = rig.run(&["install", "--log-format", "json", "--name", "another"]).expect(78);
    let last = lines(&failed).pop().unwrap();
    assert_eq!((last["exit_code"].clone(), last["class"].clone()), (78.into(), "config".into()));
    assert_eq!(last["level"], "ERROR");
    let missing = rig.run(&["install", "--log-format", "json", "--config", "/nowhere.toml"]).expect(66);
    assert_eq!(lines(&missing).pop().unwrap()["exit_code"], 66);
    let usage = rig.run(&["install", "--log-format", "json", "--no-such-flag"]).expect(64);
    assert_eq!(lines(&usage).pop().unwrap()["exit_code"], 64);
}

#[test]
fn quiet_is_silent_on_success_and_stdout_is_the_result_only() {
    let rig = Rig::new();
    // Something to tell the architecture by, as any machine has; without, there is a warning.
    rig.write("bin/sh", std::fs::read("/bin/sh").unwrap());
    let quiet = rig.run(&["install", "--quiet"]).expect(0);
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.stdout.lines().count(), 1, "{quiet:#?}");
    assert_eq!(rig.run(&["remove", "--quiet"]).expect(0).stderr, "");
    let loud = rig.run(&["install", "--verbose"]).expect(0);
    assert_eq!(loud.stdout.lines().count(), 1, "{loud:#?}");
    assert!(loud.stderr.contains("config.sh: "), "{loud:#?}");
    assert!(!loud.stderr.contains('\u{1b}'), "no colour in a pipe");
    let failed = rig.run(&["install", "--name", "another"]).expect(78);
    assert_eq!(failed.stdout, "");
}

#[test]
fn a_plan_does_nothing() {
    let rig = Rig::new();
    let before = rig.everything();
    let plan = rig.run(&["plan", "--name", "box", "--labels", "gpu"]).expect(0);
    assert_eq!(rig.everything(), before);
    assert!(rig.sandbox.requests().iter().all(|request| request.method == "GET"));
    for word in
        ["place-runner", "register", "/opt/actions-runner/config.sh", "--unattended", "[secret]", "--labels"]
    {
        assert!(plan.stdout.contains(word), "no {word:?} in {plan:#?}");
    }
    assert!(!plan.all().contains(rig.sandbox.token().expose()));
    rig.assert_nothing_left();

    // Where there is nothing to do, it says that.
    rig.run(&["install", "--name", "box"]).expect(0);
    let before = rig.everything();
    let plan = rig.run(&["plan", "--name", "box", "--json"]).expect(0).json();
    let actions: Vec<&Value> =
        plan["steps"].as_array().unwrap().iter().map(|step| &step["action"]["action"]).collect();
    assert!(actions.iter().all(|action| **action == "keep"), "{plan:#}");
    assert_eq!(rig.everything(), before);
}

#[test]
fn where_a_wrong_value_stands_is_said() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "deadline = \"soon\"\n");
    let both = |command: &mut Command| ran(command.args(["plan", "--config", &file])).says("soon");
    both(&mut rig.command(&[])).expect(78).says(&file);
    both(rig.command(&[]).env("RUNUP_DEADLINE", "soon")).expect(64).says("variable RUNUP_DEADLINE");
    both(rig.command(&["--json"]).env("RUNUP_DEADLINE", "soon")).expect(64).says("variable RUNUP_DEADLINE");
}

#[test]
fn an_empty_variable_is_none() {
    let rig = Rig::new();
    for (command, arguments) in [("install", &["plan"][..]), ("run", &["run", "--deadline", "0s"])] {
        let mut child = rig.on_machine(arguments);
        for option in options_of(&rig, &[command]) {
            child.env(runup::settings::layers::variable(&option), "");
        }
        let ran = finish(child.spawn().unwrap());
        // `run` has parsed its options, and had no time for more.
        assert_eq!(ran.code, if command == "run" { 75 } else { 0 }, "{ran:#?}");
    }
    let mut plan = rig.on_machine(&["plan", "--json"]);
    let plan = finish(plan.env("RUNUP_WORK", "").env("RUNUP_DRAIN", "").spawn().unwrap()).expect(0);
    assert_eq!(setting(&plan, "work"), ("_work".into(), "default".into()));
}

#[test]
fn labels_from_the_file_go_with_a_flag_that_needs_them() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "labels = \"only\"\n");
    rig.run(&["plan", "--no-default-labels", "--config", &file]).expect(0);
    let file = rig.write("config.toml", "no-default-labels = true\n");
    rig.run(&["plan", "--config", &file]).expect(64).says("--no-default-labels needs --labels");
}

#[test]
fn a_broken_configuration_breaks_only_what_uses_it() {
    let rig = Rig::new();
    for text in ["no toml at all", "unknown-key = 1\n", "\n# a comment\nephemerall = true\n"] {
        let file = rig.write("broken.toml", text);
        for arguments in [
            &["--version"] as &[&str],
            &["--help"],
            &["install", "--help"],
            &["generate", "completions", "bash"],
        ] {
            ran(rig.command(arguments).env("RUNUP_CONFIG", &file)).expect(0);
        }
        ran(rig.command(&["status"]).env("RUNUP_CONFIG", &file)).expect(78).says(&file);
    }
    let file = rig.write("broken.toml", "\n# a comment\nephemerall = true\n");
    ran(&mut rig.command(&["plan", "--config", &file])).expect(78).says("line 3").says("`ephemeral = …`");
}

#[test]
fn a_flag_switches_off_what_the_file_or_the_environment_switches_on() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "ephemeral = true\nreplace = true\n");
    let plan = |arguments: &[&str]| {
        let mut command = rig.on_machine(&["plan", "--json", "--config", &file]);
        ran(command.args(arguments).env("RUNUP_DISABLE_UPDATE", "true")).expect(0)
    };
    let config_sh = |plan: &Ran| plan.json()["config_sh"].as_str().unwrap().to_owned();
    let all = config_sh(&plan(&[]));
    assert!(["--ephemeral", "--replace", "--disableupdate"].iter().all(|flag| all.contains(flag)), "{all}");
    let none = config_sh(&plan(&["--ephemeral=false", "--no-replace", "--no-disable-update"]));
    assert!(
        ["--ephemeral", "--replace", "--disableupdate"].iter().all(|flag| !none.contains(flag)),
        "{none}"
    );
    let last = config_sh(&plan(&["--no-ephemeral", "--ephemeral=true"]));
    assert!(last.contains("--ephemeral"), "{last}");
    rig.run(&["plan", "--ephemeral=maybe"]).expect(64).says("true or false").says("--no-ephemeral");
    rig.run(&["remove", "--no-ephemeral"]).expect(64).says("unknown option").says("`runup install`");
    rig.run(&["remove", "--ephemeral=false"]).expect(64).says("unknown option");
    // Whatever the file of a download is called.
    let mut renamed = rig.on_machine(&["remove", "--wat"]);
    std::os::unix::process::CommandExt::arg0(&mut renamed, "./runup-x86_64-unknown-linux-musl");
    ran(&mut renamed).expect(64).says("unknown option --wat of `runup remove`");
    rig.run(&["plan", "--name", "remove", "--no-ephemeral"]).expect(0);
    // An option that takes a word as well is switched off in the same way, and what comes last counts.
    let replaces = |arguments: &[&str]| config_sh(&plan(arguments)).contains("--replace");
    for (arguments, wanted) in [
        (&["--replace", "--no-replace"] as &[&str], false),
        (&["--replace=if-offline", "--no-replace"], false),
        (&["--no-replace", "--replace"], true),
    ] {
        assert_eq!(replaces(arguments), wanted, "{arguments:?}");
    }
}

#[test]
fn a_token_in_the_environment_wins_over_a_file_that_the_configuration_names() {
    let rig = Rig::new();
    let token = rig.write("token", "wrong-token\n");
    let file = rig.write("config.toml", format!("token-file = {token:?}\n"));
    // The token in the environment is the right one.
    ran(rig.on_machine(&["install", "--config", &file]).stdin(std::process::Stdio::null())).expect(0);
    ran(&mut rig.on_machine(&["status", "--token-file", &token])).says("401");
}

#[test]
fn an_ordinary_user_has_a_configuration_of_its_own() {
    let rig = Rig::new();
    if rustix::process::geteuid().is_root() {
        return;
    }
    rig.write(".config/runup/config.toml", "name = \"mine\"\n");
    let plan = rig.run(&["plan", "--json"]).expect(0);
    let own = rig.root().join(".config/runup/config.toml");
    assert_eq!(setting(&plan, "name"), ("mine".into(), format!("file {}", own.display())));
}
