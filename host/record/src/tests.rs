//! Failing I/O: whatever call of a record fails, no document is torn and no line is half, the failure is an
//! error that names the path, also in the receipt, and the next record works.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use loom_contract::event::{
    Event, EventBody, Finish, JobFinish, Output, OutputTo, Phase, PlannedJob, Stream,
};
use loom_contract::id::{JobId, StepIndex};
use loom_contract::layout::RuntimeDir;
use loom_contract::phase::PhaseCode;
use loom_contract::receipt::RunReceipt;
use loom_contract::redacted::{Mask, OutputBytes, Redacted};
use loom_contract::status::Status;
use loom_contract::time::Timestamp;
use loom_faults::{Failing, fail_each};
use rustix::io::Errno;

use crate::{Ended, Record, RunFacts, read};

/// The ways in which calls fail here: one of them for want of space, one by itself, and all from one on.
const FAILING: [Failing; 3] =
    [Failing::Once(Errno::NOSPC), Failing::Once(Errno::IO), Failing::FromThenOn(Errno::IO)];

/// A run without secrets.
#[derive(Debug)]
struct Nothing;

impl Mask for Nothing {
    fn is_empty(&self) -> bool {
        true
    }

    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        text.into()
    }

    fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        bytes.into()
    }
}

/// The point up to which a record came, and the error that it ended with.
enum Recorded {
    NotOpened(String),
    Finished(Result<(), String>),
}

/// Records a run of one job that fails once and is tried again.
fn record(repo: &Path) -> Recorded {
    let at = Timestamp::from_unix_nanos(1_772_865_600_000_000_000);
    let job = JobId::new("job").unwrap();
    let facts = RunFacts {
        command: vec!["loom".to_owned()],
        loom_version: "1".to_owned(),
        repo_root: repo.to_owned(),
        workflow_path: repo.join("workflow.yml"),
        started_at: at,
    };
    let record = match Record::open(facts, Arc::new(Nothing)) {
        Ok(record) => record,
        Err(error) => return Recorded::NotOpened(error.to_info().message),
    };
    let mut failed = None;
    let mut write = |body| {
        let written = record.write(&Redacted::new(Event { at, body }, &Nothing));
        failed = failed.take().or(written.err());
    };
    let roster = [PlannedJob {
        job_id: job.clone(),
        stage: "stage".to_owned(),
        provider: "host".to_owned(),
        commands: vec!["true".to_owned()],
        sources: Vec::new(),
        needs: Vec::new(),
        attempts: 1,
        workspace: repo.to_owned(),
        allow_failure: false,
        matrix: Default::default(),
        definition: None,
    }];
    write(EventBody::Planned(Arc::from(roster)));
    let run = [Phase::Run(PhaseCode::RunPipelineExecute), Phase::Run(PhaseCode::PipelineExecute)];
    run.iter().for_each(|phase| write(EventBody::PhaseStart(phase.clone())));
    for status in [Status::Failed, Status::Success] {
        let phases =
            [Phase::Job(job.clone(), PhaseCode::JobExecution), Phase::Step(job.clone(), StepIndex::at(0))];
        phases.iter().for_each(|phase| write(EventBody::PhaseStart(phase.clone())));
        write(EventBody::Output(Output {
            phase: phases[1].clone(),
            stream: Stream::Stdout,
            bytes: OutputBytes::assume_masked(Arc::from(&b"one line\nand another\n"[..])),
            open: false,
            to: OutputTo::All,
        }));
        phases
            .iter()
            .rev()
            .for_each(|phase| write(EventBody::PhaseFinish(phase.clone(), Finish::new(status))));
        let end = JobFinish {
            status,
            exit_code: Some(0),
            error: None,
            skip_reason: None,
            reused_from: None,
            plugins: Vec::new(),
            artifacts: None,
            image_digest: None,
            started_at: Some(at),
            duration_ms: 1,
        };
        write(match status {
            Status::Failed => EventBody::JobRetry(job.clone(), end),
            _ => EventBody::JobFinish(job.clone(), end),
        });
    }
    run.iter()
        .rev()
        .for_each(|phase| write(EventBody::PhaseFinish(phase.clone(), Finish::new(Status::Success))));
    write(EventBody::PhaseStart(Phase::Run(PhaseCode::RunFinalize)));
    write(EventBody::PhaseFinish(Phase::Run(PhaseCode::RunFinalize), Finish::new(Status::Success)));
    let finished = record.finish(Ended::default(), at);
    let finished = finished.map(drop).map_err(|error| error.into_inner().message);
    // What was said on the way is said in the end.
    assert!(failed.is_none_or(|failed| finished.as_ref() == Err(&failed.message)));
    Recorded::Finished(finished)
}

/// The files below a folder, by their paths there.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut folders } else { &mut found }.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_record_of_which_a_call_fails_says_so_and_tears_nothing() {
    for failing in FAILING {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path();
        assert!(matches!(record(repo), Recorded::Finished(Ok(()))));
        let whole: Vec<PathBuf> = files(&repo.join(".loom"));
        assert!(whole.len() > 15, "{whole:#?}");
        fs::remove_dir_all(repo.join(".loom")).unwrap();
        let calls = fail_each(repo, failing, |fault| {
            let recorded = fault.during(|| record(repo));
            let there = files(&repo.join(".loom"));
            for path in &there {
                let text = fs::read(path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(!name.ends_with(".tmp"), "{} {:?}", path.display(), fault.hit());
                if name.ends_with(".jsonl") {
                    assert!(text.is_empty() || text.ends_with(b"\n"), "{} {:?}", path.display(), fault.hit());
                    read::events(path).unwrap();
                } else if name != ".gitignore" {
                    let document = serde_json::from_slice::<serde_json::Value>(&text);
                    assert!(document.is_ok(), "{} {:?}", path.display(), fault.hit());
                }
            }
            let receipts = RuntimeDir::of_repo(repo).receipts_dir();
            let receipt = files(&receipts).pop();
            let receipt = receipt.map(|path| read::document::<RunReceipt>(&path).unwrap());
            match recorded {
                Recorded::Finished(Ok(())) => {
                    // Space that was set aside may have made up for it.
                    assert!(
                        fault.hit().is_none() || failing == Failing::Once(Errno::NOSPC),
                        "{:?}",
                        fault.hit()
                    );
                    assert_eq!(there, whole, "{:?}", fault.hit());
                    assert_eq!(receipt.unwrap().exit_code, 0);
                }
                Recorded::Finished(Err(error)) => {
                    assert!(error.contains(repo.to_str().unwrap()), "{error}");
                    let receipt = receipt.unwrap_or_else(|| panic!("no receipt: {:?}", fault.hit()));
                    assert_ne!(receipt.exit_code, 0, "{:?}", fault.hit());
                }
                Recorded::NotOpened(error) => {
                    assert!(error.contains(repo.to_str().unwrap()), "{error}");
                    let left = fs::read_dir(repo.join(".loom/.runtime/logs")).into_iter().flatten().count();
                    assert_eq!(left, 0, "{:?}", fault.hit());
                }
            }
            assert!(matches!(record(repo), Recorded::Finished(Ok(()))), "{:?}", fault.hit());
            fs::remove_dir_all(repo.join(".loom")).unwrap();
        });
        assert!(calls > 40, "{calls}");
    }
}
