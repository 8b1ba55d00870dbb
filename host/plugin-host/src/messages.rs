//! Messages of a plugin's calls.

use std::sync::Arc;

use loom_contract::event::Level;
use loom_contract::id::StepIndex;
use loom_contract::section::Section;
use loom_engine::port::JobContext;
use serde_json::{Map, Value};

/// What a call is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallScope {
    Section(Section),
    Step(StepIndex),
}

/// Records messages where the call that runs belongs.
#[derive(Clone)]
pub(crate) struct Messages {
    job: Option<Arc<JobContext>>,
    /// The scope of the call that runs; none outside of calls, and in those that serve no job.
    pub(crate) scope: Option<CallScope>,
}

impl Messages {
    /// The messages of a guest that has this job.
    pub(crate) fn new(job: Option<Arc<JobContext>>) -> Self {
        Self { job, scope: None }
    }

    /// Records a message; nowhere while the guest is being made.
    pub(crate) fn record(&self, level: Level, text: String, data: Option<Map<String, Value>>) {
        match (self.scope, &self.job) {
            (Some(CallScope::Section(section)), Some(job)) => job.message(section, level, text, data),
            (Some(CallScope::Step(step)), Some(job)) => job.step_message(step, level, text, data),
            _ => tracing::debug!("a plugin said something outside of a call"),
        }
    }
}
