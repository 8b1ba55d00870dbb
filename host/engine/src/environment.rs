//! What a job's processes find in their environment.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use loom_contract::graph_ir::Variable;
use loom_workflow::{PREDEFINED, Plan, PlanJob, Template};
use serde_json::{Map, Value};

use crate::run::RunContext;

/// What Loom and the workflow say of a job's environment, before it is known where the job runs.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    predefined: Vec<(&'static str, String)>,
    variables: Vec<Variable>,
}

/// The workflow's variables with all references filled in.
#[derive(Debug, Clone, Default)]
pub struct ResolvedVariables {
    /// The variables, in order of name.
    pub variables: Vec<(String, String)>,
    /// Names that are referred to and defined nowhere; each gave the empty text.
    pub unset: Vec<String>,
}

/// The environment of `loom` is for jobs on the host alone; these must not show through from an outer run.
const OF_IMAGES: [&str; 2] = ["LOOM_JOB_IMAGE", "CI_JOB_IMAGE"];
/// What a shell does not have that is no job's.
pub(crate) const OF_JOBS: [&str; 7] = [
    "LOOM_JOB_NAME",
    "CI_JOB_NAME",
    "LOOM_JOB_ID",
    "LOOM_JOB_STAGE",
    "CI_JOB_STAGE",
    "LOOM_JOB_TARGET",
    "LOOM_PROVIDER",
];
/// Variables that turn tracing on.
const TRACES: [&str; 2] = ["LOOM_DEBUG_TRACE", "CI_DEBUG_TRACE"];

impl ResolvedVariables {
    /// A warning for each name that is set nowhere: its text and its data.
    pub fn warnings(&self) -> impl Iterator<Item = (String, Map<String, Value>)> {
        self.unset.iter().map(|name| {
            let message = format!("variable `{name}` is referred to but not set; it is taken as empty");
            (message, Map::from_iter([("variable".to_owned(), name.as_str().into())]))
        })
    }
}

impl Definition {
    /// That of `job`, whose workspace it finds at `workspace`.
    pub(crate) fn new(run: &RunContext, stage: &str, job: &PlanJob, workspace: &Path) -> Self {
        Self { predefined: predefined(run, stage, job, workspace), variables: job.variables.clone() }
    }

    /// Fills in the variables: from what Loom predefines, then from what `outer` knows.
    pub(crate) fn fill(&self, outer: impl Fn(&str) -> Option<String>) -> ResolvedVariables {
        let mut unset = Vec::new();
        let mut lookup = |name: &str| {
            let known = self.predefined.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
            let value = known.or_else(|| outer(name));
            if value.is_none() && !unset.iter().any(|n| n == name) {
                unset.push(name.to_owned());
            }
            Some(value.unwrap_or_default())
        };
        let render =
            |variable: &Variable| (variable.key.clone(), Template::fill(&variable.value, &mut lookup));
        let variables = self.variables.iter().map(render).collect();
        ResolvedVariables { variables, unset }
    }

    /// `text` with its references filled in: from `variables`, what Loom predefines, and what `outer` knows. What is set
    /// nowhere is empty.
    pub(crate) fn fill_text(
        &self,
        text: &str,
        variables: &[(String, String)],
        outer: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let own = self.with(variables);
        let mut lookup =
            |name: &str| Some(own.get(name).cloned().or_else(|| outer(name)).unwrap_or_default());
        Template::fill(text, &mut lookup)
    }

    /// What Loom predefines; what could be and is not known of this run is empty.
    pub(crate) fn predefined(&self) -> Vec<(String, String)> {
        let known = self.predefined.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let unknown = PREDEFINED.iter().filter(|name| !self.predefined.iter().any(|(key, _)| key == *name));
        known.chain(unknown.map(|name| ((*name).to_owned(), String::new()))).collect()
    }

    /// What Loom predefines, and over it `variables`.
    pub(crate) fn with(&self, variables: &[(String, String)]) -> BTreeMap<String, String> {
        let predefined = self.predefined.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        predefined.chain(variables.iter().cloned()).collect()
    }
}

/// Removes from `env` the variables in which secrets of `plan` come: a job that asks for one has it under the secret's name,
/// and no other job has it.
pub(crate) fn remove_sources(env: &mut Vec<(OsString, OsString)>, plan: &Plan) {
    let secrets = plan.jobs.iter().flat_map(|job| &job.secrets);
    let sources: HashSet<&str> =
        secrets.filter_map(|secret| secret.reference.strip_prefix("env://")).collect();
    env.retain(|(name, _)| !name.to_str().is_some_and(|name| sources.contains(name)));
}

/// Everything that a process on the host gets, but for secrets: the environment of `loom`, and over it `set`.
pub(crate) fn on_host(run: &RunContext, set: BTreeMap<String, String>) -> Vec<(OsString, OsString)> {
    let mut host: BTreeMap<OsString, OsString> = run.env.iter().cloned().collect();
    // Nobody is there to answer: git is to fail, and not to look for another way to ask.
    host.entry("GIT_TERMINAL_PROMPT".into()).or_insert_with(|| "0".into());
    host.retain(|key, _| !OF_IMAGES.iter().any(|name| key == name));
    host.extend(set.into_iter().map(|(key, value)| (key.into(), value.into())));
    host.into_iter().collect()
}

/// Whether the user wants to see each command.
pub(crate) fn is_traced(env: &[(OsString, OsString)]) -> bool {
    let on = |value: &OsStr| !value.is_empty() && value != "0" && value != "false";
    env.iter().any(|(name, value)| TRACES.iter().any(|trace| name == trace) && on(value))
}

fn predefined(run: &RunContext, stage: &str, job: &PlanJob, workspace: &Path) -> Vec<(&'static str, String)> {
    let workspace = workspace.to_string_lossy();
    let mut set = vec![
        ("LOOM_CI", "true".to_owned()),
        ("CI", "true".to_owned()),
        ("LOOM_RUN_ID", run.ids.run_id.to_string()),
        ("LOOM_PIPELINE_ID", run.ids.pipeline_id.to_string()),
        ("CI_PIPELINE_ID", run.ids.pipeline_id.to_string()),
        ("LOOM_WORKFLOW_PATH", run.workflow_path.clone()),
        ("LOOM_JOB_NAME", job.id.to_string()),
        ("CI_JOB_NAME", job.id.to_string()),
        ("LOOM_JOB_ID", job.id.to_string()),
        ("LOOM_JOB_STAGE", stage.to_owned()),
        ("CI_JOB_STAGE", stage.to_owned()),
        ("LOOM_JOB_TARGET", job.target.clone()),
        ("LOOM_PROVIDER", job.provider.clone()),
        ("LOOM_PROJECT_DIR", workspace.clone().into_owned()),
        ("CI_PROJECT_DIR", workspace.into_owned()),
    ];
    if let Some(image) = &job.image {
        set.extend(OF_IMAGES.map(|name| (name, image.clone())));
    }
    if let Some(sha) = &run.head_sha {
        set.push(("LOOM_COMMIT_SHA", sha.clone()));
        set.push(("CI_COMMIT_SHA", sha.clone()));
        set.push(("CI_COMMIT_SHORT_SHA", sha.chars().take(8).collect()));
    }
    if let Some(branch) = &run.branch {
        set.push(("CI_COMMIT_BRANCH", branch.clone()));
        set.push(("CI_COMMIT_REF_NAME", branch.clone()));
        set.push(("CI_COMMIT_REF_SLUG", slug(branch)));
    }
    set
}

/// A name that may stand in host names and paths, as GitLab makes it: in lower case, 63 bytes at most, `-` for all but
/// letters and digits, and none of these at the ends.
fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let slug: String = name.to_lowercase().chars().map(plain).take(63).collect();
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_has_only_what_may_stand_in_a_host_name() {
        let long = "x".repeat(62) + "/y/z";
        for (name, expected) in [
            ("main", "main"),
            ("Feature/JIRA-12_new stuff", "feature-jira-12-new-stuff"),
            ("-1.0.x-", "1-0-x"),
            ("größe", "gr--e"),
            (&long, &long[..62]),
            ("///", ""),
        ] {
            assert_eq!(slug(name), expected, "{name}");
        }
    }
}
