//! The job's caches: the wrapper works before the first step and after the last one.

use std::sync::Arc;

use loom_contract::error::ErrorInfo;
use loom_contract::event::{Finish, Level};
use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use serde_json::json;

use super::{Attempt, Outcome, object};
use crate::port::{JobWrapper, Report};

impl Attempt<'_> {
    /// Lets the wrapper work before the first step.
    pub(super) async fn restore_caches(
        &self,
        wrapper: &mut Option<Box<dyn JobWrapper>>,
    ) -> Result<(), ErrorInfo> {
        let Some((plugin, cache)) = self.job.cache() else { return Ok(()) };
        let (phase, section) = self.start_section(Section::CacheRestore);
        let reference = plugin.plugin();
        let digest: String = reference.digest.chars().take(12).collect();
        let message = format!("plugin {} {} ({digest})", reference.name, reference.version);
        let data = object(json!({ "plugin": reference }));
        self.context.message(Section::CacheRestore, Level::Info, message, data);
        let keyword = serde_json::to_value(&cache).unwrap_or_default();
        let restore = async {
            let opened = wrapper.insert(plugin.open(Arc::clone(&self.context), keyword).await?);
            opened.before().await
        };
        let (result, late) = self.within(None, restore).await;
        let result = late.map_or(result, Err);
        let finish = self.section_finish(&result);
        section.finish(finish.clone());
        phase.finish(finish);
        result.map(drop)
    }

    /// Lets the wrapper work after the last step. Whatever comes of it, the job's result stands, unless the run is
    /// cancelled meanwhile.
    pub(super) async fn save_caches(
        &self,
        wrapper: Option<Box<dyn JobWrapper>>,
        outcome: Outcome,
    ) -> Outcome {
        let Some(mut wrapper) = wrapper else { return outcome };
        let (phase, section) = self.start_section(Section::CacheSave);
        let finish = if outcome.status == Status::Cancelled {
            Finish::skipped(SkipReason::Cancelled)
        } else {
            let result = wrapper.after(outcome.status == Status::Success).await;
            if let Err(error) = &result {
                let message = format!("the caches were not saved: {}", error.message);
                self.context.message(Section::CacheSave, Level::Warn, message, None);
            }
            self.section_finish(&result)
        };
        let cancelled = finish.status == Status::Cancelled;
        section.finish(finish.clone());
        phase.finish(finish);
        if cancelled { Outcome::cancelled(outcome.exit_code) } else { outcome }
    }

    fn section_finish(&self, result: &Result<Report, ErrorInfo>) -> Finish {
        match result {
            Ok(Report { skip: Some(reason), metrics }) => {
                Finish { metrics: metrics.clone(), ..Finish::skipped(*reason) }
            }
            // Something may be missing: a wrapper warns of it and goes on.
            Ok(Report { skip: None, metrics }) => {
                let cancelled = self.job.cancel.is_cancelled();
                let status = if cancelled { Status::Cancelled } else { Status::Success };
                Finish { metrics: metrics.clone(), ..Finish::new(status) }
            }
            Err(_) if self.job.cancel.is_cancelled() => Finish::new(Status::Cancelled),
            Err(error) => Finish::failed(error.clone()),
        }
    }
}
