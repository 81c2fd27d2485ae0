use super::*;

fn parse(url: &str) -> Result<Target, Error> {
    Target::parse(url, None, false)
}

fn refused(url: &str) -> (String, String) {
    let error = parse(url).expect_err(url);
    assert_eq!(error.class(), Class::Usage, "{url}");
    (crate::error::chain(&error), error.hint().expect("every refusal of a URL has a hint"))
}

#[test]
fn scope_and_api_follow_from_the_url() {
    let cases = [
        (
            "https://github.com/octo-org",
            "https://github.com/octo-org",
            "/orgs/octo-org",
            "https://api.github.com/",
        ),
        ("https://www.github.com/o/r/", "https://github.com/o/r", "/repos/o/r", "https://api.github.com/"),
        (
            "  HTTPS://GitHub.COM:443/O/R.git\n",
            "https://github.com/O/R",
            "/repos/O/R",
            "https://api.github.com/",
        ),
        (
            "https://github.com./o//r?tab=x#y",
            "https://github.com/o/r",
            "/repos/o/r",
            "https://api.github.com/",
        ),
        ("http://github.com:80/o", "https://github.com/o", "/orgs/o", "https://api.github.com/"),
        (
            "https://octocorp.ghe.com/enterprises/octo_corp/",
            "https://octocorp.ghe.com/enterprises/octo_corp",
            "/enterprises/octo_corp",
            "https://api.octocorp.ghe.com/",
        ),
        ("https://github.com/o/r.git.git", "https://github.com/o/r", "/repos/o/r", "https://api.github.com/"),
        (
            "https://ghes.example:8443/octo-org.git",
            "https://ghes.example:8443/octo-org",
            "/orgs/octo-org",
            "https://ghes.example:8443/api/v3",
        ),
        (
            "https://www.ghes.example/o/..r%2e",
            "https://www.ghes.example/o/..r.",
            "/repos/o/..r.",
            "https://www.ghes.example/api/v3",
        ),
        ("http://127.0.0.1:99/o", "http://127.0.0.1:99/o", "/orgs/o", "http://127.0.0.1:99/api/v3"),
        ("http://[::1]:99/o", "http://[::1]:99/o", "/orgs/o", "http://[::1]:99/api/v3"),
        ("http://localhost/o/r", "http://localhost/o/r", "/repos/o/r", "http://localhost/api/v3"),
    ];
    for (given, url, prefix, api) in cases {
        let target = Target::parse(given, None, given.starts_with("http://github")).expect(given);
        assert_eq!(target.url.as_str(), url, "{given}");
        assert_eq!(target.scope.prefix(), prefix, "{given}");
        assert_eq!(target.api.as_str(), api, "{given}");
    }
}

#[test]
fn the_api_can_be_named_apart() {
    let target = Target::parse("https://g.example/o", Some("http://localhost:1/rest/"), false).unwrap();
    let call = target.call("/actions/runners");
    assert_eq!(call.as_str(), "http://localhost:1/rest/orgs/o/actions/runners");
    assert!(Target::parse("https://g.example/o", Some("http://far.example/"), false).is_err());
    let target = parse("https://github.com/o").unwrap();
    assert_eq!(target.call("/actions/runners").as_str(), "https://api.github.com/orgs/o/actions/runners");
}

#[test]
fn what_was_probably_meant_is_said() {
    let cases = [
        ("github.com/octo-org", "https://github.com/octo-org"),
        ("ghes.example:8443/octo-org", "https://ghes.example:8443/octo-org"),
        ("octo-org/hello", "https://github.com/octo-org/hello"),
        ("https:/github.com/octo-org", "https://github.com/octo-org"),
        ("htp:/octo-org", "https://github.com/octo-org"),
        ("git@github.com:octo-org/hello.git", "https://github.com/octo-org/hello.git"),
        ("ssh://git@github.com/octo-org/hello", "https://github.com/octo-org/hello"),
        ("https://api.github.com/orgs/octo-org", "https://github.com/octo-org"),
        ("https://api.github.com/repos/o/r/actions/runners", "https://github.com/o/r"),
        ("https://api.octo.ghe.com/enterprises/e", "https://octo.ghe.com/enterprises/e"),
        ("https://g.example:8443/api/v3/orgs/o", "https://g.example:8443/o"),
        ("https://github.com/orgs/octo-org/settings", "https://github.com/octo-org"),
        ("https://github.com/organizations/octo-org/settings/actions", "https://github.com/octo-org"),
        ("https://github.com/o/r/settings/actions/runners", "https://github.com/o/r"),
        ("https://github.com/enterprises/e/settings", "https://github.com/enterprises/e"),
    ];
    for (given, suggestion) in cases {
        let (_, hint) = refused(given);
        assert_eq!(hint, format!("Did you mean {suggestion} ?"), "{given}");
    }
}

#[test]
fn the_address_of_a_clone_is_shown_as_it_was_given() {
    let (message, _) = refused("git@github.com:octo-org/hello.git");
    assert!(message.contains("git@github.com:octo-org/hello.git"), "{message}");
}

#[test]
fn what_names_no_scope_is_refused() {
    let cases = [
        "",
        "https://",
        "https://github.com",
        "https://github.com/enterprises",
        "https://github.com/enterprises/a.b",
        "https://github.com/a.b",
        "https://github.com/o/r/../x",
        "https://github.com/%2e%2E/x",
        "https://github.com/o/.",
        "https://github.com/o/.git",
        "https://github.com/o%2fr",
        "https://github.com/o/r%20x",
        "https://github.com/o/r x",
        "https://github.com/\u{1}o",
        "ftp://github.com/o",
        "https://git hub.com/o",
    ];
    for given in cases {
        let (message, _) = refused(given);
        assert!(!message.is_empty());
    }
}

#[test]
fn plain_http_needs_a_flag_and_the_hint_names_it() {
    let (message, hint) = refused("http://ghes.example/o");
    assert!(message.contains("http://ghes.example/o"), "{message}");
    assert!(hint.contains("--allow-http"), "{hint}");
    refused("http://localhost.example/o");
    refused("http://128.0.0.1/o");
    assert!(Target::parse("http://ghes.example/o", None, true).is_ok());
}

#[test]
fn credentials_are_refused_and_never_repeated() {
    for given in [
        "https://octo:canary@github.com/o",
        "https://canary@github.com/o",
        "https://octo:canary@github.com:bad/o",
        "ssh://octo:canary@github.com/o",
        "octo:canary@github.com/o",
        "https://octo:1#canary@github.com/o",
        "https://octo:1/a/canary@github.com/o",
        "https://canary?@github.com/o",
        "https://github.com/o?x=a@canary",
        "ssh://git@canary@github.com/o",
        "ftp://octo:canary@github.com/o",
        "https://github.com/o r?token=canary",
        "http://ghes.example/o?token=canary",
        "github.com/o?token=canary",
    ] {
        let error = parse(given).expect_err(given);
        let (message, hint) = refused(given);
        assert!(
            !format!("{message} {hint} {error:?}").contains("canary"),
            "{given}: {message} {hint} {error:?}"
        );
    }
}

#[test]
fn a_port_is_warned_about_unless_it_is_this_machine() {
    let warning = |url: &str| Target::parse(url, None, true).unwrap().port_warning();
    assert!(warning("https://ghes.example:8443/o").unwrap().contains("ghes.example:8443"));
    assert_eq!(warning("https://ghes.example:443/o"), None);
    assert_eq!(warning("http://127.0.0.1:8080/o"), None);
}

#[test]
fn a_configured_runner_is_recognised_whatever_the_spelling() {
    let target = parse("https://github.com/Octo-Org/hello").unwrap();
    assert!(target.is_same_as("https://github.com/octo-org/Hello.git"));
    assert!(target.is_same_as("https://WWW.github.com/octo-org/Hello/"));
    assert!(!target.is_same_as("https://github.com/octo-org"));
    assert!(!target.is_same_as("https://ghes.example/octo-org/hello"));
    assert!(!target.is_same_as(""));
    let ghes = Target::parse("https://ghes.example/octo-org", None, true).unwrap();
    assert!(ghes.is_same_as("https://ghes.example:443/Octo-Org/"));
    // It would send a token without encryption.
    assert!(!ghes.is_same_as("http://ghes.example:443/octo-org"));
}
