//! How fast a step's output reaches its two files. Run on a memory file system: `TMPDIR=/dev/shm cargo bench -p loom-record`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run reports by panicking")]

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use loom_contract::event::{Event, EventBody, Finish, Output, OutputTo, Phase, PlannedJob, Stream};
use loom_contract::id::{JobId, StepIndex};
use loom_contract::phase::PhaseCode;
use loom_contract::redacted::{Mask, OutputBytes, Redacted};
use loom_contract::status::Status;
use loom_contract::time::Timestamp;
use loom_record::{Ended, Record, RunFacts};

fn main() {
    divan::main();
}

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

/// Chunks as the engine sends them.
const CHUNK: usize = 64 * 1024;
const TOTAL: usize = 256 * 1024 * 1024;

#[divan::bench(args = [40, 80, 4096], sample_count = 3, sample_size = 1)]
fn output(bencher: Bencher<'_, '_>, line: usize) {
    let mut text = "x".repeat(line - 1);
    text.push('\n');
    let chunk: Arc<[u8]> = text.repeat(CHUNK / line).into_bytes().into();
    bencher
        .counter(BytesCount::new(TOTAL))
        .with_inputs(|| tempfile::tempdir().expect("a folder"))
        .bench_values(|dir| {
            record(dir.path(), &chunk);
            dir
        });
}

fn record(repo: &Path, chunk: &Arc<[u8]>) {
    let at = Timestamp::from_unix_nanos(1_772_865_600_000_000_000);
    let job = JobId::new("job").expect("a job id");
    let facts = RunFacts {
        command: Vec::new(),
        loom_version: String::new(),
        repo_root: repo.to_owned(),
        workflow_path: repo.to_owned(),
        started_at: at,
    };
    let record = Record::open(facts, Arc::new(Nothing)).expect("a record");
    let roster = [PlannedJob {
        job_id: job.clone(),
        stage: String::new(),
        provider: String::new(),
        commands: vec![String::new()],
        sources: Vec::new(),
        needs: Vec::new(),
        attempts: 1,
        workspace: repo.to_owned(),
        allow_failure: false,
        matrix: Default::default(),
        definition: None,
    }];
    let write = |body| record.write(&Redacted::new(Event { at, body }, &Nothing)).expect("a written event");
    write(EventBody::Planned(Arc::from(roster)));
    let phases = [Phase::Job(job.clone(), PhaseCode::JobExecution), Phase::Step(job, StepIndex::at(0))];
    phases.iter().for_each(|phase| write(EventBody::PhaseStart(phase.clone())));
    for _ in 0..TOTAL / chunk.len() {
        let output = Output {
            phase: phases[1].clone(),
            stream: Stream::Stdout,
            bytes: OutputBytes::assume_masked(Arc::clone(chunk)),
            open: false,
            to: OutputTo::All,
        };
        write(EventBody::Output(output));
    }
    phases
        .iter()
        .rev()
        .for_each(|phase| write(EventBody::PhaseFinish(phase.clone(), Finish::new(Status::Success))));
    record.finish(Ended::default(), at).expect("a finished record");
}
