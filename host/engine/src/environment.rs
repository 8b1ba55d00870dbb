//! What a job's processes find in their environment.

use std::ffi::OsString;
use std::path::Path;

use loom_workflow::PlanJob;

use crate::run::RunContext;

/// The environment of one job.
pub(crate) struct Environment {
    /// The workflow's variables with all references filled in.
    pub(crate) variables: Vec<(String, String)>,
    /// Everything that a process on the host gets.
    pub(crate) host: Vec<(OsString, OsString)>,
    /// Names that are referred to and defined nowhere; each gave the empty text.
    pub(crate) unset: Vec<String>,
    /// Whether the user wants to see each command.
    pub(crate) debug_trace: bool,
}

/// Variables that only a job in an image has; one from an outer run must not show through.
const OF_IMAGES: [&str; 2] = ["LOOM_JOB_IMAGE", "CI_JOB_IMAGE"];
/// Variables that turn tracing on.
const TRACES: [&str; 2] = ["LOOM_DEBUG_TRACE", "CI_DEBUG_TRACE"];

/// Fills in the variables of `job`: from what Loom predefines, then from the environment of `loom` itself.
pub(crate) fn of_job(run: &RunContext, stage: &str, job: &PlanJob, workspace: &Path) -> Environment {
    let predefined = predefined(run, stage, job, workspace);
    let mut unset = Vec::new();
    let mut lookup = |name: &str| {
        let known = predefined.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        let outer =
            || run.env.iter().find(|(key, _)| key == name).map(|(_, v)| v.to_string_lossy().into_owned());
        let value = known.or_else(outer);
        if value.is_none() && !unset.iter().any(|n| n == name) {
            unset.push(name.to_owned());
        }
        Some(value.unwrap_or_default())
    };
    let variables: Vec<(String, String)> =
        job.variables.iter().map(|(key, value)| (key.clone(), value.render(&mut lookup))).collect();

    let set = predefined.iter().map(|(k, v)| (*k, v)).chain(variables.iter().map(|(k, v)| (k.as_str(), v)));
    let mut host: std::collections::BTreeMap<OsString, OsString> = run.env.iter().cloned().collect();
    host.retain(|key, _| !OF_IMAGES.iter().any(|name| key == name));
    host.extend(set.map(|(key, value)| (key.into(), value.into())));
    let debug_trace = TRACES.iter().any(|name| {
        let value = host.get(std::ffi::OsStr::new(name));
        value.is_some_and(|v| !v.is_empty() && v != "0" && v != "false")
    });
    Environment { variables, host: host.into_iter().collect(), unset, debug_trace }
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
    if let Some(sha) = &run.head_sha {
        set.push(("LOOM_COMMIT_SHA", sha.clone()));
        set.push(("CI_COMMIT_SHA", sha.clone()));
        set.push(("CI_COMMIT_SHORT_SHA", sha.chars().take(8).collect()));
    }
    if let Some(branch) = &run.branch {
        set.push(("CI_COMMIT_BRANCH", branch.clone()));
        set.push(("CI_COMMIT_REF_NAME", branch.clone()));
    }
    set
}
