//! Baking into an image that holds a runner already.

use crate::rig::Rig;
use runup::sandbox::Deprecation;
use sha2::Digest as _;
use std::io::{Read as _, Write as _};

const NEWER: &str = "2.340.0";

/// An image with a runner, and a newer one on offer; and the version that is in it.
fn image() -> (Rig, String) {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.sandbox.offer(NEWER);
    rig.routes();
    let version = holds(&rig);
    (rig, version)
}

fn holds(rig: &Rig) -> String {
    rig.run(&["bake", "--check", "--json"]).json()["version"].as_str().unwrap().to_owned()
}

pub fn fetch(rig: &Rig, path: &str) -> Vec<u8> {
    let base = rig.sandbox.base_url();
    let host = (base.host_str().unwrap(), base.port().unwrap());
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host.0).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    answer.split_off(end + 4)
}

#[test]
fn an_image_gets_the_newest_runner_each_time_it_is_baked() {
    let (rig, was) = image();
    assert_ne!(was, NEWER);
    let again = rig.run(&["bake", "--json"]).expect(0).json();
    assert_eq!((again["changed"].as_bool(), again["version"].as_str()), (Some(true), Some(NEWER)));
    assert_eq!(holds(&rig), NEWER);
    assert_eq!(rig.opt(), ["actions-runner"], "nothing of the old one");
    rig.run(&["bake"]).expect(0).says("nothing to do");
}

#[test]
fn who_says_so_keeps_what_the_image_holds() {
    let (rig, was) = image();
    for keep in [&["bake", "--no-refresh"][..], &["bake", "--runner-version", &was]] {
        rig.run(keep).expect(0).says("nothing to do");
        assert_eq!(holds(&rig), was);
    }
}

#[test]
fn a_runner_that_can_register_no_more_is_not_kept_silently_in_an_image() {
    let (rig, was) = image();
    rig.sandbox.deprecate(Deprecation {
        version: was.clone(),
        registration_deprecates_at: Some("2020-01-01T00:00:00Z".into()),
        runtime_deprecates_at: None,
        silent: false,
    });
    for keep in [&["bake", "--no-refresh"][..], &["bake", "--runner-version", &was]] {
        rig.run(keep).expect(80).says(&was).says(NEWER);
    }
    assert_eq!(holds(&rig), was);
}

#[test]
fn another_archive_than_the_one_in_the_image_takes_its_place() {
    let (rig, was) = image();
    let platform = rig.run(&["bake", "--check", "--json"]).json()["platform"].as_str().unwrap().to_owned();
    let named = |version: &str| {
        let bytes = fetch(&rig, &format!("_sandbox/mirror/{platform}/{version}"));
        let sha256 = hex::encode(sha2::Sha256::digest(&bytes));
        let file = rig.write(&format!("actions-runner-{platform}-{version}.tar.gz"), &bytes);
        move |rig: &Rig| rig.run(&["bake", "--archive", &file, "--sha256", &sha256])
    };
    let (newer, older) = (named(NEWER), named(&was));
    newer(&rig).expect(0).says("done: ");
    assert_eq!(holds(&rig), NEWER);
    newer(&rig).expect(0).says("nothing to do");
    older(&rig).expect(0).says("done: ");
    assert_eq!(holds(&rig), was, "it is what was named, be it older");
}
