//! The names of variables that Loom sets for every job.

/// All of them, in order; one that has no value in a run, as that of a branch in a repository without one, is empty.
pub const PREDEFINED: [&str; 23] = [
    "CI",
    "CI_COMMIT_BRANCH",
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_REF_SLUG",
    "CI_COMMIT_SHA",
    "CI_COMMIT_SHORT_SHA",
    "CI_JOB_IMAGE",
    "CI_JOB_NAME",
    "CI_JOB_STAGE",
    "CI_PIPELINE_ID",
    "CI_PROJECT_DIR",
    "LOOM_CI",
    "LOOM_COMMIT_SHA",
    "LOOM_JOB_ID",
    "LOOM_JOB_IMAGE",
    "LOOM_JOB_NAME",
    "LOOM_JOB_STAGE",
    "LOOM_JOB_TARGET",
    "LOOM_PIPELINE_ID",
    "LOOM_PROJECT_DIR",
    "LOOM_PROVIDER",
    "LOOM_RUN_ID",
    "LOOM_WORKFLOW_PATH",
];
