//! Workflow text to a plan, with diagnostics.
//!
//! ```text
//!  text ----> tree ----> Document ----> Workflow ----> Plan ----> Graph IR
//!       yaml       document       resolve         plan
//!                  keywords       includes,       order, needs,
//!                  with places    default,        provider,
//!                                 extends         variables
//! ```
//!
//! Everything here is a pure function of texts: other files come through a [`Loader`], nothing is read from the
//! environment, and nothing is printed. Every stage goes on after an error and collects what it finds, so that one call
//! shows all that is wrong. What a hostile text can cost is bounded: in depth, in keys and values, in files, in jobs, in
//! copies made by inheritance, in the length of values and in the number of problems that are kept.

mod diagnostic;
mod document;
mod loader;
mod owners;
mod plan;
mod predefined;
mod resolve;
mod source;
mod template;
mod workflow;
mod yaml;

pub use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
pub use crate::document::{Keyword, RootKey};
pub use crate::loader::{LoadError, Loader, NoFiles};
pub use crate::plan::{Origin, Plan, PlanJob};
pub use crate::predefined::PREDEFINED;
pub use crate::template::Template;

use std::sync::Arc;

use crate::diagnostic::Problems;
use crate::source::Sources;

/// What became of a workflow's text.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The plan; there is one if no error was found.
    pub plan: Option<Plan>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// The workflow language as a JSON Schema (2020-12), for editors that complete and check while one types.
///
/// It knows every keyword, its shape and its words. What takes the whole workflow, such as names that must exist, cycles,
/// or what is missing once everything is inherited, only [`load`] finds. It is about the workflow file: an included file
/// may leave `stages` out.
pub fn json_schema() -> serde_json::Value {
    document::schema()
}

/// Reads a workflow: for checking, compiling and running it. `file` is what messages call the root file, `text` is what
/// it holds, and `loader` gives the files that it includes.
pub fn load(file: &str, text: &str, loader: &dyn Loader) -> Loaded {
    let mut sources = Sources::default();
    let mut problems = Problems::default();
    sources.add(file, text);
    let workflow = resolve::resolve(&mut sources, loader, &mut problems);
    let sources = Arc::new(sources);
    let plan = workflow
        .map(|workflow| plan::plan(workflow, &sources, &mut problems))
        .filter(|_| !problems.has_errors());
    Loaded { plan, diagnostics: problems.into_diagnostics(sources) }
}
