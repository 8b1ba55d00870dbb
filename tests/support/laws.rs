use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;
use loom_contract::event::{EventLine, EventType};
use loom_contract::id::JobId;
use loom_contract::layout;
use loom_contract::manifest::{JobManifest, PipelineManifest};
use loom_contract::phase_report::PhaseReport;
use loom_contract::receipt::RunReceipt;
use loom_contract::schema::{self, Format};
use loom_contract::status::{RunStatus, SkipReason, Status};
use loom_contract::summary::{JobSummary, PipelineSummary, RunSummary, StepSummary};
use loom_record::read;
use serde::de::DeserializeOwned;

/// What a run left on disk.
#[derive(Debug)]
pub struct Run {
    /// The receipt.
    pub receipt: RunReceipt,
    /// The receipt's path.
    pub receipt_path: PathBuf,
    /// The log folder.
    pub dir: PathBuf,
}

impl Run {
    /// Opens the run of the receipt at `receipt`.
    pub fn open(receipt: &Path) -> Self {
        let value: RunReceipt = document(receipt);
        Self { dir: layout::logs_of_receipt(receipt), receipt: value, receipt_path: receipt.to_owned() }
    }

    /// The run's id, as readers take it: the last component of `logs_dir`.
    pub fn run_id(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// A document of the log folder.
    pub fn document<T: DeserializeOwned>(&self, path: &str) -> T {
        document(&self.dir.join(path))
    }

    /// The events of a stream of the log folder.
    pub fn events(&self, path: &str) -> Vec<EventLine> {
        read::events(&self.dir.join(path)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The pipeline's manifest.
    pub fn pipeline(&self) -> PipelineManifest {
        self.document(layout::PIPELINE_MANIFEST)
    }

    /// A job's manifest.
    pub fn job(&self, job: &str) -> JobManifest {
        self.document(&layout::job(&JobId::new(job).unwrap()).manifest())
    }

    /// Each job's status, by name.
    pub fn statuses(&self) -> BTreeMap<String, String> {
        self.pipeline().jobs.iter().map(|job| (job.job_id.to_string(), job.status.to_string())).collect()
    }

    /// The lines that step `step` (`01`) of `job` wrote to both streams, pieces of split lines as they stand.
    pub fn output(&self, job: &str, step: &str) -> Vec<String> {
        let events = self.events(&format!("jobs/{job}/user/execution/script/{step}/events.jsonl"));
        events.into_iter().filter_map(|event| event.line).collect()
    }

    /// Three reads: receipt, pipeline manifest, job manifest; returns the path that they lead to.
    pub fn diagnose(&self) -> PathBuf {
        let receipt: RunReceipt = document(&self.receipt_path);
        let dir = PathBuf::from(receipt.logs_dir.to_string());
        let pipeline: PipelineManifest = document(&dir.join(layout::PIPELINE_MANIFEST));
        let job: JobManifest =
            document(&dir.join(pipeline.failing_job_manifest_path.expect("a failing job")));
        let path = job.failing_step_events_path.unwrap_or_else(|| {
            let section = job.failing_section.expect("a failing step or section");
            let entry = job.system_sections.into_iter().find(|entry| entry.section == section);
            entry.expect("the failing section is in the roster").events_path
        });
        dir.join(path)
    }

    /// Holds the run to the laws of the contract.
    pub fn keeps_the_laws(&self, exit_code: i32) {
        self.documents_match_their_schemas();
        self.streams_are_whole();
        self.exit_codes_agree(exit_code);
        self.pointers_resolve();
        self.artifacts_are_there();
        self.mirrors_agree();
        self.nothing_temporary_is_left();
        self.no_process_is_left();
    }

    fn exit_codes_agree(&self, exit_code: i32) {
        let summary: RunSummary = self.document(layout::RUN_SUMMARY);
        let pipeline: PipelineSummary = self.document(layout::PIPELINE_SUMMARY);
        let codes = [self.receipt.exit_code, summary.exit_code, pipeline.exit_code];
        assert_eq!(codes, [exit_code; 3], "receipt, summary and pipeline summary agree with the process");
        let status = RunStatus::of_exit_code(exit_code);
        assert_eq!([self.receipt.status, summary.status, pipeline.status], [status; 3]);
        let report: PhaseReport = self.document(layout::PHASE_REPORT);
        assert!(report.valid, "the phase report is valid: {report:#?}");
        let jobs = pipeline.jobs;
        assert_eq!(jobs.total, jobs.success + jobs.failed + jobs.skipped + jobs.cancelled);
        assert_eq!(jobs.total, self.pipeline().jobs.len());
    }

    fn pointers_resolve(&self) {
        let resolves = |path: &str| {
            assert!(self.dir.join(path).is_file(), "`{path}` points to nothing");
            assert!(!path.starts_with('/') && !path.contains(".."), "`{path}` is relative to the run");
        };
        let summary: RunSummary = self.document(layout::RUN_SUMMARY);
        for path in
            [&summary.phase_report_path, &summary.pipeline_summary_path, &summary.pipeline_manifest_path]
        {
            resolves(path);
        }
        let receipt = &self.receipt;
        assert!(
            receipt.logs_dir.to_string().ends_with(&format!("/{}", self.run_id())),
            "{}",
            receipt.logs_dir
        );
        let logs_dir = receipt.logs_dir.to_string();
        assert!(Path::new(&logs_dir).is_absolute(), "{logs_dir}");
        for path in [&receipt.events_jsonl_path, &receipt.phase_report_path] {
            let path = path.to_string();
            // The run may have known its folder by another name.
            let below = Path::new(&path).strip_prefix(&logs_dir);
            assert!(below.is_ok_and(|below| self.dir.join(below).is_file()), "`{path}` points to nothing");
        }
        let pipeline = self.pipeline();
        let first_failed = pipeline.jobs.iter().any(|job| job.status == Status::Failed && !job.allow_failure);
        assert_eq!(pipeline.failing_job_id.is_some(), first_failed, "a failed job is named");
        for job in &pipeline.jobs {
            resolves(&job.summary_path);
            resolves(&job.manifest_path);
            let job_summary: JobSummary = self.document(&job.summary_path);
            let manifest: JobManifest = self.document(&job.manifest_path);
            assert_eq!((job_summary.status, job_summary.exit_code), (job.status, job.exit_code));
            assert_eq!((manifest.status, manifest.exit_code), (job.status, job.exit_code));
            assert_eq!(job.status == Status::Skipped, manifest.skip_reason.is_some(), "{manifest:#?}");
            let is_reused = manifest.skip_reason == Some(SkipReason::Reused);
            assert_eq!(is_reused, manifest.reused_from.is_some(), "{manifest:#?}");
            let receipt = self.receipt.executor_receipt.jobs.get(&job.job_id);
            for said in [&job_summary.reused_from, &job.reused_from, &receipt.unwrap().reused_from] {
                assert_eq!(*said, manifest.reused_from, "all say the same of {}", job.job_id);
            }
            for attempt in &manifest.attempts {
                resolves(&attempt.summary_path);
                let earlier: JobManifest = self.document(&attempt.manifest_path);
                assert_eq!(earlier.status, Status::Failed);
                earlier
                    .steps
                    .iter()
                    .filter_map(|step| step.events_path.as_ref())
                    .for_each(|path| resolves(path));
                earlier.system_sections.iter().for_each(|section| resolves(&section.events_path));
            }
            for step in &manifest.steps {
                assert_eq!(step.summary_path.is_none(), step.status == Status::Skipped, "{step:?}");
                step.summary_path.iter().chain(&step.events_path).for_each(|path| resolves(path));
            }
            for section in &manifest.system_sections {
                resolves(&section.summary_path);
                resolves(&section.events_path);
                section.output_path.iter().for_each(|path| resolves(path));
            }
            manifest.failing_step_events_path.iter().for_each(|path| resolves(path));
            manifest.execution_events_path.iter().for_each(|path| resolves(path));
            if job.status == Status::Failed {
                assert!(
                    manifest.failing_step.is_some() || manifest.failing_section.is_some(),
                    "{manifest:#?}"
                );
            }
        }
    }

    /// A step's stream and its part of the execution stream say the same, but for the positions.
    fn mirrors_agree(&self) {
        for job in self.pipeline().jobs {
            let manifest: JobManifest = self.document(&job.manifest_path);
            let Some(execution) = &manifest.execution_events_path else { continue };
            let mut mirrored: BTreeMap<String, Vec<EventLine>> = BTreeMap::new();
            for mut event in self.events(execution) {
                event.seq = 0;
                if let Some(step) = event.step {
                    mirrored.entry(step.to_string()).or_default().push(event);
                }
            }
            for step in manifest.steps {
                let (Some(events), Some(summary)) = (step.events_path, step.summary_path) else { continue };
                let mut events = self.events(&events);
                events.iter_mut().for_each(|event| event.seq = 0);
                assert_eq!(
                    Some(&events),
                    mirrored.get(&step.step.to_string()),
                    "step {} of {}",
                    step.step,
                    job.job_id
                );
                let summary: StepSummary = self.document(&summary);
                let lines = events.iter().filter(|e| e.kind == EventType::Output && !e.partial).count();
                // What is not there is counted where it would be.
                let left_out = events.iter().filter_map(|event| event.data.as_ref()?.get("left_out_lines"));
                let left_out: Vec<u64> = left_out.map(|lines| lines.as_u64().unwrap()).collect();
                assert!(left_out.len() <= 1, "it is said once: {left_out:?}");
                assert_eq!(summary.output_lines, lines as u64 + left_out.iter().sum::<u64>());
            }
        }
    }

    fn artifacts_are_there(&self) {
        for entry in self.pipeline().jobs {
            let Some(artifacts) = self.job(entry.job_id.as_str()).artifacts else { continue };
            assert!(self.dir.join(&artifacts.archive_path).is_file(), "{}", artifacts.archive_path);
            assert!(artifacts.count >= artifacts.paths.len() as u64 && artifacts.count > 0);
            for path in &artifacts.paths {
                let there = fs::symlink_metadata(self.dir.join(path)).is_ok();
                assert!(there || path.contains('\u{fffd}'), "`{path}` points to nothing");
            }
        }
    }

    fn streams_are_whole(&self) {
        let validator = validator(Format::Events);
        for path in self.files() {
            let artifact = path.components().any(|part| part.as_os_str() == "artifacts");
            if artifact || path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{} ends with a whole line", path.display());
            let mut open = Vec::new();
            let mut last = None;
            for (index, line) in text.lines().enumerate() {
                let at = format!("{}:{}", path.display(), index + 1);
                let event: EventLine =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{at}: {error}: {line}"));
                // Output is nearly all of it, and the type has just checked it.
                if event.kind != EventType::Output || index < 100 {
                    let value = serde_json::from_str(line).unwrap();
                    assert!(validator.is_valid(&value), "{at}: {:?}", validator.iter_errors(&value).next());
                }
                assert_eq!(event.seq, index as u64 + 1, "{at}: positions have no gap");
                assert!(last <= Some(event.ts), "{at}: time runs backwards");
                last = Some(event.ts);
                match event.kind {
                    EventType::PhaseStart => open.push((event.phase_code, event.step)),
                    EventType::PhaseFinish => {
                        assert_eq!(open.pop(), Some((event.phase_code, event.step)), "{at}: phases nest");
                        assert!(event.status.is_some() && event.duration_ms.is_some(), "{at}");
                    }
                    EventType::Output | EventType::Message => {
                        let is_after = path.ends_with("system/services/output.jsonl");
                        assert!(!open.is_empty() || is_after, "{at}: nothing is said outside a phase");
                    }
                }
            }
            assert!(open.is_empty(), "{}: {open:?} never finished", path.display());
        }
    }

    fn documents_match_their_schemas(&self) {
        let mut seen = 0;
        for path in self.files() {
            let relative = path.strip_prefix(&self.dir).unwrap().to_string_lossy().into_owned();
            let mut parts: Vec<&str> = relative.split('/').collect();
            if parts.len() > 4 && parts[2] == "attempts" {
                // An earlier attempt is a whole job's record.
                parts.drain(2..4);
            }
            let format = match parts.as_slice() {
                ["summary.json"] => Format::RunSummary,
                ["phase-report.json"] => Format::PhaseReport,
                ["pipeline", "summary.json"] => Format::PipelineSummary,
                ["pipeline", "manifest.json"] => Format::PipelineManifest,
                ["jobs", _, "summary.json"] => Format::JobSummary,
                ["jobs", _, "manifest.json"] => Format::JobManifest,
                ["jobs", _, "user", "execution", "script", _, "summary.json"] => Format::StepSummary,
                ["jobs", _, "system", _, "summary.json"] => Format::SectionSummary,
                // The job's own files.
                ["jobs", _, "artifacts", ..] => continue,
                [.., name] if name.ends_with(".jsonl") => continue,
                _ => panic!("`{relative}` is no file of the contract"),
            };
            matches_schema(&path, format);
            seen += 1;
        }
        assert!(seen >= 4, "the documents of a run are there");
        matches_schema(&self.receipt_path, Format::Receipt);
    }

    fn nothing_temporary_is_left(&self) {
        let partial = format!("{}{}", self.receipt_path.display(), layout::PARTIAL_SUFFIX);
        assert!(!Path::new(&partial).exists(), "the partial receipt is gone");
    }

    fn no_process_is_left(&self) {
        let mark = format!("LOOM_PROCESS_OF={}/", self.run_id());
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let environ = fs::read(process.path().join("environ")).unwrap_or_default();
            let marked = environ.split(|b| *b == 0).any(|variable| variable.starts_with(mark.as_bytes()));
            assert!(!marked, "process {} outlives its run", process.path().display());
        }
    }

    /// All files of the log folder.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![self.dir.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                } else {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        files
    }
}

fn document<T: DeserializeOwned>(path: &Path) -> T {
    read::document(path).unwrap_or_else(|error| panic!("{error}"))
}

fn validator(format: Format) -> jsonschema::Validator {
    jsonschema::draft202012::new(schema::of(format).as_value()).unwrap()
}

fn matches_schema(path: &Path, format: Format) {
    let value: serde_json::Value = document(path);
    let validator = validator(format);
    if let Some(error) = validator.iter_errors(&value).next() {
        panic!("{}: {error}", path.display());
    }
}
