//! The sources of an archive and of its digest: they are compared, and a disagreement stops everything.

use crate::rig::{Ran, Rig};
use serde_json::json;

const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };

fn filename(version: &str) -> String {
    format!("actions-runner-{PLATFORM}-{version}.tar.gz")
}

/// The bytes of an archive, and their digest.
fn archive(rig: &Rig, version: &str) -> (Vec<u8>, String) {
    let bytes = crate::rebake::fetch(rig, &format!("_sandbox/mirror/{PLATFORM}/{version}"));
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
    (bytes, sha256)
}

fn disagrees(ran: &Ran) {
    assert_eq!(ran.code, 65, "{ran:#?}");
    assert!(ran.stderr.contains("the sources disagree on the sha256 of actions-runner-"), "{ran:#?}");
    assert!(ran.stderr.ends_with("more: runup explain digests-disagree\n"), "{ran:#?}");
}

#[test]
fn the_list_is_confirmed_by_the_public_release_and_its_notes_which_get_no_credential() {
    let rig = Rig::new();
    let ran = rig.ask(&["downloads", "--verify", "--json"]).expect(0);
    let list = ran.json();
    let confirmed = |os: &str| {
        let one = list["downloads"].as_array().unwrap().iter().find(|one| one["os"] == os).unwrap();
        one["confirmed_by"].clone()
    };
    assert_eq!(confirmed("linux"), json!(["the asset of the release", "the notes of the release"]));
    assert_eq!(confirmed("haiku"), json!([]), "no release has it");
    // One for each version that is offered.
    assert_eq!(rig.asked("release"), 2);
    let requests = rig.sandbox.requests();
    let public: Vec<_> = requests.iter().filter(|request| request.route == "release").collect();
    assert!(public.iter().all(|request| request.scheme.is_empty()), "{public:#?}");
    rig.ask(&["downloads", "--verify"]).expect(0).says("CONFIRMED BY").says("nothing else");
    rig.routes();
    let plain = rig.ask(&["downloads"]).expect(0);
    assert!(!plain.stdout.contains("CONFIRMED"), "{plain:#?}");
    assert_eq!(rig.routes(), ["downloads"]);
}

#[test]
fn a_source_that_says_something_else_is_told_with_what_all_others_say() {
    let rig = Rig::new();
    let (_, sha256) = archive(&rig, "2.336.0");
    let wrong = "5ea1".repeat(16);
    for route in ["downloads", "release"] {
        rig.faults(&[&format!("{route}:wrong-checksum")]);
        let ran = rig.ask(&["downloads", "--verify"]);
        disagrees(&ran);
        for source in [
            "the list of runner applications says",
            "the asset of the release says",
            "the notes of the release says",
        ] {
            assert!(ran.stderr.contains(source), "{source}: {ran:#?}");
        }
        assert!(ran.stderr.contains(&wrong), "{ran:#?}");
        rig.sandbox.faults_clear();
    }
    let mirror = format!("{}_sandbox/mirror", rig.sandbox.base_url());
    let verify = ["downloads", "--verify", "--mirror", &mirror, "--sha256", &sha256];
    let ran = rig.ask(&verify).expect(0);
    assert!(
        ran.stdout.contains("--sha256") && ran.stdout.contains("/_sandbox/mirror/SHA256SUMS"),
        "{ran:#?}"
    );
    rig.faults(&["mirror-sums:wrong-checksum"]);
    let ran = rig.ask(&verify);
    disagrees(&ran);
    assert!(ran.stderr.contains(&format!("/_sandbox/mirror/SHA256SUMS says {wrong}")), "{ran:#?}");
    rig.sandbox.faults_clear();
    let ran = rig.ask(&["downloads", "--verify", "--sha256", &wrong]);
    disagrees(&ran);
    assert!(ran.stderr.contains(&format!("--sha256 says {wrong}")), "{ran:#?}");
    rig.ask(&["downloads", "--sha256", &wrong]).expect(64).says("--sha256 needs --verify");
}

#[test]
fn the_digest_of_the_configuration_file_counts_beside_that_of_the_command_line() {
    let rig = Rig::new();
    let (_, sha256) = archive(&rig, "2.336.0");
    let (_, old) = archive(&rig, "2.336.0");
    assert_eq!(sha256, old, "the archives of the fake server are always the same");
    let file = rig.write("config.toml", format!("sha256 = \"{}\"\n", "5ea1".repeat(16)));
    let ran = rig.ask(&["downloads", "--verify", "--config", &file, "--sha256", &sha256]);
    disagrees(&ran);
    assert!(
        ran.stderr.contains(&format!("{file} says 5ea1")) && ran.stderr.contains("--sha256 says"),
        "{ran:#?}"
    );
    let file = rig.write("config.toml", format!("sha256 = \"{sha256}\"\nrunner-version = \"2.336.0\"\n"));
    rig.ask(&["downloads", "--verify", "--config", &file]).expect(0).says(&file);
}

/// The version that a fleet has pinned may have left the list.
#[test]
fn a_digest_that_is_known_is_compared_with_something_or_refused() {
    let rig = Rig::new();
    let (_, sha256) = archive(&rig, "2.336.0");
    let wrong = "ab".repeat(32);
    // The list has one version, which is another one for this machine.
    rig.sandbox.offer("2.340.0");
    let list = rig.ask(&["downloads", "--json"]).expect(0).json();
    let list = list["downloads"].as_array().unwrap().clone();
    let newer: Vec<_> = list.into_iter().filter(|one| one["filename"] != filename("2.336.0")).collect();
    rig.answer("downloads", &json!(newer));
    let pinned = |digest: &str, version: &str| {
        rig.write("config.toml", format!("sha256 = \"{digest}\"\nrunner-version = \"{version}\"\n"))
    };

    // The public releases still have it.
    let file = pinned(&sha256, "2.336.0");
    rig.ask(&["downloads", "--verify", "--config", &file])
        .expect(0)
        .says(&format!("{} is not in the list", filename("2.336.0")))
        .says(&file);
    disagrees(&rig.ask(&["downloads", "--verify", "--config", &pinned(&wrong, "2.336.0")]));
    let flags = ["downloads", "--verify", "--runner-version", "2.336.0", "--sha256"];
    rig.ask(&[&flags[..], &[&sha256]].concat()).expect(0);
    disagrees(&rig.ask(&[&flags[..], &[&wrong]].concat()));

    // Nobody has it, however it was passed.
    let nothing = |ran: Ran, known: &str| {
        let says = format!("the sha256 of {} from {known} was compared with nothing", filename("2.300.0"));
        let ran = ran.expect(65).says(&says);
        assert!(ran.stderr.ends_with("more: runup explain nothing-to-compare\n"), "{ran:#?}");
    };
    let file = pinned(&wrong, "2.300.0");
    nothing(rig.ask(&["downloads", "--verify", "--config", &file]), &file);
    let flags = ["downloads", "--verify", "--runner-version", "2.300.0", "--sha256", &wrong];
    nothing(rig.ask(&flags), "--sha256");
    // Neither do the two of them confirm each other.
    nothing(rig.ask(&[&flags[..], &["--config", &file]].concat()), "--sha256");
}

#[test]
fn the_limit_of_the_public_releases_is_75_and_not_a_disagreement() {
    let rig = Rig::new();
    rig.faults(&["release:rate-limit=5000"]);
    let ran = rig.ask(&["downloads", "--verify"]).expect(75);
    assert!(ran.stderr.ends_with("more: runup explain release-limited\n"), "{ran:#?}");
}

#[test]
fn a_mirror_whose_sums_disagree_with_the_list_is_not_installed_from() {
    let rig = Rig::new();
    let mirror = format!("{}_sandbox/mirror", rig.sandbox.base_url());
    rig.faults(&["mirror-sums:wrong-checksum"]);
    disagrees(&rig.run(&["install", "--mirror", &mirror]));
    assert_eq!(rig.asked("mirror"), 0, "nothing was downloaded");
    rig.assert_nothing_left();
    rig.sandbox.faults_clear();
    // A mirror need not have any.
    rig.faults(&["mirror-sums:status=404"]);
    rig.run(&["install", "--mirror", &mirror]).expect(0);
    rig.assert_exactly_one_runner();
}

/// A mirror with nothing but the archives costs one request, whatever it answers.
#[test]
fn the_sums_of_a_mirror_are_asked_for_once_and_verify_says_that_they_are_missing() {
    for fault in ["mirror-sums:status=503", "mirror-sums:status=404", "mirror-sums:delay=forever"] {
        let rig = Rig::new();
        let mirror = format!("{}_sandbox/mirror", rig.sandbox.base_url());
        rig.faults(&[fault]);
        let ran = rig.ask(&["downloads", "--verify", "--mirror", &mirror]).expect(0);
        assert!(ran.stderr.contains("the mirror is not compared"), "{fault}: {ran:#?}");
        assert!(ran.stderr.contains("/_sandbox/mirror/SHA256SUMS"), "{fault}: {ran:#?}");
        assert_eq!(rig.asked("mirror-sums"), 1, "{fault}");
        rig.sandbox.requests_clear();
        rig.run(&["install", "--mirror", &mirror]).expect(0);
        assert_eq!(rig.asked("mirror-sums"), 1, "{fault}");
        rig.assert_exactly_one_runner();
    }
    // One that answers is asked once as well, for all archives of the list.
    let rig = Rig::new();
    let mirror = format!("{}_sandbox/mirror", rig.sandbox.base_url());
    let ran = rig.ask(&["downloads", "--verify", "--mirror", &mirror]).expect(0).says("SHA256SUMS");
    assert!(!ran.stderr.contains("not compared"), "{ran:#?}");
    assert_eq!(rig.asked("mirror-sums"), 1);
}

/// The recipe of docs/fleets.md: on a machine that reaches GitHub, and then on one that reaches the server alone.
#[test]
fn an_air_gapped_machine_is_installed_from_a_file_with_its_digest() {
    let rig = Rig::new();
    let list = rig.ask(&["downloads", "--verify", "--json"]).expect(0).json();
    let wanted = |one: &&serde_json::Value| one["filename"] == filename("2.336.0");
    let one = list["downloads"].as_array().unwrap().iter().find(wanted).unwrap();
    let digest = one["sha256_checksum"].as_str().unwrap();
    let (bytes, sha256) = archive(&rig, "2.336.0");
    assert_eq!(digest, sha256);
    let file = rig.write(&filename("2.336.0"), bytes);
    rig.routes();

    let install = ["install", "--archive", &file, "--sha256", digest];
    rig.run(&install).expect(0).says("as expected");
    rig.assert_exactly_one_runner();
    let routes = rig.routes();
    let outside = ["downloads", "release", "latest-release", "archive", "mirror", "mirror-sums"];
    assert!(!routes.iter().any(|route| outside.contains(&route.as_str())), "{routes:?}");
    rig.run(&install).expect(0).says("nothing to do");
    rig.run(&["remove"]).expect(0);
    rig.run(&["install", "--archive", &file, "--sha256", &"0".repeat(64)]).expect(65);
    rig.assert_nothing_left();
}

/// The other recipe: a version for a whole fleet, in the one file that all machines have.
#[test]
fn a_fleet_keeps_the_version_that_its_configuration_pins() {
    let rig = Rig::new();
    rig.sandbox.offer("2.340.0");
    // Older versions are offered for one platform.
    if PLATFORM != "linux-x64" {
        return;
    }
    let (_, sha256) = archive(&rig, "2.336.0");
    let config = rig.write("config.toml", format!("runner-version = \"2.336.0\"\nsha256 = \"{sha256}\"\n"));
    let run = |arguments: &[&str]| rig.run(&[arguments, &["--config", &config]].concat());
    rig.ask(&["downloads", "--verify", "--config", &config]).expect(0).says(&config);
    run(&["install"]).expect(0).says("runner 2.336.0");
    run(&["install"]).expect(0).says("nothing to do");
    let installed = run(&["install", "--json"]).expect(0).json();
    assert_eq!((installed["version"].as_str(), &installed["changed"]), (Some("2.336.0"), &json!(false)));
    rig.run(&["remove"]).expect(0);
    // Any other archive of that version is refused.
    let config =
        rig.write("config.toml", format!("runner-version = \"2.336.0\"\nsha256 = \"{}\"\n", "0".repeat(64)));
    disagrees(&rig.run(&["install", "--config", &config]));
}
