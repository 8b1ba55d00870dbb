//! The job's artifacts: taken out of its workspace after the last step, and put into that of jobs that need them.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err as fs;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Finish, Level, TakenArtifacts};
use loom_contract::graph_ir::{Artifacts, When};
use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_contract::words::counted;
use loom_tree::{Collect, Collected};
use serde_json::{Map, json};

use super::{Attempt, Outcome, object};
use crate::cancel::{Cancel, Urgency};
use crate::port::JobContext;
use crate::redact::Redactor;

impl Attempt<'_> {
    /// Takes what the workflow asks for out of the workspace, where the job's end is one of those that it names.
    pub(super) async fn take_artifacts(
        &self,
        outcome: &Outcome,
    ) -> Result<Option<TakenArtifacts>, ErrorInfo> {
        let Some(artifacts) = &self.job.plan.artifacts else { return Ok(None) };
        let (phase, section) = self.start_section(Section::ArtifactExtract);
        let met = match artifacts.when {
            When::Always => true,
            When::OnSuccess => outcome.status == Status::Success,
            When::OnFailure => outcome.status == Status::Failed,
        };
        let taken = if outcome.status == Status::Cancelled {
            Ok(Err(SkipReason::Cancelled))
        } else if met {
            self.collect(artifacts).await
        } else {
            Ok(Err(SkipReason::ArtifactWhenNotMet))
        };
        let finish = match &taken {
            Ok(Ok(taken)) => {
                let metrics = Map::from_iter([
                    ("files".to_owned(), taken.files.len().into()),
                    ("bytes".to_owned(), taken.bytes.into()),
                ]);
                Finish { metrics: Some(metrics), ..Finish::new(Status::Success) }
            }
            Ok(Err(reason)) => Finish::skipped(*reason),
            Err(_) if self.job.cancel.is_cancelled() => Finish::new(Status::Cancelled),
            Err(error) => Finish::failed(error.clone()),
        };
        section.finish(finish.clone());
        phase.finish(finish);
        Ok(taken?.ok())
    }

    async fn collect(&self, artifacts: &Artifacts) -> Result<Result<TakenArtifacts, SkipReason>, ErrorInfo> {
        let context = Arc::clone(&self.context);
        let filled = |paths: &[String]| paths_in_workspace(&context, paths);
        let (paths, exclude) = (filled(&artifacts.paths)?, filled(&artifacts.exclude)?);
        let into = (self.job.run.artifacts_dir)(&context.id);
        let (tree, mut warnings) = match context.files() {
            Some(files) => {
                let staged = self.staged("artifacts")?;
                let warnings = files.fetch(&paths, &staged).await?;
                (staged, warnings)
            }
            None => (context.workspace.clone(), Vec::new()),
        };
        let done = blocking(self.job.cancel.clone(), move |cancel| {
            let hidden = |path: &Path| {
                let name = path.as_os_str().as_bytes();
                !context.redactor.is_empty() && *context.redactor.bytes(name) != *name
            };
            let collected = loom_tree::collect(&Collect {
                tree: &tree,
                paths: &paths,
                exclude: &exclude,
                into: &into,
                refuse: &hidden,
                cancel,
            })
            .map_err(|cause| failed("artifacts could not be taken out", &cause))?;
            warnings.extend(collected.warnings.iter().map(ToString::to_string));
            warnings.extend(with_secrets(&into, &collected, &context.redactor));
            Ok((collected, warnings))
        });
        let (collected, warnings) = done.await?;
        let say = |level, message, data| self.context.message(Section::ArtifactExtract, level, message, data);
        for warning in warnings {
            say(Level::Warn, warning, None);
        }
        for pattern in &collected.unmatched {
            let message = format!("no file matches `{pattern}`");
            say(Level::Warn, message, object(json!({ "pattern": pattern })));
        }
        if collected.files.is_empty() {
            return Ok(Err(SkipReason::ArtifactNoMatch));
        }
        let message = said(collected.files.len() as u64, collected.bytes);
        say(Level::Info, message, None);
        Ok(Ok(TakenArtifacts { files: collected.files.into(), bytes: collected.bytes }))
    }

    /// Puts the artifacts of the jobs that this one needs them from into its workspace.
    pub(super) async fn place_artifacts(&self) -> Result<(), ErrorInfo> {
        for need in &self.job.artifacts_from {
            let Some((from, taken)) = self.job.run.left(need) else {
                let message = format!("job `{need}` has left no artifacts");
                self.context.message(Section::Provider, Level::Warn, message, object(json!({ "job": need })));
                continue;
            };
            let to = match self.context.files() {
                Some(_) => self.staged("needed")?,
                None => self.context.workspace.clone(),
            };
            let files = Arc::clone(&taken.files);
            let into = to.clone();
            let placed = blocking(self.job.cancel.clone(), move |cancel| {
                loom_tree::place(&from, &files, &into, cancel)
                    .map_err(|cause| failed("artifacts could not be put into the workspace", &cause))
            })
            .await?;
            if let Some(elsewhere) = self.context.files() {
                elsewhere.put(&to, &[]).await?;
            }
            for warning in &placed.warnings {
                self.context.message(Section::Provider, Level::Warn, warning.to_string(), None);
            }
            let message = format!("artifacts of job `{need}`: {}", said(placed.files, placed.bytes));
            let data = json!({ "job": need, "files": placed.files, "bytes": placed.bytes });
            self.context.message(Section::Provider, Level::Info, message, object(data));
        }
        Ok(())
    }

    /// A new empty folder for files on their way.
    fn staged(&self, name: &str) -> Result<PathBuf, ErrorInfo> {
        let folder = self.context.staging.join(name);
        let made = crate::secrets::remove(&folder).and_then(|()| fs::create_dir_all(&folder));
        let failed =
            |cause| ErrorInfo::new(code::ARTIFACTS_FAILED, format!("artifacts have no place: {cause}"));
        made.map(|()| folder).map_err(failed)
    }
}

/// `paths` with their references filled in, relative to the workspace also where they begin with its root.
fn paths_in_workspace(context: &JobContext, paths: &[String]) -> Result<Vec<String>, ErrorInfo> {
    let predefined = context.predefined();
    let root = predefined.iter().find(|(name, _)| name == "CI_PROJECT_DIR").map(|(_, root)| root.as_str());
    let fill = |path: &String| {
        let path = context.fill(path, context.variables(), &[]);
        let below = root.and_then(|root| Path::new(&path).strip_prefix(root).ok()?.to_str());
        match below {
            Some("") => ".".to_owned(),
            Some(below) => below.to_owned(),
            None => path,
        }
    };
    let paths: Vec<String> = paths.iter().map(fill).collect();
    let bad = |error: loom_tree::BadPattern| {
        ErrorInfo::new(code::ARTIFACTS_FAILED, format!("artifacts could not be taken out: {error}"))
    };
    loom_tree::Patterns::new(&paths).map(|_| ()).map_err(bad)?;
    Ok(paths)
}

fn failed(what: &str, cause: &loom_tree::Error) -> ErrorInfo {
    ErrorInfo::new(code::ARTIFACTS_FAILED, format!("{what}: {cause}"))
}

/// Does `work` on a thread for what blocks, and tells it when the run is to end.
async fn blocking<T: Send + 'static>(
    mut cancel: Cancel,
    work: impl FnOnce(&AtomicBool) -> Result<T, ErrorInfo> + Send + 'static,
) -> Result<T, ErrorInfo> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let mut task = tokio::task::spawn_blocking(move || work(&seen));
    let joined = tokio::select! {
        done = &mut task => done,
        () = cancel.reached(Urgency::Ask) => {
            stop.store(true, Ordering::Relaxed);
            task.await
        }
    };
    joined.unwrap_or_else(|error| {
        Err(ErrorInfo::new(
            code::INTERNAL,
            format!("a task for artifacts failed; this is a bug in Loom: {error}"),
        ))
    })
}

/// A sentence for each file that holds the value of a secret. Artifacts are kept as they are.
fn with_secrets(folder: &Path, collected: &Collected, redactor: &Redactor) -> Vec<String> {
    if redactor.is_empty() {
        return Vec::new();
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut first = |path: &PathBuf| {
        let path = folder.join(path);
        if !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut file = fs::File::open(path).ok()?;
        let mut scanner = redactor.scanner();
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            if let Some(value) = scanner.push(&buffer[..count]) {
                return Some(value);
            }
        }
        None
    };
    let named =
        |path: &PathBuf| first(path).map(|value| format!("artifact `{}` holds {value}", path.display()));
    collected.files.iter().filter_map(named).collect()
}

fn said(files: u64, bytes: u64) -> String {
    format!("{}, {}", counted(files, "file"), counted(bytes, "byte"))
}
