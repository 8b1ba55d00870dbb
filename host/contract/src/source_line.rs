//! A place in a workflow, as people and editors name it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::redacted::Redact;

/// A line of a workflow file: `.loom/workflow.yml:14`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Redact)]
#[serde(deny_unknown_fields)]
pub struct SourceLine {
    /// The file: the workflow, or one that it includes; relative to the repository where it is in there.
    pub file: String,
    /// The number of the line, from 1.
    #[schemars(range(min = 1))]
    pub line: u32,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
