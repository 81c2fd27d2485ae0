//! Checks documents against the JSON Schemas in the reference, more strictly than they ask for: a field that a schema does not
//! have is an error as well. Of JSON Schema it knows what those schemas use, and refuses the rest.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// Every schema, by the name of its file without the extension.
pub fn all() -> &'static BTreeMap<String, Value> {
    static ALL: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    ALL.get_or_init(|| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/schemas");
        let read = |name: &String| {
            let text = std::fs::read_to_string(dir.join(name)).unwrap();
            (name.trim_end_matches(".json").to_owned(), serde_json::from_str(&text).unwrap())
        };
        crate::rig::names_in(&dir).iter().map(read).collect()
    })
}

/// What is wrong with the document of a command.
pub fn problems(name: &str, document: &Value) -> Vec<String> {
    let schema = all().get(name).unwrap_or_else(|| panic!("{name} has no schema"));
    problems_with(schema, document)
}

pub fn problems_with(schema: &Value, document: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    Check { whole: schema }.value(schema, document, "", &mut problems);
    problems
}

/// Checks that some command prints such a document.
#[track_caller]
pub fn assert_documented(document: &Value) {
    let found = all().keys().filter(|name| *name != "event").map(|name| (name, problems(name, document)));
    let Some((name, problems)) = found.min_by_key(|(_, problems)| problems.len()) else {
        panic!("there are no schemas");
    };
    assert!(problems.is_empty(), "{document:#} is of no schema; of {name} it differs in {problems:#?}");
}

struct Check<'a> {
    whole: &'a Value,
}

impl Check<'_> {
    fn value(&self, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
        for (keyword, wanted) in schema.as_object().unwrap() {
            match keyword.as_str() {
                "$schema" | "$id" | "$comment" | "$defs" | "title" | "description" => {}
                "$ref" => {
                    let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    self.value(&self.whole["$defs"][name], value, at, problems);
                }
                "const" if value == wanted => {}
                "const" => problems.push(format!("{at} is not {wanted}")),
                "type" => {
                    let kinds = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                    if !kinds.iter().any(|kind| is(value, kind.as_str().unwrap())) {
                        problems.push(format!("{at} is not of type {wanted}"));
                    }
                }
                "items" => {
                    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
                        self.value(wanted, element, &format!("{at}[{index}]"), problems);
                    }
                }
                "required" => {
                    let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                    let missing =
                        names.filter(|name| value.as_object().is_some_and(|it| !it.contains_key(*name)));
                    problems.extend(missing.map(|name| format!("{at}.{name} is missing")));
                }
                "properties" => {
                    for (name, field) in value.as_object().into_iter().flatten() {
                        let at = format!("{at}.{name}");
                        match wanted.get(name) {
                            Some(schema) => self.value(schema, field, &at, problems),
                            None => problems.push(format!("{at} is unknown")),
                        }
                    }
                }
                "anyOf" => {
                    let tried = wanted.as_array().unwrap().iter().map(|schema| {
                        let mut problems = Vec::new();
                        self.value(schema, value, at, &mut problems);
                        problems
                    });
                    problems.extend(tried.min_by_key(Vec::len).unwrap());
                }
                _ => panic!("the schema has a keyword that is not checked: {keyword}"),
            }
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{kind} is no type"),
    }
}

#[test]
fn a_wrong_type_a_missing_field_and_an_unknown_one_are_found() {
    let good = serde_json::json!({"schema": 1, "token": "t", "expires_at": "2026-01-31T12:00:00Z"});
    assert_eq!(problems("token", &good), Vec::<String>::new());
    for (field, value, problem) in [
        ("token", Some(Value::Null), ".token is not of type \"string\""),
        ("schema", Some(2.into()), ".schema is not 1"),
        ("schema", None, ".schema is missing"),
        ("expires_at", None, ".expires_at is missing"),
        ("other", Some(true.into()), ".other is unknown"),
    ] {
        let mut bad = good.clone();
        match value {
            Some(value) => bad[field] = value,
            None => drop(bad.as_object_mut().unwrap().remove(field)),
        }
        assert_eq!(problems("token", &bad), [problem]);
    }
    // In an element of a list, and in an object that can be null.
    let mut plan = serde_json::json!({
        "schema": 1, "deps": null, "config_sh": null, "settings": [],
        "steps": [{"step": "register", "detail": "", "action": {"action": "keep"}}],
    });
    assert_eq!(problems("plan", &plan), Vec::<String>::new());
    plan["steps"][0]["action"] = serde_json::json!({"action": "do", "ghost": "x", "what": 1});
    let problems = problems("plan", &plan);
    assert_eq!(
        problems,
        [".steps[0].action.ghost is not of type \"integer\"", ".steps[0].action.what is unknown"]
    );
}

#[test]
fn every_schema_is_of_the_draft_and_has_an_id_of_its_own() {
    let mut ids = std::collections::BTreeSet::new();
    for (name, schema) in all() {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(ids.insert(schema["$id"].as_str().unwrap()), "{name}");
        if name == "event" {
            continue;
        }
        // Whatever a command prints, an error is of its schema.
        let error = serde_json::json!({"schema": 1, "error": {
            "name": "n", "class": "c", "exit_code": 78, "message": "m", "hint": null, "output": null,
            "not_undone": ["x"], "command": null,
        }});
        assert_eq!(problems(name, &error), Vec::<String>::new(), "{name}");
    }
    assert!(ids.len() > 20, "{ids:?}");
}
