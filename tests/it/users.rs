//! The runner's user: its ids, and where users come from.

use super::rig::Rig;

fn file(rig: &Rig, name: &str) -> String {
    std::fs::read_to_string(rig.root().join("etc").join(name)).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_user_that_runup_creates_gets_the_wanted_ids_and_goes_with_the_runner() {
    let rig = Rig::new().making_a_user();
    if !is_root() {
        rig.run(&["plan", "--user-id", "4711"]).expect(64).says("--user-id needs root");
        return;
    }
    if !rig.makes_a_user() {
        return;
    }
    let wanted = ["--user-id", "4711", "--group-id", "4712"];
    rig.run(&[&["plan"], &wanted[..]].concat())
        .expect(0)
        .says("create the system user fresh with the user id 4711 and the group id 4712");
    for command in ["bake", "install"] {
        rig.run(&[&[command], &wanted[..]].concat()).expect(0);
        assert!(file(&rig, "passwd").contains(":4711:4712:"), "{}", file(&rig, "passwd"));
        assert!(file(&rig, "group").contains(":4712:"), "{}", file(&rig, "group"));
    }
    // It is there now, and has these ids.
    rig.run(&[&["install"], &wanted[..]].concat()).expect(0).says("nothing to do");
    for (option, id, found) in [("--user-id", "4713", "4711"), ("--group-id", "4711", "4712")] {
        for command in ["plan", "install", "bake"] {
            rig.run(&[command, option, id])
                .expect(78)
                .says(&format!("id {found}, but {option} {id} was requested"));
        }
    }
    rig.run(&["remove"]).expect(0);
    assert!(!file(&rig, "group").contains("fresh"), "{}", file(&rig, "group"));
    rig.assert_nothing_left();

    // A user and its group have the same id if they can.
    rig.run(&["install", "--user-id", "4711"]).expect(0);
    assert!(file(&rig, "passwd").contains(":4711:4711:"), "{}", file(&rig, "passwd"));
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn an_id_that_cannot_be_the_user_s_is_refused_before_anything_is_done() {
    if !is_root() {
        return;
    }
    let rig = Rig::new().making_a_user();
    rig.write("etc/group", "root:x:0:\nnogroup:x:65534:\nusers:x:100:\n");
    rig.write("etc/passwd", format!("{}ci:x:1001:100::/:/bin/sh\n", file(&rig, "passwd")));
    for id in ["0", "65534", "65535", "4294967294", "4294967295", "99999999999"] {
        for option in ["--user-id", "--group-id"] {
            rig.run(&["plan", option, id]).expect(78).says(&format!("{option} {id} cannot be used"));
        }
    }
    let theirs = rig.user == Some("nobody");
    for command in ["plan", "install", "bake"] {
        if !theirs {
            rig.run(&[command, "--user-id", "1001"]).expect(78).says("the user ci has it");
            rig.run(&[command, "--group-id", "100"]).expect(78).says("the group users has it");
        }
    }
    assert!(!rig.dir().exists() && rig.state().runners.is_empty());
}

#[test]
fn a_named_user_of_an_image_is_not_created_where_a_directory_service_could_have_it() {
    let mut rig = Rig::new().making_a_user();
    rig.write("etc/nsswitch.conf", "passwd: files [NOTFOUND=continue] sss systemd\n");
    if !rig.makes_a_user() {
        return;
    }
    for command in ["plan", "install", "bake"] {
        let ran = rig.run(&[command]).expect(78).says("the user fresh is not in the image's /etc/passwd");
        assert!(ran.stderr.contains("from sss\n") && ran.stderr.contains("useradd"), "{ran:#?}");
    }
    rig.assert_nothing_left();
    // These are on every machine.
    rig.write("etc/nsswitch.conf", "passwd: files systemd\n");
    rig.run(&["plan"]).expect(0).says("create the system user fresh");
    // The default user is runup's own.
    rig.write("etc/nsswitch.conf", "passwd: files sss\n");
    rig.user = None;
    rig.run(&["plan"]).expect(0).says("create the system user actions-runner");
}
