//! `loom shell`: the user's own shell where a job runs.
//!
//! It is a run of one job, whose steps are the shell, and of which nothing is recorded: what is printed is on the user's
//! terminal, and what is written is in the workspace.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::{Event, EventBody, Level, Phase};
use loom_contract::exit;
use loom_contract::id::{JobId, RunIds};
use loom_contract::redacted::Redacted;
use loom_contract::section::Section;
use loom_contract::status::Status;
use loom_contract::visible::on_one_line;
use loom_engine::cancel;
use loom_engine::clock::Clock;
use loom_engine::guard::Guard;
use loom_engine::redact::Redactor;
use loom_engine::{Prepared, Settings, process, secrets};
use loom_plugin_host::Runtime;
use loom_workflow::{Plan, PlanJob};

use super::bootstrap::{Start, load_plan, load_providers, load_resolvers, refuse, refuse_unsupported};
use super::copy::{self, HeldSlot};
use super::selection::{Jobs, Wanted, position};
use super::traces::{self, Folders};
use super::{Mode, Place, control, internal, listen, runtime};
use crate::args;
use crate::command::named::{Kind, unknown};
use crate::command::source::Source;
use crate::command::{Done, effective, kept};
use crate::config::Flags;
use crate::plugins::{self, Environment};
use crate::terminal::{self, Terminal};
use crate::text::{Style, Text};
use crate::{failure, settings};

/// What a shell is called that is no job's.
const NO_JOB: &str = "shell";

pub(in crate::command) fn shell(args: &args::Shell, terminal: Terminal) -> Done {
    let clock = Clock::start();
    let redactor = Redactor::default();
    terminal::mask_log(&redactor);
    open(args, terminal, clock, &redactor).map_err(|error| Redacted::new(error, &redactor).into_inner())
}

fn open(args: &args::Shell, terminal: Terminal, clock: Clock, redactor: &Redactor) -> Done {
    let source = Source::find(&args.workflow)?;
    let mut plan = load_plan(&source, terminal)?;
    let at = choose(&mut plan, args.job.as_deref())?;
    let after = args.at.map_or(Ok(0), |step| position(&plan.jobs[at], step))?;
    let config = effective(&source.repo_root, Flags::default())?;
    let folders = Folders::open(&config, &source.repo_root)?;
    traces::clean_after_the_dead(&source.repo_root, &folders.runs);

    let runtime = runtime::start()?;
    let environment: Environment = settings::environment().into();
    let hidden = config.unlocking_variables();
    secrets::mask_variables(redactor, &environment, &hidden);
    let ids = RunIds::from_stamp(clock.started_at().unix_nanos());
    let place = Place::make(folders, &ids.run_id, &source.repo_root)?;
    let secrets_dir = traces::secrets_dir(&ids.run_id, Some(&place.ledger));
    process::become_subreaper().map_err(|e| internal("become the parent of orphaned processes", &e))?;
    let guard = Guard::start(&place.ledger.path(), &secrets_dir.path)
        .map_err(|e| internal("start the guard process", &e))?;

    let (canceller, cancel) = cancel::channel();
    let stop_copy = Arc::new(AtomicBool::new(false));
    let wanted = Wanted { jobs: Jobs::All, alone: true, last: None, from_step: None };
    let start = Start {
        source: &source,
        run_id: &ids.run_id,
        wanted: &wanted,
        config: &config,
        environment: &environment,
        redactor,
        cancel: &cancel,
        place: &place,
        stop_copy: &stop_copy,
        mode: Mode::Usual,
        fresh: false,
        quiet: false,
        terminal,
    };
    let job = &plan.jobs[at];
    let opened = loom_engine::Shell {
        program: settings::shell(),
        secrets: args.secrets,
        of_job: args.job.is_some(),
        after,
    };
    let commands = Redacted::new(job.script.clone(), redactor);
    let said = left_out(job, args.secrets);
    let mut slot = None;
    let ended = runtime.block_on(async {
        tokio::spawn(listen(canceller, Arc::clone(&stop_copy)));
        let prepared = prepare(&start, plan, at, args.secrets, &mut slot)?;
        terminal.say(said);
        let settings = Settings {
            ids: ids.clone(),
            clock,
            jobs_at_once: 1,
            fail_fast: false,
            env: settings::environment_of_jobs(&hidden),
            redactor: redactor.clone(),
            secrets_dir,
            mark: place.ledger.mark().word.clone(),
            caches_off: true,
            seen: None,
            control: control(&config, Some(&place.ledger)),
            output_max_bytes: 0,
            staging_dir: place.staging.clone(),
            artifacts_dir: Box::new(|_| Default::default()),
        };
        let on_event = |event: &Redacted<Event>| tell(event, &commands, terminal);
        let ended = loom_engine::shell(settings, cancel.clone(), prepared, at, opened, on_event).await;
        ended.map_err(Redacted::into_inner)
    });
    if let Some(Held { slot, is_new: true }) = &mut slot {
        slot.end(true);
    }
    place.remove(&place.staging);
    guard.done();
    drop((slot, place));
    runtime.shutdown_background();
    match cancel.signal() {
        Some(signal) => {
            terminal.say(format!("loom shell: ended by {}\n", failure::signal_name(signal)));
            Ok(exit::of_signal(signal))
        }
        None => ended,
    }
}

/// The place in `plan` of the job `name`; without, of one that is added, and has what all jobs have.
fn choose(plan: &mut Plan, name: Option<&str>) -> Result<usize, ErrorInfo> {
    let Some(name) = name else {
        let id = JobId::new(NO_JOB).map_err(|error| ErrorInfo::new(code::INTERNAL, error.to_string()))?;
        plan.jobs.push(plan.job_of_all(id));
        return Ok(plan.jobs.len() - 1);
    };
    if let Some(at) = plan.jobs.iter().position(|job| job.id.as_str() == name) {
        return Ok(at);
    }
    let of_matrix: Vec<&str> =
        plan.jobs.iter().filter(|job| job.name == name).map(|job| job.id.as_str()).collect();
    if of_matrix.is_empty() {
        return Err(unknown(Kind::Job, name, plan.jobs.iter().map(|job| job.id.as_str())));
    }
    let message = format!("`{name}` stands for {} jobs, and a shell is in one", of_matrix.len());
    let hint = format!("name one of them: {}", of_matrix.join(", "));
    Err(ErrorInfo::new(code::WORKFLOW_UNREADABLE, message).with_hint(hint))
}

/// What is said of the secrets of `job`.
fn left_out(job: &PlanJob, given: bool) -> Text {
    let names: Vec<&str> = job.secrets.iter().map(|secret| secret.name.as_str()).collect();
    match (names.is_empty(), given) {
        (true, _) => Text::default(),
        (false, true) => {
            Text::from("warning: the shell has the job's secrets, and nothing that it prints is masked\n")
        }
        (false, false) => {
            let names = on_one_line(&names.join(", ")).into_owned();
            Text::from(format!("without the job's secrets ({names}): `--secrets` gives them\n"))
        }
    }
}

/// The slot of the shell.
struct Held {
    slot: HeldSlot,
    /// Whether what is in it is the shell's own copy.
    is_new: bool,
}

/// Loads what the job needs, and finds its workspace.
fn prepare(
    start: &Start<'_>,
    plan: Plan,
    at: usize,
    with_secrets: bool,
    held: &mut Option<Held>,
) -> Result<Prepared, ErrorInfo> {
    let selected: Vec<bool> = (0..plan.jobs.len()).map(|job| job == at).collect();
    refuse_unsupported(&plan, &selected, start.terminal)?;
    plugins::mask_environment(
        plan.jobs.iter().flat_map(|job| &job.secrets),
        start.environment,
        start.redactor,
    );
    let tasks = tokio::runtime::Handle::current();
    let components = start.place.folders.cache_dir.path().join("components");
    let runtime = Runtime::new(Some(components)).map_err(|error| error.to_info())?;
    let resolvers = match with_secrets {
        true => load_resolvers(&plan, &selected, &runtime, start, &tasks)?,
        false => Default::default(),
    };
    let providers = load_providers(&plan, &selected, &runtime, start, &tasks)?;
    let folders = &start.place.folders;
    // In a container is a copy of what the repository is now: what an earlier one has left went with it.
    let left = match plan.jobs[at].image {
        None => copy::of_last_run(folders, &start.source.repo_root)?,
        Some(_) => None,
    };
    let (workspace, words, head_sha, branch, borrowed_objects);
    if let Some(left) = left {
        words = format!("as the run {} has left it", left.run_id);
        *held = Some(Held { slot: left.slot, is_new: false });
        branch = loom_workspace::branch(&start.source.repo_root);
        (workspace, head_sha, borrowed_objects) = (left.workspace, left.head_sha, Vec::new());
    } else {
        if plan.kept_folders().is_some() {
            refuse(&kept::refused(&plan, &start.source.repo_root), code::WF_SCHEMA_V1, start.terminal)?;
        }
        let (snapshot, slot) = copy::make(&start.copy_for(), &plan, None)?;
        *held = Some(Held { slot, is_new: true });
        for warning in &snapshot.warnings {
            let warning = Redacted::new(warning.clone(), start.redactor);
            start.terminal.say(format!("warning: {}\n", warning.as_str()));
        }
        words = "a new copy of the repository".to_owned();
        workspace = snapshot.path().to_owned();
        (head_sha, branch, borrowed_objects) =
            (snapshot.head_sha, snapshot.branch, snapshot.borrowed_objects);
    }
    let shown = Redacted::new(workspace.display().to_string(), start.redactor);
    start.terminal.say(format!("workspace: {} ({words})\n", on_one_line(&shown)));
    Ok(Prepared {
        selected,
        reused: HashMap::new(),
        first_step: None,
        definitions: Vec::new(),
        plan,
        workflow_path: start.source.in_repo(),
        workspace,
        borrowed_objects,
        head_sha,
        branch,
        providers,
        resolvers,
        schemes: &loom_plugin_bundle::SCHEMES,
        cache: None,
    })
}

/// Tells what somebody at the terminal wants to know of a job with these `commands`.
fn tell(event: &Redacted<Event>, commands: &Redacted<Vec<String>>, terminal: Terminal) {
    let mut text = Text::default();
    match &event.body {
        EventBody::Message(_, message) if message.level >= Level::Warn => {
            let word = if message.level == Level::Error { "error: " } else { "warning: " };
            text.styled(Style::Warning, word);
            text.push(&message.message);
            text.push("\n");
        }
        // What pulls say: the others have data.
        EventBody::Message(Phase::Section(_, Section::Provider), message)
            if message.level == Level::Info && message.data.is_none() =>
        {
            text.push(&message.message);
            text.push("\n");
        }
        EventBody::PhaseStart(Phase::Step(_, step)) => {
            let command = commands.get(step.position()).and_then(|command| command.lines().next());
            text.push(&format!("step {}: ", step.number()));
            text.push(&on_one_line(command.unwrap_or_default()));
            text.push("\n");
        }
        EventBody::PhaseFinish(Phase::Step(_, step), finish) if finish.status == Status::Failed => {
            text.styled(Style::Warning, "warning: ");
            text.push(&format!("step {} failed, and the shell is where it did", step.number()));
            if let Some(error) = &finish.error {
                text.push(": ");
                text.push(&on_one_line(&error.message));
            }
            text.push("\n");
        }
        // What takes its time is not to be waited for in the dark.
        EventBody::Output(output) => {
            if let Phase::Section(_, Section::ImageBuild) | Phase::Step(..) = &output.phase {
                let whole = output.bytes.strip_suffix(b"\n").unwrap_or(&output.bytes);
                for line in whole.split(|byte| *byte == b'\n') {
                    text.output(line);
                    text.push("\n");
                }
            }
        }
        _ => return,
    }
    terminal.say(text);
}
