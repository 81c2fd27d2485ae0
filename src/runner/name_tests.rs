use super::*;
use crate::error::{Class, Failure, chain};
use crate::host::{Arch, Os};

fn context() -> NameContext {
    NameContext {
        hostname: "Build_1.corp.example".to_owned(),
        machine_id: Some("0123456789abcdef0123456789abcdef\n".to_owned()),
        random: "ab12cd".to_owned(),
        platform: Platform { os: Os::Linux, arch: Arch::Arm64 },
        dir: Some("actions-runner".to_owned()),
        index: Some(1),
        instance_id: Some("i-0123456789abcdef0".to_owned()),
        region: Some("eu-west-1".to_owned()),
    }
}

fn render(template: &str) -> Result<String, Error> {
    template.parse::<NameTemplate>()?.render(&context()).map(String::from)
}

#[test]
fn names_that_the_runner_would_drop_are_refused() {
    for name in ["a", "My runner", "ü-1", "r.1", &"x".repeat(64)] {
        assert_eq!(name.parse::<RunnerName>().unwrap().as_str(), name);
    }
    for name in ["", " ", "-a", "--replace", " a", "a ", "a\nb", "a\0", &"ü".repeat(65)] {
        assert_eq!(name.parse::<RunnerName>().unwrap_err().class(), Class::Usage, "{name:?}");
    }
}

#[test]
fn labels_are_split_trimmed_and_named_once() {
    let labels: Labels = " gpu , Large,,GPU, x y ".parse().unwrap();
    assert_eq!(labels.to_string(), "gpu,Large,x y");
    assert!(labels.contains(&"LARGE".parse().unwrap()));
    let several: Vec<bool> = labels.iter().map(Label::looks_like_several).collect();
    assert_eq!(several, [false, false, true]);
    assert!("".parse::<Labels>().unwrap().is_empty());
    assert!("a,-b".parse::<Labels>().is_err());
    assert!(format!("a,{}", "x".repeat(257)).parse::<Labels>().is_err());
    assert!("a,b".parse::<Label>().is_err());
    assert!("".parse::<Label>().is_err());
}

#[test]
fn a_template_is_filled_in() {
    assert_eq!(render("{hostname}-{random}").unwrap(), "Build_1-ab12cd");
    assert_eq!(render("ci-{os}-{arch}").unwrap(), "ci-linux-arm64");
    assert_eq!(render("{{{hostname}}}").unwrap(), "{Build_1}");
    assert_eq!(render("{{hostname}}").unwrap(), "{hostname}");
    assert_eq!(render("plain").unwrap(), "plain");
    assert_eq!(render("{region}-{instance-id}").unwrap(), "eu-west-1-i-0123456789abcdef0");
    assert!("a-{random}".parse::<NameTemplate>().unwrap().uses_random());
    assert!(!"a-{{random}}".parse::<NameTemplate>().unwrap().uses_random());
}

#[test]
fn any_host_has_a_name_and_a_long_one_is_shortened() {
    let named = |hostname: &str| {
        let context = NameContext { hostname: hostname.to_owned(), ..context() };
        "{hostname}-{machine-id}".parse::<NameTemplate>().unwrap().render(&context).map(String::from)
    };
    let unique = render("{machine-id}").unwrap();
    for nameless in ["-", "日本", ""] {
        assert_eq!(named(nameless).unwrap(), format!("runner-{unique}"), "{nameless}");
    }
    assert_eq!(named(&"x".repeat(64)).unwrap(), format!("{}-{unique}", "x".repeat(55)));
    assert_eq!(named(&"x".repeat(55)).unwrap().len(), 64);
    assert!(render(&"x".repeat(65)).is_err(), "nothing in it can be shortened");
}

#[test]
fn the_machine_id_itself_is_not_shown() {
    let name = render("{machine-id}").unwrap();
    assert_eq!(name.len(), 8);
    assert!(!"0123456789abcdef0123456789abcdef".contains(&name));
    let other = NameContext { machine_id: Some("f".repeat(32)), ..context() };
    let template: NameTemplate = "{machine-id}".parse().unwrap();
    assert_ne!(template.render(&other).unwrap().as_str(), name);
    let none = NameContext { machine_id: None, ..context() };
    assert_eq!(template.render(&none).unwrap_err().class(), Class::Config);
}

#[test]
fn bad_templates_say_what_is_wrong() {
    let error = render("a-{host}").unwrap_err();
    assert!(error.to_string().contains("{host}"), "{error}");
    assert_eq!(
        error.hint().unwrap(),
        "Available placeholders: {hostname}, {machine-id}, {random}, {os}, {arch}, {dir}, {index}, {instance-id}, \
         {region}."
    );
    for template in ["{hostname", "hostname}", "a{", "}a"] {
        assert!(matches!(render(template), Err(Error::LooseBrace { .. })), "{template}");
    }
    assert!(matches!(render("-a"), Err(Error::BadName { .. })));
    let error = render(&format!("{{hostname}}{}", "x".repeat(64))).unwrap_err();
    assert!(chain(&error).contains("has 71 characters, but at most 64 are allowed"), "{}", chain(&error));
}

#[test]
fn unusual_host_names_become_usual() {
    let named = |hostname: &str| {
        let template: NameTemplate = "{hostname}".parse().unwrap();
        template.render(&NameContext { hostname: hostname.into(), ..context() }).unwrap().to_string()
    };
    for (given, short) in [("a.b.c", "a"), ("-x y-", "x-y"), ("ü", NAMELESS), ("", NAMELESS), ("r1", "r1")] {
        assert_eq!(named(given), short, "{given}");
    }
}

#[test]
fn random_words_differ() {
    let words: std::collections::HashSet<String> = std::iter::repeat_with(random_word).take(20).collect();
    assert!(words.len() > 15 && words.iter().all(|word| word.len() == 6), "{words:?}");
}

#[test]
fn a_runner_of_several_is_named_by_its_directory_and_its_number() {
    let template: NameTemplate = "{dir}-{index}".parse().unwrap();
    assert!(template.uses_index() && !template.is_unique());
    let second = NameContext { dir: Some("ci.2 große".into()), index: Some(2), ..context() };
    assert_eq!(template.render(&second).unwrap().as_str(), "ci-2-gro-e-2");
    let error = template.render(&NameContext { dir: None, index: None, ..context() }).unwrap_err();
    assert_eq!(error.class(), Class::Config);
    assert!(error.to_string().contains("{dir}"), "{error}");
}

#[test]
fn what_only_a_cloud_knows_is_asked_for_only_where_it_is_used() {
    let needs = |template: &str| template.parse::<NameTemplate>().unwrap().needs_cloud();
    assert_eq!(needs("{hostname}-{machine-id}"), None);
    assert_eq!(needs("{{region}}"), None);
    assert_eq!(needs("{region}-{random}").as_deref(), Some("{region} in --name"));
    let outside = NameContext { instance_id: None, ..context() };
    let template: NameTemplate = "ci-{instance-id}".parse().unwrap();
    assert_eq!(template.render(&outside).unwrap_err().class(), Class::Config);
    assert!(template.is_unique() && !"{region}".parse::<NameTemplate>().unwrap().is_unique());
}
