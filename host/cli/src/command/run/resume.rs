//! What `--rerun-failed` goes on with: the workspace of the last run, and the jobs that passed in it.
//!
//! A job that passed stays passed as long as it is the same job: what the workflow says of it, what it needs, and the plugins
//! that serve it. An edited file does not change that: files are edited so that the jobs that failed pass. It is told how
//! many were, and that the others have not seen them.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use loom_contract::event::TakenArtifacts;
use loom_contract::layout;
use loom_contract::manifest::JobManifest;
use loom_contract::summary::JobSummary;
use loom_contract::words::counted;
use loom_engine::Reused;
use loom_ownership::Slot;
use loom_record::read;
use loom_workflow::{Plan, PlanJob};
use loom_workspace::Snapshot;

use super::past::LastRun;
use super::selection::{Jobs, Wanted};
use super::traces::Folders;

/// Takes the slot of `last`, where its workspace stands as that run left it. `kept` is the key of its kept folders.
///
/// # Errors
/// Why it does not: the end of a sentence.
pub(super) fn take(folders: &Folders, last: &LastRun, kept: Option<&str>) -> Result<Slot, String> {
    const GONE: &str = "its workspace is gone";
    const USED: &str = "another run has used its workspace since";
    let slots = folders.existing_slots().ok_or(GONE)?;
    let numbers = slots.numbers();
    let is_own = |number: &u32| slots.last(*number).is_some_and(|run| run.run_id == last.run_id);
    let Some(number) = numbers.iter().copied().find(is_own) else {
        let stands = numbers.iter().any(|number| match &last.workspace {
            Some(workspace) => workspace.starts_with(slots.path(*number)),
            None => true,
        });
        return Err(if stands { USED } else { GONE }.to_owned());
    };
    let slot = slots.take_number(number).map_err(|error| error.to_string())?;
    let slot = slot.ok_or("another run has its workspace now")?;
    if slot.last().is_none_or(|run| run.run_id != last.run_id) {
        return Err(USED.to_owned());
    }
    if !slot.has_copy() {
        return Err(GONE.to_owned());
    }
    if !loom_workspace::is_known(&slot.record()) {
        return Err("it is not known any more what was copied into its workspace".to_owned());
    }
    if slot.kept() != kept {
        return Err("the key files of `workspace.keep` have changed".to_owned());
    }
    Ok(slot)
}

/// What each job of `plan` is, as a hash: what the workflow says of it, what it needs, and the plugins that serve it.
pub(super) fn definitions(plan: &Plan) -> Vec<String> {
    let mut plugins: HashMap<&str, Option<blake3::Hash>> = HashMap::new();
    let mut definitions = Vec::with_capacity(plan.jobs.len());
    for job in &plan.jobs {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        // Of plain types: it cannot fail.
        add(&serde_json::to_vec(&job.node).unwrap_or_default());
        for (needs, kind) in [(&job.needs, "needs"), (&job.artifacts_from, "artifacts")] {
            add(kind.as_bytes());
            needs.iter().for_each(|need| add(plan.jobs[*need].id.as_str().as_bytes()));
        }
        let schemes = loom_plugin_bundle::SCHEMES.into_iter().filter(|scheme| {
            let is_its = |reference: &str| reference.split_once("://").is_some_and(|(own, _)| own == *scheme);
            job.secrets.iter().any(|secret| is_its(&secret.reference))
        });
        let cache = job.cache.as_ref().map(|_| "cache");
        for name in std::iter::once(job.provider.as_str()).chain(cache).chain(schemes) {
            add(name.as_bytes());
            let hash =
                plugins.entry(name).or_insert_with(|| loom_plugin_bundle::component(name).map(blake3::hash));
            hash.iter().for_each(|hash| add(hash.as_bytes()));
        }
        definitions.push(hasher.finalize().to_hex().to_string());
    }
    definitions
}

/// The jobs of `plan` that passed in `last` and stand: neither they nor a job before them is another by now.
pub(super) fn standing(plan: &Plan, last: &LastRun, definitions: &[String]) -> HashMap<usize, Reused> {
    let mut standing = HashMap::new();
    let mut changed = vec![false; plan.jobs.len()];
    for (at, job) in plan.jobs.iter().enumerate().filter(|(_, job)| last.has_passed(&job.id)) {
        let gives = plan.jobs.iter().any(|other| other.artifacts_from.contains(&at));
        match definitions.get(at).and_then(|definition| reused(job, last, definition, gives)) {
            Some(reused) => drop(standing.insert(at, reused)),
            None => changed[at] = true,
        }
    }
    // Needs may stand later in their stage.
    loop {
        let first = plan.jobs.iter().zip(&changed).find(|(_, changed)| **changed).map(|(job, _)| job.stage);
        let follows = |at: &usize| {
            let job = &plan.jobs[*at];
            let by_stage = job.needs_stages && first.is_some_and(|stage| stage < job.stage);
            !changed[*at] && (by_stage || job.needs.iter().any(|need| changed[*need]))
        };
        let more: Vec<usize> = (0..plan.jobs.len()).filter(follows).collect();
        if more.is_empty() {
            break;
        }
        more.iter().for_each(|at| changed[*at] = true);
    }
    standing.retain(|at, _| !changed[*at]);
    standing
}

/// The lines on what `snapshot`, the workspace of the last run, is gone on with.
pub(super) fn told(
    wanted: &Wanted,
    plan: &Plan,
    selected: &[bool],
    reused: &HashMap<usize, Reused>,
    first_step: Option<(usize, usize)>,
    snapshot: &Snapshot,
) -> String {
    let Some(last) = &wanted.last else { return String::new() };
    let files = |verb: &str| format!("{} {verb}", counted(snapshot.copied, "file"));
    let mut text = format!("goes on with the workspace of {}: ", last.run_id);
    text.push_str(&match snapshot.copied {
        0 => "no file edited since".to_owned(),
        _ => files("edited since"),
    });
    if last.head_sha.is_some() && last.head_sha != snapshot.head_sha {
        text.push_str(", HEAD is another commit");
    }
    text.push('\n');
    if !reused.is_empty() && (snapshot.copied > 0 || last.head_sha != snapshot.head_sha) {
        let jobs = counted(reused.len() as u64, "job");
        text.push_str(&format!(
            "{jobs} that passed before did not see that; `loom run --local` runs everything\n"
        ));
    }
    let listed = |is_meant: &dyn Fn(&PlanJob) -> bool| {
        let meant = plan.jobs.iter().zip(selected).filter(|(job, selected)| **selected && is_meant(job));
        let names: Vec<&str> = meant.map(|(job, _)| job.id.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let is_another = |job: &PlanJob| last.has_passed(&job.id) && matches!(wanted.jobs, Jobs::Again(_));
    if let Some(jobs) = listed(&is_another) {
        text.push_str(&format!(
            "passed before, but are not what they were, or follow one that is not: {jobs}\n"
        ));
    }
    if let Some(jobs) = listed(&|job| job.image.is_some() && last.has_failed(&job.id)) {
        text.push_str(&format!("in new containers, with their caches and artifacts: {jobs}\n"));
    }
    if let Some((at, position)) = first_step {
        let job = &plan.jobs[at];
        let (step, steps) = (position + 1, job.script.len());
        text.push_str(&format!("{} begins at step {step} of {steps}\n", job.id));
    }
    text
}

/// What `job` has come to in `last` or before; `None` where it is another by now, or where what it `gives` to others is gone.
fn reused(job: &PlanJob, last: &LastRun, definition: &str, gives: bool) -> Option<Reused> {
    let place = layout::job(&job.id);
    let summary: JobSummary = read::document(&last.logs.join(place.summary())).ok()?;
    if summary.definition.as_deref() != Some(definition) {
        return None;
    }
    let from = summary.reused_from.unwrap_or_else(|| last.run_id.clone());
    let artifacts = if gives && job.artifacts.is_some() {
        let logs = last.logs.parent()?.join(from.as_str());
        let manifest: JobManifest = read::document(&logs.join(place.manifest())).ok()?;
        match manifest.artifacts {
            Some(left) => {
                let folder = logs.join(place.artifacts());
                let mut files = files_in(&folder, &logs.join(left.archive_path)).ok()?;
                files.sort_by(|one, other| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
                if u64::try_from(files.len()).ok()? != left.count {
                    return None;
                }
                Some((folder, TakenArtifacts { files: files.into(), bytes: left.bytes }))
            }
            None => None,
        }
    } else {
        None
    };
    Some(Reused { from, artifacts })
}

/// The files in `folder`, relative to it, but for `archive`. Links are not followed.
fn files_in(folder: &Path, archive: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(inner) = open.pop() {
        for entry in fs_err::read_dir(inner)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if path != archive {
                files.extend(path.strip_prefix(folder).map(Path::to_owned));
            }
        }
    }
    Ok(files)
}
