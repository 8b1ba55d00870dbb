//! The language as a JSON Schema, for editors. Keys, words and bounds are those that reading uses; what a schema cannot
//! say, as that a name must exist, only reading a workflow tells.

use serde_json::{Map, Value, json};

use super::artifacts::ArtifactsKey;
use super::cache::{EntryKey, KeySpecKey};
use super::image::{BuildKey, ImageKey};
use super::include::IncludeKey;
use super::keys::{Keys, written};
use super::needs::NeedKey;
use super::parallel::ParallelKey;
use super::retry::RetryKey;
use super::secrets::SecretKey;
use super::services::{ReadyKey, ServiceKey};
use super::timeout::TimeoutKey;
use super::value::name_pattern;
use super::workflow_rules::{RuleKey, WorkflowKey};
use super::workspace::{FilesKey, WorkspaceKey};
use super::{Keyword, RootKey, WHEN, cache, image, job, parallel, retry, stages, variables};

/// Anything but a blank text.
const FILLED: &str = r"\S";
/// A path that does not lead out of the workspace by its own words.
const PATH: &str = r"^(?![/~])(?!(?:[\s\S]*/)?\.\.(?:/|$))[\s\S]*\S";
/// Dollar signs only where they begin a whole reference, or are just that.
const REFERENCES: &str = r"^(?:[^$]|\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$(?![${]))*$";
/// An image's name, with whole references only.
const IMAGE: &str = r"^(?:[^\s$]|\$\$|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$(?![${\s]))+$";
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
    let mut root = object(RootKey::KEYS, &[RootKey::Stages], root_key);
    let jobs = json!({
        (format!("^(?!(?:{})$){}$", written(RootKey::KEYS).join("|"), name_pattern(job::MOST_NAME))): {
            "description": "A job: it runs in its stage, once what it needs has ended well.",
            "$ref": "#/$defs/job"
        },
        (format!("^\\.{}$", name_pattern(job::MOST_NAME))): {
            "description": "A template: it never runs itself, and gives what it holds to those that extend it.",
            "$ref": "#/$defs/job"
        }
    });
    let keywords = Keyword::ALL.iter().map(|keyword| (keyword.name().to_owned(), keyword_schema(*keyword)));
    let mut definitions: Map<String, Value> = keywords.collect();
    definitions.insert("job".to_owned(), object(Keyword::ALL, &[], keyword_reference));
    if let Value::Object(root) = &mut root {
        root.insert("patternProperties".to_owned(), jobs);
        root.insert("$defs".to_owned(), definitions.into());
        root.shift_insert(0, "$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
        root.shift_insert(1, "title".to_owned(), "Loom workflow v1".into());
    }
    root
}

fn root_key(key: RootKey) -> Value {
    match key {
        RootKey::Version => described(
            "The version of the workflow language. Leaving it out gives a warning.",
            json!({ "const": "v1" }),
        ),
        RootKey::Stages => described(
            "The stages in the order in which they run. A job begins when all jobs of the stages before its own have ended.",
            list(json!({ "type": "string", "pattern": format!("^{}$", name_pattern(stages::MOST_NAME)) }), 1),
        ),
        RootKey::Include => described(
            "Other files of the repository, whose jobs, templates, variables and defaults this file builds on. What stands here is nearer than what they say.",
            json!({ "type": "array", "items": object(IncludeKey::KEYS, IncludeKey::KEYS, include_key) }),
        ),
        RootKey::Workflow => described(
            "When the workflow applies. Only the shape is checked: conditions are not evaluated yet.",
            object(WorkflowKey::KEYS, WorkflowKey::KEYS, |WorkflowKey::Rules| {
                let rule = object(RuleKey::KEYS, RuleKey::KEYS, |RuleKey::If| {
                    described("A condition.", text(FILLED))
                });
                described("The conditions.", json!({ "type": "array", "items": rule }))
            }),
        ),
        RootKey::Workspace => described(
            "What of the workspace stays from run to run.",
            object(WorkspaceKey::KEYS, &[WorkspaceKey::Keep], workspace_key),
        ),
        RootKey::Variables => {
            described("Variables of every job, under what `default`, templates and jobs set.", variables())
        }
        RootKey::Default => described(
            "What every job starts from. Templates and the job itself are nearer.",
            object(Keyword::IN_DEFAULT, &[], keyword_reference),
        ),
    }
}

fn workspace_key(key: WorkspaceKey) -> Value {
    match key {
        WorkspaceKey::Keep => described(
            "Folders that git ignores, or patterns of them: what jobs leave there, later runs find.",
            list(text(PATH), 1),
        ),
        WorkspaceKey::Key => described(
            "What the kept folders depend on: they begin empty when it changes.",
            object(FilesKey::KEYS, FilesKey::KEYS, |FilesKey::Files| {
                described("Files, or patterns of them.", list(text(PATH), 1))
            }),
        ),
    }
}

fn include_key(key: IncludeKey) -> Value {
    match key {
        IncludeKey::Local => {
            described("The file's path from the repository's root, in `.loom/templates/`.", text(TEMPLATE))
        }
    }
}

fn keyword_reference(keyword: Keyword) -> Value {
    json!({ "$ref": format!("#/$defs/{}", keyword.name()) })
}

fn keyword_schema(keyword: Keyword) -> Value {
    match keyword {
        Keyword::Stage => described("The stage in which the job runs: one of `stages`.", text(FILLED)),
        Keyword::Target => {
            described("The operating system that the job is for.", json!({ "enum": ["linux"] }))
        }
        Keyword::Script => described(
            "The job's steps, one shell command each. A step of several lines ends at the first line that fails.",
            json!({ "type": "array", "minItems": 1, "items": text(FILLED) }),
        ),
        Keyword::Extends => described(
            "Templates or jobs whose keywords the job takes over. Of several, a later one is nearer.",
            json!({ "anyOf": [text(FILLED), { "type": "array", "items": text(FILLED) }] }),
        ),
        Keyword::Needs => described("The jobs that must have ended well before this one starts.", needs()),
        Keyword::Variables => described(
            "The job's variables. A value may refer to others as `$NAME` or `${NAME}`; `$$` is a dollar sign. Numbers and booleans must be quoted.",
            variables(),
        ),
        Keyword::Image => described(
            "The container image in which the job runs. Nothing, or an empty text, undoes an inherited image: the job runs on the host.",
            json!({ "anyOf": [
                { "type": ["string", "null"], "pattern": format!("^$|{IMAGE}") },
                object(ImageKey::KEYS, &[], image_key),
            ] }),
        ),
        Keyword::Services => described(
            "Containers that run beside the job's own.",
            json!({ "type": "array", "items": { "anyOf": [
                text(IMAGE),
                object(ServiceKey::KEYS, &[ServiceKey::Name], service_key),
            ] } }),
        ),
        Keyword::Secrets => described(
            "Secrets by name. Only where they are found stands here, never their value.",
            named(object(SecretKey::KEYS, &[], secret_key)),
        ),
        Keyword::Cache => described(
            "What is kept from run to run: one cache, or several with a name each. `[]` or nothing turns inherited caches off.",
            json!({ "anyOf": [
                { "type": "null" },
                object(EntryKey::KEYS, &[], cache_key),
                { "type": "array", "items": object(EntryKey::KEYS, &[EntryKey::Name], cache_key) },
            ] }),
        ),
        Keyword::Artifacts => described(
            "The files that are kept with the run once the job has ended.",
            object(ArtifactsKey::KEYS, &[], artifacts_key),
        ),
        Keyword::RunnerPool => described(
            "The pool of machines that the job is meant for. A local run takes no notice.",
            text(FILLED),
        ),
        Keyword::Invariant => described(
            "Any mapping of your own. Loom carries it along and gives it no meaning.",
            json!({ "type": "object" }),
        ),
        Keyword::Timeout => described("How long the job, and each of its steps, may take.", timeout()),
        Keyword::Retry => {
            described("How often a failed job is run again.", object(RetryKey::KEYS, &[], retry_key))
        }
        Keyword::AllowFailure => described(
            "The job's failure neither blocks other jobs nor fails the run.",
            json!({ "type": "boolean" }),
        ),
        Keyword::Parallel => described(
            "Several jobs from one definition.",
            object(ParallelKey::KEYS, ParallelKey::KEYS, |ParallelKey::Matrix| matrix()),
        ),
        Keyword::Provider => described(
            "What runs the job: `host`, `docker`, or one that a plugin brings. Without it the image decides.",
            text(&format!("^{}$", name_pattern(job::MOST_NAME))),
        ),
    }
}

fn needs() -> Value {
    let need = object(NeedKey::KEYS, &[NeedKey::Job], |key| match key {
        NeedKey::Job => described("The name of the job to wait for.", text(FILLED)),
        NeedKey::Optional => described("The job may be absent from the workflow.", flag(false)),
        NeedKey::Artifacts => {
            described("The job's artifacts are put back before the steps run.", flag(false))
        }
    });
    list(json!({ "anyOf": [text(FILLED), need] }), 0)
}

fn image_key(key: ImageKey) -> Value {
    match key {
        ImageKey::Name => described("The image's name, which is also the tag of what is built.", text(IMAGE)),
        ImageKey::Build => described(
            "How the image is built before the job runs.",
            object(BuildKey::KEYS, &[], |key| match key {
                BuildKey::Context => described(
                    "The folder that is sent to the build, from the repository's root.",
                    both(PATH, REFERENCES),
                ),
                BuildKey::Dockerfile => described(
                    "The file that says how to build, from the repository's root.",
                    both(PATH, REFERENCES),
                ),
                BuildKey::Args => described(
                    "The build's arguments by name.",
                    json!({ "type": "object", "additionalProperties": text(REFERENCES) }),
                ),
                BuildKey::Target => described("The stage of the build to stop at.", both(FILLED, REFERENCES)),
            }),
        ),
        ImageKey::Entrypoint => {
            described("The words that start the container, in place of the image's own.", words())
        }
        ImageKey::PullPolicy => described("When the image is pulled.", one_of(&image::PULL_POLICIES)),
        ImageKey::User => {
            described("The user inside the container: a name or number, quoted.", both(FILLED, REFERENCES))
        }
        ImageKey::Platform => {
            described("The system and architecture, as in `linux/amd64`.", both(FILLED, REFERENCES))
        }
    }
}

fn service_key(key: ServiceKey) -> Value {
    match key {
        ServiceKey::Name => described("The service's image.", text(IMAGE)),
        ServiceKey::Alias => described("The host name under which steps reach the service.", text(ALIAS)),
        ServiceKey::Variables => {
            described("The service's variables, which may refer to the job's.", variables())
        }
        ServiceKey::Entrypoint => {
            described("The words that start the container, in place of the image's own.", words())
        }
        ServiceKey::Command => described("The words that the entrypoint is given.", words()),
        ServiceKey::Ready => {
            let mut ready = object(ReadyKey::KEYS, &[], |key| match key {
                ReadyKey::Command => {
                    described("A command inside the service that succeeds once it can be used.", text(FILLED))
                }
                ReadyKey::Port => described(
                    "A port that answers once the service can be used.",
                    json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
                ),
                ReadyKey::Timeout => described("How long to wait for it.", text(DURATION)),
            });
            ready["oneOf"] = json!([{ "required": ["command"] }, { "required": ["port"] }]);
            described("How to tell that the service can be used: by a command or by a port.", ready)
        }
    }
}

fn secret_key(key: SecretKey) -> Value {
    match key {
        SecretKey::Reference => described("Where the value is found, as in `env://TOKEN`.", text(REFERENCE)),
        SecretKey::File => described(
            "The variable holds the path of a file with the value; otherwise the value itself.",
            flag(true),
        ),
        SecretKey::Required => described("The job fails where there is no value.", flag(true)),
    }
}

/// A text that two patterns match.
fn both(one: &str, other: &str) -> Value {
    json!({ "type": "string", "allOf": [{ "pattern": one }, { "pattern": other }] })
}

fn cache_key(key: EntryKey) -> Value {
    match key {
        EntryKey::Name => {
            described("The cache's name, by which an inherited one of the same name is merged.", text(FILLED))
        }
        EntryKey::Disabled => described("The cache is not used.", flag(false)),
        EntryKey::Paths => described("What is kept, from the repository's root.", paths(1)),
        EntryKey::Key => described(
            "What tells one state of the cache from another.",
            json!({ "anyOf": [
                { "type": "string", "allOf": [{ "pattern": FILLED }, { "pattern": REFERENCES }] },
                object(KeySpecKey::KEYS, &[], |key| match key {
                    KeySpecKey::Prefix => described("The beginning of the key.", both(FILLED, REFERENCES)),
                    KeySpecKey::Files => described("The files whose content makes the rest of the key.", paths(1)),
                    KeySpecKey::Template => described(
                        "The whole key as a text with references; it goes with neither prefix nor files.",
                        both(FILLED, REFERENCES),
                    ),
                }),
            ] }),
        ),
        EntryKey::FallbackKeys => described(
            "Keys that are tried in order where the key itself finds nothing.",
            json!({ "type": "array", "items": text(REFERENCES) }),
        ),
        EntryKey::Policy => {
            described("Whether the cache is restored, saved, or both.", one_of(&cache::POLICIES))
        }
        EntryKey::When => described("After which end of the job the cache is saved.", one_of(&WHEN)),
    }
}

fn artifacts_key(key: ArtifactsKey) -> Value {
    match key {
        ArtifactsKey::Paths => described("What is kept, from the repository's root.", paths(1)),
        ArtifactsKey::Exclude => described("What is left out of it.", paths(0)),
        ArtifactsKey::Name => described("What the artifacts are called.", text(FILLED)),
        ArtifactsKey::When => described("After which end of the job they are kept.", one_of(&WHEN)),
    }
}

fn timeout() -> Value {
    let mut both = object(TimeoutKey::KEYS, &[], |key| match key {
        TimeoutKey::Job => described("How long the whole job may take.", text(DURATION)),
        TimeoutKey::Step => described("How long each step may take.", text(DURATION)),
    });
    both["minProperties"] = 1.into();
    json!({ "anyOf": [text(DURATION), both] })
}

fn retry_key(key: RetryKey) -> Value {
    match key {
        RetryKey::Max => described(
            "How many runs may follow the first.",
            json!({ "type": "integer", "minimum": 0, "maximum": retry::MOST }),
        ),
        RetryKey::When => {
            let one = one_of(&retry::WHEN);
            described(
                "Which failures are worth another run.",
                json!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] }),
            )
        }
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

/// A mapping of `keys` and no others. `property` gives each its schema.
fn object<K: Keys>(keys: &[K], required: &[K], property: impl Fn(K) -> Value) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.as_written().to_owned(), property(*key))).collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = written(required).into();
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
    json!({ "type": "array", "minItems": least, "items": both(PATH, REFERENCES) })
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
