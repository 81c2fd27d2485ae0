//! `--metrics`: files that `node_exporter`'s textfile collector reads, and that never fail a command.

use crate::rig::{Rig, finish, names_in, signal, until};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A sample: its name, its labels, and its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Every sample in the directory. As strict as `node_exporter` is about files, and as Prometheus is about text: each metric has
/// one HELP and one TYPE before its samples, the same ones in every file, and no two samples have the same name and labels.
fn samples(dir: &Path) -> Vec<Sample> {
    let (mut heads, mut seen, mut all) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    // A name with a dot in front is of a file that is not complete; the collector reads only what ends with `.prom`.
    for name in names_in(dir).into_iter().filter(|name| !name.starts_with('.')) {
        assert!(name.starts_with("runup-") && name.ends_with(".prom"), "{name}");
        let path = dir.join(&name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644, "{name}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'), "{name}: {text}");
        let mut lines = text.lines().peekable();
        let mut here = BTreeSet::new();
        while let Some(line) = lines.next() {
            let (metric, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
            let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {metric} ")).unwrap();
            assert!(["gauge", "counter"].contains(&kind) && here.insert(metric.to_owned()), "{name}: {line}");
            let head = heads.entry(metric.to_owned()).or_insert_with(|| (help.to_owned(), kind.to_owned()));
            assert_eq!(*head, (help.to_owned(), kind.to_owned()), "the same in every file");
            let mut number = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let sample = parsed(line);
                assert_eq!(sample.0, metric, "{line}");
                assert!(seen.insert((sample.0.clone(), sample.1.clone())), "twice: {line}");
                all.push(sample);
                number += 1;
            }
            assert!(number > 0, "{name}: {metric} has no sample");
        }
    }
    all
}

fn parsed(line: &str) -> Sample {
    let (name, mut rest) = line.split_once('{').unwrap();
    let mut labels = BTreeMap::new();
    loop {
        let (label, value) = rest.split_once("=\"").unwrap();
        assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
        let (mut text, mut letters) = (String::new(), value.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match letters.next().unwrap().1 {
                    'n' => text.push('\n'),
                    escaped @ ('\\' | '"') => text.push(escaped),
                    other => panic!("\\{other} in {line}"),
                },
                (_, letter) => text.push(letter),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
        match value[end + 1..].strip_prefix(',') {
            Some(next) => rest = next,
            None => {
                return (
                    name.to_owned(),
                    labels,
                    value[end + 1..].strip_prefix("} ").unwrap().parse().unwrap(),
                );
            }
        }
    }
}

/// The value of the only sample of this name with these labels.
#[track_caller]
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let is = |sample: &&Sample| {
        sample.0 == name
            && labels.iter().all(|(label, value)| sample.1.get(*label).is_some_and(|it| it == value))
    };
    let found: Vec<&Sample> = samples.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:#?} of {samples:#?}");
    found[0].2
}

fn metrics_of(rig: &Rig) -> std::path::PathBuf {
    let dir = rig.root().join("metrics");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn what_is_known_of_a_runner_is_there_from_its_installation_to_its_removal() {
    let rig = Rig::new();
    let dir = metrics_of(&rig);
    let metrics = dir.to_str().unwrap();
    let version = rig.sandbox.runner_version();
    rig.run(&["install", "--metrics", metrics]).expect(0);
    let now = f64::from(u32::try_from(jiff::Timestamp::now().as_second()).unwrap());
    let all = samples(&dir);
    assert!(all.iter().all(|(_, labels, _)| labels["dir"] == "/opt/actions-runner"), "{all:#?}");
    assert!((value(&all, "runup_runner_info", &[("version", &version)]) - 1.0).abs() < f64::EPSILON);
    let newest = value(&all, "runup_runner_newest_timestamp_seconds", &[]);
    assert!((newest - now).abs() < 600.0, "{newest}");
    assert!(value(&all, "runup_last_exit_code", &[("command", "install")]).abs() < f64::EPSILON);
    let phase = value(&all, "runup_last_phase_seconds", &[("command", "install"), ("phase", "place")]);
    assert!((0.0..60.0).contains(&phase), "{phase}");
    let facts = value(&all, "runup_facts_timestamp_seconds", &[]);
    assert!((facts - now).abs() < 600.0, "{facts}");

    // A failure has the name of its error, in place of the success.
    rig.run(&["install", "--metrics", metrics, "--name", "another"]).expect(78);
    let all = samples(&dir);
    let failed: Vec<&Sample> = all.iter().filter(|sample| sample.0 == "runup_last_exit_code").collect();
    assert!(failed.len() == 1 && (failed[0].2 - 78.0).abs() < f64::EPSILON, "{failed:?}");
    assert!(!failed[0].1["error"].is_empty(), "{failed:?}");

    rig.sandbox.requests_clear();
    rig.run(&["status", "--local", "--metrics", metrics]);
    assert_eq!(rig.routes(), [] as [&str; 0], "no call is made for them");
    rig.run(&["status", "--metrics", metrics]).expect(0);
    assert!(value(&samples(&dir), "runup_online", &[]).abs() < f64::EPSILON, "nothing runs it");

    std::fs::write(dir.join("another.prom"), "").unwrap();
    rig.run(&["remove", "--metrics", metrics]).expect(0);
    assert_eq!(names_in(&dir), ["another.prom"]);
}

#[test]
fn a_run_counts_its_jobs_and_those_of_the_runs_before_it() {
    let rig = Rig::new();
    let dir = metrics_of(&rig);
    for number in [1.0, 2.0] {
        let child = rig.start(&["run", "--drain", "50s", "--metrics", dir.to_str().unwrap()]);
        rig.sandbox.add_job(&crate::rig::SCOPE.parse().unwrap(), "build", 0);
        until("the job is counted", || {
            let counted =
                |sample: &Sample| sample.0 == "runup_jobs_total" && sample.1["result"] == "succeeded";
            samples(&dir).iter().any(|sample| counted(sample) && (sample.2 - number).abs() < f64::EPSILON)
        });
        assert!((value(&samples(&dir), "runup_online", &[]) - 1.0).abs() < f64::EPSILON);
        let ends = samples(&dir).iter().filter(|sample| sample.0 == "runup_last_exit_code").count();
        assert_eq!(ends, usize::from(number > 1.0), "the end of the run before stays");
        signal(&child, Signal::TERM);
        finish(child).expect(0);
        let all = samples(&dir);
        assert!(value(&all, "runup_online", &[]).abs() < f64::EPSILON);
        assert!((value(&all, "runup_jobs_total", &[("result", "succeeded")]) - number).abs() < f64::EPSILON);
        assert!(value(&all, "runup_jobs_total", &[("result", "failed")]).abs() < f64::EPSILON);
        assert!(value(&all, "runup_last_exit_code", &[("command", "run")]).abs() < f64::EPSILON);
    }
}

#[test]
fn the_runners_of_a_machine_have_a_file_each_and_no_sample_twice() {
    let rig = Rig::new().making_a_user();
    if rig.user.is_some() && !rig.makes_a_user() {
        return println!("skipped: this machine has no tools to create users");
    }
    let dir = metrics_of(&rig);
    rig.run(&["install", "--name", "box", "--count", "2", "--metrics", dir.to_str().unwrap()]).expect(0);
    let all = samples(&dir);
    for runner in ["/opt/actions-runner", "/opt/actions-runner-2"] {
        let labels = [("dir", runner), ("command", "install"), ("phase", "config.sh")];
        assert!(value(&all, "runup_last_phase_seconds", &labels) >= 0.0);
    }
}

#[test]
fn metrics_that_cannot_be_written_fail_nothing_and_are_mentioned_once() {
    let rig = Rig::new();
    for metrics in ["/nowhere", "/dev/null"] {
        let ran = rig.run(&["install", "--metrics", metrics]).expect(0).says(metrics);
        assert_eq!(ran.stderr.matches("the metrics were not written").count(), 1, "{ran:#?}");
    }
    if rustix::process::geteuid().is_root() {
        let dir = metrics_of(&rig);
        std::os::unix::fs::chown(&dir, Some(65534), None).unwrap();
        rig.run(&["install", "--metrics", dir.to_str().unwrap()])
            .expect(0)
            .says("belongs to the user nobody");
        assert_eq!(names_in(&dir), [] as [&str; 0]);
    }
    rig.assert_exactly_one_runner();
}
