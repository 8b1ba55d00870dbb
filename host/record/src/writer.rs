//! The writer thread: one event after the other, to the streams and documents that it belongs to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use loom_contract::event::{Event, EventBody, EventLine, EventType, Finish, Output, OutputTo, Phase};
use loom_contract::id::{JobId, RunIds};
use loom_contract::layout;
use loom_contract::phase::PhaseCode;
use loom_contract::phase_report::PhaseMark;
use loom_contract::redacted::Redacted;
use loom_contract::time::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::RecordError;
use crate::atomic::{Documents, Durability, make_folder, pretty};
use crate::documents::Fold;
use crate::fault::fault;
use crate::jsonl::{EventStream, lines_of, push_output};

/// The longest that an event is held in memory while others keep coming.
const HOLD: Duration = Duration::from_millis(50);

/// The first failure of any of the threads, for all of them to see.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteFailure(Arc<Mutex<Option<Arc<RecordError>>>>);

impl WriteFailure {
    pub(crate) fn note(&self, result: Result<(), RecordError>) {
        if let Err(error) = result {
            self.0.lock().get_or_insert_with(|| Arc::new(error));
        }
    }

    pub(crate) fn get(&self) -> Option<Arc<RecordError>> {
        self.0.lock().clone()
    }
}

/// A message to the writer thread.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events, and each would cost an allocation more"
)]
pub(crate) enum WriterMessage {
    /// Something happened.
    Event(Redacted<Event>),
    /// An answer is wanted when all messages before are in their files.
    Settle(Sender<()>),
}

/// A message to the thread of the documents that are synced.
#[derive(Debug)]
pub(crate) enum Durable {
    /// Documents to write.
    Write(Documents),
    /// See [`WriterMessage::Settle`].
    Settle(Sender<()>),
}

/// The knowledge of the writer thread when it ends.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) fold: Fold,
    pub(crate) marks: Vec<PhaseMark>,
}

/// The writer thread's state.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    ids: RunIds,
    started_at: Timestamp,
    fold: Fold,
    marks: Vec<PhaseMark>,
    streams: HashMap<String, EventStream>,
    routes: HashMap<Phase, (String, Option<String>)>,
    /// Documents that are synced, on another thread.
    durable: Sender<Durable>,
    errors: WriteFailure,
    ballast: Ballast,
}

impl Writer {
    pub(crate) fn new(
        dir: PathBuf,
        ids: RunIds,
        started_at: Timestamp,
        durable: Sender<Durable>,
        errors: WriteFailure,
        ballast: Ballast,
    ) -> Self {
        Self {
            dir,
            fold: Fold::new(ids.clone()),
            ids,
            started_at,
            marks: Vec::new(),
            streams: HashMap::new(),
            routes: HashMap::new(),
            durable,
            errors,
            ballast,
        }
    }

    /// Writes until the channel closes. Whenever it is empty, what is held goes to the files.
    pub(crate) fn run(mut self, messages: &Receiver<WriterMessage>) -> Written {
        let mut flushed = Instant::now();
        loop {
            let next = match messages.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    flushed = Instant::now();
                    match messages.recv() {
                        Ok(next) => next,
                        Err(RecvError) => break,
                    }
                }
            };
            match next {
                WriterMessage::Event(event) => self.write(event),
                WriterMessage::Settle(answer) => {
                    self.flush();
                    // Answered by the thread of the documents, after those that were sent before.
                    let _ = self.durable.send(Durable::Settle(answer));
                }
            }
            if flushed.elapsed() >= HOLD {
                self.flush();
                flushed = Instant::now();
            }
        }
        self.flush();
        Written { fold: self.fold, marks: self.marks }
    }

    fn write(&mut self, event: Redacted<Event>) {
        let Event { at, body } = event.into_inner();
        match body {
            EventBody::Planned(roster) => self.fold.planned(&roster),
            EventBody::PhaseStart(phase) => {
                if !matches!(phase, Phase::Section(..)) {
                    self.marks.push(PhaseMark { phase: phase.clone(), finish: None });
                }
                if let Phase::Job(job_id, PhaseCode::JobExecution) = &phase {
                    self.fold.execution_started(job_id);
                }
                let mut line = self.line(EventType::PhaseStart, &phase, at);
                self.push(&phase, &mut line);
                if phase == Phase::Run(PhaseCode::RunFinalize) {
                    let summary = self.fold.run_summary(self.started_at, at);
                    self.document(layout::RUN_SUMMARY, &summary);
                }
            }
            EventBody::PhaseFinish(phase, finish) => self.phase_finished(phase, &finish, at),
            EventBody::Message(phase, message) => {
                let mut line = self.line(EventType::Message, &phase, at);
                line.level = Some(message.level);
                line.message = Some(message.message);
                line.data = message.data;
                self.push(&phase, &mut line);
            }
            EventBody::Output(output) => {
                let lines = match output.to {
                    OutputTo::All | OutputTo::Record => self.output(&output, at),
                    OutputTo::Terminal => lines_of(&output),
                };
                // What the terminal has not seen now, it has seen before: it was counted then.
                if output.to != OutputTo::Record
                    && let Phase::Step(job_id, step) = &output.phase
                {
                    self.fold.output(job_id, *step, lines, output.bytes.len());
                }
            }
            EventBody::JobRetry(job_id, end) => {
                let place = layout::job(&job_id);
                self.close_job(&job_id);
                // The report judges the attempt that counts.
                self.marks.retain(|mark| mark.phase.job_id() != Some(&job_id));
                let (attempt, summary, manifest) = self.fold.job_retried(&job_id, &end);
                let moved = set_aside(&self.dir.join(place.folder()), &self.dir.join(attempt.folder()));
                self.errors.note(moved);
                self.durable(&[
                    (attempt.summary(), pretty(&summary)),
                    (attempt.manifest(), pretty(&manifest)),
                ]);
            }
            EventBody::JobFinish(job_id, end) => {
                let place = layout::job(&job_id);
                self.close_job(&job_id);
                let (summary, manifest) = self.fold.job_finished(&job_id, &end);
                self.durable(&[(place.summary(), pretty(&summary)), (place.manifest(), pretty(&manifest))]);
            }
        }
    }

    /// Writes `output` to its streams. Returns how many lines it ended.
    fn output(&mut self, output: &Output, at: Timestamp) -> u64 {
        let (own, mirror) = self.route(&output.phase);
        // Taken out, so that two streams can be held at once.
        let mut mirror = mirror.and_then(|path| Some((self.streams.remove(&path)?, path)));
        let mut lines = 0;
        if let Some(own) = self.streams.get_mut(&own) {
            lines = push_output(output, at, own, mirror.as_mut().map(|(stream, _)| stream));
            if own.is_large() {
                self.errors.note(own.flush());
            }
        }
        if let Some((mut stream, path)) = mirror {
            if stream.is_large() {
                self.errors.note(stream.flush());
            }
            self.streams.insert(path, stream);
        }
        lines
    }

    fn phase_finished(&mut self, phase: Phase, finish: &Finish, at: Timestamp) {
        if !matches!(phase, Phase::Section(..)) {
            self.marks.push(PhaseMark { phase: phase.clone(), finish: Some(finish.status) });
        }
        let mut line = self.line(EventType::PhaseFinish, &phase, at);
        line.status = Some(finish.status);
        line.exit_code = finish.exit_code;
        line.signal = finish.signal;
        line.skip_reason = finish.skip_reason;
        line.duration_ms = Some(finish.duration_ms);
        line.metrics = finish.metrics.clone();
        line.error = finish.error.clone();
        self.push(&phase, &mut line);
        match &phase {
            Phase::Step(job_id, step) => {
                let place = layout::job(job_id);
                self.close(&place.step_events(*step));
                let summary = self.fold.step_finished(job_id, *step, finish);
                self.document(&place.step_summary(*step), &summary);
            }
            Phase::Section(job_id, section) => {
                let place = layout::job(job_id);
                self.close(&place.section_events(*section));
                let summary = self.fold.section_finished(job_id, *section, finish);
                self.document(&place.section_summary(*section), &summary);
            }
            Phase::Job(job_id, PhaseCode::JobExecution) => {
                self.close(&layout::job(job_id).execution_events())
            }
            Phase::Run(PhaseCode::PipelineExecute) => {
                let (summary, manifest) = self.fold.pipeline_finished(finish);
                self.durable(&[
                    (layout::PIPELINE_SUMMARY.to_owned(), pretty(&summary)),
                    (layout::PIPELINE_MANIFEST.to_owned(), pretty(&manifest)),
                ]);
            }
            Phase::Run(_) | Phase::Job(..) | Phase::After(..) => {}
        }
        self.routes.remove(&phase);
    }

    fn line(&self, kind: EventType, phase: &Phase, at: Timestamp) -> EventLine {
        EventLine { ts: at, ..EventLine::of_phase(kind, phase, &self.ids.run_id, &self.ids.pipeline_id) }
    }

    fn push(&mut self, phase: &Phase, line: &mut EventLine) {
        let (own, mirror) = self.route(phase);
        for path in [Some(own), mirror].into_iter().flatten() {
            if let Some(stream) = self.streams.get_mut(&path) {
                stream.push(line);
            }
        }
    }

    /// The streams of `phase`, opened.
    fn route(&mut self, phase: &Phase) -> (String, Option<String>) {
        if let Some(route) = self.routes.get(phase) {
            return route.clone();
        }
        let route = layout::streams(phase);
        for path in [Some(&route.0), route.1.as_ref()].into_iter().flatten() {
            if !self.streams.contains_key(path) {
                let file = self.dir.join(path);
                let stream = EventStream::create(file.clone()).unwrap_or_else(|error| {
                    self.errors.note(Err(error));
                    EventStream::broken(file)
                });
                self.streams.insert(path.clone(), stream);
            }
        }
        if let Phase::After(job_id, section) = phase {
            self.fold.spoke_after(job_id, *section);
        }
        self.routes.insert(phase.clone(), route.clone());
        route
    }

    fn flush(&mut self) {
        for stream in self.streams.values_mut().filter(|s| s.is_dirty()) {
            self.errors.note(stream.flush());
        }
    }

    /// Closes the streams of a job of which, or of whose attempt, nothing more is said.
    fn close_job(&mut self, job_id: &JobId) {
        let place = layout::job(job_id);
        self.close(&place.events());
        for section in self.fold.sections_with_output(job_id) {
            self.close(&place.section_output(section));
            self.routes.remove(&Phase::After(job_id.clone(), section));
        }
    }

    fn close(&mut self, path: &str) {
        if let Some(mut stream) = self.streams.remove(path) {
            self.errors.note(stream.flush());
        }
    }

    /// Writes a document that the documents which are synced point to.
    fn document(&self, path: &str, document: &impl Serialize) {
        let documents = place(&self.dir, vec![(path.to_owned(), pretty(document))]);
        self.errors.note(self.ballast.write(&documents, Durability::Rename));
    }

    fn durable(&self, files: &[(String, Vec<u8>)]) {
        // The thread outlives this one.
        let _ = self.durable.send(Durable::Write(place(&self.dir, files.to_vec())));
    }
}

/// Moves all that is in `job`, earlier attempts left out, to `attempt`, a folder below it.
fn set_aside(job: &Path, attempt: &Path) -> Result<(), RecordError> {
    make_folder(attempt)?;
    let entries = fault("list", job)
        .and_then(|()| fs_err::read_dir(job))
        .map_err(|e| RecordError::new("read", job, e))?;
    for entry in entries.flatten().filter(|entry| !attempt.starts_with(entry.path())) {
        let to = attempt.join(entry.file_name());
        let moved = fault("rename", &to).and_then(|()| fs_err::rename(entry.path(), &to));
        moved.map_err(|e| RecordError::new("move aside to", to, e))?;
    }
    Ok(())
}

/// Documents of one folder, from paths relative to `dir`.
pub(crate) fn place(dir: &Path, files: Vec<(String, Vec<u8>)>) -> Documents {
    let folder = files.first().and_then(|(path, _)| Path::new(path).parent()).unwrap_or(Path::new(""));
    let folder = dir.join(folder);
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    Documents { folder, files: files.into_iter().map(|(path, bytes)| (name(&path), bytes)).collect() }
}

/// Space on the disk that is given back when it is full, so that the last documents still fit.
#[derive(Debug, Clone)]
pub(crate) struct Ballast(PathBuf);

/// Enough for the documents that close a run.
const BALLAST_BYTES: u64 = 256 * 1024;

impl Ballast {
    /// The space that may have been set aside in `dir`.
    pub(crate) fn at(dir: &Path) -> Self {
        Self(dir.join(layout::BALLAST))
    }

    /// Sets the space aside in `dir`, where the file system can.
    pub(crate) fn set_aside(dir: &Path) -> Self {
        let Self(path) = Self::at(dir);
        if let Ok(file) = fs_err::File::create(&path) {
            let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES);
        }
        Self(path)
    }

    /// Writes `documents`; when the disk is full once more with the ballast gone.
    pub(crate) fn write(&self, documents: &Documents, durability: Durability) -> Result<(), RecordError> {
        match documents.write(durability) {
            Err(error) if error.source.kind() == std::io::ErrorKind::StorageFull => {
                self.release();
                documents.write(durability)
            }
            result => result,
        }
    }

    /// Gives the space back.
    pub(crate) fn release(&self) {
        let _ = fs_err::remove_file(&self.0);
    }
}
