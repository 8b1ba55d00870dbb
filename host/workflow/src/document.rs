//! What was typed: the keywords of one file, with their places, before anything is inherited.
//!
//! Every keyword has a file of its own. Reading never stops at an error: what is wrong is reported and left out, and
//! [`Field`] remembers that it stood there, so that nobody asks for it again.

mod artifacts;
mod cache;
mod extends;
mod field;
mod foreign;
mod image;
mod include;
mod invariant;
mod job;
mod keys;
mod keyword;
mod needs;
mod parallel;
mod paths;
mod retry;
mod schema;
mod script;
mod secrets;
mod services;
mod stages;
mod timeout;
mod value;
mod variables;
mod workflow_rules;
mod workspace;

use loom_contract::graph_ir::When;

pub(crate) use self::artifacts::Artifacts;
pub(crate) use self::cache::{Cache, Entry as CacheEntry, Key as CacheKey};
pub(crate) use self::extends::Parent;
pub(crate) use self::field::Field;
pub(crate) use self::foreign::{system_of_text, whole as foreign_file};
pub(crate) use self::image::{Image, ImageSpec};
pub(crate) use self::include::Include;
pub(crate) use self::invariant::Invariant;
pub(crate) use self::keyword::Job;
pub use self::keyword::Keyword;
pub(crate) use self::needs::Need;
pub(crate) use self::parallel::Parallel;
pub(crate) use self::paths::outside;
pub(crate) use self::retry::Retry;
pub(crate) use self::schema::schema;
pub(crate) use self::script::Step;
pub(crate) use self::secrets::{Secret, Secrets};
pub(crate) use self::services::{Service, Services};
pub(crate) use self::timeout::Timeout;
pub(crate) use self::value::{Reader, Text};
pub(crate) use self::variables::{LONGEST, Variable, Variables, is_too_long, merge as merge_variables, put};
pub(crate) use self::workspace::Workspace;

use self::keys::{Keys, keys, written};
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Entry, Kind, Node};

/// The words of every `when` that is about how a job ended.
const WHEN: [(&str, When); 3] =
    [("on_success", When::OnSuccess), ("on_failure", When::OnFailure), ("always", When::Always)];

keys! {
    /// A key of a workflow file that is no job.
    #[non_exhaustive]
    pub enum RootKey {
        /// `version`
        Version = "version",
        /// `stages`
        Stages = "stages",
        /// `include`
        Include = "include",
        /// `workflow`
        Workflow = "workflow",
        /// `workspace`
        Workspace = "workspace",
        /// `variables`
        Variables = "variables",
        /// `default`
        Default = "default",
    }
}

impl RootKey {
    /// Every key, in the order in which messages and the schema name them.
    pub const ALL: &'static [Self] = Self::KEYS;

    /// The key as it is written.
    pub fn name(self) -> &'static str {
        self.as_written()
    }

    /// Whether an included file may hold it as well.
    fn is_in_included(self) -> bool {
        match self {
            Self::Include | Self::Variables | Self::Default => true,
            Self::Version | Self::Stages | Self::Workflow | Self::Workspace => false,
        }
    }
}

/// One file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Where the file begins, for what is missing in it.
    pub(crate) start: Span,
    pub(crate) stages: Field<Vec<Spanned<Text>>>,
    pub(crate) include: Vec<Include>,
    pub(crate) workspace: Option<Workspace>,
    pub(crate) variables: Variables,
    /// What a copy of the variables costs at most.
    pub(crate) variables_weight: usize,
    pub(crate) default: Option<Job>,
    /// Jobs and templates, in the order of the file.
    pub(crate) jobs: Vec<Job>,
}

/// Which file of a workflow it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Root,
    Included,
}

impl Document {
    /// Reads the tree of a file.
    pub(crate) fn read(root: &Node, role: Role, reader: &mut Reader<'_>) -> Option<Self> {
        let at = &Pointer::Root;
        let hint = match role {
            Role::Root => "write a mapping with `version`, `stages` and jobs, one `key: value` a line",
            Role::Included => "write a mapping of jobs, templates, variables, default or include",
        };
        let entries = reader.map(root, at, hint)?;
        if role == Role::Root
            && let Some(system) = foreign::system(entries)
        {
            reader.error(entries.first()?.key_span, at, foreign_file(system));
            return None;
        }
        let start = entries.first().map_or(root.span, |entry| entry.key_span);
        let mut document = Self {
            start,
            stages: Field::Absent,
            include: Vec::new(),
            workspace: None,
            variables: Variables::default(),
            variables_weight: 0,
            default: None,
            jobs: Vec::new(),
        };
        let mut has_version = false;
        for entry in entries {
            let place = at.key(&entry.key);
            let value = &entry.value;
            let key = RootKey::of(&entry.key);
            if role == Role::Included && key.is_some_and(|key| !key.is_in_included()) {
                let hint = format!(
                    "move {} to the workflow file; an included file holds jobs, templates, variables, default \
                     and include",
                    quoted(&entry.key)
                );
                reader.error(entry.key_span, &place, hint);
                continue;
            }
            match key {
                Some(RootKey::Version) => {
                    has_version = true;
                    read_version(value, &place, reader);
                }
                Some(RootKey::Stages) => document.stages = stages::read(value, &place, reader).into(),
                Some(RootKey::Include) => document.include = include::read(value, &place, reader),
                Some(RootKey::Workflow) => workflow_rules::read(value, &place, reader),
                Some(RootKey::Workspace) => document.workspace = workspace::read(value, &place, reader),
                Some(RootKey::Variables) => {
                    document.variables = variables::read(value, &place, reader).unwrap_or_default();
                    document.variables_weight = entry.weight();
                }
                Some(RootKey::Default) => document.default = Job::read_default(entry, &place, reader),
                None => {
                    let above = document.jobs.last().map(|job| &*job.name.value);
                    let job = read_job(entry, above, &place, reader);
                    // A keyword that was meant for the job above is not missing there.
                    if job.is_none()
                        && let Some(above) = document.jobs.last_mut()
                    {
                        Keyword::of(&entry.key).into_iter().for_each(|keyword| above.mark_present(keyword));
                    }
                    document.jobs.extend(job);
                }
            }
        }
        if role == Role::Root {
            if !has_version {
                reader.warning(
                    start,
                    &at.key("version"),
                    "add `version: v1`, so that later versions read the file as you mean it",
                );
            }
            if document.stages.is_absent() {
                let hint =
                    "add required key stages: a list of stage names in order, as in `stages: [build, test]`";
                reader.error(start, &at.key("stages"), hint);
            }
        }
        Some(document)
    }
}

fn read_version(value: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) {
    let is_v1 = matches!(&value.kind, Kind::Scalar(scalar) if scalar.text == "v1");
    if !is_v1 && !matches!(value.kind, Kind::Refused) {
        reader.error(value.span, at, "set version to v1");
    }
}

fn read_job(entry: &Entry, above: Option<&str>, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Job> {
    let runs = |key: &str| matches!(key, "stage" | "script" | "extends");
    let is_job = entry.key.starts_with('.')
        || matches!(&entry.value.kind, Kind::Map(entries) if entries.iter().any(|entry| runs(&entry.key)));
    if is_job {
        return Job::read(entry, at, reader);
    }
    let hint = if let Some(hint) = foreign::root_key(&entry.key) {
        hint.to_owned()
    } else if let Some(meant) = reader.similar(&entry.key, written(RootKey::KEYS)) {
        format!("rename unknown key {}; did you mean `{meant}`?", quoted(&entry.key))
    } else if let Some(keyword) = Keyword::of(&entry.key) {
        foreign::keyword_at_root(keyword.name(), Keyword::IN_DEFAULT.contains(&keyword), above)
    } else {
        return Job::read(entry, at, reader);
    };
    reader.error(entry.key_span, at, hint);
    None
}
