//! The language as a JSON Schema, for editors. Keys, words and bounds are those that reading uses; what a schema cannot
//! say, as that a name must exist, only reading a workflow tells.

use serde_json::{Map, Value, json};

use super::value::name_pattern;
use super::{
    ROOT_KEYS, WHEN, artifacts, cache, image, include, job, needs, parallel, retry, secrets, services,
    stages, timeout, variables, workflow_rules,
};

/// Anything but a blank text.
const FILLED: &str = r"\S";
/// A path that does not lead out of the workspace by its own words.
const PATH: &str = r"^(?![/~])(?!(?:[\s\S]*/)?\.\.(?:/|$))[\s\S]*\S";
/// Dollar signs only where they begin a whole reference, or are just that.
const REFERENCES: &str = r"^(?:[^$]|\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$(?![${]))*$";
/// An image's name, without references.
const IMAGE: &str = r"^[^\s$]+$";
/// Whole numbers with units, the larger units first, at least one of them not zero.
const DURATION: &str = r"^(?=[a-z0-9]*[1-9])(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+s)?(?:[0-9]+ms)?$";
/// A file in the templates' folder.
const TEMPLATE: &str =
    r"^\.loom/templates/(?:(?!\.{1,2}/)[^/\\\x00-\x1f\x7f-\x9f]+/)*[^/\\\x00-\x1f\x7f-\x9f]+\.ya?ml$";
/// A secret's place: the schemes that Loom brings have a shape of their own.
const REFERENCE: &str = r"^(?:env://[A-Za-z_][A-Za-z0-9_]*|keepass://[^#]+#.+:[^:]+|op://[^/?#]+(?:/[^/?#]+){2,}|(?!(?:env|keepass|op)://)[a-z][a-z0-9+.-]*://.+)$";
/// A service's host name.
const ALIAS: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";

/// The schema of a whole workflow file.
pub(crate) fn schema() -> Value {
    let mut root = object(&ROOT_KEYS, &["stages"], root_key);
    let jobs = json!({
        (format!("^(?!(?:{})$){}$", ROOT_KEYS.join("|"), name_pattern(job::MOST_NAME))): {
            "description": "A job: it runs in its stage, once what it needs has ended well.",
            "$ref": "#/$defs/job"
        },
        (format!("^\\.{}$", name_pattern(job::MOST_NAME))): {
            "description": "A template: it never runs itself, and gives what it holds to those that extend it.",
            "$ref": "#/$defs/job"
        }
    });
    let keywords = job::KEYWORDS.iter().map(|keyword| ((*keyword).to_owned(), keyword_schema(keyword)));
    let mut definitions: Map<String, Value> = keywords.collect();
    definitions.insert("job".to_owned(), object(&job::KEYWORDS, &[], keyword_reference));
    if let Value::Object(root) = &mut root {
        root.insert("patternProperties".to_owned(), jobs);
        root.insert("$defs".to_owned(), definitions.into());
        root.shift_insert(0, "$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        root.shift_insert(1, "title".to_owned(), "Loom workflow v1".into());
    }
    root
}

fn root_key(key: &str) -> Value {
    match key {
        "version" => described(
            "The version of the workflow language. Leaving it out gives a warning.",
            json!({ "const": "v1" }),
        ),
        "stages" => described(
            "The stages in the order in which they run. A job begins when all jobs of the stages before its own have ended.",
            list(json!({ "type": "string", "pattern": format!("^{}$", name_pattern(stages::MOST_NAME)) }), 1),
        ),
        "include" => described(
            "Other files of the repository, whose jobs, templates, variables and defaults this file builds on. What stands here is nearer than what they say.",
            json!({ "type": "array", "items": object(&include::KEYS, &include::KEYS, include_key) }),
        ),
        "workflow" => described(
            "When the workflow applies. Only the shape is checked: conditions are not evaluated yet.",
            object(&workflow_rules::KEYS, &workflow_rules::KEYS, |_| {
                let rule = object(&workflow_rules::RULE_KEYS, &workflow_rules::RULE_KEYS, |_| {
                    described("A condition.", text(FILLED))
                });
                described("The conditions.", json!({ "type": "array", "items": rule }))
            }),
        ),
        "variables" => {
            described("Variables of every job, under what `default`, templates and jobs set.", variables())
        }
        "default" => described(
            "What every job starts from. Templates and the job itself are nearer.",
            object(&job::DEFAULT_KEYWORDS, &[], keyword_reference),
        ),
        _ => Value::Null,
    }
}

fn include_key(key: &str) -> Value {
    match key {
        "local" => {
            described("The file's path from the repository's root, in `.loom/templates/`.", text(TEMPLATE))
        }
        _ => Value::Null,
    }
}

fn keyword_reference(keyword: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{keyword}") })
}

fn keyword_schema(keyword: &str) -> Value {
    match keyword {
        "stage" => described("The stage in which the job runs: one of `stages`.", text(FILLED)),
        "target" => described("The operating system that the job is for.", json!({ "enum": ["linux"] })),
        "script" => described(
            "The job's steps, one shell command each. A step of several lines ends at the first line that fails.",
            json!({ "type": "array", "minItems": 1, "items": text(FILLED) }),
        ),
        "extends" => described(
            "Templates or jobs whose keywords the job takes over. Of several, a later one is nearer.",
            json!({ "anyOf": [text(FILLED), { "type": "array", "items": text(FILLED) }] }),
        ),
        "needs" => described("The jobs that must have ended well before this one starts.", needs()),
        "variables" => described(
            "The job's variables. A value may refer to others as `$NAME` or `${NAME}`; `$$` is a dollar sign. Numbers and booleans must be quoted.",
            variables(),
        ),
        "image" => described(
            "The container image in which the job runs. Nothing, or an empty text, undoes an inherited image: the job runs on the host.",
            json!({ "anyOf": [
                { "type": ["string", "null"], "pattern": r"^[^\s$]*$" },
                object(&image::KEYS, &[], image_key),
            ] }),
        ),
        "services" => described(
            "Containers that run beside the job's own.",
            json!({ "type": "array", "items": { "anyOf": [
                text(IMAGE),
                object(&services::KEYS, &["name"], service_key),
            ] } }),
        ),
        "secrets" => described(
            "Secrets by name. Only where they are found stands here, never their value.",
            named(object(&secrets::KEYS, &[], secret_key)),
        ),
        "cache" => described(
            "What is kept from run to run: one cache, or several with a name each. `[]` or nothing turns inherited caches off.",
            json!({ "anyOf": [
                { "type": "null" },
                object(&cache::KEYS, &[], cache_key),
                { "type": "array", "items": object(&cache::KEYS, &["name"], cache_key) },
            ] }),
        ),
        "artifacts" => described(
            "The files that are kept with the run once the job has ended.",
            object(&artifacts::KEYS, &[], artifacts_key),
        ),
        "runner_pool" => described(
            "The pool of machines that the job is meant for. A local run takes no notice.",
            text(FILLED),
        ),
        "invariant" => described(
            "Any mapping of your own. Loom carries it along and gives it no meaning.",
            json!({ "type": "object" }),
        ),
        "timeout" => described("How long the job, and each of its steps, may take.", timeout()),
        "retry" => described("How often a failed job is run again.", object(&retry::KEYS, &[], retry_key)),
        "allow_failure" => described(
            "The job's failure neither blocks other jobs nor fails the run.",
            json!({ "type": "boolean" }),
        ),
        "parallel" => described(
            "Several jobs from one definition.",
            object(&parallel::KEYS, &parallel::KEYS, |_| matrix()),
        ),
        "provider" => described(
            "What runs the job: `host`, `docker`, or one that a plugin brings. Without it the image decides.",
            text(&format!("^{}$", name_pattern(job::MOST_NAME))),
        ),
        _ => Value::Null,
    }
}

fn needs() -> Value {
    let need = object(&needs::KEYS, &["job"], |key| match key {
        "job" => described("The name of the job to wait for.", text(FILLED)),
        "optional" => described("The job may be absent from the workflow.", flag(false)),
        "artifacts" => described("The job's artifacts are put back before the steps run.", flag(false)),
        _ => Value::Null,
    });
    list(json!({ "anyOf": [text(FILLED), need] }), 0)
}

fn image_key(key: &str) -> Value {
    match key {
        "name" => described("The image's name, which is also the tag of what is built.", text(IMAGE)),
        "build" => described(
            "How the image is built before the job runs.",
            object(&image::BUILD_KEYS, &[], |key| match key {
                "context" => {
                    described("The folder that is sent to the build, from the repository's root.", text(PATH))
                }
                "dockerfile" => {
                    described("The file that says how to build, from the repository's root.", text(PATH))
                }
                "args" => described(
                    "The build's arguments by name.",
                    json!({ "type": "object", "additionalProperties": { "type": "string" } }),
                ),
                "target" => described("The stage of the build to stop at.", text(FILLED)),
                _ => Value::Null,
            }),
        ),
        "entrypoint" => {
            described("The words that start the container, in place of the image's own.", words())
        }
        "pull_policy" => described("When the image is pulled.", one_of(&image::PULL_POLICIES)),
        "user" => described("The user inside the container: a name or number, quoted.", text(FILLED)),
        "platform" => described("The system and architecture, as in `linux/amd64`.", text(FILLED)),
        _ => Value::Null,
    }
}

fn service_key(key: &str) -> Value {
    match key {
        "name" => described("The service's image.", text(IMAGE)),
        "alias" => described("The host name under which steps reach the service.", text(ALIAS)),
        "variables" => described("The service's variables, which may refer to the job's.", variables()),
        "entrypoint" => {
            described("The words that start the container, in place of the image's own.", words())
        }
        "command" => described("The words that the entrypoint is given.", words()),
        "ready" => {
            let mut ready = object(&services::READY_KEYS, &[], |key| match key {
                "command" => {
                    described("A command inside the service that succeeds once it can be used.", text(FILLED))
                }
                "port" => described(
                    "A port that answers once the service can be used.",
                    json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
                ),
                "timeout" => described("How long to wait for it.", text(DURATION)),
                _ => Value::Null,
            });
            ready["oneOf"] = json!([{ "required": ["command"] }, { "required": ["port"] }]);
            described("How to tell that the service can be used: by a command or by a port.", ready)
        }
        _ => Value::Null,
    }
}

fn secret_key(key: &str) -> Value {
    match key {
        "ref" => described("Where the value is found, as in `env://TOKEN`.", text(REFERENCE)),
        "file" => described(
            "The variable holds the path of a file with the value; otherwise the value itself.",
            flag(true),
        ),
        "required" => described("The job fails where there is no value.", flag(true)),
        _ => Value::Null,
    }
}

fn cache_key(key: &str) -> Value {
    match key {
        "name" => {
            described("The cache's name, by which an inherited one of the same name is merged.", text(FILLED))
        }
        "disabled" => described("The cache is not used.", flag(false)),
        "paths" => described("What is kept, from the repository's root.", paths(1)),
        "key" => described(
            "What tells one state of the cache from another.",
            json!({ "anyOf": [
                { "type": "string", "allOf": [{ "pattern": FILLED }, { "pattern": REFERENCES }] },
                object(&cache::KEY_KEYS, &[], |key| match key {
                    "prefix" => described("The beginning of the key.", text(FILLED)),
                    "files" => described("The files whose content makes the rest of the key.", paths(1)),
                    "template" => described(
                        "The whole key as a text with references; it goes with neither prefix nor files.",
                        json!({ "type": "string", "allOf": [{ "pattern": FILLED }, { "pattern": REFERENCES }] }),
                    ),
                    _ => Value::Null,
                }),
            ] }),
        ),
        "fallback_keys" => described(
            "Keys that are tried in order where the key itself finds nothing.",
            json!({ "type": "array", "items": text(REFERENCES) }),
        ),
        "policy" => described("Whether the cache is restored, saved, or both.", one_of(&cache::POLICIES)),
        "when" => described("After which end of the job the cache is saved.", one_of(&WHEN)),
        _ => Value::Null,
    }
}

fn artifacts_key(key: &str) -> Value {
    match key {
        "paths" => described("What is kept, from the repository's root.", paths(1)),
        "exclude" => described("What is left out of it.", paths(0)),
        "name" => described("What the artifacts are called.", text(FILLED)),
        "when" => described("After which end of the job they are kept.", one_of(&WHEN)),
        _ => Value::Null,
    }
}

fn timeout() -> Value {
    let mut both = object(&timeout::KEYS, &[], |key| match key {
        "job" => described("How long the whole job may take.", text(DURATION)),
        "step" => described("How long each step may take.", text(DURATION)),
        _ => Value::Null,
    });
    both["minProperties"] = 1.into();
    json!({ "anyOf": [text(DURATION), both] })
}

fn retry_key(key: &str) -> Value {
    match key {
        "max" => described(
            "How many runs may follow the first.",
            json!({ "type": "integer", "minimum": 0, "maximum": retry::MOST }),
        ),
        "when" => {
            let one = one_of(&retry::WHEN);
            described(
                "Which failures are worth another run.",
                json!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] }),
            )
        }
        _ => Value::Null,
    }
}

fn matrix() -> Value {
    let value = text(REFERENCES);
    let mut values = list(value.clone(), 1);
    values["maxItems"] = parallel::MOST_JOBS.into();
    let mut row = named(json!({ "anyOf": [value, values] }));
    row["minProperties"] = 1.into();
    described(
        "Each entry makes a job of every combination of its variables' values.",
        json!({ "type": "array", "minItems": 1, "items": row }),
    )
}

fn variables() -> Value {
    named(text(REFERENCES))
}

/// A mapping whose keys are names of variables.
fn named(value: Value) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": variables::NAME_PATTERN },
        "additionalProperties": value
    })
}

/// A mapping of `keys` and no others. `property` gives each its schema; for a key that it does not know, null, with which
/// no schema is valid.
fn object(keys: &[&str], required: &[&str], property: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), property(key))).collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

fn described(description: &str, mut schema: Value) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.shift_insert(0, "description".to_owned(), description.into());
    }
    schema
}

fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn words() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn paths(least: usize) -> Value {
    json!({ "type": "array", "minItems": least, "items": text(PATH) })
}

/// A list in which nothing stands twice.
fn list(item: Value, least: usize) -> Value {
    json!({ "type": "array", "minItems": least, "uniqueItems": true, "items": item })
}

fn flag(default: bool) -> Value {
    json!({ "type": "boolean", "default": default })
}

fn one_of<T>(choices: &[(&str, T)]) -> Value {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    json!({ "enum": words })
}

#[cfg(test)]
mod tests;
