//! The folders that stay in the run's copy of the repository.

use std::sync::Arc;

use loom_contract::graph_ir::{KeptFolders, KeyFiles};

use super::Plan;
use crate::diagnostic::{Diagnostics, Pointer, Problems};
use crate::workflow::Workflow;

/// As Graph IR has them.
fn lower(workflow: &Workflow) -> Option<KeptFolders> {
    let workspace = workflow.workspace.as_ref()?;
    let files: Vec<String> = workspace.files.iter().map(|file| file.as_ref().to_owned()).collect();
    Some(KeptFolders {
        keep: workspace.keep.iter().map(|pattern| pattern.value.as_ref().to_owned()).collect(),
        key: (!files.is_empty()).then_some(KeyFiles { files }),
    })
}

impl Plan {
    /// The folders that stay in the run's copy of the repository; none where the workflow keeps none.
    pub fn kept_folders(&self) -> Option<KeptFolders> {
        lower(&self.workflow)
    }

    /// Errors for the folders that cannot stay: for each pattern, `trouble` says what to do about it, or nothing.
    pub fn not_to_be_kept(&self, mut trouble: impl FnMut(&str) -> Option<String>) -> Diagnostics {
        let mut problems = Problems::default();
        let keep = self.workflow.workspace.iter().flat_map(|workspace| &workspace.keep);
        for (index, pattern) in keep.enumerate() {
            let Some(hint) = trouble(&pattern.value) else { continue };
            let at = Pointer::Root;
            let at = at.key("workspace");
            let at = at.key("keep");
            problems.error(pattern.span, at.index(index), hint);
        }
        problems.into_diagnostics(Arc::clone(&self.sources))
    }
}
