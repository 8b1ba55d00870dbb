//! Errors as documents and events carry them, and the codes that Loom itself uses.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::redacted::Redact;

/// What went wrong: a stable code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct ErrorInfo {
    /// Stable machine code: one of [`code`], or a plugin's own.
    pub code: Cow<'static, str>,
    /// What happened, and to what.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorInfo {
    /// An error without a hint.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// The codes that Loom itself reports.
pub mod code {
    /// A workflow breaks a rule of the language.
    pub const WF_SCHEMA_V1: &str = "WF_SCHEMA_V1";
    /// A workflow uses a keyword that this version does not run.
    pub const WF_NOT_SUPPORTED: &str = "WF_NOT_SUPPORTED";
    /// An entry of a script changes nothing but its own shell, and other entries follow it: a warning.
    pub const WF_STEP_STATE: &str = "WF_STEP_STATE";
    /// The workflow file could not be read.
    pub const WORKFLOW_UNREADABLE: &str = "WORKFLOW_UNREADABLE";
    /// The run's copy of the repository could not be made.
    pub const WORKSPACE_FAILED: &str = "WORKSPACE_FAILED";
    /// A file of the contract could not be written.
    pub const RECORD_FAILED: &str = "RECORD_FAILED";
    /// A step's process ended with another code than 0.
    pub const STEP_EXIT_NONZERO: &str = "STEP_EXIT_NONZERO";
    /// A step's process was ended by a signal.
    pub const STEP_SIGNALLED: &str = "STEP_SIGNALLED";
    /// A step failed, and a process of its job was killed since memory was used up.
    pub const STEP_OUT_OF_MEMORY: &str = "STEP_OUT_OF_MEMORY";
    /// A step failed, and its job was refused a process since it had as many as it may.
    pub const STEP_OUT_OF_PROCESSES: &str = "STEP_OUT_OF_PROCESSES";
    /// A step took longer than it may.
    pub const STEP_TIMEOUT: &str = "STEP_TIMEOUT";
    /// A job took longer than it may.
    pub const JOB_TIMEOUT: &str = "JOB_TIMEOUT";
    /// A process could not be started.
    pub const SPAWN_FAILED: &str = "SPAWN_FAILED";
    /// The system does not let Loom have the memory or the threads that it needs.
    pub const SYSTEM_LIMIT: &str = "SYSTEM_LIMIT";
    /// Something happened that Loom's authors thought impossible.
    pub const INTERNAL: &str = "INTERNAL";
    /// The run was cancelled by a signal to Loom.
    pub const CANCELLED: &str = "CANCELLED";
    /// Artifacts could not be taken out of a workspace, or put into one.
    pub const ARTIFACTS_FAILED: &str = "ARTIFACTS_FAILED";
    /// The cache cannot be read or written.
    pub const CACHE_FAILED: &str = "CACHE_FAILED";
    /// What holds a secret's value cannot be reached or opened.
    pub const SECRETS_PROVIDER_UNAVAILABLE: &str = "SECRETS_PROVIDER_UNAVAILABLE";
    /// A reference to a secret is malformed, or nothing resolves its scheme.
    pub const SECRETS_REF_INVALID: &str = "SECRETS_REF_INVALID";
    /// A reference to a secret leads nowhere, or to more than one place.
    pub const SECRETS_REF_NOT_FOUND: &str = "SECRETS_REF_NOT_FOUND";
    /// A secret has no value for any other reason.
    pub const SECRETS_REQUIRED_MISSING: &str = "SECRETS_REQUIRED_MISSING";
    /// Commands would be traced in a job that has a secret in a variable.
    pub const SECRETS_UNSAFE_DEBUG_TRACE: &str = "SECRETS_UNSAFE_DEBUG_TRACE";
    /// A plugin's code trapped or panicked.
    pub const PLUGIN_TRAPPED: &str = "PLUGIN_TRAPPED";
    /// A plugin used more CPU time than it may.
    pub const PLUGIN_TIMEOUT: &str = "PLUGIN_TIMEOUT";
    /// A plugin asked for more memory than it may have.
    pub const PLUGIN_MEMORY: &str = "PLUGIN_MEMORY";
    /// A plugin asked for what it was not granted.
    pub const PLUGIN_DENIED: &str = "PLUGIN_DENIED";
    /// A plugin does not fit this version of Loom.
    pub const PLUGIN_INCOMPATIBLE: &str = "PLUGIN_INCOMPATIBLE";
    /// A plugin's bytes are not those that were pinned.
    pub const PLUGIN_DIGEST_MISMATCH: &str = "PLUGIN_DIGEST_MISMATCH";
    /// A plugin that the repository's lock does not name.
    pub const PLUGIN_NOT_PINNED: &str = "PLUGIN_NOT_PINNED";
    /// A plugin called the host more often, or with more data, than it may.
    pub const PLUGIN_FLOODED: &str = "PLUGIN_FLOODED";
}
