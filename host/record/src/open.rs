//! A run's record, from its first file to its receipt.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use fs_err as fs;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::Event;
use loom_contract::exit;
use loom_contract::graph_ir::GraphIr;
use loom_contract::id::RunIds;
use loom_contract::layout::{self, RuntimeDir, RuntimePath};
use loom_contract::phase_report::{self, PhaseReport};
use loom_contract::receipt::{ExecutorReceipt, RunReceipt};
use loom_contract::redacted::{Mask, Redacted};
use loom_contract::status::RunStatus;
use loom_contract::time::Timestamp;
use loom_contract::version;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Uid, chownat, fchown, flock, openat,
};

use crate::RecordError;
use crate::atomic::{Durability, pretty};
use crate::fault::fault;
use crate::folders::{self, other_owner};
use crate::writer::{Ballast, Durable, WriteFailure, Writer, WriterMessage, Written, place};

/// Events that may wait for the writer; with chunks of 64 KiB this bounds memory to a few MiB.
const QUEUE: usize = 64;

/// The facts of a run that its receipt has and events do not.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The version of Loom.
    pub loom_version: String,
    /// The repository's root, absolute.
    pub repo_root: PathBuf,
    /// The workflow file, absolute.
    pub workflow_path: PathBuf,
    /// The time at which the run started.
    pub started_at: Timestamp,
}

/// The end of a run, for its receipt.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// The exit code of `loom`.
    pub exit_code: i32,
    /// The failure, in one line.
    pub error: Option<String>,
    /// The run's copy of the repository.
    pub snapshot_path: Option<PathBuf>,
    /// The commit that it was made from.
    pub snapshot_head_sha: Option<String>,
    /// The plan that the workflow was compiled to.
    pub graph_ir: Option<GraphIr>,
}

/// An open record. Dropped without [`Record::finish`] it stays as an interrupted run.
#[derive(Debug)]
pub struct Record {
    runtime: RuntimeDir,
    ids: RunIds,
    facts: RunFacts,
    dir: PathBuf,
    /// The run's folder, whose lock says that somebody still writes to it.
    lock: fs::File,
    events: SyncSender<WriterMessage>,
    writer: JoinHandle<Written>,
    documents: JoinHandle<()>,
    errors: WriteFailure,
    ballast: Ballast,
    mask: Arc<dyn Mask>,
}

impl Record {
    /// Makes the run's log folder and says in a partial receipt that the run was interrupted: true until it
    /// ends.
    ///
    /// The run is named by the time in nanoseconds at which it started; where another run has that name, by
    /// the next one that is free. Whatever is written is masked by `mask`.
    ///
    /// # Errors
    /// A folder or file cannot be made.
    pub fn open(facts: RunFacts, mask: Arc<dyn Mask>) -> Result<Self, RecordError> {
        let runtime = folders::make(&facts.repo_root)?;
        let (ids, dir) = make_run_dir(&runtime, facts.started_at.unix_nanos())?;
        Self::open_in(runtime, ids, dir.clone(), facts, mask).inspect_err(|_| {
            // Nothing was recorded, and without a receipt nobody would remove it.
            Ballast::at(&dir).release();
            let _ = fs::remove_dir(&dir);
        })
    }

    fn open_in(
        runtime: RuntimeDir,
        ids: RunIds,
        dir: PathBuf,
        facts: RunFacts,
        mask: Arc<dyn Mask>,
    ) -> Result<Self, RecordError> {
        let lock = fault("open", &dir).and_then(|()| fs::File::open(&dir));
        let lock = lock.map_err(|e| RecordError::new("open", &dir, e))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| RecordError::new("lock", &dir, e))?;

        let errors = WriteFailure::default();
        let ballast = Ballast::set_aside(&dir);
        let (durable, to_sync) = mpsc::channel();
        let documents = {
            let (errors, ballast) = (errors.clone(), ballast.clone());
            spawn("documents", move || {
                for message in to_sync {
                    match message {
                        Durable::Write(documents) => errors.note(ballast.write(&documents, Durability::Sync)),
                        // Whoever asked may have given up.
                        Durable::Settle(answer) => drop(answer.send(())),
                    }
                }
            })?
        };
        let (events, received) = mpsc::sync_channel(QUEUE);
        let writer =
            Writer::new(dir.clone(), ids.clone(), facts.started_at, durable, errors.clone(), ballast.clone());
        let writer = spawn("record", move || writer.run(&received))?;
        let record =
            Self { runtime, ids, facts, dir, lock, events, writer, documents, errors, ballast, mask };
        let interrupted =
            Ended { exit_code: exit::FAILURE, error: Some("interrupted".to_owned()), ..Ended::default() };
        let executor =
            ExecutorReceipt { loom_version: record.facts.loom_version.clone(), jobs: Default::default() };
        let Self { runtime, ids, facts, mask, .. } = &record;
        let receipt = receipt(runtime, ids, facts, interrupted, facts.started_at, executor, &**mask);
        let name = format!("{}.json{}", record.ids.run_id, layout::PARTIAL_SUFFIX);
        place(&record.runtime.receipts_dir(), vec![(name, pretty(&receipt))]).write(Durability::Rename)?;
        Ok(record)
    }

    /// The run's names.
    pub fn ids(&self) -> &RunIds {
        &self.ids
    }

    /// The run's log folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path that the receipt will have.
    pub fn receipt_path(&self) -> PathBuf {
        self.runtime.receipt(&self.ids.run_id)
    }

    /// Records `event`. Waits while the disk is slower than the run.
    ///
    /// # Errors
    /// Something could not be written, now or before.
    pub fn write(&self, event: &Redacted<Event>) -> Result<(), ErrorInfo> {
        if self.events.send(WriterMessage::Event(event.clone())).is_err() {
            return Err(ErrorInfo::new(code::RECORD_FAILED, "the thread that writes the record has ended"));
        }
        self.errors.get().map_or(Ok(()), |error| Err(error.to_info()))
    }

    /// Waits until all events so far, and the documents that follow from them, are in their files.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn settle(&self) -> Result<(), ErrorInfo> {
        let (answer, answered) = mpsc::channel();
        if self.events.send(WriterMessage::Settle(answer)).is_err() || answered.recv().is_err() {
            return Err(ErrorInfo::new(code::RECORD_FAILED, "the thread that writes the record has ended"));
        }
        self.errors.get().map_or(Ok(()), |error| Err(error.to_info()))
    }

    /// Writes what is left of the events, then the phase report and the receipt. `now` is the run's end.
    ///
    /// # Errors
    /// Something could not be written, now or before. The receipt is written all the same where it can be,
    /// and then says so.
    pub fn finish(self, ended: Ended, now: Timestamp) -> Result<PhaseReport, Redacted<ErrorInfo>> {
        let Self { runtime, ids, facts, dir, lock, events, writer, documents, errors, ballast, mask } = self;
        drop(events);
        let masked = |error: ErrorInfo| Redacted::new(error, &*mask);
        let written = writer.join().map_err(|_| {
            let message = "the thread that writes the record failed; this is a bug in Loom";
            masked(ErrorInfo::new(code::INTERNAL, message))
        })?;
        // The writer held the other end of its channel.
        let _ = documents.join();
        let report =
            phase_report::check(&ids.run_id, &ids.pipeline_id, &written.fold.job_ids(), &written.marks);
        let report_file = place(&dir, vec![(layout::PHASE_REPORT.to_owned(), pretty(&report))]);
        errors.note(ballast.write(&report_file, Durability::Sync));

        let mut ended = ended;
        if let Some(error) = errors.get()
            && ended.error.is_none()
        {
            ended.exit_code = exit::FAILURE;
            ended.error = Some(error.to_string());
        }
        let executor =
            ExecutorReceipt { loom_version: facts.loom_version.clone(), jobs: written.fold.job_receipts() };
        let receipt = receipt(&runtime, &ids, &facts, ended, now, executor, &*mask);
        let receipt_file =
            place(&runtime.receipts_dir(), vec![(format!("{}.json", ids.run_id), pretty(&receipt))]);
        let receipt_result = ballast.write(&receipt_file, Durability::Sync);
        if receipt_result.is_ok() {
            let _ = fs::remove_file(runtime.partial_receipt(&ids.run_id));
        }
        errors.note(receipt_result);
        ballast.release();
        hand_over(&facts.repo_root, &lock, &runtime.receipt(&ids.run_id));
        errors.get().map_or(Ok(report), |error| Err(masked(error.to_info())))
    }
}

fn receipt(
    runtime: &RuntimeDir,
    ids: &RunIds,
    facts: &RunFacts,
    ended: Ended,
    now: Timestamp,
    executor_receipt: ExecutorReceipt,
    mask: &dyn Mask,
) -> Redacted<RunReceipt> {
    let dir = runtime.run_dir(&ids.run_id);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let below = |path: &Path| RuntimePath::new(&facts.repo_root, path);
    let receipt = RunReceipt {
        schema_version: Cow::Borrowed(version::V1),
        kind: Cow::Borrowed(version::KIND_RUN_RECEIPT),
        command: facts.command.clone(),
        repo_root: text(&facts.repo_root),
        workflow_path: text(&facts.workflow_path),
        started_at: facts.started_at,
        finished_at: now,
        duration_ms: now.millis_since(facts.started_at),
        status: RunStatus::of_exit_code(ended.exit_code),
        exit_code: ended.exit_code,
        error: ended.error,
        logs_dir: below(&dir),
        events_jsonl_path: below(&dir.join(layout::RUN_EVENTS)),
        phase_report_path: below(&dir.join(layout::PHASE_REPORT)),
        snapshot_path: ended.snapshot_path.as_deref().map(text),
        snapshot_head_sha: ended.snapshot_head_sha,
        graph_ir: ended.graph_ir,
        cache_diff_path: None,
        executor_receipt,
    };
    Redacted::new(receipt, mask)
}

/// Gives the record of a run as root to whom the repository belongs, who may want to remove it.
fn hand_over(repo_root: &Path, run_dir: &fs::File, receipt: &Path) {
    let Some(owner) = other_owner(repo_root) else { return };
    let given = folders::give_to_owner(repo_root, receipt).and_then(|()| give_tree(run_dir.as_fd(), owner));
    if let Err(error) = given {
        tracing::warn!(%error, "a part of the record stays root's");
    }
}

/// Gives all that is in an open folder, then the folder itself: until then, nobody else can put anything in
/// its way.
fn give_tree(folder: BorrowedFd<'_>, (user, group): (Uid, Gid)) -> std::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            give_tree(openat(folder, name, flags, Mode::empty())?.as_fd(), (user, group))?;
        } else {
            chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(fchown(folder, Some(user), Some(group))?)
}

fn make_run_dir(runtime: &RuntimeDir, stamp: u64) -> Result<(RunIds, PathBuf), RecordError> {
    let mut stamp = stamp;
    loop {
        let ids = RunIds::from_stamp(stamp);
        let dir = runtime.run_dir(&ids.run_id);
        match fault("make", &dir).and_then(|()| fs::create_dir(&dir)) {
            Ok(()) => return Ok((ids, dir)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => stamp += 1,
            Err(error) => return Err(RecordError::new("make the folder", dir, error)),
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RecordError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map_err(|e| RecordError::new("start the thread that writes", name, e))
}
