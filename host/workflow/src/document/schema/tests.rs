//! The schema against the reader: what one knows, the other knows.

use std::path::Path;

use serde_json::{Value, json};

use super::super::invariant;
use super::schema;
use crate::diagnostic::Problems;
use crate::source::Sources;
use crate::{NoFiles, load, yaml};

/// Faults that no schema can express, each with the reason.
const BEYOND_A_SCHEMA: [(&str, &str); 32] = [
    ("cache_incomplete", "what is missing may be inherited"),
    ("cache_names", "what is set is beyond one place"),
    ("errors_of_both_kinds", "the fault is in the included file"),
    ("escaped_nul", "a text is a text"),
    ("extends_cycle", "who extends whom"),
    ("extends_cycles_several", "who extends whom"),
    ("extends_depth_65", "who extends whom"),
    ("extends_depth_backwards", "who extends whom"),
    ("extends_itself", "who extends whom"),
    ("image_incomplete_template", "what is missing may be inherited"),
    ("include_cycle", "other files"),
    ("include_itself", "other files"),
    ("include_missing", "other files"),
    ("include_too_deep", "other files"),
    ("needs_cycle", "who needs whom"),
    ("needs_cycles_several", "who needs whom"),
    ("needs_inherited", "who needs whom"),
    ("needs_later_stage", "the order of stages"),
    ("needs_matrix_of_itself", "who needs whom"),
    ("needs_template", "who is a template"),
    ("needs_unknown", "which names exist"),
    ("no_job", "templates and jobs are told apart by name"),
    ("parallel_ids", "ids are made of values"),
    ("parallel_too_many", "a product of lengths"),
    ("references", "which variables exist"),
    ("required_keys", "what is missing may be inherited"),
    ("secrets_and_variables", "two mappings share a name"),
    ("secrets_incomplete_template", "what is missing may be inherited"),
    ("services_same_name", "which names are taken"),
    ("variables_cycle", "who refers to whom"),
    ("variables_cycle_through_job", "who refers to whom"),
    ("variables_grow", "lengths after filling in"),
];

fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new("../../tests/fixtures").join(folder);
    let files = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut texts: Vec<(String, String)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs_err::read_to_string(path).unwrap())
        })
        .collect();
    texts.sort();
    texts
}

/// The text as JSON, unless it breaks the rules of YAML already.
fn to_json(text: &str) -> Option<Value> {
    let mut sources = Sources::default();
    let mut problems = Problems::default();
    let file = sources.add("w.yml", text);
    let tree = yaml::parse(&sources, file, &mut yaml::MOST_VALUES.clone(), &mut problems)?;
    (!problems.has_errors()).then(|| invariant::json(&invariant::data(&tree)))
}

/// Every place of the schema that holds keys: their names, and how to write one of them into a workflow.
fn places() -> Vec<(Vec<String>, String)> {
    let schema = schema();
    let mut places = Vec::new();
    let keys = |value: &Value| value["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let head = "version: v1\nstages: [ci]\n";
    places.push((keys(&schema), "KEY: {}\n".to_owned()));
    places.push((keys(&schema["properties"]["default"]), format!("{head}default: {{KEY: {{}}}}\n")));
    let include = &schema["properties"]["include"]["items"];
    places.push((keys(include), format!("{head}include: [{{KEY: {{}}}}]\n")));
    let workflow = &schema["properties"]["workflow"];
    places.push((keys(workflow), format!("{head}workflow: {{KEY: {{}}}}\n")));
    let rule = &workflow["properties"]["rules"]["items"];
    places.push((keys(rule), format!("{head}workflow: {{rules: [{{KEY: {{}}}}]}}\n")));
    let workspace = &schema["properties"]["workspace"];
    places.push((keys(workspace), format!("{head}workspace: {{KEY: {{}}}}\n")));
    places
        .push((keys(&workspace["properties"]["key"]), format!("{head}workspace: {{key: {{KEY: {{}}}}}}\n")));
    let defs = &schema["$defs"];
    let mut job = |value: &Value, inside: &str| {
        places.push((keys(value), format!("{head}job: {inside}\n")));
    };
    job(&defs["job"], "{KEY: {}}");
    job(&defs["needs"]["items"]["anyOf"][1], "{needs: [{KEY: {}}]}");
    job(&defs["image"]["anyOf"][1], "{image: {KEY: {}}}");
    job(&defs["image"]["anyOf"][1]["properties"]["build"], "{image: {build: {KEY: {}}}}");
    let service = &defs["services"]["items"]["anyOf"][1];
    job(service, "{services: [{KEY: {}}]}");
    job(&service["properties"]["ready"], "{services: [{ready: {KEY: {}}}]}");
    job(&defs["secrets"]["additionalProperties"], "{secrets: {A: {KEY: {}}}}");
    for (cache, around) in
        [(&defs["cache"]["anyOf"][1], "{KEY: {}}"), (&defs["cache"]["anyOf"][2]["items"], "[{KEY: {}}]")]
    {
        job(cache, &format!("{{cache: {around}}}"));
        let key = around.replace("KEY: {}", "key: {KEY: {}}");
        job(&cache["properties"]["key"]["anyOf"][1], &format!("{{cache: {key}}}"));
    }
    job(&defs["artifacts"], "{artifacts: {KEY: {}}}");
    job(&defs["timeout"]["anyOf"][1], "{timeout: {KEY: {}}}");
    job(&defs["retry"], "{retry: {KEY: {}}}");
    job(&defs["parallel"], "{parallel: {KEY: {}}}");
    places
}

/// How many mappings with keys of their own are in `schema`.
fn count_objects(schema: &Value) -> usize {
    match schema {
        Value::Object(map) => {
            usize::from(map.contains_key("properties")) + map.values().map(count_objects).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(count_objects).sum(),
        _ => 0,
    }
}

#[test]
fn it_is_a_schema_and_every_key_has_a_description() {
    fn look(schema: &Value, root: &Value) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let described = match property["$ref"].as_str() {
                Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
                None => property,
            };
            assert!(described["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
        }
        match schema {
            Value::Object(map) => map.values().for_each(|value| look(value, root)),
            Value::Array(items) => items.iter().for_each(|value| look(value, root)),
            _ => {}
        }
    }
    let schema = schema();
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
    look(&schema, &schema);
}

#[test]
fn the_reader_knows_every_key_of_the_schema_and_no_other() {
    let places = places();
    assert_eq!(places.len(), count_objects(&schema()), "a place with keys is not looked at");
    let messages = |place: &str, key: &str| {
        let text = place.replace("KEY", key);
        load("w.yml", &text, &NoFiles).diagnostics.render_short()
    };
    for (keys, place) in places {
        for key in &keys {
            let said = messages(&place, key);
            assert!(!said.contains("unknown"), "{key} in {place}: {said}");
            assert!(!said.contains("does not allow it"), "{key} in {place}: {said}");
        }
        // At the root, any other key is a job.
        if place.starts_with("KEY") {
            continue;
        }
        let said = messages(&place, "zzz");
        let unknown =
            said.lines().find(|line| line.contains("unknown")).unwrap_or_else(|| panic!("{place}: {said}"));
        // Where the message lists what is allowed, that is what the schema has.
        if let Some((_, allowed)) = unknown.split_once(" allows ") {
            let allowed = allowed.trim_start_matches("key ");
            let allowed: Vec<&str> = allowed.split(", ").flat_map(|words| words.split(" and ")).collect();
            assert_eq!(allowed, keys, "{place}");
        }
    }
}

#[test]
fn what_can_be_read_fits_the_schema() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for (name, text) in fixtures("ok") {
        let value = to_json(&text).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn what_has_the_wrong_shape_does_not() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let passed: Vec<String> = fixtures("bad")
        .into_iter()
        .filter_map(|(name, text)| Some((name, to_json(&text)?)))
        .filter(|(_, value)| validator.is_valid(value))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(passed, BEYOND_A_SCHEMA.map(|(name, _)| name));
}

#[test]
fn patterns_draw_the_lines_where_the_reader_does() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let cases = [
        ("timeout", vec![json!("1h30m"), json!("90s"), json!("250ms"), json!("1s5ms"), json!("0m1s")]),
        (
            "timeout",
            vec![json!("0s"), json!(""), json!("m"), json!("1.5h"), json!("5s1m"), json!("1d"), json!(10)],
        ),
        ("variables", vec![json!({"A": "$B ${C} $$ $ $- a$"}), json!({"_": ""})]),
        (
            "variables",
            vec![json!({"A": "${"}), json!({"A": "${}"}), json!({"A": "$${x ${1}"}), json!({"a": ""})],
        ),
        (
            "secrets",
            ["env://TOKEN", "keepass://a#b:c:d", "op://v/i/f", "vault+v2://x?y#z"].map(secret).to_vec(),
        ),
        (
            "secrets",
            ["hunter2", "env://1A", "keepass://a:b", "keepass://a#:c", "op://v/i", "op://v//f", "ENV://A"]
                .map(secret)
                .to_vec(),
        ),
        ("artifacts", ["a", "./a", "a..b/c", "a/..b", "**/*.txt"].map(kept).to_vec()),
        ("artifacts", ["", " ", "/a", "~/a", "..", "a/..", "a/../b", "../a"].map(kept).to_vec()),
        (
            "image",
            vec![json!(""), json!(null), json!("a/b:c"), json!({"name": "a"}), json!("a:${CI_JOB_NAME}")],
        ),
        ("image", vec![json!(" "), json!("a:${A:-b}"), json!("a b"), json!(1), json!([])]),
    ];
    for (keyword, values) in cases {
        for value in values {
            let workflow = json!({
                "version": "v1",
                "stages": ["ci"],
                "job": { "stage": "ci", "target": "linux", "script": ["x"], keyword: value }
            });
            // JSON is YAML.
            let loaded = load("w.yml", &workflow.to_string(), &NoFiles);
            assert_eq!(validator.is_valid(&workflow), loaded.plan.is_some(), "{workflow}");
        }
    }
}

fn secret(reference: &str) -> Value {
    json!({ "A": { "ref": reference } })
}

fn kept(path: &str) -> Value {
    json!({ "paths": [path] })
}
