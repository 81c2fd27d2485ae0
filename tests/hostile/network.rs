//! Hostile servers, proxies and addresses.

use super::{start, watch};
use crate::rig::{Ran, Rig};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A server on loopback with programmed answers.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request with `answer`, which gets its head and the number of requests before it.
    fn start(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { port, requests }
    }

    /// Answers every request with this document.
    fn of_document(document: &str) -> Self {
        let answer = ok("", document.as_bytes());
        Self::start(move |_, _| answer.clone())
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/octo-org", self.port)
    }

    /// A command that connects to this server only.
    fn start_command(&self, rig: &Rig, arguments: &[&str]) -> Child {
        let mut command = rig.command(arguments);
        command.arg("--url").arg(self.url()).env("RUNUP_TOKEN", TOKEN).spawn().unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> super::Watched {
        watch(self.start_command(&Rig::new(), arguments))
    }
}

/// The credential of these tests, in a format that is not recognised as a token.
const TOKEN: &str = "the-canary-of-the-network-tests";

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>, answer: &dyn Fn(&str, usize) -> Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(head.clone());
        seen.len() - 1
    };
    let _ = stream.write_all(&answer(&head, before));
    // Not closed before the client has read everything.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    reply("200 OK", headers, body)
}

const NEXT: &str = "link: <http://127.0.0.1:1/next>; rel=\"next\"\r\n";

/// A page of a hundred runners whose ids begin with `from`.
fn page(from: usize) -> String {
    let runners: Vec<_> = (from..from + 100)
        .map(|id| {
            json!({"id": id, "name": format!("runner-{id}"), "os": "linux", "status": "online", "busy": false,
                   "labels": [{"id": 1, "name": "self-hosted", "type": "read-only"}]})
        })
        .collect();
    json!({"total_count": 2_400_000, "runners": runners}).to_string()
}

/// Endless pages: `runners list --deadline 20s` still ran after 70 s, with 6.7 GB.
#[test]
fn a_list_without_an_end_has_a_ceiling() {
    // A server that ignores the requested page size: the list is as long, and the test is shorter.
    let page = |before: usize| {
        let from = before * 1000 + 1;
        let one =
            |id| format!(r#"{{"id":{id},"name":"runner-{id}","status":"online","labels":[{{"name":"l"}}]}}"#);
        let runners: Vec<String> = (from..from + 1000).map(one).collect();
        format!(r#"{{"total_count":2400000,"runners":[{}]}}"#, runners.join(","))
    };
    let server = Server::start(move |_, before| ok(NEXT, page(before).as_bytes()));
    // A list that is kept.
    server.ask(&["runners", "list"]).expect(76).bounded(SOON * 2).says("too large").says("hint: ");
    let server = Server::start(move |_, before| ok(NEXT, page(before).as_bytes()));
    // A list that is only searched.
    let ran = server.ask(&["runners", "list", "--name", "no-such"]).expect(76).bounded(SOON * 2);
    ran.says("more than 100000 elements").says("hint: ");
}

#[test]
fn a_list_that_takes_too_long_ends_at_the_deadline() {
    let server = Server::start(|_, before| {
        std::thread::sleep(Duration::from_millis(100));
        ok(NEXT, page(before * 100 + 1).as_bytes())
    });
    for arguments in [&["runners", "list"][..], &["runners", "show", "no-such"], &["runners", "delete", "x"]]
    {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--deadline", "2s"]);
        server.ask(&arguments).expect(75).bounded(Duration::from_secs(10)).says("2 s");
    }
    let rig = Rig::new();
    let prune = ["runners", "prune", "--prefix", "runner-", "--dry-run", "--deadline", "2s"];
    watch(server.start_command(&rig, &prune)).expect(75).bounded(Duration::from_secs(10));
}

#[test]
fn the_same_page_again_and_pages_of_garbage_are_said() {
    let server = Server::start(|_, _| ok(NEXT, page(1).as_bytes()));
    server.ask(&["runners", "list"]).expect(76).bounded(SOON).says("nothing new");
    assert_eq!(server.requests().len(), 2);
    let server = Server::start(|_, _| ok(NEXT, br#"{"runners":[]}"#));
    server.ask(&["runners", "list"]).expect(76).bounded(SOON).says("nothing new");
    for garbage in
        ["{\"runners\":7}", "{\"runners\":[7]}", "[]", "{}", "\u{0}", "{\"runners\":[{\"id\":-1}]}"]
    {
        let server = Server::start(move |_, _| ok(NEXT, garbage.as_bytes()));
        server.ask(&["runners", "list"]).expect(76).bounded(SOON);
    }
}

/// A document of 16 MB cost 1.5 GB, and a page of 2.4 million small elements 600 MB.
#[test]
fn an_answer_takes_no_memory_that_it_is_not_worth() {
    let many = |element: &str, bytes: usize| vec![element; bytes / (element.len() + 1)].join(",");
    let runner = r#"{"id":1,"name":"","status":""}"#;
    let label = r#"{"name":""}"#;
    for bytes in [3 << 20, 15 << 20] {
        let list = ["runners", "list"];
        for (arguments, document) in [
            (&list[..], format!("{{\"runners\":[{}]}}", many(runner, bytes))),
            (
                &list,
                format!(
                    "{{\"runners\":[{{\"id\":1,\"name\":\"\",\"status\":\"\",\"labels\":[{}]}}]}}",
                    many(label, bytes)
                ),
            ),
            (&list, format!("{{\"x\":[{}],\"runners\":7}}", many("[]", bytes))),
            (&list, format!("{{\"runners\":[{{\"id\":\"{}\"}}]}}", "x".repeat(bytes))),
            (&["downloads"], format!("[{}]", many("[]", bytes))),
            (&["downloads"], format!("[{{\"os\":[{}]}}]", many("7", bytes))),
            (&["token", "remove"], format!("{{\"token\":[{}]}}", many("{}", bytes))),
        ] {
            let server = Server::of_document(&document);
            let ran = server.ask(arguments).expect(76).bounded(SOON);
            assert!(ran.stderr.len() < 20_000, "{} bytes of error", ran.stderr.len());
        }
        // The same as a refusal.
        let body = format!("{{\"message\":\"no\",\"errors\":[{}]}}", many("[]", bytes));
        let answer = reply("422 No", "", body.as_bytes());
        let server = Server::start(move |_, _| answer.clone());
        server.ask(&["downloads"]).expect(76).bounded(SOON);
    }
}

/// `Retry-After: 0` was a busy loop: 1,936 requests in 3 s.
#[test]
fn a_server_that_asks_for_no_wait_is_not_asked_without_an_end() {
    for headers in [
        "retry-after: 0\r\n",
        "retry-after: Fri, 15 Jan 2021 08:01:00 GMT\r\n",
        "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1\r\n",
    ] {
        for status in ["429 Too Many Requests", "403 Forbidden", "503 Unavailable"] {
            let server = Server::start(move |_, _| reply(status, headers, b"{}"));
            server.ask(&["downloads", "--deadline", "3s"]).expect(75).bounded(SOON);
            let asked = server.requests().len();
            assert!(asked <= 12, "{asked} requests after {status}, {headers}");
        }
    }
}

/// The same for the server of the archive.
#[test]
fn a_download_that_is_put_off_without_a_wait_is_not_asked_for_without_an_end() {
    let server = Server::start(|_, _| reply("429 Too Many Requests", "retry-after: 0\r\n", b""));
    let rig = Rig::new();
    let archive = format!("http://127.0.0.1:{}/runner.tar.gz", server.port);
    let digest = "ab".repeat(32);
    let arguments = ["bake", "--archive", &archive, "--sha256", &digest, "--deadline", "3s"];
    watch(rig.start(&arguments)).expect(75).bounded(SOON);
    let asked = server.requests().len();
    assert!((2..=12).contains(&asked), "{asked} requests");
    rig.assert_nothing_left();
}

/// The temporary token went to another host in the clear, although the API call used https.
#[test]
fn no_bearer_goes_over_plain_http_to_another_machine() {
    let canary = "canary-of-a-download";
    let rig = Rig::new();
    let version = rig.sandbox.runner_version();
    let list = rig.ask(&["downloads", "--json"]).expect(0).json()["downloads"].take();
    let answer = |token: bool| {
        let mut list = list.clone();
        for one in list.as_array_mut().unwrap() {
            one["download_url"] = format!("http://far.invalid/{version}.tar.gz").into();
            one["temp_download_token"] = if token { canary.into() } else { json!(null) };
        }
        rig.sandbox.faults_clear();
        rig.answer("downloads", &list);
    };
    // The name does not resolve: every request goes to the proxy, which records it.
    let proxy = Server::start(|_, _| reply("404 Not Found", "", b""));
    let run = |arguments: &[&str]| {
        let mut command = rig.on_machine(arguments);
        let address = format!("http://127.0.0.1:{}", proxy.port);
        watch(command.env("http_proxy", address).spawn().unwrap()).ran
    };
    answer(true);
    for command in ["install", "bake"] {
        let ran =
            run(&[command]).expect(78).says("http://far.invalid/").says("without encryption").says("hint: ");
        assert!(!ran.all().contains(canary), "{}", start(&ran));
        rig.assert_nothing_left();
    }
    assert_eq!(proxy.requests(), [] as [&str; 0], "nothing was sent");
    // With the option it is sent. Without a bearer there is nothing to protect: the digest is known.
    run(&["bake", "--allow-http"]).expect(69).says("404");
    assert!(proxy.requests().concat().contains(canary));
    answer(false);
    run(&["bake"]).expect(69).says("404");
    answer(true);
    run(&["bake", "--mirror", "http://far.invalid/mirror"]).expect(69).says("404");
    let digest = "ab".repeat(32);
    run(&["bake", "--archive", "http://far.invalid/a.tar.gz", "--sha256", &digest]).expect(69).says("404");
    let leaks = proxy.requests().iter().skip(1).filter(|request| request.contains(canary)).count();
    assert_eq!(leaks, 0, "{:#?}", proxy.requests());
}

/// An unusable proxy was ignored with a warning, or mistaken for another one.
#[test]
fn a_proxy_that_cannot_be_used_is_refused_before_the_first_step() {
    let rig = Rig::new().making_a_user();
    for (variable, value) in [
        ("https_proxy", "socks5://me:hunter2-canary@proxy:1080"),
        ("HTTPS_PROXY", "http://me:hunter2-canary@:3128"),
        ("http_proxy", "ftp://proxy"),
        ("HTTP_PROXY", "http://me:hunter2-canary@proxy:port"),
        ("https_proxy", "http://"),
    ] {
        for arguments in [&["install"][..], &["plan"], &["bake"], &["status"]] {
            let ran = watch(rig.on_machine(arguments).env(variable, value).spawn().unwrap()).expect(78).ran;
            let ran = ran.says(variable).says("hint: ");
            assert!(!ran.all().contains("hunter2"), "{}", start(&ran));
        }
        for arguments in [&["downloads"][..], &["runners", "list"], &["token", "remove"]] {
            let mut command = rig.command(arguments);
            let child = command.arg("--url").arg(rig.url()).env(variable, value).spawn().unwrap();
            watch(child).expect(78).ran.says(variable);
        }
    }
    rig.assert_nothing_left();
    assert_eq!(rig.routes(), [] as [&str; 0]);
    // A command that contacts no server needs no proxy.
    let child = rig.on_machine(&["remove", "--local"]).env("https_proxy", "socks5://proxy").spawn().unwrap();
    watch(child).expect(0);
}

/// Nothing in it would be obeyed by a terminal, reorder the text, or be invisible.
#[track_caller]
fn is_visible(text: &str) {
    let bad = text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    });
    assert_eq!(bad, None, "{}", text.escape_debug());
}

const EVIL: &str =
    "evil\u{1b}[2J\u{1b}]0;title\u{7}\r\u{9b}31m\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{7f}\nhint: x";

/// Escape sequences from a server reached the terminal.
#[test]
fn what_a_server_says_is_shown_and_not_obeyed() {
    let runner = json!({"id": 7, "name": EVIL, "os": EVIL, "status": EVIL, "busy": true,
                        "labels": [{"name": EVIL, "type": EVIL}], "version": EVIL});
    let list = json!({"total_count": 1, "runners": [runner]}).to_string();
    let server = Server::start(move |head, _| {
        if head.starts_with("DELETE") { reply("204 No Content", "", b"") } else { ok("", list.as_bytes()) }
    });
    let rig = Rig::new();
    let ran = server.ask(&["runners", "list"]).expect(0).ran.says("evil\\x1b[2J");
    is_visible(&ran.all());
    assert_eq!(ran.stdout.lines().count(), 2, "{}", start(&ran));
    let ran = server.ask(&["runners", "list", "--json"]).expect(0).ran;
    is_visible(&ran.all());
    assert_eq!(ran.json()["runners"][0]["name"], EVIL);
    let ran = server.ask(&["runners", "delete", EVIL]).expect(0).ran;
    is_visible(&ran.stdout);
    let prune = ["runners", "prune", "--prefix", "evil", "--dry-run"];
    let ran = watch(server.start_command(&rig, &prune)).expect(0).ran;
    is_visible(&ran.stdout);
    for form in ["--log-format=text", "--log-format=json", "--json"] {
        for body in [json!({"message": EVIL, "errors": [EVIL]}).to_string(), format!("<html>{EVIL}")] {
            let server = Server::start(move |_, _| reply("418 Teapot", "", body.as_bytes()));
            is_visible(&server.ask(&["downloads", "-v", form]).expect(76).ran.all());
        }
        let document = json!([{"os": EVIL, "architecture": EVIL, "download_url": "http://h/", "filename": EVIL,
                               "sha256_checksum": EVIL}, {"os": 7, "architecture": EVIL}]);
        let server = Server::of_document(&document.to_string());
        is_visible(&server.ask(&["downloads", "-v", form]).expect(0).ran.all());
        let server = Server::of_document(&json!({"token": "x", "expires_at": EVIL}).to_string());
        is_visible(&server.ask(&["token", "remove", "-v", form]).expect(76).ran.all());
    }
}

/// A label of 65,536 characters ended in a panic (70), and a `Location` of 300 kB in a line of 300 kB.
#[test]
fn what_a_server_says_at_length_is_cut_and_is_no_bug() {
    let long = "l".repeat(70_000);
    let runners = json!({"runners": [
        {"id": 1, "name": long, "os": long, "status": long, "labels": [{"name": long}]},
        {"id": 2, "name": "n", "os": "o", "status": "online", "labels": []},
    ]});
    let ran = Server::of_document(&runners.to_string()).ask(&["runners", "list"]).expect(0).bounded(SOON);
    assert!(ran.stdout.len() < 20_000, "{} bytes", ran.stdout.len());
    let location = format!("location: http://127.0.0.1:9/{}\r\n", "p".repeat(200_000));
    let server = Server::start(move |_, _| reply("302 Found", &location, b""));
    let ran = server.ask(&["downloads", "-v", "--deadline", "1s"]).expect(76).bounded(SOON);
    assert!(ran.all().len() < 20_000, "{} bytes", ran.all().len());
    for url in [json!("http://h/"), json!(null)] {
        let application = json!({"os": long, "architecture": long, "filename": long, "download_url": url});
        let code = if url.is_null() { 76 } else { 0 };
        let server = Server::of_document(&json!([application]).to_string());
        let ran = server.ask(&["downloads", "-v"]).expect(code).bounded(SOON);
        assert!(ran.all().len() < 40_000, "{} bytes", ran.all().len());
    }
}

/// The names of runners were printed whole by every command but the table of `runners list`, and logged so as JSON.
#[test]
fn a_name_of_any_length_is_cut_wherever_it_is_shown() {
    let long = format!("evil{}", "n".repeat(200_000));
    let runner = json!({"id": 7, "name": long, "os": "o", "status": "offline", "labels": []});
    let list = json!({"runners": [runner]}).to_string();
    let one = runner.to_string();
    let server = Server::start(move |head, _| match head {
        head if head.starts_with("DELETE") => reply("204 No Content", "", b""),
        head if head.contains("/runners/7 ") => ok("", one.as_bytes()),
        _ => ok("", list.as_bytes()),
    });
    for arguments in [
        &["runners", "show", "7"][..],
        &["runners", "delete", "7"],
        &["runners", "prune", "--prefix", "evil", "--dry-run"],
        &["runners", "prune", "--prefix", "evil"],
    ] {
        for form in ["--log-format=text", "--log-format=json"] {
            let ran = server.ask(&[arguments, &["-v", form]].concat()).expect(0).bounded(SOON);
            assert!(ran.all().len() < 40_000, "{arguments:?}: {} bytes", ran.all().len());
        }
    }
    // What is on disk may be a job's.
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let file = json!({"agentId": 7, "agentName": "n".repeat(200_000), "gitHubUrl": rig.url()});
    std::fs::write(rig.dir().join(".runner"), file.to_string()).unwrap();
    for arguments in [&["status", "--local"][..], &["status"], &["plan"], &["remove", "--local"]] {
        for form in ["--log-format=text", "--log-format=json"] {
            let ran = rig.run(&[arguments, &["-v", form]].concat());
            let longest = ran.all().lines().map(str::len).max().unwrap_or_default();
            assert!(longest < 20_000, "{arguments:?}: {longest} bytes in a line");
        }
    }
}

/// An organization whose list was an error page, or of a later format, had an empty table, and the exit code 0.
#[test]
fn a_list_of_which_nothing_can_be_read_is_not_an_empty_one() {
    for list in [
        "[{}]",
        "[[],[],7]",
        r#"[{"os":"linux","architecture":"x64","filename":"f","download_url":"ftp://h/"}]"#,
    ] {
        let ran = Server::of_document(list).ask(&["downloads"]).expect(76).bounded(SOON);
        assert!(ran.stdout.is_empty(), "{}", start(&ran));
    }
    Server::of_document("[]").ask(&["downloads"]).expect(0).bounded(SOON);
}

#[track_caller]
fn shows_not(ran: &Ran, token: &str) {
    assert!(!ran.all().contains(token), "{}", start(ran));
}

/// A token that a server sent back was printed: in headers, addresses and documents.
#[test]
fn the_token_is_marked_wherever_it_comes_back() {
    let said = format!("x{TOKEN}x");
    let forms = ["--log-format=text", "--log-format=json", "--json"];
    let ask = |server: &Server, arguments: &[&str]| {
        for form in forms {
            let mut arguments = arguments.to_vec();
            arguments.extend(["-v", "--deadline", "1s", form]);
            let ran = server.ask(&arguments).ran;
            assert!(server.requests().iter().all(|request| request.contains(TOKEN)), "it was sent");
            shows_not(&ran, TOKEN);
        }
    };
    let refusal = json!({"message": said, "errors": [{"message": said}]}).to_string();
    for status in ["401 No", "403 No", "404 No", "409 No", "418 No", "422 No", "429 No", "503 No"] {
        let headers = format!(
            "x-github-request-id: {said}\r\nx-accepted-github-permissions: {said}\r\nretry-after: 600\r\n"
        );
        let body = refusal.clone();
        let server = Server::start(move |_, _| reply(status, &headers, body.as_bytes()));
        ask(&server, &["downloads"]);
    }
    // In an address, and escaped in JSON, where it can only be recognised after decoding.
    let port_nobody_has = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for location in [
        format!("http://127.0.0.1:{port_nobody_has}/{said}"),
        format!("http://{said}.invalid/"),
        format!("ftp://h/{said}"),
    ] {
        let headers = format!("location: {location}\r\n");
        ask(&Server::start(move |_, _| reply("302 Found", &headers, b"")), &["downloads"]);
    }
    let escaped: Vec<String> = TOKEN.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let escaped = escaped.concat();
    for document in [
        format!(
            r#"{{"runners":[{{"id":1,"name":"{escaped}","status":"online","labels":[{{"name":"{TOKEN}"}}]}}]}}"#
        ),
        format!(r#"{{"runners":"{escaped}"}}"#),
        format!(r#"{{"runners":[{{"id":"{escaped}"}}]}}"#),
        format!("<html>{TOKEN}</html>"),
    ] {
        ask(&Server::of_document(&document), &["runners", "list"]);
    }
    let application = format!(
        r#"[{{"os":"{escaped}","architecture":"a","download_url":"http://h/{TOKEN}","filename":"{TOKEN}"}}]"#
    );
    ask(&Server::of_document(&application), &["downloads"]);
}

/// A token that was passed to the wrong option was repeated in logs that other users can read.
#[test]
fn a_token_in_the_wrong_place_is_not_repeated() {
    let secret = "0123456789abcdefghijklmnopqrstuvwxyz";
    let classic = format!("ghp_{secret}");
    let fine = format!("github_pat_{secret}_{secret}");
    let registration = "AABF3JGZDX3P5PMEXLND6TS6FCWO6";
    let rig = Rig::new();
    let check = |ran: Ran, token: &str| {
        assert!((64..=78).contains(&ran.code), "{}", start(&ran));
        assert!(!ran.all().contains(token), "{}", start(&ran));
        assert!(ran.all().contains("[secret]") && ran.all().contains("RUNUP_TOKEN"), "{}", start(&ran));
    };
    let run = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = rig.command(arguments);
        watch(command.envs(variable).spawn().unwrap()).ran
    };
    let url = rig.url();
    for token in [classic.as_str(), &fine, registration] {
        for form in ["--log-format=text", "--log-format=json", "--json"] {
            check(run(&["downloads", form, "--url", token], None), token);
            check(run(&["downloads", form], Some(("RUNUP_URL", token))), token);
            check(run(&["downloads", form, "--url", &url, "--api-url", token], None), token);
            check(run(&["downloads", form, "--url", &url, "--token-file", token], None), token);
            check(run(&["downloads", form, "--url", &url, "--ca-file", token], None), token);
            check(run(&["downloads", form, token], None), token);
            check(run(&["runners", form, token], None), token);
            check(run(&["downloads", form, &format!("--{token}")], None), token);
            check(run(&["downloads", form, "--deadline", token], None), token);
            check(run(&["plan", form, "--runner-version", token], None), token);
            let digest = "ab".repeat(32);
            let root = rig.root().to_str().unwrap();
            let archive = ["bake", form, "--root", root, "--sha256", &digest, "--archive", token];
            check(run(&archive, None), token);
            let plan = run(&["plan", form, "--root", root, "--url", &url, "--group", token], None);
            shows_not(&plan.expect(78), token);
            check(run(&["downloads", form, "--config", token], None), token);
            let config = rig.write("config.toml", format!("\"{token}\" = 1\n"));
            check(run(&["downloads", form, "--config", &config], None), token);
            let config = rig.write("config.toml", format!("url = \"{token}\"\n"));
            check(run(&["downloads", form, "--config", &config], None), token);
            let config = rig.write("config.toml", format!("url = {token}\n"));
            check(run(&["downloads", form, "--config", &config], None), token);
        }
    }
}

/// A token command that prints its token, or another secret, while it fails.
#[test]
fn what_a_token_command_says_is_marked() {
    let rig = Rig::new();
    let began = Instant::now();
    let file = rig.write("token", TOKEN);
    let command = format!("cat {file}; echo trace $(cat {file}) >&2; exit 3");
    let arguments = ["downloads", "-v", "--deadline", "1s", "--token-command", &command];
    let mut command = rig.command(&arguments);
    let ran = watch(command.arg("--url").arg(rig.url()).env_remove("RUNUP_TOKEN").spawn().unwrap()).ran;
    assert!(began.elapsed() < SOON);
    let ran = ran.expect(75).says("trace [secret]");
    shows_not(&ran, TOKEN);
}
