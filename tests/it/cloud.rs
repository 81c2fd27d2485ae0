//! Names and labels from the metadata service of the machine's cloud.

use super::rig::Rig;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

/// A metadata service of Google Cloud for a machine with this id.
fn metadata(id: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                head.push_str(&std::mem::take(&mut line));
            }
            let body = match head.split(' ').nth(1).unwrap_or_default() {
                "/computeMetadata/v1/instance/id" => id,
                "/computeMetadata/v1/instance/zone" => "projects/1/zones/europe-west1-b",
                "/computeMetadata/v1/instance/machine-type" => "projects/1/machineTypes/n2-standard-4",
                _ => "FALSE",
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

fn install<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "--cloud", "gcp", "--metadata-url", url];
    arguments.extend(["--name", "{region}-{instance-id}", "--label-from", "cloud", "--labels", "gpu"]);
    arguments.extend(more);
    arguments
}

#[test]
fn the_name_and_the_labels_come_from_the_cloud_and_a_clone_gets_its_own() {
    let rig = Rig::new();
    let url = metadata("4711");
    let plan = rig.run(&[&["plan"], &install(&url, &[])[1..]].concat()).expect(0);
    let plan = plan.says("europe-west1-4711").says("gpu,gcp,europe-west1,europe-west1-b,n2-standard-4");
    assert!(plan.stdout.contains("this runs config.sh"));
    // A proxy is not asked: the service is the machine's own.
    let mut command = rig.on_machine(&install(&url, &[]));
    command
        .env("http_proxy", "http://127.0.0.1:1")
        .env("no_proxy", rig.sandbox.base_url().host_str().unwrap());
    super::rig::finish(command.spawn().unwrap()).expect(0);
    let state = rig.state();
    let runner = state.runner("orgs/octo-org", "europe-west1-4711").unwrap_or_else(|| panic!("{state:#?}"));
    for label in ["gpu", "gcp", "europe-west1", "europe-west1-b", "n2-standard-4"] {
        assert!(runner.labels.iter().any(|one| one == label), "{runner:#?}");
    }
    rig.run(&install(&url, &[])).expect(0).says("nothing to do");
    // What is registered keeps its labels without the option.
    rig.run(&["install", "--name", "{region}-{instance-id}", "--cloud", "gcp", "--metadata-url", &url])
        .expect(0)
        .says("nothing to do");
    rig.write("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    rig.run(&install(&metadata("4712"), &[])).expect(0).says("europe-west1-4712");
    let names: Vec<String> = rig.state().runners.into_iter().map(|runner| runner.name).collect();
    assert_eq!(names, ["europe-west1-4711", "europe-west1-4712"]);
}

#[test]
fn where_there_is_no_cloud_what_needs_one_is_refused_before_anything_is_done() {
    let rig = Rig::new();
    rig.run(&["install", "--name", "ci-{instance-id}"])
        .expect(78)
        .says("{instance-id} in --name")
        .says("hint: ");
    rig.run(&["plan", "--label-from", "cloud"]).expect(78).says("--label-from cloud").says("--cloud");
    rig.run(&["run", "--label-from", "cloud", "--cloud", "none"]).expect(78);
    // Nothing listens there: it is waited for, but not for longer than the deadline.
    let gone = "http://127.0.0.1:1";
    rig.run(&[
        "install",
        "--label-from",
        "cloud",
        "--cloud",
        "aws",
        "--metadata-url",
        gone,
        "--deadline",
        "2s",
    ])
    .expect(75)
    .says("the cloud's metadata service did not answer");
    assert_eq!(rig.sandbox.requests(), []);
    rig.assert_machine_bare();
    // An image belongs to no machine yet.
    rig.run(&["bake"]).expect(0);
}
