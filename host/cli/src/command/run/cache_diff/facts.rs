//! What a run came to, so that it can be compared: how jobs and steps ended, artifacts, files. Times and output do not
//! count.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use loom_cache::key;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::id::{JobId, StepIndex};
use loom_contract::layout;
use loom_contract::manifest::{JobManifest, PipelineManifest};
use loom_contract::status::Status;
use loom_workspace::Print;

use crate::command::cache_error;
use crate::command::run::Compared;

/// Where something stands that a run came to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) subject: Subject,
    pub(super) what: What,
}

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Job(JobId),
    /// Of all jobs that work in the run's copy of the repository itself.
    Workspace,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Status,
    Step(StepIndex),
    Artifact(PathBuf),
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    Status(Status),
    Step(Status, Option<i32>),
    File(Print),
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts(BTreeMap<Place, Fact>);

/// Paths that caches keep, and jobs may find full or empty.
pub(super) type Kept = BTreeMap<Subject, BTreeSet<String>>;

impl Facts {
    /// What a run came to.
    ///
    /// # Errors
    /// Something that it left cannot be read, or `cancel` is set meanwhile.
    pub(super) fn of(compared: &Compared, cancel: &AtomicBool) -> Result<Self, ErrorInfo> {
        let told = |error: loom_record::RecordError| error.to_info();
        let logs = layout::logs_of_receipt(&compared.receipt);
        let manifest: PipelineManifest =
            loom_record::read::document(&logs.join(layout::PIPELINE_MANIFEST)).map_err(told)?;
        let mut facts = Self::default();
        for job in manifest.jobs {
            let manifest: JobManifest =
                loom_record::read::document(&logs.join(&job.manifest_path)).map_err(told)?;
            facts.add_job(&manifest, &logs, cancel)?;
        }
        for (job, prints) in compared.seen.lock().iter() {
            match prints {
                Ok(prints) => facts.add_files(&Subject::Job(job.clone()), prints),
                Err(error) => return Err(not_compared(&format!("the files of job `{job}`"), &error.message)),
            }
        }
        let prints = loom_workspace::prints(&compared.workspace, cancel)
            .map_err(|error| not_compared("the workspace", &error.to_string()))?;
        facts.add_files(&Subject::Workspace, &prints);
        Ok(facts)
    }

    fn add_job(&mut self, job: &JobManifest, logs: &Path, cancel: &AtomicBool) -> Result<(), ErrorInfo> {
        let subject = Subject::Job(job.job_id.clone());
        self.add(&subject, What::Status, Fact::Status(job.status));
        for step in &job.steps {
            self.add(&subject, What::Step(step.step), Fact::Step(step.status, step.exit_code));
        }
        let folder = layout::job(&job.job_id).artifacts();
        for path in job.artifacts.iter().flat_map(|artifacts| &artifacts.paths) {
            let print = Print::of(&logs.join(path), cancel)
                .map_err(|error| not_compared(&format!("the artifact `{path}`"), &error.to_string()))?;
            let below = Path::new(path).strip_prefix(&folder).unwrap_or(Path::new(path));
            if let Some(print) = print {
                self.add(&subject, What::Artifact(below.to_owned()), Fact::File(print));
            }
        }
        Ok(())
    }

    fn add_files(&mut self, subject: &Subject, prints: &loom_workspace::Prints) {
        for (path, print) in prints.iter().filter(|(path, _)| !loom_workspace::is_own(path)) {
            let path = PathBuf::from(std::ffi::OsString::from_vec(path.clone()));
            self.add(subject, What::File(path), Fact::File(print.clone()));
        }
    }

    fn add(&mut self, subject: &Subject, what: What, fact: Fact) {
        self.0.insert(Place { subject: subject.clone(), what }, fact);
    }

    /// Leaves out the files that caches keep.
    ///
    /// # Errors
    /// A path is no pattern.
    pub(super) fn leave_out(&mut self, kept: &Kept) -> Result<(), ErrorInfo> {
        for (subject, globs) in kept {
            let globs: Vec<&String> = globs.iter().collect();
            let all: Vec<PathBuf> = self
                .0
                .keys()
                .filter(|place| place.subject == *subject)
                .filter_map(|place| match &place.what {
                    What::File(path) => Some(path.clone()),
                    _ => None,
                })
                .collect();
            for path in key::select(&all, &globs).map_err(|error| cache_error(&error))? {
                self.0.remove(&Place { subject: subject.clone(), what: What::File(path.to_owned()) });
            }
        }
        Ok(())
    }

    /// Where the two differ.
    pub(super) fn differ(&self, other: &Self) -> BTreeSet<Place> {
        let places = self.0.keys().chain(other.0.keys());
        places.filter(|place| self.0.get(place) != other.0.get(place)).cloned().collect()
    }

    /// Whether a job or step ended as in neither of two others, but for the places at `noise`.
    pub(super) fn ends_otherwise(&self, one: &Self, other: &Self, noise: &BTreeSet<Place>) -> bool {
        self.0.iter().any(|(place, fact)| {
            matches!(place.what, What::Status | What::Step(_))
                && !noise.contains(place)
                && ![one, other].iter().any(|facts| facts.0.get(place) == Some(fact))
        })
    }

    /// How the two differ at `place`: this one is without caches, `other` with them.
    pub(super) fn words(&self, other: &Self, place: &Place) -> String {
        let (one, other) = (self.0.get(place), other.0.get(place));
        let end = |fact: Option<&Fact>| match fact {
            Some(Fact::Status(status)) => status.to_string(),
            Some(Fact::Step(_, Some(code))) => format!("exit code {code}"),
            Some(Fact::Step(status, None)) if *status != Status::Skipped => status.to_string(),
            Some(Fact::Step(..) | Fact::File(_)) => "did not run".to_owned(),
            None => "not there".to_owned(),
        };
        let how = || match (one, other) {
            (Some(Fact::File(one)), Some(Fact::File(other))) => one.differs(other).unwrap_or("the same"),
            (Some(_), _) => "missing with caches",
            (None, _) => "there only with caches",
        };
        match &place.what {
            What::Status => format!("{} without caches, {} with them", end(one), end(other)),
            What::Step(step) => {
                format!("step {step}: {} without caches, {} with them", end(one), end(other))
            }
            What::Artifact(path) => format!("artifact {}: {}", shown(path), how()),
            What::File(path) => format!("{}: {}", shown(path), how()),
        }
    }

    /// For tests: the facts of files of the workspace, by name and content.
    #[cfg(test)]
    pub(super) fn of_files(files: &[(&str, u8)]) -> Self {
        let mut facts = Self::default();
        for (name, content) in files {
            let print = Print::File { mode: 0o644, hash: [*content; 32] };
            facts.add(&Subject::Workspace, What::File((*name).into()), Fact::File(print));
        }
        facts
    }
}

fn shown(path: &Path) -> String {
    String::from_utf8_lossy(OsStr::as_bytes(path.as_os_str())).into_owned()
}

fn not_compared(what: &str, why: &str) -> ErrorInfo {
    ErrorInfo::new(code::WORKSPACE_FAILED, format!("--cache-diff: {what} cannot be compared: {why}"))
}
