//! Words of other CI systems, and what to write instead: whoever brings a workflow along knows those.

use crate::diagnostic::quoted;
use crate::yaml::{Entry, Kind, Node};

/// A keyword of jobs that is not Loom's: what to do about it, and the keyword that stands for it, which is then not missed.
const OF_JOBS: &[(&str, &str, Option<&str>)] = &[
    // GitLab
    (
        "after_script",
        "move the commands to the end of `script`, or into a job of a later stage: there is no `after_script`",
        None,
    ),
    ("before_script", "move the commands to the beginning of `script`: there is no `before_script`", None),
    ("coverage", NO_SERVER, None),
    (
        "dependencies",
        "write `needs: [{job: <name>, artifacts: true}]`, which is what `dependencies` does",
        None,
    ),
    ("environment", NO_SERVER, None),
    ("except", CONDITION, None),
    ("hooks", "move the commands into `script`: there are no `hooks`", None),
    ("id_tokens", "declare it in `secrets` with a `ref`: only a server signs `id_tokens`", None),
    ("inherit", "set in the job what it shall not inherit, as in `image: \"\"`: there is no `inherit`", None),
    ("interruptible", NO_SERVER, None),
    ("only", CONDITION, None),
    ("pages", NO_SERVER, None),
    ("release", "call the tool that makes the release in `script`: there is no `release`", None),
    ("resource_group", NO_SERVER, None),
    ("rules", CONDITION, None),
    ("start_in", "remove it: a local run waits for nothing", None),
    (
        "tags",
        "remove `tags`, which choose a server's machine: jobs run here; `runner_pool` keeps a name for other places",
        None,
    ),
    (
        "trigger",
        "run the other workflow by itself, with `loom run --local --workflow <path>`: there is no `trigger`",
        Some("script"),
    ),
    (
        "when",
        "remove `when`: a job runs if those before it passed; leave it out with `loom run --local --job <others>`",
        None,
    ),
    // GitHub Actions
    ("concurrency", NO_SERVER, None),
    ("container", "write `image: <name>`, which is what `container` does", None),
    ("continue-on-error", "write `allow_failure: true`, which is what `continue-on-error` does", None),
    ("defaults", "write the keywords into `default` at the root of the file", None),
    ("env", "write `variables`, which is what `env` is here", None),
    ("if", CONDITION, None),
    ("name", "call the job itself so: its name is its key, in small letters, digits, `-` and `_`", None),
    (
        "outputs",
        "write a file, and hand it on with `artifacts` and `needs: [{job: <name>, artifacts: true}]`",
        None,
    ),
    ("permissions", NO_SERVER, None),
    ("run", "write `script`, a list of commands, which is what `run` is here", Some("script")),
    (
        "runs-on",
        "write `target: linux`, and `image: <name>` for a container: jobs run on this machine",
        Some("target"),
    ),
    (
        "shell",
        "call the shell yourself, as in `bash -c '…'`, or a script that names it in its first line: steps run in `sh`",
        None,
    ),
    ("steps", "write `script`, a list of commands, which is what `steps` are here", Some("script")),
    ("strategy", "write `parallel: {matrix: [{NAME: [a, b]}]}`, which is what `strategy` does", None),
    ("timeout-minutes", "write `timeout: 10m`, which is what `timeout-minutes: 10` does", None),
    (
        "uses",
        "write commands into `script`: actions are not run, and the repository is there already",
        Some("script"),
    ),
    ("with", "write commands into `script`: actions and their inputs are not run", None),
    ("working-directory", WORKING_DIRECTORY, None),
    // CircleCI, Azure Pipelines, Buildkite, Travis and others
    ("agents", "remove `agents`: jobs run on this machine", None),
    ("command", "write `script`, a list of commands", Some("script")),
    ("commands", "write `script`, a list of commands", Some("script")),
    ("condition", CONDITION, None),
    ("dependsOn", "write `needs`, a list of job names", Some("needs")),
    ("depends_on", "write `needs`, a list of job names", Some("needs")),
    ("displayName", "call the job itself so, or write a comment", None),
    ("docker", "write `image: <name>`, and `services` for what stands beside it", None),
    ("environment_variables", "write `variables`", None),
    ("executor", "write `image: <name>`, or take it over with `extends`", None),
    ("label", "call the job itself so, or write a comment", None),
    ("machine", "remove `machine`: jobs run on this machine", None),
    ("matrix", "write it into `parallel`, as in `parallel: {matrix: [{NAME: [a, b]}]}`", None),
    ("parallelism", "write `parallel: {matrix: [{PART: [\"1\", \"2\"]}]}`", None),
    ("pool", "remove `pool`: jobs run on this machine; `runner_pool` keeps a name for other places", None),
    ("requires", "write `needs`, a list of job names", Some("needs")),
    ("resource_class", NO_SERVER, None),
    ("working_directory", WORKING_DIRECTORY, None),
];

/// A key of the root that is not Loom's.
const OF_ROOT: &[(&str, &str)] = &[
    ("after_script", "move the commands to the end of each job's `script`: there is no `after_script`"),
    (
        "before_script",
        "move the commands to the beginning of each job's `script`: there is no `before_script`",
    ),
    ("concurrency", NO_SERVER),
    ("env", "write `variables`, which is what `env` is here"),
    ("jobs", "write each job at the root of the file, without `jobs`"),
    ("name", "remove `name`: a workflow has none; a comment may say what it is for"),
    ("on", "remove `on`: `loom run --local` runs the workflow whenever you say so"),
    ("permissions", NO_SERVER),
    ("pipeline", "write each job at the root of the file, without `pipeline`"),
    ("run-name", "remove `run-name`: a run has an id"),
    ("spec", "write the values into `variables`: a workflow takes no inputs"),
    ("steps", "write jobs at the root of the file, each with a `script`"),
    ("trigger", "remove `trigger`: `loom run --local` runs the workflow whenever you say so"),
];

/// A key of a mapping within a job that is not Loom's, with what it stands in.
const NESTED: &[(&str, &str, &str)] = &[
    ("artifacts", "access", NO_SERVER),
    ("artifacts", "expire_in", "remove `expire_in`: artifacts stay with the record of their run"),
    ("artifacts", "expose_as", NO_SERVER),
    ("artifacts", "public", NO_SERVER),
    ("artifacts", "reports", "write the files of the reports into `paths`: there is no `reports`"),
    ("artifacts", "untracked", "name the files in `paths`: there is no `untracked`"),
    (
        "a need",
        "parallel",
        "name one job of the matrix by its id, which `loom compile` shows, or need all of them by their name",
    ),
    ("a need", "pipeline", "remove it: a workflow knows its own jobs only"),
    ("a need", "project", "remove it: a workflow knows its own jobs only"),
    ("include", "component", INCLUDE),
    ("include", "file", INCLUDE),
    ("include", "project", INCLUDE),
    ("include", "ref", INCLUDE),
    ("include", "remote", INCLUDE),
    ("include", "template", INCLUDE),
];

const GITLAB: &str = "a pipeline of GitLab CI";
const NO_SERVER: &str = "remove it: it speaks to a CI server, and changes nothing in a local run";
const CONDITION: &str = "put the condition into the commands, as in `if [ \"$CI_COMMIT_BRANCH\" = main ]; then …; fi`, or \
                         choose jobs with `loom run --local --job <name>`: Loom has no conditions for jobs";
const INCLUDE: &str = "copy the file to .loom/templates/<name>.yml, and write {local: .loom/templates/<name>.yml}: a \
                       workflow includes files of its own repository only";
const WORKING_DIRECTORY: &str =
    "write `cd <folder> && …` in the entries of `script`: each begins at the repository's root";

/// What to do about `key` of a job, and the keyword that is there by it.
pub(super) fn job_key(key: &str) -> Option<(&'static str, Option<&'static str>)> {
    OF_JOBS.iter().find(|(word, ..)| *word == key).map(|(_, hint, keyword)| (*hint, *keyword))
}

/// What to do about `key` of the root.
pub(super) fn root_key(key: &str) -> Option<&'static str> {
    OF_ROOT.iter().find(|(word, _)| *word == key).map(|(_, hint)| *hint)
}

/// What to do about `key` of `owner`, as messages call it.
pub(super) fn nested_key(owner: &str, key: &str) -> Option<&'static str> {
    NESTED.iter().find(|(of, word, _)| (*of, *word) == (owner, key)).map(|(.., hint)| *hint)
}

/// Whose file it is that has `entries` at its root, where it is no workflow of Loom.
pub(super) fn system(entries: &[Entry]) -> Option<&'static str> {
    let value = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let text = |key: &str| match value(key).map(|node| &node.kind) {
        Some(Kind::Scalar(scalar)) => Some(scalar.text.as_str()),
        _ => None,
    };
    let has = |key: &str| value(key).is_some();
    let any_has = |key: &str, inner: &[&str]| value(key).is_some_and(|node| some_item_has(node, inner));
    if text("version") == Some("v1") {
        return None;
    }
    Some(match () {
        () if has("apiVersion") && has("kind") => "a manifest of Kubernetes",
        () if has("tasks") && has("version") => "a Taskfile",
        () if has("pipelines") => "a workflow of Bitbucket Pipelines",
        () if has("jobs") && ["workflows", "orbs", "executors"].into_iter().any(has) => {
            "a workflow of CircleCI"
        }
        () if has("jobs") && (has("on") || any_has("jobs", &["runs-on", "uses"])) => {
            "a workflow of GitHub Actions"
        }
        () if has("runs") && (has("inputs") || has("description")) => "an action of GitHub Actions",
        () if any_has("steps", &["command", "commands", "label", "plugins", "agents", "wait"]) => {
            "a pipeline of Buildkite"
        }
        () if ["steps", "jobs", "stages"].into_iter().any(has)
            && (has("pool") || has("trigger") || has("pr"))
            && !any_has("stages", &[]) =>
        {
            "a pipeline of Azure Pipelines"
        }
        () if text("kind") == Some("pipeline") && has("steps") => "a pipeline of Drone",
        () if has("language") && (has("script") || has("install")) => "a workflow of Travis CI",
        () if !has("stages") && any_has("services", &["image", "build"]) => "a file of Docker Compose",
        () if !has("version") && words_of_gitlab(entries) > 1 => GITLAB,
        () => return None,
    })
}

/// How many words GitLab has and Loom has not, each counted once.
fn words_of_gitlab(entries: &[Entry]) -> usize {
    const WORDS: [&str; 14] = [
        "after_script",
        "before_script",
        "coverage",
        "dependencies",
        "environment",
        "except",
        "interruptible",
        "only",
        "resource_group",
        "rules",
        "tags",
        "trigger",
        "id_tokens",
        "release",
    ];
    let in_jobs =
        entries.iter().filter(|entry| entry.key != "workflow").filter_map(|entry| match &entry.value.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        });
    let mut keys = entries.iter().chain(in_jobs.flatten()).map(|entry| entry.key.as_str());
    let mut found: Vec<&str> = keys.by_ref().filter(|key| WORDS.contains(key)).collect();
    found.sort_unstable();
    found.dedup();
    found.len()
}

/// Whether an entry of `node`, a list or mapping of mappings, has one of `keys`.
fn some_item_has(node: &Node, keys: &[&str]) -> bool {
    let has = |node: &Node| match &node.kind {
        Kind::Map(entries) => entries.iter().any(|entry| keys.contains(&entry.key.as_str())),
        _ => false,
    };
    match &node.kind {
        Kind::List(items) => items.iter().any(has),
        Kind::Map(entries) => entries.iter().any(|entry| has(&entry.value)),
        Kind::Scalar(_) | Kind::Refused => false,
    }
}

/// Whose file `text` is, where that is no YAML at all.
pub(crate) fn system_of_text(text: &str) -> Option<&'static str> {
    let is_comment = |line: &&str| line.is_empty() || line.starts_with("//") || line.starts_with("#!");
    let first = text.lines().map(str::trim).find(|line| !is_comment(line))?;
    let is_jenkins = ["pipeline {", "pipeline{", "node {", "node(", "@Library"];
    is_jenkins.into_iter().any(|start| first.starts_with(start)).then_some("a Jenkinsfile")
}

/// What to do about a file of `system`.
pub(crate) fn whole(system: &str) -> String {
    let more = match system {
        GITLAB => "; once `version: v1` is there, each word that differs is told at its place",
        _ => "; `loom init` writes one where there is none",
    };
    format!(
        "write a workflow of Loom: this is {system}. A workflow has `version: v1` and `stages`, and jobs at its root, each with \
         a `stage`, `target: linux` and a `script`{more}"
    )
}

/// What to do about the keyword `name` of jobs that stands at the root, below the job `above`.
pub(super) fn keyword_at_root(name: &str, in_default: bool, above: Option<&str>) -> String {
    let to_job = above.map_or_else(
        || format!("move `{name}` into a job"),
        |job| format!("indent `{name}` to make it part of job {}", quoted(job)),
    );
    let to_default = if in_default { ", or move it into `default` for all jobs" } else { "" };
    format!("{to_job}{to_default}: it stands at the root")
}
